//! `Mounts`, and what `HostConfig` says of them.

use crate::types::container::ContainerRecord;
use crate::types::mount::{MountOptions, MountSource, MountSpec, Propagation};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Docker's `Mounts`.
pub(super) fn document(record: &ContainerRecord, volumes: &Path) -> Value {
    record.config.mounts.iter().filter_map(|mount| one(mount, volumes)).collect()
}

/// `None` for a tmpfs of `--tmpfs`, which docker lists in `HostConfig` alone.
fn one(mount: &MountSpec, volumes: &Path) -> Option<Value> {
    let options = &mount.options;
    let mut document = match &mount.source {
        MountSource::Bind { path, .. } => json!({"Type": "bind", "Source": path.display().to_string()}),
        MountSource::Overlay { path } => json!({"Type": "overlay", "Source": path.display().to_string()}),
        MountSource::Volume { name } => json!({
            "Type": "volume",
            "Name": name,
            "Source": volumes.join(name).join("_data").display().to_string(),
            "Driver": "local",
        }),
        MountSource::Anonymous => json!({"Type": "volume", "Name": "", "Source": "", "Driver": "local"}),
        MountSource::Tmpfs { .. } => return None,
    };
    document["Destination"] = json!(mount.target);
    document["Mode"] = json!(words(options).join(","));
    document["RW"] = json!(!options.read_only);
    document["Propagation"] = json!(options.propagation.as_str());
    Some(document)
}

/// Docker's `HostConfig.Binds`: as `-v` would ask for them.
pub(super) fn binds(record: &ContainerRecord) -> Value {
    let bind = |mount: &MountSpec| {
        let (source, extra) = match &mount.source {
            MountSource::Bind { path, .. } => (path.display().to_string(), None),
            MountSource::Overlay { path } => (path.display().to_string(), Some("O")),
            MountSource::Volume { name } => (name.clone(), None),
            MountSource::Anonymous | MountSource::Tmpfs { .. } => return None,
        };
        let mut words = words(&mount.options);
        words.extend(extra);
        let options = if words.is_empty() { String::new() } else { format!(":{}", words.join(",")) };
        Some(Value::from(format!("{source}:{}{options}", mount.target)))
    };
    let binds: Vec<Value> = record.config.mounts.iter().filter_map(bind).collect();
    if binds.is_empty() { Value::Null } else { binds.into() }
}

/// Docker's `HostConfig.Tmpfs`.
pub(super) fn tmpfs(record: &ContainerRecord) -> Value {
    let mut all = Map::new();
    for mount in &record.config.mounts {
        let MountSource::Tmpfs { size, mode } = &mount.source else { continue };
        let mut words = words(&mount.options);
        if !mount.options.read_only {
            words.insert(0, "rw");
        }
        let mut text = words.join(",");
        if let Some(size) = size {
            text.push_str(&format!(",size={size}"));
        }
        if let Some(mode) = mode {
            text.push_str(&format!(",mode={mode:o}"));
        }
        all.insert(mount.target.clone(), text.into());
    }
    all.into()
}

/// The places of volumes: docker's `Config.Volumes`.
pub(super) fn volume_targets(record: &ContainerRecord) -> Vec<String> {
    let is_volume =
        |mount: &&MountSpec| matches!(mount.source, MountSource::Volume { .. } | MountSource::Anonymous);
    record.config.mounts.iter().filter(is_volume).map(|mount| mount.target.clone()).collect()
}

/// What differs from the default, in the words of `-v`.
fn words(options: &MountOptions) -> Vec<&'static str> {
    let mut words = Vec::new();
    words.extend(options.read_only.then_some("ro"));
    for (choice, on, off) in [
        (options.nosuid, "nosuid", "suid"),
        (options.nodev, "nodev", "dev"),
        (options.noexec, "noexec", "exec"),
    ] {
        words.extend(choice.map(|choice| if choice { on } else { off }));
    }
    words.extend((options.propagation != Propagation::default()).then(|| options.propagation.as_str()));
    words.extend(options.non_recursive.then_some("bind"));
    words.extend(options.chown.then_some("U"));
    words.extend(options.no_copy.then_some("nocopy"));
    words
}
