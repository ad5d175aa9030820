//! `HostConfig`: what was asked of the host.

use super::mounts;
use crate::engine::list::network_names;
use crate::monitor::plan::{masked_paths, read_only_paths};
use crate::runtime::capabilities::parse_list;
use crate::types::container::{ContainerConfig, ContainerRecord, LogDriver, SeccompChoice};
use crate::types::limits::Limits;
use crate::types::namespace::{IpcMode, NamespaceMode, UsernsMode};
use crate::types::port::{HostPort, Port};
use crate::types::size;
use crate::types::status::RestartPolicy;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of `/dev/shm` where nothing else was asked for: docker's.
const SHM_SIZE: u64 = 64 << 20;

pub(super) fn document(record: &ContainerRecord, log_path: Option<&str>) -> Value {
    let config = &record.config;
    let list = |words: &[String]| if words.is_empty() { Value::Null } else { json!(words) };
    let hosts: Vec<String> =
        config.add_hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect();
    let (added, dropped) = capabilities(config);
    let mut document = json!({
        "Binds": mounts::binds(record),
        "ContainerIDFile": config.id_file.as_deref().map(|path| path.display().to_string()).unwrap_or_default(),
        "LogConfig": log(config, log_path),
        "NetworkMode": network_names(config).first(),
        "PortBindings": port_bindings(config),
        "RestartPolicy": restart(config.restart),
        "AutoRemove": config.auto_remove,
        "VolumesFrom": list(&config.volumes_from),
        "CapAdd": list(&added),
        "CapDrop": list(&dropped),
        "Dns": config.dns,
        "DnsOptions": config.dns_options,
        "DnsSearch": config.dns_search,
        "ExtraHosts": list(&hosts),
        "GroupAdd": list(&config.group_add),
        "IpcMode": ipc(&config.ipc),
        "OomScoreAdj": config.oom_score_adj.unwrap_or(0),
        "PidMode": namespace(&config.pid),
        "Privileged": config.privileged,
        "PublishAllPorts": config.publish_all,
        "ReadonlyRootfs": config.read_only,
        "SecurityOpt": security(config),
        "Tmpfs": mounts::tmpfs(record),
        "UTSMode": namespace(&config.uts),
        "UsernsMode": userns(&config.userns),
        "ShmSize": config.shm_size.unwrap_or(SHM_SIZE),
        "Sysctls": config.sysctls,
        "Init": config.init,
        "Devices": devices(config),
        "Ulimits": ulimits(config),
        "IDMappings": {
            "UidMap": ranges(&config.uid_map.0),
            "GidMap": ranges(&config.gid_map.0),
        },
    });
    for more in [limits(config), more(record)] {
        if let (Some(document), Value::Object(more)) = (document.as_object_mut(), more) {
            document.extend(more);
        }
    }
    document
}

/// Docker's names, each once and in order. What is added counts more than what is dropped.
fn capabilities(config: &ContainerConfig) -> (Vec<String>, Vec<String>) {
    let names = |words: &[String]| -> BTreeSet<String> {
        match parse_list(words, "its capabilities") {
            Ok((true, _)) => BTreeSet::from(["ALL".to_owned()]),
            Ok((false, set)) => set.names().into_iter().collect(),
            // Of a release that knows more of them.
            Err(_) => words.iter().cloned().collect(),
        }
    };
    let (added, dropped) = (names(&config.cap_add), names(&config.cap_drop));
    let dropped = dropped.difference(&added).cloned().collect();
    (added.into_iter().collect(), dropped)
}

/// What else docker's document always has.
fn more(record: &ContainerRecord) -> Value {
    let config = &record.config;
    json!({
        "Runtime": "coracle",
        "Links": links(record),
        "Mounts": mounts::asked(record),
        "MaskedPaths": masked_paths(config),
        "ReadonlyPaths": read_only_paths(config),
        "Annotations": config.annotations,
        // There is nothing of these here.
        "OomKillDisable": false,
        "MemorySwappiness": null,
        "Isolation": "",
        "DeviceRequests": null,
        "DeviceCgroupRules": null,
        "VolumeDriver": "",
        "StorageOpt": null,
        "ConsoleSize": [0, 0],
        "Cgroup": "",
        "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0, "CpuCount": 0, "CpuPercent": 0,
        "IOMaximumIOps": 0, "IOMaximumBandwidth": 0,
    })
}

