//! What people run: nginx, PostgreSQL, Redis and Python from Debian, on networks.

use crate::harness::{Image, Need, Output, Sandbox, Slirp, SubIds, binary, needs, sandbox, until};

/// Addresses of documentation in a network of the test's own; `$1` is the tool,
/// `$2` the image's archive, `$3` a client outside, `$4` one in a container.
/// Prints what each client took for its own address, then what the servers saw.
const WORLD: &str = r#"
set -eu
coracle=$1
ip link set lo up
ip link add d0 type veth peer name d1; ip link set d1 up; ip link set d0 up
ip addr add 198.51.100.7/24 dev d0; ip -6 addr add 2001:db8::7/64 dev d0 nodad
"$coracle" load -q -i "$2" >/dev/null
"$coracle" network create --subnet 10.201.1.0/24 --subnet fd12:1::/64 front >/dev/null
"$coracle" run -d --name web --network front:alias=www -p 8080:80 servers nginx -g 'daemon off;' >/dev/null
"$coracle" run -d --name datagrams --network front -p 8080:80/udp servers python3 -uc "$5" >/dev/null
"$coracle" run -d --name client --network front servers sleep 1000 >/dev/null
for try in $(seq 600); do if "$coracle" logs datagrams | grep -q ready; then break; fi; sleep 0.1; done
for family in 4 6; do
    for try in $(seq 600); do
        if "$coracle" exec client python3 -c "$4" www $family web 2>"$HOME/said"; then break; fi; sleep 0.1
    done
    "$coracle" exec client python3 -c "$4" datagrams $family datagrams
done
for host in 198.51.100.7 2001:db8::7; do perl -e "$3" $host 8080; done
"$coracle" logs web | sed 's/^\([^ ]*\) .* "\([^"]*\)"$/saw \2 \1/'
"$coracle" rm -f -t 0 web datagrams client >/dev/null
"#;

/// Each says its own address to the server, and the user agent is how.
const OUTSIDE: &str = r#"
use IO::Socket::IP; my ($host, $port) = @ARGV; alarm 60;
my $tcp = IO::Socket::IP->new(PeerHost => $host, PeerPort => $port, Type => SOCK_STREAM) or die $@;
my $own = $tcp->sockhost; print $tcp "GET / HTTP/1.0\r\nUser-Agent: tcp-outside-$own\r\n\r\n"; 1 while <$tcp>;
my $udp = IO::Socket::IP->new(PeerHost => $host, PeerPort => $port, Type => SOCK_DGRAM) or die $@;
$udp->send('udp-outside-' . $udp->sockhost); $udp->recv(my $said, 999); print "$said\n";
"#;

const INSIDE: &str = r"
import socket, sys
host, family, server = sys.argv[1:]
family = socket.AF_INET if family == '4' else socket.AF_INET6
kind, port = (socket.SOCK_STREAM, 80) if server == 'web' else (socket.SOCK_DGRAM, 80)
s = socket.socket(family, kind); s.settimeout(20)
s.connect(socket.getaddrinfo(host, port, family, kind)[0][4]); own = s.getsockname()[0]
if server == 'web':
    s.sendall(('GET / HTTP/1.0\r\nUser-Agent: tcp-inside-%s\r\n\r\n' % own).encode())
    assert b'200 OK' in s.recv(4096)
else:
    s.send(('udp-inside-%s' % own).encode()); print(s.recv(999).decode())
";

/// Says back what it heard, and from whom.
const DATAGRAMS: &str = r"
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0); s.bind(('::', 80)); print('ready')
while True:
    data, who = s.recvfrom(2048)
    s.sendto(b'saw %s %s' % (data, who[0].removeprefix('::ffff:').encode()), who)
";

