//! Images in files: what we write other tools read, and the other way round.

use crate::harness::image::{ImageBuilder, Layer};
use crate::harness::needs;
use crate::harness::process::{Output, Running};
use crate::harness::{Image, Need, Sandbox, sandbox};
use std::io::Read;
use std::path::Path;

const SKOPEO: Need = Need::Program("skopeo");

/// Two layers with a whiteout, a hard link, a set-uid file and a long name.
fn builder() -> ImageBuilder {
    let long = "directory/".repeat(9);
    ImageBuilder::with_programs().layer(
        Layer::new()
            .dir("data")
            .file("data/one", b"1")
            .hard_link("data/two", "data/one")
            .entry("data/set-uid", tar::EntryType::Regular, 0o4755, "", b"x")
            .file(&long[..long.len() - 1], b"long")
            .file("tmp/.wh.gone", b""),
    )
}

/// The image `many/layers:1`, loaded.
fn with_image(needs: &[Need]) -> Option<Sandbox> {
    let all = [&[Image("busybox"), Image("guest")], needs].concat();
    let sandbox = sandbox(&all)?;
    builder().load(&sandbox, "many/layers:1");
    Some(sandbox)
}

#[track_caller]
fn other(sandbox: &Sandbox, program: &str, words: &[&str]) -> Output {
    let mut command = sandbox.command(program);
    command.args(words);
    Running::start(command).wait()
}

#[track_caller]
fn skopeo(sandbox: &Sandbox, words: &[&str]) -> String {
    other(sandbox, "skopeo", &[&["--insecure-policy"], words].concat()).ok().text().to_owned()
}

