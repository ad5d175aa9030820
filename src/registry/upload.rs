//! Blobs and manifests into a repository.
//!
//! A blob that the registry has is not sent; one that another repository of it
//! has is mounted. What is left goes up in one request, or where it is large in
//! pieces, so that a cut costs a piece and not the blob.
//! Source: OCI distribution-spec "Push".

use super::client::{Call, Client, Target, header};
use super::failure::{Failure, Retry};
use super::http::{Payload, location, parse_url};
use crate::error::{Error, Result};
use crate::types::digest::Digest;
use std::io::Read;
use ureq::Body;
use ureq::http::{Method, Response};

/// Blobs up to this size go up in one request, larger ones in pieces of it.
const PIECE: u64 = 64 << 20;
/// Pieces are never larger, whatever the registry asks for.
const PIECE_MAX: u64 = 1 << 30;
const OCTETS: (&str, &str) = ("content-type", "application/octet-stream");

/// A blob to upload.
pub(crate) struct Upload<'a> {
    pub(crate) digest: &'a Digest,
    /// Bytes.
    pub(crate) size: u64,
    /// A repository of the same registry that probably has it.
    pub(crate) mount_from: Option<&'a str>,
    /// Gives a reader of all that follows so many bytes.
    pub(crate) open: &'a (dyn Fn(u64) -> Result<Box<dyn Read + 'a>> + Sync),
}

/// How a blob came to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Uploaded {
    Exists,
    Mounted(String),
    Sent,
}

/// An upload that the registry has begun.
struct Session {
    url: String,
    /// Bytes that the registry has.
    at: u64,
    /// Bytes of a piece.
    piece: u64,
}

/// Why a session goes no further.
enum Stop {
    Failed(Failure),
    /// The registry takes no pieces, or has lost the session.
    Refused(Failure),
}

impl Client {
    /// Whether the repository has the blob.
    pub(crate) fn has_blob(&self, digest: &Digest) -> Result<bool> {
        self.exists(&format!("blob {digest}"), &format!("blobs/{digest}"), "*/*")
    }

    fn exists(&self, what: &str, path: &str, accept: &str) -> Result<bool> {
        let what = format!("{what} of {}", self.endpoint.repository());
        self.with_retries(|| {
            let headers = &[("accept", accept)];
            let target = Target::Repository(path);
            let response = self.call(Call { method: Method::HEAD, target, headers, body: Payload::None })?;
            // A registry that hides what may not be read is asked again by the upload.
            let response = self.expect(&what, response, &[200, 401, 403, 404])?;
            Ok(response.status() == 200)
        })
    }

    /// Brings a blob into the repository, if it is not there.
    ///
    /// # Errors
    /// `Failed` where the registry refuses it.
    pub(crate) fn upload(&self, blob: &Upload<'_>) -> Result<Uploaded> {
        if self.has_blob(blob.digest)? {
            return Ok(Uploaded::Exists);
        }
        let mut session = match self.with_retries(|| self.begin(blob))? {
            Begun::Mounted(from) => return Ok(Uploaded::Mounted(from)),
            Begun::Session(session) => session,
        };
        let mut in_pieces = blob.size > session.piece;
        let mut lost = false;
        self.with_retries(|| {
            if std::mem::take(&mut lost) {
                session = self.resume(&session, blob)?;
                in_pieces |= session.at > 0;
            }
            let step = if in_pieces {
                self.send_pieces(&mut session, blob)
            } else {
                self.send_whole(&session, blob)
            };
            match step {
                Ok(()) => Ok(Uploaded::Sent),
                // Not every registry takes pieces: once more, in one.
                Err(Stop::Refused(failure)) if in_pieces => {
                    in_pieces = false;
                    session = self.fresh(blob)?;
                    self.send_whole(&session, blob).map(|()| Uploaded::Sent).map_err(|stop| {
                        lost = true;
                        match stop {
                            Stop::Failed(later) | Stop::Refused(later) if later.retry != Retry::No => later,
                            Stop::Failed(_) | Stop::Refused(_) => failure,
                        }
                    })
                }
                Err(Stop::Failed(failure) | Stop::Refused(failure)) => {
                    lost = true;
                    Err(failure)
                }
            }
        })
    }

    /// Stores a manifest or index under a tag or its digest; its digest.
    ///
    /// # Errors
    /// `Failed` where the registry refuses it, or stored something else.
    pub(crate) fn put_manifest(&self, name: &str, media_type: &str, bytes: &[u8]) -> Result<Digest> {
        let what = format!("manifest {name} of {}", self.endpoint.repository());
        let digest = Digest::parse(name).map_or_else(|_| Digest::of(bytes), |named| named.again(bytes));
        let path = format!("manifests/{name}");
        self.with_retries(|| {
            let response = self.call(Call {
                method: Method::PUT,
                target: Target::Repository(&path),
                headers: &[("content-type", media_type)],
                body: Payload::Bytes(bytes),
            })?;
            let response = self.expect(&what, response, &[200, 201, 202])?;
            stored_as(&response, &digest)
        })?;
        Ok(digest)
    }

