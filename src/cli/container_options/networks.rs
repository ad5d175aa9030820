//! `--network` and what belongs to it: `--ip`, `--ip6`, `--mac-address`,
//! `--network-alias`, `--link`.

use super::ContainerOptions;
use crate::error::{Error, Result};
use crate::types::container::ContainerConfig;
use crate::types::endpoint_options::parse_link;
use crate::types::namespace::NetworkMode;
use crate::types::network::{Attachment, DEFAULT, RESERVED, checked_alias, parse_ip, parse_ip6, parse_mac};

/// Fills in the networks that the flags ask for.
///
/// # Errors
/// `Invalid`, naming the flag.
pub(super) fn apply(options: &ContainerOptions, config: &mut ContainerConfig) -> Result<()> {
    let is_mode = |text: &&String| {
        let word = text.split(':').next().unwrap_or_default();
        word.is_empty() || RESERVED.contains(&word)
    };
    let given: Vec<String> = options.network.iter().flat_map(|text| several(text)).collect();
    let (modes, names): (Vec<&String>, Vec<&String>) = given.iter().partition(is_mode);
    match (modes.as_slice(), names.is_empty()) {
        // Docker's default network is one: what belongs to a network asks for it.
        ([], true) if options.mac_address.is_some() || !options.link.is_empty() => {
            config.network = NetworkMode::Bridge;
            config.networks = vec![Attachment::parse(DEFAULT)?];
        }
        ([], true) => config.network = NetworkMode::default(),
        ([mode], true) => config.network = NetworkMode::parse(mode)?,
        ([], false) => {
            config.network = NetworkMode::Bridge;
            config.networks = names.into_iter().map(|text| Attachment::parse(text)).collect::<Result<_>>()?;
        }
        ([mode, ..], _) => {
            return Err(Error::invalid(format!(
                "conflicting options: --network {mode} and another --network"
            ))
            .hint("several networks are possible where all are networks of `coracle network ls`"));
        }
    }
    apply_details(options, config)
}

/// Podman's `NAME,NAME`: where commas are between names, and not between options.
fn several(text: &str) -> Vec<String> {
    if text.contains([':', '=']) {
        return vec![text.to_owned()];
    }
    text.split(',').map(str::to_owned).collect()
}

/// What a container has no say in that has another's network, and how docker puts it.
const OF_ANOTHER: &[(&str, &str)] = &[
    (
        "--link",
        "conflicting options: container type network can't be used with links. This would result in undefined behavior",
    ),
    ("--mac-address", "conflicting options: mac-address and the network mode"),
    ("--network-alias", "network-scoped alias is supported only for containers in user defined networks"),
    ("--ip", "user specified IP address is supported on user defined networks only"),
    ("--ip6", "user specified IP address is supported on user defined networks only"),
    ("--link-local-ip", "user specified IP address is supported on user defined networks only"),
];

