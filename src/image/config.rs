//! The image config: what a container of the image runs with, and its layers.
//!
//! Source: OCI image-spec `config.md`; Docker's "Image JSON" for `Healthcheck`,
//! `Shell` and `OnBuild`.

use super::manifest::or_default;
use crate::error::{Context, Error, Result};
use crate::types::digest::{Algorithm, Digest};
pub(crate) use crate::types::health::Healthcheck;
use crate::types::platform::Platform;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bytes of a config. Large ones exist (long histories); none near this.
pub(crate) const CONFIG_MAX: u64 = 8 << 20;

/// The document behind an image id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ImageConfig {
    /// RFC 3339; some images have year 1 or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) author: Option<String>,
    pub(crate) architecture: String,
    pub(crate) os: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
    #[serde(rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub(crate) os_version: Option<String>,
    /// Of docker's own form: what built it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) docker_version: Option<String>,
    /// What `docker commit -m` and `import -m` leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) comment: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) config: Execution,
    pub(crate) rootfs: RootFs,
    #[serde(deserialize_with = "or_default")]
    pub(crate) history: Vec<History>,
}

/// The `config` part: defaults of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Execution {
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub(crate) user: String,
    /// `80/tcp` and the like; the values are empty objects.
    #[serde(deserialize_with = "keys", serialize_with = "as_keys", skip_serializing_if = "Vec::is_empty")]
    pub(crate) exposed_ports: Vec<String>,
    /// `KEY=VALUE`, each with a key and a `=`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub(crate) env: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cmd: Option<Vec<String>>,
    /// Paths in the container, as the image wrote them: not yet checked.
    #[serde(deserialize_with = "keys", serialize_with = "as_keys", skip_serializing_if = "Vec::is_empty")]
    pub(crate) volumes: Vec<String>,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub(crate) working_dir: String,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stop_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) healthcheck: Option<Healthcheck>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shell: Option<Vec<String>>,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub(crate) on_build: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RootFs {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// Digests of the unpacked layer tars, lowest first.
    #[serde(deserialize_with = "or_default")]
    pub(crate) diff_ids: Vec<Digest>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct History {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) author: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) comment: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) empty_layer: bool,
}

impl ImageConfig {
    /// Reads a config and cleans what must never reach a container: entries of
    /// `Env` without a key or a `=` are dropped, as other engines would fill
    /// them from the host's environment (CVE-2026-57231).
    ///
    /// # Errors
    /// `Invalid` where it is not a config, has no os or layers, or has a NUL
    /// byte in a word that becomes a C string.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() as u64 > CONFIG_MAX {
            return Err(Error::invalid(format!("the image config has more than {CONFIG_MAX} bytes")));
        }
        if std::str::from_utf8(bytes).is_err() {
            return Err(Error::invalid("the image config is not UTF-8"));
        }
        let mut config: Self = serde_json::from_slice(bytes).context(|| "read the image config")?;
        if config.rootfs.kind != "layers" {
            return Err(Error::invalid(format!(
                "image config with a rootfs of type {:?}",
                config.rootfs.kind
            )));
        }
        let run = &mut config.config;
        run.env.retain(|entry| entry.find('=').is_some_and(|at| at > 0) && !entry.contains('\0'));
        let words = run.entrypoint.iter().chain(&run.cmd).chain(&run.shell).flatten().chain([
            &run.user,
            &run.working_dir,
            run.stop_signal.get_or_insert_default(),
        ]);
        let check = run.healthcheck.iter().flat_map(|check| &check.test);
        if words.chain(&run.volumes).chain(check).any(|word| word.contains('\0')) {
            return Err(Error::invalid("the image config has a NUL byte in a command or path"));
        }
        run.stop_signal.take_if(|signal| signal.is_empty());
        Ok(config)
    }

    /// A layer whose content is not named by sha256, as chain ids take it: such
    /// an image is kept and given on, and cannot be run here.
    pub(crate) fn foreign_layer(&self) -> Option<&Digest> {
        self.rootfs.diff_ids.iter().find(|id| id.algorithm() != Algorithm::Sha256)
    }

    /// The chain ids of all layers, lowest first: image-spec, "Layer ChainID".
    pub(crate) fn chain_ids(&self) -> Vec<Digest> {
        let mut chain: Vec<Digest> = Vec::with_capacity(self.rootfs.diff_ids.len());
        for diff_id in &self.rootfs.diff_ids {
            let next = match chain.last() {
                Some(below) => below.chain(diff_id),
                None => diff_id.clone(),
            };
            chain.push(next);
        }
        chain
    }

    pub(crate) fn platform(&self) -> Platform {
        // An absent os or architecture is this machine's, as in images that
        // old tools imported.
        let host = Platform::host();
        let or = |text: &str, default: String| if text.is_empty() { default } else { text.to_owned() };
        Platform {
            os: or(&self.os, host.os),
            architecture: or(&self.architecture, host.architecture),
            variant: self.variant.clone().filter(|variant| !variant.is_empty()),
        }
    }

    /// `None` where the image does not say, or says something else than a time.
    pub(crate) fn created(&self) -> Option<Timestamp> {
        parse_time(self.created.as_deref()?)
    }
}

