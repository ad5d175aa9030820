//! A disk with a quota: only root can make one, so it takes the machine.

use super::machine;
use super::sessions::as_root;
use crate::harness::needs;

/// What the user may have on the disk; the images take some of it.
const ALLOWED: u64 = 24 << 20;

/// A file system below `/srv/quota` on which this user may have [`ALLOWED`] bytes;
/// gone when it is dropped.
struct Disk;

impl Disk {
    fn new() -> Self {
        let user = needs::user_name().unwrap();
        let output = as_root(&format!(
            "set -e; PATH=/usr/sbin:/sbin:$PATH; modprobe -a loop quota_v2; mkdir /srv/quota; truncate -s 128M /srv/quota.img
             mkfs.ext4 -q -F -O quota -E quotatype=usrquota /srv/quota.img; mount -o loop,usrquota /srv/quota.img /srv/quota
             chmod 1777 /srv/quota; setquota -u {user} 0 {} 0 0 /srv/quota",
            ALLOWED >> 10
        ));
        assert!(output.status.success(), "{output:?}");
        Self
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let output = as_root("umount /srv/quota && rmdir /srv/quota && rm /srv/quota.img");
        assert!(output.status.success() || std::thread::panicking(), "{output:?}");
    }
}

/// And what was written before is there.
#[test]
fn a_quota_that_is_used_up_is_told_as_what_it_is() {
    let Some(mut sandbox) = machine() else { return };
    let _disk = Disk::new();
    for (name, folder) in [("XDG_DATA_HOME", "data"), ("XDG_STATE_HOME", "state")] {
        sandbox.set(name, &format!("/srv/quota/{folder}"));
    }
    sandbox.ok(["load", "-q", "-i", needs::archive("busybox").unwrap().to_str().unwrap()]);
    // With and without the kernel's gathering of writes, which tells at the end.
    let script = "echo kept >/kept; sync
        for how in '' conv=fsync oflag=direct; do
            dd if=/dev/zero of=/fill bs=64k count=600 $how 2>&1 | grep -o 'quota exceeded\\|Input/output error\\|records out'
            rm /fill
        done
        dd if=/dev/zero of=/fill bs=64k count=600 2>/dev/null; cat /kept
        rm /fill; echo more >>/kept; cat /kept";
    for driver in ["overlay", "fuse"] {
        let words =
            ["--storage-driver", driver, "run", "--rm", "--network", "none", "busybox", "sh", "-c", script];
        let output = sandbox.coracle(words);
        let lines = output.lines();
        // Of what it has gathered and could not write, the kernel's FUSE keeps at
        // close(2) that it failed, and no more; a write after that is told more.
        let told: Vec<&str> = lines.iter().copied().filter(|line| *line != "records out").collect();
        let is_first_told =
            told[0] == "quota exceeded" || driver == "fuse" && told[0] == "Input/output error";
        assert!(is_first_told, "{driver}: {output}");
        assert_eq!(told[1..3], ["quota exceeded", "quota exceeded"], "{driver}: {output}");
        assert!(output.text().ends_with("kept\nkept\nmore"), "{driver}: {output}");
    }
    // What does not fit is refused in words, and leaves no half of itself.
    let big = sandbox.folder("big");
    std::fs::write(big.join("file"), vec![7; ALLOWED as usize]).unwrap();
    let archive = sandbox.path("work/big.tar");
    let tar =
        sandbox.command("tar").arg("-cf").arg(&archive).arg("-C").arg(&big).arg("file").status().unwrap();
    assert!(tar.success());
    sandbox.coracle(["import", archive.to_str().unwrap(), "big"]).refused(&["quota"]);
    assert_eq!(sandbox.ok(["images", "--format", "{{.Repository}}"]), "busybox");
    sandbox.run(&["busybox", "true"]).ok();
}
