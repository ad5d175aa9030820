//! `Mounts`, and what `HostConfig` says of them.

use crate::types::container::ContainerRecord;
use crate::types::mount::{MountOptions, MountSource, MountSpec, Propagation};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Docker's `Mounts`: the tmpfs of `--tmpfs` is in `HostConfig` alone.
pub(in crate::engine) fn document(record: &ContainerRecord, volumes: &Path) -> Value {
    let is_flag_tmpfs =
        |mount: &MountSpec| matches!(mount.source, MountSource::Tmpfs { .. }) && !mount.options.by_mount;
    record
        .config
        .mounts
        .iter()
        .filter(|mount| !is_flag_tmpfs(mount))
        .map(|mount| one(mount, volumes))
        .collect()
}

fn one(mount: &MountSpec, volumes: &Path) -> Value {
    let options = &mount.options;
    let path = |path: &Path| path.display().to_string();
    // Only a volume has a name and a driver.
    let mut propagation = "";
    let mut document = match &mount.source {
        MountSource::Bind { path: source, .. } => {
            propagation = options.propagation.as_str();
            json!({"Type": "bind", "Source": path(source)})
        }
        MountSource::Overlay { path: source } => {
            propagation = options.propagation.as_str();
            json!({"Type": "overlay", "Source": path(source)})
        }
        MountSource::Volume { name } => json!({
            "Type": "volume",
            "Name": name,
            "Source": path(&volumes.join(name).join("_data")),
            "Driver": "local",
        }),
        MountSource::Anonymous => json!({"Type": "volume", "Name": "", "Source": "", "Driver": "local"}),
        MountSource::Image { reference, .. } => json!({"Type": "image", "Source": reference}),
        MountSource::Tmpfs { .. } => json!({"Type": "tmpfs", "Source": ""}),
    };
    let is_tmpfs = matches!(mount.source, MountSource::Tmpfs { .. });
    document["Destination"] = json!(mount.target);
    document["Mode"] = if is_tmpfs { json!("") } else { json!(words(options).join(",")) };
    document["RW"] = json!(!options.read_only);
    document["Propagation"] = json!(propagation);
    document
}

/// Docker's `HostConfig.Binds`: what `-v` gave with a source.
pub(super) fn binds(record: &ContainerRecord) -> Value {
    let bind = |mount: &MountSpec| {
        if mount.options.by_mount || is_anonymous(record, mount) {
            return None;
        }
        let (source, extra) = match &mount.source {
            MountSource::Bind { path, .. } => (path.display().to_string(), None),
            MountSource::Overlay { path } => (path.display().to_string(), Some("O")),
            MountSource::Volume { name } => (name.clone(), None),
            MountSource::Anonymous | MountSource::Tmpfs { .. } | MountSource::Image { .. } => return None,
        };
        let mut words = words(&mount.options);
        words.extend(extra);
        let options = if words.is_empty() { String::new() } else { format!(":{}", words.join(",")) };
        Some(Value::from(format!("{source}:{}{options}", mount.target)))
    };
    let binds: Vec<Value> = record.config.mounts.iter().filter_map(bind).collect();
    if binds.is_empty() { Value::Null } else { binds.into() }
}

/// Docker's `HostConfig.Mounts`: what `--mount` gave, in the words of its API.
pub(super) fn asked(record: &ContainerRecord) -> Value {
    let one = |mount: &MountSpec| {
        let options = &mount.options;
        let (kind, source) = match &mount.source {
            MountSource::Bind { path, .. } => ("bind", path.display().to_string()),
            MountSource::Volume { .. } if is_anonymous(record, mount) => ("volume", String::new()),
            MountSource::Volume { name } => ("volume", name.clone()),
            MountSource::Anonymous => ("volume", String::new()),
            MountSource::Tmpfs { .. } => ("tmpfs", String::new()),
            MountSource::Image { reference, .. } => ("image", reference.clone()),
            MountSource::Overlay { .. } => return None,
        };
        let mut document = json!({"Type": kind, "Target": mount.target});
        if !source.is_empty() {
            document["Source"] = json!(source);
        }
        if options.read_only {
            document["ReadOnly"] = json!(true);
        }
        for (key, value) in special(mount) {
            document[key.0][key.1] = value;
        }
        Some(document)
    };
    let asked = record.config.mounts.iter().filter(|mount| mount.options.by_mount);
    let asked: Vec<Value> = asked.filter_map(one).collect();
    if asked.is_empty() { Value::Null } else { asked.into() }
}

