//! `search`: catalogues of Debian's docker-registry and of our own, docker hub
//! as far as a test can be it, and registries that do not answer.

use crate::harness::connect_proxy::ConnectProxy;
use crate::harness::fake_registry::{FakeRegistry, Reply};
use crate::harness::own_registry::{self, OwnRegistry, PASSWORD, USER, Wants, make_certificates};
use crate::harness::{Image, Need, Registry, Sandbox, needs, sandbox};
use serde_json::json;

const NAMES: [&str; 4] = ["search", "--format", "{{.Name}}", "--retry=0"];

/// What is found, by its names.
#[track_caller]
fn names(sandbox: &Sandbox, words: &[&str]) -> Vec<String> {
    sandbox.ok([&NAMES, words].concat()).lines().map(str::to_owned).collect()
}

#[test]
fn a_registry_s_catalogue_is_searched() {
    let Some(sandbox) = sandbox(&[Registry]) else { return };
    let address = needs::registry().unwrap();
    let busybox = format!("{address}/busybox");
    assert_eq!(names(&sandbox, &[&format!("{address}/busyb")]), [busybox.as_str()]);
    assert_eq!(names(&sandbox, &[&format!("{address}/BUSYB")]), [busybox.as_str()]);
    assert!(names(&sandbox, &["--limit", "1000", &format!("{address}/")]).contains(&busybox));
    assert_eq!(names(&sandbox, &["--limit=1", &format!("{address}/")]).len(), 1);
    let nothing = format!("{address}/no-such-thing");
    assert_eq!(sandbox.ok(["search", &nothing]), "NAME      DESCRIPTION   STARS     OFFICIAL");
    let tags = sandbox.ok(["search", "--list-tags", &busybox]);
    assert_eq!(tags.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(), ["NAME", "TAG"]);
    assert!(tags.lines().any(|line| line.starts_with(&busybox) && line.ends_with(" latest")), "{tags}");
    let row: serde_json::Value =
        serde_json::from_str(&sandbox.ok(["image", "search", "--format", "json", &busybox])).unwrap();
    assert_eq!((&row["Name"], &row["Index"]), (&json!(busybox), &json!(address)));
    sandbox.coracle(["search", "--list-tags", &nothing]).fails(125, &["does not have it"]);
    sandbox.coracle(["search", "--list-tags", &format!("{busybox}:latest")]).fails(125, &["alone"]);
    assert_eq!(names(&sandbox, &["-f", "stars=1", &busybox]), [""; 0], "a catalogue knows no stars");
}

#[test]
fn our_own_registry_is_searched_page_by_page() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["tag", "busybox", "localhost/team/app:1"]);
    sandbox.ok(["tag", "busybox", "localhost/team/app:2"]);
    let mut server = sandbox.spawn(["registry", "serve", "--listen", "127.0.0.1:0"]);
    server.wait_for("\n");
    let address = server.said().trim().rsplit_once("//").unwrap().1.to_owned();
    let all = [format!("{address}/busybox"), format!("{address}/team/app")];
    assert_eq!(names(&sandbox, &[&format!("{address}/")]), all);
    assert_eq!(names(&sandbox, &[&format!("{address}/app")]), all[1..]);
    let tags = ["search", "--list-tags", "--format", "{{.Tag}}"];
    assert_eq!(sandbox.ok([&tags[..], &[&all[1]]].concat()), "1\n2");
    assert_eq!(sandbox.ok([&tags[..], &["--limit", "1", &all[1]]].concat()), "1");
}

