//! `commit`: a container becomes an image.

use crate::changes::{change, load_base};
use crate::harness::{Image, Need, Sandbox, sandbox, until};
use serde_json::Value;

#[track_caller]
fn image(sandbox: &Sandbox, name: &str) -> Value {
    let documents: Value = serde_json::from_str(&sandbox.ok(["image", "inspect", name])).unwrap();
    documents[0].clone()
}

#[test]
fn a_committed_image_has_the_container_s_files() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    load_base(&sandbox);
    change(
        &sandbox,
        "c",
        "echo more >>/data/kept; busybox rm /data/old; busybox rm -r /data/sub; mkdir /data/sub; \
         touch /data/sub/new; busybox rm /etc/conf; mkdir /etc/conf; echo in >/etc/conf/f; \
         echo x >/bin/tool; busybox chmod 4751 /bin/tool; busybox ln /bin/tool /bin/second; \
         busybox ln -s ../../../outside /link; busybox mkfifo /pipe; touch \"/two\nlines\"",
    );
    let id = sandbox.ok(["commit", "c", "new"]);
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    let script = "cat /data/kept; ls /data /data/sub; cat /etc/conf/f; stat -c '%a %h' /bin/tool; \
        stat -c %i /bin/tool /bin/second; readlink /link; stat -c %F /pipe; ls /two*";
    let output = sandbox.run(&["new", "sh", "-c", script]).ok();
    let lines = output.lines();
    assert_eq!(lines[0], "keptmore");
    assert_eq!(lines[1..7], ["/data:", "kept", "second", "sub", "", "/data/sub:"], "{output}");
    assert_eq!(lines[7..10], ["new", "in", "4751 2"], "{output}");
    assert_eq!(lines[10], lines[11], "one inode");
    assert_eq!(lines[12..], ["../../../outside", "fifo", "/two?lines"], "{output}");
    // Layers are the parent's and one more; nothing of a start is in it.
    let (base, new) = (image(&sandbox, "base"), image(&sandbox, "new"));
    let layers = |image: &Value| image["RootFS"]["Layers"].as_array().unwrap().clone();
    assert_eq!(layers(&new)[..3], layers(&base)[..]);
    assert_eq!(layers(&new).len(), 4);
    assert_eq!(sandbox.ok(["image", "diff", "new"]), sandbox.ok(["diff", "c"]));
}

#[test]
fn owners_and_attributes_are_committed() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest"), Need::SubIds]) else { return };
    load_base(&sandbox);
    change(&sandbox, "c", "touch /f; busybox chown 33:44 /f; busybox chown 7 /data");
    sandbox.ok(["commit", "-q", "c", "new"]);
    let shown = sandbox.run(&["new", "stat", "-c", "%u:%g", "/f", "/data"]).ok();
    assert_eq!(shown.lines(), ["33:44", "7:0"]);
    // With shifted owners on the disk the image's are the same.
    sandbox
        .coracle([
            "run",
            "--network",
            "none",
            "--name",
            "k",
            "--uidmap",
            "0:1:1000",
            "base",
            "sh",
            "-c",
            "touch /f; busybox chown 33:44 /f",
        ])
        .ok();
    assert_eq!(sandbox.ok(["diff", "k"]), "A /f");
    for (flags, name) in [("--squash=false", "mapped"), ("--squash", "flat")] {
        sandbox.ok(["commit", flags, "k", name]);
        let shown = sandbox.run(&[name, "stat", "-c", "%u:%g", "/f", "/data", "/bin/sh"]).ok();
        assert_eq!(shown.lines(), ["33:44", "0:0", "0:0"], "{name}");
    }
}

