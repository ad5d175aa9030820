//! What a container is to be: decided by the monitor, carried out by `init`.
//!
//! Everything that comes from the host is here as an open fd (a detached mount,
//! a namespace), so that nothing is looked up by a host path any more once the
//! container's own processes or links could interfere.

use crate::types::idmap::IdMap;
use crate::types::personality::Personality;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// A container, ready to be carried out.
pub(crate) struct Plan {
    /// The root file system as a detached mount.
    pub(crate) rootfs: OwnedFd,
    /// A directory of the host that the root file system is mounted on before
    /// pivot_root: the container's own state directory.
    pub(crate) mount_point: String,
    pub(crate) read_only: bool,
    pub(crate) origin: Origin,
    pub(crate) namespaces: Namespaces,
    /// The control group to start in, where there is one.
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    /// In the order in which they are made.
    pub(crate) mounts: Vec<Mount>,
    /// Host devices: a detached mount of the node, and where it goes.
    pub(crate) devices: Vec<Device>,
    /// Paths hidden by `/dev/null` or an empty read-only tmpfs.
    pub(crate) masked_paths: Vec<String>,
    pub(crate) read_only_paths: Vec<String>,
    /// Keys as sysctl(8) writes them, with dots or slashes.
    pub(crate) sysctls: Vec<(String, String)>,
    pub(crate) process: Process,
}

/// Where the root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// An image: the files that programs look for are made where it has none.
    Image,
    /// A directory of the host, which is written to: nothing is made there that
    /// need not be.
    Directory(PathBuf),
    /// What is thrown away at the end: such a directory seen through an overlay, or
    /// an empty one.
    Passing,
}

/// A control group.
pub(crate) struct Cgroup {
    pub(crate) fd: OwnedFd,
    /// It has limits: without it the container does not start.
    pub(crate) required: bool,
}

/// The namespaces: a fresh one, the one of the monitor, or another container's.
pub(crate) struct Namespaces {
    pub(crate) user: UserNamespace,
    pub(crate) pid: Fresh,
    pub(crate) net: Fresh,
    pub(crate) ipc: Fresh,
    pub(crate) uts: Fresh,
    pub(crate) cgroup: Fresh,
    /// Namespaces to enter before the fresh ones are made, in this order.
    pub(crate) join: Vec<Join>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fresh {
    Yes,
    /// As inherited or joined.
    No,
}

pub(crate) enum UserNamespace {
    /// A nested one with these maps onto the monitor's.
    Nested { uid: IdMap, gid: IdMap },
    /// The monitor's, or one that is joined.
    Same,
}

/// One namespace file and its `CLONE_NEW*` type.
pub(crate) struct Join {
    pub(crate) fd: OwnedFd,
    pub(crate) kind: i32,
}

/// One mount below the root.
pub(crate) struct Mount {
    /// Absolute, as the container sees it.
    pub(crate) target: String,
    pub(crate) kind: MountKind,
    /// `sys::mount` attribute bits.
    pub(crate) attributes: u64,
}

pub(crate) enum MountKind {
    Proc,
    Sysfs,
    Cgroup,
    Mqueue,
    Devpts,
    /// Size in bytes (0: the kernel's default) and permission bits.
    Tmpfs {
        size: u64,
        mode: u32,
    },
    /// The minimal `/dev`: a tmpfs that the default nodes and links are put in, and
    /// directories for the mounts below it: one for `/dev/shm` where there is one.
    Dev {
        shm: bool,
    },
    /// A tmpfs with files that are nowhere else; those that belong elsewhere are
    /// mounted there.
    Secrets {
        files: Vec<SecretFile>,
    },
    /// A detached mount made by the monitor.
    Bind {
        mount: OwnedFd,
        directory: bool,
    },
}

/// A secret, for a container's own eyes.
pub(crate) struct SecretFile {
    /// Absolute, as the container sees it.
    pub(crate) path: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct Device {
    pub(crate) mount: OwnedFd,
    /// Absolute, as the container sees it.
    pub(crate) path: String,
}

/// The first process.
pub(crate) struct Process {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// `None`: keep those of the caller (`keep-groups`, or a map that forbids setgroups).
    pub(crate) groups: Option<Vec<u32>>,
    pub(crate) umask: u32,
    pub(crate) capabilities: super::capabilities::ProcessCaps,
    pub(crate) rlimits: Vec<crate::types::container::Ulimit>,
    /// The system's kernel.pid_max, where it can be read.
    pub(crate) pid_max: Option<u64>,
    pub(crate) no_new_privileges: bool,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) personality: Option<Personality>,
    /// A compiled filter, loaded last.
    pub(crate) seccomp: Option<SeccompProgram>,
    pub(crate) terminal: bool,
    pub(crate) role: Role,
    pub(crate) stdio: Stdio,
}

/// What the first process becomes when all is set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// The command.
    Command,
    /// A reaper of ours, with the command as its child: `--init`.
    Reaper,
    /// A process that keeps the namespaces, and runs nothing: a pod's infra container.
    Infra,
}

/// A compiled filter and its `SECCOMP_FILTER_FLAG_*` bits.
#[derive(Clone)]
pub(crate) struct SeccompProgram {
    pub(crate) filter: Vec<libc::sock_filter>,
    pub(crate) flags: u32,
}

/// What becomes fds 0, 1 and 2; with a terminal its slave takes all three.
#[derive(Default)]
pub(crate) struct Stdio {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}
