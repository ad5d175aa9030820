//! The kernel, and what an outer container or sandbox has left of it.

use super::check::{Check, words};
use super::trial;
use crate::sys::errno::Reader;
use crate::sys::process::kernel_version;
use crate::userns::diagnose::in_chroot;

pub(super) fn checks(read: Reader<'_>) -> Vec<Check> {
    vec![
        version(&rustix::system::uname().release().to_string_lossy()),
        processes(),
        switch(
            read,
            "max_user_namespaces",
            "/proc/sys/user/max_user_namespaces",
            "sudo sysctl -w user.max_user_namespaces=15000",
        ),
        switch(
            read,
            "unprivileged_userns_clone",
            "/proc/sys/kernel/unprivileged_userns_clone",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        seccomp(read),
        sandbox(read),
        no_new_privs(read),
        chroot(read),
        selinux(read),
    ]
}

/// Overlay mounts in a user namespace came with Linux 5.11, mount_setattr(2) with 5.12.
fn version(release: &str) -> Check {
    if kernel_version(release) >= (5, 12) {
        Check::good("kernel", release)
    } else {
        Check::broken("kernel", format!("{release} is older than 5.12")).admin("upgrade the kernel")
    }
}

/// By doing: a process of this user's.
fn processes() -> Check {
    match trial::in_child(|| Ok(())) {
        Ok(()) => Check::good("fork", "a process could be started"),
        // The answer of filters that cannot look into its arguments.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            Check::broken("fork", "a seccomp filter forbids clone3: this runs inside another container")
                .user("start the outer container with: --security-opt seccomp=unconfined (or --privileged)")
        }
        Err(error) => Check::broken("fork", format!("no further process can be started: {}", words(error)))
            .user("end processes of yours, or raise `ulimit -u`"),
    }
}

/// A sysctl that stops user namespaces by being 0; where it is missing nothing does.
fn switch(read: Reader<'_>, name: &'static str, path: &str, remedy: &str) -> Check {
    match read(path).as_deref().map(str::trim) {
        Some("0") => {
            Check::broken(name, format!("user namespaces are switched off ({path} is 0)")).admin(remedy)
        }
        Some(value) => Check::good(name, value),
        None => Check::good(name, "this kernel has no such limit"),
    }
}

fn seccomp(read: Reader<'_>) -> Check {
    match read("/proc/sys/kernel/seccomp/actions_avail") {
        Some(actions) => Check::good("seccomp", actions.trim()),
        // A /proc with subset=pid has no sysctls.
        None if read("/proc/sys/kernel/pid_max").is_none() && status_field(read, "Seccomp").is_some() => {
            Check::good("seccomp", "the kernel has filters")
        }
        None => Check::broken("seccomp", "the kernel has no filters")
            .admin("use a kernel with CONFIG_SECCOMP_FILTER=y"),
    }
}

fn status_field(read: Reader<'_>, name: &str) -> Option<String> {
    let status = read("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    line.map(str::to_owned)
}

/// A filter on this process is that of an outer container.
fn sandbox(read: Reader<'_>) -> Check {
    const NAME: &str = "outer sandbox";
    match status_field(read, "Seccomp").as_deref() {
        Some("2") => Check::note(
            NAME,
            "a seccomp filter is on this process: it runs inside another container or sandbox",
            "what the filter forbids fails here too",
        )
        .admin(
            "start the outer container with: docker run --security-opt seccomp=unconfined \
             --security-opt apparmor=unconfined --security-opt systempaths=unconfined …",
        ),
        _ => Check::good(NAME, "no filter on this process"),
    }
}

/// With it newuidmap, set-uid or not, gets no privileges.
fn no_new_privs(read: Reader<'_>) -> Check {
    const NAME: &str = "no_new_privs";
    match status_field(read, "NoNewPrivs").as_deref() {
        Some("1") => Check::limited(
            NAME,
            "set on this process, so newuidmap gets no privileges",
            "only one id inside containers",
        )
        .user("start coracle from a shell without it (systemd: NoNewPrivileges=no; setpriv, bwrap and sudo's `use_pty` set it)"),
        _ => Check::good(NAME, "not set"),
    }
}

fn chroot(read: Reader<'_>) -> Check {
    const NAME: &str = "chroot";
    if in_chroot(read) {
        Check::broken(NAME, "this process is in a chroot, where the kernel makes no user namespace")
            .user("run coracle outside of the chroot, or enter it by pivot_root (systemd-nspawn, bwrap, unshare --root)")
    } else {
        Check::good(NAME, "none")
    }
}

fn selinux(read: Reader<'_>) -> Check {
    const NAME: &str = "SELinux";
    match read("/sys/fs/selinux/enforce").as_deref().map(str::trim) {
        Some("1") => Check::note(
            NAME,
            "enforcing",
            "files of bind mounts keep their labels, which the policy may refuse to programs inside",
        )
        .user("give the folder a label that containers may use: chcon -R -t container_file_t FOLDER"),
        _ => Check::good(NAME, "not enforcing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::doctor::Severity;

    fn host(files: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
        move |path| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned())
    }

    #[test]
    fn kernels() {
        for (release, ok) in [
            ("6.18.44-fc", true),
            ("5.12.0-1-amd64", true),
            ("5.10.0-30-amd64", false),
            ("4.19", false),
            ("6", true),
            ("", false),
        ] {
            assert_eq!(version(release).is_ok(), ok, "{release}");
        }
    }

    #[test]
    fn each_switch_names_its_sysctl() {
        let off = host(&[
            ("/proc/sys/user/max_user_namespaces", "0\n"),
            ("/proc/sys/kernel/unprivileged_userns_clone", "0\n"),
            ("/proc/sys/kernel/pid_max", "32768\n"),
            ("/proc/self/status", "Seccomp:\t2\nNoNewPrivs:\t1\n"),
            ("/proc/self/mountinfo", "22 1 8:1 / /proc rw - proc proc rw\n"),
        ]);
        let checks = checks(&off);
        let severity = |name: &str| checks.iter().find(|check| check.name == name).expect("there").severity;
        assert_eq!(severity("max_user_namespaces"), Severity::Broken);
        assert_eq!(severity("unprivileged_userns_clone"), Severity::Broken);
        assert_eq!(severity("outer sandbox"), Severity::Note);
        assert_eq!(severity("no_new_privs"), Severity::Limited);
        assert_eq!(severity("chroot"), Severity::Broken);
        assert_eq!(severity("seccomp"), Severity::Broken);
    }
}
