//! `--device HOST[:CONTAINER][:rwm]`.

use super::container::DeviceSpec;
use crate::error::{Error, Result};
use std::path::{Component, Path};

impl DeviceSpec {
    /// `/dev/fuse`, `/dev/fuse:rw`, `/dev/sda:/dev/xvda`, `/dev/sda:/dev/xvda:r`.
    ///
    /// # Errors
    /// `Invalid` where a path is not absolute or has `..`, or a permission is
    /// something else than `r`, `w`, `m`, or stands twice.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let invalid = |what: &str| {
            Error::invalid(format!("invalid device {text:?}: {what}"))
                .hint("write it as HOST[:CONTAINER][:rwm]")
        };
        let parts: Vec<&str> = text.split(':').collect();
        let (host, container, permissions) = match *parts.as_slice() {
            [host] => (host, host, "rwm"),
            [host, second] if second.starts_with('/') => (host, second, "rwm"),
            [host, permissions] => (host, host, permissions),
            [host, container, permissions] => (host, container, permissions),
            _ => return Err(invalid("too many parts")),
        };
        for path in [host, container] {
            let normal = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
            if path.contains('\0') || !path.starts_with('/') || !Path::new(path).components().all(normal) {
                return Err(invalid("not an absolute path"));
            }
        }
        if Path::new(container).file_name().is_none() {
            return Err(invalid("the root directory cannot be a device"));
        }
        let once = |letter: char| permissions.matches(letter).count() <= 1;
        if permissions.is_empty() || !permissions.chars().all(|letter| "rwm".contains(letter) && once(letter))
        {
            return Err(invalid("permissions are letters of rwm"));
        }
        Ok(Self { host: host.into(), container: container.into(), permissions: permissions.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_or_refused() {
        for (text, host, container, permissions) in [
            ("/dev/fuse", "/dev/fuse", "/dev/fuse", "rwm"),
            ("/dev/fuse:rw", "/dev/fuse", "/dev/fuse", "rw"),
            ("/dev/sda:/dev/xvda", "/dev/sda", "/dev/xvda", "rwm"),
            ("/dev/sda:/dev/xvda:r", "/dev/sda", "/dev/xvda", "r"),
            ("/dev/sda:/dev/xvda:mr", "/dev/sda", "/dev/xvda", "mr"),
        ] {
            let expected = DeviceSpec {
                host: host.into(),
                container: container.into(),
                permissions: permissions.into(),
            };
            assert_eq!(DeviceSpec::parse(text).unwrap(), expected, "{text}");
        }
        for bad in [
            "",
            ":",
            "dev/fuse",
            "/dev/fuse:",
            "/dev/fuse:x",
            "/dev/fuse:rr",
            "/dev/fuse:rwmr",
            "/dev/fuse:dev/x:r",
            "/dev/fuse:/dev/../etc:r",
            "/dev/../x",
            "/dev/fuse:/:r",
            "/dev/fuse:/dev/a:/dev/b",
            "/a:/b:r:w",
            "/dev/a\0",
            "nvidia.com/gpu=all",
        ] {
            assert!(DeviceSpec::parse(bad).is_err(), "{bad:?}");
        }
    }
}
