//! Networks while things come, go and are killed.

use crate::harness::leaks::processes_of;
use crate::harness::{Image, Need, Sandbox, sandbox, until};
use crate::networks::{address, get, holder, kill, monitor_of, server};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Containers made and removed.
const CONTAINERS: usize = 100;
/// Names for them, so that names and addresses are used again and again.
const NAMES: usize = 7;

/// Asks without end until `/tmp/end` is there; says WRONG and the answer that
/// was not `right`, at last how many there were.
fn asker(name: &str, right: &str) -> String {
    format!(
        "while [ ! -e /tmp/end ]; do nslookup -type=a {name} >/tmp/a 2>&1 && grep -q 'Address: {right}$' /tmp/a || \
         {{ cat /tmp/a; echo WRONG; }}; echo . >>/tmp/count; done; wc -l </tmp/count"
    )
}

/// Answers for one that stays are always right, and those for others are what
/// they are at the moment, or none.
#[test]
fn no_answer_is_wrong_while_a_hundred_containers_come_and_go() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["network", "create", "n"]);
    server(&sandbox, "stays", &["--network", "n"]);
    let right = address(&sandbox, "stays", "n");
    let words = ["run", "--name", "asks", "--network", "n", "busybox", "sh", "-c"];
    let asks = sandbox.spawn([&words[..], &[&asker("stays", &right)]].concat());
    let seed = std::env::var("CORACLE_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    println!("CORACLE_TEST_SEED={seed}");
    let (mut state, mut made): (u64, usize) = (seed, 0);
    let mut there: [Option<String>; NAMES] = Default::default();
    while made < CONTAINERS || there.iter().any(Option::is_some) {
        // Knuth's MMIX: which of them is next.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let which = (state >> 33) as usize % NAMES;
        let name = format!("c{which}");
        match there[which].take() {
            Some(old) => {
                sandbox.ok(["rm", "-ft", "0", &name]);
                let said = sandbox.coracle(["exec", "stays", "nslookup", "-type=a", &name]);
                assert!(!said.lines().contains(&format!("Address: {old}").as_str()), "{name}: {said}");
            }
            None if made < CONTAINERS => {
                made += 1;
                sandbox.ok(["run", "-d", "--name", &name, "--network", "n", "busybox", "sleep", "1000"]);
                let own = address(&sandbox, &name, "n");
                assert!(own != right && there.iter().flatten().all(|other| *other != own), "{own} twice");
                let said = sandbox.ok(["exec", "stays", "nslookup", "-type=a", &name]);
                assert!(said.lines().any(|line| line == format!("Address: {own}")), "{name} {own}: {said}");
                there[which] = Some(own);
            }
            None => {}
        }
    }
    sandbox.ok(["exec", "asks", "touch", "/tmp/end"]);
    let output = asks.wait();
    assert!(!output.stdout.contains("WRONG"), "{output}");
    assert!(output.text().trim().parse::<usize>().unwrap() >= CONTAINERS, "{output}");
}

/// What the published server says, once.
fn fetch(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn the_one(sandbox: &Sandbox, role: &str, but: Option<i32>) -> i32 {
    until(role, || {
        let all = processes_of(sandbox.root()).into_iter();
        let mut of_role = all.filter(|process| process.command.split('\0').any(|word| word == role));
        of_role.find(|process| Some(process.pid) != but).map(|process| process.pid)
    })
}

/// The server of ports and the holder, which answers names and has the bridges,
/// one after the other and both at once, while clients ask both without end.
#[test]
fn the_server_of_ports_and_the_holder_are_killed_under_traffic() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["network", "create", "--internal", "n"]);
    server(&sandbox, "web", &["--network", "n", "-p", "127.0.0.1::80"]);
    server(&sandbox, "other", &["--network", "n"]);
    let published: SocketAddr = sandbox.ok(["port", "web", "80"]).parse().unwrap();
    // Inside: by number, which is no business of either of them.
    let web = address(&sandbox, "web", "n");
    let script = format!(
        "while [ ! -e /tmp/end ]; do timeout 10 wget -q -O - http://{web}/index.html >/tmp/a && grep -q web /tmp/a || \
         echo WRONG; echo . >>/tmp/count; done; wc -l </tmp/count"
    );
    let inside = sandbox.spawn(["run", "--name", "asks", "--network", "n", "busybox", "sh", "-c", &script]);
    let over = AtomicBool::new(false);
    let (answers, cut, refused) = std::thread::scope(|scope| {
        let outside = scope.spawn(|| {
            let (mut answers, mut cut, mut refused) = (0, 0, Vec::new());
            while !over.load(Ordering::Relaxed) {
                match fetch(published) {
                    Ok(text) if text.ends_with("web\n") => answers += 1,
                    // One that the killed server had taken.
                    Ok(_) => cut += 1,
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => cut += 1,
                    Err(error) => refused.push(format!("{error:?} after {answers} answers")),
                }
            }
            (answers, cut, refused)
        });
        for round in 0..6 {
            let (ports, netd) = (the_one(&sandbox, "--ports", None), the_one(&sandbox, "--netd", None));
            if round % 3 != 1 {
                kill(ports);
            }
            if round % 3 != 0 {
                kill(netd);
            }
            // Whoever asks again is answered, and by name as soon as there is a holder.
            assert!(fetch(published).is_ok_and(|text| text.ends_with("web\n")) || round % 3 != 1);
            if round % 3 != 1 {
                the_one(&sandbox, "--ports", Some(ports));
            }
            if round % 3 != 0 {
                the_one(&sandbox, "--netd", Some(netd));
            }
            until("names", || get(&sandbox, "other", "web").status.success().then_some(()));
            until("the published port", || fetch(published).ok().filter(|text| text.ends_with("web\n")));
        }
        over.store(true, Ordering::Relaxed);
        outside.join().unwrap()
    });
    // A kill cuts what is under way: one connection at a time, here.
    assert!(refused.is_empty(), "{answers} answers, {cut} cut, and {refused:?}");
    assert!(answers > 6 && cut <= 6, "{answers} answers, {cut} cut");
    sandbox.ok(["exec", "asks", "touch", "/tmp/end"]);
    let output = inside.wait();
    assert!(!output.stdout.contains("WRONG"), "{output}");
    assert!(output.text().trim().parse::<u32>().unwrap() > 6, "{output}");
}