fn identity(sandbox: &Sandbox, image: &str) -> (String, String) {
    let show = |what| sandbox.ok(["inspect", "--format", what, image]);
    (show("{{.Id}}"), show("{{json .RootFS.Layers}}"))
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Diff ids as `skopeo inspect --config` of a reference has them.
fn diff_ids(sandbox: &Sandbox, reference: &str) -> String {
    let config = skopeo(sandbox, &["inspect", "--config", reference]);
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["rootfs"]["diff_ids"].to_string()
}

#[test]
fn each_form_is_saved_for_skopeo_and_loaded_again() {
    let Some(sandbox) = with_image(&[SKOPEO]) else { return };
    let (id, layers) = identity(&sandbox, "many/layers:1");
    for (format, transport) in [
        ("docker-archive", "docker-archive"),
        ("oci-archive", "oci-archive"),
        ("oci-dir", "oci"),
        ("docker-dir", "dir"),
    ] {
        let path = text(&sandbox.path("work").join(format));
        sandbox.ok(["save", "--format", format, "-o", &path, "many/layers:1"]);
        assert_eq!(diff_ids(&sandbox, &format!("{transport}:{path}")), layers, "{format}");
        sandbox.ok(["rmi", "-f", &id]);
        sandbox.load(Path::new(&path));
        assert_eq!(identity(&sandbox, &id), (id.clone(), layers.clone()), "{format}");
        assert_eq!(sandbox.run(&[&id, "cat", "/data/two"]).ok().text(), "1");
        // Named, as docker-dir has no names.
        sandbox.ok(["tag", &id, "many/layers:1"]);
    }
    let twice = sandbox.coracle(["save", "--format", "oci-dir", "-o", "oci-dir", "many/layers:1"]);
    twice.fails(125, &["not empty"]);
    sandbox.coracle(["save", "--format", "docker-dir", "many/layers:1"]).fails(125, &["-o"]);
    sandbox.coracle(["save", "--format", "zip", "many/layers:1"]).fails(125, &["docker-archive"]);
}

#[test]
fn docker_dir_may_be_compressed() {
    let Some(sandbox) = with_image(&[SKOPEO]) else { return };
    let (id, layers) = identity(&sandbox, "many/layers:1");
    sandbox.ok(["save", "--format", "docker-dir", "--compress", "-o", "small", "many/layers:1"]);
    let manifest = std::fs::read_to_string(sandbox.path("work/small/manifest.json")).unwrap();
    assert!(manifest.contains("tar.gzip"), "{manifest}");
    assert_eq!(diff_ids(&sandbox, "dir:small"), layers);
    sandbox.ok(["rmi", "-f", &id]);
    sandbox.ok(["load", "-i", "small"]);
    assert_eq!(identity(&sandbox, &id).1, layers);
    sandbox.coracle(["save", "--compress", "-o", "x", &id]).fails(125, &["docker-dir"]);
}

#[test]
fn what_skopeo_writes_is_loaded_by_its_transport() {
    let Some(sandbox) = with_image(&[SKOPEO]) else { return };
    let (id, layers) = identity(&sandbox, "many/layers:1");
    sandbox.ok(["save", "-o", "from.tar", "many/layers:1"]);
    for place in [
        "oci:layout:many/layers:1",
        "oci-archive:file.oci:x:y",
        "docker-archive:file.tar:a/b:c",
        "dir:folder",
    ] {
        skopeo(&sandbox, &["copy", "-q", "docker-archive:from.tar", place]);
    }
    sandbox.ok(["rmi", "-a", "-f"]);
    assert!(id.starts_with("sha256:"));
    for place in [
        "oci:layout",
        "oci:layout:many/layers:1",
        "oci-archive:file.oci",
        "oci-archive:file.oci:x:y",
        "oci-archive:file.oci:@0",
        "docker-archive:file.tar",
        "docker-archive:file.tar:a/b:c",
        "dir:folder",
    ] {
        sandbox.ok(["pull", "-q", place]);
        let loaded = sandbox.ok(["images", "-q", "--no-trunc"]);
        assert_eq!(identity(&sandbox, &loaded), (loaded.clone(), layers.clone()), "{place}");
        sandbox.ok(["rmi", "-f", &loaded]);
        let run = sandbox.run(&[place, "cat", "/data/one"]).ok();
        assert_eq!(run.text(), "1", "{place}");
        sandbox.ok(["load", "-i", place]);
        sandbox.ok(["rmi", "-f", &loaded]);
    }
    sandbox.coracle(["pull", "oci:nowhere"]).fails(125, &["nowhere"]);
    sandbox.coracle(["pull", "oci:layout:other"]).fails(125, &["no image", "many/layers:1"]);
    sandbox.coracle(["pull", "oci-archive:layout"]).fails(125, &["a directory"]);
    sandbox.coracle(["pull", "dir:layout"]).fails(125, &["manifest.json"]);
    sandbox.coracle(["pull", "docker-archive:file.tar:@7"]).fails(125, &["@7"]);
    sandbox.coracle(["pull", "containers-storage:x"]).fails(125, &["podman save"]);
    sandbox.coracle(["pull", "docker-daemon:x"]).fails(125, &["docker save"]);
    sandbox.run(&["oci:nowhere", "true"]).refused(&["nowhere"]);
    assert_eq!(sandbox.ok(["images", "-q"]), "");
}

#[test]
fn several_images_share_an_archive() {
    let Some(sandbox) = with_image(&[SKOPEO]) else { return };
    for format in ["docker-archive", "oci-archive"] {
        sandbox.ok(["save", "-m", "--format", format, "-o", format, "many/layers:1", "busybox", "guest"]);
        sandbox.ok(["rmi", "-a"]);
        let said = sandbox.ok(["load", "-i", format]);
        let names: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("Loaded image: ")).collect();
        assert_eq!(names, ["many/layers:1", "busybox:latest", "guest:latest"], "{format}");
        sandbox.ok(["rmi", "-a"]);
        sandbox.coracle(["pull", &format!("{format}:{format}")]).fails(125, &["3 images", "busybox"]);
        sandbox.ok(["pull", "-q", &format!("{format}:{format}:busybox")]);
        assert_eq!(sandbox.ok(["images", "--format", "{{.Repository}}"]), "busybox");
        sandbox.ok(["load", "-q", "-i", format]);
    }
}

