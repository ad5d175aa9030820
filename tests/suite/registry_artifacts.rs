//! What `registry serve` takes beside images: artifacts, indexes of indexes,
//! digests of another kind; and what becomes of it in the store.

use crate::harness::{Image, Need, Sandbox, sandbox};
use crate::registry_serve::{elsewhere, get, serve, status, talk};
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// One request with a body.
fn send(address: &str, request: &str, headers: &str, body: &str) -> String {
    let head = format!(
        "{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    talk(address, format!("{head}{body}").as_bytes())
}

fn hex_of(program: &str, sandbox: &Sandbox, text: &str) -> String {
    std::fs::write(sandbox.path("work/text"), text).unwrap();
    let output = sandbox.command(program).arg(sandbox.path("work/text")).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

fn sha256(sandbox: &Sandbox, text: &str) -> String {
    format!("sha256:{}", hex_of("sha256sum", sandbox, text))
}

/// Pushes a blob in one piece; its descriptor.
fn blob(sandbox: &Sandbox, address: &str, kind: &str, content: &str) -> Value {
    let digest = sha256(sandbox, content);
    status(&send(address, &format!("POST /v2/notes/blobs/uploads/?digest={digest}"), "", content), 201);
    json!({"mediaType": kind, "digest": digest, "size": content.len()})
}

fn put(address: &str, path: &str, kind: &str, document: &Value) -> String {
    send(address, &format!("PUT /v2/{path}"), &format!("Content-Type: {kind}\r\n"), &document.to_string())
}

fn delete(address: &str, path: &str) -> String {
    send(address, &format!("DELETE /v2/{path}"), "", "")
}

/// A note on `subject`, under the tag 1 of `localhost/notes`; its manifest.
pub(crate) fn push_note(sandbox: &Sandbox, address: &str, subject: &str) -> Value {
    let note = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/x-note",
        "config": blob(sandbox, address, EMPTY, "{}"),
        "layers": [blob(sandbox, address, "text/plain", "a note")],
        "subject": {"mediaType": MANIFEST, "digest": subject, "size": 2},
    });
    let answer = put(address, "notes/manifests/1", MANIFEST, &note);
    status(&answer, 201);
    assert!(answer.contains(&format!("OCI-Subject: {subject}\r\n")), "{answer}");
    note
}

