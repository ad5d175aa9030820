//! One lock per container, held while its record or directory changes.

use crate::error::{Context, Error, Result};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::Path;

/// An exclusive `flock`; let go of when dropped, or when its process dies.
pub(crate) struct Lock {
    _file: OwnedFd,
}

/// Locks the container whose directory this is; waits for who has it.
///
/// # Errors
/// `NotFound` where the container was removed meanwhile.
pub(crate) fn container(directory: &Path) -> Result<Lock> {
    let path = directory.join("lock");
    let step = || format!("lock {}", path.display());
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).context(step)?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive).context(step)?;
    // Removed by who held it before us: the file is no longer in the tree.
    let links = rustix::fs::fstat(&file).context(step)?.st_nlink;
    if links == 0 || !directory.join("config.json").exists() {
        return Err(Error::not_found("the container was removed by another command"));
    }
    Ok(Lock { _file: file })
}
