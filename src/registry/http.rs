//! GET over http and https: bounded, with redirects of our own, so that an
//! Authorization header never goes further than the server it is for.

use crate::error::{Context, Error, Result};
use std::sync::OnceLock;
use std::time::Duration;
use ureq::http::{HeaderMap, Response, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

/// As browsers and docker have it, or fewer.
const REDIRECTS_MAX: usize = 5;
/// Bytes of a response's head.
const HEADERS_MAX: usize = 64 << 10;
/// Bytes of an error's text that are read.
const ERROR_BODY_MAX: u64 = 16 << 10;
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(8);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// Until the head of a response is there.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// Without a byte.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest that a server may make us wait between two tries.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// Waits before the second and third try.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(1500)];

/// A failure and whether another try may help.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) retry: Retry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    No,
    Soon,
    After(Duration),
    /// No TLS was spoken on the other side.
    WithoutTls,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, retry: Retry::No }
    }
}

/// Tries up to three times, with a short back-off, where another try may help.
pub(crate) fn with_retries<T>(mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T> {
    for pause in BACK_OFF {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(Failure { retry: Retry::Soon, .. }) => std::thread::sleep(pause),
            Err(Failure { retry: Retry::After(wait), .. }) => {
                std::thread::sleep(wait.clamp(pause, RETRY_AFTER_MAX));
            }
            Err(failure) => return Err(failure.error),
        }
    }
    attempt().map_err(|failure| failure.error)
}

/// What of TLS is checked on the first server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Certificates of this system.
    Verify,
    /// Loopback, and what the user declared insecure.
    Anything,
}

/// One GET.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Get<'a> {
    pub(crate) url: &'a str,
    pub(crate) accept: &'a str,
    /// For the server of `url` alone.
    pub(crate) authorization: Option<&'a str>,
    pub(crate) trust: Trust,
}

/// Connections, kept for the next request; certificates are read at the first
/// use of https.
#[derive(Debug, Default)]
pub(crate) struct Http {
    verifying: OnceLock<Agent>,
    trusting: OnceLock<Agent>,
}

impl Http {
    /// Follows redirects, without the authorization, and never from https to http.
    pub(crate) fn get(&self, get: Get<'_>) -> Result<Response<Body>, Failure> {
        let mut url: Uri = parse_url(get.url)?;
        let first = Origin::of(&url)?;
        let mut authorization = get.authorization;
        for _ in 0..=REDIRECTS_MAX {
            let origin = Origin::of(&url)?;
            let trust = if origin.host == first.host { get.trust } else { Trust::Verify };
            let mut request = self.agent(trust)?.get(url.clone()).header("accept", get.accept);
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            let response = request.call().map_err(|error| transport(&origin, error))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            url = redirect(&url, response.headers())?;
            // Not even to the same server: whoever chooses the new URL would
            // choose what is done with the user's rights (CVE-2020-15157).
            authorization = None;
        }
        Err(Error::failed(format!("{} redirects without end", first.host)).into())
    }

    fn agent(&self, trust: Trust) -> Result<&Agent> {
        let cell = match trust {
            Trust::Verify => &self.verifying,
            Trust::Anything => &self.trusting,
        };
        if let Some(agent) = cell.get() {
            return Ok(agent);
        }
        let agent = new_agent(trust)?;
        Ok(cell.get_or_init(|| agent))
    }
}

fn new_agent(trust: Trust) -> Result<Agent> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
    tls = match trust {
        Trust::Verify => tls.root_certs(system_certificates()?),
        Trust::Anything => tls.disable_verification(true).root_certs(RootCerts::new_with_certs(&[])),
    };
    let mut config = Agent::config_builder()
        .tls_config(tls.build())
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_response_header_size(HEADERS_MAX)
        .max_idle_connections_per_host(8)
        .user_agent(concat!("coracle/", env!("CARGO_PKG_VERSION")))
        // Blobs are what their digest says: no transport coding on top.
        .accept_encoding("identity")
        .timeout_resolve(Some(RESOLVE_TIMEOUT))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_recv_response(Some(RESPONSE_TIMEOUT))
        .timeout_per_read(Some(SILENCE_TIMEOUT))
        .timeout_per_write(Some(SILENCE_TIMEOUT));
    if trust == Trust::Anything {
        // Loopback is not reached through a proxy.
        config = config.proxy(None);
    }
    Ok(config.build().new_agent())
}

