//! The bridges of one user in one network namespace, and the pairs of veths
//! that join containers to them.
//!
//! What may reach what is decided by routes alone, which every kernel has: what
//! comes in by a bridge is looked up in that bridge's own table, which knows the
//! bridge's subnets and, but for an internal network, the way out; no rule leads
//! from there to another bridge's, and what is for one finds no way rather than
//! the way out. What comes from outside is looked up in a
//! table of the subnets that may go out. No packet is rewritten: the uplink
//! takes those of any address, because the kernel answers for them on its tap
//! (proxy_arp, proxy_ndp).
//!
//! A thread does all this, because it goes into the containers' namespaces; the
//! holder's first thread stays on the host's network, from where it reaches the
//! resolvers and starts the uplink.

mod neighbours;

use super::netlink::{
    Interface, LinkChange, Netlink, Route, RouteKind, Rule, RuleAction, VethPeer, or_exists, or_gone,
};
use crate::error::{BestEffort, Context, Error, Result};
use crate::sys::namespace;
use crate::types::network::{Endpoint, Mac, Network, Subnet};
use crate::types::static_route::StaticRoute;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

/// The tables of routes: one of the subnets of all bridges, in which nothing has
/// a way, one for what comes from outside, one a bridge.
const NO_WAY: u32 = 998;
const FROM_OUTSIDE: u32 = 999;
const FIRST_TABLE: u32 = 1000;
/// The priorities of the rules, of which [`rules`] takes two each and
/// [`bridge_rules`] two more; those of the kernel for main and default follow.
const AT_OUTSIDE: u32 = 900;
const AT_BRIDGES: u32 = 1000;
const AT_LOCAL: u32 = 2000;
const KERNELS_LOCAL: u32 = 0;
/// Where slirp4netns and the built-in uplink are on their device.
const UPLINK_IPV6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2));

/// The namespace, as the thread that has entered it sees it.
#[derive(Debug)]
pub(crate) struct Bridges {
    netns: OwnedFd,
    netlink: Netlink,
    networks: BTreeMap<String, Laid>,
    uplink: Option<u32>,
}

/// A network whose bridge is there.
#[derive(Debug)]
struct Laid {
    network: Network,
    bridge: u32,
    /// With its way out and its sockets for names: nothing is left to be done.
    whole: bool,
}

/// The sockets at which a network's gateway is asked for names.
#[derive(Debug, Default)]
pub(crate) struct Listening {
    pub(crate) datagrams: Vec<UdpSocket>,
    pub(crate) connections: Vec<TcpListener>,
}

impl Bridges {
    /// Enters `netns`, or a new one, with this thread, which stays there.
    pub(crate) fn enter(netns: Option<OwnedFd>) -> Result<Self> {
        let step = || "enter the network namespace of the bridges";
        match &netns {
            Some(netns) => namespace::join_network_namespace(netns.as_fd()).context(step)?,
            None => namespace::unshare_network_namespace().context(step)?,
        }
        let own = std::fs::File::open("/proc/thread-self/ns/net").context(step)?;
        let mut bridges = Self {
            netns: own.into(),
            netlink: Netlink::open().context(step)?,
            networks: BTreeMap::new(),
            uplink: None,
        };
        bridges.prepare().context(|| "prepare the network namespace of the bridges").map_err(|error| {
            let hidden = error.errno() == Some(libc::ENOENT) && !std::path::Path::new("/proc/sys").exists();
            if hidden {
                error.hint("/proc has no sysctls (subset=pid): --network none, or slirp4netns, needs none")
            } else {
                error
            }
        })?;
        Ok(bridges)
    }

    pub(crate) fn netns(&self) -> Result<OwnedFd> {
        self.netns.try_clone().context(|| "keep the network namespace of the bridges")
    }

