//! Volumes as archives, on a tmpfs, and over a directory of the host.

use crate::harness::{Image, sandbox};

#[test]
fn a_volume_is_exported_and_imported() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let script = "mkdir /d/sub; echo text >/d/sub/file; chmod 640 /d/sub/file; ln -s sub/file /d/link; chown 5:6 /d/sub 2>/dev/null; true";
    sandbox.run(&["-v", "data:/d", "busybox", "sh", "-c", script]).ok();
    let archive = sandbox.path("data.tar");
    sandbox.ok(["volume", "export", "-o", archive.to_str().unwrap(), "data"]);
    let listed = std::process::Command::new("tar").arg("tvf").arg(&archive).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("sub/file") && listed.contains("link -> sub/file"), "{listed}");
    sandbox.ok(["volume", "create", "copy"]);
    sandbox.ok(["volume", "import", "copy", archive.to_str().unwrap()]);
    let look = "cat /d/link; stat -c %a /d/sub/file; stat -c %u:%g /d/sub";
    let of = |name: &str| {
        let bind = format!("{name}:/d");
        sandbox.run(&["-v", &bind, "busybox", "sh", "-c", look]).ok().text().to_owned()
    };
    assert_eq!(of("copy"), of("data"));
    assert!(of("copy").starts_with("text\n640\n"));
    // By pipes as well.
    let bytes = sandbox.coracle(["volume", "export", "data"]).ok().stdout.into_bytes();
    sandbox.ok(["volume", "create", "third"]);
    sandbox.coracle_with(&bytes, ["volume", "import", "third", "-"]).ok();
    assert_eq!(of("third"), of("data"));
    sandbox.coracle(["volume", "export", "nosuch"]).fails(1, &["nosuch"]);
    sandbox.coracle_with(b"no archive at all", ["volume", "import", "third", "-"]).fails(1, &["archive"]);
    assert_eq!(of("third"), of("data"), "nothing of it is lost");
}

#[test]
fn an_import_stays_in_the_volume_and_is_not_seeded_over() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let folder = sandbox.folder("hostile");
    std::os::unix::fs::symlink(sandbox.path("work"), folder.join("out")).unwrap();
    let tar = |words: &[&str]| {
        let status = std::process::Command::new("tar").args(words).current_dir(&folder).status().unwrap();
        assert!(status.success());
    };
    tar(&["cf", "../evil.tar", "out"]);
    std::fs::remove_file(folder.join("out")).unwrap();
    std::fs::create_dir(folder.join("out")).unwrap();
    std::fs::write(folder.join("out/escaped"), "x").unwrap();
    tar(&["rf", "../evil.tar", "out/escaped"]);
    sandbox.ok(["volume", "create", "v"]);
    sandbox.coracle(["volume", "import", "v", sandbox.path("work/evil.tar").to_str().unwrap()]);
    assert!(!sandbox.path("work/escaped").exists(), "it left the volume");
    // What was imported stays as it is, whatever the image has there.
    let listed = sandbox.run(&["-v", "v:/etc", "busybox", "ls", "-A", "/etc"]).ok();
    assert!(listed.lines().contains(&"out") && !listed.lines().contains(&"passwd"), "{listed}");
}

#[test]
fn a_tmpfs_volume_and_a_directory_of_the_host() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let options = ["-o", "type=tmpfs", "-o", "device=scratch", "-o", "o=size=2m,mode=700,noexec"];
    sandbox.ok([&["volume", "create"], &options[..], &["mem"]].concat());
    let script = "grep ' /m ' /proc/self/mountinfo; stat -c '%a %u' /m; df -k /m | tail -1";
    let output = sandbox.run(&["-v", "mem:/m", "busybox", "sh", "-c", script]).ok();
    let lines = output.lines();
    assert!(lines[0].contains("- tmpfs scratch ") && lines[0].contains("noexec"), "{output}");
    assert_eq!(lines[1], "700 0", "{output}");
    assert!(lines[2].contains(" 2048 "), "{output}");
    let folder = sandbox.folder("shared");
    let device = format!("device={}", folder.display());
    sandbox.ok(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "host"]);
    sandbox.run(&["-v", "host:/h", "busybox", "sh", "-c", "echo from inside >/h/file"]).ok();
    assert_eq!(std::fs::read_to_string(folder.join("file")).unwrap(), "from inside\n");
    sandbox.ok(["volume", "create", "-o", "type=bind", "-o", &device, "again"]);
    assert_eq!(sandbox.run(&["-v", "again:/h", "busybox", "cat", "/h/file"]).ok().text(), "from inside");
    sandbox.ok(["volume", "rm", "host", "again"]);
    assert!(folder.join("file").exists(), "the directory is the user's");
    for bad in [["-o", "type=nfs"], ["-o", "wat=1"], ["-o", "device=/x"]] {
        sandbox.coracle([&["volume", "create"], &bad[..], &["bad"]].concat()).fails(1, &[]);
    }
    assert_eq!(sandbox.ok(["volume", "ls", "-q"]), "mem");
}

