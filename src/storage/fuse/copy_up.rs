//! Copying what lies in a lower layer to the upper directory, before the first
//! change of it: once, whole, or not at all.
//!
//! A copy is made in `work/fresh` and moved to its place by rename(2) when
//! nothing is missing any more. Its directories are copied before it.

use super::few::Few;
use super::handles::{Counted, Data, Parts};
use super::inode::{Inode, State};
use super::links::Group;
use super::merged::Merged;
use super::wire::Answer;
use super::work::Work;
use super::{caller, xattr};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, Uid, renameat_with, statat,
};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Merged {
    /// Sees to it that the file is in the upper directory.
    pub(super) fn copy_up(&self, inode: &Arc<Inode>) -> Answer<()> {
        self.copy_up_to(inode, u64::MAX)
    }

    /// As [`Self::copy_up`], but only the first `size` bytes: for who truncates.
    pub(super) fn copy_up_to(&self, inode: &Arc<Inode>, size: u64) -> Answer<()> {
        if inode.state().upper {
            return Ok(());
        }
        self.learn_names(inode)?;
        let parents = {
            let state = inode.state();
            if state.upper {
                return Ok(());
            }
            state.names.iter().map(|name| Arc::clone(&name.parent)).collect::<Vec<_>>()
        };
        let work = self.work()?;
        for parent in &parents {
            self.copy_up(parent)?;
        }
        caller::resume()?;
        let mut state = inode.state_mut();
        if state.upper {
            return Ok(());
        }
        if inode.is_dir() {
            self.copy_directory(work, inode, &mut state)
        } else {
            self.copy_file(work, inode, &mut state, size)
        }
    }

    fn copy_directory(&self, work: &Work, inode: &Arc<Inode>, state: &mut State) -> Answer<()> {
        let parts = self.parts_of(inode, state)?;
        let (_, lower) = parts.all().next().ok_or(Errno::NOENT)?;
        let stat = rustix::fs::fstat(lower)?;
        let name = state.names.first().cloned().ok_or(Errno::NOENT)?;
        let above = self.upper_part(&name.parent)?;
        let fresh = work.name();
        rustix::fs::mkdirat(work.fresh(), &*fresh, Mode::RWXU)?;
        let finish = || {
            let upper = self.retry(|| {
                rustix::fs::openat(work.fresh(), &*fresh, super::merged::DIRECTORY, Mode::empty())
            })?;
            self.describe((lower, c""), (work.fresh(), &fresh), &stat, Some(upper.as_fd()))?;
            xattr::set_origin_at(upper.as_fd(), c"", inode.ino)?;
            publish(work, &fresh, above.as_fd(), &name.name)?;
            Ok(upper)
        };
        let upper: OwnedFd = finish().inspect_err(|_| work.discard(&fresh))?;
        self.is_copied(inode, &rustix::fs::fstat(&upper)?);
        state.upper = true;
        let upper = Some(Arc::new(self.limit.counted(upper)));
        inode.handles().parts = Some(Arc::new(Parts { upper, lowers: Arc::clone(&parts.lowers) }));
        Ok(())
    }

    fn copy_file(&self, work: &Work, inode: &Arc<Inode>, state: &mut State, size: u64) -> Answer<()> {
        let stat = self.stat_of(inode, state)?;
        let fresh = work.name();
        let finish = |state: &mut State| {
            let data = self.copy_content(work, inode, state, (&fresh, &stat), size)?;
            self.at(state, |dir, name| {
                let copy = data.as_ref().map(AsFd::as_fd);
                self.describe((dir, name), (work.fresh(), &fresh), &stat, copy)
            })?;
            xattr::set_origin_at(work.fresh(), &fresh, inode.ino)?;
            if let (Some(data), false) = (&data, self.volatile) {
                // Or, after a power cut, an empty file could hide the original.
                rustix::fs::fsync(data)?;
            }
            self.place_copy(work, inode, state, &fresh, &stat)?;
            Ok(data)
        };
        let data: Option<OwnedFd> = finish(state).inspect_err(|_| work.discard(&fresh))?;
        let mut handles = inode.handles();
        handles.data = data.map(|fd| Arc::new(Data::new(self.limit.counted(fd), true)));
        let holds = handles.data.is_some();
        drop(handles);
        if holds {
            self.limit.holds(inode);
        }
        Ok(())
    }

    /// Moves the finished copy to the file's names, or keeps it as what an open
    /// file without a name is.
    fn place_copy(
        &self,
        work: &Work,
        inode: &Arc<Inode>,
        state: &mut State,
        fresh: &CStr,
        stat: &Stat,
    ) -> Answer<()> {
        let copy = statat(work.fresh(), fresh, AtFlags::SYMLINK_NOFOLLOW)?;
        let Some(first) = state.names.first().cloned() else {
            let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let held = self.retry(|| rustix::fs::openat(work.fresh(), fresh, flags, Mode::empty()))?;
            work.discard(fresh);
            state.hold(self.limit.held(held)?);
            state.upper = true;
            return Ok(());
        };
        let group = self.group(work, state, fresh, stat)?;
        // The other names first: with the last step nothing is left undone.
        let mut names = Few::One(first.clone());
        for other in state.names.iter().skip(1) {
            let upper = self.upper_part(&other.parent)?;
            xattr::make_impure(upper.as_fd())?;
            match rustix::fs::linkat(work.fresh(), fresh, upper.as_fd(), &*other.name, AtFlags::empty()) {
                // There from an attempt that was cut off.
                Err(Errno::EXIST) => {
                    work.replace_by_link(fresh, upper.as_fd(), &other.name)?;
                }
                // A file system without hard links: the names part.
                Err(Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK) => continue,
                result => result?,
            }
            names.push(other.clone());
        }
        let above = self.upper_part(&first.parent)?;
        publish(work, fresh, above.as_fd(), &first.name)?;
        self.is_copied(inode, &copy);
        state.names = names;
        state.set_group(group);
        self.forget_gone(state, stat);
        state.gone = 0;
        state.upper = true;
        state.lowers.clear();
        state.let_go();
        Ok(())
    }

    /// Where not all names of a file are known, those that are not must lead to
    /// the copy.
    fn group(&self, work: &Work, state: &State, fresh: &CStr, stat: &Stat) -> Answer<Option<Group>> {
        let known = state.names.len() as u32 + state.gone;
        if self.owners.squash.is_none() || stat.st_nlink as u32 <= known {
            return Ok(None);
        }
        let layer = state.lowers.first().copied().unwrap_or_default();
        let made = Group { key: self.key(layer, stat.st_ino), uncopied: stat.st_nlink as u32 - known };
        let marked = xattr::set_group_at(work.fresh(), fresh, &made);
        match marked.and_then(|()| work.keep(fresh, &made.key)) {
            Ok(()) => Ok(Some(made)),
            // A link, or a file system without hard links: the names part.
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// From now on the file is found by its copy.
    fn is_copied(&self, inode: &Arc<Inode>, copy: &Stat) {
        let identity = self.identity(copy);
        inode.copy.store(identity, Ordering::Relaxed);
        self.table.alias(identity, inode);
    }

    /// Gives a copy the owner, mode, attributes and times of its original.
    fn describe(
        &self,
        from: (BorrowedFd<'_>, &CStr),
        to: (BorrowedFd<'_>, &CStr),
        stat: &Stat,
        copy: Option<BorrowedFd<'_>>,
    ) -> Answer<()> {
        let (uid, gid) = self.owners.show(stat.st_uid, stat.st_gid);
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let (dir, name) = to;
        rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Symlink {
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
            match copy {
                Some(copy) => rustix::fs::fchmod(copy, mode)?,
                None => rustix::fs::chmodat(dir, name, mode, AtFlags::empty())?,
            }
        }
        xattr::copy(from, to)?;
        rustix::fs::utimensat(dir, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Makes the copy as `fresh`; open, if it is a regular file.
    fn copy_content(
        &self,
        work: &Work,
        inode: &Arc<Inode>,
        state: &State,
        (fresh, stat): (&CStr, &Stat),
        size: u64,
    ) -> Answer<Option<OwnedFd>> {
        let dir = work.fresh();
        match inode.kind {
            FileType::RegularFile => {
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mode = Mode::RUSR | Mode::WUSR;
                let copy = self.retry(|| rustix::fs::openat(dir, fresh, flags, mode))?;
                let length = size.min(stat.st_size as u64);
                // Nothing is read of a file that is emptied: it may not be ours to read.
                if length > 0 {
                    let original = self.open_lower(inode, state)?;
                    super::data::copy_bytes(original.as_fd(), copy.as_fd(), length)?;
                }
                return Ok(Some(copy));
            }
            FileType::Symlink => {
                let text = self.at(state, |dir, name| rustix::fs::readlinkat(dir, name, Vec::new()))?;
                rustix::fs::symlinkat(&*text, dir, fresh)?;
            }
            kind => rustix::fs::mknodat(dir, fresh, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev)?,
        }
        Ok(None)
    }

    fn open_lower(&self, inode: &Arc<Inode>, state: &State) -> Answer<Counted> {
        if let Some(data) = &inode.handles().data {
            return rustix::io::fcntl_dupfd_cloexec(&data.fd, 3).map(|fd| self.limit.counted(fd));
        }
        Ok(self.open_data(inode, state)?.fd)
    }
}

/// Moves a finished file to its place, as if its directory had not changed.
fn publish(work: &Work, fresh: &CStr, upper: BorrowedFd<'_>, name: &CStr) -> Answer<()> {
    let before = rustix::fs::fstat(upper)?;
    xattr::make_impure(upper)?;
    renameat_with(work.fresh(), fresh, upper, name, RenameFlags::empty())?;
    rustix::fs::futimens(upper, &times(&before))
}

/// Both times of a file, to be set on another.
pub(super) fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    }
}
