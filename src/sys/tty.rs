//! Terminals: raw mode that is undone however the process ends, and sizes.
//!
//! SIGKILL cannot be caught: after it a terminal stays raw until `reset` or
//! `stty sane` (an interactive shell sets its own modes again anyway).

use crate::error::BestEffort;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, Once, PoisonError};

/// The terminal that is raw, for the panic hook: with `panic = "abort"`
/// nothing is dropped.
static RAW: Mutex<Option<Arc<Saved>>> = Mutex::new(None);
static HOOK: Once = Once::new();

#[derive(Debug)]
struct Saved {
    terminal: OwnedFd,
    /// As they were at first.
    modes: Termios,
}

impl Saved {
    /// A process in the background leaves the modes: who is in front (a shell,
    /// after this was stopped) has set its own, and setting would stop this.
    fn restore(&self) {
        if in_front(self.terminal.as_fd()) {
            // A terminal that is gone cannot be restored, and nobody sees it.
            tcsetattr(&self.terminal, OptionalActions::Now, &self.modes).or_ignore();
        }
    }

    fn make_raw(&self) -> io::Result<()> {
        let mut raw = self.modes.clone();
        raw.make_raw();
        Ok(tcsetattr(&self.terminal, OptionalActions::Now, &raw)?)
    }
}

/// A terminal in raw mode, until this is dropped or the process panics. There
/// is one at a time; signals that end the process are its owner's to catch.
#[derive(Debug)]
pub(crate) struct RawMode(Arc<Saved>);

impl RawMode {
    /// Makes `terminal` raw: cfmakeraw(3). A process in the background stops
    /// first, as for every program that sets modes (SIGTTOU).
    ///
    /// # Errors
    /// ENOTTY where it is no terminal; EBUSY where another one is raw; EIO in
    /// the background with nobody to continue us.
    pub(crate) fn enter(terminal: BorrowedFd<'_>) -> io::Result<Self> {
        let mut raw = lock();
        if raw.is_some() {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        if !in_front(terminal) {
            // Before the modes are looked at: now they are those of the shell's
            // line editor, to which nobody wants to come back.
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGTTOU)?;
        }
        let saved = Arc::new(Saved { modes: tcgetattr(terminal)?, terminal: terminal.try_clone_to_owned()? });
        HOOK.call_once(restore_at_panic);
        saved.make_raw()?;
        *raw = Some(Arc::clone(&saved));
        Ok(Self(saved))
    }

    /// Restores the modes until [`Self::resume`].
    pub(crate) fn suspend(&self) {
        self.0.restore();
    }

    /// Makes the terminal raw again.
    pub(crate) fn resume(&self) -> io::Result<()> {
        self.0.make_raw()
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        *lock() = None;
        self.0.restore();
    }
}

fn lock() -> std::sync::MutexGuard<'static, Option<Arc<Saved>>> {
    RAW.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether this process is in the terminal's foreground process group, or the
/// terminal is not the one that controls it (then there is no such group).
fn in_front(terminal: BorrowedFd<'_>) -> bool {
    tcgetpgrp(terminal).map_or(true, |group| group == rustix::process::getpgrp())
}

fn restore_at_panic() {
    let next = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // The panic may have come with the lock held: then nothing is certain.
        if let Ok(saved) = RAW.try_lock()
            && let Some(saved) = saved.as_ref()
        {
            saved.restore();
        }
        next(panic);
    }));
}

/// Which of the signals that a terminal sends by itself are ignored: HUP by
/// nohup(1), INT and QUIT by a shell for its background jobs.
pub(crate) fn ignored_signals() -> Vec<nix::sys::signal::Signal> {
    use nix::sys::signal::Signal::{SIGHUP, SIGINT, SIGQUIT};
    let is_ignored = |signal: nix::sys::signal::Signal| {
        // SAFETY: all bytes zero are a valid `sigaction`; the call only fills
        // it, as no new action is given, and keeps no pointer.
        let (result, action) = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            (libc::sigaction(signal as i32, std::ptr::null(), &raw mut action), action)
        };
        result == 0 && action.sa_sigaction == libc::SIG_IGN
    };
    [SIGHUP, SIGINT, SIGQUIT].into_iter().filter(|signal| is_ignored(*signal)).collect()
}

/// Rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WindowSize {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

/// The size of `terminal`'s window; `None` where it is no terminal or has none.
pub(crate) fn window_size(terminal: BorrowedFd<'_>) -> Option<WindowSize> {
    let size = tcgetwinsize(terminal).ok()?;
    let size = WindowSize { rows: size.ws_row, columns: size.ws_col };
    (size.rows > 0 && size.columns > 0).then_some(size)
}

/// Sets the size of `terminal`'s window (of either end of a pty); the
/// foreground process group behind it gets SIGWINCH.
#[cfg(test)]
pub(crate) fn set_window_size(terminal: BorrowedFd<'_>, size: WindowSize) -> io::Result<()> {
    let size =
        rustix::termios::Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

pub(crate) fn is_terminal(fd: BorrowedFd<'_>) -> bool {
    rustix::termios::isatty(fd)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
    use rustix::termios::LocalModes;

    /// Both ends of a new pty: the emulator's and the program's.
    pub(crate) fn pty() -> (OwnedFd, OwnedFd) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let emulator = openpt(flags).expect("pty");
        grantpt(&emulator).expect("grantpt");
        unlockpt(&emulator).expect("unlockpt");
        let program = ioctl_tiocgptpeer(&emulator, flags).expect("the pty's other end");
        (emulator, program)
    }

    pub(crate) fn is_raw(terminal: &OwnedFd) -> bool {
        !tcgetattr(terminal).expect("modes").local_modes.contains(LocalModes::ICANON)
    }

    /// Sends `signal` to one thread of this process: tgkill(2).
    pub(crate) fn kill_thread(thread: rustix::process::Pid, signal: nix::sys::signal::Signal) {
        let (process, thread) = (rustix::process::getpid().as_raw_nonzero(), thread.as_raw_nonzero());
        // SAFETY: plain numbers; a thread that is gone is an error.
        let result = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal as i32) };
        assert_eq!(result, 0, "tgkill");
    }

    /// Tests run in threads, and one terminal is raw at a time.
    pub(crate) static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    #[test]
    fn a_terminal_is_raw_until_the_guard_is_dropped_or_the_process_panics() {
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let (_emulator, terminal) = pty();
        let guard = RawMode::enter(terminal.as_fd()).expect("raw");
        assert!(is_raw(&terminal));
        assert!(RawMode::enter(terminal.as_fd()).is_err());
        guard.suspend();
        assert!(!is_raw(&terminal));
        guard.resume().expect("raw again");
        assert!(is_raw(&terminal));
        drop(guard);
        assert!(!is_raw(&terminal));
        let guard = RawMode::enter(terminal.as_fd()).expect("raw");
        std::thread::spawn(|| panic!("expected in this test")).join().expect_err("a panic");
        assert!(!is_raw(&terminal));
        drop(guard);
    }

    #[test]
    fn a_size_set_on_one_end_is_seen_on_the_other() {
        let (emulator, terminal) = pty();
        assert_eq!(window_size(terminal.as_fd()), None);
        let size = WindowSize { rows: 50, columns: 132 };
        set_window_size(emulator.as_fd(), size).expect("size");
        assert_eq!(window_size(terminal.as_fd()), Some(size));
        let file = std::fs::File::open("/dev/null").expect("file");
        assert_eq!(window_size(file.as_fd()), None);
        assert!(RawMode::enter(file.as_fd()).is_err());
    }
}