#[test]
fn the_same_image_gives_the_same_archive() {
    let Some(sandbox) = with_image(&[]) else { return };
    for format in ["docker-archive", "oci-archive"] {
        for name in ["a", "b"] {
            sandbox.ok(["save", "--format", format, "-o", name, "many/layers:1"]);
        }
        let read = |name: &str| std::fs::read(sandbox.path("work").join(name)).unwrap();
        assert!(read("a") == read("b"), "{format}");
        sandbox.ok(["rmi", "many/layers:1"]);
        sandbox.ok(["load", "-i", "a"]);
        sandbox.ok(["save", "--format", format, "-o", "c", "many/layers:1"]);
        assert!(read("a") == read("c"), "{format} after a load");
    }
}

/// To a file the layers are unpacked once, to a stream twice: the archive is the same.
#[test]
fn a_file_and_a_stream_get_the_same_archive() {
    let Some(sandbox) = sandbox(&[Need::Registry]) else { return };
    let name = format!("{}/busybox", needs::registry().unwrap());
    sandbox.ok(["pull", "-q", &name]);
    let layer = sandbox.ok(["manifest", "inspect", &name]);
    assert!(layer.contains("gzip"), "the layer is compressed: {layer}");
    for format in ["docker-archive", "oci-archive"] {
        sandbox.ok(["save", "--format", format, "-o", "file", &name]);
        let mut command = sandbox.command("sh");
        command.args(["-ec", "\"$0\" save --format $1 $2 >stream"]).arg(crate::harness::sandbox::binary());
        Running::start({
            command.args([format, &name]);
            command
        })
        .wait()
        .ok();
        let read = |name: &str| std::fs::read(sandbox.path("work").join(name)).unwrap();
        assert!(read("file") == read("stream"), "{format}");
    }
    sandbox.ok(["rmi", &name]);
    sandbox.ok(["load", "-q", "-i", "file"]);
    sandbox.run(&[&name, "true"]).ok();
}

#[test]
fn archives_may_be_compressed_and_come_through_stdin() {
    let Some(sandbox) = with_image(&[]) else { return };
    let (id, _) = identity(&sandbox, "many/layers:1");
    for (format, through) in [
        ("docker-archive", "gzip"),
        ("oci-archive", "zstd"),
        ("docker-archive", "cat"),
        ("oci-archive", "gzip"),
        ("docker-archive", "xz"),
        ("oci-archive", "bzip2"),
    ] {
        if needs::program(through).is_none() {
            continue;
        }
        let script = format!(
            "\"$0\" save --format {format} -o - many/layers:1 | {through} >packed; \"$0\" rmi -f {id} >&2; \"$0\" load -i - <packed"
        );
        let mut command = sandbox.command("sh");
        command.args(["-ec", &script]).arg(crate::harness::sandbox::binary());
        let output = Running::start(command).wait().ok();
        assert_eq!(output.text(), "Loaded image: many/layers:1", "{format} {through}");
    }
}

/// `manifest.json` of an archive.
fn manifest(sandbox: &Sandbox, words: &[&str]) -> serde_json::Value {
    sandbox.ok([&["save", "-o", "out.tar"], words].concat());
    let mut archive = tar::Archive::new(std::fs::File::open(sandbox.path("work/out.tar")).unwrap());
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let entry = entries.find(|entry| entry.path().unwrap() == Path::new("manifest.json")).unwrap();
    serde_json::from_reader(entry).unwrap()
}

