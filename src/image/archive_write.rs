//! Archives of images as they go out: docker-archive, oci-archive, an OCI
//! layout directory and docker's directory (skopeo's `dir:`). The same images
//! give the same bytes.

use super::archive::copy;
use super::blob::Blobs;
use super::compression::{Compression, decoder};
use super::manifest::{
    Descriptor, Index, MANIFEST_MAX, Manifest, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_LAYER_GZIP, OCI_MANIFEST,
};
use super::store::{Entry, StoredImage};
use crate::dirs::create_private;
use crate::error::{Context, Error, Result};
use crate::types::digest::{Digest, Hashed};
use crate::types::reference::Reference;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// An image to write and the names that it goes by.
#[derive(Clone, Debug)]
pub(crate) struct Saved {
    pub(crate) image: StoredImage,
    pub(crate) entry: Entry,
    pub(crate) names: Vec<Reference>,
}

impl Saved {
    /// Everything that any form of archive has of it.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = Digest> {
        let documents = [&self.entry.0.digest, &self.image.manifest_digest, &self.image.id];
        let blobs = documents.into_iter().chain(self.image.blobs().map(|blob| &blob.digest));
        blobs.cloned()
    }
}

/// Where an archive goes.
pub(crate) enum Output<'a> {
    /// A file, in which a header can be written after what it describes.
    File(&'a mut BufWriter<File>),
    Stream(&'a mut dyn Write),
}

impl Write for Output<'_> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::File(file) => file.write(buffer),
            Self::Stream(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stream(stream) => stream.flush(),
        }
    }
}

impl Seek for Output<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Stream(_) => Err(std::io::ErrorKind::NotSeekable.into()),
        }
    }
}

/// Docker's form: `manifest.json`, configs, and unpacked layers named by their
/// diff id (docker's `load` of every version reads it).
pub(crate) fn write_docker(images: &[Saved], blobs: &Blobs, out: Output<'_>) -> Result<()> {
    let seeks = matches!(out, Output::File(_));
    let mut tar = tar::Builder::new(out);
    let mut written = BTreeSet::new();
    let mut manifest = Vec::new();
    for saved in images {
        let config = format!("{}.json", saved.image.id.hex());
        let bytes = blobs.document(&saved.image.id, super::config::CONFIG_MAX)?;
        if written.insert(config.clone()) {
            append(&mut tar, &config, bytes.len() as u64, &bytes[..])?;
        }
        let mut layers = Vec::new();
        for (layer, diff_id) in saved.image.manifest.layers.iter().zip(&saved.image.config.rootfs.diff_ids) {
            let name = format!("{}.tar", diff_id.hex());
            if written.insert(name.clone()) {
                append_unpacked(&mut tar, &name, blobs, layer, seeks)
                    .context(|| format!("unpack layer {}", layer.digest))?;
            }
            layers.push(name);
        }
        let tags: Vec<String> = saved.names.iter().map(Reference::familiar).collect();
        manifest.push(json!({"Config": config, "RepoTags": tags, "Layers": layers}));
    }
    let manifest = serde_json::to_vec(&manifest).context(|| "write manifest.json")?;
    append(&mut tar, "manifest.json", manifest.len() as u64, &manifest[..])?;
    tar.finish().context(|| "write the archive")?;
    tar.get_mut().flush().context(|| "write the archive")
}

/// A layer without its compression. Its header stands before it and has its
/// size: in a file it is written afterwards; for a stream the layer is unpacked
/// once more to count, as spooling would cost the disk.
fn append_unpacked(
    tar: &mut tar::Builder<Output<'_>>,
    name: &str,
    blobs: &Blobs,
    layer: &Descriptor,
    seeks: bool,
) -> Result<()> {
    let unpacked = || decoder(blobs.verified(&layer.digest)?);
    let (compression, mut content) = unpacked()?;
    if compression == Compression::None {
        return append(tar, name, layer.size, content);
    }
    if seeks {
        let mut header = header(0, 0o644);
        let action = || format!("write {name} to the archive");
        let mut entry = tar.append_writer(&mut header, name).context(action)?;
        copy(&mut content, &mut entry).context(action)?;
        return entry.finish().context(action);
    }
    let size = copy(&mut content, &mut std::io::sink()).context(|| "count its bytes")?;
    append(tar, name, size, unpacked()?.1)
}

/// An OCI layout in a tar.
pub(crate) fn write_oci(images: &[Saved], blobs: &Blobs, out: Output<'_>, layers: Layers) -> Result<()> {
    let plain = Plain::of_all(images, blobs, layers)?;
    let mut tar = tar::Builder::new(out);
    // Tools that unpack it without root may not make a missing folder as theirs.
    for folder in ["blobs/", "blobs/sha256/"] {
        append_folder(&mut tar, folder)?;
    }
    append(&mut tar, "oci-layout", LAYOUT.len() as u64, LAYOUT)?;
    let index = index_of(images, &plain)?;
    append(&mut tar, "index.json", index.len() as u64, &index[..])?;
    each_blob(images, &plain, blobs, |digest, size, content| {
        append(&mut tar, &digest.place(), size, content)
    })?;
    tar.finish().context(|| "write the archive")?;
    tar.get_mut().flush().context(|| "write the archive")
}

