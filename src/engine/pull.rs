//! A reference to layers on disk.

use super::events::note_image;
use super::images::{LocalImage, unpack_blob};
use super::load::load_place;
use crate::dirs::Dirs;
use crate::error::{Context, Error, Kind, Result};
use crate::image::archive::copy;
use crate::image::blob::{Ingest, Tee};
use crate::image::compression::decoder;
use crate::image::config::{CONFIG_MAX, ImageConfig};
use crate::image::manifest::{
    self, DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, Document, MANIFEST_MAX, OCI_INDEX, OCI_MANIFEST,
};
use crate::image::names;
use crate::image::store::{ImageStore, StoredImage};
use crate::registry::auth::Credentials;
use crate::registry::client::{Client, Served};
use crate::registry::config::RegistriesConf;
use crate::registry::download::{Worker, in_parallel};
use crate::registry::http::{Failure, Retry, with_retries};
use crate::storage::layers::LayerStore;
use crate::storage::unpack::Ownership;
use crate::types::digest::Digest;
use crate::types::platform::Platform;
use crate::types::reference::{Reference, has_domain};
use crate::types::transport::Place;
use std::io::Read;
use std::path::PathBuf;

const ACCEPT: &[&str] = &[OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST];

#[derive(Clone, Debug, Default)]
pub(crate) struct PullOptions {
    /// This machine's where `None`.
    pub(crate) platform: Option<Platform>,
    /// `--tls-verify`; what registries.conf and loopback say where `None`.
    pub(crate) tls_verify: Option<bool>,
    /// `--creds`; those of the auth files where `None`.
    pub(crate) credentials: Option<Credentials>,
    /// `--authfile`
    pub(crate) auth_file: Option<PathBuf>,
}

/// Gets an image and unpacks it. `tell` hears what is going on, a line at a
/// time. Starts threads: this process is in its user namespace already.
///
/// # Errors
/// `NotFound` where the registry has no such image, `Invalid` for what it has
/// and cannot be used, `Failed` where it cannot be reached.
pub(crate) fn pull(
    dirs: &Dirs,
    name: &str,
    options: &PullOptions,
    ownership: Ownership,
    tell: &mut dyn FnMut(&str),
) -> Result<LocalImage> {
    let name = match Place::parse(name)? {
        Place::Local(place) => return load_place(dirs, &place, options.platform.as_ref(), ownership),
        Place::Registry(name) | Place::Name(name) => name,
    };
    let name = name.as_str();
    let files = ConfigFiles::of(dirs);
    let conf = RegistriesConf::load(&files.registries)?;
    let candidates = candidates(name, &conf)?;
    let mut failures = Vec::new();
    for reference in &candidates {
        let pull = Pull::new(dirs, reference, options, ownership, (&conf, &files));
        match pull.and_then(|pull| pull.run(tell)) {
            Ok(image) => {
                let name = reference.familiar();
                let short = name.strip_suffix(":latest").unwrap_or(&name).to_owned();
                note_image(dirs, "pull", &name, Some(short));
                return Ok(image);
            }
            Err(error) => failures.push(error.context(format!("pull {}", reference.familiar()))),
        }
    }
    // With several registries the one that answered best explains it.
    let best = failures.iter().position(|error| error.kind() != Kind::NotFound).unwrap_or(0);
    Err(failures.swap_remove(best))
}

/// Where a name may be: where it says, or in docker.io, or where the user's
/// registries.conf has names without a registry looked for.
fn candidates(name: &str, conf: &RegistriesConf) -> Result<Vec<Reference>> {
    let reference = Reference::parse(name)?;
    if has_domain(name) || conf.unqualified_search_registries.is_empty() {
        return Ok(vec![reference]);
    }
    let search = conf.unqualified_search_registries.iter().take(20);
    search.map(|registry| Reference::parse(&format!("{registry}/{name}"))).collect()
}

/// The user's files that steer pulls, in the order in which they are asked.
struct ConfigFiles {
    registries: Vec<PathBuf>,
    auth: Vec<PathBuf>,
}

