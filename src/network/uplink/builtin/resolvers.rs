//! The host's resolvers, as `/etc/resolv.conf` names them now.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

const PORT: u16 = 53;
/// glibc asks three (`MAXNS`).
const MAX: usize = 3;

#[derive(Debug)]
pub(super) struct Resolvers {
    file: PathBuf,
    /// Device, inode, time and size of what was read.
    seen: Option<(u64, u64, i64, i64, u64)>,
    addresses: Vec<SocketAddr>,
}

impl Resolvers {
    pub(super) fn of(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), seen: None, addresses: Vec::new() }
    }

    /// Those, whatever a file says: for tests, which cannot have port 53.
    #[cfg(test)]
    pub(super) fn fixed(addresses: Vec<SocketAddr>) -> Self {
        Self { file: PathBuf::from("/nonexistent"), seen: None, addresses }
    }

    /// In the order in which they are asked. The file is read again when it has changed.
    pub(super) fn present(&mut self) -> &[SocketAddr] {
        let seen = std::fs::metadata(&self.file)
            .ok()
            .map(|meta| (meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size()));
        if seen != self.seen || self.addresses.is_empty() {
            self.seen = seen;
            let text = crate::sys::errno::read_host(&self.file.to_string_lossy()).unwrap_or_default();
            self.addresses = parse(&text);
        }
        &self.addresses
    }
}

/// resolv.conf(5): without a `nameserver` the resolver is on this machine.
fn parse(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            return None;
        }
        let word = words.next()?;
        let (address, zone) =
            word.split_once('%').map_or((word, None), |(address, zone)| (address, Some(zone)));
        match address.parse::<IpAddr>().ok()? {
            IpAddr::V6(address) => {
                let scope = match zone {
                    Some(zone) => zone.parse().ok().or_else(|| index_of(zone))?,
                    None => 0,
                };
                Some(SocketAddr::V6(std::net::SocketAddrV6::new(address, PORT, 0, scope)))
            }
            IpAddr::V4(address) => Some(SocketAddr::new(address.into(), PORT)),
        }
    };
    let mut found: Vec<SocketAddr> = text.lines().filter_map(address).take(MAX).collect();
    if found.is_empty() {
        found.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
    }
    found
}

fn index_of(interface: &str) -> Option<u32> {
    crate::sys::errno::read_host(&format!("/sys/class/net/{interface}/ifindex"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_again_when_it_changes() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut resolvers = Resolvers::of(file.path());
        assert_eq!(resolvers.present(), ["127.0.0.1:53".parse().expect("an address")]);
        std::fs::write(file.path(), "# x\nnameserver 192.0.2.1\nnameserver bad\nnameserver 2001:db8::1\n")
            .expect("written");
        let expected = ["192.0.2.1:53", "[2001:db8::1]:53"].map(|text| text.parse().expect("an address"));
        assert_eq!(resolvers.present(), expected);
        std::fs::write(file.path(), "nameserver 127.0.0.53\n").expect("written");
        assert_eq!(resolvers.present(), ["127.0.0.53:53".parse().expect("an address")]);
    }
}
