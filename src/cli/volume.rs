//! `coracle volume`.

use super::inspect;
use super::list_format::Listing;
use super::table::{self, Headings};
use super::template::Format;
use super::ui;
use crate::engine::Engine;
use crate::engine::volumes::{VolumeFilters, VolumeRequest};
use crate::error::{Error, Kind, Result};
use crate::storage::volume::Volume;
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Display;

#[derive(Args, Debug, Default)]
pub(crate) struct CreateArgs {
    /// The driver: local is the only one
    #[arg(long, short = 'd', value_name = "DRIVER")]
    driver: Option<String>,
    /// Take it for made where there is one of that name (so it is always)
    #[arg(long = "ignore")]
    _ignore: bool,
    /// Set a label
    #[arg(long, short = 'l', value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Set an option of the driver
    #[arg(long = "opt", short = 'o', value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// The name, as docker's old flag gives it
    #[arg(long = "name", hide = true, value_name = "NAME", conflicts_with = "name")]
    named: Option<String>,
    /// Letters, digits, `_`, `.`, `-`; random where missing
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// Makes a volume and prints its name.
///
/// # Errors
/// `Invalid` for a bad name, driver or option.
pub(crate) fn create(args: CreateArgs) -> Result<u8> {
    let request = VolumeRequest {
        name: args.name.or(args.named),
        driver: args.driver,
        labels: pairs(&args.label),
        options: pairs(&args.options),
    };
    ui::line(&Engine::open()?.create_volume(request)?.name)?;
    Ok(0)
}

/// A key without a value has an empty one; the last of several holds.
pub(super) fn pairs(words: &[String]) -> BTreeMap<String, String> {
    let pair = |word: &String| match word.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (word.clone(), String::new()),
    };
    words.iter().map(pair).collect()
}

#[derive(Args, Debug, Default)]
pub(crate) struct ListArgs {
    /// Show those for which KEY=VALUE holds: name, driver, label, dangling, opt, scope, until
    #[arg(long, short = 'f', value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print with a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print names alone
    #[arg(long, short = 'q')]
    quiet: bool,
    /// Print no headings
    #[arg(long, short = 'n')]
    noheading: bool,
}

const LISTING: Listing = Listing {
    setting: "volumesFormat",
    raw: "name: {{.Name}}\ndriver: {{.Driver}}\n",
    raw_quiet: "name: {{.Name}}",
};

/// Lists volumes.
///
/// # Errors
/// `Invalid` for wrong filters and templates.
pub(crate) fn list(mut args: ListArgs) -> Result<u8> {
    let format = LISTING.format(&mut args.format, args.quiet)?;
    let engine = Engine::open()?;
    let mut notes = Vec::new();
    let volumes = engine.volumes(&VolumeFilters::parse(&args.filter)?, &mut notes)?;
    ui::warnings(&notes);
    if args.quiet && format.is_none() {
        ui::write(lines(volumes.iter().map(|volume| &volume.name)).as_bytes())?;
        return Ok(0);
    }
    let is_json = matches!(format, Some(Format::Json));
    let row = |volume| Ok((row(&engine, volume, is_json)?, &volume.labels));
    let rows: Vec<_> = volumes.iter().map(row).collect::<Result<_>>()?;
    ui::write(render(&rows, format.as_ref(), args.noheading)?.as_bytes())?;
    Ok(0)
}

/// One line for each.
fn lines(items: impl Iterator<Item = impl Display>) -> String {
    items.fold(String::new(), |text, item| text + &format!("{item}\n"))
}

/// What a template sees of one volume; `json` prints docker's fields alone.
fn row(engine: &Engine, volume: &Volume, is_json: bool) -> Result<Value> {
    let labels: Vec<String> = volume.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let document = engine.volume_document(volume)?;
    let mut row = json!({
        "Availability": "N/A", "Driver": volume.driver, "Group": "N/A", "Labels": labels.join(","), "Links": "N/A",
        "Mountpoint": document["Mountpoint"], "Name": volume.name, "Scope": "local", "Size": "N/A", "Status": "N/A",
    });
    if !is_json {
        for key in ["CreatedAt", "Options", "Anonymous"] {
            row[key] = document[key].clone();
        }
    }
    Ok(row)
}

fn render(
    rows: &[(Value, &BTreeMap<String, String>)],
    format: Option<&Format>,
    noheading: bool,
) -> Result<String> {
    let headings = json!({
        "Availability": "AVAILABILITY", "Driver": "DRIVER", "Group": "GROUP", "Labels": "LABELS", "Links": "LINKS",
        "Mountpoint": "MOUNTPOINT", "Name": "VOLUME NAME", "Scope": "SCOPE", "Size": "SIZE", "Status": "STATUS",
        "CreatedAt": "CREATED AT", "Options": "OPTIONS", "Anonymous": "ANONYMOUS",
    });
    let headings = Headings { texts: &headings, left_out: noheading };
    table::render(rows, format, "{{.Driver}}\t{{.Name}}", &headings)
}

