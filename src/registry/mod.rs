//! The distribution protocol's client side.
//!
//! `engine` calls this to read manifests and blobs; it gets bytes and readers
//! and knows no image formats. Nothing is kept on disk. Callers are in the
//! user namespace already, so threads are allowed here.
//!
//! Source: OCI distribution-spec "Pull"; the token specification of the
//! distribution project.

pub(crate) mod auth;
pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod download;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod http;
