//! The client's side of attach: our terminal or pipes to a container's monitor.
//!
//! One thread, one `poll`, and buffers of bounded size: whoever is slow slows down only his own direction.
//!
//! * Our stdin is read only as fast as the container takes it: the monitor
//!   acknowledges with [`STDIN_TAKEN`], and at most [`STDIN_WINDOW`] bytes are
//!   under way. So signals and window sizes, which go the same way, are never
//!   stuck behind input that the container does not read.
//! * Our stdout and stderr are written as they can take it; nothing is lost
//!   while somebody reads. Where nobody does any more (EPIPE), output is
//!   thrown away and the container goes on, as after a detach.
//! * With a terminal and stdin the terminal is raw; it is restored at the end,
//!   when a signal ends us, and when the program panics.
//! * Signals that reach us are passed on to the container (`--sig-proxy`),
//!   except: those of job control (TSTP, TTIN, TTOU, CONT), which are about
//!   this process; CHLD, PIPE and URG, as in docker; WINCH, which says that
//!   our window has changed, and would end servers that take it for a request.
//!   At the third INT or TERM we leave, as docker's client does.

mod detach;
mod output;
mod session;
mod signals;

pub(crate) use detach::DetachKeys;

use super::Engine;
use crate::error::{BestEffort, Context, Error, Result};
use crate::state::events;
use crate::sys::tty::{RawMode, is_terminal};
use crate::types::id::ContainerId;
use crate::types::status::{Exit, Status};
use session::Session;
use signals::Signals;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

pub(crate) use crate::monitor::messages::STDIN_WINDOW;
pub(crate) use crate::monitor::messages::frame::STDIN_TAKEN;

/// How to attach.
#[derive(Clone, Debug, Default)]
pub(crate) struct AttachOptions {
    /// Pass on our stdin.
    pub(crate) stdin: bool,
    /// The container has a terminal.
    pub(crate) tty: bool,
    /// Pass on signals that reach us.
    pub(crate) sig_proxy: bool,
    /// Typed on our terminal, they end the attachment and not the container.
    pub(crate) detach_keys: DetachKeys,
    /// Print the container's stdout.
    pub(crate) stdout: bool,
    /// Print the container's stderr.
    pub(crate) stderr: bool,
}

impl AttachOptions {
    /// Whether input alone is attached.
    pub(crate) fn shows_nothing(&self) -> bool {
        !self.stdout && !self.stderr
    }
}

/// How an attachment ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AttachEnd {
    /// The container's run is over, and all its output is printed.
    Exited(Exit),
    /// Whoever read our stdout has gone, as in `coracle run … | head -n 1`.
    ReaderGone,
    /// The user typed the detach keys, or the terminal was hung up; or the input
    /// has ended, and it was all that was attached.
    Detached,
    /// The user has asked for the end so often that we leave, though the container stays.
    Forced,
    /// We did not read for too long, and the monitor has let go of us: some of
    /// the output is missing.
    Dropped,
    /// The connection ended without a word: the monitor is dead.
    MonitorGone,
}

/// The three descriptors that are attached.
#[derive(Clone, Copy, Debug)]
struct Stdio<'a> {
    stdin: BorrowedFd<'a>,
    stdout: BorrowedFd<'a>,
    stderr: BorrowedFd<'a>,
}

impl Engine {
    /// Attaches to a container that runs.
    ///
    /// # Errors
    /// `Conflict` where it does not run, or is paused; as [`attach`].
    pub(crate) fn attach(&self, id: &ContainerId, options: &AttachOptions) -> Result<AttachEnd> {
        let snapshot = self.snapshot(id)?;
        let refuse = |state: &str, what: &str| {
            Err(Error::conflict(format!("you cannot attach to a {state} container, {what}")))
        };
        match snapshot.status {
            Status::Running { paused: false, .. } => {}
            Status::Running { paused: true, .. } => return refuse("paused", "unpause it first"),
            Status::Restarting { .. } => return refuse("restarting", "wait until it is running"),
            Status::Created | Status::Exited(_) => return refuse("stopped", "start it first"),
        }
        let note = |action: &str| {
            events::append(&self.dirs, &events::of_container(&snapshot.record, action)).or_ignore();
        };
        let stream = self.attach_stream(id, options.stdin)?;
        note("attach");
        let end = attach(stream, options)?;
        if end == AttachEnd::Detached {
            note("detach");
        }
        Ok(end)
    }
}

/// Attaches this process's stdin, stdout and stderr to `stream`, on which an
/// `Attach` request was answered, until one of [`AttachEnd`]. Where a signal
/// ends us that is not passed on, this restores the terminal and does not return.
///
/// # Errors
/// `Failed` where output could not be written (a full disk; told at the end),
/// the terminal refuses raw mode, or the monitor speaks nonsense.
pub(crate) fn attach(stream: UnixStream, options: &AttachOptions) -> Result<AttachEnd> {
    let (input, output, errors) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let own = Stdio { stdin: input.as_fd(), stdout: output.as_fd(), stderr: errors.as_fd() };
    attach_to(stream, options, own)
}

fn attach_to(stream: UnixStream, options: &AttachOptions, stdio: Stdio<'_>) -> Result<AttachEnd> {
    let wants_raw = options.tty && options.stdin && is_terminal(stdio.stdin);
    // Signals first: one that came between would leave the terminal raw.
    let mut signals = Signals::catch(options, wants_raw).context(|| "catch signals")?;
    let raw =
        if wants_raw { Some(RawMode::enter(stdio.stdin).context(|| "make the terminal raw")?) } else { None };
    let mut session = Session::new(stream, options, stdio, wants_raw);
    loop {
        let pause = match session.run(signals.as_mut())? {
            session::Pause::End(end) => return session.finish(end),
            session::Pause::Signal(pause) => pause,
        };
        // These come with a raw terminal alone.
        let Some(raw) = &raw else { continue };
        raw.suspend();
        match pause {
            signals::Pause::Killed(signal) => {
                signals = None;
                signals::die_of(signal);
            }
            signals::Pause::Stopped => signals::stop(),
            signals::Pause::Continued => {}
        }
        raw.resume().context(|| "make the terminal raw again")?;
        session.resized();
    }
}

#[cfg(test)]
mod tests;
