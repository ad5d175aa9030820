//! Mutated archives: what is taken is sane, the same however it arrives, and
//! stays in its tree.

use super::*;
use crate::storage::tar_stream::{Entry, Kind, TarStream};
use crate::types::mutation::{Fuzz, Random};

/// Gives a few bytes at a time, as a network does.
struct Trickle<'a>(&'a [u8], u64);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1 = self.1.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let most = usize::try_from(self.1 >> 53).unwrap_or(1).max(1);
        let length = most.min(buffer.len()).min(self.0.len());
        buffer[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Ok(length)
    }
}

/// Reads an archive to its end, and checks each entry.
fn read(mut source: &mut dyn Read) -> Result<(Vec<String>, Digest)> {
    let mut stream = TarStream::new(&mut source);
    let mut seen = Vec::new();
    while let Some(entry) = stream.next_entry()? {
        let mut data = 0;
        while let Some(piece) = stream.data(u64::MAX)? {
            data += piece.len() as u64;
        }
        check(&entry, data);
        seen.push(format!("{entry:?} {data}"));
    }
    Ok((seen, stream.finish()?))
}

fn check(entry: &Entry, data: u64) {
    let path = &entry.path;
    assert!(path.len() <= 4096 && !path.contains(&0), "{entry:?}");
    for component in path.split(|byte| *byte == b'/').filter(|_| !path.is_empty()) {
        assert!(!matches!(component, b"" | b"." | b".."), "{entry:?}");
    }
    assert!(entry.mode <= 0o7777 && i64::try_from(entry.size).is_ok(), "{entry:?}");
    assert!(entry.uid != u32::MAX && entry.gid != u32::MAX && entry.mtime.1 < 1_000_000_000, "{entry:?}");
    assert!(entry.xattrs.iter().all(|(name, _)| !name.to_bytes().starts_with(b"user.overlay.")));
    match &entry.chunks {
        None => assert_eq!(entry.size, data, "{entry:?}"),
        Some(chunks) => {
            assert_eq!(entry.kind, Kind::File);
            assert_eq!(chunks.iter().map(|(_, length)| length).sum::<u64>(), data, "{entry:?}");
            assert!(chunks.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0), "{entry:?}");
            assert!(chunks.last().is_none_or(|(at, length)| at + length <= entry.size), "{entry:?}");
        }
    }
}

/// Makes the checksums of most headers right again: else nothing else is tried.
fn mend(archive: &mut [u8], random: &mut Random) {
    for block in archive.chunks_exact_mut(512) {
        let looks_like_a_header = block[257..262] == *b"ustar" || block[100..108].starts_with(b"0000");
        if looks_like_a_header && random.below(16) != 0 {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

fn good() -> Vec<Vec<u8>> {
    let mut old = Archive::header(b"s", EntryType::GNUSparse, 1024);
    let gnu = old.as_gnu_mut().expect("gnu");
    gnu.set_real_size(1 << 20);
    gnu.sparse[0].set_offset(512);
    gnu.sparse[0].set_length(512);
    gnu.sparse[1].set_offset(1 << 19);
    gnu.sparse[1].set_length(512);
    let long =
        |kind, text: &[u8]| (Archive::header(b"././@LongLink", kind, text.len() as u64), text.to_vec());
    let (name, name_text) = long(EntryType::GNULongName, &[b'n'; 150]);
    let (link, link_text) = long(EntryType::GNULongLink, &[b'l'; 150]);
    let mut map = b"2\n0\n512\n8192\n100\n".to_vec();
    map.resize(512, 0);
    map.extend_from_slice(&[7; 612]);
    let plain = Archive::default()
        .dir("./", 0o755)
        .dir("d/", 0o700)
        .file("d/f", "some text")
        .symlink("d/l", "f")
        .hard_link("h", "d/f")
        .raw(Archive::header(b"p", EntryType::Fifo, 0), b"");
    let extended = Archive::default()
        .pax(&[("path", b"a/long/name"), ("mtime", b"1.5"), ("SCHILY.xattr.user.x", b"\n=y"), ("uid", b"7")])
        .file("a", "x")
        .raw(name, &name_text)
        .raw(link, &link_text)
        .symlink("n", "l");
    let sparse = Archive::default()
        .raw(old, &[1; 1024])
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"one"),
            ("GNU.sparse.realsize", b"9000"),
        ])
        .raw(Archive::header(b"x", EntryType::Regular, map.len() as u64), &map)
        .pax(&[("GNU.sparse.size", b"9000"), ("GNU.sparse.numblocks", b"1"), ("GNU.sparse.map", b"4096,512")])
        .raw(Archive::header(b"y", EntryType::Regular, 512), &[2; 512]);
    let whiteouts = Archive::default().file("d/.wh.gone", "").file("e/.wh..wh..opq", "").file("e/f", "x");
    vec![plain.end(), whiteouts.end(), extended.end(), sparse.end(), Archive::default().end()]
}

