//! Docker's `inspect` document of a container.
//!
//! Source: Docker Engine API v1.47, ContainerInspect.

mod host_config;
mod mounts;

pub(super) use host_config::{device_limits, devices, port_bindings, restart_policy, security, userns};
pub(super) use mounts::document as mounts;

use super::list::{Container, asked_for, network_names};
use crate::dirs::Dirs;
use crate::monitor::log_file::log_path;
use crate::runtime::capabilities::{CapRequest, CapSet, ContainerCaps};
use crate::state::networks::Networks;
use crate::types::cgroup::CgroupnsMode;
use crate::types::container::{ContainerConfig, ContainerRecord, RecordedRoot};
use crate::types::digest::Digest;
use crate::types::health::{LOG_COUNT, LOG_SIZE};
use crate::types::namespace::{IpcMode, NamespaceMode, NetworkMode, UsernsMode};
use crate::types::network::{Attachment, DEFAULT, Endpoint};
use crate::types::platform::Platform;
use crate::types::port::{self, Binding, Port};
use crate::types::reference::Reference;
use crate::types::secret::{SecretTarget, SecretUse};
use crate::types::status::{Exit, Status};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Go's zero time, which docker writes where there is none.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// The document of one container. Pure: it looks at nothing but its arguments.
pub(crate) fn document(container: &Container, dirs: &Dirs) -> Value {
    let record = &container.record;
    let command = container.command();
    let files = dirs.container(&record.id);
    let file = |name: &str| files.join(name).display().to_string();
    let log = log_path(&files, record.config.log.driver).map(|path| path.display().to_string());
    let image = match &record.root {
        RecordedRoot::Image { id, .. } => id.to_string(),
        RecordedRoot::Directory { .. } | RecordedRoot::Nothing => String::new(),
    };
    let manifest = match &record.root {
        RecordedRoot::Image { manifest, .. } => manifest.to_string(),
        RecordedRoot::Directory { .. } | RecordedRoot::Nothing => String::new(),
    };
    let mut document = json!({
        "Id": record.id.as_str(),
        "Created": record.created.to_string(),
        "Path": command.first().copied().unwrap_or_default(),
        "Args": command.get(1..).unwrap_or_default(),
        "State": state(container),
        "Image": image,
        "ImageName": image_name(record),
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"),
        "LogPath": log.as_deref().unwrap_or_default(),
        "Name": format!("/{}", record.name),
        "RestartCount": container.restart_count,
        "Driver": container.driver.name(),
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": if container.exec_ids.is_empty() { Value::Null } else { json!(container.exec_ids) },
        "HostConfig": host_config::document(record, log.as_deref()),
        "GraphDriver": graph_driver(container, dirs),
        "Mounts": mounts::document(record, &dirs.volumes()),
        "Config": config(container),
        "NetworkSettings": network_settings(container, dirs),
        "Architecture": Platform::host().architecture,
    });
    // Podman's.
    document["ImageDigest"] = json!(manifest);
    document["OCIRuntime"] = json!("coracle");
    document["PidFile"] = json!(pid_file(record.config.pid_files.init.as_deref()));
    document["ConmonPidFile"] = json!(pid_file(record.config.pid_files.monitor.as_deref()));
    document["IsInfra"] = json!(record.config.infra);
    document["Pod"] = json!(record.config.pod.as_ref().map(|pod| pod.id.as_str()).unwrap_or_default());
    document["Rootfs"] = match &record.root {
        RecordedRoot::Directory { path, .. } => json!(path.display().to_string()),
        RecordedRoot::Image { .. } | RecordedRoot::Nothing => json!(""),
    };
    let (effective, bounding) = capabilities(&record.config);
    document["EffectiveCaps"] = effective;
    document["BoundingCaps"] = bounding;
    document["StaticDir"] = json!(files.display().to_string());
    document["Dependencies"] = json!(dependencies(&record.config));
    // There are none: no names of libpod's, no document of an OCI runtime.
    document["Namespace"] = json!("");
    document["OCIConfigPath"] = json!("");
    if let Some((own, all)) = container.size {
        document["SizeRw"] = json!(own);
        document["SizeRootFs"] = json!(all);
    }
    document
}

