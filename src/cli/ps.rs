//! `coracle ps`.

mod fields;
mod order;

use super::list_format::Listing;
use super::template::{Format, Scope, Template};
use super::{table, ui};
use crate::engine::Engine;
use crate::engine::list::{Container, Filters, Selection, network_names, select};
use crate::error::{Error, Result};
use crate::types::mount::MountSource;
use crate::types::port;
use crate::types::size::decimal;
use crate::types::status::Status;
use crate::types::time::{human_age, human_duration};
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use order::Order;
use serde_json::{Map, Value, json};

/// Characters of a command and of a mount that tables show.
const COMMAND_WIDTH: usize = 20;
const MOUNT_WIDTH: usize = 15;

#[derive(Args, Debug, Default)]
pub(crate) struct PsArgs {
    /// Show those that do not run as well
    #[arg(long, short = 'a')]
    all: bool,
    /// Show those for which KEY=VALUE holds: id, name, label, label!, status, exited, ancestor, before, since, volume, network, health, until, expose, publish, is-task, restart-policy, pod
    #[arg(long, short = 'f', value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print with a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show the newest so many, whatever their state
    #[arg(long, short = 'n', value_name = "NUMBER")]
    last: Option<i64>,
    /// Show the newest, whatever its state
    #[arg(long, short = 'l')]
    latest: bool,
    /// Do not cut long texts
    #[arg(long)]
    no_trunc: bool,
    /// Print ids alone
    #[arg(long, short = 'q')]
    quiet: bool,
    /// Show sizes
    #[arg(long, short = 's')]
    size: bool,
    /// Accepted: no other program's containers are in this store
    #[arg(long)]
    external: bool,
    /// Print no headings
    #[arg(long)]
    noheading: bool,
    /// Show the namespaces
    #[arg(long, alias = "namespace")]
    ns: bool,
    /// Show the pods that they are in
    #[arg(long, short = 'p')]
    pod: bool,
    /// Sort by command, created, id, image, names, runningfor, size or status
    #[arg(long, value_name = "FIELD")]
    sort: Option<String>,
    /// Accepted: the state shown is always the kernel's
    #[arg(long)]
    sync: bool,
    /// Show it again every so many seconds
    #[arg(long, short = 'w', value_name = "SECONDS", default_value = "0", hide_default_value = true)]
    watch: u32,
}

const LISTING: Listing = Listing {
    setting: "psFormat",
    raw: "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n\
          state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\n\
          labels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n",
    raw_quiet: "container_id: {{.ID}}",
};

/// Goes to the upper left corner and clears what is below.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

/// Lists containers.
///
/// # Errors
/// `Invalid` for wrong filters and templates.
pub(crate) fn run(mut args: PsArgs) -> Result<u8> {
    let now = Timestamp::now();
    let selection = args.selection(now)?;
    let format = args.asked_format()?;
    args.check()?;
    loop {
        if args.watch > 0 {
            ui::write(CLEAR)?;
        }
        args.show(&selection, format.as_ref(), now)?;
        if args.watch == 0 {
            return Ok(0);
        }
        std::thread::sleep(std::time::Duration::from_secs(args.watch.into()));
    }
}

impl PsArgs {
    fn check(&self) -> Result<()> {
        if self.ns && self.size {
            return Err(Error::invalid("--ns and --size cannot be used together"));
        }
        self.sort.as_deref().map(Order::parse).transpose().map(drop)
    }

    /// Ids alone win over a template, as in docker.
    fn asked_format(&mut self) -> Result<Option<Format>> {
        let is_raw = self.format.as_deref() == Some("raw");
        if self.quiet && !is_raw && self.format.as_deref().is_some_and(|text| !text.is_empty()) {
            ui::warning("Ignoring custom format, because both --format and --quiet are set.");
            self.format = None;
        }
        let format = LISTING.format(&mut self.format, self.quiet || self.ns)?;
        if is_raw && self.size && !self.quiet {
            let raw = format!("{}size: {{{{.Size}}}}\n", LISTING.raw);
            return Format::of_list(Some(&raw));
        }
        Ok(format)
    }

