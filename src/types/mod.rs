//! The vocabulary of the program: pure values, parsed once at the border, no I/O.

pub(crate) mod address_range;
pub(crate) mod boolean;
pub(crate) mod cgroup;
pub(crate) mod container;
pub(crate) mod device;
pub(crate) mod digest;
pub(crate) mod driver;
pub(crate) mod env;
pub(crate) mod event;
pub(crate) mod exec;
pub(crate) mod filter;
pub(crate) mod health;
pub(crate) mod id;
pub(crate) mod idmap;
pub(crate) mod limits;
pub(crate) mod mount;
#[cfg(test)]
pub(crate) mod mutation;
pub(crate) mod namespace;
pub(crate) mod network;
pub(crate) mod platform;
pub(crate) mod pod;
pub(crate) mod port;
pub(crate) mod progress;
pub(crate) mod reference;
pub(crate) mod secret;
pub(crate) mod signal;
pub(crate) mod size;
pub(crate) mod static_route;
pub(crate) mod status;
pub(crate) mod time;
pub(crate) mod transport;
pub(crate) mod ulimit;
pub(crate) mod uplink;
pub(crate) mod user;
pub(crate) mod volume_options;
