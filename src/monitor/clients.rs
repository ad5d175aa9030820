//! Who listens to the container, and who types into it.
//!
//! Memory is bounded: each client has a queue of [`QUEUE`] pieces. The
//! foreground client (the `run` or `start -a` that started the container) slows
//! the container down when it is slow, as the reader of a shell's pipe does; so
//! does any other client. But of one that takes nothing at all for [`GRACE`]
//! the container does not wait: what is for it goes to a file ([`spool`]) until
//! it has caught up. Where that is full it is dropped, and told so.

mod spool;

use super::life::Container;
use super::log_file::{LogWriter, Stream};
use super::messages::{MAX_FRAME, STDIN_WINDOW, frame};
use super::pump::{self, Input};
use crate::error::BestEffort;
use crate::types::status::Exit;
use spool::Pace;
use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};

/// Pieces of at most 16 KiB that wait for one client: 512 KiB.
const QUEUE: usize = 32;
/// How long the container waits for a client, other than the foreground's, whose
/// queue is full and who takes nothing.
const GRACE: std::time::Duration = std::time::Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Foreground,
    Beside,
}

struct Client {
    number: u64,
    queue: mpsc::Sender<Rc<[u8]>>,
    place: Place,
    pace: Rc<Pace>,
}

impl Client {
    /// Whether it must be waited for before there is more for it.
    fn is_full(&self) -> bool {
        let has_room = || self.pace.is_spooling() || self.queue.capacity() >= QUEUE / 2;
        !self.queue.is_closed() && (self.pace.is_full() || !has_room())
    }

    /// `false` where it cannot have it.
    fn give(&self, piece: &Rc<[u8]>) -> bool {
        if self.pace.is_spooling() {
            self.pace.append(piece).is_ok()
        } else {
            self.queue.try_send(Rc::clone(piece)).is_ok()
        }
    }

    /// It has taken nothing for long. `false` where the container goes on without it.
    fn is_kept(&self, directory: &std::path::Path) -> bool {
        if self.place == Place::Foreground || !self.is_full() {
            return true;
        }
        let is_kept = !self.pace.is_spooling() && self.pace.spool(directory).is_ok();
        if !is_kept {
            self.pace.drop_client();
        }
        is_kept
    }
}

/// The container's output to its log and clients, their input to it.
pub(super) struct Hub {
    log: RefCell<LogWriter>,
    /// The container's own, for spools.
    directory: PathBuf,
    clients: RefCell<Vec<Client>>,
    next: Cell<u64>,
    /// Room in some queue, or a client gone.
    moved: Notify,
    stdin: RefCell<Option<mpsc::UnboundedSender<Input>>>,
    terminal: RefCell<Option<OwnedFd>>,
}

impl Hub {
    pub(super) fn new(log: LogWriter, directory: PathBuf) -> Self {
        Self {
            log: RefCell::new(log),
            directory,
            clients: RefCell::default(),
            next: Cell::new(0),
            moved: Notify::new(),
            stdin: RefCell::default(),
            terminal: RefCell::default(),
        }
    }

    pub(super) fn set_stdin(&self, stdin: Option<mpsc::UnboundedSender<Input>>, terminal: Option<OwnedFd>) {
        *self.stdin.borrow_mut() = stdin;
        *self.terminal.borrow_mut() = terminal;
    }

    pub(super) fn output(&self, stream: Stream, bytes: &[u8]) {
        self.log.borrow_mut().write(stream, bytes);
        if self.clients.borrow().is_empty() {
            return;
        }
        let kind = match stream {
            Stream::Stdout => frame::STDOUT,
            Stream::Stderr => frame::STDERR,
        };
        let piece = encode(kind, bytes);
        // Nobody is waited for here: the foreground's room was waited for before.
        self.clients.borrow_mut().retain(|client| {
            let is_given = client.give(&piece);
            if !is_given {
                client.pace.drop_client();
            }
            is_given
        });
    }

