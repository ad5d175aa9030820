//! Answers of the server.

use super::socket::Connection;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// An answer: what it is and what is sent with it.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    headers: Vec<(&'static str, String)>,
    body: Content,
}

#[derive(Debug)]
enum Content {
    Bytes(Vec<u8>),
    /// This many bytes of it, from where it stands.
    File(File, u64),
}

impl Response {
    pub(super) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Content::Bytes(Vec::new()) }
    }

    pub(super) fn bytes(media_type: &str, bytes: Vec<u8>) -> Self {
        Self { body: Content::Bytes(bytes), ..Self::empty(200) }.with("Content-Type", media_type)
    }

    pub(super) fn json(value: &Value) -> Self {
        Self::bytes("application/json", value.to_string().into_bytes())
    }

    /// An error as distribution-spec has them.
    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        let body = json!({"errors": [{"code": code, "message": message, "detail": null}]});
        Self { status, ..Self::json(&body) }
    }

    /// A file, or the part of it that a Range asks for (RFC 9110, 14.2); of
    /// several parts, and of what is no Range, the whole file.
    pub(super) fn file(mut file: File, range: Option<&str>) -> io::Result<Self> {
        let size = file.metadata()?.len();
        let whole = |file| {
            let body = Content::File(file, size);
            Self { body, ..Self::empty(200) }
                .with("Content-Type", "application/octet-stream")
                .with("Accept-Ranges", "bytes")
        };
        match range.map_or(Part::Whole, |range| part(range, size)) {
            Part::Whole => Ok(whole(file)),
            Part::Nothing => {
                let refused = Self::error(416, "RANGE_INVALID", "there is no such part of the blob");
                Ok(refused.with("Content-Range", &format!("bytes */{size}")))
            }
            Part::Bytes(first, last) => {
                file.seek(SeekFrom::Start(first))?;
                let body = Content::File(file, last - first + 1);
                Ok(Self { body, ..Self::empty(206) }
                    .with("Content-Type", "application/octet-stream")
                    .with("Accept-Ranges", "bytes")
                    .with("Content-Range", &format!("bytes {first}-{last}/{size}")))
            }
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        // A line break would be a header of somebody else's.
        let value = value.chars().filter(|c| !c.is_control()).collect();
        self.headers.push((name, value));
        self
    }

    pub(super) fn send(self, connection: &mut Connection, head_only: bool, keep: bool) -> io::Result<()> {
        let length = match &self.body {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(_, length) => *length,
        };
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        head.push_str("Docker-Distribution-Api-Version: registry/2.0\r\nX-Content-Type-Options: nosniff\r\n");
        if self.status != 204 {
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(if keep { "\r\n" } else { "Connection: close\r\n\r\n" });
        let mut bytes = head.into_bytes();
        match self.body {
            Content::Bytes(body) => {
                if !head_only {
                    bytes.extend(body);
                }
                connection.write_all(&bytes)?;
            }
            Content::File(file, length) => {
                connection.write_all(&bytes)?;
                if !head_only {
                    send_file(file, length, connection)?;
                }
            }
        }
        connection.flush()
    }
}

fn send_file(file: File, length: u64, connection: &mut Connection) -> io::Result<()> {
    let mut file = file.take(length);
    let mut buffer = vec![0; 256 << 10];
    let mut sent = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        connection.write_all(&buffer[..count])?;
        sent += count as u64;
    }
    // Its length was promised: the client must not take less for the whole.
    if sent == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// What a Range asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// It is to be ignored.
    Whole,
    /// There is no such part.
    Nothing,
    /// The first and the last byte.
    Bytes(u64, u64),
}

fn part(range: &str, size: u64) -> Part {
    let number =
        |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let ends = range.trim().strip_prefix("bytes=").and_then(|ends| ends.split_once('-'));
    match ends.map(|(first, last)| (first.is_empty(), number(first), last.is_empty(), number(last))) {
        Some((true, _, _, Some(count))) if count.min(size) == 0 => Part::Nothing,
        Some((true, _, _, Some(count))) => Part::Bytes(size - count.min(size), size - 1),
        Some((_, Some(first), true, _)) if first < size => Part::Bytes(first, size - 1),
        Some((_, Some(first), false, Some(last))) if first <= last && first < size => {
            Part::Bytes(first, last.min(size - 1))
        }
        Some((_, Some(_), true, _)) => Part::Nothing,
        Some((_, Some(first), false, Some(last))) if first <= last => Part::Nothing,
        _ => Part::Whole,
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_the_rfc() {
        for (range, expected) in [
            ("bytes=0-0", Part::Bytes(0, 0)),
            ("bytes=2-", Part::Bytes(2, 9)),
            ("bytes=2-100", Part::Bytes(2, 9)),
            ("bytes=-3", Part::Bytes(7, 9)),
            ("bytes=-100", Part::Bytes(0, 9)),
            ("bytes=10-", Part::Nothing),
            ("bytes=10-12", Part::Nothing),
            ("bytes=-0", Part::Nothing),
            ("bytes=5-2", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("bytes=-", Part::Whole),
        ] {
            assert_eq!(part(range, 10), expected, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), Part::Nothing);
    }

    #[test]
    fn no_header_can_be_smuggled_into_an_answer() {
        let response = Response::empty(200).with("Location", "/a\r\nSet-Cookie: b");
        assert_eq!(response.headers[0].1, "/aSet-Cookie: b");
    }
}
