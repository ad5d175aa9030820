//! What kernel a process is shown: personality(2).

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Named as in the OCI's runtime specification (config-linux.md, "Personality").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Personality {
    #[serde(rename = "LINUX")]
    Linux,
    /// uname(2) tells of the machine's 32-bit form: `i686`.
    #[serde(rename = "LINUX32")]
    Linux32,
}

impl Personality {
    /// `--personality`, however it is capitalized.
    ///
    /// # Errors
    /// `Invalid` for what is no persona of the specification's.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text.to_ascii_uppercase().as_str() {
            "LINUX" => Ok(Self::Linux),
            "LINUX32" => Ok(Self::Linux32),
            _ => {
                Err(Error::invalid(format!("invalid --personality {text:?}")).hint("it is LINUX or LINUX32"))
            }
        }
    }

    /// `PER_LINUX` and `PER_LINUX32` of linux/personality.h.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Linux => 0,
            Self::Linux32 => 8,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_two() {
        assert_eq!(Personality::parse("linux32").expect("valid").number(), 8);
        assert_eq!(Personality::parse("LINUX").expect("valid").number(), 0);
        for bad in ["", "LINUX64", "BSD", "8"] {
            assert!(Personality::parse(bad).is_err(), "{bad}");
        }
    }
}
