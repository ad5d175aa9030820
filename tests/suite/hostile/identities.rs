//! Who the process is: users, groups, capabilities, environment.

use crate::harness::image::{ImageBuilder, Layer};
use crate::harness::report::Report;
use crate::harness::{Image, SubIds, sandbox};
use serde_json::json;

const PROGRAMS: &[crate::harness::Need] = &[Image("guest"), Image("busybox")];

#[test]
fn cve_2022_29162_inheritable_capabilities_are_empty() {
    let Some(sandbox) = sandbox(&[Image("guest"), SubIds]) else { return };
    for options in
        [&[][..], &["-u", "1000"], &["--cap-add", "NET_ADMIN"], &["--privileged"], &["--cap-drop", "ALL"]]
    {
        let report = sandbox.report(options);
        assert_eq!(
            report.capabilities("CapInh") & !if options.contains(&"-u") { 0 } else { u64::MAX },
            0,
            "{options:?}"
        );
        if options != ["--privileged"] && !options.contains(&"--cap-add") {
            assert_eq!(report.capabilities("CapInh"), 0, "{options:?}");
            assert_eq!(report.capabilities("CapAmb"), 0, "{options:?}");
        }
    }
}

#[test]
fn cve_2018_10856_a_user_of_the_image_has_no_capabilities() {
    let Some(sandbox) = sandbox(&[Image("guest"), Image("busybox"), SubIds]) else { return };
    for user in ["1000", "1000:0", "app", "app:app"] {
        let passwd = Layer::new()
            .dir("etc")
            .file("etc/passwd", b"root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n")
            .file("etc/group", b"root:x:0:\napp:x:1000:\n");
        ImageBuilder::with_programs().layer(passwd).config("User", json!(user)).load(&sandbox, "user");
        let report = Report::parse(&sandbox.run(&["user", "guest", "report"]).ok());
        assert_eq!(report.uid(), 1000, "{user}");
        for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
            assert_eq!(report.capabilities(set), 0, "{user}: {set}");
        }
    }
}

#[test]
fn cve_2022_2989_supplementary_groups_are_exactly_the_user_s() {
    let Some(sandbox) = sandbox(&[Image("guest"), Image("busybox"), SubIds]) else { return };
    let files = Layer::new()
        .dir("etc")
        .file("etc/passwd", b"root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n")
        .file(
            "etc/group",
            b"root:x:0:\napp:x:1000:\none:x:2001:app\ntwo:x:2002:other,app\nthree:x:2003:application\n",
        );
    ImageBuilder::with_programs().layer(files).config("User", json!("app")).load(&sandbox, "groups");
    let report = Report::parse(&sandbox.run(&["groups", "guest", "report"]).ok());
    let groups: Vec<u32> = report.groups().into_iter().filter(|g| *g != 1000).collect();
    assert_eq!(groups, [2001, 2002]);
    assert_eq!(report.gid(), 1000);
    // None of the caller's own groups came along: an unmapped one shows as 65534.
    assert!(!report.groups().contains(&65534));
}

#[test]
fn cve_2024_40635_ids_beyond_the_range_are_refused() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    for user in [
        "4294967296",
        "4294967295",
        "2147483648",
        "18446744073709551616",
        "99999999999999999999999",
        "-1",
        "0:4294967296",
        "4294967296:0",
    ] {
        let output = sandbox.run(&["-u", user, "busybox", "id"]);
        assert_eq!(output.code(), 125, "{user}: {output}");
        ImageBuilder::with_programs().config("User", json!(user)).load(&sandbox, "beyond");
        let output = sandbox.run(&["beyond", "id"]);
        assert_eq!(output.code(), 125, "USER {user}: {output}");
    }
}

#[test]
fn cve_2026_46680_a_number_is_never_a_name() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let files = Layer::new()
        .dir("etc")
        .file("etc/passwd", b"root:x:0:0::/:/bin/sh\n4294967297:x:0:0::/:/bin/sh\n1234:x:0:0::/:/bin/sh\n")
        .file("etc/group", b"root:x:0:\n4294967297:x:0:\n");
    for user in ["4294967297", "4294967297:4294967297", "1000:4294967297"] {
        ImageBuilder::with_programs()
            .layer(files_again())
            .config("User", json!(user))
            .load(&sandbox, "number");
        let output = sandbox.run(&["number", "id", "-u"]);
        assert_eq!(output.code(), 125, "{user}: {output}");
    }
    ImageBuilder::with_programs().layer(files).config("User", json!("1234")).load(&sandbox, "number");
    let output = sandbox.run(&["number", "id", "-u"]);
    assert!(output.text() != "0", "{output}");
}

fn files_again() -> Layer {
    Layer::new()
        .dir("etc")
        .file("etc/passwd", b"root:x:0:0::/:/bin/sh\n4294967297:x:0:0::/:/bin/sh\n")
        .file("etc/group", b"root:x:0:\n4294967297:x:0:\n")
}

#[test]
fn cve_2026_30892_each_user_form_is_the_id_it_says() {
    let Some(sandbox) = sandbox(&[Image("busybox"), SubIds]) else { return };
    for (user, ids) in
        [("1", "1 1"), ("1:1", "1 1"), ("1:0", "1 0"), ("daemon", "1 1"), ("01", "1 1"), ("0:1", "0 1")]
    {
        let output = sandbox.run(&["-u", user, "busybox", "sh", "-c", "echo $(id -u) $(id -g)"]);
        assert!(output.code() == 125 || output.text() == ids, "{user}: {output}");
        if user != "01" {
            output.ok();
        }
    }
}

#[test]
fn cve_2026_57231_entries_without_a_value_take_nothing_from_the_host() {
    let Some(mut sandbox) = sandbox(PROGRAMS) else { return };
    sandbox.set("SECRET_TOKEN", "of the host");
    ImageBuilder::with_programs()
        .config("Env", json!(["PATH=/bin", "SECRET_TOKEN", "*", "SECRET*", "HOME*", "=x", ""]))
        .load(&sandbox, "greedy");
    let output = sandbox.run(&["greedy", "guest", "report"]);
    assert!(!output.stdout.contains("of the host"), "{output}");
    assert!(output.code() == 0 || output.code() == 125, "{output}");
}

#[test]
fn cve_2025_23266_helpers_never_see_the_image_s_environment() {
    let Some(sandbox) = sandbox(&[Image("guest"), Image("busybox"), crate::harness::Slirp]) else { return };
    ImageBuilder::with_programs()
        .config("Env", json!(["PATH=/bin", "LD_PRELOAD=/evil.so", "LD_LIBRARY_PATH=/evil", "EVIL=1"]))
        .load(&sandbox, "preload");
    sandbox.ok(["run", "-d", "--name", "c", "preload", "guest", "sleep"]);
    let init = sandbox.init_pid("c");
    for process in crate::harness::leaks::processes_of(sandbox.root()) {
        if process.pid != init {
            let environment = std::fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&environment).contains("EVIL=1"), "{process:?}");
        }
    }
}

#[test]
fn cve_2026_53488_labels_are_data() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let labels = json!({ "io.coracle.monitor": "/bin/false", "log.driver": "x", "..": "../..", "": "empty", "a\nb": "c\nd", "run.oci.handler": "x", "io.podman.annotations.privileged": "TRUE" });
    ImageBuilder::with_programs()
        .config("Labels", labels)
        .config("Cmd", json!(["guest", "report"]))
        .load(&sandbox, "labelled");
    let report = Report::parse(&sandbox.run(&["labelled"]).ok());
    assert_eq!(report.capabilities("CapEff"), 0x8004_05fb);
}
