//! Other forms of an image for its way to a registry: layers compressed in
//! another way, manifests with docker's or OCI's media types. The config, and
//! with it the image's id, stays.

use super::index_type;
use crate::error::{Context, Error, Result};
use crate::image::blob::{BlobWriter, Blobs, Ingest};
use crate::image::compression::decoder;
use crate::image::manifest::{
    DOCKER_CONFIG, DOCKER_INDEX, DOCKER_LAYER, DOCKER_LAYER_GZIP, DOCKER_LAYER_ZSTD, DOCKER_MANIFEST,
    Descriptor, Index, Manifest, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD,
    OCI_MANIFEST,
};
use crate::registry::download::{Meter, Worker};
use crate::types::digest::Digest;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;

/// Whose media types the documents have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Oci,
    /// Docker's schema 2.
    Docker,
}

/// How layers are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compress {
    Gzip,
    Zstd,
}

/// What gzip(1) and zstd(1) take without being told.
const GZIP_LEVEL: u8 = 6;
const ZSTD_LEVEL: u8 = 3;

/// What is changed on the way; nothing by default but layers that are not
/// compressed, which become gzip as docker's do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Conversion {
    pub(crate) form: Option<Form>,
    pub(crate) compress: Option<Compress>,
    /// Compresses all layers anew.
    pub(crate) level: Option<u8>,
    /// Also those that are compressed so already.
    pub(crate) force: bool,
}

/// Docker's names for the same things.
const PAIRS: [(&str, &str); 6] = [
    (OCI_MANIFEST, DOCKER_MANIFEST),
    (OCI_INDEX, DOCKER_INDEX),
    (OCI_CONFIG, DOCKER_CONFIG),
    (OCI_LAYER, DOCKER_LAYER),
    (OCI_LAYER_GZIP, DOCKER_LAYER_GZIP),
    (OCI_LAYER_ZSTD, DOCKER_LAYER_ZSTD),
];

/// A layer that was made anew.
pub(super) struct Made {
    pub(super) described: Descriptor,
    pub(super) path: PathBuf,
}

impl Conversion {
    /// # Errors
    /// `Invalid` for what no registry or tool would understand.
    pub(crate) fn check(self) -> Result<()> {
        if self.form == Some(Form::Docker) && self.compress == Some(Compress::Zstd) {
            return Err(Error::invalid("docker's schema 2 has no layers compressed by zstd")
                .hint("use --format oci with --compression-format zstd"));
        }
        let most = if self.compress == Some(Compress::Zstd) { 20 } else { 9 };
        match self.level {
            Some(level) if !(1..=most).contains(&level) => {
                Err(Error::invalid(format!("compression level {level} is not between 1 and {most}")))
            }
            _ => Ok(()),
        }
    }

