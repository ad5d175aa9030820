//! `healthcheck run`: the monitor checks, as it does by itself.

use super::Engine;
use crate::error::{Error, Kind, Result};
use crate::monitor::messages::{Reply, Request};
use crate::types::health::HealthStatus;
use crate::types::id::ContainerId;
use crate::types::status::Status;
use jiff::Timestamp;
use std::time::Duration;

/// What came of a check by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Of this one check.
    pub(crate) passed: bool,
    /// Of the container, which takes several failures to be unhealthy.
    pub(crate) status: HealthStatus,
    /// It is so young that failures do not count: `--health-start-period`.
    pub(crate) is_spared: bool,
}

impl Engine {
    /// Runs the container's health check now; its result counts as any other.
    ///
    /// # Errors
    /// `Invalid` where the container has none; `Conflict` where it does not run.
    pub(crate) fn check_health(&self, id: &ContainerId) -> Result<Checked> {
        let snapshot = self.snapshot(id)?;
        let record = &snapshot.record;
        let Some(health) = record.config.health.as_ref().filter(|health| health.is_active()) else {
            return Err(Error::invalid(format!("container {} has no defined healthcheck", record.name))
                .hint("give it one with --health-cmd"));
        };
        let not_running = || Error::conflict(format!("container {} is not running", record.name));
        let Status::Running { since, .. } = snapshot.status else { return Err(not_running()) };
        let age = Duration::try_from(Timestamp::now().duration_since(since)).unwrap_or_default();
        let is_spared = age < health.check.start_period();
        match self.ask(id, &Request::CheckHealth)? {
            Some(Reply::Health { passed, status }) => Ok(Checked { passed, status, is_spared }),
            Some(Reply::Failed(text)) => Err(Error::new(Kind::Conflict, text)),
            _ => Err(not_running()),
        }
    }
}
