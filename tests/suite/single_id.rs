//! A user without subordinate ids, or a host without newuidmap: one id, and a
//! word about what that limits. `contrib/test` runs these as such a user; where
//! it cannot, the helpers get no privileges.

use crate::harness::{Image, Need, Sandbox, needs};

fn sandbox(needs: &[Need]) -> Option<Sandbox> {
    let sandbox = crate::harness::sandbox(&[])?;
    if !needs::host_has(needs) {
        return None;
    }
    if needs::has_sub_ids() {
        // Of this test's thread, and of what it starts.
        rustix::thread::set_no_new_privs(true).unwrap();
    }
    for need in needs {
        if let Need::Image(name) = need {
            sandbox.load(&needs::archive(name).unwrap());
        }
    }
    Some(sandbox)
}

#[test]
fn one_id_is_mapped_and_one_line_says_what_that_limits() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let output = sandbox.run(&["guest", "report"]).ok();
    // Of root's groups that the image has nothing is said.
    if needs::archive("busybox").is_some() {
        sandbox.load(&needs::archive("busybox").unwrap());
        let other = sandbox.run(&["busybox", "true"]).ok();
        assert_eq!(other.stderr.lines().count(), 1, "{other}");
    }
    let report = crate::harness::report::Report::parse(&output);
    assert_eq!((report.uid(), report.gid()), (0, 0));
    assert_eq!(report.uid_map.len(), 1);
    assert!(report.uid_map[0].trim_end().ends_with(" 1"), "{:?}", report.uid_map);
    assert_eq!(output.stderr.lines().count(), 1, "{output}");
    assert!(output.stderr.contains("subuid") || output.stderr.contains("newuidmap"), "{output}");
}

#[test]
fn busybox_runs_detached_logs_and_is_removed() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.start("c", &["busybox", "sh", "-c", "id -u; sleep 1000"]);
    sandbox.wait_for_log("c", "0");
    sandbox.ok(["stop", "-t", "0", "c"]);
    sandbox.ok(["rm", "c"]);
}

#[test]
fn debian_runs_with_its_owners_squashed() {
    let Some(sandbox) = sandbox(&[Image("debian")]) else { return };
    let output = sandbox
        .run(&[
            "debian",
            "bash",
            "-c",
            "stat -c %u:%g /etc/shadow /usr/bin/wall; touch /etc/new && rm -r /var/cache/apt && echo fine",
        ])
        .ok();
    assert_eq!(output.lines(), ["0:0", "0:0", "fine"], "{output}");
}

#[test]
fn another_user_is_the_one_id_and_its_groups_are_told() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let output = sandbox
        .run(&["-u", "app", "busybox", "sh", "-c", "id -u; id -g; touch /tmp/f && stat -c %u /tmp/f"])
        .ok();
    assert_eq!(output.lines(), ["1000", "1000", "1000"], "{output}");
    assert!(output.stderr.contains("groups"), "{output}");
}

#[test]
fn volumes_and_binds_are_the_user_s() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let folder = sandbox.folder("shared");
    let bind = format!("{}:/mnt", folder.display());
    sandbox.run(&["-v", &bind, "-v", "vol:/vol", "busybox", "sh", "-c", "touch /mnt/f /vol/f"]).ok();
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(folder.join("f")).unwrap().uid(), rustix::process::getuid().as_raw());
}

#[test]
fn below_a_directory_of_a_group_containers_own_their_files() {
    let Some(sandbox) = sandbox(&[]) else { return };
    crate::surroundings::a_directory_of_a_group_gives_containers_nothing(&sandbox);
}

#[test]
fn ids_that_are_not_there_are_refused_wherever_they_are_given() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["volume", "create", "--opt", "type=tmpfs", "--opt", "o=uid=33", "t"]);
    sandbox.run(&["-v", "t:/t", "busybox", "true"]).refused(&["uid=33", "--userns"]);
    sandbox.ok(["secret", "create", "s", sandbox.file("s", "x").to_str().unwrap()]);
    sandbox.run(&["--secret", "s,uid=33", "busybox", "true"]).refused(&["33", "--userns"]);
}

#[test]
fn keep_id_works_for_the_one_id() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    let report =
        crate::harness::report::Report::parse(&sandbox.run(&["--userns", "keep-id", "guest", "report"]).ok());
    assert_eq!(report.uid(), rustix::process::getuid().as_raw());
}

#[test]
fn info_says_which_map_is_in_use() {
    let Some(sandbox) = sandbox(&[]) else { return };
    let size = sandbox.ok(["info", "--format", "{{(index .host.idMappings.uidmap 0).size}}"]);
    assert_eq!(size, "1");
    let doctor = sandbox.coracle(["doctor"]);
    assert!(doctor.stdout.contains("subuid") || doctor.stdout.contains("newuidmap"), "{doctor}");
}

#[test]
fn commands_run_beside_the_first_process() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.start("c", &["busybox", "sleep", "100000"]);
    assert_eq!(sandbox.ok(["exec", "c", "id", "-u"]), "0");
    assert_eq!(sandbox.ok(["exec", "-t", "c", "sh", "-c", "test -t 0 && echo tty"]), "tty");
    // There is no other id to be.
    sandbox.coracle(["exec", "-u", "5", "c", "true"]).fails(126, &["5"]);
    assert_eq!(sandbox.ok(["top", "c", "user,args"]).lines().count(), 2);
    sandbox.start("d", &["-u", "33", "busybox", "sleep", "100000"]);
    assert_eq!(sandbox.ok(["exec", "d", "id", "-u"]), "33");
}

#[test]
fn cp_gives_everything_to_the_one_id() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    crate::copy::one_id_owns_all(&sandbox);
}

#[test]
fn a_container_is_committed_and_exported_as_root_s() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.coracle(["run", "--network", "none", "--name", "c", "busybox", "sh", "-c", "echo x >/new"]).ok();
    assert_eq!(sandbox.ok(["diff", "c"]), "A /new");
    for flag in ["--squash", "--squash=false"] {
        sandbox.ok(["commit", flag, "c", "new"]);
        let shown = sandbox.run(&["new", "sh", "-c", "cat /new; stat -c %u:%g /new"]).ok();
        assert_eq!(shown.lines(), ["x", "0:0"], "{flag}");
    }
}

#[test]
fn networks_need_no_second_id() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["network", "create", "n"]);
    sandbox.ok(["run", "-d", "--name", "a", "--network", "n", "busybox", "sleep", "1000"]);
    let output = sandbox.ok(["run", "--rm", "--network", "n", "busybox", "nslookup", "-type=a", "a"]);
    let address = sandbox.ok(["inspect", "-f", "{{(index .NetworkSettings.Networks \"n\").IPAddress}}", "a"]);
    assert!(output.lines().any(|line| line == format!("Address: {}", address.trim())), "{output}");
}
