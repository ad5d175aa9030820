//! `manifest …`: lists of images for several platforms.

use crate::harness::{Image, Need, Registry, Sandbox, needs, sandbox};
use serde_json::Value;

fn shown(sandbox: &Sandbox, list: &str) -> Value {
    serde_json::from_str(&sandbox.ok(["manifest", "inspect", list])).unwrap()
}

#[test]
fn a_list_is_made_filled_annotated_and_removed() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    sandbox.ok(["manifest", "create", "many:1", "busybox"]);
    sandbox.coracle(["manifest", "create", "many:1"]).fails(1, &["many:1", "--amend"]);
    sandbox
        .coracle(["manifest", "create", "busybox-too", "no-such-image-here:1"])
        .refused(&["no-such-image-here"]);
    sandbox.coracle(["manifest", "exists", "busybox-too"]).expect_code(1);
    sandbox.ok([
        "manifest",
        "add",
        "--arch",
        "riscv64",
        "--os",
        "linux",
        "--annotation",
        "a=b",
        "many:1",
        "guest",
    ]);
    let list = shown(&sandbox, "many:1");
    assert_eq!(list["mediaType"], "application/vnd.oci.image.index.v1+json");
    let entries = list["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1]["platform"]["architecture"], "riscv64");
    assert_eq!(entries[1]["annotations"]["a"], "b");
    sandbox.ok(["manifest", "annotate", "--variant", "v9", "many:1", "guest"]);
    sandbox.ok(["manifest", "annotate", "--index", "--annotation", "of=list", "many:1"]);
    let list = shown(&sandbox, "many:1");
    assert_eq!(list["manifests"][1]["platform"]["variant"], "v9");
    assert_eq!(list["annotations"]["of"], "list");
    assert_eq!(sandbox.run(&["many:1", "echo", "x"]).ok().text(), "x", "this machine's image of the list");
    sandbox.coracle(["manifest", "exists", "many:1"]).expect_code(0);
    sandbox.coracle(["manifest", "exists", "busybox"]).expect_code(1);
    let digest = list["manifests"][1]["digest"].as_str().unwrap();
    sandbox.ok(["manifest", "remove", "many:1", digest]);
    sandbox.coracle(["manifest", "remove", "many:1", digest]).fails(1, &["many:1"]);
    assert_eq!(shown(&sandbox, "many:1")["manifests"].as_array().unwrap().len(), 1);
    sandbox.ok(["manifest", "rm", "many:1"]);
    sandbox.coracle(["manifest", "rm", "many:1"]).fails(1, &["many:1"]);
    assert_eq!(sandbox.run(&["busybox", "echo", "x"]).ok().text(), "x", "its images stay");
    assert!(sandbox.ok(["system", "check"]).ends_with("no damage"));
}

/// Scripts keep what `create` printed, and use it whatever has become of the list.
#[test]
fn a_list_is_known_by_the_id_that_it_was_made_with() {
    let Some(sandbox) = sandbox(&[Registry, Image("busybox"), Image("guest")]) else { return };
    let id = sandbox.ok(["manifest", "create", "many:1"]);
    sandbox.ok(["manifest", "exists", &id]);
    let second = sandbox.ok(["manifest", "add", &id, "busybox"]);
    assert_ne!(id, second);
    sandbox.ok(["manifest", "add", &id, "guest"]);
    sandbox.ok(["manifest", "annotate", "--arch", "riscv64", &id, "guest"]);
    let list = shown(&sandbox, &id);
    assert_eq!(list["manifests"][1]["platform"]["architecture"], "riscv64");
    sandbox.ok(["manifest", "remove", &id, list["manifests"][1]["digest"].as_str().unwrap()]);
    assert_eq!(shown(&sandbox, &id), shown(&sandbox, "many:1"));
    let there = format!("{}/by/id:1", needs::registry().unwrap());
    sandbox.ok(["manifest", "push", "-q", &id, &there]);
    assert_eq!(shown(&sandbox, &there)["manifests"].as_array().unwrap().len(), 1);
    // Two that were made alike have one id; then it says nothing.
    assert_eq!(sandbox.ok(["manifest", "create", "many:2"]), id);
    sandbox.coracle(["manifest", "add", &id, "busybox"]).fails(1, &["many:1", "many:2"]);
    sandbox.ok(["manifest", "rm", "many:2"]);
    let image = sandbox.ok(["images", "-q", "busybox"]);
    sandbox.coracle(["manifest", "exists", &image]).expect_code(1);
    sandbox.coracle(["manifest", "add", &image, "guest"]).fails(1, &["an image, not a list"]);
    sandbox.ok(["manifest", "rm", &id]);
    sandbox.coracle(["manifest", "rm", &id]).fails(1, &["no such list"]);
    sandbox.ok(["manifest", "rm", "--ignore", &id]);
    sandbox.coracle(["manifest", "exists", &id]).expect_code(1);
}

