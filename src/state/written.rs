//! Small JSON files, written whole or not at all.
//!
//! A power cut may leave one empty that was not synced ([`Durable::No`]), and a disk
//! may damage any. That is an error for who needs the object whose file it is, and for
//! nobody else: lists keep what cannot be read apart ([`Records`]), and what is only
//! spared is taken as absent ([`read_spare`]).

use crate::error::{Context, Error, Kind, Result};
use rustix::fs::{Mode, OFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{Read, Write};
use std::path::Path;

/// Bytes; a longer file is not one of ours.
const MAX_FILE: u64 = 8 << 20;

/// Whether the new content must survive a power cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durable {
    Yes,
    /// On the start path, or where the file dies with the boot.
    No,
}

/// Writes `value` beside `path` and renames it over it.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T, durable: Durable) -> Result<()> {
    let bytes = serde_json::to_vec(value).context(|| format!("write {}", path.display()))?;
    write_file(path, &bytes, durable)
}

/// As [`write_json`], for bytes.
pub(crate) fn write_file(path: &Path, bytes: &[u8], durable: Durable) -> Result<()> {
    let step = || format!("write {}", path.display());
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = Path::new(&temporary);
    let write = || -> std::io::Result<()> {
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = std::fs::File::from(rustix::fs::open(temporary, flags, Mode::from_raw_mode(0o600))?);
        file.write_all(bytes)?;
        if durable == Durable::Yes {
            file.sync_data()?;
        }
        std::fs::rename(temporary, path)
    };
    let result = write();
    if result.is_err() {
        // Half-written: never seen under the real name.
        std::fs::remove_file(temporary).unwrap_or(());
    }
    result.context(step)
}

/// Puts a file that was written with [`Durable::No`] on the disk after all. One that is
/// gone needs nothing.
pub(crate) fn sync(path: &Path) -> Result<()> {
    let step = || format!("write {}", path.display());
    match rustix::fs::open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => rustix::fs::fdatasync(&file).context(step),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(()),
        Err(errno) => Err(errno).context(step),
    }
}

/// `None` where the file does not exist.
///
/// # Errors
/// `Invalid` where it is not the JSON expected; the path is named.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let step = || format!("read {}", path.display());
    let bytes = match read_file(path) {
        // As damaged as one whose text is none.
        Err(error) if matches!(error.errno(), Some(libc::EIO | libc::EUCLEAN | libc::EISDIR)) => {
            return Err(error.with_kind(Kind::Invalid));
        }
        result => result?,
    };
    let Some(bytes) = bytes else { return Ok(None) };
    if is_blank(&bytes) {
        return Err(Error::invalid("the file is empty, as after a power cut")).context(step);
    }
    serde_json::from_slice(&bytes).context(step).map(Some)
}

/// As [`read_json`], for what can be done without: `None` where it is damaged, too.
pub(crate) fn read_spare<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match read_json(path) {
        Err(error) if error.kind() == Kind::Invalid => Ok(None),
        result => result,
    }
}

/// What is left of a file whose content had no time to reach the disk: no bytes, or
/// zeros where the length was there first.
fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// All records of a kind.
#[derive(Debug)]
pub(crate) struct Records<T> {
    pub(crate) whole: Vec<T>,
    pub(crate) damaged: Vec<Damaged>,
}

/// A record that is there and cannot be read.
#[derive(Debug)]
pub(crate) struct Damaged {
    /// The name of its file or directory.
    pub(crate) key: String,
    /// With what to do about it.
    pub(crate) error: Error,
}

impl<T> Records<T> {
    pub(crate) fn new() -> Self {
        Self { whole: Vec::new(), damaged: Vec::new() }
    }

    /// Takes the one of `key`; `None` is one that went meanwhile.
    pub(crate) fn add(&mut self, key: &str, record: Result<Option<T>>) {
        match record {
            Ok(record) => self.whole.extend(record),
            Err(error) => self.damaged.push(Damaged { key: key.to_owned(), error }),
        }
    }

    /// Those that can be read; of the others a note each.
    pub(crate) fn noting(self, notes: &mut Vec<Error>) -> Vec<T> {
        notes.extend(self.damaged.into_iter().map(|damaged| damaged.error));
        self.whole
    }
}

/// `None` where the file does not exist.
pub(crate) fn read_file(path: &Path) -> Result<Option<Vec<u8>>> {
    let step = || format!("read {}", path.display());
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => std::fs::File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(errno) => return Err(errno).context(step),
    };
    // Most are read whole by the first call, and a regular file that gives less
    // than it was asked for is at its end: `ps` reads a thousand of them.
    let mut bytes = vec![0; 4096];
    let count = rustix::io::read(&file, &mut bytes).context(step)?;
    bytes.truncate(count);
    if count == 4096 {
        file.take(MAX_FILE).read_to_end(&mut bytes).context(step)?;
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_power_cut_leaves_is_damage_and_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.json");
        assert_eq!(read_json::<u32>(&path).expect("absent"), None);
        write_json(&path, &7, Durable::No).expect("written");
        sync(&path).expect("synced");
        assert_eq!(read_spare::<u32>(&path).expect("read"), Some(7));
        for left in ["", "\0\0\0", "{"] {
            std::fs::write(&path, left).expect("written");
            let error = read_json::<u32>(&path).expect_err(left);
            assert!(error.kind() == Kind::Invalid && error.to_string().contains("x.json"), "{error}");
            assert_eq!(read_spare::<u32>(&path).expect("spared"), None);
        }
    }
}
