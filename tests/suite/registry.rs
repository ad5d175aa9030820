//! Push, login and pull against Debian's docker-registry: plain, with TLS, with
//! passwords. skopeo says what is there.

use crate::harness::own_registry::{self, OwnRegistry, PASSWORD, USER, Wants};
use crate::harness::process::Running;
use crate::harness::pty::Terminal;
use crate::harness::{Image, Need, Registry, Sandbox, needs, sandbox};
use std::os::unix::fs::PermissionsExt;

const SKOPEO: Need = Need::Program("skopeo");
const OPENSSL: Need = Need::Program("openssl");

fn remote(name: &str) -> String {
    format!("{}/{name}", needs::registry().unwrap())
}

/// The manifest or index as the registry has it.
#[track_caller]
fn raw(sandbox: &Sandbox, name: &str) -> serde_json::Value {
    let mut command = sandbox.command("skopeo");
    command.args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
    serde_json::from_str(&Running::start(command).wait().ok().stdout).unwrap()
}

#[track_caller]
fn digest(sandbox: &Sandbox, name: &str) -> String {
    let mut command = sandbox.command("skopeo");
    command.args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &format!("docker://{name}")]);
    Running::start(command).wait().ok().text().to_owned()
}

/// A registry of the test's own; `None` where there is no program for it.
fn own_registry(sandbox: &Sandbox, wants: Wants) -> Option<OwnRegistry> {
    own_registry::program().is_some().then(|| OwnRegistry::start(sandbox, wants))
}

#[test]
fn a_pushed_image_is_the_one_that_is_here() {
    let Some(sandbox) = sandbox(&[Registry, SKOPEO]) else { return };
    sandbox.ok(["pull", "-q", &remote("busybox")]);
    let (first, second) = (remote("pushed/first:1"), remote("pushed/second:1"));
    let file = sandbox.path("work/digest");
    let pushed =
        sandbox.coracle(["push", "--digestfile", file.to_str().unwrap(), &remote("busybox"), &first]).ok();
    let there = digest(&sandbox, &first);
    assert_eq!(there, digest(&sandbox, &remote("busybox")), "layers go up as they are");
    assert_eq!(std::fs::read_to_string(file).unwrap(), there);
    // All on stdout, as docker has it.
    assert!(pushed.lines().last().unwrap().starts_with(&format!("1: digest: {there} size: ")), "{pushed}");
    assert!(pushed.stdout.starts_with("The push refers to repository"), "{pushed}");
    // The registry has the blobs in another repository: none goes over the wire.
    assert!(pushed.stdout.contains("Mounted from busybox"), "{pushed}");
    assert_eq!(pushed.stderr, "");
    let again = sandbox.coracle(["push", &remote("busybox"), &first]).ok();
    assert!(again.stdout.contains("Layer already exists"), "{again}");

    sandbox.ok(["tag", &remote("busybox"), &second]);
    assert_eq!(sandbox.ok(["push", "-q", &second]), second);
    sandbox.ok(["rmi", &second, &remote("busybox")]);
    sandbox.ok(["pull", "-q", &second]);
    assert_eq!(sandbox.run(&[&second, "echo", "back"]).ok().text(), "back");
}

#[test]
fn a_loaded_image_is_compressed_on_its_way_and_keeps_its_id() {
    let Some(sandbox) = sandbox(&[Registry, SKOPEO, Image("busybox")]) else { return };
    let id = sandbox.ok(["inspect", "--format", "{{.Id}}", "busybox"]);
    let cases: [(&str, &[&str], &str, &str); 4] = [
        ("gzip", &[], "oci.image.manifest.v1+json", "tar+gzip"),
        ("zstd", &["--compression-format", "zstd", "--compression-level", "19"], "oci.image", "tar+zstd"),
        ("best", &["--compression-level", "9"], "oci.image", "tar+gzip"),
        ("docker", &["--format", "v2s2"], "docker.distribution.manifest.v2+json", "tar.gzip"),
    ];
    for (name, options, manifest, layer) in cases {
        let reference = remote(&format!("forms/{name}:1"));
        let destination = format!("docker://{reference}");
        sandbox.ok([&["push", "-q"], options, &["busybox", &destination]].concat());
        let document = raw(&sandbox, &reference);
        assert!(document["mediaType"].as_str().unwrap().contains(manifest), "{name}: {document}");
        assert!(document["layers"][0]["mediaType"].as_str().unwrap().ends_with(layer), "{name}: {document}");
        sandbox.ok(["pull", "-q", &reference]);
        assert_eq!(sandbox.ok(["inspect", "--format", "{{.Id}}", &reference]), id, "{name}");
        assert_eq!(sandbox.run(&[&reference, "echo", name]).ok().text(), name);
    }
    let left = std::fs::read_dir(sandbox.data().join("images/.ingest")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "what was compressed for a push is gone");

    // What the layer became is remembered: without its bytes nothing could be compressed.
    for blob in std::fs::read_dir(sandbox.data().join("images/blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        if blob.metadata().unwrap().len() > 100_000 {
            std::fs::write(blob.path(), b"").unwrap();
        }
    }
    let gzip = remote("forms/gzip:1");
    let again = sandbox.coracle(["push", "busybox", &gzip]).ok();
    assert!(again.stdout.contains("Layer already exists"), "{again}");
    // And damage here is not given to others.
    sandbox.coracle(["push", "--compression-level", "1", "busybox", &gzip]).refused(&["is damaged", "check"]);
    sandbox.coracle(["save", "-o", "saved.tar", "busybox"]).refused(&["is damaged"]);
}

