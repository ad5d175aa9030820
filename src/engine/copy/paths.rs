//! Docker's rules for the paths of `cp`: what a path names, and where a copy goes.

use super::tree::Tree;
use crate::error::{Context, Error, Result};
use crate::types::mount::clean_path;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

/// Links followed by hand: path_resolution(7).
const MAX_LINKS: usize = 40;

/// A path taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// The directory that holds it.
    pub(super) parent: Vec<u8>,
    /// The last component; empty for the root.
    pub(super) name: Vec<u8>,
    /// It ends with `/` or `/.`, or can be nothing else.
    pub(super) is_directory: bool,
    /// It ends with `/.`, or is the root: the contents alone.
    pub(super) is_contents: bool,
}

impl Spot {
    pub(super) fn of(path: &[u8]) -> Self {
        let mut rest = path;
        let mut is_directory = false;
        let mut is_contents = false;
        loop {
            if rest == b"." {
                (is_directory, is_contents, rest) = (true, true, b"");
            } else if let Some(shorter) = rest.strip_suffix(b"/.") {
                (is_directory, is_contents, rest) = (true, true, shorter);
            } else if let Some(shorter) = rest.strip_suffix(b"/") {
                (is_directory, rest) = (true, shorter);
            } else {
                break;
            }
        }
        let (parent, name) = match rest.iter().rposition(|byte| *byte == b'/') {
            Some(0) => (&b"/"[..], &rest[1..]),
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None if path.starts_with(b"/") => (&b"/"[..], rest),
            None => (&b"."[..], rest),
        };
        let is_root = rest.is_empty();
        Self {
            parent: parent.to_vec(),
            name: name.to_vec(),
            is_directory: is_directory || is_root || name == b"..",
            is_contents: is_contents || is_root,
        }
    }

    fn c_name(&self) -> Result<CString> {
        CString::new(self.name.clone()).map_err(|_| Error::invalid("a NUL byte in a path"))
    }
}

/// A container's path: relative ones begin at its root, `..` is taken off as
/// docker does, by the words alone.
pub(super) fn of_container(path: &str) -> Result<Vec<u8>> {
    let mut clean = clean_path(&format!("/{path}"))?;
    if clean != "/" {
        if path.ends_with("/.") {
            clean.push_str("/.");
        } else if path.ends_with('/') {
            clean.push('/');
        }
    }
    Ok(clean.into_bytes())
}

/// What is to be copied.
pub(super) enum Found {
    Directory { directory: OwnedFd, name: Vec<u8>, contents: bool },
    Other { parent: OwnedFd, at: CString, name: Vec<u8> },
}

/// Finds the source. A link that is its last component is copied itself, unless
/// `follow` is set or the path says that it is a directory.
///
/// # Errors
/// With errno ENOENT where there is nothing; `Conflict` where it is said to be a
/// directory and is none.
pub(super) fn find(tree: &Tree, path: &[u8], follow: bool) -> Result<Found> {
    let spot = Spot::of(path);
    let directory = |directory: OwnedFd| -> Result<Found> {
        let name = base_name(tree, path, &spot);
        Ok(Found::Directory { directory: readable(&directory)?, name, contents: spot.is_contents })
    };
    if spot.is_directory {
        return match tree.open(path, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(found) => directory(found),
            Err(Errno::NOTDIR) => Err(Error::conflict("not a directory")),
            Err(error) => Err(error).context(|| "open the directory"),
        };
    }
    let parent =
        tree.open(&spot.parent, OFlags::PATH | OFlags::DIRECTORY).context(|| "open its directory")?;
    let at = spot.c_name()?;
    let kind = kind_of(&parent, &at).context(|| "look at it")?;
    if kind == FileType::Directory {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found =
            rustix::fs::openat(&parent, &at, flags, Mode::empty()).context(|| "open the directory")?;
        return directory(found);
    }
    if kind == FileType::Symlink && follow {
        return match look(tree, path)? {
            Target::Directory(found) => directory(found),
            Target::Other { parent, at, .. } => Ok(Found::Other { parent, at, name: spot.name }),
            Target::Missing { .. } | Target::Lost => Err(Errno::NOENT).context(|| "follow the link"),
        };
    }
    Ok(Found::Other { parent, at, name: spot.name })
}

