//! Paths and links that a root directory or another container controls: the
//! root is a plain directory, so that whatever is made in the wrong place shows.

use super::{root_directory, run, tree, victim, with_programs, word};
use crate::harness::image::{ImageBuilder, Layer};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// The image's `name` is a link: refused, by directory and by image, and
/// nothing is made on the host.
fn system_directory_as_link(name: &str) {
    let Some(sandbox) = with_programs() else { return };
    let victim = victim(&sandbox);
    let up = format!("../../../../../../../..{}", victim.display());
    for (number, target) in ["/", "../../..", "/bin", word(&victim), &up].into_iter().enumerate() {
        let root = root_directory(&sandbox, &format!("root{number}"));
        symlink(target, root.join(name)).unwrap();
        let before = tree(&victim);
        run(&sandbox, &["--rootfs", word(&root), "/bin/busybox", "true"]).refused(&[name, "symbolic link"]);
        assert_eq!(tree(&victim), before, "{name} -> {target}");
    }
    let layer = ImageBuilder::programs().symlink(name, word(&victim));
    ImageBuilder::new().layer(layer).load(&sandbox, "hostile");
    let before = tree(&victim);
    run(&sandbox, &["hostile", "true"]).refused(&[name, "symbolic link"]);
    assert_eq!(tree(&victim), before);
}

#[test]
fn cve_2019_16884_cve_2025_54867_proc_is_a_symlink() {
    system_directory_as_link("proc");
}

#[test]
fn cve_2023_27561_cve_2025_54867_sys_is_a_symlink() {
    system_directory_as_link("sys");
}

#[test]
fn cve_2026_41579_cve_2026_47766_dev_is_a_symlink() {
    system_directory_as_link("dev");
}

#[test]
fn cve_2019_19921_cve_2023_28642_a_volume_on_proc_gets_no_writes() {
    let Some(sandbox) = with_programs() else { return };
    let root = root_directory(&sandbox, "root");
    let fake = sandbox.folder("fake");
    for folder in ["self/attr", "sys/net/ipv4", "1"] {
        std::fs::create_dir_all(fake.join(folder)).unwrap();
    }
    for file in ["self/attr/exec", "self/oom_score_adj", "sys/net/ipv4/ip_default_ttl", "sysrq-trigger"] {
        std::fs::write(fake.join(file), "").unwrap();
    }
    symlink("/bin/busybox", fake.join("kcore")).unwrap();
    let before = tree(&fake);
    let volume = format!("{}:/proc", fake.display());
    let with = |options: &[&str]| {
        let rest = ["-v", &volume, "--rootfs", word(&root), "/bin/busybox", "true"];
        let output = run(&sandbox, &[options, &rest].concat());
        assert_eq!(tree(&fake), before, "{output}");
        output
    };
    // Refused, whatever would be written: and nothing was.
    with(&[]).refused(&["/proc"]);
    with(&["--sysctl", "net.ipv4.ip_default_ttl=77"]).refused(&["/proc"]);
    with(&["--oom-score-adj", "500"]).refused(&["/proc"]);
}

#[test]
fn cve_2025_52881_a_sysctl_lands_in_procfs() {
    let Some(sandbox) = with_programs() else { return };
    let root = root_directory(&sandbox, "root");
    let ttl = "/proc/sys/net/ipv4/ip_default_ttl";
    let sysctl = ["--sysctl", "net.ipv4.ip_default_ttl=77"];
    let output =
        run(&sandbox, &[&sysctl[..], &["--rootfs", word(&root), "/bin/busybox", "cat", ttl]].concat()).ok();
    assert_eq!(output.text(), "77");

    let fake = sandbox.folder("fake/ipv4");
    std::fs::write(fake.join("ip_default_ttl"), "").unwrap();
    let fake = fake.parent().unwrap();
    let before = tree(fake);
    let volume = format!("{}:/proc/sys/net", fake.display());
    let rest = ["-v", &volume, "--rootfs", word(&root), "/bin/busybox", "true"];
    run(&sandbox, &[&sysctl[..], &rest].concat()).refused(&["/proc/sys/net"]);
    assert_eq!(tree(fake), before);
    // A key must not climb out of /proc/sys.
    for key in
        ["net.ipv4/../../../self/oom_score_adj", "/../self/oom_score_adj", "net/../../self/oom_score_adj"]
    {
        let word_of = format!("{key}=1");
        let rest = ["--sysctl", &word_of, "--rootfs", word(&root), "/bin/busybox", "true"];
        run(&sandbox, &rest).refused(&["sysctl"]);
    }
}

