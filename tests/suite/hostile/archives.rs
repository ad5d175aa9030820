//! Archives that two readers would see differently, that are cut off or grow
//! without measure, and trees that change while they are packed: the rest of the
//! rows "Image unpack". Each hostile archive goes in by every door there is, and
//! has a benign twin that must get in.

use super::tree;
use crate::harness::fake_registry::{FakeRegistry, Reply, Served};
use crate::harness::image::{ImageBuilder, Layer};
use crate::harness::process::{Output, Running};
use crate::harness::{Image, Need, Sandbox, SubIds, sandbox, until};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const TAR: Need = Need::Program("tar");
const GZIP: Need = Need::Program("gzip");

/// A header and what follows it, as they are told: nothing here is checked.
fn entry(name: &[u8], kind: u8, size: u64, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkflag = [kind];
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(size);
    header.set_cksum();
    let mut bytes = [header.as_bytes(), content].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    entry(name.as_bytes(), b'0', content.len() as u64, content)
}

/// A PAX header of such records.
fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut content = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length =
            (1..10).map(|digits| rest + digits).find(|all| all.to_string().len() + rest == *all).unwrap();
        content.extend_from_slice(format!("{length} {key}=").as_bytes());
        content.extend_from_slice(value);
        content.push(b'\n');
    }
    entry(b"pax", b'x', content.len() as u64, &content)
}

fn archive(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat(), vec![0; 1024]].concat()
}

/// What becomes of an archive at each of the doors: as a layer that is loaded,
/// imported and pulled, into a volume, and into a container.
fn at_all_doors(sandbox: &Sandbox, bytes: &[u8]) -> Vec<(&'static str, Output)> {
    let path = sandbox.file("door.tar", bytes);
    let path = path.to_str().unwrap();
    let loaded = ImageBuilder::new().layer(Layer::raw(bytes)).archive("loaded");
    let loaded = sandbox.file("loaded.tar", loaded);
    let served = Served::new(bytes.to_vec());
    let registry = FakeRegistry::start(move |asked| served.answer(asked));
    vec![
        ("cp", sandbox.coracle_with(bytes, ["cp", "-", "door:/tmp"])),
        ("load", sandbox.coracle(["load", "-q", "-i", loaded.to_str().unwrap()])),
        ("import", sandbox.coracle(["import", path, "imported"])),
        ("pull", sandbox.coracle(["pull", "-q", "--retry=0", &format!("{}/app:1", registry.address)])),
        ("volume import", sandbox.coracle(["volume", "import", "door", path])),
    ]
}

/// A container and a volume to put archives into.
fn with_doors(sandbox: &Sandbox) {
    ImageBuilder::with_programs().load(sandbox, "door");
    sandbox.ok(["create", "--name", "door", "--network", "none", "door", "true"]);
    sandbox.ok(["volume", "create", "door"]);
}

#[track_caller]
fn all_refuse(sandbox: &Sandbox, what: &str, bytes: &[u8]) {
    for (door, output) in at_all_doors(sandbox, bytes) {
        // `cli/exit`: moving an image fails as run does.
        let code = if matches!(door, "cp" | "volume import") { 1 } else { 125 };
        assert!(output.code() == code && !output.stderr.contains("panicked"), "{what} by {door}: {output}");
    }
}

#[track_caller]
fn all_take(sandbox: &Sandbox, what: &str, bytes: &[u8]) {
    for (door, output) in at_all_doors(sandbox, bytes) {
        assert!(output.code() == 0, "{what} by {door}: {output}");
    }
}

