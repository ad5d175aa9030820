//! First processes of our own: with `--init` pid 1 of the container reaps orphans
//! and passes signals on; that of a pod's infra container keeps the namespaces.

use crate::error::{BestEffort, Context, Result};
use crate::sys::process::{self, Cloned};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io;

/// The child returns and becomes the command; the parent stays pid 1, reaps
/// every orphan and ends with the command's exit code.
///
/// `confine` is called by both: what binds the command (the seccomp filter)
/// must bind pid 1 as well, or the command could act through it.
pub(crate) fn split(confine: impl Fn() -> Result<()>) -> Result<()> {
    fork().context(|| "start the reaper").and_then(|side| {
        confine()?;
        match side {
            Side::Command => Ok(()),
            Side::Reaper { command, every } => reap(command, &every),
        }
    })
}

/// Keeps the namespaces until it is told to end, and reaps what comes to it where
/// the pod shares its pid namespace. Nothing is executed, so that no file and no
/// image is needed.
pub(crate) fn stay() -> ! {
    let every = SigSet::all();
    // A blocked signal waits even for pid 1, which else hears of none without a
    // handler: pid_namespaces(7).
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&every), None).unwrap_or(());
    rustix::thread::set_name(c"coracle-infra").or_ignore();
    // The monitor takes the end of its channel for the sign that all is well.
    process::close_from(0).unwrap_or(());
    // The least of its pod: not what the kernel ends when memory is short.
    crate::sys::memory::settle();
    loop {
        match every.wait() {
            Ok(Signal::SIGCHLD) => while reap_any() {},
            Ok(Signal::SIGTERM | Signal::SIGINT) => process::exit_now(0),
            Ok(_) | Err(_) => {}
        }
    }
}

fn reap_any() -> bool {
    !matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive) | Err(_))
}

enum Side {
    Command,
    Reaper { command: Pid, every: SigSet },
}

fn fork() -> io::Result<Side> {
    // Blocked before the fork, so that no signal falls between; the command
    // gets an empty mask again.
    let every = SigSet::all();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&every), None)?;
    match process::fork()? {
        Cloned::Child => {
            rustix::process::setsid().or_ignore();
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            take_terminal();
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
            Ok(Side::Command)
        }
        Cloned::Parent { pid, pidfd } => {
            drop(pidfd);
            // stdio and all else stays with the command alone: a pipe must see
            // its end when the command does.
            process::close_from(0).unwrap_or(());
            Ok(Side::Reaper { command: Pid::from_raw(pid as i32), every })
        }
    }
}

/// A new session has lost the terminal that pid 1 took.
fn take_terminal() {
    if rustix::termios::isatty(rustix::stdio::stdin()) {
        // Force: pid 1's session had it. Without the right it stays as it is.
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).unwrap_or(());
    }
}

fn reap(command: Pid, every: &SigSet) -> ! {
    loop {
        match every.wait() {
            Ok(Signal::SIGCHLD) => while reap_one(command) {},
            // The command is gone: SIGCHLD follows.
            Ok(signal) => nix::sys::signal::kill(command, signal).unwrap_or(()),
            Err(_) => {}
        }
    }
}

/// Reaps one process, if one has ended; with the command pid 1 ends too.
fn reap_one(command: Pid) -> bool {
    match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(pid, code)) if pid == command => process::exit_now(code),
        Ok(WaitStatus::Signaled(pid, signal, _)) if pid == command => process::exit_now(128 + signal as i32),
        Err(nix::errno::Errno::ECHILD) => process::exit_now(0),
        Ok(WaitStatus::StillAlive) | Err(_) => false,
        Ok(_) => true,
    }
}
