//! What an entry of the layout leads to: which blobs are needed for it.

use super::manifest::{self, Descriptor, Document, MANIFEST_MAX, Manifest};
use super::store::{Entry, ImageStore};
use crate::error::{Context, Error, Result};
use std::collections::HashSet;

/// The documents and blobs of an entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach {
    /// Indexes and manifests, the entry's own first.
    pub(crate) documents: Vec<Descriptor>,
    /// The manifests of images that are here.
    pub(crate) manifests: Vec<Manifest>,
    /// Those of what else is in an index: attestations, signatures. Their blobs
    /// are kept where they are here, and nobody misses them.
    pub(crate) others: Vec<Manifest>,
}

/// Indexes within indexes: more are nobody's.
const DEPTH_MAX: u32 = 8;
/// Documents of one entry.
const DOCUMENTS_MAX: usize = 10_000;

impl Reach {
    /// Configs and layers of images.
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
    let mut seen = HashSet::new();
    while let Some((descriptor, depth)) = waiting.pop() {
        if !seen.insert(descriptor.digest.clone()) || seen.len() > DOCUMENTS_MAX {
            continue;
        }
        let read = || -> Result<(u64, Document)> {
            let bytes = store.blobs().document(&descriptor.digest, MANIFEST_MAX)?;
            let document =
                manifest::parse_any(&bytes, None).context(|| format!("manifest {}", descriptor.digest))?;
            Ok((bytes.len() as u64, document))
        };
        match read() {
            Ok((size, document)) => {
                let mut descriptor = descriptor;
                descriptor.size = size;
                reach.documents.push(descriptor);
                match document {
                    Document::Manifest(manifest) => match manifest.refuse_artifact() {
                        Ok(()) => reach.manifests.push(manifest),
                        Err(error) if depth == 0 => return Err(error),
                        Err(error) => {
                            // A list may be of nothing else.
                            if !entry.is_list() {
                                failure.get_or_insert(error);
                            }
                            reach.others.push(manifest);
                        }
                    },
                    Document::Index(index) if depth < DEPTH_MAX => {
                        waiting.extend(index.manifests.into_iter().rev().map(|entry| (entry, depth + 1)));
                    }
                    Document::Index(_) => {}
                }
            }
            Err(error) if depth == 0 => return Err(error),
            // What cannot be read is kept with its index.
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
