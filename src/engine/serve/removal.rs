//! DELETE, under `--writable`, and which images refer to another one.
//!
//! What is taken from the registry is known to no name any more; what it took on
//! the disk goes with the next `image prune`, which knows what containers need.
//!
//! Source: OCI distribution-spec, "Content Management", "Listing Referrers".

use super::http::Request;
use super::page::Response;
use super::routes::{Registry, bad_digest, broken, media_type, place, unknown_name};
use crate::engine::events::note_image;
use crate::engine::orphans::Needed;
use crate::engine::rmi::InUse;
use crate::image::artifacts::subject;
use crate::image::manifest::{self, Document, MANIFEST_MAX, OCI_INDEX};
use crate::image::names;
use crate::image::reach::reach;
use crate::image::store::Entry;
use crate::types::digest::Digest;
use serde_json::{Map, Value, json};

impl Registry {
    /// DELETE of a tag, which leaves the manifest under its digest, or of a
    /// manifest with all its tags in the repository.
    pub(super) fn delete_manifest(&self, name: &str, under: &str) -> Response {
        let digest = Digest::parse(under).ok();
        if digest.is_none() && under.contains(':') {
            return bad_digest();
        }
        let mut gone: Vec<Entry> = Vec::new();
        let mut known = false;
        let changed = self.store.update_with_artifacts(|images, artifacts| {
            let named: Vec<Entry> = images.iter().chain(artifacts.iter()).cloned().collect();
            let found = place(&named, name);
            known = found.is_some();
            let goes = |entry: &Entry| match &digest {
                // What has no name any more is in no other repository.
                Some(digest) => {
                    let here = entry.name().is_none_or(|name| Some(name.repository()) == found);
                    here && entry.manifest_digest() == *digest
                }
                None => {
                    found.as_ref().is_some_and(|found| entry.name_text() == Some(&format!("{found}:{under}")))
                }
            };
            for entries in [images, artifacts] {
                let going: Vec<Entry> = entries.iter().filter(|entry| goes(entry)).cloned().collect();
                entries.retain(|entry| !goes(entry));
                if digest.is_none()
                    && let Some(entry) = going.first()
                {
                    names::assign(entries, entry.clone(), None);
                }
                gone.extend(going);
            }
            Ok(())
        });
        if changed.is_err() {
            return broken();
        }
        if gone.is_empty() && !known {
            return unknown_name(name);
        }
        if gone.is_empty() {
            return Response::error(404, "MANIFEST_UNKNOWN", &format!("{name} has no manifest {under}"));
        }
        for entry in &gone {
            let id = entry.image_id().unwrap_or_else(|| entry.manifest_digest());
            note_image(&self.dirs, "untag", &id.to_string(), entry.name().map(|name| name.familiar()));
        }
        Response::empty(202)
    }

    /// DELETE of a blob that no image needs.
    pub(super) fn delete_blob(&self, digest: &str) -> Response {
        let Ok(digest) = Digest::parse(digest) else { return bad_digest() };
        if !self.store.blobs().path(&digest).exists() {
            return Response::error(404, "BLOB_UNKNOWN", &format!("there is no blob {digest}"));
        }
        let mut is_needed = false;
        let removed = self.store.update(|entries| {
            is_needed = Needed::by(&self.store, entries, &InUse::default())?.blobs.contains(&digest);
            if is_needed { Ok(()) } else { self.store.blobs().remove(&digest) }
        });
        match removed {
            Err(_) => broken(),
            Ok(()) if is_needed => {
                Response::error(405, "UNSUPPORTED", "an image needs the blob: delete its manifest first")
            }
            Ok(()) => Response::empty(202),
        }
    }

    /// Whether a manifest is one of an entry's; others are on their way out.
    pub(super) fn has_manifest(&self, entries: &[Entry], digest: &Digest) -> bool {
        let own = |entry: &Entry| entry.manifest_digest() == *digest || entry.source_digest() == *digest;
        let below = |entry: &Entry| {
            reach(&self.store, entry)
                .is_ok_and(|reach| reach.documents.iter().any(|document| document.digest == *digest))
        };
        entries.iter().any(own) || entries.iter().any(below)
    }

    /// What says in its `subject` that it belongs to `digest`.
    pub(super) fn referrers(&self, digest: &str, request: &Request) -> Response {
        let Ok(subject) = Digest::parse(digest) else { return bad_digest() };
        let Ok(entries) = self.known() else { return broken() };
        let wanted = request.query("artifactType");
        let mut seen: Vec<Digest> = Vec::new();
        let mut found: Vec<Value> = Vec::new();
        for digest in entries.iter().map(Entry::manifest_digest) {
            if seen.contains(&digest) {
                continue;
            }
            seen.push(digest.clone());
            let described = self.referrer(&digest, &subject);
            let fits = |described: &Value| wanted.is_none_or(|wanted| described["artifactType"] == wanted);
            found.extend(described.filter(fits));
        }
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found});
        let response = Response::bytes(OCI_INDEX, index.to_string().into_bytes());
        match wanted {
            Some(_) => response.with("OCI-Filters-Applied", "artifactType"),
            None => response,
        }
    }

    /// The descriptor of a manifest, where it refers to `subject`.
    fn referrer(&self, digest: &Digest, subject: &Digest) -> Option<Value> {
        let bytes = self.store.blobs().document(digest, MANIFEST_MAX).ok()?;
        let document = manifest::parse_any(&bytes, None).ok()?;
        if subject_of(&document).as_ref() != Some(subject) {
            return None;
        }
        let other = other(&document);
        let of_config = match &document {
            Document::Manifest(manifest) => Some(manifest.config.media_type.clone()),
            Document::Index(_) => None,
        };
        let own = other.get("artifactType").and_then(Value::as_str).map(str::to_owned);
        let mut described =
            json!({"mediaType": media_type(&document), "digest": digest.to_string(), "size": bytes.len()});
        if let Some(kind) = own.or(of_config) {
            described["artifactType"] = json!(kind);
        }
        if let Some(annotations) = other.get("annotations") {
            described["annotations"] = annotations.clone();
        }
        Some(described)
    }
}

/// What a manifest or index says that it belongs to.
pub(super) fn subject_of(document: &Document) -> Option<Digest> {
    subject(other(document))
}

fn other(document: &Document) -> &Map<String, Value> {
    match document {
        Document::Manifest(manifest) => &manifest.other,
        Document::Index(index) => &index.other,
    }
}
