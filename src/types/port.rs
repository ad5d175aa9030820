//! `-p` and `-P`: which ports of the host lead to which of a container's.

mod parse;

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of a container: `80/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Port {
    pub(crate) number: u16,
    pub(crate) protocol: Protocol,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

/// Which port of the host is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum HostPort {
    /// One that is free.
    Any,
    Fixed(u16),
    /// One that is free, of these, both ends included.
    OneOf(u16, u16),
}

/// One port of a container's, as the user wants it published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Publish {
    /// All addresses of both families where `None`.
    pub(crate) address: Option<IpAddr>,
    pub(crate) host: HostPort,
    pub(crate) port: Port,
    /// By `-P`, not by `-p`.
    #[serde(default)]
    pub(crate) by_exposure: bool,
}

/// One socket of the host that leads to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Binding {
    pub(crate) port: Port,
    pub(crate) address: SocketAddr,
}

/// `port rm`, `update --publish-rm`: what is not to be published any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unpublish {
    pub(crate) address: Option<IpAddr>,
    pub(crate) host: u16,
    /// Any port of the container's where `None`.
    pub(crate) port: Option<u16>,
    pub(crate) protocol: Protocol,
}

impl Publish {
    fn takes(&self, binding: &Binding) -> bool {
        let number = binding.address.port();
        self.port == binding.port
            && self.address.is_none_or(|address| address == binding.address.ip())
            && match self.host {
                HostPort::Any => true,
                HostPort::Fixed(host) => host == number,
                HostPort::OneOf(first, last) => (first..=last).contains(&number),
            }
    }

    /// The host's port that this had among `bindings`.
    pub(crate) fn had(&self, bindings: &[Binding]) -> Option<u16> {
        bindings.iter().find(|binding| self.takes(binding)).map(|binding| binding.address.port())
    }

    fn shares_host_port_with(&self, other: &Self) -> bool {
        let same = matches!((self.host, other.host), (HostPort::Fixed(a), HostPort::Fixed(b)) if a == b);
        let overlap = match (self.address, other.address) {
            (Some(a), Some(b)) => {
                a == b || a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified())
            }
            (Some(_) | None, None) | (None, Some(_)) => true,
        };
        same && overlap && self.port.protocol == other.port.protocol
    }
}

impl fmt::Display for Publish {
    /// As the user would write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            None => {}
        }
        match self.host {
            HostPort::Any if self.address.is_some() => write!(f, ":")?,
            HostPort::Any => {}
            HostPort::Fixed(host) => write!(f, "{host}:")?,
            HostPort::OneOf(first, last) => write!(f, "{first}-{last}:")?,
        }
        write!(f, "{}", self.port)
    }
}

impl Unpublish {
    fn meets(&self, publish: &Publish, host: Option<u16>) -> bool {
        let host = match publish.host {
            HostPort::Fixed(host) => Some(host),
            HostPort::Any | HostPort::OneOf(..) => host,
        };
        host == Some(self.host)
            && self.protocol == publish.port.protocol
            && self.port.is_none_or(|port| port == publish.port.number)
            && self.address.is_none_or(|address| publish.address == Some(address))
    }

    /// Which of `published` is meant; `bindings` are those that hold now.
    ///
    /// # Errors
    /// `NotFound` where none is.
    pub(crate) fn find(&self, published: &[Publish], bindings: &[Binding]) -> Result<usize> {
        published.iter().position(|publish| self.meets(publish, publish.had(bindings))).ok_or_else(|| {
            let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
            Error::not_found(format!(
                "port {}{port}/{} of the host is not published",
                self.host, self.protocol
            ))
            .hint("`coracle port NAME` lists those that are")
        })
    }
}

/// Docker finds out when the second is bound; here nothing has been made yet.
///
/// # Errors
/// `Invalid` where two want the same port of the host.
pub(crate) fn check_duplicates(published: &[Publish]) -> Result<()> {
    for (index, publish) in published.iter().enumerate() {
        if let Some(other) = published[..index].iter().find(|other| other.shares_host_port_with(publish)) {
            let HostPort::Fixed(host) = publish.host else { continue };
            let address = publish.address.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
            return Err(Error::invalid(format!(
                "Bind for {} failed: port is already allocated",
                SocketAddr::new(address, host)
            ))
            .hint(format!("this container publishes it twice: as {other} and as {publish}")));
        }
    }
    Ok(())
}

/// Docker's column: `443/tcp, 0.0.0.0:8080->80/tcp`. Neighbours become ranges where
/// they are published under their own numbers, or not at all; these come first.
///
/// Source: docker/cli, cli/command/formatter, DisplayablePorts.
pub(crate) fn column(bindings: &[Binding], exposed: &[Port]) -> String {
    let published = |port: &Port| bindings.iter().any(|binding| binding.port == *port);
    let mut all: Vec<(Port, Option<SocketAddr>)> =
        exposed.iter().filter(|port| !published(port)).map(|port| (*port, None)).collect();
    all.extend(bindings.iter().map(|binding| (binding.port, Some(binding.address))));
    all.sort_unstable_by_key(|(port, address)| (port.number, *address, port.protocol));
    all.dedup();
    let (mut words, mut mappings) = (Vec::new(), Vec::new());
    // The runs that may still go on, each with its last number.
    let mut runs: Vec<(Option<IpAddr>, Port, u16)> = Vec::new();
    for (port, address) in all {
        if let Some(address) = address.filter(|address| address.port() != port.number) {
            mappings.push(format!("{address}->{port}"));
            continue;
        }
        let ip = address.map(|address| address.ip());
        match runs.iter_mut().find(|(of, first, _)| *of == ip && first.protocol == port.protocol) {
            Some((_, _, last)) if last.checked_add(1) == Some(port.number) => *last = port.number,
            Some(run) => {
                words.push(run_text(run));
                *run = (ip, port, port.number);
            }
            None => runs.push((ip, port, port.number)),
        }
    }
    words.extend(runs.iter().map(run_text));
    words.append(&mut mappings);
    words.join(", ")
}

/// `0.0.0.0:9000-9001->9000-9001/tcp`, `7000-7002/tcp`.
fn run_text((ip, first, last): &(Option<IpAddr>, Port, u16)) -> String {
    let (start, protocol) = (first.number, first.protocol);
    let range = if start == *last { start.to_string() } else { format!("{start}-{last}") };
    match ip {
        Some(IpAddr::V4(ip)) => format!("{ip}:{range}->{range}/{protocol}"),
        Some(IpAddr::V6(ip)) => format!("[{ip}]:{range}->{range}/{protocol}"),
        None => format!("{range}/{protocol}"),
    }
}

/// The ports of an `EXPOSE`: `80/tcp`, `8000-8010/udp`. SCTP and what is none are left out.
pub(crate) fn exposed(words: &[String]) -> Vec<Port> {
    words.iter().flat_map(|word| parse::exposed(word)).collect()
}

/// The words of an `EXPOSE`, one a port: `8000-8001` is `8000/tcp` and `8001/tcp`,
/// since the keys of an image's config are single ports (image-spec `config.md`).
/// SCTP is among them, which is not published. `None` where it is no such thing.
pub(crate) fn each_exposed(text: &str) -> Option<Vec<String>> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last) = (number(first)?, number(last)?);
    if first > last || !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return None;
    }
    Some((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// Adds what is not there yet: there may be as many as there are ports.
pub(crate) fn add_exposed(all: &mut Vec<String>, new: impl IntoIterator<Item = String>) {
    let mut known: HashSet<String> = all.iter().cloned().collect();
    all.extend(new.into_iter().filter(|port| known.insert(port.clone())));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(text: &str) -> Publish {
        Publish::parse(text).expect("valid")[0]
    }

    fn binding(address: &str, port: u16, protocol: Protocol) -> Binding {
        Binding { port: Port { number: port, protocol }, address: address.parse().expect("an address") }
    }

    #[test]
    fn two_that_want_one_port_of_the_host_are_refused() {
        let check =
            |texts: &[&str]| check_duplicates(&texts.iter().map(|text| publish(text)).collect::<Vec<_>>());
        for good in [
            &["80:80", "80:80/udp"][..],
            &["127.0.0.1:80:80", "[::1]:80:80", "127.0.0.2:80:80"],
            &["80", "80"],
            &["81:80", "82:80"],
        ] {
            check(good).expect("no clash");
        }
        for bad in [["80:80", "80:81"], ["80:80", "127.0.0.1:80:80"], ["0.0.0.0:80:80", "127.0.0.1:80:80"]] {
            let error = check(&bad).expect_err("a clash");
            assert!(error.to_string().contains(":80 failed: port is already allocated"), "{error}");
        }
    }

    #[test]
    fn what_is_to_be_removed_is_found() {
        let published = ["8080:80", "127.0.0.1:53:53/udp", "443"].map(publish);
        let bindings = [binding("0.0.0.0:49153", 443, Protocol::Tcp)];
        let find = |text: &str| Unpublish::parse(text).expect("valid").find(&published, &bindings).ok();
        assert_eq!(find("8080"), Some(0));
        assert_eq!(find("8080:80/tcp"), Some(0));
        assert_eq!(find("53/udp"), Some(1));
        assert_eq!(find("49153:443"), Some(2));
        assert_eq!(find("8080:81"), None);
        assert_eq!(find("8080/udp"), None);
        assert_eq!(find("127.0.0.1:8080"), None);
    }

    #[test]
    fn ranges_are_exposed_port_by_port() {
        let each = |text: &str| each_exposed(text).map(|ports| ports.join(" "));
        assert_eq!(each("80").as_deref(), Some("80/tcp"));
        assert_eq!(each("8000-8002/UDP").as_deref(), Some("8000/udp 8001/udp 8002/udp"));
        for bad in ["", "0", "x", "80/x", "90-80", "70000", "80-"] {
            assert_eq!(each(bad), None, "{bad:?}");
        }
        let mut all = vec!["80/tcp".to_owned()];
        add_exposed(&mut all, ["80/tcp", "81/tcp", "81/tcp"].map(str::to_owned));
        assert_eq!(all, ["80/tcp", "81/tcp"]);
    }

    #[test]
    fn the_column_is_docker_s() {
        use Protocol::{Tcp, Udp};
        let bindings = [
            binding("[::]:8080", 80, Tcp),
            binding("0.0.0.0:8080", 80, Tcp),
            binding("0.0.0.0:8081", 81, Tcp),
            binding("0.0.0.0:9001", 9001, Tcp),
            binding("0.0.0.0:9000", 9000, Tcp),
            binding("127.0.0.1:53", 53, Udp),
        ];
        let exposed = exposed(&["80/tcp".into(), "7000-7002/tcp".into(), "1/udp".into()]);
        assert_eq!(
            column(&bindings, &exposed),
            "1/udp, 127.0.0.1:53->53/udp, 7000-7002/tcp, 0.0.0.0:9000-9001->9000-9001/tcp, \
             0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 0.0.0.0:8081->81/tcp"
        );
        assert_eq!(column(&[], &[]), "");
    }
}
