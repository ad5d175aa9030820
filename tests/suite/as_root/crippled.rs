//! Hosts that lack something, made by root in a private mount namespace: `doctor`
//! names the cause, and `run` does the best that is left.

use crate::harness::process::Running;
use crate::harness::{Image, Output, Sandbox, needs, sandbox};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;

/// An id that nobody has; its range of subordinate ids neither.
const USER: &str = "4242424";

/// What every host has before it is crippled: a user `crip` with ids, devices
/// open to everybody, a home, `/tmp` and a runtime folder of its own.
const HOST: &str = r#"
set -eu
place=$1 binary=$2; shift 2
mkdir -p "$place/host" && mount -t tmpfs -o mode=755 host "$place/host" && cd "$place/host"
grep -v "^crip:" /etc/passwd >passwd && echo "crip:x:$ID:$ID::/home/crip:/bin/sh" >>passwd
echo "crip:3000000000:65536" | tee subuid >subgid
mknod tun c 10 200 && mknod fuse c 10 229 && chmod 666 tun fuse
mount --bind tun /dev/net/tun && mount --bind fuse /dev/fuse
for file in passwd subuid subgid; do mount --bind $file /etc/$file; done
mount -t tmpfs -o mode=1777 tmp /tmp
mkdir -p "$place/crip/run" && chmod 711 "$place" && chown -R $ID:$ID "$place/crip" && chmod 700 "$place/crip/run"
mount --bind "$place/crip" "$place/crip"
as_user() {
    setpriv --reuid $ID --regid $ID --clear-groups env -i PATH="$PATH" HOME="$place/crip" LANG=C.UTF-8 \
        CORACLE_TEST_SANDBOX="$place" ${runtime-XDG_RUNTIME_DIR="$place/crip/run"} "$@"
}
cd /
"#;

struct Host {
    sandbox: Sandbox,
}

impl Host {
    fn new() -> Option<Self> {
        let sandbox = sandbox(&[])?;
        if !needs::host_has(&[Image("busybox")]) {
            return None;
        }
        std::fs::set_permissions(sandbox.root(), std::fs::Permissions::from_mode(0o711)).unwrap();
        std::fs::copy(needs::archive("busybox").unwrap(), sandbox.path("busybox.tar")).unwrap();
        std::fs::set_permissions(sandbox.path("busybox.tar"), std::fs::Permissions::from_mode(0o644))
            .unwrap();
        Some(Self { sandbox })
    }

    /// Cripples the host by the shell's `script`, then runs `command` there, in
    /// which `coracle` is the tool as the user.
    fn shell(&self, script: &str, command: &str) -> Output {
        let mut unshare = self.sandbox.command("unshare");
        let text =
            format!("{HOST}\ncoracle() {{ as_user \"$binary\" \"$@\"; }}\n{script}\nset +e\n{command}\n");
        unshare
            .env("ID", USER)
            .args(["--mount", "--propagation", "private", "sh", "-c", &text, "sh"])
            .arg(self.sandbox.root())
            .arg(crate::harness::sandbox::binary());
        Running::start(unshare).wait()
    }

    /// `doctor --json` on the crippled host: the check `name`.
    fn check(&self, script: &str, name: &str) -> Value {
        let output = self.shell(script, "coracle doctor --json");
        let checks: Value =
            serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"));
        let found = checks.as_array().unwrap().iter().find(|check| check["name"] == name);
        found.unwrap_or_else(|| panic!("no check {name}: {output}")).clone()
    }

    /// Asserts that `doctor` says `severity` of the check `name`, with `word` in what it found
    /// and a remedy for somebody.
    #[track_caller]
    fn names(&self, script: &str, name: &str, severity: &str, word: &str) {
        let check = self.check(script, name);
        assert_eq!(check["severity"], severity, "{check}");
        assert!(check["found"].as_str().unwrap().contains(word), "{check}");
        assert!(check["user"].is_string() || check["administrator"].is_string(), "{check}");
    }

    /// Loads an image and runs a container that says its uid and how many ids it has.
    fn run(&self, script: &str) -> Output {
        let run = "coracle load -q -i \"$place/busybox.tar\" >/dev/null && \
             coracle run --rm --network none busybox sh -c 'id -u; awk \"{ n += \\$3 } END { print n }\" /proc/self/uid_map'";
        self.shell(script, run)
    }

    #[track_caller]
    fn runs_with(&self, script: &str, ids: &str) {
        let output = self.run(script).ok();
        assert_eq!(output.lines(), ["0", ids], "{output}");
    }
}

/// Subordinate ids and the user's own.
const ALL: &str = "65537";

#[test]
fn nothing_is_broken_on_a_whole_host() {
    let Some(host) = Host::new() else { return };
    for name in ["subuid", "subgid", "newuidmap", "user namespace", "/dev/fuse", "/dev/net/tun", "overlay"] {
        let check = host.check("", name);
        assert_eq!(check["severity"], "ok", "{check}");
    }
    host.runs_with("", ALL);
    let broken = host.shell("", "coracle doctor -q").stdout;
    assert!(broken.contains(" 0 broken"), "{broken}");
}

