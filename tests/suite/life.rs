//! A container's life: created, started, stopped, restarted, killed, removed.

use crate::harness::{Image, sandbox, until};
use rustix::process::{Pid, Signal};

#[test]
fn create_makes_a_container_that_does_not_run() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let id = sandbox.ok(["create", "--name", "c", "busybox", "true"]);
    assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    assert_eq!(sandbox.status("c"), "created");
    assert_eq!(sandbox.ok(["ps", "-q"]), "", "ps without -a shows what runs");
    assert_eq!(sandbox.ok(["ps", "-a", "-q", "--no-trunc"]), id);
    assert_eq!(sandbox.ok(["ps", "-a", "-q"]), id[..12]);
}

#[test]
fn a_container_may_be_named_by_any_unique_part_of_its_id() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let id = sandbox.ok(["create", "busybox", "true"]);
    for part in [&id[..], &id[..12], &id[..5]] {
        assert_eq!(sandbox.ok(["inspect", "--format", "{{.Id}}", part]), id);
    }
    // A name wins over an id that begins alike.
    let other = sandbox.ok(["create", "--name", &id[..4], "busybox", "true"]);
    assert_eq!(sandbox.ok(["inspect", "--format", "{{.Id}}", &id[..4]]), other);
}

#[test]
fn start_stop_and_start_again() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.ok(["create", "--network", "none", "--name", "c", "guest", "trap", "15", "5"]);
    for _ in 0..2 {
        assert_eq!(sandbox.ok(["start", "c"]), "c");
        sandbox.wait_for_status("c", "running");
        assert_eq!(sandbox.ok(["ps", "--format", "{{.Names}}"]), "c");
        sandbox.wait_for_log("c", "ready");
        assert_eq!(sandbox.ok(["stop", "c"]), "c");
        assert_eq!(sandbox.status("c"), "exited");
        assert_eq!(sandbox.inspect("c")["State"]["ExitCode"], 5);
    }
    // Two runs, one log.
    assert_eq!(sandbox.ok(["logs", "c"]).matches("signal 15").count(), 2);
}

#[test]
fn stop_sends_the_stop_signal_first_and_kills_after_the_time() {
    let Some(sandbox) = sandbox(&[Image("guest"), Image("busybox")]) else { return };
    sandbox.start("polite", &["--stop-signal", "SIGUSR1", "guest", "trap", "10", "0"]);
    sandbox.wait_for_log("polite", "ready");
    sandbox.ok(["stop", "-t", "60", "polite"]);
    assert_eq!(sandbox.inspect("polite")["State"]["ExitCode"], 0);

    // pid 1 without a handler does not see SIGTERM at all.
    sandbox.start("deaf", &["guest", "sleep"]);
    let before = std::time::Instant::now();
    sandbox.ok(["stop", "-t", "1", "deaf"]);
    assert!(before.elapsed().as_millis() >= 900, "killed before its time: {:?}", before.elapsed());
    assert_eq!(sandbox.inspect("deaf")["State"]["ExitCode"], 137);

    sandbox.start("hasty", &["--stop-timeout", "0", "guest", "sleep"]);
    sandbox.ok(["stop", "hasty"]);
    assert_eq!(sandbox.inspect("hasty")["State"]["ExitCode"], 137);
}

#[test]
fn stop_of_a_stopped_container_is_no_error() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("c", &["guest", "exit", "0"]);
    sandbox.ok(["wait", "c"]);
    sandbox.coracle(["stop", "c"]).ok();
    sandbox.coracle(["stop", "nobody"]).refused(&["nobody"]);
}

