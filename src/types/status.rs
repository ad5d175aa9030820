//! The state of a container, as an enum that carries what exists only in it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A process that cannot be confused with a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    /// As seen from the host's pid namespace.
    pub(crate) pid: u32,
    /// Field 22 of /proc/PID/stat, in clock ticks since boot: proc_pid_stat(5).
    pub(crate) start_ticks: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Created,
    Running {
        init: ProcessId,
        monitor: ProcessId,
        since: Timestamp,
        paused: bool,
    },
    /// Between two runs of a restart policy: the monitor waits.
    Restarting {
        monitor: ProcessId,
        last: Exit,
    },
    Exited(Exit),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    pub(crate) code: u8,
    pub(crate) started_at: Timestamp,
    pub(crate) finished_at: Timestamp,
    #[serde(default)]
    pub(crate) oom_killed: bool,
    /// Why the run could not start or was lost, for `inspect`.
    #[serde(default)]
    pub(crate) error: Option<String>,
}

/// `--restart`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RestartPolicy {
    #[default]
    No,
    /// At most so many times in a row; without a number, always.
    OnFailure {
        max_retries: Option<u32>,
    },
    Always,
    UnlessStopped,
}
