//! How images travel: uploads that are cut, tokens, whole lists, proxies, and
//! registries that drip.

use crate::harness::connect_proxy::{ConnectProxy, cutting_relay};
use crate::harness::fake_registry::{FakeRegistry, INDEX, MANIFEST, Reply, Served, digest};
use crate::harness::image::Layer;
use crate::harness::own_registry::{self, OwnRegistry, Wants, make_certificates};
use crate::harness::{Image, Need, Registry, Sandbox, SubIds, needs, sandbox, until};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const OPENSSL: Need = Need::Program("openssl");

fn served() -> Served {
    Served::new(Layer::new().dir("etc").file("etc/name", &b"contents of a file ".repeat(4000)).into_bytes())
}

/// An image of 300 KB that no compressor makes smaller, as `noise`.
fn load_noise(sandbox: &Sandbox) {
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let noise: Vec<u8> = (0..300_000).map(|_| noise()).collect();
    let layer = sandbox.file("noise.tar", Layer::new().file("noise", &noise).into_bytes());
    sandbox.ok(["import", layer.to_str().unwrap(), "noise"]);
}

/// A cut costs what the registry has not got: the rest goes up in pieces, from
/// where the registry says.
#[test]
fn a_cut_upload_goes_on_where_the_registry_is() {
    let Some(sandbox) = sandbox(&[SubIds]) else { return };
    load_noise(&sandbox);
    let got: Arc<Mutex<Vec<u8>>> = Arc::default();
    let (kept, tries) = (Arc::clone(&got), Arc::new(Mutex::new(0)));
    let counted = Arc::clone(&tries);
    let registry = FakeRegistry::start(move |asked| {
        let large = asked.body.len() > 50_000;
        let (path, _) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        match (asked.method.as_str(), path) {
            ("POST", _) => Reply::new(202).with("location", "/v2/app/blobs/uploads/one"),
            // The first try of the layer is cut before it is answered.
            ("PUT", "/v2/app/blobs/uploads/one") if large => {
                *counted.lock().unwrap() += 1;
                kept.lock().unwrap().extend_from_slice(&asked.body[..10_000]);
                Reply::new(0)
            }
            ("GET", "/v2/app/blobs/uploads/one") => {
                let last = kept.lock().unwrap().len() - 1;
                Reply::new(204)
                    .with("location", "/v2/app/blobs/uploads/two")
                    .with("range", &format!("0-{last}"))
            }
            ("PATCH", "/v2/app/blobs/uploads/two") => {
                let first = kept.lock().unwrap().len();
                let range = format!("{first}-{}", first + asked.body.len() - 1);
                assert_eq!(asked.header("content-range"), Some(range.as_str()));
                kept.lock().unwrap().extend_from_slice(&asked.body);
                Reply::new(202).with("location", "/v2/app/blobs/uploads/three?state=x")
            }
            ("PUT", _) => Reply::new(201),
            _ => Reply::new(404),
        }
    });
    let to = format!("{}/app:1", registry.address);
    sandbox.ok(["push", "-q", "--retry-delay=10ms", "noise", &to]);
    let blob = got.lock().unwrap().clone();
    let digest = digest(&blob);
    assert_eq!(*tries.lock().unwrap(), 1);
    let asked = registry.asked();
    let last =
        asked.iter().find(|asked| asked.path.starts_with("/v2/app/blobs/uploads/three?state=x&digest="));
    assert!(last.unwrap().path.ends_with(&digest), "what arrived is the blob");
}

