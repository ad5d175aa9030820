//! Nothing leaves an internal network, be a container on it alone or on another one
//! too: by what comes in elsewhere, and by what the links have sent. What somebody
//! tries who is bent on it is in `isolation`.

use crate::harness::Need::{self, Program};
use crate::harness::{Image, Slirp, sandbox};
use crate::networks::{address, server};
use crate::uplink::world;
use std::net::TcpListener;

const COUNTERS: &str = include_str!("network_internal/counters.sh");
const NEEDS: &[Need] = &[Slirp, Program("unshare"), Program("ip"), Program("nsenter")];

/// What a script of the world says, behind that of the counters.
#[track_caller]
fn counted(script: &str) -> Option<String> {
    let sandbox = sandbox(NEEDS)?;
    let output = world(&sandbox, &[COUNTERS, script].concat()).ok();
    Some(output.text().to_owned())
}

/// That the counters count: whoever may leave is seen on the way.
#[test]
fn who_leaves_a_network_is_counted() {
    let script = "before=$(counters tap0 $br_outside); attempts out; after=$(counters tap0 $br_outside)\n\
        echo \"$before\" >$here/before; echo \"$after\" >$here/after\n\
        diff $here/before $here/after | sed -n 's/^> \\(.*\\) [0-9]*$/\\1/p'\n\
        \"$coracle\" exec out /bin/guest resolve 10.207.0.1\n";
    let Some(output) = counted(script) else { return };
    for word in ["tap0", "br-", "forwarded", "forwarded6", "host tcp", "host udp", "host udp6"] {
        assert!(output.lines().any(|line| line.starts_with(word)), "{word}: {output}");
    }
    assert!(output.ends_with("192.0.2.53"), "{output}");
}

/// Whatever routes a container has that may change its own.
#[test]
fn no_packet_leaves_an_internal_network() {
    let script = "inside in ip route add default via 10.206.0.1\n\
        inside in ip -6 route add default via fd12:6::1\n\
        before=$(counters tap0 $br_outside $br_second)\n\
        attempts in $elsewhere 10.206.0.1 fd12:6::1 10.208.0.1 $(address other second)\n\
        [ \"$before\" = \"$(counters tap0 $br_outside $br_second)\" ] || \
            { echo \"$before\"; counters tap0 $br_outside $br_second; }\n\
        \"$coracle\" exec in /bin/guest say tcp 10.206.0.1 7000 10 || :\n";
    let Some(output) = counted(script) else { return };
    assert_eq!(output, "ECONNREFUSED", "the gateway itself is reached");
}

/// Neither by both networks of a container, nor by itself as the router of others.
#[test]
fn no_packet_leaves_by_a_container_on_two_networks() {
    let script = "start both --network inner --network second\n\
        start way --network inner --network outside\n\
        inside both ip route add default via 10.208.0.1\n\
        inside both ip -6 route add default via fd12:6::1\n\
        before=$(counters tap0 $br_outside)\n\
        attempts both $elsewhere 10.206.0.1 10.208.0.1\n\
        [ \"$before\" = \"$(counters tap0 $br_outside)\" ] || { echo both; echo \"$before\"; counters tap0 $br_outside; }\n\
        # By the internal one of two it goes nowhere, though the other leads out;\n\
        inside way ip route add 203.0.113.1 via 10.206.0.1\n\
        inside way ip -6 route add 2001:db8:2::1 via fd12:6::1\n\
        before=$(counters tap0 $br_outside)\n\
        attempts way\n\
        [ \"$before\" = \"$(counters tap0 $br_outside)\" ] || { echo way; echo \"$before\"; counters tap0 $br_outside; }\n\
        # nor does one pass on what comes from a neighbour, even where it would.\n\
        inside way ip route del 203.0.113.1\n\
        inside way sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'\n\
        inside in ip route add default via $(address way inner)\n\
        before=$(counters tap0)\n\
        for to in 203.0.113.1 10.207.0.1; do\n\
            \"$coracle\" exec in /bin/guest say udp $to 7000 10 >&2 || :\n\
        done\n\
        [ \"$before\" = \"$(counters tap0)\" ] || { echo in; echo \"$before\"; counters tap0; }\n\
        \"$coracle\" exec way /bin/guest say tcp 203.0.113.1 7000 10\n";
    let Some(output) = counted(script) else { return };
    assert_eq!(output, "ok");
}

#[test]
fn nothing_leaves_an_internal_network() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Slirp]) else { return };
    let Some(own) = crate::network::own_address() else { return };
    let listener = TcpListener::bind((own.as_str(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    sandbox.ok(["network", "create", "--internal", "inside"]);
    sandbox.ok(["network", "create", "outside"]);
    server(&sandbox, "in", &["--network", "inside", "--cap-add", "NET_ADMIN"]);
    server(&sandbox, "out", &["--network", "outside"]);
    let gateway = sandbox.ok(["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "inside"]);
    // Root in the container may set any route: it leads nowhere.
    sandbox.ok(["exec", "in", "ip", "route", "add", "default", "via", gateway.trim()]);
    let other = address(&sandbox, "out", "outside");
    let fetch = format!(
        "for url in http://{own}:{port}/ http://{other}/index.html http://10.0.2.2/; do \
         timeout 3 wget -q -O - $url && echo REACHED; done; nslookup example.com 2>&1; true"
    );
    let output = sandbox.ok(["exec", "in", "sh", "-c", &fetch]);
    assert!(!output.contains("REACHED"), "{output}");
    assert!(output.contains("NXDOMAIN"), "{output}");
    assert!(listener.accept().is_err(), "a connection came out of an internal network");
}
