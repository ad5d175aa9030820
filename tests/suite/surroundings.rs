//! Where the store lies and whence commands come: directories of a group, with an ACL,
//! links to another disk; another group, another pid namespace, a directory that is gone.

use crate::harness::{Fuse, Image, Sandbox, SubIds, needs, sandbox};
use rustix::process::{getegid, getgroups};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

/// The folders of the store, before anything is in them.
fn folders(sandbox: &Sandbox) -> [PathBuf; 2] {
    [sandbox.path("data"), sandbox.path("state")]
}

fn load(sandbox: &Sandbox, image: &str) {
    sandbox.load(&needs::archive(image).unwrap());
}

/// Makes them of another group of the user's, which all below inherits; `false`, and
/// the reason said, where the user has no other.
fn give_to_a_group(sandbox: &Sandbox) -> bool {
    let Some(other) = getgroups().unwrap().into_iter().find(|group| *group != getegid()) else {
        needs::skip("the user has a single group");
        return false;
    };
    for folder in folders(sandbox) {
        rustix::fs::chown(&folder, None, Some(other)).unwrap();
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o2770)).unwrap();
    }
    true
}

/// A container's root, its files and its volumes are its own there.
pub(crate) fn a_directory_of_a_group_gives_containers_nothing(sandbox: &Sandbox) {
    if !needs::host_has(&[Image("busybox")]) || !give_to_a_group(sandbox) {
        return;
    }
    load(sandbox, "busybox");
    let script = "touch /a /v/b && mkdir /d && stat -c %g:%a / /v /d";
    let output = sandbox.run(&["-v", "vol:/v", "busybox", "sh", "-c", script]).ok();
    assert_eq!(output.lines(), ["0:755", "0:755", "0:755"], "{output}");
    let meta = std::fs::metadata(sandbox.data().join("layers")).unwrap();
    assert_eq!((meta.gid(), meta.mode() & 0o7777), (getegid().as_raw(), 0o700));
}

#[test]
fn below_a_directory_of_a_group_containers_own_their_files() {
    let Some(sandbox) = sandbox(&[SubIds]) else { return };
    a_directory_of_a_group_gives_containers_nothing(&sandbox);
    if needs::archive("busybox").is_some() {
        sandbox.run(&["--userns", "keep-id", "busybox", "id"]).ok();
    }
}

#[test]
fn below_a_directory_with_a_default_acl_modes_are_the_container_s_own() {
    if !needs::host_has(&[Image("busybox")]) {
        return;
    }
    let Some(sandbox) = sandbox(&[SubIds]) else { return };
    // user::rwx,group::---,other::---: include/uapi/linux/posix_acl_xattr.h
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions) in [(1_u16, 7_u16), (4, 0), (0x20, 0)] {
        acl.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
        acl.extend(u32::MAX.to_le_bytes());
    }
    for folder in folders(&sandbox) {
        let flags = rustix::fs::XattrFlags::empty();
        if rustix::fs::setxattr(&folder, "system.posix_acl_default", &acl, flags).is_err() {
            return needs::skip("the file system has no ACLs");
        }
    }
    load(&sandbox, "busybox");
    let script =
        "touch /tmp/x && mkdir /tmp/d && stat -c %a /tmp/x /tmp/d && cat /etc/hosts >/dev/null && touch /v/y";
    let run = ["--user", "1000:1000", "-v", "vol:/v:U", "busybox", "sh", "-c", script];
    assert_eq!(sandbox.run(&run).ok().lines(), ["644", "755"]);
}

