//! The directories of a tree being unpacked: opened one component at a time,
//! kept open along the way to the latest entry (most entries share their parent
//! with the one before), described once all files are there.

use super::super::descent::{OPEN_DIR, Visit, walk};
use super::super::tar_header::{malformed, show};
use super::super::whiteout::{is_whiteout, make_opaque};
use super::{Attributes, Owner, reopen};
use crate::error::{Context, Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// Symbolic links on the way to one entry: path_resolution(7).
const MAX_LINKS: usize = 40;
/// Directories on the way to one entry, links followed.
const MAX_DEPTH: usize = 255;
/// Directories of one layer, those made because a path names them included.
const MAX_DIRECTORIES: usize = 2_000_000;

/// What to do where a directory of a path does not exist.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Make,
    Refuse,
}

pub(super) struct Parents {
    root: Rc<OwnedFd>,
    /// Real directories from below the root to the latest parent.
    chain: Vec<(Vec<u8>, Rc<OwnedFd>)>,
    /// By inode, as a path may lead through links, and what it names may be
    /// replaced later. A directory enters when it is made, so a reused inode
    /// number never keeps what was said of its predecessor.
    described: HashMap<u64, Attributes>,
}

/// What one component of a path is.
enum Step {
    Directory(OwnedFd),
    /// A symbolic link with this text.
    Link(Vec<u8>),
}

