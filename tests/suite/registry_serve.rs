//! `registry serve`: others pull from the local store and push to it, and
//! hostile clients get nothing and hold nobody up.

use crate::harness::process::{Output, Running};
use crate::harness::{Image, Need, Sandbox, sandbox, until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

const SKOPEO: Need = Need::Program("skopeo");

/// A server of the sandbox's store on a port that the kernel chose.
pub(crate) struct Server {
    /// `127.0.0.1:PORT`
    pub(crate) address: String,
    _running: Running,
}

pub(crate) fn serve(sandbox: &Sandbox, words: &[&str]) -> Server {
    let mut running = sandbox.spawn([&["registry", "serve", "--listen", "127.0.0.1:0"], words].concat());
    running.wait_for("\n");
    let address = running.said().trim().rsplit_once("//").unwrap().1.to_owned();
    Server { address, _running: running }
}

/// A second user of the machine, so to say: a store of its own.
pub(crate) fn elsewhere(sandbox: &Sandbox, words: &[&str]) -> Output {
    let mut command = sandbox.tool(words);
    command.env("XDG_DATA_HOME", sandbox.folder("elsewhere"));
    Running::start(command).wait()
}

fn skopeo(sandbox: &Sandbox, words: &[&str]) -> Output {
    let mut command = sandbox.command("skopeo");
    command.arg("--insecure-policy").args(words);
    Running::start(command).wait()
}

/// Sends bytes and gives what comes back until the server closes.
pub(crate) fn talk(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // It may refuse before it has read everything.
    stream.write_all(bytes).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) fn get(address: &str, path: &str, more: &str) -> String {
    talk(
        address,
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{more}\r\n").as_bytes(),
    )
}

#[track_caller]
pub(crate) fn status(answer: &str, code: u16) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "not {code}: {answer}");
}

#[test]
fn coracle_and_skopeo_pull_from_the_local_store() {
    let Some(sandbox) = sandbox(&[Image("busybox"), SKOPEO]) else { return };
    sandbox.ok(["tag", "busybox", "localhost/mine:1"]);
    let server = serve(&sandbox, &[]);
    let id = sandbox.ok(["inspect", "--format", "{{.Id}}", "busybox"]);
    for name in ["busybox", "library/busybox", "docker.io/library/busybox", "mine:1"] {
        let name = format!("{}/{name}", server.address);
        elsewhere(&sandbox, &["pull", "-q", &name]).ok();
        assert_eq!(elsewhere(&sandbox, &["inspect", "--format", "{{.Id}}", &name]).ok().text(), id);
    }
    let copied = format!("docker://{}/busybox", server.address);
    skopeo(&sandbox, &["copy", "-q", "--src-tls-verify=false", &copied, "dir:copied"]).ok();
    let refused = skopeo(&sandbox, &["copy", "-q", "--dest-tls-verify=false", "dir:copied", &copied]);
    assert!(refused.code() != 0, "read-only: {refused}");
    let tags =
        skopeo(&sandbox, &["list-tags", "--tls-verify=false", &format!("docker://{}/mine", server.address)]);
    assert!(tags.ok().stdout.contains("\"1\""));
}

#[test]
fn a_writable_registry_takes_what_skopeo_pushes() {
    let Some(sandbox) = sandbox(&[Image("busybox"), SKOPEO]) else { return };
    let server = serve(&sandbox, &["--writable"]);
    sandbox.ok(["save", "-o", "image.tar", "busybox"]);
    let id = sandbox.ok(["inspect", "--format", "{{.Id}}", "busybox"]);
    sandbox.ok(["rmi", "busybox"]);
    for (name, options) in [
        ("pushed:oci", &["--format", "oci"][..]),
        ("a/b:docker", &["--format", "v2s2"]),
        ("zstd:1", &["--format", "oci", "--dest-compress-format", "zstd"]),
    ] {
        let to = format!("docker://{}/{name}", server.address);
        let words = [&["copy", "-q", "--dest-tls-verify=false"], options, &["docker-archive:image.tar", &to]];
        skopeo(&sandbox, &words.concat()).ok();
        let local = format!("localhost/{name}");
        assert_eq!(sandbox.run(&[&local, "echo", name]).ok().text(), name);
        let pulled = format!("{}/{name}", server.address);
        elsewhere(&sandbox, &["pull", "-q", &pulled]).ok();
    }
    assert!(id.starts_with("sha256:"));
    assert!(sandbox.ok(["system", "check"]).ends_with("no damage"));
}

