//! What this host allows, one check a line, each with the command that helps.

use crate::dirs::{Dirs, create_private};
use crate::error::{Context, Error, Result};
use crate::network::uplink::Chosen;
use crate::storage::fuse::open_device;
use crate::storage::overlay::{self, Overlay};
use crate::sys::errno::{Reader, read_host};
use crate::sys::process::kernel_version;
use crate::types::uplink::{SlirpOptions, Wish};
use crate::userns::newidmap::lacks_privilege;
use crate::userns::subid::{SubRange, Subordinate, find_program, login_name};
use crate::userns::{self, Extent};
use rustix::fs::{Access, Mode, OFlags};
use serde::Serialize;
use std::path::Path;

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) ok: bool,
    /// Whether no container runs without it; otherwise something is limited.
    pub(crate) needed: bool,
    /// What was found.
    pub(crate) detail: String,
    /// The command or step that helps.
    pub(crate) fix: Option<String>,
}

impl Check {
    fn good(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, ok: true, needed: false, detail: detail.into(), fix: None }
    }

    /// Something is limited.
    fn limited(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, ok: false, needed: false, detail: detail.into(), fix: Some(fix.into()) }
    }

    /// Nothing runs.
    fn broken(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { needed: true, ..Self::limited(name, detail, fix) }
    }

    fn failed(name: &'static str, error: &Error) -> Self {
        let fix = error.hints().first().cloned();
        Self { name, ok: false, needed: true, detail: error.to_string(), fix }
    }
}

/// Looks at everything. The last two checks are made by doing, in this very
/// process, which is afterwards in the user's outer namespace: do nothing else
/// in it. It must have no threads.
pub(crate) fn examine(dirs: &Dirs) -> Vec<Check> {
    let uid = rustix::process::getuid().as_raw();
    let mut checks = vec![kernel(&rustix::system::uname().release().to_string_lossy())];
    if uid != 0 {
        checks.extend(subordinate_ids(uid));
        checks.extend(["newuidmap", "newgidmap"].map(helper));
    }
    checks.extend(directories(dirs));
    checks.push(seccomp(&read_host));
    checks.push(apparmor(&read_host));
    checks.push(cgroups(&read_host));
    checks.extend(network());
    let entered = userns::enter(&dirs.runtime);
    checks.push(user_namespace(&entered));
    if entered.is_ok() {
        let fuse = fuse();
        checks.push(overlayfs(&dirs.data, &fuse));
        checks.push(fuse);
        crate::error::BestEffort::or_ignore(userns::unregister_holder(&dirs.runtime));
    }
    checks
}

/// Overlay mounts in a user namespace came with Linux 5.11, mount_setattr(2) with 5.12.
fn kernel(release: &str) -> Check {
    if kernel_version(release) >= (5, 12) {
        Check::good("kernel", release)
    } else {
        Check::broken("kernel", format!("{release} is older than 5.12"), "upgrade the kernel")
    }
}

fn subordinate_ids(uid: u32) -> Vec<Check> {
    let found = Subordinate::of(uid);
    let owner = login_name(uid).unwrap_or_else(|| uid.to_string());
    let check = |name: &'static str, ranges: &[SubRange], flag: &str| {
        let count: u64 = ranges.iter().map(|range| u64::from(range.length)).sum();
        let fix = format!("sudo usermod --add-{flag} 100000-165535 {owner}");
        match count {
            0 => Check::limited(name, format!("{owner} has none: only one id inside containers"), fix),
            1..65535 => Check::limited(name, format!("{count}: images with higher ids are squashed"), fix),
            _ => Check::good(name, format!("{count} in {} range(s)", ranges.len())),
        }
    };
    let mut checks = vec![check("subuid", &found.uids, "subuids"), check("subgid", &found.gids, "subgids")];
    let remarks = found.notes.iter().take(3);
    checks.extend(remarks.map(|note| Check::limited("subuid files", note, "mend the line, as root")));
    checks
}

fn helper(name: &'static str) -> Check {
    match find_program(name) {
        None => {
            Check::limited(name, "not installed: only one id inside containers", "sudo apt install uidmap")
        }
        Some(program) => match lacks_privilege(&program) {
            None => Check::good(name, program.display().to_string()),
            Some(why) => Check::limited(name, why, format!("sudo chmod u+s {}", program.display())),
        },
    }
}

