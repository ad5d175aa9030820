//! Links: bridges, veth pairs, and what changes on any of them.

use super::Netlink;
use super::message::{CREATE, EXCLUSIVE, Request, attributes, u32_at};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const SET_LINK: u16 = 19;

const IFLA_ADDRESS: u16 = 1;
const IFLA_NAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_PROTOCOL_INFO: u16 = 12;
const IFLA_LINK_INFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const BRIDGE_PORT_ISOLATED: u16 = 33;
/// NLA_F_NESTED: the attribute has attributes in it.
const NESTED: u16 = 0x8000;

const IFF_UP: u32 = 1;

/// The other end of a new veth pair.
#[derive(Debug)]
pub(crate) struct VethPeer<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: [u8; 6],
    /// Where it goes.
    pub(crate) netns: BorrowedFd<'a>,
}

/// What is to change on a link; what is `None` stays.
#[derive(Debug, Default)]
pub(crate) struct LinkChange<'a> {
    pub(crate) up: Option<bool>,
    pub(crate) name: Option<&'a str>,
    pub(crate) mtu: Option<u32>,
    pub(crate) mac: Option<[u8; 6]>,
    /// The number of the bridge it is a port of; 0 takes it off.
    pub(crate) master: Option<u32>,
    pub(crate) netns: Option<BorrowedFd<'a>>,
}

/// struct ifinfomsg: family, type, number, flags, which flags change.
fn header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

/// The Ethernet address in an attribute of that kind.
pub(super) fn ethernet<'a>(
    mut attributes: impl Iterator<Item = (u16, &'a [u8])>,
    wanted: u16,
) -> Option<[u8; 6]> {
    attributes.find(|(kind, _)| *kind == wanted).and_then(|(_, bytes)| bytes.try_into().ok())
}

impl Netlink {
    /// Makes a bridge, which is down.
    ///
    /// # Errors
    /// EEXIST where there is a link of that name.
    pub(crate) fn add_bridge(&mut self, name: &str) -> io::Result<()> {
        let mut request = new_link().with_text(IFLA_NAME, name);
        let info = request.open(IFLA_LINK_INFO);
        request.put(INFO_KIND, b"bridge");
        request.close(info);
        self.ask(request)
    }

    /// Makes a veth pair: one end here as `name`, the other where `peer` says.
    /// Both are down.
    pub(crate) fn add_veth(&mut self, name: &str, mtu: u32, peer: &VethPeer<'_>) -> io::Result<()> {
        // One queue, as veths have in any case. Said, it is so from the beginning; else
        // the kernel makes one for each processor, takes all but one away again, and
        // waits for each end until nobody can see them (`veth_init_queues`).
        let one_queue =
            |request: Request| request.with_u32(IFLA_NUM_TX_QUEUES, 1).with_u32(IFLA_NUM_RX_QUEUES, 1);
        let mut request = one_queue(new_link().with_text(IFLA_NAME, name).with_u32(IFLA_MTU, mtu));
        let info = request.open(IFLA_LINK_INFO);
        request.put(INFO_KIND, b"veth");
        let data = request.open(INFO_DATA);
        let other = request.open(VETH_INFO_PEER);
        request = one_queue(request.raw(&header(0, 0, 0)))
            .with_text(IFLA_NAME, peer.name)
            .with_u32(IFLA_MTU, mtu)
            .with(IFLA_ADDRESS, &peer.mac)
            .with_u32(IFLA_NET_NS_FD, peer.netns.as_raw_fd().cast_unsigned());
        request.close(other);
        request.close(data);
        request.close(info);
        self.ask(request)
    }

    /// The number of the link of that name.
    ///
    /// # Errors
    /// ENODEV where there is none.
    pub(crate) fn index(&mut self, name: &str) -> io::Result<u32> {
        let request = Request::new(GET_LINK, 0).raw(&header(0, 0, 0)).with_text(IFLA_NAME, name);
        let mut index = None;
        self.dump(request, |kind, body| {
            if kind == NEW_LINK {
                index = index.or(u32_at(body, 4));
            }
        })?;
        index.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    /// The Ethernet address of the link of that name.
    ///
    /// # Errors
    /// ENODEV where there is none, or none with such an address.
    pub(crate) fn mac(&mut self, name: &str) -> io::Result<[u8; 6]> {
        let request = Request::new(GET_LINK, 0).raw(&header(0, 0, 0)).with_text(IFLA_NAME, name);
        let mut mac = None;
        self.dump(request, |kind, body| {
            if kind == NEW_LINK {
                let all = attributes(body.get(16..).unwrap_or_default());
                mac = mac.or_else(|| ethernet(all, IFLA_ADDRESS));
            }
        })?;
        mac.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    pub(crate) fn change_link(&mut self, index: u32, change: &LinkChange<'_>) -> io::Result<()> {
        let (flags, mask) = match change.up {
            Some(true) => (IFF_UP, IFF_UP),
            Some(false) => (0, IFF_UP),
            None => (0, 0),
        };
        let mut request = Request::new(NEW_LINK, 0).raw(&header(index, flags, mask));
        if let Some(name) = change.name {
            request = request.with_text(IFLA_NAME, name);
        }
        if let Some(mtu) = change.mtu {
            request = request.with_u32(IFLA_MTU, mtu);
        }
        if let Some(mac) = change.mac {
            request = request.with(IFLA_ADDRESS, &mac);
        }
        if let Some(master) = change.master {
            request = request.with_u32(IFLA_MASTER, master);
        }
        if let Some(netns) = change.netns {
            request = request.with_u32(IFLA_NET_NS_FD, netns.as_raw_fd().cast_unsigned());
        }
        self.ask(request)
    }

    /// A port of a bridge does not pass frames on to others that are isolated too,
    /// nor takes any from them: the bridge itself is who they speak to. Since Linux 4.18.
    pub(crate) fn isolate_port(&mut self, port: u32) -> io::Result<()> {
        let mut bytes = header(port, 0, 0);
        bytes[0] = libc::AF_BRIDGE as u8;
        let mut request = Request::new(SET_LINK, 0).raw(&bytes);
        let info = request.open(IFLA_PROTOCOL_INFO | NESTED);
        request.put(BRIDGE_PORT_ISOLATED, &[1]);
        request.close(info);
        self.ask(request)
    }

    pub(crate) fn delete_link(&mut self, index: u32) -> io::Result<()> {
        self.ask(Request::new(DELETE_LINK, 0).raw(&header(index, 0, 0)))
    }
}

fn new_link() -> Request {
    Request::new(NEW_LINK, CREATE | EXCLUSIVE).raw(&header(0, 0, 0))
}
