//! Local images: find, list, tag, describe.

use super::events::note_image;
use super::spread::in_parts;
use crate::dirs::Dirs;
use crate::error::{Context, Error, Kind, Result};
use crate::image::compression::decoder;
use crate::image::config::{Execution, ImageConfig, parse_time};
use crate::image::listing::{Listing, Summary};
use crate::image::manifest::Descriptor;
use crate::image::names::{self, Found};
use crate::image::store::{Entry, ImageStore, StoredImage};
use crate::storage::layers::LayerStore;
use crate::storage::unpack::Ownership;
use crate::types::digest::Digest;
use crate::types::platform::Platform;
use crate::types::progress::Report;
use crate::types::reference::Reference;
use crate::types::transport::Place;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;

/// An image of the local store.
#[derive(Clone, Debug)]
pub(crate) struct LocalImage {
    /// As found or normalised; for an id the image's first name, `None` where
    /// it has no name.
    pub(crate) reference: Option<Reference>,
    /// Digest of the config.
    pub(crate) id: Digest,
    pub(crate) manifest: Digest,
    pub(crate) config: ImageConfig,
    /// Chain ids from the lowest layer to the topmost.
    pub(crate) layers: Vec<Digest>,
}

impl LocalImage {
    pub(crate) fn new(image: StoredImage, reference: Option<Reference>) -> Self {
        let layers = image.config.chain_ids();
        Self { reference, id: image.id, manifest: image.manifest_digest, config: image.config, layers }
    }

    /// The full reference; the id where there is none.
    pub(crate) fn name(&self) -> String {
        self.reference.as_ref().map_or_else(|| self.id.to_string(), ToString::to_string)
    }
}

/// Finds an image by reference, digest, id or unique prefix of an id. `None`
/// where it is not here, or here for another platform than the one asked for.
/// One read of the index, one manifest, one config.
///
/// # Errors
/// `Conflict` where a prefix fits several images, `Invalid` where `name` cannot
/// name an image.
pub(crate) fn find(dirs: &Dirs, name: &str, platform: Option<&Platform>) -> Result<Option<LocalImage>> {
    let store = ImageStore::at(&dirs.images());
    let entries = store.entries()?;
    let name = match Place::parse(name)? {
        Place::Local(_) => {
            // A local image may be called so, `oci:1` for one.
            let known = names::find(&entries, name).is_ok_and(|found| found != Found::Nothing);
            if known { name.to_owned() } else { return Ok(None) }
        }
        Place::Registry(name) | Place::Name(name) => name,
    };
    let name = name.as_str();
    let (entry, reference) = match names::find(&entries, name)? {
        Found::Nothing => return Ok(None),
        Found::Name(at, reference) => (&entries[at], Some(reference)),
        Found::Image(all) => {
            let first = all.iter().find(|at| entries[**at].name_text().is_some()).or(all.first());
            let Some(entry) = first.map(|at| &entries[*at]) else { return Ok(None) };
            (entry, entry.name())
        }
    };
    let image = match store.read(entry, platform) {
        // An index of another tool's making, without this platform.
        Err(error) if error.kind() == Kind::NotFound && platform.is_some() => return Ok(None),
        result => result.context(|| format!("image {name}"))?,
    };
    let fits = platform.is_none_or(|wanted| image.config.platform().satisfies(wanted));
    Ok(fits.then(|| LocalImage::new(image, reference)))
}

/// As [`find`], where a missing image is an error.
#[cfg(test)]
pub(crate) fn get(dirs: &Dirs, name: &str) -> Result<LocalImage> {
    find(dirs, name, None)?.ok_or_else(|| no_such_image(name))
}

pub(super) fn no_such_image(name: &str) -> Error {
    Error::not_found(format!("no such image: {name}")).hint("`coracle images` lists the local ones")
}

/// Says, in docker's words, that the image is for another machine, unless one
/// was asked for.
pub(super) fn warn_of_platform(config: &ImageConfig, asked: Option<&Platform>, tell: &mut dyn FnMut(Report)) {
    let (has, host) = (config.platform(), Platform::host());
    if asked.is_none() && !has.runs_on(&host) {
        tell(Report::Warning(format!(
            "The requested image's platform ({has}) does not match the detected host platform ({host}) \
             and no specific platform was requested"
        )));
    }
}