    /// At the end of a run: what has no newline yet is written as it is.
    pub(super) fn flush_log(&self) {
        self.log.borrow_mut().flush_partial();
    }

    /// Returns when every client has room: for a piece of stdout and one of
    /// stderr at once, and for the acknowledgements of its whole window. Clients
    /// beside the foreground's are not waited for without end.
    pub(super) async fn wait_until_ready(&self) {
        loop {
            let moved = self.moved.notified();
            if !self.clients.borrow().iter().any(Client::is_full) {
                return;
            }
            if tokio::time::timeout(GRACE, moved).await.is_err() {
                self.clients.borrow_mut().retain(|client| client.is_kept(&self.directory));
            }
        }
    }

    pub(super) fn add_foreground(&self, stream: StdUnixStream, container: &Rc<Container>) {
        if stream.set_nonblocking(true).is_ok() {
            if let Ok(stream) = UnixStream::from_std(stream) {
                self.add(stream, Place::Foreground, container);
            }
        }
    }

    /// A client that came over the control socket.
    pub(super) fn add_beside(&self, stream: UnixStream, container: &Rc<Container>) {
        self.add(stream, Place::Beside, container);
    }

    fn add(&self, stream: UnixStream, place: Place, container: &Rc<Container>) {
        let (read, write) = stream.into_split();
        let (queue, pieces) = mpsc::channel(QUEUE);
        let number = self.next.replace(self.next.get() + 1);
        let waiting = Waiting { pieces, pace: Rc::default() };
        self.clients.borrow_mut().push(Client { number, queue, place, pace: Rc::clone(&waiting.pace) });
        tokio::task::spawn_local(write_to_client(Rc::clone(container), number, write, waiting));
        tokio::task::spawn_local(read_from_client(Rc::clone(container), number, read, place));
    }

    fn remove(&self, number: u64) {
        self.clients.borrow_mut().retain(|client| client.number != number);
        self.moved.notify_waiters();
    }

    /// The last frame of all; returns when each client has it, or is gone: all
    /// of the output before it is theirs, however slowly they read.
    pub(super) async fn tell_exit(&self, exit: &Exit) {
        let Ok(body) = serde_json::to_vec(exit) else { return };
        let piece = encode(frame::EXITED, &body);
        let clients: Vec<Client> = self.clients.borrow_mut().drain(..).collect();
        for Client { queue, pace, .. } in clients {
            if pace.is_spooling() {
                match pace.append(&piece) {
                    Ok(()) => pace.complete(),
                    Err(_) => pace.drop_client(),
                }
            } else {
                // Gone where it cannot be sent.
                queue.send(Rc::clone(&piece)).await.unwrap_or(());
            }
            // The writer drops its end once it has written the frame.
            queue.closed().await;
        }
    }

    /// The container took this much of a client's input.
    pub(super) fn taken(&self, client: u64, count: usize) {
        let piece = encode(frame::STDIN_TAKEN, &(count as u32).to_le_bytes());
        if let Some(client) = self.clients.borrow().iter().find(|other| other.number == client) {
            // Room was left for it: see `wait_until_ready`.
            client.give(&piece);
        }
    }

    /// Whether the end of this client's input is that of the container's: it is
    /// with the client that started it, or with any other where there is none
    /// and `StdinOnce` says so.
    fn ends_input(&self, place: Place, container: &Container) -> bool {
        let clients = self.clients.borrow();
        let has_foreground = || clients.iter().any(|client| client.place == Place::Foreground);
        place == Place::Foreground || container.record.config.stdin_once() && !has_foreground()
    }

    fn type_in(&self) -> Option<mpsc::UnboundedSender<Input>> {
        self.stdin.borrow().clone()
    }

    fn resize(&self, rows: u16, columns: u16) {
        if let Some(terminal) = &*self.terminal.borrow() {
            pump::resize(terminal.as_fd(), rows, columns).or_ignore();
        }
    }
}

