//! Names on networks, who hears the answers, and interfaces that are made anew.

use crate::harness::{Image, Sandbox, sandbox, until};
use crate::networks::{address, get, holder, kill, server};
use std::collections::BTreeSet;

fn gateway(sandbox: &Sandbox, network: &str) -> String {
    sandbox.ok(["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", network]).trim().to_owned()
}

#[test]
fn a_name_may_have_a_domain_and_several_may_have_one_name() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    for network in ["front", "back"] {
        sandbox.ok(["network", "create", network]);
    }
    server(&sandbox, "web", &["--network", "front:alias=pool"]);
    server(&sandbox, "web2", &["--network", "front:alias=pool"]);
    let options = ["--network", "front", "--network", "back:gw-priority=1", "--domainname", "lan.example"];
    server(&sandbox, "app", &options);
    for name in ["web", "web.front", "web.dns.podman"] {
        assert_eq!(get(&sandbox, "app", name).ok().text(), "web", "{name}");
    }
    for name in ["web.back", "nobody.dns.podman"] {
        assert!(!get(&sandbox, "app", name).status.success(), "{name} is nobody's");
    }
    // Each of those that share a name comes first at times.
    let mut first = BTreeSet::new();
    let both = ["web", "web2"].map(|name| address(&sandbox, name, "front"));
    let resolver = gateway(&sandbox, "front");
    until("each to come first", || {
        let answer = sandbox.ok(["exec", "app", "nslookup", "-type=a", "pool", &resolver]);
        assert!(both.iter().all(|one| answer.contains(one)), "{answer}");
        first.insert(both.iter().min_by_key(|one| answer.find(one.as_str())).cloned());
        (first.len() == 2).then_some(())
    });
    // The whole name stands first, at each of its addresses.
    let hosts = sandbox.ok(["exec", "app", "cat", "/etc/hosts"]);
    for network in ["front", "back"] {
        let line = format!("{}\tapp.lan.example app", address(&sandbox, "app", network));
        assert!(hosts.lines().any(|own| own == line), "{line}: {hosts}");
    }
    // A container's name is none of the domain that the host searches.
    assert!(sandbox.ok(["exec", "app", "cat", "/etc/resolv.conf"]).contains("ndots:0"));
    sandbox.ok(["network", "create", "--disable-dns", "mute"]);
    let text = sandbox.ok(["run", "--rm", "--network", "mute", "busybox", "cat", "/etc/resolv.conf"]);
    assert!(!text.contains("ndots:0"), "{text}");
    // The way out is what was asked for.
    let default = || {
        let routes = sandbox.ok(["exec", "app", "ip", "route"]);
        routes.lines().find(|line| line.starts_with("default ")).map(str::to_owned).unwrap_or(routes)
    };
    assert!(default().contains(&format!("via {} ", gateway(&sandbox, "back"))), "{}", default());
    sandbox.ok(["network", "create", "third"]);
    sandbox.ok(["network", "connect", "--gw-priority", "2", "third", "app"]);
    assert!(default().contains(&format!("via {} ", gateway(&sandbox, "third"))), "{}", default());
    sandbox.ok(["network", "disconnect", "third", "app"]);
    assert!(default().contains(&format!("via {} ", gateway(&sandbox, "back"))), "{}", default());
}

