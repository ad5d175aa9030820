//! What goes on between inside and outside: connections, and who sends
//! datagrams. Bounded: what is new pushes out what was used least lately.

use super::tcp::{Connection, End};
use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

/// By what a packet of the container finds its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Tcp {
        guest: End,
        peer: End,
    },
    /// All datagrams of one port leave by one socket of the family.
    Udp {
        guest: End,
        is_ipv4: bool,
    },
    /// Echo requests with one identifier.
    Ping {
        guest: IpAddr,
        id: u16,
    },
    /// A question for the resolvers, by a number that nobody finds it by.
    Query(u64),
}

#[derive(Debug)]
pub(super) enum Flow {
    /// With how many resolvers were tried, where it is for them.
    Tcp(Box<Connection>, Option<usize>),
    Udp {
        guest: End,
        socket: OwnedFd,
    },
    Ping {
        guest: IpAddr,
        id: u16,
        socket: OwnedFd,
    },
    Query(Query),
}

/// A question that waits for its answer.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) guest: End,
    /// The resolver, as the container knows it.
    pub(super) asked: End,
    pub(super) question: Vec<u8>,
    pub(super) socket: OwnedFd,
    pub(super) tried: usize,
    /// When another resolver is asked as well; `None` when it has been.
    pub(super) next: Option<Instant>,
    pub(super) deadline: Instant,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    entry: Option<Entry>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) flow: Flow,
    pub(super) used: Instant,
}

/// A place in the table, and which of its tenants is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token(pub(super) u64);

impl Token {
    fn new(index: usize, generation: u32) -> Self {
        Self((u64::from(generation) << 32) | index as u64)
    }

    fn index(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }
}

#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<usize>,
    keys: HashMap<Key, Token>,
    limit: usize,
}

impl Table {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn find(&self, key: &Key) -> Option<Token> {
        self.keys.get(key).copied()
    }

    pub(super) fn get(&mut self, token: Token) -> Option<&mut Entry> {
        let slot = self.slots.get_mut(token.index())?;
        if u64::from(slot.generation) == token.0 >> 32 { slot.entry.as_mut() } else { None }
    }

    /// Puts a flow in; what had to go for it.
    pub(super) fn insert(&mut self, key: Key, flow: Flow) -> (Token, Option<Entry>) {
        let evicted = if self.len() >= self.limit {
            self.least_used().and_then(|token| self.remove(token))
        } else {
            None
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, entry: None });
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        slot.generation = slot.generation.wrapping_add(1);
        slot.entry = Some(Entry { key, flow, used: Instant::now() });
        let token = Token::new(index, slot.generation);
        self.keys.insert(key, token);
        (token, evicted)
    }

    pub(super) fn remove(&mut self, token: Token) -> Option<Entry> {
        let entry = self.get(token)?;
        let key = entry.key;
        let entry = self.slots[token.index()].entry.take();
        self.free.push(token.index());
        self.keys.remove(&key);
        entry
    }

    pub(super) fn tokens(&self) -> Vec<Token> {
        self.keys.values().copied().collect()
    }

    fn least_used(&self) -> Option<Token> {
        let used = |token: &Token| self.slots[token.index()].entry.as_ref().map(Entry::last_use);
        self.keys.values().copied().min_by_key(used)
    }
}

impl Entry {
    pub(super) fn last_use(&self) -> Instant {
        match &self.flow {
            Flow::Tcp(connection, _) => connection.last_use(),
            _ => self.used,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_bounded_and_a_token_means_one_tenant() {
        let mut table = Table::new(3);
        let socket = || OwnedFd::from(std::fs::File::open("/dev/null").expect("a file"));
        let guest = IpAddr::from([10, 0, 2, 100]);
        let mut tokens = Vec::new();
        for id in 0..5 {
            let flow = Flow::Ping { guest, id, socket: socket() };
            let (token, evicted) = table.insert(Key::Ping { guest, id }, flow);
            assert_eq!(evicted.is_some(), id >= 3, "{id}");
            tokens.push(token);
        }
        assert_eq!(table.len(), 3);
        assert!(table.get(tokens[0]).is_none() && table.get(tokens[4]).is_some());
        assert!(table.find(&Key::Ping { guest, id: 0 }).is_none());
        assert!(table.remove(tokens[4]).is_some() && table.remove(tokens[4]).is_none());
        assert_eq!(table.len(), 2);
        assert_eq!(table.tokens().len(), 2);
    }
}
