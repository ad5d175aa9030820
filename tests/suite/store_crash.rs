//! Whatever dies or fills up on the way in or out of the store, at whatever
//! step, what is left is whole: `system check` says so, and the same command
//! again does its work.
//!
//! A development build counts the steps of its stores and dies at the n-th, or
//! finds the disk full from the n-th on (`src/sys/fault.rs`).

use crate::harness::image::{ImageBuilder, Layer};
use crate::harness::needs;
use crate::harness::process::{Output, Running};
use crate::harness::{Image, Registry, Sandbox, sandbox};

/// More than any of the commands has.
const MOST: u32 = 2000;

fn with_fault(sandbox: &Sandbox, fault: &str, words: &[&str]) -> Output {
    let mut command = sandbox.tool(words);
    command.env("CORACLE_FAULT", fault);
    Running::start(command).wait()
}

/// Whether this build has the points at all.
fn has_points(sandbox: &Sandbox) -> bool {
    let killed = with_fault(sandbox, "kill:1", &["load", "-i", "image.tar"]).code() == 137;
    if !killed {
        println!("skipped: a release build has no points of failure");
    }
    killed
}

/// Three layers, some of them with several files.
fn archive(sandbox: &Sandbox) {
    let mut image = ImageBuilder::new();
    for number in 0..3 {
        let mut layer = Layer::new().dir("d");
        for file in 0..12 {
            layer = layer.file(&format!("d/{number}-{file}"), &[number; 3000]);
        }
        image = image.layer(layer);
    }
    sandbox.file("image.tar", image.archive("crash:1"));
}

/// Runs `words` with a fault at each step in turn, until it passes them all.
/// `prepare` makes what the command needs. Gives the number of steps.
#[track_caller]
fn at_each_step(sandbox: &Sandbox, kind: &str, words: &[&str], prepare: &dyn Fn()) -> u32 {
    // Every step of the first ones, then fewer: the later ones are alike.
    let mut at = 1;
    let mut tried = 0;
    while at < MOST {
        prepare();
        let output = with_fault(sandbox, &format!("{kind}:{at}"), words);
        tried += 1;
        let check = sandbox.coracle(["system", "check"]);
        assert_eq!(check.code(), 0, "{kind} at {at} of {words:?}: {output}\n{check}");
        assert!(!output.stderr.contains("panicked"), "{output}");
        if output.code() == 0 {
            return tried;
        }
        if kind == "enospc" {
            assert!(output.stderr.contains("No space left"), "at {at}: {output}");
        } else {
            assert_eq!(output.code(), 137, "at {at}: {output}");
        }
        at += 1;
    }
    panic!("{words:?} has no end");
}

/// Nothing is left of what was begun.
#[track_caller]
fn nothing_is_left(sandbox: &Sandbox) {
    sandbox.coracle(["rmi", "-a", "-f"]).ok();
    sandbox.ok(["image", "prune", "-a", "-f"]);
    let left = |folder: &str| -> Vec<String> {
        let entries = std::fs::read_dir(sandbox.data().join(folder)).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name != ".lock").collect()
    };
    assert_eq!(left("images/blobs/sha256"), [""; 0]);
    assert_eq!(left("layers"), [""; 0]);
    assert_eq!(left("images/.arriving"), [""; 0]);
    let mut layout = left("images");
    layout.retain(|name| name != ".arriving");
    layout.sort();
    assert_eq!(layout, [".ingest", "blobs", "index.json", "oci-layout"]);
}

#[test]
fn load_may_die_or_find_the_disk_full_at_any_step() {
    let Some(sandbox) = sandbox(&[]) else { return };
    archive(&sandbox);
    if !has_points(&sandbox) {
        return;
    }
    for kind in ["kill", "enospc"] {
        let steps = at_each_step(&sandbox, kind, &["load", "-i", "image.tar"], &|| {
            sandbox.coracle(["rmi", "-f", "crash:1"]);
        });
        assert!(steps > 40, "{kind}: {steps} steps");
        assert_eq!(sandbox.ok(["images", "--format", "{{.Repository}}"]), "crash");
        nothing_is_left(&sandbox);
    }
}

