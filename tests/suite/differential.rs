//! The same operations on the kernel's overlay, on ours and in a plain
//! directory: each must give the same, and the trees must be the same in the
//! end, also when each driver takes over what the other wrote.
//!
//! `CORACLE_TEST_SEED` and `CORACLE_TEST_OPERATIONS` choose others.

mod operations;
mod tree;

use crate::harness::{Need, sandbox};
use operations::{Generator, apply};
use std::path::{Path, PathBuf};
use std::process::Command;
use tree::{Compare, differences, snapshot};

/// What the inside is told: `SEED OPERATIONS DIRECTORY BINARY`.
const ORDER: &str = "CORACLE_TEST_DIFFERENTIAL";

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn both_overlays_and_a_directory_are_alike() {
    let Some(sandbox) = sandbox(&[Need::Fuse]) else { return };
    let operations = number("CORACLE_TEST_OPERATIONS", 3000);
    let binary = crate::harness::sandbox::binary();
    for seed in [7, number("CORACLE_TEST_SEED", 20)] {
        let directory = sandbox.root().join(format!("differential-{seed}"));
        std::fs::create_dir(&directory).unwrap();
        let order = format!("{seed} {operations} {} {}", directory.display(), binary.display());
        let own = std::env::current_exe().unwrap();
        let inside =
            [own.to_str().unwrap(), "--exact", "differential::inside", "--include-ignored", "--nocapture"];
        let variable = format!("{ORDER}={order}");
        let words = [&["unshare", "env", &variable][..], &inside].concat();
        let output = sandbox.coracle(words).ok();
        assert!(output.stdout.contains("1 passed"), "seed {seed}: {output}");
        sandbox.ok(["unshare", "rm", "-rf", directory.to_str().unwrap()]);
    }
}

/// One of the two overlays over the same layers.
struct Overlay<'a> {
    base: &'a Path,
    name: &'static str,
    binary: &'a str,
}

impl Overlay<'_> {
    fn path(&self, part: &str) -> PathBuf {
        self.base.join(self.name).join(part)
    }

    fn mount(&self, native: bool) {
        let (top, low) = (self.base.join("top"), self.base.join("low"));
        let options = format!(
            "lowerdir={}:{},upperdir={},workdir={}",
            top.display(),
            low.display(),
            self.path("upper").display(),
            self.path("work").display()
        );
        let point = self.path("merged");
        let mut command = if native {
            let mut command = Command::new("mount");
            command.args(["-t", "overlay", "overlay", "-o", &format!("userxattr,{options}")]);
            command
        } else {
            let mut command = Command::new(self.binary);
            command.args(["overlay", "-o", &options]);
            command
        };
        assert!(command.arg(point).status().unwrap().success(), "mount {options}");
    }

    fn unmount(&self) {
        rustix::mount::unmount(self.path("merged"), rustix::mount::UnmountFlags::empty()).unwrap();
    }
}

#[test]
#[ignore = "the inside of the test above, in a user namespace"]
fn inside() {
    let order = std::env::var(ORDER).expect("run by the test above");
    let words: Vec<&str> = order.split(' ').collect();
    let [seed, operations, base, binary] = words[..] else { panic!("{order}") };
    let (seed, operations) = (seed.parse::<u64>().unwrap(), operations.parse::<u64>().unwrap());
    let base = Path::new(base);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    tree::make_layers(base);
    let lower = |name: &str| snapshot(&base.join(name), Compare::Everything);
    let before = (lower("top"), lower("low"));
    let kernel = Overlay { base, name: "kernel", binary };
    let ours = Overlay { base, name: "ours", binary };
    for overlay in [&kernel, &ours] {
        for part in ["upper", "work", "merged"] {
            std::fs::create_dir_all(overlay.path(part)).unwrap();
        }
    }
    kernel.mount(true);
    ours.mount(false);
    let plain = base.join("plain");
    assert!(Command::new("cp").arg("-a").arg(kernel.path("merged")).arg(&plain).status().unwrap().success());

    let (merged, reference) = ([kernel.path("merged"), ours.path("merged")], &plain);
    // The kernel's overlay loses track of some files with several names (ESTALE):
    // from then on ours is compared with the plain directory alone.
    let mut follows = true;
    let mut generator = Generator::new(seed);
    for step in 0..operations {
        let operation = generator.next();
        let results = [
            if follows { apply(&merged[0], &operation) } else { Ok(String::new()) },
            apply(&merged[1], &operation),
        ];
        follows &= results[0] != Err(libc::ESTALE);
        let context = || format!("seed {seed}, step {step}, {operation:?}");
        if follows {
            assert_eq!(results[0], results[1], "kernel's and ours: {}", context());
        }
        // A directory with a part in a layer, which no overlay moves.
        if results[1] != Err(libc::EXDEV) {
            assert_eq!(results[1], apply(reference, &operation), "ours and plain: {}", context());
        }
        if step % 500 == 499 {
            let wanted = snapshot(reference, Compare::Times);
            assert_eq!(differences(&snapshot(&merged[1], Compare::Times), &wanted), "", "{}", context());
        }
    }
    let compare = |when: &str| {
        let wanted = snapshot(reference, Compare::NoTimes);
        for root in merged.iter().skip(usize::from(!follows)) {
            let found = differences(&snapshot(root, Compare::NoTimes), &wanted);
            assert_eq!(found, "", "{}, {when}, seed {seed}", root.display());
        }
    };
    compare("in the end");
    // Each takes over what the other has written.
    for overlay in [&kernel, &ours] {
        overlay.unmount();
    }
    kernel.mount(false);
    ours.mount(true);
    compare("with the other driver");
    for overlay in [&kernel, &ours] {
        overlay.unmount();
    }
    assert_eq!((lower("top"), lower("low")), before, "layers are never written to");
}
