//! Networks with bridges and names.

use crate::harness::leaks::processes_of;
use crate::harness::{Image, Output, Sandbox, Slirp, sandbox, until};
use std::io::Write;
use std::net::TcpListener;

const SERVE: &str = "mkdir -p /tmp/w; hostname >/tmp/w/index.html; exec httpd -f -p 80 -h /tmp/w";

/// A web server that is ready.
pub(crate) fn server(sandbox: &Sandbox, name: &str, options: &[&str]) {
    let mut words = vec!["run", "-d", "--name", name, "--hostname", name];
    words.extend(options);
    words.extend(["busybox", "sh", "-c", SERVE]);
    sandbox.ok(words);
    until("the server to listen", || get(sandbox, name, "127.0.0.1").status.success().then_some(()));
}

pub(crate) fn get(sandbox: &Sandbox, from: &str, host: &str) -> Output {
    let url = format!("http://{host}/index.html");
    sandbox.coracle(["exec", from, "timeout", "5", "wget", "-q", "-O", "-", &url])
}

pub(crate) fn address(sandbox: &Sandbox, name: &str, network: &str) -> String {
    let format = format!("{{{{(index .NetworkSettings.Networks {network:?}).IPAddress}}}}");
    sandbox.ok(["inspect", "-f", &format, name]).trim().to_owned()
}

pub(crate) fn holder(sandbox: &Sandbox) -> Option<i32> {
    processes_of(sandbox.root())
        .into_iter()
        .find(|process| process.command.contains("--netd"))
        .map(|process| process.pid)
}

pub(crate) fn monitor_of(sandbox: &Sandbox, name: &str) -> i32 {
    let id = sandbox.ok(["inspect", "-f", "{{.Id}}", name]);
    let state = std::fs::read(sandbox.path("run/coracle").join(&id[..12]).join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    state["monitor"]["pid"].as_i64().unwrap() as i32
}

pub(crate) fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn containers_find_each_other_by_name_alias_and_id_on_shared_networks_alone() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    for network in ["front", "back"] {
        sandbox.ok(["network", "create", network]);
    }
    server(&sandbox, "web", &["--network", "front:alias=www"]);
    server(&sandbox, "db", &["--network", "back", "--network-alias", "data"]);
    server(&sandbox, "app", &["--network", "front", "--network", "back", "--link", "db:linked"]);
    let id = sandbox.ok(["inspect", "-f", "{{.Id}}", "web"])[..12].to_owned();
    for (from, name, is) in [
        ("app", "web", "web"),
        ("app", "www", "web"),
        ("app", "WEB", "web"),
        ("app", id.as_str(), "web"),
        ("app", "data", "db"),
        ("app", "linked", "db"),
        ("web", "app", "app"),
        ("db", "app", "app"),
        ("web", "web", "web"),
    ] {
        let output = get(&sandbox, from, name).ok();
        assert_eq!(output.text(), is, "{name} from {from}");
    }
    // Neither the name nor the address leads to another network.
    let db = address(&sandbox, "db", "back");
    for host in ["db", "data", "linked", db.as_str()] {
        assert!(!get(&sandbox, "web", host).status.success(), "{host} is reached from another network");
    }
    // A name without an IPv6 address is a name: no error, and no address.
    let output = sandbox.coracle(["exec", "app", "nslookup", "-type=aaaa", "web"]);
    assert!(!output.stdout.contains("NXDOMAIN"), "{output}");
    let web = address(&sandbox, "web", "front");
    let output = sandbox.ok(["exec", "app", "nslookup", &web]);
    assert!(output.contains("name = web"), "{output}");
    // An IPv4 network has no IPv6, not even of the link (CVE-2024-32473).
    let output = sandbox.ok(["exec", "web", "ip", "-6", "addr", "show", "dev", "eth0"]);
    assert_eq!(output.trim(), "");
}

