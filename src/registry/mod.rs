//! The distribution protocol's client side.
pub(crate) mod auth;
pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod download;
pub(crate) mod http;
