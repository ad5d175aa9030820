//! Ports that are published while a container is there: `port add`, `port rm`,
//! `update --publish-add`, `--publish-rm`.

use super::Engine;
use crate::error::{BestEffort, Error, Kind, Result};
use crate::monitor::messages::{Reply, Request};
use crate::state::{events, lock};
use crate::types::id::ContainerId;
use crate::types::namespace::NetworkMode;
use crate::types::port::{Binding, Publish, Unpublish, check_duplicates};
use crate::types::status::Status;

/// What is to be published, and what not any more.
#[derive(Clone, Debug, Default)]
pub(crate) struct PortChange {
    pub(crate) add: Vec<Publish>,
    pub(crate) remove: Vec<Unpublish>,
}

impl Engine {
    /// Changes what a container publishes, at once where it runs, and from its
    /// next start on.
    ///
    /// # Errors
    /// `NotFound` where what is to go is not published; `Conflict` where a port
    /// is taken; nothing is changed then.
    pub(crate) fn change_ports(&self, id: &ContainerId, change: &PortChange) -> Result<()> {
        let _lock = lock::container(&self.dirs.container(id))?;
        let snapshot = self.snapshot_locked(id)?;
        let mut record = snapshot.record;
        record.config.network.check_ports(!change.add.is_empty())?;
        if record.config.network == NetworkMode::Host {
            return Err(Error::conflict(format!("container {} has the host's network", record.name))
                .hint("its ports are the host's"));
        }
        if record.config.network == NetworkMode::None && !change.add.is_empty() {
            return Err(Error::conflict(format!("container {} has no network", record.name))
                .hint("nothing can reach it: make it anew without --network none"));
        }
        record.config.publish = match snapshot.status {
            Status::Running { .. } | Status::Restarting { .. } => self.ask_to_publish(id, change)?,
            Status::Created | Status::Exited(_) => {
                let before = self.store.last_ports(id)?;
                let mut published = record.config.publish;
                for what in &change.remove {
                    published.remove(what.find(&published, &before)?);
                }
                published.extend(&change.add);
                check_duplicates(&published)?;
                published
            }
        };
        for publish in &change.add {
            let word = publish.port.to_string();
            if !record.config.expose.contains(&word) {
                record.config.expose.push(word);
            }
        }
        self.store.save(&record)?;
        events::append(&self.dirs, &events::of_container(&record, "update")).or_ignore();
        Ok(())
    }

    /// Where the ports of a container are published: of a member of a pod those of
    /// the pod, which reach it.
    ///
    /// # Errors
    /// As those of [`Engine::snapshot`].
    pub(crate) fn ports_that_reach(&self, id: &ContainerId) -> Result<Vec<Binding>> {
        let snapshot = self.snapshot(id)?;
        if let (Some(_), NetworkMode::Container(holder)) =
            (&snapshot.record.config.pod, &snapshot.record.config.network)
        {
            let holder = self.snapshot(&ContainerId::parse(holder)?)?;
            if holder.record.config.infra {
                return Ok(holder.ports);
            }
        }
        Ok(snapshot.ports)
    }

    fn ask_to_publish(&self, id: &ContainerId, change: &PortChange) -> Result<Vec<Publish>> {
        let request = Request::Publish { add: change.add.clone(), remove: change.remove.clone() };
        match self.ask(id, &request)? {
            Some(Reply::Published(published)) => Ok(published),
            Some(Reply::Refused { message, hints, .. }) => {
                Err(Error::new(Kind::Conflict, message).with_hints(hints))
            }
            Some(Reply::Failed(text)) => Err(Error::failed(text)),
            Some(Reply::Done | Reply::Exited(_) | Reply::Sessions(_) | Reply::Health { .. }) | None => {
                Err(self.not_running(id))
            }
        }
    }
}
