//! Archives made by hand; the hostile ones in a file of their own.

mod fuzz;
mod hostile;

use super::*;
use crate::storage::layers::LayerStore;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tar::EntryType;

/// An archive under construction, without the checks of the `tar` crate's builder.
#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn header(name: &[u8], kind: EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_500_000_000);
        header.set_size(size);
        header
    }

    fn raw(mut self, mut header: tar::Header, content: &[u8]) -> Self {
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, content: &str) -> Self {
        self.raw(Self::header(name.as_bytes(), EntryType::Regular, content.len() as u64), content.as_bytes())
    }

    fn dir(self, name: &str, mode: u32) -> Self {
        let mut header = Self::header(name.as_bytes(), EntryType::Directory, 0);
        header.set_mode(mode);
        self.raw(header, b"")
    }

    fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        let mut header = Self::header(name.as_bytes(), kind, 0);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        self.raw(header, b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, name, target)
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Link, name, target)
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut content = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (1..10).map(|digits| rest + digits).find(|all| all.to_string().len() + rest == *all);
            content.extend_from_slice(format!("{} {key}=", length.expect("some length")).as_bytes());
            content.extend_from_slice(value);
            content.push(b'\n');
        }
        self.raw(Self::header(b"pax", EntryType::XHeader, content.len() as u64), &content)
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A place with something worth protecting beside the tree.
struct Place {
    temp: tempfile::TempDir,
    outside: PathBuf,
}

impl Place {
    fn new() -> Self {
        let temp = tempfile::tempdir().expect("tempdir");
        let outside = temp.path().join("outside");
        fs::create_dir_all(outside.join("dir")).expect("mkdir");
        fs::write(outside.join("secret"), "host").expect("write");
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o700)).expect("chmod");
        fs::set_permissions(outside.join("secret"), fs::Permissions::from_mode(0o600)).expect("chmod");
        Self { temp, outside }
    }

    fn root(&self) -> PathBuf {
        self.temp.path().join("root")
    }

    /// Unpacks over an empty directory, then checks that nothing outside changed.
    fn try_unpack(&self, archive: &[u8]) -> Result<Unpacked> {
        self.make_anew(c"root");
        let before = snapshot(&self.outside);
        let result = unpack(open(&self.root()), &mut &archive[..], Ownership::Squash);
        assert_eq!(before, snapshot(&self.outside), "something outside was changed");
        result
    }

    /// An empty directory, whatever permissions the one before had in it.
    fn make_anew(&self, name: &CStr) {
        let above = open(self.temp.path());
        if rustix::fs::accessat(&above, name, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok() {
            remove_tree(above.as_fd(), name).expect("removed");
        }
        rustix::fs::mkdirat(&above, name, Mode::RWXU).expect("mkdir");
    }

    fn unpack(&self, archive: Archive) {
        self.try_unpack(&archive.end()).expect("an honest archive");
    }

    fn refuse(&self, archive: Archive) -> String {
        self.try_unpack(&archive.end()).expect_err("a hostile archive").to_string()
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn stat(&self, path: &str) -> fs::Metadata {
        self.root().join(path).symlink_metadata().unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn is_opaque(&self, path: &str) -> bool {
        xattr::get(open(&self.root().join(path)), crate::storage::whiteout::OPAQUE).expect("xattr")
            == Some(b"y".to_vec())
    }

    fn is_whiteout(&self, path: &str) -> bool {
        crate::storage::whiteout::is_device(&rustix::fs::lstat(self.root().join(path)).expect("stat"))
    }
}

fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, crate::storage::descent::OPEN_DIR, Mode::empty()).expect("open")
}

fn snapshot(dir: &Path) -> BTreeMap<PathBuf, (u32, u64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for path in [dir.to_owned(), dir.join("secret"), dir.join("dir")] {
        let meta = path.symlink_metadata().expect("still there");
        let content = if meta.is_file() {
            fs::read(&path).expect("read")
        } else {
            fs::read_dir(&path).expect("list").count().to_string().into_bytes()
        };
        found.insert(path, (meta.mode(), meta.nlink(), meta.mtime(), content));
    }
    found
}

