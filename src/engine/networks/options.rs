//! `network create --opt`: docker's and podman's options of a bridge.

use crate::error::{Error, Result};
use crate::network::uplink;
use crate::types::boolean;
use crate::types::network::{HOST_BINDING, INTERFACE_PREFIX, checked_interface};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// What is known, for who has written something else.
const KNOWN: &str = "the options are mtu, isolate, enable_icc, metric, no_default_route, com.docker.network.driver.mtu, \
     com.docker.network.bridge.name, com.docker.network.bridge.enable_icc, \
     com.docker.network.bridge.host_binding_ipv4 and com.docker.network.container_iface_prefix";

/// # Errors
/// `Invalid` for what is unknown, cannot be had, or has no such value.
pub(super) fn check(options: &BTreeMap<String, String>, ipv6: bool) -> Result<()> {
    options.iter().try_for_each(|(key, value)| check_one(key, value, ipv6))
}

fn check_one(key: &str, value: &str, ipv6: bool) -> Result<()> {
    match key {
        "mtu" | "com.docker.network.driver.mtu" => {
            // What each link must carry: RFC 791, RFC 8200.
            let least = if ipv6 { 1280 } else { 68 };
            if value.parse::<u32>().is_ok_and(|mtu| (least..=65535).contains(&mtu)) {
                return Ok(());
            }
            let family = if ipv6 { " with IPv6" } else { "" };
            Err(Error::invalid(format!("invalid mtu {value:?}")).hint(format!("{least} to 65535{family}")))
        }
        "com.docker.network.bridge.name" if value == uplink::INTERFACE => {
            Err(Error::invalid(format!("invalid interface name {value:?}"))
                .hint("the way out of the networks is called so"))
        }
        "com.docker.network.bridge.name" => checked_interface(value).map(drop),
        // A number of up to three digits follows; that of the uplink is not to be one.
        INTERFACE_PREFIX => match checked_interface(&format!("{value}000")) {
            Ok(_)
                if !value.is_empty() && value != "tap" && !value.ends_with(|c: char| c.is_ascii_digit()) =>
            {
                Ok(())
            }
            _ => Err(Error::invalid(format!("invalid value {value:?} of {key}"))
                .hint("at most 12 letters, digits and the like, no digit last, and not tap")),
        },
        "com.docker.network.bridge.enable_icc" | "enable_icc" | "no_default_route" => {
            boolean::parse(key, value).map(drop)
        }
        "metric" => match value.parse::<u32>() {
            Ok(1..) => Ok(()),
            _ => Err(Error::invalid(format!("invalid metric {value:?}")).hint("a number from 1 on")),
        },
        HOST_BINDING => match value.parse::<Ipv4Addr>() {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::invalid(format!("invalid value {value:?} of {key}: not an IPv4 address"))),
        },
        // How it is here in any case.
        "com.docker.network.bridge.enable_ip_masquerade" if value == "true" => Ok(()),
        "com.docker.network.bridge.gateway_mode_ipv4" | "com.docker.network.bridge.gateway_mode_ipv6"
            if value == "nat" =>
        {
            Ok(())
        }
        "parent" | "vlan" | "vrf" | "mode" | "host_interface_name" => {
            Err(Error::invalid(format!("unsupported bridge network option {key}"))
                .hint("it is about an interface of the host, which only root can change"))
        }
        // So it is here whatever is said of it: networks cannot reach each other.
        "isolate" if matches!(value, "true" | "strict") => Ok(()),
        "isolate" => {
            Err(Error::invalid(format!("isolate={value}: networks are always isolated from each other"))
                .hint("connect a container to both: `coracle network connect`"))
        }
        _ => Err(Error::invalid(format!("unsupported bridge network option {key}")).hint(KNOWN)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_their_values() {
        for (key, good, bad) in [
            ("mtu", "1500", "67"),
            ("enable_icc", "false", "no"),
            ("com.docker.network.bridge.enable_icc", "true", ""),
            ("no_default_route", "1", "2"),
            ("metric", "50", "0"),
            (INTERFACE_PREFIX, "wan", "tap"),
            (INTERFACE_PREFIX, "twelve-bytes", "twelve-bytes+"),
            (INTERFACE_PREFIX, "a", "a/"),
            (INTERFACE_PREFIX, "a", "a1"),
            ("metric", "4294967295", "-1"),
            (HOST_BINDING, "127.0.0.1", "::1"),
            ("isolate", "strict", "false"),
            ("com.docker.network.bridge.name", "br0", "a/b"),
        ] {
            assert!(check_one(key, good, false).is_ok(), "{key}={good}");
            assert!(check_one(key, bad, false).is_err(), "{key}={bad}");
        }
    }
}
