//! Making files in a tree that somebody hostile may change at the same moment:
//! the root of a running container. Every call is on one name in an open
//! directory and never goes through a link; what is described (owner, mode) is
//! what was made, by its fd. So a swap can make a call fail, and nothing else.

use super::descent::OPEN_DIR;
use super::usage::remove_tree;
use crate::error::{Cause, Context, Error, Result, Trouble};
use crate::sys::file::chmod_unopened;
use crate::sys::xattr;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, StatxAttributes, StatxFlags, Timespec, Timestamps, Uid,
};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How often something is made that others remove or put back.
const ATTEMPTS: u32 = 64;

/// What happens where a directory is to take the place of another file, or the
/// other way round. A file always takes the place of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clash {
    Refuse,
    /// `--overwrite`.
    Replace,
}

/// What a file has besides its content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a> {
    pub(crate) mode: u32,
    /// `None` leaves what is made to whom it belongs.
    pub(crate) owner: Option<(u32, u32)>,
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: &'a [(CString, Vec<u8>)],
}

impl Attributes<'_> {
    /// Gives them to an open file or directory. The owner first: its change
    /// takes set-uid bits and capabilities away.
    pub(crate) fn apply(&self, file: BorrowedFd<'_>) -> Result<()> {
        if let Some((uid, gid)) = self.owner {
            rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(|errno| refused(errno, uid, gid))?;
        }
        for (name, value) in self.xattrs {
            match xattr::set(file, name, value) {
                // A file system without them, or a file capability without the
                // power to give one: docker loses them there too.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EPERM)) => {}
                result => result.context(|| format!("set the attribute {}", name.to_string_lossy()))?,
            }
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(self.mode & 0o7777)).context(|| "set its mode")?;
        set_times(file, self.mtime)
    }

    /// Gives them to what was just made as `name` and cannot be opened: a link
    /// or a fifo.
    pub(crate) fn apply_unopened(&self, parent: BorrowedFd<'_>, name: &CStr, kind: FileType) -> Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let held = rustix::fs::openat(parent, name, flags, Mode::empty()).context(|| "open it")?;
        let stat = rustix::fs::fstat(&held).context(|| "look at it")?;
        // Or it is another file by now, whose owner is nothing to change.
        if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_nlink != 1 {
            return Err(changed(name));
        }
        if let Some((uid, gid)) = self.owner {
            let (owner, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            rustix::fs::chownat(&held, c"", owner, group, AtFlags::EMPTY_PATH)
                .map_err(|errno| refused(errno, uid, gid))?;
        }
        if kind == FileType::Fifo {
            chmod_unopened(&held, Mode::from_raw_mode(self.mode & 0o7777)).context(|| "set its mode")?;
        }
        set_times(held.as_fd(), self.mtime)
    }
}

/// Sets the times of what is held, opened or not.
pub(crate) fn set_times(held: BorrowedFd<'_>, (tv_sec, nanoseconds): (i64, u32)) -> Result<()> {
    let time = Timespec { tv_sec, tv_nsec: nanoseconds.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(held, c"", &times, AtFlags::EMPTY_PATH).context(|| "set its times")
}

/// The modification time of a file.
pub(crate) fn mtime(stat: &Stat) -> (i64, u32) {
    (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

/// An owner could not be given.
pub(super) fn refused(errno: Errno, uid: u32, gid: u32) -> Error {
    let error = errno.into_error().context(format!("give it to {uid}:{gid}"));
    if errno == Errno::INVAL {
        error
            .hint("the id is not mapped in the user namespace: see /etc/subuid and /etc/subgid")
            .see_doctor(Trouble::Ids)
    } else {
        error
    }
}

/// Somebody changed the tree at this place, again and again.
pub(crate) fn changed(name: &CStr) -> Error {
    Error::conflict(format!("{} was changed while it was copied", name.to_string_lossy()))
}

/// A directory `name`: a new one (mode 0700, and `true`) or the one that is there.
///
/// # Errors
/// `Conflict` where something else is there, unless that is replaced.
pub(crate) fn directory(parent: BorrowedFd<'_>, name: &CStr, clash: Clash) -> Result<(OwnedFd, bool)> {
    for _ in 0..ATTEMPTS {
        let made = match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error).context(|| "make the directory"),
        };
        match rustix::fs::openat(parent, name, OPEN_DIR, Mode::empty()) {
            Ok(directory) => return Ok((directory, made)),
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR | Errno::LOOP) if clash == Clash::Refuse => {
                let name = name.to_string_lossy();
                return Err(Error::conflict(format!(
                    "cannot overwrite non-directory {name:?} with directory"
                )));
            }
            Err(Errno::NOTDIR | Errno::LOOP) => clear(parent, name, clash)?,
            Err(error) => return Err(error).context(|| "open the directory"),
        }
    }
    Err(changed(name))
}

