//! The root file system as an open directory: every path inside it is resolved
//! by the kernel beneath that directory, so no link of the image leads out.
//!
//! There is no `join` of a host path and a container path anywhere; this module
//! is the only door. Source: openat2(2).

use crate::error::{BestEffort, Context, Error, Result};
use crate::types::mount::MTAB;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Links followed by hand while a missing path is made; the kernel's own limit.
const MAX_LINKS: usize = 40;

/// What a mount point has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetKind {
    Directory,
    File,
}

/// An open root directory of a container.
pub(crate) struct Rootfs {
    fd: OwnedFd,
}

impl Rootfs {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Opens `path` as the container would see it: links are resolved inside
    /// the root (RESOLVE_IN_ROOT), magic links not at all.
    pub(crate) fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(self.fd.as_fd(), path, flags, Mode::empty(), resolve)
    }

    /// Opens `path` where no component is a link. For `/proc`, `/sys` and
    /// `/dev`, which an image must not be able to redirect.
    pub(crate) fn open_without_links(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
        openat2(self.fd.as_fd(), path, flags, Mode::empty(), resolve)
    }

    /// The mount point for `path`, made where it is missing: a directory, or an
    /// empty file.
    ///
    /// # Errors
    /// `Failed`, naming the path, where it is something else than `kind`.
    pub(crate) fn mount_point(&self, path: &str, kind: TargetKind) -> Result<OwnedFd> {
        let fd = match self.open(path, OFlags::PATH | OFlags::CLOEXEC) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => self.create(path, kind)?,
            Err(errno) => return Err(errno).context(|| format!("open {path} in the container")),
        };
        check_kind(&fd, path, kind)?;
        Ok(fd)
    }

    /// The mount point for a path whose components must all be real.
    ///
    /// # Errors
    /// `Invalid` where the image has a symbolic link in its place.
    pub(crate) fn strict_mount_point(&self, path: &str) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let fd = match self.open_without_links(path, flags) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => {
                self.create_directories(path, Follow::No)?;
                self.open_without_links(path, flags).context(|| format!("open {path} in the container"))?
            }
            Err(Errno::LOOP) => {
                return Err(Error::invalid(format!("{path} is a symbolic link in the image"))
                    .hint("the image is broken or hostile: a container's own /proc, /sys and /dev are not redirected"));
            }
            Err(errno) => return Err(errno).context(|| format!("open {path} in the container")),
        };
        check_kind(&fd, path, TargetKind::Directory)?;
        Ok(fd)
    }

    /// Makes `path` and its missing parents, 0755.
    pub(crate) fn create_directory(&self, path: &str) -> Result<OwnedFd> {
        self.create_directories(path, Follow::InRoot)
    }

    /// Makes `/etc/mtab` and `/.dockerenv` where they are missing, as docker does in
    /// a layer of its own. Before the mounts: `/etc` may be somebody's. Nothing
    /// fails where they cannot be made, and what is there stays.
    pub(crate) fn make_own_files(&self) {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let etc = match self.open("/etc", flags) {
            Err(Errno::NOENT) => self.create_directory("/etc").ok(),
            etc => etc.ok(),
        };
        if let Some(etc) = etc {
            rustix::fs::symlinkat(MTAB, etc, "mtab").or_ignore();
        }
        // One call, where a file that is opened would take two.
        let mode = Mode::from_raw_mode(0o755);
        rustix::fs::mknodat(&self.fd, ".dockerenv", FileType::RegularFile, mode, 0).or_ignore();
    }

    fn create(&self, path: &str, kind: TargetKind) -> Result<OwnedFd> {
        match kind {
            TargetKind::Directory => self.create_directories(path, Follow::InRoot),
            TargetKind::File => self.create_file(path),
        }
    }

    /// An empty file in the place of nothing, or of a link that leads nowhere.
    fn create_file(&self, path: &str) -> Result<OwnedFd> {
        let (parent, name) = split(path);
        let dir = self.create_directories(parent, Follow::InRoot)?;
        if rustix::fs::readlinkat(&dir, name, Vec::new()).is_ok() {
            rustix::fs::unlinkat(&dir, name, rustix::fs::AtFlags::empty())
                .context(|| format!("replace the dangling link {path} in the container"))?;
        }
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::openat(&dir, name, flags, Mode::from_raw_mode(0o644))
            .context(|| format!("make the file {path} in the container"))?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&dir, name, flags, Mode::empty())
            .context(|| format!("open {path} in the container"))
    }

    /// Walks down `path` from the root, making what is missing. Each step is one
    /// name in one open directory, so a swap by another process can at worst
    /// lead to another place inside the root.
    fn create_directories(&self, path: &str, follow: Follow) -> Result<OwnedFd> {
        let fail =
            |errno: Errno| Err(errno).context(|| format!("make the directory {path} in the container"));
        let mut walked = String::from("/");
        let mut pending: Vec<String> = components(path).rev().map(str::to_owned).collect();
        let mut dir = match self.open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC) {
            Ok(dir) => dir,
            Err(errno) => return fail(errno),
        };
        let mut links = 0;
        while let Some(name) = pending.pop() {
            match rustix::fs::mkdirat(&dir, name.as_str(), Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return fail(errno),
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
            let next_path = format!("{}/{name}", walked.trim_end_matches('/'));
            match openat2(dir.as_fd(), &name, flags | OFlags::DIRECTORY, Mode::empty(), resolve) {
                Ok(next) => {
                    dir = next;
                    walked = next_path;
                }
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    links += 1;
                    let Ok(target) = rustix::fs::readlinkat(&dir, name.as_str(), Vec::new()) else {
                        return fail(Errno::NOTDIR);
                    };
                    if links > MAX_LINKS || follow == Follow::No {
                        return fail(Errno::LOOP);
                    }
                    // The link's text, read as the container would: from its own
                    // root, or from where it stands.
                    let Ok(target) = target.to_str() else { return fail(Errno::ILSEQ) };
                    let base = if target.starts_with('/') { "/" } else { walked.as_str() };
                    let joined = clean(&format!("{base}/{target}"));
                    pending.extend(components(&joined).rev().map(str::to_owned));
                    walked = String::from("/");
                    dir = match self.open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC) {
                        Ok(dir) => dir,
                        Err(errno) => return fail(errno),
                    };
                }
                Err(errno) => return fail(errno),
            }
        }
        Ok(dir)
    }
}

