//! Requests over http and https: bounded, with redirects of our own, so that an
//! Authorization header never goes further than the server it is for.

use super::certificates::Identity;
use super::failure::{Failure, transport};
use super::names::Names;
use super::pace::Pace;
use super::proxy::{Route, address_of};
use super::tls::{Tls, Trusted};
use crate::error::{Context, Error, Result, Trouble};
use rustls::pki_types::CertificateDer;
use std::io::Read;
use std::sync::OnceLock;
use std::time::Duration;
use ureq::http::request::Builder;
use ureq::http::{HeaderMap, Method, Response, Uri};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, SocksConnector, TcpConnector};
use ureq::{Agent, AsSendBody, Body, SendBody};

/// As browsers and docker have it, or fewer.
const REDIRECTS_MAX: usize = 5;
/// Bytes of a response's head.
const HEADERS_MAX: usize = 64 << 10;
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(8);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// Until the head of a response is there.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// The same after an upload: a registry hashes a blob of many gigabytes before
/// it says that it has it.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(300);
/// Without a byte.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// What of TLS is checked on the first server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Certificates of this system.
    Verify,
    /// Loopback, and what the user declared insecure.
    Anything,
}

/// One request.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a str,
    pub(crate) headers: &'a [(&'static str, &'a str)],
    /// For the server of `url` alone.
    pub(crate) authorization: Option<&'a str>,
    pub(crate) trust: Trust,
    pub(crate) body: Payload<'a>,
}

/// What is sent.
pub(crate) enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    Stream {
        reader: Box<dyn Read + 'a>,
        /// Bytes that it gives.
        length: u64,
    },
}

/// Connections, kept for the next request; certificates are read at the first
/// use of https.
#[derive(Debug, Default)]
pub(crate) struct Http {
    /// For the registry alone.
    identity: Identity,
    /// By [`Voice`] and [`Route`].
    agents: [[OnceLock<Agent>; Route::COUNT]; 3],
}

/// Which of our agents speaks.
#[derive(Clone, Copy)]
enum Voice {
    Registry(Trust),
    /// Where a redirect leads: with this system's certificates, and none of ours.
    Elsewhere,
}

impl Http {
    pub(crate) fn new(identity: Identity) -> Self {
        Self { identity, ..Self::default() }
    }

    /// Follows redirects of GET and HEAD, without the authorization, and never
    /// from https to http. Other redirects are answers.
    pub(crate) fn send(&self, request: Request<'_>) -> Result<Response<Body>, Failure> {
        let mut url: Uri = parse_url(request.url)?;
        let first = Origin::of(&url)?;
        let mut authorization = request.authorization;
        let mut body = Some(request.body);
        for _ in 0..=REDIRECTS_MAX {
            let origin = Origin::of(&url)?;
            let voice =
                if origin.host == first.host { Voice::Registry(request.trust) } else { Voice::Elsewhere };
            let mut builder = ureq::http::Request::builder().method(request.method.clone()).uri(url.clone());
            for (name, value) in request.headers {
                builder = builder.header(*name, *value);
            }
            if let Some(authorization) = authorization {
                builder = builder.header("authorization", authorization);
            }
            let response = self.run(voice, builder, body.take().unwrap_or(Payload::None), &origin)?;
            let leads_on = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308)
                && matches!(request.method, Method::GET | Method::HEAD);
            if !leads_on {
                return Ok(response);
            }
            url = location(&url, response.headers())?;
            // Not even to the same server: whoever chooses the new URL would
            // choose what is done with the user's rights (CVE-2020-15157).
            authorization = None;
        }
        Err(Error::failed(format!("{} redirects without end", first.host)).into())
    }

    fn run(
        &self,
        voice: Voice,
        builder: Builder,
        body: Payload<'_>,
        origin: &Origin,
    ) -> Result<Response<Body>, Failure> {
        let route = Route::to(origin)?;
        let agent = self.agent(voice, route)?;
        let broken = |error: ureq::http::Error| Failure::from(Error::invalid(format!("request: {error}")));
        let result = match body {
            Payload::None => agent.run(patient(agent, builder.body(()).map_err(broken)?, RESPONSE_TIMEOUT)),
            Payload::Bytes(bytes) => {
                agent.run(patient(agent, builder.body(bytes).map_err(broken)?, UPLOAD_TIMEOUT))
            }
            Payload::Stream { mut reader, length } => {
                let builder = builder.header("content-length", length);
                let request = builder.body(SendBody::from_reader(&mut *reader)).map_err(broken)?;
                agent.run(patient(agent, request, UPLOAD_TIMEOUT))
            }
        };
        result.map_err(|error| {
            let failure = transport(origin, error);
            match route.proxy() {
                Ok(Some(proxy)) => {
                    let (host, port) = address_of(&proxy);
                    let error = failure.error.context(format!("through the proxy {host}:{port}"));
                    Failure { error, ..failure }
                }
                Ok(None) | Err(_) => failure,
            }
        })
    }

    fn agent(&self, voice: Voice, route: Route) -> Result<&Agent> {
        let voices = match voice {
            Voice::Registry(Trust::Verify) => &self.agents[0],
            Voice::Registry(Trust::Anything) => &self.agents[1],
            Voice::Elsewhere => &self.agents[2],
        };
        let cell = &voices[route as usize];
        if let Some(agent) = cell.get() {
            return Ok(agent);
        }
        let agent = match voice {
            Voice::Registry(trust) => new_agent(trust, route, &self.identity)?,
            Voice::Elsewhere => new_agent(Trust::Verify, route, &Identity::default())?,
        };
        Ok(cell.get_or_init(|| agent))
    }
}

