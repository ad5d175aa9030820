//! The container's stdin, stdout and stderr: pipes or a terminal, pumped.

// `AsyncFd::new` is deprecated for types that may change their fd; an `OwnedFd`
// or `BorrowedFd` does not.
#![allow(deprecated)]

use super::life::Container;
use super::log_file::Stream;
use crate::error::{BestEffort, Context, Result};
use crate::runtime::plan::Stdio;
use crate::types::container::{ContainerConfig, LogDriver};
use crate::types::exec::ExecRequest;
use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// Bytes per read: a quarter of a pipe, docker's piece of a log line.
pub(super) const CHUNK: usize = 16 << 10;

/// The monitor's ends.
#[derive(Default)]
pub(super) struct Pipes {
    /// The terminal's master, which stands for all three.
    pub(super) terminal: Option<OwnedFd>,
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

/// What a client does to the container's stdin.
pub(super) enum Input {
    Bytes {
        bytes: Vec<u8>,
        client: u64,
        /// What this client has sent and the container not yet taken.
        under_way: Rc<Cell<usize>>,
    },
    End,
}

/// Both sides' ends, as the config asks for them.
pub(super) fn make(config: &ContainerConfig) -> Result<(Stdio, Pipes)> {
    let step = || "make the container's stdio";
    if config.tty {
        return Ok((Stdio::default(), Pipes::default()));
    }
    if config.log.driver == LogDriver::Passthrough {
        let own = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().context(step).map(Some);
        let stdio = Stdio {
            stdin: if config.interactive { own(rustix::stdio::stdin())? } else { None },
            stdout: own(rustix::stdio::stdout())?,
            stderr: own(rustix::stdio::stderr())?,
        };
        return Ok((stdio, Pipes::default()));
    }
    pipes(config.interactive).context(step)
}

/// The same for a further command. Where nobody listens, what it has no pipe
/// for is /dev/null.
pub(super) fn make_for_exec(request: &ExecRequest, outputs: Outputs) -> Result<(Stdio, Pipes)> {
    if request.tty || request.detach {
        return Ok((Stdio::default(), Pipes::default()));
    }
    let step = || "make the command's stdio";
    let (mut stdio, mut pipes) = pipes(request.interactive).context(step)?;
    if outputs == Outputs::Together {
        let stdout = stdio.stdout.as_ref().map(OwnedFd::try_clone);
        (stdio.stderr, pipes.stderr) = (stdout.transpose().context(step)?, None);
    }
    Ok((stdio, pipes))
}

/// Whether stdout and stderr of a further command are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outputs {
    Apart,
    /// One pipe has both, in the order in which they were written.
    Together,
}

/// Pipes for stdout and stderr, and for stdin where it is `interactive`.
fn pipes(interactive: bool) -> rustix::io::Result<(Stdio, Pipes)> {
    let mut stdio = Stdio::default();
    let mut pipes = Pipes::default();
    let pipe = || pipe_with(PipeFlags::CLOEXEC);
    if interactive {
        let (read, write) = pipe()?;
        (stdio.stdin, pipes.stdin) = (Some(read), Some(write));
    }
    let (read, write) = pipe()?;
    (pipes.stdout, stdio.stdout) = (Some(read), Some(write));
    let (read, write) = pipe()?;
    (pipes.stderr, stdio.stderr) = (Some(read), Some(write));
    Ok((stdio, pipes))
}

/// Sets the size of a terminal; its foreground processes get SIGWINCH.
pub(super) fn resize(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<()> {
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).context(|| "resize the terminal")
}

/// Moves bytes until both outputs have ended.
pub(super) async fn pump(container: Rc<Container>, pipes: Pipes) {
    let Pipes { terminal, stdin, stdout, stderr } = pipes;
    let input = match (&terminal, stdin) {
        (Some(master), _) => master.try_clone().ok(),
        (None, pipe) => pipe,
    };
    let writer = input.map(|fd| {
        let (sender, receiver) = mpsc::unbounded_channel();
        container.hub.set_stdin(Some(sender), terminal.as_ref().and_then(|master| master.try_clone().ok()));
        let is_terminal = terminal.is_some();
        tokio::task::spawn_local(write_input(Rc::clone(&container), fd, receiver, is_terminal))
    });
    let out = pump_output(&container, terminal.or(stdout), Stream::Stdout);
    let err = pump_output(&container, stderr, Stream::Stderr);
    // What was written first is mostly on stdout: without an order it would be random.
    tokio::join!(biased; out, err);
    container.hub.set_stdin(None, None);
    if let Some(writer) = writer {
        writer.abort();
    }
}

async fn pump_output(container: &Rc<Container>, fd: Option<OwnedFd>, stream: Stream) {
    let Some(fd) = fd.and_then(non_blocking) else { return };
    let Ok(fd) = AsyncFd::with_interest(fd, Interest::READABLE) else { return };
    let mut buffer = vec![0; CHUNK];
    loop {
        // A slow foreground client slows the container, as a shell's pipe does.
        container.hub.wait_until_ready().await;
        // An fd that is always readable never yields by itself: a container that
        // floods its output would keep everyone else from the monitor.
        tokio::task::yield_now().await;
        let Ok(mut guard) = fd.readable().await else { return };
        let read = guard.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut buffer)?));
        match read {
            Ok(Ok(0)) => return,
            Ok(Ok(count)) => container.hub.output(stream, &buffer[..count]),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
            // EIO: the last slave of the terminal was closed.
            Ok(Err(_)) => return,
            Err(_would_block) => {}
        }
    }
}

/// The queue is bounded by each client's window.
async fn write_input(
    container: Rc<Container>,
    fd: OwnedFd,
    mut input: mpsc::UnboundedReceiver<Input>,
    is_terminal: bool,
) {
    let Some(fd) = non_blocking(fd) else { return };
    let Ok(fd) = AsyncFd::with_interest(fd, Interest::WRITABLE) else { return };
    while let Some(piece) = input.recv().await {
        match piece {
            // A terminal has no end of its own: its reader is told by a ^D.
            Input::End if is_terminal => {}
            Input::End => return,
            Input::Bytes { bytes, client, under_way } => {
                if !write_all(&fd, &bytes).await {
                    return;
                }
                under_way.set(under_way.get().saturating_sub(bytes.len()));
                container.hub.taken(client, bytes.len());
            }
        }
    }
}

/// `false` where nobody reads any more.
pub(super) async fn write_all(fd: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        tokio::task::consume_budget().await;
        let Ok(mut guard) = fd.writable().await else { return false };
        match guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
            Ok(Ok(count)) => bytes = &bytes[count..],
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(Err(_)) => return false,
            Err(_would_block) => {}
        }
    }
    true
}

pub(super) fn non_blocking(fd: OwnedFd) -> Option<OwnedFd> {
    let flags = rustix::fs::fcntl_getfl(fd.as_fd()).ok()?;
    rustix::fs::fcntl_setfl(fd.as_fd(), flags | OFlags::NONBLOCK).or_ignore();
    Some(fd)
}
