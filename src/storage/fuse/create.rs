//! Making files, and giving them names.

use super::few::Few;
use super::handles::Data;
use super::inode::{Inode, Name, State};
use super::merged::{Merged, unpacked};
use super::wire::{Answer, Caller, Entry, New};
use super::work::Work;
use super::{caller, xattr};
use crate::storage::whiteout::is_whiteout;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Uid, renameat_with, statat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Merged {
    pub(super) fn make_file(&self, who: Caller, parent: u64, name: &CStr, new: New<'_>) -> Answer<Entry> {
        let parent = self.directory(parent)?;
        if let New::Node { mode, rdev: 0, .. } = new {
            // It would be a whiteout.
            if FileType::from_raw_mode(mode) == FileType::CharacterDevice {
                return Err(Errno::PERM);
            }
        }
        self.copy_up(&parent)?;
        let work = self.work()?;
        let upper = self.upper_part(&parent)?;
        let umask = match new {
            New::Node { umask, .. } | New::Directory { umask, .. } => umask,
            New::Symlink { .. } => 0,
        };
        caller::assume(who, umask)?;
        let made = match make_at(upper.as_fd(), name, new) {
            Err(Errno::EXIST) if is_whiteout_at(upper.as_fd(), name) => {
                let acl = xattr::has_default_acl(&parent, upper.as_fd());
                make_over_whiteout(work, (upper.as_fd(), acl), name, new, (who, umask))
            }
            made => made,
        };
        let (data, stat) = match made {
            Err(Errno::MFILE | Errno::NFILE) => {
                self.limit.shrink();
                make_at(upper.as_fd(), name, new)?
            }
            made => made?,
        };
        inode_changed(&parent);
        let inode =
            self.new_inode(&stat, State { names: Few::One(Name::new(&parent, name)), ..State::default() });
        // A new file has no attributes but those that it inherits.
        inode.plain.store(!xattr::has_default_acl(&parent, upper.as_fd()), Ordering::Relaxed);
        if let Some(fd) = data {
            let data = Data::new(self.limit.counted(fd), true);
            data.modified.set(Some(super::times::modified(&stat)));
            inode.handles().data = Some(Arc::new(data));
            self.limit.holds(&inode);
        }
        let attr = self.attr(&inode, &inode.state(), &stat);
        Ok(Entry { node: inode.node, attr })
    }

    /// A file of the upper directory that was just made.
    fn new_inode(&self, stat: &Stat, state: State) -> Arc<Inode> {
        let identity = self.identity(stat);
        let kind = FileType::from_raw_mode(stat.st_mode);
        let state = State { upper: true, ..state };
        let inode = Arc::new(Inode::new(self.table.new_node(), identity, kind, state));
        inode.copy.store(identity, Ordering::Relaxed);
        self.table.add(identity, &inode);
        inode
    }

    /// A file without a name: O_TMPFILE.
    pub(super) fn make_temporary(&self, who: Caller, parent: u64, mode: u32, umask: u32) -> Answer<Entry> {
        let parent = self.directory(parent)?;
        self.copy_up(&parent)?;
        let upper = self.upper_part(&parent)?;
        caller::assume(who, umask)?;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode & 0o7777);
        let held = self.retry(|| rustix::fs::openat(upper.as_fd(), c".", flags, mode))?;
        let stat = rustix::fs::fstat(&held)?;
        let mut state = State::default();
        state.hold(self.limit.held(held)?);
        let inode = self.new_inode(&stat, state);
        let attr = self.attr(&inode, &inode.state(), &stat);
        Ok(Entry { node: inode.node, attr })
    }

    /// Gives a file another name.
    pub(super) fn make_link(&self, node: u64, parent: u64, name: &CStr) -> Answer<Entry> {
        let inode = self.inode(node)?;
        let parent = self.directory(parent)?;
        if inode.is_dir() {
            return Err(Errno::PERM);
        }
        self.copy_up(&inode)?;
        self.copy_up(&parent)?;
        let work = self.work()?;
        let upper = self.upper_part(&parent)?;
        caller::resume()?;
        let mut state = inode.state_mut();
        let link = |dir: BorrowedFd<'_>, name: &CStr| {
            self.at(&state, |from, original| link_at(from, original, dir, name))
        };
        match link(upper.as_fd(), name) {
            Err(Errno::EXIST) if is_whiteout_at(upper.as_fd(), name) => {
                let fresh = work.name();
                link(work.fresh(), &fresh)?;
                renameat_with(work.fresh(), &*fresh, upper.as_fd(), name, RenameFlags::empty())
                    .inspect_err(|_| work.discard(&fresh))?;
            }
            result => result?,
        }
        if inode.ino != inode.copy.load(Ordering::Relaxed) {
            xattr::make_impure(upper.as_fd())?;
        }
        state.remember(Name::new(&parent, name));
        state.let_go();
        inode_changed(&parent);
        inode.lookups.fetch_add(1, Ordering::Relaxed);
        let stat = self.stat_of(&inode, &state)?;
        Ok(Entry { node, attr: self.attr(&inode, &state, &stat) })
    }
}

