//! Archives as docker, skopeo and worse people make them.

use super::oci::name_of;
use super::*;
use crate::image::store::{CONTAINERD_NAME, REF_NAME};
use crate::types::digest::Digest;
use serde_json::json;
use std::collections::BTreeMap;

fn add(builder: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    // Not `append_data`: it refuses the names that are to be tried.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    builder.append(&header, bytes).expect("append");
}

fn link(builder: &mut tar::Builder<Vec<u8>>, name: &str, target: &str) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    header.set_mode(0o777);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_cksum();
    builder.append(&header, &b""[..]).expect("append");
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let config = json!({"os": "linux", "architecture": "amd64", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    serde_json::to_vec(&config).expect("json")
}

fn load(archive: &[u8]) -> (tempfile::TempDir, Result<Vec<Loaded>>) {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = ImageStore::open(dir.path()).expect("store");
    let ingest = store.ingest().expect("ingest");
    let loaded =
        Archive::spool(archive, &ingest).and_then(|archive| archive.load(&store, &ingest, Wanted::default()));
    (dir, loaded)
}

fn docker_archive(manifest: &serde_json::Value, more: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    more(&mut builder);
    add(&mut builder, "manifest.json", &serde_json::to_vec(manifest).expect("json"));
    builder.into_inner().expect("tar")
}

#[test]
fn a_docker_archive_with_two_images_and_a_link_is_loaded() {
    let manifest = json!([
        {"Config": "c.json", "RepoTags": ["app:1", "app:2"], "Layers": ["a/layer.tar"]},
        {"Config": "c.json", "RepoTags": null, "Layers": ["b/layer.tar"]},
    ]);
    let archive = docker_archive(&manifest, |tar| {
        link(tar, "b/layer.tar", "../a/layer.tar");
        add(tar, "a/layer.tar", b"layer");
        add(tar, "c.json", &config(&[b"layer"]));
    });
    for stream in [archive.clone(), zstd::encode_all(&archive[..], 1).expect("zstd")] {
        let (_dir, loaded) = load(&stream);
        let loaded = loaded.expect("loaded");
        assert_eq!(loaded[0].names.iter().map(Reference::familiar).collect::<Vec<_>>(), ["app:1", "app:2"]);
        assert_eq!(loaded[1].image.manifest.layers[0].digest, Digest::of(b"layer"));
        assert_eq!(loaded[0].image.id, loaded[1].image.id);
    }
}

/// CVE-2025-11395: names of an archive reach no file system.
#[test]
fn hostile_names_are_only_names() {
    let manifest = json!([{"Config": "../../../../tmp/c.json", "Layers": ["/../../l.tar"]}]);
    let archive = docker_archive(&manifest, |tar| {
        add(tar, "../../../../tmp/c.json", &config(&[b"layer"]));
        add(tar, "/../../l.tar", b"layer");
    });
    let (dir, loaded) = load(&archive);
    assert_eq!(loaded.expect("loaded").len(), 1);
    assert!(!Path::new("/tmp/c.json").exists());
    assert_eq!(std::fs::read_dir(dir.path().join("blobs/sha256")).expect("blobs").count(), 3);
}

#[test]
fn bad_archives_are_refused_and_leave_nothing() {
    let one = |config: &str, layer: &str| json!([{"Config": config, "Layers": [layer]}]);
    let with = |manifest: &serde_json::Value| {
        docker_archive(manifest, |tar| {
            link(tar, "loop", "loop");
            link(tar, "host", "/etc/passwd");
            add(tar, "l", b"layer");
            add(tar, "other", b"LAYER");
            add(tar, "c", &config(&[b"layer"]));
        })
    };
    assert!(load(&with(&one("c", "l"))).1.is_ok());
    let tagged = json!([{"Config": "c", "RepoTags": ["../x"], "Layers": ["l"]}]);
    for bad in [
        one("c", "other"),
        one("c", "host"),
        one("c", "loop"),
        one("none", "l"),
        json!([]),
        json!({}),
        tagged,
    ] {
        let (dir, loaded) = load(&with(&bad));
        assert!(loaded.is_err(), "{bad}");
        assert_eq!(std::fs::read_dir(dir.path().join(".ingest")).expect("ingest").count(), 0);
    }
    assert!(load(b"").1.is_err());
    assert!(load(&[0x55; 2000]).1.is_err());
    let whole = with(&one("c", "l"));
    assert!(load(&whole[..whole.len() / 2 - 100]).1.is_err(), "cut");
}

/// A header that would fill the memory (CVE-2025-58183's kin).
#[test]
fn huge_headers_are_refused() {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    let endless = std::io::Cursor::new(header.as_bytes().to_vec()).chain(std::io::repeat(b'a'));
    let dir = tempfile::tempdir().expect("tempdir");
    let ingest = ImageStore::open(dir.path()).expect("store").ingest().expect("ingest");
    assert!(Archive::spool(endless, &ingest).is_err());
}

#[test]
fn names_of_a_layout_become_references() {
    let name = |key: &str, value: &str| name_of(&BTreeMap::from([(key.to_owned(), value.to_owned())]));
    assert_eq!(name(REF_NAME, "latest"), None);
    assert_eq!(name(REF_NAME, "v1.2"), None);
    assert_eq!(name(REF_NAME, "busybox").expect("name").familiar(), "localhost/busybox:latest");
    assert_eq!(name(REF_NAME, "a.b/c:d").expect("name").familiar(), "a.b/c:d");
    assert_eq!(name(CONTAINERD_NAME, "docker.io/library/x:1").expect("name").familiar(), "x:1");
    assert_eq!(name(CONTAINERD_NAME, "../x"), None);
}
