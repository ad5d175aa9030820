//! A directory that is filled out of sight and published whole by a rename.
//!
//! It is `tmp-<random>` in the store, locked with flock(2) while its process
//! lives, so that [`sweep`] can tell what a dead process left behind.

use super::descent::OPEN_DIR;
use super::usage::remove_tree;
use crate::dirs::disinherit;
use crate::error::{BestEffort, Context, Error, Result};
use crate::sys::fault;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

const PREFIX: &str = "tmp-";

/// A directory being filled. Dropped before it is published, it is removed.
pub(crate) struct Staging {
    store: OwnedFd,
    directory: OwnedFd,
    name: CString,
    published: bool,
}

impl Staging {
    /// A new empty directory, 0700, in `store`.
    pub(crate) fn create(store: &Path) -> Result<Self> {
        let store = open_store(store)?;
        let name = temporary_name()?;
        // Between the two calls below the directory looks abandoned. Where locks
        // do not work (NFS), sweep finds that it cannot lock, and leaves it.
        rustix::fs::flock(&store, FlockOperation::LockShared).or_ignore();
        fault::point().context(|| "make a temporary directory in the store")?;
        rustix::fs::mkdirat(&store, &name, Mode::RWXU)
            .context(|| "make a temporary directory in the store")?;
        let directory = rustix::fs::openat(&store, &name, OPEN_DIR, Mode::empty())
            .context(|| "open a temporary directory")?;
        rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).or_ignore();
        rustix::fs::flock(&store, FlockOperation::Unlock).or_ignore();
        let staging = Self { store, directory, name, published: false };
        disinherit(&staging.directory, Mode::RWXU).context(|| "protect a temporary directory")?;
        Ok(staging)
    }

    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Makes and opens a directory inside.
    pub(crate) fn make(&self, name: &CStr) -> Result<OwnedFd> {
        fault::point().context(|| "make a directory in the store")?;
        rustix::fs::mkdirat(&self.directory, name, Mode::RWXU).context(|| "make a directory in the store")?;
        rustix::fs::openat(&self.directory, name, OPEN_DIR, Mode::empty())
            .context(|| "open a directory in the store")
    }

    /// Gives it its name, once everything in it is on the disk. Where another
    /// process was first, its directory stays and this one goes.
    pub(crate) fn publish(mut self, name: &str) -> Result<()> {
        fault::point().context(|| "write the layer to the disk")?;
        rustix::fs::syncfs(&self.directory).context(|| "write the layer to the disk")?;
        fault::step();
        match rustix::fs::renameat(&self.store, &self.name, &self.store, name) {
            Ok(()) => {
                self.published = true;
                Ok(())
            }
            Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(()),
            Err(error) => Err(error).context(|| format!("publish {name}")),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // What stays is removed by a later sweep.
            remove_tree(self.store.as_fd(), &self.name).or_ignore();
        }
    }
}

/// Removes `name` from the store: renamed aside first, so that it is never there
/// in part.
pub(crate) fn discard(store: &Path, name: &str) -> Result<()> {
    let store = open_store(store)?;
    let aside = temporary_name()?;
    fault::step();
    match rustix::fs::renameat(&store, name, &store, &aside) {
        Ok(()) => {
            fault::step();
            remove_tree(store.as_fd(), &aside)
        }
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error).context(|| format!("remove {name} from the store")),
    }
}

/// Removes what dead processes left behind. Does nothing where another process
/// is just beginning.
pub(crate) fn sweep(path: &Path) -> Result<()> {
    let store = open_store(path)?;
    if rustix::fs::flock(&store, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    for entry in std::fs::read_dir(path).context(|| format!("list {}", path.display()))? {
        let entry = entry.context(|| format!("list {}", path.display()))?;
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let Ok(name) = CString::new(name.into_encoded_bytes()) else { continue };
        match rustix::fs::openat(&store, &name, OPEN_DIR, Mode::empty()) {
            Ok(directory)
                if rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok() =>
            {
                remove_tree(store.as_fd(), &name)?;
            }
            // Someone's, or gone by now.
            _ => {}
        }
    }
    Ok(())
}

/// The store itself may be a link of the user's to a larger disk.
pub(crate) fn open_store(path: &Path) -> Result<OwnedFd> {
    let flags = OPEN_DIR.difference(OFlags::NOFOLLOW);
    rustix::fs::open(path, flags, Mode::empty()).context(|| format!("open the store {}", path.display()))
}

fn temporary_name() -> Result<CString> {
    CString::new(format!("{PREFIX}{}", random_hex::<8>()?))
        .map_err(|_| Error::failed("a NUL byte in hex digits"))
}

/// `N` random bytes in hex.
pub(crate) fn random_hex<const N: usize>() -> Result<String> {
    let mut bytes = [0_u8; N];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .context(|| "get random bytes")?;
    Ok(bytes.iter().fold(String::with_capacity(2 * N), |text, byte| text + &format!("{byte:02x}")))
}