#[test]
fn files_links_modes_and_times_come_out_as_they_went_in() {
    let place = Place::new();
    let mut suid = Archive::header(b"bin/su", EntryType::Regular, 2);
    suid.set_mode(0o4755);
    let mut fifo = Archive::header(b"pipe", EntryType::Fifo, 0);
    fifo.set_mode(0o622);
    let archive = Archive::default()
        .dir("./", 0o711)
        .dir("bin/", 0o555)
        .raw(suid, b"su")
        .pax(&[("mtime", b"1600000000.987654321"), ("SCHILY.xattr.user.note", b"a\nb")])
        .file("bin/note", "text")
        .symlink("bin/sh", "/no/where")
        .hard_link("bin/sudo", "bin/su")
        .raw(fifo, b"")
        .file("implied/deep/file", "x");
    place.unpack(archive);
    assert_eq!(place.stat(".").mode() & 0o7777, 0o711);
    assert_eq!(place.stat("bin").mode() & 0o7777, 0o555);
    assert_eq!(place.stat("bin").mtime(), 1_500_000_000, "set after its files");
    assert_eq!(place.stat("bin/su").mode() & 0o7777, 0o4755);
    assert_eq!(place.stat("bin/su").ino(), place.stat("bin/sudo").ino());
    assert_eq!(fs::read_link(place.root().join("bin/sh")).expect("link"), Path::new("/no/where"));
    assert_eq!(place.stat("bin/sh").mtime(), 1_500_000_000);
    assert_eq!(
        (place.stat("bin/note").mtime(), place.stat("bin/note").mtime_nsec()),
        (1_600_000_000, 987_654_321)
    );
    assert_eq!(place.stat("pipe").mode(), libc::S_IFIFO | 0o622);
    assert_eq!(place.stat("implied/deep").mode() & 0o7777, 0o755);
    let note = fs::File::open(place.root().join("bin/note")).expect("open");
    assert_eq!(xattr::get(&note, c"user.note").expect("xattr"), Some(b"a\nb".to_vec()));
}

#[test]
fn an_archive_that_says_nothing_has_a_root_of_0755() {
    let place = Place::new();
    place.unpack(Archive::default());
    assert_eq!(place.stat(".").mode() & 0o7777, 0o755);
    assert!(place.try_unpack(b"").is_ok(), "an empty stream");
    assert!(place.try_unpack(&[0; 10240]).is_ok());
}

#[test]
fn a_later_entry_replaces_an_earlier_one() {
    let place = Place::new();
    place.unpack(
        Archive::default()
            .file("a", "old and long")
            .file("a", "new")
            .dir("d/", 0o755)
            .file("d/kept", "kept")
            .dir("d/", 0o700)
            .dir("file-over-dir/", 0o755)
            .file("file-over-dir/sub/x", "x")
            .file("file-over-dir", "file")
            .file("dir-over-file", "x")
            .dir("dir-over-file/", 0o755)
            .file("dir-over-file/y", "y")
            .symlink("link", "a")
            .file("link", "no link")
            .hard_link("h", "a")
            .hard_link("h", "a")
            .hard_link("a", "a"),
    );
    assert_eq!(place.read("a"), "new");
    assert_eq!(place.stat("d").mode() & 0o7777, 0o700);
    assert_eq!(place.read("d/kept"), "kept");
    assert_eq!(place.read("file-over-dir"), "file");
    assert_eq!(place.read("dir-over-file/y"), "y");
    assert_eq!(place.read("link"), "no link");
    assert_eq!(place.stat("h").nlink(), 2);
}

/// A directory that is on the way is replaced through another name.
#[test]
fn a_directory_replaced_through_a_link_is_not_written_to() {
    let place = Place::new();
    place.unpack(
        Archive::default()
            .file("a/b/one", "1")
            .symlink("alias", "a")
            .file("a/b/two", "2")
            .file("alias/b", "now a file")
            .dir("alias/b/", 0o755)
            .file("a/b/three", "3"),
    );
    assert_eq!(place.read("a/b/three"), "3");
    assert!(!place.root().join("a/b/one").exists());
    // The very directory whose name begins the path.
    place.unpack(
        Archive::default().dir("y/", 0o755).symlink("x/up", "/").symlink("x/up/x", "y").file("x/z", "in y"),
    );
    assert_eq!(place.read("y/z"), "in y");
}

