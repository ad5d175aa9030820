//! A reference to layers on disk.

use super::events::note_image;
use super::images::{LocalImage, find, unpack_blob, warn_of_platform};
use super::load::load_place;
use super::registry_access::{RegistryOptions, Settings};
use crate::dirs::Dirs;
use crate::error::{Context, Error, Kind, Result};
use crate::image::archive::copy;
use crate::image::blob::Ingest;
use crate::image::compression::decoder;
use crate::image::config::{CONFIG_MAX, ImageConfig};
use crate::image::manifest::{
    self, DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, Document, MANIFEST_MAX, Manifest, OCI_INDEX,
    OCI_MANIFEST,
};
use crate::image::names;
use crate::image::partial::Partial;
use crate::image::store::{ImageStore, StoredImage};
use crate::registry::client::{Access, Client, Served};
use crate::registry::config::Endpoint;
use crate::registry::download::{Meter, Worker, in_parallel};
use crate::registry::stream::small_blob;
use crate::storage::layers::LayerStore;
use crate::storage::unpack::Ownership;
use crate::types::container::PullPolicy;
use crate::types::digest::Digest;
use crate::types::platform::Platform;
use crate::types::progress::Report;
use crate::types::reference::{Reference, has_domain};
use crate::types::transport::Place;

/// Indexes that lead to one another before a manifest.
const INDEXES_MAX: usize = 4;
/// What a registry is asked for.
pub(super) const ACCEPT: &[&str] = &[OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST];

#[derive(Clone, Debug, Default)]
pub(crate) struct PullOptions {
    /// This machine's where `None`.
    pub(crate) platform: Option<Platform>,
    pub(crate) registry: RegistryOptions,
}

/// Gets an image and unpacks it. `tell` hears what is going on. Starts threads: this process is in its user namespace already.
///
/// # Errors
/// `NotFound` where the registry has no such image, `Invalid` for what it has
/// and cannot be used, `Failed` where it cannot be reached.
pub(crate) fn pull(
    dirs: &Dirs,
    name: &str,
    options: &PullOptions,
    ownership: Ownership,
    tell: &mut dyn FnMut(Report),
) -> Result<LocalImage> {
    let name = match Place::parse(name)? {
        Place::Local(place) => return load_place(dirs, &place, options.platform.as_ref(), ownership),
        Place::Registry(name) | Place::Name(name) => name,
    };
    let name = name.as_str();
    let settings = Settings::load(dirs)?;
    let candidates = settings.conf.candidates(name)?;
    let short = has_short_name(name, &candidates)?;
    let mut failures = Vec::new();
    for reference in &candidates {
        match from_endpoints(dirs, (reference, short.as_deref()), options, ownership, &settings, tell) {
            Ok(image) => {
                let name = reference.familiar();
                let short = name.strip_suffix(":latest").unwrap_or(&name).to_owned();
                note_image(dirs, "pull", &name, Some(short));
                return Ok(image);
            }
            Err(error) => failures.push(error.context(format!("pull {}", reference.familiar()))),
        }
    }
    Err(best_of(failures))
}

/// With several registries the one that answered best explains it; the others
/// are told as well.
pub(super) fn best_of(mut failures: Vec<Error>) -> Error {
    let best = failures.iter().position(|error| error.kind() != Kind::NotFound).unwrap_or(0);
    if failures.is_empty() {
        return Error::invalid("there is no registry to ask")
            .hint("name one, or set unqualified-search-registries in registries.conf");
    }
    let error = failures.remove(best);
    failures.iter().fold(error, |error, other| error.hint(format!("asked as well: {other}")))
}

/// As [`pull`], unless the policy finds the image that is here good enough.
///
/// # Errors
/// `NotFound` where nothing is here and nothing may be pulled.
pub(crate) fn by_policy(
    dirs: &Dirs,
    name: &str,
    policy: PullPolicy,
    options: &PullOptions,
    ownership: Ownership,
    tell: &mut dyn FnMut(Report),
) -> Result<LocalImage> {
    let local = match policy {
        PullPolicy::Always => None,
        PullPolicy::Missing | PullPolicy::Never | PullPolicy::Newer => {
            find(dirs, name, options.platform.as_ref())?
        }
    };
    match (local, policy) {
        (Some(image), PullPolicy::Missing | PullPolicy::Never) => Ok(image),
        (None, PullPolicy::Never) => Err(Error::not_found(format!("no such image: {name}"))
            .hint("the policy `never` was given: use another one, or load it")),
        (Some(local), PullPolicy::Newer) => match pull(dirs, name, options, ownership, tell) {
            Err(error) => {
                tell(Report::Warning(format!("using the local image: {error}")));
                Ok(local)
            }
            result => result,
        },
        (_, PullPolicy::Always | PullPolicy::Missing | PullPolicy::Newer) => {
            pull(dirs, name, options, ownership, tell)
        }
    }
}