    fn begin(&self, blob: &Upload<'_>) -> Result<Begun, Failure> {
        let Some(from) = blob.mount_from else { return self.fresh(blob).map(Begun::Session) };
        let path = format!("blobs/uploads/?mount={}&from={from}", blob.digest);
        let response = self.call(post(&path))?;
        match response.status().as_u16() {
            201 => Ok(Begun::Mounted(from.to_owned())),
            202 => self.session(&response).map(Begun::Session),
            // No rights there, or no such feature.
            _ => self.fresh(blob).map(Begun::Session),
        }
    }

    fn fresh(&self, blob: &Upload<'_>) -> Result<Session, Failure> {
        let what = format!("upload of {}", blob.digest);
        let response = self.call(post("blobs/uploads/"))?;
        let response = self.expect(&what, response, &[202])?;
        self.session(&response)
    }

    fn session(&self, response: &Response<Body>) -> Result<Session, Failure> {
        let least =
            header(response, "oci-chunk-min-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        Ok(Session { url: self.next(response, None)?, at: 0, piece: PIECE.max(least).min(PIECE_MAX) })
    }

    /// The URL for the next step: each answer may give another one.
    fn next(&self, response: &Response<Body>, last: Option<&str>) -> Result<String> {
        if let (None, Some(last)) = (header(response, "location"), last) {
            return Ok(last.to_owned());
        }
        let base = match last {
            Some(last) => last.to_owned(),
            None => self.uploads_url(),
        };
        Ok(location(&parse_url(&base)?, response.headers())?.to_string())
    }

    fn send_whole(&self, session: &Session, blob: &Upload<'_>) -> Result<(), Stop> {
        let reader = (blob.open)(session.at).map_err(|error| Stop::Failed(error.into()))?;
        let length = blob.size - session.at;
        self.finish(session, blob, Payload::Stream { reader, length })
    }

    fn send_pieces(&self, session: &mut Session, blob: &Upload<'_>) -> Result<(), Stop> {
        let mut reader = (blob.open)(session.at).map_err(|error| Stop::Failed(error.into()))?;
        while session.at < blob.size {
            let length = session.piece.min(blob.size - session.at);
            let range = format!("{}-{}", session.at, session.at + length - 1);
            let piece = Box::new((&mut *reader).take(length));
            let response = self
                .call(Call {
                    method: Method::PATCH,
                    target: Target::Url(&session.url),
                    headers: &[OCTETS, ("content-range", &range)],
                    body: Payload::Stream { reader: piece, length },
                })
                .map_err(Stop::Failed)?;
            let response = self.accepted(response, blob, &[202, 204])?;
            session.url =
                self.next(&response, Some(&session.url)).map_err(|error| Stop::Failed(error.into()))?;
            session.at += length;
        }
        self.finish(session, blob, Payload::Bytes(&[]))
    }

    fn finish(&self, session: &Session, blob: &Upload<'_>, body: Payload<'_>) -> Result<(), Stop> {
        let url = format!(
            "{}{}digest={}",
            session.url,
            if session.url.contains('?') { '&' } else { '?' },
            blob.digest
        );
        let response = self
            .call(Call { method: Method::PUT, target: Target::Url(&url), headers: &[OCTETS], body })
            .map_err(Stop::Failed)?;
        let response = self.accepted(response, blob, &[201, 202, 204])?;
        stored_as(&response, blob.digest).map_err(Stop::Failed)
    }

    fn accepted(
        &self,
        response: Response<Body>,
        blob: &Upload<'_>,
        good: &[u16],
    ) -> Result<Response<Body>, Stop> {
        let status = response.status().as_u16();
        self.expect(&format!("upload of {}", blob.digest), response, good).map_err(|failure| match status {
            400 | 404 | 405 | 411 | 413 | 415 | 416 | 501 => Stop::Refused(failure),
            _ => Stop::Failed(failure),
        })
    }

    /// How far the registry has got: it goes on from there, or from the beginning.
    fn resume(&self, session: &Session, blob: &Upload<'_>) -> Result<Session, Failure> {
        let target = Target::Url(&session.url);
        let response = self.call(Call { method: Method::GET, target, headers: &[], body: Payload::None })?;
        let range =
            header(&response, "range").and_then(|range| range.rsplit('-').next()?.parse::<u64>().ok());
        let at = match range {
            // `0-0` is what some registries say of nothing at all.
            Some(0) | None => 0,
            Some(last) => last + 1,
        };
        if response.status() == 204 && at > 0 && at <= blob.size {
            let url = self.next(&response, Some(&session.url))?;
            return Ok(Session { url, at, piece: session.piece });
        }
        self.fresh(blob)
    }
}

enum Begun {
    Mounted(String),
    Session(Session),
}

fn post(path: &str) -> Call<'_> {
    Call { method: Method::POST, target: Target::Repository(path), headers: &[], body: Payload::Bytes(&[]) }
}

/// A registry that says which digest it stored must say ours.
fn stored_as(response: &Response<Body>, digest: &Digest) -> Result<(), Failure> {
    let of_its_kind = format!("{}:", digest.algorithm().name());
    match header(response, "docker-content-digest") {
        Some(stored) if stored != digest.to_string() && stored.starts_with(&of_its_kind) => {
            Err(Error::failed(format!("the registry stored {stored:?} instead of {digest}")).into())
        }
        _ => Ok(()),
    }
}
