use super::*;
use crate::monitor::log_file::{LogWriter, log_path};
use crate::types::container::LogDriver;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

fn printed(dir: &Path, log: &LogConfig, options: &LogOptions) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    print(dir, log, options, None, &mut out, &mut err).expect("print");
    (String::from_utf8(out).expect("text"), String::from_utf8(err).expect("text"))
}

#[test]
fn streams_go_where_they_came_from_with_times_once_a_line() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let log = LogConfig { driver: LogDriver::K8sFile, ..LogConfig::default() };
    let text = "2023-11-14T22:13:20.5Z stdout P a\n\
                2023-11-14T22:13:21Z stderr F e\n\
                garbage\n\
                2023-11-14T23:13:22+01:00 stdout F b\n";
    std::fs::write(log_path(dir.path(), log.driver).expect("path"), text).expect("log");
    let mut options = LogOptions::default();
    assert_eq!(printed(dir.path(), &log, &options), ("ab\n".into(), "e\n".into()));
    options.timestamps = true;
    let expected = ("2023-11-14T22:13:20.500000000Z ab\n", "2023-11-14T22:13:21.000000000Z e\n");
    assert_eq!(printed(dir.path(), &log, &options), (expected.0.into(), expected.1.into()));
    options = LogOptions { since: "2023-11-14T22:13:21Z".parse().ok(), ..LogOptions::default() };
    assert_eq!(printed(dir.path(), &log, &options), ("b\n".into(), "e\n".into()));
    options = LogOptions { until: "2023-11-14T22:13:21Z".parse().ok(), ..LogOptions::default() };
    assert_eq!(printed(dir.path(), &log, &options), ("a".into(), "e\n".into()));
}

#[test]
fn lines_have_labels_and_streams_may_share_an_output() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let log = LogConfig::default();
    let time = r#""time":"2023-11-14T22:13:20.5Z""#;
    let text = format!(
        "{{\"log\":\"a\",\"stream\":\"stdout\",{time}}}\n{{\"log\":\"e\\n\",\"stream\":\"stderr\",{time}}}\n\
         {{\"log\":\"b\\ud83d\\ude00\\n\",\"stream\":\"stdout\",{time}}}\n"
    );
    std::fs::write(log_path(dir.path(), log.driver).expect("path"), text).expect("log");
    let options = LogOptions {
        one_output: true,
        timestamps: true,
        label: Some(Label { text: "web ".into(), colour: Some(32) }),
        ..LogOptions::default()
    };
    let head = "\x1b[32mweb 2023-11-14T22:13:20.500000000Z";
    let expected = format!("{head} a{head} e\x1b[0m\nb😀\x1b[0m\n");
    assert_eq!(printed(dir.path(), &log, &options), (expected, String::new()));
}

#[test]
fn a_log_that_does_not_exist_yet_is_empty_and_none_is_an_error() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let options = LogOptions { tail: Some(3), ..LogOptions::default() };
    assert_eq!(printed(dir.path(), &LogConfig::default(), &options), (String::new(), String::new()));
    for driver in [LogDriver::None, LogDriver::Passthrough] {
        let log = LogConfig { driver, ..LogConfig::default() };
        let error = print(dir.path(), &log, &options, None, &mut Vec::new(), &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Invalid);
    }
}

/// Following over rotations until the container ends: all that was logged
/// before the end is printed.
#[test]
fn following_ends_with_the_container_and_prints_all() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let log = LogConfig { max_size: Some(4000), max_file: Some(1000), ..LogConfig::default() };
    let (here, there) = UnixStream::pair().expect("socket pair");
    let options = LogOptions { follow: true, ..LogOptions::default() };
    let mut out = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = LogWriter::open(dir.path(), &log).expect("log");
            for number in 0..2000 {
                writer.write(Stream::Stdout, format!("line {number}\n").as_bytes());
                if number % 500 == 0 {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            writer.write(Stream::Stdout, b"end");
            writer.flush_partial();
            drop(there);
        });
        print(dir.path(), &log, &options, Some(here.as_fd()), &mut out, &mut Vec::new()).expect("print");
    });
    let expected: String = (0..2000).map(|number| format!("line {number}\n")).collect::<Vec<_>>().concat();
    assert!(String::from_utf8(out).expect("text") == expected + "end");
}

#[test]
fn following_ends_at_until() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (here, _there) = UnixStream::pair().expect("socket pair");
    let until = Timestamp::now().checked_add(jiff::SignedDuration::from_millis(100)).ok();
    let options = LogOptions { follow: true, until, ..LogOptions::default() };
    let log = LogConfig::default();
    print(dir.path(), &log, &options, Some(here.as_fd()), &mut Vec::new(), &mut Vec::new()).expect("print");
    assert!(is_past(until));
}

#[test]
fn a_reader_that_is_gone_is_no_error_and_a_full_disk_is() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let log = LogConfig::default();
    LogWriter::open(dir.path(), &log).expect("log").write(Stream::Stdout, b"text\n");
    let options = LogOptions::default();
    let (reader, mut writer) = std::io::pipe().expect("pipe");
    drop(reader);
    print(dir.path(), &log, &options, None, &mut writer, &mut Vec::new()).expect("quiet end");
    let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    assert!(print(dir.path(), &log, &options, None, &mut full, &mut Vec::new()).is_err());
}

/// Accepts a little at a time, and refuses every other call.
struct Slow(Vec<u8>, bool);

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = bytes.len().min(7);
        self.0.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_slow_non_blocking_output_gets_everything() {
    let mut slow = Slow(Vec::new(), false);
    write_fully(&mut slow, b"0123456789012345678901234567890").expect("written");
    assert_eq!(slow.0, b"0123456789012345678901234567890");
}
