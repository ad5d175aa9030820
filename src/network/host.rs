//! The host's own addresses, as containers see them or do not.

use super::netlink::{Interface, Netlink};
use super::uplink::host_address;
use crate::types::network::Subnet;
use rustix::net::{AddressFamily, SocketType, netdevice};
use std::net::IpAddr;

/// The addresses of this network namespace's interfaces that others reach, each
/// with the interface's name. None where the kernel does not say.
pub(crate) fn addresses() -> Vec<(String, Interface)> {
    let all = Netlink::open().and_then(|mut netlink| netlink.addresses()).unwrap_or_default();
    let Ok(socket) = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None) else {
        return Vec::new();
    };
    all.into_iter()
        .filter(|(_, own)| {
            Subnet::new(own.address, 128)
                .or_else(|| Subnet::new(own.address, 32))
                .is_some_and(Subnet::is_for_hosts)
        })
        .filter_map(|(link, own)| Some((netdevice::index_to_name(&socket, link).ok()?, own)))
        .collect()
}

/// Where the host is reached from networks with these subnets: its usual address,
/// else another one. One within them would lead to a container, be it the asker.
pub(crate) fn address_beyond(subnets: &[Subnet]) -> Option<IpAddr> {
    let is_beyond = |address: &IpAddr| !subnets.iter().any(|subnet| subnet.contains(*address));
    let usual = host_address()?;
    if is_beyond(&usual) {
        return Some(usual);
    }
    let is_spoken = |address: &IpAddr| subnets.iter().any(|subnet| subnet.is_ipv6() == address.is_ipv6());
    let others = addresses().into_iter().map(|(_, own)| own.address);
    let mut others: Vec<IpAddr> = others.filter(is_beyond).filter(is_spoken).collect();
    others.sort_unstable();
    others.first().copied()
}