#[test]
fn changes_author_and_message_are_the_image_s() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    load_base(&sandbox);
    sandbox.ok([
        "create",
        "--network",
        "none",
        "--name",
        "c",
        "-e",
        "A=1",
        "-v",
        "/anon",
        "--expose",
        "70-71",
        "base",
        "echo",
        "hi",
    ]);
    let iidfile = sandbox.path("work/iid");
    let changes = [
        "CMD [\"echo\", \"two words\"]",
        "ENV B=2 C=\"3 4\"",
        "EXPOSE 80 9000-9001/udp",
        "LABEL l=v",
        "STOPSIGNAL INT",
        "USER 5",
        "WORKDIR /data",
        "HEALTHCHECK --retries=2 CMD true",
        "ONBUILD RUN x",
        "VOLUME /vol",
    ];
    let mut words = vec!["commit", "-a", "Ann", "-m", "why", "--iidfile", iidfile.to_str().unwrap()];
    for change in &changes {
        words.extend(["-c", change]);
    }
    words.extend(["c", "new:v1"]);
    let id = sandbox.ok(words);
    assert_eq!(std::fs::read_to_string(&iidfile).unwrap(), id);
    let image = image(&sandbox, "new:v1");
    assert_eq!(image["Id"], id.as_str());
    assert_eq!((image["Author"].as_str(), image["Comment"].as_str()), (Some("Ann"), Some("why")));
    let config = &image["Config"];
    assert_eq!(config["Cmd"], serde_json::json!(["echo", "two words"]));
    let env: Vec<&str> = config["Env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(["A=1", "B=2", "C=3 4"].iter().all(|entry| env.contains(entry)), "{env:?}");
    assert_eq!(config["WorkingDir"], "/data");
    assert_eq!(config["Healthcheck"]["Test"], serde_json::json!(["CMD-SHELL", "true"]));
    let ports = serde_json::json!({"70/tcp": {}, "71/tcp": {}, "80/tcp": {}, "9000/udp": {}, "9001/udp": {}});
    assert_eq!(config["ExposedPorts"], ports, "single ports: image-spec, config.md");
    assert_eq!(config["Volumes"], serde_json::json!({"/anon": {}, "/vol": {}}));
    assert_eq!(image["History"].as_array().unwrap().last().unwrap()["created_by"], "echo hi");
    sandbox.coracle(["commit", "-c", "RUN x", "c"]).fails(1, &["RUN x"]);
    sandbox.coracle(["commit", "-f", "zip", "c"]).fails(1, &["zip"]);
    sandbox.coracle(["commit", "nope"]).fails(1, &["nope"]);
}

#[test]
fn a_running_container_is_committed_and_goes_on() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    load_base(&sandbox);
    // Both files always hold the same number, but for the moment between the two.
    let script = "i=0; while :; do i=$((i+1)); echo $i >/a.new; busybox mv /a.new /a; echo $i >/count; done";
    sandbox.start("c", &["base", "sh", "-c", script]);
    until("the first files", || (sandbox.ok(["diff", "c"]).contains("A /count")).then_some(()));
    for flag in ["--pause", "--pause=false", "--squash"] {
        sandbox.ok(["commit", flag, "c", "new"]);
        let number = sandbox.run(&["new", "cat", "/a"]).ok().text().to_owned();
        assert!(number.parse::<u64>().is_ok(), "{flag}: {number:?}");
    }
    let state = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", sandbox.init_pid("c"))).unwrap();
        status.lines().find(|line| line.starts_with("State:")).unwrap().to_owned()
    };
    assert!(!state().contains('T'), "{}", state());
}

#[test]
fn a_name_that_reads_as_a_whiteout_is_refused() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    load_base(&sandbox);
    change(&sandbox, "c", "touch /data/.wh.kept /.wh..wh..opq");
    for flag in ["--squash=false", "--squash"] {
        sandbox.coracle(["commit", flag, "c", "new"]).fails(1, &["/.wh..wh..opq", "rename"]);
    }
    assert_eq!(sandbox.coracle(["image", "exists", "new"]).code(), 1);
    // A plain archive may have it.
    sandbox.coracle(["export", "-o", "x.tar", "c"]).ok();
}

#[test]
fn squash_gives_one_layer_without_what_was_deleted() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    load_base(&sandbox);
    change(&sandbox, "c", "busybox rm /data/old; echo x >/new");
    sandbox.ok(["commit", "--squash", "c", "flat"]);
    assert_eq!(image(&sandbox, "flat")["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    let shown = sandbox.run(&["flat", "sh", "-c", "ls /data; cat /new"]).ok();
    assert_eq!(shown.lines(), ["kept", "second", "sub", "x"]);
}

#[test]
fn skopeo_reads_a_committed_image_in_both_formats() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest"), Need::Program("skopeo")]) else { return };
    load_base(&sandbox);
    change(&sandbox, "c", "echo x >/new");
    for (format, types) in [("oci", "vnd.oci"), ("docker", "vnd.docker")] {
        sandbox.ok(["commit", "-f", format, "c", format]);
        sandbox.ok(["save", "--format", "oci-dir", "-o", &format!("dir-{format}"), format]);
        let mut command = sandbox.command("skopeo");
        let source = format!("oci:dir-{format}");
        command.args(["--insecure-policy", "copy", "-q", &source, &format!("dir:copy-{format}")]);
        crate::harness::process::Running::start(command).wait().ok();
        assert!(image(&sandbox, format)["ManifestType"].as_str().unwrap().contains(types));
        assert_eq!(sandbox.run(&[format, "cat", "/new"]).ok().text(), "x");
    }
}
