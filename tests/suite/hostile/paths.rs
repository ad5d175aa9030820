//! A path or link that the image controls is followed: the largest class.

use crate::harness::image::{ImageBuilder, Layer};
use crate::harness::{Image, Output, Sandbox, sandbox};
use serde_json::json;

const PROGRAMS: &[crate::harness::Need] = &[Image("guest"), Image("busybox")];

/// A folder of the host that nothing may touch, with one file in it.
struct Bait {
    path: std::path::PathBuf,
}

impl Bait {
    fn new(sandbox: &Sandbox) -> Self {
        let path = sandbox.folder("bait");
        std::fs::write(path.join("file"), "bait").unwrap();
        Self { path }
    }

    fn at(&self) -> &str {
        self.path.to_str().unwrap()
    }

    #[track_caller]
    fn assert_untouched(&self, output: &Output) {
        let names: Vec<_> = std::fs::read_dir(&self.path).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(names, ["file"], "the host's folder was changed: {output}");
        assert_eq!(std::fs::read_to_string(self.path.join("file")).unwrap(), "bait", "{output}");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&self.path).unwrap().permissions().mode() & 0o7777, 0o755, "{output}");
    }
}

fn climb(path: &str) -> String {
    format!("../../../../../../../../../..{path}")
}

/// Coracle may refuse such an image or run it confined, but never panic.
#[track_caller]
fn assert_sane(output: &Output) {
    assert!(!output.stderr.contains("panicked"), "{output}");
    assert!([0, 1, 125, 126, 127].contains(&output.code()), "{output}");
}

#[test]
fn cve_2019_16884_proc_is_a_symlink_or_a_volume() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let bait = Bait::new(&sandbox);
    for target in ["/", "/tmp", &climb("/"), bait.at(), "/etc"] {
        ImageBuilder::with_programs().layer(Layer::new().symlink("proc", target)).load(&sandbox, "linked");
        let output = sandbox.run(&["linked", "sh", "-c", "cat /proc/self/status"]);
        assert_sane(&output);
        bait.assert_untouched(&output);
        if output.code() == 0 {
            assert!(output.stdout.contains("Seccomp:\t2"), "the real procfs or nothing: {output}");
        }
    }
    // A volume over /proc would let the container write what the runtime reads.
    for option in
        [["-v", "vol:/proc"], ["--tmpfs", "/proc"], ["-v", "vol:/proc/self"], ["-v", "vol:/proc/sys/kernel"]]
    {
        let output = sandbox.run(&[&option[..], &["busybox", "true"]].concat());
        assert_eq!(output.code(), 125, "{option:?}: {output}");
    }
    // And an image's VOLUME is no better.
    ImageBuilder::with_programs().config("Volumes", json!({ "/proc": {} })).load(&sandbox, "procvol");
    assert_eq!(sandbox.run(&["procvol", "true"]).code(), 125);
}

#[test]
fn cve_2025_54867_sys_and_dev_are_symlinks() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let bait = Bait::new(&sandbox);
    for name in ["sys", "dev", "proc"] {
        for target in ["/", &climb("/"), bait.at(), "/tmp", "nowhere", name] {
            ImageBuilder::with_programs().layer(Layer::new().symlink(name, target)).load(&sandbox, "linked");
            let output = sandbox.run(&["linked", "sh", "-c", "ls /dev/null /sys >/dev/null"]);
            assert_sane(&output);
            bait.assert_untouched(&output);
        }
    }
}

#[test]
fn cve_2026_41579_dev_leads_to_the_host() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let bait = Bait::new(&sandbox);
    for layer in [
        Layer::new().symlink("dev", bait.at()),
        Layer::new()
            .dir("dev")
            .symlink("dev/pts", bait.at())
            .symlink("dev/shm", bait.at())
            .symlink("dev/mqueue", bait.at()),
        Layer::new().dir("dev").symlink("dev/null", "/etc/passwd").symlink("dev/console", "/etc/passwd"),
    ] {
        ImageBuilder::with_programs().layer(layer).load(&sandbox, "devlink");
        for options in [&[][..], &["-t"]] {
            let output = sandbox.run(
                &[
                    options,
                    &["devlink", "sh", "-c", "test ! -e /etc/passwd || cat /etc/passwd; echo x >/dev/null"],
                ]
                .concat(),
            );
            assert_sane(&output);
            bait.assert_untouched(&output);
        }
    }
}

