//! Which containers a command is for: by name, by flag, by file, by filter; and
//! docker's words for those it is not for.

use crate::harness::{Image, sandbox};

#[test]
fn all_means_those_for_which_it_makes_sense() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let one = sandbox.start("one", &["guest", "sleep"]);
    let two = sandbox.start("two", &["guest", "sleep"]);
    let made = sandbox.ok(["create", "--network", "none", "--name", "made", "guest", "sleep"]);
    assert_eq!(sandbox.ok(["stop", "-t", "0", "-a"]), format!("{two}\n{one}"));
    assert_eq!(sandbox.status("made"), "created");
    assert_eq!(sandbox.ok(["start", "--all"]), format!("{made}\n{two}\n{one}"));
    assert_eq!(sandbox.ok(["kill", "--all"]).lines().count(), 3);
    sandbox.ok(["wait", "one", "two", "made"]);
    assert_eq!(sandbox.ok(["restart", "--running"]), "");
    sandbox.ok(["start", "one"]);
    assert_eq!(sandbox.ok(["restart", "-t", "0", "--running"]), one);
    assert_eq!(sandbox.ok(["restart", "-t", "0", "-a"]).lines().count(), 3);
    // Without -f each that runs is refused, and with it all go.
    sandbox.ok(["stop", "-t", "0", "two"]);
    let output = sandbox.coracle(["rm", "--all"]).fails(1, &["\"one\"", "\"made\"", "container is running"]);
    assert_eq!(output.text(), two);
    assert_eq!(sandbox.ok(["rm", "-af"]).lines().count(), 2);
    assert_eq!(sandbox.ok(["rm", "-af"]), "");
    assert_eq!(sandbox.ok(["stop", "-a"]), "");
}

#[test]
fn the_latest_is_the_one_that_was_made_last() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.coracle(["stop", "-l"]).fails(1, &["there is no container"]);
    sandbox.ok(["create", "--network", "none", "--name", "old", "guest", "lines", "3"]);
    let new = sandbox.ok(["create", "--network", "none", "--name", "new", "guest", "lines", "2"]);
    assert_eq!(sandbox.ok(["start", "-l", "-a"]).lines().count(), 2);
    assert_eq!(sandbox.ok(["logs", "-l"]).lines().count(), 2);
    assert_eq!(sandbox.ok(["inspect", "-l", "-f", "{{.Name}}"]), "/new");
    assert_eq!(sandbox.ok(["ps", "-lq", "--no-trunc"]), new);
    assert_eq!(sandbox.ok(["port", "-l"]), "");
    assert_eq!(sandbox.ok(["rm", "-l"]), new);
    assert_eq!(sandbox.ok(["ps", "-a", "--format", "{{.Names}}"]), "old");
}

#[test]
fn files_and_filters_choose_too() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let file = sandbox.path("work").join("cid");
    let file = file.to_str().unwrap();
    let id =
        sandbox.ok(["create", "--cidfile", file, "--label", "a=1", "--network", "none", "guest", "sleep"]);
    sandbox.ok(["create", "--name", "other", "--network", "none", "guest", "sleep"]);
    sandbox.ok(["start", id.as_str()]);
    assert_eq!(sandbox.ok(["kill", "--cidfile", file]), id);
    assert_eq!(sandbox.ok(["start", "--filter", "label=a"]), id);
    assert_eq!(sandbox.ok(["stop", "-t0", "--filter", "name=.*", "--filter", "label=a=1"]), id);
    assert_eq!(sandbox.ok(["stop", "-t0", "--cidfile", file]), id);
    assert_eq!(sandbox.ok(["rm", "--filter", "label=a=2"]), "");
    assert_eq!(sandbox.ok(["rm", "--cidfile", file]), id);
    sandbox.coracle(["rm", "--cidfile", file]).fails(1, &["no such container"]);
    assert_eq!(sandbox.ok(["rm", "-i", "--cidfile", file]), "");
    sandbox.coracle(["rm", "--cidfile", "/nowhere"]).fails(1, &["/nowhere"]);
    assert_eq!(sandbox.ok(["rm", "-i", "--cidfile", "/nowhere"]), "");
    assert_eq!(sandbox.ok(["stop", "--ignore", "nobody", "other"]), "other");
}

#[test]
fn flags_that_contradict_each_other_are_refused() {
    let Some(sandbox) = sandbox(&[]) else { return };
    for verb in ["start", "stop", "restart", "kill", "rm", "logs"] {
        sandbox.coracle([verb]).fails(1, &["requires at least 1 argument"]);
        sandbox.coracle([verb, "-l", "x"]).fails(125, &["--latest"]);
    }
    for verb in ["stop", "restart", "kill", "rm"] {
        sandbox.coracle([verb, "-a", "x"]).fails(125, &["--all"]);
        sandbox.coracle([verb, "-a", "-l"]).fails(125, &["--all and --latest"]);
    }
    sandbox.coracle(["rm", "--depend", "x"]).refused(&["--depend"]);
    sandbox.coracle(["ps", "--sort", "age"]).refused(&["age"]);
    sandbox.coracle(["stop", "-f", "wat=1"]).refused(&["invalid filter 'wat'"]);
}

