//! `coracle network update`.

use crate::engine::Engine;
use crate::engine::networks::ResolverChange;
use crate::error::{Error, Result};
use clap::Args;
use std::net::IpAddr;

#[derive(Args, Debug, Default)]
pub(crate) struct UpdateArgs {
    /// Ask this resolver too for names that are no containers'
    #[arg(long, value_name = "IP")]
    dns_add: Vec<String>,
    /// Do not ask this resolver any more
    #[arg(long, value_name = "IP")]
    dns_drop: Vec<String>,
    #[arg(value_name = "NETWORK")]
    network: String,
}

/// Changes whom a network asks for names, for the containers that run too.
///
/// # Errors
/// `NotFound` where there is no such network; `Invalid` for what is no address.
pub(crate) fn update(args: UpdateArgs) -> Result<u8> {
    let change = ResolverChange {
        add: resolvers("--dns-add", &args.dns_add)?,
        drop: resolvers("--dns-drop", &args.dns_drop)?,
    };
    if change.add.is_empty() && change.drop.is_empty() {
        return Err(Error::invalid(format!("network {}: nothing is to be changed", args.network))
            .hint("give --dns-add IP or --dns-drop IP"));
    }
    Engine::open()?.update_network(&args.network, &change)?;
    Ok(0)
}

/// Addresses, each flag several with commas between them.
pub(super) fn resolvers(flag: &str, texts: &[String]) -> Result<Vec<IpAddr>> {
    let each = texts.iter().flat_map(|text| text.split(','));
    each.map(|text| text.parse().map_err(|_| Error::invalid(format!("{flag} {text:?} is not an IP address"))))
        .collect()
}
