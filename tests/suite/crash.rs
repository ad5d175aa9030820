//! Kill -9 of any process at any time: the next command tells the truth.

use crate::harness::process::Running;
use crate::harness::{Image, Sandbox, Slirp, sandbox, until};
use rustix::process::{Pid, Signal, kill_process};

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[track_caller]
fn one_monitor(sandbox: &Sandbox) -> i32 {
    let monitors = sandbox.monitors();
    assert_eq!(monitors.len(), 1, "{monitors:?}");
    monitors[0]
}

#[test]
fn a_killed_monitor_takes_its_container_along_and_ps_says_so() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("c", &["guest", "sleep"]);
    let init = sandbox.init_pid("c");
    kill(one_monitor(&sandbox));
    until("ps to say that it has ended", || (sandbox.status("c") == "exited").then_some(()));
    until("its process to end", || (!std::path::Path::new(&format!("/proc/{init}")).exists()).then_some(()));
    assert_eq!(sandbox.ok(["ps", "-q"]), "");
    assert_ne!(sandbox.inspect("c")["State"]["ExitCode"], 0);
    // It starts again as if nothing had been.
    sandbox.ok(["start", "c"]);
    sandbox.wait_for_status("c", "running");
    sandbox.ok(["rm", "-f", "-t", "0", "c"]);
}

#[test]
fn a_monitor_that_is_told_to_end_stops_its_container_and_the_state_says_so() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let script = "trap 'echo stopped; exit 7' TERM; echo ready; while :; do sleep 1; done";
    sandbox.start("c", &["--restart", "always", "busybox", "sh", "-c", script]);
    sandbox.wait_for_log("c", "ready");
    kill_process(Pid::from_raw(one_monitor(&sandbox)).unwrap(), Signal::TERM).unwrap();
    until("its monitor to end", || sandbox.monitors().is_empty().then_some(()));
    let state = sandbox.inspect("c")["State"].clone();
    assert_eq!((&state["Status"], &state["ExitCode"]), (&"exited".into(), &7.into()), "{state}");
    assert!(state["Error"].as_str().is_some_and(|error| error.contains("SIGTERM")), "{state}");
    assert!(sandbox.ok(["logs", "c"]).contains("stopped"));
    assert_eq!(sandbox.inspect("c")["RestartCount"], 0);
}

#[test]
fn a_killed_first_process_is_an_ordinary_end() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("c", &["guest", "sleep"]);
    kill(sandbox.init_pid("c"));
    assert_eq!(sandbox.ok(["wait", "c"]), "137");
    assert_eq!(sandbox.status("c"), "exited");
    until("its monitor to end", || sandbox.monitors().is_empty().then_some(()));
}

#[test]
fn monitor_and_container_killed_together_can_be_removed() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("c", &["guest", "sleep"]);
    let (monitor, init) = (one_monitor(&sandbox), sandbox.init_pid("c"));
    kill(monitor);
    kill_process(Pid::from_raw(init).unwrap(), Signal::KILL).ok();
    // A kill returns before its victim has died; `rm` may still find it alive.
    until("its processes to end", || {
        crate::harness::leaks::processes_of(sandbox.root()).is_empty().then_some(())
    });
    // One that is dying has no words and no mounts any more, and lives all the same.
    until("it to be told as ended", || (sandbox.status("c") != "running").then_some(()));
    sandbox.ok(["rm", "c"]);
    assert_eq!(sandbox.ok(["ps", "-a", "-q"]), "");
}

#[test]
fn the_client_s_code_when_the_monitor_is_killed_is_not_success() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let mut front = sandbox.spawn(["run", "--network", "none", "--name", "c", "guest", "sleep"]);
    front.wait_for("ready");
    kill(one_monitor(&sandbox));
    let output = front.wait();
    assert_ne!(output.code(), 0, "{output}");
}

#[test]
fn wait_and_logs_end_when_the_monitor_is_killed() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("c", &["guest", "sleep"]);
    let waiter = sandbox.spawn(["wait", "c"]);
    let mut follower = sandbox.spawn(["logs", "-f", "c"]);
    follower.wait_for("ready");
    kill(one_monitor(&sandbox));
    follower.wait();
    waiter.wait();
}

#[test]
fn a_runtime_folder_that_is_gone_is_a_reboot() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("c", &["guest", "sleep"]);
    kill(one_monitor(&sandbox));
    until("its processes to end", || {
        crate::harness::leaks::processes_of(sandbox.root()).is_empty().then_some(())
    });
    std::fs::remove_dir_all(sandbox.path("run/coracle")).unwrap();
    assert_eq!(sandbox.status("c"), "exited");
    sandbox.ok(["start", "c"]);
    sandbox.wait_for_status("c", "running");
}