/// By its address, or by its Ethernet address too.
#[test]
fn who_takes_a_neighbour_s_address_does_not_hear_what_it_is_answered() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    for network in ["front", "back"] {
        sandbox.ok(["network", "create", network]);
    }
    server(&sandbox, "app", &["--network", "front", "--network", "back"]);
    server(&sandbox, "db", &["--network", "back"]);
    server(&sandbox, "evil", &["--network", "front", "--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW"]);
    let (app, db) = (address(&sandbox, "app", "front"), address(&sandbox, "db", "back"));
    let format = "{{.NetworkSettings.Networks.front.MacAddress}}";
    let mac = sandbox.ok(["inspect", "-f", format, "app"]);
    let gateway = gateway(&sandbox, "front");
    let ask = |name: &str| {
        let line = format!("timeout 2 nslookup -type=a {name} {gateway} 2>&1; true");
        sandbox.ok(["exec", "evil", "sh", "-c", &line])
    };
    assert!(ask("app").contains(&app), "it is answered as itself");
    assert!(!ask("db").contains(&db));
    for as_another in ["true", &format!("ip link set eth0 address {mac}")] {
        let line = format!(
            "ip link set eth0 down && {as_another} && ip addr flush dev eth0 && \
             ip addr add {app}/24 dev eth0 && ip link set eth0 up"
        );
        sandbox.ok(["exec", "evil", "sh", "-c", &line]);
        for _ in 0..2 {
            let answer = ask("db");
            assert!(!answer.contains(&db), "{as_another}: {answer}");
        }
        // Whose address it is hears it.
        assert_eq!(get(&sandbox, "app", "db").ok().text(), "db");
    }
}

/// Its own word is not taken for it: what it has is the kernel's to say.
#[test]
fn who_changes_its_own_ethernet_address_keeps_its_gateway_and_takes_nobody_s() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["network", "create", "--ipv6", "--subnet", "10.223.0.0/24", "--subnet", "fd12:f::/64", "n"]);
    server(&sandbox, "a", &["--network", "n", "--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW"]);
    server(&sandbox, "b", &["--network", "n"]);
    let b = address(&sandbox, "b", "n");
    let hears = |name: &str, gateway: &str| {
        let line = format!("timeout 2 nslookup -type=a b {gateway} 2>&1; true");
        sandbox.ok(["exec", name, "sh", "-c", &line]).contains(&b)
    };
    let change = |mac: &str| {
        let line = format!("ip link set eth0 address {mac}");
        sandbox.ok(["exec", "a", "sh", "-c", &line]);
    };
    let both = ["10.223.0.1", "fd12:f::1"];
    for mac in ["02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:42:0a:df:00:02"] {
        change(mac);
        for gateway in both {
            until("an answer of the gateway", || hears("a", gateway).then_some(()));
        }
    }
    // Somebody new finds it at its address.
    let url = format!("http://{}/index.html", address(&sandbox, "a", "n"));
    change("02:00:00:00:00:0c");
    until("an answer", || hears("a", both[0]).then_some(()));
    let words = ["run", "--rm", "--network", "n", "busybox", "timeout", "5", "wget", "-q", "-O", "-", &url];
    assert_eq!(sandbox.ok(words), "a");
    // Another holder finds it as it is.
    let old = holder(&sandbox).unwrap();
    kill(old);
    until("another holder", || holder(&sandbox).filter(|pid| *pid != old));
    until("an answer", || hears("a", both[0]).then_some(()));
    change("02:00:00:00:00:0d");
    until("an answer", || hears("a", both[0]).then_some(()));
    // Neither a neighbour's address nor the gateway's can be had: they go on.
    let neighbour = sandbox.ok(["inspect", "-f", "{{.NetworkSettings.Networks.n.MacAddress}}", "b"]);
    for taken in [neighbour.as_str(), "02:42:0a:df:00:01"] {
        change(taken);
        for _ in 0..3 {
            assert!(!hears("a", both[0]), "{taken} is another's");
            assert!(hears("b", both[0]), "{taken} was taken");
        }
    }
    change("02:00:00:00:00:0e");
    until("an answer", || hears("a", both[0]).then_some(()));
}

/// The bridges that there are, as the holder's thread among them sees it.
fn bridges(sandbox: &Sandbox) -> BTreeSet<String> {
    let tasks = format!("/proc/{}/task", holder(sandbox).unwrap());
    let all = std::fs::read_dir(tasks).unwrap().flatten().flat_map(|task| {
        let links = std::fs::read_to_string(task.path().join("net/dev")).unwrap_or_default();
        let names = links.lines().filter_map(|line| line.trim().split_once(':').map(|(name, _)| name));
        names.filter(|name| name.starts_with("br-")).map(str::to_owned).collect::<Vec<_>>()
    });
    all.collect()
}

