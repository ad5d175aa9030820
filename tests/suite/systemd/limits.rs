//! Limits that hold: what the kernel counts, not what was written.

use super::{file, machine, scope_of, show};
use crate::harness::until;
use std::path::Path;

fn number(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {key} in {text}")).parse().unwrap()
}

/// Microseconds of processor time of a container's scope.
fn usage(scope: &Path) -> u64 {
    number(&file(scope, "cpu.stat"), "usage_usec")
}

#[test]
fn each_limit_is_a_property_and_a_file() {
    let Some(sandbox) = machine() else { return };
    let words = [
        "-m",
        "64m",
        "--memory-swap",
        "96m",
        "--memory-reservation",
        "32m",
        "--cpus",
        "0.5",
        "--cpu-shares",
        "512",
        "--pids-limit",
        "50",
        "--cgroup-conf",
        "memory.high=60000000",
        "busybox",
        "sleep",
        "1000",
    ];
    sandbox.start("c", &words);
    let scope = scope_of(&sandbox, "c");
    let expected = [
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("memory.low", "33554432"),
        ("cpu.max", "50000 100000"),
        ("cpu.weight", "20"),
        ("pids.max", "50"),
        ("container/memory.high", "59998208"),
    ];
    for (name, value) in expected {
        assert_eq!(file(&scope, name), value, "{name}");
    }
    let unit = scope.file_name().unwrap().to_str().unwrap();
    assert!(show(unit, "MemoryMax").contains("=67108864"));
    // Of a running container.
    sandbox.ok([
        "update",
        "-m",
        "128m",
        "--memory-swap",
        "-1",
        "--cpu-quota",
        "20000",
        "--pids-limit",
        "-1",
        "c",
    ]);
    for (name, value) in [
        ("memory.max", "134217728"),
        ("memory.swap.max", "max"),
        ("cpu.max", "20000 100000"),
        ("pids.max", "max"),
    ] {
        assert_eq!(file(&scope, name), value, "{name}");
    }
    assert!(show(unit, "MemoryMax").contains("=134217728"));
    sandbox.ok([
        "update",
        "--memory-reservation",
        "48m",
        "--cpus",
        "0.25",
        "--cpu-shares",
        "2048",
        "--cgroup-conf",
        "memory.high=50003968",
        "c",
    ]);
    for (name, value) in [
        ("memory.low", "50331648"),
        ("cpu.max", "25000 100000"),
        ("cpu.weight", "79"),
        ("container/memory.high", "50003968"),
        ("memory.max", "134217728"),
    ] {
        assert_eq!(file(&scope, name), value, "{name}");
    }
    sandbox.ok(["update", "--cpu-period", "50000", "--cpu-quota", "10000", "c"]);
    assert_eq!(file(&scope, "cpu.max"), "10000 50000");
    // What Debian does not delegate, with the way to have it.
    for words in [["--cpuset-cpus", "0"], ["--blkio-weight", "100"], ["--device-read-bps", "/dev/vda:1mb"]] {
        let controller = if words[0] == "--cpuset-cpus" { "cpuset" } else { "io" };
        let named = format!("{} needs the {controller} controller", words[0]);
        let output = sandbox.run(&[words[0], words[1], "busybox", "true"]);
        output.refused(&[
            &named,
            "user@.service.d/delegate.conf",
            "Delegate=cpu cpuset io memory pids",
            "coracle doctor",
        ]);
    }
    sandbox.coracle(["update", "--cpuset-cpus", "0", "c"]).fails(1, &["cpuset controller"]);
    assert_eq!(sandbox.inspect("c")["HostConfig"]["CpusetCpus"], "", "what was refused is not kept");
    sandbox.run(&["--hugetlb", "2MB=2m", "busybox", "true"]).refused(&["hugetlb controller"]);
    sandbox.run(&["--cgroup-conf", "cgroup.procs=1", "busybox", "true"]).refused(&["no limit"]);
}

/// The container goes on, ends well, and its group is gone before anybody looks.
#[test]
fn a_child_that_was_killed_for_want_of_memory_is_told() {
    let Some(sandbox) = machine() else { return };
    let script = "tail /dev/zero; echo $?";
    let limits = ["-m", "32m", "--memory-swap", "32m"];
    let words = [&["run", "--network", "none", "--name", "c"][..], &limits, &["busybox", "sh", "-c", script]];
    assert_eq!(sandbox.ok(words.concat()), "137");
    let state = sandbox.inspect("c")["State"].clone();
    assert_eq!((&state["OOMKilled"], &state["ExitCode"]), (&true.into(), &0.into()), "{state}");
}