fn directories(dirs: &Dirs) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, path) in [("data", &dirs.data), ("state", &dirs.state), ("runtime", &dirs.runtime)] {
        checks.push(match create_private(path).and_then(|()| writable(path)) {
            Ok(()) => Check::good(name, path.display().to_string()),
            Err(error) => {
                Check { fix: Some("make it yours, mode 0700".into()), ..Check::failed(name, &error) }
            }
        });
    }
    // What is set may lie below /tmp as well.
    let fallback = crate::dirs::fallback_runtime_dir(rustix::process::getuid().as_raw());
    if dirs.runtime == fallback {
        checks.push(Check::limited(
            "XDG_RUNTIME_DIR",
            format!(
                "not set, or no directory: {} is used, which outlives your sessions",
                dirs.runtime.display()
            ),
            "log in through PAM (not su), or: sudo loginctl enable-linger $USER",
        ));
    }
    checks
}

fn writable(path: &Path) -> Result<()> {
    rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)
        .context(|| format!("use the directory {}", path.display()))
}

fn seccomp(read: Reader<'_>) -> Check {
    match read("/proc/sys/kernel/seccomp/actions_avail") {
        Some(actions) => Check::good("seccomp", actions.trim()),
        None => {
            Check::broken("seccomp", "the kernel has no filters", "use a kernel with CONFIG_SECCOMP_FILTER=y")
        }
    }
}

