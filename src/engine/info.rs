//! `info`: what this host is and what coracle keeps on it. What it allows is
//! said by `doctor`.

mod docker;

use crate::dirs::Dirs;
use crate::sys::errno::read_host;
use crate::types::driver::Driver;
use crate::types::idmap::IdMap;
use crate::userns::newidmap::ranged_map;
use crate::userns::subid::Subordinate;
use serde_json::{Value, json};
use std::path::Path;

/// How many things the stores hold; counted by the caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) containers: usize,
    pub(crate) running: usize,
    pub(crate) paused: usize,
    pub(crate) images: usize,
}

/// The document of `info`: docker's names at the top, podman's below `host`,
/// `store` and `version`. To be called before a user namespace is entered, as
/// the host's ids and files are meant.
pub(crate) fn info(dirs: &Dirs, counts: Counts) -> Value {
    let uts = rustix::system::uname();
    let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
    let (kernel, name) = (text(uts.release()), text(uts.nodename()));
    let architecture = crate::types::platform::Platform::host().architecture;
    let memory = Memory::read();
    let os = os_release();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let version = env!("CARGO_PKG_VERSION");
    let stopped = counts.containers.saturating_sub(counts.running + counts.paused);
    let disk = Disk::of(&dirs.data);
    let host = host_document(&kernel, &name, &architecture);
    let mut document = json!({
        "ID": name,
        "Name": name,
        "Containers": counts.containers,
        "ContainersRunning": counts.running,
        "ContainersPaused": counts.paused,
        "ContainersStopped": stopped,
        "Images": counts.images,
        "Driver": "overlay",
        "DockerRootDir": dirs.data,
        "KernelVersion": kernel,
        "OperatingSystem": os.pretty,
        "OSType": "linux",
        "OSVersion": os.version,
        "Architecture": text(uts.machine()),
        "NCPU": cpus,
        "MemTotal": memory.total,
        "ServerVersion": version,
        "CgroupVersion": cgroup_version().trim_start_matches('v'),
        "CgroupDriver": "none",
        "DefaultRuntime": "coracle",
        "LoggingDriver": "json-file",
        "SecurityOptions": security_options(),
        "host": host,
        "store": {
            "graphDriverName": "overlay",
            "graphRoot": dirs.data,
            "runRoot": dirs.runtime,
            "volumePath": dirs.volumes(),
            "configFile": dirs.config.join("config.toml"),
            "containerStore": {
                "number": counts.containers,
                "running": counts.running,
                "paused": counts.paused,
                "stopped": stopped,
            },
            "imageStore": { "number": counts.images },
            "graphRootAllocated": disk.size,
            "graphRootUsed": disk.used,
            "graphStatus": { "Backing Filesystem": disk.kind },
            "graphOptions": {},
            "transientStore": false,
        },
        "plugins": { "volume": ["local"], "network": NETWORKS, "log": LOGS },
        "version": {
            "Version": version, "Os": "linux", "OsArch": format!("linux/{architecture}"),
        },
    });
    // Apart: one `json!` takes so many members only.
    let further = json!({
        "SystemTime": jiff::Timestamp::now().to_string(),
        "DriverStatus": [["Backing Filesystem", disk.kind]],
        "Plugins": { "Volume": ["local"], "Network": NETWORKS, "Log": LOGS },
        "Runtimes": { "coracle": { "path": "coracle" } },
        "InitBinary": "coracle",
        "Isolation": "",
        "Labels": [],
        "ExperimentalBuild": false,
        // Nothing of ours needs to live for a container to live.
        "LiveRestoreEnabled": true,
        "Swarm": { "LocalNodeState": "inactive" },
        "Warnings": null,
    });
    for further in [further, docker::members()] {
        if let (Value::Object(document), Value::Object(further)) = (&mut document, further) {
            document.extend(further);
        }
    }
    document
}

/// Puts into the document what containers run on, and why.
pub(crate) fn add_storage(document: &mut Value, driver: Option<Driver>, why: &str) {
    let name = driver.map_or("none", Driver::name);
    document["Driver"] = json!(name);
    document["store"]["graphDriverName"] = json!(name);
    document["store"]["graphStatus"]["Storage Driver"] = json!(why);
    if let Some(status) = document["DriverStatus"].as_array_mut() {
        status.push(json!(["Storage Driver", why]));
    }
}

/// Podman's `host` object.
fn host_document(kernel: &str, name: &str, architecture: &str) -> Value {
    let memory = Memory::read();
    let os = os_release();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let subordinate = Subordinate::of(uid);
    let uptime = read_host("/proc/uptime").and_then(|text| text.split('.').next().map(str::to_owned));
    json!({
        "arch": architecture,
        "os": "linux",
        "kernel": kernel,
        "hostname": name,
        "cpus": cpus,
        "memTotal": memory.total,
        "memFree": memory.free,
        "swapTotal": memory.swap_total,
        "swapFree": memory.swap_free,
        "uptimeSeconds": uptime.and_then(|text| text.parse::<u64>().ok()),
        "distribution": { "distribution": os.id, "version": os.version },
        "cgroupVersion": cgroup_version(),
        "cgroupManager": "none",
        "logDriver": "json-file",
        "eventLogger": "file",
        "serviceIsRemote": false,
        "cgroupsVersion": cgroup_version(),
        "networkBackend": "coracle",
        "ociRuntime": {
            "name": "coracle",
            "path": std::env::current_exe().ok(),
            "version": env!("CARGO_PKG_VERSION"),
        },
        "idMappings": {
            "uidmap": mapping(&ranged_map(uid, &subordinate.uids)),
            "gidmap": mapping(&ranged_map(gid, &subordinate.gids)),
        },
        "security": {
            "rootless": uid != 0,
            "seccompEnabled": seccomp_available(),
            "apparmorEnabled": false,
            "selinuxEnabled": false,
        },
        "slirp4netns": helper("slirp4netns"),
        "pasta": helper("pasta"),
    })
}

