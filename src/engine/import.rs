//! The tar of a file system to an image of one layer.

use super::events::note_image;
use super::images::{LocalImage, ensure_layers};
use super::instruction::apply_changes;
use super::load::give_names;
use super::orphans;
use crate::dirs::Dirs;
use crate::error::{Context, Error, Result};
use crate::image::archive::{copy, publish};
use crate::image::blob::Tee;
use crate::image::compression::{Compression, as_layer, decoder};
use crate::image::config::{Execution, History, ImageConfig, RootFs};
use crate::image::manifest::{Descriptor, Manifest, OCI_CONFIG};
use crate::image::store::ImageStore;
use crate::storage::unpack::Ownership;
use crate::types::digest::{Digest, Hashed};
use crate::types::platform::Platform;
use crate::types::reference::Reference;
use std::io::Read;

#[derive(Clone, Debug, Default)]
pub(crate) struct ImportOptions {
    /// The new image's name; none where `None`.
    pub(crate) reference: Option<Reference>,
    /// `--change`: instructions of a Dockerfile.
    pub(crate) changes: Vec<String>,
    /// `-m`
    pub(crate) message: Option<String>,
    pub(crate) platform: Option<Platform>,
}

/// Makes an image of a tar stream, which may be compressed.
pub(crate) fn import(
    dirs: &Dirs,
    stream: &mut dyn Read,
    options: &ImportOptions,
    ownership: Ownership,
) -> Result<LocalImage> {
    let mut execution = Execution::default();
    apply_changes(&mut execution, &options.changes)?;
    let store = ImageStore::open(&dirs.images())?;
    let ingest = store.ingest()?;
    let mut writer = ingest.writer(u64::MAX)?;
    let mut tee = Tee { inner: as_layer(stream)?, writer: &mut writer };
    let mut content = Hashed::new(std::io::sink());
    let (compression, mut tar) = decoder(&mut tee)?;
    copy(&mut tar, &mut content).context(|| "read the archive")?;
    drop(tar);
    copy(&mut tee, &mut std::io::sink()).context(|| "read the archive")?;
    let spooled = writer.finish();
    if spooled.size == 0 {
        return Err(Error::invalid("the archive is empty"));
    }
    let media_type = compression.layer_type().ok_or_else(|| packed_twice(compression))?;
    let layer = Descriptor::new(media_type, spooled.digest.clone(), spooled.size);
    ingest.publish(&spooled)?;
    let config = config(options, execution, content.finish().1);
    let bytes = serde_json::to_vec(&config).context(|| "write the image config")?;
    let descriptor = Descriptor::new(OCI_CONFIG, ingest.put(&bytes)?, bytes.len() as u64);
    let names = options.reference.clone().into_iter().collect();
    let loaded = publish(&ingest, Manifest::oci(descriptor, vec![layer]), config, names)?;
    let image = LocalImage::new(loaded.image.clone(), options.reference.clone());
    let unpacked = give_names(&store, vec![loaded], || ensure_layers(dirs, &image, ownership));
    if unpacked.is_err() {
        // Not a tar, perhaps.
        drop(ingest);
        orphans::drop_unneeded(&store, &[&spooled.digest, &image.id, &image.manifest])?;
    }
    unpacked.map_err(|error| {
        error.hint("`import` takes a tar of a root file system; an archive of images is for `load`")
    })?;
    note_image(dirs, "import", &image.id.to_string(), options.reference.as_ref().map(Reference::familiar));
    Ok(image)
}

fn packed_twice(compression: Compression) -> Error {
    Error::invalid(format!("the archive is compressed twice, by {compression:?} inside"))
        .hint("unpack it once")
}

fn config(options: &ImportOptions, config: Execution, diff_id: Digest) -> ImageConfig {
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let now = jiff::Timestamp::now().to_string();
    ImageConfig {
        created: Some(now.clone()),
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        comment: options.message.clone(),
        config,
        rootfs: RootFs { kind: "layers".into(), diff_ids: vec![diff_id] },
        history: vec![History {
            created: Some(now),
            created_by: Some("coracle import".into()),
            comment: options.message.clone(),
            ..History::default()
        }],
        ..ImageConfig::default()
    }
}
