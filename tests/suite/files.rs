//! What a container sees of files: its root, /dev, /proc, volumes, mounts.

use crate::harness::image::{ImageBuilder, Layer};
use crate::harness::{Image, Sandbox, SubIds, sandbox};
use serde_json::json;
use std::os::unix::fs::MetadataExt;

/// Runs a shell script in busybox; its output.
#[track_caller]
fn shell(sandbox: &Sandbox, options: &[&str], script: &str) -> String {
    sandbox.run(&[options, &["busybox", "sh", "-c", script]].concat()).ok().text().to_owned()
}

#[test]
fn a_bind_is_read_and_written() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let folder = sandbox.folder("shared");
    std::fs::write(folder.join("in"), "from host").unwrap();
    let bind = format!("{}:/mnt", folder.display());
    assert_eq!(shell(&sandbox, &["-v", &bind], "cat /mnt/in; echo back >/mnt/out"), "from host");
    assert_eq!(std::fs::read_to_string(folder.join("out")).unwrap(), "back\n");
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(std::fs::metadata(folder.join("out")).unwrap().uid(), uid, "container root is the user");
    let read_only = format!("{bind}:ro");
    let output = sandbox.run(&["-v", &read_only, "busybox", "touch", "/mnt/no"]);
    assert_eq!(output.code(), 1, "{output}");
    assert!(output.stderr.contains("Read-only"), "{output}");
}

#[test]
fn read_only_binds_are_read_only_all_the_way_down() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    // /proc of the host is a mount below /; a bind of / takes it along.
    let report = sandbox.report(&["-v", "/:/host:ro"]);
    assert!(report.mount("/host").unwrap().options.contains(&"ro".into()));
    if let Some(below) = report.mount("/host/dev") {
        assert!(below.options.contains(&"ro".into()), "{below:?}");
    }
}

#[test]
fn a_file_is_bound_to_a_file_and_mount_points_are_made() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let file = sandbox.file("conf", "text");
    let bind = format!("{}:/deep/new/conf:ro", file.display());
    assert_eq!(shell(&sandbox, &["-v", &bind], "cat /deep/new/conf"), "text");
    // A relative source that begins with a dot is the host's, as in docker.
    assert_eq!(shell(&sandbox, &["-v", "./conf:/conf"], "cat /conf"), "text");
}

#[test]
fn mount_spells_the_same_in_long() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let folder = sandbox.folder("shared");
    std::fs::write(folder.join("x"), "here").unwrap();
    let bind = format!("type=bind,source={},target=/mnt,readonly", folder.display());
    assert_eq!(
        shell(&sandbox, &["--mount", &bind], "cat /mnt/x; echo; touch /mnt/y 2>/dev/null || echo ro"),
        "here\nro"
    );
    let bind = format!("type=bind,src={},dst=/mnt,ro=false", folder.display());
    shell(&sandbox, &["--mount", &bind], "touch /mnt/y");
    shell(&sandbox, &["--mount", "type=volume,src=vol,dst=/v"], "echo kept >/v/f");
    assert_eq!(shell(&sandbox, &["--mount", "type=volume,source=vol,destination=/v"], "cat /v/f"), "kept");
    let tmpfs = "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=0700";
    assert_eq!(
        shell(&sandbox, &["--mount", tmpfs], "stat -c %a /t; grep -c ' /t tmpfs .*size=1024k' /proc/mounts"),
        "700\n1"
    );
    let missing = format!("type=bind,src={}/none,dst=/mnt", folder.display());
    for bad in [
        &missing[..],
        "type=bind,dst=/mnt",
        "type=nosuch,dst=/mnt",
        "type=tmpfs",
        "type=tmpfs,dst=relative",
        "type=bind,src=/tmp,dst=/mnt,colour=red",
        "type=bind,src=/tmp,dst=/mnt,bind-propagation=nonsense",
    ] {
        let output = sandbox.run(&["--mount", bad, "busybox", "true"]);
        assert_eq!(output.code(), 125, "{bad}: {output}");
    }
}

