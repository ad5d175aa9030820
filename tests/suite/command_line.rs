//! The command line as a whole: flags before the command, templates, help.

use crate::harness::{Image, needs, sandbox};

#[test]
fn a_terminal_needs_a_terminal() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.run(&["-it", "busybox", "true"]).fails(1, &["the input device is not a TTY"]);
    // Without -i, or in the background, nothing of stdin is asked for.
    sandbox.run(&["-t", "busybox", "true"]).ok();
    sandbox.start("c", &["-it", "busybox", "sh"]);
    sandbox.coracle(["exec", "-it", "c", "true"]).fails(1, &["the input device is not a TTY"]);
    assert_eq!(sandbox.ok(["ps", "-a", "-q"]).lines().count(), 1, "a refused run left a container");
}

#[test]
fn root_and_runroot_are_places_of_their_own() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let (root, runroot) = (sandbox.folder("root"), sandbox.folder("runroot"));
    let there = ["--root", root.to_str().unwrap(), "--runroot", runroot.to_str().unwrap()];
    let there = |words: &[&str]| sandbox.coracle([&there, words].concat());
    assert_eq!(there(&["images", "-q"]).ok().text(), "");
    there(&["load", "-i", needs::archive("busybox").unwrap().to_str().unwrap()]).ok();
    assert!(root.join("images/index.json").exists());
    assert_eq!(there(&["run", "--rm", "--network", "none", "busybox", "echo", "hi"]).ok().text(), "hi");
    there(&["run", "-d", "--network", "none", "--name", "only-there", "busybox", "sleep", "100"]).ok();
    assert_eq!(there(&["ps", "--format", "{{.Names}}"]).ok().text(), "only-there");
    assert_eq!(sandbox.ok(["ps", "-aq"]), "");
    there(&["rm", "-f", "-t", "0", "only-there"]).ok();
}

#[test]
fn global_flags_are_honoured_or_refused_with_the_reason() {
    let Some(sandbox) = sandbox(&[]) else { return };
    sandbox.coracle(["-H", "tcp://127.0.0.1:2375", "ps"]).refused(&["--host", "no daemon"]);
    sandbox.coracle(["--storage-driver", "vfs", "ps"]).refused(&["--storage-driver", "overlay"]);
    for words in
        [["--context", "default", "ps"], ["-D", "--log-level=debug", "ps"], ["--remote=false", "-D", "ps"]]
    {
        sandbox.coracle(words).ok();
    }
    assert_eq!(sandbox.ok(["--noout", "version"]), "");
    let file = sandbox.path("work/out");
    assert_eq!(sandbox.ok(["--out", file.to_str().unwrap(), "--version"]), sandbox.ok(["--version"]));
    assert_eq!(sandbox.ok(["--out", file.to_str().unwrap(), "version"]), "");
    assert!(std::fs::read_to_string(file).unwrap().contains("Version:"));
}

#[test]
fn wrong_templates_have_docker_s_words_and_codes() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["create", "--network", "none", "--name", "c", "--label", "Upper=1", "busybox"]);
    let unclosed = "template parsing error: template: :1: unclosed action";
    for words in [&["inspect", "-f", "{{.Id", "c"][..], &["info", "-f", "{{"], &["version", "-f", "{{"]] {
        sandbox.coracle(words).fails(64, &[unclosed]);
    }
    for words in
        [&["ps", "--format", "{{"][..], &["images", "--format", "{{"], &["volume", "ls", "--format", "{{"]]
    {
        sandbox.coracle(words).fails(1, &[unclosed]);
    }
    let place = "template: :1:2: executing \"\" at <.Nope>:";
    sandbox
        .coracle(["inspect", "-f", "{{.Nope}}", "c"])
        .fails(1, &[place, "map has no entry for key \"Nope\""]);
    sandbox.coracle(["ps", "-a", "--format", "{{.Nope}}"]).fails(1, &[place, "can't evaluate field Nope"]);
    let text = |format: &str| sandbox.ok(["inspect", "-f", format, "c"]);
    assert_eq!(text("{{.Config.Labels.Upper}} {{.Config.Labels.None}}"), "1 <no value>");
    assert_eq!(text("{{.Name}}\\n"), "/c\\n", "inspect leaves backslashes alone");
    assert_eq!(text("{{range $k, $v := .Config.Labels}}{{printf \"%s=%q\" $k $v}}{{end}}"), "Upper=\"1\"");
    assert_eq!(sandbox.ok(["ps", "-a", "--format", "{{.Names}}\\t{{.State | upper}}"]), "c\tCREATED");
    assert_eq!(sandbox.ok(["ps", "-a", "--format", "table"]), sandbox.ok(["ps", "-a"]));
    let documents: serde_json::Value =
        serde_json::from_str(&sandbox.ok(["inspect", "-f", "json", "c"])).unwrap();
    assert_eq!(documents[0]["Name"], "/c");
}

