//! The columns of `top`: podman's descriptors (those of AIX's ps, and its own
//! for what is outside of the container), and docker's.

use super::process::Process;
use super::{Table, View};
use crate::runtime::capabilities::CapSet;
use crate::types::idmap::IdMap;
use std::collections::BTreeMap;
use std::time::Duration;

/// The id of what is not mapped: /proc/sys/kernel/overflowuid.
const NOBODY: u32 = 65_534;

/// Of a clock tick of /proc: USER_HZ is 100 on every machine but alpha.
const MILLISECONDS: u64 = 10;

/// One column.
#[derive(Debug)]
pub(crate) struct Descriptor {
    /// As podman spells it.
    pub(crate) name: &'static str,
    /// As AIX does: `%p`.
    code: &'static str,
    title: &'static str,
    show: fn(&Process, &View) -> String,
}

impl PartialEq for Descriptor {
    fn eq(&self, other: &Self) -> bool {
        (self.name, self.title) == (other.name, other.title)
    }
}

impl Eq for Descriptor {}

const fn column(
    name: &'static str,
    code: &'static str,
    title: &'static str,
    show: fn(&Process, &View) -> String,
) -> Descriptor {
    Descriptor { name, code, title, show }
}

/// In the order of podman's list.
pub(crate) static ALL: &[Descriptor] = &[
    column("args", "%a", "COMMAND", |p, _| command(p)),
    column("capamb", "", "AMBIENT CAPS", |p, _| caps(p, "CapAmb")),
    column("capbnd", "", "BOUNDING CAPS", |p, _| caps(p, "CapBnd")),
    column("capeff", "", "EFFECTIVE CAPS", |p, _| caps(p, "CapEff")),
    column("capinh", "", "INHERITED CAPS", |p, _| caps(p, "CapInh")),
    column("capprm", "", "PERMITTED CAPS", |p, _| caps(p, "CapPrm")),
    column("cgroup", "", "CGROUP", |p, _| p.cgroup.clone()),
    column("comm", "%c", "COMMAND", |p, _| p.comm.clone()),
    column("etime", "%t", "ELAPSED", |p, v| go_duration(elapsed(p, v))),
    column("group", "%G", "GROUP", |p, v| group(p.gids[1], v)),
    column("groups", "", "GROUPS", |p, v| list(&p.groups, |gid| group(gid, v))),
    column("hgroup", "", "HGROUP", |p, v| name(&v.host_names.groups, host(&v.host_gids, p.gids[1]))),
    column("hgroups", "", "HGROUPS", |p, v| {
        list(&p.groups, |gid| name(&v.host_names.groups, host(&v.host_gids, gid)))
    }),
    column("hpid", "", "HPID", |p, _| p.pid.to_string()),
    column("huser", "", "HUSER", |p, v| name(&v.host_names.users, host(&v.host_uids, p.uids[1]))),
    column("label", "", "LABEL", |_, _| "?".to_owned()),
    column("nice", "%n", "NI", |p, _| p.nice.to_string()),
    column("pcpu", "%C", "%CPU", |p, v| format!("{:.3}", percent(p, v))),
    column("pgid", "%r", "PGID", |p, v| inner(&p.ns_pgids, v).unwrap_or(p.pgid).to_string()),
    column("pid", "%p", "PID", |p, v| inner(&p.ns_pids, v).unwrap_or(p.pid).to_string()),
    column("ppid", "%P", "PPID", |p, v| {
        let parent = Process::read(p.ppid).and_then(|parent| inner(&parent.ns_pids, v));
        parent.unwrap_or(0).to_string()
    }),
    column("rgroup", "%g", "RGROUP", |p, v| group(p.gids[0], v)),
    column("ruser", "%u", "RUSER", |p, v| user(p.uids[0], v)),
    column("seccomp", "", "SECCOMP", |p, _| {
        match p.seccomp {
            0 => "disabled",
            1 => "strict",
            _ => "filter",
        }
        .to_owned()
    }),
    column("state", "", "STATE", |p, _| p.state.to_string()),
    column("stime", "", "STIME", start_time),
    column("time", "%x", "TIME", |p, _| go_duration(seconds(p.cpu_ticks))),
    column("tty", "%y", "TTY", |p, _| terminal(p.tty)),
    column("user", "%U", "USER", |p, v| user(p.uids[1], v)),
    column("vsz", "%z", "VSZ", |p, _| (p.virtual_bytes >> 10).to_string()),
];

/// `ps -ef`, with the host's process numbers and the container's users.
static DOCKER: &[Descriptor] = &[
    column("", "", "UID", |p, v| user(p.uids[1], v)),
    column("", "", "PID", |p, _| p.pid.to_string()),
    column("", "", "PPID", |p, _| p.ppid.to_string()),
    column("", "", "C", |p, v| format!("{:.0}", percent(p, v).min(99.0))),
    column("", "", "STIME", start_time),
    column("", "", "TTY", |p, _| terminal(p.tty)),
    column("", "", "TIME", |p, _| clock(seconds(p.cpu_ticks))),
    column("", "", "CMD", |p, _| command(p)),
];

pub(super) fn docker() -> Vec<&'static Descriptor> {
    DOCKER.iter().collect()
}

/// By podman's name or AIX's code.
pub(super) fn find(word: &str) -> Option<&'static Descriptor> {
    ALL.iter().find(|column| column.name == word || (!column.code.is_empty() && column.code == word))
}

impl Descriptor {
    /// The names of all.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        ALL.iter().map(|column| column.name)
    }
}

