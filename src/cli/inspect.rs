//! `coracle inspect`, and the `inspect` of each kind of object.

use super::template::{Format, Scope};
use super::ui;
use crate::engine::Engine;
use crate::engine::list::Container;
use crate::engine::{images, inspect as container};
use crate::error::{Context, Error, Kind, Result};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

/// Docker's exit code where something was not found.
const NOT_FOUND: u8 = 1;

#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    common: KindInspectArgs,
    /// Look for this kind alone: container, image, volume, network or all
    #[arg(long, short = 't', value_name = "KIND")]
    r#type: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct KindInspectArgs {
    /// Print with a Go template, or `json` for an array on one line
    #[arg(long, short = 'f', value_name = "FORMAT")]
    format: Option<String>,
    /// The container that was made last
    #[arg(long, short = 'l')]
    latest: bool,
    /// Tell the sizes of containers
    #[arg(long, short = 's')]
    size: bool,
    /// Names or ids
    #[arg(value_name = "NAME", required_unless_present = "latest")]
    names: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Object {
    Container,
    Image,
    Volume,
    Network,
}

/// Shows containers, and images where there is no such container.
///
/// # Errors
/// `Invalid` for an unknown kind and a wrong template.
pub(crate) fn any(args: InspectArgs) -> Result<u8> {
    let objects = match args.r#type.as_deref() {
        None | Some("" | "all") => vec![Object::Container, Object::Image, Object::Volume, Object::Network],
        Some("container") => vec![Object::Container],
        Some("image") => vec![Object::Image],
        Some("volume") => vec![Object::Volume],
        Some("network") => vec![Object::Network],
        Some(other) => {
            return Err(Error::usage(format!("invalid --type {other:?}"))
                .hint("it is one of container, image, volume, network and all"));
        }
    };
    inspect(&args.common, &objects)
}

/// Shows containers.
///
/// # Errors
/// `Invalid` for a wrong template.
pub(crate) fn containers(args: KindInspectArgs) -> Result<u8> {
    inspect(&args, &[Object::Container])
}

/// Shows images.
///
/// # Errors
/// `Invalid` for a wrong template.
pub(crate) fn images(args: KindInspectArgs) -> Result<u8> {
    inspect(&args, &[Object::Image])
}

fn inspect(args: &KindInspectArgs, objects: &[Object]) -> Result<u8> {
    let format = Format::of_document(args.format.as_deref())?;
    let engine = Engine::open()?;
    let mut found = Vec::new();
    let mut missing = Vec::new();
    let latest = if args.latest { Some(latest(&engine, args, objects)?) } else { None };
    for name in args.names.iter().chain(&latest) {
        match find(&engine, name, objects, args.size) {
            Ok(one) => found.push(one),
            Err(error) => missing.push(error),
        }
    }
    let documents = documents(&engine, found);
    let code = super::exit::after(&write(&documents, format.as_ref())?);
    missing.iter().for_each(ui::error);
    Ok(if missing.is_empty() { code } else { NOT_FOUND })
}

/// The id of the container that was made last.
fn latest(engine: &Engine, args: &KindInspectArgs, objects: &[Object]) -> Result<String> {
    if !objects.contains(&Object::Container) {
        return Err(Error::usage("--latest is about containers alone"));
    }
    if let Some(name) = args.names.first() {
        return Err(Error::usage(format!("--latest and {name} cannot be used together")));
    }
    Ok(engine.newest()?.to_string())
}

/// What has a name.
enum Found {
    Container(Box<Container>),
    Document(Value),
}

/// The documents in their order. What only monitors know of their containers
/// is asked for together.
fn documents(engine: &Engine, found: Vec<Found>) -> Vec<Value> {
    let mut containers = Vec::new();
    let mut documents = Vec::new();
    for one in found {
        documents.push(match one {
            Found::Container(container) => {
                containers.push(*container);
                None
            }
            Found::Document(document) => Some(document),
        });
    }
    engine.add_sessions(&mut containers);
    let mut described = containers.iter().map(|one| container::document(one, &engine.dirs));
    documents.into_iter().filter_map(|document| document.or_else(|| described.next())).collect()
}

