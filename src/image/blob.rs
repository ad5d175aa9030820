//! Blobs: written apart, verified while they stream, published by rename.

use super::manifest::Descriptor;
use crate::dirs::create_private;
use crate::error::{BestEffort, Context, Error, Result};
use crate::sys::fault;
use crate::types::digest::{Algorithm, Digest, Hashed};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The blobs of one image layout. Cheap to clone; opens nothing by itself.
#[derive(Clone, Debug)]
pub(crate) struct Blobs {
    layout: PathBuf,
    /// Open already: see [`Blobs::held`].
    held: Arc<HashMap<Digest, File>>,
}

impl Blobs {
    pub(crate) fn new(layout: &Path) -> Self {
        Self { layout: layout.to_owned(), held: Arc::default() }
    }

    /// The same blobs, where those of `digests` are open: they can be read after
    /// they were removed, one reader of each at a time. `None` where they are
    /// more than this process may open.
    ///
    /// # Errors
    /// Where one is not here.
    pub(crate) fn held(&self, digests: impl Iterator<Item = Digest>) -> Result<Option<Self>> {
        let mut held = HashMap::new();
        for digest in digests.collect::<BTreeSet<_>>() {
            match File::open(self.path(&digest)) {
                Err(error) if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => return Ok(None),
                file => held.insert(digest.clone(), opened(file, &digest)?),
            };
        }
        Ok(Some(Self { layout: self.layout.clone(), held: Arc::new(held) }))
    }

    pub(super) fn layout(&self) -> &Path {
        &self.layout
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.layout.join(digest.place())
    }

    /// Whether the blob is here with the size that the descriptor gives. A
    /// power cut may leave a short file, so the size is looked at.
    pub(crate) fn contains(&self, blob: &Descriptor) -> bool {
        std::fs::metadata(self.path(&blob.digest)).is_ok_and(|meta| meta.is_file() && meta.len() == blob.size)
    }

    pub(crate) fn open(&self, digest: &Digest) -> Result<File> {
        let open = || match self.held.get(digest) {
            Some(file) => {
                let mut file = file.try_clone()?;
                file.rewind()?;
                Ok(file)
            }
            None => File::open(self.path(digest)),
        };
        opened(open(), digest)
    }

    /// A small document, whole: at most `limit` bytes, its digest verified.
    pub(crate) fn document(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let mut file = self.open(digest)?;
        let size = file.metadata().context(|| format!("look at blob {digest}"))?.len();
        if size > limit {
            return Err(Error::invalid(format!("blob {digest} has more than {limit} bytes")));
        }
        // One read of what it has: a file that grows meanwhile is a damaged one,
        // as the digest tells. `images` reads two of these for each image.
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        file.read_exact(&mut bytes).context(|| format!("read blob {digest}"))?;
        if !digest.is_of(&bytes) {
            return Err(Error::failed(format!("blob {digest} is damaged"))
                .hint("remove the image and pull or load it again"));
        }
        Ok(bytes)
    }

