//! Networks: `$XDG_STATE_HOME/coracle/networks/<name>/network.json`, and beside
//! it `leases/<address>`, each holding the id of the container that has it.
//!
//! Who makes or removes networks holds a lock on the directory of all; who
//! leases addresses, one on the network's. A lease whose container is gone is
//! nobody's: so nothing has to be given back, and no crash loses an address. Some
//! such stay, so that an address is not another's as soon as it is free.

use super::lock;
use super::written::{Durable, Records, read_json, write_file, write_json};
use crate::dirs::{Dirs, create_private};
use crate::error::{BestEffort, Context, Error, Kind, Result};
use crate::types::address_range::Range;
use crate::types::id::{ContainerId, check_name};
use crate::types::network::{Attachment, DEFAULT, Endpoint, Mac, Network, Pool, RESERVED, Subnet};
use crate::types::uplink::Cidr;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// Leases that may stay when their containers are gone: each is read again
/// whenever somebody gets an address.
const MOST_LEFT: usize = 16;
/// Of more than these no single start takes the time to remove all.
const MOST_AT_ONCE: usize = 256;

/// The networks of one user.
pub(crate) struct Networks {
    directory: PathBuf,
    dirs: Dirs,
}

/// What a pool is to be, as far as that is said.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PoolWish {
    pub(crate) subnet: Option<Subnet>,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) range: Option<Range>,
    pub(crate) ipv6: bool,
}

