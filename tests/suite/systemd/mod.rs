//! On a host with systemd: `tests/vm/run` starts one and runs these in it, in a
//! login session of a lingering user. Elsewhere they say that they are skipped.

mod crowd;
mod delegated;
mod limits;
mod logins;
mod pods;
mod quota;
mod scopes;
mod seen;
mod sessions;

use crate::harness::{Image, Sandbox, Vm, sandbox, until};
use std::path::PathBuf;
use std::process::Command;

/// This process's control group of the second version.
fn own_group() -> String {
    group_of("self")
}

fn group_of(pid: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

/// The user's manager's group, below the mount.
fn manager() -> PathBuf {
    let uid = rustix::process::getuid().as_raw();
    PathBuf::from(format!("/sys/fs/cgroup/user.slice/user-{uid}.slice/user@{uid}.service"))
}

/// The group with the limits of a running container.
fn scope_of(sandbox: &Sandbox, name: &str) -> PathBuf {
    let group = group_of(&sandbox.init_pid(name).to_string());
    let scope = group.strip_suffix("/container").unwrap_or_else(|| panic!("not in a scope: {group}"));
    PathBuf::from(format!("/sys/fs/cgroup{scope}"))
}

fn file(directory: &std::path::Path, name: &str) -> String {
    std::fs::read_to_string(directory.join(name))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
        .trim()
        .to_owned()
}

/// The properties of a unit of this user, as `NAME=VALUE` lines.
fn show(unit: &str, properties: &str) -> String {
    let output = Command::new("systemctl").args(["--user", "show", "-p", properties, unit]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn units(pattern: &str) -> String {
    let words = ["--user", "list-units", "--all", "--no-legend", "--plain", pattern];
    let output = Command::new("systemctl").args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until no container's unit is left.
fn all_units_go() {
    let left = || units("coracle-*");
    let gone =
        std::panic::catch_unwind(|| until("the units to go", || left().trim().is_empty().then_some(())));
    assert!(gone.is_ok(), "still there:\n{}", left());
}

#[test]
fn the_machine_is_what_the_tests_take_it_for() {
    let Some(sandbox) = sandbox(&[Vm]) else { return };
    assert!(own_group().contains("/session-"), "a login session of its own: {}", own_group());
    let controllers = file(&manager(), "cgroup.controllers");
    for controller in ["cpu", "memory", "pids"] {
        assert!(controllers.contains(controller), "delegated: {controllers}");
    }
    assert!(!controllers.contains("cpuset"), "Debian delegates less than all: {controllers}");
    sandbox.runs_the_readme_s_first_command();
}

/// A sandbox with one image in it.
fn machine() -> Option<Sandbox> {
    sandbox(&[Vm, Image("busybox")])
}
