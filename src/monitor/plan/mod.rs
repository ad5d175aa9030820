//! From a container's record to the [`Plan`] that init carries out.
//!
//! Everything of the host is opened here, once: layers, bind sources, devices,
//! namespaces. What init gets are fds.

mod accounts;
pub(crate) mod at_rest;
mod binds;
mod compose;
mod environment;
mod exec;
mod files;
mod image;
mod joined;
mod mounts;
mod namespaces;
mod process;
mod root;
mod secrets;
mod uplink;

pub(crate) use mounts::{masked_paths, read_only_paths};

pub(crate) use exec::{Target, for_exec};
pub(super) use files::{SYSTEMD_RESOLVERS, follows_host, leave_pod_s_hosts, move_in_hosts, resolv_conf};

use self::joined::Joined;
use super::netd::Wanted;
use super::networks;
use super::overlay::Overlays;
use crate::dirs::Dirs;
use crate::error::Result;
use crate::network::uplink::Chosen;
use crate::runtime::capabilities::{self, CapRequest, ContainerCaps};
use crate::runtime::plan::{Origin, Plan, Stdio};
use crate::state::store::Store;
use crate::types::container::{ContainerRecord, RecordedRoot};
use crate::types::driver::Driver;
use crate::types::idmap::IdMap;
use crate::types::uplink::Preference;
use crate::userns::{ContainerMaps, Outer};

/// What a plan is made from.
pub(crate) struct Context<'a> {
    pub(crate) dirs: &'a Dirs,
    pub(crate) store: &'a Store,
    pub(crate) record: &'a ContainerRecord,
    pub(crate) outer: &'a Outer,
    pub(crate) overlays: &'a Overlays,
    pub(crate) uplink: Preference,
}

/// A plan, and what the monitor itself goes on to need of it.
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    /// The way out of its own network namespace, to be started.
    pub(crate) uplink: Option<Chosen>,
    /// The networks that its namespace is to be joined to.
    pub(crate) networks: Option<Wanted>,
    /// For others' `--userns=auto`.
    pub(crate) uid_map: Option<IdMap>,
    /// What shows the root file system.
    pub(crate) driver: Driver,
    pub(crate) warnings: Vec<String>,
}

/// Decides everything about the container but its control group, which may not
/// be there yet; mounts what is detached.
pub(crate) fn make(context: &Context<'_>, stdio: Stdio) -> Result<Planned> {
    let settled = joined::settled(context)?;
    let context = &Context { record: settled.as_ref().unwrap_or(context.record), ..*context };
    let config = &context.record.config;
    let mut warnings = Vec::new();
    let joined = Joined::find(context)?;
    let theirs = joined.maps()?;
    // The maps say who owns the files, and the files say who the user is: only
    // where one id is all there is do the maps depend on the user, and there
    // owners do not matter.
    let maps = namespaces::maps(context, &joined, None)?;
    let root = root::Root::open(context, theirs.as_ref().or(maps.as_ref()))?;
    let mut user = process::resolve_user(context, &root)?;
    let maps = namespaces::maps(context, &joined, Some((user.uid, user.gid)))?;
    if let Some(theirs) = &theirs {
        theirs.check_user((user.uid, user.gid))?;
    }
    let owners = theirs.as_ref().or(maps.as_ref());
    accounts::add(context, &root, &mut user)?;
    let caps = ContainerCaps::compute(
        CapRequest { add: &config.cap_add, drop: &config.cap_drop, privileged: config.privileged },
        capabilities::available(),
    )?;
    let uplink = uplink::choose(&config.network, context.uplink, &mut warnings)?;
    let networks = if config.networks.is_empty() {
        None
    } else {
        Some(networks::want(context.dirs, context.record, &config.networks, context.uplink)?)
    };
    let own = uplink.as_ref().map(Chosen::addresses);
    let on_networks = networks.as_ref().map(|wanted| networks::addresses(wanted, own));
    let addresses = on_networks.as_ref().or(own);
    let hostname = namespaces::hostname(context.record);
    files::write(context, hostname.as_deref(), addresses)?;
    files::give_to_root(context, owners)?;
    let mounts = mounts::list(context, &root, &joined, &user, owners)?;
    let devices = mounts::devices(config)?;
    let process = process::process(context, &user, owners, caps, hostname.as_deref(), stdio, &mut warnings)?;
    let driver = root.driver();
    let plan = Plan {
        rootfs: root.into_mount(),
        mount_point: context.dirs.container(&context.record.id).display().to_string(),
        read_only: config.read_only,
        origin: match &context.record.root {
            RecordedRoot::Image { .. } => Origin::Image,
            RecordedRoot::Directory { path, overlay: false } => Origin::Directory(path.clone()),
            RecordedRoot::Directory { overlay: true, .. } | RecordedRoot::Nothing => Origin::Passing,
        },
        hostname,
        domainname: config.domainname.clone(),
        mounts,
        devices,
        masked_paths: mounts::masked_paths(config),
        read_only_paths: mounts::read_only_paths(config),
        sysctls: namespaces::sysctls(config, maps.as_ref(), &context.outer.gid_map, uplink.as_ref()),
        process,
        namespaces: namespaces::namespaces(config, joined, maps.clone())?,
        cgroup: None,
    };
    let uid_map = maps.map(|ContainerMaps { uid, .. }| uid);
    Ok(Planned { plan, uplink, networks, uid_map, driver, warnings })
}
