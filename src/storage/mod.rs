//! Layers, volumes, root file systems.
pub(crate) mod layers;
pub(crate) mod mapped;
pub(crate) mod overlay;
pub(crate) mod pack;
pub(crate) mod unpack;
pub(crate) mod volume;
pub(crate) mod whiteout;
