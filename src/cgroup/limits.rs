//! Limits as files of the second version: the kernel's
//! Documentation/admin-guide/cgroup-v2.rst.

use super::Delegation;
use crate::error::{Error, Trouble};
use crate::types::limits::{DeviceLimits, Limits};

/// Microseconds.
pub(super) const PERIOD: u64 = 100_000;

/// One file to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) controller: &'static str,
    pub(super) file: String,
    pub(super) value: String,
    /// By which it was asked for.
    pub(super) flag: &'static str,
    /// Whether systemd has a property for it.
    pub(super) is_property: bool,
}

/// Where an administrator delegates controllers, and what is to be in it.
pub(crate) const DROP_IN: (&str, &str) =
    ("/etc/systemd/system/user@.service.d/delegate.conf", "[Service]\nDelegate=cpu cpuset io memory pids\n");

/// What to write for these limits.
pub(super) fn settings(limits: &Limits) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut set = |controller, file: &str, flag, value: Option<String>| {
        if let Some(value) = value {
            settings.push(Setting { controller, file: file.into(), value, flag, is_property: true });
        }
    };
    let bytes = |value: Option<u64>| value.map(|value| value.to_string());
    set("memory", "memory.max", "--memory", bytes(limits.memory));
    set("memory", "memory.low", "--memory-reservation", bytes(limits.memory_reservation));
    set("memory", "memory.swap.max", "--memory-swap", swap_bytes(limits).map(or_max));
    set("cpu", "cpu.max", "--cpus", quota(limits));
    set("cpu", "cpu.weight", "--cpu-shares", limits.cpu_shares.map(|shares| weight(shares).to_string()));
    set("cpuset", "cpuset.cpus", "--cpuset-cpus", limits.cpuset_cpus.clone());
    set("cpuset", "cpuset.mems", "--cpuset-mems", limits.cpuset_mems.clone());
    set("pids", "pids.max", "--pids-limit", limits.pids.map(or_max));
    set("io", "io.weight", "--blkio-weight", limits.blkio_weight.map(|weight| io_weight(weight).to_string()));
    settings.extend(devices(&limits.devices));
    for (size, bytes) in &limits.hugetlb {
        let file = format!("hugetlb.{size}.max");
        let value = bytes.to_string();
        settings.push(Setting { controller: "hugetlb", file, value, flag: "--hugetlb", is_property: false });
    }
    for (key, value) in &limits.conf {
        let controller =
            CONTROLLERS.iter().find(|name| key.split('.').next() == Some(name)).unwrap_or(&"cgroup");
        let (file, value) = (key.clone(), value.clone());
        settings.push(Setting { controller, file, value, flag: "--cgroup-conf", is_property: false });
    }
    settings
}

/// `--cgroup-conf` names a file by its controller.
const CONTROLLERS: [&str; 8] = ["cpu", "cpuset", "hugetlb", "io", "memory", "misc", "pids", "rdma"];

/// Limits of block devices, a line each: `8:0 rbps=1048576`.
fn devices(limits: &DeviceLimits) -> Vec<Setting> {
    let lists = [
        ("--blkio-weight-device", "io.weight", "", &limits.weights),
        ("--device-read-bps", "io.max", "rbps=", &limits.read_bps),
        ("--device-write-bps", "io.max", "wbps=", &limits.write_bps),
        ("--device-read-iops", "io.max", "riops=", &limits.read_iops),
        ("--device-write-iops", "io.max", "wiops=", &limits.write_iops),
    ];
    let mut settings = Vec::new();
    for (flag, file, key, list) in lists {
        for (path, number) in list {
            let number = if key.is_empty() { io_weight(*number) } else { *number };
            let value = format!("{} {key}{number}", device_number(path));
            settings.push(Setting { controller: "io", file: file.into(), value, flag, is_property: true });
        }
    }
    settings
}

/// `8:0`, or the path itself, which the kernel then refuses.
fn device_number(path: &str) -> String {
    rustix::fs::stat(path).map_or_else(
        |_| path.to_owned(),
        |stat| format!("{}:{}", rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
    )
}

fn or_max(value: u64) -> String {
    if value == u64::MAX { "max".into() } else { value.to_string() }
}

/// Docker's is memory and swap together, the kernel's is swap alone; docker
/// gives as much swap as memory where nothing is said.
pub(super) fn swap_bytes(limits: &Limits) -> Option<u64> {
    let memory = limits.memory?;
    Some(match limits.memory_swap {
        None => memory,
        Some(u64::MAX) => u64::MAX,
        Some(both) => both.saturating_sub(memory),
    })
}

fn quota(limits: &Limits) -> Option<String> {
    match (limits.nano_cpus, limits.cpu_quota, limits.cpu_period) {
        (Some(nano), _, _) => Some(format!("{} {PERIOD}", (nano / 10_000).max(1_000))),
        (None, Some(quota), period) => Some(format!("{quota} {}", period.unwrap_or(PERIOD))),
        (None, None, Some(period)) => Some(format!("max {period}")),
        (None, None, None) => None,
    }
}

/// 2 to 262,144 onto 1 to 10,000, as runtimes agree on it.
pub(super) fn weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    1 + (shares - 2) * 9_999 / 262_142
}

