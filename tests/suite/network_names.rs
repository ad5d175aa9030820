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