#[test]
fn malformed_volumes_are_refused() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    for bad in [
        "",
        ":",
        ":/mnt",
        "/tmp:relative",
        "a:b:c:d",
        "/tmp:/mnt:nonsense",
        "/tmp:/mnt:ro,rw",
        "bad name:/mnt",
        "/tmp:/",
        "vol:/",
    ] {
        let output = sandbox.run(&["-v", bad, "busybox", "true"]);
        assert_eq!(output.code(), 125, "{bad:?}: {output}");
    }
    assert_eq!(sandbox.ok(["volume", "ls", "-q"]), "", "none was made on the way");
}

/// Docker's flags are sets: scripts that put lines together repeat one.
#[test]
fn the_same_volume_twice_is_mounted_once() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let folder = sandbox.folder("twice");
    std::fs::write(folder.join("file"), "x").unwrap();
    let bind = format!("{}:/a", folder.display());
    let options = ["-v", &bind, "-v", &bind, "-v", "/anon", "-v", "/anon", "--tmpfs", "/t", "--tmpfs", "/t"];
    assert_eq!(shell(&sandbox, &options, "cat /a/file; grep -c ' /a ' /proc/mounts"), "x1");
    sandbox.run(&["-v", &bind, "-v", "v:/a", "busybox", "true"]).refused(&["duplicate mount point: /a"]);
}

#[test]
fn named_volumes_outlive_their_containers() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    shell(&sandbox, &["-v", "data:/data"], "echo kept >/data/f");
    assert_eq!(shell(&sandbox, &["-v", "data:/elsewhere:ro"], "cat /elsewhere/f"), "kept");
    assert_eq!(sandbox.ok(["volume", "ls", "-q"]), "data");
    sandbox.ok(["create", "--name", "user", "-v", "data:/data", "busybox"]);
    sandbox.coracle(["volume", "rm", "data"]).refused(&["data"]);
    sandbox.ok(["rm", "user"]);
    sandbox.ok(["volume", "rm", "data"]);
    assert_eq!(sandbox.ok(["volume", "ls", "-q"]), "");
}

#[test]
fn a_new_volume_is_seeded_from_the_image_and_a_used_one_is_not() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    ImageBuilder::with_programs()
        .layer(Layer::new().dir("data").file("data/from-image", b"seed").symlink("data/link", "from-image"))
        .load(&sandbox, "seeded");
    let ls = |options: &[&str]| {
        sandbox.run(&[options, &["seeded", "ls", "/data"]].concat()).ok().lines().join(" ")
    };
    assert_eq!(ls(&["-v", "vol:/data"]), "from-image link");
    sandbox
        .run(&["-v", "vol:/data", "seeded", "sh", "-c", "echo own >/data/from-image; touch /data/more"])
        .ok();
    assert_eq!(ls(&["-v", "vol:/data"]), "from-image link more");
    assert_eq!(sandbox.run(&["-v", "vol:/data", "seeded", "cat", "/data/from-image"]).ok().text(), "own");
    assert_eq!(ls(&["-v", "bare:/data:nocopy"]), "");
    // A bind is never seeded.
    let folder = sandbox.folder("empty");
    assert_eq!(ls(&["-v", &format!("{}:/data", folder.display())]), "");
}

/// Docker's: whatever was mounted or in it before, an empty volume is filled when a
/// container is made whose image has something there; and that container may empty it.
#[test]
fn an_empty_volume_is_seeded_whoever_had_it_first() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    load_with_a_volume(&sandbox);
    let ls = |options: &[&str], image: &str, directory: &str| {
        sandbox.run(&[options, &[image, "ls", "-A", directory]].concat()).ok().lines().join(" ")
    };
    // Mounted first where the image has nothing.
    sandbox.ok(["volume", "create", "v"]);
    assert_eq!(ls(&["-v", "v:/mnt"], "volumes", "/mnt"), "");
    // One that has it and runs sees what comes.
    sandbox.start("user", &["-v", "v:/mnt", "busybox", "sleep", "100000"]);
    assert_eq!(ls(&["-v", "v:/data:nocopy"], "volumes", "/data"), "");
    assert_eq!(ls(&["-v", "v:/data"], "volumes", "/data"), "seed");
    assert_eq!(sandbox.ok(["exec", "user", "cat", "/mnt/seed"]), "seed");
    // Emptied, it is filled for a new container, and not for one that is started again.
    let script = "ls -A /data; rm -f /data/seed";
    sandbox.start("c", &["-v", "v:/data", "volumes", "sh", "-c", script]);
    sandbox.ok(["wait", "c"]);
    sandbox.ok(["start", "c"]);
    sandbox.ok(["wait", "c"]);
    assert_eq!(sandbox.ok(["logs", "c"]), "seed");
    assert_eq!(ls(&["-v", "v:/data"], "volumes", "/data"), "seed");
}