#[test]
fn a_pid_that_belongs_to_someone_else_now_is_not_ours() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let id = sandbox.start("c", &["guest", "sleep"]);
    kill(one_monitor(&sandbox));
    until("its processes to end", || {
        crate::harness::leaks::processes_of(sandbox.root()).is_empty().then_some(())
    });
    // The record of the run, changed to name this test: same numbers, other process.
    let stranger = std::process::id();
    let mut changed = 0;
    for folder in [sandbox.path("run/coracle").join(&id[..12]), sandbox.state().join("containers").join(&id)]
    {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
            let Ok(mut document) = serde_json::from_str::<serde_json::Value>(&text) else { continue };
            if set_pids(&mut document, stranger) {
                std::fs::write(entry.path(), serde_json::to_vec(&document).unwrap()).unwrap();
                changed += 1;
            }
        }
    }
    if changed > 0 {
        assert_eq!(sandbox.status("c"), "exited");
        sandbox.coracle(["kill", "c"]).refused(&[]);
    }
    sandbox.ok(["rm", "-f", "c"]);
}

/// Sets every `pid` in the document; whether there was one.
fn set_pids(document: &mut serde_json::Value, pid: u32) -> bool {
    match document {
        serde_json::Value::Object(fields) => fields.iter_mut().fold(false, |found, (name, value)| {
            if name == "pid" && value.is_number() {
                *value = pid.into();
                return true;
            }
            set_pids(value, pid) || found
        }),
        serde_json::Value::Array(items) => {
            items.iter_mut().fold(false, |found, item| set_pids(item, pid) || found)
        }
        _ => false,
    }
}

#[test]
fn run_killed_at_any_moment_leaves_a_container_that_can_be_removed() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    for milliseconds in [0, 1, 2, 4, 6, 8, 10, 13, 16, 20, 25, 30, 40, 60] {
        let front = sandbox.spawn(["run", "--network", "none", "guest", "sleep"]);
        // Arbitrary moments of the start, which the test sweeps over.
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        drop(front);
        let ids = sandbox.ok(["ps", "-a", "-q"]);
        for id in ids.lines() {
            sandbox.ok(["inspect", "--format", "{{.State.Status}}", id]);
            sandbox.ok(["rm", "-f", "-t", "0", id]);
        }
    }
}

#[test]
fn damaged_files_of_one_container_do_not_hide_the_others() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.ok(["create", "--name", "good", "guest"]);
    let bad = sandbox.ok(["create", "--name", "bad", "guest"]);
    let folder = sandbox.state().join("containers").join(&bad);
    std::fs::write(folder.join("config.json"), "{\"version\":1").unwrap();
    let output = sandbox.coracle(["ps", "-a", "--format", "{{.Names}}"]);
    assert!(output.stdout.contains("good"), "{output}");
    sandbox.ok(["rm", "-f", &bad]);
    assert!(!folder.exists());
    assert_eq!(sandbox.ok(["ps", "-a", "--format", "{{.Names}}"]), "good");
    sandbox.ok(["create", "--name", "bad", "guest"]);
}

/// As a power cut leaves a file whose content had no time to reach the disk.
#[track_caller]
fn empty(path: std::path::PathBuf) {
    std::fs::File::options().write(true).truncate(true).open(path).unwrap();
}

#[test]
fn a_container_of_which_only_empty_files_are_left_can_be_removed_by_its_name() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.ok(["create", "--name", "good", "guest", "exit", "3"]);
    for (name, files) in [
        ("a", &["config.json", "name"][..]),
        ("b", &["name"]),
        ("c", &["config.json"]),
        ("d", &["exit.json"]),
    ] {
        sandbox.ok(["run", "--network", "none", "--name", name, "guest", "exit", "0"]);
        let id = sandbox.ok(["inspect", "--format", "{{.Id}}", name]);
        let folder = sandbox.state().join("containers").join(&id);
        for file in files {
            empty(folder.join(file));
        }
        let listed = sandbox.coracle(["ps", "-a", "--format", "{{.Names}}"]).ok();
        assert!(listed.stdout.contains("good"), "{listed}");
        let warned = listed.stderr.contains("WARNING") && listed.stderr.contains("rm -f");
        assert_eq!(warned, files.contains(&"config.json"), "{listed}");
        // It goes on having its name.
        sandbox.coracle(["create", "--name", name, "guest"]).refused(&["already in use"]);
        sandbox.ok(["rm", "-f", name]);
        assert!(!folder.exists() && !sandbox.state().join("names").join(name).exists(), "{name}");
        sandbox.ok(["create", "--name", name, "guest"]);
        sandbox.ok(["rm", name]);
    }
    let id = sandbox.ok(["create", "--name", "e", "guest"]);
    std::fs::remove_file(sandbox.state().join("containers").join(&id).join("config.json")).unwrap();
    sandbox.coracle(["rm", "e"]).refused(&["config.json", "rm -f"]);
    sandbox.ok(["volume", "create", "v"]);
    sandbox.ok(["volume", "rm", "v"]);
    sandbox.coracle(["volume", "prune", "-f"]).refused(&["config.json", "rm -f"]);
    sandbox.ok(["system", "df"]);
    sandbox.ok(["image", "prune", "-f"]);
    let pruned = sandbox.coracle(["system", "prune", "-f", "--filter", "label=none"]).ok();
    assert_eq!(pruned.stderr.matches("config.json").count(), 1, "{pruned}");
    sandbox.ok(["rm", "-f", "e"]);
    sandbox.ok(["volume", "prune", "-f"]);
    assert_eq!(sandbox.ok(["ps", "-a", "--format", "{{.Names}}"]), "good");
    assert_eq!(sandbox.coracle(["start", "-a", "good"]).code(), 3);
}

