//! Images from a registry and from archives; skopeo is the judge.

use crate::harness::image::ImageBuilder;
use crate::harness::needs::{self, archive};
use crate::harness::{Image, Need, Registry, Sandbox, sandbox};
use serde_json::json;
use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

const SKOPEO: Need = Need::Program("skopeo");

fn remote(name: &str) -> String {
    format!("{}/{name}", needs::registry().unwrap())
}

/// `skopeo inspect`'s digest of a reference.
#[track_caller]
fn skopeo_digest(sandbox: &Sandbox, reference: &str) -> String {
    let mut command = sandbox.command("skopeo");
    command.args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}", reference]);
    crate::harness::process::Running::start(command).wait().ok().text().to_owned()
}

#[test]
fn an_image_is_pulled_run_and_removed() {
    let Some(sandbox) = sandbox(&[Registry]) else { return };
    let name = remote("busybox");
    let full = format!("{name}:latest");
    let pulled = sandbox.coracle(["pull", &name]).ok();
    let newer = format!("Status: Downloaded newer image for {full}");
    assert_eq!(pulled.lines()[pulled.lines().len() - 2..], [&newer, &full], "docker's last lines");
    assert!(pulled.stdout.starts_with("latest: Pulling from busybox\n"), "{pulled}");
    assert!(pulled.stdout.contains("\nDigest: sha256:"), "{pulled}");
    assert_eq!(pulled.stderr, "", "a script reads stdout");
    let again = sandbox.ok(["pull", &name]);
    assert!(again.contains(&format!("Status: Image is up to date for {full}\n")), "{again}");
    assert_eq!(sandbox.ok(["pull", "-q", &name]), full);
    assert_eq!(sandbox.run(&[&name, "echo", "hello"]).ok().text(), "hello");
    let listed = sandbox.ok(["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert_eq!(listed, format!("{name}:latest"));
    sandbox.ok(["rmi", &name]);
    assert_eq!(sandbox.ok(["images", "-q"]), "");
    let left = |folder: &str| {
        std::fs::read_dir(sandbox.data().join(folder)).map_or(0, |entries| {
            entries.flatten().filter(|e| !e.file_name().to_string_lossy().contains("lock")).count()
        })
    };
    assert_eq!(left("layers"), 0, "layers of a removed image are gone");
    assert_eq!(left("images/blobs/sha256"), 0, "and its blobs");
}

#[test]
fn a_list_reads_one_file_for_all_images_and_forgets_what_is_gone() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let listing = sandbox.data().join("images/.listing");
    sandbox.ok(["tag", "busybox", "second"]);
    let first = sandbox.ok(["images", "--no-trunc"]);
    assert!(listing.exists());

    // Not one of the documents can be read, and none needs to be.
    let blobs = sandbox.data().join("images/blobs/sha256");
    let allow = |mode| {
        for blob in std::fs::read_dir(&blobs).unwrap() {
            std::fs::set_permissions(blob.unwrap().path(), Permissions::from_mode(mode)).unwrap();
        }
    };
    allow(0);
    assert_eq!(sandbox.ok(["images", "--no-trunc"]), first);
    allow(0o600);

    for damage in ["", "{\"version\":9,\"images\":{}}", "{\"version\":1,\"images\":{\"sha256:00\":1}}"] {
        std::fs::write(&listing, damage).unwrap();
        assert_eq!(sandbox.ok(["images", "--no-trunc"]), first, "{damage}");
        assert_ne!(std::fs::read_to_string(&listing).unwrap(), damage);
    }
    std::fs::remove_file(&listing).unwrap();
    std::fs::create_dir(&listing).unwrap();
    assert_eq!(sandbox.ok(["images", "--no-trunc"]), first, "it cannot be written");
    std::fs::remove_dir(&listing).unwrap();
    sandbox.ok(["images"]);

    let id = sandbox.ok(["inspect", "--format", "{{.Id}}", "busybox"]);
    std::fs::remove_file(blobs.join(id.trim_start_matches("sha256:"))).unwrap();
    let told = sandbox.coracle(["images"]).ok();
    assert!(told.stderr.contains("No such file") && !told.stdout.contains("second"), "{told}");
}

#[test]
fn run_pulls_what_is_missing_and_the_policies_hold() {
    let Some(sandbox) = sandbox(&[Registry]) else { return };
    let name = remote("guest");
    sandbox
        .coracle(["run", "--rm", "--network", "none", "--pull", "never", &name, "exit", "0"])
        .refused(&["guest"]);
    sandbox.coracle(["run", "--rm", "--network", "none", &name, "exit", "6"]).expect_code(6);
    for policy in ["missing", "always", "newer", "never"] {
        sandbox
            .coracle(["run", "--rm", "--network", "none", "--pull", policy, &name, "exit", "6"])
            .expect_code(6);
    }
    sandbox.coracle(["run", "--rm", "--pull", "sometimes", &name]).refused(&["sometimes"]);
}

#[test]
fn an_image_is_pulled_by_digest_and_verified() {
    let Some(sandbox) = sandbox(&[Registry, SKOPEO]) else { return };
    let digest = skopeo_digest(&sandbox, &format!("docker://{}", remote("busybox")));
    let name = format!("{}@{digest}", remote("busybox"));
    sandbox.ok(["pull", "-q", &name]);
    assert_eq!(sandbox.run(&[&name, "echo", "hello"]).ok().text(), "hello");
    // Beside a digest a tag says nothing: there is none here.
    sandbox.ok(["rmi", &name]);
    let tagged = name.replace('@', ":no-such-tag@");
    assert_eq!(sandbox.ok(["pull", "-q", &tagged]), tagged);
    assert_eq!(sandbox.ok(["pull", &tagged]).matches("Image is up to date for").count(), 1);
    let listed = sandbox.ok(["images", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}", &tagged]);
    assert_eq!(listed, format!("{} <none> {digest}", remote("busybox")));
    let shown = sandbox.ok(["inspect", "--format", "{{.RepoTags}} {{.RepoDigests}}", &tagged]);
    assert_eq!(shown, format!("[] [{name}]"));
    assert_eq!(sandbox.run(&[&tagged, "echo", "hello"]).ok().text(), "hello");
    sandbox.ok(["rmi", &tagged]);
    assert_eq!(sandbox.ok(["images", "-q"]), "");
    let wrong = format!("{}@sha256:{}", remote("busybox"), "0".repeat(64));
    sandbox.coracle(["pull", &wrong]).refused(&[]);
}

#[test]
fn the_store_is_an_oci_layout_that_skopeo_reads() {
    let Some(sandbox) = sandbox(&[Registry, SKOPEO]) else { return };
    sandbox.ok(["pull", "-q", &remote("busybox")]);
    let layout = sandbox.data().join("images");
    assert!(layout.join("oci-layout").exists() && layout.join("index.json").exists());
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let reference =
        index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap();
    let ours = skopeo_digest(&sandbox, &format!("oci:{}:{reference}", layout.display()));
    assert_eq!(ours, skopeo_digest(&sandbox, &format!("docker://{}", remote("busybox"))));
}

#[test]
fn schema_2_and_zstd_and_plain_layers_are_pulled() {
    let Some(sandbox) = sandbox(&[Registry, SKOPEO, Image("busybox")]) else { return };
    let layout = format!("oci:{}/layout:latest", needs::image_dir("busybox").unwrap().display());
    let variants = [
        ("schema2", vec!["--format", "v2s2"]),
        ("zstd", vec!["--dest-compress-format", "zstd", "--dest-compress"]),
        ("plain", vec!["--dest-decompress"]),
    ];
    for (name, options) in variants {
        let reference = remote(&format!("variants/{name}"));
        let mut command = sandbox.command("skopeo");
        command.args(["--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]).args(options);
        command.arg(&layout).arg(format!("docker://{reference}"));
        crate::harness::process::Running::start(command).wait().ok();
        sandbox.ok(["pull", "-q", &reference]);
        assert_eq!(sandbox.run(&[&reference, "echo", name]).ok().text(), name);
    }
}

#[test]
fn a_failing_pull_says_why_and_leaves_nothing() {
    let Some(sandbox) = sandbox(&[Registry]) else { return };
    sandbox.coracle(["pull", &remote("no-such-image")]).refused(&["no-such-image"]);
    sandbox.coracle(["pull", &remote("busybox:no-such-tag")]).refused(&["no-such-tag"]);
    // Nobody listens there.
    sandbox.coracle(["pull", "127.0.0.1:1/busybox"]).refused(&["127.0.0.1:1"]);
    for bad in ["", "UPPER", "a//b", "x:", "x@sha256:zz", "x@md5:0", "-x", "a b", "http://x/y"] {
        let output = sandbox.coracle(["pull", "--", bad]);
        assert_eq!(output.code(), 125, "{bad:?}: {output}");
    }
    // What is no archive is told in a line, and not by its own lines.
    for words in [&["load", "-i", "/etc/passwd"][..], &["import", "/etc/passwd"]] {
        let said = sandbox.coracle(words).fails(125, &["hint"]);
        assert_eq!(said.stderr.lines().count(), 2, "{said}");
        assert!(!said.stderr.contains("root:"), "{said}");
    }
    assert_eq!(sandbox.ok(["images", "-q"]), "");
}

#[test]
fn load_and_save_round_trip() {
    let Some(sandbox) = sandbox(&[Image("busybox"), SKOPEO]) else { return };
    let id = sandbox.ok(["inspect", "--format", "{{.Id}}", "busybox"]);
    for format in ["docker-archive", "oci-archive"] {
        let file = sandbox.path("work").join(format);
        sandbox.ok(["save", "--format", format, "-o", file.to_str().unwrap(), "busybox"]);
        let mut command = sandbox.command("skopeo");
        command
            .args(["--insecure-policy", "inspect", "--config"])
            .arg(format!("{format}:{}", file.display()));
        crate::harness::process::Running::start(command).wait().ok();
        sandbox.ok(["rmi", "busybox"]);
        let said = sandbox.load(&file);
        assert!(said.stdout.contains("Loaded image"), "{said}");
        assert_eq!(sandbox.ok(["inspect", "--format", "{{.Id}}", "busybox"]), id, "{format}");
        assert_eq!(sandbox.run(&["busybox", "echo", "x"]).ok().text(), "x");
    }
}

#[test]
fn archives_go_through_pipes() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let mut command = sandbox.command("sh");
    command.args(["-ec", "\"$0\" save busybox | gzip >a.gz; \"$0\" rmi busybox >/dev/null; \"$0\" load <a.gz; \"$0\" run --rm --network none busybox echo piped"]).arg(crate::harness::sandbox::binary());
    let output = crate::harness::process::Running::start(command).wait().ok();
    assert!(output.stdout.ends_with("piped\n"), "{output}");
}

#[test]
fn a_root_file_system_is_imported() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let rootfs = needs::image_dir("busybox").unwrap().join("rootfs");
    let file = sandbox.path("work/root.tar");
    let mut command = sandbox.command("tar");
    command.args([
        OsStr::new("-C"),
        rootfs.as_os_str(),
        OsStr::new("-cf"),
        file.as_os_str(),
        OsStr::new("."),
    ]);
    crate::harness::process::Running::start(command).wait().ok();
    let path = file.to_str().unwrap();
    sandbox.ok([
        "import",
        "-c",
        "CMD [\"echo\",\"imported\"]",
        "-c",
        "ENV A=b",
        "-m",
        "by a test",
        path,
        "mine:v1",
    ]);
    assert_eq!(sandbox.run(&["mine:v1"]).ok().text(), "imported");
    sandbox.coracle(["import", "/no/such.tar", "x"]).refused(&["/no/such.tar"]);
    // How distributions give them away. No media type says that of a layer.
    for packer in ["xz", "bzip2"].into_iter().filter(|packer| needs::program(packer).is_some()) {
        let mut command = sandbox.command("sh");
        command.args(["-ec", "\"$1\" -c root.tar | \"$0\" import - packed"]);
        command.arg(crate::harness::sandbox::binary()).arg(packer);
        crate::harness::process::Running::start(command).wait().ok();
        assert_eq!(sandbox.run(&["packed", "echo", packer]).ok().text(), packer);
        assert_eq!(
            sandbox.ok(["inspect", "--format", "{{json .RootFS.Layers}}", "packed"]),
            sandbox.ok(["inspect", "--format", "{{json .RootFS.Layers}}", "mine:v1"]),
        );
        let document =
            sandbox.ok(["manifest", "inspect", &sandbox.ok(["images", "-q", "--no-trunc", "packed"])]);
        assert!(document.contains("image.layer.v1.tar\""), "{document}");
    }
}

#[test]
fn tags_are_names_of_one_image() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["tag", "busybox", "mine/box:v1"]);
    sandbox.ok(["tag", "busybox", "mine/box:v2"]);
    let ids: Vec<String> = ["busybox", "mine/box:v1", "mine/box:v2"]
        .iter()
        .map(|n| sandbox.ok(["inspect", "--format", "{{.Id}}", n]))
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let removed = sandbox.ok(["rmi", "mine/box:v1"]);
    assert!(removed.contains("Untagged") && !removed.contains("Deleted"), "{removed}");
    assert_eq!(sandbox.run(&["mine/box:v2", "echo", "x"]).ok().text(), "x");
    sandbox.coracle(["rmi", "mine/box:v1"]).fails(1, &["mine/box:v1"]);
    for verb in [&["rmi"][..], &["image", "rm"]] {
        let forced = sandbox.coracle([verb, &["--force", "mine/box:v1"]].concat()).ok();
        assert!(forced.stderr.contains("no such image: mine/box:v1"), "{forced}");
    }
    sandbox.coracle(["tag", "nothing-here", "x"]).refused(&["nothing-here"]);
    sandbox.coracle(["tag", "busybox", "BAD NAME"]).refused(&[]);
    sandbox.coracle(["tag", "busybox", "sha256:c8"]).refused(&["refusing to create an ambiguous tag"]);
    // An id that has several tags, of one repository too, takes force.
    sandbox.ok(["rmi", "busybox"]);
    sandbox.ok(["tag", "mine/box:v2", "mine/box:v3"]);
    let refused = sandbox.coracle(["rmi", &ids[0]]).fails(1, &["must be forced", "mine/box:v2, mine/box:v3"]);
    assert_eq!(refused.stdout, "");
    sandbox.ok(["rmi", "mine/box:v3"]);
    sandbox.ok(["rmi", &ids[0]]);
    assert_eq!(sandbox.ok(["images", "-q"]), "");
}

