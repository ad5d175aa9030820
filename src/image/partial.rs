//! Blobs that may take several processes to arrive.
//!
//! `<layout>/.arriving/<digest>` holds the beginning of a blob, as long as its
//! transfer was cut or its process killed; the next pull goes on from there. The
//! file is locked by whoever fills it, so that two pulls get a blob once.

use super::blob::Blobs;
use super::manifest::Descriptor;
use crate::dirs::create_private;
use crate::error::{BestEffort, Context, Error, Result};
use crate::types::digest::{Digest, Hasher};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

/// What nobody went on with for so long is given up.
const GIVEN_UP: Duration = Duration::from_secs(3 * 24 * 3600);

/// The beginning of a blob, locked.
#[derive(Debug)]
pub(crate) struct Partial {
    file: File,
    path: PathBuf,
    target: PathBuf,
    digest: Digest,
    /// Bytes that are here.
    have: u64,
}

impl Blobs {
    /// Takes over the arrival of a blob, after whoever is at it now; `None`
    /// where it has arrived.
    pub(crate) fn partial(&self, blob: &Descriptor) -> Result<Option<Partial>> {
        let dir = self.partials();
        create_private(&dir)?;
        let path = dir.join(blob.digest.hex());
        let action = || format!("open {}", path.display());
        loop {
            let file = std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .context(action)?;
            flock(&file, FlockOperation::LockExclusive).context(action)?;
            let ours = file.metadata().context(action)?;
            let still_there = std::fs::metadata(&path).is_ok_and(|there| there.ino() == ours.ino());
            if self.contains(blob) {
                if still_there {
                    std::fs::remove_file(&path).or_ignore();
                }
                return Ok(None);
            }
            // Published, or given up, by who had the lock before.
            if !still_there {
                continue;
            }
            let mut have = ours.len();
            if have > blob.size {
                file.set_len(0).context(action)?;
                have = 0;
            }
            self.make_room(&blob.digest)?;
            let digest = blob.digest.clone();
            return Ok(Some(Partial { file, target: self.path(&digest), digest, path, have }));
        }
    }

    /// Removes beginnings that were given up long ago.
    pub(crate) fn sweep_partials(&self) {
        for (path, meta) in self.free_partials() {
            if meta.modified().is_ok_and(|time| time.elapsed().is_ok_and(|age| age > GIVEN_UP)) {
                std::fs::remove_file(path).or_ignore();
            }
        }
    }

    /// Removes all beginnings that nobody goes on with just now.
    pub(crate) fn forget_partials(&self) {
        for (path, _) in self.free_partials() {
            std::fs::remove_file(path).or_ignore();
        }
    }

    /// Bytes on the disk of those.
    pub(crate) fn partial_bytes(&self) -> u64 {
        self.free_partials().iter().map(|(_, meta)| meta.blocks() * 512).sum()
    }

    fn free_partials(&self) -> Vec<(PathBuf, std::fs::Metadata)> {
        let entries = std::fs::read_dir(self.partials()).into_iter().flatten().flatten();
        let free = entries.filter(|entry| File::open(entry.path()).is_ok_and(|file| is_free(&file)));
        free.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?))).collect()
    }
}

fn is_free(file: &File) -> bool {
    flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

impl Partial {
    pub(crate) fn have(&self) -> u64 {
        self.have
    }

    /// Begins anew.
    pub(crate) fn clear(&mut self) -> Result<()> {
        self.have = 0;
        self.file.set_len(0).context(|| format!("empty {}", self.path.display()))
    }

    /// Nobody will go on with it.
    pub(crate) fn discard(self) {
        std::fs::remove_file(&self.path).or_ignore();
    }

    /// All of the blob: what is here, then what `rest` gives, which is kept.
    pub(crate) fn arrive<R: Read>(&mut self, rest: R) -> Arrival<'_, R> {
        Arrival { hasher: self.digest.algorithm().hasher(), partial: self, rest, at: 0, cut: false }
    }

    /// Makes the whole blob visible under its digest.
    fn publish(&self) -> Result<()> {
        std::fs::rename(&self.path, &self.target).context(|| format!("publish {}", self.target.display()))
    }
}

/// A blob that arrives, hashed while it is read.
pub(crate) struct Arrival<'a, R> {
    partial: &'a mut Partial,
    rest: R,
    hasher: Hasher,
    at: u64,
    cut: bool,
}

