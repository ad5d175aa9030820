//! A layer archive into a directory, in overlayfs's format. The archive is
//! hostile from its first byte.
//!
//! Every call is beneath a directory fd and on one component, so that no link in
//! the archive leads out of the tree. The directory being filled is private to
//! this process until it is published. Where docker has a rule it is followed:
//! a later entry replaces an earlier one, except that a directory over a
//! directory keeps what is in it; links in the path of an entry are followed
//! inside the tree; whiteouts hide only what the layers below hold.

mod parents;
#[cfg(test)]
mod tests;

use super::tar_header::{malformed, show};
use super::tar_stream::{Entry, Kind, TarStream};
use super::usage::{disk_usage, remove_tree};
use super::whiteout::{Marker, hint, is_whiteout, make_opaque, make_whiteout, marker, note_marked};
use crate::error::{Cause, Context, Error, Result, Trouble};
use crate::sys::{fault, xattr};
use crate::types::digest::Digest;
use parents::{Missing, Parents};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Whose the files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// The ids of the archive, as the caller's user namespace maps them.
    Keep,
    /// All belong to the caller: for a namespace that maps a single id.
    Squash,
}

/// What came out of an archive.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// Of the whole stream, padding included: the layer's diff id.
    pub(crate) digest: Digest,
    /// Bytes in files, hard links once.
    pub(crate) bytes: u64,
}

/// Fills the empty directory `root` from a tar stream, which is read to its end.
///
/// # Errors
/// `Invalid` for a malformed archive, `Failed` where the kernel refuses; `root`
/// then holds a part of it.
pub(crate) fn unpack(root: OwnedFd, tar: &mut dyn Read, ownership: Ownership) -> Result<Unpacked> {
    let mut tree = Tree {
        parents: Parents::new(root),
        owner: Owner::new(ownership),
        bytes: 0,
        replaced: false,
        hides: false,
    };
    let mut stream = TarStream::new(tar);
    while let Some(entry) = stream.next_entry()? {
        fault::point().context(|| format!("unpack {}", show(&entry.path)))?;
        tree.place(&entry, &mut stream)
            .map_err(|error| error.context(format!("unpack {}", show(&entry.path))))?;
    }
    let digest = stream.finish()?;
    Ok(Unpacked { digest, bytes: tree.finish()? })
}

/// What a file has besides its content.
#[derive(Clone, Copy, Debug)]
struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    /// Seconds and nanoseconds; `None` leaves the time of the unpacking.
    mtime: Option<(i64, u32)>,
}

impl Attributes {
    /// Of directories that the archive does not describe.
    const IMPLICIT: Self = Self { mode: 0o755, uid: 0, gid: 0, mtime: None };

    fn of(entry: &Entry) -> Self {
        Self { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: Some(entry.mtime) }
    }

    fn times(&self) -> Option<Timestamps> {
        let (tv_sec, nanoseconds) = self.mtime?;
        let time = Timespec { tv_sec, tv_nsec: nanoseconds.into() };
        Some(Timestamps { last_access: time, last_modification: time })
    }

    /// Sets all of them on an open file. The owner first: a change of owner
    /// takes setuid bits and capabilities away.
    fn apply(&self, file: BorrowedFd<'_>, owner: Owner, xattrs: &[(CString, Vec<u8>)]) -> Result<()> {
        if let Some((uid, gid)) = owner.change(self) {
            rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(|errno| unmapped(errno, self))?;
        }
        owner.set_xattrs(file, xattrs)?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(self.mode)).context(|| "set its mode")?;
        if let Some(times) = self.times() {
            rustix::fs::futimens(file, &times).context(|| "set its times")?;
        }
        Ok(())
    }
}

/// Decides on owners.
#[derive(Clone, Copy)]
struct Owner {
    ownership: Ownership,
    /// What a new file belongs to without our doing.
    own: (u32, u32),
}

impl Owner {
    fn new(ownership: Ownership) -> Self {
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self { ownership, own }
    }

    /// The owner to set; `None` where it is right already.
    fn change(self, attributes: &Attributes) -> Option<(Uid, Gid)> {
        let wanted = (attributes.uid, attributes.gid);
        (self.ownership == Ownership::Keep && wanted != self.own)
            .then(|| (Uid::from_raw(wanted.0), Gid::from_raw(wanted.1)))
    }

    fn set_xattrs(self, file: BorrowedFd<'_>, xattrs: &[(CString, Vec<u8>)]) -> Result<()> {
        for (name, value) in xattrs {
            match xattr::set(file, name, value) {
                Ok(()) => {}
                // A file system without attributes; docker loses them there too.
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                // File capabilities need more than one mapped id in some kernels.
                Err(error)
                    if error.raw_os_error() == Some(libc::EPERM) && self.ownership == Ownership::Squash => {}
                Err(error) => {
                    return Err(error).context(|| format!("set the attribute {}", name.to_string_lossy()));
                }
            }
        }
        Ok(())
    }
}

