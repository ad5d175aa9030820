//! Where a container lies in the user manager's tree.

use super::{all_units_go, file, group_of, machine, own_group, scope_of, show};
use crate::harness::process::Output;
use crate::harness::{Sandbox, until};

#[test]
fn a_container_is_a_scope_and_its_monitor_another() {
    let Some(sandbox) = machine() else { return };
    sandbox.start("web", &["busybox", "sleep", "1000"]);
    let id = sandbox.ok(["inspect", "-f", "{{.Id}}", "web"]);
    let unit = format!("coracle-{}.scope", &id[..12]);
    let scope = scope_of(&sandbox, "web");
    assert!(scope.ends_with(format!("app.slice/{unit}")), "{}", scope.display());
    let shown = show(&unit, "Description,Delegate,ActiveState");
    assert!(shown.contains("Description=coracle container web (docker.io/library/busybox"), "{shown}");
    assert!(shown.contains("Delegate=yes") && shown.contains("ActiveState=active"), "{shown}");
    let monitor = sandbox.monitors()[0].to_string();
    let of_monitor = group_of(&monitor);
    assert!(of_monitor.ends_with(&format!("coracle-{}-monitor.scope", &id[..12])), "{of_monitor}");
    // Nothing else is in the scope: the placeholder is gone.
    assert_eq!(file(&scope.join("container"), "cgroup.procs").lines().count(), 1);
    assert_eq!(file(&scope, "cgroup.procs"), "");
    // It sees its own group as the root of all, and a further command too.
    assert!(sandbox.ok(["exec", "web", "cat", "/proc/self/cgroup"]).ends_with("0::/"));
    let seen = sandbox.ok(["exec", "web", "ls", "/sys/fs/cgroup"]);
    assert!(seen.contains("cgroup.procs") && !seen.contains("user.slice"), "{seen}");
    // The kernel freezes it, without a limit on anything.
    sandbox.ok(["pause", "web"]);
    assert!(file(&scope.join("container"), "cgroup.events").contains("frozen 1"));
    sandbox.ok(["unpause", "web"]);
    // What systemd stops ends as by `stop`.
    sandbox.ok(["restart", "-t", "0", "web"]);
    assert!(show(&unit, "ActiveState").contains("=active"), "another run, the same name");
    sandbox.ok(["rm", "-f", "web"]);
    all_units_go();
}

#[test]
fn what_holds_the_networks_is_in_no_container_s_scope() {
    let Some(sandbox) = machine() else { return };
    sandbox.ok(["network", "create", "n"]);
    for name in ["first", "second"] {
        sandbox.ok(["run", "-d", "--name", name, "--network", "n", "busybox", "sleep", "1000"]);
    }
    let holder = sandbox.processes_with("--netd")[0].to_string();
    let group = group_of(&holder);
    assert!(group.ends_with(&format!("app.slice/coracle-netd-{holder}.scope")), "{group}");
    // Its monitor has started the holder: a scope that stayed would be in the way.
    let id = sandbox.ok(["inspect", "-f", "{{.Id}}", "first"]);
    sandbox.ok(["stop", "-t", "0", "first"]);
    let monitor = format!("coracle-{}-monitor.scope", &id[..12]);
    until("the monitor's scope to go", || show(&monitor, "ActiveState").contains("=inactive").then_some(()));
    sandbox.ok(["start", "first"]);
    let output = sandbox.ok(["exec", "second", "nslookup", "-type=a", "first"]);
    assert!(output.contains("Name:"), "{output}");
    sandbox.ok(["rm", "-f", "-t", "0", "first", "second"]);
    all_units_go();
}

#[test]
fn flags_say_where_it_lies() {
    let Some(sandbox) = machine() else { return };
    let words = ["--cgroup-parent", "shop-front.slice", "busybox", "sleep", "1000"];
    sandbox.start("c", &words);
    let scope = scope_of(&sandbox, "c").display().to_string();
    assert!(scope.contains("/shop.slice/shop-front.slice/coracle-"), "{scope}");
    sandbox.run(&["--cgroup-parent", "a/b", "busybox", "true"]).refused(&["xxx.slice"]);
    let own = own_group();
    let output =
        sandbox.run(&["--cgroups=disabled", "-m", "64m", "busybox", "cat", "/proc/self/cgroup"]).ok();
    assert_eq!(output.text(), "0::/", "a namespace all the same");
    assert!(output.stderr.contains("without its limits: --memory"), "{output}");
    let host =
        sandbox.run(&["--cgroups=disabled", "--cgroupns=host", "busybox", "cat", "/proc/self/cgroup"]).ok();
    assert_eq!(host.text(), format!("0::{own}"), "its starter's");
    let host = sandbox.run(&["--cgroupns=host", "busybox", "cat", "/proc/self/cgroup"]).ok();
    assert!(host.text().contains("/app.slice/coracle-") && host.text().ends_with("/container"), "{host}");
    let alone = sandbox.run(&["--cgroups=no-conmon", "busybox", "true"]).ok();
    assert!(alone.stderr.contains("no control group of its own"), "from a session's group: {alone}");
}

/// What `script` says in a scope of its own, below which it may make groups.
fn in_a_unit(sandbox: &Sandbox, script: &str) -> Output {
    let mut command = sandbox.command("systemd-run");
    let uid = rustix::process::getuid().as_raw();
    let script = format!("tool={}; {script}", crate::harness::sandbox::binary().display());
    // The folders are the sandbox's, the manager is the user's.
    command.args(["--user", "--scope", "-q", "-p", "Delegate=yes", "sh", "-c", &script]);
    command.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path=/run/user/{uid}/bus"));
    crate::harness::process::Running::start(command).wait().ok()
}

#[test]
fn in_a_delegated_unit_it_may_lie_below_its_starter() {
    let Some(sandbox) = machine() else { return };
    let words =
        "run --rm --network none --cgroups=split --cgroupns=host -m 64m busybox cat /proc/self/cgroup";
    let output = in_a_unit(&sandbox, &format!("$tool {words}"));
    assert!(
        output.text().contains("/app.slice/run-") && output.text().contains(".scope/coracle-"),
        "{output}"
    );
}

#[test]
fn without_one_of_its_own_the_monitor_stays_in_its_starter_s_group() {
    let Some(sandbox) = machine() else { return };
    let script = "$tool run -d --name c --network none --cgroups=no-conmon -m 64m busybox sleep 1000; \
         cat /proc/self/cgroup /proc/$($tool inspect -f '{{.State.MonitorPid}}' c)/cgroup";
    let output = in_a_unit(&sandbox, script);
    let groups: Vec<&str> = output.stdout.lines().rev().take(2).collect();
    assert!(groups[0] == groups[1] && groups[0].contains("/app.slice/run-"), "{output}");
    let scope = scope_of(&sandbox, "c");
    assert!(scope.parent().unwrap().ends_with("app.slice"), "{}", scope.display());
    assert_eq!(file(&scope, "memory.max"), "67108864");
    sandbox.ok(["rm", "-f", "-t", "0", "c"]);
    all_units_go();
}

#[test]
fn the_manager_is_found_without_any_variable() {
    let Some(sandbox) = machine() else { return };
    let mut command = sandbox.tool(["run", "--rm", "--network", "none", "-m", "64m", "--cgroupns=host"]);
    command.args(["busybox", "cat", "/proc/self/cgroup"]).env_remove("XDG_RUNTIME_DIR");
    let output = crate::harness::process::Running::start(command).wait().ok();
    assert!(output.text().contains("/app.slice/coracle-"), "{output}");
}
