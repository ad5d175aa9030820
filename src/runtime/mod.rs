//! The OCI runtime's work: clone into namespaces, set up, exec.
//!
//! The monitor makes a [`plan::Plan`] and calls [`create::create`]; the child's
//! side is [`init`]. A further command in a running container is [`exec`]. Nothing here is kept on disk and no lock is taken.

pub(crate) mod capabilities;
mod command;
pub(crate) mod console;
pub(crate) mod create;
pub(crate) mod devices;
pub(crate) mod exec;
pub(crate) mod init;
pub(crate) mod mounts;
pub(crate) mod plan;
pub(crate) mod reaper;
pub(crate) mod rlimits;
pub(crate) mod rootfs;
pub(crate) mod seccomp;
pub(crate) mod seccomp_default;
mod secrets;
pub(crate) mod users;
