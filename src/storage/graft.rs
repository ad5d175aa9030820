//! Files and trees copied over each other between two roots of which either may
//! be a running container's: `cp`. Directories are merged, files replaced.
//! Unlike [`super::copy`], which fills what is new and private.

use super::copy::copy_data;
use super::descent::{Descent, OPEN_DIR, Visit, walk};
use super::live::{self, Attributes, Clash, Made, mtime, xattrs_of};
use crate::error::{Context, Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Directories below each other: real trees have a few dozen.
pub(crate) const MAX_DEPTH: usize = 1000;
/// Files with several names that are remembered to be linked again; those
/// beyond are copied anew.
const MAX_LINKED: usize = 1 << 20;
/// Bytes of a block of a tar archive.
const BLOCK: u64 = 512;
/// Bytes at the end of a tar archive.
pub(crate) const END_OF_ARCHIVE: u64 = 2 * BLOCK;

/// How copies differ from their originals.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    /// The owner of a copy by that of its original; `None` leaves it as it is made.
    pub(crate) owner: &'a dyn Fn(u32, u32) -> Option<(u32, u32)>,
    pub(crate) clash: Clash,
    /// Whether file capabilities are copied.
    pub(crate) capabilities: bool,
}

/// Copies what is in `source` into `target`, and gives that the attributes of
/// `source` where `describe` says so. Returns the bytes that it would take as a
/// tar archive, without the end: what docker counts.
///
/// # Errors
/// `Conflict` where a file is in the place of a directory or the other way
/// round, and for a directory that is to be copied into itself.
pub(crate) fn directory(source: OwnedFd, target: OwnedFd, describe: bool, rules: &Rules<'_>) -> Result<u64> {
    let step = || "look at a directory";
    let held = target.try_clone().context(step)?;
    let stat = rustix::fs::fstat(&held).context(step)?;
    let from = rustix::fs::fstat(&source).context(step)?;
    let original = describe.then(|| source.try_clone()).transpose().context(step)?;
    let mut graft = Graft {
        rules,
        root: held,
        root_id: (stat.st_dev, stat.st_ino),
        into: Descent::new(target),
        path: Vec::new(),
        devices: vec![from.st_dev],
        linked: HashMap::new(),
        buffer: Vec::new(),
        bytes: BLOCK,
    };
    if (from.st_dev, from.st_ino) == graft.root_id {
        return Err(into_itself());
    }
    walk(source, &mut graft)?;
    if let Some(original) = original {
        describe_like(original.as_fd(), graft.root.as_fd(), rules)?;
    }
    Ok(graft.bytes)
}

/// Copies the file `name`, which is no directory, to `new_name` in `target`.
///
/// # Errors
/// As [`directory`]; `Failed` for devices and sockets.
pub(crate) fn file(
    (source, name): (BorrowedFd<'_>, &CStr),
    (target, new_name): (BorrowedFd<'_>, &CStr),
    rules: &Rules<'_>,
) -> Result<u64> {
    let stat = rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW).context(|| "look at it")?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Symlink | FileType::Fifo => {}
        FileType::Directory => return Err(live::changed(name)),
        FileType::Socket => return Err(Error::failed("a socket cannot be copied")),
        _ => {
            return Err(Error::failed("a device cannot be copied")
                .hint("an ordinary user cannot make devices: use --device to share one with a container"));
        }
    }
    one((source, name), (target, new_name), &stat, (rules, &mut Vec::new()))?;
    Ok(archived(&stat))
}

fn into_itself() -> Error {
    Error::conflict("cannot copy a directory into itself")
}

/// What a file takes in a tar archive.
fn archived(stat: &Stat) -> u64 {
    let data =
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile { stat.st_size as u64 } else { 0 };
    BLOCK.saturating_add(data.div_ceil(BLOCK).saturating_mul(BLOCK))
}

/// Device and inode.
type FileId = (u64, u64);

struct Graft<'a> {
    rules: &'a Rules<'a>,
    root: OwnedFd,
    /// Of the top of the copy, which is never itself copied.
    root_id: FileId,
    /// The copy of the directory that is being walked.
    into: Descent,
    /// Of that directory, below the root, with a `/` behind each component.
    path: Vec<u8>,
    /// The devices of the source directories from the top to this one.
    devices: Vec<u64>,
    /// Originals with several names: where the copy is, and which file it is.
    linked: HashMap<FileId, (Vec<u8>, FileId)>,
    buffer: Vec<u8>,
    bytes: u64,
}

