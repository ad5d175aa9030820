//! Users of the server: a file of `user:$2y$…` lines, as `htpasswd -B` writes
//! them. Only bcrypt is taken, as docker's registry has it.

use crate::error::{Context, Error, Result};
use base64::Engine as _;
use base64::alphabet::BCRYPT;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use blowfish::Blowfish;
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Bytes of the file.
const FILE_MAX: u64 = 1 << 20;
/// Bytes of a password that count: bcrypt's, with the NUL that ends it.
const PASSWORD_MAX: usize = 72;
/// Passwords that are remembered as right.
const KNOWN_MAX: usize = 1000;
/// Rounds are two to this: at the most a minute of work.
const COST_MAX: u32 = 18;

const ENCODING: GeneralPurpose = GeneralPurpose::new(
    &BCRYPT,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// Who may come in.
pub(super) struct Guard {
    users: HashMap<String, Hash>,
    /// Digests of the headers that were right, so that the work of bcrypt is
    /// done once and not for each request.
    known: Mutex<HashSet<[u8; 32]>>,
}

#[derive(Clone, Debug)]
struct Hash {
    cost: u32,
    salt: [u8; 16],
    digest: [u8; 23],
}

impl Guard {
    /// # Errors
    /// `Invalid` for lines of another kind, naming them.
    pub(super) fn load(path: &Path) -> Result<Self> {
        let action = || format!("read {}", path.display());
        let mut text = String::new();
        let file = std::fs::File::open(path).context(action)?;
        file.take(FILE_MAX).read_to_string(&mut text).context(action)?;
        Self::parse(&text).context(action)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut users = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // What follows is a password's hash: it is not shown.
            let hash = line.split_once(':').and_then(|(user, hash)| Some((user, Hash::parse(hash)?)));
            let Some((user, hash)) = hash else {
                return Err(Error::invalid(format!("line {} is not USER:BCRYPT-HASH", number + 1))
                    .hint("make it by `htpasswd -B`"));
            };
            users.insert(user.to_owned(), hash);
        }
        if users.is_empty() {
            return Err(Error::invalid("there are no users in it"));
        }
        Ok(Self { users, known: Mutex::default() })
    }

    /// Whether an Authorization header is one of these users'.
    pub(super) fn admits(&self, authorization: Option<&str>) -> bool {
        let Some(header) = authorization else { return false };
        let key: [u8; 32] = Sha256::digest(header.as_bytes()).into();
        if self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(&key) {
            return true;
        }
        let Some((user, password)) = basic(header) else { return false };
        // For a name that there is none of as much work is done, so that names
        // cannot be found out by the time that an answer takes.
        let (hash, exists) = match self.users.get(&user) {
            Some(hash) => (hash, true),
            None => match self.users.values().next() {
                Some(hash) => (hash, false),
                None => return false,
            },
        };
        let right = hash.fits(&password) && exists;
        if right {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            known.insert(key);
        }
        right
    }
}

/// User and password of `Basic …`.
fn basic(header: &str) -> Option<(String, Vec<u8>)> {
    let (scheme, code) = header.split_once(' ')?;
    let bytes = scheme.eq_ignore_ascii_case("basic").then(|| BASE64_STANDARD.decode(code.trim()))?.ok()?;
    let at = bytes.iter().position(|byte| *byte == b':')?;
    Some((String::from_utf8(bytes[..at].to_vec()).ok()?, bytes[at + 1..].to_vec()))
}

impl Hash {
    /// `$2y$10$` and 22 characters of salt and 31 of hash.
    fn parse(text: &str) -> Option<Self> {
        let rest = ["$2a$", "$2b$", "$2y$"].iter().find_map(|prefix| text.strip_prefix(prefix))?;
        let (cost, code) = rest.split_once('$')?;
        let cost = cost.parse().ok().filter(|cost| (4..=COST_MAX).contains(cost))?;
        if code.len() != 53 || !code.is_ascii() {
            return None;
        }
        let salt = ENCODING.decode(&code[..22]).ok()?.try_into().ok()?;
        let digest = ENCODING.decode(&code[22..]).ok()?.try_into().ok()?;
        Some(Self { cost, salt, digest })
    }

