//! Renaming. Directories with a part in a lower layer are not moved: EXDEV, on
//! which mv(1) and others copy, as on the kernel's overlay.

use super::create::inode_changed;
use super::inode::{Inode, Name};
use super::merged::Merged;
use super::wire::{Answer, Rename};
use super::{caller, xattr};
use rustix::fs::{RenameFlags, renameat_with, unlinkat};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One of the two names.
struct Side<'a> {
    parent: Arc<Inode>,
    name: &'a CStr,
    /// What it leads to, with a reference of ours.
    inode: Option<Arc<Inode>>,
    /// Whether a lower layer shows something there.
    below: bool,
}

impl Merged {
    pub(super) fn rename_entry(&self, from: (u64, &CStr), to: (u64, &CStr), how: Rename) -> Answer<()> {
        let source = self.side(from)?;
        let target = match self.side(to) {
            Ok(target) => target,
            Err(errno) => {
                self.leave(&source);
                return Err(errno);
            }
        };
        let result = self.rename_sides(&source, &target, how);
        self.leave(&source);
        self.leave(&target);
        result
    }

    fn side<'a>(&self, (parent, name): (u64, &'a CStr)) -> Answer<Side<'a>> {
        let parent = self.directory(parent)?;
        if name.count_bytes() > 255 {
            return Err(Errno::NAMETOOLONG);
        }
        let found = self.find(&parent, name)?;
        let below = self.below(&parent, name)?;
        let inode = found.map(|found| self.refer(&parent, name, found)).transpose()?;
        Ok(Side { parent, name, inode, below })
    }

    fn leave(&self, side: &Side<'_>) {
        if let Some(inode) = &side.inode {
            self.let_go(inode.node, 1);
        }
    }

    fn rename_sides(&self, source: &Side<'_>, target: &Side<'_>, how: Rename) -> Answer<()> {
        let moved = source.inode.as_ref().ok_or(Errno::NOENT)?;
        match (how, &target.inode) {
            (Rename::NoReplace, Some(_)) => return Err(Errno::EXIST),
            (Rename::Exchange, None) => return Err(Errno::NOENT),
            // Two names of one file: nothing happens.
            (_, Some(there)) if there.node == moved.node => return Ok(()),
            _ => {}
        }
        can_move(moved)?;
        if how == Rename::Exchange {
            if let Some(there) = &target.inode {
                can_move(there)?;
                self.copy_up(there)?;
            }
        } else {
            self.can_replace(moved, target)?;
        }
        self.copy_up(moved)?;
        self.copy_up(&source.parent)?;
        self.copy_up(&target.parent)?;
        caller::resume()?;
        match how {
            Rename::Exchange => self.exchange(source, target),
            Rename::Replace | Rename::NoReplace => self.replace(source, target),
        }
    }

    fn can_replace(&self, moved: &Inode, target: &Side<'_>) -> Answer<()> {
        let Some(there) = &target.inode else { return Ok(()) };
        match (moved.is_dir(), there.is_dir()) {
            (true, false) => Err(Errno::NOTDIR),
            (false, true) => Err(Errno::ISDIR),
            (true, true) if !self.is_empty_directory(there)? => Err(Errno::NOTEMPTY),
            _ => Ok(()),
        }
    }

    fn replace(&self, source: &Side<'_>, target: &Side<'_>) -> Answer<()> {
        let work = self.work()?;
        let moved = source.inode.as_ref().ok_or(Errno::NOENT)?;
        let (from, to) = (self.upper_part(&source.parent)?, self.upper_part(&target.parent)?);
        let (from, to) = (from.as_fd(), to.as_fd());
        if let Some(there) = target.inode.as_ref().filter(|there| there.is_dir()) {
            if there.state().upper {
                self.empty_out(there)?;
            }
        }
        let mut guards = states([Some(moved), target.inode.as_ref()]);
        let [Some(state), replaced] = &mut guards else { return Err(Errno::IO) };
        self.materialize(moved, state, &source.parent, source.name)?;
        if let (Some(there), Some(state)) = (&target.inode, replaced.as_mut()) {
            if !there.is_dir() {
                self.hold_last(there, state, &target.parent, target.name)?;
            }
        }
        if moved.is_dir() && target.below {
            xattr::make_opaque_at(from, source.name)?;
        }
        if moved.ino != moved.copy.load(Ordering::Relaxed) {
            xattr::make_impure(to)?;
        }
        // A directory does not replace a whiteout, as that is no directory; it
        // can change places with it.
        let over_whiteout = moved.is_dir() && super::create::is_whiteout_at(to, target.name);
        if over_whiteout {
            if source.below {
                work.announce(from)?;
            }
            renameat_with(from, source.name, to, target.name, RenameFlags::EXCHANGE)?;
            if !source.below {
                unlinkat(from, source.name, rustix::fs::AtFlags::empty())?;
            }
        } else if source.below {
            rename_with_whiteout(work, (from, source.name), (to, target.name))?;
        } else {
            renameat_with(from, source.name, to, target.name, RenameFlags::empty())?;
        }
        state.forget_name(&source.parent, source.name);
        state.remember(Name::new(&target.parent, target.name));
        if let (Some(there), Some(state)) = (&target.inode, replaced.as_mut()) {
            if there.is_dir() {
                state.names.clear();
                self.table.remove_identity(there.copy.load(Ordering::Relaxed), there);
            } else {
                self.count_gone(there, state);
                self.lost_name(there, state, &target.parent, target.name)?;
            }
        }
        drop(guards);
        inode_changed(&source.parent);
        inode_changed(&target.parent);
        Ok(())
    }

    fn exchange(&self, source: &Side<'_>, target: &Side<'_>) -> Answer<()> {
        let (Some(one), Some(other)) = (&source.inode, &target.inode) else { return Err(Errno::NOENT) };
        let (from, to) = (self.upper_part(&source.parent)?, self.upper_part(&target.parent)?);
        let (from, to) = (from.as_fd(), to.as_fd());
        let mut guards = states([Some(one), Some(other)]);
        let [Some(state), Some(other_state)] = &mut guards else { return Err(Errno::IO) };
        self.materialize(one, state, &source.parent, source.name)?;
        self.materialize(other, other_state, &target.parent, target.name)?;
        if one.is_dir() && target.below {
            xattr::make_opaque_at(from, source.name)?;
        }
        if other.is_dir() && source.below {
            xattr::make_opaque_at(to, target.name)?;
        }
        xattr::make_impure(from)?;
        xattr::make_impure(to)?;
        renameat_with(from, source.name, to, target.name, RenameFlags::EXCHANGE)?;
        state.forget_name(&source.parent, source.name);
        other_state.forget_name(&target.parent, target.name);
        state.remember(Name::new(&target.parent, target.name));
        other_state.remember(Name::new(&source.parent, source.name));
        drop(guards);
        inode_changed(&source.parent);
        inode_changed(&target.parent);
        Ok(())
    }
}

