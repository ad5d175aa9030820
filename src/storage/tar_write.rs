//! Writing a tar archive to a stream, entry by entry: ustar headers, and PAX
//! records (POSIX.1-2017, pax(1)) for what those cannot hold. Nothing is kept
//! in memory but one header; the data of a file goes through.
//!
//! What it writes [`super::tar_stream`] reads back, and so do GNU tar, bsdtar,
//! Go's and Python's readers. The same entries give the same bytes.

use crate::error::{Context, Error, Result};
use std::ffi::CString;
use std::io::Write;

/// Bytes; headers, data and padding come in such blocks.
const BLOCK: usize = 512;
/// What 11 octal digits can hold, plus one.
const OCTAL_11: u64 = 1 << 33;
/// What 7 octal digits can hold, plus one.
const OCTAL_7: u64 = 1 << 21;
/// The name of an extension header, which no reader uses.
const PAX_NAME: &[u8] = b"PaxHeaders/entry";

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    /// As many bytes must follow by [`TarWriter::data`].
    File {
        size: u64,
    },
    /// The name of an earlier entry.
    HardLink(&'a [u8]),
    /// The text of the link.
    Symlink(&'a [u8]),
    Directory,
    Fifo,
    CharacterDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
}

/// One entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryHeader<'a> {
    /// The whole name; directories get their slash at the end here.
    pub(crate) path: &'a [u8],
    pub(crate) content: Content<'a>,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: &'a [(CString, Vec<u8>)],
}

/// An archive being written. [`TarWriter::finish`] ends it; without that it is
/// cut short, which readers notice.
pub(crate) struct TarWriter<W: Write> {
    out: W,
    /// Bytes of data that the current entry still owes, and the padding behind them.
    owed: u64,
    padding: usize,
    /// All bytes written so far.
    written: u64,
}

impl<W: Write> TarWriter<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, owed: 0, padding: 0, written: 0 }
    }

    /// Bytes written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Begins an entry.
    ///
    /// # Errors
    /// `Invalid` for a name with a NUL byte; `Failed` where the entry before
    /// lacks data, or the stream cannot be written.
    pub(crate) fn entry(&mut self, header: &EntryHeader<'_>) -> Result<()> {
        if self.owed > 0 {
            return Err(Error::failed(format!("an entry of the archive lacks {} bytes", self.owed)));
        }
        let blocks = encode(header)?;
        self.put(&blocks)?;
        if let Content::File { size } = header.content {
            self.owed = size;
            self.padding = (size.next_multiple_of(BLOCK as u64) - size) as usize;
        }
        Ok(())
    }

    /// Bytes of the current entry that are still to come.
    pub(crate) fn owed(&self) -> u64 {
        self.owed
    }

    /// Writes a piece of the current entry's data.
    ///
    /// # Errors
    /// `Failed` where that is more than was announced, or cannot be written.
    pub(crate) fn data(&mut self, piece: &[u8]) -> Result<()> {
        let length = piece.len() as u64;
        if length > self.owed {
            return Err(Error::failed("an entry of the archive has more data than was announced"));
        }
        self.put(piece)?;
        self.settle(length)
    }

    /// Notes that `length` bytes of the current entry's data were written to the
    /// stream behind this writer's back, by splice(2) or the like.
    pub(crate) fn settle(&mut self, length: u64) -> Result<()> {
        self.owed = self.owed.saturating_sub(length);
        if self.owed == 0 && self.padding > 0 {
            let padding = std::mem::take(&mut self.padding);
            self.put(&[0; BLOCK][..padding])?;
        }
        Ok(())
    }

    /// Fills what the current entry lacks with zeros: its file became shorter
    /// while it was read. Readers could not find the next entry otherwise.
    pub(crate) fn fill(&mut self) -> Result<()> {
        let zeros = [0; 8 << 10];
        while self.owed > 0 {
            let most = usize::try_from(self.owed).unwrap_or(usize::MAX).min(zeros.len());
            self.data(&zeros[..most])?;
        }
        Ok(())
    }

    /// The end marker: two blocks of zeros. Gives the stream back, flushed.
    pub(crate) fn finish(mut self) -> Result<W> {
        if self.owed > 0 {
            return Err(Error::failed(format!("an entry of the archive lacks {} bytes", self.owed)));
        }
        self.put(&[0; 2 * BLOCK])?;
        self.out.flush().context(|| "write the archive")?;
        Ok(self.out)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).context(|| "write the archive")?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

