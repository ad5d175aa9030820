//! The loopback device of a new network namespace, which starts out down.

use crate::types::idmap::IdMap;

/// What every network namespace of a container starts with, where the user does
/// not say otherwise: any group may ping without CAP_NET_RAW, as in docker and
/// podman. icmp(7); group ids as the container sees them.
pub(crate) fn default_sysctls(pingers: Option<(u32, u32)>) -> Vec<(&'static str, String)> {
    let range = pingers.map(|(first, last)| ("net.ipv4.ping_group_range", format!("{first} {last}")));
    range.into_iter().chain([("net.ipv4.ip_unprivileged_port_start", "0".to_owned())]).collect()
}

/// The range of groups that lets all groups of a namespace ping, or as many as one
/// range can. `map` has the groups as the container sees them and as the host does.
///
/// The kernel takes the ends of the range as the container sees them, and compares
/// the host's (`ipv4_ping_group_range` of net/ipv4/sysctl_net_ipv4.c,
/// `ping_init_sock` of net/ipv4/ping.c): both ends must be mapped (EINVAL), and be
/// in order on both sides, or nobody may ping.
pub(crate) fn pingers(map: &IdMap) -> Option<(u32, u32)> {
    let first = map.0.iter().min_by_key(|range| range.outside)?;
    let last = map.0.iter().max_by_key(|range| range.outside)?;
    let end = last.inside + (last.length - 1);
    if first.inside <= end {
        return Some((first.inside, end));
    }
    // The one range that has most.
    let most = map.0.iter().max_by_key(|range| range.length)?;
    Some((most.inside, most.inside + (most.length - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::idmap::IdRange;

    fn of(ranges: &[(u32, u32, u32)]) -> Option<(u32, u32)> {
        let range = |&(inside, outside, length)| IdRange { inside, outside, length };
        pingers(&IdMap(ranges.iter().map(range).collect()))
    }

    #[test]
    fn the_range_has_all_groups_where_one_range_can() {
        assert_eq!(of(&[(0, 1000, 1), (1, 100_000, 65536)]), Some((0, 65536)));
        // The user's own group is 1000 inside as well.
        let keep_id = [(0, 100_000, 1000), (1000, 1000, 1), (1001, 101_000, 64536)];
        assert_eq!(of(&keep_id), Some((1000, 65536)));
        assert_eq!(of(&[(0, 1000, 1)]), Some((0, 0)));
        assert_eq!(of(&[(33, 1000, 1)]), Some((33, 33)));
        // The user's group is above the subordinate ones.
        assert_eq!(of(&[(0, 3_000_000, 1), (1, 100_000, 65536)]), Some((1, 65536)));
        assert_eq!(of(&[]), None);
    }
}
