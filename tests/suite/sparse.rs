//! Sparse files in archives of GNU tar, in each of its four forms: whole, and
//! with their holes.

use crate::harness::process::Running;
use crate::harness::{Need, Sandbox, SubIds, sandbox};
use rustix::fs::SeekFrom;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

const TAR: Need = Need::Program("tar");
/// The options of tar for each form.
const FORMS: [&[&str]; 4] = [
    &["--format=gnu"],
    &["--format=posix", "--sparse-version=0.0"],
    &["--format=posix", "--sparse-version=0.1"],
    &["--format=posix", "--sparse-version=1.0"],
];
const HOLE: u64 = 1 << 20;

/// Two offsets, or an offset and a length.
type Span = (u64, u64);

/// A folder of sparse files: many chunks, an end that is a hole, nothing but a
/// hole, an end within a block, a name that no header holds; and a plain one.
fn make_files(sandbox: &Sandbox) -> PathBuf {
    let dir = sandbox.folder("files");
    let long = "n".repeat(180);
    for (name, length, chunks) in [
        ("many", 200 * HOLE, (0..199).map(|n| (n * HOLE + 4096, 4096)).collect::<Vec<Span>>()),
        ("end", 8 * HOLE, vec![(0, 4096), (4 * HOLE, 65_536)]),
        ("hole", 16 * HOLE, vec![]),
        ("odd", 3 * HOLE + 1234, vec![(HOLE, 4096), (3 * HOLE, 1234)]),
        (&long, 5 * HOLE, vec![(2 * HOLE, 8192)]),
        ("plain", 5000, vec![(0, 5000)]),
        ("empty", 0, vec![]),
    ] {
        let file = std::fs::File::create(dir.join(name)).unwrap();
        file.set_len(length).unwrap();
        for (at, size) in chunks {
            let bytes: Vec<u8> = (0..size).map(|n| (at / 4096 + n) as u8 | 1).collect();
            file.write_all_at(&bytes, at).unwrap();
        }
    }
    dir
}

/// Where a file has data: beginnings and ends.
fn data_of(path: &Path) -> Vec<Span> {
    let file = std::fs::File::open(path).unwrap();
    let mut found = Vec::new();
    let mut at = 0;
    while let Ok(start) = rustix::fs::seek(&file, SeekFrom::Data(at)) {
        at = rustix::fs::seek(&file, SeekFrom::Hole(start)).unwrap();
        found.push((start, at));
    }
    found
}

#[track_caller]
fn assert_same(from: &Path, to: &Path, form: &[&str]) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let other = to.join(entry.file_name());
        let name = other.display();
        assert!(std::fs::read(entry.path()).unwrap() == std::fs::read(&other).unwrap(), "{form:?} {name}");
        assert_eq!(data_of(&entry.path()), data_of(&other), "holes: {form:?} {name}");
        let blocks = |path: &Path| path.metadata().unwrap().blocks();
        assert!(blocks(&other) <= blocks(&entry.path()) + 64, "{form:?} {name}");
    }
}

#[test]
fn sparse_files_of_gnu_tar_keep_content_and_holes() {
    let Some(sandbox) = sandbox(&[SubIds, TAR]) else { return };
    let files = make_files(&sandbox);
    assert!(data_of(&files.join("hole")).is_empty(), "this file system has holes");
    for (number, form) in FORMS.iter().enumerate() {
        let archive = sandbox.path(&format!("work/{number}.tar"));
        let mut command = sandbox.command("tar");
        command.arg("-S").args(*form).arg("-cf").arg(&archive).arg("-C").arg(&files).arg(".");
        Running::start(command).wait().ok();
        assert!(archive.metadata().unwrap().len() < 4 * HOLE, "tar has left the holes out");
        let archive = archive.to_str().unwrap();

        // As a layer.
        sandbox.ok(["import", archive, &format!("sparse:{number}")]);
        let layers = sandbox.data().join("layers");
        let roots: Vec<PathBuf> =
            std::fs::read_dir(&layers).unwrap().map(|layer| layer.unwrap().path().join("root")).collect();
        assert_eq!(roots.len(), 1);
        assert_same(&files, &roots[0], form);
        sandbox.ok(["rmi", &format!("sparse:{number}")]);

        // Into a volume, by the other reader of archives.
        let volume = format!("v{number}");
        sandbox.ok(["volume", "create", &volume]);
        sandbox.ok(["volume", "import", &volume, archive]);
        assert_same(&files, &sandbox.data().join("volumes").join(&volume).join("_data"), form);
    }
}
