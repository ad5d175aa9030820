//! Reading the event log back, and following it.

use super::{MAX_LINE, before};
use crate::dirs::{Dirs, create_private};
use crate::error::{Context, Result};
use crate::types::event::Event;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Bytes that are read at once.
const BLOCK: usize = 64 << 10;

/// Rotated files that are kept open for their last lines, and the present one.
const OPEN_FILES: usize = 4;

/// How often to look where inotify cannot be had: 200 ms.
const INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// How a wait for further events ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// There may be events to read.
    Changed,
    /// The time is over: there may be events to read, for the last time.
    Over,
    /// Nobody reads what we print any more.
    ReaderGone,
}

/// The log as one reader has read it so far.
pub(crate) struct Log {
    path: PathBuf,
    /// The present one last, and before it those that slow writers may still append to.
    files: Vec<Tail>,
    inotify: Option<OwnedFd>,
}

impl Log {
    /// The log from its beginning. What is appended from now on wakes [`Self::wait`].
    pub(crate) fn open(dirs: &Dirs) -> Result<Self> {
        create_private(&dirs.state)?;
        let inotify = watch(&dirs.state).ok();
        let mut log = Self { path: dirs.events(), files: Vec::new(), inotify };
        log.follow_rotations()?;
        Ok(log)
    }

    /// Leaves out what is there already.
    pub(crate) fn skip(&mut self) -> Result<()> {
        for tail in &mut self.files {
            tail.offset = tail.file.metadata().context(|| "look at the event log")?.len();
        }
        Ok(())
    }

    /// Gives all events that have come since the last call, in their order.
    pub(crate) fn read(&mut self, each: &mut dyn FnMut(Event) -> Result<()>) -> Result<()> {
        // What was read of before the rotation comes before what came after it.
        for tail in &mut self.files {
            tail.read(each)?;
        }
        if self.follow_rotations()? {
            for tail in &mut self.files {
                tail.read(each)?;
            }
        }
        Ok(())
    }

    /// Whether the files have changed places since they were opened.
    fn follow_rotations(&mut self) -> Result<bool> {
        // Each time round another writer was quicker, with 16 MiB: it ends.
        loop {
            let now = identity_at(&self.path)?;
            if self.files.last().map(|tail| tail.identity) == now {
                return Ok(false);
            }
            let Some(current) = Tail::open(&self.path)? else { return Ok(false) };
            let earlier = Tail::open(&before(&self.path))?;
            if identity_at(&self.path)? != Some(current.identity) {
                continue;
            }
            for tail in earlier.into_iter().chain([current]) {
                if self.files.iter().all(|known| known.identity != tail.identity) {
                    self.files.push(tail);
                }
            }
            self.files.drain(..self.files.len().saturating_sub(OPEN_FILES));
            return Ok(true);
        }
    }

    /// Waits until there may be more. `out` is what the events are printed to.
    pub(crate) fn wait(&self, out: BorrowedFd<'_>, timeout: Option<Timespec>) -> Result<Wait> {
        let step = || "wait for events";
        let interval = self.inotify.is_none().then_some(INTERVAL);
        let first = match (timeout, interval) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        // An error or hang-up is always told.
        let mut fds = vec![PollFd::from_borrowed_fd(out, PollFlags::empty())];
        fds.extend(self.inotify.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let ready = match poll(&mut fds, first.as_ref()) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => return Ok(Wait::Changed),
            Err(errno) => return Err(errno).context(step),
        };
        if !fds[0].revents().is_empty() {
            return Ok(Wait::ReaderGone);
        }
        if let Some(fd) = &self.inotify {
            // What changed is seen by looking; more than this wakes again.
            let mut events = [0; 4096];
            match rustix::io::read(fd, &mut events) {
                Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno).context(step),
            }
        }
        Ok(if ready == 0 && first == timeout { Wait::Over } else { Wait::Changed })
    }
}

/// The directory, not the file: a rotation brings a new file.
fn watch(directory: &Path) -> rustix::io::Result<OwnedFd> {
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let events = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
    inotify::add_watch(fd.as_fd(), directory, events)?;
    Ok(fd)
}

/// Device and inode: a file whatever its name.
type Identity = (u64, u64);

fn identity_at(path: &Path) -> Result<Option<Identity>> {
    match std::fs::metadata(path) {
        Ok(meta) => Ok(Some((meta.dev(), meta.ino()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context(|| format!("look at {}", path.display())),
    }
}

/// One file, read up to `offset`: the end of a line.
struct Tail {
    file: File,
    identity: Identity,
    offset: u64,
}

impl Tail {
    fn open(path: &Path) -> Result<Option<Self>> {
        let step = || format!("open {}", path.display());
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(step),
        };
        let meta = file.metadata().context(step)?;
        Ok(Some(Self { file, identity: (meta.dev(), meta.ino()), offset: 0 }))
    }

    /// Reads whole lines; of a torn last one the rest may still come.
    fn read(&mut self, each: &mut dyn FnMut(Event) -> Result<()>) -> Result<()> {
        let mut pending: Vec<u8> = Vec::new();
        let mut block = vec![0; BLOCK];
        loop {
            let at = self.offset + pending.len() as u64;
            let count = match self.file.read_at(&mut block, at) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context(|| "read the event log"),
            };
            if count == 0 {
                return Ok(());
            }
            pending.extend_from_slice(&block[..count]);
            let whole = pending.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            for line in pending[..whole].split(|byte| *byte == b'\n') {
                if let Some(event) = parse(line) {
                    each(event)?;
                }
            }
            pending.drain(..whole);
            self.offset += whole as u64;
            // No line of ours is so long: it is skipped.
            if pending.len() > 2 * MAX_LINE {
                self.offset += pending.len() as u64;
                pending.clear();
            }
        }
    }
}

/// A full disk leaves the beginning of a line before the next one: that one counts.
pub(super) fn parse(line: &[u8]) -> Option<Event> {
    const BEGIN: &[u8] = b"{\"time\":";
    if line.is_empty() {
        return None;
    }
    serde_json::from_slice(line).ok().or_else(|| {
        let last = line.windows(BEGIN.len()).rposition(|window| window == BEGIN)?;
        serde_json::from_slice(&line[last..]).ok()
    })
}
