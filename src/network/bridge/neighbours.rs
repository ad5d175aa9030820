//! A container that gives its interface another Ethernet address keeps its place:
//! what goes to its addresses goes there.
//!
//! Nobody's word is taken for it, be it a frame or an answer to ARP: the kernel is
//! asked what the container's own interface has. It moves that container's own
//! addresses alone, to its own port, and to no Ethernet address that somebody else
//! on the bridge has.

use super::{Bridges, port_name};
use crate::error::{Context, Result};
use crate::network::netlink::{Netlink, or_gone};
use crate::types::network::Endpoint;
use std::io;
use std::os::fd::OwnedFd;

impl Bridges {
    /// Becomes readable when something changes on a link of a container's namespace.
    pub(crate) fn watch_links(&self, netns: &OwnedFd) -> Result<OwnedFd> {
        self.within(netns, |_| Netlink::links_changed()).context(|| "watch the container's interfaces")
    }

    /// The container's interface may have another Ethernet address by now.
    pub(crate) fn follow(&mut self, id: &str, netns: &OwnedFd, endpoint: &Endpoint) -> Result<()> {
        let step = || format!("follow the container's interface on network {}", endpoint.network);
        self.follow_interface(id, netns, endpoint).context(step)
    }

    fn follow_interface(&mut self, id: &str, netns: &OwnedFd, endpoint: &Endpoint) -> io::Result<()> {
        let Some(bridge) = self.networks.get(&endpoint.network).map(|laid| laid.bridge) else {
            return Ok(());
        };
        let mac = self.within(netns, |inside| inside.mac(&endpoint.interface))?;
        let port = self.netlink.index(&port_name(id, endpoint))?;
        let fixed = self.netlink.fixed_to_ports(bridge)?;
        let own: Vec<[u8; 6]> = fixed.iter().filter(|(at, _)| *at == port).map(|(_, mac)| *mac).collect();
        let is_others = fixed.iter().any(|(at, other)| *at != port && *other == mac);
        // No device of the kernel's should have a group's address, or none.
        let is_nobody_s = mac[0] & 1 != 0 || mac == [0; 6];
        if own == [mac] || is_others || is_nobody_s {
            return Ok(());
        }
        self.netlink.fix_to_port(port, mac)?;
        for address in &endpoint.addresses {
            self.netlink.set_neighbour(bridge, *address, mac)?;
        }
        for old in own.into_iter().filter(|old| *old != mac) {
            or_gone(self.netlink.loose_from_port(port, old))?;
        }
        Ok(())
    }
}
