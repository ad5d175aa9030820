//! Health checks: real ones, by the monitor and by hand.

use crate::harness::image::ImageBuilder;
use crate::harness::{Image, Sandbox, sandbox, until};
use serde_json::json;

fn health(sandbox: &Sandbox, name: &str) -> String {
    sandbox.inspect(name)["State"]["Health"]["Status"].as_str().unwrap_or("none").to_owned()
}

fn wait_for_health(sandbox: &Sandbox, name: &str, status: &str) {
    until(&format!("{name} to be {status}"), || (health(sandbox, name) == status).then_some(()));
}

fn told(sandbox: &Sandbox, filter: &str) -> Vec<String> {
    let output =
        sandbox.coracle(["events", "--until", "0s", "--format", "{{.Status}}", "--filter", filter]).ok();
    output.lines().iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn a_check_follows_the_container() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let words =
        ["--health-cmd", "echo looked; test -f /ok", "--health-interval", "200ms", "--health-retries", "2"];
    sandbox.start("c", &[&words[..], &["busybox", "sleep", "1000"]].concat());
    assert!(sandbox.ok(["ps", "--format", "{{.Status}}"]).contains("health"), "shown in ps");
    wait_for_health(&sandbox, "c", "unhealthy");
    assert!(sandbox.ok(["ps", "--format", "{{.Status}}"]).ends_with("(unhealthy)"));
    assert_eq!(sandbox.ok(["ps", "--filter", "health=unhealthy", "--format", "{{.Names}}"]), "c");
    assert_eq!(sandbox.ok(["ps", "-q", "--filter", "health=healthy"]), "");
    let state = sandbox.inspect("c")["State"]["Health"].clone();
    assert!(state["FailingStreak"].as_u64().unwrap() >= 2, "{state}");
    assert_eq!(
        (&state["Log"][0]["Output"], &state["Log"][0]["ExitCode"]),
        (&json!("looked\n"), &json!(1)),
        "{state}"
    );
    sandbox.coracle(["healthcheck", "run", "c"]).expect_code(1);
    sandbox.ok(["exec", "c", "touch", "/ok"]);
    assert_eq!(sandbox.ok(["wait", "--condition", "healthy", "c"]), "-1");
    assert!(sandbox.ok(["ps", "--format", "{{.Status}}"]).ends_with("(healthy)"));
    assert_eq!(sandbox.inspect("c")["State"]["Health"]["FailingStreak"], 0);
    sandbox.coracle(["healthcheck", "run", "c"]).ok();
    assert_eq!(told(&sandbox, "event=health_status"), ["health_status: unhealthy", "health_status: healthy"]);
    assert!(sandbox.inspect("c")["State"]["Health"]["Log"].as_array().unwrap().len() <= 5);
    let config = sandbox.inspect("c")["Config"]["Healthcheck"].clone();
    assert_eq!(config["Test"], json!(["CMD-SHELL", "echo looked; test -f /ok"]));
    assert_eq!(config["Interval"], 200_000_000);
}

#[test]
fn what_a_check_says_on_both_its_outputs_is_kept_in_order() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let says = "for n in 1 2 3 4 5 6 7 8; do echo out $n; echo err $n >&2; done";
    let words = ["--health-cmd", says, "--health-interval", "1h", "busybox", "sleep", "1000"];
    sandbox.start("c", &words);
    sandbox.ok(["healthcheck", "run", "c"]);
    let log = sandbox.inspect("c")["State"]["Health"]["Log"].clone();
    let said = log.as_array().unwrap().last().unwrap()["Output"].as_str().unwrap().to_owned();
    let expected: String = (1..=8).map(|n| format!("out {n}\nerr {n}\n")).collect();
    assert_eq!(said, expected);
}

