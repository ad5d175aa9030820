//! `--systemd`: what an init system needs of whoever starts it. Systemd itself runs in
//! a container in the virtual machine's tests.

use crate::harness::{Cgroup, Image, Sandbox, sandbox};

/// Target, type and options of each mount of the container's.
fn mounts(sandbox: &Sandbox, options: &[&str]) -> Vec<(String, String, String)> {
    let output = sandbox.run(&[options, &["busybox", "cat", "/proc/mounts"]].concat()).ok();
    let of_line = |line: &str| {
        let mut words = line.split(' ').skip(1).map(str::to_owned);
        Some((words.next()?, words.next()?, words.next()?))
    };
    output.lines().into_iter().filter_map(of_line).collect()
}

fn has(mounts: &[(String, String, String)], target: &str, kind: &str, option: &str) -> bool {
    let fits = |mount: &&(String, String, String)| mount.0 == target && mount.1 == kind;
    mounts.iter().find(fits).is_some_and(|mount| mount.2.split(',').any(|own| own == option))
}

#[test]
fn an_init_system_has_what_it_writes_to() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let ready = mounts(&sandbox, &["--systemd=always"]);
    for target in ["/run", "/run/lock", "/tmp"] {
        assert!(has(&ready, target, "tmpfs", "rw"), "{target}: {ready:?}");
    }
    // The file that says what this is lies over the tmpfs, not below it.
    sandbox.run(&["--systemd=always", "busybox", "test", "-e", "/run/.containerenv"]).ok();
    let plain = mounts(&sandbox, &[]);
    assert!(!plain.iter().any(|mount| mount.0 == "/run" || mount.0 == "/tmp"), "{plain:?}");
    // What the user mounts there counts.
    let own = mounts(&sandbox, &["--systemd=always", "--tmpfs", "/run:size=1m", "--read-only"]);
    assert!(has(&own, "/run", "tmpfs", "size=1024k"), "{own:?}");
    assert_eq!(own.iter().filter(|mount| mount.0 == "/run" || mount.0 == "/tmp").count(), 2, "{own:?}");
    assert!(has(&own, "/var/tmp", "tmpfs", "rw"), "--read-only has its own: {own:?}");
    sandbox.run(&["--systemd=sometimes", "busybox", "true"]).refused(&["sometimes", "always"]);
}

#[test]
fn it_is_known_by_the_command() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let made = |options: &[&str], command: &[&str]| {
        let create = ["create", "--network", "none"];
        let id = sandbox.ok([&create[..], options, &["busybox"], command].concat());
        let form = "{{.Config.SystemdMode}} {{.Config.StopSignal}}";
        let said = sandbox.ok(["inspect", "-f", form, id.trim_end()]);
        said.trim_end().to_owned()
    };
    for init in ["/sbin/init", "/usr/lib/systemd/systemd"] {
        assert_eq!(made(&[], &[init]), "true SIGRTMIN+3", "{init}");
    }
    assert_eq!(made(&["--entrypoint", "/usr/sbin/init"], &[]), "true SIGRTMIN+3");
    assert_eq!(made(&["--stop-signal", "TERM"], &["/sbin/init"]), "true TERM", "what was asked for");
    assert_eq!(made(&["--systemd=always"], &["sleep", "1"]), "true SIGRTMIN+3");
    for (options, command) in [
        (&["--systemd=false"][..], "/sbin/init"),
        // Another process is the first one.
        (&["--init"], "/sbin/init"),
        (&["--pid=host"], "/sbin/init"),
        (&[], "sh"),
    ] {
        assert_eq!(made(options, &[command]), "false SIGTERM", "{options:?} {command}");
    }
}

#[test]
fn it_shares_out_its_group_without_all_capabilities() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Cgroup]) else { return };
    // SIGRTMIN+3 is 37.
    let script = "cd /sys/fs/cgroup && mkdir rest && for pid in $(cat cgroup.procs); do echo $pid >rest/cgroup.procs; done; \
         cat /proc/self/cgroup; grep CapEff /proc/self/status; trap 'exit 7' 37; echo ready; while :; do sleep 0.1; done";
    sandbox.start("c", &["--systemd=always", "busybox", "sh", "-c", script]);
    sandbox.wait_for_log("c", "ready");
    let said = sandbox.ok(["logs", "c"]);
    assert!(said.lines().any(|line| line == "0::/rest"), "{said}");
    let plain = sandbox.run(&["busybox", "grep", "CapEff", "/proc/self/status"]).ok();
    assert!(said.contains(plain.text()), "no more than {plain}: {said}");
    // Nobody else may write there.
    let other = sandbox.run(&["busybox", "mkdir", "/sys/fs/cgroup/own"]);
    assert!(other.code() != 0 && other.stderr.contains("Read-only"), "{other}");
    sandbox.ok(["stop", "c"]);
    assert_eq!(sandbox.ok(["inspect", "-f", "{{.State.ExitCode}}", "c"]).trim_end(), "7", "its own signal");
}
