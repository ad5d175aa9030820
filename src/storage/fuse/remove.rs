//! Removing names. What lies below is hidden by a whiteout.

use super::inode::{Inode, State};
use super::merged::Merged;
use super::wire::Answer;
use super::{caller, xattr};
use crate::storage::whiteout::is_whiteout;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, renameat_with, statat, unlinkat};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Merged {
    pub(super) fn remove_file(&self, parent: u64, name: &CStr) -> Answer<()> {
        let parent = self.directory(parent)?;
        let found = self.find(&parent, name)?.ok_or(Errno::NOENT)?;
        if FileType::from_raw_mode(found.stat.st_mode) == FileType::Directory {
            return Err(Errno::ISDIR);
        }
        self.copy_up(&parent)?;
        caller::resume()?;
        let work = self.work()?;
        let upper = self.upper_part(&parent)?;
        let in_upper = found.upper;
        // What a lower layer shows was found there.
        let below = !in_upper || self.below(&parent, name)?;
        let several = found.stat.st_nlink > 1;
        let inode = self.refer(&parent, name, found)?;
        let result = {
            let mut state = inode.state_mut();
            let held = self.hold_last(&inode, &mut state, &parent, name);
            let removed = held.and_then(|()| match (in_upper, below) {
                (true, false) => unlinkat(upper.as_fd(), name, AtFlags::empty()),
                (true, true) => work.replace_by_whiteout(upper.as_fd(), name),
                (false, _) => work.hide(upper.as_fd(), name),
            });
            if several && removed.is_ok() {
                self.count_gone(&inode, &state);
            }
            self.room.was_removed();
            removed.and_then(|()| self.lost_name(&inode, &mut state, &parent, name))
        };
        let listing = parent.handles().listing.clone();
        if let Some(listing) = listing {
            listing.remove(name);
        }
        self.let_go(inode.node, 1);
        result
    }

    /// Before a file loses its last known name it is opened, for those who have
    /// it open.
    ///
    /// # Errors
    /// ENFILE where this process may open no more: they would lose it.
    pub(super) fn hold_last(
        &self,
        inode: &Arc<Inode>,
        state: &mut State,
        parent: &Inode,
        name: &CStr,
    ) -> Answer<()> {
        let others = state.names.iter().any(|known| !known.is(parent, name) && known.real);
        // More than the reference of the caller's own: the kernel knows it.
        if others
            || state.held().is_some()
            || state.group().is_some()
            || inode.lookups.load(Ordering::Relaxed) < 2
        {
            return Ok(());
        }
        let data = inode.handles().data.clone();
        let held = match data.filter(|data| data.writable == state.upper) {
            Some(data) => self.retry(|| rustix::io::fcntl_dupfd_cloexec(&data.fd, 3)),
            None => self.at(state, |dir, name| {
                let open = |flags: OFlags| {
                    let flags =
                        flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
                    self.retry(|| rustix::fs::openat(dir, name, flags, Mode::empty()))
                };
                if inode.kind != FileType::RegularFile {
                    return open(OFlags::PATH);
                }
                let wanted = if state.upper { OFlags::RDWR } else { OFlags::RDONLY };
                open(wanted).or_else(|_| open(OFlags::PATH))
            }),
        };
        match held {
            Ok(held) => state.hold(self.limit.held(held)?),
            Err(Errno::MFILE | Errno::NFILE) => return Err(Errno::NFILE),
            // Whoever has it open gets errors; the name goes all the same.
            Err(_) => {}
        }
        Ok(())
    }

    /// A name of the file is gone from the merged tree.
    pub(super) fn lost_name(
        &self,
        inode: &Arc<Inode>,
        state: &mut State,
        parent: &Inode,
        name: &CStr,
    ) -> Answer<()> {
        let unreal = state.names.iter().any(|known| !known.real && known.is(parent, name));
        state.forget_name(parent, name);
        if let Some(group) = state.group_mut() {
            if unreal {
                group.uncopied = group.uncopied.saturating_sub(1);
            }
            self.hold_group(inode, state);
            return self.save_group(inode, state);
        }
        if !state.upper {
            state.gone += 1;
        } else if !state.names.iter().any(|known| known.real) && self.is_unlinked(inode, state) {
            self.table.remove_identity(inode.copy.load(Ordering::Relaxed), inode);
        }
        Ok(())
    }

    fn is_unlinked(&self, inode: &Arc<Inode>, state: &State) -> bool {
        // Who cannot be asked is of no use to be found by its number.
        self.stat_of(inode, state).map_or(true, |stat| stat.st_nlink == 0)
    }

    /// The copy of a group loses its name in `work/links` with its last other one.
    fn hold_group(&self, inode: &Arc<Inode>, state: &mut State) {
        let (Some(group), Some(work)) = (state.group(), &self.work) else { return };
        let stat = statat(work.links(), &*group.key, AtFlags::SYMLINK_NOFOLLOW);
        if state.held().is_some() || !stat.is_ok_and(|stat| group.count(stat.st_nlink as u32) == 0) {
            return;
        }
        let flags = if inode.kind == FileType::RegularFile { OFlags::RDWR } else { OFlags::PATH };
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let held = self.retry(|| rustix::fs::openat(work.links(), &*group.key, flags, Mode::empty()));
        if let Ok(held) = held.and_then(|held| self.limit.held(held)) {
            state.hold(held);
        }
    }

    pub(super) fn remove_empty_directory(&self, parent: u64, name: &CStr) -> Answer<()> {
        let parent = self.directory(parent)?;
        let found = self.find(&parent, name)?.ok_or(Errno::NOENT)?;
        if FileType::from_raw_mode(found.stat.st_mode) != FileType::Directory {
            return Err(Errno::NOTDIR);
        }
        self.copy_up(&parent)?;
        let upper = self.upper_part(&parent)?;
        let in_upper = found.upper;
        let below = !in_upper || self.below(&parent, name)?;
        let inode = self.refer(&parent, name, found)?;
        let result = self.remove_known_directory(&inode, (in_upper, below), upper.as_fd(), name);
        if result.is_ok() {
            let listing = parent.handles().listing.clone();
            if let Some(listing) = listing {
                listing.remove(name);
            }
        }
        self.let_go(inode.node, 1);
        result
    }

    fn remove_known_directory(
        &self,
        inode: &Arc<Inode>,
        (in_upper, below): (bool, bool),
        upper: BorrowedFd<'_>,
        name: &CStr,
    ) -> Answer<()> {
        if !self.is_empty_directory(inode)? {
            return Err(Errno::NOTEMPTY);
        }
        caller::resume()?;
        let work = self.work()?;
        // Stays open for those who are in it.
        let parts = self.parts(inode)?;
        let mut state = inode.state_mut();
        match (in_upper, below) {
            (true, false) => {
                if let Some(own) = &parts.upper {
                    clear_whiteouts(own.as_fd())?;
                }
                unlinkat(upper, name, AtFlags::REMOVEDIR)?;
            }
            (true, true) => {
                let fresh = work.name();
                work.hide(work.fresh(), &fresh)?;
                work.announce(upper)?;
                let exchanged = renameat_with(work.fresh(), &*fresh, upper, name, RenameFlags::EXCHANGE);
                work.discard(&fresh);
                exchanged?;
            }
            (false, _) => work.hide(upper, name)?,
        }
        state.names.clear();
        self.table.remove_identity(inode.copy.load(Ordering::Relaxed), inode);
        inode.handles().listing = None;
        Ok(())
    }

    /// Makes the upper part of an empty directory really empty: it hides what
    /// lies below as a whole then.
    pub(super) fn empty_out(&self, inode: &Arc<Inode>) -> Answer<()> {
        let parts = self.parts(inode)?;
        let Some(own) = &parts.upper else { return Ok(()) };
        xattr::make_opaque_at(own.as_fd(), c"")?;
        clear_whiteouts(own.as_fd())
    }
}

fn clear_whiteouts(dir: BorrowedFd<'_>) -> Answer<()> {
    let entries = Dir::read_from(dir)?.collect::<Result<Vec<_>, _>>()?;
    for entry in entries {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if !is_whiteout(dir, name.to_bytes(), &statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?) {
            return Err(Errno::NOTEMPTY);
        }
        unlinkat(dir, name, AtFlags::empty())?;
    }
    Ok(())
}
