//! Images as OCI documents in an OCI layout.
pub(crate) mod archive;
pub(crate) mod blob;
pub(crate) mod config;
pub(crate) mod manifest;
pub(crate) mod names;
pub(crate) mod store;