    /// Whether any layer is to be made anew.
    pub(super) fn may_change<'a>(self, mut manifests: impl Iterator<Item = &'a Manifest>) -> bool {
        manifests.any(|manifest| manifest.layers.iter().any(|layer| self.changes(layer)))
    }

    /// Whether this layer is to be made anew.
    pub(super) fn changes(self, layer: &Descriptor) -> bool {
        if self.force || self.level.is_some() {
            return true;
        }
        match compression_of(layer) {
            None => true,
            Some(now) => now != self.wanted(now),
        }
    }

    /// The compression for a layer that has `now`.
    fn wanted(self, now: Compress) -> Compress {
        match (self.compress, self.form) {
            (Some(wanted), _) => wanted,
            (None, Some(Form::Docker)) => Compress::Gzip,
            (None, _) => now,
        }
    }

    /// How this layer is compressed anew, and at which level.
    fn target(self, layer: &Descriptor) -> (Compress, u8) {
        let how = self.wanted(compression_of(layer).unwrap_or(Compress::Gzip));
        let usual = match how {
            Compress::Gzip => GZIP_LEVEL,
            Compress::Zstd => ZSTD_LEVEL,
        };
        (how, self.level.unwrap_or(usual))
    }

    /// The name of what a layer becomes, for `image/remade`.
    pub(super) fn target_name(self, layer: &Descriptor) -> String {
        let (how, level) = self.target(layer);
        let how = match how {
            Compress::Gzip => "gzip",
            Compress::Zstd => "zstd",
        };
        format!("{how}-{level}")
    }

    /// Compresses a layer's content anew.
    pub(super) fn layer(
        self,
        blobs: &Blobs,
        layer: &Descriptor,
        ingest: &Ingest,
        worker: &Worker<'_>,
    ) -> Result<Made> {
        let make = || -> Result<Made> {
            let meter = Meter { id: layer.digest.short(), verb: "Compressing", done: 0, total: layer.size };
            let file = worker.watch(blobs.verified(&layer.digest)?, meter);
            let (_, mut content) = decoder(file)?;
            let (how, level) = self.target(layer);
            let writer = compress(&mut *content, ingest.writer(u64::MAX)?, how, level)?;
            let spooled = writer.finish();
            let media_type = match how {
                Compress::Gzip => OCI_LAYER_GZIP,
                Compress::Zstd => OCI_LAYER_ZSTD,
            };
            let mut described = Descriptor::new(media_type, spooled.digest, spooled.size);
            described.annotations.clone_from(&layer.annotations);
            Ok(Made { described, path: spooled.path })
        };
        make().context(|| format!("compress layer {}", layer.digest))
    }

    /// The manifest with what became of its layers; `None` where it stays as it is.
    pub(super) fn manifest(
        self,
        manifest: &Manifest,
        placed: &BTreeMap<Digest, Descriptor>,
    ) -> Result<Option<Manifest>> {
        let mut new = manifest.clone();
        let form = self.form.unwrap_or_else(|| form_of(manifest));
        for layer in &mut new.layers {
            if let Some(placed) = placed.get(&layer.digest).filter(|placed| placed.digest != layer.digest) {
                layer.clone_from(placed);
            }
        }
        if self.form.is_some() || new != *manifest {
            let own = new.media_type.get_or_insert_with(|| OCI_MANIFEST.to_owned());
            rename(own, form);
            for blob in std::iter::once(&mut new.config).chain(&mut new.layers) {
                rename(&mut blob.media_type, form);
            }
        }
        if form == Form::Docker
            && new.layers.iter().any(|layer| layer.media_type == DOCKER_LAYER_ZSTD)
            && new != *manifest
        {
            return Err(Error::invalid("docker's schema 2 has no layers compressed by zstd")
                .hint("use --format oci, or --compression-format gzip"));
        }
        Ok((new != *manifest).then_some(new))
    }

    /// The index with what became of its manifests: bytes and media type.
    pub(super) fn index(
        self,
        bytes: Vec<u8>,
        index: Index,
        changed: &BTreeMap<Digest, (Digest, u64, String)>,
    ) -> Result<(Vec<u8>, String)> {
        let mut new = index.clone();
        for entry in &mut new.manifests {
            if let Some((digest, size, media_type)) = changed.get(&entry.digest)
                && *digest != entry.digest
            {
                (entry.digest, entry.size) = (digest.clone(), *size);
                entry.media_type.clone_from(media_type);
            }
        }
        if let Some(form) = self.form {
            rename(new.media_type.get_or_insert_with(|| OCI_INDEX.to_owned()), form);
        }
        if new == index {
            return Ok((bytes, index_type(&index)));
        }
        Ok((serde_json::to_vec(&new).context(|| "write the image index")?, index_type(&new)))
    }
}

fn form_of(manifest: &Manifest) -> Form {
    if manifest.media_type.as_deref() == Some(DOCKER_MANIFEST) { Form::Docker } else { Form::Oci }
}

fn rename(media_type: &mut String, form: Form) {
    let pair = PAIRS.iter().find(|(oci, docker)| media_type == oci || media_type == docker);
    if let Some((oci, docker)) = pair {
        let name = if form == Form::Oci { oci } else { docker };
        (*name).clone_into(media_type);
    }
}

