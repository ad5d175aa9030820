//! Pushes: blobs in one piece, in chunks, or mounted from another repository,
//! and the manifest that makes an image of them.

use super::http::Request;
use super::page::Response;
use super::removal::subject_of;
use super::routes::{Registry, bad_digest, broken};
use crate::engine::events::note_image;
use crate::image::blob::{BlobWriter, Ingest};
use crate::image::config::{CONFIG_MAX, ImageConfig};
use crate::image::manifest::{
    self, Descriptor, Document, Index, MANIFEST_MAX, Manifest, OCI_INDEX, OCI_MANIFEST,
};
use crate::image::names;
use crate::image::store::{Entry, ImageStore, LIST, StoredImage};
use crate::storage::staging::random_hex;
use crate::types::digest::Digest;
use crate::types::reference::{Reference, has_domain};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Uploads that may be under way at once; the longest idle one goes for a new one.
const UPLOADS_MAX: usize = 128;
/// An upload that nobody has added to for so long is given up.
const UPLOAD_IDLE: Duration = Duration::from_secs(3600);

/// The uploads under way.
pub(super) struct Uploads {
    pub(super) ingest: Ingest,
    sessions: Mutex<HashMap<String, Session>>,
}

#[derive(Clone)]
struct Session {
    repository: String,
    writer: Arc<Mutex<Writer>>,
    touched: Instant,
}

