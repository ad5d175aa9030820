//! `mount`, `unmount`, and podman's `container clone`, `init`, `cleanup`, `exists`.

use crate::changes::{change, load_base};
use crate::harness::{Image, Sandbox, sandbox};

/// Runs a script in `unshare`, where `$c` is the tool.
#[track_caller]
fn session(sandbox: &Sandbox, script: &str) -> crate::harness::process::Output {
    let binary = crate::harness::sandbox::binary();
    let script = format!("c={}; {script}", binary.display());
    sandbox.coracle(["unshare", "sh", "-ec", &script])
}

#[test]
fn a_mount_is_refused_where_nobody_would_see_it() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    load_base(&sandbox);
    if rustix::process::geteuid().is_root() {
        return;
    }
    for verb in ["mount", "umount", "unmount"] {
        sandbox.coracle([verb, "c"]).fails(125, &["rootless mode", "coracle unshare"]);
    }
    sandbox.coracle(["unshare", "--rootless-netns", "true"]).fails(125, &["--rootless-netns"]);
}

#[test]
fn a_stopped_container_is_mounted_and_changed_there() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    load_base(&sandbox);
    change(&sandbox, "c", "echo x >/new; busybox rm /data/old");
    let script = "m=$($c mount c); cat $m/new; ls $m/data; echo y >$m/outside; $c mount; \
        $c mount c >/dev/null; $c unmount c; cat $m/new; $c umount c; $c mount; test ! -e $m/new; \
        $c umount c || echo not mounted: $?";
    let output = session(&sandbox, script).ok();
    let id = sandbox.ok(["inspect", "--format", "{{.Id}}", "c"]);
    let lines = output.lines();
    assert_eq!(lines[..4], ["x", "kept", "second", "sub"], "{output}");
    assert!(lines[4].starts_with(&format!("{}  /", &id[..12])), "{output}");
    assert_eq!(lines[5..], ["c", "x", "c", "not mounted: 1"], "{output}");
    assert_eq!(sandbox.ok(["diff", "c"]).lines().last(), Some("A /outside"));
}

#[test]
fn a_running_container_shows_its_own_files() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    load_base(&sandbox);
    sandbox.start(
        "c",
        &["base", "sh", "-c", "echo x >/new; echo ready; while test ! -e /seen; do sleep 0.01; done"],
    );
    sandbox.wait_for_log("c", "ready");
    let output = session(
        &sandbox,
        "m=$($c mount -l); cat $m/new; touch $m/seen; $c mount --format json; $c umount -a",
    )
    .ok();
    assert_eq!(output.lines()[0], "x");
    assert!(output.stdout.contains("\"mountpoint\""), "{output}");
    assert_eq!(sandbox.ok(["wait", "c"]), "0", "it saw the file");
}

#[test]
fn images_are_mounted_read_only() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    load_base(&sandbox);
    let script = "m=$($c image mount base); ls $m/data; touch $m/x 2>/dev/null || echo read-only; \
        $c image mount; $c image unmount base; $c image mount -a >/dev/null; $c image umount -af >/dev/null; $c image mount";
    let output = session(&sandbox, script).ok();
    let lines = output.lines();
    assert_eq!(lines[..5], ["kept", "old", "second", "sub", "read-only"], "{output}");
    assert!(lines[5].starts_with("base:latest  /"), "{output}");
    assert!(lines[6].starts_with("sha256:") && lines.len() == 7, "{output}");
}

#[test]
fn a_clone_has_the_settings_and_not_the_files() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    load_base(&sandbox);
    let words =
        ["run", "--network", "none", "--name", "mine", "-e", "A=1", "-v", "/anon", "base", "sh", "-c"];
    sandbox.coracle([&words[..], &["echo $A; test -e /made || touch /made"]].concat()).ok();
    let id = sandbox.ok(["container", "clone", "mine"]);
    assert_eq!(sandbox.ok(["inspect", "--format", "{{.Id}}", "mine-clone"]), id);
    assert_eq!(sandbox.ok(["diff", "mine-clone"]), "");
    assert_eq!(sandbox.ok(["start", "-a", "mine-clone"]), "1");
    let volume = |name: &str| sandbox.inspect(name)["Mounts"][0]["Name"].as_str().unwrap().to_owned();
    assert_ne!(volume("mine"), volume("mine-clone"), "an anonymous volume of its own");
    sandbox.ok(["container", "clone", "mine"]);
    assert_eq!(sandbox.coracle(["container", "exists", "mine-clone1"]).code(), 0);
    sandbox.ok(["container", "clone", "--destroy", "--run", "mine", "other"]);
    assert_eq!(sandbox.coracle(["container", "exists", "mine"]).code(), 1);
    sandbox.ok(["wait", "other"]);
    sandbox.coracle(["container", "clone", "nope"]).fails(1, &["nope"]);
    sandbox.start("up", &["base", "sleep", "1000"]);
    sandbox.coracle(["container", "clone", "--destroy", "up"]).fails(1, &["running"]);
}

#[test]
fn init_and_cleanup_are_for_containers_that_do_not_run() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    load_base(&sandbox);
    sandbox.ok(["create", "--network", "none", "--name", "mine", "base", "true"]);
    assert_eq!(sandbox.ok(["init", "mine"]), "mine");
    assert_eq!(sandbox.ok(["container", "cleanup", "mine"]), "mine");
    assert_eq!(sandbox.ok(["start", "-a", "mine"]), "");
    sandbox.start("up", &["base", "sleep", "1000"]);
    sandbox.coracle(["container", "init", "up"]).fails(1, &["up", "running"]);
    sandbox.coracle(["container", "cleanup", "up"]).fails(1, &["up", "running"]);
    sandbox.ok(["container", "cleanup", "--rm", "mine"]);
    assert_eq!(sandbox.coracle(["container", "exists", "mine"]).code(), 1);
    sandbox.coracle(["container", "cleanup", "--exec", "x", "up"]).fails(1, &["--exec"]);
}
