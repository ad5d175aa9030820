//! One attached client: its connection, what waits for it, what it has begun to say.

use super::{ClientEvent, ClientId, Role, STDIN_TAKEN, STDIN_WINDOW};
use crate::monitor::messages::{MAX_FRAME, frame};
use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};
use std::task::{Context as Waker, Poll, ready};
use tokio::net::UnixStream;

/// Bytes before the body of a frame.
const HEADER: usize = 5;
/// Bytes received at a time.
const READ: usize = 16 << 10;

#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: ClientId,
    pub(super) role: Role,
    socket: UnixStream,
    /// Frames that the socket did not take yet.
    queue: VecDeque<u8>,
    phase: Phase,
    wants_stdin: bool,
    /// Received, and not a whole frame yet.
    incoming: Vec<u8>,
    /// Bytes of input that it was not told to be taken.
    under_way: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Attached,
    /// Nothing more is queued; the connection ends when the queue is sent.
    Leaving,
    /// The connection is broken.
    Broken,
}

/// What [`Client::poll_flush`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    Progress,
    Nothing,
    /// The client is to be removed.
    Over,
}

impl Client {
    pub(super) fn new(id: ClientId, socket: UnixStream, role: Role, wants_stdin: bool) -> Self {
        let (queue, incoming) = (VecDeque::new(), Vec::new());
        Self { id, role, socket, queue, phase: Phase::Attached, wants_stdin, incoming, under_way: 0 }
    }

    /// Bytes that wait to be sent.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Sends a frame, or what the socket does not take of it later. At most
    /// `MAX_FRAME` bytes.
    pub(super) fn send(&mut self, kind: u8, body: &[u8]) {
        if self.phase != Phase::Attached {
            return;
        }
        let [a, b, c, d] = (body.len() as u32).to_le_bytes();
        let header = [kind, a, b, c, d];
        // Past tokio, which does not know yet that a new socket is writable; it
        // finds out by itself where this is refused.
        let sent = if self.queue.is_empty() {
            let parts = [IoSlice::new(&header), IoSlice::new(body)];
            match send_parts(&self.socket, &parts) {
                Ok(count) => count,
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => 0,
                Err(_) => {
                    self.phase = Phase::Broken;
                    return;
                }
            }
        } else {
            0
        };
        self.queue.extend(&header[sent.min(HEADER)..]);
        self.queue.extend(&body[sent.saturating_sub(HEADER)..]);
    }

    /// Says a last word on its stderr, and ends the connection when it is sent.
    pub(super) fn dismiss(&mut self, text: &str) {
        self.send(frame::STDERR, text.as_bytes());
        self.close_when_sent();
    }

    pub(super) fn close_when_sent(&mut self) {
        if self.phase == Phase::Attached {
            self.phase = Phase::Leaving;
        }
    }

    /// Whether it was dismissed, and has not taken its last word yet.
    pub(super) fn is_leaving(&self) -> bool {
        self.phase != Phase::Attached
    }

    /// Tells it that `count` bytes of its input were taken.
    pub(super) fn acknowledge(&mut self, count: usize) {
        let count = count.min(self.under_way);
        self.under_way -= count;
        self.send(STDIN_TAKEN, &(count as u32).to_le_bytes());
    }

    /// Sends what waits, as far as the socket takes it.
    pub(super) fn poll_flush(&mut self, waker: &mut Waker<'_>) -> Flushed {
        let before = self.queue.len();
        while !self.queue.is_empty() && self.phase != Phase::Broken {
            match self.socket.poll_write_ready(waker) {
                Poll::Pending => break,
                Poll::Ready(Err(_)) => self.phase = Phase::Broken,
                Poll::Ready(Ok(())) => match self.socket.try_write(self.queue.as_slices().0) {
                    Ok(count) => drop(self.queue.drain(..count)),
                    // tokio has noted it, and `poll_write_ready` waits.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => self.phase = Phase::Broken,
                },
            }
        }
        match self.phase {
            Phase::Broken => Flushed::Over,
            Phase::Leaving if self.queue.is_empty() => Flushed::Over,
            Phase::Attached | Phase::Leaving if self.queue.len() < before => {
                if self.queue.is_empty() {
                    // An idle client takes no memory.
                    self.queue = VecDeque::new();
                }
                Flushed::Progress
            }
            Phase::Attached | Phase::Leaving => Flushed::Nothing,
        }
    }

    /// The next frame; `None` where the connection has ended or makes no sense.
    pub(super) fn poll_event(&mut self, waker: &mut Waker<'_>) -> Poll<Option<ClientEvent>> {
        loop {
            match self.take_frame() {
                Ok(Some(event)) => return Poll::Ready(Some(event)),
                Ok(None) => {}
                Err(Nonsense) => return Poll::Ready(None),
            }
            if ready!(self.socket.poll_read_ready(waker)).is_err() {
                return Poll::Ready(None);
            }
            self.incoming.reserve(READ);
            match self.socket.try_read_buf(&mut self.incoming) {
                Ok(0) => return Poll::Ready(None),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(None),
            }
        }
    }

    /// Takes the first whole frame that means something out of `incoming`.
    fn take_frame(&mut self) -> Result<Option<ClientEvent>, Nonsense> {
        while let [kind, a, b, c, d, rest @ ..] = self.incoming.as_slice() {
            let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
            if length > MAX_FRAME {
                return Err(Nonsense);
            }
            let Some(body) = rest.get(..length) else { break };
            let event = match (*kind, body) {
                (frame::STDIN, input) if self.wants_stdin => {
                    self.under_way += input.len();
                    if self.under_way > STDIN_WINDOW {
                        return Err(Nonsense);
                    }
                    Some(ClientEvent::Stdin(input.to_vec()))
                }
                (frame::STDIN_END, []) if self.wants_stdin => Some(ClientEvent::StdinEnd),
                (frame::RESIZE, [r0, r1, c0, c1]) => Some(ClientEvent::Resize {
                    rows: u16::from_le_bytes([*r0, *r1]),
                    columns: u16::from_le_bytes([*c0, *c1]),
                }),
                (frame::SIGNAL, [signal]) => Some(ClientEvent::Signal(*signal)),
                (frame::RESIZE | frame::SIGNAL, _) => return Err(Nonsense),
                // Of a newer client, or input that was not asked for.
                _ => None,
            };
            self.incoming.drain(..HEADER + length);
            if self.incoming.is_empty() {
                self.incoming = Vec::new();
            }
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }
}

/// The client does not speak our protocol.
struct Nonsense;

fn send_parts(socket: &UnixStream, parts: &[IoSlice<'_>]) -> rustix::io::Result<usize> {
    use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(socket, parts, &mut SendAncillaryBuffer::default(), flags)
}