impl AsFd for Rootfs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Follow {
    InRoot,
    No,
}

/// openat2(2), and once more where a rename elsewhere made the kernel give up (EAGAIN).
pub(crate) fn openat2(
    dir: BorrowedFd<'_>,
    path: &str,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN) if tries < 64 => tries += 1,
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

fn check_kind(fd: &OwnedFd, path: &str, kind: TargetKind) -> Result<()> {
    let stat = rustix::fs::fstat(fd).context(|| format!("look at {path} in the container"))?;
    let is_directory = FileType::from_raw_mode(stat.st_mode).is_dir();
    match (kind, is_directory) {
        (TargetKind::Directory, false) => {
            Err(Error::failed(format!("cannot mount a directory on {path}: it is a file in the container")))
        }
        (TargetKind::File, true) => {
            Err(Error::failed(format!("cannot mount a file on {path}: it is a directory in the container")))
        }
        _ => Ok(()),
    }
}

/// The names of a path, without `.`; a `..` takes the one before it away.
fn components(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    names.into_iter()
}

/// A path cleaned by its text alone: absolute, no `.`, no `..`.
pub(crate) fn clean(path: &str) -> String {
    format!("/{}", components(path).collect::<Vec<_>>().join("/"))
}

/// The parent and the last name of a cleaned path.
fn split(path: &str) -> (&str, &str) {
    path.trim_end_matches('/').rsplit_once('/').unwrap_or(("/", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn rootfs(dir: &std::path::Path) -> Rootfs {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Rootfs::new(rustix::fs::open(dir, flags, Mode::empty()).expect("open"))
    }

    /// CVE-2024-45310, CVE-2019-10152: no link leads out, and nothing is made outside.
    #[test]
    fn missing_directories_behind_links_are_made_inside() {
        let temp = tempfile::tempdir().expect("tempdir");
        let root = temp.path().join("root");
        let outside = temp.path().join("outside");
        std::fs::create_dir_all(&root).expect("mkdir");
        std::fs::create_dir_all(&outside).expect("mkdir");
        symlink(&outside, root.join("abs")).expect("symlink");
        symlink("../../../..", root.join("up")).expect("symlink");
        symlink("loop", root.join("loop")).expect("symlink");
        let rootfs = rootfs(&root);
        rootfs.mount_point("/abs/new/dir", TargetKind::Directory).expect("inside");
        rootfs.mount_point("/up/made", TargetKind::Directory).expect("inside");
        rootfs.mount_point("/up/abs/file", TargetKind::File).expect("inside");
        assert!(rootfs.mount_point("/loop/x", TargetKind::Directory).is_err());
        assert_eq!(std::fs::read_dir(&outside).expect("readdir").count(), 0);
        assert!(root.join("made").is_dir());
        let inside = root.join(outside.strip_prefix("/").expect("absolute"));
        assert!(inside.join("new/dir").is_dir());
        assert!(inside.join("file").is_file());
    }

    /// CVE-2019-16884 and kin: /proc must be a directory of the image, not a link.
    #[test]
    fn a_strict_mount_point_refuses_links() {
        let temp = tempfile::tempdir().expect("tempdir");
        symlink("/etc", temp.path().join("proc")).expect("symlink");
        let rootfs = rootfs(temp.path());
        let error = rootfs.strict_mount_point("/proc").expect_err("refused");
        assert!(error.to_string().contains("symbolic link"), "{error}");
        rootfs.strict_mount_point("/sys").expect("made");
    }

    #[test]
    fn a_dangling_link_becomes_a_file() {
        let temp = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir(temp.path().join("etc")).expect("mkdir");
        symlink("../../host/resolv", temp.path().join("etc/resolv.conf")).expect("symlink");
        rootfs(temp.path()).mount_point("/etc/resolv.conf", TargetKind::File).expect("made");
        assert!(temp.path().join("etc/resolv.conf").symlink_metadata().expect("stat").is_file());
    }

    #[test]
    fn paths_are_cleaned_by_their_text() {
        assert_eq!(clean("a/./b/../c//"), "/a/c");
        assert_eq!(clean("/../.."), "/");
        assert_eq!(split("/a/b"), ("/a", "b"));
        assert_eq!(split("/a"), ("", "a"));
    }
}