#[test]
fn ports_of_the_last_run_that_cannot_be_read_are_chosen_anew() {
    let Some(sandbox) = sandbox(&[Image("guest"), Slirp]) else { return };
    let id = sandbox.ok(["run", "-d", "--name", "c", "-p", "80", "guest", "sleep"]);
    sandbox.ok(["stop", "-t", "0", "c"]);
    empty(sandbox.state().join("containers").join(&id).join("ports.json"));
    sandbox.ok(["start", "c"]);
    assert!(sandbox.ok(["port", "c", "80"]).contains(':'));
    sandbox.ok(["rm", "-f", "-t", "0", "c"]);
}

#[test]
fn a_damaged_network_volume_pod_or_secret_is_no_other_s_matter() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let said = |words: &[&str], listed: &str| {
        let output = sandbox.coracle(words).ok();
        assert!(output.stdout.contains(listed) && output.stderr.contains("WARNING"), "{words:?}: {output}");
    };
    // What is not asked for that is damaged keeps nothing from running.
    let run = || {
        let words = ["run", "--rm", "--name", "free", "--network", "good", "-v", "good:/v"];
        sandbox.ok([&words[..], &["guest", "exit", "0"]].concat())
    };
    sandbox.ok(["network", "create", "--internal", "good"]);

    sandbox.ok(["network", "create", "bad"]);
    sandbox.ok(["create", "--name", "on-it", "--network", "bad", "guest"]);
    empty(sandbox.state().join("networks/bad/network.json"));
    said(&["network", "ls"], "good");
    run();
    sandbox
        .coracle(["run", "--rm", "--network", "bad", "guest"])
        .refused(&["bad/network.json", "network rm -f bad"]);
    sandbox.ok(["network", "rm", "-f", "bad"]);
    assert_eq!(sandbox.ok(["ps", "-aq"]), "", "the containers on it went, too");
    sandbox.ok(["network", "create", "bad"]);
    empty(sandbox.state().join("networks/bad/network.json"));
    sandbox.ok(["network", "create", "bad"]);
    sandbox.ok(["network", "prune", "-f"]);
    sandbox.ok(["network", "create", "--internal", "good"]);

    sandbox.ok(["volume", "create", "bad"]);
    empty(sandbox.data().join("volumes/bad/volume.json"));
    assert!(sandbox.ok(["volume", "ls", "-q"]).contains("bad"));
    sandbox.run(&["--rm", "-v", "bad:/v", "guest", "exit", "0"]).ok();
    std::fs::write(sandbox.data().join("volumes/bad/volume.json"), "{").unwrap();
    said(&["volume", "ls", "-q"], "good");
    said(&["system", "df"], "Volumes");
    run();
    sandbox.coracle(["run", "--rm", "-v", "bad:/v", "guest"]).refused(&["bad/volume.json", "volume rm bad"]);
    sandbox.ok(["volume", "rm", "-f", "bad"]);

    for word in ["id", "name"] {
        let id = sandbox.ok(["pod", "create", "--name", "bad"]);
        sandbox.ok(["create", "--pod", "bad", "guest"]);
        empty(sandbox.state().join("pods").join(&id).join("pod.json"));
        let listed = sandbox.coracle(["pod", "ps"]).ok();
        assert!(listed.stderr.contains("WARNING") && listed.stderr.contains("pod rm -f"), "{listed}");
        run();
        sandbox.coracle(["pod", "rm", &id]).refused(&["pod.json", "pod rm -f"]);
        sandbox.ok(["pod", "rm", "-f", if word == "id" { &id[..12] } else { "bad" }]);
        assert_eq!(sandbox.ok(["ps", "-aq"]), "");
        assert_eq!(sandbox.coracle(["pod", "ps", "-q"]).ok().stderr, "");
    }

    sandbox.file("value", "x");
    sandbox.ok(["secret", "create", "good", "value"]);
    let id = sandbox.ok(["secret", "create", "bad", "value"]);
    empty(sandbox.data().join("secrets").join(format!("{id}.json")));
    said(&["secret", "ls"], "good");
    sandbox.run(&["--rm", "--secret", "good", "guest", "exit", "0"]).ok();
    sandbox.ok(["secret", "create", "bad", "value"]);
    assert_eq!(sandbox.ok(["secret", "rm", &id]), id);
    assert_eq!(sandbox.coracle(["secret", "ls", "-q"]).ok().stderr, "");
}

