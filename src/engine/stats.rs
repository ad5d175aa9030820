//! `stats`: what containers use, from their control groups where they have
//! them, else from `/proc`.
//!
//! Without a control group the processes that live are counted, with the time
//! of those that they have waited for; memory is what each has for itself, and
//! of what they share the most that one has; what is read and written is not
//! known. With `--pid host` the first process alone is counted.

use super::Engine;
use crate::cgroup;
use crate::error::Result;
use crate::sys::proc_stat::Stat;
use crate::types::id::ContainerId;
use crate::types::namespace::{NamespaceMode, NetworkMode};
use crate::types::status::Status;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// What one container uses, at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    /// Processor time of all its processes since its start.
    pub(crate) cpu: Duration,
    /// Time since its start; zero where it does not run.
    pub(crate) up: Duration,
    /// Bytes.
    pub(crate) memory: u64,
    pub(crate) memory_limit: u64,
    /// Bytes received and sent, loopback aside.
    pub(crate) network: (u64, u64),
    /// Bytes read and written.
    pub(crate) block: (u64, u64),
    pub(crate) pids: u64,
    /// Percent of the last ten seconds in which some of its processes waited
    /// for a processor, for I/O, for memory; `None` where nobody counts.
    pub(crate) pressure: Option<[f64; 3]>,
}

/// The sums over the processes of a pid namespace.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    cpu_ticks: u64,
    private_pages: u64,
    most_shared_pages: u64,
    pids: u64,
}

/// All processes of the host that can be looked at, by pid namespace.
struct Processes {
    by_namespace: BTreeMap<u64, Sum>,
}

impl Engine {
    /// What these containers use now. Those that are gone are left out.
    ///
    /// # Errors
    /// Where a record cannot be read.
    pub(crate) fn usage(&self, ids: &[ContainerId]) -> Result<Vec<Usage>> {
        let host_memory = host_memory();
        let mut processes = None;
        let mut all = Vec::new();
        for id in ids {
            let snapshot = match self.snapshot(id) {
                Err(error) if error.kind() == crate::error::Kind::NotFound => continue,
                result => result?,
            };
            let config = &snapshot.record.config;
            let mut usage = Usage {
                id: id.clone(),
                name: snapshot.record.name.clone(),
                cpu: Duration::ZERO,
                up: Duration::ZERO,
                memory: 0,
                memory_limit: 0,
                network: (0, 0),
                block: (0, 0),
                pids: 0,
                pressure: None,
            };
            if let Status::Running { init, since, .. } = snapshot.status {
                usage.up = Timestamp::now().duration_since(since).try_into().unwrap_or_default();
                usage.memory_limit = config.limits.memory.unwrap_or(host_memory).min(host_memory);
                if config.network != NetworkMode::Host {
                    usage.network = network(init.pid);
                }
                let group = self.store.live(id)?.and_then(|live| live.cgroup);
                usage.pressure = group.as_deref().and_then(pressure);
                let counters = group.and_then(|path| cgroup::stats(&path).ok()).unwrap_or_default();
                let needs_proc =
                    counters.cpu.is_none() || counters.memory.is_none() || counters.pids.is_none();
                let sum = if !needs_proc {
                    Sum::default()
                } else if config.pid == NamespaceMode::Host {
                    sum_of(init.pid).unwrap_or_default()
                } else {
                    processes.get_or_insert_with(Processes::look).of_namespace(init.pid)
                };
                usage.cpu = counters.cpu.map_or_else(|| sum.cpu(), Duration::from_micros);
                usage.memory = counters.memory.unwrap_or_else(|| sum.memory());
                usage.pids = counters.pids.unwrap_or(sum.pids);
                usage.block = counters.io.unwrap_or_default();
                if let Some(limit) = counters.memory_limit {
                    usage.memory_limit = limit.min(host_memory);
                }
            }
            all.push(usage);
        }
        Ok(all)
    }
}

