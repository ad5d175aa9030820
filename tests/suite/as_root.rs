//! The person at the keyboard is root: everything still works.

mod crippled;

use crate::harness::{Image, sandbox};

#[test]
fn the_readme_s_first_command_works_for_root() {
    let Some(sandbox) = sandbox(&[]) else { return };
    sandbox.runs_the_readme_s_first_command();
}

#[test]
fn a_container_of_root_is_still_confined() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let report = sandbox.report(&[]);
    assert_eq!(report.capabilities("CapEff"), 0x8004_05fb);
    assert_ne!(
        report.namespaces["user"],
        std::fs::read_link("/proc/self/ns/user").unwrap().to_str().unwrap()
    );
}

#[test]
fn root_s_containers_live_and_die() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.start("c", &["busybox", "sh", "-c", "echo up; sleep 1000"]);
    sandbox.wait_for_log("c", "up");
    sandbox.ok(["stop", "-t", "0", "c"]);
    sandbox.ok(["rm", "c"]);
}

#[test]
fn root_commits_and_mounts_without_unshare() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.coracle(["run", "--network", "none", "--name", "c", "busybox", "sh", "-c", "echo x >/new"]).ok();
    sandbox.ok(["commit", "c", "new"]);
    assert_eq!(sandbox.run(&["new", "cat", "/new"]).ok().text(), "x");
    let place = sandbox.ok(["mount", "c"]);
    assert_eq!(std::fs::read_to_string(format!("{place}/new")).unwrap(), "x\n");
    assert_eq!(sandbox.ok(["umount", "c"]), "c");
    assert!(!std::path::Path::new(&format!("{place}/new")).exists());
}

/// `sudo -E coracle` in a user's store, and what the user sees after one.
#[test]
fn root_keeps_out_of_a_user_s_store() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    const USER: u32 = 54_321;
    let own = |path: &std::path::Path| std::os::unix::fs::chown(path, Some(USER), Some(USER)).unwrap();
    let within = |words: &[&str]| {
        let id = USER.to_string();
        let mut command = sandbox.command("setpriv");
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]);
        command.arg(crate::harness::binary()).args(words);
        crate::harness::process::Running::start(command).wait()
    };
    for folder in ["", "home", "config", "data", "state", "cache", "run", "work"] {
        own(&sandbox.path(folder));
    }
    for folder in [sandbox.data(), sandbox.state(), sandbox.path("run/coracle")] {
        std::fs::create_dir_all(&folder).unwrap();
        own(&folder);
    }
    own(&sandbox.data().join("images"));
    sandbox.coracle(["images"]).refused(&["is the store of", "without sudo", "--root"]);
    sandbox.coracle(["create", "busybox"]).refused(&["is the store of"]);
    assert!(!sandbox.state().join("containers").exists());
    let elsewhere = sandbox.folder("elsewhere");
    sandbox.ok(["--root", elsewhere.to_str().unwrap(), "images"]);
    // One of root's from before.
    within(&["images"]).refused(&["Permission denied", "sudo chown -hR --from=root 54321:54321"]);
}
