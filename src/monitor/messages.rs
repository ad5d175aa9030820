//! What clients and a container's monitor say to each other over the control
//! socket `$XDG_RUNTIME_DIR/coracle/<short id>/control`.
//!
//! A client sends one [`Request`] (framed by `crate::channel`) and hears one
//! [`Reply`]. After `Attach` the connection carries binary frames instead:
//! a kind (u8), a length (u32, little endian, at most [`MAX_FRAME`]), the bytes.

use crate::dirs::Dirs;
use crate::error::Error;
use crate::types::driver::DriverChoice;
use crate::types::exec::ExecRequest;
use crate::types::health::HealthStatus;
use crate::types::id::ContainerId;
use crate::types::limits::{Limits, Undelegated};
use crate::types::network::Attachment;
use crate::types::port::{Publish, Unpublish};
use crate::types::status::{Exit, ProcessId, RestartPolicy};
use crate::types::uplink::Preference;
use crate::userns::Outer;
use serde::{Deserialize, Serialize};

/// Bytes of one frame's body.
pub(crate) const MAX_FRAME: usize = 64 << 10;

/// Bytes of input that a client may send ahead of [`frame::STDIN_TAKEN`]: so
/// that the monitor can always read a client's frames, and a signal is never
/// stuck behind input that the container does not read.
pub(crate) const STDIN_WINDOW: usize = 128 << 10;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Output from now on, and input if `stdin`.
    Attach {
        stdin: bool,
    },
    /// Ends the container for good: no restart policy applies.
    /// `timeout` in seconds; negative waits without end.
    Stop {
        signal: i32,
        timeout: i64,
        /// It will be started again, and is not removed, whatever `--rm` says.
        #[serde(default)]
        keep: bool,
    },
    /// Sends a signal to the container's first process.
    Kill {
        signal: i32,
    },
    /// Answers when the container has ended and will not be restarted.
    Wait,
    /// Answers when the present run, or between two the next one, has ended.
    WaitForRun,
    /// Runs the health check now; answered by `Reply::Health`.
    CheckHealth,
    /// Runs a further command. After [`Reply::Done`] the connection carries
    /// frames as after `Attach`, unless nobody is to listen.
    Exec(Box<ExecRequest>),
    /// The ids of the commands that live.
    Sessions,
    /// Stops all processes of the container where they are.
    Pause,
    Unpause,
    /// Is on these networks from now on.
    Networks(Vec<Attachment>, Change),
    /// The record was changed: these hold from now on.
    Update {
        limits: Box<Limits>,
        restart: RestartPolicy,
    },
    /// Publishes more ports and less; answered by [`Reply::Published`].
    Publish {
        add: Vec<Publish>,
        remove: Vec<Unpublish>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done,
    Exited(Exit),
    Health {
        passed: bool,
        status: HealthStatus,
    },
    Failed(String),
    /// A command could not be started; as [`FromMonitor::Failed`].
    Refused {
        exit_code: u8,
        message: String,
        hints: Vec<String>,
    },
    Sessions(Vec<String>),
    /// What is published from now on.
    Published(Vec<Publish>),
}

impl Reply {
    pub(super) fn refused(error: &Error) -> Self {
        Self::Refused {
            exit_code: error.kind().exit_code(),
            message: error.to_string(),
            hints: error.hints().to_vec(),
        }
    }
}

/// How a container comes to its networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Change {
    /// What it has already stays untouched.
    Differences,
    /// All is taken away and made anew.
    Reload,
}

/// What the process that starts a monitor tells it first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StartOrder {
    pub(crate) dirs: Dirs,
    pub(crate) id: ContainerId,
    pub(crate) outer: Outer,
    /// The starting process stays attached on this very socket, after `Started`.
    pub(crate) attached: bool,
    /// The container's stdin ends with the attached client's.
    pub(crate) stdin: bool,
    /// Rows and columns of the client's terminal.
    pub(crate) size: Option<(u16, u16)>,
    /// Asked for, for this start and those of a restart policy after it.
    pub(crate) driver: DriverChoice,
    pub(crate) uplink: Preference,
    /// What becomes of limits that cannot be kept.
    pub(crate) undelegated: Undelegated,
    /// How its last run has ended; `None` where it never ran.
    #[serde(default)]
    pub(crate) last: Option<Exit>,
}

/// The monitor's word to the process that started it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromMonitor {
    Started {
        init: ProcessId,
    },
    /// `exit_code` as `error::Kind::exit_code` gives it.
    Failed {
        exit_code: u8,
        message: String,
        hints: Vec<String>,
    },
    /// A remark for stderr.
    Warning(String),
}

/// Kinds of frames after `Attach`.
pub(crate) mod frame {
    /// Client to monitor: bytes for the container's stdin.
    pub(crate) const STDIN: u8 = 0;
    /// Monitor to client.
    pub(crate) const STDOUT: u8 = 1;
    pub(crate) const STDERR: u8 = 2;
    /// Client to monitor: rows and columns, u16 little endian each.
    pub(crate) const RESIZE: u8 = 3;
    /// Client to monitor: stdin has ended.
    pub(crate) const STDIN_END: u8 = 4;
    /// Monitor to client: the run is over; the body is an `Exit` as JSON.
    pub(crate) const EXITED: u8 = 5;
    /// Client to monitor: one byte, a signal for the first process.
    pub(crate) const SIGNAL: u8 = 6;
    /// Monitor to client: the container took so many bytes (u32, little endian)
    /// of this client's STDIN frames.
    pub(crate) const STDIN_TAKEN: u8 = 7;
    /// Monitor to client: what follows of the output is not for this client, who
    /// has not read for too long.
    pub(crate) const DROPPED: u8 = 8;
}
