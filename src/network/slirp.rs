//! slirp4netns(1): the uplink of one container, in user space.
//!
//! A child of the container's monitor. It ends with the monitor, because the
//! monitor holds the other end of its `--exit-fd`.

use crate::error::{Context, Error, Kind, Result};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

/// Bytes of its complaints that are kept.
const MAX_COMPLAINT: usize = 4096;

/// The largest that slirp4netns takes is 65521; a multiple of 8 as podman uses.
const DEFAULT_MTU: u32 = 65520;

/// What `--network slirp4netns:KEY=VALUE,…` sets. Defaults are podman's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlirpOptions {
    /// Bytes.
    pub(crate) mtu: u32,
    pub(crate) cidr: Cidr,
    pub(crate) ipv6: bool,
    /// Whether the host's own 127.0.0.1 is reachable as the gateway.
    pub(crate) host_loopback: HostLoopback,
    /// Address or interface of the host from which connections leave.
    pub(crate) outbound: Option<String>,
    pub(crate) outbound6: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostLoopback {
    Hidden,
    Reachable,
}

/// An IPv4 network. slirp4netns wants room for its fixed addresses: /25 or wider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cidr {
    base: Ipv4Addr,
    prefix: u8,
}

/// The addresses that slirp4netns gives out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlirpAddresses {
    /// The host, as seen from the container: network + 2.
    pub(crate) gateway: Ipv4Addr,
    /// A resolver that asks the host's: network + 3.
    pub(crate) dns: Ipv4Addr,
    /// The container: network + 100.
    pub(crate) guest: Ipv4Addr,
}

impl Default for SlirpOptions {
    fn default() -> Self {
        Self {
            mtu: DEFAULT_MTU,
            cidr: Cidr { base: Ipv4Addr::new(10, 0, 2, 0), prefix: 24 },
            ipv6: true,
            host_loopback: HostLoopback::Hidden,
            outbound: None,
            outbound6: None,
        }
    }
}

impl SlirpOptions {
    /// # Errors
    /// `Invalid` for an unknown option and a value that is none.
    pub(crate) fn parse(options: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        for option in options {
            let wrong = |why: &str| Error::invalid(format!("--network slirp4netns:{option}: {why}"));
            let (key, value) = option.split_once('=').ok_or_else(|| wrong("not KEY=VALUE"))?;
            let flag = || match value {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(wrong("neither true nor false")),
            };
            match key {
                "mtu" => {
                    let mtu = value.parse().ok().filter(|mtu| (68..=65521).contains(mtu));
                    parsed.mtu = mtu.ok_or_else(|| wrong("an MTU is 68 to 65521 bytes"))?;
                }
                "cidr" => {
                    parsed.cidr =
                        Cidr::parse(value).ok_or_else(|| wrong("not an IPv4 network of /1 to /25"))?;
                }
                "enable_ipv6" => parsed.ipv6 = flag()?,
                "allow_host_loopback" => {
                    parsed.host_loopback =
                        if flag()? { HostLoopback::Reachable } else { HostLoopback::Hidden };
                }
                "outbound_addr" if is_source::<Ipv4Addr>(value) => parsed.outbound = Some(value.into()),
                "outbound_addr6" if is_source::<Ipv6Addr>(value) => parsed.outbound6 = Some(value.into()),
                "outbound_addr" | "outbound_addr6" => {
                    return Err(wrong("neither an address nor an interface"));
                }
                "port_handler" => return Err(wrong("ports cannot be published yet")),
                _ => {
                    return Err(wrong("unknown option").hint(
                        "one of: mtu, cidr, enable_ipv6, allow_host_loopback, outbound_addr, outbound_addr6",
                    ));
                }
            }
        }
        Ok(parsed)
    }

    pub(crate) fn addresses(&self) -> SlirpAddresses {
        let base = u32::from(self.cidr.base);
        SlirpAddresses {
            gateway: Ipv4Addr::from(base + 2),
            dns: Ipv4Addr::from(base + 3),
            guest: Ipv4Addr::from(base + 100),
        }
    }

