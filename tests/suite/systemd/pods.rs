//! Pods as slices.

use super::{all_units_go, file, group_of, machine, show, units};
use crate::harness::until;
use std::path::PathBuf;

#[test]
fn a_pod_is_a_slice_with_its_limits_and_the_scopes_of_its_containers() {
    let Some(sandbox) = machine() else { return };
    let id =
        sandbox.ok(["pod", "create", "--network", "none", "--name", "shop", "-m", "64m", "--cpus", "0.5"]);
    let slice = format!("app-coracle_pod_{}.slice", &id[..12]);
    for name in ["a", "b"] {
        sandbox
            .ok(["run", "-d", "--pod", "shop", "--name", name, "--tmpfs", "/m", "busybox", "sleep", "1000"]);
    }
    let infra = sandbox.ok(["pod", "inspect", "-f", "{{.InfraContainerID}}", "shop"]);
    for name in ["a", "b", &infra] {
        let group = group_of(&sandbox.init_pid(name).to_string());
        assert!(group.contains(&format!("/app.slice/{slice}/coracle-")), "{name}: {group}");
    }
    // What the kernel says, and what systemd shows.
    let group = PathBuf::from(sandbox.ok(["pod", "inspect", "-f", "{{.CgroupPath}}", "shop"]));
    assert!(group.ends_with(&slice), "{group:?}");
    assert_eq!(file(&group, "memory.max"), (64 << 20).to_string());
    assert_eq!(file(&group, "cpu.max"), "50000 100000");
    assert!(show(&slice, "Description").contains("coracle pod shop"));
    // Monitors are not counted with what they watch.
    let monitors: Vec<String> =
        sandbox.monitors().into_iter().map(|pid| group_of(&pid.to_string())).collect();
    let outside = monitors.iter().filter(|group| !group.contains(&slice)).count();
    assert_eq!(outside, 3, "{monitors:?}");
    // The limit is that of all together: neither alone takes so much.
    let succeeds = |name: &str, script: &str| {
        sandbox
            .coracle(["exec", name, "sh", "-c", &format!("{script} 2>/dev/null && echo done")])
            .stdout
            .contains("done")
    };
    let take = "dd if=/dev/zero of=/dev/null bs=40M count=1";
    assert!(succeeds("b", take), "alone");
    assert!(succeeds("a", "dd if=/dev/zero of=/m/kept bs=1M count=40"), "the first");
    assert!(!succeeds("b", take), "with what the first has");
    sandbox.ok(["pod", "stop", "-t", "0", "shop"]);
    until("the slice to go", || show(&slice, "ActiveState").contains("=inactive").then_some(()));
    sandbox.ok(["pod", "start", "shop"]);
    assert_eq!(file(&group, "memory.max"), (64 << 20).to_string(), "again");
    sandbox.ok(["pod", "rm", "-f", "shop"]);
    until("the slice to go", || (!group.exists()).then_some(()));
    all_units_go();
    assert_eq!(units("*coracle_pod*").trim(), "");
}

#[test]
fn a_pod_lies_in_the_slice_that_is_asked_for() {
    let Some(sandbox) = machine() else { return };
    let id = sandbox.ok([
        "pod",
        "create",
        "--network",
        "none",
        "--name",
        "p",
        "--cgroup-parent",
        "shop-front.slice",
    ]);
    sandbox.ok(["pod", "start", "p"]);
    let infra = sandbox.ok(["pod", "inspect", "-f", "{{.InfraContainerID}}", "p"]);
    let group = group_of(&sandbox.init_pid(&infra).to_string());
    let around = format!("/shop.slice/shop-front.slice/shop-front-coracle_pod_{}.slice/", &id[..12]);
    assert!(group.contains(&around), "{group}");
    sandbox.ok(["pod", "rm", "-f", "p"]);
    // A controller that is not delegated is named.
    sandbox.ok(["pod", "create", "--network", "none", "--name", "p", "--cpuset-cpus", "0"]);
    sandbox
        .coracle(["pod", "start", "p"])
        .refused(&["--cpuset-cpus needs the cpuset controller", "Delegate="]);
    sandbox.ok(["pod", "rm", "-f", "p"]);
    all_units_go();
}