fn pid_file(file: Option<&Path>) -> String {
    file.map(|file| file.display().to_string()).unwrap_or_default()
}

/// Podman's: what its first process may do, and what all of it may at most. By
/// the user that was asked for: who is root in the image alone counts as another.
fn capabilities(config: &ContainerConfig) -> (Value, Value) {
    let request = CapRequest { add: &config.cap_add, drop: &config.cap_drop, privileged: config.privileged };
    let Ok(caps) = ContainerCaps::compute(request, CapSet::ALL) else { return (Value::Null, Value::Null) };
    let user = config.user.as_deref().unwrap_or_default();
    let is_root = matches!(user.split(':').next(), None | Some("" | "0" | "root"));
    let list = |set: CapSet| if set == CapSet::EMPTY { Value::Null } else { json!(set.names()) };
    (list(caps.for_user(u32::from(!is_root)).permitted), list(caps.bounding))
}

/// The containers whose namespaces it is in.
fn dependencies(config: &ContainerConfig) -> Vec<&str> {
    let mut all = Vec::new();
    for mode in [&config.pid, &config.uts] {
        if let NamespaceMode::Container(id) = mode {
            all.push(id.as_str());
        }
    }
    if let IpcMode::Container(id) = &config.ipc {
        all.push(id);
    }
    if let CgroupnsMode::Container(id) = &config.cgroupns {
        all.push(id);
    }
    if let UsernsMode::Container(id) = &config.userns {
        all.push(id);
    }
    if let NetworkMode::Container(id) = &config.network {
        all.push(id);
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// What shows its files, and the directories that it shows.
fn graph_driver(container: &Container, dirs: &Dirs) -> Value {
    let record = &container.record;
    let file = |name: &str| dirs.container(&record.id).join(name).display().to_string();
    let mut data = json!({"UpperDir": file("upper"), "WorkDir": file("work")});
    if let RecordedRoot::Image { layers, .. } = &record.root {
        let path = |layer: &Digest| dirs.layers().join(layer.hex()).join("root").display().to_string();
        data["LowerDir"] = json!(layers.iter().rev().map(path).collect::<Vec<_>>().join(":"));
    }
    json!({"Name": container.driver.name(), "Data": data})
}

/// The whole reference, with registry and tag.
fn image_name(record: &ContainerRecord) -> String {
    match &record.root {
        RecordedRoot::Image { reference, .. } => {
            Reference::parse(reference).map_or_else(|_| reference.clone(), |parsed| parsed.to_string())
        }
        RecordedRoot::Directory { .. } | RecordedRoot::Nothing => String::new(),
    }
}

fn state(container: &Container) -> Value {
    let (pid, monitor) = match &container.status {
        Status::Running { init, monitor, .. } => (init.pid, monitor.pid),
        Status::Restarting { monitor, .. } => (0, monitor.pid),
        Status::Created | Status::Exited(_) => (0, 0),
    };
    let exit: Option<&Exit> = match &container.status {
        Status::Exited(exit) | Status::Restarting { last: exit, .. } => Some(exit),
        Status::Created | Status::Running { .. } => None,
    };
    let started = match &container.status {
        Status::Running { since, .. } => Some(*since),
        Status::Exited(exit) | Status::Restarting { last: exit, .. } => Some(exit.started_at),
        Status::Created => container.last_started,
    };
    let failed = exit.or(container.not_started.as_ref());
    let time = |time: Option<Timestamp>| time.map_or_else(|| NO_TIME.to_owned(), |time| time.to_string());
    let mut document = json!({
        "Status": container.state(),
        "Running": container.is_up(),
        "Paused": matches!(container.status, Status::Running { paused: true, .. }),
        "Restarting": matches!(container.status, Status::Restarting { .. }),
        "OOMKilled": exit.is_some_and(|exit| exit.oom_killed),
        "Dead": false,
        "Pid": pid,
        "MonitorPid": monitor,
        // As podman calls it.
        "ConmonPid": monitor,
        "ConmonPidFile": pid_file(container.record.config.pid_files.monitor.as_deref()),
        "CgroupPath": container.cgroup.as_deref().map(cgroup_path).unwrap_or_default(),
        "ExitCode": failed.map_or(0, |exit| exit.code),
        "Error": failed.and_then(|exit| exit.error.clone()).unwrap_or_default(),
        "StartedAt": time(started),
        "FinishedAt": time(exit.map(|exit| exit.finished_at).or(container.last_ended)),
    });
    // Docker leaves out what there is nothing of. The last is podman's name.
    let health = health(container);
    for (key, value) in
        [("Health", health.clone()), ("Pressure", pressure(container)), ("Healthcheck", health)]
    {
        if let Some(value) = value {
            document[key] = value;
        }
    }
    document
}

/// Below the mount of cgroup2, as podman tells it.
fn cgroup_path(path: &Path) -> String {
    let below = crate::cgroup::mount_point().and_then(|mount| path.strip_prefix(mount).ok());
    below.map_or_else(|| path.display().to_string(), |below| format!("/{}", below.display()))
}

/// How long its processes have waited for want of something; `None` where
/// nobody counts.
fn pressure(container: &Container) -> Option<Value> {
    let mut all = serde_json::Map::new();
    for (resource, kind, [ten, sixty, more], total) in container.pressure() {
        let entry = all.entry(resource).or_insert_with(|| json!({}));
        entry[kind] = json!({"avg10": ten, "avg60": sixty, "avg300": more, "total": total});
    }
    (!all.is_empty()).then_some(Value::Object(all))
}

/// What the checks have found; `None` where there are none.
fn health(container: &Container) -> Option<Value> {
    container.health.as_ref().map(|health| {
        json!({"Status": health.status.name(), "FailingStreak": health.failing_streak, "Log": health.log})
    })
}

fn config(container: &Container) -> Value {
    let record = &container.record;
    let config = &record.config;
    let set = |keys: &mut dyn Iterator<Item = String>| -> Value {
        let set: Map<String, Value> = keys.map(|key| (key, json!({}))).collect();
        if set.is_empty() { Value::Null } else { set.into() }
    };
    let volumes = mounts::volume_targets(record);
    let hostname = config.hostname.clone().unwrap_or_else(|| record.id.short().to_owned());
    let mut document = json!({
        "Hostname": hostname,
        "Domainname": config.domainname.clone().unwrap_or_default(),
        "User": config.user.clone().unwrap_or_default(),
        "AttachStdin": config.attaches("stdin"),
        "AttachStdout": config.attaches("stdout"),
        "AttachStderr": config.attaches("stderr"),
        "ExposedPorts": set(&mut config.expose.iter().cloned()),
        "Tty": config.tty,
        "OpenStdin": config.interactive,
        "StdinOnce": config.stdin_once(),
        "Env": config.env,
        "Cmd": if config.cmd.is_empty() { Value::Null } else { json!(config.cmd) },
        "Image": asked_for(record),
        "Volumes": set(&mut volumes.into_iter()),
        "WorkingDir": config.workdir.clone().unwrap_or_default(),
        "Entrypoint": config.entrypoint,
        "OnBuild": null,
        "Labels": config.labels,
        "Annotations": config.annotations,
        "Secrets": secrets(config),
        "SystemdMode": config.runs_systemd(),
        "StopSignal": config.stop_signal.clone().unwrap_or_else(|| "SIGTERM".into()),
    });
    let health = config.health.as_ref();
    let optional = [
        (
            "Healthcheck",
            health.filter(|health| !health.check.test.is_empty()).map(|health| json!(health.check)),
        ),
        ("HealthcheckOnFailureAction", health.map(|health| health.on_failure.name().into())),
        (
            "StartupHealthCheck",
            health.and_then(|health| health.startup.as_ref()).map(|startup| {
                let mut document = json!(startup.check);
                document["Successes"] = json!(startup.success);
                document
            }),
        ),
        ("HealthMaxLogCount", health.map(|health| health.max_log_count.unwrap_or(LOG_COUNT).into())),
        ("HealthMaxLogSize", health.map(|health| health.max_log_size.unwrap_or(LOG_SIZE).into())),
        ("HealthLogDestination", health.map(|_| "local".into())),
        ("StopTimeout", config.stop_timeout.map(Value::from)),
        ("Umask", config.umask.map(|mask| format!("{mask:04o}").into())),
        ("Timezone", config.tz.clone().map(Value::from)),
        ("Timeout", (config.timeout > 0).then(|| config.timeout.into())),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            document[key] = value;
        }
    }
    document
}

/// Podman's: which there are, never what they are.
fn secrets(config: &ContainerConfig) -> Value {
    let secret = |used: &SecretUse| match &used.target {
        SecretTarget::File { uid, gid, mode, .. } => {
            json!({"Name": used.name, "ID": used.id, "UID": uid, "GID": gid, "Mode": mode})
        }
        SecretTarget::Variable(_) => json!({"Name": used.name, "ID": used.id}),
    };
    config.secrets.iter().map(secret).collect()
}

/// Docker's shape.
fn network_settings(container: &Container, dirs: &Dirs) -> Value {
    let config = &container.record.config;
    let mut networks = serde_json::Map::new();
    for name in network_names(config) {
        let endpoint = container.endpoints.iter().find(|endpoint| endpoint.network == name);
        let wish = config.networks.iter().find(|wish| wish.network == name);
        networks.insert(name, network_place(&container.record, endpoint, wish, dirs));
    }
    let sandbox = match &container.status {
        Status::Running { init, .. } => format!("/proc/{}/ns/net", init.pid),
        Status::Created | Status::Restarting { .. } | Status::Exited(_) => String::new(),
    };
    let default =
        networks.get(DEFAULT).cloned().unwrap_or_else(|| network_place(&container.record, None, None, dirs));
    let of = |key: &str| default[key].clone();
    json!({
        "Bridge": "", "SandboxID": "", "SandboxKey": sandbox, "Ports": ports(container),
        "EndpointID": of("EndpointID"), "Gateway": of("Gateway"),
        "IPAddress": of("IPAddress"), "IPPrefixLen": of("IPPrefixLen"), "IPv6Gateway": of("IPv6Gateway"),
        "GlobalIPv6Address": of("GlobalIPv6Address"), "GlobalIPv6PrefixLen": of("GlobalIPv6PrefixLen"),
        "MacAddress": of("MacAddress"), "Networks": networks,
    })
}

/// How the container is on one network, or is to be.
fn network_place(
    record: &ContainerRecord,
    endpoint: Option<&Endpoint>,
    wish: Option<&Attachment>,
    dirs: &Dirs,
) -> Value {
    let network = endpoint.and_then(|endpoint| Networks::new(dirs).find(&endpoint.network).ok());
    let text = |address: Option<std::net::IpAddr>| address.map(|a| a.to_string()).unwrap_or_default();
    let pool = |address: Option<std::net::IpAddr>| network.as_ref()?.pool_of(address?);
    let (v4, v6) = (endpoint.and_then(Endpoint::ipv4), endpoint.and_then(Endpoint::ipv6));
    let aliases = wish.map(|wish| &wish.aliases).filter(|aliases| !aliases.is_empty());
    let gateway = |address| text(pool(address).map(|pool| pool.gateway));
    let prefix = |address| pool(address).map_or(0, |pool| pool.subnet.prefix());
    let asked = [
        ("IPv4Address", wish.and_then(|wish| wish.ip.map(|ip| ip.to_string()))),
        ("IPv6Address", wish.and_then(|wish| wish.ip6.map(|ip| ip.to_string()))),
    ];
    let mut asked: serde_json::Map<String, Value> =
        asked.into_iter().filter_map(|(key, ip)| Some((key.to_owned(), ip?.into()))).collect();
    if let Some(wish) = wish.filter(|wish| !wish.link_local.is_empty()) {
        asked.insert("LinkLocalIPs".into(), json!(wish.link_local));
    }
    let links = record.config.links.iter().chain(wish.iter().flat_map(|wish| &wish.links));
    let links: Vec<String> = links.map(|(to, called)| format!("{to}:{called}")).collect();
    let options = wish.map(|wish| &wish.driver_options).filter(|options| !options.is_empty());
    json!({
        "IPAMConfig": if asked.is_empty() { Value::Null } else { asked.into() }, "Aliases": aliases,
        "Links": if wish.is_none() || links.is_empty() { Value::Null } else { links.into() },
        "DriverOpts": options, "GwPriority": wish.map_or(0, |wish| wish.gw_priority), "DNSNames": wish.map(|wish| dns_names(record, wish)),
        "MacAddress": endpoint.map(|endpoint| endpoint.mac.to_string()).unwrap_or_default(),
        "NetworkID": endpoint.map(|endpoint| endpoint.network_id.clone()).unwrap_or_default(),
        "EndpointID": endpoint.map(|endpoint| endpoint.id(&record.id)).unwrap_or_default(),
        "Gateway": gateway(v4), "IPAddress": text(v4), "IPPrefixLen": prefix(v4), "IPv6Gateway": gateway(v6),
        "GlobalIPv6Address": text(v6), "GlobalIPv6PrefixLen": prefix(v6),
    })
}

/// By what others on a network know it.
fn dns_names(record: &ContainerRecord, wish: &Attachment) -> Vec<String> {
    let own = [record.name.clone(), record.id.short().to_owned()];
    let all = own.into_iter().chain(wish.aliases.iter().cloned()).chain(record.config.hostname.clone());
    let mut names: Vec<String> = Vec::new();
    all.for_each(|name| {
        if !names.contains(&name) {
            names.push(name);
        }
    });
    names
}

/// `{"80/tcp": [{"HostIp": …, "HostPort": …}], "443/tcp": null}`, of a container
/// that runs.
fn ports(container: &Container) -> Value {
    if !container.is_up() {
        return json!({});
    }
    let config = &container.record.config;
    let mut all: BTreeMap<Port, Vec<Value>> =
        port::exposed(&config.expose).into_iter().map(|port| (port, Vec::new())).collect();
    for Binding { port, address } in &container.ports {
        let binding = json!({"HostIp": address.ip().to_string(), "HostPort": address.port().to_string()});
        all.entry(*port).or_default().push(binding);
    }
    let value = |bindings: Vec<Value>| if bindings.is_empty() { Value::Null } else { bindings.into() };
    Value::Object(all.into_iter().map(|(port, bindings)| (port.to_string(), value(bindings))).collect())
}

#[cfg(test)]
mod tests {
    use super::super::list::samples::{container, exited, running, time};
    use super::*;
    use crate::types::mount::{parse_mount, parse_tmpfs, parse_volume};

    fn dirs() -> Dirs {
        Dirs::beneath(Path::new("/home/x"))
    }

    #[test]
    fn a_running_container_is_described() {
        let mut web = container("web", 3, running("2026-01-03T12:00:00Z"));
        web.record.config.entrypoint = Some(vec!["/entry".into()]);
        let document = document(&web, &dirs());
        assert_eq!(document["Name"], "/web");
        assert_eq!(document["Path"], "/entry");
        assert_eq!(document["Args"], json!(["sleep", "100"]));
        assert_eq!(document["State"]["Status"], "running");
        assert_eq!(document["State"]["Pid"], 42);
        assert_eq!(document["State"]["StartedAt"], "2026-01-03T12:00:00Z");
        assert_eq!(document["State"]["FinishedAt"], NO_TIME);
        assert_eq!(document["Config"]["Image"], "busybox");
        assert_eq!(document["Config"]["Hostname"], "030303030303");
        assert!(document["Image"].as_str().is_some_and(|id| id.starts_with("sha256:")));
        assert!(document.get("SizeRw").is_none());
        for key in ["Health", "Healthcheck", "Pressure"] {
            assert!(document["State"].get(key).is_none(), "{key}");
        }
        assert!(
            document["LogPath"]
                .as_str()
                .is_some_and(|path| path.starts_with("/home/x/state/containers/0303"))
        );
    }

    #[test]
    fn an_exit_is_told() {
        let document = document(&container("db", 1, exited(137, "2026-01-02T00:00:00Z")), &dirs());
        assert_eq!(document["State"]["ExitCode"], 137);
        assert_eq!(document["State"]["Running"], false);
        assert_eq!(document["State"]["FinishedAt"], "2026-01-02T00:00:00Z");
    }

    #[test]
    fn mounts_have_dockers_fields() {
        let mut web = container("web", 3, Status::Created);
        let here = Path::new("/");
        web.record.config.mounts = vec![
            parse_volume("/a:/b:ro,rslave", here).expect("valid"),
            parse_volume("data:/d", here).expect("valid"),
            parse_tmpfs("/t:size=1m").expect("valid"),
            parse_tmpfs("/u").expect("valid"),
            parse_mount("type=tmpfs,dst=/m,tmpfs-size=1k,tmpfs-mode=700", here).expect("valid"),
            parse_mount("src=v,dst=/v,volume-nocopy,volume-label=a=b,volume-subpath=s", here).expect("valid"),
        ];
        web.size = Some((5, 50));
        let document = document(&web, &dirs());
        assert_eq!(
            document["Mounts"][0],
            json!({"Type": "bind", "Source": "/a", "Destination": "/b", "Mode": "ro,rslave", "RW": false, "Propagation": "rslave"})
        );
        assert_eq!(document["Mounts"][1]["Name"], "data");
        assert_eq!(document["Mounts"][1]["Source"], "/home/x/data/volumes/data/_data");
        assert_eq!(document["HostConfig"]["Binds"], json!(["/a:/b:ro,rslave", "data:/d"]));
        assert_eq!(document["HostConfig"]["Tmpfs"]["/t"], "size=1m");
        assert_eq!(document["HostConfig"]["Tmpfs"]["/u"], "");
        assert_eq!(document["Mounts"][1]["Propagation"], "");
        assert_eq!(
            document["Mounts"][2],
            json!({"Type": "tmpfs", "Source": "", "Destination": "/m", "Mode": "", "RW": true, "Propagation": ""})
        );
        assert_eq!(document["Mounts"].as_array().map(Vec::len), Some(4));
        assert_eq!(
            document["HostConfig"]["Mounts"],
            json!([
                {"Type": "tmpfs", "Target": "/m", "TmpfsOptions": {"SizeBytes": 1024, "Mode": 448}},
                {
                    "Type": "volume", "Source": "v", "Target": "/v",
                    "VolumeOptions": {"NoCopy": true, "Labels": {"a": "b"}, "Subpath": "s"},
                },
            ])
        );
        assert_eq!(document["SizeRootFs"], 50);
    }

    #[test]
    fn settings_are_told_in_dockers_words() {
        let mut web = container("web", 3, Status::Created);
        web.record.created = time("2026-01-03T12:00:00.123456789Z");
        let config = &mut web.record.config;
        config.restart = crate::types::status::RestartPolicy::OnFailure { max_retries: Some(3) };
        config.no_new_privileges = true;
        config.cap_add = ["net_admin", "CAP_SYS_TIME", "Net_Admin"].map(str::to_owned).into();
        config.cap_drop = ["setuid", "net_admin", "chown"].map(str::to_owned).into();
        config.expose = vec!["80/tcp".into()];
        let document = document(&web, &dirs());
        assert_eq!(document["Created"], "2026-01-03T12:00:00.123456789Z");
        assert_eq!(
            document["HostConfig"]["RestartPolicy"],
            json!({"Name": "on-failure", "MaximumRetryCount": 3})
        );
        assert_eq!(document["HostConfig"]["CapAdd"], json!(["CAP_NET_ADMIN", "CAP_SYS_TIME"]));
        assert_eq!(document["HostConfig"]["CapDrop"], json!(["CAP_CHOWN", "CAP_SETUID"]));
        assert_eq!(document["HostConfig"]["SecurityOpt"], json!(["no-new-privileges"]));
        assert_eq!(document["HostConfig"]["ShmSize"], 64 << 20);
        assert_eq!(document["Config"]["ExposedPorts"], json!({"80/tcp": {}}));
    }
}
