//! Which namespaces a container has to itself, and the modes that share them.

use crate::harness::{Image, Sandbox, SubIds, sandbox};

/// What `/proc/self/ns/KIND` of this test says, which is the host's.
fn host(kind: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_str().unwrap().to_owned()
}

#[track_caller]
fn inside(sandbox: &Sandbox, options: &[&str], kind: &str) -> String {
    sandbox.report(options).namespaces[kind].clone()
}

#[test]
fn every_namespace_is_the_container_s_own() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let first = sandbox.report(&[]);
    for kind in ["mnt", "pid", "ipc", "uts", "net", "user", "cgroup"] {
        assert_ne!(first.namespaces[kind], host(kind), "{kind} is the host's");
    }
    sandbox.start("a", &["guest", "sleep"]);
    sandbox.start("b", &["guest", "sleep"]);
    let of = |name: &str, kind: &str| {
        std::fs::read_link(format!("/proc/{}/ns/{kind}", sandbox.init_pid(name))).unwrap()
    };
    for kind in ["mnt", "pid", "ipc", "uts", "net", "user"] {
        assert_ne!(of("a", kind), of("b", kind), "{kind} is shared by two containers");
    }
}

#[test]
fn modes_share_the_host_s() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    assert_eq!(inside(&sandbox, &["--pid", "host"], "pid"), host("pid"));
    assert_eq!(inside(&sandbox, &["--ipc", "host"], "ipc"), host("ipc"));
    assert_eq!(inside(&sandbox, &["--uts", "host"], "uts"), host("uts"));
    let words = ["run", "--rm", "--network", "host", "guest", "report"];
    let report = crate::harness::report::Report::parse(&sandbox.coracle(words).ok());
    assert_eq!(report.namespaces["net"], host("net"));
    for flag in ["--pid", "--ipc", "--uts", "--network", "--userns", "--cgroupns"] {
        sandbox.coracle(["run", "--rm", flag, "nonsense", "guest", "report"]).refused(&["nonsense"]);
    }
}

#[test]
fn modes_share_another_container_s() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("other", &["--ipc", "shareable", "guest", "sleep"]);
    let pid = sandbox.init_pid("other");
    let of = |kind: &str| {
        std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().to_str().unwrap().to_owned()
    };
    assert_eq!(inside(&sandbox, &["--pid", "container:other"], "pid"), of("pid"));
    assert_eq!(inside(&sandbox, &["--ipc", "container:other"], "ipc"), of("ipc"));
    assert_eq!(inside(&sandbox, &["--cgroupns", "container:other"], "cgroup"), of("cgroup"));
    let words = ["run", "--rm", "--network", "container:other", "guest", "report"];
    let report = crate::harness::report::Report::parse(&sandbox.coracle(words).ok());
    assert_eq!(report.namespaces["net"], of("net"));
    sandbox.coracle(["run", "--rm", "--network", "container:nobody", "guest", "report"]).refused(&["nobody"]);
    sandbox.ok(["stop", "-t", "0", "other"]);
    sandbox.coracle(["run", "--rm", "--network", "container:other", "guest", "report"]).refused(&["other"]);
}

#[test]
fn a_container_that_has_the_host_s_shares_the_host_s() {
    let Some(sandbox) = sandbox(&[Image("guest"), Image("busybox")]) else { return };
    let modes = ["--network", "--uts", "--pid", "--ipc"];
    let hosts: Vec<&str> = modes.iter().flat_map(|mode| [*mode, "host"]).collect();
    let start = ["run", "-d", "--name", "other"];
    sandbox.ok([&start[..], &hosts, &["guest", "sleep"]].concat());
    let shared: Vec<&str> = modes.iter().flat_map(|mode| [*mode, "container:other"]).collect();
    let words = [&["run", "--rm"], &shared[..], &["guest", "report"]].concat();
    let report = crate::harness::report::Report::parse(&sandbox.coracle(words).ok());
    for kind in ["net", "uts", "pid", "ipc"] {
        assert_eq!(report.namespaces[kind], host(kind), "{kind}");
    }
    assert_ne!(report.namespaces["user"], host("user"));
    // What it leaves behind is ended with it, as with --pid host.
    let script = "sleep 1000 & echo done";
    let words =
        ["run", "--rm", "--network", "none", "--pid", "container:other", "busybox", "sh", "-c", script];
    assert_eq!(sandbox.ok(words), "done");
    let left = crate::harness::leaks::processes_of(sandbox.root());
    assert!(!left.iter().any(|process| process.command.contains("1000")), "it still sleeps");
}

