//! What `network create` says of a network's containers: whether they reach each
//! other, where they are published, how they lead out, what addresses stay free.

use crate::harness::Need::Program;
use crate::harness::{Image, Sandbox, Slirp, sandbox};
use crate::networks::{address, get, greeter, server};
use crate::uplink::world;
use std::io::{Read, Write};
use std::net::TcpStream;

fn routes(sandbox: &Sandbox, name: &str) -> Vec<String> {
    sandbox.ok(["exec", name, "ip", "route"]).lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn flags_of_other_drivers_say_what_is_so_here() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let words =
        ["--attachable", "--ipam-driver", "default", "--internal", "--interface-name", "br-own", "one"];
    sandbox.ok([&["network", "create"], &words[..]].concat());
    let name = "{{index .Options \"com.docker.network.bridge.name\"}}";
    assert_eq!(sandbox.ok(["network", "inspect", "--format", name, "one"]), "br-own");
    sandbox.coracle(["network", "create", "--ipam-driver", "dhcp", "two"]).fails(1, &["dhcp", "default"]);
}

/// Docker's long form, with colons in its values and its quotes.
#[test]
fn a_place_on_a_network_is_said_in_one_flag() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["network", "create", "--internal", "--ipv6", "--subnet", "fd12:b::/64", "six"]);
    let said = "name=six,mac-address=92:d0:c6:0a:29:33,ip6=fd12:b::7,\"alias=web\"";
    let shown = sandbox.coracle(["run", "--rm", "--network", said, "busybox", "ip", "address"]).ok();
    for word in ["92:d0:c6:0a:29:33", "fd12:b::7/64"] {
        assert!(shown.stdout.contains(word), "{word}: {shown}");
    }
}

#[test]
fn containers_of_a_network_without_icc_reach_the_outside_alone() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Slirp]) else { return };
    let Some(own) = crate::network::own_address() else { return };
    let port = greeter(&own);
    sandbox.ok(["network", "create", "--subnet", "10.211.0.0/24", "-o", "enable_icc=false", "apart"]);
    sandbox.ok(["network", "create", "together"]);
    let docker_s = "com.docker.network.bridge.enable_icc=0";
    sandbox.ok([
        "network",
        "create",
        "--ipv6",
        "--subnet",
        "10.212.0.0/24",
        "--subnet",
        "fd12:c::/64",
        "-o",
        docker_s,
        "apart2",
    ]);
    let options = ["--network", "apart", "--cap-add", "NET_ADMIN"];
    server(&sandbox, "a", &[&options[..], &["-p", "127.0.0.1::80"]].concat());
    server(&sandbox, "b", &[&options[..], &["--network", "together"]].concat());
    server(&sandbox, "c", &["--network", "together"]);
    let b = address(&sandbox, "b", "apart");
    let nobody = || {
        assert!(!get(&sandbox, "a", &b).status.success(), "{b} is reached");
    };
    nobody();
    // Neither by the gateway, which is a router.
    for (name, other) in [("a", b.as_str()), ("b", &address(&sandbox, "a", "apart"))] {
        sandbox.ok(["exec", name, "ip", "route", "add", other, "via", "10.211.0.1"]);
    }
    nobody();
    // The gateway answers names, leads out, and ports lead in; another network joins.
    let out =
        format!("timeout 10 wget -q -O - http://{own}:{port}/ 2>&1; timeout 5 nc {own} {port} </dev/null");
    assert!(sandbox.ok(["exec", "a", "sh", "-c", &out]).contains("the way out"));
    assert!(sandbox.ok(["exec", "a", "nslookup", "-type=a", "b", "10.211.0.1"]).contains(&b));
    let mut stream = TcpStream::connect(sandbox.ok(["port", "a", "80"]).trim()).unwrap();
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("a\n"), "{answer}");
    assert_eq!(get(&sandbox, "b", "c").ok().text(), "c");
    // So it stays when interfaces are made anew, and for who comes later; IPv6 is no way round.
    sandbox.ok(["network", "reload", "--all"]);
    nobody();
    for name in ["a", "b"] {
        sandbox.ok(["network", "connect", "apart2", name]);
    }
    let format = "{{(index .NetworkSettings.Networks \"apart2\").GlobalIPv6Address}}";
    let six = sandbox.ok(["inspect", "-f", format, "b"]);
    let url = format!("[{six}]");
    assert_eq!(get(&sandbox, "b", &url).ok().text(), "b");
    assert!(!get(&sandbox, "a", &url).status.success());
    assert!(sandbox.ok(["exec", "a", "nslookup", "-type=a", "b", "fd12:c::1"]).contains(&b));
}

