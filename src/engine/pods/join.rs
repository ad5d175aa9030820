//! What a container becomes that is made in a pod.

use super::create::PodRequest;
use crate::engine::remove::RemoveOptions;
use crate::engine::{Engine, id_file};
use crate::error::{BestEffort, Error, Result};
use crate::types::cgroup::CgroupsMode;
use crate::types::container::{ContainerConfig, SeccompChoice};
use crate::types::limits::Limits;
use crate::types::namespace::{IpcMode, NamespaceMode, NetworkMode, UsernsMode};
use crate::types::pod::{ExitPolicy, PodChoice, PodDefaults, PodRecord, Share, WhichPod};
use crate::types::progress::Report;
use crate::types::status::RestartPolicy;
use std::collections::{BTreeMap, BTreeSet};

/// Podman's words.
const SHARED: &str = "network cannot be configured when it is shared with a pod";

/// A pod that a new container goes into.
pub(in crate::engine) struct Joined {
    pod: PodRecord,
    /// It was made for that container.
    made: bool,
}

impl Engine {
    /// Puts a container that is to be made into its pod.
    ///
    /// # Errors
    /// `Invalid` for what a container of that pod cannot have of its own.
    pub(in crate::engine) fn join_pod(
        &self,
        choice: &PodChoice,
        config: &mut ContainerConfig,
        tell: &mut dyn FnMut(Report),
    ) -> Result<Joined> {
        let (pod, made) = match &choice.which {
            WhichPod::Named(word) => (self.find_pod(word)?, false),
            WhichPod::InFile(path) => (self.find_pod(id_file::text("pod id file", path)?.trim())?, false),
            WhichPod::New(name) => (self.create_pod(&new_pod(name, choice, config), tell)?, true),
        };
        let joined = Joined { pod, made };
        let infra = joined.pod.infra.as_ref().map(|infra| self.store.record(infra));
        infra
            .transpose()
            .and_then(|infra| {
                let infra = infra.map(|infra| infra.config).unwrap_or_default();
                join(&joined.pod, &infra, &choice.own, config)
            })
            .inspect_err(|_| self.leave_pod(&joined))?;
        Ok(joined)
    }

    /// The container did not come to be: a pod that was made for it goes again.
    pub(in crate::engine) fn leave_pod(&self, joined: &Joined) {
        if joined.made {
            self.remove_pod(&joined.pod, &RemoveOptions::by_force()).or_ignore();
        }
    }
}

/// `--pod new:NAME`: what the container asks for of the network is the pod's.
fn new_pod(name: &str, choice: &PodChoice, config: &mut ContainerConfig) -> PodRequest {
    let own = std::mem::take(config);
    *config = ContainerConfig {
        hostname: None,
        network: NetworkMode::Default,
        networks: Vec::new(),
        links: Vec::new(),
        publish: Vec::new(),
        add_hosts: Vec::new(),
        no_hosts: false,
        dns: Vec::new(),
        dns_search: Vec::new(),
        dns_options: Vec::new(),
        ..own.clone()
    };
    PodRequest {
        name: Some(name.to_owned()).filter(|name| !name.is_empty()),
        labels: BTreeMap::new(),
        shares: [Share::Ipc, Share::Net, Share::Uts].into(),
        infra: true,
        infra_name: None,
        config: ContainerConfig {
            hostname: own.hostname,
            network: own.network,
            networks: own.networks,
            links: own.links,
            publish: own.publish,
            add_hosts: own.add_hosts,
            no_hosts: own.no_hosts,
            dns: own.dns,
            dns_search: own.dns_search,
            dns_options: own.dns_options,
            ..ContainerConfig::default()
        },
        exit_policy: ExitPolicy::default(),
        limits: Limits::default(),
        defaults: PodDefaults::default(),
        cgroup_parent: None,
        replace: false,
        id_file: None,
        command: choice.command.clone(),
    }
}