    fn fits(&self, password: &[u8]) -> bool {
        if password.contains(&0) {
            return false;
        }
        let mut key = password.to_vec();
        key.push(0);
        key.truncate(PASSWORD_MAX);
        let found = bcrypt(self.cost, &self.salt, &key);
        // Every byte is looked at, so that the time tells nothing.
        found.iter().zip(&self.digest).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
    }
}

/// Provos and Mazières, "A Future-Adaptable Password Scheme", 1999.
fn bcrypt(cost: u32, salt: &[u8; 16], key: &[u8]) -> [u8; 23] {
    let mut state = Blowfish::bc_init_state();
    state.salted_expand_key(salt, key);
    for _ in 0..1_u32 << cost {
        state.bc_expand_key(key);
        state.bc_expand_key(salt);
    }
    let mut bytes = *b"OrpheanBeholderScryDoubt";
    for block in bytes.chunks_exact_mut(8) {
        let word = |bytes: &[u8]| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let mut pair = [word(&block[..4]), word(&block[4..])];
        for _ in 0..64 {
            pair = state.bc_encrypt(pair);
        }
        block[..4].copy_from_slice(&pair[0].to_be_bytes());
        block[4..].copy_from_slice(&pair[1].to_be_bytes());
    }
    let mut hash = [0; 23];
    hash.copy_from_slice(&bytes[..23]);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `htpasswd -B` and a library for bcrypt made.
    #[test]
    fn hashes_of_other_tools_fit_their_passwords_alone() {
        for (hash, password) in [
            ("$2y$05$IseNvtm0xDPySSBbCxGAveH1/1uObFeIKbRs2uE5anztgC1DImFkq", b"U*U".as_slice()),
            ("$2y$05$4EVZ232eDnmx4Kruqqr1XuOVOgvXzXtN7RkSaoCDAfTW4gABMuN7y", "p\u{e4}ssw\u{f6}rd".as_bytes()),
            ("$2y$05$lttBasLW1jH/bLw7atsBzuJ1RJEyz4q87dGZQvO8xOq00MgKofzNS", b""),
            ("$2b$05$ZknHGnv24hYvyD.7H2EBpuQyM3jII.5IcHz4vf7M7qRBqMpzcUSLO", &[b'k'; 71]),
            ("$2b$05$E4aoK.RvfjrHLnv73y6hDOcK2TV7QdMvSyIqbTnmF0yg4Bcd5bqIy", &[b'a'; 72]),
            ("$2b$05$58InwK/4TI6gcCBK.LJJO.jzf2ki5j7/JYHJAgZgRcDjW.8FBW/O2", &[255, 254, 1]),
            ("$2a$05$llZI/Imck1s5kKTYaVNSqu1FczcqaqcloCMEaOS91mxvJPKi92xxW", b"correct horse"),
        ] {
            let parsed = Hash::parse(hash).expect(hash);
            assert!(parsed.fits(password), "{hash}");
            assert!(!parsed.fits(&[b"x", password].concat()), "{hash}");
        }
    }

    /// The passwords of John the Ripper's test vectors for bcrypt.
    #[test]
    fn known_hashes_fit_their_passwords_alone() {
        for (hash, password) in [
            ("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"),
            ("$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK", "U*U*"),
            ("$2a$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a", "U*U*U"),
            ("$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy", ""),
        ] {
            let parsed = Hash::parse(hash).expect(hash);
            assert!(parsed.fits(password.as_bytes()), "{hash}");
            assert!(!parsed.fits(b"other") && !parsed.fits(format!("{password}x").as_bytes()), "{hash}");
        }
    }

    #[test]
    fn only_users_with_their_passwords_come_in() {
        let file = "# people\n\nann:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n";
        let guard = Guard::parse(file).expect("valid");
        let header = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        for _ in 0..2 {
            assert!(guard.admits(Some(&header("ann:U*U"))));
        }
        for bad in ["ann:U*U*", "ann:", "bob:U*U", "ann", ":U*U", "ann:U*U\0"] {
            assert!(!guard.admits(Some(&header(bad))), "{bad}");
        }
        assert!(!guard.admits(None) && !guard.admits(Some("Bearer x")) && !guard.admits(Some("Basic %%")));
        for bad in
            ["", "ann", "ann:plain", "ann:{SHA}x", "ann:$2a$31$CCCCCCCCCCCCCCCCCCCCC.", "ann:$apr1$x$y"]
        {
            assert!(Guard::parse(bad).is_err(), "{bad}");
        }
    }
}
