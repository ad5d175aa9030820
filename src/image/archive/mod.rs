//! Archives of images as they come in: docker-archive, oci-archive, and an OCI
//! layout directory. The stream is read once, in constant memory: every file
//! in it is spooled into the ingest place while it is hashed, and the documents
//! are looked at afterwards, wherever in the archive they were.
//!
//! `docker` and `oci` read the two families of them.
//!
//! A name in an archive is a key of a map and never a path (CVE-2025-11395).

mod docker;
mod oci;

use super::blob::{Ingest, Spooled};
use super::compression::decoder;
use super::config::ImageConfig;
use super::manifest::{MANIFEST_MAX, Manifest};
use super::store::{Entry, ImageStore, StoredImage};
use crate::error::{Cause, Context, Error, Result};
use crate::types::platform::Platform;
use crate::types::reference::Reference;
use std::cell::Cell;
use std::collections::HashMap;
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
            let mut entry = entry.map_err(|error| unreadable(error, members.len()))?;
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

    /// Puts the blobs of the images into the store and says what they are. The
    /// caller gives them names.
    pub(crate) fn load(
        &self,
        store: &ImageStore,
        ingest: &Ingest,
        wanted: Wanted<'_>,
    ) -> Result<Vec<Loaded>> {
        let load = Load { archive: self, store, ingest, wanted };
        // An archive of docker 25 and later is both; its manifest.json is what docker reads.
        if let Some(bytes) = self.document("manifest.json", MANIFEST_MAX, ingest)? {
            // A list in docker's archives; in skopeo's `dir:` the manifest itself.
            return match bytes.trim_ascii_start().first() {
                Some(b'{') => load.directory(&bytes).map(|image| vec![image]),
                _ => load.docker(&bytes),
            };
        }
        if let Some(bytes) = self.document("index.json", MANIFEST_MAX, ingest)? {
            return load.oci(&bytes);
        }
        Err(Error::invalid("this is no image archive: it has neither manifest.json nor index.json")
            .hint("use `import` for the tar of a file system"))
    }
}

/// What is wanted of an archive.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted<'a> {
    /// Of an index this one; this machine's where `None`.
    pub(crate) platform: Option<&'a Platform>,
    pub(crate) images: Which<'a>,
}

/// Which images of an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Which<'a> {
    #[default]
    All,
    /// The only one there is.
    One,
    /// The one of this name, as it stands in the archive or normalised.
    Named(&'a str),
    /// The one at this place, from 0: skopeo's `@0`.
    At(usize),
}

/// Loading from one archive.
struct Load<'a> {
    archive: &'a Archive,
    store: &'a ImageStore,
    ingest: &'a Ingest,
    wanted: Wanted<'a>,
}

impl Load<'_> {
    /// The places of the images that are wanted; `names` are those of each.
    fn choose(&self, names: &[Vec<String>]) -> Result<Vec<usize>> {
        let there = || {
            let all: Vec<&str> = names.iter().flatten().map(String::as_str).take(20).collect();
            if all.is_empty() {
                "its images have no names".to_owned()
            } else {
                format!("it has {}", all.join(", "))
            }
        };
        match self.wanted.images {
            Which::All => Ok((0..names.len()).collect()),
            Which::One if names.len() == 1 => Ok(vec![0]),
            Which::One => Err(Error::invalid(format!("the archive has {} images", names.len()))
                .hint(format!("{}; name one after a colon, or take all with `coracle load -i`", there()))),
            Which::At(at) if at < names.len() => Ok(vec![at]),
            Which::At(at) => {
                Err(Error::not_found(format!("the archive has {} images, and no @{at}", names.len())))
            }
            Which::Named(wanted) => {
                let reference = Reference::parse(wanted).ok();
                let is = |name: &String| {
                    name == wanted || reference.is_some() && Reference::parse(name).ok() == reference
                };
                let at = names.iter().position(|names| names.iter().any(is));
                at.map(|at| vec![at]).ok_or_else(|| {
                    Error::not_found(format!("the archive has no image {wanted:?}")).hint(there())
                })
            }
        }
    }
}

fn check_count(images: usize) -> Result<()> {
    match images {
        0 => Err(Error::invalid("the archive has no images")),
        1..=IMAGES_MAX => Ok(()),
        _ => Err(Error::invalid(format!("the archive has more than {IMAGES_MAX} images"))),
    }
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

/// Why the next member could not be read. The tar crate quotes what it read, and
/// may do so over many lines.
fn unreadable(error: std::io::Error, members: usize) -> Error {
    if error.raw_os_error().is_some() {
        return error.into_error().context("read the archive");
    }
    let text = error.to_string();
    let line: String = text.lines().next().unwrap_or_default().chars().take(200).collect();
    if members > 0 {
        return Error::failed(format!("read the archive after {members} files: {line}"));
    }
    Error::invalid(format!("it is no archive of images ({line})"))
        .hint("`load` takes what `save` of coracle, docker, podman and skopeo writes; `import` takes a tar of files")
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
mod tests;