/// TARmageddon (CVE-2025-62518), CVE-2026-33055, CVE-2026-32766 and their kin: a
/// file for one reader is an archive with entries of its own for another.
#[test]
fn cve_2025_62518_what_two_readers_see_differently_is_refused() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest"), SubIds]) else { return };
    with_doors(&sandbox);
    let inner = file("smuggled", b"evil");
    let size = inner.len() as u64;
    let length = size.to_string();
    let as_pax = |size: &str, header: u64| {
        archive(&[pax(&[("size", size.as_bytes())]), entry(b"f", b'0', header, &inner)])
    };
    let long = |text: &[u8]| entry(b"././@LongLink", b'L', text.len() as u64, text);
    let mut wrong_sum = file("f", b"x");
    wrong_sum[0] = b'g';
    let mut global = pax(&[("size", b"0")]);
    global[156] = b'g';
    let sum: u32 = (0..512).map(|at| if (148..156).contains(&at) { 32 } else { u32::from(global[at]) }).sum();
    global[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let hostile: Vec<(&str, Vec<u8>)> = vec![
        ("no size, and one in PAX", as_pax(&length, 0)),
        ("a size, and none in PAX", as_pax("0", size)),
        ("two sizes", as_pax(&length, 512)),
        ("a negative size in PAX", as_pax("-1", size)),
        ("two values of a key", archive(&[pax(&[("path", b"a"), ("path", b"b")]), file("f", b"x")])),
        ("two PAX headers", archive(&[pax(&[("path", b"a")]), pax(&[("path", b"b")]), file("f", b"x")])),
        ("two long names", archive(&[long(b"a\0"), long(b"b\0"), file("f", b"x")])),
        ("a long name with more behind its end", archive(&[long(b"a\0b\0"), file("f", b"x")])),
        ("two kinds of long names", archive(&[long(b"a\0"), pax(&[("path", b"b")]), file("f", b"x")])),
        (
            "a PAX record that lies about its length",
            archive(&[entry(b"p", b'x', 9, b"12 path=a"), file("f", b"x")]),
        ),
        ("a size for all", archive(&[global, file("f", b"x")])),
        ("a link with content", archive(&[entry(b"l", b'2', size, &inner)])),
        ("a directory with content", archive(&[entry(b"d/", b'5', size, &inner)])),
        ("a wrong sum", archive(&[wrong_sum])),
        ("a block of zeros", archive(&[file("f", b"x"), vec![0; 512], file("g", b"y")])),
        ("a second archive", [archive(&[file("f", b"x")]), archive(&[file("g", b"y")])].concat()),
        (
            "a sparse file in two forms",
            archive(&[
                pax(&[
                    ("GNU.sparse.major", b"1"),
                    ("GNU.sparse.minor", b"0"),
                    ("GNU.sparse.realsize", b"9"),
                    ("GNU.sparse.map", b"0,9"),
                ]),
                entry(b"f", b'0', size, &inner),
            ]),
        ),
        (
            "a sparse map that is not the data's",
            archive(&[
                pax(&[
                    ("GNU.sparse.size", b"99"),
                    ("GNU.sparse.numblocks", b"1"),
                    ("GNU.sparse.map", b"0,9"),
                ]),
                entry(b"f", b'0', size, &inner),
            ]),
        ),
        ("an unknown type", archive(&[entry(b"f", b'Z', 0, b"")])),
    ];
    for (what, bytes) in &hostile {
        // What a container does with the end of a stream is its own: `cp -` reads
        // to the end of the archive, as docker's does.
        let of_the_end = matches!(*what, "a second archive");
        if of_the_end {
            sandbox.coracle(["import", sandbox.file("end.tar", bytes).to_str().unwrap(), "x"]).refused(&[]);
        } else {
            all_refuse(&sandbox, what, bytes);
        }
    }
    let smuggled = tree(sandbox.root()).into_keys().find(|path| path.ends_with("smuggled"));
    assert_eq!(smuggled, None);

    let mut comment = pax(&[("comment", b"0123")]);
    comment[156] = b'g';
    let sum: u32 =
        (0..512).map(|at| if (148..156).contains(&at) { 32 } else { u32::from(comment[at]) }).sum();
    comment[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let benign: Vec<(&str, Vec<u8>)> = vec![
        ("an archive as a file's content", archive(&[file("outer.tar", &inner)])),
        ("a size that is said twice", as_pax(&length, size)),
        ("one long name", archive(&[long(&[[b'n'; 150].as_slice(), b"\0"].concat()), file("f", b"x")])),
        ("the same value twice", archive(&[pax(&[("path", b"a"), ("path", b"a")]), file("f", b"x")])),
        ("a comment for all", archive(&[comment, file("f", b"x")])),
        ("no end", file("f", b"x")),
        (
            "a sparse file",
            archive(&[
                pax(&[
                    ("GNU.sparse.size", b"9000"),
                    ("GNU.sparse.numblocks", b"1"),
                    ("GNU.sparse.map", b"4096,512"),
                ]),
                entry(b"f", b'0', 512, &[1; 512]),
            ]),
        ),
    ];
    for (what, bytes) in &benign {
        all_take(&sandbox, what, bytes);
    }
}

/// CVE-2025-11395, CVE-2021-29136, CVE-2026-33056: the corpus of names and links
/// at every door; nothing outside is touched.
#[test]
fn cve_2025_11395_every_door_has_the_same_lock() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest"), SubIds]) else { return };
    with_doors(&sandbox);
    let victim = super::victim(&sandbox);
    let at = victim.to_str().unwrap();
    let link = |name: &str, kind: u8, target: &str| {
        let mut bytes = entry(name.as_bytes(), kind, 0, b"");
        bytes[157..157 + target.len()].copy_from_slice(target.as_bytes());
        let sum: u32 =
            (0..512).map(|at| if (148..156).contains(&at) { 32 } else { u32::from(bytes[at]) }).sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes
    };
    let dir = |name: &str| entry(name.as_bytes(), b'5', 0, b"");
    let secret = format!("{at}/secret");
    let climbing = format!("../../../../../../../../../..{at}");
    let refused: Vec<(&str, Vec<u8>)> = vec![
        ("a climbing name", archive(&[file(&format!("{}/new", &climbing[..30]), b"x")])),
        ("a name of dots", archive(&[file("..", b"x")])),
        ("a name that climbs within", archive(&[file("a/../../x", b"x")])),
        ("no name", archive(&[file("", b"x")])),
        ("a NUL in a name", archive(&[pax(&[("path", b"a\0b")]), file("f", b"x")])),
        ("a name of 4097 bytes", archive(&[pax(&[("path", &[b'a'; 4097])]), file("f", b"x")])),
        ("a hard link out", archive(&[link("h", b'1', &secret), file("h", b"mine")])),
        ("a hard link through a link", archive(&[link("d", b'2', at), link("h", b'1', "d/secret")])),
    ];
    let before = tree(&victim);
    for (what, bytes) in &refused {
        all_refuse(&sandbox, what, bytes);
        assert_eq!(tree(&victim), before, "{what}");
    }
    // Refused or confined, as the door has it: never outside.
    for (what, bytes) in [
        ("a directory over a link", archive(&[link("d", b'2', at), dir("d/")])),
        (
            "a file through a link",
            archive(&[link("d", b'2', at), file("d/new", b"x"), file("d/secret", b"x")]),
        ),
        ("a file through a climbing link", archive(&[link("d", b'2', &climbing), file("d/new", b"x")])),
        ("a file over a link", archive(&[link("f", b'2', &secret), file("f", b"x")])),
        ("the root as a link", archive(&[link("./", b'2', at), file("new", b"x")])),
        ("the root as a directory", archive(&[dir("./"), dir("/"), file("new", b"x")])),
        ("a device", archive(&[entry(b"null", b'3', 0, b"")])),
    ] {
        for (door, output) in at_all_doors(&sandbox, &bytes) {
            assert!(
                [0, 1, 125].contains(&output.code()) && !output.stderr.contains("panicked"),
                "{what} by {door}: {output}"
            );
            assert_eq!(tree(&victim), before, "{what} by {door}");
        }
    }
    all_take(
        &sandbox,
        "links inside",
        &archive(&[
            dir("inside/"),
            file("inside/f", b"x"),
            link("l", b'2', "inside/f"),
            link("h", b'1', "/inside/f"),
            link("up", b'2', "../../etc"),
        ]),
    );
}

