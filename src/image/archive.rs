//! Archives of images as they come in: docker-archive, oci-archive, and an OCI
//! layout directory. The stream is read once, in constant memory: every file
//! in it is spooled into the ingest place while it is hashed, and the documents
//! are looked at afterwards, wherever in the archive they were.
//!
//! A name in an archive is a key of a map and never a path (CVE-2025-11395).

use super::blob::{Ingest, Spooled};
use super::compression::{Compression, decoder};
use super::config::{CONFIG_MAX, ImageConfig};
use super::manifest::{self, Descriptor, Document, Index, MANIFEST_MAX, Manifest, OCI_CONFIG, OCI_LAYER};
use super::store::{CONTAINERD_NAME, Entry, ImageStore, REF_NAME, StoredImage};
use crate::error::{Context, Error, Result};
use crate::types::digest::Digest;
use crate::types::platform::Platform;
use crate::types::reference::Reference;
use serde::Deserialize;
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Members of an archive: 500 layers of some hundred images.
const MEMBERS_MAX: usize = 50_000;
/// Bytes of a member's name.
const NAME_MAX: usize = 4096;
/// Bytes of headers before one member: the tar crate keeps long names and
/// extended headers in memory, and has no bound of its own.
const HEADERS_MAX: u64 = 1 << 20;
/// Images of one archive.
const IMAGES_MAX: usize = 1000;
/// Links from one name to another before a file.
const LINKS_MAX: usize = 8;

/// Where the files of an archive are.
#[derive(Debug)]
pub(crate) enum Archive {
    Spooled(HashMap<String, Member>),
    Directory(PathBuf),
}

#[derive(Debug)]
pub(crate) enum Member {
    File(Spooled),
    /// Another name, resolved inside the archive.
    Link(String),
}

/// An image that an archive has, its blobs in the store, and its names.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) image: StoredImage,
    pub(crate) entry: Entry,
    pub(crate) names: Vec<Reference>,
}

