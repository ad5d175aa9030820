//! Copies of layers with shifted owners, for `--userns=keep-id`, `--uidmap` and
//! `--gidmap`: the kernel refuses idmapped mounts of the user's file systems
//! inside a user namespace, so another map needs other owners on the disk.
//!
//! In a plain layer the image's id `c` is the outer namespace's `c`; in a copy it
//! is what the container's map says. `<chain id>-<map, 12 hex digits>/root`.

use super::copy::{copy_attributes, copy_tree};
use super::descent::OPEN_DIR;
use super::layers::LayerStore;
use super::staging::Staging;
use crate::error::{Context, Result};
use crate::types::digest::Digest;
use crate::types::idmap::IdMap;
use rustix::fs::Mode;
use std::os::fd::AsFd;
use std::path::PathBuf;

impl LayerStore {
    /// The lower directory of a copy of the layer whose owners are those that a
    /// container with these maps sees as the image's. Made where it is missing.
    ///
    /// An id that the maps lack becomes that of the container's root.
    ///
    /// # Errors
    /// `NotFound` where there is no such layer; `Failed` where an id of the maps
    /// is not mapped in the namespace of the caller.
    pub(crate) fn mapped(&self, chain_id: &Digest, uid_map: &IdMap, gid_map: &IdMap) -> Result<PathBuf> {
        let map = Digest::of(format!("{}\n{}", uid_map.proc_text(), gid_map.proc_text()).as_bytes());
        let name = format!("{}-{}", chain_id.hex(), map.short());
        let path = self.dir.join(&name).join("root");
        if rustix::fs::stat(&path).is_ok() {
            return Ok(path);
        }
        let source = rustix::fs::open(self.path(chain_id), OPEN_DIR, Mode::empty())
            .context(|| format!("open the layer {}", chain_id.short()))?;
        let staging = Staging::create(&self.dir)?;
        let copy = staging.make(c"root")?;
        let owner = |uid, gid| (shifted(uid_map, uid), shifted(gid_map, gid));
        copy_tree(source.as_fd(), copy.as_fd(), &owner)
            .and_then(|()| copy_attributes(source.as_fd(), copy.as_fd(), &owner))
            .map_err(|error| {
                error.context(format!("copy the layer {} for another id map", chain_id.short()))
            })?;
        staging.publish(&name)?;
        Ok(path)
    }
}

/// The outer id of the image's id: that of the container's root where it has no
/// place. Where even root is not mapped (a map of the user's own id alone), the
/// first id that is.
pub(crate) fn shifted(map: &IdMap, id: u32) -> u32 {
    let first = || map.0.first().map_or(0, |range| range.outside);
    map.to_outside(id).or_else(|| map.to_outside(0)).unwrap_or_else(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::unpack::Ownership;
    use crate::types::idmap::IdRange;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn ids_without_a_place_become_root() {
        // --userns=keep-id for the user 1000: the user's own id is the outer 0.
        let keep = IdMap(vec![
            IdRange { inside: 0, outside: 1, length: 1000 },
            IdRange { inside: 1000, outside: 0, length: 1 },
            IdRange { inside: 1001, outside: 1001, length: 64_536 },
        ]);
        let cases = [(0, 1), (7, 8), (1000, 0), (1001, 1001), (70_000, 1)];
        for (id, outside) in cases {
            assert_eq!(shifted(&keep, id), outside, "{id}");
        }
        assert_eq!(shifted(&IdMap::single(1000, 0), 0), 0, "a single id");
        assert_eq!(shifted(&IdMap::default(), 5), 0);
    }

    #[test]
    fn a_mapped_copy_is_made_once_and_goes_with_its_layer() {
        let temp = tempfile::tempdir().expect("tempdir");
        let store = LayerStore::open(&temp.path().join("layers")).expect("store");
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o640);
        header.set_uid(33);
        header.set_gid(33);
        header.set_size(1);
        builder.append_data(&mut header, "d/f", &b"x"[..]).expect("append");
        let archive = builder.into_inner().expect("archive");
        let chain_id = Digest::of(b"chain");
        assert!(store.mapped(&chain_id, &IdMap::default(), &IdMap::default()).is_err());
        let root = crate::storage::owners_can_be_kept();
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let ownership = if root { Ownership::Keep } else { Ownership::Squash };
        store.unpack(&chain_id, &Digest::of(&archive), &mut &archive[..], ownership).expect("unpacked");
        // Who cannot give files away can only test the squashed layer.
        let (uids, gids) = if root {
            let shift = |outside| IdMap(vec![IdRange { inside: 0, outside, length: 100 }]);
            (shift(100), shift(300))
        } else {
            (IdMap::single(1000, own.0), IdMap::single(1000, own.1))
        };
        let path = store.mapped(&chain_id, &uids, &gids).expect("mapped");
        let meta = path.join("d/f").symlink_metadata().expect("stat");
        let expected = if root { (133, 333) } else { own };
        assert_eq!(((meta.uid(), meta.gid()), meta.mode() & 0o7777), (expected, 0o640));
        let inode = path.metadata().expect("stat").ino();
        assert_eq!(store.mapped(&chain_id, &uids, &gids).expect("mapped"), path);
        assert_eq!(path.metadata().expect("stat").ino(), inode, "made once");
        assert_eq!(store.list().expect("list").len(), 1);
        store.remove(&chain_id).expect("removed");
        assert_eq!(std::fs::read_dir(temp.path().join("layers")).expect("list").count(), 0);
    }
}
