//! The distribution protocol's client side.
//!
//! `engine` calls this to read manifests and blobs; it gets bytes and readers
//! and knows no image formats. Nothing is kept on disk. Callers are in the
//! user namespace already, so threads are allowed here.
//!
//! Source: OCI distribution-spec "Pull"; the token specification of the
//! distribution project.

mod auth;
pub(crate) mod auth_file;
pub(crate) mod catalogue;
pub(crate) mod certificates;
mod challenge;
pub(crate) mod client;
pub(crate) mod config;
mod credential_helper;
pub(crate) mod credentials;
pub(crate) mod download;
pub(crate) mod failure;
#[cfg(test)]
pub(crate) mod fake;
mod http;
pub(crate) mod names;
mod pace;
mod proxy;
pub(crate) mod stream;
mod tls;
pub(crate) mod upload;

pub(crate) use http::trusted_authorities;
pub(crate) use proxy::proxy_address;
