//! Why the kernel refuses a user namespace, and the command that mends it.
//! Pure: it is given a reader of the host's files.

use crate::error::{Cause, Error, Trouble};
use crate::sys::errno::{Explanation, Reader};
use std::io;

/// The steps into a user namespace that the kernel may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// unshare(2) or clone3(2) with CLONE_NEWUSER.
    Unshare,
    /// Writing `uid_map`, `gid_map` or `setgroups`.
    WriteMap,
    /// The first privileged act inside: a mount namespace and its propagation.
    Mount,
}

const UBUNTU: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";

/// The error for a refused `step`, with cause and remedy where the host's
/// files tell them.
pub(crate) fn refused(step: Step, error: io::Error, read: Reader<'_>) -> Error {
    let explanation = error.raw_os_error().and_then(|errno| explain(step, errno, read));
    let action = match step {
        Step::Unshare => "make a user namespace",
        Step::WriteMap => "write the id maps of a user namespace",
        Step::Mount => "make a mount namespace inside the user namespace",
    };
    let error = error.into_error();
    match explanation {
        Some(Explanation { cause, fix }) => {
            error.context(cause).context(action).hint(fix).see_doctor(Trouble::UserNamespace)
        }
        None => error.context(action).see_doctor(Trouble::UserNamespace),
    }
}

/// Cause and remedy, where the host's files tell them.
pub(crate) fn explain(step: Step, errno: i32, read: Reader<'_>) -> Option<Explanation> {
    let zero = |path: &str| read(path).is_some_and(|text| text.trim() == "0");
    match errno {
        libc::ENOENT if read("/proc/self/status").is_none() => Some(no_proc()),
        libc::ENOSPC if step == Step::Mount => Some(too_many_mounts(read)),
        libc::ENOSPC | libc::EUSERS => Some(too_many(read)),
        libc::EPERM | libc::EACCES => {
            if zero("/proc/sys/kernel/unprivileged_userns_clone") {
                return Some(Explanation::new(
                    "unprivileged user namespaces are switched off (kernel.unprivileged_userns_clone is 0)",
                    "sudo sysctl -w kernel.unprivileged_userns_clone=1",
                ));
            }
            refused_by_permission(step, read)
        }
        libc::EINVAL if step == Step::Unshare => Some(Explanation::new(
            "the kernel has no user namespaces, or this process has threads",
            "use a kernel with CONFIG_USER_NS=y",
        )),
        _ => None,
    }
}

fn no_proc() -> Explanation {
    Explanation::new("/proc is not mounted", "mount -t proc proc /proc")
}

fn too_many(read: Reader<'_>) -> Explanation {
    let limit = read("/proc/sys/user/max_user_namespaces");
    match limit.as_deref().map(str::trim) {
        Some("0") => Explanation::new(
            "user namespaces are switched off (user.max_user_namespaces is 0)",
            "sudo sysctl -w user.max_user_namespaces=15000",
        ),
        Some(limit) => Explanation::new(
            format!("user.max_user_namespaces ({limit}) is reached, or namespaces are nested 32 deep"),
            "end containers that are not needed, or: sudo sysctl -w user.max_user_namespaces=60000",
        ),
        None => Explanation::new(
            "the limit of user namespaces is reached, or they are nested 32 deep",
            "sudo sysctl -w user.max_user_namespaces=15000",
        ),
    }
}

fn too_many_mounts(read: Reader<'_>) -> Explanation {
    let limit = read("/proc/sys/user/max_mnt_namespaces").unwrap_or_default();
    Explanation::new(
        format!("user.max_mnt_namespaces ({}) is reached, or fs.mount-max", limit.trim()),
        "end containers that are not needed, or: sudo sysctl -w user.max_mnt_namespaces=60000",
    )
}

/// EPERM has many fathers; the surest sign is looked for first.
fn refused_by_permission(step: Step, read: Reader<'_>) -> Option<Explanation> {
    let one = |path: &str| read(path).is_some_and(|text| text.trim() == "1");
    if step == Step::Unshare && in_chroot(read) {
        return Some(Explanation::new(
            "the kernel makes no user namespace for a process in a chroot",
            "run coracle outside the chroot, or enter it by pivot_root (systemd-nspawn, bwrap, unshare --root)",
        ));
    }
    if one(UBUNTU) {
        return Some(Explanation::new(
            "AppArmor restricts user namespaces of programs without a profile \
             (kernel.apparmor_restrict_unprivileged_userns is 1)",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ));
    }
    let status = read("/proc/self/status").unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if field("Seccomp:") == Some("2") {
        return Some(Explanation::new(
            "a seccomp filter forbids it: this runs inside another container or sandbox",
            "start the outer container with: docker run --security-opt seccomp=unconfined \
             --security-opt apparmor=unconfined --security-opt systempaths=unconfined …",
        ));
    }
    if step == Step::WriteMap && field("CapEff:").is_some_and(|text| !has_setfcap(text)) {
        let first = field("Uid:").and_then(|ids| ids.split_ascii_whitespace().next());
        if first == Some("0") {
            return Some(Explanation::new(
                "root without CAP_SETFCAP cannot map itself (Linux 5.12 and later)",
                "start the outer container with: docker run --cap-add SETFCAP …",
            ));
        }
    }
    None
}

