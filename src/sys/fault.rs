//! Places where a test makes a development build fail: at the n-th of the
//! points that the stores pass on their way, `CORACLE_FAULT=kill:N` ends the
//! process as SIGKILL does, and from the n-th on `CORACLE_FAULT=enospc:N` says
//! that the disk is full. Release builds have no such points.

use std::io;

/// What a step that needs room on the disk passes before it is done.
pub(crate) fn point() -> io::Result<()> {
    active::pass(true)
}

/// What a removal or a rename passes: it works on a full disk too.
pub(crate) fn step() {
    // Only room can be lacking.
    drop(active::pass(false));
}

#[cfg(debug_assertions)]
mod active {
    use std::io;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    enum Fault {
        Kill(u64),
        NoSpace(u64),
    }

    static FAULT: OnceLock<Option<Fault>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);

    pub(super) fn pass(needs_room: bool) -> io::Result<()> {
        let Some(fault) = FAULT.get_or_init(from_environment) else { return Ok(()) };
        let now = PASSED.fetch_add(1, Ordering::Relaxed) + 1;
        match fault {
            Fault::Kill(at) if now == *at => {
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::KILL).map_err(io::Error::from)
            }
            Fault::NoSpace(from) if now >= *from && needs_room => {
                Err(io::Error::from_raw_os_error(libc::ENOSPC))
            }
            Fault::Kill(_) | Fault::NoSpace(_) => Ok(()),
        }
    }

    fn from_environment() -> Option<Fault> {
        let text = std::env::var("CORACLE_FAULT").ok()?;
        let (kind, at) = text.split_once(':')?;
        let at = at.parse().ok()?;
        match kind {
            "kill" => Some(Fault::Kill(at)),
            "enospc" => Some(Fault::NoSpace(at)),
            _ => None,
        }
    }
}

#[cfg(not(debug_assertions))]
mod active {
    #[inline]
    pub(super) fn pass(_: bool) -> std::io::Result<()> {
        Ok(())
    }
}
