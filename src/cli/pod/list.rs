//! `coracle pod ps`.

use crate::cli::table::{self, Headings};
use crate::cli::template::Format;
use crate::cli::ui;
use crate::engine::Engine;
use crate::engine::list::{IdPattern, Pattern, network_names};
use crate::engine::logs::moment;
use crate::engine::pods::Pod;
use crate::error::{Error, Result};
use crate::types::filter::{self, LabelFilter};
use crate::types::time::human_age;
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

#[derive(Args, Debug, Default)]
pub(crate) struct ListArgs {
    /// Show the ids of their containers
    #[arg(long)]
    ctr_ids: bool,
    /// Show the names of their containers
    #[arg(long)]
    ctr_names: bool,
    /// Show the states of their containers
    #[arg(long)]
    ctr_status: bool,
    /// Show those for which KEY=VALUE holds: id, name, label, label!, status, network, until, ctr-ids, ctr-names, ctr-number, ctr-status
    #[arg(long, short = 'f', value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print with a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show the one that was made last
    #[arg(long, short = 'l')]
    latest: bool,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Print no headings
    #[arg(long, short = 'n')]
    noheading: bool,
    /// Show the control group and what is shared
    #[arg(long, alias = "namespace")]
    ns: bool,
    /// Print ids alone
    #[arg(long, short = 'q')]
    quiet: bool,
    /// Sort by created, id, name, number or status
    #[arg(long, value_name = "FIELD")]
    sort: Option<String>,
}

/// Lists pods.
///
/// # Errors
/// `Invalid` for wrong filters, orders and templates.
pub(crate) fn list(args: ListArgs) -> Result<u8> {
    let format = Format::of_list(args.format.as_deref())?;
    let now = Timestamp::now();
    let filters = Filters::parse(&args.filter, now)?;
    let order = args.sort.as_deref().map(Order::parse).transpose()?.unwrap_or(Order::Created);
    let mut notes = Vec::new();
    let mut pods = Engine::open()?.pods(&mut notes)?;
    ui::warnings(&notes);
    order.sort(&mut pods);
    if args.latest {
        let newest = pods.iter().map(|pod| pod.record.created).max();
        pods.retain(|pod| Some(pod.record.created) == newest);
    }
    pods.retain(|pod| filters.accept(pod));
    ui::write(args.render(&pods, format.as_ref(), now)?.as_bytes())?;
    Ok(0)
}

impl ListArgs {
    fn render(&self, pods: &[Pod], format: Option<&Format>, now: Timestamp) -> Result<String> {
        let rows: Vec<_> =
            pods.iter().map(|pod| (row(pod, self.no_trunc, now), &pod.record.labels)).collect();
        if self.quiet && format.is_none() {
            return Ok(rows
                .iter()
                .filter_map(|(row, _)| row["ID"].as_str())
                .map(|id| format!("{id}\n"))
                .collect());
        }
        table::render(
            &rows,
            format,
            &self.columns(),
            &Headings { texts: &headings(), left_out: self.noheading },
        )
    }

    /// Podman's.
    fn columns(&self) -> String {
        let mut columns = "{{.ID}}\t{{.Name}}\t{{.Status}}\t{{.Created}}\t{{.InfraID}}".to_owned();
        let asked = [
            (self.ns, "\t{{.Cgroup}}\t{{.Namespace}}"),
            (self.ctr_ids, "\t{{.ContainerIds}}"),
            (self.ctr_names, "\t{{.ContainerNames}}"),
            (self.ctr_status, "\t{{.ContainerStatuses}}"),
            (!(self.ctr_ids || self.ctr_names || self.ctr_status), "\t{{.NumberOfContainers}}"),
        ];
        asked.iter().filter(|(asked, _)| *asked).for_each(|(_, text)| columns.push_str(text));
        columns
    }
}

fn headings() -> Value {
    json!({
        "ID": "POD ID", "Id": "POD ID", "Name": "NAME", "Status": "STATUS", "Created": "CREATED",
        "InfraID": "INFRA ID", "InfraId": "INFRA ID", "Cgroup": "CGROUP", "Namespace": "NAMESPACES",
        "ContainerIds": "IDS", "ContainerNames": "NAMES", "ContainerStatuses": "STATUS", "Networks": "NETWORKS",
        "NumberOfContainers": "# OF CONTAINERS", "Labels": "LABELS", "Restarts": "RESTARTS",
    })
}

