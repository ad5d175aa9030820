//! The quick way through a log: lines in the very form that our writer and
//! docker's give them, without building a record of each.
//!
//! A line of another form (other members, another order, an unusual escape) is
//! not wrong: [`super::decode()`] reads it.

use crate::monitor::log_file::Stream;
use crate::types::container::LogDriver;
use memchr::{memchr, memchr2, memrchr};

/// A line of the usual form. Nothing is copied.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plain<'a> {
    /// RFC 3339 in UTC: 20 to 30 bytes that end in `Z`.
    pub(crate) time: &'a [u8],
    pub(crate) stream: Stream,
    text: &'a [u8],
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The inside of a JSON string.
    Json,
    /// As it was printed; the line's end is left out.
    Line,
    /// As it was printed; the line goes on.
    Part,
}

/// `None` where `line` (without its newline) has not the usual form.
pub(crate) fn plain(driver: LogDriver, line: &[u8]) -> Option<Plain<'_>> {
    match driver {
        LogDriver::JsonFile => plain_json(line),
        LogDriver::K8sFile | LogDriver::Local => plain_k8s(line),
        LogDriver::None | LogDriver::Passthrough => None,
    }
}

fn plain_json(line: &[u8]) -> Option<Plain<'_>> {
    let inside = line.strip_prefix(b"{\"log\":\"")?.strip_suffix(b"\"}")?;
    let time_at = memrchr(b'"', inside)? + 1;
    let (head, time) = inside.split_at(time_at);
    let head = head.strip_suffix(b"\",\"time\":\"")?;
    let (text, stream) = match head.strip_suffix(b"\",\"stream\":\"stdout") {
        Some(text) => (text, Stream::Stdout),
        None => (head.strip_suffix(b"\",\"stream\":\"stderr")?, Stream::Stderr),
    };
    (is_time(time)).then_some(Plain { time, stream, text, form: Form::Json })
}

fn plain_k8s(line: &[u8]) -> Option<Plain<'_>> {
    let (time, rest) = line.split_at(memchr(b' ', line)?);
    let (stream, rest) = match rest.strip_prefix(b" stdout ") {
        Some(rest) => (Stream::Stdout, rest),
        None => (Stream::Stderr, rest.strip_prefix(b" stderr ")?),
    };
    let (text, form) = match rest.strip_prefix(b"F ") {
        Some(text) => (text, Form::Line),
        None => (rest.strip_prefix(b"P ")?, Form::Part),
    };
    is_time(time).then_some(Plain { time, stream, text, form })
}

/// `2026-11-23T22:10:22Z`, with up to nine digits of a fraction. What passes
/// and is no time of a calendar (the 31st of February) is a time all the same:
/// it is only shown.
fn is_time(text: &[u8]) -> bool {
    const SHAPE: &[u8; 19] = b"0000-10-30T20:50:50";
    if text.len() < 20 || text.len() > 30 || text.last() != Some(&b'Z') {
        return false;
    }
    let date = text.iter().zip(SHAPE).all(|(byte, shape)| match shape {
        b'0'..=b'9' => byte.is_ascii_digit(),
        other => byte == other,
    });
    let two = |at: usize| (text[at] - b'0') * 10 + (text[at + 1] - b'0');
    let fraction = &text[19..text.len() - 1];
    let in_range = || {
        (1..=12).contains(&two(5))
            && (1..=31).contains(&two(8))
            && two(11) < 24
            && two(14) < 60
            && two(17) < 60
    };
    let whole = |rest: &[u8]| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit);
    date && in_range() && (fraction.is_empty() || fraction[0] == b'.' && whole(&fraction[1..]))
}

impl Plain<'_> {
    /// Appends the text with its newline, if it has one: whether it has. `None`
    /// where it has an unusual escape or is no text; nothing is appended then.
    pub(crate) fn append(&self, out: &mut Vec<u8>) -> Option<bool> {
        match self.form {
            Form::Line => {
                out.extend_from_slice(self.text);
                out.push(b'\n');
                Some(true)
            }
            Form::Part => {
                out.extend_from_slice(self.text);
                Some(false)
            }
            Form::Json => {
                let before = out.len();
                let done = std::str::from_utf8(self.text).ok().and_then(|_| unescape(self.text, out));
                if done.is_none() {
                    out.truncate(before);
                    return None;
                }
                Some(out.len() > before && out.last() == Some(&b'\n'))
            }
        }
    }

    /// Appends the time with nine digits and a blank, as docker prints it.
    pub(crate) fn append_time(&self, out: &mut Vec<u8>) {
        let fraction = self.time.get(20..self.time.len() - 1).unwrap_or_default();
        out.extend_from_slice(&self.time[..19]);
        out.push(b'.');
        out.extend_from_slice(fraction);
        out.extend_from_slice(&b"000000000"[fraction.len()..]);
        out.extend_from_slice(b"Z ");
    }
}

