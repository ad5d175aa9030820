//! What is malformed is a clear error with a non-zero code, soon, and leaves nothing.

use crate::harness::image::{ImageBuilder, Layer};
use crate::harness::{Image, sandbox};
use serde_json::json;

#[test]
fn malformed_flags_are_named() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let cases: &[&[&str]] = &[
        &["--restart", "sometimes"],
        &["--restart", "on-failure:x"],
        &["--restart", "on-failure:-1"],
        &["--stop-timeout", "soon"],
        &["--stop-signal", "SIGNOTHING"],
        &["--stop-signal", "999"],
        &["--timeout", "-5"],
        &["--shm-size", "-1"],
        &["--shm-size", "99999999999999999999g"],
        &["--label", "=value"],
        &["--env-file", "/no/such/file"],
        &["--env", "=value"],
        &["--device", ""],
        &["--tmpfs", ""],
        &["--security-opt", ""],
        &["--detach-keys", "ctrl-"],
        &["--userns", "keep-id:uid=x"],
        &["--userns", "keep-id:colour=red"],
        &["--userns", "auto:size=0"],
        &["--pid", "container:"],
        &["--platform", "linux/amd64/v1/x"],
        &["--log-opt", "max-file=0"],
        &["--sysctl", "=1"],
        &["--read-only-tmpfs=maybe"],
        &["--hostname", "a\nb"],
        &["--name", "a b"],
    ];
    for case in cases {
        let output = sandbox.run(&[case, &["guest", "exit", "0"][..]].concat());
        assert_eq!(output.code(), 125, "{case:?}: {output}");
        assert!(!output.stderr.contains("panicked"), "{case:?}: {output}");
        assert!(!output.stderr.is_empty(), "{case:?}");
    }
    assert_eq!(sandbox.ok(["ps", "-a", "-q"]), "");
}

#[test]
fn rm_and_restart_exclude_each_other() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.run(&["--restart", "always", "guest", "exit", "0"]).refused(&["restart"]);
}

#[test]
fn malformed_env_files_are_named() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    for (name, text) in
        [("noname", &b"=x\n"[..]), ("space", b"A B=x\n"), ("nul", b"A=\0\n"), ("bytes", b"A=\xff\xfe\n")]
    {
        let file = sandbox.file(name, text);
        let output = sandbox.run(&["--env-file", file.to_str().unwrap(), "guest", "report"]);
        assert_eq!(output.code(), 125, "{name}: {output}");
        assert!(!output.stderr.contains("panicked"), "{output}");
    }
    // A device that never ends.
    sandbox.run(&["--env-file", "/dev/zero", "guest", "report"]).refused(&["/dev/zero"]);
}

#[test]
fn damaged_archives_are_refused_and_leave_nothing() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.ok(["rmi", "guest"]);
    let good = ImageBuilder::new().layer(Layer::new().file("f", b"a-marker!")).archive("x:1");
    let mut truncated = good.clone();
    truncated.truncate(good.len() / 2);
    // One byte of the file inside the layer: the layer's digest no longer fits.
    let mut flipped = good.clone();
    let at = good.windows(9).rposition(|window| window == b"a-marker!").unwrap();
    flipped[at] ^= 1;
    let cases = [
        ("empty", Vec::new()),
        ("text", b"this is no archive".to_vec()),
        ("zeros", vec![0; 4096]),
        ("truncated", truncated),
        ("flipped", flipped),
        ("no manifest", Layer::new().file("x", b"y").into_bytes()),
        ("bad manifest", Layer::new().file("manifest.json", b"{").into_bytes()),
        ("empty manifest", Layer::new().file("manifest.json", b"[]").into_bytes()),
        ("huge manifest", Layer::new().file("manifest.json", &vec![b' '; 40 << 20]).into_bytes()),
        (
            "missing layer",
            Layer::new()
                .file("manifest.json", br#"[{"Config":"c.json","RepoTags":["x:1"],"Layers":["l.tar"]}]"#)
                .file("c.json", b"{}")
                .into_bytes(),
        ),
        (
            "climbing",
            Layer::new()
                .file(
                    "manifest.json",
                    br#"[{"Config":"../../../etc/passwd","RepoTags":["x:1"],"Layers":[]}]"#,
                )
                .into_bytes(),
        ),
    ];
    for (name, bytes) in cases {
        let file = sandbox.file("bad.tar", &bytes);
        let output = sandbox.coracle(["load", "-i", file.to_str().unwrap()]);
        assert_eq!(output.code(), 125, "{name}: {output}");
        assert!(!output.stderr.contains("panicked") && !output.stderr.is_empty(), "{name}: {output}");
    }
    assert_eq!(sandbox.ok(["images", "-q"]), "");
    let layers = std::fs::read_dir(sandbox.data().join("layers"))
        .map_or(0, |e| e.flatten().filter(|e| !e.file_name().to_string_lossy().contains("lock")).count());
    assert_eq!(layers, 0);
    sandbox.coracle(["load", "-i", "/no/such.tar"]).refused(&["/no/such.tar"]);
    sandbox.coracle(["load", "-i", "/dev/zero"]).refused(&[]);
}

#[test]
fn odd_image_configs_are_refused_or_harmless() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    let cases = [
        ("User", json!("no-such-user")),
        ("WorkingDir", json!("../../..")),
        ("Entrypoint", json!(["", ""])),
        ("StopSignal", json!("SIGNOTHING")),
        ("Env", json!(["=", "==", "A", "\u{0}"])),
        ("Volumes", json!({ "relative": {}, "": {} })),
        ("ExposedPorts", json!({ "99999/tcp": {}, "x": {} })),
    ];
    for (field, value) in cases {
        ImageBuilder::with_programs()
            .config("Cmd", json!(["true"]))
            .config(field, value.clone())
            .load(&sandbox, "odd");
        let output = sandbox.run(&["odd"]);
        assert!([0, 125, 126, 127].contains(&output.code()), "{field} {value}: {output}");
        assert!(!output.stderr.contains("panicked"), "{field} {value}: {output}");
    }
    assert_eq!(sandbox.ok(["ps", "-a", "-q"]), "");
}

#[test]
fn an_environment_without_a_home_is_told() {
    let Some(sandbox) = sandbox(&[]) else { return };
    let mut command = sandbox.command("env");
    command.args(["-i", "PATH=/usr/bin:/bin"]).arg(crate::harness::sandbox::binary()).args(["ps", "-a"]);
    let output = crate::harness::process::Running::start(command).wait();
    // Either it finds the home in the user data base, or says what is missing.
    assert!(output.code() == 0 || output.stderr.contains("HOME"), "{output}");
}

#[test]
fn an_odd_runtime_folder_is_no_trap() {
    let Some(mut sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.set("XDG_RUNTIME_DIR", "/no/such/folder");
    // It falls back to one of its own, checked for its owner.
    sandbox.run(&["guest", "exit", "4"]).expect_code(4);
}

#[test]
fn a_full_or_closed_stdout_is_no_panic() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let mut command = sandbox.command("sh");
    command
        .args(["-c", "\"$0\" images >/dev/full; echo $?; \"$0\" version >&-; echo $?; \"$0\" --help | true"])
        .arg(crate::harness::sandbox::binary());
    let output = crate::harness::process::Running::start(command).wait();
    assert!(!output.stderr.contains("panicked"), "{output}");
    assert!(
        !output.lines().first().is_some_and(|code| *code == "0"),
        "output was lost without a word: {output}"
    );
}