    /// What holds for the whole namespace; once more changes nothing.
    fn prepare(&mut self) -> io::Result<()> {
        let lo = self.netlink.index("lo")?;
        self.netlink.change_link(lo, &UP)?;
        set("ipv4/conf/all/rp_filter", "1")?;
        set("ipv4/conf/default/rp_filter", "1")?;
        set("ipv4/ip_forward", "1")?;
        // Where the kernel has no IPv6, networks have none either.
        set("ipv6/conf/all/forwarding", "1").or_ignore();
        // The kernel's own look at local addresses comes after ours: so not even
        // the gateways of other networks are reached.
        let local = RuleAction::Table(u32::from(libc::RT_TABLE_LOCAL));
        or_exists(self.netlink.add_rule(&Rule::new(false, AT_LOCAL, local)))?;
        or_gone(self.netlink.delete_rule(&Rule::new(false, KERNELS_LOCAL, local)))
    }

    /// Makes the network's bridge where it is missing; sockets for its names
    /// where it was not known before. What has failed is tried again by the next.
    pub(crate) fn lay(&mut self, network: &Network) -> Result<Option<Listening>> {
        if self.networks.get(&network.name).is_some_and(|laid| laid.whole) {
            return Ok(None);
        }
        let name = network.bridge();
        self.lay_bridge(network).context(|| format!("make the bridge {name} of network {}", network.name))?;
        let listening = if network.dns { listen(network, &name) } else { Ok(Listening::default()) };
        let listening = listening.context(|| format!("listen for names on network {}", network.name))?;
        if let Some(laid) = self.networks.get_mut(&network.name) {
            laid.whole = true;
        }
        Ok(Some(listening))
    }

    fn lay_bridge(&mut self, network: &Network) -> io::Result<()> {
        let name = network.bridge();
        let bridge = self.bridge(network, &name)?;
        set(&format!("ipv6/conf/{name}/disable_ipv6"), if network.has_ipv6() { "0" } else { "1" })
            .or_ignore();
        set(&format!("ipv6/conf/{name}/accept_ra"), "0").or_ignore();
        // A bridge has the least MTU of its ports, unless it is told; and the least
        // of their Ethernet addresses, so another whenever a port comes or goes:
        // containers would speak to one that nobody has any more.
        let mac = network.pools.first().map(|pool| Mac::of(pool.gateway).0);
        let own = LinkChange { mtu: Some(network.mtu()), mac, ..UP };
        self.netlink.change_link(bridge, &own)?;
        let table = FIRST_TABLE + bridge;
        for rule in bridge_rules(&name, table) {
            if network.pools.iter().any(|pool| pool.subnet.is_ipv6() == rule.ipv6) {
                or_exists(self.netlink.add_rule(&rule))?;
            }
        }
        for pool in &network.pools {
            let subnet = Interface::of(pool.subnet);
            or_exists(self.netlink.add_address(bridge, Interface { address: pool.gateway, ..subnet }))?;
            let own = Route { link: Some(bridge), table, ..Route::default() };
            let among = Route { destination: Some(subnet), ..own };
            // Who is to reach nobody beside him does not by the gateway either.
            let nobody = Route { kind: RouteKind::Unreachable, link: None, ..among };
            self.netlink.set_route(if network.joins_containers() { &among } else { &nobody })?;
            self.netlink.set_route(&no_way(subnet))?;
            let gateway = Interface::host(pool.gateway);
            self.netlink.set_route(&Route { kind: RouteKind::Local, destination: Some(gateway), ..own })?;
        }
        self.networks.insert(network.name.clone(), Laid { network: network.clone(), bridge, whole: false });
        self.lead_out(&network.name)
    }

    /// The bridge of that name, made where it is missing. One that a killed holder
    /// has left may be of an earlier network of the same name.
    fn bridge(&mut self, network: &Network, name: &str) -> io::Result<u32> {
        if let Ok(left) = self.netlink.index(name) {
            let all = self.netlink.addresses()?;
            let is_other = |address: IpAddr| !network.pools.iter().any(|pool| pool.gateway == address);
            let mut own = all.iter().filter(|(link, own)| *link == left && is_reachable(own.address));
            if !own.any(|(_, own)| is_other(own.address)) {
                return Ok(left);
            }
            for (_, own) in all.iter().filter(|(link, own)| *link == left && is_reachable(own.address)) {
                if let Some(subnet) = Subnet::new(own.address, own.prefix) {
                    or_gone(self.netlink.delete_route(&no_way(Interface::of(subnet))))?;
                }
            }
            self.netlink.delete_link(left)?;
        }
        self.netlink.add_bridge(name)?;
        self.netlink.index(name)
    }

