//! Who the container's process is, by an image that lies about it.

use super::{root_directory, run, with_programs, word};
use crate::harness::image::{ImageBuilder, Layer};
use crate::harness::report::Report;
use crate::harness::{Need, Output, Sandbox, needs};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh
web:x:1000:1000::/home/web:/bin/sh
1:x:0:0::/root:/bin/sh
2147483648:x:0:0::/root:/bin/sh
4294967296:x:0:0::/root:/bin/sh
4294967297:x:0:0::/root:/bin/sh
99999999999999999999:x:0:0::/root:/bin/sh
-1:x:0:0::/root:/bin/sh
+5:x:0:0::/root:/bin/sh
wrap:x:4294967296:0::/root:/bin/sh
empty:x:::::
";
const GROUP: &str = "root:x:0:\nweb:x:1000:\naudio:x:29:web\nvideo:x:44:web,other\nwheel:x:10:other\n";

/// A root directory with users, for a host that has ids for them.
fn root_with_users(sandbox: &Sandbox) -> PathBuf {
    let root = root_directory(sandbox, "root");
    std::fs::write(root.join("etc/passwd"), PASSWD).unwrap();
    std::fs::write(root.join("etc/group"), GROUP).unwrap();
    root
}

fn sandbox_with_ids() -> Option<Sandbox> {
    if !needs::host_has(&[Need::SubIds]) {
        return None;
    }
    with_programs()
}

#[track_caller]
fn as_user(sandbox: &Sandbox, root: &Path, user: &str) -> Output {
    run(sandbox, &["-u", user, "--rootfs", word(root), "/bin/guest", "report"])
}

#[test]
fn cve_2026_30892_every_form_of_user_is_who_it_says() {
    let Some(sandbox) = sandbox_with_ids() else { return };
    let root = root_with_users(&sandbox);
    for (user, uid, gid, groups) in [
        ("1", 1, 0, &[0][..]),
        ("1:1", 1, 1, &[1]),
        ("web", 1000, 1000, &[29, 44, 1000]),
        ("1000", 1000, 1000, &[29, 44, 1000]),
        ("web:audio", 1000, 29, &[29]),
        ("web:7", 1000, 7, &[7]),
        (":44", 0, 44, &[44]),
        ("4242", 4242, 0, &[0]),
        ("0007", 7, 0, &[0]),
    ] {
        let report = Report::parse(&as_user(&sandbox, &root, user).ok());
        // The image's user of the name 1 has uid 0: a number is never a name.
        assert_eq!((report.uid(), report.gid()), (uid, gid), "{user}");
        assert_eq!(report.groups(), groups, "{user}");
    }
    for user in [
        "-1",
        "+5",
        " 1",
        "1 ",
        "1:1:1",
        "1:-1",
        "nobody-here",
        "web:nobody-here",
        "0x1",
        "1.0",
        "wrap",
        "empty",
        "we\nb",
    ] {
        as_user(&sandbox, &root, user).refused(&[]);
    }
}

#[test]
fn cve_2018_10856_cve_2022_2989_an_ordinary_user_has_no_capabilities() {
    let Some(sandbox) = sandbox_with_ids() else { return };
    let root = root_with_users(&sandbox);
    std::fs::remove_file(root.join("etc/passwd")).unwrap();
    ImageBuilder::with_programs().config("User", "1000:1000".into()).load(&sandbox, "user");
    for options in [&["-u", "1000", "--rootfs", word(&root)][..], &["user"]] {
        let report = Report::parse(&run(&sandbox, &[options, &["/bin/guest", "report"]].concat()).ok());
        assert_eq!(report.uid(), 1000);
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(report.capabilities(set), 0, "{set} of {options:?}");
        }
    }
}

#[test]
fn cve_2022_29162_cve_2022_24769_inheritable_capabilities_are_empty() {
    let Some(sandbox) = sandbox_with_ids() else { return };
    let root = root_with_users(&sandbox);
    for options in [&[][..], &["-u", "web"], &["--privileged"], &["--privileged", "-u", "web"], &["--init"]] {
        let rest = ["--rootfs", word(&root), "/bin/guest", "report"];
        let report = Report::parse(&run(&sandbox, &[options, &rest].concat()).ok());
        assert_eq!(report.capabilities("CapInh"), 0, "{options:?}");
        assert_eq!(report.capabilities("CapAmb"), 0, "{options:?}");
        let root_has = report.capabilities("CapEff") != 0;
        assert_eq!(root_has, !options.contains(&"web"), "{options:?}");
    }
}

