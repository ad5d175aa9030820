//! A container's log for a person to read.

pub(crate) mod moment;

use crate::error::{Context, Error, Result};
use crate::monitor::log_file::Stream;
use crate::monitor::log_reader::{
    Awakened, Cursor, Plain, Reach, Record, Watch, Window, decode, details, plain,
};
use crate::types::container::{LogConfig, LogDriver};
use jiff::Timestamp;
use std::io::{ErrorKind, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
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
    /// What the log says of the container, before each line of a json-file.
    pub(crate) details: bool,
    /// Both streams go to one file: they need not be kept apart.
    pub(crate) one_output: bool,
    /// Put before each line: whose it is.
    pub(crate) label: Option<Label>,
}

/// Tells the lines of several containers apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Label {
    /// Empty, or a name and a blank.
    pub(crate) text: String,
    /// The number of an ANSI colour for the whole line: 31 is red.
    pub(crate) colour: Option<u8>,
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
    Error::invalid("configured logging driver does not support reading")
        .hint(format!("{name} keeps no log: make the container with --log-driver json-file or k8s-file"))
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
    details: bool,
    one_output: bool,
    label: Option<Label>,
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
        Self {
            window,
            timestamps: options.timestamps,
            details: options.details,
            one_output: options.one_output,
            label: options.label.clone(),
            out,
            err,
            pending: Vec::new(),
            stream: Stream::Stdout,
            begins_line: [true; 2],
        }
    }

    /// Prints what the cursor has left.
    fn print_rest(&mut self, cursor: &mut Cursor) -> Result<Reader> {
        let driver = cursor.driver();
        // Of each record the time is needed only where a window is asked for.
        let every_time = self.window == Window::default() && !self.details;
        while let Some(lines) = cursor.next_lines()? {
            let mut begin = 0;
            for end in memchr::memchr_iter(b'\n', lines) {
                let line = &lines[begin..end];
                begin = end + 1;
                if every_time
                    && let Some(plain) = plain(driver, line)
                    && let Some(reader) = self.push_plain(&plain)?
                {
                    if reader == Reader::Gone {
                        return Ok(Reader::Gone);
                    }
                    continue;
                }
                if let Some(record) = decode(driver, line).filter(|record| self.window.contains(record.time))
                    && self.push(&record, &self.details_of(driver, line))? == Reader::Gone
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

    /// `None` where the line is not so plain: nothing was done with it.
    fn push_plain(&mut self, plain: &Plain<'_>) -> Result<Option<Reader>> {
        if self.turn_to(plain.stream)? == Reader::Gone {
            return Ok(Some(Reader::Gone));
        }
        let before = self.pending.len();
        let begins_line = self.begins_line[plain.stream as usize];
        if begins_line {
            self.push_label();
            if self.timestamps {
                plain.append_time(&mut self.pending);
            }
        }
        let Some(ends_line) = plain.append(&mut self.pending) else {
            self.pending.truncate(before);
            return Ok(None);
        };
        self.end_record(plain.stream, ends_line);
        Ok(Some(Reader::There))
    }

    /// Docker's prefix: with a blank also where there is nothing.
    fn details_of(&self, driver: LogDriver, line: &[u8]) -> String {
        if self.details && driver == LogDriver::JsonFile {
            details(driver, line) + " "
        } else {
            String::new()
        }
    }

    fn push(&mut self, record: &Record<'_>, details: &str) -> Result<Reader> {
        if self.turn_to(record.stream)? == Reader::Gone {
            return Ok(Reader::Gone);
        }
        if self.begins_line[record.stream as usize] {
            self.push_label();
            if self.timestamps {
                let time = record.time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ ").to_string();
                self.pending.extend_from_slice(time.as_bytes());
            }
            self.pending.extend_from_slice(details.as_bytes());
        }
        self.pending.extend_from_slice(&record.text);
        self.end_record(record.stream, record.ends_line());
        Ok(Reader::There)
    }

    /// What is pending is of one stream.
    fn turn_to(&mut self, stream: Stream) -> Result<Reader> {
        if stream != self.stream && !self.one_output {
            if self.flush()? == Reader::Gone {
                return Ok(Reader::Gone);
            }
            self.stream = stream;
        }
        Ok(Reader::There)
    }

    fn push_label(&mut self) {
        if let Some(label) = &self.label {
            if let Some(colour) = label.colour {
                self.pending.extend_from_slice(format!("\x1b[{colour}m").as_bytes());
            }
            self.pending.extend_from_slice(label.text.as_bytes());
        }
    }

    fn end_record(&mut self, stream: Stream, ends_line: bool) {
        self.begins_line[stream as usize] = ends_line;
        if ends_line && self.label.as_ref().is_some_and(|label| label.colour.is_some()) {
            self.pending.pop();
            self.pending.extend_from_slice(b"\x1b[0m\n");
        }
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

/// A descriptor to write to as it is: no buffer cuts blocks into lines, as
/// those of `std::io::stdout` do. `turn` keeps blocks of several writers apart.
#[derive(Debug)]
pub(crate) struct Direct<'a> {
    pub(crate) fd: BorrowedFd<'a>,
    pub(crate) turn: &'a Mutex<()>,
}

impl Write for Direct<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _turn = self.turn.lock();
        let mut written = 0;
        while written < bytes.len() {
            match rustix::io::write(self.fd, &bytes[written..]) {
                Ok(count) => written += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) if written > 0 => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
