//! A container's log for a person to read.

pub(crate) mod moment;

use crate::error::{Context, Error, Result};
use crate::monitor::log_file::Stream;
use crate::monitor::log_reader::{Awakened, Cursor, Reach, Record, Watch, Window, decode};
use crate::types::container::LogConfig;
use jiff::Timestamp;
use std::io::{ErrorKind, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogOptions {
    pub(crate) follow: bool,
    /// The last so many lines; all where `None`.
    pub(crate) tail: Option<u64>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    /// A time before each line, UTC with nine digits, as docker prints it.
    pub(crate) timestamps: bool,
}

/// Where a container's log is.
#[derive(Debug)]
pub(crate) struct LogSource {
    /// The container's directory.
    pub(crate) dir: PathBuf,
    pub(crate) log: LogConfig,
    /// Readable or hung up when the container has ended and will not be
    /// restarted: a control connection on which `Request::Wait` was sent.
    /// `None` where it has ended already, or has never run.
    pub(crate) ended: Option<OwnedFd>,
}

/// Prints the log of the container in `dir`: its stdout to `out`, its stderr to
/// `err`. With `follow` and `ended` it goes on until `ended` is readable or hung
/// up, and prints all that was logged before that. Ends quietly where the
/// reader of `out` or `err` is gone.
///
/// # Errors
/// `Invalid` where the driver keeps no log; `Failed` where the log cannot be
/// read or the output not be written.
pub(crate) fn print(
    dir: &Path,
    log: &LogConfig,
    options: &LogOptions,
    ended: Option<BorrowedFd<'_>>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<()> {
    let ended = ended.filter(|_| options.follow);
    // Before the first look, so that nothing written after it goes unnoticed.
    let watch = ended.map(|_| Watch::new(dir));
    let reach = if ended.is_some() { Reach::Growing } else { Reach::Snapshot };
    let mut cursor = Cursor::open(dir, log, reach)?.ok_or_else(|| no_log(log))?;
    let window = Window { since: options.since, until: options.until };
    match options.tail {
        Some(count) => cursor.seek_to_tail(count, &window)?,
        None => cursor.skip_files_before(&window),
    }
    let mut printer = Printer::new(options, window, out, err);
    let mut last_look = ended.is_none();
    loop {
        match printer.print_rest(&mut cursor)? {
            Reader::Gone => return Ok(()),
            Reader::There if last_look || is_past(options.until) => return Ok(()),
            Reader::There => {}
        }
        if let (Some(watch), Some(ended)) = (&watch, ended) {
            last_look = watch.wait(ended, options.until)? == Awakened::Ended;
        }
    }
}

fn no_log(log: &LogConfig) -> Error {
    let name = format!("{:?}", log.driver).to_lowercase();
    Error::invalid(format!("the log driver {name} keeps no log that could be read"))
        .hint("make the container with --log-driver json-file or k8s-file")
}

fn is_past(until: Option<Timestamp>) -> bool {
    until.is_some_and(|until| Timestamp::now() > until)
}

/// Whether anybody still reads what we print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    There,
    Gone,
}

/// Formats records and prints them in blocks, in the order of the log.
struct Printer<'a> {
    window: Window,
    timestamps: bool,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    /// Not printed yet: of one stream, at most a block of the log.
    pending: Vec<u8>,
    stream: Stream,
    /// For stdout and stderr: whether the next record begins a line.
    begins_line: [bool; 2],
}

impl<'a> Printer<'a> {
    fn new(options: &LogOptions, window: Window, out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        let timestamps = options.timestamps;
        let (pending, stream, begins_line) = (Vec::new(), Stream::Stdout, [true; 2]);
        Self { window, timestamps, out, err, pending, stream, begins_line }
    }

    /// Prints what the cursor has left.
    fn print_rest(&mut self, cursor: &mut Cursor) -> Result<Reader> {
        let driver = cursor.driver();
        while let Some(lines) = cursor.next_lines()? {
            for line in lines.split_inclusive(|byte| *byte == b'\n') {
                let record = decode(driver, line.strip_suffix(b"\n").unwrap_or(line));
                if let Some(record) = record.filter(|record| self.window.contains(record.time))
                    && self.push(&record)? == Reader::Gone
                {
                    return Ok(Reader::Gone);
                }
            }
            if self.flush()? == Reader::Gone {
                return Ok(Reader::Gone);
            }
        }
        Ok(Reader::There)
    }

    fn push(&mut self, record: &Record<'_>) -> Result<Reader> {
        if record.stream != self.stream {
            if self.flush()? == Reader::Gone {
                return Ok(Reader::Gone);
            }
            self.stream = record.stream;
        }
        let begins_line =
            std::mem::replace(&mut self.begins_line[record.stream as usize], record.ends_line());
        if self.timestamps && begins_line {
            let time = record.time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ ").to_string();
            self.pending.extend_from_slice(time.as_bytes());
        }
        self.pending.extend_from_slice(&record.text);
        Ok(Reader::There)
    }

    fn flush(&mut self) -> Result<Reader> {
        let (to, name): (&mut dyn Write, _) = match self.stream {
            Stream::Stdout => (&mut *self.out, "standard output"),
            Stream::Stderr => (&mut *self.err, "standard error"),
        };
        let result = write_fully(to, &self.pending);
        self.pending.clear();
        match result {
            Ok(()) => Ok(Reader::There),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
            Err(error) => Err(error).context(|| format!("write to {name}")),
        }
    }
}

/// Writes all, also to a terminal or pipe that someone made non-blocking.
fn write_fully(to: &mut dyn Write, mut bytes: &[u8]) -> std::io::Result<()> {
    /// A `Write` has no descriptor to wait for.
    const PAUSE: Duration = Duration::from_millis(5);
    loop {
        let result = if bytes.is_empty() { to.flush().map(|()| 0) } else { to.write(bytes) };
        match result {
            Ok(_) if bytes.is_empty() => return Ok(()),
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
