//! The device, as packets are written to it.

use super::wire::Head;
use crate::error::BestEffort;
use std::io::IoSlice;
use std::os::fd::OwnedFd;

#[derive(Debug)]
pub(super) struct Device {
    fd: OwnedFd,
    mtu: u32,
}

impl Device {
    pub(super) fn new(fd: OwnedFd, mtu: u32) -> Self {
        Self { fd, mtu }
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Bytes.
    pub(super) fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Writes one packet. One that the kernel does not take is lost, as on any
    /// network.
    pub(super) fn send(&self, head: &Head, data: (&[u8], &[u8])) {
        let pieces = [IoSlice::new(head.as_slice()), IoSlice::new(data.0), IoSlice::new(data.1)];
        rustix::io::writev(&self.fd, &pieces).map(drop).or_ignore();
    }

    /// Reads one packet; `None` where there is none for now.
    ///
    /// # Errors
    /// Where the device is gone.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> rustix::io::Result<Option<usize>> {
        loop {
            match rustix::io::read(&self.fd, &mut *buffer) {
                Ok(count) => return Ok(Some(count)),
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
}
