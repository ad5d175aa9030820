//! What layers became when they were compressed anew for a registry: remembered,
//! so that a second push asks the registry before it compresses.
//!
//! `.remade/<hex of the layer>/<compression>-<level>` in the image layout. The
//! bytes are not kept, only their digest and size. Such a file goes with its
//! layer, and is worth a compression and no more: one that is lost or damaged
//! counts as none.

use super::blob::Blobs;
use super::manifest::Descriptor;
use crate::dirs::create_private;
use crate::error::BestEffort;
use crate::types::digest::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Version of the files; others are not read.
const VERSION: u32 = 1;
/// Bytes of a file; a descriptor with annotations has some hundred.
const FILE_MAX: u64 = 64 << 10;

#[derive(Debug, Deserialize, Serialize)]
struct Remade {
    version: u32,
    layer: Descriptor,
}

impl Blobs {
    /// What `layer` became in the form that `form` names, as far as that is known.
    pub(crate) fn remade(&self, layer: &Digest, form: &str) -> Option<Descriptor> {
        let path = self.remade_dir(layer).join(form);
        let remade: Remade = note(&path, FILE_MAX)?;
        (remade.version == VERSION).then_some(remade.layer)
    }

    /// Remembers what `layer` became. Nothing follows where that cannot be written.
    pub(crate) fn remember_remade(&self, layer: &Digest, form: &str, became: &Descriptor) {
        let dir = self.remade_dir(layer);
        let Ok(bytes) = serde_json::to_vec(&Remade { version: VERSION, layer: became.clone() }) else {
            return;
        };
        if create_private(&dir).is_ok() {
            std::fs::write(dir.join(form), bytes).or_ignore();
        }
    }

    pub(super) fn forget_remade(&self, layer: &Digest) {
        std::fs::remove_dir_all(self.remade_dir(layer)).or_ignore();
    }

    fn remade_dir(&self, layer: &Digest) -> PathBuf {
        self.layout().join(".remade").join(layer.hex())
    }
}

/// A note of ours in the layout: `None` where it is not there, has more than
/// `limit` bytes, or cannot be read.
pub(super) fn note<T: DeserializeOwned>(path: &Path, limit: u64) -> Option<T> {
    if std::fs::metadata(path).ok()?.len() > limit {
        return None;
    }
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::manifest::OCI_LAYER_GZIP;
    use crate::image::store::ImageStore;

    #[test]
    fn what_a_layer_became_is_known_until_the_layer_goes() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = ImageStore::open(dir.path()).expect("store");
        let layer = store.ingest().expect("ingest").put(b"layer").expect("put");
        let became = Descriptor::new(OCI_LAYER_GZIP, Digest::of(b"gzip"), 4);
        let blobs = store.blobs();
        assert_eq!(blobs.remade(&layer, "gzip-6"), None);
        blobs.remember_remade(&layer, "gzip-6", &became);
        assert_eq!(blobs.remade(&layer, "gzip-6"), Some(became));
        assert_eq!(blobs.remade(&layer, "zstd-3"), None);
        let file = dir.path().join(".remade").join(layer.hex()).join("gzip-6");
        std::fs::write(&file, b"{\"version\":1,").expect("damage");
        assert_eq!(blobs.remade(&layer, "gzip-6"), None);
        blobs.remove(&layer).expect("removed");
        assert!(!file.parent().expect("parent").exists());
    }
}
