//! The kernel's overlayfs: options, and the mount.
//!
//! It is mounted by the monitor, as root of the outer user namespace, and
//! handed to init as a detached mount. Since Linux 5.11 a user namespace may do
//! so, with `userxattr` (overlay's own xattrs in `user.overlay.*`).
//! Source: Documentation/filesystems/overlayfs.rst.

use crate::error::{Context, Error, Result};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Bytes: what fsconfig(2) takes as one string.
const MAX_STRING: usize = 255;

/// The directories of one overlay.
pub(crate) struct Overlay<'a> {
    /// From the topmost to the lowest; at least one.
    pub(crate) lowers: &'a [PathBuf],
    pub(crate) upper: &'a Path,
    /// An empty directory on the file system of `upper`.
    pub(crate) work: &'a Path,
    /// No fsync ever reaches the disk: for a container that is thrown away.
    pub(crate) volatile: bool,
}

/// The overlay as a detached mount.
///
/// # Errors
/// `Failed`, with the kernel's own words where it left some.
pub(crate) fn mount(overlay: &Overlay<'_>) -> Result<OwnedFd> {
    let context =
        rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
            .context(|| "mount overlay")
            .map_err(|error| error.hint("the kernel has no overlay file system: see `coracle doctor`"))?;
    configure(&context, overlay).map_err(|errno| explain(&context, errno))?;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .map_err(|errno| explain(&context, errno))
}

fn configure(context: &OwnedFd, overlay: &Overlay<'_>) -> Result<(), Errno> {
    set_lowers(context, overlay.lowers)?;
    let holders = [("upperdir", overlay.upper), ("workdir", overlay.work)].map(|(key, path)| {
        let fd = open(path)?;
        set(context, key, path, &fd)?;
        Ok(fd)
    });
    rustix::mount::fsconfig_set_flag(context.as_fd(), "userxattr")?;
    if overlay.volatile {
        rustix::mount::fsconfig_set_flag(context.as_fd(), "volatile")?;
    }
    let holders: Result<Vec<OwnedFd>, Errno> = holders.into_iter().collect();
    rustix::mount::fsconfig_create(context.as_fd())?;
    drop(holders?);
    Ok(())
}

/// One by one where the kernel can (`lowerdir+`, Linux 6.8), else all in one
/// string of short `/proc/self/fd` names.
fn set_lowers(context: &OwnedFd, lowers: &[PathBuf]) -> Result<(), Errno> {
    let mut appended = 0;
    for lower in lowers {
        match rustix::mount::fsconfig_set_string(context.as_fd(), "lowerdir+", lower.as_path()) {
            Ok(()) => appended += 1,
            Err(Errno::INVAL) if appended == 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    if appended == lowers.len() {
        return Ok(());
    }
    let fds = lowers.iter().map(|lower| open(lower)).collect::<Result<Vec<_>, _>>()?;
    let joined = fds.iter().map(fd_path).collect::<Vec<_>>().join(":");
    if joined.len() > MAX_STRING {
        // About fourteen layers.
        return Err(Errno::NAMETOOLONG);
    }
    rustix::mount::fsconfig_set_string(context.as_fd(), "lowerdir", joined.as_str())
}

fn set(context: &OwnedFd, key: &str, path: &Path, fd: &OwnedFd) -> Result<(), Errno> {
    // A colon or a comma in a path would be read as a separator, and a long
    // path be refused; the name of an fd has neither fault.
    let name = fd_path(fd);
    let text = path.to_str().filter(|text| text.len() <= MAX_STRING && !text.contains([':', ',', '\\']));
    rustix::mount::fsconfig_set_string(context.as_fd(), key, text.unwrap_or(&name))
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn fd_path(fd: &OwnedFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The kernel writes what it dislikes into the context: fsopen(2), "e LEVEL text".
fn explain(context: &OwnedFd, errno: Errno) -> Error {
    let words = messages(context.as_fd());
    let mut error = match Err::<(), _>(errno).context(|| "mount overlay") {
        Err(error) => error,
        Ok(()) => Error::failed("mount overlay"),
    };
    if !words.is_empty() {
        error = error.context(words.join("; "));
    }
    match errno {
        Errno::PERM => error.hint("overlayfs in a user namespace needs Linux 5.11 or later: see `coracle doctor`"),
        Errno::NAMETOOLONG => error.hint("this kernel takes only few layers: Linux 6.8 takes any number"),
        Errno::INVAL => error.hint(
            "the file system below may not serve as an upper directory (NFS, some FUSE): set XDG_STATE_HOME to a local disk",
        ),
        _ => error,
    }
}

fn messages(context: BorrowedFd<'_>) -> Vec<String> {
    let mut words = Vec::new();
    let mut buffer = [0; 1024];
    for _ in 0..16 {
        match rustix::io::read(context, &mut buffer) {
            Ok(length) if length > 0 => {
                let text = String::from_utf8_lossy(&buffer[..length]);
                words.push(text.trim_start_matches(|c: char| c.is_ascii_lowercase()).trim().to_owned());
            }
            _ => break,
        }
    }
    words.dedup();
    words
}
