//! `ps --filter KEY=VALUE`: several values of one key are alternatives (of
//! `label` all must hold), several keys must all hold.

use super::pattern::{IdPattern, Pattern};
use super::{Container, network_names};
use crate::engine::logs::moment;
use crate::error::{Error, Result};
use crate::types::container::{ContainerRecord, RecordedRoot};
use crate::types::filter::{self, LabelFilter};
use crate::types::mount::MountSource;
use crate::types::port::Port;
use crate::types::reference::Reference;
use crate::types::status::{RestartPolicy, Status};
use jiff::Timestamp;
use jiff::tz::TimeZone;

const STATES: &[&str] = &["created", "running", "restarting", "exited", "paused", "removing", "dead"];

/// Parsed filters; none accept everything.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    ids: Vec<IdPattern>,
    names: Vec<Pattern>,
    labels: Vec<LabelFilter>,
    states: Vec<&'static str>,
    exit_codes: Vec<i64>,
    ancestors: Vec<String>,
    before: Vec<String>,
    since: Vec<String>,
    volumes: Vec<String>,
    networks: Vec<String>,
    healths: Vec<String>,
    until: Option<Timestamp>,
    exposed: Vec<Ports>,
    published: Vec<Ports>,
    restarts: Vec<String>,
    pods: Vec<String>,
    /// Something was asked for that no container has.
    nothing: bool,
}

/// `80`, `80/tcp`, `8000-8010/udp`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ports {
    first: u16,
    last: u16,
    protocol: String,
}

impl Ports {
    fn parse(text: &str) -> Option<Self> {
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        let known = matches!(protocol, "tcp" | "udp" | "sctp") && first <= last;
        known.then(|| Self { first, last, protocol: protocol.to_owned() })
    }

    fn of(port: Port) -> Self {
        Self { first: port.number, last: port.number, protocol: port.protocol.to_string() }
    }

    fn meets(&self, other: &Self) -> bool {
        self.protocol == other.protocol && self.first <= other.last && other.first <= self.last
    }
}

/// The moments that `before=` and `since=` name.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

impl Filters {
    /// # Errors
    /// `Invalid` for an unknown key and a value that the key cannot have.
    pub(crate) fn parse(texts: &[String], now: Timestamp) -> Result<Self> {
        let mut filters = Self::default();
        for (key, value) in filter::split_all(texts)? {
            filters.add(&key, value, now)?;
        }
        Ok(filters)
    }

    fn add(&mut self, key: &str, value: &str, now: Timestamp) -> Result<()> {
        let bad = || filter::bad_value(key, value);
        let owned = || value.to_owned();
        match key {
            "id" => {
                self.ids.push(IdPattern::parse(value).map_err(|error| error.context(bad().to_string()))?);
            }
            "name" => {
                self.names.push(Pattern::parse(value).map_err(|error| error.context(bad().to_string()))?);
            }
            "label" => self.labels.push(LabelFilter::new(value, true)),
            "label!" => self.labels.push(LabelFilter::new(value, false)),
            "status" => {
                let state = match value {
                    "stopped" => "exited",
                    // Podman's, in which no container is here.
                    "unknown" | "initialized" | "stopping" => {
                        self.states.push("unknown");
                        return Ok(());
                    }
                    other => other,
                };
                let known = STATES.iter().find(|known| **known == state);
                let hint = || bad().hint(format!("it is one of {}", STATES.join(", ")));
                self.states.push(known.ok_or_else(hint)?);
            }
            "exited" => {
                self.exit_codes.push(value.parse().map_err(|_| bad().hint("it is an exit code"))?);
            }
            "ancestor" => self.ancestors.push(owned()),
            "before" => self.before.push(owned()),
            "since" => self.since.push(owned()),
            "volume" => self.volumes.push(owned()),
            "network" => self.networks.push(owned()),
            "health" => match value {
                "none" | "starting" | "healthy" | "unhealthy" => self.healths.push(owned()),
                _ => return Err(bad().hint("it is one of starting, healthy, unhealthy and none")),
            },
            "until" => self.until = Some(moment::parse(value, now, TimeZone::system)?),
            "expose" => self.exposed.push(Ports::parse(value).ok_or_else(bad)?),
            "publish" => self.published.push(Ports::parse(value).ok_or_else(bad)?),
            "is-task" => self.nothing |= filter::boolean(key, value)?,
            "restart-policy" => match value {
                "no" | "on-failure" | "always" | "unless-stopped" => self.restarts.push(owned()),
                "none" => self.restarts.push("no".to_owned()),
                _ => return Err(bad().hint("it is one of no, on-failure, always and unless-stopped")),
            },
            "pod" => self.pods.push(owned()),
            _ => {
                return Err(filter::unknown(
                    key,
                    "id, name, label, label!, status, exited, ancestor, before, since, volume, network, health, \
                     until, expose, publish, is-task, restart-policy, pod",
                ));
            }
        }
        Ok(())
    }

