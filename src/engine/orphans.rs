//! Blobs and layers that no image and no container needs: what a process that
//! was killed had published before it gave the image its name.

use super::rmi::InUse;
use crate::error::{Context, Result};
use crate::image::manifest::Manifest;
use crate::image::reach::reach;
use crate::image::store::{Entry, ImageStore};
use crate::storage::layers::LayerStore;
use crate::types::digest::Digest;
use std::collections::BTreeSet;

/// What there is and is needed by nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Orphans {
    pub(crate) blobs: Vec<Digest>,
    /// Chain ids.
    pub(crate) layers: Vec<Digest>,
    /// On the disk, of both and of the beginnings of blobs.
    pub(crate) bytes: u64,
}

/// What the entries and the containers need.
#[derive(Clone, Debug, Default)]
pub(super) struct Needed {
    pub(super) blobs: BTreeSet<Digest>,
    pub(super) layers: BTreeSet<Digest>,
}

impl Needed {
    /// # Errors
    /// Where an entry or an artifact cannot be read: what it needs is not known then.
    pub(super) fn by(store: &ImageStore, entries: &[Entry], used: &InUse) -> Result<Self> {
        let mut needed = Self { blobs: BTreeSet::new(), layers: used.layers.clone() };
        for entry in entries {
            let reach = reach(store, entry)?;
            needed.blobs.insert(entry.0.digest.clone());
            needed.blobs.extend(reach.all().map(|blob| blob.digest.clone()));
            needed
                .blobs
                .extend(reach.others.iter().flat_map(Manifest::own_blobs).map(|blob| blob.digest.clone()));
            for manifest in &reach.manifests {
                // Of an image for another platform the config need not be here.
                if let Ok(config) = store.config_of(manifest) {
                    needed.layers.extend(config.chain_ids());
                }
            }
        }
        for entry in store.artifacts()? {
            let artifact = store.artifact(&entry).context(|| format!("artifact {}", entry.0.digest))?;
            needed.blobs.insert(entry.manifest_digest());
            needed.blobs.extend(artifact.own_blobs().map(|blob| blob.digest.clone()));
        }
        Ok(needed)
    }
}

/// Finds them. The caller holds the layout's lock; where another process has an
/// image on its way in, nothing can be said, and nothing is found.
pub(super) fn find(store: &ImageStore, layers: &LayerStore, needed: &Needed) -> Result<Orphans> {
    let mut orphans = Orphans::default();
    if store.blobs().ingesting() {
        return Ok(orphans);
    }
    orphans.bytes += store.blobs().partial_bytes();
    for (blob, bytes) in store.blobs().allocations()? {
        if !needed.blobs.contains(&blob) {
            orphans.blobs.push(blob);
            orphans.bytes += bytes;
        }
    }
    for layer in layers.list()? {
        if !needed.layers.contains(&layer) {
            orphans.bytes += layers.allocated(&layer)?;
            orphans.layers.push(layer);
        }
    }
    Ok(orphans)
}

/// Removes those of the blobs that nothing needs: what was put there may have been there.
/// Where another process has an image on its way in, they stay for a prune.
pub(super) fn drop_unneeded(store: &ImageStore, blobs: &[&Digest]) -> Result<()> {
    store.update(|entries| {
        let Ok(needed) = Needed::by(store, entries, &InUse::default()) else { return Ok(()) };
        if store.blobs().ingesting() {
            return Ok(());
        }
        let mut unneeded = blobs.iter().filter(|blob| !needed.blobs.contains(blob));
        unneeded.try_for_each(|blob| store.blobs().remove(blob))
    })
}

/// Removes them; the caller still holds the lock.
pub(super) fn remove(store: &ImageStore, layers: &LayerStore, orphans: &Orphans) -> Result<()> {
    for layer in &orphans.layers {
        layers.remove(layer)?;
    }
    store.blobs().forget_partials();
    orphans.blobs.iter().try_for_each(|blob| store.blobs().remove(blob))
}
