//! Plain, gzip, zstd, bzip2 or xz, told by the first bytes. In-process only: no
//! helper from any PATH sees an image's bytes (CVE-2026-41567).

use super::manifest::{OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD};
use crate::error::{Context, Result};
use std::io::{self, BufReader, Chain, Cursor, Read, Take};

/// Log2 of the largest zstd window accepted: 128 MiB, what `zstd -d` takes
/// without `--long`; a frame may ask for up to 2 GiB of memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// KiB that unpacking xz may take: a dictionary of 128 MiB, twice that of
/// `xz -9`, and what goes with it. A stream may ask for 4 GiB.
const XZ_MEMORY_MAX: u32 = 129 << 10;

/// Bytes of a read from what is unpacked.
const BUFFER: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Compression {
    /// The media type of layers that have it; `None` where there is none:
    /// image-spec `layer.md`.
    pub(crate) fn layer_type(self) -> Option<&'static str> {
        match self {
            Self::None => Some(OCI_LAYER),
            Self::Gzip => Some(OCI_LAYER_GZIP),
            Self::Zstd => Some(OCI_LAYER_ZSTD),
            Self::Bzip2 | Self::Xz => None,
        }
    }
}

/// All of a stream whose first bytes were looked at.
type Whole<R> = Chain<Take<Cursor<[u8; 6]>>, R>;

/// A reader of the unpacked bytes of `inner`, whatever its compression.
pub(crate) fn decoder<'a>(inner: impl Read + 'a) -> Result<(Compression, Box<dyn Read + 'a>)> {
    let (compression, whole) = look(inner)?;
    Ok((compression, decode(compression, whole)?))
}

/// The bytes of `inner` as they may be kept as a layer: what layers are not
/// compressed by is unpacked.
pub(crate) fn as_layer<'a>(inner: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    match look(inner)? {
        (compression, whole) if compression.layer_type().is_none() => decode(compression, whole),
        (_, whole) => Ok(Box::new(whole)),
    }
}

fn look<R: Read>(mut inner: R) -> Result<(Compression, Whole<R>)> {
    let mut head = [0_u8; 6];
    let mut filled = 0;
    while filled < head.len() {
        match inner.read(&mut head[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context(|| "read"),
        }
    }
    let whole = Cursor::new(head).take(filled as u64).chain(inner);
    Ok((recognise(&head[..filled]), whole))
}

fn decode<'a>(compression: Compression, whole: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    let buffered = |whole| BufReader::with_capacity(BUFFER, whole);
    Ok(match compression {
        Compression::None => Box::new(whole),
        // Several members in a row are one stream: gzip(1), estargz layers.
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(buffered(whole))),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(whole).context(|| "start the zstd decoder")?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).context(|| "start the zstd decoder")?;
            Box::new(decoder)
        }
        // A block has 900 KB at most, so its memory needs no bound of ours.
        Compression::Bzip2 => Box::new(Ended {
            name: "bzip2",
            inner: Some(bzip2::bufread::MultiBzDecoder::new(buffered(whole))),
        }),
        Compression::Xz => {
            let decoder = lzma_rust2::XzReader::new_mem_limit(buffered(whole), true, XZ_MEMORY_MAX);
            Box::new(Ended { name: "xz", inner: Some(decoder) })
        }
    })
}

fn recognise(head: &[u8]) -> Compression {
    match head {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        // RFC 8878: a frame, or a skippable frame (zstd:chunked begins with none, but others do).
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        // The digit is the size of blocks.
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Compression::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Compression::Xz,
        _ => Compression::None,
    }
}

/// A decoder that is asked no more once it has failed, and never for nothing:
/// not all of them bear that.
struct Ended<R> {
    /// Of what it decodes, for errors.
    name: &'static str,
    /// `None` after a failure.
    inner: Option<R>,
}

