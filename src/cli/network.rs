//! `coracle network`.

mod update;

pub(crate) use update::{UpdateArgs, update};

use super::inspect;
use super::list_format::Listing;
use super::prune::{Report, confirmed};
use super::table::{self, Headings};
use super::volume::pairs;
use super::{exit, ui};
use crate::engine::Engine;
use crate::engine::networks::{NetworkFilters, NetworkRequest, Shown};
use crate::engine::remove::RemoveOptions;
use crate::error::{Error, Kind, Result};
use crate::state::networks::PoolWish;
use crate::types::address_range::Range;
use crate::types::env::parse_label;
use crate::types::network::{
    Attachment, BRIDGE_NAME, Subnet, checked_alias, checked_interface, parse_ip, parse_ip6, parse_mac,
};
use crate::types::static_route::StaticRoute;
use clap::Args;
use serde_json::{Value, json};
use std::net::IpAddr;

#[derive(Args, Debug, Default)]
pub(crate) struct CreateArgs {
    /// The driver: bridge is the only one
    #[arg(long, short = 'd', value_name = "DRIVER")]
    driver: Option<String>,
    /// The addresses of the network, for example 10.5.0.0/24; once for IPv4, once for IPv6
    #[arg(long, value_name = "SUBNET")]
    subnet: Vec<String>,
    /// The gateway's address in the subnet; the first where missing
    #[arg(long, value_name = "IP")]
    gateway: Vec<String>,
    /// The part of the subnet from which containers get addresses: a subnet, or FIRST-LAST
    #[arg(long, value_name = "RANGE")]
    ip_range: Vec<String>,
    /// Add an IPv6 subnet
    #[arg(long)]
    ipv6: bool,
    /// With =false no IPv4 subnet: the network is of IPv6 alone
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    ipv4: Option<bool>,
    /// Accepted: every container may be put on it in any case
    #[arg(long, hide = true)]
    attachable: bool,
    /// Who gives addresses: default, or podman's host-local, which is the same
    #[arg(long, value_name = "DRIVER", default_value = "default", hide_default_value = true)]
    ipam_driver: String,
    /// The name of the bridge
    #[arg(long, value_name = "NAME")]
    interface_name: Option<String>,
    /// No way out of the network, not even for names
    #[arg(long)]
    internal: bool,
    /// Set a label
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// An address that no container gets, and what it is for
    #[arg(long, value_name = "NAME=IP")]
    aux_address: Vec<String>,
    /// A route that each of its containers has: to a subnet, by a neighbour's address
    #[arg(long, value_name = "SUBNET,IP[,METRIC]")]
    route: Vec<String>,
    /// Set an option: mtu, enable_icc, metric, no_default_route, or docker's com.docker.network.driver.mtu and
    /// com.docker.network.bridge.name, .enable_icc, .host_binding_ipv4, and
    /// com.docker.network.container_iface_prefix
    #[arg(long = "opt", short = 'o', value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// Ask these resolvers for names that are no containers'
    #[arg(long, value_name = "IP")]
    dns: Vec<String>,
    /// Answer no names on the network
    #[arg(long)]
    disable_dns: bool,
    /// It is no error where there is a network of that name
    #[arg(long)]
    ignore: bool,
    #[arg(value_name = "NETWORK")]
    name: String,
}

/// Makes a network and prints its id.
///
/// # Errors
/// `Invalid` for bad input; `Conflict` where something is taken.
pub(crate) fn create(args: CreateArgs) -> Result<u8> {
    if let Some(driver) = args.driver.as_deref().filter(|driver| *driver != "bridge") {
        let hint = match driver {
            "macvlan" | "ipvlan" => {
                "its containers would be on an interface of the host, which only root can give them: a bridge is \
                 reached from outside by --publish"
            }
            _ => "the only driver is bridge",
        };
        return Err(Error::not_found(format!("plugin {driver:?} not found")).hint(hint));
    }
    if args.disable_dns && !args.dns.is_empty() {
        return Err(Error::invalid("conflicting options: --dns and --disable-dns")
            .hint("a network that answers no names asks nobody for them"));
    }
    if !matches!(args.ipam_driver.as_str(), "" | "default" | "host-local") {
        return Err(Error::invalid(format!("unsupported ipam driver {:?}", args.ipam_driver)).hint(
            "coracle leases the addresses of a network itself, which is `default`: no server and no plugin does",
        ));
    }
    let mut options = pairs(&args.options);
    if let Some(name) = &args.interface_name {
        options.insert(BRIDGE_NAME.to_owned(), name.clone());
    }
    let engine = Engine::open()?;
    if args.ignore {
        if let Ok(network) = engine.network(&args.name) {
            ui::line(&network.id)?;
            return Ok(0);
        }
    }
    let request = NetworkRequest {
        pools: pools(&args)?,
        internal: args.internal,
        no_dns: args.disable_dns,
        dns_servers: update::resolvers("--dns", &args.dns)?,
        reserved: args.aux_address.iter().map(|text| reserved(text)).collect::<Result<_>>()?,
        routes: args.route.iter().map(|text| StaticRoute::parse(text)).collect::<Result<_>>()?,
        labels: args.label.iter().map(|text| parse_label(text)).collect::<Result<_>>()?,
        options,
        name: args.name,
    };
    let network = engine.create_network(&request)?;
    if let Some(text) = Engine::hidden_by(&network) {
        ui::warning(&text);
    }
    ui::line(&network.id)?;
    Ok(0)
}

