//! What a client that does not read for a while will have to read: a file
//! without a name in the container's directory, which goes with the monitor.

use crate::error::{Context, Error, Result};
use rustix::fs::{Mode, OFlags};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a spool: with that much unread a client holds the container up again.
const ROOM: u64 = 64 << 20;
/// Bytes read back at a time.
const CHUNK: usize = 64 << 10;

/// Where a client stands that was too slow.
#[derive(Debug, Default)]
pub(super) struct Pace {
    spool: RefCell<Option<Spool>>,
    is_complete: Cell<bool>,
    is_dropped: Cell<bool>,
}

#[derive(Debug)]
struct Spool {
    file: File,
    written: u64,
    read: u64,
}

impl Pace {
    pub(super) fn is_spooling(&self) -> bool {
        self.spool.borrow().is_some()
    }

    /// Whether it has a spool that takes no more until all of it was read.
    pub(super) fn is_full(&self) -> bool {
        self.spool.borrow().as_ref().is_some_and(|spool| spool.written >= ROOM)
    }

    /// From now on what is for the client goes to a file in `directory`.
    ///
    /// # Errors
    /// Where the file system has no room, or no files without a name.
    pub(super) fn spool(&self, directory: &Path) -> Result<()> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)
            .context(|| "make a file for output that nobody reads")?;
        *self.spool.borrow_mut() = Some(Spool { file: file.into(), written: 0, read: 0 });
        Ok(())
    }

    /// Adds a frame to the spool, which there is.
    ///
    /// # Errors
    /// Where the disk is full.
    pub(super) fn append(&self, piece: &[u8]) -> Result<()> {
        let mut spool = self.spool.borrow_mut();
        let Some(spool) = spool.as_mut() else { return Err(Error::failed("the client has no spool")) };
        spool.file.write_all_at(piece, spool.written).context(|| "keep output that nobody reads")?;
        spool.written += piece.len() as u64;
        Ok(())
    }

    /// The next of the spool. `None` where there is none, or all of it was read:
    /// then it is gone, and the client is one like others again.
    pub(super) fn next(&self) -> Option<Vec<u8>> {
        let mut slot = self.spool.borrow_mut();
        let spool = slot.as_mut()?;
        let mut bytes = vec![0; CHUNK.min(usize::try_from(spool.written - spool.read).unwrap_or(CHUNK))];
        if bytes.is_empty() {
            *slot = None;
            return None;
        }
        if spool.file.read_exact_at(&mut bytes, spool.read).is_err() {
            *slot = None;
            self.is_dropped.set(true);
            return None;
        }
        spool.read += bytes.len() as u64;
        Some(bytes)
    }

    /// The last frame of all is in the spool.
    pub(super) fn complete(&self) {
        self.is_complete.set(true);
    }

    pub(super) fn is_complete(&self) -> bool {
        self.is_complete.get()
    }

    /// Some of the output is not for the client any more.
    pub(super) fn drop_client(&self) {
        self.is_dropped.set(true);
    }

    pub(super) fn is_dropped(&self) -> bool {
        self.is_dropped.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spooled_comes_back_in_order_and_once() {
        let temp = tempfile::tempdir().expect("tempdir");
        let pace = Pace::default();
        assert_eq!((pace.is_spooling(), pace.next()), (false, None));
        pace.append(b"x").expect_err("no spool");
        pace.spool(temp.path()).expect("spool");
        let piece: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        pace.append(b"first").expect("written");
        pace.append(&piece).expect("written");
        let mut read = Vec::new();
        while let Some(bytes) = pace.next() {
            read.extend(bytes);
        }
        assert_eq!(read, [b"first".as_slice(), &piece].concat());
        assert!(!pace.is_spooling() && !pace.is_dropped());
        assert_eq!(std::fs::read_dir(temp.path()).expect("list").count(), 0);
    }

    #[test]
    fn it_is_full_until_all_of_it_was_read() {
        let temp = tempfile::tempdir().expect("tempdir");
        let pace = Pace::default();
        pace.spool(temp.path()).expect("spool");
        let piece = vec![0; 1 << 20];
        while !pace.is_full() {
            pace.append(&piece).expect("written");
        }
        pace.next().expect("some");
        assert!(pace.is_full());
        while pace.next().is_some() {}
        assert!(!pace.is_full());
    }
}
