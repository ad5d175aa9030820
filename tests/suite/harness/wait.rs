//! Waiting for a condition, never for a length of time.

use std::time::{Duration, Instant};

/// How long anything may take before the test fails: generous, because a
/// machine that runs tests is often slow.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Polls until `condition` gives a value.
///
/// # Panics
/// After [`DEADLINE`], with `what` as the thing that did not happen.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "waited {} s in vain: {what}", DEADLINE.as_secs());
        std::thread::sleep(Duration::from_millis(5));
    }
}
