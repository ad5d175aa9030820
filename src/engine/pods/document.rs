//! Podman's `pod inspect` document.
//!
//! Source: podman's libpod/define/pod_inspect.go, as its documentation tells it.

use super::Pod;
use crate::engine::inspect;
use crate::types::container::ContainerConfig;
use crate::types::id::ContainerId;
use crate::types::limits::Limits;
use crate::types::namespace::NetworkMode;
use crate::types::pod::Share;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Pure: it looks at nothing but the pod; `volumes` is the folder of all volumes.
pub(crate) fn document(pod: &Pod, volumes: &Path) -> Value {
    let record = &pod.record;
    let containers: Vec<Value> = pod
        .containers
        .iter()
        .map(|one| json!({"Id": one.record.id.as_str(), "Name": one.record.name, "State": one.state()}))
        .collect();
    let shared: Vec<&str> = record.shares.iter().copied().map(Share::word).collect();
    let infra = pod.infra();
    let mut document = json!({
        "Id": record.id.as_str(),
        "Name": record.name,
        "Created": record.created.to_string(),
        "CreateCommand": record.command,
        "ExitPolicy": record.exit_policy.word(),
        "State": pod.state(),
        "Hostname": infra.and_then(|infra| infra.record.config.hostname.clone()).unwrap_or_default(),
        "Labels": record.labels,
        "CreateCgroup": true,
        "CgroupParent": record.cgroup_parent.clone().unwrap_or_default(),
        "CgroupPath": cgroup_path(pod),
        "CreateInfra": record.infra.is_some(),
        "InfraContainerID": record.infra.as_ref().map(ContainerId::as_str).unwrap_or_default(),
        "InfraConfig": infra_config(pod),
        "SharedNamespaces": shared,
        "NumContainers": pod.containers.len(),
        "Containers": containers,
    });
    for more in [limits(&record.limits), of_infra(pod, volumes)] {
        if let (Some(document), Value::Object(more)) = (document.as_object_mut(), more) {
            document.extend(more);
        }
    }
    let (policy, _) = inspect::restart_policy(record.defaults.restart);
    document["RestartPolicy"] = json!(policy);
    document
}

/// The control group that the running containers lie in.
fn cgroup_path(pod: &Pod) -> String {
    let groups = pod.containers.iter().filter_map(|one| one.cgroup.as_ref()?.parent());
    groups.map(|path| path.display().to_string()).next().unwrap_or_default()
}

fn infra_config(pod: &Pod) -> Value {
    let Some(infra) = pod.infra() else { return Value::Null };
    let config = &infra.record.config;
    let list = |words: &[String]| if words.is_empty() { Value::Null } else { json!(words) };
    let hosts: Vec<String> =
        config.add_hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect();
    let networks: Vec<&String> = config.networks.iter().map(|one| &one.network).collect();
    let first = config.networks.first();
    json!({
        "PortBindings": inspect::port_bindings(config),
        "HostNetwork": config.network == NetworkMode::Host,
        "StaticIP": first.and_then(|one| one.ip).map(|ip| ip.to_string()).unwrap_or_default(),
        "StaticMAC": first.and_then(|one| one.mac).map(|mac| mac.to_string()).unwrap_or_default(),
        "NoManageResolvConf": config.dns.iter().any(|value| value == "none"),
        "DNSServer": list(&config.dns),
        "DNSSearch": list(&config.dns_search),
        "DNSOption": list(&config.dns_options),
        "NoManageHosts": config.no_hosts,
        "HostAdd": list(&hosts),
        "Networks": if networks.is_empty() { Value::Null } else { json!(networks) },
        "NetworkOptions": null,
        "pid_ns": "private",
        "userns": match inspect::userns(&config.userns).as_str() {
            "" => "private".to_owned(),
            word => word.to_owned(),
        },
        "uts_ns": "private",
    })
}

/// What its containers get from it, as far as there is any.
fn of_infra(pod: &Pod, volumes: &Path) -> Value {
    let defaults = &pod.record.defaults;
    let security = ContainerConfig {
        no_new_privileges: defaults.no_new_privileges,
        seccomp: defaults.seccomp.clone(),
        mask: defaults.mask.clone(),
        unmask: defaults.unmask.clone(),
        ..ContainerConfig::default()
    };
    let infra = pod.infra().map(|infra| &infra.record);
    let all = [
        ("mounts", infra.map_or(Value::Null, |record| inspect::mounts(record, volumes))),
        ("devices", infra.map_or(Value::Null, |record| inspect::devices(&record.config))),
        ("volumes_from", infra.map_or(Value::Null, |record| json!(record.config.volumes_from))),
        ("security_opt", inspect::security(&security)),
    ];
    let there = |value: &Value| value.as_array().is_some_and(|list| !list.is_empty());
    let all = all.into_iter().filter(|(_, value)| there(value));
    Value::Object(all.map(|(key, value)| (key.to_owned(), value)).collect())
}

/// The name in JSON, that in Go, which templates use, and what Go has there where JSON
/// leaves it out.
type Member = (&'static str, &'static str, fn() -> Value);

/// Members that are left out where there is nothing of them.
const LEFT_OUT: &[Member] = &[
    ("cpu_period", "CPUPeriod", || json!(0)),
    ("cpu_quota", "CPUQuota", || json!(0)),
    ("cpu_shares", "CPUShares", || json!(0)),
    ("cpuset_cpus", "CPUSetCPUs", || json!("")),
    ("cpuset_mems", "CPUSetMems", || json!("")),
    ("memory_limit", "MemoryLimit", || json!(0)),
    ("memory_swap", "MemorySwap", || json!(0)),
    ("blkio_weight", "BlkioWeight", || json!(0)),
    ("blkio_weight_device", "BlkioWeightDevice", || json!([])),
    ("device_read_bps", "BlkioDeviceReadBps", || json!([])),
    ("device_write_bps", "BlkioDeviceWriteBps", || json!([])),
    ("mounts", "Mounts", || json!([])),
    ("devices", "Devices", || json!([])),
    ("volumes_from", "VolumesFrom", || json!([])),
    ("security_opt", "SecurityOpts", || json!([])),
];

/// The document as templates see it.
pub(crate) fn with_go_names(mut document: Value) -> Value {
    for (json, go, nothing) in LEFT_OUT {
        document[*go] = document.get(*json).cloned().unwrap_or_else(nothing);
    }
    document
}

/// Those that there are.
fn limits(limits: &Limits) -> Value {
    let devices =
        |list: &[(String, u64)], key: &str| (!list.is_empty()).then(|| inspect::device_limits(list, key));
    let all = [
        ("cpu_period", limits.cpu_period.map(Value::from)),
        ("cpu_quota", limits.cpu_quota.or(limits.nano_cpus.map(|nano| nano / 10_000)).map(Value::from)),
        ("cpu_shares", limits.cpu_shares.map(Value::from)),
        ("cpuset_cpus", limits.cpuset_cpus.clone().map(Value::from)),
        ("cpuset_mems", limits.cpuset_mems.clone().map(Value::from)),
        ("memory_limit", limits.memory.map(Value::from)),
        ("memory_swap", limits.memory_swap.map(Value::from)),
        ("blkio_weight", limits.blkio_weight.map(Value::from)),
        ("pids_limit", limits.pids.map(Value::from)),
        ("blkio_weight_device", devices(&limits.devices.weights, "Weight")),
        ("device_read_bps", devices(&limits.devices.read_bps, "Rate")),
        ("device_write_bps", devices(&limits.devices.write_bps, "Rate")),
    ];
    Value::Object(
        all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect::<Map<_, _>>(),
    )
}
