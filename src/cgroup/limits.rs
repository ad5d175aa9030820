//! Limits as files of the second version: the kernel's
//! Documentation/admin-guide/cgroup-v2.rst.

use super::Delegation;
use crate::error::Error;
use crate::types::limits::Limits;

/// Microseconds.
const PERIOD: u64 = 100_000;

/// One file to write.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) controller: &'static str,
    pub(super) file: &'static str,
    pub(super) value: String,
    /// By which it was asked for.
    pub(super) flag: &'static str,
}

/// What to write for these limits.
pub(super) fn settings(limits: &Limits) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut set = |controller, file, flag, value: Option<String>| {
        if let Some(value) = value {
            settings.push(Setting { controller, file, value, flag });
        }
    };
    let bytes = |value: Option<u64>| value.map(|value| value.to_string());
    set("memory", "memory.max", "--memory", bytes(limits.memory));
    set("memory", "memory.low", "--memory-reservation", bytes(limits.memory_reservation));
    set("memory", "memory.swap.max", "--memory-swap", swap(limits));
    set("cpu", "cpu.max", "--cpus", quota(limits));
    set("cpu", "cpu.weight", "--cpu-shares", limits.cpu_shares.map(|shares| weight(shares).to_string()));
    set("cpuset", "cpuset.cpus", "--cpuset-cpus", limits.cpuset_cpus.clone());
    set("cpuset", "cpuset.mems", "--cpuset-mems", limits.cpuset_mems.clone());
    set("pids", "pids.max", "--pids-limit", limits.pids.map(or_max));
    set("io", "io.weight", "--blkio-weight", limits.blkio_weight.map(|weight| io_weight(weight).to_string()));
    settings
}

fn or_max(value: u64) -> String {
    if value == u64::MAX { "max".into() } else { value.to_string() }
}

/// Docker's is memory and swap together, the kernel's is swap alone; docker
/// gives as much swap as memory where nothing is said.
fn swap(limits: &Limits) -> Option<String> {
    let memory = limits.memory?;
    Some(match limits.memory_swap {
        None => memory.to_string(),
        Some(u64::MAX) => "max".into(),
        Some(both) => both.saturating_sub(memory).to_string(),
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
fn weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    1 + (shares - 2) * 9_999 / 262_142
}

/// 10 to 1,000 onto 1 to 10,000.
fn io_weight(weight: u64) -> u64 {
    1 + (weight.clamp(10, 1_000) - 10) * 9_999 / 990
}

/// The error for a limit that this host does not let the user set.
pub(super) fn cannot(setting: &Setting, delegation: &Delegation) -> Error {
    let Setting { controller, flag, .. } = setting;
    let error = Error::invalid(format!(
        "{flag} needs the {controller} controller of control groups, which you do not have here"
    ));
    if !delegation.has_v2 {
        return error
            .hint("this host has no control groups of version 2: see --ulimit for limits of each process");
    }
    if delegation.is_empty() {
        return error.hint(
            "this session's control group is not yours: with systemd, start the shell by `systemd-run --user --scope -p Delegate=yes bash`",
        );
    }
    let own = delegation.controllers();
    let own = if own.is_empty() { "none".to_owned() } else { own.join(", ") };
    error.hint(format!(
        "delegated to this session: {own}; with systemd, start the shell by `systemd-run --user --scope -p Delegate=yes bash`, and see \"Delegate=\" of user@.service"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(limits: &Limits) -> Vec<(&'static str, String)> {
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
        assert_eq!(written(&limits), expected.map(|(file, value)| (file, value.to_owned())));
        assert!(written(&Limits::default()).is_empty());
        let limits = Limits { cpu_quota: Some(5000), cpu_period: Some(10_000), ..Limits::default() };
        assert_eq!(written(&limits), [("cpu.max", "5000 10000".to_owned())]);
        let limits = Limits { memory: Some(7), ..Limits::default() };
        assert_eq!(written(&limits)[1], ("memory.swap.max", "7".to_owned()));
    }

    #[test]
    fn what_cannot_be_kept_is_named() {
        let setting = &settings(&Limits { pids: Some(1), ..Limits::default() })[0];
        let error = cannot(setting, &Delegation::default());
        assert!(error.to_string().contains("--pids-limit needs the pids controller"), "{error}");
        assert!(error.hints()[0].contains("no control groups of version 2"));
    }
}