#[test]
fn pull_may_die_or_find_the_disk_full_at_any_step() {
    let Some(sandbox) = sandbox(&[Registry]) else { return };
    archive(&sandbox);
    if !has_points(&sandbox) || !needs::host_has(&[crate::harness::Need::Program("skopeo")]) {
        return;
    }
    let name = format!("{}/crash/{}:1", needs::registry().unwrap(), std::process::id());
    let mut command = sandbox.command("skopeo");
    command
        .args(["--insecure-policy", "copy", "-q", "--dest-tls-verify=false", "docker-archive:image.tar"])
        .arg(format!("docker://{name}"));
    Running::start(command).wait().ok();
    for kind in ["kill", "enospc"] {
        let steps = at_each_step(&sandbox, kind, &["pull", "-q", &name], &|| {
            sandbox.coracle(["rmi", "-f", &name]);
        });
        assert!(steps > 30, "{kind}: {steps} steps");
        nothing_is_left(&sandbox);
    }
}

#[test]
fn rmi_and_prune_may_die_at_any_step() {
    let Some(sandbox) = sandbox(&[]) else { return };
    archive(&sandbox);
    if !has_points(&sandbox) {
        return;
    }
    for words in [&["rmi", "crash:1"][..], &["image", "prune", "-a", "-f"], &["rmi", "-a"]] {
        let steps = at_each_step(&sandbox, "kill", words, &|| {
            sandbox.ok(["load", "-q", "-i", "image.tar"]);
        });
        assert!(steps > 12, "{words:?}: {steps} steps");
        nothing_is_left(&sandbox);
    }
}

#[test]
fn a_full_disk_fails_an_import_and_a_commit_and_leaves_nothing() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.file("root.tar", Layer::new().file("f", &[1; 50_000]).into_bytes());
    if with_fault(&sandbox, "enospc:1", &["import", "root.tar", "x"]).code() == 0 {
        println!("skipped: a release build has no points of failure");
        return;
    }
    at_each_step(&sandbox, "enospc", &["import", "root.tar", "x"], &|| {
        sandbox.coracle(["rmi", "-f", "x"]);
    });
    sandbox.ok(["create", "--name", "c", "busybox"]);
    at_each_step(&sandbox, "enospc", &["commit", "c", "y"], &|| {
        sandbox.coracle(["rmi", "-f", "y"]);
    });
    sandbox.ok(["rm", "c"]);
    nothing_is_left(&sandbox);
}

/// The kernel's own full disk: file systems in memory of growing sizes.
#[test]
fn a_disk_that_is_really_full_leaves_a_whole_store() {
    let Some(sandbox) = sandbox(&[]) else { return };
    let mut image = ImageBuilder::new();
    for number in 0..4_u8 {
        image = image.layer(Layer::new().dir("d").file(&format!("d/{number}"), &vec![number; 200_000]));
    }
    sandbox.file("image.tar", image.archive("crash:1"));
    // In a namespace of its own, which ends with its mounts.
    let script = r#"
        mkdir -p disk
        for size in $(seq 40 90 4000); do
            mount -t tmpfs -o size=${size}k disk disk
            export XDG_DATA_HOME=$PWD/disk
            code=0; "$0" load -q -i image.tar >out 2>&1 || code=$?
            if [ $code != 0 ]; then
                grep -q 'No space left' out || { echo "at $size: $(cat out)"; exit 1; }
                "$0" system check >out 2>&1 || { echo "check at $size: $(cat out)"; exit 1; }
            fi
            umount -l disk
            [ $code = 0 ] && { echo "whole at $size"; exit 0; }
        done
        echo "never enough"; exit 1"#;
    let mut command = sandbox.command("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-ec", script]);
    command.arg(crate::harness::sandbox::binary());
    let output = Running::start(command).wait().ok();
    let size: u32 = output.text().trim_start_matches("whole at ").parse().unwrap();
    assert!(size > 400, "{output}");
}
