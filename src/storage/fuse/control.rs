//! The ioctl(2)s that a file system answers: the flags of lsattr(1) and chattr(1),
//! and the longer form of them. What a flag means and who may set it, the upper
//! directory's file system decides.
//!
//! Source: include/uapi/linux/fs.h.

use super::caller;
use super::inode::Inode;
use super::merged::Merged;
use super::wire::Answer;
use crate::sys::file::{FSXATTR, extended_flags, set_extended_flags};
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// `_IOR('f', 1, long)`, whose value is an int all the same.
const GET_FLAGS: u32 = 0x8008_6601;
/// `_IOW('f', 2, long)`, likewise.
const SET_FLAGS: u32 = 0x4008_6602;
/// `_IOR('X', 31, struct fsxattr)`
const GET_EXTENDED: u32 = 0x801c_581f;
/// `_IOW('X', 32, struct fsxattr)`
const SET_EXTENDED: u32 = 0x401c_5820;

impl Merged {
    /// # Errors
    /// ENOTTY for all others.
    pub(super) fn control_file(&self, node: u64, command: u32, input: &[u8]) -> Answer<Vec<u8>> {
        let inode = self.inode(node)?;
        match command {
            GET_FLAGS => {
                self.with_open(&inode, |file| Ok(ioctl_getflags(file)?.bits().to_ne_bytes().to_vec()))
            }
            GET_EXTENDED => self.with_open(&inode, |file| Ok(extended_flags(file)?.to_vec())),
            SET_FLAGS => {
                let flags = input.first_chunk().ok_or(Errno::INVAL)?;
                let flags = IFlags::from_bits_retain(u32::from_ne_bytes(*flags));
                self.with_copy(&inode, |file| ioctl_setflags(file, flags).map_err(io::Error::from))
            }
            SET_EXTENDED => {
                let flags: &[u8; FSXATTR] = input.first_chunk().ok_or(Errno::INVAL)?;
                self.with_copy(&inode, |file| set_extended_flags(file, flags))
            }
            _ => Err(Errno::NOTTY),
        }
    }

    fn with_copy(
        &self,
        inode: &Arc<Inode>,
        set: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
    ) -> Answer<Vec<u8>> {
        self.copy_up(inode)?;
        caller::resume()?;
        self.with_open(inode, |file| set(file).map(|()| Vec::new()))
    }

    fn with_open(
        &self,
        inode: &Arc<Inode>,
        call: impl FnOnce(BorrowedFd<'_>) -> io::Result<Vec<u8>>,
    ) -> Answer<Vec<u8>> {
        let answer = if inode.is_dir() {
            let parts = self.parts(inode)?;
            let (_, top) = parts.all().next().ok_or(Errno::NOENT)?;
            call(top)
        } else {
            call(self.data(inode)?.as_fd())
        };
        answer.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}
