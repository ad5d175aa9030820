//! `coracle inspect`, and the `inspect` of each kind of object.

use super::template::{Format, Scope};
use super::ui;
use crate::engine::Engine;
use crate::engine::{images, inspect as container};
use crate::error::{Context, Error, Kind, Result};
use clap::Args;
use serde_json::Value;

/// Docker's exit code where something was not found.
const NOT_FOUND: u8 = 1;

#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    common: KindInspectArgs,
    /// Look for this kind alone: container, image or volume
    #[arg(long, short = 't', value_name = "KIND")]
    r#type: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct KindInspectArgs {
    /// Print with a Go template, or `json` for an array on one line
    #[arg(long, short = 'f', value_name = "FORMAT")]
    format: Option<String>,
    /// Tell the sizes of containers
    #[arg(long, short = 's')]
    size: bool,
    /// Names or ids
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Object {
    Container,
    Image,
}

/// Shows containers, and images where there is no such container.
///
/// # Errors
/// `Invalid` for an unknown kind and a wrong template.
pub(crate) fn any(args: InspectArgs) -> Result<u8> {
    let objects = match args.r#type.as_deref() {
        None | Some("" | "all") => vec![Object::Container, Object::Image],
        Some("container") => vec![Object::Container],
        Some("image") => vec![Object::Image],
        Some(other) => {
            return Err(Error::invalid(format!("invalid --type {other:?}")).hint("it is container or image"));
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
    let mut documents = Vec::new();
    let mut missing = Vec::new();
    for name in &args.names {
        match find(&engine, name, objects, args.size) {
            Ok(document) => documents.push(document),
            Err(error) => missing.push(error),
        }
    }
    ui::write(render(&documents, format.as_ref())?.as_bytes())?;
    missing.iter().for_each(ui::error);
    Ok(if missing.is_empty() { 0 } else { NOT_FOUND })
}

/// The first kind that has something of this name.
fn find(engine: &Engine, name: &str, objects: &[Object], size: bool) -> Result<Value> {
    for object in objects {
        let found = match object {
            Object::Container => engine
                .resolve(name)
                .and_then(|id| engine.container_with_sessions(&id, size))
                .map(|found| container::document(&found, &engine.dirs)),
            Object::Image => images::inspect(&engine.dirs, name),
        };
        match found {
            // A name that one kind cannot have may be good for the next.
            Err(error) if objects.len() > 1 && matches!(error.kind(), Kind::NotFound | Kind::Invalid) => {}
            result => return result,
        }
    }
    Err(Error::not_found(format!("no such object: {name}")))
}

fn render(documents: &[Value], format: Option<&Format>) -> Result<String> {
    let lines = |render: &dyn Fn(&Value) -> Result<String>| -> Result<String> {
        documents.iter().map(|document| render(document).map(|line| format!("{line}\n"))).collect()
    };
    match format {
        None => {
            let text = serde_json::to_string_pretty(documents).context(|| "write the document")?;
            Ok(format!("{}\n", indent_four(&text)))
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

/// Docker indents by four, serde_json by two. Line breaks inside of strings
/// are escaped in JSON, so each line's indent is its own.
fn indent_four(text: &str) -> String {
    let wider = |line: &str| {
        let depth = line.len() - line.trim_start_matches(' ').len();
        format!("{}{line}", " ".repeat(depth))
    };
    text.lines().map(wider).collect::<Vec<_>>().join("\n")
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
