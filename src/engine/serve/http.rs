//! Requests of HTTP/1.1 (RFC 9112) as a registry gets them. What two readers
//! could understand in two ways is refused.

use super::page::Response;
use super::socket::Connection;
use std::io::{self, Read, Write};

/// Bytes of a request line and its headers.
const HEAD_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
/// Bytes of a line in a chunked body.
const CHUNK_LINE_MAX: usize = 256;
/// Trailing headers, which are read and not looked at.
const TRAILERS_MAX: usize = 32;
/// What is read of a body that nobody wanted, so that the connection can go on.
const DRAIN_MAX: u64 = 1 << 20;

/// One request without its body.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// Decoded, without the query.
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    /// HTTP/1.1; else 1.0.
    current: bool,
    body: Option<Body>,
}

impl Request {
    /// The header of this name in lower case; those that count come once.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn keeps_alive(&self) -> bool {
        let says = |word: &str| {
            self.header("connection")
                .is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
        };
        if self.current { !says("close") } else { says("keep-alive") }
    }

    pub(super) fn take_body(&mut self) -> Body {
        self.body.take().unwrap_or(Body { left: Left::Length(0), invite: false })
    }
}

/// The next request; `None` where the client has gone. An inner error is the
/// answer to a request that is none.
pub(super) fn read_request(connection: &mut Connection) -> io::Result<Option<Result<Request, Response>>> {
    let head = match connection.head(HEAD_MAX) {
        Ok(Some(head)) => head,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Ok(Some(Err(Response::error(431, "DENIED", "the head of the request is too large"))));
        }
        Err(error) => return Err(error),
    };
    Ok(Some(parse(&head).map_err(|why| Response::error(400, "DENIED", why))))
}

fn parse(head: &[u8]) -> Result<Request, &'static str> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        _ => return Err("this is no request of HTTP/1.1"),
    }
    let text = |value: &[u8]| -> Result<String, &'static str> {
        let text = std::str::from_utf8(value).map_err(|_| "a header is not text")?;
        Ok(text.trim().to_owned())
    };
    let headers = parsed
        .headers
        .iter()
        .map(|header| Ok((header.name.to_ascii_lowercase(), text(header.value)?)))
        .collect::<Result<Vec<_>, &'static str>>()?;
    let (path, query) = target(parsed.path.unwrap_or_default())?;
    let body = body(&headers)?;
    let current = parsed.version == Some(1);
    let hosts = headers.iter().filter(|(name, _)| name == "host").count();
    if hosts > 1 || current && hosts == 0 {
        return Err("a request has one Host");
    }
    let authorizations = headers.iter().filter(|(name, _)| name == "authorization").count();
    if authorizations > 1 {
        return Err("a request has one Authorization");
    }
    let method = parsed.method.unwrap_or_default().to_owned();
    Ok(Request { method, path, query, headers, current, body: Some(body) })
}

/// How long the body is: one length, or chunks, and never both (RFC 9112, 6.3).
fn body(headers: &[(String, String)]) -> Result<Body, &'static str> {
    let all = |name: &str| -> Vec<&str> {
        headers.iter().filter(|(have, _)| have == name).map(|(_, value)| value.as_str()).collect()
    };
    let invite = all("expect").iter().any(|value| value.eq_ignore_ascii_case("100-continue"));
    let left = match (all("content-length").as_slice(), all("transfer-encoding").as_slice()) {
        ([], []) => Left::Length(0),
        ([length], []) => {
            let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            let length = length.parse().ok().filter(|_| digits);
            Left::Length(length.ok_or("Content-Length is not a number")?)
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Left::Chunks { in_chunk: 0, first: true },
        ([], _) => return Err("Transfer-Encoding is not chunked"),
        _ => return Err("the length of the body is ambiguous"),
    };
    Ok(Body { left, invite })
}

/// A path and its query, decoded.
type Target = (String, Vec<(String, String)>);

fn target(text: &str) -> Result<Target, &'static str> {
    // Some clients send the whole URL, as to a proxy.
    let text = match text.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => text,
    };
    if !text.starts_with('/') {
        return Err("the path does not begin with a slash");
    }
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let query = query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            Ok((decode(key)?, decode(&value.replace('+', "%20"))?))
        })
        .collect::<Result<_, &'static str>>()?;
    Ok((decode(path)?, query))
}

fn decode(text: &str) -> Result<String, &'static str> {
    const WHY: &str = "the path is not encoded as it must be";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16)).ok_or(WHY);
        let (high, low) = (digit()?, digit()?);
        bytes.push((high * 16 + low) as u8);
    }
    let text = String::from_utf8(bytes).map_err(|_| WHY)?;
    if text.contains(|c: char| c.is_control()) { Err(WHY) } else { Ok(text) }
}

/// What is still to come of a body.
#[derive(Debug)]
pub(super) struct Body {
    left: Left,
    /// The client waits for a word before it sends (`Expect: 100-continue`).
    invite: bool,
}

#[derive(Debug)]
enum Left {
    Length(u64),
    Chunks { in_chunk: u64, first: bool },
    Ended,
}

impl Body {
    pub(super) fn reader<'a>(&'a mut self, connection: &'a mut Connection) -> BodyReader<'a> {
        BodyReader { body: self, connection }
    }

