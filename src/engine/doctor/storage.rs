//! Overlays, attributes and copies on the user's own file systems, by doing.

use super::check::{Check, Severity};
use crate::dirs::{Dirs, create_private};
use crate::error::{Context, Result};
use crate::storage::fuse;
use crate::storage::overlay::{self, Overlay};
use crate::sys::xattr;
use rustix::fs::{Mode, OFlags};
use std::os::fd::AsFd;
use std::path::Path;

pub(super) fn checks(dirs: &Dirs) -> Vec<Check> {
    let device = device();
    let mount = fuse_mount();
    let served = device.is_ok() && mount.is_ok();
    vec![overlayfs(&dirs.data, served), device, mount, attributes(&dirs.state), reflink(&dirs.data)]
}

/// Mounts an overlay on the file system of the data directory and writes to it.
fn overlayfs(data: &Path, fuse: bool) -> Check {
    match in_probe(data, overlay_below) {
        Ok(()) => Check::good("overlay", format!("the kernel's, on {}", data.display())),
        Err(error) => {
            // Without it containers run on FUSE, which is slower.
            let (severity, cost) = if fuse {
                (Severity::Limited, "containers run on coracle's own overlay, which is slower")
            } else {
                (Severity::Broken, "no container runs")
            };
            let check = Check::failed("overlay", severity, &error, cost);
            if check.remedy.is_some() {
                check
            } else {
                check.user("put XDG_DATA_HOME and XDG_STATE_HOME on ext4, xfs, btrfs or tmpfs")
            }
        }
    }
}

/// What containers run on where the kernel's overlay does not serve, or owners
/// are mapped.
fn device() -> Check {
    const NAME: &str = "/dev/fuse";
    match fuse::open_device() {
        Ok(_) => Check::good(NAME, "open to you"),
        Err(error) => Check::failed(
            NAME,
            Severity::Limited,
            &error,
            "images are copied for --userns=keep-id and --uidmap, and `--rootfs /:O` shows foreign owners",
        ),
    }
}

fn fuse_mount() -> Check {
    const NAME: &str = "FUSE mount";
    let mount = || {
        let device = fuse::open_device()?;
        fuse::mount(device.as_fd())
    };
    match mount() {
        Ok(_) => Check::good(NAME, "could be mounted in a user namespace"),
        Err(error) => Check::failed(NAME, Severity::Limited, &error, "the overlay on FUSE does not serve"),
    }
}

fn in_probe(parent: &Path, deed: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let probe = parent.join(format!(".doctor-{}", std::process::id()));
    let result = create_private(&probe).and_then(|()| deed(&probe));
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

/// Both drivers keep what they know of a file in `user.overlay.*`.
fn attributes(state: &Path) -> Check {
    const NAME: &str = "user attributes";
    let tried = in_probe(state, |probe| {
        let file = std::fs::File::create(probe.join("file")).context(|| "make a file")?;
        xattr::set(&file, c"user.overlay.coracle", b"x")
            .context(|| format!("set an attribute in {}", state.display()))
    });
    match tried {
        Ok(()) => Check::good(NAME, "kept by the state folder"),
        Err(error) => Check::failed(NAME, Severity::Broken, &error, "no container runs from there")
            .user("set XDG_STATE_HOME to a local disk (NFS keeps them from Linux 5.9 and NFSv4.2 on)"),
    }
}

fn reflink(data: &Path) -> Check {
    const NAME: &str = "reflink";
    let tried = in_probe(data, |probe| {
        std::fs::write(probe.join("from"), "x").context(|| "make a file")?;
        let from = std::fs::File::open(probe.join("from")).context(|| "open a file")?;
        let to = std::fs::File::create(probe.join("to")).context(|| "make a file")?;
        rustix::fs::ioctl_ficlone(&to, &from).context(|| "clone a file")
    });
    match tried {
        Ok(()) => Check::good(NAME, "large files are copied up at once"),
        Err(_) => Check::good(NAME, "this file system has none: large files are copied up byte by byte"),
    }
}
