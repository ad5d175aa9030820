//! pasta(1).
//!
//! It runs in the foreground, and writes its pid to what `--pid` names once the
//! interface is configured: a pipe of ours. Under a guard (`guard`), since it
//! gives up the signal of its parent's death, and outlives its namespace.

use super::helper::{Call, Helper, Paths, check_tap, find};
use super::{Addresses, NamesOf, guard};
use crate::error::Result;
use crate::types::uplink::PastaOptions;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

/// Where queries for names are taken, and (of pasta since 2024) where the host
/// is: podman's addresses. Link-local ones cannot be anyone else's.
const DNS: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const HOST: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 2);

/// What a namespace with its interface starts with. The interface takes packets
/// of 64 KiB, of which pasta's buffers for a connection hold one or two: a sender
/// of such segments stops for each of them, some hundred times slower than it
/// could be. So TCP keeps to segments of a quarter, and looks for no larger ones;
/// the MTU stays as it is, for pasta passes no fragments of longer datagrams.
/// Source: Documentation/networking/ip-sysctl.rst of Linux, on each.
pub(super) const SYSCTLS: [(&str, &str); 3] = [
    ("net.ipv4.tcp_mtu_probing", "2"),
    ("net.ipv4.tcp_base_mss", "16344"),
    ("net.ipv4.tcp_probe_threshold", "65535"),
];

/// pasta on this host.
#[derive(Clone, Debug)]
pub(super) struct Pasta {
    program: PathBuf,
    /// Whether it knows `--map-guest-addr`.
    maps_host: bool,
}

impl Pasta {
    /// Whether pasta can serve here; cheap: no process is started.
    ///
    /// # Errors
    /// Why not, and what helps.
    pub(super) fn find() -> Result<Self> {
        let program = find("pasta", "passt")?;
        check_tap()?;
        // It has no way to ask but its usage text, which is in the program.
        let maps_host = std::fs::read(&program)
            .is_ok_and(|program| memchr::memmem::find(&program, b"map-guest-addr").is_some());
        Ok(Self { program, maps_host })
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// pasta gives the namespace the host's own address, unless told another.
    pub(super) fn addresses(&self, options: &PastaOptions) -> Addresses {
        let given = |option: &str| -> Vec<IpAddr> {
            options.values(option).iter().filter_map(|value| value.parse().ok()).collect()
        };
        let guests = given("--address").first().copied().or_else(super::host_address).into_iter().collect();
        let dns = if options.has("--dns-forward") { given("--dns-forward") } else { vec![DNS.into()] };
        let host = if options.maps_gateway() {
            given("--gateway").first().copied().or_else(|| gateway().map(IpAddr::from))
        } else if options.has("--map-guest-addr") {
            given("--map-guest-addr").first().copied()
        } else {
            // Without it the host's own address is the namespace's.
            self.maps_host.then_some(HOST.into())
        };
        Addresses { guests, dns, host, names: NamesOf::World }
    }

    pub(super) fn start(&self, options: &PastaOptions, netns: BorrowedFd<'_>) -> Result<Helper> {
        let arguments = |paths: &Paths| guard::arguments(&self.program, self.arguments(options, paths));
        Helper::start(&Call {
            name: "pasta",
            program: Path::new(guard::OURSELVES),
            arguments: &arguments,
            netns,
        })
    }

    fn arguments(&self, options: &PastaOptions, paths: &Paths) -> Vec<String> {
        // As who it is: where root has all ids it would take itself for the host's
        // root and become nobody, who may not enter the namespace.
        let own = ["--foreground", "--quiet", "--config-net", "--runas=0:0"];
        let mut arguments: Vec<String> = own.map(str::to_owned).into();
        let mut default = |option: &str, value: &str| {
            if !options.has(option) {
                arguments.extend([option, value].map(str::to_owned));
            }
        };
        // Nothing is forwarded unless asked for: by default pasta would show all
        // ports of the namespace on the host, and the host's loopback inside.
        for option in ["--tcp-ports", "--udp-ports", "--tcp-ns", "--udp-ns"] {
            default(option, "none");
        }
        default("--ns-ifname", super::INTERFACE);
        default("--dns-forward", &DNS.to_string());
        if self.maps_host {
            default("--map-guest-addr", &HOST.to_string());
        }
        if !options.maps_gateway() && !options.has("--no-map-gw") {
            arguments.push("--no-map-gw".into());
        }
        arguments.extend(options.words.iter().filter(|word| *word != "--map-gw").cloned());
        arguments.push(format!("--pid=/proc/self/fd/{}", paths.ready_fd));
        arguments.push(format!("--netns={}", paths.netns));
        arguments
    }
}

/// The host's default gateway: proc_net_route, hexadecimal in the host's byte order.
fn gateway() -> Option<Ipv4Addr> {
    parse_gateway(&crate::sys::errno::read_host("/proc/net/route")?)
}

fn parse_gateway(text: &str) -> Option<Ipv4Addr> {
    text.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, destination, gateway, _, _, _, _, mask, ..] = fields[..] else { return None };
        let gateway = u32::from_str_radix(gateway, 16).ok()?;
        let default = destination == "00000000" && mask == "00000000" && gateway != 0;
        default.then(|| Ipv4Addr::from(gateway.to_ne_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> PastaOptions {
        PastaOptions::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).expect("valid")
    }

    fn line(words: &[&str], maps_host: bool) -> String {
        let pasta = Pasta { program: "/usr/bin/pasta".into(), maps_host };
        pasta.arguments(&options(words), &Paths { netns: "/proc/self/fd/7".into(), ready_fd: 6 }).join(" ")
    }

    #[test]
    fn nothing_is_open_that_was_not_asked_for() {
        let plain = line(&[], false);
        assert_eq!(
            plain,
            "--foreground --quiet --config-net --runas=0:0 --tcp-ports none --udp-ports none --tcp-ns none --udp-ns none \
             --ns-ifname tap0 --dns-forward 169.254.1.1 --no-map-gw --pid=/proc/self/fd/6 --netns=/proc/self/fd/7"
        );
        assert!(line(&[], true).contains("--map-guest-addr 169.254.1.2"));
    }

    #[test]
    fn what_is_asked_for_comes_instead_of_the_default() {
        let asked = line(&["-T", "5432", "--map-gw", "-I", "eth7"], false);
        assert!(
            !asked.contains("--tcp-ns") && !asked.contains("map-gw") && !asked.contains("tap0"),
            "{asked}"
        );
        assert!(asked.contains("-T 5432 -I eth7"), "{asked}");
    }

    #[test]
    fn the_default_gateway() {
        let text = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n\
            eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\n\
            eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\n";
        let expected = Ipv4Addr::from(0x0102_00C0_u32.to_ne_bytes());
        assert_eq!(parse_gateway(text), Some(expected));
        assert_eq!(parse_gateway("Iface\nx\n"), None);
    }
}