/// From the first mirror that has it, else from the registry itself.
fn from_endpoints(
    dirs: &Dirs,
    names: (&Reference, Option<&str>),
    options: &PullOptions,
    ownership: Ownership,
    settings: &Settings,
    tell: &mut dyn FnMut(Report),
) -> Result<LocalImage> {
    let mut endpoints = settings.conf.endpoints(names.0)?;
    let last = endpoints.pop();
    for mirror in endpoints {
        let repository = mirror.repository();
        let pull = Pull::new(dirs, names, options, ownership, (settings, mirror));
        match pull.and_then(|pull| pull.run(tell)) {
            Ok(image) => return Ok(image),
            Err(error) => tell(Report::Warning(format!("mirror {repository}: {error}"))),
        }
    }
    let own = last.ok_or_else(|| Error::invalid("there is no registry to pull from"))?;
    Pull::new(dirs, names, options, ownership, (settings, own))?.run(tell)
}

/// What the local look-up is to know a name by that leads to a registry only
/// through the user's configuration.
fn has_short_name(name: &str, candidates: &[Reference]) -> Result<Option<String>> {
    let plain = Reference::parse(name)?;
    let leads_on = !has_domain(name) && plain.digest.is_none() && *candidates != [plain.clone()];
    Ok(leads_on.then(|| plain.familiar()))
}

/// The names of all images of a repository, for `--all-tags`.
///
/// # Errors
/// `Invalid` where a tag is given; what the registry says.
pub(crate) fn all_tags(dirs: &Dirs, name: &str, options: &PullOptions) -> Result<Vec<String>> {
    let last = name.rsplit('/').next().unwrap_or_default();
    if name.contains('@') || last.contains(':') {
        return Err(Error::invalid("tag can't be used with --all-tags/-a").hint("name the repository alone"));
    }
    let settings = Settings::load(dirs)?;
    let mut failure = None;
    for reference in settings.conf.candidates(name)? {
        let endpoint = settings.conf.endpoint(&reference)?;
        let tags = settings.client(endpoint, Access::Pull, &options.registry)?.tags();
        match tags {
            Ok(tags) if !tags.is_empty() => {
                return Ok(tags.iter().map(|tag| format!("{}:{tag}", reference.repository())).collect());
            }
            Ok(_) => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| Error::not_found(format!("{name} has no tags"))))
}

/// One pull.
struct Pull<'a> {
    reference: &'a Reference,
    /// What was typed, where it was no full name.
    short: Option<&'a str>,
    platform: Option<&'a Platform>,
    ownership: Ownership,
    client: Client,
    store: ImageStore,
    layers: LayerStore,
}

/// What the registry has, without its layers.
struct Resolved {
    image: StoredImage,
    /// Digest of what is under the name: of the index, where there is one.
    source: Digest,
    manifest_bytes: Vec<u8>,
    config_bytes: Vec<u8>,
}

/// Why a blob did not arrive.
enum Stopped {
    /// The transfer ended; what is here is good.
    Cut,
    /// What came is not what was promised, or could not be kept.
    Wrong,
}

/// A layer to download and the places it is unpacked to: chain and diff id.
struct LayerJob<'a> {
    blob: &'a Descriptor,
    targets: Vec<(Digest, &'a Digest)>,
}

impl<'a> Pull<'a> {
    fn new(
        dirs: &Dirs,
        (reference, short): (&'a Reference, Option<&'a str>),
        options: &'a PullOptions,
        ownership: Ownership,
        (settings, endpoint): (&Settings, Endpoint),
    ) -> Result<Self> {
        let layers = LayerStore::open(&dirs.layers())?;
        // What killed pulls left behind goes on the way.
        layers.sweep()?;
        let store = ImageStore::open(&dirs.images())?;
        store.blobs().sweep_partials();
        Ok(Self {
            reference,
            short,
            platform: options.platform.as_ref(),
            ownership,
            client: settings.client(endpoint, Access::Pull, &options.registry)?,
            store,
            layers,
        })
    }

