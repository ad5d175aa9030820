//! A blob as one stream, however often its transfer is cut.

use super::client::Client;
use super::failure::Failure;
use super::pace::Pace;
use crate::error::{Error, Result};
use crate::types::digest::Digest;
use std::io::{self, Read};

/// After so many bytes a cut counts as the first one again.
const PROGRESS: u64 = 1 << 20;

/// The bytes of a blob from a position on. A cut is mended by a request for the
/// rest, as often as the user allows; whoever reads sees one stream.
pub(crate) struct BlobStream<'a> {
    client: &'a Client,
    digest: &'a Digest,
    size: u64,
    at: u64,
    body: Option<Box<dyn Read + Send>>,
    /// Tries since the last progress.
    tried: u32,
    counted_from: u64,
    pace: Pace,
    failure: Option<Error>,
}

impl Client {
    /// A blob of `size` bytes, without the first `from`. Nothing is asked for yet.
    pub(crate) fn blob<'a>(&'a self, digest: &'a Digest, size: u64, from: u64) -> BlobStream<'a> {
        BlobStream {
            client: self,
            digest,
            size,
            at: from,
            body: None,
            tried: 0,
            counted_from: from,
            pace: Pace::new(from),
            failure: None,
        }
    }
}

impl BlobStream<'_> {
    /// Why reading failed, in the registry's and the user's words.
    pub(crate) fn failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    /// Waits for another try, or gives up.
    fn again(&mut self, failure: Failure) -> io::Result<()> {
        self.body = None;
        if self.at >= self.counted_from + PROGRESS {
            (self.tried, self.counted_from) = (0, self.at);
        }
        let waited = self.client.retries.wait(self.tried, failure);
        self.tried += 1;
        self.pace = Pace::new(self.at);
        waited.map_err(|error| {
            let text = error.to_string();
            self.failure = Some(error);
            io::Error::other(text)
        })
    }

    fn cut(&self, why: &str) -> Failure {
        let digest = self.digest;
        Failure::passing(Error::failed(format!(
            "blob {digest}: {why} after {} of {} bytes",
            self.at, self.size
        )))
    }
}

impl Read for BlobStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // What a registry sends after its end is not waited for: the digest decides.
            if self.at == self.size {
                return Ok(0);
            }
            let Some(body) = &mut self.body else {
                match self.client.blob_from(self.digest, self.size, self.at) {
                    Ok(body) => self.body = Some(body),
                    Err(failure) => self.again(failure)?,
                }
                continue;
            };
            match body.read(buffer) {
                Ok(0) => {
                    let cut = self.cut("the transfer was cut");
                    self.again(cut)?;
                }
                Ok(count) if self.at + count as u64 > self.size => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the registry sent more than the blob has",
                    ));
                }
                Ok(count) => {
                    self.at += count as u64;
                    if self.pace.is_too_slow(self.at) {
                        let slow = self.cut("it comes too slowly");
                        self.again(slow)?;
                    }
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let cut = self.cut(&format!("the transfer was cut ({error})"));
                    self.again(cut)?;
                }
            }
        }
    }
}

/// All of a small blob.
///
/// # Errors
/// `Invalid` where it is another one, `Failed` where it does not come.
pub(crate) fn small_blob(client: &Client, digest: &Digest, size: u64) -> Result<Vec<u8>> {
    let mut stream = client.blob(digest, size, 0);
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        return Err(stream.failure().unwrap_or_else(|| Error::invalid(format!("blob {digest}: {error}"))));
    }
    if bytes.len() as u64 != size || !digest.is_of(&bytes) {
        return Err(Error::invalid(format!("the registry sent other content for {digest}")));
    }
    Ok(bytes)
}