impl Processes {
    fn look() -> Self {
        let mut by_namespace: BTreeMap<u64, Sum> = BTreeMap::new();
        let own = namespace_of("self");
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // Those of the host itself are nobody's.
            let Some(namespace) = namespace_of(&pid.to_string()).filter(|other| Some(*other) != own) else {
                continue;
            };
            if let Some(sum) = sum_of(pid) {
                by_namespace.entry(namespace).or_default().add(sum);
            }
        }
        Self { by_namespace }
    }

    fn of_namespace(&self, pid: u32) -> Sum {
        namespace_of(&pid.to_string())
            .and_then(|inode| self.by_namespace.get(&inode))
            .copied()
            .unwrap_or_default()
    }
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.cpu_ticks += other.cpu_ticks;
        self.private_pages += other.private_pages;
        self.most_shared_pages = self.most_shared_pages.max(other.most_shared_pages);
        self.pids += other.pids;
    }

    fn cpu(&self) -> Duration {
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Duration::from_micros(self.cpu_ticks.saturating_mul(1_000_000) / per_second)
    }

    fn memory(&self) -> u64 {
        (self.private_pages + self.most_shared_pages) * rustix::param::page_size() as u64
    }
}

fn namespace_of(process: &str) -> Option<u64> {
    std::fs::metadata(format!("/proc/{process}/ns/pid")).ok().map(|meta| meta.ino())
}

/// One process: proc_pid_stat(5), proc_pid_statm(5).
fn sum_of(pid: u32) -> Option<Sum> {
    let stat = Stat::of(pid)?;
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    sum_in(&stat, &statm)
}

fn sum_in(stat: &Stat, statm: &str) -> Option<Sum> {
    let cpu_ticks = (14..=17).filter_map(|field| stat.number::<u64>(field)).sum();
    let threads = stat.number(20)?;
    let mut pages = statm.split_whitespace().skip(1).map_while(|text| text.parse::<u64>().ok());
    let (resident, shared) = (pages.next()?, pages.next()?);
    Some(Sum {
        cpu_ticks,
        private_pages: resident.saturating_sub(shared),
        most_shared_pages: shared,
        pids: threads,
    })
}

/// Bytes that the interfaces of a network namespace have received and sent.
fn network(pid: u32) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    network_in(&text)
}

fn network_in(text: &str) -> (u64, u64) {
    let lines = text.lines().skip(2).filter_map(|line| line.split_once(':'));
    lines.filter(|(name, _)| name.trim() != "lo").fold((0, 0), |(received, sent), (_, counters)| {
        let number =
            |at: usize| counters.split_whitespace().nth(at).and_then(|word| word.parse::<u64>().ok());
        (received + number(0).unwrap_or(0), sent + number(8).unwrap_or(0))
    })
}

fn pressure(group: &std::path::Path) -> Option<[f64; 3]> {
    let all = cgroup::pressure(group);
    let of = |wanted: &str| {
        let some = all.iter().find(|(resource, kind, ..)| *resource == wanted && *kind == "some");
        some.map(|(_, _, [ten, ..], _)| *ten)
    };
    Some([of("cpu")?, of("io").unwrap_or(0.0), of("memory").unwrap_or(0.0)])
}

fn host_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = total.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    // Of a /proc that has no more than processes.
    kilobytes.map_or_else(total_memory, |kilobytes| kilobytes * 1024)
}

fn total_memory() -> u64 {
    let info = rustix::system::sysinfo();
    // An unsigned long, which is narrower elsewhere.
    #[allow(clippy::useless_conversion)]
    let units = u64::from(info.totalram);
    units.saturating_mul(u64::from(info.mem_unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_summed_up() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 5 6 7 8 100 20 3 4 20 0 2 0 12345 1 1";
        let sum =
            sum_in(&Stat::parse(stat.as_bytes()).expect("valid"), "1000 300 200 10 0 50 0").expect("valid");
        assert_eq!((sum.cpu_ticks, sum.pids), (127, 2));
        assert_eq!((sum.private_pages, sum.most_shared_pages), (100, 200));
        assert!(Stat::parse(b"42 (x").is_none());
    }

    #[test]
    fn loopback_does_not_count() {
        let text = "Inter-|   Receive |  Transmit\n face |bytes packets|bytes packets\n    lo: 9 1 0 0 0 0 0 0 9 1 0\n  tap0: 100 2 0 0 0 0 0 0 70 3 0\n";
        assert_eq!(network_in(text), (100, 70));
        assert_eq!(network_in(""), (0, 0));
    }
}
