//! Pods: what their containers share, in which order they start and stop, and
//! what is left of them.

use crate::harness::{Image, Need, Sandbox, Slirp, sandbox, until};
use crate::publish::{SERVER, greet};
use rustix::process::{Pid, Signal, kill_process};

impl Sandbox {
    /// `pod create --network none --name NAME WORDS...`
    #[track_caller]
    fn pod(&self, name: &str, words: &[&str]) -> String {
        self.ok([&["pod", "create", "--network", "none", "--name", name], words].concat())
    }

    /// `run -d --pod POD --name NAME WORDS...`
    #[track_caller]
    fn member(&self, pod: &str, name: &str, words: &[&str]) -> String {
        self.ok([&["run", "-d", "--pod", pod, "--name", name], words].concat())
    }

    #[track_caller]
    fn infra(&self, pod: &str) -> String {
        self.ok(["pod", "inspect", "-f", "{{.InfraContainerID}}", pod])
    }

    #[track_caller]
    fn pod_state(&self, pod: &str) -> String {
        self.ok(["pod", "inspect", "-f", "{{.State}}", pod])
    }

    /// The kernel's name of a namespace of a container's first process.
    #[track_caller]
    fn namespace(&self, name: &str, kind: &str) -> String {
        let path = format!("/proc/{}/ns/{kind}", self.init_pid(name));
        std::fs::read_link(path).unwrap().to_str().unwrap().to_owned()
    }

    /// The entries of a directory of the state.
    fn entries(&self, name: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.state().join(name)).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn containers_share_what_the_pod_shares_and_nothing_else() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let same = |pod: &str, shared: &[&str], own: &[&str]| {
        let (one, other) = (format!("{pod}-1"), format!("{pod}-2"));
        let infra = sandbox.infra(pod);
        for kind in shared {
            let of_infra = sandbox.namespace(&infra, kind);
            assert_eq!(sandbox.namespace(&one, kind), of_infra, "{pod}: {kind}");
            assert_eq!(sandbox.namespace(&other, kind), of_infra, "{pod}: {kind}");
        }
        for kind in own {
            let all = [&one, &other, &infra].map(|name| sandbox.namespace(name, kind));
            assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2], "{pod}: {kind} {all:?}");
        }
    };
    for (pod, share, shared, own) in [
        ("usual", None, &["net", "ipc", "uts", "user"][..], &["pid", "mnt", "cgroup"][..]),
        ("pids", Some("+pid"), &["net", "ipc", "uts", "pid", "user"], &["mnt"]),
        ("nets", Some("net"), &["net", "user"], &["ipc", "uts", "pid", "mnt"]),
        ("none", Some("none"), &[], &["ipc", "uts", "pid", "mnt", "user", "net"]),
    ] {
        let words: Vec<&str> = share.map(|share| ["--share", share]).into_iter().flatten().collect();
        match pod {
            "none" => sandbox.ok(["pod", "create", "--name", pod, "--share", "none"]),
            _ => sandbox.pod(pod, &words),
        };
        for number in ["1", "2"] {
            let name = format!("{pod}-{number}");
            let network: &[&str] = if pod == "none" { &["--network", "none"] } else { &[] };
            sandbox.member(pod, &name, &[network, &["guest", "sleep"]].concat());
        }
        same(pod, shared, own);
        sandbox.ok(["pod", "rm", "-f", pod]);
    }
}

