//! Trying something in a child that takes its traces with it.

use crate::sys::process::{self, Cloned};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::io;
use std::os::fd::AsFd;

/// Runs `deed` in a forked child and gives its result. The caller must have one
/// thread. An errno above 255 does not exist, so it fits into an exit code.
pub(super) fn in_child(deed: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    match process::fork()? {
        Cloned::Child => {
            let code = match deed() {
                Ok(()) => 0,
                Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
            };
            process::exit_now(code)
        }
        Cloned::Parent { pidfd, .. } => {
            let status = loop {
                match waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
                    Ok(status) => break status,
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            };
            match status.and_then(|status| status.exit_status()) {
                Some(0) => Ok(()),
                Some(errno) => Err(io::Error::from_raw_os_error(errno)),
                None => Err(io::Error::from_raw_os_error(libc::EINTR)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_tells_what_the_kernel_said() {
        assert!(in_child(|| Ok(())).is_ok());
        let error = in_child(|| Err(io::Error::from_raw_os_error(libc::EACCES))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    }
}
