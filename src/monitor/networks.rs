//! The container's place on networks, for the time of a run.

// `AsyncFd::new` is deprecated for types that may change their fd; an `OwnedFd`
// does not.
#![allow(deprecated)]

use super::life::Container;
use super::messages::Change;
use super::netd::{Connected, Wanted};
use super::plan;
use crate::dirs::Dirs;
use crate::error::{BestEffort, Error, Result};
use crate::network::dns::names::Member;
use crate::network::host;
use crate::network::uplink::{Addresses, NamesOf, Netns};
use crate::state::networks::Networks;
use crate::types::container::ContainerRecord;
use crate::types::namespace::NetworkMode;
use crate::types::network::{Attachment, Endpoint, Network, Subnet};
use crate::types::uplink::Preference;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// Between two tries to find or start a holder after one has died.
const PAUSE: Duration = Duration::from_millis(50);
const MOST_TRIES: u32 = 100;

/// Where the container is, while it runs.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The container's own network namespace.
    netns: RefCell<Option<Netns>>,
    state: RefCell<Option<State>>,
    watch: RefCell<Option<tokio::task::JoinHandle<()>>>,
    /// The networks of the run that is over, until its end is noted.
    left: RefCell<Vec<Network>>,
    /// Told when the networks are others.
    pub(super) changed: Notify,
}

#[derive(Debug)]
struct State {
    connected: Connected,
    wanted: Wanted,
}

/// Gives the container its addresses on all its networks.
///
/// # Errors
/// `NotFound` where a network is gone; `Conflict` where an address is taken.
pub(super) fn want(
    dirs: &Dirs,
    record: &ContainerRecord,
    attachments: &[Attachment],
    uplink: Preference,
) -> Result<Wanted> {
    let store = Networks::new(dirs);
    let mut taken: BTreeSet<String> = attachments.iter().filter_map(|one| one.interface.clone()).collect();
    if taken.len() < attachments.iter().filter(|one| one.interface.is_some()).count() {
        return Err(Error::invalid("two networks cannot have interfaces of one name"));
    }
    let (mut networks, mut endpoints) = (Vec::new(), Vec::new());
    for attachment in attachments {
        let network = store.find(&attachment.network)?;
        let interface = match &attachment.interface {
            Some(name) => name.clone(),
            // One name more than networks: one of them is free.
            None => (0..=attachments.len())
                .map(|n| format!("{}{n}", network.interface_prefix()))
                .find(|name| !taken.contains(name))
                .unwrap_or_default(),
        };
        taken.insert(interface.clone());
        endpoints.push(store.lease(&network, &record.id, attachment, &interface)?);
        networks.push(network);
    }
    let config = &record.config;
    let leads_out = config.network == NetworkMode::Bridge;
    let names = [Some(record.id.short().to_owned()), config.hostname.clone()];
    let member = Member {
        id: record.id.to_string(),
        name: record.name.clone(),
        names: names.into_iter().flatten().collect(),
        dns: config.dns.iter().filter_map(|text| text.parse().ok()).collect(),
        links: config.links.clone(),
        endpoints,
        own_way_out: !leads_out,
    };
    Ok(Wanted { member, networks, leads_out, uplink })
}

/// What the container's files say of where it is; `own`: of a way out that is
/// no network's.
pub(super) fn addresses(wanted: &Wanted, own: Option<&Addresses>) -> Addresses {
    let endpoints = &wanted.member.endpoints;
    let guests = endpoints.iter().flat_map(|endpoint| endpoint.addresses.clone()).collect();
    let out = !wanted.leads_out || wanted.networks.iter().any(|network| !network.internal);
    let subnets: Vec<Subnet> =
        wanted.networks.iter().flat_map(|network| network.pools.iter().map(|pool| pool.subnet)).collect();
    let host = if out { host::address_beyond(&subnets) } else { None };
    let gateways = |internal: bool| -> Vec<IpAddr> {
        let asked = wanted.networks.iter().filter(|network| network.dns && network.internal == internal);
        asked.flat_map(|network| network.pools.iter().map(|pool| pool.gateway)).collect()
    };
    // Each knows the names on all the container's networks; one of an internal
    // network knows nothing else.
    let (mut dns, mut names) = (gateways(false), NamesOf::Networks);
    if dns.is_empty() {
        dns = gateways(true);
        let given = &wanted.member.dns;
        if out && given.is_empty() {
            dns.extend(own.iter().flat_map(|own| &own.dns));
            names = NamesOf::InternalNetworks;
        } else if out {
            dns.extend(given);
        }
    }
    if !wanted.networks.iter().any(|network| network.dns) {
        names = NamesOf::World;
    }
    Addresses { guests, dns, host, names }
}

impl Place {
    /// Joins the container's network namespace to the networks; what is to be
    /// told of it.
    fn join(&self, dirs: &Dirs, netns: Netns, wanted: Wanted) -> Result<Vec<String>> {
        let (connected, warnings) = Connected::join(dirs, netns, &wanted)?;
        *self.state.borrow_mut() = Some(State { connected, wanted });
        Ok(warnings)
    }

    /// A run begins, in this network namespace.
    ///
    /// # Errors
    /// Where it cannot be joined to what is wanted.
    pub(super) fn enter(&self, dirs: &Dirs, netns: Netns, wanted: Option<Wanted>) -> Result<Vec<String>> {
        let warnings = match wanted {
            Some(wanted) => self.join(dirs, netns.try_clone()?, wanted)?,
            None => Vec::new(),
        };
        *self.netns.borrow_mut() = Some(netns);
        Ok(warnings)
    }

