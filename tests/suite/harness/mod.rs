//! What the tests stand on: a sandbox with the tool in it, what a host must have
//! for a test, images made on the spot, terminals, and the checks for leaks.

pub(crate) mod connect_proxy;
pub(crate) mod fake_registry;
pub(crate) mod image;
pub(crate) mod leaks;
pub(crate) mod needs;
pub(crate) mod own_registry;
pub(crate) mod process;
pub(crate) mod pty;
pub(crate) mod report;
pub(crate) mod sandbox;
pub(crate) mod wait;

pub(crate) use needs::Need::{self, Cgroup, Fuse, Image, Registry, Slirp, SubIds, Vm};
pub(crate) use process::Output;
pub(crate) use sandbox::{Sandbox, binary, sandbox};
pub(crate) use wait::until;
