//! Networks: create, list, inspect, remove, prune, connect, disconnect.

mod options;
mod shown;
mod update;

pub(crate) use shown::{NetworkFilters, Shown};
pub(crate) use update::ResolverChange;

use super::Engine;
use super::remove::RemoveOptions;
use crate::error::{BestEffort, Error, Kind, Result};
use crate::monitor::messages::{Change, Request};
use crate::network::host;
use crate::network::netlink::Netlink;
use crate::state::networks::{Networks, PoolWish, blank};
use crate::state::{events, lock};
use crate::types::container::{ContainerConfig, ContainerRecord};
use crate::types::event::EventKind;
use crate::types::id::ContainerId;
use crate::types::natural;
use crate::types::network::{Attachment, DEFAULT, Network, Subnet};
use crate::types::static_route::StaticRoute;
use crate::types::status::Status;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What `network create` asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct NetworkRequest {
    pub(crate) name: String,
    pub(crate) pools: Vec<PoolWish>,
    pub(crate) internal: bool,
    pub(crate) no_dns: bool,
    pub(crate) dns_servers: Vec<IpAddr>,
    /// Addresses that no container gets, by what they are for.
    pub(crate) reserved: BTreeMap<String, IpAddr>,
    pub(crate) routes: Vec<StaticRoute>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) options: BTreeMap<String, String>,
}

/// Networks that are no bridges, and always there.
const PREDEFINED: [&str; 2] = ["host", "none"];

impl Engine {
    /// The networks that are kept; the default one is made where it is missing.
    fn networks_kept(&self) -> Result<Networks> {
        let networks = Networks::new(&self.dirs);
        networks.ensure_default(routes_of_host)?;
        Ok(networks)
    }

    /// Makes a network.
    ///
    /// # Errors
    /// `Conflict` where its name or a subnet is taken; `Invalid` for bad input.
    pub(crate) fn create_network(&self, request: &NetworkRequest) -> Result<Network> {
        options::check(&request.options, request.pools.iter().any(|pool| pool.ipv6))?;
        let network = Network {
            internal: request.internal,
            dns: !request.no_dns,
            dns_servers: request.dns_servers.clone(),
            reserved: request.reserved.clone(),
            routes: request.routes.clone(),
            labels: request.labels.clone(),
            options: request.options.clone(),
            ..blank(&request.name)?
        };
        let network = self.networks_kept()?.create(network, &request.pools, &routes_of_host())?;
        self.note_network("create", &network, None);
        Ok(network)
    }

    /// What of the host's surroundings this network stands before, to be told: its
    /// subnets are also those of interfaces of the host.
    pub(crate) fn hidden_by(network: &Network) -> Option<String> {
        let overlaps = |own: &Subnet| network.pools.iter().any(|pool| pool.subnet.overlaps(*own));
        let (name, own) = host::addresses()
            .into_iter()
            .find(|(_, own)| Subnet::new(own.address, own.prefix).is_some_and(|own| overlaps(&own)))?;
        (!network.internal).then(|| {
            format!(
                "the subnets of network {} overlap {}/{} of {name} on this host: the containers on it do not reach \
                 the host there, nor that network around it",
                network.name, own.address, own.prefix
            )
        })
    }

    /// Those that a filter admits, by name. What cannot be read is told as a note.
    pub(crate) fn networks(&self, filters: &NetworkFilters, notes: &mut Vec<Error>) -> Result<Vec<Shown>> {
        let users = self.network_users()?;
        let kept = self.networks_kept()?.all()?.noting(notes);
        let mut all: Vec<Shown> = kept.iter().map(Shown::from).collect();
        all.push(Shown::fixed("host", "host", "a"));
        all.push(Shown::fixed("none", "null", "b"));
        all.sort_by(|one, other| natural::compare(&one.name, &other.name));
        all.retain(|network| filters.admits(network, users.contains_key(&network.name)));
        Ok(all)
    }

