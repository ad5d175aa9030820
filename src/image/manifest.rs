//! Index, manifest and descriptor: OCI's and Docker's schema 2.
//!
//! Source: OCI image-spec `manifest.md`, `image-index.md`, `descriptor.md`;
//! Docker "Image Manifest Version 2, Schema 2".

use crate::error::{Context, Error, Result};
use crate::types::digest::Digest;
use crate::types::platform::Platform;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(crate) const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
pub(crate) const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub(crate) const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

/// Layers that can be unpacked. Which compression they have is read from their
/// first bytes: registries hold images whose types are wrong, and the digest of
/// the unpacked layer decides in any case.
const LAYERS: &[&str] =
    &[OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, DOCKER_LAYER, DOCKER_LAYER_GZIP, DOCKER_LAYER_ZSTD];

/// Bytes of an index or a manifest: what registries accept (image-spec,
/// distribution-spec "4 megabytes").
pub(crate) const MANIFEST_MAX: u64 = 4 << 20;
/// Layers of one image; overlayfs takes 500 lower directories.
const LAYERS_MAX: usize = 500;
/// Manifests of one index.
const MANIFESTS_MAX: usize = 10_000;

/// What a document says of a blob. Fields that are not known here are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    /// Bytes.
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(flatten)]
    pub(crate) other: Map<String, Value>,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
            other: Map::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) manifests: Vec<Descriptor>,
    #[serde(flatten)]
    pub(crate) other: Map<String, Value>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            schema_version: 2,
            media_type: Some(OCI_INDEX.to_owned()),
            manifests: Vec::new(),
            other: Map::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    /// Annotations, and whatever else there is.
    #[serde(flatten)]
    pub(crate) other: Map<String, Value>,
}

impl Manifest {
    /// A manifest of our own making, in OCI form.
    pub(crate) fn oci(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        let media_type = Some(OCI_MANIFEST.to_owned());
        Self { schema_version: 2, media_type, config, layers, other: Map::new() }
    }

    /// The same image as Docker's schema 2; `None` where that has no type for a layer.
    pub(crate) fn into_docker(mut self) -> Option<Self> {
        self.media_type = Some(DOCKER_MANIFEST.to_owned());
        DOCKER_CONFIG.clone_into(&mut self.config.media_type);
        for layer in &mut self.layers {
            layer.media_type = match layer.media_type.as_str() {
                OCI_LAYER => DOCKER_LAYER.to_owned(),
                OCI_LAYER_GZIP => DOCKER_LAYER_GZIP.to_owned(),
                DOCKER_LAYER | DOCKER_LAYER_GZIP => continue,
                _ => return None,
            };
        }
        Some(self)
    }

    /// # Errors
    /// `Invalid`, saying why, where it is of something that cannot be run.
    pub(crate) fn refuse_artifact(&self) -> Result<()> {
        if !matches!(self.config.media_type.as_str(), OCI_CONFIG | DOCKER_CONFIG) {
            let kind = self.artifact_type();
            return Err(Error::invalid(format!("this is an artifact of type {kind:?}, not an image")));
        }
        let Some(layer) = self.layers.iter().find(|layer| !LAYERS.contains(&layer.media_type.as_str()))
        else {
            return Ok(());
        };
        let kind = &layer.media_type;
        Err(if is_kept_elsewhere(kind) {
            Error::invalid(format!(
                "layer {} is kept outside registries ({kind}) and cannot be had",
                layer.digest
            ))
        } else {
            Error::invalid(format!("layer {} is of unknown type {kind:?}", layer.digest))
        })
    }
}

/// Layers that registries need not have: image-spec `layer.md`,
/// "Non-Distributable Layers"; Docker's foreign layers.
pub(crate) fn is_kept_elsewhere(media_type: &str) -> bool {
    media_type.contains("nondistributable") || media_type.contains("foreign")
}