/// Pages lead on by their queries alone, to an end, and what is no name is not shown.
#[test]
fn pages_of_a_hostile_catalogue_have_an_end() {
    let Some(sandbox) = sandbox(&[]) else { return };
    let elsewhere = FakeRegistry::start(|_| Reply::ok(br#"{"repositories":["stolen"]}"#, "application/json"));
    let link = format!("<http://{}/v2/_catalog?last=b>; rel=\"next\"", elsewhere.address);
    let registry = FakeRegistry::start(move |asked| match asked.path.as_str() {
        "/v2/_catalog" => {
            Reply::ok(br#"{"repositories":["a","b","UP","../x","\u001b[31mred"]}"#, "application/json")
                .with("link", &link)
        }
        "/v2/_catalog?last=b" => {
            Reply::ok(br#"{"repositories":["c"]}"#, "application/json").with("link", &link)
        }
        _ => Reply::new(404),
    });
    let all = ["a", "b", "c"].map(|name| format!("{}/{name}", registry.address));
    assert_eq!(names(&sandbox, &[&format!("{}/", registry.address)]), all);
    assert_eq!(registry.asked().len(), 2);
    assert!(elsewhere.asked().is_empty(), "the registry does not say where we go");
    let endless = FakeRegistry::start(|_| Reply { endless: true, ..Reply::ok(&[b' '; 4096], "x/y") });
    sandbox.coracle(["search", &format!("{}/x", endless.address)]).fails(125, &["more than"]);
    let none = FakeRegistry::start(|_| Reply::new(404));
    sandbox.coracle(["search", &format!("{}/x", none.address)]).fails(125, &["no catalogue", "--list-tags"]);
}

#[test]
fn a_catalogue_may_want_a_login() {
    let Some(sandbox) = sandbox(&[Registry, Image("guest")]) else { return };
    if own_registry::program().is_none() {
        return;
    }
    let registry = OwnRegistry::start(&sandbox, Wants { login: true, ..Wants::default() });
    let creds = format!("{USER}:{PASSWORD}");
    sandbox.ok(["push", "-q", "--creds", &creds, "guest", &registry.name("mine/guest")]);
    let term = registry.name("guest");
    sandbox.coracle(["search", &term]).fails(125, &["coracle login"]);
    assert_eq!(names(&sandbox, &["--creds", &creds, &term]), [registry.name("mine/guest")]);
    let file = sandbox.path("work/auth.json");
    let authfile = format!("--authfile={}", file.display());
    sandbox.ok(["login", &authfile, "-u", USER, "-p", PASSWORD, &registry.address]);
    assert_eq!(names(&sandbox, &[&authfile, &term]), [registry.name("mine/guest")]);
    // A token for the catalogue, and for nothing more.
    let tokens = FakeRegistry::start(move |asked| match asked.path.as_str() {
        path if path.starts_with("/token?") => Reply::ok(br#"{"token":"sesame"}"#, "application/json"),
        _ if asked.header("authorization") == Some("Bearer sesame") => {
            Reply::ok(br#"{"repositories":["x"]}"#, "application/json")
        }
        _ => {
            let host = asked.header("host").unwrap();
            Reply::new(401).with("www-authenticate", &format!("Bearer realm=\"http://{host}/token\""))
        }
    });
    assert_eq!(names(&sandbox, &[&format!("{}/x", tokens.address)]).len(), 1);
    assert!(tokens.asked().iter().any(|asked| asked.path.contains("scope=registry:catalog:%2A")));
}

/// `registries.conf`: where short names are looked for, what is moved, what is blocked.
#[test]
fn terms_without_a_registry_are_searched_where_short_names_are() {
    let Some(sandbox) = sandbox(&[]) else { return };
    let registry = FakeRegistry::start(|asked| match asked.path.as_str() {
        "/v2/_catalog" => Reply::ok(br#"{"repositories":["app","below/it/app"]}"#, "application/json"),
        "/v2/app/tags/list?n=1000" => Reply::ok(br#"{"tags":["1"]}"#, "application/json"),
        _ => Reply::new(404),
    });
    let conf = |text: &str| {
        let dir = sandbox.path("config/containers");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("registries.conf"), text.replace("ADDRESS", &registry.address)).unwrap();
    };
    conf(
        "unqualified-search-registries = ['127.0.0.1:1', 'ADDRESS', 'moved.example']\n\
         [[registry]]\nprefix = 'moved.example'\nlocation = 'ADDRESS/below/it'\n\
         [[registry]]\nlocation = 'blocked.example'\nblocked = true\n",
    );
    let said = sandbox.coracle([&NAMES[..], &["app"]].concat()).ok();
    let address = &registry.address;
    assert_eq!(
        said.lines(),
        [format!("{address}/app"), format!("{address}/below/it/app"), "moved.example/app".to_owned()]
    );
    assert!(said.stderr.contains("search 127.0.0.1:1"), "the one that failed is named: {said}");
    let tags = sandbox.ok(["search", "--list-tags", "--retry=0", "--format", "{{.Name}} {{.Tag}}", "app"]);
    assert_eq!(tags, format!("{address}/app 1"));
    sandbox.coracle(["search", "blocked.example/x"]).fails(125, &["blocked by registries.conf"]);
}

/// docker hub, as a server with its name behind a proxy.
#[test]
fn docker_hub_is_asked_by_its_search() {
    let Some(mut sandbox) = sandbox(&[Need::Program("openssl")]) else { return };
    let certificates = make_certificates(&sandbox);
    let hub = FakeRegistry::over_tls(&certificates, |asked| {
        let repository = |name: &str, stars: u64| {
            json!({"name": name, "description": "what\nit \u{1b}[1mis", "star_count": stars,
                   "is_official": !name.contains('/'), "is_automated": false})
        };
        let found = match asked.path.as_str() {
            "/v1/search?q=web%20server&n=100&page=1" => {
                vec![repository("nginx", 9), repository("a/nginx", 3), repository("../x", 1)]
            }
            path if path.starts_with("/v1/search?q=many&n=100&page=") => {
                (0..100).map(|n| repository(&format!("many/{n}"), n)).collect()
            }
            _ => return Reply::new(404),
        };
        Reply::ok(json!({"results": found}).to_string().as_bytes(), "application/json")
    });
    let proxy = ConnectProxy::to(&hub.address);
    sandbox.set("HTTPS_PROXY", &proxy.url);
    sandbox.set("SSL_CERT_FILE", certificates.join("ca.crt").to_str().unwrap());
    let table = sandbox.ok(["search", "docker.io/web server"]);
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 3, "{table}");
    assert!(
        rows[1].starts_with("docker.io/library/nginx   what it  [1mis ") && rows[1].ends_with("[OK]"),
        "{table}"
    );
    assert!(rows[2].starts_with("docker.io/a/nginx"), "{table}");
    assert_eq!(proxy.asked(), ["CONNECT index.docker.io:443"]);
    assert_eq!(names(&sandbox, &["-f", "is-official=true", "web server"]), ["docker.io/library/nginx"]);
    assert_eq!(names(&sandbox, &["-f", "stars=3", "web server"]).len(), 2);
    assert_eq!(names(&sandbox, &["many"]).len(), 25, "docker's limit");
    assert_eq!(names(&sandbox, &["--limit", "150", "many"]).len(), 150);
    assert_eq!(hub.asked().iter().filter(|asked| asked.path.contains("page=2")).count(), 1);
    sandbox.coracle(["search", "docker.io/"]).fails(125, &["no list of all"]);
}

#[test]
fn a_search_that_cannot_be_says_why_in_a_line() {
    let Some(mut sandbox) = sandbox(&[]) else { return };
    let said = sandbox.coracle(["search", "--retry=0", "127.0.0.1:1/x"]).fails(125, &["127.0.0.1"]);
    assert!(said.stderr.lines().next().unwrap().starts_with("Error: search 127.0.0.1:1: "), "{said}");
    assert_eq!(said.stderr.lines().filter(|line| line.starts_with("Error")).count(), 1, "{said}");
    // Nobody listens there: as on a host without a network, but at once.
    sandbox.set("HTTPS_PROXY", "http://127.0.0.1:1");
    sandbox
        .coracle(["search", "--retry=0", "nginx"])
        .fails(125, &["search docker.io: through the proxy 127.0.0.1:1: reach index.docker.io"]);
    for bad in [
        &["--limit", "0", "x"][..],
        &["-f", "name=x", "x"],
        &["-f", "stars=x", "x"],
        &["bad_.example/x"],
        &[""],
    ] {
        let output = sandbox.coracle([&["search"], bad].concat());
        assert!(output.code() == 125, "{bad:?}: {output}");
    }
    // Of templates docker has 1 everywhere.
    sandbox.coracle(["search", "--format", "{{", "x"]).fails(1, &["unclosed action"]);
    sandbox.coracle(["search"]).fails(125, &["requires at least 1 argument"]);
    sandbox.coracle(["search", "--list-tags", "-f", "stars=1", "x"]).fails(125, &["--filter"]);
}
