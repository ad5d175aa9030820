//! `stop`, `kill`, `wait`, `restart`.

use super::Engine;
use super::silent::end_silent;
use crate::channel::Channel;
use crate::error::{Error, Kind, Result};
use crate::monitor::messages::{Reply, Request};
use crate::types::container::ContainerRecord;
use crate::types::id::ContainerId;
use crate::types::signal;
use crate::types::status::{Exit, Status};
use std::time::{Duration, Instant};

/// Seconds: docker's default.
const STOP_TIMEOUT: i64 = 10;

/// Stops that are begun at once: each is an open connection.
const AT_ONCE: usize = 500;

/// A stop that is under way.
pub(super) struct Begun {
    channel: Channel<Request, Reply>,
    at: Instant,
}

/// How a container is stopped.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StopOptions {
    /// Seconds until SIGKILL: the container's own time, or ten, where `None`;
    /// negative: never.
    pub(crate) time: Option<i64>,
    /// Instead of the container's stop signal.
    pub(crate) signal: Option<i32>,
    /// It is to be started again: with `--rm` it stays, too.
    pub(crate) keep: bool,
}

impl StopOptions {
    pub(crate) fn within(time: Option<i64>) -> Self {
        Self { time, ..Self::default() }
    }

    pub(crate) fn to_restart(time: Option<i64>, signal: Option<i32>) -> Self {
        Self { time, signal, keep: true }
    }

    fn request(&self, record: &ContainerRecord) -> Result<Request> {
        let signal = self.signal.map_or_else(|| stop_signal(record), Ok)?;
        let timeout = self.time.or(record.config.stop_timeout).unwrap_or(STOP_TIMEOUT);
        Ok(Request::Stop { signal, timeout, keep: self.keep })
    }
}

impl Engine {
    /// Tells containers to end that [`Self::stop`] will wait for, one after the other:
    /// so they end at the same time. What fails is told then.
    pub(crate) fn begin_stops(&self, ids: &[&ContainerId], options: &StopOptions) {
        // A single one is asked once.
        for id in ids.iter().take(AT_ONCE).filter(|_| ids.len() > 1) {
            let Ok(snapshot) = self.store.snapshot(id) else { continue };
            let up = matches!(snapshot.status, Status::Running { .. } | Status::Restarting { .. });
            let Ok(request) = options.request(&snapshot.record) else { continue };
            self.wake_monitor(id);
            if let Ok(Some(mut channel)) = if up { self.connect(id, None) } else { Ok(None) }
                && channel.send(&request).is_ok()
            {
                self.stopping.borrow_mut().insert((*id).clone(), Begun { channel, at: Instant::now() });
            }
        }
    }

    /// Ends the container: its stop signal, and SIGKILL after a time.
    /// Nothing happens where it does not run. A remark where it had to be killed.
    pub(crate) fn stop(&self, id: &ContainerId, options: &StopOptions) -> Result<Option<String>> {
        let asked = self.stopping.borrow_mut().remove(id);
        let snapshot = match self.snapshot(id) {
            // By itself, with --rm.
            Err(error) if error.kind() == Kind::NotFound && asked.is_some() => return Ok(None),
            result => result?,
        };
        if matches!(snapshot.status, Status::Created | Status::Exited(_)) && asked.is_none() {
            return Ok(None);
        }
        let request = options.request(&snapshot.record)?;
        let Request::Stop { signal, timeout, .. } = request else { return Ok(None) };
        let start = asked.as_ref().map_or_else(Instant::now, |begun| begun.at);
        self.wake_monitor(id);
        let answer = match asked {
            Some(Begun { mut channel, .. }) => Ok(channel.receive().unwrap_or(None)),
            None => self.ask(id, &request),
        };
        let answer = match answer {
            Err(error) => match self.silent_monitor(id)? {
                Some(monitor) => {
                    end_silent(monitor, if signal == libc::SIGKILL { -1 } else { timeout });
                    None
                }
                None => return Err(error),
            },
            answer => answer?,
        };
        match answer {
            Some(Reply::Failed(text)) => Err(Error::failed(text)),
            // Else it was another's kill.
            Some(Reply::Exited(exit))
                if exit.code == 137
                    && signal != libc::SIGKILL
                    && timeout > 0
                    && start.elapsed() >= Duration::from_secs(timeout.unsigned_abs()) =>
            {
                let name = signal::name(signal);
                let container = &snapshot.record.name;
                Ok(Some(format!(
                    "StopSignal {name} failed to stop container {container} in {timeout} seconds, resorting to SIGKILL"
                )))
            }
            Some(_) => Ok(None),
            // It died meanwhile: cleaning up after it makes the stop true.
            None => match self.snapshot(id) {
                Err(error) if error.kind() == Kind::NotFound => Ok(None),
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
        self.wake_monitor(id);
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