fn system_certificates() -> Result<RootCerts> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        return Err(Error::failed("this system has no certificates to verify registries with")
            .hint("install the package ca-certificates, or name a file in SSL_CERT_FILE"));
    }
    Ok(found.certs.iter().map(|cert| Certificate::from_der(cert.as_ref()).to_owned()).into())
}

/// Scheme, host and port of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) https: bool,
    /// Without port, lower case.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// # Errors
    /// `Invalid` for other schemes, and for a user in the URL.
    pub(crate) fn of(url: &Uri) -> Result<Self> {
        let refuse = || Error::invalid(format!("{url} is not an http or https address"));
        let https = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refuse()),
        };
        let authority = url.authority().ok_or_else(refuse)?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(refuse());
        }
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        Ok(Self { https, host: authority.host().to_ascii_lowercase(), port })
    }
}

pub(crate) fn parse_url(text: &str) -> Result<Uri> {
    text.parse().map_err(|error| Error::invalid(format!("invalid address {text:?}: {error}")))
}

/// Where a redirect leads.
fn redirect(from: &Uri, headers: &HeaderMap) -> Result<Uri> {
    let location = headers
        .get("location")
        .and_then(|value| value.to_str().ok())
        .ok_or_else(|| Error::failed("the registry redirects to nowhere"))?;
    let location = location.split('#').next().unwrap_or_default();
    let origin = format!(
        "{}://{}",
        from.scheme_str().unwrap_or("https"),
        from.authority().map(ToString::to_string).unwrap_or_default()
    );
    let text = if location.contains("://") {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{}://{rest}", from.scheme_str().unwrap_or("https"))
    } else if location.starts_with('/') {
        format!("{origin}{location}")
    } else {
        let directory = from.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{origin}{directory}/{location}")
    };
    let to = parse_url(&text)?;
    if Origin::of(from)?.https && !Origin::of(&to)?.https {
        return Err(Error::failed(format!(
            "the registry redirects from https to {to}, which anyone could read"
        )));
    }
    Ok(to)
}

/// What ureq's error means for the user.
fn transport(origin: &Origin, error: ureq::Error) -> Failure {
    let host = &origin.host;
    let unreachable = |why: String| {
        Error::failed(format!("reach {host}: {why}"))
            .hint("check the network and the name of the registry; images that are here run without it, and `load` needs none")
    };
    match error {
        ureq::Error::HostNotFound => unreachable("no address is known for this name".into()).into(),
        ureq::Error::Timeout(timeout) => unreachable(format!("no answer in time ({timeout})")).into(),
        ureq::Error::ConnectionFailed => unreachable("no connection".into()).into(),
        ureq::Error::Io(io) => io_failure(origin, &unreachable, io),
        ureq::Error::Rustls(tls) => tls_failure(origin, &tls),
        ureq::Error::Protocol(_) if origin.https => {
            Failure { error: unreachable("it speaks no TLS".into()), retry: Retry::WithoutTls }
        }
        other => unreachable(other.to_string()).into(),
    }
}

fn io_failure(origin: &Origin, unreachable: &dyn Fn(String) -> Error, io: std::io::Error) -> Failure {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    if let Some(tls) = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return tls_failure(origin, tls);
    }
    let retry = match io.kind() {
        UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe => Retry::Soon,
        _ => Retry::No,
    };
    Failure { error: unreachable(plain(&io)), retry }
}

fn tls_failure(origin: &Origin, tls: &rustls::Error) -> Failure {
    let host = &origin.host;
    match tls {
        rustls::Error::InvalidMessage(_) => Failure {
            error: Error::failed(format!("{host}:{} speaks no TLS", origin.port)).hint(
                "if it is a plain http registry that you trust, say so with --tls-verify=false or in registries.conf",
            ),
            retry: Retry::WithoutTls,
        },
        rustls::Error::InvalidCertificate(_) => {
            Error::failed(format!("the certificate of {host} is not accepted: {tls}"))
                .hint("add the authority that signed it to the system's certificates, or name its file in SSL_CERT_FILE (a self-signed certificate must not be marked as an authority's)")
                .into()
        }
        other => Error::failed(format!("TLS with {host}: {other}")).into(),
    }
}

