//! The texts of a container's `/etc/resolv.conf`, `/etc/hosts` and
//! `/etc/hostname`, from the host's files and the flags. Pure.

use super::uplink::{Addresses, NamesOf};
use crate::error::{Error, Result};
use std::net::IpAddr;

/// Resolvers that glibc asks (`MAXNS` of resolv.conf(5)) are three; more are
/// kept, as musl and others may read them, but not without end.
const MAX_NAMESERVERS: usize = 16;

/// Entries of the host's `/etc/hosts` that are taken over.
const MAX_HOST_ENTRIES: usize = 1000;

/// How the container reaches the world, as far as names go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way<'a> {
    /// Its own namespace behind an uplink.
    Uplink(&'a Addresses),
    /// The host's network namespace: what holds for the host holds here.
    Host,
    /// Loopback alone, or a namespace made by someone else.
    None,
}

/// What `/etc/resolv.conf` is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResolvRequest<'a> {
    /// The host's `/etc/resolv.conf`; empty where there is none.
    pub(crate) host: &'a str,
    /// `/run/systemd/resolve/resolv.conf`: the real resolvers behind systemd's
    /// stub at 127.0.0.53.
    pub(crate) systemd: Option<&'a str>,
    /// `--dns`, `--dns-search`, `--dns-option`; empty where not given.
    pub(crate) dns: &'a [String],
    pub(crate) search: &'a [String],
    pub(crate) options: &'a [String],
    pub(crate) way: Way<'a>,
}

/// The text; `None` for `--dns none`, which leaves the image's file alone.
///
/// # Errors
/// `Invalid` where a flag's value is no address, domain or option.
pub(crate) fn resolv_conf(request: &ResolvRequest<'_>) -> Result<Option<String>> {
    if request.dns.iter().any(|value| value == "none") {
        let other = request.dns.len() > 1 || !request.search.is_empty() || !request.options.is_empty();
        return if other {
            Err(Error::invalid(
                "--dns none cannot be used together with other --dns, --dns-search, --dns-option",
            ))
        } else {
            Ok(None)
        };
    }
    let host = Resolv::parse(request.host);
    let nameservers = if request.dns.is_empty() { nameservers(request, &host) } else { given(request.dns)? };
    let search = match request.search {
        [] => host.search,
        [only] if only == "." || only.is_empty() => Vec::new(),
        domains => checked("--dns-search", domains)?,
    };
    let mut options = match request.options {
        [] => host.options,
        options => checked("--dns-option", options)?,
    };
    // A container's name is no host of the domain in which the host searches: as
    // it is it is asked for first, as docker does.
    let of_networks = matches!(request.way, Way::Uplink(addresses) if addresses.names != NamesOf::World);
    if of_networks && !options.iter().any(|option| option.starts_with("ndots:")) {
        options.push("ndots:0".to_owned());
    }
    let mut text = String::new();
    if !search.is_empty() {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    text.extend(nameservers.iter().map(|address| format!("nameserver {address}\n")));
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    Ok(Some(text))
}

/// The host's, as far as the container can reach them.
fn nameservers(request: &ResolvRequest<'_>, host: &Resolv) -> Vec<String> {
    let reachable = |address: &&String| !is_local(address);
    let behind_stub = || request.systemd.map(|text| Resolv::parse(text).nameservers).unwrap_or_default();
    let stub_alone = !host.nameservers.is_empty() && host.nameservers.iter().all(|address| is_local(address));
    let real = if stub_alone { behind_stub() } else { host.nameservers.clone() };
    match request.way {
        Way::Host => host.nameservers.clone(),
        Way::Uplink(addresses) => {
            let mut all: Vec<String> = addresses.dns.iter().map(IpAddr::to_string).collect();
            all.extend(real.iter().filter(reachable).cloned());
            all
        }
        Way::None => real.iter().filter(reachable).cloned().collect(),
    }
}

/// Loopback, or an IPv6 address with a zone: another network namespace has
/// neither that device nor those numbers.
fn is_local(address: &str) -> bool {
    address.parse::<IpAddr>().map_or(true, |address| address.is_loopback() || address.is_unspecified())
}

fn given(values: &[String]) -> Result<Vec<String>> {
    let addresses = values.iter().map(|value| {
        value.parse::<IpAddr>().map(|address| address.to_string()).map_err(|_| {
            Error::invalid(format!("--dns {value:?} is not an IP address")).hint("for example --dns 9.9.9.9")
        })
    });
    addresses.collect()
}

/// Words that fit on one line of a file.
fn checked(flag: &str, values: &[String]) -> Result<Vec<String>> {
    for value in values {
        if value.is_empty() || value.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(Error::invalid(format!("{flag} {value:?}: empty, or with blanks in it")));
        }
    }
    Ok(values.to_vec())
}

