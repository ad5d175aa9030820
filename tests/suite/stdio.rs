//! Streams and terminals.

use crate::harness::pty::Terminal;
use crate::harness::{Image, sandbox};
use rustix::termios::LocalModes;

#[test]
fn stdout_and_stderr_stay_apart() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let output = sandbox.run(&["busybox", "sh", "-c", "echo out; echo err >&2"]).ok();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn stdin_is_passed_on_with_i_and_empty_without() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let words = ["run", "--rm", "--network", "none", "-i", "busybox", "cat"];
    let output = sandbox.coracle_with(b"one\ntwo", words).ok();
    assert_eq!(output.stdout, "one\ntwo");
    let words = ["run", "--rm", "--network", "none", "busybox", "cat"];
    let mut running = sandbox.spawn(words);
    running.write(b"not for the container");
    assert_eq!(running.wait().ok().stdout, "");
}

#[test]
fn every_byte_of_a_large_stream_arrives() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let bytes: Vec<u8> = (0..3_000_000u32).map(|i| b'a' + (i % 23) as u8).collect();
    let words = ["run", "--rm", "--network", "none", "-i", "busybox", "sh", "-c", "cat; echo done >&2"];
    // From a file: a pipe's writer and reader are one thread here, and would block each other.
    let file = sandbox.file("input", &bytes);
    let mut command = sandbox.command("sh");
    command
        .arg("-c")
        .arg("exec \"$0\" \"$@\" <\"$INPUT\"")
        .arg(crate::harness::sandbox::binary())
        .args(words)
        .env("INPUT", file);
    let output = crate::harness::process::Running::start(command).wait().ok();
    assert!(output.stdout.as_bytes() == bytes, "{} of {} bytes", output.stdout.len(), bytes.len());
    assert_eq!(output.stderr, "done\n");
}

#[test]
fn output_just_before_the_end_is_never_lost() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    for _ in 0..5 {
        let output = sandbox.run(&["guest", "lines", "2000"]).ok();
        assert_eq!(output.lines().len(), 2000);
        assert!(output.stdout.ends_with("line 1999 of the output, long enough to be a line of a real log\n"));
    }
}

#[test]
fn a_reader_that_goes_away_does_not_hang_the_container() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let mut command = sandbox.command("sh");
    let script = "\"$0\" run --rm --network none busybox yes | head -n 1";
    command.arg("-c").arg(script).arg(crate::harness::sandbox::binary());
    let output = crate::harness::process::Running::start(command).wait();
    assert_eq!(output.stdout, "y\n", "{output}");
    // The container goes on, as docker's does, until it is removed with the sandbox.
}

#[test]
fn a_terminal_has_the_size_of_the_user_s_and_follows_it() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let command =
        sandbox.tool(["run", "--rm", "-it", "--network", "none", "--name", "c", "guest", "winsize"]);
    let mut terminal = Terminal::start(command, 33, 101);
    terminal.wait_for("33 101");
    terminal.resize(44, 55);
    terminal.wait_for("44 55");
    sandbox.ok(["kill", "c"]);
    assert_eq!(terminal.wait().0, 137);
}

#[test]
fn a_terminal_is_raw_while_the_container_runs_and_restored_after() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let command = sandbox.tool([
        "run",
        "--rm",
        "-it",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "test -t 0 && test -t 1 && echo tty; read x; echo got $x; exit 3",
    ]);
    let mut terminal = Terminal::start(command, 24, 80);
    let before = terminal.settings();
    terminal.wait_for("tty");
    assert!(!terminal.settings().local_modes.contains(LocalModes::ICANON), "not raw");
    terminal.write(b"hello\r");
    terminal.wait_for("got hello");
    let (code, shown) = terminal.wait();
    assert_eq!(code, 3, "{shown}");
    assert_eq!(terminal.settings().local_modes, before.local_modes);
    assert_eq!(terminal.settings().input_modes, before.input_modes);
    assert_eq!(terminal.settings().output_modes, before.output_modes);
}

#[test]
fn a_terminal_is_restored_when_the_front_process_is_told_to_end() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let command =
        sandbox.tool(["run", "--rm", "-it", "--network", "none", "--name", "c", "guest", "winsize"]);
    let mut terminal = Terminal::start(command, 24, 80);
    let before = terminal.settings();
    terminal.wait_for("24 80");
    sandbox.ok(["rm", "-f", "-t", "0", "c"]);
    terminal.wait();
    assert_eq!(terminal.settings().local_modes, before.local_modes);
}

