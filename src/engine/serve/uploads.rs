//! Pushes of blobs: in one piece, in chunks, or mounted from another repository.

use super::http::Request;
use super::page::Response;
use super::routes::{bad_digest, broken};
use crate::image::blob::{BlobWriter, Ingest};
use crate::image::store::ImageStore;
use crate::storage::staging::random_hex;
use crate::types::digest::Digest;
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
        if let Some(refused) = out_of_order(request, &writer, name, id) {
            return refused;
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
        if let Some(refused) = out_of_order(request, &lock(&session.writer), name, id) {
            return refused;
        }
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
        let Ok(spooled) = blob.finish().under(&digest) else {
            return Response::error(400, "DIGEST_INVALID", "the blob has another digest");
        };
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

/// The refusal of a chunk that says where it begins, and does not begin where
/// the last one ended.
fn out_of_order(request: &Request, writer: &Writer, name: &str, id: &str) -> Option<Response> {
    let range = request.header("content-range")?;
    let first = range.trim_start_matches("bytes ").split('-').next().and_then(|at| at.parse().ok());
    (first != Some(writer.written)).then(|| {
        let response = Response::error(416, "BLOB_UPLOAD_INVALID", "the chunk does not follow the last one");
        progress(response, name, id, writer.written)
    })
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
