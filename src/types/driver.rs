//! Storage drivers: what shows a container its layers as one tree.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// What was asked for: `--storage-driver`, `storage.driver`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DriverChoice {
    /// The kernel's where it works and files keep their owners, else FUSE.
    #[default]
    Auto,
    /// The kernel's overlayfs, and nothing else.
    Overlay,
    /// Our own overlay on FUSE, and nothing else.
    Fuse,
}

/// What a container runs with. Both keep overlayfs's format on the disk, so a
/// container may have another at its next start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Driver {
    #[default]
    Overlay,
    Fuse,
}

impl Driver {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Fuse => "fuse",
        }
    }
}

impl DriverChoice {
    /// Docker's and podman's names for the same mean the same.
    ///
    /// # Errors
    /// `Invalid`, with the reason where the driver is one of theirs.
    pub(crate) fn parse(word: &str) -> Result<Self> {
        match word {
            "auto" => Ok(Self::Auto),
            "overlay" | "overlay2" | "overlayfs" => Ok(Self::Overlay),
            "fuse" | "fuse-overlayfs" => Ok(Self::Fuse),
            "vfs" => Err(refused(word, "it would copy the whole image for each container")),
            "btrfs" | "zfs" | "devicemapper" | "aufs" => {
                Err(refused(word, "layers are directories on the file system that is there"))
            }
            _ => Err(refused(word, "there is no such storage driver")),
        }
    }
}

fn refused(word: &str, why: &str) -> Error {
    Error::invalid(format!("storage driver {word:?}: {why}")).hint("it is one of auto, overlay and fuse")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_drivers() {
        for (word, choice) in [
            ("auto", DriverChoice::Auto),
            ("overlay", DriverChoice::Overlay),
            ("overlay2", DriverChoice::Overlay),
            ("fuse", DriverChoice::Fuse),
            ("fuse-overlayfs", DriverChoice::Fuse),
        ] {
            assert_eq!(DriverChoice::parse(word).expect(word), choice);
        }
        for word in ["vfs", "btrfs", "zfs", "", "Overlay", "fuse ", "ov\nerlay"] {
            let error = DriverChoice::parse(word).expect_err(word);
            assert!(error.hints()[0].contains("auto, overlay and fuse"), "{word}");
        }
    }
}
