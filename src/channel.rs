//! Typed messages over a Unix socket between coracle's own processes.
//!
//! One end's `S` is what it says and `R` what it hears; the other end has them
//! swapped, so a message in the wrong direction does not compile. A message is
//! a length (u32, little endian) and that many bytes of JSON, at most
//! [`MAX_MESSAGE`]. End of file means that the peer is gone.

use crate::error::{BestEffort, Context, Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{ErrorKind, Read, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

/// Bytes; a longer message is refused before memory is taken for it.
pub(crate) const MAX_MESSAGE: usize = 4 << 20;

/// How one of coracle's own processes ends, with [`last_words`] where it failed.
pub(crate) fn role_ended(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            last_words(&error);
            ExitCode::FAILURE
        }
    }
}

/// What such a process says to its starter, which reads its stderr, in one write.
pub(crate) fn last_words(error: &Error) {
    rustix::io::write(rustix::stdio::stderr(), format!("{error}\n").as_bytes()).or_ignore();
}

/// One end of a typed conversation.
#[derive(Debug)]
pub(crate) struct Channel<S, R> {
    stream: UnixStream,
    types: PhantomData<fn(S) -> R>,
}

impl<S: Serialize, R: DeserializeOwned> Channel<S, R> {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, types: PhantomData }
    }

    /// Both ends; close-on-exec.
    pub(crate) fn pair() -> Result<(Self, Channel<R, S>)> {
        let (here, there) = UnixStream::pair().context(|| "make a socket pair")?;
        Ok((Self::new(here), Channel { stream: there, types: PhantomData }))
    }

    pub(crate) fn send(&mut self, message: &S) -> Result<()> {
        let frame = encode(message)?;
        self.stream.write_all(&frame).context(|| "send a message")
    }

    /// The next message; `None` where the peer has closed its end.
    pub(crate) fn receive(&mut self) -> Result<Option<R>> {
        let mut length = [0; 4];
        match self.stream.read_exact(&mut length) {
            Ok(()) => {}
            // Reset: it was closed with something of ours unread.
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                return Ok(None);
            }
            Err(error) => return Err(error).context(|| "receive a message"),
        }
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_MESSAGE {
            return Err(Error::failed(format!("a message of {length} bytes is too long")));
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).context(|| "receive a message")?;
        serde_json::from_slice(&body).context(|| "read a message").map(Some)
    }

    pub(crate) fn into_stream(self) -> UnixStream {
        self.stream
    }
}

/// A message as its bytes on the wire.
pub(crate) fn encode<S: Serialize>(message: &S) -> Result<Vec<u8>> {
    let body = serde_json::to_vec(message).context(|| "write a message")?;
    if body.len() > MAX_MESSAGE {
        return Err(Error::failed(format!("a message of {} bytes is too long", body.len())));
    }
    let mut frame = (body.len() as u32).to_le_bytes().to_vec();
    frame.extend(body);
    Ok(frame)
}

impl<S, R> AsFd for Channel<S, R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl<S, R> From<Channel<S, R>> for OwnedFd {
    fn from(channel: Channel<S, R>) -> Self {
        channel.stream.into()
    }
}