impl Networks {
    pub(crate) fn new(dirs: &Dirs) -> Self {
        Self { directory: dirs.state.join("networks"), dirs: dirs.clone() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Keeps a network; its id, its time and what is open of its pools are
    /// filled in. `avoid`: where the host routes to.
    ///
    /// # Errors
    /// `Conflict` where the name or a subnet is taken; `Invalid` for a bad name.
    pub(crate) fn create(&self, network: Network, wishes: &[PoolWish], avoid: &[Subnet]) -> Result<Network> {
        if RESERVED.contains(&network.name.as_str()) || network.name == "podman" {
            return Err(Error::invalid(format!(
                "operation is not permitted on predefined {} network",
                network.name
            )));
        }
        check_name("network", &network.name)?;
        create_private(&self.directory)?;
        let _all = lock::directory(&self.directory)?;
        let others = self.all()?;
        // The subnets of a later release's are not known, and are in use all the same.
        if let Some(later) = others.damaged.into_iter().find(|other| other.error.kind() != Kind::Invalid) {
            return Err(later.error);
        }
        let others = others.whole;
        if others.iter().any(|other| other.name == network.name) {
            return Err(Error::conflict(format!("network with name {} already exists", network.name)));
        }
        if let Some(other) = others.iter().find(|other| other.bridge() == network.bridge()) {
            return Err(Error::conflict(format!(
                "bridge name {} is used by network {} already",
                network.bridge(),
                other.name
            )));
        }
        let taken: Vec<(Subnet, &str)> = others
            .iter()
            .flat_map(|other| other.pools.iter().map(|pool| (pool.subnet, other.name.as_str())))
            .collect();
        let mut pools: Vec<Pool> = Vec::new();
        for wish in wishes {
            let pool = make_pool(wish, &network.name, &taken, avoid)?;
            if pools.iter().any(|other| other.subnet.overlaps(pool.subnet)) {
                return Err(Error::invalid(format!(
                    "the subnet {} overlaps another of the network",
                    pool.subnet
                )));
            }
            pools.push(pool);
        }
        let network = Network { version: 1, pools, ..network };
        check_addresses(&network)?;
        check_resolvers(&network)?;
        let temporary = self.directory.join(format!(".new-{}", std::process::id()));
        std::fs::remove_dir_all(&temporary).or_ignore();
        create_private(&temporary.join("leases"))?;
        write_json(&temporary.join("network.json"), &network, Durable::Yes)?;
        if self.path(&network.name).exists() {
            // A damaged one: this takes its place.
            self.take_away(&network.name)?;
        }
        std::fs::rename(&temporary, self.path(&network.name))
            .context(|| format!("keep the network {}", network.name))?;
        Ok(network)
    }

    /// Changes what is kept of a network; its addresses stay.
    ///
    /// # Errors
    /// `NotFound` where it is gone; what `change` or a check says.
    pub(crate) fn update(
        &self,
        name: &str,
        change: impl FnOnce(&mut Network) -> Result<()>,
    ) -> Result<Network> {
        let _all = lock::directory(&self.directory)?;
        let mut network = self.find(name)?;
        change(&mut network)?;
        check_resolvers(&network)?;
        network.revision += 1;
        write_json(&self.path(name).join("network.json"), &network, Durable::Yes)?;
        Ok(network)
    }

    /// All that are kept, by name.
    pub(crate) fn all(&self) -> Result<Records<Network>> {
        let mut all = Records::new();
        let entries = match std::fs::read_dir(&self.directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(all),
            result => result.context(|| format!("list {}", self.directory.display()))?,
        };
        for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
            if !name.starts_with('.') {
                all.add(&name, self.read(&name));
            }
        }
        all.whole.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// The network in the directory of that name; `None` where there is none.
    ///
    /// # Errors
    /// `Invalid` where it is damaged, `Failed` where a later release wrote it.
    fn read(&self, name: &str) -> Result<Option<Network>> {
        let path = self.path(name).join("network.json");
        let network = match read_json::<Network>(&path) {
            Ok(None) if self.path(name).is_dir() => {
                Err(Error::invalid(format!("{} is gone", path.display())))
            }
            result => result,
        };
        match network {
            Ok(Some(network)) if network.version > 1 => {
                Err(Error::failed(format!("the network {} was written by a later release", network.name))
                    .hint("use that one"))
            }
            Err(error) if error.kind() == Kind::Invalid => {
                Err(error.context(format!("network {name}")).hint(format!(
                    "make it anew: `coracle network create {name}`; or remove it, with the containers on it: \
                     `coracle network rm -f {name}`"
                )))
            }
            result => result,
        }
    }

    /// The network with this name, id or unique beginning of an id.
    ///
    /// # Errors
    /// `NotFound`, in docker's words; `Invalid` for a damaged one.
    pub(crate) fn find(&self, word: &str) -> Result<Network> {
        let word = if word == "podman" { DEFAULT } else { word };
        let Records { whole: all, damaged } = self.all()?;
        if let Some(network) = all.iter().find(|network| network.name == word || network.id == word) {
            return Ok(network.clone());
        }
        if let Some(damaged) = damaged.into_iter().find(|damaged| damaged.key == word) {
            return Err(damaged.error);
        }
        let hexadecimal = word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut found = all.into_iter().filter(|network| hexadecimal && network.id.starts_with(word));
        match (found.next(), found.next()) {
            (Some(network), None) => Ok(network),
            (Some(_), Some(_)) => {
                Err(Error::conflict(format!("network {word} is ambiguous: several ids begin so")))
            }
            (None, _) => Err(Error::not_found(format!("network {word} not found"))
                .hint("`coracle network ls` lists the networks there are")),
        }
    }

    /// Removes a network, damaged or not, that nobody needs.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let _all = lock::directory(&self.directory)?;
        self.take_away(name)
    }

    /// The caller has the directory of all locked.
    fn take_away(&self, name: &str) -> Result<()> {
        let gone = self.directory.join(format!(".gone-{}", std::process::id()));
        std::fs::rename(self.path(name), &gone).context(|| format!("remove the network {name}"))?;
        std::fs::remove_dir_all(&gone).context(|| format!("remove the network {name}"))
    }

    /// Gives a container its addresses on a network: those it has already,
    /// those it asks for, or free ones.
    ///
    /// # Errors
    /// `Conflict` where the address asked for is another's, or all are given out.
    pub(crate) fn lease(
        &self,
        network: &Network,
        id: &ContainerId,
        attachment: &Attachment,
        interface: &str,
    ) -> Result<Endpoint> {
        attachment.check(network)?;
        let directory = self.path(&network.name).join("leases");
        let _leases = lock::directory(&directory)?;
        let mut leases = self.leases(network)?;
        self.forget_gone(&directory, &mut leases);
        let mine = |address: &IpAddr| leases.get(address).is_some_and(|owner| owner == id);
        let free =
            |address: &IpAddr| leases.get(address).is_none_or(|owner| owner == id || self.is_gone(owner));
        let wanted = [attachment.ip.map(IpAddr::V4), attachment.ip6.map(IpAddr::V6)];
        let mut addresses = Vec::new();
        for wanted in wanted.into_iter().flatten() {
            let pool = network.pool_of(wanted).ok_or_else(|| {
                Error::invalid(format!(
                    "invalid config for network {}: invalid endpoint settings: no configured subnet contains IP \
                     address {wanted}",
                    network.name
                ))
            })?;
            if !network.can_give(pool, wanted) || !free(&wanted) {
                return Err(Error::conflict(format!(
                    "address {wanted} is in use on network {}: Address already in use",
                    network.name
                )));
            }
            addresses.push(wanted);
        }
        for ipv6 in [false, true] {
            let pools: Vec<&Pool> =
                network.pools.iter().filter(|pool| pool.subnet.is_ipv6() == ipv6).collect();
            if pools.is_empty() || addresses.iter().any(|address| address.is_ipv6() == ipv6) {
                continue;
            }
            let all = || pools.iter().flat_map(|pool| pool.candidates()).filter(|a| !network.is_reserved(*a));
            let held = leases.keys().copied().find(|a| a.is_ipv6() == ipv6 && mine(a));
            let address =
                held.or_else(|| all().find(|a| !leases.contains_key(a))).or_else(|| all().find(free));
            addresses.push(address.ok_or_else(|| {
                Error::conflict(format!("no available IP addresses on network {}", network.name))
                    .hint("stop or remove containers, or make a network with a larger --subnet")
            })?);
        }
        for (address, _) in
            leases.iter().filter(|(address, owner)| *owner == id && !addresses.contains(address))
        {
            std::fs::remove_file(directory.join(address.to_string())).or_ignore();
        }
        for address in &addresses {
            if !mine(address) {
                write_file(&directory.join(address.to_string()), id.as_str().as_bytes(), Durable::No)?;
            }
        }
        let mac = attachment.mac.or_else(|| addresses.first().copied().map(Mac::of));
        Ok(Endpoint {
            network: network.name.clone(),
            network_id: network.id.clone(),
            interface: interface.to_owned(),
            mac: mac.unwrap_or(Mac([2, 0, 0, 0, 0, 1])),
            addresses,
            aliases: attachment.aliases.clone(),
            gw_priority: attachment.gw_priority,
            links: attachment.links.clone(),
            link_local: attachment.link_local.clone(),
            sysctls: attachment.sysctls(interface),
        })
    }

    /// Gives back what a container has on a network.
    pub(crate) fn release(&self, network: &str, id: &ContainerId) {
        let directory = self.path(network).join("leases");
        let Ok(entries) = std::fs::read_dir(&directory) else { return };
        for entry in entries.flatten() {
            if std::fs::read_to_string(entry.path()).is_ok_and(|owner| owner == id.as_str()) {
                std::fs::remove_file(entry.path()).or_ignore();
            }
        }
    }

    fn leases(&self, network: &Network) -> Result<BTreeMap<IpAddr, ContainerId>> {
        let directory = self.path(&network.name).join("leases");
        let entries = std::fs::read_dir(&directory).context(|| format!("list {}", directory.display()))?;
        Ok(entries
            .flatten()
            .filter_map(|entry| {
                let address = entry.file_name().to_str()?.parse().ok()?;
                let owner = std::fs::read_to_string(entry.path()).ok()?;
                Some((address, ContainerId::parse(&owner).ok()?))
            })
            .collect())
    }

    /// Removes the leases of containers that are gone, where there are many.
    fn forget_gone(&self, directory: &Path, leases: &mut BTreeMap<IpAddr, ContainerId>) {
        if leases.len() <= MOST_LEFT {
            return;
        }
        let gone: Vec<IpAddr> =
            leases.iter().filter(|(_, owner)| self.is_gone(owner)).map(|(address, _)| *address).collect();
        if gone.len() > MOST_LEFT {
            for address in gone.into_iter().take(MOST_AT_ONCE) {
                std::fs::remove_file(directory.join(address.to_string())).or_ignore();
                leases.remove(&address);
            }
        }
    }

    fn is_gone(&self, id: &ContainerId) -> bool {
        !self.dirs.container(id).exists()
    }

    /// Makes the default network where it is missing, or damaged.
    pub(crate) fn ensure_default(&self, avoid: impl FnOnce() -> Vec<Subnet>) -> Result<()> {
        match self.read(DEFAULT) {
            Ok(None) => {}
            Err(error) if error.kind() == Kind::Invalid => {}
            result => return result.map(drop),
        }
        let wide = Subnet::new(Ipv4Addr::new(10, 88, 0, 0).into(), 16);
        let avoid = avoid();
        let subnet = wide.filter(|subnet| avoid.iter().all(|other| !other.overlaps(*subnet)));
        match self.create(blank(DEFAULT)?, &[PoolWish { subnet, ..PoolWish::default() }], &avoid) {
            Err(error) if error.kind() == Kind::Conflict && self.path(DEFAULT).exists() => Ok(()),
            result => result.map(drop),
        }
    }
}

fn make_pool(wish: &PoolWish, name: &str, taken: &[(Subnet, &str)], avoid: &[Subnet]) -> Result<Pool> {
    let subnet = match wish.subnet {
        Some(subnet) => subnet,
        None if wish.ipv6 => random_ipv6()?,
        None => free_ipv4(taken, avoid)
            .ok_or_else(|| Error::conflict("could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network").hint("give a --subnet"))?,
    };
    if let Some((other, owner)) = taken.iter().find(|(other, _)| other.overlaps(subnet)) {
        return Err(Error::conflict(format!(
            "invalid pool request: Pool overlaps with other one on this address space: {subnet} and {other} of \
             network {owner}"
        )));
    }
    if !subnet.is_for_hosts() {
        return Err(Error::invalid(format!("invalid subnet {subnet}: no host can have an address of it"))
            .hint("private networks are in 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 and fd00::/8"));
    }
    if let Some(way_out) = ways_out().find(|way_out| way_out.overlaps(subnet)) {
        return Err(Error::invalid(format!("invalid subnet {subnet}: the way out of networks is {way_out}"))
            .hint("choose another --subnet, or none: a free one is found"));
    }
    let (least, room) = if subnet.is_ipv6() { (1, 126) } else { (1, 30) };
    if subnet.prefix() < least || subnet.prefix() > room {
        return Err(Error::invalid(format!(
            "invalid subnet {subnet} of network {name}: no room for a gateway and a container"
        )));
    }
    let gateway = wish.gateway.or_else(|| subnet.nth(1)).filter(|gateway| subnet.contains(*gateway));
    let gateway = gateway.ok_or_else(|| {
        let given = wish.gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
        Error::invalid(format!("no matching subnet for gateway {given}"))
    })?;
    if gateway == subnet.base() || (!subnet.is_ipv6() && gateway == subnet.last()) {
        return Err(Error::invalid(format!(
            "failed to allocate gateway ({gateway}): Address already in use: it stands for all of {subnet}"
        )));
    }
    if let Some(range) =
        wish.range.filter(|range| !(subnet.contains(range.first) && subnet.contains(range.last)))
    {
        return Err(Error::invalid(format!("no matching subnet for range {range}")));
    }
    Ok(Pool { subnet, gateway, range: wish.range })
}

/// A gateway would be asked from the host's network, where nobody has that address.
fn check_resolvers(network: &Network) -> Result<()> {
    let own = network.dns_servers.iter().find(|dns| network.pools.iter().any(|pool| pool.gateway == **dns));
    own.map_or(Ok(()), |own| {
        Err(Error::invalid(format!("--dns {own} is the gateway of the network itself"))
            .hint("containers ask it anyway; --dns says whom it asks for the names of others"))
    })
}

/// What is said of single addresses fits the subnets.
fn check_addresses(network: &Network) -> Result<()> {
    for (name, address) in &network.reserved {
        let pool = network.pool_of(*address).ok_or_else(|| {
            Error::invalid(format!("no matching subnet for aux-address {address} ({name})"))
        })?;
        let twice = network.reserved.iter().any(|(other, taken)| other != name && taken == address);
        if !pool.can_give(*address) || twice {
            return Err(Error::invalid(format!(
                "failed to allocate secondary ip address ({name}:{address}): Address already in use"
            )));
        }
    }
    network.routes.iter().try_for_each(|route| route.check(&network.pools))
}

/// What stands between networks and the host: ours, and slirp4netns's, which
/// cannot be chosen.
fn ways_out() -> impl Iterator<Item = Subnet> {
    let Cidr { base, prefix } = Cidr::OF_NETWORKS;
    let six = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0);
    [Subnet::new(base.into(), prefix), Subnet::new(six.into(), 64)].into_iter().flatten()
}

