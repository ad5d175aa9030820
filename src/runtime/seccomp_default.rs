//! The default seccomp profile: what containers may do unless told otherwise.
//!
//! In effect podman's (containers-common 0.50, whose default is ENOSYS too), and
//! stricter in what recent escapes went through. A test below has the whole list of
//! differences. What is refused beyond podman's:
//!
//! - `socket(AF_ALG)` (CVE-2026-31431) and `socket(AF_VSOCK)`, judged by the 32 bits
//!   that the kernel looks at. `socketcall(SYS_SOCKET)` of 32-bit programs could ask
//!   for the same behind a pointer, so it gets ENOSYS: musl, and glibc built for Linux 4.3 or
//!   later, use `socket` itself.
//! - New namespaces and mounts without CAP_SYS_ADMIN, as docker (CVE-2022-0185, CVE-2022-0492).
//! - The kernel's keyrings, which know no containers. `add_key`, `request_key`, io_uring,
//!   and whatever else is not named here get ENOSYS, as with podman.

use super::capabilities::CapSet;
use super::seccomp::{Action, Applies, Arch, Comparison, Condition, Profile, Rule};
use std::borrow::Cow;

/// The profile; it is constant.
pub(crate) fn profile() -> Profile {
    let architectures: &[Arch] = match Arch::native() {
        Some(Arch::X86_64) => &[Arch::X86, Arch::X32],
        Some(Arch::Aarch64) => &[Arch::Arm],
        _ => &[],
    };
    Profile {
        default: Action::Errno(libc::ENOSYS as u16),
        architectures: Cow::Borrowed(architectures),
        rules: Cow::Borrowed(RULES),
        flags: 0,
    }
}

/// Files and directories.
const FILES: &str = "\
    _llseek access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 \
    faccessat faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchown fchown32 \
    fchownat fcntl fcntl64 fdatasync flock fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate \
    ftruncate64 futimesat getcwd getdents getdents64 getrandom ioctl lchown lchown32 link linkat lseek \
    lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 pread64 \
    preadv preadv2 pwrite64 pwritev pwritev2 read readahead readdir readlink readlinkat readv rename \
    renameat renameat2 rmdir sendfile sendfile64 splice stat stat64 statfs statfs64 statx symlink \
    symlinkat sync sync_file_range syncfs tee truncate truncate64 unlink unlinkat utime utimensat \
    utimensat_time64 utimes write writev";

/// Extended attributes.
const XATTRS: &str = "\
    fgetxattr flistxattr fremovexattr fsetxattr getxattr lgetxattr listxattr llistxattr lremovexattr \
    lsetxattr removexattr setxattr";

/// Waiting for descriptors and for changes of files.
const WAITING: &str = "\
    _newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait \
    epoll_wait_old fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch poll \
    ppoll pselect6 select";

/// POSIX-style asynchronous input and output; not io_uring.
const ASYNCHRONOUS: &str = "\
    io_cancel io_destroy io_getevents io_setup io_submit";

/// Memory.
const MEMORY: &str = "\
    brk get_mempolicy madvise mbind memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 \
    mprotect mremap msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages \
    set_mempolicy";

/// Processes, their scheduling and limits, and what they may take from themselves.
const PROCESSES: &str = "\
    capget capset execve execveat exit exit_group fork futex futex_time64 get_robust_list \
    get_thread_area getcpu getpgid getpgrp getpid getppid getpriority getrlimit getrusage getsid gettid \
    ioprio_get ioprio_set landlock_add_rule landlock_create_ruleset landlock_restrict_self membarrier \
    pidfd_getfd pidfd_open pidfd_send_signal prctl prlimit64 process_mrelease process_vm_readv \
    process_vm_writev ptrace reboot restart_syscall rseq sched_get_priority_max sched_get_priority_min \
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval \
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler \
    sched_yield seccomp set_robust_list set_thread_area set_tid_address setpgid setpriority setrlimit \
    setsid syscall sysinfo syslog times ugetrlimit umask uname vfork wait4 waitid waitpid";

/// Users and groups.
const IDENTITY: &str = "\
    getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32 \
    getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 \
    setgroups setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid \
    setreuid32 setuid setuid32";

/// Signals.
const SIGNALS: &str = "\
    alarm kill pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn \
    rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaction sigaltstack signal \
    signalfd signalfd4 sigpending sigprocmask sigreturn sigsuspend tgkill tkill";