fn encode(kind: u8, bytes: &[u8]) -> Rc<[u8]> {
    let mut piece = Vec::with_capacity(bytes.len() + 5);
    piece.push(kind);
    piece.extend((bytes.len() as u32).to_le_bytes());
    piece.extend(bytes);
    piece.into()
}

/// What is for a client and was not written to it.
struct Waiting {
    pieces: mpsc::Receiver<Rc<[u8]>>,
    pace: Rc<Pace>,
}

impl Waiting {
    /// `None` where there will be no more. What was queued is older than what is
    /// in the spool: while there is one, nothing is queued.
    async fn next(&mut self) -> Option<Rc<[u8]>> {
        if let Ok(piece) = self.pieces.try_recv() {
            return Some(piece);
        }
        if let Some(bytes) = self.pace.next() {
            return Some(bytes.into());
        }
        if self.pace.is_complete() || self.pace.is_dropped() {
            return None;
        }
        self.pieces.recv().await
    }
}

async fn write_to_client(
    container: Rc<Container>,
    number: u64,
    mut write: OwnedWriteHalf,
    mut waiting: Waiting,
) {
    let mut is_over = false;
    while !is_over && let Some(piece) = waiting.next().await {
        is_over = write.write_all(&piece).await.is_err() || is_exit(&piece, &waiting.pace);
        container.hub.moved.notify_waiters();
    }
    if !is_over && waiting.pace.is_dropped() {
        write.write_all(&encode(frame::DROPPED, b"")).await.unwrap_or(());
    }
    container.hub.remove(number);
}

/// Of the queue; what comes of the spool are parts of frames.
fn is_exit(piece: &[u8], pace: &Pace) -> bool {
    !pace.is_spooling() && piece.first() == Some(&frame::EXITED)
}

async fn read_from_client(container: Rc<Container>, number: u64, mut read: OwnedReadHalf, place: Place) {
    let mut body = Vec::new();
    let under_way = Rc::new(Cell::new(0));
    while let Some(kind) = read_frame(&mut read, &mut body).await {
        match (kind, body.as_slice()) {
            (frame::STDIN, bytes) => {
                under_way.set(under_way.get() + bytes.len());
                // More than it was told: it does not keep to the protocol.
                if under_way.get() > STDIN_WINDOW {
                    break;
                }
                let input =
                    Input::Bytes { bytes: bytes.to_vec(), client: number, under_way: Rc::clone(&under_way) };
                let sent = container.hub.type_in().is_some_and(|stdin| stdin.send(input).is_ok());
                if !sent {
                    // Nobody will read it: it counts as taken, or the client would wait.
                    under_way.set(0);
                    container.hub.taken(number, bytes.len());
                }
            }
            (frame::STDIN_END, _) if container.hub.ends_input(place, &container) => {
                container.hub.type_in().map_or(Ok(()), |stdin| stdin.send(Input::End)).unwrap_or(());
            }
            (frame::RESIZE, &[r0, r1, c0, c1]) => {
                container.hub.resize(u16::from_le_bytes([r0, r1]), u16::from_le_bytes([c0, c1]));
            }
            (frame::SIGNAL, &[signal]) => container.control.signal(i32::from(signal)).or_ignore(),
            _ => {}
        }
    }
    container.hub.remove(number);
}

/// The next frame's kind; its body replaces what is in `body`. `None` at the
/// end, and for a client that does not keep to the protocol.
pub(super) async fn read_frame(read: &mut OwnedReadHalf, body: &mut Vec<u8>) -> Option<u8> {
    let kind = read.read_u8().await.ok()?;
    let length = read.read_u32_le().await.ok()? as usize;
    if length > MAX_FRAME {
        return None;
    }
    body.resize(length, 0);
    read.read_exact(body).await.ok()?;
    Some(kind)
}
