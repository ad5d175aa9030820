//! Memory and time that an image or container would like to exhaust.

use crate::harness::image::{ImageBuilder, Layer};
use crate::harness::{Image, SubIds, sandbox, until};
use serde_json::json;
use std::time::{Duration, Instant};

const PROGRAMS: &[crate::harness::Need] = &[Image("guest"), Image("busybox")];

#[test]
fn cve_2026_47262_a_huge_passwd_is_bounded() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let mut lines = b"root:x:0:0::/:/bin/sh\n".to_vec();
    lines.extend(std::iter::repeat_n(b'x', 60 << 20));
    for name in ["etc/passwd", "etc/group"] {
        ImageBuilder::with_programs()
            .layer(Layer::new().dir("etc").file(name, &lines))
            .load(&sandbox, "huge");
        let before = Instant::now();
        let output = sandbox.run(&["-u", "someone:somegroup", "huge", "true"]);
        assert_eq!(output.code(), 125, "{output}");
        assert!(before.elapsed() < Duration::from_secs(20), "{name}: {:?}", before.elapsed());
    }
}

#[test]
fn cve_2024_9676_passwd_is_a_fifo_or_leads_to_the_host() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let fifo = sandbox.path("work/fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
    let layers = [
        ("a fifo", Layer::new().dir("etc").fifo("etc/passwd").fifo("etc/group")),
        (
            "a link to a fifo of the host",
            Layer::new()
                .dir("etc")
                .symlink("etc/passwd", &format!("../../../../../../../..{}", fifo.display())),
        ),
        (
            "a link to zeros",
            Layer::new().dir("etc").symlink("etc/passwd", "/dev/zero").symlink("etc/group", "/dev/zero"),
        ),
        ("a folder", Layer::new().dir("etc").dir("etc/passwd").dir("etc/group")),
        ("a link to itself", Layer::new().dir("etc").symlink("etc/passwd", "passwd")),
        ("a link to memory", Layer::new().dir("etc").symlink("etc/passwd", "/proc/self/mem")),
    ];
    for (name, layer) in layers {
        ImageBuilder::with_programs().layer(layer).load(&sandbox, "odd");
        for user in ["root", "someone", "0", "1000:group"] {
            let before = Instant::now();
            let output = sandbox.run(&["-u", user, "odd", "true"]);
            assert!(
                [0, 125].contains(&output.code()) && !output.stderr.contains("panicked"),
                "{name}: {output}"
            );
            assert!(before.elapsed() < Duration::from_secs(20), "{name}: {:?}", before.elapsed());
        }
    }
}

#[test]
fn cve_2022_1708_a_flood_of_output_does_not_grow_the_monitor() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    // A client that does not read, and a container that never stops writing.
    let client = sandbox.spawn([
        "run",
        "--network",
        "none",
        "--name",
        "c",
        "--log-opt",
        "max-size=1m",
        "busybox",
        "sh",
        "-c",
        "yes flood >&2 & exec yes flood",
    ]);
    sandbox.wait_for_status("c", "running");
    client.signal(rustix::process::Signal::STOP);
    let monitors = sandbox.monitors();
    assert_eq!(monitors.len(), 1);
    let written = || {
        let io = std::fs::read_to_string(format!("/proc/{}/io", monitors[0])).unwrap_or_default();
        io.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse::<u64>().ok()).unwrap_or(0)
    };
    // Either the monitor goes on reading (and must not keep it), or it holds the container back.
    let start = Instant::now();
    let begun = written();
    until("a flood, or five seconds", || {
        (written() - begun > 200 << 20 || start.elapsed() > Duration::from_secs(5)).then_some(())
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", monitors[0])).unwrap();
    let peak: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(peak < 64 << 10, "{peak} KiB");
    client.signal(rustix::process::Signal::CONT);
    sandbox.ok(["rm", "-f", "-t", "0", "c"]);
}

#[test]
fn cve_2025_64329_many_attaches_leave_nothing_in_the_monitor() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("c", &["guest", "sleep"]);
    let monitors = sandbox.monitors();
    let open = || std::fs::read_dir(format!("/proc/{}/fd", monitors[0])).unwrap().count();
    let before = open();
    for _ in 0..40 {
        drop(sandbox.spawn(["wait", "c"]));
    }
    until("the monitor to close its clients", || (open() <= before).then_some(()));
}

#[test]
fn cve_2020_1702_bombs_in_archives_are_bounded() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    // A config of 64 MiB, and a nest of arrays that a recursive reader would not survive.
    let padded =
        ImageBuilder::with_programs().config("Labels", json!({ "a": "x".repeat(64 << 20) })).archive("bomb");
    let nested = ["[".repeat(200_000), "]".repeat(200_000)].concat();
    let manifest = br#"[{"Config":"c.json","RepoTags":["bomb"],"Layers":[]}]"#;
    let nested = Layer::new().file("c.json", nested.as_bytes()).file("manifest.json", manifest).into_bytes();
    // A header that promises more than there is.
    let mut lying = tar::Header::new_ustar();
    lying.set_path("manifest.json").unwrap();
    lying.set_size(8 << 30);
    lying.set_cksum();
    for (name, bytes) in [("padded", padded), ("nested", nested), ("lying", lying.as_bytes().to_vec())] {
        let file = sandbox.file("bomb.tar", bytes);
        let before = Instant::now();
        sandbox.coracle(["load", "-i", file.to_str().unwrap()]).refused(&[]);
        assert!(before.elapsed() < Duration::from_secs(30), "{name}");
    }
}

#[test]
fn cve_2021_20291_truncated_layers_end_soon_and_free_the_store() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let archive = ImageBuilder::with_programs().archive("cut");
    for part in [3, 5, 9] {
        let file = sandbox.file("cut.tar", &archive[..archive.len() * part / 10]);
        sandbox.coracle(["load", "-i", file.to_str().unwrap()]).refused(&[]);
    }
    let file = sandbox.file("whole.tar", &archive);
    sandbox.load(&file);
    sandbox.run(&["cut", "true"]).ok();
}

#[test]
fn cve_2024_3056_shared_memory_goes_with_its_containers() {
    let Some(sandbox) = sandbox(&[Image("busybox"), SubIds]) else { return };
    sandbox.start("first", &["--ipc", "shareable", "busybox", "sleep", "1000"]);
    sandbox.run(&["--ipc", "container:first", "busybox", "sh", "-c", "echo shared >/dev/shm/f"]).ok();
    assert_eq!(
        sandbox.run(&["--ipc", "container:first", "busybox", "cat", "/dev/shm/f"]).ok().text(),
        "shared"
    );
    sandbox.ok(["rm", "-f", "-t", "0", "first"]);
    sandbox.run(&["busybox", "test", "!", "-e", "/dev/shm/f"]).ok();
}
