//! Who may see a password, and who a token.
//!
//! The password goes to the registry it is for, or to a token server that
//! plainly belongs to it or has an entry of its own; a token goes to the
//! registry that asked for it. Tokens are kept in memory alone.
//! Source: distribution `spec/auth/token.md`, `spec/auth/oauth.md`.

use super::challenge::Challenge;
use super::client::refused_login;
use super::config::{Endpoint, is_loopback};
use super::credentials::{Credentials, Secret, Wallet};
use super::failure::{Failure, status_failure};
use super::http::{Http, Origin, Payload, Request, Trust, parse_url, read_bounded};
use crate::error::{Context, Error, Result};
use serde::Deserialize;
use std::fmt;
use std::time::{Duration, Instant};
use ureq::http::Method;

/// Bytes of a token server's answer.
const TOKEN_MAX: u64 = 256 << 10;
/// Seconds that a token lives where its server says nothing: token.md.
const LIFE: u64 = 60;
const LIFE_MAX: u64 = 24 * 3600;

/// What a registry took for a login. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    header: String,
    /// From then on a new one is to be got; `None` for a password.
    renew: Option<Instant>,
}

impl Token {
    /// The value of an Authorization header.
    pub(super) fn header(&self) -> &str {
        &self.header
    }

    pub(super) fn ends_before(&self, moment: Instant) -> bool {
        self.renew.is_some_and(|renew| renew <= moment)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Who asks whom for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Login<'a> {
    pub(crate) endpoint: &'a Endpoint,
    /// The registry as it was reached.
    pub(crate) registry: &'a Origin,
    pub(crate) trust: Trust,
    pub(crate) wallet: &'a Wallet,
    pub(crate) scopes: &'a [String],
}

impl Login<'_> {
    /// What answers `challenge`.
    pub(crate) fn answer(&self, http: &Http, challenge: &Challenge) -> Result<Token, Failure> {
        let repository = self.endpoint.repository();
        let credentials = self.wallet.find(&repository)?;
        match challenge {
            Challenge::Basic => match credentials {
                Some(Credentials { user, secret: Secret::Password(password) }) => {
                    Ok(Token { header: basic(&user, &password), renew: None })
                }
                Some(Credentials { secret: Secret::IdentityToken(_), .. }) => Err(Error::failed(format!(
                    "{} wants a password, and what is stored for it is a token",
                    self.endpoint.registry
                ))
                .hint(format!("log in again: `coracle login {}`", self.endpoint.registry))
                .into()),
                None => Err(Error::failed(format!("{} needs a user and a password", self.endpoint.registry))
                    .hint(format!("log in first: `coracle login {}`", self.endpoint.registry))
                    .into()),
            },
            Challenge::Bearer { realm, service, scope } => {
                let credentials = self.for_realm(realm, credentials)?;
                let asked = Asked { realm, service: service.as_deref(), scope: scope.as_deref() };
                self.token(http, asked, credentials.as_ref())
            }
        }
    }

    /// A realm is chosen by whoever answers, so it must be https (or the very
    /// host that was reached without), and gets the user's password only where
    /// it belongs to the registry, or one that is stored for itself
    /// (CVE-2026-33540, CVE-2019-10214).
    fn for_realm(&self, realm: &str, credentials: Option<Credentials>) -> Result<Option<Credentials>> {
        let origin = Origin::of(&parse_url(realm)?).context(|| "the registry's token server")?;
        let same_host = origin.host == self.registry.host;
        if !origin.https {
            let also_plain = !self.registry.https
                && (same_host || is_loopback(&origin.host) && is_loopback(&self.registry.host));
            if !also_plain {
                return Err(Error::failed(format!("the registry's token server {realm} is not https")));
            }
        }
        if credentials.is_none() || same_host || same_site(&origin.host, &self.registry.host) {
            return Ok(credentials);
        }
        let host = match origin.port {
            443 => origin.host.clone(),
            port => format!("{}:{port}", origin.host),
        };
        match self.wallet.find_stored(&host)? {
            Some(own) => Ok(Some(own)),
            None => Err(Error::failed(format!(
                "{} sends logins to {host}, which does not belong to it: the password was not sent",
                self.endpoint.registry
            ))
            .hint(format!("if {host} is to know you, log in there: `coracle login {host}`"))),
        }
    }