/// `--aux-address NAME=IP`.
fn reserved(text: &str) -> Result<(String, IpAddr)> {
    let wrong = || Error::invalid(format!("invalid aux-address: {text}")).hint("the form is NAME=IP");
    let (name, address) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
    Ok((name.to_owned(), address.parse().map_err(|_| wrong())?))
}

/// Each `--gateway` and `--ip-range` belongs to the subnet that it lies in.
fn pools(args: &CreateArgs) -> Result<Vec<PoolWish>> {
    let subnet = |text: &String| {
        Subnet::parse(text).ok_or_else(|| Error::invalid(format!("invalid CIDR address: {text}")))
    };
    let mut pools: Vec<PoolWish> = args
        .subnet
        .iter()
        .map(|text| {
            subnet(text).map(|subnet| PoolWish {
                subnet: Some(subnet),
                ipv6: subnet.is_ipv6(),
                ..PoolWish::default()
            })
        })
        .collect::<Result<_>>()?;
    let ipv4 = args.ipv4.unwrap_or(true);
    if !ipv4 && pools.iter().any(|pool| !pool.ipv6) {
        return Err(Error::invalid("conflicting options: --ipv4=false and a --subnet of IPv4"));
    }
    if !ipv4 && pools.is_empty() && !args.ipv6 {
        return Err(Error::invalid("IPv4 or IPv6 must be enabled").hint("give --ipv6 too"));
    }
    if pools.is_empty() && ipv4 {
        pools.push(PoolWish::default());
    }
    if args.ipv6 && !pools.iter().any(|pool| pool.ipv6) {
        pools.push(PoolWish { ipv6: true, ..PoolWish::default() });
    }
    for ipv6 in [false, true] {
        if pools.iter().filter(|pool| pool.ipv6 == ipv6).count() > 1 {
            let family = if ipv6 { "IPv6" } else { "IPv4" };
            return Err(Error::invalid(format!(
                "bridge driver doesn't support multiple subnets of {family}"
            )));
        }
    }
    for text in &args.gateway {
        let gateway: IpAddr =
            text.parse().map_err(|_| Error::invalid(format!("invalid gateway address: {text}")))?;
        let pool = pools.iter_mut().find(|pool| pool.subnet.is_some_and(|subnet| subnet.contains(gateway)));
        let pool = pool.filter(|pool| pool.gateway.is_none());
        pool.ok_or_else(|| Error::invalid(format!("no matching subnet for gateway {gateway}")))?.gateway =
            Some(gateway);
    }
    for text in &args.ip_range {
        let range = Range::parse(text)
            .ok_or_else(|| Error::invalid(format!("invalid CIDR address: {text}")).hint("or FIRST-LAST"))?;
        let pool =
            pools.iter_mut().find(|pool| pool.subnet.is_some_and(|subnet| subnet.contains(range.first)));
        let pool = pool.filter(|pool| pool.range.is_none());
        pool.ok_or_else(|| Error::invalid(format!("no matching subnet for range {range}")))?.range =
            Some(range);
    }
    Ok(pools)
}

#[derive(Args, Debug, Default)]
pub(crate) struct ListArgs {
    /// Show those for which KEY=VALUE holds: name, id, driver, label, until, dangling, scope, type
    #[arg(long, short = 'f', value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print with a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Print ids alone
    #[arg(long, short = 'q')]
    quiet: bool,
    /// Print no headings
    #[arg(long, short = 'n')]
    noheading: bool,
}

const LISTING: Listing = Listing {
    setting: "networksFormat",
    raw: "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
    raw_quiet: "network_id: {{.ID}}",
};