impl ConfigFiles {
    fn of(dirs: &Dirs) -> Self {
        let variable =
            |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let config_home = dirs.config.parent().map(PathBuf::from);
        let runtime = dirs.runtime.parent().map(PathBuf::from);
        let home = variable("HOME");
        let registries = match variable("CONTAINERS_REGISTRIES_CONF") {
            Some(only) => vec![only],
            None => config_home
                .iter()
                .map(|dir| dir.join("containers/registries.conf"))
                .chain([PathBuf::from("/etc/containers/registries.conf")])
                .collect(),
        };
        let docker = crate::dirs::relocation()
            .docker_config
            .or_else(|| variable("DOCKER_CONFIG"))
            .or_else(|| Some(home?.join(".docker")));
        let auth = match variable("REGISTRY_AUTH_FILE") {
            Some(only) => vec![only],
            None => [
                runtime.map(|dir| dir.join("containers/auth.json")),
                config_home.map(|dir| dir.join("containers/auth.json")),
                docker.map(|dir| dir.join("config.json")),
            ]
            .into_iter()
            .flatten()
            .collect(),
        };
        Self { registries, auth }
    }
}

/// One pull.
struct Pull<'a> {
    reference: &'a Reference,
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

/// A layer to download and the places it is unpacked to: chain and diff id.
struct LayerJob<'a> {
    blob: &'a Descriptor,
    targets: Vec<(Digest, &'a Digest)>,
}