/// As docker has it: a backup of a repository is of all its tags, and what is saved by
/// its id moves no tag where it is loaded.
#[test]
fn a_repository_is_saved_with_its_tags_and_an_id_without_names() {
    let Some(sandbox) = with_image(&[]) else { return };
    sandbox.ok(["tag", "busybox", "mine/repo:1"]);
    sandbox.ok(["tag", "busybox", "mine/repo:3"]);
    sandbox.ok(["tag", "guest", "mine/repo:2"]);
    let all = manifest(&sandbox, &["mine/repo"]);
    let tags: Vec<String> = all.as_array().unwrap().iter().map(|one| one["RepoTags"].to_string()).collect();
    assert_eq!(tags, [r#"["mine/repo:1","mine/repo:3"]"#, r#"["mine/repo:2"]"#]);
    assert_eq!(manifest(&sandbox, &["mine/repo:3"])[0]["RepoTags"], serde_json::json!(["mine/repo:3"]));
    assert_eq!(manifest(&sandbox, &["busybox"])[0]["RepoTags"], serde_json::json!(["busybox:latest"]));
    let id = sandbox.ok(["images", "-q", "mine/repo:1"]);
    assert_eq!(manifest(&sandbox, &[&id])[0]["RepoTags"], serde_json::json!([]));
    assert!(sandbox.ok(["load", "-i", "out.tar"]).starts_with("Loaded image ID: sha256:"));
    sandbox.coracle(["save", "-o", "x", "mine/other"]).fails(125, &["no such image: mine/other"]);
    sandbox.coracle(["load", "-i", "https://example.com/a.tar"]).fails(125, &["curl -L https://example.com"]);
}

#[test]
fn an_oci_archive_is_uncompressed_where_that_is_asked() {
    let Some(sandbox) = sandbox(&[Need::Registry]) else { return };
    let name = format!("{}/busybox", needs::registry().unwrap());
    sandbox.ok(["pull", "-q", &name]);
    let layers = identity(&sandbox, &name);
    for format in ["oci-archive", "oci-dir"] {
        sandbox.ok(["save", "--uncompressed", "--format", format, "-o", format, &name]);
        sandbox.ok(["rmi", &name]);
        sandbox.ok(["load", "-i", format]);
        assert_eq!(identity(&sandbox, &name), layers, "{format}");
        let id = sandbox.ok(["images", "-q", &name]);
        let document: serde_json::Value =
            serde_json::from_str(&sandbox.ok(["manifest", "inspect", &id])).unwrap();
        let diff_ids: Vec<&str> = document["layers"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|layer| layer["digest"].as_str())
            .collect();
        assert_eq!(serde_json::json!(diff_ids).to_string(), layers.1, "layers are what is in them");
        sandbox.run(&[&name, "true"]).ok();
        sandbox.ok(["rmi", &name]);
        sandbox.ok(["pull", "-q", &name]);
    }
    let refused = ["save", "--uncompressed", "--format", "docker-dir", "-o", "d", &name];
    sandbox.coracle(refused).fails(125, &["docker-dir"]);
}

#[test]
fn archives_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.ok(["create", "--network", "none", "--name", "c", "guest", "exit", "0"]);
    sandbox.ok(["save", "-o", "image.tar", "guest"]);
    sandbox.ok(["export", "-o", "files.tar", "c"]);
    for name in ["image.tar", "files.tar"] {
        let mode = std::fs::metadata(sandbox.path("work").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

/// `save` holds no lock that `load` waits for, nor the other way round.
#[test]
fn save_into_load_by_a_pipe() {
    let Some(sandbox) = with_image(&[]) else { return };
    for (format, through) in [("docker-archive", ""), ("oci-archive", ""), ("docker-archive", "cat | ")] {
        let script =
            format!("\"$0\" save --format {format} many/layers:1 busybox guest | {through}\"$0\" load");
        let mut command = sandbox.command("sh");
        command.args(["-ec", &script]).arg(crate::harness::sandbox::binary());
        let output = Running::start(command).wait().ok();
        assert_eq!(output.lines().len(), 3, "{format} {through}: {output}");
    }
}

#[test]
fn a_save_whose_reader_stands_still_holds_nobody_up() {
    let Some(sandbox) = with_image(&[]) else { return };
    let (id, layers) = identity(&sandbox, "many/layers:1");
    for format in ["docker-archive", "oci-archive"] {
        let mut command = sandbox.tool(["save", "--format", format, "many/layers:1"]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::inherit());
        let mut save = command.spawn().unwrap();
        let mut archive = vec![0];
        let mut stdout = save.stdout.take().unwrap();
        stdout.read_exact(&mut archive).unwrap();
        sandbox.ok(["tag", "busybox", "other:1"]);
        // Nor does anything vanish under it.
        sandbox.ok(["rmi", "-f", &id]);
        sandbox.ok(["image", "prune", "-a", "-f"]);
        stdout.read_to_end(&mut archive).unwrap();
        assert!(save.wait().unwrap().success(), "{format}");
        std::fs::write(sandbox.path("work/archive"), &archive).unwrap();
        sandbox.ok(["load", "-i", "archive"]);
        assert_eq!(identity(&sandbox, "many/layers:1"), (id.clone(), layers.clone()), "{format}");
        assert_eq!(sandbox.run(&["many/layers:1", "cat", "/data/two"]).ok().text(), "1");
        for archive in ["busybox", "guest"] {
            sandbox.load(&needs::archive(archive).unwrap());
        }
    }
}

/// Podman's own store in the sandbox, without what its user has set up.
fn podman(sandbox: &Sandbox, words: &[&str]) -> Output {
    let (root, run) = (text(&sandbox.path("work/podman")), text(&sandbox.path("run/podman")));
    let global =
        ["--root", &root, "--runroot", &run, "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"];
    other(sandbox, "podman", &[&global[..], words].concat())
}

fn without_podman(sandbox: &Sandbox) {
    podman(sandbox, &["unshare", "rm", "-rf", &text(&sandbox.path("work/podman"))]).ok();
    // Ends the process that holds its user namespace.
    podman(sandbox, &["system", "migrate"]).ok();
}

#[test]
fn podman_and_coracle_load_each_other_s_archives() {
    let Some(sandbox) = with_image(&[Need::Program("podman"), Need::SubIds]) else { return };
    let (id, layers) = identity(&sandbox, "many/layers:1");
    for format in ["docker-archive", "oci-archive"] {
        sandbox.ok(["save", "--format", format, "-o", "ours", "many/layers:1"]);
        podman(&sandbox, &["load", "-q", "-i", "ours"]).ok();
        let theirs =
            podman(&sandbox, &["image", "inspect", "--format", "{{json .RootFS.Layers}}", "many/layers:1"]);
        assert_eq!(theirs.ok().text(), layers, "{format}");
        podman(&sandbox, &["save", "-q", "--format", format, "-o", "theirs", "many/layers:1"]).ok();
        sandbox.ok(["rmi", "-f", &id]);
        sandbox.ok(["load", "-i", "theirs"]);
        assert_eq!(identity(&sandbox, "many/layers:1").1, layers, "{format}");
        assert_eq!(sandbox.run(&["many/layers:1", "cat", "/data/two"]).ok().text(), "1");
        std::fs::remove_file(sandbox.path("work/theirs")).unwrap();
    }
    for format in ["oci-dir", "docker-dir"] {
        podman(&sandbox, &["save", "-q", "--format", format, "-o", format, "many/layers:1"]).ok();
        sandbox.ok(["rmi", "-a"]);
        let loaded = sandbox.ok(["load", "-q", "-i", format]);
        assert!(loaded.starts_with("Loaded image"), "{loaded}");
        let id = sandbox.ok(["images", "-q", "--no-trunc"]);
        assert_eq!(identity(&sandbox, &id).1, layers, "{format}");
    }
    without_podman(&sandbox);
}

#[test]
fn umoci_unpacks_what_coracle_saves_and_coracle_loads_what_umoci_repacks() {
    let Some(sandbox) = with_image(&[Need::Program("umoci")]) else { return };
    sandbox.ok(["save", "--format", "oci-dir", "-o", "layout", "many/layers:1"]);
    let image = "layout:docker.io/many/layers:1";
    other(&sandbox, "umoci", &["unpack", "--rootless", "--image", image, "bundle"]).ok();
    assert_eq!(std::fs::read(sandbox.path("work/bundle/rootfs/data/two")).unwrap(), b"1");
    std::fs::write(sandbox.path("work/bundle/rootfs/data/new"), "umoci's").unwrap();
    other(&sandbox, "umoci", &["repack", "--image", "layout:changed", "bundle"]).ok();
    sandbox.ok(["pull", "-q", "oci:layout:changed"]);
    let (_, before) = identity(&sandbox, "many/layers:1");
    let (_, after) = identity(&sandbox, "localhost/changed");
    assert!(after.starts_with(before.trim_end_matches(']')), "{before} {after}");
    assert_eq!(sandbox.run(&["localhost/changed", "cat", "/data/new"]).ok().text(), "umoci's");
}

#[test]
fn buildah_and_coracle_load_each_other_s_archives() {
    let Some(sandbox) = with_image(&[Need::Peer("buildah"), Need::SubIds]) else { return };
    let (id, layers) = identity(&sandbox, "many/layers:1");
    sandbox.ok(["save", "--format", "oci-archive", "-o", "ours", "many/layers:1"]);
    let (root, run) = (text(&sandbox.path("work/podman")), text(&sandbox.path("run/buildah")));
    let buildah = |words: &[&str]| {
        let global = ["--root", &root, "--runroot", &run, "--storage-driver", "vfs"];
        other(&sandbox, "buildah", &[&global[..], words].concat()).ok()
    };
    let pulled = buildah(&["pull", "-q", "oci-archive:ours"]).text().to_owned();
    for place in ["oci-archive:theirs.oci:x/y:1", "docker-archive:theirs.tar:x/y:1"] {
        buildah(&["push", "-q", &pulled, place]);
        sandbox.ok(["rmi", "-a", "-f"]);
        sandbox.ok(["load", "-i", place.split(':').nth(1).unwrap()]);
        assert_eq!(identity(&sandbox, "x/y:1").1, layers, "{place}");
    }
    assert!(id.starts_with("sha256:"));
    buildah(&["rmi", "-a"]);
    other(&sandbox, "buildah", &["unshare", "rm", "-rf", &root]).ok();
}

#[test]
fn image_tree_shows_layers_and_what_is_built_upon_them() {
    let Some(sandbox) = with_image(&[]) else { return };
    builder().layer(Layer::new().file("top", b"1")).load(&sandbox, "upon:1");
    let tree = sandbox.ok(["image", "tree", "upon:1"]);
    let lines: Vec<&str> = tree.lines().collect();
    assert!(lines[0].starts_with("Image ID: ") && lines[1] == "Tags:     [upon:1]", "{tree}");
    assert_eq!(lines[3], "Image Layers");
    assert!(
        lines[5].starts_with("├── ID: ") && lines[5].ends_with("Top Layer of: [many/layers:1]"),
        "{tree}"
    );
    assert!(lines[6].starts_with("└── ID: ") && lines[6].ends_with("Top Layer of: [upon:1]"), "{tree}");
    let above = sandbox.ok(["image", "tree", "--whatrequires", "many/layers:1"]);
    let last = above.lines().last().unwrap();
    assert!(last.starts_with("    └── ID: ") && last.ends_with("[upon:1]"), "{above}");
    sandbox.coracle(["image", "tree", "nothing"]).fails(1, &["nothing"]);
}

#[test]
fn images_remembers_former_names() {
    let Some(sandbox) = with_image(&[]) else { return };
    sandbox.ok(["tag", "many/layers:1", "second:2"]);
    sandbox.ok(["untag", "many/layers:1", "second:2"]);
    sandbox.ok(["tag", "many/layers:1", "third:3"]);
    sandbox.ok(["rmi", "many/layers:1"]);
    let shown = sandbox.ok(["images", "--history", "--filter", "reference=third"]);
    assert!(shown.lines().next().unwrap().ends_with("HISTORY"), "{shown}");
    for name in ["third:3", "many/layers:1"] {
        assert!(shown.contains(name), "{name}: {shown}");
    }
}
