//! What a container's place on a network has beside its addresses: docker's
//! `--driver-opt`, `--link-local-ip`, and `--link` of one network.

use super::network::{Attachment, Network, checked_alias, checked_interface};
use crate::error::{Error, Result};
use std::net::IpAddr;

/// Docker's options of an endpoint.
const INTERFACE: &str = "com.docker.network.endpoint.ifname";
const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";
/// What stands for the interface's name in a sysctl's.
const ANY_INTERFACE: &str = "IFNAME";

impl Attachment {
    /// `--driver-opt KEY=VALUE`.
    ///
    /// # Errors
    /// `Invalid` for what is unknown, or has no such value.
    pub(crate) fn add_driver_option(&mut self, text: &str) -> Result<()> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        match key {
            INTERFACE => self.interface = Some(checked_interface(value)?),
            SYSCTLS => {
                for sysctl in value.split(',') {
                    checked_sysctl(sysctl)?;
                }
            }
            _ => {
                return Err(Error::invalid(format!("unsupported endpoint option {key}"))
                    .hint(format!("the options are {INTERFACE} and {SYSCTLS}")));
            }
        }
        let all = self.driver_options.entry(key.to_owned()).or_default();
        *all = if key == SYSCTLS && !all.is_empty() { format!("{all},{value}") } else { value.to_owned() };
        Ok(())
    }

    /// What is to be written below `/proc/sys/net`, where `interface` is the
    /// container's: a path and a value each.
    pub(crate) fn sysctls(&self, interface: &str) -> Vec<(String, String)> {
        let all = self.driver_options.get(SYSCTLS).into_iter().flat_map(|text| text.split(','));
        let path = |key: Vec<&str>| {
            let named = key.into_iter().map(|part| if part == ANY_INTERFACE { interface } else { part });
            named.collect::<Vec<_>>().join("/")
        };
        all.filter_map(|text| checked_sysctl(text).ok()).map(|(key, value)| (path(key), value)).collect()
    }

    /// `--link-local-ip`.
    ///
    /// # Errors
    /// `Invalid` for other addresses.
    pub(crate) fn add_link_local(&mut self, text: &str) -> Result<()> {
        let address = text.parse().ok().filter(|address| match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        });
        self.link_local.push(address.ok_or_else(|| {
            Error::invalid(format!("invalid link-local IP address: {text}"))
                .hint("those of 169.254.0.0/16 and fe80::/10 are; others are given by --ip and --ip6")
        })?);
        Ok(())
    }

    /// `--link CONTAINER[:NAME]`: how another container of the network is called here.
    ///
    /// # Errors
    /// `Invalid` where that can be no name.
    pub(crate) fn add_link(&mut self, text: &str) -> Result<()> {
        self.links.push(parse_link(text)?);
        Ok(())
    }

    /// # Errors
    /// `Invalid` for what cannot be had on that network.
    pub(crate) fn check(&self, network: &Network) -> Result<()> {
        match self.link_local.iter().find(|address| address.is_ipv6() && !network.has_ipv6()) {
            Some(address) => Err(Error::invalid(format!(
                "invalid link-local IP address: {address}: network {} has no IPv6",
                network.name
            ))
            .hint("`coracle network create --ipv6` makes one that has")),
            None => Ok(()),
        }
    }
}

/// `CONTAINER[:NAME]`.
///
/// # Errors
/// `Invalid` where it is not.
pub(crate) fn parse_link(text: &str) -> Result<(String, String)> {
    let (target, called) = text.split_once(':').unwrap_or((text, text));
    if target.is_empty() {
        return Err(Error::invalid(format!("invalid --link {text:?}")).hint("the form is CONTAINER[:NAME]"));
    }
    Ok((target.to_owned(), checked_alias(called)?))
}

/// `net.ipv4.conf.IFNAME.NAME=VALUE` and its like: the parts of the key below
/// `net`, and the value.
fn checked_sysctl(text: &str) -> Result<(Vec<&str>, String)> {
    let wrong = |why: &str| {
        Error::invalid(format!("invalid endpoint sysctl {text:?}: {why}"))
            .hint("for example net.ipv4.conf.IFNAME.log_martians=1, where IFNAME stands for the interface")
    };
    let (key, value) = text.split_once('=').ok_or_else(|| wrong("a value is missing"))?;
    let parts: Vec<&str> = key.split('.').collect();
    let ["net", family @ ("ipv4" | "ipv6"), kind @ ("conf" | "neigh"), ANY_INTERFACE, name] = parts[..]
    else {
        return Err(wrong("it is not about the interface"));
    };
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.is_empty() || !name.bytes().all(is_word) {
        return Err(wrong("there is no such name"));
    }
    Ok((vec![family, kind, ANY_INTERFACE, name], value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_an_endpoint() {
        let mut place = Attachment::default();
        place.add_driver_option(&format!("{INTERFACE}=lan0")).expect("valid");
        place.add_driver_option(&format!("{SYSCTLS}=net.ipv4.conf.IFNAME.log_martians=1")).expect("valid");
        let two = "net.ipv6.conf.IFNAME.mtu=1400,net.ipv4.neigh.IFNAME.gc_stale_time=9";
        place.add_driver_option(&format!("{SYSCTLS}={two}")).expect("valid");
        assert_eq!(place.interface.as_deref(), Some("lan0"));
        let all = place.sysctls("lan0");
        let found: Vec<String> = all.iter().map(|(path, value)| format!("{path}={value}")).collect();
        let expected =
            ["ipv4/conf/lan0/log_martians=1", "ipv6/conf/lan0/mtu=1400", "ipv4/neigh/lan0/gc_stale_time=9"];
        assert_eq!(found, expected);
        for bad in [
            "x=1".to_owned(),
            format!("{INTERFACE}=a/b"),
            format!("{SYSCTLS}="),
            format!("{SYSCTLS}=net.ipv4.conf.IFNAME.x"),
            format!("{SYSCTLS}=net.ipv4.conf.all.forwarding=1"),
            format!("{SYSCTLS}=net.ipv4.conf.IFNAME.../x=1"),
            format!("{SYSCTLS}=kernel.conf.IFNAME.x=1"),
        ] {
            assert!(place.add_driver_option(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_of_a_link_and_links() {
        let mut place = Attachment::default();
        for good in ["169.254.3.4", "fe80::7"] {
            place.add_link_local(good).expect(good);
        }
        for bad in ["10.0.0.1", "fd00::1", "169.254.1", ""] {
            assert!(place.add_link_local(bad).is_err(), "{bad}");
        }
        assert!(place.check(&Network::default()).is_err(), "it has no IPv6");
        place.add_link("db:data").expect("valid");
        assert_eq!(place.links, [("db".to_owned(), "data".to_owned())]);
        for bad in ["", ":x", "db:a b"] {
            assert!(place.add_link(bad).is_err(), "{bad}");
        }
    }
}