#[test]
fn ports_are_published_where_the_network_says() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let option = "com.docker.network.bridge.host_binding_ipv4=127.0.0.1";
    sandbox.ok(["network", "create", "-o", option, "here"]);
    sandbox.ok(["network", "create", "anywhere"]);
    server(&sandbox, "a", &["--network", "here", "-p", "80", "-p", "0.0.0.0::81"]);
    let bindings = |name: &str, port: &str| {
        let text = sandbox.ok(["port", name, port]);
        let mut hosts: Vec<String> =
            text.lines().filter_map(|line| line.rsplit_once(':')).map(|(host, _)| host.to_owned()).collect();
        hosts.sort();
        hosts
    };
    assert_eq!(bindings("a", "80"), ["127.0.0.1"]);
    // Who gives an address has it.
    assert_eq!(bindings("a", "81"), ["0.0.0.0"]);
    assert_eq!(sandbox.inspect("a")["HostConfig"]["PortBindings"]["80/tcp"][0]["HostIp"], "");
    sandbox.ok(["port", "add", "a", "82"]);
    assert_eq!(bindings("a", "82"), ["127.0.0.1"]);
    // The network that leads out says it; so it is after another start, too.
    server(&sandbox, "b", &["--network", "here", "--network", "anywhere:gw-priority=1", "-p", "80"]);
    assert!(bindings("b", "80").contains(&"0.0.0.0".to_owned()));
    sandbox.ok(["network", "disconnect", "anywhere", "b"]);
    sandbox.ok(["restart", "-t", "0", "b"]);
    assert_eq!(bindings("b", "80"), ["127.0.0.1"]);
}

#[test]
fn what_leads_out_and_by_which_metric_is_the_network_s_to_say() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let make = |name: &str, subnet: &str, options: &[&str]| {
        let words = [&["network", "create", "--subnet", subnet][..], options, &[name]].concat();
        sandbox.ok(words);
    };
    make("far", "10.213.0.0/24", &["-o", "metric=200"]);
    make("near", "10.214.0.0/24", &["-o", "metric=50"]);
    make("aside", "10.215.0.0/24", &["-o", "no_default_route=1"]);
    make("plain", "10.216.0.0/24", &[]);
    let default = |name: &str| {
        let all = routes(&sandbox, name).into_iter().filter(|line| line.starts_with("default"));
        all.collect::<Vec<_>>()
    };
    let run = |name: &str, networks: &[&str]| {
        let mut words = vec!["run", "-d", "--name", name];
        for network in networks {
            words.extend(["--network", network]);
        }
        words.extend(["busybox", "sleep", "1000"]);
        sandbox.ok(words);
    };
    run("a", &["aside"]);
    assert_eq!(default("a"), [""; 0]);
    sandbox.ok(["network", "connect", "far", "a"]);
    assert_eq!(default("a"), ["default via 10.213.0.1 dev eth1  metric 200"]);
    run("b", &["aside", "far", "near"]);
    assert_eq!(default("b"), ["default via 10.214.0.1 dev eth2  metric 50"]);
    sandbox.ok(["network", "disconnect", "near", "b"]);
    assert_eq!(default("b"), ["default via 10.213.0.1 dev eth1  metric 200"]);
    // There is one, whatever others there were.
    sandbox.ok(["network", "connect", "plain", "b"]);
    assert_eq!(default("b").len(), 1, "{:?}", default("b"));
    assert!(default("b")[0].starts_with("default via 10.216.0.1 dev eth2"), "{:?}", default("b"));
    sandbox.ok(["network", "connect", "--gw-priority", "5", "near", "b"]);
    assert_eq!(default("b"), ["default via 10.214.0.1 dev eth3  metric 50"]);
    sandbox.ok(["network", "reload", "b"]);
    assert_eq!(default("b"), ["default via 10.214.0.1 dev eth3  metric 50"]);
}