#[test]
fn who_has_another_group_now_is_told_which_one_the_store_has() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let Some(other) = getgroups().unwrap().into_iter().find(|group| *group != getegid()) else {
        return needs::skip("the user has a single group");
    };
    let Some(sg) = needs::program("sg") else { return needs::skip("no sg") };
    let groups = std::fs::read_to_string("/etc/group").unwrap();
    let name = |gid: u32| {
        let of = |line: &&str| line.split(':').nth(2) == Some(&gid.to_string());
        groups.lines().find(of).and_then(|line| line.split(':').next()).unwrap().to_owned()
    };
    let words = |words: &str| {
        let mut command = sandbox.command(&sg);
        command
            .arg(name(other.as_raw()))
            .arg("-c")
            .arg(format!("{} {words}", crate::harness::binary().display()));
        crate::harness::process::Running::start(command).wait()
    };
    let step = format!("newgrp {}", name(getegid().as_raw()));
    words("run --rm --network none busybox true").refused(&["Value too large", &step]);
    let doctor = words("doctor -q");
    assert!(doctor.text().contains(&step), "{doctor}");
    sandbox.run(&["busybox", "true"]).ok();
}

#[test]
fn a_command_in_another_pid_namespace_leaves_containers_alone() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let within = |words: &[&str]| {
        let mut command = sandbox.command("unshare");
        command.args(["--map-root-user", "--pid", "--fork", "--mount-proc"]).args(words);
        crate::harness::process::Running::start(command).wait()
    };
    if within(&["true"]).code() != 0 {
        return needs::skip("no pid namespace with a /proc of its own");
    }
    sandbox.start("kept", &["busybox", "sleep", "1000"]);
    sandbox.start("own", &["--rm", "busybox", "sleep", "1000"]);
    let init = sandbox.init_pid("kept");
    let binary = crate::harness::binary();
    let coracle = binary.to_str().unwrap();
    for words in [&["ps", "-a"][..], &["start", "kept"], &["rm", "-f", "own"], &["stop", "kept"]] {
        let output = within(&[&[coracle], words].concat());
        assert!(output.stderr.contains("not visible from this pid namespace"), "{output}");
        assert!(words[0] == "ps" || output.code() != 0, "{output}");
    }
    assert_eq!((sandbox.status("kept"), sandbox.init_pid("kept")), ("running".to_owned(), init));
    sandbox.ok(["exec", "own", "true"]);
    // One outer namespace as before: the word of who holds it is still there.
    sandbox.coracle(["run", "--rm", "--network", "container:kept", "busybox", "true"]).ok();
    sandbox.ok(["rm", "-f", "-t", "0", "kept", "own"]);
}

#[test]
fn folders_of_the_store_may_be_links_to_another_disk() {
    if !needs::host_has(&[Image("busybox")]) {
        return;
    }
    let Some(sandbox) = sandbox(&[]) else { return };
    for (folder, name) in
        [(sandbox.data(), "layers"), (sandbox.data(), "volumes"), (sandbox.state(), "containers")]
    {
        std::fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(sandbox.folder(name), folder.join(name)).unwrap();
    }
    load(&sandbox, "busybox");
    let run = ["--name", "c", "--network", "none", "-v", "vol:/v", "busybox", "touch", "/v/x", "/y"];
    sandbox.coracle(["run"].iter().chain(&run)).ok();
    sandbox.ok(["start", "-a", "c"]);
    assert!(sandbox.path("work/volumes/vol/_data/x").exists());
    sandbox.ok(["rm", "c"]);
    sandbox.ok(["volume", "rm", "vol"]);
    sandbox.ok(["rmi", "busybox"]);
}

#[test]
fn a_working_directory_that_is_gone_matters_to_relative_paths_alone() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let gone = sandbox.folder("gone");
    let from_there = |words: &str| {
        let script = format!("cd {0} && rmdir {0} && exec \"$0\" {words}", gone.display());
        std::fs::create_dir_all(&gone).unwrap();
        let mut command = sandbox.command("sh");
        command.arg("-c").arg(script).arg(crate::harness::binary());
        crate::harness::process::Running::start(command).wait()
    };
    assert_eq!(from_there("run --rm --network none -v /etc:/e:ro busybox echo fine").ok().text(), "fine");
    from_there("run --rm --network none -v ./x:/x busybox true")
        .refused(&["./x", "working directory was removed"]);
}

