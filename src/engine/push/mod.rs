//! A local image to a registry: blobs first, in parallel, then what names them.
//!
//! Layers go up as the blobs that are here, so that the digests stay what they
//! were. `convert` makes others where the user asks for it, and where a layer is
//! not compressed at all.

mod convert;

use super::events::note_image;
use super::images::no_such_image;
use super::registry_access::{RegistryOptions, Settings};
use crate::dirs::Dirs;
use crate::error::{Context, Error, Result};
use crate::image::blob::{Blobs, Ingest};
use crate::image::manifest::{
    self, Descriptor, Document, Index, MANIFEST_MAX, Manifest, OCI_INDEX, OCI_MANIFEST,
};
use crate::image::names::{self, Found};
use crate::image::store::{Entry, ImageStore};
use crate::registry::client::{Access, Client};
use crate::registry::download::{Meter, Worker, in_parallel};
use crate::registry::upload::{Upload, Uploaded};
use crate::types::digest::Digest;
use crate::types::platform::Platform;
use crate::types::progress::Report;
use crate::types::reference::Reference;
pub(crate) use convert::{Compress, Conversion, Form};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::{Mutex, PoisonError};

#[derive(Clone, Debug, Default)]
pub(crate) struct PushOptions {
    pub(crate) registry: RegistryOptions,
    pub(crate) conversion: Conversion,
    /// Of an index, this platform's image alone.
    pub(crate) platform: Option<Platform>,
}

/// What the registry has now.
#[derive(Clone, Debug)]
pub(crate) struct Pushed {
    pub(crate) reference: Reference,
    pub(crate) digest: Digest,
    /// Bytes of the manifest or index.
    pub(crate) size: u64,
}

/// Pushes an image under its own name, or as `destination`. Starts threads.
///
/// # Errors
/// `NotFound` where the image is not here, `Failed` where the registry refuses.
pub(crate) fn push(
    dirs: &Dirs,
    image: &str,
    destination: Option<&str>,
    options: &PushOptions,
    tell: &mut dyn FnMut(Report),
) -> Result<Pushed> {
    let store = ImageStore::at(&dirs.images());
    let entries = store.entries()?;
    let (entry, named) = match names::find(&entries, image)? {
        Found::Name(at, name) => (&entries[at], Some(name)),
        Found::Image(all) => (&entries[all[0]], None),
        Found::Nothing => return Err(no_such_image(image)),
    };
    let reference = match (destination, named) {
        (Some(text), _) => destination_of(text)?,
        (None, Some(name)) if name.digest.is_none() => name,
        (None, _) => {
            return Err(Error::invalid(format!("{image} is no name that could be pushed to"))
                .hint("say where: `coracle push IMAGE REGISTRY/NAME:TAG`"));
        }
    };
    let settings = Settings::load(dirs)?;
    let endpoint = settings.conf.endpoint(&reference)?;
    let sources = Sources::of(&store, &entries, &reference);
    let access = Access::Push { from: sources.repositories() };
    let push = Push {
        reference: &reference,
        client: settings.client(endpoint, access, &options.registry)?,
        store: &store,
        sources,
        options,
    };
    tell(Report::Line(format!("The push refers to repository [{}]", reference.repository())));
    let pushed = push.run(entry, tell).context(|| format!("push {}", reference.familiar()))?;
    if let Err(error) = remember(&store, entry, &pushed) {
        tell(Report::Warning(format!("the digest of {} is not remembered: {error}", reference.familiar())));
    }
    note_image(dirs, "push", &reference.familiar(), Some(reference.familiar()));
    Ok(pushed)
}

/// Where the name is one of the image here, what the registry has under it is
/// among its digests from now on: layers that were compressed on the way made it
/// another one.
fn remember(store: &ImageStore, image: &Entry, pushed: &Pushed) -> Result<()> {
    store.update(|entries| {
        let manifest = image.manifest_digest();
        for entry in entries.iter_mut().filter(|entry| entry.manifest_digest() == manifest) {
            if entry.name().as_ref() == Some(&pushed.reference) {
                entry.set_source_digest(&pushed.digest);
            }
        }
        Ok(())
    })
}

