//! The loop: packets of the container on one side, sockets of the host on the
//! other.

use super::device::Device;
use super::icmp::{self, Unreachable};
use super::outside;
use super::policy::{Policy, Way};
use super::resolvers::Resolvers;
use super::table::{Entry, Flow, Key, Table, Token};
use super::tcp::{Connection, Fate, Ground, INBOUND};
use super::wire::{ACK, FIN, Head, ICMP, ICMP6, Packet, RST, SYN, Segment, TCP, UDP, datagram};
use crate::error::{BestEffort, Context, Result};
use crate::sys::memory;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::sockopt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// The port of DNS.
pub(super) const DNS: u16 = 53;
/// Packets that are taken from the device before sockets are looked at again.
const BATCH: usize = 64;
/// How often timers are looked at, where there are any.
const TICK: Duration = Duration::from_millis(100);
/// Datagrams and pings whose ports have been silent for so long are forgotten.
const SILENCE: Duration = Duration::from_secs(120);
/// Bytes that wait in all connections together before windows become small.
const BUDGET: usize = 64 << 20;
const SMALL: usize = 16 << 10;

/// Bytes of what a connection reads before it has memory of its own for that.
const SCRATCH: usize = 128 << 10;
/// A connection without a packet for so long gives memory back.
const SILENT: Duration = Duration::from_secs(1);
/// Bytes that connections have given back, after which the heap does so too.
const MUCH: usize = 4 << 20;

/// Tokens that are no flow's: their generation is 0.
const DEVICE: u64 = 0;
const EXIT: u64 = 1;

pub(super) struct Stack {
    pub(super) device: Device,
    pub(super) policy: Policy,
    pub(super) resolvers: Resolvers,
    pub(super) table: Table,
    pub(super) serial: u64,
    epoll: OwnedFd,
    /// Connections that may owe an acknowledgement.
    unsettled: Vec<Token>,
    scratch: Vec<u8>,
    /// Whether there is anything with a time.
    timed: bool,
    /// Bytes that wait, as of the last tick.
    waiting: usize,
    /// Bytes that connections have given back, and the heap perhaps not.
    freed: usize,
}

