//! What the server of published ports may ask of the kernel once it serves:
//! sockets, pipes, memory, and files to read. Strangers send it bytes, which it
//! never looks into; should one of them still come to command it, there is no
//! program to start, no other process, no file to write and no mount to reach.
//!
//! What is not listed fails with EPERM (ENOSYS where this program does not know
//! it) rather than ending the process: a C library that tries something new
//! costs nobody their connection.

use crate::error::Result;
use crate::runtime::capabilities::CapSet;
use crate::runtime::seccomp::{self, Action, Applies, Comparison, Condition, Host, Profile, Rule};
use std::borrow::Cow;

/// Moving bytes and waiting for them. Sockets are made below.
const BYTES: &str = "\
    accept4 bind close connect epoll_ctl epoll_pwait epoll_pwait2 epoll_wait fcntl getpeername getsockname \
    getsockopt pipe2 poll ppoll read readv recvfrom recvmmsg recvmsg sendmmsg sendmsg sendto setsockopt \
    shutdown splice write writev";

/// What the language's runtime does by itself: memory, time, a last word.
const RUNTIME: &str = "\
    brk clock_gettime clock_nanosleep exit exit_group futex getpid getrandom gettid gettimeofday madvise \
    mremap munmap nanosleep restart_syscall rt_sigaction rt_sigprocmask rt_sigreturn sched_yield sigaltstack \
    tgkill";

/// Of files that are open; the addresses and routes of the container are read
/// from /proc.
const FILES: &str = "fstat lseek newfstatat statx";

const INT: u64 = 0xffff_ffff;
/// Whatever makes a file, or opens one for writing.
const WRITES: u64 = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) as u64;
const EXECUTABLE: u64 = libc::PROT_EXEC as u64;

static RULES: &[Rule] = &[
    allow(BYTES, &[]),
    allow(RUNTIME, &[]),
    allow(FILES, &[]),
    allow("openat", &[masked(2, WRITES, libc::O_RDONLY as u64)]),
    allow("mmap mprotect", &[masked(2, EXECUTABLE, 0)]),
    allow("socket", &[masked(0, INT, libc::AF_INET as u64)]),
    allow("socket", &[masked(0, INT, libc::AF_INET6 as u64)]),
    allow("socket", &[masked(0, INT, libc::AF_NETLINK as u64)]),
];

const fn allow(names: &'static str, conditions: &'static [Condition]) -> Rule {
    Rule {
        names: Cow::Borrowed(names),
        action: Action::Allow,
        conditions: Cow::Borrowed(conditions),
        only: Applies::ALWAYS,
    }
}

const fn masked(argument: u8, mask: u64, value: u64) -> Condition {
    Condition { argument, comparison: Comparison::Masked(mask), value }
}

/// Puts the filter in force for this thread, for good. Needs `no_new_privs`.
///
/// # Errors
/// Where the kernel has no filters, or this machine no table of system calls.
pub(super) fn install() -> Result<()> {
    let profile = Profile {
        default: Action::Errno(libc::EPERM as u16),
        architectures: Cow::Borrowed(&[]),
        rules: Cow::Borrowed(RULES),
        flags: 0,
    };
    let program = seccomp::compile(&profile, CapSet::EMPTY, Host::running()?)?;
    seccomp::install(&program, profile.flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal, kill_process};
    use std::fs::File;
    use std::io;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixStream;

    fn is_refused<T>(result: io::Result<T>) -> bool {
        result.err().and_then(|error| error.raw_os_error()) == Some(libc::EPERM)
    }

    #[test]
    fn what_the_server_does_goes_on_and_nothing_else() {
        let parent = rustix::process::getppid().expect("a parent");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        // A filter binds the thread that loads it, and no other of this process.
        let bound = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).expect("no_new_privs");
            install().expect("a filter");
            let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
            drop((listener.accept().expect("a client"), client));
            UdpSocket::bind("127.0.0.1:0").expect("a socket");
            nix::ifaddrs::getifaddrs().expect("addresses");
            std::fs::read_to_string("/proc/self/net/route").expect("routes");
            drop(vec![1u8; 8 << 20]);
            let folder = std::env::temp_dir();
            let name = folder.join(format!("coracle-filter-{}", std::process::id()));
            [
                ("a file to write", is_refused(File::create(&name))),
                ("a file to append to", is_refused(File::options().append(true).open("/dev/null"))),
                ("a directory", is_refused(std::fs::create_dir(&name))),
                ("a link", is_refused(std::os::unix::fs::symlink("/", &name))),
                ("a program", is_refused(std::process::Command::new("true").status())),
                ("a socket of another kind", is_refused(UnixStream::pair())),
                ("another process", is_refused(kill_process(parent, Signal::CONT).map_err(Into::into))),
                ("another place", is_refused(std::env::set_current_dir("."))),
            ]
        });
        for (what, refused) in bound.join().expect("the thread") {
            assert!(refused, "{what}");
        }
    }
}
