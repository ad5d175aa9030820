//! What can be changed of a network that is there: whom it asks for names.

use super::PREDEFINED;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::monitor::messages::{Change, Request};
use std::net::IpAddr;

/// Resolvers of a network.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResolverChange {
    pub(crate) add: Vec<IpAddr>,
    /// What is not there is no error, as with podman.
    pub(crate) drop: Vec<IpAddr>,
}

impl ResolverChange {
    /// What is left of `servers`, then what is new, each once.
    fn applied(&self, servers: &[IpAddr]) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> = Vec::new();
        for server in servers.iter().filter(|server| !self.drop.contains(server)).chain(&self.add) {
            if !all.contains(server) {
                all.push(*server);
            }
        }
        all
    }
}

impl Engine {
    /// Changes a network's resolvers, at once for the containers that are on it.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` where the network answers no names, or would ask itself.
    pub(crate) fn update_network(&self, word: &str, change: &ResolverChange) -> Result<()> {
        if PREDEFINED.contains(&word) {
            return Err(Error::invalid(format!("network {word} has no names of its own"))
                .hint("a container's resolvers are chosen by `coracle run --dns`"));
        }
        let networks = self.networks_kept()?;
        let network = networks.update(&networks.find(word)?.name, |network| {
            if !network.dns {
                return Err(Error::invalid(format!("network {} answers no names", network.name))
                    .hint("it was made with --disable-dns"));
            }
            network.dns_servers = change.applied(&network.dns_servers);
            Ok(())
        })?;
        for id in self.on_networks()? {
            let Ok(record) = self.store.record(&id) else { continue };
            if !record.config.networks.iter().any(|attachment| attachment.network == network.name) {
                continue;
            }
            // Each monitor: what it knows of the network is what the next holder hears.
            let request = Request::Networks(record.config.networks, Change::Differences);
            match self.tell_monitor(&id, &request) {
                // It has ended meanwhile: its next start reads what is kept.
                Err(error) if error.kind() == Kind::Conflict && self.store.live(&id)?.is_none() => {}
                result => result?,
            }
        }
        self.note_network("update", &network, None);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_kept_once_and_in_order() {
        let all = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().expect("an address")).collect()
        };
        let change = ResolverChange { add: all(&["9.9.9.9", "1.1.1.1"]), drop: all(&["8.8.8.8", "7.7.7.7"]) };
        let applied = change.applied(&all(&["8.8.8.8", "1.1.1.1", "fd00::1"]));
        assert_eq!(applied, all(&["1.1.1.1", "fd00::1", "9.9.9.9"]));
    }
}