/// The Incus rows (CVE-2026-48749 and others): a name in an archive of images is
/// never a path on the host; a link leads to another name of the archive.
#[test]
fn cve_2026_48749_links_in_an_archive_of_images_stay_in_it() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest"), SubIds]) else { return };
    let secret = sandbox.file("victim.json", b"[{\"Config\":\"secret of the host\"}]");
    let refused = |layer: Layer| {
        let path = sandbox.file("links.tar", layer.into_bytes());
        let output = sandbox.coracle(["load", "-i", path.to_str().unwrap()]).refused(&[]);
        assert!(!output.stderr.contains("secret of the host"), "{output}");
    };
    let manifest = |layer: &str| format!(r#"[{{"Config":"c.json","RepoTags":["x"],"Layers":["{layer}"]}}]"#);
    refused(Layer::new().symlink("manifest.json", secret.to_str().unwrap()));
    refused(Layer::new().hard_link("manifest.json", secret.to_str().unwrap()));
    refused(Layer::new().symlink("manifest.json", "../victim.json"));
    refused(Layer::new().symlink("a", "b").symlink("b", "a").symlink("manifest.json", "a"));
    refused(Layer::new().file("manifest.json", manifest("../victim.json").as_bytes()));
    refused(Layer::new().file("manifest.json", manifest("/etc/passwd").as_bytes()));
    // What old versions of `docker save` wrote: a layer twice, once as a link.
    let whole = ImageBuilder::with_programs().layer(Layer::new().file("etc/name", b"twin")).archive("twin");
    let mut again = tar::Builder::new(Vec::new());
    for (number, member) in tar::Archive::new(&whole[..]).entries().unwrap().enumerate() {
        let mut member = member.unwrap();
        let name = member.path().unwrap().into_owned();
        let mut header = member.header().clone();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut member, &mut bytes).unwrap();
        if number == 1 {
            again.append_data(&mut header, "real/layer.tar", &bytes[..]).unwrap();
            let mut link = tar::Header::new_gnu();
            link.set_entry_type(tar::EntryType::Symlink);
            link.set_size(0);
            again.append_link(&mut link, &name, "real/layer.tar").unwrap();
        } else {
            again.append_data(&mut header, &name, &bytes[..]).unwrap();
        }
    }
    sandbox.load(&sandbox.file("twin.tar", again.into_inner().unwrap()));
    assert_eq!(sandbox.run(&["twin", "cat", "/etc/name"]).ok().text(), "twin");
}

