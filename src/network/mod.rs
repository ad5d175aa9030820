//! The uplink of a network namespace, its loopback device, and the texts of
//! resolv.conf and hosts. The monitor calls this; nothing is kept on disk.
#[allow(dead_code, reason = "for the holder of the bridges, which comes next")]
pub(crate) mod dns;
pub(crate) mod loopback;
#[allow(dead_code, unused_imports, reason = "for the holder of the bridges, which comes next")]
pub(crate) mod netlink;
pub(crate) mod publish;
pub(crate) mod resolver;
pub(crate) mod uplink;
