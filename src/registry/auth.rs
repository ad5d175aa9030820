//! Credentials and tokens, and who may see them.
//!
//! The password goes to the registry it is for, or to a token server that
//! plainly belongs to it; a token goes to the registry that asked for it.
//! Source: RFC 9110 "WWW-Authenticate"; distribution `spec/auth/token.md`;
//! containers-auth.json(5); docker's `config.json`.

use super::config::{Endpoint, is_loopback};
use super::http::{Failure, Get, Http, Origin, Trust, parse_url, read_bounded, status_failure};
use crate::error::{Context, Error, Result};
use crate::types::reference::DEFAULT_DOMAIN;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::PathBuf;

/// Bytes of a token server's answer.
const TOKEN_MAX: u64 = 256 << 10;
/// Bytes of an auth file.
const FILE_MAX: u64 = 1 << 20;

/// A user and a password. Neither is ever shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Credentials {
    /// The value of an Authorization header.
    fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.user, self.password)))
    }

    /// From the first of `files` that has some for this repository.
    pub(crate) fn find(files: &[PathBuf], endpoint: &Endpoint) -> Result<Option<Self>> {
        for path in files {
            let Ok(file) = std::fs::File::open(path) else { continue };
            let mut text = Vec::new();
            file.take(FILE_MAX).read_to_end(&mut text).context(|| format!("read {}", path.display()))?;
            let found = from_auth_file(&text, endpoint).context(|| format!("read {}", path.display()))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

#[derive(Deserialize)]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(default)]
    auth: String,
}

/// The entry of the longest key that covers the repository, whole components.
fn from_auth_file(text: &[u8], endpoint: &Endpoint) -> Result<Option<Credentials>> {
    let file: AuthFile = serde_json::from_slice(text).context(|| "credentials")?;
    let repository = format!("{}/{}", endpoint.registry, endpoint.path);
    let covers = |key: &str| -> Option<usize> {
        let key = normalise_key(key);
        let rest = repository.strip_prefix(key.as_str())?;
        (!key.is_empty() && (rest.is_empty() || rest.starts_with('/'))).then_some(key.len())
    };
    let candidates = file.auths.iter().filter(|(_, auth)| !auth.auth.is_empty());
    let best =
        candidates.filter_map(|(key, auth)| Some((covers(key)?, auth))).max_by_key(|(length, _)| *length);
    let Some((_, auth)) = best else { return Ok(None) };
    let broken = || {
        Error::invalid(format!("the credentials for {} are not base64 of user:password", endpoint.registry))
    };
    let decoded = STANDARD.decode(auth.auth.trim()).map_err(|_| broken())?;
    let decoded = String::from_utf8(decoded).map_err(|_| broken())?;
    let (user, password) = decoded.split_once(':').ok_or_else(broken)?;
    Ok(Some(Credentials { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() }))
}

/// Docker writes `https://index.docker.io/v1/`; others `https://host`.
fn normalise_key(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    match key {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_DOMAIN.to_owned(),
        other => other.to_owned(),
    }
}

/// What a registry asks for with status 401.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// Reads the challenges of one WWW-Authenticate header; a bearer token is
/// preferred. `None` where there is none that is known.
pub(crate) fn parse_challenge(header: &str) -> Option<Challenge> {
    let mut basic = false;
    let mut rest = header.trim();
    while !rest.is_empty() {
        let end = rest.find([' ', '\t']).unwrap_or(rest.len());
        let scheme = &rest[..end];
        let (parameters, after) = parse_parameters(&rest[end..])?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(Challenge::Bearer {
                realm: parameters.get("realm")?.clone(),
                service: parameters.get("service").cloned(),
                scope: parameters.get("scope").cloned(),
            });
        }
        basic |= scheme.eq_ignore_ascii_case("basic");
        rest = after.trim_start();
    }
    basic.then_some(Challenge::Basic)
}