/// Keeps images and layers from being removed until the value is dropped. To
/// be held from the look-up of an image until the record of a container that
/// uses it is on disk.
pub(crate) fn pin(dirs: &Dirs) -> Result<Option<File>> {
    ImageStore::at(&dirs.images()).pin()
}

/// Makes sure that all layers of the image are unpacked: from its blobs.
pub(crate) fn ensure_layers(dirs: &Dirs, image: &LocalImage, ownership: Ownership) -> Result<()> {
    let layers = LayerStore::open(&dirs.layers())?;
    if image.layers.iter().all(|chain_id| layers.contains(chain_id)) {
        return Ok(());
    }
    let store = ImageStore::at(&dirs.images());
    let stored = store.read_manifest(&image.manifest)?;
    let diff_ids = &image.config.rootfs.diff_ids;
    for ((chain_id, diff_id), blob) in image.layers.iter().zip(diff_ids).zip(&stored.layers) {
        if !layers.contains(chain_id) {
            unpack_blob(&store, &layers, &blob.digest, (chain_id, diff_id), ownership)?;
        }
    }
    Ok(())
}

/// Unpacks one layer from its blob; `ids` are its chain id and diff id.
pub(super) fn unpack_blob(
    store: &ImageStore,
    layers: &LayerStore,
    blob: &Digest,
    ids: (&Digest, &Digest),
    ownership: Ownership,
) -> Result<()> {
    let unpack = || {
        let (_, mut tar) = decoder(store.blobs().open(blob)?)?;
        layers.unpack(ids.0, ids.1, &mut *tar, ownership)
    };
    unpack().context(|| format!("unpack layer {blob}"))
}

/// One name of one image, or one nameless image.
#[derive(Clone, Debug)]
pub(crate) struct ImageSummary {
    pub(crate) id: Digest,
    /// Without a name: `None`.
    pub(crate) reference: Option<Reference>,
    /// The digest that the registry serves it under.
    pub(crate) digest: Digest,
    pub(crate) created: Option<Timestamp>,
    /// Bytes of all layers, unpacked.
    pub(crate) size: u64,
    pub(crate) labels: BTreeMap<String, String>,
    /// All names that it has and had, the latest first.
    pub(crate) history: Vec<String>,
}

/// All local images, the newest first. Entries whose documents cannot be read
/// are told as notes.
pub(crate) fn list(dirs: &Dirs, notes: &mut Vec<Error>) -> Result<Vec<ImageSummary>> {
    let store = ImageStore::at(&dirs.images());
    let layers = LayerStore::open(&dirs.layers())?;
    let known = Listing::read(store.blobs());
    let (mut rows, mut unknown) = (Vec::new(), Vec::new());
    for entry in store.entries()? {
        match known.get(&entry.manifest_digest()) {
            Some(summary) => rows.push(ImageSummary::of(&entry, summary.clone())),
            None => unknown.push(entry),
        }
    }
    let looks = in_parts(unknown, |part| {
        // Images share their lowest layers.
        let mut sizes = HashMap::new();
        part.into_iter().map(|entry| look(&store, &layers, &mut sizes, entry)).collect()
    });
    let mut news = Vec::new();
    for look in looks {
        match look {
            Ok(Look { entry, summary, lasts }) => {
                if lasts {
                    news.push((entry.manifest_digest(), summary.clone()));
                }
                rows.push(ImageSummary::of(&entry, summary));
            }
            Err(error) => notes.push(error),
        }
    }
    known.add(store.blobs(), news);
    rows.sort_by(|a, b| (b.created, &a.reference).cmp(&(a.created, &b.reference)));
    Ok(rows)
}

/// What the documents of an entry say.
struct Look {
    entry: Entry,
    summary: Summary,
    /// Whether it will be the same as long as the documents are there.
    lasts: bool,
}

