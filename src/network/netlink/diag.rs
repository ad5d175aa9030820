//! sock_diag(7): what the kernel knows of a socket that is another's.

use super::message::{Reply, attributes, replies, u32_at};
use rustix::io::Errno;
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

/// SOCK_DIAG_BY_FAMILY of include/uapi/linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
/// INET_DIAG_SKMEMINFO of include/uapi/linux/inet_diag.h: an attribute, and what
/// asks for it. Its value is SK_MEMINFO_RMEM_ALLOC, SK_MEMINFO_RCVBUF, and more.
const MEMORY: u16 = 7;
/// `struct inet_diag_msg`, which attributes follow.
const MESSAGE: usize = 72;

/// Asks about the sockets of the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Diagnosis {
    socket: OwnedFd,
    sequence: u32,
}

/// What a socket has received and nobody has read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Bytes, as the kernel counts them: with what it needs itself.
    pub(crate) used: usize,
    /// Bytes that there is room for, SO_RCVBUF of socket(7).
    pub(crate) limit: usize,
}

impl Diagnosis {
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let kind = SocketType::DGRAM;
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, kind, flags, Some(SOCK_DIAG))?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Of the UDP socket that gets what `from` sends to `to`.
    ///
    /// # Errors
    /// ENOENT where there is none; others where the kernel does not tell.
    pub(crate) fn datagrams(&mut self, from: SocketAddr, to: SocketAddr) -> io::Result<Received> {
        self.sequence = self.sequence.wrapping_add(1);
        rustix::net::send(&self.socket, &question(self.sequence, from, to), SendFlags::empty())?;
        // The answer is there when the call returns.
        let mut buffer = [0; 512];
        loop {
            let (_, length) = match rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::TRUNC) {
                Err(Errno::INTR) => continue,
                result => result?,
            };
            let own = replies(&buffer[..length.min(512)]).find(|(number, _)| *number == self.sequence);
            match own {
                Some((_, Reply::Object { body, .. })) => {
                    return received(body).ok_or_else(|| io::ErrorKind::InvalidData.into());
                }
                Some((_, Reply::End(errno))) => {
                    return Err(io::Error::from_raw_os_error(errno.unwrap_or(libc::ENOENT)));
                }
                None => {}
            }
        }
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`. Of one socket, which is found
/// as that of a packet from `from` to `to` would be.
fn question(sequence: u32, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut bytes = Vec::with_capacity(72);
    bytes.extend(72u32.to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    // NLM_F_REQUEST.
    bytes.extend(1u16.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend([family as u8, libc::IPPROTO_UDP as u8, 1 << (MEMORY - 1), 0]);
    // Whatever their state.
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes.extend(address(from.ip()));
    bytes.extend(address(to.ip()));
    // Any interface, any cookie.
    bytes.extend([0; 4]);
    bytes.extend([0xff; 8]);
    bytes
}

fn address(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            bytes
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn received(body: &[u8]) -> Option<Received> {
    let (_, memory) = attributes(body.get(MESSAGE..)?).find(|(kind, _)| *kind == MEMORY)?;
    Some(Received { used: u32_at(memory, 0)? as usize, limit: u32_at(memory, 4)? as usize })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn it_is_told_how_full_the_receiver_of_a_datagram_is() {
        let mut diagnosis = Diagnosis::open().expect("a socket");
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(receiver) = UdpSocket::bind(any) else { continue };
            let sender = UdpSocket::bind(any).expect("a socket");
            let (from, to) = (sender.local_addr().unwrap(), receiver.local_addr().unwrap());
            let Ok(empty) = diagnosis.datagrams(from, to) else {
                eprintln!("skipped: a kernel without CONFIG_INET_UDP_DIAG");
                return;
            };
            assert!(empty.used == 0 && empty.limit > 0, "{empty:?}");
            sender.send_to(&[1; 1000], to).expect("sent");
            let one = diagnosis.datagrams(from, to).expect("told");
            assert!(one.used > 1000 && one.limit == empty.limit, "{one:?}");
            receiver.recv_from(&mut [0; 1000]).expect("received");
            assert_eq!(diagnosis.datagrams(from, to).expect("told"), empty);
            drop(receiver);
            let error = diagnosis.datagrams(from, to).expect_err("nobody");
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        }
    }
}