/// Two names in a directory change places as fast as they can, as a hostile
/// container that shares the directory would have it.
pub(super) fn while_swapping(one: &Path, other: &Path, work: impl FnOnce()) {
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        end.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

fn race(target_of_link: impl Fn(&Path) -> String) {
    const STARTS: usize = 20;
    let Some(sandbox) = with_programs() else { return };
    let root = root_directory(&sandbox, "root");
    let victim = victim(&sandbox);
    let (share, inner, source) =
        (sandbox.folder("share"), sandbox.folder("share/inner"), sandbox.folder("source"));
    let link = share.join("link");
    symlink(target_of_link(&victim), &link).unwrap();
    let shared = format!("{}:/share", share.display());
    let below = format!("{}:/share/inner/null", source.display());
    let made = format!("{}:/share/inner/made/deeper", source.display());
    let file = format!("{}:/share/inner/file", word(&victim.join("secret")));
    let before = tree(&victim);
    while_swapping(&inner, &link, || {
        for _ in 0..STARTS {
            let output = run(
                &sandbox,
                &[
                    "-v",
                    &shared,
                    "-v",
                    &below,
                    "-v",
                    &made,
                    "-v",
                    &file,
                    "--tmpfs",
                    "/share/inner/tmp",
                    "--rootfs",
                    word(&root),
                    "/bin/busybox",
                    "true",
                ],
            );
            assert!([0, 125].contains(&output.code()), "{output}");
            assert_eq!(tree(&victim), before, "{output}");
        }
    });
    // The root itself may be shared and changed as well.
    let mnt = root.join("mnt");
    std::fs::create_dir(&mnt).unwrap();
    symlink(target_of_link(&victim), root.join("link")).unwrap();
    let below = format!("{}:/mnt/null/made", source.display());
    while_swapping(&mnt, &root.join("link"), || {
        for _ in 0..STARTS {
            run(
                &sandbox,
                &["-v", &below, "-w", "/mnt/new/w", "--rootfs", word(&root), "/bin/busybox", "true"],
            );
            assert_eq!(tree(&victim), before);
        }
    });
}

#[test]
fn cve_2021_30465_mount_points_are_swapped_for_absolute_links() {
    race(|victim| victim.display().to_string());
}

#[test]
fn cve_2024_45310_missing_mount_points_are_swapped_for_relative_links() {
    race(|victim| format!("../../../../../../../../..{}", victim.display()));
}

#[test]
fn cve_2024_21626_workdir_in_proc_self_fd() {
    let Some(sandbox) = with_programs() else { return };
    let root = root_directory(&sandbox, "root");
    let mut places: Vec<String> = (3..=64).map(|n| format!("/proc/self/fd/{n}")).collect();
    for n in [3, 5, 7, 9] {
        places.push(format!("/proc/1/fd/{n}/../.."));
        places.push(format!("/proc/thread-self/fd/{n}"));
    }
    places.extend(["/proc/self/cwd/..".to_owned(), "/proc/self/root/..".to_owned()]);
    let marker = root.join("marker");
    std::fs::write(&marker, "").unwrap();
    for place in &places {
        let script = "/bin/busybox readlink /proc/self/cwd; /bin/busybox ls -a ../../../../../../..";
        let output =
            run(&sandbox, &["-w", place, "--rootfs", word(&root), "/bin/busybox", "sh", "-c", script]);
        stays_inside(place, &output);
    }
    // The same by the image: its WORKDIR, and a link in it.
    for (number, place) in places.iter().step_by(12).enumerate() {
        let name = format!("workdir{number}");
        let layer = ImageBuilder::programs().file("marker", b"").symlink("here", place);
        ImageBuilder::new().layer(layer).config("WorkingDir", place.as_str().into()).load(&sandbox, &name);
        let script = "/bin/readlink /proc/self/cwd; /bin/ls -a ../../../../../../..";
        stays_inside(place, &run(&sandbox, &[&name, "sh", "-c", script]));
        stays_inside(place, &run(&sandbox, &["-w", "/here", &name, "/bin/sh", "-c", script]));
    }
}

#[track_caller]
fn stays_inside(place: &str, output: &crate::harness::Output) {
    if output.code() == 0 {
        let lines = output.lines();
        assert!(lines[0].starts_with('/') && lines.contains(&"marker"), "{place} leads out: {output}");
    } else {
        assert_eq!(output.code(), 125, "{place}: {output}");
    }
}

#[test]
fn cve_2026_55686_workdir_through_a_link_makes_nothing_on_the_host() {
    let Some(sandbox) = with_programs() else { return };
    let victim = victim(&sandbox);
    let up = format!("../../../../../../../../..{}", victim.display());
    for (number, target) in [word(&victim), &up].into_iter().enumerate() {
        let root = root_directory(&sandbox, &format!("root{number}"));
        symlink(target, root.join("link")).unwrap();
        let before = tree(&victim);
        let rest = ["--rootfs", word(&root), "/bin/busybox", "pwd"];
        let output = run(&sandbox, &[&["-w", "/link/new/deep"], &rest[..]].concat()).ok();
        assert_eq!(output.text(), format!("{}/new/deep", victim.display()));
        assert_eq!(tree(&victim), before);
        assert!(root.join(victim.strip_prefix("/").unwrap()).join("new/deep").is_dir());
    }
    let layer = ImageBuilder::programs().symlink("link", word(&victim));
    let before = tree(&victim);
    ImageBuilder::new().layer(layer).config("WorkingDir", "/link/new".into()).load(&sandbox, "workdir");
    run(&sandbox, &["workdir", "true"]).ok();
    assert_eq!(tree(&victim), before);
}

#[test]
fn cve_2025_31133_paths_are_masked_with_the_device_and_not_the_image_s_dev_null() {
    let Some(sandbox) = with_programs() else { return };
    let root = root_directory(&sandbox, "root");
    std::fs::create_dir(root.join("dev")).unwrap();
    std::fs::write(root.join("bait"), "bait\n").unwrap();
    symlink("../bait", root.join("dev/null")).unwrap();
    let fake = sandbox.folder("fake-dev");
    symlink("../bait", fake.join("null")).unwrap();
    let volume = format!("{}:/dev", fake.display());
    let script = "for f in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug; do
        [ -e $f ] && /bin/busybox stat -c '%n %t:%T' $f && /bin/busybox cat $f; done; true";
    let before = tree(&fake);
    for options in [&[][..], &["-v", &volume], &["--read-only"]] {
        let rest = ["--rootfs", word(&root), "/bin/busybox", "sh", "-c", script];
        let output = run(&sandbox, &[options, &rest].concat());
        assert_eq!(std::fs::read_to_string(root.join("bait")).unwrap(), "bait\n");
        assert!(root.join("dev/null").symlink_metadata().unwrap().is_symlink());
        if output.code() == 0 {
            let lines = output.lines();
            assert!(!lines.is_empty(), "{output}");
            assert!(lines.iter().all(|line| line.ends_with(" 1:3")), "{output}");
        } else {
            // A /dev full of links may be refused.
            assert!(options == ["-v", &volume], "{output}");
            output.refused(&["/dev"]);
        }
    }
    assert_eq!(tree(&fake).get(&fake.join("null")), before.get(&fake.join("null")));
}

#[test]
fn cve_2025_52565_the_console_is_the_terminal_and_not_a_link_of_the_image() {
    let Some(sandbox) = with_programs() else { return };
    let root = root_directory(&sandbox, "root");
    let victim = victim(&sandbox);
    let links = |dev: &Path| {
        std::fs::create_dir_all(dev).unwrap();
        symlink("../bait", dev.join("console")).unwrap();
        symlink(word(&victim), dev.join("pts")).unwrap();
        symlink("pts/ptmx", dev.join("ptmx")).unwrap();
        symlink("/bait", dev.join("tty")).unwrap();
    };
    std::fs::write(root.join("bait"), "bait\n").unwrap();
    links(&root.join("dev"));
    let fake = sandbox.path("work/fake");
    links(&fake);
    let before = (tree(&root.join("dev")), tree(&victim), tree(&fake));
    let script = "/bin/busybox readlink /proc/self/fd/0; /bin/busybox stat -L -c %F:%t /dev/console; test -t 0 && echo tty";
    let rest = ["-t", "--rootfs", word(&root), "/bin/busybox", "sh", "-c", script];
    let output = run(&sandbox, &rest).ok();
    let lines: Vec<&str> = output.stdout.lines().map(str::trim_end).collect();
    // Major 136: Unix98 pseudo terminals, Documentation/admin-guide/devices.txt.
    assert_eq!(lines, ["/dev/pts/0", "character special file:88", "tty"], "{output}");
    // A whole /dev of links, by a volume.
    let volume = format!("{}:/dev", fake.display());
    let output = run(&sandbox, &[&["-v", &volume], &rest[..]].concat());
    assert!(output.code() == 125, "{output}");
    assert_eq!(std::fs::read_to_string(root.join("bait")).unwrap(), "bait\n");
    assert_eq!(tree(&victim), before.1);
    for link in ["console", "pts", "ptmx", "tty"] {
        assert_eq!(tree(&fake).get(&fake.join(link)), before.2.get(&fake.join(link)), "{link}");
        let ours = root.join("dev").join(link);
        assert_eq!(tree(&root.join("dev")).get(&ours), before.0.get(&ours), "{link}");
    }
}

#[test]
fn cve_2024_5154_files_of_etc_that_are_links_make_nothing_on_the_host() {
    let Some(sandbox) = with_programs() else { return };
    let victim = victim(&sandbox);
    let files = ["resolv.conf", "hosts", "hostname", "mtab"];
    // Links to what does not exist, and to what does.
    for (number, kind) in ["new", "secret"].into_iter().enumerate() {
        for up in ["", "../../../../../../../../.."] {
            let root = root_directory(&sandbox, &format!("root{number}{}", up.len()));
            let mut layer = ImageBuilder::programs();
            for file in files {
                let target = format!("{up}{}/{kind}", victim.display());
                symlink(&target, root.join("etc").join(file)).unwrap();
                layer = layer.symlink(&format!("etc/{file}"), &target);
            }
            let name = format!("links{number}{}", up.len());
            ImageBuilder::new().layer(layer).load(&sandbox, &name);
            let before = tree(&victim);
            let script = "/bin/busybox cat /etc/hosts";
            for options in [&["--rootfs", word(&root)][..], &[&name]] {
                let output = run(&sandbox, &[options, &["/bin/busybox", "sh", "-c", script]].concat());
                assert_eq!(tree(&victim), before, "{output}");
                let output = output.ok();
                assert!(!output.stdout.contains("the host's"), "{output}");
                assert!(output.stdout.contains("localhost"), "{output}");
            }
            assert_eq!(std::fs::read_to_string(victim.join("secret")).unwrap(), "the host's\n");
        }
    }
}

#[test]
fn cve_2022_23648_a_volume_above_the_root_copies_nothing_of_the_host() {
    let Some(sandbox) = with_programs() else { return };
    let victim = victim(&sandbox);
    for (number, volume) in [
        format!("/../../../../../../../../..{}", victim.display()),
        format!("../../../../..{}", victim.display()),
        "/link".to_owned(),
        format!("/up{}", victim.display()),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("volume{number}");
        let link = Layer::new().symlink("link", word(&victim)).symlink("up", "../../../../../../..");
        ImageBuilder::with_programs()
            .layer(link)
            .config("Volumes", serde_json::json!({ volume.as_str(): {} }))
            .load(&sandbox, &name);
        let before = tree(&victim);
        let find = ["/bin/busybox", "find", "/", "-xdev", "-name", "secret"];
        let output = run(&sandbox, &[&[name.as_str()], &find[..]].concat());
        assert!([0, 125].contains(&output.code()), "{output}");
        assert_eq!(output.text(), "", "{volume}: {output}");
        let seen = run(&sandbox, &[&name, "/bin/busybox", "cat", &format!("{}/secret", victim.display())]);
        assert!(!seen.stdout.contains("the host's"), "{volume}: {seen}");
        assert_eq!(tree(&victim), before);
    }
}

/// bubblewrap's CVE-2020-5291 and its need for `--bind-fd`: what was looked at
/// is what is mounted, and what follows the image's name is the command's.
#[test]
fn cve_2020_5291_a_bind_source_is_resolved_once() {
    let Some(sandbox) = with_programs() else { return };
    let root = root_directory(&sandbox, "root");
    let (folder, file) = (sandbox.folder("swap/entry"), sandbox.file("swap/other", "a file\n"));
    let bind = format!("{}:/mounted", folder.display());
    let script = "if [ -d /mounted ]; then echo folder; else /bin/busybox cat /mounted; fi";
    let rest = ["-v", &bind, "--rootfs", word(&root), "/bin/busybox", "sh", "-c", script];
    while_swapping(&folder, &file, || {
        for _ in 0..20 {
            let output = run(&sandbox, &rest);
            // The root directory keeps the mount point of the first kind.
            assert!(
                ["folder", "a file"].contains(&output.text()) || output.stderr.contains("cannot mount a"),
                "{output}"
            );
        }
    });
    let words = ["--privileged", "--", "-v", "/:/host", "--rm"];
    let output =
        run(&sandbox, &[&["--rootfs", word(&root), "/bin/busybox", "echo"], &words[..]].concat()).ok();
    assert_eq!(output.text(), words.join(" "));
}

/// Kubernetes' subpath: what a container wrote in a volume leads nowhere else.
#[test]
fn cve_2017_1002101_a_volume_s_subpath_does_not_leave_it() {
    let Some(sandbox) = with_programs() else { return };
    let victim = victim(&sandbox);
    ImageBuilder::with_programs().load(&sandbox, "plain");
    let script = format!(
        "/bin/busybox ln -s {} /v/link; /bin/busybox ln -s ../../../../../../.. /v/up",
        victim.display()
    );
    run(&sandbox, &["-v", "data:/v", "plain", "sh", "-c", &script]).ok();
    for subpath in ["link", "up", "up/etc", "../..", "link/../.."] {
        let mount = format!("type=volume,source=data,target=/m,volume-subpath={subpath}");
        let output = run(&sandbox, &["--mount", &mount, "plain", "/bin/ls", "/m"]);
        output.refused(&["subpath"]);
    }
}
