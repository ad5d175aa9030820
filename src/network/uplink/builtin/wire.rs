//! Packets as they are on the device: read without trust, and written.
//!
//! Each has a `virtio_net_hdr` before it (include/uapi/linux/virtio_net.h), by
//! which checksums of TCP and UDP are left to whoever needs them, and segments
//! may be longer than the MTU. A packet that is not whole is no packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of the `virtio_net_hdr`.
pub(super) const VNET: usize = 10;

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMP6: u8 = 58;

/// Extension headers of IPv6 that are passed over: hop-by-hop, routing,
/// destination options. As many are more than any real packet has.
const PASSED_OVER: [u8; 3] = [0, 43, 60];
const MAX_EXTENSIONS: usize = 4;

/// The IP packet behind the `virtio_net_hdr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) source: IpAddr,
    pub(super) target: IpAddr,
    pub(super) protocol: u8,
    pub(super) payload: &'a [u8],
    /// From the IP header on, for the quotation in an error.
    pub(super) whole: &'a [u8],
}

impl<'a> Packet<'a> {
    /// `None` for what is none, and for fragments.
    pub(super) fn parse(frame: &'a [u8]) -> Option<Self> {
        let bytes = frame.get(VNET..)?;
        match bytes.first()? >> 4 {
            4 => Self::parse_v4(bytes),
            6 => Self::parse_v6(bytes),
            _ => None,
        }
    }

    fn parse_v4(bytes: &'a [u8]) -> Option<Self> {
        let header = usize::from(bytes.first()? & 15) * 4;
        let total = usize::from(be16(bytes, 2)?);
        if header < 20 || total < header {
            return None;
        }
        let whole = bytes.get(..total)?;
        // "More fragments", or an offset.
        if be16(whole, 6)? & 0x3fff != 0 {
            return None;
        }
        Some(Self {
            source: v4(whole, 12)?.into(),
            target: v4(whole, 16)?.into(),
            protocol: *whole.get(9)?,
            payload: whole.get(header..)?,
            whole,
        })
    }

    fn parse_v6(bytes: &'a [u8]) -> Option<Self> {
        let whole = bytes.get(..40 + usize::from(be16(bytes, 4)?))?;
        let (mut protocol, mut payload) = (*whole.get(6)?, whole.get(40..)?);
        for _ in 0..MAX_EXTENSIONS {
            if !PASSED_OVER.contains(&protocol) {
                break;
            }
            let length = 8 + usize::from(*payload.get(1)?) * 8;
            protocol = *payload.first()?;
            payload = payload.get(length..)?;
        }
        Some(Self { source: v6(whole, 8)?.into(), target: v6(whole, 24)?.into(), protocol, payload, whole })
    }
}

/// Flags of a segment.
pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const PSH: u8 = 8;
pub(super) const ACK: u8 = 16;

/// RFC 9293, 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    pub(super) source: u16,
    pub(super) target: u16,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    options: &'a [u8],
    pub(super) data: &'a [u8],
}

impl<'a> Segment<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = usize::from(bytes.get(12)? >> 4) * 4;
        if header < 20 {
            return None;
        }
        Some(Self {
            source: be16(bytes, 0)?,
            target: be16(bytes, 2)?,
            seq: be32(bytes, 4)?,
            ack: be32(bytes, 8)?,
            flags: *bytes.get(13)?,
            window: be16(bytes, 14)?,
            options: bytes.get(20..header)?,
            data: bytes.get(header..)?,
        })
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The largest segment that the peer takes, where it says so.
    pub(super) fn mss(&self) -> Option<u16> {
        be16(self.option(2)?, 0)
    }

    /// By how many bits its windows are shifted: RFC 7323, at most 14.
    pub(super) fn window_scale(&self) -> Option<u8> {
        self.option(3)?.first().map(|scale| (*scale).min(14))
    }

    fn option(&self, wanted: u8) -> Option<&'a [u8]> {
        let mut rest = self.options;
        loop {
            match *rest.first()? {
                0 => return None,
                1 => rest = rest.get(1..)?,
                kind => {
                    let length = usize::from(*rest.get(1)?);
                    let body = rest.get(2..length)?;
                    if kind == wanted {
                        return Some(body);
                    }
                    rest = rest.get(length..)?;
                }
            }
        }
    }
}

