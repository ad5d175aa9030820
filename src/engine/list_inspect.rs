//! `manifest inspect`: a list that was made here, else what the registry has.
//!
//! An image that is here says nothing about the registry, which scripts ask this
//! way whether it has a name; so it is shown only where its name leads to none.

use super::images::locate;
use super::lists::is_list;
use super::pull::ACCEPT;
use super::registry_access::{RegistryOptions, Settings};
use crate::dirs::Dirs;
use crate::error::{Context, Error, Result};
use crate::image::config::{CONFIG_MAX, ImageConfig};
use crate::image::manifest::{
    self, DOCKER_MANIFEST, Descriptor, Document, MANIFEST_MAX, OCI_MANIFEST, is_index,
};
use crate::image::names::{self, Found};
use crate::image::store::ImageStore;
use crate::registry::client::{Access, Client};
use crate::registry::stream::small_blob;
use crate::types::digest::Digest;
use crate::types::reference::Reference;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// The list, or the manifest, as it is written.
    Document,
    /// Each manifest with its descriptor, as docker's `--verbose` has it.
    Each,
}

/// The domain of names that no registry has.
const LOCAL: &str = "localhost";

/// # Errors
/// `NotFound` where the registry has no such name; what else it says.
pub(crate) fn inspect(dirs: &Dirs, name: &str, options: &RegistryOptions, detail: Detail) -> Result<Value> {
    let name = name.strip_prefix("docker://").unwrap_or(name);
    let entries = ImageStore::at(&dirs.images()).entries()?;
    // By the id that it had when it was made.
    let known = super::lists::name_of(dirs, name).ok();
    let name = known.as_deref().unwrap_or(name);
    match names::find(&entries, name)? {
        Found::Name(at, reference) if is_list(&entries[at]) || reference.domain == LOCAL => {
            return Source::Here(dirs, Some(reference)).shown(name, detail);
        }
        Found::Image(all) => return Source::Here(dirs, entries[all[0]].name()).shown(name, detail),
        Found::Name(..) | Found::Nothing => {}
    }
    let settings = Settings::load(dirs)?;
    let mut failures: Vec<Error> = Vec::new();
    for reference in settings.conf.candidates(name)? {
        let endpoint = settings.conf.endpoint(&reference)?;
        let familiar = reference.familiar();
        let client = settings.client(endpoint, Access::Pull, options)?;
        match Source::There(Box::new(client), reference).shown(name, detail) {
            Ok(document) => return Ok(document),
            Err(error) => failures.push(error.context(format!("look at {familiar}"))),
        }
    }
    Err(super::pull::best_of(failures))
}

/// Where documents come from.
enum Source<'a> {
    /// With its name, where it has one.
    Here(&'a Dirs, Option<Reference>),
    There(Box<Client>, Reference),
}

impl Source<'_> {
    fn shown(&self, name: &str, detail: Detail) -> Result<Value> {
        let (bytes, media_type) = self.first(name)?;
        if detail == Detail::Document {
            return read(&bytes);
        }
        let digest = Digest::of(&bytes);
        match manifest::parse_any(&bytes, media_type.as_deref())? {
            Document::Index(index) => index.manifests.iter().map(|entry| self.one(entry)).collect(),
            Document::Manifest(manifest) => {
                let media_type = manifest.media_type.or(media_type).unwrap_or_else(|| OCI_MANIFEST.into());
                let mut descriptor = Descriptor::new(&media_type, digest, bytes.len() as u64);
                // What is no image says nothing of a platform.
                let config = self.blob(&manifest.config)?;
                descriptor.platform = ImageConfig::parse(&config).ok().map(|config| config.platform());
                described(self.reference(), &descriptor, &bytes)
            }
        }
    }

    fn reference(&self) -> Option<&Reference> {
        match self {
            Self::Here(_, reference) => reference.as_ref(),
            Self::There(_, reference) => Some(reference),
        }
    }

    /// What is under the name, and as what it is served.
    fn first(&self, name: &str) -> Result<(Vec<u8>, Option<String>)> {
        match self {
            Self::Here(dirs, _) => {
                let (store, entries, at) = locate(dirs, name)?;
                Ok((store.blobs().document(&entries[at].manifest_digest(), MANIFEST_MAX)?, None))
            }
            Self::There(client, reference) => {
                let served = client.manifest(&reference.manifest_name(), ACCEPT, MANIFEST_MAX)?;
                if let Some(wanted) = reference.digest.as_ref().filter(|wanted| !wanted.is_of(&served.bytes))
                {
                    return Err(Error::invalid(format!("the registry sent other content for {wanted}")));
                }
                Ok((served.bytes, served.media_type))
            }
        }
    }

    /// One manifest of a list.
    fn one(&self, entry: &Descriptor) -> Result<Value> {
        let bytes = match self {
            Self::Here(dirs, _) => {
                ImageStore::at(&dirs.images()).blobs().document(&entry.digest, MANIFEST_MAX)?
            }
            Self::There(client, _) => {
                let served = client.manifest(&entry.digest.to_string(), ACCEPT, MANIFEST_MAX)?;
                if !entry.digest.is_of(&served.bytes) {
                    return Err(Error::invalid(format!(
                        "the registry sent other content for {}",
                        entry.digest
                    )));
                }
                served.bytes
            }
        };
        let reference = self
            .reference()
            .map(|reference| Reference { digest: Some(entry.digest.clone()), ..reference.clone() });
        described(reference.as_ref(), entry, &bytes)
    }

    fn blob(&self, blob: &Descriptor) -> Result<Vec<u8>> {
        if blob.size > CONFIG_MAX {
            return Err(Error::invalid(format!("the image config has more than {CONFIG_MAX} bytes")));
        }
        match self {
            Self::Here(dirs, _) => ImageStore::at(&dirs.images()).blobs().document(&blob.digest, CONFIG_MAX),
            Self::There(client, _) => small_blob(client, &blob.digest, blob.size),
        }
    }
}

/// Docker's `ImageManifest`.
fn described(reference: Option<&Reference>, descriptor: &Descriptor, bytes: &[u8]) -> Result<Value> {
    let key = match descriptor.media_type.as_str() {
        DOCKER_MANIFEST => "SchemaV2Manifest",
        _ => "OCIManifest",
    };
    let mut shown = json!({
        "Ref": reference.map(ToString::to_string),
        "Descriptor": serde_json::to_value(descriptor).context(|| "write a descriptor")?,
        "Raw": STANDARD.encode(bytes),
    });
    // A list in a list is no manifest.
    if !is_index(&descriptor.media_type) {
        shown[key] = read(bytes)?;
    }
    Ok(shown)
}

fn read(bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).context(|| "read the manifest")
}
