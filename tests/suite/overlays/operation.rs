//! What is done to the trees: drawn from a seed, without a look at them, so that
//! a part of the operations can be repeated alone.

use rustix::fs::{FallocateFlags, OFlags, RenameFlags, XattrFlags};
use std::fmt;

/// Marsaglia's xorshift64*.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }

    pub(super) fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    pub(super) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }
}

/// A path below the root of a tree. `.` is the root.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Path(pub(super) Vec<u8>);

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.escape_ascii().to_string();
        write!(f, "{}", text.replace(&"n".repeat(255), "LONG"))
    }
}

/// Bytes that tell where they were meant to be, and by which operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes {
    pub(super) offset: u64,
    pub(super) length: usize,
    pub(super) fill: u8,
}

impl Bytes {
    pub(super) fn make(self) -> Vec<u8> {
        (0..self.length).map(|at| self.fill.wrapping_add((at / 7) as u8)).collect()
    }
}

/// Seconds and nanoseconds, long ago.
pub(super) type Time = (i64, i64);

pub(super) const SLOTS: usize = 4;

#[derive(Clone, Debug)]
pub(super) enum Operation {
    /// Everything is unmounted, and the drivers change places.
    Remount,
    Open {
        slot: usize,
        path: Path,
        flags: OFlags,
        mode: u32,
    },
    Temporary {
        slot: usize,
        directory: Path,
        mode: u32,
    },
    Close {
        slot: usize,
    },
    WriteTo {
        slot: usize,
        bytes: Bytes,
    },
    ReadFrom {
        slot: usize,
        offset: u64,
        length: usize,
    },
    Resize {
        slot: usize,
        size: u64,
    },
    Allocate {
        slot: usize,
        flags: FallocateFlags,
        offset: u64,
        length: u64,
    },
    Seek {
        slot: usize,
        offset: u64,
    },
    StatOf {
        slot: usize,
    },
    ModeOf {
        slot: usize,
        mode: u32,
    },
    TimesOf {
        slot: usize,
        time: Time,
    },
    WriteMapped {
        slot: usize,
        bytes: Bytes,
    },
    Copy {
        from: (usize, u64),
        to: (usize, u64),
        length: usize,
    },
    LinkOf {
        slot: usize,
        path: Path,
    },
    SyncOf {
        slot: usize,
    },
    Write {
        path: Path,
        bytes: Bytes,
        flags: OFlags,
    },
    Read {
        path: Path,
    },
    Truncate {
        path: Path,
        size: u64,
    },
    MakeDirectory {
        path: Path,
        mode: u32,
    },
    RemoveDirectory {
        path: Path,
    },
    Unlink {
        path: Path,
    },
    Rename {
        from: Path,
        to: Path,
        flags: RenameFlags,
    },
    Link {
        from: Path,
        to: Path,
    },
    Symlink {
        target: Path,
        path: Path,
    },
    ReadLink {
        path: Path,
    },
    Fifo {
        path: Path,
        mode: u32,
    },
    /// A character device 0:0, which overlays refuse.
    Whiteout {
        path: Path,
    },
    Mode {
        path: Path,
        mode: u32,
    },
    Owner {
        path: Path,
        uid: u32,
        gid: u32,
    },
    Times {
        path: Path,
        time: Time,
    },
    SetAttribute {
        path: Path,
        name: &'static str,
        length: usize,
        flags: XattrFlags,
    },
    RemoveAttribute {
        path: Path,
        name: &'static str,
    },
    Attributes {
        path: Path,
    },
    List {
        path: Path,
    },
    Stat {
        path: Path,
    },
}

/// Draws paths: few names, so that the operations meet, and mostly such as were
/// drawn before.
pub(super) struct Paths {
    known: Vec<Path>,
}

const ATTRIBUTES: &[&str] = &["user.a", "user.b", "user.overlong.name.of.an.attribute"];

impl Paths {
    pub(super) fn new(known: Vec<Path>) -> Self {
        Self { known }
    }

    fn name(random: &mut Random) -> Vec<u8> {
        match random.below(14) {
            0 => b"\xff\x01 \n\\".to_vec(),
            1 => vec![b'n'; 255],
            n => vec![b'a' + (n % 4) as u8],
        }
    }

