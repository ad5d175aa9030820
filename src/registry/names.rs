//! From the name of a server to its addresses.
//!
//! glibc finds names by modules that it loads (nsswitch.conf(5)): into a program that
//! is linked statically it loads them too, and with some of them (myhostname, resolve)
//! that ends in a crash. So there it is getent(1) that is asked, which every system
//! with glibc has.

use crate::sys::process::is_static;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// The addresses of a host, the best first.
///
/// # Errors
/// `NotFound` where there are none; `TimedOut` after `patience`.
pub(crate) fn addresses(host: &str, port: u16, patience: Duration) -> io::Result<Vec<SocketAddr>> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let name = bare.to_owned();
    let found = within(patience, move || {
        let by_program = if is_static() { by_getent(&name) } else { None };
        by_program.unwrap_or_else(|| Ok((name.as_str(), 0).to_socket_addrs()?.map(|at| at.ip()).collect()))
    })?;
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no address is known for this name"));
    }
    Ok(found.into_iter().map(|address| SocketAddr::new(address, port)).collect())
}

/// On a thread of its own, which goes on where nobody waits for it any more.
fn within<T: Send + 'static>(
    patience: Duration,
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (give, take) = mpsc::sync_channel(1);
    std::thread::Builder::new().spawn(move || give.send(call()).ok())?;
    take.recv_timeout(patience).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// `None` where there is no such program.
fn by_getent(name: &str) -> Option<io::Result<Vec<IpAddr>>> {
    // No option: a name never begins so.
    if name.starts_with('-') {
        return Some(Ok(Vec::new()));
    }
    let mut command = Command::new("getent");
    command.args(["ahosts", name]).stdin(Stdio::null()).stderr(Stdio::null());
    match command.output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(Err(error)),
        Ok(output) => Some(Ok(of_output(&String::from_utf8_lossy(&output.stdout)))),
    }
}

/// Of the lines `ADDRESS STREAM NAME`, `ADDRESS DGRAM`, …: each address once.
fn of_output(text: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let word = line.split_ascii_whitespace().next();
        if let Some(address) = word.and_then(|word| word.parse().ok())
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

/// For requests.
#[derive(Debug)]
pub(super) struct Names;

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(ureq::Error::BadUri(uri.to_string()));
        };
        let whole = DefaultResolver::host_and_port(scheme, authority);
        let parts = whole.as_deref().and_then(|whole| whole.rsplit_once(':'));
        let (host, port) = parts.ok_or_else(|| ureq::Error::BadUri(uri.to_string()))?;
        let port = port.parse().map_err(|_| ureq::Error::BadUri(uri.to_string()))?;
        let found = addresses(host, port, *timeout.after).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ureq::Error::HostNotFound,
            io::ErrorKind::TimedOut => ureq::Error::Timeout(timeout.reason),
            _ => ureq::Error::Io(error),
        })?;
        let mut all = self.empty();
        // As many as there is room for.
        for address in found.into_iter().take(16) {
            all.push(address);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn addresses_are_what_they_say() {
        for (text, address) in [("127.0.0.1", "127.0.0.1:5"), ("[::1]", "[::1]:5"), ("::1", "[::1]:5")] {
            assert_eq!(addresses(text, 5, LONG).expect(text), [address.parse().expect("an address")]);
        }
        assert!(addresses("localhost", 5, LONG).expect("localhost").iter().all(|at| at.ip().is_loopback()));
        assert!(addresses("no.such.host.invalid", 5, LONG).is_err());
    }

    #[test]
    fn getent_says_the_same() {
        let Some(found) = by_getent("localhost") else { return };
        let found = found.expect("asked");
        assert!(!found.is_empty() && found.iter().all(IpAddr::is_loopback), "{found:?}");
        assert_eq!(by_getent("--help").expect("there").expect("asked"), [] as [IpAddr; 0]);
        let text = "::1  STREAM localhost\n::1  DGRAM\n127.0.0.1 STREAM\nnonsense\n";
        assert_eq!(of_output(text), ["::1".parse::<IpAddr>().expect("v6"), "127.0.0.1".parse().expect("v4")]);
    }
}
