//! A place in a log that moves forward, over rotations.

use super::files::{OpenLog, current, open_all};
use super::tail::seek_to_tail;
use super::{LONGEST_LINE, Window};
use crate::error::{Context, Result};
use crate::monitor::log_file::{files_kept, log_path};
use crate::types::container::{LogConfig, LogDriver};
use memchr::memrchr;
use std::collections::VecDeque;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Reads the lines of a log once each, oldest first.
#[derive(Debug)]
pub(crate) struct Cursor {
    path: PathBuf,
    driver: LogDriver,
    files_kept: u32,
    /// Oldest first; the front one is being read.
    files: VecDeque<OpenLog>,
    reach: Reach,
    block: Vec<u8>,
    skipping: Skipping,
}

/// How far a cursor goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// To the end as it was when the log was opened.
    Snapshot,
    /// To what was written meanwhile.
    Growing,
}

/// Whether the reader is inside a line that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skipping {
    No,
    Line,
}

impl Cursor {
    /// At the oldest record of the log of the container in `dir`; `None` where
    /// the driver keeps no log. A log that does not exist yet is empty.
    pub(crate) fn open(dir: &Path, config: &LogConfig, reach: Reach) -> Result<Option<Self>> {
        let Some(path) = log_path(dir, config.driver) else { return Ok(None) };
        let files_kept = files_kept(config);
        let files = open_all(&path, files_kept)?.into();
        let driver = config.driver;
        let (block, skipping) = (Vec::new(), Skipping::No);
        Ok(Some(Self { path, driver, files_kept, files, reach, block, skipping }))
    }

    /// Goes to the last `count` lines of those within `window`.
    pub(crate) fn seek_to_tail(&mut self, count: u64, window: &Window) -> Result<()> {
        seek_to_tail(&mut self.files, self.driver, count, window)
            .context(|| format!("read the log {}", self.path.display()))
    }

    /// Passes over files whose last record is older than `window`.
    pub(crate) fn skip_files_before(&mut self, window: &Window) {
        while self.files.len() > 1
            && let Some(modified) = self.files[0].file.metadata().ok().and_then(|meta| meta.modified().ok())
            && jiff::Timestamp::try_from(modified).is_ok_and(|modified| window.is_before(modified))
        {
            self.files.pop_front();
        }
    }

    pub(crate) fn driver(&self) -> LogDriver {
        self.driver
    }

    /// The next whole lines, each with its newline; `None` at the (present) end.
    pub(crate) fn next_lines(&mut self) -> Result<Option<&[u8]>> {
        let length = self.advance().context(|| format!("read the log {}", self.path.display()))?;
        Ok(length.map(|length| &self.block[..length]))
    }

    fn advance(&mut self) -> std::io::Result<Option<usize>> {
        loop {
            if let Some(length) = self.advance_in_file()? {
                return Ok(Some(length));
            }
            if self.files.len() > 1 {
                // What is left is a record without its end: a crash tore it.
                self.skipping = Skipping::No;
                self.files.pop_front();
            } else if self.reach == Reach::Snapshot || !self.find_newer() {
                return Ok(None);
            }
        }
    }

    /// Opens what was begun after the file that is being read. That file stays
    /// in front, to be drained once more: only now it is known that nothing
    /// can be added to it.
    fn find_newer(&mut self) -> bool {
        let reading = self.files.front().map(|log| log.id);
        let newest = current(&self.path);
        if newest.is_none() || newest == reading {
            return false;
        }
        // Where the log cannot be opened (it is being removed) there is no more.
        let Ok(mut all) = open_all(&self.path, self.files_kept) else { return false };
        if let Some(at) = all.iter().position(|log| Some(log.id) == reading) {
            all.drain(..=at);
        }
        let found = !all.is_empty();
        self.files.extend(all);
        found
    }

    /// Fills `block` from the front file. Gives how many bytes of it are whole
    /// lines; `None` where there is no whole line.
    fn advance_in_file(&mut self) -> std::io::Result<Option<usize>> {
        let Some(log) = self.files.front_mut() else { return Ok(None) };
        let mut filled = 0;
        loop {
            let end = match self.reach {
                Reach::Snapshot => usize::try_from(log.size.saturating_sub(log.offset)).unwrap_or(usize::MAX),
                Reach::Growing => usize::MAX,
            };
            // As large as may be: each call costs, and so does each write of the reader's.
            self.block.resize(LONGEST_LINE, 0);
            let wanted = self.block.len().min(end);
            let count = match log
                .file
                .read_at(&mut self.block[filled..wanted.max(filled)], log.offset + filled as u64)
            {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                result => result?,
            };
            if count == 0 {
                if filled == 0 && wanted > 0 && log.file.metadata()?.len() < log.offset {
                    // Emptied by someone: what follows is new.
                    log.offset = 0;
                    continue;
                }
                return Ok(None);
            }
            let newline = memrchr(b'\n', &self.block[filled..filled + count]).map(|at| filled + at + 1);
            filled += count;
            match newline {
                Some(length) if self.skipping == Skipping::No => {
                    log.offset += length as u64;
                    return Ok(Some(length));
                }
                // The end of a line that was too long: read again from there.
                Some(_) => {
                    let first = memchr::memchr(b'\n', &self.block[..filled]).map_or(filled, |at| at + 1);
                    log.offset += first as u64;
                    self.skipping = Skipping::No;
                    filled = 0;
                }
                None if filled >= LONGEST_LINE => {
                    log.offset += filled as u64;
                    self.skipping = Skipping::Line;
                    filled = 0;
                }
                None => {}
            }
        }
    }
}
