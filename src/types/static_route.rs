//! Routes that the containers of a network have: `network create --route`.

use super::network::{Pool, Subnet};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What is reached by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StaticRoute {
    pub(crate) destination: Subnet,
    pub(crate) gateway: IpAddr,
    /// Of several routes to one destination the least is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) metric: Option<u32>,
}

impl StaticRoute {
    /// Podman's `DESTINATION,GATEWAY[,METRIC]`.
    ///
    /// # Errors
    /// `Invalid`, with what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        const FORM: &str = "the form is DESTINATION/PREFIX,GATEWAY[,METRIC]";
        let wrong =
            |what: &str, part: &str| Error::invalid(format!("invalid route {what} {part}")).hint(FORM);
        let parts: Vec<&str> = text.split(',').collect();
        let (&[destination, gateway], metric) = parts.split_at_checked(2).unwrap_or_default() else {
            return Err(Error::invalid(format!("invalid route: {text}")).hint(FORM));
        };
        if metric.len() > 1 {
            return Err(Error::invalid(format!("invalid route: {text}")).hint(FORM));
        }
        let route = Self {
            destination: Subnet::parse(destination).ok_or_else(|| wrong("destination", destination))?,
            gateway: gateway.parse().map_err(|_| wrong("gateway", gateway))?,
            metric: match metric {
                [text] => Some(text.parse().map_err(|_| wrong("metric", text))?),
                _ => None,
            },
        };
        if route.destination.is_ipv6() != route.gateway.is_ipv6() {
            return Err(Error::invalid(format!(
                "invalid route {text}: destination and gateway are of two families"
            )));
        }
        Ok(route)
    }

    /// # Errors
    /// `Invalid` where no container of the network could have it.
    pub(crate) fn check(&self, pools: &[Pool]) -> Result<()> {
        let Self { destination, gateway, .. } = self;
        if !pools.iter().any(|pool| pool.subnet.contains(*gateway)) {
            return Err(Error::invalid(format!("invalid route gateway {gateway}: it is not on the network"))
                .hint("a route leads to a neighbour: an address of one of the network's subnets"));
        }
        if let Some(pool) = pools.iter().find(|pool| pool.subnet == *destination) {
            return Err(Error::invalid(format!(
                "invalid route destination {}: it is the network's own subnet",
                pool.subnet
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes() {
        let route = StaticRoute::parse("10.9.0.7/16,10.5.0.7").expect("valid");
        assert_eq!(route.destination.to_string(), "10.9.0.0/16");
        assert_eq!((route.gateway.to_string().as_str(), route.metric), ("10.5.0.7", None));
        assert_eq!(StaticRoute::parse("fd09::/64,fd05::7,5").expect("valid").metric, Some(5));
        for bad in [
            "",
            "10.9.0.0/16",
            "10.9.0.0,10.5.0.7",
            "10.9.0.0/16,x",
            "10.9.0.0/16,10.5.0.7,x",
            "10.9.0.0/16,10.5.0.7,-1",
            "10.9.0.0/16,10.5.0.7,1,2",
            "10.9.0.0/16,fd05::7",
        ] {
            assert!(StaticRoute::parse(bad).is_err(), "{bad}");
        }
        let subnet = Subnet::parse("10.5.0.0/24").expect("a subnet");
        let pools = [Pool { subnet, gateway: subnet.nth(1).expect("an address"), range: None }];
        assert!(route.check(&pools).is_ok());
        for bad in ["10.9.0.0/16,10.6.0.7", "10.5.0.0/24,10.5.0.7"] {
            assert!(StaticRoute::parse(bad).expect("valid").check(&pools).is_err(), "{bad}");
        }
    }
}