#[test]
fn the_start_period_spares_a_slow_start() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let words = ["--health-cmd", "false", "--health-interval", "50ms", "--health-start-interval", "50ms"];
    let words =
        [&words[..], &["--health-retries", "1", "--health-start-period", "1h", "busybox", "sleep", "1000"]];
    sandbox.start("c", &words.concat());
    until("three results", || {
        (sandbox.inspect("c")["State"]["Health"]["Log"].as_array()?.len() >= 3).then_some(())
    });
    let state = sandbox.inspect("c")["State"]["Health"].clone();
    assert_eq!((&state["Status"], &state["FailingStreak"]), (&json!("starting"), &json!(0)));
    assert!(sandbox.ok(["ps", "--format", "{{.Status}}"]).ends_with("(health: starting)"));
    assert_eq!(sandbox.coracle(["healthcheck", "run", "c"]).expect_code(1).text(), "starting");
    sandbox.coracle(["healthcheck", "run", "--ignore-result", "c"]).ok();
}

#[test]
fn a_check_that_takes_too_long_is_killed_with_its_children() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let words = ["--health-cmd", "sleep 7777 & sleep 7777; true", "--health-interval", "100ms"];
    let words =
        [&words[..], &["--health-timeout", "300ms", "--health-retries", "1", "busybox", "sleep", "1000"]];
    sandbox.start("c", &words.concat());
    wait_for_health(&sandbox, "c", "unhealthy");
    let result = sandbox.inspect("c")["State"]["Health"]["Log"][0].clone();
    assert_eq!(result["ExitCode"], -1);
    assert!(
        result["Output"].as_str().unwrap().starts_with("Health check exceeded timeout (300ms)"),
        "{result}"
    );
    // Of one check at most: those before have left nothing.
    until("three results", || {
        (sandbox.inspect("c")["State"]["Health"]["Log"].as_array()?.len() >= 3).then_some(())
    });
    let processes = sandbox.ok(["exec", "c", "ps"]);
    // The shell names it twice, and has two children.
    assert!(processes.matches("sleep 7777").count() <= 4, "{processes}");
    sandbox.ok(["stop", "-t", "0", "c"]);
    assert_eq!(health(&sandbox, "c"), "unhealthy", "docker's word for what does not run");
}

#[test]
fn an_unhealthy_container_is_killed_stopped_or_restarted() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let words = ["--health-cmd", "test -f /ok", "--health-interval", "100ms", "--health-retries", "1"];
    let start = |name: &str, action: &str| {
        let action = ["--stop-timeout", "0", "--health-on-failure", action, "busybox", "sleep", "1000"];
        sandbox.start(name, &[&words[..], &action].concat());
    };
    let without = ["create", "--network", "none", "--health-on-failure", "kill", "busybox"];
    sandbox.coracle(without).refused(&["cannot set on-failure action to kill without a health check"]);
    start("killed", "kill");
    start("stopped", "stop");
    assert_eq!(sandbox.ok(["wait", "killed", "stopped"]).lines().collect::<Vec<_>>(), ["137", "137"]);
    start("again", "restart");
    let first = sandbox.ok(["inspect", "-f", "{{.State.MonitorPid}}", "again"]);
    until("a restart", || (sandbox.inspect("again")["RestartCount"].as_u64()? >= 1).then_some(()));
    assert_eq!(sandbox.ok(["inspect", "-f", "{{.State.MonitorPid}}", "again"]), first, "by the same monitor");
    sandbox.ok(["rm", "-f", "again"]);
}

