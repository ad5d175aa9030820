//! What `-v`, `--mount` and `--tmpfs` ask for.

mod flag_mount;
mod flag_tmpfs;
mod flag_volume;
mod options;

pub(crate) use flag_mount::parse_mount;
pub(crate) use flag_tmpfs::parse_tmpfs;
pub(crate) use flag_volume::parse_volume;

use crate::error::{Error, Result};
use crate::types::digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// What `/etc/mtab` links to, where an image has none: docker's and podman's.
pub(crate) const MTAB: &str = "/proc/mounts";

/// One mount that a user or an image asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountSpec {
    pub(crate) source: MountSource,
    /// Absolute, as the container sees it.
    pub(crate) target: String,
    #[serde(default)]
    pub(crate) options: MountOptions,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MountSource {
    /// An absolute path of the host. `create` makes a missing directory, as
    /// docker's `-v` does (`--mount type=bind` does not).
    Bind { path: PathBuf, create: bool },
    /// A named volume.
    Volume { name: String },
    /// A volume of its own, named at create and removed with `rm -v` and `--rm`.
    Anonymous,
    Tmpfs {
        /// Bytes; the kernel's default (half of memory) where `None`.
        size: Option<u64>,
        /// Permission bits; 1777 where `None`, or those of the image's directory
        /// with `copy_up`.
        mode: Option<u32>,
        #[serde(default)]
        more: TmpfsMore,
    },
    /// A throw-away overlay over a directory of the host (`DIR:/target:O`).
    Overlay { path: PathBuf },
    /// The files of an image; what is written over them is thrown away with the run.
    Image {
        /// As asked for.
        reference: String,
        /// Known once the container is created.
        id: Option<Digest>,
        /// Chain ids, from the lowest to the topmost; empty until it is created.
        layers: Vec<Digest>,
    },
}

/// What is asked for of a tmpfs less often.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TmpfsMore {
    /// Instead of a size: of the host's memory, `size=10%`.
    pub(crate) percent: Option<u32>,
    /// Owners as the container counts them.
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    /// Files and directories at most; 0 is without end.
    pub(crate) inodes: Option<u64>,
    pub(crate) noatime: bool,
    pub(crate) nodiratime: bool,
    /// `tmpcopyup`: what the image has there is copied into it.
    pub(crate) copy_up: bool,
    /// The options of `--tmpfs` as they were written, for those who ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) written: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MountOptions {
    pub(crate) read_only: bool,
    /// `nosuid`, `nodev`, `noexec` where asked for (and their opposites where
    /// `Some(false)`).
    pub(crate) nosuid: Option<bool>,
    pub(crate) nodev: Option<bool>,
    pub(crate) noexec: Option<bool>,
    pub(crate) propagation: Propagation,
    /// `bind` instead of `rbind`: without the mounts below the source.
    pub(crate) non_recursive: bool,
    /// `U`: change the owner of the source to the container's user.
    pub(crate) chown: bool,
    /// `nocopy`: a new volume is not seeded from the image.
    pub(crate) no_copy: bool,
    /// `volume-subpath`, `image-subpath`, `subpath`: a directory inside the volume or image.
    pub(crate) subpath: Option<String>,
    /// `volume-opt`, `volume-label`: of a volume that is made for it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) volume_options: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) volume_labels: BTreeMap<String, String>,
    /// It came by `--mount`: docker tells of it in another place than of `-v`.
    pub(crate) by_mount: bool,
}

/// mount_namespaces(7); the `r` forms apply to the mounts below as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Propagation {
    #[default]
    RPrivate,
    Private,
    RSlave,
    Slave,
    RShared,
    Shared,
}

impl Propagation {
    /// As mount(8) and the flags write it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "rprivate" => Self::RPrivate,
            "private" => Self::Private,
            "rslave" => Self::RSlave,
            "slave" => Self::Slave,
            "rshared" => Self::RShared,
            "shared" => Self::Shared,
            _ => return None,
        })
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::RPrivate => "rprivate",
            Self::Private => "private",
            Self::RSlave => "rslave",
            Self::Slave => "slave",
            Self::RShared => "rshared",
            Self::Shared => "shared",
        }
    }
}

/// A path in the container, cleaned lexically: absolute, without `.`, `..` and
/// doubled slashes; `..` above `/` is `/`, so nothing leads out (CVE-2022-23648).
///
/// # Errors
/// `Invalid` where `text` is relative, longer than the kernel takes, or has a NUL byte.
pub(crate) fn clean_path(text: &str) -> Result<String> {
    if !text.starts_with('/') {
        return Err(Error::invalid(format!("{text:?} is not an absolute path")));
    }
    if text.contains('\0') || text.len() > 4095 {
        return Err(Error::invalid("the path is too long or has a NUL byte"));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    Ok(format!("/{}", parts.join("/")))
}

/// The target of a mount: as [`clean_path`], and not the root itself.
///
/// # Errors
/// As [`clean_path`], and for `/`.
pub(crate) fn clean_target(text: &str) -> Result<String> {
    let path = clean_path(text).map_err(|error| error.context("mount target"))?;
    if path == "/" {
        return Err(Error::invalid(format!("mount target: {text:?} is the container's root")));
    }
    Ok(path)
}

/// Two mounts on one target cannot both be meant.
///
/// # Errors
/// `Invalid`, naming the target.
pub(crate) fn check_duplicates(mounts: &[MountSpec]) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    match mounts.iter().find(|mount| !seen.insert(mount.target.as_str())) {
        Some(mount) => Err(Error::invalid(format!("duplicate mount point: {}", mount.target))),
        None => Ok(()),
    }
}

/// A host's path as written, made absolute. `..` stays: what it means depends
/// on symbolic links, which the kernel follows.
fn host_path(text: &str, working_dir: &Path) -> Result<PathBuf> {
    let joined = from_working_dir(text, working_dir)?;
    Ok(joined.components().filter(|part| !matches!(part, Component::CurDir)).collect())
}

/// A host's path, from `working_dir` where it is relative.
///
/// # Errors
/// `Invalid` where there is no such directory any more, which is then empty here.
pub(crate) fn from_working_dir(text: &str, working_dir: &Path) -> Result<PathBuf> {
    let joined = working_dir.join(text);
    if joined.is_absolute() {
        return Ok(joined);
    }
    Err(Error::invalid(format!("{text:?} is relative, and the working directory was removed"))
        .hint("give the whole path, or change the directory: cd ~"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CVE-2022-23648: a volume path of an image with `..` led to the host's files.
    #[test]
    fn targets_are_absolute_and_stay_inside() {
        for (text, clean) in [
            ("/data", "/data"),
            ("/data/", "/data"),
            ("//a///b/./c", "/a/b/c"),
            ("/a/../b", "/b"),
            ("/../../etc", "/etc"),
            ("/a/..b/...", "/a/..b/..."),
        ] {
            assert_eq!(clean_target(text).expect(text), clean);
        }
        for bad in ["", "data", "./data", "../x", "/", "/..", "/a/..", "/a\0b"] {
            assert!(clean_target(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn one_target_is_mounted_once() {
        let here = Path::new("/here");
        let one = parse_volume("/a:/data", here).expect("valid");
        let two = parse_tmpfs("/data/").expect("valid");
        let error = check_duplicates(&[one.clone(), two]).expect_err("the same target");
        assert_eq!(error.to_string(), "duplicate mount point: /data");
        assert!(check_duplicates(&[one]).is_ok());
    }
}
