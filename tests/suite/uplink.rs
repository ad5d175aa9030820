//! The ways out of a container's network, in a world of their own: namespaces in
//! which "outside" is an address of the test's (`uplink/world.sh`).

use crate::harness::Need::{self, Program};
use crate::harness::{Output, Sandbox, Slirp, binary, needs, sandbox, until};

const WORLD: &str = include_str!("uplink/world.sh");

/// slirp4netns, pasta, our own; what a test of each needs.
const PASTA: &[Need] = &[Slirp, Program("pasta"), Program("unshare"), Program("ip")];
const SLIRP: &[Need] = &[Slirp, Program("unshare"), Program("ip")];
const BUILTIN: &[Need] = &[Need::Tun, Program("unshare"), Program("ip")];

/// Runs `script` in the world: `run NETWORK WORD…` there runs the guest program
/// in a container, and `$coracle` is the tool.
pub(crate) fn world(sandbox: &Sandbox, script: &str) -> Output {
    let rootfs = needs::image_dir("guest").expect("contrib/test sets it").join("rootfs");
    let prelude = format!(
        "coracle={} guest={}/bin/guest here={}\n\
         run() {{ network=$1; shift; \"$coracle\" run --rm --network \"$network\" --rootfs {}:O /bin/guest \"$@\"; }}\n",
        binary().display(),
        rootfs.display(),
        sandbox.folder("world").display(),
        rootfs.display(),
    );
    let script = [&prelude, WORLD, script].concat();
    let output =
        sandbox.command("unshare").args(["-Urnm", "sh", "-c", &script]).output().expect("unshare runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Output {
        command: "the world".into(),
        status: output.status,
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

/// TCP and UDP in both families, names, and the host's loopback, which stays hidden.
fn leads_out(needs: &[Need], network: &str, resolver: &str) {
    let Some(sandbox) = sandbox(needs) else { return };
    // slirp4netns announces its IPv6 network when its kernel asks: after a moment.
    let script = format!(
        "run {network} say tcp 203.0.113.1 7000 3000000\n\
         run {network} say udp 203.0.113.1 7000 100000\n\
         \"$coracle\" run -d --name c --network {network} --rootfs \"${{guest%/bin/guest}}:O\" /bin/guest sleep >/dev/null\n\
         tries=0\n\
         until \"$coracle\" exec c /bin/guest say tcp 2001:db8:2::1 7000 300000 >\"$here/said\"; do\n\
             tries=$((tries + 1)); [ $tries -lt 200 ] || break; sleep 0.1\n\
         done\n\
         cat \"$here/said\"\n\
         \"$coracle\" exec c /bin/guest say udp 2001:db8:2::1 7000 100000\n\
         \"$coracle\" exec c /bin/guest resolve {resolver}\n\
         \"$coracle\" rm -ft 0 c >/dev/null\n"
    );
    let output = world(&sandbox, &script).ok();
    assert_eq!(output.lines(), ["ok", "ok", "ok", "ok", "192.0.2.53"], "{output}");
}

/// Nobody else can have the device's address: looking for others kept IPv6 from working for
/// two seconds, and showed published ports a client of IPv6 as the gateway.
#[test]
fn the_device_of_slirp4netns_has_its_ipv6_address_at_once() {
    let Some(sandbox) = sandbox(SLIRP) else { return };
    let script = "for i in 1 2 3 4 5; do\n\
             \"$coracle\" run -d --name a --network slirp4netns --rootfs \"${guest%/bin/guest}:O\" /bin/guest sleep >/dev/null\n\
             cat \"/proc/$(\"$coracle\" inspect --format '{{.State.Pid}}' a)/net/if_inet6\"\n\
             \"$coracle\" rm -ft 0 a >/dev/null\n\
         done\n";
    let output = world(&sandbox, script).ok();
    // The fifth word: IFA_F_TENTATIVE is 0x40, if_addr.h.
    let taps: Vec<_> = output.lines().into_iter().filter(|line| line.ends_with("tap0")).collect();
    assert!(taps.len() >= 5, "{output}");
    for line in taps {
        let flags = line.split_whitespace().nth(4).and_then(|word| u32::from_str_radix(word, 16).ok());
        assert_eq!(flags.expect("flags") & 0x40, 0, "{output}");
    }
}

#[test]
fn slirp4netns_leads_out() {
    leads_out(SLIRP, "slirp4netns", "10.0.2.3");
}

#[test]
fn pasta_leads_out() {
    leads_out(PASTA, "pasta", "169.254.1.1");
}

#[test]
fn pasta_answers_names_at_the_address_that_was_asked_for() {
    let Some(sandbox) = sandbox(PASTA) else { return };
    let script = "busybox=${guest%guest/rootfs/bin/guest}busybox/rootfs
        run pasta:--dns-forward,198.51.100.7 resolve 198.51.100.7
        \"$coracle\" run --rm --network pasta:--dns-forward,198.51.100.7 --rootfs \"$busybox:O\" grep -m1 nameserver /etc/resolv.conf";
    let output = world(&sandbox, script).ok();
    assert_eq!(output.lines(), ["192.0.2.53", "nameserver 198.51.100.7"], "{output}");
}

/// Segments as long as the interface's packets are too many for pasta's buffers:
/// it sends a hundredth of what it could.
#[test]
fn pasta_gets_segments_that_it_can_buffer_unless_told_otherwise() {
    let Some(sandbox) = sandbox(PASTA) else { return };
    let script = "busybox=${guest%guest/rootfs/bin/guest}busybox/rootfs
        show() {
            \"$coracle\" run --rm --network \"$@\" --rootfs \"$busybox:O\" sh -c \\
                'cd /proc/sys/net/ipv4; cat tcp_mtu_probing tcp_base_mss tcp_probe_threshold /sys/class/net/tap0/mtu' |
                tr '\\n' ' '; echo
        }
        show pasta; show pasta --sysctl net.ipv4.tcp_base_mss=9000; show pasta:--mtu,9000; show slirp4netns";
    let output = world(&sandbox, script).ok();
    let lines = output.lines();
    assert_eq!(&lines[..2], ["2 16344 65535 65520 ", "2 9000 65535 65520 "], "{output}");
    assert!(lines[2].starts_with("0 ") && lines[2].ends_with(" 9000 "), "{output}");
    assert!(lines[3].starts_with("0 ") && lines[3].ends_with(" 65520 "), "{output}");
}

#[test]
fn the_built_in_stack_leads_out() {
    leads_out(BUILTIN, "builtin", "10.0.2.3");
}

/// The gateway's address is the host's loopback where that is asked for, and
/// only there.
fn shows_loopback_when_asked(needs: &[Need], hidden: &str, shown: &str, gateway: &str) {
    let Some(sandbox) = sandbox(needs) else { return };
    let script = format!(
        "run {hidden} say tcp {gateway} 7001 10 || :\n\
         run {hidden} say tcp 127.0.0.1 7001 10 || :\n\
         run {shown} say tcp {gateway} 7001 1000\n\
         run {shown} say udp {gateway} 7001 1000\n"
    );
    let output = world(&sandbox, &script).ok();
    let lines = output.lines();
    assert_eq!(lines.len(), 4, "{output}");
    assert!(lines[0] != "ok" && lines[1] != "ok", "{output}");
    assert_eq!(&lines[2..], ["ok", "ok"], "{output}");
}

#[test]
fn slirp4netns_hides_the_host_s_loopback_unless_asked() {
    shows_loopback_when_asked(SLIRP, "slirp4netns", "slirp4netns:allow_host_loopback=true", "10.0.2.2");
}

#[test]
fn pasta_hides_the_host_s_loopback_unless_asked() {
    shows_loopback_when_asked(PASTA, "pasta", "pasta:--map-gw", "198.51.100.254");
}

#[test]
fn what_pasta_cannot_do_is_told() {
    let Some(sandbox) = sandbox(PASTA) else { return };
    let script = "run pasta:--nonsense say tcp 203.0.113.1 7000 10 2>&1 | grep -c \"unrecognized option '--nonsense'\"\n\
         pasta --help 2>&1 | grep -q map-guest-addr && exit\n\
         \"$coracle\" run --rm --network pasta --add-host x:host-gateway --rootfs /:O true 2>&1 | grep -o 'hint:.*pasta:--map-gw'\n\
         \"$coracle\" run --rm --network pasta:--map-gw --add-host x:host-gateway --rootfs /:O true && echo ok\n";
    let output = world(&sandbox, script).ok();
    let lines = output.lines();
    assert_eq!(lines[0], "1", "{output}");
    if lines.len() > 1 {
        assert!(lines[1].starts_with("hint:") && lines[2] == "ok", "{output}");
    }
}

#[test]
fn the_built_in_stack_hides_the_host_s_loopback_unless_asked() {
    shows_loopback_when_asked(BUILTIN, "builtin", "builtin:allow_host_loopback=true", "10.0.2.2");
}

/// Kills the helper three times: it comes back, and so does the way out.
fn comes_back(needs: &[Need], network: &str, process: &str) {
    let Some(sandbox) = sandbox(needs) else { return };
    let script = format!(
        "\"$coracle\" run -d --name c --network {network} --rootfs \"${{guest%/bin/guest}}:O\" /bin/guest sleep >/dev/null\n\
         tries=0\n\
         back() {{ \"$coracle\" events --since 1 --until 0s --filter event=uplink | grep -c state=restarted || :; }}\n\
         for round in 1 2 3; do\n\
             \"$coracle\" exec c /bin/guest say tcp 203.0.113.1 7000 1000\n\
             monitor=$(\"$coracle\" inspect --format '{{{{.State.ConmonPid}}}}' c)\n\
             helper=$(descendants $monitor | while read -r pid; do \
                 tr '\\0' ' ' </proc/$pid/cmdline | grep -q '^{process}' && echo $pid; done | tail -n 1)\n\
             kill -9 $helper\n\
             until [ \"$(back)\" = $round ]; do\n\
                 tries=$((tries + 1)); [ $tries -lt 600 ] || {{ echo not back >&2; exit 8; }}; sleep 0.1\n\
             done\n\
         done\n\
         \"$coracle\" exec c /bin/guest say tcp 203.0.113.1 7000 1000\n\
         \"$coracle\" rm -ft 0 c >/dev/null\n"
    );
    let descendants = "descendants() { for pid in $(cat /proc/$1/task/*/children); do echo $pid; descendants $pid; done; }\n";
    let output = world(&sandbox, &[descendants, &script].concat()).ok();
    assert_eq!(output.lines(), ["ok"; 4], "{output}");
}

#[test]
fn a_killed_slirp4netns_comes_back() {
    comes_back(SLIRP, "slirp4netns", "[^ ]*slirp4netns ");
}

#[test]
fn a_killed_pasta_comes_back() {
    comes_back(PASTA, "pasta", "[^ ]*pasta ");
}

#[test]
fn a_killed_built_in_stack_comes_back() {
    comes_back(BUILTIN, "builtin", "[^ ]*exe --uplink ");
}

#[test]
fn the_built_in_stack_gives_back_the_memory_of_silent_connections() {
    let Some(sandbox) = sandbox(BUILTIN) else { return };
    // As many kilobytes as its buffers had room for would be 100,000 and more.
    let script = "\"$coracle\" run -d --name c --network builtin --rootfs \"${guest%/bin/guest}:O\" \
             /bin/guest hold 300 203.0.113.1 7000 400000 >/dev/null\n\
         monitor=$(\"$coracle\" inspect --format '{{.State.ConmonPid}}' c)\n\
         stack=$(for pid in $(cat /proc/$monitor/task/*/children); do \
             grep -qz '^--uplink' /proc/$pid/cmdline && echo $pid; done)\n\
         tries=0\n\
         until \"$coracle\" logs c | grep -q ready; do \
             tries=$((tries + 1)); [ $tries -lt 600 ] || { \"$coracle\" logs c >&2; exit 8; }; sleep 0.1; done\n\
         resident() { sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\) kB/\\1/p' /proc/$stack/status; }\n\
         tries=0\n\
         while [ $(resident) -gt 30000 ] && [ $tries -lt 300 ]; do tries=$((tries + 1)); sleep 0.1; done\n\
         resident\n\
         ls -l /proc/$stack/fd | grep -c socket:\n\
         \"$coracle\" rm -ft 0 c >/dev/null\n";
    let output = world(&sandbox, script).ok();
    let numbers: Vec<u32> = output.lines().iter().map(|line| line.parse().unwrap()).collect();
    assert!(numbers[0] < 30_000 && numbers[1] >= 300, "{output}");
}

#[test]
fn a_killed_monitor_takes_its_pasta_along() {
    let Some(sandbox) = sandbox(PASTA) else { return };
    let script = "\"$coracle\" run -d --name c --network pasta --rootfs \"${guest%/bin/guest}:O\" /bin/guest sleep >/dev/null\n\
         monitor=$(\"$coracle\" inspect --format '{{.State.ConmonPid}}' c)\n\
         pids=$(descendants $monitor | sort -n)\n\
         kill -9 $monitor\n\
         tries=0\n\
         for pid in $pids; do\n\
             while [ -e /proc/$pid ] && ! grep -q '^State:.Z' /proc/$pid/status 2>/dev/null; do\n\
                 tries=$((tries + 1)); [ $tries -lt 600 ] || { cat /proc/$pid/cmdline; exit 8; }; sleep 0.1\n\
             done\n\
         done\n\
         \"$coracle\" rm -f c >/dev/null\n\
         echo gone\n";
    let descendants = "descendants() { for pid in $(cat /proc/$1/task/*/children); do echo $pid; descendants $pid; done; }\n";
    let output = world(&sandbox, &[descendants, script].concat()).ok();
    assert_eq!(output.text(), "gone", "{output}");
}

#[test]
fn resolv_conf_follows_the_host_s() {
    let Some(sandbox) = sandbox(BUILTIN) else { return };
    let script = "\"$coracle\" run -d --name a --network builtin --rootfs \"${guest%/bin/guest}:O\" /bin/guest sleep >/dev/null\n\
         \"$coracle\" run -d --name b --network builtin --dns 192.0.2.9 --rootfs \"${guest%/bin/guest}:O\" /bin/guest sleep >/dev/null\n\
         show() { cat \"/proc/$(\"$coracle\" inspect --format '{{.State.Pid}}' $1)/root/etc/resolv.conf\"; }\n\
         tries=0\n\
         wait_for() { until show $1 | grep -q \"$2\"; do \
             tries=$((tries + 1)); [ $tries -lt 600 ] || { show $1 >&2; exit 8; }; sleep 0.1; done; }\n\
         wait_for a one.test\n\
         printf 'nameserver 203.0.113.1\\nsearch two.test\\n' >/etc/resolv.conf\n\
         wait_for a two.test; wait_for b two.test\n\
         printf 'nameserver 203.0.113.1\\nnameserver 192.0.2.3\\nsearch three.test\\n' >/etc/new\n\
         mv /etc/new /etc/resolv.conf\n\
         wait_for a three.test; wait_for b three.test\n\
         mkdir /etc/vpn; printf 'nameserver 203.0.113.1\\nsearch four.test\\n' >/etc/vpn/resolv.conf\n\
         ln -sf vpn/resolv.conf /etc/resolv.conf\n\
         wait_for a four.test\n\
         printf 'nameserver 203.0.113.1\\nsearch five.test\\n' >/etc/vpn/resolv.conf\n\
         wait_for a five.test\n\
         show a; show b\n\
         \"$coracle\" exec a /bin/guest resolve 10.0.2.3\n\
         mkdir /etc/outer; cp /etc/vpn/resolv.conf /etc/outer/file; mount --bind /etc/outer/file /etc/vpn/resolv.conf\n\
         \"$coracle\" run -d --name c --network builtin --rootfs \"${guest%/bin/guest}:O\" /bin/guest sleep >/dev/null\n\
         wait_for c five.test\n\
         printf 'nameserver 203.0.113.1\\nsearch six.test\\n' >/etc/outer/file\n\
         wait_for c six.test\n\
         printf 'nameserver 203.0.113.1\\nsearch seven.test\\n' >/etc/outer/file\n\
         wait_for c seven.test\n\
         \"$coracle\" rm -ft 0 a b c >/dev/null\n";
    let output = world(&sandbox, script).ok();
    let expected = [
        "search five.test",
        "nameserver 10.0.2.3",
        "nameserver 203.0.113.1",
        "search five.test",
        "nameserver 192.0.2.9",
        "192.0.2.53",
    ];
    assert_eq!(output.lines(), expected, "{output}");
}

#[test]
fn a_dead_resolver_is_passed_over() {
    let Some(sandbox) = sandbox(BUILTIN) else { return };
    // The first is nobody, the second answers nothing at all.
    let script = "printf 'nameserver 203.0.113.9\\nnameserver 127.0.0.1\\nnameserver 203.0.113.1\\n' >/etc/resolv.conf\n\
         run builtin resolve 10.0.2.3\n";
    assert_eq!(world(&sandbox, script).ok().text(), "192.0.2.53");
}

#[test]
fn without_any_helper_the_stack_of_our_own_serves() {
    let Some(sandbox) = sandbox(BUILTIN) else { return };
    let script = "for program in slirp4netns pasta; do for dir in /usr/local/bin /usr/bin /bin /usr/sbin /sbin; do\n\
             [ ! -e $dir/$program ] || mount --bind /dev/null $dir/$program\n\
         done; done\n\
         run default say tcp 203.0.113.1 7000 1000\n\
         run slirp4netns say tcp 203.0.113.1 7000 1000 2>&1 | grep 'not installed'\n";
    let output = world(&sandbox, script).ok();
    assert_eq!(output.lines()[0], "ok", "{output}");
    assert!(output.lines()[1].contains("slirp4netns is not installed"), "{output}");
}

#[test]
fn the_settings_choose_the_way_out() {
    let Some(sandbox) = sandbox(BUILTIN) else { return };
    let config = sandbox.path("config/coracle");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("config.toml"), "[network]\nuplink = \"builtin\"\n").unwrap();
    let script = "\"$coracle\" run -d --name c --rootfs \"${guest%/bin/guest}:O\" /bin/guest sleep >/dev/null\n\
         monitor=$(\"$coracle\" inspect --format '{{.State.ConmonPid}}' c)\n\
         for pid in $(cat /proc/$monitor/task/*/children); do tr '\\0' ' ' </proc/$pid/cmdline; done | grep -o -- '--uplink'\n\
         \"$coracle\" rm -ft 0 c >/dev/null\n";
    assert_eq!(world(&sandbox, script).ok().text(), "--uplink");
    std::fs::write(config.join("config.toml"), "[network]\nuplink = \"vpnkit\"\n").unwrap();
    let output = sandbox.coracle(["run", "--rm", "--rootfs", "/", "true"]);
    assert!(output.stderr.contains("config.toml, line 2") && output.code() == 125, "{output}");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_made() {
    let Some(sandbox) = sandbox(&[Need::UserNamespaces]) else { return };
    let cases: &[(&[&str], &str)] = &[
        (&["--network", "slirp4netns:mtu=9"], "--network slirp4netns:mtu=9: an MTU is 68 to 65521 bytes"),
        (&["--network", "slirp4netns:-T"], "--network slirp4netns:-T: not KEY=VALUE"),
        (&["--network", "slirp4netns:port_handler=rootlesskit"], "ports are published by coracle itself"),
        (&["--network", "builtin:speed=1"], "--network builtin:speed=1: unknown option"),
        (&["--network", "pasta:mtu=9"], "--network pasta:mtu=9: not an option of pasta"),
        (&["--network", "pasta:--netns,/x"], "--network pasta:--netns"),
        (&["--network", "container:x", "--dns", "9.9.9.9"], "conflicting options: dns and the network mode"),
        (&["--network", "container:x", "--add-host", "a:1.2.3.4"], "custom host-to-IP mapping"),
        (&["--network", "none", "--add-host", "a:host-gateway"], "--add-host a:host-gateway"),
        (&["--no-hosts", "--add-host", "a:1.2.3.4"], "--no-hosts"),
        (&["--dns", "none", "--dns-search", "x"], "--dns none"),
    ];
    for (words, said) in cases {
        let output = sandbox.coracle([&["create"], *words, &["--rootfs", "/", "true"]].concat());
        assert!(output.code() == 125 && output.stderr.contains(said), "{words:?}: {output}");
    }
    assert_eq!(sandbox.ok(["ps", "-aq"]), "");
}

#[test]
fn the_host_has_names_inside() {
    let Some(sandbox) = sandbox(BUILTIN) else { return };
    let script = "for network in builtin builtin:allow_host_loopback=true; do\n\
         \"$coracle\" run -d --name c --network $network --add-host gate:host-gateway \
             --rootfs \"${guest%/bin/guest}:O\" /bin/guest sleep >/dev/null\n\
         grep -E 'gate|internal' \"/proc/$(\"$coracle\" inspect --format '{{.State.Pid}}' c)/root/etc/hosts\"\n\
         \"$coracle\" rm -ft 0 c >/dev/null\n\
         done\n";
    let output = world(&sandbox, script).ok();
    let expected = [
        "198.51.100.1\tgate",
        "198.51.100.1\thost.containers.internal host.docker.internal",
        "10.0.2.2\tgate",
        "10.0.2.2\thost.containers.internal host.docker.internal",
    ];
    assert_eq!(output.lines(), expected, "{output}");
    until("nothing is left", || sandbox.monitors().is_empty().then_some(()));
}
