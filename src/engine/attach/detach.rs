//! The keys that end an attachment: `--detach-keys`.

use crate::error::{Error, Result};

/// Keys at most: what was typed of them is held back until it is clear that
/// they are not meant.
const MOST_KEYS: usize = 32;

/// A sequence of bytes, as a terminal sends them for keys. Empty: none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

impl Default for DetachKeys {
    /// ctrl-p, ctrl-q, as in docker.
    fn default() -> Self {
        Self(vec![0x10, 0x11])
    }
}

impl DetachKeys {
    /// Reads `ctrl-p,ctrl-q`, `a,b,c`, `ctrl-@`; the empty text means that
    /// there are none.
    ///
    /// # Errors
    /// `Invalid` for anything that is not a comma-separated list of single
    /// ASCII characters, `ctrl-` with one of `a-z @ [ \ ] ^ _`, or `del`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let keys: Option<Vec<u8>> = text.split(',').map(parse_key).collect();
        keys.filter(|keys| keys.len() <= MOST_KEYS).map(Self).ok_or_else(|| {
            Error::invalid(format!("invalid detach keys {text:?}")).hint(
                "give single characters or ctrl-<a-z, @, [, \\, ], ^, _>, separated by commas: ctrl-p,ctrl-q",
            )
        })
    }
}

fn parse_key(text: &str) -> Option<u8> {
    let lower = text.to_ascii_lowercase();
    match (text.as_bytes(), lower.strip_prefix("ctrl-").map(str::as_bytes)) {
        ([key], _) if key.is_ascii() => Some(*key),
        (_, Some([key @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')])) => Some(key & 0x1f),
        _ if lower == "del" => Some(0x7f),
        _ => None,
    }
}

/// Finds the keys in what is typed, over any number of reads.
#[derive(Debug)]
pub(super) struct DetachFilter {
    keys: Vec<u8>,
    /// How many of the keys were typed last.
    typed: usize,
}

/// What is to be done with input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// Pass on what [`DetachFilter::filter`] gave.
    Input,
    /// All the keys were typed.
    Detach,
}

impl DetachFilter {
    pub(super) fn new(keys: &DetachKeys) -> Self {
        Self { keys: keys.0.clone(), typed: 0 }
    }

    /// Appends to `out` what of `input` is to be passed on. The beginning of
    /// the keys is held back until the next byte shows whether it is them.
    pub(super) fn filter(&mut self, input: &[u8], out: &mut Vec<u8>) -> Typed {
        if self.keys.is_empty() {
            out.extend_from_slice(input);
            return Typed::Input;
        }
        for &byte in input {
            // What is held back is always `keys[..typed]`. Where `byte` does
            // not continue it, a shorter end of both may be a new beginning.
            while self.typed > 0 && self.keys[self.typed] != byte {
                let held = self.typed;
                self.typed =
                    (0..held).rev().find(|&n| self.keys[held - n..held] == self.keys[..n]).unwrap_or(0);
                out.extend_from_slice(&self.keys[..held - self.typed]);
            }
            if self.keys[self.typed] == byte {
                self.typed += 1;
            } else {
                out.push(byte);
            }
            if self.typed == self.keys.len() {
                return Typed::Detach;
            }
        }
        Typed::Input
    }

    /// Bytes that [`Self::filter`] may give more than it takes.
    pub(super) fn held(&self) -> usize {
        self.typed
    }

    /// What was held back, at the end of the input.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.keys[..self.typed]);
        self.typed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_docker_writes_them() {
        let table: &[(&str, &[u8])] = &[
            ("", b""),
            ("a", b"a"),
            ("ctrl-p,ctrl-q", &[16, 17]),
            ("ctrl-@,ctrl-a,ctrl-z,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", &[0, 1, 26, 27, 28, 29, 30, 31]),
            ("CTRL-A,B,~,DEL", &[1, b'B', b'~', 127]),
        ];
        for (text, keys) in table {
            assert_eq!(DetachKeys::parse(text).expect("keys"), DetachKeys(keys.to_vec()), "{text}");
        }
        let many = ["a"; MOST_KEYS + 1].join(",");
        for bad in ["ctrl-", "ctrl-1", "ctrl-é", "ab", "a,,b", ",", "é", "ctrl-aa", "shift-a", &many] {
            assert!(DetachKeys::parse(bad).is_err(), "{bad}");
        }
    }

    /// What passes, with `|` between reads and `!` where the keys were complete.
    fn passed(keys: &str, input: &str) -> String {
        let mut filter = DetachFilter::new(&DetachKeys(keys.as_bytes().to_vec()));
        let mut out = Vec::new();
        for read in input.split('|') {
            if filter.filter(read.as_bytes(), &mut out) == Typed::Detach {
                out.push(b'!');
                return String::from_utf8(out).expect("text");
            }
        }
        filter.finish(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_part_of_the_keys_is_input() {
        for (keys, input, expected) in [
            ("pq", "abc", "abc"),
            ("pq", "pq", "!"),
            ("pq", "p|q", "!"),
            ("pq", "xp|qy", "x!"),
            ("pq", "ppq", "p!"),
            ("pq", "papq", "pa!"),
            ("pq", "p", "p"),
            ("aab", "aaab", "a!"),
            ("abac", "ababac", "ab!"),
            ("abab", "abaabab", "aba!"),
            ("abcabd", "abcabcabx", "abcabcabx"),
            ("p", "xp", "x!"),
            ("", "pq", "pq"),
        ] {
            assert_eq!(passed(keys, input), expected, "{keys} in {input}");
        }
    }
}
