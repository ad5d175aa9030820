//! `coracle pod create`.

use crate::cli::container_options::{ContainerOptions, Host, ResourceOptions, Words};
use crate::cli::{progress, ui};
use crate::engine::Engine;
use crate::engine::pods::create::PodRequest;
use crate::error::{Error, Result};
use crate::types::boolean;
use crate::types::container::ContainerConfig;
use crate::types::id::check_name;
use crate::types::limits::Limits;
use crate::types::namespace::{NetworkMode, UsernsMode};
use crate::types::pod::{ExitPolicy, PodDefaults, Share};
use clap::Args;
use std::collections::BTreeSet;

#[derive(Args, Debug, Default)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    resources: ResourceOptions,
    /// Add a line to /etc/hosts
    #[arg(long, value_name = "NAME:IP")]
    add_host: Vec<String>,
    /// Lie below this control group: a slice where systemd manages them
    #[arg(long, value_name = "GROUP")]
    cgroup_parent: Option<String>,
    /// Make a device of the host available to each container
    #[arg(long, value_name = "DEVICE[:PATH][:rwm]")]
    device: Vec<String>,
    /// Use these name servers
    #[arg(long, value_name = "IP")]
    dns: Vec<String>,
    /// Set options of the resolver
    #[arg(long, alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Search these domains
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// When its last container has ended, keep what they share (continue) or end it too (stop)
    #[arg(long, value_name = "POLICY")]
    exit_policy: Option<String>,
    /// Map group ids of the containers to ids of your outer namespace
    #[arg(long, value_name = "INSIDE:OUTSIDE[:LENGTH]")]
    gidmap: Vec<String>,
    /// Set the host name: the pod's name where missing
    #[arg(long, short = 'h', value_name = "NAME")]
    hostname: Option<String>,
    /// Have a container that holds what is shared
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    infra: Option<String>,
    /// Give that container a name
    #[arg(long, value_name = "NAME")]
    infra_name: Option<String>,
    /// Choose the IPv4 address on the network
    #[arg(long, value_name = "IP")]
    ip: Option<String>,
    /// Choose the IPv6 address on the network
    #[arg(long, value_name = "IP")]
    ip6: Option<String>,
    /// Set a label
    #[arg(long, short = 'l', value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    label_file: Vec<String>,
    /// Choose the Ethernet address on the network
    #[arg(long, value_name = "MAC")]
    mac_address: Option<String>,
    /// Give the pod a name
    #[arg(long, short = 'n', value_name = "NAME")]
    name: Option<String>,
    /// Choose the network, as of run
    #[arg(long, alias = "net", value_name = "MODE")]
    network: Vec<String>,
    /// Add a name of the pod on its networks
    #[arg(long, alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,
    /// Leave /etc/hosts as the images have it
    #[arg(long)]
    no_hosts: bool,
    /// Write the pod's id to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    pod_id_file: Option<String>,
    /// Publish a port of the pod on the host, as of run
    #[arg(long, short = 'p', value_name = "[[IP:]HOST:]CONTAINER[/PROTOCOL]")]
    publish: Vec<String>,
    /// Remove a pod that has the name already
    #[arg(long)]
    replace: bool,
    /// Restart the containers that end and say nothing of it themselves: no, on-failure, on-failure:TIMES, always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    /// Set a security option for each container, as of run
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// Share these namespaces: ipc, net, pid, uts, or none; +pid for the first, second and last, and pid
    #[arg(long, value_name = "NAMESPACES", allow_hyphen_values = true)]
    share: Option<String>,
    /// Set the size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
    /// Set a kernel parameter of the namespaces that are shared
    #[arg(long, value_name = "KEY=VALUE")]
    sysctl: Vec<String>,
    /// Map user ids of the containers to ids of your outer namespace
    #[arg(long, value_name = "INSIDE:OUTSIDE[:LENGTH]")]
    uidmap: Vec<String>,
    /// Choose the user namespace of the containers: host, keep-id[:uid=N,gid=N], nomap, auto[:size=N]
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,
    /// Mount a directory or a volume in each container
    #[arg(long, short = 'v', value_name = "[SOURCE:]PATH[:OPTIONS]")]
    volume: Vec<String>,
    /// Mount the volumes of another container in each
    #[arg(long, value_name = "CONTAINER[:ro]")]
    volumes_from: Vec<String>,
    #[arg(value_name = "NAME")]
    pod: Option<String>,
}

/// Makes a pod, and prints its id.
///
/// # Errors
/// `Invalid` for wrong flags; `Conflict` where a name is taken.
pub(crate) fn create(args: CreateArgs) -> Result<u8> {
    let request = args.into_request(&Host::here())?;
    let engine = Engine::open()?;
    let pod = engine.create_pod(&request, &mut progress::on_stderr(false))?;
    engine.pod_store().sync(&pod.id)?;
    pod.infra.iter().try_for_each(|infra| engine.store.sync(infra))?;
    ui::line(pod.id.as_str())?;
    Ok(0)
}

