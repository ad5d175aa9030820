//! Datagrams in one direction: what there is room for goes, and the rest waits.

use super::backlog::Backlog;
use crate::network::netlink::Diagnosis;
use crate::sys::inet::Batch;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// More than so many datagrams in so much time are not fetched one by one: each
/// time they get a nap to come in, and go on together.
const BUSY: usize = 32;
const WINDOW: Duration = Duration::from_millis(1);

/// The way to one receiver.
#[derive(Debug)]
pub(super) struct Lane<'a> {
    /// The client's place in the table.
    pub(super) number: u32,
    pub(super) socket: BorrowedFd<'a>,
    /// Who gets it, and from which address; `None`: as the socket is connected.
    pub(super) to: Option<(SocketAddr, IpAddr)>,
    pub(super) backlog: &'a mut Backlog,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Brake {
    /// Tells about receivers, where the kernel does.
    diagnosis: Option<Diagnosis>,
    /// Those with a backlog.
    pub(super) waiting: Vec<u32>,
    /// Datagrams taken since then.
    taken: usize,
    window: Instant,
}

impl Brake {
    pub(super) fn new(diagnosis: Option<Diagnosis>) -> Self {
        Self { diagnosis, waiting: Vec::new(), taken: 0, window: Instant::now() }
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// So many more have come: whether that is much for the time.
    pub(super) fn is_busy(&mut self, count: usize) -> bool {
        if self.window.elapsed() > WINDOW {
            (self.window, self.taken) = (Instant::now(), 0);
        }
        self.taken += count;
        self.taken > BUSY
    }

    /// Sends those of `which` that the receiver has room for; the rest waits.
    /// `all` is what waits for everybody.
    pub(super) fn pass(
        &mut self,
        lane: &mut Lane<'_>,
        which: Range<usize>,
        batch: &mut Batch,
        all: &mut usize,
    ) {
        let mut rest = which;
        // What waits goes first.
        let was_waiting = !lane.backlog.is_empty();
        while !was_waiting && !rest.is_empty() {
            let lengths = rest.clone().map(|at| batch.bytes(at).len());
            let count = lane.backlog.fitting(lengths, &mut self.diagnosis);
            let gone = send(batch, lane, rest.start..rest.start + count);
            rest.start += gone;
            if gone < count || count == 0 {
                break;
            }
        }
        let now = Instant::now();
        for at in rest {
            lane.backlog.keep(batch.bytes(at), now, all);
        }
        if !was_waiting && !lane.backlog.is_empty() {
            self.waiting.push(lane.number);
        }
    }

    /// Those that wait, each of which is to `go_on` now.
    pub(super) fn due(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.waiting)
    }

    /// Sends what waits for one receiver; whether any of it could go.
    pub(super) fn go_on(
        &mut self,
        lane: &mut Lane<'_>,
        now: Instant,
        batch: &mut Batch,
        all: &mut usize,
    ) -> bool {
        lane.backlog.forget_old(now, all);
        let mut moved = false;
        while !lane.backlog.is_empty() {
            let count = lane.backlog.ready(&mut self.diagnosis);
            batch.load(lane.backlog.waiting().take(count));
            let gone = send(batch, lane, 0..count);
            lane.backlog.forget(gone, all);
            moved |= gone > 0;
            if gone < count || count == 0 {
                break;
            }
        }
        if !lane.backlog.is_empty() {
            self.waiting.push(lane.number);
        }
        moved
    }
}

/// Sends `which`; how many are not to be sent again. They are fewer where the
/// way itself is full, as that to another machine may be.
fn send(batch: &mut Batch, lane: &Lane<'_>, which: Range<usize>) -> usize {
    let mut start = which.start;
    let mut refused = false;
    while start < which.end {
        match batch.send(lane.socket, start..which.end, lane.to) {
            Ok(sent) => start += sent.max(1),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // Said of an earlier one: this one was not sent yet.
            Err(error) if error.raw_os_error() == Some(libc::ECONNREFUSED) && !refused => refused = true,
            // One that cannot be sent is lost, as datagrams may be.
            Err(_) => start += 1,
        }
    }
    start - which.start
}
