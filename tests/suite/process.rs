//! The first process: its words, environment, ids, capabilities, limits, filter.

use crate::harness::image::ImageBuilder;
use crate::harness::process::Running;
use crate::harness::{Image, Output, Sandbox, SubIds, binary, needs, sandbox};
use serde_json::json;

/// Podman's default set: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE,
/// SYS_CHROOT, SETFCAP.
const DEFAULT_CAPABILITIES: u64 = 0x8004_05fb;

#[test]
fn the_environment_is_the_image_s_and_what_was_asked_for() {
    let Some(mut sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.set("FROM_HOST", "host value");
    sandbox.set("SECRET", "not for the container");
    let file = sandbox.file("env", "# a comment\n\nFILE=from file\nFROM_HOST\nQUOTED=\"kept\"\nB=file\n");
    let report = sandbox.report(&[
        "--env-file",
        file.to_str().unwrap(),
        "-e",
        "A=1",
        "-e",
        "B=2",
        "-e",
        "A=3",
        "-e",
        "FROM_HOST",
        "-e",
        "UNSET_ON_HOST",
    ]);
    assert_eq!(report.env("PATH"), Some("/bin"));
    assert_eq!(report.env("A"), Some("3"));
    assert_eq!(report.env("B"), Some("2"));
    assert_eq!(report.env("FILE"), Some("from file"));
    assert_eq!(report.env("QUOTED"), Some("\"kept\""));
    assert_eq!(report.env("FROM_HOST"), Some("host value"));
    assert_eq!(report.env("UNSET_ON_HOST"), None);
    assert_eq!(report.env("SECRET"), None);
    assert!(report.env("HOSTNAME").is_some_and(|name| name == report.hostname), "{:?}", report.env);
    assert!(report.env("HOME").is_some(), "{:?}", report.env);
    assert_eq!(report.env("TERM"), None, "only with a terminal");
    for name in ["XDG_RUNTIME_DIR", "CORACLE_TEST_SANDBOX", "USER"] {
        assert_eq!(report.env(name), None, "{name}");
    }
}

#[test]
fn the_host_s_environment_goes_below_the_image_s_where_that_is_asked_for() {
    let Some(mut sandbox) = sandbox(&[Image("guest")]) else { return };
    for (name, value) in [("EDITOR", "ed"), ("A", "host's"), ("https_proxy", "http://10.0.0.1:3128")] {
        sandbox.set(name, value);
    }
    let report = sandbox.report(&[]);
    assert_eq!(report.env("https_proxy"), Some("http://10.0.0.1:3128"));
    assert_eq!((report.env("EDITOR"), report.env("A")), (None, None));
    assert_eq!(sandbox.report(&["--http-proxy=false"]).env("https_proxy"), None);
    assert_eq!(sandbox.report(&["--unsetenv", "https_proxy"]).env("https_proxy"), None);
    let merge = ["--env-merge", "PATH=$PATH:/opt/bin", "--env-merge", "B=${NONE:-none}"];
    let report = sandbox.report(&[&["--env-host", "-e", "A=flag"], &merge[..]].concat());
    assert_eq!(report.env("PATH"), Some("/bin:/opt/bin"), "the image's");
    assert_eq!((report.env("EDITOR"), report.env("A")), (Some("ed"), Some("flag")));
    assert_eq!(report.env("B"), Some("none"));
    assert_ne!(report.env("HOME"), sandbox.path("home").to_str());
    sandbox.run(&["--env-merge", "A=${B", "guest", "report"]).refused(&["--env-merge", "${NAME}"]);
}

#[test]
fn a_terminal_brings_term() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    assert_eq!(sandbox.run(&["-t", "busybox", "sh", "-c", "echo $TERM"]).ok().text(), "xterm");
    assert_eq!(
        sandbox.run(&["-t", "-e", "TERM=vt100", "busybox", "sh", "-c", "echo $TERM"]).ok().text(),
        "vt100"
    );
}

#[test]
fn home_is_the_user_s() {
    let Some(sandbox) = sandbox(&[Image("busybox"), SubIds]) else { return };
    let home =
        |user: &str| sandbox.run(&["-u", user, "busybox", "sh", "-c", "echo $HOME"]).ok().text().to_owned();
    assert_eq!(home("root"), "/root");
    assert_eq!(home("app"), "/home/app");
    assert_eq!(home("4711"), "/");
}

