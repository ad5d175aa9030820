//! The layout's own files made anew, where one is damaged or gone: what images there are
//! is read from the blobs.
//!
//! Of names, those are kept that the rest of a damaged list still has, that others
//! know (containers, the event log), and that a document itself has. An image without one
//! stays, as one that has lost its tag.

use super::artifacts::LIST;
use super::manifest::{
    DOCKER_MANIFEST, Descriptor, Document, Index, MANIFEST_MAX, Manifest, OCI_MANIFEST, parse_any,
};
use super::names;
use super::reach::reach;
use super::store::{CONTAINERD_NAME, Entry, INDEX, ImageStore, MARKER, REF_NAME};
use crate::error::{Error, Result};
use crate::types::digest::Digest;
use crate::types::reference::{Reference, has_domain};
use rustix::fs::FlockOperation;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

/// What is known of images elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Image ids and their names; of two that have one name, the later has it.
    pub(crate) names: Vec<(Digest, Reference)>,
    /// Ids of images that containers use: they come first, and need not be whole.
    pub(crate) used: BTreeSet<Digest>,
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rebuilt {
    pub(crate) images: usize,
    /// Of them.
    pub(crate) named: usize,
    pub(crate) artifacts: usize,
}

/// The documents among the blobs.
#[derive(Default)]
struct Documents {
    indexes: BTreeMap<Digest, (u64, Index)>,
    manifests: BTreeMap<Digest, (u64, Manifest)>,
}

impl ImageStore {
    /// Which of the layout's own files are damaged, and how.
    pub(crate) fn damaged_files(&self) -> Vec<(&'static str, Error)> {
        let mut damaged: Vec<_> =
            [INDEX, LIST].into_iter().filter_map(|name| Some((name, self.index(name).err()?))).collect();
        let marker = self.text(MARKER).map(|text| {
            // Where there is none, the next writer makes it.
            text.is_none_or(|text| {
                let value: Option<Value> = serde_json::from_slice(&text).ok();
                value.is_some_and(|value| value["imageLayoutVersion"].is_string())
            })
        });
        match marker {
            Ok(true) => {}
            Ok(false) => damaged.push((MARKER, Error::invalid("it does not say what the folder is"))),
            Err(error) => damaged.push((MARKER, error)),
        }
        damaged
    }

    /// Makes those files anew that are damaged.
    pub(crate) fn rebuild(&self, known: &Known) -> Result<Rebuilt> {
        let _lock = self.lock(FlockOperation::LockExclusive)?;
        let mut rebuilt = Rebuilt::default();
        let damaged = |name: &str| self.damaged_files().iter().any(|(file, _)| *file == name);
        if damaged(MARKER) {
            self.mark()?;
        }
        let (images, artifacts) = (damaged(INDEX), damaged(LIST));
        if !images && !artifacts {
            return Ok(rebuilt);
        }
        let documents = self.documents()?;
        if images {
            let entries = self.images_among(&documents, known)?;
            rebuilt.images = entries.len();
            rebuilt.named = entries.iter().filter(|entry| entry.name_text().is_some()).count();
            self.write(INDEX, &list(entries))?;
        }
        if artifacts {
            let entries = self.artifacts_among(&documents)?;
            rebuilt.artifacts = entries.len();
            self.write(LIST, &list(entries))?;
        }
        Ok(rebuilt)
    }

    fn documents(&self) -> Result<Documents> {
        let mut documents = Documents::default();
        for (digest, _) in self.blobs().allocations()? {
            let Ok(file) = self.blobs().open(&digest) else { continue };
            let mut first = [0];
            let is_small = file.metadata().is_ok_and(|meta| meta.len() <= MANIFEST_MAX);
            // Most blobs are layers: of them one byte is read.
            if !is_small
                || (&file).read_exact(&mut first).is_err()
                || !matches!(first[0], b'{' | b' ' | b'\n')
            {
                continue;
            }
            let Ok(bytes) = self.blobs().document(&digest, MANIFEST_MAX) else { continue };
            let size = bytes.len() as u64;
            match parse_any(&bytes, None) {
                Ok(Document::Index(index)) => drop(documents.indexes.insert(digest, (size, index))),
                Ok(Document::Manifest(manifest)) => {
                    drop(documents.manifests.insert(digest, (size, manifest)));
                }
                Err(_) => {}
            }
        }
        Ok(documents)
    }