/// Clocks and timers; setting the clock is not among them.
const TIME: &str = "\
    adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep ppoll_time64 \
    pselect6_time64 recvmmsg_time64 semtimedop semtimedop_time64 setitimer time timer_create \
    timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd \
    timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64";

/// Sockets, but for making one.
const SOCKETS: &str = "\
    accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmsg \
    send sendmmsg sendmsg sendto setsockopt shutdown socketpair";

/// Pipes, and System V and POSIX message queues, semaphores and shared memory.
const IPC: &str = "\
    eventfd eventfd2 ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 \
    mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd pipe pipe2 semctl semget \
    semop shmat shmctl shmdt shmget";

/// Newer than podman 4.3, refused by it for that alone; newer ones of it and docker allow them.
const NEW: &str = "\
    cachestat fchmodat2 futex_requeue futex_wait futex_waitv futex_wake getxattrat listmount listxattrat \
    map_shadow_stack mseal removexattrat set_mempolicy_home_node setxattrat statmount uretprobe";

/// Mounting, by the old calls and the new.
const MOUNTS: &str = "\
    fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree open_tree_attr pivot_root \
    umount umount2";

/// What podman answers with EPERM rather than ENOSYS: the calls exist everywhere, and
/// programs ask for the errno.
const REFUSED: &str = "\
    bdflush io_pgetevents kexec_file_load kexec_load migrate_pages move_pages nfsservctl nice oldfstat \
    oldlstat oldolduname oldstat olduname pciconfig_iobase pciconfig_read pciconfig_write sgetmask \
    ssetmask swapcontext swapoff swapon sysfs uselib userfaultfd ustat vm86 vm86old vmsplice";

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET: include/uapi/linux/sched.h.
const CLONE_NEW: u64 = 0x7e02_0000;
/// In `unshare` alone; in `clone` this bit is part of the exit signal.
const CLONE_NEWTIME: u64 = 0x80;

/// The kernel reads an `int` of these arguments: what is above must not be able to
/// make 38 look like something else.
const INT: Comparison = Comparison::Masked(0xffff_ffff);

const AF_NETLINK: u64 = 16;
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;
const NETLINK_AUDIT: u64 = 9;
/// The sub-call of socketcall(2): include/uapi/linux/net.h.
const SYS_SOCKET: u64 = 1;

const EPERM: Action = Action::Errno(libc::EPERM as u16);
const ENOSYS: Action = Action::Errno(libc::ENOSYS as u16);
const EAFNOSUPPORT: Action = Action::Errno(libc::EAFNOSUPPORT as u16);