/// Blobs of an image that was pulled, and of one whose layer is compressed on
/// its way.
#[test]
fn a_push_to_a_registry_that_stands_still_holds_nobody_up() {
    let Some(sandbox) = sandbox(&[Registry, Image("guest"), SubIds]) else { return };
    let pulled = format!("{}/busybox", needs::registry().unwrap());
    for image in ["guest", pulled.as_str()] {
        if image == pulled {
            sandbox.ok(["pull", "-q", image]);
        }
        let id = sandbox.ok(["inspect", "--format", "{{.Id}}", image]);
        let (gate, waiting) = (Arc::new(Mutex::new(())), Arc::new(AtomicUsize::new(0)));
        let (closed, waits) = (Arc::clone(&gate), Arc::clone(&waiting));
        let registry = FakeRegistry::start(move |asked| match asked.method.as_str() {
            "POST" => {
                waits.fetch_add(1, Ordering::SeqCst);
                drop(closed.lock());
                Reply::new(202).with("location", "/v2/app/blobs/uploads/one")
            }
            "PUT" => Reply::new(201),
            _ => Reply::new(404),
        });
        let shut = gate.lock().unwrap();
        let push = sandbox.spawn(["push", "-q", image, &format!("{}/app:1", registry.address)]);
        // Its layer and its config.
        until("both blobs are about to go up", || (waiting.load(Ordering::SeqCst) == 2).then_some(()));
        sandbox.ok(["tag", image, "other:1"]);
        // Nor does anything vanish under it.
        sandbox.ok(["rmi", "-f", &id]);
        sandbox.ok(["image", "prune", "-a", "-f"]);
        drop(shut);
        push.wait().ok();
        let asked = registry.asked();
        let blobs = asked.iter().filter(|asked| asked.method == "PUT" && asked.path.contains("digest="));
        let blobs: Vec<_> = blobs.map(|asked| (&asked.path, digest(&asked.body))).collect();
        assert_eq!(blobs.len(), 2, "{image}");
        assert!(blobs.iter().all(|(path, digest)| path.ends_with(digest.as_str())), "{image}: {blobs:?}");
    }
}

/// The same with Debian's registry behind a line that breaks once.
#[test]
fn a_broken_line_to_a_real_registry_is_mended() {
    let Some(sandbox) = sandbox(&[Registry, SubIds]) else { return };
    if own_registry::program().is_none() {
        return;
    }
    load_noise(&sandbox);
    let registry = OwnRegistry::start(&sandbox, Wants::default());
    let relay = cutting_relay(&registry.address, 150_000);
    let name = format!("{relay}/app:1");
    sandbox.ok(["push", "-q", "--retry-delay=50ms", "noise", &name]);
    let id = sandbox.ok(["inspect", "--format", "{{.Id}}", "noise"]);
    sandbox.ok(["rmi", "-f", "noise"]);
    let direct = registry.name("app:1");
    sandbox.ok(["pull", "-q", &direct]);
    assert_eq!(sandbox.ok(["inspect", "--format", "{{.Id}}", &direct]), id);
    let none = sandbox.coracle(["push", "-q", "--retry=0", &direct, "127.0.0.1:1/app:1"]);
    none.refused(&["127.0.0.1"]);
}

