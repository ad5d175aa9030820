//! Reading a blob that is trusted to be whole: what goes on to a registry or an
//! archive is hashed once more on the way, so that damage on this disk is never
//! given to others under a digest that fits it.

use super::blob::Blobs;
use crate::error::{Context, Result};
use crate::types::digest::{Digest, Hasher};
use std::fs::File;
use std::io::{Read, Take};

/// The bytes of a blob. The read that would give the last of them fails where
/// all of them together are not what the digest says.
#[derive(Debug)]
pub(crate) struct Verified {
    /// As long as it was when it was opened.
    file: Take<File>,
    digest: Digest,
    /// Until the end was reached.
    hasher: Option<Hasher>,
}

impl Blobs {
    /// A reader of the blob that vouches for its content.
    ///
    /// # Errors
    /// Where it is not here.
    pub(crate) fn verified(&self, digest: &Digest) -> Result<Verified> {
        let file = self.open(digest)?;
        let length = file.metadata().context(|| format!("look at blob {digest}"))?.len();
        Ok(Verified {
            file: file.take(length),
            digest: digest.clone(),
            hasher: Some(digest.algorithm().hasher()),
        })
    }
}

impl Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        let ended = self.file.limit() == 0 || (count == 0 && !buffer.is_empty());
        if ended
            && let Some(hasher) = self.hasher.take()
            && hasher.finish() != self.digest
        {
            let text =
                format!("blob {} is damaged: `coracle system check --repair` gets it again", self.digest);
            return Err(std::io::Error::other(text));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::store::ImageStore;

    #[test]
    fn the_last_bytes_of_a_damaged_blob_are_not_given() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = ImageStore::open(dir.path()).expect("store");
        let digest = store.ingest().expect("ingest").put(b"content").expect("put");
        let read = || {
            let mut bytes = Vec::new();
            let mut reader = store.blobs().verified(&digest).expect("open");
            // As tar does it: never to the end of the file.
            reader.by_ref().take(7).read_to_end(&mut bytes).map(|_| bytes)
        };
        assert_eq!(read().expect("whole"), b"content");
        for damage in [&b"contenT"[..], b"conten", b""] {
            std::fs::write(store.blobs().path(&digest), damage).expect("damage");
            assert!(read().is_err(), "{damage:?}");
        }
        // Longer: what came first is not what the digest says either.
        std::fs::write(store.blobs().path(&digest), b"content!").expect("damage");
        let mut bytes = Vec::new();
        assert!(store.blobs().verified(&digest).expect("open").read_to_end(&mut bytes).is_err());
    }
}
