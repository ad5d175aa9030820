//! The server at a network's gateway: UDP and TCP, on one thread.
//!
//! What a container can cost is bounded: questions under way, connections, and
//! the time that each may take. A query that would be one too many is answered
//! with a failure, so that its asker does not wait.

use super::forward::{self, Way};
use super::message::{Code, HEADER, Query, Record};
use super::names::{Names, Verdict};
use crate::error::BestEffort;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

const PORT: u16 = 53;
/// Questions that resolvers outside are asked at a time.
const MOST_FORWARDED: usize = 1024;
/// Connections of one network and of one container.
const MOST_CONNECTIONS: usize = 256;
const MOST_OF_ONE: usize = 16;
/// For a whole question to come over TCP, and for its answer to be taken.
const SLOWEST: Duration = Duration::from_secs(5);
/// Questions of one connection.
const MOST_QUESTIONS: usize = 128;
/// Resolvers that are tried.
const MOST_RESOLVERS: usize = 3;

/// What all servers of one holder share.
pub(crate) struct Shared {
    pub(crate) names: RefCell<Names>,
    forwarded: Cell<usize>,
    /// Where the host's resolvers are named.
    resolv_conf: String,
}

impl Shared {
    pub(crate) fn new(resolv_conf: &str) -> Rc<Self> {
        Rc::new(Self {
            names: RefCell::default(),
            forwarded: Cell::new(0),
            resolv_conf: resolv_conf.to_owned(),
        })
    }

    /// Those of the network, else those of `resolv.conf`, as it is now: VPNs come
    /// and go.
    fn resolvers(&self, own: &[IpAddr]) -> Vec<SocketAddr> {
        if !own.is_empty() {
            return own.iter().take(MOST_RESOLVERS).map(|server| SocketAddr::from((*server, PORT))).collect();
        }
        let text = std::fs::read_to_string(&self.resolv_conf).unwrap_or_default();
        let mut found = nameservers(&text);
        if found.is_empty() {
            // resolv.conf(5): the one on this machine.
            found.push(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
        }
        found
    }
}

fn nameservers(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next())?
        })
        .filter_map(|word| word.split('%').next()?.parse::<IpAddr>().ok())
        .map(|address| SocketAddr::from((address, PORT)))
        .take(MOST_RESOLVERS)
        .collect()
}

/// Answers datagrams until it is aborted.
pub(crate) async fn datagrams(shared: Rc<Shared>, network: String, socket: std::net::UdpSocket) {
    let Ok(socket) = UdpSocket::from_std(socket) else { return };
    let socket = Rc::new(socket);
    let mut buffer = vec![0; 4096];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            // The errors of earlier answers come here: their askers are gone.
            tokio::task::yield_now().await;
            continue;
        };
        let bytes = &buffer[..length];
        let query = match Query::parse(bytes) {
            Ok(query) => query,
            Err(answer) => {
                if let Some(answer) = answer {
                    socket.try_send_to(&answer, from).or_ignore();
                }
                continue;
            }
        };
        let verdict = shared.names.borrow().decide(&network, plain(from.ip()), &query);
        match verdict {
            Verdict::Answer(code, records) => {
                socket.send_to(&query.answer(code, &turned(records), true), from).await.or_ignore();
            }
            Verdict::Forward(servers) => {
                let Some(turn) = Turn::take(&shared) else {
                    socket.try_send_to(&query.answer(Code::ServerFailure, &[], true), from).or_ignore();
                    continue;
                };
                let resolvers = shared.resolvers(&servers);
                let (socket, bytes) = (Rc::clone(&socket), bytes.to_vec());
                tokio::task::spawn_local(async move {
                    let answer = forward::ask(resolvers, &query, &bytes, Way::Datagram).await;
                    let answer = answer.unwrap_or_else(|| query.answer(Code::ServerFailure, &[], true));
                    socket.send_to(&answer, from).await.or_ignore();
                    drop(turn);
                });
            }
        }
    }
}

/// Answers connections until it is aborted.
pub(crate) async fn connections(shared: Rc<Shared>, network: String, listener: std::net::TcpListener) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let open: Rc<RefCell<HashMap<IpAddr, usize>>> = Rc::default();
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            // Out of fds: those that are open end soon.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let source = plain(from.ip());
        {
            let mut open = open.borrow_mut();
            let all: usize = open.values().sum();
            let own = open.entry(source).or_default();
            if *own >= MOST_OF_ONE || all >= MOST_CONNECTIONS {
                continue;
            }
            *own += 1;
        }
        let (shared, network, open) = (Rc::clone(&shared), network.clone(), Rc::clone(&open));
        tokio::task::spawn_local(async move {
            converse(&shared, &network, source, stream).await;
            let mut open = open.borrow_mut();
            if let Some(own) = open.get_mut(&source) {
                *own -= 1;
            }
            open.retain(|_, own| *own > 0);
        });
    }
}

