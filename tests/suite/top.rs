//! `top`: a container's processes.

use crate::harness::{Image, Need::Program, Sandbox, sandbox};

fn busy() -> Option<Sandbox> {
    let sandbox = sandbox(&[Image("busybox")])?;
    sandbox.start("c", &["-t", "--init", "busybox", "sleep", "100000"]);
    sandbox.ok(["exec", "-d", "-u", "33", "c", "sleep", "100001"]);
    Some(sandbox)
}

fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn docker_s_columns_tell_of_every_process() {
    let Some(sandbox) = busy() else { return };
    let text = sandbox.ok(["top", "c"]);
    let rows = rows(&text);
    assert_eq!(rows[0], ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    assert_eq!(rows.len(), 4, "init, its command, and the one beside: {text}");
    let init = sandbox.init_pid("c").to_string();
    assert!(rows.iter().any(|row| row[1] == init), "{text}");
    let beside = rows.iter().find(|row| row[7..] == ["sleep", "100001"]).unwrap();
    assert_eq!((beside[0], beside[5]), ("www-data", "?"), "{text}");
    assert!(rows.iter().any(|row| row[2] == init && row[7..] == ["sleep", "100000"]), "{text}");
    assert!(rows.iter().any(|row| row[5].starts_with("pts/")), "{text}");
    assert_eq!(sandbox.ok(["container", "top", "-l"]).lines().count(), 4);
}

#[test]
fn podman_s_descriptors_are_understood() {
    let Some(sandbox) = busy() else { return };
    let words = sandbox.ok(["top", "c", "pid", "user", "args"]);
    assert_eq!(words, sandbox.ok(["top", "c", "pid,user,args"]));
    let rows = rows(&words);
    assert_eq!(rows[0], ["PID", "USER", "COMMAND"]);
    assert_eq!(rows[1][..2], ["1", "root"]);
    let text = sandbox.ok(["top", "c", "capeff,seccomp,state,hpid,ppid,%C,comm"]);
    assert!(text.starts_with("EFFECTIVE CAPS"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("none ") && line.contains("filter")), "{text}");
    // All of them at once.
    let all = sandbox.ok(["top", "--list-descriptors"]).replace('\n', ",");
    assert_eq!(sandbox.ok(["top", "c", &all]).lines().count(), 4);
}

#[test]
fn options_of_ps_are_the_host_s_ps_s() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Program("ps")]) else { return };
    sandbox.start("c", &["busybox", "sleep", "100000"]);
    sandbox.ok(["exec", "-d", "c", "sleep", "100001"]);
    for options in
        [&["aux"][..], &["-eo", "pid,args"], &["-o", "pid,args"], &["-ef"], &["ax", "-o", "pid,args"]]
    {
        let text = sandbox.ok([&["top", "c"], options].concat());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("PID") && lines.len() == 3, "{options:?}: {text}");
        assert!(lines[1].ends_with("sleep 100000") && lines[2].ends_with("sleep 100001"), "{text}");
    }
    sandbox.coracle(["top", "c", "-o", "nonsense"]).refused(&["nonsense"]);
    sandbox.coracle(["top", "c", "invalid"]).refused(&["ps"]);
}

#[test]
fn what_does_not_run_has_no_processes() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["create", "--name", "c", "busybox"]);
    sandbox.coracle(["top", "c"]).refused(&["container c is not running"]);
    sandbox.coracle(["top", "nobody"]).refused(&["no such container"]);
    sandbox.coracle(["top"]).refused(&["requires at least 1 argument"]);
}

/// CVE-2022-1227: nothing of the image is run to tell of it.
#[test]
fn cve_2022_1227_the_image_s_own_ps_is_not_run() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Program("ps")]) else { return };
    let script =
        "printf '#!/bin/sh\\ntouch /ran\\n' >/bin/ps; chmod 755 /bin/ps; echo ready; exec sleep 100000";
    sandbox.start("c", &["busybox", "sh", "-c", script]);
    sandbox.wait_for_log("c", "ready");
    for words in
        [&["top", "c"][..], &["top", "c", "aux"], &["top", "c", "pid,args"], &["top", "c", "invalid"]]
    {
        sandbox.coracle(words);
    }
    sandbox.coracle(["exec", "c", "test", "-e", "/ran"]).expect_code(1);
}
