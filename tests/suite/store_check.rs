//! `system check`: damage is named, and repaired where it can be.

use crate::harness::image::{ImageBuilder, Layer};
use crate::harness::needs;
use crate::harness::{Image, Registry, Sandbox, SubIds, sandbox};
use std::path::{Path, PathBuf};

fn remote(name: &str) -> String {
    format!("{}/{name}", needs::registry().unwrap())
}

fn largest(directory: &Path) -> PathBuf {
    let files = std::fs::read_dir(directory).unwrap().flatten();
    files.max_by_key(|file| file.metadata().unwrap().len()).unwrap().path()
}

/// Changes one byte in the middle.
fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

/// A file in a layer that this user may change.
fn file_of_layer(sandbox: &Sandbox, name: &str) -> PathBuf {
    let layers = std::fs::read_dir(sandbox.data().join("layers")).unwrap().flatten();
    layers.map(|layer| layer.path().join("root").join(name)).find(|path| path.exists()).unwrap()
}

#[test]
fn a_whole_store_has_no_damage() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    let said = sandbox.ok(["system", "check"]);
    assert!(said.starts_with("checked 2 images") && said.ends_with("no damage"), "{said}");
    assert_eq!(sandbox.ok(["system", "check"]), said, "and the recorded digests agree");
    sandbox.ok(["system", "check", "--quick"]);
    sandbox.coracle(["system", "check", "--force"]).refused(&["--repair"]);
}

#[test]
fn an_empty_store_has_no_damage() {
    let Some(sandbox) = sandbox(&[]) else { return };
    assert!(sandbox.ok(["system", "check"]).ends_with("no damage"));
}

#[test]
fn a_damaged_blob_is_found_and_fetched_again_alone() {
    let Some(sandbox) = sandbox(&[Registry]) else { return };
    let name = remote("busybox");
    sandbox.ok(["pull", "-q", &name]);
    sandbox.ok(["pull", "-q", &remote("guest")]);
    let blob = largest(&sandbox.data().join("images/blobs/sha256"));
    damage(&blob);
    sandbox.ok(["system", "check", "--quick"]);
    let found = sandbox.coracle(["system", "check"]).expect_code(1);
    let digest = format!("damaged blob sha256:{}", blob.file_name().unwrap().to_str().unwrap());
    assert!(found.stdout.contains(&digest) && found.stdout.contains("--repair"), "{found}");
    let repaired = sandbox.ok(["system", "check", "--repair"]);
    assert!(repaired.ends_with("all damage is repaired"), "{repaired}");
    assert!(sandbox.ok(["system", "check"]).ends_with("no damage"));
    assert_eq!(sandbox.ok(["images", "-q"]).lines().count(), 2, "no further names");
    assert_eq!(sandbox.run(&[&name, "echo", "x"]).ok().text(), "x");
    // Missing altogether, and cut short, are found by sizes alone.
    std::fs::write(&blob, b"").unwrap();
    sandbox.coracle(["system", "check", "--quick"]).expect_code(1);
    std::fs::remove_file(&blob).unwrap();
    sandbox.coracle(["system", "check", "--quick"]).expect_code(1);
    sandbox.ok(["system", "check", "--quick", "--repair"]);
}