impl Archive {
    /// Spools a tar stream, which may be compressed.
    pub(crate) fn spool(stream: impl Read, ingest: &Ingest) -> Result<Self> {
        let (_, stream) = decoder(stream)?;
        let budget = Rc::new(Cell::new(HEADERS_MAX));
        let mut archive = tar::Archive::new(Budgeted { inner: stream, budget: Rc::clone(&budget) });
        let mut members = HashMap::new();
        for entry in archive.entries().context(|| "read the archive")? {
            let mut entry = entry.context(|| "read the archive")?;
            let name = normalise(&entry.path_bytes())?;
            budget.set(u64::MAX);
            if members.len() >= MEMBERS_MAX {
                return Err(Error::invalid(format!("the archive has more than {MEMBERS_MAX} files")));
            }
            match entry.header().entry_type() {
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    let mut writer = ingest.writer(u64::MAX)?;
                    copy(&mut entry, &mut writer).context(|| format!("read {name:?} of the archive"))?;
                    members.insert(name, Member::File(writer.finish()));
                }
                tar::EntryType::Symlink | tar::EntryType::Link => {
                    let link = entry.link_name_bytes().unwrap_or_default();
                    let directory = match entry.header().entry_type() {
                        tar::EntryType::Symlink => {
                            name.rsplit_once('/').map_or("", |(directory, _)| directory)
                        }
                        _ => "",
                    };
                    let target = normalise(&[directory.as_bytes(), b"/", &link].concat())?;
                    members.insert(name, Member::Link(target));
                }
                tar::EntryType::Directory | tar::EntryType::XGlobalHeader => {}
                other => return Err(Error::invalid(format!("{name:?} of the archive is of type {other:?}"))),
            }
            budget.set(HEADERS_MAX);
        }
        Ok(Self::Spooled(members))
    }

    /// The file of this name, spooled. A file may be published only once.
    fn file(&self, name: &str, ingest: &Ingest) -> Result<Option<Spooled>> {
        match self {
            Self::Spooled(members) => {
                let mut name = name;
                for _ in 0..LINKS_MAX {
                    match members.get(name) {
                        Some(Member::File(spooled)) => return Ok(Some(spooled.clone())),
                        Some(Member::Link(target)) => name = target,
                        None => return Ok(None),
                    }
                }
                Err(Error::invalid(format!("{name:?} of the archive is a chain of links")))
            }
            Self::Directory(directory) => copy_from(&directory.join(name), ingest),
        }
    }

    /// A small document of this name.
    fn document(&self, name: &str, limit: u64, ingest: &Ingest) -> Result<Option<Vec<u8>>> {
        let Some(spooled) = self.file(name, ingest)? else { return Ok(None) };
        spooled.read(limit).map(Some).context(|| format!("read {name} of the archive"))
    }

    fn needed(&self, name: &str, ingest: &Ingest) -> Result<Spooled> {
        self.file(name, ingest)?.ok_or_else(|| Error::invalid(format!("the archive has no {name:?}")))
    }

    /// Puts the blobs of all images into the store and says what they are. The
    /// caller gives them names.
    pub(crate) fn load(
        &self,
        store: &ImageStore,
        ingest: &Ingest,
        platform: Option<&Platform>,
    ) -> Result<Vec<Loaded>> {
        // An archive of docker 25 and later is both; its manifest.json is what docker reads.
        if let Some(bytes) = self.document("manifest.json", MANIFEST_MAX, ingest)? {
            return self.load_docker(&bytes, store, ingest);
        }
        if let Some(bytes) = self.document("index.json", MANIFEST_MAX, ingest)? {
            return self.load_oci(&bytes, store, ingest, platform);
        }
        Err(Error::invalid("this is no image archive: it has neither manifest.json nor index.json")
            .hint("use `import` for the tar of a file system"))
    }

    fn load_docker(&self, bytes: &[u8], store: &ImageStore, ingest: &Ingest) -> Result<Vec<Loaded>> {
        let manifests: Vec<DockerManifest> =
            serde_json::from_slice(bytes).context(|| "read manifest.json of the archive")?;
        check_count(manifests.len())?;
        manifests.iter().map(|manifest| self.load_docker_image(manifest, store, ingest)).collect()
    }

    fn load_docker_image(
        &self,
        from: &DockerManifest,
        store: &ImageStore,
        ingest: &Ingest,
    ) -> Result<Loaded> {
        let bytes = self.needed(&normalise(from.config.as_bytes())?, ingest)?.read(CONFIG_MAX)?;
        let config =
            ImageConfig::parse(&bytes).context(|| format!("config {:?} of the archive", from.config))?;
        if from.layers.len() != config.rootfs.diff_ids.len() {
            return Err(Error::invalid("manifest and config of the archive disagree about the layers"));
        }
        let mut layers = Vec::new();
        for (name, diff_id) in from.layers.iter().zip(&config.rootfs.diff_ids) {
            let spooled = self.needed(&normalise(name.as_bytes())?, ingest);
            layers.push(take_layer(store, ingest, spooled, diff_id).context(|| format!("layer {name:?}"))?);
        }
        let names =
            from.repo_tags.iter().flatten().map(|name| Reference::parse(name)).collect::<Result<_>>()?;
        let id = ingest.put(&bytes)?;
        let manifest = Manifest::oci(Descriptor::new(OCI_CONFIG, id, bytes.len() as u64), layers);
        publish(ingest, manifest, config, names)
    }

    fn load_oci(
        &self,
        bytes: &[u8],
        store: &ImageStore,
        ingest: &Ingest,
        platform: Option<&Platform>,
    ) -> Result<Vec<Loaded>> {
        let index: Index = serde_json::from_slice(bytes).context(|| "read index.json of the archive")?;
        check_count(index.manifests.len())?;
        index
            .manifests
            .iter()
            .map(|entry| {
                let names = name_of(&entry.annotations).into_iter().collect();
                self.load_oci_image(entry, names, store, ingest, platform)
            })
            .collect()
    }

    fn load_oci_image(
        &self,
        entry: &Descriptor,
        names: Vec<Reference>,
        store: &ImageStore,
        ingest: &Ingest,
        platform: Option<&Platform>,
    ) -> Result<Loaded> {
        let mut entry = entry.clone();
        for _ in 0..2 {
            let bytes = self.blob(&entry, ingest)?.read(MANIFEST_MAX)?;
            let served_as = Some(entry.media_type.as_str());
            match manifest::parse(&bytes, served_as).context(|| format!("manifest {}", entry.digest))? {
                Document::Index(index) => {
                    let host = Platform::host();
                    entry = manifest::choose(&index, platform.unwrap_or(&host))?.clone();
                }
                Document::Manifest(manifest) => {
                    return self.take_oci(&entry, &bytes, manifest, names, store, ingest);
                }
            }
        }
        Err(Error::invalid(format!("{} is an index inside an index", entry.digest)))
    }

    fn take_oci(
        &self,
        entry: &Descriptor,
        bytes: &[u8],
        manifest: Manifest,
        names: Vec<Reference>,
        store: &ImageStore,
        ingest: &Ingest,
    ) -> Result<Loaded> {
        let config = self.blob(&manifest.config, ingest)?.read(CONFIG_MAX)?;
        ingest.put(&config)?;
        let config = ImageConfig::parse(&config)?;
        for layer in &manifest.layers {
            if !store.blobs().contains(layer) {
                ingest.publish(&self.blob(layer, ingest)?)?;
            }
        }
        ingest.put(bytes)?;
        let id = manifest.config.digest.clone();
        let mut manifest = manifest;
        // The bytes stay; this is what the entry is made from.
        manifest.media_type.get_or_insert_with(|| entry.media_type.clone());
        let image = StoredImage::new(id, entry.digest.clone(), bytes.len() as u64, manifest, config)?;
        let entry = ImageStore::entry(ingest, &image, None)?;
        Ok(Loaded { image, entry, names })
    }

    /// A blob of an OCI layout, verified.
    fn blob(&self, descriptor: &Descriptor, ingest: &Ingest) -> Result<Spooled> {
        let spooled = self.needed(&format!("blobs/sha256/{}", descriptor.digest.hex()), ingest)?;
        if spooled.digest != descriptor.digest || spooled.size != descriptor.size {
            return Err(Error::invalid(format!(
                "blob {} of the archive has other content",
                descriptor.digest
            )));
        }
        Ok(spooled)
    }
}