/// Reads the documents of an entry; `sizes` holds those of the layers met before.
fn look(
    store: &ImageStore,
    layers: &LayerStore,
    sizes: &mut HashMap<Digest, u64>,
    entry: Entry,
) -> Result<Look> {
    let image = match store.read(&entry, None) {
        Ok(image) => image,
        // A list has no image for this machine, or none at all: it is one all the same.
        Err(_) if entry.is_list() => {
            let id = entry.0.digest.clone();
            let summary = Summary { id, created: None, size: 0, labels: BTreeMap::new() };
            return Ok(Look { entry, summary, lasts: false });
        }
        Err(error) => {
            let name = entry.name_text().map_or_else(|| entry.0.digest.to_string(), str::to_owned);
            return Err(error).context(|| format!("image {name}"));
        }
    };
    let (mut size, mut unpacked) = (0, true);
    for (id, blob) in layers_of(&image) {
        let known = sizes.get(&id).copied().or_else(|| layers.size(&id).ok());
        unpacked &= known.is_some();
        size += known.unwrap_or(blob.size);
        sizes.extend(known.map(|known| (id, known)));
    }
    // What an index of another tool's making stands for depends on the machine.
    let lasts = unpacked && image.manifest_digest == entry.manifest_digest();
    let (created, labels) = (image.config.created, image.config.config.labels);
    // Not that of its image, by which the list would not be found.
    let id = if entry.is_list() { entry.0.digest.clone() } else { image.id };
    Ok(Look { entry, summary: Summary { id, created, size, labels }, lasts })
}

impl ImageSummary {
    fn of(entry: &Entry, summary: Summary) -> Self {
        let history = entry.name_text().into_iter().chain(entry.former_names()).map(str::to_owned).collect();
        Self {
            id: summary.id,
            reference: entry.name(),
            digest: entry.source_digest(),
            created: summary.created.as_deref().and_then(parse_time),
            size: summary.size,
            labels: summary.labels,
            history,
        }
    }
}

/// Bytes of each layer unpacked; of its blob where it is not unpacked.
pub(super) fn layer_sizes(layers: &LayerStore, image: &StoredImage) -> Vec<u64> {
    layers_of(image).map(|(id, blob)| layers.size(&id).unwrap_or(blob.size)).collect()
}

/// The chain id and the blob of each layer, the lowest first.
fn layers_of(image: &StoredImage) -> impl Iterator<Item = (Digest, &Descriptor)> {
    image.config.chain_ids().into_iter().zip(&image.manifest.layers)
}

/// Gives an image one more name; another image that had the name loses it.
pub(crate) fn tag(dirs: &Dirs, source: &str, target: &str) -> Result<Reference> {
    let target_name = Reference::to_give(target)?;
    if !ImageStore::exists(&dirs.images()) {
        return Err(no_such_image(source));
    }
    ImageStore::open(&dirs.images())?
        .update(|entries| {
            let mut entry = match names::find(entries, source)? {
                Found::Name(at, _) => entries[at].clone(),
                Found::Image(all) => entries[all[0]].clone(),
                Found::Nothing => return Err(no_such_image(source)),
            };
            let id = entry.image_id().map(|id| id.to_string()).unwrap_or_default();
            entry.set_tagged(Timestamp::now());
            names::assign(entries, entry, Some(&target_name));
            Ok((target_name, id))
        })
        .map(|(name, id)| {
            note_image(dirs, "tag", &id, Some(name.familiar()));
            name
        })
}

