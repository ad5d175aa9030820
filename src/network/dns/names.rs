//! Which container is called what, where. A container sees the names of the
//! networks that it is on, and of no others.

use super::message::{Code, Query, Record, TYPE_A, TYPE_AAAA, TYPE_PTR};
use crate::types::network::{Endpoint, Network};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Podman's domain of all its networks.
const DOMAIN: &str = ".dns.podman";

/// A container, as far as its neighbours know it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) name: String,
    /// By which it is known on all its networks.
    pub(crate) names: Vec<String>,
    /// `--dns`: who is asked for other names.
    pub(crate) dns: Vec<IpAddr>,
    /// `--link`: the names of others, and what they are called here.
    pub(crate) links: Vec<(String, String)>,
    pub(crate) endpoints: Vec<Endpoint>,
    /// It has a way out that is no network's.
    #[serde(default)]
    pub(crate) own_way_out: bool,
}

/// What the server knows.
#[derive(Debug, Default)]
pub(crate) struct Names {
    members: BTreeMap<u64, Member>,
    networks: BTreeMap<String, Network>,
}

/// What is to be done with a query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Answer(Code, Vec<Record>),
    /// To ask these, or the host's resolvers where there are none.
    Forward(Vec<IpAddr>),
}

impl Names {
    /// The definition of a network: the latest that anybody knows.
    pub(crate) fn set_network(&mut self, network: &Network) {
        let known = self.networks.get(&network.name);
        if known.is_none_or(|known| known.id != network.id || known.revision < network.revision) {
            self.networks.insert(network.name.clone(), network.clone());
        }
    }

    /// The member of a connection, in the place of what it was.
    pub(crate) fn set(&mut self, key: u64, member: Member) {
        self.members.insert(key, member);
    }

    pub(crate) fn remove(&mut self, key: u64) {
        self.members.remove(&key);
    }

    /// What is to be done with a query that came to the gateway of `network`
    /// from this address.
    pub(crate) fn decide(&self, network: &str, source: IpAddr, query: &Query) -> Verdict {
        let asker = self.members.values().find(|member| {
            member.endpoints.iter().any(|e| e.network == network && e.addresses.contains(&source))
        });
        // Whoever is not known is on this network at least: the query came by it.
        let visible: BTreeSet<&str> = match asker {
            Some(member) => member.endpoints.iter().map(|endpoint| endpoint.network.as_str()).collect(),
            None => BTreeSet::from([network]),
        };
        if query.is_internet() {
            if let Some(verdict) = self.own(&visible, asker, query) {
                return verdict;
            }
        }
        let outside = |name: &&str| self.networks.get(*name).is_some_and(|network| !network.internal);
        if !outside(&network) {
            // No name leaves an internal network (CVE-2024-29018), whoever is said
            // to ask: an address can be made up. Who has another way out is to ask
            // there.
            let elsewhere = asker.is_some_and(|member| member.own_way_out) || visible.iter().any(outside);
            let code = if elsewhere { Code::Refused } else { Code::NoSuchName };
            return Verdict::Answer(code, Vec::new());
        }
        let given = asker.map(|member| member.dns.clone()).unwrap_or_default();
        let of_networks = || {
            let all = visible.iter().filter_map(|name| self.networks.get(*name));
            all.flat_map(|network| network.dns_servers.clone()).collect()
        };
        Verdict::Forward(if given.is_empty() { of_networks() } else { given })
    }

    fn own(&self, visible: &BTreeSet<&str>, asker: Option<&Member>, query: &Query) -> Option<Verdict> {
        if query.kind == TYPE_PTR || query.reverse().is_some() {
            return self.reverse(visible, query);
        }
        // What has a name on one network alone is looked for there.
        let places = asker.into_iter().flat_map(|member| &member.endpoints);
        let here = places.flat_map(|endpoint| endpoint.links.iter().map(move |link| (endpoint, link)));
        for (endpoint, (target, _)) in
            here.filter(|(_, (_, called))| called.eq_ignore_ascii_case(&query.name))
        {
            let addresses = self.addresses(&BTreeSet::from([endpoint.network.as_str()]), target);
            if let Some(addresses) = addresses {
                return Some(answer(&addresses, query));
            }
        }
        let links = asker.into_iter().flat_map(|member| &member.links);
        let linked = links.into_iter().find(|(_, called)| called.eq_ignore_ascii_case(&query.name));
        let wanted = linked.map_or(query.name.as_str(), |(target, _)| target.as_str());
        // As it is; then podman's `NAME.dns.podman`, and docker's `NAME.NETWORK`.
        if let Some(addresses) = self.addresses(visible, wanted) {
            return Some(answer(&addresses, query));
        }
        if let Some(host) = wanted.strip_suffix(DOMAIN) {
            let addresses = self.addresses(visible, host);
            // Nobody outside has that domain.
            let nobody = Verdict::Answer(Code::NoSuchName, Vec::new());
            return Some(addresses.map_or(nobody, |addresses| answer(&addresses, query)));
        }
        let found = visible.iter().find_map(|network| {
            let host = host_of(wanted, network)?;
            self.addresses(&BTreeSet::from([*network]), host)
        });
        found.map(|addresses| answer(&addresses, query))
    }