/// A push compressed its layer: what is there is the same image in another form.
#[test]
fn a_damaged_blob_comes_back_from_where_its_image_was_pushed() {
    let Some(sandbox) = sandbox(&[Registry, Image("guest"), SubIds]) else { return };
    let name = remote("pushed/whole:1");
    sandbox.ok(["tag", "guest", &name]);
    sandbox.ok(["push", "-q", &name]);
    sandbox.ok(["rmi", "guest"]);
    let id = sandbox.ok(["inspect", "--format", "{{.Id}}", &name]);
    damage(&largest(&sandbox.data().join("images/blobs/sha256")));
    let repaired = sandbox.ok(["system", "check", "--repair"]);
    assert!(repaired.ends_with("all damage is repaired"), "{repaired}");
    assert_eq!(
        sandbox.ok(["images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]),
        format!("{name} {id}")
    );
    assert_eq!(sandbox.run(&[&name, "exit", "3"]).code(), 3);
}

#[test]
fn a_damaged_layer_is_found_and_unpacked_again() {
    let Some(sandbox) = sandbox(&[Image("busybox"), SubIds]) else { return };
    for checked_before in [false, true] {
        if checked_before {
            sandbox.ok(["system", "check"]);
        }
        let file = file_of_layer(&sandbox, "bin/busybox");
        let layer = file.ancestors().nth(3).unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        // The file is root's in the namespace, which is this user.
        damage(&file);
        let found = sandbox.coracle(["system", "check"]).expect_code(1);
        assert!(found.stdout.contains(&format!("damaged layer {layer} (busybox:latest)")), "{found}");
        let repaired = sandbox.ok(["system", "check", "--repair"]);
        assert!(repaired.ends_with("all damage is repaired"), "{repaired}");
        assert_eq!(sandbox.run(&["busybox", "echo", "x"]).ok().text(), "x");
    }
}

#[test]
fn a_layer_in_use_is_not_taken_away() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    sandbox.start("c", &["guest", "sleep"]);
    let file = file_of_layer(&sandbox, "bin/guest");
    std::fs::write(file.parent().unwrap().join("more"), "x").unwrap();
    let said = sandbox.coracle(["system", "check", "--repair"]).expect_code(1);
    assert!(said.stderr.contains("container c runs on layer"), "{said}");
    sandbox.ok(["rm", "-f", "-t", "0", "c"]);
    sandbox.ok(["system", "check", "--repair"]);
    assert_eq!(sandbox.run(&["guest", "exit", "0"]).code(), 0);
}

#[test]
fn what_cannot_be_repaired_stays_until_force_removes_it() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    ImageBuilder::new().layer(Layer::new().file("f", &[7; 100_000])).load(&sandbox, "127.0.0.1:1/lost");
    // An archive's layer without compression: its blob is its content.
    let layer = sandbox.ok(["inspect", "--format", "{{index .RootFS.Layers 0}}", "127.0.0.1:1/lost"]);
    let blob = sandbox.data().join("images/blobs/sha256").join(layer.trim_start_matches("sha256:"));
    std::fs::remove_file(blob).unwrap();
    let said = sandbox.coracle(["system", "check", "--repair"]).expect_code(1);
    assert!(said.stderr.contains("127.0.0.1:1/lost:latest cannot be restored"), "{said}");
    sandbox.ok(["system", "check", "--repair", "--force"]);
    assert_eq!(sandbox.ok(["images", "-q"]).lines().count(), 2);
    assert!(sandbox.ok(["system", "check"]).ends_with("no damage"));
}

#[test]
fn what_nothing_needs_is_told_and_pruned() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    let orphan = sandbox.data().join("images/blobs/sha256").join("0".repeat(64));
    std::fs::write(&orphan, "nobody's").unwrap();
    let said = sandbox.ok(["system", "check"]);
    assert!(said.contains("there are 1 blobs and layers that nothing needs"), "{said}");
    assert!(orphan.exists());
    sandbox.ok(["image", "prune", "-f"]);
    assert!(!orphan.exists());
    assert_eq!(sandbox.run(&["busybox", "echo", "x"]).ok().text(), "x");
}

#[test]
fn a_list_of_images_that_is_lost_is_made_anew_and_until_then_nothing_is_removed() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    sandbox.ok(["run", "--name", "c", "busybox", "touch", "/made"]);
    sandbox.ok(["commit", "c", "mine"]);
    sandbox.ok(["rm", "c"]);
    sandbox.ok(["create", "--name", "of-mine", "mine"]);
    let images = sandbox.data().join("images");
    let blobs = || std::fs::read_dir(images.join("blobs/sha256")).unwrap().count();
    for left in [Some(""), Some("{\"schemaVersion\":2,"), None] {
        let before = blobs();
        match left {
            Some(text) => std::fs::write(images.join("index.json"), text).unwrap(),
            None => std::fs::remove_file(images.join("index.json")).unwrap(),
        }
        for words in [
            &["images"][..],
            &["image", "prune", "-a", "-f"],
            &["rmi", "-a", "-f"],
            &["run", "--rm", "busybox", "true"],
        ] {
            sandbox.coracle(words).refused(&["index.json", "system check --repair"]);
        }
        assert_eq!(blobs(), before);
        let found = sandbox.coracle(["system", "check"]).expect_code(1);
        assert!(found.stdout.contains("damaged file images/index.json"), "{found}");
        let repaired = sandbox.ok(["system", "check", "--repair"]);
        assert!(repaired.ends_with("all damage is repaired"), "{repaired}");
        assert!(sandbox.ok(["system", "check"]).ends_with("no damage"));
        assert_eq!(sandbox.ok(["images", "-q"]).lines().count(), 3);
        // From a container's record, and from the log of what was loaded.
        let names = sandbox.ok(["images", "--format", "{{.Repository}}"]);
        for name in ["mine", "busybox", "guest"] {
            assert!(names.contains(name), "{names}");
        }
        sandbox.ok(["run", "--rm", "mine", "ls", "/made"]);
        sandbox.coracle(["start", "of-mine"]).ok();
    }
    std::fs::write(images.join("oci-layout"), "").unwrap();
    sandbox.coracle(["system", "check"]).expect_code(1);
    sandbox.ok(["system", "check", "--repair"]);
    sandbox.ok(["images"]);
}