/// An OCI layout in a new or empty directory.
pub(crate) fn write_oci_directory(
    images: &[Saved],
    blobs: &Blobs,
    directory: &Path,
    layers: Layers,
) -> Result<()> {
    check_empty(directory)?;
    let plain = Plain::of_all(images, blobs, layers)?;
    create_private(&directory.join("blobs/sha256"))?;
    each_blob(images, &plain, blobs, |digest, _, mut content| {
        let place = directory.join(digest.place());
        place.parent().map_or(Ok(()), create_private)?;
        write_new(&place, &mut content)
    })?;
    write_new(&directory.join("oci-layout"), &mut &*LAYOUT)?;
    write_new(&directory.join("index.json"), &mut &index_of(images, &plain)?[..])
}

/// What becomes of the layers on their way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Layers {
    #[default]
    AsTheyAre,
    /// Those without compression get gzip: `save --compress`, into a directory.
    Compressed,
    /// All are unpacked: `save --uncompressed`, in an OCI layout.
    Plain,
}

/// The manifest of an image whose layers have no compression.
struct Plain {
    manifest: Manifest,
    bytes: Vec<u8>,
}

impl Plain {
    /// One an image with [`Layers::Plain`], else none at all.
    fn of_all(images: &[Saved], blobs: &Blobs, layers: Layers) -> Result<Vec<Self>> {
        if layers != Layers::Plain {
            return Ok(Vec::new());
        }
        images.iter().map(|saved| Self::of(&saved.image, blobs)).collect()
    }

    /// Unpacks each layer once, for its size: the manifest stands for all of it.
    fn of(image: &StoredImage, blobs: &Blobs) -> Result<Self> {
        let mut config = image.manifest.config.clone();
        OCI_CONFIG.clone_into(&mut config.media_type);
        let mut manifest = Manifest::oci(config, Vec::new());
        manifest.other.clone_from(&image.manifest.other);
        for (layer, diff_id) in image.manifest.layers.iter().zip(&image.config.rootfs.diff_ids) {
            let (_, mut content) = decoder(blobs.verified(&layer.digest)?)?;
            let size = copy(&mut content, &mut std::io::sink())
                .context(|| format!("unpack layer {}", layer.digest))?;
            manifest.layers.push(Descriptor::new(OCI_LAYER, diff_id.clone(), size));
        }
        let bytes = serde_json::to_vec(&manifest).context(|| "write the manifest")?;
        Ok(Self { manifest, bytes })
    }

    fn descriptor(&self) -> Descriptor {
        Descriptor::new(OCI_MANIFEST, Digest::of(&self.bytes), self.bytes.len() as u64)
    }
}

/// Skopeo's `dir:` with a manifest of Docker's schema 2, in a new or empty
/// directory: `manifest.json`, `version`, and each blob under its hex digits.
///
/// # Errors
/// `Invalid` for several images, which this form cannot hold.
pub(crate) fn write_docker_directory(
    images: &[Saved],
    blobs: &Blobs,
    directory: &Path,
    layers: Layers,
) -> Result<()> {
    let [saved] = images else {
        return Err(Error::invalid("docker-dir holds one image")
            .hint("save the others elsewhere, or all as docker-archive or oci-archive"));
    };
    check_empty(directory)?;
    create_private(directory)?;
    let image = &saved.image;
    let place = |digest: &Digest| directory.join(digest.hex());
    let config = blobs.document(&image.id, super::config::CONFIG_MAX)?;
    write_new(&place(&image.id), &mut &config[..])?;
    let mut manifest = image.manifest.clone();
    for layer in &mut manifest.layers {
        let plain = decoder(blobs.open(&layer.digest)?)?.0 == Compression::None;
        if plain && layers == Layers::Compressed {
            *layer = compress(blobs, layer, directory)?;
        } else if !place(&layer.digest).exists() {
            write_new(&place(&layer.digest), &mut blobs.verified(&layer.digest)?)?;
        }
    }
    // Schema 2 has no zstd: such an image keeps its OCI manifest.
    let bytes = match manifest.into_docker() {
        Some(manifest) => serde_json::to_vec(&manifest).context(|| "write manifest.json")?,
        None if layers == Layers::Compressed => {
            return Err(Error::invalid(
                "an image with zstd layers has no form in docker-dir with --compress",
            )
            .hint("leave --compress out, or save it as oci-dir"));
        }
        None => blobs.document(&image.manifest_digest, MANIFEST_MAX)?,
    };
    write_new(&directory.join("manifest.json"), &mut &bytes[..])?;
    write_new(&directory.join("version"), &mut &b"Directory Transport Version: 1.1\n"[..])
}

