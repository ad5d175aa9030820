//! Several transfers at once, ended together at the first failure.

use crate::error::{Error, Result};
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};

/// How many transfers run at once: docker has 3, podman 6.
pub(crate) const WORKERS: usize = 4;

/// What a worker has of its surroundings.
#[derive(Clone, Debug)]
pub(crate) struct Worker<'a> {
    cancelled: &'a AtomicBool,
    lines: mpsc::Sender<String>,
}

impl Worker<'_> {
    /// Tells the user a line.
    pub(crate) fn tell(&self, line: String) {
        // Where nobody listens any more there is nobody to tell.
        drop(self.lines.send(line));
    }

    /// `inner`, which fails from the moment that another worker has failed,
    /// and remembers whether it was `inner` that failed.
    pub(crate) fn watch<R: Read>(&self, inner: R) -> Watched<'_, R> {
        Watched { inner, cancelled: self.cancelled, failed: false }
    }
}

pub(crate) struct Watched<'a, R> {
    inner: R,
    cancelled: &'a AtomicBool,
    /// Reading from the network failed, as opposed to what was done with it.
    pub(crate) failed: bool,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(std::io::Error::other("another transfer failed"));
        }
        let result = self.inner.read(buffer);
        self.failed |= result.is_err();
        result
    }
}

/// Does `work` for each item, at most [`WORKERS`] at once, and passes the
/// workers' lines to `tell` as they come.
///
/// # Errors
/// The first failure; the other workers stop at their next read.
pub(crate) fn in_parallel<T: Sync>(
    items: &[T],
    tell: &mut dyn FnMut(&str),
    work: impl Fn(&T, &Worker<'_>) -> Result<()> + Sync,
) -> Result<()> {
    let cancelled = AtomicBool::new(false);
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let (sender, lines) = mpsc::channel();
    let run = |worker: Worker<'_>| {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if cancelled.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = work(item, &worker) {
                let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                // Those that follow are only told to stop.
                failure.get_or_insert(error);
                cancelled.store(true, Ordering::Relaxed);
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..WORKERS.min(items.len()) {
            let worker = Worker { cancelled: &cancelled, lines: sender.clone() };
            let run = &run;
            scope.spawn(move || run(worker));
        }
        drop(sender);
        for line in lines {
            tell(&line);
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_items_are_done_and_told() {
        let items: Vec<u32> = (0..50).collect();
        let mut told = Vec::new();
        in_parallel(&items, &mut |line| told.push(line.to_owned()), |item, worker| {
            worker.tell(item.to_string());
            Ok(())
        })
        .expect("done");
        told.sort_by_key(|text| text.parse::<u32>().expect("number"));
        assert_eq!(told, items.iter().map(u32::to_string).collect::<Vec<_>>());
    }

    #[test]
    fn the_first_failure_ends_the_others() {
        let result = in_parallel(&[0, 1, 2, 3], &mut |_| {}, |item, worker| {
            if *item == 2 {
                return Err(Error::failed("two"));
            }
            let mut endless = worker.watch(std::io::repeat(0));
            match std::io::copy(&mut endless, &mut std::io::sink()) {
                Err(_) if !endless.failed => Err(Error::failed("stopped")),
                _ => Err(Error::failed("not stopped")),
            }
        });
        assert_eq!(result.expect_err("failed").to_string(), "two");
    }
}
