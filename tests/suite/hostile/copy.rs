//! `cp` while the container works against it: directories and links that take
//! each other's place as fast as the kernel allows, files that never end.

use super::{tree, victim, with_programs, word};
use crate::harness::image::ImageBuilder;
use crate::harness::{Output, Sandbox};
use std::path::Path;

/// Copies of each kind in one race.
const ROUNDS: usize = 600;

/// Starts a container in which `/w/x`, a directory, and `/w/y`, a link to
/// `target`, exchange their names all the time. Both hold `secret`, for those
/// who follow the link out.
fn race(sandbox: &Sandbox, name: &str, target: &str) {
    ImageBuilder::with_programs().load(sandbox, "programs");
    let script = format!(
        "mkdir -p /w/x/sub && echo inside >/w/x/secret && echo inside >/w/x/sub/secret && ln -s {target} /w/y && exec guest swap /w/x /w/y"
    );
    sandbox.start(name, &["programs", "sh", "-c", &script]);
    sandbox.wait_for_log(name, "ready");
}

fn climb(path: &Path) -> String {
    format!("{}{}", "../".repeat(16).trim_end_matches('/'), path.display())
}

#[track_caller]
fn sane(output: &Output) {
    assert!([0, 1].contains(&output.code()) && !output.stderr.contains("panicked"), "{output}");
}