#[test]
fn one_container_finds_another_on_localhost_and_in_shared_memory() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.pod("web", &["--hostname", "shop"]);
    let serve = "echo found >/tmp/index.html; echo kept >/dev/shm/note; httpd -p 127.0.0.1:80 -h /tmp; echo up; sleep 1000";
    sandbox.member("web", "server", &["busybox", "sh", "-c", serve]);
    sandbox.wait_for_log("server", "up");
    let look =
        "wget -qO- http://localhost/index.html; cat /dev/shm/note; hostname; grep shop /etc/hosts || true";
    let output = sandbox.coracle(["run", "--rm", "--pod", "web", "busybox", "sh", "-c", look]).ok();
    assert_eq!(output.lines()[..3], ["found", "kept", "shop"], "{output}");
    // By name too, the first the last; a restart says it once.
    sandbox.member("web", "later", &["busybox", "sleep", "1000"]);
    sandbox.ok(["restart", "-t", "0", "later"]);
    for name in ["server", "later"] {
        let hosts = sandbox.ok(["exec", name, "cat", "/etc/hosts"]);
        let lines = |word: &str| hosts.lines().filter(|line| *line == format!("127.0.0.1\t{word}")).count();
        assert_eq!((lines("server"), lines("later")), (1, 1), "{hosts}");
    }
    sandbox.ok(["rm", "-f", "later"]);
    assert!(!sandbox.ok(["exec", "server", "cat", "/etc/hosts"]).contains("later"));
    // Whoever is not in the pod finds nothing.
    let output = sandbox.run(&["busybox", "wget", "-qO-", "http://127.0.0.1/index.html"]);
    assert_ne!(output.code(), 0, "{output}");
}

#[test]
fn a_published_port_of_the_pod_reaches_a_container_in_it_as_the_client() {
    let Some(sandbox) = sandbox(&[Slirp, Need::Program("perl")]) else { return };
    sandbox.ok(["pod", "create", "--name", "web", "-p", "80"]);
    sandbox.member("web", "server", &["--rootfs", "/:O", "perl", "-e", SERVER]);
    sandbox.wait_for_log("server", "ready");
    let infra = sandbox.infra("web");
    let port = |sandbox: &Sandbox| -> u16 {
        let address = sandbox.ok(["port", &infra, "80"]);
        assert_eq!(sandbox.ok(["port", "server", "80"]), address);
        let all = sandbox.ok(["port", "-a"]);
        assert_eq!(all.lines().count(), address.lines().count(), "the pod's once: {all}");
        address.lines().next().unwrap().rsplit(':').next().unwrap().parse().unwrap()
    };
    let shown =
        |name: &str| sandbox.ok(["ps", "--filter", &format!("name={name}"), "--format", "{{.Ports}}"]);
    assert!(shown("server").ends_with("->80/tcp"), "{}", shown("server"));
    assert_eq!(shown("server"), shown(&sandbox.ok(["inspect", "-f", "{{.Name}}", &infra]).replace('/', "")));
    // A network of its own, from whose address it speaks to this machine's.
    let own = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    own.connect("192.0.2.1:9").ok();
    let own = own.local_addr().unwrap().ip();
    if own.is_unspecified() {
        eprintln!("no route out: the client's address is not looked at");
    }
    let address = if own.is_unspecified() { "127.0.0.1".parse().unwrap() } else { own };
    let (seen, stream) = greet((address, port(&sandbox)).into());
    if !own.is_unspecified() {
        assert_eq!(
            seen,
            format!("{own} {}", stream.local_addr().unwrap().port()),
            "the client's own address"
        );
    }
    drop(stream);
    sandbox.ok(["pod", "restart", "web"]);
    until("the server to listen again", || {
        (sandbox.ok(["logs", "server"]).matches("ready").count() == 2).then_some(())
    });
    greet((address, port(&sandbox)).into());
    sandbox.coracle(["run", "--rm", "--pod", "web", "-p", "81", "--rootfs", "/:O", "true"]).refused(&[
        "published or exposed ports must be defined when the pod is created",
        "give -p to `coracle pod create`",
    ]);
}

/// Writes its name and the time when it begins and when it is told to end.
const ORDER: &str = "trap 'echo $0 ends >>/order/all; exit 0' TERM; echo $0 begins >>/order/all; \
                     while :; do sleep 1000 & wait; done";

