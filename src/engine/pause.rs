//! `pause`, `unpause`, `update`.

use super::Engine;
use crate::cgroup::Attainable;
use crate::error::{BestEffort, Error, Kind, Result};
use crate::monitor::messages::{Reply, Request};
use crate::state::{events, lock};
use crate::types::cgroup::CgroupsMode;
use crate::types::container::ContainerRecord;
use crate::types::id::ContainerId;
use crate::types::limits::Limits;
use crate::types::status::{RestartPolicy, Status};

/// What `update` changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Update {
    pub(crate) limits: Limits,
    pub(crate) restart: Option<RestartPolicy>,
}

impl Engine {
    /// Stops all processes of a container where they are.
    ///
    /// # Errors
    /// `Conflict` where it does not run or is paused.
    pub(crate) fn pause(&self, id: &ContainerId) -> Result<()> {
        self.tell_monitor(id, &Request::Pause)
    }

    /// Lets a paused container go on.
    ///
    /// # Errors
    /// `Conflict` where it is not paused.
    pub(crate) fn unpause(&self, id: &ContainerId) -> Result<()> {
        match self.snapshot(id)? {
            snapshot if matches!(snapshot.status, Status::Running { paused: true, .. }) => {}
            snapshot => {
                return Err(Error::conflict(format!("container {} is not paused", snapshot.record.name)));
            }
        }
        self.tell_monitor(id, &Request::Unpause)
    }

    /// Changes limits and the restart policy, of a running container at once.
    ///
    /// # Errors
    /// `Invalid` for limits that do not go together or cannot be kept.
    pub(crate) fn update(&self, id: &ContainerId, update: &Update) -> Result<()> {
        let _lock = lock::container(&self.dirs.container(id))?;
        let snapshot = self.snapshot_locked(id)?;
        let record = ContainerRecord {
            config: crate::types::container::ContainerConfig {
                limits: snapshot.record.config.limits.updated(&update.limits),
                restart: update.restart.unwrap_or(snapshot.record.config.restart),
                ..snapshot.record.config.clone()
            },
            ..snapshot.record
        };
        record.config.limits.check()?;
        if record.config.auto_remove && record.config.restart != RestartPolicy::No {
            return Err(Error::invalid(
                "restart policy cannot be updated because AutoRemove is enabled for the container",
            ));
        }
        if matches!(snapshot.status, Status::Running { .. } | Status::Restarting { .. }) {
            let request = Request::Update {
                limits: Box::new(record.config.limits.clone()),
                restart: record.config.restart,
            };
            // First what may be refused: the record says what holds.
            self.tell_monitor(id, &request)?;
        } else if record.config.cgroups != CgroupsMode::Disabled {
            // As a running one would: else it could not be started any more.
            let uid = rustix::process::getuid().as_raw();
            let asked = Attainable::without_idle(&update.limits, record.config.cgroups, uid);
            Attainable::of(&asked, record.config.cgroups, uid).check()?;
        }
        self.store.save(&record)?;
        events::append(&self.dirs, &events::of_container(&record, "update")).or_ignore();
        Ok(())
    }

    pub(super) fn tell_monitor(&self, id: &ContainerId, request: &Request) -> Result<()> {
        match self.ask(id, request)? {
            Some(Reply::Done) => Ok(()),
            Some(Reply::Refused { message, hints, .. }) => {
                Err(Error::new(Kind::Conflict, message).with_hints(hints))
            }
            Some(Reply::Failed(text)) => Err(Error::failed(text)),
            Some(Reply::Exited(_) | Reply::Sessions(_) | Reply::Health { .. } | Reply::Published(_))
            | None => Err(self.not_running(id)),
        }
    }
}
