//! Other containers' namespaces that a container shares.

use super::Context as PlanContext;
use crate::error::{Context, Error, Result};
use crate::sys::process::start_ticks;
use crate::types::cgroup::CgroupnsMode;
use crate::types::container::ContainerRecord;
use crate::types::id::ContainerId;
use crate::types::idmap::IdMap;
use crate::types::namespace::{IpcMode, NamespaceMode, NetworkMode, UsernsMode};
use crate::types::status::ProcessId;
use crate::userns::ContainerMaps;
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;

/// Other containers' namespaces that this one shares.
#[derive(Default)]
pub(crate) struct Joined {
    pub(crate) pid: Option<ProcessId>,
    pub(crate) net: Option<ProcessId>,
    pub(crate) ipc: Option<ProcessId>,
    pub(crate) uts: Option<ProcessId>,
    pub(crate) cgroup: Option<ProcessId>,
    pub(crate) user: Option<ProcessId>,
}

impl Joined {
    pub(crate) fn find(context: &PlanContext<'_>) -> Result<Self> {
        let config = &context.record.config;
        let mut joined = Self::default();
        if let NamespaceMode::Container(id) = &config.pid {
            joined.pid = Some(init_of(context, id)?);
        }
        if let NetworkMode::Container(id) = &config.network {
            joined.net = Some(init_of(context, id)?);
        }
        if let IpcMode::Container(id) = &config.ipc {
            joined.ipc = Some(init_of(context, id)?);
        }
        if let NamespaceMode::Container(id) = &config.uts {
            joined.uts = Some(init_of(context, id)?);
        }
        if let CgroupnsMode::Container(id) = &config.cgroupns {
            joined.cgroup = Some(init_of(context, id)?);
        }
        joined.user = match &config.userns {
            UsernsMode::Container(id) => Some(init_of(context, id)?),
            // To share a namespace is to share power over it: its owner's user
            // namespace is shared with it, as among the containers of a pod.
            UsernsMode::Private => joined.pid.or(joined.net).or(joined.ipc).or(joined.uts).or(joined.cgroup),
            _ => None,
        };
        Ok(joined)
    }

    /// The maps of the user namespace that is joined, from the outer one; `None`
    /// where none is, or where it is the outer one itself.
    pub(super) fn maps(&self) -> Result<Option<ContainerMaps>> {
        let Some(process) = self.user else { return Ok(None) };
        if is_ours(&open_namespace(process, "user")?, "user")? {
            return Ok(None);
        }
        let read = |file: &str| {
            let path = format!("/proc/{}/{file}", process.pid);
            let text = std::fs::read_to_string(&path).context(|| format!("read {path}"))?;
            Ok::<_, Error>(IdMap::parse_proc(&text))
        };
        Ok(Some(ContainerMaps { uid: read("uid_map")?, gid: read("gid_map")? }))
    }
}

/// The record for this start, where it differs from the one on disk: a container
/// whose namespace is to be shared may have the host's instead of one of its own,
/// and then so has this one. (One with the host's IPC namespace is refused before.)
pub(super) fn settled(context: &PlanContext<'_>) -> Result<Option<ContainerRecord>> {
    let config = &context.record.config;
    let is_hosts = |id: &str, file: &str| is_ours(&open_namespace(init_of(context, id)?, file)?, file);
    let mut settled = config.clone();
    if let NetworkMode::Container(id) = &config.network
        && is_hosts(id, "net")?
    {
        settled.network = NetworkMode::Host;
    }
    if let NamespaceMode::Container(id) = &config.uts
        && is_hosts(id, "uts")?
    {
        settled.uts = NamespaceMode::Host;
    }
    if let NamespaceMode::Container(id) = &config.pid
        && is_hosts(id, "pid")?
    {
        return Err(Error::conflict(format!(
            "container {id} has no processes of its own to share, but the host's"
        ))
        .hint("--pid host shares those"));
    }
    Ok((settled != *config).then(|| ContainerRecord { config: settled, ..context.record.clone() }))
}

/// The first process of a running container.
fn init_of(context: &PlanContext<'_>, word: &str) -> Result<ProcessId> {
    let id = ContainerId::parse(word).or_else(|_| context.store.resolve(word))?;
    let live = context.store.live(&id)?;
    live.and_then(|live| live.init).ok_or_else(|| {
        let name = context.store.record(&id).map_or_else(|_| id.short().to_owned(), |record| record.name);
        Error::conflict(format!("cannot share a namespace of container {name}: it is not running"))
            .hint(format!("start it first: coracle start {name}"))
    })
}

pub(super) fn open_namespace(process: ProcessId, file: &str) -> Result<OwnedFd> {
    let path = format!("/proc/{}/ns/{file}", process.pid);
    let fd = rustix::fs::open(path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .context(|| format!("open {path}"))?;
    // The number may have passed to another process before the open.
    if start_ticks(process.pid) == Some(process.start_ticks) {
        Ok(fd)
    } else {
        Err(Error::conflict("the container whose namespace is to be shared has just ended"))
    }
}

pub(super) fn is_ours(fd: &OwnedFd, file: &str) -> Result<bool> {
    let step = || "compare namespaces";
    let theirs = rustix::fs::fstat(fd).context(step)?;
    let ours = rustix::fs::stat(format!("/proc/self/ns/{file}")).context(step)?;
    Ok((theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino))
}
