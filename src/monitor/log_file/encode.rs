//! Lines of output as the records of the log formats.
//!
//! `json-file` is what docker writes, byte for byte: the members `log`,
//! `stream`, `time` in this order; `<`, `>`, `&`, U+2028 and U+2029 escaped;
//! a byte that is not UTF-8 becomes `\ufffd` (the original is lost, as in
//! docker); the time is RFC 3339 in UTC without trailing zeros.
//! `k8s-file` is the CRI's: `<time> <stream> <F|P> <bytes as they are>`, the
//! time with nine digits; P where the line goes on. Source: Kubernetes,
//! design document "CRI: Log management for container stdout/stderr streams".

use super::{LineEnd, Stream};
use crate::types::container::LogDriver;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

/// Makes records; keeps what all records of one stream and time share.
#[derive(Debug)]
pub(super) struct Encoder {
    driver: LogDriver,
    /// The record up to the text.
    head: Vec<u8>,
    /// The record after the text (and the escaped newline).
    tail: Vec<u8>,
    /// Docker's member of what is said of the container, with its comma; mostly empty.
    attributes: String,
    /// `2026-11-23T22:10:22` and the second since the epoch that it stands for.
    date: (u64, String),
    since_epoch: Duration,
}

impl Encoder {
    pub(super) fn new(driver: LogDriver) -> Self {
        let date = (u64::MAX, String::new());
        let (head, tail) = (Vec::new(), Vec::new());
        Self { driver, head, tail, attributes: String::new(), date, since_epoch: Duration::ZERO }
    }

    /// Sets what all records say of the container.
    pub(super) fn describe(&mut self, attributes: &BTreeMap<String, String>) {
        let object = serde_json::json!(attributes).to_string();
        self.attributes = if attributes.is_empty() { String::new() } else { format!(",\"attrs\":{object}") };
    }

    /// Sets the stream and time of the records that follow.
    pub(super) fn begin(&mut self, stream: Stream, since_epoch: Duration) {
        self.since_epoch = since_epoch;
        let second = since_epoch.as_secs();
        if self.date.0 != second {
            let time = jiff::Timestamp::from_second(second as i64).unwrap_or(jiff::Timestamp::MAX);
            self.date = (second, time.strftime("%Y-%m-%dT%H:%M:%S").to_string());
        }
        self.head.clear();
        self.tail.clear();
        if self.driver == LogDriver::JsonFile {
            self.head.extend_from_slice(b"{\"log\":\"");
            self.tail.extend_from_slice(b"\",\"stream\":\"");
            self.tail.extend_from_slice(stream.name().as_bytes());
            self.tail.push(b'"');
            self.tail.extend_from_slice(self.attributes.as_bytes());
            self.tail.extend_from_slice(b",\"time\":\"");
            self.tail.extend_from_slice(self.date.1.as_bytes());
            push_fraction(&mut self.tail, since_epoch.subsec_nanos());
            self.tail.extend_from_slice(b"Z\"}\n");
        } else {
            self.head.extend_from_slice(self.date.1.as_bytes());
            // Writing to a vector cannot fail.
            write!(self.head, ".{:09}Z {} ", since_epoch.subsec_nanos(), stream.name()).unwrap_or_default();
        }
    }

    /// Appends one record to `batch`. `piece` has no newline.
    pub(super) fn push(&self, batch: &mut Vec<u8>, piece: &[u8], end: LineEnd) {
        batch.extend_from_slice(&self.head);
        if self.driver == LogDriver::JsonFile {
            push_escaped(batch, piece);
            if end == LineEnd::Newline {
                batch.extend_from_slice(b"\\n");
            }
            batch.extend_from_slice(&self.tail);
        } else {
            batch.extend_from_slice(if end == LineEnd::Newline { b"F " } else { b"P " });
            batch.extend_from_slice(piece);
            batch.push(b'\n');
        }
    }

    /// Appends a record of coracle's own, on stderr, with the time of the last
    /// [`Self::begin`]. Does not disturb the records that follow.
    pub(super) fn note(&self, batch: &mut Vec<u8>, text: &str) {
        let mut own = Self::new(self.driver);
        own.begin(Stream::Stderr, self.since_epoch);
        own.push(batch, text.as_bytes(), LineEnd::Newline);
    }
}

/// `.123` for 123,000,000 and nothing for 0, as Go's RFC3339Nano has it.
fn push_fraction(out: &mut Vec<u8>, nanoseconds: u32) {
    if nanoseconds == 0 {
        return;
    }
    let digits = format!(".{nanoseconds:09}");
    out.extend_from_slice(digits.trim_end_matches('0').as_bytes());
}