/// Lists networks.
///
/// # Errors
/// `Invalid` for wrong filters and templates.
pub(crate) fn list(mut args: ListArgs) -> Result<u8> {
    let format = LISTING.format(&mut args.format, args.quiet)?;
    let mut notes = Vec::new();
    let networks = Engine::open()?.networks(&NetworkFilters::parse(&args.filter)?, &mut notes)?;
    ui::warnings(&notes);
    let rows: Vec<_> =
        networks.iter().map(|network| (row(network, args.no_trunc), &network.labels)).collect();
    if args.quiet && format.is_none() {
        let ids: String =
            rows.iter().filter_map(|(row, _)| row["ID"].as_str()).map(|id| format!("{id}\n")).collect();
        ui::write(ids.as_bytes())?;
        return Ok(0);
    }
    let headings = json!({
        "ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "CreatedAt": "CREATED AT",
        "IPv4": "IPV4", "IPv6": "IPV6", "Internal": "INTERNAL", "Labels": "LABELS",
    });
    let headings = Headings { texts: &headings, left_out: args.noheading };
    let columns = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";
    ui::write(table::render(&rows, format.as_ref(), columns, &headings)?.as_bytes())?;
    Ok(0)
}

/// As `ps` and `images` show it.
fn when(time: &jiff::Timestamp) -> String {
    time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// What a template sees of one network.
fn row(network: &Shown, whole: bool) -> Value {
    let labels: Vec<String> = network.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let id = if whole { network.id.as_str() } else { network.id.get(..12).unwrap_or(&network.id) };
    let mut row = json!({
        "ID": id, "Name": network.name, "Driver": network.driver, "Scope": "local",
        "CreatedAt": network.created.map(|created| when(&created)).unwrap_or_default(),
        "IPv4": network.ipv4.to_string(), "IPv6": network.ipv6.to_string(), "Internal": network.internal.to_string(),
        "Labels": labels.join(","),
        "Created": network.created.map(|created| when(&created)).unwrap_or_default(), "Options": network.options,
    });
    if let Value::Object(row) = &mut row {
        row.extend(network.podman.clone());
    }
    row
}

#[derive(Args, Debug, Default)]
pub(crate) struct InspectArgs {
    /// Print with a Go template or `json`
    #[arg(long, short = 'f', value_name = "FORMAT")]
    format: Option<String>,
    /// Accepted: all there is is shown in any case
    #[arg(long, short = 'v')]
    verbose: bool,
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
}

/// Shows everything about networks: what was found is printed, what was not is
/// an error.
///
/// # Errors
/// `Invalid` for a wrong template.
pub(crate) fn inspect(args: InspectArgs) -> Result<u8> {
    inspect::each(&args.networks, args.format.as_deref(), Engine::network_document)
}

#[derive(Args, Debug, Default)]
pub(crate) struct RemoveArgs {
    /// Remove the containers on it first, and do not complain about what does not exist
    #[arg(long, short = 'f')]
    force: bool,
    /// Seconds to stop those containers in before they are killed
    #[arg(long, short = 't', value_name = "SECONDS", requires = "force", allow_negative_numbers = true)]
    time: Option<i64>,
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
}

/// Removes networks: each that can be.
///
/// # Errors
/// Where the engine cannot be opened.
pub(crate) fn remove(args: RemoveArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let force =
        args.force.then(|| RemoveOptions { force: true, time: args.time, ..RemoveOptions::default() });
    let mut failures = Vec::new();
    for name in &args.networks {
        match engine.remove_network(name, force.as_ref()) {
            Ok(_) => ui::line(name)?,
            Err(error) if args.force && error.kind() == Kind::NotFound => {}
            Err(error) => failures.push(error),
        }
    }
    Ok(exit::after(&failures))
}

#[derive(Args, Debug, Default)]
pub(crate) struct PruneArgs {
    /// Remove those for which KEY=VALUE holds: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(long, short = 'f')]
    force: bool,
}

/// Removes the networks that no container is on.
///
/// # Errors
/// `Invalid` for wrong filters.
pub(crate) fn prune(args: PruneArgs) -> Result<u8> {
    let filters = NetworkFilters::for_prune(&args.filter)?;
    if !args.force
        && !confirmed("WARNING! This will remove all custom networks not used by at least one container.")?
    {
        return Ok(0);
    }
    let mut report = Report::default();
    report.networks(&Engine::open()?, &filters)?;
    Ok(report.code)
}

#[derive(Args, Debug, Default)]
pub(crate) struct ExistsArgs {
    #[arg(value_name = "NETWORK")]
    network: String,
}

/// 0 where there is a network of that name, 1 where there is none.
///
/// # Errors
/// Where that cannot be found out.
pub(crate) fn exists(args: ExistsArgs) -> Result<u8> {
    match Engine::open()?.network_document(&args.network) {
        Ok(_) => Ok(0),
        Err(error) if error.kind() == Kind::NotFound => Ok(1),
        Err(error) => Err(error),
    }
}

#[derive(Args, Debug, Default)]
pub(crate) struct ConnectArgs {
    /// A further name of the container on the network
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// An IPv4 address of the network
    #[arg(long, value_name = "IP")]
    ip: Option<String>,
    /// An IPv6 address of the network
    #[arg(long, value_name = "IP")]
    ip6: Option<String>,
    /// The Ethernet address
    #[arg(long, value_name = "MAC")]
    mac_address: Option<String>,
    /// The name of the interface in the container
    #[arg(long, value_name = "NAME")]
    interface_name: Option<String>,
    /// Call another container of the network by another name there
    #[arg(long, value_name = "CONTAINER[:NAME]")]
    link: Vec<String>,
    /// An address of the link: of 169.254.0.0/16 or fe80::/10
    #[arg(long, value_name = "IP")]
    link_local_ip: Vec<String>,
    /// Docker's options of the interface: com.docker.network.endpoint.ifname, .sysctls
    #[arg(long, value_name = "KEY=VALUE")]
    driver_opt: Vec<String>,
    /// Of several networks the one with the highest leads out
    #[arg(long, value_name = "NUMBER", default_value_t = 0, allow_negative_numbers = true)]
    gw_priority: i32,
    #[arg(value_name = "NETWORK")]
    network: String,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Puts a container on a network.
///
/// # Errors
/// `NotFound`, `Conflict`.
pub(crate) fn connect(args: ConnectArgs) -> Result<u8> {
    let mut attachment = Attachment {
        network: args.network,
        aliases: args.alias.iter().map(|alias| checked_alias(alias)).collect::<Result<_>>()?,
        ip: args.ip.as_deref().map(|ip| parse_ip("--ip", ip)).transpose()?,
        ip6: args.ip6.as_deref().map(|ip| parse_ip6("--ip6", ip)).transpose()?,
        mac: args.mac_address.as_deref().map(parse_mac).transpose()?,
        interface: args.interface_name.as_deref().map(checked_interface).transpose()?,
        gw_priority: args.gw_priority,
        ..Attachment::default()
    };
    args.link.iter().try_for_each(|text| attachment.add_link(text))?;
    args.link_local_ip.iter().try_for_each(|text| attachment.add_link_local(text))?;
    args.driver_opt.iter().try_for_each(|text| attachment.add_driver_option(text))?;
    let engine = Engine::open()?;
    let id = engine.resolve(&args.container)?;
    engine.connect_network(&id, attachment)?;
    Ok(0)
}

#[derive(Args, Debug, Default)]
pub(crate) struct ReloadArgs {
    /// All running containers that are on networks
    #[arg(long, short = 'a')]
    all: bool,
    /// The one that was made last
    #[arg(long, short = 'l', conflicts_with = "all")]
    latest: bool,
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["all", "latest"], conflicts_with_all = ["all", "latest"])]
    containers: Vec<String>,
}

/// Makes the interfaces of running containers anew; prints the ids.
///
/// # Errors
/// Where the engine cannot be opened.
pub(crate) fn reload(args: ReloadArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let ids = if args.all {
        engine.on_networks()?
    } else if args.latest {
        vec![engine.latest()?]
    } else {
        args.containers.iter().map(|word| engine.resolve(word)).collect::<Result<_>>()?
    };
    let mut failures = Vec::new();
    for id in ids {
        match engine.reload_networks(&id) {
            Ok(()) => ui::line(id.as_str())?,
            Err(error) => failures.push(error),
        }
    }
    Ok(exit::after(&failures))
}

#[derive(Args, Debug, Default)]
pub(crate) struct DisconnectArgs {
    /// Accepted: the end of a connection is never refused
    #[arg(long, short = 'f')]
    force: bool,
    #[arg(value_name = "NETWORK")]
    network: String,
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Takes a container off a network.
///
/// # Errors
/// `NotFound`, `Conflict`.
pub(crate) fn disconnect(args: DisconnectArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let id = engine.resolve(&args.container)?;
    engine.disconnect_network(&id, &args.network)?;
    Ok(0)
}
