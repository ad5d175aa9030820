//! The network of a container: its own loopback, and the way out.

use crate::harness::{Image, Sandbox, Slirp, sandbox, until};
use std::io::Write;
use std::net::TcpListener;

#[test]
fn loopback_works_without_a_network() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let script = "ip -o link | grep -c . ; ping -c 1 -W 5 127.0.0.1 >/dev/null 2>&1; echo hi >/tmp/index.html; \
        httpd -p 127.0.0.1:8080 -h /tmp; wget -q -O - http://127.0.0.1:8080/index.html";
    let output = sandbox.run(&["busybox", "sh", "-c", script]).ok();
    assert_eq!(output.lines(), ["1", "hi"], "{output}");
}

#[test]
fn the_host_s_loopback_is_out_of_reach() {
    let Some(sandbox) = sandbox(&[Image("guest"), Slirp]) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    for address in ["127.0.0.1", "10.0.2.2"] {
        let output = sandbox.coracle(["run", "--rm", "guest", "connect", address, &port]);
        assert_eq!(output.code(), 1, "{address}: {output}");
    }
    // The same process on the host's network reaches it.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            stream.write_all(b"hello from the host").ok();
        }
    });
    let output =
        sandbox.coracle(["run", "--rm", "--network", "host", "guest", "connect", "127.0.0.1", &port]).ok();
    assert_eq!(output.text(), "hello from the host");
}

#[test]
fn the_default_network_leads_out() {
    let Some(sandbox) = sandbox(&[Image("guest"), Image("busybox"), Slirp]) else { return };
    let output = sandbox.coracle(["run", "--rm", "busybox", "ip", "-o", "-4", "addr", "show"]).ok();
    assert!(output.stdout.contains("10.0.2.100"), "{output}");
    let routes = sandbox.coracle(["run", "--rm", "busybox", "ip", "route"]).ok();
    assert!(routes.stdout.contains("default via 10.0.2.2"), "{routes}");
    // Out to an address of this machine that is not loopback.
    let Some(address) = own_address() else { return };
    let listener = TcpListener::bind((address.as_str(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            stream.write_all(b"the way out").ok();
        }
    });
    let output = sandbox.coracle(["run", "--rm", "guest", "connect", &address, &port]).ok();
    assert_eq!(output.text(), "the way out");
}

/// The address that this machine would send from; no packet is sent.
pub(crate) fn own_address() -> Option<String> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip().to_string()).filter(|a| a != "0.0.0.0")
}

#[test]
fn a_killed_helper_is_started_again_with_the_same_addresses() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Slirp]) else { return };
    sandbox.ok(["run", "-d", "--name", "c", "busybox", "sleep", "1000"]);
    let address = |sandbox: &Sandbox| sandbox.ok(["exec", "c", "ip", "-o", "addr", "show", "tap0"]);
    let before = address(&sandbox);
    for round in 1..=3 {
        let helper = helper_of(&sandbox, "slirp4netns").expect("a helper");
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(helper).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        until("it is told that the uplink is back", || {
            let events = sandbox.ok(["events", "--since", "1", "--until", "0s", "--filter", "event=uplink"]);
            (events.matches("state=restarted").count() == round).then_some(())
        });
        assert_ne!(helper_of(&sandbox, "slirp4netns"), Some(helper));
        let routes = sandbox.ok(["exec", "c", "ip", "route"]);
        assert!(routes.contains("default via 10.0.2.2"), "{routes}");
    }
    // The index of the interface differs, the addresses do not.
    let words = |text: &str| -> Vec<String> {
        let inets = text.lines().map(|line| line.split_whitespace().skip(2).take(2).collect::<Vec<_>>());
        inets.map(|words| words.join(" ")).filter(|words| words.contains("10.0.2.100")).collect()
    };
    assert_eq!(words(&address(&sandbox)), words(&before));
    assert_eq!(sandbox.status("c"), "running");
    sandbox.ok(["stop", "-t", "0", "c"]);
}

/// The child of the container's monitor that has `name` in its command line:
/// a helper knows nothing of the sandbox.
fn helper_of(sandbox: &Sandbox, name: &str) -> Option<i32> {
    let monitor = sandbox.monitors()[0];
    let children = std::fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children")).ok()?;
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid: &i32| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(name))
    })
}
