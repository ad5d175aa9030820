//! `wait --condition`: until a container is in one of several states.

use super::Engine;
use crate::error::{Error, Kind, Result};
use crate::monitor::messages::{Reply, Request};
use crate::state::store::Snapshot;
use crate::types::id::ContainerId;
use crate::types::status::Status;
use std::time::Duration;

/// What is waited for: docker's words and podman's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Created,
    Running,
    Paused,
    /// It has ended and is not started again by itself.
    Exited,
    /// It does not run: an end, or never started.
    NotRunning,
    /// The end of the present run or of the next one.
    NextExit,
    Removed,
    Healthy,
    Unhealthy,
}

impl Condition {
    /// # Errors
    /// `Invalid` for a word that is none.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Ok(match text.to_lowercase().as_str() {
            "created" | "configured" | "initialized" => Self::Created,
            "running" => Self::Running,
            "paused" => Self::Paused,
            "exited" | "stopped" => Self::Exited,
            "not-running" => Self::NotRunning,
            "next-exit" => Self::NextExit,
            "removed" | "removing" => Self::Removed,
            "healthy" => Self::Healthy,
            "unhealthy" => Self::Unhealthy,
            _ => {
                return Err(Error::invalid(format!("invalid condition {text:?}")).hint(
                    "it is one of configured, created, exited, healthy, initialized, next-exit, not-running, paused, removed, running, stopped, unhealthy",
                ));
            }
        })
    }
}

/// A container that is waited for.
pub(crate) struct Waiting {
    pub(crate) id: ContainerId,
    /// How many runs had begun when the waiting began.
    begun: Option<jiff::Timestamp>,
    last_code: Option<u8>,
}

impl Engine {
    /// Remembers how the container is, for [`Self::reached`].
    ///
    /// # Errors
    /// `NotFound` where there is none of that id.
    pub(crate) fn waiting(&self, id: ContainerId) -> Result<Waiting> {
        let snapshot = self.snapshot(&id)?;
        let begun = if matches!(snapshot.status, Status::Exited(_)) { snapshot.last_started } else { None };
        Ok(Waiting { id, begun, last_code: code(&snapshot) })
    }

    /// Whether one of the conditions holds: the exit code where the container
    /// has ended, -1 where it has not.
    pub(crate) fn reached(&self, waiting: &mut Waiting, conditions: &[Condition]) -> Result<Option<i32>> {
        let snapshot = match self.snapshot(&waiting.id) {
            Ok(snapshot) => snapshot,
            // Gone: of all that it could have been, it has ended.
            Err(error) if error.kind() == Kind::NotFound => {
                return Ok(Some(waiting.last_code.map_or(-1, i32::from)));
            }
            Err(error) => return Err(error),
        };
        waiting.last_code = code(&snapshot).or(waiting.last_code);
        let holds = |condition: &Condition| match (condition, &snapshot.status) {
            (Condition::Created, Status::Created)
            | (Condition::Exited, Status::Exited(_))
            | (Condition::NotRunning, Status::Created | Status::Restarting { .. } | Status::Exited(_)) => {
                true
            }
            (Condition::Running, Status::Running { paused, .. }) => !paused,
            (Condition::Paused, Status::Running { paused, .. }) => *paused,
            (Condition::NextExit, Status::Exited(exit) | Status::Restarting { last: exit, .. }) => {
                waiting.begun != Some(exit.started_at)
            }
            (Condition::Healthy | Condition::Unhealthy, Status::Running { .. }) => {
                let wanted = if *condition == Condition::Healthy { "healthy" } else { "unhealthy" };
                self.store.health(&snapshot.record).is_some_and(|health| health.status.name() == wanted)
            }
            _ => false,
        };
        if !conditions.iter().any(holds) {
            return Ok(None);
        }
        Ok(Some(match &snapshot.status {
            Status::Exited(exit) | Status::Restarting { last: exit, .. } => exit.code.into(),
            Status::Created if conditions.contains(&Condition::NotRunning) => {
                snapshot.not_started.as_ref().map_or(0, |exit| exit.code.into())
            }
            Status::Created | Status::Running { .. } => -1,
        }))
    }

    /// Waits until the container does not run: for the end of the present run, also
    /// where another follows by its policy. Its exit code; 0 of one that was never started.
    ///
    /// # Errors
    /// `NotFound` where there is none of that id.
    pub(crate) fn wait_for_exit(&self, id: &ContainerId) -> Result<u8> {
        loop {
            let snapshot = self.snapshot(id)?;
            match snapshot.status {
                Status::Created => return Ok(snapshot.not_started.map_or(0, |exit| exit.code)),
                Status::Exited(exit) => return Ok(exit.code),
                Status::Running { .. } | Status::Restarting { .. } => {
                    if let Some(Reply::Exited(exit)) = self.ask(id, &Request::WaitForRun)? {
                        return Ok(exit.code);
                    }
                    // Its monitor is just ending, or is one of a release that has no such answer.
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }

    /// Waits for the end of the present run or of the next one; its exit code, -1
    /// where the container is removed before that.
    ///
    /// # Errors
    /// `NotFound` where there is none of that id.
    pub(crate) fn wait_for_next_exit(&self, id: &ContainerId, interval: Duration) -> Result<i32> {
        let mut waiting = self.waiting(id.clone())?;
        loop {
            if let Some(Reply::Exited(exit)) = self.ask(id, &Request::WaitForRun)? {
                return Ok(exit.code.into());
            }
            if let Some(code) = self.reached(&mut waiting, &[Condition::NextExit])? {
                return Ok(code);
            }
            std::thread::sleep(interval);
        }
    }

    /// Waits until the first of these containers fulfils one of the conditions;
    /// its place among them and its code.
    ///
    /// # Errors
    /// What the looks at them meet.
    pub(crate) fn wait_for_first(
        &self,
        waiting: &mut [Waiting],
        conditions: &[Condition],
        interval: Duration,
    ) -> Result<(usize, i32)> {
        loop {
            for (place, one) in waiting.iter_mut().enumerate() {
                if let Some(code) = self.reached(one, conditions)? {
                    return Ok((place, code));
                }
            }
            std::thread::sleep(interval);
        }
    }
}

fn code(snapshot: &Snapshot) -> Option<u8> {
    match &snapshot.status {
        Status::Exited(exit) | Status::Restarting { last: exit, .. } => Some(exit.code),
        Status::Created | Status::Running { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_dockers_and_podmans_words() {
        assert_eq!(Condition::parse("stopped").ok(), Some(Condition::Exited));
        assert_eq!(Condition::parse("not-running").ok(), Some(Condition::NotRunning));
        assert_eq!(Condition::parse("healthy").ok(), Some(Condition::Healthy));
        assert_eq!(Condition::parse("done").expect_err("unknown").to_string(), "invalid condition \"done\"");
    }
}
