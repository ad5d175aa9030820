//! `top`: the processes of a container, with docker's columns, with podman's
//! descriptors, or as the host's ps(1) shows them.
//!
//! Nothing is run in the container and nothing of its files is executed
//! (CVE-2022-1227): what is told comes from the kernel's /proc.

mod descriptor;
mod process;

pub(crate) use descriptor::Descriptor;

use super::Engine;
use crate::error::{BestEffort, Context, Error, Result};
use crate::runtime::users::Names;
use crate::state::events;
use crate::sys::errno::read_host;
use crate::types::id::ContainerId;
use crate::types::idmap::IdMap;
use crate::types::status::{ProcessId, Status};
use process::{Process, ids_of_tree};
use rustix::fs::{Mode, OFlags};
use rustix::time::ClockId;
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::process::{Command, Output, Stdio};

/// What is to be shown of each process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Columns {
    /// UID PID PPID C STIME TTY TIME CMD.
    Docker,
    /// Podman's words.
    Descriptors(Vec<&'static Descriptor>),
    /// Options of ps(1).
    Ps(Vec<String>),
}

impl Columns {
    /// What the words after the container ask for: podman's descriptors, with
    /// commas or as separate words, else options of ps.
    pub(crate) fn parse(words: &[String]) -> Self {
        if words.is_empty() {
            return Self::Docker;
        }
        let names =
            words.iter().flat_map(|word| word.split(',')).map(str::trim).filter(|name| !name.is_empty());
        match names.map(descriptor::find).collect::<Option<Vec<_>>>() {
            Some(found) if !found.is_empty() => Self::Descriptors(found),
            _ => Self::Ps(words.to_vec()),
        }
    }
}

/// Docker's answer: titles, and a row for each process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) titles: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// What a process is seen against.
struct View {
    names: Names,
    host_names: Names,
    /// From ids as this process sees them to the container's and the host's.
    uid_map: Option<IdMap>,
    gid_map: Option<IdMap>,
    host_uids: IdMap,
    host_gids: IdMap,
    /// How many pid namespaces up from a process's own the container's is.
    level: usize,
    /// Seconds since boot; the time of the boot since 1970.
    uptime: f64,
    boot: i64,
}

impl Engine {
    /// The processes of a running container.
    ///
    /// # Errors
    /// `Conflict` where it does not run; `Failed` where ps refuses its options.
    pub(crate) fn top(&self, id: &ContainerId, columns: &Columns) -> Result<Table> {
        let snapshot = self.snapshot(id)?;
        let Status::Running { init, monitor, .. } = snapshot.status else { return Err(self.not_running(id)) };
        // The kernel shows some things of other ids' processes only from there.
        let outer = self.enter()?;
        let host = (outer.uid_map.clone(), outer.gid_map.clone());
        let pids = ids_of_tree(init, monitor)?;
        let table = match columns {
            Columns::Ps(options) => ps(options, &pids)?,
            Columns::Docker => {
                let view = View::of(init, host)?;
                descriptor::table(&descriptor::docker(), &processes(&pids), &view)
            }
            Columns::Descriptors(chosen) => {
                let view = View::of(init, host)?;
                descriptor::table(chosen, &processes(&pids), &view)
            }
        };
        events::append(&self.dirs, &events::of_container(&snapshot.record, "top")).or_ignore();
        Ok(table)
    }
}

/// Those that still live.
fn processes(pids: &BTreeSet<u32>) -> Vec<Process> {
    pids.iter().filter_map(|pid| Process::read(*pid)).collect()
}

impl View {
    fn of(init: ProcessId, host: (IdMap, IdMap)) -> Result<Self> {
        let proc = format!("/proc/{}", init.pid);
        let open = |path: &str| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).context(|| format!("open {path}"))
        };
        let read = |path: String| std::fs::read_to_string(&path).context(|| format!("read {path}"));
        // Names are a convenience: a container without them, or one that has
        // just ended, is shown with numbers.
        let names =
            open(&format!("{proc}/root")).and_then(|root| Names::read(root.as_fd())).unwrap_or_default();
        let host_names = open("/").and_then(|root| Names::read(root.as_fd())).unwrap_or_default();
        let same = std::fs::read_link(format!("{proc}/ns/user")).ok()
            == std::fs::read_link("/proc/self/ns/user").ok();
        let map = |file: &str| -> Result<Option<IdMap>> {
            if same { Ok(None) } else { Ok(Some(IdMap::parse_proc(&read(format!("{proc}/{file}"))?))) }
        };
        let first = |text: String| text.split_whitespace().next().and_then(|word| word.parse().ok());
        // A /proc may have no more than processes (subset=pid).
        #[allow(clippy::cast_precision_loss)]
        let uptime = first(read_host("/proc/uptime").unwrap_or_default())
            .unwrap_or_else(|| rustix::time::clock_gettime(ClockId::Boottime).tv_sec as f64);
        let btime =
            |text: String| text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
        let boot = read_host("/proc/stat")
            .and_then(btime)
            .unwrap_or_else(|| jiff::Timestamp::now().as_second() - uptime as i64);
        let level = Process::read(init.pid).map_or(1, |process| process.ns_pids.len());
        Ok(Self {
            names,
            host_names,
            uid_map: map("uid_map")?,
            gid_map: map("gid_map")?,
            host_uids: host.0,
            host_gids: host.1,
            level: level.saturating_sub(1),
            uptime,
            boot,
        })
    }
}

