use super::*;
use std::fs;

fn config(driver: LogDriver, max_size: u64, max_file: u32) -> LogConfig {
    LogConfig { driver, max_size: Some(max_size), max_file: Some(max_file), ..LogConfig::default() }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The texts of the k8s records in `path`, with `+` where the line goes on.
fn k8s_texts(path: &Path) -> Vec<String> {
    let field = |line: &str| {
        let mut fields = line.splitn(4, ' ').skip(2);
        let open = if fields.next() == Some("P") { "+" } else { "" };
        format!("{}{open}", fields.next().expect("four fields"))
    };
    text(path).lines().map(field).collect()
}

#[test]
fn lines_are_joined_over_writes_and_streams_kept_apart() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = config(LogDriver::K8sFile, u64::MAX, 1);
    let mut log = LogWriter::open(dir.path(), &config).expect("log");
    log.write(Stream::Stdout, b"one\ntw");
    log.write(Stream::Stderr, b"err");
    assert!(log.needs_flush());
    log.write(Stream::Stdout, b"o\n\nthree");
    log.flush_partial();
    assert!(!log.needs_flush());
    let path = log_path(dir.path(), LogDriver::K8sFile).expect("path");
    assert_eq!(k8s_texts(&path), ["one", "two", "", "three+", "err+"]);
}

#[test]
fn a_long_line_is_split_as_docker_does_and_loses_nothing() {
    for chunk in [1000, MAX_PIECE, 100_000] {
        let mut incomplete = Vec::new();
        let mut pieces: Vec<(Vec<u8>, LineEnd)> = Vec::new();
        let line: Vec<u8> = [vec![b'x'; MAX_PIECE], vec![b'y'; MAX_PIECE], b"z\nend".to_vec()].concat();
        for bytes in line.chunks(chunk) {
            split(&mut incomplete, bytes, |piece, end| pieces.push((piece.to_vec(), end)));
            assert!(incomplete.len() <= MAX_PIECE);
        }
        let lengths: Vec<_> = pieces.iter().map(|(piece, end)| (piece.len(), *end)).collect();
        let (open, newline) = (LineEnd::Open, LineEnd::Newline);
        assert_eq!(lengths, [(MAX_PIECE, open), (MAX_PIECE, open), (1, newline)], "{chunk}");
        assert_eq!(incomplete, b"end");
    }
}

#[test]
fn a_line_that_just_fits_is_one_record() {
    let mut count = 0;
    let line = [vec![b'x'; MAX_PIECE], b"\n".to_vec()].concat();
    split(&mut Vec::new(), &line, |piece, end| {
        count += 1;
        assert_eq!((piece.len(), end), (MAX_PIECE, LineEnd::Newline));
    });
    assert_eq!(count, 1);
}

#[test]
fn a_split_does_not_tear_a_character() {
    let mut rebuilt = String::new();
    let line = format!("a{}\n", "é€𝄞".repeat(5000));
    split(&mut Vec::new(), line.as_bytes(), |piece, _| {
        rebuilt.push_str(std::str::from_utf8(piece).expect("whole characters"));
    });
    assert_eq!(format!("{rebuilt}\n"), line);
    assert_eq!(character_boundary(&[0x80, 0x80, 0x80, 0x80]), 4);
    assert_eq!(character_boundary(b""), 0);
    assert_eq!(character_boundary("aé".as_bytes()), 3);
    assert_eq!(character_boundary(&"a𝄞".as_bytes()[..4]), 1);
}

#[test]
fn rotation_loses_no_line_and_keeps_files_below_the_limit() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut log = LogWriter::open(dir.path(), &config(LogDriver::K8sFile, 1000, 100)).expect("log");
    let lines: Vec<String> = (0..500).map(|number| format!("line {number}")).collect();
    for batch in lines.chunks(37) {
        log.write(Stream::Stdout, (batch.join("\n") + "\n").as_bytes());
    }
    let base = log_path(dir.path(), LogDriver::K8sFile).expect("path");
    let mut seen = Vec::new();
    for number in (1..100).rev() {
        let path = PathBuf::from(format!("{}.{number}", base.display()));
        assert!(text(&path).len() <= 1000);
        seen.extend(k8s_texts(&path));
    }
    seen.extend(k8s_texts(&base));
    assert_eq!(seen, lines);
}

#[test]
fn only_so_many_files_are_kept() {
    for kept in [1, 2, 3] {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut log = LogWriter::open(dir.path(), &config(LogDriver::JsonFile, 200, kept)).expect("log");
        for number in 0..100 {
            log.write(Stream::Stdout, format!("line {number}\n").as_bytes());
        }
        let files = fs::read_dir(dir.path()).expect("directory").count();
        assert_eq!(files, kept as usize);
        let base = log_path(dir.path(), LogDriver::JsonFile).expect("path");
        assert!(text(&base).contains("line 99"));
    }
}

#[test]
fn a_restart_appends_and_cuts_off_a_torn_record() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = config(LogDriver::K8sFile, u64::MAX, 1);
    let path = log_path(dir.path(), LogDriver::K8sFile).expect("path");
    LogWriter::open(dir.path(), &config).expect("log").write(Stream::Stdout, b"one\n");
    let torn = text(&path) + "2023-11-14T22:13:20.0000000";
    for bytes in [torn.into_bytes(), [text(&path).into_bytes(), vec![0; 4096]].concat()] {
        fs::write(&path, bytes).expect("torn log");
        LogWriter::open(dir.path(), &config).expect("log").write(Stream::Stdout, b"two\n");
        assert_eq!(k8s_texts(&path), ["one", "two"]);
        let first = text(&path).lines().next().expect("a line").to_owned() + "\n";
        fs::write(&path, first).expect("one record");
    }
}

#[test]
fn a_full_disk_drops_whole_records_and_tells_how_many() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut log = LogWriter::open(dir.path(), &config(LogDriver::K8sFile, u64::MAX, 1)).expect("log");
    log.write(Stream::Stdout, b"one\n");
    let path = log_path(dir.path(), LogDriver::K8sFile).expect("path");
    let sink = log.sink.as_mut().expect("sink");
    let good = sink.file.replace(fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full"));
    log.write(Stream::Stdout, b"two\nthree\n");
    log.write(Stream::Stdout, b"four\n");
    log.sink.as_mut().expect("sink").file.replace(good);
    log.write(Stream::Stdout, b"five\n");
    let note = "coracle: 3 lines of output are not in this log: No space left on device";
    assert_eq!(k8s_texts(&path), ["one", note, "five"]);
}

#[test]
fn a_symbolic_link_in_place_of_the_log_is_not_followed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = log_path(dir.path(), LogDriver::JsonFile).expect("path");
    std::os::unix::fs::symlink("victim", path).expect("link");
    assert!(LogWriter::open(dir.path(), &LogConfig::default()).is_err());
}

#[test]
fn drivers_without_a_log_write_nothing() {
    for driver in [LogDriver::None, LogDriver::Passthrough] {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut log = LogWriter::open(dir.path(), &config(driver, 100, 1)).expect("log");
        log.write(Stream::Stdout, b"text\n");
        assert!(!log.needs_flush());
        assert_eq!(fs::read_dir(dir.path()).expect("directory").count(), 0);
    }
}
