//! What docker's document of a daemon has beside what there is of one here.

use crate::cgroup::Attainable;
use crate::sys::errno::read_host;
use crate::types::cgroup::CgroupsMode;
use crate::types::limits::Limits;
use serde_json::{Value, json};

/// Docker's address of docker.io, under which its credentials are kept.
const INDEX: &str = "https://index.docker.io/v1/";

/// The members, for the top of the document.
///
/// Source: moby, api/types/system, Info.
pub(super) fn members() -> Value {
    let limits = limits();
    let mut document = json!({
        "IndexServerAddress": INDEX,
        "RegistryConfig": {
            "IndexConfigs": {
                "docker.io": { "Name": "docker.io", "Mirrors": [], "Secure": true, "Official": true },
            },
            "InsecureRegistryCIDRs": [],
            "Mirrors": [],
        },
        "IPv4Forwarding": read_host("/proc/sys/net/ipv4/ip_forward").is_some_and(|text| text.trim() == "1"),
        "Debug": false,
        "NFd": 0,
        "NGoroutines": 0,
        "NEventsListener": 0,
        "HttpProxy": proxy("HTTP_PROXY"),
        "HttpsProxy": proxy("HTTPS_PROXY"),
        "NoProxy": proxy("NO_PROXY"),
        "GenericResources": null,
        "OomKillDisable": false,
    });
    for (key, is_kept) in [
        ("MemoryLimit", limits.memory.is_some()),
        ("SwapLimit", limits.memory_swap.is_some()),
        ("CpuCfsPeriod", limits.cpu_period.is_some()),
        ("CpuCfsQuota", limits.cpu_quota.is_some()),
        ("CPUShares", limits.cpu_shares.is_some()),
        ("CPUSet", limits.cpuset_cpus.is_some()),
        ("PidsLimit", limits.pids.is_some()),
    ] {
        document[key] = json!(is_kept);
    }
    for program in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
        document[program] = json!({ "ID": "" });
    }
    document
}

/// One of each limit, as far as this host lets the user set it.
fn limits() -> Limits {
    let asked = Limits {
        memory: Some(1 << 30),
        memory_swap: Some(2 << 30),
        cpu_period: Some(100_000),
        cpu_quota: Some(100_000),
        cpu_shares: Some(1024),
        cpuset_cpus: Some("0".into()),
        pids: Some(1000),
        ..Limits::default()
    };
    Attainable::of(&asked, CgroupsMode::default(), rustix::process::getuid().as_raw()).limits
}

/// What pulls go through, in either spelling.
fn proxy(name: &str) -> String {
    let value = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    value(name).or_else(|| value(&name.to_lowercase())).unwrap_or_default()
}
