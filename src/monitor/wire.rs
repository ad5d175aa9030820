//! Messages of `crate::channel` on a connection that a task serves: a peer that
//! stops in the middle of one holds nobody else up.

use crate::channel::{MAX_MESSAGE, encode};
use crate::error::{Context, Error, Result};
use crate::sys::socket;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

/// For the rest of a message that has begun.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn say(stream: &mut UnixStream, message: &impl Serialize) -> Result<()> {
    stream.write_all(&encode(message)?).await.context(|| "send a message")
}

/// The next message; `None` where the peer has closed its end.
pub(super) async fn hear<M: DeserializeOwned>(stream: &mut UnixStream) -> Result<Option<M>> {
    let length = match stream.read_u32_le().await {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        length => length.context(|| "receive a message")? as usize,
    };
    if length > MAX_MESSAGE {
        return Err(Error::failed(format!("a message of {length} bytes is too long")));
    }
    let mut body = vec![0; length];
    let rest = tokio::time::timeout(PATIENCE, stream.read_exact(&mut body)).await;
    let late = |_| Error::failed("the peer stopped in the middle of a message");
    rest.map_err(late)?.context(|| "receive a message")?;
    serde_json::from_slice(&body).context(|| "read a message").map(Some)
}

/// The fd that follows a message.
pub(super) async fn hear_fd(stream: &UnixStream) -> Result<OwnedFd> {
    let received = stream.async_io(Interest::READABLE, || socket::receive_fd(stream.as_fd())).await;
    received.context(|| "receive an fd")?.ok_or_else(|| Error::failed("the peer has sent no fd"))
}