/// Another login, a job that sets XDG_RUNTIME_DIR for itself, another machine with the
/// same home: none sees the monitor.
#[test]
fn a_container_of_another_runtime_directory_is_not_taken_for_lost() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let elsewhere = sandbox.folder("elsewhere");
    let other = |words: &[&str]| {
        let mut command = sandbox.tool(words);
        command.env("XDG_RUNTIME_DIR", &elsewhere);
        Running::start(command).wait()
    };
    sandbox.start("c", &["guest", "sleep"]);
    sandbox.ok(["run", "-d", "--rm", "--network", "none", "--name", "gone", "guest", "sleep"]);
    let processes = [sandbox.init_pid("c"), sandbox.init_pid("gone")];
    let listed = other(&["ps", "-a", "-q"]).ok();
    assert!(
        listed.text().is_empty() && listed.stderr.matches("another runtime directory").count() == 2,
        "{listed}"
    );
    for words in
        [&["start", "c"][..], &["rm", "c"], &["rm", "-f", "c"], &["exec", "gone", "true"], &["stop", "c"]]
    {
        other(words).refused(&["another runtime directory", "XDG_RUNTIME_DIR="]);
    }
    assert_eq!([sandbox.init_pid("c"), sandbox.init_pid("gone")], processes);
    // What ends there is ended for all.
    sandbox.ok(["stop", "-t", "0", "c"]);
    other(&["rm", "c"]).ok();
    sandbox.ok(["rm", "-f", "-t", "0", "gone"]);
    assert_eq!(other(&["ps", "-a", "-q"]).ok().text(), "");
}

#[test]
fn a_container_whose_runtime_directory_was_emptied_is_not_started_twice() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("c", &["guest", "sleep"]);
    let monitor = one_monitor(&sandbox);
    let place = sandbox.path("run/coracle").join(&sandbox.ok(["ps", "-q"])[..12]);
    std::fs::remove_dir_all(&place).unwrap();
    sandbox.coracle(["start", "c"]).refused(&["still runs", &format!("kill {monitor}")]);
    kill_process(Pid::from_raw(monitor).unwrap(), Signal::TERM).unwrap();
    until("its monitor to end", || sandbox.monitors().is_empty().then_some(()));
    sandbox.ok(["start", "c"]);
    sandbox.ok(["rm", "-f", "-t", "0", "c"]);
}

#[test]
fn a_container_whose_socket_is_gone_can_be_ended() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    for words in [&["stop", "-t", "1", "c"][..], &["rm", "-f", "c"]] {
        sandbox.start("c", &["guest", "sleep"]);
        let init = sandbox.init_pid("c");
        std::fs::remove_file(
            sandbox.path("run/coracle").join(&sandbox.ok(["ps", "-q"])[..12]).join("control"),
        )
        .unwrap();
        sandbox.coracle(["exec", "c", "report"]).refused(&["socket of its monitor", "coracle stop"]);
        sandbox.ok(words);
        let ended = || (!std::path::Path::new(&format!("/proc/{init}")).exists()).then_some(());
        until("its process to end", ended);
        sandbox.coracle(["rm", "-f", "c"]);
    }
    assert_eq!(sandbox.ok(["ps", "-aq"]), "");
}

#[test]
fn a_monitor_that_goes_away_while_it_is_asked_has_a_container_that_is_not_running() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let id = sandbox.start("c", &["guest", "trap", "15", "0"]);
    sandbox.wait_for_log("c", "ready");
    // Whoever takes its place hangs up on everybody, as a monitor does that ends.
    let socket = sandbox.path("run/coracle").join(&id[..12]).join("control");
    let aside = socket.with_extension("aside");
    std::fs::rename(&socket, &aside).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    for words in [&["attach", "c"][..], &["exec", "c", "true"]] {
        let said = sandbox.coracle(words.iter().copied());
        assert_eq!(said.stderr.lines().next(), Some("Error: container c is not running"), "{said}");
    }
    sandbox.coracle(["logs", "-f", "c"]).ok();
    std::fs::rename(&aside, &socket).unwrap();
    sandbox.ok(["stop", "c"]);
}