    /// The routes between a network and the uplink, where there are both.
    fn lead_out(&mut self, name: &str) -> io::Result<()> {
        let (Some(laid), Some(tap)) = (self.networks.get(name), self.uplink) else { return Ok(()) };
        if laid.network.internal {
            return Ok(());
        }
        let bridge = laid.bridge;
        let pools = laid.network.pools.clone();
        for pool in &pools {
            let gateway = if pool.subnet.is_ipv6() { UPLINK_IPV6 } else { self.gateway_ipv4(tap)? };
            let out = Route {
                gateway: Some(gateway),
                link: Some(tap),
                table: FIRST_TABLE + bridge,
                ..Route::default()
            };
            self.netlink.set_route(&out)?;
            let back = Route {
                destination: Some(Interface::of(pool.subnet)),
                link: Some(bridge),
                table: FROM_OUTSIDE,
                ..Route::default()
            };
            self.netlink.set_route(&back)?;
        }
        Ok(())
    }

    /// The uplink has made its interface: all networks that may go out do.
    pub(crate) fn connect_uplink(&mut self, interface: &str) -> Result<()> {
        self.open_uplink(interface).context(|| "lead the networks out")
    }

    fn open_uplink(&mut self, interface: &str) -> io::Result<()> {
        let tap = self.netlink.index(interface)?;
        set(&format!("ipv4/conf/{interface}/proxy_arp"), "1")?;
        for (key, value) in [("proxy_ndp", "1"), ("accept_ra", "0"), ("forwarding", "1")] {
            set(&format!("ipv6/conf/{interface}/{key}"), value).or_ignore();
        }
        for rule in rules(interface, AT_OUTSIDE, FROM_OUTSIDE) {
            or_exists(self.netlink.add_rule(&rule))?;
        }
        // The uplink looks for the interface's own address, too.
        for (link, own) in self.netlink.addresses()? {
            if link == tap && own.address.is_ipv4() {
                let route = Route {
                    kind: RouteKind::Local,
                    destination: Some(Interface::host(own.address)),
                    link: Some(tap),
                    table: FROM_OUTSIDE,
                    ..Route::default()
                };
                self.netlink.set_route(&route)?;
            }
        }
        self.uplink = Some(tap);
        for name in self.networks.keys().cloned().collect::<Vec<_>>() {
            self.lead_out(&name)?;
        }
        Ok(())
    }

    /// The second address of the tap's subnet: what slirp4netns and the built-in
    /// uplink have.
    fn gateway_ipv4(&mut self, tap: u32) -> io::Result<IpAddr> {
        let all = self.netlink.addresses()?;
        let own = all.into_iter().find(|(link, own)| *link == tap && own.address.is_ipv4());
        let subnet = own.and_then(|(_, own)| Subnet::new(own.address, own.prefix));
        subnet.and_then(|subnet| subnet.nth(2)).ok_or_else(|| io::Error::other("the uplink has no address"))
    }

