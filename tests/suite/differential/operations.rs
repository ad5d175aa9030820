//! What is done to the trees.

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags,
};
use rustix::io::Errno;
use std::path::Path;

/// Few names, so that operations meet; some of them are in the layers.
const NAMES: [&str; 9] = ["a", "b", "dir", "dir/a", "dir/sub", "dir/sub/x", "opaque/new", "other", "other/b"];
const XATTRS: [&str; 3] = ["user.one", "user.two", "user.overlay.opaque"];

#[derive(Clone, Debug)]
pub(super) enum Operation {
    Create { path: &'static str, exclusive: bool, data: usize },
    Write { path: &'static str, offset: u64, data: usize },
    Truncate { path: &'static str, size: u64 },
    Punch { path: &'static str, offset: u64, length: u64 },
    Mkdir(&'static str),
    Rmdir(&'static str),
    Unlink(&'static str),
    Rename { from: &'static str, to: &'static str, flags: u32 },
    Link { from: &'static str, to: &'static str },
    Symlink(&'static str),
    Fifo(&'static str),
    Whiteout(&'static str),
    Chmod { path: &'static str, mode: u32 },
    Chown { path: &'static str, uid: u32, gid: u32 },
    Times { path: &'static str, seconds: i64, nanoseconds: u32 },
    SetXattr { path: &'static str, name: &'static str },
    RemoveXattr { path: &'static str, name: &'static str },
    OpenUnlinked { path: &'static str, data: usize },
    Temporary { path: &'static str, data: usize },
    Look(&'static str),
}

/// Xorshift: the same seed, the same operations.
pub(super) struct Generator(u64);

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, count: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % count
    }

    fn path(&mut self) -> &'static str {
        NAMES[self.below(NAMES.len() as u64) as usize]
    }

    pub(super) fn next(&mut self) -> Operation {
        let (path, other) = (self.path(), self.path());
        let size = [0, 1, 100, 5000, 70_000][self.below(5) as usize];
        let name = XATTRS[self.below(XATTRS.len() as u64) as usize];
        match self.below(24) {
            0..=2 => Operation::Create { path, exclusive: self.below(2) == 0, data: size as usize },
            3 | 4 => Operation::Write { path, offset: self.below(9000), data: size as usize },
            5 => Operation::Truncate { path, size },
            6 => Operation::Punch { path, offset: self.below(3) * 4096, length: 1 + size },
            7 | 8 => Operation::Mkdir(path),
            9 => Operation::Rmdir(path),
            10 | 11 => Operation::Unlink(path),
            12..=14 => Operation::Rename { from: path, to: other, flags: self.below(3) as u32 },
            15 => Operation::Link { from: path, to: other },
            16 => Operation::Symlink(path),
            17 if self.below(2) == 0 => Operation::Fifo(path),
            17 => Operation::Whiteout(path),
            18 => Operation::Chmod { path, mode: [0o644, 0o600, 0o755, 0o777][self.below(4) as usize] },
            19 => Operation::Chown { path, uid: self.below(3) as u32, gid: self.below(3) as u32 },
            20 => Operation::Times {
                path,
                seconds: self.below(1 << 30) as i64,
                nanoseconds: self.below(1 << 29) as u32,
            },
            21 if self.below(2) == 0 => Operation::RemoveXattr { path, name },
            21 => Operation::SetXattr { path, name },
            22 if self.below(2) == 0 => Operation::OpenUnlinked { path, data: size as usize },
            22 => Operation::Temporary { path, data: size as usize },
            _ => Operation::Look(path),
        }
    }
}

/// Does it below `root`: what it gives, or the errno.
pub(super) fn apply(root: &Path, operation: &Operation) -> Result<String, i32> {
    run(root, operation).map_err(Errno::raw_os_error)
}

fn run(root: &Path, operation: &Operation) -> Result<String, Errno> {
    let at = |path: &str| root.join(path);
    let open = |path: &str, flags: OFlags| {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::open(at(path), flags, Mode::from_raw_mode(0o644))
    };
    let done = |()| String::new();
    match *operation {
        Operation::Create { path, exclusive, data } => {
            let how = if exclusive { OFlags::EXCL } else { OFlags::TRUNC };
            let file = open(path, OFlags::CREATE | OFlags::RDWR | how)?;
            rustix::io::pwrite(&file, &vec![b'c'; data], 0).map(|count| count.to_string())
        }
        Operation::Write { path, offset, data } => {
            let file = open(path, OFlags::RDWR)?;
            rustix::io::pwrite(&file, &vec![b'w'; data], offset)?;
            Ok(rustix::fs::fstat(&file)?.st_size.to_string())
        }
        Operation::Truncate { path, size } => {
            let file = open(path, OFlags::RDWR)?;
            rustix::fs::ftruncate(&file, size).map(done)
        }
        Operation::Punch { path, offset, length } => {
            let file = open(path, OFlags::RDWR)?;
            let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(&file, how, offset, length).map(done)
        }
        Operation::Mkdir(path) => rustix::fs::mkdir(at(path), Mode::from_raw_mode(0o755)).map(done),
        Operation::Rmdir(path) => rustix::fs::rmdir(at(path)).map(done),
        Operation::Unlink(path) => rustix::fs::unlink(at(path)).map(done),
        Operation::Rename { from, to, flags } => {
            let flags = RenameFlags::from_bits_retain(flags);
            rustix::fs::renameat_with(CWD, at(from), CWD, at(to), flags).map(done)
        }
        Operation::Link { from, to } => {
            rustix::fs::linkat(CWD, at(from), CWD, at(to), AtFlags::empty()).map(done)
        }
        Operation::Symlink(path) => rustix::fs::symlink("some/where", at(path)).map(done),
        Operation::Fifo(path) => {
            rustix::fs::mknodat(CWD, at(path), FileType::Fifo, Mode::from_raw_mode(0o640), 0).map(done)
        }
        // In a plain directory it would be made.
        Operation::Whiteout(path) if root.ends_with("plain") => match rustix::fs::lstat(at(path)) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) if at(path).parent().is_some_and(Path::is_dir) => Err(Errno::PERM),
            Err(errno) => Err(errno),
        },
        Operation::Whiteout(path) => {
            rustix::fs::mknodat(CWD, at(path), FileType::CharacterDevice, Mode::empty(), 0).map(done)
        }
        Operation::Chmod { path, mode } => {
            if rustix::fs::lstat(at(path))
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_symlink())
            {
                return Ok(String::new());
            }
            rustix::fs::chmod(at(path), Mode::from_raw_mode(mode)).map(done)
        }
        Operation::Chown { path, uid, gid } => {
            let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            rustix::fs::chownat(CWD, at(path), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map(done)
        }
        Operation::Times { path, seconds, nanoseconds } => {
            let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(CWD, at(path), &times, AtFlags::SYMLINK_NOFOLLOW).map(done)
        }
        Operation::SetXattr { path, name } => {
            rustix::fs::lsetxattr(at(path), name, b"value", XattrFlags::empty()).map(done)
        }
        Operation::RemoveXattr { path, name } => rustix::fs::lremovexattr(at(path), name).map(done),
        Operation::OpenUnlinked { path, data } => {
            let file = open(path, OFlags::RDWR)?;
            rustix::fs::unlink(at(path))?;
            rustix::io::pwrite(&file, &vec![b'u'; data], 3)?;
            let mut bytes = vec![0; 100];
            let count = rustix::io::pread(&file, &mut bytes, 0)?;
            Ok(format!("{} {:?}", rustix::fs::fstat(&file)?.st_size, &bytes[..count]))
        }
        Operation::Temporary { path, data } => {
            let parent = at(path).parent().map(Path::to_owned).unwrap_or_default();
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            let file = rustix::fs::open(parent, flags, Mode::from_raw_mode(0o600))?;
            rustix::io::pwrite(&file, &vec![b't'; data], 0)?;
            let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
            rustix::fs::linkat(CWD, name, CWD, at(path), AtFlags::SYMLINK_FOLLOW).map(done)
        }
        Operation::Look(path) => {
            let stat = rustix::fs::lstat(at(path))?;
            let size = if FileType::from_raw_mode(stat.st_mode).is_dir() { 0 } else { stat.st_size };
            Ok(format!("{:o} {} {} {size}", stat.st_mode, stat.st_uid, stat.st_gid))
        }
    }
}