/// The holder is a child of the first container's monitor, and is nobody's when
/// that is killed.
#[test]
fn the_monitor_that_started_the_holder_is_killed_under_traffic() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["network", "create", "--internal", "n"]);
    server(&sandbox, "first", &["--network", "n"]);
    server(&sandbox, "web", &["--network", "n"]);
    let right = address(&sandbox, "web", "n");
    let words = ["run", "--name", "asks", "--network", "n", "busybox", "sh", "-c"];
    let asks = sandbox.spawn([&words[..], &[&asker("web", &right)]].concat());
    until("the asker", || {
        sandbox.coracle(["exec", "asks", "test", "-s", "/tmp/count"]).status.success().then_some(())
    });
    let before = holder(&sandbox).unwrap();
    kill(monitor_of(&sandbox, "first"));
    until("its name to go", || (!get(&sandbox, "web", "first").status.success()).then_some(()));
    assert_eq!(holder(&sandbox), Some(before));
    assert_eq!(get(&sandbox, "asks", "web").ok().text(), "web");
    // Both of what a container has at once: its monitor, and the holder.
    kill(monitor_of(&sandbox, "web"));
    kill(before);
    until("another holder", || holder(&sandbox).filter(|pid| *pid != before));
    sandbox.ok(["exec", "asks", "touch", "/tmp/end"]);
    let output = asks.wait();
    // Once web is gone there is no answer, but never another address.
    for line in output.lines().iter().filter(|line| line.starts_with("Address: ")) {
        assert_eq!(*line, format!("Address: {right}"), "{output}");
    }
    sandbox.ok(["rm", "-f", "first", "web"]);
    server(&sandbox, "web", &["--network", "n"]);
    until("names", || get(&sandbox, "web", "web").status.success().then_some(()));
}

/// What could not be had is not counted: nothing of it stays with the holder.
#[test]
fn a_refused_connect_leaves_nothing_behind() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Need::Program("nsenter"), Need::Program("ip")]) else {
        return;
    };
    sandbox.ok(["network", "create", "one"]);
    sandbox.ok([
        "network",
        "create",
        "--subnet",
        "10.201.9.0/24",
        "-o",
        "com.docker.network.bridge.name=br9",
        "two",
    ]);
    server(&sandbox, "a", &["--network", "one"]);
    server(&sandbox, "b", &["--network", "one"]);
    let bridges = holder(&sandbox).unwrap();
    // The bridges' namespace is that of the holder's second thread.
    let task =
        std::fs::read_dir(format!("/proc/{bridges}/task")).unwrap().flatten().map(|entry| entry.file_name());
    let thread =
        task.filter_map(|name| name.to_str()?.parse::<i32>().ok()).find(|tid| *tid != bridges).unwrap();
    let ip = |words: &[&str]| {
        let user = format!("--user=/proc/{bridges}/ns/user");
        let net = format!("--net=/proc/{bridges}/task/{thread}/ns/net");
        let mut command = sandbox.command("nsenter");
        let output =
            command.args(["--preserve-credentials", &user, &net, "ip"]).args(words).output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    // No bridge, and so nothing can be joined to it.
    let made = ip(&["link", "add", "br9", "type", "veth", "peer", "name", "br9p"]);
    assert!(made.0, "{}", made.1);
    sandbox.coracle(["network", "connect", "--ip", "10.201.9.77", "two", "a"]).fails(1, &["network two"]);
    let left = ip(&["link", "show", "br9"]);
    assert!(!left.0, "the bridge of a network that nobody is on: {}", left.1);
    let leases = sandbox.state().join("networks/two/leases");
    assert_eq!(std::fs::read_dir(leases).unwrap().count(), 0, "an address that nobody has");
    assert_eq!(sandbox.ok(["ps", "--filter", "network=two", "-q"]), "");
    assert_eq!(get(&sandbox, "b", "a").ok().text(), "a");
    // Now it can be had, and goes when nobody is there any more.
    sandbox.ok(["network", "connect", "two", "a"]);
    assert!(ip(&["link", "show", "br9"]).0);
    sandbox.ok(["network", "disconnect", "two", "a"]);
    assert!(!ip(&["link", "show", "br9"]).0);
    sandbox.ok(["network", "rm", "two"]);
}
