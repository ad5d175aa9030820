//! `--mount type=image`: another image's files in a container.

use crate::harness::image::{ImageBuilder, Layer};
use crate::harness::{Fuse, Image, Sandbox, SubIds, sandbox};

/// An image of tools that could not run by itself.
fn load_tools(sandbox: &Sandbox) {
    let lower = Layer::new().dir("data").file("data/a", b"old").file("data/gone", b"x");
    let upper = Layer::new()
        .file("data/a", b"new")
        .file("data/.wh.gone", b"")
        .symlink("out", "/data")
        .owned("owned", 1000, 1000);
    ImageBuilder::new().layer(lower).layer(upper).load(sandbox, "tools");
}

/// The container `c`.
fn create(sandbox: &Sandbox, mount: &str, command: &[&str]) {
    let words = ["create", "--name", "c", "--network", "none", "--mount", mount, "busybox"];
    sandbox.ok([&words[..], command].concat());
}

#[test]
fn an_image_is_mounted_read_only() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    load_tools(&sandbox);
    let mount = "type=image,source=tools,target=/t";
    for driver in ["auto", "overlay", "fuse"] {
        let script = "cat /t/data/a; ls /t/data; (echo x >/t/new) 2>&1; grep -c ' /t [^ ]* ro' /proc/mounts";
        let words = ["--storage-driver", driver, "run", "--rm", "--network", "none", "--mount", mount];
        let run = sandbox.coracle([&words[..], &["busybox", "sh", "-c", script]].concat()).ok();
        assert!(run.stdout.starts_with("newa\n"), "{driver}: {run}");
        assert!(
            run.stdout.contains("Read-only file system") && run.stdout.ends_with("1\n"),
            "{driver}: {run}"
        );
    }
    // A part of it: a directory, a file, and by a link, which stays in the image.
    for (part, look, expected) in
        [("data", "cat /t/a", "new"), ("data/a", "cat /t", "new"), ("out", "ls /t", "a")]
    {
        let mount = format!("{mount},image-subpath={part}");
        let script = format!("mkdir -p /t 2>/dev/null; {look}");
        assert_eq!(sandbox.run(&["--mount", &mount, "busybox", "sh", "-c", &script]).ok().text(), expected);
    }
    sandbox.run(&["--mount", &format!("{mount},subpath=none"), "busybox", "true"]).fails(125, &["none"]);
    let missing = "type=image,source=localhost:1/nosuch,target=/t";
    sandbox.coracle(["create", "--pull=never", "--mount", missing, "busybox"]).fails(125, &["nosuch"]);
    assert_eq!(sandbox.ok(["ps", "-aq"]), "");
}

#[test]
fn what_is_written_over_a_mounted_image_is_thrown_away() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    load_tools(&sandbox);
    let mount = "type=image,source=tools,target=/t,rw";
    let script = "test ! -e /t/new && echo x >/t/new && echo y >/t/data/a && cat /t/data/a";
    create(&sandbox, mount, &["sh", "-c", script]);
    for _ in 0..2 {
        assert_eq!(sandbox.ok(["start", "-a", "c"]), "y");
    }
    assert_eq!(sandbox.run(&["--mount", mount, "busybox", "cat", "/t/data/a"]).ok().text(), "new");
    let mounted = sandbox.ok(["inspect", "-f", "{{range .Mounts}}{{.Type}} {{.Source}} {{.RW}}{{end}}", "c"]);
    assert_eq!(mounted, "image tools true");
}

#[test]
fn a_mounted_image_is_kept() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    load_tools(&sandbox);
    let mount = "type=image,source=tools,target=/t";
    create(&sandbox, mount, &["cat", "/t/data/a"]);
    sandbox.coracle(["rmi", "tools"]).fails(1, &["container c"]);
    sandbox.ok(["image", "prune", "-a", "-f"]);
    // The name goes, by force; the layers stay while something is made of them.
    sandbox.ok(["rmi", "-f", "tools"]);
    sandbox.ok(["image", "prune", "-a", "-f"]);
    assert_eq!(sandbox.ok(["start", "-a", "c"]), "new");
    sandbox.ok(["rm", "c"]);
    sandbox.coracle(["create", "--pull=never", "--mount", mount, "busybox"]).fails(125, &["tools"]);
}

#[test]
fn its_owners_are_those_of_the_container() {
    let Some(sandbox) = sandbox(&[Image("busybox"), SubIds, Fuse]) else { return };
    load_tools(&sandbox);
    let mount = "type=image,source=tools,target=/t";
    for userns in [&[][..], &["--userns", "keep-id"], &["--uidmap", "0:1:2000", "--gidmap", "0:1:2000"]] {
        let words =
            ["--mount", mount, "-u", "0", "busybox", "stat", "-c", "%u:%g", "/t", "/t/data", "/t/owned"];
        let output = sandbox.run(&[userns, &words].concat()).ok();
        assert_eq!(output.lines(), ["0:0", "0:0", "1000:1000"], "{userns:?}: {output}");
    }
}
