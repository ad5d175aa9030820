//! A walk through a tree in the order of names, each directory before what it
//! holds: as archives and lists of changes want it, and the same each time.
//! Beneath a directory fd, without recursion, with a bounded number of fds.

use super::descent::Descent;
use crate::error::{Context, Result};
use rustix::fs::RawDir;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What the walk has come to.
#[derive(Debug)]
pub(crate) enum Step {
    /// A name in the current directory. Who wants to see what is below it opens
    /// it and calls [`SortedWalk::descend`] before the next step.
    Entry(CString),
    /// Everything in the current directory has been seen; it is left.
    Leave,
}

/// The walk itself. The root is entered at once and never left.
pub(crate) struct SortedWalk {
    descent: Descent,
    /// Names still to come in each open directory, the next one last.
    pending: Vec<Vec<CString>>,
    /// Of the current directory below the root, without slashes at the ends.
    path: Vec<u8>,
    buffer: Vec<u8>,
}

impl SortedWalk {
    pub(crate) fn new(root: OwnedFd) -> Result<Self> {
        let mut buffer = Vec::with_capacity(32 << 10);
        let pending = vec![names(root.as_fd(), &mut buffer)?];
        Ok(Self { descent: Descent::new(root), pending, path: Vec::new(), buffer })
    }

    /// `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Step>> {
        match self.pending.last_mut().map(Vec::pop) {
            None => Ok(None),
            Some(Some(name)) => Ok(Some(Step::Entry(name))),
            Some(None) => {
                self.pending.pop();
                if self.pending.is_empty() {
                    return Ok(None);
                }
                self.descent.pop()?;
                let parent = self.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                self.path.truncate(parent);
                Ok(Some(Step::Leave))
            }
        }
    }

    /// The directory that the entries are in.
    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.descent.current()
    }

    /// The path of an entry below the root: `etc/passwd`.
    pub(crate) fn path_of(&self, name: &CStr) -> Vec<u8> {
        let mut path = Vec::with_capacity(self.path.len() + 1 + name.to_bytes().len());
        path.extend_from_slice(&self.path);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        path
    }

    /// Goes down into `directory`, which is `name` in the current one.
    pub(crate) fn descend(&mut self, name: &CStr, directory: OwnedFd) -> Result<()> {
        self.pending.push(names(directory.as_fd(), &mut self.buffer)?);
        self.path = self.path_of(name);
        self.descent.push(directory)
    }
}

/// The names in a directory, the first one last.
pub(crate) fn names(directory: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> Result<Vec<CString>> {
    let mut names = Vec::new();
    buffer.clear();
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = match entry {
            // It was removed while it was read.
            Err(rustix::io::Errno::NOENT) => break,
            entry => entry.context(|| "list a directory")?,
        };
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::descent::OPEN_DIR;
    use rustix::fs::{Mode, openat};

    #[test]
    fn names_come_in_order_and_directories_before_what_they_hold() {
        let temp = tempfile::tempdir().expect("tempdir");
        for dir in ["b/d", "a"] {
            std::fs::create_dir_all(temp.path().join(dir)).expect("mkdir");
        }
        for file in ["b.x", "b/d/f", "b/a", "a/z"] {
            std::fs::write(temp.path().join(file), "").expect("write");
        }
        let root = rustix::fs::open(temp.path(), OPEN_DIR, Mode::empty()).expect("open");
        let mut walk = SortedWalk::new(root).expect("walk");
        let mut seen = Vec::new();
        while let Some(step) = walk.next().expect("step") {
            let Step::Entry(name) = step else { continue };
            seen.push(String::from_utf8(walk.path_of(&name)).expect("text"));
            if let Ok(dir) = openat(walk.directory(), &name, OPEN_DIR, Mode::empty()) {
                walk.descend(&name, dir).expect("down");
            }
        }
        assert_eq!(seen, ["a", "a/z", "b", "b/a", "b/d", "b/d/f", "b.x"]);
    }
}
