//! The bytes of files.

use super::inode::Inode;
use super::merged::Merged;
use super::wire::{Answer, Caller, Space, Writer};
use super::{caller, xattr};
use rustix::fs::{FallocateFlags, Mode, SeekFrom, Stat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Merged {
    pub(super) fn read_data(&self, node: u64, offset: u64, buffer: &mut [u8]) -> Answer<usize> {
        let data = self.data(&self.inode(node)?)?;
        let mut filled = 0;
        while filled < buffer.len() {
            match rustix::io::pread(&data.fd, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(filled)
    }

    /// The file's data in the upper directory, to be written to.
    fn writable(&self, inode: &Arc<Inode>) -> Answer<Arc<super::handles::Data>> {
        let data = inode.handles().data.clone();
        if let Some(data) = data.filter(|data| data.writable) {
            return Ok(data);
        }
        self.copy_up(inode)?;
        let data = self.data(inode)?;
        if data.writable { Ok(data) } else { Err(Errno::IO) }
    }

    pub(super) fn write_data(&self, node: u64, offset: u64, bytes: &[u8], writer: Writer) -> Answer<usize> {
        let write = || self.write_once(node, offset, bytes, writer);
        match writer {
            Writer::Cache => self.write_gathered(node, bytes.len(), write),
            Writer::Privileged | Writer::Other(_) => self.room.wait_for(write),
        }
    }

    fn write_once(&self, node: u64, offset: u64, bytes: &[u8], writer: Writer) -> Answer<usize> {
        let inode = self.inode(node)?;
        // Copied up before others have to wait; the data may be other ones after it.
        self.writable(&inode)?;
        if writer == Writer::Cache {
            self.times.settle_but(node);
        }
        let mut times = self.times.lock(node);
        let data = self.writable(&inode)?;
        let file = data.fd.as_fd();
        match writer {
            Writer::Cache => {
                times.owe(&data)?;
                write_as_before(&inode, file, offset, bytes, writer)
            }
            Writer::Privileged => {
                times.forget(&data);
                write_as_before(&inode, file, offset, bytes, writer)
            }
            Writer::Other(by) => {
                times.forget(&data);
                write_all(file, offset, bytes)?;
                kill_privileges(file, by)?;
                Ok(bytes.len())
            }
        }
    }

    pub(super) fn allocate_data(
        &self,
        by: Caller,
        node: u64,
        mode: u32,
        (offset, length): (u64, u64),
    ) -> Answer<()> {
        let inode = self.inode(node)?;
        let data = self.writable(&inode)?;
        self.times.lock(node).forget(&data);
        caller::resume()?;
        rustix::fs::fallocate(&data.fd, FallocateFlags::from_bits_retain(mode), offset, length)?;
        if inode.set_id.load(Ordering::Relaxed) { kill_privileges(data.fd.as_fd(), by) } else { Ok(()) }
    }

    pub(super) fn seek_data(&self, node: u64, offset: u64, whence: u32) -> Answer<u64> {
        let data = self.data(&self.inode(node)?)?;
        let target = match whence as i32 {
            libc::SEEK_DATA => SeekFrom::Data(offset),
            libc::SEEK_HOLE => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        // The position itself is nobody's: everything else names its offset.
        rustix::fs::seek(&data.fd, target)
    }

    pub(super) fn copy_data(
        &self,
        by: Caller,
        from: (u64, u64),
        to: (u64, u64),
        length: u64,
    ) -> Answer<usize> {
        caller::resume()?;
        let inode = self.inode(to.0)?;
        let target = self.writable(&inode)?;
        self.times.lock(to.0).forget(&target);
        let source = self.data(&self.inode(from.0)?)?;
        let (mut from, mut to) = (from.1, to.1);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let copied =
            rustix::fs::copy_file_range(&source.fd, Some(&mut from), &target.fd, Some(&mut to), length)?;
        if inode.set_id.load(Ordering::Relaxed) {
            kill_privileges(target.fd.as_fd(), by)?;
        }
        Ok(copied)
    }

    pub(super) fn sync_file(&self, node: u64, data_only: bool) -> Answer<()> {
        let inode = self.inode(node)?;
        if self.volatile {
            // Asked once, and never again.
            return Err(Errno::NOSYS);
        }
        if inode.is_dir() {
            return match &self.parts(&inode)?.upper {
                Some(upper) => rustix::fs::fsync(upper.as_fd()),
                None => Ok(()),
            };
        }
        if !inode.state().upper {
            return Ok(());
        }
        let data = self.data(&inode)?;
        if data_only { rustix::fs::fdatasync(&data.fd) } else { rustix::fs::fsync(&data.fd) }
    }

    pub(super) fn sync_everything(&self) -> Answer<()> {
        match &self.work {
            Some(work) if !self.volatile => rustix::fs::syncfs(work.fresh()),
            _ => Ok(()),
        }
    }

    pub(super) fn free_space(&self) -> Answer<Space> {
        let parts = self.parts(&self.root)?;
        let (_, top) = parts.all().next().ok_or(Errno::NOENT)?;
        let stat = rustix::fs::fstatfs(top)?;
        Ok(Space {
            blocks: stat.f_blocks,
            free: stat.f_bfree,
            available: stat.f_bavail,
            files: stat.f_files,
            files_free: stat.f_ffree,
            block_size: stat.f_bsize as u32,
            fragment_size: stat.f_frsize as u32,
            name_length: stat.f_namelen as u32,
        })
    }
}

/// What the upper file system takes away from a file at each write of ours: it
/// cannot know whose write it is.
struct Privileges {
    mode: Option<Mode>,
    capabilities: Option<Vec<u8>>,
}

impl Privileges {
    /// Those that the file has, and is to have after a write by `writer` too.
    fn of(inode: &Inode, file: BorrowedFd<'_>, writer: Writer) -> Answer<Self> {
        let set_id = inode.set_id.load(Ordering::Relaxed);
        let mode = set_id.then(|| rustix::fs::fstat(file)).transpose()?.map(|stat| stat.st_mode & 0o7777);
        let kept = writer == Writer::Cache && !inode.plain.load(Ordering::Relaxed);
        let capabilities = if kept { xattr::capabilities(file)? } else { None };
        Ok(Self { mode: mode.map(Mode::from_raw_mode), capabilities })
    }

    fn give(self, file: BorrowedFd<'_>) -> Answer<()> {
        if let Some(mode) = self.mode {
            rustix::fs::fchmod(file, mode)?;
        }
        self.capabilities.map_or(Ok(()), |value| xattr::set_capabilities(file, &value))
    }
}

/// Writes, and leaves the file the privileges that it has.
fn write_as_before(
    inode: &Inode,
    file: BorrowedFd<'_>,
    offset: u64,
    bytes: &[u8],
    writer: Writer,
) -> Answer<usize> {
    let state = inode.state();
    let has_capabilities = writer == Writer::Cache && !inode.plain.load(Ordering::Relaxed);
    if !has_capabilities && !inode.set_id.load(Ordering::Relaxed) {
        return write_all(file, offset, bytes);
    }
    drop(state);
    // Alone: what is set in the meantime would be set back.
    let _alone = inode.state_mut();
    let before = Privileges::of(inode, file, writer)?;
    write_all(file, offset, bytes)?;
    before.give(file)?;
    Ok(bytes.len())
}

fn write_all(file: BorrowedFd<'_>, offset: u64, bytes: &[u8]) -> Answer<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match rustix::io::pwrite(file, &bytes[written..], offset + written as u64) {
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            // Even where a part was written: Linux takes pages that it writes
            // back for written, however few the answer counts, and makes EIO
            // of it where it does not.
            Err(errno) => return Err(errno),
        }
    }
    Ok(written)
}

/// Takes away set-uid, set-gid (of a program) and file capabilities, as a write
/// by somebody who is not its owner does. The upper file system would not, as
/// this server is root there.
pub(super) fn kill_privileges(file: BorrowedFd<'_>, by: Caller) -> Answer<()> {
    xattr::drop_capabilities(file, c"");
    let stat = rustix::fs::fstat(file)?;
    let kept = without_privileges(&stat, by);
    if kept == stat.st_mode { Ok(()) } else { rustix::fs::fchmod(file, Mode::from_raw_mode(kept & 0o7777)) }
}

/// Set-gid without execution by the group meant something else once (mandatory
/// locks), and stays where root or a member of the group writes. Of a caller's
/// groups the kernel tells the first.
///
/// Source: Linux, fs/attr.c, `setattr_should_drop_sgid`.
pub(super) fn without_privileges(stat: &Stat, by: Caller) -> u32 {
    let is_lock = stat.st_mode & (libc::S_ISGID | libc::S_IXGRP) == libc::S_ISGID;
    let stays = is_lock && by.ids().is_some_and(|(uid, gid)| uid == 0 || gid == stat.st_gid);
    stat.st_mode & !(libc::S_ISUID | if stays { 0 } else { libc::S_ISGID })
}

/// Copies the first `length` bytes of a file to an empty one: by reference where
/// the file system can, without the holes in any case.
pub(super) fn copy_bytes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, length: u64) -> Answer<()> {
    let whole = rustix::fs::fstat(from)?.st_size as u64 == length;
    if whole && rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let mut at = 0;
    while at < length {
        let start = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(start) => start.min(length),
            // The rest is a hole.
            Err(Errno::NXIO) => break,
            Err(_) => at,
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(start)).unwrap_or(length).clamp(start, length);
        copy_part(from, to, start, end)?;
        at = end.max(start + 1);
    }
    rustix::fs::ftruncate(to, length)
}

fn copy_part(from: BorrowedFd<'_>, to: BorrowedFd<'_>, start: u64, end: u64) -> Answer<()> {
    let mut at = start;
    let mut by_kernel = true;
    let mut buffer = Vec::new();
    while at < end {
        let left = usize::try_from(end - at).unwrap_or(usize::MAX).min(1 << 30);
        if by_kernel {
            let (mut source, mut target) = (at, at);
            match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), left) {
                Ok(0) => return Ok(()),
                Ok(count) => at += count as u64,
                Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                    by_kernel = false;
                    buffer = vec![0; 1 << 20];
                }
                Err(errno) => return Err(errno),
            }
            continue;
        }
        let room = left.min(buffer.len());
        let count = match rustix::io::pread(from, &mut buffer[..room], at) {
            Ok(0) => return Ok(()),
            Err(Errno::INTR) => continue,
            result => result?,
        };
        let mut written = 0;
        while written < count {
            match rustix::io::pwrite(to, &buffer[written..count], at + written as u64) {
                Err(Errno::INTR) => {}
                result => written += result?,
            }
        }
        at += count as u64;
    }
    Ok(())
}