impl Visit for Graft<'_> {
    fn enter(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>> {
        let Some((source, stat)) = open_directory(parent, name).map_err(|error| self.at(name, error))? else {
            return Ok(None);
        };
        if (stat.st_dev, stat.st_ino) == self.root_id {
            return Err(into_itself());
        }
        if self.devices.len() > MAX_DEPTH {
            return Err(too_deep());
        }
        let (copy, _) = live::directory(self.into.current(), name, self.rules.clash)
            .map_err(|error| self.at(name, error))?;
        self.bytes = self.bytes.saturating_add(BLOCK);
        if self.devices.last() != Some(&stat.st_dev) && is_pseudo(source.as_fd()) {
            describe_like(source.as_fd(), copy.as_fd(), self.rules).map_err(|error| self.at(name, error))?;
            return Ok(None);
        }
        self.into.push(copy)?;
        self.devices.push(stat.st_dev);
        self.path.extend_from_slice(name.to_bytes());
        self.path.push(b'/');
        Ok(Some(source))
    }

    fn file(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        let Some(stat) = look(parent, name).map_err(|error| self.at(name, error))? else { return Ok(()) };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Symlink | FileType::Fifo => {}
            // What became a directory is not copied; devices nobody can make.
            _ => return Ok(()),
        }
        self.place(parent, name, &stat).map_err(|error| self.at(name, error))
    }

    fn leave(&mut self, _: BorrowedFd<'_>, name: &CStr, source: OwnedFd) -> Result<()> {
        let length = self.path.len().saturating_sub(name.to_bytes().len() + 1);
        self.path.truncate(length);
        self.devices.pop();
        let Some(copy) = self.into.pop()? else { return Ok(()) };
        describe_like(source.as_fd(), copy.as_fd(), self.rules).map_err(|error| self.at(name, error))
    }
}

impl Graft<'_> {
    fn at(&self, name: &CStr, error: Error) -> Error {
        error.context(format!("copy {}{}", String::from_utf8_lossy(&self.path), name.to_string_lossy()))
    }

    fn place(&mut self, parent: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<()> {
        let several = stat.st_nlink > 1;
        if several && self.link(stat, name)? {
            self.bytes = self.bytes.saturating_add(BLOCK);
            return Ok(());
        }
        let into = self.into.current();
        one((parent, name), (into, name), stat, (self.rules, &mut self.buffer))?;
        self.bytes = self.bytes.saturating_add(archived(stat));
        if several && self.linked.len() < MAX_LINKED {
            if let Ok(copy) = rustix::fs::statat(into, name, AtFlags::SYMLINK_NOFOLLOW) {
                let path = [&self.path, name.to_bytes()].concat();
                self.linked.insert((stat.st_dev, stat.st_ino), (path, (copy.st_dev, copy.st_ino)));
            }
        }
        Ok(())
    }

    /// Gives the copy of a file that was met before a second name. `false` where
    /// that copy is not to be found any more: then it is copied again.
    fn link(&self, stat: &Stat, name: &CStr) -> Result<bool> {
        let Some((first, id)) = self.linked.get(&(stat.st_dev, stat.st_ino)) else { return Ok(false) };
        let (above, last) = match first.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&first[..at], &first[at + 1..]),
            None => (&b"."[..], first.as_slice()),
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(dir) = rustix::fs::openat2(&self.root, above, flags, Mode::empty(), resolve) else {
            return Ok(false);
        };
        let there = rustix::fs::statat(&dir, last, AtFlags::SYMLINK_NOFOLLOW);
        if !there.is_ok_and(|there| (there.st_dev, there.st_ino) == *id) {
            return Ok(false);
        }
        let into = self.into.current();
        // A file that was linked so already, as in a copy made again.
        if rustix::fs::statat(into, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|there| (there.st_dev, there.st_ino) == *id)
        {
            return Ok(true);
        }
        live::fresh(into, name, self.rules.clash, || {
            rustix::fs::linkat(&dir, last, into, name, AtFlags::empty())
        })?;
        Ok(true)
    }
}

