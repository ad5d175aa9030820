//! What of a container's group is shown, and what the container may do there.

use super::sessions::as_root;
use super::{file, machine, scope_of};
use crate::harness::until;

/// Of a file that was written the kernel keeps so much in memory.
const CACHE: u64 = 48 << 20;

#[test]
fn stats_and_inspect_tell_what_the_kernel_counts() {
    let Some(sandbox) = machine() else { return };
    let script =
        "dd if=/dev/zero of=/file bs=1M count=48 2>/dev/null; sleep 1000 & echo filled; while :; do :; done";
    sandbox.start("c", &["-m", "256m", "busybox", "sh", "-c", script]);
    sandbox.wait_for_log("c", "filled");
    let scope = scope_of(&sandbox, "c");
    let current: u64 = file(&scope, "memory.current").parse().unwrap();
    assert!(current > CACHE * 3 / 4, "the file is in it: {current}");
    let stats = |format: &str| sandbox.ok(["stats", "--no-stream", "--format", format, "c"]);
    let memory = stats("{{.MemUsageBytes}}");
    let (used, limit) = memory.split_once(" / ").unwrap();
    let used: u64 = used.trim_end_matches('B').parse().unwrap();
    assert!((1 << 16..CACHE / 4).contains(&used), "without what the kernel can drop: {memory}");
    assert_eq!(limit, "268435456B");
    assert_eq!(stats("{{.PIDs}}"), "2");
    let seen = sandbox.ok(["top", "c", "-eo", "pid,args"]);
    assert!(seen.contains("sleep 1000") && seen.lines().count() == 3, "{seen}");
    // Who may use a tenth of a processor and wants all of it waits.
    sandbox.ok(["update", "--cpus", "0.1", "c"]);
    assert_eq!(file(&scope, "cpu.max"), "10000 100000");
    until("its waiting to be counted", || {
        let pressure = sandbox.inspect("c")["State"]["Pressure"].clone();
        let (cpu, memory) = (&pressure["cpu"]["some"], &pressure["memory"]["full"]);
        assert!(memory["avg300"].is_number() && memory["total"].is_number(), "{pressure}");
        (cpu["avg10"].as_f64()? > 5.0 && cpu["total"].as_u64()? > 100_000).then_some(())
    });
    let text = stats("{{.Pressure}}");
    let shares: Vec<f64> =
        text.split(" / ").map(|share| share.trim_end_matches('%').parse().unwrap()).collect();
    assert!(shares.len() == 3 && shares[0] > 1.0, "{text}");
}

#[test]
fn a_privileged_container_shares_its_own_group_out_but_not_its_limits() {
    let Some(sandbox) = machine() else { return };
    // It makes room first: a group with processes passes no controllers on.
    let script = "cd /sys/fs/cgroup && mkdir rest part && for pid in $(cat cgroup.procs); do echo $pid >rest/cgroup.procs; done; \
         echo '+memory +pids' >cgroup.subtree_control && echo 7 >part/pids.max && cat part/pids.max && \
         echo 1000000000 >memory.max; ls ..; cat /proc/self/cgroup; exec sleep 1000";
    sandbox.start("c", &["--privileged", "-m", "64m", "--pids-limit", "50", "busybox", "sh", "-c", script]);
    sandbox.wait_for_log("c", "0::/rest");
    let said = sandbox.ok(["logs", "c"]);
    assert!(said.starts_with("7\n"), "{said}");
    let scope = scope_of_leaf(&sandbox, "c");
    assert_eq!(file(&scope, "memory.max"), "67108864", "what is above stays");
    assert_eq!(file(&scope, "pids.max"), "50");
    // What it has made goes with it, with all that is in it.
    sandbox.ok(["exec", "c", "sh", "-c", "cat /proc/self/cgroup"]);
    sandbox.ok(["rm", "-f", "-t", "0", "c"]);
    assert!(!scope.join("container").exists());
}

/// The machine's own systemd, in a view of the machine's own root.
#[test]
fn systemd_runs_in_a_container_and_is_stopped_as_it_wants_to_be() {
    let Some(sandbox) = machine() else { return };
    let options = ["--network", "none", "--memory", "300m", "--rootfs", "/:O", "/sbin/init"];
    sandbox.ok([&["run", "-d", "--name", "c"][..], &options].concat());
    let state = || {
        let output = sandbox.coracle(["exec", "c", "systemctl", "is-system-running"]);
        let state = output.stdout.trim_end().to_owned();
        ["running", "degraded"].contains(&state.as_str()).then_some(state)
    };
    until("systemd to be up", state);
    let unit =
        ["exec", "c", "systemd-run", "--quiet", "--wait", "sh", "-c", "cat /proc/self/cgroup >/run/said"];
    sandbox.ok(unit);
    let said = sandbox.ok(["exec", "c", "cat", "/run/said"]);
    assert!(said.contains("0::/system.slice/run-"), "a unit has a group in the container's: {said}");
    assert_eq!(file(&scope_of_leaf(&sandbox, "c"), "memory.max"), "314572800");
    sandbox.ok(["stop", "-t", "60", "c"]);
    let end = sandbox.ok(["inspect", "-f", "{{.State.ExitCode}}", "c"]);
    assert_ne!(end.trim_end(), "137", "it has ended by itself");
}

/// As [`scope_of`], for a first process that has moved into a group within.
fn scope_of_leaf(sandbox: &crate::harness::Sandbox, name: &str) -> std::path::PathBuf {
    let group = super::group_of(&sandbox.init_pid(name).to_string());
    let scope = group.split_inclusive(".scope").next().unwrap();
    std::path::PathBuf::from(format!("/sys/fs/cgroup{scope}"))
}

/// systemd delegates the controller to no user; root may pass it on by hand.
#[test]
fn huge_pages_are_limited_where_the_controller_is_there() {
    let Some(_sandbox) = machine() else { return };
    let tool = crate::harness::sandbox::binary();
    let script = format!(
        "tool={}; $tool load -q -i /mnt/images/busybox/archive.tar >/dev/null; \
         $tool run -d --name h --network none --hugetlb 2MB=4m busybox sleep 1000 >/dev/null; \
         group=/sys/fs/cgroup$(sed -n s/^0:://p /proc/$($tool inspect -f {{{{.State.Pid}}}} h)/cgroup); \
         cd ${{group%/container}}; pwd; cat hugetlb.2MB.max; \
         $tool update --hugetlb 2MB=6m h >/dev/null; cat hugetlb.2MB.max; cd /; $tool rm -f -t 0 h",
        tool.display()
    );
    // systemd knows nothing of it, so that nothing of it is passed on by itself.
    let pass_on = "for group in /sys/fs/cgroup /sys/fs/cgroup/system.slice; do \
         echo +hugetlb >$group/cgroup.subtree_control || exit; done";
    let output = as_root(&format!(
        "{pass_on}; systemd-run -q --wait --pipe -p Delegate=yes -E HOME=/root /bin/sh -c '{}' </dev/null 2>&1",
        // systemd takes a word that begins with a dollar sign for a variable of its own.
        script.replace('$', "$$")
    ));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("/system.slice/"), "{said}");
    assert!(said.ends_with("\n4194304\n6291456\nh\n"), "{said}");
}