/// The first that matches decides.
static RULES: &[Rule] = &[
    allow(FILES),
    allow(XATTRS),
    allow(WAITING),
    allow(ASYNCHRONOUS),
    allow(MEMORY),
    allow(PROCESSES),
    allow(IDENTITY),
    allow(SIGNALS),
    allow(TIME),
    allow(SOCKETS),
    allow(IPC),
    allow(NEW),
    rule(REFUSED, EPERM, &[], Applies::ALWAYS),
    // Sockets.
    rule("socket", EAFNOSUPPORT, &[is(0, INT, AF_ALG)], Applies::ALWAYS),
    rule("socket", EAFNOSUPPORT, &[is(0, INT, AF_VSOCK)], Applies::ALWAYS),
    rule(
        "socket",
        Action::Errno(libc::EINVAL as u16),
        &[is(0, INT, AF_NETLINK), is(2, INT, NETLINK_AUDIT)],
        without(CapSet::AUDIT_WRITE),
    ),
    allow("socket"),
    rule("socketcall", ENOSYS, &[is(0, INT, SYS_SOCKET)], Applies::ALWAYS),
    allow("socketcall"),
    // Execution domains: PER_LINUX, PER_LINUX32, UNAME26 with both, and the question.
    rule("personality", Action::Allow, &[is(0, Comparison::Equal, 0)], Applies::ALWAYS),
    rule("personality", Action::Allow, &[is(0, Comparison::Equal, 0x8)], Applies::ALWAYS),
    rule("personality", Action::Allow, &[is(0, Comparison::Equal, 0x2_0000)], Applies::ALWAYS),
    rule("personality", Action::Allow, &[is(0, Comparison::Equal, 0x2_0008)], Applies::ALWAYS),
    rule("personality", Action::Allow, &[is(0, Comparison::Equal, 0xffff_ffff)], Applies::ALWAYS),
    // Namespaces and mounts. clone3 has its flags behind a pointer; with ENOSYS libraries use clone.
    rule("clone clone3 unshare", Action::Allow, &[], with(CapSet::SYS_ADMIN)),
    rule("clone", Action::Allow, &[is(0, Comparison::Masked(CLONE_NEW), 0)], Applies::ALWAYS),
    rule(
        "unshare",
        Action::Allow,
        &[is(0, Comparison::Masked(CLONE_NEW | CLONE_NEWTIME), 0)],
        Applies::ALWAYS,
    ),
    rule("clone unshare", EPERM, &[], Applies::ALWAYS),
    rule(MOUNTS, Action::Allow, &[], with(CapSet::SYS_ADMIN)),
    rule(MOUNTS, EPERM, &[], Applies::ALWAYS),
    // What a capability opens.
    rule(BY_ADMIN, Action::Allow, &[], with(CapSet::SYS_ADMIN)),
    rule(BY_ADMIN, EPERM, &[], Applies::ALWAYS),
    rule("open_by_handle_at", Action::Allow, &[], with(CapSet::DAC_READ_SEARCH)),
    rule("chroot", Action::Allow, &[], with(CapSet::SYS_CHROOT)),
    rule(BY_MODULE, Action::Allow, &[], with(CapSet::SYS_MODULE)),
    rule("acct", Action::Allow, &[], with(CapSet::SYS_PACCT)),
    rule("kcmp process_madvise", Action::Allow, &[], with(CapSet::SYS_PTRACE)),
    rule("ioperm iopl", Action::Allow, &[], with(CapSet::SYS_RAWIO)),
    rule(BY_TIME, Action::Allow, &[], with(CapSet::SYS_TIME)),
    rule("vhangup", Action::Allow, &[], with(CapSet::SYS_TTY_CONFIG)),
    rule(
        "open_by_handle_at chroot acct kcmp process_madvise ioperm iopl vhangup",
        EPERM,
        &[],
        Applies::ALWAYS,
    ),
    rule(BY_MODULE, EPERM, &[], Applies::ALWAYS),
    rule(BY_TIME, EPERM, &[], Applies::ALWAYS),
    // What only some machines have.
    rule("arch_prctl modify_ldt", Action::Allow, &[], on(&[Arch::X86_64])),
    rule(
        "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
        Action::Allow,
        &[],
        on(&[Arch::Aarch64, Arch::Arm]),
    ),
];

const BY_ADMIN: &str =
    "bpf fanotify_init lookup_dcookie perf_event_open quotactl setdomainname sethostname setns";
const BY_MODULE: &str = "delete_module finit_module init_module query_module";
const BY_TIME: &str = "clock_settime clock_settime64 settimeofday stime";

const fn allow(names: &'static str) -> Rule {
    rule(names, Action::Allow, &[], Applies::ALWAYS)
}

const fn rule(names: &'static str, action: Action, conditions: &'static [Condition], only: Applies) -> Rule {
    Rule { names: Cow::Borrowed(names), action, conditions: Cow::Borrowed(conditions), only }
}

const fn is(argument: u8, comparison: Comparison, value: u64) -> Condition {
    Condition { argument, comparison, value }
}

const fn with(capability: CapSet) -> Applies {
    applies(capability, CapSet::EMPTY, None)
}

const fn without(capability: CapSet) -> Applies {
    applies(CapSet::EMPTY, capability, None)
}

const fn on(machines: &'static [Arch]) -> Applies {
    applies(CapSet::EMPTY, CapSet::EMPTY, Some(Cow::Borrowed(machines)))
}

const fn applies(with: CapSet, without: CapSet, on: Option<Cow<'static, [Arch]>>) -> Applies {
    Applies { with, without, on, not_on: Cow::Borrowed(&[]), since: None, before: None }
}

#[cfg(test)]
mod tests {
    use super::super::seccomp::testing::{AARCH64, Call, X86_64, assert_agrees, interpret, names};
    use super::super::seccomp::{Host, compile, install};
    use super::*;
    use rustix::io::Errno;
    use std::collections::BTreeSet;

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

    fn errno(errno: i32) -> u32 {
        libc::SECCOMP_RET_ERRNO | errno as u32
    }

    fn x86() -> Profile {
        Profile { architectures: Cow::Borrowed(&[Arch::X86, Arch::X32]), ..profile() }
    }