/// What a template sees of one pod.
fn row(pod: &Pod, whole: bool, now: Timestamp) -> Value {
    let record = &pod.record;
    let cut = |id: &crate::types::id::ContainerId| if whole { id.as_str() } else { id.short() }.to_owned();
    let join = |words: Vec<String>| words.join(",");
    let labels: Vec<String> = record.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let infra = record.infra.as_ref().map(cut).unwrap_or_default();
    let restarts: u32 = pod.containers.iter().map(|one| one.restart_count).sum();
    json!({
        "ID": cut(&record.id), "Id": cut(&record.id), "Name": record.name, "Status": pod.state(),
        "Created": human_age(record.created, now), "CreatedAt": record.created.to_string(),
        "InfraID": infra, "InfraId": infra,
        "Cgroup": record.cgroup_parent.clone().unwrap_or_default(),
        "Namespace": join(record.shares.iter().map(|share| share.word().to_owned()).collect()),
        "ContainerIds": join(pod.containers.iter().map(|one| cut(&one.record.id)).collect()),
        "ContainerNames": join(pod.containers.iter().map(|one| one.record.name.clone()).collect()),
        "ContainerStatuses": join(pod.containers.iter().map(|one| one.state().to_owned()).collect()),
        "NumberOfContainers": pod.containers.len().to_string(),
        "Networks": join(networks(pod)), "Labels": join(labels), "Restarts": restarts.to_string(),
    })
}

fn networks(pod: &Pod) -> Vec<String> {
    pod.infra().map(|infra| network_names(&infra.record.config)).unwrap_or_default()
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Created,
    Id,
    Name,
    Number,
    Status,
}

impl Order {
    fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "created" => Self::Created,
            "id" => Self::Id,
            "name" => Self::Name,
            "number" => Self::Number,
            "status" => Self::Status,
            _ => {
                return Err(Error::invalid(format!("invalid value {text:?} of --sort"))
                    .hint("it is one of created, id, name, number and status"));
            }
        })
    }

    /// Of equals the newest comes first.
    fn sort(self, pods: &mut [Pod]) {
        pods.reverse();
        pods.sort_by(|one, other| match self {
            Self::Created => std::cmp::Ordering::Equal,
            Self::Id => one.record.id.cmp(&other.record.id),
            Self::Name => one.record.name.cmp(&other.record.name),
            Self::Number => one.containers.len().cmp(&other.containers.len()),
            Self::Status => one.state().cmp(other.state()),
        });
    }
}

/// Podman's filters: values of one key are alternatives (of `label` all must
/// hold), several keys must all hold.
#[derive(Debug, Default)]
struct Filters {
    labels: Vec<LabelFilter>,
    names: Vec<Pattern>,
    ids: Vec<IdPattern>,
    states: Vec<String>,
    networks: Vec<String>,
    until: Option<Timestamp>,
    container_ids: Vec<IdPattern>,
    container_names: Vec<String>,
    container_numbers: Vec<usize>,
    container_states: Vec<String>,
}

const STATES: [&str; 7] = ["created", "running", "degraded", "paused", "exited", "stopped", "dead"];

impl Filters {
    fn parse(texts: &[String], now: Timestamp) -> Result<Self> {
        let mut filters = Self::default();
        for (key, value) in filter::split_all(texts)? {
            let bad = || filter::bad_value(&key, value);
            let id = |value| IdPattern::parse(value).map_err(|error| error.context(bad().to_string()));
            let state = |known: &[&str]| {
                let word = value.to_ascii_lowercase();
                let hint = format!("it is one of {}", known.join(", "));
                if known.contains(&word.as_str()) { Ok(word) } else { Err(bad().hint(hint)) }
            };
            match key.as_str() {
                "id" => filters.ids.push(id(value)?),
                "name" => filters
                    .names
                    .push(Pattern::parse(value).map_err(|error| error.context(bad().to_string()))?),
                "label" => filters.labels.push(LabelFilter::new(value, true)),
                "label!" => filters.labels.push(LabelFilter::new(value, false)),
                "status" => filters.states.push(state(&STATES)?),
                "network" => filters.networks.push(value.to_owned()),
                "until" => filters.until = Some(moment::parse(value, now, TimeZone::system)?),
                "ctr-ids" => filters.container_ids.push(id(value)?),
                "ctr-names" => filters.container_names.push(value.to_owned()),
                "ctr-number" => {
                    filters.container_numbers.push(value.parse().map_err(|_| bad().hint("a number"))?);
                }
                "ctr-status" => filters.container_states.push(state(&[
                    "created",
                    "running",
                    "paused",
                    "restarting",
                    "exited",
                ])?),
                _ => {
                    return Err(filter::unknown(
                        &key,
                        "id, name, label, label!, status, network, until, ctr-ids, ctr-names, ctr-number, ctr-status",
                    ));
                }
            }
        }
        Ok(filters)
    }

