//! `ps --filter KEY=VALUE`: several values of one key are alternatives (of
//! `label` all must hold), several keys must all hold.

use super::pattern::Pattern;
use super::{Container, network_name};
use crate::engine::logs::moment;
use crate::error::{Error, Result};
use crate::types::container::{ContainerRecord, RecordedRoot};
use crate::types::mount::MountSource;
use crate::types::reference::Reference;
use crate::types::status::Status;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// How many filters one command takes.
const MAX_FILTERS: usize = 1000;

const STATES: &[&str] = &["created", "running", "restarting", "exited", "paused", "removing", "dead"];

/// Parsed filters; none accept everything.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    ids: Vec<String>,
    names: Vec<Pattern>,
    labels: Vec<(String, Option<String>)>,
    states: Vec<&'static str>,
    exit_codes: Vec<u8>,
    ancestors: Vec<String>,
    before: Vec<String>,
    since: Vec<String>,
    volumes: Vec<String>,
    networks: Vec<String>,
    healths: Vec<String>,
    until: Option<Timestamp>,
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
        if texts.len() > MAX_FILTERS {
            return Err(Error::invalid(format!("more than {MAX_FILTERS} filters")));
        }
        let mut filters = Self::default();
        for text in texts {
            filters.add(text, now).map_err(|error| error.context(format!("invalid filter {text:?}")))?;
        }
        Ok(filters)
    }

    fn add(&mut self, text: &str, now: Timestamp) -> Result<()> {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            Error::invalid("no value").hint("write it as KEY=VALUE, for example status=exited")
        })?;
        let owned = || value.to_owned();
        match key.trim() {
            "id" => self.ids.push(owned()),
            "name" => self.names.push(Pattern::parse(value)?),
            "label" => {
                let (name, wanted) =
                    value.split_once('=').map_or((value, None), |(n, v)| (n, Some(v.to_owned())));
                self.labels.push((name.to_owned(), wanted));
            }
            "status" => {
                let state = if value == "stopped" { "exited" } else { value };
                let known = STATES.iter().find(|known| **known == state);
                self.states.push(known.ok_or_else(|| {
                    Error::invalid("unknown status").hint(format!("it is one of {}", STATES.join(", ")))
                })?);
            }
            "exited" => self.exit_codes.push(
                value
                    .parse()
                    .map_err(|_| Error::invalid("not an exit code").hint("a number from 0 to 255"))?,
            ),
            "ancestor" => self.ancestors.push(owned()),
            "before" => self.before.push(owned()),
            "since" => self.since.push(owned()),
            "volume" => self.volumes.push(owned()),
            "network" => self.networks.push(owned()),
            "health" => match value {
                "none" | "starting" | "healthy" | "unhealthy" => self.healths.push(owned()),
                _ => return Err(Error::invalid("unknown health")),
            },
            "until" => self.until = Some(moment::parse(value, now, TimeZone::system)?),
            _ => {
                return Err(Error::invalid("unknown key").hint(
                    "known are id, name, label, status, exited, ancestor, before, since, volume, network, health, until",
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
            Status::Exited(exit) => Some(exit.code),
            Status::Created | Status::Running { .. } | Status::Restarting { .. } => None,
        };
        any(&self.ids, |id| record.id.as_str().starts_with(id))
            && any(&self.names, |name| name.matches(&record.name))
            && self.labels.iter().all(|(name, wanted)| {
                config
                    .labels
                    .get(name)
                    .is_some_and(|value| wanted.as_ref().is_none_or(|wanted| wanted == value))
            })
            && any(&self.states, |state| *state == container.state())
            && any(&self.exit_codes, |wanted| code == Some(*wanted))
            && any(&self.ancestors, |image| is_ancestor(record, image))
            && any(&self.volumes, |volume| has_volume(record, volume))
            && any(&self.networks, |network| network_name(&config.network) == *network)
            && any(&self.healths, |health| container.health() == health)
            && bounds.before.is_none_or(|moment| record.created < moment)
            && bounds.since.is_none_or(|moment| record.created > moment)
            && self.until.is_none_or(|moment| record.created < moment)
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
                MountSource::Anonymous | MountSource::Tmpfs { .. } => false,
            }
    })
}

#[cfg(test)]
mod tests {
    use super::super::samples::{container, exited, running, time};
    use super::*;
    use std::path::Path;

    fn sample() -> Container {
        let mut container = container("web-1", 3, exited(3, "2026-01-04T00:00:00Z"));
        container.record.config.labels.extend([("a".to_owned(), "1".to_owned())]);
        let mount = crate::types::mount::parse_volume("data:/srv", Path::new("/")).expect("valid");
        container.record.config.mounts.push(mount);
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
        ] {
            assert!(!accepts(no), "{no:?}");
        }
    }

    #[test]
    fn wrong_filters_are_errors() {
        for bad in
            ["", "name", "wat=1", "status=wat", "exited=x", "exited=256", "health=x", "until=x", "name=a[b"]
        {
            assert!(Filters::parse(&[bad.into()], time("2026-01-10T00:00:00Z")).is_err(), "{bad:?}");
        }
        let filters = Filters::parse(&["before=nobody".into()], time("2026-01-10T00:00:00Z")).expect("valid");
        assert!(filters.bounds(&[sample()]).is_err());
    }
}
