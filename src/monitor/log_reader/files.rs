//! The files of a log, opened, oldest first.

use crate::error::{Context, Result};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What tells a file from every other as long as it is held open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(meta: &std::fs::Metadata) -> Self {
        Self { device: meta.dev(), inode: meta.ino() }
    }
}

/// A file of the log, and how far it was read.
#[derive(Debug)]
pub(super) struct OpenLog {
    pub(super) file: File,
    pub(super) id: FileId,
    /// Bytes in it when it was opened.
    pub(super) size: u64,
    /// Where the first record that was not read begins.
    pub(super) offset: u64,
}

/// Opens all files of the log whose current one is `path`, oldest first.
///
/// They are opened newest first: a rotation meanwhile shows a file again under
/// its next number, which its id tells, and cannot hide one. All numbers are
/// tried, since a rotation is several renames and leaves a hole for a moment.
pub(super) fn open_all(path: &Path, files_kept: u32) -> Result<Vec<OpenLog>> {
    let mut found: Vec<OpenLog> = Vec::new();
    for number in 0..files_kept {
        let name = if number == 0 { path.to_owned() } else { numbered(path, number) };
        if let Some(log) = open(&name)?
            && !found.iter().any(|known| known.id == log.id)
        {
            found.push(log);
        }
    }
    found.reverse();
    Ok(found)
}

/// The id of the current file; `None` where there is none at the moment.
pub(super) fn current(path: &Path) -> Option<FileId> {
    std::fs::symlink_metadata(path).ok().map(|meta| FileId::of(&meta))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn open(path: &Path) -> Result<Option<OpenLog>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno).context(|| format!("open the log {}", path.display())),
    };
    let meta = file.metadata().context(|| format!("look at the log {}", path.display()))?;
    Ok(Some(OpenLog { file, id: FileId::of(&meta), size: meta.len(), offset: 0 }))
}
