//! The container's network namespace, which this process is in: at which
//! address the container is reached, and as whom.
//!
//! A connection inside comes from the client's own address, by sockets that are
//! transparent (ip(7), IP_TRANSPARENT): the kernel lets them have an address of
//! another host, and `routes` keeps the replies here. Clients that have no
//! address which would mean the same inside are shown as the gateway, as docker
//! shows them: those of the host's loopback, which a program would take for its
//! own and trust (CVE-2021-20199), and link-local ones.

use super::options::{set_mark, set_transparent};
use super::routes::{MARK, Routes};
use crate::error::{Context, Result};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Addresses may come and go while the container runs.
const FRESH: Duration = Duration::from_millis(500);

/// As whom clients without an address of their own come where there is no
/// gateway: nobody's (link-local, and RFC 6666).
const NOBODY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const NOBODY_V6: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1);

/// An address of the container, and that of its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Home {
    own: IpAddr,
    gateway: IpAddr,
}

/// One way to reach the container for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// The client as the container sees it; `None`: as the kernel likes.
    pub(super) source: Option<SocketAddr>,
    pub(super) own: IpAddr,
}

#[derive(Debug)]
pub(super) struct Inside {
    loopback_only: bool,
    v4: Option<Home>,
    v6: Option<Home>,
    read: Option<Instant>,
    transparent_v4: bool,
    transparent_v6: bool,
    /// The same of datagrams.
    datagrams_v4: bool,
    datagrams_v6: bool,
}

impl Inside {
    /// Prepares the namespace for clients' addresses. What it cannot do is told.
    pub(super) fn prepare(loopback_only: bool, routes: &mut Routes, warnings: &mut Vec<String>) -> Self {
        let mut able = |v4: bool| {
            let tried = keep_marks(v4).and_then(|()| routes.mark(v4)).and_then(|()| probe(v4));
            if let Err(error) = &tried {
                let family = if v4 { "IPv4" } else { "IPv6" };
                warnings
                    .push(format!("{family} clients of published ports are shown as the gateway: {error}"));
            }
            tried.is_ok()
        };
        let has_v6 = std::path::Path::new("/proc/self/net/if_inet6").exists();
        let (transparent_v4, transparent_v6) = (able(true), has_v6 && able(false));
        Self {
            loopback_only,
            v4: None,
            v6: None,
            read: None,
            transparent_v4,
            transparent_v6,
            datagrams_v4: transparent_v4,
            datagrams_v6: transparent_v6,
        }
    }

    /// How a client reaches the container, best first: by its own family, and an
    /// IPv6 client else over IPv4, as docker's proxy does.
    pub(super) fn ways(&mut self, client: SocketAddr) -> [Option<Way>; 2] {
        if self.read.is_none_or(|read| read.elapsed() > FRESH) {
            self.look();
        }
        let (mine, other) = if client.is_ipv4() { (self.v4, self.v6) } else { (self.v6, self.v4) };
        [mine.map(|home| self.way(client, home)), other.map(|home| self.way(client, home))]
    }

    /// The same for a client's datagrams.
    pub(super) fn datagram_ways(&mut self, client: SocketAddr) -> [Option<Way>; 2] {
        let (v4, v6) = (self.datagrams_v4, self.datagrams_v6);
        self.ways(client).map(|way| {
            let way = way?;
            let shown = if way.own.is_ipv4() { v4 } else { v6 };
            Some(Way { source: way.source.filter(|_| shown), ..way })
        })
    }

    /// Whether clients of a family are shown.
    pub(super) fn has(&self, v4: bool) -> bool {
        if v4 { self.transparent_v4 } else { self.transparent_v6 }
    }

    /// Replies to datagrams cannot be led back here.
    pub(super) fn show_no_datagrams(&mut self, v4: bool) {
        *(if v4 { &mut self.datagrams_v4 } else { &mut self.datagrams_v6 }) = false;
    }

    /// What was read is not true any more.
    pub(super) fn forget(&mut self) {
        self.read = None;
    }

    fn way(&self, client: SocketAddr, home: Home) -> Way {
        let v4 = home.own.is_ipv4();
        let transparent = if v4 { self.transparent_v4 } else { self.transparent_v6 };
        let shown = if client.is_ipv4() == v4 && means_the_same_inside(client.ip()) {
            client.ip()
        } else {
            home.gateway
        };
        Way { source: transparent.then(|| SocketAddr::new(shown, client.port())), own: home.own }
    }

