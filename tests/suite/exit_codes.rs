//! Exit codes as docker gives them.

use crate::harness::{Image, sandbox};
use std::os::unix::fs::PermissionsExt;

#[test]
fn run_passes_on_the_exit_code_of_the_command() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    for code in [0, 1, 42, 125, 255] {
        sandbox.run(&["guest", "exit", &code.to_string()]).expect_code(code);
    }
}

#[test]
fn a_command_that_a_signal_ended_gives_128_and_its_number() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    // Not the shell itself: pid 1 ignores what it does not handle.
    sandbox.run(&["busybox", "sh", "-c", "sh -c 'kill -TERM $$'; exit $?"]).expect_code(143);
    sandbox.run(&["busybox", "sh", "-c", "sh -c 'kill -KILL $$'; exit $?"]).expect_code(137);
    sandbox.run(&["--init", "busybox", "sh", "-c", "kill -KILL $$"]).expect_code(137);
}

#[test]
fn a_command_that_does_not_exist_gives_127() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let output = sandbox.run(&["busybox", "/no/such/command"]).expect_code(127);
    assert!(output.stderr.contains("/no/such/command"), "{output}");
    sandbox.run(&["busybox", "no-such-command"]).expect_code(127);
    sandbox.run(&["--entrypoint", "nothing", "busybox"]).expect_code(127);
}

#[test]
fn a_file_that_cannot_be_executed_gives_126() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let output = sandbox.run(&["busybox", "/etc/passwd"]).expect_code(126);
    assert!(output.stderr.contains("/etc/passwd"), "{output}");
    sandbox.run(&["busybox", "/etc"]).expect_code(126);
}

#[test]
fn a_failure_of_coracle_gives_125_and_leaves_nothing() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.run(&["--no-such-flag", "busybox", "true"]).refused(&["no-such-flag"]);
    sandbox.run(&["-v", "/no/such/folder:/mnt", "busybox", "true"]).refused(&["/no/such/folder"]);
    sandbox.run(&["--pull", "never", "not-an-image-here", "true"]).refused(&["not-an-image-here"]);
    assert_eq!(sandbox.ok(["ps", "-a", "-q"]), "");
}

#[test]
fn a_container_that_could_not_be_started_is_as_it_was_but_for_its_code_and_the_reason() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let state = |name: &str| sandbox.inspect(name)["State"].clone();
    let event = |name: &str| {
        let filter = format!("container={name}");
        sandbox.ok(["events", "--since", "0", "--until", "0s", "-f", &filter, "--format", "{{.Action}}"])
    };
    sandbox.ok(["create", "--network", "none", "--name", "broken", "busybox", "/no/such"]);
    sandbox.coracle(["start", "broken"]).fails(1, &["/no/such"]);
    sandbox.coracle(["start", "-a", "broken"]).fails(1, &["/no/such"]);
    sandbox.coracle(["restart", "broken"]).fails(1, &["/no/such"]);
    let words = ["run", "--network", "none", "--name", "not-a-program", "busybox", "/etc/passwd"];
    sandbox.coracle(words).expect_code(126);
    let folder = sandbox.folder("gone");
    let bind = format!("type=bind,src={},dst=/x", folder.display());
    sandbox.ok(["create", "--network", "none", "--name", "bound", "--mount", &bind, "busybox"]);
    std::fs::remove_dir(&folder).unwrap();
    sandbox.coracle(["start", "bound"]).fails(1, &["gone"]);
    for (name, code) in [("broken", 127), ("not-a-program", 126), ("bound", 128)] {
        let state = state(name);
        assert_eq!((&state["Status"], &state["ExitCode"]), (&"created".into(), &code.into()), "{state}");
        assert_eq!(state["StartedAt"], "0001-01-01T00:00:00Z", "{state}");
        assert_eq!(state["FinishedAt"], "0001-01-01T00:00:00Z", "{state}");
        assert_ne!(state["Error"], "", "{state}");
        assert_eq!(event(name), "create");
        assert_eq!(sandbox.ok(["wait", name]), code.to_string());
    }
    assert_eq!(sandbox.ok(["ps", "-a", "-q", "--filter", "exited=127"]), "");
    assert_eq!(sandbox.ok(["ps", "-a", "-q", "--filter", "status=created"]).lines().count(), 3);

    // One that ran before keeps the times of that run.
    let program = sandbox.file("once", "#!/bin/sh\nrm /once\nexit 3\n");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    sandbox.ok(["create", "--network", "none", "--name", "once", "busybox", "/once"]);
    sandbox.ok(["cp", program.to_str().unwrap(), "once:/once"]);
    sandbox.coracle(["start", "-a", "once"]).expect_code(3);
    let before = state("once");
    sandbox.coracle(["start", "once"]).fails(1, &["/once"]);
    let after = state("once");
    assert_eq!((&after["Status"], &after["ExitCode"]), (&"exited".into(), &127.into()), "{after}");
    for time in ["StartedAt", "FinishedAt"] {
        assert_eq!(after[time], before[time], "{time}");
    }
}

#[test]
fn start_attached_passes_on_the_exit_code() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.coracle(["create", "--network", "none", "--name", "c", "guest", "exit", "7"]).ok();
    sandbox.coracle(["start", "-a", "c"]).expect_code(7);
    sandbox.coracle(["start", "--attach", "c"]).expect_code(7);
}

#[test]
fn wait_prints_the_exit_code() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("c", &["guest", "exit", "9"]);
    assert_eq!(sandbox.ok(["wait", "c"]), "9");
    // And again, when it has long ended.
    assert_eq!(sandbox.ok(["wait", "c"]), "9");
    sandbox.coracle(["wait", "nobody"]).refused(&["nobody"]);
}

#[test]
fn detached_run_succeeds_whatever_the_command_gives() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let id = sandbox.start("c", &["guest", "exit", "3"]);
    assert_eq!(id.len(), 64, "{id}");
    sandbox.wait_for_status("c", "exited");
    assert_eq!(sandbox.inspect("c")["State"]["ExitCode"], 3);
}

#[test]
fn other_commands_fail_with_docker_s_1_and_wrong_words_with_125() {
    let Some(sandbox) = sandbox(&[]) else { return };
    for verb in ["start", "stop", "restart", "kill", "rm", "logs", "wait", "attach", "rename"] {
        let words: &[&str] = if verb == "rename" { &[verb, "nosuch", "x"] } else { &[verb, "nosuch"] };
        sandbox.coracle(words).fails(1, &["nosuch"]);
        sandbox.coracle([verb, "--no-such-flag", "x"]).fails(125, &["no-such-flag"]);
        sandbox.coracle([verb]).fails(1, &["requires"]);
    }
}

#[test]
fn an_image_that_cannot_be_moved_gives_125_as_run_does() {
    let Some(sandbox) = sandbox(&[]) else { return };
    for words in [
        &["pull", "127.0.0.1:1/x"][..],
        &["image", "pull", "127.0.0.1:1/x"],
        &["run", "127.0.0.1:1/x"],
        &["push", "nosuch"],
        &["load", "-i", "nosuch"],
        &["import", "nosuch"],
        &["save", "nosuch"],
        &["login", "-u", "x", "--password", "y", "127.0.0.1:1"],
        &["search", "127.0.0.1:1/x"],
    ] {
        let said = sandbox.coracle(words);
        assert_eq!(said.code(), 125, "{words:?}: {said}");
        assert!(said.stderr.contains("127.0.0.1:1") || said.stderr.contains("nosuch"), "{said}");
    }
    sandbox.coracle(["rmi", "nosuch"]).fails(1, &["nosuch"]);
}