#[test]
fn addresses_and_names_are_as_asked_and_survive_a_restart() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["network", "create", "--subnet", "10.201.7.0/24", "--subnet", "fd12:7::/64", "lan"]);
    let options =
        ["--network", "lan:interface_name=lan0", "--ip", "10.201.7.77", "--mac-address", "02:00:00:00:07:07"];
    server(&sandbox, "fixed", &options);
    server(&sandbox, "free", &["--network", "lan"]);
    let before = address(&sandbox, "free", "lan");
    assert_eq!(address(&sandbox, "fixed", "lan"), "10.201.7.77");
    let output = sandbox.ok(["exec", "fixed", "ip", "addr", "show", "dev", "lan0"]);
    for word in ["10.201.7.77/24", "fd12:7::", "02:00:00:00:07:07"] {
        assert!(output.contains(word), "{word}: {output}");
    }
    sandbox
        .coracle(["run", "--rm", "--network", "lan", "--ip", "10.201.7.77", "busybox", "true"])
        .refused(&["in use"]);
    sandbox.ok(["restart", "-t", "0", "free"]);
    until("the server to listen", || get(&sandbox, "free", "127.0.0.1").status.success().then_some(()));
    assert_eq!(address(&sandbox, "free", "lan"), before);
    assert_eq!(get(&sandbox, "fixed", "free").ok().text(), "free");
    let six = get(&sandbox, "fixed", "[fd12:7::1]");
    assert!(!six.stderr.contains("unreachable"), "{six}");
}

#[test]
fn connecting_and_disconnecting_live() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    for network in ["one", "two"] {
        sandbox.ok(["network", "create", network]);
    }
    server(&sandbox, "a", &["--network", "one"]);
    server(&sandbox, "b", &["--network", "two"]);
    assert!(!get(&sandbox, "a", "b").status.success());
    sandbox.ok(["network", "connect", "--alias", "other", "two", "a"]);
    assert_eq!(get(&sandbox, "b", "other").ok().text(), "a");
    assert_eq!(get(&sandbox, "a", "b").ok().text(), "b");
    assert!(sandbox.ok(["exec", "a", "ip", "addr", "show", "dev", "eth1"]).contains("UP"));
    assert_eq!(sandbox.ok(["ps", "--filter", "network=two", "--format", "{{.Names}}"]).lines().count(), 2);
    sandbox.coracle(["network", "connect", "two", "a"]).fails(1, &["already exists in network two"]);
    sandbox.coracle(["network", "rm", "two"]).fails(1, &["has active endpoints"]);
    // What leads out is what is left.
    let default = || {
        let routes = sandbox.ok(["exec", "a", "ip", "route"]);
        routes.lines().filter(|line| line.starts_with("default ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(default().len() == 1 && default()[0].contains("dev eth0"), "{:?}", default());
    sandbox.ok(["network", "disconnect", "one", "a"]);
    assert!(default().len() == 1 && default()[0].contains("dev eth1"), "{:?}", default());
    sandbox.ok(["network", "connect", "one", "a"]);
    assert!(default().len() == 1 && default()[0].contains("dev eth1"), "{:?}", default());
    // Another name is known at once; its host name stays one.
    sandbox.ok(["rename", "a", "c"]);
    assert_eq!(get(&sandbox, "b", "c").ok().text(), "a");
    sandbox.ok(["rename", "c", "a"]);
    sandbox.ok(["network", "disconnect", "two", "a"]);
    assert!(!get(&sandbox, "b", "other").status.success());
    assert!(!sandbox.coracle(["exec", "a", "ip", "addr", "show", "dev", "eth1"]).status.success());
    sandbox.coracle(["network", "disconnect", "two", "a"]).fails(1, &["is not connected"]);
    // At rest it is recorded.
    sandbox.ok(["stop", "-t", "0", "a"]);
    sandbox.ok(["network", "connect", "two", "a"]);
    sandbox.ok(["start", "a"]);
    until("the name", || get(&sandbox, "b", "a").status.success().then_some(()));
    sandbox.ok(["network", "rm", "-f", "two"]);
    assert_eq!(sandbox.ok(["ps", "-aq"]).lines().count(), 0, "both were on it");
}

/// Listens on an address of the host, and greets who comes; its port.
pub(crate) fn greeter(own: &str) -> String {
    let listener = TcpListener::bind((own, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            stream.write_all(b"the way out").ok();
        }
    });
    port
}

#[test]
fn the_outside_is_reached_through_the_bridge() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest"), Slirp]) else { return };
    let Some(own) = crate::network::own_address() else { return };
    let port = greeter(&own);
    for network in ["bridge", "podman"] {
        let output = sandbox.ok(["run", "--rm", "--network", network, "guest", "connect", &own, &port]);
        assert_eq!(output, "the way out");
    }
}

