//! What every container has in /dev, and what of /proc and /sys it may not see or write.

use crate::error::{Context, Error, Result};
use rustix::fs::{FileType, fstat, major, minor};
use std::os::fd::BorrowedFd;

/// A character device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    /// Below /dev, on the host and in the container.
    pub(crate) name: &'static str,
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

/// The devices of every container: OCI runtime specification, "Default Devices",
/// with the kernel's Documentation/admin-guide/devices.txt for the numbers.
pub(crate) const DEVICES: [Device; 6] = [
    NULL,
    Device { name: "zero", major: 1, minor: 5 },
    Device { name: "full", major: 1, minor: 7 },
    Device { name: "tty", major: 5, minor: 0 },
    Device { name: "random", major: 1, minor: 8 },
    Device { name: "urandom", major: 1, minor: 9 },
];

/// Also what hides masked files.
pub(crate) const NULL: Device = Device { name: "null", major: 1, minor: 3 };

/// Links below /dev and what they hold.
pub(crate) const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];

/// Paths that are hidden unless `--security-opt unmask=` names them: a directory by an
/// empty read-only tmpfs, a file by /dev/null. Those that are not there are passed over.
/// Podman's and docker's newest.
pub(crate) const MASKED: [&str; 14] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Paths that are bound over themselves read-only, likewise.
pub(crate) const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// That `fd` (O_PATH will do) is `device` itself, not something that an image has put
/// in its place, or a link to it (CVE-2025-31133).
///
/// # Errors
/// `Failed` where it is anything else.
pub(crate) fn verify(fd: BorrowedFd<'_>, device: Device) -> Result<()> {
    let Device { name, .. } = device;
    let stat = fstat(fd).context(|| format!("look at /dev/{name}"))?;
    let (found_major, found_minor) = (major(stat.st_rdev), minor(stat.st_rdev));
    let character = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if character && (found_major, found_minor) == (device.major, device.minor) {
        return Ok(());
    }
    let found =
        if character { format!("device {found_major}:{found_minor}") } else { "no device".to_owned() };
    Err(Error::failed(format!("/dev/{name} is {found}, not device {}:{}", device.major, device.minor)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    /// CVE-2025-31133: neither a link to another device nor a file passes for /dev/null.
    #[test]
    fn only_the_device_itself_is_taken_for_it() {
        for device in DEVICES {
            let path = format!("/dev/{}", device.name);
            let fd = rustix::fs::open(&path, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
            verify(fd.as_fd(), device).unwrap();
            assert_eq!(verify(fd.as_fd(), NULL).is_ok(), device == NULL, "{path}");
        }
        let file = tempfile::tempfile().unwrap();
        assert!(verify(file.as_fd(), NULL).is_err());
        let link = tempfile::tempdir().unwrap();
        let path = link.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW;
        let fd = rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).unwrap();
        assert!(verify(fd.as_fd(), NULL).is_err());
    }
}