#[test]
fn ctrl_c_goes_through_the_container_s_terminal() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let command = sandbox.tool(["run", "--rm", "-it", "--network", "none", "guest", "trap", "2", "8"]);
    let mut terminal = Terminal::start(command, 24, 80);
    terminal.wait_for("ready");
    terminal.write(&[3]);
    let (code, shown) = terminal.wait();
    assert_eq!(code, 8, "{shown}");
    assert!(shown.contains("signal 2"), "{shown}");
}

#[test]
fn the_detach_keys_leave_the_container_running() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let command = sandbox.tool(["run", "-it", "--network", "none", "--name", "c", "guest", "sleep"]);
    let mut terminal = Terminal::start(command, 24, 80);
    terminal.wait_for("ready");
    terminal.write(&[16, 17]);
    let (code, shown) = terminal.wait();
    assert_eq!(code, 0, "{shown}");
    assert_eq!(sandbox.status("c"), "running");
}

#[test]
fn t_without_a_terminal_still_gives_the_container_one() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let output = sandbox.run(&["-t", "busybox", "sh", "-c", "test -t 1 && echo tty"]).ok();
    assert_eq!(output.text(), "tty");
    // Line ends as a terminal makes them.
    assert_eq!(output.stdout, "tty\r\n");
}

#[test]
fn a_detached_container_with_a_terminal_logs_it() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.start("c", &["-t", "busybox", "sh", "-c", "test -t 1 && echo tty"]);
    sandbox.ok(["wait", "c"]);
    assert_eq!(sandbox.ok(["logs", "c"]), "tty");
}

#[test]
fn start_attaches_to_a_created_container_with_stdin() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["create", "-i", "--network", "none", "--name", "c", "busybox", "cat"]);
    let output = sandbox.coracle_with(b"through\n", ["start", "-a", "-i", "c"]).ok();
    assert_eq!(output.stdout, "through\n");
}

/// Docker's `StdinOnce`.
#[test]
fn the_first_attached_client_ends_stdin_unless_the_container_was_detached() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let stdin_once = |name: &str| sandbox.ok(["inspect", "-f", "{{.Config.StdinOnce}}", name]);
    sandbox.ok(["create", "-i", "--network", "none", "--name", "once", "busybox", "cat"]);
    assert_eq!(stdin_once("once"), "true");
    sandbox.ok(["start", "once"]);
    assert_eq!(sandbox.coracle_with(b"through\n", ["attach", "once"]).ok().stdout, "through\n");

    sandbox.start("often", &["-i", "busybox", "cat"]);
    assert_eq!(stdin_once("often"), "false");
    for word in ["one", "two"] {
        let mut attached = sandbox.spawn(["attach", "often"]);
        attached.write(format!("{word}\n").as_bytes());
        attached.wait_for(word);
        attached.close_stdin();
    }
    assert_eq!(sandbox.status("often"), "running");
}

#[test]
fn run_with_stdin_alone_prints_the_id_and_returns() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let words = ["run", "-i", "-a", "stdin", "--network", "none", "busybox", "sh", "-c", "cat; exit 3"];
    let output = sandbox.coracle_with(b"input\n", words).ok();
    let id = output.text();
    assert_eq!(sandbox.ok(["inspect", "-f", "{{.Id}}", id]), id);
    assert_eq!(sandbox.ok(["wait", id]), "3");
    assert_eq!(sandbox.ok(["logs", id]), "input");
    let output = sandbox.coracle(["run", "-a", "stdin", "--network", "none", "busybox", "true"]).ok();
    sandbox.ok(["wait", output.text()]);
}

#[test]
fn no_descriptor_of_coracle_is_open_in_the_container() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    for options in [&[][..], &["-i"], &["-t"], &["--init"], &["--privileged"]] {
        let output = sandbox.run(&[options, &["guest", "report"]].concat()).ok();
        let report = crate::harness::report::Report::parse(&output);
        let fds: Vec<&str> = report.fds.keys().map(String::as_str).collect();
        assert_eq!(fds, ["0", "1", "2"], "{options:?}: {:?}", report.fds);
    }
}