    fn show(&self, selection: &Selection, format: Option<&Format>, now: Timestamp) -> Result<()> {
        let mut notes = Vec::new();
        let engine = Engine::open()?;
        let found = engine.containers(self.needs_size(), &mut notes)?;
        let mut containers = select(found, selection)?;
        if !self.quiet || self.sort.is_some() {
            engine.mark_moved(&mut containers).unwrap_or_else(|error| notes.push(error));
        }
        ui::warnings(&notes);
        if let Some(order) = &self.sort {
            Order::parse(order)?.sort(&mut containers);
        }
        // Of a list that is shown again, the ages are of each time.
        let now = if self.watch > 0 { Timestamp::now() } else { now };
        ui::write(self.render(&containers, format, now)?.as_bytes())
    }

    fn selection(&self, now: Timestamp) -> Result<Selection> {
        let last = match self.last {
            _ if self.latest => Some(1),
            // Docker's default is -1, which is no number.
            None | Some(-1) => None,
            Some(number) => Some(usize::try_from(number).map_err(|_| Error::invalid("--last is below -1"))?),
        };
        Ok(Selection { all: self.all, last, filters: Filters::parse(&self.filter, now)? })
    }

    /// Sizes take a walk over files, so they are looked at on demand alone.
    fn needs_size(&self) -> bool {
        self.size
            || self.sort.as_deref() == Some("size")
            || self.format.as_ref().is_some_and(|format| format.contains(".Size"))
    }

    fn render(&self, containers: &[Container], format: Option<&Format>, now: Timestamp) -> Result<String> {
        if self.quiet && format.is_none() {
            let id = |container: &Container| {
                let id = &container.record.id;
                format!("{}\n", if self.no_trunc { id.as_str() } else { id.short() })
            };
            return Ok(containers.iter().map(id).collect());
        }
        let table = |text: String| table::body(&text, self.noheading).to_owned();
        if self.ns && format.is_none() {
            return Ok(table(table::align(&fields::namespaces(containers, self.no_trunc))));
        }
        let zone = TimeZone::system();
        let row = |container: &Container| row(container, now, &zone, self.no_trunc);
        // Podman's fields too, which `json` (a line of docker's) does without.
        let wide = |container: &Container| {
            let mut row = row(container);
            if let Value::Object(row) = &mut row {
                fields::add(row, container, now);
            }
            row
        };
        match format {
            Some(Format::Json) => Ok(lines(containers.iter().map(|container| row(container).to_string()))),
            Some(Format::Template(template)) => {
                Ok(lines(render_rows(template, containers, wide)?.into_iter()))
            }
            Some(Format::Table(template)) => render_table(template, containers, wide).map(table),
            None => {
                let size = if self.size { "\t{{.Size}}" } else { "" };
                let pod = if self.pod { "\t{{.Pod}}\t{{.PodName}}" } else { "" };
                let text = format!(
                    "{{{{.ID}}}}\t{{{{.Image}}}}\t{{{{.Command}}}}\t{{{{.RunningFor}}}}\t{{{{.Status}}}}\t{{{{.Ports}}}}\t{{{{.Names}}}}{pod}{size}"
                );
                let row: &dyn Fn(&Container) -> Value = if self.pod { &wide } else { &row };
                render_table(&Template::parse(&text)?, containers, row).map(table)
            }
        }
    }
}

/// Each with the end of a line.
fn lines(texts: impl Iterator<Item = String>) -> String {
    texts.fold(String::new(), |all, text| all + &text + "\n")
}

fn render_rows(
    template: &Template,
    containers: &[Container],
    row: impl Fn(&Container) -> Value,
) -> Result<Vec<String>> {
    let line = |container: &Container| {
        let scope = Scope { labels: Some(&container.record.config.labels), headings: false };
        template.render(&row(container), scope)
    };
    containers.iter().map(line).collect()
}

