//! `diff`: what a container changed.

use crate::harness::image::{ImageBuilder, Layer};
use crate::harness::{Image, Sandbox, sandbox};

/// Two layers under the programs: what they have can be changed and deleted.
pub(crate) fn load_base(sandbox: &Sandbox) {
    ImageBuilder::with_programs()
        .layer(Layer::new().dir("data").file("data/kept", b"kept").file("data/old", b"old").dir("data/sub"))
        .layer(Layer::new().file("data/second", b"2").file("data/sub/f", b"f").file("etc/conf", b"conf"))
        .load(sandbox, "base");
}

/// `run`s a script in a container that stays.
#[track_caller]
pub(crate) fn change(sandbox: &Sandbox, name: &str, script: &str) {
    sandbox.coracle(["run", "--network", "none", "--name", name, "base", "sh", "-c", script]).ok();
}

#[test]
fn diff_shows_added_changed_and_deleted_files_in_docker_s_order() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    load_base(&sandbox);
    change(
        &sandbox,
        "c",
        "echo more >>/data/kept; busybox rm /data/old; busybox rm -r /data/sub; mkdir /data/sub; \
         touch /data/sub/new; mkdir /new; touch /new/file /new.x; touch \"/new/two\nlines\"",
    );
    let expected = [
        "C /data",
        "C /data/kept",
        "D /data/old",
        "C /data/sub",
        "D /data/sub/f",
        "A /data/sub/new",
        "A /new",
        "A /new/file",
        "A /new/two",
        "lines",
        "A /new.x",
    ];
    assert_eq!(sandbox.coracle(["diff", "c"]).ok().lines(), expected);
    assert_eq!(sandbox.coracle(["container", "diff", "-l"]).ok().lines(), expected);
    let document: serde_json::Value =
        serde_json::from_str(&sandbox.ok(["diff", "--format", "json", "c"])).unwrap();
    assert_eq!(document["deleted"], serde_json::json!(["/data/old", "/data/sub/f"]));
    assert_eq!(document["added"][2], "/new/file");
}

#[test]
fn what_a_start_puts_into_a_container_is_no_change() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    load_base(&sandbox);
    sandbox.ok(["create", "--network", "none", "--name", "never", "base", "true"]);
    assert_eq!(sandbox.ok(["diff", "never"]), "");
    change(
        &sandbox,
        "c",
        "cat /etc/hosts /etc/hostname /etc/resolv.conf >/dev/shm/x; echo 1 >/proc/self/comm",
    );
    assert_eq!(sandbox.ok(["diff", "c"]), "");
    sandbox.start("running", &["base", "sh", "-c", "touch /made; echo ready; sleep 1000"]);
    sandbox.wait_for_log("running", "ready");
    assert_eq!(sandbox.ok(["diff", "running"]), "A /made");
}

/// Docker has both in every container.
#[test]
fn mtab_and_dockerenv_are_there_and_are_nobody_s_change() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    load_base(&sandbox);
    let look = "busybox readlink /etc/mtab; test -f /.dockerenv && test ! -s /.dockerenv && echo empty";
    let seen = "/proc/mounts\nempty";
    change(&sandbox, "c", look);
    assert_eq!(sandbox.ok(["logs", "c"]), seen);
    assert_eq!(sandbox.ok(["diff", "c"]), "");
    sandbox.ok(["start", "-a", "c"]);
    assert_eq!(sandbox.ok(["diff", "c"]), "");
    for options in [&["--read-only"][..], &["--read-only", "--read-only-tmpfs=false"], &["--user", "7:7"]] {
        let words = [options, &["base", "sh", "-c", look]].concat();
        assert_eq!(sandbox.run(&words).ok().text(), seen, "{options:?}");
    }

    // They are in no image that is made of it, but for what somebody has made of them.
    sandbox.ok(["commit", "c", "same"]);
    assert_eq!(sandbox.ok(["image", "diff", "same"]), "");
    change(&sandbox, "other", "busybox ln -sf /proc/self/mounts /etc/mtab; echo 1 >/.dockerenv");
    let changes = ["A /.dockerenv", "C /etc", "A /etc/mtab"];
    assert_eq!(sandbox.coracle(["diff", "other"]).ok().lines(), changes);
    sandbox.ok(["commit", "other", "another"]);
    assert_eq!(sandbox.coracle(["image", "diff", "another"]).ok().lines(), changes);
    let output = sandbox.run(&["another", "sh", "-c", look]);
    assert_eq!(output.stdout.trim(), "/proc/self/mounts", "what an image has stays: {output}");

    // What is mounted on /etc is somebody's own.
    let folder = sandbox.folder("etc");
    let bind = format!("{}:/etc", folder.display());
    sandbox.run(&["-v", &bind, "base", "true"]).ok();
    assert!(folder.join("mtab").symlink_metadata().is_err());
}

#[test]
fn image_diff_shows_the_last_layer() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    load_base(&sandbox);
    let expected = ["C /data", "A /data/second", "C /data/sub", "A /data/sub/f", "C /etc", "A /etc/conf"];
    assert_eq!(sandbox.coracle(["image", "diff", "base"]).ok().lines(), expected);
    assert_eq!(sandbox.coracle(["diff", "base"]).ok().lines(), expected);
}

#[test]
fn wrong_words_are_refused() {
    let Some(sandbox) = sandbox(&[]) else { return };
    sandbox.coracle(["diff", "nope"]).fails(1, &["nope"]);
    sandbox.coracle(["diff"]).fails(125, &["requires at least 1 argument"]);
    sandbox.coracle(["image", "diff", "nope"]).fails(1, &["nope"]);
}
