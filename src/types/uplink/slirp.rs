//! The options of slirp4netns, in podman's spelling.

use super::{Cidr, HostLoopback, Pair};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The largest that slirp4netns takes is 65521; a multiple of 8 as podman uses.
const DEFAULT_MTU: u32 = 65520;
const LARGEST_MTU: u32 = 65521;

/// What `--network slirp4netns:KEY=VALUE,…` sets; the built-in stack takes the
/// same. Defaults are podman's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SlirpOptions {
    /// Bytes.
    pub(crate) mtu: u32,
    pub(crate) cidr: Cidr,
    pub(crate) ipv6: bool,
    /// Whether the host's own 127.0.0.1 is reachable as the gateway.
    pub(crate) host_loopback: HostLoopback,
    /// Address or interface of the host from which connections leave.
    pub(crate) outbound: Option<String>,
    pub(crate) outbound6: Option<String>,
}

impl Default for SlirpOptions {
    fn default() -> Self {
        Self {
            mtu: DEFAULT_MTU,
            cidr: Cidr::default(),
            ipv6: true,
            host_loopback: HostLoopback::Hidden,
            outbound: None,
            outbound6: None,
        }
    }
}

impl SlirpOptions {
    /// # Errors
    /// `Invalid` for an unknown option and a value that is none.
    pub(crate) fn parse(uplink: &str, options: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        for option in options {
            let pair = Pair::split(uplink, option)?;
            let value = pair.value;
            match pair.key {
                "mtu" => parsed.mtu = pair.mtu(LARGEST_MTU)?,
                "cidr" => parsed.cidr = pair.cidr()?,
                "enable_ipv6" => parsed.ipv6 = pair.flag()?,
                "allow_host_loopback" => parsed.host_loopback = pair.host_loopback()?,
                "outbound_addr" if is_source::<Ipv4Addr>(value) => parsed.outbound = Some(value.into()),
                "outbound_addr6" if is_source::<Ipv6Addr>(value) => parsed.outbound6 = Some(value.into()),
                "outbound_addr" | "outbound_addr6" => {
                    return Err(pair.wrong("neither an address nor an interface"));
                }
                "port_handler" => {
                    return Err(pair
                        .wrong("ports are published by coracle itself, whatever the way out is")
                        .hint("leave the option out"));
                }
                _ => {
                    return Err(pair.wrong("unknown option").hint(
                        "one of: mtu, cidr, enable_ipv6, allow_host_loopback, outbound_addr, outbound_addr6",
                    ));
                }
            }
        }
        Ok(parsed)
    }
}

/// An address, or the name of an interface: netdevice(7), at most 15 bytes.
fn is_source<A: std::str::FromStr>(text: &str) -> bool {
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    text.parse::<A>().is_ok()
        || (!text.is_empty() && text.len() < 16 && !text.starts_with('-') && text.bytes().all(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Result<SlirpOptions> {
        SlirpOptions::parse(
            "slirp4netns",
            &options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>(),
        )
    }

    #[test]
    fn options() {
        assert_eq!(parse(&[]).expect("valid"), SlirpOptions::default());
        let options = parse(&["cidr=10.9.8.7/24", "allow_host_loopback=true"]).expect("valid");
        assert_eq!(options.cidr.nth(100), Ipv4Addr::new(10, 9, 8, 100));
        assert_eq!(options.host_loopback, HostLoopback::Reachable);
        for bad in [
            "mtu",
            "mtu=",
            "mtu=65522",
            "mtu=9",
            "mtu=1e3",
            "cidr=10.0.2.0",
            "cidr=10.0.2.0/26",
            "cidr=10.0.2.0/0",
            "cidr=::/64",
            "enable_ipv6=yes",
            "allow_host_loopback=1",
            "outbound_addr=-x",
            "outbound_addr=",
            "outbound_addr=a b",
            "outbound_addr6=192.0.2.1/24",
            "port_handler=slirp4netns",
            "unknown=1",
        ] {
            let error = parse(&[bad]).expect_err(bad).to_string();
            assert!(error.starts_with(&format!("--network slirp4netns:{bad}: ")), "{error}");
        }
    }
}