    fn decide(capabilities: CapSet, name: &str, arch: Arch, arguments: &[u64]) -> u32 {
        let program = compile(&x86(), capabilities, X86_64).unwrap();
        interpret(&program, &Call::named(name, arch, arguments).unwrap())
    }

    #[test]
    fn the_compiled_profile_agrees_with_its_rules() {
        assert_agrees(&x86(), CapSet::DEFAULT, X86_64);
        assert_agrees(&x86(), CapSet::ALL, X86_64);
        let arm = Profile { architectures: Cow::Borrowed(&[Arch::Arm]), ..profile() };
        assert_agrees(&arm, CapSet::DEFAULT, AARCH64);
    }

    #[test]
    fn every_name_is_a_system_call_and_stands_once() {
        let known: BTreeSet<String> = names().collect();
        // Of machines that there is no table for, or aliases of libseccomp's.
        let foreign = ["swapcontext", "syscall", "timerfd"];
        let mut seen = BTreeSet::new();
        for rule in RULES.iter().filter(|rule| rule.conditions.is_empty() && rule.action == Action::Allow) {
            for name in rule.names.split(' ') {
                assert!(known.contains(name) || foreign.contains(&name), "{name}");
                assert!(seen.insert(name), "{name} stands twice");
            }
        }
    }

    /// CVE-2026-31431: also by way of bits that the kernel ignores, and of the calls of 32-bit programs.
    #[test]
    fn af_alg_and_vsock_cannot_be_had() {
        for arch in [Arch::X86_64, Arch::X86, Arch::X32] {
            for family in [38, 40] {
                for high in [0, 1 << 32, 0xffff_ffff << 32] {
                    let got = decide(CapSet::ALL, "socket", arch, &[family | high, 5, 0]);
                    assert_eq!(got, errno(libc::EAFNOSUPPORT), "{arch:?} {family} {high:x}");
                }
            }
            assert_eq!(decide(CapSet::DEFAULT, "socket", arch, &[2, 1, 6]), ALLOW);
            assert_eq!(decide(CapSet::DEFAULT, "socket", arch, &[16, 3, 9]), errno(libc::EINVAL));
            assert_eq!(decide(CapSet::DEFAULT, "socket", arch, &[16, 3, 9 | 1 << 32]), errno(libc::EINVAL));
            assert_eq!(decide(CapSet::ALL, "socket", arch, &[16, 3, 9]), ALLOW);
        }
        assert_eq!(decide(CapSet::ALL, "socketcall", Arch::X86, &[1, 0]), errno(libc::ENOSYS));
        assert_eq!(decide(CapSet::DEFAULT, "socketcall", Arch::X86, &[3, 0]), ALLOW);
    }

    /// CVE-2022-0185, CVE-2022-0492, and the calls that other escapes began with.
    #[test]
    fn what_kernel_exploits_begin_with_is_refused() {
        let (eperm, enosys) = (errno(libc::EPERM), errno(libc::ENOSYS));
        for arch in [Arch::X86_64, Arch::X86, Arch::X32] {
            for name in MOUNTS.split(' ').chain(["setns", "bpf", "perf_event_open"]) {
                if Call::named(name, arch, &[]).is_some() {
                    assert_eq!(decide(CapSet::DEFAULT, name, arch, &[]), eperm, "{arch:?} {name}");
                    assert_eq!(decide(CapSet::ALL, name, arch, &[]), ALLOW, "{arch:?} {name}");
                }
            }
            for name in
                ["keyctl", "add_key", "request_key", "io_uring_setup", "io_uring_enter", "io_uring_register"]
            {
                assert_eq!(decide(CapSet::ALL, name, arch, &[]), enosys, "{arch:?} {name}");
            }
            assert_eq!(decide(CapSet::ALL, "userfaultfd", arch, &[]), eperm);
            for flag in
                [0x2_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000]
            {
                for call in ["clone", "unshare"] {
                    assert_eq!(decide(CapSet::DEFAULT, call, arch, &[flag | 0x11]), eperm, "{call} {flag:x}");
                    assert_eq!(decide(CapSet::ALL, call, arch, &[flag | 0x11]), ALLOW);
                }
            }
            assert_eq!(decide(CapSet::DEFAULT, "unshare", arch, &[0x80]), eperm);
            assert_eq!(decide(CapSet::DEFAULT, "unshare", arch, &[0x200]), ALLOW);
            assert_eq!(decide(CapSet::DEFAULT, "clone", arch, &[0x003d_0f00]), ALLOW);
            assert_eq!(decide(CapSet::DEFAULT, "clone3", arch, &[]), enosys);
        }
    }

