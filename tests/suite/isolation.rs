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

#[test]
fn what_is_for_another_network_does_not_leave_by_the_way_out() {
    let needs = [Slirp, Program("unshare"), Program("ip"), Program("bash"), Image("guest")];
    let Some(sandbox) = sandbox(&needs) else { return };
    let script = format!(
        "{NETWORKS}\
         \"$coracle\" network create --subnet 10.91.3.0/24 --subnet fd91:3::/64 elsewhere >/dev/null\n\
         start near --network elsewhere --rootfs \"$root\" sleep 1000\n\
         \"$coracle\" exec near bash -c ': >/dev/tcp/203.0.113.1/7000' && echo out\n\
         sent >\"$here/before\"\n\
         for place in 10.91.2.9 10.91.2.1 10.91.2.66 10.91.1.5 fd91:2::9 fd91:2::66; do\n\
             \"$coracle\" exec near timeout 9 bash -c \"echo >/dev/udp/$place/7000; : >/dev/tcp/$place/7000\" 2>&1 |\n\
                 grep -q -e 'No route to host' -e 'Network is unreachable' || echo \"$place is not refused\"\n\
         done\n\
         sent >\"$here/after\"\n\
         diff \"$here/before\" \"$here/after\" && echo nothing was sent\n\
         # A network that has ended is in nobody's way.\n\
         \"$coracle\" rm -ft 0 out both free >/dev/null\n\
         ways() {{ nsenter -n -t \"${{bridges##*/}}\" ip route show table 998; }}\n\
         tries=0\n\
         while ways | grep -q 10.91.2.0; do tries=$((tries + 1)); [ $tries -lt 600 ] || break; sleep 0.1; done\n\
         ways\n\
         \"$coracle\" rm -ft 0 in near >/dev/null\n"
    );
    let output = world(&sandbox, &script).ok();
    let expected = ["out", "nothing was sent", "unreachable 10.91.1.0/24 ", "unreachable 10.91.3.0/24 "];
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