/// Appends what the inside of a JSON string stands for. Nearly always there is
/// one escape, the newline at the end.
fn unescape(mut text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    while let Some(at) = memchr2(b'\\', b'"', text) {
        out.extend_from_slice(&text[..at]);
        // A quote that is not escaped: the string has ended before.
        let escape = text[at..].strip_prefix(b"\\")?;
        let (&kind, rest) = escape.split_first()?;
        text = rest;
        match kind {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'"' | b'\\' | b'/' => out.push(kind),
            b'u' => {
                let digits = std::str::from_utf8(text.get(..4)?).ok()?;
                // `from_str_radix` takes a sign, JSON does not. Surrogates are
                // no characters: the slow way has the rules for pairs.
                let code = u32::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?;
                out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
                text = &text[4..];
            }
            _ => return None,
        }
    }
    out.extend_from_slice(text);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::*;

    /// Both ways must say the same of every line that the quick one takes.
    fn quick(driver: LogDriver, line: &[u8]) -> Option<(Stream, Vec<u8>, bool)> {
        let plain = plain(driver, line)?;
        let mut text = Vec::new();
        let ends_line = plain.append(&mut text)?;
        let slow = decode(driver, line).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(line)));
        assert_eq!((slow.stream, slow.text.as_ref(), slow.ends_line()), (plain.stream, &text[..], ends_line));
        let mut time = Vec::new();
        plain.append_time(&mut time);
        assert_eq!(time, slow.time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ ").to_string().as_bytes());
        Some((plain.stream, text, ends_line))
    }

    #[test]
    fn usual_lines_are_read_quickly_and_as_the_slow_way_reads_them() {
        let tail = r#"","stream":"stdout","time":"2023-11-14T22:13:20.12Z"}"#;
        for (text, is) in [
            ("a\\n", "a\n"),
            ("", ""),
            ("no end", "no end"),
            ("\\u003cb\\u003e \\u0026 \\u2028\\n", "<b> & \u{2028}\n"),
            ("\\t\\r\\b\\f\\\"\\\\\\/\\n", "\t\r\x08\x0c\"\\/\n"),
            ("ü€\\ufffd\\n", "ü€\u{fffd}\n"),
            (
                "{\\\"log\\\":\\\"x\\\",\\\"stream\\\":\\\"stderr\\\"}\\n",
                "{\"log\":\"x\",\"stream\":\"stderr\"}\n",
            ),
        ] {
            let line = format!("{{\"log\":\"{text}{tail}");
            let expected = Some((Stream::Stdout, is.as_bytes().to_vec(), is.ends_with('\n')));
            assert_eq!(quick(LogDriver::JsonFile, line.as_bytes()), expected, "{line}");
        }
        for (line, text, end) in [
            (&b"2023-11-14T22:13:20.120000000Z stdout F a  b"[..], &b"a  b\n"[..], true),
            (b"2023-11-14T22:13:20Z stderr P \xff", b"\xff", false),
            (b"2023-11-14T22:13:20Z stderr F ", b"\n", true),
        ] {
            assert_eq!(quick(LogDriver::K8sFile, line).expect("usual"), {
                let stream = if line.windows(6).any(|part| part == b"stdout") {
                    Stream::Stdout
                } else {
                    Stream::Stderr
                };
                (stream, text.to_vec(), end)
            });
        }
    }

    #[test]
    fn unusual_lines_are_left_to_the_slow_way() {
        let json: &[&[u8]] = &[
            b"",
            b"{\"log\":\"",
            b"{\"log\":\"\"}",
            br#"{"log":"a","stream":"stdout","time":"2023-11-14T23:13:20+01:00"}"#,
            br#"{"log":"a","stream":"stdout","time":"2023-13-14T23:13:20Z"}"#,
            br#"{"log":"a","stream":"stdin","time":"2023-11-14T22:13:20Z"}"#,
            br#"{"log":"a","x":"b","stream":"stdout","time":"2023-11-14T22:13:20Z"}"#,
            br#"{"log":"a","stream":"stdout","attrs":{"tag":"x"},"time":"2023-11-14T22:13:20Z"}"#,
            br#"{"log":"\ud83d\ude00","stream":"stdout","time":"2023-11-14T22:13:20Z"}"#,
            br#"{"log":"\u+123","stream":"stdout","time":"2023-11-14T22:13:20Z"}"#,
            br#"{"log":"\x","stream":"stdout","time":"2023-11-14T22:13:20Z"}"#,
            br#"{"log":"a\","stream":"stdout","time":"2023-11-14T22:13:20Z"}"#,
            b"{\"log\":\"\xff\",\"stream\":\"stdout\",\"time\":\"2023-11-14T22:13:20Z\"}",
        ];
        for line in json {
            assert_eq!(quick(LogDriver::JsonFile, line), None, "{}", String::from_utf8_lossy(line));
        }
        let k8s: &[&[u8]] = &[
            b"",
            b" ",
            b"2023-11-14T22:13:20Z stdout F",
            b"2023-11-14T22:13:20Z stdout F:x a",
            b"2023-11-14T22:13:20+01:00 stdout F a",
            b"2023-11-14T22:13:20.Z stdout F a",
            b"2023-11-14T22:13:20.1234567890Z stdout F a",
            b"x stdout F a",
        ];
        for line in k8s {
            assert_eq!(quick(LogDriver::K8sFile, line), None, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn nothing_is_left_of_a_line_that_is_given_up() {
        let line = br#"{"log":"abc\x","stream":"stdout","time":"2023-11-14T22:13:20Z"}"#;
        let mut out = b"before".to_vec();
        assert_eq!(plain(LogDriver::JsonFile, line).and_then(|plain| plain.append(&mut out)), None);
        assert_eq!(out, b"before");
    }
}