#[test]
fn cve_2025_31133_dev_null_is_not_what_masks_are_made_of() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let layer = Layer::new().dir("dev").symlink("dev/null", "/proc/sysrq-trigger");
    ImageBuilder::with_programs().layer(layer).load(&sandbox, "nulled");
    let output = sandbox.run(&[
        "nulled",
        "sh",
        "-c",
        "stat -c %t:%T /dev/null; cat /proc/kcore /proc/keys /proc/timer_list | wc -c",
    ]);
    if output.code() == 0 {
        assert_eq!(output.lines()[0], "1:3", "{output}");
    }
    let output = sandbox.run(&["nulled", "guest", "open", "/proc/sysrq-trigger"]);
    assert!(output.text() != "ok", "{output}");
}

#[test]
fn cve_2025_52565_the_console_is_mounted_by_descriptor() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let bait = Bait::new(&sandbox);
    let target = format!("{}/file", bait.at());
    let layer = Layer::new()
        .dir("dev")
        .dir("dev/pts")
        .symlink("dev/pts/0", &target)
        .symlink("dev/console", &target)
        .symlink("dev/ptmx", &target);
    ImageBuilder::with_programs().layer(layer).load(&sandbox, "console");
    let output = sandbox.run(&["-t", "console", "sh", "-c", "test -c /dev/console && echo x >/dev/console"]);
    assert_sane(&output);
    bait.assert_untouched(&output);
}

#[test]
fn cve_2024_21626_workdir_in_proc_self_fd() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let secret = sandbox.file("secret-of-the-host", "x");
    for number in 3..64 {
        let workdir = format!("/proc/self/fd/{number}");
        let script = "pwd; ls -a .. ../.. ../../.. ../../../.. 2>/dev/null";
        let output = sandbox.run(&["-w", &workdir, "busybox", "sh", "-c", script]);
        assert_sane(&output);
        assert!(
            !output.stdout.contains("secret-of-the-host") && !output.stdout.contains("(unreachable)"),
            "{workdir}: {output}"
        );
        if output.code() == 0 {
            // Inside the container's own root there is busybox's folder for mail.
            assert!(!output.stdout.contains("work\n"), "{workdir}: {output}");
        }
    }
    ImageBuilder::with_programs().config("WorkingDir", json!("/proc/self/fd/7")).load(&sandbox, "wd");
    let output = sandbox.run(&["wd", "cat", &format!("../../../../../../..{}", secret.display())]);
    assert_ne!(output.code(), 0, "{output}");
    let report =
        sandbox.coracle(["run", "--rm", "--network", "none", "-w", "/proc/self/fd", "guest", "report"]);
    assert_sane(&report);
}

#[test]
fn cve_2026_55686_workdir_through_a_symlink() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let bait = Bait::new(&sandbox);
    ImageBuilder::with_programs()
        .layer(Layer::new().symlink("link", bait.at()).symlink("up", &climb(bait.at())))
        .config("WorkingDir", json!("/link/new/deep"))
        .load(&sandbox, "wdlink");
    for options in [&[][..], &["-w", "/up/new"], &["-w", "/link"], &["-w", "/../../new"]] {
        let output = sandbox.run(&[options, &["wdlink", "sh", "-c", "pwd"]].concat());
        assert_sane(&output);
        bait.assert_untouched(&output);
    }
}

