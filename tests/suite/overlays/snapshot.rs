//! All that a tree is, for comparison with others and for a copy of it.

use rustix::fs::{self, AtFlags, Dir, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How much is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// What programs see, and must be the same in every tree.
    User,
    /// Everything, to see whether something was written.
    All,
}

/// Times before this were set, not taken from the clock: 2010-01-01.
const CLOCK: i64 = 1_262_304_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    kind: FileType,
    mode: u32,
    owner: (u32, u32),
    size: i64,
    links: u32,
    device: u64,
    /// Where it was set.
    modified: Option<(i64, i64)>,
    changed: Option<(i64, i64)>,
}

pub(super) fn shown(stat: &fs::Stat, how: Shown) -> Status {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let directory = kind == FileType::Directory;
    let all = how == Shown::All;
    let modified = (stat.st_mtime, stat.st_mtime_nsec as i64);
    Status {
        kind,
        mode: stat.st_mode & 0o7777,
        owner: (stat.st_uid, stat.st_gid),
        size: if directory { 0 } else { stat.st_size },
        // Whiteouts may be links of each other.
        links: if directory || kind == FileType::CharacterDevice { 1 } else { stat.st_nlink as u32 },
        device: stat.st_rdev,
        modified: (all || modified.0 < CLOCK).then_some(modified),
        changed: all.then_some((stat.st_ctime, stat.st_ctime_nsec as i64)),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    status: Status,
    attributes: BTreeMap<String, Vec<u8>>,
    /// A file's bytes, a link's target.
    content: Content,
    /// The first path of the same file.
    first: String,
}

#[derive(Clone, PartialEq, Eq)]
struct Content(Vec<u8>);

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", digest(&self.0))
    }
}

/// Short and readable: equal for equal bytes.
pub(super) fn digest(bytes: &[u8]) -> String {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    let start = bytes[..bytes.len().min(12)].escape_ascii().to_string();
    format!("{} bytes {start}.. {:016x}", bytes.len(), hasher.finish())
}

pub(super) type Snapshot = BTreeMap<String, Entry>;

pub(super) fn attributes(fd: BorrowedFd<'_>, how: Shown) -> rustix::io::Result<BTreeMap<String, Vec<u8>>> {
    let mut list = vec![0; 4096];
    let length = fs::flistxattr(fd, &mut list)?;
    let mut all = BTreeMap::new();
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if how == Shown::All || name.starts_with(b"user.") {
            let mut value = vec![0; 4096];
            let length = fs::fgetxattr(fd, name, &mut value)?;
            value.truncate(length);
            all.insert(String::from_utf8_lossy(name).into_owned(), value);
        }
    }
    Ok(all)
}

const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK);

fn open_directory(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    fs::openat(dir, name, READ | OFlags::DIRECTORY, Mode::empty())
}

fn names(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The names that directories have and nothing is behind.
pub(super) fn ghosts(root: BorrowedFd<'_>) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut ghosts = Vec::new();
    let mut ahead = vec![b".".to_vec()];
    while let Some(path) = ahead.pop() {
        for name in names(open_directory(root, &path)?.as_fd())? {
            let path = [&path, b"/".as_slice(), &name].concat();
            match fs::statat(root, &*path, AtFlags::SYMLINK_NOFOLLOW) {
                Err(rustix::io::Errno::NOENT) => ghosts.push(path),
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => ahead.push(path),
                result => result.map(drop)?,
            }
        }
    }
    Ok(ghosts)
}

/// # Errors
/// With the path of what cannot be read.
pub(super) fn take(root: BorrowedFd<'_>, how: Shown) -> Result<Snapshot, String> {
    let mut walk = Walk { how, all: Snapshot::new(), seen: HashMap::new() };
    walk.entry(root, b".", "")?;
    Ok(walk.all)
}

struct Walk {
    how: Shown,
    all: Snapshot,
    seen: HashMap<(u64, u64), String>,
}

impl Walk {
    fn entry(&mut self, dir: BorrowedFd<'_>, name: &[u8], above: &str) -> Result<(), String> {
        let path = match above {
            "" => ".".to_owned(),
            above => format!("{above}/{}", name.escape_ascii()),
        };
        self.read(dir, name, &path).map_err(|errno| format!("{path}: {errno}"))?;
        if self.all[&path].status.kind == FileType::Directory {
            let own = open_directory(dir, name).map_err(|errno| format!("{path}: {errno}"))?;
            for name in names(own.as_fd()).map_err(|errno| format!("{path}: {errno}"))? {
                self.entry(own.as_fd(), &name, &path)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &str) -> rustix::io::Result<()> {
        let stat = fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let status = shown(&stat, self.how);
        let (mut content, mut all) = (Vec::new(), BTreeMap::new());
        match status.kind {
            FileType::RegularFile => {
                let fd = fs::openat(dir, name, READ, Mode::empty())?;
                content = bytes(fd.as_fd())?;
                all = attributes(fd.as_fd(), self.how)?;
            }
            FileType::Directory => all = attributes(open_directory(dir, name)?.as_fd(), self.how)?,
            FileType::Symlink => content = fs::readlinkat(dir, name, Vec::new())?.into_bytes(),
            _ => {}
        }
        let first = self.seen.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.to_owned()).clone();
        let entry = Entry { status, attributes: all, content: Content(content), first };
        self.all.insert(path.to_owned(), entry);
        Ok(())
    }
}

fn bytes(fd: BorrowedFd<'_>) -> rustix::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match rustix::io::read(fd, &mut buffer)? {
            0 => return Ok(all),
            count => all.extend_from_slice(&buffer[..count]),
        }
    }
}