#[test]
fn containers_start_as_they_were_made_and_stop_in_the_reverse_of_their_start() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let folder = sandbox.folder("order");
    std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let bind = format!("{}:/order", folder.display());
    let told = || std::fs::read_to_string(folder.join("all")).unwrap_or_default();
    let all_begin =
        |count: usize| until("all to begin", || (told().matches("begins").count() == count).then_some(()));
    sandbox.pod("p", &[]);
    for name in ["a", "b", "c"] {
        sandbox.ok(["create", "--pod", "p", "--name", name, "-v", &bind, "busybox", "sh", "-c", ORDER, name]);
    }
    // Out of turn: what counts for the end is who has started when.
    sandbox.ok(["start", "b"]);
    all_begin(1);
    assert_eq!(sandbox.pod_state("p"), "Degraded");
    assert!(sandbox.status(&sandbox.infra("p")) == "running", "it starts with the first that needs it");
    sandbox.ok(["pod", "start", "p"]);
    all_begin(3);
    assert_eq!(sandbox.pod_state("p"), "Running");
    sandbox.ok(["pod", "stop", "p"]);
    assert_eq!(sandbox.pod_state("p"), "Exited");
    let lines: Vec<String> = told().lines().map(str::to_owned).collect();
    assert_eq!(lines[3..], ["c ends", "a ends", "b ends"], "{lines:?}");
    // What they share has ended after all of them.
    let died = |name: &str| {
        let text = sandbox.ok(["inspect", "-f", "{{.State.FinishedAt}}", name]);
        text.parse::<jiff::Timestamp>().unwrap()
    };
    let infra = sandbox.infra("p");
    assert!(["a", "b", "c"].iter().all(|name| died(name) < died(&infra)));
    std::fs::remove_file(folder.join("all")).unwrap();
    sandbox.ok(["pod", "restart", "p"]);
    all_begin(3);
    let begun = |name: &str| {
        let text = sandbox.ok(["inspect", "-f", "{{.State.StartedAt}}", name]);
        text.parse::<jiff::Timestamp>().unwrap()
    };
    assert!(begun(&infra) < begun("a") && begun("a") < begun("b") && begun("b") < begun("c"));
    assert_eq!(sandbox.ok(["pod", "kill", "p"]).len(), 64);
    until("all to have ended", || (sandbox.pod_state("p") == "Exited").then_some(()));
}

#[test]
fn pausing_and_signals_are_for_all_of_them() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.pod("p", &[]);
    let script = "trap 'echo heard' HUP; echo up; while :; do sleep 0.1; done";
    for name in ["a", "b"] {
        sandbox.member("p", name, &["busybox", "sh", "-c", script]);
        sandbox.wait_for_log(name, "up");
    }
    sandbox.ok(["pod", "pause", "p"]);
    assert_eq!(sandbox.pod_state("p"), "Paused");
    sandbox.ok(["pod", "kill", "-s", "HUP", "p"]);
    sandbox.ok(["pod", "unpause", "p"]);
    for name in ["a", "b"] {
        sandbox.wait_for_log(name, "heard");
    }
    assert_eq!(sandbox.pod_state("p"), "Running", "what holds the namespaces goes on");
    let logs = sandbox.ok(["pod", "logs", "-n", "p"]);
    assert!(logs.contains("a heard") && logs.contains("b heard"), "{logs}");
    let top = sandbox.ok(["pod", "top", "p", "pid,args"]);
    assert!(top.lines().filter(|line| line.contains("trap")).count() >= 2, "{top}");
    let stats = sandbox.ok(["pod", "stats", "--no-stream", "--format", "{{.Pod}} {{.Name}} {{.PIDs}}", "p"]);
    let id = sandbox.ok(["pod", "ps", "-q"]);
    assert_eq!(stats.lines().filter(|line| line.starts_with(&id)).count(), 3, "{stats}");
}

