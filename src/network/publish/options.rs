//! Options of sockets that rustix does not know, by their meaning.

use crate::sys::inet::set_option;
use crate::types::port::Protocol;
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Bytes of a UDP socket's buffer, as far as `net.core.rmem_max` allows: what
/// arrives while this process does not run.
const UDP_BUFFER: usize = 8 << 20;

/// What connections inherit from the socket that takes them, and what a UDP
/// socket is to tell of each datagram.
pub(super) fn prepare_listener(socket: &OwnedFd, protocol: Protocol, v4: bool) -> Result<(), Errno> {
    match protocol {
        Protocol::Tcp => {
            // What one side sends at once goes on at once.
            rustix::net::sockopt::set_tcp_nodelay(socket, true)?;
            // A client that was unplugged is found out.
            rustix::net::sockopt::set_socket_keepalive(socket, true)
        }
        Protocol::Udp => {
            rustix::net::sockopt::set_socket_recv_buffer_size(socket, UDP_BUFFER)?;
            let (level, name) = if v4 {
                (libc::IPPROTO_IP, libc::IP_PKTINFO)
            } else {
                (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
            };
            set_option(socket.as_fd(), level, name, 1)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
        }
    }
}

/// Lets a socket be bound to an address that is not of its network namespace:
/// needs CAP_NET_ADMIN over that.
pub(super) fn set_transparent(socket: &OwnedFd, v4: bool) -> io::Result<()> {
    let (level, name) = if v4 {
        (libc::IPPROTO_IP, libc::IP_TRANSPARENT)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT)
    };
    set_option(socket.as_fd(), level, name, 1)
}

/// Marks what a socket sends: SO_MARK of socket(7).
pub(super) fn set_mark(socket: &OwnedFd, mark: u32) -> io::Result<()> {
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_MARK, mark.cast_signed())
}
