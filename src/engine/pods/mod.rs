//! Pods: which there are, what is in each, and what state it is in.
//!
//! A pod is a record ([`crate::state::pods`]); its containers name it in theirs.
//! The first of them, the infra container, runs nothing: its first process keeps
//! the namespaces that the others join, its monitor has the way out and the
//! published ports. So all that a pod is made of is what containers are made of.

pub(crate) mod create;
pub(crate) mod document;
mod join;
pub(crate) mod life;
pub(crate) mod remove;

use super::Engine;
use super::list::Container;
use super::remove::RemoveOptions;
use crate::error::{BestEffort, Error, Kind, Result};
use crate::state::events;
use crate::state::pods::Pods;
use crate::types::event::{Event, EventKind};
use crate::types::id::ContainerId;
use crate::types::pod::PodRecord;
use crate::types::status::Status;
use std::cmp::Reverse;

/// A pod as the disk and the kernel say it is now.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) record: PodRecord,
    /// The infra container first, then in the order in which they were made.
    pub(crate) containers: Vec<Container>,
}

impl Pod {
    fn new(record: PodRecord, mut containers: Vec<Container>) -> Self {
        containers.sort_by(|one, other| {
            let key = |container: &Container| (!container.record.config.infra, container.record.created);
            key(one).cmp(&key(other)).then_with(|| one.record.id.cmp(&other.record.id))
        });
        Self { record, containers }
    }

    pub(crate) fn infra(&self) -> Option<&Container> {
        self.containers.iter().find(|container| container.record.config.infra)
    }

    /// Podman's word for the state.
    pub(crate) fn state(&self) -> &'static str {
        let count = |state: &str| self.containers.iter().filter(|one| one.state() == state).count();
        let all = self.containers.len();
        match () {
            () if all == 0 => "Created",
            () if count("running") == all => "Running",
            () if count("running") > 0 => "Degraded",
            () if count("paused") == all => "Paused",
            () if count("exited") == all => "Exited",
            () if count("paused") > 0 || count("restarting") > 0 => "Degraded",
            () if count("exited") > 0 => "Stopped",
            () => "Created",
        }
    }

    /// The containers that are up, the last that was started first, and what they
    /// share last: in this order they stop.
    pub(crate) fn to_stop(&self) -> Vec<&Container> {
        let mut up: Vec<&Container> = self.containers.iter().filter(|one| one.is_up()).collect();
        up.sort_by_key(|one| stop_order(one));
        up
    }
}

/// The last that was started first, and what they share last.
fn stop_order(container: &Container) -> (bool, Reverse<Option<jiff::Timestamp>>) {
    (container.record.config.infra, Reverse(started(container)))
}

fn started(container: &Container) -> Option<jiff::Timestamp> {
    match &container.status {
        Status::Running { since, .. } => Some(*since),
        Status::Restarting { last, .. } => Some(last.started_at),
        Status::Created | Status::Exited(_) => container.last_started,
    }
}

impl Engine {
    pub(crate) fn pod_store(&self) -> Pods {
        Pods::new(&self.dirs)
    }

    /// The pod of this name, id, or beginning of an id.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` where several ids begin so.
    pub(crate) fn find_pod(&self, word: &str) -> Result<PodRecord> {
        self.sweep_pods()?;
        self.pod_store().find(word)
    }

    /// As [`Engine::find_pod`], for who removes it: of one whose record is damaged what is
    /// known, which is its id, and its name where a container in it has that.
    pub(crate) fn find_pod_or_remains(&self, word: &str) -> Result<PodRecord> {
        let found = self.find_pod(word);
        let is_id = match &found {
            Err(error) if error.kind() == Kind::Invalid => true,
            Err(error) if error.kind() == Kind::NotFound => false,
            _ => return found,
        };
        let damaged = self.pod_store().all()?.damaged;
        if damaged.is_empty() {
            return found;
        }
        let containers = self.store.records(&mut Vec::new())?;
        let is_called = |id: &ContainerId| {
            let of_pods = containers.iter().filter_map(|container| container.config.pod.as_ref());
            of_pods.into_iter().any(|pod| pod.id == *id && pod.name == word)
        };
        let ids = damaged.into_iter().filter_map(|pod| ContainerId::parse(&pod.key).ok());
        let id = ids.into_iter().find(|id| if is_id { id.as_str().starts_with(word) } else { is_called(id) });
        id.map_or(found, |id| Ok(PodRecord::unknown(id)))
    }

    /// That no pod has this name, which a container is to have: a word means one thing.
    ///
    /// # Errors
    /// `Conflict`.
    pub(super) fn check_no_pod(&self, name: &str) -> Result<()> {
        match self.pod_store().all()?.whole.into_iter().find(|pod| pod.name == name) {
            Some(pod) => {
                Err(Error::conflict(format!("name {name:?} is already in use by pod {}", pod.id.short()))
                    .hint("choose another name, or remove that pod"))
            }
            None => Ok(()),
        }
    }