#[test]
fn a_killed_infra_container_is_told_and_the_pod_s_start_brings_it_back() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.pod("p", &[]);
    sandbox.member("p", "a", &["guest", "sleep"]);
    let infra = sandbox.infra("p");
    for its_monitor in [false, true] {
        let pid = sandbox.init_pid(&infra);
        let parent = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let parent = parent.lines().find_map(|line| line.strip_prefix("PPid:\t")).unwrap().parse().unwrap();
        kill(if its_monitor { parent } else { pid });
        sandbox.wait_for_status(&infra, "exited");
        assert_eq!(sandbox.pod_state("p"), "Degraded");
        let before = sandbox.init_pid("a");
        let output = sandbox.coracle(["pod", "start", "p"]).ok();
        assert!(output.stderr.contains("a is started anew"), "{output}");
        assert_eq!(sandbox.pod_state("p"), "Running");
        assert_eq!(sandbox.namespace("a", "net"), sandbox.namespace(&infra, "net"));
        // Not the namespace: the kernel may give the number of the old one again.
        assert_ne!(sandbox.init_pid("a"), before);
    }
    // With a shared pid namespace the kernel ends all of them.
    sandbox.pod("pids", &["--share", "+pid"]);
    sandbox.member("pids", "b", &["guest", "sleep"]);
    kill(sandbox.init_pid(&sandbox.infra("pids")));
    until("the pod to end", || (sandbox.pod_state("pids") == "Exited").then_some(()));
    sandbox.ok(["pod", "start", "pids"]);
    assert_eq!(sandbox.pod_state("pids"), "Running");
}

#[test]
fn a_removed_pod_leaves_nothing() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let file = sandbox.path("work/pod-id");
    let id = sandbox.pod("p", &["--pod-id-file", file.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), id);
    sandbox.ok(["run", "-d", "--pod-id-file", file.to_str().unwrap(), "--name", "a", "guest", "sleep"]);
    let infra = sandbox.infra("p");
    sandbox.coracle(["rm", "-f", &infra]).refused(&["is the infra container of pod p", "coracle pod rm p"]);
    sandbox.coracle(["pod", "rm", "p"]).refused(&["container a is running", "coracle pod stop"]);
    assert_eq!(sandbox.ok(["pod", "rm", "-f", "p"]), id);
    for directory in ["pods", "containers", "names"] {
        assert_eq!(sandbox.entries(directory), Vec::<String>::new(), "{directory}");
    }
    assert_eq!(sandbox.coracle(["pod", "exists", "p"]).code(), 1);
    until("every process to end", || {
        crate::harness::leaks::processes_of(sandbox.root()).is_empty().then_some(())
    });
    sandbox.ok(["pod", "rm", "-i", "p"]);
    // What holds the namespaces does nothing by itself: it keeps no pod.
    sandbox.pod("idle", &[]);
    sandbox.ok(["pod", "start", "idle"]);
    sandbox.ok(["pod", "rm", "idle"]);
    // One that has ended is pruned, one that has not begun is not.
    sandbox.pod("old", &[]);
    sandbox.pod("new", &[]);
    sandbox.ok(["pod", "start", "old"]);
    sandbox.ok(["pod", "stop", "old"]);
    sandbox.ok(["pod", "prune", "-f"]);
    assert_eq!(sandbox.ok(["pod", "ps", "--format", "{{.Name}} {{.Status}}"]), "new Created");
}

#[test]
fn what_a_killed_command_left_is_ended_by_the_next() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let id = sandbox.pod("half", &[]);
    let pods = sandbox.state().join("pods");
    // Killed before it was there for all to see.
    std::fs::rename(pods.join(&id), pods.join(format!(".new-{id}"))).unwrap();
    assert_eq!(sandbox.ok(["pod", "ps", "-q"]), "");
    assert_eq!((sandbox.entries("pods").len(), sandbox.entries("containers").len()), (0, 0));
    // Killed in the middle of its removal.
    let id = sandbox.pod("going", &[]);
    sandbox.member("going", "a", &["guest", "sleep"]);
    let path = pods.join(&id).join("pod.json");
    let text = std::fs::read_to_string(&path).unwrap().replace("\"removing\":false", "\"removing\":true");
    std::fs::write(&path, text).unwrap();
    sandbox.coracle(["pod", "inspect", "going"]).refused(&["no pod with name or ID going"]);
    assert_eq!((sandbox.entries("pods").len(), sandbox.entries("containers").len()), (0, 0));
    // Killed when its directory was out of sight.
    std::fs::create_dir(pods.join(format!(".gone-{id}"))).unwrap();
    sandbox.ok(["pod", "ps"]);
    assert_eq!(sandbox.entries("pods").len(), 0);
}

