//! A monitor that lives and cannot be spoken to: its socket was removed, by hand or by
//! what clears directories of temporary files.

use super::Engine;
use crate::error::{BestEffort, Error, Result};
use crate::sys::proc_stat::Stat;
use crate::types::id::ContainerId;
use crate::types::status::ProcessId;
use crate::userns::open_living;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// One that is about to end may have closed its socket already.
const JUST_ENDING: Duration = Duration::from_secs(1);
/// After SIGKILL nothing is waited for but the kernel.
const KILLED: Duration = Duration::from_secs(10);

impl Engine {
    /// The monitor of a container whose socket nobody listens on, if it lives and goes on.
    pub(super) fn silent_monitor(&self, id: &ContainerId) -> Result<Option<ProcessId>> {
        let monitor = |engine: &Self| Ok(engine.store.live(id)?.map(|live| live.monitor));
        let Some(known) = monitor(self)? else { return Ok(None) };
        let Some(pidfd) = open_living(known) else { return Ok(None) };
        let goes_on = !ends_within(&pidfd, JUST_ENDING) && monitor(self)? == Some(known);
        Ok(goes_on.then_some(known))
    }

    /// One that was stopped (SIGSTOP) answers nobody: whoever ends it lets it go on.
    pub(super) fn wake_monitor(&self, id: &ContainerId) {
        let Ok(Some(live)) = self.store.live(id) else { return };
        let is_stopped = Stat::of(live.monitor.pid).and_then(|stat| stat.state()) == Some('T');
        if is_stopped && let Some(pidfd) = open_living(live.monitor) {
            pidfd_send_signal(&pidfd, Signal::CONT).or_ignore();
        }
    }
}

/// Ends it, and with it the container: as a session that ends would, and by force
/// after `timeout` seconds; at once where that is negative.
pub(super) fn end_silent(monitor: ProcessId, timeout: i64) {
    let Some(pidfd) = open_living(monitor) else { return };
    if let Ok(seconds) = u64::try_from(timeout) {
        pidfd_send_signal(&pidfd, Signal::TERM).or_ignore();
        if ends_within(&pidfd, Duration::from_secs(seconds) + JUST_ENDING) {
            return;
        }
    }
    pidfd_send_signal(&pidfd, Signal::KILL).or_ignore();
    ends_within(&pidfd, KILLED);
}

/// For what cannot be done without it.
pub(super) fn refusal(id: &ContainerId, monitor: ProcessId) -> Error {
    Error::failed(format!(
        "container {} runs, but the socket of its monitor (process {}) is gone",
        id.short(),
        monitor.pid
    ))
    .hint("`coracle stop` ends it all the same; then it can be started again")
}

fn ends_within(pidfd: &OwnedFd, time: Duration) -> bool {
    let end = std::time::Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(std::time::Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            ready => return ready.is_ok_and(|ready| ready > 0),
        }
    }
}
