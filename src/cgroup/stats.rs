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
    fn all_devices_count() {
        let text = "8:0 rbytes=100 wbytes=7 rios=1\n8:16 rbytes=11 wbytes=3 rios=2\n";
        assert_eq!(io(text), (111, 10));
        assert_eq!(io(""), (0, 0));
    }
}
