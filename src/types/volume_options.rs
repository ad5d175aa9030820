//! `volume create --opt`: docker's options of the driver `local`.

use super::size::parse_bytes;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a volume is mounted from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VolumeKind {
    /// Its own directory.
    Directory,
    /// `type=none,o=bind,device=DIR`, or `type=bind,device=DIR`
    Bind(PathBuf),
    /// `type=tmpfs`: empty unless a container has it at the moment.
    Tmpfs(TmpfsOptions),
}

/// `o=size=64m,mode=1777,uid=1,gid=2,ro,nodev,noexec,nosuid`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TmpfsOptions {
    /// What /proc/mounts has as its source: `device`.
    pub(crate) source: Option<String>,
    /// Bytes.
    pub(crate) size: Option<u64>,
    pub(crate) mode: Option<u32>,
    /// Ids of the container.
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) read_only: bool,
    pub(crate) nodev: bool,
    pub(crate) noexec: bool,
    pub(crate) nosuid: bool,
}

impl VolumeKind {
    /// # Errors
    /// `Invalid` for options that are not known, do not fit together, or need a
    /// mount that an ordinary user cannot make.
    pub(crate) fn parse(options: &BTreeMap<String, String>) -> Result<Self> {
        let known = ["type", "device", "o", "size", "copy", "nocopy"];
        if let Some(other) = options.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(Error::invalid(format!("invalid option {other:?} of the volume driver local"))
                .hint("its options are type, device and o"));
        }
        let of = |key: &str| options.get(key).map(String::as_str).unwrap_or_default();
        let words: Vec<&str> = of("o").split(',').filter(|word| !word.is_empty()).collect();
        let is_bind = words.iter().any(|word| matches!(*word, "bind" | "rbind"));
        match (of("type"), of("device")) {
            // Podman's type=bind says it alone.
            (kind @ ("" | "none" | "bind"), device) if is_bind || kind == "bind" => {
                if !device.starts_with('/') {
                    return Err(Error::invalid(format!(
                        "device {device:?}: a bind needs an absolute directory"
                    )));
                }
                if let Some(other) = words.iter().find(|word| !matches!(**word, "bind" | "rbind" | "rw")) {
                    return Err(Error::invalid(format!("o={other}: not known for a bind"))
                        .hint("give it where the volume is mounted: -v NAME:PATH:ro"));
                }
                Ok(Self::Bind(device.into()))
            }
            ("tmpfs", device) => {
                let mut words = words;
                let size = format!("size={}", of("size"));
                if options.contains_key("size") {
                    words.push(&size);
                }
                let source = Some(device.to_owned()).filter(|device| !device.is_empty());
                Ok(Self::Tmpfs(TmpfsOptions { source, ..TmpfsOptions::parse(&words)? }))
            }
            ("", "") if words.is_empty() => Ok(Self::Directory),
            ("", _) => Err(Error::invalid("the options o and device need a type")
                .hint("type=tmpfs, or type=none with o=bind and device=DIR")),
            (kind, _) => Err(Error::invalid(format!(
                "a volume of type {kind:?} needs a mount that only root can make"
            ))
            .hint("mount it on the host and use type=none, o=bind and device=DIR; or type=tmpfs")),
        }
    }
}

impl TmpfsOptions {
    fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let invalid = || Error::invalid(format!("o={word}: not an option of a tmpfs"));
            let id = || value.parse::<u32>().map_err(|_| invalid());
            match key {
                "size" => options.size = Some(parse_bytes(value).map_err(|error| error.context("o=size"))?),
                "mode" => {
                    let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
                    options.mode = Some(mode.ok_or_else(invalid)?);
                }
                "uid" => options.uid = Some(id()?),
                "gid" => options.gid = Some(id()?),
                "ro" => options.read_only = true,
                "nodev" => options.nodev = true,
                "noexec" => options.noexec = true,
                "nosuid" => options.nosuid = true,
                "rw" | "dev" | "exec" | "suid" => {}
                _ => {
                    return Err(
                        invalid().hint("its options are size, mode, uid, gid, ro, nodev, noexec and nosuid")
                    );
                }
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[(&str, &str)]) -> Result<VolumeKind> {
        let options = words.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        VolumeKind::parse(&options)
    }

    #[test]
    fn options_are_dockers() {
        assert_eq!(parse(&[]).expect("valid"), VolumeKind::Directory);
        assert_eq!(
            parse(&[("type", "none"), ("o", "bind"), ("device", "/d")]).expect("valid"),
            VolumeKind::Bind("/d".into())
        );
        assert_eq!(
            parse(&[("type", "bind"), ("device", "/d")]).expect("podman's"),
            VolumeKind::Bind("/d".into())
        );
        let tmpfs = parse(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,mode=700,uid=5,noexec")]);
        let VolumeKind::Tmpfs(options) = tmpfs.expect("valid") else { panic!("no tmpfs") };
        assert_eq!(
            (options.size, options.mode, options.uid, options.gid),
            (Some(1 << 20), Some(0o700), Some(5), None)
        );
        assert!(options.noexec && !options.nodev && options.source.as_deref() == Some("tmpfs"));
        for bad in [
            &[("type", "nfs"), ("device", "h:/x")][..],
            &[("type", "none"), ("o", "bind"), ("device", "rel")],
            &[("type", "none"), ("o", "bind")],
            &[("type", "bind")],
            &[("type", "none"), ("o", "bind,wat"), ("device", "/d")],
            &[("type", "tmpfs"), ("o", "size=lots")],
            &[("type", "tmpfs"), ("o", "wat")],
            &[("wat", "1")],
            &[("device", "/d")],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
