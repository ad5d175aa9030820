//! The process that serves published ports: `coracle --ports`, a child of the
//! monitor, which dies with it.

// `AsyncFd::new` is deprecated for types that may change their fd; a
// `BorrowedFd` does not.
#![allow(deprecated)]

use crate::channel::{Channel, role_ended};
use crate::error::{BestEffort, Context, Result};
use crate::monitor::executable::{own_environment, read_only_executable};
use crate::network::publish::{FromServer, ToServer, server};
use crate::sys::process::{self, Cloned};
use crate::sys::socket::send_fd;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitId, WaitIdOptions};
use std::cell::RefCell;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// `argv[1]` of the role.
pub(crate) const ROLE: &str = "--ports";

/// The fd on which the monitor speaks to it.
const MONITOR_FD: i32 = 3;

/// How long the monitor waits for it to take a word, or to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of its complaints that are read at once.
const COMPLAINT: usize = 4096;

/// A running server. It ends when it is dropped.
pub(super) struct Helper {
    pid: u32,
    pidfd: OwnedFd,
    channel: RefCell<Channel<ToServer, FromServer>>,
    /// Its stderr.
    said: OwnedFd,
}

impl Helper {
    pub(super) fn start() -> Result<Self> {
        let step = || "start the server of published ports";
        let (here, there) = UnixStream::pair().context(step)?;
        here.set_read_timeout(Some(PATIENCE)).context(step)?;
        here.set_write_timeout(Some(PATIENCE)).context(step)?;
        let executable = read_only_executable().map_err(|error| error.context(step()))?;
        let null =
            rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context(step)?;
        // It never waits for who reads: what does not fit is lost.
        let (said, stderr) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).context(step)?;
        let args = ["coracle", ROLE].map(|word| CString::new(word).unwrap_or_default());
        let env = own_environment();
        match process::fork().context(step)? {
            Cloned::Child => {
                if prepare(&there, &null, &stderr).is_ok() {
                    process::fexecve(executable.as_fd(), &args, &env);
                }
                process::exit_now(127)
            }
            Cloned::Parent { pid, pidfd } => {
                Ok(Self { pid, pidfd, channel: RefCell::new(Channel::new(here)), said })
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn say(&self, message: &ToServer, fd: Option<BorrowedFd<'_>>) -> Result<()> {
        let mut channel = self.channel.borrow_mut();
        channel.send(message)?;
        match fd {
            Some(fd) => {
                send_fd(channel.as_fd(), fd).context(|| "pass a socket to the server of published ports")
            }
            None => Ok(()),
        }
    }

    /// Has it let go of a socket. Where it has died or hangs, nobody waits for it.
    pub(super) fn close(&self, number: u32) -> Result<()> {
        self.say(&ToServer::Close { number }, None)?;
        match self.channel.borrow_mut().receive()? {
            Some(FromServer::Closed { .. }) | None => Ok(()),
        }
    }

    /// Returns when it has ended, with its last words. `tell` hears of what it
    /// says before.
    pub(super) async fn live(&self, tell: &dyn Fn(&str)) -> String {
        let ended = AsyncFd::new(self.pidfd.as_fd());
        let said = AsyncFd::new(self.said.as_fd());
        let (Ok(ended), Ok(said)) = (ended, said) else {
            return "it cannot be watched".to_owned();
        };
        loop {
            tokio::select! {
                biased;
                ready = said.readable() => {
                    let Ok(mut ready) = ready else { continue };
                    match self.words() {
                        Words::Some(words) => words.lines().for_each(tell),
                        Words::None => ready.clear_ready(),
                        Words::Ended => {
                            ended.readable().await.map(drop).or_ignore();
                            return self.how_it_ended();
                        }
                    }
                }
                _ = ended.readable() => return self.how_it_ended(),
            }
        }
    }

    fn words(&self) -> Words {
        let mut buffer = [0; COMPLAINT];
        match rustix::io::read(&self.said, &mut buffer) {
            Ok(0) => Words::Ended,
            Ok(count) => Words::Some(String::from_utf8_lossy(&buffer[..count]).into_owned()),
            Err(_) => Words::None,
        }
    }

    /// Reaps it.
    fn how_it_ended(&self) -> String {
        let status = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
        let how = match status.map(|status| status.map(|s| (s.exit_status(), s.terminating_signal()))) {
            Ok(Some((Some(code), _))) => format!("it ended with exit code {code}"),
            Ok(Some((None, Some(signal)))) => format!("it was killed by signal {signal}"),
            _ => "it ended".to_owned(),
        };
        match self.words() {
            Words::Some(words) => format!("{how}: {}", words.trim()),
            Words::None | Words::Ended => how,
        }
    }

    /// Ends it, and with it what it holds open.
    pub(super) fn end(&self) {
        rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL).or_ignore();
        rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED).or_ignore();
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.end();
    }
}

enum Words {
    Some(String),
    None,
    Ended,
}

fn prepare(socket: &UnixStream, null: &OwnedFd, stderr: &OwnedFd) -> Result<()> {
    let step = || "prepare the server's files";
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context(step)?;
    rustix::stdio::dup2_stdin(null).context(step)?;
    rustix::stdio::dup2_stdout(null).context(step)?;
    rustix::stdio::dup2_stderr(stderr).context(step)?;
    let high = rustix::io::fcntl_dupfd_cloexec(socket, MONITOR_FD + 1).context(step)?;
    process::close_on_exec_from(3).context(step)?;
    process::place_fd(high.as_fd(), MONITOR_FD).context(step)
}

/// The role's entry.
pub(crate) fn main() -> ExitCode {
    role_ended(serve())
}

fn serve() -> Result<()> {
    let socket =
        process::inherited_fd(MONITOR_FD).context(|| "this role is coracle's own: no order on fd 3")?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).context(|| "prepare the socket")?;
    server::serve(Channel::new(UnixStream::from(socket)))
}
