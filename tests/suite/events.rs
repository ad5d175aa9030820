//! What is told of a container's life, read back and followed.

use crate::harness::{Image, Sandbox, sandbox};
use serde_json::Value;

/// `events --since … --until now` with these words, a JSON object a line.
fn history(sandbox: &Sandbox, words: &[&str]) -> Vec<Value> {
    let output = sandbox
        .coracle([&["events", "--since", "1h", "--until", "0s", "--format", "json"], words].concat())
        .ok();
    output.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn actions(sandbox: &Sandbox, words: &[&str]) -> Vec<String> {
    history(sandbox, words).iter().map(|event| event["Action"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_life_is_told_in_dockers_words_and_order() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.run(&["--name", "c", "--label", "a=1", "guest", "exit", "3"]).expect_code(3);
    assert_eq!(
        actions(&sandbox, &["--filter", "container=c"]),
        ["create", "attach", "start", "die", "destroy"]
    );
    let died = &history(&sandbox, &["-f", "container=c", "-f", "event=die"])[0];
    let attributes = &died["Actor"]["Attributes"];
    assert_eq!(
        (&died["status"], &died["Type"], &died["scope"]),
        (&"die".into(), &"container".into(), &"local".into())
    );
    assert_eq!(attributes["exitCode"], "3", "{died}");
    assert_eq!((&attributes["name"], &attributes["a"]), (&"c".into(), &"1".into()), "{died}");
    assert!(died["from"].as_str().unwrap().contains("guest"), "{died}");
    assert_eq!(died["id"].as_str().unwrap().len(), 64);
    assert_eq!(died["timeNano"].as_i64().unwrap() / 1_000_000_000, died["time"].as_i64().unwrap());
    // Podman's words are understood.
    assert_eq!(
        actions(&sandbox, &["-f", "event=died", "-f", "event=remove", "-f", "type=container"]),
        ["die", "destroy"]
    );
    assert_eq!(actions(&sandbox, &["-f", "label=a=1", "-f", "event=start"]), ["start"]);
    assert_eq!(actions(&sandbox, &["-f", "label=a=2"]), [""; 0]);
}

#[test]
fn what_is_told_after_a_rename_has_the_new_name() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("c", &["guest", "sleep"]);
    sandbox.ok(["rename", "c", "d"]);
    sandbox.ok(["pause", "d"]);
    sandbox.ok(["unpause", "d"]);
    assert_eq!(actions(&sandbox, &["-f", "container=d", "-f", "event=pause"]), ["pause"]);
    let unpaused = &history(&sandbox, &["-f", "event=unpause"])[0]["Actor"]["Attributes"];
    assert_eq!(unpaused["name"], "d");
}

#[test]
fn stop_kill_restart_and_rename_are_told() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("c", &["guest", "trap", "15", "5"]);
    sandbox.wait_for_log("c", "ready");
    sandbox.ok(["stop", "c"]);
    sandbox.ok(["rename", "c", "/d"]);
    sandbox.ok(["start", "d"]);
    sandbox.ok(["kill", "d"]);
    sandbox.ok(["rm", "d"]);
    let id = history(&sandbox, &["-f", "event=create", "-f", "type=container"])[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let told = actions(&sandbox, &["-f", &format!("container={}", &id[..12])]);
    assert_eq!(
        told,
        ["create", "start", "kill", "die", "stop", "rename", "start", "kill", "die", "destroy"],
        "{told:?}"
    );
    let signals: Vec<Value> = history(&sandbox, &["-f", "event=kill"]);
    assert_eq!(signals[0]["Actor"]["Attributes"]["signal"], "15");
    assert_eq!(signals[1]["Actor"]["Attributes"]["signal"], "9");
    let renamed = &history(&sandbox, &["-f", "event=rename"])[0]["Actor"]["Attributes"];
    assert_eq!((&renamed["oldName"], &renamed["name"]), (&"/c".into(), &"d".into()));
}

#[test]
fn images_and_volumes_are_told() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.ok(["tag", "guest", "other:1"]);
    sandbox.ok(["rmi", "other:1"]);
    let told = actions(&sandbox, &["-f", "type=image"]);
    assert_eq!(told, ["load", "tag", "untag"], "{told:?}");
    sandbox.run(&["-v", "data:/d", "guest", "exit", "0"]).ok();
    sandbox.ok(["volume", "rm", "data"]);
    assert_eq!(actions(&sandbox, &["-f", "volume=data"]), ["create", "mount", "unmount", "destroy"]);
}

#[test]
fn a_follower_sees_events_as_they_come_and_a_template_shapes_them() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let mut follower = sandbox.spawn([
        "events",
        "--since",
        "1h",
        "--filter",
        "type=container",
        "--format",
        "{{.Status}}:{{.Name}}",
    ]);
    sandbox.start("c", &["guest", "trap", "15", "0"]);
    follower.wait_for("start:c\n");
    sandbox.wait_for_log("c", "ready");
    sandbox.ok(["stop", "c"]);
    follower.wait_for("stop:c\n");
    follower.signal(rustix::process::Signal::TERM);
    let output = follower.wait();
    assert_eq!(output.lines(), ["create:c", "start:c", "kill:c", "die:c", "stop:c"], "{output}");
}

#[test]
fn until_ends_the_stream_and_filters_are_checked() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    assert_eq!(sandbox.ok(["events", "--until", "0s"]).lines().count(), 1, "the load");
    assert_eq!(sandbox.ok(["events", "--stream=false", "--filter", "type=container"]), "");
    let soon = jiff_in_two_seconds();
    let mut follower = sandbox.spawn(["events", "--until", &soon]);
    sandbox.start("c", &["guest", "exit", "0"]);
    follower.wait_for("container start");
    follower.wait().ok();
    sandbox.coracle(["events", "--filter", "nope=1", "--until", "0s"]).fails(1, &["invalid filter 'nope'"]);
    sandbox.coracle(["events", "--since", "soonish"]).fails(1, &["--since"]);
    let line = sandbox.ok(["events", "--until", "0s", "--filter", "event=create", "--filter", "container=c"]);
    let (time, rest) = line.split_once(' ').unwrap();
    assert_eq!(time.find('.'), Some(19), "{line}");
    assert!(rest.starts_with("container create ") && rest.ends_with(", name=c)"), "{line}");
}

/// Seconds since the epoch, as `--until` takes them.
fn jiff_in_two_seconds() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    (now.as_secs() + 3).to_string()
}

#[test]
fn many_writers_at_once_leave_whole_lines() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let each = 12;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let sandbox = &sandbox;
            scope.spawn(move || {
                for number in 0..each {
                    sandbox.ok(["volume", "create", &format!("v{thread}-{number}")]);
                }
            });
        }
    });
    let text = std::fs::read_to_string(sandbox.state().join("events")).unwrap();
    for line in text.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    assert_eq!(actions(&sandbox, &["-f", "type=volume"]).len(), 4 * each);
}