#[test]
fn an_image_in_use_is_not_removed() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("c", &["guest", "sleep"]);
    sandbox.coracle(["rmi", "guest"]).fails(1, &["container c"]);
    sandbox.ok(["stop", "-t", "0", "c"]);
    sandbox.coracle(["rmi", "guest"]).fails(1, &["container c"]);
    sandbox.ok(["rm", "c"]);
    sandbox.ok(["rmi", "guest"]);
    assert_eq!(sandbox.ok(["images", "-q"]), "");
}

#[test]
fn an_image_may_be_named_by_its_id() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let id = sandbox.ok(["images", "-q", "--no-trunc"]);
    let digits = id.trim_start_matches("sha256:");
    for name in [&id[..], digits, &digits[..12]] {
        assert_eq!(sandbox.run(&[name, "echo", "x"]).ok().text(), "x", "{name}");
    }
}

#[test]
fn images_lists_filters_and_formats() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    let table = sandbox.ok(["images"]);
    assert!(table.starts_with("REPOSITORY") && table.contains("SIZE"), "{table}");
    assert_eq!(table.lines().count(), 3);
    assert_eq!(sandbox.ok(["images", "-q", "guest"]).lines().count(), 1);
    assert_eq!(sandbox.ok(["images", "-q", "--filter", "reference=*box*"]).lines().count(), 1);
    let json: serde_json::Value =
        serde_json::from_str(sandbox.ok(["images", "--format", "{{json .}}"]).lines().next().unwrap())
            .unwrap();
    assert!(json["Repository"].is_string() || json["repository"].is_string(), "{json}");
    sandbox.coracle(["images", "--filter", "colour=red"]).refused(&["colour"]);
}

