//! Locks, each held by a process: while a container's record or directory
//! changes, while names are cleared, while a directory is not what it will be.

use crate::error::{Context, Error, Result};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;

/// An exclusive `flock`; let go of when dropped, or when its process dies.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: OwnedFd,
}

/// Locks the container whose directory this is; waits for who has it.
///
/// # Errors
/// `NotFound` where the container was removed meanwhile.
pub(crate) fn container(directory: &Path) -> Result<Lock> {
    let file = open_container(directory)?;
    wait_for(&file, directory)?;
    still_there(file, directory)
}

/// As [`container`]; `None` where someone else has it.
pub(crate) fn try_container(directory: &Path) -> Result<Option<Lock>> {
    let file = open_container(directory)?;
    if !try_for(&file, directory)? {
        return Ok(None);
    }
    still_there(file, directory).map(Some)
}

fn open_container(directory: &Path) -> Result<OwnedFd> {
    let path = directory.join("lock");
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)) {
        Err(Errno::NOENT) => Err(removed()),
        result => result.context(|| format!("lock {}", path.display())),
    }
}

fn removed() -> Error {
    Error::not_found("the container was removed by another command")
}

fn still_there(file: OwnedFd, directory: &Path) -> Result<Lock> {
    // Removed by who held it before us: the file is no longer in the tree.
    let links = rustix::fs::fstat(&file).context(|| format!("lock {}", directory.display()))?.st_nlink;
    if links == 0 || !directory.join("config.json").exists() {
        return Err(removed());
    }
    Ok(Lock { _file: file })
}

/// Locks a directory itself; waits for who has it. It stays locked under
/// another name.
pub(crate) fn directory(path: &Path) -> Result<Lock> {
    let file = open_directory(path).context(|| format!("lock {}", path.display()))?;
    wait_for(&file, path)?;
    Ok(Lock { _file: file })
}

/// As [`directory`]; `None` where someone else has it.
pub(crate) fn try_directory(path: &Path) -> Result<Option<Lock>> {
    let file = open_directory(path).context(|| format!("lock {}", path.display()))?;
    Ok(try_for(&file, path)?.then_some(Lock { _file: file }))
}

fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

fn wait_for(file: &OwnedFd, path: &Path) -> Result<()> {
    while let Err(errno) = rustix::fs::flock(file, FlockOperation::LockExclusive) {
        if errno != Errno::INTR {
            return Err(errno).context(|| format!("lock {}", path.display()));
        }
    }
    Ok(())
}

fn try_for(file: &OwnedFd, path: &Path) -> Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno).context(|| format!("lock {}", path.display())),
    }
}