#[test]
fn no_subordinate_ids() {
    let Some(host) = Host::new() else { return };
    let script = ": >\"$place/host/subuid\"";
    host.names(script, "subuid", "limited", "crip has no range");
    host.runs_with(script, "1");
}

#[test]
fn a_range_of_one() {
    let Some(host) = Host::new() else { return };
    let script = "echo crip:3000000000:1 | tee \"$place/host/subuid\" >\"$place/host/subgid\"";
    host.names(script, "subuid", "limited", "has 1 in /etc/subuid");
    host.runs_with(script, "2");
}

#[test]
fn newuidmap_without_privileges_and_without_itself() {
    let Some(host) = Host::new() else { return };
    let plain = "cp \"$(command -v newuidmap)\" \"$place/host/plain\"; mount --bind \"$place/host/plain\" \"$(command -v newuidmap)\"";
    host.names(plain, "newuidmap", "limited", "neither setuid root nor");
    host.runs_with(plain, "1");
    // The other way round the user's map is written and the groups' is not.
    let groups = plain.replace("newuidmap", "newgidmap");
    host.names(&groups, "newgidmap", "limited", "neither setuid root nor");
    host.runs_with(&groups, "1");
    let none = "mount --bind /dev/null \"$(command -v newuidmap)\"";
    host.names(none, "newuidmap", "limited", "not installed");
    host.runs_with(none, "1");
}

#[test]
fn no_new_privileges() {
    let Some(host) = Host::new() else { return };
    let script = "coracle() { as_user setpriv --no-new-privs \"$binary\" \"$@\"; }";
    host.names(script, "no_new_privs", "limited", "newuidmap");
    host.runs_with(script, "1");
}

#[test]
fn devices_that_are_closed() {
    let Some(host) = Host::new() else { return };
    let fuse = "chmod 600 \"$place/host/fuse\"";
    host.names(fuse, "/dev/fuse", "limited", "/dev/fuse");
    host.runs_with(fuse, ALL);
    let tun = "chmod 600 \"$place/host/tun\"";
    host.names(tun, "/dev/net/tun", "limited", "not open to you");
    host.runs_with(tun, ALL);
    host.names("umount /dev/fuse; mount --bind /dev/null /dev/fuse", "FUSE mount", "limited", "");
}

#[test]
fn a_home_that_cannot_be_written() {
    let Some(host) = Host::new() else { return };
    let script = "mount -t tmpfs -o mode=777 run \"$place/crip/run\"; chmod 700 \"$place/crip/run\"; \
         chown $ID:$ID \"$place/crip/run\"; mount -o remount,ro,bind \"$place/crip\"";
    host.names(script, "data folder", "broken", "Read-only file system");
    let output = host.shell(script, "coracle run --rm --network none busybox true; echo code $?");
    assert_eq!(output.text(), "code 125", "{output}");
    assert!(output.stderr.contains("Read-only file system"), "{output}");
    assert!(host.shell(script, "coracle doctor; echo code $?").stdout.contains("code 2"));
}

#[test]
fn a_home_without_exec() {
    let Some(host) = Host::new() else { return };
    let script = "mount -o remount,noexec,bind \"$place/crip\"";
    host.names(script, "noexec", "limited", "noexec");
    host.runs_with(script, ALL);
}

#[test]
fn no_runtime_directory() {
    let Some(host) = Host::new() else { return };
    host.names("runtime=", "XDG_RUNTIME_DIR", "limited", "/tmp/coracle-4242424");
    host.runs_with("runtime=", ALL);
}

#[test]
fn user_namespaces_that_are_switched_off() {
    let Some(host) = Host::new() else { return };
    // In a namespace of the user's own, whose limit is nobody else's.
    let script = "coracle() { as_user unshare --user --map-current-user --keep-caps sh -c \
         'echo 0 >/proc/sys/user/max_user_namespaces; exec setpriv --inh-caps=-all --ambient-caps=-all \"$0\" \"$@\"' \"$binary\" \"$@\"; }";
    host.names(script, "max_user_namespaces", "broken", "switched off");
    let output = host.shell(script, "coracle run --rm --network none --rootfs /:O true; echo code $?");
    assert_eq!(output.text(), "code 125", "{output}");
    assert!(output.stderr.contains("max_user_namespaces"), "{output}");
}

#[test]
fn fix_closes_folders_that_are_open_to_others() {
    let Some(host) = Host::new() else { return };
    let script = "as_user mkdir -p \"$place/crip/.local/share/coracle\"; chmod 755 \"$place/crip/.local/share/coracle\"";
    host.names(script, "data folder", "limited", "open to others");
    let output =
        host.shell(script, "coracle doctor --fix -q; stat -c %a \"$place/crip/.local/share/coracle\"");
    assert!(output.stdout.contains("mended"), "{output}");
    assert_eq!(output.lines().last(), Some(&"700"), "{output}");
}
