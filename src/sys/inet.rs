//! Internet sockets, where rustix has no wrapper.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

/// setsockopt(2) of an option whose value is an int.
pub(crate) fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and the length describe a live int, which the kernel reads.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Datagrams that are moved with one call.
pub(crate) const BATCH: usize = 64;
/// Bytes of the longest one.
const LONGEST: usize = 1 << 16;
/// Bytes for a control message with an `in6_pktinfo` and one with a segment's
/// length: cmsg(3).
const CONTROL: usize = 64;
/// Bytes of all datagrams that go through the kernel as one (udp(7), UDP_SEGMENT):
/// what a datagram could have.
const TOGETHER: usize = 65_000;

/// Datagrams as they were received: recvmmsg(2), sendmmsg(2).
pub(crate) struct Batch {
    bytes: Vec<u8>,
    peers: Vec<libc::sockaddr_storage>,
    controls: Vec<[u64; CONTROL / 8]>,
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    /// What is sent: each with one datagram, or several of one length.
    runs: Vec<Run>,
    sent: Vec<libc::mmsghdr>,
}

/// Datagrams that are sent together.
#[derive(Clone, Copy)]
struct Run {
    count: usize,
    control: [u64; CONTROL / 8],
}

// `headers`, `sent` and `vectors` hold pointers into the other fields only during
// a call.
impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").finish_non_exhaustive()
    }
}

impl Batch {
    pub(crate) fn new() -> Self {
        // SAFETY: the three are plain data, for which all zeroes is a value.
        let (peer, header, vector) = unsafe { std::mem::zeroed() };
        Self {
            bytes: vec![0; BATCH * LONGEST],
            peers: vec![peer; BATCH],
            controls: vec![[0; CONTROL / 8]; BATCH],
            headers: vec![header; BATCH],
            vectors: vec![vector; BATCH],
            runs: Vec::with_capacity(BATCH),
            sent: Vec::with_capacity(BATCH),
        }
    }

