//! The layout folder: `index.json` and its lock.
//!
//! An entry of `index.json` is one name of one image. Its annotations: the
//! full reference as `org.opencontainers.image.ref.name` (what skopeo and umoci
//! look for), and what spares later look-ups a read: the image id and the
//! digest under which the registry served the name.

use super::blob::{Blobs, Ingest};
use super::config::{CONFIG_MAX, ImageConfig};
use super::listing;
use super::manifest::{
    self, DOCKER_MANIFEST, Descriptor, Document, Index, MANIFEST_MAX, Manifest, OCI_INDEX,
};
use crate::dirs::create_private;
use crate::error::{BestEffort, Context, Error, Result};
use crate::sys::fault;
use crate::sys::process::raise_file_limit;
use crate::types::digest::Digest;
use crate::types::platform::Platform;
use crate::types::reference::Reference;
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// image-spec `annotations.md`; the value is a whole reference here.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// What containerd writes, and docker's `load` reads.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// Digest of the image config.
const IMAGE_ID: &str = "dev.coracle.image.id";
/// Digest of what the registry has under the name: of the index, where there is one.
const SOURCE_DIGEST: &str = "dev.coracle.image.source-digest";
/// Digest of the image manifest, where the entry is an index around it.
const MANIFEST: &str = "dev.coracle.image.manifest";
/// What was typed for the name, where that named no registry: with its tag.
const SHORT_NAME: &str = "dev.coracle.image.short-name";

/// When the image was given the name: RFC 3339.
const TAGGED: &str = "dev.coracle.image.tagged";

/// There on a list that `manifest create` made.
pub(crate) const LIST: &str = "dev.coracle.image.list";
/// Names that the image had and has no more, the latest first, between spaces.
const FORMER_NAMES: &str = "dev.coracle.image.former-names";
/// Former names that are kept.
const FORMER_MAX: usize = 50;

/// What makes a folder a layout: image-spec `image-layout.md`.
pub(super) const MARKER: &str = "oci-layout";
pub(super) const INDEX: &str = "index.json";
/// Bytes of `index.json`: some hundred thousand names.
const INDEX_MAX: u64 = 64 << 20;

/// One name of one image, or a nameless image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry(pub(crate) Descriptor);

impl Entry {
    /// `None` where it has no name, or one that is no reference.
    pub(crate) fn name(&self) -> Option<Reference> {
        Reference::parse(self.name_text()?).ok().map(Reference::without_moot_tag)
    }

    pub(crate) fn name_text(&self) -> Option<&str> {
        self.0.annotations.get(REF_NAME).map(String::as_str)
    }

    /// The image id, where coracle wrote the entry; of a list, its digest.
    pub(crate) fn image_id(&self) -> Option<Digest> {
        if self.is_list() { Some(self.0.digest.clone()) } else { self.annotation(IMAGE_ID) }
    }

    /// The digest that the registry serves the name under.
    pub(crate) fn source_digest(&self) -> Digest {
        self.annotation(SOURCE_DIGEST).unwrap_or_else(|| self.manifest_digest())
    }

    /// What a registry has under its name from now on.
    pub(crate) fn set_source_digest(&mut self, digest: &Digest) {
        self.0.annotations.insert(SOURCE_DIGEST.to_owned(), digest.to_string());
    }

    /// Whether it was pulled or pushed, so that the registry has its blobs.
    pub(crate) fn is_from_a_registry(&self) -> bool {
        self.annotation(SOURCE_DIGEST).is_some()
    }

    pub(crate) fn manifest_digest(&self) -> Digest {
        self.annotation(MANIFEST).unwrap_or_else(|| self.0.digest.clone())
    }

    /// Whether it is a list that `manifest create` made.
    pub(crate) fn is_list(&self) -> bool {
        self.0.annotations.contains_key(LIST)
    }

    /// The digest of the list when it was made, by which scripts go on naming it.
    /// `None` where it is none, or was made before this was kept.
    pub(crate) fn list_id(&self) -> Option<Digest> {
        self.annotation(LIST)
    }

    pub(crate) fn set_list_id(&mut self, digest: &Digest) {
        self.0.annotations.insert(LIST.to_owned(), digest.to_string());
    }

    /// The name without a registry that led here through a search or an alias.
    pub(crate) fn short_name(&self) -> Option<&str> {
        self.0.annotations.get(SHORT_NAME).map(String::as_str)
    }

    pub(crate) fn set_short_name(&mut self, short: &str) {
        self.0.annotations.insert(SHORT_NAME.to_owned(), short.to_owned());
    }

