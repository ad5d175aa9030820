//! The container's stdio and the clients that are attached to it.
//!
//! A plain structure for the monitor's loop; it starts nothing by itself:
//!
//! ```text
//! tokio::select! {
//!     count = stdout.read(&mut buffer), if clients.is_ready() => {
//!         log.write(Stream::Stdout, bytes); clients.broadcast(frame::STDOUT, bytes);
//!     }
//!     event = clients.next() => …
//! }
//! ```
//!
//! Memory is bounded, whatever a client does:
//! * The front process of a foreground `run` or `start -a` ([`Role::Foreground`])
//!   holds the container's output back when it is slow, as a shell's pipe does,
//!   and so loses nothing: output is not read while more than [`QUEUE`] bytes wait.
//! * Any other client ([`Role::Guest`]) never holds the container back: one that
//!   is more than [`GUEST_QUEUE`] bytes behind gets a last word and is dropped.
//! * A client may have [`STDIN_WINDOW`] bytes of input under way that were not
//!   acknowledged with [`STDIN_TAKEN`]; one that sends more is dropped. So the
//!   monitor can always read a client's frames, and a signal is never stuck
//!   behind input that the container does not read.

mod client;

use crate::error::{Context, Error, Result};
use crate::monitor::messages::{MAX_FRAME, frame};
use crate::types::status::Exit;
use client::{Client, Flushed};
use std::future::poll_fn;
use std::os::unix::net::UnixStream;
use std::task::{Context as Waker, Poll};
use std::time::Duration;

/// A kind of frame, monitor to client: the container took so many bytes (u32,
/// little endian) of this client's STDIN frames.
pub(crate) const STDIN_TAKEN: u8 = 7;
/// Bytes of input that a client may send ahead.
pub(crate) const STDIN_WINDOW: usize = 128 << 10;
/// Bytes that wait for a foreground client before output is held back.
const QUEUE: usize = 64 << 10;
/// Bytes that a guest may be behind.
const GUEST_QUEUE: usize = 256 << 10;
/// Clients at a time: each may hold [`GUEST_QUEUE`] and [`STDIN_WINDOW`] bytes.
const MOST_CLIENTS: usize = 64;

/// What a client is to the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Its user waits for the container: no output may be lost to it.
    Foreground,
    /// It looks on.
    Guest,
}

/// Names a client among those of one [`Clients`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientId(u64);

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ClientEvent {
    /// Input for the container. When it has taken it: [`Clients::stdin_taken`].
    Stdin(Vec<u8>),
    StdinEnd,
    Resize {
        rows: u16,
        columns: u16,
    },
    /// A signal's number, not checked.
    Signal(u8),
    /// The connection is over: ended by the client, broken, or dropped by us.
    Gone(Role),
    /// Output was passed on: look at [`Clients::is_ready`] again.
    Progress,
}

/// The attached clients.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    clients: Vec<Client>,
    last_id: u64,
    /// The client to be looked at first next time, so that none starves another.
    turn: usize,
}

impl Clients {
    /// Adds a connection on which an `Attach` request was answered. Needs a
    /// tokio runtime. `stdin`: whether its input is wanted.
    ///
    /// # Errors
    /// `Conflict` where there are too many; `Failed` where the socket is unfit.
    pub(crate) fn add(&mut self, socket: UnixStream, role: Role, stdin: bool) -> Result<ClientId> {
        if self.clients.len() >= MOST_CLIENTS {
            self.clients.retain(|client| !client.is_leaving());
        }
        if self.clients.len() >= MOST_CLIENTS {
            return Err(Error::conflict(format!("{MOST_CLIENTS} clients are attached already")));
        }
        socket.set_nonblocking(true).context(|| "prepare a client's socket")?;
        let socket = tokio::net::UnixStream::from_std(socket).context(|| "prepare a client's socket")?;
        self.last_id += 1;
        let id = ClientId(self.last_id);
        self.clients.push(Client::new(id, socket, role, stdin));
        Ok(id)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Whether the container's output may be read: no foreground client is behind.
    pub(crate) fn is_ready(&self) -> bool {
        !self.clients.iter().any(|client| client.role == Role::Foreground && client.waiting() > QUEUE)
    }

    /// Sends `bytes` as frames of `kind` to all clients, or queues them. Never waits.
    pub(crate) fn broadcast(&mut self, kind: u8, bytes: &[u8]) {
        for part in bytes.chunks(MAX_FRAME) {
            for client in &mut self.clients {
                if client.role == Role::Guest && client.waiting() + part.len() > GUEST_QUEUE {
                    client.dismiss("coracle: output was lost: this client is too slow\n");
                }
                client.send(kind, part);
            }
        }
    }

    /// Tells `id` that the container took `count` bytes of its input, or that
    /// they were thrown away because the container's stdin is closed.
    pub(crate) fn stdin_taken(&mut self, id: ClientId, count: usize) {
        if let Some(client) = self.clients.iter_mut().find(|client| client.id == id) {
            client.acknowledge(count);
        }
    }

    /// Waits for the next event. May be dropped at any time and called again.
    /// With no client it waits for ever.
    pub(crate) async fn next(&mut self) -> (ClientId, ClientEvent) {
        poll_fn(|waker| self.poll_next(waker)).await
    }

    fn poll_next(&mut self, waker: &mut Waker<'_>) -> Poll<(ClientId, ClientEvent)> {
        for step in 0..self.clients.len() {
            let at = (self.turn + step) % self.clients.len();
            let client = &mut self.clients[at];
            let id = client.id;
            let event = match client.poll_flush(waker) {
                Flushed::Progress => ClientEvent::Progress,
                Flushed::Over => self.remove(at),
                Flushed::Nothing => match client.poll_event(waker) {
                    Poll::Ready(Some(event)) => event,
                    Poll::Ready(None) => self.remove(at),
                    Poll::Pending => continue,
                },
            };
            self.turn = at + 1;
            return Poll::Ready((id, event));
        }
        Poll::Pending
    }

    fn remove(&mut self, at: usize) -> ClientEvent {
        ClientEvent::Gone(self.clients.remove(at).role)
    }

    /// Tells all clients that the run is over and ends their connections. A
    /// foreground client gets its output however slow it is, as long as it
    /// takes some within each `patience`; guests have one `patience`.
    pub(crate) async fn finish(mut self, exit: &Exit, patience: Duration) -> Result<()> {
        let body = serde_json::to_vec(exit).context(|| "write how the container ended")?;
        self.broadcast(frame::EXITED, &body);
        self.clients.iter_mut().for_each(Client::close_when_sent);
        let guests_end = tokio::time::Instant::now() + patience;
        while !self.clients.is_empty() {
            if tokio::time::timeout(patience, self.next()).await.is_err() {
                return Ok(());
            }
            if tokio::time::Instant::now() > guests_end {
                self.clients.retain(|client| client.role == Role::Foreground);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