#[test]
fn a_pod_is_made_with_its_first_container() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.member("new:shop", "a", &["--network", "none", "guest", "sleep"]);
    assert_eq!(sandbox.pod_state("shop"), "Running");
    assert_eq!(sandbox.inspect("a")["Pod"], sandbox.ok(["pod", "inspect", "-f", "{{.Id}}", "shop"]));
    assert_eq!(
        sandbox.ok([
            "ps",
            "--filter",
            "pod=shop",
            "--format",
            "{{.Names}} {{.PodName}}",
            "--filter",
            "name=^a$"
        ]),
        "a shop"
    );
    assert!(sandbox.ok(["ps", "--pod"]).contains("PODNAME"));
    // One that fails takes its pod with it.
    sandbox.coracle(["create", "--pod", "new:bad", "--pull", "never", "nothing"]).refused(&["no such image"]);
    assert_eq!(sandbox.coracle(["pod", "exists", "bad"]).code(), 1);
    let events = sandbox.ok([
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "--filter",
        "type=pod",
        "--format",
        "{{.Action}} {{.Actor.Attributes.name}}",
    ]);
    assert_eq!(events.lines().collect::<Vec<_>>(), ["create shop", "create bad", "remove bad"]);
}

#[test]
fn what_a_pod_is_given_each_of_its_containers_has() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let dir = sandbox.path("work/shared");
    std::fs::create_dir(&dir).unwrap();
    let bind = format!("{}:/bind:ro", dir.display());
    let all = ["-v", &bind, "-v", "named:/named", "-v", "/own", "--device", "/dev/null:/dev/nothing"];
    let options = ["--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined"];
    sandbox.pod("p", &[&all[..], &options].concat());
    std::fs::write(dir.join("file"), "theirs").unwrap();
    sandbox.ok(["run", "--rm", "--pod", "p", "busybox", "sh", "-c", "echo 1 >/named/n; echo 2 >/own/o"]);
    let look = "cat /bind/file /named/n /own/o; touch /bind/x 2>/dev/null || echo read-only; \
                test -c /dev/nothing && echo device; grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status";
    let seen = sandbox.ok(["run", "--rm", "--pod", "p", "busybox", "sh", "-c", look]);
    let words: Vec<&str> = seen.split_whitespace().collect();
    assert_eq!(words, ["theirs1", "2", "read-only", "device", "NoNewPrivs:", "1", "Seccomp:", "0"], "{seen}");
    // What the container says itself counts; the volume of the pod goes with it.
    let own = sandbox.ok(["run", "--rm", "--pod", "p", "-v", "other:/named", "busybox", "ls", "/named"]);
    assert_eq!(own, "");
    let volumes = || sandbox.ok(["volume", "ls", "-q"]).lines().count();
    assert_eq!(volumes(), 3);
    sandbox.coracle(["volume", "rm", "named"]).refused(&["in use"]);
    sandbox.ok(["pod", "rm", "-f", "p"]);
    assert_eq!(volumes(), 2);
    // A policy of the pod's is each container's that is not to be removed at its end.
    sandbox.pod("again", &["--restart", "on-failure:3"]);
    sandbox.ok(["create", "--pod", "again", "--name", "c", "busybox", "true"]);
    sandbox.ok(["create", "--rm", "--pod", "again", "--name", "d", "busybox", "true"]);
    assert_eq!(sandbox.inspect("c")["HostConfig"]["RestartPolicy"]["MaximumRetryCount"], 3);
    assert_eq!(sandbox.inspect("d")["HostConfig"]["RestartPolicy"]["Name"], "no");
}

#[test]
fn what_a_pod_does_not_share_can_be_the_host_s_network_all_the_same() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.ok(["pod", "create", "--name", "p", "--share", "ipc", "--network", "host"]);
    let net = |words: &[&str]| {
        let words = [&["run", "--rm", "--pod", "p"], words, &["guest", "report"]].concat();
        crate::harness::report::Report::parse(&sandbox.coracle(words).ok()).namespaces["net"].clone()
    };
    let host = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(net(&[]), host.to_str().unwrap());
    assert_ne!(net(&["--network", "none"]), host.to_str().unwrap(), "its own flag counts");
}

