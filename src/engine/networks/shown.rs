//! Which networks a list has, and what it shows of them.

use crate::engine::list::Pattern;
use crate::engine::logs::moment;
use crate::error::Result;
use crate::types::filter::{self, LabelFilter};
use crate::types::network::{DEFAULT, Network, Pool};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Which networks.
#[derive(Clone, Debug, Default)]
pub(crate) struct NetworkFilters {
    names: Vec<Pattern>,
    ids: Vec<String>,
    drivers: Vec<String>,
    labels: Vec<LabelFilter>,
    until: Option<Timestamp>,
    dangling: Option<bool>,
    custom: Option<bool>,
}

impl NetworkFilters {
    /// Docker's of `network ls`.
    ///
    /// # Errors
    /// `Invalid` for an unknown filter.
    pub(crate) fn parse(filters: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        for (key, value) in filter::split_all(filters)? {
            match key.as_str() {
                "name" => parsed.names.push(Pattern::parse(value)?),
                "id" => parsed.ids.push(value.to_owned()),
                "driver" => parsed.drivers.push(value.to_owned()),
                "label" => parsed.labels.push(LabelFilter::new(value, true)),
                "label!" => parsed.labels.push(LabelFilter::new(value, false)),
                "until" => parsed.until = Some(moment::parse(value, Timestamp::now(), TimeZone::system)?),
                "dangling" => parsed.dangling = Some(filter::boolean("dangling", value)?),
                "scope" if value == "local" => {}
                "type" if matches!(value, "custom" | "builtin") => parsed.custom = Some(value == "custom"),
                "scope" | "type" => return Err(filter::bad_value(&key, value)),
                _ => {
                    let known = "name, id, driver, label, label!, until, dangling, scope and type";
                    return Err(filter::unknown(&key, known));
                }
            }
        }
        Ok(parsed)
    }

    /// Those of `network prune`.
    ///
    /// # Errors
    /// `Invalid` for others: docker's are `label`, `label!` and `until`.
    pub(crate) fn for_prune(filters: &[String]) -> Result<Self> {
        for (key, _) in filter::split_all(filters)? {
            if !matches!(key.as_str(), "label" | "label!" | "until") {
                return Err(filter::unknown(&key, "label, label! and until"));
            }
        }
        Self::parse(filters)
    }

    pub(super) fn admits(&self, network: &Shown, is_used: bool) -> bool {
        (self.names.is_empty() || self.names.iter().any(|name| name.matches(&network.name)))
            && (self.ids.is_empty() || self.ids.iter().any(|id| network.id.starts_with(id.as_str())))
            && (self.drivers.is_empty() || self.drivers.iter().any(|driver| driver == network.driver))
            && self.labels.iter().all(|label| label.holds(&network.labels))
            && self.until.is_none_or(|until| network.created.is_some_and(|created| created <= until))
            && self.dangling.is_none_or(|dangling| dangling == (!is_used && network.is_custom()))
            && self.custom.is_none_or(|custom| custom == network.is_custom())
    }
}

/// A network as a list shows it, `host` and `none` included.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) driver: &'static str,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) created: Option<Timestamp>,
    pub(crate) internal: bool,
    pub(crate) ipv4: bool,
    pub(crate) ipv6: bool,
    /// What podman's templates have besides, by their names.
    pub(crate) podman: Map<String, Value>,
}

/// What podman's templates have of a network that docker's document has not.
pub(super) fn podman_fields(network: &Network) -> Map<String, Value> {
    let subnet = |pool: &Pool| {
        let mut subnet = json!({"Subnet": pool.subnet.to_string(), "Gateway": pool.gateway.to_string()});
        if let Some(range) = pool.range {
            subnet["LeaseRange"] = range.to_string().into();
        }
        subnet
    };
    fields(json!({
        "NetworkInterface": network.bridge(), "Subnets": network.pools.iter().map(subnet).collect::<Vec<_>>(),
        "Routes": network.routes, "IPv6Enabled": network.has_ipv6(), "DNSEnabled": network.dns,
        "NetworkDNSServers": network.dns_servers, "IPAMOptions": {"driver": "host-local"},
    }))
}

/// Those of a network that is there without being made.
pub(super) fn podman_fields_of_fixed() -> Map<String, Value> {
    fields(json!({
        "NetworkInterface": "", "Subnets": [], "Routes": [], "IPv6Enabled": false, "DNSEnabled": false,
        "NetworkDNSServers": [], "IPAMOptions": {},
    }))
}

fn fields(value: Value) -> Map<String, Value> {
    if let Value::Object(fields) = value { fields } else { Map::new() }
}

impl Shown {
    pub(super) fn is_custom(&self) -> bool {
        !matches!(self.name.as_str(), DEFAULT | "host" | "none")
    }

    /// Networks that are there without being made.
    pub(super) fn fixed(name: &str, driver: &'static str, digit: &str) -> Self {
        Self {
            id: digit.repeat(64),
            name: name.into(),
            driver,
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
            created: None,
            internal: false,
            ipv4: true,
            ipv6: false,
            podman: podman_fields_of_fixed(),
        }
    }
}

impl From<&Network> for Shown {
    fn from(network: &Network) -> Self {
        Self {
            id: network.id.clone(),
            name: network.name.clone(),
            driver: "bridge",
            labels: network.labels.clone(),
            options: network.options.clone(),
            created: Some(network.created),
            internal: network.internal,
            ipv4: network.has_ipv4(),
            ipv6: network.has_ipv6(),
            podman: podman_fields(network),
        }
    }
}
