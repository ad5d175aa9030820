//! What an errno means where the errno alone misleads. It looks at the host's
//! settings before it speaks, and says nothing where it does not know.

/// The contents of a file of the host (`/proc/sys/...`), or `None`: a function,
/// so that a test can stand in for the host.
pub(crate) type Reader<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads from this host; at most 64 KiB of a file.
pub(crate) fn read_host(path: &str) -> Option<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(64 << 10).read_to_string(&mut text).ok()?;
    Some(text)
}

/// A cause and what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Explanation {
    /// Why the kernel refused.
    pub(crate) cause: String,
    /// The command or the step that helps.
    pub(crate) fix: String,
}

impl Explanation {
    pub(crate) fn new(cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { cause: cause.into(), fix: fix.into() }
    }
}

/// Explains `errno` from the system call `call`, where the host's settings tell.
/// For user namespaces see `userns::diagnose`, which knows more.
pub(crate) fn explain(call: &str, errno: i32, read: Reader<'_>) -> Option<Explanation> {
    match (call, errno) {
        ("mount" | "move_mount" | "open_tree", libc::ENOSPC) => {
            let limit = read("/proc/sys/fs/mount-max").unwrap_or_default();
            Some(Explanation::new(
                format!("too many mounts, not a full disk (the limit is {})", limit.trim()),
                "sudo sysctl fs.mount-max=200000",
            ))
        }
        ("fork" | "clone3", libc::EAGAIN) => Some(Explanation::new(
            "too many processes",
            "raise the limit: see `ulimit -u`, and pids.max of the control group",
        )),
        ("inotify_init1" | "inotify_add_watch", libc::EMFILE | libc::ENOSPC) => Some(Explanation::new(
            "too many inotify instances or watches",
            "sudo sysctl fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=524288",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enospc_of_mount_is_not_a_full_disk() {
        let read = |path: &str| (path == "/proc/sys/fs/mount-max").then(|| "100000\n".to_owned());
        let explanation = explain("mount", libc::ENOSPC, &read).expect("known");
        assert_eq!(explanation.cause, "too many mounts, not a full disk (the limit is 100000)");
        assert_eq!(explain("write", libc::ENOSPC, &read), None);
        assert_eq!(explain("mount", libc::EPERM, &read), None);
    }
}
