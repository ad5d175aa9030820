//! The part of a subnet from which containers get their addresses.

use super::network::{Subnet, from_number, number};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// Addresses from one to another of the same kind, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: IpAddr,
    pub(crate) last: IpAddr,
}

impl Range {
    /// Docker's `ADDRESS/PREFIX`, or podman's `FIRST-LAST`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let Some((first, last)) = text.split_once('-') else {
            return Subnet::parse(text).map(Self::from);
        };
        let range = Self { first: first.parse().ok()?, last: last.parse().ok()? };
        (range.first.is_ipv4() == range.last.is_ipv4() && range.first <= range.last).then_some(range)
    }

    /// The address so many after the first.
    pub(crate) fn nth(self, offset: u128) -> Option<IpAddr> {
        let number = number(self.first).checked_add(offset).filter(|at| *at <= number(self.last))?;
        Some(from_number(number, self.first.is_ipv6()))
    }

    /// The subnet that it is, where it is one.
    fn subnet(self) -> Option<Subnet> {
        let prefixes = 0..=if self.first.is_ipv6() { 128 } else { 32 };
        let mut all = prefixes.filter_map(|prefix| Subnet::new(self.first, prefix));
        all.find(|subnet| Self::from(*subnet) == self)
    }
}

impl From<Subnet> for Range {
    fn from(subnet: Subnet) -> Self {
        Self { first: subnet.base(), last: subnet.last() }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.subnet() {
            Some(subnet) => subnet.fmt(f),
            None => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl Serialize for Range {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no range")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_as_subnets_or_by_both_ends() {
        for (text, shown) in [
            ("10.0.0.0/24", "10.0.0.0/24"),
            ("10.0.0.9/24", "10.0.0.0/24"),
            ("10.0.0.4-10.0.0.7", "10.0.0.4/30"),
            ("10.0.0.5-10.0.0.9", "10.0.0.5-10.0.0.9"),
            ("10.0.0.5-10.0.0.5", "10.0.0.5/32"),
            ("fd00::10-fd00::20", "fd00::10-fd00::20"),
        ] {
            let range = Range::parse(text).expect(text);
            assert_eq!(range.to_string(), shown);
            let kept = serde_json::to_string(&range).expect("written");
            assert_eq!(serde_json::from_str::<Range>(&kept).expect("read"), range);
        }
        for bad in ["10.0.0.9-10.0.0.5", "10.0.0.5-fd00::1", "10.0.0.5-", "-10.0.0.5", "10.0.0.5", "x-y", ""]
        {
            assert_eq!(Range::parse(bad), None, "{bad}");
        }
        let range = Range::parse("10.0.0.254-10.0.1.1").expect("a range");
        let all: Vec<String> = (0..9).map_while(|at| range.nth(at)).map(|one| one.to_string()).collect();
        assert_eq!(all, ["10.0.0.254", "10.0.0.255", "10.0.1.0", "10.0.1.1"]);
    }
}