    fn look(&mut self) {
        self.read = Some(Instant::now());
        let routes_v4 = std::fs::read_to_string("/proc/self/net/route").unwrap_or_default();
        let routes_v6 = std::fs::read_to_string("/proc/self/net/ipv6_route").unwrap_or_default();
        let interfaces = interfaces();
        self.v4 = home(&interfaces, default_v4(&routes_v4), true);
        self.v6 = home(&interfaces, default_v6(&routes_v6), false);
        if self.loopback_only && self.v4.is_none() && self.v6.is_none() {
            self.v4 = Some(Home { own: Ipv4Addr::LOCALHOST.into(), gateway: NOBODY_V4.into() });
            self.v6 = Some(Home { own: Ipv6Addr::LOCALHOST.into(), gateway: NOBODY_V6.into() });
        }
    }
}

/// Sockets that accept a marked connection are to send marked replies, and so is the
/// kernel where no socket listens (a reset, an ICMP error): else the refusal would
/// leave by the way out, and the client would wait.
fn keep_marks(v4: bool) -> Result<()> {
    // The files are those of the network namespace of who opens them.
    switch_on("/proc/sys/net/ipv4/tcp_fwmark_accept")?;
    switch_on(if v4 { "/proc/sys/net/ipv4/fwmark_reflect" } else { "/proc/sys/net/ipv6/fwmark_reflect" })
}

fn switch_on(file: &str) -> Result<()> {
    let value = std::fs::read_to_string(file).context(|| format!("read {file}"))?;
    if value.trim() == "1" {
        return Ok(());
    }
    std::fs::write(file, "1").context(|| format!("write {file}"))
}

fn probe(v4: bool) -> Result<()> {
    let client: IpAddr =
        if v4 { NOBODY_V4.into() } else { Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into() };
    let socket = socket(client, SocketType::STREAM).context(|| "make a socket")?;
    bind_as(&socket, SocketAddr::new(client, 0)).context(|| "take a client's address")
}

/// A socket of the container's network namespace.
pub(super) fn socket(family_of: IpAddr, kind: SocketType) -> Result<OwnedFd, Errno> {
    let family = if family_of.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

/// Gives the socket the client's address.
pub(super) fn bind_as(socket: &OwnedFd, client: SocketAddr) -> std::io::Result<()> {
    set_transparent(socket, client.is_ipv4())?;
    set_mark(socket, MARK)?;
    // One client may have connections to several ports from one of its own.
    rustix::net::sockopt::set_socket_reuseaddr(socket, true)?;
    match rustix::net::bind(socket, &client) {
        Err(Errno::ADDRINUSE) => rustix::net::bind(socket, &SocketAddr::new(client.ip(), 0))?,
        result => result?,
    }
    Ok(())
}

fn means_the_same_inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !address.is_loopback() && !address.is_unspecified() && !address.is_link_local()
        }
        IpAddr::V6(address) => {
            !address.is_loopback() && !address.is_unspecified() && !address.is_unicast_link_local()
        }
    }
}

struct Interface {
    name: String,
    address: IpAddr,
    mask: Option<IpAddr>,
}

/// Addresses that others can reach.
fn interfaces() -> Vec<Interface> {
    let ip = |storage: Option<&nix::sys::socket::SockaddrStorage>| -> Option<IpAddr> {
        let storage = storage?;
        match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
            (Some(v4), _) => Some(v4.ip().into()),
            (_, Some(v6)) => Some(v6.ip().into()),
            _ => None,
        }
    };
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    all.filter_map(|interface| {
        let address = ip(interface.address.as_ref())?;
        means_the_same_inside(address).then(|| Interface {
            name: interface.interface_name,
            address,
            mask: ip(interface.netmask.as_ref()),
        })
    })
    .collect()
}

/// Docker's choice: the address at the interface that leads out, else the first.
fn home(interfaces: &[Interface], default: Option<(String, IpAddr)>, v4: bool) -> Option<Home> {
    let mut candidates = interfaces.iter().filter(|interface| interface.address.is_ipv4() == v4);
    let leads_out =
        |interface: &&Interface| default.as_ref().is_some_and(|(name, _)| *name == interface.name);
    let interface = candidates.clone().find(leads_out).or_else(|| candidates.next())?;
    let gateway = match default {
        // IPv6's is often link-local, which without its interface is nobody.
        Some((name, gateway)) if name == interface.name && means_the_same_inside(gateway) => gateway,
        _ => first_of_subnet(interface),
    };
    Some(Home { own: interface.address, gateway })
}

/// Where gateways usually are, when there is none to be asked for.
fn first_of_subnet(interface: &Interface) -> IpAddr {
    let first = match (interface.address, interface.mask) {
        (IpAddr::V4(address), Some(IpAddr::V4(mask))) => {
            Ipv4Addr::from_bits((address.to_bits() & mask.to_bits()) | 1).into()
        }
        (IpAddr::V6(address), Some(IpAddr::V6(mask))) => {
            Ipv6Addr::from_bits((address.to_bits() & mask.to_bits()) | 1).into()
        }
        (IpAddr::V4(_), _) => NOBODY_V4.into(),
        (IpAddr::V6(_), _) => NOBODY_V6.into(),
    };
    if first != interface.address {
        return first;
    }
    if first.is_ipv4() { NOBODY_V4.into() } else { NOBODY_V6.into() }
}

