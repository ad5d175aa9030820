//! A container's group as systemd keeps it: a transient scope in a slice of the
//! user's, with the limits as properties of the unit, so that `systemctl --user
//! status` shows what runs and `systemctl --user stop` ends it.
//!
//! A scope is made of processes that exist. The container's first one must be
//! born in it, so a placeholder opens the scope and goes when init is there. The
//! monitor gets a scope of its own, beside: it must not be counted or killed
//! with the container, and may only move processes within the user manager's
//! tree (cgroups(7): the common ancestor must be writable).

use super::bus::Bus;
use super::delegate;
use super::message::Body;
use super::properties::{Property, Value, properties};
use super::{Group, PREFIX, Request, pod};
use crate::error::{BestEffort, Context, Error, Kind, Result, Trouble};
use crate::sys::process::{self, Cloned};
use rustix::process::{Signal, WaitId, WaitIdOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where programs of the user's belong: systemd.special(7).
const SLICE: &str = "app.slice";
/// After a container's short id, in the name of its monitor's scope.
const OF_MONITOR: &str = "-monitor.scope";
/// How long the unit of the run before may take to be forgotten.
const FORGET: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(3);

/// Scopes that systemd is making.
pub(crate) struct Starting {
    bus: Bus,
    /// Each with the number of its call.
    units: Vec<(Unit, u32)>,
    placeholder: Placeholder,
}

pub(super) struct Unit {
    pub(super) name: String,
    pub(super) properties: Vec<Property>,
}

impl Unit {
    fn is_slice(&self) -> bool {
        Path::new(&self.name).extension().is_some_and(|kind| kind == "slice")
    }
}

/// The name of a container's scope.
pub(super) fn unit_name(short_id: &str) -> String {
    format!("{PREFIX}{short_id}.scope")
}

/// Asks for the scopes. Meanwhile the caller goes on.
///
/// # Errors
/// `Invalid` for a parent that is no slice; where the manager cannot be reached.
pub(super) fn begin(request: &Request<'_>, socket: &Path) -> Result<Starting> {
    // Of a pod the containers lie in its slice, the monitors beside it.
    let around = slice(request.pod.as_ref().map_or(request.parent, |pod| pod.parent))?;
    let of_pod = request.pod.as_ref().map(pod::unit).transpose()?;
    let slice = of_pod.as_ref().map_or(&around, |unit| &unit.name).clone();
    let mut bus = Bus::connect(socket)?;
    let placeholder = Placeholder::start()?;
    let name = unit_name(request.short_id);
    let own = Unit { properties: container(request, &slice, placeholder.pid), name: name.clone() };
    let mut units: Vec<Unit> = of_pod.into_iter().chain([own]).collect();
    let monitor = format!("{PREFIX}{}{OF_MONITOR}", request.short_id);
    let here = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    if request.moves_monitor && !here.contains(&monitor) {
        let properties = vec![
            Property::new("Description", Value::Text(format!("monitor of {}", request.description))),
            Property::new("Slice", Value::Text(around)),
            Property::new("PIDs", Value::Numbers(vec![std::process::id()])),
            Property::new("CollectMode", Value::Text("inactive-or-failed".into())),
            // Stopped after it, so that it sees how the container ends.
            Property::new("Before", Value::Texts(vec![name])),
        ];
        units.push(Unit { name: monitor, properties });
    }
    let mut calls = Vec::new();
    for unit in units {
        let serial = start(&mut bus, &unit);
        calls.push((unit, serial));
    }
    bus.send()?;
    Ok(Starting { bus, units: calls, placeholder })
}

fn container(request: &Request<'_>, slice: &str, placeholder: u32) -> Vec<Property> {
    let mut list = vec![
        Property::new("Description", Value::Text(request.description.clone())),
        Property::new("Slice", Value::Text(slice.into())),
        Property::new("PIDs", Value::Numbers(vec![placeholder])),
        Property::new("Delegate", Value::Flag(true)),
        Property::new("CollectMode", Value::Text("inactive-or-failed".into())),
        // `systemctl stop`, and the end of the user manager, do as `stop` does.
        Property::new("KillSignal", Value::Signal(request.stop_signal)),
        Property::new("TimeoutStopUSec", Value::Number(request.stop_timeout)),
    ];
    list.extend(properties(request.limits));
    list
}

/// `--cgroup-parent`, as docker takes it where systemd manages.
pub(super) fn slice(parent: Option<&str>) -> Result<String> {
    let Some(parent) = parent else { return Ok(SLICE.into()) };
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    let stem = parent.strip_suffix(".slice").filter(|stem| !stem.is_empty() && parent.len() < 256);
    let valid = stem.is_some_and(|stem| {
        stem == "-"
            || (stem.bytes().all(good)
                && !stem.starts_with('-')
                && !stem.ends_with('-')
                && !stem.contains("--"))
    });
    if valid {
        return Ok(parent.to_owned());
    }
    Err(Error::invalid(format!(
        "--cgroup-parent {parent:?}: where systemd manages control groups it is a slice named as \"xxx.slice\""
    ))
    .hint("a dash in its name is a level: a-b.slice lies in a.slice"))
}

fn start(bus: &mut Bus, unit: &Unit) -> u32 {
    let mut body = Body::default();
    body.string(&unit.name);
    body.string("fail");
    write_properties(&mut body, &unit.properties);
    // No auxiliary units.
    body.array(8, |_| {});
    bus.call("StartTransientUnit", "ssa(sv)a(sa(sv))", body)
}

fn write_properties(body: &mut Body, properties: &[Property]) {
    body.array(8, |array| {
        for property in properties {
            array.structure(|item| property.write(item));
        }
    });
}

impl Starting {
    /// Waits for the scopes and makes the group in which the container lies.
    ///
    /// # Errors
    /// Where systemd refuses; `Invalid` for a limit whose controller is missing.
    pub(super) fn finish(mut self, request: &Request<'_>) -> Result<Group> {
        for (unit, serial) in std::mem::take(&mut self.units) {
            self.until_started(&unit, serial)?;
        }
        let path = delegate::group_of(self.placeholder.pid)
            .ok_or_else(|| Error::failed("systemd has made no control group for the container"))?;
        if !path.ends_with(unit_name(request.short_id)) {
            return Err(Error::failed(format!("systemd left the container in {}", path.display())));
        }
        Group::in_scope(path, self.placeholder, request)
    }

    fn until_started(&mut self, unit: &Unit, mut serial: u32) -> Result<()> {
        let began = Instant::now();
        loop {
            match self.bus.answer(serial) {
                Ok(job) => {
                    return self.bus.job_done(&job).map_err(|error| error.context(unit.name.clone()));
                }
                // The pod's, for a container of it that was there first.
                Err(error) if error.kind() == Kind::Conflict && unit.is_slice() => {
                    return Ok(());
                }
                // That of the run before, of which nothing is left.
                Err(error) if error.kind() == Kind::Conflict && began.elapsed() < FORGET => {
                    std::thread::sleep(RETRY);
                    serial = start(&mut self.bus, unit);
                    self.bus.send()?;
                }
                Err(error) => return Err(error.context(format!("start {}", unit.name))),
            }
        }
    }
}

/// Takes this process, which a monitor has started and which is to outlive it,
/// out of the monitor's scope, where it is in one: else that would stay when the
/// monitor ends, and the container could not be started again.
///
/// # Errors
/// Where systemd refuses.
pub(crate) fn leave_scope_of_monitor(role: &str, description: &str) -> Result<()> {
    let here = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    if !here.lines().any(|line| line.ends_with(OF_MONITOR)) {
        return Ok(());
    }
    let uid = here.split("/user@").nth(1).and_then(|rest| rest.split('.').next()?.parse().ok());
    let Some(manager) = uid.and_then(delegate::manager) else { return Ok(()) };
    let pid = std::process::id();
    let unit = Unit {
        name: format!("{PREFIX}{role}-{pid}.scope"),
        properties: vec![
            Property::new("Description", Value::Text(description.into())),
            Property::new("Slice", Value::Text(SLICE.into())),
            Property::new("PIDs", Value::Numbers(vec![pid])),
            Property::new("CollectMode", Value::Text("inactive-or-failed".into())),
        ],
    };
    let mut bus = Bus::connect(&manager.socket)?;
    let serial = start(&mut bus, &unit);
    bus.send()?;
    let job = bus.answer(serial)?;
    bus.job_done(&job).map_err(|error| error.context(unit.name))
}

/// Sets limits of a scope that runs.
///
/// # Errors
/// Where systemd refuses.
pub(super) fn set_properties(socket: &Path, unit: &str, properties: &[Property]) -> Result<()> {
    let mut body = Body::default();
    body.string(unit);
    // For this run only.
    body.u32(1);
    write_properties(&mut body, properties);
    let mut bus = Bus::connect(socket)?;
    let serial = bus.call("SetUnitProperties", "sba(sv)", body);
    bus.send()?;
    bus.answer(serial).map(drop)
}

/// What the manager is doing: `running`, `degraded`, `stopping`, …
///
/// # Errors
/// Where it cannot be asked.
pub(super) fn manager_state(socket: &Path) -> Result<String> {
    let mut bus = Bus::connect(socket)?;
    let serial = bus.get("SystemState");
    bus.send()?;
    bus.answer(serial)
}

/// A process that does nothing, until it is killed.
pub(super) struct Placeholder {
    pub(super) pid: u32,
    pidfd: OwnedFd,
}

impl Placeholder {
    fn start() -> Result<Self> {
        match process::fork().context(|| "start a process").see_doctor(Trouble::Processes)? {
            Cloned::Child => {
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).or_ignore();
                process::close_all_but(&[]).or_ignore();
                process::reset_signals();
                loop {
                    std::thread::sleep(Duration::from_secs(3600));
                }
            }
            Cloned::Parent { pid, pidfd } => Ok(Self { pid, pidfd }),
        }
    }

    /// Moves it into the group at `path`.
    pub(super) fn enter(&self, path: &Path) -> Result<()> {
        let file: PathBuf = path.join("cgroup.procs");
        std::fs::write(&file, self.pid.to_string()).context(|| format!("write to {}", file.display()))
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL).or_ignore();
        rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED).or_ignore();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_a_slice() {
        assert_eq!(slice(None).expect("the custom"), "app.slice");
        assert_eq!(slice(Some("a-b.slice")).expect("a slice"), "a-b.slice");
        for bad in
            ["", "a", ".slice", "a/b.slice", "../x.slice", "-a.slice", "a--b.slice", "a b.slice", "a.scope"]
        {
            let error = slice(Some(bad)).expect_err(bad).to_string();
            assert!(error.contains("xxx.slice"), "{error}");
        }
    }
}