#[test]
fn limits_of_the_caller_are_named() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let limited = |limit: &str, words: &str| {
        let mut command = sandbox.command("sh");
        command.arg("-c").arg(format!("ulimit {limit} && exec \"$0\" {words}")).arg(crate::harness::binary());
        crate::harness::process::Running::start(command).wait()
    };
    // The record is larger than the limit, in blocks of 512 bytes.
    limited("-f 1", "create busybox true").refused(&["File too large", "ulimit -f"]);
    limited("-n 12", "run --rm --network none busybox true").refused(&["Too many open files", "ulimit -n"]);
}

#[test]
fn docker_s_settings_give_proxies_to_containers() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let folder = sandbox.path("home/.docker");
    std::fs::create_dir_all(&folder).unwrap();
    let settings = r#"{"proxies": {"default": {"httpProxy": "http://p:1", "noProxy": "a"},
        "tcp://other:1": {"httpsProxy": "http://q:1"}}}"#;
    std::fs::write(folder.join("config.json"), settings).unwrap();
    let env = sandbox.run(&["-e", "NO_PROXY=b", "busybox", "env"]).ok();
    let mut proxies: Vec<&str> =
        env.lines().into_iter().filter(|line| line.to_lowercase().contains("proxy")).collect();
    proxies.sort_unstable();
    assert_eq!(proxies, ["HTTP_PROXY=http://p:1", "NO_PROXY=b", "http_proxy=http://p:1", "no_proxy=a"]);
}

#[test]
fn a_single_file_is_not_for_a_throw_away_layer() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let file = sandbox.file("f", "x");
    let volume = format!("{}:/f:O", file.display());
    sandbox.run(&["-v", &volume, "busybox", "true"]).refused(&["O is for directories"]);
}

/// As in a CI job that is a container: what lies below cannot be hidden by a device there.
#[test]
fn files_of_an_image_are_removed_where_the_store_lies_on_an_overlay() {
    let Some(sandbox) = sandbox(&[Image("debian"), Image("busybox"), SubIds, Fuse]) else { return };
    let (binary, archive) = (crate::harness::binary(), needs::archive("busybox").unwrap());
    let mounts = [(binary, "coracle"), (archive, "busybox.tar")];
    let mounts = mounts.map(|(path, name)| format!("{}:/{name}:ro", path.display()));
    let script = r#"set -e
        alias coracle=/coracle
        coracle load -qi /busybox.tar
        change='rm -f /bin/ls; rm -rf /usr; mv /etc/passwd /etc/users; mkdir -p /usr; : >/empty; chmod 444 /empty
            echo /usr/* /bin/l[n-t] /etc/* | sort'
        coracle run --name a --network none busybox sh -c "$change"
        coracle start -a a
        coracle diff a
        coracle commit -q a changed >/dev/null
        coracle export a | tar -t | grep -v / | sort
        coracle run --rm --network none changed sh -c 'find /usr /bin/ls /etc /empty 2>&1 | sort'
        coracle save changed >/changed.tar
        coracle rmi -f changed >/dev/null
        coracle load -qi /changed.tar
        coracle run --rm --network none --read-only changed sh -c 'find /usr /bin/ls /etc /empty 2>&1 | sort'"#;
    let run = |more: &[&str]| {
        let shared = ["--privileged", "-v", &mounts[0], "-v", &mounts[1], "-e", "HOME=/root"];
        sandbox.run(&[&shared[..], more, &["debian", "bash", "-O", "expand_aliases", "-c", script]].concat())
    };
    let on_overlay = run(&[]).ok();
    let on_tmpfs = run(&["--tmpfs", "/root/.local"]).ok();
    assert!(
        on_overlay.stdout.contains("/etc/users") && on_overlay.stdout.contains("D /bin/ls"),
        "{on_overlay}"
    );
    assert_eq!(on_overlay.stdout, on_tmpfs.stdout);
    // The images' layers alone lie there: the kernel's overlay serves them.
    assert_eq!(run(&["--tmpfs", "/root/.local/state"]).ok().stdout, on_tmpfs.stdout);
}
