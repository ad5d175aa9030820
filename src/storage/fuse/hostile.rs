//! Requests as Linux would never send them: whatever the bytes are, there is an
//! answer, and nothing outside of the upper directory changes.

use super::merged::Merged;
use super::wire::{FileSystem, ROOT, answer_to};
use super::{Layers, Options};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The operations and what follows their header: `q` eight bytes, `d` four, `D`
/// the length of the data, `s` a name, `t` a text, `b` the data.
const REQUESTS: &[(u32, &str)] = &[
    (1, "s"),
    (2, "q"),
    (3, "ddq"),
    (4, "ddqqqqqqdddddddd"),
    (5, ""),
    (6, "st"),
    (8, "dddds"),
    (9, "dds"),
    (10, "s"),
    (11, "s"),
    (12, "qss"),
    (13, "qs"),
    (15, "qqddqdd"),
    (16, "qqDdqddb"),
    (17, ""),
    (18, "qddq"),
    (20, "qdd"),
    (21, "Ddddtb"),
    (22, "ddt"),
    (23, "dd"),
    (24, "t"),
    (28, "qqddqdd"),
    (30, "qdd"),
    (39, "qddqDdb"),
    (42, "ddqqqq"),
    (43, "qqqdd"),
    (44, "qqddqdd"),
    (45, "qddss"),
    (46, "qqdd"),
    (47, "qqqqqqq"),
    (50, "q"),
    (51, "ddddt"),
    (52, "ddqdd"),
];

/// splitmix64
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let count = self.below(most);
        (0..count).map(|_| self.next() as u8).collect()
    }

    fn node(&mut self) -> u64 {
        let known = self.below(40);
        self.pick(&[ROOT, known, known, known, 0, u64::MAX])
    }
}

fn request(opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
    let length = 40 + body.len() as u32;
    let mut bytes = [length.to_ne_bytes(), opcode.to_ne_bytes()].concat();
    bytes.extend([7_u64.to_ne_bytes(), node.to_ne_bytes()].concat());
    bytes.extend([0; 16]);
    bytes.extend(body);
    bytes
}

/// A body of the right shape. Its numbers are few: a file of some random length
/// could fill the disk.
fn body(random: &mut Random, shape: &str) -> Vec<u8> {
    const NAMES: [&[u8]; 12] = [
        b"file",
        b"dir",
        b"dir",
        b"inner",
        b"link",
        b"new",
        b"x",
        b"..",
        b"../up",
        b"",
        b"\xff\n",
        &[b'n'; 256],
    ];
    const TEXTS: [&[u8]; 6] = [
        b"user.x",
        b"user.overlay.opaque",
        b"trusted.overlay.opaque",
        b"security.x",
        b"system.posix_acl_access",
        b"",
    ];
    const WORDS: [u32; 14] =
        [0, 0, 1, 2, 3, 4, 16, 4096, 0o644, 0o100_755, 0o040_700, 0o020_000, 0o010_644, u32::MAX];
    const LONGS: [u64; 9] = [0, 0, 1, 5, 4095, 4096, 65536, 1 << 62, u64::MAX];
    let data = random.bytes(60);
    let mut body = Vec::new();
    for field in shape.chars() {
        match field {
            'q' => {
                let node = random.node();
                let long = random.pick(&LONGS);
                body.extend(random.pick(&[long, long, node]).to_ne_bytes());
            }
            'd' => body.extend(random.pick(&WORDS).to_ne_bytes()),
            'D' => body.extend((data.len() as u32).to_ne_bytes()),
            'b' => body.extend(&data),
            _ => {
                body.extend(if field == 's' { random.pick(&NAMES) } else { random.pick(&TEXTS) });
                body.push(0);
            }
        }
    }
    body
}

fn tree(folder: &Path, writable: bool) -> Merged {
    let low = folder.join("low");
    std::fs::create_dir_all(low.join("dir/inner")).expect("make");
    std::fs::write(low.join("file"), [b'x'; 9000]).expect("make");
    std::fs::write(low.join("dir/file"), "text").expect("make");
    std::fs::hard_link(low.join("file"), low.join("dir/x")).expect("make");
    std::os::unix::fs::symlink("dir/file", low.join("link")).expect("make");
    let (upper, work) = (folder.join("upper"), folder.join("work"));
    std::fs::create_dir_all(&upper).expect("make");
    std::fs::create_dir_all(&work).expect("make");
    let layers = Layers::open(&[low], writable.then_some((&*upper, &*work))).expect("open");
    Merged::new(layers, Options { volatile: true, ..Options::default() }).expect("an overlay")
}

