//! The contents of one directory into another: to seed a volume from an image's
//! root file system (hostile, and perhaps in use), and to copy a layer with
//! other owners. Names are never followed through links; what changes meanwhile
//! is copied in one state or another, or is an error.

use super::descent::{Descent, OPEN_DIR, Visit, walk};
use super::live::refused;
use super::whiteout::{is_whiteout, make_whiteout};
use crate::error::{Context, Error, Result};
use crate::sys::xattr;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, SeekFrom, Stat, Timespec, Timestamps, Uid,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Gives the owner and group of a copy from those of the original.
pub(crate) type OwnerMap<'a> = &'a dyn Fn(u32, u32) -> (u32, u32);

/// Copies what is in `source` into the directory `destination`: owners as
/// `owner` says, modes, times, user attributes and file capabilities, hard
/// links, holes, fifos and whiteouts. Devices and sockets are left out. The two
/// directories themselves are not changed; see [`copy_attributes`].
///
/// # Errors
/// With errno EEXIST where a file of that name is there already: nothing is
/// ever overwritten.
pub(crate) fn copy_tree(
    source: BorrowedFd<'_>,
    destination: BorrowedFd<'_>,
    owner: OwnerMap<'_>,
) -> Result<()> {
    let open =
        |dir| rustix::fs::openat(dir, c".", OPEN_DIR, Mode::empty()).context(|| "open a directory to copy");
    let mut copy = Copy {
        owner,
        into: Descent::new(open(destination)?),
        root: destination,
        path: Vec::new(),
        linked: HashMap::new(),
        buffer: Vec::new(),
    };
    walk(open(source)?, &mut copy)
}

/// Gives an open directory or file the owner, attributes, mode and times of another.
pub(crate) fn copy_attributes(
    source: BorrowedFd<'_>,
    destination: BorrowedFd<'_>,
    owner: OwnerMap<'_>,
) -> Result<()> {
    let stat = rustix::fs::fstat(source).context(|| "look at what is copied")?;
    let (uid, gid) = owner(stat.st_uid, stat.st_gid);
    rustix::fs::fchown(destination, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .map_err(|errno| refused(errno, uid, gid))?;
    copy_xattrs(source, destination)?;
    // After the owner, whose change takes setuid bits away.
    rustix::fs::fchmod(destination, Mode::from_raw_mode(stat.st_mode & 0o7777)).context(|| "set a mode")?;
    rustix::fs::futimens(destination, &times(&stat)).context(|| "set times")
}

struct Copy<'a> {
    owner: OwnerMap<'a>,
    /// The copy of the directory that is being walked.
    into: Descent,
    root: BorrowedFd<'a>,
    /// Of the directory that is being walked, below the root, with a `/` behind
    /// each component.
    path: Vec<u8>,
    /// Device and inode of originals with several names, and where the copy is.
    linked: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl Visit for Copy<'_> {
    fn enter(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>> {
        let source = match rustix::fs::openat(parent, name, OPEN_DIR, Mode::empty()) {
            Ok(source) => source,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error).context(|| self.action("open", name)),
        };
        rustix::fs::mkdirat(self.into.current(), name, Mode::RWXU).context(|| self.action("copy", name))?;
        let copy = rustix::fs::openat(self.into.current(), name, OPEN_DIR, Mode::empty())
            .context(|| self.action("copy", name))?;
        self.into.push(copy)?;
        self.path.extend_from_slice(name.to_bytes());
        self.path.push(b'/');
        Ok(Some(source))
    }

    fn file(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error).context(|| self.action("look at", name)),
        };
        if stat.st_nlink > 1 && self.link(&stat, name)? {
            return Ok(());
        }
        self.one(parent, name, &stat).map_err(|error| error.context(self.action("copy", name)))?;
        if stat.st_nlink > 1 {
            self.linked.insert((stat.st_dev, stat.st_ino), [&self.path, name.to_bytes()].concat());
        }
        Ok(())
    }

    fn leave(&mut self, _: BorrowedFd<'_>, name: &CStr, source: OwnedFd) -> Result<()> {
        let length = self.path.len().saturating_sub(name.to_bytes().len() + 1);
        self.path.truncate(length);
        let Some(copy) = self.into.pop()? else { return Ok(()) };
        copy_attributes(source.as_fd(), copy.as_fd(), self.owner)
            .map_err(|error| error.context(self.action("copy", name)))
    }
}