#[test]
fn a_killed_holder_is_replaced_and_a_killed_monitor_takes_its_names_along() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["network", "create", "n"]);
    server(&sandbox, "a", &["--network", "n"]);
    server(&sandbox, "b", &["--network", "n"]);
    let b = address(&sandbox, "b", "n");
    for _ in 0..3 {
        let old = holder(&sandbox).unwrap();
        kill(old);
        // Its bridges are still there, whoever holds them.
        assert_eq!(get(&sandbox, "a", &b).ok().text(), "b");
        until("another holder", || holder(&sandbox).filter(|pid| *pid != old));
        until("names", || get(&sandbox, "a", "b").status.success().then_some(()));
    }
    sandbox.ok(["run", "--rm", "--network", "n", "busybox", "wget", "-q", "-O", "-", "http://a/index.html"]);
    let monitor = monitor_of(&sandbox, "b");
    kill(monitor);
    until("its name to go", || (!get(&sandbox, "a", "b").status.success()).then_some(()));
    sandbox.ok(["rm", "-f", "a", "b"]);
    until("the holder to end", || holder(&sandbox).is_none().then_some(()));
}

#[test]
fn bad_input_is_refused_before_anything_is_made() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["network", "create", "--subnet", "10.202.0.0/24", "n"]);
    let kept = |folder: &str| {
        let entries = std::fs::read_dir(sandbox.state().join(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let networks = kept("networks");
    for (words, said) in [
        (&["n"][..], "already exists"),
        (&["host"], "predefined host network"),
        (&["--subnet", "10.202.0.0/16", "m"], "overlaps"),
        (&["--subnet", "10.202", "m"], "invalid CIDR address"),
        (&["--subnet", "10.203.0.0/24", "--gateway", "10.9.0.1", "m"], "no matching subnet for gateway"),
        (&["--subnet", "10.203.0.0/24", "--ip-range", "10.9.0.0/24", "m"], "no matching subnet for range"),
        (&["-d", "overlay", "m"], "plugin \"overlay\" not found"),
        (&["-o", "foo=bar", "m"], "unsupported bridge network option"),
        (&["-o", "mtu=9", "m"], "invalid mtu"),
        (&["-o", "mtu=1000", "--ipv6", "m"], "invalid mtu"),
        (&["-o", "com.docker.network.bridge.name=tap0", "m"], "invalid interface name"),
        (&["--subnet", "10.203.0.0/24", "--gateway", "10.203.0.255", "m"], "failed to allocate gateway"),
        (&["--subnet", "10.203.0.0/24", "--gateway", "10.203.0.0", "m"], "failed to allocate gateway"),
        (&["--gateway", "10.203.0.1", "m"], "no matching subnet for gateway"),
        (&["--gateway", "x", "m"], "invalid gateway address"),
        (&["--subnet", "10.203.0.0/24", "--ip-range", "10.203.0.0/16", "m"], "no matching subnet for range"),
        (&["--subnet", "10.203.0.0/24", "--ip-range", "10.203.0.9-10.203.0.5", "m"], "invalid CIDR address"),
        (
            &["--subnet", "10.203.0.0/24", "--ip-range", "10.203.0.9-10.203.1.5", "m"],
            "no matching subnet for range",
        ),
        (&["--subnet", "10.203.0.0/31", "m"], "no room"),
        (&["--subnet", "127.0.0.0/24", "m"], "no host can have an address of it"),
        (&["--subnet", "fd00::/48", "m"], "the way out of networks is"),
        (&["--subnet", "10.203.0.0/24", "--subnet", "10.204.0.0/24", "m"], "multiple subnets of IPv4"),
        (&["--ipv4=false", "m"], "IPv4 or IPv6 must be enabled"),
        (&["--ipv4=false", "--subnet", "10.203.0.0/24", "--ipv6", "m"], "conflicting options"),
        (&["--label", "=x", "m"], "invalid label"),
        (&["--dns", "x", "m"], "not an IP address"),
        (&["--dns", "10.203.0.1", "--subnet", "10.203.0.0/24", "m"], "is the gateway of the network itself"),
        (&["--dns", "9.9.9.9", "--disable-dns", "m"], "conflicting options"),
        (&["-d", "macvlan", "m"], "plugin \"macvlan\" not found"),
        (&["-o", "vlan=5", "m"], "unsupported bridge network option"),
        (&["../m"], "invalid"),
    ] {
        let mut all = vec!["network", "create"];
        all.extend(words);
        sandbox.coracle(all).fails(1, &[said]);
        assert_eq!(kept("networks"), networks, "{words:?}");
    }
    for (words, said) in [
        (&["--network", "nope"][..], "network nope not found"),
        (&["--network", "n", "--network", "n"], "more than once"),
        (&["--network", "n", "--network", "host"], "conflicting options"),
        (&["--network", "n", "--ip", "10.9.9.9"], "no configured subnet contains IP"),
        (&["--network", "n", "--ip", "10.202.0.1"], "in use"),
        (&["--network", "n", "--ip", "10.202.0.255"], "in use"),
        (&["--network", "n", "--ip", "x"], "invalid IPv4 address"),
        (&["--network", "n", "--ip6", "fd99::5"], "no configured subnet contains IP"),
        (&["--network", "n:ip=10.202.0.5", "--ip", "10.202.0.6"], "cannot specify both --ip and per-network"),
        (&["--network", "n", "--mac-address", "01:00:5e:00:00:01"], "not a valid mac address"),
        (&["--network", "n", "--network-alias", "a b"], "cannot be a name"),
        (&["--network", "n", "-p", "80:x"], "invalid containerPort"),
        (&["--network", "n", "-p", "80:80/ip"], "invalid proto"),
        (&["--network", "n", "-p", "99999:80"], "invalid hostPort"),
        (&["--network", "n", "-p", "1.2.3:80:80"], "invalid IP address"),
        (&["--network", "n:foo=bar"], "unknown option"),
        (&["--network", "n:gw-priority=x"], "invalid gw-priority"),
        (&["--ip", "10.202.0.5"], "--network NAME"),
        (&["--network", "n", "--mac-address", "zz"], "not a valid mac address"),
        (&["--network", "n", "--link", "nope"], "no such container"),
        (&["--link", "nope"], "no such container"),
        (&["--network", "default", "--mac-address", "02:00:00:00:00:01"], "--network bridge"),
    ] {
        let mut all = vec!["run", "--name", "c"];
        all.extend(words);
        all.extend(["busybox", "true"]);
        sandbox.coracle(all).fails(125, &[said]);
        assert_eq!(sandbox.ok(["ps", "-aq"]).lines().count(), 0, "{words:?}");
        assert_eq!(
            [kept("containers"), kept("networks/n/leases")],
            [const { Vec::<String>::new() }; 2],
            "{words:?}"
        );
    }
    // Docker goes on without them, and says so.
    let output = sandbox.coracle(["run", "--rm", "--network", "host", "-p", "80:80", "busybox", "true"]).ok();
    assert!(output.stderr.contains("Published ports are discarded"), "{output}");
    sandbox.coracle(["network", "rm", "bridge"]).fails(1, &["pre-defined"]);
    sandbox.coracle(["network", "inspect", "nope"]).fails(1, &["not found"]);
    sandbox.coracle(["network", "exists", "nope"]).expect_code(1);
    sandbox.ok(["network", "exists", "n"]);
    let names = sandbox.ok(["network", "ls", "--format", "{{.Name}}"]);
    assert_eq!(names.lines().collect::<Vec<_>>(), ["bridge", "host", "n", "none"]);
    sandbox.ok(["network", "prune", "-f"]);
    assert_eq!(sandbox.ok(["network", "ls", "-q"]).lines().count(), 3);
}

#[test]
fn a_container_with_a_way_out_of_its_own_is_connected_too() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Slirp]) else { return };
    sandbox.ok(["network", "create", "n"]);
    server(&sandbox, "a", &["--network", "n"]);
    server(&sandbox, "b", &["--restart", "always"]);
    sandbox.ok(["network", "connect", "n", "b"]);
    // Names are asked of the network from now on.
    until("the name of a", || get(&sandbox, "b", "a").status.success().then_some(()));
    assert_eq!(get(&sandbox, "a", "b").ok().text(), "b");
    let routes = sandbox.ok(["exec", "b", "ip", "route"]);
    let default: Vec<&str> = routes.lines().filter(|line| line.starts_with("default ")).collect();
    assert!(default.len() == 1 && default[0].contains("dev tap0"), "{routes}");
    assert_eq!(sandbox.ok(["ps", "--filter", "name=b", "--format", "{{.Networks}}"]).trim(), "default,n");
    // A run that its policy begins is where the last one was connected.
    sandbox.ok(["exec", "b", "kill", "-9", "1"]);
    sandbox.coracle(["kill", "-s", "KILL", "b"]);
    sandbox.ok(["start", "b"]);
    until("b", || get(&sandbox, "a", "b").status.success().then_some(()));
    sandbox.ok(["network", "disconnect", "n", "b"]);
    assert!(!get(&sandbox, "a", "b").status.success());
    for mode in ["none", "host"] {
        sandbox.ok(["create", "--name", mode, "--network", mode, "busybox", "true"]);
        sandbox.coracle(["network", "connect", "n", mode]).fails(1, &["network mode", mode]);
        for verb in ["connect", "disconnect"] {
            let said = format!("from {mode} network");
            sandbox.coracle(["network", verb, mode, "a"]).fails(1, &[&said]);
        }
    }
}