/// oauth.md: what docker's login keeps instead of a password is exchanged for a
/// token by POST, and goes nowhere else.
#[test]
fn an_identity_token_is_exchanged_and_never_shown() {
    let Some(sandbox) = sandbox(&[SubIds]) else { return };
    let image = served();
    let registry = FakeRegistry::start(move |asked| {
        let host = asked.header("host").unwrap();
        if asked.path == "/token" {
            let body = String::from_utf8(asked.body.clone()).unwrap();
            let fields: Vec<&str> = body.split('&').collect();
            assert!(fields.contains(&"grant_type=refresh_token"), "{body}");
            assert!(fields.contains(&"refresh_token=refresh%2Bme"), "{body}");
            assert!(fields.contains(&"scope=repository:app:pull") && fields.contains(&"service=s"), "{body}");
            assert_eq!((asked.method.as_str(), asked.header("authorization")), ("POST", None));
            return Reply::ok(br#"{"access_token":"sesame","expires_in":300}"#, "application/json");
        }
        if asked.header("authorization") != Some("Bearer sesame") {
            let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
            return Reply::new(401).with("www-authenticate", &challenge);
        }
        image.answer(asked)
    });
    let auth = |address: &str| {
        let entry = json!({"auth": "PHRva2VuPjo=", "identitytoken": "refresh+me"});
        let file = sandbox.file("auth.json", json!({"auths": {address: entry}}).to_string());
        format!("--authfile={}", file.display())
    };
    let name = format!("{}/app:1", registry.address);
    sandbox.ok(["pull", "-q", &auth(&registry.address), &name]);
    assert_eq!(registry.asked().iter().filter(|asked| asked.path == "/token").count(), 1);
    // Who wants a password gets no token in its place.
    let basic = FakeRegistry::start(|_| Reply::new(401).with("www-authenticate", "Basic realm=\"x\""));
    let name = format!("{}/app:1", basic.address);
    let output = sandbox.coracle(["pull", "-q", &auth(&basic.address), &name]);
    let output = output.refused(&["wants a password", "coracle login"]);
    assert!(!output.stderr.contains("refresh"), "{output}");
    assert!(basic.asked().iter().all(|asked| asked.header("authorization").is_none()));
}

/// A list goes up whole by either verb, and in another form where that is asked for.
#[test]
fn a_list_is_pushed_with_all_its_images() {
    let Some(sandbox) = sandbox(&[Registry, Image("busybox"), Image("guest")]) else { return };
    if own_registry::program().is_none() {
        return;
    }
    let registry = OwnRegistry::start(&sandbox, Wants::default());
    sandbox.ok(["manifest", "create", "many", "busybox"]);
    sandbox.ok(["manifest", "add", "--arch", "riscv64", "many", "guest"]);
    let docker = "application/vnd.docker.distribution.manifest";
    let raw = |name: &str| -> Value {
        let url = format!("http://{}/v2/{name}", registry.address);
        let accept = format!("{INDEX}, {MANIFEST}, {docker}.list.v2+json, {docker}.v2+json");
        let mut response = ureq::get(&url).header("accept", accept).call().unwrap();
        serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap()
    };
    for (name, words, index, manifest, layer) in [
        ("plain", &["push", "-q"][..], INDEX, "oci.image.manifest", "tar+gzip"),
        ("list", &["manifest", "push", "-q", "--all"], INDEX, "oci.image.manifest", "tar+gzip"),
        (
            "zstd",
            &["manifest", "push", "-q", "--compression-format", "zstd"],
            INDEX,
            "oci.image.manifest",
            "tar+zstd",
        ),
        (
            "docker",
            &["manifest", "push", "-q", "--format", "v2s2"],
            &format!("{docker}.list.v2+json"),
            "docker.distribution.manifest",
            "tar.gzip",
        ),
    ] {
        let to = registry.name(&format!("{name}:1"));
        sandbox.ok([words, &["many", &to]].concat());
        let document = raw(&format!("{name}/manifests/1"));
        assert_eq!(document["mediaType"], json!(index), "{name}");
        let all = document["manifests"].as_array().unwrap();
        assert_eq!(all.len(), 2, "{name}");
        for inner in all {
            let inner = raw(&format!("{name}/manifests/{}", inner["digest"].as_str().unwrap()));
            assert!(inner["mediaType"].as_str().unwrap().contains(manifest), "{name}: {inner}");
            assert!(inner["layers"][0]["mediaType"].as_str().unwrap().ends_with(layer), "{name}: {inner}");
        }
    }
    for bad in [&["--format", "v2s1"][..], &["--compression-format", "xz"], &["--compression-level", "x"]] {
        let to = registry.name("bad:1");
        sandbox.coracle([&["manifest", "push"], bad, &["many", &to]].concat()).refused(&[]);
    }
}

/// A registry with a name and a certificate of its own, behind a proxy.
struct Behind {
    proxy: ConnectProxy,
    authority: PathBuf,
}

fn behind_a_proxy(sandbox: &Sandbox) -> Behind {
    let certificates = make_certificates(sandbox);
    let image = served();
    let registry = FakeRegistry::over_tls(&certificates, move |asked| image.answer(asked));
    Behind { proxy: ConnectProxy::to(&registry.address), authority: certificates.join("ca.crt") }
}

#[test]
fn a_registry_behind_a_proxy_is_reached_through_it() {
    let Some(mut sandbox) = sandbox(&[SubIds, OPENSSL]) else { return };
    let behind = behind_a_proxy(&sandbox);
    sandbox.set("SSL_CERT_FILE", behind.authority.to_str().unwrap());
    let name = "registry.example/app:1";
    let pull = |sandbox: &Sandbox, more: &[&str]| {
        sandbox.coracle([&["pull", "-q", "--retry=0"], more, &[name]].concat())
    };
    let pointer = "see `coracle doctor`, which looks at: name servers, proxy";
    pull(&sandbox, &[]).refused(&["reach registry.example", pointer]);
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        sandbox.set(variable, &behind.proxy.url);
        pull(&sandbox, &[]).ok();
        sandbox.ok(["rmi", name]);
        sandbox.set(variable, "");
    }
    assert!(behind.proxy.asked().iter().all(|asked| asked == "CONNECT registry.example:443"));
    let before = behind.proxy.asked().len();
    sandbox.set("HTTPS_PROXY", &behind.proxy.url);
    // An insecure registry is no reason to go round the proxy.
    pull(&sandbox, &["--tls-verify=false"]).ok();
    assert!(behind.proxy.asked().len() > before);
    sandbox.ok(["rmi", name]);

    // What is excepted, and this machine, are not the proxy's affair.
    let asked = behind.proxy.asked().len();
    let image = served();
    let local = FakeRegistry::start(move |asked| image.answer(asked));
    sandbox.ok(["pull", "-q", &format!("{}/app:1", local.address)]);
    for excepted in ["other.example, registry.example", "example", "registry.example:443"] {
        sandbox.set("NO_PROXY", excepted);
        pull(&sandbox, &[]).refused(&["reach registry.example"]);
    }
    assert_eq!(behind.proxy.asked().len(), asked);
    // That is for plain http.
    sandbox.set("HTTPS_PROXY", "");
    sandbox.set("HTTP_PROXY", &behind.proxy.url);
    sandbox.set("NO_PROXY", "");
    pull(&sandbox, &[]).refused(&["reach registry.example"]);
    assert_eq!(behind.proxy.asked().len(), asked);
    sandbox.set("HTTP_PROXY", "");
    sandbox.set("NO_PROXY", "");
    sandbox.set("HTTPS_PROXY", "ftp://user:secret@proxy.example");
    let output = pull(&sandbox, &[]).refused(&["HTTPS_PROXY is not the address of a proxy", pointer]);
    assert!(!output.stderr.contains("secret"), "{output}");
    assert_eq!(found_by_doctor(&sandbox, "proxy"), "limited: HTTPS_PROXY is not the address of a proxy");
    sandbox.set("HTTPS_PROXY", "http://127.0.0.1:1");
    pull(&sandbox, &[]).refused(&["through the proxy 127.0.0.1:1: reach registry.example", pointer]);
    assert_eq!(
        found_by_doctor(&sandbox, "proxy"),
        "limited: 127.0.0.1:1 does not answer: Connection refused"
    );
    sandbox.set("HTTPS_PROXY", &behind.proxy.url);
    assert!(found_by_doctor(&sandbox, "proxy").ends_with("takes connections"));
    // Certificates of this system that are none.
    sandbox.set("SSL_CERT_FILE", "/dev/null");
    sandbox.set("SSL_CERT_DIR", "/nonexistent");
    pull(&sandbox, &[]).refused(&[
        "no certificates to verify registries with",
        "see `coracle doctor`, which looks at: certificates",
    ]);
    // Nothing of the host is behind a registry on loopback that is not there.
    let output =
        sandbox.coracle(["pull", "-q", "--retry=0", "127.0.0.1:1/app:1"]).refused(&["reach 127.0.0.1"]);
    assert!(!output.stderr.contains("doctor"), "{output}");
}

