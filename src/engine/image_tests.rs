//! Images end to end, without a container: pulled from a registry in this
//! process, listed, saved, loaded, removed.

use super::images::{ensure_layers, find, get, history, inspect, list, tag, untag};
use super::import::{ImportOptions, import};
use super::load::{LoadSource, load};
use super::pull::{PullOptions, pull};
use super::registry_access::RegistryOptions;
use super::rmi::{InUse, Removed, prune, remove};
use super::save::{SaveFormat, SaveOptions, SaveTarget, save};
use crate::dirs::Dirs;
use crate::error::{Kind, Result};
use crate::image::archive::Wanted;
use crate::image::manifest::{
    DOCKER_CONFIG, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST,
};
use crate::registry::credentials::Credentials;
use crate::registry::fake::{Answer, FakeRegistry};
use crate::storage::unpack::Ownership;
use crate::types::digest::Digest;
use crate::types::platform::Platform;
use crate::types::progress::Report;
use crate::types::reference::Reference;
use serde_json::json;
use std::io::Write;

/// Layers are unpacked by a user without the right to change owners.
const OWNERSHIP: Ownership = Ownership::Squash;

fn home() -> (tempfile::TempDir, Dirs) {
    let dir = tempfile::tempdir().expect("tempdir");
    let dirs = Dirs::beneath(dir.path());
    (dir, dirs)
}

fn layer(file: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(file.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, file, file.as_bytes()).expect("append");
    builder.into_inner().expect("tar")
}

fn as_format(format: SaveFormat) -> SaveOptions {
    SaveOptions { format, ..SaveOptions::default() }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("write");
    encoder.finish().expect("finish")
}

/// An image served as `app` under the tag `1`.
struct Served {
    registry: FakeRegistry,
    manifest: Vec<u8>,
    id: Digest,
    blobs: Vec<Vec<u8>>,
}

fn blob_path(bytes: &[u8]) -> String {
    format!("/v2/app/blobs/{}", Digest::of(bytes))
}

fn serve(manifest_type: &str, config_type: &str, layers: &[&str]) -> Served {
    let registry = FakeRegistry::start();
    let tars: Vec<Vec<u8>> = layers.iter().map(|file| layer(file)).collect();
    let blobs: Vec<Vec<u8>> = tars.iter().map(|tar| gzip(tar)).collect();
    let config = json!({"os": "linux", "architecture": Platform::host().architecture,
        "created": "2024-01-02T03:04:05Z", "config": {"Cmd": ["sh"], "Labels": {"a": "b"}},
        "rootfs": {"type": "layers", "diff_ids": tars.iter().map(|tar| Digest::of(tar)).collect::<Vec<_>>()},
        "history": [{"created_by": "FROM"}, {"created_by": "ENV", "empty_layer": true}]});
    let config = serde_json::to_vec(&config).expect("json");
    let descriptor = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()});
    let layers: Vec<_> = blobs.iter().map(|blob| descriptor(OCI_LAYER_GZIP, blob)).collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": manifest_type,
        "config": descriptor(config_type, &config), "layers": layers});
    let manifest = serde_json::to_vec(&manifest).expect("json");
    registry.serve("/v2/app/manifests/1", Answer::ok(&manifest, manifest_type));
    registry
        .serve(&format!("/v2/app/manifests/{}", Digest::of(&manifest)), Answer::ok(&manifest, manifest_type));
    registry.serve(&blob_path(&config), Answer::ok(&config, "application/octet-stream"));
    for blob in &blobs {
        registry.serve(&blob_path(blob), Answer::ok(blob, "application/octet-stream"));
    }
    Served { id: Digest::of(&config), registry, manifest, blobs }
}

impl Served {
    fn oci(layers: &[&str]) -> Self {
        serve(OCI_MANIFEST, OCI_CONFIG, layers)
    }

    fn name(&self) -> String {
        format!("{}/app:1", self.registry.host)
    }

    fn pull(&self, dirs: &Dirs) -> Result<super::images::LocalImage> {
        pull(dirs, &self.name(), &PullOptions::default(), OWNERSHIP, &mut |_| {})
    }
}

fn count(path: &std::path::Path) -> usize {
    std::fs::read_dir(path).map_or(0, Iterator::count)
}

