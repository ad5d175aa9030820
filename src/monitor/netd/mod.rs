//! The holder of the bridges, `coracle --netd`, and a monitor's side of it.
//!
//! There is one holder a user while a container is on a network: the monitor of
//! the first starts it under a short lock, and it ends when the connection of
//! the last has. Each monitor keeps an fd of the namespace in which the bridges
//! are: so they, and what containers say to each other, outlive a holder that
//! is killed. The first monitor that notices starts another in the same
//! namespace, and all say again what they have.

mod follow;
mod messages;
mod server;

pub(crate) use messages::Wanted;
pub(crate) use server::{ROLE, main};

use super::control::socket_path;
use super::role::{self, Child};
use crate::channel::Channel;
use crate::dirs::{Dirs, create_private};
use crate::error::{BestEffort, Context, Error, Result};
use crate::network::uplink::Netns;
use crate::state::lock;
use crate::sys::{namespace, socket};
use messages::{FromHolder, HolderOrder, ToHolder};
use rustix::mount::MountPropagationFlags;
use rustix::process::{WaitId, WaitIdOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A holder that says nothing for so long is none.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the holder listens: the only file in it is its socket. Locked by who
/// looks for the holder, and by the holder when it ends.
pub(super) fn directory(dirs: &Dirs) -> PathBuf {
    dirs.runtime.join("netd")
}

/// A container's place on networks. Dropped, the container is on none.
#[derive(Debug)]
pub(crate) struct Connected {
    channel: Channel<ToHolder, FromHolder>,
    /// Where it was this process that started the holder.
    started: Option<Started>,
    bridges: OwnedFd,
    container: Netns,
}

impl Connected {
    /// Joins a container, by its network namespace, to what is wanted.
    pub(crate) fn join(dirs: &Dirs, container: Netns, wanted: &Wanted) -> Result<(Self, Vec<String>)> {
        let Found { channel, bridges, started } = find(dirs, None)?;
        let mut connected = Self { channel, started, bridges, container };
        let warnings = connected.set(wanted)?;
        Ok((connected, warnings))
    }

    /// Changes how the container is on networks; what is to be told of it.
    pub(crate) fn set(&mut self, wanted: &Wanted) -> Result<Vec<String>> {
        self.ask(&ToHolder::Set(Box::new(wanted.clone())))
    }

    /// The same, with interfaces, addresses and routes made anew. What has failed
    /// is still wanted: the next time may go well.
    pub(crate) fn remake(&mut self, wanted: &Wanted) -> Result<Vec<String>> {
        self.ask(&ToHolder::Renew(Box::new(wanted.clone())))
    }

    fn ask(&mut self, what: &ToHolder) -> Result<Vec<String>> {
        self.channel.send(what)?;
        socket::send_fd(self.channel.as_fd(), self.container.as_fd())
            .context(|| "send the container's network namespace")?;
        match self.channel.receive()? {
            Some(FromHolder::Done { warnings }) => Ok(warnings),
            Some(FromHolder::Failed { message, hints }) => Err(Error::failed(message).with_hints(hints)),
            Some(FromHolder::Welcome) | None => Err(Error::failed("the holder of the bridges was killed")),
        }
    }

    /// Ends it: when this returns, the container's names are gone.
    pub(crate) fn leave(mut self) {
        self.channel.send(&ToHolder::Leave).or_ignore();
        // A holder that has died answers nobody.
        self.channel.receive().or_ignore();
    }

    /// After the holder's death: finds another, or starts one where this one was.
    pub(crate) fn renew(&mut self, dirs: &Dirs, wanted: &Wanted) -> Result<()> {
        let bridges = self.bridges.try_clone().context(|| "keep the namespace of the bridges")?;
        let Found { channel, bridges, started } = find(dirs, Some(bridges))?;
        self.channel = channel;
        self.bridges = bridges;
        if let Some(old) = std::mem::replace(&mut self.started, started) {
            old.reap();
        }
        self.set(wanted).map(drop)
    }

    /// The holder, where it is this process's child, and not to be reaped or
    /// killed with what a container has left.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.started.as_ref().map(|started| started.pid)
    }

    /// Becomes readable when the holder has died: it says nothing unasked.
    pub(crate) fn death(&self) -> Result<OwnedFd> {
        self.channel.as_fd().try_clone_to_owned().context(|| "watch the holder of the bridges")
    }
}

struct Found {
    channel: Channel<ToHolder, FromHolder>,
    /// The namespace of its bridges.
    bridges: OwnedFd,
    started: Option<Started>,
}

/// The living holder, or a new one.
fn find(dirs: &Dirs, netns: Option<OwnedFd>) -> Result<Found> {
    let directory = directory(dirs);
    create_private(&directory)?;
    let _looking = lock::directory(&directory).context(|| "find the holder of the bridges")?;
    if let Some(stream) = connect(&directory) {
        if let Ok((channel, bridges)) = welcome(stream) {
            return Ok(Found { channel, bridges, started: None });
        }
    }
    let (stream, started) = spawn(dirs, netns)?;
    let welcomed = welcome(stream).map_err(|error| error.context("start the holder of the bridges"));
    if welcomed.is_err() {
        started.reap();
    }
    welcomed.map(|(channel, bridges)| Found { channel, bridges, started: Some(started) })
}

fn connect(directory: &Path) -> Option<UnixStream> {
    let (_directory, path) = socket_path(directory).ok()?;
    UnixStream::connect(path).ok()
}

fn welcome(stream: UnixStream) -> Result<(Channel<ToHolder, FromHolder>, OwnedFd)> {
    let step = || "hear from the holder of the bridges";
    stream.set_read_timeout(Some(PATIENCE)).context(step)?;
    let mut channel: Channel<ToHolder, FromHolder> = Channel::new(stream);
    match channel.receive()? {
        Some(FromHolder::Welcome) => {}
        Some(FromHolder::Failed { message, hints }) => {
            return Err(Error::failed(message).with_hints(hints));
        }
        Some(FromHolder::Done { .. }) | None => return Err(Error::failed("it ended without a word")),
    }
    let bridges = socket::receive_fd(channel.as_fd()).context(step)?;
    Ok((channel, bridges.ok_or_else(|| Error::failed("it ended without a word"))?))
}

/// Executes coracle again as a holder; the first connection to it.
fn spawn(dirs: &Dirs, netns: Option<OwnedFd>) -> Result<(UnixStream, Started)> {
    const WHAT: &str = "start the holder of the bridges";
    let Child { pid, pidfd, socket, .. } = role::spawn(ROLE, WHAT, detach)?;
    let mut order: Channel<HolderOrder, FromHolder> = Channel::new(socket);
    order.send(&HolderOrder { dirs: dirs.clone(), netns: netns.is_some() })?;
    if let Some(netns) = netns {
        socket::send_fd(order.as_fd(), netns.as_fd()).context(|| WHAT)?;
    }
    Ok((order.into_stream(), Started { pid, pidfd }))
}

/// It outlives the monitor that started it, and none of its mounts.
fn detach() -> Result<()> {
    let step = || "leave the monitor";
    rustix::process::setsid().context(step)?;
    namespace::unshare_mount_namespace().context(step)?;
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", slave).context(step)?;
    rustix::process::chdir("/").context(step)
}

/// A holder that is a child of this process.
#[derive(Debug)]
struct Started {
    pid: u32,
    pidfd: OwnedFd,
}

impl Started {
    fn reap(&self) {
        let how = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), how).or_ignore();
    }
}