    /// The holder, where it is a child of this process.
    pub(super) fn pid(&self) -> Option<u32> {
        self.state.borrow().as_ref().and_then(|state| state.connected.pid())
    }

    /// What the container's files say of where it is now.
    pub(super) fn addresses(&self, own: Option<&Addresses>) -> Option<Addresses> {
        self.state.borrow().as_ref().map(|state| addresses(&state.wanted, own))
    }

    pub(super) fn endpoints(&self) -> Vec<Endpoint> {
        self.state.borrow().as_ref().map(|state| state.wanted.member.endpoints.clone()).unwrap_or_default()
    }

    /// What it is on.
    pub(super) fn networks(&self) -> Vec<Network> {
        self.state.borrow().as_ref().map(|state| state.wanted.networks.clone()).unwrap_or_default()
    }

    /// What it was on in the run that is over; empty the second time.
    pub(super) fn take_left(&self) -> Vec<Network> {
        self.left.take()
    }

    /// The run is over.
    pub(super) fn leave(&self) {
        if let Some(task) = self.watch.borrow_mut().take() {
            task.abort();
        }
        if let Some(State { connected, wanted }) = self.state.borrow_mut().take() {
            connected.leave();
            *self.left.borrow_mut() = wanted.networks;
        }
        self.netns.borrow_mut().take();
    }

    fn set(&self, dirs: &Dirs, wanted: Wanted, how: Change) -> Result<()> {
        if let Some(state) = &mut *self.state.borrow_mut() {
            if how == Change::Reload {
                // Whatever fails: another holder tries again.
                state.wanted = wanted;
                return state.connected.remake(&state.wanted).map(drop);
            }
            state.connected.set(&wanted)?;
            state.wanted = wanted;
            return Ok(());
        }
        let netns = match &*self.netns.borrow() {
            Some(netns) => netns.try_clone()?,
            None => return Err(Error::conflict("the container is just being restarted").hint("try again")),
        };
        self.join(dirs, netns, wanted).map(drop)
    }

    fn death(&self) -> Option<OwnedFd> {
        self.state.borrow().as_ref().and_then(|state| state.connected.death().ok())
    }

    fn renew(&self, dirs: &Dirs) -> Result<()> {
        match self.state.borrow_mut().as_mut() {
            Some(State { connected, wanted }) => connected.renew(dirs, wanted),
            None => Ok(()),
        }
    }
}

/// Finds another holder whenever one dies.
pub(super) fn watch(container: &Rc<Container>) {
    let watched = container.networks.watch.borrow().is_some();
    if watched || container.networks.death().is_none() {
        return;
    }
    let place = Rc::clone(container);
    let task = tokio::task::spawn_local(async move {
        while let Some(fd) = place.networks.death() {
            match AsyncFd::new(fd) {
                Ok(fd) => fd.readable().await.map(drop).or_ignore(),
                Err(_) => return,
            }
            for _ in 0..MOST_TRIES {
                if place.networks.renew(&place.dirs).is_ok() {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    });
    container.networks.watch.borrow_mut().replace(task);
}

/// What `network connect`, `disconnect` and `reload` ask for.
pub(super) fn change(container: &Rc<Container>, attachments: &[Attachment], how: Change) -> Result<()> {
    let record = container.present_record();
    let mut wanted = want(&container.dirs, &record, attachments, container.uplink)?;
    // An interface that is there keeps its name.
    for old in container.networks.endpoints() {
        for new in wanted.member.endpoints.iter_mut().filter(|new| new.network == old.network) {
            new.interface.clone_from(&old.interface);
        }
    }
    rename_clashes(&mut wanted.member.endpoints, &container.networks.endpoints());
    let endpoints = wanted.member.endpoints.clone();
    let addresses = |endpoints: &[Endpoint]| -> Vec<IpAddr> {
        endpoints.iter().flat_map(|endpoint| endpoint.addresses.clone()).collect()
    };
    let (old, new) = (addresses(&container.networks.endpoints()), addresses(&endpoints));
    container.networks.set(&container.dirs, wanted, how)?;
    // It is connected all the same.
    plan::move_in_hosts(&container.dirs, &record, &old, &new).or_ignore();
    watch(container);
    container.networks.changed.notify_one();
    container.republish(|live| live.endpoints = endpoints)
}

/// A new interface takes the first name that no other has.
fn rename_clashes(endpoints: &mut [Endpoint], old: &[Endpoint]) {
    for at in 0..endpoints.len() {
        let is_new = !old.iter().any(|one| one.network == endpoints[at].network);
        let clashes = |name: &str, all: &[Endpoint]| {
            all.iter().enumerate().any(|(other, one)| other != at && one.interface == name)
        };
        if is_new && clashes(&endpoints[at].interface, endpoints) {
            let prefix = endpoints[at].interface.trim_end_matches(|c: char| c.is_ascii_digit());
            let names = (0..=endpoints.len()).map(|n| format!("{prefix}{n}"));
            let free = names.into_iter().find(|name| !clashes(name, endpoints));
            endpoints[at].interface = free.unwrap_or_default();
        }
    }
}