#[test]
fn a_pulled_image_is_found_by_every_name_and_removed_whole() {
    let served = Served::oci(&["one", "two", "one"]);
    let (_home, dirs) = home();
    let mut told = Vec::new();
    let image = pull(&dirs, &served.name(), &PullOptions::default(), OWNERSHIP, &mut |report| {
        if let Report::Line(line) = report {
            told.push(line);
        }
    })
    .expect("pull");
    assert_eq!(image.id, served.id);
    assert_eq!(image.layers.len(), 3);
    assert_eq!(count(&dirs.layers().join(image.layers[2].hex())).min(1), 1);
    assert!(told.last().expect("lines").starts_with("Status: Downloaded newer image"), "{told:?}");
    for name in [
        served.name(),
        image.id.to_string(),
        image.id.short().to_owned(),
        format!("{}/app@{}", served.registry.host, image.manifest),
    ] {
        assert_eq!(find(&dirs, &name, None).expect("find").expect(&name).id, image.id);
    }
    let other = Platform::parse("linux/s390x").expect("platform");
    assert!(find(&dirs, &served.name(), Some(&other)).expect("find").is_none());

    // Again: nothing is downloaded but the manifest.
    let before = served.registry.asked().len();
    served.pull(&dirs).expect("again");
    assert_eq!(served.registry.asked().len(), before + 1);

    let lines =
        remove(&dirs, &served.name(), false, &|| Ok(InUse::default()), &mut Vec::new()).expect("remove");
    assert_eq!(lines.len(), 1 + 1 + 3, "{lines:?}");
    assert_eq!(lines[1], Removed::Deleted(image.id.clone()));
    assert_eq!(count(&dirs.images().join("blobs/sha256")), 0);
    assert_eq!(count(&dirs.images().join(".ingest")), 0);
    assert!(find(&dirs, &served.name(), None).expect("find").is_none());
}

#[test]
fn dockers_manifest_keeps_its_digest() {
    let served = serve(DOCKER_MANIFEST, DOCKER_CONFIG, &["one"]);
    let (_home, dirs) = home();
    let image = served.pull(&dirs).expect("pull");
    assert_eq!(image.manifest, Digest::of(&served.manifest));
    assert_eq!(get(&dirs, &served.name()).expect("get").id, served.id);
    let (_other, to) = home();
    for format in [SaveFormat::OciArchive, SaveFormat::DockerArchive] {
        let mut archive = Vec::new();
        save(&dirs, &[served.name()], &as_format(format), SaveTarget::Stream(&mut archive)).expect("save");
        let loaded =
            load(&to, LoadSource::Stream(&mut &archive[..]), Wanted::default(), OWNERSHIP).expect("load");
        assert_eq!(loaded[0].image.id, served.id);
        assert_eq!(loaded[0].names, [Reference::parse(&served.name()).expect("valid")]);
        assert_eq!(loaded[0].image.manifest == image.manifest, format == SaveFormat::OciArchive);
    }
}

#[test]
fn an_index_leads_to_this_platform() {
    let served = Served::oci(&["one"]);
    let entry = |platform: &Platform| {
        json!({"mediaType": OCI_MANIFEST, "digest": Digest::of(&served.manifest),
        "size": served.manifest.len(), "platform": platform})
    };
    let foreign = json!({"mediaType": OCI_MANIFEST, "digest": Digest::of(b"x"), "size": 1,
        "platform": {"os": "linux", "architecture": "s390x"}});
    let index = json!({"schemaVersion": 2, "manifests": [foreign, entry(&Platform::host())]});
    let index = serde_json::to_vec(&index).expect("json");
    served.registry.serve("/v2/app/manifests/1", Answer::ok(&index, OCI_INDEX));
    let (_home, dirs) = home();
    let image = served.pull(&dirs).expect("pull");
    assert_eq!(image.id, served.id);
    let document = inspect(&dirs, &served.name()).expect("inspect");
    assert_eq!(document["RepoDigests"][0], format!("{}/app@{}", served.registry.host, Digest::of(&index)));
    assert_eq!(document["Config"]["Cmd"][0], "sh");
    assert_eq!(document["Config"]["Env"], json!([]));
    // An index inside an index, as containers/image and containerd follow it.
    let inside = json!({"mediaType": OCI_INDEX, "digest": Digest::of(&index), "size": index.len()});
    let outer = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [inside]});
    let outer = serde_json::to_vec(&outer).expect("json");
    served.registry.serve("/v2/app/manifests/nested", Answer::ok(&outer, OCI_INDEX));
    served
        .registry
        .serve(&format!("/v2/app/manifests/{}", Digest::of(&index)), Answer::ok(&index, OCI_INDEX));
    let nested = format!("{}/app:nested", served.registry.host);
    let image = pull(&dirs, &nested, &PullOptions::default(), OWNERSHIP, &mut |_| {}).expect("nested");
    assert_eq!(image.id, served.id);
    let options = PullOptions {
        platform: Some(Platform::parse("linux/arm/v7").expect("platform")),
        ..PullOptions::default()
    };
    let error = pull(&dirs, &served.name(), &options, OWNERSHIP, &mut |_| {}).expect_err("no such platform");
    assert!(error.hints()[0].contains("s390x"), "{error} {:?}", error.hints());
}

