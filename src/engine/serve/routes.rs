//! What a path of the distribution protocol means, and what of the store is
//! under it.
//!
//! Source: OCI distribution-spec, "Endpoints" and "Error Codes".

use super::http::Request;
use super::page::Response;
use super::uploads::Uploads;
use crate::dirs::Dirs;
use crate::error::Result;
use crate::image::blob::Ingest;
use crate::image::manifest::{self, Document, MANIFEST_MAX, OCI_INDEX, OCI_MANIFEST};
use crate::image::store::{Entry, ImageStore};
use crate::types::digest::Digest;
use crate::types::reference::{DEFAULT_DOMAIN, Reference};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Read;

/// Names in one page of a list, where the client asks for no number.
const PAGE: usize = 1000;

/// The store, seen as a registry.
pub(super) struct Registry {
    pub(super) dirs: Dirs,
    pub(super) store: ImageStore,
    /// With `--writable`.
    pub(super) uploads: Option<Uploads>,
}

/// What is asked for in a repository.
#[derive(Debug, PartialEq, Eq)]
enum Endpoint<'a> {
    Tags,
    Manifest(&'a str),
    Blob(&'a str),
    Uploads,
    Upload(&'a str),
    Referrers(&'a str),
}

impl Registry {
    pub(super) fn new(dirs: Dirs, store: ImageStore, writable: bool) -> Result<Self> {
        // Held while the server lives: what is pushed is nobody's until its manifest comes.
        let uploads = if writable { Some(Uploads::new(store.ingest()?)) } else { None };
        Ok(Self { dirs, store, uploads })
    }

    pub(super) fn is_writable(&self) -> bool {
        self.uploads.is_some()
    }

    pub(super) fn ingest(&self) -> Option<&Ingest> {
        self.uploads.as_ref().map(|uploads| &uploads.ingest)
    }

    pub(super) fn answer(&self, request: &Request, body: &mut dyn Read) -> Response {
        let reads = matches!(request.method.as_str(), "GET" | "HEAD");
        match request.path.as_str() {
            "/v2/" | "/v2" if reads => return Response::json(&json!({})),
            "/v2/_catalog" if reads => return self.catalog(request),
            _ => {}
        }
        let Some((name, endpoint)) = request.path.strip_prefix("/v2/").and_then(split) else {
            return Response::error(404, "NAME_UNKNOWN", "there is no such path in a registry");
        };
        if Reference::parse(&format!("localhost/{name}")).is_err() {
            return Response::error(400, "NAME_INVALID", "invalid repository name");
        }
        match (request.method.as_str(), &endpoint) {
            ("GET" | "HEAD", Endpoint::Tags) => self.tags(name, request),
            ("GET" | "HEAD", Endpoint::Manifest(reference)) => self.manifest(name, reference),
            ("GET" | "HEAD", Endpoint::Blob(digest)) => self.blob(name, digest, request.header("range")),
            ("GET" | "HEAD", Endpoint::Referrers(digest)) => self.referrers(digest, request),
            (_, Endpoint::Tags | Endpoint::Referrers(_)) => unsupported(),
            _ => match &self.uploads {
                Some(uploads) => self.change(uploads, name, &endpoint, request, body),
                None => Response::error(
                    405,
                    "UNSUPPORTED",
                    "this registry is read-only: it was started without --writable",
                ),
            },
        }
    }

    fn change(
        &self,
        uploads: &Uploads,
        name: &str,
        endpoint: &Endpoint<'_>,
        request: &Request,
        body: &mut dyn Read,
    ) -> Response {
        match (request.method.as_str(), endpoint) {
            ("PUT", Endpoint::Manifest(reference)) => self.put_manifest(name, reference, request, body),
            ("POST", Endpoint::Uploads) => uploads.begin(&self.store, name, request, body),
            ("GET" | "HEAD", Endpoint::Upload(id)) => uploads.status(name, id),
            ("PATCH", Endpoint::Upload(id)) => uploads.add(name, id, request, body),
            ("PUT", Endpoint::Upload(id)) => uploads.finish(name, id, request, body),
            ("DELETE", Endpoint::Upload(id)) => uploads.cancel(name, id),
            ("DELETE", Endpoint::Manifest(reference)) => self.delete_manifest(name, reference),
            ("DELETE", Endpoint::Blob(digest)) => self.delete_blob(digest),
            _ => unsupported(),
        }
    }

    /// The repositories by the names that a user would pull them under.
    fn catalog(&self, request: &Request) -> Response {
        match self.known() {
            Ok(entries) => {
                let names: BTreeSet<String> =
                    entries.iter().filter_map(Entry::name).map(|name| repository(&name)).collect();
                list(names, "repositories", json!({}), "/v2/_catalog", request)
            }
            Err(_) => broken(),
        }
    }

    /// Images, lists and artifacts.
    pub(super) fn known(&self) -> Result<Vec<Entry>> {
        let mut known = self.store.entries()?;
        known.extend(self.store.artifacts()?);
        Ok(known)
    }

    fn tags(&self, name: &str, request: &Request) -> Response {
        let Ok(entries) = self.known() else { return broken() };
        let Some(found) = place(&entries, name) else { return unknown_name(name) };
        let of_repository = |entry: &Entry| entry.name().filter(|name| name.repository() == found)?.tag;
        let tags: BTreeSet<String> = entries.iter().filter_map(of_repository).collect();
        list(tags, "tags", json!({"name": name}), &format!("/v2/{name}/tags/list"), request)
    }

    fn manifest(&self, name: &str, reference: &str) -> Response {
        let Ok(entries) = self.known() else { return broken() };
        let digest = match Digest::parse(reference) {
            Ok(digest) => Some(digest).filter(|digest| self.has_manifest(&entries, digest)),
            Err(_) if reference.contains(':') => {
                return bad_digest();
            }
            Err(_) => {
                let Some(found) = place(&entries, name) else { return unknown_name(name) };
                let full = format!("{found}:{reference}");
                let entry = entries.iter().find(|entry| entry.name_text() == Some(&full));
                entry.map(Entry::manifest_digest)
            }
        };
        let document = digest.as_ref().and_then(|digest| {
            let bytes = self.store.blobs().document(digest, MANIFEST_MAX).ok()?;
            // A config or a layer is no manifest, whatever the client calls it.
            let document = manifest::parse_any(&bytes, None).ok()?;
            Some((digest, bytes, media_type(&document)))
        });
        let Some((digest, bytes, media_type)) = document else {
            return Response::error(404, "MANIFEST_UNKNOWN", &format!("{name} has no manifest {reference}"));
        };
        Response::bytes(&media_type, bytes)
            .with("Docker-Content-Digest", &digest.to_string())
            .with("ETag", &format!("\"{digest}\""))
    }

    fn blob(&self, name: &str, digest: &str, range: Option<&str>) -> Response {
        let Ok(digest) = Digest::parse(digest) else {
            return bad_digest();
        };
        let known = || self.known().is_ok_and(|entries| place(&entries, name).is_some());
        // While it is pushed, a repository has no name yet.
        if !self.is_writable() && !known() {
            return unknown_name(name);
        }
        let Ok(file) = self.store.blobs().open(&digest) else {
            return Response::error(404, "BLOB_UNKNOWN", &format!("there is no blob {digest}"));
        };
        match Response::file(file, range) {
            Ok(response) => response
                .with("Docker-Content-Digest", &digest.to_string())
                .with("ETag", &format!("\"{digest}\"")),
            Err(_) => broken(),
        }
    }
}

/// The full repository that a client means by `name`: what was pushed here,
/// what has no registry, docker.io's, and what has its registry in the name.
pub(super) fn place(entries: &[Entry], name: &str) -> Option<String> {
    let names: BTreeSet<String> =
        entries.iter().filter_map(Entry::name).map(|name| name.repository()).collect();
    [
        format!("localhost/{name}"),
        format!("{DEFAULT_DOMAIN}/{name}"),
        format!("{DEFAULT_DOMAIN}/library/{name}"),
        name.to_owned(),
    ]
    .into_iter()
    .find(|place| names.contains(place))
}

/// The name of a repository as this registry has it.
fn repository(name: &Reference) -> String {
    if name.domain == "localhost" { name.path.clone() } else { name.familiar_repository() }
}

/// Name and endpoint. A name may hold any of the words that endpoints have.
fn split(path: &str) -> Option<(&str, Endpoint<'_>)> {
    if let Some(name) = path.strip_suffix("/tags/list") {
        return Some((name, Endpoint::Tags));
    }
    if let Some(name) = path.strip_suffix("/blobs/uploads/").or_else(|| path.strip_suffix("/blobs/uploads")) {
        return Some((name, Endpoint::Uploads));
    }
    let (rest, last) = path.rsplit_once('/')?;
    if let Some(name) = rest.strip_suffix("/blobs/uploads") {
        return Some((name, Endpoint::Upload(last)));
    }
    let (name, kind) = rest.rsplit_once('/')?;
    match kind {
        "manifests" => Some((name, Endpoint::Manifest(last))),
        "blobs" => Some((name, Endpoint::Blob(last))),
        "referrers" => Some((name, Endpoint::Referrers(last))),
        _ => None,
    }
}

/// What a document is, as it says itself or as OCI has it.
pub(super) fn media_type(document: &Document) -> String {
    match document {
        Document::Index(index) => index.media_type.clone().unwrap_or_else(|| OCI_INDEX.to_owned()),
        Document::Manifest(manifest) => {
            manifest.media_type.clone().unwrap_or_else(|| OCI_MANIFEST.to_owned())
        }
    }
}

/// One page of names in order, with a link to the next.
fn list(names: BTreeSet<String>, key: &str, mut document: Value, path: &str, request: &Request) -> Response {
    let count = match request.query("n").map(str::parse::<usize>) {
        None => PAGE,
        Some(Ok(count)) => count.min(PAGE),
        Some(Err(_)) => return Response::error(400, "PAGINATION_NUMBER_INVALID", "n is not a number"),
    };
    let last = request.query("last").unwrap_or_default().to_owned();
    let mut rest = names.into_iter().filter(|name| *name > last);
    let page: Vec<String> = rest.by_ref().take(count).collect();
    let more = rest.next().is_some();
    let next =
        page.last().filter(|_| more).map(|last| format!("<{path}?n={count}&last={last}>; rel=\"next\""));
    document[key] = json!(page);
    let response = Response::json(&document);
    match next {
        Some(next) => response.with("Link", &next),
        None => response,
    }
}

fn unsupported() -> Response {
    Response::error(405, "UNSUPPORTED", "this is not done here")
}

pub(super) fn bad_digest() -> Response {
    Response::error(400, "DIGEST_INVALID", "a digest is sha256:<64 hex digits> or sha512:<128 hex digits>")
}

pub(super) fn broken() -> Response {
    Response::error(500, "UNKNOWN", "the store cannot be read")
}

pub(super) fn unknown_name(name: &str) -> Response {
    Response::error(404, "NAME_UNKNOWN", &format!("there is no repository {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_at_their_end() {
        assert_eq!(split("a/b/tags/list"), Some(("a/b", Endpoint::Tags)));
        assert_eq!(split("a/manifests/latest"), Some(("a", Endpoint::Manifest("latest"))));
        assert_eq!(split("manifests/blobs/manifests/x"), Some(("manifests/blobs", Endpoint::Manifest("x"))));
        assert_eq!(split("a/blobs/uploads/"), Some(("a", Endpoint::Uploads)));
        assert_eq!(split("a/blobs/uploads/1f"), Some(("a", Endpoint::Upload("1f"))));
        assert_eq!(split("a/blobs/sha256:00"), Some(("a", Endpoint::Blob("sha256:00"))));
        for none in ["", "a", "a/b", "manifests/x", "a/tags/lists/x"] {
            assert!(split(none).is_none_or(|(name, _)| name.is_empty()), "{none}");
        }
    }

    #[test]
    fn repositories_are_called_as_users_call_them() {
        let name = |text: &str| repository(&Reference::parse(text).expect("valid"));
        assert_eq!(name("busybox"), "busybox");
        assert_eq!(name("user/app:1"), "user/app");
        assert_eq!(name("localhost/mine"), "mine");
        assert_eq!(name("quay.io/a/b"), "quay.io/a/b");
    }
}
