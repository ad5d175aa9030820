//! Docker's archive: `manifest.json` is a list of images, whose configs and
//! layers may have any names.

use super::{Load, Loaded, check_count, normalise, publish};
use crate::error::{Context, Error, Result};
use crate::image::blob::Spooled;
use crate::image::compression::{Compression, decoder};
use crate::image::config::{CONFIG_MAX, ImageConfig};
use crate::image::manifest::{Descriptor, Manifest, OCI_CONFIG};
use crate::types::digest::Digest;
use crate::types::reference::Reference;
use serde::Deserialize;

/// One image of docker's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Load<'_> {
    pub(super) fn docker(&self, bytes: &[u8]) -> Result<Vec<Loaded>> {
        let manifests: Vec<DockerManifest> =
            serde_json::from_slice(bytes).context(|| "read manifest.json of the archive")?;
        check_count(manifests.len())?;
        let names: Vec<Vec<String>> =
            manifests.iter().map(|manifest| manifest.repo_tags.clone().unwrap_or_default()).collect();
        self.choose(&names)?.into_iter().map(|at| self.docker_image(&manifests[at])).collect()
    }

    fn docker_image(&self, from: &DockerManifest) -> Result<Loaded> {
        let Self { archive, ingest, .. } = self;
        let bytes = archive.needed(&normalise(from.config.as_bytes())?, ingest)?.read(CONFIG_MAX)?;
        let config =
            ImageConfig::parse(&bytes).context(|| format!("config {:?} of the archive", from.config))?;
        if from.layers.len() != config.rootfs.diff_ids.len() {
            return Err(Error::invalid("manifest and config of the archive disagree about the layers"));
        }
        let mut layers = Vec::new();
        for (name, diff_id) in from.layers.iter().zip(&config.rootfs.diff_ids) {
            let spooled = archive.needed(&normalise(name.as_bytes())?, ingest);
            layers.push(self.take_layer(spooled, diff_id).context(|| format!("layer {name:?}"))?);
        }
        let names =
            from.repo_tags.iter().flatten().map(|name| Reference::parse(name)).collect::<Result<_>>()?;
        let id = ingest.put(&bytes)?;
        let manifest = Manifest::oci(Descriptor::new(OCI_CONFIG, id, bytes.len() as u64), layers);
        publish(ingest, manifest, config, names)
    }

    /// Publishes one layer. The archive names layers freely; their content must
    /// be what the config says.
    fn take_layer(&self, spooled: Result<Spooled>, diff_id: &Digest) -> Result<Descriptor> {
        let blobs = self.store.blobs();
        // A layer that occurs twice may be an empty entry the second time, and one
        // that another image brought is published and gone from the spool.
        let spooled = spooled?;
        let published = blobs.path(&spooled.digest);
        let file = if published.exists() && !spooled.path.exists() {
            std::fs::File::open(&published).context(|| format!("open blob {}", spooled.digest))?
        } else {
            spooled.open()?
        };
        let (compression, _) = decoder(file)?;
        if compression == Compression::None && spooled.digest != *diff_id {
            return Err(Error::invalid(format!(
                "it has other content than the config says: {}",
                spooled.digest
            )));
        }
        let media_type = compression.layer_type().ok_or_else(|| {
            Error::invalid(format!("layers are not compressed by {compression:?}"))
                .hint("have the archive written anew; compressed as a whole it may be so")
        })?;
        let descriptor = Descriptor::new(media_type, spooled.digest.clone(), spooled.size);
        if !blobs.contains(&descriptor) {
            self.ingest.publish(&spooled)?;
        }
        Ok(descriptor)
    }
}
