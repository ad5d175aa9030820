//! One TCP connection: the container's end is spoken to in segments, the other
//! is a socket of the host's.
//!
//! What the container sends goes to the socket at once, or waits in `inbound`
//! where that is full; the window never promises more than fits there, so that
//! nothing is dropped. What the host sends waits in `outbound` until the
//! container has acknowledged it. The device between the two loses packets only
//! when a queue overflows, so there is no control of congestion here: the
//! kernels on both sides do it for their own parts. A gap is closed by going
//! back to it (RFC 9293, 3.8), by three duplicates or by a timer.

use super::device::Device;
use super::ring::Ring;
use super::wire::{ACK, FIN, Head, PSH, RST, SYN, Segment};
use crate::error::BestEffort;
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown};
use std::io::IoSliceMut;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Bytes of one connection that wait for the host, and for the container, at
/// most. The second is what a container can make us keep by not acknowledging.
pub(super) const INBOUND: usize = 1 << 20;
pub(super) const OUTBOUND: usize = 256 << 10;
/// Our windows are shifted by so many bits: 64 KiB become 8 MiB.
const SHIFT: u8 = 7;
/// Bytes of one packet's data at most: the lengths of IP have 16 bits.
const MAX_DATA: usize = 65_535 - 40 - 20 - 20;

/// RFC 6298 wants a second, for networks; this is a queue in memory.
const FIRST_TIMEOUT: Duration = Duration::from_millis(200);
const MAX_TIMEOUT: Duration = Duration::from_secs(10);
/// After so many timeouts in a row the other end is gone.
const MAX_RETRIES: u32 = 12;

/// What the connections have in common, for one call.
pub(super) struct Ground<'a> {
    pub(super) device: &'a Device,
    /// Bytes that a connection has read and has no memory for yet.
    pub(super) scratch: &'a mut [u8],
    /// Bytes that may wait in `inbound`.
    pub(super) budget: usize,
}

/// An end of a connection.
pub(super) type End = (IpAddr, u16);

/// Whether the connection lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lives,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The socket is on its way.
    Connecting,
    /// Our SYN is to be acknowledged.
    Greeting,
    Open,
}

#[derive(Debug)]
pub(super) struct Connection {
    /// The container's end, and the other as the container sees it.
    guest: End,
    peer: End,
    socket: OwnedFd,
    phase: Phase,
    /// Bytes of data in one packet, as the container asks.
    mss: usize,
    last_use: Instant,

    // From the container.
    inbound: Ring,
    next_expected: u32,
    /// The end of the window that was promised: it never goes back.
    promised: u32,
    guest_ended: bool,
    told_socket: bool,
    writable: bool,
    /// An acknowledgement is owed; at once where there is a gap, since the sender
    /// counts them.
    owes: bool,
    gap: bool,

    // To the container.
    outbound: Ring,
    /// What `outbound` begins with, what is sent next, and the end of what was
    /// ever sent.
    unacked: u32,
    next: u32,
    furthest: u32,
    window: u32,
    /// By which the container's windows are shifted; `None` where it does not,
    /// and then ours are not either.
    shift: Option<u8>,
    readable: bool,
    socket_ended: bool,
    /// The container knows of that.
    end_acked: bool,
    duplicates: u8,
    timer: Option<Instant>,
    retries: u32,
}

