//! Bytes that wait in order: a ring, whose memory is taken as it is needed and
//! given back when it is told to.

use std::io::{IoSlice, IoSliceMut};

/// The first memory that is taken.
const FIRST: usize = 16 << 10;

#[derive(Debug, Default)]
pub(super) struct Ring {
    /// Its length is 0 or a power of two.
    data: Vec<u8>,
    start: usize,
    length: usize,
}

impl Ring {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Bytes that are held, whether anything waits there or not.
    pub(super) fn memory(&self) -> usize {
        self.data.len()
    }

    /// Makes room for so many more bytes.
    fn reserve(&mut self, more: usize) {
        let wanted = self.length + more;
        if wanted > self.data.len() {
            self.resize(wanted.next_power_of_two().max(FIRST));
        }
    }

    /// Moves to memory of so many bytes, which is enough.
    fn resize(&mut self, size: usize) {
        let mut data = Vec::with_capacity(size);
        let (first, second) = self.slices(0, self.length);
        data.extend_from_slice(first);
        data.extend_from_slice(second);
        data.resize(size, 0);
        (self.data, self.start) = (data, 0);
    }

    /// Gives back what is not needed for what waits.
    pub(super) fn shrink(&mut self) {
        let enough = if self.length == 0 { 0 } else { self.length.next_power_of_two().max(FIRST) };
        if enough < self.data.len() {
            self.resize(enough);
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        let at = self.index(self.length);
        let until_end = bytes.len().min(self.data.len() - at);
        self.data[at..at + until_end].copy_from_slice(&bytes[..until_end]);
        self.data[..bytes.len() - until_end].copy_from_slice(&bytes[until_end..]);
        self.length += bytes.len();
    }

    /// Where at most `limit` bytes more may be put without more memory, to be
    /// [`Ring::added`].
    pub(super) fn spare(&mut self, limit: usize) -> [IoSliceMut<'_>; 2] {
        let end = self.index(self.length);
        let size = self.data.len();
        let limit = limit.min(size - self.length);
        let (low, high) = self.data.split_at_mut(end);
        let first = limit.min(size - end);
        let second = limit - first;
        [IoSliceMut::new(&mut high[..first]), IoSliceMut::new(&mut low[..second])]
    }

    pub(super) fn added(&mut self, count: usize) {
        self.length += count;
        debug_assert!(self.length <= self.data.len());
    }

    /// `length` bytes from `offset` on, which must be there, in two pieces.
    pub(super) fn slices(&self, offset: usize, length: usize) -> (&[u8], &[u8]) {
        if length == 0 {
            return (&[], &[]);
        }
        let at = self.index(offset);
        let first = length.min(self.data.len() - at);
        (&self.data[at..at + first], &self.data[..length - first])
    }

    pub(super) fn io_slices(&self) -> [IoSlice<'_>; 2] {
        let (first, second) = self.slices(0, self.length);
        [IoSlice::new(first), IoSlice::new(second)]
    }

    /// Lets go of the first bytes.
    pub(super) fn consume(&mut self, count: usize) {
        let count = count.min(self.length);
        self.length -= count;
        self.start = if self.length == 0 { 0 } else { self.index(count) };
    }

    fn index(&self, offset: usize) -> usize {
        if self.data.is_empty() { 0 } else { (self.start + offset) & (self.data.len() - 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(ring: &Ring) -> Vec<u8> {
        let (first, second) = ring.slices(0, ring.len());
        [first, second].concat()
    }

    #[test]
    fn bytes_come_out_in_the_order_in_which_they_went_in() {
        let mut ring = Ring::default();
        let mut expected: Vec<u8> = Vec::new();
        let mut next = 0u8;
        for round in 0..2000usize {
            let count = round * 37 % 5000;
            let bytes: Vec<u8> = (0..count)
                .map(|_| {
                    next = next.wrapping_add(1);
                    next
                })
                .collect();
            if round % 2 == 0 {
                ring.push(&bytes);
            } else {
                let mut from = 0;
                for slice in &mut ring.spare(count) {
                    let length = slice.len();
                    slice.copy_from_slice(&bytes[from..from + length]);
                    from += length;
                }
                ring.added(from);
                ring.push(&bytes[from..]);
            }
            expected.extend(bytes);
            let gone = (round * 53 % 5200).min(expected.len());
            ring.consume(gone);
            expected.drain(..gone);
            if round % 7 == 0 {
                ring.shrink();
                assert!(ring.memory() <= (2 * ring.len()).max(FIRST), "round {round}");
            }
            assert_eq!(contents(&ring), expected, "round {round}");
        }
        ring.consume(usize::MAX);
        assert!(ring.is_empty() && ring.memory() > 0);
        ring.shrink();
        assert_eq!(ring.memory(), 0);
    }
}
