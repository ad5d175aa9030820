//! `attach`: from several terminals, and by clients that are slow or die.

use crate::exec::{Holding, soak};
use crate::harness::pty::Terminal;
use crate::harness::{Image, sandbox, until};
use rustix::process::Signal;

#[test]
fn two_terminals_both_see_and_type() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let script = "while read line; do echo \"<$line>\"; done";
    sandbox.start("c", &["-it", "busybox", "sh", "-c", script]);
    let mut one = Terminal::start(sandbox.tool(["attach", "c"]), 24, 80);
    let mut two = Terminal::start(sandbox.tool(["attach", "--latest", "--detach-keys", "ctrl-a"]), 30, 90);
    // Attached when it sees what it typed.
    one.write(b"first\r");
    one.wait_for("<first>");
    two.write(b"second\r");
    two.wait_for("<second>");
    one.wait_for("<second>");
    one.write(b"third\r");
    two.wait_for("<third>");
    // One goes, the other stays.
    one.write(&[16, 17]);
    assert_eq!(one.wait().0, 0);
    two.write(b"fourth\r");
    two.wait_for("<fourth>");
    two.write(&[1]);
    assert_eq!(two.wait().0, 0);
    assert_eq!(sandbox.status("c"), "running");
    let log = std::fs::read_to_string(sandbox.state().join("events")).unwrap();
    assert_eq!((log.matches("\"attach\"").count(), log.matches("\"detach\"").count()), (2, 2), "{log}");
}

#[test]
fn detach_keys_of_docker_s_settings_hold_unless_others_are_given() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.start("c", &["-it", "busybox", "sh", "-c", "while read line; do echo \"<$line>\"; done"]);
    let folder = sandbox.folder("docker");
    let attach = |words: &[&str]| {
        let mut command = sandbox.tool([&["attach"], words, &["c"]].concat());
        command.env("DOCKER_CONFIG", &folder);
        Terminal::start(command, 24, 80)
    };
    std::fs::write(folder.join("config.json"), r#"{"detachKeys": "ctrl-e,e"}"#).unwrap();
    let mut one = attach(&[]);
    one.write(b"first\r");
    one.wait_for("<first>");
    one.write(&[5, b'e']);
    assert_eq!(one.wait().0, 0);
    let mut two = attach(&["--detach-keys", "ctrl-a"]);
    two.write(b"second\r");
    two.wait_for("<second>");
    two.write(&[1]);
    assert_eq!(two.wait().0, 0);
    std::fs::write(folder.join("config.json"), r#"{"detachKeys": "wat"}"#).unwrap();
    let mut command = sandbox.tool(["attach", "c"]);
    command.env("DOCKER_CONFIG", &folder);
    let output = crate::harness::process::Running::start(command).wait();
    output.refused(&["detachKeys", "config.json"]);
}

/// Docker's client leaves then; what does not end, goes on.
#[test]
fn who_asks_for_the_end_three_times_gets_away() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let script = "n=0; trap 'n=$((n+1)); echo caught $n' INT; while :; do echo tick; sleep 0.1; done";
    sandbox.start("c", &["busybox", "sh", "-c", script]);
    let mut client = sandbox.spawn(["attach", "c"]);
    client.wait_for("tick");
    for n in 1..3 {
        client.signal(Signal::INT);
        client.wait_for(&format!("caught {n}"));
    }
    client.signal(Signal::INT);
    client.wait().expect_code(1).refused(&["got 3 SIGTERM/SIGINTs"]);
    assert_eq!(sandbox.status("c"), "running");
}

#[test]
fn a_resize_is_seen_inside() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("c", &["-it", "guest", "winsize"]);
    let mut terminal = Terminal::start(sandbox.tool(["attach", "c"]), 33, 101);
    terminal.wait_for("33 101");
    terminal.resize(50, 60);
    terminal.wait_for("50 60");
    terminal.write(&[16, 17]);
    assert_eq!(terminal.wait().0, 0);
}

#[test]
fn no_stdin_types_nothing() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let script = "while :; do echo tick; read -t 1 line && echo \"<$line>\"; done";
    sandbox.start("c", &["-i", "busybox", "sh", "-c", script]);
    let mut client = sandbox.spawn(["attach", "--no-stdin", "c"]);
    client.wait_for("tick");
    client.write(b"mine\n");
    let mut other = sandbox.spawn(["attach", "c"]);
    other.write(b"other\n");
    other.wait_for("<other>");
    client.wait_for("<other>");
    assert!(!sandbox.ok(["logs", "c"]).contains("<mine>"));
}