    /// Gives it the name; the one that it had is kept among its former ones.
    pub(crate) fn set_name(&mut self, name: Option<&Reference>) {
        // Another name is not what was typed.
        self.0.annotations.remove(SHORT_NAME);
        let before = self.name_text().map(str::to_owned);
        if let Some(before) = before.filter(|before| name.is_none_or(|name| name.to_string() != *before)) {
            self.remember([before]);
        }
        for key in [REF_NAME, CONTAINERD_NAME] {
            match name {
                Some(name) => drop(self.0.annotations.insert(key.to_owned(), name.to_string())),
                None => drop(self.0.annotations.remove(key)),
            }
        }
    }

    /// When its image was given the name: by a pull, a load, a commit or a tag. `None`
    /// where that was before it was kept.
    pub(crate) fn tagged(&self) -> Option<Timestamp> {
        self.0.annotations.get(TAGGED)?.parse().ok()
    }

    pub(crate) fn set_tagged(&mut self, at: Timestamp) {
        self.0.annotations.insert(TAGGED.to_owned(), at.to_string());
    }

    /// The names that its image had, the latest first.
    pub(crate) fn former_names(&self) -> impl Iterator<Item = &str> {
        self.0.annotations.get(FORMER_NAMES).into_iter().flat_map(|names| names.split_whitespace())
    }

    /// Puts names before its former ones.
    pub(crate) fn remember(&mut self, names: impl IntoIterator<Item = String>) {
        let mut all: Vec<String> = names.into_iter().collect();
        all.extend(self.former_names().map(str::to_owned));
        let mut seen = std::collections::HashSet::new();
        all.retain(|name| seen.insert(name.clone()));
        all.truncate(FORMER_MAX);
        if !all.is_empty() {
            self.0.annotations.insert(FORMER_NAMES.to_owned(), all.join(" "));
        }
    }

    fn annotation(&self, key: &str) -> Option<Digest> {
        self.0.annotations.get(key).and_then(|text| Digest::parse(text).ok())
    }
}

/// An image as its documents say it is.
#[derive(Clone, Debug)]
pub(crate) struct StoredImage {
    /// Digest of the config.
    pub(crate) id: Digest,
    pub(crate) manifest_digest: Digest,
    /// Bytes of the manifest document.
    pub(crate) manifest_size: u64,
    pub(crate) manifest: Manifest,
    pub(crate) config: ImageConfig,
}

/// Blobs that stay readable until this is dropped: see [`ImageStore::hold`].
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) blobs: Blobs,
    _pin: Option<File>,
}

/// The image layout of one user.
#[derive(Clone, Debug)]
pub(crate) struct ImageStore {
    dir: PathBuf,
    blobs: Blobs,
}

