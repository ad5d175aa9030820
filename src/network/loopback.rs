//! The loopback device of a new network namespace, which starts out down.

/// What every network namespace of a container starts with, where the user does
/// not say otherwise: any group may ping without CAP_NET_RAW, as in docker and
/// podman. icmp(7); group ids as the container sees them, so the last one must
/// be mapped: the kernel refuses (EINVAL) a range whose ends are not.
pub(crate) fn default_sysctls(last_mapped_gid: u32) -> [(&'static str, String); 2] {
    [
        ("net.ipv4.ping_group_range", format!("0 {last_mapped_gid}")),
        ("net.ipv4.ip_unprivileged_port_start", "0".into()),
    ]
}
