//! Extended attributes: whose names the container sees, and those that are the
//! overlay's own.
//!
//! Attributes are reached by name below an open directory (through
//! `/proc/self/fd`), because links and fifos cannot be opened.
//! Source: Documentation/filesystems/overlayfs.rst, "Nesting overlayfs mounts".

use super::inode::{Inode, State};
use super::links::Group;
use super::merged::Merged;
use super::wire::{Answer, SetXattr};
use crate::error::{Context, Error, Result, Trouble};
use crate::storage::whiteout::{HAS_MARKED, OPAQUE, hint};
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The overlay's own, with `userxattr`.
const OWN: &[u8] = b"user.overlay.";
/// A container's own `user.overlay.` has this instead, on disk.
const ESCAPED: &[u8] = b"user.overlay.overlay.";
/// `trusted.` of a container (which only root of the host could set).
const TRUSTED: &[u8] = b"user.overlay.coracle.trusted.";
/// The number that stat(2) shows, eight bytes, little-endian.
const ORIGIN: &CStr = c"user.overlay.coracle.origin";
/// See [`super::links`]: `COUNT KEY`.
pub(super) const GROUP: &CStr = c"user.overlay.coracle.group";
/// On a directory of the upper layer: what is in it may be copies, whose numbers
/// are not their own. The kernel's overlay sets it too.
const IMPURE: &CStr = c"user.overlay.impure";
/// Bytes: XATTR_SIZE_MAX, XATTR_LIST_MAX.
const LARGEST: usize = 64 << 10;
/// XATTR_NAME_MAX.
const LONGEST_NAME: usize = 255;

/// A file by its directory and name; by itself where the name is empty.
struct Place {
    path: CString,
    follow: bool,
}

impl Place {
    fn new(dir: BorrowedFd<'_>, name: &CStr) -> Self {
        let mut path = format!("/proc/self/fd/{}", dir.as_raw_fd()).into_bytes();
        let follow = name.is_empty();
        if !follow {
            path.push(b'/');
            path.extend_from_slice(name.to_bytes());
        }
        Self { path: CString::new(path).unwrap_or_default(), follow }
    }

    fn get_into(&self, name: &CStr, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        if self.follow {
            rustix::fs::getxattr(&*self.path, name, buffer)
        } else {
            rustix::fs::lgetxattr(&*self.path, name, buffer)
        }
    }

    fn get(&self, name: &CStr) -> Answer<Vec<u8>> {
        grow(|buffer| self.get_into(name, buffer))
    }

    fn list(&self) -> Answer<Vec<u8>> {
        grow(|buffer| {
            if self.follow {
                rustix::fs::listxattr(&*self.path, buffer)
            } else {
                rustix::fs::llistxattr(&*self.path, buffer)
            }
        })
    }

    /// The names that the container sees, each with its NUL byte.
    fn list_shown(&self) -> Answer<Vec<u8>> {
        let names = match self.list() {
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            names => names?,
        };
        let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        Ok(names.filter_map(shown).flat_map(|name| [name, vec![0]].concat()).collect())
    }

    fn set(&self, name: &CStr, value: &[u8], flags: XattrFlags) -> Answer<()> {
        if self.follow {
            rustix::fs::setxattr(&*self.path, name, value, flags)
        } else {
            rustix::fs::lsetxattr(&*self.path, name, value, flags)
        }
    }

    fn remove(&self, name: &CStr) -> Answer<()> {
        if self.follow {
            rustix::fs::removexattr(&*self.path, name)
        } else {
            rustix::fs::lremovexattr(&*self.path, name)
        }
    }
}

