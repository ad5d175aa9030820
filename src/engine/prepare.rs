//! `container init` and `container cleanup`: what podman does before a run and
//! after it, as far as there is anything to do.

use super::Engine;
use crate::error::{BestEffort, Error, Result};
use crate::state::lock;
use crate::state::store::Snapshot;
use crate::types::container::RecordedRoot;
use crate::types::id::ContainerId;
use crate::types::status::Status;

impl Engine {
    /// The container that was made last.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub(crate) fn latest(&self) -> Result<ContainerId> {
        let mut newest: Option<(jiff::Timestamp, ContainerId)> = None;
        for id in self.store.ids()? {
            // One that is removed just now is not the latest.
            let Ok(record) = self.store.record(&id) else { continue };
            newest = newest.max(Some((record.created, id)));
        }
        newest.map(|(_, id)| id).ok_or_else(|| Error::not_found("no containers: there is no latest one"))
    }

    /// Whether it runs; one that cannot be read does not.
    pub(crate) fn is_up(&self, id: &ContainerId) -> bool {
        let snapshot = self.snapshot(id);
        snapshot.is_ok_and(|snapshot| {
            matches!(snapshot.status, Status::Running { .. } | Status::Restarting { .. })
        })
    }

    /// Makes what a start would make that takes long, and mounts the root file
    /// system once to see that it can be. Nothing stays mounted, and the
    /// container stays `created`.
    ///
    /// # Errors
    /// `Conflict` where it runs; whatever would fail in a start.
    pub(crate) fn init_container(&self, id: &ContainerId) -> Result<()> {
        let _lock = lock::container(&self.dirs.container(id))?;
        let snapshot = self.snapshot_locked(id)?;
        refuse_running(&snapshot, "initialize")?;
        match &snapshot.record.root {
            RecordedRoot::Image { .. } => self.overlays()?.image(&self.trees(&snapshot)?.root()).map(drop),
            RecordedRoot::Directory { path, .. } if path.is_dir() => Ok(()),
            RecordedRoot::Directory { path, .. } => {
                Err(Error::not_found(format!("the root directory {} is gone", path.display())))
            }
            RecordedRoot::Nothing => Ok(()),
        }
    }

    /// Clears what a run that was lost has left; a run that ended by itself
    /// leaves nothing.
    ///
    /// # Errors
    /// `Conflict` where it runs.
    pub(crate) fn clean_up_container(&self, id: &ContainerId) -> Result<()> {
        let _lock = lock::container(&self.dirs.container(id))?;
        let snapshot = self.snapshot_locked(id)?;
        refuse_running(&snapshot, "clean up")?;
        std::fs::remove_dir_all(self.dirs.container_runtime(id)).or_ignore();
        Ok(())
    }
}

fn refuse_running(snapshot: &Snapshot, action: &str) -> Result<()> {
    match snapshot.status {
        Status::Created | Status::Exited(_) => Ok(()),
        Status::Running { .. } | Status::Restarting { .. } => {
            Err(Error::conflict(format!("cannot {action} container {}: it is running", snapshot.record.name)))
        }
    }
}