#[test]
fn coracle_pushes_images_and_lists_to_it() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    let server = serve(&sandbox, &["--writable"]);
    let from = format!("{}/busybox", server.address);
    let to = format!("{}/made/one:1", server.address);
    let list = format!("{}/made/many:1", server.address);
    elsewhere(&sandbox, &["pull", "-q", &from]).ok();
    elsewhere(&sandbox, &["pull", "-q", &format!("{}/guest", server.address)]).ok();
    elsewhere(&sandbox, &["push", "-q", &from, &to]).ok();
    assert_eq!(sandbox.run(&["localhost/made/one:1", "echo", "x"]).ok().text(), "x");
    elsewhere(&sandbox, &["manifest", "create", "many", &from]).ok();
    elsewhere(
        &sandbox,
        &["manifest", "add", "--arch", "riscv64", "many", &format!("{}/guest", server.address)],
    )
    .ok();
    elsewhere(&sandbox, &["manifest", "push", "no-such-list", &list]).fails(1, &["no such list"]);
    let pushed =
        elsewhere(&sandbox, &["manifest", "push", "--digestfile", "digest", "--purge", "many", &list]).ok();
    elsewhere(&sandbox, &["manifest", "exists", "many"]).expect_code(1);
    let digest = std::fs::read_to_string(sandbox.path("work/digest")).unwrap();
    assert!(pushed.text().contains(&digest), "{pushed}");
    let answer = get(&server.address, "/v2/made/many/manifests/1", "");
    assert!(answer.contains(&digest) && answer.contains("riscv64"), "{answer}");
    assert_eq!(sandbox.run(&["localhost/made/many:1", "echo", "x"]).ok().text(), "x");
    elsewhere(&sandbox, &["pull", "-q", &list]).ok();
    // Into the store that it comes from: neither waits for the other.
    sandbox.ok(["push", "-q", "busybox", &format!("{}/again:1", server.address)]);
    assert_eq!(sandbox.run(&["localhost/again:1", "echo", "x"]).ok().text(), "x");
    assert!(sandbox.ok(["system", "check"]).ends_with("no damage"));
}

#[test]
fn podman_pulls_from_it_and_pushes_to_it() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Need::Program("podman"), crate::harness::SubIds]) else {
        return;
    };
    let server = serve(&sandbox, &["--writable"]);
    let at = |name: &str| sandbox.path(name).to_str().unwrap().to_owned();
    let (root, run) = (at("work/podman"), at("run/podman"));
    let podman = |words: &[&str]| {
        let global =
            ["--root", &root, "--runroot", &run, "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"];
        let mut command = sandbox.command("podman");
        command.args(global).args(words);
        Running::start(command).wait()
    };
    let name = format!("{}/busybox", server.address);
    podman(&["pull", "-q", "--tls-verify=false", &name]).ok();
    let shown = podman(&["image", "inspect", "--format", "{{json .RootFS.Layers}}", &name]).ok();
    assert_eq!(shown.text(), sandbox.ok(["inspect", "--format", "{{json .RootFS.Layers}}", "busybox"]));
    let pushed = format!("{}/by/podman:1", server.address);
    podman(&["push", "-q", "--tls-verify=false", &name, &pushed]).ok();
    assert_eq!(sandbox.run(&["localhost/by/podman:1", "echo", "x"]).ok().text(), "x");
    podman(&["unshare", "rm", "-rf", &root]).ok();
    podman(&["system", "migrate"]).ok();
}