    /// The blobs there are, each with the bytes that it takes on the disk.
    pub(crate) fn allocations(&self) -> Result<Vec<(Digest, u64)>> {
        let mut all = Vec::new();
        for algorithm in Algorithm::ALL {
            let dir = self.folder(algorithm);
            let entries = match std::fs::read_dir(&dir) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                result => result.context(|| format!("list {}", dir.display()))?,
            };
            let blob = |entry: std::fs::DirEntry| {
                let digest = algorithm.digest(entry.file_name().to_str()?).ok()?;
                let bytes = entry.metadata().ok()?.blocks().saturating_mul(512);
                Some((digest, bytes))
            };
            all.extend(entries.filter_map(|entry| blob(entry.ok()?)));
        }
        Ok(all)
    }

    fn folder(&self, algorithm: Algorithm) -> PathBuf {
        self.layout.join("blobs").join(algorithm.name())
    }

    /// The hex digits of the blobs there are, as their file names say.
    pub(super) fn names(&self) -> HashSet<String> {
        let folders = Algorithm::ALL.into_iter().map(|algorithm| std::fs::read_dir(self.folder(algorithm)));
        folders.flatten().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
    }

    /// The bytes that a blob takes on the disk; none where it is not there.
    pub(crate) fn allocated(&self, digest: &Digest) -> u64 {
        std::fs::metadata(self.path(digest)).map_or(0, |meta| meta.blocks().saturating_mul(512))
    }

    /// The folder of a kind of digest that is rare is made with its first blob.
    pub(super) fn make_room(&self, digest: &Digest) -> Result<()> {
        match digest.algorithm() {
            Algorithm::Sha256 => Ok(()),
            rare @ Algorithm::Sha512 => create_private(&self.folder(rare)),
        }
    }

    /// Removes a blob that nothing refers to; fine where it is gone already.
    pub(crate) fn remove(&self, digest: &Digest) -> Result<()> {
        self.forget_remade(digest);
        fault::step();
        match std::fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result.context(|| format!("remove blob {digest}")),
        }
    }

    /// Whether another process has blobs on their way in. The caller holds the
    /// layout's lock, so that none begins meanwhile.
    pub(crate) fn ingesting(&self) -> bool {
        let Ok(entries) = std::fs::read_dir(self.layout.join(".ingest")) else { return false };
        entries.flatten().any(|entry| {
            open_dir(&entry.path())
                .is_ok_and(|dir| flock(&dir, FlockOperation::NonBlockingLockExclusive).is_err())
        })
    }

    /// Removes documents that a killed process left half written; under the lock.
    fn sweep_documents(&self) {
        let Ok(entries) = std::fs::read_dir(&self.layout) else { return };
        for entry in entries.flatten() {
            if entry.file_name().as_encoded_bytes().windows(5).any(|part| part == b".new.") {
                std::fs::remove_file(entry.path()).or_ignore();
            }
        }
    }

    /// A private place for blobs on their way in. The caller holds the
    /// layout's lock, so that no other sees the place before it is locked.
    pub(super) fn ingest_locked(&self) -> Result<Ingest> {
        let parent = self.layout.join(".ingest");
        fault::point().context(|| "make the ingest place")?;
        create_private(&parent)?;
        self.sweep_documents();
        sweep(&parent);
        let mut random = [0_u8; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .context(|| "get random bytes")?;
        let dir = parent.join(random.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        create_private(&dir)?;
        let lock = open_dir(&dir)?;
        flock(&lock, FlockOperation::LockExclusive).context(|| format!("lock {}", dir.display()))?;
        Ok(Ingest { blobs: self.clone(), dir, next: AtomicU64::new(0), _lock: lock })
    }
}

fn opened(file: std::io::Result<File>, digest: &Digest) -> Result<File> {
    file.context(|| format!("open blob {digest}"))
        .map_err(|error| error.hint("the image is incomplete: pull or load it again"))
}

fn open_dir(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).context(|| format!("open {}", path.display()))
}

/// Removes what killed processes left: places whose lock nobody holds.
fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let abandoned =
            open_dir(&path).is_ok_and(|dir| flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok());
        if abandoned {
            std::fs::remove_dir_all(&path).or_ignore();
        }
    }
}

/// A private directory for blobs that are not verified yet. It is locked while
/// its owner lives, removed when dropped, and swept by the next if its owner
/// was killed. Several threads may write at once.
#[derive(Debug)]
pub(crate) struct Ingest {
    blobs: Blobs,
    dir: PathBuf,
    next: AtomicU64,
    _lock: OwnedFd,
}

impl Ingest {
    /// A new blob of at most `limit` bytes.
    pub(crate) fn writer(&self, limit: u64) -> Result<BlobWriter> {
        let path = self.dir.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        fault::point().context(|| format!("make {}", path.display()))?;
        let file = std::fs::OpenOptions::new()
            .write(true)
            .read(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .context(|| format!("make {}", path.display()))?;
        Ok(BlobWriter { out: Hashed::new(file), path, limit })
    }

    /// A document of our own or a verified one: written, synced, published.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        self.put_as(&digest, bytes)?;
        Ok(digest)
    }

    /// The same, under a digest of these bytes that the caller has.
    pub(crate) fn put_as(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        if std::fs::metadata(self.blobs.path(digest)).is_ok_and(|meta| meta.len() == bytes.len() as u64) {
            return Ok(());
        }
        let mut writer = self.writer(bytes.len() as u64)?;
        writer.write_all(bytes).context(|| format!("write blob {digest}"))?;
        // A torn document would make the image unreadable; a torn layer is
        // found by its digest when it is unpacked, so layers are not synced.
        let sync = fault::point().and_then(|()| writer.out.inner().sync_data());
        sync.context(|| format!("write blob {digest}"))?;
        self.publish(&writer.finish().under(digest)?)
    }