#[test]
fn inspect_shows_an_image_as_docker_does() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let image = sandbox.inspect("busybox");
    assert_eq!(image["Os"], "linux");
    assert_eq!(image["Config"]["Cmd"], serde_json::json!(["sh"]));
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    assert!(image["RepoTags"][0].as_str().unwrap().ends_with("busybox:latest"), "{}", image["RepoTags"]);
    assert!(image["Size"].as_u64().unwrap() > 1 << 20);
}

#[test]
fn two_pulls_of_one_image_at_once_both_succeed() {
    let Some(sandbox) = sandbox(&[Registry]) else { return };
    let name = remote("busybox");
    let pulls: Vec<_> = (0..4).map(|_| sandbox.spawn(["pull", "-q", &name])).collect();
    for pull in pulls {
        pull.wait().ok();
    }
    assert_eq!(sandbox.ok(["images", "-q"]).lines().count(), 1);
    sandbox.run(&[&name, "true"]).ok();
}

#[test]
fn a_killed_pull_leaves_a_store_that_works() {
    let Some(sandbox) = sandbox(&[Registry, Image("busybox")]) else { return };
    if !archive("debian").is_some_and(|path| path.exists()) {
        needs::host_has(&[Image("debian")]);
        return;
    }
    let name = remote("debian");
    for milliseconds in [20, 100, 400, 900] {
        let pull = sandbox.spawn(["pull", &name]);
        // The point in time is arbitrary on purpose; the outcome must not depend on it.
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        drop(pull);
        assert_eq!(sandbox.run(&["busybox", "echo", "x"]).ok().text(), "x");
    }
    sandbox.ok(["pull", "-q", &name]);
    assert_eq!(sandbox.run(&[&name, "cat", "/etc/debian_version"]).ok().lines().len(), 1);
}

