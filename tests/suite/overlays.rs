//! The same operations on the kernel's overlay, on ours, and on a plain copy of
//! what they show: every result is the same, and so are the trees, also once each
//! overlay was unmounted and is served by the other driver. No lower layer changes.
//!
//! Rounds of two kinds take turns. In one there are both overlays. In the other
//! there is ours alone, with what the kernel's cannot do: files that have several
//! names below stay one file, and who reads a file sees what others write to it.
//! Of the first kind, every second round makes hard links, which the kernel's
//! overlay now and then takes for two files: then it is left out of the rest.
//!
//! CORACLE_TEST_SEED=N: a seed besides the fixed one.
//! CORACLE_TEST_OPERATIONS=N: how many instead of a few thousand.
//! CORACLE_TEST_OVERLAY=PROGRAM: instead of ours, fuse-overlayfs, say.
//! CORACLE_TEST_SHRINK=1: looks for the few operations of a failing round that do.

mod layers;
mod mapped;
mod operation;
mod snapshot;
mod tree;

use crate::harness::{Need, sandbox};
use layers::{Driver, Layers, Overlay, Step};
use operation::{Allowed, Operation, Random};
use rustix::io::Errno;
use snapshot::{Names, Shown};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use tree::{Outcome, Tree};

/// Where a round is, in the process inside the user namespace.
const INSIDE: &str = "CORACLE_TEST_DIFFERENTIAL";
const OPERATIONS: usize = 4000;
const FIXED_SEED: u64 = 4;
/// Few: after many, nothing is left of the lower layers.
const OF_A_ROUND: usize = 200;
/// Whole trees are compared after so many, besides at each remount.
const UNTIL_COMPARED: usize = 100;