impl ImageStore {
    /// For readers: touches nothing.
    pub(crate) fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), blobs: Blobs::new(dir) }
    }

    /// Whether anything was ever stored.
    pub(crate) fn exists(dir: &Path) -> bool {
        dir.join(MARKER).exists() || dir.join(INDEX).exists() || !Blobs::new(dir).names().is_empty()
    }

    /// For writers: makes the layout where it is missing.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        create_private(&dir.join("blobs/sha256"))?;
        let store = Self::at(dir);
        if !dir.join(MARKER).exists() {
            // First: where there are blobs, a list that is missing is damage.
            if !dir.join(INDEX).exists() && store.blobs.names().is_empty() {
                store.write(INDEX, &Index::default())?;
            }
            store.mark()?;
        }
        Ok(store)
    }

    /// Writes the file that says what the folder is.
    pub(super) fn mark(&self) -> Result<()> {
        replace(&self.dir.join(MARKER), br#"{"imageLayoutVersion":"1.0.0"}"#)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// A private place for blobs on their way in.
    pub(crate) fn ingest(&self) -> Result<Ingest> {
        let _lock = self.lock(FlockOperation::LockExclusive)?;
        self.blobs.ingest_locked()
    }

    /// All entries; none where there is no store yet.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>> {
        Ok(self.index(INDEX)?.manifests.into_iter().map(Entry).collect())
    }

    /// Changes the entries under the lock; the new index is on disk before
    /// this returns. An error of `change` leaves the old one.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Vec<Entry>) -> Result<T>) -> Result<T> {
        self.update_then(change, |_, value| Ok(value))
    }

    /// The same, and `then` with the new entries, still under the lock: what
    /// is removed there cannot be published again in between.
    pub(crate) fn update_then<T, U>(
        &self,
        change: impl FnOnce(&mut Vec<Entry>) -> Result<T>,
        then: impl FnOnce(&[Entry], T) -> Result<U>,
    ) -> Result<U> {
        let _lock = self.lock(FlockOperation::LockExclusive)?;
        let mut index = self.index(INDEX)?;
        let mut entries: Vec<Entry> = std::mem::take(&mut index.manifests).into_iter().map(Entry).collect();
        let before = entries.clone();
        let value = change(&mut entries)?;
        if entries != before {
            index.manifests = entries.iter().map(|entry| entry.0.clone()).collect();
            self.write(INDEX, &index)?;
        }
        if entries.is_empty() {
            listing::forget(&self.blobs);
        }
        then(&entries, value)
    }

    /// Keeps images and layers from being removed until the file is dropped;
    /// `None` where there is no store. Any number of processes may hold it.
    pub(crate) fn pin(&self) -> Result<Option<File>> {
        if Self::exists(&self.dir) { self.lock(FlockOperation::LockShared).map(Some) } else { Ok(None) }
    }

    /// What can be read of `digests` whatever happens to the store meanwhile:
    /// open blobs, so that nobody waits for the reader. `pin` is that of this
    /// store, under which the digests were found.
    ///
    /// # Errors
    /// Where one is not here.
    pub(crate) fn hold(&self, pin: Option<File>, digests: impl Iterator<Item = Digest>) -> Result<Held> {
        raise_file_limit();
        Ok(match self.blobs.held(digests)? {
            Some(blobs) => Held { blobs, _pin: None },
            // Too many to have open: then none may be removed.
            None => Held { blobs: self.blobs.clone(), _pin: pin },
        })
    }

    /// The entry for an image whose documents are in the store. Docker's
    /// manifests keep their bytes and digest; skopeo only follows entries of
    /// OCI types, so they get an OCI index around them.
    pub(crate) fn entry(ingest: &Ingest, image: &StoredImage, source: Option<&Digest>) -> Result<Entry> {
        let media_type = image.manifest.media_type.as_deref().unwrap_or(manifest::OCI_MANIFEST);
        let mut inner = Descriptor::new(media_type, image.manifest_digest.clone(), image.manifest_size);
        inner.platform = Some(image.config.platform());
        let mut outer = inner.clone();
        if media_type == DOCKER_MANIFEST {
            let index = Index { manifests: vec![inner], ..Index::default() };
            let bytes = serde_json::to_vec(&index).context(|| "write an image index")?;
            outer = Descriptor::new(OCI_INDEX, ingest.put(&bytes)?, bytes.len() as u64);
            outer.annotations.insert(MANIFEST.to_owned(), image.manifest_digest.to_string());
        }
        outer.annotations.insert(IMAGE_ID.to_owned(), image.id.to_string());
        let mut entry = Entry(outer);
        if let Some(source) = source {
            entry.set_source_digest(source);
        }
        Ok(entry)
    }

    /// Reads manifest and config of an entry. Where the entry is an index (of
    /// another tool's making), the manifest for `platform` or for this machine.
    pub(crate) fn read(&self, entry: &Entry, platform: Option<&Platform>) -> Result<StoredImage> {
        let digest = entry.manifest_digest();
        let bytes = self.blobs.document(&digest, MANIFEST_MAX)?;
        match manifest::parse(&bytes, None).context(|| format!("manifest {digest}"))? {
            Document::Manifest(manifest) => self.read_config(digest, bytes.len() as u64, manifest),
            Document::Index(index) => {
                let host = Platform::host();
                let digest = manifest::choose(&index, platform.unwrap_or(&host))?.digest.clone();
                let bytes = self.blobs.document(&digest, MANIFEST_MAX)?;
                match manifest::parse(&bytes, None).context(|| format!("manifest {digest}"))? {
                    Document::Manifest(manifest) => self.read_config(digest, bytes.len() as u64, manifest),
                    Document::Index(_) => {
                        Err(Error::invalid(format!("{digest} is an index inside an index")))
                    }
                }
            }
        }
    }

    /// The manifest of this digest.
    pub(crate) fn read_manifest(&self, digest: &Digest) -> Result<Manifest> {
        let bytes = self.blobs.document(digest, MANIFEST_MAX)?;
        match manifest::parse(&bytes, None).context(|| format!("manifest {digest}"))? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => Err(Error::invalid(format!("{digest} is an index, not a manifest"))),
        }
    }

    /// The config of a manifest.
    pub(crate) fn config_of(&self, manifest: &Manifest) -> Result<ImageConfig> {
        let id = &manifest.config.digest;
        ImageConfig::parse(&self.blobs.document(id, CONFIG_MAX)?)
            .context(|| format!("config {id} of the image"))
    }

    fn read_config(&self, digest: Digest, size: u64, manifest: Manifest) -> Result<StoredImage> {
        let id = manifest.config.digest.clone();
        let config = self.config_of(&manifest)?;
        StoredImage::new(id, digest, size, manifest, config)
    }

    /// One of the layout's lists; empty where it is not there.
    ///
    /// # Errors
    /// `Invalid` where it is damaged, and where it is missing though there are blobs: to
    /// take the store for empty would let a prune remove them all.
    pub(super) fn index(&self, name: &str) -> Result<Index> {
        let path = self.dir.join(name);
        let step = || format!("read {}", path.display());
        let hint = "`coracle system check --repair` makes it anew from the images that are there";
        let Some(bytes) = self.text(name)? else {
            if name == INDEX && !self.blobs.names().is_empty() {
                return Err(Error::invalid("it is gone, but the images are not").context(step()).hint(hint));
            }
            return Ok(Index::default());
        };
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(Error::invalid("the file is empty, as after a power cut").context(step()).hint(hint));
        }
        serde_json::from_slice(&bytes).context(step).map_err(|error| error.hint(hint))
    }

    /// One of the layout's files as it is; `None` where it is not there.
    pub(super) fn text(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.dir.join(name);
        let step = || format!("read {}", path.display());
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            result => result.context(step)?,
        };
        let mut bytes = Vec::new();
        file.take(INDEX_MAX).read_to_end(&mut bytes).context(step)?;
        Ok(Some(bytes))
    }

    /// Writes one of the layout's lists. The caller holds the lock.
    pub(super) fn write(&self, name: &str, index: &Index) -> Result<()> {
        let path = self.dir.join(name);
        let bytes = serde_json::to_vec(index).context(|| format!("write {}", path.display()))?;
        replace(&path, &bytes)
    }

    /// Held until the file is dropped. Not `index.json` itself: that is
    /// replaced, and a lock on the old file would hold nothing.
    pub(super) fn lock(&self, how: FlockOperation) -> Result<File> {
        let path = self.dir.join(".lock");
        let file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .context(|| format!("open {}", path.display()))?;
        flock(&file, how).context(|| format!("lock {}", path.display()))?;
        Ok(file)
    }
}

