//! What an image's config claims.

use super::{run, with_programs};
use crate::harness::image::ImageBuilder;
use crate::harness::report::Report;
use crate::harness::{Image, sandbox};
use serde_json::json;

#[test]
fn cve_2026_57231_an_env_entry_without_a_value_is_not_the_host_s() {
    let Some(mut sandbox) = with_programs() else { return };
    sandbox.set("HOST_SECRET", "of-the-host");
    let env = json!(["PATH=/bin", "HOST_SECRET", "*", "HOST_*", "=x", "", "HOME*", "A=1", "B=$HOST_SECRET"]);
    ImageBuilder::with_programs().config("Env", env).load(&sandbox, "env");
    let output = run(&sandbox, &["env", "guest", "report"]);
    if output.code() == 125 {
        return;
    }
    let report = Report::parse(&output.ok());
    assert!(report.env.iter().all(|entry| !entry.contains("of-the-host")), "{:?}", report.env);
    assert!(report.env.iter().all(|entry| entry.find('=').is_some_and(|at| at > 0)), "{:?}", report.env);
    assert_eq!(report.env("A"), Some("1"));
    assert_eq!(report.env("B"), Some("$HOST_SECRET"));
}

#[test]
fn cve_2025_23266_no_helper_gets_the_image_s_environment() {
    use std::os::unix::fs::PermissionsExt;
    let Some(mut sandbox) = with_programs() else { return };
    sandbox.set("USER_SECRET", "of-the-user");
    // Every helper by its name, before the real one on the PATH.
    let folder = sandbox.folder("bin");
    let seen = sandbox.folder("seen");
    let path = std::env::var("PATH").unwrap();
    for helper in ["newuidmap", "newgidmap", "slirp4netns"] {
        let script = format!(
            "#!/bin/sh\ntr '\\0' '\\n' </proc/$$/environ >{}/{helper}\nPATH='{path}'\nexec {helper} \"$@\"\n",
            seen.display()
        );
        let file = sandbox.file(&format!("bin/{helper}"), script);
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    sandbox.set("PATH", &format!("{}:{path}", folder.display()));
    let env = json!([
        "PATH=/evil:/bin",
        "LD_PRELOAD=/evil.so",
        "LD_AUDIT=/evil.so",
        "CORACLE_EVIL=1",
        "XDG_DATA_HOME=/evil"
    ]);
    ImageBuilder::with_programs().config("Env", env).load(&sandbox, "env");
    // With a network where the host can; without a TUN device it fails after the helper began.
    let output = sandbox.coracle(["run", "--rm", "env", "guest", "report"]);
    if output.code() == 0 {
        assert_eq!(Report::parse(&output).env("LD_PRELOAD"), Some("/evil.so"));
    }
    for entry in std::fs::read_dir(&seen).unwrap() {
        let path = entry.unwrap().path();
        let env = std::fs::read_to_string(&path).unwrap();
        assert!(!env.contains("evil") && !env.contains("EVIL"), "{}: {env}", path.display());
        if path.ends_with("slirp4netns") {
            assert!(!env.contains("USER_SECRET"), "{}: {env}", path.display());
        }
    }
}

#[test]
fn cve_2020_1726_a_volume_that_has_something_is_not_filled_from_the_image() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let fill = "mkdir /data; echo image >/data/a; echo image >/data/b; ln -s /etc /data/etc";
    sandbox.ok(["run", "--name", "filling", "--network", "none", "busybox", "sh", "-c", fill]);
    sandbox.ok(["commit", "-q", "filling", "filled"]);
    // What a user put there stays, and nothing joins it; however it is mounted, and ever after.
    sandbox.ok(["volume", "create", "used"]);
    run(&sandbox, &["-v", "used:/mnt", "busybox", "sh", "-c", "echo mine >/mnt/a"]).ok();
    for volume in ["used:/data", "used:/data:ro", "used:/data"] {
        let seen = run(&sandbox, &["-v", volume, "filled", "sh", "-c", "ls /data; cat /data/a"]).ok();
        assert_eq!(seen.text(), "a\nmine", "{volume}");
    }
    // The twin: an empty one gets all of it, and as docker's does again once it is empty.
    sandbox.ok(["volume", "create", "empty"]);
    for volume in ["empty:/data:ro", "empty:/data"] {
        let seen = run(&sandbox, &["-v", volume, "filled", "sh", "-c", "ls /data; cat /data/a"]).ok();
        assert_eq!(seen.text(), "a\nb\netc\nimage", "{volume}");
    }
    run(&sandbox, &["-v", "empty:/mnt", "busybox", "rm", "/mnt/a", "/mnt/b", "/mnt/etc"]).ok();
    let seen = run(&sandbox, &["-v", "empty:/data", "filled", "ls", "/data"]).ok();
    assert_eq!(seen.text(), "a\nb\netc");
    run(&sandbox, &["-v", "empty:/mnt", "busybox", "rm", "/mnt/a", "/mnt/b"]).ok();
    let seen = run(&sandbox, &["-v", "empty:/data", "filled", "ls", "/data"]).ok();
    assert_eq!(seen.text(), "etc", "what was removed of several does not come back");
}