/// The header block, with a PAX header before it where it does not hold all.
fn encode(header: &EntryHeader<'_>) -> Result<Vec<u8>> {
    let mut path = header.path.to_vec();
    if header.content == Content::Directory && !path.ends_with(b"/") {
        path.push(b'/');
    }
    let link = match header.content {
        Content::HardLink(link) | Content::Symlink(link) => link,
        _ => b"",
    };
    let size = match header.content {
        Content::File { size } => size,
        _ => 0,
    };
    for text in [path.as_slice(), link] {
        if text.contains(&0) {
            return Err(Error::invalid("a NUL byte in a name for an archive"));
        }
    }
    let mut pax = Vec::new();
    let (prefix, name) = match split(&path) {
        Some(parts) => parts,
        None => {
            record(&mut pax, b"path", &path);
            (&b""[..], &path[..path.len().min(100)])
        }
    };
    if link.len() > 100 || !link.is_ascii() {
        record(&mut pax, b"linkpath", link);
    }
    if size >= OCTAL_11 {
        record(&mut pax, b"size", size.to_string().as_bytes());
    }
    for (key, id) in [(&b"uid"[..], header.uid), (b"gid", header.gid)] {
        if u64::from(id) >= OCTAL_7 {
            record(&mut pax, key, id.to_string().as_bytes());
        }
    }
    let (seconds, nanoseconds) = header.mtime;
    let whole = u64::try_from(seconds).ok().filter(|seconds| *seconds < OCTAL_11);
    if whole.is_none() || nanoseconds > 0 {
        record(&mut pax, b"mtime", time(seconds, nanoseconds).as_bytes());
    }
    for (key, value) in header.xattrs {
        record(&mut pax, &[b"SCHILY.xattr.", key.to_bytes()].concat(), value);
    }
    let fields = Fields { name, prefix, link: &link[..link.len().min(100)], size, mtime: whole.unwrap_or(0) };
    let mut blocks = Vec::with_capacity(BLOCK);
    if !pax.is_empty() {
        let of_pax =
            Fields { name: PAX_NAME, prefix: b"", link: b"", size: pax.len() as u64, mtime: fields.mtime };
        let plain = EntryHeader { mode: 0o644, uid: 0, gid: 0, content: Content::Fifo, ..*header };
        blocks.extend_from_slice(&block(b'x', &plain, &of_pax));
        blocks.extend_from_slice(&pax);
        blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
    }
    blocks.extend_from_slice(&block(kind(header.content), header, &fields));
    Ok(blocks)
}

fn kind(content: Content<'_>) -> u8 {
    match content {
        Content::File { .. } => b'0',
        Content::HardLink(_) => b'1',
        Content::Symlink(_) => b'2',
        Content::CharacterDevice { .. } => b'3',
        Content::BlockDevice { .. } => b'4',
        Content::Directory => b'5',
        Content::Fifo => b'6',
    }
}

/// What of a header may be cut or left to PAX.
struct Fields<'a> {
    name: &'a [u8],
    prefix: &'a [u8],
    link: &'a [u8],
    size: u64,
    mtime: u64,
}

/// A ustar header: POSIX.1-2017, pax(1), "ustar Interchange Format".
fn block(kind: u8, header: &EntryHeader<'_>, fields: &Fields<'_>) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut text = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    text(0, fields.name);
    text(157, fields.link);
    text(257, b"ustar\x0000");
    text(345, fields.prefix);
    let (major, minor) = match header.content {
        Content::CharacterDevice { major, minor } | Content::BlockDevice { major, minor } => (major, minor),
        _ => (0, 0),
    };
    let small = |id: u32| if u64::from(id) < OCTAL_7 { u64::from(id) } else { 0 };
    octal(&mut block[100..108], u64::from(header.mode & 0o7777));
    octal(&mut block[108..116], small(header.uid));
    octal(&mut block[116..124], small(header.gid));
    octal(&mut block[124..136], if fields.size < OCTAL_11 { fields.size } else { 0 });
    octal(&mut block[136..148], fields.mtime);
    octal(&mut block[329..337], small(major));
    octal(&mut block[337..345], small(minor));
    block[156] = kind;
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut block[148..155], sum);
    block
}

