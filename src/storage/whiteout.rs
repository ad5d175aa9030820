//! Files that hide what lies in the layers below: as layer archives name them,
//! and as overlayfs keeps them.
//!
//! A whiteout is the character device 0:0. Where that cannot be made (on an overlay,
//! such as the root file system of a container) it is an empty file with an attribute,
//! which the kernel's overlay knows since Linux 6.7, in directories that say so.
//!
//! Source: OCI image-spec, layer.md, "Whiteouts"; Linux, Documentation/
//! filesystems/overlayfs.rst, "whiteouts and opaque directories".

use super::tar_header::{malformed, show};
use crate::error::{BestEffort, Context, Error, Result};
use crate::sys::xattr;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, XattrFlags, fchmod, mknodat, openat, unlinkat};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

/// Marks a directory whose lower layers are hidden (mounted with `userxattr`).
pub(crate) const OPAQUE: &CStr = c"user.overlay.opaque";
/// Its value for a directory that hides nothing by itself, and has marked whiteouts.
pub(crate) const HAS_MARKED: &[u8] = b"x";
/// Makes an empty file a whiteout.
const MARK: &CStr = c"user.overlay.whiteout";
/// On the root of a tree whose whiteouts may be marked files.
const MARKED_TREE: &CStr = c"user.overlay.coracle.marked";
/// Of a file that may be marked: whoever looks can read the attribute.
const MARKED_MODE: u32 = 0o444;

/// What the last component of a name in a layer archive means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marker<'a> {
    /// An ordinary name.
    None,
    /// Hides this name below.
    Whiteout(&'a [u8]),
    /// Hides everything that the directory has below.
    Opaque,
    /// Book-keeping of aufs, which means nothing here.
    Ignored,
}

/// Reads a path of [`super::tar_header::path`].
///
/// # Errors
/// `Invalid` for a whiteout of nothing, `.` or `..`, and for one that is used as
/// a directory.
pub(crate) fn marker(path: &[u8]) -> Result<Marker<'_>> {
    let mut components = path.rsplit(|byte| *byte == b'/');
    let last = components.next().unwrap_or_default();
    for component in components {
        if component.starts_with(b".wh..wh.") {
            return Ok(Marker::Ignored);
        }
        if component.starts_with(b".wh.") {
            return Err(malformed(format!("{} is below a whiteout", show(path))));
        }
    }
    match last.strip_prefix(b".wh.") {
        None => Ok(Marker::None),
        Some(b".wh..opq") => Ok(Marker::Opaque),
        Some(name) if name.starts_with(b".wh.") => Ok(Marker::Ignored),
        Some(b"" | b"." | b"..") => Err(malformed(format!("{} is a whiteout of no name", show(path)))),
        Some(name) => Ok(Marker::Whiteout(name)),
    }
}