    /// Whether a filter names states, which then decides instead of `-a`.
    pub(crate) fn name_states(&self) -> bool {
        !self.states.is_empty() || !self.exit_codes.is_empty()
    }

    /// Looks up what `before=` and `since=` name.
    ///
    /// # Errors
    /// `NotFound` where one names no container.
    pub(crate) fn bounds(&self, containers: &[Container]) -> Result<Bounds> {
        let moment = |wanted: &String| -> Result<Timestamp> {
            let named = |container: &&Container| {
                let record = &container.record;
                record.name == *wanted || !wanted.is_empty() && record.id.as_str().starts_with(wanted)
            };
            let found = containers.iter().find(named).map(|container| container.record.created);
            found.ok_or_else(|| Error::not_found(format!("no such container: {wanted}")))
        };
        let moments = |wanted: &[String]| wanted.iter().map(moment).collect::<Result<Vec<_>>>();
        Ok(Bounds {
            before: moments(&self.before)?.into_iter().max(),
            since: moments(&self.since)?.into_iter().min(),
        })
    }

    pub(crate) fn accept(&self, container: &Container, bounds: &Bounds) -> bool {
        let record = &container.record;
        let config = &record.config;
        let code = match &container.status {
            Status::Exited(exit) => Some(i64::from(exit.code)),
            Status::Created | Status::Running { .. } | Status::Restarting { .. } => None,
        };
        !self.nothing
            && any(&self.ids, |id| id.matches(record.id.as_str()))
            && any(&self.names, |name| name.matches(&record.name))
            && self.labels.iter().all(|label| label.holds(&config.labels))
            && any(&self.states, |state| *state == container.state())
            && any(&self.exit_codes, |wanted| code == Some(*wanted))
            && any(&self.ancestors, |image| is_ancestor(record, image))
            && any(&self.volumes, |volume| has_volume(record, volume))
            && any(&self.networks, |network| network_names(config).contains(network))
            && any(&self.healths, |health| container.health() == health)
            && bounds.before.is_none_or(|moment| record.created < moment)
            && bounds.since.is_none_or(|moment| record.created > moment)
            && self.until.is_none_or(|moment| record.created < moment)
            && any(&self.pods, |wanted| is_in_pod(record, wanted))
            && any(&self.restarts, |name| restart_name(config.restart) == name)
            && self.have_port(container)
    }

    /// `expose=` is about ports of the container, `publish=` about those of the host:
    /// one of either is enough, as in docker.
    fn have_port(&self, container: &Container) -> bool {
        if self.exposed.is_empty() && self.published.is_empty() {
            return true;
        }
        let inner = container.ports.iter().map(|binding| Ports::of(binding.port));
        let exposed = container.record.config.expose.iter().filter_map(|text| Ports::parse(text));
        inner.chain(exposed).any(|has| self.exposed.iter().any(|wanted| has.meets(wanted)))
            || container.ports.iter().any(|binding| {
                let has = Ports::of(Port { number: binding.address.port(), ..binding.port });
                self.published.iter().any(|wanted| has.meets(wanted))
            })
    }
}

fn is_in_pod(record: &ContainerRecord, wanted: &str) -> bool {
    let pod = record.config.pod.as_ref();
    pod.is_some_and(|pod| pod.name == wanted || !wanted.is_empty() && pod.id.as_str().starts_with(wanted))
}

fn restart_name(policy: RestartPolicy) -> &'static str {
    match policy {
        RestartPolicy::No => "no",
        RestartPolicy::OnFailure { .. } => "on-failure",
        RestartPolicy::Always => "always",
        RestartPolicy::UnlessStopped => "unless-stopped",
    }
}

