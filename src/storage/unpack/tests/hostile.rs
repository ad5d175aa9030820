//! Archives that want out of their tree, or more than their share.

use super::*;

/// An image cannot make overlayfs's own marks: no 0:0 device, no attributes.
#[test]
fn overlay_marks_cannot_be_forged() {
    let place = Place::new();
    let mut device = Archive::header(b"hidden", EntryType::Char, 0);
    device.set_device_major(0).expect("gnu");
    device.set_device_minor(0).expect("gnu");
    place.unpack(
        Archive::default()
            .raw(device, b"")
            .raw(Archive::header(b"disk", EntryType::Block, 0), b"")
            .pax(&[("SCHILY.xattr.user.overlay.opaque", b"y"), ("SCHILY.xattr.trusted.overlay.opaque", b"y")])
            .dir("d/", 0o755)
            .pax(&[("SCHILY.xattr.user.overlay.redirect", b"/etc"), ("SCHILY.xattr.user.ok", b"1")])
            .dir("e/", 0o755),
    );
    assert!(!place.root().join("hidden").exists() && !place.root().join("disk").exists());
    assert!(!place.is_opaque("d"));
    let names = xattr::list(open(&place.root().join("e"))).expect("list");
    assert!(names.contains(&c"user.ok".to_owned()));
    assert!(!names.iter().any(|name| name.to_bytes().starts_with(b"user.overlay.")));
}

/// CVE-2021-41089, CVE-2021-32760, CVE-2026-33056: a link, then a directory
/// entry of its name, to change the mode of what the link points to.
#[test]
fn a_directory_entry_over_a_link_changes_nothing_outside() {
    let place = Place::new();
    let outside = place.outside.to_str().expect("utf-8").to_owned();
    for target in [outside.as_str(), "../outside"] {
        place.unpack(Archive::default().symlink("d", target).dir("d/", 0o777).dir("d", 0o777));
        assert!(place.stat("d").is_dir());
        place.unpack(Archive::default().symlink("d", target).dir("d/dir/", 0o777).file("d/secret", "mine"));
        assert!(place.root().join("outside").exists() || place.stat("d").is_symlink());
    }
}

/// CVE-2018-20990, CVE-2021-38511: a link, then a file of its name.
#[test]
fn files_are_never_written_through_links() {
    let place = Place::new();
    let secret = place.outside.join("secret");
    let secret = secret.to_str().expect("utf-8");
    place.unpack(Archive::default().symlink("f", secret).file("f", "mine"));
    assert_eq!(place.read("f"), "mine");
    place.unpack(Archive::default().symlink("f", secret).hard_link("g", "f").file("g", "mine"));
    assert_eq!(place.read("g"), "mine");
    assert!(place.stat("f").is_symlink());
}

/// Links on the way are followed inside the tree, as docker does.
#[test]
fn links_in_a_path_lead_into_the_tree_and_never_out() {
    let place = Place::new();
    place.unpack(
        Archive::default()
            .dir("usr/bin/", 0o755)
            .symlink("bin", "usr/bin")
            .file("bin/tool", "x")
            .symlink("abs", "/usr")
            .file("abs/bin/other", "y")
            .symlink("up", "../../../../../usr/./lib")
            .file("up/lib.so", "z")
            .symlink("usr/dangling", "../var/new")
            .file("usr/dangling/made", "w"),
    );
    assert_eq!(place.read("usr/bin/tool"), "x");
    assert_eq!(place.read("usr/bin/other"), "y");
    assert_eq!(place.read("usr/lib/lib.so"), "z");
    assert_eq!(place.read("var/new/made"), "w");
    place.refuse(Archive::default().symlink("a", "b").symlink("b", "a").file("a/x", ""));
    place.refuse(Archive::default().symlink("a", "a/a").file("a/x", ""));
    place.refuse(Archive::default().file("f", "").file("f/x", ""));
}

/// CVE-2026-17106: hard links to files outside, directly and through links.
#[test]
fn hard_links_stay_inside_the_tree() {
    let place = Place::new();
    let outside = place.outside.to_str().expect("utf-8").to_owned();
    let secret = format!("{outside}/secret");
    place.refuse(Archive::default().hard_link("h", &secret));
    place.refuse(Archive::default().hard_link("h", "../outside/secret"));
    place.refuse(Archive::default().symlink("d", &outside).hard_link("h", "d/secret"));
    place.refuse(Archive::default().symlink("d", "../outside").hard_link("h", "d/secret"));
    place.refuse(Archive::default().symlink("d", &outside).hard_link("h", "d/secret").file("h", "mine"));
    place.refuse(Archive::default().dir("d/", 0o755).hard_link("h", "d"));
    place.refuse(Archive::default().hard_link("h", "."));
    place.refuse(Archive::default().file(".wh.w", "").hard_link("h", "w"));
    place.refuse(Archive::default().dir("d/", 0o755).hard_link("d", "d/x"));
}

