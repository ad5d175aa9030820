//! How much a tree holds, and removing it. Both beneath a directory fd, and
//! both while a container may still change the tree.

use super::descent::{OPEN_DIR, Visit, walk};
use crate::error::{Context, Error, Result};
use crate::sys::file::chmod_unopened;
use crate::types::mount::MTAB;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fchmod, openat, statat, unlinkat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

/// How often a directory that fills again is emptied before that is an error.
const ATTEMPTS: u32 = 16;

/// The bytes in the files below `dir` (their lengths, as docker counts; hard
/// links once, directories as nothing) and the number of inodes.
pub(crate) fn disk_usage(dir: BorrowedFd<'_>) -> Result<(u64, u64)> {
    let root = openat(dir, c".", OPEN_DIR, Mode::empty()).context(|| "open a directory to measure it")?;
    let mut count = Count::default();
    walk(root, &mut count)?;
    Ok((count.bytes, count.inodes))
}

/// The bytes in the files of a container's own layer, as [`disk_usage`] counts, but for
/// what every container is given: docker has that in a layer of its own.
pub(crate) fn own_usage(upper: BorrowedFd<'_>) -> Result<u64> {
    let (bytes, _) = disk_usage(upper)?;
    let link = openat(upper, c"etc", OPEN_DIR, Mode::empty())
        .and_then(|etc| rustix::fs::readlinkat(etc, c"mtab", Vec::new()));
    let given = link.is_ok_and(|target| target.to_bytes() == MTAB.as_bytes());
    Ok(bytes.saturating_sub(if given { MTAB.len() as u64 } else { 0 }))
}

/// The bytes that everything below `path` takes on the disk: the blocks of
/// files and directories, hard links once. Of a file, its own; nothing where
/// there is nothing. What a removal gives back, in difference to lengths.
pub(crate) fn allocated(path: &Path) -> Result<u64> {
    let step = || format!("measure {}", path.display());
    match rustix::fs::open(path, OPEN_DIR, Mode::empty()) {
        Ok(root) => {
            let mut count = Count::default();
            walk(root, &mut count).context(step)?;
            Ok(count.allocated)
        }
        Err(Errno::NOENT) => Ok(0),
        Err(Errno::NOTDIR | Errno::LOOP) => match statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(blocks(&stat)),
            Err(Errno::NOENT) => Ok(0),
            Err(error) => Err(error).context(step),
        },
        Err(error) => Err(error).context(step),
    }
}

/// stat(2): blocks are of 512 bytes, whatever the file system's are.
fn blocks(stat: &Stat) -> u64 {
    (stat.st_blocks as u64).saturating_mul(512)
}

#[derive(Default)]
struct Count {
    bytes: u64,
    allocated: u64,
    inodes: u64,
    /// Device and inode of files that have several names.
    linked: HashSet<(u64, u64)>,
}

impl Visit for Count {
    fn enter(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>> {
        self.inodes += 1;
        match openat(parent, name, OPEN_DIR, Mode::empty()) {
            Ok(dir) => {
                let stat = rustix::fs::fstat(&dir).context(|| "look at a directory")?;
                self.allocated = self.allocated.saturating_add(blocks(&stat));
                Ok(Some(dir))
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error).context(|| format!("open {}", name.to_string_lossy())),
        }
    }

    fn file(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error).context(|| format!("look at {}", name.to_string_lossy())),
        };
        if stat.st_nlink > 1 && !self.linked.insert((stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        self.inodes += 1;
        // A hostile sparse file has 2^63 bytes, and there can be several.
        self.bytes = self.bytes.saturating_add(stat.st_size as u64);
        self.allocated = self.allocated.saturating_add(blocks(&stat));
        Ok(())
    }

    fn leave(&mut self, _: BorrowedFd<'_>, _: &CStr, _: OwnedFd) -> Result<()> {
        Ok(())
    }
}

/// Removes `name` in `parent`, whatever it is, and everything below it. It is
/// no error where it is gone already.
///
/// # Errors
/// `Failed` where something cannot be removed, or where another process fills
/// the tree as fast as it is emptied.
pub(crate) fn remove_tree(parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let mut removal = Removal { not_empty: false };
        let Some(dir) = removal.enter(parent, name)? else { return Ok(()) };
        let held = dir.try_clone().context(|| "hold a directory")?;
        walk(dir, &mut removal)?;
        removal.leave(parent, name, held)?;
        if !removal.not_empty {
            return Ok(());
        }
    }
    Err(Error::failed(format!("{} is being filled while it is removed", name.to_string_lossy()))
        .hint("a process still writes there"))
}

struct Removal {
    /// A directory got new files after they were listed.
    not_empty: bool,
}