/// The text of an I/O error without Rust's "(os error N)".
fn plain(io: &std::io::Error) -> String {
    let text = io.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// An answer other than 200: what it is, and whether to try again.
pub(crate) fn status_failure(what: &str, host: &str, response: Response<Body>) -> Failure {
    let status = response.status().as_u16();
    let wait = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let said = error_text(response);
    let tell = |kind: fn(String) -> Error, text: &str| {
        let said = if said.is_empty() { String::new() } else { format!(" ({said})") };
        kind(format!("{what}: {host} {text}{said}"))
    };
    match status {
        404 => tell(Error::not_found, "does not have it").hint("check the name and the tag").into(),
        401 | 403 => tell(Error::failed, "denies access")
            .hint("the name may be wrong, or the repository private: its registry needs a login")
            .into(),
        429 => Failure {
            error: tell(Error::failed, "is asked too often").hint("wait, or log in for a higher limit"),
            retry: Retry::After(Duration::from_secs(wait.unwrap_or(2))),
        },
        500.. => Failure {
            error: tell(Error::failed, &format!("answers with status {status}")),
            retry: Retry::Soon,
        },
        _ => tell(Error::failed, &format!("answers with status {status}")).into(),
    }
}

/// The registry's own words: distribution-spec, "Error Codes". Printable only.
fn error_text(response: Response<Body>) -> String {
    let body = response.into_body().into_with_config().limit(ERROR_BODY_MAX).read_to_vec();
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(&body.unwrap_or_default()) else {
        return String::new();
    };
    let error = &json["errors"][0];
    let text = [&error["code"], &error["message"]]
        .into_iter()
        .filter_map(|value| value.as_str())
        .collect::<Vec<_>>()
        .join(": ");
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Reads a whole small body.
///
/// # Errors
/// `Invalid` for more than `limit` bytes.
pub(crate) fn read_bounded(response: Response<Body>, limit: u64) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let too_large = || Error::invalid(format!("the registry's answer has more than {limit} bytes"));
    if response.body().content_length().is_some_and(|length| length > limit) {
        return Err(too_large().into());
    }
    let mut bytes = Vec::new();
    // One more than allowed, to tell a full body from a longer one.
    let reader = response.into_body().into_with_config().limit(limit + 2).reader();
    let read = reader.take(limit + 1).read_to_end(&mut bytes);
    if let Err(error) = read.context(|| "read the registry's answer") {
        return Err(Failure { error, retry: Retry::Soon });
    }
    if bytes.len() as u64 > limit { Err(too_large().into()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved_and_never_leave_https() {
        let headers = |location: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("location", location.parse().expect("header"));
            headers
        };
        let go = |from: &str, to: &str| {
            redirect(&parse_url(from).expect("url"), &headers(to)).map(|u| u.to_string())
        };
        assert_eq!(go("https://a:1/x/y", "/z?q").expect("ok"), "https://a:1/z?q");
        assert_eq!(go("https://a/x/y", "z").expect("ok"), "https://a/x/z");
        assert_eq!(go("https://a/x", "https://b/y#f").expect("ok"), "https://b/y");
        assert_eq!(go("https://a/x", "//b/y").expect("ok"), "https://b/y");
        assert_eq!(go("http://a/x", "http://b/y").expect("ok"), "http://b/y");
        for bad in ["http://a/x", "file:///etc/passwd", "https://u:p@b/y", "gopher://x/"] {
            assert!(go("https://a/x", bad).is_err(), "{bad}");
        }
        assert!(redirect(&parse_url("https://a/").expect("url"), &HeaderMap::new()).is_err());
    }

    #[test]
    fn another_try_is_made_only_where_it_may_help() {
        let count = |retry: Retry| {
            let mut tries = 0;
            let result = with_retries(|| -> Result<(), Failure> {
                tries += 1;
                Err(Failure { error: Error::failed("x"), retry })
            });
            assert!(result.is_err());
            tries
        };
        assert_eq!(count(Retry::No), 1);
        assert_eq!(count(Retry::Soon), 3);
    }
}
