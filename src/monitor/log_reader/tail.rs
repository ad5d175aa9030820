//! Finding the last lines of a log by reading it backwards.

use super::files::OpenLog;
use super::{BLOCK, LONGEST_LINE, Window, decode};
use crate::types::container::LogDriver;
use memchr::memrchr;
use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Sets the offsets of `files` (oldest first) to the last `count` lines within
/// `window`, and drops the files before them.
///
/// A line that was split into several records counts once. Where records of
/// the other stream stand between its pieces, its first ones may be cut off.
pub(super) fn seek_to_tail(
    files: &mut VecDeque<OpenLog>,
    driver: LogDriver,
    count: u64,
    window: &Window,
) -> std::io::Result<()> {
    let mut seen = Count::default();
    for index in (0..files.len()).rev() {
        let log = &mut files[index];
        let mut lines = Backwards::new(&log.file, log.size);
        log.offset = lines.skip_torn()?;
        while let Some((offset, line)) = lines.previous()? {
            if let Some(record) = decode(driver, line) {
                let wanted = !window.is_before(record.time)
                    && (window.is_after(record.time) || seen.take(&record, count));
                if !wanted {
                    files.drain(..index);
                    return Ok(());
                }
            }
            log.offset = offset;
        }
    }
    Ok(())
}

/// How many lines were seen, reading backwards.
#[derive(Default)]
struct Count {
    lines: u64,
    /// For stdout and stderr: whether any record was seen.
    seen: [bool; 2],
}

impl Count {
    /// Whether `record` is among the last `limit` lines. A record begins a
    /// line (backwards) where it ends one, or where it is the last of all.
    fn take(&mut self, record: &super::Record<'_>, limit: u64) -> bool {
        let seen = std::mem::replace(&mut self.seen[record.stream as usize], true);
        if record.ends_line() || !seen {
            self.lines += 1;
        }
        self.lines <= limit
    }
}

/// Reads a file's lines from the last to the first.
struct Backwards<'a> {
    file: &'a File,
    /// Where `block` begins in the file.
    start: u64,
    block: Vec<u8>,
    /// `block[..end]` was not given out yet; its last byte is a newline.
    end: usize,
}

impl<'a> Backwards<'a> {
    fn new(file: &'a File, size: u64) -> Self {
        // The newline ends what follows the last real one, a torn record.
        Self { file, start: size, block: vec![b'\n'], end: 1 }
    }

    /// Passes over what follows the last newline; gives where that begins.
    fn skip_torn(&mut self) -> std::io::Result<u64> {
        Ok(self.previous()?.map_or(0, |(offset, _)| offset))
    }

    /// The line before the last one given, without its newline, and its offset.
    fn previous(&mut self) -> std::io::Result<Option<(u64, &[u8])>> {
        if self.end == 0 {
            return Ok(None);
        }
        // Nothing below `searched` bytes from the end needs another look.
        let mut searched = self.end - 1;
        loop {
            let line_end = self.end - 1;
            let begin = memrchr(b'\n', &self.block[..searched]).map(|at| at + 1);
            if begin.is_some() || self.start == 0 {
                let begin = begin.unwrap_or(0);
                self.end = begin;
                return Ok(Some((self.start + begin as u64, &self.block[begin..line_end])));
            }
            searched = self.prepend()?;
        }
    }

    /// Puts the block before `start` in front; gives its length.
    fn prepend(&mut self) -> std::io::Result<usize> {
        let kept = if self.end > LONGEST_LINE {
            // Too long for a record: its text is not kept.
            vec![b'\n']
        } else {
            self.block[..self.end].to_vec()
        };
        let length = self.start.min(BLOCK as u64) as usize;
        self.start -= length as u64;
        self.block.resize(length, 0);
        self.file.read_exact_at(&mut self.block[..length], self.start)?;
        self.block.extend_from_slice(&kept);
        self.end = self.block.len();
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backwards(text: &[u8]) -> Vec<(u64, usize)> {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("file");
        std::fs::write(&path, text).expect("file");
        let file = File::open(&path).expect("file");
        let mut lines = Backwards::new(&file, text.len() as u64);
        let mut found = vec![(lines.skip_torn().expect("read"), usize::MAX)];
        while let Some((offset, line)) = lines.previous().expect("read") {
            found.push((offset, line.len()));
        }
        found
    }

    #[test]
    fn lines_come_from_the_last_to_the_first_with_their_offsets() {
        let torn = usize::MAX;
        assert_eq!(backwards(b""), [(0, torn)]);
        assert_eq!(backwards(b"\n"), [(1, torn), (0, 0)]);
        assert_eq!(backwards(b"ab\n\nc\n"), [(6, torn), (4, 1), (3, 0), (0, 2)]);
        assert_eq!(backwards(b"ab\ntorn"), [(3, torn), (0, 2)]);
        assert_eq!(backwards(b"torn"), [(0, torn)]);
    }

    #[test]
    fn lines_may_cross_blocks() {
        for length in [BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
            let text = [vec![b'a'; length], b"\nb\n".to_vec()].concat();
            let end = text.len() as u64;
            assert_eq!(backwards(&text), [(end, usize::MAX), (end - 2, 1), (0, length)]);
        }
    }

    #[test]
    fn an_endless_line_takes_bounded_memory_and_hides_no_other() {
        let text = [b"first\n".to_vec(), vec![b'a'; 10 * LONGEST_LINE], b"\nlast\n".to_vec()].concat();
        let found = backwards(&text);
        assert_eq!(found.len(), 4);
        assert_eq!(found[3], (0, 5));
        assert_eq!(found[2].0, 6);
        assert!(found[2].1 <= LONGEST_LINE + BLOCK);
    }
}
