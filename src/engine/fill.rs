//! What an image has at the places of volumes, in volumes that are empty.

use super::Engine;
use crate::error::Result;
use crate::monitor::plan::at_rest;
use crate::state::lock;
use crate::storage::volume::VolumeStore;
use crate::types::container::RecordedRoot;
use crate::types::id::ContainerId;
use crate::types::mount::{MountSource, MountSpec};
use crate::types::namespace::UsernsMode;
use crate::types::status::Status;

impl Engine {
    /// Fills the empty volumes of a container that is not going to be started at
    /// once, as docker does for each when it makes it: another, whose image has
    /// nothing there, may be given them first. A start does it by itself.
    ///
    /// # Errors
    /// Those of a start.
    pub(crate) fn fill_volumes(&self, id: &ContainerId) -> Result<()> {
        let record = self.store.record(id)?;
        let store = VolumeStore::open(&self.dirs.volumes())?;
        // Which ids are `auto`'s is known once it starts.
        let is_known = !matches!(record.config.userns, UsernsMode::Auto { .. });
        let has_image = matches!(record.root, RecordedRoot::Image { .. });
        let takes_copy = |mount: &&MountSpec| !mount.options.no_copy;
        let names: Vec<&String> = record
            .config
            .own_mounts()
            .iter()
            .filter(takes_copy)
            .filter_map(|mount| match &mount.source {
                MountSource::Volume { name } => Some(name),
                _ => None,
            })
            .collect();
        if !is_known || !has_image || names.is_empty() {
            return Ok(());
        }
        // What is in a volume may be another id's.
        let outer = self.enter()?.clone();
        let is_wanted = |name: &String| store.get(name).is_ok_and(|volume| store.is_empty(&volume));
        if !names.into_iter().any(is_wanted) {
            return Ok(());
        }
        let _lock = lock::container(&self.dirs.container(id))?;
        let snapshot = self.snapshot_locked(id)?;
        if !matches!(snapshot.status, Status::Created) {
            return Ok(());
        }
        let overlays = self.overlays()?;
        at_rest::fill_volumes(&self.context_at_rest(&snapshot.record, &outer, &overlays))
    }
}
