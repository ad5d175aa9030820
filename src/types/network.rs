//! Networks of containers: subnets, definitions, and how a container is on one.

use super::address_range::Range;
use super::boolean;
use super::csv::split_fields;
use super::digest::Digest;
use super::id::ContainerId;
use super::static_route::StaticRoute;
use crate::error::{Error, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The network that docker's users know by this name; podman's call it `podman`.
pub(crate) const DEFAULT: &str = "bridge";

/// Docker's option for the name of a network's bridge.
pub(crate) const BRIDGE_NAME: &str = "com.docker.network.bridge.name";

/// Bytes that fit through slirp4netns in one piece: between containers the
/// kernel does not cut them either.
pub(crate) const DEFAULT_MTU: u32 = 65520;

/// Names that `--network` gives another meaning.
pub(crate) const RESERVED: [&str; 9] =
    ["default", "private", "host", "none", "container", "ns", "slirp4netns", "pasta", "builtin"];

/// The options of a network that say whether its containers reach each other.
pub(crate) const ICC: [&str; 2] = ["com.docker.network.bridge.enable_icc", "enable_icc"];
/// That of what the names of its containers' interfaces begin with.
pub(crate) const INTERFACE_PREFIX: &str = "com.docker.network.container_iface_prefix";
/// That of the host's address at which ports are published.
pub(crate) const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";

/// A range of addresses with a common prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subnet {
    base: IpAddr,
    prefix: u8,
}

impl Subnet {
    /// `address` with its host bits cleared.
    pub(crate) fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let width = width(address);
        let host = width.checked_sub(prefix)?;
        let base = if host == width { 0 } else { number(address) >> host << host };
        Some(Self { base: from_number(base, address.is_ipv6()), prefix })
    }

    /// `ADDRESS/PREFIX`; host bits may be set.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        Self::new(address.parse().ok()?, prefix.parse().ok()?)
    }

    pub(crate) fn base(self) -> IpAddr {
        self.base
    }

    pub(crate) fn prefix(self) -> u8 {
        self.prefix
    }

    pub(crate) fn is_ipv6(self) -> bool {
        self.base.is_ipv6()
    }

    pub(crate) fn contains(self, address: IpAddr) -> bool {
        address.is_ipv6() == self.is_ipv6() && Self::new(address, self.prefix) == Some(self)
    }

    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.contains(other.base) || other.contains(self.base)
    }

    /// Whether single hosts have addresses of it: not loopback, one link's,
    /// multicast, or nobody's.
    pub(crate) fn is_for_hosts(self) -> bool {
        let others: &[(IpAddr, u8)] = &[
            (Ipv4Addr::UNSPECIFIED.into(), 8),
            (Ipv4Addr::LOCALHOST.into(), 8),
            (Ipv4Addr::new(224, 0, 0, 0).into(), 3),
            (Ipv6Addr::UNSPECIFIED.into(), 96),
            (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).into(), 10),
            (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), 8),
        ];
        !others.iter().filter_map(|(base, prefix)| Self::new(*base, *prefix)).any(|one| one.overlaps(self))
    }

    /// The address so many after the first.
    pub(crate) fn nth(self, offset: u128) -> Option<IpAddr> {
        let address = from_number(number(self.base).checked_add(offset)?, self.is_ipv6());
        self.contains(address).then_some(address)
    }

    /// The last address, which in IPv4 is for broadcasts.
    pub(crate) fn last(self) -> IpAddr {
        let host = width(self.base) - self.prefix;
        let mask = if host == 128 { u128::MAX } else { (1 << host) - 1 };
        from_number(number(self.base) | mask, self.is_ipv6())
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv6() { 128 } else { 32 }
}

pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

pub(super) fn from_number(number: u128, ipv6: bool) -> IpAddr {
    if ipv6 { Ipv6Addr::from(number).into() } else { Ipv4Addr::from(number as u32).into() }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl Serialize for Subnet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subnet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no subnet")))
    }
}

/// A subnet of a network, and which of its addresses are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pool {
    pub(crate) subnet: Subnet,
    pub(crate) gateway: IpAddr,
    /// Where containers get their addresses from; the whole subnet where `None`.
    #[serde(default)]
    pub(crate) range: Option<Range>,
}

impl Pool {
    /// Addresses that may be given out, lowest first; never without end.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = IpAddr> {
        let (range, pool) = (self.range.unwrap_or(self.subnet.into()), *self);
        (0..1 << 17).map_while(move |offset| range.nth(offset)).filter(move |a| pool.can_give(*a))
    }

    /// Whether a container may have it.
    pub(crate) fn can_give(&self, address: IpAddr) -> bool {
        let broadcast = !self.subnet.is_ipv6() && address == self.subnet.last();
        self.subnet.contains(address) && address != self.subnet.base && address != self.gateway && !broadcast
    }
}

