//! Containers for real: every test runs the built binary in a sandbox of its
//! own, and a program inside the container reports what it sees.
//!
//! `contrib/test` provides users, images and a registry; with plain `cargo test`
//! the tests that need them say that they are skipped.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod harness;

mod architecture;
mod hostile;
mod smoke;
