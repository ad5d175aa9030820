//! Waiting for a request.
//!
//! A program that works through many files asks one thing after the other, and
//! each question would wake a thread here, and each answer the program: on a
//! processor that went to sleep in between, for longer than the answer takes.
//! So who has answered looks for the next question for a moment before going to
//! sleep, and lets everybody else run meanwhile.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, Timespec};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long: what falling asleep and waking up costs, on a virtual machine.
const MOMENT: Duration = Duration::from_micros(50);

/// How long the companion waits for one that asks no more.
const LULL: Timespec = Timespec { tv_sec: 0, tv_nsec: 3_000_000 };

/// How one thread listens.
#[derive(Default)]
pub(super) struct Ear {
    /// Whether its end of the connection answers EAGAIN instead of waiting.
    alert: bool,
}

impl Ear {
    /// The next request, in `buffer`, if it comes within a moment; and whether it
    /// had been waiting.
    ///
    /// # Errors
    /// EAGAIN where none came; else as read(2) on /dev/fuse.
    pub(super) fn look(&mut self, device: &OwnedFd, buffer: &mut [u8]) -> Result<(usize, bool), Errno> {
        self.set(device, true)?;
        let start = Instant::now();
        let mut waiting = true;
        loop {
            match rustix::io::read(device, &mut *buffer) {
                Err(Errno::AGAIN) if start.elapsed() < MOMENT => std::thread::yield_now(),
                result => return result.map(|length| (length, waiting)),
            }
            waiting = false;
        }
    }

    /// The next request, if it comes before its client seems to ask no more.
    /// `meanwhile` is done if it is not there yet, and says whether to wait for it.
    ///
    /// # Errors
    /// EAGAIN where none came; else as read(2) on /dev/fuse.
    pub(super) fn wait_a_while(
        &mut self,
        device: &OwnedFd,
        buffer: &mut [u8],
        meanwhile: impl FnOnce() -> bool,
    ) -> Result<usize, Errno> {
        self.set(device, true)?;
        match rustix::io::read(device, &mut *buffer) {
            Err(Errno::AGAIN) => {
                if !meanwhile() {
                    return Err(Errno::AGAIN);
                }
                poll(&mut [PollFd::new(device, PollFlags::IN)], Some(&LULL))?;
                rustix::io::read(device, buffer)
            }
            heard => heard,
        }
    }

    /// The next request, whenever it comes.
    ///
    /// # Errors
    /// As read(2) on /dev/fuse.
    pub(super) fn wait(&mut self, device: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.set(device, false)?;
        rustix::io::read(device, buffer)
    }

    fn set(&mut self, device: &OwnedFd, alert: bool) -> Result<(), Errno> {
        if self.alert != alert {
            let flags = if alert { OFlags::RDWR | OFlags::NONBLOCK } else { OFlags::RDWR };
            rustix::fs::fcntl_setfl(device, flags)?;
            self.alert = alert;
        }
        Ok(())
    }
}

/// Whether another request waits already.
pub(super) fn more(device: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(device, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
        && fds[0].revents() == PollFlags::IN
}