/// What one type of mount alone has, of what was asked for: under two keys each.
fn special(mount: &MountSpec) -> Vec<((&'static str, &'static str), Value)> {
    let options = &mount.options;
    let map = |map: &BTreeMap<String, String>| (!map.is_empty()).then(|| json!(map));
    let yes = |on: bool| on.then_some(Value::Bool(true));
    let of = |kind: &'static str, all: Vec<(&'static str, Option<Value>)>| {
        all.into_iter().filter_map(|(key, value)| Some(((kind, key), value?))).collect()
    };
    match &mount.source {
        MountSource::Bind { create, .. } => {
            let propagation = options.propagation;
            let differs = propagation != Propagation::default();
            let options = vec![
                ("Propagation", differs.then(|| propagation.as_str().into())),
                ("NonRecursive", yes(options.non_recursive)),
                ("CreateMountpoint", yes(*create)),
            ];
            of("BindOptions", options)
        }
        MountSource::Volume { .. } | MountSource::Anonymous => {
            let driver = map(&options.volume_options).map(|options| json!({"Options": options}));
            let options = vec![
                ("NoCopy", yes(options.no_copy)),
                ("Labels", map(&options.volume_labels)),
                ("Subpath", options.subpath.as_ref().map(|path| json!(path))),
                ("DriverConfig", driver),
            ];
            of("VolumeOptions", options)
        }
        MountSource::Tmpfs { size, mode, .. } => {
            of("TmpfsOptions", vec![("SizeBytes", size.map(Value::from)), ("Mode", mode.map(Value::from))])
        }
        MountSource::Image { .. } => {
            of("ImageOptions", vec![("Subpath", options.subpath.as_ref().map(|path| json!(path)))])
        }
        MountSource::Overlay { .. } => Vec::new(),
    }
}

/// Docker's `HostConfig.Tmpfs`: that of `--tmpfs`, as it was written.
pub(super) fn tmpfs(record: &ContainerRecord) -> Value {
    let mut all = Map::new();
    for mount in record.config.mounts.iter().filter(|mount| !mount.options.by_mount) {
        let MountSource::Tmpfs { size, mode, more } = &mount.source else { continue };
        if let Some(written) = &more.written {
            all.insert(mount.target.clone(), written.as_str().into());
            continue;
        }
        // Of an image's volume, or of a record from before that was kept.
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
        if let Some(percent) = more.percent {
            text.push_str(&format!(",size={percent}%"));
        }
        let numbers =
            [("uid", more.uid.map(u64::from)), ("gid", more.gid.map(u64::from)), ("nr_inodes", more.inodes)];
        for (key, number) in numbers.into_iter().filter_map(|(key, number)| Some((key, number?))) {
            text.push_str(&format!(",{key}={number}"));
        }
        for (on, word) in
            [(more.noatime, "noatime"), (more.nodiratime, "nodiratime"), (more.copy_up, "tmpcopyup")]
        {
            if on {
                text.push_str(&format!(",{word}"));
            }
        }
        all.insert(mount.target.clone(), text.into());
    }
    all.into()
}

/// Docker's `Config.Volumes`: the places of the image's volumes, and of what `-v`
/// gave without a source.
pub(super) fn volume_targets(record: &ContainerRecord) -> Vec<String> {
    let is_volume = |mount: &&MountSpec| is_anonymous(record, mount) && !mount.options.by_mount;
    record.config.mounts.iter().filter(is_volume).map(|mount| mount.target.clone()).collect()
}

fn is_anonymous(record: &ContainerRecord, mount: &MountSpec) -> bool {
    match &mount.source {
        MountSource::Anonymous => true,
        MountSource::Volume { name } => record.anonymous_volumes.contains(name),
        MountSource::Bind { .. }
        | MountSource::Tmpfs { .. }
        | MountSource::Overlay { .. }
        | MountSource::Image { .. } => false,
    }
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
