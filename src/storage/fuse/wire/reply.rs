//! Writing answers.

use super::abi::OUT_HEADER;
use super::filesystem::{Attr, Btime, Entry, Space};

/// Seconds: for as long as the mount lives, as nobody but this server changes
/// anything.
const FOREVER: u64 = 1 << 40;
/// Seconds: over a directory that others change.
const SOON: u64 = 1;

/// An answer that is being put together, header first.
pub(super) struct Reply {
    /// As long as the longest answer so far: what is behind `end` is of the past.
    bytes: Vec<u8>,
    end: usize,
    /// Seconds for which the kernel may take what it is told for granted.
    valid: u64,
    /// The attributes of files are to be asked for each time.
    doubtful: bool,
}

impl Reply {
    /// For answers that hold for good, or for a second.
    pub(super) fn new(lasting: bool) -> Self {
        Self {
            bytes: vec![0; OUT_HEADER],
            end: OUT_HEADER,
            valid: if lasting { FOREVER } else { SOON },
            doubtful: false,
        }
    }

    /// Whether attributes of files hold for no time at all in what follows.
    pub(super) fn doubt(&mut self, doubtful: bool) {
        self.doubtful = doubtful;
    }

    fn valid_for(&self, attr: &Attr) -> u64 {
        let is_file = attr.mode & libc::S_IFMT == libc::S_IFREG;
        if self.doubtful && is_file { 0 } else { self.valid }
    }

    pub(super) fn clear(&mut self) {
        self.end = OUT_HEADER;
    }

    /// Bytes of the answer so far, without the header.
    pub(super) fn len(&self) -> usize {
        self.end - OUT_HEADER
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.end = self.end.min(OUT_HEADER + length);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_ne_bytes());
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_ne_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_ne_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.data(bytes.len()).copy_from_slice(bytes);
    }

    /// So many bytes of nothing.
    pub(super) fn zeros(&mut self, count: usize) {
        self.data(count).fill(0);
    }

    /// Room for `count` bytes that the caller fills, or takes back: they are not
    /// cleared, which for a large read would cost as much as reading it.
    pub(super) fn data(&mut self, count: usize) -> &mut [u8] {
        let start = self.end;
        self.end += count;
        if self.bytes.len() < self.end {
            self.bytes.resize(self.end, 0);
        }
        &mut self.bytes[start..self.end]
    }

    /// `struct fuse_attr`.
    pub(super) fn attr(&mut self, attr: &Attr) {
        for value in [attr.ino, attr.size, attr.blocks] {
            self.u64(value);
        }
        for (seconds, _) in [attr.atime, attr.mtime, attr.ctime] {
            self.u64(seconds as u64);
        }
        for (_, nanoseconds) in [attr.atime, attr.mtime, attr.ctime] {
            self.u32(nanoseconds);
        }
        for value in [attr.mode, attr.nlink, attr.uid, attr.gid, attr.rdev, attr.blksize, 0] {
            self.u32(value);
        }
    }

    /// `struct fuse_entry_out`; a node of 0 is a name that is known to be absent.
    pub(super) fn entry(&mut self, entry: &Entry) {
        for value in [entry.node, 0, self.valid, self.valid_for(&entry.attr)] {
            self.u64(value);
        }
        self.u64(0);
        self.attr(&entry.attr);
    }

    /// `struct fuse_attr_out`.
    pub(super) fn attr_out(&mut self, attr: &Attr) {
        self.u64(self.valid_for(attr));
        self.u64(0);
        self.attr(attr);
    }

    /// `struct fuse_statx_out`.
    pub(super) fn statx(&mut self, attr: &Attr, btime: Btime) {
        /// STATX_BASIC_STATS and STATX_BTIME.
        const BASIC: u32 = 0x7ff;
        const BTIME: u32 = 0x800;
        for value in [self.valid_for(attr), 0, 0, 0] {
            self.u64(value);
        }
        self.u32(if btime.is_some() { BASIC | BTIME } else { BASIC });
        self.u32(attr.blksize);
        self.u64(0);
        for value in [attr.nlink, attr.uid, attr.gid, attr.mode & 0xffff] {
            self.u32(value);
        }
        for value in [attr.ino, attr.size, attr.blocks, 0] {
            self.u64(value);
        }
        for (seconds, nanoseconds) in [attr.atime, btime.unwrap_or_default(), attr.ctime, attr.mtime] {
            self.u64(seconds as u64);
            self.u32(nanoseconds);
            self.u32(0);
        }
        let (major, minor) = (rustix::fs::major(attr.rdev.into()), rustix::fs::minor(attr.rdev.into()));
        for value in [major, minor, 0, 0] {
            self.u32(value);
        }
        self.zeros(14 * 8);
    }

    /// `struct fuse_kstatfs`.
    pub(super) fn space(&mut self, space: &Space) {
        for value in [space.blocks, space.free, space.available, space.files, space.files_free] {
            self.u64(value);
        }
        for value in [space.block_size, space.name_length, space.fragment_size, 0] {
            self.u32(value);
        }
        self.zeros(6 * 4);
    }

    /// The whole message: `struct fuse_out_header` and the answer, or nothing
    /// but the header for an error.
    pub(super) fn finish(&mut self, unique: u64, error: i32) -> &[u8] {
        if error < 0 {
            self.clear();
        }
        self.bytes[..OUT_HEADER].copy_from_slice(&header(self.end, error, unique));
        &self.bytes[..self.end]
    }
}

/// `struct fuse_out_header`, of an answer of `length` bytes with it.
pub(super) fn header(length: usize, error: i32, unique: u64) -> [u8; OUT_HEADER] {
    let mut bytes = [0; OUT_HEADER];
    bytes[..4].copy_from_slice(&(length as u32).to_ne_bytes());
    bytes[4..8].copy_from_slice(&error.to_ne_bytes());
    bytes[8..].copy_from_slice(&unique.to_ne_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the structures as the kernel's header has them.
    #[test]
    fn answers_have_the_kernel_s_sizes() {
        let size = |write: &dyn Fn(&mut Reply)| {
            let mut reply = Reply::new(true);
            write(&mut reply);
            reply.len()
        };
        assert_eq!(size(&|reply| reply.attr(&Attr::default())), 88);
        assert_eq!(size(&|reply| reply.entry(&Entry::default())), 128);
        assert_eq!(size(&|reply| reply.attr_out(&Attr::default())), 104);
        assert_eq!(size(&|reply| reply.statx(&Attr::default(), None)), 288);
        assert_eq!(size(&|reply| reply.space(&Space::default())), 80);
    }

    #[test]
    fn nothing_of_the_last_answer_is_in_the_next() {
        let mut reply = Reply::new(true);
        reply.data(100).fill(0xff);
        reply.clear();
        reply.space(&Space::default());
        assert!(reply.finish(0, 0)[4..].iter().all(|byte| *byte == 0));
        reply.clear();
        reply.data(100).fill(1);
        reply.truncate(3);
        assert_eq!(reply.finish(0, 0)[OUT_HEADER..], [1, 1, 1]);
    }

    #[test]
    fn an_error_has_no_body() {
        let mut reply = Reply::new(true);
        reply.u64(1);
        assert_eq!(reply.finish(7, 0).len(), 24);
        assert_eq!(reply.finish(7, -2).len(), 16);
    }
}