#[test]
fn artifacts_are_kept_given_on_and_removed() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let server = serve(&sandbox, &["--writable"]);
    let address = server.address.as_str();
    // The image that it belongs to may come later, or never.
    let subject = format!("sha256:{}", "5".repeat(64));
    let note = push_note(&sandbox, address, &subject);
    let digest = sha256(&sandbox, &note.to_string());
    let layer = note["layers"][0]["digest"].as_str().unwrap().to_owned();
    for under in ["1", &digest] {
        let answer = get(address, &format!("/v2/notes/manifests/{under}"), "");
        assert!(answer.ends_with(&note.to_string()) && answer.contains(&digest), "{answer}");
    }
    assert!(get(address, "/v2/_catalog", "").contains(r#""notes""#));
    let referrers = get(address, &format!("/v2/notes/referrers/{subject}"), "");
    assert!(referrers.contains(&digest) && referrers.contains("application/x-note"), "{referrers}");
    // It is no image, and is nobody's who wants one.
    assert_eq!(sandbox.ok(["images", "--format", "{{.Repository}}"]), "busybox");
    elsewhere(&sandbox, &["pull", &format!("{address}/notes:1")]).fails(125, &["application/x-note"]);
    sandbox.run(&["localhost/notes:1"]).expect_code(125);
    assert_eq!(
        sandbox.ok([
            "artifact",
            "ls",
            "--noheading",
            "--format",
            "{{.Repository}} {{.Tag}} {{.Type}} {{.Subject}}"
        ]),
        format!("localhost/notes 1 application/x-note {subject}")
    );
    let subject_of = "{{.Manifest.subject.digest}}";
    for name in ["notes:1", "localhost/notes:1", &digest, &digest[7..15]] {
        assert_eq!(sandbox.ok(["artifact", "inspect", "-f", subject_of, name]), subject, "{name}");
    }
    // A manifest with blobs that did not come is refused, but for those that are kept elsewhere.
    let mut other = note.clone();
    other["layers"][0]["digest"] = subject.as_str().into();
    status(&put(address, "notes/manifests/2", MANIFEST, &other), 404);
    other["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip".into();
    status(&put(address, "notes/manifests/2", MANIFEST, &other), 201);
    // A tag that an image takes, and the other way round.
    let image = get(address, "/v2/busybox/manifests/latest", "");
    let image: Value = serde_json::from_str(image.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let kind = image["mediaType"].as_str().unwrap_or(MANIFEST).to_owned();
    status(&put(address, "notes/manifests/2", &kind, &image), 201);
    assert_eq!(sandbox.run(&["localhost/notes:2", "echo", "image"]).ok().text(), "image");
    status(&put(address, "notes/manifests/2", MANIFEST, &note), 201);
    sandbox.run(&["localhost/notes:2"]).expect_code(125);
    drop(server);

    // What is pruned and checked leaves artifacts alone.
    sandbox.ok(["image", "prune", "-f"]);
    assert!(sandbox.ok(["system", "check"]).ends_with("no damage"));
    let blobs = sandbox.data().join("images/blobs/sha256");
    std::fs::write(blobs.join(&layer[7..]), "no note").unwrap();
    let damaged = sandbox.coracle(["system", "check"]).expect_code(1);
    assert!(damaged.stdout.contains("notes:1") && damaged.stdout.contains(&layer), "{damaged}");
    let kept = sandbox.coracle(["system", "check", "--repair"]).expect_code(1);
    assert!(kept.stderr.contains("push it again"), "{kept}");
    sandbox.coracle(["system", "check", "--repair", "--force"]);
    assert!(sandbox.ok(["system", "check"]).ends_with("no damage"));
    // The one whose layer is kept elsewhere was whole.
    assert_eq!(sandbox.ok(["artifact", "ls", "-q"]).lines().count(), 1);
    sandbox.coracle(["artifact", "rm"]).fails(1, &["requires at least 1 argument"]);
    sandbox.coracle(["artifact", "rm", "no-such"]).fails(1, &["No such artifact"]);
    assert!(sandbox.ok(["artifact", "rm", "--all"]).starts_with("sha256:"));
    sandbox.ok(["rmi", "busybox"]);
    assert_eq!(std::fs::read_dir(blobs).unwrap().count(), 0, "a blob that nothing needs");
}

/// Distribution-spec, "Deleting Manifests": by its digest it is gone at once,
/// with tags or without.
#[test]
fn what_was_deleted_is_gone_also_from_indexes_of_indexes() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let server = serve(&sandbox, &["--writable"]);
    let address = server.address.as_str();
    let note = push_note(&sandbox, address, &format!("sha256:{}", "5".repeat(64)));
    let index = |kind: &str, inner: &Value| {
        let text = inner.to_string();
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            {"mediaType": kind, "digest": sha256(&sandbox, &text), "size": text.len()}
        ]})
    };
    let inner = index(MANIFEST, &note);
    let outer = index(INDEX, &inner);
    status(&put(address, "notes/manifests/outer", INDEX, &outer), 404);
    let by_digest = |document: &Value| format!("notes/manifests/{}", sha256(&sandbox, &document.to_string()));
    status(&put(address, &by_digest(&inner), INDEX, &inner), 201);
    status(&put(address, "notes/manifests/outer", INDEX, &outer), 201);
    for document in [&outer, &inner, &note] {
        let answer = get(address, &format!("/v2/{}", by_digest(document)), "");
        assert!(answer.ends_with(&document.to_string()), "{answer}");
    }
    // All that an index leads to is kept with it; it is no image that could be told of.
    drop(server);
    assert_eq!(sandbox.ok(["images", "--format", "{{.Repository}}:{{.Tag}}"]).lines().count(), 2);
    assert_eq!(sandbox.coracle(["system", "df"]).ok().stderr, "");
    sandbox.run(&["localhost/notes:outer"]).expect_code(125);
    sandbox.ok(["artifact", "rm", "notes:1"]);
    sandbox.ok(["image", "prune", "-f"]);
    let server = serve(&sandbox, &["--writable"]);
    let address = server.address.as_str();
    let layer = format!("/v2/notes/blobs/{}", note["layers"][0]["digest"].as_str().unwrap());
    assert!(get(address, &layer, "").ends_with("a note"));
    status(&get(address, &format!("/v2/{}", by_digest(&note)), ""), 200);

    status(&delete(address, "notes/manifests/outer"), 202);
    status(&get(address, "/v2/notes/manifests/outer", ""), 404);
    status(&get(address, &format!("/v2/{}", by_digest(&outer)), ""), 200);
    status(&delete(address, &by_digest(&outer)), 202);
    for document in [&outer, &inner, &note] {
        status(&get(address, &format!("/v2/{}", by_digest(document)), ""), 404);
        status(&delete(address, &by_digest(document)), 404);
    }
}

