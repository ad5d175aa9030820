//! One of the trees, and how an operation is done to it.

use super::operation::{Bytes, Operation, Path, SLOTS, Time};
use super::snapshot::{Shown, attributes, shown};
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What a program sees of an operation.
pub(super) type Outcome = Result<String, Errno>;

pub(super) struct Tree {
    root: OwnedFd,
    slots: [Option<OwnedFd>; SLOTS],
}

impl Tree {
    pub(super) fn open(root: &std::path::Path) -> Self {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Self { root: fs::open(root, flags, Mode::empty()).unwrap(), slots: Default::default() }
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    fn slot(&self, slot: usize) -> rustix::io::Result<BorrowedFd<'_>> {
        self.slots[slot].as_ref().map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    fn at(&self, path: &Path, flags: OFlags, mode: u32) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        fs::openat(&self.root, &*path.0, flags, Mode::from_raw_mode(mode & 0o7777))
    }

    /// For the calls that take a path alone.
    fn name(&self, path: &Path) -> Vec<u8> {
        [format!("/proc/self/fd/{}/", self.root.as_raw_fd()).as_bytes(), &path.0].concat()
    }

    pub(super) fn apply(&mut self, operation: &Operation) -> Outcome {
        match operation {
            Operation::Open { slot, path, flags, mode } => {
                self.slots[*slot] = None;
                self.slots[*slot] = Some(self.at(path, *flags, *mode)?);
                Ok(String::new())
            }
            Operation::Temporary { slot, directory, mode } => {
                self.slots[*slot] = None;
                self.slots[*slot] = Some(self.at(directory, OFlags::TMPFILE | OFlags::RDWR, *mode)?);
                Ok(String::new())
            }
            Operation::Close { slot } => {
                self.slots[*slot] = None;
                Ok(String::new())
            }
            Operation::Remount => Ok(String::new()),
            other => self.on_slot(other).or_else(|| self.on_name(other)).unwrap(),
        }
    }

    fn on_slot(&self, operation: &Operation) -> Option<Outcome> {
        let result = match operation {
            Operation::WriteTo { slot, bytes } => self.slot(*slot).and_then(|fd| write(fd, *bytes)),
            Operation::ReadFrom { slot, offset, length } => {
                self.slot(*slot).and_then(|fd| read(fd, *offset, *length))
            }
            Operation::Resize { slot, size } => {
                self.slot(*slot).and_then(|fd| done(fs::ftruncate(fd, *size)))
            }
            Operation::Allocate { slot, flags, offset, length } => {
                self.slot(*slot).and_then(|fd| done(fs::fallocate(fd, *flags, *offset, *length)))
            }
            Operation::Seek { slot, offset } => self.slot(*slot).and_then(|fd| seek(fd, *offset)),
            Operation::StatOf { slot } => self.slot(*slot).and_then(|fd| Ok(stat(&fs::fstat(fd)?))),
            Operation::ModeOf { slot, mode } => {
                self.slot(*slot).and_then(|fd| done(fs::fchmod(fd, Mode::from_raw_mode(*mode))))
            }
            Operation::TimesOf { slot, time } => self.slot(*slot).and_then(|fd| {
                fs::futimens(fd, &times(*time))?;
                Ok(accessed(&fs::fstat(fd)?))
            }),
            Operation::WriteMapped { slot, bytes } => {
                self.slot(*slot).and_then(|fd| super::mapped::write(fd, bytes.offset, &bytes.make()))
            }
            Operation::Copy { from, to, length } => self.copy(*from, *to, *length),
            Operation::LinkOf { slot, path } => self.slot(*slot).and_then(|fd| {
                let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
                done(fs::linkat(fs::CWD, name, &self.root, &*path.0, AtFlags::SYMLINK_FOLLOW))
            }),
            Operation::SyncOf { slot } => self.slot(*slot).and_then(|fd| done(fs::fsync(fd))),
            _ => return None,
        };
        Some(result)
    }

    fn on_name(&self, operation: &Operation) -> Option<Outcome> {
        let root = self.root.as_fd();
        let result = match operation {
            Operation::Write { path, bytes, flags } => {
                self.at(path, *flags, 0o644).and_then(|fd| write(fd.as_fd(), *bytes))
            }
            Operation::Read { path } => {
                self.at(path, OFlags::RDONLY, 0).and_then(|fd| read(fd.as_fd(), 0, 300_000))
            }
            // There is no truncateat(2); O_RDONLY is refused as a directory is.
            Operation::Truncate { path, size } => {
                self.at(path, OFlags::WRONLY, 0).and_then(|fd| done(fs::ftruncate(fd, *size)))
            }
            Operation::MakeDirectory { path, mode } => {
                done(fs::mkdirat(root, &*path.0, Mode::from_raw_mode(*mode)))
            }
            Operation::RemoveDirectory { path } => done(fs::unlinkat(root, &*path.0, AtFlags::REMOVEDIR)),
            Operation::Unlink { path } => done(fs::unlinkat(root, &*path.0, AtFlags::empty())),
            Operation::Rename { from, to, flags } => {
                done(fs::renameat_with(root, &*from.0, root, &*to.0, *flags))
            }
            Operation::Link { from, to } => done(fs::linkat(root, &*from.0, root, &*to.0, AtFlags::empty())),
            Operation::Symlink { target, path } => done(fs::symlinkat(&*target.0, root, &*path.0)),
            Operation::ReadLink { path } => fs::readlinkat(root, &*path.0, Vec::new())
                .map(|target| target.as_bytes().escape_ascii().to_string()),
            Operation::Fifo { path, mode } => {
                done(fs::mknodat(root, &*path.0, FileType::Fifo, Mode::from_raw_mode(*mode), 0))
            }
            Operation::Whiteout { path } => {
                done(fs::mknodat(root, &*path.0, FileType::CharacterDevice, Mode::empty(), 0))
            }
            other => return self.on_inode(other),
        };
        Some(result)
    }

