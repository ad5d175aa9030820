//! `export`: a container's files as an archive.

use crate::changes::{change, load_base};
use crate::harness::process::Running;
use crate::harness::{Image, Need, sandbox};

#[test]
fn an_export_is_imported_again() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    load_base(&sandbox);
    change(
        &sandbox,
        "c",
        "busybox rm /data/old; echo x >/new; busybox ln /new /second; busybox ln -s / /root_link",
    );
    sandbox.ok(["export", "-o", "c.tar", "c"]);
    sandbox.ok(["import", "c.tar", "again"]);
    let script = "ls /data; cat /second; stat -c %h /new; readlink /root_link";
    let shown = sandbox.run(&["again", "sh", "-c", script]).ok();
    assert_eq!(shown.lines(), ["kept", "second", "sub", "x", "2", "/"]);
}

#[test]
fn gnu_tar_reads_an_export_and_volumes_are_empty_in_it() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest"), Need::Program("tar")]) else { return };
    load_base(&sandbox);
    let folder = sandbox.folder("bound");
    std::fs::write(folder.join("secret"), "s").unwrap();
    let bind = format!("{}:/bound", folder.display());
    let script = "echo v >/vol/f; echo x >/new; touch /.wh.new; busybox ln -s /etc/passwd /sneaky; echo ready; sleep 1000";
    let words = ["-v", "vol:/vol", "-v", &bind, "base", "sh", "-c", script];
    sandbox.start("c", &words);
    sandbox.wait_for_log("c", "ready");
    let listing = || {
        sandbox.ok(["export", "-o", "c.tar", "c"]);
        let mut command = sandbox.command("tar");
        command.args(["-tf", "c.tar"]);
        Running::start(command).wait().ok()
    };
    let running = listing();
    sandbox.ok(["stop", "-t", "0", "c"]);
    let stopped = listing();
    assert_eq!(running.lines(), stopped.lines(), "running and stopped alike");
    for name in ["new", "vol/", "bound/", ".wh.new", "sneaky", "proc/", "bin/sh"] {
        assert!(running.lines().contains(&name), "{name}: {running}");
    }
    for name in ["vol/f", "bound/secret", "proc/1/", "data/old/"] {
        assert!(!running.lines().contains(&name), "{name}: {running}");
    }
}

#[test]
fn a_terminal_gets_no_archive_and_a_lost_reader_no_complaint() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    load_base(&sandbox);
    sandbox.ok(["create", "--network", "none", "--name", "c", "base", "true"]);
    sandbox.coracle(["export", "nope"]).fails(1, &["nope"]);
    sandbox.coracle(["export", "-o", "/nonexistent/x.tar", "c"]).fails(1, &["/nonexistent/x.tar"]);
    let mut command = sandbox.command("sh");
    let binary = crate::harness::sandbox::binary();
    command.args(["-c", &format!("{} export c | head -c 10 >/dev/null", binary.display())]);
    let output = Running::start(command).wait().ok();
    assert_eq!(output.stderr, "");
}

/// A container that swaps directories, files and links while it is read gets
/// nothing of the host into an archive or an image, and keeps neither from
/// being made.
#[test]
fn swapped_links_lead_nowhere() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest"), Need::Program("tar")]) else { return };
    load_base(&sandbox);
    let outside = sandbox.folder("outside");
    std::fs::write(outside.join("host_file"), "host").unwrap();
    let script = format!(
        "echo ready; while :; do mkdir /d; touch /d/host_file; busybox rm -r /d; busybox ln -s {0} /d; \
         busybox rm /d; touch /d; busybox rm /d; busybox ln -s {0}/host_file /d; busybox rm /d; done",
        outside.display()
    );
    sandbox.start("c", &["base", "sh", "-c", &script]);
    sandbox.wait_for_log("c", "ready");
    for round in 0..20 {
        sandbox.ok(["export", "-o", "c.tar", "c"]);
        let bytes = std::fs::read(sandbox.path("work/c.tar")).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            if entry.path_bytes().ends_with(b"host_file") {
                assert_eq!(entry.size(), 0, "the host's file in round {round}");
            }
        }
        if round % 10 == 0 {
            sandbox.ok(["commit", "--pause=false", "c", "new"]);
        }
        sandbox.ok(["diff", "c"]);
    }
}