impl Parents {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root: Rc::new(root), chain: Vec::new(), described: HashMap::new() }
    }

    pub(super) fn root(&self) -> Rc<OwnedFd> {
        Rc::clone(&self.root)
    }

    /// Opens the directory `path`. Links are followed inside the tree.
    ///
    /// # Errors
    /// `Invalid` where something on the way is neither a directory nor a link to
    /// one; `NotFound` with [`Missing::Refuse`].
    pub(super) fn open(&mut self, path: &[u8], missing: Missing) -> Result<Rc<OwnedFd>> {
        if path.is_empty() {
            return Ok(self.root());
        }
        let known = self
            .chain
            .iter()
            .zip(path.split(is_slash))
            .take_while(|((name, _), wanted)| name == wanted)
            .count();
        self.chain.truncate(known);
        for name in path.split(is_slash).skip(known) {
            let parent = self.chain.last().map_or_else(|| self.root(), |(_, fd)| Rc::clone(fd));
            match self.step(parent.as_fd(), name, missing)? {
                Step::Directory(fd) => self.chain.push((name.to_vec(), Rc::new(fd))),
                Step::Link(_) => return self.open_through_links(path, missing),
            }
        }
        Ok(self.chain.last().map_or_else(|| self.root(), |(_, fd)| Rc::clone(fd)))
    }

    /// Makes an empty directory, open to nobody else until it is described.
    ///
    /// # Errors
    /// With errno EEXIST where there is something.
    pub(super) fn make(&mut self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
        if self.described.len() >= MAX_DIRECTORIES {
            return Err(malformed(format!("more than {MAX_DIRECTORIES} directories")));
        }
        rustix::fs::mkdirat(parent, name, Mode::RWXU).context(|| "make a directory")?;
        let directory = open_one(parent, name).context(|| "open a directory")?;
        self.describe(directory.as_fd(), Attributes::IMPLICIT)?;
        Ok(directory)
    }

    /// What a directory is to have in the end.
    pub(super) fn describe(&mut self, directory: BorrowedFd<'_>, attributes: Attributes) -> Result<()> {
        let stat = rustix::fs::fstat(directory).context(|| "look at a directory")?;
        self.described.insert(stat.st_ino, attributes);
        Ok(())
    }

    /// The directory `path`, whose parent was opened last: its files come next.
    pub(super) fn entered(&mut self, path: &[u8], directory: OwnedFd) {
        let mut names = path.split(is_slash);
        if names.clone().count() == self.chain.len() + 1
            && let Some(name) = names.next_back()
        {
            self.chain.push((name.to_vec(), Rc::new(directory)));
        }
    }

    /// To be called before a directory is removed: it may be on the way.
    pub(super) fn forget(&mut self) {
        self.chain.clear();
    }

    /// Gives all directories their owner, mode and time, children first.
    pub(super) fn finish(mut self, owner: Owner) -> Result<()> {
        self.chain.clear();
        let root = reopen(self.root.as_fd())?;
        let inode = rustix::fs::fstat(&root).context(|| "look at a directory")?.st_ino;
        let attributes = self.described.remove(&inode).unwrap_or(Attributes::IMPLICIT);
        let held = reopen(self.root.as_fd())?;
        walk(held, &mut Finish { described: &self.described, owner })?;
        attributes.apply(root.as_fd(), owner, &[]).map_err(|error| error.context("the root directory"))
    }

    /// The slow way, for the rare path with a link in it: as the kernel resolves
    /// with RESOLVE_IN_ROOT, but making what is missing.
    fn open_through_links(&mut self, path: &[u8], missing: Missing) -> Result<Rc<OwnedFd>> {
        let mut todo: Vec<Vec<u8>> = path.split(is_slash).rev().map(<[u8]>::to_vec).collect();
        let mut way = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    way.pop();
                    continue;
                }
                _ => {}
            }
            let parent = way.last().map_or_else(|| self.root(), Rc::clone);
            match self.step(parent.as_fd(), &name, missing)? {
                Step::Directory(fd) => way.push(Rc::new(fd)),
                Step::Link(text) => {
                    links += 1;
                    if text.starts_with(b"/") {
                        way.clear();
                    }
                    todo.extend(text.split(is_slash).rev().map(<[u8]>::to_vec));
                }
            }
            if links > MAX_LINKS || way.len() > MAX_DEPTH {
                return Err(malformed(format!("{} leads through too many links or directories", show(path))));
            }
        }
        Ok(way.last().map_or_else(|| self.root(), Rc::clone))
    }

    fn step(&mut self, parent: BorrowedFd<'_>, name: &[u8], missing: Missing) -> Result<Step> {
        match open_one(parent, name) {
            Ok(fd) => return Ok(Step::Directory(fd)),
            Err(Errno::NOENT) if missing == Missing::Make => {
                return self.make(parent, name).map(Step::Directory);
            }
            Err(Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => return Err(error).context(|| format!("open {}", show(name))),
        }
        let stat =
            rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).context(|| "look at a file")?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            let text = rustix::fs::readlinkat(parent, name, Vec::new()).context(|| "read a link")?;
            return Ok(Step::Link(text.into_bytes()));
        }
        if missing == Missing::Make && is_whiteout(parent, name, &stat) {
            // What is below was removed and something new made in its place.
            rustix::fs::unlinkat(parent, name, AtFlags::empty()).context(|| "replace a whiteout")?;
            let directory = self.make(parent, name)?;
            make_opaque(reopen(directory.as_fd())?.as_fd())?;
            return Ok(Step::Directory(directory));
        }
        Err(Error::invalid(format!("{} is not a directory", show(name))))
    }
}

/// One component, never through a link.
pub(super) fn open_one(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as slice::split calls it")]
fn is_slash(byte: &u8) -> bool {
    *byte == b'/'
}

struct Finish<'a> {
    described: &'a HashMap<u64, Attributes>,
    owner: Owner,
}

impl Visit for Finish<'_> {
    fn enter(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>> {
        rustix::fs::openat(parent, name, OPEN_DIR, Mode::empty())
            .context(|| format!("open the directory {}", name.to_string_lossy()))
            .map(Some)
    }

    fn file(&mut self, _: BorrowedFd<'_>, _: &CStr) -> Result<()> {
        Ok(())
    }

    fn leave(&mut self, _: BorrowedFd<'_>, name: &CStr, dir: OwnedFd) -> Result<()> {
        let inode = rustix::fs::fstat(&dir).context(|| "look at a directory")?.st_ino;
        self.described
            .get(&inode)
            .map_or(Ok(()), |attributes| attributes.apply(dir.as_fd(), self.owner, &[]))
            .map_err(|error| error.context(format!("the directory {}", name.to_string_lossy())))
    }
}