    fn run(&self, tell: &mut dyn FnMut(Report)) -> Result<LocalImage> {
        let resolved = self.resolve()?;
        let familiar = self.reference.familiar();
        let from = format!("{}: Pulling from {}", self.reference.manifest_name(), self.reference.path);
        tell(Report::Line(from));
        warn_of_platform(&resolved.image.config, self.platform, tell);
        let known = self.is_known(&resolved)?;
        let ingest = self.store.ingest()?;
        // Again: another process may remove an image that shares layers while
        // this one looks at them.
        for attempt in 0..3 {
            self.fetch_layers(&resolved.image, tell)?;
            if self.publish(&resolved, &ingest)? {
                break;
            }
            if attempt == 2 {
                return Err(Error::failed("layers were removed while they were pulled").hint("try again"));
            }
        }
        tell(Report::Line(format!("Digest: {}", resolved.source)));
        let what = if known { "Image is up to date for" } else { "Downloaded newer image for" };
        tell(Report::Line(format!("Status: {what} {familiar}")));
        Ok(LocalImage::new(resolved.image, Some(self.reference.clone())))
    }

    /// Manifest and config, verified; the index is followed to this platform.
    fn resolve(&self) -> Result<Resolved> {
        let served = self.client.manifest(&self.reference.manifest_name(), ACCEPT, MANIFEST_MAX)?;
        let wanted = self.reference.digest.as_ref();
        let source = wanted.map_or_else(|| Digest::of(&served.bytes), |wanted| wanted.again(&served.bytes));
        if wanted.is_some_and(|wanted| *wanted != source) {
            return Err(Error::invalid(format!("the registry sent other content than asked for: {source}")));
        }
        let (digest, served, mut manifest) = self.manifest_under(source.clone(), served)?;
        if manifest.media_type.is_none() {
            manifest.media_type = served.media_type.filter(|kind| manifest::is_manifest(kind));
        }
        let manifest_bytes = served.bytes;
        let config_bytes = self.config(&manifest.config)?;
        let config = ImageConfig::parse(&config_bytes)?;
        let size = manifest_bytes.len() as u64;
        let id = manifest.config.digest.clone();
        let image = StoredImage::new(id, digest, size, manifest, config)?;
        if let Some(wanted) = self.platform {
            let has = image.config.platform();
            if !has.satisfies(wanted) {
                return Err(Error::not_found(format!("the image is for {has}, not for {wanted}")));
            }
        }
        Ok(Resolved { image, source, manifest_bytes, config_bytes })
    }

    /// The manifest for the platform: an index is followed to it, and one inside it.
    fn manifest_under(&self, mut digest: Digest, mut served: Served) -> Result<(Digest, Served, Manifest)> {
        let host = Platform::host();
        for _ in 0..=INDEXES_MAX {
            match parse(&served)? {
                Document::Manifest(manifest) => return Ok((digest, served, manifest)),
                Document::Index(index) => {
                    let entry = manifest::choose(&index, self.platform.unwrap_or(&host))?;
                    served = self.document_under(entry)?;
                    digest = entry.digest.clone();
                }
            }
        }
        Err(Error::invalid(format!("the image is more than {INDEXES_MAX} indexes deep")))
    }

    /// The manifest that an index entry describes, verified.
    fn document_under(&self, entry: &Descriptor) -> Result<Served> {
        let served = self.client.manifest(&entry.digest.to_string(), ACCEPT, MANIFEST_MAX)?;
        if !entry.digest.is_of(&served.bytes) || served.bytes.len() as u64 != entry.size {
            return Err(Error::invalid(format!("the registry sent other content for {}", entry.digest)));
        }
        Ok(served)
    }

    fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        if descriptor.size > CONFIG_MAX {
            return Err(Error::invalid(format!("the image config has more than {CONFIG_MAX} bytes")));
        }
        if self.store.blobs().contains(descriptor)
            && let Ok(bytes) = self.store.blobs().document(&descriptor.digest, CONFIG_MAX)
        {
            return Ok(bytes);
        }
        small_blob(&self.client, &descriptor.digest, descriptor.size)
    }

    fn is_known(&self, resolved: &Resolved) -> Result<bool> {
        let name = self.reference.clone().without_moot_tag().to_string();
        let entries = self.store.entries()?;
        let known = entries.iter().find(|entry| entry.name_text() == Some(&name));
        Ok(known.is_some_and(|entry| entry.manifest_digest() == resolved.image.manifest_digest))
    }

    fn fetch_layers(&self, image: &StoredImage, tell: &mut dyn FnMut(Report)) -> Result<()> {
        let mut jobs: Vec<LayerJob<'_>> = Vec::new();
        let ids = image.config.chain_ids().into_iter().zip(&image.config.rootfs.diff_ids);
        for (blob, ids) in image.manifest.layers.iter().zip(ids) {
            // The same blob may be several layers (empty ones): it is got once.
            match jobs.iter_mut().find(|job| job.blob.digest == blob.digest) {
                Some(job) if job.blob.size == blob.size => job.targets.push(ids),
                Some(_) => return Err(Error::invalid(format!("layer {} has two sizes", blob.digest))),
                None => jobs.push(LayerJob { blob, targets: vec![ids] }),
            }
        }
        in_parallel(&jobs, tell, |job, worker| self.fetch_layer(job, worker))
    }

    fn fetch_layer(&self, job: &LayerJob<'_>, worker: &Worker<'_>) -> Result<()> {
        let short = job.blob.digest.short();
        let missing = |(chain_id, _): &&(Digest, &Digest)| !self.layers.contains(chain_id);
        if self.store.blobs().contains(job.blob) {
            worker.ended(short, "Already exists");
        } else {
            let first = job.targets.iter().find(missing);
            let came = self.download(job.blob, first, worker)?;
            worker.ended(short, if came { "Pull complete" } else { "Already exists" });
        }
        for (chain_id, diff_id) in job.targets.iter().filter(missing) {
            unpack_blob(&self.store, &self.layers, &job.blob.digest, (chain_id, diff_id), self.ownership)?;
        }
        Ok(())
    }

    /// Streams a blob into the store and, on the way, its content into a layer.
    /// `false` where another process has got it meanwhile.
    fn download(
        &self,
        blob: &Descriptor,
        unpack_to: Option<&(Digest, &Digest)>,
        worker: &Worker<'_>,
    ) -> Result<bool> {
        let Some(mut partial) = self.store.blobs().partial(blob)? else { return Ok(false) };
        loop {
            let begun = partial.have() > 0;
            match self.arrive(blob, unpack_to, &mut partial, worker) {
                Ok(()) => return Ok(true),
                // The beginning is good, and the next pull needs not get it again.
                Err((error, Stopped::Cut)) => {
                    if partial.have() == 0 {
                        partial.discard();
                    }
                    return Err(error);
                }
                // A beginning of another day may be what is wrong.
                Err((_, Stopped::Wrong)) if begun => partial.clear()?,
                Err((error, Stopped::Wrong)) => {
                    partial.discard();
                    return Err(error);
                }
            }
        }
    }

    fn arrive(
        &self,
        blob: &Descriptor,
        unpack_to: Option<&(Digest, &Digest)>,
        partial: &mut Partial,
        worker: &Worker<'_>,
    ) -> Result<(), (Error, Stopped)> {
        let have = partial.have();
        let meter = Meter { id: blob.digest.short(), verb: "Downloading", done: have, total: blob.size };
        let network = worker.watch(self.client.blob(&blob.digest, blob.size, have), meter);
        let mut arrival = partial.arrive(network);
        let mut stream = || -> Result<()> {
            if let Some((chain_id, diff_id)) = unpack_to {
                let (_, mut tar) = decoder(&mut arrival)?;
                self.layers.unpack(chain_id, diff_id, &mut *tar, self.ownership)?;
            }
            // What follows the compressed stream is part of the blob as well.
            copy(&mut arrival, &mut std::io::sink()).context(|| "download").map(drop)
        };
        let streamed = stream();
        let what = || format!("layer {}", blob.digest);
        match streamed {
            Ok(()) => arrival.finish_as(blob).context(what).map_err(|error| (error, Stopped::Wrong)),
            Err(error) => {
                let stopped = if arrival.was_cut() { Stopped::Cut } else { Stopped::Wrong };
                // The registry's words say more than what the decoder makes of them.
                let error = arrival.rest().inner().failure().unwrap_or(error);
                Err((error.context(what()), stopped))
            }
        }
    }

    /// Gives the image its name. `false` where a blob or layer has gone since.
    fn publish(&self, resolved: &Resolved, ingest: &Ingest) -> Result<bool> {
        let image = &resolved.image;
        self.store.update(|entries| {
            let layers = image.config.chain_ids();
            let whole = image.manifest.layers.iter().all(|blob| self.store.blobs().contains(blob))
                && layers.iter().all(|chain_id| self.layers.contains(chain_id));
            if !whole {
                return Ok(false);
            }
            ingest.put_as(&image.id, &resolved.config_bytes)?;
            ingest.put_as(&image.manifest_digest, &resolved.manifest_bytes)?;
            let mut entry = ImageStore::entry(ingest, image, Some(&resolved.source))?;
            entry.set_tagged(jiff::Timestamp::now());
            names::assign(entries, entry, Some(self.reference));
            if let (Some(short), Some(entry)) = (self.short, entries.last_mut()) {
                entry.set_short_name(short);
            }
            Ok(true)
        })
    }
}

fn parse(served: &Served) -> Result<Document> {
    manifest::parse(&served.bytes, served.media_type.as_deref())
}
