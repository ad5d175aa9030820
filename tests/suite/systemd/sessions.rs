//! Logins and log-outs: `ann`, who runs these, lingers; `ben` does not.

use super::{group_of, machine};
use crate::harness::until;
use std::process::{Command, Output};

/// As root of the machine: `tests/vm/guest/start` leaves this door open.
pub(super) fn as_root(script: &str) -> Output {
    let words =
        ["-p", "-c", "exec setpriv --reuid 0 --regid 0 --clear-groups /bin/sh -c \"$1\"", "sh", script];
    Command::new("/usr/local/bin/as-root").args(words).output().unwrap()
}

/// A login of its own through PAM, in which `script` runs to its end.
fn session(user: &str, script: &str) -> Output {
    let home = format!("/home/{user}");
    let tool = crate::harness::sandbox::binary();
    // systemd takes a word that begins with a dollar sign for a variable of its own.
    let line = format!(
        "systemd-run -q --wait --pipe -p User={user} -p PAMName=login -p WorkingDirectory={home} \
         -E HOME={home} -E USER={user} -E tool={} /bin/sh -c 'set -u; {script}' </dev/null",
        tool.display()
    );
    as_root(&line)
}

pub(super) fn in_a_session_of(user: &str, script: &str) -> String {
    let output = session(user, script);
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}: {text}");
    text
}

/// It ends some seconds after the last session.
pub(super) fn wait_for_the_manager_of_ben_to_end() {
    until("the user manager of ben to end", || {
        let output = as_root("systemctl is-active user@1001.service");
        let state = String::from_utf8_lossy(&output.stdout).into_owned();
        (!state.starts_with("active") && !state.starts_with("deactivating")).then_some(())
    });
}

/// One image for the user of `$tool`.
pub(super) const LOAD: &str = "$tool load -q -i /mnt/images/busybox/archive.tar >/dev/null;";

#[test]
fn containers_of_who_does_not_linger_end_at_log_out_and_say_so() {
    let Some(_sandbox) = machine() else { return };
    let said = in_a_session_of(
        "ben",
        &format!(
            "{LOAD} $tool run -d --network none --restart always --stop-timeout 1 --name w busybox sleep 1000; $tool ps --format \"{{{{.Names}}}}\""
        ),
    );
    assert!(said.contains("\nw"), "{said}");
    assert!(said.contains("log out") && said.contains("loginctl enable-linger"), "{said}");
    wait_for_the_manager_of_ben_to_end();
    let inspect = "$tool inspect -f \"{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}\" w";
    let state = in_a_session_of("ben", inspect);
    assert!(state.contains("exited 1"), "it has ended and was not started again: {state}");
    assert!(state.contains("user manager"), "and the state tells why: {state}");
    // It starts again, and being logged out by force is such an end too.
    session("ben", "$tool start w; loginctl terminate-user ben; sleep 100");
    wait_for_the_manager_of_ben_to_end();
    let state = in_a_session_of("ben", inspect);
    assert!(state.contains("exited 1") && state.contains("user manager"), "{state}");
}

#[test]
fn containers_of_who_lingers_survive_the_session() {
    let Some(_sandbox) = machine() else { return };
    let said = in_a_session_of(
        "ann",
        &format!(
            "{LOAD} $tool run -d --network none --name stays busybox sleep 1000 2>&1; cat /proc/self/cgroup"
        ),
    );
    assert!(!said.contains("log out"), "{said}");
    let session = said.lines().find_map(|line| line.split("/session-").nth(1)?.strip_suffix(".scope"));
    if let Some(session) = session {
        as_root(&format!("loginctl terminate-session {session}"));
    }
    let state = in_a_session_of("ann", "$tool inspect -f \"{{.State.Status}} {{.State.Pid}}\" stays");
    let pid = state.split_whitespace().last().unwrap();
    assert!(state.starts_with("running "), "{state}");
    assert!(group_of(pid).contains("/user@1000.service/app.slice/coracle-"), "{}", group_of(pid));
    in_a_session_of("ann", "$tool rm -f -t 0 stays");
}

#[test]
fn a_job_without_a_session_finds_the_user_manager() {
    let Some(_sandbox) = machine() else { return };
    let tool = crate::harness::sandbox::binary();
    let tool = tool.display();
    // As cron and `su` without PAM: no session, no variable; or those of who called `su`.
    let roots = "XDG_RUNTIME_DIR=/run/user/0 DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/0/bus";
    as_root("install -d -m 700 /run/user/0");
    for variables in ["", roots] {
        let line = format!(
            "systemd-run -q --wait --pipe -p User=ann /usr/bin/env -i HOME=/home/ann PATH=/usr/bin:/bin {variables} \
             /bin/sh -c '{tool} load -q -i /mnt/images/busybox/archive.tar >/dev/null; \
             {tool} run --rm --network none -m 64m --cgroupns host busybox cat /proc/self/cgroup' </dev/null"
        );
        let output = as_root(&line);
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("/user@1000.service/app.slice/coracle-"), "{variables}: {text}");
    }
}