#[test]
fn a_data_container_that_never_ran_has_its_image_s_data() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    load_with_a_volume(&sandbox);
    sandbox.ok(["create", "--name", "dc", "volumes", "true"]);
    let listed = sandbox.run(&["--volumes-from", "dc", "busybox", "ls", "-A", "/data"]).ok();
    assert_eq!(listed.text(), "seed");
    sandbox.ok(["create", "-v", "nv:/data", "--rm", "volumes", "true"]);
    assert_eq!(sandbox.run(&["-v", "nv:/y", "busybox", "cat", "/y/seed"]).ok().text(), "seed");
    sandbox.ok(["create", "-v", "bare:/data:nocopy", "volumes", "true"]);
    assert_eq!(sandbox.run(&["-v", "bare:/y", "busybox", "ls", "-A", "/y"]).ok().text(), "");
    // What it is made from is as it was.
    sandbox.start("c", &["--volumes-from", "dc", "volumes", "cat", "/data/seed"]);
    sandbox.ok(["wait", "c"]);
    assert_eq!(sandbox.ok(["logs", "c"]), "seed");
}

/// The image `volumes`, which names /data and has a file there.
fn load_with_a_volume(sandbox: &Sandbox) {
    ImageBuilder::with_programs()
        .layer(Layer::new().dir("data").file("data/seed", b"seed"))
        .config("Volumes", json!({ "/data": {} }))
        .load(sandbox, "volumes");
}

#[test]
fn an_image_s_volumes_are_anonymous_and_go_with_rm_v() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    load_with_a_volume(&sandbox);
    sandbox.start("c", &["volumes", "cat", "/data/seed"]);
    sandbox.ok(["wait", "c"]);
    assert_eq!(sandbox.ok(["logs", "c"]), "seed");
    let volumes = sandbox.ok(["volume", "ls", "-q"]);
    assert_eq!(volumes.len(), 64, "{volumes}");
    sandbox.ok(["rm", "c"]);
    assert_eq!(sandbox.ok(["volume", "ls", "-q"]), volumes, "rm alone leaves it, as docker's does");
    sandbox.ok(["volume", "rm", &volumes]);
    sandbox.start("d", &["volumes", "true"]);
    sandbox.ok(["wait", "d"]);
    sandbox.ok(["rm", "-v", "d"]);
    assert_eq!(sandbox.ok(["volume", "ls", "-q"]), "");
}

#[test]
fn an_image_s_volumes_are_in_memory_or_none_where_that_is_asked_for() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    load_with_a_volume(&sandbox);
    let mounted = |mode: &str| {
        let script = "grep ' /data ' /proc/mounts | cut -d ' ' -f 3; ls /data";
        let output = sandbox.run(&["--image-volume", mode, "volumes", "sh", "-c", script]).ok();
        output.lines().join(" ")
    };
    assert_eq!(mounted("tmpfs"), "tmpfs");
    assert_eq!(mounted("ignore"), "seed");
    assert!(mounted("bind").ends_with(" seed"));
    assert_eq!(sandbox.ok(["volume", "ls", "-q"]), "");
    sandbox.run(&["--image-volume", "some", "volumes", "true"]).refused(&["--image-volume", "ignore"]);
}

#[test]
fn volumes_from_takes_another_container_s() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let folder = sandbox.folder("shared");
    let bind = format!("{}:/bind", folder.display());
    sandbox.start(
        "first",
        &["-v", "vol:/vol", "-v", &bind, "busybox", "sh", "-c", "echo v >/vol/f; echo b >/bind/f"],
    );
    sandbox.ok(["wait", "first"]);
    assert_eq!(shell(&sandbox, &["--volumes-from", "first"], "cat /vol/f /bind/f"), "v\nb");
    assert_eq!(
        shell(&sandbox, &["--volumes-from", "first:ro"], "touch /vol/x /bind/x 2>/dev/null || echo ro"),
        "ro"
    );
    sandbox.run(&["--volumes-from", "nobody", "busybox", "true"]).refused(&["nobody"]);
}