#[test]
fn whiteouts_hide_what_lies_below_in_any_order() {
    let place = Place::new();
    place.unpack(
        Archive::default()
            .file("d/.wh.gone", "")
            .file("d/.wh.gone", "")
            .file("d/here", "x")
            .file("d/.wh.here", "")
            .file("late/x", "x")
            .file(".wh.late", "")
            .file(".wh.early", "")
            .dir("early/", 0o755)
            .file(".wh.implied", "")
            .file("implied/x", "x")
            .file(".wh.back", "")
            .file("back", "again")
            .file("o/.wh..wh..opq", "")
            .file(".wh..wh.plnk/1.2", "")
            .file(".wh..wh.aufs", ""),
    );
    assert!(place.is_whiteout("d/gone"));
    assert_eq!(place.read("d/here"), "x");
    for opaque in ["late", "early", "implied", "o"] {
        assert!(place.is_opaque(opaque), "{opaque}");
    }
    assert!(!place.is_opaque("d"));
    assert_eq!(place.read("back"), "again");
    assert_eq!(fs::read_dir(place.root()).expect("list").count(), 6);
    for bad in [".wh.", "d/.wh..", "d/.wh...", ".wh.x/y"] {
        place.refuse(Archive::default().file(bad, ""));
    }
}

#[test]
fn sparse_files_keep_their_holes() {
    let place = Place::new();
    let mut header = Archive::header(b"f", EntryType::GNUSparse, 1024);
    let gnu = header.as_gnu_mut().expect("gnu");
    gnu.set_real_size(4 << 20);
    gnu.sparse[0].set_offset(512);
    gnu.sparse[0].set_length(512);
    gnu.sparse[1].set_offset(2 << 20);
    gnu.sparse[1].set_length(512);
    let data = [[b'a'; 512], [b'b'; 512]].concat();
    place.unpack(Archive::default().raw(header.clone(), &data).file("next", "n"));
    let content = fs::read(place.root().join("f")).expect("read");
    assert_eq!(content.len(), 4 << 20);
    assert_eq!((content[511], content[512], content[1024], content[2 << 20]), (0, b'a', 0, b'b'));
    assert!(place.stat("f").blocks() * 512 < 1 << 20);
    assert_eq!(place.read("next"), "n");
    header.as_gnu_mut().expect("gnu").sparse[1].set_offset(700);
    place.refuse(Archive::default().raw(header.clone(), &data));
    header.as_gnu_mut().expect("gnu").sparse[1].set_offset(3 << 20);
    header.as_gnu_mut().expect("gnu").set_real_size(1 << 20);
    place.refuse(Archive::default().raw(header, &data));
}

#[test]
fn what_is_cut_off_or_follows_the_end_is_refused() {
    let place = Place::new();
    let whole = Archive::default().file("a", "0123456789").end();
    assert!(place.try_unpack(&whole[..1024]).is_ok(), "no end marker");
    for length in [1, 100, 511, 513, 600, 1023] {
        assert!(place.try_unpack(&whole[..length]).is_err(), "{length} bytes");
    }
    let mut trailing = whole.clone();
    trailing.resize(20 * 512, 0);
    assert!(place.try_unpack(&trailing).is_ok(), "padding");
    trailing.push(1);
    assert!(place.try_unpack(&trailing).is_err());
    let mut second = whole.clone();
    second.extend_from_slice(&whole);
    assert!(place.try_unpack(&second).is_err(), "a second archive");
    let mut lone = Archive::default().file("a", "x").0;
    lone.extend_from_slice(&[0; 512]);
    lone.extend_from_slice(&whole);
    assert!(place.try_unpack(&lone).is_err(), "a single block of zeros");
    let mut checksum = whole;
    checksum[0] = b'b';
    assert!(place.try_unpack(&checksum).is_err());
}

#[test]
fn long_names_of_both_kinds_are_read() {
    let place = Place::new();
    let name = format!("{}/{}", "d".repeat(200), "f".repeat(250));
    let gnu = Archive::header(b"././@LongLink", EntryType::GNULongName, name.len() as u64 + 1);
    let content = [name.as_bytes(), b"\0"].concat();
    place.unpack(Archive::default().raw(gnu, &content).file("short", "gnu"));
    assert_eq!(place.read(&name), "gnu");
    place.unpack(Archive::default().pax(&[("path", name.as_bytes())]).file("short", "pax"));
    assert_eq!(place.read(&name), "pax");
    let mut ustar = tar::Header::new_ustar();
    ustar.set_path(format!("{}/file", "p".repeat(120))).expect("fits the prefix");
    ustar.set_entry_type(EntryType::Regular);
    ustar.set_mode(0o644);
    ustar.set_size(1);
    place.unpack(Archive::default().raw(ustar, b"u"));
    assert_eq!(place.read(&format!("{}/file", "p".repeat(120))), "u");
}