    /// The addresses of all that are called so; `None` where nobody is.
    fn addresses(&self, visible: &BTreeSet<&str>, wanted: &str) -> Option<Vec<IpAddr>> {
        let is_called = |name: &String| name.eq_ignore_ascii_case(wanted);
        let mut found = None;
        for (member, endpoint) in self.seen(visible) {
            if is_called(&member.name)
                || member.names.iter().any(is_called)
                || endpoint.aliases.iter().any(is_called)
            {
                found.get_or_insert_with(Vec::new).extend(&endpoint.addresses);
            }
        }
        found
    }

    fn reverse(&self, visible: &BTreeSet<&str>, query: &Query) -> Option<Verdict> {
        let address = query.reverse()?;
        if let Some((member, endpoint)) = self.seen(visible).find(|(_, e)| e.addresses.contains(&address)) {
            // Its name first, which is what most clients take; then all that it is called there.
            let mut names: Vec<&String> = Vec::new();
            for name in [&member.name].into_iter().chain(&endpoint.aliases).chain(&member.names) {
                if query.wants(TYPE_PTR) && !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                    names.push(name);
                }
            }
            let records = names.into_iter().cloned().map(Record::Name).collect();
            return Some(Verdict::Answer(Code::NoError, records));
        }
        // Nobody outside knows the addresses of our networks.
        let ours = self.networks.values().flat_map(|network| &network.pools);
        let ours = ours.map(|pool| pool.subnet).any(|subnet| subnet.contains(address));
        ours.then_some(Verdict::Answer(Code::NoSuchName, Vec::new()))
    }

    fn seen<'a>(&'a self, visible: &'a BTreeSet<&str>) -> impl Iterator<Item = (&'a Member, &'a Endpoint)> {
        self.members
            .values()
            .flat_map(|member| member.endpoints.iter().map(move |endpoint| (member, endpoint)))
            .filter(|(_, endpoint)| {
                visible.contains(endpoint.network.as_str())
                    && self.networks.get(&endpoint.network).is_some_and(|network| network.dns)
            })
    }
}

/// What stands before the network's name as a domain.
fn host_of<'a>(name: &'a str, network: &str) -> Option<&'a str> {
    let (host, domain) = name.split_at_checked(name.len().checked_sub(network.len())?)?;
    host.strip_suffix('.').filter(|_| domain.eq_ignore_ascii_case(network))
}

/// Those of the kind that is asked for. A name without an address of this kind
/// exists all the same.
fn answer(addresses: &[IpAddr], query: &Query) -> Verdict {
    let wanted = |address: &&IpAddr| query.wants(if address.is_ipv4() { TYPE_A } else { TYPE_AAAA });
    let records = addresses.iter().filter(wanted).map(|address| Record::Address(*address)).collect();
    Verdict::Answer(Code::NoError, records)
}

#[cfg(test)]
mod tests {
    use super::super::message::question;
    use super::*;
    use crate::types::network::{Mac, Pool, Subnet};

    fn network(name: &str, subnet: &str, internal: bool) -> Network {
        let subnet = Subnet::parse(subnet).expect("a subnet");
        let gateway = subnet.nth(1).expect("an address");
        Network {
            version: 1,
            id: name.repeat(8),
            name: name.into(),
            created: jiff::Timestamp::UNIX_EPOCH,
            pools: vec![Pool { subnet, gateway, range: None }],
            internal,
            dns: true,
            ..Network::default()
        }
    }

    fn member(name: &str, on: &[(&str, &str, &[&str])]) -> Member {
        let endpoint = |(network, address, aliases): &(&str, &str, &[&str])| Endpoint {
            network: (*network).into(),
            network_id: String::new(),
            interface: "eth0".into(),
            mac: Mac([2; 6]),
            addresses: vec![address.parse().expect("an address")],
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            gw_priority: 0,
            links: Vec::new(),
            link_local: Vec::new(),
            sysctls: Vec::new(),
        };
        Member {
            id: name.into(),
            name: name.into(),
            names: vec![format!("{name}-id")],
            dns: Vec::new(),
            links: Vec::new(),
            endpoints: on.iter().map(endpoint).collect(),
            own_way_out: false,
        }
    }

    fn names() -> Names {
        let mut names = Names::default();
        names.set_network(&network("front", "10.1.0.0/24", false));
        names.set_network(&network("back", "10.2.0.0/24", true));
        names.set(1, member("web", &[("front", "10.1.0.2", &["www"]), ("back", "10.2.0.2", &[])]));
        names.set(2, member("db", &[("back", "10.2.0.3", &["service"])]));
        names.set(3, member("db2", &[("back", "10.2.0.4", &["service"])]));
        names.set(4, member("other", &[("front", "10.1.0.5", &[])]));
        names
    }

    fn ask(network: &str, source: &str, name: &str, kind: u16) -> Verdict {
        let query = Query::parse(&question(name, kind)).expect("a query");
        names().decide(network, source.parse().expect("an address"), &query)
    }