/// What is known of a directory's entries is the past.
pub(super) fn inode_changed(directory: &Inode) {
    let listing = directory.handles().listing.take();
    drop(listing);
}

pub(super) fn is_whiteout_at(dir: BorrowedFd<'_>, name: &CStr) -> bool {
    statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| is_whiteout(dir, name.to_bytes(), &stat))
}

fn link_at(from: BorrowedFd<'_>, name: &CStr, dir: BorrowedFd<'_>, new: &CStr) -> rustix::io::Result<()> {
    if !name.is_empty() {
        return rustix::fs::linkat(from, name, dir, new, AtFlags::empty());
    }
    // AT_EMPTY_PATH would need CAP_DAC_READ_SEARCH of the host: open(2), O_TMPFILE.
    let path = CString::new(format!("/proc/self/fd/{}", from.as_raw_fd())).unwrap_or_default();
    rustix::fs::linkat(rustix::fs::CWD, &*path, dir, new, AtFlags::SYMLINK_FOLLOW)
}

/// Makes a file where nothing is; open, if it is a regular one.
fn make_at(dir: BorrowedFd<'_>, name: &CStr, new: New<'_>) -> Answer<(Option<OwnedFd>, Stat)> {
    match new {
        New::Node { mode, rdev, .. } => {
            let (kind, permissions) = (FileType::from_raw_mode(mode), Mode::from_raw_mode(mode & 0o7777));
            if kind == FileType::RegularFile {
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(dir, name, flags, permissions)?;
                let stat = rustix::fs::fstat(&fd)?;
                return Ok((Some(fd), stat));
            }
            rustix::fs::mknodat(dir, name, kind, permissions, unpacked(rdev))?;
        }
        New::Directory { mode, .. } => {
            rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode & 0o7777))?;
        }
        New::Symlink { target } => rustix::fs::symlinkat(target, dir, name)?,
    }
    Ok((None, statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?))
}

/// Makes a file in the place of a whiteout, in one step. What it would inherit
/// from its directory (group, default ACL) it gets from a double of that.
fn make_over_whiteout(
    work: &Work,
    (dir, has_default_acl): (BorrowedFd<'_>, bool),
    name: &CStr,
    new: New<'_>,
    guise: (Caller, u32),
) -> Answer<(Option<OwnedFd>, Stat)> {
    let fresh = work.name();
    let stat = rustix::fs::fstat(dir)?;
    let set_gid = stat.st_mode & libc::S_ISGID != 0;
    if work.is_plain() && !set_gid && !has_default_acl {
        let made = make_and_move((work.fresh(), &fresh), (dir, name), new, guise);
        // The whiteout that a directory took the place of, or what could not be moved.
        if made.is_err() || matches!(new, New::Directory { .. }) {
            work.discard(&fresh);
        }
        return made;
    }
    caller::resume()?;
    rustix::fs::mkdirat(work.fresh(), &*fresh, Mode::RWXU)?;
    let attempt = || {
        let double = rustix::fs::openat(work.fresh(), &*fresh, super::merged::DIRECTORY, Mode::empty())?;
        if set_gid {
            rustix::fs::fchown(&double, None::<Uid>, Some(Gid::from_raw(stat.st_gid)))?;
            rustix::fs::fchmod(&double, Mode::RWXU | Mode::SGID)?;
        }
        xattr::copy_default_acl(dir, double.as_fd())?;
        make_and_move((double.as_fd(), name), (dir, name), new, guise)
    };
    let made = attempt();
    work.discard(&fresh);
    made
}

fn make_and_move(
    (from, fresh): (BorrowedFd<'_>, &CStr),
    (dir, name): (BorrowedFd<'_>, &CStr),
    new: New<'_>,
    (who, umask): (Caller, u32),
) -> Answer<(Option<OwnedFd>, Stat)> {
    caller::assume(who, umask)?;
    let made = make_at(from, fresh, new)?;
    caller::resume()?;
    if matches!(new, New::Directory { .. }) {
        xattr::make_opaque_at(from, fresh)?;
        renameat_with(from, fresh, dir, name, RenameFlags::EXCHANGE)?;
    } else {
        renameat_with(from, fresh, dir, name, RenameFlags::empty())?;
    }
    Ok(made)
}
