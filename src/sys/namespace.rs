//! Namespaces: entering them, their identity, and children that are forked
//! before a namespace is entered and act from outside it afterwards.

use crate::error::BestEffort;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use rustix::thread::ThreadNameSpaceType;
use std::ffi::{CStr, CString};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// Inode number of the initial user namespace: `USER_NS_INIT_INO` of the
/// kernel's include/uapi/linux/nsfs.h.
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Whether this process is in the initial user namespace.
///
/// # Errors
/// `NotFound` where there is no `/proc`.
pub(crate) fn in_initial_user_namespace() -> io::Result<bool> {
    Ok(std::fs::metadata("/proc/self/ns/user")?.ino() == INITIAL_USER_NAMESPACE)
}

/// setns(2) of a process (by its pidfd) with CLONE_NEWUSER. Since Linux 5.8.
///
/// # Errors
/// ESRCH where the process is gone; EPERM where its user namespace is not the
/// caller's to enter; EINVAL where it is the caller's own already, or the
/// caller has threads.
pub(crate) fn join_user_namespace(process: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::thread::move_into_thread_name_spaces(process, ThreadNameSpaceType::USER)?)
}

/// unshare(2) with CLONE_NEWUSER. The caller must have no other thread (EINVAL).
pub(crate) fn unshare_user_namespace() -> io::Result<()> {
    Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)?)
}

/// unshare(2) with CLONE_NEWNS: the mounts as the caller sees them, in a mount
/// namespace that belongs to the caller's user namespace.
pub(crate) fn unshare_mount_namespace() -> io::Result<()> {
    Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?)
}

/// unshare(2) with CLONE_NEWNET, of the calling thread alone.
pub(crate) fn unshare_network_namespace() -> io::Result<()> {
    Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?)
}

/// setns(2) with CLONE_NEWNET, of the calling thread alone. To come back it
/// needs power over the namespace that it has left.
pub(crate) fn join_network_namespace(netns: BorrowedFd<'_>) -> io::Result<()> {
    Ok(nix::sched::setns(netns, nix::sched::CloneFlags::CLONE_NEWNET)?)
}

/// What a [`Deferred`] child does when it is released.
pub(crate) enum Deed {
    /// execve(2) with an empty environment.
    Exec { program: CString, arguments: Vec<CString> },
    /// Writes each text to its file, each with one write(2).
    Write(Vec<(CString, Vec<u8>)>),
}

/// A child in the namespaces that this process had when it was forked, which
/// waits for a word and then does one deed. Dropped before it is released, it
/// ends without doing it.
pub(crate) struct Deferred {
    pid: Pid,
    go: Option<OwnedFd>,
    stderr: std::fs::File,
    reaped: bool,
    writes: bool,
}

/// How a [`Deferred`] child ended.
pub(crate) struct Ended {
    /// 0 for success; otherwise the exit status, or 128 and the signal.
    pub(crate) code: i32,
    /// At most 4 KiB of what it wrote to stderr.
    pub(crate) stderr: String,
    /// Where the deed was a `Write` that the kernel refused.
    pub(crate) errno: Option<i32>,
}

impl Deferred {
    /// Forks the child. All memory it needs is set up here: between fork and
    /// exec it makes system calls only.
    pub(crate) fn fork(deed: &Deed) -> io::Result<Self> {
        let flags = rustix::pipe::PipeFlags::CLOEXEC;
        let (wait, go) = rustix::pipe::pipe_with(flags)?;
        let (stderr, child_stderr) = rustix::pipe::pipe_with(flags)?;
        let arguments: Vec<*const libc::c_char> = match deed {
            Deed::Exec { arguments, .. } => {
                arguments.iter().map(|a| a.as_ptr()).chain([std::ptr::null()]).collect()
            }
            Deed::Write(_) => Vec::new(),
        };
        // SAFETY: the child runs `act`, which makes async-signal-safe calls
        // alone on memory prepared above, and leaves by _exit or execve.
        match unsafe { fork() }? {
            ForkResult::Child => {
                act(deed, &arguments, wait.as_raw_fd(), go.as_raw_fd(), child_stderr.as_raw_fd())
            }
            ForkResult::Parent { child } => {
                let writes = matches!(deed, Deed::Write(_));
                Ok(Self { pid: child, go: Some(go), stderr: stderr.into(), reaped: false, writes })
            }
        }
    }

    /// Lets the child do its deed. It does not wait for it.
    pub(crate) fn release(&mut self) -> io::Result<()> {
        match self.go.take() {
            Some(go) => rustix::io::write(&go, b"g").map(|_| ()).map_err(io::Error::from),
            None => Ok(()),
        }
    }

