//! One lock per container, held while its record or directory changes.

use crate::error::{Context, Error, Result};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// An exclusive `flock`; let go of when dropped, or when its process dies. A
/// process that inherits the fd holds it too.
pub(crate) struct Lock {
    file: OwnedFd,
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Locks the container whose directory this is; waits for who has it.
///
/// # Errors
/// `NotFound` where the container was removed meanwhile.
pub(crate) fn container(directory: &Path) -> Result<Lock> {
    take(directory, FlockOperation::LockExclusive)
}

/// The same, where nobody has it; who has it is starting or removing the container.
pub(crate) fn container_if_free(directory: &Path) -> Option<Lock> {
    take(directory, FlockOperation::NonBlockingLockExclusive).ok()
}

fn take(directory: &Path, operation: FlockOperation) -> Result<Lock> {
    let path = directory.join("lock");
    let step = || format!("lock {}", path.display());
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).context(step)?;
    rustix::fs::flock(&file, operation).context(step)?;
    // Removed by who held it before us: the file is no longer in the tree.
    let links = rustix::fs::fstat(&file).context(step)?.st_nlink;
    if links == 0 || !directory.join("config.json").exists() {
        return Err(Error::not_found("the container was removed by another command"));
    }
    Ok(Lock { file })
}
