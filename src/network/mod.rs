//! Network namespaces, the uplink, texts of resolv.conf and hosts.
pub(crate) mod loopback;
pub(crate) mod resolver;
pub(crate) mod slirp;