/// 10 to 1,000 onto 1 to 10,000.
pub(super) fn io_weight(weight: u64) -> u64 {
    1 + (weight.clamp(10, 1_000) - 10) * 9_999 / 990
}

/// The error for a limit that this host does not let the user set.
pub(super) fn cannot(setting: &Setting, delegation: &Delegation) -> Error {
    let Setting { controller, flag, file, .. } = setting;
    if *controller == "cgroup" {
        return Error::invalid(format!("{flag}: control groups have no file {file} here"));
    }
    let error = Error::invalid(format!(
        "{flag} needs the {controller} controller of control groups, which you do not have here"
    ));
    if !delegation.has_v2 {
        return without(error.hint(
            "this host has no control groups of version 2 (systemd.unified_cgroup_hierarchy=1 on the kernel's command line gives them): see --ulimit for limits of each process",
        ));
    }
    if delegation.is_empty() {
        return without(error.hint(
            "this session's control group is not yours, and there is no user manager of systemd to give you one: log in through PAM, or ask for `sudo loginctl enable-linger $USER`",
        ));
    }
    let own = delegation.controllers();
    let own = if own.is_empty() { "none".to_owned() } else { own.join(", ") };
    without(error.hint(format!("delegated to this session: {own}")))
}

/// The error for a controller that the user manager of systemd has not got.
pub(super) fn not_delegated(setting: &Setting, controllers: &str) -> Error {
    let Setting { controller, flag, .. } = setting;
    let error = Error::invalid(format!(
        "{flag} needs the {controller} controller of control groups, which is not delegated to you"
    ));
    let own = controllers.split_ascii_whitespace().collect::<Vec<_>>().join(", ");
    let own = if own.is_empty() { "none".to_owned() } else { own };
    let (path, text) = DROP_IN;
    let how = if DELEGABLE.contains(controller) {
        format!(
            "delegated: {own}; an administrator delegates it by the file {path} with the lines\n{}\nand `systemctl daemon-reload`; it holds when your user manager has started anew",
            text.trim_end()
        )
    } else {
        format!("delegated: {own}; systemd delegates {controller} to no user")
    };
    without(error.hint(how))
}

/// What systemd can delegate: systemd.resource-control(5), "Delegate=".
const DELEGABLE: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

fn without(error: Error) -> Error {
    error
        .hint("to run without limits: leave the flag out, or add --cgroups=disabled")
        .see_doctor(Trouble::ControlGroups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(limits: &Limits) -> Vec<(String, String)> {
        settings(limits).into_iter().map(|setting| (setting.file, setting.value)).collect()
    }

    #[test]
    fn limits_become_files() {
        let limits = Limits {
            memory: Some(100),
            memory_swap: Some(150),
            nano_cpus: Some(1_500_000_000),
            cpu_shares: Some(1024),
            pids: Some(u64::MAX),
            blkio_weight: Some(1000),
            ..Limits::default()
        };
        let expected = [
            ("memory.max", "100"),
            ("memory.swap.max", "50"),
            ("cpu.max", "150000 100000"),
            ("cpu.weight", "39"),
            ("pids.max", "max"),
            ("io.weight", "10000"),
        ];
        assert_eq!(written(&limits), expected.map(|(file, value)| (file.to_owned(), value.to_owned())));
        assert!(written(&Limits::default()).is_empty());
        let limits = Limits { cpu_quota: Some(5000), cpu_period: Some(10_000), ..Limits::default() };
        assert_eq!(written(&limits), [("cpu.max".to_owned(), "5000 10000".to_owned())]);
        let limits = Limits { memory: Some(7), ..Limits::default() };
        assert_eq!(written(&limits)[1], ("memory.swap.max".to_owned(), "7".to_owned()));
    }

    #[test]
    fn what_cannot_be_kept_is_named() {
        let setting = &settings(&Limits { pids: Some(1), ..Limits::default() })[0];
        let error = cannot(setting, &Delegation::default());
        assert!(error.to_string().contains("--pids-limit needs the pids controller"), "{error}");
        assert!(error.hints()[0].contains("no control groups of version 2"));
        let error = not_delegated(setting, "cpu memory\n");
        assert!(error.hints()[0].contains("delegated: cpu, memory"), "{:?}", error.hints());
        assert!(error.hints()[0].contains("[Service]\nDelegate=cpu cpuset io memory pids"));
        let conf = Limits { conf: vec![("memory.high".into(), "1G".into())], ..Limits::default() };
        assert_eq!(settings(&conf)[0].controller, "memory");
    }
}
