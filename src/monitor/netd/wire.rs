//! A monitor's connection, as the holder reads and writes it: a monitor that
//! stops in the middle of a message holds nobody else up.

// `AsyncFd::new` is deprecated for types that may change their fd; an `OwnedFd`
// does not.
#![allow(deprecated)]

use super::messages::{FromHolder, ToHolder};
use crate::channel::{MAX_MESSAGE, encode};
use crate::error::{Context, Error, Result};
use crate::sys::socket;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// For the rest of a message that has begun.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn say(stream: &AsyncFd<UnixStream>, message: &FromHolder) -> Result<()> {
    let frame = encode(message)?;
    let mut rest = &frame[..];
    while !rest.is_empty() {
        let mut ready = stream.writable().await.context(|| "speak to a monitor")?;
        match rustix::net::send(stream.get_ref(), rest, rustix::net::SendFlags::NOSIGNAL) {
            Ok(count) => rest = &rest[count..],
            Err(rustix::io::Errno::WOULDBLOCK) => ready.clear_ready(),
            Err(errno) => return Err(errno).context(|| "speak to a monitor"),
        }
    }
    Ok(())
}

pub(super) async fn hear(stream: &AsyncFd<UnixStream>) -> Result<Option<ToHolder>> {
    let Some(length) = read(stream, 4).await? else { return Ok(None) };
    let length = u32::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
    if length > MAX_MESSAGE {
        return Err(Error::failed("a message is too long"));
    }
    let body = tokio::time::timeout(PATIENCE, read(stream, length)).await;
    let late = || Error::failed("a monitor stopped in the middle of a message");
    let Some(body) = body.map_err(|_| late())?? else { return Ok(None) };
    serde_json::from_slice(&body).context(|| "read a message").map(Some)
}

/// So many bytes; `None` where the peer has closed its end.
async fn read(stream: &AsyncFd<UnixStream>, length: usize) -> Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        let mut ready = stream.readable().await.context(|| "hear from a monitor")?;
        match rustix::io::read(stream.get_ref(), &mut bytes[filled..]) {
            Ok(0) => return Ok(None),
            Ok(count) => filled += count,
            Err(rustix::io::Errno::WOULDBLOCK) => ready.clear_ready(),
            Err(errno) => return Err(errno).context(|| "hear from a monitor"),
        }
    }
    Ok(Some(bytes))
}

pub(super) async fn hear_fd(stream: &AsyncFd<UnixStream>) -> Result<OwnedFd> {
    loop {
        let mut ready = stream.readable().await.context(|| "hear from a monitor")?;
        match socket::receive_fd(stream.get_ref().as_fd()) {
            Ok(Some(fd)) => return Ok(fd),
            Ok(None) => return Err(Error::failed("a monitor sent no namespace")),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => ready.clear_ready(),
            Err(error) => return Err(error).context(|| "hear from a monitor"),
        }
    }
}
