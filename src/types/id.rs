//! Container ids and names.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A container's id: 64 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct ContainerId(String);

impl ContainerId {
    pub(crate) const LENGTH: usize = 64;

    /// The id made of these random bytes.
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// # Errors
    /// `Invalid` where `text` is not 64 lower-case hex digits.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() == Self::LENGTH && hex {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid(format!("{text:?} is not a container id")))
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The 12 digits that tables show.
    pub(crate) fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }

    /// Whether the short form has decimal digits alone.
    pub(crate) fn is_numeric(&self) -> bool {
        self.short().bytes().all(|byte| byte.is_ascii_digit())
    }
}

impl TryFrom<String> for ContainerId {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks a name that a user gives to a container or volume:
/// `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most 200 bytes (it becomes a file name).
///
/// # Errors
/// `Invalid`, naming the rule.
pub(crate) fn check_name(kind: &str, name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if first && rest && name.len() <= 200 {
        Ok(())
    } else {
        Err(Error::invalid(format!("invalid {kind} name {name:?}"))
            .hint("a name is letters, digits, '_', '.', '-', begins with a letter or digit, and has at most 200 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_64_lower_case_hex_digits() {
        let id = ContainerId::from_bytes([0xab; 32]);
        assert_eq!(id.as_str().len(), 64);
        assert_eq!(id.short(), "abababababab");
        assert!(!id.is_numeric() && ContainerId::from_bytes([0x42; 32]).is_numeric());
        assert!(ContainerId::parse(&"A".repeat(64)).is_err());
        assert!(ContainerId::parse("../x").is_err());
    }

    #[test]
    fn names_cannot_be_paths_or_options() {
        for bad in ["", ".x", "-x", "a/b", "a b", "é", &"x".repeat(201)] {
            assert!(check_name("container", bad).is_err(), "{bad:?}");
        }
        assert!(check_name("container", "web_1.a-b").is_ok());
    }
}