    /// Waits for the child's end. A child that was not released ends now.
    pub(crate) fn wait(mut self) -> io::Result<Ended> {
        self.cancel();
        self.reaped = true;
        let code = reap(self.pid)?;
        let mut text = Vec::new();
        (&self.stderr).take(4096).read_to_end(&mut text)?;
        let errno = (self.writes && (1..128).contains(&code)).then_some(code);
        Ok(Ended { code, stderr: String::from_utf8_lossy(&text).into_owned(), errno })
    }

    /// Ends a child that still waits. Not by closing the pipe alone: a sibling
    /// forked later has a copy of our end.
    fn cancel(&mut self) {
        if self.go.take().is_some() {
            // It is not reaped yet, so the pid is its own, and it is our child.
            nix::sys::signal::kill(self.pid, nix::sys::signal::Signal::SIGKILL).or_ignore();
        }
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        if !self.reaped {
            self.cancel();
            // Nobody is left to hear of a failure, and there is none but ECHILD.
            reap(self.pid).or_ignore();
        }
    }
}

/// waitpid(2), as a shell would put the status.
fn reap(pid: Pid) -> io::Result<i32> {
    loop {
        match waitpid(pid, None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as i32),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The child's life: async-signal-safe system calls, no memory is taken.
fn act(deed: &Deed, arguments: &[*const libc::c_char], wait: i32, go: i32, stderr: i32) -> ! {
    let environment: [*const libc::c_char; 1] = [std::ptr::null()];
    let mut word = 0u8;
    // SAFETY: the fds are open, `word` and the strings outlive the calls, and
    // `arguments` ends with a null pointer where the deed is an execve.
    unsafe {
        // Our copy of the other end would keep the read below from ending.
        libc::close(go);
        if libc::read(wait, (&raw mut word).cast(), 1) != 1 {
            libc::_exit(0);
        }
        libc::dup2(stderr, 2);
        match deed {
            Deed::Exec { program, .. } => {
                libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr());
                complain(program, 126);
            }
            Deed::Write(files) => {
                for (path, text) in files {
                    let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                    if fd < 0 || libc::write(fd, text.as_ptr().cast(), text.len()) != text.len() as isize {
                        complain(path, nix::errno::Errno::last_raw());
                    }
                    libc::close(fd);
                }
            }
        }
        libc::_exit(0)
    }
}

/// Writes `name: errno N` to fd 2 and leaves with `code`.
fn complain(name: &CStr, code: i32) -> ! {
    let errno = nix::errno::Errno::last_raw();
    let digits = [b'0' + (errno / 100 % 10) as u8, b'0' + (errno / 10 % 10) as u8, b'0' + (errno % 10) as u8];
    // SAFETY: write(2) on live buffers and _exit(2).
    unsafe {
        for part in [name.to_bytes(), b": errno ", &digits] {
            libc::write(2, part.as_ptr().cast(), part.len());
        }
        libc::_exit(code)
    }
}

/// Brings a network interface of the caller's network namespace up.
/// netdevice(7), SIOCSIFFLAGS: of the flags, IFF_UP alone is the caller's to set
/// on a loopback device.
pub(crate) fn bring_interface_up(name: &CStr) -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let bytes = name.to_bytes_with_nul();
    if bytes.len() > libc::IFNAMSIZ {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: `ifreq` is plain data, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the fd is a socket, and `request` is a live ifreq with a
    // NUL-terminated name; the kernel only reads it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deferred_child_acts_when_it_is_released_and_not_before() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("f");
        std::fs::write(&path, "old").expect("a file");
        let name = CString::new(path.to_str().expect("UTF-8")).expect("no NUL");
        let deed = Deed::Write(vec![(name, b"new".to_vec())]);
        drop(Deferred::fork(&deed).expect("a child"));
        assert_eq!(std::fs::read(&path).expect("read"), b"old");
        let mut child = Deferred::fork(&deed).expect("a child");
        child.release().expect("released");
        assert_eq!(child.wait().expect("waited").code, 0);
        assert_eq!(std::fs::read(&path).expect("read"), b"new");
    }

    #[test]
    fn siblings_do_not_keep_each_other_waiting() {
        let deed = Deed::Write(Vec::new());
        let first = Deferred::fork(&deed).expect("a child");
        let second = Deferred::fork(&deed).expect("a child");
        drop(first);
        // That it returns is the point: by the signal, or by the end of its pipe.
        assert!(matches!(second.wait().expect("waited").code, 0 | 137));
    }

    #[test]
    fn a_deferred_child_tells_why_it_could_not() {
        let program = c"/nonexistent/program".to_owned();
        let deed = Deed::Exec { arguments: vec![program.clone()], program };
        let mut child = Deferred::fork(&deed).expect("a child");
        child.release().expect("released");
        let ended = child.wait().expect("waited");
        assert_eq!(ended.code, 126);
        assert_eq!(ended.stderr, "/nonexistent/program: errno 002");
    }
}
