//! Going down a directory tree of any depth, beneath a directory fd, with a
//! bounded number of open files and no recursion. A container can nest
//! directories far deeper than a path can name or a stack can hold.

use crate::error::{Context, Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How a directory is opened here: for reading, never through a link.
pub(crate) const OPEN_DIR: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Directories kept open above the current one. Those above them are reopened
/// through `..` and must then be the same directories.
const KEPT_OPEN: usize = 40;

/// A way down from a directory.
pub(crate) struct Descent {
    current: OwnedFd,
    above: Vec<Above>,
}

enum Above {
    Open(OwnedFd),
    Closed { device: u64, inode: u64 },
}

impl Descent {
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self { current: root, above: Vec::new() }
    }

    pub(crate) fn current(&self) -> BorrowedFd<'_> {
        self.current.as_fd()
    }

    /// Goes down into `child`.
    pub(crate) fn push(&mut self, child: OwnedFd) -> Result<()> {
        self.above.push(Above::Open(std::mem::replace(&mut self.current, child)));
        if let Some(index) = self.above.len().checked_sub(KEPT_OPEN + 1)
            && let Above::Open(fd) = &self.above[index]
        {
            let stat = rustix::fs::fstat(fd).context(|| "look at a directory")?;
            self.above[index] = Above::Closed { device: stat.st_dev, inode: stat.st_ino };
        }
        Ok(())
    }

    /// Goes up again and gives the directory left; `None` at the root.
    ///
    /// # Errors
    /// `Conflict` where the directory was moved elsewhere in the meantime.
    pub(crate) fn pop(&mut self) -> Result<Option<OwnedFd>> {
        let parent = match self.above.pop() {
            None => return Ok(None),
            Some(Above::Open(fd)) => fd,
            Some(Above::Closed { device, inode }) => {
                let fd = rustix::fs::openat(&self.current, c"..", OPEN_DIR, Mode::empty())
                    .context(|| "go up a directory tree")?;
                let stat = rustix::fs::fstat(&fd).context(|| "look at a directory")?;
                if (stat.st_dev, stat.st_ino) != (device, inode) {
                    return Err(Error::conflict("a directory was moved while its tree was read"));
                }
                fd
            }
        };
        Ok(Some(std::mem::replace(&mut self.current, parent)))
    }
}

/// What is done at each file of a tree. Names come from the directory itself;
/// what they name may have changed since, so each call must be safe by itself.
pub(crate) trait Visit {
    /// Opens the directory `name`; `None` passes it over.
    fn enter(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>>;
    /// A file that is no directory.
    fn file(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<()>;
    /// After everything below `dir`, which is `name` in `parent`.
    fn leave(&mut self, parent: BorrowedFd<'_>, name: &CStr, dir: OwnedFd) -> Result<()>;
}

/// Visits everything below `root`, files before the directories beside them,
/// each directory after what it holds. `root` itself is not visited.
pub(crate) fn walk(root: OwnedFd, visit: &mut dyn Visit) -> Result<()> {
    let mut buffer = Vec::with_capacity(32 << 10);
    let mut pending = vec![list(root.as_fd(), &mut buffer, visit)?];
    let mut names: Vec<CString> = Vec::new();
    let mut descent = Descent::new(root);
    while let Some(subdirectories) = pending.last_mut() {
        if let Some(name) = subdirectories.pop() {
            if let Some(dir) = visit.enter(descent.current(), &name)? {
                pending.push(list(dir.as_fd(), &mut buffer, visit)?);
                names.push(name);
                descent.push(dir)?;
            }
            continue;
        }
        pending.pop();
        if let (Some(name), Some(dir)) = (names.pop(), descent.pop()?) {
            visit.leave(descent.current(), &name, dir)?;
        }
    }
    Ok(())
}

/// Visits the files of one directory and gives the names of its directories.
fn list(dir: BorrowedFd<'_>, buffer: &mut Vec<u8>, visit: &mut dyn Visit) -> Result<Vec<CString>> {
    let mut subdirectories = Vec::new();
    buffer.clear();
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = match entry {
            // It was removed while it was read.
            Err(rustix::io::Errno::NOENT) => break,
            entry => entry.context(|| "list a directory")?,
        };
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(rustix::io::Errno::NOENT) => continue,
                Err(error) => return Err(error).context(|| format!("look at {}", name.to_string_lossy())),
            },
            kind => kind,
        };
        if kind == FileType::Directory {
            subdirectories.push(name.to_owned());
        } else {
            visit.file(dir, name)?;
        }
    }
    Ok(subdirectories)
}
