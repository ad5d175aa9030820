//! Plain, gzip or zstd, told by the first bytes. In-process only: no helper
//! from any PATH sees an image's bytes (CVE-2026-41567).

use crate::error::{Context, Error, Result};
use std::io::{BufReader, Cursor, Read};

/// Log2 of the largest zstd window accepted: 128 MiB, what `zstd -d` takes
/// without `--long`; a frame may ask for up to 2 GiB of memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// A reader of the unpacked bytes of `inner`, whatever its compression.
///
/// # Errors
/// `Invalid` for bzip2 and xz, naming them.
pub(crate) fn decoder<'a>(mut inner: impl Read + 'a) -> Result<(Compression, Box<dyn Read + 'a>)> {
    let mut head = [0_u8; 6];
    let mut filled = 0;
    while filled < head.len() {
        match inner.read(&mut head[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context(|| "read"),
        }
    }
    let compression = recognise(&head[..filled])?;
    let whole = Cursor::new(head).take(filled as u64).chain(inner);
    let reader: Box<dyn Read + 'a> = match compression {
        Compression::None => Box::new(whole),
        // Several members in a row are one stream: gzip(1), estargz layers.
        Compression::Gzip => {
            Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(64 << 10, whole)))
        }
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(whole).context(|| "start the zstd decoder")?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).context(|| "start the zstd decoder")?;
            Box::new(decoder)
        }
    };
    Ok((compression, reader))
}

fn recognise(head: &[u8]) -> Result<Compression> {
    let unsupported = |name: &str, tool: &str| {
        Err(Error::invalid(format!("{name} compression is not supported"))
            .hint(format!("unpack it first, for example with `{tool}`")))
    };
    match head {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        // RFC 8878: a frame, or a skippable frame (zstd:chunked begins with none, but others do).
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
        [b'B', b'Z', b'h', ..] => unsupported("bzip2", "bunzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => unsupported("xz", "unxz"),
        _ => Ok(Compression::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("write");
        encoder.finish().expect("finish")
    }

    fn decode(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let (_, mut reader) = decoder(bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
        let mut out = Vec::new();
        reader.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn each_form_gives_the_same_bytes() {
        let text = b"0123456789".repeat(1000);
        assert_eq!(decode(&text).expect("plain"), text);
        assert_eq!(decode(&[gzip(&text[..5000]), gzip(&text[5000..])].concat()).expect("gzip"), text);
        assert_eq!(decode(&zstd::encode_all(&text[..], 1).expect("encode")).expect("zstd"), text);
        assert_eq!(decode(b"").expect("empty"), b"");
        assert_eq!(decode(b"ab").expect("short"), b"ab");
    }

    /// CVE-2021-20291's kin: a cut stream is an error, not an end or a wait.
    #[test]
    fn cut_and_unknown_streams_are_errors() {
        let text = b"0123456789".repeat(1000);
        let (gzip, zstd) = (gzip(&text), zstd::encode_all(&text[..], 1).expect("encode"));
        assert!(decode(&gzip[..gzip.len() - 9]).is_err());
        assert!(decode(&zstd[..zstd.len() - 3]).is_err());
        assert!(decode(b"\xfd7zXZ\0....").is_err());
        assert!(decode(b"BZh91AY").is_err());
    }
}