/// Docker's words: `/DATABASE:/WEB/ALIAS`.
fn links(record: &ContainerRecord) -> Value {
    let link = |(to, called): &(String, String)| format!("/{to}:/{}/{called}", record.name).into();
    let links: Vec<Value> = record.config.links.iter().map(link).collect();
    if links.is_empty() { Value::Null } else { links.into() }
}

/// What was asked for by `-p`: `{"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}`.
pub(in crate::engine) fn port_bindings(config: &ContainerConfig) -> Value {
    let mut all: BTreeMap<Port, Vec<Value>> = BTreeMap::new();
    for publish in config.publish.iter().filter(|publish| !publish.by_exposure) {
        let address = publish.address.map(|address| address.to_string()).unwrap_or_default();
        let host = match publish.host {
            HostPort::Any => String::new(),
            HostPort::Fixed(host) => host.to_string(),
            HostPort::OneOf(first, last) => format!("{first}-{last}"),
        };
        all.entry(publish.port).or_default().push(json!({"HostIp": address, "HostPort": host}));
    }
    Value::Object(all.into_iter().map(|(port, bindings)| (port.to_string(), bindings.into())).collect())
}

fn limits(config: &ContainerConfig) -> Value {
    json!({
        "Memory": config.limits.memory.unwrap_or(0),
        "MemoryReservation": config.limits.memory_reservation.unwrap_or(0),
        "MemorySwap": memory_swap(&config.limits),
        "NanoCpus": config.limits.nano_cpus.unwrap_or(0),
        "CpuShares": config.limits.cpu_shares.unwrap_or(0),
        "CpuPeriod": config.limits.cpu_period.unwrap_or(0),
        "CpuQuota": config.limits.cpu_quota.unwrap_or(0),
        "CpusetCpus": config.limits.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": config.limits.cpuset_mems.clone().unwrap_or_default(),
        "PidsLimit": pids(&config.limits),
        "BlkioWeight": config.limits.blkio_weight.unwrap_or(0),
        "BlkioWeightDevice": device_limits(&config.limits.devices.weights, "Weight"),
        "BlkioDeviceReadBps": device_limits(&config.limits.devices.read_bps, "Rate"),
        "BlkioDeviceWriteBps": device_limits(&config.limits.devices.write_bps, "Rate"),
        "BlkioDeviceReadIOps": device_limits(&config.limits.devices.read_iops, "Rate"),
        "BlkioDeviceWriteIOps": device_limits(&config.limits.devices.write_iops, "Rate"),
        "CgroupConf": config.limits.conf.iter().cloned().collect::<BTreeMap<_, _>>(),
        "Cgroups": config.cgroups.word(),
        "CgroupMode": config.cgroupns.word(),
        "CgroupnsMode": config.cgroupns.word(),
        "CgroupParent": config.cgroup_parent.clone().unwrap_or_default(),
    })
}

pub(in crate::engine) fn device_limits(list: &[(String, u64)], key: &str) -> Value {
    list.iter().map(|(path, number)| json!({"Path": path, key: number})).collect()
}

fn log(config: &ContainerConfig, path: Option<&str>) -> Value {
    let mut options = config.log.options.clone();
    // Records of earlier have the numbers alone.
    if let Some(size) = config.log.max_size {
        let text = if size == u64::MAX { "-1".into() } else { size.to_string() };
        options.entry("max-size".into()).or_insert(text);
    }
    if let Some(files) = config.log.max_file {
        options.entry("max-file".into()).or_insert_with(|| files.to_string());
    }
    let driver = match config.log.driver {
        LogDriver::JsonFile => "json-file",
        LogDriver::K8sFile => "k8s-file",
        LogDriver::Local => "local",
        LogDriver::None => "none",
        LogDriver::Passthrough => "passthrough",
    };
    let size = config.log.max_size.filter(|size| *size != u64::MAX);
    let size = size.map_or_else(|| "0B".to_owned(), size::decimal);
    // Docker's two, and podman's three.
    json!({
        "Type": driver,
        "Config": options,
        "Path": path.unwrap_or_default(),
        "Tag": config.log.options.get("tag").cloned().unwrap_or_default(),
        "Size": size,
    })
}

