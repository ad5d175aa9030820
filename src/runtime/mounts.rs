//! Making the container's mounts with the new mount API: each file system is
//! created detached and then moved to a mount point that is an open fd.
//!
//! Source: fsopen(2), fsmount(2), move_mount(2), open_tree(2).

use super::plan::{Mount, MountKind};
use super::rootfs::{Rootfs, TargetKind};
use crate::error::{BestEffort, Context, Error, Result, Trouble};
use crate::sys::mount::{self, MountAttr};
use crate::sys::process::{self, Cloned};
use crate::types::status::ProcessId;
use rustix::fs::{CWD, Mode};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What later steps of the set-up need of the mounts.
#[derive(Default)]
pub(crate) struct Made {
    /// What is at `/proc`, known to be a procfs.
    pub(crate) proc: Option<OwnedFd>,
    pub(crate) devpts: Option<OwnedFd>,
}

/// Makes one mount.
pub(crate) fn make(rootfs: &Rootfs, mount: &Mount, made: &mut Made) -> Result<()> {
    let target = mount.target.as_str();
    let step = || format!("mount {target}");
    let attributes = mount.attributes;
    match &mount.kind {
        MountKind::Proc => {
            let point = rootfs.strict_mount_point(target)?;
            let fd = proc(attributes).map_err(|error| error.context(step()))?;
            attach(fd.as_fd(), point.as_fd()).context(step)?;
            made.proc = Some(fd);
        }
        MountKind::Sysfs => {
            let point = rootfs.strict_mount_point(target)?;
            let fd = sysfs(attributes).context(step).see_doctor(Trouble::FileSystems)?;
            attach(fd.as_fd(), point.as_fd()).context(step)?;
        }
        MountKind::Cgroup => {
            let Ok(point) = rootfs.strict_mount_point(target) else { return Ok(()) };
            // A host without cgroup v2: an empty read-only directory tells so.
            let fd = file_system("cgroup2", &[], attributes)
                .or_else(|_| {
                    file_system("tmpfs", &[("mode", "555"), ("size", "4k")], attributes | mount::RDONLY)
                })
                .context(step)?;
            attach(fd.as_fd(), point.as_fd()).context(step)?;
        }
        MountKind::Mqueue => {
            let point = rootfs.strict_mount_point(target)?;
            let fd = file_system("mqueue", &[], attributes).context(step).see_doctor(Trouble::FileSystems)?;
            attach(fd.as_fd(), point.as_fd()).context(step)?;
        }
        MountKind::Devpts => {
            let point = rootfs.strict_mount_point(target)?;
            let fd = devpts(attributes).context(step).see_doctor(Trouble::FileSystems)?;
            attach(fd.as_fd(), point.as_fd()).context(step)?;
            made.devpts = Some(fd);
        }
        MountKind::Dev { shm } => {
            let point = rootfs.strict_mount_point(target)?;
            let fd =
                file_system("tmpfs", &[("mode", "755"), ("size", "65536k")], attributes).context(step)?;
            attach(fd.as_fd(), point.as_fd()).context(step)?;
            fill_dev(fd.as_fd(), *shm).context(|| "fill /dev")?;
        }
        MountKind::Tmpfs { size, mode } => {
            let point = rootfs.mount_point(target, TargetKind::Directory)?;
            let fd = tmpfs(*size, *mode, attributes).context(step).see_doctor(Trouble::FileSystems)?;
            attach(fd.as_fd(), point.as_fd()).context(step)?;
        }
        MountKind::Secrets { files } => {
            let point = rootfs.mount_point(target, TargetKind::Directory)?;
            let fd = tmpfs(0, 0o755, attributes).context(step)?;
            attach(fd.as_fd(), point.as_fd()).context(step)?;
            super::secrets::put(rootfs, fd.as_fd(), target, files)?;
        }
        MountKind::Bind { mount: fd, directory } => {
            let kind = if *directory { TargetKind::Directory } else { TargetKind::File };
            let point = rootfs.mount_point(target, kind)?;
            if attributes != 0 {
                let attr = MountAttr { set: attributes, ..MountAttr::default() };
                mount::mount_setattr(fd.as_fd(), c"", attr, true).context(step)?;
            }
            attach(fd.as_fd(), point.as_fd()).context(step)?;
            // The host's, where the pid namespace is. A volume with files of the
            // same names is none (CVE-2019-19921).
            if super::rootfs::clean(target) == "/proc" {
                made.proc =
                    if is_procfs(fd).context(step)? { Some(fd.try_clone().context(step)?) } else { None };
            }
        }
    }
    Ok(())
}

