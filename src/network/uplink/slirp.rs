//! slirp4netns(1).
//!
//! It enters the network namespace alone, as root of the outer user namespace,
//! which its starter is: the nested one may have no root (a single id that is
//! mapped to the image's user).

use super::helper::{Call, Helper, Paths, check_tap, find};
use super::{Addresses, NamesOf};
use crate::error::{BestEffort, Result};
use crate::sys::namespace;
use crate::types::uplink::{HostLoopback, SlirpOptions};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

/// Whether slirp4netns can serve here; cheap: no process is started.
///
/// # Errors
/// Why not, and what helps.
pub(super) fn available() -> Result<PathBuf> {
    let program = find("slirp4netns", "slirp4netns")?;
    check_tap().map(|()| program)
}

/// The fixed places in the network that slirp4netns(1) documents.
pub(super) fn addresses(options: &SlirpOptions) -> Addresses {
    let host = match options.host_loopback {
        HostLoopback::Reachable => Some(options.cidr.nth(2).into()),
        HostLoopback::Hidden => super::host_address(),
    };
    Addresses {
        guests: vec![options.cidr.nth(100).into()],
        // It asks whatever the host asks, stubs on loopback included.
        dns: vec![options.cidr.nth(3).into()],
        host,
        names: NamesOf::World,
    }
}

pub(super) fn start(program: &Path, options: &SlirpOptions, netns: BorrowedFd<'_>) -> Result<Helper> {
    if options.ipv6 {
        without_detection(netns);
    }
    let arguments = |paths: &Paths| arguments(options, paths);
    Helper::start(&Call { name: "slirp4netns", program, arguments: &arguments, netns })
}

/// Before its device is made, whose IPv6 address is nobody else's. While the kernel looks
/// for others who have it, for a second or two, there is no way out by IPv6, and published
/// ports know no IPv6 client: ip-sysctl.rst of Linux, `accept_dad`.
fn without_detection(netns: BorrowedFd<'_>) {
    // A thread of its own, since from there no way leads back to the host's namespace. A
    // kernel without IPv6 has no such file, and nothing to look for.
    std::thread::scope(|scope| {
        let write = || -> std::io::Result<()> {
            namespace::join_network_namespace(netns)?;
            std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0")
        };
        std::thread::Builder::new().spawn_scoped(scope, move || write().or_ignore()).map(drop).or_ignore();
    });
}

fn arguments(options: &SlirpOptions, paths: &Paths) -> Vec<String> {
    // Stdin, which it does not read, is the exit fd.
    let mut arguments: Vec<String> =
        ["--exit-fd=0", "--configure", "--enable-sandbox", "--enable-seccomp", "--netns-type=path"]
            .map(str::to_owned)
            .into();
    arguments.push(format!("--ready-fd={}", paths.ready_fd));
    arguments.push(format!("--mtu={}", options.mtu));
    if options.host_loopback == HostLoopback::Hidden {
        arguments.push("--disable-host-loopback".into());
    }
    if options.ipv6 {
        arguments.push("--enable-ipv6".into());
    }
    if options.cidr != SlirpOptions::default().cidr {
        arguments.push(format!("--cidr={}/{}", options.cidr.base, options.cidr.prefix));
    }
    arguments.extend(options.outbound.iter().map(|address| format!("--outbound-addr={address}")));
    arguments.extend(options.outbound6.iter().map(|address| format!("--outbound-addr6={address}")));
    arguments.extend([paths.netns.clone(), super::INTERFACE.into()]);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(options: &[&str]) -> String {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let options = SlirpOptions::parse("slirp4netns", &options).expect("valid");
        arguments(&options, &Paths { netns: "/proc/self/fd/7".into(), ready_fd: 6 }).join(" ")
    }

    #[test]
    fn options_become_flags() {
        let line = line(&[
            "mtu=1500",
            "cidr=10.9.8.7/24",
            "enable_ipv6=false",
            "allow_host_loopback=true",
            "outbound_addr=192.0.2.7",
        ]);
        assert_eq!(
            line,
            "--exit-fd=0 --configure --enable-sandbox --enable-seccomp --netns-type=path --ready-fd=6 \
             --mtu=1500 --cidr=10.9.8.0/24 --outbound-addr=192.0.2.7 /proc/self/fd/7 tap0"
        );
    }

    #[test]
    fn the_hosts_loopback_is_hidden_unless_asked_for() {
        let line = line(&[]);
        assert!(line.contains("--disable-host-loopback") && line.contains("--mtu=65520"), "{line}");
        assert!(!line.contains("--cidr"), "{line}");
    }
}
