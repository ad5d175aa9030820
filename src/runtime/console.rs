//! The container's terminal: a pty of the container's own devpts.

use crate::error::{Context, Result, Trouble};
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The two ends of a terminal.
pub(crate) struct Terminal {
    pub(crate) master: OwnedFd,
    pub(crate) slave: OwnedFd,
}

/// Opens a terminal in this devpts mount. The slave is opened through its
/// master (TIOCGPTPEER), not by a path that could be swapped (CVE-2025-52565).
pub(crate) fn open(devpts: BorrowedFd<'_>) -> Result<Terminal> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let master = rustix::fs::openat(devpts, "ptmx", flags, Mode::empty())
        .context(|| "open a terminal in the container")
        .see_doctor(Trouble::Terminals)?;
    rustix::pty::unlockpt(&master).context(|| "unlock the terminal")?;
    let peer = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, peer).context(|| "open the terminal's other end")?;
    Ok(Terminal { master, slave })
}

/// Makes the terminal this session's, and `/dev/console`.
pub(crate) fn adopt(slave: BorrowedFd<'_>, dev_console: Option<BorrowedFd<'_>>) -> Result<()> {
    rustix::process::ioctl_tiocsctty(slave).context(|| "take the terminal as the controlling one")?;
    if let Some(point) = dev_console {
        let node = super::mounts::clone_fd(slave.as_fd(), false).context(|| "mount /dev/console")?;
        super::mounts::attach(node.as_fd(), point).context(|| "mount /dev/console")?;
    }
    Ok(())
}