impl Copy<'_> {
    fn action(&self, verb: &str, name: &CStr) -> String {
        format!("{verb} {}{}", String::from_utf8_lossy(&self.path), name.to_string_lossy())
    }

    /// Gives the copy of a file that was met before a second name. `false` where
    /// there is none, or where it lies too deep for a path: then it is copied again.
    fn link(&self, stat: &Stat, name: &CStr) -> Result<bool> {
        let Some(first) = self.linked.get(&(stat.st_dev, stat.st_ino)) else { return Ok(false) };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (above, last) = match first.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&first[..at], &first[at + 1..]),
            None => (&b"."[..], first.as_slice()),
        };
        match rustix::fs::openat2(self.root, above, flags | OFlags::DIRECTORY, Mode::empty(), resolve) {
            Ok(dir) => rustix::fs::linkat(dir, last, self.into.current(), name, AtFlags::empty())
                .context(|| self.action("link", name))
                .map(|()| true),
            Err(Errno::NAMETOOLONG) => Ok(false),
            Err(error) => Err(error).context(|| self.action("link", name)),
        }
    }

    fn one(&mut self, parent: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<()> {
        let into = self.into.current();
        if is_whiteout(parent, name.to_bytes(), stat) {
            return make_whiteout(into, name).context(|| "make a whiteout");
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                // Without blocking, should it have become a fifo by now.
                let flags =
                    OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                let source = rustix::fs::openat(parent, name, flags, Mode::empty()).context(|| "open it")?;
                let now = rustix::fs::fstat(&source).context(|| "look at it")?;
                if FileType::from_raw_mode(now.st_mode) != FileType::RegularFile {
                    return Err(Error::conflict("it changed while it was copied"));
                }
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let copy =
                    rustix::fs::openat(into, name, flags, Mode::RUSR | Mode::WUSR).context(|| "make it")?;
                copy_data(source.as_fd(), copy.as_fd(), &now, &mut self.buffer)?;
                return copy_attributes(source.as_fd(), copy.as_fd(), self.owner);
            }
            FileType::Symlink => {
                let text = rustix::fs::readlinkat(parent, name, Vec::new()).context(|| "read it")?;
                rustix::fs::symlinkat(text.as_c_str(), into, name).context(|| "make it")?;
            }
            FileType::Fifo => {
                rustix::fs::mknodat(into, name, FileType::Fifo, Mode::RUSR, 0).context(|| "make it")?;
            }
            _ => return Ok(()),
        }
        let (uid, gid) = (self.owner)(stat.st_uid, stat.st_gid);
        let (owner, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(into, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| refused(errno, uid, gid))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo {
            // The name was made above, in a directory that is ours alone.
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
            rustix::fs::chmodat(into, name, mode, AtFlags::empty()).context(|| "set its mode")?;
        }
        rustix::fs::utimensat(into, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW).context(|| "set its times")
    }
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as i64 },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as i64 },
    }
}

/// User attributes, overlayfs's own among them, and file capabilities.
fn copy_xattrs(source: BorrowedFd<'_>, destination: BorrowedFd<'_>) -> Result<()> {
    let names = match xattr::list(source) {
        Ok(names) => names,
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(()),
        Err(error) => return Err(error).context(|| "list attributes"),
    };
    for name in names {
        let bytes = name.to_bytes();
        if !bytes.starts_with(b"user.") && bytes != b"security.capability" {
            continue;
        }
        let Some(value) = xattr::get(source, &name).context(|| "read an attribute")? else { continue };
        match xattr::set(destination, &name, &value) {
            Err(error)
                if error.raw_os_error() == Some(libc::EOPNOTSUPP) && !bytes.starts_with(b"user.overlay.") => {
            }
            result => result.context(|| format!("set the attribute {}", name.to_string_lossy()))?,
        }
    }
    Ok(())
}