#[test]
fn cve_2021_30465_a_mount_point_is_a_symlink() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let bait = Bait::new(&sandbox);
    let source = sandbox.folder("source");
    ImageBuilder::with_programs()
        .layer(
            Layer::new()
                .symlink("mnt", bait.at())
                .symlink("up", &climb(bait.at()))
                .dir("data")
                .symlink("data/sub", "/mnt"),
        )
        .load(&sandbox, "mountlink");
    for point in ["/mnt", "/mnt/new", "/up", "/up/new", "/data/sub/new", "/mnt/file"] {
        let bind = format!("{}:{point}", source.display());
        for option in [["-v", bind.as_str()], ["--tmpfs", point], ["-v", &format!("vol:{point}")]] {
            let output = sandbox.run(&[&option[..], &["mountlink", "true"]].concat());
            assert_sane(&output);
            bait.assert_untouched(&output);
        }
    }
}

#[test]
fn cve_2021_30465_a_mount_point_is_swapped_in_a_shared_volume() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let bait = Bait::new(&sandbox);
    // One container swaps a folder for a link to the host while others mount below it.
    let swap = format!(
        "cd /v; echo ready; while :; do mkdir -p a; mv a b 2>/dev/null; ln -s {} a; rm -f a; mv b a 2>/dev/null; rm -rf b; done",
        climb(bait.at())
    );
    sandbox.start("swapper", &["-v", "shared:/v", "busybox", "sh", "-c", &swap]);
    sandbox.wait_for_log("swapper", "ready");
    let source = sandbox.folder("source");
    let bind = format!("{}:/v/a/new", source.display());
    for _ in 0..60 {
        let output = sandbox.run(&["-v", "shared:/v", "-v", &bind, "--tmpfs", "/v/a/tmp", "busybox", "true"]);
        assert_sane(&output);
        bait.assert_untouched(&output);
    }
}

#[test]
fn cve_2024_45310_no_inode_is_made_outside() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let bait = Bait::new(&sandbox);
    let file = sandbox.file("one", "x");
    ImageBuilder::with_programs()
        .layer(
            Layer::new()
                .symlink("etc", &climb(bait.at()))
                .symlink("run", bait.at())
                .symlink("a", "b")
                .symlink("b", "a"),
        )
        .load(&sandbox, "etclink");
    for option in [
        format!("{}:/etc/one", file.display()),
        format!("{}:/run/x/y/z", file.display()),
        format!("{}:/a/b/c", file.display()),
    ] {
        let output = sandbox.run(&["-v", &option, "etclink", "true"]);
        assert_sane(&output);
        bait.assert_untouched(&output);
    }
}

#[test]
fn cve_2024_5154_hosts_resolv_conf_and_hostname_are_symlinks() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let bait = Bait::new(&sandbox);
    let target = climb(&format!("{}/file", bait.at()));
    let missing = climb(&format!("{}/new", bait.at()));
    for goal in [target.as_str(), &missing, "/proc/self/mem", "hosts", "/dev/null"] {
        let layer = Layer::new()
            .dir("etc")
            .symlink("etc/hosts", goal)
            .symlink("etc/resolv.conf", goal)
            .symlink("etc/hostname", goal)
            .symlink("etc/mtab", goal);
        ImageBuilder::with_programs().layer(layer).load(&sandbox, "etc");
        let output =
            sandbox.run(&["--hostname", "box", "etc", "sh", "-c", "cat /etc/hosts; echo y >>/etc/hosts"]);
        assert_sane(&output);
        bait.assert_untouched(&output);
        assert!(!output.stdout.contains("bait"), "{output}");
    }
}

#[test]
fn cve_2022_23648_a_volume_climbs_out_of_the_image() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let secret = sandbox.file("secret", "secret of the host");
    let folder = secret.parent().unwrap().to_str().unwrap();
    for path in [climb(folder), format!("/..{}", climb(folder)), format!("/link{folder}"), "/link".to_owned()]
    {
        ImageBuilder::with_programs()
            .layer(Layer::new().symlink("link", &climb("/")))
            .config("Volumes", json!({ path.clone(): {} }))
            .load(&sandbox, "climbing");
        let output = sandbox.run(&["climbing", "sh", "-c", "cat /secret /link/secret ./secret /var/tmp/*/*/work/secret /var/tmp/*/work/secret 2>/dev/null; ls -R /link 2>/dev/null | head -n 3"]);
        assert_sane(&output);
        assert!(!output.stdout.contains("secret of the host"), "{path}: {output}");
    }
}

