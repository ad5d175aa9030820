//! Questions for the resolvers outside, asked from the host's network.

use super::message::Query;
use super::server::{read_message, write_message};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a resolver may take before the next one is asked as well.
const HEAD_START: Duration = Duration::from_millis(1500);
/// How long one resolver is waited for: longer than glibc does before it asks
/// once more (`RES_TIMEOUT`, 5 seconds), so that nobody here gives up sooner.
const PATIENCE: Duration = Duration::from_secs(6);
/// Bytes: the asker's EDNS size goes out as it came, and may be any of 16 bits.
const LARGEST_DATAGRAM: usize = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Datagram,
    Stream,
}

/// Asks the resolvers in their order, each after the one before has failed or let
/// its head start pass; whoever answers first is believed. The answer has the
/// asker's number. `None` where there is none.
pub(super) async fn ask(
    resolvers: Vec<SocketAddr>,
    query: &Query,
    bytes: &[u8],
    way: Way,
) -> Option<Vec<u8>> {
    let question = Rc::new((query.clone(), bytes.to_vec()));
    let mut asked = JoinSet::new();
    let mut resolvers = resolvers.into_iter();
    let mut refusal = None;
    loop {
        if let Some(resolver) = resolvers.next() {
            let question = Rc::clone(&question);
            asked.spawn_local(timeout(PATIENCE, async move { ask_one(resolver, &question, way).await }));
        }
        let heard = match resolvers.len() {
            0 => asked.join_next().await,
            _ => match timeout(HEAD_START, asked.join_next()).await {
                Ok(heard) => heard,
                Err(_) => continue,
            },
        };
        match heard {
            // One that cannot or will not answer: another may.
            Some(Ok(Ok(Ok(answer)))) if matches!(answer[3] & 0xf, 2 | 5) => refusal = Some(answer),
            Some(Ok(Ok(Ok(answer)))) => return Some(answer),
            Some(_) => {}
            None => return refusal,
        }
    }
}

/// Under a number of our own, which is the asker's again in what comes back.
async fn ask_one(resolver: SocketAddr, question: &(Query, Vec<u8>), way: Way) -> io::Result<Vec<u8>> {
    let (query, bytes) = question;
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id[..], rustix::rand::GetRandomFlags::empty())?;
    let mut bytes = bytes.clone();
    bytes[..2].copy_from_slice(&id);
    let id = u16::from_be_bytes(id);
    let mut answer = match way {
        Way::Datagram => ask_datagram(resolver, query, id, &bytes).await?,
        Way::Stream => ask_stream(resolver, query, id, &bytes).await?,
    };
    answer[..2].copy_from_slice(&query.id.to_be_bytes());
    Ok(answer)
}

async fn ask_datagram(resolver: SocketAddr, query: &Query, id: u16, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr =
        if resolver.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A port of its own for each question, drawn by the kernel.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(bytes).await?;
    loop {
        let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
        if ready.is_error() {
            // Nobody listens there: not told by `recv`, which waits for data alone.
            return Err(socket.take_error()?.unwrap_or_else(|| io::ErrorKind::ConnectionRefused.into()));
        }
        // The memory is taken when there is something to put into it: many wait.
        let mut buffer = vec![0; LARGEST_DATAGRAM];
        match socket.try_recv(&mut buffer) {
            Ok(length) if query.is_answered_by(id, &buffer[..length]) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn ask_stream(resolver: SocketAddr, query: &Query, id: u16, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    write_message(&mut stream, bytes).await?;
    let answer = read_message(&mut stream).await?;
    if query.is_answered_by(id, &answer) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Code, TYPE_A, question};
    use super::*;
    use std::time::Instant;

    /// A resolver that answers each question after `delay` with `length` bytes.
    async fn resolver(delay: Duration, code: Code, length: usize) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let address = socket.local_addr().expect("bound");
        tokio::task::spawn_local(async move {
            let mut buffer = [0; 512];
            loop {
                let (_, from) = socket.recv_from(&mut buffer).await.expect("a question");
                tokio::time::sleep(delay).await;
                let mut answer = Query::parse(&buffer).expect("a query").answer(code, &[], true);
                answer.resize(length.max(answer.len()), 7);
                socket.send_to(&answer, from).await.expect("sent");
            }
        });
        address
    }

    /// An address where nobody listens.
    fn nobody() -> SocketAddr {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.local_addr().expect("bound")
    }

    fn asked(test: impl AsyncFnOnce(&Query, &[u8])) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let bytes = question("example.com", TYPE_A);
        let query = Query::parse(&bytes).expect("a query");
        runtime.block_on(tokio::task::LocalSet::new().run_until(test(&query, &bytes)));
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn an_answer_of_any_size_comes_whole() {
        asked(async |query, bytes| {
            let whole = resolver(Duration::ZERO, Code::NoError, 60_000).await;
            let answer = ask(vec![whole], query, bytes, Way::Datagram).await.expect("answered");
            assert_eq!(answer.len(), 60_000);
            assert_eq!(answer[..2], query.id.to_be_bytes());
        });
    }

    #[test]
    fn a_slow_resolver_is_heard() {
        asked(async |query, bytes| {
            let slow = resolver(Duration::from_millis(3300), Code::NoSuchName, 0).await;
            let failing = resolver(Duration::ZERO, Code::ServerFailure, 0).await;
            let answer = ask(vec![slow, failing, nobody()], query, bytes, Way::Datagram).await;
            assert_eq!(answer.expect("answered")[3] & 0xf, Code::NoSuchName as u8);
        });
    }

    #[test]
    fn the_next_resolver_does_not_wait_for_the_patience_with_the_first() {
        asked(async |query, bytes| {
            let begun = Instant::now();
            let silent = resolver(LONG, Code::NoError, 0).await;
            let quick = resolver(Duration::ZERO, Code::NoSuchName, 0).await;
            let answer = ask(vec![silent, quick], query, bytes, Way::Datagram).await;
            assert_eq!(answer.expect("answered")[3] & 0xf, Code::NoSuchName as u8);
            assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
            // Nobody there, or one that fails, is not even given its head start.
            let begun = Instant::now();
            let failing = resolver(Duration::ZERO, Code::ServerFailure, 0).await;
            let answer = ask(vec![nobody(), failing, quick], query, bytes, Way::Datagram).await;
            assert_eq!(answer.expect("answered")[3] & 0xf, Code::NoSuchName as u8);
            assert!(begun.elapsed() < HEAD_START, "{:?}", begun.elapsed());
            let answer = ask(vec![failing, nobody()], query, bytes, Way::Datagram).await;
            assert_eq!(answer.expect("its refusal")[3] & 0xf, Code::ServerFailure as u8);
            assert_eq!(ask(vec![nobody()], query, bytes, Way::Datagram).await, None);
        });
    }
}