#[test]
fn an_image_s_check_is_taken_changed_or_refused() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    let check = json!({"Test": ["CMD", "true"], "Interval": 100_000_000, "Retries": 7});
    let archive = ImageBuilder::with_programs().config("Healthcheck", check).archive("checked");
    sandbox.load(&sandbox.file("checked.tar", archive));
    sandbox.start("own", &["checked", "sleep", "1000"]);
    assert_eq!(sandbox.ok(["wait", "--condition=healthy", "--condition=exited", "own"]), "-1");
    assert_eq!(sandbox.inspect("own")["Config"]["Healthcheck"]["Retries"], 7);
    sandbox.start("other", &["--health-cmd", "false", "--health-retries", "1", "checked", "sleep", "1000"]);
    sandbox.ok(["wait", "--condition", "unhealthy", "other"]);
    assert_eq!(sandbox.inspect("other")["Config"]["Healthcheck"]["Interval"], 100_000_000);
    sandbox.start("none", &["--no-healthcheck", "checked", "sleep", "1000"]);
    assert_eq!(health(&sandbox, "none"), "none");
    sandbox.coracle(["healthcheck", "run", "none"]).fails(125, &["has no defined healthcheck"]);
    sandbox.ok(["stop", "-t", "0", "own"]);
    sandbox.coracle(["healthcheck", "run", "own"]).fails(125, &["is not running"]);
    sandbox.coracle(["healthcheck", "run", "nobody"]).fails(125, &["nobody"]);
    sandbox
        .run(&["--no-healthcheck", "--health-cmd", "x", "checked", "true"])
        .fails(125, &["--no-healthcheck conflicts"]);
}

#[test]
fn a_startup_check_comes_first() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let words = ["--health-cmd", "touch /proper", "--health-interval", "100ms"];
    let startup = ["--health-startup-cmd", "test -f /up", "--health-startup-interval", "100ms"];
    sandbox.start("c", &[&words[..], &startup, &["busybox", "sleep", "1000"]].concat());
    until("two results", || {
        (sandbox.inspect("c")["State"]["Health"]["Log"].as_array()?.len() >= 2).then_some(())
    });
    assert_eq!(health(&sandbox, "c"), "starting");
    sandbox.coracle(["exec", "c", "test", "-e", "/proper"]).expect_code(1);
    sandbox.ok(["exec", "c", "touch", "/up"]);
    sandbox.ok(["wait", "--condition", "healthy", "c"]);
    sandbox.ok(["exec", "c", "test", "-e", "/proper"]);
}

#[test]
fn many_checks_leave_the_monitor_as_it_was() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let words = ["--health-cmd", "true", "--health-interval", "5ms", "busybox", "sleep", "1000"];
    sandbox.start("c", &words);
    let monitor = sandbox.monitors()[0];
    let checks = || told(&sandbox, "event=exec_die").len();
    let usage = || {
        let status = std::fs::read_to_string(format!("/proc/{monitor}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        let fds = std::fs::read_dir(format!("/proc/{monitor}/fd")).unwrap().count();
        (line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap(), fds)
    };
    until("the first checks", || (checks() >= 30).then_some(()));
    let (memory, fds) = usage();
    until("many checks", || (checks() >= 330).then_some(()));
    let (after, fds_after) = usage();
    assert!(after < memory + 256, "{memory} KiB became {after} KiB");
    assert!(fds_after <= fds + 12, "{fds} fds became {fds_after}");
}

#[test]
fn wait_takes_conditions() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("c", &["guest", "trap", "15", "5"]);
    assert_eq!(sandbox.ok(["wait", "--condition", "running", "c"]), "-1");
    sandbox.wait_for_log("c", "ready");
    let waiter = sandbox.spawn(["wait", "--condition=exited", "--interval", "10ms", "-l"]);
    sandbox.ok(["stop", "c"]);
    assert_eq!(waiter.wait().ok().text(), "5");
    assert_eq!(sandbox.ok(["wait", "--ignore", "nobody", "c"]).lines().collect::<Vec<_>>(), ["-1", "5"]);
    assert_eq!(sandbox.ok(["wait", "--exit-first-match", "--condition", "stopped", "c"]), "5");
    sandbox.coracle(["wait", "--condition", "bored", "c"]).fails(1, &["invalid condition"]);
    sandbox.coracle(["wait"]).fails(1, &["requires at least 1 argument"]);
    sandbox.start("d", &["--rm", "guest", "trap", "15", "6"]);
    sandbox.wait_for_log("d", "ready");
    let waiter = sandbox.spawn(["wait", "--condition=removed", "d"]);
    sandbox.ok(["stop", "d"]);
    waiter.wait();
}
