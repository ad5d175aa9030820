//! Registries that lie, stall, and want what is not theirs: the rows "Registry"
//! of the field's record. Each has its positive twin, so that a refusal of
//! everything is no success.

use crate::harness::connect_proxy::ConnectProxy;
use crate::harness::fake_registry::{FakeRegistry, INDEX, MANIFEST, Reply, Served, digest};
use crate::harness::image::Layer;
use crate::harness::own_registry::make_certificates;
use crate::harness::process::Output;
use crate::harness::{Need, Sandbox, SubIds, sandbox};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn served() -> Served {
    Served::new(Layer::new().dir("etc").file("etc/name", &b"contents of a file ".repeat(4000)).into_bytes())
}

/// What a registry makes of an honest answer.
type Spoil = fn(&Served, Reply) -> Reply;

/// `pull` without waits between tries.
fn pull(sandbox: &Sandbox, registry: &FakeRegistry, options: &[&str]) -> Output {
    let name = format!("{}/app:1", registry.address);
    sandbox.coracle([&["pull", "-q", "--retry-delay", "10ms"], options, &[&name]].concat())
}

#[track_caller]
fn nothing_is_left(sandbox: &Sandbox) {
    assert_eq!(sandbox.ok(["images", "-q", "-a"]), "");
    for folder in ["images/.ingest", "images/.arriving", "images/blobs/sha256"] {
        let left = std::fs::read_dir(sandbox.data().join(folder)).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{folder}");
    }
}

#[test]
fn an_honest_registry_is_believed() {
    let Some(sandbox) = sandbox(&[SubIds]) else { return };
    let image = served();
    let registry = FakeRegistry::start(move |asked| image.answer(asked));
    pull(&sandbox, &registry, &[]).ok();
}

/// CVE-2019-10214, CVE-2020-15157, CVE-2021-41092: credentials go to their
/// registry, and neither along a redirect nor to the `urls` of a layer.
#[test]
fn cve_2020_15157_credentials_stay_with_their_registry() {
    let Some(sandbox) = sandbox(&[SubIds]) else { return };
    let mut image = served();
    let elsewhere = {
        let image = image.clone();
        FakeRegistry::start(move |asked| image.answer(asked))
    };
    image.manifest["layers"][0]["urls"] = json!([format!("http://{}/stolen", elsewhere.address)]);
    let to = format!("http://{}{}", elsewhere.address, image.layer_path());
    let registry = FakeRegistry::start(move |asked| {
        if asked.header("authorization").is_none() {
            return Reply::new(401).with("www-authenticate", "Basic realm=\"x\"");
        }
        if asked.path == image.layer_path() {
            return Reply::new(307).with("location", &to);
        }
        image.answer(asked)
    });
    pull(&sandbox, &registry, &["--creds", "alice:secret"]).ok();
    assert!(registry.asked().iter().any(|asked| asked.header("authorization").is_some()));
    let there = elsewhere.asked();
    assert_eq!(there.len(), 1, "the layer, and not its urls: {there:?}");
    assert!(there.iter().all(|asked| asked.header("authorization").is_none()), "{there:?}");
}