/// What there is under a name; `None` where it was removed meanwhile.
pub(super) fn look(parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<Stat>> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error).context(|| "look at it"),
    }
}

/// Opens a directory of a source with a look at it; `None` where it is none any more.
pub(crate) fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<(OwnedFd, Stat)>> {
    let directory = match rustix::fs::openat(parent, name, OPEN_DIR, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        Err(error) => return Err(error).context(|| "open the directory"),
    };
    let stat = rustix::fs::fstat(&directory).context(|| "look at the directory")?;
    Ok(Some((directory, stat)))
}

/// Opens a regular file of a source, and looks at what was opened.
pub(crate) fn open_file(parent: BorrowedFd<'_>, name: &CStr) -> Result<(OwnedFd, Stat)> {
    // Without blocking, should it have become a fifo by now.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, name, flags, Mode::empty()).context(|| "open it")?;
    let stat = rustix::fs::fstat(&file).context(|| "look at it")?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(live::changed(name));
    }
    Ok((file, stat))
}

pub(crate) fn too_deep() -> Error {
    Error::failed(format!("the tree is deeper than {MAX_DEPTH} directories"))
}

/// Whether a directory is of a file system that shows the kernel's own state:
/// what is below it are no files to be copied with the tree that it is in.
pub(crate) fn is_pseudo(directory: BorrowedFd<'_>) -> bool {
    // Linux, include/uapi/linux/magic.h; mqueue's is in ipc/mqueue.c.
    const MAGIC: [u32; 12] = [
        0x9fa0,      // proc
        0x6265_6572, // sysfs
        0x0027_e0eb, // cgroup
        0x6367_7270, // cgroup2
        0x1cd1,      // devpts
        0x1980_0202, // mqueue
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0x7363_6673, // securityfs
        0xcafe_4a11, // bpf
        0x6265_6570, // configfs
        0x6165_676c, // pstore
    ];
    rustix::fs::fstatfs(directory).is_ok_and(|stat| MAGIC.contains(&(stat.f_type as u32)))
}

/// Copies one file that is no directory.
fn one(
    (source, name): (BorrowedFd<'_>, &CStr),
    (target, new_name): (BorrowedFd<'_>, &CStr),
    stat: &Stat,
    (rules, buffer): (&Rules<'_>, &mut Vec<u8>),
) -> Result<()> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let clash = rules.clash;
    match kind {
        FileType::RegularFile => {
            let (original, now) = open_file(source, name)?;
            return match live::file(target, new_name, clash)? {
                Made::New(copy) => {
                    copy_data(original.as_fd(), copy.as_fd(), &now, buffer)?;
                    let xattrs = xattrs_of(&original, rules.capabilities)?;
                    attributes(&now, rules, &xattrs).apply(copy.as_fd())
                }
                Made::Mounted(copy) => copy_data(original.as_fd(), copy.as_fd(), &now, buffer),
            };
        }
        FileType::Symlink => {
            let text = rustix::fs::readlinkat(source, name, Vec::new()).context(|| "read the link")?;
            live::fresh(target, new_name, clash, || {
                rustix::fs::symlinkat(text.as_c_str(), target, new_name)
            })?;
        }
        _ => live::fresh(target, new_name, clash, || {
            rustix::fs::mknodat(target, new_name, FileType::Fifo, Mode::RUSR, 0)
        })?,
    }
    attributes(stat, rules, &[]).apply_unopened(target, new_name, kind)
}

fn attributes<'a>(stat: &Stat, rules: &Rules<'_>, xattrs: &'a [(CString, Vec<u8>)]) -> Attributes<'a> {
    let owner = (rules.owner)(stat.st_uid, stat.st_gid);
    Attributes { mode: stat.st_mode, owner, mtime: mtime(stat), xattrs }
}

/// Gives a directory what its original has. What belongs to somebody else and
/// was there before stays as it is.
fn describe_like(source: BorrowedFd<'_>, copy: BorrowedFd<'_>, rules: &Rules<'_>) -> Result<()> {
    let stat = rustix::fs::fstat(source).context(|| "look at the directory")?;
    let xattrs = xattrs_of(source, rules.capabilities)?;
    match attributes(&stat, rules, &xattrs).apply(copy) {
        Err(error) if error.errno() == Some(libc::EPERM) => Ok(()),
        result => result,
    }
}