    fn on_inode(&self, operation: &Operation) -> Option<Outcome> {
        let root = self.root.as_fd();
        let link = AtFlags::SYMLINK_NOFOLLOW;
        let result = match operation {
            Operation::Mode { path, mode } => {
                done(fs::chmodat(root, &*path.0, Mode::from_raw_mode(*mode), AtFlags::empty()))
            }
            Operation::Owner { path, uid, gid } => {
                let uid = Some(*uid).filter(|id| *id != u32::MAX).map(Uid::from_raw);
                let gid = Some(*gid).filter(|id| *id != u32::MAX).map(Gid::from_raw);
                done(fs::chownat(root, &*path.0, uid, gid, link))
            }
            Operation::Times { path, time } => fs::utimensat(root, &*path.0, &times(*time), link)
                .and_then(|()| Ok(accessed(&fs::statat(root, &*path.0, link)?))),
            Operation::SetAttribute { path, name, length, flags } => {
                let value = vec![*length as u8; *length];
                done(fs::lsetxattr(self.name(path), *name, &value, *flags))
            }
            Operation::RemoveAttribute { path, name } => done(fs::lremovexattr(self.name(path), *name)),
            Operation::Attributes { path } => self
                .at(path, OFlags::RDONLY | OFlags::NOFOLLOW, 0)
                .and_then(|fd| Ok(format!("{:?}", attributes(fd.as_fd(), Shown::User)?))),
            Operation::List { path } => self.list(path),
            Operation::Stat { path } => fs::statat(root, &*path.0, link).map(|status| stat(&status)),
            _ => return None,
        };
        Some(result)
    }

    fn list(&self, path: &Path) -> Outcome {
        let fd = self.at(path, OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
        let mut names = Vec::new();
        for entry in fs::Dir::new(fd)? {
            let entry = entry?;
            names.push(format!("{} {:?}", entry.file_name().to_bytes().escape_ascii(), entry.file_type()));
        }
        names.sort();
        Ok(names.join("\n"))
    }

    fn copy(&self, from: (usize, u64), to: (usize, u64), length: usize) -> Outcome {
        let (source, target) = (self.slot(from.0)?, self.slot(to.0)?);
        let (mut read, mut written) = (from.1, to.1);
        let mut left = length;
        while left > 0 {
            match fs::copy_file_range(source, Some(&mut read), target, Some(&mut written), left) {
                Ok(0) => break,
                Ok(count) => left -= count,
                Err(errno) if left == length => return Err(errno),
                Err(errno) => return Ok(format!("{} {errno}", length - left)),
            }
        }
        Ok((length - left).to_string())
    }
}

fn done(result: rustix::io::Result<()>) -> Outcome {
    result.map(|()| String::new())
}

fn write(fd: BorrowedFd<'_>, bytes: Bytes) -> Outcome {
    rustix::io::pwrite(fd, &bytes.make(), bytes.offset).map(|count| count.to_string())
}

fn read(fd: BorrowedFd<'_>, offset: u64, length: usize) -> Outcome {
    let mut buffer = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match rustix::io::pread(fd, &mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(super::snapshot::digest(&buffer[..filled]))
}

/// File systems differ in what they hold to be a hole, not in where the end is.
fn seek(fd: BorrowedFd<'_>, offset: u64) -> Outcome {
    let stat = fs::fstat(fd)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(String::new());
    }
    let size = stat.st_size as u64;
    if let Ok(start) = fs::seek(fd, SeekFrom::Data(offset)) {
        assert!(start >= offset && start < size.max(1), "data at {start} of {size}, sought from {offset}");
    }
    let hole = fs::seek(fd, SeekFrom::Hole(offset))?;
    Ok(format!("{}", hole >= offset && hole <= size))
}

fn times((seconds, nanoseconds): Time) -> Timestamps {
    let modified = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    // Another, so that the two cannot be confused.
    let accessed = Timespec { tv_sec: seconds + 1, tv_nsec: nanoseconds / 2 };
    Timestamps { last_access: accessed, last_modification: modified }
}

fn accessed(status: &fs::Stat) -> String {
    format!("{}.{:09} {}", status.st_atime, status.st_atime_nsec, stat(status))
}

fn stat(status: &fs::Stat) -> String {
    format!("{:?}", shown(status, Shown::User))
}
