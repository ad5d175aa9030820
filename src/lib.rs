//! coracle runs OCI containers for one ordinary user, without root and without
//! a daemon. `ARCHITECTURE.md` says how; the modules are in the order in which
//! they may use each other, lowest first.

pub(crate) mod cgroup;
pub(crate) mod channel;
pub(crate) mod cli;
pub(crate) mod config;
pub(crate) mod dirs;
pub(crate) mod engine;
pub(crate) mod error;
pub(crate) mod image;
pub(crate) mod monitor;
pub(crate) mod network;
pub(crate) mod registry;
pub(crate) mod runtime;
pub(crate) mod state;
pub(crate) mod storage;
pub(crate) mod sys;
pub(crate) mod types;
pub(crate) mod userns;

pub use cli::main;
