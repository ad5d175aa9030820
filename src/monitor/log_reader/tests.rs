use super::*;
use crate::monitor::log_file::{LogWriter, Stream, log_path};
use crate::types::container::{LogConfig, LogDriver};
use std::io::Write as _;
use std::path::Path;

fn config(driver: LogDriver, max_size: u64, max_file: u32) -> LogConfig {
    LogConfig { driver, max_size: Some(max_size), max_file: Some(max_file), ..LogConfig::default() }
}

fn cursor(dir: &Path, config: &LogConfig, reach: Reach) -> Cursor {
    Cursor::open(dir, config, reach).expect("open").expect("a log")
}

/// All that the cursor gives now, as one text.
fn rest(cursor: &mut Cursor) -> String {
    let driver = cursor.driver();
    let mut text = Vec::new();
    while let Some(lines) = cursor.next_lines().expect("read") {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            if let Some(record) = decode(driver, &line[..line.len() - 1]) {
                text.extend_from_slice(&record.text);
            }
        }
    }
    String::from_utf8(text).expect("text")
}

fn numbers(range: std::ops::Range<u32>) -> String {
    range.map(|number| format!("line {number}\n")).collect::<Vec<_>>().concat()
}

#[test]
fn what_was_written_comes_back_over_all_files() {
    for driver in [LogDriver::JsonFile, LogDriver::K8sFile] {
        let dir = tempfile::tempdir().expect("temporary directory");
        let config = config(driver, 2000, 100);
        let mut log = LogWriter::open(dir.path(), &config).expect("log");
        log.write(Stream::Stdout, numbers(0..1000).as_bytes());
        assert_eq!(rest(&mut cursor(dir.path(), &config, Reach::Snapshot)), numbers(0..1000));
    }
}

#[test]
fn the_tail_is_found_in_any_file() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = config(LogDriver::K8sFile, 2000, 100);
    let mut log = LogWriter::open(dir.path(), &config).expect("log");
    log.write(Stream::Stdout, numbers(0..300).as_bytes());
    for count in [0, 1, 2, 35, 36, 37, 150, 299, 300, 301, u32::MAX] {
        let mut cursor = cursor(dir.path(), &config, Reach::Growing);
        cursor.seek_to_tail(u64::from(count), &Window::default()).expect("tail");
        assert_eq!(rest(&mut cursor), numbers(300u32.saturating_sub(count)..300), "{count}");
    }
}

#[test]
fn the_tail_counts_a_split_line_once() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = config(LogDriver::JsonFile, u64::MAX, 1);
    let mut log = LogWriter::open(dir.path(), &config).expect("log");
    let wide = "x".repeat(100_000);
    log.write(Stream::Stdout, format!("first\n{wide}\nlast").as_bytes());
    log.flush_partial();
    for (count, expected) in [(1, "last".to_owned()), (2, format!("{wide}\nlast"))] {
        let mut cursor = cursor(dir.path(), &config, Reach::Snapshot);
        cursor.seek_to_tail(count, &Window::default()).expect("tail");
        assert!(rest(&mut cursor) == expected, "{count}");
    }
}

#[test]
fn the_tail_counts_within_the_window() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = config(LogDriver::K8sFile, u64::MAX, 1);
    let path = log_path(dir.path(), LogDriver::K8sFile).expect("path");
    let text: String =
        (0..10).map(|n| format!("2023-11-14T22:13:2{n}Z stdout F {n}\n")).collect::<Vec<_>>().concat();
    std::fs::write(path, text).expect("log");
    let window = |since: &str, until: &str| Window { since: since.parse().ok(), until: until.parse().ok() };
    for (since, until, count, expected) in [
        ("", "2023-11-14T22:13:25Z", 2, "4\n5\n6\n7\n8\n9\n"),
        ("2023-11-14T22:13:28Z", "", 5, "8\n9\n"),
        ("2023-11-14T22:13:28Z", "", 1, "9\n"),
        ("2024-11-14T22:13:28Z", "", 1, ""),
    ] {
        let mut cursor = cursor(dir.path(), &config, Reach::Snapshot);
        cursor.seek_to_tail(count, &window(since, until)).expect("tail");
        assert_eq!(rest(&mut cursor), expected, "{since} {until} {count}");
    }
}