/// Everything below a folder but what is in `upper` and `work`.
fn contents(folder: &Path) -> BTreeMap<PathBuf, (std::time::SystemTime, u32, Vec<u8>)> {
    use std::os::unix::fs::PermissionsExt;
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        let about = std::fs::symlink_metadata(&path).expect("look");
        let mut bytes = Vec::new();
        if about.is_dir() {
            let entries = std::fs::read_dir(&path).expect("list").map(|entry| entry.expect("entry").path());
            left.extend(entries.filter(|path| !path.ends_with("upper") && !path.ends_with("work")));
        } else if about.is_file() {
            bytes = std::fs::read(&path).expect("read");
        }
        found.insert(path, (about.modified().expect("time"), about.permissions().mode(), bytes));
    }
    found
}

fn still_serves(merged: &Merged, seed: u64) {
    let answer = answer_to(merged, &request(3, ROOT, &[0; 16])).expect("an answer").expect("attributes");
    assert_eq!(answer.len(), 16 + 104, "seed {seed}");
    for inode in [c"file", c"dir"] {
        match merged.lookup(ROOT, inode) {
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => panic!("seed {seed}: {inode:?}: {errno}"),
        }
    }
}

#[test]
fn any_bytes_are_answered() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("folder");
    let merged = tree(folder.path(), false);
    let before = contents(folder.path());
    for seed in 0..4 {
        let mut random = Random(seed);
        for _ in 0..5000 {
            let opcode = random.below(56) as u32;
            let node = random.node();
            let mut bytes = random.bytes(200);
            if let (true, Some((_, shape))) =
                (random.below(2) == 0, REQUESTS.iter().find(|(code, _)| *code == opcode))
            {
                bytes = body(&mut random, shape);
                for _ in 0..random.below(3) {
                    if !bytes.is_empty() {
                        let at = random.below(bytes.len() as u64) as usize;
                        bytes[at] = random.next() as u8;
                    }
                }
            }
            let request = request(opcode, node, &bytes);
            if let Some(Err(errno)) = answer_to(&merged, &request) {
                assert!((1..4096).contains(&errno.raw_os_error()), "seed {seed}: {request:?}");
            }
            assert!(answer_to(&merged, &bytes).is_none(), "no whole request, but by a strange chance");
        }
        still_serves(&merged, seed);
    }
    assert!(contents(folder.path()) == before);
}

#[test]
fn what_ends_too_early_is_refused() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("folder");
    let merged = tree(folder.path(), false);
    let mut random = Random(1);
    for (opcode, shape) in REQUESTS {
        // Those that nothing has to be read of.
        if matches!(opcode, 3 | 5 | 17 | 18 | 50 | 52) {
            continue;
        }
        assert_eq!(answer_to(&merged, &request(*opcode, ROOT, &[])), Some(Err(Errno::IO)), "{opcode}");
        let whole = body(&mut random, shape);
        for cut in 0..whole.len() {
            if let Some(Err(errno)) = answer_to(&merged, &request(*opcode, ROOT, &whole[..cut])) {
                assert!((1..4096).contains(&errno.raw_os_error()), "{opcode}: {whole:?} cut at {cut}");
            }
        }
    }
}

/// Of the right shape, and against all order, over a tree that can be written to.
#[test]
fn senseless_requests_change_nothing_but_the_upper_directory() {
    if !rustix::process::getuid().is_root() {
        // Who writes has to be root of its user namespace.
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user"]).arg(std::env::current_exe().expect("this program"));
        command.args([
            "--exact",
            "--nocapture",
            "storage::fuse::hostile::senseless_requests_change_nothing_but_the_upper_directory",
        ]);
        let output = command.output().expect("unshare(1)");
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    for seed in 0..6 {
        let folder = tempfile::tempdir_in("/var/tmp").expect("folder");
        let merged = tree(folder.path(), true);
        let before = contents(folder.path());
        let mut random = Random(seed);
        for _ in 0..3000 {
            let (opcode, shape) = random.pick(REQUESTS);
            let mut bytes = body(&mut random, shape);
            if random.below(8) == 0 {
                bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
            }
            let request = request(opcode, random.node(), &bytes);
            if let Some(Err(errno)) = answer_to(&merged, &request) {
                assert!((1..4096).contains(&errno.raw_os_error()), "seed {seed}: {request:?}");
            }
        }
        still_serves(&merged, seed);
        drop(merged);
        assert!(contents(folder.path()) == before, "seed {seed}");
    }
}
