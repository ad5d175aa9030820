//! The kernel: the only unsafe code. A wrapper makes one system call, takes
//! borrowed fds and C strings, gives owned fds and `io::Result`, and says since
//! which kernel the call is there. What rustix or nix wrap is not wrapped again.
#![allow(unsafe_code)]

pub(crate) mod errno;
pub(crate) mod fault;
pub(crate) mod file;
pub(crate) mod fuse;
pub(crate) mod inet;
pub(crate) mod memory;
pub(crate) mod mount;
pub(crate) mod namespace;
pub(crate) mod proc_stat;
pub(crate) mod process;
pub(crate) mod seccomp;
pub(crate) mod socket;
pub(crate) mod tap;
pub(crate) mod tty;
pub(crate) mod xattr;