    /// Any path, up to three names deep.
    pub(super) fn any(&mut self, random: &mut Random) -> Path {
        if random.one_in(100) {
            return Path(b".".to_vec());
        }
        if !self.known.is_empty() && !random.one_in(4) {
            let mut path = random.pick(&self.known);
            if random.one_in(5) && path.0.len() < 600 {
                path.0.push(b'/');
                path.0.extend(Self::name(random));
            }
            return path;
        }
        let depth = 1 + random.below(3);
        Path((0..depth).map(|_| Self::name(random)).collect::<Vec<_>>().join(&b'/'))
    }

    /// A path where something may be made.
    pub(super) fn new_one(&mut self, random: &mut Random) -> Path {
        let path = self.any(random);
        if self.known.len() < 40 {
            self.known.push(path.clone());
        } else {
            let place = random.below(40) as usize;
            self.known[place] = path.clone();
        }
        path
    }

    /// The target of a symbolic link: never out of the tree.
    pub(super) fn target(&mut self, random: &mut Random) -> Path {
        if random.one_in(3) { Path(Self::name(random)) } else { self.any(random) }
    }
}

pub(super) fn time(random: &mut Random) -> Time {
    (100_000_000 + random.below(1_000_000_000) as i64, random.below(1_000_000_000) as i64)
}

pub(super) fn mode(random: &mut Random) -> u32 {
    let special = if random.one_in(4) { random.below(8) as u32 } else { 0 };
    random.pick(&[0o755, 0o644, 0o600, 0o777, 0o000, 0o2775, 0o4755, 0o750]) | special << 9
}

fn offset(random: &mut Random) -> u64 {
    match random.below(8) {
        0..3 => 0,
        3 => 4096 * random.below(20),
        4 => random.below(150_000),
        _ => random.below(6000),
    }
}

fn bytes(random: &mut Random) -> Bytes {
    let length = match random.below(8) {
        0 => 0,
        1 => random.below(70_000),
        2 => 4096,
        _ => random.below(5000),
    };
    Bytes { offset: offset(random), length: length as usize, fill: random.below(256) as u8 }
}

/// What the kernel's overlay cannot do as others do, and is left out of some rounds.
#[derive(Clone, Copy)]
pub(super) struct Allowed {
    /// Files are opened for reading alone: they show the old data after the file
    /// was copied up.
    pub(super) readers: bool,
    /// Files get second names: those of lower layers become two, in size at least.
    pub(super) links: bool,
}

/// `count` operations, the drivers changing places now and then.
pub(super) fn draw(random: &mut Random, count: usize, known: Vec<Path>, allowed: Allowed) -> Vec<Operation> {
    let mut paths = Paths::new(known);
    let mut operations = Vec::with_capacity(count);
    while operations.len() < count {
        let operation = match random.below(100) {
            0 if operations.len() > count / 3 && random.one_in(2) => Operation::Remount,
            0..12 => open(random, &mut paths, allowed.readers),
            12..40 => on_slot(random, &mut paths),
            40..75 => on_names(random, &mut paths),
            _ => on_file(random, &mut paths),
        };
        if allowed.links || !matches!(operation, Operation::Link { .. } | Operation::LinkOf { .. }) {
            operations.push(operation);
        }
    }
    operations
}

fn open(random: &mut Random, paths: &mut Paths, readers: bool) -> Operation {
    let slot = random.below(SLOTS as u64) as usize;
    if random.one_in(8) {
        return Operation::Temporary { slot, directory: paths.any(random), mode: mode(random) };
    }
    let mut flags = if readers {
        random.pick(&[OFlags::RDONLY, OFlags::RDWR, OFlags::RDONLY, OFlags::WRONLY])
    } else {
        random.pick(&[OFlags::RDWR, OFlags::RDWR, OFlags::WRONLY])
    };
    let others = [
        (OFlags::CREATE, 2),
        (OFlags::EXCL, 6),
        (OFlags::TRUNC, 4),
        (OFlags::APPEND, 5),
        (OFlags::NOFOLLOW, 5),
        (OFlags::DIRECTORY, 20),
    ];
    for (flag, chances) in others {
        if random.one_in(chances) {
            flags |= flag;
        }
    }
    // Not defined: open(2).
    if flags.contains(OFlags::EXCL) && !flags.contains(OFlags::CREATE) {
        flags -= OFlags::EXCL;
    }
    let path = if flags.contains(OFlags::CREATE) { paths.new_one(random) } else { paths.any(random) };
    Operation::Open { slot, path, flags, mode: mode(random) }
}

