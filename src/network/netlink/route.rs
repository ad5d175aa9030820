//! Routes and the rules that choose a table of them: policy routing.

use super::Netlink;
use super::address::{Interface, address_of, family, octets};
use super::message::{CREATE, DUMP, REPLACE, Request, attributes};
use std::io;
use std::net::IpAddr;

const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
const NEW_RULE: u16 = 32;
const DELETE_RULE: u16 = 33;

const RTA_DESTINATION: u16 = 1;
const RTA_LINK: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_METRIC: u16 = 6;
const RTA_PREFERRED_SOURCE: u16 = 7;
const RTA_TABLE: u16 = 15;

/// RTPROT_BOOT: by an administrator, not by a routing daemon.
const PROTOCOL: u8 = 3;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const SCOPE_HOST: u8 = 254;

const FRA_INCOMING: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_MARK: u16 = 10;
const FRA_SUPPRESS_PREFIX_LENGTH: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_MARK_MASK: u16 = 16;
const FRA_IP_PROTOCOL: u16 = 22;
const FRA_SOURCE_PORTS: u16 = 23;
const RULE_TO_TABLE: u8 = 1;
const RULE_UNREACHABLE: u8 = 7;

pub(crate) const TABLE_LOCAL: u32 = 255;
pub(crate) const TABLE_MAIN: u32 = 254;

/// rtnetlink(7), the types that are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    Unicast = 1,
    /// To this machine itself.
    Local = 2,
    /// Who goes there is told that there is no way.
    Unreachable = 7,
}

/// A route. `destination` of `None` is everything: the default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Route {
    pub(crate) kind: Kind,
    pub(crate) destination: Option<Interface>,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) link: Option<u32>,
    pub(crate) source: Option<IpAddr>,
    /// Of several to one destination the least is taken; 0: the kernel's own.
    pub(crate) metric: u32,
    /// 0: the main one.
    pub(crate) table: u32,
    /// For a default without any address that tells the family.
    pub(crate) ipv6: bool,
}

/// What a rule does with what it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RuleAction {
    Table(u32),
    Unreachable,
}

/// A rule of policy routing: ip-rule(8).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule<'a> {
    pub(crate) ipv6: bool,
    pub(crate) priority: u32,
    pub(crate) action: RuleAction,
    /// The link that a packet came in by.
    pub(crate) incoming: Option<&'a str>,
    pub(crate) mark: Option<u32>,
    /// Of the packet: a number of `/etc/protocols`.
    pub(crate) protocol: Option<u8>,
    pub(crate) source_port: Option<u16>,
    /// Routes with a prefix of at most that length do not count.
    pub(crate) suppress_prefix_length: Option<u32>,
}

impl Rule<'_> {
    pub(crate) fn new(ipv6: bool, priority: u32, action: RuleAction) -> Self {
        Self {
            ipv6,
            priority,
            action,
            incoming: None,
            mark: None,
            protocol: None,
            source_port: None,
            suppress_prefix_length: None,
        }
    }

    fn request(&self, kind: u16, flags: u16) -> Request {
        let family = if self.ipv6 { libc::AF_INET6 } else { libc::AF_INET } as u8;
        let (action, table) = match self.action {
            RuleAction::Table(table) => (RULE_TO_TABLE, table),
            RuleAction::Unreachable => (RULE_UNREACHABLE, 0),
        };
        // struct fib_rule_hdr; a table over 255 stands in its attribute alone.
        let mut request = Request::new(kind, flags)
            .raw(&[family, 0, 0, 0, u8::try_from(table).unwrap_or(0), 0, 0, action, 0, 0, 0, 0])
            .with_u32(FRA_PRIORITY, self.priority);
        if table != 0 {
            request = request.with_u32(FRA_TABLE, table);
        }
        if let Some(name) = self.incoming {
            request = request.with_text(FRA_INCOMING, name);
        }
        if let Some(mark) = self.mark {
            request = request.with_u32(FRA_MARK, mark).with_u32(FRA_MARK_MASK, u32::MAX);
        }
        if let Some(protocol) = self.protocol {
            request = request.with(FRA_IP_PROTOCOL, &[protocol]);
        }
        if let Some(port) = self.source_port {
            let mut range = port.to_ne_bytes().to_vec();
            range.extend(port.to_ne_bytes());
            request = request.with(FRA_SOURCE_PORTS, &range);
        }
        if let Some(length) = self.suppress_prefix_length {
            request = request.with_u32(FRA_SUPPRESS_PREFIX_LENGTH, length);
        }
        request
    }
}

