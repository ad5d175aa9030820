//! Reading a container's log back, while its monitor may write to it.
//!
//! A reader takes no lock. It holds the files that it reads open, so a rotation
//! under its feet takes nothing from it: it drains the file it has, then goes
//! on with the one that was begun after it ([`Cursor`]). It reads whole records
//! alone and at given offsets, so a record that is half written (now, or for
//! good after a crash) is not seen, and the writer may cut it off. Memory is
//! bounded by [`LONGEST_LINE`]; a longer line, or one that is no record, is
//! passed over.
//!
//! Lost to a reader is only what the writer deletes before it was read: a
//! follower that is `max-size` times `max-file` behind.

mod cursor;
mod decode;
mod files;
mod plain;
mod tail;
mod watch;

pub(crate) use cursor::{Cursor, Reach};
pub(crate) use decode::{Record, decode, details};
pub(crate) use plain::{Plain, plain};
pub(crate) use watch::{Awakened, Watch};

use jiff::Timestamp;

/// Bytes; the writer's longest is 16 KiB of text and 16 KiB of attributes, whose
/// bytes take six bytes each.
const LONGEST_LINE: usize = 256 << 10;
/// Bytes read at a time, backwards.
const BLOCK: usize = 64 << 10;

/// Which records are wanted: both ends belong to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
}

impl Window {
    pub(crate) fn contains(&self, time: Timestamp) -> bool {
        !self.is_before(time) && !self.is_after(time)
    }

    /// Whether `time` is too old.
    fn is_before(&self, time: Timestamp) -> bool {
        self.since.is_some_and(|since| time < since)
    }

    /// Whether `time` is too new.
    fn is_after(&self, time: Timestamp) -> bool {
        self.until.is_some_and(|until| time > until)
    }
}

#[cfg(test)]
mod tests;