#[test]
fn what_a_reload_could_not_make_is_still_wanted() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    for network in ["one", "two"] {
        sandbox.ok(["network", "create", network]);
    }
    server(&sandbox, "a", &["--network", "one", "--network", "two", "--cap-add", "NET_ADMIN"]);
    server(&sandbox, "b", &["--network", "one"]);
    assert_eq!(bridges(&sandbox).len(), 2);
    // Nothing can take the place of the loopback device, once that has its name.
    let rename = "ip link set eth1 down && ip link set eth1 name x && \
                  ip link set lo down && ip link set lo name eth1";
    sandbox.ok(["exec", "a", "sh", "-c", rename]);
    sandbox.coracle(["network", "reload", "a"]).fails(1, &["network two"]);
    // The other is there.
    assert_eq!(get(&sandbox, "b", "a").ok().text(), "a");
    sandbox.ok(["exec", "a", "sh", "-c", "ip link set eth1 name lo && ip link set lo up"]);
    // It is not forgotten: neither by who comes after a holder that was killed,
    let old = holder(&sandbox).unwrap();
    kill(old);
    until("another holder", || holder(&sandbox).filter(|pid| *pid != old));
    let second = || sandbox.coracle(["exec", "a", "ip", "addr", "show", "dev", "eth1"]);
    until("the second interface", || second().status.success().then_some(()));
    // nor by another reload.
    sandbox.ok(["network", "reload", "a"]);
    assert!(second().ok().stdout.contains(&address(&sandbox, "a", "two")));
    assert_eq!(get(&sandbox, "b", "a").ok().text(), "a");
    // Who was on it is counted once: with the last the bridge goes.
    sandbox.ok(["rm", "-ft", "0", "a"]);
    until("the bridge of two to go", || (bridges(&sandbox).len() == 1).then_some(()));
}

#[test]
fn addresses_are_those_of_the_range() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok([
        "network",
        "create",
        "--subnet",
        "10.208.0.0/24",
        "--ip-range",
        "10.208.0.9-10.208.0.10",
        "n",
    ]);
    let show = "{{(index .IPAM.Config 0).IPRange}}";
    assert_eq!(sandbox.ok(["network", "inspect", "-f", show, "n"]), "10.208.0.9-10.208.0.10");
    let run = |name: &str, options: &[&str]| {
        let words =
            [&["run", "-d", "--name", name, "--network", "n"][..], options, &["busybox", "sleep", "1000"]];
        sandbox.coracle(words.concat())
    };
    for (name, is) in [("a", "10.208.0.9"), ("b", "10.208.0.10")] {
        run(name, &[]).ok();
        assert_eq!(address(&sandbox, name, "n"), is);
    }
    run("c", &[]).refused(&["no available IP addresses on network n"]);
    // Who asks for another one of the subnet gets it.
    run("d", &["--ip", "10.208.0.77"]).ok();
    assert_eq!(address(&sandbox, "d", "n"), "10.208.0.77");
    sandbox.ok(["rm", "-ft", "0", "a"]);
    run("e", &[]).ok();
    assert_eq!(address(&sandbox, "e", "n"), "10.208.0.9");
}

fn hosts(sandbox: &Sandbox, name: &str) -> Vec<String> {
    sandbox.ok(["exec", name, "cat", "/etc/hosts"]).lines().map(str::to_owned).collect()
}