fn render_table(
    template: &Template,
    containers: &[Container],
    row: impl Fn(&Container) -> Value,
) -> Result<String> {
    let none = std::collections::BTreeMap::new();
    let mut lines = vec![template.render(&headings(), Scope { headings: true, labels: Some(&none) })?];
    lines.extend(render_rows(template, containers, row)?);
    Ok(table::align(&lines))
}

/// Docker's headings of the fields.
fn headings() -> Value {
    let mut headings = json!({
        "ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "CreatedAt": "CREATED AT",
        "RunningFor": "CREATED", "Status": "STATUS", "State": "STATE", "Ports": "PORTS", "Names": "NAMES",
        "Size": "SIZE", "Labels": "LABELS", "Mounts": "MOUNTS", "LocalVolumes": "LOCAL VOLUMES",
        "Networks": "NETWORKS", "Platform": "PLATFORM", "HealthStatus": "HEALTH STATUS",
    });
    fields::add_headings(&mut headings);
    headings
}

/// What a template sees of one container; `json` prints just this.
fn row(container: &Container, now: Timestamp, zone: &TimeZone, whole: bool) -> Value {
    let record = &container.record;
    let cut = |text: String, width: usize| if whole { text } else { ellipsis(&text, width) };
    let labels: Vec<String> =
        record.config.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mounts: Vec<String> = mounts(container).into_iter().map(|mount| cut(mount, MOUNT_WIDTH)).collect();
    let command = cut(container.command().join(" "), COMMAND_WIDTH);
    let created = record.created.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string();
    let id = if whole { record.id.as_str() } else { record.id.short() };
    let fields = [
        ("Command", quote(&command)),
        ("CreatedAt", created),
        ("HealthStatus", container.health().to_owned()),
        ("ID", id.to_owned()),
        ("Image", container.image(whole)),
        ("Labels", labels.join(",")),
        ("LocalVolumes", local_volumes(container).to_string()),
        ("Mounts", mounts.join(",")),
        ("Names", record.name.clone()),
        ("Networks", network_names(&record.config).join(",")),
        ("Ports", ports(container)),
        ("RunningFor", human_age(record.created, now)),
        ("Size", size(container)),
        ("State", container.state().to_owned()),
        ("Status", status(container, now)),
    ];
    let mut row: Map<String, Value> =
        fields.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    // Docker knows it of the images of one of its stores.
    row.insert("Platform".to_owned(), Value::Null);
    Value::Object(row)
}

/// Docker's column: nothing for what does not run.
fn ports(container: &Container) -> String {
    if !container.is_up() || container.record.config.network.discards_ports() {
        return String::new();
    }
    port::column(&container.ports, &port::exposed(&container.record.config.expose))
}

/// `Up 3 seconds`, `Exited (0) 2 minutes ago`.
pub(super) fn status(container: &Container, now: Timestamp) -> String {
    match &container.status {
        Status::Created => "Created".into(),
        Status::Running { since, paused, .. } => {
            let up = format!("Up {}", human_duration(now.duration_since(*since)));
            match container.health() {
                _ if *paused => format!("{up} (Paused)"),
                "none" => up,
                "starting" => format!("{up} (health: starting)"),
                health => format!("{up} ({health})"),
            }
        }
        Status::Restarting { last, .. } => {
            format!("Restarting ({}) {}", last.code, human_age(last.finished_at, now))
        }
        Status::Exited(exit) => format!("Exited ({}) {}", exit.code, human_age(exit.finished_at, now)),
    }
}

/// The command as tables show it.
pub(super) fn short_command(container: &Container) -> String {
    quote(&ellipsis(&container.command().join(" "), COMMAND_WIDTH))
}

fn size(container: &Container) -> String {
    match container.size {
        None => "0B".into(),
        Some((own, 0)) => decimal(own),
        Some((own, all)) => format!("{} (virtual {})", decimal(own), decimal(all)),
    }
}

