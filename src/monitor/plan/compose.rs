//! A throw-away view of a directory that has mounts below it, such as `/`.
//!
//! overlayfs takes a lower directory only if nothing is mounted below it that
//! this user namespace may not uncover, and what the host has mounted is
//! locked there: mount_namespaces(7), "Restrictions on mount namespaces". So
//! the view is put together: directories on the way to a mount are made in a
//! tmpfs, and each subtree without mounts is an overlay of its own.

use crate::error::{BestEffort, Context, Error, Result};
use crate::runtime::mounts;
use crate::storage::overlay::{self, Overlay};
use rustix::fs::{AtFlags, CWD, FileType, Mode};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Directories that a container has of its own; below `/` they are left empty.
const OWN: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];
/// Overlays in one view: a host with more mounts than that below a directory is
/// not what this is for.
const MAX_OVERLAYS: usize = 500;

/// Builds the view of `source` in `base/root`, with `base` (a tmpfs) for the
/// upper directories.
pub(super) fn compose(source: &Path, base: &Path) -> Result<PathBuf> {
    let mut view = View { base, mount_points: mount_points()?, overlays: 0 };
    let root = base.join("root");
    std::fs::create_dir(&root).context(|| format!("make {}", root.display()))?;
    view.fill(source, &root)?;
    Ok(root)
}

/// Those of them that lie beneath `source`, as its names.
pub(super) fn own_below(source: &Path) -> Vec<&'static Path> {
    let names = OWN.iter().filter_map(|own| Path::new(own).strip_prefix(source).ok());
    names.filter(|name| !name.as_os_str().is_empty()).collect()
}

struct View<'a> {
    base: &'a Path,
    mount_points: Vec<PathBuf>,
    overlays: usize,
}

impl View<'_> {
    /// Shows `source` at `target`, an empty directory.
    fn show(&mut self, source: &Path, target: &Path) -> Result<()> {
        if OWN.iter().any(|own| source == Path::new(own)) {
            return Ok(());
        }
        let mounts_below = self.mount_points.iter().any(|point| point != source && point.starts_with(source));
        if mounts_below { self.fill(source, target) } else { self.overlay(source, target) }
    }

    fn overlay(&mut self, source: &Path, target: &Path) -> Result<()> {
        self.overlays += 1;
        if self.overlays > MAX_OVERLAYS {
            return Err(Error::failed(format!("too many mounts below {}", source.display())));
        }
        let upper = self.base.join(format!("u{}", self.overlays));
        let work = self.base.join(format!("w{}", self.overlays));
        for dir in [&upper, &work] {
            std::fs::create_dir(dir).context(|| format!("make {}", dir.display()))?;
        }
        copy_mode(source, &upper);
        let lowers = [source.to_owned()];
        let overlay = Overlay { lowers: &lowers, upper: &upper, work: &work, volatile: false };
        // A file system that cannot be a lower layer (autofs, some FUSE) is
        // left out: the directory is there, and empty.
        let Ok(mount) = overlay::mount(&overlay) else { return Ok(()) };
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
        let point = rustix::fs::open(target, flags, Mode::empty())
            .context(|| format!("open {}", target.display()))?;
        mounts::attach(mount.as_fd(), point.as_fd()).context(|| format!("show {}", source.display()))
    }

    /// Makes the entries of `source` in the tmpfs, one by one.
    fn fill(&mut self, source: &Path, target: &Path) -> Result<()> {
        copy_mode(source, target);
        // What this user may not read has nothing to show.
        let Ok(entries) = std::fs::read_dir(source) else { return Ok(()) };
        for entry in entries.flatten() {
            let (from, to) = (entry.path(), target.join(entry.file_name()));
            let step = || format!("show {}", from.display());
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                std::fs::create_dir(&to).context(step)?;
                copy_mode(&from, &to);
                self.show(&from, &to)?;
            } else if kind.is_symlink() {
                let link = std::fs::read_link(&from).context(step)?;
                std::os::unix::fs::symlink(link, &to).context(step)?;
            } else if kind.is_file() && entry.ino() != 0 {
                copy_file(&from, &to);
            }
        }
        Ok(())
    }
}

/// Whether anything is mounted below `path`.
pub(super) fn has_mounts_below(path: &Path) -> Result<bool> {
    let path = std::fs::canonicalize(path).context(|| format!("find {}", path.display()))?;
    Ok(mount_points()?.iter().any(|point| *point != path && point.starts_with(&path)))
}

/// A file beside mounts is copied if it is small and may be read; others are
/// kernels, swap files and the like.
fn copy_file(from: &Path, to: &Path) {
    const MAX: u64 = 1 << 20;
    if std::fs::metadata(from).is_ok_and(|meta| meta.len() <= MAX) {
        std::fs::copy(from, to).map(drop).or_ignore();
    }
}

fn copy_mode(from: &Path, to: &Path) {
    if let Ok(meta) = std::fs::symlink_metadata(from) {
        if FileType::from_raw_mode(meta.mode()).is_dir() {
            let mode = Mode::from_raw_mode(meta.mode() & 0o7777);
            rustix::fs::chmodat(CWD, to, mode, AtFlags::empty()).or_ignore();
        }
    }
}

/// Where something is mounted: field 5 of each line of proc_pid_mountinfo(5).
fn mount_points() -> Result<Vec<PathBuf>> {
    let text = std::fs::read("/proc/self/mountinfo").context(|| "read /proc/self/mountinfo")?;
    let points = text.split(|byte| *byte == b'\n').filter_map(|line| {
        let field = line.split(|byte| *byte == b' ').nth(4)?;
        Some(PathBuf::from(unescape(field)))
    });
    Ok(points.collect())
}

/// Space, tab, newline and backslash stand as `\040` and so on.
fn unescape(field: &[u8]) -> std::ffi::OsString {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape(b"/a\\040b\\134c"), "/a b\\c");
        assert_eq!(unescape(b"/plain"), "/plain");
        assert_eq!(unescape(b"/end\\04"), "/end\\04");
    }
}
