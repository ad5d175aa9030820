//! What of the host may be behind an error: the one table of errors and of the
//! lines of `coracle doctor` that look into them.

/// A part of the host that `doctor` tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// A user namespace, which everything needs.
    UserNamespace,
    /// The others, of a container.
    Namespaces,
    /// Subordinate ids and who maps them.
    Ids,
    /// A further process.
    Processes,
    /// The user's folders.
    Folders,
    /// Room on a disk; and mounts, for want of which the kernel says the same.
    Room,
    OpenFiles,
    /// flock(2).
    Locks,
    Terminals,
    /// File systems of a container's own.
    FileSystems,
    Seccomp,
    Loopback,
    /// systemd's manager of this user.
    UserManager,
    /// Where groups may be made, and with which controllers.
    ControlGroups,
    /// Programs that serve as the way out.
    WayOut,
    Tap,
    LowPorts,
    /// The way to a registry.
    Registries,
    Certificates,
    Overlay,
    Fuse,
    Attributes,
    /// A mount that runs no programs.
    NoExec,
}

/// What helps where a limit of this process is reached, whatever the call was.
pub(super) fn raise_limit(errno: i32) -> Option<&'static str> {
    match errno {
        libc::EMFILE => Some("raise the limit of open files: ulimit -n 1024"),
        libc::EFBIG => Some("see `ulimit -f`, the largest file that a process may write"),
        _ => None,
    }
}

impl Trouble {
    /// The lines of `doctor`, by their names, the likeliest first.
    pub(crate) fn checks(self) -> &'static [&'static str] {
        match self {
            Self::UserNamespace => &[
                "user namespace",
                "AppArmor",
                "max_user_namespaces",
                "unprivileged_userns_clone",
                "outer sandbox",
                "chroot",
                "kernel",
                "/proc",
            ],
            Self::Namespaces => &[
                "nested user namespace",
                "mount namespace",
                "pid namespace",
                "network namespace",
                "ipc namespace",
                "uts namespace",
                "cgroup namespace",
            ],
            Self::Ids => &["subuid", "subgid", "newuidmap", "newgidmap", "no_new_privs", "subuid files"],
            Self::Processes => &["process ids", "fork"],
            Self::Folders => {
                &["data folder", "state folder", "cache folder", "runtime folder", "XDG_RUNTIME_DIR"]
            }
            Self::Room => &["room", "mounts"],
            Self::OpenFiles => &["open files"],
            Self::Locks => &["file locks"],
            Self::Terminals => &["terminals", "devpts"],
            Self::FileSystems => &["procfs", "sysfs", "tmpfs", "devpts", "mqueue", "mounts"],
            Self::Seccomp => &["seccomp", "outer sandbox"],
            Self::Loopback => &["loopback"],
            Self::UserManager => &["user manager", "linger"],
            Self::ControlGroups => &["controllers", "cgroups", "own control group", "user manager"],
            Self::WayOut => &["way out", "slirp4netns", "pasta", "/dev/net/tun"],
            Self::Tap => &["/dev/net/tun"],
            Self::LowPorts => &["low ports"],
            Self::Registries => &["name servers", "proxy", "IPv6"],
            Self::Certificates => &["certificates"],
            Self::Overlay => &["overlay"],
            Self::Fuse => &["/dev/fuse", "FUSE mount"],
            Self::Attributes => &["user attributes"],
            Self::NoExec => &["noexec"],
        }
    }

    /// Where an errno alone tells it, whatever the call was.
    pub(super) fn of_errno(errno: i32) -> Option<Self> {
        match errno {
            libc::ENOSPC | libc::EDQUOT => Some(Self::Room),
            libc::EMFILE | libc::ENFILE => Some(Self::OpenFiles),
            libc::ENOLCK => Some(Self::Locks),
            _ => None,
        }
    }

    /// The words that point there, for a hint or the end of a warning.
    pub(crate) fn pointer(self) -> String {
        format!("see `coracle doctor`, which looks at: {}", self.checks().join(", "))
    }

    /// All of them, for tests.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 23] = [
        Self::UserNamespace,
        Self::Namespaces,
        Self::Ids,
        Self::Processes,
        Self::Folders,
        Self::Room,
        Self::OpenFiles,
        Self::Locks,
        Self::Terminals,
        Self::FileSystems,
        Self::Seccomp,
        Self::Loopback,
        Self::UserManager,
        Self::ControlGroups,
        Self::WayOut,
        Self::Tap,
        Self::LowPorts,
        Self::Registries,
        Self::Certificates,
        Self::Overlay,
        Self::Fuse,
        Self::Attributes,
        Self::NoExec,
    ];
}