/// Writes a layer with gzip, under the digest that it then has.
fn compress(blobs: &Blobs, layer: &Descriptor, directory: &Path) -> Result<Descriptor> {
    let temporary = directory.join(format!("{}.part", layer.digest.hex()));
    let action = || format!("write {}", temporary.display());
    let file = File::create(&temporary).context(action)?;
    let mut hashed = Hashed::new(file);
    // No time and no name in the header: the same layer gives the same bytes.
    let mut encoder = flate2::write::GzEncoder::new(&mut hashed, flate2::Compression::default());
    copy(&mut blobs.verified(&layer.digest)?, &mut encoder).context(action)?;
    encoder.finish().context(action)?;
    let (_, digest, count) = hashed.finish();
    std::fs::rename(&temporary, directory.join(digest.hex())).context(action)?;
    Ok(Descriptor::new(OCI_LAYER_GZIP, digest, count))
}

fn check_empty(directory: &Path) -> Result<()> {
    if std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::conflict(format!("{} is not empty", directory.display())));
    }
    Ok(())
}

fn write_new(path: &Path, content: &mut dyn Read) -> Result<()> {
    let mut content = content;
    let mut file = File::create_new(path).context(|| format!("make {}", path.display()))?;
    copy(&mut content, &mut file).context(|| format!("write {}", path.display())).map(drop)
}

/// One entry a name, as our own layout has them.
fn index_of(images: &[Saved], plain: &[Plain]) -> Result<Vec<u8>> {
    let mut index = Index::default();
    for (at, saved) in images.iter().enumerate() {
        let mut entry = plain.get(at).map_or_else(|| saved.entry.clone(), |plain| Entry(plain.descriptor()));
        entry.0.annotations.clear();
        if saved.names.is_empty() {
            index.manifests.push(entry.0.clone());
        }
        for name in &saved.names {
            entry.set_name(Some(name));
            index.manifests.push(entry.0.clone());
        }
    }
    serde_json::to_vec(&index).context(|| "write index.json")
}

/// Every blob of the images, once.
fn each_blob(
    images: &[Saved],
    plain: &[Plain],
    blobs: &Blobs,
    mut write: impl FnMut(&Digest, u64, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let mut written = BTreeSet::new();
    for (at, saved) in images.iter().enumerate() {
        let StoredImage { manifest_digest, manifest_size, manifest, .. } = &saved.image;
        if let Some(plain) = plain.get(at) {
            let document = plain.descriptor();
            if written.insert(document.digest.clone()) {
                write(&document.digest, document.size, &mut &plain.bytes[..])?;
            }
            if written.insert(manifest.config.digest.clone()) {
                let config = &manifest.config;
                write(&config.digest, config.size, &mut blobs.verified(&config.digest)?)?;
            }
            for (layer, packed) in plain.manifest.layers.iter().zip(&manifest.layers) {
                if written.insert(layer.digest.clone()) {
                    write(&layer.digest, layer.size, &mut decoder(blobs.verified(&packed.digest)?)?.1)?;
                }
            }
            continue;
        }
        let of_manifest = Descriptor::new("", manifest_digest.clone(), *manifest_size);
        let wrapper = (saved.entry.0.media_type == OCI_INDEX).then_some(&saved.entry.0);
        for blob in wrapper.into_iter().chain([&of_manifest]) {
            if written.insert(blob.digest.clone()) {
                let bytes = blobs.document(&blob.digest, MANIFEST_MAX)?;
                write(&blob.digest, bytes.len() as u64, &mut &bytes[..])?;
            }
        }
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            if written.insert(blob.digest.clone()) {
                write(&blob.digest, blob.size, &mut blobs.verified(&blob.digest)?)?;
            }
        }
    }
    Ok(())
}

fn append_folder<W: Write>(tar: &mut tar::Builder<W>, name: &str) -> Result<()> {
    let mut header = header(0, 0o755);
    header.set_entry_type(tar::EntryType::Directory);
    tar.append_data(&mut header, name, std::io::empty()).context(|| format!("write {name} to the archive"))
}

/// The user's own ids: whoever unpacks the archive without root may give files
/// no other owner.
fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(u64::from(rustix::process::getuid().as_raw()));
    header.set_gid(u64::from(rustix::process::getgid().as_raw()));
    header
}

/// One file of `size` bytes; a reader of another length is an error, as the
/// archive would be unreadable from there.
fn append<W: Write>(tar: &mut tar::Builder<W>, name: &str, size: u64, content: impl Read) -> Result<()> {
    let mut header = header(size, 0o644);
    let mut counted = Counted { inner: content.take(size), count: 0 };
    tar.append_data(&mut header, name, &mut counted).context(|| format!("write {name} to the archive"))?;
    if counted.count == size {
        Ok(())
    } else {
        Err(Error::failed(format!("{name} has {} bytes instead of {size}", counted.count)))
    }
}

struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        Ok(count)
    }
}