    /// The network with this name, id or beginning of an id.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub(crate) fn network(&self, word: &str) -> Result<Network> {
        self.networks_kept()?.find(word)
    }

    /// Docker's document of a network.
    pub(crate) fn network_document(&self, word: &str) -> Result<Value> {
        if PREDEFINED.contains(&word) {
            let fixed = if word == "host" {
                Shown::fixed("host", "host", "a")
            } else {
                Shown::fixed("none", "null", "b")
            };
            let mut document = json!({
                "Name": fixed.name, "Id": fixed.id, "Scope": "local", "Driver": fixed.driver, "EnableIPv4": true,
                "EnableIPv6": false, "IPAM": {"Driver": "default", "Options": null, "Config": null},
                "Internal": false, "Attachable": false, "Ingress": false, "ConfigFrom": {"Network": ""},
                "ConfigOnly": false, "Containers": {}, "Options": {}, "Labels": {},
            });
            with_fields(&mut document, fixed.podman);
            return Ok(document);
        }
        let network = self.network(word)?;
        let config: Vec<Value> = network
            .pools
            .iter()
            .map(|pool| {
                let mut config =
                    json!({"Subnet": pool.subnet.to_string(), "Gateway": pool.gateway.to_string()});
                if let Some(range) = pool.range {
                    config["IPRange"] = range.to_string().into();
                }
                let reserved: BTreeMap<&str, String> = network
                    .reserved
                    .iter()
                    .filter(|(_, address)| pool.subnet.contains(**address))
                    .map(|(name, address)| (name.as_str(), address.to_string()))
                    .collect();
                if !reserved.is_empty() {
                    config["AuxiliaryAddresses"] = json!(reserved);
                }
                config
            })
            .collect();
        let mut containers = Map::new();
        for id in self.store.ids()? {
            let Some(live) = self.store.live(&id)? else { continue };
            let Some(endpoint) = live.endpoints.iter().find(|endpoint| endpoint.network == network.name)
            else {
                continue;
            };
            let Ok(record) = self.store.record(&id) else { continue };
            let with_prefix = |address: Option<IpAddr>| {
                let pool = address.and_then(|address| network.pool_of(address));
                address.zip(pool).map_or(String::new(), |(a, pool)| format!("{a}/{}", pool.subnet.prefix()))
            };
            let shown = json!({
                "Name": record.name, "EndpointID": endpoint.id(&id), "MacAddress": endpoint.mac.to_string(),
                "IPv4Address": with_prefix(endpoint.ipv4()), "IPv6Address": with_prefix(endpoint.ipv6()),
            });
            containers.insert(id.to_string(), shown);
        }
        let mut document = json!({
            "Name": network.name, "Id": network.id, "Created": network.created.to_string(), "Scope": "local",
            "Driver": "bridge", "EnableIPv4": network.has_ipv4(),
            "EnableIPv6": network.has_ipv6(),
            "IPAM": {"Driver": "default", "Options": {}, "Config": config}, "Internal": network.internal,
            "Attachable": false, "Ingress": false, "ConfigFrom": {"Network": ""}, "ConfigOnly": false,
            "Containers": containers, "Options": network.options, "Labels": network.labels,
        });
        with_fields(&mut document, shown::podman_fields(&network));
        Ok(document)
    }

    /// The containers on each network, by the networks' names.
    fn network_users(&self) -> Result<BTreeMap<String, Vec<ContainerRecord>>> {
        let mut users: BTreeMap<String, Vec<ContainerRecord>> = BTreeMap::new();
        for id in self.store.ids()? {
            let Ok(record) = self.store.record(&id) else { continue };
            for attachment in &record.config.networks {
                users.entry(attachment.network.clone()).or_default().push(record.clone());
            }
        }
        Ok(users)
    }

    /// Removes a network; with `force` the containers on it first.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` where containers are on it; `Invalid` for those
    /// that are always there.
    pub(crate) fn remove_network(&self, word: &str, force: Option<&RemoveOptions>) -> Result<String> {
        if PREDEFINED.contains(&word) || word == DEFAULT || word == "podman" {
            return Err(Error::invalid(format!("{word} is a pre-defined network and cannot be removed")));
        }
        let networks = self.networks_kept()?;
        let network = match networks.find(word) {
            // Its name is all that is known of it.
            Err(error) if error.kind() == Kind::Invalid && force.is_some() => blank(word)?,
            result => result?,
        };
        let users = self.network_users()?.remove(&network.name).unwrap_or_default();
        if let (Some(user), None) = (users.first(), force) {
            return Err(Error::conflict(format!(
                "error while removing network: network {} id {} has active endpoints (name:{:?} id:{:?})",
                network.name,
                network.id.get(..12).unwrap_or_default(),
                user.name,
                user.id.short()
            ))
            .hint(format!(
                "`coracle network disconnect {} {}`, or `network rm -f` removes its containers",
                network.name, user.name
            )));
        }
        for (user, options) in users.iter().zip(force.into_iter().cycle()) {
            self.remove(&user.id, options)?;
        }
        self.remove_unused(&networks, &network)?;
        Ok(network.name)
    }

    fn remove_unused(&self, networks: &Networks, network: &Network) -> Result<()> {
        networks.remove(&network.name)?;
        self.note_network("destroy", network, None);
        Ok(())
    }

    /// Removes the networks that no container is on; their names.
    pub(crate) fn prune_networks(
        &self,
        filters: &NetworkFilters,
        notes: &mut Vec<Error>,
    ) -> Result<Vec<String>> {
        let users = self.network_users()?;
        let networks = self.networks_kept()?;
        let mut removed = Vec::new();
        for network in networks.all()?.whole {
            let (shown, is_used) = (Shown::from(&network), users.contains_key(&network.name));
            if shown.is_custom() && !is_used && filters.admits(&shown, is_used) {
                match self.remove_unused(&networks, &network) {
                    Ok(()) => removed.push(network.name),
                    Err(error) => notes.push(error),
                }
            }
        }
        // Networks take no room, which docker tells all the same.
        self.tell_pruned(EventKind::Network, 0);
        Ok(removed)
    }

    /// Puts a container on a network, at once where it runs.
    ///
    /// # Errors
    /// `Conflict` where it is on it already or has no network of its own.
    pub(crate) fn connect_network(&self, id: &ContainerId, mut attachment: Attachment) -> Result<()> {
        not_predefined(&attachment.network)?;
        let networks = self.networks_kept()?;
        let network = networks.find(&attachment.network)?;
        attachment.network.clone_from(&network.name);
        attachment.check(&network)?;
        self.check_links(&mut attachment)?;
        let _lock = lock::container(&self.dirs.container(id))?;
        let snapshot = self.snapshot_locked(id)?;
        let mut record = snapshot.record;
        if !record.config.network.has_own_interfaces() {
            return Err(Error::conflict(format!(
                "container {} cannot be connected to a network: it has network mode {}",
                record.name,
                super::list::network_name(&record.config.network)
            ))
            .hint("a container with a network of its own can be: one of `--network NAME`, or without `--network`"));
        }
        if record.config.networks.iter().any(|other| other.network == network.name) {
            return Err(Error::conflict(format!(
                "endpoint with name {} already exists in network {}",
                record.name, network.name
            )));
        }
        record.config.networks.push(attachment);
        record.config.host_binding = host_binding(&record.config.networks, &networks.all()?.whole);
        let applied = self.apply_networks(&record, &snapshot.status, Change::Differences);
        if applied.is_err() {
            // It has not come: what it was given there is others'.
            Networks::new(&self.dirs).release(&network.name, id);
        }
        applied?;
        self.note_network("connect", &network, Some(id));
        Ok(())
    }

    /// Takes a container off a network.
    ///
    /// # Errors
    /// `Conflict` where it is not on it.
    pub(crate) fn disconnect_network(&self, id: &ContainerId, word: &str) -> Result<()> {
        not_predefined(word)?;
        let networks = self.networks_kept()?;
        let network = networks.find(word)?;
        let _lock = lock::container(&self.dirs.container(id))?;
        let snapshot = self.snapshot_locked(id)?;
        let mut record = snapshot.record;
        let before = record.config.networks.len();
        record.config.networks.retain(|other| other.network != network.name);
        if record.config.networks.len() == before {
            return Err(Error::conflict(format!(
                "container {} is not connected to network {}",
                record.name, network.name
            )));
        }
        record.config.host_binding = host_binding(&record.config.networks, &networks.all()?.whole);
        self.apply_networks(&record, &snapshot.status, Change::Differences)?;
        Networks::new(&self.dirs).release(&network.name, id);
        self.note_network("disconnect", &network, Some(id));
        Ok(())
    }

    /// The running containers that are on networks.
    pub(crate) fn on_networks(&self) -> Result<Vec<ContainerId>> {
        let on_any = |id: &ContainerId| {
            self.store.live(id).ok().flatten().is_some_and(|live| !live.endpoints.is_empty())
        };
        Ok(self.store.ids()?.into_iter().filter(on_any).collect())
    }

    /// Makes the interfaces, addresses and routes of a running container anew.
    ///
    /// # Errors
    /// `Conflict` where it does not run or is on no network.
    pub(crate) fn reload_networks(&self, id: &ContainerId) -> Result<()> {
        let _lock = lock::container(&self.dirs.container(id))?;
        let snapshot = self.snapshot_locked(id)?;
        let record = snapshot.record;
        if record.config.networks.is_empty() {
            return Err(Error::conflict(format!(
                "container {} is on no network that can be reloaded: it has network mode {}",
                record.name,
                super::list::network_name(&record.config.network)
            )));
        }
        if !matches!(snapshot.status, Status::Running { .. }) {
            return Err(self.not_running(id));
        }
        self.apply_networks(&record, &snapshot.status, Change::Reload)
    }

    /// Makes it so: first where it runs, then for its next start.
    fn apply_networks(&self, record: &ContainerRecord, status: &Status, how: Change) -> Result<()> {
        match status {
            Status::Running { .. } | Status::Restarting { .. } => {
                self.tell_monitor(&record.id, &Request::Networks(record.config.networks.clone(), how))?;
            }
            Status::Created | Status::Exited(_) => self.lease_static(&record.id, &record.config)?,
        }
        self.store.save(record)
    }

    /// Checks what a container asks of networks, before anything is made of it.
    ///
    /// # Errors
    /// `NotFound` for an unknown network; `Conflict` for an address that is taken.
    pub(crate) fn check_networks(&self, config: &mut ContainerConfig) -> Result<()> {
        if config.networks.is_empty() {
            return Ok(());
        }
        let networks = self.networks_kept()?;
        let mut found = Vec::new();
        for attachment in &mut config.networks {
            let network = networks.find(&attachment.network)?;
            attachment.network.clone_from(&network.name);
            attachment.check(&network)?;
            found.push(network);
        }
        config.host_binding = host_binding(&config.networks, &found);
        for (at, attachment) in config.networks.iter().enumerate() {
            if config.networks[..at].iter().any(|other| other.network == attachment.network) {
                return Err(Error::invalid(format!(
                    "network {} was given more than once",
                    attachment.network
                )));
            }
        }
        let on_default = |networks: &[Attachment]| networks.iter().any(|one| one.network == DEFAULT);
        for (target, _) in &config.links {
            let owner = self.store.record(&self.store.resolve(target)?)?;
            // On others it may come later, as in docker.
            if config.networks.len() == 1
                && on_default(&config.networks)
                && !on_default(&owner.config.networks)
            {
                return Err(Error::invalid(format!(
                    "cannot link to {target}, as it does not belong to the default network"
                ))
                .hint(format!(
                    "put it there: `coracle network connect {DEFAULT} {target}`, or make it with `--network {DEFAULT}`"
                )));
            }
        }
        Ok(())
    }

    /// # Errors
    /// `NotFound` where a container that is to be called by another name is none.
    fn check_links(&self, attachment: &mut Attachment) -> Result<()> {
        for (target, _) in &mut attachment.links {
            let id = self.store.resolve(target)?;
            // By its name or its short id it is known on networks.
            if self.store.record(&id)?.name != *target {
                id.short().clone_into(target);
            }
        }
        Ok(())
    }

    /// Takes the addresses that were asked for by number.
    pub(crate) fn lease_static(&self, id: &ContainerId, config: &ContainerConfig) -> Result<()> {
        let networks = Networks::new(&self.dirs);
        for attachment in config.networks.iter().filter(|one| one.ip.is_some() || one.ip6.is_some()) {
            networks.lease(&networks.find(&attachment.network)?, id, attachment, "")?;
        }
        Ok(())
    }

    fn note_network(&self, action: &str, network: &Network, container: Option<&ContainerId>) {
        let event = events::of_network(network, action, container);
        events::append(&self.dirs, &event).or_ignore();
    }
}

/// Podman's fields come after docker's.
fn with_fields(document: &mut Value, fields: Map<String, Value>) {
    if let Value::Object(document) = document {
        document.extend(fields);
    }
}

/// # Errors
/// `Conflict` for what a container has from its start to its end.
fn not_predefined(word: &str) -> Result<()> {
    if !PREDEFINED.contains(&word) {
        return Ok(());
    }
    Err(Error::conflict(format!("container cannot be connected to or disconnected from {word} network"))
        .hint(format!("it is chosen when the container is made: `coracle run --network {word}`")))
}

/// Where ports are published that are given no address: what the network says that
/// leads out by its priority, or that comes first.
fn host_binding(on: &[Attachment], known: &[Network]) -> Option<IpAddr> {
    let first = on.iter().rev().max_by_key(|attachment| attachment.gw_priority)?;
    known.iter().find(|network| network.name == first.network)?.host_binding()
}

/// Where the host routes to: no network of ours shall hide that.
fn routes_of_host() -> Vec<Subnet> {
    let routes = Netlink::open().and_then(|mut netlink| netlink.destinations()).unwrap_or_default();
    routes.into_iter().filter_map(|route| Subnet::new(route.address, route.prefix)).collect()
}