/// What cannot be unpacked here is refused, and no program of the host's or the
/// image's is asked: zip (CVE-2025-3445 and others), lz4 (CVE-2026-32829), xz
/// (CVE-2026-41567), which this process unpacks by itself.
#[test]
fn cve_2026_41567_other_formats_are_refused_in_process() {
    let Some(mut sandbox) = sandbox(&[Image("busybox"), Image("guest"), SubIds]) else { return };
    let said = sandbox.path("work/called");
    for program in ["xz", "unxz", "bunzip2", "bzip2", "unzip", "lz4", "gzip", "unpigz", "pigz", "zstd", "tar"]
    {
        let path = sandbox
            .file(&format!("programs/{program}"), format!("#!/bin/sh\necho $0 >>{}\n", said.display()));
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", sandbox.path("work/programs").display(), std::env::var("PATH").unwrap());
    sandbox.set("PATH", &path);
    with_doors(&sandbox);
    for (what, head) in [
        ("zip", &b"PK\x03\x04"[..]),
        ("xz", b"\xfd7zXZ\0"),
        ("bzip2", b"BZh91AY&SY"),
        ("lz4", b"\x04\x22\x4d\x18"),
        ("7z", b"7z\xbc\xaf\x27\x1c"),
    ] {
        all_refuse(&sandbox, what, &[head, &[7; 4096]].concat());
    }
    all_take(&sandbox, "a plain archive", &archive(&[file("f", b"x")]));
    assert!(!said.exists(), "{:?}", std::fs::read_to_string(&said));
}

fn compressed(sandbox: &Sandbox, program: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut command = sandbox.command(program);
    command.args(["-c", sandbox.file("plain", bytes).to_str().unwrap()]);
    crate::harness::needs::program(program)?;
    Some(command.output().unwrap().stdout)
}

/// CVE-2021-20291: a layer that ends too early fails at once, frees the store,
/// and the next pull works.
#[test]
fn cve_2021_20291_truncated_compressed_layers_end_soon_and_free_the_store() {
    let Some(sandbox) = sandbox(&[SubIds, GZIP]) else { return };
    let noise: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let plain = archive(&[file("etc/name", &noise)]);
    for program in ["gzip", "zstd", "xz", "bzip2"] {
        let Some(whole) = compressed(&sandbox, program, &plain) else { continue };
        for part in [1, 5, 9] {
            let cut = &whole[..whole.len() * part / 10];
            let mut served = Served::new(plain.clone());
            served.replace_layer(cut.to_vec());
            let registry = FakeRegistry::start(move |asked| served.answer(asked));
            let name = format!("{}/app:1", registry.address);
            sandbox.coracle(["pull", "-q", "--retry=0", &name]).refused(&[]);
            assert_eq!(sandbox.ok(["images", "-q", "-a"]), "");
        }
        let mut served = Served::new(plain.clone());
        served.replace_layer(whole);
        let registry = FakeRegistry::start(move |asked| served.answer(asked));
        let name = format!("{}/app:1", registry.address);
        sandbox.ok(["pull", "-q", &name]);
        sandbox.ok(["rmi", &name]);
    }
}

/// CVE-2020-1702, CVE-2025-58183, CVE-2017-14992: what promises to be huge is read
/// in bounded memory.
#[test]
fn cve_2025_58183_bombs_are_read_in_bounded_memory() {
    let Some(sandbox) = sandbox(&[SubIds, GZIP]) else { return };
    // Each promises more than what follows, which is much as well.
    let zeros = vec![b'0'; 8 << 20];
    let header = archive(&[entry(b"p", b'x', 4 << 30, &zeros)]);
    let name = archive(&[entry(b"././@LongLink", b'L', 4 << 30, &zeros)]);
    let sparse: &[(&str, &[u8])] =
        &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"1")];
    let mut lines = b"1000000\n".to_vec();
    lines.resize(8 << 20, b'1');
    let map = archive(&[pax(sparse), entry(b"f", b'0', 4 << 30, &lines)]);
    let manifest = archive(&[entry(b"manifest.json", b'0', 8 << 20, &zeros)]);
    let bounded = |words: &[&str], bytes: &[u8], takes: bool| {
        let archive = sandbox.file("bomb.tar.gz", compressed(&sandbox, "gzip", bytes).unwrap());
        let mut command: Command = sandbox.command("sh");
        // Of address space: binary, threads' stacks and all.
        command.args(["-c", "ulimit -v 400000; exec \"$@\"", "sh"]);
        command.arg(crate::harness::binary()).args(words).arg(&archive);
        let output = Running::start(command).wait();
        assert_eq!(output.code() == 0, takes, "{words:?}: {output}");
        assert!(!output.stderr.contains("allocation") && !output.stderr.contains("panicked"), "{output}");
    };
    bounded(&["load", "-i"], &manifest, false);
    bounded(&["import"], &header, false);
    bounded(&["import"], &name, false);
    bounded(&["import"], &map, false);
    // A large file is no bomb.
    bounded(&["import"], &archive(&[file("f", &zeros)]), true);
}