    /// The pod that was made last.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub(crate) fn newest_pod(&self) -> Result<PodRecord> {
        self.sweep_pods()?;
        self.pod_store().all()?.whole.pop().ok_or_else(|| Error::not_found("there are no pods"))
    }

    /// All pods, the oldest first. What cannot be read is told as a note.
    pub(crate) fn pods(&self, notes: &mut Vec<Error>) -> Result<Vec<Pod>> {
        self.sweep_pods()?;
        let records = self.pod_store().all()?.noting(notes);
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let containers = self.containers(false, notes)?;
        let pod = |record: PodRecord| {
            let own = |one: &&Container| one.record.config.is_in_pod(&record.id);
            let own = containers.iter().filter(own).cloned().collect();
            Pod::new(record, own)
        };
        Ok(records.into_iter().map(pod).collect())
    }

    /// A pod with its containers.
    ///
    /// # Errors
    /// Where one of them cannot be read.
    pub(crate) fn pod(&self, record: PodRecord) -> Result<Pod> {
        let containers = self.members(&record.id)?;
        Ok(Pod::new(record, containers))
    }

    /// The containers whose records name a pod.
    fn members(&self, pod: &ContainerId) -> Result<Vec<Container>> {
        let is_in = |id: &ContainerId| self.store.record(id).is_ok_and(|record| record.config.is_in_pod(pod));
        let mut containers = Vec::new();
        for id in self.store.ids()?.into_iter().filter(is_in) {
            match self.container(&id, false) {
                Ok(container) => containers.push(container),
                // Removed while we looked.
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error.context(format!("container {}", id.short()))),
            }
        }
        Ok(containers)
    }

    /// Ends what killed commands have left half made or half removed.
    pub(crate) fn sweep_pods(&self) -> Result<()> {
        let pods = self.pod_store();
        if pods.has_left_over()? {
            let making = pods.begin()?;
            for record in pods.left_over(&making)? {
                self.remove_members(&record.id, &RemoveOptions::by_force())?;
                pods.abandon(&record.id, &making);
            }
        }
        for record in pods.all()?.whole.into_iter().filter(|record| record.removing) {
            let Some(_lock) = pods.try_lock(&record.id)? else { continue };
            // Who had it has perhaps given up.
            if pods.record(&record.id).is_ok_and(|record| record.removing) {
                self.end_removal(&record, &RemoveOptions::by_force())?;
            }
        }
        Ok(())
    }

    /// Podman's document of a pod.
    ///
    /// # Errors
    /// As [`Engine::find_pod`].
    pub(crate) fn pod_document(&self, word: &str) -> Result<serde_json::Value> {
        let mut pod = self.pod(self.find_pod(word)?)?;
        for container in &mut pod.containers {
            container.cgroup = self.store.live(&container.record.id)?.and_then(|live| live.cgroup);
        }
        Ok(document::document(&pod, &self.dirs.volumes()))
    }

    pub(crate) fn note_pod(&self, pod: &PodRecord, action: &str) {
        let mut event = Event::now(EventKind::Pod, action, pod.id.as_str());
        event.attributes = pod.labels.clone();
        events::append(&self.dirs, &event.with("name", pod.name.clone())).or_ignore();
    }
}

/// A pod for tests.
#[cfg(test)]
pub(crate) fn sample(name: &str, containers: Vec<Container>) -> Pod {
    let infra = containers.first().map(|one| one.record.id.clone());
    Pod::new(PodRecord { infra, ..PodRecord::sample(name, 9) }, containers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::list::samples::{container, exited, running};

    fn pod(containers: Vec<Container>) -> Pod {
        sample("p", containers)
    }

    #[test]
    fn states_are_podman_s() {
        let up = || running("2026-01-03T12:00:00Z");
        let down = || exited(0, "2026-01-03T12:00:00Z");
        for (states, expected) in [
            (vec![], "Created"),
            (vec![Status::Created, Status::Created], "Created"),
            (vec![up(), up()], "Running"),
            (vec![up(), down()], "Degraded"),
            (vec![up(), Status::Created], "Degraded"),
            (vec![down(), down()], "Exited"),
            (vec![down(), Status::Created], "Stopped"),
        ] {
            let all =
                states.into_iter().enumerate().map(|(day, status)| container("x", day as u8 + 1, status));
            assert_eq!(pod(all.collect()).state(), expected);
        }
    }

    #[test]
    fn the_last_started_stops_first_and_the_infra_container_last() {
        let mut infra = container("infra", 9, running("2026-01-09T12:00:00Z"));
        infra.record.config.infra = true;
        let pod = pod(vec![
            container("second", 2, running("2026-01-05T12:00:00Z")),
            container("first", 1, running("2026-01-06T12:00:00Z")),
            infra,
            container("down", 3, Status::Created),
        ]);
        let names = |all: &[&Container]| all.iter().map(|one| one.record.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&pod.containers.iter().collect::<Vec<_>>()), ["infra", "first", "second", "down"]);
        assert_eq!(names(&pod.to_stop()), ["first", "second", "infra"]);
    }
}