#[test]
fn signals_are_passed_on_unless_told_otherwise() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let script = "trap 'echo term' TERM; while :; do echo tick; sleep 0.1; done";
    sandbox.start("c", &["busybox", "sh", "-c", script]);
    let mut client = sandbox.spawn(["attach", "--sig-proxy=false", "c"]);
    client.wait_for("tick");
    client.signal(Signal::TERM);
    assert_eq!(client.wait().code(), 128 + 15);
    assert!(!sandbox.ok(["logs", "c"]).contains("term"));
    let mut client = sandbox.spawn(["attach", "c"]);
    client.wait_for("tick");
    client.signal(Signal::TERM);
    client.wait_for("term");
    // Killed, it leaves the container as it is.
    client.signal(Signal::KILL);
    drop(client);
    assert_eq!(sandbox.status("c"), "running");
}

#[test]
fn signals_that_a_script_s_background_jobs_ignore_reach_the_container() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let run = "trap '' INT; exec \"$0\" run --network none --name c guest trap 2 7";
    let mut command = sandbox.command("sh");
    command.args(["-c", run]).arg(crate::harness::binary());
    let mut client = crate::harness::process::Running::start(command);
    client.wait_for("ready");
    client.signal(Signal::INT);
    assert_eq!(client.wait().code(), 7);
}

#[test]
fn the_exit_code_is_the_container_s() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("c", &["guest", "trap", "15", "9"]);
    sandbox.wait_for_log("c", "ready");
    let client = sandbox.spawn(["attach", "c"]);
    // Attached once the event log says so.
    until("the client to be attached", || {
        std::fs::read_to_string(sandbox.state().join("events")).ok()?.contains("\"attach\"").then_some(())
    });
    sandbox.ok(["kill", "-s", "TERM", "c"]);
    client.wait().expect_code(9);
}

#[test]
fn only_what_runs_can_be_attached_to() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["create", "--name", "c", "busybox"]);
    sandbox.coracle(["attach", "c"]).refused(&["cannot attach to a stopped container"]);
    sandbox.coracle(["attach", "nobody"]).refused(&["no such container"]);
    sandbox.coracle(["attach"]).refused(&["requires"]);
    sandbox.coracle(["attach", "-l", "c"]).refused(&[]);
}

/// A monitor whose last words are still unread must not take the directory of
/// the next run with it.
#[test]
fn a_client_that_hears_of_the_end_late_does_no_harm_to_the_next_run() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let script = "test -e /again || { touch /again; yes; }; echo second; sleep 100000";
    let mut client =
        sandbox.spawn(["run", "--network", "none", "--name", "c", "busybox", "sh", "-c", script]);
    client.wait_for("y");
    let first = sandbox.monitors()[0];
    client.signal(Signal::STOP);
    // What it does not read fills every buffer on the way, and then nothing moves.
    let log = sandbox.inspect("c")["LogPath"].as_str().unwrap().to_owned();
    let mut sizes = Vec::new();
    until("the container to be held up", || {
        // While it is rotated there is none.
        sizes.push(std::fs::metadata(&log).map_or(0, |file| file.len()));
        sizes
            .rchunks(40)
            .next()
            .filter(|last| last.len() == 40 && last.iter().all(|one| one == &last[0]))
            .map(drop)
    });
    sandbox.ok(["kill", "c"]);
    sandbox.ok(["start", "c"]);
    sandbox.wait_for_log("c", "second");
    assert!(sandbox.monitors().contains(&first), "the first monitor still has something to tell");
    client.signal(Signal::CONT);
    client.wait().expect_code(137);
    until("the first monitor to end", || (!sandbox.monitors().contains(&first)).then_some(()));
    assert_eq!(sandbox.ok(["exec", "c", "echo", "there"]), "there");
    sandbox.ok(["kill", "c"]);
    assert_eq!(sandbox.status("c"), "exited");
}