/// Flags that others have and that change nothing here, or are refused with the reason.
#[test]
fn flags_of_docker_s_and_podman_s_scripts_are_understood() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let line =
        "Flag --disable-content-trust has been deprecated, support for docker content trust was removed\n";
    assert_eq!(sandbox.run(&["--disable-content-trust", "busybox", "true"]).ok().stderr, line);
    assert_eq!(sandbox.run(&["--disable-content-trust=false", "busybox", "true"]).ok().stderr, line);
    sandbox.run(&["--disable-content-trust=x", "busybox", "true"]).refused(&["--disable-content-trust"]);
    for verb in ["pull", "push"] {
        let output = sandbox.coracle([verb, "--disable-content-trust", "127.0.0.1:1/no:1"]).expect_code(125);
        assert!(output.stderr.starts_with(line), "{output}");
    }
    sandbox.run(&["--security-opt", "writable-cgroups=false", "busybox", "true"]).ok();
    sandbox.run(&["--security-opt", "writable-cgroups=true", "busybox"]).refused(&["--systemd=always"]);
    sandbox
        .run(&["nowhere.invalid/x", "true"])
        .refused(&["Unable to find image 'nowhere.invalid/x:latest' locally"]);
    for words in [&["tag", "x"][..], &["rename", "x"], &["image", "tag"], &["cp", "x"]] {
        sandbox.coracle(words).fails(1, &["requires 2 arguments"]);
    }
    // The image's own file stays: it has none.
    let kept = ["--no-hostname", "--hostname", "box", "busybox", "sh", "-c", "hostname; cat /etc/hostname"];
    let kept = sandbox.run(&kept).expect_code(1);
    assert!(kept.text() == "box" && kept.stderr.contains("/etc/hostname"), "{kept}");
}

#[test]
fn help_is_for_people_and_pipes() {
    let Some(mut sandbox) = sandbox(&[]) else { return };
    sandbox.set("CLICOLOR_FORCE", "1");
    let help = sandbox.ok(["--help"]);
    for part in ["Common Commands:", "Management Commands:", "Global Options:"] {
        assert!(help.contains(part), "{part}: {help}");
    }
    assert!(!help.contains('\x1b'), "{help}");
    assert_eq!(sandbox.ok(["help", "run"]), sandbox.ok(["run", "--help"]));
    assert_eq!(sandbox.ok(["help"]), help);
    assert!(sandbox.coracle(["nosuch"]).stderr.contains("\x1b["), "CLICOLOR_FORCE colours errors");
    sandbox.set("NO_COLOR", "1");
    assert!(!sandbox.coracle(["nosuch"]).stderr.contains('\x1b'));
}

#[test]
fn a_bad_user_is_blamed_on_its_flag() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    for bad in ["99999999999", "-1", "a:b:c", "a b"] {
        sandbox.run(&[&format!("--user={bad}"), "busybox", "true"]).refused(&["--user"]);
    }
}