impl Route {
    fn family(&self) -> u8 {
        let any = self.destination.map(|d| d.address).or(self.gateway).or(self.source);
        match any {
            Some(address) => family(address),
            None => {
                if self.ipv6 {
                    libc::AF_INET6 as u8
                } else {
                    libc::AF_INET as u8
                }
            }
        }
    }

    fn request(&self, kind: u16, flags: u16) -> Request {
        let scope = match (self.kind, self.gateway) {
            (Kind::Local, _) => SCOPE_HOST,
            (Kind::Unicast, None) => SCOPE_LINK,
            _ => SCOPE_UNIVERSE,
        };
        let table = if self.table == 0 { TABLE_MAIN } else { self.table };
        let prefix = self.destination.map_or(0, |destination| destination.prefix);
        // struct rtmsg.
        let mut request = Request::new(kind, flags)
            .raw(&[
                self.family(),
                prefix,
                0,
                0,
                u8::try_from(table).unwrap_or(0),
                PROTOCOL,
                scope,
                self.kind as u8,
                0,
                0,
                0,
                0,
            ])
            .with_u32(RTA_TABLE, table);
        if let Some(destination) = self.destination {
            request = request.with(RTA_DESTINATION, &octets(destination.address));
        }
        if let Some(gateway) = self.gateway {
            request = request.with(RTA_GATEWAY, &octets(gateway));
        }
        if let Some(link) = self.link {
            request = request.with_u32(RTA_LINK, link);
        }
        if self.metric != 0 {
            request = request.with_u32(RTA_METRIC, self.metric);
        }
        if let Some(source) = self.source {
            request = request.with(RTA_PREFERRED_SOURCE, &octets(source));
        }
        request
    }
}

impl Netlink {
    /// Adds a route, in the place of one to the same destination.
    pub(crate) fn set_route(&mut self, route: &Route) -> io::Result<()> {
        self.ask(route.request(NEW_ROUTE, CREATE | REPLACE))
    }

    pub(crate) fn delete_route(&mut self, route: &Route) -> io::Result<()> {
        self.ask(route.request(DELETE_ROUTE, 0))
    }

    /// Destinations of the main table's routes, the default ones left out.
    pub(crate) fn destinations(&mut self) -> io::Result<Vec<Interface>> {
        let mut all = Vec::new();
        self.dump(Request::new(GET_ROUTE, DUMP).raw(&[0; 12]), |_, body| {
            let (Some(prefix @ 1..), Some(table)) = (body.get(1).copied(), body.get(4)) else { return };
            if u32::from(*table) == TABLE_LOCAL {
                return;
            }
            let found = attributes(body.get(12..).unwrap_or_default())
                .find(|(kind, _)| *kind == RTA_DESTINATION)
                .and_then(|(_, bytes)| address_of(bytes));
            all.extend(found.map(|address| Interface { address, prefix }));
        })?;
        Ok(all)
    }

    pub(crate) fn add_rule(&mut self, rule: &Rule<'_>) -> io::Result<()> {
        self.ask(rule.request(NEW_RULE, CREATE | super::message::EXCLUSIVE))
    }

    pub(crate) fn delete_rule(&mut self, rule: &Rule<'_>) -> io::Result<()> {
        self.ask(rule.request(DELETE_RULE, 0))
    }
}
