//! The streams of one command: to its client and back, or into memory.

// As in `pump`.
#![allow(deprecated)]

use crate::error::BestEffort;
use crate::monitor::clients::read_frame;
use crate::monitor::life::Container;
use crate::monitor::messages::{STDIN_WINDOW, frame};
use crate::monitor::pump::{self, CHUNK, Pipes, non_blocking, write_all};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, mpsc, watch};

/// How long output may still come after the command's end, where others hold
/// its pipes: docker's.
const DRAIN: Duration = Duration::from_secs(2);

/// Bytes that a pipe may still hold then: its largest size.
const LAST: usize = 1 << 20;

/// Bytes before the body of a frame: its kind and length.
const HEADER: usize = 5;

/// A command and its client.
pub(super) struct Session {
    read: Cell<Option<OwnedReadHalf>>,
    /// `None` where the client has gone.
    write: Mutex<Option<OwnedWriteHalf>>,
    over: watch::Sender<bool>,
}

/// Input on its way to the command.
enum Typed {
    Bytes(Vec<u8>),
    End,
}

impl Session {
    /// Nobody listens.
    pub(super) fn alone() -> Rc<Self> {
        Self::new(None, None)
    }

    pub(super) fn of(stream: UnixStream) -> Rc<Self> {
        let (read, write) = stream.into_split();
        Self::new(Some(read), Some(write))
    }

    fn new(read: Option<OwnedReadHalf>, write: Option<OwnedWriteHalf>) -> Rc<Self> {
        Rc::new(Self { read: Cell::new(read), write: Mutex::new(write), over: watch::Sender::new(false) })
    }

    /// The command has ended.
    pub(super) fn over(&self) {
        self.over.send_replace(true);
    }

    /// Carries everything until the command has ended (which `end` tells, with
    /// the code) and its output is read.
    pub(super) async fn carry(
        self: &Rc<Self>,
        container: &Rc<Container>,
        pipes: Pipes,
        pidfd: &OwnedFd,
        end: impl Future<Output = u8>,
    ) -> u8 {
        let Pipes { terminal, stdin, stdout, stderr } = pipes;
        let clone = |fd: &OwnedFd| fd.try_clone().ok();
        let input = terminal.as_ref().map_or(stdin, clone);
        let (typed, to_write) = mpsc::unbounded_channel();
        // What the client has sent and the command not yet taken.
        let under_way = Rc::new(Cell::new(0));
        let writer = input.map(|fd| {
            let client = Client { session: Rc::clone(self), container: Rc::clone(container) };
            tokio::task::spawn_local(client.write(fd, to_write, terminal.is_some(), Rc::clone(&under_way)))
        });
        let reader = self.read.take().map(|read| {
            let client = Client { session: Rc::clone(self), container: Rc::clone(container) };
            let fds = Fds { terminal: terminal.as_ref().and_then(clone), process: clone(pidfd) };
            tokio::task::spawn_local(client.read(read, typed, fds, under_way))
        });
        let out = self.pump(container, terminal.or(stdout), frame::STDOUT);
        let err = self.pump(container, stderr, frame::STDERR);
        // What was written first is mostly on stdout.
        let ((), (), code) = tokio::join!(biased; out, err, end);
        for task in [writer, reader].into_iter().flatten() {
            task.abort();
        }
        code
    }

    async fn pump(&self, container: &Container, fd: Option<OwnedFd>, kind: u8) {
        let send = async |piece: &mut [u8]| self.write(container, kind, piece).await;
        pump_output(fd, self.over.subscribe(), send).await;
    }

    /// Sends a frame.
    pub(super) async fn tell(&self, container: &Container, kind: u8, body: &[u8]) {
        let mut piece = vec![0; HEADER];
        piece.extend_from_slice(body);
        self.write(container, kind, &mut piece).await;
    }

    /// Sends a frame, for whose header `piece` has room. Returns when the socket
    /// has it: who waits for it does not read on meanwhile.
    async fn write(&self, container: &Container, kind: u8, piece: &mut [u8]) {
        let length = (piece.len() - HEADER) as u32;
        piece[0] = kind;
        piece[1..HEADER].copy_from_slice(&length.to_le_bytes());
        let mut write = self.write.lock().await;
        if let Some(half) = write.as_mut() {
            let mut rest = &*piece;
            while !rest.is_empty() {
                match half.write(rest).await {
                    Ok(count) => {
                        rest = &rest[count..];
                        container.execs.progress();
                    }
                    // It has gone: the command goes on without it.
                    Err(_) => {
                        *write = None;
                        return;
                    }
                }
            }
        }
    }
}

/// What a client's frames are about.
struct Fds {
    terminal: Option<OwnedFd>,
    process: Option<OwnedFd>,
}

/// One direction of a session, as a task.
struct Client {
    session: Rc<Session>,
    container: Rc<Container>,
}