/// The names of a repository, for `--all-tags`.
///
/// # Errors
/// `Invalid` where a tag is given, `NotFound` where there is none here.
pub(crate) fn tags_of(dirs: &Dirs, repository: &str) -> Result<Vec<String>> {
    let wanted = Reference::parse(repository)?;
    let last = repository.rsplit('/').next().unwrap_or_default();
    if wanted.digest.is_some() || last.contains(':') {
        return Err(
            Error::invalid("a tag can't be used with --all-tags/-a").hint("name the repository alone")
        );
    }
    let entries = ImageStore::at(&dirs.images()).entries()?;
    let names = entries.iter().filter_map(Entry::name).filter(|name| name.digest.is_none());
    let mut of_it: Vec<String> =
        names.filter(|name| name.repository() == wanted.repository()).map(|name| name.to_string()).collect();
    of_it.sort();
    if of_it.is_empty() { Err(no_such_image(repository)) } else { Ok(of_it) }
}

fn destination_of(text: &str) -> Result<Reference> {
    let name = text.strip_prefix("docker://").unwrap_or(text);
    let transport = text.split_once(':').map(|(transport, _)| transport);
    if let Some(transport @ ("oci" | "oci-archive" | "docker-archive" | "dir" | "docker-daemon")) = transport
    {
        return Err(Error::invalid(format!("push goes to registries, not to {transport}:"))
            .hint("`coracle save` writes files and directories"));
    }
    let reference = Reference::parse(name)?;
    if reference.digest.is_some() {
        return Err(Error::invalid("cannot push to a digest: it follows from the content").hint("give a tag"));
    }
    Ok(reference)
}

/// Which other repositories of the same registry have which blobs, as far as
/// images from there are here.
struct Sources(BTreeMap<Digest, String>);

impl Sources {
    /// Repositories that a token is asked for: each makes it longer.
    const MOST: usize = 4;

    fn of(store: &ImageStore, entries: &[Entry], to: &Reference) -> Self {
        let mut blobs = BTreeMap::new();
        let mut repositories: Vec<String> = Vec::new();
        for entry in entries.iter().filter(|entry| entry.is_from_a_registry()) {
            let Some(name) = entry.name() else { continue };
            if name.domain != to.domain || name.path == to.path {
                continue;
            }
            if !repositories.contains(&name.path) {
                if repositories.len() == Self::MOST {
                    continue;
                }
                repositories.push(name.path.clone());
            }
            // What cannot be read is not mounted: the push says what is wrong.
            let Ok(manifest) = store.read_manifest(&entry.manifest_digest()) else { continue };
            for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
                blobs.entry(blob.digest.clone()).or_insert_with(|| name.path.clone());
            }
        }
        Self(blobs)
    }

    fn repositories(&self) -> Vec<String> {
        let mut all: Vec<String> = self.0.values().cloned().collect();
        all.sort();
        all.dedup();
        all
    }
}

struct Push<'a> {
    reference: &'a Reference,
    client: Client,
    store: &'a ImageStore,
    sources: Sources,
    options: &'a PushOptions,
}

/// A manifest and the blobs that it names.
struct Whole {
    digest: Digest,
    bytes: Vec<u8>,
    manifest: Manifest,
}

/// An index as it is written, and as it is read.
type WholeIndex = (Vec<u8>, Index);

/// A blob on its way, and where its bytes are.
struct Blob {
    described: Descriptor,
    is_layer: bool,
}

