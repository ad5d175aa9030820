//! On a host with systemd: `tests/vm/run` starts one and runs these in it, in a
//! login session of a lingering user. Elsewhere they say that they are skipped.

use crate::harness::{Image, Vm, sandbox};

/// This process's control group of the second version.
fn own_group() -> String {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

#[test]
fn the_machine_is_what_the_tests_take_it_for() {
    let Some(sandbox) = sandbox(&[Vm, Image("busybox")]) else { return };
    assert!(own_group().contains("/session-"), "a login session of its own: {}", own_group());
    let uid = rustix::process::getuid().as_raw();
    let manager = format!("/sys/fs/cgroup/user.slice/user-{uid}.slice/user@{uid}.service");
    let controllers = std::fs::read_to_string(format!("{manager}/cgroup.controllers")).unwrap();
    for controller in ["cpu", "memory", "pids"] {
        assert!(controllers.contains(controller), "delegated: {controllers}");
    }
    assert!(!controllers.contains("cpuset"), "Debian delegates less than all: {controllers}");
    sandbox.runs_the_readme_s_first_command();
}
