//! Against the kernel, in a namespace of the test's own.

use super::*;
use std::net::IpAddr;
use std::os::fd::AsFd;

#[test]
fn links_addresses_routes_and_rules_reach_the_kernel() {
    in_namespaces_of_its_own("network::netlink::tests::in_a_namespace_of_its_own");
}

/// Executes this program again for one test, in a new user and network
/// namespace: this process has threads, and cannot enter one.
pub(crate) fn in_namespaces_of_its_own(test: &str) {
    let program = std::env::current_exe().expect("this program");
    let run = |words: &[&str]| std::process::Command::new("unshare").arg("-Urn").args(words).output();
    if !run(&["true"]).is_ok_and(|output| output.status.success()) {
        println!("skipped: no user namespace for a test");
        return;
    }
    let program = program.to_str().expect("UTF-8");
    let output = run(&[program, "--exact", test, "--ignored", "--nocapture"]).expect("started");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
}

fn interface(text: &str) -> Interface {
    let (address, prefix) = text.split_once('/').expect("a prefix");
    Interface { address: address.parse().expect("an address"), prefix: prefix.parse().expect("a number") }
}

fn proc_net(file: &str) -> String {
    std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).expect("read")
}

#[test]
#[ignore = "changes the network namespace it runs in: the test above starts it"]
fn in_a_namespace_of_its_own() {
    let mut netlink = Netlink::open().expect("open");
    assert_eq!(netlink.index("br0").expect_err("none").raw_os_error(), Some(libc::ENODEV));
    netlink.add_bridge("br0").expect("a bridge");
    assert_eq!(netlink.add_bridge("br0").expect_err("twice").raw_os_error(), Some(libc::EEXIST));
    or_exists(netlink.add_bridge("br0")).expect("it is there");
    let bridge = netlink.index("br0").expect("there");
    let here = std::fs::File::open("/proc/thread-self/ns/net").expect("a namespace");
    let peer = VethPeer { name: "eth0", mac: [2, 0, 0, 0, 0, 9], netns: here.as_fd() };
    netlink.add_veth("veth0", 9000, &peer).expect("a pair");
    let port = netlink.index("veth0").expect("one end");
    let eth0 = netlink.index("eth0").expect("the other");
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    netlink.change_link(port, &LinkChange { master: Some(bridge), ..up }).expect("a port");
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    netlink.change_link(bridge, &up).expect("up");
    netlink.change_link(eth0, &up).expect("up");
    let links = proc_net("dev");
    assert!(["lo:", "br0:", "veth0:", "eth0:"].iter().all(|name| links.contains(name)), "{links}");
    netlink.add_address(bridge, interface("10.9.8.1/24")).expect("v4");
    netlink.add_address(eth0, interface("fd00:9::2/64")).expect("v6");
    let all = netlink.addresses().expect("addresses");
    assert!(all.contains(&(bridge, interface("10.9.8.1/24"))), "{all:?}");
    // Not tentative: the flags are IFA_F_NODAD and IFA_F_PERMANENT.
    let line = proc_net("if_inet6").lines().find(|l| l.starts_with("fd000009")).map(str::to_owned);
    assert_eq!(line.as_deref().and_then(|l| l.split_whitespace().nth(4)), Some("82"), "{line:?}");
    netlink
        .set_route(&Route { gateway: Some("10.9.8.9".parse().expect("v4")), ..Route::default() })
        .expect("default");
    netlink
        .set_route(&Route { gateway: Some("10.9.8.8".parse().expect("v4")), ..Route::default() })
        .expect("another");
    let routes = proc_net("route");
    let default: Vec<&str> =
        routes.lines().filter(|line| line.split_whitespace().nth(1) == Some("00000000")).collect();
    assert_eq!(default.len(), 1, "{routes}");
    assert!(default[0].contains("0808090A"), "{routes}");
    assert!(netlink.destinations().expect("routes").contains(&interface("10.9.8.0/24")));
    let lo = netlink.index("lo").expect("lo");
    netlink
        .set_route(&Route {
            kind: RouteKind::Local,
            destination: Some(interface("192.0.2.0/24")),
            link: Some(lo),
            table: 100,
            ..Route::default()
        })
        .expect("a local route");
    for ipv6 in [false, true] {
        let rule = Rule {
            incoming: Some("br0"),
            mark: Some(7),
            protocol: Some(6),
            source_port: Some(80),
            suppress_prefix_length: Some(0),
            ..Rule::new(ipv6, 50, RuleAction::Table(1000))
        };
        netlink.add_rule(&rule).expect("a rule");
        assert_eq!(netlink.add_rule(&rule).expect_err("twice").raw_os_error(), Some(libc::EEXIST));
        netlink.delete_rule(&rule).expect("away");
        netlink.add_rule(&Rule::new(ipv6, 51, RuleAction::Unreachable)).expect("a rule");
    }
    let neighbour: IpAddr = "fd00:9::7".parse().expect("v6");
    netlink.add_proxy(bridge, neighbour).expect("answers");
    netlink.delete_proxy(bridge, neighbour).expect("no more");
    let neighbour: IpAddr = "10.9.8.7".parse().expect("v4");
    netlink.set_neighbour(bridge, neighbour, [2, 0, 0, 0, 0, 8]).expect("known");
    netlink.set_neighbour(bridge, neighbour, [2, 0, 0, 0, 0, 9]).expect("as another");
    netlink.fix_to_port(port, [2, 0, 0, 0, 0, 9]).expect("fixed");
    netlink.fix_to_port(port, [2, 0, 0, 0, 0, 9]).expect("once more");
    // ATF_COM and ATF_PERM: arp(7).
    let known = proc_net("arp");
    assert!(known.contains("0x6") && known.contains("02:00:00:00:00:09"), "{known}");
    netlink.delete_neighbour(bridge, neighbour).expect("forgotten");
    netlink.delete_link(port).expect("away");
    assert!(netlink.index("eth0").is_err(), "both ends go");
    or_gone(netlink.delete_link(port)).expect("it is gone");
}