impl CreateArgs {
    fn into_request(mut self, host: &Host) -> Result<PodRequest> {
        let name = match (self.name.take(), self.pod.take()) {
            (Some(name), Some(other)) if name != other => {
                return Err(Error::invalid(format!("two names for one pod: {name} and {other}")));
            }
            (name, other) => name.or(other),
        };
        if self.replace && name.is_none() {
            return Err(Error::invalid("cannot replace pod without --name being set"));
        }
        let infra = self.infra.as_deref().map_or(Ok(true), |text| boolean::parse("--infra", text))?;
        let share = self.share.take();
        let shares = Share::parse_all(share.as_deref())?;
        if !infra {
            self.check_without_infra(share.is_some() && !shares.is_empty())?;
        }
        if let Some(name) = &self.infra_name {
            check_name("container", name)?;
        }
        let exit_policy = self.exit_policy.as_deref().map(ExitPolicy::parse).transpose()?.unwrap_or_default();
        let (infra_name, replace) = (self.infra_name.take(), self.replace);
        let id_file = self.pod_id_file.take().map(|path| host.at(&path)).transpose()?;
        let mut config = self.config(host)?;
        if let UsernsMode::Container(_) = config.userns {
            return Err(Error::invalid("--userns container: a pod has a user namespace of its own"));
        }
        check_shares(&shares, &config)?;
        let limits = std::mem::take(&mut config.limits);
        check_limits(&limits)?;
        let defaults = PodDefaults {
            restart: std::mem::take(&mut config.restart),
            no_new_privileges: std::mem::take(&mut config.no_new_privileges),
            seccomp: std::mem::take(&mut config.seccomp),
            mask: std::mem::take(&mut config.mask),
            unmask: std::mem::take(&mut config.unmask),
        };
        Ok(PodRequest {
            name,
            labels: std::mem::take(&mut config.labels),
            shares,
            infra,
            infra_name,
            exit_policy,
            limits,
            defaults,
            cgroup_parent: config.cgroup_parent.take(),
            config,
            replace,
            id_file,
            command: host.command.clone(),
        })
    }

