//! `info` for people: docker's lines, and below them podman's outline.

use crate::types::size::binary;
use serde_json::Value;

/// Docker's labels, and the members of the document that they are for.
///
/// Source: docker/cli, cli/command/system/info.go.
const COUNTS: &[(&str, &str)] = &[
    (" Containers", "Containers"),
    ("  Running", "ContainersRunning"),
    ("  Paused", "ContainersPaused"),
    ("  Stopped", "ContainersStopped"),
    (" Images", "Images"),
    (" Server Version", "ServerVersion"),
    (" Storage Driver", "Driver"),
];
const DRIVERS: &[(&str, &str)] = &[
    (" Logging Driver", "LoggingDriver"),
    (" Cgroup Driver", "CgroupDriver"),
    (" Cgroup Version", "CgroupVersion"),
];
const HOST: &[(&str, &str)] = &[
    (" Kernel Version", "KernelVersion"),
    (" Operating System", "OperatingSystem"),
    (" OSType", "OSType"),
    (" Architecture", "Architecture"),
    (" CPUs", "NCPU"),
];
const REST: &[(&str, &str)] = &[
    (" Name", "Name"),
    (" ID", "ID"),
    (" Docker Root Dir", "DockerRootDir"),
    (" Debug Mode", "Debug"),
    (" HTTP Proxy", "HttpProxy"),
    (" HTTPS Proxy", "HttpsProxy"),
    (" No Proxy", "NoProxy"),
    (" Experimental", "ExperimentalBuild"),
    (" Live Restore Enabled", "LiveRestoreEnabled"),
];

pub(super) fn text(document: &Value) -> String {
    let mut text = String::from("Client:\n");
    let client = &document["ClientInfo"];
    line(&mut text, " Version", &client["Version"]);
    line(&mut text, " Context", &client["Context"]);
    line(&mut text, " Debug Mode", &client["Debug"]);
    text.push_str("\nServer:\n");
    lines(&mut text, COUNTS, document);
    for pair in document["DriverStatus"].as_array().into_iter().flatten() {
        line(&mut text, &format!("  {}", flat(&pair[0])), &pair[1]);
    }
    lines(&mut text, DRIVERS, document);
    text.push_str(" Plugins:\n");
    for kind in ["Volume", "Network", "Log"] {
        line(&mut text, &format!("  {kind}"), &words(&document["Plugins"][kind]));
    }
    line(&mut text, " Swarm", &document["Swarm"]["LocalNodeState"]);
    let runtimes = document["Runtimes"].as_object();
    let names: Vec<&str> = runtimes.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    line(&mut text, " Runtimes", &names.join(" ").into());
    line(&mut text, " Default Runtime", &document["DefaultRuntime"]);
    line(&mut text, " Init Binary", &document["InitBinary"]);
    security(&mut text, &document["SecurityOptions"]);
    lines(&mut text, HOST, document);
    line(&mut text, " Total Memory", &binary(document["MemTotal"].as_u64().unwrap_or_default()).into());
    lines(&mut text, REST, document);
    text.push('\n');
    // Docker has no word for most of it.
    for part in ["host", "plugins", "store", "version"] {
        outline(&mut text, 0, part, &document[part]);
    }
    text
}

fn lines(text: &mut String, all: &[(&str, &str)], document: &Value) {
    for (label, key) in all {
        line(text, label, &document[*key]);
    }
}

/// Nothing where there is no value.
fn line(text: &mut String, label: &str, value: &Value) {
    let value = if value.is_null() { String::new() } else { flat(value) };
    if !value.is_empty() {
        text.push_str(&format!("{label}: {value}\n"));
    }
}

fn words(list: &Value) -> Value {
    let words: Vec<&str> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    words.join(" ").into()
}

/// `name=seccomp,profile=builtin` becomes the name, and the profile below it.
fn security(text: &mut String, options: &Value) {
    let options: Vec<&str> = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !options.is_empty() {
        text.push_str(" Security Options:\n");
    }
    for part in options.iter().flat_map(|option| option.split(',')) {
        match part.split_once('=') {
            Some(("name", name)) => text.push_str(&format!("  {name}\n")),
            Some(("profile", profile)) => text.push_str(&format!("   Profile: {profile}\n")),
            _ => {}
        }
    }
}

fn outline(text: &mut String, depth: usize, name: &str, value: &Value) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(members) => {
            text.push_str(&format!("{indent}{name}:\n"));
            for (name, value) in members {
                outline(text, depth + 1, name, value);
            }
        }
        Value::Array(items) => {
            text.push_str(&format!("{indent}{name}:\n"));
            for item in items {
                text.push_str(&format!("{indent}- {}\n", flat(item)));
            }
        }
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&format!("{indent}{name}: {}\n", flat(value)));
        }
    }
}

/// On one line.
fn flat(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| format!("{name}: {}", flat(value)));
            members.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn docker_s_labels_come_first_and_podman_s_outline_follows() {
        let document = json!({
            "host": { "cpus": 2, "none": null, "map": [{ "a": 1, "b": "x" }] },
            "store": {},
            "version": { "Version": "1" },
            "Name": "here", "Containers": 3, "ServerVersion": "1", "Driver": "overlay", "CgroupVersion": "2",
            "DriverStatus": [["Backing Filesystem", "extfs"]],
            "Plugins": { "Volume": ["local"], "Network": ["bridge", "host"], "Log": [] },
            "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"],
            "MemTotal": 1 << 30, "DockerRootDir": "/x", "HttpProxy": "",
        });
        let text = text(&document);
        for line in [
            "Client:",
            "Server:",
            " Containers: 3",
            " Server Version: 1",
            " Storage Driver: overlay",
            "  Backing Filesystem: extfs",
            " Cgroup Version: 2",
            "  Network: bridge host",
            "  seccomp",
            "   Profile: builtin",
            " Total Memory: 1GiB",
            " Docker Root Dir: /x",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
        assert!(!text.contains("HTTP Proxy"), "{text}");
        let outline = "\n\nhost:\n  cpus: 2\n  map:\n  - a: 1, b: x\nstore:\nversion:\n  Version: 1\n";
        assert!(text.ends_with(outline), "{text}");
    }
}