fn any<T>(wanted: &[T], accept: impl Fn(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(accept)
}

/// `wanted` is a reference, or an id of at least four digits.
fn is_ancestor(record: &ContainerRecord, wanted: &str) -> bool {
    let RecordedRoot::Image { reference, id, .. } = &record.root else { return false };
    let hex = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    if hex.len() >= 4 && id.hex().starts_with(hex) {
        return true;
    }
    match (Reference::parse(wanted), Reference::parse(reference)) {
        (Ok(wanted), Ok(reference)) => wanted.familiar() == reference.familiar(),
        _ => wanted == reference,
    }
}

/// A volume's name, a source on the host, or a place in the container.
fn has_volume(record: &ContainerRecord, wanted: &str) -> bool {
    record.config.mounts.iter().any(|mount| {
        mount.target == wanted
            || match &mount.source {
                MountSource::Volume { name } => name == wanted,
                MountSource::Bind { path, .. } | MountSource::Overlay { path } => {
                    path.to_str() == Some(wanted)
                }
                MountSource::Anonymous | MountSource::Tmpfs { .. } | MountSource::Image { .. } => false,
            }
    })
}

#[cfg(test)]
mod tests {
    use super::super::samples::{container, exited, running, time};
    use super::*;
    use crate::types::id::ContainerId;
    use crate::types::pod::PodRef;
    use crate::types::port::{Binding, Protocol};
    use std::path::Path;

    fn sample() -> Container {
        let mut container = container("web-1", 3, exited(3, "2026-01-04T00:00:00Z"));
        container.record.config.labels.extend([("a".to_owned(), "1".to_owned())]);
        let mount = crate::types::mount::parse_volume("data:/srv", Path::new("/")).expect("valid");
        container.record.config.mounts.push(mount);
        container.record.config.expose = vec!["80/tcp".into(), "9000-9010/udp".into()];
        let pod = PodRef { id: ContainerId::from_bytes([7; 32]), name: "shop".into() };
        container.record.config.pod = Some(pod);
        container
    }

    fn accepts(texts: &[&str]) -> bool {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let filters = Filters::parse(&texts, time("2026-01-10T00:00:00Z")).expect("valid");
        let others =
            [container("old", 1, Status::Created), container("new", 5, running("2026-01-05T12:00:00Z"))];
        let bounds = filters.bounds(&others).expect("found");
        filters.accept(&sample(), &bounds)
    }

    #[test]
    fn filters_accept_what_they_say() {
        for yes in [
            &[][..],
            &["name=web"],
            &["name=^web-1$"],
            &["name=^/web-1$"],
            &["name=w.*1"],
            &["id=0303"],
            &["label=a"],
            &["label=a=1"],
            &["status=exited"],
            &["status=running", "status=stopped"],
            &["exited=3"],
            &["ancestor=busybox"],
            &["ancestor=busybox:latest"],
            &["ancestor=docker.io/library/busybox"],
            &["before=new"],
            &["since=old", "before=new"],
            &["since=0101"],
            &["volume=data"],
            &["volume=/srv"],
            &["network=default"],
            &["health=none"],
            &["until=24h"],
            &["name=x", "name=web"],
            &["name=^(db|web)-[0-9]$"],
            &["label!=b"],
            &["label!=a=2"],
            &["expose=80"],
            &["expose=9005/udp"],
            &["expose=70-90/tcp"],
            &["is-task=false"],
            &["pod=shop"],
            &["pod=0707"],
            &["restart-policy=no"],
            &["restart-policy=none"],
        ] {
            assert!(accepts(yes), "{yes:?}");
        }
        for no in [
            &["name=^web$"][..],
            &["name=db"],
            &["id=04"],
            &["label=b"],
            &["label=a=2"],
            &["label=a", "label=b"],
            &["status=running"],
            &["status=unknown"],
            &["status=stopping", "status=initialized"],
            &["exited=0"],
            &["ancestor=alpine"],
            &["ancestor=busybox:1"],
            &["before=old"],
            &["since=new"],
            &["volume=other"],
            &["network=host"],
            &["health=healthy"],
            &["until=2026-01-02T00:00:00Z"],
            &["name=web", "status=created"],
            &["label!=a"],
            &["expose=9005"],
            &["expose=81"],
            &["publish=80"],
            &["is-task=true"],
            &["restart-policy=always"],
            &["pod=x"],
            &["exited=256"],
        ] {
            assert!(!accepts(no), "{no:?}");
        }
    }

    #[test]
    fn published_ports_are_those_of_the_host() {
        let mut web = container("web", 3, running("2026-01-03T12:00:00Z"));
        let port = Port { number: 80, protocol: Protocol::Tcp };
        web.ports.push(Binding { port, address: "0.0.0.0:18401".parse().expect("an address") });
        let accepts = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            let filters = Filters::parse(&texts, time("2026-01-10T00:00:00Z")).expect("valid");
            filters.accept(&web, &Bounds::default())
        };
        for yes in [
            &["publish=18401"][..],
            &["publish=18400-18402/tcp"],
            &["expose=80"],
            &["publish=1", "expose=80"],
        ] {
            assert!(accepts(yes), "{yes:?}");
        }
        for no in [&["publish=80"][..], &["publish=80-81"], &["publish=18401/udp"], &["expose=18401"]] {
            assert!(!accepts(no), "{no:?}");
        }
    }

    #[test]
    fn wrong_filters_are_errors() {
        for bad in [
            "",
            "name",
            "wat=1",
            "status=wat",
            "exited=x",
            "health=x",
            "until=x",
            "name=a[b",
            "expose=x",
            "publish=0/x",
            "is-task=2",
            "restart-policy=x",
        ] {
            assert!(Filters::parse(&[bad.into()], time("2026-01-10T00:00:00Z")).is_err(), "{bad:?}");
        }
        let words = |text: &str| {
            Filters::parse(&[text.into()], time("2026-01-10T00:00:00Z")).expect_err(text).to_string()
        };
        assert_eq!(words("wat=1"), "invalid filter 'wat'");
        assert_eq!(words("status=wat"), "invalid filter 'status=wat'");
        let filters = Filters::parse(&["before=nobody".into()], time("2026-01-10T00:00:00Z")).expect("valid");
        assert!(filters.bounds(&[sample()]).is_err());
    }
}
