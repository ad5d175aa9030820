//! Reading a tar archive from a stream, entry by entry, and hashing all of it.
//!
//! The loop over the blocks is ours, because the `tar` crate's holds a PAX
//! header of any size in memory, keeps a sparse map of any length, and lets the
//! first of two PAX values win where others let the last. The layout of the
//! header is the crate's.

use super::tar_header::{self as fields, Pax, malformed, show};
use super::tar_sparse::{self as sparse, Chunk, MAX_CHUNKS, MapReader, Sparse};
use crate::error::{Context, Result};
use crate::types::digest::Digest;
use sha2::{Digest as _, Sha256};
use std::ffi::CString;
use std::io::Read;

/// Bytes; headers, data and padding come in such blocks.
const BLOCK: usize = 512;
/// Bytes read at once: a multiple of the block, and within a core's cache.
const BUFFER: usize = 256 << 10;
/// Bytes of a PAX header. The largest honest ones carry attributes of 64 KiB.
const MAX_PAX: u64 = 1 << 20;
/// Bytes of a GNU long name: a path and its NUL, with room for padding.
const MAX_LONG_NAME: u64 = 8192;
/// Headers of all kinds. The largest images have some 500,000 files.
const MAX_HEADERS: u64 = 2_000_000;

/// What an entry makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    Directory,
    Fifo,
    /// Character or block device, which a rootless user cannot make.
    Device,
}

/// One file of the archive.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Components joined by `/`; empty for the root.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// Text of a symbolic link, or path of a hard link's target.
    pub(crate) link: Vec<u8>,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Vec<(CString, Vec<u8>)>,
    /// Bytes of the file, holes included.
    pub(crate) size: u64,
    /// Offset and length of each chunk of data of a sparse file.
    pub(crate) chunks: Option<Vec<Chunk>>,
}

/// An archive being read.
pub(crate) struct TarStream<'a> {
    source: &'a mut dyn Read,
    /// `None` where nobody asks for the digest.
    hasher: Option<Sha256>,
    buffer: Box<[u8]>,
    /// The part of the buffer that is not consumed yet.
    start: usize,
    end: usize,
    /// Bytes of the current entry's data not consumed yet, and the padding behind them.
    data: u64,
    padding: u64,
    headers: u64,
}

impl<'a> TarStream<'a> {
    pub(crate) fn new(source: &'a mut dyn Read) -> Self {
        Self {
            source,
            hasher: Some(Sha256::new()),
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            data: 0,
            padding: 0,
            headers: 0,
        }
    }

    /// For an archive whose digest nobody asks for.
    pub(crate) fn unhashed(source: &'a mut dyn Read) -> Self {
        Self { hasher: None, ..Self::new(source) }
    }

