//! Large reads, by splice(2): the kernel leads the file's pages through a pipe
//! to /dev/fuse and copies them once, where read(2) and write(2) copy them twice
//! and through this process's memory.

use super::abi::OUT_HEADER;
use super::reply::header;
use crate::error::{Context, Result};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::os::fd::{BorrowedFd, OwnedFd};

/// Below this, copying is quicker than the calls that a pipe takes.
const LEAST: usize = 32 << 10;
/// Bytes of a pipe, of which each page holds a page of the file, or a part of it.
/// The kernel reads ahead by 128 KiB.
const ROOM: usize = 256 << 10;
/// What fits: the header takes a page, and data may begin and end within one.
const MOST: usize = ROOM - 3 * PAGE;
const PAGE: usize = 4096;

/// A thread's pipe.
#[derive(Default)]
pub(super) struct Conduit {
    pipe: Option<Pipe>,
    /// There is no pipe to be had, or the files cannot be spliced.
    closed: bool,
}

struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

/// What is to be read.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) offset: u64,
    pub(super) size: usize,
}

impl Conduit {
    /// Whether it is worth while to ask for the file.
    pub(super) fn takes(&self, wanted: Wanted) -> bool {
        !self.closed && (LEAST..=MOST).contains(&wanted.size)
    }

    /// Answers the read `unique` from `file`; false where it has to be answered
    /// as any other.
    pub(super) fn pass(
        &mut self,
        device: BorrowedFd<'_>,
        unique: u64,
        file: BorrowedFd<'_>,
        wanted: Wanted,
    ) -> bool {
        // Its length comes first in the answer. What is cut off after this look
        // is missed below.
        let end = rustix::fs::fstat(file).map_or(0, |stat| stat.st_size as u64);
        let left = usize::try_from(end.saturating_sub(wanted.offset)).unwrap_or(usize::MAX);
        let wanted = Wanted { size: wanted.size.min(left), ..wanted };
        if !self.takes(wanted) {
            return false;
        }
        let Ok(pipe) = self.pipe.take().map_or_else(Pipe::new, Ok) else {
            self.closed = true;
            return false;
        };
        match pipe.fill(unique, file, wanted).and_then(|()| pipe.empty(device, OUT_HEADER + wanted.size)) {
            Ok(()) => {
                self.pipe = Some(pipe);
                true
            }
            // What is in it goes with the pipe.
            Err(errno) => {
                self.closed = errno == Errno::INVAL;
                false
            }
        }
    }
}

impl Pipe {
    fn new() -> Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).context(|| "make a pipe")?;
        // Refused to users that have many large ones: pipe(7).
        fcntl_setpipe_size(&writer, ROOM).context(|| "enlarge a pipe")?;
        Ok(Self { reader, writer })
    }

    /// # Errors
    /// NODATA where the file ends too early.
    fn fill(&self, unique: u64, file: BorrowedFd<'_>, wanted: Wanted) -> rustix::io::Result<()> {
        let head = header(OUT_HEADER + wanted.size, 0, unique);
        rustix::io::retry_on_intr(|| rustix::io::write(&self.writer, &head))?;
        let (mut at, end) = (wanted.offset, wanted.offset + wanted.size as u64);
        while at < end {
            let left = (end - at) as usize;
            // Never waits for room: there is nobody else to make it.
            match splice(file, Some(&mut at), &self.writer, None, left, SpliceFlags::NONBLOCK) {
                Ok(0) => return Err(Errno::NODATA),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// In one step: an answer is taken whole or not at all.
    fn empty(&self, device: BorrowedFd<'_>, length: usize) -> rustix::io::Result<()> {
        let taken = rustix::io::retry_on_intr(|| {
            splice(&self.reader, None, device, None, length, SpliceFlags::empty())
        })?;
        if taken == length { Ok(()) } else { Err(Errno::IO) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, memfd_create};
    use std::os::fd::AsFd;

    fn file(length: usize) -> (OwnedFd, Vec<u8>) {
        let bytes: Vec<u8> = (0..length).map(|at| (at / 7) as u8).collect();
        let file = memfd_create("source", MemfdFlags::CLOEXEC).expect("memfd");
        assert_eq!(rustix::io::write(&file, &bytes).expect("write"), length);
        (file, bytes)
    }

    fn passed(conduit: &mut Conduit, source: &OwnedFd, wanted: Wanted) -> Option<Vec<u8>> {
        let device = memfd_create("device", MemfdFlags::CLOEXEC).expect("memfd");
        let done = conduit.pass(device.as_fd(), 77, source.as_fd(), wanted);
        let mut bytes = vec![0; 2 * ROOM];
        let length = rustix::io::pread(&device, &mut bytes, 0).expect("read");
        bytes.truncate(length);
        assert_eq!(length == 0, !done);
        done.then_some(bytes)
    }

    #[test]
    fn an_answer_is_the_header_and_the_file_as_far_as_it_goes() {
        let (source, bytes) = file(300_000);
        let mut conduit = Conduit::default();
        for (offset, size) in [(0, 128 << 10), (131_072, 128 << 10), (100_001, MOST), (200_000, 128 << 10)] {
            let answer = passed(&mut conduit, &source, Wanted { offset, size }).expect("spliced");
            let end = bytes.len().min(offset as usize + size);
            assert_eq!(answer[..OUT_HEADER], header(OUT_HEADER + end - offset as usize, 0, 77));
            assert!(answer[OUT_HEADER..] == bytes[offset as usize..end], "from {offset}");
        }
    }

    #[test]
    fn what_is_small_or_too_large_or_not_there_is_left_to_others() {
        let (source, _) = file(300_000);
        let mut conduit = Conduit::default();
        for (offset, size) in [(0, LEAST - 1), (0, MOST + 1), (299_000, 128 << 10), (1 << 40, 128 << 10)] {
            assert_eq!(passed(&mut conduit, &source, Wanted { offset, size }), None);
        }
        assert!(passed(&mut conduit, &source, Wanted { offset: 0, size: LEAST }).is_some(), "as before");
    }

    #[test]
    fn a_file_that_ends_too_early_leaves_nothing_behind() {
        let (source, _) = file(100_000);
        let pipe = Pipe::new().expect("pipe");
        let wanted = Wanted { offset: 0, size: 128 << 10 };
        assert_eq!(pipe.fill(1, source.as_fd(), wanted), Err(Errno::NODATA));
    }
}