/// resolv.conf(5), what is used of it. The last `search` or `domain` counts.
#[derive(Default)]
struct Resolv {
    nameservers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
}

impl Resolv {
    fn parse(text: &str) -> Self {
        let mut parsed = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next().unwrap_or_default();
            let mut rest = words.map(str::to_owned);
            match keyword {
                "nameserver" if parsed.nameservers.len() < MAX_NAMESERVERS => {
                    parsed.nameservers.extend(rest.next());
                }
                "search" => parsed.search = rest.collect(),
                "domain" => parsed.search = rest.take(1).collect(),
                "options" => parsed.options.extend(rest),
                _ => {}
            }
        }
        parsed
    }
}

/// What `/etc/hosts` is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostsRequest<'a> {
    /// The host's `/etc/hosts`; its entries are taken over, as podman does.
    pub(crate) host: &'a str,
    pub(crate) hostname: &'a str,
    /// `--domainname`.
    pub(crate) domain: Option<&'a str>,
    /// The container's name, by which it is known too.
    pub(crate) name: &'a str,
    /// `--add-host`: name and address, or `host-gateway`.
    pub(crate) add: &'a [(String, String)],
    pub(crate) way: Way<'a>,
}

/// The text of `/etc/hosts`. Names of the container and of `--add-host` win over
/// entries of the host.
///
/// # Errors
/// `Invalid` where `--add-host` has no address or no name.
pub(crate) fn hosts(request: &HostsRequest<'_>) -> Result<String> {
    let mut entries: Vec<(String, Vec<String>)> = Vec::new();
    for (name, address) in request.add {
        let [name] = &checked("--add-host", std::slice::from_ref(name))?[..] else { continue };
        entries.push((added_address(request, name, address)?, vec![name.clone()]));
    }
    entries.push(("127.0.0.1".into(), vec!["localhost".into()]));
    entries.push(("::1".into(), ["localhost", "ip6-localhost", "ip6-loopback"].map(str::to_owned).into()));
    let own = own_names(request.hostname, request.domain, request.name);
    let own_addresses = match request.way {
        Way::Uplink(addresses) => addresses.guests.iter().map(IpAddr::to_string).collect(),
        Way::None => vec!["127.0.0.1".to_owned()],
        // The host's own file names the host.
        Way::Host => Vec::new(),
    };
    entries.extend(own_addresses.into_iter().map(|address| (address, own.clone())));
    if let Some(address) = host_address(request.way) {
        let names = ["host.containers.internal", "host.docker.internal"].map(str::to_owned);
        let added = |name: &String| request.add.iter().any(|(given, _)| given == name);
        let names: Vec<String> = names.into_iter().filter(|name| !added(name)).collect();
        entries.push((address.to_string(), names));
    }
    let taken: Vec<String> = entries.iter().flat_map(|(_, names)| names.clone()).collect();
    entries.extend(entries_of_host(request, &taken));
    let lines = entries.iter().filter(|(_, names)| !names.is_empty());
    Ok(lines.map(|(address, names)| format!("{address}\t{}\n", names.join(" "))).collect())
}

