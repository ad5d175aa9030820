//! `search`.

use super::command::{Entry, command};
use super::registry_options::RegistryArgs;
use super::table::{self, Headings};
use super::template::Format;
use super::ui;
use crate::engine::Engine;
use crate::engine::search::{Filter, Repository, SearchOptions, Tags, search as find, tags};
use crate::error::{Error, Result};
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) const SEARCH: Entry =
    command!("search", &[], "Search registries for images", "[OPTIONS] [REGISTRY/]TERM", SearchArgs, search);

/// Characters of a description in a row: docker's.
const DESCRIPTION: usize = 45;

#[derive(Args, Debug)]
pub(crate) struct SearchArgs {
    /// Show podman's column AUTOMATED as well
    #[arg(long)]
    compatible: bool,
    /// Show those for which KEY=VALUE holds: stars, is-official, is-automated
    #[arg(long, short = 'f', value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print with a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Results of each registry, at most
    #[arg(long, value_name = "N", default_value = "25")]
    limit: String,
    /// List the tags of the repository that TERM names
    #[arg(long, conflicts_with_all = ["filter", "compatible"])]
    list_tags: bool,
    /// Do not cut descriptions
    #[arg(long)]
    no_trunc: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    /// Part of a name: in the registry named, or in those where short names are looked for; REGISTRY/ alone lists all it has
    #[arg(value_name = "TERM", required = true)]
    term: String,
}

/// Searches registries.
///
/// # Errors
/// What the registry says; `Invalid` for wrong filters and templates.
pub(crate) fn search(args: SearchArgs) -> Result<u8> {
    let format = Format::of_list(args.format.as_deref())?;
    let options = SearchOptions {
        registry: args.registry.options()?,
        limit: args.limit()?,
        filter: Filter::parse(&args.filter)?,
    };
    let dirs = &Engine::open()?.dirs;
    let term = args.term.strip_prefix("docker://").unwrap_or(&args.term);
    if term.is_empty() {
        return Err(Error::invalid("there is nothing to search for")
            .hint("REGISTRY/ alone lists all that a registry has"));
    }
    if args.list_tags {
        let found = tags(dirs, term, &options)?;
        ui::write(render_tags(&found, format.as_ref())?.as_bytes())?;
        return Ok(0);
    }
    let mut notes = Vec::new();
    let found = find(dirs, term, &options, &mut notes)?;
    ui::write(args.render(&found, format.as_ref())?.as_bytes())?;
    for note in &notes {
        ui::warning(&note.to_string());
    }
    Ok(0)
}

impl SearchArgs {
    fn limit(&self) -> Result<usize> {
        self.limit.parse().ok().filter(|limit| *limit > 0).ok_or_else(|| {
            Error::invalid(format!("invalid value {:?} of --limit", self.limit))
                .hint("it is a number, 1 or more")
        })
    }

    fn render(&self, found: &[Repository], format: Option<&Format>) -> Result<String> {
        let as_json = matches!(format, Some(Format::Json));
        let rows: Vec<_> = found.iter().map(|found| (self.row(found, as_json), BTreeMap::new())).collect();
        let automated = if self.compatible { "\t{{.Automated}}" } else { "" };
        let columns =
            format!("{{{{.Name}}}}\t{{{{.Description}}}}\t{{{{.Stars}}}}\t{{{{.Official}}}}{automated}");
        let headings = json!({
            "Index": "INDEX", "Name": "NAME", "Description": "DESCRIPTION", "Stars": "STARS",
            "StarCount": "STARS", "Official": "OFFICIAL", "IsOfficial": "OFFICIAL",
            "Automated": "AUTOMATED", "IsAutomated": "AUTOMATED",
        });
        table::render(&rows, format, &columns, &Headings::of(&headings))
    }

    /// Podman's fields, and docker's names of the same.
    fn row(&self, found: &Repository, as_json: bool) -> Value {
        let said = |holds: bool| match (as_json, holds) {
            (true, holds) => json!(holds),
            (false, true) => json!("[OK]"),
            (false, false) => json!(""),
        };
        let (official, automated) = (said(found.official), said(found.automated));
        json!({
            "Index": found.registry,
            "Name": found.name(),
            "Description": if self.no_trunc { found.description.clone() } else { cut(&found.description) },
            "Stars": found.stars,
            "StarCount": found.stars,
            "Official": official,
            "IsOfficial": official,
            "Automated": automated,
            "IsAutomated": automated,
        })
    }
}

fn render_tags(found: &Tags, format: Option<&Format>) -> Result<String> {
    let row = |tag: &String| (json!({"Name": found.name, "Tag": tag}), BTreeMap::new());
    let rows: Vec<_> = found.tags.iter().map(row).collect();
    let headings = json!({"Name": "NAME", "Tag": "TAG"});
    table::render(&rows, format, "{{.Name}}\t{{.Tag}}", &Headings::of(&headings))
}

fn cut(description: &str) -> String {
    if description.chars().count() <= DESCRIPTION {
        return description.to_owned();
    }
    description.chars().take(DESCRIPTION - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> SearchArgs {
        use clap::{Command, FromArgMatches};
        let command = SearchArgs::augment_args(Command::new("search"));
        let words = ["search"].iter().chain(words);
        let matches = command.try_get_matches_from(words).expect("good words");
        SearchArgs::from_arg_matches(&matches).expect("good words")
    }

    fn found() -> Vec<Repository> {
        let official = Repository {
            registry: "docker.io".into(),
            path: "library/nginx".into(),
            description: "A server of what is asked for, and of what is not".into(),
            stars: 20_000,
            official: true,
            automated: false,
        };
        let other =
            Repository { registry: "q.test:5000".into(), path: "a/nginx".into(), ..Default::default() };
        vec![official, other]
    }

    #[test]
    fn the_table_has_dockers_columns_and_names_that_can_be_pulled() {
        let text = args(&["x"]).render(&found(), None).expect("rendered");
        assert_eq!(
            text,
            "NAME                      DESCRIPTION                                     STARS     OFFICIAL\n\
             docker.io/library/nginx   A server of what is asked for, and of what i…   20000     [OK]\n\
             q.test:5000/a/nginx                                                       0         \n"
        );
        let format = Format::parse("{{.Index}} {{.StarCount}} {{.IsOfficial}}").expect("good");
        let text = args(&["x"]).render(&found(), Some(&format)).expect("rendered");
        assert_eq!(text, "docker.io 20000 [OK]\nq.test:5000 0 \n");
        let text = args(&["--no-trunc", "x"]).render(&found(), Some(&Format::Json)).expect("rendered");
        assert!(text.contains("what is not\"") && text.contains("\"Official\":true"), "{text}");
    }

    #[test]
    fn limits_are_numbers() {
        assert_eq!(args(&["x"]).limit().expect("default"), 25);
        for bad in ["0", "-1", "x", ""] {
            assert!(args(&[&format!("--limit={bad}"), "x"]).limit().is_err(), "{bad}");
        }
    }
}