/// Takes names from an image: those given, else all. The image stays, without
/// a name if need be.
pub(crate) fn untag(dirs: &Dirs, image: &str, which: &[String]) -> Result<()> {
    let parse = |name: &String| Reference::parse(name).map(Reference::without_moot_tag);
    let wanted = which.iter().map(parse).collect::<Result<Vec<_>>>()?;
    if !ImageStore::exists(&dirs.images()) {
        return Err(no_such_image(image));
    }
    let mut untagged = Vec::new();
    ImageStore::open(&dirs.images())?.update(|entries| {
        let of_image = same_image(entries, image)?;
        let ours: Vec<Reference> = of_image.iter().filter_map(|at| entries[*at].name()).collect();
        if let Some(foreign) = wanted.iter().find(|name| !ours.contains(name)) {
            return Err(Error::not_found(format!("{}: tag not known", foreign.familiar()))
                .hint(format!("it is none of the names of {image}")));
        }
        let gone =
            |entry: &Entry| entry.name().is_some_and(|name| wanted.is_empty() || wanted.contains(&name));
        let mut kept = None;
        let mut at = 0;
        entries.retain(|entry| {
            let remove = of_image.contains(&at) && gone(entry);
            at += 1;
            if remove {
                untagged.push((entry.image_id(), entry.name()));
                kept = Some(entry.clone());
            }
            !remove
        });
        if let Some(entry) = kept {
            names::assign(entries, entry, None);
        }
        Ok(())
    })?;
    for (id, name) in untagged {
        let id = id.map(|id| id.to_string()).unwrap_or_default();
        note_image(dirs, "untag", &id, name.map(|name| name.familiar()));
    }
    Ok(())
}

/// Positions of all entries of the image that `name` stands for.
pub(super) fn same_image(entries: &[Entry], name: &str) -> Result<Vec<usize>> {
    match names::find(entries, name)? {
        Found::Nothing => Err(no_such_image(name)),
        Found::Image(all) => Ok(all),
        Found::Name(at, _) => {
            let (id, manifest) = (entries[at].image_id(), entries[at].manifest_digest());
            let same =
                |entry: &Entry| entry.manifest_digest() == manifest || id.is_some() && entry.image_id() == id;
            Ok(entries.iter().enumerate().filter(|(_, entry)| same(entry)).map(|(at, _)| at).collect())
        }
    }
}

/// One step of the image's history, the newest first.
#[derive(Clone, Debug)]
pub(crate) struct HistoryStep {
    /// The image's, on the first; docker shows `<missing>` for the others.
    pub(crate) id: Option<Digest>,
    pub(crate) created: Option<Timestamp>,
    pub(crate) created_by: String,
    pub(crate) comment: String,
    /// Bytes of the layer, 0 for a step without one.
    pub(crate) size: u64,
    /// Full names, on the first.
    pub(crate) tags: Vec<Reference>,
}

/// How the image came to be, as far as it says; layers without a step are
/// steps without words.
pub(crate) fn history(dirs: &Dirs, name: &str) -> Result<Vec<HistoryStep>> {
    let (store, entries, at) = locate(dirs, name)?;
    let image = store.read(&entries[at], None)?;
    let mut sizes = layer_sizes(&LayerStore::open(&dirs.layers())?, &image).into_iter();
    let mut steps: Vec<HistoryStep> = image
        .config
        .history
        .iter()
        .map(|step| HistoryStep {
            id: None,
            created: step.created.as_deref().and_then(parse_time),
            created_by: step.created_by.clone().unwrap_or_default(),
            comment: step.comment.clone().unwrap_or_default(),
            size: if step.empty_layer { 0 } else { sizes.next().unwrap_or(0) },
            tags: Vec::new(),
        })
        .collect();
    steps.extend(sizes.map(|size| HistoryStep {
        id: None,
        created: None,
        created_by: String::new(),
        comment: String::new(),
        size,
        tags: Vec::new(),
    }));
    steps.reverse();
    if let Some(newest) = steps.first_mut() {
        newest.id = Some(image.id.clone());
        newest.tags = same_image(&entries, name)?.iter().filter_map(|at| entries[*at].name()).collect();
    }
    Ok(steps)
}

pub(super) fn locate(dirs: &Dirs, name: &str) -> Result<(ImageStore, Vec<Entry>, usize)> {
    let store = ImageStore::at(&dirs.images());
    let entries = store.entries()?;
    let at = match names::find(&entries, name)? {
        Found::Name(at, _) => at,
        Found::Image(all) => all[0],
        Found::Nothing => return Err(no_such_image(name)),
    };
    Ok((store, entries, at))
}