fn apply_details(options: &ContainerOptions, config: &mut ContainerConfig) -> Result<()> {
    let given = [
        ("--ip", options.ip.is_some()),
        ("--ip6", options.ip6.is_some()),
        ("--mac-address", options.mac_address.is_some()),
        ("--network-alias", !options.network_alias.is_empty()),
        ("--link", !options.link.is_empty()),
        ("--link-local-ip", !options.link_local_ip.is_empty()),
    ];
    let is_given = |flag: &str| given.iter().any(|(name, given)| *name == flag && *given);
    if matches!(config.network, NetworkMode::Container(_)) {
        // Docker's words: what they are about is the other container's.
        for (flag, said) in OF_ANOTHER {
            if is_given(flag) {
                return Err(Error::invalid(*said).hint("give it to the container whose network it is"));
            }
        }
    }
    let Some(first) = config.networks.first_mut() else {
        return match given.iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(Error::invalid(format!(
                "{flag}: it is supported on networks of `coracle network ls` only"
            ))
            .hint("give --network NAME too, for example --network bridge")),
            None => Ok(()),
        };
    };
    let twice = [
        (first.ip.is_some() && options.ip.is_some(), "--ip", "IPv4"),
        (first.ip6.is_some() && options.ip6.is_some(), "--ip6", "IPv6"),
        (first.mac.is_some() && options.mac_address.is_some(), "--mac-address", "MAC"),
    ];
    if let Some((_, flag, what)) = twice.iter().find(|(twice, ..)| *twice) {
        return Err(Error::invalid(format!(
            "conflicting options: cannot specify both {flag} and per-network {what} address"
        )));
    }
    first.ip = first.ip.or(options.ip.as_deref().map(|ip| parse_ip("--ip", ip)).transpose()?);
    first.ip6 = first.ip6.or(options.ip6.as_deref().map(|ip| parse_ip6("--ip6", ip)).transpose()?);
    first.mac = first.mac.or(options.mac_address.as_deref().map(parse_mac).transpose()?);
    options.link_local_ip.iter().try_for_each(|text| first.add_link_local(text))?;
    for alias in &options.network_alias {
        let alias = checked_alias(alias)?;
        config.networks.iter_mut().for_each(|network| network.aliases.push(alias.clone()));
    }
    for link in &options.link {
        config.links.push(parse_link(link)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::namespaces::tests::applied;
    use super::*;

    #[test]
    fn modes_and_networks() {
        let both = applied(|o| o.network = vec!["a:ip=10.0.0.2".into(), "b".into()]).expect("valid");
        assert_eq!(both.network, NetworkMode::Bridge);
        assert_eq!(both.networks.len(), 2);
        let both = applied(|o| o.network = vec!["a,b".into(), "c".into()]).expect("valid");
        assert_eq!(both.networks.iter().map(|one| one.network.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(applied(|o| o.network = vec!["a,host".into()]).is_err());
        assert!(applied(|o| o.network = vec!["a,".into()]).is_err());
        assert_eq!(applied(|_| {}).expect("valid").network, NetworkMode::Default);
        assert_eq!(applied(|o| o.network = vec!["none".into()]).expect("valid").network, NetworkMode::None);
        for bad in [["none", "host"], ["a", "none"], ["host", "a"]] {
            assert!(applied(|o| o.network = bad.map(String::from).to_vec()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn who_has_another_s_network_has_no_say_in_it() {
        let refused = |change: fn(&mut ContainerOptions)| {
            let applied = applied(|o| {
                o.network = vec!["container:x".into()];
                change(o);
            });
            applied.expect_err("refused").to_string()
        };
        let mac = refused(|o| o.mac_address = Some("02:00:00:00:00:01".into()));
        assert_eq!(mac, "conflicting options: mac-address and the network mode");
        assert!(refused(|o| o.network_alias = vec!["x".into()]).starts_with("network-scoped alias"));
        assert!(refused(|o| o.link = vec!["x".into()]).contains("can't be used with links"));
        assert!(refused(|o| o.ip = Some("10.0.0.2".into())).starts_with("user specified IP address"));
    }

    #[test]
    fn details_need_a_network() {
        assert!(applied(|o| o.ip = Some("10.0.0.2".into())).is_err());
        assert!(
            applied(|o| {
                o.network = vec!["default".into()];
                o.link = vec!["db".into()];
            })
            .is_err()
        );
        let linked = applied(|o| o.link = vec!["db".into()]).expect("valid");
        let placed = applied(|o| o.mac_address = Some("02:00:00:00:00:01".into())).expect("valid");
        for config in [linked, placed] {
            assert_eq!((config.network, config.networks[0].network.as_str()), (NetworkMode::Bridge, DEFAULT));
        }
        let config = applied(|o| {
            o.network = vec!["a".into(), "b".into()];
            o.ip = Some("10.0.0.2".into());
            o.network_alias = vec!["x".into()];
            o.link = vec!["db:database".into(), "web".into()];
        })
        .expect("valid");
        assert!(config.networks[0].ip.is_some() && config.networks[1].ip.is_none());
        assert!(config.networks.iter().all(|network| network.aliases == ["x"]));
        for (network, ip, mac) in [
            ("a:ip=10.0.0.3", Some("10.0.0.2"), None),
            ("a:mac=02:00:00:00:00:01", None, Some("02:00:00:00:00:02")),
        ] {
            let both = applied(|o| {
                o.network = vec![network.into()];
                o.ip = ip.map(String::from);
                o.mac_address = mac.map(String::from);
            });
            assert!(both.expect_err("both").to_string().contains("cannot specify both"), "{network}");
        }
        assert_eq!(config.links[0], ("db".to_owned(), "database".to_owned()));
        for bad in ["", ":x", "db:a b"] {
            assert!(
                applied(|o| {
                    o.network = vec!["a".into()];
                    o.link = vec![bad.into()];
                })
                .is_err(),
                "{bad:?}"
            );
        }
    }
}