/// The data, by the cheapest way that the file systems have: shared blocks, a
/// copy inside the kernel, or read and write. Holes stay holes. As much as the
/// file had when it was looked at: a container may make it longer all the time.
pub(super) fn copy_data(
    source: BorrowedFd<'_>,
    copy: BorrowedFd<'_>,
    stat: &Stat,
    buffer: &mut Vec<u8>,
) -> Result<()> {
    let size = stat.st_size as u64;
    if size == 0 || rustix::fs::ioctl_ficlone(copy, source).is_ok() {
        return Ok(());
    }
    if stat.st_blocks as u64 * 512 >= size {
        return copy_range(source, copy, (0, size), buffer);
    }
    let mut end = 0;
    loop {
        let begin = match rustix::fs::seek(source, SeekFrom::Data(end)) {
            Ok(begin) if begin < size => begin,
            Ok(_) | Err(Errno::NXIO) => break,
            Err(error) => return Err(error).context(|| "find its data"),
        };
        end = rustix::fs::seek(source, SeekFrom::Hole(begin)).context(|| "find its holes")?.min(size);
        copy_range(source, copy, (begin, end), buffer)?;
    }
    rustix::fs::ftruncate(copy, size).context(|| "set its length")
}

/// Bytes from `start` up to `end` or the end of the file, to the same place.
fn copy_range(
    source: BorrowedFd<'_>,
    copy: BorrowedFd<'_>,
    (start, end): (u64, u64),
    buffer: &mut Vec<u8>,
) -> Result<()> {
    let (mut from, mut to) = (start, start);
    while from < end {
        let most = usize::try_from((end - from).min(1 << 30)).unwrap_or(1 << 30);
        match rustix::fs::copy_file_range(source, Some(&mut from), copy, Some(&mut to), most) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => {
                return copy_by_hand(source, copy, (from, end), buffer);
            }
            Err(error) => return Err(error).context(|| "copy its data"),
        }
    }
    Ok(())
}

