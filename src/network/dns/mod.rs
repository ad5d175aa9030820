//! Names of containers: the wire format, what is known, and the server.

mod forward;
pub(crate) mod message;
pub(crate) mod names;
pub(crate) mod server;
