//! Layers, volumes, root file systems.
pub(crate) mod copy;
pub(crate) mod descent;
pub(crate) mod layers;
pub(crate) mod mapped;
pub(crate) mod overlay;
pub(crate) mod pack;
pub(crate) mod staging;
pub(crate) mod tar_header;
pub(crate) mod tar_stream;
pub(crate) mod unpack;
pub(crate) mod usage;
pub(crate) mod volume;
pub(crate) mod whiteout;