/// Bit 31 of `CapEff`: capabilities(7).
fn has_setfcap(hexadecimal: &str) -> bool {
    u64::from_str_radix(hexadecimal, 16).is_ok_and(|set| set & (1 << 31) != 0)
}

/// In a chroot that is no mount point no line of mountinfo is for `/`:
/// proc_pid_mountinfo(5). (One that is a mount point is not told apart.)
pub(crate) fn in_chroot(read: Reader<'_>) -> bool {
    read("/proc/self/mountinfo")
        .is_some_and(|text| !text.is_empty() && !text.lines().any(|line| line.split(' ').nth(4) == Some("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n";

    fn host(files: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<String> {
        move |path| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned())
    }

    #[test]
    fn each_cause_has_its_own_command() {
        type Files = &'static [(&'static str, &'static str)];
        let cases: &[(Step, i32, Files, &str)] = &[
            (
                Step::Unshare,
                libc::EPERM,
                &[
                    ("/proc/sys/kernel/unprivileged_userns_clone", "0\n"),
                    ("/proc/self/status", "Seccomp:\t2\n"),
                ],
                "sudo sysctl -w kernel.unprivileged_userns_clone=1",
            ),
            (
                Step::Unshare,
                libc::ENOSPC,
                &[("/proc/sys/user/max_user_namespaces", "0\n")],
                "sudo sysctl -w user.max_user_namespaces=15000",
            ),
            (
                Step::WriteMap,
                libc::EACCES,
                &[(UBUNTU, "1\n"), ("/proc/self/mountinfo", ROOT)],
                "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
            ),
            (Step::Unshare, libc::ENOENT, &[], "mount -t proc proc /proc"),
        ];
        for (step, errno, files, fix) in cases {
            let explanation = explain(*step, *errno, &host(files)).expect("known");
            assert_eq!(&explanation.fix, fix, "{step:?} {errno}");
        }
    }

    #[test]
    fn outer_containers_and_chroots_are_told_apart() {
        let docker = host(&[("/proc/self/status", "Seccomp:\t2\n"), ("/proc/self/mountinfo", ROOT)]);
        let explanation = explain(Step::Unshare, libc::EPERM, &docker).expect("known");
        assert!(explanation.fix.contains("seccomp=unconfined"), "{explanation:?}");
        let chroot = host(&[
            ("/proc/self/status", "Seccomp:\t0\n"),
            ("/proc/self/mountinfo", "22 1 8:1 / /proc rw - proc proc rw\n"),
        ]);
        let explanation = explain(Step::Unshare, libc::EPERM, &chroot).expect("known");
        assert!(explanation.cause.contains("chroot"), "{explanation:?}");
        let plain = host(&[("/proc/self/status", "Seccomp:\t0\n"), ("/proc/self/mountinfo", ROOT)]);
        assert_eq!(explain(Step::Unshare, libc::EPERM, &plain), None);
    }

    #[test]
    fn a_reached_limit_is_not_a_zero_limit() {
        let busy = host(&[("/proc/sys/user/max_user_namespaces", "96365\n")]);
        let explanation = explain(Step::Unshare, libc::ENOSPC, &busy).expect("known");
        assert!(explanation.cause.contains("96365"), "{explanation:?}");
        let mounts = host(&[("/proc/sys/user/max_mnt_namespaces", "9\n")]);
        let explanation = explain(Step::Mount, libc::ENOSPC, &mounts).expect("known");
        assert!(explanation.fix.contains("max_mnt_namespaces"), "{explanation:?}");
    }

    #[test]
    fn root_of_a_container_without_setfcap() {
        let lacking =
            host(&[("/proc/self/status", "Uid:\t0\t0\t0\t0\nCapEff:\t00000000280425fb\nSeccomp:\t0\n")]);
        let explanation = explain(Step::WriteMap, libc::EPERM, &lacking).expect("known");
        assert!(explanation.cause.contains("CAP_SETFCAP"), "{explanation:?}");
        let having =
            host(&[("/proc/self/status", "Uid:\t0\t0\t0\t0\nCapEff:\t00000000a80425fb\nSeccomp:\t0\n")]);
        assert_eq!(explain(Step::WriteMap, libc::EPERM, &having), None);
    }

    #[test]
    fn the_error_keeps_the_kernels_word() {
        let read = host(&[("/proc/sys/user/max_user_namespaces", "0\n")]);
        let error = refused(Step::Unshare, io::Error::from_raw_os_error(libc::ENOSPC), &read);
        assert_eq!(
            error.to_string(),
            "make a user namespace: user namespaces are switched off (user.max_user_namespaces is 0): \
             No space left on device"
        );
        assert_eq!(error.errno(), Some(libc::ENOSPC));
        assert_eq!(error.remedy(), Some("sudo sysctl -w user.max_user_namespaces=15000"));
        assert!(error.hints().last().is_some_and(|hint| hint.contains("coracle doctor")));
        let hints = error.hints().len();
        assert_eq!(error.see_doctor(Trouble::Ids).hints().len(), hints, "once is enough");
    }
}