#[test]
fn an_anonymous_volume_outlives_its_container_where_another_uses_it() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let write = "echo kept >/data/f";
    sandbox.ok(["run", "--name", "owner", "-v", "/data", "busybox", "sh", "-c", write]);
    sandbox.ok(["create", "--name", "heir", "--volumes-from", "owner", "busybox", "cat", "/data/f"]);
    sandbox.ok(["rm", "-f", "-v", "owner"]);
    assert_eq!(sandbox.ok(["start", "-a", "heir"]).trim(), "kept");
    sandbox.ok(["rm", "-v", "heir"]);
    sandbox.ok(["volume", "prune", "-f"]);
}

#[test]
fn an_overlay_volume_keeps_the_host_s_folder_as_it_is() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let folder = sandbox.folder("source");
    std::fs::write(folder.join("f"), "host").unwrap();
    let bind = format!("{}:/mnt:O", folder.display());
    assert_eq!(
        shell(&sandbox, &["-v", &bind], "echo changed >/mnt/f; touch /mnt/new; cat /mnt/f"),
        "changed"
    );
    assert_eq!(std::fs::read_to_string(folder.join("f")).unwrap(), "host");
    assert!(!folder.join("new").exists());
}

#[test]
fn u_gives_the_volume_to_the_container_s_user() {
    let Some(sandbox) = sandbox(&[Image("busybox"), SubIds]) else { return };
    shell(&sandbox, &["-v", "vol:/vol:U", "-u", "1000:2000"], "touch /vol/mine");
    assert_eq!(shell(&sandbox, &["-v", "vol:/vol"], "stat -c %u:%g /vol /vol/mine"), "1000:2000\n1000:2000");
    // Who has got a file since keeps it.
    shell(&sandbox, &["-v", "vol:/vol", "-u", "0"], "chown 7:8 /vol/mine");
    shell(&sandbox, &["-v", "vol:/vol:U", "-u", "1000:2000"], "true");
    assert_eq!(shell(&sandbox, &["-v", "vol:/vol"], "stat -c %u:%g /vol /vol/mine"), "1000:2000\n7:8");
    shell(&sandbox, &["-v", "vol:/vol:U", "-u", "5"], "true");
    assert_eq!(shell(&sandbox, &["-v", "vol:/vol"], "stat -c %u:%g /vol /vol/mine"), "5:0\n5:0");
    // SELinux's letters are taken and mean nothing here.
    shell(&sandbox, &["-v", "vol:/vol:z"], "true");
    shell(&sandbox, &["-v", "vol:/vol:Z"], "true");
}

#[test]
fn tmpfs_mounts_have_their_options() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let report = sandbox.report(&["--tmpfs", "/t:size=2m,mode=1770,noexec", "--tmpfs", "/plain"]);
    let mount = report.mount("/t").unwrap();
    assert_eq!(mount.kind, "tmpfs");
    assert!(mount.super_options.contains(&"size=2048k".into()), "{mount:?}");
    for option in ["noexec", "nosuid", "nodev"] {
        assert!(mount.options.contains(&option.into()), "{option}: {mount:?}");
    }
    assert_eq!(report.mount("/plain").unwrap().kind, "tmpfs");
    for bad in ["relative", "/t:nonsense", "/t:size=x"] {
        let output = sandbox.run(&["--tmpfs", bad, "guest", "report"]);
        assert_eq!(output.code(), 125, "{bad}: {output}");
    }
}