impl Stack {
    pub(super) fn new(device: Device, policy: Policy, resolvers: Resolvers, limit: usize) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context(|| "make an epoll")?;
        let data = epoll::EventData::new_u64(DEVICE);
        epoll::add(&epoll, device.fd(), data, epoll::EventFlags::IN).context(|| "watch the device")?;
        Ok(Self {
            device,
            policy,
            resolvers,
            table: Table::new(limit),
            serial: 0,
            epoll,
            unsettled: Vec::new(),
            scratch: vec![0; SCRATCH],
            timed: false,
            waiting: 0,
            freed: 0,
        })
    }

    /// Serves until `exit` is closed at its other end, or the device is gone.
    pub(super) fn serve(mut self, exit: BorrowedFd<'_>) -> Result<()> {
        let step = || "watch the starter";
        epoll::add(&self.epoll, exit, epoll::EventData::new_u64(EXIT), epoll::EventFlags::IN)
            .context(step)?;
        let mut buffer = vec![0; 128 << 10];
        let mut events = Vec::with_capacity(256);
        let mut tick = Instant::now() + TICK;
        loop {
            let patience = if self.timed { TICK } else { SILENCE };
            let left = patience.min(if self.timed {
                tick.saturating_duration_since(Instant::now())
            } else {
                patience
            });
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context(|| "wait for packets"),
            }
            for event in &events {
                match event.data.u64() {
                    DEVICE => {
                        if !self.receive(&mut buffer) {
                            return Ok(());
                        }
                    }
                    EXIT => return Ok(()),
                    token => self.socket_ready(Token(token), &mut buffer),
                }
            }
            let now = Instant::now();
            if now >= tick {
                self.tick(now);
                tick = now + TICK;
            }
        }
    }

    /// Takes packets from the device; whether that is there.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> bool {
        for _ in 0..BATCH {
            match self.device.receive(buffer) {
                Ok(Some(0)) | Err(_) => return false,
                Ok(Some(length)) => {
                    if let Some(packet) = Packet::parse(&buffer[..length]) {
                        self.packet(&packet);
                    }
                }
                Ok(None) => break,
            }
        }
        let budget = self.budget();
        for token in std::mem::take(&mut self.unsettled) {
            if let Some(Entry { flow: Flow::Tcp(connection, _), .. }) = self.table.get(token) {
                connection.settle(&self.device, budget);
            }
        }
        true
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        match packet.protocol {
            TCP => {
                if let Some(segment) = Segment::parse(packet.payload) {
                    self.segment(packet, &segment);
                }
            }
            UDP => {
                if let Some((source, target, data)) = datagram(packet.payload) {
                    self.datagram(packet, (packet.source, source), (packet.target, target), data);
                }
            }
            ICMP | ICMP6 => self.echo(packet),
            _ => {}
        }
    }

    /// What may wait for the host in one connection.
    fn budget(&self) -> usize {
        if self.waiting < BUDGET { INBOUND } else { SMALL }
    }

    fn segment(&mut self, packet: &Packet<'_>, segment: &Segment<'_>) {
        let (guest, peer) = ((packet.source, segment.source), (packet.target, segment.target));
        let key = Key::Tcp { guest, peer };
        let budget = self.budget();
        if let Some(token) = self.table.find(&key) {
            let Some(Entry { flow: Flow::Tcp(connection, _), .. }) = self.table.get(token) else { return };
            let mut ground = Ground { device: &self.device, scratch: &mut self.scratch, budget };
            let fate = connection.segment(segment, &mut ground);
            self.unsettled.push(token);
            self.after(token, fate);
        } else if segment.flags & (SYN | ACK | RST | FIN) == SYN {
            self.open(packet, segment, key);
        } else if !segment.has(RST) {
            self.refuse(packet, segment);
        }
    }

    /// A new connection.
    fn open(&mut self, packet: &Packet<'_>, segment: &Segment<'_>, key: Key) {
        let (target, tried) = match self.policy.way(packet.target) {
            Way::Out(address) => (SocketAddr::new(address, segment.target), None),
            Way::Resolver if segment.target == DNS => match self.resolvers.present().first() {
                Some(first) => (*first, Some(1)),
                None => return self.refuse(packet, segment),
            },
            Way::Resolver | Way::Ourselves | Way::Refused => return self.refuse(packet, segment),
        };
        let socket = match outside::connect(target, self.policy.options()) {
            Ok(socket) => socket,
            Err(error) => return self.cannot_connect(packet, segment, error),
        };
        let (guest, peer) = ((packet.source, segment.source), (packet.target, segment.target));
        let mtu = self.device.mtu();
        let connection = Connection::new(segment, guest, peer, socket, mtu, random());
        self.add(key, Flow::Tcp(Box::new(connection), tried));
    }

    fn cannot_connect(&mut self, packet: &Packet<'_>, segment: &Segment<'_>, error: Errno) {
        match error {
            Errno::NETUNREACH | Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT => {
                icmp::unreachable(&self.device, &self.policy, packet, Unreachable::Network);
            }
            Errno::HOSTUNREACH => icmp::unreachable(&self.device, &self.policy, packet, Unreachable::Host),
            Errno::ACCESS | Errno::PERM => {
                icmp::unreachable(&self.device, &self.policy, packet, Unreachable::Prohibited);
            }
            // For want of files or memory: the container tries again by itself.
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::AGAIN => {}
            _ => self.refuse(packet, segment),
        }
    }

    /// There is no such connection: RFC 9293, 3.10.7.1.
    fn refuse(&mut self, packet: &Packet<'_>, segment: &Segment<'_>) {
        let (guest, peer) = ((packet.source, segment.source), (packet.target, segment.target));
        let length = segment.data.len() as u32 + u32::from(segment.has(SYN)) + u32::from(segment.has(FIN));
        let (seq, ack, flags) = if segment.has(ACK) {
            (segment.ack, 0, RST)
        } else {
            (0, segment.seq.wrapping_add(length), RST | ACK)
        };
        let head = Head::segment(peer, guest, &[], 0, 1460).with(seq, ack, flags, 0, 0);
        self.device.send(&head, (&[], &[]));
    }

    /// Puts a flow into the table and watches its socket.
    pub(super) fn add(&mut self, key: Key, flow: Flow) {
        let (token, evicted) = self.table.insert(key, flow);
        if let Some(Entry { flow: Flow::Tcp(mut connection, _), .. }) = evicted {
            connection.refuse(&self.device);
            connection.abort();
        }
        self.watch(token);
    }

    pub(super) fn watch(&mut self, token: Token) {
        self.timed = true;
        let Some(entry) = self.table.get(token) else { return };
        let (socket, flags) = match &entry.flow {
            Flow::Tcp(connection, _) => {
                let both = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP;
                (connection.socket(), both | epoll::EventFlags::ET)
            }
            Flow::Udp { socket, .. } | Flow::Ping { socket, .. } => (socket, epoll::EventFlags::IN),
            Flow::Query(query) => (&query.socket, epoll::EventFlags::IN),
        };
        if epoll::add(&self.epoll, socket, epoll::EventData::new_u64(token.0), flags).is_err() {
            self.table.remove(token);
        }
    }

    fn socket_ready(&mut self, token: Token, buffer: &mut [u8]) {
        let budget = self.budget();
        let Some(entry) = self.table.get(token) else { return };
        match &mut entry.flow {
            Flow::Tcp(connection, _) if connection.is_connecting() => self.connected(token),
            Flow::Tcp(connection, _) => {
                let mut ground = Ground { device: &self.device, scratch: &mut self.scratch, budget };
                let fate = connection.socket_ready(&mut ground);
                self.after(token, fate);
            }
            Flow::Udp { .. } => self.answers(token, buffer),
            Flow::Ping { .. } => self.echoes(token, buffer),
            Flow::Query(_) => self.answer(token, buffer),
        }
    }

    /// A connection has been made, or could not be.
    fn connected(&mut self, token: Token) {
        let Some(Entry { flow: Flow::Tcp(connection, tried), .. }) = self.table.get(token) else { return };
        match sockopt::socket_error(connection.socket()) {
            Ok(Ok(())) if rustix::net::getpeername(connection.socket()).is_ok() => {
                connection.connected(&self.device);
            }
            Ok(Ok(())) => return,
            _ => {
                // The next resolver, where it is for them.
                let next = tried.and_then(|tried| self.resolvers.present().get(tried).copied());
                let socket = next.and_then(|next| outside::connect(next, self.policy.options()).ok());
                match (socket, tried) {
                    (Some(socket), Some(tried)) => {
                        *tried += 1;
                        connection.set_socket(socket);
                        return self.watch(token);
                    }
                    _ => {
                        connection.refuse(&self.device);
                        self.table.remove(token);
                    }
                }
            }
        }
        self.timed = true;
    }

    fn after(&mut self, token: Token, fate: Fate) {
        match fate {
            Fate::Lives => self.timed = true,
            Fate::Over => {
                if let Some(Entry { flow: Flow::Tcp(mut connection, _), .. }) = self.table.remove(token) {
                    connection.settle(&self.device, INBOUND);
                    (self.freed, self.timed) = (self.freed + connection.memory(), true);
                    if !connection.has_ended_well() {
                        connection.abort();
                    }
                }
            }
        }
    }

    /// Timers, and what has been silent for long.
    pub(super) fn tick(&mut self, now: Instant) {
        (self.timed, self.waiting) = (false, 0);
        for token in self.table.tokens() {
            let Some(entry) = self.table.get(token) else { continue };
            match &mut entry.flow {
                Flow::Tcp(connection, _) => {
                    self.waiting += connection.weight();
                    let is_silent = now.duration_since(connection.last_use()) >= SILENT;
                    if is_silent {
                        self.freed += connection.shrink();
                    }
                    self.timed |= !is_silent || connection.deadline().is_some();
                    if connection.deadline().is_some_and(|deadline| deadline <= now) {
                        let fate = connection.expired(&self.device);
                        self.after(token, fate);
                    }
                }
                Flow::Query(_) => {
                    self.timed = true;
                    self.query_tick(token, now);
                }
                Flow::Udp { .. } | Flow::Ping { .. } => {
                    if now.duration_since(entry.used) > SILENCE {
                        self.table.remove(token);
                    }
                }
            }
        }
        if self.freed >= MUCH {
            self.freed = 0;
            memory::trim();
        }
    }
}

/// The first number of a connection: not to be guessed by others.
pub(super) fn random() -> u32 {
    let mut bytes = [0; 4];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).map(drop).or_ignore();
    u32::from_ne_bytes(bytes)
}

/// Whether an address may be the sender of what reaches the container.
pub(super) fn may_answer(policy: &Policy, address: IpAddr) -> bool {
    let hidden = policy.options().host_loopback == crate::types::uplink::HostLoopback::Hidden;
    !(hidden && address.is_loopback())
}
