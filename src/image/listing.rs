//! What a list of images shows of each, in one file.
//!
//! `.listing` in the image layout. An image's manifest and config never change
//! under their digests, so what was read of them once holds for as long as both
//! are here; a list of hundreds of images then reads one file instead of two of
//! each, which on a home directory over the network is the difference between
//! an instant and seconds. The file is worth that reading and no more: one that
//! is lost, damaged or of another version counts as empty, and nothing follows
//! where it cannot be written.

use super::blob::Blobs;
use super::remade::note;
use crate::error::BestEffort;
use crate::types::digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Version of the file; others are not read.
const VERSION: u32 = 1;
/// Bytes of a file that is read: those of some ten thousand images.
const FILE_MAX: u64 = 16 << 20;

#[derive(Debug, Deserialize, Serialize)]
struct Document {
    version: u32,
    images: BTreeMap<Digest, Summary>,
}

/// What is shown of the image of one manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Summary {
    /// Digest of the config.
    pub(crate) id: Digest,
    /// As the config has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<String>,
    /// Bytes of all layers, unpacked.
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
}

/// Summaries by the digests of manifests.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    images: BTreeMap<Digest, Summary>,
    /// Whether the file tells of images that are gone.
    stale: bool,
}

impl Listing {
    /// What is known of the images whose manifest and config are both here.
    pub(crate) fn read(blobs: &Blobs) -> Self {
        let known = || -> Option<BTreeMap<Digest, Summary>> {
            let document: Document = note(&file(blobs), FILE_MAX)?;
            (document.version == VERSION).then_some(document.images)
        };
        let mut images = known().unwrap_or_default();
        let all = images.len();
        if all > 0 {
            let here = blobs.names();
            images
                .retain(|manifest, summary| here.contains(manifest.hex()) && here.contains(summary.id.hex()));
        }
        Self { stale: images.len() < all, images }
    }

    pub(crate) fn get(&self, manifest: &Digest) -> Option<&Summary> {
        self.images.get(manifest)
    }

    /// Remembers `news` as well, and nothing of images that are gone.
    pub(crate) fn add(mut self, blobs: &Blobs, news: Vec<(Digest, Summary)>) {
        if news.is_empty() && !self.stale {
            return;
        }
        self.images.extend(news);
        let document = Document { version: VERSION, images: self.images };
        let Ok(bytes) = serde_json::to_vec(&document) else { return };
        // One that a killed process leaves is swept with half written documents.
        let new = blobs.layout().join(format!(".listing.new.{}", std::process::id()));
        if std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, file(blobs))).is_err() {
            std::fs::remove_file(&new).or_ignore();
        }
    }
}

/// Forgets all; for a store without images.
pub(super) fn forget(blobs: &Blobs) {
    std::fs::remove_file(file(blobs)).or_ignore();
}

fn file(blobs: &Blobs) -> PathBuf {
    blobs.layout().join(".listing")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::store::ImageStore;

    #[test]
    fn a_summary_holds_while_the_documents_are_here() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = ImageStore::open(dir.path()).expect("store");
        let ingest = store.ingest().expect("ingest");
        let [manifest, id] = [b"manifest".as_slice(), b"config"].map(|bytes| ingest.put(bytes).expect("put"));
        let blobs = store.blobs();
        assert!(Listing::read(blobs).get(&manifest).is_none());
        let summary = Summary {
            id: id.clone(),
            created: Some("2026-01-01T00:00:00Z".into()),
            size: 7,
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        };
        Listing::default().add(blobs, vec![(manifest.clone(), summary.clone())]);
        assert_eq!(Listing::read(blobs).get(&manifest), Some(&summary));

        let file = dir.path().join(".listing");
        let whole = std::fs::read(&file).expect("the file");
        for damage in [&b"{\"version\":1,"[..], b"{\"version\":2,\"images\":{}}", b""] {
            std::fs::write(&file, damage).expect("damage");
            assert!(Listing::read(blobs).get(&manifest).is_none());
        }
        std::fs::write(&file, whole).expect("as before");
        blobs.remove(&id).expect("removed");
        let left = Listing::read(blobs);
        assert!(left.get(&manifest).is_none(), "its config is gone");
        left.add(blobs, Vec::new());
        assert!(
            !std::fs::read_to_string(&file).expect("the file").contains(id.hex()),
            "and what was known of it"
        );
    }
}
