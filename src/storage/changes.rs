//! What a container changed: its upper directory compared with what lies below.
//!
//! The lower tree is given as one directory (an overlay of the layers, where
//! there are several), so that the kernel decides what hides what.

use super::descent::{Descent, OPEN_DIR};
use super::sorted::{SortedWalk, Step, names};
use super::whiteout::{OPAQUE, is_whiteout};
use crate::error::{Context, Error, Result};
use crate::sys::xattr;
use crate::types::mount::MTAB;
use rustix::fs::{AtFlags, FileType, Mode, Stat, openat, statat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{BorrowedFd, OwnedFd};

/// Docker's three kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Changed,
    Added,
    Deleted,
}

impl Kind {
    /// As `diff` prints it.
    pub(crate) fn letter(self) -> char {
        match self {
            Self::Changed => 'C',
            Self::Added => 'A',
            Self::Deleted => 'D',
        }
    }
}

/// The most changes that are listed: they are sorted in memory.
const MOST: usize = 4_000_000;

/// One change; the path is absolute, as the container sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) kind: Kind,
    pub(crate) path: Vec<u8>,
}

/// Where coracle itself puts files and mounts. What is made in their place when
/// the image lacks them is nobody's change: docker keeps it in a layer of its own.
const OWN: [&[u8]; 11] = [
    b".dockerenv",
    b"dev",
    b"etc",
    b"etc/hostname",
    b"etc/hosts",
    b"etc/resolv.conf",
    b"proc",
    b"run",
    b"run/.containerenv",
    b"run/secrets",
    b"sys",
];

/// Directories in which those are made, so that their time says nothing.
const OWN_PARENTS: [&[u8]; 3] = [b"etc", b"run", b"run/secrets"];

/// Whether an entry of an upper directory is only a place for a mount of ours, or a
/// file that every container gets: an empty file or a directory that the layers below
/// do not have, or the link that `/etc/mtab` is. (What is in such a directory is asked
/// for one by one.) `name` is its name in `dir`, the last one of `path`.
pub(crate) fn is_own(dir: BorrowedFd<'_>, name: &CStr, path: &[u8], stat: &Stat, below: bool) -> bool {
    if below {
        return false;
    }
    let own = OWN.contains(&path);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => own,
        FileType::RegularFile => stat.st_size == 0 && (own || path.starts_with(b"run/secrets/")),
        FileType::Symlink => {
            path == b"etc/mtab"
                && rustix::fs::readlinkat(dir, name, Vec::new())
                    .is_ok_and(|target| target.to_bytes() == MTAB.as_bytes())
        }
        _ => false,
    }
}

/// The changes of `upper` against `lower`, in docker's order: by names, a
/// directory before what it holds; parents of changes are changed. Owners are
/// compared where `owners` says that both trees have them in the same ids.
///
/// # Errors
/// `Invalid` where there are more than [`MOST`]; where a directory cannot be read.
pub(crate) fn changes(
    upper: BorrowedFd<'_>,
    lower: BorrowedFd<'_>,
    owners: Owners<'_>,
) -> Result<Vec<Change>> {
    let mut scan = Scan { lower: Below::new(lower)?, waiting: Vec::new(), owners, found: Vec::new() };
    let root = openat(upper, c".", OPEN_DIR, Mode::empty()).context(|| "open the container's own layer")?;
    let mut walk = SortedWalk::new(root)?;
    while let Some(step) = walk.next()? {
        match step {
            Step::Entry(name) => {
                if let Some(dir) = scan.entry(&walk, &name)? {
                    walk.descend(&name, dir)?;
                }
            }
            Step::Leave => {
                scan.waiting.pop();
                scan.lower.pop()?;
            }
        }
    }
    let Scan { mut found, .. } = scan;
    // By components: `a/b` before `a.b`. Stable, for the few that come twice.
    found.sort_by(|a, b| a.path.split(|c| *c == b'/').cmp(b.path.split(|c| *c == b'/')));
    Ok(found)
}

/// How the owners in the two trees can be compared.
#[derive(Clone, Copy)]
pub(crate) enum Owners<'a> {
    Same,
    /// This is what those of the lower tree are in the upper one.
    Shifted(&'a dyn Fn(u32, u32) -> (u32, u32)),
    /// One of the trees did not keep them.
    Lost,
}

