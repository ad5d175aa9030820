//! `os/architecture[/variant]`.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A platform as an image index names it (Go's names: `amd64`, `arm64`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    pub(crate) os: String,
    pub(crate) architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

/// Systems that images are for: what stands alone and is none is an architecture.
const SYSTEMS: [&str; 4] = ["linux", "windows", "darwin", "freebsd"];

impl Platform {
    /// This machine's.
    pub(crate) fn host() -> Self {
        let (architecture, variant) = normalise(std::env::consts::ARCH, None);
        Self { os: "linux".into(), architecture, variant }
    }

    /// `linux/arm64/v8`, `linux/amd64`, or an architecture or a system alone.
    ///
    /// # Errors
    /// `Invalid` where a part is empty, begins with no letter or digit, or holds
    /// anything but letters, digits, `_`, `-`, `.`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &&str| {
            part.starts_with(|first: char| first.is_ascii_alphanumeric())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        };
        if parts.len() > 3 || !parts.iter().all(word) {
            return Err(Error::invalid(format!("invalid platform {text:?}"))
                .hint("write it as os/architecture[/variant], for example linux/arm64"));
        }
        let (os, architecture, variant) = match parts.as_slice() {
            [os] if SYSTEMS.contains(&os.to_lowercase().as_str()) => (*os, std::env::consts::ARCH, None),
            [architecture] => ("linux", *architecture, None),
            [os, architecture] => (*os, *architecture, None),
            [os, architecture, variant, ..] => (*os, *architecture, Some(*variant)),
            [] => ("linux", "", None),
        };
        let (architecture, variant) = normalise(&architecture.to_lowercase(), variant);
        Ok(Self { os: os.to_lowercase(), architecture, variant })
    }

    /// Whether an image for `self` runs where `wanted` is asked for: a missing
    /// variant on either side matches.
    pub(crate) fn satisfies(&self, wanted: &Platform) -> bool {
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && (self.variant.is_none() || wanted.variant.is_none() || self.variant == wanted.variant)
    }

    /// Whether `host` runs it without emulation: also what its processor does
    /// besides.
    pub(crate) fn runs_on(&self, host: &Platform) -> bool {
        let besides = matches!(
            (self.architecture.as_str(), host.architecture.as_str()),
            ("386", "amd64") | ("arm", "arm64")
        );
        self.satisfies(host) || besides && self.os == host.os
    }
}

/// The kernel's and users' names for architectures to Go's.
fn normalise(architecture: &str, variant: Option<&str>) -> (String, Option<String>) {
    let variant = variant.map(str::to_owned);
    match architecture {
        "x86_64" | "x86-64" => ("amd64".into(), variant),
        "x86" | "i386" | "i686" => ("386".into(), variant),
        "aarch64" | "arm64" => ("arm64".into(), variant.filter(|v| v != "v8" && v != "8")),
        "armhf" | "armv7l" => ("arm".into(), variant.or_else(|| Some("v7".into()))),
        "powerpc64" => ("ppc64le".into(), variant),
        other => (other.to_owned(), variant),
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_architectures_are_gos() {
        let platform = |text| Platform::parse(text).expect("valid").to_string();
        assert_eq!(platform("linux/x86_64"), "linux/amd64");
        assert_eq!(platform("aarch64"), "linux/arm64");
        assert_eq!(platform("linux/arm64/v8"), "linux/arm64");
        assert_eq!(platform("linux"), Platform::host().to_string());
        assert!(platform("windows").starts_with("windows/"));
        assert_eq!(platform("linux/arm/v7"), "linux/arm/v7");
        for bad in ["", "linux/", "a/b/c/d", "linux/../x"] {
            assert!(Platform::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_processor_runs_besides_is_its_own() {
        let runs = |image: &str, host: &str| {
            Platform::parse(image).expect("valid").runs_on(&Platform::parse(host).expect("valid"))
        };
        assert!(runs("linux/386", "amd64") && runs("linux/arm/v7", "arm64") && runs("amd64", "amd64"));
        assert!(!runs("arm64", "amd64") && !runs("amd64", "386") && !runs("windows/amd64", "amd64"));
    }
}