/// Who pushes and then deploys by digest asks for the first of these.
#[test]
fn what_a_push_put_there_is_among_the_digests() {
    let Some(sandbox) = sandbox(&[Registry, SKOPEO, Image("guest")]) else { return };
    let (repository, name) = (remote("pushed/fresh"), remote("pushed/fresh:1"));
    sandbox.ok(["tag", "guest", &name]);
    let pushed = sandbox.ok(["push", &name]);
    // The layer was not compressed here, so the manifest there is another one.
    let exact = format!("{repository}@{}", digest(&sandbox, &name));
    assert!(pushed.contains(exact.split_once('@').unwrap().1), "{pushed}");
    let shown = sandbox.ok(["inspect", "--format", "{{range .RepoDigests}}{{println .}}{{end}}", &name]);
    assert_eq!(shown.lines().filter(|line| line.starts_with(&repository)).collect::<Vec<_>>(), [&exact]);
    let listed = sandbox.ok(["images", "--digests", "--format", "{{.Repository}}@{{.Digest}}", &exact]);
    assert_eq!(listed, exact);
    assert_eq!(sandbox.run(&[&exact, "exit", "3"]).code(), 3, "it is here by that name, too");
    sandbox.ok(["rmi", &name]);
    assert_eq!(sandbox.ok(["pull", "-q", &exact]), exact);
}

#[test]
fn all_tags_go_up_together() {
    let Some(sandbox) = sandbox(&[Registry, SKOPEO, Image("guest")]) else { return };
    let repository = remote("pushed/many");
    for tag in ["1", "2", "3"] {
        sandbox.ok(["tag", "guest", &format!("{repository}:{tag}")]);
    }
    let pushed = sandbox.coracle(["push", "--all-tags", &repository]).ok();
    assert_eq!(pushed.stdout.matches(": digest: sha256:").count(), 3, "{pushed}");
    assert_eq!(digest(&sandbox, &format!("{repository}:1")), digest(&sandbox, &format!("{repository}:3")));
    sandbox.coracle(["push", "-a", &format!("{repository}:1")]).refused(&["tag"]);
}

#[test]
fn a_push_that_cannot_be_says_why() {
    let Some(sandbox) = sandbox(&[Registry, Image("guest")]) else { return };
    sandbox.coracle(["push", "no-such-image", &remote("x")]).refused(&["no-such-image"]);
    let id = sandbox.ok(["images", "-q"]);
    sandbox.coracle(["push", &id]).refused(&["no name"]);
    sandbox
        .coracle(["push", "guest", &format!("{}@sha256:{}", remote("x"), "0".repeat(64))])
        .refused(&["digest"]);
    sandbox.coracle(["push", "--retry", "0", "guest", "127.0.0.1:1/x"]).refused(&["127.0.0.1"]);
    sandbox.coracle(["push", "guest", "dir:/tmp/x"]).refused(&["save"]);
    // What is here is not for that platform.
    sandbox.coracle(["push", "--platform", "linux/s390x", "guest", &remote("x")]).refused(&["linux/s390x"]);
    for bad in [
        &["--format", "v2s1"][..],
        &["--format", "zip"],
        &["--compression-format", "xz"],
        &["--compression-level", "10"],
        &["--format", "v2s2", "--compression-format", "zstd"],
        &["--retry", "x"],
        &["--retry-delay", "x"],
        &["--creds", "nocolon"],
        &["--cert-dir", "/no/such/dir"],
    ] {
        sandbox.coracle([&["push"], bad, &["guest", &remote("x")]].concat()).refused(&[]);
    }
}