/// `key=value, key="quoted"` until the next scheme. `None` where it is broken.
fn parse_parameters(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut parameters = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let word =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).unwrap_or(rest.len());
        let (key, after) = rest.split_at(word);
        let Some(value) = after.trim_start().strip_prefix('=') else { return Some((parameters, rest)) };
        if key.is_empty() {
            return None;
        }
        let value = value.trim_start();
        let (value, after) = if let Some(quoted) = value.strip_prefix('"') {
            unquote(quoted)?
        } else {
            let end = value.find([',', ' ', '\t']).unwrap_or(value.len());
            (value[..end].to_owned(), &value[end..])
        };
        parameters.entry(key.to_ascii_lowercase()).or_insert(value);
        rest = after;
    }
}

/// The text up to the closing quote, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

/// Who asks whom for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Login<'a> {
    pub(crate) endpoint: &'a Endpoint,
    /// The registry as it was reached.
    pub(crate) registry: &'a Origin,
    pub(crate) trust: Trust,
    pub(crate) credentials: Option<&'a Credentials>,
}

impl Login<'_> {
    /// The Authorization header that answers `challenge`.
    pub(crate) fn answer(&self, http: &Http, challenge: &Challenge) -> Result<String, Failure> {
        match challenge {
            Challenge::Basic => match self.credentials {
                Some(credentials) => Ok(credentials.basic()),
                None => Err(Error::failed(format!("{} needs a user and a password", self.endpoint.registry))
                    .hint("log in to the registry first")
                    .into()),
            },
            Challenge::Bearer { realm, service, scope } => {
                self.check_realm(realm)?;
                let url = self.token_url(realm, service.as_deref(), scope.as_deref());
                let authorization = self.credentials.map(Credentials::basic);
                let response = http.get(Get {
                    url: &url,
                    accept: "application/json",
                    authorization: authorization.as_deref(),
                    trust: self.trust,
                })?;
                if response.status() != 200 {
                    return Err(status_failure("get a token", &self.registry.host, response));
                }
                Ok(format!("Bearer {}", read_token(&read_bounded(response, TOKEN_MAX)?)?))
            }
        }
    }

    /// A realm is chosen by whoever answers, so it must be https (or the very
    /// host that was reached without), and gets the user's password only where
    /// it belongs to the registry (CVE-2026-33540, CVE-2019-10214).
    fn check_realm(&self, realm: &str) -> Result<()> {
        let origin = Origin::of(&parse_url(realm)?).context(|| "the registry's token server")?;
        let same_host = origin.host == self.registry.host;
        if !origin.https {
            let also_plain = !self.registry.https
                && (same_host || is_loopback(&origin.host) && is_loopback(&self.registry.host));
            if !also_plain {
                return Err(Error::failed(format!("the registry's token server {realm} is not https")));
            }
        }
        if self.credentials.is_some() && !same_host && !same_site(&origin.host, &self.registry.host) {
            let host = &origin.host;
            return Err(Error::failed(format!(
                "{} sends logins to {host}, which does not belong to it: the password was not sent",
                self.endpoint.registry
            )));
        }
        Ok(())
    }

    /// The scope is ours, not the server's: it would choose what the user's
    /// password is used for. Only a scope of another kind is passed on
    /// (public.ecr.aws has `aws`).
    fn token_url(&self, realm: &str, service: Option<&str>, scope: Option<&str>) -> String {
        let mut url = realm.to_owned();
        let mut add = |key: &str, value: &str| {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(&format!("{key}={}", percent_encode(value)));
        };
        if let Some(service) = service {
            add("service", service);
        }
        add("scope", &format!("repository:{}:pull", self.endpoint.path));
        if let Some(scope) = scope.filter(|scope| !scope.contains(':')) {
            add("scope", scope);
        }
        url
    }
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

fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'/' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn read_token(bytes: &[u8]) -> Result<String> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        token: String,
        #[serde(default)]
        access_token: String,
    }
    let answer: Answer = serde_json::from_slice(bytes).context(|| "read the registry's token")?;
    let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::failed("the registry's token server gave no token"));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.into(),
                service: service.map(Into::into),
                scope: scope.map(Into::into),
            })
        };
        for (header, expected) in [
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                r#"Bearer realm="https://a/t",service="s",scope="repository:a:pull,push""#,
                bearer("https://a/t", Some("s"), Some("repository:a:pull,push")),
            ),
            (r#"Basic realm="x", Bearer realm="https://a/t""#, bearer("https://a/t", None, None)),
            (r#"bearer realm=https://a/t , service="a\"b""#, bearer("https://a/t", Some("a\"b"), None)),
            ("Bearer service=\"x\"", None),
            ("Bearer realm=\"x", None),
            ("Negotiate", None),
            ("", None),
            ("=,=", None),
        ] {
            assert_eq!(parse_challenge(header), expected, "{header}");
        }
    }

    fn endpoint(registry: &str, path: &str) -> Endpoint {
        Endpoint { registry: registry.into(), path: path.into(), insecure: false }
    }

    /// CVE-2026-33540, CVE-2019-10214: who is sent a password.
    #[test]
    fn passwords_go_only_to_the_registrys_own_token_server() {
        let credentials = Credentials { user: "u".into(), password: "p".into() };
        let check = |registry: &str, realm: &str, with: bool| {
            let origin = Origin::of(&parse_url(registry).expect("url")).expect("origin");
            let endpoint = endpoint(&origin.host, "x");
            Login {
                endpoint: &endpoint,
                registry: &origin,
                trust: Trust::Verify,
                credentials: with.then_some(&credentials),
            }
            .check_realm(realm)
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

    #[test]
    fn the_longest_key_wins_and_no_other_registry_matches() {
        let auth = |text: &str| STANDARD.encode(text);
        let file = format!(
            r#"{{"auths": {{"https://index.docker.io/v1/": {{"auth": "{}"}}, "quay.io": {{"auth": "{}"}},
                "quay.io/team": {{"auth": "{}"}}, "bad.io": {{"auth": "%%%"}}, "helper.io": {{}}}}, "credsStore": "x"}}"#,
            auth("hub:1"),
            auth("q:2"),
            auth("t:3:4"),
        );
        let user = |registry: &str, path: &str| {
            from_auth_file(file.as_bytes(), &endpoint(registry, path))
                .map(|c| c.map(|c| c.user + "/" + &c.password))
        };
        assert_eq!(user("docker.io", "library/x").expect("ok").as_deref(), Some("hub/1"));
        assert_eq!(user("quay.io", "teamx/y").expect("ok").as_deref(), Some("q/2"));
        assert_eq!(user("quay.io", "team/y").expect("ok").as_deref(), Some("t/3:4"));
        for other in ["quay.io.evil.net", "quay.io:444", "evil.io", "helper.io"] {
            assert_eq!(user(other, "team").expect("ok"), None, "{other}");
        }
        assert!(user("bad.io", "x").is_err());
        assert!(from_auth_file(b"[", &endpoint("a", "b")).is_err());
    }

    #[test]
    fn the_scope_is_our_own() {
        let origin = Origin { https: true, host: "a".into(), port: 443 };
        let endpoint = endpoint("a", "team/app");
        let login = Login { endpoint: &endpoint, registry: &origin, trust: Trust::Verify, credentials: None };
        assert_eq!(
            login.token_url("https://a/t?x=1", Some("s p&q"), Some("repository:other:push")),
            "https://a/t?x=1&service=s%20p%26q&scope=repository:team/app:pull"
        );
        assert!(read_token(br#"{"token":"a\nb"}"#).is_err());
        assert!(read_token(b"{}").is_err());
        assert_eq!(read_token(br#"{"access_token":"abc"}"#).expect("token"), "abc");
    }
}