struct Writer {
    /// `None` once it has been finished.
    blob: Option<BlobWriter>,
    written: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A request that panicked left a blob whose digest will not fit.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Uploads {
    pub(super) fn new(ingest: Ingest) -> Self {
        Self { ingest, sessions: Mutex::default() }
    }

    /// POST: a mount, a whole blob, or the beginning of an upload.
    pub(super) fn begin(
        &self,
        store: &ImageStore,
        name: &str,
        request: &Request,
        body: &mut dyn Read,
    ) -> Response {
        if let Some(wanted) = request.query("mount") {
            let Ok(digest) = Digest::parse(wanted) else { return bad_digest() };
            if store.blobs().path(&digest).exists() {
                return created(name, &digest);
            }
        }
        let Ok(blob) = self.ingest.writer(u64::MAX) else { return broken() };
        let session = Session {
            repository: name.to_owned(),
            writer: Arc::new(Mutex::new(Writer { blob: Some(blob), written: 0 })),
            touched: Instant::now(),
        };
        if let Some(digest) = request.query("digest") {
            return self.complete(&session, digest, body);
        }
        let Ok(id) = random_hex::<16>() else { return broken() };
        let mut sessions = lock(&self.sessions);
        sessions.retain(|_, session| session.touched.elapsed() < UPLOAD_IDLE);
        if sessions.len() >= UPLOADS_MAX {
            let idlest = sessions.iter().min_by_key(|(_, session)| session.touched).map(|(id, _)| id.clone());
            if let Some(idlest) = idlest {
                sessions.remove(&idlest);
            }
        }
        sessions.insert(id.clone(), session);
        under_way(202, name, &id, 0)
    }

    fn session(&self, name: &str, id: &str) -> Option<Session> {
        let mut sessions = lock(&self.sessions);
        let session = sessions.get_mut(id).filter(|session| session.repository == name)?;
        session.touched = Instant::now();
        Some(session.clone())
    }

    /// GET: how far it is.
    pub(super) fn status(&self, name: &str, id: &str) -> Response {
        match self.session(name, id) {
            Some(session) => under_way(204, name, id, lock(&session.writer).written),
            None => unknown_upload(),
        }
    }

    /// PATCH: the next chunk, which must begin where the last one ended.
    pub(super) fn add(&self, name: &str, id: &str, request: &Request, body: &mut dyn Read) -> Response {
        let Some(session) = self.session(name, id) else { return unknown_upload() };
        let mut writer = lock(&session.writer);
        if let Some(range) = request.header("content-range") {
            let first = range.trim_start_matches("bytes ").split('-').next().and_then(|at| at.parse().ok());
            if first != Some(writer.written) {
                let response =
                    Response::error(416, "BLOB_UPLOAD_INVALID", "the chunk does not follow the last one");
                return progress(response, name, id, writer.written);
            }
        }
        if !writer.take(body) {
            return progress(
                Response::error(400, "BLOB_UPLOAD_INVALID", "the chunk could not be read to its end"),
                name,
                id,
                writer.written,
            );
        }
        under_way(202, name, id, writer.written)
    }

    /// PUT: the last bytes, if any, and the digest of all.
    pub(super) fn finish(&self, name: &str, id: &str, request: &Request, body: &mut dyn Read) -> Response {
        let Some(session) = self.session(name, id) else { return unknown_upload() };
        let Some(digest) = request.query("digest") else { return bad_digest() };
        let response = self.complete(&session, digest, body);
        if response.status == 201 {
            lock(&self.sessions).remove(id);
        }
        response
    }

    /// DELETE
    pub(super) fn cancel(&self, name: &str, id: &str) -> Response {
        if self.session(name, id).is_none() {
            return unknown_upload();
        }
        lock(&self.sessions).remove(id);
        Response::empty(204)
    }

    fn complete(&self, session: &Session, digest: &str, body: &mut dyn Read) -> Response {
        let Ok(digest) = Digest::parse(digest) else { return bad_digest() };
        let mut writer = lock(&session.writer);
        if !writer.take(body) {
            return Response::error(400, "BLOB_UPLOAD_INVALID", "the blob could not be read to its end");
        }
        let Some(blob) = writer.blob.take() else { return unknown_upload() };
        let spooled = blob.finish();
        if spooled.digest != digest {
            return Response::error(400, "DIGEST_INVALID", "the blob has another digest");
        }
        match self.ingest.publish(&spooled) {
            Ok(()) => created(&session.repository, &digest),
            Err(_) => broken(),
        }
    }
}

impl Writer {
    /// Takes all there is; `false` where it cannot be read or written.
    fn take(&mut self, body: &mut dyn Read) -> bool {
        let Some(blob) = &mut self.blob else { return false };
        let mut buffer = vec![0; 256 << 10];
        loop {
            match body.read(&mut buffer) {
                Ok(0) => return true,
                Ok(count) if blob.write_all(&buffer[..count]).is_ok() => self.written += count as u64,
                Ok(_) | Err(_) => return false,
            }
        }
    }
}

impl Registry {
    /// PUT of a manifest, by a tag or by its digest.
    pub(super) fn put_manifest(
        &self,
        name: &str,
        under: &str,
        request: &Request,
        body: &mut dyn Read,
    ) -> Response {
        let invalid = |why: &str| Response::error(400, "MANIFEST_INVALID", why);
        let mut bytes = Vec::new();
        if body.take(MANIFEST_MAX + 1).read_to_end(&mut bytes).is_err() {
            return invalid("the manifest could not be read to its end");
        }
        if bytes.len() as u64 > MANIFEST_MAX {
            return Response::error(413, "MANIFEST_INVALID", "the manifest is larger than 4 MiB");
        }
        let digest = Digest::of(&bytes);
        let reference = match Digest::parse(under) {
            Ok(wanted) if wanted != digest => {
                return Response::error(400, "DIGEST_INVALID", "the manifest has another digest");
            }
            Ok(_) => None,
            Err(_) => {
                // A name with a registry in it keeps that; all else is this machine's.
                let full = if has_domain(name) { name.to_owned() } else { format!("localhost/{name}") };
                match Reference::parse(&format!("{full}:{under}")) {
                    Ok(reference) => Some(reference),
                    Err(_) => return Response::error(400, "TAG_INVALID", "invalid tag"),
                }
            }
        };
        let served_as =
            request.header("content-type").map(|kind| kind.split(';').next().unwrap_or_default().trim());
        let document = match manifest::parse(&bytes, served_as) {
            Ok(document) => document,
            Err(error) => return invalid(&error.to_string()),
        };
        let subject = subject_of(&document);
        let response = match document {
            Document::Manifest(manifest) => {
                self.take_image(name, &bytes, manifest, served_as, reference.as_ref())
            }
            Document::Index(index) => self.take_index(name, &bytes, &index, served_as, reference.as_ref()),
        };
        match subject.filter(|_| response.status == 201) {
            // So that the client keeps no list of referrers under a tag.
            Some(subject) => response.with("OCI-Subject", &subject.to_string()),
            None => response,
        }
    }

