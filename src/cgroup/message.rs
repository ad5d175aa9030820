//! Messages of D-Bus as bytes: D-Bus Specification, "Message Protocol" and
//! "Marshaling". What comes is checked, so that nonsense ends in `None`.

use crate::error::Error;
use std::io::Read;

/// Bytes of one message that is worth reading.
const MAX: usize = 1 << 20;
/// Bytes of a message before its header's fields.
const HEAD: usize = 16;
const OWN_ORDER: u8 = if cfg!(target_endian = "little") { b'l' } else { b'B' };

const METHOD_CALL: u8 = 1;
pub(super) const METHOD_RETURN: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const SIGNAL: u8 = 4;

/// Bytes of a message's body, in the machine's order.
#[derive(Default)]
pub(super) struct Body(Vec<u8>);

impl Body {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    pub(super) fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_ne_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.align(8);
        self.0.extend(value.to_ne_bytes());
    }

    pub(super) fn string(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    pub(super) fn signature(&mut self, text: &str) {
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// An array whose items are aligned to `alignment`; `fill` writes them.
    pub(super) fn array(&mut self, alignment: usize, fill: impl FnOnce(&mut Self)) {
        self.u32(0);
        let length = self.0.len() - 4;
        self.align(alignment);
        let start = self.0.len();
        fill(self);
        let bytes = (self.0.len() - start) as u32;
        self.0[length..length + 4].copy_from_slice(&bytes.to_ne_bytes());
    }

    /// One item of an array of structures.
    pub(super) fn structure(&mut self, fill: impl FnOnce(&mut Self)) {
        self.align(8);
        fill(self);
    }
}

/// Whose method it is.
#[derive(Clone, Copy)]
pub(super) struct Object {
    pub(super) destination: &'static str,
    pub(super) path: &'static str,
    pub(super) interface: &'static str,
}

/// A call of a method, with the type of what it is given.
pub(super) fn call(serial: u32, object: Object, member: &str, signature: &str, body: Body) -> Vec<u8> {
    let texts = [(1, "o", object.path), (2, "s", object.interface), (3, "s", member)];
    let mut head = head(METHOD_CALL, serial, &body, |fields| {
        for (code, kind, text) in texts.into_iter().chain([(6, "s", object.destination)]) {
            field(fields, code, kind, |value| value.string(text));
        }
        if !signature.is_empty() {
            field(fields, 8, "g", |value| value.signature(signature));
        }
    });
    head.extend(body.0);
    head
}

fn head(kind: u8, serial: u32, body: &Body, fields: impl FnOnce(&mut Body)) -> Vec<u8> {
    let mut head = Body(vec![OWN_ORDER, kind, 0, 1]);
    head.u32(body.0.len() as u32);
    head.u32(serial);
    head.array(8, fields);
    head.align(8);
    head.0
}

fn field(fields: &mut Body, code: u8, kind: &str, value: impl FnOnce(&mut Body)) {
    fields.structure(|field| {
        field.byte(code);
        field.signature(kind);
        value(field);
    });
}

/// What came.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) reply_to: u32,
    pub(super) member: String,
    pub(super) error: String,
    pub(super) signature: String,
    body: Vec<u8>,
}

impl Message {
    /// The next one of `stream`.
    ///
    /// # Errors
    /// Those of the stream; `InvalidData` for what is no message.
    pub(super) fn read(stream: &mut impl Read) -> std::io::Result<Self> {
        let bad = || std::io::Error::new(std::io::ErrorKind::InvalidData, "it does not speak D-Bus");
        let mut head = [0; HEAD];
        stream.read_exact(&mut head)?;
        let number = |at: usize| {
            head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
                as usize
        };
        let (body, fields) = (number(4), number(12));
        if head[0] != OWN_ORDER || head[3] != 1 || body > MAX || fields > MAX {
            return Err(bad());
        }
        let mut rest = vec![0; fields.next_multiple_of(8) + body];
        stream.read_exact(&mut rest)?;
        let body = rest.split_off(fields.next_multiple_of(8));
        rest.truncate(fields);
        Self::parse(head[1], &rest, body).ok_or_else(bad)
    }

    /// From its header's fields, which begin at the 16th byte and so are aligned
    /// as they are here.
    fn parse(kind: u8, fields: &[u8], body: Vec<u8>) -> Option<Self> {
        let [member, error, signature] = [const { String::new() }; 3];
        let mut message = Self { kind, reply_to: 0, member, error, signature, body };
        let mut reader = Reader { bytes: fields, at: 0 };
        while reader.at < fields.len() {
            reader.align(8);
            let code = reader.byte()?;
            match (code, reader.signature()?.as_str()) {
                (5, "u") => message.reply_to = reader.u32()?,
                (3, "s") => message.member = reader.string()?,
                (4, "s") => message.error = reader.string()?,
                (8, "g") => message.signature = reader.signature()?,
                (_, "s" | "o") => drop(reader.string()?),
                (_, "g") => drop(reader.signature()?),
                (_, "u") => drop(reader.u32()?),
                _ => return None,
            }
        }
        Some(message)
    }

    /// The first value, where it is a text or a path, or a variant of one.
    pub(super) fn text(&self) -> Option<String> {
        let mut reader = Reader { bytes: &self.body, at: 0 };
        let kind = if self.signature == "v" { reader.signature()? } else { self.signature.clone() };
        if kind.starts_with(['s', 'o']) { reader.string() } else { None }
    }

    /// What is wrong, of an error: its words, or else its name.
    pub(super) fn refusal(&self) -> Error {
        Error::failed(self.text().unwrap_or_else(|| self.error.clone()))
    }

    /// The path and the result of the job that ended, of `JobRemoved`: a number,
    /// the path, the unit, the result.
    pub(super) fn ended_job(&self) -> Option<(String, String)> {
        if self.kind != SIGNAL || self.member != "JobRemoved" || self.signature != "uoss" {
            return None;
        }
        let mut reader = Reader { bytes: &self.body, at: 0 };
        reader.u32()?;
        let job = reader.string()?;
        reader.string()?;
        Some((job, reader.string()?))
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_ne_bytes(self.take(4)?.try_into().ok()?))
    }

    fn string(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        (self.byte()? == 0).then_some(text)
    }

    fn signature(&mut self) -> Option<String> {
        let length = self.byte()? as usize;
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        (self.byte()? == 0).then_some(text)
    }
}

/// What a manager says, for tests: a message with these texts among its fields.
#[cfg(test)]
pub(super) fn said(
    kind: u8,
    texts: &[(u8, &str, &str)],
    reply_to: u32,
    signature: &str,
    body: Body,
) -> Vec<u8> {
    let mut bytes = head(kind, 9, &body, |fields| {
        for (code, kind, text) in texts {
            field(fields, *code, kind, |value| value.string(text));
        }
        field(fields, 5, "u", |value| value.u32(reply_to));
        field(fields, 8, "g", |value| value.signature(signature));
    });
    bytes.extend(body.0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_an_error() {
        let mut path = Body::default();
        path.string("/job/7");
        let good = said(METHOD_RETURN, &[], 1, "o", path);
        let read = Message::read(&mut good.as_slice()).expect("a message");
        assert_eq!((read.reply_to, read.text().as_deref()), (1, Some("/job/7")));
        for at in 0..good.len() {
            for byte in [0, 0xff] {
                let mut bad = good.clone();
                bad[at] = byte;
                // Whatever it makes of it, it ends.
                drop(Message::read(&mut bad.as_slice()).map(|message| (message.text(), message.ended_job())));
            }
            assert!(Message::read(&mut &good[..at]).is_err(), "cut at {at}");
        }
    }
}