fn on_slot(random: &mut Random, paths: &mut Paths) -> Operation {
    let slot = random.below(SLOTS as u64) as usize;
    match random.below(24) {
        0..5 => Operation::WriteTo { slot, bytes: bytes(random) },
        5..9 => Operation::ReadFrom { slot, offset: offset(random), length: random.below(40_000) as usize },
        9 | 10 => Operation::Resize { slot, size: offset(random) },
        11 | 12 => {
            let keep = FallocateFlags::KEEP_SIZE;
            let flags = random.pick(&[
                FallocateFlags::empty(),
                keep,
                keep | FallocateFlags::PUNCH_HOLE,
                keep | FallocateFlags::PUNCH_HOLE,
                FallocateFlags::ZERO_RANGE,
                keep | FallocateFlags::ZERO_RANGE,
            ]);
            Operation::Allocate { slot, flags, offset: offset(random), length: 1 + random.below(30_000) }
        }
        13 => Operation::Seek { slot, offset: offset(random) },
        14 | 15 => Operation::StatOf { slot },
        16 => Operation::ModeOf { slot, mode: mode(random) },
        17 => Operation::TimesOf { slot, time: time(random) },
        18 | 19 => Operation::WriteMapped { slot, bytes: bytes(random) },
        20 => {
            let to = random.below(SLOTS as u64) as usize;
            let length = 1 + random.below(40_000) as usize;
            Operation::Copy { from: (slot, offset(random)), to: (to, offset(random)), length }
        }
        21 => Operation::LinkOf { slot, path: paths.new_one(random) },
        22 => Operation::SyncOf { slot },
        _ => Operation::Close { slot },
    }
}

fn on_names(random: &mut Random, paths: &mut Paths) -> Operation {
    match random.below(35) {
        0..6 => Operation::MakeDirectory { path: paths.new_one(random), mode: mode(random) | 0o700 },
        6..9 => Operation::RemoveDirectory { path: paths.any(random) },
        9..15 => Operation::Unlink { path: paths.any(random) },
        15..23 => {
            let flags = random.pick(&[
                RenameFlags::empty(),
                RenameFlags::empty(),
                RenameFlags::empty(),
                RenameFlags::NOREPLACE,
                RenameFlags::EXCHANGE,
            ]);
            Operation::Rename { from: paths.any(random), to: paths.new_one(random), flags }
        }
        23..26 => Operation::Link { from: paths.any(random), to: paths.new_one(random) },
        26..28 => Operation::Symlink { target: paths.target(random), path: paths.new_one(random) },
        28 => Operation::ReadLink { path: paths.any(random) },
        29 => Operation::Fifo { path: paths.new_one(random), mode: mode(random) },
        30 => Operation::Whiteout { path: paths.any(random) },
        31..34 => Operation::List { path: paths.any(random) },
        _ => Operation::Stat { path: paths.any(random) },
    }
}

fn on_file(random: &mut Random, paths: &mut Paths) -> Operation {
    match random.below(25) {
        0..8 => {
            let mut flags = OFlags::WRONLY;
            for (flag, chances) in [(OFlags::CREATE, 2), (OFlags::TRUNC, 3), (OFlags::APPEND, 3)] {
                if random.one_in(chances) {
                    flags |= flag;
                }
            }
            Operation::Write { path: paths.new_one(random), bytes: bytes(random), flags }
        }
        8..11 => Operation::Read { path: paths.any(random) },
        11 => Operation::Truncate { path: paths.any(random), size: offset(random) },
        12 | 13 => Operation::Mode { path: paths.any(random), mode: mode(random) },
        14 | 15 => {
            let owner = |random: &mut Random| random.pick(&[0, 1, 2, 3, u32::MAX]);
            Operation::Owner { path: paths.any(random), uid: owner(random), gid: owner(random) }
        }
        16 | 17 => Operation::Times { path: paths.any(random), time: time(random) },
        18 | 19 => {
            let flags = random.pick(&[XattrFlags::empty(), XattrFlags::CREATE, XattrFlags::REPLACE]);
            let (name, length) = (random.pick(ATTRIBUTES), random.below(60) as usize);
            Operation::SetAttribute { path: paths.any(random), name, length, flags }
        }
        20 | 21 => Operation::RemoveAttribute { path: paths.any(random), name: random.pick(ATTRIBUTES) },
        22 => Operation::Attributes { path: paths.any(random) },
        _ => Operation::Stat { path: paths.any(random) },
    }
}
