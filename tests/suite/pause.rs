//! `pause`, `unpause`, `stats`, `update`, and limits: with a control group
//! where the host gives one, and without.

use crate::harness::needs::cgroup_mount;
use crate::harness::{Cgroup, Image, Sandbox, sandbox, until};
use rustix::process::{Pid, Signal, kill_process};
use std::path::PathBuf;

/// A shell that counts on, in a file that the host sees.
fn counting(sandbox: &Sandbox, options: &[&str]) -> PathBuf {
    let folder = sandbox.folder("count");
    let bind = format!("{}:/count", folder.display());
    let script =
        "n=0; while true; do n=$((n+1)); echo $n >/count/new; mv /count/new /count/n; sleep 0.01; done";
    sandbox.start("c", &[&["-v", &bind], options, &["busybox", "sh", "-c", script]].concat());
    let file = folder.join("n");
    until("the count to begin", || file.exists().then_some(()));
    file
}

fn count(file: &PathBuf) -> u64 {
    until("a number", || std::fs::read_to_string(file).ok()?.trim().parse().ok())
}

/// States of the container's processes in `/proc`, as letters.
fn states(sandbox: &Sandbox) -> String {
    let init = sandbox.init_pid("c");
    let children = std::fs::read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap_or_default();
    let pids = std::iter::once(init.to_string()).chain(children.split_whitespace().map(str::to_owned));
    let state = |pid: String| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    };
    pids.filter_map(state).collect()
}

/// Pauses, looks for what must not happen, and lets it go on.
fn pauses_and_goes_on(sandbox: &Sandbox, file: &PathBuf) {
    assert_eq!(sandbox.ok(["pause", "c"]), "c");
    let before = count(file);
    assert_eq!(sandbox.status("c"), "paused");
    assert_eq!(sandbox.inspect("c")["State"]["Paused"], true);
    assert!(sandbox.ok(["ps", "--format", "{{.Status}}"]).ends_with("(Paused)"));
    sandbox.coracle(["pause", "c"]).fails(1, &["already paused"]);
    sandbox.coracle(["exec", "c", "true"]).fails(1, &["paused"]);
    // Other commands took a while: a process that runs would have counted on.
    assert_eq!(count(file), before, "it runs on");
    assert_eq!(sandbox.ok(["unpause", "c"]), "c");
    until("it to go on", || (count(file) > before).then_some(()));
    assert_eq!(sandbox.status("c"), "running");
    sandbox.coracle(["unpause", "c"]).fails(1, &["not paused"]);
}

/// The kernel shows a name as it is, and it need be no text.
#[test]
fn a_process_is_counted_whatever_it_calls_itself() {
    let Some(mut sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.set("CORACLE_CGROUPS", "no");
    let script = "printf '\\377) Z' >/proc/self/comm; mkfifo /never; read -r word </never";
    sandbox.start("c", &["busybox", "sh", "-c", script]);
    let named = format!("/proc/{}/comm", sandbox.init_pid("c"));
    until("its name", || (std::fs::read(&named).ok()? == b"\xff) Z\n").then_some(()));
    // Its children have ended.
    until("it to be alone", || {
        let counted = sandbox.ok(["stats", "--no-stream", "--format", "{{.PIDs}}", "c"]);
        (counted == "1").then_some(())
    });
    sandbox.ok(["rm", "-f", "-t", "0", "c"]);
}

#[test]
fn without_a_control_group_processes_are_stopped_one_by_one() {
    let Some(mut sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.set("CORACLE_CGROUPS", "no");
    let file = counting(&sandbox, &[]);
    sandbox.ok(["pause", "c"]);
    // A child that had just ended cannot be waited for by who is stopped.
    let states = states(&sandbox);
    assert!(states.starts_with('T') && states.chars().all(|state| matches!(state, 'T' | 'Z')), "{states}");
    sandbox.ok(["unpause", "c"]);
    pauses_and_goes_on(&sandbox, &file);
    sandbox.ok(["rm", "-f", "c"]);
}

#[test]
fn with_a_control_group_the_kernel_freezes_them() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Cgroup]) else { return };
    let file = counting(&sandbox, &[]);
    let init = sandbox.init_pid("c");
    let group = std::fs::read_to_string(format!("/proc/{init}/cgroup")).unwrap();
    let id = sandbox.ok(["inspect", "-f", "{{.Id}}", "c"]);
    let group = group.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    assert!(group.ends_with(&format!("coracle-{}", &id[..12])), "{group}");
    // A further command is in the same group.
    let of_exec = sandbox.ok(["exec", "c", "cat", "/proc/self/cgroup"]);
    assert!(of_exec.lines().any(|line| line == "0::/"), "a namespace of its own, and its root: {of_exec}");
    pauses_and_goes_on(&sandbox, &file);
    let directory = cgroup_mount().unwrap().join(group.trim_start_matches('/'));
    assert!(directory.join("cgroup.freeze").exists());
    sandbox.ok(["stop", "-t", "0", "c"]);
    assert!(!directory.exists(), "the group is gone with the container");
}

/// As after a log-out that took the runtime directory along.
#[test]
fn a_group_that_a_lost_run_has_left_frozen_does_not_hold_up_the_next() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Cgroup]) else { return };
    sandbox.start("c", &["busybox", "sleep", "100000"]);
    let (init, monitor) = (sandbox.init_pid("c"), sandbox.monitors()[0]);
    let text = std::fs::read_to_string(format!("/proc/{init}/cgroup")).unwrap();
    let group = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    let group = cgroup_mount().unwrap().join(group.trim_start_matches('/'));
    sandbox.ok(["pause", "c"]);
    for pid in [monitor, init] {
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }
    until("the monitor to end", || sandbox.monitors().is_empty().then_some(()));
    std::fs::remove_dir_all(sandbox.path("run/coracle")).unwrap();
    assert_eq!(std::fs::read_to_string(group.join("cgroup.freeze")).unwrap(), "1\n");
    sandbox.ok(["start", "c"]);
    assert_eq!(sandbox.ok(["exec", "c", "echo", "there"]), "there");
}

