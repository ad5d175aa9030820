//! Many containers, and many commands at once.

use crate::harness::{Image, sandbox, until};
use std::time::Instant;

#[test]
fn twenty_containers_start_at_once() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let starts: Vec<_> = (0..20)
        .map(|n| {
            sandbox.spawn(["run", "-d", "--network", "none", "--name", &format!("c{n}"), "guest", "sleep"])
        })
        .collect();
    for start in starts {
        start.wait().ok();
    }
    assert_eq!(sandbox.ok(["ps", "-q"]).lines().count(), 20);
    let ids = sandbox.ok(["ps", "-q"]);
    let mut words = vec!["rm", "-f", "-t", "0"];
    words.extend(ids.lines());
    sandbox.ok(words);
    assert_eq!(sandbox.ok(["ps", "-a", "-q"]), "");
}

#[test]
fn foreground_runs_at_once_keep_their_outputs_and_codes() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let runs: Vec<_> = (0..12)
        .map(|n| {
            let script = format!("echo this is {n}; exit {n}");
            sandbox.spawn(["run", "--rm", "--network", "none", "busybox", "sh", "-c", &script])
        })
        .collect();
    for (n, run) in runs.into_iter().enumerate() {
        let output = run.wait().expect_code(i32::try_from(n).unwrap());
        assert_eq!(output.text(), format!("this is {n}"));
    }
}

#[test]
fn of_many_that_want_one_name_one_gets_it() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let creations: Vec<_> = (0..12).map(|_| sandbox.spawn(["create", "--name", "wanted", "guest"])).collect();
    let codes: Vec<i32> = creations.into_iter().map(|c| c.wait().code()).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    assert!(codes.iter().all(|code| *code == 0 || *code == 125), "{codes:?}");
    assert_eq!(sandbox.ok(["ps", "-a", "-q"]).lines().count(), 1, "the others left nothing");
}

#[test]
fn of_many_that_rename_to_one_name_one_does() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    for n in 0..6 {
        sandbox.ok(["create", "--name", &format!("c{n}"), "guest"]);
    }
    let renames: Vec<_> = (0..6).map(|n| sandbox.spawn(["rename", &format!("c{n}"), "wanted"])).collect();
    let codes: Vec<i32> = renames.into_iter().map(|c| c.wait().code()).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    let names = sandbox.ok(["ps", "-a", "--format", "{{.Names}}"]);
    assert_eq!(names.lines().filter(|name| *name == "wanted").count(), 1, "{names}");
    assert_eq!(names.lines().count(), 6);
}

#[test]
fn starts_stops_and_removals_at_once_end_in_a_true_state() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.ok(["create", "--network", "none", "--name", "c", "guest", "sleep"]);
    for _ in 0..3 {
        let commands: Vec<_> = [
            &["start", "c"][..],
            &["stop", "-t", "0", "c"],
            &["start", "c"],
            &["kill", "c"],
            &["ps", "-a"],
            &["inspect", "c"],
        ]
        .iter()
        .map(|words| sandbox.spawn(*words))
        .collect();
        for command in commands {
            let output = command.wait();
            assert!(output.code() == 0 || output.code() == 1, "{output}");
            assert!(!output.stderr.contains("panicked"), "{output}");
        }
    }
    sandbox.coracle(["kill", "c"]);
    until("a state of rest", || (sandbox.status("c") != "running").then_some(()));
    assert!(["exited", "created"].contains(&sandbox.status("c").as_str()));
    let removals: Vec<_> = (0..4).map(|_| sandbox.spawn(["rm", "-f", "c"])).collect();
    for removal in removals {
        removal.wait();
    }
    assert_eq!(sandbox.ok(["ps", "-a", "-q"]), "");
}

#[test]
fn ps_of_a_thousand_containers_is_quick_and_whole() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let first = sandbox.ok(["create", "--name", "first", "guest"]);
    // Copies of one record: making a thousand for real would only be slow.
    let containers = sandbox.state().join("containers");
    let record = std::fs::read_to_string(containers.join(&first).join("config.json")).unwrap();
    let names = sandbox.state().join("names");
    for number in 0..999 {
        let id = format!("{:064x}", 0xabc0_0000_u64 + number);
        let name = format!("copy{number}");
        let folder = containers.join(&id);
        std::fs::create_dir(&folder).unwrap();
        let text = record.replace(&first, &id).replace("\"first\"", &format!("\"{name}\""));
        std::fs::write(folder.join("config.json"), text).unwrap();
        std::fs::write(names.join(name), &id).unwrap();
    }
    assert_eq!(sandbox.ok(["ps", "-a", "-q"]).lines().count(), 1000);
    let before = Instant::now();
    sandbox.ok(["ps", "-a"]);
    // The bench has the real figure; here only that nothing is quadratic.
    assert!(before.elapsed().as_secs() < 5, "{:?}", before.elapsed());
    for entry in std::fs::read_dir(&containers).unwrap().flatten() {
        if entry.file_name().to_str() != Some(&first) {
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
    for number in 0..999 {
        std::fs::remove_file(names.join(format!("copy{number}"))).unwrap();
    }
}