/// Podman's: 10.89.0.0/24 and those after it.
fn free_ipv4(taken: &[(Subnet, &str)], avoid: &[Subnet]) -> Option<Subnet> {
    let all =
        (89..=255u8).flat_map(|second| (0..=255u8).map(move |third| Ipv4Addr::new(10, second, third, 0)));
    all.filter_map(|base| Subnet::new(base.into(), 24)).find(|subnet| {
        taken.iter().all(|(other, _)| !other.overlaps(*subnet))
            && avoid.iter().all(|other| !other.overlaps(*subnet))
    })
}

/// A unique local prefix: RFC 4193.
fn random_ipv6() -> Result<Subnet> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes[1..6], rustix::rand::GetRandomFlags::empty())
        .context(|| "draw a prefix")?;
    bytes[0] = 0xfd;
    Subnet::new(IpAddr::from(bytes), 64).ok_or_else(|| Error::failed("draw a prefix"))
}

/// A network of that name with an id, and with nothing yet that a flag says.
pub(crate) fn blank(name: &str) -> Result<Network> {
    Ok(Network {
        version: 1,
        id: new_id()?,
        name: name.to_owned(),
        created: Timestamp::now(),
        dns: true,
        ..Network::default()
    })
}

/// 64 hexadecimal digits.
fn new_id() -> Result<String> {
    let mut bytes = [0; 32];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())
        .context(|| "draw an id")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str) -> Network {
        blank(name).expect("an id")
    }

    fn wish(subnet: &str) -> PoolWish {
        PoolWish { subnet: Some(Subnet::parse(subnet).expect("a subnet")), ..PoolWish::default() }
    }

    fn id(digit: char) -> ContainerId {
        ContainerId::parse(&digit.to_string().repeat(64)).expect("an id")
    }

    #[test]
    fn subnets_are_chosen_around_what_is_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let networks = Networks::new(&Dirs::beneath(dir.path()));
        let any = [PoolWish::default()];
        let avoid = [Subnet::parse("10.89.0.0/23").expect("a subnet")];
        let first = networks.create(network("a"), &any, &avoid).expect("made");
        assert_eq!(first.pools[0].subnet.to_string(), "10.89.2.0/24");
        assert_eq!(first.pools[0].gateway.to_string(), "10.89.2.1");
        let second = networks.create(network("b"), &any, &avoid).expect("made");
        assert_eq!(second.pools[0].subnet.to_string(), "10.89.3.0/24");
        let conflict = |name: &str, wish: PoolWish| {
            networks.create(network(name), &[wish], &[]).expect_err("refused").kind()
        };
        assert_eq!(conflict("a", PoolWish::default()), Kind::Conflict);
        assert_eq!(conflict("c", wish("10.89.0.0/16")), Kind::Conflict);
        for (name, wish) in [
            ("c", wish("10.1.0.0/31")),
            ("c", PoolWish { gateway: Some("10.2.0.1".parse().expect("ip")), ..wish("10.1.0.0/24") }),
            ("c", PoolWish { gateway: Some("10.1.0.255".parse().expect("ip")), ..wish("10.1.0.0/24") }),
            ("c", PoolWish { gateway: Some("10.1.0.0".parse().expect("ip")), ..wish("10.1.0.0/24") }),
            ("c", wish("127.0.0.0/24")),
            ("c", wish("198.19.0.0/16")),
            ("c", wish("fd00::/64")),
            ("c", PoolWish { range: Range::parse("10.0.0.0/8"), ..wish("10.1.0.0/24") }),
            ("host", any[0]),
            ("../x", any[0]),
            (".x", any[0]),
        ] {
            assert_eq!(conflict(name, wish), Kind::Invalid, "{name} {wish:?}");
        }
        networks.ensure_default(Vec::new).expect("made");
        assert_eq!(networks.find("podman").expect("there").pools[0].subnet.to_string(), "10.88.0.0/16");
        assert_eq!(networks.find(&first.id[..10]).expect("by id").name, "a");
        networks.remove("a").expect("removed");
        assert_eq!(networks.find("a").expect_err("gone").kind(), Kind::NotFound);
    }

    #[test]
    fn addresses_are_kept_and_those_of_removed_containers_given_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let dirs = Dirs::beneath(dir.path());
        let networks = Networks::new(&dirs);
        let pool = wish("10.5.0.0/29");
        let made = networks.create(network("a"), &[pool], &[]).expect("made");
        let lease = |id: &ContainerId, ip: Option<&str>| {
            let attachment = Attachment { ip: ip.map(|ip| ip.parse().expect("ip")), ..Attachment::default() };
            networks.lease(&made, id, &attachment, "eth0").map(|endpoint| endpoint.addresses[0].to_string())
        };
        for digit in ['a', 'b', 'c', 'd', 'e'] {
            create_private(&dirs.container(&id(digit))).expect("a container");
        }
        assert_eq!(lease(&id('a'), None).expect("first"), "10.5.0.2");
        assert_eq!(lease(&id('b'), Some("10.5.0.4")).expect("asked"), "10.5.0.4");
        assert_eq!(lease(&id('a'), None).expect("again"), "10.5.0.2");
        assert_eq!(lease(&id('c'), Some("10.5.0.4")).expect_err("taken").kind(), Kind::Conflict);
        assert_eq!(lease(&id('c'), Some("10.5.0.1")).expect_err("gateway").kind(), Kind::Conflict);
        assert_eq!(lease(&id('c'), Some("10.6.0.4")).expect_err("outside").kind(), Kind::Invalid);
        for (digit, address) in [('c', "10.5.0.3"), ('d', "10.5.0.5"), ('e', "10.5.0.6")] {
            assert_eq!(lease(&id(digit), None).expect("free"), address);
        }
        assert_eq!(lease(&id('f'), None).expect_err("full").kind(), Kind::Conflict);
        std::fs::remove_dir_all(dirs.container(&id('d'))).expect("removed");
        assert_eq!(lease(&id('f'), None).expect("left over"), "10.5.0.5");
        networks.release("a", &id('a'));
        assert_eq!(lease(&id('1'), None).expect("given back"), "10.5.0.2");
    }

    #[test]
    fn a_damaged_network_is_no_other_s_matter() {
        let dir = tempfile::tempdir().expect("a directory");
        let networks = Networks::new(&Dirs::beneath(dir.path()));
        networks.ensure_default(Vec::new).expect("made");
        for name in ["good", "bad", "gone"] {
            networks.create(network(name), &[PoolWish::default()], &[]).expect("made");
        }
        let file = |name: &str| networks.path(name).join("network.json");
        std::fs::write(file("bad"), "").expect("emptied");
        std::fs::remove_file(file("gone")).expect("removed");
        let all = networks.all().expect("listed");
        assert_eq!((all.whole.len(), all.damaged.len()), (2, 2));
        assert_eq!(networks.find("good").expect("there").name, "good");
        let error = networks.find("bad").expect_err("damaged");
        assert!(error.kind() == Kind::Invalid && error.to_string().contains("network.json"), "{error}");
        assert!(error.hints()[0].contains("network rm -f bad"), "{error}");
        networks.create(network("other"), &[PoolWish::default()], &[]).expect("made");
        networks.create(network("bad"), &[PoolWish::default()], &[]).expect("made anew");
        networks.remove("gone").expect("removed");
        assert!(networks.all().expect("listed").damaged.is_empty());
        std::fs::write(file(DEFAULT), "\0").expect("damaged");
        networks.ensure_default(Vec::new).expect("made anew");
        assert_eq!(networks.find(DEFAULT).expect("there").name, DEFAULT);
    }

    #[test]
    fn leases_of_those_that_are_gone_do_not_pile_up() {
        let dir = tempfile::tempdir().expect("a directory");
        let dirs = Dirs::beneath(dir.path());
        let networks = Networks::new(&dirs);
        let made = networks.create(network("a"), &[wish("10.5.0.0/16")], &[]).expect("made");
        let lease = |id: &ContainerId| {
            let endpoint = networks.lease(&made, id, &Attachment::default(), "eth0").expect("an address");
            endpoint.addresses[0].to_string()
        };
        create_private(&dirs.container(&id('a'))).expect("a container");
        assert_eq!(lease(&id('a')), "10.5.0.2");
        let mut last = String::new();
        for number in 0..100 {
            let next = lease(&ContainerId::parse(&format!("{number:064x}")).expect("an id"));
            assert_ne!(next, last, "it was another's a moment ago");
            last = next;
            let kept = std::fs::read_dir(networks.path("a").join("leases")).expect("there").count();
            assert!(kept <= MOST_LEFT + 2, "{kept} after {number}");
        }
        assert_eq!(lease(&id('a')), "10.5.0.2");
    }
}
