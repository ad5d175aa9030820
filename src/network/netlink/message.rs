//! The bytes of netlink(7): headers of 16 bytes, a fixed part, attributes that
//! are padded to four bytes, all in the machine's byte order.

use std::io;

const HEADER: usize = 16;
const ATTRIBUTE: usize = 4;

/// A request of ours stays far below the 16 bits of an attribute's length; what
/// does not is refused, and never cut short (as in CVE-2021-43784).
const MAX_REQUEST: usize = 16 << 10;

pub(super) const REQUEST: u16 = 0x1;
pub(super) const ACK: u16 = 0x4;
pub(super) const REPLACE: u16 = 0x100;
pub(super) const EXCLUSIVE: u16 = 0x200;
pub(super) const CREATE: u16 = 0x400;
pub(super) const DUMP: u16 = 0x300;

const TYPE_ERROR: u16 = 2;
const TYPE_DONE: u16 = 3;

/// A request that is being written.
#[derive(Debug)]
pub(super) struct Request {
    bytes: Vec<u8>,
}

/// Where an attribute with attributes in it began.
#[must_use]
pub(super) struct Nested(usize);

impl Request {
    /// `flags` beside REQUEST; a change of something asks for an ACK, too.
    pub(super) fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        let ack = if flags & DUMP == DUMP { 0 } else { ACK };
        bytes.extend((REQUEST | flags | ack).to_ne_bytes());
        bytes.extend([0; 8]);
        Self { bytes }
    }

    /// The fixed part after the header.
    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self.pad();
        self
    }

    pub(super) fn put(&mut self, kind: u16, value: &[u8]) {
        // Too long: `finish` sees the whole and refuses it.
        self.bytes.extend(((ATTRIBUTE + value.len()) as u16).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.pad();
    }

    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.put(kind, value);
        self
    }

    pub(super) fn with_u32(self, kind: u16, value: u32) -> Self {
        self.with(kind, &value.to_ne_bytes())
    }

    pub(super) fn with_text(mut self, kind: u16, text: &str) -> Self {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        self.put(kind, &value);
        self
    }

    pub(super) fn open(&mut self, kind: u16) -> Nested {
        let at = self.bytes.len();
        self.put(kind, &[]);
        Nested(at)
    }

    pub(super) fn close(&mut self, nested: Nested) {
        let length = (self.bytes.len() - nested.0) as u16;
        self.bytes[nested.0..nested.0 + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    pub(super) fn finish(mut self, sequence: u32) -> io::Result<Vec<u8>> {
        if self.bytes.len() > MAX_REQUEST {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        Ok(self.bytes)
    }
}

/// One message of the kernel's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply<'a> {
    Object {
        kind: u16,
        body: &'a [u8],
    },
    /// The request is done, or was refused with this errno.
    End(Option<i32>),
}

/// The messages in a datagram with their sequence numbers; what is cut short
/// ends them.
pub(super) fn replies(mut bytes: &[u8]) -> impl Iterator<Item = (u32, Reply<'_>)> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        if length < HEADER || length > bytes.len() {
            return None;
        }
        let kind = u16_at(bytes, 4)?;
        let sequence = u32_at(bytes, 8)?;
        let body = &bytes[HEADER..length];
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
        let reply = match kind {
            // The kernel's errno is negative, 0 is its yes.
            TYPE_ERROR | TYPE_DONE => {
                let errno = u32_at(body, 0).map_or(0, u32::cast_signed);
                Reply::End((errno != 0).then(|| errno.saturating_neg()))
            }
            kind => Reply::Object { kind, body },
        };
        Some((sequence, reply))
    })
}

/// The attributes in `bytes`; what is cut short ends them.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        // The two high bits say that it is nested or in network order.
        let kind = u16_at(bytes, 2)? & 0x3fff;
        if length < ATTRIBUTE || length > bytes.len() {
            return None;
        }
        let value = &bytes[ATTRIBUTE..length];
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
        Some((kind, value))
    })
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_padded_and_knows_its_length() {
        let mut request = Request::new(16, CREATE).raw(&[1; 16]).with_text(3, "eth0");
        let nested = request.open(18);
        request.put(1, b"veth");
        request.close(nested);
        let bytes = request.finish(7).expect("short");
        assert_eq!(bytes.len(), 16 + 16 + 12 + 4 + 8);
        assert_eq!(u32_at(&bytes, 0), Some(bytes.len() as u32));
        assert_eq!(u32_at(&bytes, 8), Some(7));
        let read: Vec<_> = attributes(&bytes[32..]).collect();
        assert_eq!(read[0], (3, &b"eth0\0"[..]));
        assert_eq!(attributes(read[1].1).next(), Some((1, &b"veth"[..])));
        assert!(Request::new(16, 0).with(1, &[0; MAX_REQUEST]).finish(1).is_err());
    }

    #[test]
    fn attributes_are_aligned() {
        let bytes = Request::new(1, 0).with(22, &[17]).finish(7).expect("short");
        assert_eq!(bytes.len(), 24);
        assert_eq!(bytes[..4], 24u32.to_ne_bytes());
        assert_eq!(bytes[16..18], 5u16.to_ne_bytes());
        assert_eq!(bytes[18..20], 22u16.to_ne_bytes());
        assert_eq!(bytes[20..24], [17, 0, 0, 0]);
    }

    #[test]
    fn replies_that_are_cut_short_end_the_reading() {
        let mut bytes = Request::new(TYPE_ERROR, 0).raw(&(-17i32).to_ne_bytes()).finish(3).expect("short");
        assert_eq!(replies(&bytes).next(), Some((3, Reply::End(Some(17)))));
        for length in 0..bytes.len() {
            assert_eq!(replies(&bytes[..length]).next(), None);
        }
        // Lengths that lie: below the header, beyond the end.
        for length in [0u32, 3, 15, 21, u32::MAX] {
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(replies(&bytes).next(), None);
        }
        for wrong in [&[0, 0, 1, 0][..], &[3, 0, 1, 0], &[9, 0, 1, 0, 1], &[4], &[]] {
            assert_eq!(attributes(wrong).next(), None);
        }
    }
}
