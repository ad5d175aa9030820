//! What has no connections: datagrams, echoes, and questions for the resolvers.

use super::icmp::{self, Unreachable};
use super::outside;
use super::policy::Way;
use super::stack::{DNS, Stack, may_answer};
use super::table::{Entry, Flow, Key, Query, Token};
use super::tcp::End;
use super::wire::{Head, Packet};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recvfrom, socket_with,
};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Datagrams that are taken from one socket before others are looked at.
const BATCH: usize = 64;
/// How long a resolver may take before the next one is asked as well.
const HEAD_START: Duration = Duration::from_millis(1500);
/// How long its answer is waited for: longer than glibc does before it asks once
/// more (`RES_TIMEOUT`, 5 seconds).
const PATIENCE: Duration = Duration::from_secs(6);
/// How often a question is asked in all; its asker has given up by then.
const QUESTIONS: usize = 6;
/// Bytes of a question: more than any has, and RFC 1035 allows.
const MAX_QUESTION: usize = 4096;

impl Stack {
    pub(super) fn datagram(&mut self, packet: &Packet<'_>, guest: End, peer: End, data: &[u8]) {
        match self.policy.way(peer.0) {
            Way::Out(address) => self.send_out(packet, guest, SocketAddr::new(address, peer.1), data),
            Way::Resolver if peer.1 == DNS => self.ask(guest, peer, data),
            Way::Resolver | Way::Ourselves => {
                icmp::unreachable(&self.device, &self.policy, packet, Unreachable::Port);
            }
            // Many protocols shout without hoping for an answer.
            Way::Refused if is_for_many(peer.0) => {}
            Way::Refused => icmp::unreachable(&self.device, &self.policy, packet, Unreachable::Prohibited),
        }
    }

    fn send_out(&mut self, packet: &Packet<'_>, guest: End, target: SocketAddr, data: &[u8]) {
        let key = Key::Udp { guest, is_ipv4: target.is_ipv4() };
        if self.table.find(&key).is_none() {
            match outside::datagram_socket(target.ip(), self.policy.options()) {
                Ok(socket) => self.add(key, Flow::Udp { guest, socket }),
                Err(_) => return,
            }
        }
        let entry = self.table.find(&key).and_then(|token| self.table.get(token));
        let Some(Entry { flow: Flow::Udp { socket, .. }, used, .. }) = entry else { return };
        *used = Instant::now();
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::net::sendto(&*socket, data, flags, &target) {
            Err(Errno::NETUNREACH) => {
                icmp::unreachable(&self.device, &self.policy, packet, Unreachable::Network);
            }
            Err(Errno::HOSTUNREACH) => {
                icmp::unreachable(&self.device, &self.policy, packet, Unreachable::Host);
            }
            // A full queue drops, as any network.
            Ok(_) | Err(_) => {}
        }
    }