#[test]
fn entrypoint_and_command_combine_as_docker_s_do() {
    let Some(sandbox) = sandbox(&[Image("guest"), Image("busybox")]) else { return };
    ImageBuilder::with_programs()
        .config("Entrypoint", json!(["/bin/echo", "entry"]))
        .config("Cmd", json!(["default"]))
        .load(&sandbox, "both");
    let said = |words: &[&str]| sandbox.run(words).ok().text().to_owned();
    assert_eq!(said(&["both"]), "entry default");
    assert_eq!(said(&["both", "own", "words"]), "entry own words");
    assert_eq!(said(&["--entrypoint", "/bin/echo", "both", "x"]), "x");
    assert_eq!(
        said(&["--entrypoint", "/bin/echo", "both"]),
        "",
        "the image's command goes with its entrypoint"
    );
    assert_eq!(said(&["--entrypoint", "", "both", "/bin/echo", "plain"]), "plain");
    assert_eq!(said(&["--entrypoint", r#"["/bin/echo","a b"]"#, "both", "c"]), "a b c");
    // What follows the image is never read as a flag.
    assert_eq!(said(&["both", "--name", "-e", "--", "x"]), "entry --name -e -- x");
    ImageBuilder::with_programs().load(&sandbox, "neither");
    sandbox.run(&["neither"]).refused(&["command"]);
}

#[test]
fn the_working_folder_is_made_where_it_is_missing() {
    let Some(sandbox) = sandbox(&[Image("guest"), Image("busybox")]) else { return };
    assert_eq!(sandbox.report(&[]).cwd, "/");
    assert_eq!(sandbox.report(&["-w", "/new/folder"]).cwd, "/new/folder");
    ImageBuilder::with_programs().config("WorkingDir", json!("/srv/app")).load(&sandbox, "wd");
    assert_eq!(sandbox.run(&["wd", "sh", "-c", "pwd"]).ok().text(), "/srv/app");
    assert_eq!(sandbox.run(&["-w", "/tmp", "wd", "sh", "-c", "pwd"]).ok().text(), "/tmp");
    sandbox.run(&["-w", "relative", "wd", "pwd"]).refused(&["relative"]);
    sandbox.run(&["-w", "/etc/passwd/x", "busybox", "pwd"]).refused(&["/etc/passwd"]);
}

#[test]
fn every_form_of_user_means_what_it_says() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest"), SubIds]) else { return };
    let guest = needs::image_dir("guest").unwrap().join("rootfs/bin/guest");
    let bind = format!("{}:/guest:ro", guest.display());
    let report = |user: &str| {
        let output = sandbox.run(&["-v", &bind, "-u", user, "busybox", "/guest", "report"]).ok();
        let report = crate::harness::report::Report::parse(&output);
        (report.uid(), report.gid(), report.groups())
    };
    assert_eq!(report("0"), (0, 0, vec![0, 10]));
    assert_eq!(report("root"), (0, 0, vec![0, 10]));
    assert_eq!(report("app"), (1000, 1000, vec![100, 1000, 2000]));
    assert_eq!(report("1000"), (1000, 1000, vec![100, 1000, 2000]));
    // With a group that is asked for, the user's others are not taken: docker, podman and runc agree.
    assert_eq!(report("app:extra").0, 1000);
    assert_eq!(report("app:extra").1, 2000);
    assert_eq!(report("app:33").1, 33);
    let (uid, gid, groups) = report("4711");
    assert_eq!((uid, gid), (4711, 0), "a number without an entry has the group 0");
    assert!(groups.is_empty() || groups == [0], "{groups:?}");
    let (uid, gid, _) = report("4711:4712");
    assert_eq!((uid, gid), (4711, 4712));
    for bad in [
        "nobody-here",
        "app:no-group",
        "-1",
        "1:-1",
        "4294967296",
        "2147483648:0",
        "4294967295",
        " 1",
        "1 ",
        "1:2:3",
        "0x10",
        "+1",
    ] {
        let output = sandbox.run(&["-u", bad, "busybox", "id"]);
        assert_eq!(output.code(), 125, "{bad:?}: {output}");
    }
}

#[test]
fn groups_are_added_by_name_and_number() {
    let Some(sandbox) = sandbox(&[Image("busybox"), SubIds]) else { return };
    let groups = |options: &[&str]| {
        let output = sandbox.run(&[options, &["busybox", "id", "-G"]].concat()).ok();
        let mut groups: Vec<u32> = output.text().split(' ').map(|g| g.parse().unwrap()).collect();
        groups.sort_unstable();
        groups
    };
    assert_eq!(groups(&["-u", "33", "--group-add", "extra", "--group-add", "4242"]), [33, 2000, 4242]);
    sandbox.run(&["--group-add", "no-such-group", "busybox", "id"]).refused(&["no-such-group"]);
}

#[test]
fn capabilities_are_podman_s_by_default() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let report = sandbox.report(&[]);
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(report.capabilities(set), DEFAULT_CAPABILITIES, "{set} {:x}", report.capabilities(set));
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(report.capabilities(set), 0, "{set}");
    }
    assert_eq!(report.status("NoNewPrivs"), "0");
    assert_eq!(report.status("Seccomp"), "2");
}

