//! Content digests: `sha256:` and 64 lower-case hex digits, or `sha512:` and 128.
//!
//! Source: OCI image-spec, "Descriptors", section "Digests".

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};
use std::fmt;
use std::io::Write;

/// What a digest is computed with. Ours are all sha256; others may name their
/// blobs by sha512.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    pub(crate) const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// As digests and the folders of layouts have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Hex digits of a digest.
    fn digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }

    pub(crate) fn hasher(self) -> Hasher {
        match self {
            Self::Sha256 => Hasher::Sha256(Sha256::new()),
            Self::Sha512 => Hasher::Sha512(Sha512::new()),
        }
    }

    /// The digest that has these hex digits.
    ///
    /// # Errors
    /// `Invalid` for another number of them, upper case or other bytes.
    pub(crate) fn digest(self, hex: &str) -> Result<Digest> {
        if hex.len() == self.digits() && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Digest { hex: hex.to_owned() })
        } else {
            Err(Error::invalid(format!("{hex:?} is not a {} digest", self.name())))
        }
    }
}

/// A digest under way.
#[derive(Clone, Debug)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest::finish(hasher),
            Self::Sha512(hasher) => Digest::from_bytes(&hasher.finalize()),
        }
    }
}

/// A digest. A string becomes one only through [`Digest::parse`], so it can be
/// used as a file name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Digest {
    /// Lower-case hex digits; their number tells the algorithm.
    hex: String,
}

impl Digest {
    /// # Errors
    /// `Invalid` for another algorithm, another length, upper case or other bytes.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let invalid = || Error::invalid(format!("{text:?} is neither a sha256 digest nor a sha512 digest"));
        let (name, hex) = text.split_once(':').ok_or_else(invalid)?;
        let algorithm = Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name);
        algorithm.ok_or_else(invalid)?.digest(hex).map_err(|_| invalid())
    }

    /// A sha256 digest.
    ///
    /// # Errors
    /// `Invalid` where `hex` is not 64 lower-case hex digits.
    pub(crate) fn from_hex(hex: &str) -> Result<Self> {
        Algorithm::Sha256.digest(hex)
    }

    /// The sha256 digest of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::from_bytes(&Sha256::digest(bytes))
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        if self.hex.len() == Algorithm::Sha512.digits() { Algorithm::Sha512 } else { Algorithm::Sha256 }
    }

    /// A digest of its own kind of these bytes.
    pub(crate) fn again(&self, bytes: &[u8]) -> Self {
        let mut hasher = self.algorithm().hasher();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Whether it is the digest of these bytes.
    pub(crate) fn is_of(&self, bytes: &[u8]) -> bool {
        self.again(bytes) == *self
    }

    /// Where a layout has the blob: image-spec `image-layout.md`, "Blobs".
    pub(crate) fn place(&self) -> String {
        format!("blobs/{}/{}", self.algorithm().name(), self.hex)
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
        write!(f, "{}:{}", self.algorithm().name(), self.hex)
    }
}

/// Hashes and counts what is written through it.
#[derive(Debug)]
pub(crate) struct Hashed<W> {
    inner: W,
    hasher: Hasher,
    count: u64,
}

impl<W> Hashed<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self::with(inner, Algorithm::Sha256)
    }

    pub(crate) fn with(inner: W, algorithm: Algorithm) -> Self {
        Self { inner, hasher: algorithm.hasher(), count: 0 }
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
        (self.inner, self.hasher.finish(), self.count)
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
            format!("sha512:{}", "a".repeat(64)),
            format!("sha256:{}", "a".repeat(128)),
            format!("sha1:{}", "a".repeat(40)),
            "sha256:../../etc/passwd".into(),
        ] {
            assert!(Digest::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        assert_eq!(Digest::of(b"").short(), "e3b0c44298fc");
        let long = Digest::parse(&format!("sha512:{}", "0".repeat(128))).expect("valid");
        assert_eq!(long.to_string(), format!("sha512:{}", "0".repeat(128)));
        // FIPS 180-4, the empty message.
        assert_eq!(long.again(b"").short(), "cf83e1357eef");
        assert!(long.again(b"x").is_of(b"x") && !long.is_of(b"x"));
    }
}
