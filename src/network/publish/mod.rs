//! Published ports: from sockets of the host to the ports of a container.
//!
//! The monitor binds the sockets ([`bind`]) before anything of the container
//! exists, and holds them as long as the container runs. A process of its own
//! ([`server::serve`], `coracle --ports`) lives in the container's network
//! namespace and takes what comes to them: it opens each connection anew,
//! inside, from the client's own address ([`inside`]), so that the container's
//! process sees who speaks to it (CVE-2021-20199). Nothing of it can be reached
//! but the sockets that were asked for (CVE-2021-4024). Nothing is kept on disk
//! here.

mod backlog;
pub(crate) mod bind;
mod brake;
mod inside;
mod options;
mod poll;
mod relay;
mod routes;
pub(crate) mod server;
mod tcp;
mod udp;

use crate::types::port::Port;
use serde::{Deserialize, Serialize};

/// What the monitor says to the server. An fd follows where it is said so.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToServer {
    /// The network namespace to serve, as an fd. Comes first, and once.
    Enter {
        /// There is no way out of it: its loopback is what can be reached.
        loopback_only: bool,
    },
    /// A socket of the host that leads to this port, as an fd.
    Open { number: u32, port: Port },
    /// Lets go of the socket of that number; what is connected stays so.
    Close { number: u32 },
}

/// What the server answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromServer {
    Closed { number: u32 },
}
