//! Images to archives.

use super::events::note_image;
use super::images::no_such_image;
use crate::dirs::Dirs;
use crate::error::{BestEffort, Context, Error, Result};
use crate::image::archive_write::{
    Layers, Output, Saved, write_docker, write_docker_directory, write_oci, write_oci_directory,
};
use crate::image::names::{self, Found};
use crate::image::store::{Entry, Held, ImageStore};
use crate::types::platform::Platform;
use crate::types::reference::Reference;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SaveFormat {
    #[default]
    DockerArchive,
    OciArchive,
    OciDirectory,
    DockerDirectory,
}

/// What is saved, and how.
#[derive(Clone, Debug, Default)]
pub(crate) struct SaveOptions {
    pub(crate) format: SaveFormat,
    pub(crate) layers: Layers,
    /// `--platform`: the images must be for it.
    pub(crate) platform: Option<Platform>,
}

impl SaveFormat {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "docker-archive" => Ok(Self::DockerArchive),
            "oci-archive" => Ok(Self::OciArchive),
            "oci-dir" => Ok(Self::OciDirectory),
            "docker-dir" => Ok(Self::DockerDirectory),
            _ => Err(Error::invalid(format!("unknown archive format {text:?}"))
                .hint("formats are docker-archive, oci-archive, oci-dir and docker-dir")),
        }
    }
}

/// Where an archive goes.
pub(crate) enum SaveTarget<'a> {
    Path(&'a Path),
    Stream(&'a mut dyn Write),
}

/// Writes the images, each under the name given: by a repository all its tags,
/// by an id under no name, as docker does.
pub(crate) fn save(
    dirs: &Dirs,
    images: &[String],
    options: &SaveOptions,
    target: SaveTarget<'_>,
) -> Result<()> {
    let layers = options.layers;
    if layers == Layers::Compressed && options.format != SaveFormat::DockerDirectory {
        return Err(Error::invalid("--compress is for the format docker-dir alone")
            .hint("pipe an archive through a compressor: coracle save NAME | gzip"));
    }
    if layers == Layers::Plain && options.format == SaveFormat::DockerDirectory {
        return Err(Error::invalid("--uncompressed is not for the format docker-dir")
            .hint("save it as docker-archive, oci-archive or oci-dir"));
    }
    let store = ImageStore::at(&dirs.images());
    let (saved, held) = hold(&store, images, options.platform.as_ref())?;
    let blobs = &held.blobs;
    match (options.format, target) {
        (SaveFormat::OciDirectory, SaveTarget::Path(path)) => {
            write_oci_directory(&saved, blobs, path, layers)
        }
        (SaveFormat::DockerDirectory, SaveTarget::Path(path)) => {
            write_docker_directory(&saved, blobs, path, layers)
        }
        (SaveFormat::OciDirectory | SaveFormat::DockerDirectory, SaveTarget::Stream(_)) => {
            Err(Error::invalid("a directory does not go to stdout: name it with -o"))
        }
        (SaveFormat::DockerArchive, SaveTarget::Stream(out)) => {
            write_docker(&saved, blobs, Output::Stream(out))
        }
        (SaveFormat::OciArchive, SaveTarget::Stream(out)) => {
            write_oci(&saved, blobs, Output::Stream(out), layers)
        }
        (SaveFormat::DockerArchive, SaveTarget::Path(path)) => {
            write_file(path, |out| write_docker(&saved, blobs, out))
        }
        (SaveFormat::OciArchive, SaveTarget::Path(path)) => {
            write_file(path, |out| write_oci(&saved, blobs, out, layers))
        }
    }?;
    for image in &saved {
        let name = image.names.first().map(crate::types::reference::Reference::familiar);
        note_image(dirs, "save", &image.image.id.to_string(), name);
    }
    Ok(())
}

/// The images, and their blobs, open. They are written without the store's
/// lock: whoever reads the archive may be slow, or be a `load` that waits for it.
fn hold(store: &ImageStore, images: &[String], platform: Option<&Platform>) -> Result<(Vec<Saved>, Held)> {
    let pin = store.pin()?;
    let saved = collect(store, images, platform)?;
    let held = store.hold(pin, saved.iter().flat_map(Saved::blobs))?;
    Ok((saved, held))
}

/// The images, each once, with the names to write.
fn collect(store: &ImageStore, images: &[String], platform: Option<&Platform>) -> Result<Vec<Saved>> {
    let entries = store.entries()?;
    let mut saved: Vec<Saved> = Vec::new();
    for name in images {
        for (at, tag) in meant(&entries, name)? {
            let image = store.read(&entries[at], platform).context(|| format!("image {name}"))?;
            let has = image.config.platform();
            if let Some(wanted) = platform.filter(|wanted| !has.satisfies(wanted)) {
                return Err(Error::not_found(format!("image {name} is for {has}, not for {wanted}"))
                    .hint("pull it for that platform first: coracle pull --platform"));
            }
            match saved.iter_mut().find(|other| other.image.manifest_digest == image.manifest_digest) {
                Some(other) => other.names.extend(tag.filter(|tag| !other.names.contains(tag))),
                None => {
                    let names = tag.into_iter().collect();
                    saved.push(Saved { image, entry: entries[at].clone(), names });
                }
            }
        }
    }
    Ok(saved)
}

/// The entries that `name` stands for, each with the tag to write. A digest is
/// no tag: of it, as of an id, the archive has the image without a name, so that
/// no `load` moves a name that nobody asked for.
fn meant(entries: &[Entry], name: &str) -> Result<Vec<(usize, Option<Reference>)>> {
    let tag = |reference: Reference| Some(reference).filter(|reference| reference.digest.is_none());
    let all = names::of_repository(entries, name);
    if !all.is_empty() {
        return Ok(all.into_iter().map(|at| (at, entries[at].name().and_then(tag))).collect());
    }
    match names::find(entries, name)? {
        Found::Name(at, reference) => Ok(vec![(at, tag(reference))]),
        Found::Image(all) => Ok(vec![(all[0], None)]),
        Found::Nothing => Err(no_such_image(name)),
    }
}

/// A regular file appears whole or not at all; a pipe or device is written to.
pub(super) fn write_file(path: &Path, write: impl FnOnce(Output<'_>) -> Result<()>) -> Result<()> {
    let special = std::fs::metadata(path).is_ok_and(|meta| !meta.is_file());
    if special {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(path)
            .context(|| format!("open {}", path.display()))?;
        return write(Output::Stream(&mut BufWriter::new(file)));
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.part", std::process::id()));
    // Docker's mode: what is in an image or a container may be secret.
    let mut open = std::fs::OpenOptions::new();
    open.write(true).create(true).truncate(true).mode(0o600);
    let file = open.open(&temporary).context(|| format!("make {}", path.display()))?;
    let result = write(Output::File(&mut BufWriter::with_capacity(256 << 10, file)))
        .and_then(|()| std::fs::rename(&temporary, path).context(|| format!("make {}", path.display())));
    if result.is_err() {
        std::fs::remove_file(&temporary).or_ignore();
    }
    result
}
