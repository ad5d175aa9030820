//! The writer of a container's log, used in its monitor.
//!
//! A driver keeps one *record* a line of output: `json-file` writes docker's
//! JSON lines, `k8s-file` the lines of the Kubernetes CRI, and so does `local`,
//! whose form docker leaves to itself. A line longer than
//! [`MAX_PIECE`] becomes several records of which only the last one is marked
//! as complete, as docker does, so an endless line takes bounded memory.
//!
//! * A record is whole in one file: rotation happens between two records, by
//!   renaming (`log` to `log.1` to `log.2`), never by truncating.
//! * Many records make one write(2), and have the time of that write.
//! * Without `max-size` and `max-file` a log is [`DEFAULT_MAX_SIZE`] times
//!   [`DEFAULT_MAX_FILE`] at most: docker's default, no limit, fills disks.
//! * A full disk must not end the container: records that cannot be written
//!   are dropped and counted, and one record on stderr tells how many when the
//!   log can be written again. So writing gives no error.
//! * The log holds what programs print; that it is lost in a crash of the
//!   machine is accepted: there is no fsync. A record torn by a crash is cut
//!   off when the log is opened again.

mod attributes;
mod encode;
mod file;

use crate::error::Result;
use crate::types::container::{LogConfig, LogDriver};
pub(crate) use attributes::attributes;
use encode::Encoder;
use file::LogFile;
use memchr::memchr;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Bytes of a line in one record; docker's figure, which programs that read
/// its logs expect.
pub(crate) const MAX_PIECE: usize = 16 << 10;
/// Bytes of a file after which it is rotated, where `max-size` is not given.
pub(crate) const DEFAULT_MAX_SIZE: u64 = 10 << 20;
/// Files kept, the current one included, where `max-file` is not given.
pub(crate) const DEFAULT_MAX_FILE: u32 = 3;
/// The same of docker's driver `local`.
const LOCAL_MAX_SIZE: u64 = 20 << 20;
const LOCAL_MAX_FILE: u32 = 5;
/// Files kept at most: each rotation renames all of them.
const MOST_FILES: u32 = 1000;
/// Bytes of records gathered for one write(2).
const BATCH: usize = 64 << 10;

/// Where a container printed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// As both log formats spell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The current file of a container's log; older ones have `.1`, `.2`, …
/// appended. `None` where the driver keeps no log.
pub(crate) fn log_path(dir: &Path, driver: LogDriver) -> Option<PathBuf> {
    match driver {
        LogDriver::JsonFile => Some(dir.join("log.json")),
        LogDriver::K8sFile => Some(dir.join("log.txt")),
        LogDriver::Local => Some(dir.join("log.local")),
        LogDriver::None | LogDriver::Passthrough => None,
    }
}

/// How many files the log has at most, the current one included.
pub(crate) fn files_kept(config: &LogConfig) -> u32 {
    let default = if config.driver == LogDriver::Local { LOCAL_MAX_FILE } else { DEFAULT_MAX_FILE };
    config.max_file.unwrap_or(default).clamp(1, MOST_FILES)
}

/// Bytes of a file after which it is rotated.
fn size_kept(config: &LogConfig) -> u64 {
    let default = if config.driver == LogDriver::Local { LOCAL_MAX_SIZE } else { DEFAULT_MAX_SIZE };
    config.max_size.unwrap_or(default)
}

/// Turns a container's output into a log. See the module for what it promises.
#[derive(Debug)]
pub(crate) struct LogWriter {
    /// `None` where the driver keeps no log.
    sink: Option<Sink>,
    /// The beginning of an incomplete line, for stdout and for stderr.
    incomplete: [Vec<u8>; 2],
}

impl LogWriter {
    /// Opens the log in the container's directory `dir`, or goes on with the
    /// one that is there.
    ///
    /// # Errors
    /// `Failed` where the file cannot be opened or made.
    pub(crate) fn open(dir: &Path, config: &LogConfig) -> Result<Self> {
        let sink = match log_path(dir, config.driver) {
            None => None,
            Some(path) => {
                let file = LogFile::open(path, size_kept(config), files_kept(config))?;
                Some(Sink { encoder: Encoder::new(config.driver), file, batch: Vec::new() })
            }
        };
        Ok(Self { sink, incomplete: [Vec::new(), Vec::new()] })
    }