impl<'a> Pull<'a> {
    fn new(
        dirs: &Dirs,
        reference: &'a Reference,
        options: &'a PullOptions,
        ownership: Ownership,
        (conf, files): (&RegistriesConf, &ConfigFiles),
    ) -> Result<Self> {
        let mut endpoint = conf.endpoint(reference)?;
        if let Some(verify) = options.tls_verify {
            endpoint.insecure = !verify;
        }
        let credentials = match (&options.credentials, &options.auth_file) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(file)) => Credentials::find(std::slice::from_ref(file), &endpoint)?,
            (None, None) => Credentials::find(&files.auth, &endpoint)?,
        };
        let layers = LayerStore::open(&dirs.layers())?;
        // What killed pulls left behind goes on the way.
        layers.sweep()?;
        Ok(Self {
            reference,
            platform: options.platform.as_ref(),
            ownership,
            client: Client::new(endpoint, credentials),
            store: ImageStore::open(&dirs.images())?,
            layers,
        })
    }

    fn run(&self, tell: &mut dyn FnMut(&str)) -> Result<LocalImage> {
        let resolved = self.resolve()?;
        let familiar = self.reference.familiar();
        tell(&format!("{}: Pulling from {}", self.reference.manifest_name(), self.reference.path));
        self.warn_of_platform(&resolved.image, tell);
        let known = self.is_known(&resolved)?;
        let ingest = self.store.ingest()?;
        // Twice: another process may remove an image that shares layers while
        // this one looks at them.
        for attempt in 0..3 {
            self.fetch_layers(&resolved.image, &ingest, tell)?;
            if self.publish(&resolved, &ingest)? {
                break;
            }
            if attempt == 2 {
                return Err(Error::failed("layers were removed while they were pulled").hint("try again"));
            }
        }
        tell(&format!("Digest: {}", resolved.source));
        let what = if known { "Image is up to date for" } else { "Downloaded newer image for" };
        tell(&format!("Status: {what} {familiar}"));
        Ok(LocalImage::new(resolved.image, Some(self.reference.clone())))
    }

    /// Manifest and config, verified; the index is followed to this platform.
    fn resolve(&self) -> Result<Resolved> {
        let served = self.client.manifest(&self.reference.manifest_name(), ACCEPT, MANIFEST_MAX)?;
        let source = Digest::of(&served.bytes);
        if self.reference.digest.as_ref().is_some_and(|digest| *digest != source) {
            return Err(Error::invalid(format!("the registry sent other content than asked for: {source}")));
        }
        let (manifest_bytes, manifest, media_type) = match parse(&served)? {
            Document::Manifest(manifest) => (served.bytes, manifest, served.media_type),
            Document::Index(index) => {
                let host = Platform::host();
                let entry = manifest::choose(&index, self.platform.unwrap_or(&host))?;
                let served = self.document_under(entry)?;
                match parse(&served)? {
                    Document::Manifest(manifest) => (served.bytes, manifest, served.media_type),
                    Document::Index(_) => {
                        return Err(Error::invalid("the image index leads to another index"));
                    }
                }
            }
        };
        let mut manifest = manifest;
        if manifest.media_type.is_none() {
            manifest.media_type = media_type.filter(|kind| manifest::is_manifest(kind));
        }
        let config_bytes = self.config(&manifest.config)?;
        let config = ImageConfig::parse(&config_bytes)?;
        let (digest, size) = (Digest::of(&manifest_bytes), manifest_bytes.len() as u64);
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

    /// The manifest that an index entry describes, verified.
    fn document_under(&self, entry: &Descriptor) -> Result<Served> {
        let served = self.client.manifest(&entry.digest.to_string(), ACCEPT, MANIFEST_MAX)?;
        if Digest::of(&served.bytes) != entry.digest || served.bytes.len() as u64 != entry.size {
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
        with_retries(|| {
            let mut bytes = Vec::new();
            let reader = self.client.blob(&descriptor.digest, descriptor.size)?;
            let read = reader.take(descriptor.size + 1).read_to_end(&mut bytes);
            read.context(|| "read the image config")
                .map_err(|error| Failure { error, retry: Retry::Soon })?;
            if Digest::of(&bytes) == descriptor.digest && bytes.len() as u64 == descriptor.size {
                Ok(bytes)
            } else {
                Err(Error::invalid(format!("the registry sent other content for {}", descriptor.digest))
                    .into())
            }
        })
    }

    fn warn_of_platform(&self, image: &StoredImage, tell: &mut dyn FnMut(&str)) {
        let (has, host) = (image.config.platform(), Platform::host());
        if self.platform.is_none() && !has.satisfies(&host) {
            tell(&format!("warning: the image is for {has}, this machine is {host}"));
        }
    }

    fn is_known(&self, resolved: &Resolved) -> Result<bool> {
        let name = self.reference.to_string();
        let entries = self.store.entries()?;
        let known = entries.iter().find(|entry| entry.name_text() == Some(&name));
        Ok(known.is_some_and(|entry| entry.manifest_digest() == resolved.image.manifest_digest))
    }

    fn fetch_layers(&self, image: &StoredImage, ingest: &Ingest, tell: &mut dyn FnMut(&str)) -> Result<()> {
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
        in_parallel(&jobs, tell, |job, worker| self.fetch_layer(job, ingest, worker))
    }

    fn fetch_layer(&self, job: &LayerJob<'_>, ingest: &Ingest, worker: &Worker<'_>) -> Result<()> {
        let short = job.blob.digest.short();
        let missing = |(chain_id, _): &&(Digest, &Digest)| !self.layers.contains(chain_id);
        if self.store.blobs().contains(job.blob) {
            worker.tell(format!("{short}: Already exists"));
        } else {
            let first = job.targets.iter().find(missing);
            with_retries(|| self.download(job.blob, first, ingest, worker))?;
            worker.tell(format!("{short}: Pull complete"));
        }
        for (chain_id, diff_id) in job.targets.iter().filter(missing) {
            unpack_blob(&self.store, &self.layers, &job.blob.digest, (chain_id, diff_id), self.ownership)?;
        }
        Ok(())
    }

    /// Streams a blob into the store and, on the way, its content into a layer.
    fn download(
        &self,
        blob: &Descriptor,
        unpack_to: Option<&(Digest, &Digest)>,
        ingest: &Ingest,
        worker: &Worker<'_>,
    ) -> Result<(), Failure> {
        let mut network = worker.watch(self.client.blob(&blob.digest, blob.size)?);
        let mut stream = || -> Result<()> {
            let mut writer = ingest.writer(blob.size)?;
            let mut tee = Tee { inner: &mut network, writer: &mut writer };
            if let Some((chain_id, diff_id)) = unpack_to {
                let (_, mut tar) = decoder(&mut tee)?;
                self.layers.unpack(chain_id, diff_id, &mut *tar, self.ownership)?;
            }
            // What follows the compressed stream is part of the blob as well.
            copy(&mut tee, &mut std::io::sink()).context(|| "download")?;
            ingest.publish(&writer.finish_as(blob)?)
        };
        let result = stream().context(|| format!("layer {}", blob.digest));
        result.map_err(|error| Failure { error, retry: if network.failed { Retry::Soon } else { Retry::No } })
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
            ingest.put(&resolved.config_bytes)?;
            ingest.put(&resolved.manifest_bytes)?;
            let entry = ImageStore::entry(ingest, image, Some(&resolved.source))?;
            names::assign(entries, entry, Some(self.reference));
            Ok(true)
        })
    }
}

fn parse(served: &Served) -> Result<Document> {
    manifest::parse(&served.bytes, served.media_type.as_deref())
}