#[test]
fn what_was_broken_inside_is_made_anew_by_reload() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["network", "create", "n"]);
    server(&sandbox, "a", &["--network", "n", "--cap-add", "NET_ADMIN"]);
    server(&sandbox, "b", &["--network", "n"]);
    let address = address(&sandbox, "a", "n");
    sandbox.ok(["exec", "a", "ip", "addr", "flush", "dev", "eth0"]);
    assert!(!get(&sandbox, "b", &address).status.success());
    let id = sandbox.ok(["inspect", "-f", "{{.Id}}", "a"]);
    assert_eq!(sandbox.ok(["network", "reload", "a"]), id);
    assert_eq!(get(&sandbox, "b", &address).ok().text(), "a");
    assert_eq!(sandbox.ok(["network", "reload", "--all"]).lines().count(), 2);
    assert_eq!(get(&sandbox, "b", "a").ok().text(), "a");
    sandbox.ok(["stop", "-t", "0", "a"]);
    sandbox.coracle(["network", "reload", "a"]).fails(1, &["not running"]);
}

#[test]
fn a_published_port_leads_to_a_container_on_a_network() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["network", "create", "--internal", "n"]);
    server(&sandbox, "web", &["--network", "n", "-p", "127.0.0.1::80"]);
    let binding = sandbox.ok(["port", "web", "80"]);
    let mut stream = std::net::TcpStream::connect(binding.trim()).unwrap();
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.ends_with("web\n"), "{answer}");
}