#[test]
fn restart_gives_a_new_process() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("c", &["guest", "trap", "15", "0"]);
    sandbox.wait_for_log("c", "ready");
    let first = sandbox.init_pid("c");
    let ended = |name| sandbox.ok(["inspect", "-f", "{{.State.FinishedAt}}", name]);
    assert!(ended("c").starts_with("0001"));
    assert_eq!(sandbox.ok(["restart", "c"]), "c");
    sandbox.wait_for_status("c", "running");
    assert_ne!(sandbox.init_pid("c"), first);
    assert!(!ended("c").starts_with("0001"), "the end of the last run is known");
    // A container that does not run is started.
    sandbox.ok(["stop", "-t", "0", "c"]);
    let last = ended("c");
    sandbox.ok(["restart", "c"]);
    sandbox.wait_for_status("c", "running");
    assert_eq!(ended("c"), last);
}

#[test]
fn kill_sends_any_signal_by_name_or_number() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    for (spelling, number) in [("USR1", "10"), ("SIGUSR2", "12"), ("1", "1"), ("sighup", "1")] {
        let name = format!("c-{spelling}");
        sandbox.start(&name, &["guest", "trap", number, "4"]);
        sandbox.wait_for_log(&name, "ready");
        sandbox.ok(["kill", "-s", spelling, &name]);
        assert_eq!(sandbox.ok(["wait", &name]), "4", "{spelling}");
    }
    sandbox.start("c", &["guest", "sleep"]);
    sandbox.ok(["kill", "c"]);
    assert_eq!(sandbox.ok(["wait", "c"]), "137");
    sandbox.coracle(["kill", "c"]).refused(&["c"]);
    sandbox.start("d", &["guest", "sleep"]);
    sandbox.coracle(["kill", "-s", "NOSUCH", "d"]).refused(&["NOSUCH"]);
}

#[test]
fn rm_refuses_what_runs_unless_forced() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("c", &["guest", "sleep"]);
    sandbox.coracle(["rm", "c"]).refused(&["c"]);
    assert_eq!(sandbox.status("c"), "running");
    assert_eq!(sandbox.ok(["rm", "-f", "c"]), "c");
    assert_eq!(sandbox.ok(["ps", "-a", "-q"]), "");
    sandbox.coracle(["rm", "c"]).refused(&["c"]);
    // `rm -f` of nothing is no error in docker since 20.10 and in podman.
    sandbox.coracle(["rm", "-f", "c"]).ok();
}

#[test]
fn several_containers_at_once_and_each_failure_is_told() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    for name in ["a", "b"] {
        sandbox.start(name, &["guest", "sleep"]);
    }
    let output = sandbox.coracle(["rm", "-f", "-t", "0", "a", "b"]).ok();
    assert_eq!(output.lines(), ["a", "b"]);
    sandbox.start("a", &["guest", "sleep"]);
    let output = sandbox.coracle(["kill", "nobody", "a"]);
    assert_eq!(output.code(), 1, "{output}");
    assert!(output.stderr.contains("nobody"), "{output}");
    assert_eq!(sandbox.ok(["wait", "a"]), "137", "the one that exists was killed all the same");
}

#[test]
fn run_rm_removes_the_container_and_its_anonymous_volumes() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.run(&["--name", "c", "-v", "/data", "busybox", "touch", "/data/x"]).ok();
    assert_eq!(sandbox.ok(["ps", "-a", "-q"]), "");
    // Files are deleted once the client has its code.
    until("the volume to be removed", || sandbox.ok(["volume", "ls", "-q"]).is_empty().then_some(()));
    // Detached too, soon after its end.
    sandbox.coracle(["run", "-d", "--rm", "--network", "none", "--name", "d", "busybox", "true"]).ok();
    until("the detached container to be removed", || sandbox.ok(["ps", "-a", "-q"]).is_empty().then_some(()));
}

#[test]
fn names_are_unique_and_checked() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["create", "--name", "c", "busybox"]);
    sandbox.coracle(["create", "--name", "c", "busybox"]).refused(&["c"]);
    for bad in ["-x", "a b", "a/b", "../x", "ä", "."] {
        let output = sandbox.coracle(["create", "--name", bad, "busybox"]);
        assert_eq!(output.code(), 125, "{bad:?}: {output}");
    }
    assert_eq!(sandbox.ok(["ps", "-a", "--format", "{{.Names}}"]), "c");
}

