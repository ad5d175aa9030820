//! One process, as the kernel tells of it.

use crate::error::{Context, Result};
use crate::sys::proc_stat::Stat;
use crate::types::status::ProcessId;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a command line that are shown.
const MAX_LINE: usize = 4096;

/// What /proc says: proc_pid_stat(5), proc_pid_status(5).
#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) ppid: u32,
    pub(super) pgid: u32,
    pub(super) state: char,
    pub(super) tty: u32,
    /// Clock ticks: of processor time, since boot.
    pub(super) cpu_ticks: u64,
    pub(super) start_ticks: u64,
    pub(super) nice: i64,
    pub(super) virtual_bytes: u64,
    pub(super) comm: String,
    /// Empty for a kernel thread and for what has ended.
    pub(super) args: String,
    /// Real and effective.
    pub(super) uids: [u32; 2],
    pub(super) gids: [u32; 2],
    pub(super) groups: Vec<u32>,
    /// Of the group leader in this process's namespace.
    pub(super) ns_pgids: Vec<u32>,
    /// From the pid namespace of this process to its own.
    pub(super) ns_pids: Vec<u32>,
    /// By the name in the file: `CapEff`.
    pub(super) capabilities: BTreeMap<String, u64>,
    pub(super) seccomp: u8,
    pub(super) cgroup: String,
}

impl Process {
    /// `None` where it has gone.
    pub(super) fn read(pid: u32) -> Option<Self> {
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).ok();
        let text = |file: &str| read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let mut process = Self { pid, ..Self::default() };
        process.take_stat(&Stat::of(pid)?)?;
        process.take_status(&text("status")?);
        let line = read("cmdline").unwrap_or_default();
        let line = &line[..line.len().min(MAX_LINE)];
        let line = String::from_utf8_lossy(line.strip_suffix(b"\0").unwrap_or(line)).replace('\0', " ");
        process.args = line;
        let cgroup = text("cgroup").unwrap_or_default();
        let path = cgroup.lines().last().unwrap_or_default().splitn(3, ':').nth(2);
        path.unwrap_or_default().clone_into(&mut process.cgroup);
        Some(process)
    }

    fn take_stat(&mut self, stat: &Stat) -> Option<()> {
        self.comm = stat.name();
        let number = |field: usize| stat.number::<u64>(field).unwrap_or(0);
        self.state = stat.state()?;
        self.ppid = number(4) as u32;
        self.pgid = number(5) as u32;
        self.tty = stat.number::<i64>(7)? as u32;
        self.cpu_ticks = number(14) + number(15);
        self.nice = stat.number(19)?;
        self.start_ticks = number(22);
        self.virtual_bytes = number(23);
        Some(())
    }

    fn take_status(&mut self, status: &str) {
        for (key, value) in status.lines().filter_map(|line| line.split_once(':')) {
            let numbers = || value.split_whitespace().filter_map(|word| word.parse::<u32>().ok());
            let real_and_effective = || {
                let mut numbers = numbers();
                [numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)]
            };
            match key {
                "Uid" => self.uids = real_and_effective(),
                "Gid" => self.gids = real_and_effective(),
                "Groups" => self.groups = numbers().collect(),
                "NSpid" => self.ns_pids = numbers().collect(),
                "NSpgid" => self.ns_pgids = numbers().collect(),
                "Seccomp" => self.seccomp = numbers().next().unwrap_or(0) as u8,
                _ if key.starts_with("Cap") => {
                    let set = u64::from_str_radix(value.trim(), 16).unwrap_or(0);
                    self.capabilities.insert(key.to_owned(), set);
                }
                _ => {}
            }
        }
    }
}

/// The container's processes: what descends from its first one and from those
/// that its monitor has put beside it, which are in its mount namespace.
pub(super) fn ids_of_tree(init: ProcessId, monitor: ProcessId) -> Result<BTreeSet<u32>> {
    let step = || "list processes";
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").context(step)? {
        let name = entry.context(step)?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mount_namespace = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let own = mount_namespace(init.pid);
    let beside = children.get(&monitor.pid).cloned().unwrap_or_default();
    let beside = beside.into_iter().filter(|pid| own.is_some() && mount_namespace(*pid) == own);
    let mut waiting: Vec<u32> = std::iter::once(init.pid).chain(beside).collect();
    let mut found = BTreeSet::new();
    while let Some(pid) = waiting.pop() {
        if found.insert(pid) {
            waiting.extend(children.get(&pid).into_iter().flatten());
        }
    }
    Ok(found)
}

fn parent_of(pid: u32) -> Option<u32> {
    Stat::of(pid)?.number(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let mut process = Process::default();
        let stat = "42 (a) S b) R 7 8 9 34817 8 4194304 1 2 3 4 100 50 0 0 20 -5 1 0 12345 4096000 77 0";
        process.take_stat(&Stat::parse(stat.as_bytes()).expect("valid")).expect("valid");
        assert_eq!(process.comm, "a) S b");
        assert_eq!((process.state, process.ppid, process.pgid, process.tty), ('R', 7, 8, 34817));
        assert_eq!((process.cpu_ticks, process.nice, process.start_ticks), (150, -5, 12345));
        assert_eq!(process.virtual_bytes, 4_096_000);
        assert!(Stat::parse(b"42 nonsense").is_none());
        assert!(process.take_stat(&Stat::parse(b"42 (x) S").expect("a name")).is_none());
    }

    #[test]
    fn a_status_is_read() {
        let mut process = Process::default();
        process.take_status("Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t10 11 \nNSpid:\t900\t3\nCapEff:\t00000000800405fb\nSeccomp:\t2\nbad line\n");
        assert_eq!((process.uids, process.gids), ([1, 2], [5, 6]));
        assert_eq!((process.groups, process.ns_pids), (vec![10, 11], vec![900, 3]));
        assert_eq!((process.capabilities["CapEff"], process.seccomp), (0x8004_05fb, 2));
    }
}
