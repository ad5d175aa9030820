//! `manifest …`: lists of images for several platforms, made here. A list is an
//! OCI index among the entries of the layout, with the images that it names.

use super::images::no_such_image;
use super::pull::{PullOptions, pull};
use crate::dirs::Dirs;
use crate::error::{Context, Error, Result};
use crate::image::manifest::{Descriptor, Document, Index, MANIFEST_MAX, OCI_INDEX};
use crate::image::names::{self, Found};
use crate::image::store::{Entry, ImageStore, LIST};
use crate::storage::unpack::Ownership;
use crate::types::digest::Digest;
use crate::types::platform::Platform;
use crate::types::reference::Reference;
use serde_json::json;
use std::collections::BTreeMap;

/// What is said of an image in a list, over what the image says itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    pub(crate) os: Option<String>,
    pub(crate) architecture: Option<String>,
    pub(crate) variant: Option<String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// What a new list may replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    Refuse,
    /// `--amend`: images are added to it.
    Amend,
}

/// Makes a list of images; its digest.
///
/// # Errors
/// `Conflict` where the name is taken; nothing is made where an image cannot be had.
pub(crate) fn create(
    dirs: &Dirs,
    name: &str,
    annotations: BTreeMap<String, String>,
    existing: Existing,
    images: &[String],
    ownership: Ownership,
) -> Result<Digest> {
    let reference = list_name(name)?;
    let store = ImageStore::open(&dirs.images())?;
    // Before anything is pulled for a list that will not be.
    let there = taken(&store.entries()?, name, &reference, existing)?;
    let mut found = Vec::new();
    for image in images {
        found.extend(gather(dirs, &store, image, &Said::default(), ownership)?);
    }
    if there {
        return change(&store, &reference.to_string(), |index| {
            *index = with_annotations(std::mem::take(index), annotations);
            put(index, found);
            Ok(())
        });
    }
    let mut index = with_annotations(Index::default(), annotations);
    put(&mut index, found);
    let ingest = store.ingest()?;
    store.update(|entries| {
        taken(entries, name, &reference, Existing::Refuse)?;
        let mut entry = written(&index, &ingest)?;
        let digest = entry.0.digest.clone();
        entry.set_list_id(&digest);
        names::assign(entries, entry, Some(&reference));
        Ok(digest)
    })
}

/// Whether there is such a list already, to which images may be added.
fn taken(entries: &[Entry], name: &str, reference: &Reference, existing: Existing) -> Result<bool> {
    let Found::Name(at, _) = names::find(entries, &reference.to_string())? else { return Ok(false) };
    if entries[at].is_list() && existing == Existing::Amend {
        return Ok(true);
    }
    let what = if entries[at].is_list() { "a list" } else { "an image" };
    Err(Error::conflict(format!("there is {what} called {name}"))
        .hint("choose another name, or remove it; --amend adds to a list"))
}

/// Adds an image to a list, pulled for its platform where it is not here; all of
/// another list. The list's new digest.
pub(crate) fn add(dirs: &Dirs, list: &str, image: &str, said: &Said, ownership: Ownership) -> Result<Digest> {
    let store = ImageStore::open(&dirs.images())?;
    // Before anything is pulled for it.
    name_of(dirs, list)?;
    let found = gather(dirs, &store, image, said, ownership)?;
    change(&store, list, |index| {
        put(index, found);
        Ok(())
    })
}

/// The manifests of an image, with what is said of it over itself.
fn gather(
    dirs: &Dirs,
    store: &ImageStore,
    image: &str,
    said: &Said,
    ownership: Ownership,
) -> Result<Vec<Descriptor>> {
    let mut found = descriptors(store, image)?;
    if found.is_empty() {
        let platform = said.architecture.as_ref().map(|architecture| Platform {
            os: said.os.clone().unwrap_or_else(|| "linux".into()),
            architecture: architecture.clone(),
            variant: said.variant.clone(),
        });
        let options = PullOptions { platform, ..PullOptions::default() };
        let image = image.strip_prefix("docker://").unwrap_or(image);
        pull(dirs, image, &options, ownership, &mut |_| {})?;
        found = descriptors(store, image)?;
    }
    for descriptor in &mut found {
        said.apply(descriptor);
    }
    Ok(found)
}