/// As runc: without mode= that of the directory that it hides.
#[test]
fn a_tmpfs_has_the_mode_of_the_directory_below() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    ImageBuilder::with_programs()
        .layer(Layer::new().entry("own/", tar::EntryType::Directory, 0o710, "", b""))
        .load(&sandbox, "modes");
    let mode = |options: &[&str], path: &str| {
        sandbox.run(&[options, &["modes", "stat", "-c", "%a %u", path]].concat()).ok().text().to_owned()
    };
    assert_eq!(mode(&["--tmpfs", "/own"], "/own"), "710 0");
    assert_eq!(mode(&["--mount", "type=tmpfs,dst=/own,noatime"], "/own"), "710 0");
    assert_eq!(mode(&["--tmpfs", "/own:mode=1777"], "/own"), "1777 0");
    assert_eq!(mode(&["--tmpfs", "/new/one"], "/new/one"), "1777 0");
}

#[test]
fn a_device_may_be_a_directory_of_them() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    if !std::path::Path::new("/dev/net/tun").exists() {
        return println!("skipped: there is no /dev/net/tun");
    }
    let list = "ls -R /dev/net /dev/other 2>/dev/null; stat -c %F $0";
    let see = |device: &str, node: &str| {
        let words = ["--device", device, "busybox", "sh", "-c", list, node];
        sandbox.run(&words).ok().lines().last().map(|line| (*line).to_owned())
    };
    assert_eq!(see("/dev/net", "/dev/net/tun").as_deref(), Some("character special file"));
    assert_eq!(see("/dev/net:/dev/other:rw", "/dev/other/tun").as_deref(), Some("character special file"));
    // What the container has of its own stays so.
    assert_eq!(see("/dev", "/dev/net/tun").as_deref(), Some("character special file"));
    let folder = sandbox.folder("none");
    sandbox.run(&["--device", folder.to_str().unwrap(), "busybox", "true"]).refused(&["no device below"]);
}

#[test]
fn a_read_only_container_can_write_only_to_its_tmpfs() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let script = "touch /x 2>/dev/null || echo root; touch /tmp/x && touch /run/x && touch /var/tmp/x && touch /dev/shm/x && echo fine";
    assert_eq!(shell(&sandbox, &["--read-only"], script), "root\nfine");
    let script =
        "touch /tmp/x 2>/dev/null || echo ro; touch /etc/hosts 2>/dev/null; touch /dev/shm/x && echo shm";
    assert_eq!(shell(&sandbox, &["--read-only", "--read-only-tmpfs=false"], script), "ro\nshm");
}

#[test]
fn dev_holds_what_containers_expect() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let script = "cd /dev; for d in null zero full random urandom tty; do test -c $d || echo no $d; done; \
        for l in fd stdin stdout stderr ptmx core; do test -L $l || test $l = core || echo no $l; done; \
        test -d pts && test -d shm && test -d mqueue || echo no folder; \
        echo x >null; head -c 3 zero | wc -c; head -c 1 urandom | wc -c; echo out >/dev/stdout; ls";
    let said = shell(&sandbox, &[], script);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..3], ["3", "1", "out"], "{said}");
    for name in &lines[3..] {
        let known = [
            "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr",
            "stdin", "stdout", "tty", "urandom", "zero",
        ];
        assert!(known.contains(name), "/dev/{name} has no business there");
    }
    assert_eq!(shell(&sandbox, &["-t"], "test -c /dev/console && echo console"), "console");
}

#[test]
fn shm_has_its_size() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let size = |options: &[&str]| sandbox.report(options).mount("/dev/shm").unwrap().super_options;
    assert!(
        size(&[]).contains(&"size=64000k".into()) || size(&[]).contains(&"size=65536k".into()),
        "{:?}",
        size(&[])
    );
    assert!(size(&["--shm-size", "3m"]).contains(&"size=3072k".into()), "{:?}", size(&["--shm-size", "3m"]));
    sandbox.run(&["--shm-size", "many", "guest", "report"]).refused(&["many"]);
}

#[test]
fn sensitive_parts_of_proc_and_sys_are_masked() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    let script = "for f in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug; do \
            test ! -e $f || test $(head -c 1 $f 2>/dev/null | wc -c) = 0 || echo open $f; done; \
        for d in /proc/acpi /proc/scsi /sys/firmware /sys/dev/block; do test ! -d $d || test -z \"$(ls -A $d)\" || echo full $d; done; true";
    assert_eq!(shell(&sandbox, &[], script), "");
    for path in [
        "/proc/sys/kernel/panic",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/uevent_helper",
    ] {
        let said = sandbox.run(&["guest", "open", path]).ok();
        assert!(["EACCES", "EROFS", "ENOENT"].contains(&said.text()), "{path}: {said}");
    }
}