fn is_procfs(fd: &OwnedFd) -> Result<bool, Errno> {
    Ok(rustix::fs::fstatfs(fd)?.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

/// Moves a detached mount onto an open directory or file.
pub(crate) fn attach(mount: BorrowedFd<'_>, point: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", point, "", flags)
}

/// A new file system, mounted nowhere yet.
pub(crate) fn file_system(name: &str, options: &[(&str, &str)], attributes: u64) -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() {
            rustix::mount::fsconfig_set_flag(context.as_fd(), *key)?;
        } else {
            rustix::mount::fsconfig_set_string(context.as_fd(), *key, *value)?;
        }
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A tmpfs of so many bytes (0: the kernel's default).
pub(crate) fn tmpfs(size: u64, mode: u32, attributes: u64) -> Result<OwnedFd, Errno> {
    let mode = format!("{mode:o}");
    let size = size.to_string();
    let mut options = vec![("mode", mode.as_str())];
    if size != "0" {
        options.push(("size", &size));
    }
    file_system("tmpfs", &options, attributes)
}

fn proc(attributes: u64) -> Result<OwnedFd> {
    match file_system("proc", &[], attributes) {
        Ok(fd) => Ok(fd),
        // mount_too_revealing(): the kernel gives a new procfs only to who
        // already sees a whole one.
        Err(Errno::PERM) => {
            Err(Errno::PERM).context(|| "mount a new procfs").map_err(|error| {
                error.hint("parts of /proc are hidden here, as inside another container: start that one with `--security-opt unmask=ALL`, or use `--pid host`")
                    .see_doctor(Trouble::FileSystems)
            })
        }
        Err(errno) => Err(errno).context(|| "mount a new procfs"),
    }
}

/// A sysfs of the network namespace; the host's, read-only, where that is not ours.
fn sysfs(attributes: u64) -> Result<OwnedFd, Errno> {
    match file_system("sysfs", &[], attributes) {
        Err(Errno::PERM) => {
            let fd = clone_tree("/sys")?;
            let attr = MountAttr { set: attributes | mount::RDONLY, ..MountAttr::default() };
            mount::mount_setattr(fd.as_fd(), c"", attr, true)
                .map_err(|error| Errno::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EINVAL)))?;
            Ok(fd)
        }
        result => result,
    }
}

/// A detached copy of the mount tree at a path of this process' mount namespace.
pub(crate) fn clone_tree(path: &str) -> Result<OwnedFd, Errno> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    rustix::mount::open_tree(CWD, path, flags)
}

/// As [`clone_tree`], for a path of any bytes.
pub(crate) fn clone_tree_at(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::mount::open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
}

/// A detached copy of the tree that begins at a directory, with its mounts.
pub(crate) fn clone_tree_below(path: &Path) -> Result<OwnedFd, Errno> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    rustix::mount::open_tree(CWD, path, flags)
}

/// A detached copy of the mount at `path` in another container. The kernel
/// copies mounts of the caller's own mount namespace only, so a short-lived
/// process goes there and sends it back.
pub(crate) fn clone_in_namespaces_of(target: ProcessId, path: &str) -> Result<OwnedFd> {
    clone_by_visitor(target, path, || clone_tree(path))
}

/// The same, without what is mounted below.
pub(crate) fn clone_one_in_namespaces_of(target: ProcessId, path: &str) -> Result<OwnedFd> {
    clone_by_visitor(target, path, || clone_tree_at(Path::new(path)))
}

/// A detached copy of another container's root, without what is mounted in it.
pub(crate) fn clone_root_of(target: ProcessId) -> Result<OwnedFd> {
    clone_by_visitor(target, "/", || clone_tree_at(Path::new("/")))
}

fn clone_by_visitor(
    target: ProcessId,
    path: &str,
    clone: impl Fn() -> Result<OwnedFd, Errno>,
) -> Result<OwnedFd> {
    let step = || format!("enter the mount namespace of process {}", target.pid);
    let pid = rustix::process::Pid::from_raw(target.pid as i32).ok_or_else(|| Error::failed(step()))?;
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).context(step)?;
    if process::start_ticks(target.pid) != Some(target.start_ticks) {
        return Err(Error::conflict("it has just ended").context(step()));
    }
    let (here, there) = std::os::unix::net::UnixStream::pair().context(step)?;
    match process::fork().context(step).see_doctor(Trouble::Processes)? {
        Cloned::Child => {
            drop(here);
            // Its root may be hostile, and this copy has the monitor's files open
            // (CVE-2016-9962).
            let hidden = rustix::process::DumpableBehavior::NotDumpable;
            if rustix::process::set_dumpable_behavior(hidden).is_err() {
                process::exit_now(125);
            }
            let flags = nix::sched::CloneFlags::CLONE_NEWUSER | nix::sched::CloneFlags::CLONE_NEWNS;
            // Where it has no user namespace of its own, the mounts alone.
            let entered = nix::sched::setns(&pidfd, flags)
                .or_else(|_| nix::sched::setns(&pidfd, nix::sched::CloneFlags::CLONE_NEWNS));
            if entered.is_ok() {
                if let Ok(tree) = clone() {
                    crate::sys::socket::send_fd(there.as_fd(), tree.as_fd()).or_ignore();
                }
            }
            process::exit_now(0)
        }
        Cloned::Parent { pidfd, .. } => {
            drop(there);
            let tree = crate::sys::socket::receive_fd(here.as_fd()).context(step)?;
            let child = rustix::process::WaitId::PidFd(pidfd.as_fd());
            rustix::process::waitid(child, rustix::process::WaitIdOptions::EXITED).context(step)?;
            tree.ok_or_else(|| Error::failed(format!("it has no {path} to share")).context(step()))
        }
    }
}