#[test]
fn replace_takes_the_name_over() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let first = sandbox.start("c", &["guest", "sleep"]);
    let second = sandbox.ok(["run", "-d", "--network", "none", "--replace", "--name", "c", "guest", "sleep"]);
    assert_ne!(first, second);
    assert_eq!(sandbox.ok(["ps", "-a", "-q", "--no-trunc"]), second);
}

#[test]
fn an_unnamed_container_gets_a_readable_name() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["create", "busybox"]);
    sandbox.ok(["create", "busybox"]);
    let listed = sandbox.coracle(["ps", "-a", "--format", "{{.Names}}"]).ok();
    let names = listed.lines();
    assert!(names.len() == 2 && names[0] != names[1], "{names:?}");
    for name in names {
        assert!(name.contains('_') && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
    }
}

#[test]
fn rename_keeps_the_container_and_frees_the_old_name() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let id = sandbox.start("old", &["guest", "sleep"]);
    sandbox.coracle(["rename", "old", "new"]).ok();
    assert_eq!(sandbox.ok(["inspect", "--format", "{{.Id}} {{.Name}}", "new"]), format!("{id} /new"));
    sandbox.coracle(["inspect", "old"]).expect_code(1);
    sandbox.ok(["create", "--name", "old", "guest"]);
    sandbox.coracle(["rename", "old", "new"]).refused(&["new"]);
}

#[test]
fn ps_filters_and_formats() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("up", &["--label", "team=red", "guest", "sleep"]);
    sandbox.start("down", &["--label", "team=blue", "guest", "exit", "3"]);
    sandbox.ok(["wait", "down"]);
    let names = |filter: &str| sandbox.ok(["ps", "-a", "--format", "{{.Names}}", "--filter", filter]);
    assert_eq!(names("status=running"), "up");
    assert_eq!(names("status=exited"), "down");
    assert_eq!(names("exited=3"), "down");
    assert_eq!(names("exited=4"), "");
    assert_eq!(names("label=team=red"), "up");
    assert_eq!(names("name=^do"), "down");
    assert_eq!(names("ancestor=guest").lines().count(), 2);
    sandbox.coracle(["ps", "--filter", "colour=red"]).refused(&["colour"]);

    let row = sandbox.ok([
        "ps",
        "-a",
        "--filter",
        "name=down",
        "--format",
        "{{.Names}}|{{.Image}}|{{.Status}}|{{.Command}}",
    ]);
    let cells: Vec<&str> = row.split('|').collect();
    assert_eq!(cells[0], "down");
    assert!(cells[1].contains("guest"), "{row}");
    assert!(cells[2].starts_with("Exited (3)"), "{row}");
    assert!(cells[3].contains("exit 3"), "{row}");

    let json: serde_json::Value =
        serde_json::from_str(&sandbox.ok(["ps", "--format", "{{json .}}"])).expect("one document a line");
    assert_eq!(json["Names"], "up");
    assert_eq!(json["State"], "running");
    let table = sandbox.ok(["ps", "--format", "table {{.Names}}\t{{.State}}"]);
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words, [["NAMES", "STATE"], ["up", "running"]]);
    let wide = sandbox.ok(["ps"]);
    assert!(wide.starts_with("CONTAINER ID"), "{wide}");
    assert_eq!(sandbox.ok(["ps", "-n", "1", "-a", "--format", "{{.Names}}"]), "down", "the last created");
    sandbox.coracle(["ps", "--format", "{{.Nothing"]).fails(1, &["template: :1: unclosed action"]);
}