/// RFC 768: ports and data.
pub(super) fn datagram(bytes: &[u8]) -> Option<(u16, u16, &[u8])> {
    let length = usize::from(be16(bytes, 4)?);
    Some((be16(bytes, 0)?, be16(bytes, 2)?, bytes.get(8..length)?))
}

/// The headers of one packet that is written: what comes before its data.
#[derive(Debug)]
pub(super) struct Head {
    bytes: [u8; 96],
    length: usize,
}

impl Head {
    /// For a packet with so many bytes behind the IP header. `checksum` is where
    /// in them the checksum of TCP or UDP stands, which whoever needs it makes.
    pub(super) fn new(
        source: IpAddr,
        target: IpAddr,
        protocol: u8,
        length: usize,
        checksum: Option<usize>,
    ) -> Self {
        let mut head = Self { bytes: [0; 96], length: VNET };
        let start = match (source, target) {
            (IpAddr::V4(source), IpAddr::V4(target)) => head.ipv4(source, target, protocol, length),
            (source, target) => head.ipv6(mapped(source), mapped(target), protocol, length),
        };
        if let Some(checksum) = checksum {
            // VIRTIO_NET_HDR_F_NEEDS_CSUM; the numbers are in the machine's order.
            head.bytes[0] = 1;
            head.bytes[6..8].copy_from_slice(&(start as u16).to_ne_bytes());
            head.bytes[8..10].copy_from_slice(&(checksum as u16).to_ne_bytes());
        }
        head
    }

    /// A TCP header of `20 + options` bytes with `data` bytes behind it, cut into
    /// pieces of `mss` by whoever needs it.
    pub(super) fn segment(
        from: (IpAddr, u16),
        to: (IpAddr, u16),
        options: &[u8],
        data: usize,
        mss: usize,
    ) -> Self {
        let length = 20 + options.len() + data;
        let mut head = Self::new(from.0, to.0, TCP, length, Some(16));
        if data > mss {
            // VIRTIO_NET_HDR_GSO_TCPV4, _TCPV6.
            head.bytes[1] = if from.0.is_ipv4() { 1 } else { 4 };
            let headers = head.length - VNET + 20 + options.len();
            head.bytes[2..4].copy_from_slice(&(headers as u16).to_ne_bytes());
            head.bytes[4..6].copy_from_slice(&(mss as u16).to_ne_bytes());
        }
        let pseudo = pseudo_sum(from.0, to.0, TCP, length);
        head.put(&from.1.to_be_bytes());
        head.put(&to.1.to_be_bytes());
        head.put(&[0; 8]);
        head.put(&[(((20 + options.len()) / 4) << 4) as u8, 0, 0, 0]);
        head.put(&fold(pseudo).to_be_bytes());
        head.put(&[0, 0]);
        head.put(options);
        head
    }

    /// Fills in what changes of a segment.
    pub(super) fn with(mut self, seq: u32, ack: u32, flags: u8, window: u16, options: usize) -> Self {
        let at = self.length - 20 - options;
        self.bytes[at + 4..at + 8].copy_from_slice(&seq.to_be_bytes());
        self.bytes[at + 8..at + 12].copy_from_slice(&ack.to_be_bytes());
        self.bytes[at + 13] = flags;
        self.bytes[at + 14..at + 16].copy_from_slice(&window.to_be_bytes());
        self
    }

