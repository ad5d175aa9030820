//! Where a packet of the namespace may go: addresses inside and outside.

use crate::types::uplink::{HostLoopback, SlirpOptions};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The network inside, of IPv6: a private one (RFC 4193), "coracle" in ASCII.
const PREFIX6: [u16; 4] = [0xfd63, 0x6f72, 0x6163, 0x6c65];

/// What the addresses mean.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    options: SlirpOptions,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To that address, from the host.
    Out(IpAddr),
    /// To the host's resolvers, if it is for the port of DNS.
    Resolver,
    /// To this program, which answers pings and nothing else.
    Ourselves,
    /// Nowhere.
    Refused,
}

impl Policy {
    pub(super) fn new(options: SlirpOptions) -> Self {
        Self { options }
    }

    pub(super) fn guest(&self) -> (Ipv4Addr, u8) {
        (self.options.cidr.nth(100), self.options.cidr.prefix)
    }

    pub(super) fn gateway(&self) -> Ipv4Addr {
        self.options.cidr.nth(2)
    }

    pub(super) fn resolver(&self) -> Ipv4Addr {
        self.options.cidr.nth(3)
    }

    /// The three of IPv6: gateway, resolver, guest.
    pub(super) fn inside6(number: u16) -> Ipv6Addr {
        let [a, b, c, d] = PREFIX6;
        Ipv6Addr::new(a, b, c, d, 0, 0, 0, number)
    }

    pub(super) fn guest6() -> Ipv6Addr {
        Self::inside6(100)
    }

    pub(super) fn gateway6() -> Ipv6Addr {
        Self::inside6(2)
    }

    pub(super) fn resolver6() -> Ipv6Addr {
        Self::inside6(3)
    }

    pub(super) fn options(&self) -> &SlirpOptions {
        &self.options
    }

    /// Where a packet to `target` goes. The host's loopback is never meant by
    /// one of its own addresses, in any of their spellings: a container that
    /// writes packets by itself is not stopped by its kernel's routes.
    pub(super) fn way(&self, target: IpAddr) -> Way {
        match target {
            IpAddr::V4(target) => self.way4(target),
            IpAddr::V6(_) if !self.options.ipv6 => Way::Refused,
            IpAddr::V6(target) => self.way6(target),
        }
    }

    fn loopback(&self, loopback: impl Into<IpAddr>) -> Way {
        match self.options.host_loopback {
            HostLoopback::Reachable => Way::Out(loopback.into()),
            HostLoopback::Hidden => Way::Ourselves,
        }
    }

    fn way4(&self, target: Ipv4Addr) -> Way {
        if target == self.gateway() {
            return self.loopback(Ipv4Addr::LOCALHOST);
        }
        if target == self.resolver() {
            return Way::Resolver;
        }
        let (_, prefix) = self.guest();
        let same = |other: Ipv4Addr| (u32::from(target) ^ u32::from(other)) >> (32 - u32::from(prefix)) == 0;
        // "This network" (0.0.0.0/8) is the host itself to its own kernel.
        let nowhere = target.octets()[0] == 0
            || target.is_loopback()
            || target.is_multicast()
            || target.is_broadcast()
            || same(self.gateway());
        if nowhere { Way::Refused } else { Way::Out(target.into()) }
    }

    fn way6(&self, target: Ipv6Addr) -> Way {
        if target == Self::gateway6() {
            return self.loopback(Ipv6Addr::LOCALHOST);
        }
        if target == Self::resolver6() {
            return Way::Resolver;
        }
        let words = target.segments();
        // ::, ::1, and IPv4 addresses in the two old spellings.
        let old = words[..5] == [0; 5] && (words[5] == 0 || words[5] == 0xffff);
        let nowhere = old || target.is_multicast() || words[0] & 0xffc0 == 0xfe80 || words[..4] == PREFIX6;
        if nowhere { Way::Refused } else { Way::Out(target.into()) }
    }

    /// The address inside from which an answer of `source` comes.
    pub(super) fn seen_as(&self, source: IpAddr) -> IpAddr {
        match source {
            IpAddr::V4(Ipv4Addr::LOCALHOST) => self.gateway().into(),
            IpAddr::V6(Ipv6Addr::LOCALHOST) => Self::gateway6().into(),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(options: &[&str], target: &str) -> Way {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let options = SlirpOptions::parse("builtin", &options).expect("valid");
        Policy::new(options).way(target.parse().expect("an address"))
    }

    #[test]
    fn no_address_means_the_host_s_loopback() {
        for target in [
            "127.0.0.1",
            "127.255.0.9",
            "0.0.0.0",
            "0.1.2.3",
            "255.255.255.255",
            "224.0.0.1",
            "10.0.2.100",
            "10.0.2.77",
            "10.0.2.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:192.0.2.1",
            "ff02::1",
            "fe80::1",
            "fd63:6f72:6163:6c65::64",
            "fd63:6f72:6163:6c65:1::1",
        ] {
            assert_eq!(way(&[], target), Way::Refused, "{target}");
            assert_eq!(way(&["allow_host_loopback=true"], target), Way::Refused, "{target}");
        }
        for target in ["10.0.2.2", "fd63:6f72:6163:6c65::2"] {
            assert_eq!(way(&[], target), Way::Ourselves, "{target}");
        }
    }

    #[test]
    fn where_packets_go() {
        let out = |target: &str| Way::Out(target.parse().expect("an address"));
        for target in ["192.0.2.1", "10.0.3.1", "169.254.169.254", "2001:db8::1", "fd00::2"] {
            assert_eq!(way(&[], target), out(target));
        }
        assert_eq!(way(&["allow_host_loopback=true"], "10.0.2.2"), out("127.0.0.1"));
        assert_eq!(way(&["allow_host_loopback=true"], "fd63:6f72:6163:6c65::2"), out("::1"));
        assert_eq!(way(&[], "10.0.2.3"), Way::Resolver);
        assert_eq!(way(&["cidr=172.20.0.0/16"], "172.20.0.3"), Way::Resolver);
        assert_eq!(way(&["cidr=172.20.0.0/16"], "172.20.9.9"), Way::Refused);
        assert_eq!(way(&["enable_ipv6=false"], "2001:db8::1"), Way::Refused);
    }
}
