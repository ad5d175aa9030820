//! Removing what a container has on disk.

use crate::dirs::Dirs;
use crate::error::{BestEffort, Context, Error, Result};
use crate::state::events;
use crate::state::lock::{self, Lock};
use crate::state::store::{GONE, Store};
use crate::state::written::read_json;
use crate::storage::usage::remove_tree;
use crate::storage::volume::VolumeStore;
use crate::types::container::ContainerRecord;
use crate::types::event::{Event, EventKind};
use crate::types::id::ContainerId;
use rustix::fs::{Mode, OFlags};
use std::ffi::CString;
use std::os::fd::AsFd;
use std::path::PathBuf;

/// What becomes of the volumes that were made for the container alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Volumes {
    Keep,
    Remove,
}

/// A container that nobody sees any more and whose files are still there. While
/// it lives, no other command takes them for left over.
pub(crate) struct Hidden {
    /// `None` where another command hid it: that one deletes it.
    alive: Option<Lock>,
}

/// Takes the container out of everybody's sight: its id is unknown and its name
/// free. [`delete`] does the rest.
pub(crate) fn hide(dirs: &Dirs, store: &Store, record: &ContainerRecord) -> Result<Hidden> {
    let from = dirs.container(&record.id);
    // Locked before it is hidden: `sweep` deletes what is hidden and unlocked.
    let alive = match lock::directory(&from) {
        Ok(lock) => lock,
        Err(error) if error.errno() == Some(libc::ENOENT) => return Ok(Hidden { alive: None }),
        Err(error) => return Err(error),
    };
    match std::fs::rename(&from, hidden(dirs, &record.id)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Hidden { alive: None }),
        result => result.context(|| format!("remove {}", from.display()))?,
    }
    // In this order: a name without a container is free, a container without
    // its name would let another have the same.
    store.drop_name(&record.name, &record.id);
    events::append(dirs, &events::of_container(record, "destroy")).or_ignore();
    Ok(Hidden { alive: Some(alive) })
}

fn hidden(dirs: &Dirs, id: &ContainerId) -> PathBuf {
    dirs.containers().join(format!("{GONE}{id}"))
}

/// Deletes the files of a hidden container, which belong to many owners: the
/// caller is root of the outer user namespace.
pub(crate) fn delete(
    dirs: &Dirs,
    record: &ContainerRecord,
    volumes: Volumes,
    hidden_by: Hidden,
) -> Result<()> {
    // First, while the record still says which they are.
    if volumes == Volumes::Remove {
        delete_volumes(dirs, record)?;
    }
    let _alive = match hidden_by.alive {
        Some(lock) => lock,
        // Where its monitor is at it already, its end is waited for.
        None => match lock::directory(&hidden(dirs, &record.id)) {
            Err(error) if error.errno() == Some(libc::ENOENT) => return Ok(()),
            result => result?,
        },
    };
    delete_files(dirs, &record.id)
}

fn delete_files(dirs: &Dirs, id: &ContainerId) -> Result<()> {
    let step = || format!("delete the files of container {}", id.short());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(dirs.containers(), flags, Mode::empty()).context(step)?;
    let name = CString::new(format!("{GONE}{id}")).unwrap_or_default();
    if hidden(dirs, id).exists() {
        remove_tree(fd.as_fd(), &name).map_err(|error| error.context(step()))?;
    }
    Ok(())
}

/// The volumes that were made for this container alone, except those that another
/// has taken over with `--volumes-from`. The container itself is hidden by now.
pub(crate) fn delete_volumes(dirs: &Dirs, record: &ContainerRecord) -> Result<()> {
    if record.anonymous_volumes.is_empty() {
        return Ok(());
    }
    let volumes = VolumeStore::open(&dirs.volumes())?;
    let store = Store::new(dirs.clone());
    for volume in &record.anonymous_volumes {
        if volumes.remove(volume, &|name| store.users_of_volume(name)).is_ok() {
            let event = Event::now(EventKind::Volume, "destroy", volume).with("driver", "local");
            events::append(dirs, &event).or_ignore();
        }
    }
    Ok(())
}

/// Removes a container whose record cannot be read: its files and its names. Its
/// volumes stay.
///
/// # Errors
/// `Conflict` where it runs.
pub(crate) fn delete_damaged(dirs: &Dirs, store: &Store, id: &ContainerId) -> Result<()> {
    if let Some(live) = store.live(id)? {
        return Err(Error::conflict(format!("container {} still runs", id.short()))
            .hint(format!("end it by its monitor: kill {}", live.monitor.pid)));
    }
    let from = dirs.container(id);
    let _alive = lock::directory(&from)?;
    store.drop_all_names(id);
    std::fs::rename(&from, hidden(dirs, id)).context(|| format!("remove {}", from.display()))?;
    delete_files(dirs, id)
}

/// Ends a removal whose command was killed. The caller holds its lock.
pub(crate) fn finish(dirs: &Dirs, id: &ContainerId) -> Result<()> {
    let record = read_json::<ContainerRecord>(&hidden(dirs, id).join("config.json"));
    if let Ok(Some(record)) = record {
        if record.config.auto_remove {
            delete_volumes(dirs, &record)?;
        }
    }
    delete_files(dirs, id)
}
