//! `coracle stats`.

use super::command::{Entry, command};
use super::list_format::Listing;
use super::template::{Format, Scope, Template};
use super::{table, ui};
use crate::engine::Engine;
use crate::engine::list::{Filters, Selection, select};
use crate::engine::stats::Usage;
use crate::error::{Error, Result};
use crate::types::id::ContainerId;
use crate::types::size::{binary, decimal};
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

pub(crate) const STATS: Entry =
    command!("stats", &[], "Show what running containers use", "[OPTIONS] [CONTAINER...]", StatsArgs, run);

/// Docker's columns.
const COLUMNS: &str =
    "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";

/// Docker has no `raw` of this.
const LISTING: Listing = Listing { setting: "statsFormat", raw: "raw", raw_quiet: "raw" };

#[derive(Args, Debug, Default)]
pub(crate) struct StatsArgs {
    /// Show those that do not run as well
    #[arg(long, short = 'a')]
    pub(super) all: bool,
    /// Print with a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "FORMAT")]
    pub(super) format: Option<String>,
    /// Wait so many seconds between two looks
    #[arg(long, short = 'i', value_name = "SECONDS", default_value = "1")]
    pub(super) interval: u64,
    /// Of the container that was created last
    #[arg(long, short = 'l')]
    pub(super) latest: bool,
    /// Print below what was there, instead of over it
    #[arg(long)]
    pub(super) no_reset: bool,
    /// Print once
    #[arg(long)]
    pub(super) no_stream: bool,
    /// Do not cut ids
    #[arg(long)]
    pub(super) no_trunc: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    pub(super) containers: Vec<String>,
}

/// A container at two moments: the first is its start where there is none.
struct Row {
    now: Usage,
    /// Processors that were busy between the two.
    cpus: f64,
    /// Empty where it is not asked for.
    pod: String,
    /// The word that asked for it; `None` where all are shown.
    asked: Option<String>,
}

/// Shows what containers use.
///
/// # Errors
/// `NotFound` for an unknown container, `Invalid` for a wrong template.
pub(crate) fn run(mut args: StatsArgs) -> Result<u8> {
    LISTING.format(&mut args.format, false)?;
    if args.interval == 0 {
        return Err(Error::invalid("--interval is one second at least"));
    }
    show(&Engine::open()?, &args, COLUMNS, &|engine| chosen(engine, &args).map(|ids| (ids, BTreeMap::new())))
}

/// Whose use is shown, and the pod that each is in where that is to be told.
pub(super) type Chosen = (Vec<ContainerId>, BTreeMap<ContainerId, String>);

/// Shows again and again what the containers use that `choose` gives.
///
/// # Errors
/// As [`run`].
pub(super) fn show(
    engine: &Engine,
    args: &StatsArgs,
    columns: &str,
    choose: &dyn Fn(&Engine) -> Result<Chosen>,
) -> Result<u8> {
    let format = Format::of_list(args.format.as_deref())?;
    let redraw = !args.no_stream && !args.no_reset && format.is_none() && std::io::stdout().is_terminal();
    let mut before: BTreeMap<ContainerId, (Instant, Duration)> = BTreeMap::new();
    loop {
        let (ids, pods) = choose(engine)?;
        let mut rows = look(engine, &ids, &pods, &mut before)?;
        for row in &mut rows {
            let named = |word: &&String| engine.resolve(word).is_ok_and(|id| id == row.now.id);
            row.asked = args.containers.iter().find(named).cloned();
        }
        let mut text = render(&rows, format.as_ref(), columns, args.no_trunc)?;
        if redraw {
            // Over the last: home, each line to its end, what is below it.
            text = format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"));
        }
        ui::write(text.as_bytes())?;
        if args.no_stream {
            return Ok(0);
        }
        std::thread::sleep(Duration::from_secs(args.interval));
    }
}

fn look(
    engine: &Engine,
    ids: &[ContainerId],
    pods: &BTreeMap<ContainerId, String>,
    before: &mut BTreeMap<ContainerId, (Instant, Duration)>,
) -> Result<Vec<Row>> {
    let usages = engine.usage(ids)?;
    let now = Instant::now();
    let row = |usage: Usage| {
        let earlier = before.get(&usage.id).filter(|(_, cpu)| *cpu <= usage.cpu);
        let (time, cpu) = earlier.map_or((usage.up, usage.cpu), |(at, cpu)| {
            (now.duration_since(*at), usage.cpu.saturating_sub(*cpu))
        });
        let cpus = if time.is_zero() { 0.0 } else { cpu.as_secs_f64() / time.as_secs_f64() };
        Row { pod: pods.get(&usage.id).cloned().unwrap_or_default(), now: usage, cpus, asked: None }
    };
    let rows: Vec<Row> = usages.into_iter().map(row).collect();
    *before = rows.iter().map(|row| (row.now.id.clone(), (now, row.now.cpu))).collect();
    Ok(rows)
}

fn chosen(engine: &Engine, args: &StatsArgs) -> Result<Vec<ContainerId>> {
    if args.latest {
        return Ok(vec![engine.newest()?]);
    }
    if !args.containers.is_empty() {
        return args.containers.iter().map(|name| engine.resolve(name)).collect();
    }
    let selection = Selection { all: args.all, last: None, filters: Filters::parse(&[], Timestamp::now())? };
    let found = select(engine.containers(false, &mut Vec::new())?, &selection)?;
    Ok(found.into_iter().map(|container| container.record.id).collect())
}

