//! What an entry of the layout leads to: which blobs are needed for it.

use super::manifest::{self, Descriptor, Document, MANIFEST_MAX, Manifest};
use super::store::{Entry, ImageStore};
use crate::error::{Context, Error, Result};

/// The documents and blobs of an entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach {
    /// Indexes and manifests, the entry's own first.
    pub(crate) documents: Vec<Descriptor>,
    /// The manifests that are here.
    pub(crate) manifests: Vec<Manifest>,
}

impl Reach {
    /// Configs and layers.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifests.iter().flat_map(|manifest| std::iter::once(&manifest.config).chain(&manifest.layers))
    }

    /// Everything.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Descriptor> {
        self.documents.iter().chain(self.blobs())
    }
}

/// Follows an entry. Of an index, what is not here is passed over: images are
/// pulled for one platform.
///
/// # Errors
/// Where the entry's own document, or every manifest of its index, cannot be read.
pub(crate) fn reach(store: &ImageStore, entry: &Entry) -> Result<Reach> {
    let mut reach = Reach::default();
    let mut failure = None;
    let mut waiting = vec![(entry.0.clone(), 0)];
    while let Some((descriptor, depth)) = waiting.pop() {
        let read = || -> Result<(u64, Document)> {
            let bytes = store.blobs().document(&descriptor.digest, MANIFEST_MAX)?;
            let document =
                manifest::parse(&bytes, None).context(|| format!("manifest {}", descriptor.digest))?;
            Ok((bytes.len() as u64, document))
        };
        match read() {
            Ok((size, document)) => {
                let mut descriptor = descriptor;
                descriptor.size = size;
                reach.documents.push(descriptor);
                match document {
                    Document::Manifest(manifest) => reach.manifests.push(manifest),
                    Document::Index(index) if depth == 0 => {
                        waiting.extend(index.manifests.into_iter().rev().map(|entry| (entry, 1)));
                    }
                    Document::Index(_) => {}
                }
            }
            Err(error) if depth == 0 => return Err(error),
            // An attestation is no image, and is kept with its index.
            Err(error) if store.blobs().path(&descriptor.digest).exists() => {
                reach.documents.push(descriptor);
                failure.get_or_insert(error);
            }
            Err(error) => drop(failure.get_or_insert(error)),
        }
    }
    if reach.manifests.is_empty() {
        let empty = Error::failed("it leads to no manifest that is here");
        return match failure {
            Some(error) => Err(error),
            None if entry.is_list() => Ok(reach),
            None => Err(empty),
        };
    }
    Ok(reach)
}
