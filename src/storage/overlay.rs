//! The kernel's overlayfs: options, and the mount.
//!
//! It is mounted by the monitor, as root of the outer user namespace, and
//! handed to init as a detached mount. Since Linux 5.11 a user namespace may do
//! so, with `userxattr` (overlay's own xattrs in `user.overlay.*`).
//! Source: Documentation/filesystems/overlayfs.rst.

use super::whiteout::is_noted_as_marked;
use crate::error::{Context, Error, Result, Trouble};
use crate::sys::process::kernel_version;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, UnmountFlags};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Bytes: what fsconfig(2) takes as one string.
const MAX_STRING: usize = 255;
/// Bytes: what mount(2) takes as options, one page.
const MAX_OPTIONS: usize = 4095;
/// Since this kernel lower directories are given one by one (`lowerdir+`).
const APPENDS_SINCE: (u32, u32) = (6, 8);
/// Since this kernel it knows whiteouts that are marked files.
const MARKS_SINCE: (u32, u32) = (6, 7);

/// The directories of one overlay.
#[derive(Clone, Copy)]
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
    let kernel = kernel_version(&rustix::system::uname().release().to_string_lossy());
    check_marks(overlay.lowers, kernel)?;
    if kernel < APPENDS_SINCE {
        return mount_by_path(overlay);
    }
    let context =
        rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).context(|| "mount overlay").map_err(
            |error| error.hint("the kernel has no overlay file system").see_doctor(Trouble::Overlay),
        )?;
    configure(&context, overlay)
        .map_err(|errno| on_overlay(overlay, errno).unwrap_or_else(|| explain(&context, errno)))?;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .map_err(|errno| explain(&context, errno))
}

/// Before [`MARKS_SINCE`] the kernel's overlay would show what such layers hide.
fn check_marks(lowers: &[PathBuf], kernel: (u32, u32)) -> Result<()> {
    if kernel >= MARKS_SINCE {
        return Ok(());
    }
    let marked = |lower: &&PathBuf| open(lower).is_ok_and(|lower| is_noted_as_marked(lower.as_fd()));
    match lowers.iter().find(marked) {
        None => Ok(()),
        Some(lower) => Err(Error::failed(format!(
            "{} hides files by marks, which the kernel's overlay knows since Linux 6.7",
            lower.display()
        ))
        .hint("use --storage-driver fuse, or put XDG_DATA_HOME on another disk and pull again")
        .see_doctor(Trouble::Overlay)),
    }
}

/// Where the kernel says no more than EINVAL: its overlay has no upper directory on
/// another overlay, and stacks two file systems and no more, which it says in its log
/// alone (FILESYSTEM_MAX_STACK_DEPTH, include/linux/fs.h).
fn on_overlay(overlay: &Overlay<'_>, errno: Errno) -> Option<Error> {
    /// include/uapi/linux/magic.h
    const OVERLAYFS_SUPER_MAGIC: rustix::fs::FsWord = 0x794c_7630;
    let is_overlay =
        |path: &Path| rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type == OVERLAYFS_SUPER_MAGIC);
    if errno != Errno::INVAL {
        return None;
    }
    let error = |path: &Path, why: &str, hint: &str| {
        let error = Err::<(), _>(errno).context(|| "mount overlay").err()?;
        let why = format!("{} lies on an overlay itself, {why}", path.display());
        Some(error.context(why).hint(hint).see_doctor(Trouble::Overlay))
    };
    if is_overlay(overlay.upper) {
        let why = "where the kernel's overlay cannot write";
        let hint = "set XDG_STATE_HOME to a directory on a volume or a tmpfs, or use --storage-driver fuse";
        return error(overlay.upper, why, hint);
    }
    let lower = overlay.lowers.iter().find(|lower| is_overlay(lower))?;
    let why = "perhaps too deep for the kernel";
    error(lower, why, "use --storage-driver fuse, or put XDG_DATA_HOME on another disk")
}

