//! What a container said, kept and read back.

use crate::harness::{Image, sandbox, until};

#[test]
fn logs_keep_both_streams_apart() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.start("c", &["busybox", "sh", "-c", "echo out; echo err >&2; printf 'no newline'"]);
    sandbox.ok(["wait", "c"]);
    let output = sandbox.coracle(["logs", "c"]).ok();
    assert_eq!(output.stdout.trim_end(), "out\nno newline");
    assert_eq!(output.stderr, "err\n");
    sandbox.coracle(["logs", "nobody"]).refused(&["nobody"]);
}

#[test]
fn tail_since_until_and_timestamps() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("c", &["guest", "lines", "100"]);
    sandbox.ok(["wait", "c"]);
    let count = |words: &[&str]| sandbox.coracle([&["logs"], words, &["c"]].concat()).ok().lines().len();
    assert_eq!(count(&[]), 100);
    assert_eq!(count(&["--tail", "7"]), 7);
    assert_eq!(count(&["-n", "0"]), 0);
    assert_eq!(count(&["--tail", "all"]), 100);
    assert_eq!(count(&["--tail", "1000"]), 100);
    assert_eq!(count(&["--since", "2001-01-01T00:00:00Z"]), 100);
    assert_eq!(count(&["--since", "1h"]), 100);
    assert_eq!(count(&["--since", "0"]), 100, "the epoch, not now");
    assert_eq!(count(&["--until", "2001-01-01"]), 0);
    assert_eq!(count(&["--since", "2099-01-01T00:00:00Z"]), 0);
    let tail = sandbox.ok(["logs", "--tail", "1", "c"]);
    assert!(tail.starts_with("line 99 "), "{tail}");
    let stamped = sandbox.ok(["logs", "-t", "--tail", "1", "c"]);
    let (stamp, line) = stamped.split_once(' ').unwrap();
    assert!(stamp.ends_with('Z') && stamp.len() >= 20 && stamp.contains('T'), "{stamped}");
    assert!(line.starts_with("line 99 "), "{stamped}");
    for bad in [["--tail", "x"], ["--since", "yesterday-ish"], ["--until", "25:99"]] {
        let output = sandbox.coracle([&["logs"], &bad[..], &["c"]].concat());
        assert_eq!(output.code(), 1, "{bad:?}: {output}");
    }
}

/// Docker's options of a json-file, and its driver `local`.
#[test]
fn a_log_says_what_it_is_asked_to_of_its_container() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let options = ["--log-opt", "labels=com.example.a,b", "--log-opt", "env=STAGE,NONE"];
    let more = ["--log-opt", "tag={{.Name}} <{{.ImageName}}>", "-l", "com.example.a=x y", "-e", "STAGE=beta"];
    let words = ["busybox", "sh", "-c", "echo one; echo two >&2"];
    sandbox.start("c", &[&options[..], &more, &words].concat());
    sandbox.ok(["wait", "c"]);
    let log = std::fs::read_to_string(sandbox.inspect("c")["LogPath"].as_str().unwrap()).unwrap();
    for line in log.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let said = serde_json::json!({"com.example.a": "x y", "STAGE": "beta", "tag": "c <busybox:latest>"});
        assert_eq!(record["attrs"], said, "{line}");
    }
    let plain = sandbox.coracle(["logs", "c"]).ok();
    assert_eq!((plain.stdout.as_str(), plain.stderr.as_str()), ("one\n", "two\n"));
    let details = sandbox.ok(["logs", "--details", "c"]);
    assert_eq!(details, "STAGE=beta,com.example.a=x+y,tag=c+%3Cbusybox%3Alatest%3E one");
    sandbox.start("local", &["--log-driver", "local", "busybox", "echo", "kept"]);
    sandbox.ok(["wait", "local"]);
    assert_eq!(sandbox.ok(["logs", "local"]), "kept");
    assert_eq!(sandbox.ok(["inspect", "-f", "{{.HostConfig.LogConfig.Type}}", "local"]), "local");
    let odd =
        ["--log-opt", "compress=true", "--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=1m"];
    let odd = sandbox.run(&[&odd[..], &["busybox", "true"]].concat()).ok();
    assert!(odd.stderr.contains("not compressed") && odd.stderr.contains("none is dropped"), "{odd}");
    sandbox.run(&["--log-opt", "labels-regex=^a", "busybox"]).refused(&["labels-regex"]);
    sandbox.run(&["--log-driver", "k8s-file", "--log-opt", "tag=x", "busybox"]).refused(&["json-file"]);
}

