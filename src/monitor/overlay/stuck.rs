//! Servers that answer no more. What the container has asked them for cannot be taken
//! back once they have heard it, not even by SIGKILL: only their end ends it.

use super::Server;
use std::path::Path;
use std::time::Duration;

/// How long a server may do nothing, and not listen, while a container that was killed has
/// not ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// Of a container that was killed and does not end: ends those servers that do nothing
/// all the while. Returns when it has ended some.
pub(crate) async fn end_stuck(servers: &[Server]) {
    let mut before: Vec<_> = servers.iter().map(done_by).collect();
    loop {
        tokio::time::sleep(PATIENCE).await;
        let after: Vec<_> = servers.iter().map(done_by).collect();
        let stuck = servers.iter().zip(before.iter().zip(&after));
        let stuck: Vec<_> =
            stuck.filter(|(_, (before, after))| before.is_some() && before == after).collect();
        for (server, _) in &stuck {
            server.give_up();
        }
        if !stuck.is_empty() {
            return;
        }
        before = after;
    }
}

/// What a server has done so far, as a sum: bytes and calls of proc_pid_io(5). None where
/// that is not known, while it listens, and while it waits for a disk, which is no fault
/// of its own.
fn done_by(server: &Server) -> Option<u64> {
    let process = format!("/proc/{}", server.pid());
    if threads_of(&process)?.any(|thread| thread.state == 'D' || thread.listens()) {
        return None;
    }
    std::fs::read_to_string(format!("{process}/io")).ok().map(|io| sum(&io))
}

fn sum(io: &str) -> u64 {
    let numbers = io.lines().filter_map(|line| line.split_once(": ")?.1.parse::<u64>().ok());
    numbers.fold(0, u64::wrapping_add)
}

struct Thread {
    /// Field 3 of proc_pid_stat(5).
    state: char,
    /// The function of the kernel in which it sleeps, from proc_pid_wchan(5); `0` where
    /// that is not told.
    sleeps_in: String,
}

impl Thread {
    /// As far as is known.
    fn listens(&self) -> bool {
        self.sleeps_in.contains("fuse_dev") || self.state == 'S' && self.sleeps_in == "0"
    }
}

fn threads_of(process: &str) -> Option<impl Iterator<Item = Thread>> {
    let tasks = std::fs::read_dir(Path::new(process).join("task")).ok()?;
    Some(tasks.flatten().filter_map(|task| {
        let thread = task.file_name().to_str()?.parse().ok()?;
        let state = crate::sys::proc_stat::Stat::of(thread)?.state()?;
        Some(Thread { state, sleeps_in: std::fs::read_to_string(task.path().join("wchan")).ok()? })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_a_sum() {
        let io = "rchar: 4\nwchar: 30\nsyscr: 200\nsyscw: 1000\nread_bytes: 0\nwrite_bytes: 0\nodd\n";
        assert_eq!(sum(io), 1234);
        assert_eq!(sum(""), 0);
    }

    #[test]
    fn the_threads_of_a_process() {
        let own = format!("/proc/{}", std::process::id());
        assert!(threads_of(&own).expect("threads").all(|thread| thread.state.is_ascii_alphabetic()));
        assert!(threads_of("/proc/0").is_none());
        let listens = |state, sleeps_in: &str| Thread { state, sleeps_in: sleeps_in.into() }.listens();
        assert!(listens('S', "fuse_dev_do_read") && listens('S', "0"));
        assert!(!listens('S', "futex_do_wait") && !listens('T', "0") && !listens('R', "0"));
    }
}