/// What is shared is joined, but where a flag of the container says otherwise.
/// `holder` is what the infra container is.
fn join(
    pod: &PodRecord,
    holder: &ContainerConfig,
    own: &BTreeSet<Share>,
    config: &mut ContainerConfig,
) -> Result<()> {
    check_group(config)?;
    config.pod = Some(pod.reference());
    inherit(&pod.defaults, holder, config);
    let Some(infra) = &pod.infra else { return Ok(()) };
    let infra = infra.as_str().to_owned();
    if pod.shares(Share::Net) {
        check_network(config)?;
        // The host's is nobody's to hand on: each has it by itself.
        config.network = match holder.network {
            NetworkMode::Host => NetworkMode::Host,
            _ => NetworkMode::Container(infra.clone()),
        };
    } else if holder.network == NetworkMode::Host && config.network == NetworkMode::Default {
        // Podman: what is not shared can be the host's all the same.
        config.network = NetworkMode::Host;
    }
    let joins = |share| pod.shares(share) && !own.contains(&share);
    if joins(Share::Uts) {
        if config.hostname.is_some() || config.domainname.is_some() {
            return Err(Error::invalid("cannot set hostname when joining the pod UTS namespace")
                .hint("give --hostname to `coracle pod create`, or add --uts private"));
        }
        config.uts = NamespaceMode::Container(infra.clone());
    }
    if joins(Share::Ipc) {
        if config.shm_size.is_some() {
            return Err(Error::invalid("cannot set the size of /dev/shm, which is shared with the pod")
                .hint("give --shm-size to `coracle pod create`, or add --ipc private"));
        }
        config.ipc = IpcMode::Container(infra.clone());
    }
    if joins(Share::Pid) {
        config.pid = NamespaceMode::Container(infra.clone());
    }
    let has_map = holder.userns != UsernsMode::Private || !holder.uid_map.0.is_empty();
    let shares_users = has_map || !pod.shares.is_empty();
    if shares_users && (config.userns != UsernsMode::Private || !config.uid_map.0.is_empty()) {
        return Err(Error::invalid(
            "--userns, --uidmap and --gidmap cannot be used in a pod: what is shared belongs to one user namespace, \
             which is shared with it",
        )
        .hint("give them to `coracle pod create`, or make the pod with --share none"));
    }
    if has_map {
        config.userns = UsernsMode::Container(infra);
    }
    Ok(())
}

/// What the pod gives to each: mounts, devices, and options where the container has
/// none of its own at the same place.
fn inherit(defaults: &PodDefaults, holder: &ContainerConfig, config: &mut ContainerConfig) {
    for mount in &holder.mounts {
        if config.mounts.iter().all(|own| own.target != mount.target) {
            config.mounts.push(mount.clone());
        }
    }
    for device in &holder.devices {
        if config.devices.iter().all(|own| own.container != device.container) {
            config.devices.push(device.clone());
        }
    }
    // --rm says that it is not to run again.
    if config.restart == RestartPolicy::No && !config.auto_remove {
        config.restart = defaults.restart;
    }
    config.no_new_privileges |= defaults.no_new_privileges;
    if config.seccomp == SeccompChoice::Default {
        config.seccomp.clone_from(&defaults.seccomp);
    }
    config.mask.extend_from_slice(&defaults.mask);
    config.unmask.extend_from_slice(&defaults.unmask);
}

fn check_network(config: &ContainerConfig) -> Result<()> {
    let refused = |what: &str, flag: &str| {
        Err(Error::invalid(format!("{what} must be defined when the pod is created: {SHARED}"))
            .hint(format!("give {flag} to `coracle pod create`")))
    };
    if config.network != NetworkMode::Default || !config.networks.is_empty() {
        return refused("networks", "--network");
    }
    if !config.publish.is_empty() || config.publish_all || !config.expose.is_empty() {
        return refused("published or exposed ports", "-p");
    }
    if !config.dns.is_empty() || !config.dns_search.is_empty() || !config.dns_options.is_empty() {
        return refused("name servers", "--dns");
    }
    if !config.add_hosts.is_empty() || config.no_hosts {
        return refused("the lines of /etc/hosts", "--add-host");
    }
    Ok(())
}