fn can_move(inode: &Inode) -> Answer<()> {
    if inode.is_dir() && !inode.state().is_pure_upper() {
        return Err(Errno::XDEV);
    }
    Ok(())
}

/// Renames, leaving a whiteout behind: in one step where the file system can.
fn rename_with_whiteout(
    work: &super::work::Work,
    from: (std::os::fd::BorrowedFd<'_>, &CStr),
    to: (std::os::fd::BorrowedFd<'_>, &CStr),
) -> Answer<()> {
    match renameat_with(from.0, from.1, to.0, to.1, RenameFlags::WHITEOUT) {
        Err(Errno::INVAL | Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP) => {
            renameat_with(from.0, from.1, to.0, to.1, RenameFlags::empty())?;
            work.hide(from.0, from.1)
        }
        result => result,
    }
}

type Guard<'a> = std::sync::RwLockWriteGuard<'a, super::inode::State>;

/// Locks the states in the order of their nodes.
fn states(inodes: [Option<&Arc<Inode>>; 2]) -> [Option<Guard<'_>>; 2] {
    let [one, other] = inodes;
    match (one, other) {
        (Some(one), Some(other)) if other.node < one.node => {
            let second = other.state_mut();
            [Some(one.state_mut()), Some(second)]
        }
        (one, other) => {
            let first = one.map(|inode| inode.state_mut());
            [first, other.map(|inode| inode.state_mut())]
        }
    }
}
