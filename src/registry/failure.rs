//! What went wrong between us and a registry, in the user's words, and whether
//! another try may help.

use super::config::is_loopback;
use super::http::Origin;
use crate::error::{Error, Result, Trouble};
use rustls::CertificateError;
use std::time::Duration;
use ureq::Body;
use ureq::http::Response;

/// Bytes of an error's text that are read.
const ERROR_BODY_MAX: u64 = 16 << 10;
/// The longest that a server may make us wait between two tries.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// The wait before the second try; each further one is three times as long.
const BACK_OFF: Duration = Duration::from_millis(300);
const BACK_OFF_MAX: Duration = Duration::from_secs(20);

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

impl Failure {
    /// Another try may help.
    pub(crate) fn passing(error: Error) -> Self {
        Self { error, retry: Retry::Soon }
    }
}

/// How often a request is repeated that may succeed the next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retries {
    /// Tries after the first.
    pub(crate) count: u32,
    /// Between two tries; a growing one where `None`.
    pub(crate) delay: Option<Duration>,
}

impl Default for Retries {
    /// Podman's number.
    fn default() -> Self {
        Self { count: 3, delay: None }
    }
}

impl Retries {
    /// Repeats `attempt` while another try may help and there are some left.
    pub(crate) fn run<T>(self, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T> {
        let mut tried = 0;
        loop {
            let failure = match attempt() {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            self.wait(tried, failure)?;
            tried += 1;
        }
    }

    /// Waits before another try, `tried` of which were in vain.
    ///
    /// # Errors
    /// The failure, where another try would not help or there is none left.
    pub(crate) fn wait(self, tried: u32, failure: Failure) -> Result<()> {
        if tried >= self.count {
            return Err(failure.error);
        }
        let pause = self.pause(tried);
        match failure.retry {
            Retry::Soon => std::thread::sleep(pause),
            Retry::After(wait) => std::thread::sleep(wait.clamp(pause, RETRY_AFTER_MAX.max(pause))),
            Retry::No | Retry::WithoutTls => return Err(failure.error),
        }
        Ok(())
    }

    fn pause(self, tried: u32) -> Duration {
        self.delay.unwrap_or_else(|| BACK_OFF.saturating_mul(3_u32.saturating_pow(tried)).min(BACK_OFF_MAX))
    }
}

/// What ureq's error means for the user.
pub(super) fn transport(origin: &Origin, error: ureq::Error) -> Failure {
    let host = origin.written();
    let unreachable = |why: String| {
        let error = Error::failed(format!("reach {host}: {why}"))
            .hint("check the network and the name of the registry; images that are here run without it, and `load` needs none");
        // To loopback no name server and no proxy leads.
        if is_loopback(&origin.host) { error } else { error.see_doctor(Trouble::Registries) }
    };
    match error {
        ureq::Error::HostNotFound => unreachable("no address is known for this name".into()).into(),
        ureq::Error::Timeout(timeout @ (ureq::Timeout::Resolve | ureq::Timeout::Connect)) => {
            unreachable(format!("no answer in time ({timeout})")).into()
        }
        ureq::Error::Timeout(timeout) => {
            Failure::passing(unreachable(format!("no answer in time ({timeout})")))
        }
        ureq::Error::ConnectionFailed => unreachable("no connection".into()).into(),
        ureq::Error::Io(io) => io_failure(origin, &unreachable, io),
        ureq::Error::Rustls(tls) => tls_failure(origin, &tls),
        ureq::Error::Protocol(_) if origin.https => {
            Failure { error: no_tls(origin), retry: Retry::WithoutTls }
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
        rustls::Error::InvalidMessage(_) => Failure { error: no_tls(origin), retry: Retry::WithoutTls },
        rustls::Error::InvalidCertificate(why) => {
            Error::failed(format!("the certificate of {host} is not accepted: {tls}"))
                .hint(certificate_hint(origin, why))
                .see_doctor(Trouble::Certificates)
                .into()
        }
        other => Error::failed(format!("TLS with {host}: {other}")).into(),
    }
}

/// What makes it one that is accepted.
fn certificate_hint(origin: &Origin, why: &CertificateError) -> String {
    match why {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "name the registry as its certificate does, or have one made that has this name as a subjectAltName"
                .to_owned()
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "have it renewed; or is the clock of this machine wrong?".to_owned()
        }
        _ => format!(
            "add the authority that signed it to the system's certificates, or put its file into \
             ~/.config/containers/certs.d/{}/ca.crt",
            origin.written()
        ),
    }
}

fn no_tls(origin: &Origin) -> Error {
    Error::failed(format!("{}:{} speaks no TLS", origin.host, origin.port)).hint(
        "if it is a plain http registry that you trust, say so with --tls-verify=false or in registries.conf",
    )
}

/// The text of an I/O error without Rust's "(os error N)".
fn plain(io: &std::io::Error) -> String {
    let text = io.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// An answer other than 200: what it is, and whether to try again.
pub(crate) fn status_failure(what: &str, host: &str, response: Response<Body>) -> Failure {
    let status = response.status().as_u16();
    let wait = response.headers().get("retry-after").and_then(|value| retry_after(value.to_str().ok()?));
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
            retry: Retry::After(wait.unwrap_or(Duration::from_secs(2))),
        },
        408 | 500.. => Failure {
            error: tell(Error::failed, &format!("answers with status {status}")),
            retry: wait.map_or(Retry::Soon, Retry::After),
        },
        _ => tell(Error::failed, &format!("answers with status {status}")).into(),
    }
}

/// RFC 9110 "Retry-After": seconds, or a date.
fn retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value.trim()).ok()?;
    Some(date.duration_since(jiff::Timestamp::now()).try_into().unwrap_or(Duration::ZERO))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_try_is_made_only_where_it_may_help() {
        let count = |retry: Retry, count: u32| {
            let mut tries = 0;
            let retries = Retries { count, delay: Some(Duration::ZERO) };
            let result = retries.run(|| -> Result<(), Failure> {
                tries += 1;
                Err(Failure { error: Error::failed("x"), retry })
            });
            assert!(result.is_err());
            tries
        };
        assert_eq!(count(Retry::No, 3), 1);
        assert_eq!(count(Retry::WithoutTls, 3), 1);
        assert_eq!(count(Retry::Soon, 3), 4);
        assert_eq!(count(Retry::After(Duration::ZERO), 2), 3);
        assert_eq!(count(Retry::Soon, 0), 1);
    }

    #[test]
    fn waits_grow_up_to_a_limit() {
        let pauses =
            |delay| (0..6).map(|n| Retries { count: 9, delay }.pause(n).as_millis()).collect::<Vec<_>>();
        assert_eq!(pauses(None), [300, 900, 2700, 8100, 20_000, 20_000]);
        assert_eq!(pauses(Some(Duration::from_secs(1)))[5], 1000);
    }

    #[test]
    fn a_wait_is_given_in_seconds_or_as_a_date() {
        assert_eq!(retry_after("120"), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO), "past");
        let later = retry_after("Fri, 06 Nov 2993 08:49:37 GMT");
        assert!(later.is_none_or(|wait| wait > Duration::from_secs(1000)));
        assert_eq!(retry_after("soon"), None);
    }
}