fn check_group(config: &ContainerConfig) -> Result<()> {
    if matches!(config.cgroups, CgroupsMode::Disabled | CgroupsMode::Split) {
        return Err(Error::invalid(format!(
            "--cgroups={} cannot be used in a pod: the container would be outside of the pod's control group",
            config.cgroups.word()
        ))
        .hint("leave it out"));
    }
    if config.cgroup_parent.is_some() {
        return Err(Error::invalid(
            "--cgroup-parent cannot be used in a pod: its control group is the parent",
        )
        .hint("give --cgroup-parent to `coracle pod create`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::container::DeviceSpec;
    use crate::types::id::ContainerId;
    use crate::types::mount::parse_volume;
    use crate::types::port::Publish;
    use std::path::Path;

    fn pod(shares: &[Share]) -> PodRecord {
        PodRecord {
            shares: shares.iter().copied().collect(),
            infra: Some(ContainerId::from_bytes([2; 32])),
            ..PodRecord::sample("p", 1)
        }
    }

    fn joined(shares: &[Share], change: fn(&mut ContainerConfig)) -> Result<ContainerConfig> {
        let mut config = ContainerConfig::default();
        change(&mut config);
        join(&pod(shares), &ContainerConfig::default(), &BTreeSet::new(), &mut config).map(|()| config)
    }

    #[test]
    fn what_is_shared_is_the_infra_container_s() {
        let infra = "02".repeat(32);
        let config = joined(&[Share::Net, Share::Uts], |_| {}).expect("valid");
        assert_eq!(config.network, NetworkMode::Container(infra.clone()));
        assert_eq!(config.uts, NamespaceMode::Container(infra));
        assert_eq!((config.ipc, config.pid), (IpcMode::Shareable, NamespaceMode::Private));
        let mut config = ContainerConfig::default();
        join(&pod(&[Share::Pid]), &ContainerConfig::default(), &[Share::Pid].into(), &mut config)
            .expect("valid");
        assert_eq!(config.pid, NamespaceMode::Private, "its own flag counts");
    }

    #[test]
    fn mounts_devices_and_options_of_the_pod_give_way_to_the_container_s() {
        let mount = |source: &str, target: &str| {
            parse_volume(&format!("{source}:{target}"), Path::new("/")).expect("a volume")
        };
        let device = |text: &str| DeviceSpec::parse(text).expect("a device");
        let holder = ContainerConfig {
            mounts: vec![mount("/pod", "/a"), mount("/pod", "/b")],
            devices: vec![device("/dev/null:/dev/x"), device("/dev/zero:/dev/y")],
            ..ContainerConfig::default()
        };
        let mut record = pod(&[]);
        record.defaults = PodDefaults {
            restart: RestartPolicy::Always,
            no_new_privileges: true,
            seccomp: SeccompChoice::Unconfined,
            mask: vec!["/a".into()],
            unmask: vec!["/b".into()],
        };
        let mut config = ContainerConfig {
            mounts: vec![mount("/own", "/a")],
            devices: vec![device("/dev/full:/dev/x")],
            seccomp: SeccompChoice::Profile("{}".into()),
            ..ContainerConfig::default()
        };
        join(&record, &holder, &BTreeSet::new(), &mut config).expect("valid");
        assert_eq!(config.mounts, [mount("/own", "/a"), mount("/pod", "/b")]);
        assert_eq!(config.devices, [device("/dev/full:/dev/x"), device("/dev/zero:/dev/y")]);
        assert_eq!(config.seccomp, SeccompChoice::Profile("{}".into()));
        assert!(config.no_new_privileges && config.mask == ["/a"] && config.unmask == ["/b"]);
        assert_eq!(config.restart, RestartPolicy::Always);
        let mut config = ContainerConfig { auto_remove: true, ..ContainerConfig::default() };
        join(&record, &holder, &BTreeSet::new(), &mut config).expect("valid");
        assert_eq!((config.restart, config.seccomp), (RestartPolicy::No, SeccompChoice::Unconfined));
    }

    #[test]
    fn the_map_of_the_pod_is_its_containers_too() {
        let holder = ContainerConfig { userns: UsernsMode::NoMap, ..ContainerConfig::default() };
        for shares in [&[][..], &[Share::Net]] {
            let mut config = ContainerConfig::default();
            join(&pod(shares), &holder, &BTreeSet::new(), &mut config).expect("valid");
            assert_eq!(config.userns, UsernsMode::Container("02".repeat(32)));
            let mut config = ContainerConfig { userns: UsernsMode::Host, ..ContainerConfig::default() };
            assert!(join(&pod(shares), &holder, &BTreeSet::new(), &mut config).is_err());
        }
    }

    #[test]
    fn what_is_the_pod_s_is_refused_to_its_containers() {
        let all = [Share::Net, Share::Uts, Share::Ipc];
        let changes: [fn(&mut ContainerConfig); 9] = [
            |config| config.network = NetworkMode::None,
            |config| config.publish = Publish::parse("80:80").expect("a port"),
            |config| config.publish_all = true,
            |config| config.dns = vec!["9.9.9.9".into()],
            |config| config.no_hosts = true,
            |config| config.hostname = Some("x".into()),
            |config| config.userns = UsernsMode::NoMap,
            |config| config.cgroups = CgroupsMode::Split,
            |config| config.cgroup_parent = Some("a.slice".into()),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let error = joined(&all, change).expect_err("refused");
            assert!(!error.hints().is_empty(), "{number}: {error}");
        }
        let error = joined(&all, changes[1]).expect_err("refused").to_string();
        assert!(error.contains("must be defined when the pod is created"), "{error}");
        // What is not shared is the container's own affair.
        for change in &changes[..7] {
            assert!(joined(&[], *change).is_ok());
        }
    }
}
