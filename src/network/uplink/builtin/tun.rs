//! The device in the container's network namespace: made and configured by a
//! child that enters it and hands its other end out.

use super::policy::Policy;
use crate::error::{BestEffort, Context, Error, Result, Trouble};
use crate::network::uplink::INTERFACE;
use crate::sys::process::{self, Cloned};
use crate::sys::{socket, tap};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::ffi::CString;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Packets that may wait for this program: so many that those of all windows
/// have room, as the device drops what is more.
const QUEUE: u32 = 10_000;

/// Makes the device in the namespace at `netns`; its other end.
///
/// # Errors
/// Why not: the child's own words, which it has sent instead.
pub(super) fn open(netns: &str, policy: &Policy) -> Result<OwnedFd> {
    let step = || "make the device";
    let (here, there) = UnixStream::pair().context(step)?;
    match process::fork().context(step).see_doctor(Trouble::Processes)? {
        Cloned::Child => {
            let done = make(netns, policy).and_then(|tun| {
                socket::send_fd(there.as_fd(), tun.as_fd()).context(|| "hand over the device")
            });
            if let Err(error) = &done {
                rustix::io::write(&there, error.to_string().as_bytes()).or_ignore();
            }
            process::exit_now(done.is_err().into())
        }
        Cloned::Parent { pidfd, .. } => {
            drop(there);
            let mut said = [0; 1024];
            let (length, tun) = socket::receive_with_fd(here.as_fd(), &mut said).context(step)?;
            let id = rustix::process::WaitId::PidFd(pidfd.as_fd());
            rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED).context(step)?;
            tun.ok_or_else(|| Error::failed(String::from_utf8_lossy(&said[..length]).into_owned()))
        }
    }
}

fn make(netns: &str, policy: &Policy) -> Result<OwnedFd> {
    let open = |path: &str, flags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
    let namespace = open(netns, OFlags::RDONLY).context(|| format!("open {netns}"))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .context(|| "enter the network namespace")?;
    let tun = open("/dev/net/tun", OFlags::RDWR | OFlags::NONBLOCK).context(|| "open /dev/net/tun")?;
    let name = CString::new(INTERFACE).unwrap_or_default();
    tap::make_tun(tun.as_fd(), &name).context(|| format!("make the device {INTERFACE}"))?;
    tap::offload(tun.as_fd()).context(|| "set the device's offloads")?;
    configure(policy).map_err(|error| error.context(format!("configure {INTERFACE}")))?;
    Ok(tun)
}

/// rtnetlink(7): the link, addresses and routes.
fn configure(policy: &Policy) -> Result<()> {
    let step = || "ask the kernel";
    let route =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None).context(step)?;
    let index = rustix::net::netdevice::name_to_index(&route, INTERFACE).context(|| "find the device")?;
    let ask = |message: Message| -> Result<()> {
        rustix::net::send(&route, &message.finish(), SendFlags::empty()).context(step)?;
        let mut answer = [0; 512];
        let (length, _) = rustix::net::recv(&route, &mut answer, RecvFlags::empty()).context(step)?;
        errno(&answer[..length]).map_or(Ok(()), |errno| Err(errno).context(step))
    };
    ask(link(index, policy.options().mtu))?;
    let (guest, prefix) = policy.guest();
    ask(address(index, guest.into(), prefix))?;
    ask(default_route(index, policy.gateway().into()))?;
    if policy.options().ipv6 {
        // A host without IPv6 has none to give.
        ask(address(index, Policy::guest6().into(), 64))
            .and_then(|()| ask(default_route(index, Policy::gateway6().into())))
            .or_ignore();
    }
    Ok(())
}

/// The error in an answer: NLMSG_ERROR, with a negative errno or 0.
fn errno(answer: &[u8]) -> Option<rustix::io::Errno> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let errno = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (kind == 2 && errno != 0).then(|| rustix::io::Errno::from_raw_os_error(-errno))
}

/// Numbers of include/uapi/linux/rtnetlink.h and if_link.h, if_addr.h.
fn link(index: u32, mtu: u32) -> Message {
    const UP: u32 = 1;
    let mut message = Message::new(16, Message::ASK);
    message.put(&[0, 0, 0, 0]).put(&index.to_ne_bytes()).put(&UP.to_ne_bytes()).put(&UP.to_ne_bytes());
    message.attribute(4, &mtu.to_ne_bytes()).attribute(13, &QUEUE.to_ne_bytes());
    message
}

fn address(index: u32, address: IpAddr, prefix: u8) -> Message {
    const NO_DUPLICATE_DETECTION: u32 = 2;
    let mut message = Message::new(20, Message::MAKE);
    message.put(&[family(address), prefix, 0, 0]).put(&index.to_ne_bytes());
    let bytes = octets(address);
    message.attribute(1, &bytes).attribute(2, &bytes);
    if address.is_ipv6() {
        message.attribute(8, &NO_DUPLICATE_DETECTION.to_ne_bytes());
    }
    message
}

fn default_route(index: u32, gateway: IpAddr) -> Message {
    let mut message = Message::new(24, Message::MAKE);
    // Table "main", protocol "boot", everywhere, unicast.
    message.put(&[family(gateway), 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0]);
    message.attribute(5, &octets(gateway)).attribute(4, &index.to_ne_bytes());
    message
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

/// One request of netlink(7).
struct Message(Vec<u8>);

impl Message {
    /// NLM_F_REQUEST and ACK.
    const ASK: u16 = 1 | 4;
    /// The same with CREATE and REPLACE.
    const MAKE: u16 = Self::ASK | 0x400 | 0x100;

    fn new(kind: u16, flags: u16) -> Self {
        let mut message = Self(vec![0; 4]);
        message.put(&kind.to_ne_bytes()).put(&flags.to_ne_bytes()).put(&[1, 0, 0, 0, 0, 0, 0, 0]);
        message
    }

    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Its length and kind, and the value padded to four bytes.
    fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = 4 + value.len() as u16;
        self.put(&length.to_ne_bytes()).put(&kind.to_ne_bytes()).put(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn finish(mut self) -> Vec<u8> {
        let length = (self.0.len() as u32).to_ne_bytes();
        self.0[..4].copy_from_slice(&length);
        self.0
    }
}