/// -1 is unlimited; docker tells what it takes where nothing was said.
fn memory_swap(limits: &Limits) -> i64 {
    match (limits.memory_swap, limits.memory) {
        (Some(u64::MAX), _) => -1,
        (Some(bytes), _) => i64::try_from(bytes).unwrap_or(-1),
        (None, Some(memory)) => i64::try_from(memory.saturating_mul(2)).unwrap_or(-1),
        (None, None) => 0,
    }
}

fn pids(limits: &Limits) -> Value {
    match limits.pids {
        None => Value::Null,
        Some(u64::MAX) => json!(-1),
        Some(number) => json!(number),
    }
}

fn restart(policy: RestartPolicy) -> Value {
    let (name, count) = restart_policy(policy);
    json!({"Name": name, "MaximumRetryCount": count})
}

/// Docker's word, and how often.
pub(in crate::engine) fn restart_policy(policy: RestartPolicy) -> (&'static str, u32) {
    match policy {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::OnFailure { max_retries } => ("on-failure", max_retries.unwrap_or(0)),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
    }
}

/// Docker's empty word is the private namespace.
fn namespace(mode: &NamespaceMode) -> String {
    match mode {
        NamespaceMode::Private => String::new(),
        NamespaceMode::Host => "host".into(),
        NamespaceMode::Container(id) => format!("container:{id}"),
    }
}

fn ipc(mode: &IpcMode) -> String {
    match mode {
        IpcMode::Shareable => "shareable".into(),
        IpcMode::Private => "private".into(),
        IpcMode::None => "none".into(),
        IpcMode::Host => "host".into(),
        IpcMode::Container(id) => format!("container:{id}"),
    }
}

pub(in crate::engine) fn userns(mode: &UsernsMode) -> String {
    match mode {
        UsernsMode::Private => String::new(),
        UsernsMode::Host => "host".into(),
        UsernsMode::NoMap => "nomap".into(),
        UsernsMode::Container(id) => format!("container:{id}"),
        UsernsMode::Auto { size: None } => "auto".into(),
        UsernsMode::Auto { size: Some(size) } => format!("auto:size={size}"),
        UsernsMode::KeepId { uid, gid } => {
            let ids: Vec<String> = [("uid", uid), ("gid", gid)]
                .into_iter()
                .filter_map(|(name, id)| id.map(|id| format!("{name}={id}")))
                .collect();
            if ids.is_empty() { "keep-id".into() } else { format!("keep-id:{}", ids.join(",")) }
        }
    }
}

pub(in crate::engine) fn security(config: &ContainerConfig) -> Value {
    let mut options = Vec::new();
    if config.no_new_privileges {
        options.push("no-new-privileges".to_owned());
    }
    match &config.seccomp {
        SeccompChoice::Default => {}
        SeccompChoice::Unconfined => options.push("seccomp=unconfined".into()),
        SeccompChoice::Profile(text) => options.push(format!("seccomp={text}")),
    }
    for (name, paths) in [("mask", &config.mask), ("unmask", &config.unmask)] {
        if !paths.is_empty() {
            options.push(format!("{name}={}", paths.join(":")));
        }
    }
    if options.is_empty() { Value::Null } else { json!(options) }
}

pub(in crate::engine) fn devices(config: &ContainerConfig) -> Value {
    let device = |device: &crate::types::container::DeviceSpec| {
        json!({
            "PathOnHost": device.host.display().to_string(),
            "PathInContainer": device.container,
            "CgroupPermissions": device.permissions,
        })
    };
    config.devices.iter().map(device).collect()
}

/// Docker counts them signed, and -1 is unlimited.
fn ulimits(config: &ContainerConfig) -> Value {
    let number = |value: u64| i64::try_from(value).unwrap_or(-1);
    let limit = |limit: &crate::types::container::Ulimit| json!({"Name": limit.name, "Soft": number(limit.soft), "Hard": number(limit.hard)});
    config.ulimits.iter().map(limit).collect()
}

fn ranges(ranges: &[crate::types::idmap::IdRange]) -> Value {
    ranges
        .iter()
        .map(|range| Value::from(format!("{}:{}:{}", range.inside, range.outside, range.length)))
        .collect()
}
