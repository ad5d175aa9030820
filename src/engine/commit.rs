//! `commit`: a container's changes as an image.

use super::Engine;
use super::images::{LocalImage, ensure_layers};
use super::instruction::apply_changes;
use super::load::give_names;
use super::trees::no_files;
use crate::error::{BestEffort, Context, Error, Result};
use crate::image::archive::publish;
use crate::image::blob::Ingest;
use crate::image::config::{CONFIG_MAX, Execution, History, ImageConfig};
use crate::image::manifest::{Descriptor, Manifest, OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD};
use crate::image::store::ImageStore;
use crate::state::events;
use crate::state::store::Snapshot;
use crate::storage::descent::OPEN_DIR;
use crate::storage::pack::{Form, pack};
use crate::types::container::{ContainerRecord, RecordedRoot};
use crate::types::digest::{Digest, Hashed};
use crate::types::event::{Event, EventKind};
use crate::types::id::ContainerId;
use crate::types::mount::MountSource;
use crate::types::reference::Reference;
use crate::types::status::Status;
use rustix::fs::Mode;
use std::os::fd::AsFd;

/// `commit`'s flags.
#[derive(Clone, Debug, Default)]
pub(crate) struct CommitOptions {
    pub(crate) reference: Option<Reference>,
    pub(crate) author: Option<String>,
    pub(crate) message: Option<String>,
    /// Instructions of a Dockerfile.
    pub(crate) changes: Vec<String>,
    /// Stop all its processes meanwhile.
    pub(crate) pause: bool,
    /// One layer instead of the image's and one more.
    pub(crate) squash: bool,
    pub(crate) format: ImageFormat,
    /// The container's volumes become the image's.
    pub(crate) include_volumes: bool,
}

/// Whose media types the manifest has; the documents are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ImageFormat {
    #[default]
    Oci,
    Docker,
}

impl ImageFormat {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "oci" => Ok(Self::Oci),
            "docker" => Ok(Self::Docker),
            _ => Err(Error::invalid(format!("unknown image format {text:?}")).hint("it is oci or docker")),
        }
    }
}

impl Engine {
    /// Makes an image of the container as it is now.
    ///
    /// # Errors
    /// `Invalid` for a wrong change, and for a container without an image.
    pub(crate) fn commit(&self, id: &ContainerId, options: &CommitOptions) -> Result<LocalImage> {
        let snapshot = self.snapshot(id)?;
        let store = ImageStore::open(&self.dirs.images())?;
        let base = Base::read(&store, &snapshot.record)?;
        // Before the work: wrong instructions are found at once.
        let execution = execution(&snapshot.record, &base.config, options)?;
        let ownership = self.ownership()?;
        let ingest = store.ingest()?;
        let layer = {
            let _paused = self.hold_still(&snapshot, options)?;
            self.pack_layer(&snapshot, options, &ingest)?
        };
        let mut config = base.config;
        let mut layers = base.manifest.layers;
        if options.squash {
            layers.clear();
            config.rootfs.diff_ids.clear();
            config.history.clear();
        }
        config.rootfs.diff_ids.push(layer.diff_id);
        layers.push(layer.blob);
        describe(&mut config, &snapshot.record, options);
        config.config = execution;
        let bytes = serde_json::to_vec(&config).context(|| "write the image config")?;
        let descriptor = Descriptor::new(OCI_CONFIG, ingest.put(&bytes)?, bytes.len() as u64);
        let manifest = with_media_types(Manifest::oci(descriptor, layers), options.format);
        let names = options.reference.clone().into_iter().collect();
        let loaded = publish(&ingest, manifest, config, names)?;
        let image = LocalImage::new(loaded.image.clone(), options.reference.clone());
        give_names(&store, vec![loaded], || ensure_layers(&self.dirs, &image, ownership))?;
        self.tell_commit(&snapshot.record, &image, options);
        Ok(image)
    }

    /// The container's own layer, or all of it, as a compressed blob.
    fn pack_layer(&self, snapshot: &Snapshot, options: &CommitOptions, ingest: &Ingest) -> Result<Layer> {
        let trees = self.trees(snapshot)?;
        let below = self.below(&trees.lowers)?;
        let owner = |uid, gid| trees.owners.inside(uid, gid);
        let writer = ingest.writer(u64::MAX)?;
        let gzip = flate2::write::GzEncoder::new(writer, flate2::Compression::fast());
        let out = Hashed::new(gzip);
        let packed = if options.squash {
            let whole = self.whole(snapshot)?;
            pack(whole.as_fd(), Form::Whole { lower: below.as_fd() }, &owner, out)
        } else {
            let upper = rustix::fs::open(&trees.upper, OPEN_DIR, Mode::empty())
                .context(|| format!("open {}", trees.upper.display()))?;
            pack(upper.as_fd(), Form::Layer { lower: below.as_fd() }, &owner, out)
        }?;
        let (gzip, diff_id, _) = packed.finish();
        let writer = gzip.finish().context(|| "write the layer")?;
        let spooled = writer.finish();
        ingest.publish(&spooled)?;
        Ok(Layer { diff_id, blob: Descriptor::new(OCI_LAYER_GZIP, spooled.digest, spooled.size) })
    }

