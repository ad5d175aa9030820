//! The loop of an attachment: what may be waited for, and what then is done.

use super::detach::{DetachFilter, Typed};
use super::output::Output;
use super::signals::{self, Caught, Signals};
use super::{AttachEnd, AttachOptions, STDIN_TAKEN, STDIN_WINDOW, Stdio};
use crate::error::{Context, Error, Result};
use crate::monitor::messages::{MAX_FRAME, frame};
use crate::sys::tty::{is_terminal, window_size};
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

/// Bytes of stdin read at a time.
const READ: usize = 16 << 10;
/// Docker's: so many times INT or TERM, and its client leaves.
const MOST_ENDS: u32 = 3;
/// Bytes before the body of a frame.
const HEADER: usize = 5;

/// Why [`Session::run`] returned.
#[derive(Debug)]
pub(super) enum Pause {
    End(AttachEnd),
    Signal(signals::Pause),
}

/// One attachment.
#[derive(Debug)]
pub(super) struct Session<'a> {
    socket: UnixStream,
    stdin: Input<'a>,
    stdout: Output<'a>,
    stderr: Output<'a>,
    /// No output is attached: the end of the input is the end.
    input_only: bool,
    /// The terminal whose size the container's terminal has.
    window: Option<BorrowedFd<'a>>,
    is_resized: bool,
    /// Signals to be passed on, bit n for signal n + 1.
    signals: u64,
    /// How often we were asked to end.
    ends_asked: u32,
    /// To the monitor: frames, and how many bytes of them are sent. Filled
    /// only when it is empty.
    outgoing: Vec<u8>,
    sent: usize,
    /// The monitor hears us.
    is_heard: bool,
    /// From the monitor, and how many bytes of it are dealt with.
    incoming: Vec<u8>,
    taken: usize,
    /// The frame whose body is being received: kind and bytes that are missing.
    frame: Option<(u8, usize)>,
    /// The body of a frame that is not output.
    body: Vec<u8>,
}

/// Our stdin.
#[derive(Debug)]
struct Input<'a> {
    fd: BorrowedFd<'a>,
    is_open: bool,
    /// Its end is to be told.
    has_ended: bool,
    /// With a raw terminal.
    filter: Option<DetachFilter>,
    /// Bytes that the monitor has not acknowledged.
    under_way: usize,
}

/// What `poll` found.
#[derive(Clone, Copy, Debug, Default)]
struct Ready {
    socket: bool,
    signal: bool,
    stdin: bool,
    is_hung_up: bool,
    output: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(socket: UnixStream, options: &AttachOptions, stdio: Stdio<'a>, raw: bool) -> Self {
        let Stdio { stdin, stdout, stderr } = stdio;
        let window = [stdout, stdin, stderr].into_iter().find(|fd| options.tty && is_terminal(*fd));
        Self {
            socket,
            stdin: Input {
                fd: stdin,
                is_open: options.stdin,
                has_ended: false,
                filter: raw.then(|| DetachFilter::new(&options.detach_keys)),
                under_way: 0,
            },
            stdout: Output::new(stdout, "standard output", options.stdout),
            stderr: Output::new(stderr, "standard error", options.stderr),
            input_only: options.shows_nothing(),
            window,
            is_resized: window.is_some(),
            signals: 0,
            ends_asked: 0,
            outgoing: Vec::new(),
            sent: 0,
            is_heard: true,
            incoming: Vec::new(),
            taken: 0,
            frame: None,
            body: Vec::new(),
        }
    }

    /// Tells the container the size of our window.
    pub(super) fn resized(&mut self) {
        self.is_resized = self.window.is_some();
    }

    /// Runs until the end, or until the terminal must be restored for a while.
    pub(super) fn run(&mut self, mut signals: Option<&mut Signals>) -> Result<Pause> {
        let mut ready = Ready::default();
        loop {
            if let Some(signals) = signals.as_deref_mut()
                && ready.signal
                && let Some(pause) = self.take_signals(signals)?
            {
                return Ok(Pause::Signal(pause));
            }
            if ready.stdin
                && let Some(end) = self.read_stdin(ready.is_hung_up)?
            {
                return Ok(Pause::End(end));
            }
            self.send()?;
            if self.ends_asked >= MOST_ENDS {
                return Ok(Pause::End(AttachEnd::Forced));
            }
            if self.input_only && self.is_heard && self.is_input_over() {
                return Ok(Pause::End(AttachEnd::Detached));
            }
            if ready.socket && self.is_all_taken() && !self.receive()? {
                return Ok(Pause::End(AttachEnd::MonitorGone));
            }
            if let Some(end) = self.take_frames(ready.output)? {
                return Ok(Pause::End(end));
            }
            ready = self.wait(signals.as_deref())?;
        }
    }

    /// The result: `end`, unless output was lost.
    pub(super) fn finish(self, end: AttachEnd) -> Result<AttachEnd> {
        self.stdout.finish()?;
        self.stderr.finish()?;
        Ok(end)
    }

