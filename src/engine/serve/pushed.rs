//! Pushes of manifests: what makes an image, a list or an artifact of the blobs
//! that came before.
//!
//! Source: OCI distribution-spec, "Pushing Manifests".

use super::http::Request;
use super::page::Response;
use super::removal::subject_of;
use super::routes::{Registry, broken};
use crate::engine::events::note_image;
use crate::error::Result;
use crate::image::config::{CONFIG_MAX, ImageConfig};
use crate::image::manifest::{
    self, Descriptor, Document, Index, MANIFEST_MAX, Manifest, OCI_INDEX, OCI_MANIFEST,
};
use crate::image::names;
use crate::image::store::{Entry, ImageStore, LIST, StoredImage};
use crate::types::digest::Digest;
use crate::types::reference::{Reference, has_domain};
use std::io::Read;

/// A manifest that has come whole.
struct Pushed<'a> {
    /// The repository, as the client calls it.
    name: &'a str,
    bytes: &'a [u8],
    digest: Digest,
    served_as: Option<&'a str>,
    /// The full name, where it was pushed by a tag.
    reference: Option<&'a Reference>,
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
        let mut digest = Digest::of(&bytes);
        let reference = match Digest::parse(under) {
            Ok(wanted) if !wanted.is_of(&bytes) => {
                return Response::error(400, "DIGEST_INVALID", "the manifest has another digest");
            }
            Ok(wanted) => {
                digest = wanted;
                None
            }
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
        let document = match manifest::parse_any(&bytes, served_as) {
            Ok(document) => document,
            Err(error) => return invalid(&error.to_string()),
        };
        let subject = subject_of(&document);
        let pushed = Pushed { name, bytes: &bytes, digest, served_as, reference: reference.as_ref() };
        let response = match document {
            Document::Manifest(manifest) if manifest.refuse_artifact().is_ok() => {
                self.take_image(&pushed, manifest)
            }
            Document::Manifest(manifest) => self.take_artifact(&pushed, &manifest),
            Document::Index(index) => self.take_index(&pushed, &index),
        };
        match subject.filter(|_| response.status == 201) {
            // So that the client keeps no list of referrers under a tag.
            Some(subject) => response.with("OCI-Subject", &subject.to_string()),
            None => response,
        }
    }

    fn take_image(&self, pushed: &Pushed<'_>, mut manifest: Manifest) -> Response {
        let Some(ingest) = self.ingest() else { return broken() };
        let blobs = self.store.blobs();
        if let Some(refused) = self.misses(std::iter::once(&manifest.config).chain(&manifest.layers), "blob")
        {
            return refused;
        }
        let id = manifest.config.digest.clone();
        let config = blobs.document(&id, CONFIG_MAX).and_then(|bytes| ImageConfig::parse(&bytes));
        if config.as_ref().is_ok_and(|config| config.foreign_layer().is_some()) {
            return self.take_artifact(pushed, &manifest);
        }
        manifest.media_type.get_or_insert_with(|| pushed.served_as.unwrap_or(OCI_MANIFEST).to_owned());
        let size = pushed.bytes.len() as u64;
        let image = config
            .and_then(|config| StoredImage::new(id.clone(), pushed.digest.clone(), size, manifest, config));
        let image = match image {
            Ok(image) => image,
            Err(error) => return Response::error(400, "MANIFEST_INVALID", &error.to_string()),
        };
        let entry = || ImageStore::entry(ingest, &image, None);
        self.store_under(pushed, &id, |images, artifacts| {
            free(artifacts, pushed.reference);
            names::assign(images, entry()?, pushed.reference);
            Ok(())
        })
    }

    /// What is no image is kept for those who know what it is.
    fn take_artifact(&self, pushed: &Pushed<'_>, manifest: &Manifest) -> Response {
        if let Some(refused) = self.misses(manifest.own_blobs(), "blob") {
            return refused;
        }
        let media_type = manifest.media_type.as_deref().or(pushed.served_as).unwrap_or(OCI_MANIFEST);
        let descriptor = Descriptor::new(media_type, pushed.digest.clone(), pushed.bytes.len() as u64);
        self.store_under(pushed, &pushed.digest, |images, artifacts| {
            free(images, pushed.reference);
            names::assign(artifacts, Entry(descriptor), pushed.reference);
            Ok(())
        })
    }

    fn take_index(&self, pushed: &Pushed<'_>, index: &Index) -> Response {
        if let Some(refused) = self.misses(index.manifests.iter(), "manifest") {
            return refused;
        }
        let media_type = index.media_type.as_deref().or(pushed.served_as).unwrap_or(OCI_INDEX);
        let mut entry = Entry(Descriptor::new(media_type, pushed.digest.clone(), pushed.bytes.len() as u64));
        entry.0.annotations.insert(LIST.to_owned(), String::new());
        self.store_under(pushed, &pushed.digest, |images, artifacts| {
            free(artifacts, pushed.reference);
            names::assign(images, entry, pushed.reference);
            // Its images came without names, and are known through it from now on.
            images.retain(|entry| {
                let of_index = index.manifests.iter().any(|inner| inner.digest == entry.manifest_digest());
                entry.name_text().is_some() || !of_index
            });
            Ok(())
        })
    }

    /// The refusal of a manifest that names what was not pushed.
    fn misses<'a>(&self, named: impl IntoIterator<Item = &'a Descriptor>, what: &str) -> Option<Response> {
        let lost = named.into_iter().find(|blob| !self.store.blobs().contains(blob))?;
        let why = format!("{what} {} was not pushed", lost.digest);
        Some(Response::error(404, "MANIFEST_BLOB_UNKNOWN", &why))
    }

    fn store_under(
        &self,
        pushed: &Pushed<'_>,
        id: &Digest,
        change: impl FnOnce(&mut Vec<Entry>, &mut Vec<Entry>) -> Result<()>,
    ) -> Response {
        let Some(ingest) = self.ingest() else { return broken() };
        let stored = self.store.update_with_artifacts(|images, artifacts| {
            ingest.put_as(&pushed.digest, pushed.bytes)?;
            change(images, artifacts)
        });
        if stored.is_err() {
            return broken();
        }
        note_image(&self.dirs, "push", &id.to_string(), pushed.reference.map(Reference::familiar));
        Response::empty(201)
            .with("Location", &format!("/v2/{}/manifests/{}", pushed.name, pushed.digest))
            .with("Docker-Content-Digest", &pushed.digest.to_string())
    }
}

/// Takes the name from what had it; that stays under its digest.
fn free(entries: &mut Vec<Entry>, name: Option<&Reference>) {
    let Some(full) = name.map(ToString::to_string) else { return };
    if let Some(at) = entries.iter().position(|entry| entry.name_text() == Some(&full)) {
        let old = entries.remove(at);
        names::assign(entries, old, None);
    }
}