#[derive(Args, Debug, Default)]
pub(crate) struct InspectArgs {
    /// Of all
    #[arg(long, short = 'a', conflicts_with = "volumes")]
    all: bool,
    /// Print with a Go template or `json`
    #[arg(long, short = 'f', value_name = "FORMAT")]
    format: Option<String>,
    #[arg(value_name = "VOLUME", required_unless_present = "all")]
    volumes: Vec<String>,
}

/// Shows everything about volumes: what was found is printed, what was not is
/// an error.
///
/// # Errors
/// `Invalid` for a wrong template.
pub(crate) fn inspect(args: InspectArgs) -> Result<u8> {
    let names = if args.all {
        let mut notes = Vec::new();
        let all = Engine::open()?.volumes(&VolumeFilters::default(), &mut notes)?;
        ui::warnings(&notes);
        all.into_iter().map(|volume| volume.name).collect()
    } else {
        args.volumes
    };
    inspect::each(&names, args.format.as_deref(), |engine, name| {
        engine.volume(name).and_then(|volume| engine.volume_document(&volume))
    })
}

#[derive(Args, Debug, Default)]
pub(crate) struct RemoveArgs {
    /// Remove all
    #[arg(long, short = 'a', conflicts_with = "volumes")]
    all: bool,
    /// Do not complain about those that do not exist
    #[arg(long, short = 'f')]
    force: bool,
    /// With --force: stop the containers that use them within so many seconds (-1 for never), and remove these too
    #[arg(long, short = 't', alias = "timeout", value_name = "SECONDS", allow_negative_numbers = true)]
    time: Option<i64>,
    #[arg(value_name = "VOLUME", required_unless_present = "all")]
    volumes: Vec<String>,
}

/// Removes volumes: each that can be.
///
/// # Errors
/// Where the engine cannot be opened; what concerns one volume is shown, and the
/// rest is still removed.
pub(crate) fn remove(args: RemoveArgs) -> Result<u8> {
    if args.time.is_some() && !args.force {
        return Err(Error::usage("--time needs --force: without that what uses a volume keeps it"));
    }
    let engine = Engine::open()?;
    let names = if args.all {
        let mut notes = Vec::new();
        let all = engine.volumes(&VolumeFilters::default(), &mut notes)?;
        ui::warnings(&notes);
        all.into_iter().map(|volume| volume.name).collect()
    } else {
        args.volumes
    };
    let mut code = 0;
    for name in &names {
        // Docker's --force spares what is used; podman's does not: its --time asks for that.
        let users = args.time.map_or(Ok(()), |time| engine.remove_users_of_volume(name, time));
        match users.and_then(|()| engine.remove_volume(name)) {
            Ok(()) => ui::line(name)?,
            Err(error) if args.force && error.kind() == Kind::NotFound => {}
            Err(error) => {
                code = super::exit::code(&error);
                ui::error(&error);
            }
        }
    }
    Ok(code)
}

#[derive(Args, Debug, Default)]
pub(crate) struct ExistsArgs {
    #[arg(value_name = "VOLUME")]
    volume: String,
}

/// 0 where there is a volume of that name, 1 where there is none.
///
/// # Errors
/// Where that cannot be found out.
pub(crate) fn exists(args: ExistsArgs) -> Result<u8> {
    exit_of(Engine::open()?.volume(&args.volume).map(drop))
}

fn exit_of(found: Result<(), Error>) -> Result<u8> {
    match found {
        Ok(()) => Ok(0),
        Err(error) if error.kind() == Kind::NotFound => Ok(1),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_may_lack_a_value() {
        let words = ["a=b=c", "d", "a=last"].map(str::to_owned);
        let expected = [("a", "last"), ("d", "")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(pairs(&words), BTreeMap::from(expected));
    }

    #[test]
    fn an_empty_list_has_its_headings() {
        assert_eq!(render(&[], None, false).expect("rendered"), "DRIVER    VOLUME NAME\n");
        let format = Format::parse("table {{.Name}}\\t{{.Scope}}").expect("format");
        assert_eq!(render(&[], Some(&format), false).expect("rendered"), "VOLUME NAME   SCOPE\n");
    }

    #[test]
    fn existence_is_an_exit_code() {
        assert_eq!(exit_of(Ok(())).expect("code"), 0);
        assert_eq!(exit_of(Err(Error::not_found("no such volume: x"))).expect("code"), 1);
        assert!(exit_of(Err(Error::failed("x"))).is_err());
    }
}