fn apparmor(read: Reader<'_>) -> Check {
    let restricted = read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
    match restricted.as_deref().map(str::trim) {
        Some("1") => Check::limited(
            "AppArmor",
            "restricts user namespaces of programs without a profile",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        Some(_) => Check::good("AppArmor", "does not restrict user namespaces"),
        None => Check::good("AppArmor", "no restriction of user namespaces"),
    }
}

/// Limits need a writable cgroup v2 subtree of one's own: cgroups(7).
fn cgroups(read: Reader<'_>) -> Check {
    if read("/sys/fs/cgroup/cgroup.controllers").is_none() {
        return Check::limited(
            "cgroups",
            "not the unified hierarchy (v2): no resource limits",
            "add systemd.unified_cgroup_hierarchy=1 to the kernel's command line",
        );
    }
    let own = read("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").to_owned();
    // systemd delegates user@UID.service; the controllers there are what counts.
    let service = own.split_inclusive(".service").next().filter(|path| path.contains("/user@"));
    let path = service.unwrap_or(&own).to_owned();
    let controllers = read(&format!("/sys/fs/cgroup{path}/cgroup.controllers")).unwrap_or_default();
    let missing: Vec<&str> = ["cpu", "memory", "pids"]
        .into_iter()
        .filter(|name| !controllers.split_ascii_whitespace().any(|controller| controller == *name))
        .collect();
    if missing.is_empty() {
        Check::good("cgroups", format!("v2 at {path}: {}", controllers.trim()))
    } else {
        Check::limited(
            "cgroups",
            format!("v2 at {path}, without {}", missing.join(", ")),
            "sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu memory pids io\\n' \
             | sudo tee /etc/systemd/system/user@.service.d/delegate.conf, then log in again",
        )
    }
}

fn network() -> Vec<Check> {
    let slirp = match Chosen::of(&Wish::Slirp(SlirpOptions::default())) {
        Ok(chosen) => Check::good("slirp4netns", chosen.program()),
        Err(error) => {
            let fix = error.hints().first().cloned().unwrap_or_default();
            Check::limited("slirp4netns", format!("{error}: containers have loopback alone"), fix)
        }
    };
    let tun = match rustix::fs::access("/dev/net/tun", Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => Check::good("/dev/net/tun", "open to you"),
        Err(rustix::io::Errno::NOENT) => Check::limited("/dev/net/tun", "not there", "sudo modprobe tun"),
        Err(_) => Check::limited("/dev/net/tun", "not open to you", "sudo chmod 0666 /dev/net/tun"),
    };
    let pasta = match find_program("pasta") {
        Some(program) => Check::good("pasta", format!("{} (not used yet)", program.display())),
        None => Check::good("pasta", "not installed (not used yet)"),
    };
    vec![slirp, tun, pasta]
}

fn user_namespace(entered: &Result<userns::Outer>) -> Check {
    const NAME: &str = "user namespace";
    match entered {
        Err(error) => Check::failed(NAME, error),
        Ok(outer) => match &outer.extent {
            Extent::Single { reason } => {
                let (why, fix) = reason.rsplit_once(": ").unwrap_or((reason, "see above"));
                Check::limited(NAME, format!("one id: {why}"), fix)
            }
            Extent::Ranges => Check::good(NAME, format!("{} ids", outer.uid_map.count())),
            Extent::Privileged => Check::good(NAME, "every id, as root"),
            Extent::Inherited => Check::good(NAME, "inherited: this is the root of one already"),
        },
    }
}

/// Mounts an overlay on the file system of the data directory and writes to it.
fn overlayfs(data: &Path, fuse: &Check) -> Check {
    match try_overlay(data) {
        Ok(()) => Check::good("overlay", format!("the kernel's, on {}", data.display())),
        Err(error) => {
            let fix = error.hints().first().cloned();
            let fix = fix.unwrap_or_else(|| "put XDG_DATA_HOME on ext4, xfs, btrfs or tmpfs".into());
            // Without it containers run on FUSE, which is slower.
            Check { fix: Some(fix), needed: !fuse.ok, ..Check::failed("overlay", &error) }
        }
    }
}

/// What containers run on where the kernel's overlay does not serve, or owners
/// are mapped.
fn fuse() -> Check {
    const NAME: &str = "/dev/fuse";
    match open_device() {
        Ok(_) => Check::good(NAME, "open to you"),
        Err(error) => {
            let fix = error.hints().first().cloned().unwrap_or_default();
            let detail = format!("{error}: images are copied for --userns=keep-id and --uidmap");
            Check::limited(NAME, detail, fix)
        }
    }
}

fn try_overlay(data: &Path) -> Result<()> {
    let probe = data.join(format!(".doctor-{}", std::process::id()));
    let result = overlay_below(&probe);
    // The work directory holds one of mode 0 that root of this namespace may remove.
    let removed = std::fs::remove_dir_all(&probe).context(|| format!("remove {}", probe.display()));
    result.and(removed)
}

fn overlay_below(probe: &Path) -> Result<()> {
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| probe.join(name));
    for directory in [&lower, &upper, &work] {
        create_private(directory)?;
    }
    std::fs::write(lower.join("below"), "").context(|| "write a file")?;
    let mount = overlay::mount(&Overlay { lowers: &[lower], upper: &upper, work: &work, volatile: false })?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    rustix::fs::openat(&mount, "above", flags, Mode::from_raw_mode(0o600))
        .context(|| "write to an overlay")?;
    // A whiteout is what a foreign file system most likely lacks.
    rustix::fs::unlinkat(&mount, "below", rustix::fs::AtFlags::empty()).context(|| "remove in an overlay")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels() {
        for (release, ok) in [
            ("6.18.44-fc", true),
            ("5.12.0-1-amd64", true),
            ("5.10.0-30-amd64", false),
            ("4.19", false),
            ("6", true),
            ("", false),
        ] {
            assert_eq!(kernel(release).ok, ok, "{release}");
        }
    }

    #[test]
    fn delegation_is_read_where_systemd_delegates() {
        let host = |path: &str| {
            let text = match path {
                "/sys/fs/cgroup/cgroup.controllers" => "cpu io memory pids",
                "/proc/self/cgroup" => "0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope\n",
                "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/cgroup.controllers" => {
                    "memory pids\n"
                }
                _ => return None,
            };
            Some(text.to_owned())
        };
        let check = cgroups(&host);
        assert!(!check.ok && !check.needed);
        assert!(check.detail.ends_with("user@1000.service, without cpu"), "{}", check.detail);
        assert!(check.fix.is_some_and(|fix| fix.contains("delegate.conf")));
        assert!(cgroups(&|_| None).detail.contains("v2"));
    }

    #[test]
    fn what_is_wrong_has_a_remedy() {
        let restricted = |path: &str| path.ends_with("unprivileged_userns").then(|| "1\n".to_owned());
        assert!(apparmor(&restricted).fix.is_some_and(|fix| fix.starts_with("sudo sysctl")));
        assert!(apparmor(&|_| None).ok);
        assert!(seccomp(&|_| None).needed);
    }
}