#[test]
fn follow_ends_with_the_container() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("c", &["guest", "trap", "15", "0"]);
    let mut follower = sandbox.spawn(["logs", "-f", "c"]);
    follower.wait_for("ready");
    sandbox.ok(["stop", "c"]);
    let output = follower.wait().ok();
    assert_eq!(output.lines(), ["ready", "signal 15"]);
    // Of one that has ended it prints and ends at once.
    assert_eq!(sandbox.coracle(["logs", "-f", "c"]).ok().lines(), ["ready", "signal 15"]);
}

#[test]
fn rotation_loses_nothing_that_is_within_the_limit() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let options = ["--log-opt", "max-size=20k", "--log-opt", "max-file=50"];
    for driver in ["json-file", "k8s-file"] {
        sandbox
            .start(driver, &[&["--log-driver", driver], &options[..], &["guest", "lines", "3000"]].concat());
        sandbox.ok(["wait", driver]);
        let output = sandbox.coracle(["logs", driver]).ok();
        let lines = output.lines();
        assert_eq!(lines.len(), 3000, "{driver}");
        for (number, line) in lines.iter().enumerate() {
            assert!(line.starts_with(&format!("line {number} of")), "{driver}: line {number} is {line}");
        }
    }
}

#[test]
fn rotation_keeps_the_newest() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let options = ["--log-opt", "max-size=10k", "--log-opt", "max-file=3"];
    sandbox.start("c", &[&options[..], &["guest", "lines", "5000"]].concat());
    sandbox.ok(["wait", "c"]);
    let output = sandbox.coracle(["logs", "c"]).ok();
    let lines = output.lines();
    assert!(lines.len() < 1000 && lines.last().unwrap().starts_with("line 4999 "), "{}", lines.len());
    let first: usize = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
    assert_eq!(lines.len(), 5000 - first, "no gap in what is kept");
}

#[test]
fn follow_goes_on_across_rotation() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let options = ["-i", "--log-opt", "max-size=4k", "--log-opt", "max-file=20"];
    let script = "i=0; while [ $i -lt 600 ]; do echo number $i; i=$((i+1)); done; echo end; cat";
    sandbox.start("c", &[&options[..], &["busybox", "sh", "-c", script]].concat());
    let mut follower = sandbox.spawn(["logs", "-f", "c"]);
    follower.wait_for("end");
    sandbox.ok(["kill", "c"]);
    let output = follower.wait().ok();
    let numbers: Vec<&str> = output.lines().into_iter().filter(|line| line.starts_with("number")).collect();
    assert_eq!(numbers.len(), 600);
}

#[test]
fn the_default_log_has_a_limit() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    // About 40 MB of log, far beyond any sane default.
    sandbox.start(
        "c",
        &["busybox", "sh", "-c", "yes 'a line of forty bytes, give or take one' | head -n 400000"],
    );
    sandbox.ok(["wait", "c"]);
    let folder = sandbox.state().join("containers");
    let mut bytes = 0;
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let meta = entry.metadata().unwrap();
            if meta.is_dir() { folders.push(entry.path()) } else { bytes += meta.len() }
        }
    }
    assert!(bytes > 0 && bytes < 64 << 20, "{bytes} bytes");
}

#[test]
fn none_keeps_nothing_and_says_so() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let output = sandbox
        .coracle([
            "run",
            "--network",
            "none",
            "--name",
            "c",
            "--log-driver",
            "none",
            "busybox",
            "echo",
            "seen",
        ])
        .ok();
    assert_eq!(output.text(), "seen", "the client still sees it");
    sandbox.coracle(["logs", "c"]).refused(&["none"]);
    sandbox.coracle(["run", "--rm", "--log-driver", "nonsense", "busybox", "true"]).refused(&["nonsense"]);
    sandbox.coracle(["run", "--rm", "--log-opt", "max-size=x", "busybox", "true"]).refused(&["max-size"]);
}

#[test]
fn a_line_without_end_is_cut_not_kept_in_memory() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.start("c", &["busybox", "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo after"]);
    sandbox.ok(["wait", "c"]);
    let output = sandbox.coracle(["logs", "c"]).ok();
    assert!(output.stdout.ends_with("after\n"), "{}", output.stdout.len());
    assert_eq!(output.stdout.bytes().filter(|b| *b == b'x').count(), 3_000_000);
}

#[test]
fn bytes_that_are_not_text_survive() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.start("c", &["busybox", "printf", "a\\377b \"q\" \\\\ \\t.\\n"]);
    sandbox.ok(["wait", "c"]);
    let output = sandbox.coracle(["logs", "c"]).ok();
    assert!(output.stdout.starts_with('a') && output.stdout.contains("b \"q\" \\ \t."), "{output}");
}

#[test]
fn output_of_a_foreground_run_is_logged_too() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.coracle(["run", "--network", "none", "--name", "c", "busybox", "echo", "seen"]).ok();
    assert_eq!(sandbox.ok(["logs", "c"]), "seen");
    until("the container to be listed as exited", || (sandbox.status("c") == "exited").then_some(()));
}