/// CVE-2022-1708 and its kin: output that nobody reads takes no memory and
/// holds nobody up. 200 MB, or 50 GB in a soak.
#[test]
fn a_client_that_stopped_reading_neither_blocks_the_container_nor_grows_its_monitor() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let gigabytes = if soak() >= 10_000 { 50 } else { 0 };
    let bytes = if gigabytes > 0 { format!("{gigabytes}G") } else { "200M".to_owned() };
    let script = format!(
        "until test -e /go; do echo tick; sleep 0.1; done; \
         dd if=/dev/zero bs=1M count={} 2>/dev/null | tr '\\0' x; touch /done; exec sleep 100000",
        if gigabytes > 0 { gigabytes * 1024 } else { 200 }
    );
    sandbox.start("c", &["--log-driver", "none", "busybox", "sh", "-c", &script]);
    let monitor = sandbox.monitors()[0];
    let mut client = sandbox.spawn(["attach", "c"]);
    client.wait_for("tick");
    // An exec whose client has stopped, too.
    let mut reader = sandbox.spawn(["exec", "c", "sh", "-c", "while :; do echo tick; done"]);
    reader.wait_for("tick");
    client.signal(Signal::STOP);
    reader.signal(Signal::STOP);
    let before = Holding::of(monitor);
    sandbox.ok(["exec", "c", "touch", "/go"]);
    let began = std::time::Instant::now();
    let patience = std::time::Duration::from_secs(if gigabytes > 0 { 3600 } else { 60 });
    while sandbox.coracle(["exec", "c", "test", "-e", "/done"]).code() != 0 {
        assert!(began.elapsed() < patience, "the container is held up");
        let now = Holding::of(monitor);
        assert!(now.memory < before.memory + 4096, "{before:?} before, {now:?} after");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    println!("{bytes} in {:?}: {before:?} before, {:?} after", began.elapsed(), Holding::of(monitor));
    // The one that was let go of says so.
    client.signal(Signal::CONT);
    client.wait().refused(&["not read"]);
    drop(reader);
}

/// A pager, a terminal after Ctrl-S: the container goes on meanwhile, and nothing is lost.
#[test]
fn a_client_that_pauses_gets_all_of_the_output_and_the_code() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let script = "until test -e /go; do echo tick; sleep 0.1; done; seq 1 300000; seq 1 9 >&2; exit 7";
    for (name, driver) in [("a", "json-file"), ("b", "none")] {
        sandbox.start(name, &["--log-driver", driver, "busybox", "sh", "-c", script]);
        let mut client = sandbox.spawn(["attach", name]);
        client.wait_for("tick");
        client.signal(Signal::STOP);
        sandbox.ok(["exec", name, "touch", "/go"]);
        assert_eq!(sandbox.ok(["wait", name]), "7");
        client.signal(Signal::CONT);
        let output = client.wait().expect_code(7);
        let lines: Vec<&str> = output.stdout.lines().filter(|line| *line != "tick").collect();
        assert_eq!((lines.len(), lines.first(), lines.last()), (300_000, Some(&"1"), Some(&"300000")));
        assert_eq!(output.stderr.lines().count(), 9, "{}", output.stderr);
        // It is over for all: nothing but the two clients had kept the monitor.
        until("the monitor to end", || sandbox.monitors().is_empty().then_some(()));
    }
}

/// Caught up, it hears what comes then as others do.
#[test]
fn a_client_that_has_caught_up_goes_on() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let script = "until test -e /go; do echo tick; sleep 0.1; done; seq 1 300000; touch /done; \
                  while read line; do echo \"<$line>\"; done";
    sandbox.start("c", &["-i", "busybox", "sh", "-c", script]);
    let mut client = sandbox.spawn(["attach", "c"]);
    client.wait_for("tick");
    client.signal(Signal::STOP);
    sandbox.ok(["exec", "c", "touch", "/go"]);
    until("the container to go on", || {
        (sandbox.coracle(["exec", "c", "test", "-e", "/done"]).code() == 0).then_some(())
    });
    client.signal(Signal::CONT);
    client.wait_for("300000\n");
    client.write(b"typed\n");
    client.wait_for("<typed>");
    sandbox.ok(["kill", "c"]);
    client.wait().expect_code(137);
}

#[test]
fn a_monitor_does_not_grow_with_the_clients_it_had() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let script = "while read line; do echo \"<$line>\"; done";
    sandbox.start("c", &["-it", "busybox", "sh", "-c", script]);
    let monitor = sandbox.monitors()[0];
    let cycle = |n: usize| {
        let mut terminal = Terminal::start(sandbox.tool(["attach", "c"]), 24, 80);
        let mark = format!("n{n}");
        terminal.write(format!("{mark}\r").as_bytes());
        terminal.wait_for(&format!("<{mark}>"));
        terminal.write(&[16, 17]);
        assert_eq!(terminal.wait().0, 0);
    };
    (0..20).for_each(cycle);
    let before = Holding::of(monitor);
    (0..soak()).for_each(cycle);
    let after =
        until("connections to be closed", || Some(Holding::of(monitor)).filter(|now| now.fds <= before.fds));
    before.is_not_outgrown_by(after);
}
