//! What docker's documents are made of where JSON does not tell: Go prints a
//! list, a map, a struct and a pointer each in its own way, also without a value.
//!
//! Source: the types of docker's API (container, image, network, volume).

use serde_json::{Map, Value};

/// Maps with keys of the user's: what they do not have is no error.
const MAPS: &[&str] = &[
    "Annotations",
    "BuildArgs",
    "CgroupConf",
    "Containers",
    "Data",
    "DriverOpts",
    "ExposedPorts",
    "Labels",
    "LogOpts",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// Lists that are `null` where there is none.
const LISTS: &[&str] = &[
    "Aliases",
    "Args",
    "Binds",
    "BlkioDeviceReadBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceWriteIOps",
    "BlkioWeightDevice",
    "BoundingCaps",
    "CapAdd",
    "CapDrop",
    "Cmd",
    "DNSNames",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "EffectiveCaps",
    "Entrypoint",
    "Env",
    "ExecIDs",
    "ExtraHosts",
    "GroupAdd",
    "Links",
    "MaskedPaths",
    "Mounts",
    "OnBuild",
    "ReadonlyPaths",
    "RepoDigests",
    "RepoTags",
    "SecurityOpt",
    "Shell",
    "Ulimits",
    "VolumesFrom",
    PUBLISHED,
];

/// A member of `Ports` and `PortBindings`: those have keys of the user's.
const PUBLISHED: &str = "80/tcp";

/// Pointers that JSON leaves out where they are nil.
const POINTERS: &[&str] = &["Health", "Healthcheck", "Pressure", "SizeRootFs", "SizeRw", "StopTimeout"];

/// Lists and maps of `Config` that JSON leaves out where they are empty.
const LEFT_OUT: &[&str] =
    &["Cmd", "Entrypoint", "Env", "ExposedPorts", "Labels", "OnBuild", "Shell", "Volumes"];

/// Whether `path`, the names that lead to it, is a map with keys of the user's.
pub(super) fn is_map(path: &[String]) -> bool {
    match path {
        [.., parent, name] if name == "Config" => parent == "LogConfig",
        [.., name] => MAPS.contains(&name.as_str()),
        [] => false,
    }
}

/// What the object that `path` leads to has in a field that JSON leaves out.
pub(super) fn left_out(path: &[String], object: &Map<String, Value>, field: &str) -> Option<&'static Value> {
    static NIL: Value = Value::Null;
    static NO_TEXT: Value = Value::String(String::new());
    let in_config = path.last().is_some_and(|name| name == "Config");
    if POINTERS.contains(&field) || in_config && LEFT_OUT.contains(&field) {
        return Some(&NIL);
    }
    // A mount: only a volume has these.
    let of_mount = matches!(field, "Name" | "Driver") && object.contains_key("Destination");
    of_mount.then_some(&NO_TEXT)
}

/// What Go has for `null` where that is no pointer: an empty list or map.
pub(super) fn empty(name: &str) -> Option<Value> {
    if LISTS.contains(&name) {
        return Some(Value::Array(Vec::new()));
    }
    MAPS.contains(&name).then(|| Value::Object(Map::new()))
}

/// Whether an object of this name is a struct: it prints its values alone, in
/// the order of the document.
pub(super) fn is_struct(name: &str, object: &Map<String, Value>) -> bool {
    if object.is_empty() {
        // The values of a set of Go's: `map[80/tcp:{}]`.
        return name.is_empty();
    }
    !MAPS.contains(&name) && object.keys().all(|key| key.starts_with(char::is_uppercase))
}

/// By what name the members of something are printed, where they have none.
pub(super) fn of_members(name: &str) -> &'static str {
    if matches!(name, "Ports" | "PortBindings") { PUBLISHED } else { "" }
}
