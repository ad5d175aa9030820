//! Descriptors, the tool's own binary, sockets, kernel interfaces.

use crate::harness::image::{ImageBuilder, Layer, hex};
use crate::harness::report::Report;
use crate::harness::{Image, sandbox};
use serde_json::json;

const PROGRAMS: &[crate::harness::Need] = &[Image("guest"), Image("busybox")];

#[test]
fn cve_2019_5736_the_binary_cannot_be_overwritten() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    // A copy that the user may write, so that only coracle's care protects it.
    let copy = sandbox.path("work/coracle");
    std::fs::copy(crate::harness::sandbox::binary(), &copy).unwrap();
    let before = hex(&std::fs::read(&copy).unwrap());
    let script = "for p in /proc/[0-9]*; do echo evil >$p/exe; done 2>/dev/null; (echo evil >/proc/self/exe) 2>/dev/null; true";
    ImageBuilder::with_programs()
        .layer(
            Layer::new()
                .program("evil", b"#!/proc/self/exe\n")
                .program("evil2", format!("#!/bin/sh\n{script}\n").as_bytes()),
        )
        .config("Entrypoint", json!(["/evil"]))
        .load(&sandbox, "evil");
    let options = ["run", "--rm", "--network", "none"];
    for words in [
        &["evil"][..],
        &["--entrypoint", "/evil2", "evil"],
        &["--entrypoint", "/proc/self/exe", "evil"],
        &["--init", "--entrypoint", "/evil2", "evil"],
        &["--pid", "host", "--entrypoint", "/evil2", "evil"],
    ] {
        let mut command = sandbox.command(&copy);
        command.args(options).args(words);
        let output = crate::harness::process::Running::start(command).wait();
        assert!(!output.stderr.contains("panicked"), "{output}");
        assert_eq!(hex(&std::fs::read(&copy).unwrap()), before, "the binary was changed: {output}");
    }
}

#[test]
fn cve_2016_9962_no_process_in_the_container_holds_the_host_s_descriptors() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let script = "for f in /proc/[0-9]*/fd/*; do readlink $f; done 2>/dev/null; true";
    let output = sandbox.run(&["--init", "busybox", "sh", "-c", script]).ok();
    for target in output.lines() {
        let harmless = ["pipe:", "socket:", "/dev/null", "/proc/", "anon_inode:", "/dev/pts", "/"]
            .iter()
            .any(|p| target.starts_with(p));
        assert!(harmless && !target.contains("coracle"), "{target}: {output}");
    }
    let report = Report::parse(&sandbox.run(&["guest", "report"]).ok());
    assert_eq!(report.fds.len(), 3, "{:?}", report.fds);
}

#[test]
fn cve_2020_15257_no_abstract_socket() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    sandbox.ok(["run", "-d", "--network", "host", "--name", "c", "guest", "sleep"]);
    let output =
        sandbox.coracle(["run", "--rm", "--network", "host", "busybox", "cat", "/proc/net/unix"]).ok();
    let marker = sandbox.root().file_name().unwrap().to_str().unwrap();
    let abstract_ones: Vec<&str> = output
        .lines()
        .into_iter()
        .filter(|line| line.contains(" @") && (line.contains("coracle") || line.contains(marker)))
        .collect();
    assert!(abstract_ones.is_empty(), "{abstract_ones:?}");
}

#[test]
fn cve_2023_25809_cgroups_cannot_be_written() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let script = "find /sys/fs/cgroup -name cgroup.procs 2>/dev/null | while read f; do (echo 1 >$f) 2>/dev/null && echo $f; done; mkdir /sys/fs/cgroup/x 2>/dev/null && echo made";
    let output = sandbox.run(&["busybox", "sh", "-c", script]);
    assert_eq!(output.text(), "", "{output}");
}

#[test]
fn cve_2025_52881_sysctls_land_in_procfs() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let layer = Layer::new()
        .dir("proc")
        .dir("proc/sys")
        .dir("proc/sys/kernel")
        .file("proc/sys/kernel/msgmax", b"of the image");
    ImageBuilder::with_programs().layer(layer).load(&sandbox, "proc");
    let output =
        sandbox.run(&["--sysctl", "kernel.msgmax=5000", "proc", "cat", "/proc/sys/kernel/msgmax"]).ok();
    assert_eq!(output.text(), "5000");
}

#[test]
fn cve_2022_0492_mounts_and_release_agents_are_out_of_reach() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let script = "mkdir -p /tmp/c; mount -t cgroup -o memory c /tmp/c 2>/dev/null && echo cgroup; mount -t tmpfs t /tmp/c 2>/dev/null && echo tmpfs; \
        mount --bind / /tmp/c 2>/dev/null && echo bind; mount -o remount,rw /proc/sys 2>/dev/null && echo remount; umount /proc/kcore 2>/dev/null && echo umount; true";
    assert_eq!(sandbox.run(&["busybox", "sh", "-c", script]).ok().text(), "");
}

#[test]
fn cve_2021_43784_a_flood_of_maps_is_refused() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let maps: Vec<String> = (0..400).map(|n| format!("{n}:{}:1", n + 1)).collect();
    let mut words: Vec<&str> = Vec::new();
    for map in &maps {
        words.extend(["--uidmap", map]);
    }
    words.extend(["guest", "report"]);
    let output = sandbox.run(&words);
    assert_eq!(output.code(), 125, "{output}");
}

#[test]
fn cve_2023_38496_options_that_cannot_be_applied_are_errors() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    for option in
        ["apparmor=no-such-profile", "label=type:nonsense_t", "no-such-option=1", "seccomp=/no/such/file"]
    {
        let output = sandbox.run(&["--security-opt", option, "guest", "report"]);
        assert_eq!(output.code(), 125, "{option}: {output}");
    }
}

#[test]
fn cve_2020_5291_words_after_the_image_are_never_flags() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let report = Report::parse(
        &sandbox.run(&["guest", "report", "--privileged", "--cap-add=ALL", "-v/:/host", "--", "--rm"]).ok(),
    );
    assert_eq!(
        report.args,
        ["/bin/guest", "report", "--privileged", "--cap-add=ALL", "-v/:/host", "--", "--rm"]
    );
    assert_eq!(report.capabilities("CapEff"), 0x8004_05fb);
    assert!(report.mount("/host").is_none());
}

#[test]
fn cve_2020_14370_the_environment_of_one_is_not_the_next_one_s() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("c", &["-e", "SECRET=first", "guest", "sleep"]);
    let report = sandbox.report(&[]);
    assert_eq!(report.env("SECRET"), None);
}

#[test]
fn cve_2026_31431_af_alg_is_refused() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    for options in [&[][..], &["--cap-add", "ALL"], &["--cap-add", "SYS_ADMIN"]] {
        let output = sandbox.run(&[options, &["guest", "syscalls", "socket_alg"]].concat()).ok();
        assert_ne!(output.text(), "socket_alg ok", "{options:?}");
    }
    // The answer is the filter's and not that of a kernel without AF_ALG.
    let output =
        sandbox.run(&["--security-opt", "seccomp=unconfined", "guest", "syscalls", "socket_alg"]).ok();
    println!("without a filter: {}", output.text());
}