/// What the container calls itself, the whole name first: that is what
/// `hostname -f` shows, and docker writes.
pub(crate) fn own_names(hostname: &str, domain: Option<&str>, name: &str) -> Vec<String> {
    let whole = match domain {
        Some(domain) => format!("{hostname}.{domain}"),
        None => hostname.to_owned(),
    };
    let short = whole.split('.').next().unwrap_or_default().to_owned();
    let mut own: Vec<String> = Vec::new();
    for name in [whole, short, hostname.to_owned(), name.to_owned()] {
        if !name.is_empty() && !own.contains(&name) {
            own.push(name);
        }
    }
    own
}

/// The text of `/etc/hosts` when a container's addresses are others: the lines of
/// those that are gone go, whoever has changed their names, and those of the new
/// ones come last, as with docker.
pub(crate) fn moved_hosts(text: &str, own: &str, gone: &[IpAddr], come: &[IpAddr]) -> String {
    let address = |line: &str| line.split_ascii_whitespace().next()?.parse::<IpAddr>().ok();
    let stays = |line: &&str| address(line).is_none_or(|address| !gone.contains(&address));
    let mut moved: String = text.split_inclusive('\n').filter(stays).collect();
    if !moved.is_empty() && !moved.ends_with('\n') {
        moved.push('\n');
    }
    for new in come.iter().filter(|new| !text.lines().any(|line| address(line) == Some(**new))) {
        moved.push_str(&format!("{new}\t{own}\n"));
    }
    moved
}

/// Where the host itself is reached (`host.containers.internal`,
/// `host-gateway`), if it is.
fn host_address(way: Way<'_>) -> Option<IpAddr> {
    match way {
        Way::Uplink(addresses) => addresses.host,
        Way::Host => Some(std::net::Ipv4Addr::LOCALHOST.into()),
        Way::None => None,
    }
}

fn added_address(request: &HostsRequest<'_>, name: &str, address: &str) -> Result<String> {
    if address == "host-gateway" {
        let missing = || Error::invalid(format!("--add-host {name}:host-gateway: the host is not reachable"));
        return host_address(request.way).map(|address| address.to_string()).ok_or_else(missing);
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let parsed = bare.parse::<IpAddr>();
    parsed.map(|address| address.to_string()).map_err(|_| {
        Error::invalid(format!("--add-host {name}:{address}: not an IP address"))
            .hint("the form is --add-host NAME:ADDRESS, or NAME:host-gateway")
    })
}

/// Entries that mean something elsewhere too: no loopback ones (except on the
/// host's own network), and no name that is taken.
fn entries_of_host(request: &HostsRequest<'_>, taken: &[String]) -> Vec<(String, Vec<String>)> {
    let entries = request.host.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let address = words.next()?;
        if is_local(address) && request.way != Way::Host {
            return None;
        }
        address.parse::<IpAddr>().ok()?;
        let names: Vec<String> =
            words.filter(|name| !taken.iter().any(|t| t == name)).map(str::to_owned).collect();
        (!names.is_empty()).then(|| (address.to_owned(), names))
    });
    entries.take(MAX_HOST_ENTRIES).collect()
}

