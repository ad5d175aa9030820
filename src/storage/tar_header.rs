//! The fields of a tar header, read strictly: what two parsers could read in
//! two ways is refused (CVE-2025-62518, CVE-2026-33055). Pure: no I/O.
//!
//! Source: pax(1) in POSIX.1-2017, "ustar Interchange Format" and "pax Header
//! Block"; GNU tar's manual, "Basic Tar Format".

use super::tar_sparse::{self as sparse, Sparse};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::ffi::CString;

/// Bytes of a path, as Linux's PATH_MAX.
const MAX_PATH: usize = 4096;
/// Bytes of one component: NAME_MAX of every Linux file system.
const MAX_NAME: usize = 255;
/// Directories below each other. Deeper trees exceed what paths can name.
const MAX_DEPTH: usize = 255;
/// What 11 octal digits can hold, plus one: from here on a size needs PAX.
const OCTAL_LIMIT: u64 = 1 << 33;

/// The archive is not what an honest writer makes.
pub(crate) fn malformed(text: impl AsRef<str>) -> Error {
    Error::invalid(format!("malformed layer archive: {}", text.as_ref()))
}

/// A name from an archive, safe and short enough for a message.
pub(crate) fn show(name: &[u8]) -> String {
    let cut = &name[..name.len().min(200)];
    format!("{:?}{}", String::from_utf8_lossy(cut), if cut.len() < name.len() { "…" } else { "" })
}

/// A number field: octal digits between blanks, or GNU's base 256 with its sign.
pub(crate) fn number(field: &[u8]) -> Result<i64> {
    let bad = || malformed(format!("{} is not a number", show(field)));
    let first = *field.first().ok_or_else(bad)?;
    if first & 0x80 != 0 {
        // Two's complement below the marker bit; bit 6 is the sign.
        let start = i128::from(first & 0x7f) - if first & 0x40 == 0 { 0 } else { 0x80 };
        let value = field[1..].iter().fold(start, |value, byte| (value << 8) | i128::from(*byte));
        return i64::try_from(value).map_err(|_| bad());
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
    let Some(start) = field.iter().position(|byte| !is_blank(byte)) else { return Ok(0) };
    let end = field[start..].iter().position(is_blank).map_or(field.len(), |length| start + length);
    field[start..end].iter().try_fold(0_i64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8).map(|value| value + i64::from(byte - b'0')).ok_or_else(bad),
        _ => Err(bad()),
    })
}

/// A user or group id. `u32::MAX` means "leave as it is" to chown(2).
pub(crate) fn id(value: i64) -> Result<u32> {
    u32::try_from(value)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| malformed(format!("{value} is not a user or group id")))
}

/// Whether the checksum of a header block holds. Old writers summed signed bytes.
pub(crate) fn checksum_holds(block: &[u8; 512]) -> bool {
    let outside = || block[..148].iter().chain(&block[156..]);
    let unsigned: i64 = outside().map(|byte| i64::from(*byte)).sum::<i64>() + 8 * 32;
    let signed: i64 = outside().map(|byte| i64::from(byte.cast_signed())).sum::<i64>() + 8 * 32;
    number(&block[148..156]).is_ok_and(|sum| sum == unsigned || sum == signed)
}

/// A path of the archive as components joined by `/`; empty for the root.
/// Leading slashes and `.` are dropped as docker does.
///
/// # Errors
/// `Invalid` for `..`, NUL, an empty name, and what exceeds the bounds.
pub(crate) fn path(name: &[u8]) -> Result<Vec<u8>> {
    let refuse = |why: &str| malformed(format!("the name {} {why}", show(name)));
    if name.is_empty() {
        return Err(malformed("an entry without a name"));
    }
    if name.len() > MAX_PATH {
        return Err(refuse("has more than 4096 bytes"));
    }
    if name.contains(&0) {
        return Err(refuse("contains a NUL byte"));
    }
    let mut path = Vec::with_capacity(name.len());
    let mut depth = 0;
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => return Err(refuse("leads out of the archive")),
            _ if component.len() > MAX_NAME => return Err(refuse("has a component of more than 255 bytes")),
            _ => {}
        }
        depth += 1;
        if depth > MAX_DEPTH {
            return Err(refuse("is more than 255 directories deep"));
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(component);
    }
    Ok(path)
}