/// Docker's `image inspect` document.
pub(crate) fn inspect(dirs: &Dirs, name: &str) -> Result<Value> {
    let (store, entries, at) = locate(dirs, name)?;
    let image = store.read(&entries[at], None)?;
    let layers = LayerStore::open(&dirs.layers())?;
    let all = same_image(&entries, name)?;
    let mut tags = Vec::new();
    let mut digests = Vec::new();
    for entry in all.iter().map(|at| &entries[*at]) {
        if let Some(name) = entry.name() {
            if name.tag.is_some() {
                tags.push(name.familiar());
            }
            digests.push(name.at(&entry.source_digest()).familiar());
        }
    }
    digests.sort();
    digests.dedup();
    let tagged = all.iter().filter_map(|at| entries[*at].tagged()).max().map(|time| time.to_string());
    let config = &image.config;
    let size: u64 = layer_sizes(&layers, &image).iter().sum();
    let chain = config.chain_ids();
    let upper = chain.last().map(|top| layers.path(top));
    let lower: Vec<String> =
        chain.iter().rev().skip(1).map(|id| layers.path(id).display().to_string()).collect();
    Ok(json!({
        "Id": image.id,
        "Digest": entries[at].source_digest(),
        "RepoTags": tags,
        "RepoDigests": digests,
        "Parent": "",
        "Comment": config.comment.clone().or_else(|| config.history.last()?.comment.clone()).unwrap_or_default(),
        "Created": config.created.clone().unwrap_or_else(|| "0001-01-01T00:00:00Z".into()),
        "Author": config.author.clone().unwrap_or_default(),
        "Config": execution_document(&config.config),
        "Architecture": config.platform().architecture,
        "Variant": config.variant.clone().unwrap_or_default(),
        "Os": config.platform().os,
        "OsVersion": config.os_version.clone().unwrap_or_default(),
        "DockerVersion": config.docker_version.clone().unwrap_or_default(),
        "Size": size,
        "VirtualSize": size,
        "GraphDriver": {"Name": "overlay", "Data": {"UpperDir": upper, "LowerDir": lower.join(":")}},
        "RootFS": {"Type": "layers", "Layers": config.rootfs.diff_ids},
        "Metadata": {"LastTagTime": tagged.unwrap_or_else(|| "0001-01-01T00:00:00Z".into())},
        "Labels": config.config.labels,
        "ManifestType": image.manifest.media_type,
        "History": config.history,
        // Podman's.
        "User": config.config.user,
        "NamesHistory": names_history(&entries[at]),
        "Annotations": image.manifest.other.get("annotations").cloned().unwrap_or_else(|| json!({})),
        "HealthCheck": config.config.healthcheck,
    }))
}

/// The name and those before it, the latest first.
fn names_history(entry: &Entry) -> Vec<String> {
    let mut names: Vec<String> = entry.name().iter().map(ToString::to_string).collect();
    for former in entry.former_names() {
        if !names.iter().any(|name| name == former) {
            names.push(former.to_owned());
        }
    }
    names
}

/// Docker writes every field of `Config`, and `null` for what is not set.
fn execution_document(run: &Execution) -> Value {
    let set = |keys: &[String]| match keys {
        [] => Value::Null,
        keys => keys.iter().map(|key| (key.clone(), json!({}))).collect::<serde_json::Map<_, _>>().into(),
    };
    let list = |words: &[String]| if words.is_empty() { Value::Null } else { json!(words) };
    let mut document = json!({
        "Hostname": "", "Domainname": "", "Image": "",
        "User": run.user,
        "AttachStdin": false, "AttachStdout": false, "AttachStderr": false,
        "Tty": false, "OpenStdin": false, "StdinOnce": false,
        "Env": run.env,
        "Cmd": run.cmd,
        "Entrypoint": run.entrypoint,
        "Volumes": set(&run.volumes),
        "WorkingDir": run.working_dir,
        "OnBuild": list(&run.on_build),
        "Labels": if run.labels.is_empty() { Value::Null } else { json!(run.labels) },
    });
    let optional = [
        ("ExposedPorts", set(&run.exposed_ports)),
        ("StopSignal", json!(run.stop_signal)),
        ("Healthcheck", json!(run.healthcheck)),
        ("Shell", json!(run.shell)),
    ];
    for (key, value) in optional.into_iter().filter(|(_, value)| !value.is_null()) {
        document[key] = value;
    }
    document
}