    /// Receives what is there; how many.
    ///
    /// # Errors
    /// EAGAIN where there is nothing; ECONNREFUSED and others that an earlier
    /// datagram has met.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        for number in 0..BATCH {
            self.vectors[number] = libc::iovec {
                iov_base: self.bytes[number * LONGEST..].as_mut_ptr().cast(),
                iov_len: LONGEST,
            };
            let header = &mut self.headers[number].msg_hdr;
            header.msg_name = (&raw mut self.peers[number]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &raw mut self.vectors[number];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut self.controls[number]).cast();
            header.msg_controllen = CONTROL as _;
            header.msg_flags = 0;
        }
        // SAFETY: each header points to live memory of the lengths given, all of
        // it in fields of `self`, which is borrowed until the call returns.
        let result = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH as _,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as usize) }
    }

    /// Puts datagrams here as if they had been received: [`BATCH`] at most.
    pub(crate) fn load<'a>(&mut self, datagrams: impl Iterator<Item = &'a [u8]>) {
        for (number, datagram) in datagrams.take(BATCH).enumerate() {
            let length = datagram.len().min(LONGEST);
            self.bytes[number * LONGEST..][..length].copy_from_slice(&datagram[..length]);
            self.headers[number].msg_len = length as u32;
        }
    }

    /// A datagram that was received.
    pub(crate) fn bytes(&self, number: usize) -> &[u8] {
        &self.bytes[number * LONGEST..][..self.length(number)]
    }

    /// Who has sent a datagram that was received.
    pub(crate) fn peer(&self, number: usize) -> Option<SocketAddr> {
        decode(&self.peers[number])
    }

    /// The address that it was sent to: IP_PKTINFO of ip(7), IPV6_PKTINFO.
    pub(crate) fn local(&self, number: usize) -> Option<IpAddr> {
        let header = &self.headers[number].msg_hdr;
        // SAFETY: the header is as the kernel has filled it in, and its control
        // memory is `controls[number]`, which lives; the kernel aligns messages.
        unsafe {
            let mut message = libc::CMSG_FIRSTHDR(header);
            while !message.is_null() {
                let data = libc::CMSG_DATA(message);
                match ((*message).cmsg_level, (*message).cmsg_type) {
                    (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                        let info: libc::in_pktinfo = data.cast::<libc::in_pktinfo>().read_unaligned();
                        // `ipi_spec_dst`: an address that replies can have, also
                        // where the datagram was sent to all.
                        return Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into());
                    }
                    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                        let info: libc::in6_pktinfo = data.cast::<libc::in6_pktinfo>().read_unaligned();
                        return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                    }
                    _ => message = libc::CMSG_NXTHDR(header, message),
                }
            }
        }
        None
    }

    /// Sends those of `which` on: to the peer of a connected socket, or to the
    /// address given, as from the local address given. How many were taken.
    /// Several of one length go through the kernel as one, which costs as much as
    /// one of them did; what receives them sees them as they were.
    pub(crate) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        which: Range<usize>,
        to: Option<(SocketAddr, IpAddr)>,
    ) -> io::Result<usize> {
        match self.send_runs(socket, which.clone(), to, true) {
            // A way that takes no segments, or none of this length (its MTU).
            Err(error)
                if self.runs.first().is_some_and(|run| run.count > 1)
                    && error.raw_os_error() != Some(libc::ECONNREFUSED) =>
            {
                self.send_runs(socket, which, to, false)
            }
            result => result,
        }
    }

    fn send_runs(
        &mut self,
        socket: BorrowedFd<'_>,
        which: Range<usize>,
        to: Option<(SocketAddr, IpAddr)>,
        together: bool,
    ) -> io::Result<usize> {
        // SAFETY: plain data, for which all zeroes is a value.
        let mut peer: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let peer_length = to.map_or(0, |(address, _)| encode(address, &mut peer));
        self.runs.clear();
        self.sent.clear();
        let mut start = which.start;
        while start < which.end {
            let length = self.length(start);
            let more = if together && length > 0 { (TOGETHER / length).saturating_sub(1) } else { 0 };
            let rest = (start + 1..which.end).take(more);
            let count = 1 + rest.take_while(|at| self.length(*at) == length).count();
            self.runs.push(Run { count, control: [0; CONTROL / 8] });
            start += count;
        }
        let mut start = which.start;
        for run in &mut self.runs {
            for number in start..start + run.count {
                self.vectors[number] = libc::iovec {
                    iov_base: self.bytes[number * LONGEST..].as_mut_ptr().cast(),
                    iov_len: (self.headers[number].msg_len as usize).min(LONGEST),
                };
            }
            let mut used = to.map_or(0, |(_, local)| encode_local(local, &mut run.control));
            if run.count > 1 {
                used += encode_segment(self.vectors[start].iov_len, &mut run.control[used / 8..]);
            }
            // SAFETY: plain data, for which all zeroes is a value.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            if peer_length > 0 {
                header.msg_hdr.msg_name = (&raw mut peer).cast();
                header.msg_hdr.msg_namelen = peer_length;
            }
            header.msg_hdr.msg_iov = &raw mut self.vectors[start];
            header.msg_hdr.msg_iovlen = run.count as _;
            if used > 0 {
                header.msg_hdr.msg_control = (&raw mut run.control).cast();
                header.msg_hdr.msg_controllen = used as _;
            }
            self.sent.push(header);
            start += run.count;
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: as for receiving; `peer` lives until it returns, and neither
        // `runs` nor `vectors` is changed before. The kernel writes `msg_len` alone.
        let result = unsafe {
            libc::sendmmsg(socket.as_raw_fd(), self.sent.as_mut_ptr(), self.sent.len() as _, flags as _)
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(self.runs[..result as usize].iter().map(|run| run.count).sum())
    }

    /// Bytes of a datagram that was received.
    fn length(&self, number: usize) -> usize {
        (self.headers[number].msg_len as usize).min(LONGEST)
    }
}