/// One image of docker's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn check_count(images: usize) -> Result<()> {
    match images {
        0 => Err(Error::invalid("the archive has no images")),
        1..=IMAGES_MAX => Ok(()),
        _ => Err(Error::invalid(format!("the archive has more than {IMAGES_MAX} images"))),
    }
}

/// Publishes one layer of a docker-archive. The archive names layers freely;
/// their content must be what the config says.
fn take_layer(
    store: &ImageStore,
    ingest: &Ingest,
    spooled: Result<Spooled>,
    diff_id: &Digest,
) -> Result<Descriptor> {
    // A layer that occurs twice may be an empty entry the second time, and one
    // that another image brought is published and gone from the spool.
    let spooled = spooled?;
    let published = store.blobs().path(&spooled.digest);
    let file = if published.exists() && !spooled.path.exists() {
        std::fs::File::open(&published).context(|| format!("open blob {}", spooled.digest))?
    } else {
        spooled.open()?
    };
    let (compression, _) = decoder(file)?;
    let media_type = match compression {
        Compression::None if spooled.digest != *diff_id => {
            return Err(Error::invalid(format!(
                "it has other content than the config says: {}",
                spooled.digest
            )));
        }
        Compression::None => OCI_LAYER,
        Compression::Gzip => manifest::OCI_LAYER_GZIP,
        Compression::Zstd => manifest::OCI_LAYER_ZSTD,
    };
    let descriptor = Descriptor::new(media_type, spooled.digest.clone(), spooled.size);
    if !store.blobs().contains(&descriptor) {
        ingest.publish(&spooled)?;
    }
    Ok(descriptor)
}

