//! Speaking to a container's monitor over its control socket.

use super::{Engine, silent};
use crate::cgroup::Group;
use crate::channel::Channel;
use crate::error::{BestEffort, Context, Error, Result};
use crate::monitor::control::socket_path;
use crate::monitor::messages::{Reply, Request};
use crate::monitor::remove;
use crate::state::lock;
use crate::state::store::Snapshot;
use crate::types::id::ContainerId;
use crate::types::status::Status;
use crate::userns;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Signal;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

impl Engine {
    /// The container as it is now. What a killed monitor left is cleaned up.
    pub(crate) fn snapshot(&self, id: &ContainerId) -> Result<Snapshot> {
        let snapshot = self.store.snapshot(id)?;
        if !snapshot.lost {
            return Ok(snapshot);
        }
        match lock::try_container(&self.dirs.container(id))? {
            Some(_lock) => self.snapshot_locked(id),
            // Someone starts it anew, removes it or settles it just now.
            None => self.store.snapshot(id),
        }
    }

    /// As [`Engine::snapshot`], for a caller that holds the container's lock:
    /// what is lost is not being started by anyone else.
    pub(super) fn snapshot_locked(&self, id: &ContainerId) -> Result<Snapshot> {
        let snapshot = self.store.snapshot(id)?;
        if !snapshot.lost {
            return Ok(snapshot);
        }
        self.settle(&snapshot)?;
        if snapshot.record.config.auto_remove {
            return Err(Error::not_found(format!("no such container: {}", id.short())));
        }
        self.store.snapshot(id)
    }

    /// A run whose monitor was killed: its init has died with it, or is ended
    /// now; the record says so from here on.
    fn settle(&self, snapshot: &Snapshot) -> Result<()> {
        let record = &snapshot.record;
        let stale = self.store.stale_or_live(&record.id)?;
        if let Some(monitor) = stale.as_ref().map(|state| state.monitor) {
            userns::forget_holder(&self.dirs.runtime, monitor).or_ignore();
        }
        let group = stale.as_ref().and_then(|state| state.cgroup.clone());
        if let Some(init) = stale.and_then(|state| state.init).and_then(userns::open_living) {
            rustix::process::pidfd_send_signal(&init, Signal::KILL).or_ignore();
        }
        if let Some(Ok(group)) = group.map(|path| Group::open(&path)) {
            group.remove();
        }
        let Status::Exited(exit) = &snapshot.status else { return Ok(()) };
        if record.config.auto_remove {
            self.enter()?;
            let hidden = remove::hide(&self.dirs, &self.store, record)?;
            remove::delete(&self.dirs, record, remove::Volumes::Remove, hidden)?;
        } else {
            // On a full disk it is found lost again the next time; `rm` must work there.
            self.store.save_exit(&record.id, exit, snapshot.restart_count).or_ignore();
        }
        std::fs::remove_dir_all(self.dirs.container_runtime(&record.id)).or_ignore();
        Ok(())
    }

    /// Ends what killed commands have left half made or half removed.
    pub(crate) fn sweep(&self) -> Result<()> {
        self.store.sweep(&mut |id| {
            self.enter()?;
            remove::finish(&self.dirs, id)
        })
    }

    /// Says one thing to the monitor; `None` where it is gone.
    pub(super) fn ask(&self, id: &ContainerId, request: &Request) -> Result<Option<Reply>> {
        let Some(mut channel) = self.connect(id, None)? else { return Ok(None) };
        if channel.send(request).is_err() {
            return Ok(None);
        }
        // A connection that breaks is a monitor that died.
        Ok(channel.receive().unwrap_or(None))
    }

    /// A connection to the monitor; `None` where it is gone, and where it does
    /// not answer within `patience`, for this and for each word after it.
    pub(super) fn connect(
        &self,
        id: &ContainerId,
        patience: Option<Duration>,
    ) -> Result<Option<Channel<Request, Reply>>> {
        let nobody = || match self.silent_monitor(id)? {
            Some(monitor) => Err(silent::refusal(id, monitor)),
            None => Ok(None),
        };
        let Ok((_directory, path)) = socket_path(&self.dirs.container_runtime(id)) else { return Ok(None) };
        match connect(&path, patience) {
            Ok(stream) => Ok(Some(Channel::new(stream))),
            Err(error) if patience.is_some() && error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused
                ) =>
            {
                nobody()
            }
            Err(error) => Err(error).context(|| format!("connect to the monitor of {}", id.short())),
        }
    }

    /// A connection that carries the container's output from now on.
    pub(crate) fn attach_stream(&self, id: &ContainerId, stdin: bool) -> Result<UnixStream> {
        let gone = || self.not_running(id);
        let mut channel = self.connect(id, None)?.ok_or_else(gone)?;
        // It may end at any moment: a broken connection is that.
        channel.send(&Request::Attach { stdin }).map_err(|_| gone())?;
        match channel.receive().unwrap_or(None) {
            Some(Reply::Done) => Ok(channel.into_stream()),
            Some(Reply::Failed(text)) => Err(Error::conflict(text)),
            Some(
                Reply::Health { .. }
                | Reply::Exited(_)
                | Reply::Refused { .. }
                | Reply::Sessions(_)
                | Reply::Published(_),
            )
            | None => Err(gone()),
        }
    }

    /// A connection that becomes readable, or ends, when the container has
    /// ended for good; `None` where it does not run.
    pub(crate) fn end_signal(&self, id: &ContainerId) -> Result<Option<UnixStream>> {
        let Some(mut channel) = self.connect(id, None)? else { return Ok(None) };
        let sent = channel.send(&Request::Wait);
        // It has ended just now where nobody takes the question.
        Ok(sent.is_ok().then(|| channel.into_stream()))
    }
}

fn connect(path: &Path, patience: Option<Duration>) -> std::io::Result<UnixStream> {
    let Some(patience) = patience else { return UnixStream::connect(path) };
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // A connection waits as long as sending may: socket(7).
    set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(patience))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}
