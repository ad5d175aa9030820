//! The way out, ports, names.

use super::check::{Check, Severity, words};
use super::trial::in_child;
use crate::error::Result;
use crate::network::uplink::Chosen;
use crate::registry::names::addresses;
use crate::registry::{proxy_address, trusted_authorities};
use crate::sys::errno::Reader;
use crate::sys::namespace::bring_interface_up;
use crate::types::uplink::{PastaOptions, Preference, SlirpOptions, Wish};
use nix::sched::{CloneFlags, unshare};
use std::io;
use std::net::TcpStream;
use std::time::Duration;

pub(super) fn checks(read: Reader<'_>) -> Vec<Check> {
    vec![
        helper("slirp4netns", &Wish::Slirp(SlirpOptions::default())),
        helper("pasta", &Wish::Pasta(PastaOptions::default())),
        way_out(),
        tun(),
        low_ports(read),
        ping(read),
        client_addresses(read),
        resolvers(read),
        ipv6(read),
        proxy(&proxy_address()),
        authorities(),
    ]
}

/// What can be tried only in the outer namespace.
pub(super) fn checks_inside() -> Vec<Check> {
    vec![loopback()]
}

/// Any of them serves, our own without anything to install: none is missed.
fn helper(name: &'static str, wish: &Wish) -> Check {
    match Chosen::of(wish, Preference::Auto) {
        Ok(chosen) => Check::good(name, chosen.program()),
        Err(error) => Check::good(name, format!("{error}; not needed")),
    }
}

fn way_out() -> Check {
    const NAME: &str = "way out";
    match Chosen::of(&Wish::Any, Preference::Auto) {
        Ok(chosen) => Check::good(NAME, format!("{} ({})", chosen.name(), chosen.program())),
        Err(error) => Check::failed(NAME, Severity::Limited, &error, "containers have loopback alone"),
    }
}

/// By doing: the device is opened, as slirp4netns and pasta do.
fn tun() -> Check {
    const NAME: &str = "/dev/net/tun";
    match std::fs::File::options().read(true).write(true).open(NAME) {
        Ok(_) => Check::good(NAME, "open to you"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Check::limited(NAME, "not there", "containers have no way out").admin("sudo modprobe tun")
        }
        Err(error) => {
            Check::limited(NAME, format!("not open to you: {}", words(error)), "containers have no way out")
                .admin("sudo chmod 0666 /dev/net/tun")
        }
    }
}

fn number(read: Reader<'_>, path: &str) -> Option<u64> {
    read(path)?.trim().parse().ok()
}

fn low_ports(read: Reader<'_>) -> Check {
    const NAME: &str = "low ports";
    match number(read, "/proc/sys/net/ipv4/ip_unprivileged_port_start") {
        Some(0) | None => Check::good(NAME, "every port is yours"),
        Some(first) => Check::note(
            NAME,
            format!("ports below {first} are root's on this host"),
            "they cannot be published (inside a container every port is free)",
        )
        .admin("sudo sysctl -w net.ipv4.ip_unprivileged_port_start=80"),
    }
}

/// icmp(7): `ping_group_range`. Inside a container its own applies.
fn ping(read: Reader<'_>) -> Check {
    const NAME: &str = "ping";
    let range = read("/proc/sys/net/ipv4/ping_group_range").unwrap_or_default();
    let mut ends = range.split_ascii_whitespace().filter_map(|number| number.parse::<u64>().ok());
    let gid = u64::from(rustix::process::getgid().as_raw());
    match (ends.next(), ends.next()) {
        (Some(first), Some(last)) if (first..=last).contains(&gid) => {
            Check::good(NAME, "allowed to your group")
        }
        (Some(_), Some(_)) => Check::note(
            NAME,
            "not allowed to your group on this host",
            "ping from containers to the outside gets no answer",
        )
        .admin("sudo sysctl -w net.ipv4.ping_group_range='0 2147483647'"),
        _ => Check::good(NAME, "no limit is told"),
    }
}

/// tcp_fwmark_accept, with which a server sees its client's own address.
fn client_addresses(read: Reader<'_>) -> Check {
    const NAME: &str = "client addresses";
    if read("/proc/sys/net/ipv4/tcp_fwmark_accept").is_some() {
        Check::good(NAME, "the kernel can show them to servers in containers")
    } else {
        Check::note(
            NAME,
            "net.ipv4.tcp_fwmark_accept is not there",
            "published ports show their clients as local",
        )
        .admin("use a kernel with CONFIG_IP_MULTIPLE_TABLES=y")
    }
}