/// Writes the manifest of an image whose other blobs are in the store.
pub(crate) fn publish(
    ingest: &Ingest,
    manifest: Manifest,
    config: ImageConfig,
    names: Vec<Reference>,
) -> Result<Loaded> {
    let bytes = serde_json::to_vec(&manifest).context(|| "write the manifest")?;
    let digest = ingest.put(&bytes)?;
    let id = manifest.config.digest.clone();
    let image = StoredImage::new(id, digest, bytes.len() as u64, manifest, config)?;
    let entry = ImageStore::entry(ingest, &image, None)?;
    Ok(Loaded { image, entry, names })
}

/// containerd's name, else the reference name where it is more than a tag. A
/// word alone (skopeo's `oci-archive:FILE:NAME`) is a local name.
fn name_of(annotations: &BTreeMap<String, String>) -> Option<Reference> {
    if let Some(name) = annotations.get(CONTAINERD_NAME) {
        return Reference::parse(name).ok();
    }
    let name = annotations.get(REF_NAME)?;
    let version = name == "latest" || name.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit());
    match name.contains(['/', ':']) {
        true => Reference::parse(name).ok(),
        false if version => None,
        false => Reference::parse(&format!("localhost/{name}")).ok(),
    }
}

/// `./a//b/../c` as `a/c`: a key, with no meaning to any file system.
fn normalise(name: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(name).context(|| "a name of the archive")?;
    if text.len() > NAME_MAX {
        return Err(Error::invalid("the archive has a name of more than 4096 bytes"));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

/// A regular file of a layout directory, spooled. Nothing else is followed or
/// waited for: the directory may be someone else's.
fn copy_from(path: &Path, ingest: &Ingest) -> Result<Option<Spooled>> {
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path);
    let mut file = match opened {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        result => result.context(|| format!("open {}", path.display()))?,
    };
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return Err(Error::invalid(format!("{} is not a regular file", path.display())));
    }
    let mut writer = ingest.writer(u64::MAX)?;
    copy(&mut file, &mut writer).context(|| format!("read {}", path.display()))?;
    Ok(Some(writer.finish()))
}