    /// Pauses a running container until the value is dropped.
    fn hold_still(&self, snapshot: &Snapshot, options: &CommitOptions) -> Result<Option<Paused<'_>>> {
        if !options.pause || !matches!(snapshot.status, Status::Running { paused: false, .. }) {
            return Ok(None);
        }
        self.pause(&snapshot.record.id)?;
        Ok(Some(Paused { engine: self, id: snapshot.record.id.clone() }))
    }

    fn tell_commit(&self, record: &ContainerRecord, image: &LocalImage, options: &CommitOptions) {
        let mut event = events::of_container(record, "commit").with("imageID", image.id.to_string());
        if let Some(message) = &options.message {
            event = event.with("comment", message.clone());
        }
        if let Some(reference) = &options.reference {
            event = event.with("imageRef", reference.to_string());
            let tagged = Event::now(EventKind::Image, "tag", image.id.to_string());
            events::append(&self.dirs, &tagged.with("name", reference.familiar())).or_ignore();
        }
        events::append(&self.dirs, &event).or_ignore();
    }
}

/// A container that goes on when this is dropped.
struct Paused<'a> {
    engine: &'a Engine,
    id: ContainerId,
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        // It may have been killed, or set going, meanwhile.
        self.engine.unpause(&self.id).or_ignore();
    }
}

/// A layer that was written.
struct Layer {
    diff_id: Digest,
    blob: Descriptor,
}

/// What the container was made of.
struct Base {
    manifest: Manifest,
    config: ImageConfig,
}

impl Base {
    fn read(store: &ImageStore, record: &ContainerRecord) -> Result<Self> {
        if record.root == RecordedRoot::Nothing {
            return Err(no_files(record));
        }
        let RecordedRoot::Image { manifest, reference, .. } = &record.root else {
            return Err(Error::invalid(format!(
                "container {} has no image: its root is a directory",
                record.name
            ))
            .hint("make an image of it by `coracle export` and `coracle import`"));
        };
        let gone = |error: Error| {
            error
                .context(format!("the image {reference} of container {}", record.name))
                .hint("pull or load it again, or use `coracle export` and `coracle import`")
        };
        let manifest = store.read_manifest(manifest).map_err(gone)?;
        if let Some(lost) = manifest.layers.iter().find(|layer| !store.blobs().contains(layer)) {
            return Err(gone(Error::not_found(format!("its layer {} is not here", lost.digest))));
        }
        let config =
            ImageConfig::parse(&store.blobs().document(&manifest.config.digest, CONFIG_MAX).map_err(gone)?)?;
        Ok(Self { manifest, config })
    }
}

/// What a container of the new image runs: what this one does, under the changes.
fn execution(record: &ContainerRecord, base: &ImageConfig, options: &CommitOptions) -> Result<Execution> {
    let config = &record.config;
    let filled = |words: &[String]| (!words.is_empty()).then(|| words.to_vec());
    let mut run = Execution {
        user: config.user.clone().unwrap_or_default(),
        exposed_ports: config.expose.clone(),
        env: config.env.clone(),
        entrypoint: config.entrypoint.as_deref().and_then(filled),
        cmd: filled(&config.cmd),
        volumes: base.config.volumes.clone(),
        working_dir: config.workdir.clone().unwrap_or_default(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone(),
        healthcheck: base.config.healthcheck.clone(),
        shell: base.config.shell.clone(),
        on_build: base.config.on_build.clone(),
    };
    for mount in &config.mounts {
        // Docker has a container's anonymous volumes in its config, as the image's.
        let volume = match &mount.source {
            MountSource::Anonymous => true,
            MountSource::Volume { name } => {
                options.include_volumes || record.anonymous_volumes.contains(name)
            }
            MountSource::Bind { .. } | MountSource::Overlay { .. } => options.include_volumes,
            MountSource::Tmpfs { .. } | MountSource::Image { .. } => false,
        };
        if volume && !run.volumes.contains(&mount.target) {
            run.volumes.push(mount.target.clone());
        }
    }
    apply_changes(&mut run, &options.changes)?;
    Ok(run)
}

/// Author, time and one more step of the history.
fn describe(config: &mut ImageConfig, record: &ContainerRecord, options: &CommitOptions) {
    let now = jiff::Timestamp::now().to_string();
    let words = record.config.entrypoint.iter().flatten().chain(&record.config.cmd);
    let command = words.map(String::as_str).collect::<Vec<_>>().join(" ");
    config.created = Some(now.clone());
    config.author.clone_from(&options.author);
    config.comment.clone_from(&options.message);
    // Steps without a layer are named as such: each other one has its own.
    config.history.push(History {
        created: Some(now),
        created_by: Some(command),
        author: options.author.clone(),
        comment: options.message.clone(),
        empty_layer: false,
    });
}

/// Docker's names for the same things, one to one.
fn with_media_types(mut manifest: Manifest, format: ImageFormat) -> Manifest {
    const PAIRS: [(&str, &str); 4] = [
        (OCI_CONFIG, "application/vnd.docker.container.image.v1+json"),
        (OCI_LAYER, "application/vnd.docker.image.rootfs.diff.tar"),
        (OCI_LAYER_GZIP, "application/vnd.docker.image.rootfs.diff.tar.gzip"),
        (OCI_LAYER_ZSTD, "application/vnd.docker.image.rootfs.diff.tar.zstd"),
    ];
    for blob in std::iter::once(&mut manifest.config).chain(&mut manifest.layers) {
        let pair = PAIRS.iter().find(|(oci, docker)| blob.media_type == *oci || blob.media_type == *docker);
        if let Some((oci, docker)) = pair {
            let name = if format == ImageFormat::Oci { oci } else { docker };
            (*name).clone_into(&mut blob.media_type);
        }
    }
    if format == ImageFormat::Docker {
        manifest.media_type = Some(crate::image::manifest::DOCKER_MANIFEST.to_owned());
    }
    manifest
}
