//! `--network`, `--pid`, `--ipc`, `--uts`, `--userns`, `--uidmap`, `--gidmap`.

use super::ContainerOptions;
use crate::error::{Error, Result};
use crate::types::container::ContainerConfig;
use crate::types::idmap::{IdMap, IdRange};
use crate::types::namespace::{IpcMode, NamespaceMode, NetworkMode, UsernsMode};
use crate::types::port::{Publish, check_duplicates};

/// Ranges of one map: user_namespaces(7), "Defining user and group ID mappings".
const MAX_RANGES: usize = 340;

/// Fills in the namespaces that the flags ask for.
///
/// # Errors
/// `Invalid`, naming the flag.
pub(super) fn apply(options: &ContainerOptions, config: &mut ContainerConfig) -> Result<()> {
    super::networks::apply(options, config)?;
    apply_ports(options, config)?;
    check_names(config)?;
    if let Some(mode) = &options.pid {
        config.pid = NamespaceMode::parse("--pid", mode)?;
    }
    if let Some(mode) = &options.uts {
        config.uts = NamespaceMode::parse("--uts", mode)?;
    }
    if let Some(mode) = &options.ipc {
        config.ipc = IpcMode::parse(mode)?;
    }
    if let Some(mode) = &options.userns {
        config.userns = UsernsMode::parse(mode)?;
    }
    apply_maps(options, config)?;
    if config.uts != NamespaceMode::Private && options.hostname.as_ref().is_some_and(|name| !name.is_empty())
    {
        return Err(Error::invalid("--hostname needs a UTS namespace of the container's own")
            .hint("leave out --uts or --hostname"));
    }
    Ok(())
}

