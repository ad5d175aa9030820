//! What has happened to a container, an image or a volume: docker's events.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EventKind {
    Container,
    Image,
    Volume,
    Network,
    Secret,
    Pod,
}

/// One line of the event log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) time: Timestamp,
    #[serde(rename = "type")]
    pub(crate) kind: EventKind,
    /// Docker's word: `create`, `start`, `die`, `exec_create: true`, `health_status: healthy`, …
    pub(crate) action: String,
    /// The full id of a container or image; the name of a volume or network.
    pub(crate) id: String,
    /// `name`, `image`, `exitCode`, the container's labels, …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) attributes: BTreeMap<String, String>,
}

impl Event {
    /// An event of now.
    pub(crate) fn now(kind: EventKind, action: impl Into<String>, id: impl Into<String>) -> Self {
        let attributes = BTreeMap::new();
        Self { time: Timestamp::now(), kind, action: action.into(), id: id.into(), attributes }
    }

    pub(crate) fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.attributes.insert(key.to_owned(), value.into());
        self
    }
}
