//! The event log: `$XDG_STATE_HOME/coracle/events`, a JSON object a line.
//!
//! An event is appended by one write(2) to a file opened with `O_APPEND`, so
//! that writers need no lock. It is not synced: what a power cut takes of it,
//! nobody relies on. The writer whose line makes the file too long renames it to
//! `events.1`, under a lock of the file itself; a writer that has it open
//! appends its line there, which readers still read.

mod read;

pub(crate) use read::{Log, Wait};

use crate::dirs::{Dirs, create_private};
use crate::error::{Context, Result};
use crate::types::container::{ContainerRecord, RecordedRoot};
use crate::types::event::{Event, EventKind};
use crate::types::id::ContainerId;
use crate::types::network::Network;
use crate::types::reference::Reference;
use rustix::fs::FlockOperation;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes after which the log is rotated; the file before it is kept.
const MAX_FILE: u64 = 16 << 20;

/// Bytes of one line. Labels that make an event longer are left out of it.
const MAX_LINE: usize = 64 << 10;

/// Attributes that no event is without, however long its labels are.
const KEPT: [&str; 10] = [
    "name",
    "image",
    "exitCode",
    "signal",
    "execID",
    "execDuration",
    "oldName",
    "container",
    "podId",
    "podName",
];

/// Appends an event. Callers go on where it fails: an event is a remark on
/// what was done, not a part of it.
pub(crate) fn append(dirs: &Dirs, event: &Event) -> Result<()> {
    append_all(dirs, std::slice::from_ref(event))
}

/// Appends several events by one write.
pub(crate) fn append_all(dirs: &Dirs, events: &[Event]) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let path = dirs.events();
    let step = || format!("write to {}", path.display());
    let mut lines = Vec::new();
    for event in events {
        lines.extend(line(event).context(step)?);
    }
    let mut file = match open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            create_private(&dirs.state)?;
            open(&path)
        }
        result => result,
    }
    .context(step)?;
    file.write_all(&lines).context(step)?;
    // With O_APPEND the position after a write is the end of the file.
    if file.stream_position().context(step)? >= MAX_FILE { rotate(&file, &path) } else { Ok(()) }
}

fn open(path: &Path) -> std::io::Result<File> {
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn line(event: &Event) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(event)?;
    if line.len() >= MAX_LINE {
        let mut short = event.clone();
        short.attributes.retain(|key, value| KEPT.contains(&key.as_str()) && value.len() < MAX_LINE / 16);
        short.action.truncate((0..=1024).rev().find(|at| short.action.is_char_boundary(*at)).unwrap_or(0));
        line = serde_json::to_vec(&short)?;
    }
    line.push(b'\n');
    Ok(line)
}

/// Makes the file the one before, unless another has done so.
fn rotate(file: &File, path: &Path) -> Result<()> {
    let step = || format!("rotate {}", path.display());
    rustix::fs::flock(file, FlockOperation::LockExclusive).context(step)?;
    let (own, current) = (file.metadata().context(step)?, std::fs::metadata(path));
    if current.is_ok_and(|current| current.ino() == own.ino() && current.dev() == own.dev()) {
        std::fs::rename(path, before(path)).context(step)?;
    }
    Ok(())
}

/// The file that was rotated last.
fn before(path: &Path) -> PathBuf {
    path.with_extension("1")
}

/// An event about a container, with what docker says of it each time.
pub(crate) fn of_container(record: &ContainerRecord, action: impl Into<String>) -> Event {
    let image = match &record.root {
        RecordedRoot::Image { reference, .. } => familiar(reference),
        RecordedRoot::Directory { path, .. } => path.display().to_string(),
        RecordedRoot::Nothing => String::new(),
    };
    let mut event = Event::now(EventKind::Container, action, record.id.as_str());
    event.attributes = record.config.labels.clone();
    if let Some(pod) = &record.config.pod {
        event = event.with("podId", pod.id.as_str()).with("podName", pod.name.clone());
    }
    event.with("name", record.name.clone()).with("image", image)
}

/// An event about a network; docker says of which container where one comes or goes.
pub(crate) fn of_network(network: &Network, action: &str, container: Option<&ContainerId>) -> Event {
    let event = Event::now(EventKind::Network, action, &network.id)
        .with("name", &network.name)
        .with("type", "bridge");
    match container {
        Some(id) => event.with("container", id.as_str()),
        None => event,
    }
}

/// An image's name as people write it: `busybox`, `ghcr.io/x/y:1`.
fn familiar(reference: &str) -> String {
    match Reference::parse(reference) {
        Ok(parsed) => {
            let familiar = parsed.familiar();
            familiar.strip_suffix(":latest").map_or(familiar.clone(), str::to_owned)
        }
        Err(_) => reference.to_owned(),
    }
}

#[cfg(test)]
mod tests;
