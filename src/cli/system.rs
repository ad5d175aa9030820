//! `version`, `info`, `unshare`.

mod info_text;

use super::template::{Format, Scope};
use super::ui;
use crate::dirs::Dirs;
use crate::engine::Engine;
use crate::engine::info::{self, Counts};
use crate::error::{Context, Error, Kind, Result};
use crate::userns::{self, Extent};
use serde_json::{Value, json};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Show what this host is and what coracle keeps on it
#[derive(Debug, clap::Args)]
pub(crate) struct InfoArgs {
    /// Print with a Go template, or as JSON with `json`
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// Run a command in the user namespace of your containers
///
/// There you are root, and files that containers own are yours to look at and
/// to remove. Without a command, your shell.
#[derive(Debug, clap::Args)]
pub(crate) struct UnshareArgs {
    /// Not here: there is no network namespace that containers share
    #[arg(long, hide = true)]
    rootless_netns: bool,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct VersionArgs {
    /// Print with a Go template, or as JSON with `json`
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Shows the version: docker's document and, without `--format`, its table.
///
/// # Errors
/// `Invalid` for a wrong template.
pub(crate) fn version(args: VersionArgs) -> Result<u8> {
    let document = version_document();
    let text = match formatted(args.format.as_deref(), &document)? {
        Some(text) => text,
        None => version_text(&document),
    };
    ui::write(text.as_bytes())?;
    Ok(0)
}

/// The version of docker's API that this command line corresponds to; of its
/// documents too. Nothing serves the API: scripts ask for it to see what `docker` can do.
const API_VERSION: &str = "1.41";

/// There is no server: what docker says of it is said of this program. What it
/// has no word for (a commit, Go, the time of the build) is empty.
fn version_document() -> Value {
    let platform = crate::types::platform::Platform::host();
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let version = env!("CARGO_PKG_VERSION");
    let both = json!({
        "Platform": {"Name": "coracle"},
        "Version": version,
        // In Go it is `.APIVersion`, which templates may use too.
        "ApiVersion": API_VERSION,
        "GitCommit": "",
        "GoVersion": "",
        "Os": platform.os,
        "Arch": platform.architecture,
        "OsArch": format!("{}/{}", platform.os, platform.architecture),
        "BuildTime": "",
    });
    let (mut client, mut server) = (both.clone(), both);
    client["DefaultAPIVersion"] = json!(API_VERSION);
    client["Context"] = json!("default");
    server["MinAPIVersion"] = json!(API_VERSION);
    server["KernelVersion"] = json!(kernel);
    server["Experimental"] = json!(false);
    server["Components"] = json!([{
        "Name": "Engine",
        "Version": version,
        "Details": {
            "ApiVersion": API_VERSION, "MinAPIVersion": API_VERSION, "KernelVersion": kernel,
            "Os": platform.os, "Arch": platform.architecture,
        },
    }]);
    json!({"Client": client, "Server": server})
}

fn version_text(document: &Value) -> String {
    let client = &document["Client"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!(
        "coracle\n Version:           {}\n OS/Arch:           {}/{}\n Kernel:            {}\n",
        text(&client["Version"]),
        text(&client["Os"]),
        text(&client["Arch"]),
        text(&document["Server"]["KernelVersion"])
    )
}

/// What `--format` makes of one document, with the end of its line; `None`
/// where there is no such flag.
fn formatted(format: Option<&str>, document: &Value) -> Result<Option<String>> {
    let text = match Format::of_document(format)? {
        None => return Ok(None),
        Some(Format::Json) => document.to_string(),
        Some(Format::Template(template) | Format::Table(template)) => {
            template.render(document, Scope::default())?
        }
    };
    Ok(Some(format!("{text}\n")))
}

/// Shows what this host is and what coracle keeps on it.
///
/// # Errors
/// `Invalid` for a wrong template.
pub(crate) fn info(args: InfoArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let mut document = info::info(&engine.dirs, counts(&engine)?);
    let (driver, why) = engine.storage_in_use();
    info::add_storage(&mut document, driver, &why);
    document["ClientInfo"] = client_info();
    let is_json = args.format.as_deref().is_none_or(|format| format == "json");
    let for_template = if is_json { None } else { Some(with_go_names(&document)) };
    let text = match formatted(args.format.as_deref(), for_template.as_ref().unwrap_or(&document))? {
        Some(text) => text,
        None => info_text::text(&document),
    };
    ui::write(text.as_bytes())?;
    Ok(0)
}

/// Docker's client is this program too.
fn client_info() -> Value {
    let mut client = version_document()["Client"].take();
    client["Debug"] = json!(false);
    client["Plugins"] = json!([]);
    client["Warnings"] = Value::Null;
    client
}

/// The document with podman's parts under their names in Go as well, which its
/// templates use: `{{.Host.OCIRuntime.Name}}` for `host.ociRuntime.name`.
fn with_go_names(document: &Value) -> Value {
    let mut wide = document.clone();
    for (go, part) in [("Host", "host"), ("Store", "store"), ("Plugins", "plugins")] {
        let mut renamed = go_names(&document[part]);
        // Docker's `Plugins` has the same name and the same keys.
        if let (Value::Object(renamed), Value::Object(docker)) = (&mut renamed, &document[go]) {
            renamed.extend(docker.clone());
        }
        wide[go] = renamed;
    }
    wide["Version"] = document["version"].clone();
    wide
}

fn go_names(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            members.iter().map(|(name, value)| (go_name(name), go_names(value))).collect()
        }
        Value::Array(items) => items.iter().map(go_names).collect(),
        other => other.clone(),
    }
}

/// Source: podman's `define.Info`.
fn go_name(name: &str) -> String {
    match name {
        "os" => "OS".into(),
        "cpus" => "CPUs".into(),
        "idMappings" => "IDMappings".into(),
        "uidmap" => "UIDMap".into(),
        "gidmap" => "GIDMap".into(),
        "container_id" => "ContainerID".into(),
        "host_id" => "HostID".into(),
        "ociRuntime" => "OCIRuntime".into(),
        "seccompEnabled" => "SECCOMPEnabled".into(),
        "apparmorEnabled" => "AppArmorEnabled".into(),
        "selinuxEnabled" => "SELinuxEnabled".into(),
        "slirp4netns" => "Slirp4NetNS".into(),
        "graphDriverName" => "GraphDriverName".into(),
        other => {
            let mut letters = other.chars();
            letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
        }
    }
}

fn counts(engine: &Engine) -> Result<Counts> {
    let mut notes = Vec::new();
    let containers = engine.containers(false, &mut notes)?;
    let images = crate::engine::images::list(&engine.dirs, &mut notes)?;
    ui::warnings(&notes);
    let mut ids: Vec<_> = images.iter().map(|image| image.id.clone()).collect();
    ids.sort();
    ids.dedup();
    let paused = containers.iter().filter(|container| container.state() == "paused").count();
    let running = containers.iter().filter(|container| container.is_up()).count() - paused;
    Ok(Counts { containers: containers.len(), running, paused, images: ids.len() })
}

/// Runs `unshare`: this process becomes the command. It returns only where it
/// cannot: exit code 127 where the command is not there, 126 where it is not
/// executable.
pub(crate) fn unshare(args: UnshareArgs) -> Result<u8> {
    if args.rootless_netns {
        return Err(Error::usage(
            "--rootless-netns: there is no network namespace that containers share here",
        )
        .hint("each container has its own: `coracle run --network container:NAME` joins one"));
    }
    let dirs = dirs()?;
    let outer = userns::enter(&dirs.runtime)?;
    if let (Extent::Single { reason }, true) = (&outer.extent, outer.created) {
        ui::warning(&format!("only your own id is mapped: {reason}"));
    }
    let shell = || std::env::var("SHELL").ok().filter(|shell| !shell.is_empty()).unwrap_or("/bin/sh".into());
    let (program, rest) = match args.command.split_first() {
        Some((program, rest)) => (program.clone(), rest),
        None => (shell(), &[][..]),
    };
    // It stays registered as a holder: the command lives in the namespace.
    userns::register_holder(&dirs.runtime)?;
    let mut command = Command::new(&program);
    command.args(rest);
    // There it is root: what it is told of the user's directories must not change.
    if let (None, Some("coracle"), Some(parent)) = (
        std::env::var_os("XDG_RUNTIME_DIR"),
        dirs.runtime.file_name().and_then(std::ffi::OsStr::to_str),
        dirs.runtime.parent(),
    ) {
        command.env("XDG_RUNTIME_DIR", parent);
    }
    let error = command.exec();
    crate::error::BestEffort::or_ignore(userns::unregister_holder(&dirs.runtime));
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => Kind::NoCommand,
        _ => Kind::NotExecutable,
    };
    Err::<u8, std::io::Error>(error)
        .context(|| format!("run {program}"))
        .map_err(|e: Error| e.with_kind(kind))
}

fn dirs() -> Result<Dirs> {
    Dirs::from_environment(rustix::process::getuid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_dockers_fields() {
        let document = version_document();
        let show = |text: &str| formatted(Some(text), &document).expect(text).expect("a format");
        assert_eq!(show("{{.Server.APIVersion}} {{.Client.APIVersion}}"), "1.41 1.41\n");
        let version = env!("CARGO_PKG_VERSION");
        let components = "{{range .Server.Components}}{{.Name}} {{.Version}}{{end}}";
        assert_eq!(show(components), format!("Engine {version}\n"));
        for side in ["Client", "Server"] {
            assert_eq!(document[side]["ApiVersion"], API_VERSION, "{side}");
        }
        let rest = "{{.Server.MinAPIVersion}} {{.Client.Platform.Name}} {{.Server.GitCommit}}{{.Client.BuildTime}}{{.Client.GoVersion}}";
        assert_eq!(show(rest), "1.41 coracle \n");
    }

    #[test]
    fn templates_may_use_podmans_names() {
        let document = serde_json::json!({
            "host": { "ociRuntime": { "name": "coracle" }, "cpus": 2, "idMappings": { "uidmap": [{ "size": 1 }] } },
            "store": { "graphRoot": "/x" },
            "version": { "Version": "1" },
            "Plugins": { "Log": ["a"] },
            "plugins": { "volume": ["local"] },
        });
        let wide = with_go_names(&document);
        assert_eq!(wide["Host"]["OCIRuntime"]["Name"], "coracle");
        assert_eq!(wide["Host"]["CPUs"], 2);
        assert_eq!(wide["Host"]["IDMappings"]["UIDMap"][0]["Size"], 1);
        assert_eq!(wide["Store"]["GraphRoot"], "/x");
        assert_eq!(wide["Version"]["Version"], "1");
        assert_eq!(wide["Plugins"], serde_json::json!({ "Volume": ["local"], "Log": ["a"] }));
        assert_eq!(wide["host"], document["host"]);
    }
}
