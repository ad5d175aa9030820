//! What is on disk about containers.
//!
//! | file | written by | when |
//! |---|---|---|
//! | `containers/<id>/config.json` | `create`, `rename`, `update` | published by rename with its directory |
//! | `containers/<id>/started` | monitor | at each start, before init is cloned |
//! | `containers/<id>/exit.json` | monitor | at each end, by rename; fsynced |
//! | `containers/<id>/lock` | whoever changes the container | `flock`, never held over a start |
//! | `names/<name>` | `create`, `rename` | a hard link that holds the id: taking a name is one `link(2)` |
//! | `<runtime>/<short id>/state.json` | monitor | while it lives, by rename |
//!
//! Readers take no lock. The truth about "running" is a living monitor (pid and
//! start time); everything else is what was last written.

pub(crate) mod lock;
pub(crate) mod store;
pub(crate) mod written;
