//! Maps of sparse files: where in a file the data of its entry belongs. What
//! readers could take in two ways is refused. Pure: no I/O.
//!
//! There are four forms: a typeflag of its own with the map in and behind the
//! header (old GNU), and in PAX headers a pair of records a chunk (0.0), one
//! record with all (0.1), or only the size, with the map before the data (1.0).
//!
//! Source: GNU tar's manual, "Storing Sparse Files".

use super::tar_header::{decimal, malformed, show};
use crate::error::Result;

/// Offset and length of a chunk of data.
pub(crate) type Chunk = (u64, u64);

/// Chunks of one sparse file: 2 MiB of memory.
pub(crate) const MAX_CHUNKS: usize = 128 << 10;
/// Bytes; data is written in such blocks.
const BLOCK: u64 = 512;

/// What a PAX header says about a sparse file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sparse {
    /// The file's own name, where the entry's is one for readers who know no
    /// sparse files.
    pub(crate) name: Option<Vec<u8>>,
    /// Bytes of the file, holes included.
    pub(crate) size: u64,
    /// `None` where the map stands before the data.
    pub(crate) map: Option<Vec<Chunk>>,
}

/// The records of a PAX header whose keys begin with `GNU.sparse.`, as they come.
#[derive(Debug, Default)]
pub(crate) struct Records {
    major: Option<u64>,
    minor: Option<u64>,
    name: Option<Vec<u8>>,
    size: Option<u64>,
    real_size: Option<u64>,
    count: Option<u64>,
    map: Option<Vec<Chunk>>,
    pairs: Vec<Chunk>,
    /// The offset whose length is still to come.
    offset: Option<u64>,
}

/// Whether a key may stand in one header more than once.
pub(crate) fn repeats(key: &[u8]) -> bool {
    matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes")
}

impl Records {
    /// `key` is what follows `GNU.sparse.`.
    ///
    /// # Errors
    /// `Invalid` for an unknown key and for what is no number.
    pub(crate) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match key {
            b"major" => self.major = Some(decimal(value)?),
            b"minor" => self.minor = Some(decimal(value)?),
            b"name" => self.name = Some(value.to_vec()),
            b"size" => self.size = Some(decimal(value)?),
            b"realsize" => self.real_size = Some(decimal(value)?),
            b"numblocks" => self.count = Some(decimal(value)?),
            b"map" => self.map = Some(listed(value)?),
            b"offset" if self.offset.is_none() => self.offset = Some(decimal(value)?),
            b"numbytes" => {
                let offset =
                    self.offset.take().ok_or_else(|| malformed("a sparse chunk without an offset"))?;
                if self.pairs.len() == MAX_CHUNKS {
                    return Err(too_many());
                }
                self.pairs.push((offset, decimal(value)?));
            }
            b"offset" => return Err(malformed("a sparse chunk without a length")),
            _ => return Err(malformed(format!("the unknown PAX key GNU.sparse.{}", show(key)))),
        }
        Ok(())
    }

    /// What they say together.
    ///
    /// # Errors
    /// `Invalid` where they are of no form, or of two.
    pub(crate) fn finish(self) -> Result<Sparse> {
        let Self { major, minor, name, size, real_size, count, map, pairs, offset } = self;
        let mixed = || malformed("a sparse file in no form that is known, or in two");
        if offset.is_some() {
            return Err(malformed("a sparse chunk without a length"));
        }
        match (major, minor, size, real_size, count) {
            (Some(1), Some(0), None, Some(size), None) if map.is_none() && pairs.is_empty() => {
                Ok(Sparse { name, size, map: None })
            }
            (None, None, Some(size), None, Some(count)) => {
                let map = match map {
                    Some(map) if pairs.is_empty() => map,
                    None => pairs,
                    Some(_) => return Err(mixed()),
                };
                if map.len() as u64 != count {
                    return Err(malformed(format!("a sparse file of {count} chunks has {}", map.len())));
                }
                Ok(Sparse { name, size, map: Some(map) })
            }
            _ => Err(mixed()),
        }
    }
}

