//! How long a transfer may drip.

use std::time::{Duration, Instant};

/// A transfer that is slower than [`LEAST`] bytes in this time is no better
/// than one that was cut.
const WINDOW: Duration = Duration::from_secs(60);
const LEAST: u64 = 4 << 10;

/// Watches one transfer. Silence is not its affair: a read that waits is ended
/// by the connection's own time.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    from: u64,
}

impl Pace {
    /// `from` bytes are through.
    pub(super) fn new(from: u64) -> Self {
        Self { since: Instant::now(), from }
    }

    /// `at` bytes are through now.
    pub(super) fn is_too_slow(&mut self, at: u64) -> bool {
        if self.since.elapsed() < WINDOW {
            return false;
        }
        let before = std::mem::replace(self, Self::new(at));
        at < before.from + LEAST
    }
}