/// A network as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network {
    /// Of this format: 1.
    pub(crate) version: u32,
    /// 64 hexadecimal digits.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    pub(crate) pools: Vec<Pool>,
    /// How often it was changed since it was made.
    #[serde(default)]
    pub(crate) revision: u32,
    /// No way out.
    #[serde(default)]
    pub(crate) internal: bool,
    /// Whether the gateway answers names.
    pub(crate) dns: bool,
    /// Who is asked for other names; the host's resolvers where empty.
    #[serde(default)]
    pub(crate) dns_servers: Vec<IpAddr>,
    /// `--aux-address`: addresses that no container gets, by what they are for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) reserved: BTreeMap<String, IpAddr>,
    /// What its containers reach by a gateway of the network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) routes: Vec<StaticRoute>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) options: BTreeMap<String, String>,
}

impl Network {
    /// The bridge's name: at most 15 bytes.
    pub(crate) fn bridge(&self) -> String {
        let given = self.options.get(BRIDGE_NAME);
        given.cloned().unwrap_or_else(|| format!("br-{}", self.id.get(..12).unwrap_or_default()))
    }

    pub(crate) fn mtu(&self) -> u32 {
        let given = ["mtu", "com.docker.network.driver.mtu"].iter().find_map(|key| self.options.get(*key));
        given.and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_MTU)
    }

    /// What the names of its containers' interfaces begin with; a number follows.
    pub(crate) fn interface_prefix(&self) -> &str {
        self.options.get(INTERFACE_PREFIX).map_or("eth", String::as_str)
    }

    /// Whether its containers reach each other.
    pub(crate) fn joins_containers(&self) -> bool {
        !ICC.iter().any(|key| self.option(key, boolean::parse) == Some(false))
    }

    /// Whether its containers may have their default route by it.
    pub(crate) fn leads_by_default(&self) -> bool {
        !self.internal && self.option("no_default_route", boolean::parse) != Some(true)
    }

    /// Of the default route of its containers; 0: the kernel's own.
    pub(crate) fn metric(&self) -> u32 {
        self.options.get("metric").and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Where ports of its containers are published that are given no address.
    pub(crate) fn host_binding(&self) -> Option<IpAddr> {
        self.options.get(HOST_BINDING)?.parse().ok()
    }

    fn option<T>(&self, key: &str, parse: fn(&str, &str) -> Result<T>) -> Option<T> {
        parse(key, self.options.get(key)?).ok()
    }

    /// Whether a container may have an address of a pool.
    pub(crate) fn can_give(&self, pool: &Pool, address: IpAddr) -> bool {
        pool.can_give(address) && !self.is_reserved(address)
    }

    pub(crate) fn is_reserved(&self, address: IpAddr) -> bool {
        self.reserved.values().any(|reserved| *reserved == address)
    }

    /// The pool that an address is from.
    pub(crate) fn pool_of(&self, address: IpAddr) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.subnet.contains(address))
    }

    pub(crate) fn has_ipv4(&self) -> bool {
        self.pools.iter().any(|pool| !pool.subnet.is_ipv6())
    }

    pub(crate) fn has_ipv6(&self) -> bool {
        self.pools.iter().any(|pool| pool.subnet.is_ipv6())
    }
}

/// How a container is to be on a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Attachment {
    pub(crate) network: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) ip: Option<Ipv4Addr>,
    pub(crate) ip6: Option<Ipv6Addr>,
    pub(crate) mac: Option<Mac>,
    pub(crate) interface: Option<String>,
    /// Of several networks the one with the highest leads out.
    pub(crate) gw_priority: i32,
    /// `--link`: a container of this network, and how it is called here.
    pub(crate) links: Vec<(String, String)>,
    /// `--link-local-ip`
    pub(crate) link_local: Vec<IpAddr>,
    /// `--driver-opt`, as given.
    pub(crate) driver_options: BTreeMap<String, String>,
}

/// How a running container is on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    pub(crate) network: String,
    pub(crate) network_id: String,
    pub(crate) interface: String,
    pub(crate) mac: Mac,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) aliases: Vec<String>,
    #[serde(default)]
    pub(crate) gw_priority: i32,
    #[serde(default)]
    pub(crate) links: Vec<(String, String)>,
    /// Of the link alone: no other network has them.
    #[serde(default)]
    pub(crate) link_local: Vec<IpAddr>,
    /// Below `/proc/sys/net`: path and value.
    #[serde(default)]
    pub(crate) sysctls: Vec<(String, String)>,
}