#[test]
fn capabilities_are_added_and_dropped() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    const NET_ADMIN: u64 = 1 << 12;
    const CHOWN: u64 = 1;
    let effective = |options: &[&str]| sandbox.report(options).capabilities("CapEff");
    assert_eq!(effective(&["--cap-drop", "all"]), 0);
    assert_eq!(effective(&["--cap-drop", "ALL", "--cap-add", "chown"]), CHOWN);
    assert_eq!(effective(&["--cap-add", "NET_ADMIN"]), DEFAULT_CAPABILITIES | NET_ADMIN);
    assert_eq!(
        effective(&["--cap-add", "CAP_NET_ADMIN", "--cap-drop", "cap_chown"]),
        (DEFAULT_CAPABILITIES | NET_ADMIN) & !CHOWN
    );
    assert!(effective(&["--cap-add", "all"]) > 1 << 39);
    assert!(effective(&["--privileged"]) > 1 << 39);
    for flag in ["--cap-add", "--cap-drop"] {
        sandbox.run(&[flag, "NO_SUCH", "guest", "report"]).refused(&["NO_SUCH"]);
    }
}

#[test]
fn a_user_who_is_not_root_has_no_capabilities() {
    let Some(sandbox) = sandbox(&[Image("guest"), SubIds]) else { return };
    let report = sandbox.report(&["-u", "1000"]);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(report.capabilities(set), 0, "{set}");
    }
    assert_eq!(report.capabilities("CapBnd"), DEFAULT_CAPABILITIES);
    // But one that is asked for is given, as podman gives it.
    let report = sandbox.report(&["-u", "1000", "--cap-add", "NET_BIND_SERVICE"]);
    assert_eq!(report.capabilities("CapInh") & !(1 << 10), 0);
}

#[test]
fn no_new_privileges_is_on_when_asked_for() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    for spelling in ["no-new-privileges", "no-new-privileges=true", "no-new-privileges:true"] {
        assert_eq!(sandbox.report(&["--security-opt", spelling]).status("NoNewPrivs"), "1", "{spelling}");
    }
    assert_eq!(sandbox.report(&["--security-opt", "no-new-privileges:false"]).status("NoNewPrivs"), "0");
}

/// What the default profile refuses, and with which errno; podman 4.3's answers,
/// but for AF_ALG (refused since CVE-2026-31431) and io_uring.
#[test]
fn the_filter_refuses_what_a_container_has_no_business_with() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let output = sandbox.run(&["guest", "syscalls", "all"]).ok();
    let answer = |name: &str| {
        let line = output.lines().into_iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}: {output}")).to_owned()
    };
    let refused = [
        "acct",
        "add_key",
        "bpf",
        "clock_settime",
        "clone_newuser",
        "delete_module",
        "finit_module",
        "fsconfig",
        "fsmount",
        "fsopen",
        "fspick",
        "init_module",
        "kexec_load",
        "keyctl",
        "lookup_dcookie",
        "mount",
        "mount_setattr",
        "move_mount",
        "open_by_handle_at",
        "open_tree",
        "perf_event_open",
        "personality_odd",
        "pivot_root",
        "quotactl",
        "reboot",
        "request_key",
        "setns",
        "settimeofday",
        "socket_netlink_audit",
        "swapoff",
        "swapon",
        "syslog",
        "umount2",
        "unshare_newns",
        "unshare_newuser",
        "userfaultfd",
        "vhangup",
    ];
    for name in refused {
        let said = answer(name);
        assert!(
            said == "EPERM" || said == "ENOSYS" || (name == "socket_netlink_audit" && said == "EINVAL"),
            "{name}: {said}"
        );
    }
    // glibc falls back to clone(2) on this, and on nothing else.
    assert_eq!(answer("clone3"), "ENOSYS");
    assert!(
        ["EPERM", "EAFNOSUPPORT", "EACCES"].contains(&answer("socket_alg").as_str()),
        "{}",
        answer("socket_alg")
    );
    for name in ["io_uring_setup"] {
        assert!(["EPERM", "ENOSYS"].contains(&answer(name).as_str()), "{name}: {}", answer(name));
    }
    assert_eq!(answer("getpid"), "ok");
    assert_eq!(answer("socket_inet"), "ok");
    assert_eq!(answer("unshare_files"), "ok");
    assert_eq!(answer("chroot"), "EFAULT", "SYS_CHROOT is a default capability");
}

