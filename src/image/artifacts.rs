//! Artifacts: what is pushed to this store and is no image. They have a list of
//! their own, `artifacts.json`, in the form of the layout's index, so that what
//! runs, lists and converts images never meets them.
//!
//! Source: OCI image-spec `manifest.md`, "Guidelines for Artifact Usage".

use super::manifest::{Descriptor, Document, MANIFEST_MAX, Manifest, parse_any};
use super::store::{Entry, ImageStore};
use crate::error::{Context, Error, Result};
use crate::types::digest::Digest;
use serde_json::{Map, Value};

pub(super) const LIST: &str = "artifacts.json";

impl ImageStore {
    /// All artifacts; none where there never was one.
    pub(crate) fn artifacts(&self) -> Result<Vec<Entry>> {
        Ok(self.index(LIST)?.manifests.into_iter().map(Entry).collect())
    }

    /// Changes images and artifacts under the lock. An error of `change` leaves
    /// both as they were; after a power cut between the two writes a name may be
    /// in both, and is the image's.
    pub(crate) fn update_with_artifacts<T>(
        &self,
        change: impl FnOnce(&mut Vec<Entry>, &mut Vec<Entry>) -> Result<T>,
    ) -> Result<T> {
        self.update(|entries| {
            let mut index = self.index(LIST)?;
            let before = index.manifests.clone();
            let mut artifacts: Vec<Entry> =
                std::mem::take(&mut index.manifests).into_iter().map(Entry).collect();
            let value = change(entries, &mut artifacts)?;
            index.manifests = artifacts.into_iter().map(|entry| entry.0).collect();
            if index.manifests != before {
                self.write(LIST, &index)?;
            }
            Ok(value)
        })
    }

    /// The manifest of an artifact.
    ///
    /// # Errors
    /// Where it is not here, or damaged.
    pub(crate) fn artifact(&self, entry: &Entry) -> Result<Manifest> {
        let digest = entry.manifest_digest();
        let bytes = self.blobs().document(&digest, MANIFEST_MAX)?;
        match parse_any(&bytes, None).context(|| format!("manifest {digest}"))? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(Error::invalid(format!("{digest} is an index, not an artifact"))),
        }
    }
}

/// What a manifest or an index says that it belongs to; `other` are the fields
/// that are not known by name.
pub(crate) fn subject(other: &Map<String, Value>) -> Option<Digest> {
    Digest::parse(other.get("subject")?.get("digest")?.as_str()?).ok()
}

impl Manifest {
    /// What kind of artifact it is: image-spec `manifest.md`, "artifactType".
    pub(crate) fn artifact_type(&self) -> &str {
        let own = self.other.get("artifactType").and_then(Value::as_str);
        own.filter(|own| !own.is_empty()).unwrap_or(&self.config.media_type)
    }

    /// The blobs of an artifact that a store has: all but those that are kept
    /// elsewhere.
    pub(crate) fn own_blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let layers =
            self.layers.iter().filter(|layer| !super::manifest::is_kept_elsewhere(&layer.media_type));
        std::iter::once(&self.config).chain(layers)
    }
}