#[test]
fn the_user_namespace_of_a_pod_is_that_of_its_containers() {
    let Some(sandbox) = sandbox(&[Need::SubIds, Image("busybox")]) else { return };
    let uid = rustix::process::getuid().as_raw().to_string();
    let look = "id -u; stat -c %u /etc/passwd";
    for (pod, words, seen) in [
        ("keep", &["--userns", "keep-id"][..], format!("{uid}\n0")),
        ("bare", &["--userns", "keep-id:uid=200,gid=210", "--share", "none"], "200\n0".to_owned()),
        ("less", &["--userns", "nomap"], "0\n0".to_owned()),
        ("part", &["--uidmap", "0:1:3000"], "0\n0".to_owned()),
        ("host", &["--userns", "host"], "0\n0".to_owned()),
    ] {
        match pod {
            "bare" => sandbox.ok([&["pod", "create", "--name", pod], words].concat()),
            _ => sandbox.pod(pod, words),
        };
        let network: &[&str] = if pod == "bare" { &["--network", "none"] } else { &[] };
        sandbox.member(pod, pod.to_uppercase().as_str(), &[network, &["busybox", "sleep", "1000"]].concat());
        let name = pod.to_uppercase();
        assert_eq!(sandbox.namespace(&name, "user"), sandbox.namespace(&sandbox.infra(pod), "user"), "{pod}");
        let map = |name: &str| {
            std::fs::read_to_string(format!("/proc/{}/uid_map", sandbox.init_pid(name))).unwrap()
        };
        assert_eq!(map(&name), map(&sandbox.infra(pod)), "{pod}");
        assert_eq!(sandbox.ok(["exec", &name, "sh", "-c", look]), seen, "{pod}");
        sandbox.coracle(["create", "--pod", pod, "--userns", "keep-id", "busybox"]).refused(&["in a pod"]);
        sandbox.ok(["pod", "rm", "-f", pod]);
    }
}

#[test]
fn a_pod_without_an_infra_container_shares_nothing_but_its_life() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.ok(["pod", "create", "--infra=false", "--name", "p"]);
    for name in ["a", "b"] {
        sandbox.member("p", name, &["--network", "none", "guest", "sleep"]);
    }
    assert_ne!(sandbox.namespace("a", "net"), sandbox.namespace("b", "net"));
    assert_eq!(sandbox.ok(["pod", "inspect", "-f", "{{.NumContainers}} {{.State}}", "p"]), "2 Running");
    sandbox.ok(["pod", "stop", "-t", "0", "p"]);
    assert_eq!((sandbox.status("a"), sandbox.status("b")), ("exited".into(), "exited".into()));
}

