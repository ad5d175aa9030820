//! A small client of rtnetlink(7): links, addresses, routes, rules and
//! neighbours of one network namespace, one request at a time; and of
//! sock_diag(7).
//!
//! A socket belongs to the namespace in which it was opened, wherever its
//! holder goes afterwards: so one thread can hold sockets of several.

mod address;
mod diag;
mod link;
mod message;
mod route;

pub(crate) use address::Interface;
pub(crate) use diag::Diagnosis;
pub(crate) use link::{LinkChange, VethPeer};
pub(crate) use route::{Kind as RouteKind, Route, Rule, RuleAction};

use message::{Reply, Request, replies};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Bytes of one datagram of the kernel's: NLMSG_GOODSIZE is 8 KiB, dumps use up to 32.
const BUFFER: usize = 32 << 10;

/// The kernel answers at once; this only keeps a fault from being endless.
const PATIENCE: Duration = Duration::from_secs(10);

/// RTMGRP_LINK.
const GROUP_OF_LINKS: u32 = 1;

/// An open conversation with the kernel.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// For the network namespace that the calling thread is in.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        // No protocol is NETLINK_ROUTE: both are 0.
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        let timeout = rustix::net::sockopt::Timeout::Recv;
        rustix::net::sockopt::set_socket_timeout(&socket, timeout, Some(PATIENCE))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// A socket that becomes readable when a link of the calling thread's network
    /// namespace changes, comes or goes. What it says is not to be waited for.
    pub(crate) fn links_changed() -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, GROUP_OF_LINKS))?;
        Ok(socket)
    }

    /// Sends a request and waits for the kernel's yes.
    ///
    /// # Errors
    /// The kernel's errno: EEXIST, ENODEV, EPERM, …
    fn ask(&mut self, request: Request) -> io::Result<()> {
        let sequence = self.send(request)?;
        self.collect(sequence, |_, _| {})
    }

    /// Sends a request for all objects of a kind and gives each to `take`: its
    /// type and what follows its header.
    fn dump(&mut self, request: Request, take: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let sequence = self.send(request)?;
        self.collect(sequence, take)
    }

    fn send(&mut self, request: Request) -> io::Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.finish(self.sequence)?;
        rustix::net::sendto(&self.socket, &bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        Ok(self.sequence)
    }

    fn collect(&mut self, sequence: u32, mut take: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let (length, _) = match rustix::net::recv(&self.socket, buffer.as_mut_slice(), RecvFlags::TRUNC) {
                Err(rustix::io::Errno::INTR) => continue,
                result => result?,
            };
            for (number, reply) in replies(&buffer[..length.min(BUFFER)]) {
                // What is left of a request that was given up.
                if number != sequence {
                    continue;
                }
                match reply {
                    Reply::Object { kind, body } => take(kind, body),
                    Reply::End(None) => return Ok(()),
                    Reply::End(Some(errno)) => return Err(io::Error::from_raw_os_error(errno)),
                }
            }
        }
    }
}

/// What is already so is no error.
pub(crate) fn or_exists(result: io::Result<()>) -> io::Result<()> {
    or(result, libc::EEXIST)
}

/// What is gone already is no error.
pub(crate) fn or_gone(result: io::Result<()>) -> io::Result<()> {
    [libc::ENODEV, libc::ENOENT, libc::ESRCH, libc::EADDRNOTAVAIL].into_iter().fold(result, or)
}

fn or(result: io::Result<()>, errno: i32) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(errno) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
pub(super) mod tests;