#[test]
fn what_is_paused_can_be_stopped_killed_and_removed() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    for (name, end) in [("a", &["stop", "a"][..]), ("b", &["kill", "b"]), ("d", &["rm", "-f", "d"])] {
        sandbox.start(
            name,
            &[
                "--stop-timeout",
                "60",
                "busybox",
                "sh",
                "-c",
                "trap 'exit 5' TERM; echo ready; while true; do sleep 0.1; done",
            ],
        );
        // Before its handler is set, the kernel keeps the signal from a first process.
        sandbox.wait_for_log(name, "ready");
        sandbox.ok(["pause", name]);
        sandbox.ok(end.iter().copied());
    }
    assert_eq!(sandbox.inspect("a")["State"]["ExitCode"], 5, "its handler ran");
    assert_eq!(sandbox.inspect("b")["State"]["ExitCode"], 137);
    sandbox.coracle(["pause", "a"]).fails(1, &["not running"]);
    sandbox.coracle(["pause", "nosuch"]).fails(1, &["nosuch"]);
    sandbox.start("e", &["busybox", "sleep", "1000"]);
    sandbox.start("f", &["busybox", "sleep", "1000"]);
    assert_eq!(sandbox.ok(["pause", "--all"]).lines().count(), 2);
    assert_eq!(sandbox.ok(["unpause", "--all"]).lines().count(), 2);
}

#[test]
fn stats_tell_what_is_used() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.start("busy", &["busybox", "sh", "-c", "while true; do :; done"]);
    sandbox.start("idle", &["busybox", "sleep", "1000"]);
    let percent = |name: &str| -> f64 {
        let text = sandbox.ok(["stats", "--no-stream", "--format", "{{.CPUPerc}}", name]);
        text.trim_end_matches('%').parse().unwrap()
    };
    // No number of percent: others may be busy on this machine.
    until("the busy one to be seen", || (percent("busy") > 2.0).then_some(()));
    // Its start cost something, which counts for less the longer it is up.
    until("the idle one to be seen", || (percent("idle") * 3.0 < percent("busy")).then_some(()));
    let table = sandbox.ok(["stats", "--no-stream"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[0].contains("CPU %") && lines[0].contains("MEM USAGE / LIMIT"), "{table}");
    let json = sandbox.ok(["stats", "--no-stream", "--format", "json", "idle"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["Name"].as_str(), json["PIDs"].as_str()), (Some("idle"), Some("1")), "{json}");
    sandbox.coracle(["stats", "--no-stream", "nosuch"]).fails(1, &["nosuch"]);
}

#[test]
fn update_changes_the_restart_policy_of_what_runs() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.start("c", &["busybox", "sleep", "1000"]);
    assert_eq!(sandbox.ok(["update", "--restart", "always", "c"]), "c");
    let init = sandbox.init_pid("c");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(init).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    until("it to be restarted", || {
        let state = sandbox.inspect("c")["State"].clone();
        (state["Pid"] != init && state["Running"] == true && state["Pid"] != 0).then_some(())
    });
    sandbox.ok(["update", "--restart", "no", "c"]);
    assert_eq!(sandbox.inspect("c")["HostConfig"]["RestartPolicy"]["Name"], "no");
    sandbox.ok(["stop", "-t", "0", "c"]);
    sandbox.start("throw-away", &["--rm", "busybox", "sleep", "1000"]);
    sandbox.coracle(["update", "--restart", "always", "throw-away"]).fails(1, &["AutoRemove"]);
    sandbox.coracle(["update", "--restart", "sometimes", "c"]).refused(&["sometimes"]);
    sandbox.coracle(["update", "-m", "1m", "c"]).fails(1, &["6MB"]);
}

#[test]
fn a_limit_that_cannot_be_kept_is_refused_with_its_controller() {
    let Some(mut sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.set("CORACLE_CGROUPS", "no");
    let output = sandbox.run(&["-m", "64m", "busybox", "true"]).refused(&["--memory", "memory controller"]);
    assert_eq!(output.code(), 125, "{output}");
    sandbox.run(&["--pids-limit", "10", "busybox", "true"]).refused(&["pids controller"]);
    sandbox.run(&["-m", "0", "--pids-limit", "0", "busybox", "true"]).ok();
    // What says that there is none needs nobody to keep it.
    let none = ["--pids-limit", "-1", "--memory-swappiness", "-1", "--oom-kill-disable=false"];
    sandbox.run(&[&none[..], &["busybox", "true"]].concat()).ok();
    sandbox.run(&["--pids-limit", "-1", "--cgroups", "disabled", "busybox", "true"]).ok();
    sandbox.run(&["-m", "64m", "--memory-swap", "1m", "busybox", "true"]).refused(&["memory-swap"]);
    sandbox.run(&["--memory-swappiness", "1", "busybox", "true"]).refused(&["--memory-swappiness"]);
    // Of a container that does not run too: it could not be started any more.
    sandbox.ok(["create", "--network", "none", "--name", "c", "busybox", "true"]);
    sandbox.coracle(["update", "-m", "64m", "c"]).fails(1, &["--memory", "memory controller"]);
    sandbox.ok(["update", "--pids-limit", "-1", "c"]);
    sandbox.ok(["start", "-a", "c"]);
    sandbox.coracle(["update", "c"]).fails(1, &["you must provide one or more flags"]);
}