/// What a refused change of owner means: user_namespaces(7), EINVAL.
fn unmapped(errno: Errno, attributes: &Attributes) -> Error {
    let Attributes { uid, gid, .. } = attributes;
    if errno == Errno::INVAL {
        return Error::failed(format!("its owner {uid}:{gid} is not mapped in the user namespace"))
            .hint(format!(
                "/etc/subuid and /etc/subgid must give this user at least {} ids",
                u64::from((*uid).max(*gid)).max(65_536)
            ))
            .see_doctor(Trouble::Ids);
    }
    errno.into_error().context(format!("give it to {uid}:{gid}"))
}

struct Tree {
    parents: Parents,
    owner: Owner,
    /// Sum of what was written.
    bytes: u64,
    /// Something written is gone again, so the sum is too high.
    replaced: bool,
    /// It hides something of the layers below.
    hides: bool,
}

impl Tree {
    fn place(&mut self, entry: &Entry, stream: &mut TarStream<'_>) -> Result<()> {
        let (above, name) = split(&entry.path);
        match marker(&entry.path)? {
            Marker::Ignored => return Ok(()),
            Marker::Opaque => {
                return make_opaque(reopen(self.parents.open(above, Missing::Make)?.as_fd())?.as_fd());
            }
            Marker::Whiteout(hidden) => return self.whiteout(above, hidden),
            Marker::None => {}
        }
        if entry.path.is_empty() {
            return self.root(entry);
        }
        let parent = self.parents.open(above, Missing::Make)?;
        let parent = parent.as_fd();
        match entry.kind {
            Kind::File => self.file(parent, name, entry, stream),
            Kind::Directory => self.directory(parent, name, entry),
            Kind::HardLink => self.hard_link(parent, name, entry),
            Kind::Symlink => {
                self.fresh(parent, name, || rustix::fs::symlinkat(entry.link.as_slice(), parent, name))?;
                self.bytes += entry.link.len() as u64;
                self.describe_by_name(parent, name, entry)
            }
            Kind::Fifo => {
                let mode = Mode::RUSR;
                self.fresh(parent, name, || rustix::fs::mknodat(parent, name, FileType::Fifo, mode, 0))?;
                self.describe_by_name(parent, name, entry)
            }
            // docker skips them in a user namespace too. Also 0:0, which would
            // otherwise be a whiteout that no reader of the archive sees.
            Kind::Device => Ok(()),
        }
    }

    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(malformed("the root is not a directory"));
        }
        let root = self.parents.root();
        self.owner.set_xattrs(reopen(root.as_fd())?.as_fd(), &entry.xattrs)?;
        self.parents.describe(root.as_fd(), Attributes::of(entry))
    }

    fn file(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
        stream: &mut TarStream<'_>,
    ) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = self.fresh(parent, name, || rustix::fs::openat(parent, name, flags, mode))?;
        match &entry.chunks {
            None => copy(file.as_fd(), stream, u64::MAX)?,
            Some(chunks) => {
                for (offset, length) in chunks {
                    rustix::fs::seek(&file, SeekFrom::Start(*offset)).context(|| "seek in it")?;
                    copy(file.as_fd(), stream, *length)?;
                }
                rustix::fs::ftruncate(&file, entry.size).context(|| "set its length")?;
            }
        }
        self.bytes = self.bytes.saturating_add(entry.size);
        Attributes::of(entry).apply(file.as_fd(), self.owner, &entry.xattrs)
    }

    /// The mode and the time are set at the end: the archive may describe a
    /// directory before its files, and files change its time.
    fn directory(&mut self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<()> {
        let directory = match self.parents.make(parent, name) {
            Err(error) if error.errno() == Some(libc::EEXIST) => self.directory_over(parent, name)?,
            result => result?,
        };
        self.parents.describe(directory.as_fd(), Attributes::of(entry))?;
        if !entry.xattrs.is_empty() {
            self.owner.set_xattrs(reopen(directory.as_fd())?.as_fd(), &entry.xattrs)?;
        }
        self.parents.entered(&entry.path, directory);
        Ok(())
    }

    /// A directory where there is something already.
    fn directory_over(&mut self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
        match parents::open_one(parent, name) {
            Err(Errno::NOTDIR | Errno::LOOP) => {}
            result => return result.context(|| "open it"),
        }
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).context(|| "look at it")?;
        let hides = is_whiteout(parent, name, &stat);
        self.clear(parent, name)?;
        let directory = self.parents.make(parent, name)?;
        if hides {
            make_opaque(reopen(directory.as_fd())?.as_fd())?;
        }
        Ok(directory)
    }

    /// A second name for a file of this archive. Links on the way to it are
    /// followed inside the tree; where the target is itself a symbolic link, the
    /// link gets the second name, as in GNU tar.
    fn hard_link(&mut self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<()> {
        let (above, target) = split(&entry.link);
        if target.is_empty() {
            return Err(malformed("a hard link to the root"));
        }
        let missing = |error: Error| error.context(format!("follow the hard link to {}", show(&entry.link)));
        let above = self.parents.open(above, Missing::Refuse).map_err(missing)?;
        let stat = rustix::fs::statat(&above, target, AtFlags::SYMLINK_NOFOLLOW)
            .context(|| format!("follow the hard link to {}", show(&entry.link)))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Symlink | FileType::Fifo
                if !is_whiteout(above.as_fd(), target, &stat) => {}
            // A whiteout would hide a second name.
            _ => return Err(malformed(format!("a hard link to {}, which is not a file", show(&entry.link)))),
        }
        let existing = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
        if existing.is_ok_and(|existing| (existing.st_dev, existing.st_ino) == (stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        self.fresh(parent, name, || rustix::fs::linkat(&above, target, parent, name, AtFlags::empty()))
    }

    /// Hides `name` of the layers below. What this archive has there stays: the
    /// specification lets a whiteout speak of lower layers only, in any order.
    fn whiteout(&mut self, above: &[u8], name: &[u8]) -> Result<()> {
        let parent = self.parents.open(above, Missing::Make)?;
        let name = CString::new(name).map_err(|_| malformed("a NUL byte in a name"))?;
        if !std::mem::replace(&mut self.hides, true) {
            note_marked(self.parents.root().as_fd());
        }
        match make_whiteout(parent.as_fd(), &name) {
            Err(Errno::EXIST) => match parents::open_one(parent.as_fd(), name.to_bytes()) {
                Ok(directory) => make_opaque(reopen(directory.as_fd())?.as_fd()),
                Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(error) => Err(error).context(|| "open it"),
            },
            result => result.context(|| "make a whiteout").map_err(hint),
        }
    }

    /// Owner, mode and time of what cannot be opened without side effects. The
    /// name was made by the call before, and nobody else writes here.
    fn describe_by_name(&self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<()> {
        let attributes = Attributes::of(entry);
        if let Some((uid, gid)) = self.owner.change(&attributes) {
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|errno| unmapped(errno, &attributes))?;
        }
        if entry.kind == Kind::Fifo {
            let mode = Mode::from_raw_mode(attributes.mode);
            rustix::fs::chmodat(parent, name, mode, AtFlags::empty()).context(|| "set its mode")?;
        }
        match attributes.times() {
            Some(times) => rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
                .context(|| "set its times"),
            None => Ok(()),
        }
    }

    /// Makes `name` with `make`, after removing what an earlier entry left there.
    fn fresh<T>(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T> {
        match make() {
            Err(Errno::EXIST) => {
                self.clear(parent, name)?;
                make()
            }
            result => result,
        }
        .context(|| "make it")
    }

    fn clear(&mut self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        self.replaced = true;
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                self.parents.forget();
                let name = CString::new(name).map_err(|_| malformed("a NUL byte in a name"))?;
                remove_tree(parent, &name)
            }
            result => result.context(|| "replace it"),
        }
    }

    /// Describes the directories; gives the bytes that are there.
    fn finish(self) -> Result<u64> {
        let root = self.parents.root();
        self.parents.finish(self.owner)?;
        if self.replaced {
            return disk_usage(root.as_fd()).map(|(bytes, _)| bytes);
        }
        Ok(self.bytes)
    }
}

/// The directory and the last component.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// A directory held with O_PATH, opened for calls that refuse such an fd.
fn reopen(directory: BorrowedFd<'_>) -> Result<OwnedFd> {
    rustix::fs::openat(directory, c".", super::descent::OPEN_DIR, Mode::empty())
        .context(|| "open a directory")
}

/// At most `most` bytes of the current entry into `file`.
fn copy(file: BorrowedFd<'_>, stream: &mut TarStream<'_>, mut most: u64) -> Result<()> {
    while let Some(mut piece) = stream.data(most)? {
        most -= piece.len() as u64;
        while !piece.is_empty() {
            fault::point().context(|| "write it")?;
            match rustix::io::write(file, piece) {
                Ok(count) => piece = &piece[count..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).context(|| "write it"),
            }
        }
    }
    Ok(())
}