    fn images_among(&self, documents: &Documents, known: &Known) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut covered = BTreeSet::new();
        for entry in self.left_of(INDEX) {
            if self.take(&entry, &mut covered) {
                entries.push(entry);
            }
        }
        let inner: BTreeSet<&Digest> = documents
            .indexes
            .values()
            .flat_map(|(_, index)| &index.manifests)
            .map(|one| &one.digest)
            .collect();
        for (digest, (size, index)) in &documents.indexes {
            // One of our own around a manifest of docker's is made again below.
            let is_wrapper = matches!(index.manifests.as_slice(), [one] if one.media_type == DOCKER_MANIFEST);
            if covered.contains(digest) || inner.contains(digest) || is_wrapper {
                continue;
            }
            let kind = index.media_type.as_deref().unwrap_or(super::manifest::OCI_INDEX);
            let mut entry = Entry(Descriptor::new(kind, digest.clone(), *size));
            if self.take(&entry, &mut covered) {
                name_by(&mut entry, index.other.get("annotations"));
                entries.push(entry);
            }
        }
        let ingest = self.blobs().ingest_locked()?;
        let mut found = Vec::new();
        for (digest, (size, manifest)) in &documents.manifests {
            if covered.contains(digest) || manifest.refuse_artifact().is_err() {
                continue;
            }
            let kind = manifest.media_type.as_deref().unwrap_or(OCI_MANIFEST);
            let Ok(image) = self.read(&Entry(Descriptor::new(kind, digest.clone(), *size)), None) else {
                continue;
            };
            let is_whole = image.manifest.layers.iter().all(|layer| self.blobs().contains(layer));
            if is_whole || known.used.contains(&image.id) {
                let mut entry = Self::entry(&ingest, &image, None)?;
                name_by(&mut entry, manifest.other.get("annotations"));
                found.push(entry);
            }
        }
        let is_used = |entry: &Entry| entry.image_id().is_some_and(|id| known.used.contains(&id));
        found.sort_by_key(|entry| !is_used(entry));
        entries.extend(found);
        let names: BTreeMap<String, (&Digest, &Reference)> =
            known.names.iter().map(|(id, name)| (name.to_string(), (id, name))).collect();
        for (text, (id, name)) in names {
            let is_taken = entries.iter().any(|entry| entry.name_text() == Some(&text));
            let image = entries.iter().find(|entry| entry.image_id().as_ref() == Some(id)).cloned();
            if let (Some(image), false) = (image, is_taken) {
                names::assign(&mut entries, image, Some(name));
            }
        }
        Ok(entries)
    }

    /// Whether all that an entry leads to and that is here can be read; that is covered
    /// then.
    fn take(&self, entry: &Entry, covered: &mut BTreeSet<Digest>) -> bool {
        let Ok(reach) = reach(self, entry) else { return false };
        covered.extend(reach.documents.iter().map(|document| document.digest.clone()));
        true
    }

    fn artifacts_among(&self, documents: &Documents) -> Result<Vec<Entry>> {
        let images = self.entries()?;
        let mut covered = BTreeSet::new();
        for entry in &images {
            self.take(entry, &mut covered);
        }
        let mut entries: Vec<Entry> = self.left_of(LIST);
        entries.retain(|entry| documents.manifests.contains_key(&entry.manifest_digest()));
        covered.extend(entries.iter().map(Entry::manifest_digest));
        for (digest, (size, manifest)) in &documents.manifests {
            let is_whole = manifest.own_blobs().all(|blob| self.blobs().contains(blob));
            if covered.contains(digest) || manifest.refuse_artifact().is_ok() || !is_whole {
                continue;
            }
            let kind = manifest.media_type.as_deref().unwrap_or(OCI_MANIFEST);
            let mut entry = Entry(Descriptor::new(kind, digest.clone(), *size));
            name_by(&mut entry, manifest.other.get("annotations"));
            entries.push(entry);
        }
        Ok(entries)
    }

    /// The entries that can still be read of a damaged list, each once.
    fn left_of(&self, name: &str) -> Vec<Entry> {
        let Some(text) = self.text(name).ok().flatten() else { return Vec::new() };
        let start = br#"{"mediaType":"#;
        let mut entries: Vec<Entry> = Vec::new();
        for at in memchr::memmem::find_iter(&text, start) {
            let mut values = serde_json::Deserializer::from_slice(&text[at..]).into_iter::<Descriptor>();
            let Some(Ok(descriptor)) = values.next() else { continue };
            let entry = Entry(descriptor);
            if self.blobs().path(&entry.0.digest).exists() && !entries.contains(&entry) {
                entries.push(entry);
            }
        }
        entries
    }
}