/// `io::copy` with a buffer that suits disks.
pub(crate) fn copy(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<u64> {
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(count) => {
                to.write_all(&buffer[..count])?;
                total += count as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Fails when more than `budget` bytes are read: set anew for each step.
struct Budgeted<R> {
    inner: R,
    budget: Rc<Cell<u64>>,
}

impl<R: Read> Read for Budgeted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match self.budget.get().checked_sub(count as u64) {
            Some(rest) => self.budget.set(rest),
            None => return Err(std::io::Error::other("the headers of a file are too large")),
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn add(builder: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // Not `append_data`: it refuses the names that are to be tried.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, bytes).expect("append");
    }

    fn link(builder: &mut tar::Builder<Vec<u8>>, name: &str, target: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        builder.append(&header, &b""[..]).expect("append");
    }

    fn config(layers: &[&[u8]]) -> Vec<u8> {
        let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let config = json!({"os": "linux", "architecture": "amd64", "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        serde_json::to_vec(&config).expect("json")
    }

    fn load(archive: &[u8]) -> (tempfile::TempDir, Result<Vec<Loaded>>) {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = ImageStore::open(dir.path()).expect("store");
        let ingest = store.ingest().expect("ingest");
        let loaded = Archive::spool(archive, &ingest).and_then(|archive| archive.load(&store, &ingest, None));
        (dir, loaded)
    }

    fn docker_archive(
        manifest: &serde_json::Value,
        more: impl FnOnce(&mut tar::Builder<Vec<u8>>),
    ) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        more(&mut builder);
        add(&mut builder, "manifest.json", &serde_json::to_vec(manifest).expect("json"));
        builder.into_inner().expect("tar")
    }

    #[test]
    fn a_docker_archive_with_two_images_and_a_link_is_loaded() {
        let manifest = json!([
            {"Config": "c.json", "RepoTags": ["app:1", "app:2"], "Layers": ["a/layer.tar"]},
            {"Config": "c.json", "RepoTags": null, "Layers": ["b/layer.tar"]},
        ]);
        let archive = docker_archive(&manifest, |tar| {
            link(tar, "b/layer.tar", "../a/layer.tar");
            add(tar, "a/layer.tar", b"layer");
            add(tar, "c.json", &config(&[b"layer"]));
        });
        for stream in [archive.clone(), zstd::encode_all(&archive[..], 1).expect("zstd")] {
            let (_dir, loaded) = load(&stream);
            let loaded = loaded.expect("loaded");
            assert_eq!(
                loaded[0].names.iter().map(Reference::familiar).collect::<Vec<_>>(),
                ["app:1", "app:2"]
            );
            assert_eq!(loaded[1].image.manifest.layers[0].digest, Digest::of(b"layer"));
            assert_eq!(loaded[0].image.id, loaded[1].image.id);
        }
    }

    /// CVE-2025-11395: names of an archive reach no file system.
    #[test]
    fn hostile_names_are_only_names() {
        let manifest = json!([{"Config": "../../../../tmp/c.json", "Layers": ["/../../l.tar"]}]);
        let archive = docker_archive(&manifest, |tar| {
            add(tar, "../../../../tmp/c.json", &config(&[b"layer"]));
            add(tar, "/../../l.tar", b"layer");
        });
        let (dir, loaded) = load(&archive);
        assert_eq!(loaded.expect("loaded").len(), 1);
        assert!(!Path::new("/tmp/c.json").exists());
        assert_eq!(std::fs::read_dir(dir.path().join("blobs/sha256")).expect("blobs").count(), 3);
    }

    #[test]
    fn bad_archives_are_refused_and_leave_nothing() {
        let one = |config: &str, layer: &str| json!([{"Config": config, "Layers": [layer]}]);
        let with = |manifest: &serde_json::Value| {
            docker_archive(manifest, |tar| {
                link(tar, "loop", "loop");
                link(tar, "host", "/etc/passwd");
                add(tar, "l", b"layer");
                add(tar, "other", b"LAYER");
                add(tar, "c", &config(&[b"layer"]));
            })
        };
        assert!(load(&with(&one("c", "l"))).1.is_ok());
        let tagged = json!([{"Config": "c", "RepoTags": ["../x"], "Layers": ["l"]}]);
        for bad in [
            one("c", "other"),
            one("c", "host"),
            one("c", "loop"),
            one("none", "l"),
            json!([]),
            json!({}),
            tagged,
        ] {
            let (dir, loaded) = load(&with(&bad));
            assert!(loaded.is_err(), "{bad}");
            assert_eq!(std::fs::read_dir(dir.path().join(".ingest")).expect("ingest").count(), 0);
        }
        assert!(load(b"").1.is_err());
        assert!(load(&[0x55; 2000]).1.is_err());
        let whole = with(&one("c", "l"));
        assert!(load(&whole[..whole.len() / 2 - 100]).1.is_err(), "cut");
    }

    /// A header that would fill the memory (CVE-2025-58183's kin).
    #[test]
    fn huge_headers_are_refused() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let endless = std::io::Cursor::new(header.as_bytes().to_vec()).chain(std::io::repeat(b'a'));
        let dir = tempfile::tempdir().expect("tempdir");
        let ingest = ImageStore::open(dir.path()).expect("store").ingest().expect("ingest");
        assert!(Archive::spool(endless, &ingest).is_err());
    }

    #[test]
    fn names_of_a_layout_become_references() {
        let name = |key: &str, value: &str| name_of(&BTreeMap::from([(key.to_owned(), value.to_owned())]));
        assert_eq!(name(REF_NAME, "latest"), None);
        assert_eq!(name(REF_NAME, "v1.2"), None);
        assert_eq!(name(REF_NAME, "busybox").expect("name").familiar(), "localhost/busybox:latest");
        assert_eq!(name(REF_NAME, "a.b/c:d").expect("name").familiar(), "a.b/c:d");
        assert_eq!(name(CONTAINERD_NAME, "docker.io/library/x:1").expect("name").familiar(), "x:1");
        assert_eq!(name(CONTAINERD_NAME, "../x"), None);
    }
}