/// `None` for a plain tar archive.
fn compression_of(layer: &Descriptor) -> Option<Compress> {
    match layer.media_type.as_str() {
        OCI_LAYER | DOCKER_LAYER => None,
        OCI_LAYER_ZSTD | DOCKER_LAYER_ZSTD => Some(Compress::Zstd),
        _ => Some(Compress::Gzip),
    }
}

fn compress(content: &mut dyn Read, writer: BlobWriter, how: Compress, level: u8) -> Result<BlobWriter> {
    let action = || "compress";
    match how {
        Compress::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(writer, flate2::Compression::new(level.into()));
            pump(content, &mut encoder)?;
            encoder.finish().context(action)
        }
        Compress::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(writer, level.into()).context(action)?;
            encoder.include_checksum(true).context(action)?;
            pump(content, &mut encoder)?;
            encoder.finish().context(action)
        }
    }
}

fn pump(from: &mut dyn Read, to: &mut dyn Write) -> Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count]).context(|| "write the new layer")?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context(|| "read the layer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(media_type: &str, layer: &str) -> Manifest {
        let config = Descriptor::new(OCI_CONFIG, Digest::of(b"c"), 1);
        let layer = Descriptor::new(layer, Digest::of(b"l"), 1);
        Manifest { media_type: Some(media_type.into()), ..Manifest::oci(config, vec![layer]) }
    }

    #[test]
    fn only_what_must_be_is_compressed_anew() {
        let none = Conversion::default();
        let layer = |media_type: &str| Descriptor::new(media_type, Digest::of(b"l"), 1);
        assert!(!none.changes(&layer(OCI_LAYER_GZIP)) && !none.changes(&layer(OCI_LAYER_ZSTD)));
        assert!(none.changes(&layer(OCI_LAYER)) && none.changes(&layer(DOCKER_LAYER)));
        let zstd = Conversion { compress: Some(Compress::Zstd), ..none };
        assert!(zstd.changes(&layer(OCI_LAYER_GZIP)) && !zstd.changes(&layer(OCI_LAYER_ZSTD)));
        let docker = Conversion { form: Some(Form::Docker), ..none };
        assert!(!docker.changes(&layer(OCI_LAYER_GZIP)) && docker.changes(&layer(OCI_LAYER_ZSTD)));
        assert!(Conversion { level: Some(3), ..none }.changes(&layer(OCI_LAYER_GZIP)));
        assert!(Conversion { force: true, ..none }.changes(&layer(OCI_LAYER_GZIP)));
    }

    #[test]
    fn forms_change_names_and_nothing_else() {
        let oci = manifest(OCI_MANIFEST, OCI_LAYER_GZIP);
        let placed = BTreeMap::new();
        assert_eq!(Conversion::default().manifest(&oci, &placed).expect("same"), None);
        let to = |form| Conversion { form: Some(form), ..Conversion::default() };
        let docker = to(Form::Docker).manifest(&oci, &placed).expect("converted").expect("changed");
        assert_eq!(docker.media_type.as_deref(), Some(DOCKER_MANIFEST));
        assert_eq!(docker.config.media_type, DOCKER_CONFIG);
        assert_eq!(docker.layers[0].media_type, DOCKER_LAYER_GZIP);
        assert_eq!(to(Form::Oci).manifest(&docker, &placed).expect("back"), Some(oci));
        let zstd = manifest(OCI_MANIFEST, OCI_LAYER_ZSTD);
        assert!(to(Form::Docker).manifest(&zstd, &placed).is_err());
    }

    #[test]
    fn levels_and_forms_that_do_not_exist_are_refused() {
        let check = |form, compress, level| Conversion { form, compress, level, force: false }.check();
        assert!(check(None, None, Some(9)).is_ok() && check(None, Some(Compress::Zstd), Some(20)).is_ok());
        assert!(check(None, None, Some(10)).is_err() && check(None, None, Some(0)).is_err());
        assert!(check(None, Some(Compress::Zstd), Some(21)).is_err());
        assert!(check(Some(Form::Docker), Some(Compress::Zstd), None).is_err());
    }
}