impl Connection {
    /// For a SYN, with a socket that is connecting.
    pub(super) fn new(
        syn: &Segment<'_>,
        guest: End,
        peer: End,
        socket: OwnedFd,
        mtu: u32,
        first: u32,
    ) -> Self {
        let headers = if guest.0.is_ipv4() { 40 } else { 60 };
        let limit = mtu as usize - headers;
        let shift = syn.window_scale();
        Self {
            guest,
            peer,
            socket,
            phase: Phase::Connecting,
            mss: usize::from(syn.mss().unwrap_or(536)).clamp(88, limit.max(88)),
            last_use: Instant::now(),
            inbound: Ring::default(),
            next_expected: syn.seq.wrapping_add(1),
            promised: syn.seq.wrapping_add(1),
            guest_ended: false,
            told_socket: false,
            writable: false,
            owes: false,
            gap: false,
            outbound: Ring::default(),
            unacked: first,
            next: first,
            furthest: first,
            window: u32::from(syn.window),
            shift,
            readable: false,
            socket_ended: false,
            end_acked: false,
            duplicates: 0,
            timer: None,
            retries: 0,
        }
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    pub(super) fn is_connecting(&self) -> bool {
        self.phase == Phase::Connecting
    }

    pub(super) fn last_use(&self) -> Instant {
        self.last_use
    }

    /// Bytes that wait in it.
    pub(super) fn weight(&self) -> usize {
        self.inbound.len() + self.outbound.len()
    }

    /// Bytes of memory that it holds for those, and for what may come.
    pub(super) fn memory(&self) -> usize {
        self.inbound.memory() + self.outbound.memory()
    }

    /// Gives back the memory that it does not need; how many bytes.
    pub(super) fn shrink(&mut self) -> usize {
        let before = self.memory();
        self.inbound.shrink();
        self.outbound.shrink();
        before - self.memory()
    }

    /// Puts another socket in the place of one that could not connect.
    pub(super) fn set_socket(&mut self, socket: OwnedFd) {
        self.socket = socket;
    }

    /// The socket is connected: the container hears of it.
    pub(super) fn connected(&mut self, device: &Device) {
        self.phase = Phase::Greeting;
        (self.readable, self.writable) = (true, true);
        self.greet(device);
    }

    fn greet(&mut self, device: &Device) {
        let headers = if self.guest.0.is_ipv4() { 40 } else { 60 };
        let [high, low] = ((device.mtu() - headers).min(65_535 - headers) as u16).to_be_bytes();
        let options: &[u8] =
            if self.shift.is_some() { &[2, 4, high, low, 1, 3, 3, SHIFT] } else { &[2, 4, high, low] };
        let head = Head::segment(self.peer, self.guest, options, 0, self.mss);
        // The window of a SYN is not shifted.
        let window = INBOUND.min(0xffff);
        self.promised = self.next_expected.wrapping_add(window as u32);
        let head = head.with(self.unacked, self.next_expected, SYN | ACK, window as u16, options.len());
        device.send(&head, (&[], &[]));
        self.next = self.unacked.wrapping_add(1);
        self.furthest = self.next;
        self.arm();
    }

    /// A segment of the container.
    pub(super) fn segment(&mut self, segment: &Segment<'_>, ground: &mut Ground<'_>) -> Fate {
        let (device, budget) = (ground.device, ground.budget);
        self.last_use = Instant::now();
        if segment.has(RST) {
            // RFC 5961, 3.2: only the exact number, since anyone could guess a window.
            let fits = segment.seq == self.next_expected || self.phase == Phase::Connecting;
            return if fits { Fate::Over } else { Fate::Lives };
        }
        if self.phase == Phase::Connecting {
            return Fate::Lives;
        }
        if segment.has(SYN) {
            match self.phase {
                Phase::Greeting => self.greet(device),
                _ => self.acknowledge(device, budget),
            }
            return Fate::Lives;
        }
        if !segment.has(ACK) || !self.take_acknowledgement(segment, device, budget) {
            return Fate::Lives;
        }
        if !self.take_data(segment) {
            return self.reset(device);
        }
        if std::mem::take(&mut self.gap) {
            self.acknowledge(device, budget);
        }
        self.go_on(ground)
    }

    /// Whether the segment is one of this connection's present.
    fn take_acknowledgement(&mut self, segment: &Segment<'_>, device: &Device, budget: usize) -> bool {
        let acked = segment.ack.wrapping_sub(self.unacked);
        let in_flight = self.furthest.wrapping_sub(self.unacked);
        if acked > in_flight {
            // Of the future, or long ago.
            if (acked as i32) > 0 {
                self.acknowledge(device, budget);
            }
            return (acked as i32) <= 0 && self.phase == Phase::Open;
        }
        let window = u32::from(segment.window) << self.shift.unwrap_or(0);
        if acked > 0 {
            if self.phase == Phase::Greeting {
                self.phase = Phase::Open;
                self.outbound.consume(acked as usize - 1);
            } else {
                self.end_acked |= acked as usize > self.outbound.len();
                self.outbound.consume(acked as usize);
            }
            self.unacked = segment.ack;
            if (self.next.wrapping_sub(self.unacked) as i32) < 0 {
                self.next = self.unacked;
            }
            (self.duplicates, self.retries, self.timer) = (0, 0, None);
        } else if in_flight > 0 && segment.data.is_empty() && window == self.window && !segment.has(FIN) {
            self.duplicates = self.duplicates.saturating_add(1);
            if self.duplicates == 3 {
                self.next = self.unacked;
            }
        }
        self.window = window;
        self.phase == Phase::Open
    }

    /// Whether the socket takes it, now or later.
    fn take_data(&mut self, segment: &Segment<'_>) -> bool {
        let length = segment.data.len() as u32;
        if length == 0 && !segment.has(FIN) {
            // A probe asks for an answer: RFC 9293, 3.8.4.
            self.owes |= segment.seq != self.next_expected;
            return true;
        }
        self.owes = true;
        let old = self.next_expected.wrapping_sub(segment.seq);
        if old > length {
            self.gap = (old as i32) < 0;
            return true;
        }
        let fresh = &segment.data[old as usize..];
        let room = self.promised.wrapping_sub(self.next_expected) as usize;
        let taken = &fresh[..fresh.len().min(room)];
        if self.guest_ended {
            return true;
        }
        let mut rest = taken;
        if self.inbound.is_empty() && self.writable && !rest.is_empty() {
            match rustix::net::send(&self.socket, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::AGAIN) => self.writable = false,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        self.inbound.push(rest);
        // Until the socket says that it is full: it is heard of again only then.
        if !self.flush() {
            return false;
        }
        self.next_expected = self.next_expected.wrapping_add(taken.len() as u32);
        if segment.has(FIN) && taken.len() == fresh.len() {
            self.next_expected = self.next_expected.wrapping_add(1);
            self.guest_ended = true;
            self.tell_socket();
        }
        true
    }

    fn tell_socket(&mut self) {
        if self.guest_ended && self.inbound.is_empty() && !self.told_socket {
            self.told_socket = true;
            rustix::net::shutdown(&self.socket, Shutdown::Write).or_ignore();
        }
    }

    /// The socket has something, or takes something again.
    pub(super) fn socket_ready(&mut self, ground: &mut Ground<'_>) -> Fate {
        if self.phase == Phase::Connecting {
            return Fate::Lives;
        }
        self.last_use = Instant::now();
        (self.readable, self.writable) = (true, true);
        if !self.flush() {
            return self.reset(ground.device);
        }
        let fate = self.go_on(ground);
        if fate == Fate::Lives && self.window_has_opened(ground.budget) {
            self.acknowledge(ground.device, ground.budget);
        }
        fate
    }

    /// Writes what waits for the socket; whether that lives.
    fn flush(&mut self) -> bool {
        while self.writable && !self.inbound.is_empty() {
            match rustix::io::writev(&self.socket, &self.inbound.io_slices()) {
                Ok(count) => self.inbound.consume(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.writable = false,
                Err(_) => return false,
            }
        }
        self.tell_socket();
        true
    }

    /// Reads from the socket and sends, as far as there is room.
    fn go_on(&mut self, ground: &mut Ground<'_>) -> Fate {
        if self.phase != Phase::Open {
            return Fate::Lives;
        }
        loop {
            let before = self.outbound.len();
            if !self.fill(ground.scratch) {
                return self.reset(ground.device);
            }
            self.send(ground.device);
            if self.outbound.len() == before || !self.readable {
                break;
            }
        }
        if self.told_socket && self.end_acked {
            self.owes = true;
            return Fate::Over;
        }
        Fate::Lives
    }

    /// Reads into the memory that there is, and what has no room there, through
    /// `scratch`: a connection takes as much as it needs, and a silent one nothing.
    fn fill(&mut self, scratch: &mut [u8]) -> bool {
        while self.readable && !self.socket_ended {
            let room = OUTBOUND.saturating_sub(self.outbound.len()).min(scratch.len());
            if room == 0 {
                break;
            }
            let [first, second] = self.outbound.spare(room);
            let spare = first.len() + second.len();
            let mut pieces = [first, second, IoSliceMut::new(&mut scratch[..room - spare])];
            match rustix::io::readv(&self.socket, &mut pieces) {
                Ok(0) => self.socket_ended = true,
                Ok(count) => {
                    self.outbound.added(count.min(spare));
                    self.outbound.push(&scratch[..count.saturating_sub(spare)]);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.readable = false,
                Err(_) => return false,
            }
        }
        true
    }

    /// The number after the last byte that is to be sent.
    fn end(&self) -> u32 {
        self.unacked.wrapping_add(self.outbound.len() as u32)
    }

    fn send(&mut self, device: &Device) {
        loop {
            let sent = self.next.wrapping_sub(self.unacked) as usize;
            let waiting = self.outbound.len().saturating_sub(sent);
            let allowed = (self.window as usize).saturating_sub(sent);
            let largest = (MAX_DATA / self.mss * self.mss).max(self.mss);
            let count = waiting.min(allowed).min(largest);
            // No crumbs because of a window that is nearly closed.
            if count == 0 || (count < waiting && count < self.mss && sent > 0) {
                break;
            }
            let last = count == waiting;
            self.send_data(device, sent, count, if last { PSH } else { 0 });
            self.next = self.next.wrapping_add(count as u32);
            self.note_furthest();
        }
        if self.socket_ended && !self.end_acked && self.next == self.end() {
            self.send_data(device, self.outbound.len(), 0, FIN);
            self.next = self.next.wrapping_add(1);
            self.note_furthest();
        }
        let is_owed = self.furthest != self.unacked || !self.outbound.is_empty();
        if is_owed && self.timer.is_none() {
            self.arm();
        }
    }

    fn note_furthest(&mut self) {
        if (self.next.wrapping_sub(self.furthest) as i32) > 0 {
            self.furthest = self.next;
        }
    }

    /// Bytes of `outbound` from `offset` on, with what is owed.
    fn send_data(&mut self, device: &Device, offset: usize, count: usize, flags: u8) {
        let seq = self.unacked.wrapping_add(offset as u32);
        let window = self.promise(INBOUND);
        let head = Head::segment(self.peer, self.guest, &[], count, self.mss);
        let head = head.with(seq, self.next_expected, ACK | flags, window, 0);
        device.send(&head, self.outbound.slices(offset, count));
        self.owes = false;
    }

    /// The window field for so much room, which is promised from now on.
    fn promise(&mut self, budget: usize) -> u16 {
        let room = budget.saturating_sub(self.inbound.len());
        let shift = if self.shift.is_some() { SHIFT } else { 0 };
        let field = (room >> shift).min(0xffff);
        let end = self.next_expected.wrapping_add((field << shift) as u32);
        if (end.wrapping_sub(self.promised) as i32) > 0 {
            self.promised = end;
        }
        let promised = self.promised.wrapping_sub(self.next_expected) as usize;
        (promised >> shift).min(0xffff) as u16
    }

    /// Whether the container should hear of new room: half of all of it.
    fn window_has_opened(&self, budget: usize) -> bool {
        let budget = budget.min(0xffff << if self.shift.is_some() { SHIFT } else { 0 });
        let promised = self.promised.wrapping_sub(self.next_expected) as usize;
        !self.guest_ended && promised < budget / 2 && budget.saturating_sub(self.inbound.len()) > budget / 2
    }

    pub(super) fn acknowledge(&mut self, device: &Device, budget: usize) {
        let window = self.promise(budget);
        let head = Head::segment(self.peer, self.guest, &[], 0, self.mss);
        device.send(&head.with(self.next, self.next_expected, ACK, window, 0), (&[], &[]));
        self.owes = false;
    }

    /// At the end of a batch: one acknowledgement for all of it.
    pub(super) fn settle(&mut self, device: &Device, budget: usize) {
        if self.owes && self.phase == Phase::Open {
            self.acknowledge(device, budget);
        }
    }

    fn reset(&mut self, device: &Device) -> Fate {
        let head = Head::segment(self.peer, self.guest, &[], 0, self.mss);
        device.send(&head.with(self.next, self.next_expected, RST | ACK, 0, 0), (&[], &[]));
        self.owes = false;
        Fate::Over
    }

    /// The connection could not be made.
    pub(super) fn refuse(&mut self, device: &Device) {
        self.reset(device);
    }

    fn arm(&mut self) {
        let timeout = FIRST_TIMEOUT.saturating_mul(1 << self.retries.min(8)).min(MAX_TIMEOUT);
        self.timer = Some(Instant::now() + timeout);
    }

    /// When it is to be called, at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timer
    }

    /// A timer has run out: what was sent is sent again, or a window that is
    /// closed is asked for.
    pub(super) fn expired(&mut self, device: &Device) -> Fate {
        self.timer = None;
        self.retries += 1;
        if self.retries > MAX_RETRIES {
            return self.reset(device);
        }
        match self.phase {
            Phase::Connecting => {}
            Phase::Greeting => self.greet(device),
            Phase::Open if self.window == 0 && !self.outbound.is_empty() => {
                // It does not count against a container that only takes its time.
                self.retries = self.retries.min(6);
                self.send_data(device, 0, 1, 0);
                if self.next == self.unacked {
                    self.next = self.unacked.wrapping_add(1);
                    self.note_furthest();
                }
                self.arm();
            }
            Phase::Open => {
                self.next = self.unacked;
                self.send(device);
                self.arm();
            }
        }
        Fate::Lives
    }

    /// The socket is closed so that its peer hears of an end that is none.
    pub(super) fn abort(self) {
        let linger = Some(Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(&self.socket, linger).or_ignore();
    }

    /// Whether both sides have ended as they should.
    pub(super) fn has_ended_well(&self) -> bool {
        self.told_socket && self.socket_ended
    }
}