impl Endpoint {
    pub(crate) fn ipv4(&self) -> Option<IpAddr> {
        self.addresses.iter().copied().find(IpAddr::is_ipv4)
    }

    pub(crate) fn ipv6(&self) -> Option<IpAddr> {
        self.addresses.iter().copied().find(IpAddr::is_ipv6)
    }

    /// Docker's name of a container's place on a network: the same whenever it is
    /// there.
    pub(crate) fn id(&self, container: &ContainerId) -> String {
        Digest::of(format!("{container} {}", self.network_id).as_bytes()).hex().to_owned()
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl Mac {
    /// Six pairs of hexadecimal digits; not a group's address.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split([':', '-']).collect();
        let bytes: Vec<u8> = parts
            .iter()
            .filter(|part| part.len() == 2)
            .map_while(|part| u8::from_str_radix(part, 16).ok())
            .collect();
        let bytes: [u8; 6] = bytes.try_into().ok().filter(|_| parts.len() == 6)?;
        (bytes[0] & 1 == 0 && bytes != [0; 6]).then_some(Self(bytes))
    }

    /// That of whoever has an address: so a neighbour that remembers it is not
    /// misled when another container gets the address later.
    pub(crate) fn of(address: IpAddr) -> Self {
        let [.., a, b, c, d] = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
        Self([0x02, 0x42, a, b, c, d])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        f.write_str(&parts.join(":"))
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no Ethernet address")))
    }
}

impl Attachment {
    /// `NAME[:KEY=VALUE,…]` as podman has it, or docker's `name=NAME,KEY=VALUE,…`.
    ///
    /// # Errors
    /// `Invalid`, naming what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = |why: String| Error::invalid(format!("--network {text}: {why}"));
        // Values have colons too: addresses of IPv6 and of Ethernet.
        let long = text.split(':').next().is_some_and(|begin| begin.contains('='));
        let (name, options) = if long { ("", text) } else { text.split_once(':').unwrap_or((text, "")) };
        let mut parsed = Self { network: name.to_owned(), ..Self::default() };
        let fields = if options.is_empty() { Ok(Vec::new()) } else { split_fields(options) };
        for option in fields.map_err(|error| error.context(format!("--network {text}")))? {
            let (key, value) =
                option.split_once('=').ok_or_else(|| wrong(format!("{option}: a value is missing")))?;
            let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
            match key.as_str() {
                "name" => value.clone_into(&mut parsed.network),
                "alias" => parsed.aliases.push(checked_alias(value)?),
                "ip" => parsed.ip = Some(parse_ip("--network ip=", value)?),
                "ip6" => parsed.ip6 = Some(parse_ip6("--network ip6=", value)?),
                "mac" | "mac-address" => parsed.mac = Some(parse_mac(value)?),
                "link-local-ip" => parsed.add_link_local(value)?,
                "driver-opt" => parsed.add_driver_option(value)?,
                "interface_name" => parsed.interface = Some(checked_interface(value)?),
                "gw-priority" => {
                    parsed.gw_priority =
                        value.parse().map_err(|_| wrong(format!("invalid gw-priority {value:?}")))?;
                }
                _ => {
                    return Err(wrong(format!("unknown option {key:?}"))
                        .hint("the options are ip, ip6, mac, alias, interface_name, gw-priority, link-local-ip and driver-opt"));
                }
            }
        }
        if parsed.network.is_empty() {
            return Err(wrong("the name of the network is missing".into()));
        }
        if parsed.network == "podman" {
            DEFAULT.clone_into(&mut parsed.network);
        }
        Ok(parsed)
    }
}

/// # Errors
/// `Invalid` where it is not an IPv4 address.
pub(crate) fn parse_ip(flag: &str, text: &str) -> Result<Ipv4Addr> {
    text.parse().map_err(|_| Error::invalid(format!("invalid IPv4 address: {text} ({flag})")))
}

/// # Errors
/// `Invalid` where it is not an IPv6 address.
pub(crate) fn parse_ip6(flag: &str, text: &str) -> Result<Ipv6Addr> {
    text.parse().map_err(|_| Error::invalid(format!("invalid IPv6 address: {text} ({flag})")))
}

/// # Errors
/// `Invalid`, in docker's words.
pub(crate) fn parse_mac(text: &str) -> Result<Mac> {
    Mac::parse(text).ok_or_else(|| Error::invalid(format!("{text} is not a valid mac address")))
}

/// A name that DNS can carry.
///
/// # Errors
/// `Invalid` for others.
pub(crate) fn checked_alias(text: &str) -> Result<String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if text.len() < 254 && text.split('.').all(label) {
        return Ok(text.to_owned());
    }
    Err(Error::invalid(format!("{text:?} cannot be a name on a network"))
        .hint("letters, digits, `-`, `_` and dots between them"))
}

