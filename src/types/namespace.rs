//! Which namespaces a container has of its own: the values of `--network`,
//! `--pid`, `--ipc`, `--uts`, `--userns`.

use serde::{Deserialize, Serialize};

/// `--pid`, `--uts`: `private` (default), `host`, `container:ID`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NamespaceMode {
    #[default]
    Private,
    Host,
    /// Name, id or prefix as given; the engine replaces it with the full id.
    Container(String),
}

/// `--ipc`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum IpcMode {
    /// Own namespace and `/dev/shm`; others may join it.
    #[default]
    Shareable,
    /// Own namespace and `/dev/shm`; `container:` on it is refused.
    Private,
    /// Own namespace, no `/dev/shm`.
    None,
    Host,
    Container(String),
}

/// `--userns`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum UsernsMode {
    /// A nested namespace that sees the ids of the user's outer one.
    #[default]
    Private,
    /// No nested namespace: the user's outer one.
    Host,
    /// The user's own ids inside as outside, or as the ids given.
    KeepId {
        uid: Option<u32>,
        gid: Option<u32>,
    },
    /// The user's own id is not mapped at all.
    NoMap,
    /// A range of ids that no other running container uses.
    Auto {
        size: Option<u32>,
    },
    Container(String),
}

/// `--network`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NetworkMode {
    /// Own namespace; outbound through a user-mode helper where one is installed.
    #[default]
    Default,
    /// The same, and an error where slirp4netns is not installed.
    Slirp {
        options: Vec<String>,
    },
    /// Own namespace with loopback alone.
    None,
    Host,
    Container(String),
    /// The namespace behind this path.
    Path(String),
}