#[test]
fn inspect_is_docker_s_document() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let id = sandbox
        .start("c", &["-e", "A=1", "-w", "/tmp", "--label", "k=v", "--hostname", "box", "guest", "sleep"]);
    let document = sandbox.inspect("c");
    assert_eq!(document["Id"], id);
    assert_eq!(document["Name"], "/c");
    assert_eq!(document["State"]["Status"], "running");
    assert_eq!(document["State"]["Running"], true);
    assert!(document["State"]["Pid"].as_i64().is_some_and(|pid| pid > 1), "{}", document["State"]);
    assert_eq!(document["Config"]["Hostname"], "box");
    assert_eq!(document["Config"]["WorkingDir"], "/tmp");
    assert_eq!(document["Config"]["Labels"]["k"], "v");
    assert_eq!(document["Config"]["Cmd"], serde_json::json!(["sleep"]));
    assert_eq!(document["Config"]["Entrypoint"], serde_json::json!(["/bin/guest"]));
    assert!(document["Config"]["Env"].as_array().unwrap().contains(&"A=1".into()));
    assert_eq!(document["HostConfig"]["NetworkMode"], "none");
    assert_eq!(document["Path"], "/bin/guest");
    assert_eq!(document["Args"], serde_json::json!(["sleep"]));
    assert!(document["Image"].as_str().unwrap().starts_with("sha256:"));
    assert!(document["Created"].as_str().unwrap().ends_with('Z'));
    // Nothing of the name is an error, and what exists is still shown.
    let output = sandbox.coracle(["inspect", "c", "nobody"]);
    assert_eq!(output.code(), 1, "{output}");
    assert!(output.stderr.contains("nobody") && output.stdout.contains(&id), "{output}");
}

/// What scripts of docker's and podman's ask for.
#[test]
fn inspect_has_every_field_of_dockers_structs() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let show = |format: &str, name: &str| sandbox.ok(["inspect", "-f", format, name]);
    let work = sandbox.path("work").display().to_string();
    let (bind, mount) = (format!("{work}:/bind"), format!("type=bind,src={work},dst=/mount"));
    let words = ["-v", "/anonymous", "-v", "named:/named", "-v", &bind, "--mount", &mount];
    sandbox.start("c", &[&words[..], &["busybox", "sleep", "1000"]].concat());
    for (format, expected) in [
        ("{{range .Mounts}}{{.Type}} {{.Driver}};{{end}}", "volume local;volume local;bind ;bind ;"),
        ("{{range .Mounts}}{{if eq .Type \"bind\"}}<{{.Name}}>{{end}}{{end}}", "<><>"),
        ("{{.HostConfig.Binds}}", &format!("[named:/named {bind}]")),
        ("{{range .HostConfig.Mounts}}{{.Type}} {{.Target}}{{end}}", "bind /mount"),
        ("{{range $path, $_ := .Config.Volumes}}{{$path}}{{end}}", "/anonymous"),
        ("{{.Config.AttachStdin}} {{.Config.AttachStdout}} {{.Config.AttachStderr}}", "false false false"),
        ("{{.SizeRw}} {{.SizeRootFs}}", "<nil> <nil>"),
        ("{{index .HostConfig.ReadonlyPaths 0}} {{len .HostConfig.ConsoleSize}}", "/proc/bus 2"),
        ("{{.HostConfig.Isolation}}{{.HostConfig.VolumeDriver}}{{.HostConfig.Cgroup}}{{.Namespace}}", ""),
        ("{{index .EffectiveCaps 0}} {{len .Dependencies}}", "CAP_CHOWN 0"),
    ] {
        assert_eq!(show(format, "c"), expected.trim_end(), "{format}");
    }
    for field in ["Runtime", "Links", "MaskedPaths", "OomKillDisable", "MemorySwappiness", "StorageOpt"] {
        show(&format!("{{{{.HostConfig.{field}}}}}"), "c");
    }
    show("{{.Rootfs}}{{.StaticDir}}{{.OCIConfigPath}}{{.State.CgroupPath}}{{.State.ConmonPidFile}}", "c");
    assert!(sandbox.inspect("c").get("SizeRw").is_none());
    sandbox.ok(["create", "--name", "joined", "--pid", "container:c", "--user", "1000", "busybox"]);
    let id = show("{{.Id}}", "c");
    assert_eq!(show("{{.Dependencies}} {{.EffectiveCaps}}", "joined"), format!("[{id}] []"));
    let image = "{{.DockerVersion}}{{.OsVersion}}{{.User}} {{len .NamesHistory}} {{len .Annotations}} {{.HealthCheck}}";
    assert_eq!(show(image, "busybox"), "1 0 <nil>");
}

