//! A name through the upper directory and the lower layers.

use super::few::Few;
use super::inode::{Inode, Layer, Name, State, UPPER};
use super::links::Group;
use super::merged::Merged;
use super::wire::{Answer, Entry};
use super::xattr;
use crate::storage::whiteout::is_whiteout;
use rustix::fs::{AtFlags, FileType, Stat, statat};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a name leads to.
pub(super) struct Found {
    /// Of the file, or of the directory's topmost part.
    pub(super) stat: Stat,
    pub(super) upper: bool,
    /// The lower layers of a directory; the one of a file that is not in the
    /// upper directory.
    pub(super) lowers: Few<Layer>,
    /// The number that the topmost lower part has, for a merged directory.
    origin: Option<u64>,
}

impl Found {
    /// The number that stat(2) shows for a directory.
    pub(super) fn number(&self, merged: &Merged) -> u64 {
        self.origin.unwrap_or_else(|| merged.identity(&self.stat))
    }
}

/// What one layer has by a name.
enum Part {
    Nothing,
    Whiteout,
    File(Box<Stat>),
    Directory(Box<Stat>),
}

impl Merged {
    /// Looks the name up; `None` where nothing is to be seen.
    ///
    /// # Errors
    /// What a layer's file system says, but for names that are not there.
    pub(super) fn find(&self, parent: &Arc<Inode>, name: &CStr) -> Answer<Option<Found>> {
        self.find_from(parent, name, UPPER)
    }

    /// As [`Self::find`], where the layers above `first` are known not to have it.
    pub(super) fn find_from(&self, parent: &Arc<Inode>, name: &CStr, first: Layer) -> Answer<Option<Found>> {
        let parts = self.parts(parent)?;
        let mut found: Option<Found> = None;
        let mut layers = parts.all().skip_while(|(layer, _)| *layer < first).peekable();
        while let Some((layer, dir)) = layers.next() {
            let stat = match self.part(dir, name)? {
                Part::Nothing => continue,
                Part::Whiteout => break,
                Part::File(stat) => {
                    if found.is_none() {
                        let lowers = if layer == UPPER { Few::None } else { Few::One(layer) };
                        return Ok(Some(Found { stat: *stat, upper: layer == UPPER, lowers, origin: None }));
                    }
                    break;
                }
                Part::Directory(stat) => stat,
            };
            let found = found.get_or_insert(Found {
                stat: *stat,
                upper: layer == UPPER,
                lowers: Few::None,
                origin: None,
            });
            if layer != UPPER {
                if found.lowers.is_empty() && found.upper {
                    found.origin = Some(self.identity(&stat));
                }
                found.lowers.push(layer);
            }
            if layers.peek().is_some() && xattr::is_opaque_at(dir, name) {
                break;
            }
        }
        Ok(found)
    }

