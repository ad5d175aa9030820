//! What `-v`, `--mount` and `--tmpfs` ask for.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

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
        /// Permission bits; 1777 where `None`.
        mode: Option<u32>,
    },
    /// A throw-away overlay over a directory of the host (`DIR:/target:O`).
    Overlay { path: PathBuf },
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
    /// `volume-subpath` / `subpath`: a directory inside the volume.
    pub(crate) subpath: Option<String>,
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