#[test]
fn a_template_that_fails_for_one_object_is_printed_for_the_others() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["create", "--name", "without", "busybox"]);
    sandbox.ok(["create", "--name", "with", "-v", "v:/v", "busybox"]);
    let format = "{{(index .Mounts 0).Name}}";
    let output = sandbox.coracle(["inspect", "-f", format, "without", "with"]);
    assert_eq!((output.code(), output.text()), (1, "v"), "{output}");
    assert!(output.stderr.contains("index out of range"), "{output}");
    let output = sandbox.coracle(["volume", "inspect", "-f", "{{.Name}}{{index .Labels 0}}", "v"]);
    assert_eq!(output.code(), 1, "{output}");
}

#[test]
fn a_bind_mount_without_its_source_leaves_no_container() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let mount = ["--mount", "type=bind,src=/no/such,dst=/x", "--name", "c", "busybox", "true"];
    for verb in ["create", "run"] {
        sandbox.coracle([&[verb][..], &mount].concat()).fails(125, &["/no/such"]);
        assert_eq!(sandbox.ok(["ps", "-a", "-q"]), "", "{verb}");
    }
    sandbox.run(&["-v", "/no/such:/x:O", "busybox", "true"]).refused(&["/no/such"]);
    let made = sandbox.path("work/made");
    sandbox.run(&["-v", &format!("{}:/x", made.display()), "busybox", "true"]).ok();
    assert!(made.is_dir());
    assert_eq!(sandbox.ok(["volume", "create", "--name", "v"]), "v");
}

#[test]
fn cidfile_is_written_once() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let file = sandbox.path("work/cid");
    let path = file.to_str().unwrap();
    let id = sandbox.ok(["create", "--cidfile", path, "busybox"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), id);
    assert_eq!(sandbox.ok(["inspect", "-f", "{{.HostConfig.ContainerIDFile}}", &id]), path);
    sandbox.coracle(["create", "--cidfile", path, "busybox"]).refused(&["cid"]);
    assert_eq!(sandbox.ok(["ps", "-a", "-q", "--no-trunc"]), id, "the second was not made");
}

#[test]
fn what_a_container_wrote_is_there_when_it_starts_again() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let script = "test -e /mark && echo again; touch /mark";
    sandbox.ok(["create", "--network", "none", "--name", "c", "busybox", "sh", "-c", script]);
    assert_eq!(sandbox.ok(["start", "-a", "c"]), "");
    assert_eq!(sandbox.ok(["start", "-a", "c"]), "again");
    assert_eq!(sandbox.run(&["busybox", "ls", "/mark"]).code(), 1, "another container has its own");
}

#[test]
fn a_container_outlives_its_front_process() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let front = sandbox.spawn(["run", "--network", "none", "--name", "c", "guest", "sleep"]);
    sandbox.wait_for_log("c", "ready");
    front.signal(rustix::process::Signal::KILL);
    drop(front);
    assert_eq!(sandbox.status("c"), "running");
    sandbox.ok(["stop", "-t", "0", "c"]);
}

#[test]
fn signals_to_the_front_process_reach_the_container() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let mut front = sandbox.spawn(["run", "--rm", "--network", "none", "guest", "trap", "15", "6"]);
    front.wait_for("ready");
    front.signal(rustix::process::Signal::TERM);
    let output = front.wait().expect_code(6);
    assert!(output.stdout.contains("signal 15"), "{output}");
}

