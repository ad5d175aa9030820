//! Processes: clone3, exec, pidfds, what a child inherits.

use super::proc_stat::Stat;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// include/uapi/linux/sched.h; the crate's constant has not enough bits.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What `clone3` gives to each of the two that return from it.
pub(crate) enum Cloned {
    Child,
    Parent { pid: u32, pidfd: OwnedFd },
}

/// clone3(2) without a stack of its own, as fork(2) does it, with the given
/// `CLONE_NEW*` flags. The parent gets a pidfd. Since Linux 5.3.
///
/// The caller must have one thread only: the child goes on in a copy of its
/// memory, where locks held by other threads would stay held for ever.
pub(crate) fn clone3(flags: u64) -> io::Result<Cloned> {
    clone3_into(flags, None)
}

/// The same, into the control group that is open as `cgroup`: `CLONE_INTO_CGROUP`,
/// since Linux 5.7.
pub(crate) fn clone3_into(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: an all-zero clone_args is valid: every field is an integer.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // CLONE_PARENT takes the caller's own exit signal: clone(2).
    if flags & libc::CLONE_PARENT as u64 != 0 {
        args.exit_signal = 0;
    }
    // SAFETY: `args` lives through the call and has the size given; no stack is
    // passed, so the child runs on its copy of this one (no CLONE_VM).
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: the kernel has put a new fd that nobody else owns there.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid: pid as u32, pidfd })
        }
    }
}

/// Gives the calling thread the policy SCHED_IDLE (sched(7)): it runs where nothing
/// else wants to. An ordinary user cannot take that back.
///
/// # Errors
/// As sched_setscheduler(2).
pub(crate) fn give_way() -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: `parameter` lives through the call, which only reads it.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameter) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// personality(2), of the calling process and what it executes.
///
/// # Errors
/// EINVAL where the kernel does not know it.
pub(crate) fn set_personality(persona: u32) -> io::Result<()> {
    // SAFETY: personality takes a number and has no preconditions.
    match unsafe { libc::personality(persona.into()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Ends this process at once: no destructors, no buffers. For a cloned child.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// execve(2) of a path. Returns only on failure.
pub(crate) fn execve(path: &CString, args: &[CString], env: &[CString]) -> io::Error {
    let args = pointers(args);
    let env = pointers(env);
    // SAFETY: both arrays end with a null pointer and point to live C strings.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// execveat(2) of an open file. Returns only on failure.
pub(crate) fn fexecve(file: BorrowedFd<'_>, args: &[CString], env: &[CString]) -> io::Error {
    let args = pointers(args);
    let env = pointers(env);
    // SAFETY: both arrays end with a null pointer and point to live C strings;
    // the empty path is NUL-terminated.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
}

/// Sets close-on-exec on every fd from `first` on: close_range(2), since Linux
/// 5.11 with this flag; before that each fd of /proc/self/fd is set.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: the call takes three integers.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 {
        return Ok(());
    }
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(fd) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if fd as u32 >= first {
            // SAFETY: F_SETFD changes a flag of the fd, and EBADF is harmless.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Lets this process open as many files as its user may. How many that is now, none
/// for no limit; where it is refused (a filter), as many as before.
pub(crate) fn raise_file_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// Closes every fd from `first` on: close_range(2).
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: the call takes three integers. The callers own no `OwnedFd` above
    // `first` that they use afterwards: they exec or exit next.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes every fd from 3 on but those in `keep`: close_range(2). For a cloned
/// child that ends in exec or [`exit_now`]: no `OwnedFd` of its parent's memory
/// is used or dropped in it any more.
pub(crate) fn close_all_but(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut numbers: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    numbers.sort_unstable();
    let mut first = 3;
    for number in numbers.into_iter().filter(|number| *number >= 3) {
        if number > first {
            // SAFETY: the call takes three integers; who owned these fds does
            // not use them any more, see above.
            let result = unsafe { libc::syscall(libc::SYS_close_range, first, number - 1, 0) };
            if result != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        first = first.max(number + 1);
    }
    close_from(first)
}

/// Takes fd `number`, which the starter of this process has passed on.
///
/// # Errors
/// `EBADF` where it is not open.
pub(crate) fn inherited_fd(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only looks.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the fd is open, was passed to this process for it to own, and is
    // taken once, in the entry function of the role.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Whether this program was linked statically: no interpreter has loaded it, so that
/// getauxval(3) has no address of one. How it was linked is told to its `main` alone, not
/// to this crate.
pub(crate) fn is_static() -> bool {
    // SAFETY: getauxval takes a number, and gives 0 for what is not there.
    unsafe { libc::getauxval(libc::AT_BASE) == 0 }
}

/// Ignores a signal in this process and in what it clones, until
/// [`reset_signals`].
pub(crate) fn ignore_signal(number: i32) {
    // SAFETY: SIG_IGN is a valid disposition; a wrong number is EINVAL.
    unsafe { libc::signal(number, libc::SIG_IGN) };
}

/// Has this process hear of the end of its children again, where whoever started it
/// ignores that: the kernel would not keep for wait(2) how they ended (NOTES of wait(2)).
/// What is started from here, the helpers of networks for one, needs the same.
pub(crate) fn hear_of_children() {
    // SAFETY: SIG_DFL is a valid disposition, and no handler of ours is replaced.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Resets every signal to its default action and unblocks all: what an exec'd
/// program expects, and what Rust's runtime (SIGPIPE) and tokio change.
pub(crate) fn reset_signals() {
    for number in 1..=64 {
        // SAFETY: SIG_DFL is a valid disposition; SIGKILL, SIGSTOP and glibc's
        // own two signals answer EINVAL, which does no harm.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    // SAFETY: an empty set is made in place and lives through the call.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// setresuid(2) as the kernel does it, for this thread.
pub(crate) fn set_uid(uid: u32) -> io::Result<()> {
    // SAFETY: the call takes three integers.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// setresgid(2) as the kernel does it, for this thread.
pub(crate) fn set_gid(gid: u32) -> io::Result<()> {
    // SAFETY: the call takes three integers.
    let result = unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// setgroups(2) as the kernel does it, for this thread.
pub(crate) fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the pointer and the count describe a live slice.
    let result = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// fork(2) through clone3: the child has one thread, the caller must too.
pub(crate) fn fork() -> io::Result<Cloned> {
    clone3(0)
}

/// Field 22 of /proc/PID/stat, in clock ticks since boot: with the pid it names
/// one process for good (proc_pid_stat(5)). `None` where there is no such
/// process, or only its unreaped remains.
pub(crate) fn start_ticks(pid: u32) -> Option<u64> {
    let stat = Stat::of(pid)?;
    if matches!(stat.field(3)?, "Z" | "X") { None } else { stat.number(22) }
}

/// pidfd_send_signal(2) for the numbers that rustix has no name for: the
/// real-time signals. Since Linux 5.1.
pub(crate) fn pidfd_send_signal(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    // SAFETY: the fd is open, the siginfo pointer may be null, flags must be 0.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// dup2(2): makes `number` a copy of `fd` that survives exec. What was open
/// there before is closed: the caller is a child about to exec.
pub(crate) fn place_fd(fd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    // SAFETY: both are plain numbers; this child uses no `OwnedFd` afterwards.
    if unsafe { libc::dup2(fd.as_raw_fd(), number) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Major and minor version in a kernel release as uname(2) gives it, such as
/// `6.1.0-30-amd64`; 0 for what is no number.
pub(crate) fn kernel_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
