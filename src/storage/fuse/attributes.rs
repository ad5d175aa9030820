//! Owner, mode, size and times.

use super::data::without_privileges;
use super::inode::{Inode, State};
use super::merged::Merged;
use super::wire::{Answer, Attr, Btime, Caller, Changes, SetTime};
use super::{caller, xattr};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, StatxFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid,
};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Merged {
    pub(super) fn attributes_of(&self, node: u64) -> Answer<Attr> {
        let inode = self.inode(node)?;
        let state = inode.state();
        let stat = self.stat_of(&inode, &state)?;
        Ok(self.attr(&inode, &state, &stat))
    }

    pub(super) fn birth_of(&self, node: u64) -> Answer<(Attr, Btime)> {
        let inode = self.inode(node)?;
        let state = inode.state();
        let stat = self.stat_of(&inode, &state)?;
        let born = self.on(&inode, &state, |dir, name| {
            let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
            rustix::fs::statx(dir, name, flags, StatxFlags::BTIME)
        })?;
        let known = born.stx_mask & StatxFlags::BTIME.bits() != 0;
        let btime = known.then_some((born.stx_btime.tv_sec, born.stx_btime.tv_nsec));
        Ok((self.attr(&inode, &state, &stat), btime))
    }

    /// Calls with a directory and a name, or an open file and the empty name.
    pub(super) fn on<T>(
        &self,
        inode: &Arc<Inode>,
        state: &State,
        call: impl FnOnce(BorrowedFd<'_>, &CStr) -> rustix::io::Result<T>,
    ) -> Answer<T> {
        if inode.is_dir() {
            let parts = self.parts_of(inode, state)?;
            let (_, top) = parts.all().next().ok_or(Errno::NOENT)?;
            return call(top, c"");
        }
        let data = inode.handles().data.clone();
        match data {
            Some(data) => call(data.fd.as_fd(), c""),
            None => self.at(state, call),
        }
    }

    pub(super) fn change_attributes(&self, by: Caller, node: u64, changes: &Changes) -> Answer<Attr> {
        let inode = self.inode(node)?;
        let is_link = inode.kind == FileType::Symlink;
        if is_link && changes.mode.is_some() {
            return Err(Errno::OPNOTSUPP);
        }
        if changes.size.is_some() && inode.kind != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        if let Some(attr) = self.changes_nothing(&inode, changes)? {
            return Ok(attr);
        }
        self.copy_up_to(&inode, changes.size.unwrap_or(u64::MAX))?;
        caller::resume()?;
        let mut time = (changes.mtime.is_some() || changes.size.is_some()).then(|| self.times.lock(node));
        if let Some(size) = changes.size {
            let data = self.data(&inode)?;
            rustix::fs::ftruncate(&data.fd, size)?;
            if changes.kill_privileges {
                super::data::kill_privileges(data.fd.as_fd(), by)?;
            }
        }
        let state = inode.state();
        // chown(2) to nobody changes the time of the status, and is all that asks for nothing.
        let nothing = Changes { kill_privileges: false, ..*changes } == Changes::default();
        if changes.uid.is_some() || changes.gid.is_some() || nothing {
            let (uid, gid) = (changes.uid.map(Uid::from_raw), changes.gid.map(Gid::from_raw));
            let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
            self.on(&inode, &state, |dir, name| rustix::fs::chownat(dir, name, uid, gid, flags))?;
            if inode.kind == FileType::RegularFile
                && changes.kill_privileges
                && !inode.plain.load(Ordering::Relaxed)
            {
                self.on(&inode, &state, |dir, name| {
                    xattr::drop_capabilities(dir, name);
                    Ok(())
                })?;
            }
        }
        if let Some(mode) = changes.mode {
            self.set_mode(&inode, &state, mode)?;
        } else if changes.kill_privileges && changes.size.is_none() && !inode.is_dir() {
            let stat = self.stat_of(&inode, &state)?;
            let kept = without_privileges(&stat, by);
            if kept != stat.st_mode {
                self.set_mode(&inode, &state, kept)?;
            }
        }
        if changes.atime.is_some() || changes.mtime.is_some() {
            let times = Timestamps {
                last_access: timespec(changes.atime),
                last_modification: timespec(changes.mtime),
            };
            let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
            self.on(&inode, &state, |dir, name| rustix::fs::utimensat(dir, name, &times, flags))?;
        }
        let stat = self.stat_of(&inode, &state)?;
        if let Some(time) = &mut time {
            time.is_known(inode.handles().data.as_ref(), &stat);
        }
        Ok(self.attr(&inode, &state, &stat))
    }

    /// When the kernel forgets a file whose change time it has kept (one that was
    /// unlinked, say), it writes both times back. The change time cannot be set,
    /// and where the other is what it was, there is nothing to do, least of all
    /// to copy the file up.
    fn changes_nothing(&self, inode: &Arc<Inode>, changes: &Changes) -> Answer<Option<Attr>> {
        let Changes {
            mode: None,
            uid: None,
            gid: None,
            size: None,
            atime: None,
            mtime: mtime @ Some(SetTime::At(time)),
            kill_privileges: false,
        } = changes
        else {
            return Ok(None);
        };
        // Without asking: see `times`.
        let known = inode.handles().data.as_ref().and_then(|data| data.modified.get());
        if known.is_some_and(|known| known.last_modification != timespec(*mtime)) {
            return Ok(None);
        }
        let state = inode.state();
        let attr = self.attr(inode, &state, &self.stat_of(inode, &state)?);
        Ok((attr.mtime == *time).then_some(attr))
    }

    pub(super) fn set_mode(&self, inode: &Arc<Inode>, state: &State, mode: u32) -> Answer<()> {
        let mode = Mode::from_raw_mode(mode & 0o7777);
        self.on(inode, state, |dir, name| {
            if !name.is_empty() {
                // Never a link: those have no mode to be changed.
                return rustix::fs::chmodat(dir, name, mode, AtFlags::empty());
            }
            match rustix::fs::fchmod(dir, mode) {
                // Held without being open.
                Err(Errno::BADF) => crate::sys::file::chmod_unopened(dir, mode)
                    .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)),
                result => result,
            }
        })
    }
}

fn timespec(time: Option<SetTime>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(SetTime::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(SetTime::At((seconds, nanoseconds))) => {
            Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() }
        }
    }
}
