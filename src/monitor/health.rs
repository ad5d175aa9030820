//! Health checks: run by the monitor while the container runs, one at a time,
//! and not while it is paused. What they find is in `health.json`.

use super::control;
use super::exec::{self, Collected};
use super::life::Container;
use super::note;
use crate::error::{BestEffort, Error, Kind, Result};
use crate::state::{events, health as file};
use crate::types::exec::ExecRequest;
use crate::types::health::{
    CheckResult, HealthConfig, HealthState, HealthStatus, Healthcheck, LOG_SIZE, MAX_LOG_SIZE, OnFailure,
    StartupVerdict,
};
use jiff::Timestamp;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// The checks of one container.
#[derive(Default)]
pub(super) struct Health {
    state: RefCell<HealthState>,
    started: Cell<Option<Timestamp>>,
    /// Counts the runs: a result of an earlier one is nobody's.
    run: Cell<u64>,
    turn: tokio::sync::Mutex<()>,
}

/// What came of a check by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) passed: bool,
    pub(super) status: HealthStatus,
}

fn config(container: &Container) -> Option<&HealthConfig> {
    container.record.config.health.as_ref().filter(|config| config.is_active())
}

/// A run has begun.
pub(super) fn begin(container: &Rc<Container>, started: Timestamp) {
    let Some(config) = config(container) else { return };
    let health = &container.health;
    let directory = container.dirs.container(&container.record.id);
    if health.run.get() == 0 {
        // What a release before wrote and this one cannot read is written anew.
        let known = file::read(&directory).ok().flatten().unwrap_or_default();
        health.state.replace(known);
    }
    health.run.set(health.run.get() + 1);
    health.started.set(Some(started));
    health.state.borrow_mut().begin();
    save(container);
    if first_check(config, &health.state.borrow()).interval().is_some() {
        tokio::task::spawn_local(watch(Rc::clone(container), health.run.get()));
    }
}

/// The run is over. Docker says "unhealthy" of what does not run.
pub(super) fn end(container: &Container) {
    if config(container).is_some() {
        let health = &container.health;
        health.run.set(health.run.get() + 1);
        health.state.borrow_mut().status = HealthStatus::Unhealthy;
        save(container);
    }
}

fn save(container: &Container) {
    let directory = container.dirs.container(&container.record.id);
    file::save(&directory, &container.health.state.borrow()).or_ignore();
}

/// The startup check until it is done, then the check proper.
fn first_check<'a>(config: &'a HealthConfig, state: &HealthState) -> &'a Healthcheck {
    match &config.startup {
        Some(startup) if !state.startup.done => &startup.check,
        _ => &config.check,
    }
}

async fn watch(container: Rc<Container>, run: u64) {
    let Some(config) = config(&container) else { return };
    loop {
        let Some(pause) = pause(&container, config) else { return };
        if !container.control.runs_for(pause).await || container.health.run.get() != run {
            return;
        }
        let is_paused = container.init().is_some_and(|(_, paused)| paused);
        if is_paused {
            continue;
        }
        if check(&container).await.is_err_and(|error| error.kind() != Kind::Conflict) {
            return;
        }
    }
}

/// Docker's: the start interval in the start period until the first success.
fn pause(container: &Container, config: &HealthConfig) -> Option<Duration> {
    let state = container.health.state.borrow();
    let check = first_check(config, &state);
    let started = container.health.started.get()?;
    let age = Duration::try_from(Timestamp::now().duration_since(started)).unwrap_or_default();
    if age < check.start_period() && state.status == HealthStatus::Starting {
        return Some(check.start_interval());
    }
    check.interval()
}

/// Runs one check and takes in its result.
///
/// # Errors
/// `Conflict` where the container is not running or is paused; `Invalid` where
/// it has no check.
pub(super) async fn check(container: &Rc<Container>) -> Result<Verdict> {
    let none = || Error::invalid(format!("container {} has no defined healthcheck", container.record.name));
    let config = config(container).ok_or_else(none)?;
    let health = &container.health;
    let _turn = health.turn.lock().await;
    let run = health.run.get();
    let check = first_check(config, &health.state.borrow()).clone();
    let (Some(args), Some(started)) = (check.command(), health.started.get()) else { return Err(none()) };
    let limit = config.max_log_size.unwrap_or(LOG_SIZE).min(MAX_LOG_SIZE);
    let start = Timestamp::now();
    let request = ExecRequest { args, ..ExecRequest::default() };
    let (exit_code, mut output) =
        // One byte more tells whether there was more.
        match exec::run_collected(container, &request, limit + 1, Some(check.timeout())).await {
            Ok(Collected { exit: Some(code), output }) => (i32::from(code), output),
            Ok(Collected { exit: None, output }) => {
                let mut text = format!("Health check exceeded timeout ({:?})", check.timeout()).into_bytes();
                if !output.is_empty() {
                    text.extend(b": ");
                    text.extend(output);
                }
                (-1, text)
            }
            Err(error) if error.kind() == Kind::Conflict => return Err(error),
            Err(error) => (-1, error.to_string().into_bytes()),
        };
    if health.run.get() != run {
        return Err(Error::conflict(format!("container {} is not running", container.record.name)));
    }
    if output.len() > limit {
        output.truncate(limit);
        output.extend(b"...");
    }
    let output = String::from_utf8_lossy(&output).into_owned();
    let result = CheckResult { start, end: Timestamp::now(), exit_code, output };
    Ok(take(container, config, started, result))
}

fn take(
    container: &Rc<Container>,
    config: &HealthConfig,
    started: Timestamp,
    result: CheckResult,
) -> Verdict {
    let passed = result.exit_code == 0;
    let mut action = OnFailure::None;
    let (status, changed) = {
        let mut state = container.health.state.borrow_mut();
        let changed = if config.startup.is_some() && !state.startup.done {
            if state.take_startup(result, config) == StartupVerdict::Restart {
                action = OnFailure::Restart;
            }
            false
        } else {
            state.take(result, config, started)
        };
        (state.status, changed)
    };
    save(container);
    if changed {
        let event =
            events::of_container(&container.present_record(), format!("health_status: {}", status.name()));
        note::say(container, &event);
        if status == HealthStatus::Unhealthy {
            action = config.on_failure;
        }
    }
    act(container, action);
    Verdict { passed, status }
}

fn act(container: &Rc<Container>, action: OnFailure) {
    match action {
        OnFailure::None => {}
        OnFailure::Kill => {
            if container.control.signal(libc::SIGKILL).is_ok() {
                note::signalled(container, libc::SIGKILL);
            }
        }
        OnFailure::Restart => {
            container.control.ask_for_restart();
            tokio::task::spawn_local(control::end_run(Rc::clone(container)));
        }
        OnFailure::Stop => {
            container.control.forbid_restart();
            tokio::task::spawn_local(control::end_run(Rc::clone(container)));
        }
    }
}