    /// Makes a finished blob visible under its digest.
    pub(crate) fn publish(&self, spooled: &Spooled) -> Result<()> {
        let target = self.blobs.path(&spooled.digest);
        self.blobs.make_room(&spooled.digest)?;
        fault::step();
        std::fs::rename(&spooled.path, &target).context(|| format!("publish blob {}", spooled.digest))
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.dir).or_ignore();
    }
}

/// A blob on its way in, hashed while it is written.
#[derive(Debug)]
pub(crate) struct BlobWriter {
    out: Hashed<File>,
    path: PathBuf,
    limit: u64,
}

impl BlobWriter {
    /// Ends the blob; its digest is now known.
    pub(crate) fn finish(self) -> Spooled {
        let (_, digest, size) = self.out.finish();
        Spooled { path: self.path, digest, size }
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        if self.out.count() + buffer.len() as u64 > self.limit {
            return Err(std::io::Error::other(format!("the blob has more than {} bytes", self.limit)));
        }
        fault::point()?;
        self.out.write(buffer)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// A finished blob that is not visible yet.
#[derive(Clone, Debug)]
pub(crate) struct Spooled {
    pub(crate) path: PathBuf,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl Spooled {
    /// The same blob under the digest that it is promised to have: where that is
    /// of another kind than our own, it is read once more.
    ///
    /// # Errors
    /// `Invalid` where it has another one.
    pub(crate) fn under(mut self, wanted: &Digest) -> Result<Self> {
        if self.digest.algorithm() != wanted.algorithm() {
            let mut hashed = Hashed::with(std::io::sink(), wanted.algorithm());
            std::io::copy(&mut self.open()?, &mut hashed).context(|| format!("read blob {wanted}"))?;
            self.digest = hashed.finish().1;
        }
        if self.digest == *wanted {
            Ok(self)
        } else {
            Err(Error::invalid(format!("blob {wanted} has other content: its digest is {}", self.digest)))
        }
    }

    pub(crate) fn open(&self) -> Result<File> {
        File::open(&self.path).context(|| format!("open {}", self.path.display()))
    }

    /// A small document, whole.
    pub(crate) fn read(&self, limit: u64) -> Result<Vec<u8>> {
        if self.size > limit {
            return Err(Error::invalid(format!("it has more than {limit} bytes")));
        }
        let mut bytes = Vec::new();
        self.open()?.take(limit).read_to_end(&mut bytes).context(|| "read a spooled document")?;
        Ok(bytes)
    }
}

/// Reads from `inner` and copies all that passes into `writer`.
pub(crate) struct Tee<'a, R> {
    pub(crate) inner: R,
    pub(crate) writer: &'a mut BlobWriter,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.writer.write_all(&buffer[..count])?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::manifest::OCI_LAYER;
    use crate::image::store::ImageStore;

    #[test]
    fn a_blob_is_seen_once_it_is_published() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = ImageStore::open(dir.path()).expect("store");
        let ingest = store.ingest().expect("ingest");
        let descriptor = Descriptor::new(OCI_LAYER, Digest::of(b"hello"), 5);
        assert!(ingest.writer(5).expect("writer").write_all(b"hello!").is_err(), "the limit holds");
        let mut writer = ingest.writer(5).expect("writer");
        writer.write_all(b"hello").expect("write");
        assert!(!store.blobs().contains(&descriptor));
        ingest.publish(&writer.finish()).expect("published");
        assert!(store.blobs().contains(&descriptor));
        assert_eq!(store.blobs().document(&descriptor.digest, 5).expect("read"), b"hello");
        assert!(store.blobs().document(&descriptor.digest, 4).is_err());
    }

    #[test]
    fn damage_is_noticed_and_abandoned_places_are_swept() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = ImageStore::open(dir.path()).expect("store");
        let ingest = store.ingest().expect("ingest");
        let digest = ingest.put(b"{}").expect("put");
        std::fs::write(store.blobs().path(&digest), b"[]").expect("damage");
        assert!(store.blobs().document(&digest, 10).is_err());

        let abandoned = dir.path().join(".ingest/dead");
        std::fs::create_dir(&abandoned).expect("mkdir");
        let other = store.ingest().expect("ingest");
        assert!(!abandoned.exists(), "swept");
        assert!(ingest.dir.exists(), "the living one stays");
        let place = other.dir.clone();
        drop(other);
        assert!(!place.exists());
    }
}
