//! `exec`: further commands in a running container.

use crate::harness::pty::Terminal;
use crate::harness::report::Report;
use crate::harness::{Image, Sandbox, SubIds, sandbox, until};
use rustix::process::Signal;
use std::path::Path;

/// A container that sleeps.
fn sleeping(options: &[&str]) -> Option<Sandbox> {
    let sandbox = sandbox(&[Image("busybox")])?;
    sandbox.start("c", &[options, &["busybox", "sleep", "100000"]].concat());
    Some(sandbox)
}

fn exec(sandbox: &Sandbox, words: &[&str]) -> crate::harness::process::Output {
    sandbox.coracle([&["exec"], words].concat())
}

#[test]
fn the_command_s_streams_and_code_are_its_own() {
    let Some(sandbox) = sleeping(&[]) else { return };
    let output = exec(&sandbox, &["c", "sh", "-c", "echo out; echo err >&2; exit 7"]).expect_code(7);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    exec(&sandbox, &["c", "sh", "-c", "kill -TERM $$"]).expect_code(143);
    // Flags after the container are the command's.
    assert_eq!(exec(&sandbox, &["c", "echo", "-d", "--user", "x"]).ok().stdout, "-d --user x\n");
    assert_eq!(sandbox.ok(["container", "exec", "--latest", "cat", "/proc/1/comm"]), "sleep");
    // It is in no log.
    assert_eq!(sandbox.ok(["logs", "c"]), "");
}

#[test]
fn what_cannot_be_run_has_docker_s_code() {
    let Some(sandbox) = sleeping(&[]) else { return };
    exec(&sandbox, &["c", "nosuchcommand"]).fails(127, &["nosuchcommand"]);
    exec(&sandbox, &["c", "/etc/passwd"]).fails(126, &["/etc/passwd"]);
    exec(&sandbox, &["-u", "nosuchuser", "c", "true"]).fails(126, &["nosuchuser"]);
    exec(&sandbox, &["-w", "/nosuch/dir", "c", "true"]).fails(127, &["/nosuch/dir"]);
    exec(&sandbox, &["-d", "c", "nosuchcommand"]).refused(&["nosuchcommand"]);
    exec(&sandbox, &["--preserve-fds", "1", "c", "true"]).refused(&["--preserve-fds"]);
    exec(&sandbox, &["-w", "relative", "c", "true"]).refused(&["relative"]);
    exec(&sandbox, &["c"]).refused(&["requires at least 2 arguments"]);
    exec(&sandbox, &["nobody", "true"]).refused(&["no such container", "nobody"]);
    for bad in ["-1", "4294967296", "0:0:0", "a b"] {
        let output = exec(&sandbox, &["-u", bad, "c", "true"]);
        assert_eq!(output.code(), 126, "{bad:?}: {output}");
    }
    // None of them is left anywhere.
    assert_eq!(sandbox.ok(["inspect", "--format", "{{len .ExecIDs}}", "c"]), "0");
    sandbox.ok(["stop", "-t", "0", "c"]);
    exec(&sandbox, &["c", "true"]).refused(&["container c is not running"]);
    sandbox.ok(["create", "--name", "d", "busybox"]);
    exec(&sandbox, &["d", "true"]).refused(&["container d is not running"]);
}

/// The lines of /proc/PID/status that say what a process may do.
const STATUS: &str = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Umask)'";

#[test]
fn a_command_is_bound_as_the_first_process_is() {
    let Some(sandbox) = sandbox(&[Image("busybox"), SubIds]) else { return };
    sandbox.start("first", &["busybox", "sleep", "100000"]);
    for options in [
        &["--network", "none"][..],
        &["--network", "none", "--user", "1000:50", "--group-add", "7"],
        &["--network", "none", "--read-only", "--umask", "077", "--ulimit", "nofile=100:200"],
        &["--network", "none", "--cap-drop", "ALL"],
        &["--network", "none", "--cap-add", "SYS_PTRACE", "--user", "5"],
        &["--network", "none", "--userns", "keep-id"],
        &["--network", "none", "--userns", "nomap"],
        &["--network", "none", "--security-opt", "no-new-privileges"],
        &["--network", "none", "--security-opt", "seccomp=unconfined"],
        &["--network", "none", "--privileged"],
        &["--network", "none", "--init"],
        &["--network", "none", "--pid", "host"],
        &["--network", "none", "--uts", "host", "--ipc", "host"],
        &["--network", "host"],
        &["--network", "container:first"],
        &["--network", "none", "--pid", "container:first"],
    ] {
        let name = ["run", "-d", "--rm", "--name", "c"];
        sandbox.ok([&name[..], options, &["busybox", "sleep", "100001"]].concat());
        // As the host numbers it: the first process of another container may be 1.
        let init = sandbox.init_pid("c");
        exec(&sandbox, &["-d", "c", "sleep", "100002"]).ok();
        let beside = until("the command", || {
            let text = sandbox.ok(["top", "c", "hpid", "args"]);
            text.lines()
                .find(|line| line.ends_with("sleep 100002"))?
                .split_whitespace()
                .next()?
                .parse::<i32>()
                .ok()
        });
        let seen = |pid: i32| {
            let script = format!(
                "{STATUS} /proc/{pid}/status; cat /proc/{pid}/limits; readlink /proc/{pid}/cwd; \
                 for n in user mnt pid net ipc uts cgroup; do readlink /proc/{pid}/ns/$n; done"
            );
            sandbox.ok(["unshare", "sh", "-c", &script])
        };
        // With --init the first process is the reaper, with the same bonds.
        assert_eq!(seen(beside), seen(init), "{options:?}");
        sandbox.ok(["rm", "-f", "-t", "0", "c"]);
    }
}

