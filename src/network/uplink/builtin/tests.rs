//! The stack against a container that means ill, and one that means well: its
//! device is one end of a pair of sockets that keep packets apart.

use super::device::Device;
use super::policy::Policy;
use super::resolvers::Resolvers;
use super::stack::Stack;
use super::wire::{ACK, FIN, Head, Packet, RST, SYN, Segment, TCP, UDP, VNET, datagram};
use crate::types::uplink::SlirpOptions;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

const GUEST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 100));
const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 2));

fn pair() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a pair")
}

fn stack(options: &[&str], limit: usize) -> (Stack, OwnedFd) {
    // Nobody is asked: the file names no resolver that answers.
    stack_asking(Resolvers::of("/nonexistent"), options, limit)
}

fn stack_asking(resolvers: Resolvers, options: &[&str], limit: usize) -> (Stack, OwnedFd) {
    let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    let policy = Policy::new(SlirpOptions::parse("builtin", &options).expect("valid"));
    let (here, there) = pair();
    (Stack::new(Device::new(there, 65520), policy, resolvers, limit).expect("a stack"), here)
}

/// A small generator (xorshift), so that a failure comes again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// All of them on this machine, or nowhere.
const TARGETS: [&str; 6] = ["10.0.2.2", "10.0.2.3", "127.0.0.1", "0.0.0.0", "224.0.0.1", "10.0.2.255"];
const TARGETS6: [&str; 5] =
    ["::1", "fd63:6f72:6163:6c65::2", "fd63:6f72:6163:6c65::3", "ff02::1", "::ffff:127.0.0.1"];

/// Whatever else is wrong with a frame: it goes to none but those.
fn tame(frame: &mut [u8], random: &mut Random) {
    let Some(version) = frame.get(VNET).map(|byte| byte >> 4) else { return };
    let (at, address) = match version {
        4 => {
            let target: Ipv4Addr = TARGETS[random.below(6) as usize].parse().expect("an address");
            (VNET + 16, target.octets().to_vec())
        }
        _ => {
            let target: Ipv6Addr = TARGETS6[random.below(5) as usize].parse().expect("an address");
            (VNET + 24, target.octets().to_vec())
        }
    };
    if let Some(place) = frame.get_mut(at..at + address.len()) {
        place.copy_from_slice(&address);
    }
}

/// A frame that is nearly right: real headers, with a few bytes of it changed.
fn nearly_a_packet(random: &mut Random) -> Vec<u8> {
    let (source, target): (IpAddr, IpAddr) = if random.below(2) == 0 {
        (GUEST, TARGETS[random.below(6) as usize].parse().expect("an address"))
    } else {
        let six = TARGETS6[random.below(5) as usize].parse().expect("an address");
        (Policy::guest6().into(), six)
    };
    let (from, to) = ((source, random.below(4) as u16), (target, [53, 80, 0][random.below(3) as usize]));
    let data = vec![7; random.below(90) as usize];
    let head = match random.below(3) {
        0 => Head::datagram(from, to, data.len()),
        1 => Head::segment(from, to, &[2, 4, 5, 180, 3, 3, 15, 0], data.len(), 1460).with(
            random.next() as u32,
            random.next() as u32,
            random.next() as u8,
            random.next() as u16,
            8,
        ),
        _ => Head::new(source, target, [1, 58, 0, 43][random.below(4) as usize], data.len(), None),
    };
    let mut frame = [head.as_slice(), &data].concat();
    for _ in 0..random.below(4) {
        let at = random.below(frame.len() as u64) as usize;
        frame[at] = random.next() as u8;
    }
    frame.truncate(random.below(frame.len() as u64 * 3) as usize + 1);
    frame
}

#[test]
fn no_frame_makes_it_panic_and_the_table_stays_bounded() {
    for seed in 1..=20 {
        let (mut stack, guest) = stack(&["allow_host_loopback=true"], 16);
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
        let mut buffer = vec![0; 128 << 10];
        for round in 0..3000 {
            let mut frame: Vec<u8> = if random.below(5) == 0 {
                (0..=random.below(200)).map(|_| random.next() as u8).collect()
            } else {
                nearly_a_packet(&mut random)
            };
            tame(&mut frame, &mut random);
            rustix::io::write(&guest, &frame).expect("taken");
            assert!(stack.receive(&mut buffer), "seed {seed}, round {round}");
            while rustix::io::read(&guest, &mut buffer[..]).is_ok_and(|count| count > 0) {}
            assert!(stack.table.len() <= 16, "seed {seed}, round {round}");
        }
    }
}

