//! What a container's monitor and the holder of the bridges say to each other.

use crate::dirs::Dirs;
use crate::error::Error;
use crate::network::dns::names::Member;
use crate::types::network::Network;
use crate::types::uplink::Preference;
use serde::{Deserialize, Serialize};

/// How a holder begins. Where `netns`, the fd of a namespace follows: the one
/// in which the bridges of a killed holder still are.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HolderOrder {
    pub(super) dirs: Dirs,
    pub(super) netns: bool,
}

/// A monitor's words.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToHolder {
    /// How its container is on networks from now on; an fd of the container's
    /// network namespace follows.
    Set(Box<Wanted>),
    /// The same, where all interfaces are to be made anew: those that can be. So
    /// it stays what is wanted, whatever fails.
    Renew(Box<Wanted>),
    /// Its container has ended: from the answer on nobody hears its names.
    Leave,
}

/// All of a container's networks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) member: Member,
    /// The definitions, in the order of the member's endpoints.
    pub(crate) networks: Vec<Network>,
    /// The container's way out is through them: it has none of its own.
    pub(crate) leads_out: bool,
    /// The way out where none has been started yet.
    pub(crate) uplink: Preference,
}

/// The holder's words.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromHolder {
    /// First of all; an fd of the namespace of the bridges follows.
    Welcome,
    /// It is as was wanted; what is to be told of it.
    Done {
        warnings: Vec<String>,
    },
    Failed {
        message: String,
        hints: Vec<String>,
    },
}

impl FromHolder {
    pub(super) fn failed(error: &Error) -> Self {
        Self::Failed { message: error.to_string(), hints: error.hints().to_vec() }
    }
}