/// A file to write to.
pub(crate) enum Made {
    /// A new one, mode 0600.
    New(OwnedFd),
    /// The one that is mounted there, emptied: its name cannot be given to
    /// another (`/etc/hosts`), and owner and mode are those of its source.
    Mounted(OwnedFd),
}

/// An empty file `name`, in the place of whatever file or link is there.
///
/// # Errors
/// `Conflict` where a directory is there, unless that is replaced.
pub(crate) fn file(parent: BorrowedFd<'_>, name: &CStr, clash: Clash) -> Result<Made> {
    for _ in 0..ATTEMPTS {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => return Ok(Made::New(file)),
            Err(Errno::EXIST) if is_mount_point(parent, name) => {
                return mounted_file(parent, name).map(Made::Mounted);
            }
            Err(Errno::EXIST) => clear(parent, name, clash)?,
            Err(error) => return Err(error).context(|| "make it"),
        }
    }
    Err(changed(name))
}

/// Makes `name` by one call, in the place of whatever file or link is there.
pub(crate) fn fresh(
    parent: BorrowedFd<'_>,
    name: &CStr,
    clash: Clash,
    make: impl Fn() -> rustix::io::Result<()>,
) -> Result<()> {
    for _ in 0..ATTEMPTS {
        match make() {
            Err(Errno::EXIST) => clear(parent, name, clash)?,
            result => return result.context(|| "make it"),
        }
    }
    Err(changed(name))
}

/// Whether something is mounted at `name`, in whichever mount namespace
/// `parent` belongs to. unlink(2) does not ask: in another namespace than its
/// own it takes the mount away with the name.
fn is_mount_point(parent: BorrowedFd<'_>, name: &CStr) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(parent, name, flags, StatxFlags::TYPE)
        .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

fn mounted_file(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file =
        rustix::fs::openat(parent, name, flags, Mode::empty()).context(|| "open what is mounted there")?;
    let stat = rustix::fs::fstat(&file).context(|| "look at it")?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::conflict("what is mounted there is not a regular file"));
    }
    rustix::fs::ftruncate(&file, 0).context(|| "empty what is mounted there")?;
    Ok(file)
}

/// Removes what is at `name`; nothing where nothing is.
fn clear(parent: BorrowedFd<'_>, name: &CStr, clash: Clash) -> Result<()> {
    if is_mount_point(parent, name) {
        return Err(Error::conflict(format!("something is mounted at {}", name.to_string_lossy())));
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) if clash == Clash::Refuse => {
            let name = name.to_string_lossy();
            Err(Error::conflict(format!("cannot overwrite directory {name:?} with non-directory")))
        }
        Err(Errno::ISDIR) => remove_tree(parent, name),
        Err(error) => Err(error).context(|| "replace it"),
    }
}

/// The attributes of an open file that a copy gets: the user's own, and file
/// capabilities where `capabilities` asks for them. Not overlayfs's.
pub(crate) fn xattrs_of(file: impl AsFd, capabilities: bool) -> Result<Vec<(CString, Vec<u8>)>> {
    let file = file.as_fd();
    let names = match xattr::list(file) {
        Ok(names) => names,
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(error).context(|| "list attributes"),
    };
    let wanted = |name: &CString| {
        let name = name.to_bytes();
        (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
            || (capabilities && name == b"security.capability")
    };
    let mut found = Vec::new();
    for name in names.into_iter().filter(wanted) {
        if let Some(value) = xattr::get(file, &name).context(|| "read an attribute")? {
            found.push((name, value));
        }
    }
    Ok(found)
}