/// Whether the file `name` of `dir`, of which `stat` is known, is a whiteout.
pub(crate) fn is_whiteout(dir: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> bool {
    is_device(stat) || may_be_marked(stat) && xattr::has_at(dir, name, MARK)
}

/// The kernel looks at any empty file; those that are made here have a mode that few
/// others have, which spares most of them a look at their attributes.
fn may_be_marked(stat: &Stat) -> bool {
    stat.st_size == 0 && stat.st_mode == FileType::RegularFile.as_raw_mode() | MARKED_MODE
}

/// Whether this is the device that hides a name.
pub(crate) fn is_device(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Makes a whiteout: the one device that needs no privilege, since Linux 5.8, or else a
/// file with a mark.
///
/// # Errors
/// EEXIST where the name is taken; those of the device where neither can be made.
pub(crate) fn make_whiteout(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
    match mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0) {
        Err(errno @ (Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS)) => {
            make_marked(parent, name).map_err(|marked| if marked == Errno::EXIST { marked } else { errno })
        }
        result => result,
    }
}

fn make_marked(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
    announce_marked(parent)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?;
    let made = rustix::fs::fsetxattr(&file, MARK, b"y", XattrFlags::empty())
        .and_then(|()| fchmod(&file, Mode::from_raw_mode(MARKED_MODE)));
    made.inspect_err(|_| unlinkat(parent, name, AtFlags::empty()).or_ignore())
}

/// Has the kernel's overlay look for marks in this directory.
///
/// # Errors
/// As setxattr(2).
pub(crate) fn announce_marked(dir: BorrowedFd<'_>) -> rustix::io::Result<()> {
    match rustix::fs::setxattr(xattr::path(dir), OPAQUE, HAS_MARKED, XattrFlags::CREATE) {
        Err(Errno::EXIST) => Ok(()),
        result => result,
    }
}

/// Writes down at the root of a tree that it has whiteouts, where these may be marked
/// files: for kernels whose overlay does not know them.
pub(crate) fn note_marked(root: BorrowedFd<'_>) {
    if !are_devices(root) {
        // Without attributes there are no marks either.
        rustix::fs::setxattr(xattr::path(root), MARKED_TREE, b"y", XattrFlags::empty()).or_ignore();
    }
}

/// Whether that was written down.
pub(crate) fn is_noted_as_marked(root: BorrowedFd<'_>) -> bool {
    !are_devices(root) && xattr::has_at(root, b".", MARKED_TREE)
}

/// Whether whiteouts of this file system are devices, as on all common disks. Where it
/// is not known they may be marks.
pub(crate) fn are_devices(dir: BorrowedFd<'_>) -> bool {
    // statfs(2): ext2 to ext4, XFS, btrfs, tmpfs, F2FS, ZFS, bcachefs.
    const KNOWN: [u64; 7] =
        [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010, 0x2fc1_2fc1, 0xca45_1a4e];
    rustix::fs::fstatfs(dir).is_ok_and(|known| KNOWN.contains(&(known.f_type as u64)))
}

/// Hides what the layers below have in this directory.
///
/// # Errors
/// `Failed`, with a hint, on a file system without user attributes.
pub(crate) fn make_opaque(dir: BorrowedFd<'_>) -> Result<()> {
    xattr::set(dir, OPAQUE, b"y").context(|| "mark a directory as opaque").map_err(hint)
}

/// Adds the next step where the file system refuses overlayfs's marks.
pub(crate) fn hint(error: Error) -> Error {
    match error.errno() {
        Some(libc::EPERM | libc::EOPNOTSUPP | libc::EINVAL) => error.hint(
            "the file system cannot hold layers: set XDG_DATA_HOME to a directory on ext4, xfs, btrfs or tmpfs \
             (Linux 6.6); in a container, to a volume",
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::statat;
    use std::os::fd::AsFd;

    #[test]
    fn names_of_layers_are_told_apart() {
        let good: [(&[u8], Marker<'_>); 9] = [
            (b"", Marker::None),
            (b"a/b", Marker::None),
            (b"a/.wh", Marker::None),
            (b"a/x.wh.b", Marker::None),
            (b"a/.wh.b", Marker::Whiteout(b"b")),
            (b".wh....", Marker::Whiteout(b"...")),
            (b"a/.wh..wh..opq", Marker::Opaque),
            (b".wh..wh.aufs", Marker::Ignored),
            (b".wh..wh.plnk/12.34", Marker::Ignored),
        ];
        for (path, expected) in good {
            assert_eq!(marker(path).expect("good"), expected, "{}", show(path));
        }
        for bad in [&b".wh."[..], b"a/.wh..", b"a/.wh...", b".wh.a/b"] {
            assert!(marker(bad).is_err(), "{}", show(bad));
        }
    }

    #[test]
    fn a_marked_file_is_a_whiteout_and_an_empty_one_is_not() {
        let temp = tempfile::tempdir().expect("temporary directory");
        let dir = std::fs::File::open(temp.path()).expect("open");
        let seen = |name: &CStr| {
            let stat = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).expect("stat");
            is_whiteout(dir.as_fd(), name.to_bytes(), &stat)
        };
        match make_marked(dir.as_fd(), c"marked") {
            Err(Errno::OPNOTSUPP) => {
                eprintln!("skipped: no user attributes on this file system");
                return;
            }
            result => result.expect("made"),
        }
        assert!(seen(c"marked"));
        assert_eq!(xattr::get(&dir, OPAQUE).expect("get").as_deref(), Some(HAS_MARKED));
        assert_eq!(make_marked(dir.as_fd(), c"marked"), Err(Errno::EXIST));
        let mode = Mode::from_raw_mode(MARKED_MODE);
        openat(&dir, c"empty", OFlags::WRONLY | OFlags::CREATE, mode).expect("make");
        assert!(!seen(c"empty"));
        make_opaque(dir.as_fd()).expect("opaque");
        announce_marked(dir.as_fd()).expect("announced");
        assert_eq!(xattr::get(&dir, OPAQUE).expect("get").as_deref(), Some(&b"y"[..]), "it stays opaque");
    }
}
