//! Waiting until a log grows or its container ends, without a busy loop.

use crate::error::{Context, Result};
use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// How often to look where inotify cannot be had (`max_user_instances`, a
/// seccomp filter): 100 ms.
const INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Notices changes of the log in one container's directory.
#[derive(Debug)]
pub(crate) struct Watch {
    inotify: Option<OwnedFd>,
}

/// What a wait ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awakened {
    /// There may be something to read.
    Changed,
    /// The container has ended; there may be something to read, for the last time.
    Ended,
}

impl Watch {
    /// Make it before the log is first read, so that nothing comes in between.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { inotify: watch(dir).ok() }
    }

    /// Waits until the log changes, `ended` is readable or hung up, or it is `deadline`.
    pub(crate) fn wait(&self, ended: BorrowedFd<'_>, deadline: Option<Timestamp>) -> Result<Awakened> {
        let interval = if self.inotify.is_none() { Some(INTERVAL) } else { None };
        let timeout = match (deadline.map(until), interval) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let mut fds = vec![PollFd::from_borrowed_fd(ended, PollFlags::IN)];
        fds.extend(self.inotify.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).context(|| "wait for the log"),
        }
        let over = !fds[0].revents().is_empty();
        if let Some(fd) = &self.inotify {
            // What changed is seen by looking; more events than this wake again.
            let mut events = [0; 4096];
            match rustix::io::read(fd, &mut events) {
                Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno).context(|| "wait for the log"),
            }
        }
        Ok(if over { Awakened::Ended } else { Awakened::Changed })
    }
}

/// The directory, not the file: a rotation brings a new file.
fn watch(dir: &Path) -> rustix::io::Result<OwnedFd> {
    use inotify::{CreateFlags, WatchFlags};
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let events = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
    inotify::add_watch(fd.as_fd(), dir, events)?;
    Ok(fd)
}

/// The time from now to `deadline`; zero where it has passed.
fn until(deadline: Timestamp) -> Timespec {
    let left = deadline.duration_since(Timestamp::now());
    Timespec { tv_sec: left.as_secs().max(0), tv_nsec: i64::from(left.subsec_nanos().max(0)) }
}