#[test]
fn cve_2021_41089_extraction_never_leaves_its_folder() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let bait = Bait::new(&sandbox);
    let inside = format!("{}/file", bait.at());
    let layers: Vec<(&str, Layer)> = vec![
        (
            "directory over a link",
            Layer::new().symlink("d", bait.at()).entry("d", tar::EntryType::Directory, 0o777, "", b""),
        ),
        ("file below a link", Layer::new().symlink("d", bait.at()).file("d/new", b"x")),
        ("file below a climbing link", Layer::new().symlink("d", &climb(bait.at())).file("d/new", b"x")),
        ("file over a link", Layer::new().symlink("f", &inside).file("f", b"changed")),
        ("climbing name", Layer::new().file(&climb(&format!("{}/new", bait.at()))[3..], b"x")),
        ("hard link out", Layer::new().hard_link("h", &inside).file("h", b"changed")),
        (
            "hard link through a link",
            Layer::new().symlink("d", bait.at()).hard_link("h", "d/file").file("h", b"changed"),
        ),
        ("hard link climbing", Layer::new().hard_link("h", &climb(&inside)[3..]).file("h", b"changed")),
        ("whiteout through a link", Layer::new().symlink("d", bait.at()).file("d/.wh.file", b"")),
        ("opaque through a link", Layer::new().symlink("d", bait.at()).file("d/.wh..wh..opq", b"")),
        ("whiteout of dots", Layer::new().file(".wh...", b"").file(".wh..", b"")),
        ("root as a link", Layer::new().symlink("./", bait.at()).file("new", b"x")),
        ("absolute name", Layer::new().file(&format!("{}/new", bait.at()), b"x")),
        (
            "mode of the root",
            Layer::new().entry("./", tar::EntryType::Directory, 0o777, "", b"").entry(
                "..",
                tar::EntryType::Directory,
                0o777,
                "",
                b"",
            ),
        ),
    ];
    for (name, layer) in layers {
        let archive = ImageBuilder::with_programs().layer(layer).archive("climbing");
        let file = sandbox.file("climbing.tar", archive);
        let output = sandbox.coracle(["load", "-i", file.to_str().unwrap()]);
        assert!([0, 125].contains(&output.code()) && !output.stderr.contains("panicked"), "{name}: {output}");
        bait.assert_untouched(&output);
        if output.code() == 0 {
            let output = sandbox.run(&["climbing", "true"]);
            assert_sane(&output);
            bait.assert_untouched(&output);
        }
    }
}

#[test]
fn cve_2026_17106_absolute_hard_links_inside_still_work() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let layer =
        Layer::new().dir("d").file("d/f", b"contents").hard_link("d/h", "/d/f").hard_link("h2", "d/f");
    ImageBuilder::with_programs().layer(layer).load(&sandbox, "links");
    let output = sandbox.run(&["links", "sh", "-c", "cat /d/h /h2; stat -c %h /d/f"]).ok();
    assert_eq!(output.text(), "contentscontents3");
}

#[test]
fn cve_2021_41091_folders_are_private_whatever_the_umask() {
    let Some(sandbox) = sandbox(PROGRAMS) else { return };
    let mut command = sandbox.command("sh");
    command
        .args(["-c", "umask 0; exec \"$0\" run --name c --network none -v vol:/v busybox true"])
        .arg(crate::harness::sandbox::binary());
    crate::harness::process::Running::start(command).wait().ok();
    use std::os::unix::fs::PermissionsExt;
    for folder in [
        "data/coracle",
        "state/coracle",
        "run/coracle",
        "state/coracle/containers",
        "data/coracle/layers",
        "data/coracle/volumes",
        "data/coracle/images",
    ] {
        let path = sandbox.path(folder);
        if let Ok(meta) = std::fs::metadata(&path) {
            assert_eq!(meta.permissions().mode() & 0o077, 0, "{folder} is open to others");
        }
    }
}