fn copy_by_hand(
    source: BorrowedFd<'_>,
    copy: BorrowedFd<'_>,
    (mut from, end): (u64, u64),
    buffer: &mut Vec<u8>,
) -> Result<()> {
    buffer.resize(128 << 10, 0);
    while from < end {
        let most = usize::try_from(end - from).unwrap_or(usize::MAX).min(buffer.len());
        let count = match rustix::io::pread(source, &mut buffer[..most], from) {
            Ok(0) => return Ok(()),
            Err(Errno::INTR) => continue,
            result => result.context(|| "read its data")?,
        };
        let mut done = 0;
        while done < count {
            match rustix::io::pwrite(copy, &buffer[done..count], from + done as u64) {
                Err(Errno::INTR) => {}
                result => done += result.context(|| "write its data")?,
            }
        }
        from += count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::whiteout::is_device;
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::{Path, PathBuf};

    fn open(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OPEN_DIR, Mode::empty()).expect("open")
    }

    fn two_directories() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let temp = tempfile::tempdir().expect("tempdir");
        let (from, to) = (temp.path().join("from"), temp.path().join("to"));
        fs::create_dir(&from).expect("mkdir");
        fs::create_dir(&to).expect("mkdir");
        (temp, from, to)
    }

    fn copy(from: &Path, to: &Path) -> Result<()> {
        copy_tree(open(from).as_fd(), open(to).as_fd(), &|uid, gid| (uid, gid))
    }

    #[test]
    fn everything_a_tree_holds_is_copied() {
        let (_temp, from, to) = two_directories();
        fs::create_dir_all(from.join("d/e")).expect("mkdir");
        fs::write(from.join("d/f"), "content").expect("write");
        fs::hard_link(from.join("d/f"), from.join("d/e/second")).expect("link");
        fs::hard_link(from.join("d/f"), from.join("third")).expect("link");
        std::os::unix::fs::symlink("/etc/passwd", from.join("link")).expect("symlink");
        let dir = open(&from);
        make_whiteout(dir.as_fd(), c"gone").expect("whiteout");
        rustix::fs::mknodat(&dir, c"pipe", FileType::Fifo, Mode::RWXU, 0).expect("fifo");
        xattr::set(open(&from.join("d")), c"user.overlay.opaque", b"y").expect("xattr");
        let sparse = fs::File::create(from.join("sparse")).expect("create");
        sparse.set_len(8 << 20).expect("length");
        std::os::unix::fs::FileExt::write_at(&sparse, b"middle", 4 << 20).expect("write");
        fs::set_permissions(from.join("d/f"), fs::Permissions::from_mode(0o4751)).expect("chmod");
        fs::set_permissions(from.join("d"), fs::Permissions::from_mode(0o1555)).expect("chmod");
        let time = Timespec { tv_sec: 1_500_000_000, tv_nsec: 123_456_789 };
        let old = Timestamps { last_access: time, last_modification: time };
        for path in ["d/f", "d", "link", "pipe"] {
            rustix::fs::utimensat(&dir, path, &old, AtFlags::SYMLINK_NOFOLLOW).expect("times");
        }
        copy(&from, &to).expect("copied");

        let stat =
            |path: &str| to.join(path).symlink_metadata().unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(fs::read_to_string(to.join("d/f")).expect("read"), "content");
        assert_eq!(stat("d/f").mode() & 0o7777, 0o4751);
        assert_eq!(stat("d").mode() & 0o7777, 0o1555);
        for path in ["d/f", "d", "link", "pipe"] {
            assert_eq!((stat(path).mtime(), stat(path).mtime_nsec()), (1_500_000_000, 123_456_789), "{path}");
        }
        assert_eq!((stat("d/f").nlink(), stat("d/f").ino()), (3, stat("third").ino()));
        assert_eq!(fs::read_link(to.join("link")).expect("link"), Path::new("/etc/passwd"));
        assert_eq!(stat("pipe").mode(), libc::S_IFIFO | 0o700);
        assert!(is_device(&rustix::fs::lstat(to.join("gone")).expect("stat")));
        assert_eq!(
            xattr::get(open(&to.join("d")), c"user.overlay.opaque").expect("xattr"),
            Some(b"y".to_vec())
        );
        assert_eq!(stat("sparse").len(), 8 << 20);
        assert!(stat("sparse").blocks() * 512 < 1 << 20);
        assert_eq!(&fs::read(to.join("sparse")).expect("read")[4 << 20..(4 << 20) + 6], b"middle");
        assert!(copy(&from, &to).is_err(), "nothing is overwritten");
    }

    #[test]
    fn data_is_the_same_by_each_way() {
        let (_temp, from, to) = two_directories();
        let content: Vec<u8> = (0..400_000_u32).map(|number| number as u8).collect();
        fs::write(from.join("f"), &content).expect("write");
        let source = fs::File::open(from.join("f")).expect("open");
        let copy = fs::File::create(to.join("by-hand")).expect("create");
        copy_by_hand(source.as_fd(), copy.as_fd(), (0, u64::MAX), &mut Vec::new()).expect("copied");
        let copy = fs::File::create(to.join("kernel")).expect("create");
        copy_range(source.as_fd(), copy.as_fd(), (0, u64::MAX), &mut Vec::new()).expect("copied");
        assert_eq!(fs::read(to.join("by-hand")).expect("read"), content);
        assert_eq!(fs::read(to.join("kernel")).expect("read"), content);
    }

    #[test]
    fn owners_are_mapped() {
        if !crate::storage::owners_can_be_kept() {
            eprintln!("skipped: this process cannot give files to other owners");
            return;
        }
        let (_temp, from, to) = two_directories();
        fs::create_dir(from.join("d")).expect("mkdir");
        fs::write(from.join("d/f"), "x").expect("write");
        std::os::unix::fs::symlink("x", from.join("d/l")).expect("symlink");
        std::os::unix::fs::lchown(from.join("d/f"), Some(3), Some(4)).expect("chown");
        let owner = |uid, gid| (uid + 10, gid + 20);
        copy_tree(open(&from).as_fd(), open(&to).as_fd(), &owner).expect("copied");
        let ids = |path: &str| {
            let meta = to.join(path).symlink_metadata().expect("stat");
            (meta.uid(), meta.gid())
        };
        assert_eq!((ids("d"), ids("d/f"), ids("d/l")), ((10, 20), (13, 24), (10, 20)));
    }
}
