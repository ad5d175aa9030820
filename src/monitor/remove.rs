//! Removing what a container has on disk.

use crate::dirs::Dirs;
use crate::error::{BestEffort, Context, Result};
use crate::state::store::Store;
use crate::storage::usage::remove_tree;
use crate::storage::volume::VolumeStore;
use crate::types::container::ContainerRecord;
use rustix::fs::{Mode, OFlags};
use std::ffi::CString;
use std::os::fd::AsFd;

/// What becomes of the volumes that were made for the container alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Volumes {
    Keep,
    Remove,
}

/// Takes the container out of everybody's sight: its name is free and its id
/// unknown. [`delete`] does the rest.
pub(crate) fn hide(dirs: &Dirs, store: &Store, record: &ContainerRecord) -> Result<()> {
    store.drop_name(&record.name, &record.id);
    let from = dirs.container(&record.id);
    match std::fs::rename(&from, hidden(dirs, record)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.context(|| format!("remove {}", from.display())),
    }
}

fn hidden(dirs: &Dirs, record: &ContainerRecord) -> std::path::PathBuf {
    dirs.containers().join(format!(".gone-{}", record.id))
}

/// Deletes the files of a hidden container, which belong to many owners: the
/// caller is root of the outer user namespace.
pub(crate) fn delete(dirs: &Dirs, record: &ContainerRecord, volumes: Volumes) -> Result<()> {
    let parent = dirs.containers();
    let step = || format!("delete the files of container {}", record.id.short());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(&parent, flags, Mode::empty()).context(step)?;
    let name = CString::new(format!(".gone-{}", record.id)).unwrap_or_default();
    if hidden(dirs, record).exists() {
        remove_tree(fd.as_fd(), &name).map_err(|error| error.context(step()))?;
    }
    if volumes == Volumes::Remove && !record.anonymous_volumes.is_empty() {
        let store = VolumeStore::open(&dirs.volumes())?;
        for volume in &record.anonymous_volumes {
            store.remove(volume, &|_| Ok(Vec::new())).or_ignore();
        }
    }
    Ok(())
}
