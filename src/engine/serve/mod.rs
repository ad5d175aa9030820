//! `registry serve`: the local store as a registry of the distribution protocol,
//! for whoever may connect. One process, a thread a connection; it runs outside
//! of the user namespace, and nothing of an image is unpacked by it.
//!
//! Clients are hostile: heads and documents have bounds, what is ambiguous is
//! refused, who is slow is let go of, and there are only so many at once.

mod auth;
mod http;
mod page;
mod pushed;
mod removal;
mod routes;
mod socket;
mod uploads;

use crate::dirs::Dirs;
use crate::error::{BestEffort, Context, Error, Result};
use crate::image::store::ImageStore;
use auth::Guard;
use routes::Registry;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use socket::{Connection, Socket};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections that are served at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Listen {
    /// `127.0.0.1:5000`, `:5000` (on loopback), `[::1]:5000`, `unix:PATH` or a path.
    ///
    /// # Errors
    /// `Invalid` for anything else.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")) {
            return Ok(Self::Unix(path.into()));
        }
        if text.starts_with(['/', '.']) {
            return Ok(Self::Unix(text.into()));
        }
        let text = text.strip_prefix("tcp://").unwrap_or(text);
        let full = match text.strip_prefix(':') {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.replacen("localhost:", "127.0.0.1:", 1),
        };
        full.parse().map(Self::Tcp).map_err(|_| {
            Error::invalid(format!("invalid address {text:?}"))
                .hint("write it as IP:PORT, :PORT, or unix:PATH")
        })
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ServeOptions {
    pub(crate) listen: Listen,
    /// Images may be pushed as well.
    pub(crate) writable: bool,
    /// Files with the certificate chain and its key, as PEM.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    /// Users and their passwords, as `htpasswd -B` writes them.
    pub(crate) htpasswd: Option<PathBuf>,
}

/// A server that listens, and does not answer yet.
pub(crate) struct Server {
    listener: Listener,
    shared: Arc<Shared>,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

struct Shared {
    registry: Registry,
    guard: Option<Guard>,
    tls: Option<Arc<rustls::ServerConfig>>,
    /// Only names of this machine are answered to: DNS rebinding (CVE-2025-64443).
    loopback: bool,
    connections: AtomicUsize,
}

impl Server {
    /// # Errors
    /// Where the address is taken, and for files that cannot be used.
    pub(crate) fn bind(dirs: &Dirs, options: &ServeOptions) -> Result<Self> {
        let tls = options.tls.as_ref().map(|(chain, key)| tls(chain, key)).transpose()?;
        let guard = options.htpasswd.as_deref().map(Guard::load).transpose()?;
        let store = ImageStore::open(&dirs.images())?;
        let registry = Registry::new(dirs.clone(), store, options.writable)?;
        let (listener, loopback) = match &options.listen {
            Listen::Tcp(address) => {
                let listener = TcpListener::bind(address).context(|| format!("listen at {address}"))?;
                (Listener::Tcp(listener), address.ip().is_loopback() && tls.is_none())
            }
            Listen::Unix(path) => (Listener::Unix(bind_unix(path)?), false),
        };
        let connections = AtomicUsize::new(0);
        Ok(Self { listener, shared: Arc::new(Shared { registry, guard, tls, loopback, connections }) })
    }

    /// Where it can be reached: with port 0 the kernel chose one.
    pub(crate) fn address(&self) -> Result<String> {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        match &self.listener {
            Listener::Tcp(listener) => {
                let address = listener.local_addr().context(|| "get the address")?;
                Ok(format!("{scheme}://{address}"))
            }
            Listener::Unix(listener) => {
                let address = listener.local_addr().context(|| "get the address")?;
                let path = address.as_pathname().unwrap_or(Path::new("")).display().to_string();
                Ok(format!("{scheme}+unix:{path}"))
            }
        }
    }

    /// What makes its address worth a warning.
    pub(crate) fn warning(&self) -> Option<String> {
        let Listener::Tcp(listener) = &self.listener else { return None };
        let ip = listener.local_addr().ok()?.ip();
        match (ip.is_loopback(), self.shared.tls.is_some(), self.shared.guard.is_some()) {
            (true, ..) | (false, true, true) => None,
            (false, false, true) => {
                Some("passwords cross the network readable: use --tls-cert and --tls-key".into())
            }
            (false, _, false) => Some(format!(
                "everyone who reaches {} gets the images{}: use --htpasswd, or listen on 127.0.0.1",
                if ip.is_unspecified() { IpAddr::from([0, 0, 0, 0]) } else { ip },
                if self.shared.registry.is_writable() { " and may push" } else { "" }
            )),
        }
    }

