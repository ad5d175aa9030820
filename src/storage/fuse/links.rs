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
//!
//! Of a file that is not copied but lost a name, `KEY.gone` in `work/links/` has
//! the number of its lost names as its size, in any overlay: or, once the kernel or
//! this server has forgotten the file, it would have all that it has in its layer.

use super::inode::{Inode, Layer, State, UPPER};
use super::lookup::Found;
use super::merged::Merged;
use super::table::Identity;
use super::wire::Answer;
use super::xattr;
use crate::error::BestEffort;
use rustix::fs::{AtFlags, Stat, statat, unlinkat};
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
        let (Some(group), Some(work)) = (state.group(), &self.work) else { return Ok(()) };
        let stat = statat(work.links(), &*group.key, AtFlags::SYMLINK_NOFOLLOW)?;
        if group.count(stat.st_nlink as u32) > 0 {
            return xattr::set_group_at(work.links(), &group.key, group);
        }
        self.table.remove_identity(inode.copy.load(Ordering::Relaxed), inode);
        unlinkat(work.links(), &*group.key, AtFlags::empty())
    }

    /// Writes down that a file is about to lose one more name, if its layer has it
    /// under several. Where that cannot be done it will show too many links.
    pub(super) fn count_gone(&self, inode: &Arc<Inode>, state: &State) {
        let Some(work) = self.work.as_ref().filter(|_| !state.upper && state.group().is_none()) else {
            return;
        };
        let Ok(stat) = self.stat_of(inode, state) else { return };
        let (links, gone) = (stat.st_nlink as u32, state.gone + 1);
        if links < 2 {
            return;
        }
        let key = self.gone_key(state.layer(), stat.st_ino);
        if gone < links {
            work.keep_count(&key, u64::from(gone)).or_ignore();
        } else {
            unlinkat(work.links(), &*key, AtFlags::empty()).or_ignore();
        }
    }

    /// How many names a lower file that was just found has lost before.
    pub(super) fn gone_before(&self, found: &Found) -> u32 {
        let Some(work) = self.work.as_ref().filter(|work| work.has_links()) else { return 0 };
        let Some(layer) = found.lowers.first() else { return 0 };
        let key = self.gone_key(*layer, found.stat.st_ino);
        let count =
            statat(work.links(), &*key, AtFlags::SYMLINK_NOFOLLOW).map_or(0, |stat| stat.st_size as u64);
        // One is left, or it had not been found.
        (count as u32).min((found.stat.st_nlink as u32).saturating_sub(1))
    }

    /// The file is copied, with all the names that it has.
    pub(super) fn forget_gone(&self, state: &State, original: &Stat) {
        let Some(work) = self.work.as_ref().filter(|_| state.gone > 0) else { return };
        let key = self.gone_key(state.layer(), original.st_ino);
        unlinkat(work.links(), &*key, AtFlags::empty()).or_ignore();
    }

    fn gone_key(&self, layer: Layer, ino: u64) -> CString {
        let key = self.key(layer, ino);
        CString::new([key.to_bytes(), b".gone"].concat()).unwrap_or_default()
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
        let Some(group) = state.group_mut() else { return Ok(()) };
        let work = self.work()?;
        let upper = self.upper_part(parent)?;
        rustix::fs::linkat(work.links(), &*group.key, upper.as_fd(), name, AtFlags::empty())?;
        group.uncopied = group.uncopied.saturating_sub(1);
        state.names[unreal].real = true;
        self.save_group(inode, state)
    }
}