/// `SEVERITY: WHAT` of one of its lines.
fn found_by_doctor(sandbox: &Sandbox, name: &str) -> String {
    let output = sandbox.coracle(["doctor", "--json"]);
    let checks: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    let lines = checks.as_array().or_else(|| checks["checks"].as_array()).unwrap();
    let line = lines.iter().find(|check| check["name"] == name).unwrap();
    format!("{}: {}", line["severity"].as_str().unwrap(), line["found"].as_str().unwrap())
}

/// Slow-loris: a byte now and then is no better than nothing, and is waited for
/// a minute.
#[test]
fn a_registry_that_drips_is_given_up() {
    let Some(sandbox) = sandbox(&[SubIds]) else { return };
    let drip = Some(Duration::from_millis(400));
    let image = served();
    let documents = FakeRegistry::start({
        let image = image.clone();
        move |asked| Reply { drip, ..image.answer(asked) }
    });
    let layers = FakeRegistry::start(move |asked| match image.answer(asked) {
        reply if asked.path == image.layer_path() => Reply { drip, ..reply },
        reply => reply,
    });
    let begin = Instant::now();
    let pulls = [&documents, &layers]
        .map(|registry| sandbox.spawn(["pull", "-q", "--retry=0", &format!("{}/app:1", registry.address)]));
    for pull in pulls {
        pull.wait_within(Duration::from_secs(100)).refused(&["too slowly"]);
    }
    assert!(begin.elapsed() < Duration::from_secs(95), "{:?}", begin.elapsed());
    assert_eq!(sandbox.ok(["images", "-q", "-a"]), "");
}