/// The same image again is said anew, not twice.
fn put(index: &mut Index, found: Vec<Descriptor>) {
    for descriptor in found {
        index.manifests.retain(|other| other.digest != descriptor.digest);
        index.manifests.push(descriptor);
    }
}

/// Says something else of an image in a list.
///
/// # Errors
/// `NotFound` where the list does not have it.
pub(crate) fn annotate(dirs: &Dirs, list: &str, image: &str, said: &Said) -> Result<Digest> {
    let store = ImageStore::open(&dirs.images())?;
    let wanted = digest_of(&store, image)?;
    change(&store, list, |index| {
        let entry = index.manifests.iter_mut().find(|entry| entry.digest == wanted);
        said.apply(entry.ok_or_else(|| not_in(list, image))?);
        Ok(())
    })
}

/// Annotates the list itself.
pub(crate) fn annotate_list(
    dirs: &Dirs,
    list: &str,
    annotations: BTreeMap<String, String>,
) -> Result<Digest> {
    let store = ImageStore::open(&dirs.images())?;
    change(&store, list, |index| {
        *index = with_annotations(std::mem::take(index), annotations);
        Ok(())
    })
}

/// Takes an image out of a list.
///
/// # Errors
/// `NotFound` where the list does not have it.
pub(crate) fn remove(dirs: &Dirs, list: &str, image: &str) -> Result<Digest> {
    let store = ImageStore::open(&dirs.images())?;
    let wanted = digest_of(&store, image)?;
    change(&store, list, |index| {
        let before = index.manifests.len();
        index.manifests.retain(|entry| entry.digest != wanted);
        if index.manifests.len() == before { Err(not_in(list, image)) } else { Ok(()) }
    })
}

/// Whether there is a list of this name or id.
pub(crate) fn exists(dirs: &Dirs, name: &str) -> Result<bool> {
    let entries = ImageStore::at(&dirs.images()).entries()?;
    Ok(!positions(&entries, name)?.is_empty())
}

/// The name of the list that `name` stands for, by which all of the engine finds
/// it; its digest where it has lost its name.
///
/// # Errors
/// `NotFound`; `Conflict` where an id is of several lists.
pub(crate) fn name_of(dirs: &Dirs, name: &str) -> Result<String> {
    let entries = ImageStore::at(&dirs.images()).entries()?;
    let entry = &entries[one(&entries, name)?];
    Ok(entry.name().map_or_else(|| entry.0.digest.to_string(), |name| name.to_string()))
}

/// The lists that `name` stands for: by name, by digest, and by the digest that
/// each had when it was made, which scripts keep. An id is of several where they
/// were made alike.
fn positions(entries: &[Entry], name: &str) -> Result<Vec<usize>> {
    match names::find(entries, name)? {
        Found::Name(at, _) => return Ok(if is_list(&entries[at]) { vec![at] } else { Vec::new() }),
        Found::Image(all) if !all.iter().any(|at| is_list(&entries[*at])) => return Ok(Vec::new()),
        Found::Image(_) | Found::Nothing => {}
    }
    let wanted = name.strip_prefix("sha256:").unwrap_or(name);
    let has = |entry: &Entry| {
        let ids = [Some(entry.0.digest.clone()), entry.list_id()];
        is_list(entry) && ids.iter().flatten().any(|id| id.hex().starts_with(wanted))
    };
    Ok(entries.iter().enumerate().filter(|(_, entry)| has(entry)).map(|(at, _)| at).collect())
}

/// The one list that `name` stands for.
fn one(entries: &[Entry], name: &str) -> Result<usize> {
    match positions(entries, name)?.as_slice() {
        [at] => Ok(*at),
        [] if matches!(names::find(entries, name)?, Found::Nothing) => Err(no_such_list(name)),
        [] => Err(Error::invalid(format!("{name} is an image, not a list"))
            .hint("make a list: coracle manifest create NAME")),
        several => {
            let names: Vec<String> =
                several.iter().filter_map(|at| Some(entries[*at].name()?.familiar())).collect();
            Err(Error::conflict(format!("the id {name} is of several lists: {}", names.join(", ")))
                .hint("name the one that is meant"))
        }
    }
}

impl Said {
    fn apply(&self, descriptor: &mut Descriptor) {
        let mut platform = descriptor.platform.take().unwrap_or_else(Platform::host);
        if let Some(os) = &self.os {
            platform.os.clone_from(os);
        }
        if let Some(architecture) = &self.architecture {
            platform.architecture.clone_from(architecture);
        }
        if self.variant.is_some() {
            platform.variant.clone_from(&self.variant);
        }
        descriptor.platform = Some(platform);
        descriptor.annotations.extend(self.annotations.clone());
    }
}