#[test]
fn a_running_container_s_hosts_follow_its_networks() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    for (network, subnet) in [("one", "10.221.0.0/24"), ("two", "10.222.0.0/24")] {
        sandbox.ok(["network", "create", "--subnet", subnet, network]);
    }
    let options = ["--network", "one", "--hostname", "web.lan", "--add-host", "db:192.0.2.7"];
    server(&sandbox, "a", &options);
    let before = hosts(&sandbox, "a");
    assert!(before.iter().any(|line| line == "10.221.0.2\tweb.lan web a"), "{before:?}");
    // What somebody has written there stays.
    sandbox.ok(["exec", "a", "sh", "-c", "echo '192.0.2.9 mine' >>/etc/hosts"]);
    sandbox.ok(["network", "connect", "two", "a"]);
    let both = hosts(&sandbox, "a");
    let added = ["192.0.2.9 mine", "10.222.0.2\tweb.lan web a"].map(str::to_owned);
    assert_eq!(both, [&before[..], &added].concat());
    sandbox.ok(["network", "disconnect", "one", "a"]);
    let after: Vec<String> = both.iter().filter(|line| !line.starts_with("10.221.0.2")).cloned().collect();
    assert_eq!(hosts(&sandbox, "a"), after);
    assert_eq!(sandbox.ok(["exec", "a", "hostname", "-i"]).trim(), "10.222.0.2");
    // What is changed but for its addresses changes no line.
    sandbox.ok(["network", "reload", "a"]);
    assert_eq!(hosts(&sandbox, "a"), after);
    // With none of ours there is nothing to change.
    sandbox.ok(["run", "-d", "--name", "b", "--no-hosts", "--network", "one", "busybox", "sleep", "1000"]);
    sandbox.ok(["network", "connect", "two", "b"]);
    sandbox.coracle(["exec", "b", "cat", "/etc/hosts"]).fails(1, &["No such file"]);
}

#[test]
fn an_address_is_answered_by_all_names_of_who_has_it() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["network", "create", "n"]);
    server(&sandbox, "web", &["--network", "n:alias=www,alias=pool"]);
    let ask = |address: &str| {
        let said = sandbox.ok(["exec", "web", "nslookup", address]);
        let names =
            said.lines().filter_map(|line| line.split_once("name = ")).map(|(_, name)| name.to_owned());
        names.collect::<Vec<_>>()
    };
    let id = sandbox.ok(["inspect", "-f", "{{.Id}}", "web"])[..12].to_owned();
    for _ in 0..5 {
        assert_eq!(ask(&address(&sandbox, "web", "n")), ["web", "www", "pool", id.as_str()]);
    }
}

#[test]
fn a_place_on_a_network_has_links_addresses_and_options_of_its_own() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    for network in ["one", "two"] {
        sandbox.ok(["network", "create", network]);
    }
    server(&sandbox, "db", &["--network", "one", "--network", "two"]);
    let id = sandbox.ok(["inspect", "-f", "{{.Id}}", "db"]);
    server(&sandbox, "a", &["--network", "one", "--link-local-ip", "169.254.7.1"]);
    let opts = [
        "com.docker.network.endpoint.ifname=lan7",
        "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1",
    ];
    let words = ["network", "connect", "--link", &format!("{id}:data"), "--link-local-ip", "169.254.7.2"];
    sandbox.ok([&words[..], &["--driver-opt", opts[0], "--driver-opt", opts[1], "two", "a"]].concat());
    // The name holds on that network: it is asked for there.
    assert_eq!(get(&sandbox, "a", "data").ok().text(), "db");
    assert!(
        sandbox.ok(["exec", "a", "nslookup", "-type=a", "data"]).contains(&address(&sandbox, "db", "two"))
    );
    assert!(!get(&sandbox, "db", "data").status.success(), "it is a's word alone");
    let script = "ip -4 -o addr show; cat /proc/sys/net/ipv4/conf/lan7/log_martians /proc/sys/net/ipv4/conf/eth0/log_martians";
    let said = sandbox.ok(["exec", "a", "sh", "-c", script]);
    for (link, word) in [("eth0", "169.254.7.1/16"), ("lan7", "169.254.7.2/16")] {
        assert!(said.lines().any(|line| line.contains(link) && line.contains(word)), "{link} {word}: {said}");
    }
    assert!(said.ends_with("1\n0"), "{said}");
    let place = &sandbox.inspect("a")["NetworkSettings"]["Networks"]["two"];
    assert_eq!(place["IPAMConfig"]["LinkLocalIPs"][0], "169.254.7.2");
    assert_eq!(place["DriverOpts"]["com.docker.network.endpoint.ifname"], "lan7");
    assert_eq!(place["Links"][0], format!("{}:data", &id[..12]));
    // A neighbour of the link is reached by it.
    server(&sandbox, "b", &["--network", "one:link-local-ip=169.254.7.9"]);
    let url = "http://169.254.7.9/index.html";
    sandbox.ok(["exec", "a", "ip", "route", "get", "169.254.7.9"]);
    assert_eq!(sandbox.ok(["exec", "a", "timeout", "5", "wget", "-q", "-O", "-", url]), "b");
    for (words, said) in [
        (&["--link", "nobody:x"][..], "no such container"),
        (&["--link", ":x"], "invalid --link"),
        (&["--link-local-ip", "10.0.0.1"], "invalid link-local IP address: 10.0.0.1"),
        (&["--link-local-ip", "fe80::7"], "has no IPv6"),
        (&["--driver-opt", "x=y"], "unsupported endpoint option x"),
        (
            &["--driver-opt", "com.docker.network.endpoint.sysctls=net.ipv4.conf.all.forwarding=1"],
            "not about the interface",
        ),
        (
            &["--driver-opt", "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.nothing=1"],
            "net.ipv4.conf.eth1.nothing",
        ),
    ] {
        sandbox.coracle([&["network", "connect"], words, &["two", "b"]].concat()).fails(1, &[said]);
        assert_eq!(sandbox.ok(["inspect", "-f", "{{len .NetworkSettings.Networks}}", "b"]), "1", "{words:?}");
    }
    sandbox.ok(["network", "inspect", "-v", "two"]);
}

