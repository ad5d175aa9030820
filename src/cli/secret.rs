//! `coracle secret`.

use super::command::{Entry, command};
use super::lifecycle::each;
use super::table::{self, Headings};
use super::template::Format;
use super::ui;
use super::usage::nothing_named;
use crate::engine::Engine;
use crate::engine::secrets::SecretRequest;
use crate::error::{Context, Error, Kind, Result};
use crate::state::secrets::Secret;
use crate::types::secret::MAX_SECRET;
use crate::types::time::human_age;
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::io::{IsTerminal, Read};

pub(crate) static SECRET: &[Entry] = &[
    command!("create", &[], "Keep a secret", "[OPTIONS] NAME FILE|-", CreateArgs, create),
    command!("ls", &["list"], "List secrets", "[OPTIONS]", ListArgs, list),
    command!(
        "inspect",
        &[],
        "Show what is known of secrets",
        "[OPTIONS] SECRET [SECRET...]",
        InspectArgs,
        inspect
    ),
    command!("rm", &["remove"], "Remove secrets", "[OPTIONS] SECRET [SECRET...]", RemoveArgs, remove),
    command!("exists", &[], "Tell by the exit code whether a secret is here", "SECRET", ExistsArgs, exists),
];

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// The driver: file is the only one
    #[arg(long, short = 'd', value_name = "DRIVER")]
    driver: Option<String>,
    /// Take the value of the variable FILE
    #[arg(long)]
    env: bool,
    /// Leave a secret as it is that has the name already, and print its id
    #[arg(long, conflicts_with = "replace")]
    ignore: bool,
    /// Set a label
    #[arg(long, short = 'l', value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Give the new value to a secret that has the name already
    #[arg(long)]
    replace: bool,
    /// Its name
    #[arg(value_name = "NAME", required = true)]
    name: String,
    /// The file with its value; - for stdin
    #[arg(value_name = "FILE", required = true)]
    file: String,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Show those for which KEY=VALUE holds: name, id, label
    #[arg(long, short = 'f', value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print with a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print no headings
    #[arg(long, short = 'n')]
    noheading: bool,
    /// Print ids alone
    #[arg(long, short = 'q')]
    quiet: bool,
}

#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// Print with a Go template or as `json`
    #[arg(long, short = 'f', value_name = "FORMAT")]
    format: Option<String>,
    /// Print for people
    #[arg(long)]
    pretty: bool,
    /// Print the values as well
    #[arg(long)]
    showsecret: bool,
    /// Names or ids
    #[arg(value_name = "SECRET", required = true)]
    secrets: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct RemoveArgs {
    /// All secrets
    #[arg(long, short = 'a')]
    all: bool,
    /// Say nothing about those that do not exist
    #[arg(long, short = 'i')]
    ignore: bool,
    /// Names or ids
    #[arg(value_name = "SECRET")]
    secrets: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ExistsArgs {
    /// Name or id
    #[arg(value_name = "SECRET", required = true)]
    secret: String,
}

/// Keeps a secret and prints its id.
///
/// # Errors
/// What the engine says, and where the value cannot be read.
pub(crate) fn create(args: CreateArgs) -> Result<u8> {
    if let Some(driver) = args.driver.filter(|driver| driver != "file") {
        return Err(
            Error::invalid(format!("there is no secret driver {driver:?}")).hint("the only one is file")
        );
    }
    let engine = Engine::open()?;
    // Not by the engine: of the new value nothing is read either.
    let there =
        || engine.secrets(&mut Vec::new()).map(|all| all.into_iter().find(|one| one.name == args.name));
    if args.ignore
        && let Some(secret) = there()?
    {
        ui::line(&secret.id)?;
        return Ok(0);
    }
    let value = if args.env {
        let value = std::env::var_os(&args.file).ok_or_else(|| {
            Error::invalid(format!(
                "cannot create store secret data: environment variable {} is not set",
                args.file
            ))
        })?;
        std::os::unix::ffi::OsStringExt::into_vec(value)
    } else {
        read(&args.file)?
    };
    let pair = |word: &String| match word.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (word.clone(), String::new()),
    };
    let labels = args.label.iter().map(pair).collect();
    let request = SecretRequest { name: args.name, value, labels, replace: args.replace };
    ui::line(&engine.create_secret(request)?.id)?;
    Ok(0)
}

/// One byte more than is allowed, at most: the engine says what is wrong then.
fn read(file: &str) -> Result<Vec<u8>> {
    let step = || format!("read the secret from {file}");
    let mut value = Vec::new();
    let limit = MAX_SECRET as u64 + 1;
    if file == "-" {
        if std::io::stdin().is_terminal() {
            return Err(Error::invalid("the secret is to come from stdin, which is a terminal")
                .hint("pipe it in, or name a file"));
        }
        std::io::stdin().lock().take(limit).read_to_end(&mut value).context(step)?;
    } else {
        std::fs::File::open(file).context(step)?.take(limit).read_to_end(&mut value).context(step)?;
    }
    Ok(value)
}