    /// Joins a container, by its id, to a network: a new interface in its
    /// namespace, with its addresses. One that is joined already is left as it is.
    pub(crate) fn attach(
        &mut self,
        id: &str,
        netns: &OwnedFd,
        endpoint: &Endpoint,
        leads: DefaultRoute,
    ) -> Result<()> {
        let step = || format!("connect the container to network {}", endpoint.network);
        let laid = self
            .networks
            .get(&endpoint.network)
            .ok_or_else(|| Error::failed("it is not there"))
            .context(step)?;
        let (bridge, network) = (laid.bridge, laid.network.clone());
        let port = port_name(id, endpoint);
        if let Ok(left) = self.netlink.index(&port) {
            if let Ok(link) = self.within(netns, |inside| inside.index(&endpoint.interface)) {
                return self
                    .within(netns, |inside| match leads {
                        DefaultRoute::HereNow => lead(inside, &network, link),
                        DefaultRoute::Here | DefaultRoute::Kept => Ok(()),
                        DefaultRoute::Elsewhere => lead_no_more(inside, &network, link),
                    })
                    .context(step);
            }
            // Of an earlier run, whose namespace is about to go.
            or_gone(self.netlink.delete_link(left)).context(step)?;
        }
        let peer = VethPeer { name: &endpoint.interface, mac: endpoint.mac.0, netns: netns.as_fd() };
        let made = self.netlink.add_veth(&port, network.mtu(), &peer);
        // Of a namespace of bridges that is gone: it leads nowhere.
        if made.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EEXIST)) {
            self.within(netns, |inside| {
                let old = inside.index(&endpoint.interface)?;
                inside.delete_link(old)
            })
            .context(step)?;
            self.netlink.add_veth(&port, network.mtu(), &peer).context(step)?;
        } else {
            made.context(step)?;
        }
        let result = self.configure(&port, netns, endpoint, &network, bridge, leads);
        if result.is_err() {
            self.detach(id, endpoint).or_ignore();
        }
        result.context(step)
    }

    fn configure(
        &mut self,
        port: &str,
        netns: &OwnedFd,
        endpoint: &Endpoint,
        network: &Network,
        bridge: u32,
        leads: DefaultRoute,
    ) -> io::Result<()> {
        set(&format!("ipv6/conf/{port}/disable_ipv6"), "1").or_ignore();
        let index = self.netlink.index(port)?;
        self.netlink.change_link(index, &LinkChange { master: Some(bridge), ..UP })?;
        if !network.joins_containers() {
            self.netlink.isolate_port(index)?;
        }
        // A neighbour may give itself this container's addresses; what is sent to
        // them from here comes to this container all the same. So who asks for names
        // as another hears no answer.
        self.netlink.fix_to_port(index, endpoint.mac.0)?;
        for address in &endpoint.addresses {
            self.netlink.set_neighbour(bridge, *address, endpoint.mac.0)?;
        }
        self.within(netns, |inside| {
            let link = inside.index(&endpoint.interface)?;
            // Before it is up: not even a link-local address (CVE-2024-32473).
            let ipv6 = if network.has_ipv6() { "0" } else { "1" };
            set(&format!("ipv6/conf/{}/disable_ipv6", endpoint.interface), ipv6).or_ignore();
            set(&format!("ipv6/conf/{}/accept_ra", endpoint.interface), "0").or_ignore();
            for (path, value) in &endpoint.sysctls {
                set(path, value).map_err(|error| named(&error, path))?;
            }
            for address in &endpoint.link_local {
                let prefix = if address.is_ipv6() { 64 } else { 16 };
                or_exists(inside.add_address(link, Interface { address: *address, prefix }))?;
            }
            for address in &endpoint.addresses {
                let prefix = network.pool_of(*address).map_or(32, |pool| pool.subnet.prefix());
                or_exists(inside.add_address(link, Interface { address: *address, prefix }))?;
            }
            inside.change_link(link, &UP)?;
            for StaticRoute { destination, gateway, metric } in &network.routes {
                inside.set_route(&Route {
                    destination: Some(Interface::of(*destination)),
                    gateway: Some(*gateway),
                    link: Some(link),
                    metric: metric.unwrap_or(0),
                    ..Route::default()
                })?;
            }
            match leads {
                DefaultRoute::Here | DefaultRoute::HereNow => lead(inside, network, link),
                DefaultRoute::Elsewhere | DefaultRoute::Kept => Ok(()),
            }
        })?;
        if let (Some(tap), false) = (self.uplink, network.internal) {
            for address in endpoint.addresses.iter().filter(|address| address.is_ipv6()) {
                self.netlink.add_proxy(tap, *address).or_ignore();
            }
        }
        Ok(())
    }

    /// Takes a container off a network; both ends of the pair go.
    pub(crate) fn detach(&mut self, id: &str, endpoint: &Endpoint) -> Result<()> {
        if let Some(tap) = self.uplink {
            for address in endpoint.addresses.iter().filter(|address| address.is_ipv6()) {
                self.netlink.delete_proxy(tap, *address).or_ignore();
            }
        }
        if let Some(bridge) = self.networks.get(&endpoint.network).map(|laid| laid.bridge) {
            for address in &endpoint.addresses {
                self.netlink.delete_neighbour(bridge, *address).or_ignore();
            }
        }
        let gone = match self.netlink.index(&port_name(id, endpoint)) {
            Ok(index) => self.netlink.delete_link(index),
            Err(error) => Err(error),
        };
        or_gone(gone).context(|| format!("disconnect the container from network {}", endpoint.network))
    }

    /// Takes the bridge of a network away that nobody is on.
    pub(crate) fn lift(&mut self, name: &str) -> Result<()> {
        let Some(laid) = self.networks.remove(name) else { return Ok(()) };
        let bridge = laid.network.bridge();
        for rule in bridge_rules(&bridge, FIRST_TABLE + laid.bridge) {
            self.netlink.delete_rule(&rule).or_ignore();
        }
        for pool in &laid.network.pools {
            self.netlink.delete_route(&no_way(Interface::of(pool.subnet))).or_ignore();
        }
        or_gone(self.netlink.delete_link(laid.bridge)).context(|| format!("remove the bridge {bridge}"))
    }

    /// Speaks to the kernel inside a container's namespace, with this thread.
    fn within<T>(&self, netns: &OwnedFd, act: impl FnOnce(&mut Netlink) -> io::Result<T>) -> io::Result<T> {
        namespace::join_network_namespace(netns.as_fd())?;
        let result = Netlink::open().and_then(|mut inside| act(&mut inside));
        // It owns what it goes back to: nothing can refuse.
        namespace::join_network_namespace(self.netns.as_fd())?;
        result
    }
}