/// `OFFSET,LENGTH,OFFSET,LENGTH`
fn listed(text: &[u8]) -> Result<Vec<Chunk>> {
    let mut numbers = text.split(|byte| *byte == b',').map(decimal);
    let mut map = Vec::new();
    while let Some(offset) = numbers.next() {
        let length = numbers.next().ok_or_else(|| malformed("a sparse map ends in an offset"))??;
        if map.len() == MAX_CHUNKS {
            return Err(too_many());
        }
        map.push((offset?, length));
    }
    Ok(map)
}

/// Reads the map of form 1.0 from the blocks before the data: a count, then
/// offsets and lengths, each on a line, filled up with zeros.
#[derive(Debug, Default)]
pub(crate) struct MapReader {
    line: Vec<u8>,
    /// Numbers that are still to come; `None` before the count.
    left: Option<u64>,
    offset: Option<u64>,
    map: Vec<Chunk>,
}

impl MapReader {
    /// Takes one block; the map once it is whole.
    ///
    /// # Errors
    /// `Invalid` for anything but such a map.
    pub(crate) fn take(&mut self, block: &[u8]) -> Result<Option<Vec<Chunk>>> {
        for (at, byte) in block.iter().enumerate() {
            if *byte != b'\n' {
                // 2^63 has 19 digits.
                if self.line.len() == 19 {
                    return Err(malformed("a number of more than 19 digits in a sparse map"));
                }
                self.line.push(*byte);
                continue;
            }
            let number = decimal(&std::mem::take(&mut self.line))?;
            if self.number(number)? {
                return if block[at + 1..].iter().all(|byte| *byte == 0) {
                    Ok(Some(std::mem::take(&mut self.map)))
                } else {
                    Err(malformed("something follows the end of a sparse map"))
                };
            }
        }
        Ok(None)
    }

    /// Whether it was the last one.
    fn number(&mut self, number: u64) -> Result<bool> {
        let Some(left) = &mut self.left else {
            if number > MAX_CHUNKS as u64 {
                return Err(too_many());
            }
            self.left = Some(number * 2);
            return Ok(number == 0);
        };
        *left -= 1;
        match self.offset.take() {
            None => self.offset = Some(number),
            Some(offset) => self.map.push((offset, number)),
        }
        Ok(*left == 0)
    }
}

/// Chunks in order and apart, together as long as the data, and within the file.
///
/// # Errors
/// `Invalid` otherwise; also where a chunk before the last does not fill its
/// blocks: GNU tar looks for the next one behind them, other readers within.
pub(crate) fn check(chunks: &[Chunk], data: u64, size: u64) -> Result<()> {
    let (mut end, mut total) = (0_u64, 0_u64);
    for (offset, length) in chunks {
        if *offset < end {
            return Err(malformed("chunks of a sparse file overlap"));
        }
        if total % BLOCK != 0 && *length > 0 {
            return Err(malformed("a chunk of a sparse file ends within a block"));
        }
        end = offset
            .checked_add(*length)
            .filter(|end| i64::try_from(*end).is_ok())
            .ok_or_else(|| malformed("a sparse file too large"))?;
        total += length;
    }
    if total != data {
        return Err(malformed("the chunks of a sparse file do not make up its data"));
    }
    if size < end || i64::try_from(size).is_err() {
        return Err(malformed("a sparse file shorter than its chunks, or too large"));
    }
    Ok(())
}

