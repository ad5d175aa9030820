//! `pod start`, `stop`, `restart`, `kill`, `pause`, `unpause`.
//!
//! What is shared starts first and ends last; containers start in the order in
//! which they were made, and stop in the reverse of that in which they started.

use super::Pod;
use crate::cgroup;
use crate::engine::Engine;
use crate::engine::list::Container;
use crate::engine::stop::StopOptions;
use crate::error::{Error, Kind, Result};
use crate::state::lock::Lock;
use crate::types::id::ContainerId;
use crate::types::pod::PodRecord;
use crate::types::status::Status;

impl Engine {
    /// Starts what does not run of a pod. What of it could not be done.
    ///
    /// # Errors
    /// Where the pod is gone, or what it shares cannot be had.
    pub(crate) fn start_pod(&self, pod: &PodRecord, warn: &mut dyn FnMut(&str)) -> Result<Vec<Error>> {
        let (_lock, pod) = self.locked(pod)?;
        let failures = self.start_all(&pod, warn)?;
        self.note_pod(&pod.record, "start");
        Ok(failures)
    }

    /// Ends what runs of a pod: each container has `time` seconds, or its own time.
    ///
    /// # Errors
    /// Where the pod is gone.
    pub(crate) fn stop_pod(
        &self,
        pod: &PodRecord,
        time: Option<i64>,
        warn: &mut dyn FnMut(&str),
    ) -> Result<Vec<Error>> {
        let (_lock, pod) = self.locked(pod)?;
        let failures = self.stop_all(&pod, &StopOptions::within(time), warn);
        if failures.is_empty() {
            self.end_group(&pod.record)?;
        }
        self.note_pod(&pod.record, "stop");
        Ok(failures)
    }

    /// Stops what runs of a pod, and starts all of it.
    ///
    /// # Errors
    /// As [`Engine::start_pod`].
    pub(crate) fn restart_pod(&self, pod: &PodRecord, warn: &mut dyn FnMut(&str)) -> Result<Vec<Error>> {
        let (_lock, pod) = self.locked(pod)?;
        let failures = self.stop_all(&pod, &StopOptions::to_restart(None, None), warn);
        if !failures.is_empty() {
            return Ok(failures);
        }
        let failures = self.start_all(&self.pod(pod.record.clone())?, warn)?;
        self.note_pod(&pod.record, "restart");
        Ok(failures)
    }

    /// Sends a signal to the first processes of a pod's containers.
    ///
    /// # Errors
    /// Where the pod is gone.
    pub(crate) fn kill_pod(&self, pod: &PodRecord, signal: i32) -> Result<Vec<Error>> {
        let (_lock, pod) = self.locked(pod)?;
        let failures = each(pod.to_stop(), |id| self.kill(id, signal));
        self.note_pod(&pod.record, "kill");
        Ok(failures)
    }

    /// Stops the processes of a pod where they are.
    ///
    /// # Errors
    /// Where the pod is gone.
    pub(crate) fn pause_pod(&self, pod: &PodRecord) -> Result<Vec<Error>> {
        let (_lock, pod) = self.locked(pod)?;
        let running = pod.to_stop().into_iter().filter(|one| !is_paused(one));
        let failures = each(running, |id| self.pause(id));
        self.note_pod(&pod.record, "pause");
        Ok(failures)
    }

    /// Lets the processes of a pod go on.
    ///
    /// # Errors
    /// Where the pod is gone.
    pub(crate) fn unpause_pod(&self, pod: &PodRecord) -> Result<Vec<Error>> {
        let (_lock, pod) = self.locked(pod)?;
        let failures = each(pod.containers.iter().filter(|one| is_paused(one)), |id| self.unpause(id));
        self.note_pod(&pod.record, "unpause");
        Ok(failures)
    }

    fn locked(&self, pod: &PodRecord) -> Result<(Lock, Pod)> {
        let (lock, record) = self.pod_store().lock(&pod.id)?;
        Ok((lock, self.pod(record)?))
    }

    fn start_all(&self, pod: &Pod, warn: &mut dyn FnMut(&str)) -> Result<Vec<Error>> {
        let mut up: Vec<&ContainerId> = Vec::new();
        match pod.infra() {
            Some(infra) if !infra.is_up() => {
                // They still have what was shared before, which nothing leads into any more.
                for container in pod.to_stop() {
                    let name = &container.record.name;
                    warn(&format!("{name} is started anew: what it shared with its pod had ended"));
                    self.stop(&container.record.id, &StopOptions::to_restart(None, None))?;
                }
                self.start(&infra.record.id, None, warn)
                    .map_err(|error| error.context(format!("what pod {} shares", pod.record.name)))?;
            }
            _ => up.extend(pod.to_stop().into_iter().map(|one| &one.record.id)),
        }
        let rest =
            pod.containers.iter().filter(|one| !one.record.config.infra && !up.contains(&&one.record.id));
        Ok(each(rest, |id| self.start(id, None, warn).map(drop)))
    }

    fn stop_all(&self, pod: &Pod, options: &StopOptions, warn: &mut dyn FnMut(&str)) -> Vec<Error> {
        each(pod.to_stop(), |id| {
            if let Some(remark) = self.stop(id, options)? {
                warn(&remark);
            }
            Ok(())
        })
    }

    /// Lets go of the control group of a pod in which nothing runs.
    pub(super) fn end_group(&self, pod: &PodRecord) -> Result<()> {
        let uid = self.enter()?.uid_map.to_outside(0).unwrap_or(0);
        cgroup::pod::end(uid, pod.id.short(), pod.cgroup_parent.as_deref());
        Ok(())
    }

    /// Starts what a pod shares, for a container of it that is about to start.
    pub(in crate::engine) fn start_infra(&self, pod: &ContainerId, warn: &mut dyn FnMut(&str)) -> Result<()> {
        let Some(infra) = self.pod_store().record(pod)?.infra else { return Ok(()) };
        // Without its lock: who starts it meanwhile is waited for there.
        if matches!(self.snapshot(&infra)?.status, Status::Running { .. }) {
            return Ok(());
        }
        self.start(&infra, None, warn).map(drop)
    }
}

/// Does it to each, whatever fails; who is gone has had it.
fn each<'a>(
    containers: impl IntoIterator<Item = &'a Container>,
    mut action: impl FnMut(&ContainerId) -> Result<()>,
) -> Vec<Error> {
    let mut failures = Vec::new();
    for container in containers {
        match action(&container.record.id) {
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => failures.push(error.context(format!("container {}", container.record.name))),
            Ok(()) => {}
        }
    }
    failures
}

fn is_paused(container: &Container) -> bool {
    matches!(container.status, Status::Running { paused: true, .. })
}