#[test]
fn privileged_gives_no_more_than_the_container_has() {
    let Some(sandbox) = sleeping(&["--cap-drop", "CHOWN"]) else { return };
    let caps = |words: &[&str]| {
        let tail = ["c", "grep", "-E", "^Cap(Eff|Bnd)", "/proc/self/status"];
        exec(&sandbox, &[words, &tail].concat()).ok().stdout
    };
    let of = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        line.split_whitespace().last().unwrap().to_owned()
    };
    let root = caps(&[]);
    let other = caps(&["-u", "5"]);
    assert_eq!(of(&other, "CapEff"), "0000000000000000");
    let privileged = caps(&["--privileged", "-u", "5"]);
    assert_eq!(of(&privileged, "CapEff"), of(&root, "CapBnd"));
    assert_eq!(caps(&["--privileged"]), root);
}

#[test]
fn user_directory_and_environment_are_chosen() {
    let options = ["-e", "A=container", "-e", "B=container", "-w", "/tmp", "--hostname", "box"];
    let Some(mut sandbox) = sleeping(&options) else { return };
    let file = sandbox.file("env", "C=file\nA=file\n");
    sandbox.set("FROM_CALLER", "caller");
    let words = ["-e", "A=flag", "-e", "FROM_CALLER", "--env-file", file.to_str().unwrap(), "c", "env"];
    let output = exec(&sandbox, &words).ok();
    let mut lines = output.lines();
    lines.retain(|line| !line.starts_with("PATH=") && !line.starts_with("container="));
    lines.sort_unstable();
    let expected = ["A=flag", "B=container", "C=file", "FROM_CALLER=caller", "HOME=/root", "HOSTNAME=box"];
    assert_eq!(lines, expected);
    assert!(exec(&sandbox, &["-t", "c", "env"]).ok().stdout.contains("TERM=xterm"));
    assert_eq!(exec(&sandbox, &["c", "pwd"]).ok().text(), "/tmp");
    assert_eq!(exec(&sandbox, &["-w", "/etc", "c", "pwd"]).ok().text(), "/etc");
    let output = exec(&sandbox, &["-u", "1234:50", "c", "sh", "-c", "id -u; id -g; echo $HOME"]).ok();
    assert_eq!(output.lines(), ["1234", "50", "/"]);
    // A megabyte of environment, in pieces that the kernel takes.
    let big: Vec<String> = (0..10).map(|n| format!("BIG{n}={}", "x".repeat(100_000))).collect();
    let flags: Vec<&str> = big.iter().flat_map(|one| ["-e", one.as_str()]).collect();
    let output = exec(&sandbox, &[&flags[..], &["c", "sh", "-c", "echo ${#BIG0} ${#BIG9}"]].concat()).ok();
    assert_eq!(output.text(), "100000 100000");
}

#[test]
fn stdin_is_passed_on_with_i_alone() {
    let Some(sandbox) = sleeping(&[]) else { return };
    assert_eq!(sandbox.coracle_with(b"one\ntwo", ["exec", "-i", "c", "cat"]).ok().stdout, "one\ntwo");
    assert_eq!(sandbox.coracle_with(b"not for it", ["exec", "c", "cat"]).ok().stdout, "");
    // Much of it, and a command that reads nothing of it.
    let mut command = sandbox.command("sh");
    let script = "head -c 50000000 /dev/zero | \"$0\" exec -i c wc -c; head -c 5000000 /dev/zero | \"$0\" exec -i c true";
    command.arg("-c").arg(script).arg(crate::harness::sandbox::binary());
    assert_eq!(crate::harness::process::Running::start(command).wait().ok().text(), "50000000");
}

