//! Small JSON files, written whole or not at all.

use crate::error::{Context, Result};
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

/// `None` where the file does not exist.
///
/// # Errors
/// `Invalid` where it is not the JSON expected; the path is named.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let step = || format!("read {}", path.display());
    let Some(bytes) = read_file(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).context(step).map(Some)
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
