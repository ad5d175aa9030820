//! Artifacts that were pushed to `registry serve`: list, inspect, remove.

use super::orphans::Needed;
use super::rmi::InUse;
use crate::dirs::Dirs;
use crate::error::{Error, Result};
use crate::image::artifacts::subject;
use crate::image::manifest::{MANIFEST_MAX, Manifest};
use crate::image::names::{self, Found};
use crate::image::store::{Entry, ImageStore};
use crate::types::digest::Digest;
use crate::types::reference::Reference;
use serde_json::{Value, json};

/// One name of an artifact, or one without a name.
#[derive(Clone, Debug)]
pub(crate) struct Artifact {
    pub(crate) reference: Option<Reference>,
    /// Of its manifest.
    pub(crate) digest: Digest,
    /// What it says that it is; empty where its manifest cannot be read.
    pub(crate) kind: String,
    /// Bytes of its blobs.
    pub(crate) size: u64,
    /// What it belongs to: an image that it signs or describes.
    pub(crate) subject: Option<Digest>,
}

/// All of them, those with a name first.
///
/// # Errors
/// Where the list cannot be read.
pub(crate) fn list(dirs: &Dirs) -> Result<Vec<Artifact>> {
    let store = ImageStore::at(&dirs.images());
    let mut all: Vec<Artifact> = store.artifacts()?.iter().map(|entry| describe(&store, entry)).collect();
    all.sort_by_cached_key(|artifact| {
        let name = artifact.reference.as_ref().map(Reference::familiar);
        (name.is_none(), name, artifact.digest.clone())
    });
    Ok(all)
}

fn describe(store: &ImageStore, entry: &Entry) -> Artifact {
    let manifest = store.artifact(entry).ok();
    Artifact {
        reference: entry.name(),
        digest: entry.manifest_digest(),
        kind: manifest.as_ref().map(|manifest| manifest.artifact_type().to_owned()).unwrap_or_default(),
        size: manifest.iter().flat_map(Manifest::own_blobs).map(|blob| blob.size).sum(),
        subject: manifest.as_ref().and_then(|manifest| subject(&manifest.other)),
    }
}

/// Its name, its digest and its manifest, in the form of podman's `artifact inspect`.
///
/// # Errors
/// `NotFound`, and where its manifest cannot be read.
pub(crate) fn document(dirs: &Dirs, name: &str) -> Result<Value> {
    let store = ImageStore::at(&dirs.images());
    let artifacts = store.artifacts()?;
    let entry = &artifacts[find(&artifacts, name)?[0]];
    let bytes = store.blobs().document(&entry.manifest_digest(), MANIFEST_MAX)?;
    let manifest: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Error::failed(format!("read manifest {}: {error}", entry.manifest_digest())))?;
    Ok(json!({
        "Manifest": manifest,
        "Name": entry.name().map(|name| name.familiar()).unwrap_or_default(),
        "Digest": entry.manifest_digest(),
    }))
}

/// Which artifacts are removed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which<'a> {
    Named(&'a str),
    All,
}

/// Removes artifacts, and the blobs that nothing else needs; their digests.
///
/// # Errors
/// `NotFound`.
pub(crate) fn remove(
    dirs: &Dirs,
    which: Which<'_>,
    in_use: &dyn Fn() -> Result<InUse>,
) -> Result<Vec<Digest>> {
    if !ImageStore::exists(&dirs.images()) {
        return match which {
            Which::Named(name) => Err(no_such(name)),
            Which::All => Ok(Vec::new()),
        };
    }
    let store = ImageStore::open(&dirs.images())?;
    let gone = store.update_with_artifacts(|_, artifacts| {
        let going = match which {
            Which::All => (0..artifacts.len()).collect(),
            Which::Named(name) => find(artifacts, name)?,
        };
        let mut gone = Vec::new();
        for at in going.into_iter().rev() {
            gone.push(artifacts.remove(at));
        }
        Ok(gone)
    })?;
    // Under the lock anew: what is needed now may be another's.
    store.update(|images| {
        let needed = Needed::by(&store, images, &in_use()?)?;
        for entry in &gone {
            let manifest = store.artifact(entry).ok();
            let blobs = manifest.iter().flat_map(Manifest::own_blobs).map(|blob| &blob.digest);
            for blob in std::iter::once(&entry.manifest_digest()).chain(blobs) {
                if !needed.blobs.contains(blob) {
                    store.blobs().remove(blob)?;
                }
            }
        }
        Ok(())
    })?;
    let mut digests: Vec<Digest> = gone.iter().map(Entry::manifest_digest).collect();
    digests.sort();
    digests.dedup();
    Ok(digests)
}

/// The places of the name, or of all names of a digest or its beginning.
fn find(artifacts: &[Entry], name: &str) -> Result<Vec<usize>> {
    let all = |fits: &dyn Fn(&Entry) -> bool| -> Vec<usize> {
        artifacts.iter().enumerate().filter(|(_, entry)| fits(entry)).map(|(at, _)| at).collect()
    };
    match names::find(artifacts, name)? {
        Found::Name(at, _) => return Ok(vec![at]),
        Found::Image(found) if !found.is_empty() => return Ok(found),
        Found::Image(_) | Found::Nothing => {}
    }
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    let found = all(&|entry| hex.len() >= 4 && entry.manifest_digest().hex().starts_with(hex));
    let mut digests: Vec<Digest> = found.iter().map(|at| artifacts[*at].manifest_digest()).collect();
    digests.dedup();
    match digests.as_slice() {
        [] => Err(no_such(name)),
        [_] => Ok(found),
        several => Err(Error::conflict(format!("{} artifacts have a digest that begins so", several.len()))
            .hint("give more digits of it")),
    }
}

fn no_such(name: &str) -> Error {
    Error::not_found(format!("No such artifact: {name}")).hint("see `coracle artifact ls`")
}