    fn part(&self, dir: BorrowedFd<'_>, name: &CStr) -> Answer<Part> {
        let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Part::Nothing),
            // A directory of somebody else's that may not even be passed
            // through: with strangers squashed it looks empty, and can be
            // written to, in the upper directory.
            Err(Errno::ACCESS) if self.owners.squash.is_some() => return Ok(Part::Nothing),
            Err(errno) => return Err(errno),
        };
        Ok(if is_whiteout(dir, name.to_bytes(), &stat) {
            Part::Whiteout
        } else if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            Part::Directory(Box::new(stat))
        } else {
            Part::File(Box::new(stat))
        })
    }

    /// Whether a lower layer shows something by this name: what is removed in
    /// the upper directory must leave a whiteout then.
    pub(super) fn below(&self, parent: &Arc<Inode>, name: &CStr) -> Answer<bool> {
        let parts = self.parts(parent)?;
        for (_, dir) in parts.all().filter(|(layer, _)| *layer != UPPER) {
            match self.part(dir, name)? {
                Part::Nothing => {}
                Part::Whiteout => return Ok(false),
                Part::File(_) | Part::Directory(_) => return Ok(true),
            }
        }
        Ok(false)
    }

    /// The file that was found, with one reference more of the kernel's.
    pub(super) fn refer(&self, parent: &Arc<Inode>, name: &CStr, found: Found) -> Answer<Arc<Inode>> {
        let kind = FileType::from_raw_mode(found.stat.st_mode);
        let several = kind != FileType::Directory && found.stat.st_nlink > 1;
        let mut identity = self.identity(&found.stat);
        // Another name of it may have been copied up, now or in an earlier run.
        let mut group = None;
        let known = several && self.table.find(identity).is_some();
        if several && !known {
            group = if found.upper { self.copied_group(parent, name)? } else { self.group_of(&found)? };
        }
        if let Some((copied, _)) = &group {
            identity = *copied;
        }
        let identity = identity;
        let uncopied = several && !known && !found.upper && group.is_none();
        let gone = if uncopied { self.gone_before(&found) } else { 0 };
        let mut fresh = false;
        let make = || {
            fresh = true;
            let origin = || {
                let unknown = found.origin.or_else(|| self.origin_at(parent, name, &found));
                unknown.unwrap_or(identity)
            };
            let (ino, upper, lowers) = match &group {
                Some(_) if !found.upper => (self.identity(&found.stat), true, Few::None),
                _ => (origin(), found.upper, found.lowers.clone()),
            };
            let name = Name { real: found.upper == upper, ..Name::new(parent, name) };
            let mut state = State { names: Few::One(name), upper, lowers, gone, ..State::default() };
            state.set_group(group.map(|(_, group)| group));
            let inode = Inode::new(self.table.new_node(), ino, kind, state);
            if upper {
                inode.copy.store(identity, Ordering::Relaxed);
            }
            Arc::new(inode)
        };
        let inode = self.table.refer(identity, make);
        if !fresh && several {
            let mut state = inode.state_mut();
            // Held without a name no longer, or a name of a file that is copied.
            let real = state.upper == found.upper;
            state.remember(Name { real, ..Name::new(parent, name) });
            if real {
                state.let_go();
            }
        }
        Ok(inode)
    }

    /// The group of a file of the upper directory, if it is a copy with other
    /// names below.
    fn copied_group(&self, parent: &Arc<Inode>, name: &CStr) -> Answer<Option<(u64, Group)>> {
        if !self.work.as_ref().is_some_and(super::work::Work::has_links) {
            return Ok(None);
        }
        let parts = self.parts(parent)?;
        let upper = parts.get(UPPER).ok_or(Errno::NOENT)?;
        let Some(group) = xattr::group_at(upper, name) else { return Ok(None) };
        let stat = statat(upper, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Some((self.identity(&stat), group)))
    }

    /// The number of the file from which this one was copied up.
    fn origin_at(&self, parent: &Arc<Inode>, name: &CStr, found: &Found) -> Option<u64> {
        if !found.upper {
            return None;
        }
        let parts = self.parts(parent).ok()?;
        xattr::origin_at(parts.get(UPPER)?, name)
    }

    pub(super) fn entry(&self, parent: &Arc<Inode>, name: &CStr, found: Found) -> Answer<Entry> {
        let stat = found.stat;
        let inode = self.refer(parent, name, found)?;
        let state = inode.state();
        // The other name of a file that was copied up: what is on the disk by
        // this name is its past.
        let attr = if !inode.is_dir() && state.names.iter().any(|known| !known.real && known.is(parent, name))
        {
            self.attr(&inode, &state, &self.stat_of(&inode, &state)?)
        } else {
            self.attr(&inode, &state, &stat)
        };
        Ok(Entry { node: inode.node, attr })
    }

    pub(super) fn look_up(&self, parent: u64, name: &CStr) -> Answer<Entry> {
        let parent = self.directory(parent)?;
        if name.count_bytes() > 255 {
            return Err(Errno::NAMETOOLONG);
        }
        let found = self.find(&parent, name)?.ok_or(Errno::NOENT)?;
        if FileType::from_raw_mode(found.stat.st_mode) != FileType::Directory {
            self.look_at_file();
        }
        self.entry(&parent, name, found)
    }

    pub(super) fn let_go(&self, node: u64, count: u64) {
        let Ok(inode) = self.inode(node) else { return };
        if node == super::wire::ROOT {
            return;
        }
        let copy = inode.copy.load(Ordering::Relaxed);
        let identities = [inode.ino, copy];
        let identities = if copy == 0 || copy == inode.ino { &identities[..1] } else { &identities[..] };
        self.table.forget(&inode, count, identities);
    }
}