impl<R: Read> Read for Ended<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let Some(inner) = &mut self.inner else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the stream is damaged"));
        };
        let result = inner.read(buffer);
        if result.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted) {
            self.inner = None;
        }
        result.map_err(|error| match error.kind() {
            io::ErrorKind::OutOfMemory => {
                io::Error::other("its dictionary has more than 128 MiB: compress it with `xz -9` or less")
            }
            io::ErrorKind::Interrupted => error,
            // Of the file itself.
            _ if error.raw_os_error().is_some() => error,
            kind => io::Error::new(kind, format!("the {} stream is cut or damaged: {error}", self.name)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// What follows, unpacked.
    const TEXT: &[u8] = b"a layer, a layer, a layer, a layer";
    /// Of `xz -9`.
    const XZ: &[u8] = b"\
        \xfd\x37\x7a\x58\x5a\x00\x00\x04\xe6\xd6\xb4\x46\x02\x00\x21\x01\x1c\x00\x00\x00\x10\xcf\x58\xcc\
        \xe0\x00\x21\x00\x10\x5d\x00\x30\x88\x09\x86\x54\xa0\x86\x36\xad\xe0\x2c\xac\xd2\x6a\x00\x00\x00\
        \xdf\x75\x47\x96\xcc\xc7\xb7\x49\x00\x01\x2c\x22\x61\x9f\xd7\xcc\x1f\xb6\xf3\x7d\x01\x00\x00\x00\
        \x00\x04\x59\x5a";
    /// Of `bzip2 -9`.
    const BZIP2: &[u8] = b"\
        \x42\x5a\x68\x39\x31\x41\x59\x26\x53\x59\xca\xed\x67\xcd\x00\x00\x05\x11\x80\x40\x04\x22\x04\x10\
        \x20\x20\x00\x31\x0c\x00\x55\x26\x9b\x47\xaa\xc8\x7e\xa1\xa5\x9a\x43\x85\xdc\x91\x4e\x14\x24\x32\
        \xbb\x59\xf3\x40";
    /// The same with a dictionary of 4 GiB.
    const XZ_HUGE: &[u8] = b"\
        \xfd\x37\x7a\x58\x5a\x00\x00\x04\xe6\xd6\xb4\x46\x02\x00\x21\x01\x28\x00\x00\x00\xe6\xa0\x11\xb3\
        \xe0\x00\x21\x00\x10\x5d\x00\x30\x88\x09\x86\x54\xa0\x86\x36\xad\xe0\x2c\xac\xd2\x6a\x00\x00\x00\
        \xdf\x75\x47\x96\xcc\xc7\xb7\x49\x00\x01\x2c\x22\x61\x9f\xd7\xcc\x1f\xb6\xf3\x7d\x01\x00\x00\x00\
        \x00\x04\x59\x5a";

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
        for whole in [XZ, BZIP2] {
            for cut in 6..whole.len() {
                assert!(decode(&whole[..cut]).is_err(), "{cut} of {}", whole.len());
            }
            for at in 6..whole.len() {
                let mut other = whole.to_vec();
                other[at] ^= 0x10;
                // Padding may change; what comes out is never something else.
                assert!(decode(&other).is_err() || decode(&other).expect("same") == TEXT, "byte {at}");
            }
        }
    }

    #[test]
    fn xz_and_bzip2_are_unpacked_and_are_no_layers() {
        for packed in [XZ, BZIP2] {
            assert_eq!(decode(packed).expect("unpacked"), TEXT);
            assert_eq!(decode(&packed.repeat(2)).expect("two in a row"), TEXT.repeat(2));
            let mut kept = Vec::new();
            as_layer(packed).expect("layer").read_to_end(&mut kept).expect("read");
            assert_eq!(kept, TEXT);
        }
        let mut kept = Vec::new();
        as_layer(&gzip(TEXT)[..]).expect("layer").read_to_end(&mut kept).expect("read");
        assert_eq!(kept, gzip(TEXT), "gzip stays");
    }

    /// A header may ask for a dictionary of 4 GiB.
    #[test]
    fn the_memory_of_xz_is_bounded() {
        let error = decode(XZ_HUGE).expect_err("refused").to_string();
        assert!(error.contains("128 MiB"), "{error}");
    }
}
