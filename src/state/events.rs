//! The event log: `$XDG_STATE_HOME/coracle/events`, a JSON object a line.
//!
//! An event is appended by one write(2) to a file opened with `O_APPEND`, so
//! that writers need no lock. It is not synced: what a power cut takes of it,
//! nobody relies on.

use crate::dirs::{Dirs, create_private};
use crate::error::{Context, Result};
use crate::types::container::{ContainerRecord, RecordedRoot};
use crate::types::event::{Event, EventKind};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

/// Appends an event. Callers go on where it fails: an event is a remark on
/// what was done, not a part of it.
pub(crate) fn append(dirs: &Dirs, event: &Event) -> Result<()> {
    let path = dirs.events();
    let step = || format!("write to {}", path.display());
    let mut line = serde_json::to_vec(event).context(step)?;
    line.push(b'\n');
    let open = || std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
    let mut file = match open() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            create_private(&dirs.state)?;
            open()
        }
        result => result,
    }
    .context(step)?;
    file.write_all(&line).context(step)
}

/// An event about a container, with what docker says of it each time.
pub(crate) fn of_container(record: &ContainerRecord, action: impl Into<String>) -> Event {
    let image = match &record.root {
        RecordedRoot::Image { reference, .. } => reference.clone(),
        RecordedRoot::Directory { path, .. } => path.display().to_string(),
    };
    let mut event = Event::now(EventKind::Container, action, record.id.as_str());
    event.attributes = record.config.labels.clone();
    event.with("name", record.name.clone()).with("image", image)
}
