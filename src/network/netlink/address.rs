//! Addresses of links, the neighbours that a link answers for, and those that
//! are what they are, whatever somebody says.

use super::Netlink;
use super::link::ethernet;
use super::message::{CREATE, DUMP, EXCLUSIVE, REPLACE, Request, attributes, u16_at, u32_at};
use crate::types::network::Subnet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const NEW_NEIGHBOUR: u16 = 28;
const DELETE_NEIGHBOUR: u16 = 29;
const GET_NEIGHBOUR: u16 = 30;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
/// No duplicate address detection: the address holds at once.
const IFA_F_NODAD: u8 = 0x02;

/// include/uapi/linux/neighbour.h.
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_MASTER: u16 = 9;
const NTF_MASTER: u8 = 0x04;
const NTF_PROXY: u8 = 0x08;
const NTF_STICKY: u8 = 0x40;
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;

/// An address with the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
}

impl Interface {
    /// All of a subnet.
    pub(crate) fn of(subnet: Subnet) -> Self {
        Self { address: subnet.base(), prefix: subnet.prefix() }
    }

    /// That address alone.
    pub(crate) fn host(address: IpAddr) -> Self {
        Self { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }
}

pub(super) fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub(super) fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

/// struct ifaddrmsg: family, prefix, flags, scope, link.
fn header(link: u32, interface: Interface) -> [u8; 8] {
    let flags = if interface.address.is_ipv6() { IFA_F_NODAD } else { 0 };
    let mut bytes = [family(interface.address), interface.prefix, flags, 0, 0, 0, 0, 0];
    bytes[4..].copy_from_slice(&link.to_ne_bytes());
    bytes
}

impl Netlink {
    /// Gives a link an address. Those of IPv6 hold at once.
    ///
    /// # Errors
    /// EEXIST where it has it.
    pub(crate) fn add_address(&mut self, link: u32, interface: Interface) -> io::Result<()> {
        let bytes = octets(interface.address);
        let mut request = Request::new(NEW_ADDRESS, CREATE | EXCLUSIVE)
            .raw(&header(link, interface))
            .with(IFA_LOCAL, &bytes)
            .with(IFA_ADDRESS, &bytes);
        if let (IpAddr::V4(address), 1..=30) = (interface.address, interface.prefix) {
            let host_bits = u32::MAX >> interface.prefix;
            request.put(IFA_BROADCAST, &(u32::from(address) | host_bits).to_be_bytes());
        }
        self.ask(request)
    }

    /// All addresses, each with the number of its link.
    pub(crate) fn addresses(&mut self) -> io::Result<Vec<(u32, Interface)>> {
        let mut all = Vec::new();
        self.dump(Request::new(GET_ADDRESS, DUMP).raw(&[0; 8]), |_, body| {
            let (Some(prefix), Some(link)) = (body.get(1), u32_at(body, 4)) else { return };
            let find = |wanted| {
                attributes(body.get(8..).unwrap_or_default())
                    .find(|(kind, _)| *kind == wanted)
                    .and_then(|(_, bytes)| address_of(bytes))
            };
            if let Some(address) = find(IFA_LOCAL).or_else(|| find(IFA_ADDRESS)) {
                all.push((link, Interface { address, prefix: *prefix }));
            }
        })?;
        Ok(all)
    }

    /// The link answers for this address, which lies behind another one.
    pub(crate) fn add_proxy(&mut self, link: u32, address: IpAddr) -> io::Result<()> {
        self.ask(proxy(NEW_NEIGHBOUR, CREATE, link, address))
    }

    pub(crate) fn delete_proxy(&mut self, link: u32, address: IpAddr) -> io::Result<()> {
        self.ask(proxy(DELETE_NEIGHBOUR, 0, link, address))
    }

    /// Who has an address behind a link, by its Ethernet address: nobody else's
    /// word for it is taken.
    pub(crate) fn set_neighbour(&mut self, link: u32, address: IpAddr, mac: [u8; 6]) -> io::Result<()> {
        let request = neighbour(NEW_NEIGHBOUR, CREATE | REPLACE, link, (family(address), NUD_PERMANENT, 0));
        self.ask(request.with(NDA_DST, &octets(address)).with(NDA_LLADDR, &mac))
    }

    pub(crate) fn delete_neighbour(&mut self, link: u32, address: IpAddr) -> io::Result<()> {
        let request = neighbour(DELETE_NEIGHBOUR, 0, link, (family(address), NUD_PERMANENT, 0));
        self.ask(request.with(NDA_DST, &octets(address)))
    }

    /// Behind which port of a bridge an Ethernet address is: frames that come from
    /// it by another port do not move it there. Since Linux 4.20.
    pub(crate) fn fix_to_port(&mut self, port: u32, mac: [u8; 6]) -> io::Result<()> {
        let state = (libc::AF_BRIDGE as u8, NUD_NOARP, NTF_MASTER | NTF_STICKY);
        self.ask(neighbour(NEW_NEIGHBOUR, CREATE | REPLACE, port, state).with(NDA_LLADDR, &mac))
    }

    /// It is not behind that port any more.
    pub(crate) fn loose_from_port(&mut self, port: u32, mac: [u8; 6]) -> io::Result<()> {
        let state = (libc::AF_BRIDGE as u8, NUD_NOARP, NTF_MASTER);
        self.ask(neighbour(DELETE_NEIGHBOUR, 0, port, state).with(NDA_LLADDR, &mac))
    }

    /// The Ethernet addresses that a bridge has not learnt: those fixed to a port,
    /// and those of the bridge and its ports themselves; each with the link's number.
    pub(crate) fn fixed_to_ports(&mut self, bridge: u32) -> io::Result<Vec<(u32, [u8; 6])>> {
        let mut all = Vec::new();
        let request = neighbour(GET_NEIGHBOUR, DUMP, 0, (libc::AF_BRIDGE as u8, 0, 0));
        self.dump(request, |_, body| {
            let (Some(link), Some(state)) = (u32_at(body, 4), u16_at(body, 8)) else { return };
            let found = || attributes(body.get(12..).unwrap_or_default());
            let master =
                found().find(|(kind, _)| *kind == NDA_MASTER).and_then(|(_, bytes)| u32_at(bytes, 0));
            // The port's own address is its container's business no more than anybody's.
            let is_fixed = state & (NUD_NOARP | NUD_PERMANENT) != 0;
            if let (true, Some(mac)) =
                (is_fixed && (master == Some(bridge) || link == bridge), ethernet(found(), NDA_LLADDR))
            {
                all.push((if state & NUD_PERMANENT != 0 { bridge } else { link }, mac));
            }
        })?;
        Ok(all)
    }
}

/// struct ndmsg: family, padding, link, state, flags, type.
fn neighbour(kind: u16, request: u16, link: u32, (family, state, flags): (u8, u16, u8)) -> Request {
    let mut header = [0; 12];
    header[0] = family;
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    header[10] = flags;
    Request::new(kind, request).raw(&header)
}

fn proxy(kind: u16, request: u16, link: u32, address: IpAddr) -> Request {
    neighbour(kind, request, link, (family(address), NUD_PERMANENT, NTF_PROXY))
        .with(NDA_DST, &octets(address))
}