fn decode(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    // SAFETY: a `sockaddr_storage` has room and alignment for either, and the
    // family says which of them the kernel has written.
    unsafe {
        match i32::from(storage.ss_family) {
            libc::AF_INET => {
                let address = (&raw const *storage).cast::<libc::sockaddr_in>().read();
                let ip = Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddr::new(ip.into(), u16::from_be(address.sin_port)))
            }
            libc::AF_INET6 => {
                let address = (&raw const *storage).cast::<libc::sockaddr_in6>().read();
                let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
                let port = u16::from_be(address.sin6_port);
                Some(SocketAddrV6::new(ip, port, 0, address.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

fn encode(address: SocketAddr, storage: &mut libc::sockaddr_storage) -> libc::socklen_t {
    // SAFETY: as in `decode`; all zeroes is a value of either.
    unsafe {
        match address {
            SocketAddr::V4(address) => {
                let mut raw: libc::sockaddr_in = std::mem::zeroed();
                raw.sin_family = libc::AF_INET as _;
                raw.sin_port = address.port().to_be();
                raw.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
                (&raw mut *storage).cast::<libc::sockaddr_in>().write(raw);
                size_of::<libc::sockaddr_in>() as libc::socklen_t
            }
            SocketAddr::V6(address) => {
                let mut raw: libc::sockaddr_in6 = std::mem::zeroed();
                raw.sin6_family = libc::AF_INET6 as _;
                raw.sin6_port = address.port().to_be();
                raw.sin6_addr.s6_addr = address.ip().octets();
                raw.sin6_scope_id = address.scope_id();
                (&raw mut *storage).cast::<libc::sockaddr_in6>().write(raw);
                size_of::<libc::sockaddr_in6>() as libc::socklen_t
            }
        }
    }
}

/// The control message that chooses the source of a datagram; its length.
fn encode_local(local: IpAddr, control: &mut [u64]) -> usize {
    match local {
        IpAddr::V4(address) => {
            let spec = libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) };
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: spec,
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            encode_control(control, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
        }
        IpAddr::V6(address) => {
            let ipi6_addr = libc::in6_addr { s6_addr: address.octets() };
            let info = libc::in6_pktinfo { ipi6_addr, ipi6_ifindex: 0 };
            encode_control(control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
        }
    }
}

/// The control message that makes datagrams of `length` bytes each of what is
/// sent (UDP_SEGMENT of udp(7)); its length.
fn encode_segment(length: usize, control: &mut [u64]) -> usize {
    encode_control(control, libc::SOL_UDP, libc::UDP_SEGMENT, length as u16)
}

/// Writes a control message to the beginning of `control`: cmsg(3); its length.
///
/// # Panics
/// Where there is no room for it.
fn encode_control<T: Copy>(control: &mut [u64], level: i32, kind: i32, value: T) -> usize {
    let size = size_of::<T>() as u32;
    // SAFETY: both only compute.
    let (length, space) = unsafe { (libc::CMSG_LEN(size), libc::CMSG_SPACE(size) as usize) };
    assert!(space <= size_of_val(control), "no room for a control message");
    // SAFETY: `control` is aligned for a cmsghdr and has room for the message, as
    // was just looked at; the value is written at the place that CMSG_DATA gives.
    unsafe {
        let message = control.as_mut_ptr().cast::<libc::cmsghdr>();
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = length as _;
        libc::CMSG_DATA(message).cast::<T>().write_unaligned(value);
    }
    space
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    #[test]
    fn datagrams_are_received_and_sent_on_with_their_addresses() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(here) = UdpSocket::bind(any) else { continue };
            let there = UdpSocket::bind(any).expect("a socket");
            let v4 = here.local_addr().expect("an address").is_ipv4();
            let (level, name) = if v4 {
                (libc::IPPROTO_IP, libc::IP_PKTINFO)
            } else {
                (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
            };
            set_option(here.as_fd(), level, name, 1).expect("set");
            let address = here.local_addr().expect("an address");
            for text in ["one", "two", ""] {
                there.send_to(text.as_bytes(), address).expect("sent");
            }
            let mut batch = Batch::new();
            assert_eq!(batch.receive(here.as_fd()).expect("received"), 3);
            assert_eq!(batch.peer(1), there.local_addr().ok());
            assert_eq!(batch.local(1), Some(address.ip()));
            let back = (there.local_addr().expect("an address"), address.ip());
            assert_eq!(batch.send(here.as_fd(), 0..3, Some(back)).expect("sent"), 3);
            let mut buffer = [0; 8];
            for text in ["one", "two", ""] {
                let (length, from) = there.recv_from(&mut buffer).expect("received");
                assert_eq!((&buffer[..length], from), (text.as_bytes(), address));
            }
            let nothing = batch.receive(here.as_fd()).expect_err("nothing is left");
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn many_of_one_length_arrive_as_they_were() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(here) = UdpSocket::bind(any) else { continue };
            let there = UdpSocket::bind(any).expect("a socket");
            let address = here.local_addr().expect("an address");
            let lengths = [1400, 1400, 1400, 700, 0, 0, 30_000, 30_000, 30_000, 1, 2, 2, 65_000];
            let text = |at: usize| vec![at as u8; lengths[at]];
            let (mut batch, mut back) = (Batch::new(), vec![0; LONGEST]);
            for at in 0..lengths.len() {
                there.send_to(&text(at), address).expect("sent");
                assert_eq!(batch.receive(here.as_fd()).expect("received"), 1);
                assert_eq!(batch.bytes(0), text(at));
            }
            // All into one batch, as if they had come together.
            let all: Vec<Vec<u8>> = (0..lengths.len()).map(text).collect();
            batch.load(all.iter().map(Vec::as_slice));
            let to = Some((there.local_addr().expect("an address"), address.ip()));
            let mut at = 0;
            while at < lengths.len() {
                let sent = batch.send(here.as_fd(), at..lengths.len().min(at + 4), to).expect("sent");
                for number in at..at + sent {
                    let (length, from) = there.recv_from(&mut back).expect("received");
                    assert_eq!((&back[..length], from), (&text(number)[..], address), "{number}");
                }
                at += sent;
            }
            assert_eq!(at, lengths.len());
        }
    }
}
