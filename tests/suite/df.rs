//! `system df`, and the sizes of containers.

use crate::harness::{Image, sandbox};
use serde_json::Value;

#[test]
fn what_takes_space_is_told_with_who_uses_it() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    let rows = |format: &str| sandbox.ok(["system", "df", "--format", format]);
    assert_eq!(
        rows("{{.Type}}:{{.TotalCount}}:{{.Active}}"),
        "Images:2:0\nContainers:0:0\nLocal Volumes:0:0\nBuild Cache:0:0"
    );
    let write = "dd if=/dev/zero of=/v/x bs=1M count=4 2>/dev/null; truncate -s 1099511627776 /v/hole; echo ok; sleep 1000";
    sandbox.start("up", &["-v", "data:/v", "busybox", "sh", "-c", write]);
    sandbox.wait_for_log("up", "ok");
    let write = "dd if=/dev/zero of=/x bs=1M count=6 2>/dev/null";
    sandbox.ok(["run", "--network", "none", "--name", "down", "busybox", "sh", "-c", write]);
    let json: Vec<Value> = rows("json").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let number = |row: usize, field: &str| json[row][field].as_u64().unwrap();
    assert_eq!((&json[0]["TotalCount"], &json[0]["Active"]), (&"2".into(), &"1".into()));
    assert!(number(0, "RawReclaimable") > 0 && number(0, "RawReclaimable") < number(0, "RawSize"));
    assert_eq!((&json[1]["TotalCount"], &json[1]["Active"]), (&"2".into(), &"1".into()));
    assert!((6 << 20..7 << 20).contains(&number(1, "RawReclaimable")), "{}", json[1]);
    assert!((4 << 20..5 << 20).contains(&number(2, "RawSize")), "holes take no space: {}", json[2]);
    assert_eq!(number(2, "RawReclaimable"), 0);

    let table = sandbox.ok(["system", "df"]);
    assert!(table.starts_with("TYPE            TOTAL     ACTIVE    SIZE"), "{table}");
    assert_eq!(table.lines().count(), 5, "nothing that a parser does not expect: {table}");
    let verbose = sandbox.ok(["system", "df", "-v"]);
    for part in [
        "Images space usage:\n\nREPOSITORY",
        "\n\nContainers space usage:\n\nCONTAINER ID",
        "\n\nLocal Volumes space usage:\n\nVOLUME NAME   LINKS     SIZE\ndata          1         4.19MB\n",
        "\n\nBuild cache usage: 0B\n",
        "\n\nFree space:\n\nSIZE",
    ] {
        assert!(verbose.contains(part), "{part:?} in {verbose}");
    }
    let names = sandbox.ok(["system", "df", "-v", "--format", "{{range .Containers}}{{.Names}} {{end}}"]);
    assert_eq!(names.trim(), "down up");
    sandbox.coracle(["system", "df", "--format", "{{.Nope}}"]).refused(&["Nope"]);
}

/// Layers that two images share are counted once.
#[test]
fn what_images_share_counts_once() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let size = || sandbox.ok(["system", "df", "--format", "{{.RawSize}}"]);
    let before = size();
    sandbox.ok(["tag", "busybox", "again:1"]);
    assert_eq!(size().lines().next(), before.lines().next());
    let verbose = sandbox.ok([
        "system",
        "df",
        "-v",
        "--format",
        "{{range .Images}}{{.Repository}} {{.SharedSize}};{{end}}",
    ]);
    assert_eq!(verbose, "again 0B;busybox 0B;", "one image with two names shares nothing");
}

#[test]
fn sizes_of_containers_are_told_on_demand() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let write = "dd if=/dev/zero of=/x bs=1000 count=3000 2>/dev/null";
    sandbox.ok(["run", "--network", "none", "--name", "c", "busybox", "sh", "-c", write]);
    assert!(sandbox.inspect("c").get("SizeRw").is_none());
    assert_eq!(sandbox.ok(["inspect", "-s", "-f", "{{.SizeRw}}", "c"]), "3000000");
    let size = sandbox.ok(["ps", "-as", "--format", "{{.Size}}"]);
    assert!(size.starts_with("3MB (virtual "), "{size}");
    assert!(sandbox.ok(["ps", "-a", "--size"]).lines().next().unwrap().ends_with("SIZE"));
}