/// An index of another tool's counts as a list too.
pub(super) fn is_list(entry: &Entry) -> bool {
    entry.is_list() || entry.0.media_type == OCI_INDEX && entry.manifest_digest() == entry.0.digest
}

fn list_name(name: &str) -> Result<Reference> {
    let text =
        if crate::types::reference::has_domain(name) { name.to_owned() } else { format!("localhost/{name}") };
    Reference::to_give(&text)
}

fn with_annotations(mut index: Index, annotations: BTreeMap<String, String>) -> Index {
    if !annotations.is_empty() {
        let mut all = index.other.get("annotations").cloned().unwrap_or_else(|| json!({}));
        for (key, value) in annotations {
            all[key] = json!(value);
        }
        index.other.insert("annotations".into(), all);
    }
    index
}

/// Changes a list of the store; its new digest.
fn change(store: &ImageStore, name: &str, change: impl FnOnce(&mut Index) -> Result<()>) -> Result<Digest> {
    let ingest = store.ingest()?;
    store.update(|entries| {
        let at = one(entries, name)?;
        let bytes = store.blobs().document(&entries[at].0.digest, MANIFEST_MAX)?;
        let mut index: Index = serde_json::from_slice(&bytes).context(|| format!("read the list {name}"))?;
        change(&mut index)?;
        let mut entry = written(&index, &ingest)?;
        let digest = entry.0.digest.clone();
        let old = entries[at].clone();
        entry.set_name(old.name().as_ref());
        entry.set_list_id(&old.list_id().unwrap_or_else(|| old.0.digest.clone()));
        entries[at] = entry;
        if !entries.iter().any(|other| other.0.digest == old.0.digest) {
            store.blobs().remove(&old.0.digest)?;
        }
        Ok(digest)
    })
}

fn written(index: &Index, ingest: &crate::image::blob::Ingest) -> Result<Entry> {
    let bytes = serde_json::to_vec(index).context(|| "write the list")?;
    let mut entry = Entry(Descriptor::new(OCI_INDEX, ingest.put(&bytes)?, bytes.len() as u64));
    entry.0.annotations.insert(LIST.to_owned(), String::new());
    Ok(entry)
}

/// The manifests of a local image or list; none where it is not here.
fn descriptors(store: &ImageStore, image: &str) -> Result<Vec<Descriptor>> {
    let entries = store.entries()?;
    let image = image.strip_prefix("docker://").unwrap_or(image);
    let image = image.strip_prefix("containers-storage:").unwrap_or(image);
    let at = match names::find(&entries, image)? {
        Found::Name(at, _) => at,
        Found::Image(all) => all[0],
        Found::Nothing => return Ok(Vec::new()),
    };
    let entry = &entries[at];
    if is_list(entry) {
        let bytes = store.blobs().document(&entry.0.digest, MANIFEST_MAX)?;
        return match crate::image::manifest::parse(&bytes, None)? {
            Document::Index(index) => Ok(index.manifests),
            Document::Manifest(_) => Ok(Vec::new()),
        };
    }
    let image = store.read(entry, None)?;
    let media_type = image.manifest.media_type.as_deref().unwrap_or(crate::image::manifest::OCI_MANIFEST);
    let mut descriptor = Descriptor::new(media_type, image.manifest_digest, image.manifest_size);
    descriptor.platform = Some(image.config.platform());
    Ok(vec![descriptor])
}

/// The digest that is meant, by itself or by a local name.
fn digest_of(store: &ImageStore, image: &str) -> Result<Digest> {
    if let Ok(digest) = Digest::parse(image) {
        return Ok(digest);
    }
    descriptors(store, image)?
        .into_iter()
        .next()
        .map(|descriptor| descriptor.digest)
        .ok_or_else(|| no_such_image(image))
}

fn no_such_list(name: &str) -> Error {
    Error::not_found(format!("no such list: {name}")).hint("make it: coracle manifest create NAME")
}

fn not_in(list: &str, image: &str) -> Error {
    Error::not_found(format!("{list} does not have {image}"))
        .hint(format!("see what it has: coracle manifest inspect {list}"))
}