/// CVE-2023-0778: a volume is packed while somebody exchanges a file for a link
/// out of it.
#[test]
fn cve_2023_0778_an_export_follows_no_link() {
    let Some(sandbox) = sandbox(&[SubIds, TAR]) else { return };
    let victim = super::victim(&sandbox);
    sandbox.ok(["volume", "create", "v"]);
    let data = sandbox.data().join("volumes/v/_data");
    std::fs::create_dir_all(data.join("dir")).unwrap();
    std::fs::write(data.join("dir/secret"), "own\n").unwrap();
    std::fs::write(data.join("file"), "own\n").unwrap();
    std::os::unix::fs::symlink(&victim, data.join("link-dir")).unwrap();
    std::os::unix::fs::symlink(victim.join("secret"), data.join("link-file")).unwrap();
    let mut seen = BTreeMap::new();
    super::links::while_swapping(&data.join("dir"), &data.join("link-dir"), || {
        super::links::while_swapping(&data.join("file"), &data.join("link-file"), || {
            for round in 0..60 {
                let path = sandbox.path(&format!("work/{}.tar", round % 2));
                let output = sandbox.coracle(["volume", "export", "-o", path.to_str().unwrap(), "v"]);
                if output.code() == 0 {
                    let bytes = std::fs::read(&path).unwrap();
                    let text = String::from_utf8_lossy(&bytes);
                    assert!(!text.contains("the host's"), "round {round}");
                    *seen.entry(text.contains("own")).or_insert(0) += 1;
                }
            }
        });
    });
    assert!(seen.contains_key(&true), "nothing was exported at all: {seen:?}");
}

