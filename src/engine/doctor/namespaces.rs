//! Each kind of namespace, and what is mounted in a container, by doing: in
//! children of this process, inside the user's outer namespace.

use super::check::{Check, words};
use super::trial::in_child;
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use std::io;
use std::os::fd::AsFd;

/// Why an outer container refuses procfs: the kernel mounts no procfs that
/// shows more than the one that is there (`mount_too_revealing`).
const MASKED: &str = "start the outer container with: docker run --security-opt systempaths=unconfined … \
     (podman: --security-opt unmask=ALL)";

pub(super) fn checks() -> Vec<Check> {
    let mut checks: Vec<Check> = [
        ("nested user namespace", CloneFlags::CLONE_NEWUSER),
        ("mount namespace", CloneFlags::CLONE_NEWNS),
        ("pid namespace", CloneFlags::CLONE_NEWPID),
        ("network namespace", CloneFlags::CLONE_NEWNET),
        ("ipc namespace", CloneFlags::CLONE_NEWIPC),
        ("uts namespace", CloneFlags::CLONE_NEWUTS),
        ("cgroup namespace", CloneFlags::CLONE_NEWCGROUP),
    ]
    .map(|(name, flag)| namespace(name, flag))
    .into();
    checks.extend(
        [
            ("procfs", "proc"),
            ("sysfs", "sysfs"),
            ("tmpfs", "tmpfs"),
            ("devpts", "devpts"),
            ("mqueue", "mqueue"),
        ]
        .map(|(name, kind)| file_system(name, kind)),
    );
    checks
}

fn namespace(name: &'static str, flag: CloneFlags) -> Check {
    match in_child(|| unshare(flag).map_err(io::Error::from)) {
        Ok(()) => Check::good(name, "could be made"),
        Err(error) => {
            let sysctl = match name {
                "nested user namespace" => "user.max_user_namespaces",
                "mount namespace" => "user.max_mnt_namespaces",
                "pid namespace" => "user.max_pid_namespaces",
                "network namespace" => "user.max_net_namespaces",
                "ipc namespace" => "user.max_ipc_namespaces",
                "uts namespace" => "user.max_uts_namespaces",
                _ => "user.max_cgroup_namespaces",
            };
            Check::broken(name, format!("could not be made: {}", words(error))).admin(format!(
                "sudo sysctl -w {sysctl}=15000; in an outer container: --security-opt seccomp=unconfined"
            ))
        }
    }
}

fn file_system(name: &'static str, kind: &'static str) -> Check {
    match in_child(|| new_mount(kind)) {
        Ok(()) => Check::good(name, "could be mounted"),
        Err(error) if kind == "mqueue" => Check::note(
            name,
            format!("could not be mounted: {}", words(error)),
            "no POSIX message queues inside containers",
        ),
        Err(error) if kind == "sysfs" => Check::limited(
            name,
            format!("could not be mounted: {}", words(error)),
            "containers get a read-only view of the host's, where that is allowed",
        )
        .admin(MASKED),
        Err(error) => Check::broken(name, format!("could not be mounted: {}", words(error))).admin(MASKED),
    }
}

/// With the namespaces that the file system wants to belong to this process.
fn new_mount(kind: &str) -> io::Result<()> {
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWPID;
    unshare(flags)?;
    let mount = || {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(context.as_fd())?;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        Ok(())
    };
    // The new pid namespace begins with the next child, and procfs shows that of its mounter.
    in_child(mount)
}