    /// The command line, but for the fds. It enters the network namespace alone,
    /// as root of the outer user namespace, which the monitor is: the nested one
    /// may have no root (a single id that is mapped to the image's user).
    fn arguments(&self, init: u32) -> Vec<String> {
        let mut arguments: Vec<String> =
            ["--configure", "--enable-sandbox", "--enable-seccomp", "--netns-type=path"]
                .map(str::to_owned)
                .into();
        arguments.push(format!("--mtu={}", self.mtu));
        if self.host_loopback == HostLoopback::Hidden {
            arguments.push("--disable-host-loopback".into());
        }
        if self.ipv6 {
            arguments.push("--enable-ipv6".into());
        }
        if self.cidr != Self::default().cidr {
            arguments.push(format!("--cidr={}/{}", self.cidr.base, self.cidr.prefix));
        }
        arguments.extend(self.outbound.iter().map(|address| format!("--outbound-addr={address}")));
        arguments.extend(self.outbound6.iter().map(|address| format!("--outbound-addr6={address}")));
        arguments.extend([format!("/proc/{init}/ns/net"), "tap0".into()]);
        arguments
    }
}

/// An address, or the name of an interface: netdevice(7), at most 15 bytes.
fn is_source<A: std::str::FromStr>(text: &str) -> bool {
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    text.parse::<A>().is_ok()
        || (!text.is_empty() && text.len() < 16 && !text.starts_with('-') && text.bytes().all(name))
}

impl Cidr {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let prefix = prefix.parse::<u8>().ok().filter(|prefix| (1..=25).contains(prefix))?;
        let mask = u32::MAX << (32 - prefix);
        let base = Ipv4Addr::from(u32::from(address.parse::<Ipv4Addr>().ok()?) & mask);
        Some(Self { base, prefix })
    }
}

/// Whether slirp4netns can serve here; cheap: no process is started.
///
/// # Errors
/// Why not, for one line of warning, and what helps.
pub(crate) fn available() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program = std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .chain(["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join("slirp4netns"))
        .find(|file| file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok());
    let program = program.ok_or_else(|| {
        Error::not_found("slirp4netns is not installed").hint("sudo apt install slirp4netns")
    })?;
    match rustix::fs::access("/dev/net/tun", rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK) {
        Ok(()) => Ok(program),
        Err(rustix::io::Errno::NOENT) => {
            Err(Error::not_found("/dev/net/tun is not there").hint("sudo modprobe tun"))
        }
        Err(_) => Err(Error::failed("/dev/net/tun is not open to you").hint("sudo chmod 0666 /dev/net/tun")),
    }
}

/// A running slirp4netns. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Slirp {
    child: Child,
    /// slirp4netns ends when this end is closed, by us or by our death.
    #[expect(dead_code, reason = "held open: its end is the signal")]
    exit: ChildStdin,
    ready: Option<Receiver>,
    complaint: Option<JoinHandle<String>>,
}

impl Slirp {
    /// Starts slirp4netns for the namespaces of the process `init`. It returns
    /// at once: see [`Slirp::ready`]. Needs a tokio runtime; this process must
    /// have no other thread that might start a child meanwhile.
    pub(crate) fn start(program: &std::path::Path, init: u32, options: &SlirpOptions) -> Result<Self> {
        let action = || format!("start {}", program.display());
        let (ready, child_ready) = pipe_with(PipeFlags::CLOEXEC).context(action)?;
        let mut command = Command::new(program);
        // Stdin, which it does not read, is the exit fd; what it tells of its
        // progress on stdout is not wanted.
        command
            .arg("--exit-fd=0")
            .arg(format!("--ready-fd={}", child_ready.as_raw_fd()))
            .args(options.arguments(init))
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // One thread: no other child can inherit the fd in between.
        fcntl_setfd(&child_ready, FdFlags::empty()).context(action)?;
        let child = command.spawn();
        drop(child_ready);
        let mut child = child.context(action)?;
        let missing = || Error::failed("its pipes are missing").context(action());
        let exit = child.stdin.take().ok_or_else(missing)?;
        let stderr = child.stderr.take().ok_or_else(missing)?;
        Ok(Self {
            child,
            exit,
            ready: Some(Receiver::from_owned_fd(ready).context(action)?),
            complaint: Some(tokio::spawn(drain(stderr))),
        })
    }