    fn wait(&self, signals: Option<&Signals>) -> Result<Ready> {
        let mut socket_events = PollFlags::empty();
        socket_events.set(PollFlags::IN, self.is_all_taken());
        socket_events.set(PollFlags::OUT, !self.outgoing.is_empty());
        // A hang-up is always told, so only what is waited for is in the list.
        let socket = (!socket_events.is_empty()).then(|| PollFd::new(&self.socket, socket_events));
        let signal = signals.map(|signals| PollFd::new(signals, PollFlags::IN));
        let stdin = self.wants_stdin().then(|| PollFd::new(&self.stdin.fd, PollFlags::IN));
        let output = self.blocked_output().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT));
        let present = [socket.is_some(), signal.is_some(), stdin.is_some(), output.is_some()];
        let mut fds: Vec<PollFd<'_>> = [socket, signal, stdin, output].into_iter().flatten().collect();
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Ready::default()),
            Err(errno) => return Err(errno).context(|| "wait for the container"),
        }
        let mut found = fds.iter().map(PollFd::revents);
        let [socket, signal, stdin, output] = present.map(|present| {
            if present { found.next().unwrap_or(PollFlags::empty()) } else { PollFlags::empty() }
        });
        Ok(Ready {
            socket: !socket.is_empty(),
            signal: !signal.is_empty(),
            stdin: !stdin.is_empty(),
            is_hung_up: stdin.contains(PollFlags::HUP),
            output: !output.is_empty(),
        })
    }

    /// `None` where all signals that arrived are dealt with.
    fn take_signals(&mut self, signals: &mut Signals) -> Result<Option<signals::Pause>> {
        while let Some(caught) = signals.next().context(|| "read a signal")? {
            match caught {
                Caught::Proxy(number) => {
                    self.signals |= 1 << (u32::from(number) - 1);
                    self.ends_asked += u32::from(matches!(i32::from(number), libc::SIGINT | libc::SIGTERM));
                }
                Caught::Resize => self.resized(),
                Caught::Pause(pause) => return Ok(Some(pause)),
            }
        }
        Ok(None)
    }

    fn wants_stdin(&self) -> bool {
        self.stdin.is_open && self.outgoing.is_empty() && self.stdin.room() > 0
    }

    /// Whether the monitor was sent all input, and its end.
    fn is_input_over(&self) -> bool {
        !self.stdin.is_open && !self.stdin.has_ended && self.outgoing.is_empty()
    }

    /// Puts input into `outgoing`, which is empty.
    fn read_stdin(&mut self, is_hung_up: bool) -> Result<Option<AttachEnd>> {
        let input = &mut self.stdin;
        let mut bytes = Vec::with_capacity(READ.min(input.room()));
        let count = match rustix::io::read(input.fd, spare_capacity(&mut bytes)) {
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            // Closed, a directory, or a terminal whose background we are: no input.
            Err(Errno::BADF | Errno::ISDIR | Errno::IO) => 0,
            Err(errno) => return Err(errno).context(|| "read standard input"),
        };
        if count == 0 && is_hung_up && input.filter.is_some() {
            return Ok(Some(AttachEnd::Detached));
        }
        let mut passed = Vec::new();
        let passed = match &mut input.filter {
            None => bytes,
            Some(filter) if count == 0 => {
                filter.finish(&mut passed);
                passed
            }
            Some(filter) => match filter.filter(&bytes, &mut passed) {
                Typed::Detach => return Ok(Some(AttachEnd::Detached)),
                Typed::Input => passed,
            },
        };
        if count == 0 {
            input.is_open = false;
            input.has_ended = true;
        }
        input.under_way += passed.len();
        if !passed.is_empty() {
            push_frame(&mut self.outgoing, frame::STDIN, &passed);
        }
        Ok(None)
    }

    /// Sends what the socket takes.
    fn send(&mut self) -> Result<()> {
        loop {
            if self.outgoing.is_empty() {
                self.fill_outgoing();
            }
            while self.is_heard && self.sent < self.outgoing.len() {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                match rustix::net::send(&self.socket, &self.outgoing[self.sent..], flags) {
                    Ok(count) => self.sent += count,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return Ok(()),
                    // It may still have said something to us.
                    Err(Errno::PIPE | Errno::CONNRESET) => self.is_heard = false,
                    Err(errno) => return Err(errno).context(|| "send to the monitor"),
                }
            }
            self.stdin.is_open &= self.is_heard;
            self.sent = 0;
            if self.outgoing.is_empty() {
                return Ok(());
            }
            self.outgoing.clear();
        }
    }

    /// Window size and signals are kept as facts, not as a queue: however many
    /// come while the socket is full, they take no memory.
    fn fill_outgoing(&mut self) {
        if std::mem::take(&mut self.is_resized)
            && let Some(size) = self.window.and_then(window_size)
        {
            let [r0, r1] = size.rows.to_le_bytes();
            let [c0, c1] = size.columns.to_le_bytes();
            push_frame(&mut self.outgoing, frame::RESIZE, &[r0, r1, c0, c1]);
        }
        while self.signals != 0 {
            let bit = self.signals.trailing_zeros();
            self.signals &= self.signals - 1;
            push_frame(&mut self.outgoing, frame::SIGNAL, &[bit as u8 + 1]);
        }
        if std::mem::take(&mut self.stdin.has_ended) {
            push_frame(&mut self.outgoing, frame::STDIN_END, &[]);
        }
    }

    fn is_all_taken(&self) -> bool {
        self.taken == self.incoming.len()
    }

    /// Receives more; `false` where there is no more.
    fn receive(&mut self) -> Result<bool> {
        self.incoming.clear();
        self.taken = 0;
        // Memory that nothing was received into costs nothing.
        self.incoming.reserve(MAX_FRAME);
        match rustix::net::recv(&self.socket, spare_capacity(&mut self.incoming), RecvFlags::DONTWAIT) {
            Ok(_) => Ok(!self.incoming.is_empty()),
            Err(Errno::AGAIN | Errno::INTR) => Ok(true),
            Err(Errno::CONNRESET) => Ok(false),
            Err(errno) => Err(errno).context(|| "hear the monitor"),
        }
    }

    /// Deals with what was received, until all is taken or an output is full.
    fn take_frames(&mut self, mut output_ready: bool) -> Result<Option<AttachEnd>> {
        loop {
            let Some((kind, missing)) = self.frame else {
                if !self.take_header()? {
                    return Ok(None);
                }
                continue;
            };
            let available = &self.incoming[self.taken..];
            let part = &available[..missing.min(available.len())];
            let count = match kind {
                frame::STDOUT => self.stdout.write(part, std::mem::take(&mut output_ready)),
                frame::STDERR => self.stderr.write(part, std::mem::take(&mut output_ready)),
                _ => {
                    self.body.extend_from_slice(part);
                    part.len()
                }
            };
            // As SIGPIPE would end a program that has a pipe for its stdout. The
            // container goes on, as docker's does.
            if self.stdout.is_abandoned() {
                return Ok(Some(AttachEnd::ReaderGone));
            }
            if count == 0 && missing > 0 {
                return Ok(None);
            }
            self.taken += count;
            self.frame = Some((kind, missing - count));
            if missing == count {
                self.frame = None;
                if let Some(end) = self.take_body(kind)? {
                    return Ok(Some(end));
                }
            }
        }
    }

    /// The output that has something to write and must be waited for.
    fn blocked_output(&self) -> Option<BorrowedFd<'a>> {
        match self.frame {
            Some((frame::STDOUT, _)) if !self.is_all_taken() => Some(self.stdout.fd()),
            Some((frame::STDERR, _)) if !self.is_all_taken() => Some(self.stderr.fd()),
            _ => None,
        }
    }

    /// Begins the next frame; `false` where not all of its header is there.
    fn take_header(&mut self) -> Result<bool> {
        // The header may come in parts; `body` holds them.
        while self.body.len() < HEADER {
            let Some(byte) = self.incoming.get(self.taken) else { return Ok(false) };
            self.body.push(*byte);
            self.taken += 1;
        }
        let length = u32::from_le_bytes([self.body[1], self.body[2], self.body[3], self.body[4]]) as usize;
        if length > MAX_FRAME {
            return Err(Error::failed(format!("the monitor sent a frame of {length} bytes")));
        }
        self.frame = Some((self.body[0], length));
        self.body.clear();
        Ok(true)
    }

    /// Deals with a frame that is complete. Kinds that are not known are passed over.
    fn take_body(&mut self, kind: u8) -> Result<Option<AttachEnd>> {
        let body = std::mem::take(&mut self.body);
        match kind {
            frame::EXITED => {
                let exit = serde_json::from_slice(&body).context(|| "read how the container ended")?;
                Ok(Some(AttachEnd::Exited(exit)))
            }
            frame::DROPPED => Ok(Some(AttachEnd::Dropped)),
            STDIN_TAKEN => {
                let count = body.try_into().map(u32::from_le_bytes);
                let count = count.map_err(|_| Error::failed("the monitor sent a bad acknowledgement"))?;
                self.stdin.under_way = self.stdin.under_way.saturating_sub(count as usize);
                Ok(None)
            }
            _ => Ok(None),
        }
    }
}

impl Input<'_> {
    /// Bytes that may be read: with what was held back they fit the window.
    fn room(&self) -> usize {
        let held = self.filter.as_ref().map_or(0, DetachFilter::held);
        STDIN_WINDOW.saturating_sub(self.under_way + held)
    }
}

fn push_frame(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.push(kind);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(body);
}