fn render(rows: &[Row], format: Option<&Format>, columns: &str, whole: bool) -> Result<String> {
    let line = |template: &Template, row: &Row| template.render(&fields(row, whole), Scope::default());
    let table = |template: &Template| -> Result<String> {
        let none = BTreeMap::new();
        let mut lines = vec![template.render(&headings(), Scope { headings: true, labels: Some(&none) })?];
        for row in rows {
            lines.push(line(template, row)?);
        }
        Ok(table::align(&lines))
    };
    match format {
        None => table(&Template::parse(columns)?),
        Some(Format::Table(template)) => table(template),
        Some(Format::Json) => Ok(rows.iter().map(|row| format!("{}\n", document(row, whole))).collect()),
        Some(Format::Template(template)) => {
            rows.iter().map(|row| line(template, row).map(|line| line + "\n")).collect()
        }
    }
}

fn headings() -> Value {
    json!({
        "Container": "CONTAINER", "Pod": "POD", "ID": "CONTAINER ID", "ContainerID": "CONTAINER ID", "Name": "NAME",
        "CPUPerc": "CPU %", "CPU": "CPU %", "MemUsage": "MEM USAGE / LIMIT", "MemPerc": "MEM %",
        "NetIO": "NET I/O", "BlockIO": "BLOCK I/O", "PIDs": "PIDS", "PIDS": "PIDS", "MemUsageBytes": "MEM USAGE / LIMIT",
        "Pressure": "PRESSURE (CPU / IO / MEM)", "AvgCPU": "AVG CPU %", "UpTime": "UP TIME", "Up": "UP TIME", "CPUNano": "CPU NANO",
    })
}

/// Docker's fields, all of them texts.
fn document(row: &Row, whole: bool) -> Value {
    let usage = &row.now;
    let id = if whole { usage.id.as_str() } else { usage.id.short() };
    // In hundredths of a percent: whole numbers lose nothing.
    let share = u128::from(usage.memory) * 10_000 / u128::from(usage.memory_limit.max(1));
    let pair = |(one, two): (u64, u64)| format!("{} / {}", decimal(one), decimal(two));
    json!({
        "BlockIO": pair(usage.block),
        "CPUPerc": format!("{:.2}%", row.cpus * 100.0),
        "Container": row.asked.as_deref().unwrap_or(usage.id.short()),
        "ID": id,
        "MemPerc": format!("{}.{:02}%", share / 100, share % 100),
        "MemUsage": format!("{} / {}", binary(usage.memory), binary(usage.memory_limit)),
        "Name": usage.name,
        "NetIO": pair(usage.network),
        "PIDs": usage.pids.to_string(),
    })
}

/// Podman's as well.
fn fields(row: &Row, whole: bool) -> Value {
    let mut fields = document(row, whole);
    let usage = &row.now;
    let average = if usage.up.is_zero() { 0.0 } else { usage.cpu.as_secs_f64() / usage.up.as_secs_f64() };
    let up = format!("{:.3}s", usage.up.as_secs_f64());
    let more = [
        ("ContainerID", fields["ID"].clone()),
        ("CPU", fields["CPUPerc"].clone()),
        ("Pod", json!(row.pod)),
        ("PIDS", fields["PIDs"].clone()),
        ("MemUsageBytes", json!(format!("{}B / {}B", usage.memory, usage.memory_limit))),
        ("MemLimit", json!(usage.memory_limit)),
        ("AvgCPU", json!(format!("{:.2}%", average * 100.0))),
        ("UpTime", json!(up)),
        ("Up", json!(up)),
        ("CPUNano", json!(usage.cpu.as_nanos() as u64)),
        ("NetInput", json!(usage.network.0)),
        ("NetOutput", json!(usage.network.1)),
        ("BlockInput", json!(usage.block.0)),
        ("BlockOutput", json!(usage.block.1)),
        ("Pressure", json!(usage.pressure.map_or_else(|| "--".to_owned(), pressure))),
    ];
    for (key, value) in more {
        fields[key] = value;
    }
    fields
}

fn pressure([cpu, io, memory]: [f64; 3]) -> String {
    format!("{cpu:.2}% / {io:.2}% / {memory:.2}%")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Row {
        let now = Usage {
            id: ContainerId::parse(&"ab".repeat(32)).expect("an id"),
            name: "web".into(),
            cpu: Duration::from_secs(3),
            up: Duration::from_secs(4),
            memory: 3 << 20,
            memory_limit: 12 << 20,
            network: (1500, 0),
            block: (0, 2_000_000),
            pids: 7,
            pressure: Some([1.5, 0.0, 0.25]),
        };
        Row { now, cpus: 1.2345, pod: String::new(), asked: Some("we".into()) }
    }

    #[test]
    fn the_table_is_dockers() {
        let text = render(&[sample()], None, COLUMNS, false).expect("valid");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].split("   ").filter(|word| !word.is_empty()).count(), 8, "{text}");
        assert!(lines[0].starts_with("CONTAINER ID   NAME"), "{text}");
        for part in
            ["abababababab ", "web", "123.45%", "3MiB / 12MiB", "25.00%", "1.5kB / 0B", "0B / 2MB", "7"]
        {
            assert!(lines[1].contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn templates_and_json_have_the_fields() {
        let format = Format::parse("{{.Name}} {{.CPUPerc}} {{.AvgCPU}} {{.PIDS}}").expect("valid");
        assert_eq!(
            render(&[sample()], Some(&format), COLUMNS, false).expect("valid"),
            "web 123.45% 75.00% 7\n"
        );
        let text = render(&[sample()], Some(&Format::Json), COLUMNS, false).expect("valid");
        let parsed: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(parsed["MemPerc"], "25.00%");
    }
}
