//! The uplink of a network namespace, its loopback device, and the texts of
//! resolv.conf and hosts. The monitor calls this; nothing is kept on disk.
pub(crate) mod bridge;
pub(crate) mod dns;
pub(crate) mod host;
pub(crate) mod loopback;
pub(crate) mod netlink;
mod power;
pub(crate) mod publish;
pub(crate) mod resolver;
pub(crate) mod uplink;