impl Push<'_> {
    fn run(&self, entry: &Entry, tell: &mut dyn FnMut(Report)) -> Result<Pushed> {
        let (index, images) = self.read(entry)?;
        let conversion = self.options.conversion;
        let ingest = conversion.may_change(images.iter().map(|image| &image.manifest));
        let ingest = ingest.then(|| ImageStore::open(self.store.directory())?.ingest()).transpose()?;
        // Not before: the place for new blobs is made under the lock that this takes.
        let held = self.store.hold(self.store.pin()?, blobs_of(&images))?;
        let placed = self.blobs(&images, &held.blobs, ingest.as_ref(), tell)?;
        // All is read. The registry may be of this very store (`registry serve`),
        // and could not take the manifest where this holds the lock.
        drop(held);
        let mut changed = BTreeMap::new();
        let mut last = None;
        for image in &images {
            let new = conversion.manifest(&image.manifest, &placed)?;
            let (bytes, media_type) = match new {
                Some(new) => {
                    let bytes = serde_json::to_vec(&new).context(|| "write the manifest")?;
                    (bytes, new.media_type.unwrap_or_else(|| OCI_MANIFEST.to_owned()))
                }
                None => {
                    let own = image.manifest.media_type.clone();
                    (image.bytes.clone(), own.unwrap_or_else(|| OCI_MANIFEST.to_owned()))
                }
            };
            let digest = image.digest.again(&bytes);
            if index.is_some() {
                self.client.put_manifest(&digest.to_string(), &media_type, &bytes)?;
            }
            changed.insert(image.digest.clone(), (digest, bytes.len() as u64, media_type.clone()));
            last = Some((bytes, media_type));
        }
        let (bytes, media_type) = match index {
            Some((bytes, index)) => conversion.index(bytes, index, &changed)?,
            None => last.ok_or_else(|| Error::invalid("there is no manifest"))?,
        };
        let digest = self.client.put_manifest(&self.reference.manifest_name(), &media_type, &bytes)?;
        Ok(Pushed { reference: self.reference.clone(), digest, size: bytes.len() as u64 })
    }

    /// The index, where the entry is a real one, and all manifests.
    fn read(&self, entry: &Entry) -> Result<(Option<WholeIndex>, Vec<Whole>)> {
        let digest = entry.manifest_digest();
        let bytes = self.store.blobs().document(&digest, MANIFEST_MAX)?;
        let index = match manifest::parse(&bytes, None).context(|| format!("manifest {digest}"))? {
            Document::Manifest(manifest) => {
                let wanted = self.options.platform.as_ref();
                let has = wanted.map(|_| self.store.config_of(&manifest)).transpose()?;
                if let (Some(wanted), Some(has)) = (wanted, has.map(|config| config.platform()))
                    && !has.satisfies(wanted)
                {
                    return Err(Error::not_found(format!(
                        "the image that is here is for {has}: it does not provide the platform {wanted}"
                    ))
                    .hint("pull it for that platform first: coracle pull --platform"));
                }
                return Ok((None, vec![Whole { digest, bytes, manifest }]));
            }
            Document::Index(index) => index,
        };
        if let Some(platform) = &self.options.platform {
            let chosen = manifest::choose(&index, platform)?;
            return Ok((None, vec![self.whole(&chosen.digest)?]));
        }
        let images = index.manifests.iter().map(|entry| self.whole(&entry.digest));
        let images = images.collect::<Result<Vec<_>>>().map_err(|error| {
            error.hint("to push the image of one platform that is here, say which with --platform")
        })?;
        Ok((Some((bytes, index)), images))
    }

    fn whole(&self, digest: &Digest) -> Result<Whole> {
        let bytes = self.store.blobs().document(digest, MANIFEST_MAX)?;
        match manifest::parse(&bytes, None).context(|| format!("manifest {digest}"))? {
            Document::Manifest(manifest) => Ok(Whole { digest: digest.clone(), bytes, manifest }),
            Document::Index(_) => Err(Error::invalid(format!("{digest} is an index inside an index"))),
        }
    }

    /// Brings all blobs there; what became of those that were made anew.
    fn blobs(
        &self,
        images: &[Whole],
        held: &Blobs,
        ingest: Option<&Ingest>,
        tell: &mut dyn FnMut(Report),
    ) -> Result<BTreeMap<Digest, Descriptor>> {
        let mut blobs: Vec<Blob> = Vec::new();
        for image in images {
            let layers = image.manifest.layers.iter().map(|layer| (layer, true));
            for (described, is_layer) in layers.chain([(&image.manifest.config, false)]) {
                if !blobs.iter().any(|blob| blob.described.digest == described.digest) {
                    blobs.push(Blob { described: described.clone(), is_layer });
                }
            }
        }
        // The largest first: it decides when all are there.
        blobs.sort_by_key(|blob| std::cmp::Reverse(blob.described.size));
        let placed = Mutex::new(BTreeMap::new());
        in_parallel(&blobs, tell, |blob, worker| {
            let new = self.blob(blob, held, ingest, worker)?;
            let mut placed = placed.lock().unwrap_or_else(PoisonError::into_inner);
            placed.insert(blob.described.digest.clone(), new);
            Ok(())
        })?;
        Ok(placed.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn blob(
        &self,
        blob: &Blob,
        held: &Blobs,
        ingest: Option<&Ingest>,
        worker: &Worker<'_>,
    ) -> Result<Descriptor> {
        let Descriptor { digest, .. } = &blob.described;
        let mut described = blob.described.clone();
        let mut made_anew = None;
        if blob.is_layer && self.options.conversion.changes(&blob.described) {
            let form = self.options.conversion.target_name(&blob.described);
            // An earlier push made it, and the registry may have it still.
            if let Some(mut known) = self.store.blobs().remade(digest, &form)
                && self.client.has_blob(&known.digest)?
            {
                known.annotations.clone_from(&blob.described.annotations);
                worker.ended(digest.short(), "Layer already exists");
                return Ok(known);
            }
            let ingest = ingest.ok_or_else(|| Error::failed("there is no place for a new layer"))?;
            let made = self.options.conversion.layer(held, &blob.described, ingest, worker)?;
            // Not of an image that is being removed: the note would stay.
            if self.store.blobs().contains(&blob.described) {
                self.store.blobs().remember_remade(digest, &form, &made.described);
            }
            (described, made_anew) = (made.described, Some(made.path));
        }
        let open = |from: u64| {
            let file = match &made_anew {
                Some(path) => File::open(path).context(|| format!("open {}", path.display()))?,
                None => held.open(digest)?,
            };
            reader(file, from, &described, worker)
        };
        let upload = Upload {
            digest: &described.digest,
            size: described.size,
            mount_from: self.sources.0.get(&described.digest).map(String::as_str),
            open: &open,
        };
        let how = self.client.upload(&upload).context(|| format!("blob {}", described.digest))?;
        if blob.is_layer {
            let text = match how {
                Uploaded::Exists => "Layer already exists".to_owned(),
                Uploaded::Mounted(from) => format!("Mounted from {from}"),
                Uploaded::Sent => "Pushed".to_owned(),
            };
            worker.ended(digest.short(), &text);
        }
        Ok(described)
    }
}

/// All blobs that are read.
fn blobs_of(images: &[Whole]) -> impl Iterator<Item = Digest> {
    images.iter().flat_map(|image| {
        std::iter::once(&image.manifest.config).chain(&image.manifest.layers).map(|blob| blob.digest.clone())
    })
}

/// The bytes of a blob from `from` on.
fn reader<'a>(
    mut file: File,
    from: u64,
    described: &Descriptor,
    worker: &'a Worker<'_>,
) -> Result<Box<dyn Read + 'a>> {
    file.seek(SeekFrom::Start(from)).context(|| format!("read blob {}", described.digest))?;
    let meter = Meter { id: described.digest.short(), verb: "Pushing", done: from, total: described.size };
    Ok(Box::new(worker.watch(file, meter)))
}

/// Of an index: its media type where it has none.
pub(super) fn index_type(index: &Index) -> String {
    index.media_type.clone().unwrap_or_else(|| OCI_INDEX.to_owned())
}
