//! `rm` and `rename`.

use super::Engine;
use crate::error::{BestEffort, Error, Kind, Result};
use crate::monitor::remove;
use crate::state::lock::{self, Lock};
use crate::types::container::ContainerRecord;
use crate::types::id::{ContainerId, check_name};
use crate::types::status::Status;

/// How often a container is stopped that others start.
const ATTEMPTS: usize = 5;

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
        // Stopped without the lock, so it may have been started again since.
        for _ in 0..ATTEMPTS {
            // Waits for a start that is under way: what it makes must not stay.
            let lock = match lock::container(&self.dirs.container(id)) {
                Err(error) if error.kind() == Kind::NotFound => return Ok(()),
                Err(_) if options.force => return self.remove_damaged(id),
                result => result?,
            };
            let snapshot = match self.snapshot_locked(id, &lock) {
                // A lost container with --rm was removed by the look at it.
                Err(error) if error.kind() == Kind::NotFound => return Ok(()),
                Err(_) if options.force => {
                    drop(lock);
                    return self.remove_damaged(id);
                }
                result => result?,
            };
            if !matches!(snapshot.status, Status::Running { .. } | Status::Restarting { .. }) {
                return self.remove_locked(&snapshot.record, options, lock);
            }
            if !options.force {
                return Err(Error::conflict(format!("container {} is running", snapshot.record.name))
                    .hint("stop it first, or remove it by force: coracle rm -f"));
            }
            drop(lock);
            match options.time {
                Some(time) => self.stop(id, Some(time), None)?,
                None => self.stop(id, Some(-1), Some(libc::SIGKILL))?,
            }
        }
        Err(Error::conflict(format!("container {} is started again and again", id.short())))
    }

    fn remove_locked(&self, record: &ContainerRecord, options: &RemoveOptions, lock: Lock) -> Result<()> {
        self.enter()?;
        self.store.drop_name(&record.name, &record.id);
        remove::hide(&self.dirs, &record.id)?;
        // Whoever waits to start it finds it gone.
        drop(lock);
        let with_volumes = options.volumes || record.config.auto_remove;
        let volumes: &[String] = if with_volumes { &record.anonymous_volumes } else { &[] };
        std::fs::remove_dir_all(self.dirs.container_runtime(&record.id)).or_ignore();
        remove::sweep(&self.dirs).or_ignore();
        remove::delete(&self.dirs, &record.id, volumes)
    }

    /// Gives a container another name.
    pub(crate) fn rename(&self, id: &ContainerId, name: &str) -> Result<()> {
        check_name("container", name)?;
        let _lock = lock::container(&self.dirs.container(id))?;
        let mut record = self.store.record(id)?;
        self.store.rename(&mut record, name)
    }
}