/// What a registry or a layout has under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
// It lives for the moment between its reading and its use.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Document {
    Index(Index),
    Manifest(Manifest),
}

/// `null` where Go writes an empty list or map.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// The fields that say what a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: u32,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

/// Reads an index or a manifest. `served_as` is the type that the registry or
/// the descriptor gives; the document's own must not contradict it.
///
/// # Errors
/// `Invalid` for a document that could be read as two things (CVE-2021-41190),
/// for schema 1, for other types, for artifacts, and for more than the limits
/// of this file.
pub(crate) fn parse(bytes: &[u8], served_as: Option<&str>) -> Result<Document> {
    let document = parse_any(bytes, served_as)?;
    if let Document::Manifest(manifest) = &document {
        manifest.refuse_artifact()?;
    }
    Ok(document)
}

/// The same, and artifacts as well: whatever is in their config and layers.
///
/// # Errors
/// Those of [`parse`] but for what an image must have.
pub(crate) fn parse_any(bytes: &[u8], served_as: Option<&str>) -> Result<Document> {
    if bytes.len() as u64 > MANIFEST_MAX {
        return Err(Error::invalid(format!("the manifest has more than {MANIFEST_MAX} bytes")));
    }
    // In what is passed over nobody looks at it, and readers differ about it.
    if std::str::from_utf8(bytes).is_err() {
        return Err(Error::invalid("the manifest is not UTF-8"));
    }
    let shape: Shape = serde_json::from_slice(bytes).context(|| "read the manifest")?;
    refuse_look_alikes(bytes)?;
    if shape.schema_version == 1 || shape.fs_layers.is_some() {
        return Err(Error::invalid("the image has a manifest of schema 1, which is obsolete")
            .hint("push the image again with a current tool"));
    }
    if shape.schema_version != 2 {
        return Err(Error::invalid(format!("manifest of unknown schema {}", shape.schema_version)));
    }
    if shape.manifests.is_some() && (shape.layers.is_some() || shape.config.is_some()) {
        return Err(Error::invalid("the manifest is ambiguous: it has both manifests and layers"));
    }
    let own = shape.media_type.as_deref().filter(|own| !own.is_empty());
    let served_as = served_as.filter(|served| is_index(served) || is_manifest(served));
    if let (Some(own), Some(served)) = (own, served_as)
        && own != served
    {
        return Err(Error::invalid(format!("the manifest is served as {served} but says it is {own}")));
    }
    let index = match own.or(served_as) {
        Some(known) if is_index(known) => true,
        Some(known) if is_manifest(known) => false,
        Some(other) => return Err(Error::invalid(format!("a document of type {other:?} is not an image"))),
        None => shape.manifests.is_some(),
    };
    if index && shape.manifests.is_none() {
        return Err(Error::invalid("the image index has no manifests"));
    }
    if index {
        parse_index(bytes).map(Document::Index)
    } else {
        parse_manifest(bytes).map(Document::Manifest)
    }
}

/// Go's reader of JSON takes `Layers` for `layers`, and other letters that fold
/// into these: a document that has one says different things to different tools.
#[expect(clippy::zero_sized_map_values, reason = "serde reads maps, and the values are passed over")]
fn refuse_look_alikes(bytes: &[u8]) -> Result<()> {
    const KEYS: [&str; 5] = ["schemaVersion", "mediaType", "config", "layers", "manifests"];
    let fold = |key: &str| key.to_lowercase().to_uppercase();
    let keys: BTreeMap<String, serde::de::IgnoredAny> =
        serde_json::from_slice(bytes).context(|| "read the manifest")?;
    let doubtful = keys.keys().find(|key| KEYS.iter().any(|known| key != known && fold(key) == fold(known)));
    match doubtful {
        None => Ok(()),
        Some(key) => Err(Error::invalid(format!("the manifest is ambiguous: it has the key {key:?}"))),
    }
}

pub(crate) fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_INDEX)
}

pub(crate) fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}