    fn token(
        &self,
        http: &Http,
        asked: Asked<'_>,
        credentials: Option<&Credentials>,
    ) -> Result<Token, Failure> {
        let mut fields = Vec::new();
        if let Some(service) = asked.service {
            fields.push(("service", service));
        }
        // The scope is ours, not the server's: it would choose what the user's
        // password is used for. Only a scope of another kind is passed on
        // (public.ecr.aws has `aws`).
        fields.extend(self.scopes.iter().map(|scope| ("scope", scope.as_str())));
        fields.extend(asked.scope.filter(|scope| !scope.contains(':')).map(|scope| ("scope", scope)));
        let accept = ("accept", "application/json");
        let response = match credentials {
            Some(Credentials { secret: Secret::IdentityToken(token), .. }) => {
                let joined = fields.iter().filter(|(key, _)| *key == "scope").map(|(_, scope)| *scope);
                let scope = joined.collect::<Vec<_>>().join(" ");
                let form = [
                    ("grant_type", "refresh_token"),
                    ("service", asked.service.unwrap_or_default()),
                    ("client_id", "coracle"),
                    ("scope", &scope),
                    ("refresh_token", token),
                ];
                http.send(Request {
                    method: Method::POST,
                    url: asked.realm,
                    headers: &[accept, ("content-type", "application/x-www-form-urlencoded")],
                    authorization: None,
                    trust: self.trust,
                    body: Payload::Bytes(encode(&form).as_bytes()),
                })?
            }
            other => {
                if let Some(credentials) = other {
                    fields.push(("account", &credentials.user));
                }
                let separator = if asked.realm.contains('?') { '&' } else { '?' };
                let authorization = other.and_then(|credentials| match &credentials.secret {
                    Secret::Password(password) => Some(basic(&credentials.user, password)),
                    Secret::IdentityToken(_) => None,
                });
                http.send(Request {
                    method: Method::GET,
                    url: &format!("{}{separator}{}", asked.realm, encode(&fields)),
                    headers: &[accept],
                    authorization: authorization.as_deref(),
                    trust: self.trust,
                    body: Payload::None,
                })?
            }
        };
        if response.status() == 401 && credentials.is_some() {
            return Err(refused_login(&self.endpoint.registry).into());
        }
        if response.status() != 200 {
            return Err(status_failure("get a token", &self.registry.host, response));
        }
        Ok(read_token(&read_bounded(response, TOKEN_MAX)?, Instant::now())?)
    }
}

/// What a challenge names.
#[derive(Clone, Copy)]
struct Asked<'a> {
    realm: &'a str,
    service: Option<&'a str>,
    scope: Option<&'a str>,
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