#[test]
fn bad_input_is_refused_before_anything_is_made() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.pod("p", &[]);
    for (words, told) in [
        (&["--name", "p"][..], "already in use"),
        (&["--name", "../x"], "invalid pod name"),
        (&["--share", "user"], "invalid kernel namespace"),
        (&["--share", "cgroup"], "each container sees"),
        (&["--infra=false", "-p", "80"], "without an infra container"),
        (&["--share", "ipc", "-p", "80"], "do not share the namespace net"),
        (&["--exit-policy", "never"], "invalid pod exit policy"),
        (&["--replace"], "without --name"),
        (&["--infra-image", "x"], "no image"),
        (&["--infra=false", "-v", "/a:/b"], "without an infra container"),
        (&["--userns", "container:p"], "a user namespace of its own"),
        (&["--restart", "sometimes"], "sometimes"),
        (&["--network", "nowhere"], "nowhere"),
        (&["--pod-id-file", "/"], "exists already"),
    ] {
        let output = sandbox.coracle([&["pod", "create"], words].concat());
        // Docker has no pods: the codes are podman's.
        output.fails(125, &[told]);
    }
    for (words, told) in [
        (&["--pod", "nobody"][..], "no such pod"),
        (&["--pod", "p", "--network", "none"], "networks must be defined when the pod is created"),
        (&["--pod", "p", "--hostname", "x"], "cannot set hostname"),
        (&["--pod", "p", "--userns", "keep-id"], "one user namespace"),
        (&["--pod", "p", "--cgroups", "disabled"], "outside of the pod's control group"),
        (&["--pod-id-file", "/nowhere"], "/nowhere"),
        (&["--pod", "new:p"], "already in use"),
        (&["--name", "p"], "already in use by pod"),
    ] {
        sandbox.coracle([&["create"], words, &["guest", "sleep"]].concat()).refused(&[told]);
    }
    for words in [
        &["pod", "start"][..],
        &["pod", "stop", "-a", "p"],
        &["pod", "rm", "nobody"],
        &["pod", "ps", "-f", "x=1"],
    ] {
        assert_ne!(sandbox.coracle(words).code(), 0, "{words:?}");
    }
    sandbox.coracle(["pod", "rm", "nobody"]).fails(1, &["no pod with name or ID nobody"]);
    assert_eq!((sandbox.entries("pods").len(), sandbox.entries("containers").len()), (1, 1));
    sandbox.ok(["create", "--name", "c", "guest", "sleep"]);
    sandbox.coracle(["rename", "c", "p"]).refused(&["already in use by pod"]);
    sandbox.ok(["rm", "c"]);
    sandbox.ok(["pod", "create", "--replace", "--name", "p", "--network", "none"]);
    assert_eq!(sandbox.entries("containers").len(), 1);
}

#[test]
fn the_exit_policy_decides_whether_the_last_container_ends_the_pod() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    for (policy, state) in [("stop", "Exited"), ("continue", "Degraded")] {
        sandbox.pod(policy, &["--exit-policy", policy]);
        let (one, other) = (format!("{policy}-1"), format!("{policy}-2"));
        for name in [&one, &other] {
            sandbox.member(policy, name, &["guest", "sleep"]);
        }
        let infra = sandbox.infra(policy);
        sandbox.ok(["stop", "-t", "0", &one]);
        assert_eq!(sandbox.status(&infra), "running", "one is left");
        sandbox.ok(["stop", "-t", "0", &other]);
        until("the pod's state", || (sandbox.pod_state(policy) == state).then_some(()));
    }
}

#[test]
fn limits_without_control_groups_are_refused_with_the_reason_and_else_hold_for_all() {
    let Some(mut sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.set("CORACLE_CGROUPS", "no");
    sandbox.pod("small", &["--memory", "64m"]);
    sandbox.coracle(["pod", "start", "small"]).refused(&["--memory needs the memory controller"]);
    sandbox
        .coracle(["run", "--pod", "small", "guest", "sleep"])
        .refused(&["--memory needs the memory controller"]);
    sandbox.pod("free", &[]);
    sandbox.member("free", "a", &["guest", "sleep"]);
    assert_eq!(sandbox.pod_state("free"), "Running");
    sandbox
        .coracle(["pod", "create", "--cgroup-conf", "memory.high=1"])
        .refused(&["give it to the containers"]);
}

#[test]
fn without_systemd_a_delegated_group_holds_the_groups_of_the_containers() {
    let Some(sandbox) = sandbox(&[Image("guest"), crate::harness::Cgroup]) else { return };
    let id = sandbox.pod("p", &[]);
    sandbox.member("p", "a", &["guest", "sleep"]);
    let groups = [sandbox.infra("p"), "a".to_owned()].map(|name| {
        let text = std::fs::read_to_string(format!("/proc/{}/cgroup", sandbox.init_pid(&name))).unwrap();
        text.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
    });
    let around = format!("/coracle_pod_{}/", &id[..12]);
    assert!(groups.iter().all(|group| group.contains(&around)), "{groups:?}");
    let path = sandbox.ok(["pod", "inspect", "-f", "{{.CgroupPath}}", "p"]);
    assert!(std::path::Path::new(&path).is_dir(), "{path}");
    sandbox.ok(["pod", "stop", "-t", "0", "p"]);
    until("the group to go", || (!std::path::Path::new(&path).exists()).then_some(()));
}
