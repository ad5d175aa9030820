//! What is on disk about containers.
//!
//! | file | written by | when |
//! |---|---|---|
//! | `containers/<id>/config.json` | `create`, `rename` | published by rename with its directory |
//! | `containers/<id>/name` | `create` | with the record; holds the id |
//! | `containers/<id>/started` | monitor | at each start, before the command is exec'd |
//! | `containers/<id>/exit.json` | monitor | at each end, by rename; fsynced |
//! | `containers/<id>/lock` | who starts, renames or removes it | `flock`; by a start until the command runs |
//! | `containers/.new-<id>`, `.gone-<id>` | `create`; `rm`, monitor | half made, half removed; `flock`ed while someone works on it, else left over: `ps` and `rm` sweep it |
//! | `names/<name>` | `create`, `rename` | a hard link to `name`: taking a name is one `link(2)` |
//! | `<runtime>/<short id>/state.json` | monitor | while it lives, by rename |
//! | `pods/<id>/pod.json` | `pod create` | published by rename with its directory: [`pods`] |
//! | `events` | who has done something | one write(2) an event |
//!
//! Readers take no lock. The truth about "running" is a living monitor (pid and
//! start time); everything else is what was last written.

pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod lock;
pub(crate) mod networks;
pub(crate) mod pods;
pub(crate) mod secrets;
pub(crate) mod store;
pub(crate) mod written;