    /// Podman's words, for what only the infra container could have.
    fn check_without_infra(&self, shares: bool) -> Result<()> {
        let given = [
            ("--share", shares),
            ("--infra-name", self.infra_name.is_some()),
            ("--hostname", self.hostname.is_some()),
            ("--network", !self.network.is_empty()),
            ("--publish", !self.publish.is_empty()),
            ("--dns", !self.dns.is_empty() || !self.dns_option.is_empty() || !self.dns_search.is_empty()),
            ("--add-host", !self.add_host.is_empty() || self.no_hosts),
            ("--shm-size", self.shm_size.is_some()),
            ("--sysctl", !self.sysctl.is_empty()),
            ("--device", !self.device.is_empty()),
            ("--volume", !self.volume.is_empty()),
            ("--volumes-from", !self.volumes_from.is_empty()),
            ("--userns", self.userns.is_some() || !self.uidmap.is_empty() || !self.gidmap.is_empty()),
            ("--exit-policy", self.exit_policy.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(Error::invalid(format!("cannot set {flag} without an infra container"))
                .hint("leave out --infra=false, or give it to the containers")),
            None => Ok(()),
        }
    }

    /// The flags that mean what they mean of a container.
    fn config(self, host: &Host) -> Result<ContainerConfig> {
        let options = ContainerOptions {
            resources: self.resources,
            add_host: self.add_host,
            cgroup_parent: self.cgroup_parent,
            device: self.device,
            dns: self.dns,
            dns_option: self.dns_option,
            dns_search: self.dns_search,
            gidmap: self.gidmap,
            hostname: self.hostname,
            ip: self.ip,
            ip6: self.ip6,
            label: self.label,
            label_file: self.label_file,
            mac_address: self.mac_address,
            network: self.network,
            network_alias: self.network_alias,
            no_hosts: self.no_hosts,
            publish: self.publish,
            restart: self.restart,
            security_opt: self.security_opt,
            shm_size: self.shm_size,
            sysctl: self.sysctl,
            uidmap: self.uidmap,
            userns: self.userns,
            volume: self.volume,
            volumes_from: self.volumes_from,
            ..ContainerOptions::default()
        };
        // No image is asked for by this word.
        let words = Words { first: Some("infra".to_owned()), rest: Vec::new() };
        Ok(options.into_request("pod create", words, host)?.config)
    }
}

/// What the infra container alone would have is asked for in vain.
fn check_shares(shares: &BTreeSet<Share>, config: &ContainerConfig) -> Result<()> {
    // The host's is there for each container, shared or not.
    let network =
        !matches!(config.network, NetworkMode::Default | NetworkMode::Host) || !config.publish.is_empty();
    let names = !config.dns.is_empty()
        || !config.dns_search.is_empty()
        || !config.dns_options.is_empty()
        || !config.add_hosts.is_empty()
        || config.no_hosts;
    let given = [
        (Share::Net, network, "the network and published ports"),
        (Share::Net, names, "name servers and lines of /etc/hosts"),
        (Share::Uts, config.hostname.is_some(), "the host name"),
        (Share::Ipc, config.shm_size.is_some(), "the size of /dev/shm"),
    ];
    match given.iter().find(|(share, given, _)| *given && !shares.contains(share)) {
        Some((share, _, what)) => Err(Error::invalid(format!(
            "{what} cannot be the pod's where its containers do not share the namespace {}",
            share.word()
        ))
        .hint("give it to the containers, or share that too")),
        None => Ok(()),
    }
}

fn check_limits(limits: &Limits) -> Result<()> {
    let flag = match () {
        () if !limits.hugetlb.is_empty() => "--hugetlb",
        () if !limits.conf.is_empty() => "--cgroup-conf",
        () => return Ok(()),
    };
    Err(Error::invalid(format!("{flag}: systemd has no property for it that would hold for a whole slice"))
        .hint("give it to the containers"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::container::SeccompChoice;
    use crate::types::status::RestartPolicy;

    fn request(args: CreateArgs) -> Result<PodRequest> {
        args.into_request(&Host::default())
    }

    #[test]
    fn flags_become_a_pod_and_its_infra_container() {
        let args = CreateArgs {
            name: Some("web".into()),
            label: vec!["a=1".into()],
            publish: vec!["8080:80".into()],
            hostname: Some("h".into()),
            cgroup_parent: Some("shop.slice".into()),
            ..CreateArgs::default()
        };
        let made = request(args).expect("valid");
        assert_eq!((made.name.as_deref(), made.labels["a"].as_str(), made.infra), (Some("web"), "1", true));
        assert_eq!(made.cgroup_parent.as_deref(), Some("shop.slice"));
        assert!(made.config.cgroup_parent.is_none() && made.config.labels.is_empty());
        assert_eq!((made.config.publish.len(), made.config.hostname.as_deref()), (1, Some("h")));
        let args = CreateArgs { pod: Some("db".into()), ..CreateArgs::default() };
        assert_eq!(request(args).expect("valid").name.as_deref(), Some("db"));
    }

    #[test]
    fn what_each_container_is_to_have_is_kept_for_them() {
        let args = CreateArgs {
            volume: vec!["/a:/b".into()],
            device: vec!["/dev/null".into()],
            security_opt: vec!["no-new-privileges".into(), "seccomp=unconfined".into()],
            restart: Some("always".into()),
            userns: Some("nomap".into()),
            ..CreateArgs::default()
        };
        let made = request(args).expect("valid");
        assert_eq!((made.config.mounts.len(), made.config.devices.len()), (1, 1));
        assert!(made.defaults.no_new_privileges && !made.config.no_new_privileges);
        assert_eq!(made.defaults.seccomp, SeccompChoice::Unconfined);
        assert_eq!((made.defaults.restart, made.config.restart), (RestartPolicy::Always, RestartPolicy::No));
        assert_eq!(made.config.userns, UsernsMode::NoMap);
    }

    #[test]
    fn what_nobody_would_have_is_refused() {
        let no_infra = || CreateArgs { infra: Some("false".into()), ..CreateArgs::default() };
        assert!(request(no_infra()).is_ok_and(|made| !made.infra));
        for args in [
            CreateArgs { publish: vec!["80".into()], ..no_infra() },
            CreateArgs { share: Some("net".into()), ..no_infra() },
            CreateArgs { volume: vec!["/a:/b".into()], ..no_infra() },
            CreateArgs { userns: Some("keep-id".into()), ..no_infra() },
            CreateArgs { userns: Some("container:x".into()), ..CreateArgs::default() },
            CreateArgs { hostname: Some("x".into()), ..no_infra() },
            CreateArgs { replace: true, ..CreateArgs::default() },
            CreateArgs { name: Some("a".into()), pod: Some("b".into()), ..CreateArgs::default() },
            CreateArgs { share: Some("ipc".into()), publish: vec!["80".into()], ..CreateArgs::default() },
            CreateArgs { share: Some("net".into()), hostname: Some("x".into()), ..CreateArgs::default() },
            CreateArgs { exit_policy: Some("never".into()), ..CreateArgs::default() },
            CreateArgs { infra: Some("perhaps".into()), ..CreateArgs::default() },
            CreateArgs { infra_name: Some("a/b".into()), ..CreateArgs::default() },
        ] {
            let told = format!("{args:?}");
            assert!(request(args).is_err(), "{told}");
        }
    }
}