/// CVE-2026-41568, CVE-2026-42306: a copy out of a container at rest makes no
/// place for its mounts where the image's links lead.
#[test]
fn cve_2026_41568_a_copy_makes_nothing_on_the_host() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest"), SubIds]) else { return };
    let victim = super::victim(&sandbox);
    let before = tree(&victim);
    let layer = Layer::new().symlink("out", victim.to_str().unwrap()).file("etc/name", b"inside");
    ImageBuilder::with_programs().layer(layer).load(&sandbox, "linked");
    for (name, place) in [("hostile", "/out/made/here"), ("honest", "/data")] {
        sandbox.ok([
            "create",
            "--name",
            name,
            "--network",
            "none",
            "-v",
            &format!("{name}:{place}"),
            "linked",
            "true",
        ]);
        sandbox.ok(["cp", &format!("{name}:/etc/name"), "got"]);
        sandbox.ok(["cp", "got", &format!("{name}:/tmp/put")]);
        assert_eq!(std::fs::read_to_string(sandbox.path("work/got")).unwrap(), "inside");
        assert_eq!(tree(&victim), before, "{name}");
    }
    sandbox.ok(["cp", "got", "honest:/data/got"]);
    assert_eq!(sandbox.run(&["-v", "honest:/data", "linked", "cat", "/data/got"]).ok().text(), "inside");
}

/// containerd's CVE-2025-47290: while a layer arrives there is nothing of it
/// where layers are looked for, and nobody else may enter where it is.
#[test]
fn cve_2025_47290_a_layer_is_published_whole() {
    let Some(sandbox) = sandbox(&[SubIds]) else { return };
    let layers = sandbox.data().join("layers");
    let served = Served::new(archive(&[file("first", &[1; 700_000]), file("last", b"x")]));
    let (gate, watched) = (sandbox.path("work/gate"), sandbox.path("work/gate"));
    let registry = FakeRegistry::start(move |asked| {
        let reply = served.answer(asked);
        if asked.path != served.layer_path() {
            return reply;
        }
        // The beginning, and the rest only when the test has looked.
        match asked.header("range") {
            None => Reply { cut: Some(600_000), ..reply },
            Some(_) => {
                until("the test to have looked", || gate.exists().then_some(()));
                reply
            }
        }
    });
    let name = format!("{}/app:1", registry.address);
    let pull = sandbox.spawn(["pull", "-q", "--retry-delay=10ms", &name]);
    let begun = || -> Option<PathBuf> {
        let entries = std::fs::read_dir(&layers).ok()?.flatten();
        entries.map(|entry| entry.path()).find(|path| path.join("root/first").exists())
    };
    let place = until("the layer to be unpacked in part", begun);
    use std::os::unix::fs::PermissionsExt;
    let is_published = |path: &Path| path.file_name().unwrap().len() == 64;
    assert!(!is_published(&place), "{}", place.display());
    assert_eq!(std::fs::metadata(&layers).unwrap().permissions().mode() & 0o077, 0);
    assert!(sandbox.ok(["images", "-q"]).is_empty());
    std::fs::File::create(watched).unwrap().flush().unwrap();
    pull.wait().ok();
    let published =
        std::fs::read_dir(&layers).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    assert!(
        published.len() == 1 && is_published(&published[0]) && published[0].join("root/last").exists(),
        "{published:?}"
    );
}