#[test]
fn a_login_opens_a_registry_and_a_logout_closes_it() {
    let Some(sandbox) = sandbox(&[Registry, Image("guest")]) else { return };
    let Some(registry) = own_registry(&sandbox, Wants { login: true, ..Wants::default() }) else { return };
    let (name, address) = (registry.name("private/guest:1"), registry.address.as_str());
    sandbox.coracle(["push", "-q", "guest", &name]).refused(&["coracle login"]);
    let login = ["login", "-u", USER, "--password-stdin", address];
    sandbox.coracle_with(b"wrong\n", login).refused(&["does not accept"]);
    sandbox.coracle(["login", "--get-login", address]).refused(&["not logged in"]);
    let said = sandbox.coracle_with(format!("{PASSWORD}\n").as_bytes(), login).ok();
    assert_eq!(said.text(), "Login Succeeded");

    let file = sandbox.path("run/containers/auth.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(sandbox.ok(["login", "--get-login", address]), USER);
    let again = sandbox.ok(["login", address]);
    assert_eq!(again, "Authenticating with existing credentials...\nLogin Succeeded");
    sandbox.ok(["push", "-q", "guest", &name]);
    sandbox.ok(["rmi", "guest"]);
    sandbox.ok(["pull", "-q", &name]);

    assert!(sandbox.ok(["logout", address]).contains("Removing login credentials"));
    assert!(sandbox.ok(["logout", address]).contains("Not logged in"));
    assert!(!std::fs::read_to_string(&file).unwrap().contains(address));
    sandbox.coracle(["pull", "-q", &name]).refused(&["coracle login"]);
    let creds = format!("{USER}:{PASSWORD}");
    sandbox.ok(["pull", "-q", "--creds", &creds, &name]);
    let wrong = sandbox.coracle(["pull", "-q", "--creds", "alice:nothing-of-it", &name]).refused(&[]);
    assert!(!wrong.stderr.contains("nothing-of-it"), "a password is not shown: {wrong}");
}

#[test]
fn logins_have_their_own_files_and_namespaces() {
    let Some(sandbox) = sandbox(&[Registry, Image("guest")]) else { return };
    let Some(registry) = own_registry(&sandbox, Wants { login: true, ..Wants::default() }) else { return };
    let other = sandbox.path("work/other.json");
    let file = other.to_str().unwrap();
    let part = format!("{}/private", registry.address);
    let words = ["login", "--authfile", file, "-u", USER, "-p", PASSWORD, &part];
    let said = sandbox.coracle(words).ok();
    assert!(said.stderr.contains("insecure"), "{said}");
    sandbox.ok(["push", "-q", "--authfile", file, "guest", &registry.name("private/guest")]);
    sandbox.coracle(["push", "-q", "--authfile", file, "guest", &registry.name("public/guest")]).refused(&[]);
    sandbox.coracle(["push", "-q", "guest", &registry.name("private/guest")]).refused(&[]);
    assert_eq!(sandbox.ok(["logout", "--all", "--authfile", file]).lines().count(), 1);
    for bad in
        [&["login", "-u", "x", "quay.io/a:tag"][..], &["login", "-u", USER, "--password-stdin", "-p", "x"]]
    {
        sandbox.coracle(bad).refused(&[]);
    }
    sandbox.coracle(["login", &registry.address]).refused(&["no terminal"]);
}

#[test]
fn a_credential_helper_keeps_the_login() {
    let Some(mut sandbox) = sandbox(&[Registry, Image("guest")]) else { return };
    let Some(registry) = own_registry(&sandbox, Wants { login: true, ..Wants::default() }) else { return };
    let script = "#!/bin/sh\nset -e\ncase $1 in\n\
        store) cat >\"$HOME/secret\" ;;\n\
        get) [ -e \"$HOME/secret\" ] || { echo credentials not found in native keychain; exit 1; }; cat \"$HOME/secret\" ;;\n\
        erase) rm \"$HOME/secret\" ;;\nesac\n";
    let helper = sandbox.file("bin/docker-credential-keeper", script);
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", helper.parent().unwrap().display(), std::env::var("PATH").unwrap());
    sandbox.set("PATH", &path);
    let config = sandbox.path("home/.docker/config.json");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    std::fs::write(&config, r#"{"credsStore": "keeper", "detachKeys": "ctrl-x"}"#).unwrap();
    let docker = sandbox.path("home/.docker");
    let address = registry.address.as_str();
    let words = ["--config", docker.to_str().unwrap(), "login", "-u", USER, "--password-stdin", address];
    sandbox.coracle_with(PASSWORD.as_bytes(), words).ok();
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains("detachKeys") && text.contains(address) && !text.contains("auth\":"), "{text}");
    sandbox.ok(["push", "-q", "guest", &registry.name("guest")]);
    sandbox.ok(["--config", docker.to_str().unwrap(), "logout", address]);
    assert!(!sandbox.path("home/secret").exists(), "erased");
    sandbox.coracle(["push", "-q", "guest", &registry.name("guest2")]).refused(&["coracle login"]);
}

#[test]
fn a_password_is_asked_for_and_not_shown() {
    let Some(sandbox) = sandbox(&[Registry]) else { return };
    let Some(registry) = own_registry(&sandbox, Wants { login: true, ..Wants::default() }) else { return };
    let mut terminal = Terminal::start(sandbox.tool(["login", &registry.address]), 24, 80);
    let before = terminal.settings();
    terminal.wait_for("Username: ");
    terminal.write(format!("{USER}\n").as_bytes());
    terminal.wait_for("Password: ");
    terminal.write(format!("{PASSWORD}\n").as_bytes());
    let (code, said) = terminal.wait();
    assert!(code == 0 && said.contains("Login Succeeded") && !said.contains(PASSWORD), "{code}: {said}");
    let mut terminal = Terminal::start(sandbox.tool(["login", "-u", USER, &registry.address]), 24, 80);
    terminal.wait_for("Password: ");
    terminal.write(b"abc\x03");
    let (code, said) = terminal.wait();
    assert!(code == 130 && !said.contains("abc"), "{code}: {said}");
    // What was stored and does not do any more is told, and asked for.
    let file = sandbox.path("run/containers/auth.json");
    let entry = serde_json::json!({"auths": {&registry.address: {"auth": "YWxpY2U6bm8="}}});
    std::fs::write(&file, entry.to_string()).unwrap();
    sandbox.coracle(["login", &registry.address]).refused(&["does not accept"]);
    let mut terminal = Terminal::start(sandbox.tool(["login", &registry.address]), 24, 80);
    terminal.wait_for("Username (alice): ");
    terminal.write(b"\n");
    terminal.wait_for("Password: ");
    terminal.write(b"\x03");
    assert_eq!(terminal.wait().0, 130);
    assert_eq!(terminal.settings().local_modes, before.local_modes, "what is typed is seen again");
}

#[test]
fn certificates_decide_whom_to_trust() {
    let Some(sandbox) = sandbox(&[Registry, OPENSSL, Image("guest")]) else { return };
    let Some(registry) = own_registry(&sandbox, Wants { tls: true, ..Wants::default() }) else { return };
    let name = registry.name("guest");
    sandbox.coracle(["push", "-q", "--tls-verify", "guest", &name]).refused(&["certificate", "certs.d"]);
    let certificates = registry.certificate_directory(&sandbox, &["ca.crt"]);
    let dir = certificates.to_str().unwrap();
    sandbox.ok(["push", "-q", "--tls-verify", "--cert-dir", dir, "guest", &name]);
    let own = sandbox.path("config/containers/certs.d").join(&registry.address);
    std::fs::create_dir_all(&own).unwrap();
    std::fs::copy(certificates.join("ca.crt"), own.join("ca.crt")).unwrap();
    sandbox.ok(["pull", "-q", "--tls-verify", &name]);
    // Plain http is not spoken to who speaks TLS, nor the other way round.
    sandbox.coracle(["pull", "-q", "--tls-verify", &remote("guest")]).refused(&["TLS"]);
}

#[test]
fn a_registry_may_want_a_certificate_of_the_client() {
    let Some(sandbox) = sandbox(&[Registry, OPENSSL, Image("guest")]) else { return };
    let wants = Wants { tls: true, client_certificate: true, ..Wants::default() };
    let Some(registry) = own_registry(&sandbox, wants) else { return };
    let name = registry.name("guest");
    let without = registry.certificate_directory(&sandbox, &["ca.crt"]);
    let push = |dir: &std::path::Path| {
        let words = [
            "push",
            "-q",
            "--retry",
            "0",
            "--tls-verify",
            "--cert-dir",
            dir.to_str().unwrap(),
            "guest",
            &name,
        ];
        sandbox.coracle(words)
    };
    push(&without).refused(&[]);
    push(&registry.certificate_directory(&sandbox, &["ca.crt", "client.cert", "client.key"])).ok();
    push(&registry.certificate_directory(&sandbox, &["ca.crt", "client.cert"])).refused(&["client.key"]);
}