/// The host's ps(1), cut down to these processes, as docker does it.
fn ps(options: &[String], pids: &BTreeSet<u32>) -> Result<Table> {
    let list = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let run = |more: Option<String>| -> Result<Output> {
        let output = Command::new("ps").args(options).args(more).stdin(Stdio::null()).output();
        output.context(|| "run ps").map_err(|error| {
            error.hint("install procps, or name columns that need no ps, for example `pid,user,args`")
        })
    };
    let mut output = run(Some(format!("-q{list}")))?;
    let chosen = output.status.success();
    if !chosen {
        // Some options do not go together with -q.
        output = run(None)?;
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint = complaint.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    if !output.status.success() {
        return Err(Error::failed(format!("ps {}: {complaint}", options.join(" ")))
            .hint("give options of ps(1), or podman's descriptors: see `coracle top --list-descriptors`"));
    }
    filter_ps(&String::from_utf8_lossy(&output.stdout), pids, chosen).ok_or_else(|| {
        Error::failed("couldn't find PID field in ps output").hint("let ps show the column pid")
    })
}

/// The lines of these processes; `None` where there is no column `PID` to tell
/// them from others by (`chosen`: there are no others).
fn filter_ps(text: &str, pids: &BTreeSet<u32>, chosen: bool) -> Option<Table> {
    let mut lines = text.lines();
    let titles: Vec<String> = lines.next()?.split_whitespace().map(str::to_owned).collect();
    let column = titles.iter().position(|title| title == "PID");
    if column.is_none() && !chosen || titles.is_empty() {
        return None;
    }
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Some(column) = column {
            let pid: u32 = words.get(column)?.parse().ok()?;
            if !pids.contains(&pid) {
                return None;
            }
        }
        // The last column is the one that may have blanks in it.
        let last = titles.len() - 1;
        let mut cells: Vec<String> = words.iter().take(last).map(|word| (*word).to_owned()).collect();
        cells.push(words.get(last..).unwrap_or_default().join(" "));
        Some(cells)
    };
    let rows = lines.filter_map(row).collect();
    Some(Table { titles, rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn descriptors_are_told_from_options_of_ps() {
        assert_eq!(Columns::parse(&[]), Columns::Docker);
        let names = |text: &str| match Columns::parse(&words(text)) {
            Columns::Descriptors(found) => found.iter().map(|one| one.name).collect::<Vec<_>>().join(" "),
            Columns::Ps(_) => "ps".to_owned(),
            Columns::Docker => "docker".to_owned(),
        };
        for (text, expected) in [
            ("pid,user,comm", "pid user comm"),
            ("pid user comm", "pid user comm"),
            ("pid, user", "pid user"),
            ("pid %C args", "pid pcpu args"),
            ("hpid", "hpid"),
            ("aux", "ps"),
            ("-eo pid,args", "ps"),
            ("-o pid", "ps"),
            ("pid nonsense", "ps"),
            (",", "ps"),
        ] {
            assert_eq!(names(text), expected, "{text:?}");
        }
    }

    #[test]
    fn of_ps_only_the_container_s_lines_are_shown() {
        let text =
            "USER   PID %CPU COMMAND\nroot     1  0.0 init  splash\nroot    22  0.1 sleep 10  x\nbad\n";
        let table = filter_ps(text, &BTreeSet::from([22, 4]), false).expect("a table");
        assert_eq!(table.titles, ["USER", "PID", "%CPU", "COMMAND"]);
        assert_eq!(table.rows, [["root", "22", "0.1", "sleep 10 x"]]);
        assert_eq!(filter_ps("A B\n1 2\n", &BTreeSet::from([1]), false), None);
        assert_eq!(
            filter_ps("A B\n1 2 3\n", &BTreeSet::from([1]), true).expect("a table").rows,
            [["1", "2 3"]]
        );
        assert_eq!(filter_ps("", &BTreeSet::new(), true), None);
    }
}
