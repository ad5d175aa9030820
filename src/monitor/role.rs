//! This program as a child of its own, in another role: with one socket to its
//! starter, a pipe for its last words, and no other fd of its starter's.

use super::executable::{own_environment, read_only_executable};
use crate::error::{Context, Result, Trouble};
use crate::sys::process::{self, Cloned};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// The fd on which a role speaks with its starter.
pub(super) const SOCKET_FD: i32 = 3;

/// A role that was started.
pub(super) struct Child {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
    /// The starter's end of the socket.
    pub(super) socket: UnixStream,
    /// Its stderr.
    pub(super) said: OwnedFd,
}

/// Executes this program anew as `role` (its `argv[1]`), after `apart` has run
/// in the child. `what` is the step's name in an error.
pub(super) fn spawn(role: &str, what: &'static str, apart: impl FnOnce() -> Result<()>) -> Result<Child> {
    let step = || what;
    let (socket, there) = UnixStream::pair().context(step)?;
    let executable = read_only_executable().map_err(|error| error.context(step()))?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context(step)?;
    // It never waits for who reads: what does not fit is lost.
    let (said, stderr) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).context(step)?;
    let args = ["coracle", role].map(|word| CString::new(word).unwrap_or_default());
    let env = own_environment();
    match process::fork().context(step).see_doctor(Trouble::Processes)? {
        Cloned::Child => {
            if leave_all_but(&there, &null, &stderr).and_then(|()| apart()).is_ok() {
                process::fexecve(executable.as_fd(), &args, &env);
            }
            process::exit_now(127)
        }
        Cloned::Parent { pid, pidfd } => Ok(Child { pid, pidfd, socket, said }),
    }
}

fn leave_all_but(socket: &UnixStream, null: &OwnedFd, stderr: &OwnedFd) -> Result<()> {
    let step = || "prepare the role's files";
    rustix::stdio::dup2_stdin(null).context(step)?;
    rustix::stdio::dup2_stdout(null).context(step)?;
    rustix::stdio::dup2_stderr(stderr).context(step)?;
    // The socket may have that number already: it is duplicated out of the way first.
    let high = rustix::io::fcntl_dupfd_cloexec(socket, SOCKET_FD + 1).context(step)?;
    process::close_on_exec_from(3).context(step)?;
    process::place_fd(high.as_fd(), SOCKET_FD).context(step)
}

/// The role's own end of the socket.
pub(super) fn socket() -> Result<UnixStream> {
    let socket =
        process::inherited_fd(SOCKET_FD).context(|| "this role is coracle's own: no order on fd 3")?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).context(|| "prepare the socket")?;
    Ok(UnixStream::from(socket))
}
