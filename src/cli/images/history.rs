//! `coracle history`.

use crate::cli::table::{self, Headings};
use crate::cli::template::Format;
use crate::cli::ui;
use crate::engine::Engine;
use crate::engine::images::{self, HistoryStep};
use crate::error::Result;
use crate::types::boolean;
use crate::types::reference::Reference;
use crate::types::size::decimal;
use crate::types::time::human_age;
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Characters of a step that tables show.
const STEP_WIDTH: usize = 45;

#[derive(Args, Debug)]
pub(crate) struct HistoryArgs {
    /// Print with a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Sizes and ages for people; false for bytes and times
    #[arg(long, short = 'H', num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_name = "BOOL")]
    human: String,
    /// Do not cut long texts
    #[arg(long)]
    no_trunc: bool,
    /// Print ids alone
    #[arg(long, short = 'q')]
    quiet: bool,
    /// Name or id
    #[arg(value_name = "IMAGE", required = true)]
    image: String,
}

/// Shows how an image came to be.
///
/// # Errors
/// `NotFound`; `Invalid` for a wrong template.
pub(crate) fn history(args: HistoryArgs) -> Result<u8> {
    let format = Format::of_list(args.format.as_deref())?;
    let steps = images::history(&Engine::open()?.dirs, &args.image)?;
    ui::write(args.render(&steps, format.as_ref(), Timestamp::now())?.as_bytes())?;
    Ok(0)
}

impl HistoryArgs {
    fn render(&self, steps: &[HistoryStep], format: Option<&Format>, now: Timestamp) -> Result<String> {
        if self.quiet && format.is_none() {
            return Ok(steps.iter().map(|step| format!("{}\n", self.id(step))).collect());
        }
        let human = boolean::parse("--human", &self.human)?;
        // Podman's fields too, which `json` (a line of docker's) does without.
        let podman = !matches!(format, None | Some(Format::Json));
        let row = |step| {
            let mut row = self.row(step, now, human);
            if podman {
                row["Created"] = row["CreatedSince"].clone();
                row["CreatedTime"] = row["CreatedAt"].clone();
            }
            (row, BTreeMap::new())
        };
        let rows: Vec<_> = steps.iter().map(row).collect();
        let headings = json!({
            "ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY",
            "Size": "SIZE", "Comment": "COMMENT", "Tags": "TAGS", "Created": "CREATED", "CreatedTime": "CREATED AT",
        });
        let created = if human { "CreatedSince" } else { "CreatedAt" };
        let columns =
            format!("{{{{.ID}}}}\t{{{{.{created}}}}}\t{{{{.CreatedBy}}}}\t{{{{.Size}}}}\t{{{{.Comment}}}}");
        table::render(&rows, format, &columns, &Headings::of(&headings))
    }

    fn id(&self, step: &HistoryStep) -> String {
        match &step.id {
            Some(id) if self.no_trunc => id.to_string(),
            Some(id) => id.short().to_owned(),
            None => "<missing>".to_owned(),
        }
    }

    fn row(&self, step: &HistoryStep, now: Timestamp, human: bool) -> Value {
        let by = step.created_by.replace('\t', " ");
        let cut = by.chars().count() > STEP_WIDTH && !self.no_trunc;
        let by = if cut { by.chars().take(STEP_WIDTH - 1).chain(['…']).collect() } else { by };
        let unknown = || "N/A".to_owned();
        json!({
            "ID": self.id(step),
            "CreatedSince": step.created.map_or_else(unknown, |created| human_age(created, now)),
            "CreatedAt": step.created.map_or_else(unknown, local),
            "CreatedBy": by,
            "Size": if human { decimal(step.size) } else { step.size.to_string() },
            "Comment": step.comment,
            "Tags": step.tags.iter().map(Reference::familiar).collect::<Vec<_>>().join(","),
        })
    }
}

/// RFC 3339 in the local zone, as Go writes it.
fn local(created: Timestamp) -> String {
    let zoned = created.to_zoned(TimeZone::system());
    let zone = if zoned.offset().is_zero() { "Z" } else { "%:z" };
    zoned.strftime(&format!("%Y-%m-%dT%H:%M:%S{zone}")).to_string()
}
