//! Files that hide what lies in the layers below: as layer archives name them,
//! and as overlayfs keeps them.
//!
//! Source: OCI image-spec, layer.md, "Whiteouts"; Linux, Documentation/
//! filesystems/overlayfs.rst, "whiteouts and opaque directories".

use super::tar_header::{malformed, show};
use crate::error::{BestEffort, Context, Error, Result};
use crate::sys::xattr;
use rustix::fs::{AtFlags, FileType, Mode, Stat, mknodat, statat, unlinkat};
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

/// Marks a directory whose lower layers are hidden (mounted with `userxattr`).
pub(crate) const OPAQUE: &CStr = c"user.overlay.opaque";

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

/// Whether this is overlayfs's whiteout: character device 0:0.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Makes a whiteout. The one device that needs no privilege, since Linux 5.8.
pub(crate) fn make_whiteout(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
    mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)
}

/// Whether whiteouts can be made in this directory, by doing: an overlay, such as the
/// root file system of a container, refuses them or does not show them.
pub(crate) fn can_be_made(dir: BorrowedFd<'_>) -> bool {
    let name = c"whiteout.tried";
    let made = make_whiteout(dir, name).is_ok();
    let seen = made && statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| is_whiteout(&stat));
    unlinkat(dir, name, AtFlags::empty()).or_ignore();
    seen
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
}
