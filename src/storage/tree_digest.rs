//! One digest of everything that a tree holds: to find out whether the files of
//! a layer are still what was unpacked.

use super::descent::OPEN_DIR;
use super::sorted::{SortedWalk, Step};
use crate::error::{Context, Result};
use crate::sys::xattr;
use crate::types::digest::Digest;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, statat};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes read from a file at once.
const PIECE: usize = 128 << 10;

/// The digest of names, types, modes, owners, sizes, contents, links, times of
/// files, and attributes. The times of directories and of whiteouts are left
/// out: where an archive does not give them they are those of the unpacking.
///
/// # Errors
/// Where something cannot be read.
pub(crate) fn tree_digest(root: BorrowedFd<'_>) -> Result<Digest> {
    let root = openat(root, c".", OPEN_DIR, Mode::empty()).context(|| "open a tree")?;
    let mut sum = Sum { hasher: Sha256::new(), linked: HashMap::new(), buffer: vec![0; PIECE] };
    let stat = rustix::fs::fstat(&root).context(|| "look at the root of a tree")?;
    sum.head(b"", &stat);
    sum.attributes(root.as_fd())?;
    let mut walk = SortedWalk::new(root)?;
    while let Some(step) = walk.next()? {
        match step {
            Step::Entry(name) => {
                let path = walk.path_of(&name);
                let below = sum
                    .entry(walk.directory(), &name, &path)
                    .context(|| format!("read {}", String::from_utf8_lossy(&path)))?;
                if let Some(directory) = below {
                    walk.descend(&name, directory)?;
                }
            }
            Step::Leave => {}
        }
    }
    Ok(Digest::finish(sum.hasher))
}

struct Sum {
    hasher: Sha256,
    /// Device and inode of files with several names, and the number of the first.
    linked: HashMap<(u64, u64), u64>,
    buffer: Vec<u8>,
}

impl Sum {
    /// Adds one entry; gives the directory to go down into.
    fn entry(&mut self, parent: BorrowedFd<'_>, name: &CStr, path: &[u8]) -> Result<Option<OwnedFd>> {
        let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).context(|| "look at it")?;
        self.head(path, &stat);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let directory = openat(parent, name, OPEN_DIR, Mode::empty()).context(|| "open it")?;
                self.attributes(directory.as_fd())?;
                return Ok(Some(directory));
            }
            FileType::RegularFile => {
                let next = self.linked.len() as u64 + 1;
                if stat.st_nlink > 1 {
                    let first = *self.linked.entry((stat.st_dev, stat.st_ino)).or_insert(next);
                    self.number(first);
                    if first != next {
                        return Ok(None);
                    }
                }
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = openat(parent, name, flags, Mode::empty()).context(|| "open it")?;
                self.attributes(file.as_fd())?;
                self.content(&file)?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new()).context(|| "read the link")?;
                self.text(target.to_bytes());
            }
            _ => self.number(stat.st_rdev),
        }
        Ok(None)
    }

    fn head(&mut self, path: &[u8], stat: &Stat) {
        self.text(path);
        for number in [u64::from(stat.st_mode), u64::from(stat.st_uid), u64::from(stat.st_gid)] {
            self.number(number);
        }
        if matches!(
            FileType::from_raw_mode(stat.st_mode),
            FileType::RegularFile | FileType::Symlink | FileType::Fifo
        ) {
            self.number(stat.st_size as u64);
            self.number(stat.st_mtime as u64);
            self.number(stat.st_mtime_nsec);
        }
    }

    fn attributes(&mut self, file: BorrowedFd<'_>) -> Result<()> {
        let mut names = match xattr::list(file) {
            // A file system without attributes.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Vec::new(),
            result => result.context(|| "list its attributes")?,
        };
        // Labels are the host's, not the layer's.
        names.retain(|name| name.to_bytes() != b"security.selinux");
        names.sort();
        self.number(names.len() as u64);
        for name in names {
            let value = xattr::get(file, &name).context(|| "read an attribute")?;
            self.text(name.to_bytes());
            self.text(&value.unwrap_or_default());
        }
        Ok(())
    }

    /// Holes are read as zeros: whether they are holes is the disk's affair.
    fn content(&mut self, file: &OwnedFd) -> Result<()> {
        loop {
            match rustix::io::read(file, &mut self.buffer[..]) {
                Ok(0) => return Ok(()),
                Ok(count) => self.hasher.update(&self.buffer[..count]),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context(|| "read it"),
            }
        }
    }

    /// With its length, so that no two lists of texts are the same bytes.
    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.hasher.update(text);
    }

    fn number(&mut self, number: u64) {
        self.hasher.update(number.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn digest(path: &Path) -> Digest {
        tree_digest(fs::File::open(path).expect("open").as_fd()).expect("digest")
    }

    #[test]
    fn each_change_of_a_file_changes_the_digest() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("d")).expect("mkdir");
        fs::write(path("d/f"), "abc").expect("write");
        fs::write(path("g"), "abc").expect("write");
        std::os::unix::fs::symlink("f", path("d/l")).expect("symlink");
        let mut seen = vec![digest(dir.path())];
        assert_eq!(seen[0], digest(dir.path()));
        let mut changed = |what: &str| {
            let now = digest(dir.path());
            assert!(!seen.contains(&now), "{what}");
            seen.push(now);
        };
        let times = fs::metadata(path("d/f")).and_then(|meta| meta.modified()).expect("time");
        fs::write(path("d/f"), "abd").expect("write");
        fs::File::options()
            .write(true)
            .open(path("d/f"))
            .and_then(|file| file.set_modified(times))
            .expect("time");
        changed("a bit of its content");
        fs::File::options()
            .write(true)
            .open(path("d/f"))
            .and_then(|file| file.set_modified(times + std::time::Duration::from_nanos(1)))
            .expect("time");
        changed("a nanosecond");
        fs::set_permissions(path("d/f"), fs::Permissions::from_mode(0o4755)).expect("chmod");
        changed("its mode");
        fs::remove_file(path("d/l"))
            .and_then(|()| std::os::unix::fs::symlink("g", path("d/l")))
            .expect("symlink");
        changed("a link");
        fs::rename(path("g"), path("h")).expect("rename");
        changed("a name");
        fs::hard_link(path("h"), path("i")).expect("link");
        changed("a second name");
        fs::remove_file(path("i")).and_then(|()| fs::copy(path("h"), path("i"))).expect("copy");
        changed("a copy instead");
    }
}