#[test]
fn masks_can_be_added_and_lifted() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    assert_eq!(
        shell(&sandbox, &["--security-opt", "mask=/etc/passwd:/home"], "cat /etc/passwd; ls /home"),
        ""
    );
    let lifted = shell(
        &sandbox,
        &["--security-opt", "unmask=/proc/timer_list"],
        "grep -c ' /proc/timer_list ' /proc/mounts; true",
    );
    assert_eq!(lifted, "0");
}

#[test]
fn a_privileged_container_has_all_devices_but_virtual_terminals() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let seen = shell(&sandbox, &["--privileged"], "cd /dev && find . -type c -o -type b | sort");
    let wanted =
        sandbox.tool(["sh", "-c", "cd /dev && find . -xdev -type c -o -type b | sort"]).output().unwrap();
    let wanted = String::from_utf8(wanted.stdout).unwrap();
    let is_terminal =
        |name: &str| name.strip_prefix("./tty").is_some_and(|number| number.parse::<u32>().is_ok());
    for name in wanted.lines().filter(|name| !is_terminal(name)) {
        let own = ["./console", "./ptmx"].contains(&name) || name.starts_with("./pts/");
        assert!(own || seen.lines().any(|line| line == name), "{name}: {seen}");
    }
    assert!(!seen.lines().any(is_terminal), "{seen}");
}

#[test]
fn sysctls_are_those_of_the_container() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let options = ["--sysctl", "kernel.msgmax=4096", "--sysctl", "net.ipv4.ip_unprivileged_port_start=80"];
    let script = "cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_unprivileged_port_start";
    assert_eq!(shell(&sandbox, &options, script), "4096\n80");
    for bad in [
        "kernel.msgmax",
        "kernel.panic=1",
        "no.such=1",
        "../../x=1",
        "kernel/../kernel/panic=1",
        "kernel.msgmax=many",
    ] {
        let output = sandbox.run(&["--sysctl", bad, "busybox", "true"]);
        assert_eq!(output.code(), 125, "{bad}: {output}");
    }
    // Sysctls of a namespace that is the host's.
    let words = ["run", "--rm", "--network", "host", "--sysctl", "net.ipv4.ip_forward=1", "busybox", "true"];
    sandbox.coracle(words).refused(&["net.ipv4.ip_forward"]);
}

#[test]
fn devices_are_bound_from_the_host() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    assert_eq!(shell(&sandbox, &["--device", "/dev/zero:/dev/mine"], "head -c 2 /dev/mine | wc -c"), "2");
    sandbox.run(&["--device", "/dev/no-such", "busybox", "true"]).refused(&["/dev/no-such"]);
    sandbox.run(&["--device", "/etc/passwd", "busybox", "true"]).refused(&["/etc/passwd"]);
}

#[test]
fn hosts_resolv_conf_and_hostname_are_the_container_s_own() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let options = [
        "--hostname",
        "box",
        "--add-host",
        "db:10.1.2.3",
        "--add-host",
        "six:fd00::1",
        "--dns",
        "192.0.2.53",
        "--dns-search",
        "example.test",
        "--dns-option",
        "ndots:3",
    ];
    let said = shell(
        &sandbox,
        &options,
        "hostname; cat /etc/hostname; cat /etc/hosts; echo --; cat /etc/resolv.conf",
    );
    assert!(said.starts_with("box\nbox\n"), "{said}");
    let (hosts, resolv) = said.split_once("--").unwrap();
    let words = |text: &str| {
        text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let hosts = words(hosts);
    for line in ["10.1.2.3 db", "fd00::1 six"] {
        assert!(hosts.iter().any(|l| l == line), "{line}: {hosts:?}");
    }
    assert!(hosts.iter().any(|l| l.starts_with("127.0.0.1 ") && l.contains("localhost")), "{hosts:?}");
    assert!(hosts.iter().any(|l| l.contains("box")), "{hosts:?}");
    let resolv = words(resolv);
    for line in ["nameserver 192.0.2.53", "search example.test", "options ndots:3"] {
        assert!(resolv.iter().any(|l| l == line), "{line}: {resolv:?}");
    }
    assert_eq!(resolv.iter().filter(|l| l.starts_with("nameserver")).count(), 1, "{resolv:?}");
    for bad in [
        ["--add-host", "noaddress"],
        ["--add-host", "x:not-an-ip"],
        ["--dns", "not-an-ip"],
        ["--hostname", "bad/name"],
    ] {
        let output = sandbox.run(&[&bad[..], &["busybox", "true"]].concat());
        assert_eq!(output.code(), 125, "{bad:?}: {output}");
    }
    // They can be written, and are not the image's.
    shell(&sandbox, &[], "echo x >>/etc/hosts && echo x >>/etc/resolv.conf");
    let id = shell(&sandbox, &[], "hostname");
    assert_eq!(id.len(), 12, "the short id by default: {id}");
}

