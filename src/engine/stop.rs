//! `stop`, `kill`, `wait`, `restart`.

use super::Engine;
use crate::error::{Error, Result};
use crate::monitor::messages::{Reply, Request};
use crate::types::container::ContainerRecord;
use crate::types::id::ContainerId;
use crate::types::signal;
use crate::types::status::{Exit, Status};
use std::time::Duration;

/// Seconds: docker's default.
const STOP_TIMEOUT: i64 = 10;

impl Engine {
    /// Ends the container: its stop signal, and SIGKILL after `time` seconds
    /// (the container's own time, or ten, where `None`; negative: never).
    /// Nothing happens where it does not run. A remark where it had to be killed.
    pub(crate) fn stop(
        &self,
        id: &ContainerId,
        time: Option<i64>,
        with: Option<i32>,
    ) -> Result<Option<String>> {
        let snapshot = self.snapshot(id)?;
        if matches!(snapshot.status, Status::Created | Status::Exited(_)) {
            return Ok(None);
        }
        let signal = match with {
            Some(signal) => signal,
            None => stop_signal(&snapshot.record)?,
        };
        let timeout = time.or(snapshot.record.config.stop_timeout).unwrap_or(STOP_TIMEOUT);
        let answer = match self.ask(id, &Request::Stop { signal, timeout }) {
            Err(error) => match self.silent_monitor(id)? {
                Some(monitor) => {
                    self.end_silent(monitor, if signal == libc::SIGKILL { -1 } else { timeout });
                    None
                }
                None => return Err(error),
            },
            answer => answer?,
        };
        match answer {
            Some(Reply::Failed(text)) => Err(Error::failed(text)),
            Some(Reply::Exited(exit)) if exit.code == 137 && signal != libc::SIGKILL && timeout > 0 => {
                let name = signal::name(signal);
                let container = &snapshot.record.name;
                Ok(Some(format!(
                    "StopSignal {name} failed to stop container {container} in {timeout} seconds, resorting to SIGKILL"
                )))
            }
            Some(_) => Ok(None),
            // It died meanwhile: cleaning up after it makes the stop true.
            None => match self.snapshot(id) {
                Err(error) if error.kind() == crate::error::Kind::NotFound => Ok(None),
                result => result.map(|_| None),
            },
        }
    }

    /// Sends a signal to the container's first process.
    ///
    /// # Errors
    /// `Conflict` where it is not running.
    pub(crate) fn kill(&self, id: &ContainerId, signal: i32) -> Result<()> {
        let snapshot = self.snapshot(id)?;
        let not_running = || {
            let name = &snapshot.record.name;
            Error::conflict(format!("cannot kill container: {name}: container {id} is not running"))
        };
        if !matches!(snapshot.status, Status::Running { .. } | Status::Restarting { .. }) {
            return Err(not_running());
        }
        match self.ask(id, &Request::Kill { signal })? {
            Some(Reply::Failed(text)) => Err(Error::conflict(text)),
            Some(_) => {
                if signal == libc::SIGKILL {
                    // Docker returns when it is dead, not before.
                    self.ask(id, &Request::Wait)?;
                }
                Ok(())
            }
            None => Err(not_running()),
        }
    }

    /// Waits for the end of the container; how it ended.
    pub(crate) fn wait(&self, id: &ContainerId) -> Result<Exit> {
        loop {
            if let Some(Reply::Exited(exit)) = self.ask(id, &Request::Wait)? {
                return Ok(exit);
            }
            match self.snapshot(id)?.status {
                Status::Exited(exit) => return Ok(exit),
                // It was not started yet, or its monitor is just ending.
                Status::Created | Status::Running { .. } | Status::Restarting { .. } => {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }
}

/// The signal that ends this container.
pub(crate) fn stop_signal(record: &ContainerRecord) -> Result<i32> {
    match &record.config.stop_signal {
        Some(text) => signal::parse(text).map_err(|error| error.context("the container's stop signal")),
        None => Ok(libc::SIGTERM),
    }
}
