//! One repository of one registry: its requests, logged in where it asks for it.
//! Manifests and blobs are read here; `upload` writes them.

use super::auth::{Login, Token};
use super::certificates::Identity;
use super::challenge::{Challenge, parse_challenge};
use super::config::Endpoint;
use super::credentials::Wallet;
use super::failure::{Failure, Retries, Retry, status_failure};
use super::http::{Http, Origin, Payload, Request, Trust, parse_url, read_bounded};
use crate::error::{Context, Error, Result};
use crate::types::digest::Digest;
use crate::types::reference::is_tag;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use ureq::Body;
use ureq::http::{Method, Response};

/// Bytes of a page of tags.
const TAGS_MAX: u64 = 4 << 20;
/// docker hub's index. It has no catalogue, and a search instead.
const HUB: &str = "https://index.docker.io";
/// Tags of a repository that are looked at.
const TAG_COUNT_MAX: usize = 100_000;

/// What a client is made of.
#[derive(Debug)]
pub(crate) struct ClientOptions {
    pub(crate) endpoint: Endpoint,
    pub(crate) wallet: Wallet,
    pub(crate) identity: Identity,
    pub(crate) retries: Retries,
    pub(crate) access: Access,
}

/// What a token is asked for; never more than the command needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    /// And to read these repositories, from which blobs are mounted.
    Push {
        from: Vec<String>,
    },
    /// To be known, and nothing else: `login`.
    Presence,
    /// The names of all repositories.
    Catalogue,
}

impl Access {
    /// Scopes of the token specification.
    pub(super) fn scopes(&self, path: &str) -> Vec<String> {
        match self {
            Self::Pull => vec![format!("repository:{path}:pull")],
            Self::Push { from } => std::iter::once(format!("repository:{path}:pull,push"))
                .chain(from.iter().map(|from| format!("repository:{from}:pull")))
                .collect(),
            Self::Presence => Vec::new(),
            Self::Catalogue => vec!["registry:catalog:*".to_owned()],
        }
    }
}

/// A client of one repository. It may be used from several threads.
#[derive(Debug)]
pub(crate) struct Client {
    http: Http,
    pub(super) endpoint: Endpoint,
    wallet: Wallet,
    pub(super) retries: Retries,
    access: Access,
    /// What the first request found out.
    state: Mutex<State>,
    /// Held while a token is got, so that several threads get one.
    login: Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// Whether the registry speaks plain http (and may); `None` until it has answered.
    plain: Option<bool>,
    /// What the registry accepted last, and what it had asked for.
    token: Option<Token>,
    challenge: Option<Challenge>,
}

/// A document as the registry sent it.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: Option<String>,
}

/// One request of a client.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) target: Target<'a>,
    pub(super) headers: &'a [(&'static str, &'a str)],
    pub(super) body: Payload<'a>,
}