struct Scan<'a> {
    lower: Below,
    /// Directories on the way to the current one, which are said once something
    /// below them is.
    waiting: Vec<Option<Change>>,
    owners: Owners<'a>,
    found: Vec<Change>,
}

impl Scan<'_> {
    /// Looks at one entry; gives the directory to go down into, in the lower
    /// tree as well.
    fn entry(&mut self, walk: &SortedWalk, name: &CStr) -> Result<Option<OwnedFd>> {
        let path = walk.path_of(name);
        let look = || format!("look at {}", String::from_utf8_lossy(&path));
        let stat = match statat(walk.directory(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // A container that runs changes its files.
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error).context(look),
        };
        let below = self.lower.stat(name).context(look)?;
        if is_whiteout(walk.directory(), name.to_bytes(), &stat) {
            if below.is_some() {
                self.say(Kind::Deleted, &path)?;
            }
            return Ok(None);
        }
        let kind = if below.is_some() { Kind::Changed } else { Kind::Added };
        let own = is_own(walk.directory(), name, &path, &stat, below.is_some());
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            if !own {
                self.say(kind, &path)?;
            }
            return Ok(None);
        }
        let dir = match openat(walk.directory(), name, OPEN_DIR, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error).context(look),
        };
        let differs = below.as_ref().is_none_or(|below| self.differs(&path, &stat, below));
        if differs && !own {
            self.say(kind, &path)?;
            self.waiting.push(None);
        } else {
            self.waiting.push(Some(Change { kind, path: absolute(&path) }));
        }
        self.lower.push(name).context(look)?;
        if is_opaque(&dir).context(look)? {
            self.hidden(&dir, &path)?;
        }
        Ok(Some(dir))
    }

    /// Whether a directory itself is another than below.
    fn differs(&self, path: &[u8], stat: &Stat, below: &Stat) -> bool {
        let owner = |stat: &Stat| (stat.st_uid, stat.st_gid);
        let time = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec);
        let other_owner = match self.owners {
            Owners::Same => owner(stat) != owner(below),
            Owners::Shifted(shifted) => owner(stat) != shifted(below.st_uid, below.st_gid),
            Owners::Lost => false,
        };
        stat.st_mode != below.st_mode
            || other_owner
            || time(stat) != time(below) && !OWN_PARENTS.contains(&path)
    }

    /// What an opaque directory (it is the current one of the lower tree) has
    /// below and does not have itself.
    fn hidden(&mut self, dir: &OwnedFd, path: &[u8]) -> Result<()> {
        for name in self.lower.names()? {
            if let Err(Errno::NOENT) = statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
                self.say(Kind::Deleted, &[path, name.to_bytes()].join(&b'/'))?;
            }
        }
        Ok(())
    }

    fn say(&mut self, kind: Kind, path: &[u8]) -> Result<()> {
        if self.found.len() >= MOST {
            return Err(Error::invalid(format!("the container has more than {MOST} changes")));
        }
        self.found.extend(self.waiting.iter_mut().filter_map(Option::take));
        self.found.push(Change { kind, path: absolute(path) });
        Ok(())
    }
}

fn absolute(path: &[u8]) -> Vec<u8> {
    [b"/", path].concat()
}

