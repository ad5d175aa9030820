//! The kernel: the only unsafe code.
#![allow(unsafe_code)]
pub(crate) mod errno;
pub(crate) mod file;
pub(crate) mod mount;
pub(crate) mod namespace;
pub(crate) mod prctl;
pub(crate) mod process;
pub(crate) mod seccomp;
pub(crate) mod socket;
pub(crate) mod tty;
pub(crate) mod xattr;
