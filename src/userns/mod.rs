//! The user's outer namespace and each container's nested one.
//!
//! The outer namespace maps the user's own ids to 0 and the subordinate ids
//! above. It lives as long as a process is in it: every monitor registers
//! itself as a *holder* (`$XDG_RUNTIME_DIR/coracle/outer/<pid>-<start>`), and a
//! command joins the namespace of the first holder alive.
//! Only making a namespace takes a lock (`outer.lock` beside it).
mod account;
pub(crate) mod diagnose;
pub(crate) mod enter;
pub(crate) mod holders;
pub(crate) mod maps;
pub(crate) mod newidmap;
pub(crate) mod subid;

pub(crate) use account::Account;
pub(crate) use enter::{Extent, Outer, enter, stay};
pub(crate) use holders::{forget_holder, open_living, register_holder, unregister_holder};
pub(crate) use maps::{ContainerMaps, MapRequest, container_maps};
