//! What is on disk about containers.
pub(crate) mod lock;
pub(crate) mod record;
pub(crate) mod store;
