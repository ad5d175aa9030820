//! OCI layouts, in a tar or as a directory, and skopeo's `dir:`.

use super::{Load, Loaded, Which, check_count};
use crate::error::{Context, Error, Result};
use crate::image::blob::Spooled;
use crate::image::config::{CONFIG_MAX, ImageConfig};
use crate::image::manifest::{self, Descriptor, Document, Index, MANIFEST_MAX, Manifest};
use crate::image::store::{CONTAINERD_NAME, ImageStore, REF_NAME, StoredImage};
use crate::types::digest::Digest;
use crate::types::platform::Platform;
use crate::types::reference::Reference;
use std::collections::BTreeMap;

/// Where the blobs of an image are.
#[derive(Clone, Copy)]
enum Layout {
    /// `blobs/sha256/<hex>`
    Oci,
    /// `<hex>`, and a manifest as `<hex>.manifest.json`: skopeo's `dir:`.
    Flat,
}

impl Load<'_> {
    pub(super) fn oci(&self, bytes: &[u8]) -> Result<Vec<Loaded>> {
        let index: Index = serde_json::from_slice(bytes).context(|| "read index.json of the archive")?;
        check_count(index.manifests.len())?;
        // What skopeo calls the image; else the whole name.
        let words = |entry: &Descriptor| -> Vec<String> {
            [REF_NAME, CONTAINERD_NAME]
                .iter()
                .filter_map(|key| entry.annotations.get(*key).cloned())
                .collect()
        };
        let names: Vec<Vec<String>> = index.manifests.iter().map(words).collect();
        self.choose(&names)?
            .into_iter()
            .map(|at| {
                let entry = &index.manifests[at];
                let mut annotations = entry.annotations.clone();
                // Asked for by that name, it is that name: umoci leaves
                // containerd's as it was in the image that it changed.
                if let Which::Named(wanted) = self.wanted.images
                    && annotations.get(REF_NAME).is_some_and(|name| name == wanted)
                {
                    annotations.remove(CONTAINERD_NAME);
                }
                let names = name_of(&annotations).into_iter().collect();
                let bytes = self.blob(entry, Layout::Oci)?.read(MANIFEST_MAX)?;
                self.image(entry, bytes, names, Layout::Oci)
            })
            .collect()
    }

    /// Skopeo's `dir:`, which has one image and no name for it.
    pub(super) fn directory(&self, bytes: &[u8]) -> Result<Loaded> {
        self.choose(&[Vec::new()])?;
        let entry = Descriptor::new("", Digest::of(bytes), bytes.len() as u64);
        self.image(&entry, bytes.to_vec(), Vec::new(), Layout::Flat)
    }

    /// The image of a manifest, or of the one in an index that is for the platform.
    fn image(
        &self,
        entry: &Descriptor,
        mut bytes: Vec<u8>,
        names: Vec<Reference>,
        layout: Layout,
    ) -> Result<Loaded> {
        let mut entry = entry.clone();
        for _ in 0..2 {
            let served_as = Some(entry.media_type.as_str()).filter(|kind| !kind.is_empty());
            match manifest::parse(&bytes, served_as).context(|| format!("manifest {}", entry.digest))? {
                Document::Index(index) => {
                    let host = Platform::host();
                    entry = manifest::choose(&index, self.wanted.platform.unwrap_or(&host))?.clone();
                    bytes = self.manifest(&entry, layout)?.read(MANIFEST_MAX)?;
                }
                Document::Manifest(manifest) => {
                    return self.take_oci(&entry, &bytes, manifest, names, layout);
                }
            }
        }
        Err(Error::invalid(format!("{} is an index inside an index", entry.digest)))
    }

    fn take_oci(
        &self,
        entry: &Descriptor,
        bytes: &[u8],
        manifest: Manifest,
        names: Vec<Reference>,
        layout: Layout,
    ) -> Result<Loaded> {
        let Self { ingest, store, .. } = self;
        let config = self.blob(&manifest.config, layout)?.read(CONFIG_MAX)?;
        ingest.put_as(&manifest.config.digest, &config)?;
        let config = ImageConfig::parse(&config)?;
        for layer in &manifest.layers {
            if !store.blobs().contains(layer) {
                ingest.publish(&self.blob(layer, layout)?)?;
            }
        }
        ingest.put_as(&entry.digest, bytes)?;
        let id = manifest.config.digest.clone();
        let mut manifest = manifest;
        // The bytes stay; this is what the entry is made from.
        if manifest.media_type.is_none() && manifest::is_manifest(&entry.media_type) {
            manifest.media_type = Some(entry.media_type.clone());
        }
        let image = StoredImage::new(id, entry.digest.clone(), bytes.len() as u64, manifest, config)?;
        let entry = ImageStore::entry(ingest, &image, None)?;
        Ok(Loaded { image, entry, names })
    }

    fn manifest(&self, descriptor: &Descriptor, layout: Layout) -> Result<Spooled> {
        match layout {
            Layout::Oci => self.blob(descriptor, layout),
            Layout::Flat => self.verified(descriptor, &format!("{}.manifest.json", descriptor.digest.hex())),
        }
    }

    /// A blob, verified.
    fn blob(&self, descriptor: &Descriptor, layout: Layout) -> Result<Spooled> {
        match layout {
            Layout::Oci => self.verified(descriptor, &descriptor.digest.place()),
            Layout::Flat => self.verified(descriptor, descriptor.digest.hex()),
        }
    }

    fn verified(&self, descriptor: &Descriptor, name: &str) -> Result<Spooled> {
        let spooled = self.archive.needed(name, self.ingest)?;
        let other = || Error::invalid(format!("blob {} of the archive has other content", descriptor.digest));
        if spooled.size != descriptor.size {
            return Err(other());
        }
        spooled.under(&descriptor.digest).map_err(|_| other())
    }
}

/// containerd's name, else the reference name where it is more than a tag. A
/// word alone (skopeo's `oci-archive:FILE:NAME`) is a local name.
pub(super) fn name_of(annotations: &BTreeMap<String, String>) -> Option<Reference> {
    if let Some(name) = annotations.get(CONTAINERD_NAME) {
        return Reference::parse(name).ok();
    }
    let name = annotations.get(REF_NAME)?;
    let version = name == "latest" || name.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit());
    match name.contains(['/', ':']) {
        true => Reference::parse(name).ok(),
        false if version => None,
        false => Reference::parse(&format!("localhost/{name}")).ok(),
    }
}