/// A container of few words: it sends segments and datagrams, and reads what comes.
struct Guest {
    end: OwnedFd,
    port: u16,
    peer: (IpAddr, u16),
    seq: u32,
    ack: u32,
}

impl Guest {
    fn send(&self, flags: u8, data: &[u8]) {
        let head = Head::segment((GUEST, self.port), self.peer, &[], data.len(), 65000);
        let head = head.with(self.seq, self.ack, flags, 0xffff, 0);
        rustix::io::write(&self.end, &[head.as_slice(), data].concat()).expect("taken");
    }

    /// The flags and data of the next segment.
    fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut buffer = vec![0; 128 << 10];
        let length = rustix::io::read(&self.end, &mut buffer[..]).ok()?;
        let packet = Packet::parse(&buffer[..length]).expect("a packet");
        assert_eq!((packet.source, packet.target, packet.protocol), (self.peer.0, GUEST, TCP));
        let segment = Segment::parse(packet.payload).expect("a segment");
        let length = segment.data.len() as u32 + u32::from(segment.has(SYN)) + u32::from(segment.has(FIN));
        if length > 0 {
            self.ack = segment.seq.wrapping_add(length);
        }
        Some((segment.flags, segment.data.to_vec()))
    }
}

#[test]
fn a_connection_from_beginning_to_end() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let (stack, end) = stack(&["allow_host_loopback=true"], 16);
    let (exit, exit_there) = pair();
    let served =
        std::thread::spawn(move || stack.serve(std::os::fd::AsFd::as_fd(&exit_there)).expect("served"));
    rustix::io::ioctl_fionbio(&end, false).expect("waits");
    let mut guest = Guest { end, port: 4000, peer: (GATEWAY, port), seq: 100, ack: 0 };
    guest.send(SYN, &[]);
    assert_eq!(guest.next().expect("an answer").0, SYN | ACK);
    guest.seq += 1;
    guest.send(ACK, b"hello");
    guest.seq += 5;
    let (mut stream, _) = listener.accept().expect("a connection");
    let mut heard = [0; 5];
    stream.read_exact(&mut heard).expect("data");
    assert_eq!(&heard, b"hello");
    assert_eq!(guest.next().expect("an answer"), (ACK, Vec::new()));
    stream.write_all(b"world").expect("written");
    let (_, data) = guest.next().expect("data");
    assert_eq!(data, b"world");
    // Not acknowledged: it comes again.
    assert_eq!(guest.next().expect("data").1, b"world");
    guest.send(ACK | FIN, &[]);
    guest.seq += 1;
    assert_eq!(stream.read(&mut heard).expect("the end"), 0);
    drop(stream);
    let mut flags = 0;
    while flags & FIN == 0 {
        flags = guest.next().expect("the end").0;
        assert_eq!(flags & RST, 0);
    }
    guest.send(ACK, &[]);
    drop(exit);
    served.join().expect("it ends with its starter");
}

#[test]
fn the_host_s_loopback_is_not_reached_in_any_way() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let listening = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    listener.set_nonblocking(true).expect("does not wait");
    listening.set_nonblocking(true).expect("does not wait");
    let (mut stack, end) = stack(&[], 16);
    let mut buffer = vec![0; 128 << 10];
    let targets =
        ["127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.2.2", "10.0.2.3", "::1", "::", "::ffff:127.0.0.1"];
    for target in targets.map(|target| target.parse::<IpAddr>().expect("an address")) {
        let source = if target.is_ipv4() { GUEST } else { Policy::guest6().into() };
        let (tcp, udp) =
            (listener.local_addr().expect("an address"), listening.local_addr().expect("an address"));
        let syn = Head::segment((source, 9), (target, tcp.port()), &[], 0, 1460).with(1, 0, SYN, 100, 0);
        rustix::io::write(&end, syn.as_slice()).expect("taken");
        let head = Head::datagram((source, 9), (target, udp.port()), 1);
        rustix::io::write(&end, &[head.as_slice(), b"x"].concat()).expect("taken");
        assert!(stack.receive(&mut buffer));
        assert_eq!(stack.table.len(), 0, "{target}");
    }
    assert!(listener.accept().is_err() && listening.recv(&mut buffer).is_err());
}

