//! `pod rm`, `pod prune`.

use crate::engine::Engine;
use crate::engine::remove::RemoveOptions;
use crate::error::{BestEffort, Error, Kind, Result};
use crate::types::id::ContainerId;
use crate::types::pod::PodRecord;

/// What `pod prune` did.
#[derive(Debug, Default)]
pub(crate) struct PrunedPods {
    pub(crate) ids: Vec<ContainerId>,
    pub(crate) failures: Vec<Error>,
    /// What cannot be read, and is left alone.
    pub(crate) unread: Vec<Error>,
}

impl Engine {
    /// Removes a pod with its containers, what they share last.
    ///
    /// # Errors
    /// `Conflict` where something in it runs and `force` is not set. What holds the
    /// namespaces does nothing by itself, and keeps no pod.
    pub(crate) fn remove_pod(&self, pod: &PodRecord, options: &RemoveOptions) -> Result<()> {
        let pods = self.pod_store();
        let (_lock, mut record) = match pods.lock(&pod.id) {
            // What is known of it is in the records of its containers.
            Err(error) if error.kind() == Kind::Invalid && options.force => {
                let _lock = pods.lock_damaged(&pod.id)?;
                return self.end_removal(&PodRecord::unknown(pod.id.clone()), options);
            }
            result => result?,
        };
        if !options.force {
            let up = self.pod(record.clone())?;
            if let Some(container) = up.to_stop().into_iter().find(|one| !one.record.config.infra) {
                return Err(Error::conflict(format!(
                    "not all containers could be removed from pod {}: removing pod containers: container {} is {}",
                    record.id,
                    container.record.name,
                    container.state()
                ))
                .hint("`coracle pod stop` ends what runs in it, `coracle pod rm -f` removes it as it is"));
            }
        }
        // Who finds this mark without our lock goes on from here.
        record.removing = true;
        pods.save(&record)?;
        self.end_removal(&record, options).inspect_err(|_| {
            record.removing = false;
            pods.save(&record).or_ignore();
        })
    }

    /// Removes what is left of a pod, which the caller has locked.
    pub(super) fn end_removal(&self, record: &PodRecord, options: &RemoveOptions) -> Result<()> {
        self.remove_members(&record.id, options)?;
        self.end_group(record)?;
        self.pod_store().remove(&record.id)?;
        self.note_pod(record, "remove");
        Ok(())
    }

    /// Removes the containers of a pod in the order in which they stop: the infra
    /// container last, running or not.
    pub(super) fn remove_members(&self, pod: &ContainerId, options: &RemoveOptions) -> Result<()> {
        let mut containers = self.members(pod)?;
        containers.sort_by_key(super::stop_order);
        for container in containers {
            let force = options.force || container.record.config.infra;
            match self.remove_any(&container.record.id, &RemoveOptions { force, ..*options }) {
                Err(error) if error.kind() == Kind::NotFound => {}
                result => {
                    result.map_err(|error| error.context(format!("container {}", container.record.name)))?;
                }
            }
        }
        Ok(())
    }

    /// Removes the pods whose containers have all ended.
    pub(crate) fn prune_pods(&self) -> Result<PrunedPods> {
        let mut pruned = PrunedPods::default();
        for pod in self.pods(&mut pruned.unread)? {
            if pod.state() != "Exited" {
                continue;
            }
            match self.remove_pod(&pod.record, &RemoveOptions { volumes: true, ..RemoveOptions::default() }) {
                Ok(()) => pruned.ids.push(pod.record.id),
                // Gone, or started, in the meantime.
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Conflict) => {}
                Err(error) => pruned.failures.push(error.context(format!("pod {}", pod.record.name))),
            }
        }
        Ok(pruned)
    }
}