/// Names of volumes and paths of binds.
fn mounts(container: &Container) -> Vec<String> {
    let name = |source: &MountSource| match source {
        MountSource::Volume { name } => Some(name.clone()),
        MountSource::Bind { path, .. } | MountSource::Overlay { path } => Some(path.display().to_string()),
        MountSource::Image { reference, .. } => Some(reference.clone()),
        MountSource::Anonymous | MountSource::Tmpfs { .. } => None,
    };
    let record = &container.record;
    record.config.mounts.iter().filter_map(|mount| name(&mount.source)).collect()
}

pub(super) fn local_volumes(container: &Container) -> usize {
    let volume = |source: &MountSource| matches!(source, MountSource::Volume { .. } | MountSource::Anonymous);
    container.record.config.mounts.iter().filter(|mount| volume(&mount.source)).count()
}

/// At most so many characters, the last of them `…`.
fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

/// In double quotes, with what would break out of them escaped.
fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.extend(c.escape_default()),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::list::samples::{container, exited, running, time};

    fn rendered(args: &PsArgs) -> String {
        let mut web = container("web", 3, running("2026-01-03T12:00:00Z"));
        web.record.config.cmd = vec!["nginx".into(), "-g".into(), "daemon off;".into(), "x".into()];
        web.record.config.labels.extend([("a".to_owned(), "1".to_owned())]);
        web.size = Some((0, 1_090_000));
        let db = container("db", 1, exited(137, "2026-01-01T12:00:00Z"));
        let format = args.format.as_deref().map(|text| Format::parse(text).expect("valid"));
        args.render(&[web, db], format.as_ref(), time("2026-01-03T12:02:00Z")).expect("valid")
    }

    fn with_format(format: &str) -> String {
        rendered(&PsArgs { format: Some(format.into()), ..PsArgs::default() })
    }

    #[test]
    fn the_table_is_dockers() {
        let expected = "\
CONTAINER ID   IMAGE     COMMAND                  CREATED         STATUS                    PORTS     NAMES
030303030303   busybox   \"nginx -g daemon off…\"   2 minutes ago   Up 2 minutes                        web
010101010101   busybox   \"sleep 100\"              2 days ago      Exited (137) 2 days ago             db
";
        assert_eq!(rendered(&PsArgs::default()), expected);
        let with_size = rendered(&PsArgs { size: true, ..PsArgs::default() });
        assert!(with_size.contains("0B (virtual 1.09MB)"), "{with_size}");
    }

    #[test]
    fn formats_choose_what_is_printed() {
        assert_eq!(with_format("{{.Names}} {{.State}}"), "web running\ndb exited\n");
        assert_eq!(with_format("{{.Label \"a\"}}|{{.Labels}}"), "1|a=1\n|\n");
        assert_eq!(
            with_format("table {{.Names}}\\t{{.Image}}"),
            "NAMES     IMAGE\nweb       busybox\ndb        busybox\n"
        );
        let json = with_format("json");
        assert_eq!(json.lines().count(), 2);
        let first: Value = serde_json::from_str(json.lines().next().expect("a line")).expect("JSON");
        assert_eq!(first["Names"], "web");
        assert_eq!(first["Status"], "Up 2 minutes");
        let args = PsArgs { format: Some("{{.Nope}}".into()), ..PsArgs::default() };
        let format = Format::parse("{{.Nope}}").expect("parses");
        assert!(
            args.render(&[container("x", 1, Status::Created)], Some(&format), time("2026-01-03T12:02:00Z"))
                .is_err()
        );
    }

    #[test]
    fn quiet_prints_ids() {
        assert_eq!(rendered(&PsArgs { quiet: true, ..PsArgs::default() }), "030303030303\n010101010101\n");
        let whole = rendered(&PsArgs { quiet: true, no_trunc: true, ..PsArgs::default() });
        assert_eq!(whole.lines().next().map(str::len), Some(64));
    }

    #[test]
    fn commands_cannot_break_the_table() {
        assert_eq!(quote("a\"b\\\n\x1b"), "\"a\\\"b\\\\\\n\\u{1b}\"");
        assert_eq!(ellipsis("ééééé", 3), "éé…");
    }
}