fn parse_index(bytes: &[u8]) -> Result<Index> {
    let index: Index = serde_json::from_slice(bytes).context(|| "read the image index")?;
    if index.manifests.len() > MANIFESTS_MAX {
        return Err(Error::invalid(format!("the image index has more than {MANIFESTS_MAX} manifests")));
    }
    Ok(index)
}

fn parse_manifest(bytes: &[u8]) -> Result<Manifest> {
    let manifest: Manifest = serde_json::from_slice(bytes).context(|| "read the image manifest")?;
    if manifest.layers.len() > LAYERS_MAX {
        return Err(Error::invalid(format!("the image has more than {LAYERS_MAX} layers")));
    }
    Ok(manifest)
}

/// The manifest of `index` for `wanted`: the same variant before none before
/// another that runs there.
///
/// # Errors
/// `NotFound`, naming the platforms that there are.
pub(crate) fn choose<'a>(index: &'a Index, wanted: &Platform) -> Result<&'a Descriptor> {
    let rank = |entry: &Descriptor| -> Option<u8> {
        let platform = entry.platform.as_ref()?;
        if platform == wanted {
            Some(0)
        } else if platform.satisfies(wanted) {
            Some(if platform.variant.is_none() { 1 } else { 2 })
        } else if runs_older_arm(platform, wanted) {
            Some(3)
        } else {
            None
        }
    };
    let ranked = index.manifests.iter().filter_map(|entry| Some((rank(entry)?, entry)));
    if let Some((_, best)) = ranked.min_by_key(|(rank, _)| *rank) {
        return Ok(best);
    }
    // An index with one nameless manifest says nothing about platforms; the
    // image's config will.
    if let [only] = index.manifests.as_slice()
        && only.platform.is_none()
    {
        return Ok(only);
    }
    let mut platforms: Vec<String> =
        index.manifests.iter().filter_map(|entry| entry.platform.as_ref()).map(ToString::to_string).collect();
    platforms.retain(|platform| !platform.contains("unknown"));
    platforms.sort();
    platforms.dedup();
    platforms.truncate(20);
    let error = Error::not_found(format!("the image has nothing for the platform {wanted}"));
    Err(if platforms.is_empty() {
        error.hint("its list has no image that says for which platform it is")
    } else {
        error.hint(format!("it has {}; choose one with --platform", platforms.join(", ")))
    })
}

