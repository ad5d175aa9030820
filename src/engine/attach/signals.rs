//! Signals that reach a process that is attached, read from a signalfd(2): no
//! handler runs, and a blocked signal cannot come between two steps.

use super::AttachOptions;
use crate::error::BestEffort;
use crate::sys::tty::ignored_signals;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, BorrowedFd};

/// Signals that mean this process and not the container.
const OURS: [Signal; 8] = [
    Signal::SIGCHLD,
    Signal::SIGPIPE,
    Signal::SIGURG,
    Signal::SIGWINCH,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGCONT,
];

/// Signals that end this process; with a raw terminal not before it is restored.
const DEADLY: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// The caught signals; dropped, they do again what they did before.
#[derive(Debug)]
pub(super) struct Signals {
    fd: SignalFd,
    before: SigSet,
    proxy: bool,
}

/// What one signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caught {
    /// To be passed on, by number.
    Proxy(u8),
    /// The window has another size.
    Resize,
    Pause(Pause),
}

/// Before these the terminal must be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// The process is to end by this signal.
    Killed(Signal),
    /// The process is to stop.
    Stopped,
    /// It was stopped by SIGSTOP and goes on: the shell has changed the modes.
    Continued,
}

impl Signals {
    /// `None` where no signal matters.
    pub(super) fn catch(options: &AttachOptions, raw: bool) -> nix::Result<Option<Self>> {
        let mut wanted = SigSet::empty();
        if options.sig_proxy {
            wanted = SigSet::all();
            for signal in OURS {
                wanted.remove(signal);
            }
        }
        if options.tty {
            wanted.add(Signal::SIGWINCH);
        }
        if raw {
            for signal in DEADLY {
                wanted.add(signal);
            }
            wanted.add(Signal::SIGTSTP);
            wanted.add(Signal::SIGCONT);
        }
        // Whoever started us with nohup(1) wants the container to go on, too. INT and
        // QUIT are ignored in a script's background jobs, where who sends them to
        // this very process means the container, as with docker and podman.
        let for_container = |signal| options.sig_proxy && signal != Signal::SIGHUP;
        for signal in ignored_signals().into_iter().filter(|signal| !for_container(*signal)) {
            wanted.remove(signal);
        }
        if wanted == SigSet::empty() {
            return Ok(None);
        }
        let before = wanted.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        match SignalFd::with_flags(&wanted, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK) {
            Ok(fd) => Ok(Some(Self { fd, before, proxy: options.sig_proxy })),
            Err(errno) => before.thread_set_mask().and(Err(errno)),
        }
    }

    /// The next signal that has arrived, if one has.
    pub(super) fn next(&mut self) -> nix::Result<Option<Caught>> {
        let Some(info) = self.fd.read_signal()? else { return Ok(None) };
        let number = info.ssi_signo as i32;
        // Real-time signals have no name, but can be passed on.
        Ok(Some(match Signal::try_from(number).ok() {
            Some(Signal::SIGWINCH) => Caught::Resize,
            Some(Signal::SIGTSTP) => Caught::Pause(Pause::Stopped),
            Some(Signal::SIGCONT) => Caught::Pause(Pause::Continued),
            Some(signal) if !self.proxy => Caught::Pause(Pause::Killed(signal)),
            _ => Caught::Proxy(number as u8),
        }))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Fails only for a wrong `how`.
        self.before.thread_set_mask().or_ignore();
    }
}

/// Ends this process by `signal`, so that our parent sees why.
pub(super) fn die_of(signal: Signal) {
    let mut only = SigSet::empty();
    only.add(signal);
    sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&only), None).or_ignore();
    raise(signal).or_ignore();
}

/// Stops this process until somebody continues it.
pub(super) fn stop() {
    raise(Signal::SIGSTOP).or_ignore();
}