#[test]
fn owners_are_kept_where_they_can_be() {
    if !crate::storage::owners_can_be_kept() {
        eprintln!("skipped: this process cannot give files to other owners");
        return;
    }
    let place = Place::new();
    fs::create_dir(place.root()).expect("mkdir");
    let mut file = Archive::header(b"d/f", EntryType::Regular, 0);
    file.set_uid(7);
    file.set_gid(8);
    file.set_mode(0o6755);
    let mut link = Archive::header(b"d/l", EntryType::Symlink, 0);
    link.set_uid(9);
    link.as_old_mut().linkname[0] = b'x';
    let mut dir = Archive::header(b"d/", EntryType::Directory, 0);
    dir.set_uid(10);
    dir.set_mode(0o2750);
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let archive = Archive::default()
        .raw(dir, b"")
        .pax(&[("SCHILY.xattr.security.capability", capability)])
        .raw(file, b"")
        .raw(link, b"")
        .end();
    unpack(open(&place.root()), &mut &archive[..], Ownership::Keep).expect("unpacked");
    assert_eq!((place.stat("d/f").uid(), place.stat("d/f").gid()), (7, 8));
    assert_eq!(place.stat("d/f").mode() & 0o7777, 0o6755);
    assert_eq!(place.stat("d/l").uid(), 9);
    assert_eq!((place.stat("d").uid(), place.stat("d").mode() & 0o7777), (10, 0o2750));
    assert_eq!((place.stat(".").uid(), place.stat(".").gid()), (0, 0));
    let file = fs::File::open(place.root().join("d/f")).expect("open");
    assert!(xattr::get(&file, c"security.capability").expect("xattr").is_some());
    assert!(
        unmapped(Errno::INVAL, &Attributes { uid: 70_000, ..Attributes::IMPLICIT }).hints()[0]
            .contains("70000")
    );
}

#[test]
fn a_layer_is_published_whole_or_not_at_all() {
    let temp = tempfile::tempdir().expect("tempdir");
    let store = LayerStore::open(&temp.path().join("layers")).expect("store");
    let archive = Archive::default().file("a", "x").file("a", "yz").file("b/c", "123").end();
    let diff_id = Digest::of(&archive);
    let chain_id = Digest::of(b"chain");
    let wrong = store.unpack(&chain_id, &Digest::of(b"other"), &mut &archive[..], Ownership::Squash);
    assert!(wrong.expect_err("another content").to_string().contains(diff_id.hex()));
    assert!(!store.contains(&chain_id));
    assert!(store.unpack(&chain_id, &diff_id, &mut &archive[..700], Ownership::Squash).is_err());
    let entries = || fs::read_dir(temp.path().join("layers")).expect("list").count();
    assert_eq!(entries(), 0, "left-overs");
    for _ in 0..2 {
        store.unpack(&chain_id, &diff_id, &mut &archive[..], Ownership::Squash).expect("unpacked");
    }
    assert!(store.contains(&chain_id) && store.is_squashed(&chain_id));
    assert_eq!(store.size(&chain_id).expect("size"), 5);
    assert_eq!(store.list().expect("list"), std::slice::from_ref(&chain_id));
    assert_eq!(fs::read_to_string(store.path(&chain_id).join("a")).expect("read"), "yz");
    fs::set_permissions(store.path(&chain_id).join("b"), fs::Permissions::from_mode(0o000)).expect("chmod");
    fs::create_dir_all(temp.path().join("layers/tmp-dead/root")).expect("mkdir");
    store.sweep().expect("swept");
    assert_eq!(entries(), 1, "the left-over of a dead process goes");
    store.remove(&chain_id).expect("removed");
    store.remove(&chain_id).expect("gone already");
    assert_eq!(entries(), 0);
}

/// Not a test but a measurement, by hand, beside `tar xf FILE`:
/// `CORACLE_BENCH_TAR=FILE cargo test --release --lib unpack_speed -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn unpack_speed() {
    let Some(archive) = std::env::var_os("CORACLE_BENCH_TAR") else { return };
    let ownership = if crate::storage::owners_can_be_kept() { Ownership::Keep } else { Ownership::Squash };
    for _ in 0..3 {
        let temp = tempfile::tempdir().expect("tempdir");
        fs::create_dir(temp.path().join("root")).expect("mkdir");
        let mut tar = fs::File::open(&archive).expect("archive");
        let start = std::time::Instant::now();
        let unpacked = unpack(open(&temp.path().join("root")), &mut tar, ownership).expect("unpacked");
        eprintln!("{} bytes in {} ms", unpacked.bytes, start.elapsed().as_millis());
        let start = std::time::Instant::now();
        remove_tree(open(temp.path()).as_fd(), c"root").expect("removed");
        eprintln!("removed in {} ms", start.elapsed().as_millis());
    }
}