#[test]
fn debian_runs_its_package_manager() {
    let Some(sandbox) = sandbox(&[Image("debian"), crate::harness::SubIds]) else { return };
    let script = "adduser --quiet --system --group someone && id -u someone && dpkg --audit && apt-get --version | head -n 1 && perl -e 'print \"perl\\n\"'";
    let output = sandbox.run(&["debian", "bash", "-ec", script]).ok();
    assert!(output.stdout.contains("apt ") && output.stdout.contains("perl"), "{output}");
}

#[test]
fn an_image_for_another_platform_is_named_as_such() {
    let Some(mut sandbox) = sandbox(&[Registry]) else { return };
    let output = sandbox.coracle(["pull", "--platform", "linux/s390x", &remote("busybox")]);
    // The registry has one platform only: docker warns or refuses, never pretends.
    assert!(output.code() == 125 || output.stderr.contains("s390x"), "{output}");
    sandbox.coracle(["pull", "--platform", "nonsense/x/y/z", &remote("busybox")]).refused(&[]);
    // Docker's variable is meant where no flag says otherwise.
    sandbox.set("DOCKER_DEFAULT_PLATFORM", "linux/s390x");
    sandbox.coracle(["pull", "-q", &remote("busybox")]).refused(&["s390x"]);
    sandbox.ok(["pull", "-q", "--platform", "linux", &remote("busybox")]);
    sandbox.coracle(["run", "--pull=never", &remote("busybox")]).refused(&["no such image"]);
}

