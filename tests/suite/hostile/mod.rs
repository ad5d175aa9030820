//! What broke in other runtimes: each test is named after the vulnerability and
//! would fail on the implementation that had it.

mod archives;
mod copy;
mod identities;
mod image;
mod links;
mod paths;
mod process;
mod registry;
mod resources;
mod runtime;
mod users;

use crate::harness::{Image, Output, Sandbox, needs, sandbox};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A sandbox, where the programs for a root directory are there.
#[track_caller]
fn with_programs() -> Option<Sandbox> {
    if !needs::host_has(&[Image("busybox"), Image("guest")]) {
        return None;
    }
    sandbox(&[])
}

/// A root directory with busybox, its shell and the guest, which `--rootfs`
/// takes as it is: what the tool makes in it can be seen afterwards.
fn root_directory(sandbox: &Sandbox, name: &str) -> PathBuf {
    let root = sandbox.folder(name);
    std::fs::create_dir(root.join("bin")).unwrap();
    std::fs::create_dir(root.join("etc")).unwrap();
    for program in ["busybox", "guest"] {
        let from = needs::image_dir(program).unwrap().join("rootfs/bin").join(program);
        std::fs::copy(from, root.join("bin").join(program)).unwrap();
    }
    std::os::unix::fs::symlink("busybox", root.join("bin/sh")).unwrap();
    root
}

/// `run --rm --network none OPTIONS`.
#[track_caller]
fn run(sandbox: &Sandbox, options: &[&str]) -> Output {
    let output = sandbox.coracle([&["run", "--rm", "--network", "none"], options].concat());
    assert!(!output.stderr.contains("panicked"), "a panic: {output}");
    output
}

/// Everything below `path`: kind and permissions, owner, size, and the text of
/// a link. Equal before and after means that nothing was made, changed or removed.
fn tree(path: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        let meta = path.symlink_metadata().unwrap();
        let link = std::fs::read_link(&path).unwrap_or_default();
        let size = if meta.is_dir() { 0 } else { meta.len() };
        let said = format!("{:o} {} {} {}", meta.mode(), meta.uid(), size, link.display());
        if meta.is_dir() {
            // overlayfs' own work directory has the mode 000.
            let entries = std::fs::read_dir(&path).into_iter().flatten();
            pending.extend(entries.map(|entry| entry.unwrap().path()));
        }
        found.insert(path, said);
    }
    found
}

/// A directory of the host that no container is given, with something in it.
fn victim(sandbox: &Sandbox) -> PathBuf {
    let victim = sandbox.folder("victim");
    std::fs::write(victim.join("secret"), "the host's\n").unwrap();
    std::fs::create_dir(victim.join("null")).unwrap();
    victim
}

/// A path as a word of the command line.
fn word(path: &Path) -> &str {
    path.to_str().unwrap()
}