fn grow(call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> Answer<Vec<u8>> {
    for size in [256, 4 << 10, LARGEST] {
        let mut buffer = vec![0; size];
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::TOOBIG)
}

/// Whether what lies below this directory is hidden.
pub(super) fn is_opaque(dir: BorrowedFd<'_>) -> bool {
    is_opaque_at(dir, c"")
}

pub(super) fn is_opaque_at(dir: BorrowedFd<'_>, name: &CStr) -> bool {
    opaque_is(dir, name, b"y")
}

/// Whether whiteouts of this directory may be files with a mark.
pub(super) fn has_marked(dir: BorrowedFd<'_>) -> bool {
    opaque_is(dir, c"", HAS_MARKED)
}

fn opaque_is(dir: BorrowedFd<'_>, name: &CStr, wanted: &[u8]) -> bool {
    let mut value = [0; 8];
    matches!(Place::new(dir, name).get_into(OPAQUE, &mut value), Ok(length) if &value[..length] == wanted)
}

pub(super) fn make_opaque_at(dir: BorrowedFd<'_>, name: &CStr) -> Answer<()> {
    Place::new(dir, name).set(OPAQUE, b"y", XattrFlags::empty())
}

pub(super) fn origin_at(dir: BorrowedFd<'_>, name: &CStr) -> Option<u64> {
    let mut value = [0; 8];
    match Place::new(dir, name).get_into(ORIGIN, &mut value) {
        Ok(8) => Some(u64::from_le_bytes(value)),
        _ => None,
    }
}

/// Writes down where a copy came from. A file system that takes no such
/// attribute on links and fifos goes without.
pub(super) fn set_origin_at(dir: BorrowedFd<'_>, name: &CStr, ino: u64) -> Answer<()> {
    match Place::new(dir, name).set(ORIGIN, &ino.to_le_bytes(), XattrFlags::empty()) {
        Err(Errno::PERM | Errno::OPNOTSUPP) => Ok(()),
        result => result,
    }
}

pub(super) fn group_at(dir: BorrowedFd<'_>, name: &CStr) -> Option<Group> {
    let value = String::from_utf8(Place::new(dir, name).get(GROUP).ok()?).ok()?;
    let (count, key) = value.split_once(' ')?;
    let plain = key.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let key = CString::new(key).ok().filter(|_| plain)?.into_boxed_c_str();
    Some(Group { key, uncopied: count.parse().ok()? })
}

pub(super) fn set_group_at(dir: BorrowedFd<'_>, name: &CStr, group: &Group) -> Answer<()> {
    let value = format!("{} {}", group.uncopied, group.key.to_string_lossy());
    Place::new(dir, name).set(GROUP, value.as_bytes(), XattrFlags::empty())
}

/// Whether the entries of a directory of the upper layer may be copies.
pub(super) fn is_impure(dir: BorrowedFd<'_>) -> bool {
    matches!(Place::new(dir, c"").get_into(IMPURE, &mut [0; 8]), Ok(length) if length > 0)
}

pub(super) fn make_impure(dir: BorrowedFd<'_>) -> Answer<()> {
    Place::new(dir, c"").set(IMPURE, b"y", XattrFlags::empty())
}

/// # Errors
/// `Failed`, with a hint, where this file system cannot hold the overlay's marks.
pub(super) fn probe(dir: BorrowedFd<'_>) -> Result<()> {
    make_opaque_at(dir, c"")
        .and_then(|()| Place::new(dir, c"").remove(OPAQUE))
        .context(|| "mark a directory of the container's own layer (the attribute user.overlay.opaque)")
        .map_err(hint)
        .map_err(|error: Error| {
            error
                .hint("XDG_STATE_HOME is where containers have their own layer")
                .see_doctor(Trouble::Attributes)
        })
}

/// The name on disk of an attribute of the container's, with its NUL byte.
///
/// # Errors
/// ERANGE for one that would be too long.
fn on_disk(name: &CStr) -> Answer<CString> {
    let bytes = name.to_bytes();
    let longer = if let Some(rest) = bytes.strip_prefix(OWN) {
        [ESCAPED, rest].concat()
    } else if let Some(rest) = bytes.strip_prefix(b"trusted.") {
        [TRUSTED, rest].concat()
    } else {
        return Ok(name.to_owned());
    };
    if longer.len() > LONGEST_NAME {
        return Err(Errno::RANGE);
    }
    CString::new(longer).map_err(|_| Errno::INVAL)
}

/// The container's name of an attribute on disk; `None` for the overlay's own.
fn shown(name: &[u8]) -> Option<Vec<u8>> {
    if let Some(rest) = name.strip_prefix(TRUSTED) {
        return Some([b"trusted.", rest].concat());
    }
    if let Some(rest) = name.strip_prefix(ESCAPED) {
        return Some([OWN, rest].concat());
    }
    (!name.starts_with(OWN)).then(|| name.to_owned())
}

/// Copies what a copy must have of its original: `from` and `to` are files by
/// directory and name.
pub(super) fn copy(from: (BorrowedFd<'_>, &CStr), to: (BorrowedFd<'_>, &CStr)) -> Answer<()> {
    let (from, to) = (Place::new(from.0, from.1), Place::new(to.0, to.1));
    let names = match from.list() {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        names => names?,
    };
    for name in names.split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        let bytes = name.to_bytes();
        if bytes.starts_with(OWN) && !bytes.starts_with(ESCAPED) {
            continue;
        }
        let value = match from.get(name) {
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS) => continue,
            value => value?,
        };
        match to.set(name, &value, XattrFlags::empty()) {
            // What this user cannot give (security.selinux and the like), the
            // upper directory's file system decides itself.
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL) => {}
            result => result?,
        }
    }
    Ok(())
}

const CAPABILITIES: &CStr = c"security.capability";

/// Takes away the file capabilities, as every write does.
pub(super) fn drop_capabilities(dir: BorrowedFd<'_>, name: &CStr) {
    // ENODATA almost always.
    if Place::new(dir, name).remove(CAPABILITIES).is_err() {}
}