fn resolvers(read: Reader<'_>) -> Check {
    const NAME: &str = "name servers";
    let text = read("/etc/resolv.conf").unwrap_or_default();
    let servers: Vec<&str> =
        text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")).map(str::trim).collect();
    if servers.is_empty() {
        return Check::limited(
            NAME,
            "/etc/resolv.conf names none",
            "names are not found in containers, nor registries",
        )
        .user("give them to a container with --dns ADDRESS");
    }
    Check::good(NAME, servers.join(", "))
}

fn ipv6(read: Reader<'_>) -> Check {
    const NAME: &str = "IPv6";
    let off = number(read, "/proc/sys/net/ipv6/conf/all/disable_ipv6");
    match off {
        Some(0) => Check::good(NAME, "on"),
        Some(_) => {
            Check::note(NAME, "switched off on this host", "containers reach the outside by IPv4 only")
        }
        None => Check::note(NAME, "the kernel has none", "containers have IPv4 only"),
    }
}

/// How long a proxy may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// By doing: a connection to the proxy of the environment, which registries are
/// reached through.
fn proxy(named: &Result<Option<(String, u16)>>) -> Check {
    const NAME: &str = "proxy";
    const COST: &str = "no registry is reached, but through loopback";
    let (host, port) = match named {
        Ok(None) => return Check::good(NAME, "none: registries are reached directly"),
        Ok(Some((host, port))) => (host.as_str(), *port),
        Err(error) => return Check::failed(NAME, Severity::Limited, error, COST),
    };
    let connect = || {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no address is known for this name");
        for address in addresses(host, port, PATIENCE)? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(_) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    match connect() {
        Ok(()) => Check::good(NAME, format!("{host}:{port} takes connections")),
        Err(error) => Check::limited(NAME, format!("{host}:{port} does not answer: {}", words(error)), COST)
            .user("mend HTTPS_PROXY, HTTP_PROXY or ALL_PROXY in the environment, or name the registry in NO_PROXY"),
    }
}

/// The roots of TLS, by reading them as a pull does.
fn authorities() -> Check {
    const NAME: &str = "certificates";
    match trusted_authorities() {
        0 => {
            Check::limited(NAME, "no root certificates are installed", "no registry can be trusted over TLS")
                .admin("sudo apt install ca-certificates")
        }
        count => Check::good(NAME, format!("{count} authorities are trusted")),
    }
}

/// By doing: a network namespace with its loopback up.
fn loopback() -> Check {
    const NAME: &str = "loopback";
    let up = || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        bring_interface_up(c"lo")
    };
    match in_child(up) {
        Ok(()) => Check::good(NAME, "up in a network namespace of its own"),
        Err(error) => Check::broken(NAME, format!("could not be brought up: {}", words(error)))
            .user("containers can be started with --network host"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_tried() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let named = || Ok(Some(("127.0.0.1".to_owned(), address.port())));
        assert!(proxy(&named()).is_ok() && proxy(&Ok(None)).is_ok());
        drop(listener);
        let check = proxy(&named());
        assert!(!check.is_ok() && check.remedy.is_some(), "{check:?}");
        assert!(!proxy(&Err(crate::error::Error::invalid("x"))).is_ok());
    }

    #[test]
    fn what_is_amiss_has_a_remedy_or_a_cost() {
        let poor = |path: &str| {
            let text = match path {
                "/proc/sys/net/ipv4/ip_unprivileged_port_start" => "1024\n",
                "/proc/sys/net/ipv4/ping_group_range" => "1\t0\n",
                "/proc/sys/net/ipv6/conf/all/disable_ipv6" => "1\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        for check in [low_ports(&poor), ping(&poor), client_addresses(&poor), resolvers(&poor), ipv6(&poor)] {
            assert!(!check.is_ok() && check.cost.is_some(), "{check:?}");
        }
        let rich = |path: &str| {
            let text = match path {
                "/proc/sys/net/ipv4/ping_group_range" => "0\t2147483647\n",
                "/proc/sys/net/ipv4/ip_unprivileged_port_start"
                | "/proc/sys/net/ipv6/conf/all/disable_ipv6"
                | "/proc/sys/net/ipv4/tcp_fwmark_accept" => "0\n",
                "/etc/resolv.conf" => "search x\nnameserver 127.0.0.53\nnameserver ::1\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        for check in [low_ports(&rich), ping(&rich), client_addresses(&rich), resolvers(&rich), ipv6(&rich)] {
            assert!(check.is_ok(), "{check:?}");
        }
    }
}