/// What a test does to a registry before it is asked.
type Spoil<'a> = &'a dyn Fn(&Served);

/// A registry may send anything: nothing of it gets a name.
#[test]
fn wrong_content_is_refused_and_leaves_nothing() {
    let digest_of_other =
        |served: &Served| Answer::ok(&vec![b'x'; served.blobs[0].len()], "application/octet-stream");
    let cases: [(&str, Spoil<'_>); 5] = [
        ("other content", &|served| {
            served.registry.serve(&blob_path(&served.blobs[0]), digest_of_other(served));
        }),
        ("longer", &|served| {
            let longer = [&served.blobs[0][..], b"more"].concat();
            served.registry.serve(&blob_path(&served.blobs[0]), Answer::ok(&longer, "x/y"));
        }),
        ("missing", &|served| {
            served.registry.serve(&blob_path(&served.blobs[0]), Answer { status: 404, ..Answer::default() });
        }),
        ("huge manifest", &|served| {
            served.registry.serve("/v2/app/manifests/1", Answer::ok(&vec![b' '; 5 << 20], OCI_MANIFEST));
        }),
        ("redirects without end", &|served| {
            served.registry.serve("/v2/app/manifests/1", Answer::redirect("/v2/app/manifests/1"));
        }),
    ];
    for (what, spoil) in cases {
        let served = Served::oci(&["one", "two"]);
        spoil(&served);
        let (_home, dirs) = home();
        assert!(served.pull(&dirs).is_err(), "{what}");
        assert!(find(&dirs, &served.name(), None).expect("find").is_none(), "{what}");
        assert_eq!(count(&dirs.images().join(".ingest")), 0, "{what}");
    }
}

#[test]
fn a_digest_that_was_asked_for_must_come() {
    let served = Served::oci(&["one"]);
    let wanted = Digest::of(b"something else");
    served.registry.serve(&format!("/v2/app/manifests/{wanted}"), Answer::ok(&served.manifest, OCI_MANIFEST));
    let (_home, dirs) = home();
    let name = format!("{}/app@{wanted}", served.registry.host);
    assert!(pull(&dirs, &name, &PullOptions::default(), OWNERSHIP, &mut |_| {}).is_err());
    let name = format!("{}/app@{}", served.registry.host, Digest::of(&served.manifest));
    pull(&dirs, &name, &PullOptions::default(), OWNERSHIP, &mut |_| {}).expect("the right one");
    assert_eq!(find(&dirs, &name, None).expect("find").expect("found").id, served.id);
}

#[test]
fn a_busy_registry_and_a_cut_transfer_are_tried_again() {
    let served = Served::oci(&["one"]);
    served
        .registry
        .serve("/v2/app/manifests/1", Answer { busy: 2, ..Answer::ok(&served.manifest, OCI_MANIFEST) });
    let (_home, dirs) = home();
    served.pull(&dirs).expect("after two tries");
    let cut = Answer { cut: Some(10), ..Answer::ok(&served.blobs[0], "x/y") };
    served.registry.serve(&blob_path(&served.blobs[0]), cut);
    let (_home, dirs) = home();
    assert!(served.pull(&dirs).is_err());
    let tries =
        served.registry.asked().iter().filter(|asked| asked.path == blob_path(&served.blobs[0])).count();
    assert_eq!(tries, 1 + 1 + 3, "one that went well, one, and three more");
}

/// CVE-2019-10214, CVE-2020-15157: who sees an Authorization header.
#[test]
fn passwords_and_tokens_stay_with_their_registry() {
    let served = Served::oci(&["one"]);
    let elsewhere = FakeRegistry::start();
    let token = "Bearer sesame".to_owned();
    let challenge = format!(
        "Bearer realm=\"http://{}/token\",service=\"s\",scope=\"repository:other:push\"",
        served.registry.host
    );
    served.registry.serve(
        "/v2/app/manifests/1",
        Answer { needs: Some(token.clone()), challenge, ..Answer::ok(&served.manifest, OCI_MANIFEST) },
    );
    served.registry.serve("/token", Answer::ok(br#"{"token":"sesame"}"#, "application/json"));
    let path = blob_path(&served.blobs[0]);
    served.registry.serve(&path, Answer::redirect(&format!("http://{}{path}", elsewhere.host)));
    elsewhere.serve(&path, Answer::ok(&served.blobs[0], "x/y"));
    let credentials = Some(Credentials::password("u", "p"));
    let registry = RegistryOptions { credentials, ..RegistryOptions::default() };
    let options = PullOptions { registry, ..PullOptions::default() };
    let (_home, dirs) = home();
    pull(&dirs, &served.name(), &options, OWNERSHIP, &mut |_| {}).expect("pull");

    let asked = served.registry.asked();
    let to_token = asked.iter().find(|asked| asked.path.starts_with("/token")).expect("asked for a token");
    assert!(to_token.authorization.as_deref().is_some_and(|value| value.starts_with("Basic ")));
    assert!(to_token.path.contains("scope=repository:app:pull") && !to_token.path.contains("push"));
    let to_blob = asked.iter().find(|asked| asked.path == path).expect("asked for the blob");
    assert_eq!(to_blob.authorization.as_deref(), Some(token.as_str()));
    assert_eq!(elsewhere.asked().len(), 1);
    assert!(elsewhere.asked().iter().all(|asked| asked.authorization.is_none()), "{:?}", elsewhere.asked());
    assert!(
        asked
            .iter()
            .filter(|a| !a.path.starts_with("/token"))
            .all(|a| a.authorization.as_deref() != Some("Basic dTpw"))
    );
}

#[test]
fn a_registry_that_is_not_there_is_named_at_once() {
    let (_home, dirs) = home();
    let start = std::time::Instant::now();
    let error = pull(&dirs, "127.0.0.1:1/x", &PullOptions::default(), OWNERSHIP, &mut |_| {})
        .expect_err("nobody there");
    assert!(error.to_string().contains("reach 127.0.0.1"), "{error}");
    assert!(!error.hints().is_empty());
    assert!(start.elapsed().as_secs() < 5);
    let registry = RegistryOptions { tls_verify: Some(true), ..RegistryOptions::default() };
    let strict = PullOptions { registry, ..PullOptions::default() };
    let served = Served::oci(&["one"]);
    assert!(pull(&dirs, &served.name(), &strict, OWNERSHIP, &mut |_| {}).is_err(), "plain http was taken");
}

#[test]
fn names_come_and_go() {
    let served = Served::oci(&["one"]);
    let (_home, dirs) = home();
    let none = || Ok(InUse::default());
    assert_eq!(tag(&dirs, "x", "y").expect_err("empty store").kind(), Kind::NotFound);
    assert_eq!(remove(&dirs, "x", true, &none, &mut Vec::new()).expect_err("empty").kind(), Kind::NotFound);
    let image = served.pull(&dirs).expect("pull");
    tag(&dirs, image.id.short(), "app:2").expect("tag");
    tag(&dirs, "app:2", "localhost/mine").expect("tag");
    assert_eq!(get(&dirs, "mine").expect("get").id, image.id);
    assert_eq!(list(&dirs, &mut Vec::new()).expect("list").len(), 3);
    let several =
        remove(&dirs, image.id.short(), false, &none, &mut Vec::new()).expect_err("several repositories");
    assert_eq!(several.kind(), Kind::Conflict);
    let lines = remove(&dirs, "app:2", false, &none, &mut Vec::new()).expect("one of several");
    assert_eq!(lines.iter().map(ToString::to_string).collect::<Vec<_>>(), ["Untagged: app:2"]);
    untag(&dirs, image.id.short(), &[]).expect("untag");
    let rows = list(&dirs, &mut Vec::new()).expect("list");
    assert_eq!((rows.len(), rows[0].reference.clone()), (1, None));
    assert!(get(&dirs, image.id.short()).is_ok());
    assert_eq!(history(&dirs, image.id.short()).expect("history").len(), 2);

    let used = || {
        let mut used = InUse::default();
        used.images.insert(image.id.clone(), vec!["web".into()]);
        used.layers.extend(image.layers.iter().cloned());
        Ok(used)
    };
    assert!(prune(&dirs, &|_, _| true, &used, &mut Vec::new()).expect("prune").lines.is_empty());
    let error = remove(&dirs, image.id.short(), false, &used, &mut Vec::new()).expect_err("in use");
    assert!(error.to_string().contains("web"), "{error}");
    remove(&dirs, image.id.short(), true, &used, &mut Vec::new()).expect("forced");
    assert!(dirs.layers().join(image.layers[0].hex()).exists(), "the container keeps its layer");
}

#[test]
fn shared_layers_stay_and_missing_ones_come_back() {
    let (one, two) = (Served::oci(&["base"]), Served::oci(&["base", "top"]));
    let (_home, dirs) = home();
    let small = one.pull(&dirs).expect("pull");
    let large = two.pull(&dirs).expect("pull");
    assert_eq!(small.layers[0], large.layers[0]);
    remove(&dirs, &one.name(), false, &|| Ok(InUse::default()), &mut Vec::new()).expect("remove");
    assert!(dirs.layers().join(large.layers[0].hex()).exists());
    std::fs::remove_dir_all(dirs.layers().join(large.layers[1].hex())).expect("remove");
    ensure_layers(&dirs, &large, OWNERSHIP).expect("unpacked again");
    assert!(dirs.layers().join(large.layers[1].hex()).exists());
}

#[test]
fn an_import_that_fails_takes_nothing_of_another_image_along() {
    let (_home, dirs) = home();
    let options = ImportOptions {
        reference: Some(Reference::parse("rootfs:1").expect("valid")),
        ..ImportOptions::default()
    };
    let image = import(&dirs, &mut &layer("bin")[..], &options, OWNERSHIP).expect("import");
    let store = crate::image::store::ImageStore::at(&dirs.images());
    let count = || store.blobs().allocations().expect("listed").len();
    let before = count();
    // What is no tar is a blob all the same, and of that image.
    for digest in [&image.id, &image.manifest] {
        let bytes = std::fs::read(store.blobs().path(digest)).expect("read");
        import(&dirs, &mut &bytes[..], &ImportOptions::default(), OWNERSHIP).expect_err("no tar");
        assert!(store.blobs().path(digest).exists());
    }
    import(&dirs, &mut &b"no tar, and no blob of any image"[..], &options, OWNERSHIP).expect_err("no tar");
    assert_eq!(count(), before);
    assert_eq!(get(&dirs, "rootfs:1").expect("whole").id, image.id);
}

#[test]
fn a_tar_becomes_an_image() {
    let (_home, dirs) = home();
    let options = ImportOptions {
        reference: Some(Reference::parse("rootfs:1").expect("valid")),
        changes: vec!["CMD [\"/bin/app\"]".into()],
        ..ImportOptions::default()
    };
    let image = import(&dirs, &mut &gzip(&layer("bin"))[..], &options, OWNERSHIP).expect("import");
    assert_eq!(get(&dirs, "rootfs:1").expect("get").config.config.cmd.expect("cmd"), ["/bin/app"]);
    assert!(dirs.layers().join(image.layers[0].hex()).exists());
    assert!(import(&dirs, &mut &b""[..], &options, OWNERSHIP).is_err());
    let (again, to) = home();
    let directory = again.path().join("layout");
    save(&dirs, &["rootfs:1".into()], &as_format(SaveFormat::OciDirectory), SaveTarget::Path(&directory))
        .expect("save");
    let loaded = load(&to, LoadSource::Path(&directory), Wanted::default(), OWNERSHIP).expect("load");
    assert_eq!(
        (loaded[0].image.id.clone(), loaded[0].names[0].familiar()),
        (image.id, "rootfs:1".to_owned())
    );
    let full =
        save(&dirs, &["rootfs:1".into()], &as_format(SaveFormat::OciDirectory), SaveTarget::Path(&directory));
    assert_eq!(full.expect_err("not empty").kind(), Kind::Conflict);
}

#[test]
fn two_manifests_of_one_image_are_removed_whole() {
    let served = Served::oci(&["one"]);
    let (_home, dirs) = home();
    let image = served.pull(&dirs).expect("pull");
    // As a docker-archive the layer is not compressed: another manifest, the same config.
    let mut archive = Vec::new();
    save(&dirs, &[served.name()], &as_format(SaveFormat::DockerArchive), SaveTarget::Stream(&mut archive))
        .expect("save");
    tag(&dirs, image.id.short(), "old:1").expect("tag");
    load(&dirs, LoadSource::Stream(&mut &archive[..]), Wanted::default(), OWNERSHIP).expect("load");
    assert_ne!(get(&dirs, &served.name()).expect("get").manifest, image.manifest);
    remove(&dirs, image.id.short(), true, &|| Ok(InUse::default()), &mut Vec::new()).expect("remove");
    assert_eq!(count(&dirs.images().join("blobs/sha256")), 0);
}
