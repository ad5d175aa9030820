//! Secrets reach the container, and nothing else has their values.

use crate::harness::{Image, Sandbox, sandbox};
use std::path::Path;

const VALUE: &str = "c0racle-t0p-s3cret-value";

fn sandbox_with_secret() -> Option<Sandbox> {
    let sandbox = sandbox(&[Image("busybox")])?;
    let file = sandbox.file("value", VALUE);
    let id = sandbox.ok(["secret", "create", "db", file.to_str().unwrap()]);
    assert!(id.len() == 25 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    std::fs::remove_file(file).unwrap();
    Some(sandbox)
}

/// The files below `folder` that hold the value.
fn files_with_value(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files_with_value(&path, found);
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap_or_default();
            if bytes.windows(VALUE.len()).any(|window| window == VALUE.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
}

#[test]
fn a_secret_is_a_file_or_a_variable() {
    let Some(sandbox) = sandbox_with_secret() else { return };
    let script = "cat /run/secrets/db; echo; stat -c '%a %u:%g' /run/secrets/db; grep ' /run/secrets ' /proc/self/mountinfo";
    let output = sandbox.run(&["--secret", "db", "busybox", "sh", "-c", script]).ok();
    let lines = output.lines();
    assert_eq!(lines[..2], [VALUE, "444 0:0"], "{output}");
    assert!(lines[2].contains(" - tmpfs "), "never on a disk: {output}");
    let options = "source=db,target=/etc/pw,mode=0400,uid=5,gid=6";
    let output = sandbox
        .run(&[
            "--secret",
            options,
            "busybox",
            "sh",
            "-c",
            "cat /etc/pw; echo; stat -c '%a %u:%g' /etc/pw; ls -A /run/secrets",
        ])
        .ok();
    assert_eq!(output.lines(), [VALUE, "400 5:6"], "{output}");
    let nested = sandbox.run(&["--secret", "db,target=a/b", "busybox", "cat", "/run/secrets/a/b"]).ok();
    assert_eq!(nested.text(), VALUE);
    let variable =
        sandbox.run(&["--secret", "db,type=env,target=PW", "busybox", "sh", "-c", "echo $PW"]).ok();
    assert_eq!(variable.text(), VALUE);
    let read_only = sandbox.run(&["--read-only", "--secret", "db", "busybox", "cat", "/run/secrets/db"]).ok();
    assert_eq!(read_only.text(), VALUE);
}

#[test]
fn nothing_but_the_store_has_the_value() {
    let Some(sandbox) = sandbox_with_secret() else { return };
    let options = ["--secret", "db", "--secret", "db,target=/etc/pw", "--secret", "db,type=env,target=PW"];
    let words = [&options[..], &["busybox", "sleep", "1000"]].concat();
    sandbox.start("c", &words);
    assert_eq!(sandbox.ok(["exec", "c", "sh", "-c", "echo $PW"]), VALUE, "a further command has it");
    for words in [
        &["inspect", "c"][..],
        &["diff", "c"],
        &["logs", "c"],
        &["events", "--stream=false"],
        &["secret", "inspect", "db"],
    ] {
        let output = sandbox.coracle(words.iter().copied()).ok();
        assert!(!output.stdout.contains(VALUE), "{words:?}");
    }
    sandbox.ok(["commit", "c", "image"]);
    sandbox.ok(["save", "-o", sandbox.path("image.tar").to_str().unwrap(), "image"]);
    let without =
        sandbox.run(&["image", "sh", "-c", "echo \"[$PW]\"; cat /etc/pw /run/secrets/db; true"]).ok();
    assert_eq!(without.lines().first().copied(), Some("[]"), "{without}");
    let mut found = Vec::new();
    files_with_value(sandbox.root(), &mut found);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("/data/coracle/secrets/"), "{found:?}");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&found[0]).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn secrets_are_listed_replaced_and_removed() {
    let Some(sandbox) = sandbox_with_secret() else { return };
    sandbox.coracle(["secret", "create", "db", "/dev/null"]).fails(1, &["larger than 0"]);
    let again =
        |words: &[&str]| sandbox.coracle_with(b"new", [&["secret", "create"], words, &["db", "-"]].concat());
    again(&[]).fails(1, &["in use"]);
    let old = sandbox.ok(["secret", "inspect", "-f", "{{.ID}}", "db"]);
    assert_eq!(again(&["--replace", "-l", "a=b"]).ok().text(), old);
    assert_eq!(sandbox.ok(["secret", "inspect", "--showsecret", "-f", "{{.SecretData}}", "db"]), "new");
    assert_eq!(
        sandbox.ok(["secret", "ls", "--format", "{{.Name}} {{.Driver}}", "-f", "label=a=b"]),
        "db file"
    );
    let ids = sandbox.ok(["secret", "ls", "-q"]);
    let same = sandbox.coracle_with(b"other", ["secret", "create", "--ignore", "db", "-"]).ok();
    assert!(ids.contains(same.text()), "{ids}: {same}");
    let value = sandbox.ok(["secret", "inspect", "--showsecret", "--format", "{{.SecretData}}", "db"]);
    assert_ne!(value, "other");
    sandbox.coracle(["secret", "create", "a/b", "-"]).fails(1, &["name"]);
    sandbox.ok([
        "create",
        "--network",
        "none",
        "--name",
        "c",
        "--secret",
        "db",
        "busybox",
        "cat",
        "/run/secrets/db",
    ]);
    assert_eq!(sandbox.ok(["start", "-a", "c"]), "new");
    sandbox.ok(["secret", "exists", "db"]);
    assert_eq!(sandbox.ok(["secret", "rm", "db"]), old);
    sandbox.coracle(["secret", "exists", "db"]).expect_code(1);
    sandbox.coracle(["start", "-a", "c"]).refused(&["no such secret"]);
    sandbox
        .run(&["--secret", "nosuch", "busybox", "true"])
        .refused(&["no secret with name or id \"nosuch\""]);
    sandbox.coracle(["secret", "rm", "db"]).fails(1, &["no such secret"]);
    sandbox.ok(["secret", "rm", "--ignore", "db"]);
}