    /// The next entry; what is left of the current one is skipped.
    ///
    /// # Errors
    /// `Invalid` for a malformed archive, `Failed` where the source fails.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut before = Extensions::default();
        loop {
            self.skip_rest()?;
            let Some(block) = self.header()? else {
                return if before.is_empty() {
                    Ok(None)
                } else {
                    Err(malformed("it ends behind an extension header"))
                };
            };
            let size = u64::try_from(fields::number(&tar::Header::from_byte_slice(&block).as_old().size)?)
                .map_err(|_| malformed("a negative size"))?;
            let content = match block[156] {
                kind @ (b'L' | b'K' | b'x' | b'g') => {
                    let most = if matches!(kind, b'x' | b'g') { MAX_PAX } else { MAX_LONG_NAME };
                    let content = self.extension(size, most)?;
                    if matches!(kind, b'L' | b'K') {
                        self.end_of_long_name(&content)?;
                    }
                    content
                }
                _ => return self.entry(&block, size, before).map(Some),
            };
            before.add(block[156], content)?;
        }
    }

    /// The next piece of the current entry's data, `None` at its end.
    pub(crate) fn data(&mut self, most: u64) -> Result<Option<&[u8]>> {
        let most = most.min(self.data);
        if most == 0 {
            return Ok(None);
        }
        if self.start == self.end {
            self.refill()?;
        }
        if self.start == self.end {
            return Err(malformed("it ends in the middle of a file"));
        }
        let length = usize::try_from(most).unwrap_or(usize::MAX).min(self.end - self.start);
        self.start += length;
        self.data -= length as u64;
        Ok(Some(&self.buffer[self.start - length..self.start]))
    }

    /// Reads what follows the last entry and gives the digest of all bytes.
    ///
    /// # Errors
    /// `Invalid` where something other than zeros follows the end.
    pub(crate) fn finish(mut self) -> Result<Digest> {
        loop {
            if self.buffer[self.start..self.end].iter().any(|byte| *byte != 0) {
                return Err(malformed("something follows its end"));
            }
            self.start = self.end;
            self.refill()?;
            if self.start == self.end {
                return Ok(Digest::finish(self.hasher.unwrap_or_default()));
            }
        }
    }

    /// Fills the empty buffer to its end, so that blocks never straddle it.
    fn refill(&mut self) -> Result<()> {
        debug_assert_eq!(self.start, self.end, "bytes would be lost");
        let mut filled = 0;
        while filled < self.buffer.len() {
            match self.source.read(&mut self.buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context(|| "read the layer"),
            }
        }
        self.start = 0;
        self.end = filled;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&self.buffer[..filled]);
        }
        Ok(())
    }

    fn skip_rest(&mut self) -> Result<()> {
        while self.data(u64::MAX)?.is_some() {}
        self.data = std::mem::take(&mut self.padding);
        while self.data(u64::MAX)?.is_some() {}
        Ok(())
    }

    /// One block; `None` at the end of the stream.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        if self.start == self.end {
            self.refill()?;
        }
        if self.start == self.end {
            return Ok(None);
        }
        let block = self.buffer[self.start..self.end]
            .first_chunk::<BLOCK>()
            .copied()
            .ok_or_else(|| malformed("it ends in the middle of a block"))?;
        self.start += BLOCK;
        Ok(Some(block))
    }

    /// The next header; `None` at the end marker (two blocks of zeros), or where
    /// the stream ends without one, as Go's reader takes it.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block.iter().all(|byte| *byte == 0) {
            return match self.block()? {
                Some(second) if second.iter().any(|byte| *byte != 0) => {
                    Err(malformed("a single block of zeros between entries"))
                }
                _ => Ok(None),
            };
        }
        self.headers += 1;
        if self.headers > MAX_HEADERS {
            return Err(malformed(format!("more than {MAX_HEADERS} entries")));
        }
        if fields::checksum_holds(&block) {
            Ok(Some(block))
        } else {
            Err(malformed("a header whose checksum is wrong"))
        }
    }

    /// Promises the data of an entry to [`Self::data`].
    fn announce(&mut self, size: u64) -> Result<()> {
        if size > i64::MAX as u64 {
            return Err(malformed("an entry larger than any file"));
        }
        self.data = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    fn extension(&mut self, size: u64, most: u64) -> Result<Vec<u8>> {
        if size > most {
            return Err(malformed(format!("an extension header of {size} bytes; {most} are read")));
        }
        self.announce(size)?;
        let mut content = Vec::new();
        while let Some(piece) = self.data(u64::MAX)? {
            content.extend_from_slice(piece);
        }
        Ok(content)
    }

    /// GNU tar reads a long name to the first NUL, also behind its end; others to
    /// its end: what follows must be NUL, or the name end in one.
    fn end_of_long_name(&mut self, content: &[u8]) -> Result<()> {
        self.data = std::mem::take(&mut self.padding);
        let mut ended = self.data > 0 || content.last() == Some(&0);
        while let Some(piece) = self.data(u64::MAX)? {
            ended &= piece.iter().all(|byte| *byte == 0);
        }
        if ended { Ok(()) } else { Err(malformed("a GNU long name without an end")) }
    }

    fn entry(&mut self, block: &[u8; BLOCK], header_size: u64, before: Extensions) -> Result<Entry> {
        let header = tar::Header::from_byte_slice(block);
        let old = header.as_old();
        let Extensions { name, link, pax } = before;
        let pax = pax.unwrap_or_default();
        let raw_path = match &pax.sparse {
            Some(Sparse { name: Some(own), .. }) if name.is_none() => own.clone(),
            Some(Sparse { name: Some(_), .. }) => return Err(malformed("a sparse file has two long names")),
            _ => one_of(name, pax.path, || header.path_bytes().into_owned())?,
        };
        let raw_link = one_of(link, pax.link, || {
            header.link_name_bytes().map_or_else(Vec::new, std::borrow::Cow::into_owned)
        })?;
        let path = fields::path(&raw_path)?;
        let size = fields::agreed_size(header_size, pax.size)?;
        let kind = kind_of(block[156], &raw_path, size)?;
        let link = match kind {
            Kind::Symlink => fields::link_text(raw_link)?,
            Kind::HardLink => fields::path(&raw_link)?,
            _ => Vec::new(),
        };
        let (chunks, size) = self.content(block, size, pax.sparse)?;
        Ok(Entry {
            path,
            kind,
            link,
            mode: fields::number(&old.mode)? as u32 & 0o7777,
            uid: pax.uid.map_or_else(|| fields::number(&old.uid).and_then(fields::id), Ok)?,
            gid: pax.gid.map_or_else(|| fields::number(&old.gid).and_then(fields::id), Ok)?,
            mtime: pax.mtime.map_or_else(|| fields::number(&old.mtime).map(|seconds| (seconds, 0)), Ok)?,
            xattrs: pax.xattrs,
            size,
            chunks,
        })
    }

    /// Announces the data; where it belongs in a sparse file, and the size of
    /// the file.
    fn content(
        &mut self,
        block: &[u8; BLOCK],
        data: u64,
        pax: Option<Sparse>,
    ) -> Result<(Option<Vec<Chunk>>, u64)> {
        let header = tar::Header::from_byte_slice(block);
        match (block[156], pax) {
            (b'S', None) => {
                let gnu = header.as_gnu().ok_or_else(|| malformed("a sparse file without a GNU header"))?;
                let size = u64::try_from(fields::number(&gnu.realsize)?)
                    .map_err(|_| malformed("a negative size"))?;
                let chunks = self.old_map(gnu)?;
                sparse::check(&chunks, data, size)?;
                self.announce(data)?;
                Ok((Some(chunks), size))
            }
            (0 | b'0' | b'7', Some(Sparse { size, map, .. })) => {
                self.announce(data)?;
                let chunks = map.map_or_else(|| self.map_before_data(), Ok)?;
                sparse::check(&chunks, self.data, size)?;
                Ok((Some(chunks), size))
            }
            (_, Some(_)) => Err(malformed("an entry is sparse and no file, or sparse in two ways")),
            (_, None) => self.announce(data).map(|()| (None, data)),
        }
    }

    /// The map of form 1.0.
    fn map_before_data(&mut self) -> Result<Vec<Chunk>> {
        let mut reader = MapReader::default();
        loop {
            if self.data < BLOCK as u64 {
                return Err(malformed("the data of a sparse file ends within its map"));
            }
            let block = self.block()?.ok_or_else(|| malformed("it ends in the middle of a sparse map"))?;
            self.data -= BLOCK as u64;
            if let Some(map) = reader.take(&block)? {
                return Ok(map);
            }
        }
    }

    /// The map of an old GNU sparse file: four chunks in the header, then blocks
    /// of 21 between it and the data.
    fn old_map(&mut self, gnu: &tar::GnuHeader) -> Result<Vec<Chunk>> {
        let mut chunks = Vec::new();
        let add = |chunks: &mut Vec<Chunk>, chunk: &tar::GnuSparseHeader| -> Result<()> {
            if chunk.offset[0] == 0 || chunk.numbytes[0] == 0 {
                return Ok(());
            }
            let natural = |field: &[u8]| {
                u64::try_from(fields::number(field)?)
                    .map_err(|_| malformed("a negative offset in a sparse file"))
            };
            if chunks.len() == MAX_CHUNKS {
                return Err(sparse::too_many());
            }
            chunks.push((natural(&chunk.offset)?, natural(&chunk.numbytes)?));
            Ok(())
        };
        for chunk in &gnu.sparse {
            add(&mut chunks, chunk)?;
        }
        let mut more = gnu.isextended[0] == 1;
        while more {
            let block = self.block()?.ok_or_else(|| malformed("it ends in the middle of a sparse map"))?;
            let mut extension = tar::GnuExtSparseHeader::new();
            *extension.as_mut_bytes() = block;
            for chunk in extension.sparse() {
                add(&mut chunks, chunk)?;
            }
            // A block that adds nothing could be repeated without end.
            self.headers += 1;
            more = extension.is_extended() && self.headers <= MAX_HEADERS;
        }
        Ok(chunks)
    }
}