/// Appends `text` as the inside of a JSON string.
fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    // Nearly all output is ASCII or valid UTF-8: one quick check, no copy.
    if let Ok(text) = std::str::from_utf8(text) {
        return push_escaped_str(out, text);
    }
    for chunk in text.utf8_chunks() {
        push_escaped_str(out, chunk.valid());
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

/// Bytes looked at together: the compiler makes one vector comparison of them.
const LANES: usize = 32;

fn push_escaped_str(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut copied = 0;
    let mut at = 0;
    while at < bytes.len() {
        if let Some(lanes) = bytes.get(at..at + LANES)
            && !lanes.iter().fold(false, |any, byte| any | is_special(*byte))
        {
            at += LANES;
            continue;
        }
        let end = bytes.len().min(at + LANES);
        while at < end {
            let byte = bytes[at];
            if is_special(byte)
                && let Some((escape, length)) = escape(byte, &bytes[at..])
            {
                out.extend_from_slice(&bytes[copied..at]);
                out.extend_from_slice(escape.as_slice());
                at += length;
                copied = at;
            } else {
                at += 1;
            }
        }
    }
    out.extend_from_slice(&bytes[copied..]);
}

/// Whether `byte` may begin something to escape; 0xe2 begins U+2028 and U+2029.
/// Without short circuits, so that it becomes a vector comparison.
#[allow(clippy::needless_bitwise_bool)]
fn is_special(byte: u8) -> bool {
    (byte < 0x20)
        | (byte == b'"')
        | (byte == b'\\')
        | (byte == b'<')
        | (byte == b'>')
        | (byte == b'&')
        | (byte == 0xe2)
}

/// At most six bytes.
struct Escape([u8; 6], usize);

impl Escape {
    fn short(letter: u8) -> Self {
        Self([b'\\', letter, 0, 0, 0, 0], 2)
    }

    fn as_slice(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

/// The escape for the character that begins `rest`, and how many bytes it
/// replaces; `None` where the character stays as it is.
fn escape(byte: u8, rest: &[u8]) -> Option<(Escape, usize)> {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    Some(match byte {
        b'"' | b'\\' => (Escape::short(byte), 1),
        b'\n' => (Escape::short(b'n'), 1),
        b'\r' => (Escape::short(b'r'), 1),
        0xe2 => match rest {
            [0xe2, 0x80, last @ (0xa8 | 0xa9), ..] => {
                (Escape([b'\\', b'u', b'2', b'0', b'2', HEX[usize::from(last & 0xf)]], 6), 3)
            }
            _ => return None,
        },
        _ => {
            let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]);
            (Escape([b'\\', b'u', b'0', b'0', high, low], 6), 1)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &[u8]) -> String {
        let mut out = Vec::new();
        push_escaped(&mut out, text);
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    #[test]
    fn strings_are_escaped_as_docker_does() {
        let long = format!("{}\t{}", "a".repeat(100), "b".repeat(100));
        let table: &[(&[u8], &str)] = &[
            (b"", ""),
            (b"plain", "plain"),
            (b"a\"b\\c", r#"a\"b\\c"#),
            (b"\r\n\t\x00\x1f\x7f", "\\r\\n\\u0009\\u0000\\u001f\x7f"),
            (b"<a>&", r"\u003ca\u003e\u0026"),
            ("é\u{2028}\u{2029}…".as_bytes(), r"é\u2028\u2029…"),
            (b"a\xff\xe2\x80z", r"a\ufffd\ufffd\ufffdz"),
            (long.as_bytes(), &long.replace('\t', r"\u0009")),
        ];
        for (text, expected) in table {
            assert_eq!(escaped(text), *expected, "{text:?}");
        }
    }

    #[test]
    fn every_byte_comes_back_from_a_json_parser() {
        for shift in 0..LANES {
            let text: String =
                "x".repeat(shift) + &(0..=0x2030u32).filter_map(char::from_u32).collect::<String>();
            let json = format!("\"{}\"", escaped(text.as_bytes()));
            assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), text);
        }
    }

    #[test]
    fn records_have_the_form_of_each_driver() {
        let record = |driver, nanoseconds, end| {
            let mut encoder = Encoder::new(driver);
            encoder.begin(Stream::Stderr, Duration::new(1_700_000_000, nanoseconds));
            let mut out = Vec::new();
            encoder.push(&mut out, b"a b", end);
            String::from_utf8(out).expect("text")
        };
        let newline = LineEnd::Newline;
        assert_eq!(
            record(LogDriver::JsonFile, 120_000_000, newline),
            "{\"log\":\"a b\\n\",\"stream\":\"stderr\",\"time\":\"2023-11-14T22:13:20.12Z\"}\n"
        );
        assert_eq!(
            record(LogDriver::JsonFile, 0, LineEnd::Open),
            "{\"log\":\"a b\",\"stream\":\"stderr\",\"time\":\"2023-11-14T22:13:20Z\"}\n"
        );
        assert_eq!(record(LogDriver::K8sFile, 5, newline), "2023-11-14T22:13:20.000000005Z stderr F a b\n");
        assert_eq!(
            record(LogDriver::K8sFile, 0, LineEnd::Open),
            "2023-11-14T22:13:20.000000000Z stderr P a b\n"
        );
    }
}