    #[test]
    fn no_other_architecture_slips_through() {
        let program = compile(&x86(), CapSet::DEFAULT, X86_64).unwrap();
        for audit in [0xc000_00b7, 0x4000_0028, 0, 0xc000_003f] {
            let call = Call { audit, number: 0, arguments: [0; 6] };
            assert_eq!(interpret(&program, &call), libc::SECCOMP_RET_KILL_PROCESS);
        }
        // x32 numbers of 64-bit calls, and numbers yet to come.
        for number in [471, 1000, 0x4000_01d7, 0x4000_0224, u32::MAX] {
            let call = Call { audit: 0xc000_003e, number, arguments: [0; 6] };
            assert_eq!(interpret(&program, &call), errno(libc::ENOSYS), "{number:x}");
        }
    }

    /// Every call with every capability and none, against what podman's file says.
    #[test]
    fn differences_from_podman_are_these() {
        let Ok(text) = std::fs::read_to_string("/usr/share/containers/seccomp.json") else {
            println!("skipped: podman's seccomp.json is not installed");
            return;
        };
        let podman = Profile::parse(&text).unwrap();
        let podman = Profile { architectures: Cow::Borrowed(&[Arch::X86, Arch::X32]), ..podman };
        let arguments: Vec<Vec<u64>> =
            [0, 1, 2, 8, 16, 38, 40, 0x80, 0x2_0000, 0x2_0008, 0x7e02_0000, 0xffff_ffff]
                .iter()
                .flat_map(|first| [0, 9].map(|third| vec![*first, 3, third]))
                .collect();
        let mut different = BTreeSet::new();
        for capabilities in [CapSet::EMPTY, CapSet::DEFAULT, CapSet::ALL] {
            let programs = [&podman, &x86()].map(|profile| compile(profile, capabilities, X86_64).unwrap());
            for (arch, name) in
                [Arch::X86_64, Arch::X86, Arch::X32].iter().flat_map(|arch| names().map(|name| (*arch, name)))
            {
                for arguments in &arguments {
                    let Some(call) = Call::named(&name, arch, arguments) else { continue };
                    if interpret(&programs[0], &call) != interpret(&programs[1], &call) {
                        different.insert(name.clone());
                    }
                }
            }
        }
        let stricter = ["socket", "socketcall", "clone", "clone3", "unshare", "setns", "keyctl"];
        let expected: BTreeSet<String> =
            MOUNTS.split(' ').chain(NEW.split(' ')).chain(stricter).map(str::to_owned).collect();
        assert_eq!(different, expected);
    }

    /// The kernel takes the program and does what it says; a filter belongs to a thread.
    #[test]
    fn the_kernel_enforces_it() {
        let program = compile(&profile(), CapSet::DEFAULT, Host::running().unwrap()).unwrap();
        std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            install(&program, 0).unwrap();
            let socket = |family| {
                let family = rustix::net::AddressFamily::from_raw(family);
                rustix::net::socket(family, rustix::net::SocketType::SEQPACKET, None).map(drop)
            };
            assert_eq!(socket(38), Err(Errno::AFNOSUPPORT));
            assert_eq!(socket(40), Err(Errno::AFNOSUPPORT));
            assert_eq!(socket(1), Ok(()));
            let unmount = rustix::mount::unmount("/nowhere", rustix::mount::UnmountFlags::empty());
            assert_eq!(unmount, Err(Errno::PERM));
            std::thread::spawn(|| assert!(std::fs::read("/proc/self/status").is_ok())).join().unwrap();
        })
        .join()
        .unwrap();
    }

    /// On the path of every start: `cargo test --release -- --ignored --nocapture compiling`.
    #[test]
    #[ignore = "a measurement"]
    fn compiling_takes_no_time() {
        let mut best = std::time::Duration::MAX;
        let mut length = 0;
        for _ in 0..1000 {
            let start = std::time::Instant::now();
            length = compile(&x86(), CapSet::DEFAULT, X86_64).unwrap().len();
            best = best.min(start.elapsed());
        }
        println!("{length} instructions in {best:?} at best");
        assert!(best.as_micros() < 150);
    }
}