    /// Reads what is left of a short one; `false` where more is to come.
    pub(super) fn drain(&mut self, connection: &mut Connection) -> bool {
        if self.invite {
            // It was not asked for, and may or may not come.
            return matches!(self.left, Left::Length(0) | Left::Ended);
        }
        let mut buffer = [0; 8192];
        let mut total = 0;
        loop {
            match self.reader(connection).read(&mut buffer) {
                Ok(0) => return true,
                Ok(count) => total += count as u64,
                Err(_) => return false,
            }
            if total > DRAIN_MAX {
                return false;
            }
        }
    }
}

/// Reads a body to its end.
pub(super) struct BodyReader<'a> {
    body: &'a mut Body,
    connection: &'a mut Connection,
}

impl Read for BodyReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if std::mem::take(&mut self.body.invite) && !matches!(self.body.left, Left::Length(0)) {
            self.connection.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            self.connection.flush()?;
        }
        if let Left::Chunks { in_chunk: 0, first } = self.body.left {
            let length = self.chunk(first)?;
            self.body.left = match length {
                0 => Left::Ended,
                length => Left::Chunks { in_chunk: length, first: false },
            };
        }
        let left = match &mut self.body.left {
            Left::Length(0) | Left::Ended => return Ok(0),
            Left::Length(left) | Left::Chunks { in_chunk: left, .. } => left,
        };
        let most = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        let count = self.connection.read_body(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *left -= count as u64;
        Ok(count)
    }
}

impl BodyReader<'_> {
    /// The length of the next chunk; 0 at the end, whose trailers are read.
    fn chunk(&mut self, first: bool) -> io::Result<u64> {
        let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
        if !first && !self.connection.line(CHUNK_LINE_MAX)?.is_empty() {
            return Err(bad("a chunk is longer than it said"));
        }
        let line = self.connection.line(CHUNK_LINE_MAX)?;
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let hex = !digits.is_empty() && digits.len() <= 15 && digits.iter().all(u8::is_ascii_hexdigit);
        let text = std::str::from_utf8(digits).ok().filter(|_| hex);
        let length = text.and_then(|text| u64::from_str_radix(text, 16).ok());
        let length = length.ok_or_else(|| bad("the length of a chunk is no number"))?;
        if length == 0 {
            for _ in 0..TRAILERS_MAX {
                if self.connection.line(CHUNK_LINE_MAX)?.is_empty() {
                    return Ok(0);
                }
            }
            return Err(bad("too many trailers"));
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(lines: &[&str]) -> Result<Request, &'static str> {
        parse(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes())
    }

    #[test]
    fn a_request_is_read() {
        let asked =
            request(&["GET /v2/a%2Fb/x?n=1&last=a%20b HTTP/1.1", "Host: localhost", "Range: bytes=0-1"])
                .expect("valid");
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", "/v2/a/b/x"));
        assert_eq!((asked.query("n"), asked.query("last")), (Some("1"), Some("a b")));
        assert_eq!(asked.header("range"), Some("bytes=0-1"));
        assert!(asked.keeps_alive());
        let old = request(&["GET http://x/v2/ HTTP/1.0"]).expect("valid");
        assert!(old.path == "/v2/" && !old.keeps_alive());
    }

    /// CVE-2024-41110, CVE-2026-34040 and request smuggling: one body, two lengths.
    #[test]
    fn ambiguous_requests_are_refused() {
        let with = |lines: &[&str]| {
            let all: Vec<&str> = ["PUT / HTTP/1.1", "Host: x"].iter().chain(lines).copied().collect();
            request(&all)
        };
        assert!(with(&["Content-Length: 5"]).is_ok() && with(&["Transfer-Encoding: chunked"]).is_ok());
        for bad in [
            &["Content-Length: 5", "Content-Length: 5"][..],
            &["Content-Length: 5", "Content-Length: 6"],
            &["Content-Length: 5, 5"],
            &["Content-Length: +5"],
            &["Content-Length: -5"],
            &["Content-Length: 0x5"],
            &["Content-Length:"],
            &["Content-Length: 99999999999999999999"],
            &["Content-Length: 5", "Transfer-Encoding: chunked"],
            &["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
            &["Transfer-Encoding: gzip, chunked"],
            &["Transfer-Encoding: identity"],
            &["Content-Length : 5"],
            &["X: a", " folded: b"],
            &["Host: y"],
            &["Authorization: Basic a", "Authorization: Basic b"],
        ] {
            assert!(with(bad).is_err(), "{bad:?}");
        }
        assert!(request(&["GET / HTTP/1.1"]).is_err(), "no Host");
        assert!(request(&["GET / HTTP/2.0", "Host: x"]).is_err());
        assert!(request(&["GET /%zz HTTP/1.1", "Host: x"]).is_err());
        assert!(request(&["GET /%00 HTTP/1.1", "Host: x"]).is_err());
        assert!(request(&["GET x HTTP/1.1", "Host: x"]).is_err());
        let many: Vec<String> = (0..100).map(|n| format!("X-{n}: y")).collect();
        let mut lines = vec!["GET / HTTP/1.1", "Host: x"];
        lines.extend(many.iter().map(String::as_str));
        assert!(request(&lines).is_err(), "too many headers");
    }
}