/// Docker mounts it once: whoever has it while another does, has the same.
#[test]
fn containers_that_run_share_a_tmpfs_volume() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "mem"]);
    sandbox.start("one", &["-v", "mem:/m", "busybox", "sleep", "100000"]);
    sandbox.ok(["exec", "one", "touch", "/m/shared"]);
    let script = "ls /m; touch /m/back";
    assert_eq!(sandbox.run(&["-v", "mem:/n/m", "busybox", "ls", "/n/m"]).ok().text(), "shared");
    let other = ["--volumes-from", "one", "--userns", "keep-id", "busybox", "sh", "-c", script];
    assert_eq!(sandbox.run(&other).ok().text(), "shared");
    assert_eq!(sandbox.run(&["-v", "mem:/m:ro", "busybox", "ls", "/m"]).ok().text(), "back\nshared");
    sandbox.ok(["kill", "one"]);
    assert_eq!(sandbox.run(&["-v", "mem:/m", "busybox", "ls", "/m"]).ok().text(), "");
}

#[test]
fn a_mount_makes_a_volume_with_options_and_labels() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let options = "volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-opt=o=size=2m,volume-label=a=1";
    for name in ["src=v,", ""] {
        let mount = format!("type=volume,{name}dst=/m,{options}");
        let words = ["--mount", &mount, "busybox", "sh", "-c", "df -k /m | tail -1; touch /m/x"];
        assert!(sandbox.run(&words).ok().text().contains(" 2048 "));
    }
    let shown = sandbox.ok(["volume", "inspect", "-f", "{{.Labels.a}} {{.Options.o}}", "v"]);
    assert_eq!(shown, "1 size=2m");
    // What there is already stays as it is.
    sandbox.run(&["--mount", "type=volume,src=v,dst=/m,volume-label=a=2", "busybox", "true"]).ok();
    assert_eq!(sandbox.ok(["volume", "inspect", "-f", "{{.Labels.a}}", "v"]), "1");
    for bad in ["volume-opt=type=nfs", "volume-opt=x", "volume-label"] {
        let mount = format!("type=volume,src=w,dst=/m,{bad}");
        sandbox.run(&["--mount", &mount, "busybox", "true"]).refused(&[bad.split('=').next().unwrap()]);
    }
    assert_eq!(sandbox.ok(["volume", "ls", "-q", "-f", "name=w"]), "");
}

#[test]
fn all_volumes_can_be_removed_and_with_a_time_what_uses_them_too() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let left = || sandbox.ok(["volume", "ls", "-q"]);
    for name in ["a", "b", "used"] {
        sandbox.ok(["volume", "create", name]);
    }
    sandbox.start("c", &["-v", "used:/x", "guest", "sleep"]);
    assert_eq!(sandbox.ok(["volume", "inspect", "--all", "-f", "{{.Name}}"]), "a\nb\nused");
    sandbox.ok(["volume", "create", "--ignore", "a"]);
    // What is used stays, with docker's --force too.
    sandbox.coracle(["volume", "rm", "--all", "--force"]).refused(&["in use by c"]);
    assert_eq!(left(), "used");
    sandbox.coracle(["volume", "rm", "-t", "0", "used"]).fails(125, &["--force"]);
    assert_eq!(sandbox.ok(["volume", "rm", "-a", "-f", "-t", "0"]), "used");
    assert_eq!((left(), sandbox.ok(["ps", "-aq"])), (String::new(), String::new()));
    sandbox.coracle(["volume", "rm", "-a", "x"]).fails(125, &["--all"]);
}

#[test]
fn a_tmpfs_takes_the_kernel_s_options() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let script = "stat -c '%u %g %a' /m; grep ' /m ' /proc/mounts";
    for (flag, word) in [("--tmpfs", "/m:"), ("--mount", "type=tmpfs,dst=/m,")] {
        let asked = format!("{word}uid=1000,gid=5,nr_inodes=77,noatime,nodiratime,size=10%");
        let output = sandbox.run(&[flag, &asked, "busybox", "sh", "-c", script]).ok();
        let lines = output.lines();
        assert_eq!(lines[0], "1000 5 1777", "{flag}");
        for option in ["nosuid,nodev,noexec,noatime,nodiratime", "nr_inodes=77", "size="] {
            assert!(lines[1].contains(option), "{option}: {output}");
        }
    }
    let script = "stat -c '%u %a' /etc; cat /etc/passwd | head -n 1; touch /etc/new; grep -c ' /etc tmpfs' /proc/mounts";
    let output = sandbox.run(&["--tmpfs", "/etc:tmpcopyup", "busybox", "sh", "-c", script]).ok();
    assert_eq!(output.lines()[0], "0 755");
    assert!(output.lines()[1].starts_with("root:"), "{output}");
    assert_eq!(output.lines()[2], "1", "{output}");
    let empty =
        sandbox.run(&["--tmpfs", "/bin2:tmpcopyup", "--tmpfs", "/etc", "busybox", "ls", "/bin2"]).ok();
    assert_eq!(empty.text(), "");
    sandbox.run(&["--tmpfs", "/m:uid=4000000000", "busybox", "true"]).refused(&["uid=4000000000"]);
    let made = sandbox.path("work/created");
    let mount = format!("type=bind,src={},dst=/x,bind-create-src", made.display());
    sandbox.run(&["--mount", &mount, "busybox", "true"]).ok();
    assert!(made.is_dir());
}