#[test]
fn chunks_come_in_order_and_digests_may_be_sha512() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Need::Program("sha512sum")]) else { return };
    let server = serve(&sandbox, &["--writable"]);
    let address = server.address.as_str();
    let begun = send(address, "POST /v2/x/blobs/uploads/", "", "");
    let place = begun.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap();
    status(&send(address, &format!("PATCH {place}"), "Content-Range: 0-2\r\n", "abc"), 202);
    let whole = format!("sha512:{}", hex_of("sha512sum", &sandbox, "abcdef"));
    let finish = format!("PUT {place}?digest={whole}");
    for wrong in ["0-2", "5-7", "x"] {
        let refused = send(address, &finish, &format!("Content-Range: {wrong}\r\n"), "def");
        status(&refused, 416);
        assert!(refused.contains("Range: 0-2\r\n"), "{refused}");
    }
    status(&send(address, &finish, "Content-Range: 3-5\r\n", "def"), 201);
    assert!(get(address, &format!("/v2/x/blobs/{whole}"), "").ends_with("abcdef"));
    let other = format!("sha512:{}", "0".repeat(128));
    status(&send(address, &format!("POST /v2/x/blobs/uploads/?digest={other}"), "", "abc"), 400);
    status(&get(address, &format!("/v2/x/blobs/{other}"), ""), 404);

    // An image whose documents and layers all have the other kind of digest.
    let manifest = get(address, "/v2/busybox/manifests/latest", "");
    let mut manifest: Value = serde_json::from_str(manifest.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let blobs = sandbox.data().join("images/blobs/sha256");
    let again = |described: &mut Value| {
        let file = blobs.join(described["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap());
        let sum = sandbox.command("sha512sum").arg(&file).output().unwrap().stdout;
        let digest = format!("sha512:{}", String::from_utf8(sum).unwrap().split_whitespace().next().unwrap());
        let request = format!("POST /v2/long/blobs/uploads/?digest={digest}");
        let bytes = std::fs::read(file).unwrap();
        let head = format!(
            "{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            bytes.len()
        );
        status(&talk(address, &[head.as_bytes(), &bytes].concat()), 201);
        described["digest"] = digest.into();
    };
    again(&mut manifest["config"]);
    manifest["layers"].as_array_mut().unwrap().iter_mut().for_each(again);
    let text = manifest.to_string();
    let digest = format!("sha512:{}", hex_of("sha512sum", &sandbox, &text));
    let kind = manifest["mediaType"].as_str().unwrap_or(MANIFEST).to_owned();
    status(&put(address, &format!("long/manifests/{digest}"), &kind, &manifest), 201);
    status(&put(address, "long/manifests/1", &kind, &manifest), 201);
    let name = format!("{address}/long@{digest}");
    elsewhere(&sandbox, &["pull", "-q", &name]).ok();
    assert!(elsewhere(&sandbox, &["system", "check"]).ok().text().ends_with("no damage"));
    let words = ["run", "--rm", "--network", "none", &name, "echo", "long"];
    assert_eq!(elsewhere(&sandbox, &words).ok().text(), "long");
    elsewhere(&sandbox, &["save", "--format", "oci-archive", "-o", "long.tar", &name]).ok();
    elsewhere(&sandbox, &["rmi", &name]).ok();
    let long = sandbox.folder("elsewhere").join("coracle/images/blobs/sha512");
    assert_eq!(std::fs::read_dir(long).unwrap().count(), 0);
    elsewhere(&sandbox, &["load", "-i", "long.tar"]).ok();
    assert!(elsewhere(&sandbox, &["system", "check"]).ok().text().ends_with("no damage"));
}