#[test]
fn on_failure_restarts_so_often_and_no_more() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let words = ["--restart", "on-failure:2", "busybox", "sh", "-c", "echo run; exit 4"];
    sandbox.start("c", &words);
    assert_eq!(sandbox.ok(["wait", "--condition", "exited", "c"]), "4");
    assert_eq!(sandbox.ok(["logs", "c"]).lines().count(), 3, "the first run and two more");
    assert_eq!(sandbox.inspect("c")["RestartCount"], 2);
    sandbox.start("fine", &["--restart", "on-failure", "busybox", "sh", "-c", "echo run"]);
    assert_eq!(sandbox.ok(["wait", "fine"]), "0");
    assert_eq!(sandbox.ok(["logs", "fine"]).lines().count(), 1);
}

#[test]
fn wait_returns_where_nothing_runs_and_at_the_end_of_each_run() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["create", "--name", "new", "busybox", "true"]);
    assert_eq!(sandbox.ok(["wait", "new"]), "0");
    assert_eq!(sandbox.ok(["wait", "--condition", "not-running", "new"]), "0");

    // It runs until it is told to end; the next run takes its time too.
    let script = "trap 'exit 3' USR1; echo ready; while :; do sleep 0.1; done";
    sandbox.start("c", &["--restart", "always", "busybox", "sh", "-c", script]);
    for (run, words) in [&["wait"][..], &["wait", "--condition", "next-exit"], &["wait", "--return-first"]]
        .into_iter()
        .enumerate()
    {
        until("the run", || (sandbox.ok(["logs", "c"]).lines().count() > run).then_some(()));
        let mut waiter = sandbox.spawn([words, &["-i", "10ms", "c"]].concat());
        // Until it has asked, there is nothing that it could miss.
        until("its end", || {
            sandbox.coracle(["kill", "-s", "USR1", "c"]);
            waiter.has_ended().then_some(())
        });
        assert_eq!(waiter.wait().ok().text(), "3", "{words:?}");
    }
    assert_ne!(sandbox.status("c"), "exited", "the policy still holds");
    sandbox.ok(["rm", "-f", "-t", "0", "c"]);
}

#[test]
fn always_restarts_until_it_is_stopped() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.start("c", &["--restart", "always", "busybox", "sh", "-c", "echo run"]);
    until("a third run", || (sandbox.ok(["logs", "c"]).lines().count() >= 3).then_some(()));
    sandbox.ok(["stop", "-t", "0", "c"]);
    let runs = sandbox.ok(["logs", "c"]).lines().count();
    assert_eq!(sandbox.status("c"), "exited");
    assert!(sandbox.monitors().is_empty(), "a monitor still waits");
    assert_eq!(sandbox.ok(["logs", "c"]).lines().count(), runs);
}

#[test]
fn timeout_ends_the_container() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.run(&["--timeout", "1", "guest", "sleep"]).expect_code(255);
}

#[test]
fn init_reaps_and_forwards() {
    let Some(sandbox) = sandbox(&[Image("guest"), Image("busybox")]) else { return };
    let output = sandbox.run(&["--init", "busybox", "sh", "-c", "echo $$; exit 5"]).expect_code(5);
    assert_ne!(output.text(), "1", "the command is not pid 1");
    sandbox.start("c", &["--init", "guest", "orphan"]);
    sandbox.wait_for_log("c", "ready");
    let init = sandbox.init_pid("c");
    until("the orphan to be reaped", || {
        let children = std::fs::read_to_string(format!("/proc/{init}/task/{init}/children")).unwrap();
        (children.split_whitespace().count() == 1).then_some(())
    });
    // A command without a handler ends on SIGTERM, because it is not pid 1.
    sandbox.ok(["stop", "-t", "60", "c"]);
    assert_eq!(sandbox.inspect("c")["State"]["ExitCode"], 143);
}