#[test]
fn both_overlays_and_a_plain_directory_agree() {
    if let Some(folder) = std::env::var_os(INSIDE) {
        return rounds(Path::new(&folder));
    }
    let Some(mut sandbox) = sandbox(&[Need::Fuse]) else { return };
    let folder = sandbox.folder("trees");
    sandbox.set(INSIDE, folder.to_str().unwrap());
    let binary = crate::harness::sandbox::binary();
    sandbox.set("CORACLE_BIN", binary.to_str().unwrap());
    for name in ["SEED", "OPERATIONS", "OVERLAY", "SHRINK"] {
        let name = format!("CORACLE_TEST_{name}");
        if let Ok(value) = std::env::var(&name) {
            sandbox.set(&name, &value);
        }
    }
    let mut command = sandbox.tool(["unshare"]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", "--test-threads=1"]);
    command.arg("overlays::both_overlays_and_a_plain_directory_agree");
    // A long form takes longer than the harness waits.
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("1 passed"), "{}", text(&output.stdout));
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

fn rounds(folder: &Path) {
    let operations = number("CORACLE_TEST_OPERATIONS").map_or(OPERATIONS, |count| count as usize);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    for seed in [Some(FIXED_SEED), number("CORACLE_TEST_SEED")].into_iter().flatten() {
        for number in 0..operations.div_ceil(OF_A_ROUND) as u64 {
            let round = Round::draw(seed, number);
            let Err(text) = round.run(folder) else { continue };
            let text = format!("seed {seed}, round {number}: {text}");
            let shrink = std::env::var_os("CORACLE_TEST_SHRINK").is_some();
            assert!(shrink, "{text}\nCORACLE_TEST_SEED={seed} CORACLE_TEST_SHRINK=1 tells more");
            let small = round.shrink(folder);
            let fault = small.run(folder).expect_err("it still fails");
            panic!("{text}\nin short: {:#?}\n{:#?}\n{fault}", small.layers, small.operations);
        }
    }
}

#[derive(Clone)]
struct Round {
    drivers: &'static [Driver],
    layers: Vec<Step>,
    operations: Vec<Operation>,
}

impl Round {
    fn draw(seed: u64, number: u64) -> Self {
        let mut random = Random::new(seed << 32 | number);
        let both = number.is_multiple_of(2);
        let allowed = Allowed { readers: !both, links: !number.is_multiple_of(4) };
        let (layers, known) = layers::draw(&mut random, !both);
        let operations = operation::draw(&mut random, OF_A_ROUND, known, allowed);
        let drivers: &[Driver] = match (both, number / 4 % 3 == 1) {
            (true, false) => &[Driver::Native, Driver::Fuse],
            (true, true) => &[Driver::Native, Driver::WriteThrough],
            (false, false) => &[Driver::Fuse],
            (false, true) => &[Driver::WriteThrough],
        };
        Self { drivers, layers, operations }
    }

    fn run(&self, folder: &Path) -> Result<(), String> {
        let folder = folder.join("round");
        std::fs::create_dir(&folder).unwrap();
        let mut trees = Trees::make(&folder, self);
        let result = trees.go_through(&self.operations);
        let lowers = trees.layers.check();
        drop(trees);
        std::fs::remove_dir_all(&folder).unwrap();
        result.and(lowers)
    }

    /// Leaves out what does not matter, in parts that become smaller.
    fn shrink(&self, folder: &Path) -> Self {
        let mut small = self.clone();
        let fails = |round: &Self| round.run(folder).is_err();
        let mut part = small.operations.len().div_ceil(2);
        while part > 0 {
            let mut at = 0;
            while at < small.operations.len() {
                let mut less = small.clone();
                less.operations.drain(at..(at + part).min(less.operations.len()));
                if fails(&less) { small = less } else { at += part }
            }
            part /= 2;
        }
        for at in (0..small.layers.len()).rev() {
            let mut less = small.clone();
            less.layers.remove(at);
            if fails(&less) {
                small = less;
            }
        }
        small
    }
}

/// The overlays and the plain directory of one round.
struct Trees {
    drivers: Vec<Driver>,
    // In this order they are closed and unmounted.
    open: Vec<Tree>,
    plain: Tree,
    overlays: Vec<Overlay>,
    layers: Layers,
    /// The folder of each overlay.
    folders: Vec<PathBuf>,
    /// A file was given another name in this round.
    links_made: bool,
}

impl Trees {
    fn make(folder: &Path, round: &Round) -> Self {
        let layers = Layers::make(folder, &round.layers);
        let plain = folder.join("plain");
        std::fs::create_dir(&plain).unwrap();
        let plain = Tree::open(&plain);
        let drivers = round.drivers.to_vec();
        let folders = (0..drivers.len()).map(|number| folder.join(format!("o{number}"))).collect();
        let (open, overlays) = (Vec::new(), Vec::new());
        let mut trees = Self { drivers, open, plain, overlays, layers, folders, links_made: false };
        {
            // What is seen before anything is done is what the kernel shows.
            let first = Overlay::mount(Driver::Native, &trees.layers, folder.join("first"));
            let tree = Tree::open(&first.point);
            snapshot::copy(tree.root(), trees.plain.root()).unwrap();
            drop(tree);
        }
        trees.mount();
        trees
    }

    fn mount(&mut self) {
        for (driver, folder) in self.drivers.iter().zip(&self.folders) {
            let overlay = Overlay::mount(*driver, &self.layers, folder.clone());
            self.open.push(Tree::open(&overlay.point));
            self.overlays.push(overlay);
        }
    }

    fn remount(&mut self) {
        self.open.clear();
        self.overlays.clear();
        for slot in 0..operation::SLOTS {
            self.plain.apply(&Operation::Close { slot }).unwrap();
        }
        self.drivers.reverse();
        self.mount();
    }

    /// The kernel's overlay loses track of some files that got a second name: what
    /// it does from then on says nothing. Whether that is what was seen.
    fn leave_out(&mut self, number: usize) -> bool {
        let lost = self.links_made && self.overlays[number].driver == Driver::Native;
        if lost {
            self.open.remove(number);
            self.overlays.remove(number);
            self.drivers.remove(number);
            self.folders.remove(number);
        }
        lost
    }

    fn go_through(&mut self, operations: &[Operation]) -> Result<(), String> {
        self.compare("before anything")?;
        for (number, operation) in operations.iter().enumerate() {
            let here = || format!("operation {number}, {operation:?}");
            if matches!(operation, Operation::Remount) {
                self.compare(&format!("before {}", here()))?;
                self.remount();
                self.compare(&format!("after {}", here()))?;
                continue;
            }
            self.apply(operation).map_err(|text| format!("{}: {text}", here()))?;
            if number % UNTIL_COMPARED == UNTIL_COMPARED - 1 {
                self.compare(&format!("after {}", here()))?;
            }
        }
        self.compare("at the end")?;
        self.remount();
        self.compare("at the end, with the other driver")
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), String> {
        let mut outcomes: Vec<Outcome> = self.open.iter_mut().map(|tree| tree.apply(operation)).collect();
        // Directories of lower layers are not moved, and whiteouts not made.
        let apart = outcomes.iter().any(|outcome| outcome == &Err(Errno::XDEV))
            || matches!(operation, Operation::Whiteout { .. });
        if apart {
            if let Some(done) = outcomes.iter().find(|outcome| outcome.is_ok()) {
                return Err(format!("{done:?} is not what an overlay does: {outcomes:?}"));
            }
        } else {
            outcomes.push(self.plain.apply(operation));
        }
        let wanted = outcomes.last().cloned();
        for number in (0..self.overlays.len()).rev() {
            if Some(&outcomes[number]) != wanted.as_ref() && !self.leave_out(number) {
                let names: Vec<_> = self.overlays.iter().map(|overlay| overlay.driver).collect();
                return Err(format!("{names:?} and plain differ:\n  {outcomes:#?}"));
            }
        }
        let links = matches!(operation, Operation::Link { .. } | Operation::LinkOf { .. });
        self.links_made |= links && outcomes.iter().any(Result::is_ok);
        Ok(())
    }

    fn compare(&mut self, when: &str) -> Result<(), String> {
        let plain = snapshot::take(self.plain.root().as_fd(), Shown::User)?;
        for number in (0..self.overlays.len()).rev() {
            let driver = self.overlays[number].driver;
            let names = Names { known: driver != Driver::Native };
            let fault = match snapshot::take(self.open[number].root(), Shown::User) {
                Err(text) => Some(text),
                Ok(own) => snapshot::differ(&own, &plain, names),
            };
            if let Some(text) = fault.filter(|_| !self.leave_out(number)) {
                return Err(format!("{when}: {driver:?} and plain differ:\n  {text}"));
            }
        }
        Ok(())
    }
}
