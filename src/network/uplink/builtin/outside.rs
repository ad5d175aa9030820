//! Sockets of the host's, by which connections and datagrams leave.

use crate::types::uplink::SlirpOptions;
use rustix::io::{Errno, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

/// A socket that does not wait; bound to the address or interface that the
/// options name, unless it goes to the host itself.
pub(super) fn socket(kind: SocketType, target: IpAddr, options: &SlirpOptions) -> Result<OwnedFd> {
    let (family, source) = match target {
        IpAddr::V4(_) => (AddressFamily::INET, &options.outbound),
        IpAddr::V6(_) => (AddressFamily::INET6, &options.outbound6),
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    match source {
        Some(source) if !target.is_loopback() => match source.parse::<IpAddr>() {
            Ok(address) => rustix::net::bind(&socket, &SocketAddr::new(address, 0))?,
            Err(_) => bind_to_interface(&socket, source)?,
        },
        _ => {}
    }
    Ok(socket)
}

/// One that receives from anywhere: bound to any address, where none was given.
pub(super) fn datagram_socket(target: IpAddr, options: &SlirpOptions) -> Result<OwnedFd> {
    let socket = socket(SocketType::DGRAM, target, options)?;
    let bound =
        SocketAddr::try_from(rustix::net::getsockname(&socket)?).is_ok_and(|address| address.port() != 0);
    if !bound {
        let any: IpAddr =
            if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        rustix::net::bind(&socket, &SocketAddr::new(any, 0))?;
    }
    Ok(socket)
}

/// Any user may, since Linux 5.7.
fn bind_to_interface(socket: &OwnedFd, name: &str) -> Result<()> {
    nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::BindToDevice, &name.into())
        .map_err(|error| Errno::from_raw_os_error(error as i32))
}

/// Begins to connect. A socket that is told apart from others by its ends only:
/// small pieces leave at once, as the container's kernel has gathered them.
pub(super) fn connect(target: SocketAddr, options: &SlirpOptions) -> Result<OwnedFd> {
    let socket = socket(SocketType::STREAM, target.ip(), options)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match rustix::net::connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}