/// The first kind that has something of this name.
fn find(engine: &Engine, name: &str, objects: &[Object], size: bool) -> Result<Found> {
    for object in objects {
        let found = match object {
            Object::Container => engine
                .resolve(name)
                .and_then(|id| engine.container(&id, size))
                .map(|found| Found::Container(Box::new(found))),
            Object::Image => images::inspect(&engine.dirs, name).map(Found::Document),
            Object::Volume => {
                engine.volume(name).and_then(|volume| engine.volume_document(&volume)).map(Found::Document)
            }
            Object::Network => engine.network_document(name).map(Found::Document),
        };
        match found {
            // A name that one kind cannot have may be good for the next.
            Err(error) if objects.len() > 1 && matches!(error.kind(), Kind::NotFound | Kind::Invalid) => {}
            result => return result,
        }
    }
    Err(Error::not_found(format!("no such object: {name}")))
}

/// Shows the document of each: what was found is printed, what was not is an
/// error.
///
/// # Errors
/// `Invalid` for a wrong template.
pub(super) fn each(
    names: &[String],
    format: Option<&str>,
    find: impl Fn(&Engine, &str) -> Result<Value>,
) -> Result<u8> {
    let format = Format::of_document(format)?;
    let engine = Engine::open()?;
    let mut documents = Vec::new();
    let mut failures = Vec::new();
    for name in names {
        match find(&engine, name) {
            Ok(document) => documents.push(document),
            Err(error) => failures.push(error),
        }
    }
    failures.extend(write(&documents, format.as_ref())?);
    Ok(super::exit::after(&failures))
}

/// Writes what there is, and gives what a template had no answer to: the lines of
/// the other documents are written all the same.
fn write(documents: &[Value], format: Option<&Format>) -> Result<Vec<Error>> {
    let (text, failures) = match format {
        Some(Format::Template(_) | Format::Table(_)) => {
            let mut text = String::new();
            let mut failures = Vec::new();
            for document in documents {
                match render(std::slice::from_ref(document), format) {
                    Ok(line) => text.push_str(&line),
                    Err(error) => failures.push(error),
                }
            }
            (text, failures)
        }
        None | Some(Format::Json) => (render(documents, format)?, Vec::new()),
    };
    ui::write(text.as_bytes())?;
    Ok(failures)
}

pub(super) fn render(documents: &[Value], format: Option<&Format>) -> Result<String> {
    let lines = |render: &dyn Fn(&Value) -> Result<String>| -> Result<String> {
        documents.iter().map(|document| render(document).map(|line| format!("{line}\n"))).collect()
    };
    match format {
        None => {
            let step = || "write the document";
            let mut text = Vec::new();
            // Docker indents by four.
            let formatter = PrettyFormatter::with_indent(b"    ");
            documents.serialize(&mut Serializer::with_formatter(&mut text, formatter)).context(step)?;
            String::from_utf8(text).map(|text| text + "\n").map_err(|error| error.utf8_error()).context(step)
        }
        Some(Format::Json) => {
            let text = serde_json::to_string(documents).context(|| "write the document")?;
            Ok(format!("{text}\n"))
        }
        Some(Format::Template(template) | Format::Table(template)) => {
            lines(&|document| template.render(document, Scope::default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_are_an_array_lines_or_what_a_template_makes() {
        let documents = [json!({"Name": "/a", "Args": ["x\n  y"]}), json!({"Name": "/b", "Args": []})];
        let text = render(&documents, None).expect("valid");
        assert!(text.starts_with("[\n    {\n        \"Name\": \"/a\""), "{text}");
        assert!(text.contains("\"x\\n  y\""), "{text}");
        assert_eq!(serde_json::from_str::<Vec<Value>>(&text).expect("JSON"), documents);
        assert_eq!(render(&[], None).expect("valid"), "[]\n");
        let format = |text: &str| Format::parse(text).expect("valid");
        assert_eq!(render(&documents, Some(&format("{{.Name}}"))).expect("valid"), "/a\n/b\n");
        let line = render(&documents, Some(&format("json"))).expect("valid");
        assert_eq!(serde_json::from_str::<Vec<Value>>(line.trim_end()).expect("one line"), documents);
        assert!(render(&documents, Some(&format("{{.Nope}}"))).is_err());
    }
}