/// Interface and gateway of the default route in /proc/net/route: proc_pid_net(5).
fn default_v4(text: &str) -> Option<(String, IpAddr)> {
    text.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace();
        let (name, destination, gateway) = (words.next()?, words.next()?, words.next()?);
        let mask = words.nth(4)?;
        if destination != "00000000" || mask != "00000000" {
            return None;
        }
        // The bytes of the address, read as one number of this machine.
        let gateway = u32::from_str_radix(gateway, 16).ok()?.to_ne_bytes();
        Some((name.to_owned(), IpAddr::from(gateway)))
    })
}

/// The same of /proc/net/ipv6_route, all of whose fields are in order.
fn default_v6(text: &str) -> Option<(String, IpAddr)> {
    text.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [destination, length, _, _, gateway, .., name] = words.as_slice() else { return None };
        let zero = destination.bytes().all(|byte| byte == b'0') && *length == "00";
        // The kernel lists an unreachable one for the loopback device.
        if !zero || *name == "lo" {
            return None;
        }
        Some(((*name).to_owned(), Ipv6Addr::from_bits(u128::from_str_radix(gateway, 16).ok()?).into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside() -> Inside {
        let home = |own: &str, gateway: &str| {
            Some(Home {
                own: own.parse().expect("an address"),
                gateway: gateway.parse().expect("an address"),
            })
        };
        Inside {
            loopback_only: false,
            v4: home("10.0.2.100", "10.0.2.2"),
            v6: home("fd00::100", "fd00::2"),
            read: Some(Instant::now() + Duration::from_secs(1000)),
            transparent_v4: true,
            transparent_v6: true,
            datagrams_v4: true,
            datagrams_v6: false,
        }
    }

    #[test]
    fn clients_come_as_themselves_and_those_of_loopback_as_the_gateway() {
        let mut inside = inside();
        let mut shown = |client: &str| {
            inside.ways(client.parse().expect("an address")).map(|way| {
                let way = way.expect("a way");
                (way.source.expect("an address").to_string(), way.own.to_string())
            })
        };
        let pair = |source: &str, own: &str| (source.to_owned(), own.to_owned());
        assert_eq!(shown("192.0.2.7:1234")[0], pair("192.0.2.7:1234", "10.0.2.100"));
        assert_eq!(shown("127.0.0.1:1234")[0], pair("10.0.2.2:1234", "10.0.2.100"));
        assert_eq!(
            shown("[2001:db8::7]:1234"),
            [pair("[2001:db8::7]:1234", "fd00::100"), pair("10.0.2.2:1234", "10.0.2.100")]
        );
        assert_eq!(shown("[::1]:1234")[0], pair("[fd00::2]:1234", "fd00::100"));
        assert_eq!(shown("[fe80::1%2]:1234".replace("%2", "").as_str())[0].0, "[fd00::2]:1234");
    }

    #[test]
    fn the_kernel_s_lists_are_read() {
        let v4 = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
            tap0 0002000A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n\
            tap0 00000000 0202000A 0003 0 0 0 00000000 0 0 0\n";
        assert_eq!(default_v4(v4), Some(("tap0".into(), "10.0.2.2".parse().expect("an address"))));
        let zero = "0".repeat(32);
        let gateway = format!("fd00{}2", "0".repeat(27));
        let v6 = format!(
            "fd000000000000000000000000000000 40 {zero} 00 {zero} 00000100 1 0 00000001 tap0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 1 0 00200200 lo\n\
             {zero} 00 {zero} 00 {gateway} 00000400 1 0 00000003 tap0\n"
        );
        assert_eq!(default_v6(&v6), Some(("tap0".into(), "fd00::2".parse().expect("an address"))));
    }

    #[test]
    fn without_a_gateway_the_first_of_the_subnet_stands_for_it() {
        let interface = |address: &str, mask: &str| Interface {
            name: "eth0".into(),
            address: address.parse().expect("an address"),
            mask: mask.parse().ok(),
        };
        let list = [interface("10.89.0.7", "255.255.255.0"), interface("fd01::7", "ffff:ffff:ffff:ffff::")];
        assert_eq!(home(&list, None, true).expect("one").gateway.to_string(), "10.89.0.1");
        assert_eq!(home(&list, None, false).expect("one").gateway.to_string(), "fd01::1");
        let out = Some(("eth1".to_owned(), "10.90.0.1".parse().expect("an address")));
        assert_eq!(home(&list, out, true).expect("one").gateway.to_string(), "10.89.0.1");
    }
}
