//! What a container's process may reach: files that were left open, the tool's
//! own binary, sockets, system calls.

use super::{root_directory, run, tree, with_programs, word};
use crate::harness::image::{ImageBuilder, hex};
use crate::harness::report::Report;
use crate::harness::{Sandbox, leaks, sandbox::binary};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;

/// A copy of the tool that this user could change, and so its containers.
fn own_copy(sandbox: &Sandbox) -> PathBuf {
    let copy = sandbox.path("work/coracle");
    std::fs::copy(binary(), &copy).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

fn output(command: Command) -> crate::harness::Output {
    crate::harness::process::Running::start(command).wait()
}

#[test]
fn cve_2019_5736_a_container_cannot_change_the_tool() {
    let Some(sandbox) = with_programs() else { return };
    let copy = own_copy(&sandbox);
    let root = root_directory(&sandbox, "root");
    std::fs::write(root.join("bin/evil"), "#!/proc/self/exe --version\n").unwrap();
    std::fs::set_permissions(root.join("bin/evil"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("/proc/self/exe", root.join("bin/link")).unwrap();
    // The tool's dynamic loader, where it has one, is the image's.
    for folder in ["lib", "lib64"] {
        std::fs::create_dir(root.join(folder)).unwrap();
        for loader in ["ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"] {
            std::fs::copy(root.join("bin/guest"), root.join(folder).join(loader)).unwrap();
        }
    }
    let before = (hex(&std::fs::read(&copy).unwrap()), copy.metadata().unwrap().mode());
    let unchanged = |what: &str| {
        let meta = copy.metadata().unwrap();
        assert_eq!((hex(&std::fs::read(&copy).unwrap()), meta.mode()), before, "{what}");
    };
    let tool = |options: &[&str], words: &[&str]| {
        let mut command = sandbox.command(&copy);
        command.args(["run", "--rm", "--network", "none"]).args(options);
        command.args(["--rootfs", word(&root)]).args(words);
        output(command)
    };
    for program in ["/bin/evil", "/bin/link", "/proc/self/exe"] {
        tool(&[], &[program]);
        unchanged(program);
    }
    // With the host's processes in sight: its monitor is the parent. A busy
    // binary cannot be opened for writing anyway, but its mode could be changed
    // and a descriptor be kept until it ends.
    let script =
        "echo in; exe=/proc/$PPID/exe; /bin/guest open $exe; exec 9<$exe; /bin/guest open /proc/self/fd/9
        /bin/busybox chmod 4777 $exe && echo changed; /bin/busybox chmod 4777 /proc/self/fd/9 && echo changed
        /bin/busybox touch -d @0 /proc/self/fd/9 && echo changed
        /bin/busybox mount -o remount,rw,bind $exe && echo remounted";
    for options in [
        &["--pid", "host"][..],
        &["--pid", "host", "--privileged"],
        &["--pid", "host", "--privileged", "--userns", "host"],
        &["--pid", "host", "--cap-add", "SYS_PTRACE"],
    ] {
        let said = tool(options, &["/bin/busybox", "sh", "-c", script]);
        assert!(said.stdout.starts_with("in\n"), "{options:?}: {said}");
        for bad in ["ok", "changed", "remounted"] {
            assert!(!said.stdout.lines().any(|line| line == bad), "{options:?}: {said}");
        }
        unchanged(&format!("{options:?}"));
    }
}

/// The class of CVE-2024-21626 and CVE-2016-9962: also of what the caller left open.
#[test]
fn cve_2016_9962_only_stdin_stdout_and_stderr_are_open() {
    let Some(sandbox) = with_programs() else { return };
    let root = root_directory(&sandbox, "root");
    for options in [
        &[][..],
        &["-i"],
        &["-t"],
        &["--init"],
        &["--privileged"],
        &["--log-driver", "passthrough"],
        &["--pid", "host"],
    ] {
        let mut command = sandbox.command("bash");
        command.args(["-c", "exec 5</etc 7</ 63</proc/self/ns/mnt 200</etc/passwd; exec \"$@\"", "bash"]);
        command.arg(binary()).args(["run", "--rm", "--network", "none"]).args(options);
        command.args(["--rootfs", word(&root), "/bin/guest", "report"]);
        let report = Report::parse(&output(command).ok());
        let open: Vec<&str> = report.fds.keys().map(String::as_str).collect();
        assert_eq!(open, ["0", "1", "2"], "{options:?}: {:?}", report.fds);
        for target in report.fds.values() {
            let harmless = ["pipe:", "/dev/null", "/dev/pts/", "/dev/console"]
                .iter()
                .any(|kind| target.starts_with(kind));
            assert!(harmless, "{options:?}: {:?}", report.fds);
        }
    }
}

#[test]
fn cve_2020_15257_no_socket_is_abstract() {
    let Some(sandbox) = with_programs() else { return };
    let root = root_directory(&sandbox, "root");
    sandbox.ok([
        "run",
        "-d",
        "--name",
        "c",
        "--network",
        "host",
        "--rootfs",
        word(&root),
        "/bin/guest",
        "sleep",
    ]);
    let mut inodes = Vec::new();
    let mut monitors = 0;
    for process in leaks::processes_of(sandbox.root()) {
        let Ok(fds) = std::fs::read_dir(format!("/proc/{}/fd", process.pid)) else { continue };
        monitors += usize::from(process.command.contains("--monitor"));
        for fd in fds.flatten() {
            let target = std::fs::read_link(fd.path()).unwrap_or_default().display().to_string();
            inodes.extend(
                target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')).map(str::to_owned),
            );
        }
    }
    assert!(monitors == 1 && !inodes.is_empty(), "{monitors} monitors, sockets {inodes:?}");
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap();
    for line in sockets.lines() {
        // Num RefCount Protocol Flags Type St Inode Path: proc_net(5).
        let words: Vec<&str> = line.split_whitespace().collect();
        let ours = words.get(6).is_some_and(|inode| inodes.iter().any(|own| own == inode))
            || line.contains("coracle");
        assert!(!(ours && words.get(7).is_some_and(|path| path.starts_with('@'))), "{line}");
    }
}

fn refused_calls(calls: &[&str], options: &[&str]) {
    let Some(sandbox) = with_programs() else { return };
    let root = root_directory(&sandbox, "root");
    let rest = ["--rootfs", word(&root), "/bin/guest", "syscalls"];
    let said = run(&sandbox, &[options, &rest, calls, &["getpid"]].concat()).ok();
    assert_eq!(said.lines().len(), calls.len() + 1, "a call that the guest does not know: {said}");
    for line in said.lines() {
        let (call, answer) = line.split_once(' ').unwrap();
        let expected: &[&str] = if call == "getpid" { &["ok"] } else { &["EPERM", "ENOSYS", "EAFNOSUPPORT"] };
        assert!(expected.contains(&answer), "{line}");
    }
}

#[test]
fn cve_2026_31431_calls_with_a_record_of_kernel_holes_are_refused() {
    refused_calls(
        &[
            "socket_alg",
            "socket_vsock",
            "keyctl",
            "add_key",
            "request_key",
            "userfaultfd",
            "bpf",
            "perf_event_open",
            "io_uring_setup",
            "kexec_load",
            "init_module",
            "finit_module",
            "unshare_newuser",
            "clone_newuser",
            "open_by_handle_at",
            "personality_odd",
        ],
        &[],
    );
}

#[test]
fn cve_2022_0185_cve_2022_0492_mounts_are_refused() {
    refused_calls(
        &[
            "mount",
            "umount2",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "move_mount",
            "open_tree",
            "mount_setattr",
            "pivot_root",
            "setns",
            "unshare_newns",
        ],
        &[],
    );
}

/// runc put namespaces into a netlink message whose length wrapped.
#[test]
fn cve_2021_43784_a_large_configuration_drops_no_namespace() {
    let Some(sandbox) = with_programs() else { return };
    let root = root_directory(&sandbox, "root");
    let mut words: Vec<String> = Vec::new();
    for number in 0..60 {
        words.extend(["-e".into(), format!("LARGE{number}={}", "x".repeat(2000))]);
        words.extend(["--label".into(), format!("large{number}={}", "y".repeat(2000))]);
    }
    for number in 0..100 {
        words.extend(["--tmpfs".into(), format!("/t{number}-{}", "d".repeat(200))]);
    }
    let options: Vec<&str> = words.iter().map(String::as_str).collect();
    let rest = ["--rootfs", word(&root), "/bin/guest", "report"];
    let report = Report::parse(&run(&sandbox, &[&options[..], &rest].concat()).ok());
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user"] {
        let host = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(report.namespaces[kind], host.display().to_string(), "{kind}");
    }
    assert!(report.mount(&format!("/t99-{}", "d".repeat(200))).is_some());
    // The kernel takes 340 lines of a map: user_namespaces(7).
    let mut words: Vec<String> = Vec::new();
    for number in 0..400 {
        words.extend(["--uidmap".into(), format!("{number}:{number}:1")]);
    }
    let options: Vec<&str> = words.iter().map(String::as_str).collect();
    run(&sandbox, &[&options[..], &rest].concat()).refused(&[]);
}

/// apptainer's CVE-2023-38496 and its kin were options that did nothing.
#[test]
fn cve_2023_38496_security_options_that_cannot_be_applied_are_errors() {
    let Some(sandbox) = with_programs() else { return };
    let root = root_directory(&sandbox, "root");
    let broken = sandbox.file("broken.json", "{");
    let unknown = sandbox.file("unknown.json", r#"{"defaultAction":"SCMP_ACT_MAYBE"}"#);
    let (broken, unknown) = (format!("seccomp={}", word(&broken)), format!("seccomp={}", word(&unknown)));
    for options in [
        ["--security-opt", "apparmor=docker-default"],
        ["--security-opt", "label=type:spc_t"],
        ["--security-opt", "seccomp=/no/such/file"],
        ["--security-opt", &broken],
        ["--security-opt", &unknown],
        ["--security-opt", "no-new-privileges=maybe"],
        ["--security-opt", "nonsense"],
        ["--cap-drop", "NO_SUCH_CAP"],
        ["--cap-add", "NO_SUCH_CAP"],
        ["--sysctl", "kernel.panic=1"],
        ["--sysctl", "vm.overcommit_memory=1"],
        ["--ulimit", "nonsense=1"],
    ] {
        let rest = ["--rootfs", word(&root), "/bin/busybox", "true"];
        run(&sandbox, &[&options[..], &rest].concat()).refused(&[]);
    }
    // The same options that can be applied, are.
    let said = |options: &[&str]| {
        let rest = ["--rootfs", word(&root), "/bin/guest", "report"];
        Report::parse(&run(&sandbox, &[options, &rest].concat()).ok())
    };
    assert_eq!(said(&["--security-opt", "no-new-privileges"]).status("NoNewPrivs"), "1");
    assert_eq!(said(&["--cap-drop", "ALL"]).capabilities("CapBnd"), 0);
    assert_eq!(said(&["--oom-score-adj", "500"]).oom_score_adj, ["500"]);
    assert_eq!(said(&["--oom-score-adj", "500", "--pid", "host"]).oom_score_adj, ["500"]);
    assert_eq!(said(&[]).status("Seccomp"), "2");
}

#[test]
fn cve_2021_41091_cve_2024_25621_the_store_is_private_whatever_the_umask() {
    for umask in ["0000", "0077", "0777"] {
        let Some(sandbox) = with_programs() else { return };
        let archive = sandbox.file("image.tar", ImageBuilder::with_programs().archive("plain"));
        let with_umask = |words: &[&str]| {
            let mut command = sandbox.command("sh");
            command.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"]).arg(binary()).args(words);
            output(command).ok()
        };
        with_umask(&["load", "-i", word(&archive)]);
        with_umask(&["run", "-d", "--network", "none", "-v", "data:/data", "plain", "guest", "sleep"]);
        for folder in ["data/coracle", "state/coracle", "run/coracle"] {
            let folder = sandbox.path(folder);
            let mode = folder.metadata().unwrap().mode() & 0o7777;
            assert_eq!(mode, 0o700, "{} under umask {umask}", folder.display());
        }
        // What is ours below, and not a container's files.
        for (path, said) in tree(&sandbox.path("state/coracle")) {
            let relative = path.strip_prefix(sandbox.path("state/coracle")).unwrap();
            let depth = relative.components().count();
            let mode = path.symlink_metadata().map_or(0, |meta| meta.mode());
            assert!(depth > 2 || mode & 0o022 == 0, "{}: {said}", path.display());
        }
    }
}