/// A request whose answer has to begin within `time`.
fn patient<B: AsSendBody>(
    agent: &Agent,
    request: ureq::http::Request<B>,
    time: Duration,
) -> ureq::http::Request<B> {
    agent.configure_request(request).timeout_recv_response(Some(time)).build()
}

fn new_agent(trust: Trust, route: Route, identity: &Identity) -> Result<Agent> {
    let trusted = match trust {
        Trust::Verify => Trusted::By(trusted(&identity.authorities)?),
        Trust::Anything => Trusted::Anyone,
    };
    let tls = Tls::new(trusted, identity.client.as_ref()).map_err(|error| {
        Error::invalid(format!("certificates: {error}")).see_doctor(Trouble::Certificates)
    })?;
    let config = Agent::config_builder()
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
        .timeout_per_read(Some(SILENCE_TIMEOUT))
        .timeout_per_write(Some(SILENCE_TIMEOUT))
        .proxy(route.proxy()?);
    // As ureq's own, but for the last.
    let connector =
        ().chain(SocksConnector::default())
            .chain(ConnectProxyConnector::default())
            .chain(TcpConnector::default())
            .chain(tls);
    Ok(Agent::with_parts(config.build(), connector, Names))
}

/// How many authorities this system trusts, for `doctor`.
pub(crate) fn trusted_authorities() -> usize {
    rustls_native_certs::load_native_certs().certs.len()
}

/// This system's authorities and `more`.
fn trusted(more: &[CertificateDer<'static>]) -> Result<Vec<CertificateDer<'static>>> {
    let mut found = rustls_native_certs::load_native_certs().certs;
    if found.is_empty() && more.is_empty() {
        return Err(Error::failed("this system has no certificates to verify registries with")
            .hint("install the package ca-certificates, or name a file in SSL_CERT_FILE")
            .see_doctor(Trouble::Certificates));
    }
    found.extend(more.iter().cloned());
    Ok(found)
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

impl Origin {
    /// As names and files have it: without the port that goes without saying.
    pub(crate) fn written(&self) -> String {
        match (self.https, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }
}

pub(crate) fn parse_url(text: &str) -> Result<Uri> {
    text.parse().map_err(|error| Error::invalid(format!("invalid address {text:?}: {error}")))
}

/// Where a Location header leads: RFC 9110, relative to `from`.
///
/// # Errors
/// `Failed` where it leads from https to http.
pub(crate) fn location(from: &Uri, headers: &HeaderMap) -> Result<Uri> {
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

/// Reads a whole small body.
///
/// # Errors
/// `Invalid` for more than `limit` bytes, `Failed` where they drip.
pub(crate) fn read_bounded(response: Response<Body>, limit: u64) -> Result<Vec<u8>, Failure> {
    let too_large = || Error::invalid(format!("the registry's answer has more than {limit} bytes"));
    if response.body().content_length().is_some_and(|length| length > limit) {
        return Err(too_large().into());
    }
    // One more than allowed, to tell a full body from a longer one.
    let reader = response.into_body().into_with_config().limit(limit + 2).reader();
    let mut reader = reader.take(limit + 1);
    let (mut bytes, mut piece, mut pace) = (Vec::new(), [0; 16 << 10], Pace::new(0));
    loop {
        let count = match reader.read(&mut piece) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            result => result.context(|| "read the registry's answer").map_err(Failure::passing)?,
        };
        if count == 0 {
            break;
        }
        bytes.extend_from_slice(&piece[..count]);
        if pace.is_too_slow(bytes.len() as u64) {
            let text = format!("the registry's answer comes too slowly: {} bytes in a minute", bytes.len());
            return Err(Error::failed(text).hint("try again later, or a mirror: registries.conf").into());
        }
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
            location(&parse_url(from).expect("url"), &headers(to)).map(|u| u.to_string())
        };
        assert_eq!(go("https://a:1/x/y", "/z?q").expect("ok"), "https://a:1/z?q");
        assert_eq!(go("https://a/x/y", "z").expect("ok"), "https://a/x/z");
        assert_eq!(go("https://a/x", "https://b/y#f").expect("ok"), "https://b/y");
        assert_eq!(go("https://a/x", "//b/y").expect("ok"), "https://b/y");
        assert_eq!(go("http://a/x", "http://b/y").expect("ok"), "http://b/y");
        for bad in ["http://a/x", "file:///etc/passwd", "https://u:p@b/y", "gopher://x/"] {
            assert!(go("https://a/x", bad).is_err(), "{bad}");
        }
        assert!(location(&parse_url("https://a/").expect("url"), &HeaderMap::new()).is_err());
    }
}
