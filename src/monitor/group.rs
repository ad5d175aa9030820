//! The control group of a run: what is asked for, and what the container goes
//! without where it cannot be had.

use super::control::{STOP_TIMEOUT, stop_signal};
use super::life::Container;
use crate::cgroup::pod::PodGroup;
use crate::cgroup::{self, Attainable, Begun, Group, Request};
use crate::error::{Context, Error, Kind, Result, Trouble};
use crate::runtime::plan::{Cgroup, Plan};
use crate::state::pods::Pods;
use crate::types::cgroup::CgroupsMode;
use crate::types::container::RecordedRoot;
use crate::types::pod::PodRecord;
use std::path::PathBuf;
use std::rc::Rc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

/// Characters of a unit's description.
const DESCRIPTION: usize = 120;

/// The pod of a container, and what of its limits holds here.
pub(super) struct OfPod {
    record: PodRecord,
    asked: Attainable,
    sibling: Option<PathBuf>,
}

/// # Errors
/// `NotFound` where the pod is gone.
pub(super) fn pod_of(container: &Container) -> Result<Option<OfPod>> {
    let Some(pod) = &container.record.config.pod else { return Ok(None) };
    let record = Pods::new(&container.dirs).record(&pod.id)?;
    let asked = container.attainable(&record.limits);
    let infra = record.infra.as_ref().filter(|id| **id != container.record.id);
    let live = infra.map(|infra| container.store.live(infra)).transpose()?.flatten();
    Ok(Some(OfPod { record, asked, sibling: live.and_then(|live| live.cgroup) }))
}

impl OfPod {
    fn group(&self) -> PodGroup<'_> {
        PodGroup {
            short_id: self.record.id.short(),
            description: shortened(&format!("coracle pod {}", self.record.name)),
            limits: &self.asked.limits,
            parent: self.record.cgroup_parent.as_deref(),
            sibling: self.sibling.clone(),
        }
    }
}

/// A group on its way.
pub(super) struct Pending<'a> {
    request: Request<'a>,
    begun: Begun,
    warnings: Vec<String>,
    runs_systemd: bool,
}

/// Begins to make the container's group.
///
/// # Errors
/// `Invalid`, naming the controller, for a limit that cannot be kept.
pub(super) fn begin<'a>(
    container: &'a Container,
    asked: &'a Attainable,
    pod: Option<&'a OfPod>,
) -> Result<Pending<'a>> {
    let limits = &asked.limits;
    let config = &container.record.config;
    let timeout = config.stop_timeout.unwrap_or(STOP_TIMEOUT);
    let request = Request {
        short_id: container.record.id.short(),
        description: describe(container),
        limits,
        mode: config.cgroups,
        parent: config.cgroup_parent.as_deref(),
        pod: pod.map(OfPod::group),
        uid: container.uid(),
        stop_signal: stop_signal(container),
        stop_timeout: u64::try_from(timeout).map_or(u64::MAX, |seconds| seconds.saturating_mul(1_000_000)),
        // A manager that refuses the next run is about to end.
        is_restart: container.control.restarts() > 0,
        is_writable: config.writes_to_its_group(),
        moves_monitor: config.cgroups == CgroupsMode::Enabled,
    };
    let mut warnings: Vec<String> = asked.warning().into_iter().collect();
    warnings.extend(pod.and_then(|pod| pod.asked.warning()));
    if config.cgroups == CgroupsMode::Disabled && !limits.is_empty() {
        let flags = limits.flags().join(", ");
        warnings.push(format!("--cgroups=disabled: the container runs without its limits: {flags}"));
    }
    let begun = match cgroup::begin(&request) {
        Err(error) => do_without(&request, error, &mut warnings).map(|()| Begun::None)?,
        Ok(begun) => begun,
    };
    Ok(Pending { request, begun, warnings, runs_systemd: config.runs_systemd() })
}

impl Pending<'_> {
    /// Waits until the group is there, and makes it the one that the plan's
    /// first process is born in.
    ///
    /// # Errors
    /// As [`begin`].
    pub(super) fn finish(self, plan: &mut Plan, warnings: &mut Vec<String>) -> Result<Option<Group>> {
        let Self { request, begun, warnings: mut earlier, runs_systemd } = self;
        warnings.append(&mut earlier);
        let group = match begun.finish(&request) {
            Err(error) => do_without(&request, error, warnings).map(|()| None)?,
            Ok(group) => group,
        };
        let required = request.is_needed();
        if group.is_none() && runs_systemd {
            warnings.push(format!(
                "systemd does not come up in the container without a control group of its own ({})",
                Trouble::ControlGroups.pointer()
            ));
        }
        plan.cgroup = match &group {
            Some(group) => {
                let fd = group.fd().try_clone_to_owned().context(|| "keep the control group")?;
                Some(Cgroup { fd, required })
            }
            None => None,
        };
        Ok(group)
    }
}

/// A container that asked for nothing runs without a group.
fn do_without(request: &Request<'_>, error: Error, warnings: &mut Vec<String>) -> Result<()> {
    let needed = request.is_needed() || request.is_restart;
    if needed || error.kind() == Kind::Invalid {
        return Err(error);
    }
    let pointer = Trouble::ControlGroups.pointer();
    warnings.push(format!("the container has no control group of its own: {error} ({pointer})"));
    Ok(())
}

/// The group, where the first process was born in it.
pub(super) fn taken_by(group: Option<Group>, init: u32, warnings: &mut Vec<String>) -> Option<Group> {
    let mut group = group?;
    if group.is_taken_by(init) {
        return Some(group);
    }
    warnings.push(
        "the container has no control group of its own: the kernel moves no process there from this session's \
         (leave out --cgroups=no-conmon)"
            .to_owned(),
    );
    None
}

/// Counts the kills for want of memory as they happen: systemd removes a scope,
/// and its counters, as soon as its last process has ended.
pub(super) fn watch_memory(container: &Rc<Container>) -> Option<JoinHandle<()>> {
    let file = container.with_group(Group::memory_events)??;
    // Deprecated for types that may change their fd: an `OwnedFd` does not.
    #[allow(deprecated)]
    let events = AsyncFd::with_interest(file, Interest::PRIORITY).ok()?;
    let container = Rc::clone(container);
    Some(tokio::task::spawn_local(async move {
        while let Ok(mut guard) = events.ready(Interest::PRIORITY).await {
            guard.clear_ready();
            // What it has told is told again until it was read.
            if rustix::io::pread(events.get_ref(), &mut [0; 512], 0).is_err() {
                return;
            }
            container.count_oom_kills();
        }
    }))
}

/// Whether it lay in a scope of a user manager that ends, or has ended.
pub(super) fn is_ended_by_log_out(container: &Container) -> bool {
    container.with_group(Group::is_scope) == Some(true) && cgroup::manager_ends(container.uid())
}

/// `web (docker.io/library/nginx:latest)`
fn describe(container: &Container) -> String {
    let record = &container.record;
    let what = match &record.root {
        RecordedRoot::Image { reference, .. } => reference.clone(),
        RecordedRoot::Directory { path, .. } => path.display().to_string(),
        RecordedRoot::Nothing => "what its pod shares".to_owned(),
    };
    shortened(&format!("coracle container {} ({what})", record.name))
}

fn shortened(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(DESCRIPTION).collect()
}