#[test]
fn a_slow_reader_gets_every_byte() {
    let Some(sandbox) = sleeping(&[]) else { return };
    let mut command = sandbox.command("sh");
    let script = "\"$0\" exec c head -c 20000000 /dev/zero | (head -c 1 | wc -c; sleep 1; wc -c)";
    command.arg("-c").arg(script).arg(crate::harness::sandbox::binary());
    let output = crate::harness::process::Running::start(command).wait().ok();
    let counts: Vec<u64> = output.lines().iter().map(|line| line.trim().parse().unwrap()).collect();
    // `head` reads ahead; what it took is not counted twice.
    assert!(counts[0] == 1 && counts[1] > 19_900_000, "{counts:?}");
}

#[test]
fn no_descriptor_of_coracle_is_open_in_the_command() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("c", &["guest", "sleep"]);
    for options in [&[][..], &["-i"], &["-t"], &["--privileged"]] {
        let output = exec(&sandbox, &[options, &["c", "/bin/guest", "report"]].concat()).ok();
        let report = Report::parse(&output);
        let fds: Vec<&str> = report.fds.keys().map(String::as_str).collect();
        assert_eq!(fds, ["0", "1", "2"], "{options:?}: {:?}", report.fds);
    }
}

/// CVE-2016-9962: what is on its way into the container cannot be looked at from
/// within. CVE-2024-21626: none of its fds is a way out as a working directory.
#[test]
fn cve_2016_9962_nothing_of_the_host_shows_on_the_way_in() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let watch = "while :; do ls -l /proc/[0-9]*/fd /proc/[0-9]*/exe /proc/[0-9]*/cwd 2>/dev/null | \
                 grep -E 'coracle|socket:|eventpoll|pidfd|state' >>/found; done";
    sandbox.start("c", &["--cap-add", "SYS_PTRACE", "busybox", "sh", "-c", watch]);
    for _ in 0..40 {
        exec(&sandbox, &["c", "true"]).ok();
    }
    assert_eq!(exec(&sandbox, &["c", "cat", "/found"]).ok().stdout, "");
    for fd in 3..24 {
        let directory = format!("/proc/self/fd/{fd}");
        let output = exec(&sandbox, &["-w", &directory, "c", "sh", "-c", "ls /; pwd"]);
        assert!(output.code() != 0 && output.stdout.is_empty(), "{output}");
    }
}

/// CVE-2019-5736: the way into the container leads through a copy of the program
/// that cannot be written to.
#[test]
fn cve_2019_5736_exec_of_proc_self_exe_does_not_open_the_program() {
    let Some(sandbox) = sleeping(&[]) else { return };
    let binary = crate::harness::sandbox::binary();
    let before = std::fs::metadata(&binary).unwrap();
    exec(&sandbox, &["c", "/proc/self/exe", "version"]);
    let script = "for p in /proc/[0-9]*; do echo x 2>/dev/null >$p/exe; done; true";
    exec(&sandbox, &["c", "sh", "-c", script]).ok();
    let after = std::fs::metadata(&binary).unwrap();
    assert_eq!((before.len(), before.modified().unwrap()), (after.len(), after.modified().unwrap()));
}

#[test]
fn a_first_process_that_changed_its_root_changes_nothing_for_others() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let jail = "mkdir -p /jail/bin; cp /bin/busybox /jail/bin; echo ready; \
                exec chroot /jail /bin/busybox sleep 100000";
    sandbox.start("c", &["busybox", "sh", "-c", jail]);
    until("the first process to be in its jail", || {
        let root = exec(&sandbox, &["c", "readlink", "/proc/1/root"]);
        (root.text() == "/jail").then_some(())
    });
    assert_eq!(exec(&sandbox, &["c", "ls", "-d", "/jail"]).ok().text(), "/jail");
}

#[test]
fn d_returns_at_once_and_the_command_goes_on() {
    let Some(sandbox) = sleeping(&[]) else { return };
    let output = exec(&sandbox, &["-d", "c", "sh", "-c", "echo $$ >/pid; exec sleep 100000"]).ok();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
    until("the command's file", || (exec(&sandbox, &["c", "test", "-s", "/pid"]).code() == 0).then_some(()));
    let ids = sandbox.inspect("c")["ExecIDs"].as_array().cloned().unwrap();
    assert!(ids.len() == 1 && ids[0].as_str().unwrap().len() == 64, "{ids:?}");
    exec(&sandbox, &["c", "sh", "-c", "kill $(cat /pid)"]).ok();
    until("the session to end", || sandbox.inspect("c")["ExecIDs"].is_null().then_some(()));
    // With a terminal, too.
    exec(&sandbox, &["-dt", "c", "sh", "-c", "tty >/tty"]).ok();
    until("the terminal's name", || {
        exec(&sandbox, &["c", "cat", "/tty"]).text().starts_with("/dev/pts/").then_some(())
    });
}

