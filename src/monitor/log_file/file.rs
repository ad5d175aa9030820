//! The files of a log: appending, rotation, and what happens on a full disk.

use crate::error::{BestEffort, Context, Result};
use memchr::{memchr_iter, memrchr};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes at the end of a file among which the last whole record must end: more
/// than the longest record (16 KiB of text and 16 of attributes, whose bytes take
/// six bytes each).
const LONGEST_RECORD: u64 = 256 << 10;

/// The current file, and how it becomes an older one.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// Bytes in `file`.
    size: u64,
    /// Bytes.
    max_size: u64,
    /// Files kept, the current one included.
    max_file: u32,
    rotation: Rotation,
    /// Records that could not be written, and why the last one could not.
    lost: Option<(u64, Errno)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rotation {
    Allowed,
    /// Refused by the file system: not tried again for each record of a batch.
    Refused,
}

impl LogFile {
    /// # Errors
    /// `Failed` where the file cannot be opened, made or looked at.
    pub(super) fn open(path: PathBuf, max_size: u64, max_file: u32) -> Result<Self> {
        let file = open(&path, OFlags::APPEND).context(|| format!("open the log {}", path.display()))?;
        let size = cut_torn_record(&file).context(|| format!("look at the log {}", path.display()))?;
        Ok(Self { path, file, size, max_size, max_file, rotation: Rotation::Allowed, lost: None })
    }

    /// Allows one more attempt to rotate, after one that was refused.
    pub(super) fn allow_rotation(&mut self) {
        self.rotation = Rotation::Allowed;
    }

    /// Whether a batch of `with` bytes does not fit any more where its first
    /// `without` bytes, all but its last record, do.
    pub(super) fn overflows(&self, without: usize, with: usize) -> bool {
        let old = self.size + without as u64;
        old > 0 && old + (with - without) as u64 > self.max_size && self.rotation == Rotation::Allowed
    }

    /// Makes the current file an older one and begins a new one. Where the file
    /// system refuses, the log goes on in the current file (see [`Self::append`]).
    pub(super) fn rotate(&mut self) {
        match self.try_rotate() {
            Ok(file) => {
                self.file = file;
                self.size = 0;
            }
            Err(_) => self.rotation = Rotation::Refused,
        }
    }

    /// The new file is made first, so that a full disk changes nothing. A
    /// missing number (after a crash between two renames) does no harm.
    fn try_rotate(&self) -> std::io::Result<File> {
        let next = self.numbered("new");
        let file = open(&next, OFlags::APPEND | OFlags::TRUNC)?;
        for number in (1..self.max_file).rev() {
            let from = if number == 1 { self.path.clone() } else { self.numbered(&(number - 1).to_string()) };
            match std::fs::rename(from, self.numbered(&number.to_string())) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(next, &self.path)?;
        Ok(file)
    }

    fn numbered(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(suffix);
        name.into()
    }

    /// Appends whole records. What cannot be written is dropped and counted.
    pub(super) fn append(&mut self, records: &[u8]) {
        if self.rotation == Rotation::Refused && self.size >= self.max_size.saturating_mul(2) {
            // The limit was promised; a disk that lets files grow but none be
            // made must not void it.
            return self.count_lost(records, Errno::NOSPC);
        }
        let mut rest = records;
        while !rest.is_empty() {
            match rustix::io::write(&self.file, rest) {
                Ok(0) => return self.give_up(records, rest, Errno::NOSPC),
                Ok(count) => rest = &rest[count..],
                Err(Errno::INTR) => {}
                Err(errno) => return self.give_up(records, rest, errno),
            }
        }
        self.size += records.len() as u64;
    }

    /// After a failed write: keeps the records that are whole in the file.
    fn give_up(&mut self, records: &[u8], rest: &[u8], errno: Errno) {
        let written = records.len() - rest.len();
        let whole = memrchr(b'\n', &records[..written]).map_or(0, |at| at + 1);
        if whole < written {
            let end = self.file.metadata().map_or(0, |meta| meta.len());
            self.file.set_len(end.saturating_sub((written - whole) as u64)).or_ignore();
        }
        self.size += whole as u64;
        self.count_lost(&records[whole..], errno);
    }

    fn count_lost(&mut self, records: &[u8], errno: Errno) {
        let before = self.lost.map_or(0, |(count, _)| count);
        self.lost = Some((before + memchr_iter(b'\n', records).count() as u64, errno));
    }

    /// What to tell in the log about records that were lost, if any were.
    pub(super) fn lost_note(&self) -> Option<String> {
        let (count, errno) = self.lost?;
        let cause = std::io::Error::from(errno).to_string();
        let cause = cause.split(" (os error").next().unwrap_or_default();
        Some(format!("coracle: {count} lines of output are not in this log: {cause}"))
    }

    /// Appends the record of [`Self::lost_note`]; keeps the count where it fails.
    pub(super) fn append_note(&mut self, note: &[u8]) {
        let lost = self.lost.take();
        self.append(note);
        if self.lost.is_some() {
            self.lost = lost;
        }
    }
}

fn open(path: &Path, flags: OFlags) -> std::io::Result<File> {
    let flags = flags | OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(File::from(fd))
}

/// Cuts off a record that a crash left without its end; the next one would be
/// glued to it. Gives the size of the file.
fn cut_torn_record(file: &File) -> std::io::Result<u64> {
    let size = file.metadata()?.len();
    let start = size.saturating_sub(LONGEST_RECORD);
    if size == 0 {
        return Ok(0);
    }
    let mut last = [0];
    file.read_exact_at(&mut last, size - 1)?;
    if last == [b'\n'] {
        return Ok(size);
    }
    let mut tail = vec![0; (size - start) as usize];
    file.read_exact_at(&mut tail, start)?;
    let end = memrchr(b'\n', &tail).map_or(start, |at| start + at as u64 + 1);
    file.set_len(end)?;
    Ok(end)
}

#[cfg(test)]
impl LogFile {
    /// Puts another file in the place of the current one, for a full disk.
    pub(super) fn replace(&mut self, file: File) -> File {
        std::mem::replace(&mut self.file, file)
    }
}
