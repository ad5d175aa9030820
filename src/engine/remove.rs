//! `rm` and `rename`.

use super::Engine;
use crate::error::{BestEffort, Error, Kind, Result};
use crate::monitor::remove::{self, Volumes};
use crate::state::lock;
use crate::types::id::{ContainerId, check_name};
use crate::types::status::Status;

/// How to remove.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RemoveOptions {
    /// Kill it first where it runs.
    pub(crate) force: bool,
    /// With the volumes made for it alone.
    pub(crate) volumes: bool,
    /// Seconds to stop in before the kill; at once where `None`.
    pub(crate) time: Option<i64>,
}

impl Engine {
    /// Removes a container and all its files.
    ///
    /// # Errors
    /// `Conflict` where it runs and `force` is not set.
    pub(crate) fn remove(&self, id: &ContainerId, options: &RemoveOptions) -> Result<()> {
        let snapshot = match self.snapshot(id) {
            // A lost container with --rm was removed by the look at it.
            Err(error) if error.kind() == Kind::NotFound && !self.dirs.container(id).exists() => {
                return Err(error);
            }
            result => result?,
        };
        if matches!(snapshot.status, Status::Running { .. } | Status::Restarting { .. }) {
            if !options.force {
                return Err(Error::conflict(format!("container {} is running", snapshot.record.name))
                    .hint("stop it first, or remove it by force: coracle rm -f"));
            }
            match options.time {
                Some(time) => self.stop(id, Some(time), None)?,
                None => self.stop(id, Some(-1), Some(libc::SIGKILL))?,
            }
        }
        self.enter()?;
        if self.dirs.container(id).exists() {
            // Whoever starts it now waits, and then finds it gone.
            let _lock = match lock::container(&self.dirs.container(id)) {
                Err(error) if error.kind() == Kind::NotFound => return Ok(()),
                result => result?,
            };
            remove::hide(&self.dirs, &self.store, &snapshot.record)?;
        }
        let volumes = if options.volumes || snapshot.record.config.auto_remove {
            Volumes::Remove
        } else {
            Volumes::Keep
        };
        std::fs::remove_dir_all(self.dirs.container_runtime(id)).or_ignore();
        remove::delete(&self.dirs, &snapshot.record, volumes)
    }

    /// Gives a container another name.
    pub(crate) fn rename(&self, id: &ContainerId, name: &str) -> Result<()> {
        check_name("container", name)?;
        let _lock = lock::container(&self.dirs.container(id))?;
        let mut record = self.store.record(id)?;
        self.store.rename(&mut record, name)
    }
}