#[test]
fn the_filter_can_be_left_out_or_be_one_s_own() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let report = sandbox.report(&["--security-opt", "seccomp=unconfined"]);
    assert_eq!(report.status("Seccomp"), "0");
    let profile = sandbox.file(
        "profile.json",
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["getpid"],"action":"SCMP_ACT_ERRNO","errnoRet":95}]}"#,
    );
    let option = format!("seccomp={}", profile.display());
    let output = sandbox.run(&["--security-opt", &option, "guest", "syscalls", "getpid", "socket_inet"]).ok();
    assert_eq!(output.lines(), ["getpid EOPNOTSUPP", "socket_inet ok"]);
    for bad in ["{", "[]", r#"{"defaultAction":"SCMP_ACT_NONSENSE"}"#] {
        let profile = sandbox.file("bad.json", bad);
        sandbox
            .run(&["--security-opt", &format!("seccomp={}", profile.display()), "guest", "report"])
            .refused(&[]);
    }
    sandbox.run(&["--security-opt", "seccomp=/no/such/file", "guest", "report"]).refused(&["/no/such/file"]);
    sandbox.run(&["--security-opt", "nonsense", "guest", "report"]).refused(&["nonsense"]);
}

/// The set-up has more files open than that.
#[test]
fn a_low_limit_of_open_files_is_the_command_s_alone() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    for more in [&[][..], &["--init"], &["-t"], &["--user", "1000"]] {
        let words = [&["--ulimit", "nofile=5:6"], more, &["busybox", "sh", "-c", "ulimit -n"]].concat();
        assert_eq!(sandbox.run(&words).ok().text(), "5", "{more:?}");
    }
    sandbox.start("low", &["--ulimit", "nofile=5:6", "busybox", "sleep", "1000"]);
    assert_eq!(sandbox.ok(["exec", "low", "sh", "-c", "ulimit -n"]), "5");
}

#[test]
fn limits_are_set() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let report =
        sandbox.report(&["--ulimit", "nofile=64:128", "--ulimit", "core=0", "--ulimit", "nproc=100"]);
    assert_eq!(report.limit("Max open files"), ("64".into(), "128".into()));
    assert_eq!(report.limit("Max core file size"), ("0".into(), "0".into()));
    assert_eq!(report.limit("Max processes"), ("100".into(), "100".into()));
    // As much as there is to have.
    let (_, most) = sandbox.report(&["--ulimit", "host"]).limit("Max open files");
    let all = sandbox.report(&["--ulimit", "nofile=-1"]);
    assert_eq!(all.limit("Max open files"), (most.clone(), most));
    for bad in ["nofile", "nofile=x", "nofile=2:1", "nosuch=1", "nofile=-2"] {
        let output = sandbox.run(&["--ulimit", bad, "guest", "report"]);
        assert_eq!(output.code(), 125, "{bad}: {output}");
    }
}

#[test]
fn the_state_of_the_caller_does_not_leak_in() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let mut command = sandbox.command("sh");
    command
        .args(["-c", "umask 077; trap '' USR1; exec \"$0\" run --rm --network none guest report"])
        .arg(crate::harness::sandbox::binary());
    let output = crate::harness::process::Running::start(command).wait().ok();
    let report = crate::harness::report::Report::parse(&output);
    assert_eq!(report.umask, 0o022);
    for mask in ["SigBlk", "SigIgn"] {
        assert_eq!(report.status(mask), "0000000000000000", "{mask}");
    }
    assert_eq!(report.pid, 1);
    assert_eq!(report.ppid, 0);
    assert_eq!(sandbox.report(&["--umask", "0027"]).umask, 0o027);
    sandbox.run(&["--umask", "9", "guest", "report"]).refused(&["9"]);
}