    fn addresses(verdict: Verdict) -> Vec<String> {
        let Verdict::Answer(Code::NoError, records) = verdict else { panic!("{verdict:?}") };
        records
            .into_iter()
            .map(|record| match record {
                Record::Address(address) => address.to_string(),
                Record::Name(name) => name,
            })
            .collect()
    }

    #[test]
    fn names_reach_the_networks_that_are_shared() {
        assert_eq!(addresses(ask("back", "10.2.0.3", "web", TYPE_A)), ["10.2.0.2"]);
        assert_eq!(addresses(ask("front", "10.1.0.5", "WWW", TYPE_A)), ["10.1.0.2"]);
        assert_eq!(addresses(ask("front", "10.1.0.2", "service", TYPE_A)), ["10.2.0.3", "10.2.0.4"]);
        assert_eq!(addresses(ask("back", "10.2.0.3", "web-id", TYPE_A)), ["10.2.0.2"]);
        assert_eq!(ask("front", "10.1.0.5", "db", TYPE_A), Verdict::Forward(Vec::new()));
        // An alias holds on its own network.
        assert_eq!(ask("back", "10.2.0.3", "www", TYPE_A), Verdict::Answer(Code::NoSuchName, Vec::new()));
    }

    #[test]
    fn a_name_may_have_its_network_s_or_podman_s_domain() {
        assert_eq!(addresses(ask("front", "10.1.0.2", "db.back", TYPE_A)), ["10.2.0.3"]);
        assert_eq!(addresses(ask("front", "10.1.0.2", "web.Front", TYPE_A)), ["10.1.0.2"]);
        assert_eq!(addresses(ask("front", "10.1.0.2", "web.back", TYPE_A)), ["10.2.0.2"]);
        assert_eq!(addresses(ask("back", "10.2.0.3", "web.dns.podman", TYPE_A)), ["10.2.0.2"]);
        // An alias has one network's; a network that is not shared is no domain.
        assert_eq!(ask("front", "10.1.0.2", "www.back", TYPE_A), Verdict::Forward(Vec::new()));
        assert_eq!(ask("front", "10.1.0.5", "db.back", TYPE_A), Verdict::Forward(Vec::new()));
        for name in ["db.dns.podman", "x.dns.podman", "dns.podman.dns.podman"] {
            let nobody = Verdict::Answer(Code::NoSuchName, Vec::new());
            assert_eq!(ask("front", "10.1.0.5", name, TYPE_A), nobody, "{name}");
        }
        for name in ["back", "xback", "b.xback"] {
            assert_eq!(ask("front", "10.1.0.2", name, TYPE_A), Verdict::Forward(Vec::new()), "{name}");
        }
    }

    #[test]
    fn a_name_without_such_an_address_is_no_missing_name() {
        assert!(addresses(ask("front", "10.1.0.5", "web", TYPE_AAAA)).is_empty());
        assert!(addresses(ask("front", "10.1.0.5", "web", 16)).is_empty());
    }

    #[test]
    fn nothing_leaves_an_internal_network() {
        for kind in [TYPE_A, TYPE_AAAA, 16, 15, TYPE_PTR, 255] {
            let verdict = ask("back", "10.2.0.3", "example.com", kind);
            assert_eq!(verdict, Verdict::Answer(Code::NoSuchName, Vec::new()), "{kind}");
        }
        // Not for a stranger on it either; who is elsewhere too asks there.
        assert_eq!(
            ask("back", "10.2.0.99", "example.com", TYPE_A),
            Verdict::Answer(Code::NoSuchName, Vec::new())
        );
        let refused = Verdict::Answer(Code::Refused, Vec::new());
        assert_eq!(ask("back", "10.2.0.2", "example.com", TYPE_A), refused);
        assert_eq!(ask("front", "10.1.0.2", "example.com", TYPE_A), Verdict::Forward(Vec::new()));
    }

    #[test]
    fn names_of_addresses() {
        let names = |network, from, asked| addresses(ask(network, from, asked, TYPE_PTR));
        assert_eq!(names("back", "10.2.0.3", "2.0.2.10.in-addr.arpa"), ["web", "web-id"]);
        assert_eq!(names("front", "10.1.0.5", "2.0.1.10.in-addr.arpa"), ["web", "www", "web-id"]);
        assert_eq!(names("front", "10.1.0.2", "4.0.2.10.in-addr.arpa"), ["db2", "service", "db2-id"]);
        // Of a network that is not shared, and of nobody: nobody outside is asked.
        for name in ["3.0.2.10.in-addr.arpa", "77.0.1.10.in-addr.arpa"] {
            let verdict = ask("front", "10.1.0.5", name, TYPE_PTR);
            assert_eq!(verdict, Verdict::Answer(Code::NoSuchName, Vec::new()), "{name}");
        }
        let outside = ask("front", "10.1.0.5", "1.2.0.192.in-addr.arpa", TYPE_PTR);
        assert_eq!(outside, Verdict::Forward(Vec::new()));
    }
}