#[test]
fn the_host_s_name_is_untouched() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let before = rustix::system::uname().nodename().to_owned();
    sandbox.run(&["--hostname", "other", "busybox", "hostname"]).ok();
    assert_eq!(rustix::system::uname().nodename(), before.as_c_str());
}

#[test]
fn owners_and_modes_of_an_image_are_kept() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest"), SubIds]) else { return };
    let mut layer = Layer::new().dir("owned");
    layer = layer.entry("owned/suid", tar::EntryType::Regular, 0o4755, "", b"x");
    layer = layer.entry("owned/sticky", tar::EntryType::Directory, 0o1777, "", b"");
    ImageBuilder::with_programs().layer(layer.owned("owned/app", 1000, 2000)).load(&sandbox, "owners");
    let output = sandbox
        .run(&["owners", "stat", "-c", "%a %u:%g %n", "/owned/suid", "/owned/sticky", "/owned/app"])
        .ok();
    assert_eq!(
        output.lines(),
        ["4755 0:0 /owned/suid", "1777 0:0 /owned/sticky", "644 1000:2000 /owned/app"]
    );
}

#[test]
fn layers_hide_what_later_layers_removed() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    ImageBuilder::with_programs()
        .layer(
            Layer::new()
                .dir("d")
                .file("d/gone", b"1")
                .file("d/kept", b"1")
                .dir("o")
                .file("o/old", b"1")
                .file("f", b"1"),
        )
        .layer(
            Layer::new()
                .dir("d")
                .file("d/.wh.gone", b"")
                .file("d/new", b"2")
                .dir("o")
                .file("o/.wh..wh..opq", b"")
                .file("o/only", b"2")
                .file(".wh.f", b""),
        )
        .layer(Layer::new().dir("f").file("f/inside", b"3"))
        .load(&sandbox, "whiteouts");
    let output = sandbox.run(&["whiteouts", "sh", "-c", "cd /; echo d/* o/* f/*"]).ok();
    assert_eq!(output.text(), "d/kept d/new o/only f/inside");
}

#[test]
fn a_container_can_remove_and_replace_what_the_image_has() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let script = "rm -r /home && mkdir /home && ls -A /home | wc -l; mv /var /var2 && ls -d /var2/log; ln /etc/passwd /p2 && stat -c %h /p2";
    assert_eq!(shell(&sandbox, &[], script), "0\n/var2/log\n2");
}

#[test]
fn programs_can_tell_that_they_are_in_a_container() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let script = "cat /run/.containerenv | wc -c; grep -c ' /run/.containerenv ' /proc/self/mountinfo";
    assert_eq!(shell(&sandbox, &[], script), "0\n1", "nobody is told who it is");
    // A tmpfs above it does not hide it.
    for words in [&["--tmpfs", "/run"][..], &["--read-only"], &["--mount", "type=tmpfs,dst=/run"]] {
        assert_eq!(shell(&sandbox, words, "stat -c %s /run/.containerenv"), "0", "{words:?}");
    }
    let told = shell(&sandbox, &["--privileged", "--name", "/who"], "cat /run/.containerenv");
    assert!(told.contains("name=\"who\"") && told.contains("rootless=1"), "{told}");
}