#[test]
fn a_follower_loses_and_repeats_nothing_over_rotations() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = config(LogDriver::JsonFile, 1000, 100);
    let mut follower = cursor(dir.path(), &config, Reach::Growing);
    assert_eq!(rest(&mut follower), "");
    let mut log = LogWriter::open(dir.path(), &config).expect("log");
    let mut seen = String::new();
    for start in (0..1000).step_by(20) {
        // From a part of a file to several files at a time.
        log.write(Stream::Stdout, numbers(start..start + 20).as_bytes());
        if start % 60 == 0 {
            seen += &rest(&mut follower);
        }
    }
    seen += &rest(&mut follower);
    assert_eq!(seen, numbers(0..1000));
}

#[test]
fn a_follower_beside_a_writer_at_full_speed_sees_every_line_once() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = config(LogDriver::K8sFile, 20_000, 1000);
    let mut follower = cursor(dir.path(), &config, Reach::Growing);
    let total = 20_000;
    let seen = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = LogWriter::open(dir.path(), &config).expect("log");
            for start in (0..total).step_by(10) {
                log.write(Stream::Stdout, numbers(start..start + 10).as_bytes());
            }
        });
        let mut seen = String::new();
        let end = format!("line {}\n", total - 1);
        while !seen.ends_with(&end) {
            seen += &rest(&mut follower);
        }
        seen
    });
    assert!(seen == numbers(0..total), "lines were lost or repeated");
}

#[test]
fn a_follower_that_is_overtaken_goes_on_with_the_oldest_file() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = config(LogDriver::K8sFile, 1000, 2);
    let mut log = LogWriter::open(dir.path(), &config).expect("log");
    log.write(Stream::Stdout, numbers(0..1).as_bytes());
    let mut follower = cursor(dir.path(), &config, Reach::Growing);
    log.write(Stream::Stdout, numbers(1..1000).as_bytes());
    let seen = rest(&mut follower);
    assert!(seen.starts_with(&numbers(0..10)) && seen.ends_with(&numbers(990..1000)), "{seen}");
    assert!(seen.lines().count() < 100);
}

#[test]
fn what_is_no_record_is_passed_over() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = config(LogDriver::K8sFile, u64::MAX, 1);
    let path = log_path(dir.path(), LogDriver::K8sFile).expect("path");
    let mut file = std::fs::File::create(path).expect("log");
    file.write_all(b"garbage\n2023-11-14T22:13:20Z stdout F one\n\n\0\0\n").expect("write");
    file.write_all(&vec![b'x'; 3 * LONGEST_LINE]).expect("write");
    file.write_all(b"\n2023-11-14T22:13:20Z stdout F two\n2023-11-14T22:13:20Z stdout F to").expect("write");
    let mut follower = cursor(dir.path(), &config, Reach::Growing);
    assert_eq!(rest(&mut follower), "one\ntwo\n");
    file.write_all(b"rn\n").expect("write");
    assert_eq!(rest(&mut follower), "torn\n");
    let mut tail = cursor(dir.path(), &config, Reach::Snapshot);
    tail.seek_to_tail(3, &Window::default()).expect("tail");
    assert_eq!(rest(&mut tail), "one\ntwo\ntorn\n");
}

#[test]
fn an_emptied_log_is_read_from_its_beginning() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = config(LogDriver::JsonFile, u64::MAX, 1);
    let mut log = LogWriter::open(dir.path(), &config).expect("log");
    log.write(Stream::Stdout, numbers(0..100).as_bytes());
    let mut follower = cursor(dir.path(), &config, Reach::Growing);
    assert_eq!(rest(&mut follower), numbers(0..100));
    let path = log_path(dir.path(), LogDriver::JsonFile).expect("path");
    std::fs::OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(0)).expect("emptied");
    log.write(Stream::Stdout, numbers(100..102).as_bytes());
    assert_eq!(rest(&mut follower), numbers(100..102));
}