/// Lists secrets.
///
/// # Errors
/// `Invalid` for wrong filters and templates.
pub(crate) fn list(args: ListArgs) -> Result<u8> {
    let format = Format::of_list(args.format.as_deref())?;
    let mut notes = Vec::new();
    let mut secrets = Engine::open()?.secrets(&mut notes)?;
    ui::warnings(&notes);
    for filter in &args.filter {
        let (key, value) = filter.split_once('=').unwrap_or((filter, ""));
        match key {
            "name" => secrets.retain(|secret| secret.name.contains(value)),
            "id" => secrets.retain(|secret| secret.id.starts_with(value)),
            "label" => secrets.retain(|secret| match value.split_once('=') {
                Some((key, value)) => secret.labels.get(key).is_some_and(|is| is == value),
                None => secret.labels.contains_key(value),
            }),
            _ => {
                return Err(Error::invalid(format!("invalid filter '{key}'"))
                    .hint("the filters are name, id and label"));
            }
        }
    }
    if args.quiet && format.is_none() {
        let ids: String = secrets.iter().map(|secret| format!("{}\n", secret.id)).collect();
        ui::write(ids.as_bytes())?;
        return Ok(0);
    }
    ui::write(render(&secrets, format.as_ref(), args.noheading)?.as_bytes())?;
    Ok(0)
}

fn render(secrets: &[Secret], format: Option<&Format>, noheading: bool) -> Result<String> {
    let rows: Vec<_> = secrets.iter().map(|secret| (row(secret), &secret.labels)).collect();
    let headings = json!({
        "ID": "ID", "Name": "NAME", "Driver": "DRIVER", "CreatedAt": "CREATED", "UpdatedAt": "UPDATED", "Labels": "LABELS",
    });
    let columns = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.CreatedAt}}\t{{.UpdatedAt}}";
    table::render(&rows, format, columns, &Headings { texts: &headings, left_out: noheading })
}

fn row(secret: &Secret) -> Value {
    let now = Timestamp::now();
    let labels: Vec<String> = secret.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    json!({
        "CreatedAt": human_age(secret.created, now),
        "Driver": "file",
        "ID": secret.id,
        "Labels": labels.join(","),
        "Name": secret.name,
        "UpdatedAt": human_age(secret.updated, now),
    })
}

/// Shows what is known of secrets.
///
/// # Errors
/// `Invalid` for a wrong template.
pub(crate) fn inspect(args: InspectArgs) -> Result<u8> {
    let format = Format::of_document(args.format.as_deref())?;
    let engine = Engine::open()?;
    let mut documents = Vec::new();
    let mut code = 0;
    for name in &args.secrets {
        match engine.secret(name).and_then(|secret| engine.secret_document(&secret, args.showsecret)) {
            Ok(document) => documents.push(document),
            Err(error) => {
                ui::error(&error);
                code = 1;
            }
        }
    }
    if args.pretty {
        for document in &documents {
            ui::write(pretty(document).as_bytes())?;
        }
    } else {
        ui::write(super::inspect::render(&documents, format.as_ref())?.as_bytes())?;
    }
    Ok(code)
}

fn pretty(document: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = format!(
        "ID:              {}\nName:            {}\nDriver:          file\nCreated at:      {}\nUpdated at:      {}\n",
        text(&document["ID"]),
        text(&document["Spec"]["Name"]),
        text(&document["CreatedAt"]),
        text(&document["UpdatedAt"]),
    );
    for (key, value) in document["Spec"]["Labels"].as_object().into_iter().flatten() {
        lines.push_str(&format!(" - {key}={}\n", text(value)));
    }
    if let Some(value) = document["SecretData"].as_str() {
        lines.push_str(&format!("Secret:          {value}\n"));
    }
    lines
}

/// Removes secrets, and prints the id of each.
///
/// # Errors
/// `Invalid` where none is named.
pub(crate) fn remove(args: RemoveArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let names = match (args.all, args.secrets.is_empty()) {
        (true, false) => return Err(Error::invalid("--all goes with no names")),
        (false, true) => {
            return Err(nothing_named("secret rm"));
        }
        (true, true) => {
            let mut notes = Vec::new();
            let all = engine.secrets(&mut notes)?;
            ui::warnings(&notes);
            all.into_iter().map(|secret| secret.id).collect()
        }
        (false, false) => args.secrets,
    };
    each(&names, |name| match engine.remove_secret(name) {
        Err(error) if args.ignore && error.kind() == Kind::NotFound => Ok(()),
        result => result.and_then(|id| ui::line(&id)),
    })
}

/// Tells whether a secret is here: 0 or 1.
///
/// # Errors
/// Where the secrets cannot be read.
pub(crate) fn exists(args: ExistsArgs) -> Result<u8> {
    match Engine::open()?.secret(&args.secret) {
        Ok(_) => Ok(0),
        Err(error) if error.kind() == Kind::NotFound => Ok(1),
        Err(error) => Err(error),
    }
}