/// What of the names of one file can be compared.
#[derive(Clone, Copy)]
pub(super) struct Names {
    /// Which they are. In the kernel's overlay their numbers can differ.
    pub(super) known: bool,
}

/// How two trees differ, or nothing.
pub(super) fn differ(one: &Snapshot, other: &Snapshot, names: Names) -> Option<String> {
    let mut faults = Vec::new();
    let paths: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
    for path in paths {
        let (mut one, mut other) = (one.get(path).cloned(), other.get(path).cloned());
        for entry in [&mut one, &mut other].into_iter().flatten() {
            if !names.known {
                entry.first.clear();
            }
        }
        if one != other {
            faults.push(format!("{path}:\n    {one:?}\n    {other:?}"));
        }
    }
    (!faults.is_empty()).then(|| faults.join("\n  "))
}

/// Makes the tree `to` what `from` is, with hard links and times.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
    copy_directory(from, to, to, &mut HashMap::new(), &[])
}

fn copy_directory(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
    seen: &mut HashMap<u64, Vec<u8>>,
    above: &[u8],
) -> rustix::io::Result<()> {
    for name in names(from)? {
        let path = if above.is_empty() { name.clone() } else { [above, b"/", &name].concat() };
        let stat = fs::statat(from, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            fs::mkdirat(to, &*name, Mode::RWXU)?;
            let (source, target) = (open_directory(from, &name)?, open_directory(to, &name)?);
            copy_directory(source.as_fd(), target.as_fd(), root, seen, &path)?;
            continue;
        }
        if let Some(first) = seen.get(&stat.st_ino).filter(|_| stat.st_nlink > 1) {
            fs::linkat(root, &**first, to, &*name, AtFlags::empty())?;
            continue;
        }
        seen.insert(stat.st_ino, path);
        match kind {
            FileType::RegularFile => {
                let source = fs::openat(from, &*name, READ, Mode::empty())?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let target = fs::openat(to, &*name, flags, Mode::RWXU)?;
                let all = bytes(source.as_fd())?;
                assert_eq!(rustix::io::pwrite(&target, &all, 0)?, all.len());
                copy_attributes(source.as_fd(), target.as_fd())?;
            }
            FileType::Symlink => fs::symlinkat(fs::readlinkat(from, &*name, Vec::new())?, to, &*name)?,
            _ => fs::mknodat(to, &*name, kind, Mode::RWXU, stat.st_rdev)?,
        }
        copy_status(&stat, to, &name)?;
    }
    copy_attributes(from, to)?;
    copy_status(&fs::fstat(from)?, to, b".")
}

fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
    for (name, value) in attributes(from, Shown::User)? {
        fs::fsetxattr(to, name, &value, XattrFlags::empty())?;
    }
    Ok(())
}

fn copy_status(stat: &fs::Stat, to: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        fs::chmodat(to, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
    }
    let time = |tv_sec: i64, tv_nsec: i64| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec as i64),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec as i64),
    };
    fs::utimensat(to, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}
