//! The sockets of the host. A port that is taken is found out here.

use super::options;
use crate::error::{Context, Error, Result, Trouble};
use crate::types::port::{Binding, HostPort, Protocol, Publish};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

/// Connections that wait to be taken; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How often the kernel is asked for a free port where the one it gave for
/// IPv4 is taken for IPv6.
const TRIES: u32 = 32;

/// A socket of the host, and where it leads.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) binding: Binding,
    pub(crate) socket: OwnedFd,
}

/// Why a port cannot be had.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Someone has it.
    Taken(SocketAddr),
    Other(Error),
}

/// Binds what `publish` asks for: one socket for each family of addresses.
/// Where any of several ports will do, that of `before` is tried first.
pub(crate) fn bind(publish: &Publish, before: Option<u16>) -> Result<Vec<Bound>, Refusal> {
    let choice = |number: u16| bind_port(publish, number);
    match publish.host {
        HostPort::Fixed(number) => choice(number),
        HostPort::Any => {
            if let Some(bound) = before.and_then(|number| choice(number).ok()) {
                return Ok(bound);
            }
            let mut last = choice(0);
            for _ in 1..TRIES {
                match last {
                    Err(Refusal::Taken(_)) => last = choice(0),
                    _ => break,
                }
            }
            last
        }
        HostPort::OneOf(first, end) => {
            let preferred = before.filter(|number| (first..=end).contains(number));
            for number in preferred.into_iter().chain(first..=end) {
                match choice(number) {
                    Err(Refusal::Taken(_)) => {}
                    result => return result,
                }
            }
            Err(Refusal::Other(Error::conflict(format!("all ports from {first} to {end} are taken"))))
        }
    }
}

/// Port 0: the kernel chooses.
fn bind_port(publish: &Publish, mut number: u16) -> Result<Vec<Bound>, Refusal> {
    let everywhere = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let wanted = publish.address.map_or_else(|| everywhere.to_vec(), |address| vec![address]);
    let mut bound = Vec::new();
    for address in wanted {
        let address = SocketAddr::new(address, number);
        match bind_one(publish.port.protocol, address) {
            Ok(socket) => {
                let address = local_address(&socket).map_err(Refusal::Other)?;
                number = address.port();
                bound.push(Bound { binding: Binding { port: publish.port, address }, socket });
            }
            Err(Errno::ADDRINUSE) => return Err(Refusal::Taken(address)),
            // A host without IPv6, where nobody asked for it.
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)
                if publish.address.is_none() && !bound.is_empty() => {}
            Err(error) => return Err(Refusal::Other(explain(error, address))),
        }
    }
    Ok(bound)
}

fn local_address(socket: &OwnedFd) -> Result<SocketAddr> {
    let step = || "ask for the address of a socket";
    let address = rustix::net::getsockname(socket).context(step)?;
    SocketAddr::try_from(address).context(step)
}

fn bind_one(protocol: Protocol, address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if address.is_ipv6() {
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Tcp {
        // What the last run left in TIME_WAIT is no hindrance. Of UDP it would
        // let another take the port beside us.
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    options::prepare_listener(&socket, protocol, address.is_ipv4())?;
    rustix::net::bind(&socket, &address)?;
    if protocol == Protocol::Tcp {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

fn explain(error: Errno, address: SocketAddr) -> Error {
    let step = format!("listen on {address}");
    let cause = Error::failed(std::io::Error::from(error).to_string()).context(step);
    match error {
        Errno::ACCESS => {
            let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
            let start = start.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
            let port = address.port();
            if port < start {
                let sysctl = format!("sudo sysctl net.ipv4.ip_unprivileged_port_start={port}");
                cause
                    .hint(format!("ports below {start} are root's: publish a higher one, or"))
                    .hint(format!("{sysctl}   (in /etc/sysctl.d/ to keep it)"))
                    .see_doctor(Trouble::LowPorts)
            } else {
                cause
            }
        }
        Errno::ADDRNOTAVAIL => cause.hint("no interface of this host has that address: see `ip addr`"),
        _ => cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(text: &str) -> Publish {
        Publish::parse(text).expect("valid")[0]
    }

    #[test]
    fn a_port_that_is_taken_is_told_and_one_of_several_is_found() {
        let first = bind(&publish("127.0.0.1::80"), None).expect("a free port");
        let taken = first[0].binding.address;
        let again = bind(&publish(&format!("127.0.0.1:{}:80", taken.port())), None);
        assert!(matches!(again, Err(Refusal::Taken(address)) if address == taken), "{again:?}");
        if let Some(next) = taken.port().checked_add(1) {
            let range = publish(&format!("127.0.0.1:{}-{next}:80", taken.port()));
            if let Ok(bound) = bind(&range, None) {
                assert_eq!(bound[0].binding.address.port(), next);
            }
        }
        // TCP's port is not UDP's.
        bind(&publish(&format!("127.0.0.1:{}:80/udp", taken.port())), None).expect("free");
    }

    #[test]
    fn both_families_have_one_random_port_and_it_is_had_again() {
        let first = bind(&publish("80"), None).expect("a free port");
        let number = first[0].binding.address.port();
        assert!(first.iter().all(|bound| bound.binding.address.port() == number), "{first:?}");
        drop(first);
        let second = bind(&publish("80"), Some(number)).expect("a free port");
        assert_eq!(second[0].binding.address.port(), number);
    }

    #[test]
    fn an_address_of_another_host_is_refused() {
        let refused = bind(&publish("192.0.2.1:0-1:80".replace("0-1", "8080").as_str()), None);
        let Err(Refusal::Other(error)) = refused else { panic!("{refused:?}") };
        assert!(error.to_string().contains("192.0.2.1:8080"), "{error}");
    }
}