/// Docker's and podman's words for what a network without a resolver of its own,
/// or with another container's files, cannot have.
fn check_names(config: &ContainerConfig) -> Result<()> {
    let conflict =
        |what: &str| Err(Error::invalid(format!("conflicting options: {what} and the network mode")));
    let resolver = !config.dns.is_empty() || !config.dns_search.is_empty() || !config.dns_options.is_empty();
    if config.dns.iter().any(|server| server == "none")
        && (config.dns.len() > 1 || !config.dns_search.is_empty() || !config.dns_options.is_empty())
    {
        return Err(Error::invalid(
            "--dns none cannot be used together with other --dns, --dns-search, --dns-option",
        ));
    }
    let gateway = config.add_hosts.iter().find(|(_, address)| address == "host-gateway");
    match &config.network {
        NetworkMode::Container(_) if resolver => conflict("dns"),
        NetworkMode::Container(_) if !config.add_hosts.is_empty() => conflict("custom host-to-IP mapping"),
        // As with docker, what stands in resolv.conf may be chosen where nothing is reached.
        NetworkMode::None => match gateway {
            Some((name, _)) => Err(Error::invalid(format!(
                "--add-host {name}:host-gateway: the host is not reached with --network none"
            ))),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn apply_maps(options: &ContainerOptions, config: &mut ContainerConfig) -> Result<()> {
    config.uid_map = parse_map("--uidmap", &options.uidmap)?;
    config.gid_map = parse_map("--gidmap", &options.gidmap)?;
    let given = !options.uidmap.is_empty() || !options.gidmap.is_empty();
    if given && options.userns.is_some() {
        return Err(Error::invalid("--userns cannot be used together with --uidmap or --gidmap"));
    }
    // As podman: one map alone stands for both.
    if options.gidmap.is_empty() {
        config.gid_map = config.uid_map.clone();
    } else if options.uidmap.is_empty() {
        config.uid_map = config.gid_map.clone();
    }
    Ok(())
}

fn parse_map(flag: &str, texts: &[String]) -> Result<IdMap> {
    if texts.len() > MAX_RANGES {
        return Err(Error::invalid(format!("{flag} was given more than {MAX_RANGES} times")));
    }
    let parse = |text: &String| IdRange::parse(text).map_err(|error| error.context(flag));
    let ranges = texts.iter().map(parse).collect::<Result<Vec<_>>>()?;
    for (index, range) in ranges.iter().enumerate() {
        let (inside, outside) = (range.inside_end(), range.outside_end());
        let overlaps = |other: &&IdRange| {
            u64::from(other.inside) < inside && u64::from(range.inside) < other.inside_end()
                || u64::from(other.outside) < outside && u64::from(range.outside) < other.outside_end()
        };
        if let Some(other) = ranges[..index].iter().find(overlaps) {
            return Err(Error::invalid(format!(
                "{flag}: {}:{}:{} and {}:{}:{} overlap",
                other.inside, other.outside, other.length, range.inside, range.outside, range.length
            )));
        }
    }
    Ok(IdMap(ranges))
}

/// `-p`, `-P`.
fn apply_ports(options: &ContainerOptions, config: &mut ContainerConfig) -> Result<()> {
    let published = options.publish.iter().map(|text| Publish::parse(text));
    config.publish = published.collect::<Result<Vec<_>>>()?.concat();
    config.publish_all = options.publish_all;
    check_duplicates(&config.publish)?;
    config.network.check_ports(!config.publish.is_empty() || config.publish_all)?;
    if matches!(config.network, NetworkMode::Container(_)) && !options.expose.is_empty() {
        return Err(Error::invalid("conflicting options: port exposing and the container type network mode")
            .hint("expose them at the container whose network it is"));
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn applied(change: impl FnOnce(&mut ContainerOptions)) -> Result<ContainerConfig> {
        let mut options = ContainerOptions::default();
        change(&mut options);
        let mut config = ContainerConfig::default();
        apply(&options, &mut config).map(|()| config)
    }

    #[test]
    fn one_map_stands_for_both() {
        let config = applied(|o| o.uidmap = vec!["0:1:10".into(), "10:0".into()]).expect("valid");
        assert_eq!(config.uid_map.count(), 11);
        assert_eq!(config.gid_map, config.uid_map);
        for bad in [["0:1:10", "9:20:1"], ["0:1:10", "20:10:1"], ["0:1", "x"]] {
            assert!(applied(|o| o.gidmap = bad.map(String::from).to_vec()).is_err(), "{bad:?}");
        }
        assert!(
            applied(|o| {
                o.uidmap = vec!["0:0:1".into()];
                o.userns = Some("keep-id".into());
            })
            .is_err()
        );
    }

    #[test]
    fn ports_need_a_network_of_the_container_s_own() {
        let publish = |network: &str, port: &str| {
            applied(|o| {
                o.network = vec![network.into()];
                o.publish = vec![port.into()];
            })
        };
        assert_eq!(publish("slirp4netns", "8000-8002:80-82").expect("valid").publish.len(), 3);
        assert!(publish("host", "80:80").is_ok() && publish("none", "80:80").is_ok());
        for network in ["container:x", "ns:/run/netns/x"] {
            let error = publish(network, "80:80").expect_err(network);
            assert!(error.to_string().starts_with("conflicting options: port publishing"), "{error}");
            let all = |o: &mut ContainerOptions| {
                o.network = vec![network.into()];
                o.publish_all = true;
            };
            assert!(applied(all).is_err(), "{network}");
        }
        assert!(publish("default", "x").is_err());
        let twice = applied(|o| o.publish = vec!["80:80".into(), "80:81".into()]).expect_err("a clash");
        assert_eq!(twice.to_string(), "Bind for 0.0.0.0:80 failed: port is already allocated");
    }

    #[test]
    fn names_that_the_network_mode_cannot_have() {
        let named = |mode: &str, change: fn(&mut ContainerConfig)| {
            let mut config =
                ContainerConfig { network: NetworkMode::parse(mode).expect("a mode"), ..Default::default() };
            change(&mut config);
            check_names(&config).map_err(|error| error.to_string())
        };
        let dns: fn(&mut ContainerConfig) = |config| config.dns = vec!["9.9.9.9".into()];
        let gateway: fn(&mut ContainerConfig) =
            |config| config.add_hosts = vec![("h".into(), "host-gateway".into())];
        let error = named("container:x", dns).expect_err("not its own");
        assert_eq!(error, "conflicting options: dns and the network mode");
        assert!(named("none", dns).is_ok());
        for mode in ["none", "container:x"] {
            assert!(named(mode, gateway).is_err(), "{mode}");
        }
        for mode in ["host", "default", "slirp4netns", "pasta", "builtin"] {
            assert!(named(mode, dns).is_ok() && named(mode, gateway).is_ok(), "{mode}");
        }
        let both: fn(&mut ContainerConfig) = |config| config.dns = vec!["none".into(), "9.9.9.9".into()];
        assert!(named("default", both).is_err());
    }

    #[test]
    fn a_joined_uts_namespace_has_its_host_name() {
        assert!(applied(|o| o.uts = Some("host".into())).is_ok());
        assert!(
            applied(|o| {
                o.uts = Some("host".into());
                o.hostname = Some("x".into());
            })
            .is_err()
        );
        assert!(applied(|o| o.network = vec!["none".into(), "host".into()]).is_err());
    }
}
