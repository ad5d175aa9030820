//! Removing what a container has on disk.

use crate::dirs::Dirs;
use crate::error::{BestEffort, Context, Result};
use crate::storage::usage::remove_tree;
use crate::storage::volume::VolumeStore;
use crate::types::id::ContainerId;
use rustix::fs::{Mode, OFlags};
use std::ffi::CString;
use std::os::fd::AsFd;
use std::time::Duration;

const ABANDONED: Duration = Duration::from_secs(60);

/// Takes the container's directory out of everybody's sight; its name is let go
/// of first ([`Store::drop_name`]). [`delete`] does the rest.
///
/// [`Store::drop_name`]: crate::state::store::Store::drop_name
pub(crate) fn hide(dirs: &Dirs, id: &ContainerId) -> Result<()> {
    let from = dirs.container(id);
    match std::fs::rename(&from, dirs.containers().join(hidden(id))) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.context(|| format!("remove {}", from.display())),
    }
}

fn hidden(id: &ContainerId) -> String {
    format!(".gone-{id}")
}

/// Deletes the files of a hidden container, which belong to many owners, and
/// these volumes: the caller is root of the outer user namespace.
pub(crate) fn delete(dirs: &Dirs, id: &ContainerId, volumes: &[String]) -> Result<()> {
    let parent = dirs.containers();
    let step = || format!("delete the files of container {}", id.short());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(&parent, flags, Mode::empty()).context(step)?;
    let name = CString::new(hidden(id)).unwrap_or_default();
    if parent.join(hidden(id)).exists() {
        remove_tree(fd.as_fd(), &name).map_err(|error| error.context(step()))?;
    }
    if !volumes.is_empty() {
        let store = VolumeStore::open(&dirs.volumes())?;
        for volume in volumes {
            store.remove(volume, &|_| Ok(Vec::new())).or_ignore();
        }
    }
    Ok(())
}

/// Deletes what killed commands left of containers half made or half removed.
/// Both take milliseconds: what is older than [`ABANDONED`] is nobody's.
pub(crate) fn sweep(dirs: &Dirs) -> Result<()> {
    let parent = dirs.containers();
    let step = || format!("look for left-overs in {}", parent.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(&parent, flags, Mode::empty()).context(step)?;
    for entry in std::fs::read_dir(&parent).context(step)?.flatten() {
        let name = entry.file_name().into_encoded_bytes();
        let left = name.starts_with(b".new-") || name.starts_with(b".gone-");
        if left && entry.metadata().is_ok_and(|meta| is_abandoned(&meta)) {
            let name = CString::new(name).unwrap_or_default();
            remove_tree(fd.as_fd(), &name).or_ignore();
        }
    }
    Ok(())
}

fn is_abandoned(meta: &std::fs::Metadata) -> bool {
    meta.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED))
}