    /// Answers until the process ends.
    pub(crate) fn run(&self) -> Result<()> {
        loop {
            while self.shared.connections.load(Ordering::Acquire) >= CONNECTIONS_MAX {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            let socket = match &self.listener {
                Listener::Tcp(listener) => listener.accept().map(|(stream, _)| Socket::Tcp(stream)),
                Listener::Unix(listener) => listener.accept().map(|(stream, _)| Socket::Unix(stream)),
            };
            match socket {
                Ok(socket) => self.answer(socket),
                // A client that has gone again, or no fd for it now.
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(5)),
            }
        }
    }

    fn answer(&self, socket: Socket) {
        let shared = Arc::clone(&self.shared);
        shared.connections.fetch_add(1, Ordering::AcqRel);
        let counted = Counted(Arc::clone(&shared));
        let serve = move || {
            let counted = counted;
            // What a client does wrong is its own affair.
            converse(socket, &counted.0).or_ignore();
        };
        // Without a thread the connection is dropped, and counted out.
        std::thread::Builder::new().stack_size(512 << 10).spawn(serve).map(drop).or_ignore();
    }
}

/// A connection that is counted until it ends, also by a panic.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Requests of one connection, one after the other.
fn converse(socket: Socket, shared: &Shared) -> std::io::Result<()> {
    let mut connection = Connection::open(socket, shared.tls.as_ref())?;
    loop {
        let Some(request) = http::read_request(&mut connection)? else { return Ok(()) };
        let response = match request {
            Ok(mut request) => {
                let keep = request.keeps_alive();
                let head_only = request.method == "HEAD";
                let mut body = request.take_body();
                let response = admit(shared, &request)
                    .unwrap_or_else(|| shared.registry.answer(&request, &mut body.reader(&mut connection)));
                // What the client still sends of it is in the way of its next request.
                let drained = body.drain(&mut connection);
                response.send(&mut connection, head_only, keep && drained)?;
                if !(keep && drained) {
                    return connection.close();
                }
                continue;
            }
            Err(refused) => refused,
        };
        response.send(&mut connection, false, false)?;
        return connection.close();
    }
}

/// A refusal before anything is looked at.
fn admit(shared: &Shared, request: &http::Request) -> Option<page::Response> {
    if shared.loopback && !names_this_machine(request.header("host").unwrap_or_default()) {
        return Some(page::Response::error(403, "DENIED", "this registry is not reached by that name"));
    }
    let guard = shared.guard.as_ref()?;
    if guard.admits(request.header("authorization")) {
        return None;
    }
    let response = page::Response::error(401, "UNAUTHORIZED", "authentication required");
    Some(response.with("WWW-Authenticate", "Basic realm=\"coracle\", charset=\"UTF-8\""))
}

fn names_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => return rest.split(']').next().is_some_and(|ip| ip.parse::<IpAddr>().is_ok()),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}

fn tls(chain: &Path, key: &Path) -> Result<Arc<rustls::ServerConfig>> {
    let read = |path: &Path| format!("read {}", path.display());
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| Error::invalid(format!("{}: {error}", read(chain))))?;
    if certificates.is_empty() {
        return Err(Error::invalid(format!("{} has no certificate", chain.display())));
    }
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| Error::invalid(format!("{}: {error}", read(key))))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key))
        .map_err(|error| Error::invalid(format!("the certificate and its key: {error}")))?;
    Ok(Arc::new(config))
}

/// A socket of this user's alone. One that nobody listens at any more is replaced.
fn bind_unix(path: &Path) -> Result<UnixListener> {
    let action = || format!("listen at {}", path.display());
    if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
        && UnixStream::connect(path).is_err()
    {
        std::fs::remove_file(path).context(action)?;
    }
    let listener = UnixListener::bind(path).context(action)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).context(action)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let tcp = |text: &str| Listen::Tcp(text.parse().expect("address"));
        for (text, listen) in [
            (":5000", tcp("127.0.0.1:5000")),
            ("localhost:1", tcp("127.0.0.1:1")),
            ("tcp://[::1]:80", tcp("[::1]:80")),
            ("0.0.0.0:0", tcp("0.0.0.0:0")),
            ("unix:/run/x", Listen::Unix("/run/x".into())),
            ("unix:///run/x", Listen::Unix("/run/x".into())),
            ("./x", Listen::Unix("./x".into())),
        ] {
            assert_eq!(Listen::parse(text).expect(text), listen);
        }
        for bad in ["", "5000", "example.com:80", "127.0.0.1", ":99999"] {
            assert!(Listen::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_this_machine_s_names_are_answered_to() {
        for good in ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000", "a.localhost:1"] {
            assert!(names_this_machine(good), "{good}");
        }
        for bad in ["", "evil.example:5000", "localhost.evil.example", "[evil]"] {
            assert!(!names_this_machine(bad), "{bad}");
        }
    }
}
