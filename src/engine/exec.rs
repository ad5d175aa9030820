//! `exec`: the container's monitor starts the command; this process only speaks
//! for it. So no fd of the host ever comes near the container, and the command
//! outlives its client.

use super::Engine;
use super::attach::{self, AttachEnd, AttachOptions};
use super::list::{Container, Selection, select};
use crate::channel::Channel;
use crate::error::{BestEffort, Error, Kind, Result};
use crate::monitor::messages::{Reply, Request};
use crate::state::events;
use crate::types::exec::ExecRequest;
use crate::types::id::ContainerId;
use crate::types::status::Status;
use std::time::Duration;

/// How long a monitor may take to say what runs in its container.
const SESSIONS: Duration = Duration::from_secs(1);

impl Engine {
    /// Runs a further command in a running container, attached to this process's
    /// streams, or in the background where `options` is `None`.
    ///
    /// # Errors
    /// `Conflict` where the container is not running, is paused or restarting;
    /// `NoCommand` and `NotExecutable` as exec met them.
    pub(crate) fn exec(
        &self,
        id: &ContainerId,
        request: ExecRequest,
        options: Option<&AttachOptions>,
    ) -> Result<Option<AttachEnd>> {
        let Some(mut channel) = self.connect(id, None)? else { return Err(self.not_running(id)) };
        // It may end at any moment: a broken connection is that.
        channel.send(&Request::Exec(Box::new(request))).map_err(|_| self.not_running(id))?;
        match channel.receive().unwrap_or(None) {
            Some(Reply::Done) => {}
            Some(Reply::Refused { exit_code, message, hints }) => {
                let kind = match exit_code {
                    126 => Kind::NotExecutable,
                    127 => Kind::NoCommand,
                    _ => Kind::Conflict,
                };
                return Err(Error::new(kind, message).with_hints(hints));
            }
            Some(Reply::Failed(text)) => return Err(Error::failed(text)),
            // It ended just now, or is a monitor of a release without exec.
            Some(Reply::Exited(_) | Reply::Sessions(_) | Reply::Health { .. } | Reply::Published(_))
            | None => {
                return Err(self.not_running(id));
            }
        }
        let Some(options) = options else { return Ok(None) };
        let end = attach::attach(channel.into_stream(), options)?;
        if end == AttachEnd::Detached
            && let Ok(record) = self.store.record(id)
        {
            events::append(&self.dirs, &events::of_container(&record, "exec_detach")).or_ignore();
        }
        Ok(Some(end))
    }

    /// The container that was created last.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub(crate) fn newest(&self) -> Result<ContainerId> {
        let selection = Selection { last: Some(1), ..Selection::default() };
        let newest = select(self.containers(false, &mut Vec::new())?, &selection)?.pop();
        newest.map(|container| container.record.id).ok_or_else(|| Error::not_found("there is no container"))
    }

    /// Asks the monitors of containers for the commands that `exec` has started
    /// and that still run, for `inspect`. All are asked before the first answer
    /// is waited for, since each takes its turn of the processor to answer. A
    /// monitor that does not answer has none.
    pub(crate) fn add_sessions(&self, containers: &mut [Container]) {
        /// So many connections are open at a time.
        const TOGETHER: usize = 100;
        for part in containers.chunks_mut(TOGETHER) {
            let asked: Vec<_> = part.iter().map(|container| self.ask_for_sessions(container)).collect();
            for (container, channel) in part.iter_mut().zip(asked) {
                if let Some(Ok(Some(Reply::Sessions(ids)))) = channel.map(|mut channel| channel.receive()) {
                    container.exec_ids = ids;
                    let live = self.store.live(&container.record.id);
                    container.cgroup = live.ok().flatten().and_then(|live| live.cgroup);
                }
            }
        }
    }

    fn ask_for_sessions(&self, container: &Container) -> Option<Channel<Request, Reply>> {
        if !matches!(container.status, Status::Running { .. }) {
            return None;
        }
        let mut channel = self.connect(&container.record.id, Some(SESSIONS)).ok()??;
        channel.send(&Request::Sessions).ok()?;
        Some(channel)
    }

    /// Why nothing can be asked of the container, in docker's words.
    pub(super) fn not_running(&self, id: &ContainerId) -> Error {
        match self.snapshot(id) {
            Err(error) => error,
            Ok(snapshot) => {
                let name = &snapshot.record.name;
                let error = Error::conflict(format!("container {name} is not running"));
                match snapshot.status {
                    Status::Running { .. } | Status::Restarting { .. } => error,
                    Status::Created | Status::Exited(_) => {
                        error.hint(format!("start it with `coracle start {name}`"))
                    }
                }
            }
        }
    }
}