async fn converse(shared: &Rc<Shared>, network: &str, source: IpAddr, mut stream: TcpStream) {
    for _ in 0..MOST_QUESTIONS {
        let Ok(Ok(bytes)) = timeout(SLOWEST, read_message(&mut stream)).await else { return };
        let answer = match Query::parse(&bytes) {
            Ok(query) => {
                let verdict = shared.names.borrow().decide(network, source, &query);
                match (verdict, Turn::take(shared)) {
                    (Verdict::Answer(code, records), _) => query.answer(code, &turned(records), false),
                    (Verdict::Forward(servers), Some(_turn)) => {
                        let resolvers = shared.resolvers(&servers);
                        let answer = forward::ask(resolvers, &query, &bytes, Way::Stream).await;
                        answer.unwrap_or_else(|| query.answer(Code::ServerFailure, &[], false))
                    }
                    (Verdict::Forward(_), None) => query.answer(Code::ServerFailure, &[], false),
                }
            }
            Err(Some(answer)) => answer,
            Err(None) => return,
        };
        match timeout(SLOWEST, write_message(&mut stream, &answer)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}

/// Another comes first each time: many clients take the first, and all that
/// have a name shall be found by it.
fn turned(mut records: Vec<Record>) -> Vec<Record> {
    let mut drawn = [0; 2];
    // What an address is called has an order: its name is the first.
    let are_names = records.iter().any(|record| matches!(record, Record::Name(_)));
    // Not by turns: who asks for IPv4 and IPv6 in one go would always get the same.
    if records.len() > 1
        && !are_names
        && rustix::rand::getrandom(&mut drawn[..], rustix::rand::GetRandomFlags::empty()).is_ok()
    {
        let first = usize::from(u16::from_ne_bytes(drawn)) % records.len();
        records.rotate_left(first);
    }
    records
}

/// An address of a socket that may speak both versions.
fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

pub(super) async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    // Memory is taken for what comes, not for what is announced.
    let mut bytes = Vec::new();
    stream.take(length.into()).read_to_end(&mut bytes).await?;
    if bytes.len() == usize::from(length) && bytes.len() >= HEADER {
        Ok(bytes)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

pub(super) async fn write_message(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let mut framed = u16::try_from(bytes.len()).map_err(io::Error::other)?.to_be_bytes().to_vec();
    framed.extend(bytes);
    stream.write_all(&framed).await
}

/// One of the questions that may be under way.
struct Turn(Rc<Shared>);

impl Turn {
    fn take(shared: &Rc<Shared>) -> Option<Self> {
        let count = shared.forwarded.get();
        (count < MOST_FORWARDED).then(|| {
            shared.forwarded.set(count + 1);
            Self(Rc::clone(shared))
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.forwarded.set(self.0.forwarded.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{TYPE_A, question};
    use super::*;
    use crate::types::network::{Network, Pool, Subnet};

    #[test]
    fn resolvers_of_the_host() {
        let text = "search x\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\n# nameserver 1.1.1.1\nnameserver\nnameserver x\n";
        let found: Vec<String> = nameservers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["127.0.0.53:53", "[fe80::1]:53"]);
    }

    fn with_server<T>(test: impl AsyncFnOnce(SocketAddr, SocketAddr) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let local = tokio::task::LocalSet::new();
        runtime.block_on(local.run_until(async {
            let shared = Shared::new("/nonexistent");
            let subnet = Subnet::parse("10.1.0.0/24").expect("a subnet");
            let pool = Pool { subnet, gateway: subnet.nth(1).expect("an address"), range: None };
            shared.names.borrow_mut().set_network(&Network {
                version: 1,
                id: String::new(),
                name: "n".into(),
                created: jiff::Timestamp::UNIX_EPOCH,
                pools: vec![pool],
                internal: true,
                dns: true,
                ..Network::default()
            });
            let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
            let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
            udp.set_nonblocking(true).and_then(|()| tcp.set_nonblocking(true)).expect("set");
            let addresses = (udp.local_addr().expect("bound"), tcp.local_addr().expect("bound"));
            tokio::task::spawn_local(datagrams(Rc::clone(&shared), "n".into(), udp));
            tokio::task::spawn_local(connections(shared, "n".into(), tcp));
            test(addresses.0, addresses.1).await
        }))
    }

    #[test]
    fn slow_connections_keep_nobody_else_from_an_answer() {
        with_server(async |udp, tcp| {
            // More than one may have: each says the beginning of a length and stops.
            let mut slow = Vec::new();
            for _ in 0..MOST_OF_ONE + 8 {
                let mut stream = TcpStream::connect(tcp).await.expect("connected");
                stream.write_all(&[0]).await.expect("written");
                slow.push(stream);
            }
            let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
            let mut buffer = [0; 512];
            for _ in 0..2000 {
                socket.send_to(&question("example.com", TYPE_A), udp).await.expect("sent");
                let received = timeout(Duration::from_secs(20), socket.recv(&mut buffer)).await;
                received.expect("in time").expect("received");
                assert_eq!(buffer[3] & 0xf, Code::NoSuchName as u8);
            }
            // The last were refused at once.
            let mut last = slow.pop().expect("one");
            let end = timeout(Duration::from_secs(20), last.read(&mut buffer)).await.expect("in time");
            assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        });
    }

    #[test]
    fn several_questions_on_one_connection() {
        with_server(async |_, tcp| {
            let mut stream = TcpStream::connect(tcp).await.expect("connected");
            for _ in 0..3 {
                write_message(&mut stream, &question("x", TYPE_A)).await.expect("sent");
                let answer = read_message(&mut stream).await.expect("answered");
                assert_eq!(answer[3] & 0xf, Code::NoSuchName as u8);
            }
            stream.write_all(&[0, 3, 1, 2, 3]).await.expect("sent");
            assert!(read_message(&mut stream).await.is_err(), "what is no message ends the connection");
        });
    }
}
