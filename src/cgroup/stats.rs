//! The counters of a control group.

use super::{Group, value_of};
use crate::error::Result;
use std::path::Path;

/// `None` where the controller is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupStats {
    /// Microseconds. There without any controller.
    pub(crate) cpu: Option<u64>,
    /// Bytes, without what the kernel can drop at once.
    pub(crate) memory: Option<u64>,
    /// Bytes.
    pub(crate) memory_limit: Option<u64>,
    pub(crate) pids: Option<u64>,
    /// Bytes read and written.
    pub(crate) io: Option<(u64, u64)>,
}

/// Reads the counters of the group at `path`.
///
/// # Errors
/// Where there is no such group.
pub(crate) fn stats(path: &Path) -> Result<GroupStats> {
    let group = Group::open(path)?;
    let number = |file: &str| group.read(file).ok()?.trim().parse::<u64>().ok();
    let inactive =
        || group.read("memory.stat").ok().and_then(|text| value_of(&text, "inactive_file")).unwrap_or(0);
    Ok(GroupStats {
        cpu: group.read("cpu.stat").ok().and_then(|text| value_of(&text, "usage_usec")),
        memory: number("memory.current").map(|bytes| bytes.saturating_sub(inactive())),
        memory_limit: number("memory.max"),
        pids: number("pids.current"),
        io: group.read("io.stat").ok().map(|text| io(&text)),
    })
}

/// How long processes of the group have waited for want of processors, memory
/// and I/O: the kernel's Documentation/accounting/psi.rst. The resource, whether
/// `some` or `full` of them waited, the percentages of the last 10, 60 and 300
/// seconds, and microseconds in all. Nothing where the kernel does not count.
pub(crate) fn pressure(path: &Path) -> Vec<(&'static str, &'static str, [f64; 3], u64)> {
    let Ok(group) = Group::open(path) else { return Vec::new() };
    let mut all = Vec::new();
    for resource in ["cpu", "io", "memory"] {
        let text = group.read(&format!("{resource}.pressure")).unwrap_or_default();
        all.extend(
            pressure_in(&text).into_iter().map(|(kind, shares, total)| (resource, kind, shares, total)),
        );
    }
    all
}

/// `some avg10=0.12 avg60=0.00 avg300=0.00 total=1234`
fn pressure_in(text: &str) -> Vec<(&'static str, [f64; 3], u64)> {
    let line = |line: &str| {
        let kind = if line.starts_with("some ") { "some" } else { "full" };
        let value = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key));
        let share = |key: &str| value(key)?.parse::<f64>().ok();
        Some((kind, [share("avg10=")?, share("avg60=")?, share("avg300=")?], value("total=")?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// The sums over all devices of `8:0 rbytes=1 wbytes=2 …`.
fn io(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        let words = text.split_whitespace();
        words.filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok()).fold(0u64, u64::saturating_add)
    };
    (sum("rbytes="), sum("wbytes="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read() {
        let text = "some avg10=1.50 avg60=0.00 avg300=0.25 total=1234\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let read = pressure_in(text);
        assert_eq!(read[0], ("some", [1.5, 0.0, 0.25], 1234));
        assert_eq!((read[1].0, read[1].2), ("full", 7));
        assert!(pressure_in("nonsense").is_empty());
    }

    #[test]
    fn all_devices_count() {
        let text = "8:0 rbytes=100 wbytes=7 rios=1\n8:16 rbytes=11 wbytes=3 rios=2\n";
        assert_eq!(io(text), (111, 10));
        assert_eq!(io(""), (0, 0));
    }
}