#[test]
fn process_ids_are_in_files_while_it_runs() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let (init, monitor) = (sandbox.path("work/init.pid"), sandbox.path("work/monitor.pid"));
    let words = ["--pidfile", init.to_str().unwrap(), "--conmon-pidfile", monitor.to_str().unwrap()];
    sandbox.start("c", &[&words[..], &["guest", "sleep"]].concat());
    for again in [false, true] {
        if again {
            sandbox.ok(["restart", "-t", "0", "c"]);
        }
        assert_eq!(std::fs::read_to_string(&init).unwrap(), sandbox.init_pid("c").to_string());
        let its_monitor = sandbox.inspect("c")["State"]["MonitorPid"].to_string();
        assert_eq!(std::fs::read_to_string(&monitor).unwrap(), its_monitor);
    }
    sandbox.ok(["stop", "-t", "0", "c"]);
    until("the files to go", || (!init.exists() && !monitor.exists()).then_some(()));
    sandbox.run(&["--pidfile", "/no/such/place", "guest", "exit", "0"]).fails(125, &["/no/such/place"]);
}

#[test]
fn the_image_goes_with_its_container_where_that_is_asked() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let run = |words: &[&str]| sandbox.coracle([&["run", "--network", "none"], words].concat());
    run(&["-d", "--rmi", "guest", "exit", "0"]).fails(125, &["--rmi", "-d"]);
    run(&["--rmi", "--rm=false", "guest", "exit", "0"])
        .fails(125, &["--rmi option does not work without --rm"]);
    sandbox.ok(["create", "--name", "other", "guest", "exit", "0"]);
    let output = run(&["--rmi", "guest", "exit", "3"]).expect_code(3);
    assert!(output.stderr.contains("the image is kept"), "{output}");
    sandbox.ok(["rm", "other"]);
    let output = run(&["--rmi", "guest", "exit", "4"]).expect_code(4);
    assert_eq!(output.stderr, "");
    assert_eq!((sandbox.ok(["images", "-q"]), sandbox.ok(["ps", "-aq"])), (String::new(), String::new()));
}

#[test]
fn the_words_of_pull_are_those_of_run_too() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let run = |words: &[&str]| {
        sandbox.coracle(
            [&["run", "--network", "none", "--pull", "never"], words, &["guest", "exit", "0"]].concat(),
        )
    };
    let arch = sandbox.ok(["image", "inspect", "-f", "{{.Architecture}}", "guest"]);
    run(&["--arch", &arch, "--os", "linux"]).expect_code(0);
    run(&["--arch", "s390x"]).fails(125, &["no such image"]);
    run(&["--arch", &arch, "--platform", "linux/amd64"]).fails(125, &["--platform"]);
    run(&["--authfile", "/no/such/file"]).fails(125, &["--authfile /no/such/file: no such file"]);
    sandbox.coracle(["pull", "--authfile", "/no/such/file", "x"]).fails(125, &["no such file"]);
}

/// With --rm a container goes when it ends; restart is no end.
#[test]
fn restart_keeps_a_container_that_removes_itself() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let words =
        ["run", "-d", "--rm", "--network", "none", "--name", "c", "-v", "/v", "busybox", "sleep", "1000"];
    sandbox.ok(words);
    sandbox.ok(["exec", "c", "sh", "-c", "echo x >/mine; echo y >/v/mine"]);
    let first = sandbox.init_pid("c");
    sandbox.ok(["restart", "-t", "0", "c"]);
    assert_ne!(sandbox.init_pid("c"), first);
    assert_eq!(sandbox.ok(["exec", "c", "cat", "/mine", "/v/mine"]), "x\ny");
    sandbox.ok(["stop", "-t", "0", "c"]);
    assert_eq!(sandbox.ok(["ps", "-aq"]) + &sandbox.ok(["volume", "ls", "-q"]), "");
}

