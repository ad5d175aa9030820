//! What `exec` asks for: a further command in a running container.

use serde::{Deserialize, Serialize};

/// A command for a running container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ExecRequest {
    pub(crate) args: Vec<String>,
    /// `KEY=VALUE`, over the container's own.
    pub(crate) env: Vec<String>,
    /// Keys of the container that the command does not get.
    pub(crate) unset_env: Vec<String>,
    /// The container's where `None`.
    pub(crate) workdir: Option<String>,
    /// As `--user` of `run` takes it; the container's where `None`.
    pub(crate) user: Option<String>,
    /// `-i`: stdin is the client's.
    pub(crate) interactive: bool,
    pub(crate) tty: bool,
    /// Nobody listens: the answer comes once the command runs.
    pub(crate) detach: bool,
    /// All capabilities of the container, whoever the user is.
    pub(crate) privileged: bool,
    /// Rows and columns of the client's terminal.
    pub(crate) size: Option<(u16, u16)>,
}