/// Extension headers that precede an entry.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Pax>,
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.name.is_none() && self.link.is_none() && self.pax.is_none()
    }

    fn add(&mut self, kind: u8, content: Vec<u8>) -> Result<()> {
        let twice = match kind {
            b'L' => self.name.replace(fields::long_name(content)?).is_some(),
            b'K' => self.link.replace(fields::long_name(content)?).is_some(),
            b'x' => self.pax.replace(Pax::parse(&content)?).is_some(),
            _ => {
                fields::check_global(&content)?;
                false
            }
        };
        if twice { Err(malformed("two extension headers of one kind for one entry")) } else { Ok(()) }
    }
}

/// The name by GNU's extension, by PAX, or by the header.
fn one_of(gnu: Option<Vec<u8>>, pax: Option<Vec<u8>>, header: impl FnOnce() -> Vec<u8>) -> Result<Vec<u8>> {
    match (gnu, pax) {
        (Some(gnu), Some(pax)) if gnu != pax => Err(malformed("an entry has two long names")),
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => Ok(header()),
    }
}

/// # Errors
/// `Invalid` for an unknown type, and for data behind an entry that has none:
/// readers differ in whether they skip it.
fn kind_of(flag: u8, path: &[u8], size: u64) -> Result<Kind> {
    let slash = path.ends_with(b"/");
    let kind = match flag {
        // Before POSIX a directory was a file with a slash.
        0 if slash && size == 0 => Kind::Directory,
        0 | b'0' | b'7' | b'S' if slash => {
            return Err(malformed(format!(
                "{} is a file by its type and a directory by its name",
                show(path)
            )));
        }
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' | b'4' => Kind::Device,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => return Err(malformed(format!("{} is of the unknown type {other:#04x}", show(path)))),
    };
    if kind != Kind::File && size != 0 {
        return Err(malformed(format!("{} cannot have content", show(path))));
    }
    Ok(kind)
}