    /// `None` where it has ended and was reaped.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Returns when the network is configured. Calling it again does nothing.
    /// It may be dropped and called anew.
    ///
    /// # Errors
    /// `Failed` with slirp4netns' own words where it ended instead.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        let Some(pipe) = &mut self.ready else { return Ok(()) };
        let mut word = [0; 1];
        let read = pipe.read(&mut word).await.context(|| "wait for slirp4netns")?;
        self.ready = None;
        if read == 0 { Err(self.death().await) } else { Ok(()) }
    }

    /// Returns when slirp4netns has ended, which it should not on its own, with
    /// what it said. It may be dropped and called anew.
    pub(crate) async fn death(&mut self) -> Error {
        let status = match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let said = match &mut self.complaint {
            Some(task) => task.await.unwrap_or_default(),
            None => String::new(),
        };
        self.complaint = None;
        let last = said.lines().rev().map(str::trim).find(|line| !line.is_empty());
        let error = match last {
            Some(line) => Error::failed(format!("slirp4netns: {line} ({status})")),
            None => Error::failed(format!("slirp4netns ended: {status}")),
        };
        error.with_kind(Kind::Failed)
    }
}

/// Reads to the end, so that the writer never blocks, and keeps the beginning.
async fn drain(mut stream: tokio::process::ChildStderr) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 512];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let room = MAX_COMPLAINT - kept.len();
        kept.extend_from_slice(&buffer[..count.min(room)]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The host's address as its neighbours see it: what `host.containers.internal`
/// can be where the host's loopback is hidden. Asks the kernel which address a
/// packet to the documentation network (RFC 5737) would leave from; none does.
pub(crate) fn host_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Result<SlirpOptions> {
        SlirpOptions::parse(&options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options() {
        assert_eq!(parse(&[]).expect("valid"), SlirpOptions::default());
        let options = parse(&[
            "mtu=1500",
            "cidr=10.9.8.7/24",
            "enable_ipv6=false",
            "allow_host_loopback=true",
            "outbound_addr=192.0.2.7",
        ])
        .expect("valid");
        assert_eq!(
            options.arguments(7).join(" "),
            "--configure --enable-sandbox --enable-seccomp --netns-type=path --mtu=1500 --cidr=10.9.8.0/24 \
             --outbound-addr=192.0.2.7 /proc/7/ns/net tap0"
        );
        assert_eq!(options.addresses().guest, Ipv4Addr::new(10, 9, 8, 100));
        for bad in [
            "mtu",
            "mtu=",
            "mtu=65522",
            "mtu=9",
            "mtu=1e3",
            "cidr=10.0.2.0",
            "cidr=10.0.2.0/26",
            "cidr=10.0.2.0/0",
            "cidr=::/64",
            "enable_ipv6=yes",
            "allow_host_loopback=1",
            "outbound_addr=-x",
            "outbound_addr=",
            "outbound_addr=a b",
            "outbound_addr6=192.0.2.1/24",
            "port_handler=slirp4netns",
            "unknown=1",
        ] {
            assert!(parse(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_hosts_loopback_is_hidden_unless_asked_for() {
        let line = SlirpOptions::default().arguments(1).join(" ");
        assert!(line.contains("--disable-host-loopback") && line.contains("--mtu=65520"), "{line}");
        assert!(!line.contains("--cidr"), "{line}");
    }

    #[test]
    fn what_slirp4netns_says_before_it_is_ready_becomes_the_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let program = dir.path().join("slirp4netns");
        let script = "#!/bin/sh\necho chatter\necho 'open(/dev/net/tun): no' >&2\nexit 3\n";
        std::fs::write(&program, script).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).expect("executable");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let error = runtime.block_on(async {
            let mut slirp = Slirp::start(&program, 1, &SlirpOptions::default()).expect("started");
            let error = slirp.ready().await.unwrap_err();
            drop(slirp);
            error
        });
        assert_eq!(error.to_string(), "slirp4netns: open(/dev/net/tun): no (exit status: 3)");
    }
}
