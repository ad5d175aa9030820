//! `--security-opt`. An option that cannot be applied is an error, never
//! passed over (apptainer's CVE-2023-38496 was such a silence).

use super::files::read_text;
use crate::error::{Error, Result};
use crate::types::container::{ContainerConfig, SeccompChoice};
use std::path::Path;

/// Bytes of a seccomp profile.
const MAX_PROFILE: u64 = 4 << 20;

/// Whether this host labels with SELinux: selinuxfs(5).
pub(super) fn host_has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// One `--security-opt`: `KEY`, `KEY=VALUE` or docker's older `KEY:VALUE`.
///
/// # Errors
/// `Invalid` for unknown options and for those that this program cannot apply.
pub(super) fn apply(text: &str, selinux: bool, config: &mut ContainerConfig) -> Result<()> {
    let (key, value) = match text.find(['=', ':']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let refuse = |why: &str| Error::invalid(format!("--security-opt {text}: {why}"));
    match (key, value) {
        ("no-new-privileges", None | Some("true")) => config.no_new_privileges = true,
        ("no-new-privileges", Some("false")) => config.no_new_privileges = false,
        ("seccomp", Some("unconfined")) => config.seccomp = SeccompChoice::Unconfined,
        ("seccomp", Some("builtin" | "default")) => config.seccomp = SeccompChoice::Default,
        ("seccomp", Some(path)) if !path.is_empty() => config.seccomp = read_profile(path)?,
        ("label", Some("disable")) if !selinux => {}
        ("label", _) => return Err(refuse("coracle sets no SELinux labels")),
        ("apparmor", Some("unconfined")) | ("writable-cgroups", Some("false")) => {}
        ("apparmor", _) => return Err(refuse("coracle applies no AppArmor profiles")),
        ("writable-cgroups", None | Some("true")) => {
            return Err(refuse("the control group of a container is for it to read").hint(
                "with --systemd=always it may make groups of its own below it, as an init system does",
            ));
        }
        ("mask", Some(paths)) => config.mask.extend(parse_paths(text, paths)?),
        ("unmask", Some("ALL" | "all")) | ("systempaths", Some("unconfined")) => {
            config.unmask.push("ALL".into());
        }
        ("unmask", Some(paths)) => config.unmask.extend(parse_paths(text, paths)?),
        _ => {
            return Err(refuse("unknown option").hint(
                "known are no-new-privileges[=BOOL], seccomp=unconfined|FILE, mask=PATHS, unmask=ALL|PATHS, label=disable, apparmor=unconfined, writable-cgroups=false",
            ));
        }
    }
    Ok(())
}

fn read_profile(path: &str) -> Result<SeccompChoice> {
    let text = read_text("--security-opt seccomp", path, MAX_PROFILE)?;
    // The profile is read in full where it becomes a filter; that it is a JSON
    // object is said here, with the file's name.
    let document: serde_json::Value = serde_json::from_str(&text)
        .map_err(|cause| Error::invalid(format!("{path} is not a seccomp profile: {cause}")))?;
    if document.is_object() {
        Ok(SeccompChoice::Profile(text))
    } else {
        Err(Error::invalid(format!("{path} is not a seccomp profile: not a JSON object")))
    }
}

/// `/a:/b`: absolute, without `..`.
fn parse_paths(text: &str, paths: &str) -> Result<Vec<String>> {
    let parse = |path: &str| {
        if path.starts_with('/') && !path.split('/').any(|part| part == "..") {
            Ok(path.to_owned())
        } else {
            Err(Error::invalid(format!("--security-opt {text}: {path:?} is not an absolute path")))
        }
    };
    paths.split(':').map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn applied(text: &str) -> Result<ContainerConfig> {
        let mut config = ContainerConfig::default();
        apply(text, false, &mut config).map(|()| config)
    }

    #[test]
    fn options_that_can_be_applied_are() {
        for on in ["no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"] {
            assert!(applied(on).expect(on).no_new_privileges);
        }
        assert!(!applied("no-new-privileges=false").expect("valid").no_new_privileges);
        assert_eq!(applied("seccomp=unconfined").expect("valid").seccomp, SeccompChoice::Unconfined);
        assert_eq!(applied("seccomp:unconfined").expect("valid").seccomp, SeccompChoice::Unconfined);
        assert_eq!(applied("mask=/a:/b").expect("valid").mask, ["/a", "/b"]);
        assert_eq!(applied("unmask=ALL").expect("valid").unmask, ["ALL"]);
        assert_eq!(applied("unmask=/proc/x").expect("valid").unmask, ["/proc/x"]);
        assert_eq!(applied("systempaths=unconfined").expect("valid").unmask, ["ALL"]);
        for same in ["label=disable", "writable-cgroups=false"] {
            assert_eq!(applied(same).expect("valid"), ContainerConfig::default());
        }
        assert!(applied("writable-cgroups").expect_err("read-only").hints()[0].contains("--systemd"));
    }

    #[test]
    fn a_profile_is_read_here() {
        let mut file = tempfile::NamedTempFile::new().expect("temporary file");
        file.write_all(br#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).expect("write");
        let config = applied(&format!("seccomp={}", file.path().display())).expect("valid");
        assert!(matches!(config.seccomp, SeccompChoice::Profile(text) if text.contains("SCMP_ACT_ALLOW")));
        file.write_all(b"}").expect("write");
        assert!(applied(&format!("seccomp={}", file.path().display())).is_err());
    }

    /// CVE-2023-38496 (apptainer) and its kin: an option was accepted and did nothing.
    #[test]
    fn options_that_cannot_be_applied_are_errors() {
        for bad in [
            "",
            "wat",
            "seccomp",
            "seccomp=",
            "seccomp=/does/not/exist",
            "no-new-privileges=maybe",
            "label=type:x",
            "apparmor=docker-default",
            "apparmor",
            "mask=relative",
            "mask=/a/../b",
            "unmask=",
            "proc-opts=x",
            "nonewprivileges",
        ] {
            assert!(applied(bad).is_err(), "{bad:?}");
        }
        assert!(apply("label=disable", true, &mut ContainerConfig::default()).is_err());
    }
}