#[test]
fn the_log_of_nginx_shows_its_clients_addresses_of_both_families() {
    let needs = [Slirp, SubIds, Need::Program("perl"), Need::Program("ip"), Need::Image("servers")];
    // Loaded in the world, whose ids are others.
    if !needs::host_has(&needs) {
        return;
    }
    let Some(sandbox) = sandbox(&[]) else { return };
    let mut command = sandbox.command("unshare");
    command.args(["--user", "--map-root-user", "--map-auto", "--net", "bash", "-c", WORLD, "bash"]);
    command.arg(binary()).arg(needs::archive("servers").unwrap()).args([OUTSIDE, INSIDE, DATAGRAMS]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    let mut seen: Vec<&str> = Vec::new();
    for line in text.lines() {
        let (who, address) =
            line.strip_prefix("saw ").and_then(|rest| rest.split_once(' ')).unwrap_or_default();
        assert!(!who.is_empty() && who.ends_with(&format!("-{address}")), "{line}\n{text}{complaint}");
        seen.push(who);
    }
    seen.sort_unstable();
    seen.dedup();
    let own = |who: &&&str| who.contains("-outside-");
    assert_eq!(
        seen.iter().filter(own).collect::<Vec<_>>(),
        [
            &"tcp-outside-198.51.100.7",
            &"tcp-outside-2001:db8::7",
            &"udp-outside-198.51.100.7",
            &"udp-outside-2001:db8::7"
        ],
        "{text}{complaint}"
    );
    // From container to container: TCP and UDP, each with an address of each family.
    assert_eq!(seen.len(), 8, "{text}{complaint}");
    for prefix in ["tcp-inside-10.201.1.", "tcp-inside-fd12:1:", "udp-inside-10.201.1.", "udp-inside-fd12:1:"]
    {
        assert_eq!(seen.iter().filter(|who| who.starts_with(prefix)).count(), 1, "{prefix}: {text}");
    }
}

const DATABASE: &str = "export PATH=$(echo /usr/lib/postgresql/*/bin):$PATH; cd /tmp; \
    if [ ! -d pg ]; then initdb -D pg -N -A trust >/dev/null && echo host all all all trust >>pg/pg_hba.conf; fi; \
    exec postgres -D pg -c listen_addresses=* -c unix_socket_directories=/tmp -c fsync=off";

/// `exec -u postgres FROM psql -h HOST` with one statement.
fn psql(sandbox: &Sandbox, from: &str, host: &str, statement: &str) -> Output {
    let mut words = vec!["exec", "-u", "postgres", "-e", "PGCONNECT_TIMEOUT=5", from, "timeout", "20"];
    words.extend(["psql", "-X", "-A", "-t", "-h", host, "-c", statement]);
    sandbox.coracle(words)
}

fn redis(sandbox: &Sandbox, from: &str, host: &str, words: &[&str]) -> Output {
    sandbox.coracle([&["exec", from, "timeout", "5", "redis-cli", "-h", host][..], words].concat())
}

fn address(sandbox: &Sandbox, name: &str, network: &str) -> String {
    let format = format!("{{{{(index .NetworkSettings.Networks {network:?}).IPAddress}}}}");
    sandbox.ok(["inspect", "-f", &format, name])
}

#[test]
fn databases_are_reached_by_name_on_shared_networks_alone() {
    let Some(sandbox) = sandbox(&[Image("servers"), SubIds]) else { return };
    for network in ["data", "other"] {
        sandbox.ok(["network", "create", "--internal", network]);
    }
    let start = |name: &str, options: &[&str], words: &[&str]| {
        sandbox.ok([&["run", "-d", "--name", name][..], options, &["servers"], words].concat());
    };
    start("db", &["--network", "data:alias=database", "-u", "postgres"], &["bash", "-c", DATABASE]);
    start("cache", &["--network", "data"], &["redis-server", "--protected-mode", "no", "--save", ""]);
    start(
        "files",
        &["--network", "data", "-w", "/usr/share/nginx/html"],
        &["python3", "-m", "http.server", "80"],
    );
    start("client", &["--network", "data"], &["sleep", "1000"]);
    start("stranger", &["--network", "other"], &["sleep", "1000"]);

    let ready = |host: &str| psql(&sandbox, "client", host, "select 1").status.success().then_some(());
    until("PostgreSQL to answer", || ready("database"));
    let make = "create table t(n int); insert into t select generate_series(1, 1000)";
    psql(&sandbox, "client", "db", make).ok();
    assert_eq!(psql(&sandbox, "client", "database", "select sum(n) from t").ok().text(), "500500");
    // Who asks is who the database sees.
    let client = address(&sandbox, "client", "data");
    assert_eq!(psql(&sandbox, "client", "db", "select host(inet_client_addr())").ok().text(), client);
    until("Redis to answer", || {
        redis(&sandbox, "client", "cache", &["ping"]).text().eq("PONG").then_some(())
    });
    redis(&sandbox, "client", "cache", &["set", "key", "the value"]).ok();
    let fetch = |from: &str, host: &str| {
        let script =
            "import sys,urllib.request as r;print(r.urlopen('http://%s/' % sys.argv[1],timeout=5).status)";
        sandbox.coracle(["exec", from, "python3", "-c", script, host])
    };
    until("python's server", || fetch("client", "files").status.success().then_some(()));
    assert_eq!(fetch("client", "files").ok().text(), "200");

    // From another network neither by name nor by number.
    let db = address(&sandbox, "db", "data");
    let cache = address(&sandbox, "cache", "data");
    for host in ["db", "database", db.as_str()] {
        assert!(!psql(&sandbox, "stranger", host, "select 1").status.success(), "{host}");
    }
    for host in ["cache", cache.as_str()] {
        assert!(!redis(&sandbox, "stranger", host, &["ping"]).status.success(), "{host}");
    }
    assert!(!fetch("stranger", "files").status.success());
    sandbox.ok(["network", "connect", "data", "stranger"]);
    assert_eq!(redis(&sandbox, "stranger", "cache", &["get", "key"]).ok().text(), "the value");
    assert_eq!(psql(&sandbox, "stranger", "database", "select count(*) from t").ok().text(), "1000");
    sandbox.ok(["network", "disconnect", "data", "stranger"]);
    assert!(!redis(&sandbox, "stranger", cache.as_str(), &["ping"]).status.success());

    sandbox.ok(["restart", "-t", "30", "db"]);
    assert_eq!(address(&sandbox, "db", "data"), db);
    until("PostgreSQL to answer again", || ready("database"));
    assert_eq!(psql(&sandbox, "client", &db, "select sum(n) from t").ok().text(), "500500");
}