#[test]
fn a_container_is_killed_within_its_memory() {
    let Some(sandbox) = machine() else { return };
    // Of a line without end `tail` keeps everything.
    let script = "echo go; read x; exec tail /dev/zero";
    let words = [
        "run",
        "-i",
        "--network",
        "none",
        "--name",
        "big",
        "-m",
        "64m",
        "--memory-swap",
        "64m",
        "busybox",
        "sh",
        "-c",
        script,
    ];
    let mut running = sandbox.spawn(words);
    running.wait_for("go");
    let scope = scope_of(&sandbox, "big");
    running.write(b"\n");
    let mut peak = 0;
    // As long as the group is there.
    while let Ok(text) = std::fs::read_to_string(scope.join("memory.peak"))
        .or_else(|_| std::fs::read_to_string(scope.join("memory.current")))
    {
        peak = peak.max(text.trim().parse::<u64>().unwrap());
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    running.wait();
    assert!(peak > 32 << 20, "it came near: {peak}");
    assert!(peak <= (64 << 20) + (1 << 20), "it stayed within: {peak}");
    println!("peak of a limit of 64 MiB: {peak} bytes");
    let state = sandbox.inspect("big")["State"].clone();
    assert_eq!(state["OOMKilled"], true, "{state}");
    let events = sandbox.ok([
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "--filter",
        "event=oom",
        "--format",
        "{{.Name}}",
    ]);
    assert!(events.contains("big"), "{events}");
}

#[test]
fn half_a_processor_is_half_a_processor() {
    let Some(sandbox) = machine() else { return };
    let spin = ["sh", "-c", "while :; do :; done"];
    sandbox.start("half", &[&["--cpus", "0.5", "busybox"][..], &spin].concat());
    let scope = scope_of(&sandbox, "half");
    let (began, before) = (std::time::Instant::now(), usage(&scope));
    std::thread::sleep(std::time::Duration::from_secs(10));
    let used = (usage(&scope) - before) as f64 / began.elapsed().as_micros() as f64;
    println!("--cpus 0.5 over ten seconds: {used:.3}");
    assert!((0.45..=0.55).contains(&used), "{used}");
    assert!(
        file(&scope, "cpu.stat")
            .lines()
            .any(|line| line.starts_with("nr_throttled ") && !line.ends_with(" 0"))
    );
    let stats = sandbox.ok(["stats", "--no-stream", "--format", "{{.CPUPerc}}", "half"]);
    let percent: f64 = stats.trim_end_matches('%').parse().unwrap();
    assert!(percent < 60.0, "{stats}");
}

#[test]
fn shares_are_shares_of_one_processor() {
    let Some(sandbox) = machine() else { return };
    // Both on one processor, by their affinity: cpuset is not delegated.
    let spin = "taskset -p 1 $$ >/dev/null; echo on; while :; do :; done";
    for (name, shares) in [("one", "1024"), ("three", "3072")] {
        sandbox.start(name, &["--cpu-shares", shares, "busybox", "sh", "-c", spin]);
        sandbox.wait_for_log(name, "on");
    }
    let scopes = ["one", "three"].map(|name| scope_of(&sandbox, name));
    let weights = scopes.each_ref().map(|scope| file(scope, "cpu.weight").parse::<f64>().unwrap());
    let asked = weights[1] / weights[0];
    let before = scopes.each_ref().map(|scope| usage(scope));
    std::thread::sleep(std::time::Duration::from_secs(10));
    let after = scopes.each_ref().map(|scope| usage(scope));
    let ratio = (after[1] - before[1]) as f64 / (after[0] - before[0]) as f64;
    println!("shares of 1:3 gave 1:{ratio:.2} (weights 1:{asked:.2})");
    assert!((2.7..=3.3).contains(&ratio), "{ratio}");
}

#[test]
fn a_fork_bomb_stops_at_its_limit() {
    let Some(sandbox) = machine() else { return };
    // Each shell that there is wants two more.
    let script = "b() { b | b & wait; }; b & exec sleep 1000";
    sandbox.start("bomb", &["--pids-limit", "50", "busybox", "sh", "-c", script]);
    let scope = scope_of(&sandbox, "bomb");
    // Before Linux 6.11 a refusal is counted where the process is, not where the limit is.
    let refused = || {
        [scope.join("container"), scope.clone()]
            .iter()
            .any(|group| number(&file(group, "pids.events"), "max") > 0)
    };
    let mut most = 0;
    until("the limit to be met", || {
        most = most.max(file(&scope, "pids.current").parse::<u32>().unwrap());
        refused().then_some(())
    });
    most = most.max(file(&scope, "pids.current").parse::<u32>().unwrap());
    println!("--pids-limit 50: {most} at once were seen");
    assert!(most <= 50, "{most} at once");
    // The user's other processes go on, and so does the way to end it.
    sandbox.run(&["busybox", "true"]).ok();
    sandbox.ok(["rm", "-f", "bomb"]);
    assert!(!scope.join("container").exists(), "nothing of it survives");
}

#[test]
fn nothing_survives_the_end_of_a_container_in_the_host_s_pid_namespace() {
    let Some(sandbox) = machine() else { return };
    let script = "setsid sleep 1234 & setsid sleep 1234 & echo made; wait";
    sandbox.start("loose", &["--pid", "host", "busybox", "sh", "-c", script]);
    sandbox.wait_for_log("loose", "made");
    let scope = scope_of(&sandbox, "loose");
    let pids = file(&scope.join("container"), "cgroup.procs");
    assert!(pids.lines().count() >= 3, "{pids}");
    sandbox.ok(["rm", "-f", "-t", "0", "loose"]);
    for pid in pids.lines() {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z"), "{pid} lives: {stat}");
    }
}
