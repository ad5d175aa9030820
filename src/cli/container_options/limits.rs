//! `--ulimit` and `--device`.

use crate::error::{Error, Result};
use crate::types::container::{DeviceSpec, Ulimit};
use crate::types::mount::clean_target;
use rustix::process::{Resource, getrlimit};

/// setrlimit(2)'s names without `RLIMIT_`.
const RESOURCES: &[(&str, Resource)] = &[
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// All `--ulimit`s: `NAME=SOFT[:HARD]`, or `host` for the limits of this process.
///
/// # Errors
/// `Invalid` for unknown names, and where the soft limit is above the hard one.
pub(super) fn parse_ulimits(texts: &[String]) -> Result<Vec<Ulimit>> {
    let mut limits: Vec<Ulimit> = Vec::new();
    for text in texts {
        let more = if text == "host" { host_limits() } else { vec![parse_ulimit(text)?] };
        for limit in more {
            limits.retain(|other| other.name != limit.name);
            limits.push(limit);
        }
    }
    Ok(limits)
}

fn parse_ulimit(text: &str) -> Result<Ulimit> {
    let invalid = |why: &str| {
        Error::invalid(format!("invalid --ulimit {text:?}: {why}"))
            .hint("write it as NAME=SOFT[:HARD], for example nofile=1024:4096")
    };
    let (name, values) = text.split_once('=').ok_or_else(|| invalid("no value"))?;
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix("rlimit_").unwrap_or(&name);
    if !RESOURCES.iter().any(|(known, _)| *known == name) {
        return Err(invalid("unknown name"));
    }
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let number = |value: &str| match value {
        "-1" | "unlimited" => Ok(u64::MAX),
        _ if value.bytes().all(|byte| byte.is_ascii_digit()) => value.parse().map_err(|_| invalid("not a number")),
        _ => Err(invalid("not a number")),
    };
    let (soft, hard) = (number(soft)?, number(hard)?);
    if soft > hard {
        return Err(invalid("the soft limit is above the hard one"));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

fn host_limits() -> Vec<Ulimit> {
    let limit = |(name, resource): &(&str, Resource)| {
        let limit = getrlimit(*resource);
        let value = |bound: Option<u64>| bound.unwrap_or(u64::MAX);
        Ulimit { name: (*name).to_owned(), soft: value(limit.current), hard: value(limit.maximum) }
    };
    RESOURCES.iter().map(limit).collect()
}

/// One `--device HOST[:CONTAINER][:PERMISSIONS]`.
///
/// # Errors
/// `Invalid` for relative paths and other permissions than `r`, `w`, `m`.
pub(super) fn parse_device(text: &str) -> Result<DeviceSpec> {
    let invalid = |why: &str| {
        Error::invalid(format!("invalid --device {text:?}: {why}"))
            .hint("write it as /dev/HOST[:/dev/CONTAINER][:rwm]")
    };
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, permissions) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, second] if second.starts_with('/') => (*host, *second, "rwm"),
        [host, second] => (*host, *host, *second),
        [host, container, permissions] => (*host, *container, *permissions),
        _ => return Err(invalid("too many colons")),
    };
    if !host.starts_with('/') {
        return Err(invalid("the device is not an absolute path"));
    }
    let known = permissions.bytes().all(|byte| matches!(byte, b'r' | b'w' | b'm'));
    if permissions.is_empty() || permissions.len() > 3 || !known {
        return Err(invalid("permissions are of r, w and m"));
    }
    let container = clean_target(container).map_err(|error| error.context(format!("invalid --device {text:?}")))?;
    Ok(DeviceSpec { host: host.into(), container, permissions: permissions.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits_are_names_and_bounds() {
        let texts = ["nofile=10:20", "CORE=-1", "nofile=30"].map(String::from);
        let limits = parse_ulimits(&texts).expect("valid");
        assert_eq!(limits.len(), 2);
        assert_eq!((limits[0].name.as_str(), limits[0].soft), ("core", u64::MAX));
        assert_eq!((limits[1].soft, limits[1].hard), (30, 30));
        assert_eq!(parse_ulimits(&["host".into()]).expect("valid").len(), RESOURCES.len());
        for bad in ["", "nofile", "nofile=", "nofile=x", "wat=1", "nofile=2:1", "nofile=1:2:3", "nofile=-2", "core=+1"] {
            assert!(parse_ulimits(&[bad.into()]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn devices_are_absolute_paths() {
        let device = |text| parse_device(text).map(|d| (d.host, d.container, d.permissions));
        assert_eq!(device("/dev/fuse").expect("valid"), ("/dev/fuse".into(), "/dev/fuse".into(), "rwm".into()));
        assert_eq!(device("/dev/a:r").expect("valid"), ("/dev/a".into(), "/dev/a".into(), "r".into()));
        assert_eq!(device("/dev/a:/dev/../b:rw").expect("valid"), ("/dev/a".into(), "/b".into(), "rw".into()));
        for bad in ["", "fuse", "/dev/a:x", "/dev/a:/dev/b:", "/dev/a:/dev/b:r:w", "/dev/a:b:r", "/dev/a:rwmr"] {
            assert!(parse_device(bad).is_err(), "{bad:?}");
        }
    }
}