/// The name that a directory has in an archive, or below where it is copied to.
fn base_name(tree: &Tree, path: &[u8], spot: &Spot) -> Vec<u8> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    if spot.is_contents {
        // Of the container's root docker says `/`.
        return if spot.name.is_empty() && tree.inside().is_some() { b"/".to_vec() } else { b".".to_vec() };
    }
    if spot.name != b".." {
        return spot.name.clone();
    }
    // Only on the host: a container's path has no such component any more.
    let real = std::fs::canonicalize(std::ffi::OsStr::from_bytes(path)).ok();
    let name = real.and_then(|real| real.file_name().map(|name| name.to_owned().into_vec()));
    name.unwrap_or_else(|| b".".to_vec())
}

/// Where a copy goes.
pub(super) enum Target {
    Directory(OwnedFd),
    /// Something that is no directory, where all links have led.
    Other {
        parent: OwnedFd,
        at: CString,
        kind: FileType,
    },
    /// Nothing, in a directory that is there. `said` to become a directory.
    Missing {
        parent: OwnedFd,
        at: CString,
        said: bool,
    },
    /// Not even its directory is there.
    Lost,
}

/// Follows `path` to where a copy goes.
pub(super) fn look(tree: &Tree, path: &[u8]) -> Result<Target> {
    let mut path = path.to_vec();
    for _ in 0..MAX_LINKS {
        match tree.open(&path, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(directory) => return Ok(Target::Directory(directory)),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => return Err(error).context(|| "open it"),
        }
        let spot = Spot::of(&path);
        if spot.name.is_empty() || spot.name == b".." {
            return Ok(Target::Lost);
        }
        let parent = match tree.open(&spot.parent, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(parent) => parent,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Target::Lost),
            Err(error) => return Err(error).context(|| "open its directory"),
        };
        let at = spot.c_name()?;
        match kind_of(&parent, &at) {
            Ok(FileType::Symlink) => {}
            Ok(kind) if !spot.is_directory => return Ok(Target::Other { parent, at, kind }),
            // `file/` is a directory that is not there.
            Ok(_) => return Ok(Target::Missing { parent, at, said: true }),
            Err(Errno::NOENT) => return Ok(Target::Missing { parent, at, said: spot.is_directory }),
            Err(error) => return Err(error).context(|| "look at it"),
        }
        let Ok(link) = rustix::fs::readlinkat(&parent, &at, Vec::new()) else { continue };
        let mut next = link.into_bytes();
        if !next.starts_with(b"/") {
            next = [&spot.parent, &b"/"[..], &next].concat();
        }
        if spot.is_directory {
            next.push(b'/');
        }
        path = next;
    }
    Err(Errno::LOOP).context(|| "follow its links")
}

fn kind_of(parent: &OwnedFd, at: &CString) -> Result<FileType, Errno> {
    let stat = rustix::fs::statat(parent, at, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

/// A directory held with O_PATH, opened for reading.
pub(super) fn readable(directory: &OwnedFd) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(directory.as_fd(), c".", flags, Mode::empty()).context(|| "open the directory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        // path, parent, name, a directory, the contents
        let cases: [(&str, &str, &str, bool, bool); 16] = [
            ("a", ".", "a", false, false),
            ("a/", ".", "a", true, false),
            ("a/.", ".", "a", true, true),
            ("a/./", ".", "a", true, true),
            ("a//", ".", "a", true, false),
            ("./a", ".", "a", false, false),
            ("/a", "/", "a", false, false),
            ("/a/b", "/a", "b", false, false),
            ("/a/b/.", "/a", "b", true, true),
            ("/", "/", "", true, true),
            ("/.", "/", "", true, true),
            (".", ".", "", true, true),
            ("./", ".", "", true, true),
            ("..", ".", "..", true, false),
            ("../..", "..", "..", true, false),
            ("a/..b", "a", "..b", false, false),
        ];
        for (path, parent, name, is_directory, is_contents) in cases {
            let expected = Spot { parent: parent.into(), name: name.into(), is_directory, is_contents };
            assert_eq!(Spot::of(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn paths_of_containers_begin_at_the_root() {
        for (path, clean) in [
            ("", "/"),
            ("/", "/"),
            ("/.", "/"),
            ("a", "/a"),
            ("a/b/", "/a/b/"),
            ("/a/b/.", "/a/b/."),
            ("/a/../../b", "/b"),
            ("../../etc/", "/etc/"),
            ("a/./b//c", "/a/b/c"),
            ("/a/b/..", "/a"),
            ("/a/b/../", "/a/"),
        ] {
            assert_eq!(of_container(path).expect(path), clean.as_bytes(), "{path}");
        }
        assert!(of_container("a\0b").is_err());
        assert!(of_container(&"a/".repeat(4000)).is_err());
    }
}
