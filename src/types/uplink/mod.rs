//! The way out of a network namespace: which program serves it, and with which
//! options (`--network slirp4netns:KEY=VALUE,…`).

mod pasta;
mod slirp;

use crate::error::{Error, Result};
pub(crate) use pasta::PastaOptions;
use serde::{Deserialize, Serialize};
pub(crate) use slirp::SlirpOptions;
use std::net::Ipv4Addr;

/// What is asked for of the way out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The first that this host has, in the order of [`Preference::order`].
    #[default]
    Any,
    Slirp(SlirpOptions),
    Pasta(PastaOptions),
    /// Our own, which needs no program but this one.
    Builtin(SlirpOptions),
}

/// `network.uplink`: what serves where `--network` names no way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Preference {
    #[default]
    Auto,
    Slirp,
    Pasta,
    Builtin,
}

impl Preference {
    /// # Errors
    /// `Invalid`, with the words that there are.
    pub(crate) fn parse(word: &str) -> Result<Self> {
        match word {
            "auto" => Ok(Self::Auto),
            "slirp4netns" => Ok(Self::Slirp),
            "pasta" => Ok(Self::Pasta),
            "builtin" => Ok(Self::Builtin),
            _ => Err(Error::invalid(format!("uplink {word:?}: there is no such way out"))
                .hint("it is one of auto, slirp4netns, pasta and builtin")),
        }
    }

    /// What is looked for, in this order: by default the one that is ready
    /// first comes first (some 3 ms for slirp4netns, 40 for pasta).
    pub(crate) fn order(self) -> Vec<Wish> {
        let slirp = || Wish::Slirp(SlirpOptions::default());
        let pasta = || Wish::Pasta(PastaOptions::default());
        let builtin = || Wish::Builtin(SlirpOptions::default());
        match self {
            Self::Auto => vec![slirp(), pasta(), builtin()],
            Self::Slirp => vec![slirp()],
            Self::Pasta => vec![pasta()],
            Self::Builtin => vec![builtin()],
        }
    }
}

/// Whether the host's own loopback addresses are reached through the uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum HostLoopback {
    #[default]
    Hidden,
    Reachable,
}

/// An IPv4 network with room for an uplink's fixed addresses: /25 or wider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cidr {
    pub(crate) base: Ipv4Addr,
    pub(crate) prefix: u8,
}

impl Default for Cidr {
    /// slirp4netns(1), `--cidr`.
    fn default() -> Self {
        Self { base: Ipv4Addr::new(10, 0, 2, 0), prefix: 24 }
    }
}

impl Cidr {
    /// On the way out of networks: of RFC 2544's, which nobody has outside a
    /// laboratory. What networks are most called by, as 10.0.0.0/16, is theirs.
    pub(crate) const OF_NETWORKS: Self = Self { base: Ipv4Addr::new(198, 19, 255, 0), prefix: 24 };

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let prefix = prefix.parse::<u8>().ok().filter(|prefix| (1..=25).contains(prefix))?;
        let mask = u32::MAX << (32 - prefix);
        let base = Ipv4Addr::from(u32::from(address.parse::<Ipv4Addr>().ok()?) & mask);
        Some(Self { base, prefix })
    }

    /// The address with that number in the network, counted from its first.
    pub(crate) fn nth(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base) + number)
    }
}

/// `KEY=VALUE`, and how to say that it is wrong.
struct Pair<'a> {
    uplink: &'a str,
    option: &'a str,
    key: &'a str,
    value: &'a str,
}

impl<'a> Pair<'a> {
    fn split(uplink: &'a str, option: &'a str) -> Result<Self> {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        let pair = Self { uplink, option, key, value };
        if option.contains('=') { Ok(pair) } else { Err(pair.wrong("not KEY=VALUE")) }
    }

    fn wrong(&self, why: &str) -> Error {
        Error::invalid(format!("--network {}:{}: {why}", self.uplink, self.option))
    }

    fn flag(&self) -> Result<bool> {
        match self.value {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.wrong("neither true nor false")),
        }
    }

    fn host_loopback(&self) -> Result<HostLoopback> {
        Ok(if self.flag()? { HostLoopback::Reachable } else { HostLoopback::Hidden })
    }

    fn cidr(&self) -> Result<Cidr> {
        Cidr::parse(self.value).ok_or_else(|| self.wrong("not an IPv4 network of /1 to /25"))
    }

    /// Bytes.
    fn mtu(&self, largest: u32) -> Result<u32> {
        let mtu = self.value.parse().ok().filter(|mtu| (68..=largest).contains(mtu));
        mtu.ok_or_else(|| self.wrong(&format!("an MTU is 68 to {largest} bytes")))
    }
}
