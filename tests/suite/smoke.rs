//! The first steps of a new user, and what the harness itself must do.

use crate::harness::{Image, needs, sandbox};

#[test]
fn the_readme_s_first_command_works() {
    let Some(sandbox) = sandbox(&[]) else { return };
    sandbox.runs_the_readme_s_first_command();
}

#[test]
fn a_throw_away_root_leaves_the_host_as_it_is() {
    let Some(sandbox) = sandbox(&[]) else { return };
    let folder = sandbox.folder("root/sub");
    let root = folder.parent().unwrap();
    let busybox = needs::image_dir("busybox").map(|dir| dir.join("rootfs/bin/busybox"));
    let Some(busybox) = busybox.filter(|_| needs::host_has(&[Image("busybox")])) else { return };
    std::fs::create_dir(root.join("bin")).unwrap();
    std::fs::copy(busybox, root.join("bin/busybox")).unwrap();
    let rootfs = format!("{}:O", root.display());
    let script = "/bin/busybox touch /sub/new && /bin/busybox ls /sub";
    let output = sandbox
        .coracle([
            "run",
            "--rm",
            "--network",
            "none",
            "--rootfs",
            &rootfs,
            "/bin/busybox",
            "sh",
            "-c",
            script,
        ])
        .ok();
    assert_eq!(output.text(), "new");
    assert!(!folder.join("new").exists(), "the container wrote to the host's folder");
}

#[test]
fn the_version_is_printed() {
    let Some(sandbox) = sandbox(&[]) else { return };
    let said = sandbox.ok(["--version"]);
    assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
}

#[test]
fn an_unknown_command_is_coracle_s_own_failure() {
    let Some(sandbox) = sandbox(&[]) else { return };
    sandbox.coracle(["no-such-command"]).refused(&["no-such-command"]);
}
