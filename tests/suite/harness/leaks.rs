//! What a test may not leave behind: processes, mounts, files.

use std::path::Path;
use std::time::{Duration, Instant};

/// A process that has to do with a sandbox.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Its words, each ended by NUL.
    pub(crate) command: String,
}

/// The processes whose environment, words, folder, program or mounts name the
/// sandbox. A helper that scrubs its environment is found by the others.
pub(crate) fn processes_of(sandbox: &Path) -> Vec<Process> {
    let marker = marker(sandbox);
    let own = std::process::id() as i32;
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if pid != own && names(&entry.path(), &marker) {
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push(Process { pid, command: String::from_utf8_lossy(&command).into_owned() });
        }
    }
    found
}

/// The last component: unique, and the same whatever file system it is on
/// (mountinfo shows paths from the root of theirs).
fn marker(sandbox: &Path) -> Vec<u8> {
    sandbox.file_name().unwrap().as_encoded_bytes().to_vec()
}

fn names(process: &Path, marker: &[u8]) -> bool {
    let in_file = |name: &str| std::fs::read(process.join(name)).is_ok_and(|text| contains(&text, marker));
    let in_link = |name: &str| {
        std::fs::read_link(process.join(name))
            .is_ok_and(|to| contains(to.as_os_str().as_encoded_bytes(), marker))
    };
    // A dead process has neither words nor mounts, and is its parent's to reap.
    in_file("cmdline") || in_file("environ") || in_file("mountinfo") || in_link("cwd") || in_link("exe")
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Processes get a moment to end by themselves; then they are a fault, and killed.
pub(crate) fn check_processes(sandbox: &Path) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let left = processes_of(sandbox);
        if left.is_empty() {
            return Vec::new();
        }
        if Instant::now() > end {
            for process in &left {
                if let Some(pid) = rustix::process::Pid::from_raw(process.pid) {
                    rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
                }
            }
            let words = |p: &Process| format!("the process {}: {}", p.pid, p.command.replace('\0', " "));
            return left.iter().map(words).collect();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Mounts of the sandbox that this process sees.
pub(crate) fn check_mounts(sandbox: &Path) -> Vec<String> {
    let marker = String::from_utf8(marker(sandbox)).unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().filter(|line| line.contains(&marker)).map(|line| format!("the mount {line}")).collect()
}

/// Once its containers are removed, a sandbox holds images and named volumes,
/// and locks: nothing of a container, and nothing half made.
pub(crate) fn check_files(sandbox: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    for folder in ["state/coracle/containers", "state/coracle/names"] {
        // A container whose maker was killed is swept by a later command, a minute
        // on, and its name with it: nobody can tell it from one that is being made.
        let unborn = |name: &String| {
            let owner = std::fs::read_to_string(sandbox.join(folder).join(name)).unwrap_or_default();
            let its = format!("state/coracle/containers/.new-{}", owner.trim());
            name.starts_with(".new-") || !owner.is_empty() && sandbox.join(its).exists()
        };
        let left = entries(&sandbox.join(folder)).into_iter().filter(|name| !unborn(name));
        faults.extend(left.map(|name| format!("{folder}/{name}")));
    }
    for name in entries(&sandbox.join("run/coracle")) {
        if name.len() == 12 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
            faults.push(format!("run/coracle/{name}"));
        }
    }
    for folder in [
        "data/coracle/layers",
        "data/coracle/images",
        "data/coracle/images/blobs/sha256",
        "data/coracle/volumes",
    ] {
        let half = entries(&sandbox.join(folder)).into_iter().filter(|name| is_half_made(name));
        faults.extend(half.map(|name| format!("{folder}/{name}")));
    }
    faults
}

fn is_half_made(name: &str) -> bool {
    name.contains("tmp") || name.contains("partial") || name.starts_with(".new") || name.contains("trash")
}

/// Names in a folder, but for lock files; none where there is no such folder.
fn entries(folder: &Path) -> Vec<String> {
    let read = std::fs::read_dir(folder).into_iter().flatten().flatten();
    read.map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.ends_with("lock"))
        .collect()
}
