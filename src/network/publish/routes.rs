//! Rules and routes of the container's network namespace that bring replies to
//! a client's address back to this namespace, over rtnetlink(7).
//!
//! Replies of TCP carry the mark of the connection that they belong to
//! (`tcp_fwmark_accept`), and all that is marked is local. Replies of UDP carry
//! none: what leaves from a published port to the address of a present client
//! is local, all else goes its way.

use crate::error::{BestEffort, Context, Error, Result};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::net::IpAddr;
use std::os::fd::OwnedFd;

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

// include/uapi/linux/fib_rules.h
const FR_ACT_TO_TBL: u8 = 1;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_IP_PROTO: u16 = 22;
const FRA_SPORT_RANGE: u16 = 23;

/// A socket of the namespace that it was opened in.
#[derive(Debug)]
pub(super) struct Routes {
    socket: OwnedFd,
    sequence: u32,
}

impl Routes {
    pub(super) fn open() -> Result<Self> {
        let step = || "open a netlink socket";
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None, // NETLINK_ROUTE
        )
        .context(step)?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0)).context(step)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Makes replies with our mark local, of one family of addresses.
    pub(super) fn mark(&mut self, v4: bool) -> Result<()> {
        let route = Message::route(v4, TABLE_TCP, None, None);
        self.ask(route, "make a route")?;
        let mut rule = Message::rule(v4, TABLE_TCP);
        rule.attribute(FRA_FWMARK, &MARK.to_ne_bytes());
        self.ask(rule, "make a rule for marked packets")
    }

    /// Sends what leaves from a UDP port to the table of clients.
    pub(super) fn watch_port(&mut self, v4: bool, port: u16) -> Result<()> {
        self.ask(Message::udp_rule(v4, port, false), "make a rule for a UDP port")
    }

    pub(super) fn forget_port(&mut self, v4: bool, port: u16) {
        self.ask(Message::udp_rule(v4, port, true), "remove a rule").or_ignore();
    }

    /// Makes a client of UDP local. `own` is the address that answers.
    pub(super) fn add_client(&mut self, client: IpAddr, own: IpAddr) -> Result<()> {
        let route = Message::route(client.is_ipv4(), TABLE_UDP, Some(client), Some(own));
        self.ask(route, "make a route to a client")
    }

    pub(super) fn remove_client(&mut self, client: IpAddr) {
        let mut route = Message::route(client.is_ipv4(), TABLE_UDP, Some(client), None);
        route.become_removal(libc::RTM_DELROUTE);
        self.ask(route, "remove a route").or_ignore();
    }

    /// What is there already is no error.
    fn ask(&mut self, message: Message, step: &'static str) -> Result<()> {
        self.sequence += 1;
        let bytes = message.finish(self.sequence);
        rustix::net::send(&self.socket, &bytes, SendFlags::empty()).context(|| step)?;
        let mut answer = [0u8; 4096];
        let (length, _) =
            rustix::net::recv(&self.socket, answer.as_mut_slice(), RecvFlags::empty()).context(|| step)?;
        // nlmsghdr (16 bytes), then nlmsgerr, whose first field is the errno.
        let Some(code) = answer[..length].get(16..20).and_then(|code| code.try_into().ok()) else {
            return Err(Error::failed("the kernel's answer is too short").context(step));
        };
        match -i32::from_ne_bytes(code) {
            0 | libc::EEXIST => Ok(()),
            code => Err(std::io::Error::from(Errno::from_raw_os_error(code))).context(|| step),
        }
    }
}

/// A request of rtnetlink(7): nlmsghdr, a fixed header of 12 bytes, attributes.
struct Message {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Message {
    /// fib_rule_hdr: family, dst_len, src_len, tos, table, two that are
    /// reserved, action, flags (u32).
    fn rule(v4: bool, table: u32) -> Self {
        let body = vec![family(v4), 0, 0, 0, 0, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0];
        let mut rule = Self { kind: libc::RTM_NEWRULE, flags: new(libc::NLM_F_EXCL), body };
        rule.attribute(FRA_PRIORITY, &PRIORITY.to_ne_bytes());
        rule.attribute(FRA_TABLE, &table.to_ne_bytes());
        rule
    }

    fn udp_rule(v4: bool, port: u16, removal: bool) -> Self {
        let mut rule = Self::rule(v4, TABLE_UDP);
        rule.attribute(FRA_IP_PROTO, &[libc::IPPROTO_UDP as u8]);
        let [low, high] = port.to_ne_bytes();
        rule.attribute(FRA_SPORT_RANGE, &[low, high, low, high]);
        if removal {
            rule.become_removal(libc::RTM_DELRULE);
        }
        rule
    }

    /// rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type,
    /// flags (u32). A local route; to everything where there is no destination.
    fn route(v4: bool, table: u32, to: Option<IpAddr>, own: Option<IpAddr>) -> Self {
        let length = match to {
            None => 0,
            Some(_) if v4 => 32,
            Some(_) => 128,
        };
        let scope = if v4 { libc::RT_SCOPE_HOST } else { libc::RT_SCOPE_UNIVERSE };
        let body = vec![family(v4), length, 0, 0, 0, libc::RTPROT_STATIC, scope, libc::RTN_LOCAL, 0, 0, 0, 0];
        let mut route = Self { kind: libc::RTM_NEWROUTE, flags: new(libc::NLM_F_REPLACE), body };
        route.attribute(libc::RTA_TABLE, &table.to_ne_bytes());
        route.attribute(libc::RTA_OIF, &LOOPBACK.to_ne_bytes());
        for (attribute, address) in [(libc::RTA_DST, to), (libc::RTA_PREFSRC, own)] {
            match address {
                Some(IpAddr::V4(address)) => route.attribute(attribute, &address.octets()),
                Some(IpAddr::V6(address)) => route.attribute(attribute, &address.octets()),
                None => {}
            }
        }
        route
    }

    fn become_removal(&mut self, kind: u16) {
        self.kind = kind;
        self.flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    }

    /// rtattr: length and type, the value, up to a multiple of four bytes.
    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.body.extend(((4 + value.len()) as u16).to_ne_bytes());
        self.body.extend(kind.to_ne_bytes());
        self.body.extend(value);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
    }

    fn finish(self, sequence: u32) -> Vec<u8> {
        let mut bytes = ((16 + self.body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(self.kind.to_ne_bytes());
        bytes.extend(self.flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(self.body);
        bytes
    }
}

fn new(how: i32) -> u16 {
    (libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | how) as u16
}

fn family(v4: bool) -> u8 {
    (if v4 { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_aligned() {
        let mut message = Message { kind: 1, flags: 2, body: Vec::new() };
        message.attribute(22, &[17]);
        let bytes = message.finish(7);
        assert_eq!(bytes.len(), 24);
        assert_eq!(bytes[..4], 24u32.to_ne_bytes());
        assert_eq!(bytes[16..18], 5u16.to_ne_bytes());
        assert_eq!(bytes[18..20], 22u16.to_ne_bytes());
        assert_eq!(bytes[20..24], [17, 0, 0, 0]);
    }
}
