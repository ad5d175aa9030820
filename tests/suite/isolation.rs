//! What a network keeps in, shown by the counters of the kernel.

use crate::harness::Need::Program;
use crate::harness::{Image, Sandbox, Slirp, sandbox};
use crate::uplink::world;

const NETWORKS: &str = include_str!("isolation/world.sh");
const ATTACK: &str = include_str!("isolation/attack.sh");

#[test]
fn cve_2024_29018_no_packet_leaves_an_internal_network_whatever_its_containers_do() {
    let needs = [Slirp, Program("unshare"), Program("ip"), Program("perl"), Image("guest")];
    let Some(sandbox) = sandbox(&needs) else { return };
    let attack = sandbox.file("attack.sh", ATTACK);
    let script = format!(
        "{NETWORKS}\
         # The counters count: a container that may go out is seen.\n\
         sent >\"$here/first\"\n\
         \"$coracle\" exec out /bin/guest say tcp 203.0.113.1 7000 1000\n\
         \"$coracle\" cp {attack} free:/attack.sh\n\
         \"$coracle\" exec free sh /attack.sh control | sort\n\
         sent >\"$here/before\"\n\
         for line in host bridges; do\n\
             [ \"$(grep $line \"$here/first\")\" != \"$(grep $line \"$here/before\")\" ] || echo \"$line counts nothing\"\n\
         done\n\
         \"$coracle\" cp {attack} in:/attack.sh\n\
         \"$coracle\" exec in sh /attack.sh 10.91.1.1 10.91.1.7 10.91.2.9 10.91.2.1 10.91.2.66 fd91:1::1 fd91:2::9\n\
         sent >\"$here/after\"\n\
         diff \"$here/before\" \"$here/after\" && echo nothing was sent\n\
         \"$coracle\" rm -ft 0 in free out both >/dev/null\n",
        attack = attack.display()
    );
    let output = world(&sandbox, &script).ok();
    let reached = ["53", "7000", "80"].map(|port| format!("REACHED 203.0.113.1 {port}"));
    let mut expected = vec!["ok"];
    expected.extend(reached.iter().map(String::as_str));
    expected.extend(["over", "nothing was sent"]);
    assert_eq!(output.lines(), expected, "{output}");
}

/// What a container has of IPv6, but for its own loopback.
fn has_ipv6(sandbox: &Sandbox, network: &str) -> String {
    let script = "grep -v ' lo$' /proc/net/if_inet6; grep -v ' lo$' /proc/net/ipv6_route; ls /proc/sys/net/ipv6/neigh | grep -c eth0";
    sandbox.coracle(["run", "--rm", "--network", network, "busybox", "sh", "-c", script]).text().to_owned()
}

#[test]
fn cve_2024_32473_a_network_of_ipv4_has_nothing_of_ipv6() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    for words in [&["four"][..], &["--internal", "inner"], &["--ipv6", "six"]] {
        sandbox.ok([&["network", "create"], words].concat());
    }
    let output = has_ipv6(&sandbox, "six");
    // Global and of the link, and the routes of both.
    assert!(output.lines().filter(|line| line.starts_with("fe80")).count() >= 2, "{output}");
    for network in ["four", "inner"] {
        let output = has_ipv6(&sandbox, network);
        assert!(!output.contains("fe80") && !output.contains("eth0"), "{network}: {output}");
    }
}
