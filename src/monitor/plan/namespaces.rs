//! Which namespaces are fresh, which are another container's, and the id maps.

use super::Context as PlanContext;
use super::joined::{Joined, is_ours, open_namespace};
use crate::error::{Context, Result};
use crate::network::loopback;
use crate::network::uplink::Chosen;
use crate::runtime::plan::{Fresh, Join, Namespaces, UserNamespace};
use crate::types::cgroup::CgroupnsMode;
use crate::types::container::{ContainerConfig, ContainerRecord};
use crate::types::idmap::IdMap;
use crate::types::namespace::{IpcMode, NamespaceMode, NetworkMode, UsernsMode};
use crate::userns::{self, ContainerMaps, MapRequest};
use rustix::fs::{Mode, OFlags};

/// The maps of a nested namespace; `None` where there is no new one. `user` is
/// who the container's process will be, once that is known.
pub(super) fn maps(
    context: &PlanContext<'_>,
    joined: &Joined,
    user: Option<(u32, u32)>,
) -> Result<Option<ContainerMaps>> {
    if joined.user.is_some() {
        return Ok(None);
    }
    let config = &context.record.config;
    let outside_of_root = |map: &crate::types::idmap::IdMap| map.to_outside(0).unwrap_or(0);
    let in_use =
        if matches!(config.userns, UsernsMode::Auto { .. }) { maps_in_use(context)? } else { Vec::new() };
    let request = MapRequest {
        mode: &config.userns,
        uid_map: &config.uid_map,
        gid_map: &config.gid_map,
        user: user.unwrap_or((0, 0)),
        host_ids: (outside_of_root(&context.outer.uid_map), outside_of_root(&context.outer.gid_map)),
        in_use: &in_use,
    };
    let maps = userns::container_maps(&request, context.outer)?;
    if let (Some(maps), Some(user)) = (&maps, user) {
        maps.check_user(user)?;
    }
    Ok(maps)
}

/// Those of containers with ids of their own: the default map and that of `keep-id`
/// have all ids of the user, and would leave none.
fn maps_in_use(context: &PlanContext<'_>) -> Result<Vec<ContainerMaps>> {
    let mut maps = Vec::new();
    for id in context.store.ids()? {
        let Some(uid) = context.store.live(&id)?.and_then(|live| live.uid_map) else { continue };
        // One that is being removed keeps its ids until it is gone.
        if context.store.record(&id).map_or(true, |record| has_own_ids(&record.config)) {
            maps.push(ContainerMaps { gid: uid.clone(), uid });
        }
    }
    Ok(maps)
}

fn has_own_ids(config: &ContainerConfig) -> bool {
    let given = !config.uid_map.0.is_empty() || !config.gid_map.0.is_empty();
    given || matches!(config.userns, UsernsMode::Auto { .. })
}

pub(super) fn namespaces(
    config: &ContainerConfig,
    joined: Joined,
    maps: Option<ContainerMaps>,
) -> Result<Namespaces> {
    let fresh = |yes: bool| if yes { Fresh::Yes } else { Fresh::No };
    let mut join = Vec::new();
    // The user namespace first: its root may enter the others.
    let targets = [
        (joined.user, "user", libc::CLONE_NEWUSER),
        (joined.net, "net", libc::CLONE_NEWNET),
        (joined.ipc, "ipc", libc::CLONE_NEWIPC),
        (joined.uts, "uts", libc::CLONE_NEWUTS),
        (joined.pid, "pid", libc::CLONE_NEWPID),
        (joined.cgroup, "cgroup", libc::CLONE_NEWCGROUP),
    ];
    for (process, file, kind) in targets {
        let Some(process) = process else { continue };
        let fd = open_namespace(process, file)?;
        // The container may have none of its own: setns to where one is, is refused.
        if !(kind == libc::CLONE_NEWUSER && is_ours(&fd, file)?) {
            join.push(Join { fd, kind });
        }
    }
    if let NetworkMode::Path(path) = &config.network {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path.as_str(), flags, Mode::empty())
            .context(|| format!("open the network namespace {path}"))?;
        join.push(Join { fd, kind: libc::CLONE_NEWNET });
    }
    let user = match maps {
        Some(ContainerMaps { uid, gid }) => UserNamespace::Nested { uid, gid },
        None => UserNamespace::Same,
    };
    Ok(Namespaces {
        user,
        pid: fresh(config.pid == NamespaceMode::Private),
        net: fresh(has_fresh_network(&config.network)),
        ipc: fresh(matches!(config.ipc, IpcMode::Shareable | IpcMode::Private | IpcMode::None)),
        uts: fresh(config.uts == NamespaceMode::Private),
        cgroup: fresh(config.cgroupns == CgroupnsMode::Private),
        join,
    })
}

fn has_fresh_network(network: &NetworkMode) -> bool {
    match network {
        NetworkMode::Default
        | NetworkMode::Slirp { .. }
        | NetworkMode::Pasta { .. }
        | NetworkMode::Builtin { .. }
        | NetworkMode::Bridge
        | NetworkMode::None => true,
        NetworkMode::Host | NetworkMode::Container(_) | NetworkMode::Path(_) => false,
    }
}

/// The name of a container with a UTS namespace of its own.
pub(super) fn hostname(record: &ContainerRecord) -> Option<String> {
    let config = &record.config;
    if config.uts != NamespaceMode::Private {
        return None;
    }
    let given = config.hostname.clone();
    // Docker: with the host's network, the host's name too.
    let hosts = (config.network == NetworkMode::Host)
        .then(|| rustix::system::uname().nodename().to_str().ok().map(str::to_owned))
        .flatten();
    given.or(hosts).or_else(|| Some(record.id.short().to_owned()))
}

/// The user's, after the defaults for a network namespace of its own.
/// `outer_groups` is the map of the namespace around that of `maps`.
pub(super) fn sysctls(
    config: &ContainerConfig,
    maps: Option<&ContainerMaps>,
    outer_groups: &IdMap,
    uplink: Option<&Chosen>,
) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    // They are set through a procfs of the container's own, which the host's is not.
    if has_fresh_network(&config.network) && maps.is_some() && config.pid != NamespaceMode::Host {
        let groups = maps.map(|maps| maps.gid.through(outer_groups)).unwrap_or_default();
        for (key, value) in loopback::default_sysctls(loopback::pingers(&groups)) {
            if !config.sysctls.contains_key(key) {
                all.push((key.to_owned(), value));
            }
        }
        for (key, value) in uplink.map(Chosen::sysctls).unwrap_or_default() {
            if !config.sysctls.contains_key(*key) {
                all.push(((*key).to_owned(), (*value).to_owned()));
            }
        }
    }
    all.extend(config.sysctls.iter().map(|(key, value)| (key.clone(), value.clone())));
    all
}