fn list(entries: Vec<Entry>) -> Index {
    Index { manifests: entries.into_iter().map(|entry| entry.0).collect(), ..Index::default() }
}

/// Gives an entry the name that a document has for itself, where that is a whole one: most
/// have a tag alone.
fn name_by(entry: &mut Entry, annotations: Option<&Value>) {
    let empty = Map::new();
    let annotations = annotations.and_then(Value::as_object).unwrap_or(&empty);
    let text = [CONTAINERD_NAME, REF_NAME].iter().find_map(|key| annotations.get(*key)?.as_str());
    if let Some(name) = text.filter(|text| has_domain(text)).and_then(|text| Reference::parse(text).ok()) {
        entry.set_name(Some(&name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::image::manifest::{DOCKER_CONFIG, DOCKER_LAYER, OCI_CONFIG, OCI_LAYER};
    use crate::types::platform::Platform;
    use serde_json::json;

    struct Place {
        dir: tempfile::TempDir,
        store: ImageStore,
    }

    fn place() -> Place {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = ImageStore::open(dir.path()).expect("store");
        Place { dir, store }
    }

    impl Place {
        fn put(&self, bytes: &[u8]) -> Value {
            let ingest = self.store.ingest().expect("ingest");
            json!({"digest": ingest.put(bytes).expect("put"), "size": bytes.len()})
        }

        /// An image of one layer: its entry as a pull writes it.
        fn image(&self, content: &str, is_docker: bool) -> Entry {
            let (kind, config_kind, layer_kind) = if is_docker {
                (DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_LAYER)
            } else {
                (OCI_MANIFEST, OCI_CONFIG, OCI_LAYER)
            };
            let config = json!({"os": "linux", "architecture": Platform::host().architecture,
                "config": {"Cmd": [content]},
                "rootfs": {"type": "layers", "diff_ids": [Digest::of(content.as_bytes())]}});
            let mut config = self.put(config.to_string().as_bytes());
            config["mediaType"] = config_kind.into();
            let mut layer = self.put(content.as_bytes());
            layer["mediaType"] = layer_kind.into();
            let manifest =
                json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]})
                    .to_string();
            let ingest = self.store.ingest().expect("ingest");
            let digest = ingest.put(manifest.as_bytes()).expect("put");
            let bare = Entry(Descriptor::new(kind, digest, manifest.len() as u64));
            let image = self.store.read(&bare, None).expect("an image");
            ImageStore::entry(&ingest, &image, None).expect("an entry")
        }

        fn add(&self, content: &str, is_docker: bool, name: &str) -> Entry {
            let mut entry = self.image(content, is_docker);
            entry.set_name(Some(&reference(name)));
            let add = |entries: &mut Vec<Entry>| {
                entries.push(entry.clone());
                Ok(())
            };
            self.store.update(add).expect("added");
            entry
        }

        fn names(&self) -> Vec<Option<String>> {
            let entries = self.store.entries().expect("entries");
            entries.iter().map(|entry| entry.name().map(|name| name.familiar())).collect()
        }
    }

    fn reference(name: &str) -> Reference {
        Reference::parse(name).expect("a name")
    }

    #[test]
    fn a_list_that_is_lost_is_made_of_the_blobs() {
        for left in [None, Some(""), Some("\0\0\0"), Some("{\"schemaVersion\":2,\"manif")] {
            let place = place();
            let one = place.add("one", false, "one:1");
            let two = place.add("two", true, "two:1");
            let half = place.add("half", false, "half:1");
            let layer = Digest::of(b"half");
            std::fs::remove_file(place.store.blobs().path(&layer)).expect("removed");
            let index = place.dir.path().join(INDEX);
            match left {
                Some(text) => std::fs::write(&index, text).expect("damaged"),
                None => std::fs::remove_file(&index).expect("removed"),
            }
            let error = place.store.entries().expect_err("damaged");
            assert_eq!(error.kind(), Kind::Invalid, "{error}");
            assert!(error.hints()[0].contains("system check --repair"), "{error}");
            place.store.update(|_| Ok(())).expect_err("nor is it changed");
            assert_eq!(place.store.damaged_files()[0].0, INDEX);
            let id = |entry: &Entry| entry.image_id().expect("an id");
            let known = Known {
                names: vec![
                    (id(&one), reference("old")),
                    (id(&two), reference("two:1")),
                    (id(&half), reference("old")),
                ],
                used: BTreeSet::new(),
            };
            let rebuilt = place.store.rebuild(&known).expect("rebuilt");
            assert_eq!((rebuilt.images, rebuilt.named), (2, 1));
            assert!(place.store.damaged_files().is_empty());
            let entries = place.store.entries().expect("entries");
            for image in [&one, &two] {
                let found = entries.iter().find(|entry| entry.0.digest == image.0.digest).expect("there");
                assert_eq!(found.manifest_digest(), image.manifest_digest());
                place.store.read(found, None).expect("whole");
            }
            // What a container uses is kept as it is, and comes first.
            std::fs::write(&index, "").expect("damaged");
            let used = Known { used: [id(&half)].into(), names: vec![(id(&half), reference("half:1"))] };
            assert_eq!(place.store.rebuild(&used).expect("rebuilt").images, 3);
            assert_eq!(place.names().iter().flatten().collect::<Vec<_>>(), ["half:1"]);
        }
    }

    #[test]
    fn what_is_left_of_a_list_keeps_its_names() {
        let place = place();
        for (content, is_docker) in [("one", false), ("two", true), ("three", false)] {
            place.add(content, is_docker, content);
        }
        let index = place.dir.path().join(INDEX);
        let text = std::fs::read(&index).expect("read");
        std::fs::write(&index, &text[..text.len() - 20]).expect("cut");
        let rebuilt = place.store.rebuild(&Known::default()).expect("rebuilt");
        assert_eq!((rebuilt.images, rebuilt.named), (3, 2));
        let mut names = place.names();
        names.sort();
        assert_eq!(names, [None, Some("one:latest".into()), Some("two:latest".into())]);
    }

    #[test]
    fn artifacts_are_found_again_and_are_no_images() {
        let place = place();
        place.add("one", false, "one");
        let mut config = place.put(b"{}");
        config["mediaType"] = "application/vnd.oci.empty.v1+json".into();
        let mut layer = place.put(b"notes");
        layer["mediaType"] = "text/plain".into();
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": "text/x",
            "config": config, "layers": [layer],
            "annotations": {REF_NAME: "localhost/notes:1"}});
        place.put(manifest.to_string().as_bytes());
        for name in [INDEX, LIST, MARKER] {
            std::fs::write(place.dir.path().join(name), "").expect("emptied");
        }
        let files: Vec<_> = place.store.damaged_files().into_iter().map(|(name, _)| name).collect();
        assert_eq!(files, [INDEX, LIST, MARKER]);
        let rebuilt = place.store.rebuild(&Known::default()).expect("rebuilt");
        assert_eq!(rebuilt, Rebuilt { images: 1, named: 0, artifacts: 1 });
        assert!(place.store.damaged_files().is_empty());
        let artifacts = place.store.artifacts().expect("artifacts");
        assert_eq!(artifacts[0].name_text(), Some("localhost/notes:1"));
    }

    #[test]
    fn a_store_without_blobs_lacks_nothing() {
        let place = place();
        assert!(place.store.damaged_files().is_empty());
        std::fs::remove_file(place.dir.path().join(INDEX)).expect("removed");
        assert!(place.store.entries().expect("empty").is_empty() && place.store.damaged_files().is_empty());
        std::fs::remove_file(place.dir.path().join(MARKER)).expect("removed");
        assert!(!ImageStore::exists(place.dir.path()));
    }
}