/// CVE-2026-33540: a realm of somebody else's collects passwords.
#[test]
fn cve_2026_33540_a_foreign_realm_gets_no_password() {
    let Some(sandbox) = sandbox(&[SubIds]) else { return };
    for realm in ["https://evil.example/token", "ftp://127.0.0.1/token"] {
        let registry = FakeRegistry::start(move |_| {
            Reply::new(401).with("www-authenticate", &format!("Bearer realm=\"{realm}\""))
        });
        let output = pull(&sandbox, &registry, &["--creds", "alice:secret"]);
        assert!(output.code() != 0, "{output}");
        assert!(!output.stderr.contains("secret"), "{output}");
        nothing_is_left(&sandbox);
    }
    // Its own realm gets it, and a token in memory serves for all that follows.
    let image = served();
    let own: Arc<std::sync::OnceLock<String>> = Arc::default();
    let realm = Arc::clone(&own);
    let registry = FakeRegistry::start(move |asked| {
        if asked.path.starts_with("/token?") {
            assert!(asked.header("authorization").is_some_and(|value| value.starts_with("Basic ")));
            assert!(asked.path.contains("scope=repository:app:pull"), "{}", asked.path);
            return Reply::ok(br#"{"token":"sesame","expires_in":300}"#, "application/json");
        }
        if asked.header("authorization") != Some("Bearer sesame") {
            let realm = realm.get().unwrap();
            let challenge = format!(
                "Bearer realm=\"http://{realm}/token\",service=\"s\",scope=\"repository:other:push\""
            );
            return Reply::new(401).with("www-authenticate", &challenge);
        }
        image.answer(asked)
    });
    own.set(registry.address.clone()).unwrap();
    pull(&sandbox, &registry, &["--creds", "alice:secret"]).ok();
    assert_eq!(registry.asked().iter().filter(|asked| asked.path.starts_with("/token?")).count(), 1);
    assert!(std::fs::read_dir(sandbox.path("run/containers")).is_err(), "no token is kept on the disk");
}

/// CVE-2025-6032: a server is who its certificate says, and nobody is asked less
/// than that unless the user says so.
#[test]
fn cve_2025_6032_certificates_are_verified_unless_told_otherwise() {
    let Some(mut sandbox) = sandbox(&[SubIds, Need::Program("openssl")]) else { return };
    let certificates = make_certificates(&sandbox);
    let image = served();
    let registry = FakeRegistry::over_tls(&certificates, move |asked| image.answer(asked));
    let proxy = ConnectProxy::to(&registry.address);
    sandbox.set("HTTPS_PROXY", &proxy.url);
    let pull = |sandbox: &Sandbox, more: &[&str], host: &str| {
        sandbox.coracle([&["pull", "-q", "--retry=0"], more, &[&format!("{host}/app:1")]].concat())
    };
    // Signed by somebody whom this system does not know.
    pull(&sandbox, &[], "registry.example").refused(&[
        "certificate of registry.example is not accepted",
        "coracle doctor`, which looks at: certificates",
    ]);
    assert!(registry.asked().is_empty(), "nothing is said before it is known who listens");
    pull(&sandbox, &["--tls-verify=false"], "registry.example").ok();
    sandbox.ok(["rmi", "registry.example/app:1"]);
    // By somebody whom it knows, and then for another name.
    sandbox.set("SSL_CERT_FILE", certificates.join("ca.crt").to_str().unwrap());
    pull(&sandbox, &[], "registry.example").ok();
    let other = pull(&sandbox, &[], "other.example");
    let other = other.refused(&["certificate of other.example is not accepted", "subjectAltName"]);
    assert!(!other.stderr.contains("authority"), "none would make it the right name: {other}");
}

/// CVE-2024-3727: a digest is part of a path and of a URL.
#[test]
fn cve_2024_3727_digests_are_digests() {
    let Some(sandbox) = sandbox(&[SubIds]) else { return };
    let good = digest(&served().layer);
    let shout = format!("sha256:{}", good[7..].to_uppercase());
    for bad in
        ["sha256:../../../../etc/passwd", "sha256:", "sha256:00", &shout, &format!("{good}0"), "md5:00"]
    {
        let mut image = served();
        image.manifest["layers"][0]["digest"] = json!(bad);
        let registry = FakeRegistry::start(move |asked| image.answer(asked));
        pull(&sandbox, &registry, &[]).refused(&[]);
        assert!(registry.asked().iter().all(|asked| !asked.path.contains("..")), "{bad}");
        nothing_is_left(&sandbox);
    }
}

/// CVE-2021-41190: one document that is a manifest to one and an index to another.
#[test]
fn cve_2021_41190_ambiguous_manifests_are_refused() {
    let Some(sandbox) = sandbox(&[SubIds]) else { return };
    let spoilers: [fn(&mut serde_json::Value); 3] = [
        |manifest| manifest["manifests"] = json!([]),
        |manifest| manifest["mediaType"] = json!(INDEX),
        |manifest| manifest["schemaVersion"] = json!(1),
    ];
    for spoil in spoilers {
        let mut image = served();
        spoil(&mut image.manifest);
        let registry = FakeRegistry::start(move |asked| match image.answer(asked) {
            reply if asked.path.contains("manifests") => Reply::ok(&reply.body, MANIFEST),
            reply => reply,
        });
        pull(&sandbox, &registry, &[]).refused(&["manifest"]);
        nothing_is_left(&sandbox);
    }
}

#[test]
fn wrong_and_endless_bodies_end_the_pull() {
    let Some(sandbox) = sandbox(&[SubIds]) else { return };
    let spoilers: [(&str, Spoil); 4] = [
        ("other bytes", |image, _| Reply::ok(&vec![b'x'; image.layer.len()], "x/y")),
        ("too short", |image, _| Reply::ok(&image.layer[..100], "x/y")),
        ("too long", |image, _| Reply::ok(&[&image.layer[..], b"more"].concat(), "x/y")),
        ("endless", |_, _| Reply { endless: true, ..Reply::ok(&[b'x'; 4096], "x/y") }),
    ];
    for (what, spoil) in spoilers {
        let image = served();
        let registry = FakeRegistry::start(move |asked| {
            let reply = image.answer(asked);
            if asked.path == image.layer_path() { spoil(&image, reply) } else { reply }
        });
        println!("{what}");
        let output = pull(&sandbox, &registry, &[]);
        assert!(output.code() != 0, "{what}: {output}");
        if what == "too short" {
            // Nobody knows yet that it is not the beginning of the blob: it is kept, until somebody prunes.
            sandbox.ok(["image", "prune", "-f"]);
        }
        nothing_is_left(&sandbox);
    }
    let registry = FakeRegistry::start(|_| Reply { endless: true, ..Reply::ok(&[b' '; 4096], MANIFEST) });
    pull(&sandbox, &registry, &[]).refused(&["more than"]);
    let registry = FakeRegistry::start(|asked| Reply::new(302).with("location", &asked.path));
    pull(&sandbox, &registry, &[]).refused(&["redirects"]);
    nothing_is_left(&sandbox);
}

/// A cut costs the rest, not the whole; so does a process that ends.
#[test]
fn a_cut_transfer_goes_on_where_it_was_cut() {
    let Some(sandbox) = sandbox(&[SubIds]) else { return };
    let cuts = Arc::new(AtomicUsize::new(2));
    let (image, left) = (served(), Arc::clone(&cuts));
    let path = image.layer_path();
    let registry = FakeRegistry::start(move |asked| {
        let reply = image.answer(asked);
        let is_layer = asked.path == image.layer_path();
        let cut =
            is_layer && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        if cut { Reply { cut: Some(20_000), ..reply } } else { reply }
    });
    pull(&sandbox, &registry, &[]).ok();
    let ranges = |registry: &FakeRegistry| {
        let of_layer = registry.asked().into_iter().filter(|asked| asked.path == path);
        of_layer.map(|asked| asked.header("range").unwrap_or("whole").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ranges(&registry), ["whole", "bytes=20000-", "bytes=40000-"]);
    sandbox.ok(["rmi", "-f", &format!("{}/app:1", registry.address)]);

    // No more tries: the beginning stays, and the next command goes on.
    cuts.store(1, Ordering::SeqCst);
    pull(&sandbox, &registry, &["--retry", "0"]).refused(&["cut"]);
    pull(&sandbox, &registry, &[]).ok();
    assert_eq!(ranges(&registry)[3..], ["whole", "bytes=20000-"]);
}

#[test]
fn a_busy_registry_is_asked_again() {
    let Some(sandbox) = sandbox(&[SubIds]) else { return };
    let (image, calls) = (served(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&calls);
    let registry = FakeRegistry::start(move |asked| match counted.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(429).with("retry-after", "0"),
        1 => Reply::new(503),
        _ => image.answer(asked),
    });
    pull(&sandbox, &registry, &[]).ok();
    let busy = FakeRegistry::start(|_| Reply::new(429));
    pull(&sandbox, &busy, &["--retry", "0"]).refused(&["too often"]);
    assert_eq!(busy.asked().len(), 1);
}

/// Two commands that want the same blob get it once.
#[test]
fn two_pulls_at_once_fetch_each_blob_once() {
    let Some(sandbox) = sandbox(&[SubIds]) else { return };
    let image = served();
    let path = image.layer_path();
    let registry = FakeRegistry::start(move |asked| {
        if asked.path == image.layer_path() {
            // Long enough for the other to come here too, if it would.
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        image.answer(asked)
    });
    let name = format!("{}/app:1", registry.address);
    let pulls: Vec<_> = (0..3).map(|_| sandbox.spawn(["pull", "-q", &name])).collect();
    for pull in pulls {
        pull.wait().ok();
    }
    assert_eq!(registry.count(&path), 1);
}

/// `registries.conf`: mirrors, short names, what is blocked.
#[test]
fn the_configuration_leads_to_the_registry() {
    let Some(sandbox) = sandbox(&[SubIds]) else { return };
    let image = served();
    let registry = FakeRegistry::start(move |asked| image.answer(asked));
    let broken = FakeRegistry::start(|_| Reply::new(404));
    let conf = format!(
        "unqualified-search-registries = ['{}', '{}']\n[aliases]\nnick = '{}/app'\n\
         [[registry]]\nlocation = 'blocked.example'\nblocked = true\n\
         [[registry]]\nprefix = '*.mirrored.example'\nlocation = '127.0.0.1:1'\n\
         [[registry.mirror]]\nlocation = '{}'\n[[registry.mirror]]\nlocation = '{}'\n",
        broken.address, registry.address, registry.address, broken.address, registry.address
    );
    let dir = sandbox.path("config/containers");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("registries.conf"), conf).unwrap();
    let pull = |name: &str| sandbox.coracle(["pull", "--retry", "0", name]);
    for name in ["app:1", "nick:1"] {
        let said = pull(name).ok();
        assert_eq!(said.lines().last(), Some(&format!("{}/app:1", registry.address).as_str()));
        // Found again by what was typed.
        assert!(sandbox.inspect(name)["RepoTags"][0].as_str().unwrap().contains("app:1"));
        sandbox.ok(["pull", "-q", "--policy", "never", name]);
        sandbox.ok(["rmi", name]);
    }
    let said = pull("a.mirrored.example/app:1").ok();
    assert_eq!(said.lines().last(), Some(&"a.mirrored.example/app:1"));
    assert!(said.stderr.contains("mirror"), "the one that failed is named: {said}");
    pull("blocked.example/app:1").refused(&["blocked by registries.conf"]);
}

#[test]
fn all_tags_and_platforms_are_named() {
    let Some(sandbox) = sandbox(&[SubIds]) else { return };
    let image = served();
    let registry = FakeRegistry::start(move |asked| match asked.path.as_str() {
        "/v2/app/tags/list?n=1000" => Reply::ok(br#"{"name":"app","tags":["1"]}"#, "application/json")
            .with("link", "</v2/app/tags/list?n=1000&last=1>; rel=\"next\""),
        "/v2/app/tags/list?n=1000&last=1" => {
            Reply::ok(br#"{"name":"app","tags":["2","../evil"]}"#, "application/json")
        }
        "/v2/app/manifests/2" => {
            let mut one = asked.clone();
            one.path = "/v2/app/manifests/1".into();
            image.answer(&one)
        }
        "/v2/app/manifests/many" => {
            let manifest = serde_json::to_vec(&image.manifest).unwrap();
            let entry = |architecture: &str| {
                json!({"mediaType": MANIFEST, "digest": digest(&manifest), "size": manifest.len(),
                       "platform": {"os": "linux", "architecture": architecture}})
            };
            let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry("s390x"), entry("riscv64")]});
            Reply::ok(&serde_json::to_vec(&index).unwrap(), INDEX)
        }
        _ => image.answer(asked),
    });
    let name = format!("{}/app", registry.address);
    let pulled = sandbox.ok(["pull", "-a", &name]);
    assert_eq!(pulled.lines().filter(|line| line.starts_with(&name)).count(), 2, "{pulled}");
    assert_eq!(sandbox.ok(["images", "--format", "{{.Tag}}", &name]).lines().count(), 2);
    sandbox.coracle(["pull", "-a", &format!("{name}:1")]).refused(&["tag"]);
    let many = format!("{name}:many");
    sandbox.coracle(["pull", &many]).refused(&["linux/riscv64, linux/s390x"]);
    sandbox.coracle(["pull", "--arch", "arm64", "--platform", "linux/amd64", &many]).refused(&["--platform"]);
    sandbox.coracle(["pull", "--policy", "sometimes", &many]).refused(&["--policy"]);
}