/// The positive twin of CVE-2026-17106, whose fix broke Docker 29.7.0.
#[test]
fn absolute_hard_links_inside_the_tree_work() {
    let place = Place::new();
    place.unpack(
        Archive::default()
            .file("usr/a", "x")
            .hard_link("b", "/usr/a")
            .hard_link("c", "./usr/a")
            .symlink("u", "/usr")
            .hard_link("d", "u/a"),
    );
    for name in ["b", "c", "d"] {
        assert_eq!(place.stat(name).ino(), place.stat("usr/a").ino(), "{name}");
    }
}

/// CVE-2021-29136: entries that speak of the root itself.
#[test]
fn the_root_can_be_described_but_not_replaced() {
    let place = Place::new();
    for name in [".", "/", "./", "/./", "//"] {
        place.unpack(Archive::default().dir(name, 0o700));
        assert_eq!(place.stat(".").mode() & 0o7777, 0o700, "{name}");
        place.refuse(Archive::default().symlink(name, place.outside.to_str().expect("utf-8")));
        place.refuse(Archive::default().hard_link(name, "x"));
        place.refuse(Archive::default().raw(Archive::header(name.as_bytes(), EntryType::Fifo, 0), b""));
    }
    place.refuse(Archive::default().file(".", "x"));
    for name in ["", "..", "a/..", "../x", "/../x", "a/../../x"] {
        place.refuse(Archive::default().file(name, "x"));
        place.refuse(Archive::default().dir(name, 0o777));
    }
    place.refuse(Archive::default().pax(&[("path", b"a\0b")]).file("a", "x"));
    place.refuse(Archive::default().pax(&[("path", &[b'a'; 4097])]).file("a", "x"));
    place.refuse(Archive::default().pax(&[("path", &b"a/".repeat(256))]).dir("a", 0o755));
}

/// CVE-2025-62518, CVE-2026-33055: a file whose data is another archive.
#[test]
fn entries_cannot_be_smuggled_in_data() {
    let place = Place::new();
    let inner = Archive::default().file("smuggled", "evil").0;
    let size = inner.len().to_string();
    let outer = |header_size: u64, pax_size: &str| {
        Archive::default()
            .pax(&[("size", pax_size.as_bytes())])
            .raw(Archive::header(b"f", EntryType::Regular, header_size), &inner)
    };
    place.refuse(outer(0, &size));
    place.refuse(outer(inner.len() as u64, "0"));
    place.refuse(outer(512, &size));
    place.unpack(outer(inner.len() as u64, &size));
    assert_eq!(place.stat("f").len(), inner.len() as u64);
    assert!(!place.root().join("smuggled").exists());
    for kind in [EntryType::Symlink, EntryType::Directory, EntryType::Link, EntryType::Fifo, EntryType::Char]
    {
        let mut header = Archive::header(b"f", kind, inner.len() as u64);
        header.as_old_mut().linkname[0] = b'x';
        place.refuse(Archive::default().raw(header, &inner));
    }
    place.refuse(Archive::default().pax(&[("path", b"a"), ("path", b"b")]).file("c", ""));
    place.refuse(Archive::default().pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("c", ""));
    place.refuse(Archive::default().pax(&[("path", b"a")]));
}

/// GNU tar reads on to a NUL where others stop at the size.
#[test]
fn long_names_have_an_end() {
    let place = Place::new();
    let long = |text: &[u8], padding: &[u8]| {
        let header = Archive::header(b"././@LongLink", EntryType::GNULongName, text.len() as u64);
        Archive::default().raw(header, &[text, padding].concat()).file("f", "x")
    };
    place.unpack(long(b"a/name", b""));
    assert_eq!(place.read("a/name"), "x");
    place.unpack(long(b"a/name\0", b""));
    assert_eq!(place.read("a/name"), "x");
    place.refuse(long(b"a/name", b"s"));
    place.refuse(long(&b"ab/".repeat(171)[..512], b""));
    place.unpack(long(&[&b"ab/".repeat(171)[..511], b"\0"].concat(), b""));
}

/// CVE-2020-1702, CVE-2017-14992, CVE-2025-58183: sizes are believed by no buffer.
#[test]
fn headers_cannot_exhaust_memory() {
    let place = Place::new();
    for kind in [EntryType::XHeader, EntryType::XGlobalHeader, EntryType::GNULongName, EntryType::GNULongLink]
    {
        let error = place.refuse(Archive::default().raw(Archive::header(b"x", kind, 1 << 32), b"1"));
        assert!(error.contains("bytes"), "{error}");
    }
    let mut negative = Archive::header(b"f", EntryType::Regular, 0);
    negative.as_old_mut().size = [0xff; 12];
    place.refuse(Archive::default().raw(negative, b""));
    let mut huge = Archive::header(b"f", EntryType::Regular, 0);
    huge.as_old_mut().size = *b"\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff";
    place.refuse(Archive::default().raw(huge, b""));
    let mut sparse = Archive::header(b"f", EntryType::GNUSparse, 0);
    sparse.as_gnu_mut().expect("gnu").isextended[0] = 1;
    let mut map = tar::GnuExtSparseHeader::new();
    map.isextended[0] = 1;
    for chunk in map.sparse_mut() {
        chunk.set_offset(0);
        chunk.set_length(0);
    }
    let maps = map.as_bytes().repeat(8000);
    let error = place.refuse(Archive::default().raw(sparse, &maps));
    assert!(error.contains("chunks"), "{error}");
}