#[test]
fn a_question_goes_to_the_resolvers_and_another_is_asked_where_one_is_dead() {
    let (mut stack, end) = stack(&[], 16);
    let mut buffer = vec![0; 128 << 10];
    let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0";
    let head = Head::datagram((GUEST, 9), ("10.0.2.3".parse().expect("an address"), 53), question.len());
    rustix::io::write(&end, &[head.as_slice(), question].concat()).expect("taken");
    assert!(stack.receive(&mut buffer));
    // One of a few bytes is none.
    let head = Head::datagram((GUEST, 9), ("10.0.2.3".parse().expect("an address"), 53), 2);
    rustix::io::write(&end, &[head.as_slice(), b"xx"].concat()).expect("taken");
    assert!(stack.receive(&mut buffer));
    assert!(stack.table.len() <= 1);
}

#[test]
fn a_resolver_that_was_asked_before_another_is_still_heard() {
    let servers = [0, 1].map(|_| UdpSocket::bind("127.0.0.1:0").expect("a socket"));
    let addresses = servers.each_ref().map(|server| server.local_addr().expect("bound"));
    let (mut stack, end) = stack_asking(Resolvers::fixed(addresses.to_vec()), &[], 16);
    let mut buffer = vec![0; 128 << 10];
    let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0";
    let asked = ("10.0.2.3".parse().expect("an address"), 53);
    let head = Head::datagram((GUEST, 9), asked, question.len());
    rustix::io::write(&end, &[head.as_slice(), question].concat()).expect("taken");
    assert!(stack.receive(&mut buffer));
    let begun = Instant::now();
    let mut bytes = [0; 64];
    let (_, first) = servers[0].recv_from(&mut bytes).expect("a question");
    stack.tick(begun + Duration::from_millis(1600));
    servers[1].recv_from(&mut bytes).expect("the question");
    // Asked once more only when the second has had its time, too.
    stack.tick(begun + Duration::from_millis(1601));
    assert_eq!(stack.table.len(), 2);
    stack.tick(begun + Duration::from_secs(5));
    let answer = [&question[..2], &[0x81; 10]].concat();
    servers[0].send_to(&answer, first).expect("sent");
    for token in stack.table.tokens() {
        stack.answer(token, &mut buffer);
    }
    assert_eq!(stack.table.len(), 0, "the others are not waited for");
    let length = rustix::io::read(&end, &mut buffer[..]).expect("an answer");
    let packet = Packet::parse(&buffer[..length]).expect("a packet");
    assert_eq!(datagram(packet.payload), Some((53, 9, &answer[..])));
    assert!(rustix::io::read(&end, &mut buffer[..]).is_err(), "one answer");
    // In the end nobody is.
    rustix::io::write(&end, &[head.as_slice(), question].concat()).expect("taken");
    assert!(stack.receive(&mut buffer));
    assert_eq!(stack.table.len(), 1);
    stack.tick(Instant::now() + Duration::from_secs(7));
    assert_eq!(stack.table.len(), 0);
}

#[test]
fn an_unreachable_place_is_told() {
    let (mut stack, end) = stack(&[], 16);
    let mut buffer = vec![0; 128 << 10];
    let head = Head::datagram((GUEST, 9), (GATEWAY, 9), 1);
    rustix::io::write(&end, &[head.as_slice(), b"x"].concat()).expect("taken");
    assert!(stack.receive(&mut buffer));
    let length = rustix::io::read(&end, &mut buffer[..]).expect("an answer");
    let packet = Packet::parse(&buffer[..length]).expect("a packet");
    // "Port unreachable", with the packet that it is about.
    assert_eq!((packet.protocol, packet.payload[0], packet.payload[1]), (1, 3, 3));
    let quoted = [&[0; VNET], &packet.payload[8..]].concat();
    let about = Packet::parse(&quoted).expect("a packet");
    assert_eq!((about.target, about.protocol), (GATEWAY, UDP));
    assert_eq!(datagram(about.payload), Some((9, 9, &b"x"[..])));
}
