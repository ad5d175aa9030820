//! Containers for real: every test runs the built binary in a sandbox of its
//! own, and a program inside the container reports what it sees.
//!
//! `contrib/test` provides users, images and a registry; with plain `cargo test`
//! the tests that need them say that they are skipped.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]
// A test reads from top to bottom: what it needs stands where it needs it.
#![allow(
    clippy::similar_names,
    clippy::items_after_statements,
    clippy::large_stack_arrays,
    clippy::single_element_loop
)]
#![allow(clippy::nonminimal_bool, clippy::unnecessary_fold, clippy::manual_try_fold)]
// Shares of time are compared as fractions.
#![allow(clippy::cast_precision_loss)]

mod harness;

mod architecture;
mod archives;
mod as_root;
mod attach;
mod bad_input;
mod changes;
mod command_line;
mod commit;
mod completion;
mod copy;
mod crash;
mod df;
mod events;
mod examples;
mod exec;
mod exit_codes;
mod export;
mod files;
mod health;
mod host_root;
mod hostile;
mod image_mounts;
mod images;
mod init_system;
mod isolation;
mod life;
mod logs;
mod manifest_lists;
mod many;
mod mount;
mod namespaces;
mod neighbours;
mod network;
mod network_internal;
mod network_names;
mod network_options;
mod network_soak;
mod networks;
mod overlay_load;
mod overlays;
mod pause;
mod pods;
mod process;
mod prune;
mod publish;
mod registry;
mod registry_artifacts;
mod registry_serve;
mod registry_transport;
mod search;
mod secrets;
mod selectors;
mod servers;
mod shown;
mod single_id;
mod smoke;
mod sparse;
mod stdio;
mod storage_driver;
mod store_check;
mod store_crash;
mod surroundings;
mod systemd;
mod top;
mod uplink;
mod volumes;