    fn accept(&self, pod: &Pod) -> bool {
        let record = &pod.record;
        let networks = networks(pod);
        self.labels.iter().all(|label| label.holds(&record.labels))
            && any(&self.names, |name| name.matches(&record.name))
            && any(&self.ids, |id| id.matches(record.id.as_str()))
            && any(&self.states, |state| pod.state().eq_ignore_ascii_case(state))
            && any(&self.networks, |network| networks.contains(network))
            && self.until.is_none_or(|moment| record.created < moment)
            && any(&self.container_ids, |id| {
                pod.containers.iter().any(|one| id.matches(one.record.id.as_str()))
            })
            && any(&self.container_names, |name| pod.containers.iter().any(|one| one.record.name == *name))
            && any(&self.container_numbers, |number| pod.containers.len() == *number)
            && any(&self.container_states, |state| pod.containers.iter().any(|one| one.state() == state))
    }
}

fn any<T>(wanted: &[T], accept: impl Fn(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(accept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::list::samples::{container, running};
    use crate::engine::pods::sample;

    #[test]
    fn the_table_is_podman_s() {
        let mut infra = container("w-infra", 1, running("2026-01-03T12:00:00Z"));
        infra.record.config.infra = true;
        let pod = sample("w", vec![infra, container("web", 2, running("2026-01-03T12:00:00Z"))]);
        let now = "2026-01-03T12:02:00Z".parse().expect("a time");
        let shown = |args: ListArgs| args.render(std::slice::from_ref(&pod), None, now).expect("valid");
        let text = shown(ListArgs::default());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("POD ID         NAME      STATUS    CREATED"), "{text}");
        assert!(lines[0].ends_with("INFRA ID       # OF CONTAINERS"), "{text}");
        assert!(lines[1].contains("Running") && lines[1].ends_with("010101010101   2"), "{text}");
        let text = shown(ListArgs { ctr_names: true, noheading: true, ..ListArgs::default() });
        assert!(text.ends_with("w-infra,web\n"), "{text}");
        assert_eq!(shown(ListArgs { quiet: true, ..ListArgs::default() }), "090909090909\n");
    }

    #[test]
    fn filters_choose() {
        let pod = sample("web", vec![container("a", 1, running("2026-01-03T12:00:00Z"))]);
        let now = "2026-01-03T12:02:00Z".parse().expect("a time");
        for (texts, holds) in [
            (&["name=web"][..], true),
            (&["name=^we"], true),
            (&["name=db"], false),
            (&["id=0909"], true),
            (&["id=^09.*9$"], true),
            (&["ctr-ids=^02.*"], false),
            (&["status=Running"], true),
            (&["status=exited"], false),
            (&["ctr-number=1"], true),
            (&["ctr-names=a", "ctr-status=running"], true),
            (&["ctr-ids=0101"], true),
            (&["ctr-ids=0202"], false),
            (&["label=a"], false),
            (&["label!=a"], true),
        ] {
            let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
            assert_eq!(Filters::parse(&texts, now).expect("valid").accept(&pod), holds, "{texts:?}");
        }
        for bad in ["id=[", "wat=1", "status=up", "ctr-number=x", "name", "ctr-status=degraded"] {
            assert!(Filters::parse(&[bad.to_owned()], now).is_err(), "{bad}");
        }
        assert!(Order::parse("age").is_err());
    }
}