/// What means something in an archive.
const WORDS: &[&[u8]] = &[
    b"..",
    b"../",
    b"/",
    b"./",
    b"\0",
    b"../outside/secret",
    b"00000001000\0",
    b"77777777777\0",
    b"\x80\0\0\0\0\0\0\x01\0\0\0\0",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"ustar\x0000",
    b"ustar  \0",
    b"x",
    b"g",
    b"L",
    b"K",
    b"S",
    b"1",
    b"2",
    b"5",
    b"20 path=../outside\n",
    b"12 size=512\n",
    b"9 path=a\n",
    b"28 GNU.sparse.map=0,512,1,2\n",
    b"22 GNU.sparse.major=1\n",
    b".wh.",
    b".wh..wh..opq",
    &[0; 512],
];

/// Kind, length, content and link text of everything below `root` that its
/// owner may look at.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(meta) = entry.metadata() else { continue };
            let said = if meta.is_dir() {
                pending.push(path.clone());
                "directory".to_owned()
            } else if meta.is_symlink() {
                format!("link {}", fs::read_link(&path).expect("link").display())
            } else if meta.is_file() {
                let content =
                    if meta.len() < 1 << 20 { fs::read(&path).unwrap_or_default() } else { Vec::new() };
                format!("file {} {}", meta.len(), Digest::of(&content))
            } else {
                format!("{:?}", meta.file_type())
            };
            found.insert(path.strip_prefix(root).expect("below").to_owned(), said);
        }
    }
    found
}

/// What GNU tar makes of an archive; `None` where it complains.
fn by_gnu_tar(archive: &[u8], place: &Place) -> Option<BTreeMap<PathBuf, String>> {
    use std::io::Write;
    use std::process::{Command, Stdio};
    place.make_anew(c"theirs");
    let root = place.temp.path().join("theirs");
    let mut command = Command::new("tar");
    command.args(["-x", "--no-same-owner", "--no-same-permissions", "-f", "-", "-C"]).arg(&root);
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = pipes.spawn().ok()?;
    // It may end before it has read everything.
    child.stdin.take().expect("a pipe").write_all(archive).ok();
    child.wait().expect("waited").success().then(|| tree(&root))
}

/// CVE-2025-62518: no archive is taken of which GNU tar makes something else.
#[test]
fn mutated_archives_are_to_gnu_tar_what_they_are_here() {
    let place = Place::new();
    if by_gnu_tar(&Archive::default().file("f", "x").end(), &place).is_none() {
        eprintln!("skipped: there is no GNU tar");
        return;
    }
    let mut compared = 0;
    let fuzz = Fuzz { name: "tar beside GNU tar", good: good(), words: WORDS, short: 600 };
    fuzz.run(|bytes, random| {
        let mut archive = bytes.to_vec();
        mend(&mut archive, random);
        let taken = read(&mut &archive[..]).is_ok();
        // Whiteouts are a layer's, and links to what a link hides are tar's affair.
        let of_layers = archive.windows(4).any(|four| four == b".wh.");
        if taken && !of_layers && place.try_unpack(&archive).is_ok() {
            if let Some(theirs) = by_gnu_tar(&archive, &place) {
                assert_eq!(tree(&place.root()), theirs);
                compared += 1;
            }
        }
        taken
    });
    place.make_anew(c"root");
    place.make_anew(c"theirs");
    assert!(compared > 40, "only {compared} were compared");
}

#[test]
fn mutated_archives_are_read_in_one_way_and_stay_in_their_tree() {
    let place = Place::new();
    let outside = format!("{}/secret", place.outside.display());
    let words = [WORDS, &[outside.as_bytes()]].concat();
    let fuzz = Fuzz { name: "tar", good: good(), words: &words, short: 4_000 };
    fuzz.run(|bytes, random| {
        let mut archive = bytes.to_vec();
        mend(&mut archive, random);
        let whole = read(&mut &archive[..]);
        let trickled = read(&mut Trickle(&archive, random.next()));
        match (&whole, &trickled) {
            (Ok(one), Ok(other)) => assert_eq!(one, other),
            (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string()),
            (one, other) => panic!("it depends on how it comes: {one:?} {other:?}"),
        }
        // Of what is taken all is unpacked, of the rest a part: that costs most.
        if whole.is_ok() || random.below(8) == 0 {
            let unpacked = place.try_unpack(&archive);
            assert!(whole.is_ok() || unpacked.is_err(), "unpacked, but not read");
        }
        whole.is_ok()
    });
    place.make_anew(c"root");
}
