//! One line of a log file as a record.

use crate::monitor::log_file::Stream;
use crate::types::container::LogDriver;
use crate::types::url_query::escaped;
use jiff::Timestamp;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What the container printed at one time on one stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) time: Timestamp,
    pub(crate) stream: Stream,
    /// With its newline, unless the line goes on in a later record.
    pub(crate) text: Cow<'a, [u8]>,
}

impl Record<'_> {
    pub(crate) fn ends_line(&self) -> bool {
        self.text.last() == Some(&b'\n')
    }
}

/// `None` where `line` (without its newline) is not a record of this driver.
pub(crate) fn decode(driver: LogDriver, line: &[u8]) -> Option<Record<'_>> {
    match driver {
        LogDriver::JsonFile => decode_json(line),
        LogDriver::K8sFile | LogDriver::Local => decode_k8s(line),
        LogDriver::None | LogDriver::Passthrough => None,
    }
}

/// Members that are not known are passed over, and docker's `attrs`: see [`details`].
#[derive(Deserialize)]
struct JsonLine<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

fn decode_json(line: &[u8]) -> Option<Record<'_>> {
    let line: JsonLine<'_> = serde_json::from_slice(line).ok()?;
    let text = match line.log {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
    Some(Record { time: line.time.parse().ok()?, stream: stream(line.stream.as_bytes())?, text })
}

/// What the record of this line says of its container, as docker's `--details`
/// shows it: `key=value,key=value`, escaped as in a URL; mostly nothing.
pub(crate) fn details(driver: LogDriver, line: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Attributes {
        #[serde(default)]
        attrs: BTreeMap<String, String>,
    }
    if driver != LogDriver::JsonFile {
        return String::new();
    }
    let attributes = serde_json::from_slice::<Attributes>(line).map(|line| line.attrs).unwrap_or_default();
    let pairs = attributes.iter().map(|(key, value)| format!("{}={}", escaped(key), escaped(value)));
    pairs.collect::<Vec<_>>().join(",")
}

fn decode_k8s(line: &[u8]) -> Option<Record<'_>> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let stream = stream(fields.next()?)?;
    // Tags after the first, `F:…`, are the CRI's for extensions.
    let tag = fields.next()?;
    let text = fields.next()?;
    let text = match tag.split(|byte| *byte == b':').next()? {
        b"F" => Cow::Owned([text, b"\n"].concat()),
        b"P" => Cow::Borrowed(text),
        _ => return None,
    };
    Some(Record { time, stream, text })
}

fn stream(name: &[u8]) -> Option<Stream> {
    [Stream::Stdout, Stream::Stderr].into_iter().find(|stream| stream.name().as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_both_drivers_are_read() {
        let time: Timestamp = "2023-11-14T22:13:20.12Z".parse().expect("time");
        let expected = |stream, text: &'static [u8]| Some(Record { time, stream, text: Cow::Borrowed(text) });
        let table: &[(LogDriver, &[u8], Option<Record<'static>>)] = &[
            (
                LogDriver::JsonFile,
                br#"{"log":"a\u003cb\n","stream":"stdout","time":"2023-11-14T22:13:20.12Z"}"#,
                expected(Stream::Stdout, b"a<b\n"),
            ),
            (
                LogDriver::JsonFile,
                br#"{"log":"a","stream":"stderr","attrs":{"tag":"x"},"time":"2023-11-14T23:13:20.12+01:00"}"#,
                expected(Stream::Stderr, b"a"),
            ),
            (
                LogDriver::JsonFile,
                br#"{"stream":"stdout","time":"2023-11-14T22:13:20.12Z"}"#,
                expected(Stream::Stdout, b""),
            ),
            (
                LogDriver::K8sFile,
                b"2023-11-14T22:13:20.120000000Z stdout F a  b",
                expected(Stream::Stdout, b"a  b\n"),
            ),
            (
                LogDriver::K8sFile,
                b"2023-11-14T22:13:20.120000000Z stderr P \xff",
                expected(Stream::Stderr, b"\xff"),
            ),
            (LogDriver::K8sFile, b"2023-11-14T22:13:20.12Z stdout F:x ", expected(Stream::Stdout, b"\n")),
        ];
        for (driver, line, record) in table {
            assert_eq!(decode(*driver, line), *record, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn what_is_no_record_is_none() {
        let json: &[&[u8]] = &[
            b"",
            b"{",
            b"[]",
            br#"{"log":"a\n","stream":"stdout","time":"2023-11-14T22:13"#,
            br#"{"log":"a\n","stream":"stdout","time":"yesterday"}"#,
            br#"{"log":"a\n","stream":"stdin","time":"2023-11-14T22:13:20Z"}"#,
            br#"{"log":"\ud800","stream":"stdout","time":"2023-11-14T22:13:20Z"}"#,
            b"{\"log\":\"\xff\",\"stream\":\"stdout\",\"time\":\"2023-11-14T22:13:20Z\"}",
            &[0; 100],
        ];
        for line in json {
            assert_eq!(decode(LogDriver::JsonFile, line), None, "{}", String::from_utf8_lossy(line));
        }
        let k8s: &[&[u8]] = &[
            b"",
            b" ",
            b"2023-11-14T22:13:20Z stdout F",
            b"2023-11-14T22:13:20Z stdout X a",
            b"x stdout F a",
        ];
        for line in k8s {
            assert_eq!(decode(LogDriver::K8sFile, line), None, "{}", String::from_utf8_lossy(line));
        }
        let deep = [b"{\"log\":".as_slice(), &vec![b'['; 100_000]].concat();
        assert_eq!(decode(LogDriver::JsonFile, &deep), None);
    }
}
