//! `coracle events`, in docker's forms.

use super::template::{Format, Scope};
use super::ui;
use crate::engine::Engine;
use crate::engine::events::{EventFilters, EventOptions, kind_name};
use crate::engine::logs::moment;
use crate::error::Result;
use crate::types::boolean;
use crate::types::event::{Event, EventKind};
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};
use std::os::fd::AsFd;

#[derive(Args, Debug, Default)]
pub(crate) struct EventsArgs {
    /// Show those for which KEY=VALUE holds: container, image, event, type, label, volume, network, secret, scope
    #[arg(long, short = 'f', value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print with a Go template, or `json` for one object a line
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Do not cut ids
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    no_trunc: Option<String>,
    /// Show events from this time on: a duration before now (10m), a date, or seconds since the epoch
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Go on with events as they come; false shows those that are there
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    stream: Option<String>,
    /// Show events up to this time, and then end
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// Shows what has happened and what happens.
///
/// # Errors
/// `Invalid` for wrong filters, times and templates.
pub(crate) fn run(args: EventsArgs) -> Result<u8> {
    let now = Timestamp::now();
    let time = |flag: &str, text: &Option<String>| match text.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => {
            moment::parse(text, now, TimeZone::system).map(Some).map_err(|error| error.context(flag))
        }
    };
    let flag = |flag: &str, text: &Option<String>| {
        text.as_deref().map_or(Ok(true), |text| boolean::parse(flag, text))
    };
    let options = EventOptions {
        since: time("--since", &args.since)?,
        until: time("--until", &args.until)?,
        stream: flag("--stream", &args.stream)?,
        filters: EventFilters::parse(&args.filter)?,
    };
    let whole = flag("--no-trunc", &args.no_trunc)?;
    let format = args.format.as_deref().map(parse_format).transpose()?;
    let zone = TimeZone::system();
    let stdout = std::io::stdout();
    Engine::open()?.events(&options, stdout.as_fd(), &mut |event| {
        let mut event = event.clone();
        if !whole {
            event.id = short(&event.id);
        }
        ui::line(&match &format {
            None => text(&event, &zone),
            Some(Format::Json) => document(&event).to_string(),
            Some(Format::Table(template) | Format::Template(template)) => {
                template.render(&fields(&event), Scope { headings: false, labels: None })?
            }
        })
    })?;
    Ok(0)
}

/// `{{json .}}` is docker's spelling of `json`, `jsonl` its newer one.
fn parse_format(text: &str) -> Result<Format> {
    let bare: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if matches!(bare.as_str(), "{{json.}}" | "jsonl") { Ok(Format::Json) } else { Format::parse(text) }
}

fn short(id: &str) -> String {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    let is_id = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { hex[..12].to_owned() } else { id.to_owned() }
}

/// `TIME TYPE ACTION ID (key=value, …)`
fn text(event: &Event, zone: &TimeZone) -> String {
    let local = event.time.to_zoned(zone.clone());
    // Go's RFC 3339: `Z` where there is no offset.
    let offset = if local.offset().is_zero() { "Z".into() } else { local.strftime("%:z").to_string() };
    let mut line = format!(
        "{}{offset} {} {} {}",
        local.strftime("%Y-%m-%dT%H:%M:%S.%9f"),
        kind_name(event.kind),
        event.action,
        event.id
    );
    if !event.attributes.is_empty() {
        let each: Vec<String> =
            event.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        line += &format!(" ({})", each.join(", "));
    }
    // Labels are hostile: one event, one line.
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Docker's JSON of an event.
fn document(event: &Event) -> Value {
    let mut document = Map::new();
    if matches!(event.kind, EventKind::Container | EventKind::Image) {
        document.insert("status".into(), event.action.clone().into());
        document.insert("id".into(), event.id.clone().into());
        if let Some(image) = event.attributes.get("image") {
            document.insert("from".into(), image.clone().into());
        }
    }
    document.insert("Type".into(), kind_name(event.kind).into());
    document.insert("Action".into(), event.action.clone().into());
    document.insert("Actor".into(), json!({"ID": event.id, "Attributes": event.attributes}));
    document.insert("scope".into(), "local".into());
    document.insert("time".into(), event.time.as_second().into());
    document.insert("timeNano".into(), nanoseconds(event));
    Value::Object(document)
}

fn nanoseconds(event: &Event) -> Value {
    i64::try_from(event.time.as_nanosecond()).unwrap_or_default().into()
}

/// What templates can name: docker's fields and podman's.
fn fields(event: &Event) -> Value {
    let attribute = |key: &str| event.attributes.get(key).cloned().unwrap_or_default();
    let code = attribute("exitCode").parse::<i64>().ok();
    let health = event.action.strip_prefix("health_status: ").unwrap_or_default();
    let name = if event.kind == EventKind::Volume { event.id.clone() } else { attribute("name") };
    json!({
        "Status": event.action,
        "Action": event.action,
        "Type": kind_name(event.kind),
        "ID": event.id,
        "From": attribute("image"),
        "Image": attribute("image"),
        "Name": name,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "Attributes": event.attributes,
        "Scope": "local",
        "Time": event.time.as_second(),
        "TimeNano": nanoseconds(event),
        "ContainerExitCode": code,
        "HealthStatus": health,
        "Network": attribute("network"),
        "PodID": "",
        "Error": attribute("error"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let event = Event::now(EventKind::Container, "die", "a".repeat(64))
            .with("name", "web")
            .with("image", "busybox")
            .with("exitCode", "3")
            .with("evil", "a\nb");
        Event { time: "2026-11-24T05:06:07.5Z".parse().expect("a time"), ..event }
    }

    #[test]
    fn lines_are_dockers() {
        let id = "a".repeat(64);
        let tail = format!(" container die {id} (evil=a b, exitCode=3, image=busybox, name=web)");
        assert_eq!(text(&event(), &TimeZone::UTC), format!("2026-11-24T05:06:07.500000000Z{tail}"));
        let zone = TimeZone::fixed(jiff::tz::Offset::constant(2));
        assert_eq!(text(&event(), &zone), format!("2026-11-24T07:06:07.500000000+02:00{tail}"));
        let bare = Event { attributes: std::collections::BTreeMap::new(), ..event() };
        assert!(text(&bare, &TimeZone::UTC).ends_with(&id));
    }

    #[test]
    fn json_is_dockers() {
        let document = document(&event());
        assert_eq!(document["status"], "die");
        assert_eq!(document["from"], "busybox");
        assert_eq!(document["Actor"]["Attributes"]["exitCode"], "3");
        assert_eq!(document["time"], 1_795_496_767);
        assert_eq!(document["timeNano"], 1_795_496_767_500_000_000_i64);
        assert!(matches!(parse_format("{{ json . }}"), Ok(Format::Json)));
        assert!(matches!(parse_format("jsonl"), Ok(Format::Json)));
    }

    #[test]
    fn templates_know_dockers_and_podmans_fields() {
        let Ok(Format::Template(template)) = parse_format(
            "{{.Status}} {{.Name}} {{.Image}} {{.Actor.Attributes.exitCode}} {{.ContainerExitCode}}",
        ) else {
            panic!("a template")
        };
        let scope = Scope { headings: false, labels: None };
        assert_eq!(template.render(&fields(&event()), scope).expect("renders"), "die web busybox 3 3");
        assert_eq!(short(&format!("sha256:{}", "b".repeat(64))), "b".repeat(12));
        assert_eq!(short("busybox:latest"), "busybox:latest");
    }
}