const UP: LinkChange<'static> =
    LinkChange { up: Some(true), name: None, mtu: None, mac: None, master: None, netns: None };

/// Whether a container's default route leads through an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DefaultRoute {
    Here,
    /// Be the endpoint new or not: what led out before may be about to go.
    HereNow,
    /// Through another one of a network.
    Elsewhere,
    /// That of a way out which is no network's.
    Kept,
}

/// The container's default routes lead to the network's gateways.
fn lead(inside: &mut Netlink, network: &Network, link: u32) -> io::Result<()> {
    for pool in network.pools.iter().filter(|_| network.leads_by_default()) {
        let (gateway, link) = (Some(pool.gateway), Some(link));
        inside.set_route(&Route { gateway, link, metric: network.metric(), ..Route::default() })?;
    }
    Ok(())
}

/// They do not any more: one with another metric would stay beside the next.
fn lead_no_more(inside: &mut Netlink, network: &Network, link: u32) -> io::Result<()> {
    for pool in network.pools.iter().filter(|_| network.leads_by_default()) {
        let (gateway, link) = (Some(pool.gateway), Some(link));
        or_gone(inside.delete_route(&Route { gateway, link, ..Route::default() }))?;
    }
    Ok(())
}

/// The bridge's end of a pair: one of a container and a network, in the 15
/// bytes that a name has.
fn port_name(id: &str, endpoint: &Endpoint) -> String {
    let part = |text: &str, length| text.get(..length).unwrap_or_default().to_owned();
    format!("v{}{}", part(id, 8), part(&endpoint.network_id, 6))
}

/// What comes in by a link is looked up in that table, and in none after it.
fn rules(incoming: &str, priority: u32, table: u32) -> impl Iterator<Item = Rule<'_>> {
    let actions = [(priority, RuleAction::Table(table)), (priority + 1, RuleAction::Unreachable)];
    [false, true].into_iter().flat_map(move |ipv6| {
        actions
            .map(|(priority, action)| Rule { incoming: Some(incoming), ..Rule::new(ipv6, priority, action) })
    })
}

