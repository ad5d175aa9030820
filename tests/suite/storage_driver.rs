//! The kernel's overlay and our own on FUSE: which is taken when, that a
//! container can have either at each start, and what is said where one cannot.

use crate::changes::load_base;
use crate::harness::{Fuse, Image, Output, Sandbox, SubIds, sandbox, until};
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;

/// `--storage-driver DRIVER WORDS...`
#[track_caller]
fn with(sandbox: &Sandbox, driver: &str, words: &[&str]) -> Output {
    sandbox.coracle([&["--storage-driver", driver], words].concat())
}

/// The type of the file system that a container has as its root.
const ROOT_TYPE: &str =
    "sed -n 's/^[^ ]* [^ ]* [^ ]* [^ ]* \\/ .* - \\([^ ]*\\) .*/\\1/p' /proc/self/mountinfo";

#[track_caller]
fn root_type(sandbox: &Sandbox, driver: &str, options: &[&str]) -> String {
    let words =
        [&["run", "--rm", "--network", "none"], options, &["busybox", "sh", "-c", ROOT_TYPE]].concat();
    with(sandbox, driver, &words).ok().text().to_owned()
}

fn copies(sandbox: &Sandbox) -> usize {
    let layers = std::fs::read_dir(sandbox.data().join("layers")).unwrap();
    layers.filter(|entry| entry.as_ref().unwrap().file_name().len() > 64).count()
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// Runs a script in `unshare`, where `$c` is the tool.
#[track_caller]
fn session(sandbox: &Sandbox, script: &str) -> Output {
    let binary = crate::harness::sandbox::binary();
    sandbox.coracle(["unshare", "sh", "-ec", &format!("c={}; {script}", binary.display())])
}

#[test]
fn a_container_has_the_driver_that_is_asked_for() {
    let Some(mut sandbox) = sandbox(&[Fuse, Image("busybox")]) else { return };
    assert_eq!(root_type(&sandbox, "fuse", &[]), "fuse.coracle");
    assert_eq!(root_type(&sandbox, "fuse-overlayfs", &[]), "fuse.coracle");
    assert_eq!(root_type(&sandbox, "overlay", &[]), "overlay");
    // The flag is before the variable, the variable before the file.
    sandbox.set("CORACLE_STORAGE_DRIVER", "");
    let of = |sandbox: &Sandbox| sandbox.run(&["busybox", "sh", "-c", ROOT_TYPE]).ok().text().to_owned();
    let file = sandbox.path("config/coracle/config.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "[storage]\ndriver = \"fuse\"\n").unwrap();
    assert_eq!(of(&sandbox), "fuse.coracle");
    sandbox.set("CORACLE_STORAGE_DRIVER", "overlay");
    assert_eq!(of(&sandbox), "overlay");
    assert_eq!(root_type(&sandbox, "fuse", &[]), "fuse.coracle");
}

#[test]
fn wrong_drivers_are_named_with_their_place() {
    let Some(mut sandbox) = sandbox(&[Image("busybox")]) else { return };
    let words = ["run", "--rm", "--network", "none", "busybox", "true"];
    with(&sandbox, "vfs", &words).refused(&["--storage-driver", "vfs", "auto, overlay and fuse"]);
    sandbox.set("CORACLE_STORAGE_DRIVER", "");
    let file = sandbox.path("config/coracle/config.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    for (text, said) in [
        ("\n[storage]\ndriver = \"zfs\"\n", &["line 3", "zfs", "auto, overlay and fuse"][..]),
        ("[storage]\ndrivr = \"fuse\"\n", &["line 2", "drivr"]),
        ("storage", &["line 1"]),
    ] {
        std::fs::write(&file, text).unwrap();
        sandbox.coracle(words).refused(&[&["config.toml"], said].concat());
    }
    // What is wrong is said before anything is made, and nobody waits for a FIFO's writer.
    let words = ["run", "--network", "none", "busybox", "true"];
    std::fs::write(&file, [b'#', 0xff]).unwrap();
    sandbox.coracle(words).refused(&["config.toml", "UTF-8", "hint"]);
    std::fs::remove_file(&file).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    sandbox.coracle(words).refused(&["config.toml", "not a regular file", "hint"]);
    assert_eq!(sandbox.ok(["ps", "-aq"]), "");
    std::fs::remove_file(&file).unwrap();
    sandbox.set("CORACLE_STORAGE_DRIVER", "nonsense");
    sandbox.coracle(words).refused(&["CORACLE_STORAGE_DRIVER", "nonsense"]);
    assert_eq!(sandbox.ok(["ps", "-aq"]), "");
}

#[test]
fn a_container_changes_drivers_and_keeps_its_files() {
    let Some(sandbox) = sandbox(&[Fuse, Image("busybox"), Image("guest")]) else { return };
    load_base(&sandbox);
    // Each run finds what those before it left, and leaves something itself.
    let script = r"set -e
        n=$(ls /runs 2>/dev/null | wc -l)
        busybox mkdir -p /runs; echo $n >/runs/$n
        case $n in
            0) busybox rm /data/old; busybox rm -r /data/sub; busybox mkdir /data/sub; echo new >/data/sub/new
               echo more >>/data/kept; busybox ln /data/kept /data/linked; busybox ln -s kept /data/symbolic
               busybox mkfifo /data/fifo; busybox chmod 4751 /data/second ;;
            1) busybox mv /data/sub/new /data/newer; busybox rm -r /data/sub; busybox mkdir /data/sub
               : >/data/sub/again; busybox rm /etc/conf ;;
            2) busybox rm -r /data/sub; : >/data/sub; busybox mv /data/newer /data/newest ;;
            3) busybox rm /data/sub; busybox mkdir /data/sub; : >/data/sub/f; echo new >/etc/conf ;;
        esac
        cd /; busybox find data etc runs -type f ! -name resolv.conf ! -name host* | busybox sort
        busybox stat -c '%n %F %a %h' data/* | busybox sort; busybox cat data/kept";
    let native = "d";
    for name in ["c", native] {
        sandbox.ok(["create", "--network", "none", "--name", name, "base", "sh", "-c", script]);
    }
    for driver in ["fuse", "overlay", "fuse", "overlay", "overlay", "fuse"] {
        let expected = with(&sandbox, "overlay", &["start", "-a", native]).ok();
        let output = with(&sandbox, driver, &["start", "-a", "c"]).ok();
        assert_eq!(output.stdout, expected.stdout, "on {driver}: {}", output.stderr);
        assert_eq!(sandbox.ok(["diff", "c"]), sandbox.ok(["diff", native]), "after {driver}");
    }
}

/// Read in pieces of all sizes: large ones are not copied by the server, which
/// has to know where the file ends.
#[test]
fn a_large_file_is_read_whole() {
    let Some(sandbox) = sandbox(&[Fuse, Image("busybox")]) else { return };
    let script = r"set -e
        for size in 1 65535 65536 131072 200001 1048576 3000003; do
            seq 1000000 | head -c $size | tee /file | md5sum >/sum
            md5sum </file | cmp - /sum
        done";
    let name = ["--name", "c", "--network", "none"];
    with(&sandbox, "fuse", &[&["run"][..], &name, &["busybox", "sh", "-c", script]].concat()).ok();
    // A new server, and nothing of the file in the kernel's cache.
    let again = r"set -e
        md5sum </file | cmp - /sum
        for size in 4k 60k 64k 100k 1024k; do
            dd if=/file bs=$size 2>/dev/null | md5sum | cmp - /sum
        done
        tail -c 70002 /file >/tail
        dd if=/file bs=3 skip=976667 2>/dev/null | cmp - /tail";
    sandbox.ok(["commit", "c", "large"]);
    for options in [&[][..], &["--read-only", "--tmpfs", "/tail"]] {
        let script = if options.is_empty() { again.to_owned() } else { again.replace("/tail", "/tail/t") };
        let words =
            [&["run", "--rm", "--network", "none"], options, &["large", "sh", "-c", &script]].concat();
        with(&sandbox, "fuse", &words).ok();
    }
}

#[test]
fn keep_id_needs_no_copy_of_the_image() {
    let Some(sandbox) = sandbox(&[Fuse, SubIds, Image("busybox")]) else { return };
    let script = "set -e; stat -c %u:%g / /etc /etc/passwd; id -u; : >/home/mine; stat -c %u /home/mine";
    let uid = rustix::process::getuid().as_raw().to_string();
    let words =
        ["run", "--name", "c", "--network", "none", "--userns", "keep-id", "busybox", "sh", "-c", script];
    // /home is root's in the image, so the user cannot write there.
    with(&sandbox, "auto", &words).expect_code(1);
    assert_eq!(
        sandbox.coracle(["logs", "c"]).stdout.lines().collect::<Vec<_>>(),
        ["0:0", "0:0", "0:0", &uid]
    );
    assert_eq!(copies(&sandbox), 0);
    let script = format!("{ROOT_TYPE}; chown 33:0 /etc/group; stat -c %u:%g /etc/group /etc/passwd /etc");
    let words = ["run", "--name", "d", "--network", "none", "--uidmap", "0:1:100", "--gidmap", "0:5:100"];
    let output = with(&sandbox, "auto", &[&words[..], &["busybox", "sh", "-c", &script]].concat()).ok();
    assert_eq!(output.lines(), ["fuse.coracle", "33:0", "0:0", "0:0"], "{output}");
    assert_eq!(sandbox.ok(["diff", "d"]), "C /etc\nC /etc/group");
    let listed = session(
        &sandbox,
        "$c export d | busybox tar tvf - 2>/dev/null || $c export d | tar tvf - --numeric-owner",
    )
    .ok();
    let line = |name: &str| listed.lines().into_iter().find(|l| l.ends_with(name)).unwrap().to_owned();
    assert!(line(" etc/group").contains("33/0"), "{}", line(" etc/group"));
    assert!(line(" etc/passwd").contains("0/0"), "{}", line(" etc/passwd"));
    assert_eq!(copies(&sandbox), 0);
    // Where the kernel's overlay is asked for, there is no other way.
    assert_eq!(with(&sandbox, "overlay", &["start", "-a", "d"]).ok().lines()[0], "overlay");
    assert_eq!(copies(&sandbox), 1);
}

#[test]
fn a_killed_server_ends_one_container_and_says_why() {
    let Some(sandbox) = sandbox(&[Fuse, Image("busybox")]) else { return };
    let start = |name: &str| {
        let script = "echo kept >/kept; sync; echo ready; sleep 1000";
        with(
            &sandbox,
            "fuse",
            &["run", "-d", "--network", "none", "--name", name, "busybox", "sh", "-c", script],
        )
        .ok();
        sandbox.wait_for_log(name, "ready");
    };
    start("one");
    let [server] = sandbox.servers()[..] else { panic!("{:?}", sandbox.servers()) };
    start("two");
    assert_eq!(sandbox.ok(["inspect", "--format", "{{.GraphDriver.Name}} {{.Driver}}", "one"]), "fuse fuse");
    // The end of a session is for the container to survive or not.
    kill_process(Pid::from_raw(server).unwrap(), Signal::TERM).unwrap();
    assert_eq!(sandbox.ok(["exec", "one", "cat", "/kept"]), "kept");
    kill(server);
    assert_eq!(sandbox.ok(["wait", "one"]), "137");
    let state = sandbox.inspect("one")["State"].clone();
    assert_eq!(state["ExitCode"], 137, "{state}");
    let error = state["Error"].as_str().unwrap();
    assert!(error.contains("FUSE overlay") && error.contains("signal 9"), "{error}");
    assert!(sandbox.coracle(["logs", "one"]).stderr.contains("killed by signal 9"));
    assert_eq!(sandbox.ok(["exec", "two", "cat", "/kept"]), "kept", "the other one is not touched");
    with(&sandbox, "fuse", &["start", "one"]).ok();
    assert_eq!(sandbox.ok(["exec", "one", "cat", "/kept"]), "kept");
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let Some(sandbox) = sandbox(&[Fuse, Image("busybox")]) else { return };
    sandbox.ok(["create", "--network", "none", "--name", "c", "busybox", "echo", "hi"]);
    let work = sandbox.ok(["inspect", "--format", "{{.GraphDriver.Data.WorkDir}}", "c"]);
    let links = Path::new(&work).join("links");
    std::fs::write(&links, "").unwrap();
    let said = ["overlay's work directory", "Not a directory"];
    with(&sandbox, "fuse", &["start", "-a", "c"]).fails(1, &said);
    with(&sandbox, "fuse", &["cp", "c:/etc/passwd", "-"]).fails(1, &said);
    std::fs::remove_file(&links).unwrap();
    assert_eq!(with(&sandbox, "fuse", &["start", "-a", "c"]).ok().text(), "hi");
}

#[test]
fn a_killed_monitor_loses_nothing_that_was_written() {
    let Some(sandbox) = sandbox(&[Fuse, Image("busybox")]) else { return };
    let script =
        "dd if=/dev/zero of=/big bs=64k count=160 2>/dev/null; echo end >>/big; echo ready; sleep 1000";
    with(&sandbox, "fuse", &["run", "-d", "--network", "none", "--name", "c", "busybox", "sh", "-c", script])
        .ok();
    sandbox.wait_for_log("c", "ready");
    kill(sandbox.monitors()[0]);
    until("its server to end", || sandbox.servers().is_empty().then_some(()));
    sandbox.wait_for_status("c", "exited");
    let upper = sandbox.ok(["inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", "c"]);
    let size = std::fs::metadata(Path::new(&upper).join("big")).unwrap().len();
    assert_eq!(size, 160 * 64 * 1024 + 4);
}

#[test]
fn what_a_running_container_wrote_is_seen_from_outside() {
    let Some(sandbox) = sandbox(&[Fuse, Image("busybox")]) else { return };
    let script = "for i in 1 2 3 4 5 6 7 8; do dd if=/dev/zero of=/f$i bs=64k count=16 2>/dev/null; echo end >>/f$i; done; echo ready; sleep 1000";
    with(&sandbox, "fuse", &["run", "-d", "--network", "none", "--name", "c", "busybox", "sh", "-c", script])
        .ok();
    sandbox.wait_for_log("c", "ready");
    assert!(sandbox.ok(["diff", "c"]).contains("A /f8"));
    sandbox.ok(["commit", "-q", "c", "committed"]);
    let check = "cat /f? | wc -c; tail -qc 4 /f? | sort | uniq -c | tr -s ' '";
    let output = sandbox.run(&["committed", "sh", "-c", check]).ok();
    assert_eq!(output.lines(), [&(8 * (1024 * 1024 + 4)).to_string(), " 8 end"], "{output}");
    sandbox.ok(["cp", "c:/f8", "f8"]);
    assert_eq!(std::fs::metadata(sandbox.path("work/f8")).unwrap().len(), 1024 * 1024 + 4);
}

#[test]
fn containers_at_rest_are_shown_by_it_too() {
    let Some(mut sandbox) = sandbox(&[Fuse, Image("busybox"), Image("guest")]) else { return };
    load_base(&sandbox);
    sandbox.set("CORACLE_STORAGE_DRIVER", "fuse");
    let script = "echo x >/new; busybox rm /data/old";
    sandbox.ok(["run", "--network", "none", "--name", "c", "base", "sh", "-c", script]);
    assert_eq!(sandbox.ok(["diff", "c"]), "C /data\nD /data/old\nA /new");
    let output = session(
        &sandbox,
        "m=$($c mount c); stat -f -c %T $m; cat $m/new; ls $m/data; echo y >$m/outside; $c umount c; \
         i=$($c image mount base); stat -f -c %T $i; ls $i/data",
    )
    .ok();
    let expected = ["fuseblk", "x", "kept", "second", "sub", "c", "fuseblk", "kept", "old", "second", "sub"];
    let same = |line| if str::starts_with(line, "fuse") { "fuseblk" } else { line };
    assert_eq!(output.lines().into_iter().map(same).collect::<Vec<_>>(), expected, "{output}");
    until("the servers to end with the session", || sandbox.servers().is_empty().then_some(()));
    sandbox.file("in", "from outside");
    sandbox.ok(["cp", "in", "c:/data/in"]);
    sandbox.ok(["cp", "c:/data/in", "out"]);
    assert_eq!(std::fs::read_to_string(sandbox.path("work/out")).unwrap(), "from outside");
    sandbox.ok(["export", "-o", "whole.tar", "c"]);
    sandbox.ok(["import", "whole.tar", "whole"]);
    let output = sandbox.run(&["whole", "/bin/busybox", "cat", "/new", "/outside", "/data/in"]).ok();
    assert_eq!(output.stdout, "x\ny\nfrom outside");
    sandbox.ok(["commit", "-q", "--squash", "c", "squashed"]);
    assert_eq!(sandbox.run(&["squashed", "/bin/busybox", "cat", "/outside"]).ok().stdout, "y\n");
}

#[test]
fn the_host_s_root_is_shown_with_its_owners() {
    let Some(sandbox) = sandbox(&[Fuse]) else { return };
    if rustix::process::getuid().is_root() {
        return;
    }
    let marker = format!("/etc/coracle-{}", std::process::id());
    let script = format!(
        "stat -c %u:%g / /etc /etc/passwd /usr/bin/env; stat -f -c %T /; : >{marker} && stat -c %u {marker}; \
         mv /etc/passwd /etc/passwd.old && stat -c %u /etc/passwd.old; id -u"
    );
    let words = ["run", "--name", "c", "--network", "none", "--rootfs", "/:O", "/bin/sh", "-c", &script];
    let output = with(&sandbox, "auto", &words).ok();
    let lines = output.lines();
    assert_eq!(lines[..4], ["0:0"; 4], "{output}");
    assert!(lines[4].starts_with("fuse"), "{output}");
    assert_eq!(lines[5..], ["0", "0", "0"], "{output}");
    assert!(!Path::new(&marker).exists() && Path::new("/etc/passwd").exists());
    // What it wrote is gone with its run.
    with(&sandbox, "auto", &["start", "-a", "c"]).ok();
}

#[test]
fn info_says_which_driver_and_why() {
    let Some(mut sandbox) = sandbox(&[Fuse]) else { return };
    sandbox.set("CORACLE_STORAGE_DRIVER", "");
    let info = |driver: &str| {
        let format =
            "{{.Driver}} {{.Store.GraphDriverName}}: {{index .Store.GraphStatus \"Storage Driver\"}}";
        with(&sandbox, driver, &["info", "--format", format]).ok().text().to_owned()
    };
    assert_eq!(info("fuse"), "fuse fuse: fuse, as asked for");
    assert_eq!(info("overlay"), "overlay overlay: overlay (kernel), as asked for");
    assert_eq!(info("auto"), "overlay overlay: overlay (kernel)");
}

#[test]
fn without_fuse_the_kernel_serves_or_the_start_says_what_is_wrong() {
    let Some(sandbox) = sandbox(&[SubIds, Image("busybox")]) else { return };
    let run = "run --rm --network none busybox";
    // Another's file in its place cannot be opened; an empty /dev has none.
    let forbidden = "mount --bind /etc/shadow /dev/fuse";
    let missing = "mkdir /tmp/dev.$$; mount -t tmpfs none /tmp/dev.$$; for d in null zero full random urandom tty; \
         do : >/tmp/dev.$$/$d; mount --bind /dev/$d /tmp/dev.$$/$d; done; mount -n --move /tmp/dev.$$ /dev; rmdir /tmp/dev.$$";
    for (prepare, said, fix) in
        [(forbidden, "Permission denied", "chmod 0666 /dev/fuse"), (missing, "No such file", "modprobe fuse")]
    {
        let script = format!(
            "{prepare}; if $c --storage-driver fuse {run} true; then exit 9; fi; \
             $c --storage-driver auto {run} echo plain; $c --storage-driver auto {} echo mapped",
            run.replace("run", "run --userns keep-id")
        );
        let output = session(&sandbox, &script).ok();
        assert_eq!(output.lines(), ["plain", "mapped"], "{output}");
        for word in ["/dev/fuse", said, fix] {
            assert!(output.stderr.contains(word), "{output}");
        }
    }
    assert_eq!(copies(&sandbox), 1);
}

#[test]
fn a_deep_stack_of_overlays_is_for_fuse() {
    let Some(sandbox) = sandbox(&[Fuse, SubIds, Image("busybox")]) else { return };
    // The kernel stacks two file systems and no more.
    let script = "d=$XDG_DATA_HOME; for i in 1 2; do mkdir -p $HOME/u$i $HOME/w$i; \
         mount -t overlay -o userxattr,lowerdir=$d,upperdir=$HOME/u$i,workdir=$HOME/w$i none $d; done; \
         if $c --storage-driver overlay run --rm --network none busybox true; then exit 9; fi; \
         $c --storage-driver auto run --rm --network none busybox echo on fuse; $c --storage-driver auto info --format '{{.Driver}}'";
    let output = session(&sandbox, script).ok();
    assert_eq!(output.lines(), ["on fuse", "overlay"], "{output}");
    assert!(output.stderr.contains("too deep") && output.stderr.contains("--storage-driver"), "{output}");
}

/// The layers may lie on one, and what is written elsewhere: the kernel's overlay serves.
#[test]
fn a_state_folder_on_an_overlay_is_named() {
    let Some(sandbox) = sandbox(&[SubIds, Image("busybox")]) else { return };
    let script = "mkdir -p $HOME/u $HOME/w; \
         mount -t overlay -o userxattr,lowerdir=$XDG_STATE_HOME,upperdir=$HOME/u,workdir=$HOME/w none $XDG_STATE_HOME; \
         if $c --storage-driver overlay run --rm --network none busybox true; then exit 9; fi; \
         umount $XDG_STATE_HOME; rm -r $HOME/u $HOME/w; mkdir $HOME/u $HOME/w; d=$XDG_DATA_HOME; \
         mount -t overlay -o userxattr,lowerdir=$d,upperdir=$HOME/u,workdir=$HOME/w none $d; \
         $c --storage-driver overlay run --rm --network none busybox sh -c 'rm /bin/ls; test ! -e /bin/ls'";
    let output = session(&sandbox, script).ok();
    assert!(output.stderr.contains("set XDG_STATE_HOME to a directory on a volume"), "{output}");
}

#[test]
fn an_upper_directory_without_xattrs_is_refused_at_the_start() {
    let Some(sandbox) = sandbox(&[Fuse, SubIds, Image("busybox")]) else { return };
    for driver in ["auto", "overlay", "fuse"] {
        let script = format!(
            "mount -t ramfs none $XDG_STATE_HOME; \
             if $c --storage-driver {driver} run --network none busybox true; then exit 9; fi; $c rm -a >/dev/null"
        );
        let output = session(&sandbox, &script).ok();
        for word in ["user xattrs", "XDG_STATE_HOME"] {
            assert!(output.stderr.contains(word), "{driver}: {output}");
        }
    }
}

#[test]
fn a_layer_that_vanished_is_named() {
    let Some(sandbox) = sandbox(&[Fuse, Image("busybox")]) else { return };
    sandbox.ok(["create", "--network", "none", "--name", "c", "busybox", "true"]);
    let layers = sandbox.data().join("layers");
    let layer = std::fs::read_dir(&layers).unwrap().next().unwrap().unwrap().path();
    std::fs::rename(&layer, layers.join("elsewhere")).unwrap();
    for driver in ["auto", "overlay", "fuse"] {
        with(&sandbox, driver, &["start", "c"]).fails(1, &["a layer of the image is gone"]);
    }
    std::fs::rename(layers.join("elsewhere"), &layer).unwrap();
    with(&sandbox, "fuse", &["start", "-a", "c"]).ok();
}

/// `commit`, `diff` and the kernel read the upper directory: they saw the old
/// content under the name by which a file was not written to.
#[test]
fn a_hard_linked_file_is_changed_under_all_its_names() {
    let Some(sandbox) = sandbox(&[Fuse, Image("busybox"), Image("guest")]) else { return };
    load_base(&sandbox);
    crate::changes::change(&sandbox, "link", "busybox ln /data/kept /etc/other");
    sandbox.ok(["commit", "link", "linked"]);
    let words = ["run", "--network", "none", "--name", "write", "linked", "sh", "-c"];
    let script = "busybox stat -c %h /data/kept; echo new >>/etc/other; busybox stat -c %h /data/kept";
    assert_eq!(with(&sandbox, "fuse", &[&words[..], &[script]].concat()).ok().text(), "2\n2");
    let changes = sandbox.ok(["diff", "write"]);
    assert_eq!(changes.lines().collect::<Vec<_>>(), ["C /data", "C /data/kept", "C /etc", "C /etc/other"]);
    sandbox.ok(["commit", "write", "written"]);
    for driver in ["overlay", "fuse"] {
        let seen =
            with(&sandbox, driver, &["run", "--rm", "--network", "none", "written", "cat", "/data/kept"]);
        assert_eq!(seen.ok().text(), "keptnew", "{driver}");
    }
}

/// rm of a lower tree copied each file up once it was unlinked: Linux writes the
/// times of a forgotten file back.
#[test]
fn what_is_removed_is_not_copied_up() {
    let Some(sandbox) = sandbox(&[Fuse]) else { return };
    let base = sandbox.root().join("removal");
    for part in ["low", "upper", "work", "merged"] {
        std::fs::create_dir_all(base.join(part)).unwrap();
    }
    std::fs::write(base.join("low/file"), vec![b'x'; 1 << 20]).unwrap();
    // A server that is not allowed to write that much would die of it (SIGXFSZ).
    let script = format!(
        "cd {}; (ulimit -f 100; $c overlay -o lowerdir=low,upperdir=upper,workdir=work merged); \
         rm merged/file; ls -a merged; umount merged; stat -c %t,%T upper/file",
        base.display()
    );
    assert_eq!(session(&sandbox, &script).ok().text(), ".\n..\n0,0");
    sandbox.ok(["unshare", "rm", "-rf", base.to_str().unwrap()]);
}

#[test]
fn what_replaces_a_removed_file_inherits_from_its_directory() {
    let Some(sandbox) = sandbox(&[Fuse, Image("busybox"), Image("guest")]) else { return };
    load_base(&sandbox);
    // Without a range of ids there is no group 7: then it is 0 on both.
    let script = r"busybox chgrp 7 /data 2>/dev/null; busybox chmod 2777 /data; umask 027
        busybox rm /data/old /data/kept /etc/conf
        : >/data/old; busybox mkdir /data/kept; : >/etc/conf
        busybox stat -c '%n %u %g %a' /data/old /data/kept /etc/conf; busybox ls /data/kept";
    let words = ["run", "--rm", "--network", "none", "base", "sh", "-c", script];
    let output = with(&sandbox, "fuse", &words).ok();
    assert_eq!(output.stdout, with(&sandbox, "overlay", &words).ok().stdout);
    let lines: Vec<&str> = output.stdout.lines().collect();
    let [old, kept, conf] = lines[..] else { panic!("{output}") };
    assert!(old.ends_with(" 640") && kept.ends_with(" 2750") && conf == "/etc/conf 0 0 640", "{output}");
}

#[test]
fn a_full_disk_is_told_and_loses_nothing_that_was_there() {
    let Some(sandbox) = sandbox(&[Fuse, SubIds]) else { return };
    let base = sandbox.folder("full");
    // On a tmpfs of 8 MiB and 200 files; what is said of it goes elsewhere.
    let script = format!(
        r#"cd {}; mkdir low disk merged; head -c 3000000 /dev/urandom >low/random; echo low >low/kept
        mount -t tmpfs -o size=8m,nr_inodes=200 none disk; mkdir disk/upper disk/work
        $c overlay -o lowerdir=low,upperdir=disk/upper,workdir=disk/work merged; cd merged
        cp random first; sync first
        failing() {{ if "$@" 2>../error.txt; then echo "unnoticed: $*"; exit 9; fi
            grep -q 'No space left' ../error.txt || {{ cat ../error.txt; exit 8; }}; }}
        failing dd if=/dev/zero of=second bs=1M count=16
        failing dd if=/dev/zero of=third bs=1M count=16 conv=fsync
        failing dd if=/dev/zero of=fourth bs=64k count=300 oflag=direct
        cmp first ../low/random; rm second third fourth
        cp random again; sync again; cmp again ../low/random; rm again
        i=0; while (: >"n$i") 2>../error.txt; do i=$((i + 1)); done
        grep -q 'No space left' ../error.txt; rm n*; echo new >kept; cat kept
        cd ..; umount merged; cmp disk/upper/first low/random; cat disk/upper/kept low/kept; ls disk/work/fresh
        # The server has its end when the mount has gone, and not before umount(2) returns.
        tries=0; until umount disk 2>error.txt; do tries=$((tries + 1)); [ $tries -lt 5000 ]; done"#,
        base.display()
    );
    let output = session(&sandbox, &script).ok();
    assert_eq!(output.stdout, "new\nnew\nlow\n", "{output}");
}