pub(crate) fn too_many() -> crate::error::Error {
    malformed(format!("a sparse file of more than {MAX_CHUNKS} chunks"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish(records: &[(&str, &str)]) -> Result<Sparse> {
        let mut all = Records::default();
        for (key, value) in records {
            all.take(key.as_bytes(), value.as_bytes())?;
        }
        all.finish()
    }

    #[test]
    fn each_form_is_read_and_no_mixture_of_them() {
        let map = Some(vec![(0, 512), (4096, 0)]);
        let pairs: &[(&str, &str)] = &[
            ("size", "4096"),
            ("numblocks", "2"),
            ("offset", "0"),
            ("numbytes", "512"),
            ("offset", "4096"),
            ("numbytes", "0"),
        ];
        let listed: &[(&str, &str)] =
            &[("size", "4096"), ("numblocks", "2"), ("name", "f"), ("map", "0,512,4096,0")];
        let before: &[(&str, &str)] = &[("major", "1"), ("minor", "0"), ("name", "f"), ("realsize", "4096")];
        assert_eq!(finish(pairs).expect("0.0"), Sparse { name: None, size: 4096, map: map.clone() });
        assert_eq!(finish(listed).expect("0.1"), Sparse { name: Some(b"f".to_vec()), size: 4096, map });
        assert_eq!(finish(before).expect("1.0"), Sparse { name: Some(b"f".to_vec()), size: 4096, map: None });
        for bad in [
            &[pairs, &[("map", "0,512,4096,0")]].concat()[..],
            &[pairs, before].concat(),
            &[listed, before].concat(),
            &pairs[..5],
            &pairs[..4],
            &pairs[1..],
            &listed[1..],
            &before[..3],
            &before[1..],
            &[("major", "2"), ("minor", "0"), ("realsize", "1")],
            &[("offset", "1"), ("offset", "2")],
            &[("numbytes", "1")],
            &[("size", "1"), ("numblocks", "1"), ("map", "0")],
            &[("size", "1"), ("numblocks", "1"), ("map", "0,-1")],
            &[("size", "1"), ("numblocks", "1"), ("map", "")],
            &[("wat", "1")],
        ] {
            assert!(finish(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_map_before_the_data_may_straddle_blocks() {
        let count = 100;
        let lines: Vec<String> = (0..count).map(|n| format!("{}\n512\n", n * 8192)).collect();
        let mut text = format!("{count}\n{}", lines.concat()).into_bytes();
        text.resize(text.len().next_multiple_of(512), 0);
        let mut reader = MapReader::default();
        let mut blocks = text.chunks(512).map(|block| reader.take(block).expect("good"));
        let map = blocks.by_ref().find_map(|map| map).expect("whole");
        assert_eq!((map.len(), map[99]), (100, (99 * 8192, 512)));
        assert!(blocks.next().is_none(), "no block is left over");
        assert_eq!(MapReader::default().take(b"0\n\0\0").expect("empty"), Some(Vec::new()));
        for bad in [&b"1\n0\n512\nx"[..], b"\n", b"x\n", b"-1\n", b"131073\n", b"1\n00000000000000000000\n"] {
            assert!(MapReader::default().take(bad).is_err(), "{}", show(bad));
        }
        assert_eq!(MapReader::default().take(b"2\n0\n5").expect("more to come"), None);
    }

    #[test]
    fn chunks_are_in_order_apart_and_within_the_file() {
        assert!(check(&[], 0, 10).is_ok());
        assert!(check(&[(0, 512), (4096, 100)], 612, 8192).is_ok());
        assert!(check(&[(0, 512), (4096, 100), (8192, 0)], 612, 8192).is_ok());
        let max = i64::MAX as u64;
        for (chunks, data, size) in [
            (&[(0, 512), (100, 512)][..], 1024, 8192),
            (&[(4096, 512), (0, 512)], 1024, 8192),
            (&[(0, 100), (4096, 100)], 200, 8192),
            (&[(0, 512)], 1024, 8192),
            (&[(0, 1024)], 512, 8192),
            (&[(0, 512)], 512, 511),
            (&[(max, 1)], 1, u64::MAX),
            (&[(u64::MAX, 1)], 1, u64::MAX),
            (&[], 0, max + 1),
        ] {
            assert!(check(chunks, data, size).is_err(), "{chunks:?}");
        }
    }
}