/// What comes in by a bridge: to the bridge's own subnets, else to no other
/// bridge's, else out where its table has a default route.
fn bridge_rules(incoming: &str, table: u32) -> impl Iterator<Item = Rule<'_>> {
    let before = [false, true].into_iter().flat_map(move |ipv6| {
        let rule = |priority, table| Rule {
            incoming: Some(incoming),
            ..Rule::new(ipv6, priority, RuleAction::Table(table))
        };
        [Rule { suppress_prefix_length: Some(0), ..rule(AT_BRIDGES, table) }, rule(AT_BRIDGES + 1, NO_WAY)]
    });
    before.chain(rules(incoming, AT_BRIDGES + 2, table))
}

fn no_way(subnet: Interface) -> Route {
    Route { kind: RouteKind::Unreachable, destination: Some(subnet), table: NO_WAY, ..Route::default() }
}

/// Not one that the kernel gives to each link.
fn is_reachable(address: IpAddr) -> bool {
    !matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

fn set(key: &str, value: &str) -> io::Result<()> {
    std::fs::write(format!("/proc/sys/net/{key}"), value)
}

/// The kernel's refusal of a sysctl, with the sysctl.
fn named(error: &io::Error, path: &str) -> io::Error {
    io::Error::new(error.kind(), format!("set sysctl net.{}: {error}", path.replace('/', ".")))
}

fn listen(network: &Network, bridge: &str) -> io::Result<Listening> {
    let mut listening = Listening::default();
    for pool in &network.pools {
        let address = SocketAddr::new(pool.gateway, 53);
        let datagrams = UdpSocket::bind(address)?;
        let connections = TcpListener::bind(address)?;
        // Who comes by another bridge is not heard.
        nix::sys::socket::setsockopt(&datagrams, nix::sys::socket::sockopt::BindToDevice, &bridge.into())?;
        nix::sys::socket::setsockopt(&connections, nix::sys::socket::sockopt::BindToDevice, &bridge.into())?;
        datagrams.set_nonblocking(true)?;
        connections.set_nonblocking(true)?;
        listening.datagrams.push(datagrams);
        listening.connections.push(connections);
    }
    Ok(listening)
}

#[cfg(test)]
mod tests {
    use super::super::netlink::tests::in_namespaces_of_its_own;
    use super::*;
    use crate::types::network::Pool;

    #[test]
    fn a_network_that_could_not_be_laid_whole_is_laid_by_the_next_that_wants_it() {
        in_namespaces_of_its_own("network::bridge::tests::names_are_listened_for_at_the_second_try");
    }

    #[test]
    #[ignore = "changes the network namespace it runs in: the test above starts it"]
    fn names_are_listened_for_at_the_second_try() {
        let mut bridges = Bridges::enter(None).expect("a namespace");
        let pool = Pool {
            subnet: Subnet::parse("10.5.0.0/24").expect("a subnet"),
            gateway: "10.5.0.1".parse().expect("an address"),
            range: None,
        };
        let network = Network {
            version: 1,
            id: "5".repeat(64),
            name: "a".into(),
            created: jiff::Timestamp::UNIX_EPOCH,
            pools: vec![pool],
            internal: false,
            dns: true,
            ..Network::default()
        };
        let other = UdpSocket::bind("0.0.0.0:53").expect("the port");
        let error = bridges.lay(&network).expect_err("the port is taken").to_string();
        assert!(error.starts_with("listen for names on network a: "), "{error}");
        drop(other);
        let listening = bridges.lay(&network).expect("laid").expect("for the first time");
        assert_eq!((listening.datagrams.len(), listening.connections.len()), (1, 1));
        assert!(bridges.lay(&network).expect("laid").is_none());
        bridges.lift("a").expect("lifted");
    }
}