#[test]
fn containers_have_the_routes_of_their_network() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let words =
        ["network", "create", "--internal", "--ipv6", "--subnet", "10.217.0.0/24", "--subnet", "fd12:d::/64"];
    let routed = ["--route", "10.99.0.0/16,10.217.0.9,77", "--route", "fd99::/64,fd12:d::9", "n"];
    sandbox.ok([&words[..], &routed].concat());
    let (router, options) = ("10.217.0.9", ["--network", "n", "--cap-add", "NET_ADMIN"]);
    server(&sandbox, "r", &[&options[..], &["--ip", router]].concat());
    server(&sandbox, "a", &["--network", "n"]);
    let found = routes(&sandbox, "a");
    assert!(found.iter().any(|line| line == "10.99.0.0/16 via 10.217.0.9 dev eth0  metric 77"), "{found:?}");
    let six = sandbox.ok(["exec", "a", "ip", "-6", "route"]);
    assert!(six.lines().any(|line| line.starts_with("fd99::/64 via fd12:d::9 dev eth0")), "{six}");
    // It leads where it says.
    sandbox.ok(["exec", "r", "ip", "addr", "add", "10.99.3.3/32", "dev", "lo"]);
    assert_eq!(get(&sandbox, "a", "10.99.3.3").ok().text(), "r");
    let routes: serde_json::Value = serde_json::from_str(&sandbox.ok(["network", "inspect", "n"])).unwrap();
    assert_eq!(routes[0]["Routes"][0]["metric"], 77);
    assert_eq!(routes[0]["Routes"][1]["gateway"], "fd12:d::9");
}

#[test]
fn a_network_names_the_interfaces_of_its_containers() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["network", "create", "-o", "com.docker.network.container_iface_prefix=wan", "n"]);
    sandbox.ok(["network", "create", "-o", "com.docker.network.container_iface_prefix=wan", "late"]);
    sandbox.ok(["network", "create", "plain"]);
    let words = ["run", "-d", "--name", "a", "--network", "n,plain", "busybox", "sleep", "1000"];
    sandbox.ok(words);
    sandbox.ok(["network", "connect", "late", "a"]);
    assert_eq!(
        sandbox.ok(["exec", "a", "ls", "/sys/class/net"]).split_whitespace().collect::<Vec<_>>(),
        ["eth0", "lo", "wan0", "wan1"]
    );
}

/// In the world of `uplink/world.sh`, whose interface is in 198.51.100.0/24.
#[test]
fn a_network_over_one_of_the_host_s_is_told_and_the_host_is_found_elsewhere() {
    let Some(sandbox) = sandbox(&[Slirp, Program("unshare"), Program("ip")]) else { return };
    let script = "\"$coracle\" network create --subnet 198.51.100.0/25 n 2>&1 | grep -v '^[0-9a-f]*$'\n\
        \"$coracle\" network create --internal --subnet 203.0.113.0/24 inner 2>&1 | grep -v '^[0-9a-f]*$' || :\n\
        hosts() { \"$coracle\" run --rm --network n --rootfs /:O cat /etc/hosts | grep -c \"$1.*host.containers.internal\" || :; }\n\
        hosts '^203.0.113.1\t'\n\
        ip addr del 203.0.113.1/32 dev lo\n\
        hosts ''\n";
    let output = world(&sandbox, script).ok();
    let expected = [
        "WARNING: the subnets of network n overlap 198.51.100.1/24 of wide on this host: the containers on it do not \
         reach the host there, nor that network around it",
        "1",
        "0",
    ];
    assert_eq!(output.lines(), expected, "{output}");
}

#[test]
fn addresses_that_are_reserved_are_given_to_nobody() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let words = ["network", "create", "--subnet", "10.218.0.0/29"];
    let reserved = ["--aux-address", "router=10.218.0.2", "--aux-address", "printer=10.218.0.4", "n"];
    sandbox.ok([&words[..], &reserved].concat());
    let run = |name: &str, options: &[&str]| {
        let words =
            [&["run", "-d", "--name", name, "--network", "n"][..], options, &["busybox", "sleep", "1000"]];
        sandbox.coracle(words.concat())
    };
    for (name, is) in [("a", "10.218.0.3"), ("b", "10.218.0.5"), ("c", "10.218.0.6")] {
        run(name, &[]).ok();
        assert_eq!(address(&sandbox, name, "n"), is);
    }
    run("d", &[]).refused(&["no available IP addresses on network n"]);
    run("d", &["--ip", "10.218.0.4"]).refused(&["10.218.0.4", "in use"]);
    let format = "{{(index .IPAM.Config 0).AuxiliaryAddresses.printer}}";
    assert_eq!(sandbox.ok(["network", "inspect", "-f", format, "n"]), "10.218.0.4");
}

