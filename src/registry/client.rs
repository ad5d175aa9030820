//! One repository of one registry: manifests and blobs.

use super::auth::{Challenge, Credentials, Login, parse_challenge};
use super::config::Endpoint;
use super::http::{
    Failure, Get, Http, Origin, Retry, Trust, parse_url, read_bounded, status_failure, with_retries,
};
use crate::error::{Error, Result};
use crate::types::digest::Digest;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use ureq::Body;
use ureq::http::Response;

/// A client of one repository. It may be used from several threads.
#[derive(Debug)]
pub(crate) struct Client {
    http: Http,
    endpoint: Endpoint,
    credentials: Option<Credentials>,
    /// What the first request found out.
    state: Mutex<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// Whether the registry speaks plain http (and may); `None` until it has answered.
    plain: Option<bool>,
    /// The Authorization header that the registry accepted last.
    authorization: Option<String>,
}

/// A document as the registry sent it.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: Option<String>,
}

impl Client {
    pub(crate) fn new(endpoint: Endpoint, credentials: Option<Credentials>) -> Self {
        Self { http: Http::default(), endpoint, credentials, state: Mutex::default() }
    }

    /// The manifest or index under a tag or digest: at most `limit` bytes. The
    /// caller verifies the digest.
    pub(crate) fn manifest(&self, name: &str, accept: &[&str], limit: u64) -> Result<Served> {
        let what = format!("manifest {name} of {}/{}", self.endpoint.registry, self.endpoint.path);
        with_retries(|| {
            let response = self.get(&what, &format!("manifests/{name}"), &accept.join(", "))?;
            let media_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
            let media_type = media_type
                .map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
            Ok(Served { media_type, bytes: read_bounded(response, limit)? })
        })
    }

    /// Opens a blob of exactly `size` bytes; the reader gives no more. One
    /// try: the caller repeats it together with what it does with the bytes.
    pub(crate) fn blob(&self, digest: &Digest, size: u64) -> Result<impl Read + Send + use<>, Failure> {
        let what = format!("blob {digest} of {}/{}", self.endpoint.registry, self.endpoint.path);
        let response = self.get(&what, &format!("blobs/{digest}"), "*/*")?;
        if let Some(length) = response.body().content_length().filter(|length| *length != size) {
            return Err(Error::invalid(format!("{what}: it has {length} bytes instead of {size}")).into());
        }
        Ok(response.into_body().into_with_config().limit(size.saturating_add(1)).reader())
    }

    /// A GET below the repository, logged in where the registry asks for it.
    fn get(&self, what: &str, path: &str, accept: &str) -> Result<Response<Body>, Failure> {
        let mut response = self.send(path, accept)?;
        if response.status() == 401
            && let Some(challenge) = challenge(&response)
        {
            let authorization = self.login(&challenge)?;
            self.with_state(|state| state.authorization = Some(authorization));
            response = self.send(path, accept)?;
        }
        if response.status() == 200 {
            return Ok(response);
        }
        Err(status_failure(what, &self.endpoint.registry, response))
    }

    /// Over https; where that is not spoken and not needed, over http.
    fn send(&self, path: &str, accept: &str) -> Result<Response<Body>, Failure> {
        let State { plain, authorization } = self.with_state(|state| state.clone());
        let result = self.send_over(plain == Some(true), path, accept, authorization.as_deref());
        // Plain servers answer a TLS greeting with an http error or by closing.
        let (result, plain) = match result {
            Err(Failure { retry: Retry::WithoutTls | Retry::Soon, .. })
                if plain.is_none() && self.endpoint.insecure =>
            {
                (self.send_over(true, path, accept, None), true)
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
        path: &str,
        accept: &str,
        authorization: Option<&str>,
    ) -> Result<Response<Body>, Failure> {
        let url = format!("{}/v2/{}/{path}", self.base(plain), self.endpoint.path);
        self.http.get(Get { url: &url, accept, authorization, trust: self.trust() })
    }

    fn login(&self, challenge: &Challenge) -> Result<String, Failure> {
        let plain = self.with_state(|state| state.plain == Some(true));
        let registry = Origin::of(&parse_url(&self.base(plain))?)?;
        let login = Login {
            endpoint: &self.endpoint,
            registry: &registry,
            trust: self.trust(),
            credentials: self.credentials.as_ref(),
        };
        login.answer(&self.http, challenge)
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

fn challenge(response: &Response<Body>) -> Option<Challenge> {
    let headers = response.headers().get_all("www-authenticate").iter();
    let mut challenges: Vec<Challenge> =
        headers.filter_map(|value| parse_challenge(value.to_str().ok()?)).collect();
    challenges.sort_by_key(|challenge| matches!(challenge, Challenge::Basic));
    challenges.into_iter().next()
}