pub(super) fn table(columns: &[&Descriptor], processes: &[Process], view: &View) -> Table {
    let row = |process: &Process| columns.iter().map(|column| (column.show)(process, view)).collect();
    Table {
        titles: columns.iter().map(|column| column.title.to_owned()).collect(),
        rows: processes.iter().map(row).collect(),
    }
}

fn command(process: &Process) -> String {
    if process.args.is_empty() { format!("[{}]", process.comm) } else { process.args.clone() }
}

/// The number in the container's pid namespace.
fn inner(numbers: &[u32], view: &View) -> Option<u32> {
    numbers.get(view.level).copied()
}

fn user(uid: u32, view: &View) -> String {
    name(&view.names.users, inside(view.uid_map.as_ref(), uid))
}

fn group(gid: u32, view: &View) -> String {
    name(&view.names.groups, inside(view.gid_map.as_ref(), gid))
}

fn inside(map: Option<&IdMap>, id: u32) -> u32 {
    map.map_or(id, |map| map.to_inside(id).unwrap_or(NOBODY))
}

fn host(map: &IdMap, id: u32) -> u32 {
    map.to_outside(id).unwrap_or(id)
}

fn name(names: &BTreeMap<u32, String>, id: u32) -> String {
    names.get(&id).cloned().unwrap_or_else(|| id.to_string())
}

fn list(ids: &[u32], show: impl Fn(u32) -> String) -> String {
    ids.iter().map(|id| show(*id)).collect::<Vec<_>>().join(",")
}

fn caps(process: &Process, which: &str) -> String {
    let set = CapSet(process.capabilities.get(which).copied().unwrap_or(0));
    // What /proc/sys/kernel/cap_last_cap allows is full, whatever its number.
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok();
    let last: u32 = last.and_then(|text| text.trim().parse().ok()).unwrap_or(40);
    let full = CapSet((1u64 << (last + 1)) - 1);
    if set == CapSet::EMPTY {
        return "none".to_owned();
    }
    if set == full {
        return "full".to_owned();
    }
    let names: Vec<String> =
        set.names().iter().map(|name| name.strip_prefix("CAP_").unwrap_or(name).to_owned()).collect();
    names.join(",")
}

fn seconds(ticks: u64) -> f64 {
    Duration::from_millis(ticks * MILLISECONDS).as_secs_f64()
}

/// Seconds since it began.
fn elapsed(process: &Process, view: &View) -> f64 {
    (view.uptime - seconds(process.start_ticks)).max(0.0)
}

/// Of its life, how much it had a processor.
fn percent(process: &Process, view: &View) -> f64 {
    let elapsed = elapsed(process, view);
    if elapsed > 0.0 { 100.0 * seconds(process.cpu_ticks) / elapsed } else { 0.0 }
}

/// `0s`, `1.5s`, `2m3.25s`, `1h2m3s`: as Go writes a duration.
fn go_duration(seconds: f64) -> String {
    let hundredths = (seconds * 100.0).round() as u64;
    let (minutes, rest) = (hundredths / 6000, hundredths % 6000);
    let mut text = format!("{}.{:02}", rest / 100, rest % 100);
    text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{text}s"),
        (0, minutes) => format!("{minutes}m{text}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{text}s"),
    }
}

/// `00:01:02`, with the days before it.
fn clock(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let time = format!("{hours:02}:{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    if days > 0 { format!("{days}-{time}") } else { time }
}

/// The time of day for today, the date for what is older.
fn start_time(process: &Process, view: &View) -> String {
    let start = view.boot + seconds(process.start_ticks) as i64;
    let Ok(start) = jiff::Timestamp::from_second(start) else { return "?".to_owned() };
    let zone = jiff::tz::TimeZone::system();
    let (start, now) = (start.to_zoned(zone.clone()), jiff::Timestamp::now().to_zoned(zone));
    if start.date() == now.date() {
        start.strftime("%H:%M").to_string()
    } else if start.year() == now.year() {
        start.strftime("%b%d").to_string()
    } else {
        start.strftime("%Y").to_string()
    }
}

/// tty_nr of proc_pid_stat(5): major in bits 8 to 15, minor in the others.
fn terminal(number: u32) -> String {
    let (major, minor) = (number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xfff00);
    match (major, minor) {
        (0, 0) => "?".to_owned(),
        (136..=143, minor) => format!("pts/{}", minor + (major - 136) * 256),
        (4, minor @ 0..=63) => format!("tty{minor}"),
        (4, minor) => format!("ttyS{}", minor - 64),
        (5, 1) => "console".to_owned(),
        (major, minor) => format!("{major}:{minor}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_and_ps_do() {
        for (seconds, text) in [
            (0.0, "0s"),
            (0.05, "0.05s"),
            (1.5, "1.5s"),
            (60.0, "1m0s"),
            (123.25, "2m3.25s"),
            (3723.0, "1h2m3s"),
        ] {
            assert_eq!(go_duration(seconds), text);
        }
        for (seconds, text) in [(0.9, "00:00:00"), (62.0, "00:01:02"), (90_061.0, "1-01:01:01")] {
            assert_eq!(clock(seconds), text);
        }
    }

    #[test]
    fn terminals_have_their_names() {
        for (number, name) in
            [(0, "?"), (34_816, "pts/0"), (34_821, "pts/5"), (35_072, "pts/256"), (1_025, "tty1")]
        {
            assert_eq!(terminal(number), name);
        }
    }

    #[test]
    fn names_and_codes_are_unique() {
        for column in ALL {
            let same = |other: &&Descriptor| {
                other.name == column.name || (!column.code.is_empty() && other.code == column.code)
            };
            assert_eq!(ALL.iter().filter(same).count(), 1, "{}", column.name);
        }
    }
}