/// 32-bit arm processors run what was built for older ones.
fn runs_older_arm(platform: &Platform, wanted: &Platform) -> bool {
    let version = |platform: &Platform| {
        platform.variant.as_deref().and_then(|variant| variant.strip_prefix('v')?.parse::<u8>().ok())
    };
    platform.os == wanted.os
        && platform.architecture == "arm"
        && wanted.architecture == "arm"
        && version(platform).zip(version(wanted)).is_some_and(|(has, runs)| has < runs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn digest(n: u8) -> String {
        Digest::of(&[n]).to_string()
    }

    fn manifest() -> Value {
        json!({
            "schemaVersion": 2,
            "config": {"mediaType": OCI_CONFIG, "digest": digest(0), "size": 2},
            "layers": [{"mediaType": OCI_LAYER_GZIP, "digest": digest(1), "size": 3}],
        })
    }

    fn read(value: &Value, served_as: Option<&str>) -> Result<Document> {
        parse(&serde_json::to_vec(value).expect("json"), served_as)
    }

    #[test]
    fn both_kinds_are_read_with_and_without_a_type() {
        assert!(matches!(read(&manifest(), None), Ok(Document::Manifest(_))));
        assert!(matches!(read(&manifest(), Some(DOCKER_MANIFEST)), Ok(Document::Manifest(_))));
        assert!(matches!(read(&manifest(), Some("application/json")), Ok(Document::Manifest(_))));
        let index = json!({"schemaVersion": 2, "manifests": []});
        assert!(matches!(read(&index, None), Ok(Document::Index(_))));
    }

    /// CVE-2021-41190 and its kin: one document, two readings.
    #[test]
    fn ambiguous_documents_are_refused() {
        let mut both = manifest();
        both["manifests"] = json!([]);
        for served in [None, Some(OCI_MANIFEST), Some(OCI_INDEX)] {
            assert!(read(&both, served).is_err(), "{served:?}");
        }
        for look_alike in ["Layers", "LAYERS", "layer\u{17f}", "Manifests", "MediaType"] {
            let mut two = manifest();
            two[look_alike] = json!([]);
            assert!(read(&two, None).is_err(), "{look_alike}");
        }
        let text = manifest().to_string();
        let twice = text.replacen('{', r#"{"layers":[],"#, 1);
        assert!(parse(twice.as_bytes(), None).is_err(), "one key twice");
        let mut lies = manifest();
        lies["mediaType"] = json!(OCI_INDEX);
        assert!(read(&lies, None).is_err());
        lies["mediaType"] = json!(DOCKER_MANIFEST);
        assert!(read(&lies, Some(OCI_MANIFEST)).is_err());
        let text = format!(r#"{{"schemaVersion":2,"manifests":[],"manifests":[],"x":"{}"}}"#, digest(1));
        assert!(parse(text.as_bytes(), None).is_err(), "a field twice");
    }

    #[test]
    fn what_is_not_an_image_is_named() {
        let message = |value: &Value| read(value, None).expect_err("refused").to_string();
        assert!(message(&json!({"schemaVersion": 1, "fsLayers": []})).contains("schema 1"));
        let mut artifact = manifest();
        artifact["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json");
        assert!(message(&artifact).contains("helm"));
        let mut layer = manifest();
        layer["layers"][0]["mediaType"] = json!("application/x-evil");
        assert!(message(&layer).contains("x-evil"));
        let mut many = manifest();
        many["layers"] = Value::Array(vec![many["layers"][0].clone(); 501]);
        assert!(message(&many).contains("500"));
        for bad in ["sha256:../../x", "sha512:00", &digest(1).to_uppercase()] {
            let mut traversal = manifest();
            traversal["layers"][0]["digest"] = json!(bad);
            assert!(read(&traversal, None).is_err(), "{bad}");
        }
        assert!(parse(&vec![b' '; 5 << 20], None).is_err());
        assert!(parse(b"[]", None).is_err());
        assert!(parse("[".repeat(100_000).as_bytes(), None).is_err());
    }

    #[test]
    fn the_best_platform_is_chosen() {
        let entry = |n, text: &str| {
            let mut entry = Descriptor::new(OCI_MANIFEST, Digest::of(&[n]), 1);
            let mut parts = text.splitn(3, '/').map(str::to_owned);
            let (os, architecture) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            entry.platform = Some(Platform { os, architecture, variant: parts.next() });
            entry
        };
        let index = Index {
            manifests: vec![
                entry(0, "unknown/unknown"),
                entry(1, "linux/amd64/v3"),
                entry(2, "linux/amd64"),
                entry(3, "linux/arm/v5"),
                entry(4, "linux/arm/v7"),
                entry(5, "linux/arm64/v8"),
            ],
            ..Index::default()
        };
        let chosen =
            |text| choose(&index, &Platform::parse(text).expect("platform")).map(|d| d.digest.clone());
        assert_eq!(chosen("linux/amd64").expect("found"), Digest::of(&[2]));
        assert_eq!(chosen("linux/arm/v6").expect("found"), Digest::of(&[3]));
        assert_eq!(chosen("linux/arm/v7").expect("found"), Digest::of(&[4]));
        assert_eq!(chosen("linux/arm64").expect("found"), Digest::of(&[5]));
        let error = chosen("linux/s390x").expect_err("none");
        assert!(error.hints()[0].contains("linux/amd64") && !error.hints()[0].contains("unknown"));
    }

    #[test]
    fn unknown_fields_of_an_index_survive() {
        let text = json!({"schemaVersion": 2, "manifests": [
            {"mediaType": OCI_MANIFEST, "digest": digest(1), "size": 1, "artifactType": "x"}], "subject": {"a": 1}});
        let Ok(Document::Index(index)) = read(&text, None) else { panic!("not an index") };
        let written = serde_json::to_value(&index).expect("json");
        assert_eq!(written["manifests"][0]["artifactType"], "x");
        assert_eq!(written["subject"]["a"], 1);
    }

    /// What is taken has one reading, the same after it was written again.
    #[test]
    fn mutated_manifests_have_one_reading() {
        use crate::image::config::ImageConfig;
        use crate::types::mutation::Fuzz;
        let index = json!({
            "schemaVersion": 2, "mediaType": OCI_INDEX,
            "manifests": [
                {"mediaType": OCI_MANIFEST, "digest": digest(2), "size": 5,
                 "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}, "annotations": {"a": "b"}},
                {"mediaType": OCI_MANIFEST, "digest": digest(3), "size": 6,
                 "platform": {"os": "linux", "architecture": "amd64"}},
            ],
        });
        let config = json!({
            "os": "linux", "architecture": "amd64", "created": "2026-01-01T00:00:00Z",
            "config": {"Env": ["A=b"], "Cmd": ["sh"], "User": "1:2", "Volumes": {"/v": {}}, "Labels": {"a": "b"}},
            "rootfs": {"type": "layers", "diff_ids": [digest(1)]}, "history": [{"created_by": "x"}],
        });
        let good = [manifest(), index, config];
        let fuzz = Fuzz {
            name: "manifests",
            good: good.iter().map(|value| serde_json::to_vec(value).expect("json")).collect(),
            words: &[
                b"\"layers\":",
                b"\"manifests\":",
                b"\"config\":",
                b"\"Layers\":",
                b"\"mediaType\":",
                b"[]",
                b"{}",
                b"null",
                b",",
                b":",
                b"\"",
                b"[",
                b"{",
                b"}",
                b"]",
                b"1e999",
                b"-1",
                b"18446744073709551616",
                b"\\u0000",
                b"\"fsLayers\":[]",
                b"sha256:",
                b"\"schemaVersion\":1",
                b"\"size\":",
                OCI_INDEX.as_bytes(),
                OCI_MANIFEST.as_bytes(),
                DOCKER_MANIFEST.as_bytes(),
                b"\"platform\":{}",
                b"\"annotations\":null",
            ],
            short: 20_000,
        };
        let wanted = Platform::parse("linux/amd64").expect("valid");
        fuzz.run(|bytes, _| {
            let as_config = ImageConfig::parse(bytes);
            if let Ok(config) = &as_config {
                let again = serde_json::to_vec(config).expect("written");
                assert_eq!(ImageConfig::parse(&again).ok().as_ref(), Some(config));
                assert!(config.config.env.iter().all(|entry| entry.find('=').is_some_and(|at| at > 0)));
            }
            let Ok(document) = parse(bytes, None) else { return as_config.is_ok() };
            let keys: Value = serde_json::from_slice(bytes).expect("what was read is JSON");
            let has = |key: &str| keys.get(key).is_some_and(|value| !value.is_null());
            assert!(!(has("manifests") && (has("layers") || has("config"))), "two readings");
            match document {
                Document::Index(index) => {
                    choose(&index, &wanted).map(drop).unwrap_or_default();
                    let again = serde_json::to_vec(&index).expect("written");
                    assert!(matches!(parse(&again, None), Ok(Document::Index(same)) if same == index));
                }
                Document::Manifest(manifest) => {
                    assert!(manifest.layers.len() <= LAYERS_MAX);
                    let again = serde_json::to_vec(&manifest).expect("written");
                    assert!(matches!(parse(&again, None), Ok(Document::Manifest(same)) if same == manifest));
                }
            }
            true
        });
    }
}
