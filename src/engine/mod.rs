//! One file per operation.
pub(crate) mod attach;
pub(crate) mod create;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod info;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod load;
pub(crate) mod logs;
pub(crate) mod names;
pub(crate) mod pull;
pub(crate) mod remove;
pub(crate) mod rmi;
pub(crate) mod save;
pub(crate) mod start;
pub(crate) mod stop;
pub(crate) mod volumes;

#[cfg(test)]
mod image_tests;