/// Docker writes year 1 for "never".
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    if text.starts_with("0001-") { None } else { text.parse().ok() }
}

/// Go's sets: an object whose values mean nothing, or `null`.
#[allow(clippy::zero_sized_map_values, reason = "only the keys of a document are wanted")]
fn keys<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<String>, D::Error> {
    let map = Option::<BTreeMap<String, serde_json::Value>>::deserialize(deserializer)?;
    Ok(map.unwrap_or_default().into_keys().collect())
}

fn as_keys<S: serde::Serializer>(keys: &[String], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Empty {}
    serializer.collect_map(keys.iter().map(|key| (key, Empty {})))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: &serde_json::Value) -> Result<ImageConfig> {
        ImageConfig::parse(&serde_json::to_vec(value).expect("json"))
    }

    #[test]
    fn dockers_nulls_are_empty() {
        let config = parse(&json!({
            "architecture": "amd64", "os": "linux", "created": "0001-01-01T00:00:00Z",
            "config": {"User": null, "Env": null, "Cmd": null, "Entrypoint": null, "Volumes": null,
                "ExposedPorts": {"80/tcp": {}}, "Labels": null, "OnBuild": null, "WorkingDir": ""},
            "rootfs": {"type": "layers", "diff_ids": null}, "history": null,
            "container_config": {"Hostname": "x"},
        }))
        .expect("valid");
        assert_eq!(config.config.exposed_ports, ["80/tcp"]);
        assert_eq!(config.config.stop_signal, None);
        assert_eq!(config.created(), None);
        let again: ImageConfig =
            serde_json::from_value(serde_json::to_value(&config).expect("json")).expect("same");
        assert_eq!(again, config);
        assert!(parse(&json!({"config": null, "rootfs": {"type": "layers", "diff_ids": []}})).is_ok());
    }

    /// CVE-2026-57231: `PATH` without `=` is not "the host's PATH".
    #[test]
    fn env_entries_without_a_value_are_dropped() {
        let config = parse(&json!({
            "config": {"Env": ["A=1", "PATH", "*", "HOME*", "=x", "", "B=", "C=a\u{0}b"]},
            "rootfs": {"type": "layers", "diff_ids": []},
        }))
        .expect("valid");
        assert_eq!(config.config.env, ["A=1", "B="]);
    }

    #[test]
    fn hostile_configs_are_refused() {
        for bad in [
            json!([]),
            json!({"rootfs": {"type": "zip", "diff_ids": []}}),
            json!({"rootfs": {"type": "layers", "diff_ids": ["sha256:../x"]}}),
            json!({"config": {"Cmd": ["a\u{0}"]}, "rootfs": {"type": "layers"}}),
            json!({"config": {"StopSignal": "a\u{0}"}, "rootfs": {"type": "layers"}}),
            json!({"config": {"Cmd": "sh"}, "rootfs": {"type": "layers"}}),
        ] {
            assert!(parse(&bad).is_err(), "{bad}");
        }
        assert!(ImageConfig::parse(&vec![b' '; 9 << 20]).is_err());
    }

    #[test]
    fn chain_ids_follow_the_specification() {
        let mut config = ImageConfig::default();
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        config.rootfs.diff_ids = vec![a.clone(), b.clone()];
        assert_eq!(config.chain_ids(), [a.clone(), Digest::of(format!("{a} {b}").as_bytes())]);
    }
}