    fn take_image(
        &self,
        name: &str,
        bytes: &[u8],
        mut manifest: Manifest,
        served_as: Option<&str>,
        reference: Option<&Reference>,
    ) -> Response {
        let Some(ingest) = self.ingest() else { return broken() };
        let blobs = self.store.blobs();
        let needed = || std::iter::once(&manifest.config).chain(&manifest.layers);
        if let Some(lost) = needed().find(|blob| !blobs.contains(blob)) {
            return Response::error(
                404,
                "MANIFEST_BLOB_UNKNOWN",
                &format!("blob {} was not pushed", lost.digest),
            );
        }
        let id = manifest.config.digest.clone();
        let config = blobs.document(&id, CONFIG_MAX).and_then(|bytes| ImageConfig::parse(&bytes));
        let digest = Digest::of(bytes);
        manifest.media_type.get_or_insert_with(|| served_as.unwrap_or(OCI_MANIFEST).to_owned());
        let image = config.and_then(|config| {
            StoredImage::new(id.clone(), digest.clone(), bytes.len() as u64, manifest, config)
        });
        let image = match image {
            Ok(image) => image,
            Err(error) => return Response::error(400, "MANIFEST_INVALID", &error.to_string()),
        };
        let stored = self.store.update(|entries| {
            ingest.put(bytes)?;
            let entry = ImageStore::entry(ingest, &image, None)?;
            names::assign(entries, entry, reference);
            Ok(())
        });
        if stored.is_err() {
            return broken();
        }
        note_image(&self.dirs, "push", &id.to_string(), reference.map(Reference::familiar));
        stored_manifest(name, &digest)
    }

    fn take_index(
        &self,
        name: &str,
        bytes: &[u8],
        index: &Index,
        served_as: Option<&str>,
        reference: Option<&Reference>,
    ) -> Response {
        let Some(ingest) = self.ingest() else { return broken() };
        if let Some(lost) = index.manifests.iter().find(|entry| !self.store.blobs().contains(entry)) {
            return Response::error(
                404,
                "MANIFEST_BLOB_UNKNOWN",
                &format!("manifest {} was not pushed", lost.digest),
            );
        }
        let media_type = index.media_type.as_deref().or(served_as).unwrap_or(OCI_INDEX);
        let digest = Digest::of(bytes);
        let mut entry = Entry(Descriptor::new(media_type, digest.clone(), bytes.len() as u64));
        entry.0.annotations.insert(LIST.to_owned(), String::new());
        let stored = self.store.update(|entries| {
            ingest.put(bytes)?;
            names::assign(entries, entry, reference);
            // Its images came without names, and are known through it from now on.
            entries.retain(|entry| {
                let of_index = index.manifests.iter().any(|inner| inner.digest == entry.manifest_digest());
                entry.name_text().is_some() || !of_index
            });
            Ok(())
        });
        if stored.is_err() { broken() } else { stored_manifest(name, &digest) }
    }
}

fn stored_manifest(name: &str, digest: &Digest) -> Response {
    Response::empty(201)
        .with("Location", &format!("/v2/{name}/manifests/{digest}"))
        .with("Docker-Content-Digest", &digest.to_string())
}

fn created(name: &str, digest: &Digest) -> Response {
    Response::empty(201)
        .with("Location", &format!("/v2/{name}/blobs/{digest}"))
        .with("Docker-Content-Digest", &digest.to_string())
}

fn under_way(status: u16, name: &str, id: &str, written: u64) -> Response {
    progress(Response::empty(status), name, id, written)
}

fn progress(response: Response, name: &str, id: &str, written: u64) -> Response {
    response
        .with("Location", &format!("/v2/{name}/blobs/uploads/{id}"))
        .with("Range", &format!("0-{}", written.saturating_sub(1)))
        .with("Docker-Upload-UUID", id)
}

fn unknown_upload() -> Response {
    Response::error(404, "BLOB_UPLOAD_UNKNOWN", "there is no such upload")
}