impl Client {
    async fn read(
        self,
        mut read: OwnedReadHalf,
        typed: mpsc::UnboundedSender<Typed>,
        fds: Fds,
        under_way: Rc<Cell<usize>>,
    ) {
        let mut body = Vec::new();
        while let Some(kind) = read_frame(&mut read, &mut body).await {
            match (kind, body.as_slice()) {
                (frame::STDIN, bytes) => {
                    under_way.set(under_way.get() + bytes.len());
                    // More than it was told: it does not keep to the protocol.
                    if under_way.get() > STDIN_WINDOW {
                        break;
                    }
                    if typed.send(Typed::Bytes(bytes.to_vec())).is_err() {
                        // Nobody reads it: it counts as taken.
                        under_way.set(0);
                        self.taken(bytes.len()).await;
                    }
                }
                (frame::STDIN_END, _) => typed.send(Typed::End).unwrap_or(()),
                (frame::RESIZE, &[r0, r1, c0, c1]) => {
                    if let Some(terminal) = &fds.terminal {
                        let (rows, columns) = (u16::from_le_bytes([r0, r1]), u16::from_le_bytes([c0, c1]));
                        pump::resize(terminal.as_fd(), rows, columns).or_ignore();
                    }
                }
                (frame::SIGNAL, &[signal]) => {
                    if let Some(process) = &fds.process {
                        crate::sys::process::pidfd_send_signal(process, i32::from(signal)).or_ignore();
                    }
                }
                _ => {}
            }
        }
        // The client has gone: no more input comes.
        typed.send(Typed::End).unwrap_or(());
    }

    async fn write(
        self,
        fd: OwnedFd,
        mut typed: mpsc::UnboundedReceiver<Typed>,
        is_terminal: bool,
        under_way: Rc<Cell<usize>>,
    ) {
        let Some(fd) = non_blocking(fd) else { return };
        let Ok(fd) = AsyncFd::with_interest(fd, Interest::WRITABLE) else { return };
        while let Some(piece) = typed.recv().await {
            match piece {
                // A terminal has no end of its own.
                Typed::End if is_terminal => {}
                Typed::End => return,
                Typed::Bytes(bytes) => {
                    if !write_all(&fd, &bytes).await {
                        return;
                    }
                    under_way.set(under_way.get().saturating_sub(bytes.len()));
                    self.taken(bytes.len()).await;
                }
            }
        }
    }

    async fn taken(&self, count: usize) {
        self.session.tell(&self.container, frame::STDIN_TAKEN, &(count as u32).to_le_bytes()).await;
    }
}

/// Output that is kept.
pub(super) struct Collector {
    bytes: RefCell<Vec<u8>>,
    limit: usize,
    over: watch::Sender<bool>,
}

impl Collector {
    pub(super) fn new(limit: usize) -> Self {
        Self { bytes: RefCell::default(), limit, over: watch::Sender::new(false) }
    }

    /// The command has ended.
    pub(super) fn over(&self) {
        self.over.send_replace(true);
    }

    pub(super) async fn collect(&self, fd: Option<OwnedFd>) {
        let keep = async |piece: &mut [u8]| {
            let mut bytes = self.bytes.borrow_mut();
            let room = self.limit - bytes.len();
            bytes.extend(piece[HEADER..].iter().take(room));
        };
        pump_output(fd, self.over.subscribe(), keep).await;
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes.into_inner()
    }
}

/// Gives each piece of output to `sink`, with room for a frame's header before
/// it, until the stream ends; where others hold it open after the command's
/// end, until [`DRAIN`] later.
async fn pump_output(
    fd: Option<OwnedFd>,
    mut over: watch::Receiver<bool>,
    mut sink: impl AsyncFnMut(&mut [u8]),
) {
    let Some(fd) = fd.and_then(non_blocking) else { return };
    let Ok(fd) = AsyncFd::with_interest(fd, Interest::READABLE) else { return };
    let mut buffer = vec![0; HEADER + CHUNK];
    let late = async {
        while !*over.borrow_and_update() {
            if over.changed().await.is_err() {
                break;
            }
        }
        tokio::time::sleep(DRAIN).await;
    };
    tokio::pin!(late);
    // What may still be read once it is late: nothing is waited for any more.
    let mut left = None;
    loop {
        // An fd that is always readable never yields by itself.
        tokio::task::yield_now().await;
        let read = if let Some(left) = left {
            if left == 0 {
                return;
            }
            Ok(rustix::io::read(fd.get_ref(), &mut buffer[HEADER..]).map_err(std::io::Error::from))
        } else {
            tokio::select! {
                ready = fd.readable() => {
                    let Ok(mut ready) = ready else { return };
                    ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut buffer[HEADER..])?))
                }
                () = &mut late => {
                    left = Some(LAST);
                    continue;
                }
            }
        };
        match read {
            Ok(Ok(0)) => return,
            Ok(Ok(count)) => {
                left = left.map(|left: usize| left.saturating_sub(count));
                sink(&mut buffer[..HEADER + count]).await;
            }
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
            // EIO: the last slave of the terminal was closed. EAGAIN: it is late.
            Ok(Err(_)) => return,
            Err(_would_block) => {}
        }
    }
}