/// Podman's `slirp4netns` and `pasta`: without a path where it is not installed, so that
/// a template finds its fields.
fn helper(program: &str) -> Value {
    json!({ "executable": crate::userns::subid::find_program(program).unwrap_or_default() })
}

fn mapping(map: &IdMap) -> Value {
    let range = |r: &crate::types::idmap::IdRange| json!({ "container_id": r.inside, "host_id": r.outside, "size": r.length });
    map.0.iter().map(range).collect()
}

/// Docker's words; the namespaces are always a user's.
fn security_options() -> Vec<&'static str> {
    let mut options = vec!["name=rootless", "name=userns"];
    if seccomp_available() {
        options.insert(0, "name=seccomp,profile=builtin");
    }
    options
}

fn seccomp_available() -> bool {
    let status = || read_host("/proc/self/status").is_some_and(|text| text.contains("\nSeccomp:"));
    read_host("/proc/sys/kernel/seccomp/actions_avail").is_some() || status()
}

/// `v2`, or `v1` where that hierarchy is what is mounted (hybrid included).
fn cgroup_version() -> &'static str {
    if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "v2" } else { "v1" }
}

/// Modes of `--network`, and log drivers.
const NETWORKS: &[&str] = &["bridge", "slirp4netns", "pasta", "builtin", "host", "none", "container"];
const LOGS: &[&str] = &["json-file", "k8s-file", "none", "passthrough"];

/// The file system of the store.
#[derive(Clone, Copy, Debug)]
struct Disk {
    kind: &'static str,
    /// Bytes.
    size: u64,
    used: u64,
}

impl Disk {
    /// Unknown and empty where it cannot be looked at.
    fn of(directory: &Path) -> Self {
        let existing = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let Ok(stat) = rustix::fs::statfs(existing) else {
            return Self { kind: "unknown", size: 0, used: 0 };
        };
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_bsize.unsigned_abs());
        // Source: linux/magic.h; the names are docker's.
        let kind = match stat.f_type {
            0xef53 => "extfs",
            0x5846_5342 => "xfs",
            0x9123_683e => "btrfs",
            0x2fc1_2fc1 => "zfs",
            0x0102_1994 => "tmpfs",
            0x794c_7630 => "overlayfs",
            0xf2f5_2010 => "f2fs",
            _ => "unknown",
        };
        Self { kind, size: bytes(stat.f_blocks), used: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)) }
    }
}

/// Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Memory {
    total: u64,
    free: u64,
    swap_total: u64,
    swap_free: u64,
}

impl Memory {
    fn read() -> Self {
        Self::parse(&read_host("/proc/meminfo").unwrap_or_default())
    }

    /// proc_meminfo(5), whose "kB" are KiB.
    fn parse(text: &str) -> Self {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|rest| rest.trim().strip_suffix("kB"));
            number.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0).saturating_mul(1024)
        };
        Self {
            total: field("MemTotal:"),
            free: field("MemFree:"),
            swap_total: field("SwapTotal:"),
            swap_free: field("SwapFree:"),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct OsRelease {
    id: String,
    version: String,
    pretty: String,
}

fn os_release() -> OsRelease {
    let text = read_host("/etc/os-release").or_else(|| read_host("/usr/lib/os-release"));
    parse_os_release(&text.unwrap_or_default())
}

/// os-release(5), without the shell's quoting inside values.
fn parse_os_release(text: &str) -> OsRelease {
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or("unknown").trim().trim_matches(['"', '\'']).to_owned()
    };
    OsRelease { id: field("ID"), version: field("VERSION_ID"), pretty: field("PRETTY_NAME") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_in_bytes() {
        let memory = Memory::parse("MemTotal:       16 kB\nMemFree:   1 kB\nSwapTotal: x kB\nSwapFree: 5\n");
        assert_eq!(memory, Memory { total: 16 << 10, free: 1 << 10, swap_total: 0, swap_free: 0 });
    }

    #[test]
    fn os_release_with_and_without_quotes() {
        let os =
            parse_os_release("PRETTY_NAME=\"Debian GNU/Linux 12\"\nVERSION_ID='12'\nID=debian\nIDX=no\n");
        assert_eq!((os.id.as_str(), os.version.as_str()), ("debian", "12"));
        assert_eq!(os.pretty, "Debian GNU/Linux 12");
        assert_eq!(parse_os_release("").id, "unknown");
    }

    #[test]
    fn the_document_has_both_faces() {
        let runtime = tempfile::tempdir().expect("a directory");
        let dirs = Dirs::beneath(runtime.path());
        let counts = Counts { containers: 5, running: 2, paused: 1, images: 7 };
        let document = info(&dirs, counts);
        assert_eq!(document["ContainersStopped"], 2);
        assert_eq!(document["store"]["containerStore"]["stopped"], 2);
        assert_eq!(document["host"]["os"], "linux");
        assert_eq!(document["host"]["idMappings"]["uidmap"][0]["container_id"], 0);
        assert!(document["MemTotal"].as_u64().expect("a number") > 0);
    }
}
