//! Layers, volumes, root file systems.
//!
//! `engine` fills and empties the stores, the monitor mounts what is in them.
//! On disk: `layers/` (see [`layers`]) and `volumes/` (see [`volume`]); both
//! publish by rename. Volumes have a lock of their own; layers are kept by the
//! image store's. Everything runs in the user's outer namespace, as its root.
pub(crate) mod changes;
pub(crate) mod copy;
pub(crate) mod descent;
pub(crate) mod fuse;
pub(crate) mod graft;
pub(crate) mod layers;
pub(crate) mod live;
pub(crate) mod mapped;
pub(crate) mod overlay;
pub(crate) mod pack;
pub(crate) mod sorted;
pub(crate) mod staging;
pub(crate) mod tar_header;
pub(crate) mod tar_in;
pub(crate) mod tar_out;
mod tar_sparse;
pub(crate) mod tar_stream;
pub(crate) mod tar_write;
pub(crate) mod tree_digest;
pub(crate) mod unpack;
pub(crate) mod usage;
pub(crate) mod volume;
pub(crate) mod whiteout;

/// Whether this process can give files to other owners: root, of the host or of
/// a user namespace that maps more than one id.
#[cfg(test)]
pub(crate) fn owners_can_be_kept() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    rustix::process::geteuid().is_root() && crate::types::idmap::IdMap::parse_proc(&map).count() > 1
}