#[test]
fn oom_score_is_set() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    assert_eq!(sandbox.report(&["--oom-score-adj", "500"]).oom_score_adj, ["500"]);
    sandbox.run(&["--oom-score-adj", "1001", "guest", "report"]).refused(&["1001"]);

    // Less than the kernel allows: podman's warning, and the caller's own.
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().to_owned();
    let words = ["--network", "none", "--oom-score-adj", "-1000", "--name", "c", "guest", "sleep"];
    let output = sandbox.coracle([&["run", "-d"], &words[..]].concat()).ok();
    let told = format!("Requested oom_score_adj=-1000 is lower than the current one, changing to {own}");
    assert!(output.stderr.contains(&told), "{output}");
    assert_eq!(sandbox.ok(["exec", "c", "guest", "exit", "0"]), "");
    let pid = sandbox.init_pid("c");
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim(), own);
}

#[test]
fn a_process_is_shown_the_kernel_that_it_asks_for() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let plain = rustix::system::uname().machine().to_string_lossy().into_owned();
    // personality(2): what `uname -m` is on a kernel of 32 bits.
    let narrow = if plain == "x86_64" { "i686" } else { "armv8l" };
    for (persona, machine) in [("LINUX32", narrow), ("linux32", narrow), ("LINUX", plain.as_str())] {
        let output = sandbox.run(&["--personality", persona, "busybox", "uname", "-m"]).ok();
        assert_eq!(output.text(), machine, "{persona}");
    }
    let run = ["run", "-d", "--name", "narrow", "--network", "none", "--personality", "LINUX32"];
    sandbox.ok([&run[..], &["busybox", "sleep", "1000"]].concat());
    assert_eq!(sandbox.ok(["exec", "narrow", "uname", "-m"]).trim_end(), narrow, "a further command");
    sandbox.run(&["--personality", "BSD", "busybox", "true"]).refused(&["BSD", "LINUX32"]);
}

#[test]
fn the_time_zone_is_set() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    if !std::path::Path::new("/usr/share/zoneinfo/Asia/Tokyo").exists() {
        println!("skipped: no zoneinfo");
        return;
    }
    let output = sandbox.run(&["--tz", "Asia/Tokyo", "busybox", "readlink", "/etc/localtime"]);
    let date = sandbox.run(&["--tz", "Asia/Tokyo", "busybox", "date", "+%z"]);
    assert!(output.code() == 0 || date.code() == 0, "{output}{date}");
    sandbox.run(&["--tz", "No/Where", "busybox", "date"]).refused(&["No/Where"]);
    sandbox.run(&["--tz", "../../etc/passwd", "busybox", "date"]).refused(&["../../etc/passwd"]);
}

/// As started by a shell, which may have set `before`.
fn started_by_shell(sandbox: &Sandbox, before: &str, words: &[&str]) -> Output {
    let mut command = sandbox.command("sh");
    command.arg("-c").arg(format!("{before}; exec \"$0\" \"$@\"")).arg(binary()).args(words);
    Running::start(command).wait()
}

#[test]
fn files_of_names_can_be_read_by_all_whatever_the_umask() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let script = "stat -c %a /etc/hosts /etc/hostname /etc/resolv.conf /run/.containerenv /deep /deep/er /w";
    let words = ["run", "--rm", "--network", "none", "-u", "1000", "-v", "/deep/er", "-w", "/w", "busybox"];
    let output = started_by_shell(&sandbox, "umask 077", &[&words[..], &["sh", "-c", script]].concat()).ok();
    assert_eq!(output.lines(), ["644", "644", "644", "644", "755", "755", "755"], "{output}");
    // What cp mounts for a container that does not run, too.
    sandbox.ok(["create", "--name", "c", "-v", "/far/off", "busybox", "stat", "-c", "%a", "/far"]);
    started_by_shell(&sandbox, "umask 077", &["cp", "c:/etc/passwd", "-"]).ok();
    assert_eq!(sandbox.ok(["start", "-a", "c"]), "755");
}

/// A supervisor may ignore the end of its children, and leave that to them.
#[test]
fn an_ignored_sigchld_is_no_obstacle() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let words = ["run", "--rm", "--network", "none", "guest", "report"];
    started_by_shell(&sandbox, "trap '' CHLD", &words).ok();
}

#[test]
fn a_relative_home_is_refused() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let before = "unset XDG_STATE_HOME; HOME=here; export HOME";
    started_by_shell(&sandbox, before, &["run", "--rm", "guest", "report"])
        .refused(&["HOME=here is not an absolute path"]);
}