/// A detached copy of the mount behind an open file or directory.
pub(crate) fn clone_fd(fd: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(fd, "", flags)
}

fn devpts(attributes: u64) -> Result<OwnedFd, Errno> {
    let with_group = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    // Group 5 (tty) does not exist where only one id is mapped: EINVAL.
    match file_system("devpts", &with_group, attributes) {
        Err(Errno::INVAL) => file_system("devpts", &with_group[..3], attributes),
        result => result,
    }
}

/// The directories and links that programs expect in `/dev`.
fn fill_dev(dev: BorrowedFd<'_>, shm: bool) -> Result<(), Errno> {
    for name in ["pts", "mqueue"].into_iter().chain(shm.then_some("shm")) {
        rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755))?;
    }
    for (link, target) in super::devices::LINKS {
        rustix::fs::symlinkat(target, dev, link)?;
    }
    Ok(())
}

/// Hides `path`: `/dev/null` over a file, an empty read-only tmpfs over a directory.
pub(crate) fn mask(rootfs: &Rootfs, path: &str, null: BorrowedFd<'_>) -> Result<()> {
    let Some((point, is_directory)) = existing(rootfs, path)? else { return Ok(()) };
    let cover = if is_directory {
        tmpfs(4096, 0o555, mount::RDONLY | mount::NOSUID | mount::NODEV | mount::NOEXEC)
    } else {
        clone_fd(null, false)
    };
    cover.and_then(|cover| attach(cover.as_fd(), point.as_fd())).context(|| format!("hide {path}"))
}

/// Makes what is at `path`, with all below it, read-only by a mount over itself.
pub(crate) fn make_read_only(rootfs: &Rootfs, path: &str) -> Result<()> {
    let Some((point, _)) = existing(rootfs, path)? else { return Ok(()) };
    let step = || format!("make {path} read-only");
    let copy = clone_fd(point.as_fd(), true).context(step)?;
    let attr = MountAttr { set: mount::RDONLY, ..MountAttr::default() };
    mount::mount_setattr(copy.as_fd(), c"", attr, true).context(step)?;
    attach(copy.as_fd(), point.as_fd()).context(step)
}

fn existing(rootfs: &Rootfs, path: &str) -> Result<Option<(OwnedFd, bool)>> {
    let point = match rootfs.open(path, rustix::fs::OFlags::PATH) {
        Ok(point) => point,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => return Ok(None),
        Err(errno) => return Err(errno).context(|| format!("open {path} in the container")),
    };
    let stat = rustix::fs::fstat(&point).context(|| format!("look at {path} in the container"))?;
    Ok(Some((point, rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())))
}

/// Writes kernel parameters through the container's own procfs.
///
/// # Errors
/// `Invalid` for a key that is not one; `Failed` where the kernel refuses.
pub(crate) fn write_sysctls(proc: Option<&OwnedFd>, sysctls: &[(String, String)]) -> Result<()> {
    use rustix::fs::{OFlags, ResolveFlags};
    for (key, value) in sysctls {
        let step = || format!("set sysctl {key}");
        let proc = proc.ok_or_else(|| Error::invalid("what is at /proc is no procfs").context(step()))?;
        let path = format!("sys/{}", sysctl_path(key));
        // Only within this one procfs: no link, no other mount (CVE-2025-52881).
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let file = super::rootfs::openat2(proc.as_fd(), &path, OFlags::WRONLY, Mode::empty(), resolve)
            .context(step)
            .map_err(|error| error.hint("a container may set net.* in its own network namespace, and kernel.shm*, kernel.msg*, kernel.sem, fs.mqueue.* in its own IPC namespace"))?;
        rustix::io::write(&file, value.as_bytes()).context(step)?;
    }
    Ok(())
}

/// `net.ipv4.ip_forward` as a path; a key with slashes is one already, where a
/// dot may be part of a name (`net/ipv4/conf/eth0.1/forwarding`): sysctl(8).
fn sysctl_path(key: &str) -> String {
    let first = key.find(['.', '/']).map(|at| key.as_bytes()[at]);
    if first == Some(b'/') { key.to_owned() } else { key.replace('.', "/") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctl_keys_become_paths() {
        assert_eq!(sysctl_path("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.1/forwarding"), "net/ipv4/conf/eth0.1/forwarding");
    }
}
