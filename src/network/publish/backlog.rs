//! Datagrams that the container has no room for yet.
//!
//! A program in the container reads from a socket with a buffer, of some ninety
//! datagrams of an Ethernet's length unless it asks for more; what comes while
//! that is full is lost, and the sender does not hear of it. Here between two
//! sockets of one kernel it can be known before: the kernel tells how full the
//! receiver's is. So what has no room waits here, for as long as a datagram may
//! be under way, while the program gets the time to read.

use crate::network::netlink::Diagnosis;
use crate::sys::inet::BATCH;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What has waited for so long is lost: late is worse than never for most that
/// is sent as datagrams.
const MAX_AGE: Duration = Duration::from_millis(50);
/// Bytes that may wait for one client, and for all.
const MAX_BYTES: usize = 4 << 20;
const MAX_ALL: usize = 32 << 20;
/// Bytes that are sent before the receiver is first asked about: most clients
/// send less at a time.
const FIRST_CREDIT: usize = 16 << 10;
/// Where the kernel tells nothing: so many until it is asked again.
const UNKNOWN: usize = 1 << 20;

/// What is known of a client's receiver, and what waits for it.
#[derive(Debug)]
pub(super) struct Backlog {
    /// The client as the container sees it, and the container.
    from: SocketAddr,
    to: SocketAddr,
    /// Bytes of the receiver's buffer that are known to be free.
    credit: usize,
    waiting: VecDeque<(Instant, Vec<u8>)>,
    /// All that wait.
    bytes: usize,
}

impl Backlog {
    pub(super) fn new(from: SocketAddr, to: SocketAddr) -> Self {
        Self { from, to, credit: FIRST_CREDIT, waiting: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many of the next datagrams, with these lengths, the receiver has room
    /// for. They are taken to be sent.
    pub(super) fn fitting(
        &mut self,
        lengths: impl Iterator<Item = usize>,
        diagnosis: &mut Option<Diagnosis>,
    ) -> usize {
        let mut count = 0;
        for length in lengths {
            let cost = cost(length);
            if self.credit < cost && (count > 0 || !self.ask(cost, diagnosis)) {
                break;
            }
            self.credit -= cost;
            count += 1;
        }
        count
    }

    /// How many of those that wait the receiver has room for now: a batch at
    /// most. They are taken to be sent.
    pub(super) fn ready(&mut self, diagnosis: &mut Option<Diagnosis>) -> usize {
        let lengths: Vec<usize> = self.waiting().take(BATCH).map(<[u8]>::len).collect();
        self.fitting(lengths.into_iter(), diagnosis)
    }

    /// Whether there is room for so many bytes.
    fn ask(&mut self, cost: usize, diagnosis: &mut Option<Diagnosis>) -> bool {
        let told = diagnosis.as_mut().map(|diagnosis| diagnosis.datagrams(self.from, self.to));
        self.credit = match told {
            Some(Ok(received)) => {
                let free = received.limit.saturating_sub(received.used);
                // A program that is woken for each datagram gets nowhere.
                let worth_it = received.used == 0 || free >= received.limit / 4;
                // Others may have the same receiver. Nothing is too large for one
                // that is empty.
                let least = if received.used == 0 { cost } else { 0 };
                if worth_it { (free - free / 4).max(least) } else { 0 }
            }
            // Nobody is there, or the kernel does not tell.
            Some(Err(_)) | None => UNKNOWN,
        };
        self.credit >= cost
    }

    /// Keeps a datagram, where there is room for it. `all` is what waits for all
    /// clients.
    pub(super) fn keep(&mut self, datagram: &[u8], now: Instant, all: &mut usize) {
        let size = size(datagram.len());
        if self.bytes + size <= MAX_BYTES && *all + size <= MAX_ALL {
            self.waiting.push_back((now, datagram.to_vec()));
            self.bytes += size;
            *all += size;
        }
    }

    /// What waits, the oldest first.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &[u8]> {
        self.waiting.iter().map(|(_, datagram)| datagram.as_slice())
    }

    /// Forgets the first so many.
    pub(super) fn forget(&mut self, count: usize, all: &mut usize) {
        for (_, datagram) in self.waiting.drain(..count.min(self.waiting.len())) {
            self.bytes -= size(datagram.len());
            *all -= size(datagram.len());
        }
    }

    /// Forgets those that are too old.
    pub(super) fn forget_old(&mut self, now: Instant, all: &mut usize) {
        let is_old = |at: &Instant| now.duration_since(*at) > MAX_AGE;
        let count = self.waiting.iter().take_while(|(at, _)| is_old(at)).count();
        self.forget(count, all);
    }
}

/// Bytes of this process that a datagram takes.
fn size(length: usize) -> usize {
    length + 64
}

/// Bytes of a receiver's buffer that a datagram takes: memory comes in powers of
/// two, and the kernel needs some for itself.
fn cost(length: usize) -> usize {
    (length + 512).next_power_of_two() + 512
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn no_more_fits_than_the_receiver_takes() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        receiver.set_nonblocking(true).expect("set");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let (from, to) = (sender.local_addr().expect("one"), receiver.local_addr().expect("one"));
        let mut diagnosis = Diagnosis::open().ok();
        if diagnosis.as_mut().is_none_or(|diagnosis| diagnosis.datagrams(from, to).is_err()) {
            eprintln!("skipped: a kernel without CONFIG_INET_UDP_DIAG");
            return;
        }
        for length in [0, 100, 1400, 9000, 60_000] {
            let mut backlog = Backlog::new(from, to);
            let datagram = vec![0; length];
            let mut sent = 0;
            for _ in 0..10_000 {
                let count = backlog.fitting([length; 64].into_iter(), &mut diagnosis);
                if count == 0 {
                    break;
                }
                for _ in 0..count {
                    sender.send_to(&datagram, to).expect("sent");
                }
                sent += count;
            }
            let (mut arrived, mut buffer) = (0, vec![0; 1 << 16]);
            while receiver.recv(&mut buffer).is_ok() {
                arrived += 1;
            }
            assert!(arrived == sent && sent > 0, "of {sent} with {length} bytes each {arrived} arrived");
        }
    }

    #[test]
    fn what_waits_is_bounded_and_goes_with_time() {
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut backlog = Backlog::new(address, address);
        let (mut all, now) = (0, Instant::now());
        for _ in 0..MAX_BYTES / 1000 {
            backlog.keep(&[7; 1000], now, &mut all);
        }
        assert!(backlog.bytes() == all && all <= MAX_BYTES && all > MAX_BYTES - 2000);
        backlog.forget(1, &mut all);
        backlog.keep(b"last", now + MAX_AGE, &mut all);
        backlog.forget_old(now + MAX_AGE + Duration::from_millis(1), &mut all);
        assert_eq!(backlog.waiting().collect::<Vec<_>>(), [b"last"]);
        assert_eq!((backlog.bytes(), all), (68, 68));
        backlog.keep(b"more", now, &mut { MAX_ALL });
        backlog.forget(9, &mut all);
        assert!(backlog.is_empty() && all == 0);
    }
}