#[test]
fn an_ipc_namespace_of_its_own_is_shared_by_who_shares_it() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("shared", &["guest", "sleep"]);
    sandbox.start("sharing", &["--ipc", "container:shared", "guest", "sleep"]);
    let ipc = inside(&sandbox, &["--ipc", "container:shared"], "ipc");
    assert_eq!(inside(&sandbox, &["--ipc", "container:sharing"], "ipc"), ipc);
    for mode in ["private", "none"] {
        sandbox.start(mode, &["--ipc", mode, "guest", "sleep"]);
        let donor = format!("container:{mode}");
        sandbox
            .coracle(["create", "--ipc", &donor, "guest"])
            .refused(&[&format!("container {mode}: non-shareable IPC"), "--ipc=shareable"]);
    }
    assert!(sandbox.report(&["--ipc", "none"]).mount("/dev/shm").is_none());
    let look = ["--ipc", "none", "guest", "open", "/dev/shm"];
    assert_eq!(sandbox.run(&look).ok().text(), "ENOENT");
}

#[test]
fn any_group_may_ping_without_a_capability() {
    let Some(sandbox) = sandbox(&[Image("guest"), SubIds]) else { return };
    for (options, who) in
        [(&[][..], "1000:1000"), (&[], "0:0"), (&[], "5:65534"), (&["--userns", "keep-id"], "")]
    {
        let user = if who.is_empty() { &[][..] } else { &["--user", who] };
        let words = [&["--cap-drop", "all"], options, user, &["guest", "icmp"]].concat();
        assert_eq!(sandbox.run(&words).ok().text(), "ok", "{options:?} {who}");
    }
}

/// Its files would belong to others there.
#[test]
fn who_shares_the_namespaces_of_another_user_map_has_its_files() {
    let Some(sandbox) = sandbox(&[Image("busybox"), SubIds]) else { return };
    sandbox.start("other", &["--userns", "keep-id", "busybox", "sleep", "1000"]);
    let script =
        "stat -c '%u %g' /bin / /tmp; touch /made; stat -c %u /made; chown 5:6 /made; stat -c '%u %g' /made";
    for mode in ["--network", "--ipc", "--userns"] {
        let words = ["run", "--name", "c", mode, "container:other", "-u", "0", "busybox", "sh", "-c", script];
        let output = sandbox.coracle(words).ok();
        assert_eq!(output.lines(), ["0 0", "0 0", "0 0", "0", "5 6"], "{mode}: {output}");
        // At rest the files belong to the same.
        let archive = sandbox.coracle(["cp", "c:/made", "-"]).ok().stdout;
        // The owners of tar(5), in octal, below a header of pax's.
        let header = &archive[archive.rfind("made\0").unwrap()..];
        let owner = |field: std::ops::Range<usize>| header[field].trim_matches(['\0', ' ', '0']).to_owned();
        assert_eq!([owner(108..116), owner(116..124)], ["5", "6"], "{mode}");
        sandbox.ok(["rm", "c"]);
    }
}