/// Scripts ask this way whether a registry has a name.
#[test]
fn what_a_registry_has_is_inspected_without_a_pull() {
    let Some(sandbox) = sandbox(&[Registry, Image("busybox")]) else { return };
    let remote = |name: &str| format!("{}/{name}", needs::registry().unwrap());
    let there = remote("looked/at:1");
    // An image that is here is not there.
    sandbox.ok(["tag", "busybox", &there]);
    sandbox.coracle(["manifest", "inspect", &there]).fails(1, &["looked/at:1"]);
    sandbox.ok(["push", "-q", &there]);
    let image = shown(&sandbox, &there);
    assert!(image["layers"][0]["mediaType"].as_str().unwrap().ends_with("tar+gzip"), "{image}");
    sandbox.ok(["manifest", "create", "many:1", "busybox"]);
    sandbox.ok(["manifest", "push", "-q", "many:1", &remote("looked/many:1")]);
    sandbox.ok(["rmi", "-f", "busybox", &there, "many:1"]);
    assert_eq!(sandbox.ok(["images", "-q"]), "");

    assert_eq!(shown(&sandbox, &there), image);
    let list = shown(&sandbox, &remote("looked/many:1"));
    assert_eq!(list["manifests"].as_array().unwrap().len(), 1);
    let verbose = |name: &str| -> Value {
        serde_json::from_str(&sandbox.ok(["manifest", "inspect", "--insecure", "-v", name])).unwrap()
    };
    let each = verbose(&there);
    assert_eq!((&each["Ref"], &each["OCIManifest"]), (&there.clone().into(), &image));
    assert_eq!(each["Descriptor"]["platform"]["os"], "linux");
    let exact = format!("{}@{}", remote("looked/at"), each["Descriptor"]["digest"].as_str().unwrap());
    assert_eq!(shown(&sandbox, &exact), image);
    let each = verbose(&remote("looked/many:1"));
    assert_eq!(each[0]["Descriptor"]["digest"], list["manifests"][0]["digest"]);
    assert!(each[0]["OCIManifest"]["layers"].is_array() && each[0]["Raw"].is_string(), "{each}");
    sandbox.coracle(["manifest", "inspect", &remote("looked/nowhere:1")]).fails(1, &["looked/nowhere:1"]);
    sandbox.coracle(["manifest", "inspect", "--insecure", "--tls-verify", &there]).refused(&["--tls-verify"]);
    assert_eq!(sandbox.ok(["images", "-q"]), "", "nothing was pulled");
}

#[test]
fn the_images_of_a_list_stay_as_long_as_it() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Need::Program("skopeo")]) else { return };
    sandbox.ok(["manifest", "create", "many:1", "busybox"]);
    sandbox.ok(["rmi", "busybox"]);
    sandbox.ok(["image", "prune", "-f"]);
    assert!(sandbox.ok(["system", "check"]).ends_with("no damage"));
    assert_eq!(sandbox.run(&["many:1", "echo", "x"]).ok().text(), "x");
    // It has an id of its own, by which it is found.
    let id = sandbox.ok(["images", "-q", "many:1"]);
    assert_ne!(sandbox.ok(["inspect", "--format", "{{.Id}}", "many:1"]).find(&id), Some("sha256:".len()));
    sandbox.ok(["image", "inspect", &id]);
    sandbox.ok(["rmi", "-f", &id]);
    assert_eq!(sandbox.ok(["images", "-q"]), "");
    let left = std::fs::read_dir(sandbox.data().join("images/blobs/sha256")).unwrap().count();
    assert_eq!(left, 0, "and go with it");
}