    /// Puts what is to be said of the container into each record from now on.
    pub(crate) fn describe(&mut self, attributes: &BTreeMap<String, String>) {
        if let Some(sink) = &mut self.sink {
            sink.encoder.describe(attributes);
        }
    }

    /// Logs what the container printed. All complete lines are in the file
    /// when this returns; the rest of `bytes` waits for its end of line.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let Some(sink) = &mut self.sink else { return };
        sink.begin(stream);
        split(&mut self.incomplete[stream as usize], bytes, |piece, end| sink.push(piece, end));
        sink.flush();
    }

    /// Logs an incomplete last line, at the end of a run's output.
    pub(crate) fn flush_partial(&mut self) {
        let Some(sink) = &mut self.sink else { return };
        for stream in [Stream::Stdout, Stream::Stderr] {
            let line = std::mem::take(&mut self.incomplete[stream as usize]);
            sink.begin(stream);
            if !line.is_empty() {
                sink.push(&line, LineEnd::Open);
            }
        }
        sink.flush();
    }

    /// Whether a line without its end waits for [`Self::flush_partial`].
    #[cfg(test)]
    pub(crate) fn needs_flush(&self) -> bool {
        self.incomplete.iter().any(|line| !line.is_empty())
    }
}

/// Whether a record ends its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnd {
    /// A newline followed.
    Newline,
    /// The line goes on in the next record of this stream, or the output ended.
    Open,
}

/// Gives the lines in `incomplete` followed by `bytes` to `emit`, without their
/// newline, and leaves what has no newline yet in `incomplete`.
fn split(incomplete: &mut Vec<u8>, bytes: &[u8], mut emit: impl FnMut(&[u8], LineEnd)) {
    let mut rest = bytes;
    while !rest.is_empty() {
        // One byte more than fits: the newline of a line that just fits.
        let window = &rest[..rest.len().min(MAX_PIECE + 1 - incomplete.len())];
        let newline = memchr(b'\n', window);
        rest = &rest[newline.map_or(window.len(), |at| at + 1)..];
        let line = &window[..newline.unwrap_or(window.len())];
        if incomplete.is_empty() && newline.is_some() {
            emit(line, LineEnd::Newline);
            continue;
        }
        incomplete.extend_from_slice(line);
        if newline.is_some() {
            emit(incomplete, LineEnd::Newline);
            incomplete.clear();
        } else if incomplete.len() > MAX_PIECE {
            let cut = character_boundary(&incomplete[..MAX_PIECE]);
            emit(&incomplete[..cut], LineEnd::Open);
            incomplete.drain(..cut);
        }
    }
}

/// Where to cut after `text` so that no UTF-8 sequence is torn: each half of
/// one would be logged as a replacement character.
fn character_boundary(text: &[u8]) -> usize {
    let tail = text.len().saturating_sub(3);
    match text[tail..].iter().rposition(|byte| byte & 0xc0 != 0x80).map(|at| tail + at) {
        Some(lead) if text[lead] >= 0xc0 && std::str::from_utf8(&text[lead..]).is_err() => lead,
        _ => text.len(),
    }
}

/// Records on their way to the file.
#[derive(Debug)]
struct Sink {
    encoder: Encoder,
    file: LogFile,
    batch: Vec<u8>,
}

impl Sink {
    /// One clock read for all records until the next `begin`.
    fn begin(&mut self, stream: Stream) {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        self.encoder.begin(stream, since_epoch);
        self.file.allow_rotation();
    }

    fn push(&mut self, piece: &[u8], end: LineEnd) {
        let before = self.batch.len();
        self.encoder.push(&mut self.batch, piece, end);
        if self.file.overflows(before, self.batch.len()) {
            let last = self.batch.split_off(before);
            self.flush();
            self.file.rotate();
            self.batch = last;
        }
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if let Some(text) = self.file.lost_note() {
            let mut note = Vec::new();
            self.encoder.note(&mut note, &text);
            self.file.append_note(&note);
        }
        self.file.append(&self.batch);
        self.batch.clear();
    }
}

#[cfg(test)]
mod tests;
