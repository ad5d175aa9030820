//! Files with several names in a lower layer that is too large to be looked
//! through, as the host's root: see [`super::aliases`] for all others.
//!
//! When one is copied up by one of its names, the others must lead to the copy.
//! The copy gets a name of its own in `work/links/`, made of the layer and the
//! number of the original, by which every later look-up of the other names finds
//! it, in this run and in later ones; its attribute [`super::xattr::GROUP`]
//! has that name, and counts the names that are not in the upper directory yet.
//!
//! The kernel's overlay knows nothing of it: there, the other names show the
//! original again.

use super::inode::{Inode, Layer, State, UPPER};
use super::lookup::Found;
use super::merged::Merged;
use super::table::Identity;
use super::wire::Answer;
use super::xattr;
use rustix::fs::{AtFlags, statat, unlinkat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The copy of a file with several names below.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// Its name in `work/links/`.
    pub(super) key: Box<CStr>,
    /// Names of the original that the upper directory does not have.
    pub(super) uncopied: u32,
}

impl Group {
    /// The links that the container sees, of those that the copy has on disk:
    /// one is our own.
    pub(super) fn count(&self, links: u32) -> u32 {
        links.saturating_sub(1).saturating_add(self.uncopied)
    }
}

impl Merged {
    /// The name of a copy. Layers are counted from the lowest, whose place stays
    /// the same whatever lies on top.
    pub(super) fn key(&self, layer: Layer, ino: u64) -> Box<CStr> {
        let depth = self.layers.saturating_sub(layer);
        CString::new(format!("{depth}-{ino:x}")).unwrap_or_default().into_boxed_c_str()
    }

    /// The copy of the lower file that was found, if another of its names was
    /// copied up before, with its identity.
    pub(super) fn group_of(&self, found: &Found) -> Answer<Option<(Identity, Group)>> {
        let (Some(work), Some(layer)) = (&self.work, found.lowers.first()) else { return Ok(None) };
        if !work.has_links() {
            return Ok(None);
        }
        let key = self.key(*layer, found.stat.st_ino);
        let stat = match statat(work.links(), &*key, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let uncopied = xattr::group_at(work.links(), &key).map_or(0, |group| group.uncopied);
        Ok(Some((self.identity(&stat), Group { key, uncopied })))
    }

    /// Writes down how many names are left to the original. At none, and with no
    /// name in the upper directory either, the copy is nobody's.
    pub(super) fn save_group(&self, inode: &Inode, state: &State) -> Answer<()> {
        let (Some(group), Some(work)) = (&state.group, &self.work) else { return Ok(()) };
        let stat = statat(work.links(), &*group.key, AtFlags::SYMLINK_NOFOLLOW)?;
        if group.count(stat.st_nlink as u32) > 0 {
            return xattr::set_group_at(work.links(), &group.key, group);
        }
        self.table.remove_identity(inode.copy.load(Ordering::Relaxed), inode);
        unlinkat(work.links(), &*group.key, AtFlags::empty())
    }

    /// Gives the name `name` in `parent` to the copy in the upper directory too.
    /// The parent is there.
    pub(super) fn materialize(
        &self,
        inode: &Arc<Inode>,
        state: &mut State,
        parent: &Arc<Inode>,
        name: &CStr,
    ) -> Answer<()> {
        let unreal = state.names.iter().position(|known| !known.real && known.is(parent, name));
        let Some(unreal) = unreal else { return Ok(()) };
        if state.layer() != UPPER {
            return Ok(());
        }
        let Some(group) = &mut state.group else { return Ok(()) };
        let work = self.work()?;
        let upper = self.upper_part(parent)?;
        rustix::fs::linkat(work.links(), &*group.key, upper.as_fd(), name, AtFlags::empty())?;
        group.uncopied = group.uncopied.saturating_sub(1);
        state.names[unreal].real = true;
        self.save_group(inode, state)
    }
}
