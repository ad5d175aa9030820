//! What a scope costs a start, and many containers of one user manager.

use super::{all_units_go, file, machine, scope_of, units};
use crate::harness::Sandbox;
use std::process::Command;
use std::time::{Duration, Instant};

/// So many starts take less than the harness waits for one of them.
const TOGETHER: usize = 10;
const ROUNDS: usize = 7;
/// What a scope may add to a start where the machine is no emulated one.
const LITTLE: f64 = 15.0;

/// Of each start under emulation a third to a half is the user manager's, for two
/// scopes, and most of the rest the execution of two programs: it cannot be had
/// cheaper without leaving out what it is to show.
#[test]
fn fifty_containers_run_at_once() {
    let count = 50;
    let Some(sandbox) = machine() else { return };
    let names: Vec<String> = (0..count).map(|number| format!("c{number}")).collect();
    let began = Instant::now();
    let start = |name: &String| {
        let words = ["run", "-d", "--network", "none", "--pids-limit", "10", "--name", name];
        sandbox.spawn([&words[..], &["busybox", "sleep", "1000"]].concat())
    };
    for some in names.chunks(TOGETHER) {
        let starts: Vec<_> = some.iter().map(start).collect();
        for start in starts {
            start.wait().ok();
        }
    }
    println!("{count} starts, {TOGETHER} at a time: {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(sandbox.ok(["ps", "-q"]).lines().count(), count);
    let scopes = units("coracle-*.scope");
    assert_eq!(scopes.lines().filter(|line| line.contains("active")).count(), 2 * count, "{scopes}");
    for name in [&names[0], &names[count - 1]] {
        assert_eq!(file(&scope_of(&sandbox, name), "pids.max"), "10");
    }
    let began = Instant::now();
    sandbox
        .ok([&["rm", "-f", "-t", "0"][..], &names.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    all_units_go();
    println!("their end: {:.1} s", began.elapsed().as_secs_f64());
}

/// Milliseconds.
fn took(action: impl FnOnce()) -> f64 {
    let began = Instant::now();
    action();
    began.elapsed().as_secs_f64() * 1000.0
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn run(sandbox: &Sandbox, words: &[&str]) -> f64 {
    let words = [words, &["busybox", "true"]].concat();
    took(|| drop(sandbox.run(&words).ok()))
}

fn systemd_run() -> f64 {
    took(|| {
        let words = ["--user", "--scope", "--quiet", "true"];
        assert!(Command::new("systemd-run").args(words).status().unwrap().success());
    })
}

#[test]
fn a_scope_costs_no_more_than_half_again_what_systemd_run_takes() {
    let Some(sandbox) = machine() else { return };
    let (mut without, mut with, mut peer) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(run(&sandbox, &["--cgroups=disabled"]));
        with.push(run(&sandbox, &[]));
        peer.push(systemd_run());
    }
    let (without, with, peer) = (median(without), median(with), median(peer));
    let added = with - without;
    println!("a start: {without:.0} ms, in a scope {with:.0} ms; systemd-run --user --scope: {peer:.0} ms");
    assert!(
        added <= LITTLE || added <= 1.5 * peer,
        "a scope adds {added:.0} ms, systemd-run takes {peer:.0} ms"
    );
}

/// Each waits for one answer of systemd's at most: nothing of it is a time-out.
#[test]
fn no_answer_of_the_user_manager_is_missed() {
    let Some(sandbox) = machine() else { return };
    let patience = Duration::from_secs(15);
    let began = Instant::now();
    let output = sandbox.run(&["busybox", "sh", "-c", "exit 137"]);
    assert_eq!(output.code(), 137, "{output}");
    assert!(began.elapsed() < patience, "an end that asks for the manager's state: {:?}", began.elapsed());
    let began = Instant::now();
    let output = sandbox.coracle(["doctor"]);
    assert!(output.stdout.contains("ok       user manager: systemd's manager of this user is "), "{output}");
    assert!(began.elapsed() < patience, "doctor: {:?}", began.elapsed());
}