pub(crate) fn is_opaque(dir: &OwnedFd) -> std::io::Result<bool> {
    match xattr::get(dir, OPAQUE) {
        Ok(value) => Ok(value.as_deref() == Some(b"y")),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The place in the lower tree that the walk of the upper one is at.
pub(crate) struct Below {
    descent: Descent,
    /// Levels of the upper tree that the lower one does not have.
    missing: usize,
}

impl Below {
    pub(crate) fn new(lower: BorrowedFd<'_>) -> Result<Self> {
        let root = openat(lower, c".", OPEN_DIR, Mode::empty()).context(|| "open the layers below")?;
        Ok(Self { descent: Descent::new(root), missing: 0 })
    }

    pub(crate) fn stat(&self, name: &CStr) -> rustix::io::Result<Option<Stat>> {
        if self.missing > 0 {
            return Ok(None);
        }
        let dir = self.descent.current();
        match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat).filter(|stat| !is_whiteout(dir, name.to_bytes(), stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Follows into `name`, where it is a directory here too.
    pub(crate) fn push(&mut self, name: &CStr) -> Result<()> {
        if self.missing > 0 {
            self.missing += 1;
            return Ok(());
        }
        match openat(self.descent.current(), name, OPEN_DIR, Mode::empty()) {
            Ok(dir) => self.descent.push(dir),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                self.missing = 1;
                Ok(())
            }
            Err(error) => Err(error).context(|| "open a directory of the layers below"),
        }
    }

    pub(crate) fn pop(&mut self) -> Result<()> {
        if self.missing > 0 {
            self.missing -= 1;
            return Ok(());
        }
        self.descent.pop().map(drop)
    }

    fn names(&self) -> Result<Vec<CString>> {
        if self.missing > 0 {
            return Ok(Vec::new());
        }
        let mut all = names(self.descent.current(), &mut Vec::with_capacity(32 << 10))?;
        all.retain(|name| self.stat(name).is_ok_and(|stat| stat.is_some()));
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::whiteout::{make_opaque, make_whiteout};
    use std::fs;
    use std::os::fd::AsFd;
    use std::path::Path;

    fn open(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OPEN_DIR, Mode::empty()).expect("open")
    }

    #[test]
    fn each_kind_of_change_is_found_in_order() {
        let temp = tempfile::tempdir().expect("tempdir");
        let (lower, upper) = (temp.path().join("lower"), temp.path().join("upper"));
        for dir in ["lower/etc", "lower/d/sub", "lower/same", "upper/etc", "upper/d", "upper/new/sub"] {
            fs::create_dir_all(temp.path().join(dir)).expect("mkdir");
        }
        for file in [
            "lower/etc/passwd",
            "lower/d/old",
            "lower/d/kept",
            "lower/gone",
            "lower/was_file",
            "upper/etc/passwd",
            "upper/etc/hosts",
            "upper/d/kept",
            "upper/d/added",
            "upper/new/sub/f",
            "upper/new.x",
        ] {
            fs::write(temp.path().join(file), "").expect("write");
        }
        fs::create_dir(upper.join("was_file")).expect("mkdir");
        fs::create_dir(upper.join("proc")).expect("mkdir");
        fs::write(upper.join("was_file/f"), "").expect("write");
        make_whiteout(open(&upper).as_fd(), c"gone").expect("whiteout");
        make_whiteout(open(&upper).as_fd(), c"never").expect("whiteout");
        make_opaque(open(&upper.join("d")).as_fd()).expect("opaque");
        let found = changes(open(&upper).as_fd(), open(&lower).as_fd(), Owners::Same).expect("changes");
        let lines: Vec<String> = found
            .iter()
            .map(|change| format!("{} {}", change.kind.letter(), String::from_utf8_lossy(&change.path)))
            .collect();
        assert_eq!(
            lines,
            [
                "C /d",
                "A /d/added",
                "C /d/kept",
                "D /d/old",
                "D /d/sub",
                "C /etc",
                "C /etc/passwd",
                "D /gone",
                "A /new",
                "A /new/sub",
                "A /new/sub/f",
                "A /new.x",
                "C /was_file",
                "A /was_file/f",
            ]
        );
    }

    #[test]
    fn places_for_our_own_mounts_are_nobodys_changes() {
        let temp = tempfile::tempdir().expect("tempdir");
        for dir in ["lower/etc", "upper/etc", "upper/run", "upper/dev", "upper/sys"] {
            fs::create_dir_all(temp.path().join(dir)).expect("mkdir");
        }
        for file in ["etc/hosts", "etc/hostname", "run/.containerenv"] {
            fs::write(temp.path().join("upper").join(file), "").expect("write");
        }
        let found = || {
            let (upper, lower) = (open(&temp.path().join("upper")), open(&temp.path().join("lower")));
            changes(upper.as_fd(), lower.as_fd(), Owners::Same).expect("changes")
        };
        assert_eq!(found(), []);
        fs::write(temp.path().join("upper/run/pid"), "1").expect("write");
        let added = |path: &[u8]| Change { kind: Kind::Added, path: path.to_vec() };
        assert_eq!(found(), [added(b"/run"), added(b"/run/pid")]);
    }
}