impl<R> Arrival<'_, R> {
    /// Whether it was the transfer that failed, so that what is here is good.
    pub(crate) fn was_cut(&self) -> bool {
        self.cut
    }

    pub(crate) fn rest(&mut self) -> &mut R {
        &mut self.rest
    }

    /// Ends the blob, checks that it is the one that was promised, publishes it.
    ///
    /// # Errors
    /// `Invalid` where size or digest differ.
    pub(crate) fn finish_as(self, expected: &Descriptor) -> Result<()> {
        let (size, wanted) = (expected.size, &expected.digest);
        if self.at != size {
            return Err(Error::invalid(format!("blob {wanted} has {} bytes instead of {size}", self.at)));
        }
        let digest = self.hasher.finish();
        if digest != *wanted {
            return Err(Error::invalid(format!("blob {wanted} has other content: its digest is {digest}")));
        }
        self.partial.publish()
    }
}

impl<R: Read> Read for Arrival<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = if self.at < self.partial.have {
            let most = usize::try_from(self.partial.have - self.at).unwrap_or(usize::MAX).min(buffer.len());
            let count = self.partial.file.read_at(&mut buffer[..most], self.at)?;
            if count == 0 && most > 0 {
                return Err(io::Error::other("a partial blob was cut"));
            }
            count
        } else {
            // More than was promised is no cut: what came before it is as false.
            let cut = |error: &io::Error| error.kind() != io::ErrorKind::InvalidData;
            let count = self.rest.read(buffer).inspect_err(|error| self.cut = cut(error))?;
            self.partial.file.write_all_at(&buffer[..count], self.at)?;
            self.partial.have += count as u64;
            count
        };
        self.hasher.update(&buffer[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Blobs {
    fn partials(&self) -> PathBuf {
        self.layout().join(".arriving")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::manifest::OCI_LAYER;
    use crate::image::store::ImageStore;

    /// Fails after its bytes, as a connection does that is cut.
    struct Cut<'a>(&'a [u8]);

    impl Read for Cut<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::other("cut")),
                count => Ok(count),
            }
        }
    }

    fn store() -> (tempfile::TempDir, ImageStore, Descriptor) {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = ImageStore::open(dir.path()).expect("store");
        (dir, store, Descriptor::new(OCI_LAYER, Digest::of(b"hello world"), 11))
    }

    fn read(arrival: &mut impl Read) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        arrival.read_to_end(&mut bytes).map(|_| bytes)
    }

    #[test]
    fn a_cut_blob_goes_on_where_it_was_cut() {
        let (_dir, store, blob) = store();
        let mut partial = store.blobs().partial(&blob).expect("open").expect("not here");
        let mut arrival = partial.arrive(Cut(b"hello "));
        assert!(read(&mut arrival).is_err() && arrival.was_cut());
        drop(partial);
        let mut partial = store.blobs().partial(&blob).expect("open").expect("not here");
        assert_eq!(partial.have(), 6);
        let mut arrival = partial.arrive(&b"world"[..]);
        assert_eq!(read(&mut arrival).expect("whole"), b"hello world");
        arrival.finish_as(&blob).expect("the right one");
        assert!(store.blobs().contains(&blob));
        drop(partial);
        assert!(store.blobs().partial(&blob).expect("open").is_none(), "it is here");
        assert_eq!(std::fs::read_dir(store.blobs().partials()).expect("list").count(), 0);
    }

    #[test]
    fn a_wrong_beginning_is_found_by_the_digest() {
        let (_dir, store, blob) = store();
        let mut partial = store.blobs().partial(&blob).expect("open").expect("not here");
        assert!(read(&mut partial.arrive(Cut(b"hellO "))).is_err());
        let mut arrival = partial.arrive(&b"world"[..]);
        read(&mut arrival).expect("whole");
        assert!(arrival.finish_as(&blob).is_err());
        partial.clear().expect("clear");
        let mut arrival = partial.arrive(&b"hello world"[..]);
        read(&mut arrival).expect("whole");
        arrival.finish_as(&blob).expect("the right one");
    }

    #[test]
    fn two_who_want_a_blob_get_it_once() {
        let (_dir, store, blob) = store();
        let mut partial = store.blobs().partial(&blob).expect("open").expect("not here");
        std::thread::scope(|scope| {
            let other = scope.spawn(|| store.blobs().partial(&blob).expect("open").is_none());
            let mut arrival = partial.arrive(&b"hello world"[..]);
            read(&mut arrival).expect("whole");
            arrival.finish_as(&blob).expect("the right one");
            drop(partial);
            assert!(other.join().expect("no panic"), "the second waited, and found it");
        });
    }
}
