//! Published ports, with a real server behind them.
//!
//! The server is Perl's, which every Debian has, in a view of this machine's
//! own root: it says to each client as whom it sees it, and then echoes.

use crate::harness::sandbox::binary;
use crate::harness::{Need, Sandbox, Slirp, SubIds, sandbox, until};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// TCP and UDP of both families on port 80: `ADDRESS PORT`, then an echo.
pub(crate) const SERVER: &str = r#"
use Socket qw(:all); use IO::Select; $SIG{PIPE} = 'IGNORE';
sub name { my ($port, $ip) = unpack_sockaddr_in6($_[0]); $ip = inet_ntop(AF_INET6, $ip); $ip =~ s/^::ffff://; "$ip $port\n" }
for (['T', SOCK_STREAM], ['U', SOCK_DGRAM]) {
    socket($_->[0], AF_INET6, $_->[1], 0) or die; setsockopt($_->[0], SOL_SOCKET, SO_REUSEADDR, 1);
    setsockopt($_->[0], IPPROTO_IPV6, IPV6_V6ONLY, 0); bind($_->[0], pack_sockaddr_in6(80, IN6ADDR_ANY)) or die;
}
listen(T, 4096) or die; my $all = IO::Select->new(\*T, \*U); $| = 1; print "ready\n";
while (my @ready = $all->can_read) { for my $s (@ready) {
    if ($s == \*T) { my $peer = accept(my $c, T) or next; syswrite($c, name($peer)); $all->add($c); next }
    if ($s == \*U) { my $peer = recv(U, my $data, 65536, 0); send(U, name($peer) . $data, 0, $peer) if $peer; next }
    my $count = sysread($s, my $data, 65536);
    unless ($count) { $all->remove($s); close($s); next }
    for (my $at = 0; $at < $count;) { my $n = syswrite($s, $data, $count - $at, $at); last unless $n; $at += $n }
} }
"#;

fn server_sandbox() -> Option<Sandbox> {
    sandbox(&[Slirp, Need::Program("perl")])
}

/// `run -d --name NAME OPTIONS`, until the server listens.
#[track_caller]
fn serve(sandbox: &Sandbox, name: &str, options: &[&str]) {
    let words = ["run", "-d", "--name", name];
    let server = ["--rootfs", "/:O", "perl", "-e", SERVER];
    sandbox.ok([&words[..], options, &server[..]].concat());
    sandbox.wait_for_log(name, "ready");
}

/// Where the port of a container is published.
#[track_caller]
fn published(sandbox: &Sandbox, name: &str, port: &str) -> Vec<SocketAddr> {
    sandbox.ok(["port", name, port]).lines().map(|line| line.parse().unwrap()).collect()
}

#[track_caller]
fn host_port(sandbox: &Sandbox, name: &str, port: &str) -> u16 {
    published(sandbox, name, port)[0].port()
}

fn connect(address: impl Into<SocketAddr>) -> std::io::Result<TcpStream> {
    let address: SocketAddr = address.into();
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

/// As whom the server sees a client, and the client's end.
#[track_caller]
pub(crate) fn greet(address: SocketAddr) -> (String, TcpStream) {
    let mut stream = connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    let mut line = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).unwrap_or_else(|error| panic!("{address}: {error}")) == 1 && byte[0] != b'\n'
    {
        line.push(byte[0]);
    }
    (String::from_utf8(line).unwrap(), stream)
}

/// The address that this machine would send from; no packet is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_unspecified())
}

