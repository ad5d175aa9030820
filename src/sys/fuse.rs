//! /dev/fuse: the one ioctl that it takes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `_IOR(229, 0, u32)`: include/uapi/linux/fuse.h, FUSE_DEV_IOC_CLONE.
const CLONE: libc::Ioctl = 0x8004_e500_u32 as libc::Ioctl;

/// Makes `fresh`, a newly opened /dev/fuse, another end of the connection that
/// `device` serves: each takes requests of its own. Since Linux 4.2.
pub(crate) fn join_connection(fresh: BorrowedFd<'_>, device: BorrowedFd<'_>) -> io::Result<()> {
    let source = device.as_raw_fd() as u32;
    // SAFETY: the kernel reads one u32 behind the pointer, which lives on, and
    // keeps nothing of it.
    let result = unsafe { libc::ioctl(fresh.as_raw_fd(), CLONE, &raw const source) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