#[test]
fn an_image_for_another_machine_is_warned_of() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    let wrong = "WARNING: The requested image's platform (linux/s390x) does not match";
    ImageBuilder::with_programs().architecture("s390x").load(&sandbox, "foreign");
    let words = ["--network", "none", "foreign", "sh", "-c", "exit 4"];
    // Docker says so also where a pull is to be quiet.
    for quiet in [&["run", "--rm"][..], &["run", "--rm", "-q"]] {
        let output = sandbox.coracle([quiet, &words].concat()).expect_code(4);
        assert!(output.stderr.starts_with(wrong), "{output}");
    }
    let asked = sandbox.coracle([&["run", "--rm", "--platform", "linux/s390x"][..], &words].concat());
    assert_eq!(asked.expect_code(4).stderr, "");
    // What leads above the root is the root, as docker cleans it.
    let up = ImageBuilder::with_programs().config("WorkingDir", json!("/../../.."));
    up.load(&sandbox, "up");
    assert_eq!(sandbox.run(&["up", "sh", "-c", "pwd"]).ok().text(), "/");
}

#[test]
fn many_layers_stack_up() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    let mut image = ImageBuilder::with_programs();
    for number in 0..120 {
        let layer =
            crate::harness::image::Layer::new().file(&format!("f{number}"), number.to_string().as_bytes());
        image = image.layer(layer.file("last", number.to_string().as_bytes()));
    }
    image.load(&sandbox, "deep");
    let output = sandbox.run(&["deep", "sh", "-c", "cat /f0 /f119 /last"]).ok();
    assert_eq!(output.text(), "0119119");
}

#[test]
fn removing_all_images_says_which_are_used() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    sandbox.ok(["create", "--name", "user", "busybox", "true"]);
    sandbox.coracle(["rmi", "--all"]).fails(1, &["is used by container user"]);
    assert_eq!(sandbox.ok(["images", "--format", "{{.Repository}}"]), "busybox");
    sandbox.ok(["rmi", "--all", "--force"]);
    assert_eq!(sandbox.ok(["images", "-a", "-q"]), "");
    // The container keeps what it is made of.
    sandbox.ok(["start", "-a", "user"]);
    sandbox.load(&archive("busybox").unwrap());
    let id = sandbox.ok(["images", "-q"]);
    sandbox.ok(["run", "-d", "--name", "runs", "--network", "none", "busybox", "sleep", "1000"]);
    sandbox.coracle(["rmi", "-f", &id]).fails(1, &["cannot be removed by force", "runs"]);
    sandbox.ok(["commit", "-q", "runs", "still-there"]);
    // The name alone may go.
    sandbox.ok(["rmi", "-f", "busybox"]);
    sandbox.ok(["rm", "-f", "-t", "0", "runs"]);
    sandbox.ok(["rmi", "-f", &id]);
}
