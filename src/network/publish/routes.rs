//! Rules and routes of the container's network namespace that bring replies to
//! a client's address back to this namespace, over rtnetlink(7).
//!
//! Replies of TCP carry the mark of the connection that they belong to
//! (`tcp_fwmark_accept`), refusals that of what they refuse (`fwmark_reflect`), and
//! all that is marked is local. Replies of UDP carry none: what leaves from a published port to the address of a present client
//! is local, all else goes its way.

use crate::error::{BestEffort, Context, Result};
use crate::network::netlink::{Interface, Netlink, Route, RouteKind, Rule, RuleAction};
use std::io;
use std::net::IpAddr;

/// Of connections that were opened for a client.
pub(super) const MARK: u32 = 0x636f_7261;

/// Where everything is local, and where clients of UDP are. Numbers that
/// ip-rule(8) users do not take.
const TABLE_TCP: u32 = 0x636f_0001;
const TABLE_UDP: u32 = 0x636f_0002;

/// Behind the table of what is local in any case (0), before all others.
const PRIORITY: u32 = 10;

/// Index of the loopback device in every network namespace.
const LOOPBACK: u32 = 1;

/// Of the namespace that it was opened in.
#[derive(Debug)]
pub(super) struct Routes {
    netlink: Netlink,
}

impl Routes {
    pub(super) fn open() -> Result<Self> {
        Ok(Self { netlink: Netlink::open().context(|| "open a netlink socket")? })
    }

    /// Makes replies with our mark local, of one family of addresses.
    pub(super) fn mark(&mut self, v4: bool) -> Result<()> {
        let route = Route { ipv6: !v4, ..local(TABLE_TCP) };
        there(self.netlink.set_route(&route)).context(|| "make a route")?;
        let rule = Rule { mark: Some(MARK), ..Rule::new(!v4, PRIORITY, RuleAction::Table(TABLE_TCP)) };
        there(self.netlink.add_rule(&rule)).context(|| "make a rule for marked packets")
    }

    /// Sends what leaves from a UDP port to the table of clients.
    pub(super) fn watch_port(&mut self, v4: bool, port: u16) -> Result<()> {
        there(self.netlink.add_rule(&udp_rule(v4, port))).context(|| "make a rule for a UDP port")
    }

    pub(super) fn forget_port(&mut self, v4: bool, port: u16) {
        self.netlink.delete_rule(&udp_rule(v4, port)).or_ignore();
    }

    /// Makes a client of UDP local. `own` is the address that answers.
    pub(super) fn add_client(&mut self, client: IpAddr, own: IpAddr) -> Result<()> {
        let route = Route { source: Some(own), ..client_route(client) };
        there(self.netlink.set_route(&route)).context(|| "make a route to a client")
    }

    pub(super) fn remove_client(&mut self, client: IpAddr) {
        self.netlink.delete_route(&client_route(client)).or_ignore();
    }
}

/// What is there already is no error.
fn there(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        result => result,
    }
}

/// To everything.
fn local(table: u32) -> Route {
    Route { kind: RouteKind::Local, link: Some(LOOPBACK), table, ..Route::default() }
}

fn client_route(client: IpAddr) -> Route {
    Route { destination: Some(Interface::host(client)), ..local(TABLE_UDP) }
}

fn udp_rule(v4: bool, port: u16) -> Rule<'static> {
    Rule {
        protocol: Some(libc::IPPROTO_UDP as u8),
        source_port: Some(port),
        ..Rule::new(!v4, PRIORITY, RuleAction::Table(TABLE_UDP))
    }
}