/// Several trees as one that nobody can write to, as a detached mount; `point`
/// is an empty directory of ours, which only old kernels need. A single tree is
/// opened as it is.
///
/// # Errors
/// As [`mount`].
pub(crate) fn view(lowers: &[PathBuf], point: &Path) -> Result<OwnedFd> {
    if let [only] = lowers {
        let flags = super::descent::OPEN_DIR;
        return rustix::fs::open(only, flags, rustix::fs::Mode::empty())
            .context(|| format!("open the layer {}", only.display()));
    }
    let kernel = kernel_version(&rustix::system::uname().release().to_string_lossy());
    check_marks(lowers, kernel)?;
    if kernel < APPENDS_SINCE {
        let step = || "mount overlay";
        let fds = lowers.iter().map(|lower| open(lower)).collect::<Result<Vec<_>, _>>().context(step)?;
        let names = fds.iter().map(fd_path).collect::<Vec<_>>().join(":");
        return mount_here(&format!("lowerdir={names},userxattr"), fds.len(), point);
    }
    let context =
        rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).context(|| "mount overlay")?;
    let configure = || {
        for lower in lowers {
            rustix::mount::fsconfig_set_string(context.as_fd(), "lowerdir+", lower.as_path())?;
        }
        rustix::mount::fsconfig_set_flag(context.as_fd(), "userxattr")?;
        rustix::mount::fsconfig_create(context.as_fd())
    };
    configure().map_err(|errno| explain(&context, errno))?;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)
        .map_err(|errno| explain(&context, errno))
}

fn configure(context: &OwnedFd, overlay: &Overlay<'_>) -> Result<(), Errno> {
    for lower in overlay.lowers {
        rustix::mount::fsconfig_set_string(context.as_fd(), "lowerdir+", lower.as_path())?;
    }
    let upper = open(overlay.upper)?;
    set(context, "upperdir", overlay.upper, &upper)?;
    let work = open(overlay.work)?;
    set(context, "workdir", overlay.work, &work)?;
    rustix::mount::fsconfig_set_flag(context.as_fd(), "userxattr")?;
    if overlay.volatile {
        rustix::mount::fsconfig_set_flag(context.as_fd(), "volatile")?;
    }
    rustix::mount::fsconfig_create(context.as_fd())
}

/// As older kernels have it: mount(2), whose options hold about two hundred
/// layers by the short names of fds; then a detached copy of what was mounted.
fn mount_by_path(overlay: &Overlay<'_>) -> Result<OwnedFd> {
    let step = || "mount overlay";
    let fds = overlay.lowers.iter().map(|lower| open(lower)).collect::<Result<Vec<_>, _>>().context(step)?;
    let (upper, work) = (open(overlay.upper).context(step)?, open(overlay.work).context(step)?);
    let options = format!(
        "lowerdir={},upperdir={},workdir={},userxattr{}",
        fds.iter().map(fd_path).collect::<Vec<_>>().join(":"),
        fd_path(&upper),
        fd_path(&work),
        if overlay.volatile { ",volatile" } else { "" },
    );
    // Beside the upper directory, in this process' own mount namespace.
    let point = overlay.upper.with_file_name("merged");
    crate::dirs::create_private(&point)?;
    mount_here(&options, fds.len(), &point)
}

fn mount_here(options: &str, layers: usize, point: &Path) -> Result<OwnedFd> {
    let step = || "mount overlay";
    if options.len() > MAX_OPTIONS {
        return Err(Error::invalid(format!("an image of {layers} layers")).context(step()))
            .map_err(|error| error.hint("this kernel takes about two hundred; Linux 6.8 takes more"));
    }
    let options = CString::new(options).map_err(|_| Error::failed(step()))?;
    let flags = MountFlags::empty();
    rustix::mount::mount("overlay", point, "overlay", flags, Some(options.as_c_str()))
        .context(step)
        .map_err(|error| {
            error.hint("overlayfs in a user namespace needs Linux 5.11 or later").see_doctor(Trouble::Overlay)
        })?;
    let copy = rustix::mount::open_tree(
        CWD,
        point,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    );
    rustix::mount::unmount(point, UnmountFlags::DETACH).context(step)?;
    copy.context(step)
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
        Errno::PERM => error.hint("overlayfs in a user namespace needs Linux 5.11 or later").see_doctor(Trouble::Overlay),
        Errno::INVAL => error.hint(
            "the file system below may not serve as an upper directory (NFS, some FUSE): set XDG_STATE_HOME to a local disk",
        )
        .see_doctor(Trouble::Overlay),
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