/// The primary group is among the supplementary ones: else a process that gives
/// up its gid escapes what is denied to that group.
#[test]
fn cve_2022_36109_cve_2023_25173_groups_are_exactly_those_of_the_image() {
    let Some(sandbox) = sandbox_with_ids() else { return };
    for (number, (user, uid, gid, groups)) in [
        ("", 0, 0, &[0][..]),
        ("web", 1000, 1000, &[29, 44, 1000]),
        ("web:video", 1000, 44, &[44]),
        ("1000:1000", 1000, 1000, &[1000]),
        (":29", 0, 29, &[29]),
    ]
    .into_iter()
    .enumerate()
    {
        let layer = Layer::new().file("etc/passwd", PASSWD.as_bytes()).file("etc/group", GROUP.as_bytes());
        let name = format!("groups{number}");
        ImageBuilder::with_programs().layer(layer).config("User", user.into()).load(&sandbox, &name);
        let report = Report::parse(&run(&sandbox, &[&name, "guest", "report"]).ok());
        assert_eq!((report.uid(), report.gid()), (uid, gid), "{user:?}");
        assert_eq!(report.groups(), groups, "{user:?}");
    }
}

/// The image has users of these names, all with uid 0.
#[test]
fn cve_2024_40635_cve_2026_46680_a_number_out_of_range_is_not_root() {
    let Some(sandbox) = with_programs() else { return };
    let root = root_with_users(&sandbox);
    let numbers = ["2147483648", "4294967295", "4294967296", "4294967297", "99999999999999999999", "-1"];
    for (number, user) in numbers.into_iter().enumerate() {
        as_user(&sandbox, &root, user).refused(&[user]);
        as_user(&sandbox, &root, &format!("0:{user}")).refused(&[user]);
        let layer = Layer::new().file("etc/passwd", PASSWD.as_bytes());
        let name = format!("range{number}");
        ImageBuilder::with_programs().layer(layer).config("User", user.into()).load(&sandbox, &name);
        run(&sandbox, &[&name, "guest", "report"]).refused(&[user]);
    }
}

/// Runs as `user` with hostile files, in bounded time and memory.
#[track_caller]
fn bounded(sandbox: &Sandbox, root: &Path, user: &str) -> Output {
    let start = Instant::now();
    // Address space, in KiB: the tool, its monitor and what they allocate.
    let mut command = sandbox.command("sh");
    command.args(["-c", "ulimit -v 600000; exec \"$@\"", "sh"]);
    command.arg(crate::harness::sandbox::binary());
    command.args([
        "run",
        "--rm",
        "--network",
        "none",
        "-u",
        user,
        "--rootfs",
        word(root),
        "/bin/guest",
        "report",
    ]);
    let output = crate::harness::process::Running::start(command).wait();
    assert!(!output.stderr.contains("panicked"), "{output}");
    assert!([0, 125].contains(&output.code()), "{output}");
    assert!(start.elapsed() < Duration::from_secs(20), "it took {:?}", start.elapsed());
    output
}

#[test]
fn cve_2026_47262_cve_2026_61801_a_huge_passwd_or_group_is_not_read() {
    let Some(sandbox) = with_programs() else { return };
    for file in ["passwd", "group"] {
        let root = root_directory(&sandbox, file);
        std::fs::write(root.join("etc/passwd"), "web:x:0:0::/:\n").unwrap();
        let path = root.join("etc").join(file);
        // One line of 1 GiB, without a block on the disk.
        std::fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
        bounded(&sandbox, &root, "web").refused(&[file]);
        // Many lines, below the bound on the size.
        let many = format!("a{}:x:0:0::/:\n", "b".repeat(60)).repeat(80_000);
        std::fs::write(&path, many).unwrap();
        let output = bounded(&sandbox, &root, "web:0");
        assert_eq!(output.code() == 0, file == "group", "{output}");
    }
}

#[test]
fn cve_2024_9676_a_passwd_that_is_no_file_neither_hangs_nor_reads_the_host_s() {
    let Some(sandbox) = with_programs() else { return };
    let host = sandbox.file("host-passwd", "evil:x:0:0::/:\n");
    let up = format!("../../../../../../../../..{}", host.display());
    for (number, target) in
        [word(&host), &up, "/dev/zero", "/proc/self/fd/0", "fifo", "passwd"].into_iter().enumerate()
    {
        let root = root_directory(&sandbox, &format!("root{number}"));
        let fifo = root.join("etc/fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o666),
            0,
        )
        .unwrap();
        for file in ["passwd", "group"] {
            std::os::unix::fs::symlink(target, root.join("etc").join(file)).unwrap();
        }
        bounded(&sandbox, &root, "evil").refused(&["evil"]);
        bounded(&sandbox, &root, "0:evil").refused(&["evil"]);
        bounded(&sandbox, &root, "0").ok();
    }
    let root = root_directory(&sandbox, "fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    for file in ["etc/passwd", "etc/group"] {
        rustix::fs::mknodat(rustix::fs::CWD, root.join(file), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    }
    bounded(&sandbox, &root, "0:evil").refused(&["evil"]);
    bounded(&sandbox, &root, "0").ok();
    let layer = Layer::new().fifo("etc/passwd").fifo("etc/group");
    ImageBuilder::with_programs().layer(layer).config("User", "evil".into()).load(&sandbox, "fifo");
    run(&sandbox, &["fifo", "guest", "report"]).refused(&["evil"]);
}