#[test]
fn the_protocol_is_the_specification_s() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    let server = serve(&sandbox, &[]);
    let address = server.address.as_str();
    let hello = get(address, "/v2/", "");
    status(&hello, 200);
    assert!(hello.contains("Docker-Distribution-Api-Version: registry/2.0"), "{hello}");
    let catalog = get(address, "/v2/_catalog?n=1", "");
    assert!(catalog.contains(r#"{"repositories":["busybox"]}"#), "{catalog}");
    assert!(catalog.contains("Link: </v2/_catalog?n=1&last=busybox>; rel=\"next\""), "{catalog}");
    let rest = get(address, "/v2/_catalog?n=1&last=busybox", "");
    assert!(rest.contains(r#"{"repositories":["guest"]}"#) && !rest.contains("Link:"), "{rest}");
    assert!(get(address, "/v2/busybox/tags/list", "").contains(r#"{"name":"busybox","tags":["latest"]}"#));
    let manifest = get(address, "/v2/busybox/manifests/latest", "");
    status(&manifest, 200);
    let digest = manifest.lines().find_map(|line| line.strip_prefix("Docker-Content-Digest: ")).unwrap();
    let body = manifest.split("\r\n\r\n").nth(1).unwrap();
    let by_digest = get(address, &format!("/v2/busybox/manifests/{digest}"), "");
    assert!(by_digest.ends_with(body), "{by_digest}");
    let head = talk(
        address,
        format!("HEAD /v2/busybox/manifests/latest HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
            .as_bytes(),
    );
    assert!(
        head.contains(&format!("Content-Length: {}\r\n", body.len())) && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    let document: serde_json::Value = serde_json::from_str(body).unwrap();
    let config = document["config"]["digest"].as_str().unwrap();
    let blob = format!("/v2/busybox/blobs/{config}");
    let part = get(address, &blob, "Range: bytes=0-0\r\n");
    status(&part, 206);
    assert!(part.ends_with("\r\n\r\n{") && part.contains("Content-Range: bytes 0-0/"), "{part}");
    status(&get(address, &blob, "Range: bytes=99999999-\r\n"), 416);
    for (path, code, word) in [
        ("/v2/nothing/tags/list", 404, "NAME_UNKNOWN"),
        ("/v2/busybox/manifests/nothing", 404, "MANIFEST_UNKNOWN"),
        ("/v2/busybox/blobs/sha256:00", 400, "DIGEST_INVALID"),
        ("/v2/UPPER/tags/list", 400, "NAME_INVALID"),
        ("/v2/../../etc/passwd", 404, "NAME_UNKNOWN"),
        ("/v2/busybox/blobs/..%2f..%2f..%2findex.json", 404, "NAME_UNKNOWN"),
        ("/other", 404, "NAME_UNKNOWN"),
    ] {
        let answer = get(address, path, "");
        status(&answer, code);
        assert!(answer.contains(&format!("{{\"errors\":[{{\"code\":\"{word}\"")), "{path}: {answer}");
    }
    let referrers = get(address, &format!("/v2/busybox/referrers/{digest}"), "");
    assert!(
        referrers.contains("application/vnd.oci.image.index.v1+json")
            && referrers.contains(r#""manifests":[]"#)
    );
    let push = format!(
        "POST /v2/x/blobs/uploads/ HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    status(&talk(address, push.as_bytes()), 405);
}

#[test]
fn uploads_come_whole_or_in_chunks_and_are_verified() {
    let Some(sandbox) = sandbox(&[]) else { return };
    let server = serve(&sandbox, &["--writable"]);
    let address = server.address.as_str();
    let send = |method: &str, path: &str, more: &str, body: &str| {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n{more}\r\n{body}",
            body.len()
        );
        talk(address, head.as_bytes())
    };
    let place =
        |answer: &str| answer.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap().to_owned();
    // sha256 of "hello"
    let digest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    status(&send("POST", &format!("/v2/a/blobs/uploads/?digest={digest}"), "", "hellO"), 400);
    status(&get(address, &format!("/v2/a/blobs/{digest}"), ""), 404);
    let begun = send("POST", "/v2/a/blobs/uploads/", "", "");
    status(&begun, 202);
    let at = place(&begun);
    let first = send("PATCH", &at, "Content-Range: 0-1\r\n", "he");
    assert!(first.contains("Range: 0-1\r\n"), "{first}");
    status(&send("PATCH", &at, "Content-Range: 0-1\r\n", "he"), 416);
    status(&get(address, &at, ""), 204);
    let chunked = format!(
        "PATCH {at} HTTP/1.1\r\nHost: x.localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nll\r\n0\r\n\r\n"
    );
    status(&talk(address, chunked.as_bytes()), 202);
    status(&send("PUT", &format!("{}?digest={digest}", at.replace("/a/", "/other/")), "", "o"), 404);
    status(&send("PUT", &format!("{at}?digest={digest}"), "", "o"), 201);
    assert!(get(address, &format!("/v2/a/blobs/{digest}"), "").ends_with("hello"));
    status(&send("POST", &format!("/v2/b/blobs/uploads/?mount={digest}&from=a"), "", ""), 201);
    status(&get(address, &at, ""), 404);
    // What is needed is not there, and what is there is no image.
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":5}},"layers":[]}}"#
    );
    let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";
    status(&send("PUT", "/v2/a/manifests/1", kind, &manifest), 400);
    let lost = manifest.replace("2cf24", "2cf25");
    let answer = send("PUT", "/v2/a/manifests/1", kind, &lost);
    assert!(answer.contains("MANIFEST_BLOB_UNKNOWN"), "{answer}");
    status(&send("PUT", "/v2/a/manifests/1", kind, &" ".repeat((4 << 20) + 1)), 413);
    status(&send("PUT", &format!("/v2/a/manifests/{digest}"), kind, &manifest), 400);
    assert_eq!(sandbox.ok(["images", "-q"]), "");
}

#[test]
fn what_was_pushed_can_be_deleted() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["tag", "busybox", "localhost/team/app:1"]);
    sandbox.ok(["tag", "busybox", "localhost/team/app:2"]);
    sandbox.ok(["create", "--name", "user", "--network", "none", "busybox", "cat", "/etc/passwd"]);
    let server = serve(&sandbox, &["--writable"]);
    let address = server.address.as_str();
    let delete = |path: &str| {
        let head = format!("DELETE {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        talk(address, head.as_bytes())
    };
    let manifest = get(address, "/v2/team/app/manifests/1", "");
    let digest = manifest.lines().find_map(|line| line.strip_prefix("Docker-Content-Digest: ")).unwrap();
    let document: serde_json::Value =
        serde_json::from_str(manifest.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let layer = document["layers"][0]["digest"].as_str().unwrap();
    let by_digest = format!("/v2/team/app/manifests/{digest}");

    // A tag goes, and the manifest stays; then all of it goes.
    status(&delete("/v2/team/app/manifests/1"), 202);
    assert!(get(address, "/v2/team/app/tags/list", "").contains(r#""tags":["2"]"#));
    status(&get(address, "/v2/team/app/manifests/1", ""), 404);
    status(&get(address, &by_digest, ""), 200);
    status(&delete("/v2/team/app/manifests/1"), 404);
    let blob = format!("/v2/busybox/blobs/{layer}");
    let refused = delete(&blob);
    status(&refused, 405);
    assert!(refused.contains("an image needs the blob"), "{refused}");
    status(&delete(&by_digest), 202);
    status(&get(address, "/v2/team/app/tags/list", ""), 404);
    // Another repository has it as well: its images are not touched.
    status(&get(address, &format!("/v2/busybox/manifests/{digest}"), ""), 200);
    assert_eq!(sandbox.run(&["busybox", "echo", "here"]).ok().text(), "here");
    status(&delete(&format!("/v2/busybox/manifests/{digest}")), 202);
    status(&get(address, &format!("/v2/busybox/manifests/{digest}"), ""), 404);
    assert_eq!(sandbox.ok(["images", "-q", "-a"]), "");
    status(&delete(&blob), 202);
    status(&get(address, &blob, ""), 404);
    status(&delete(&blob), 404);
    status(&delete("/v2/busybox/manifests/sha256:00"), 400);
    status(&delete("/v2/busybox/blobs/sha256:00"), 400);
    drop(server);
    // A container keeps what it runs on, image or not, until it goes itself.
    sandbox.ok(["image", "prune", "-f"]);
    assert!(sandbox.ok(["start", "-a", "user"]).contains("root:"));
    assert!(sandbox.ok(["system", "check"]).ends_with("no damage"));
    let commit = sandbox.coracle(["commit", "user", "again"]);
    assert_eq!(commit.code(), 1, "{commit}");
    assert!(commit.stderr.contains("pull or load"), "{commit}");
    sandbox.ok(["rm", "user"]);
    // What is left of it on the disk nobody needs.
    sandbox.ok(["image", "prune", "-f"]);
    let blobs = sandbox.data().join("images/blobs/sha256");
    assert_eq!(std::fs::read_dir(blobs).unwrap().count(), 0);
    assert!(sandbox.ok(["system", "check"]).ends_with("no damage"));

    let read_only = serve(&sandbox, &[]);
    let head = format!(
        "DELETE /v2/x/manifests/1 HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        read_only.address
    );
    status(&talk(&read_only.address, head.as_bytes()), 405);
}

#[test]
fn images_that_refer_to_another_are_listed() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let server = serve(&sandbox, &["--writable"]);
    let address = server.address.as_str();
    let manifest = get(address, "/v2/busybox/manifests/latest", "");
    let subject = manifest.lines().find_map(|line| line.strip_prefix("Docker-Content-Digest: ")).unwrap();
    let mut document: serde_json::Value =
        serde_json::from_str(manifest.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let kind = "application/vnd.oci.image.manifest.v1+json";
    document["mediaType"] = kind.into();
    document["subject"] = serde_json::json!({"mediaType": kind, "digest": subject, "size": 2});
    document["artifactType"] = "application/x-notes".into();
    document["annotations"] = serde_json::json!({"note": "a note"});
    let body = document.to_string();
    let put = format!(
        "PUT /v2/busybox/manifests/notes HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let stored = talk(address, put.as_bytes());
    status(&stored, 201);
    assert!(stored.contains(&format!("OCI-Subject: {subject}\r\n")), "{stored}");
    let referrers = |query: &str| get(address, &format!("/v2/busybox/referrers/{subject}{query}"), "");
    let all = referrers("");
    assert!(all.contains(r#""artifactType":"application/x-notes""#) && all.contains("a note"), "{all}");
    let of_type = referrers("?artifactType=application%2Fx-notes");
    assert!(of_type.contains("OCI-Filters-Applied: artifactType") && of_type.contains("a note"), "{of_type}");
    assert!(referrers("?artifactType=other").contains(r#""manifests":[]"#));
    let none = get(address, &format!("/v2/busybox/referrers/sha256:{}", "0".repeat(64)), "");
    status(&none, 200);
    assert!(none.contains(r#""manifests":[]"#), "{none}");
    status(&get(address, "/v2/busybox/referrers/sha256:00", ""), 400);
}

/// CVE-2024-41110's kin, slow-loris, and what a browser could be made to send.
#[test]
fn hostile_clients_are_refused_and_hold_nobody_up() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let server = serve(&sandbox, &["--writable"]);
    let address = server.address.as_str();
    for bad in [
        "PUT /v2/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "PUT /v2/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "\r\n\r\n\r\n\r\n\r\nnonsense\r\n\r\n",
        "\u{16}\u{3}\u{1}",
    ] {
        status(&talk(address, bad.as_bytes()), 400);
    }
    status(
        &talk(
            address,
            format!("GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(40_000)).as_bytes(),
        ),
        431,
    );
    status(&talk(address, b"GET /v2/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"), 403);
    // Hundreds who say nothing: only so many are served, and they are let go of.
    let silent: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost:").unwrap();
            stream
        })
        .collect();
    status(&get(address, "/v2/", ""), 200);
    let mut first = silent.into_iter().next().unwrap();
    first.set_read_timeout(Some(Duration::from_secs(50))).unwrap();
    assert_eq!(first.read(&mut [0; 100]).unwrap_or(0), 0, "a head that does not end is given up");
}

/// `cert.pem` and `key.pem` in the working directory, for 127.0.0.1, as docker's
/// manual has them made: the certificate is an authority's too.
fn self_signed(sandbox: &Sandbox) {
    let script = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
                  -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem";
    let mut command = sandbox.command("sh");
    command.args(["-ec", script]);
    Running::start(command).wait().ok();
}

#[test]
fn a_self_signed_certificate_is_trusted_where_it_is_listed() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Need::Program("openssl")]) else { return };
    self_signed(&sandbox);
    let server = serve(&sandbox, &["--writable", "--tls-cert", "cert.pem", "--tls-key", "key.pem"]);
    let trusts = |what: &str| {
        let dir = sandbox.folder(what);
        std::fs::copy(sandbox.path("work/cert.pem"), dir.join("ca.crt")).unwrap();
        dir.display().to_string()
    };
    let (name, dir) = (format!("{}/busybox", server.address), trusts("this"));
    let pull =
        |dir: &str, name: &str| elsewhere(&sandbox, &["pull", "-q", "--tls-verify", "--cert-dir", dir, name]);
    elsewhere(&sandbox, &["pull", "-q", "--tls-verify", &name]).fails(125, &["certificate"]);
    pull(&dir, &name).ok();
    elsewhere(&sandbox, &["push", "-q", "--tls-verify", "--cert-dir", &dir, &name, &format!("{name}:again")])
        .ok();
    pull(&dir, &name.replace("127.0.0.1", "localhost")).fails(125, &["certificate"]);
    // Another one of the same names.
    self_signed(&sandbox);
    pull(&trusts("another"), &name).fails(125, &["certificate"]);
}

#[test]
fn passwords_are_asked_for_over_tls() {
    let Some(sandbox) = sandbox(&[Image("busybox"), SKOPEO, Need::Program("openssl")]) else { return };
    self_signed(&sandbox);
    // As `htpasswd -nbB -C 5 ann 'U*U'` wrote it.
    sandbox.file("users", "ann:$2y$05$IseNvtm0xDPySSBbCxGAveH1/1uObFeIKbRs2uE5anztgC1DImFkq\n\n");
    let server = serve(&sandbox, &["--tls-cert", "cert.pem", "--tls-key", "key.pem", "--htpasswd", "users"]);
    let from = format!("docker://{}/busybox", server.address);
    let copy = |more: &[&str]| {
        skopeo(&sandbox, &[&["copy", "-q", "--src-tls-verify=false"], more, &[&from, "dir:copied"]].concat())
    };
    assert!(copy(&[]).code() != 0 && copy(&["--src-creds", "ann:wrong"]).code() != 0);
    copy(&["--src-creds", "ann:U*U"]).ok();
    let certificates = sandbox.folder("certificates");
    std::fs::copy(sandbox.path("work/cert.pem"), certificates.join("ca.crt")).unwrap();
    let verified = [
        "copy",
        "-q",
        "--src-creds",
        "ann:U*U",
        "--src-cert-dir",
        certificates.to_str().unwrap(),
        &from,
        "dir:verified",
    ];
    skopeo(&sandbox, &verified).ok();
    elsewhere(&sandbox, &["pull", "-q", "--tls-verify=false", "--creds", "ann:U*U", &from]).ok();
    sandbox.coracle(["registry", "serve", "--tls-cert", "cert.pem"]).refused(&["--tls-key"]);
    sandbox
        .coracle(["registry", "serve", "--tls-cert", "users", "--tls-key", "key.pem"])
        .fails(1, &["certificate"]);
    sandbox.coracle(["registry", "serve", "--htpasswd", "key.pem"]).fails(1, &["htpasswd -B"]);
    sandbox.coracle(["registry", "serve", "--listen", "example"]).fails(1, &["IP:PORT"]);
}

#[test]
fn a_unix_socket_is_its_user_s_alone() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let path: PathBuf = sandbox.path("run/registry.sock");
    let listen = format!("unix:{}", path.display());
    for _ in 0..2 {
        // The second time over what the first one left.
        let _server = sandbox.spawn(["registry", "serve", "--listen", &listen]);
        let mut stream = until("the socket", || std::os::unix::net::UnixStream::connect(&path).ok());
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        stream.write_all(b"GET /v2/_catalog HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with(r#"{"repositories":["busybox"]}"#), "{answer}");
    }
}