    pub(super) fn datagram(from: (IpAddr, u16), to: (IpAddr, u16), data: usize) -> Self {
        let length = 8 + data;
        let mut head = Self::new(from.0, to.0, UDP, length, Some(6));
        let pseudo = pseudo_sum(from.0, to.0, UDP, length);
        head.put(&from.1.to_be_bytes());
        head.put(&to.1.to_be_bytes());
        head.put(&(length as u16).to_be_bytes());
        head.put(&fold(pseudo).to_be_bytes());
        head
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn ipv4(&mut self, source: Ipv4Addr, target: Ipv4Addr, protocol: u8, length: usize) -> usize {
        let at = self.length;
        self.put(&[0x45, 0]);
        self.put(&((20 + length) as u16).to_be_bytes());
        // No identification, "don't fragment", 64 hops.
        self.put(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
        self.put(&source.octets());
        self.put(&target.octets());
        let sum = checksum(&[&self.bytes[at..self.length]], 0);
        self.bytes[at + 10..at + 12].copy_from_slice(&sum.to_be_bytes());
        20
    }

    fn ipv6(&mut self, source: Ipv6Addr, target: Ipv6Addr, protocol: u8, length: usize) -> usize {
        self.put(&[0x60, 0, 0, 0]);
        self.put(&(length as u16).to_be_bytes());
        self.put(&[protocol, 64]);
        self.put(&source.octets());
        self.put(&target.octets());
        40
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// RFC 1071 over the pieces, each but the last of even length.
pub(super) fn checksum(pieces: &[&[u8]], start: u64) -> u16 {
    let mut sum = start;
    for piece in pieces {
        let (words, rest) = piece.as_chunks::<2>();
        sum += words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum::<u64>();
        if let [last] = rest {
            sum += u64::from(*last) << 8;
        }
    }
    !fold(sum)
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Of the pseudo header: RFC 9293, 3.1, and RFC 8200, 8.1.
pub(super) fn pseudo_sum(source: IpAddr, target: IpAddr, protocol: u8, length: usize) -> u64 {
    let of = |address: IpAddr| match address {
        IpAddr::V4(address) => u64::from(!checksum(&[&address.octets()], 0)),
        IpAddr::V6(address) => u64::from(!checksum(&[&address.octets()], 0)),
    };
    of(source) + of(target) + u64::from(protocol) + length as u64
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn v4(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?))
}

fn v6(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::new(10, 0, 2, 100)), 4000);
    const OTHER: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 80);
    const GUEST6: (IpAddr, u16) = (IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)), 4000);
    const OTHER6: (IpAddr, u16) = (IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7)), 80);

    #[test]
    fn what_is_written_is_read() {
        for (from, to) in [(OTHER, GUEST), (OTHER6, GUEST6)] {
            let options = [2, 4, 0xff, 0xc8, 1, 3, 3, 7];
            let head = Head::segment(from, to, &options, 3, 1460).with(7, 9, SYN | ACK, 512, options.len());
            let frame = [head.as_slice(), b"abc"].concat();
            let packet = Packet::parse(&frame).expect("a packet");
            assert_eq!((packet.source, packet.target, packet.protocol), (from.0, to.0, TCP));
            let segment = Segment::parse(packet.payload).expect("a segment");
            assert_eq!((segment.source, segment.target), (from.1, to.1));
            assert_eq!((segment.seq, segment.ack, segment.window), (7, 9, 512));
            assert!(segment.has(SYN) && segment.has(ACK) && !segment.has(RST));
            assert_eq!((segment.mss(), segment.window_scale()), (Some(0xffc8), Some(7)));
            assert_eq!(segment.data, b"abc");
            let head = Head::datagram(from, to, 5);
            let frame = [head.as_slice(), b"hello"].concat();
            let packet = Packet::parse(&frame).expect("a packet");
            assert_eq!(datagram(packet.payload), Some((80, 4000, &b"hello"[..])));
        }
    }

    #[test]
    fn long_segments_say_how_they_may_be_cut() {
        let frame = Head::segment(OTHER, GUEST, &[], 30_000, 1460);
        assert_eq!(frame.as_slice()[1], 1);
        assert_eq!(u16::from_ne_bytes([frame.as_slice()[4], frame.as_slice()[5]]), 1460);
    }

    #[test]
    fn the_checksum_of_an_ipv4_header() {
        let head = Head::new(OTHER.0, GUEST.0, UDP, 8, None);
        assert_eq!(checksum(&[&head.as_slice()[VNET..]], 0), 0);
    }

    #[test]
    fn what_is_not_whole_is_no_packet() {
        let whole = [Head::datagram(OTHER, GUEST, 5).as_slice(), b"hello"].concat();
        for length in 0..whole.len() {
            let packet = Packet::parse(&whole[..length]);
            assert!(packet.is_none(), "{length}");
        }
        let mut fragment = whole.clone();
        fragment[VNET + 6] = 0x20;
        assert!(Packet::parse(&fragment).is_none());
        let mut short = whole;
        short[VNET] = 0x44;
        assert!(Packet::parse(&short).is_none());
        assert!(datagram(&[0, 1, 0, 2, 0, 7, 0, 0]).is_none() && datagram(&[0; 7]).is_none());
    }
}