/// # Errors
/// `Invalid` for what the kernel would not take: netdevice(7).
pub(crate) fn checked_interface(text: &str) -> Result<String> {
    let good = !text.is_empty()
        && text.len() < 16
        && text != "lo"
        && !text.starts_with('.')
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"/:%".contains(&byte));
    if good { Ok(text.to_owned()) } else { Err(Error::invalid(format!("invalid interface name {text:?}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        Subnet::parse(text).expect("a subnet")
    }

    #[test]
    fn subnets() {
        assert_eq!(subnet("10.1.2.3/24").to_string(), "10.1.2.0/24");
        assert_eq!(subnet("0.0.0.0/0").last().to_string(), "255.255.255.255");
        assert_eq!(subnet("fd00:1::5/64").to_string(), "fd00:1::/64");
        assert_eq!(subnet("::/0").last().to_string(), "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        assert!(subnet("10.0.0.0/8").overlaps(subnet("10.1.0.0/16")));
        assert!(!subnet("10.0.0.0/24").overlaps(subnet("10.0.1.0/24")));
        assert!(!subnet("0.0.0.0/0").overlaps(subnet("::/0")));
        for good in
            ["10.0.0.0/8", "169.254.0.0/16", "223.255.255.0/24", "fd00::/8", "2001:db8::/32", "64:ff9b::/96"]
        {
            assert!(subnet(good).is_for_hosts(), "{good}");
        }
        for bad in
            ["127.0.0.0/24", "0.0.0.0/0", "224.0.0.0/24", "240.0.0.0/24", "fe80::/64", "ff00::/8", "::/64"]
        {
            assert!(!subnet(bad).is_for_hosts(), "{bad}");
        }
        for bad in ["10.0.0.0", "10.0.0.0/33", "::/129", "x/8", "10.0.0/8", "/8", "10.0.0.0/-1"] {
            assert_eq!(Subnet::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_a_pool_gives() {
        let mut pool = Pool {
            subnet: subnet("10.0.0.0/29"),
            gateway: "10.0.0.1".parse().expect("address"),
            range: None,
        };
        let all: Vec<String> = pool.candidates().map(|address| address.to_string()).collect();
        assert_eq!(all, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        pool.range = Some(subnet("10.0.0.4/30").into());
        assert_eq!(pool.candidates().count(), 3);
    }

    #[test]
    fn ethernet_addresses() {
        let mac = Mac::parse("02:42:0A:59:00:02").expect("valid");
        assert_eq!(mac.to_string(), "02:42:0a:59:00:02");
        assert_eq!(Mac::of("10.89.0.2".parse().expect("address")), mac);
        for bad in [
            "",
            "02:42",
            "01:00:00:00:00:00",
            "00:00:00:00:00:00",
            "02:42:0a:59:00:2",
            "02:42:0a:59:00:02:03",
        ] {
            assert_eq!(Mac::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn attachments() {
        let parsed =
            Attachment::parse("web:ip=10.0.0.5,alias=a,alias=b,mac=02:00:00:00:00:01,interface_name=lan0");
        let parsed = parsed.expect("valid");
        assert_eq!((parsed.network.as_str(), parsed.aliases.len()), ("web", 2));
        assert_eq!(parsed.interface.as_deref(), Some("lan0"));
        assert_eq!(Attachment::parse("name=web,alias=a").expect("docker's").network, "web");
        let long = Attachment::parse("name=web,mac-address=92:d0:c6:0a:29:33,ip6=fd00::7,\"alias=a\"")
            .expect("docker's");
        assert_eq!((long.network.as_str(), long.aliases.as_slice()), ("web", &["a".to_owned()][..]));
        assert_eq!(long.mac.expect("a mac").to_string(), "92:d0:c6:0a:29:33");
        assert_eq!(long.ip6, Some("fd00::7".parse().expect("an address")));
        let sysctls = "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.forwarding=0";
        let quoted =
            Attachment::parse(&format!("alias=b,name=web,\"driver-opt={sysctls}\"")).expect("docker's");
        assert_eq!(quoted.sysctls("eth0").len(), 2);
        assert_eq!(Attachment::parse("podman").expect("podman's").network, "bridge");
        for bad in [
            ":ip=1.2.3.4",
            "web:ip",
            "name=web,\"alias=a",
            "web:ip=x",
            "web:ip6=1.2.3.4",
            "web:foo=1",
            "web:alias=a b",
            "web:mac=1",
            "web:interface_name=a/b",
            "name=,alias=x",
        ] {
            assert!(Attachment::parse(bad).is_err(), "{bad}");
        }
    }
}