impl Visit for Removal {
    /// Opens a directory; what is none is removed at once.
    fn enter(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>> {
        let opened = match openat(parent, name, OPEN_DIR, Mode::empty()) {
            Err(Errno::ACCESS) => {
                permit(parent, name)?;
                openat(parent, name, OPEN_DIR, Mode::empty())
            }
            result => result,
        };
        match opened {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => self.file(parent, name).map(|()| None),
            Err(error) => Err(error).context(|| format!("open {} to remove it", name.to_string_lossy())),
        }
    }

    fn file(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        match unlink(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            // It became a directory.
            Err(Errno::ISDIR) => {
                self.not_empty = true;
                Ok(())
            }
            Err(error) => Err(error).context(|| format!("remove {}", name.to_string_lossy())),
        }
    }

    fn leave(&mut self, parent: BorrowedFd<'_>, name: &CStr, _: OwnedFd) -> Result<()> {
        match unlink(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {
                self.not_empty = true;
                Ok(())
            }
            Err(error) => Err(error).context(|| format!("remove the directory {}", name.to_string_lossy())),
        }
    }
}

/// unlinkat(2), once more with write permission where the directory lacks it.
fn unlink(parent: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<(), Errno> {
    match unlinkat(parent, name, flags) {
        Err(Errno::ACCESS) => {
            let stat = rustix::fs::fstat(parent)?;
            if stat.st_mode & 0o700 == 0o700 {
                return Err(Errno::ACCESS);
            }
            fchmod(parent, Mode::from_raw_mode(stat.st_mode & 0o7777 | 0o700))?;
            unlinkat(parent, name, flags)
        }
        result => result,
    }
}

/// Gives the owner all permissions on a directory that cannot be opened.
fn permit(parent: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(parent, name, flags, Mode::empty())
        .context(|| format!("open {} to remove it", name.to_string_lossy()))?;
    let stat = rustix::fs::fstat(&dir).context(|| "look at a directory")?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(());
    }
    chmod_unopened(&dir, Mode::RWXU).context(|| format!("open up {} to remove it", name.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;

    fn open(path: &std::path::Path) -> OwnedFd {
        rustix::fs::open(path, OPEN_DIR, Mode::empty()).expect("open")
    }

    #[test]
    fn hard_links_count_once() {
        let temp = tempfile::tempdir().expect("tempdir");
        fs::create_dir(temp.path().join("d")).expect("mkdir");
        fs::write(temp.path().join("d/a"), [0; 1000]).expect("write");
        fs::hard_link(temp.path().join("d/a"), temp.path().join("b")).expect("link");
        std::os::unix::fs::symlink("12345", temp.path().join("s")).expect("symlink");
        assert_eq!(disk_usage(open(temp.path()).as_fd()).expect("usage"), (1005, 3));
    }

    #[test]
    fn holes_take_no_blocks_and_what_is_missing_takes_none() {
        use std::os::unix::fs::MetadataExt;
        let temp = tempfile::tempdir().expect("tempdir");
        let file = temp.path().join("d/sparse");
        fs::create_dir(temp.path().join("d")).expect("mkdir");
        fs::File::create(&file).expect("create").set_len(1 << 40).expect("length");
        fs::write(temp.path().join("d/full"), vec![1; 100_000]).expect("write");
        let all = allocated(&temp.path().join("d")).expect("measured");
        let full = fs::metadata(temp.path().join("d/full")).expect("stat").blocks() * 512;
        assert!(all >= full && all < 1 << 30, "{all}");
        assert_eq!(allocated(&temp.path().join("d/full")).expect("measured"), full);
        assert_eq!(allocated(&temp.path().join("none")).expect("measured"), 0);
    }

    #[test]
    fn a_tree_without_permissions_is_removed_and_links_are_not_followed() {
        let temp = tempfile::tempdir().expect("tempdir");
        let outside = temp.path().join("outside");
        fs::create_dir(&outside).expect("mkdir");
        fs::write(outside.join("keep"), "x").expect("write");
        let tree = temp.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).expect("mkdir");
        fs::write(tree.join("a/b/f"), "x").expect("write");
        std::os::unix::fs::symlink(&outside, tree.join("a/link")).expect("symlink");
        for dir in ["a/b", "a"] {
            fs::set_permissions(tree.join(dir), fs::Permissions::from_mode(0o000)).expect("chmod");
        }
        fs::set_permissions(&tree, fs::Permissions::from_mode(0o500)).expect("chmod");
        let parent = open(temp.path());
        remove_tree(parent.as_fd(), c"tree").expect("removed");
        assert!(!tree.exists());
        assert!(outside.join("keep").exists());
        remove_tree(parent.as_fd(), c"tree").expect("gone already");
        std::os::unix::fs::symlink(&outside, &tree).expect("symlink");
        remove_tree(parent.as_fd(), c"tree").expect("a link");
        assert!(outside.join("keep").exists());
    }

    /// Deeper than a path can name, than fds are allowed and than a stack holds.
    #[test]
    fn a_tree_of_5000_levels_is_measured_and_removed() {
        let temp = tempfile::tempdir().expect("tempdir");
        let parent = open(temp.path());
        let mut dir = parent.try_clone().expect("clone");
        for _ in 0..5000 {
            rustix::fs::mkdirat(&dir, c"d", Mode::RWXU).expect("mkdir");
            dir = openat(&dir, c"d", OPEN_DIR, Mode::empty()).expect("open");
        }
        assert_eq!(disk_usage(parent.as_fd()).expect("usage"), (0, 5000));
        remove_tree(parent.as_fd(), c"d").expect("removed");
        assert!(!temp.path().join("d").exists());
    }
}