#[test]
fn who_shares_a_container_s_network_has_no_say_in_it() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["run", "-d", "--name", "a", "--network", "none", "busybox", "sleep", "1000"]);
    for (words, said) in [
        (&["--dns", "192.0.2.1"][..], "conflicting options: dns and the network mode"),
        (
            &["--add-host", "a:192.0.2.1"],
            "conflicting options: custom host-to-IP mapping and the network mode",
        ),
        (&["-p", "80:80"], "conflicting options: port publishing and the container type network mode"),
        (&["-P"], "conflicting options: port publishing and the container type network mode"),
        (&["--expose", "80"], "conflicting options: port exposing and the container type network mode"),
        (&["--mac-address", "02:00:00:00:00:01"], "conflicting options: mac-address and the network mode"),
        (
            &["--network-alias", "x"],
            "network-scoped alias is supported only for containers in user defined networks",
        ),
        (&["--ip", "10.0.0.2"], "user specified IP address is supported on user defined networks only"),
        (&["--link", "a:b"], "container type network can't be used with links"),
    ] {
        let words = [&["run", "--rm", "--network", "container:a"], words, &["busybox", "true"]].concat();
        sandbox.coracle(words).fails(125, &[said]);
    }
    // The name of whose address it has, which is found.
    let id = sandbox.ok(["inspect", "-f", "{{slice .Id 0 12}}", "a"]);
    sandbox.ok([
        "run",
        "-d",
        "--name",
        "b",
        "--network",
        "bridge",
        "--hostname",
        "shop",
        "busybox",
        "sleep",
        "1000",
    ]);
    for (owner, name) in [("a", id.as_str()), ("b", "shop")] {
        let network = format!("container:{owner}");
        let look = "hostname; hostname -i >/dev/null && echo found";
        let words =
            ["run", "--name", "c", "--network", &network, "--hostname", "", "busybox", "sh", "-c", look];
        assert_eq!(sandbox.ok(words), format!("{name}\nfound"));
        assert_eq!(sandbox.ok(["inspect", "-f", "{{.Config.Hostname}}", "c"]), name);
        sandbox.ok(["rm", "c"]);
    }
    // As with podman: one that is given is its own.
    let words = ["run", "--rm", "--network", "container:a", "--hostname", "own", "busybox", "hostname"];
    assert_eq!(sandbox.ok(words), "own");
}
