//! All files that the kernel knows, by node and by the file that they are on disk.
//!
//! Sharded, so that threads seldom meet on a lock.

use super::inode::Inode;
use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

const SHARDS: usize = 64;

/// The identity of a file on disk: see [`super::merged::Merged::identity`].
pub(super) type Identity = u64;

pub(super) struct Table {
    nodes: Vec<RwLock<HashSet<ByNode, Mixing>>>,
    files: Vec<Mutex<HashMap<Identity, Arc<Inode>, Mixing>>>,
    next: AtomicU64,
}

type Mixing = BuildHasherDefault<Mixer>;

/// Found by its node, which it knows itself: half the room of a key beside it.
struct ByNode(Arc<Inode>);

impl Borrow<u64> for ByNode {
    fn borrow(&self) -> &u64 {
        &self.0.node
    }
}

impl Hash for ByNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.node.hash(state);
    }
}

impl PartialEq for ByNode {
    fn eq(&self, other: &Self) -> bool {
        self.0.node == other.0.node
    }
}

impl Eq for ByNode {}

/// Keys are numbers that nobody chooses to collide: one multiplication is enough.
#[derive(Default)]
pub(super) struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 29);
    }
}

fn shard(key: u64) -> usize {
    (key as usize ^ (key >> 7) as usize) % SHARDS
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            nodes: (0..SHARDS).map(|_| RwLock::default()).collect(),
            files: (0..SHARDS).map(|_| Mutex::default()).collect(),
            next: AtomicU64::new(super::wire::ROOT + 1),
        }
    }

    /// A number that no node had before.
    pub(super) fn new_node(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn get(&self, node: u64) -> Option<Arc<Inode>> {
        let shard = self.nodes[shard(node)].read().unwrap_or_else(PoisonError::into_inner);
        shard.get(&node).map(|found| Arc::clone(&found.0))
    }

    pub(super) fn insert_node(&self, inode: &Arc<Inode>) {
        let mut shard = self.nodes[shard(inode.node)].write().unwrap_or_else(PoisonError::into_inner);
        shard.insert(ByNode(Arc::clone(inode)));
    }

    /// The file that is known by this identity.
    pub(super) fn find(&self, identity: Identity) -> Option<Arc<Inode>> {
        self.lock(identity).get(&identity).cloned()
    }

    /// The file of this identity with one reference more of the kernel's; made
    /// where it is not known.
    pub(super) fn refer(&self, identity: Identity, make: impl FnOnce() -> Arc<Inode>) -> Arc<Inode> {
        let mut shard = self.lock(identity);
        let inode = shard.entry(identity).or_insert_with(|| {
            let inode = make();
            self.insert_node(&inode);
            inode
        });
        inode.lookups.fetch_add(1, Ordering::Relaxed);
        Arc::clone(inode)
    }

    /// A file that was just made, with one reference of the kernel's. Whatever
    /// was known by its identity is gone, or it could not have it.
    pub(super) fn add(&self, identity: Identity, inode: &Arc<Inode>) {
        self.insert_node(inode);
        inode.lookups.fetch_add(1, Ordering::Relaxed);
        self.lock(identity).insert(identity, Arc::clone(inode));
    }

    /// The file is (also) this one on disk: it was copied up.
    pub(super) fn alias(&self, identity: Identity, inode: &Arc<Inode>) {
        self.lock(identity).insert(identity, Arc::clone(inode));
    }

    /// This file on disk is none any more.
    pub(super) fn remove_identity(&self, identity: Identity, inode: &Inode) {
        let mut shard = self.lock(identity);
        if shard.get(&identity).is_some_and(|known| known.node == inode.node) {
            shard.remove(&identity);
        }
    }

    /// The kernel lets go of `count` references; true where those were the last
    /// and the file is forgotten. `identities` are those it may be found by.
    pub(super) fn forget(&self, inode: &Arc<Inode>, count: u64, identities: &[Identity]) -> bool {
        // Under the lock under which it could be found anew.
        let mut guards: Vec<(Identity, MutexGuard<'_, _>)> = Vec::with_capacity(2);
        let mut shards: Vec<usize> = identities.iter().map(|identity| shard(*identity)).collect();
        shards.sort_unstable();
        shards.dedup();
        for number in shards {
            let guard = self.files[number].lock().unwrap_or_else(PoisonError::into_inner);
            guards.push((number as u64, guard));
        }
        let before = inode
            .lookups
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| Some(held.saturating_sub(count)))
            .unwrap_or(0);
        if before > count {
            return false;
        }
        for identity in identities {
            for (number, guard) in &mut guards {
                if *number == shard(*identity) as u64
                    && guard.get(identity).is_some_and(|known| known.node == inode.node)
                {
                    guard.remove(identity);
                }
            }
        }
        let mut nodes = self.nodes[shard(inode.node)].write().unwrap_or_else(PoisonError::into_inner);
        nodes.remove(&inode.node);
        true
    }

    fn lock(&self, identity: Identity) -> MutexGuard<'_, HashMap<Identity, Arc<Inode>, Mixing>> {
        self.files[shard(identity)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