    /// Datagrams from outside.
    pub(super) fn answers(&mut self, token: Token, buffer: &mut [u8]) {
        for _ in 0..BATCH {
            let Some(Entry { flow: Flow::Udp { guest, socket }, used, .. }) = self.table.get(token) else {
                return;
            };
            match recvfrom(&*socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((length, _, source)) => {
                    *used = Instant::now();
                    let source = source.and_then(|source| SocketAddr::try_from(source).ok());
                    let Some(source) = source.filter(|source| may_answer(&self.policy, source.ip())) else {
                        continue;
                    };
                    let seen = (self.policy.seen_as(source.ip()), source.port());
                    let head = Head::datagram(seen, *guest, length);
                    self.device.send(&head, (&buffer[..length], &[]));
                }
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// An echo request: answered here, or by whom it is for where the host lets
    /// its users ping (`ping_group_range` of icmp(7)).
    pub(super) fn echo(&mut self, packet: &Packet<'_>) {
        let Some((id, message)) = icmp::echo_request(packet) else { return };
        let target = match self.policy.way(packet.target) {
            Way::Ourselves | Way::Resolver => {
                return icmp::reply(&self.device, packet.target, packet.source, id, message);
            }
            Way::Out(address) => address,
            Way::Refused => return,
        };
        let key = Key::Ping { guest: packet.source, id };
        if self.table.find(&key).is_none() {
            match ping_socket(target) {
                Ok(socket) => self.add(key, Flow::Ping { guest: packet.source, id, socket }),
                Err(_) => return,
            }
        }
        let entry = self.table.find(&key).and_then(|token| self.table.get(token));
        let Some(Entry { flow: Flow::Ping { socket, .. }, used, .. }) = entry else { return };
        *used = Instant::now();
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = rustix::net::sendto(&*socket, message, flags, &SocketAddr::new(target, 0));
        // Whatever else it is, a datagram may be lost.
        if sent.is_err_and(|error| error == Errno::NETUNREACH) {
            icmp::unreachable(&self.device, &self.policy, packet, Unreachable::Network);
        }
    }

    /// Replies to echoes.
    pub(super) fn echoes(&mut self, token: Token, buffer: &mut [u8]) {
        for _ in 0..BATCH {
            let Some(Entry { flow: Flow::Ping { guest, id, socket }, used, .. }) = self.table.get(token)
            else {
                return;
            };
            match recvfrom(&*socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((length, _, source)) => {
                    *used = Instant::now();
                    let source = source.and_then(|source| SocketAddr::try_from(source).ok());
                    let Some(source) = source.filter(|source| source.is_ipv4() == guest.is_ipv4()) else {
                        continue;
                    };
                    let seen = self.policy.seen_as(source.ip());
                    icmp::reply(&self.device, seen, *guest, *id, &buffer[..length]);
                }
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// A question for the host's resolvers.
    fn ask(&mut self, guest: End, asked: End, question: &[u8]) {
        // A header of RFC 1035, 4.1.1, at least.
        if !(12..=MAX_QUESTION).contains(&question.len()) {
            return;
        }
        let mut tried = 0;
        let Some(socket) = self.put_question(question, &mut tried) else { return };
        let (question, now) = (question.to_vec(), Instant::now());
        let (next, deadline) = (Some(now + HEAD_START), now + PATIENCE);
        self.wait_for(Query { guest, asked, question, socket, tried, next, deadline });
    }

    fn wait_for(&mut self, query: Query) {
        self.serial += 1;
        self.add(Key::Query(self.serial), Flow::Query(query));
    }

    /// Sends the question to the next resolver that can be reached at all.
    fn put_question(&mut self, question: &[u8], tried: &mut usize) -> Option<OwnedFd> {
        while *tried < QUESTIONS {
            let resolvers = self.resolvers.present();
            let target = *resolvers.get(*tried % resolvers.len().max(1))?;
            *tried += 1;
            let socket = outside::socket(SocketType::DGRAM, target.ip(), self.policy.options());
            let Ok(socket) = socket else { continue };
            // Connected: the kernel takes answers from there alone.
            if rustix::net::connect(&socket, &target).is_ok()
                && rustix::net::send(&socket, question, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok()
            {
                return Some(socket);
            }
        }
        None
    }

    /// The answer to a question, or the news that nobody listens there.
    pub(super) fn answer(&mut self, token: Token, buffer: &mut [u8]) {
        let Some(Entry { flow: Flow::Query(query), .. }) = self.table.get(token) else { return };
        match rustix::net::recv(&query.socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((length, _)) => {
                // With the number of the question, or it is none.
                if length < 12 || buffer[..2] != query.question[..2] {
                    return;
                }
                let head = Head::datagram(query.asked, query.guest, length);
                self.device.send(&head, (&buffer[..length], &[]));
                self.has_been_answered(token);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                self.ask_the_next(token, Instant::now());
                self.table.remove(token);
            }
        }
    }

    /// What others are asked about the same is not waited for.
    fn has_been_answered(&mut self, token: Token) {
        let Some(Entry { flow: Flow::Query(query), .. }) = self.table.remove(token) else { return };
        if query.tried == 1 && query.next.is_some() {
            return;
        }
        for token in self.table.tokens() {
            if let Some(Entry { flow: Flow::Query(other), .. }) = self.table.get(token)
                && (other.guest, other.asked) == (query.guest, query.asked)
                && other.question == query.question
            {
                self.table.remove(token);
            }
        }
    }

    /// The time of a question: the next resolver's turn, or the end.
    pub(super) fn query_tick(&mut self, token: Token, now: Instant) {
        let Some(Entry { flow: Flow::Query(query), .. }) = self.table.get(token) else { return };
        if query.deadline <= now {
            self.table.remove(token);
        } else if query.next.is_some_and(|next| next <= now) {
            self.ask_the_next(token, now);
        }
    }

    /// The one who was asked before may still answer.
    fn ask_the_next(&mut self, token: Token, now: Instant) {
        let Some(Entry { flow: Flow::Query(query), .. }) = self.table.get(token) else { return };
        if query.next.take().is_none() {
            return;
        }
        let (guest, asked, mut tried) = (query.guest, query.asked, query.tried);
        let question = query.question.clone();
        if let Some(socket) = self.put_question(&question, &mut tried) {
            let (next, deadline) = (Some(now + HEAD_START), now + PATIENCE);
            self.wait_for(Query { guest, asked, question, socket, tried, next, deadline });
        }
    }
}

fn is_for_many(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() || address.octets()[3] == 255,
        IpAddr::V6(address) => address.is_multicast(),
    }
}

fn ping_socket(target: IpAddr) -> rustix::io::Result<OwnedFd> {
    let (family, protocol) = match target {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, Some(protocol))
}
