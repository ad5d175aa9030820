//! The ways in that people and machines take: sshd, cron, `su`.

use super::machine;
use super::sessions::{LOAD, as_root, in_a_session_of, wait_for_the_manager_of_ben_to_end};
use crate::harness::until;

/// Where a container's processes are, and what holds for them there.
const WHERE: &str = "pid=$($tool inspect -f \"{{.State.Pid}}\" c); group=$(sed -n s/^0:://p /proc/$pid/cgroup); \
     echo group=$group; echo memory=$(cat /sys/fs/cgroup${group%/container}/memory.max)";
const STATE: &str = "$tool inspect -f \"{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}\" c";
const RUN: &str = "$tool run -d --network none --stop-timeout 1 --name c";

fn root(script: &str) -> String {
    let output = as_root(script);
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}: {text}");
    text
}

/// What `script` says in a session of sshd's, which has ended by then.
fn ssh(user: &str, script: &str) -> String {
    root(
        "[ -e /root/key ] || { set -e; ssh-keygen -q -t ed25519 -N '' -f /root/key; for user in ann ben; do \
         install -d -m 700 -o $user -g $user /home/$user/.ssh; \
         install -m 600 -o $user -g $user /root/key.pub /home/$user/.ssh/authorized_keys; done; \
         systemctl start ssh; }",
    );
    let tool = crate::harness::sandbox::binary();
    let text = root(&format!(
        "ssh -i /root/key -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
         -o LogLevel=ERROR {user}@127.0.0.1 'set -u; tool={}; {script}' </dev/null 2>&1",
        tool.display()
    ));
    let sessions = format!("loginctl show-user {user} -p Sessions --value 2>/dev/null || :");
    if user != "ann" {
        until("the session of sshd to end", || root(&sessions).trim().is_empty().then_some(()));
    }
    text
}

/// What `script` says as a job in the crontab of `user`, which has no session.
fn cron(user: &str, script: &str) -> String {
    let tool = crate::harness::sandbox::binary();
    // At the start of the daemon: jobs of a minute are not waited for.
    root(&format!(
        "printf '%s\\n' '@reboot sh ./job >job.out 2>&1; touch job.done' | crontab -u {user} - && \
         cd /home/{user} && printf '%s\\n' 'set -u; tool={}' '{script}' >job && \
         rm -f job.done /run/crond.reboot && systemctl restart cron",
        tool.display()
    ));
    let done = format!("/home/{user}/job.done");
    until("the job of cron", || as_root(&format!("test -e {done}")).status.success().then_some(()));
    root(&format!("crontab -r -u {user}; cat /home/{user}/job.out"))
}

/// The lines of [`WHERE`].
fn assert_limited_in(uid: u32, said: &str) {
    let service = format!("group=/user.slice/user-{uid}.slice/user@{uid}.service/app.slice/coracle-");
    assert!(said.contains(&service), "{said}");
    assert!(said.contains("memory=67108864"), "{said}");
}

#[test]
fn over_ssh_a_log_out_does_what_was_said() {
    let Some(_sandbox) = machine() else { return };
    let start = format!(
        "grep -o /session-.* /proc/self/cgroup; {LOAD} {RUN} -m 64m --restart always busybox sleep 1000; {WHERE}"
    );
    let said = ssh("ben", &start);
    assert!(said.starts_with("/session-"), "{said}");
    assert!(said.contains("end when you log out") && said.contains("loginctl enable-linger ben"), "{said}");
    assert_limited_in(1001, &said);
    wait_for_the_manager_of_ben_to_end();
    let state = ssh("ben", &format!("{STATE}; $tool rm c"));
    assert!(state.contains("exited ") && state.contains("user manager ended it, as at log-out"), "{state}");
}