#[test]
fn the_built_in_uplink_serves_bridges_and_one_that_dies_is_started_again() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let Some(own) = crate::network::own_address() else { return };
    let port = greeter(&own);
    let config = sandbox.path("config/coracle");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("config.toml"), "[network]\nuplink = \"builtin\"\n").unwrap();
    sandbox.ok(["network", "create", "--ipv6", "n"]);
    sandbox.ok(["run", "-d", "--name", "keep", "--network", "n", "guest", "sleep"]);
    let reach = || sandbox.coracle(["run", "--rm", "--network", "n", "guest", "connect", &own, &port]);
    assert_eq!(reach().ok().text(), "the way out");
    // A child of the holder, which has no word of the sandbox.
    let uplink = || {
        let children =
            std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", holder(&sandbox)?)).ok()?;
        let is_uplink = |pid: &i32| {
            std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|words| words.contains("--uplink"))
        };
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(is_uplink)
    };
    let old = uplink().unwrap();
    kill(old);
    until("another uplink", || uplink().filter(|pid| *pid != old));
    until("the way out", || (reach().text() == "the way out").then_some(()));
    sandbox.ok(["rm", "-ft", "0", "keep"]);
    until("the uplink to end", || uplink().is_none().then_some(()));
}

/// 500 a second, as the kernel counts what was answered: on the asker's socket.
#[test]
fn no_query_of_many_is_dropped_while_containers_come_and_go() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    sandbox.ok(["network", "create", "n"]);
    server(&sandbox, "stays", &["--network", "n"]);
    let right = address(&sandbox, "stays", "n");
    let gateway = sandbox.ok(["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "n"]);
    let asks = sandbox.spawn(["run", "--network", "n", "guest", "ask", &gateway, "stays", "500", "3000"]);
    for _ in 0..5 {
        sandbox.ok(["run", "--rm", "--network", "n", "busybox", "true"]);
    }
    let output = asks.wait();
    assert_eq!(output.text(), format!("3000 0 {right}"), "{output}");
}

/// Docker's default network is the bridge.
#[test]
fn an_ethernet_address_or_a_link_alone_asks_for_the_bridge() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Slirp]) else { return };
    let mac = "02:00:00:00:00:42";
    assert_eq!(
        sandbox.ok(["run", "--rm", "--mac-address", mac, "busybox", "cat", "/sys/class/net/eth0/address"]),
        mac
    );
    sandbox.ok(["run", "-d", "--name", "db", "busybox", "sleep", "1000"]);
    sandbox
        .coracle(["run", "--link", "db:data", "busybox"])
        .fails(125, &["cannot link to db", "coracle network connect bridge db"]);
    sandbox.ok(["network", "connect", "bridge", "db"]);
    let found = sandbox.ok(["run", "--rm", "--link", "db:data", "busybox", "nslookup", "data"]);
    let address = sandbox.ok(["inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "db"]);
    assert!(found.contains(&address), "{found}");
}

#[test]
fn what_docker_shows_of_networks_is_shown() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let id = sandbox.ok(["network", "create", "--subnet", "10.205.0.0/24", "--label", "k=v", "n"]);
    sandbox.ok(["network", "create", "--ipv4=false", "--ipv6", "six"]);
    let options = [
        "--network",
        "n:ip=10.205.0.9,mac=02:00:00:00:00:09,alias=al",
        "--network",
        "six",
        "--link",
        "c:other",
    ];
    sandbox.ok(["run", "-d", "--name", "c", "--network", "n", "busybox", "sleep", "1000"]);
    sandbox.ok([&["run", "-d", "--name", "d"][..], &options, &["busybox", "sleep", "1000"]].concat());
    let document = sandbox.inspect("d");
    let places = &document["NetworkSettings"]["Networks"];
    assert_eq!(places["n"]["IPAMConfig"]["IPv4Address"], "10.205.0.9");
    assert_eq!(
        (&places["n"]["NetworkID"], &places["n"]["Links"][0]),
        (&id.as_str().into(), &"c:other".into())
    );
    assert_eq!(places["n"]["MacAddress"], "02:00:00:00:00:09");
    let names: Vec<&str> =
        places["n"]["DNSNames"].as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
    assert_eq!(names, ["d", &document["Id"].as_str().unwrap()[..12], "al"]);
    assert_eq!(
        (&places["six"]["IPAddress"], &places["six"]["IPAMConfig"]),
        (&"".into(), &serde_json::Value::Null)
    );
    let network: serde_json::Value = serde_json::from_str(&sandbox.ok(["network", "inspect", "n"])).unwrap();
    let network = &network[0];
    let shown = &network["Containers"][document["Id"].as_str().unwrap()];
    assert_eq!((&shown["Name"], &shown["IPv4Address"]), (&"d".into(), &"10.205.0.9/24".into()));
    assert_eq!(shown["EndpointID"], places["n"]["EndpointID"]);
    assert_eq!(shown["EndpointID"].as_str().unwrap().len(), 64);
    assert_eq!(network["Containers"].as_object().unwrap().len(), 2);
    assert_eq!((&network["Internal"], &network["Labels"]["k"]), (&false.into(), &"v".into()));
    let row = sandbox.ok([
        "network",
        "ls",
        "--filter",
        "name=six",
        "--format",
        "{{.IPv4}} {{.IPv6}} {{.Internal}}",
    ]);
    assert_eq!(row, "false true false");
    assert_eq!(sandbox.ok(["network", "ls", "--no-trunc", "-q", "--filter", "label=k=v"]), id);
    // Podman's fields, in both.
    let format = "{{.Name}} {{.NetworkInterface}} {{.IPv6Enabled}} {{.DNSEnabled}} {{.IPAMOptions.driver}} \
        {{len .Routes}} {{.NetworkDNSServers}} {{len .Options}} {{.Driver}} {{.Internal}} \
        {{range .Subnets}}{{.Subnet}} {{.Gateway}} {{.LeaseRange}}{{end}}{{if not .Created}}{{.Created}}{{end}}";
    sandbox.ok([
        "network",
        "create",
        "--subnet",
        "10.209.0.0/24",
        "--ip-range",
        "10.209.0.64/26",
        "--disable-dns",
        "p",
    ]);
    let listed = sandbox.ok(["network", "ls", "--filter", "name=^p$", "--format", format]);
    let interface = listed.split(' ').nth(1).unwrap();
    assert!(!interface.is_empty());
    let expected = format!(
        "p {interface} false false host-local 0 [] 0 bridge false 10.209.0.0/24 10.209.0.1 10.209.0.64/26"
    );
    assert_eq!(listed, expected);
    assert_eq!(sandbox.ok(["network", "inspect", "-f", format, "p"]), expected);
    let both = sandbox.ok(["network", "inspect", "-f", "{{.ID}} {{.Id}} {{.Labels}}", "p"]);
    assert_eq!(both.split(' ').next(), both.split(' ').nth(1));
    assert_eq!(sandbox.ok(["network", "inspect", "-f", "{{.DNSEnabled}} {{.Subnets}}", "host"]), "false []");
    sandbox.ok(["network", "rm", "p"]);
    assert_eq!(sandbox.ok(["network", "ls", "-q", "--filter", "dangling=true"]), "");
    // At rest it is on no network, but named.
    sandbox.ok(["stop", "-t", "0", "d"]);
    let document = sandbox.inspect("d");
    assert_eq!(document["NetworkSettings"]["Networks"]["n"]["IPAddress"], "");
    assert_eq!(document["NetworkSettings"]["Networks"]["n"]["EndpointID"], "");
    sandbox.ok(["rm", "-ft", "0", "c", "d"]);
    sandbox.ok(["network", "create", "--label", "keep", "kept"]);
    assert_eq!(
        sandbox.ok(["network", "prune", "-f", "--filter", "label!=keep"]),
        "Deleted Networks:\nn\nsix"
    );
    assert_eq!(sandbox.ok(["network", "prune", "-f", "--filter", "until=2020-01-01"]), "");
    assert_eq!(sandbox.ok(["network", "prune", "-f", "--filter", "label=keep"]), "Deleted Networks:\nkept");
    let words =
        ["events", "--since", "1h", "--until", "0s", "--filter", "type=network", "--format", "{{.Action}}"];
    let told = sandbox.ok(words);
    let all: Vec<&str> =
        told.lines().filter(|action| *action != "connect" && *action != "disconnect").collect();
    // The default one is made when it is first looked for.
    let pruned = ["destroy", "destroy", "prune", "prune", "destroy", "prune"];
    assert_eq!(all[all.len() - 6..], pruned, "{told}");
}

