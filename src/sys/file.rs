//! Calls on files that rustix does not have in one piece.

use rustix::fs::Mode;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Bytes of `struct fsxattr`: include/uapi/linux/fs.h.
pub(crate) const FSXATTR: usize = 28;
/// `FS_IOC_FSGETXATTR`, `FS_IOC_FSSETXATTR`
const FSGETXATTR: libc::Ioctl = 0x801c_581f_u32 as libc::Ioctl;
const FSSETXATTR: libc::Ioctl = 0x401c_5820_u32 as libc::Ioctl;

/// chmod(2) on a file that is held with O_PATH, which fchmod(2) refuses. Through
/// `/proc/self/fd`, because fchmodat2(2) exists only since Linux 6.6.
pub(crate) fn chmod_unopened(file: impl AsFd, mode: Mode) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    rustix::fs::chmod(path, mode).map_err(io::Error::from)
}

/// The file's `struct fsxattr`: flags, sizes of extents, project. Since Linux 4.5;
/// ENOTTY from a file system that has none.
pub(crate) fn extended_flags(file: BorrowedFd<'_>) -> io::Result<[u8; FSXATTR]> {
    let mut flags = [0; FSXATTR];
    // SAFETY: the kernel writes the bytes of one `struct fsxattr`, for which there
    // is room, and keeps nothing of the pointer.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), FSGETXATTR, flags.as_mut_ptr()) };
    if result == 0 { Ok(flags) } else { Err(io::Error::last_os_error()) }
}

/// Sets what [`extended_flags`] gives.
pub(crate) fn set_extended_flags(file: BorrowedFd<'_>, flags: &[u8; FSXATTR]) -> io::Result<()> {
    // SAFETY: the kernel reads the bytes of one `struct fsxattr`, which live on,
    // and keeps nothing of the pointer.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), FSSETXATTR, flags.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
