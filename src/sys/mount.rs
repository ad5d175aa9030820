//! Mounts: the one call of the mount API that rustix lacks.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Attributes to set, clear, and a propagation type (`MS_PRIVATE` …, or 0).
#[derive(Clone, Copy, Default)]
pub(crate) struct MountAttr {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
}

pub(crate) const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
pub(crate) const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
pub(crate) const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
pub(crate) const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
pub(crate) const NOATIME: u64 = libc::MOUNT_ATTR_NOATIME;
pub(crate) const NODIRATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;

/// mount_setattr(2) on the mount at `path` below `dir` (the mount of `dir`
/// itself for an empty path), with all mounts below where `recursive`.
/// Since Linux 5.12; before that ENOSYS.
pub(crate) fn mount_setattr(
    dir: BorrowedFd<'_>,
    path: &CStr,
    attr: MountAttr,
    recursive: bool,
) -> io::Result<()> {
    // SAFETY: an all-zero mount_attr is valid: every field is an integer.
    let mut raw: libc::mount_attr = unsafe { std::mem::zeroed() };
    raw.attr_set = attr.set;
    raw.attr_clr = attr.clear;
    raw.propagation = attr.propagation;
    let mut flags = if path.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: `path` is NUL-terminated and `raw` is a live struct of the size
    // given, laid out as the kernel's; the call keeps neither.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const raw,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