#[test]
fn a_client_that_dies_leaves_the_command_running_without_input() {
    let Some(sandbox) = sleeping(&[]) else { return };
    let script = "echo begun; cat; echo ended >/end; exec sleep 100000";
    let mut client = sandbox.spawn(["exec", "-i", "c", "sh", "-c", script]);
    client.wait_for("begun");
    client.signal(Signal::KILL);
    drop(client);
    until("the end of its stdin", || (exec(&sandbox, &["c", "cat", "/end"]).text() == "ended").then_some(()));
    assert_eq!(sandbox.inspect("c")["ExecIDs"].as_array().map(Vec::len), Some(1));
    // One in the middle of its output does not hold the command up.
    let mut client =
        sandbox.spawn(["exec", "c", "sh", "-c", "echo begun; head -c 50000000 /dev/zero; touch /written"]);
    client.wait_for("begun");
    client.signal(Signal::KILL);
    drop(client);
    until("all output", || (exec(&sandbox, &["c", "test", "-e", "/written"]).code() == 0).then_some(()));
}

#[test]
fn signals_to_the_client_reach_the_command() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("c", &["guest", "sleep"]);
    let mut client = sandbox.spawn(["exec", "c", "/bin/guest", "trap", "15", "6"]);
    client.wait_for("ready");
    client.signal(Signal::TERM);
    assert!(client.wait().expect_code(6).stdout.contains("signal 15"));
}

#[test]
fn commands_end_with_their_container() {
    for options in [&[][..], &["--pid", "host"], &["--init"]] {
        let Some(sandbox) = sleeping(options) else { return };
        let mut client = sandbox.spawn(["exec", "c", "sh", "-c", "echo begun; sleep 100000; true"]);
        client.wait_for("begun");
        sandbox.ok(["kill", "c"]);
        client.wait().expect_code(137);
        // In every moment of the end, an answer.
        exec(&sandbox, &["c", "true"]).refused(&["container c is not running"]);
        sandbox.ok(["start", "c"]);
        exec(&sandbox, &["c", "true"]).ok();
    }
}

#[test]
fn a_command_in_a_dying_container_gets_an_answer() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    for _ in 0..10 {
        sandbox.ok(["run", "-d", "--rm", "--network", "none", "--name", "c", "busybox", "sleep", "100000"]);
        let killer = sandbox.spawn(["kill", "c"]);
        for _ in 0..5 {
            let output = exec(&sandbox, &["c", "true"]);
            assert!([0, 1, 137].contains(&output.code()), "{output}");
            assert!(!output.stderr.contains("/proc/"), "{output}");
        }
        killer.wait().ok();
        until("the container to be gone", || sandbox.ok(["ps", "-aq"]).is_empty().then_some(()));
    }
}

#[test]
fn the_container_may_be_named_by_a_file() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["run", "-d", "--network", "none", "--cidfile", "cid", "busybox", "sleep", "1000"]);
    assert_eq!(sandbox.ok(["exec", "--cidfile", "cid", "echo", "in"]), "in");
    sandbox.coracle(["exec", "--cidfile", "cid"]).fails(1, &["requires at least 1 argument"]);
    let missing = "reading CIDFile: open nowhere: no such file or directory";
    for verb in [&["exec", "--cidfile", "nowhere", "true"][..], &["stop", "--cidfile", "nowhere"]] {
        let output = sandbox.coracle(verb);
        assert!(output.code() != 0 && output.stderr.contains(missing), "{output}");
    }
}

#[test]
fn a_terminal_has_its_size_and_follows_the_user_s() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("c", &["guest", "sleep"]);
    let mut terminal = Terminal::start(sandbox.tool(["exec", "-it", "c", "/bin/guest", "winsize"]), 33, 101);
    terminal.wait_for("33 101");
    terminal.resize(44, 55);
    terminal.wait_for("44 55");
    terminal.write(&[3]);
    assert_eq!(terminal.wait().0, 130);
}

