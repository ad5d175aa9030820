//! Several transfers at once, ended together at the first failure.

use crate::error::{Error, Result};
use crate::types::progress::Report;
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
    reports: mpsc::Sender<Report>,
}

impl Worker<'_> {
    /// The item is through.
    pub(crate) fn ended(&self, id: &str, text: &str) {
        self.report(Report::Ended { id: id.to_owned(), text: text.to_owned() });
    }

    fn report(&self, report: Report) {
        // Where nobody listens any more there is nobody to tell.
        drop(self.reports.send(report));
    }

    /// `inner`, which fails from the moment that another worker has failed.
    pub(crate) fn watch<R: Read>(&self, inner: R, meter: Meter<'_>) -> Watched<'_, R> {
        let Meter { id, verb, done, total } = meter;
        Watched { inner, worker: self.clone(), id: id.to_owned(), verb, done, told: done, total }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// What is told of a transfer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter<'a> {
    pub(crate) id: &'a str,
    /// `Downloading`
    pub(crate) verb: &'static str,
    /// Bytes that are through already.
    pub(crate) done: u64,
    pub(crate) total: u64,
}

/// Bytes between two reports of one transfer.
const REPORT_EVERY: u64 = 256 << 10;

pub(crate) struct Watched<'a, R> {
    inner: R,
    worker: Worker<'a>,
    id: String,
    verb: &'static str,
    done: u64,
    told: u64,
    total: u64,
}

impl<R> Watched<'_, R> {
    pub(crate) fn inner(&mut self) -> &mut R {
        &mut self.inner
    }
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.worker.is_cancelled() {
            return Err(std::io::Error::other("another transfer failed"));
        }
        let result = self.inner.read(buffer);
        self.done += result.as_ref().map_or(0, |count| *count as u64);
        if self.done >= self.told + REPORT_EVERY {
            self.told = self.done;
            let (id, verb, done, total) = (self.id.clone(), self.verb, self.done, self.total);
            self.worker.report(Report::Moving { id, verb, done, total });
        }
        result
    }
}

/// Does `work` for each item, at most [`WORKERS`] at once, and passes the
/// workers' reports to `tell` as they come.
///
/// # Errors
/// The first failure; the other workers stop at their next read.
pub(crate) fn in_parallel<T: Sync>(
    items: &[T],
    tell: &mut dyn FnMut(Report),
    work: impl Fn(&T, &Worker<'_>) -> Result<()> + Sync,
) -> Result<()> {
    let cancelled = AtomicBool::new(false);
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let (sender, reports) = mpsc::channel();
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
            let worker = Worker { cancelled: &cancelled, reports: sender.clone() };
            let run = &run;
            scope.spawn(move || run(worker));
        }
        drop(sender);
        for report in reports {
            tell(report);
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
        let mut tell = |report| match report {
            Report::Ended { id, .. } => told.push(id.parse::<u32>().expect("number")),
            other => panic!("{other:?}"),
        };
        in_parallel(&items, &mut tell, |item, worker| {
            worker.ended(&item.to_string(), "done");
            Ok(())
        })
        .expect("done");
        told.sort_unstable();
        assert_eq!(told, items);
    }

    #[test]
    fn the_first_failure_ends_the_others() {
        let result = in_parallel(&[0, 1, 2, 3], &mut |_| {}, |item, worker| {
            if *item == 2 {
                return Err(Error::failed("two"));
            }
            let meter = Meter { id: "x", verb: "Reading", done: 0, total: u64::MAX };
            let mut endless = worker.watch(std::io::repeat(0), meter);
            match std::io::copy(&mut endless, &mut std::io::sink()) {
                Err(_) => Err(Error::failed("stopped")),
                Ok(_) => Err(Error::failed("not stopped")),
            }
        });
        assert_eq!(result.expect_err("failed").to_string(), "two");
    }
}