#[test]
fn a_stop_that_another_command_ends_is_no_stop_that_failed() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let script = "trap 'echo told' TERM; echo ready; while :; do sleep 0.1; done";
    sandbox.start("c", &["busybox", "sh", "-c", script]);
    sandbox.wait_for_log("c", "ready");
    let stop = sandbox.spawn(["stop", "-t", "600", "c"]);
    sandbox.wait_for_log("c", "told");
    sandbox.ok(["kill", "c"]);
    let output = stop.wait().ok();
    assert!(!output.stderr.contains("SIGKILL"), "{output}");
}

#[test]
fn a_monitor_that_was_stopped_keeps_nobody_from_ending_its_container() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    for words in [&["stop", "-t", "0", "c"][..], &["kill", "c"], &["rm", "-f", "c"]] {
        if words[0] == "stop" {
            sandbox.start("c", &["busybox", "sleep", "100000"]);
        } else {
            sandbox.ok(["start", "c"]);
        }
        let monitor = Pid::from_raw(sandbox.monitors()[0]).unwrap();
        rustix::process::kill_process(monitor, Signal::STOP).unwrap();
        // It stops when it is its turn, not when it is told.
        let stat = format!("/proc/{}/stat", monitor.as_raw_nonzero());
        until("it to stop", || std::fs::read_to_string(&stat).unwrap().contains(") T ").then_some(()));
        sandbox.ok(words);
    }
    assert_eq!(sandbox.ok(["ps", "-aq"]), "");
}

/// Scripts write `--name "$NAME"`: docker takes an empty value for none.
#[test]
fn empty_values_of_flags_are_as_if_not_given() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let flags = "--name -w --platform --stop-signal --cidfile --pidfile --ip --ip6 --mac-address --runtime \
                 --isolation --volume-driver --hostname --user";
    let words: Vec<&str> = flags.split_ascii_whitespace().flat_map(|flag| [flag, ""]).collect();
    let output = sandbox.run(&[&words[..], &["busybox", "pwd"]].concat()).ok();
    assert_eq!(output.text(), "/");
    sandbox.run(&["--runtime", "runc", "busybox", "pwd"]).refused(&["--runtime"]);
}

#[test]
fn several_containers_are_told_to_end_at_the_same_time() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    // Each ends only once the others have been told, too.
    let shared = sandbox.folder("shared");
    let volume = format!("{}:/s", shared.display());
    let script = "trap 'touch /s/$0; while [ $(ls /s | wc -l) -lt 3 ]; do sleep 0.05; done; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    let start = |name: &str| {
        sandbox.start(name, &["-v", &volume, "busybox", "sh", "-c", script, name]);
        sandbox.wait_for_log(name, "ready");
    };
    for words in [
        &["stop", "-t", "50", "a", "b", "c"][..],
        &["restart", "-t", "50", "a", "b", "c"],
        &["rm", "-f", "-t", "50", "a", "b", "c"],
    ] {
        if words[0] == "restart" {
            sandbox.ok(["start", "a", "b", "c"]);
            for name in ["a", "b", "c"] {
                sandbox.wait_for_log(name, "ready");
            }
        } else if words[0] == "stop" {
            ["a", "b", "c"].into_iter().for_each(start);
        } else {
            for name in ["a", "b", "c"] {
                sandbox.wait_for_status(name, "running");
                crate::harness::until("the trap", || {
                    (sandbox.ok(["logs", name]).matches("ready").count() == 3).then_some(())
                });
            }
        }
        for entry in std::fs::read_dir(&shared).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        let output = sandbox.coracle(words).ok();
        assert_eq!(output.lines(), ["a", "b", "c"]);
        assert!(!output.stderr.contains("SIGKILL"), "{output}");
    }
    assert_eq!(sandbox.ok(["ps", "-aq"]), "");
}