/// The server of the ports of the sandbox's one container.
fn helper(sandbox: &Sandbox) -> Option<i32> {
    sandbox.processes_with("--ports").first().copied()
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn cve_2021_20199_the_server_sees_who_the_client_is() {
    let Some(sandbox) = server_sandbox() else { return };
    serve(&sandbox, "web", &["-p", "80", "-p", "80/udp"]);
    let (tcp, udp) = (host_port(&sandbox, "web", "80"), host_port(&sandbox, "web", "80/udp"));
    // Loopback's clients are no local ones inside: they come from the gateway.
    let (seen, _) = greet(([127, 0, 0, 1], tcp).into());
    assert!(seen.starts_with("10.0.2.2 "), "{seen}");
    if UdpSocket::bind("[::1]:0").is_ok() {
        let (seen, _) = greet((std::net::Ipv6Addr::LOCALHOST, tcp).into());
        assert!(!seen.starts_with("::1 ") && !seen.starts_with("127."), "{seen}");
    }
    let ask = |from: IpAddr| {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        socket.connect((from, udp)).unwrap();
        let mut answers = Vec::new();
        for text in ["one", "two"] {
            socket.send(text.as_bytes()).unwrap();
            let mut buffer = [0; 256];
            let length = socket.recv(&mut buffer).unwrap();
            answers.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        (socket.local_addr().unwrap(), answers)
    };
    let (_, answers) = ask([127, 0, 0, 1].into());
    assert!(answers[0].starts_with("10.0.2.2 ") && answers[1].ends_with("\ntwo"), "{answers:?}");
    let Some(own) = own_address() else { return };
    let (seen, stream) = greet((own, tcp).into());
    let client = stream.local_addr().unwrap();
    assert_eq!(seen, format!("{} {}", client.ip(), client.port()));
    let (client, answers) = ask(own);
    assert_eq!(answers[0], format!("{} {}\none", client.ip(), client.port()));
}

/// Greets over IPv4 alone: TCP and UDP on port 80.
const NARROW: &str = r#"
use IO::Socket::INET; use IO::Select; $| = 1;
my $t = IO::Socket::INET->new(Listen => 9, LocalAddr => '0.0.0.0', LocalPort => 80) or die;
my $u = IO::Socket::INET->new(Proto => 'udp', LocalAddr => '0.0.0.0', LocalPort => 80) or die;
my $all = IO::Select->new($t, $u); print "ready\n";
while (my @ready = $all->can_read) { for my $s (@ready) {
    if ($s == $t) { my $c = $t->accept or next; print $c "hello\n"; close $c; next }
    my $peer = $u->recv(my $data, 100); $u->send("hello\n", 0, $peer) if $peer;
} }
"#;

/// The kernel's refusal carries no socket's mark, and left by the way out: clients of
/// what nobody listens at waited for minutes, and those over IPv6 of a server of IPv4.
#[test]
fn a_refusal_inside_is_told_and_an_ipv6_client_comes_to_a_server_of_ipv4() {
    let Some(sandbox) = server_sandbox() else { return };
    sandbox.ok(["network", "create", "--ipv6", "both"]);
    let has_v6 = UdpSocket::bind("[::1]:0").is_ok();
    for network in ["slirp4netns", "both"] {
        let options = ["--network", network, "-p", "80", "-p", "80/udp", "-p", "81"];
        let words = ["run", "-d", "--name", network];
        sandbox.ok([&words[..], &options, &["--rootfs", "/:O", "perl", "-e", NARROW]].concat());
        sandbox.wait_for_log(network, "ready");
        let port = |port: &str| host_port(&sandbox, network, port);
        let (open, udp, closed) = (port("80"), port("80/udp"), port("81"));
        let locals = [Some(IpAddr::from([127, 0, 0, 1])), own_address()];
        let locals = locals.into_iter().flatten().chain(has_v6.then(|| "::1".parse().unwrap()));
        for address in locals {
            let (said, _) = greet((address, open).into());
            assert_eq!(said, "hello", "{network}, {address}");
            let socket = UdpSocket::bind((address, 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            socket.connect((address, udp)).unwrap();
            // The first datagram may be the one that is refused.
            let answer = until("an answer", || {
                socket.send(b"x").ok()?;
                let mut buffer = [0; 100];
                socket.recv(&mut buffer).ok().map(|count| buffer[..count].to_vec())
            });
            assert_eq!(answer, b"hello\n", "{network}, {address}");
            // Refused at once or after it was taken, but not left to wait.
            if let Ok(mut stream) = connect((address, closed)) {
                let end = stream.read(&mut [0; 10]).map_err(|error| error.kind());
                let is_told = matches!(end, Ok(0) | Err(std::io::ErrorKind::ConnectionReset));
                assert!(is_told, "{network}, {address}: {end:?}");
            }
        }
        sandbox.ok(["rm", "-f", "-t", "0", network]);
    }
}

#[test]
fn the_server_of_ports_keeps_no_power_but_over_networks() {
    let Some(sandbox) = server_sandbox() else { return };
    serve(&sandbox, "web", &["-p", "80"]);
    // It has served somebody: it is past its beginning.
    greet(([127, 0, 0, 1], host_port(&sandbox, "web", "80")).into());
    let status = std::fs::read_to_string(format!("/proc/{}/status", helper(&sandbox).unwrap())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    // capabilities(7): CAP_NET_BIND_SERVICE is 10, CAP_NET_ADMIN 12.
    let network = format!("{:016x}", (1 << 10) | (1 << 12));
    assert_eq!([field("CapPrm:"), field("CapEff:")], [network.clone(), network]);
    assert_eq!([field("CapInh:"), field("NoNewPrivs:")], ["0000000000000000", "1"]);
    // proc_pid_status(5): 2 is a filter. What it refuses is tested where it is made.
    assert_eq!(field("Seccomp:"), "2");
}

/// A network of the test's own, with addresses of documentation, and the tool in it.
const NETWORK: &str = r#"
set -eu
ip link set lo up
ip link add d0 type veth peer name d1; ip link set d1 up; ip link set d0 up
ip addr add 198.51.100.7/24 dev d0; ip -6 addr add 2001:db8::7/64 dev d0 nodad
"$1" run -d --name web -p 8080:80 -p 8080:80/udp --rootfs /:O perl -e "$2" >/dev/null
for try in $(seq 600); do if "$1" logs web | grep -q ready; then break; fi; sleep 0.05; done
# A new IPv6 address cannot be used for a moment: flag 40, tentative.
for try in $(seq 600); do if "$1" exec web grep -Eq '^fd.* 00 [08]0 +tap0' /proc/net/if_inet6; then break; fi; sleep 0.05; done
for host in 198.51.100.7 2001:db8::7; do perl -e "$3" $host 8080; done
"$1" rm -f -t 0 web >/dev/null
"#;

/// What the server says to a client of TCP and to one of UDP, beside the client's own address.
const CLIENT: &str = r#"
use IO::Socket::IP; my ($host, $port) = @ARGV; alarm 60;
my $tcp = IO::Socket::IP->new(PeerHost => $host, PeerPort => $port, Type => SOCK_STREAM) or die $@;
print $tcp->sockhost, ' ', $tcp->sockport, ' tcp ', scalar <$tcp>;
my $udp = IO::Socket::IP->new(PeerHost => $host, PeerPort => $port, Type => SOCK_DGRAM) or die $@;
$udp->send('x'); $udp->recv(my $said, 999); $said =~ s/\n.*//s; print $udp->sockhost, ' ', $udp->sockport, " udp $said\n";
"#;

#[test]
fn cve_2021_20199_addresses_of_both_families_are_shown() {
    let Some(sandbox) = sandbox(&[Slirp, SubIds, Need::Program("perl"), Need::Program("ip")]) else { return };
    let mut command = sandbox.command("unshare");
    command.args(["--user", "--map-root-user", "--map-auto", "--net", "bash", "-c", NETWORK, "bash"]);
    command.arg(binary()).args([SERVER, CLIENT]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text.lines().count(), 4, "{text}{complaint}");
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words[..2], words[3..], "{text}");
    }
}

#[test]
fn half_closed_connections_and_bytes_are_kept() {
    let Some(sandbox) = server_sandbox() else { return };
    serve(&sandbox, "web", &["-p", "127.0.0.1::80"]);
    let address = published(&sandbox, "web", "80")[0];
    // The echo comes back whole although the client has said its last.
    let (_, mut stream) = greet(address);
    stream.write_all(b"the last word").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = String::new();
    stream.read_to_string(&mut back).unwrap();
    assert_eq!(back, "the last word");
    // Much, both ways at once.
    let (_, mut stream) = greet(address);
    let mut writer = stream.try_clone().unwrap();
    let piece: Vec<u8> = (0..1 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let (sent, rounds) = (piece.clone(), 100);
    let thread = std::thread::spawn(move || {
        for _ in 0..rounds {
            writer.write_all(&sent).unwrap();
        }
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut buffer = vec![0; piece.len()];
    for round in 0..rounds {
        stream.read_exact(&mut buffer).unwrap();
        assert!(buffer == piece, "round {round}");
    }
    assert_eq!(stream.read(&mut buffer).unwrap(), 0);
    thread.join().unwrap();
}

#[test]
fn datagrams_wait_until_the_receiver_has_room() {
    let Some(sandbox) = server_sandbox() else { return };
    serve(&sandbox, "web", &["-p", "127.0.0.1::80/udp"]);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(published(&sandbox, "web", "80/udp")[0]).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    // Faster than the server answers, and more than its buffer takes.
    for _ in 0..20_000 {
        client.send(&[7; 1400]).unwrap();
    }
    let mut buffer = [0; 2048];
    until("the last to be answered", || {
        client.send(b"last").unwrap();
        while let Ok(length) = client.recv(&mut buffer) {
            if buffer[..length].ends_with(b"\nlast") {
                return Some(());
            }
        }
        None
    });
    // snmp_counter.rst of the kernel: none was thrown away for want of room.
    let snmp = std::fs::read_to_string(format!("/proc/{}/net/snmp", sandbox.inspect("web")["State"]["Pid"]))
        .unwrap();
    let lines: Vec<Vec<&str>> = snmp
        .lines()
        .filter(|line| line.starts_with("Udp: "))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let counter = |name: &str| -> u64 {
        let at = lines[0].iter().position(|word| *word == name).unwrap();
        lines[1][at].parse().unwrap()
    };
    assert!(counter("InDatagrams") > 500, "{snmp}");
    assert_eq!(counter("RcvbufErrors"), 0, "{snmp}");
    // Nor of the answers, while the client did not read: the last column of
    // /proc/net/udp.
    let port = format!(":{:04X} ", client.local_addr().unwrap().port());
    let sockets = std::fs::read_to_string("/proc/net/udp").unwrap();
    let own = sockets
        .lines()
        .find(|line| line.split_once(": ").is_some_and(|(_, rest)| rest[8..].starts_with(&port)));
    assert_eq!(own.and_then(|line| line.split_whitespace().last()), Some("0"), "{sockets}");
}

#[test]
fn a_thousand_connections_at_once() {
    let Some(sandbox) = server_sandbox() else { return };
    serve(&sandbox, "web", &["-p", "127.0.0.1::80"]);
    let address = published(&sandbox, "web", "80")[0];
    let count = (rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(4096) / 2)
        .min(1000) as usize;
    let mut all: Vec<TcpStream> = (0..count).map(|_| greet(address).1).collect();
    for (number, stream) in all.iter_mut().enumerate() {
        stream.write_all(format!("{number:08}").as_bytes()).unwrap();
    }
    for (number, stream) in all.iter_mut().enumerate() {
        let mut back = [0; 8];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, format!("{number:08}").as_bytes());
    }
}

#[test]
fn a_port_that_is_taken_is_told_before_anything_runs() {
    let Some(sandbox) = server_sandbox() else { return };
    serve(&sandbox, "web", &["-p", "127.0.0.1::80"]);
    let port = host_port(&sandbox, "web", "80");
    let publish = format!("127.0.0.1:{port}:80");
    let again = ["run", "--name", "second", "-p", &publish, "--rootfs", "/:O", "touch", "/ran"];
    sandbox.coracle(again).refused(&["port is already allocated", "container web publishes it"]);
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let publish = format!("127.0.0.1:{}:80", other.local_addr().unwrap().port());
    sandbox
        .coracle(["run", "--rm", "-p", &publish, "--rootfs", "/:O", "true"])
        .refused(&["port is already allocated", "another program"]);
    // One of several is found; removed by force, a port is free at once.
    sandbox.ok(["rm", "-f", "-t", "0", "second", "web"]);
    TcpListener::bind(("127.0.0.1", port)).unwrap();
}

#[test]
fn ports_are_shown_and_kept_over_a_restart() {
    let Some(sandbox) = server_sandbox() else { return };
    serve(&sandbox, "web", &["-P", "--expose", "80", "--expose", "443/udp", "-p", "127.0.0.1::8080"]);
    let before = sandbox.ok(["port", "web"]);
    let families = if UdpSocket::bind("[::1]:0").is_ok() { 2 } else { 1 };
    assert_eq!(before.lines().count(), 2 * families + 1, "{before}");
    let port = host_port(&sandbox, "web", "80");
    let document = sandbox.inspect("web");
    assert_eq!(document["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"], port.to_string());
    assert_eq!(document["NetworkSettings"]["Ports"]["8080/tcp"][0]["HostIp"], "127.0.0.1");
    assert_eq!(document["HostConfig"]["PublishAllPorts"], true);
    let row = sandbox.ok(["ps", "--format", "{{.Ports}}"]);
    assert!(row.contains(&format!("0.0.0.0:{port}->80/tcp")), "{row}");
    assert_eq!(row.contains(&format!("[::]:{port}->80/tcp")), families == 2, "{row}");
    sandbox.coracle(["port", "web", "81"]).fails(1, &["no public port '81/tcp' published for web"]);
    assert_eq!(sandbox.ok(["ps", "-q", "--filter", &format!("publish={port}")]).lines().count(), 1);
    // Who does not read on is not complained to.
    for words in [&["port", "web"][..], &["port", "-a"], &["port", "web", "80"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = sandbox.command(binary()).args(words).stdout(writer).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words:?}");
        assert_eq!(output.status.code(), Some(128 + 13), "{words:?}");
    }
    sandbox.ok(["restart", "-t", "0", "web"]);
    assert_eq!(sandbox.ok(["port", "web"]), before);
    until("the server to answer again", || {
        connect(([127, 0, 0, 1], port)).ok()?.read(&mut [0]).ok().filter(|n| *n == 1)
    });
    sandbox.ok(["stop", "-t", "0", "web"]);
    assert_eq!(sandbox.ok(["port", "web"]), "");
}

#[test]
fn ports_are_added_and_removed_while_it_runs() {
    let Some(sandbox) = server_sandbox() else { return };
    serve(&sandbox, "web", &[]);
    assert_eq!(helper(&sandbox), None);
    let said = sandbox.ok(["port", "add", "web", "127.0.0.1::80", "127.0.0.1::80/udp"]);
    assert_eq!((said.lines().count(), said), (2, sandbox.ok(["port", "web"])));
    let first = host_port(&sandbox, "web", "80");
    let (_, mut stream) = greet(([127, 0, 0, 1], first).into());
    sandbox.ok(["update", "--publish-add", "80", "web"]);
    let all = published(&sandbox, "web", "80");
    let second = all.iter().find(|address| address.port() != first).unwrap().port();
    greet(([127, 0, 0, 1], second).into());
    sandbox.coracle(["port", "add", "web", &format!("{first}:80")]).fails(1, &["port is already allocated"]);
    assert_eq!(published(&sandbox, "web", "80"), all);
    let said = sandbox.ok(["port", "add", "web", "127.0.0.1::81"]);
    assert_eq!(said, format!("81/tcp -> {}", sandbox.ok(["port", "web", "81"])));
    assert_eq!(sandbox.ok(["port", "rm", "web", &format!("{first}:80/tcp")]), "web");
    // It is free at once, and who was connected stays so.
    TcpListener::bind(("127.0.0.1", first)).unwrap();
    stream.write_all(b"x").unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 1);
    sandbox.coracle(["port", "rm", "web", &first.to_string()]).fails(1, &["is not published"]);
    sandbox.ok(["restart", "-t", "0", "web"]);
    assert!(published(&sandbox, "web", "80").iter().all(|address| address.port() == second));
    sandbox.ok(["update", "--publish-rm", &second.to_string(), "web"]);
    assert!(connect(([127, 0, 0, 1], second)).is_err());
}

#[test]
fn cve_2021_4024_nothing_listens_but_what_was_asked_for_and_nothing_when_it_is_over() {
    let Some(sandbox) = server_sandbox() else { return };
    serve(&sandbox, "web", &["-p", "127.0.0.1::80"]);
    let port = host_port(&sandbox, "web", "80");
    let server = helper(&sandbox).unwrap();
    let monitor = sandbox.monitors()[0];
    // The host's sockets that listen, of the two: by their inodes.
    let listening = |pid: i32| {
        let text = std::fs::read_to_string("/proc/self/net/tcp").unwrap()
            + &std::fs::read_to_string("/proc/self/net/tcp6").unwrap_or_default();
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let links: Vec<String> =
            fds.filter_map(|fd| std::fs::read_link(fd.path()).ok()?.to_str().map(str::to_owned)).collect();
        text.lines()
            .filter_map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let listens = words.get(3) == Some(&"0A");
                (listens && links.contains(&format!("socket:[{}]", words.get(9)?)))
                    .then(|| words[1].to_owned())
            })
            .collect::<Vec<_>>()
    };
    for pid in [server, monitor] {
        assert_eq!(listening(pid), [format!("0100007F:{port:04X}")], "{pid}");
    }
    // Killed, it is started again, and nobody is turned away meanwhile.
    kill(server);
    greet(([127, 0, 0, 1], port).into());
    until("it is told", || {
        let events = sandbox.ok(["events", "--since", "1", "--until", "0s", "--filter", "event=ports"]);
        (events.contains("state=died") && events.contains("state=restarted")).then_some(())
    });
    assert_ne!(helper(&sandbox), Some(server));
    kill(monitor);
    until("nothing to be left", || helper(&sandbox).is_none().then_some(()));
    until("the port to be free", || TcpListener::bind(("127.0.0.1", port)).ok());
    sandbox.ok(["rm", "-f", "web"]);
}

#[test]
fn where_nothing_can_be_published_it_is_told_first() {
    let Some(sandbox) = sandbox(&[]) else { return };
    sandbox
        .coracle(["run", "--network", "container:x", "-p", "8080:80", "--rootfs", "/:O", "true"])
        .refused(&["conflicting options: port publishing"]);
    for network in ["host", "none"] {
        for publish in [&["-p", "8080:80"][..], &["-P", "--expose", "80"]] {
            let words =
                [&["run", "--rm", "--network", network], publish, &["--rootfs", "/:O", "true"]].concat();
            let output = sandbox.coracle(words).ok();
            let told = format!("WARNING: Published ports are discarded when using {network} network mode\n");
            assert_eq!(output.stderr, told, "{output}");
        }
    }
    assert_eq!(sandbox.ok(["ps", "-aq"]), "");
}

#[test]
fn ports_of_the_host_are_shown_and_found() {
    let Some(sandbox) = server_sandbox() else { return };
    let Some((first, second)) = neighbours() else { return };
    let (one, two) = (format!("127.0.0.1:{first}:80"), format!("127.0.0.1:{second}:81"));
    serve(&sandbox, "web", &["-p", &one, "-p", &two, "--expose", "22"]);
    assert_eq!(
        sandbox.ok(["ps", "--format", "{{.Ports}}"]),
        format!("22/tcp, 127.0.0.1:{first}->80/tcp, 127.0.0.1:{second}->81/tcp")
    );
    let found = |filter: &str| sandbox.ok(["ps", "-q", "--filter", filter]).lines().count();
    assert_eq!([found(&format!("publish={first}")), found("publish=80"), found("expose=80")], [1, 0, 1]);
}

/// Two ports that follow each other and are free.
fn neighbours() -> Option<(u16, u16)> {
    (0..100).find_map(|_| {
        let one = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let next = one.checked_add(1)?;
        TcpListener::bind(("127.0.0.1", next)).is_ok().then_some((one, next))
    })
}
