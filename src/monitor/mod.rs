//! One container's life, in its own process.
pub(crate) mod life;
pub(crate) mod log_file;
pub(crate) mod log_reader;
pub(crate) mod messages;
pub(crate) mod plan;
pub(crate) mod stdio;