#[test]
fn options_that_cannot_be_had_are_refused() {
    let Some(sandbox) = sandbox(&[]) else { return };
    for (words, said) in [
        (&["-o", "com.docker.network.bridge.enable_icc=no", "m"][..], "not true or false"),
        (&["-o", "metric=0", "m"], "invalid metric"),
        (&["-o", "no_default_route=maybe", "m"], "not true or false"),
        (&["-o", "com.docker.network.bridge.host_binding_ipv4=x", "m"], "not an IPv4 address"),
        (
            &["--aux-address", "a=10.9.9.9", "--subnet", "10.203.0.0/24", "m"],
            "no matching subnet for aux-address",
        ),
        (&["--aux-address", "10.203.0.9", "--subnet", "10.203.0.0/24", "m"], "invalid aux-address"),
        (
            &["--aux-address", "a=10.203.0.1", "--subnet", "10.203.0.0/24", "m"],
            "failed to allocate secondary ip address (a:10.203.0.1): Address already in use",
        ),
        (&["--route", "10.0.0.0/8", "--subnet", "10.203.0.0/24", "m"], "invalid route: 10.0.0.0/8"),
        (&["--route", "10.9.0.0/16,10.8.0.1", "--subnet", "10.203.0.0/24", "m"], "it is not on the network"),
    ] {
        sandbox.coracle([&["network", "create"], words].concat()).fails(1, &[said]);
        assert_eq!(sandbox.ok(["network", "ls", "-q"]).lines().count(), 3, "{words:?}");
    }
}

/// In the world of `uplink/world.sh`: two resolvers, each with an answer of its own.
#[test]
fn whom_a_network_asks_is_changed_for_those_who_run() {
    let Some(sandbox) = sandbox(&[Slirp, Program("unshare"), Program("ip")]) else { return };
    let script = "ip addr add 203.0.113.2/32 dev lo\n\
        server names 203.0.113.2 192.0.2.99\n\
        \"$coracle\" network create --subnet 10.219.0.0/24 n >/dev/null\n\
        \"$coracle\" network create --disable-dns mute >/dev/null\n\
        for name in a b; do\n\
            \"$coracle\" run -d --name $name --network n --rootfs \"${guest%/bin/guest}:O\" /bin/guest sleep >/dev/null\n\
        done\n\
        ask() { \"$coracle\" exec $1 /bin/guest resolve 10.219.0.1; }\n\
        ask a\n\
        \"$coracle\" network update n --dns-add 203.0.113.2\n\
        ask a; ask b\n\
        \"$coracle\" network inspect -f '{{.NetworkDNSServers}}' n\n\
        # Who takes a dead holder's place knows it, whoever tells it first.\n\
        monitor=$(\"$coracle\" inspect --format '{{.State.ConmonPid}}' a)\n\
        find_holder() { for pid in $(cat /proc/$monitor/task/*/children); do\n\
            ! tr '\\0' ' ' <\"/proc/$pid/cmdline\" | grep -q -e ' --netd' || echo \"$pid\"; done; }\n\
        kill -9 $(find_holder)\n\
        tries=0\n\
        until [ \"$(ask b)\" = 192.0.2.99 ]; do tries=$((tries + 1)); [ $tries -lt 200 ] || exit 7; sleep 0.1; done\n\
        \"$coracle\" network update n --dns-drop 203.0.113.2,203.0.113.77\n\
        ask a; ask b\n\
        for words in 'n --dns-add 10.219.0.1' 'mute --dns-add 1.1.1.1' 'host --dns-add 1.1.1.1' 'n' 'n --dns-add x' 'gone --dns-add 1.1.1.1'; do\n\
            \"$coracle\" network update $words 2>&1 | head -n 1\n\
        done\n\
        \"$coracle\" rm -fat 0 >/dev/null\n";
    let output = world(&sandbox, script).ok();
    let expected = [
        "192.0.2.53",
        "192.0.2.99",
        "192.0.2.99",
        "[203.0.113.2]",
        "192.0.2.53",
        "192.0.2.53",
        "Error: --dns 10.219.0.1 is the gateway of the network itself",
        "Error: network mute answers no names",
        "Error: network host has no names of its own",
        "Error: network n: nothing is to be changed",
        "Error: --dns-add \"x\" is not an IP address",
        "Error: network gone not found",
    ];
    assert_eq!(output.lines(), expected, "{output}");
}
