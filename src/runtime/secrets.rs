//! Secrets, put by init on a tmpfs of the container's own.

use super::mounts;
use super::plan::SecretFile;
use super::rootfs::{Rootfs, TargetKind};
use crate::error::{Context, Error, Result};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Writes the files to the tmpfs, which is mounted at `at`; what belongs
/// elsewhere is mounted there and has no name on the tmpfs.
pub(super) fn put(rootfs: &Rootfs, tmpfs: BorrowedFd<'_>, at: &str, files: &[SecretFile]) -> Result<()> {
    for (number, file) in files.iter().enumerate() {
        let step = || format!("give the container the secret {}", file.path);
        let below = file.path.strip_prefix(at).and_then(|rest| rest.strip_prefix('/'));
        if let Some(path) = below {
            let (directory, name) = directory_of(tmpfs, path).map_err(|error| error.context(step()))?;
            write(directory.as_fd(), name, file).map_err(|error| error.context(step()))?;
            continue;
        }
        let name = format!(".elsewhere-{number}");
        let written = write(tmpfs, &name, file).map_err(|error| error.context(step()))?;
        let mount = mounts::clone_fd(written.as_fd(), false).context(step)?;
        let point = rootfs.mount_point(&file.path, TargetKind::File)?;
        mounts::attach(mount.as_fd(), point.as_fd()).context(step)?;
        rustix::fs::unlinkat(tmpfs, &name, AtFlags::empty()).context(step)?;
    }
    Ok(())
}

/// Makes the directories of a path. Nobody else has been on this tmpfs yet.
fn directory_of<'a>(tmpfs: BorrowedFd<'_>, path: &'a str) -> Result<(OwnedFd, &'a str)> {
    let step = || format!("make the directories of {path}");
    let mut directory = rustix::fs::openat(tmpfs, ".", DIRECTORY, Mode::empty()).context(step)?;
    let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
    for parent in parents.split('/').filter(|part| !part.is_empty()) {
        match rustix::fs::mkdirat(&directory, parent, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(errno).context(step),
        }
        directory = rustix::fs::openat(&directory, parent, DIRECTORY, Mode::empty()).context(step)?;
    }
    Ok((directory, name))
}

fn not_mapped(error: Error) -> Error {
    match error.errno() {
        Some(libc::EINVAL) => {
            error.hint("the container has no such id: leave uid= and gid= out, or see --userns")
        }
        _ => error,
    }
}

fn write(directory: BorrowedFd<'_>, name: &str, file: &SecretFile) -> Result<OwnedFd> {
    let step = || format!("write {name}");
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600)).context(step)?;
    let mut target = std::fs::File::from(fd);
    target.write_all(&file.bytes).context(step)?;
    // With a single id root may not be mapped: the file is the one user's then.
    let owned = rustix::fs::fchown(&target, Some(Uid::from_raw(file.uid)), Some(Gid::from_raw(file.gid)));
    if file.uid != 0 || file.gid != 0 {
        owned.context(|| format!("give {name} to {}:{}", file.uid, file.gid)).map_err(not_mapped)?;
    }
    rustix::fs::fchmod(&target, Mode::from_raw_mode(file.mode)).context(step)?;
    Ok(target.into())
}