/// Digits up to the last byte of the field, which is NUL.
fn octal(field: &mut [u8], mut value: u64) {
    let digits = field.len() - 1;
    for place in field[..digits].iter_mut().rev() {
        *place = b'0' + (value & 7) as u8;
        value >>= 3;
    }
    field[digits] = 0;
}

/// The prefix and the name that together are `path`; `None` where it needs PAX:
/// too long, or no ASCII (whose encoding in ustar is nobody's).
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if !path.is_ascii() {
        return None;
    }
    if path.len() <= 100 {
        return Some((b"", path));
    }
    // The slash between them is in neither; the name may not be empty.
    let last = path.len().checked_sub(101)?;
    let at = (last..path.len() - 1).find(|at| path[*at] == b'/')?;
    (1..=155).contains(&at).then(|| (&path[..at], &path[at + 1..]))
}

/// `LENGTH KEY=VALUE\n`, where LENGTH counts itself.
fn record(pax: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    pax.extend_from_slice(length.to_string().as_bytes());
    pax.push(b' ');
    pax.extend_from_slice(key);
    pax.push(b'=');
    pax.extend_from_slice(value);
    pax.push(b'\n');
}

/// `[-]SECONDS[.FRACTION]`; before 1970 the fraction counts backwards too.
fn time(seconds: i64, nanoseconds: u32) -> String {
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let (sign, total) = if total < 0 { ("-", -total) } else { ("", total) };
    let text = format!("{sign}{}.{:09}", total / 1_000_000_000, total % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::tar_stream::{Kind, TarStream};

    fn header<'a>(path: &'a [u8], content: Content<'a>) -> EntryHeader<'a> {
        EntryHeader { path, content, mode: 0o644, uid: 0, gid: 0, mtime: (1_700_000_000, 0), xattrs: &[] }
    }

    fn archive(entries: &[(EntryHeader<'_>, &[u8])]) -> Vec<u8> {
        let mut tar = TarWriter::new(Vec::new());
        for (entry, data) in entries {
            tar.entry(entry).expect("entry");
            tar.data(data).expect("data");
        }
        tar.finish().expect("finish")
    }

    #[test]
    fn what_is_written_is_read_back() {
        let long = [b"d/".repeat(60), vec![b'n'; 200]].concat();
        let prefixed = [vec![b'p'; 120], b"/name".to_vec()].concat();
        let xattrs = [(c"user.a".to_owned(), b"1\n2\0=".to_vec()), (c"user.e".to_owned(), Vec::new())];
        let file = Content::File { size: 5 };
        let entries = [
            header(b"d", Content::Directory),
            EntryHeader { mode: 0o4755, uid: 3_000_000, gid: 4_000_000_000, ..header(b"d/f", file) },
            EntryHeader { mtime: (-2, 250_000_000), ..header(&long, file) },
            EntryHeader { mtime: (1, 999_999_999), xattrs: &xattrs, ..header(&prefixed, file) },
            header("ä/ö".as_bytes(), Content::Symlink(b"../x")),
            header(b"s", Content::Symlink(&long)),
            header(b"h", Content::HardLink(&long)),
            header(b"p", Content::Fifo),
            header(b"c", Content::CharacterDevice { major: 1, minor: 3 }),
            header(b"b\xff", Content::File { size: 0 }),
        ];
        let data = |entry: &EntryHeader<'_>| if entry.content == file { &b"hello"[..] } else { b"" };
        let bytes = archive(&entries.map(|entry| (entry, data(&entry))));
        assert_eq!(bytes.len() % BLOCK, 0);
        let mut source = bytes.as_slice();
        let mut stream = TarStream::new(&mut source);
        for wanted in &entries {
            let read = stream.next_entry().expect("read").expect("an entry");
            assert_eq!(read.path, wanted.path, "{wanted:?}");
            let (kind, link): (_, &[u8]) = match wanted.content {
                Content::File { .. } => (Kind::File, b""),
                Content::HardLink(link) => (Kind::HardLink, link),
                Content::Symlink(link) => (Kind::Symlink, link),
                Content::Directory => (Kind::Directory, b""),
                Content::Fifo => (Kind::Fifo, b""),
                Content::CharacterDevice { .. } | Content::BlockDevice { .. } => (Kind::Device, b""),
            };
            assert_eq!((read.kind, read.link.as_slice()), (kind, link));
            assert_eq!((read.mode, read.uid, read.gid), (wanted.mode, wanted.uid, wanted.gid));
            if wanted.mtime.0 >= 0 {
                assert_eq!(read.mtime, wanted.mtime);
            }
            assert_eq!(read.xattrs, wanted.xattrs);
            let mut content = Vec::new();
            while let Some(piece) = stream.data(u64::MAX).expect("data") {
                content.extend_from_slice(piece);
            }
            assert_eq!(content, data(wanted));
        }
        assert!(stream.next_entry().expect("the end").is_none());
        stream.finish().expect("nothing follows");
    }

    #[test]
    fn gnu_tar_lists_it() {
        let Ok(probe) = std::process::Command::new("tar").arg("--version").output() else { return };
        if !probe.stdout.starts_with(b"tar (GNU tar)") {
            return;
        }
        let long = [b"d/".repeat(60), vec![b'n'; 200]].concat();
        let prefixed = [vec![b'p'; 120], b"/name".to_vec()].concat();
        let bytes = archive(&[
            (EntryHeader { mode: 0o1755, ..header(b"dir", Content::Directory) }, b""),
            (EntryHeader { uid: 3_000_000, gid: 7, ..header(&long, Content::File { size: 3 }) }, b"abc"),
            (header(&prefixed, Content::File { size: 512 }), &[b'x'; 512]),
            (header(b"link", Content::Symlink(&long)), b""),
            (header(b"hard", Content::HardLink(&long)), b""),
            (header(b"null", Content::BlockDevice { major: 8, minor: 1 }), b""),
        ]);
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), &bytes).expect("write");
        let output = std::process::Command::new("tar")
            .args(["--numeric-owner", "--full-time", "-tvf"])
            .arg(file.path())
            .env("TZ", "UTC")
            .output()
            .expect("tar");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let listing = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<Vec<&str>> = listing.lines().map(|line| line.split_whitespace().collect()).collect();
        let long = String::from_utf8_lossy(&long).into_owned();
        let prefixed = String::from_utf8_lossy(&prefixed).into_owned();
        assert_eq!(lines[0], ["drwxr-xr-t", "0/0", "0", "2023-11-14", "22:13:20", "dir/"]);
        assert_eq!(lines[1], ["-rw-r--r--", "3000000/7", "3", "2023-11-14", "22:13:20", &long]);
        assert_eq!((lines[2][2], lines[2][5]), ("512", prefixed.as_str()));
        assert_eq!((lines[3][0], lines[3][7]), ("lrw-r--r--", long.as_str()));
        assert_eq!((lines[4][0], *lines[4].last().expect("a target")), ("hrw-r--r--", long.as_str()));
        assert_eq!(&lines[5][..3], ["brw-r--r--", "0/0", "8,1"]);
    }

    #[test]
    fn records_count_themselves() {
        for (length, expected) in [(1, "7 k="), (94, "100 k="), (95, "101 k="), (93, "98 k=")] {
            let mut pax = Vec::new();
            record(&mut pax, b"k", &vec![b'v'; length]);
            let text = String::from_utf8_lossy(&pax).into_owned();
            let said: usize = text.split(' ').next().and_then(|digits| digits.parse().ok()).expect("digits");
            assert_eq!(said, pax.len(), "{expected}");
        }
    }

    #[test]
    fn times_before_1970_count_backwards() {
        for (given, text) in [
            ((0, 0), "0"),
            ((1, 500_000_000), "1.5"),
            ((-1, 0), "-1"),
            ((-2, 250_000_000), "-1.75"),
            ((i64::MAX, 0), "9223372036854775807"),
        ] {
            assert_eq!(time(given.0, given.1), text);
        }
    }

    #[test]
    fn an_entry_has_just_the_data_it_announced() {
        let mut tar = TarWriter::new(Vec::new());
        tar.entry(&header(b"f", Content::File { size: 3 })).expect("entry");
        assert!(tar.data(b"abcd").is_err());
        tar.data(b"ab").expect("data");
        assert!(tar.entry(&header(b"g", Content::Fifo)).is_err());
        assert_eq!(tar.owed(), 1);
        tar.fill().expect("zeros");
        tar.entry(&header(b"g", Content::Fifo)).expect("entry");
        assert_eq!(tar.written(), 3 * 512);
        assert!(tar.entry(&header(b"a\0b", Content::Fifo)).is_err());
        assert_eq!(tar.finish().expect("finish").len(), 5 * 512);
    }
}