#[test]
fn wrong_states_and_names_are_told_in_dockers_words() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let id = sandbox.start("c", &["guest", "sleep"]);
    sandbox.coracle(["rm", "c"]).fails(
        1,
        &["cannot remove container \"c\": container is running: stop the container before removing"],
    );
    sandbox.coracle(["kill", "-s", "NOPE", "c"]).fails(1, &["invalid signal: NOPE"]);
    sandbox
        .coracle(["rename", "c", "c"])
        .fails(1, &["renaming a container with the same name as its current name"]);
    sandbox.ok(["create", "--name", "d", "guest", "sleep"]);
    sandbox.coracle(["rename", "c", "d"]).fails(1, &["\"d\" is already in use by container"]);
    sandbox.coracle(["rename", "c", "no/name"]).fails(1, &["invalid container name"]);
    sandbox.ok(["kill", "c"]);
    sandbox.ok(["wait", "c"]);
    sandbox
        .coracle(["kill", "c"])
        .fails(1, &[&format!("cannot kill container: c: container {id} is not running")]);
    sandbox.coracle(["start", "nobody"]).fails(1, &["no such container: nobody"]);
    // One that fails does not keep the others from their turn.
    let output = sandbox.coracle(["rm", "nobody", "c", "d"]).fails(1, &["no such container: nobody"]);
    assert_eq!(output.text(), "c\nd");
}

#[test]
fn what_is_not_published_is_told() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.ok(["create", "--name", "c", "--expose", "80", "--network", "host", "guest", "sleep"]);
    assert_eq!(sandbox.ok(["port", "c"]), "");
    assert_eq!(sandbox.ok(["port", "--all"]), "");
    sandbox.coracle(["port", "c", "80"]).fails(1, &["no public port '80/tcp' published for c"]);
    sandbox.coracle(["port", "c", "x"]).fails(125, &["invalid port"]);
    sandbox.coracle(["port", "nobody"]).fails(1, &["no such container: nobody"]);
    assert_eq!(sandbox.ok(["ps", "-a", "--filter", "expose=80", "--format", "{{.Names}}"]), "c");
    assert_eq!(sandbox.ok(["ps", "-aq", "--filter", "publish=80"]), "");
}

#[test]
fn lists_are_shown_as_asked_for() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("b", &["guest", "sleep"]);
    sandbox.ok(["create", "--name", "a", "--restart", "always", "guest", "sleep"]);
    let names = |words: &[&str]| sandbox.ok([&["ps", "-a", "--format", "{{.Names}}"], words].concat());
    assert_eq!(names(&[]), "a\nb");
    assert_eq!(names(&["--sort", "names"]), "a\nb");
    assert_eq!(names(&["--sort", "status"]), "a\nb");
    assert_eq!(names(&["--filter", "name=^(b|c)$"]), "b");
    assert_eq!(names(&["--filter", "restart-policy=always"]), "a");
    assert_eq!(sandbox.ok(["ps", "-a", "--noheading"]).lines().count(), 2);
    let pid = sandbox.init_pid("b");
    assert_eq!(sandbox.ok(["ps", "--format", "{{.Pid}}"]), pid.to_string());
    let net = std::fs::read_link(format!("/proc/{pid}/ns/net")).map(|link| link.display().to_string());
    let shown = sandbox.ok(["ps", "--ns"]);
    assert!(
        net.is_err() || shown.contains(net.unwrap().trim_start_matches("net:[").trim_end_matches(']')),
        "{shown}"
    );
    let mut watch = sandbox.spawn(["ps", "--watch", "1"]);
    watch.wait_for("b");
    watch.signal(rustix::process::Signal::TERM);
    watch.wait();
    assert_eq!(sandbox.ok(["images", "--noheading"]).lines().count(), 1);
    assert_eq!(sandbox.ok(["images", "-q", "--filter", "containers=false"]), "");
    sandbox.coracle(["images", "--filter", "wat=1"]).fails(1, &["invalid filter 'wat'"]);
}

#[test]
fn logs_of_several_containers_are_told_apart() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    for name in ["one", "two"] {
        sandbox.ok(["run", "--network", "none", "--name", name, "busybox", "echo", name]);
    }
    let id = sandbox.ok(["inspect", "-f", "{{.Id}}", "one"]);
    let text = sandbox.ok(["logs", "one", "two"]);
    assert!(text.starts_with(&format!("{} one\n", &id[..12])), "{text}");
    assert_eq!(sandbox.ok(["logs", "--names", "one", "two"]), "one one\ntwo two");
    assert_eq!(sandbox.ok(["logs", "--names", "--color", "two"]), "\u{1b}[31mtwo two\u{1b}[0m");
    let mut lines: Vec<String> =
        sandbox.ok(["logs", "-f", "--names", "one", "two"]).lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["one one", "two two"]);
}