fn encode(fields: &[(&str, &str)]) -> String {
    let pairs = fields.iter().map(|(key, value)| format!("{key}={}", percent_encode(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// Whether both hosts end in the same two labels, or three where the last two
/// look like a public suffix (`co.uk`).
fn same_site(a: &str, b: &str) -> bool {
    fn site(host: &str) -> Option<&str> {
        if host.parse::<std::net::IpAddr>().is_ok() || host.starts_with('[') {
            return None;
        }
        let starts: Vec<usize> =
            std::iter::once(0).chain(host.match_indices('.').map(|(at, _)| at + 1)).collect();
        let label = |from_end: usize| {
            let start = *starts.get(starts.len().checked_sub(from_end)?)?;
            host[start..].split('.').next()
        };
        let labels = if label(1)?.len() == 2 && label(2)?.len() <= 3 { 3 } else { 2 };
        Some(&host[*starts.get(starts.len().checked_sub(labels)?)?..])
    }
    site(a).is_some() && site(a) == site(b)
}

pub(super) fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'/' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn read_token(bytes: &[u8], now: Instant) -> Result<Token> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        token: String,
        #[serde(default)]
        access_token: String,
        #[serde(default)]
        expires_in: Option<u64>,
    }
    let answer: Answer = serde_json::from_slice(bytes).context(|| "read the registry's token")?;
    let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::failed("the registry's token server gave no token"));
    }
    // Before its end, so that it is not refused in the middle of an upload.
    let life = Duration::from_secs(answer.expires_in.unwrap_or(LIFE).clamp(1, LIFE_MAX));
    Ok(Token { header: format!("Bearer {token}"), renew: Some(now + life * 3 / 4) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(registry: &str, path: &str) -> Endpoint {
        Endpoint { registry: registry.into(), path: path.into(), insecure: false }
    }

    fn credentials() -> Credentials {
        Credentials { user: "u".into(), secret: Secret::Password("p".into()) }
    }

    /// CVE-2026-33540, CVE-2019-10214: who is sent a password.
    #[test]
    fn passwords_go_only_to_the_registrys_own_token_server() {
        let wallet = Wallet::default();
        let check = |registry: &str, realm: &str, with: bool| {
            let origin = Origin::of(&parse_url(registry).expect("url")).expect("origin");
            let endpoint = endpoint(&origin.host, "x");
            Login {
                endpoint: &endpoint,
                registry: &origin,
                trust: Trust::Verify,
                wallet: &wallet,
                scopes: &[],
            }
            .for_realm(realm, with.then(credentials))
            .is_ok()
        };
        assert!(check("https://registry-1.docker.io", "https://auth.docker.io/token", true));
        assert!(check("https://registry.gitlab.com", "https://gitlab.com/jwt/auth", true));
        assert!(check("https://r.example.co.uk", "https://auth.example.co.uk/t", true));
        assert!(check("http://127.0.0.1:5000", "http://127.0.0.1:5001/t", true));
        assert!(check("https://r.example.org", "https://evil.example.net/t", false), "anonymous");
        for evil in [
            "https://evil.example.net/t",
            "https://example.org.evil.net/t",
            "https://evilexample.org/t",
            "http://r.example.org/t",
            "http://127.0.0.1/t",
            "https://u@r.example.org/t",
            "ftp://r.example.org/t",
        ] {
            assert!(!check("https://r.example.org", evil, true), "{evil}");
        }
        assert!(!check("https://a.co.uk", "https://b.co.uk/t", true));
        assert!(!check("https://10.0.0.1", "https://10.1.0.1/t", true));
        assert!(!check("https://r.example.org", "http://r.example.org/t", false), "anonymous, but readable");
    }

    /// A token server that the user has an entry for gets that, not the registry's.
    #[test]
    fn a_foreign_token_server_may_have_an_entry_of_its_own() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("auth.json");
        std::fs::write(&file, r#"{"auths": {"sso.example.net": {"auth": "czpz"}}}"#).expect("write");
        let wallet = Wallet { given: Some(credentials()), files: vec![file] };
        let origin = Origin::of(&parse_url("https://r.example.org").expect("url")).expect("origin");
        let endpoint = endpoint("r.example.org", "x");
        let login = Login {
            endpoint: &endpoint,
            registry: &origin,
            trust: Trust::Verify,
            wallet: &wallet,
            scopes: &[],
        };
        let own = login.for_realm("https://sso.example.net/t", Some(credentials())).expect("has an entry");
        assert_eq!(own.map(|own| own.user).as_deref(), Some("s"));
        assert!(login.for_realm("https://sso2.example.net/t", Some(credentials())).is_err());
    }

    #[test]
    fn fields_are_escaped_and_tokens_are_clean() {
        let fields = [("service", "s p&q"), ("scope", "repository:team/app:pull,push")];
        assert_eq!(encode(&fields), "service=s%20p%26q&scope=repository:team/app:pull%2Cpush");
        let now = Instant::now();
        assert!(read_token(br#"{"token":"a\nb"}"#, now).is_err());
        assert!(read_token(b"{}", now).is_err());
        let token = read_token(br#"{"access_token":"abc","expires_in":100}"#, now).expect("token");
        assert_eq!(token.header(), "Bearer abc");
        assert!(
            !token.ends_before(now + Duration::from_secs(70))
                && token.ends_before(now + Duration::from_secs(80))
        );
        assert_eq!(format!("{token:?}"), "Token(…)");
    }
}
