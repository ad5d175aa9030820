//! `rm` and `rename`.

use super::Engine;
use super::stop::StopOptions;
use crate::error::{BestEffort, Error, Kind, Result};
use crate::monitor::messages::{Change, Request};
use crate::monitor::remove::{self, Volumes};
use crate::state::events;
use crate::state::lock;
use crate::state::store::Snapshot;
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

impl RemoveOptions {
    /// How what runs is ended first.
    fn stop(&self) -> StopOptions {
        match self.time {
            Some(time) => StopOptions::within(Some(time)),
            None => StopOptions { time: Some(-1), signal: Some(libc::SIGKILL), keep: false },
        }
    }

    /// With all that it has, at once.
    pub(crate) fn by_force() -> Self {
        Self { force: true, volumes: true, time: None }
    }
}

/// Docker's words.
const UP: &str = "container is STATE: stop the container before removing or force remove";

impl Engine {
    /// Ends containers at the same time that [`Self::remove`] is to remove by force.
    pub(crate) fn begin_removals(&self, ids: &[&ContainerId], options: &RemoveOptions) {
        // What a pod shares is not removed, and has to go on.
        let goes = |id: &&&ContainerId| self.store.record(id).is_ok_and(|record| !record.config.infra);
        if options.force && ids.len() > 1 {
            self.begin_stops(&ids.iter().filter(goes).copied().collect::<Vec<_>>(), &options.stop());
        }
    }

    /// Removes a container and all its files.
    ///
    /// # Errors
    /// `Conflict` where it runs and `force` is not set, and for the one that holds
    /// what a pod shares.
    pub(crate) fn remove(&self, id: &ContainerId, options: &RemoveOptions) -> Result<()> {
        if let Ok(record) = self.store.record(id)
            && record.config.infra
            && let Some(pod) =
                record.config.pod.as_ref().and_then(|pod| self.pod_store().record(&pod.id).ok())
        {
            return Err(Error::conflict(format!(
                "container {} is the infra container of pod {} and cannot be removed without removing the pod",
                record.name, pod.name
            ))
            .hint(format!("`coracle pod rm {}` removes the pod with all its containers", pod.name)));
        }
        self.remove_any(id, options)
    }

    /// As [`Engine::remove`], for whoever removes the pod too.
    pub(super) fn remove_any(&self, id: &ContainerId, options: &RemoveOptions) -> Result<()> {
        let record = match self.store.record(id) {
            // Nothing can be done with it but to remove it.
            Err(error) if error.kind() == Kind::Invalid && options.force => {
                self.enter()?;
                return remove::delete_damaged(&self.dirs, &self.store, id);
            }
            result => result?,
        };
        let hidden = loop {
            match self.snapshot(id) {
                Ok(snapshot) if is_up(&snapshot.status) => self.end_by_force(&snapshot, options)?,
                Ok(_) => {}
                // With --rm it goes on its own, or by the look at it.
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
            self.enter()?;
            // Whoever starts it from now on waits, and then finds it gone.
            match lock::container(&self.dirs.container(id)) {
                // Started while the lock was waited for.
                Ok(_lock) if is_up(&self.snapshot_locked(id)?.status) => {}
                Ok(_lock) => break remove::hide(&self.dirs, &self.store, &record)?,
                Err(error) if error.kind() == Kind::NotFound => {
                    break remove::hide(&self.dirs, &self.store, &record)?;
                }
                Err(error) => return Err(error),
            }
        };
        let volumes =
            if options.volumes || record.config.auto_remove { Volumes::Remove } else { Volumes::Keep };
        std::fs::remove_dir_all(self.dirs.container_runtime(id)).or_ignore();
        remove::delete(&self.dirs, &record, volumes, hidden)?;
        if self.store.listing()?.1 { self.sweep() } else { Ok(()) }
    }

    fn end_by_force(&self, snapshot: &Snapshot, options: &RemoveOptions) -> Result<()> {
        let record = &snapshot.record;
        if !options.force {
            let state = match &snapshot.status {
                Status::Running { paused: true, .. } => {
                    "container is paused and must be unpaused first".to_owned()
                }
                Status::Restarting { .. } => UP.replace("STATE", "restarting"),
                Status::Created | Status::Exited(_) | Status::Running { .. } => {
                    UP.replace("STATE", "running")
                }
            };
            return Err(Error::conflict(format!("cannot remove container {:?}: {state}", record.name))
                .hint("`coracle rm -f` removes it as it is"));
        }
        self.stop(&record.id, &options.stop()).map(drop)
    }

    /// Gives a container another name, by which its networks know it at once.
    pub(crate) fn rename(&self, id: &ContainerId, name: &str) -> Result<()> {
        check_name("container", name)?;
        let _lock = lock::container(&self.dirs.container(id))?;
        let mut record = self.store.record(id)?;
        if record.name == name {
            return Err(Error::conflict("renaming a container with the same name as its current name"));
        }
        self.check_no_pod(name)?;
        let old = record.name.clone();
        self.store.rename(&mut record, name)?;
        let event = events::of_container(&record, "rename").with("oldName", format!("/{old}"));
        events::append(&self.dirs, &event).or_ignore();
        let networks = record.config.networks;
        if !networks.is_empty() && matches!(self.snapshot_locked(id)?.status, Status::Running { .. }) {
            self.tell_monitor(id, &Request::Networks(networks, Change::Differences))
                .map_err(|error| error.context(format!("tell the networks that it is called {name} now")))?;
        }
        Ok(())
    }
}

fn is_up(status: &Status) -> bool {
    matches!(status, Status::Running { .. } | Status::Restarting { .. })
}