/// 10.0.0.0/16 and 10.0.2.0/24 are what a helper's own network is often called.
#[test]
fn a_network_may_have_the_addresses_of_a_single_container_s_uplink() {
    let Some(sandbox) = sandbox(&[Image("guest"), Slirp]) else { return };
    let Some(own) = crate::network::own_address() else { return };
    let port = greeter(&own);
    for subnet in ["10.0.0.0/16", "10.0.2.0/24"] {
        sandbox.ok(["network", "create", "--subnet", subnet, "n"]);
        let output = sandbox.ok(["run", "--rm", "--network", "n", "guest", "connect", &own, &port]);
        assert_eq!(output, "the way out", "{subnet}");
        sandbox.ok(["network", "rm", "n"]);
    }
}

/// Each kind of network answers what it can; what it cannot is asked of the next.
#[test]
fn who_is_on_an_internal_network_and_has_another_way_out_asks_there() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Slirp]) else { return };
    sandbox.ok(["network", "create", "--internal", "--subnet", "10.206.0.0/24", "inside"]);
    sandbox.ok(["network", "create", "--subnet", "10.207.0.0/24", "outside"]);
    let resolvers = |options: &[&str]| {
        let words =
            [&["run", "--rm"][..], options, &["busybox", "grep", "nameserver", "/etc/resolv.conf"]].concat();
        sandbox
            .ok(words)
            .lines()
            .map(|line| line.trim_start_matches("nameserver ").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(resolvers(&["--network", "inside"]), ["10.206.0.1"]);
    assert_eq!(resolvers(&["--network", "inside", "--network", "outside"]), ["10.207.0.1"]);
    sandbox.ok(["create", "--name", "own", "busybox", "sleep", "1000"]);
    sandbox.ok(["network", "connect", "inside", "own"]);
    sandbox.ok(["start", "own"]);
    let text = sandbox.ok(["exec", "own", "cat", "/etc/resolv.conf"]);
    let first: Vec<&str> = text.lines().filter(|line| line.starts_with("nameserver ")).take(2).collect();
    assert_eq!(first, ["nameserver 10.206.0.1", "nameserver 10.0.2.3"], "{text}");
    let said = sandbox.coracle(["exec", "own", "nslookup", "nobody.invalid", "10.206.0.1"]);
    assert!(said.stdout.contains("REFUSED"), "{said}");
}
