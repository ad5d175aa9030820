//! `--cgroups` and `--cgroupns`: which control group a container has, and
//! whether it sees others.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// `--cgroups`, in podman's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CgroupsMode {
    /// A group of its own, and one for the monitor where systemd gives it.
    #[default]
    Enabled,
    /// None: it stays in its starter's, and has no limits.
    Disabled,
    /// A group of its own; the monitor stays in its starter's.
    NoConmon,
    /// Below the starter's own group, as in a service of systemd's.
    Split,
}

/// `--cgroupns`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CgroupnsMode {
    /// Its own group is the root of all that it sees.
    #[default]
    Private,
    Host,
    /// Podman's: another container's group is. Name, id or prefix as given; the
    /// engine replaces it with the full id.
    Container(String),
}

impl CgroupsMode {
    /// # Errors
    /// `Invalid` for another word.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "enabled" => Ok(Self::Enabled),
            "disabled" => Ok(Self::Disabled),
            "no-conmon" => Ok(Self::NoConmon),
            "split" => Ok(Self::Split),
            _ => Err(Error::invalid(format!("invalid --cgroups {text:?}"))
                .hint("one of enabled, disabled, no-conmon, split")),
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::NoConmon => "no-conmon",
            Self::Split => "split",
        }
    }
}

impl CgroupnsMode {
    /// # Errors
    /// `Invalid` for another word.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "" | "private" => Ok(Self::Private),
            "host" => Ok(Self::Host),
            _ => match text.strip_prefix("container:") {
                Some(name) if !name.is_empty() => Ok(Self::Container(name.to_owned())),
                _ => Err(Error::invalid(format!("invalid --cgroupns {text:?}"))
                    .hint("it is one of private, host, container:NAME")),
            },
        }
    }

    pub(crate) fn word(&self) -> String {
        match self {
            Self::Private => "private".to_owned(),
            Self::Host => "host".to_owned(),
            Self::Container(id) => format!("container:{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for word in ["enabled", "disabled", "no-conmon", "split"] {
            assert_eq!(CgroupsMode::parse(word).expect(word).word(), word);
        }
        for word in ["private", "host", "container:x"] {
            assert_eq!(CgroupnsMode::parse(word).expect(word).word(), word);
        }
        assert!(CgroupsMode::parse("none").is_err());
        for bad in ["container:", "container", "ns:/x"] {
            assert!(CgroupnsMode::parse(bad).is_err(), "{bad}");
        }
    }
}