#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    /// Below the repository: `manifests/latest`.
    Repository(&'a str),
    /// Below the registry's `/v2/`.
    Registry(&'a str),
    /// Below docker hub's index, which is the same registry's.
    Hub(&'a str),
    /// Where the registry said.
    Url(&'a str),
}

impl Client {
    pub(crate) fn new(options: ClientOptions) -> Self {
        let ClientOptions { endpoint, wallet, identity, retries, access } = options;
        Self {
            http: Http::new(identity),
            endpoint,
            wallet,
            retries,
            access,
            state: Mutex::default(),
            login: Mutex::default(),
        }
    }

    /// Repeats `attempt` as often as the user allows.
    pub(crate) fn with_retries<T>(&self, attempt: impl FnMut() -> Result<T, Failure>) -> Result<T> {
        self.retries.run(attempt)
    }

    /// Asks the registry whether it takes the credentials.
    pub(crate) fn ping(&self) -> Result<()> {
        let what = format!("log in to {}", self.endpoint.registry);
        self.with_retries(|| {
            let response = self.get(Target::Registry(""), "application/json")?;
            if response.status() == 401 {
                return Err(Failure::from(refused_login(&self.endpoint.registry)));
            }
            self.expect(&what, response, &[200]).map(drop)
        })
    }

    /// The manifest or index under a tag or digest: at most `limit` bytes. The
    /// caller verifies the digest.
    pub(crate) fn manifest(&self, name: &str, accept: &[&str], limit: u64) -> Result<Served> {
        let what = format!("manifest {name} of {}", self.endpoint.repository());
        self.with_retries(|| {
            let response = self.get(Target::Repository(&format!("manifests/{name}")), &accept.join(", "))?;
            let response = self.expect(&what, response, &[200])?;
            let media_type = header(&response, "content-type")
                .map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
            Ok(Served { media_type, bytes: read_bounded(response, limit)? })
        })
    }

    /// Opens what follows the first `from` of a blob's `size` bytes; the reader
    /// gives at most one more. One try: `BlobStream` makes more.
    pub(super) fn blob_from(
        &self,
        digest: &Digest,
        size: u64,
        from: u64,
    ) -> Result<Box<dyn Read + Send>, Failure> {
        let what = format!("blob {digest} of {}", self.endpoint.repository());
        let path = format!("blobs/{digest}");
        let range = format!("bytes={from}-");
        let headers = [("accept", "*/*"), ("range", range.as_str())];
        let headers = if from == 0 { &headers[..1] } else { &headers };
        let target = Target::Repository(&path);
        let response = self.call(Call { method: Method::GET, target, headers, body: Payload::None })?;
        let response = self.expect(&what, response, &[200, 206])?;
        let partly = response.status() == 206;
        if partly && !header(&response, "content-range").is_some_and(|range| begins_at(range, from)) {
            return Err(Error::invalid(format!("{what}: it sent another part than the one asked for")).into());
        }
        let rest = if partly { size - from } else { size };
        if let Some(length) = response.body().content_length().filter(|length| *length != rest) {
            return Err(Error::invalid(format!("{what}: it has {length} bytes instead of {rest}")).into());
        }
        let mut reader = response.into_body().into_with_config().limit(rest.saturating_add(1)).reader();
        if !partly && from > 0 {
            // A registry without ranges: what is here already passes once more.
            let skipped = std::io::copy(&mut (&mut reader).take(from), &mut std::io::sink());
            if skipped.ok() != Some(from) {
                return Err(Failure::passing(Error::failed(format!("{what}: the transfer was cut"))));
            }
        }
        Ok(Box::new(reader))
    }

    /// All tags of the repository.
    pub(crate) fn tags(&self) -> Result<Vec<String>> {
        let what = format!("tags of {}", self.endpoint.repository());
        let mut tags = Vec::new();
        let mut path = "tags/list?n=1000".to_owned();
        loop {
            let (page, more) = self.with_retries(|| {
                let response = self.get(Target::Repository(&path), "application/json")?;
                let response = self.expect(&what, response, &[200])?;
                let more = header(&response, "link").is_some_and(|link| link.contains("next"));
                Ok((read_bounded(response, TAGS_MAX)?, more))
            })?;
            let page: TagList = serde_json::from_slice(&page).context(|| format!("read the {what}"))?;
            let page = page.tags.unwrap_or_default();
            let last = page.last().cloned().unwrap_or_default();
            let known = tags.len();
            tags.extend(page.into_iter().filter(|tag| is_tag(tag)));
            // The next page by the last tag, not by a URL of the registry's making.
            if !more || tags.len() == known || tags.len() > TAG_COUNT_MAX || !is_tag(&last) {
                return Ok(tags);
            }
            path = format!("tags/list?n=1000&last={last}");
        }
    }

    pub(super) fn get(&self, target: Target<'_>, accept: &str) -> Result<Response<Body>, Failure> {
        let headers = &[("accept", accept)];
        self.call(Call { method: Method::GET, target, headers, body: Payload::None })
    }

    /// `response`, where its status is one of `statuses`.
    pub(super) fn expect(
        &self,
        what: &str,
        response: Response<Body>,
        statuses: &[u16],
    ) -> Result<Response<Body>, Failure> {
        if statuses.contains(&response.status().as_u16()) {
            return Ok(response);
        }
        Err(status_failure(what, &self.endpoint.registry, response))
    }

    /// One request, logged in where the registry asks for it. A stream can be
    /// sent only once: then the caller is told to try again, now logged in.
    pub(super) fn call(&self, mut call: Call<'_>) -> Result<Response<Body>, Failure> {
        let replay = match &call.body {
            Payload::None => Some(Payload::None),
            Payload::Bytes(bytes) => Some(Payload::Bytes(bytes)),
            Payload::Stream { .. } => None,
        };
        let used = self.token()?;
        let response = self.send(&mut call, used.as_ref())?;
        if response.status() != 401 {
            return Ok(response);
        }
        let Some(challenge) = challenge(&response) else { return Ok(response) };
        drop(response);
        let token = self.log_in(challenge, used.as_ref())?;
        match replay {
            Some(body) => {
                call.body = body;
                self.send(&mut call, Some(&token))
            }
            None => {
                let error = Error::failed(format!("{} ended the login", self.endpoint.registry));
                Err(Failure::passing(error))
            }
        }
    }

    /// The token at hand; a new one where it is about to expire.
    fn token(&self) -> Result<Option<Token>, Failure> {
        let State { token, challenge, .. } = self.with_state(|state| state.clone());
        match (token, challenge) {
            (Some(token), Some(challenge)) if token.ends_before(Instant::now()) => {
                self.log_in(challenge, Some(&token)).map(Some)
            }
            (token, _) => Ok(token),
        }
    }

    /// Answers a challenge; where another thread has done so since `refused`
    /// was sent, its answer is taken.
    fn log_in(&self, challenge: Challenge, refused: Option<&Token>) -> Result<Token, Failure> {
        let _one = self.login.lock().unwrap_or_else(PoisonError::into_inner);
        let State { plain, token, .. } = self.with_state(|state| state.clone());
        if let Some(token) = token.filter(|token| refused != Some(token)) {
            return Ok(token);
        }
        let registry = Origin::of(&parse_url(&self.base(plain == Some(true)))?)?;
        let login = Login {
            endpoint: &self.endpoint,
            registry: &registry,
            trust: self.trust(),
            wallet: &self.wallet,
            scopes: &self.access.scopes(&self.endpoint.path),
        };
        let token = login.answer(&self.http, &challenge)?;
        self.with_state(|state| {
            state.token = Some(token.clone());
            state.challenge = Some(challenge);
        });
        Ok(token)
    }

    /// Over https; where that is not spoken and not needed, over http.
    fn send(&self, call: &mut Call<'_>, token: Option<&Token>) -> Result<Response<Body>, Failure> {
        let plain = self.with_state(|state| state.plain);
        let body = std::mem::replace(&mut call.body, Payload::None);
        let again = if let Payload::Bytes(bytes) = body { Payload::Bytes(bytes) } else { Payload::None };
        let result = self.send_over(plain == Some(true), call, body, token);
        // Plain servers answer a TLS greeting with an http error or by closing.
        let (result, plain) = match result {
            Err(Failure { retry: Retry::WithoutTls | Retry::Soon, .. })
                if plain.is_none() && self.endpoint.insecure =>
            {
                (self.send_over(true, call, again, None), true)
            }
            result => (result, plain == Some(true)),
        };
        if result.is_ok() {
            self.with_state(|state| state.plain = Some(plain));
        }
        result
    }

    fn send_over(
        &self,
        plain: bool,
        call: &Call<'_>,
        body: Payload<'_>,
        token: Option<&Token>,
    ) -> Result<Response<Body>, Failure> {
        let base = match call.target {
            Target::Hub(_) => HUB.to_owned(),
            _ => self.base(plain),
        };
        let url = match call.target {
            Target::Hub(path) => format!("{base}/{path}"),
            Target::Repository(path) => format!("{base}/v2/{}/{path}", self.endpoint.path),
            Target::Registry(path) => format!("{base}/v2/{path}"),
            Target::Url(url) => url.to_owned(),
        };
        let (ours, theirs) = (Origin::of(&parse_url(&base)?)?, Origin::of(&parse_url(&url)?)?);
        // A place elsewhere is not the registry: no token goes there.
        let authorization = token.filter(|_| ours == theirs).map(Token::header);
        self.http.send(Request {
            method: call.method.clone(),
            url: &url,
            headers: call.headers,
            authorization,
            trust: if ours.host == theirs.host { self.trust() } else { Trust::Verify },
            body,
        })
    }

    /// Where uploads begin.
    pub(super) fn uploads_url(&self) -> String {
        let plain = self.with_state(|state| state.plain == Some(true));
        format!("{}/v2/{}/blobs/uploads/", self.base(plain), self.endpoint.path)
    }

    fn base(&self, plain: bool) -> String {
        format!("{}://{}", if plain { "http" } else { "https" }, self.endpoint.host())
    }

    fn trust(&self) -> Trust {
        if self.endpoint.insecure { Trust::Anything } else { Trust::Verify }
    }

    fn with_state<T>(&self, use_it: impl FnOnce(&mut State) -> T) -> T {
        // A thread that panicked left whole values: there is nothing half done.
        use_it(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(serde::Deserialize)]
struct TagList {
    tags: Option<Vec<String>>,
}

/// RFC 9110 "Content-Range": `bytes 5-9/10`.
fn begins_at(range: &str, from: u64) -> bool {
    let first = range.strip_prefix("bytes ").and_then(|range| range.split('-').next());
    first.and_then(|first| first.trim().parse().ok()) == Some(from)
}

/// The registry knows better.
pub(super) fn refused_login(registry: &str) -> Error {
    Error::failed(format!("{registry} does not accept the user or the password"))
        .hint("check both; some registries want a token in place of the password")
}

pub(super) fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

fn challenge(response: &Response<Body>) -> Option<Challenge> {
    let headers = response.headers().get_all("www-authenticate").iter();
    let mut challenges: Vec<Challenge> =
        headers.filter_map(|value| parse_challenge(value.to_str().ok()?)).collect();
    challenges.sort_by_key(|challenge| matches!(challenge, Challenge::Basic));
    challenges.into_iter().next()
}
