//! The user's outer namespace and each container's nested one.
pub(crate) mod diagnose;
pub(crate) mod enter;
pub(crate) mod maps;
pub(crate) mod newidmap;
pub(crate) mod subid;
