//! Calls on files that rustix does not have in one piece.

use rustix::fs::Mode;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// chmod(2) on a file that is held with O_PATH, which fchmod(2) refuses. Through
/// `/proc/self/fd`, because fchmodat2(2) exists only since Linux 6.6.
pub(crate) fn chmod_unopened(file: impl AsFd, mode: Mode) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    rustix::fs::chmod(path, mode).map_err(io::Error::from)
}