/// The text of a symbolic link: anything that a link can hold.
pub(crate) fn link_text(text: Vec<u8>) -> Result<Vec<u8>> {
    if text.is_empty() || text.len() >= MAX_PATH || text.contains(&0) {
        return Err(malformed(format!("{} is not the target of a symbolic link", show(&text))));
    }
    Ok(text)
}

/// The content of a GNU long name or link: text, then only NUL bytes.
pub(crate) fn long_name(mut content: Vec<u8>) -> Result<Vec<u8>> {
    let end = content.iter().position(|byte| *byte == 0).unwrap_or(content.len());
    if content[end..].iter().any(|byte| *byte != 0) {
        return Err(malformed("a GNU long name contains a NUL byte"));
    }
    content.truncate(end);
    Ok(content)
}

/// What a PAX header says about the entry that follows it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pax {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    /// Seconds and nanoseconds.
    pub(crate) mtime: Option<(i64, u32)>,
    /// Only those that a layer may carry.
    pub(crate) xattrs: Vec<(CString, Vec<u8>)>,
    pub(crate) sparse: Option<Sparse>,
}

/// What the keys of sparse files begin with.
const SPARSE: &[u8] = b"GNU.sparse.";

impl Pax {
    /// From the content of an `x` header.
    ///
    /// # Errors
    /// `Invalid` for a record that is not `LENGTH KEY=VALUE\n`, for a key that is
    /// there twice with two values, and for values out of range.
    pub(crate) fn parse(content: &[u8]) -> Result<Self> {
        let mut pax = Self::default();
        let mut of_sparse: Option<sparse::Records> = None;
        for (key, value) in records(content)? {
            if let Some(key) = key.strip_prefix(SPARSE) {
                of_sparse.get_or_insert_default().take(key, value)?;
                continue;
            }
            // POSIX: an empty value takes back what was said before, here nothing.
            if value.is_empty() && !key.starts_with(b"SCHILY.xattr.") {
                continue;
            }
            pax.take(key, value)?;
        }
        pax.sparse = of_sparse.map(sparse::Records::finish).transpose()?;
        Ok(pax)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(id(signed(decimal(value)?)?)?),
            b"gid" => self.gid = Some(id(signed(decimal(value)?)?)?),
            b"mtime" => self.mtime = Some(timestamp(value)?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.").filter(|name| carries(name)) {
                    if value.len() > 64 << 10 {
                        return Err(malformed("an extended attribute of more than 64 KiB"));
                    }
                    let name = CString::new(name).map_err(|_| malformed("a NUL byte in a PAX key"))?;
                    self.xattrs.push((name, value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// Checks a `g` header, which speaks of all entries that follow. `git archive`
/// writes a comment; what would change an entry is refused, as readers differ.
pub(crate) fn check_global(content: &[u8]) -> Result<()> {
    for (key, _) in records(content)? {
        if matches!(key, b"path" | b"linkpath" | b"size" | b"uid" | b"gid") || key.starts_with(SPARSE) {
            return Err(malformed(format!("{} for all entries", show(key))));
        }
    }
    Ok(())
}

/// The size of an entry's data: the PAX one, where it is there and the header's
/// field agrees or cannot hold it.
///
/// # Errors
/// `Invalid` where they differ: one reader would see entries inside the data
/// that another skips.
pub(crate) fn agreed_size(header: u64, pax: Option<u64>) -> Result<u64> {
    match pax {
        None => Ok(header),
        Some(size) if size == header || size >= OCTAL_LIMIT => Ok(size),
        Some(size) => {
            Err(malformed(format!("an entry has the size {header} in its header and {size} in PAX")))
        }
    }
}

/// Attributes that a layer may set: the user's own, and file capabilities. Not
/// overlayfs's, with which an image could redirect its own directories, nor
/// those that name host policy (`trusted.`, `security.selinux`, ACLs by host id).
fn carries(name: &[u8]) -> bool {
    let allowed = name == b"security.capability"
        || (name.len() > b"user.".len() && name.starts_with(b"user.") && !name.starts_with(b"user.overlay."));
    allowed && name.len() <= MAX_NAME
}

/// `LENGTH KEY=VALUE\n`, where LENGTH counts the whole record. Not the `tar`
/// crate's reader: it splits at line ends, which binary values contain.
fn records(content: &[u8]) -> Result<Vec<(&[u8], &[u8])>> {
    let bad = || malformed("a PAX header that is not LENGTH KEY=VALUE");
    let mut seen: HashMap<&[u8], &[u8]> = HashMap::new();
    let mut records = Vec::new();
    let mut rest = content;
    while !rest.is_empty() {
        let blank = rest.iter().take(9).position(|byte| *byte == b' ').ok_or_else(bad)?;
        let length = usize::try_from(decimal(&rest[..blank])?).map_err(|_| bad())?;
        if length <= blank + 1 || length > rest.len() || rest[length - 1] != b'\n' {
            return Err(bad());
        }
        let record = &rest[blank + 1..length - 1];
        let equals = record.iter().position(|byte| *byte == b'=').filter(|at| *at > 0).ok_or_else(bad)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        rest = &rest[length..];
        if sparse::repeats(key) {
            records.push((key, value));
            continue;
        }
        match seen.insert(key, value) {
            None => records.push((key, value)),
            Some(earlier) if earlier == value => {}
            Some(_) => return Err(malformed(format!("the PAX key {} has two values", show(key)))),
        }
    }
    Ok(records)
}

/// Decimal digits alone: no sign, no blanks.
pub(crate) fn decimal(text: &[u8]) -> Result<u64> {
    let bad = || malformed(format!("{} is not a number", show(text)));
    if text.is_empty() {
        return Err(bad());
    }
    text.iter().try_fold(0_u64, |value, byte| match byte {
        b'0'..=b'9' => {
            value.checked_mul(10).and_then(|value| value.checked_add(u64::from(byte - b'0'))).ok_or_else(bad)
        }
        _ => Err(bad()),
    })
}

fn signed(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| malformed(format!("{value} is too large")))
}

/// `[-]SECONDS[.FRACTION]`; digits beyond the nanosecond are dropped.
fn timestamp(text: &[u8]) -> Result<(i64, u32)> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let dot = digits.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match dot {
        Some(at) => (&digits[..at], &digits[at + 1..]),
        None => (digits, &b""[..]),
    };
    let seconds = signed(decimal(whole)?)?;
    let mut nanoseconds = 0;
    for index in 0..9 {
        let digit = match fraction.get(index) {
            None => 0,
            Some(byte) if byte.is_ascii_digit() => u32::from(byte - b'0'),
            Some(_) => return Err(malformed(format!("{} is not a time", show(text)))),
        };
        nanoseconds = nanoseconds * 10 + digit;
    }
    if fraction.iter().any(|byte| !byte.is_ascii_digit()) {
        return Err(malformed(format!("{} is not a time", show(text))));
    }
    Ok(match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        // The kernel counts nanoseconds upwards from the second below.
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
    }

    #[test]
    fn numbers_are_octal_or_base_256() {
        let good: [(&[u8], i64); 9] = [
            (b"0000644\0", 0o644),
            (b"   644 \0", 0o644),
            (b"\0\0\0\0\0\0\0\0", 0),
            (b"77777777777\0", (1 << 33) - 1),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\0", 256),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", -1),
            (b"\x80\0\0\0\0\x01\0\0", 65_536),
            (b"12345678", 0),
            (b"1 garbage", 1),
        ];
        for (field, value) in good {
            if field == b"12345678" {
                assert!(number(field).is_err(), "8 is not an octal digit");
            } else {
                assert_eq!(number(field).expect("a number"), value, "{field:?}");
            }
        }
        for bad in [&b"-1\0"[..], b"0x1f", b"9", b"\x80\xff\0\0\0\0\0\0\0\0\0\0\0\0", b""] {
            assert!(number(bad).is_err(), "{bad:?}");
        }
    }

    /// CVE-2021-29136 and the traversal rows: only names below the root.
    #[test]
    fn paths_stay_below_the_root() {
        let good: [(&[u8], &[u8]); 8] = [
            (b"a/b", b"a/b"),
            (b"/a//b/", b"a/b"),
            (b"./a/./b", b"a/b"),
            (b".", b""),
            (b"./", b""),
            (b"/", b""),
            (b"...", b"..."),
            (b"a\\..\\b", b"a\\..\\b"),
        ];
        for (name, expected) in good {
            assert_eq!(path(name).expect("good"), expected, "{}", show(name));
        }
        let deep = b"a/".repeat(256);
        let bad: [&[u8]; 9] =
            [b"", b"..", b"../a", b"a/..", b"a/../b", b"/../a", b"a\0b", &[b'a'; 256], &deep];
        for name in bad {
            assert!(path(name).is_err(), "{}", show(name));
        }
        assert!(path(&[b"a/".repeat(100), b"b".repeat(255)].concat()).is_ok());
        assert!(path(&b"./".repeat(2049)).is_err(), "over 4096 bytes");
    }

    #[test]
    fn pax_values_may_hold_line_ends() {
        let content = [
            record("mtime", b"1700000000.123456789"),
            record("SCHILY.xattr.security.capability", b"\x01\n\n\0=2"),
            record("SCHILY.xattr.user.overlay.opaque", b"y"),
            record("SCHILY.xattr.trusted.overlay.redirect", b"/"),
            record("SCHILY.xattr.security.selinux", b"x"),
            record("SCHILY.xattr.user.note", b""),
            record("uid", b"70000"),
            record("comment", b"x"),
        ]
        .concat();
        let pax = Pax::parse(&content).expect("good");
        assert_eq!(pax.mtime, Some((1_700_000_000, 123_456_789)));
        assert_eq!(pax.uid, Some(70_000));
        let names: Vec<_> = pax.xattrs.iter().map(|(name, _)| name.to_str().expect("ascii")).collect();
        assert_eq!(names, ["security.capability", "user.note"]);
        assert_eq!(pax.xattrs[0].1, b"\x01\n\n\0=2");
    }

    #[test]
    fn pax_that_can_be_read_in_two_ways_is_refused() {
        let twice = [record("path", b"a"), record("path", b"b")].concat();
        let same = [record("path", b"a"), record("path", b"a")].concat();
        assert!(Pax::parse(&twice).is_err());
        assert!(Pax::parse(&same).is_ok());
        let bad: [&[u8]; 12] = [
            b"12 path=ab",
            b"0 a=b\n",
            b"6 a=b",
            b"7 a=b\n",
            b"5 =b\n",
            b"5 ab\n",
            b"x a=b\n",
            b"99999999999999999999 a=b\n",
            b"\n",
            &record("size", b"-1"),
            &record("uid", b"4294967295"),
            &record("GNU.sparse.major", b"1"),
        ];
        for content in bad {
            assert!(Pax::parse(content).is_err(), "{}", show(content));
        }
        assert!(check_global(&record("comment", b"0123")).is_ok());
        assert!(check_global(&record("size", b"0")).is_err());
    }

    /// CVE-2025-62518, CVE-2026-33055.
    #[test]
    fn two_sizes_must_agree() {
        assert_eq!(agreed_size(5, None).expect("one"), 5);
        assert_eq!(agreed_size(5, Some(5)).expect("same"), 5);
        assert_eq!(agreed_size(0, Some(1 << 33)).expect("too large for octal"), 1 << 33);
        assert!(agreed_size(0, Some(1024)).is_err());
        assert!(agreed_size(1024, Some(0)).is_err());
        assert!(agreed_size(512, Some(1024)).is_err());
    }

    #[test]
    fn times_before_1970_count_upwards() {
        assert_eq!(timestamp(b"-1.25").expect("good"), (-2, 750_000_000));
        assert_eq!(timestamp(b"-3").expect("good"), (-3, 0));
        assert_eq!(timestamp(b"1.5").expect("good"), (1, 500_000_000));
        assert_eq!(timestamp(b"1.1234567899").expect("good"), (1, 123_456_789));
        for bad in [&b""[..], b".5", b"1.x", b"1.1234567890x", b"--1", b"1e9"] {
            assert!(timestamp(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn long_names_end_at_their_nul_bytes() {
        assert_eq!(long_name(b"abc\0\0".to_vec()).expect("good"), b"abc");
        assert!(long_name(b"abc\0d".to_vec()).is_err());
    }
}
