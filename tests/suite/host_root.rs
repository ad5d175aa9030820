//! `--rootfs /:O`: the host's own root as a container's, which changes nothing of
//! the host.

use crate::harness::Need::{self, Fuse, Program, SubIds};
use crate::harness::{Output, Sandbox, sandbox};

/// As an ordinary user: root's own could be read by anybody.
fn user_s_sandbox(needs: &[Need]) -> Option<Sandbox> {
    let sandbox = sandbox(needs)?;
    (!rustix::process::getuid().is_root()).then_some(sandbox)
}

#[track_caller]
fn shell(sandbox: &Sandbox, script: &str) -> Output {
    sandbox.run(&["--rootfs", "/:O", "/bin/sh", "-c", script])
}

#[test]
fn who_forgets_the_overlay_is_told_of_it() {
    let Some(sandbox) = user_s_sandbox(&[]) else { return };
    sandbox.run(&["--rootfs", "/", "/bin/true"]).refused(&["Permission denied", "--rootfs /:O"]);
}

/// What nothing on a host changes while a test runs.
#[track_caller]
fn state_of_host(sandbox: &Sandbox) -> String {
    let script = "cd /; for path in usr/bin/env usr/share/common-licenses etc/profile etc/os-release; do \
         find $path -printf '%p %y %m %U %G %s %T@ %C@ %l\\n'; find $path -type f -exec sha256sum {} +; done | sort";
    let output = sandbox.command("sh").args(["-c", script]).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn nothing_of_the_host_can_be_written() {
    let Some(sandbox) = user_s_sandbox(&[Fuse]) else { return };
    let before = state_of_host(&sandbox);
    let script = "id -u; stat -c %u:%g /etc/profile
        echo x >/usr/bin/env; chmod 0777 /usr/bin /etc/profile; touch -d 2001-01-01 /usr/share/common-licenses
        mv /etc/os-release /etc/old-release; rm -rf /usr/share/common-licenses /etc/profile; : >/new-here
        cat /usr/bin/env; ls -d /etc/profile /usr/share/common-licenses /new-here 2>/dev/null; :";
    let output = shell(&sandbox, script).ok();
    assert_eq!(output.lines(), ["0", "0:0", "x", "/new-here"], "{output}");
    assert_eq!(state_of_host(&sandbox), before);
    assert!(!std::path::Path::new("/new-here").exists());
}

/// A mount of the host is looked through, and not written to either.
#[test]
fn what_is_mounted_below_the_root_cannot_be_written() {
    let Some(sandbox) = user_s_sandbox(&[Fuse, SubIds]) else { return };
    let binary = crate::harness::sandbox::binary();
    let inside = "cat /mnt/file; echo inside >/mnt/file; echo new >/mnt/new; rm -r /mnt/old; mv /mnt/moved /mnt/away; \
         chmod 700 /mnt; ls /mnt; cat /mnt/file";
    let script = format!(
        "mount -t tmpfs none /mnt; cd /mnt; mkdir old; echo outside >file; : >old/x; : >moved
         {} run --rm --network none --rootfs /:O /bin/sh -c '{inside}'
         cat file; ls -R /mnt; stat -c %a /mnt",
        binary.display()
    );
    let output = sandbox.coracle(["unshare", "sh", "-ec", &script]).ok();
    let inside = ["outside", "away", "file", "new", "inside"];
    let outside = ["outside", "/mnt:", "file", "moved", "old", "", "/mnt/old:", "x", "1777"];
    assert_eq!(output.lines(), [&inside[..], &outside[..]].concat(), "{output}");
}

#[test]
fn a_package_is_installed_for_the_container_alone() {
    let Some(sandbox) = user_s_sandbox(&[Fuse, SubIds, Program("apt-get"), Program("dpkg-deb")]) else {
        return;
    };
    let control = "Package: coracle-tried\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@example.org>\n\
         Description: a file\n";
    sandbox.file("package/DEBIAN/control", control);
    sandbox.file("package/usr/share/coracle-tried/file", "installed\n");
    let work = sandbox.path("work");
    let script = format!(
        "cd {} && dpkg-deb --root-owner-group -b package tried.deb >/dev/null && \
         apt-get install -q -y ./tried.deb >log 2>&1 || {{ cat log; exit 9; }}; \
         cat /usr/share/coracle-tried/file; dpkg-query -W -f '${{Status}}' coracle-tried",
        work.display()
    );
    let output = shell(&sandbox, &script).ok();
    assert_eq!(output.lines(), ["installed", "install ok installed"], "{output}");
    assert!(!std::path::Path::new("/usr/share/coracle-tried").exists());
    assert!(!work.join("tried.deb").exists());
    let host = sandbox.command("dpkg-query").args(["-W", "coracle-tried"]).output().unwrap();
    assert!(!host.status.success());
}
