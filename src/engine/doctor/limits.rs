//! Limits of the kernel's that many containers reach.

use super::check::Check;
use crate::sys::errno::Reader;
use rustix::process::{Resource, getrlimit};

pub(super) fn checks(read: Reader<'_>, uid: u32) -> Vec<Check> {
    vec![
        open_files(getrlimit(Resource::Nofile).maximum),
        inotify(read),
        keyrings(read, uid),
        terminals(read),
        mounts(read),
        pids(read),
    ]
}

/// The FUSE overlay and the port publisher raise their soft limit to the hard one.
fn open_files(hard: Option<u64>) -> Check {
    const NAME: &str = "open files";
    match hard {
        Some(hard) if hard < 4096 => Check::limited(
            NAME,
            format!("at most {hard} a process"),
            "the FUSE overlay reopens files more often, and published ports serve fewer connections at once",
        )
        .admin("in /etc/security/limits.conf: * hard nofile 524288"),
        Some(hard) => Check::good(NAME, format!("{hard} a process")),
        None => Check::good(NAME, "no limit"),
    }
}

fn number(read: Reader<'_>, path: &str) -> Option<u64> {
    read(path)?.split_ascii_whitespace().next()?.parse().ok()
}

/// `logs -f`, and whatever containers watch, take an instance each: inotify(7).
fn inotify(read: Reader<'_>) -> Check {
    const NAME: &str = "inotify";
    let instances = number(read, "/proc/sys/fs/inotify/max_user_instances");
    let watches = number(read, "/proc/sys/fs/inotify/max_user_watches");
    match (instances, watches) {
        (Some(instances), Some(watches)) if instances < 64 || watches < 8192 => Check::limited(
            NAME,
            format!("{instances} instances, {watches} watches a user"),
            "programs that watch files fail with \"no space left\" or \"too many open files\"",
        )
        .admin("sudo sysctl -w fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=524288"),
        (Some(instances), Some(watches)) => {
            Check::good(NAME, format!("{instances} instances, {watches} watches a user"))
        }
        _ => Check::note(NAME, "the kernel has none", "`logs -f` looks at intervals"),
    }
}

/// keyrings(7): `uid: usage nkeys/nikeys qnkeys/maxkeys qnbytes/maxbytes`.
fn keyrings(read: Reader<'_>, uid: u32) -> Check {
    const NAME: &str = "keyrings";
    let Some(users) = read("/proc/key-users") else { return Check::good(NAME, "the kernel has none") };
    let own = users.lines().find_map(|line| {
        let (owner, rest) = line.split_once(':')?;
        (owner.trim() == uid.to_string()).then(|| rest.to_owned())
    });
    let quota = own.as_deref().and_then(|line| line.split_ascii_whitespace().nth(2)?.split_once('/'));
    let number = |text: &str| text.parse::<u64>().ok();
    match quota.map(|(used, most)| (number(used), number(most))) {
        Some((Some(used), Some(most))) if used.saturating_mul(10) >= most.saturating_mul(9) => {
            Check::limited(
                NAME,
                format!("{used} of {most} keys of this user are in use"),
                "programs that keep keys fail with \"disk quota exceeded\"",
            )
            .admin("sudo sysctl -w kernel.keys.maxkeys=20000 kernel.keys.maxbytes=2000000")
        }
        Some((Some(used), Some(most))) => Check::good(NAME, format!("{used} of {most} keys in use")),
        _ => Check::good(NAME, "no keys in use"),
    }
}

/// Terminals of containers count against the kernel's one limit: pty(7).
fn terminals(read: Reader<'_>) -> Check {
    const NAME: &str = "terminals";
    let most = number(read, "/proc/sys/kernel/pty/max");
    let used = number(read, "/proc/sys/kernel/pty/nr");
    match (used, most) {
        (Some(used), Some(most)) if used.saturating_add(8) >= most => Check::limited(
            NAME,
            format!("{used} of {most} are in use on this host"),
            "`run -t` and `exec -t` fail",
        )
        .admin("sudo sysctl -w kernel.pty.max=16384"),
        (Some(used), Some(most)) => Check::good(NAME, format!("{used} of {most} in use on this host")),
        _ => Check::good(NAME, "no limit is told"),
    }
}

/// Of one mount namespace.
fn mounts(read: Reader<'_>) -> Check {
    const NAME: &str = "mounts";
    let most = number(read, "/proc/sys/fs/mount-max");
    let here = read("/proc/self/mountinfo").map_or(0, |text| text.lines().count() as u64);
    match most {
        Some(most) if here.saturating_mul(2) > most => Check::limited(
            NAME,
            format!("{here} here, at most {most} in a namespace"),
            "a start may fail with \"no space left on device\"",
        )
        .admin("sudo sysctl -w fs.mount-max=200000"),
        Some(most) => Check::good(NAME, format!("{here} here, at most {most} in a namespace")),
        None => Check::good(NAME, format!("{here} here")),
    }
}

fn pids(read: Reader<'_>) -> Check {
    const NAME: &str = "process ids";
    let most = getrlimit(Resource::Nproc).current;
    let ids = number(read, "/proc/sys/kernel/pid_max");
    let ids = ids.map_or_else(|| "?".to_owned(), |ids| ids.to_string());
    match most {
        Some(most) if most < 512 => Check::limited(
            NAME,
            format!("`ulimit -u` is {most}"),
            "all containers of this user share that number of processes",
        )
        .user("ulimit -u unlimited, or ask for `* hard nproc 65536` in /etc/security/limits.conf"),
        Some(most) => Check::good(NAME, format!("`ulimit -u` {most}, host {ids}")),
        None => Check::good(NAME, format!("`ulimit -u` unlimited, host {ids}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_told_with_the_sysctl() {
        let files = |path: &str| {
            let text = match path {
                "/proc/sys/fs/inotify/max_user_instances" => "16\n",
                "/proc/sys/fs/inotify/max_user_watches" => "8192\n",
                "/proc/key-users" => {
                    "    0:   10 9/9 4/1000000 81/25000000\n 1000:  199 199/199 195/200 900/20000\n"
                }
                "/proc/sys/kernel/pty/max" => "4096",
                "/proc/sys/kernel/pty/nr" => "4095",
                "/proc/sys/fs/mount-max" => "3",
                "/proc/self/mountinfo" => "a\nb\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        for check in [
            inotify(&files),
            keyrings(&files, 1000),
            terminals(&files),
            mounts(&files),
            open_files(Some(256)),
        ] {
            assert!(!check.is_ok(), "{check:?}");
            assert!(check.remedy.is_some(), "{check:?}");
        }
        assert!(keyrings(&files, 0).is_ok());
        assert!(keyrings(&files, 5).is_ok());
    }
}