#[test]
fn the_container_s_root_is_not_root_of_the_outer_namespace() {
    let Some(sandbox) = sandbox(&[Image("guest"), SubIds]) else { return };
    let report = sandbox.report(&[]);
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(report.uid(), 0);
    // Seen from the host, container root is the user, whatever lies between.
    sandbox.start("c", &["guest", "sleep"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", sandbox.init_pid("c"))).unwrap();
    let line = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
    assert_eq!(line.split_whitespace().nth(1), Some(uid.to_string().as_str()), "{line}");
    let length: u64 =
        report.uid_map.iter().map(|l| l.split_whitespace().nth(2).unwrap().parse::<u64>().unwrap()).sum();
    assert!(length > 65000, "{:?}", report.uid_map);
}

#[test]
fn keep_id_is_the_user_s_own_id() {
    let Some(sandbox) = sandbox(&[Image("guest"), Image("busybox"), SubIds]) else { return };
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let report = sandbox.report(&["--userns", "keep-id"]);
    assert_eq!((report.uid(), report.gid()), (uid, gid));
    let report = sandbox.report(&["--userns", "keep-id:uid=200,gid=210"]);
    assert_eq!((report.uid(), report.gid()), (200, 210));
    // Files in a bind belong to that user on both sides.
    let folder = sandbox.folder("shared");
    let bind = format!("{}:/mnt", folder.display());
    let output = sandbox
        .run(&["--userns", "keep-id", "-v", &bind, "busybox", "sh", "-c", "touch /mnt/f; stat -c %u /mnt/f"])
        .ok();
    assert_eq!(output.text(), uid.to_string());
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(folder.join("f")).unwrap().uid(), uid);
    // Root is there too, and is not the user.
    let report = sandbox.report(&["--userns", "keep-id", "-u", "0"]);
    assert_eq!(report.uid(), 0);
}

#[test]
fn nomap_leaves_the_user_out() {
    let Some(sandbox) = sandbox(&[Image("guest"), SubIds]) else { return };
    sandbox.ok(["run", "-d", "--network", "none", "--userns", "nomap", "--name", "c", "guest", "sleep"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", sandbox.init_pid("c"))).unwrap();
    let line = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
    let uid = rustix::process::getuid().as_raw().to_string();
    assert_ne!(line.split_whitespace().nth(1), Some(uid.as_str()), "{line}");
}

#[test]
fn auto_gives_containers_ranges_of_their_own() {
    let Some(sandbox) = sandbox(&[Image("guest"), SubIds]) else { return };
    let report = sandbox.report(&["--userns", "auto:size=2048"]);
    let length: u64 =
        report.uid_map.iter().map(|l| l.split_whitespace().nth(2).unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(length, 2048, "{:?}", report.uid_map);
}

#[test]
fn auto_finds_ids_beside_containers_that_have_them_all() {
    let Some(sandbox) = sandbox(&[Image("guest"), SubIds]) else { return };
    sandbox.start("default", &["guest", "sleep"]);
    sandbox.start("kept", &["--userns", "keep-id", "guest", "sleep"]);
    let first = |report: &crate::harness::report::Report| {
        report.uid_map[0].split_whitespace().nth(1).map(str::to_owned)
    };
    sandbox.start("auto", &["--userns", "auto:size=100", "guest", "sleep"]);
    let taken = std::fs::read_to_string(format!("/proc/{}/uid_map", sandbox.init_pid("auto"))).unwrap();
    let report = sandbox.report(&["--userns", "auto:size=100"]);
    // It keeps clear of the other one's, which has ids of its own.
    assert_ne!(first(&report).as_deref(), taken.split_whitespace().nth(1), "{taken}");
    sandbox.ok(["rm", "-f", "-t", "0", "default", "kept", "auto"]);
}

#[test]
fn maps_can_be_written_out() {
    let Some(sandbox) = sandbox(&[Image("guest"), SubIds]) else { return };
    let report = sandbox.report(&["--uidmap", "0:1:1000", "--gidmap", "0:1:1000"]);
    let words: Vec<&str> = report.uid_map[0].split_whitespace().collect();
    assert_eq!((words[0], words[2]), ("0", "1000"), "{:?}", report.uid_map);
    for bad in ["0", "0:1", "a:1:2", "0:1:0", "0:0:99999999", "0:1:10:x"] {
        let output = sandbox.run(&["--uidmap", bad, "guest", "report"]);
        if bad == "0:1" {
            continue; // a length of one
        }
        assert_eq!(output.code(), 125, "{bad}: {output}");
    }
    let overlapping = ["--uidmap", "0:1:10", "--uidmap", "5:20:10"];
    let output = sandbox.run(&[&overlapping[..], &["guest", "report"]].concat());
    assert_eq!(output.code(), 125, "{output}");
}

#[test]
fn containers_of_a_user_share_one_outer_namespace() {
    let Some(sandbox) = sandbox(&[Image("guest"), SubIds]) else { return };
    sandbox.start("a", &["guest", "sleep"]);
    sandbox.start("b", &["guest", "sleep"]);
    let monitors = sandbox.monitors();
    assert_eq!(monitors.len(), 2, "{monitors:?}");
    let of = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    assert_eq!(of(monitors[0]), of(monitors[1]));
    assert_ne!(of(monitors[0]).to_str().unwrap(), host("user"));
}

#[test]
fn nothing_runs_once_the_last_container_has_ended() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("a", &["guest", "sleep"]);
    sandbox.ok(["stop", "-t", "0", "a"]);
    crate::harness::until("every process to end", || {
        crate::harness::leaks::processes_of(sandbox.root()).is_empty().then_some(())
    });
}

#[test]
fn a_user_whom_the_image_does_not_know_is_in_its_passwd() {
    let Some(sandbox) = sandbox(&[SubIds, Image("busybox")]) else { return };
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let name = crate::harness::needs::user_name().unwrap();
    if uid == 1000 {
        eprintln!("the image knows this user: not looked at");
        return;
    }
    let look = |words: &[&str]| {
        let script = "id -un; id -gn; echo $HOME; echo ~";
        sandbox.ok([&["run", "--rm", "-w", "/srv"], words, &["busybox", "sh", "-c", script]].concat())
    };
    assert_eq!(look(&["--userns", "keep-id"]), format!("{name}\n{name}\n/srv\n/srv"));
    // A copy is mounted over the file of a root that cannot be written.
    assert_eq!(look(&["--userns", "keep-id", "--read-only"]), format!("{name}\n{name}\n/srv\n/srv"));
    assert_eq!(look(&["--userns", "keep-id", "-e", "HOME=/mnt"]), format!("{name}\n{name}\n/mnt\n/mnt"));
    assert_eq!(look(&["--userns", "keep-id", "-u", "0"]), "root\nroot\n/root\n/root");
    assert_eq!(look(&["--user", "4242"]), "4242\nroot\n/\n/");
    // The files that are made for it are root's all the same.
    let made = "stat -c %u /etc/hosts /etc/resolv.conf /etc/hostname /run/.containerenv | uniq";
    assert_eq!(sandbox.ok(["run", "--rm", "--userns", "keep-id", "busybox", "sh", "-c", made]), "0");
    // Only what is missing is added, once, and what is there can be replaced.
    let lines = |file: &str| sandbox.ok(["exec", "c", "grep", "-c", "", file]);
    sandbox.start("c", &["--userns", "keep-id", "busybox", "sleep", "1000"]);
    let count = lines("/etc/passwd");
    sandbox.ok(["restart", "-t", "0", "c"]);
    assert_eq!(lines("/etc/passwd"), count);
    let home =
        sandbox.ok(["exec", "-u", "0", "c", "sh", "-c", "sed -i /root/d /etc/passwd; id -un || echo gone"]);
    assert!(home.ends_with("gone"), "{home}");
    let entry = sandbox.run(&[
        "--userns",
        "keep-id",
        "--passwd-entry",
        "me:*:$UID:$GID:x:/mnt:/bin/sh",
        "--group-entry",
        "us:x:$GID:",
        "busybox",
        "tail",
        "-n",
        "1",
        "/etc/passwd",
        "/etc/group",
    ]);
    let entry = entry.ok().stdout;
    assert!(entry.contains(&format!("me:*:{uid}:{gid}:x:/mnt:/bin/sh\n")), "{entry}");
    assert!(entry.contains(&format!("us:x:{gid}:")), "{entry}");
    let of_host = sandbox.run(&["--hostuser", &name, "busybox", "grep", &format!("^{name}:"), "/etc/passwd"]);
    assert!(of_host.ok().stdout.starts_with(&format!("{name}:x:{uid}:{gid}:")));
    let as_one = ["--userns", "keep-id", "--hostuser", &name, "--user", &name, "busybox", "id", "-un"];
    assert_eq!(sandbox.run(&as_one).ok().stdout.trim(), name);
    sandbox.run(&["--hostuser", "no-such-user", "busybox", "true"]).fails(125, &["no such user"]);
    sandbox.run(&["--passwd=false", "--userns", "keep-id", "busybox", "id", "-un"]).fails(1, &["unknown ID"]);
    sandbox.run(&["--passwd=false", "--hostuser", &name, "busybox", "true"]).fails(125, &["--hostuser"]);
    // Of a directory that is used as it is nothing is changed.
    let root = sandbox.path("work/root");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(root.join("etc/passwd"), "root:x:0:0::/:\n").unwrap();
    let root = root.to_str().unwrap();
    sandbox.run(&["--user", "77", "--rootfs", root, "/none"]).fails(127, &["/none"]);
    assert_eq!(std::fs::read_to_string(format!("{root}/etc/passwd")).unwrap(), "root:x:0:0::/:\n");
}