#[test]
fn the_detach_keys_leave_the_command_running() {
    let Some(sandbox) = sleeping(&[]) else { return };
    for (flags, keys) in [(&[][..], &[16u8, 17][..]), (&["--detach-keys", "ctrl-a,x"], &[1, b'x'])] {
        let words = [&["exec", "-it"], flags, &["c", "sh", "-c", "tty; echo begun; sleep 100000"]].concat();
        let mut terminal = Terminal::start(sandbox.tool(words), 24, 80);
        terminal.wait_for("begun");
        assert!(terminal.said().contains("/dev/pts/"));
        terminal.write(keys);
        assert_eq!(terminal.wait().0, 0);
    }
    assert_eq!(sandbox.inspect("c")["ExecIDs"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_monitor_that_hangs_does_not_hang_inspect() {
    let Some(sandbox) = sleeping(&[]) else { return };
    let monitor = rustix::process::Pid::from_raw(sandbox.monitors()[0]).unwrap();
    rustix::process::kill_process(monitor, Signal::STOP).unwrap();
    let before = std::time::Instant::now();
    let status = sandbox.coracle(["inspect", "--format", "{{.State.Status}}", "c"]);
    let took = before.elapsed();
    rustix::process::kill_process(monitor, Signal::CONT).unwrap();
    assert_eq!(status.ok().text(), "running");
    assert!(took.as_secs() < 10, "{took:?}");
}

#[test]
fn exec_is_told_in_the_event_log() {
    let Some(sandbox) = sleeping(&[]) else { return };
    exec(&sandbox, &["c", "sh", "-c", "exit 5"]).expect_code(5);
    let log = std::fs::read_to_string(sandbox.state().join("events")).unwrap();
    let event = |action: &str| -> serde_json::Value {
        let line =
            log.lines().find(|line| line.contains(&format!("\"{action}"))).unwrap_or_else(|| panic!("{log}"));
        serde_json::from_str(line).unwrap()
    };
    assert_eq!(event("exec_create")["action"], "exec_create: sh -c exit 5");
    assert_eq!(event("exec_start")["action"], "exec_start: sh -c exit 5");
    assert_eq!(event("exec_die")["attributes"]["exitCode"], "5");
    assert_eq!(event("exec_die")["attributes"]["execID"], event("exec_create")["attributes"]["execID"]);
}

/// How often the soaks go round; `CORACLE_TEST_SOAK` says otherwise.
pub(crate) fn soak() -> usize {
    std::env::var("CORACLE_TEST_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

/// What a monitor has: KiB of memory of its own, fds, children.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holding {
    pub(crate) memory: u64,
    pub(crate) fds: usize,
    pub(crate) children: usize,
}

impl Holding {
    pub(crate) fn of(pid: i32) -> Self {
        let proc = Path::new("/proc").join(pid.to_string());
        let status = std::fs::read_to_string(proc.join("status")).unwrap();
        let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        let children = std::fs::read_to_string(proc.join(format!("task/{pid}/children"))).unwrap();
        Self {
            memory: memory.trim().trim_end_matches(" kB").parse().unwrap(),
            fds: std::fs::read_dir(proc.join("fd")).map_or(0, Iterator::count),
            children: children.split_whitespace().count(),
        }
    }

    /// # Panics
    /// Where `later` has more than a little more.
    #[track_caller]
    pub(crate) fn is_not_outgrown_by(self, later: Self) {
        println!("monitor: {self:?} before, {later:?} after");
        assert_eq!((self.fds, self.children), (later.fds, later.children));
        assert!(later.memory < self.memory + 1024, "{self:?} before, {later:?} after");
    }
}

#[test]
fn a_monitor_does_not_grow_with_the_commands_it_ran() {
    let Some(sandbox) = sleeping(&[]) else { return };
    let monitor = sandbox.monitors()[0];
    // The first process, and what serves its files.
    let children = 1 + sandbox.servers().len();
    let cycle = |n: usize| {
        let flags = [&[][..], &["-t"], &["-i"], &["-d"]][n % 4];
        exec(&sandbox, &[flags, &["c", "true"]].concat()).ok();
    };
    (0..50).for_each(cycle);
    let settled = || {
        until("the last command to be gone", || sandbox.inspect("c")["ExecIDs"].is_null().then_some(()));
        until("its connection to be closed", || {
            Some(Holding::of(monitor)).filter(|now| now.children == children)
        })
    };
    let before = settled();
    let files = || std::fs::read_dir(sandbox.path("run/coracle")).unwrap().flatten().count();
    let files_before = files();
    (0..soak()).for_each(cycle);
    let after = until("its connections to be closed", || Some(settled()).filter(|now| now.fds <= before.fds));
    before.is_not_outgrown_by(after);
    assert_eq!(files(), files_before);
}
