//! Content digests: `sha256:` and 64 lower-case hex digits.
//!
//! Source: OCI image-spec, "Descriptors", section "Digests".

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io::Write;

/// A sha256 digest. A string becomes one only through [`Digest::parse`], so it
/// can be used as a file name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Digest {
    /// 64 lower-case hex digits.
    hex: String,
}

impl Digest {
    /// # Errors
    /// `Invalid` for another algorithm, another length, upper case or other bytes.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let hex = text
            .strip_prefix("sha256:")
            .ok_or_else(|| Error::invalid(format!("{text:?} is not a sha256 digest")))?;
        Self::from_hex(hex).map_err(|_| Error::invalid(format!("{text:?} is not a sha256 digest")))
    }

    /// # Errors
    /// `Invalid` where `hex` is not 64 lower-case hex digits.
    pub(crate) fn from_hex(hex: &str) -> Result<Self> {
        if hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self { hex: hex.to_owned() })
        } else {
            Err(Error::invalid(format!("{hex:?} is not a sha256 digest")))
        }
    }

    /// The digest of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::from_bytes(&Sha256::digest(bytes))
    }

    /// The digest that a finished hasher gives.
    pub(crate) fn finish(hasher: Sha256) -> Self {
        Self::from_bytes(&hasher.finalize())
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        Self { hex: digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect() }
    }

    pub(crate) fn hex(&self) -> &str {
        &self.hex
    }

    /// The 12 digits that tables show.
    pub(crate) fn short(&self) -> &str {
        &self.hex[..12]
    }

    /// The chain id of a layer above `self`: image-spec, "Layer ChainID".
    pub(crate) fn chain(&self, diff_id: &Digest) -> Digest {
        Self::of(format!("{self} {diff_id}").as_bytes())
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex)
    }
}

/// Hashes and counts what is written through it.
#[derive(Debug)]
pub(crate) struct Hashed<W> {
    inner: W,
    hasher: Sha256,
    count: u64,
}

impl<W> Hashed<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, hasher: Sha256::new(), count: 0 }
    }

    pub(crate) fn inner(&self) -> &W {
        &self.inner
    }

    /// Bytes so far.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// What it wrote to, and the digest and number of the bytes.
    pub(crate) fn finish(self) -> (W, Digest, u64) {
        (self.inner, Digest::finish(self.hasher), self.count)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..written]);
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CVE-2024-3727: a digest is a file name and a part of a URL.
    #[test]
    fn only_the_canonical_form_is_a_digest() {
        let good = format!("sha256:{}", "a".repeat(64));
        assert_eq!(Digest::parse(&good).expect("valid").to_string(), good);
        for bad in [
            "a".repeat(64),
            format!("sha256:{}", "A".repeat(64)),
            format!("sha256:{}", "a".repeat(63)),
            format!("sha256:{}/", "a".repeat(63)),
            format!("sha512:{}", "a".repeat(128)),
            "sha256:../../etc/passwd".into(),
        ] {
            assert!(Digest::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        assert_eq!(Digest::of(b"").short(), "e3b0c44298fc");
    }
}