#[test]
fn over_ssh_who_lingers_loses_nothing_until_it_is_all_ended() {
    let Some(_sandbox) = machine() else { return };
    root("loginctl enable-linger ben");
    // The variables are no help to find the manager.
    let start = format!(
        "unset XDG_RUNTIME_DIR DBUS_SESSION_BUS_ADDRESS; {LOAD} {RUN} -m 64m busybox sleep 1000; {WHERE}"
    );
    let said = ssh("ben", &start);
    assert!(!said.contains("log out"), "{said}");
    assert_limited_in(1001, &said);
    let state = ssh("ben", &format!("{STATE}; $tool exec c echo in"));
    assert!(state.starts_with("running ") && state.ends_with("in\n"), "{state}");
    // All of the user's is ended, sessions or not: it is told, and it can start again.
    root("loginctl terminate-user ben");
    wait_for_the_manager_of_ben_to_end();
    let state = ssh("ben", &format!("{STATE}; $tool start c; $tool rm -f -t 0 c"));
    assert!(state.contains("exited ") && state.contains("user manager ended it"), "{state}");
    assert!(state.ends_with("c\nc\n"), "{state}");
    root("loginctl disable-linger ben");
    wait_for_the_manager_of_ben_to_end();
}

#[test]
fn a_job_of_cron_finds_the_manager_of_who_lingers() {
    let Some(_sandbox) = machine() else { return };
    let said =
        cron("ann", &format!("cat /proc/self/cgroup; env; {LOAD} {RUN} -m 64m busybox sleep 1000; {WHERE}"));
    assert!(said.contains("/cron.service") && !said.contains("XDG_RUNTIME_DIR"), "{said}");
    assert!(!said.contains("log out"), "{said}");
    assert_limited_in(1000, &said);
    // It has outlived its job, and who logs in finds it.
    let state = ssh("ann", &format!("{STATE}; $tool rm -f -t 0 c"));
    assert!(state.starts_with("running "), "{state}");
}

#[test]
fn what_cron_has_started_without_any_manager_is_found_by_who_logs_in() {
    let Some(_sandbox) = machine() else { return };
    wait_for_the_manager_of_ben_to_end();
    let limited = "$tool run --rm --network none -m 64m busybox true";
    let said = cron("ben", &format!("{LOAD} {RUN} busybox sleep 1000; {limited}; echo code=$?"));
    assert!(said.contains("code=125") && said.contains("--memory needs the memory controller"), "{said}");
    assert!(said.contains("loginctl enable-linger") && said.contains("coracle doctor"), "{said}");
    assert!(!said.contains("log out"), "no log-out ends it: {said}");
    // He has a runtime folder now, which that container knows nothing of.
    let said =
        ssh("ben", &format!("echo $XDG_RUNTIME_DIR; {STATE}; $tool exec c echo in; {limited} && echo held"));
    assert!(said.starts_with("/run/user/1001\nrunning 0 "), "{said}");
    assert!(said.ends_with("in\nheld\n"), "{said}");
    wait_for_the_manager_of_ben_to_end();
    let said = ssh("ben", &format!("{STATE}; $tool rm -f -t 0 c; $tool doctor | grep XDG_RUNTIME_DIR"));
    assert!(said.starts_with("running 0 "), "and outlives his session: {said}");
    assert!(said.ends_with("ok       XDG_RUNTIME_DIR: /run/user/1001\n"), "{said}");
    wait_for_the_manager_of_ben_to_end();
}

#[test]
fn su_from_another_s_session_finds_one_s_own_manager_or_does_without() {
    let Some(_sandbox) = machine() else { return };
    wait_for_the_manager_of_ben_to_end();
    let tool = crate::harness::sandbox::binary();
    // No login: the variables and the session are those of ann, who runs this.
    let su =
        |script: &str| root(&format!("cd /; su ben -c 'set -u; tool={}; {script}' 2>&1", tool.display()));
    let said = su(&format!(
        "echo $XDG_RUNTIME_DIR; {LOAD} {RUN} busybox sleep 1000; {STATE}; $tool rm -f -t 0 c; \
         $tool run --rm --network none -m 64m busybox true || echo code=$?"
    ));
    assert!(said.starts_with("/run/user/1000\n") && said.contains("\nrunning 0 "), "{said}");
    assert!(said.contains("loginctl enable-linger") && said.ends_with("code=125\n"), "{said}");
    root("loginctl enable-linger ben");
    until("the manager of ben", || {
        as_root("test -S /run/user/1001/systemd/private").status.success().then_some(())
    });
    let said = su(&format!("{RUN} -m 64m busybox sleep 1000; {WHERE}; $tool rm -f -t 0 c"));
    assert_limited_in(1001, &said);
    root("loginctl disable-linger ben");
    wait_for_the_manager_of_ben_to_end();
    in_a_session_of("ben", "test -z \"$($tool ps -aq)\"");
}
