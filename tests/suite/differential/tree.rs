//! The layers to begin with, and what a tree looks like.

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::Path;

/// What is compared of the times: those before this were set on purpose.
const PAST: i64 = 1_500_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    /// With the numbers of the files.
    Everything,
    /// With modification times that were set.
    Times,
    NoTimes,
}

/// Two layers: the upper one hides a file, a directory's content, and turns a
/// file into a directory and the other way round.
pub(super) fn make_layers(base: &Path) {
    let file = |path: &str, size: usize| std::fs::write(base.join(path), vec![b'l'; size]).unwrap();
    let dir = |path: &str| std::fs::create_dir_all(base.join(path)).unwrap();
    for path in ["low/dir/sub", "low/opaque/hidden", "low/other", "low/turns"] {
        dir(path);
    }
    for (path, size) in
        [("low/a", 10), ("low/dir/a", 9000), ("low/dir/sub/x", 300), ("low/gone", 5), ("low/turned", 7)]
    {
        file(path, size);
    }
    std::os::unix::fs::symlink("a", base.join("low/link")).unwrap();
    for path in ["top/dir", "top/opaque", "top/turned"] {
        dir(path);
    }
    for (path, size) in [("top/b", 20), ("top/dir/b", 1), ("top/opaque/seen", 3), ("top/turns", 4)] {
        file(path, size);
    }
    let whiteout = base.join("top/gone");
    rustix::fs::mknodat(CWD, whiteout, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    rustix::fs::setxattr(base.join("top/opaque"), "user.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    std::fs::write(base.join("top").join("n".repeat(255)), b"long").unwrap();
    std::fs::write(base.join("top").join(std::ffi::OsStr::from_bytes(b"odd\xff\n name")), b"odd").unwrap();
}

pub(super) type Snapshot = BTreeMap<Vec<u8>, String>;

/// All that a tree shows, by path.
pub(super) fn snapshot(root: &Path, compare: Compare) -> Snapshot {
    let mut all = Snapshot::new();
    add(root, root, compare, &mut all);
    all
}

fn add(root: &Path, dir: &Path, compare: Compare, all: &mut Snapshot) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        let meta = path.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut line = format!("{:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
        if !meta.is_dir() {
            line += &format!(" size {} links {}", meta.size(), meta.nlink());
        }
        if compare == Compare::Everything {
            line += &format!(" number {} at {}.{}", entry.ino(), meta.mtime(), meta.mtime_nsec());
        } else if compare == Compare::Times && meta.mtime() < PAST {
            line += &format!(" at {}.{}", meta.mtime(), meta.mtime_nsec());
        }
        if meta.is_symlink() {
            line += &format!(" to {}", std::fs::read_link(&path).unwrap().display());
        }
        if meta.is_file() {
            let mut hasher = DefaultHasher::new();
            std::fs::read(&path).unwrap().hash(&mut hasher);
            line += &format!(" holds {:x}", hasher.finish());
        }
        if meta.is_file() || meta.is_dir() {
            let mut names = vec![0; 4096];
            let length = rustix::fs::llistxattr(&path, &mut names).unwrap();
            let mut names: Vec<&[u8]> = names[..length].split(|byte| *byte == 0).collect();
            names.sort_unstable();
            line += &format!(
                " attributes {:?}",
                names.iter().map(|name| String::from_utf8_lossy(name)).collect::<Vec<_>>()
            );
        }
        all.insert(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), line);
        if meta.is_dir() {
            add(root, &path, compare, all);
        }
    }
}

/// What one tree has otherwise than it should, in words; empty for nothing.
pub(super) fn differences(found: &Snapshot, wanted: &Snapshot) -> String {
    let mut words = String::new();
    for path in found.keys().chain(wanted.keys().filter(|path| !found.contains_key(*path))) {
        let (is, should) = (found.get(path), wanted.get(path));
        if is != should {
            words += &format!("{}: is {is:?}, should be {should:?}\n", String::from_utf8_lossy(path));
        }
    }
    words
}