/// The file capabilities, if there are any.
pub(super) fn capabilities(file: BorrowedFd<'_>) -> Answer<Option<Vec<u8>>> {
    match Place::new(file, c"").get(CAPABILITIES) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

pub(super) fn set_capabilities(file: BorrowedFd<'_>, value: &[u8]) -> Answer<()> {
    Place::new(file, c"").set(CAPABILITIES, value, XattrFlags::empty())
}

const DEFAULT_ACL: &CStr = c"system.posix_acl_default";

/// Copies a directory's default ACL to another, so that what is made there
/// inherits it.
pub(super) fn copy_default_acl(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Answer<()> {
    match Place::new(from, c"").get(DEFAULT_ACL) {
        Ok(value) => Place::new(to, c"").set(DEFAULT_ACL, &value, XattrFlags::empty()),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Whether what is made in the directory inherits an ACL from it.
pub(super) fn has_default_acl(inode: &Inode, upper: BorrowedFd<'_>) -> bool {
    if inode.plain.load(Ordering::Relaxed) || inode.no_default_acl.load(Ordering::Relaxed) {
        return false;
    }
    let found = has_default_acl_on_disk(upper);
    inode.no_default_acl.store(!found, Ordering::Relaxed);
    found
}

pub(super) fn has_default_acl_on_disk(dir: BorrowedFd<'_>) -> bool {
    let found = Place::new(dir, c"").get_into(DEFAULT_ACL, &mut []);
    !matches!(found, Err(Errno::NODATA | Errno::OPNOTSUPP))
}

impl Merged {
    pub(super) fn get_attribute(&self, node: u64, name: &CStr) -> Answer<Vec<u8>> {
        let inode = self.inode(node)?;
        if inode.plain.load(Ordering::Relaxed) {
            return Err(Errno::NODATA);
        }
        let disk = on_disk(name)?;
        let state = inode.state();
        self.with_place(&inode, &state, |place| {
            let found = place.get(&disk);
            // Nobody sets one before the state is let go of.
            if found == Err(Errno::NODATA) && place.list_shown().is_ok_and(|names| names.is_empty()) {
                inode.plain.store(true, Ordering::Relaxed);
            }
            found
        })
    }

    pub(super) fn list_attributes(&self, node: u64) -> Answer<Vec<u8>> {
        let inode = self.inode(node)?;
        if inode.plain.load(Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        let state = inode.state();
        self.with_place(&inode, &state, Place::list_shown)
    }

    pub(super) fn set_attribute(&self, node: u64, name: &CStr, value: &[u8], how: SetXattr) -> Answer<()> {
        let inode = self.inode(node)?;
        let disk = on_disk(name)?;
        self.copy_up(&inode)?;
        super::caller::resume()?;
        let state = inode.state_mut();
        inode.plain.store(false, Ordering::Relaxed);
        inode.no_default_acl.store(false, Ordering::Relaxed);
        let flags = XattrFlags::from_bits_retain(how.flags);
        self.with_place(&inode, &state, |place| place.set(&disk, value, flags))?;
        if how.kill_sgid {
            let mode = self.stat_of(&inode, &state)?.st_mode;
            if mode & libc::S_ISGID != 0 {
                self.set_mode(&inode, &state, mode & !libc::S_ISGID)?;
            }
        }
        Ok(())
    }

    pub(super) fn remove_attribute(&self, node: u64, name: &CStr) -> Answer<()> {
        let inode = self.inode(node)?;
        let disk = on_disk(name)?;
        // Not copied up for what it has not got.
        let has = |place: &Place| place.get_into(&disk, &mut []);
        match self.with_place(&inode, &inode.state(), has) {
            // As on other file systems: there is none, as was asked for.
            Err(Errno::NODATA) if name.to_bytes().starts_with(b"system.posix_acl_") => return Ok(()),
            found => found?,
        };
        self.copy_up(&inode)?;
        super::caller::resume()?;
        self.with_place(&inode, &inode.state_mut(), |place| place.remove(&disk))
    }

    /// For who holds the state: whoever sets or removes, alone.
    fn with_place<T>(
        &self,
        inode: &Arc<Inode>,
        state: &State,
        call: impl FnOnce(&Place) -> Answer<T>,
    ) -> Answer<T> {
        if inode.is_dir() {
            let parts = self.parts_of(inode, state)?;
            let (_, top) = parts.all().next().ok_or(Errno::NOENT)?;
            return call(&Place::new(top, c""));
        }
        self.at(state, |dir, name| call(&Place::new(dir.as_fd(), name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_both_ways() {
        for (seen, disk) in [
            (c"user.a", c"user.a"),
            (c"user.overlay.opaque", c"user.overlay.overlay.opaque"),
            (c"user.overlay.overlay.x", c"user.overlay.overlay.overlay.x"),
            (c"trusted.t", c"user.overlay.coracle.trusted.t"),
            (c"security.capability", c"security.capability"),
        ] {
            assert_eq!(&*on_disk(seen).expect("fits"), disk);
            assert_eq!(shown(disk.to_bytes()).as_deref(), Some(seen.to_bytes()));
        }
        for own in [OPAQUE, ORIGIN, GROUP, IMPURE] {
            assert_eq!(shown(own.to_bytes()), None);
        }
        let long = CString::new([b"trusted.".as_slice(), &[b'x'; 240]].concat()).expect("name");
        assert_eq!(on_disk(&long), Err(Errno::RANGE));
    }
}