/// The text of `/etc/hostname`.
pub(crate) fn hostname_file(hostname: &str) -> String {
    format!("{hostname}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::sync::LazyLock;

    static ADDRESSES: LazyLock<Addresses> = LazyLock::new(|| Addresses {
        guests: vec![Ipv4Addr::new(10, 0, 2, 100).into()],
        dns: vec![Ipv4Addr::new(10, 0, 2, 3).into()],
        host: Some(Ipv4Addr::new(10, 0, 2, 2).into()),
        names: NamesOf::World,
    });

    fn slirp() -> Way<'static> {
        Way::Uplink(&ADDRESSES)
    }

    fn request<'a>(host: &'a str, way: Way<'a>) -> ResolvRequest<'a> {
        ResolvRequest { host, systemd: None, dns: &[], search: &[], options: &[], way }
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    const STUB: &str = "# systemd\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n";
    const PLAIN: &str =
        "domain old\nsearch example.org lan ; remark\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\n";

    #[test]
    fn resolvers_by_way() {
        let upstream = Some("nameserver 192.0.2.9\nnameserver 127.0.0.1\n");
        let cases = [
            (STUB, None, slirp(), "search lan\nnameserver 10.0.2.3\noptions edns0 trust-ad\n"),
            (
                STUB,
                upstream,
                slirp(),
                "search lan\nnameserver 10.0.2.3\nnameserver 192.0.2.9\noptions edns0 trust-ad\n",
            ),
            (STUB, upstream, Way::None, "search lan\nnameserver 192.0.2.9\noptions edns0 trust-ad\n"),
            (STUB, upstream, Way::Host, "search lan\nnameserver 127.0.0.53\noptions edns0 trust-ad\n"),
            (PLAIN, upstream, slirp(), "search example.org lan\nnameserver 10.0.2.3\nnameserver 192.0.2.1\n"),
            (PLAIN, None, Way::None, "search example.org lan\nnameserver 192.0.2.1\n"),
            ("", None, Way::None, ""),
            ("", None, slirp(), "nameserver 10.0.2.3\n"),
        ];
        for (host, systemd, way, expected) in cases {
            let request = ResolvRequest { systemd, ..request(host, way) };
            assert_eq!(resolv_conf(&request).expect("valid").as_deref(), Some(expected), "{host:?} {way:?}");
        }
    }

    #[test]
    fn on_networks_a_name_is_asked_for_as_it_is_first() {
        let of_networks = Addresses { names: NamesOf::Networks, ..ADDRESSES.clone() };
        let way = Way::Uplink(&of_networks);
        let text = |host: &str, options: &[String]| {
            resolv_conf(&ResolvRequest { options, ..request(host, way) }).expect("valid").expect("a text")
        };
        assert!(text(STUB, &[]).ends_with("options edns0 trust-ad ndots:0\n"));
        assert!(text("", &[]).ends_with("options ndots:0\n"));
        // Whoever has said it is not overruled.
        assert!(text("options ndots:2\n", &[]).ends_with("options ndots:2\n"));
        assert!(text(STUB, &words(&["ndots:5"])).ends_with("options ndots:5\n"));
        assert!(text(STUB, &words(&["rotate"])).ends_with("options rotate ndots:0\n"));
    }

    #[test]
    fn flags_win() {
        let (dns, search, options) =
            (words(&["9.9.9.9", "2620:FE::fe"]), words(&["a.b", "c"]), words(&["ndots:1"]));
        let all = ResolvRequest { dns: &dns, search: &search, options: &options, ..request(STUB, slirp()) };
        let expected = "search a.b c\nnameserver 9.9.9.9\nnameserver 2620:fe::fe\noptions ndots:1\n";
        assert_eq!(resolv_conf(&all).expect("valid").as_deref(), Some(expected));
        let none = words(&["none"]);
        assert_eq!(
            resolv_conf(&ResolvRequest { dns: &none, ..request(STUB, slirp()) }).expect("valid"),
            None
        );
        let dot = words(&["."]);
        let text =
            resolv_conf(&ResolvRequest { search: &dot, ..request("search x\n", slirp()) }).expect("valid");
        assert_eq!(text.as_deref(), Some("nameserver 10.0.2.3\n"));
    }

    #[test]
    fn a_flag_cannot_write_a_line_of_its_own() {
        for bad in ["localhost", "1.2.3", "9.9.9.9\nnameserver 1.1.1.1", "", "fe80::1%eth0"] {
            let dns = words(&[bad]);
            assert!(resolv_conf(&ResolvRequest { dns: &dns, ..request("", slirp()) }).is_err(), "{bad:?}");
        }
        for bad in ["a b", "a\nnameserver 1.1.1.1", "", "a\tb", "a\0b"] {
            let list = words(&["ok", bad]);
            assert!(
                resolv_conf(&ResolvRequest { search: &list, ..request("", slirp()) }).is_err(),
                "{bad:?}"
            );
            assert!(
                resolv_conf(&ResolvRequest { options: &list, ..request("", slirp()) }).is_err(),
                "{bad:?}"
            );
        }
        let both = words(&["none", "9.9.9.9"]);
        assert!(resolv_conf(&ResolvRequest { dns: &both, ..request("", slirp()) }).is_err());
    }

    fn hosts_of(way: Way<'_>, add: &[(&str, &str)]) -> Result<String> {
        let add: Vec<_> = add.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        hosts(&HostsRequest {
            host: "127.0.0.1 localhost\n127.0.1.1 laptop\n192.0.2.5 db web # remark\nbroken line\n",
            hostname: "web",
            domain: None,
            name: "frontend",
            add: &add,
            way,
        })
    }

    #[test]
    fn the_whole_name_is_the_first_of_each_address() {
        let two = Addresses {
            guests: vec![Ipv4Addr::new(10, 0, 2, 100).into(), "fd00::5".parse().expect("v6")],
            ..ADDRESSES.clone()
        };
        let names = |hostname: &str, domain: Option<&str>, way| {
            let request = HostsRequest { host: "", hostname, domain, name: "c", add: &[], way };
            let text = hosts(&request).expect("valid");
            let own = text.lines().filter(|line| line.starts_with("10.0.2.100") || line.starts_with("fd00"));
            own.map(str::to_owned).collect::<Vec<_>>()
        };
        let way = Way::Uplink(&two);
        let both = |names: &str| ["10.0.2.100", "fd00::5"].map(|address| format!("{address}\t{names}"));
        assert_eq!(names("web", Some("lan.example"), way), both("web.lan.example web c"));
        assert_eq!(names("web.lan.example", None, way), both("web.lan.example web c"));
        assert_eq!(names("a.b", Some("example"), way), both("a.b.example a a.b c"));
        assert_eq!(names("c", None, way), both("c"));
    }

    #[test]
    fn hosts_by_way() {
        let localhost = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
        let host = "10.0.2.2\thost.containers.internal host.docker.internal\n192.0.2.5\tdb\n";
        let text = hosts_of(slirp(), &[]).expect("valid");
        assert_eq!(text, format!("{localhost}10.0.2.100\tweb frontend\n{host}"));
        let text = hosts_of(Way::None, &[]).expect("valid");
        assert_eq!(text, format!("{localhost}127.0.0.1\tweb frontend\n192.0.2.5\tdb\n"));
        let text = hosts_of(Way::Host, &[]).expect("valid");
        assert!(text.contains("127.0.1.1\tlaptop\n") && text.contains("192.0.2.5\tdb web\n"), "{text}");
    }

    #[test]
    fn lines_of_addresses_come_and_go() {
        let all = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().expect("an address")).collect()
        };
        let text = "127.0.0.1\tlocalhost\n10.1.0.2 web c # mine\n# 10.1.0.2\nfd00:0::2 web\n10.9.9.9 db";
        let moved = moved_hosts(text, "web c", &all(&["10.1.0.2", "fd00::2"]), &all(&["10.2.0.2"]));
        assert_eq!(moved, "127.0.0.1\tlocalhost\n# 10.1.0.2\n10.9.9.9 db\n10.2.0.2\tweb c\n");
        assert_eq!(moved_hosts(&moved, "web c", &[], &all(&["10.2.0.2"])), moved, "it is there already");
        assert_eq!(moved_hosts("", "c", &[], &all(&["::9"])), "::9\tc\n");
    }

    #[test]
    fn added_hosts_come_first_and_are_checked() {
        let add = [("db", "192.0.2.77"), ("gate", "host-gateway"), ("six", "[2001:DB8::1]")];
        let text = hosts_of(slirp(), &add).expect("valid");
        assert!(text.starts_with("192.0.2.77\tdb\n10.0.2.2\tgate\n2001:db8::1\tsix\n127.0.0.1\t"), "{text}");
        assert!(!text.contains("192.0.2.5"), "{text}");
        for bad in [("a", "b"), ("", "1.2.3.4"), ("a b", "1.2.3.4"), ("a\n1.1.1.1 b", "1.2.3.4"), ("a", "")] {
            assert!(hosts_of(slirp(), &[bad]).is_err(), "{bad:?}");
        }
    }
}
