//! Exit codes as docker gives them.

use crate::harness::{Image, sandbox};

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
fn a_container_that_could_not_start_says_so_in_ps_and_in_its_code() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.coracle(["create", "--network", "none", "--name", "broken", "busybox", "/no/such"]).ok();
    let output = sandbox.coracle(["start", "broken"]);
    assert_ne!(output.code(), 0, "{output}");
    assert!(output.stderr.contains("/no/such"), "{output}");
    let state = sandbox.inspect("broken")["State"].clone();
    assert_eq!(state["ExitCode"], 127, "{state}");
    assert_eq!(state["Running"], false, "{state}");
    // Whether docker calls it created or exited has changed over the years.
    let status = sandbox.status("broken");
    assert!(status == "created" || status == "exited", "{status}");
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