/// No file below `folder` has what only the host has, and no link was followed.
#[track_caller]
fn nothing_of_the_host(folder: &Path, output: &Output) {
    let mut pending = vec![folder.to_owned()];
    while let Some(path) = pending.pop() {
        let Ok(meta) = path.symlink_metadata() else { continue };
        if meta.is_dir() {
            pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if meta.is_file() {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(!text.contains("the host's"), "{}: {output}", path.display());
        }
    }
}

fn out_of_a_race(absolute: bool) {
    let Some(sandbox) = with_programs() else { return };
    let victim = victim(&sandbox);
    let target = if absolute { word(&victim).to_owned() } else { climb(&victim) };
    race(&sandbox, "c", &target);
    let before = tree(&victim);
    let (mut copied, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let out = sandbox.folder("out");
        let words: &[&str] = match round % 6 {
            0 => &["cp", "c:/w/x/secret", "out/file"],
            1 => &["cp", "c:/w/x", "out"],
            2 => &["cp", "-L", "c:/w/x", "out"],
            3 => &["cp", "c:/w", "out"],
            4 => &["cp", "c:/w/x/.", "out"],
            _ => &["cp", "c:/w/x/sub/secret", "-"],
        };
        let output = sandbox.coracle(words);
        sane(&output);
        assert!(!output.stdout.contains("the host's"), "{output}");
        nothing_of_the_host(&out, &output);
        if output.code() == 0 {
            copied += 1;
        } else {
            refused += 1;
        }
        std::fs::remove_dir_all(&out).unwrap();
    }
    // Or there was no race.
    assert!(copied > 0 && refused > 0, "{copied} copied, {refused} refused");
    assert_eq!(tree(&victim), before);
}

#[test]
fn cve_2018_15664_cp_out_of_a_race_with_an_absolute_link() {
    out_of_a_race(true);
}

#[test]
fn cve_2018_15664_cp_out_of_a_race_with_a_climbing_link() {
    out_of_a_race(false);
}

fn into_a_race(absolute: bool) {
    let Some(sandbox) = with_programs() else { return };
    let victim = victim(&sandbox);
    let target = if absolute { word(&victim).to_owned() } else { climb(&victim) };
    race(&sandbox, "c", &target);
    let source = sandbox.folder("source");
    for folder in ["x/sub", "x/new/deep"] {
        std::fs::create_dir_all(source.join(folder)).unwrap();
        std::fs::write(source.join(folder).join("secret"), "copied in\n").unwrap();
    }
    std::fs::write(source.join("x/secret"), "copied in\n").unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all("x", source.join("x")).unwrap();
    let archive = builder.into_inner().unwrap();
    let before = tree(&victim);
    let (mut copied, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let output = match round % 6 {
            0 => sandbox.coracle(["cp", "source/x/secret", "c:/w/x/secret"]),
            1 => sandbox.coracle(["cp", "source/x", "c:/w"]),
            2 => sandbox.coracle(["cp", "source/x/.", "c:/w/x"]),
            3 => sandbox.coracle(["cp", "--overwrite", "source/x", "c:/w"]),
            4 => sandbox.coracle(["cp", "source/x/secret", "c:/w/x/sub/file"]),
            _ => sandbox.coracle_with(&archive, ["cp", "-", "c:/w"]),
        };
        sane(&output);
        if output.code() == 0 {
            copied += 1;
        } else {
            refused += 1;
        }
        assert_eq!(tree(&victim), before, "{output}");
    }
    assert!(copied > 0, "{copied} copied, {refused} refused");
}

#[test]
fn cve_2018_15664_cp_into_a_race_with_an_absolute_link() {
    into_a_race(true);
}

#[test]
fn cve_2018_15664_cp_into_a_race_with_a_climbing_link() {
    into_a_race(false);
}

#[test]
fn cve_2018_15664_cp_out_of_a_race_of_file_and_fifo() {
    let Some(sandbox) = with_programs() else { return };
    ImageBuilder::with_programs().load(&sandbox, "programs");
    let script = "mkdir /w; echo inside >/w/f; mkfifo /w/p; exec guest swap /w/f /w/p";
    sandbox.start("c", &["programs", "sh", "-c", script]);
    sandbox.wait_for_log("c", "ready");
    // None of them waits for who would write to the fifo.
    for round in 0..ROUNDS / 2 {
        let out = sandbox.folder("out");
        sane(&sandbox.coracle(["cp", if round % 2 == 0 { "c:/w" } else { "c:/w/f" }, "out"]));
        std::fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn cve_2019_18466_links_of_an_image_lead_nowhere_but_into_it() {
    let Some(sandbox) = with_programs() else { return };
    let victim = victim(&sandbox);
    let secret = victim.join("secret");
    let layer = ImageBuilder::programs()
        .symlink("abs", word(&victim))
        .symlink("up", &climb(&victim))
        .symlink("file", word(&secret))
        .symlink("*", word(&victim))
        .symlink("upfile", &climb(&secret));
    ImageBuilder::new().layer(layer).load(&sandbox, "hostile");
    sandbox.ok(["create", "--name", "stopped", "hostile", "sh"]);
    sandbox.start("running", &["hostile", "guest", "sleep"]);
    let source = sandbox.file("evil", "evil");
    let before = tree(&victim);
    for container in ["stopped", "running"] {
        for path in ["abs/secret", "up/secret", "file", "upfile", "*/secret", "abs/", "up/.", "abs/../secret"]
        {
            let out = sandbox.folder("out");
            let output = sandbox.coracle(["cp", "-L", &format!("{container}:/{path}"), "out"]);
            sane(&output);
            nothing_of_the_host(&out, &output);
            std::fs::remove_dir_all(&out).unwrap();
        }
        for path in ["abs/secret", "abs/new", "up/new", "file", "upfile", "*/new", "abs", "up/"] {
            let output = sandbox.coracle(["cp", word(&source), &format!("{container}:/{path}")]);
            sane(&output);
            assert_eq!(tree(&victim), before, "{output}");
        }
    }
}

#[test]
fn cve_2019_14271_nothing_of_the_container_is_run() {
    let Some(sandbox) = with_programs() else { return };
    if sandbox.command("strace").arg("-V").output().is_err() {
        return;
    }
    ImageBuilder::with_programs().load(&sandbox, "programs");
    sandbox.start("c", &["programs", "guest", "sleep"]);
    let trace = sandbox.path("work/trace");
    let mut command = sandbox.command("strace");
    command.args(["-f", "-e", "trace=execve,execveat,setns,pivot_root,chroot", "-o", word(&trace)]);
    command.arg(crate::harness::sandbox::binary()).args(["cp", "c:/bin", "out"]);
    let Ok(output) = command.output() else { return };
    if !trace.exists() || !output.status.success() {
        return;
    }
    let calls = std::fs::read_to_string(&trace).unwrap();
    assert_eq!(calls.matches("exec").count(), 1, "{calls}");
    assert!(!calls.contains("CLONE_NEWNS") && !calls.contains("chroot"), "{calls}");
}

#[test]
fn files_that_grow_and_trees_that_are_too_deep_have_an_end() {
    let Some(sandbox) = with_programs() else { return };
    ImageBuilder::with_programs().load(&sandbox, "programs");
    sandbox.start("c", &["programs", "guest", "grow", "/big"]);
    sandbox.wait_for_log("c", "ready");
    for _ in 0..20 {
        sandbox.coracle(["cp", "c:/big", "big"]).ok();
        let mut command = sandbox.tool(["cp", "c:/big", "-"]);
        command.stdout(std::process::Stdio::null());
        assert!(command.status().unwrap().success());
    }
    let deep = "i=0; while [ $i -lt 1100 ]; do mkdir d && cd d || exit 1; i=$((i+1)); done; echo done";
    sandbox.start("deep", &["programs", "sh", "-c", &format!("mkdir /deep; cd /deep; {deep}; sleep 1000")]);
    sandbox.wait_for_log("deep", "done");
    sandbox.coracle(["cp", "deep:/deep", "."]).refused(&["deeper than 1000"]);
    sandbox.coracle(["cp", "deep:/deep", "-"]).fails(1, &["deeper than 1000"]);
    sandbox.command("rm").args(["-rf", "deep"]).status().unwrap();
}
