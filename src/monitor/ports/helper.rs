//! The process that serves published ports: `coracle --ports`, a child of the
//! monitor, which dies with it.

// `AsyncFd::new` is deprecated for types that may change their fd; a
// `BorrowedFd` does not.
#![allow(deprecated)]

use super::filter;
use crate::channel::{Channel, role_ended};
use crate::error::{BestEffort, Context, Result};
use crate::monitor::role::{self, Child};
use crate::network::publish::{FromServer, ToServer, server};
use crate::sys::socket::send_fd;
use rustix::process::{Signal, WaitId, WaitIdOptions};
use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// `argv[1]` of the role.
pub(crate) const ROLE: &str = "--ports";

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
        const WHAT: &str = "start the server of published ports";
        let step = || WHAT;
        let die_with_the_monitor =
            || rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context(step);
        let Child { pid, pidfd, socket, said } = role::spawn(ROLE, WHAT, die_with_the_monitor)?;
        socket.set_read_timeout(Some(PATIENCE)).context(step)?;
        socket.set_write_timeout(Some(PATIENCE)).context(step)?;
        Ok(Self { pid, pidfd, channel: RefCell::new(Channel::new(socket)), said })
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

/// The role's entry.
pub(crate) fn main() -> ExitCode {
    role_ended(serve())
}

fn serve() -> Result<()> {
    server::serve(Channel::new(role::socket()?), filter::install)
}