impl StoredImage {
    /// # Errors
    /// `Invalid` where manifest and config disagree about the layers, and where
    /// these are not named by sha256.
    pub(crate) fn new(
        id: Digest,
        manifest_digest: Digest,
        manifest_size: u64,
        manifest: Manifest,
        config: ImageConfig,
    ) -> Result<Self> {
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(Error::invalid(format!("the image has {layers} layers but {diff_ids} diff ids")));
        }
        if let Some(id) = config.foreign_layer() {
            return Err(Error::invalid(format!("the image's layer {id} is not named by its sha256 digest"))
                .hint("have it built anew: the contents of layers are named by sha256"));
        }
        Ok(Self { id, manifest_digest, manifest_size, manifest, config })
    }

    /// Every blob that the image needs but the manifest itself.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.manifest.config).chain(&self.manifest.layers)
    }
}

/// Writes `bytes` to a temporary file beside `path`, syncs it and renames it.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension(format!("new.{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        fault::point()?;
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        fault::point()?;
        file.write_all(bytes)?;
        fault::point()?;
        file.sync_data()?;
        fault::step();
        std::fs::rename(&temporary, path)
    };
    let written = write().context(|| format!("write {}", path.display()));
    if written.is_err() {
        std::fs::remove_file(&temporary).or_ignore();
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::manifest::OCI_MANIFEST;

    fn entry(n: u8, name: &str) -> Entry {
        let mut entry = Entry(Descriptor::new(OCI_MANIFEST, Digest::of(&[n]), 1));
        entry.set_name(Some(&Reference::parse(name).expect("valid")));
        entry
    }

    #[test]
    fn a_failed_change_leaves_the_old_index() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = ImageStore::open(dir.path()).expect("store");
        assert!(store.entries().expect("empty").is_empty());
        store
            .update(|entries| {
                entries.push(entry(1, "a"));
                Ok(())
            })
            .expect("update");
        let refused = store.update(|entries| {
            entries.clear();
            Err::<(), _>(Error::conflict("no"))
        });
        assert!(refused.is_err());
        let names: Vec<_> = store.entries().expect("entries").iter().filter_map(Entry::name).collect();
        assert_eq!(names, [Reference::parse("a").expect("valid")]);
    }

    #[test]
    fn concurrent_changes_are_all_kept() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = ImageStore::open(dir.path()).expect("store");
        std::thread::scope(|scope| {
            for n in 0..8_u8 {
                let store = &store;
                scope.spawn(move || {
                    for m in 0..5 {
                        let name = format!("image{n}:{m}");
                        store
                            .update(|entries| {
                                entries.push(entry(n, &name));
                                Ok(())
                            })
                            .expect("update");
                    }
                });
            }
        });
        assert_eq!(store.entries().expect("entries").len(), 40);
    }
}
