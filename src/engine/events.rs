//! `events`: what has happened, and what happens.

use super::Engine;
use crate::error::{BestEffort, Error, Result};
use crate::state::events::{self, Log, Wait};
use crate::types::event::{Event, EventKind};
use crate::types::id::ContainerId;
use jiff::Timestamp;
use rustix::event::Timespec;
use std::os::fd::BorrowedFd;

/// How many filters one command takes.
const MAX_FILTERS: usize = 1000;

/// Docker's keys, and podman's `pod`.
const KEYS: [&str; 15] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "pod",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// `--filter KEY=VALUE`: values of one key are alternatives (of `label` all
/// must hold), several keys must all hold.
#[derive(Debug, Default)]
pub(crate) struct EventFilters(Vec<(&'static str, Vec<String>)>);

impl EventFilters {
    /// # Errors
    /// `Invalid` for an unknown key, in docker's words.
    pub(crate) fn parse(texts: &[String]) -> Result<Self> {
        if texts.len() > MAX_FILTERS {
            return Err(Error::invalid(format!("more than {MAX_FILTERS} filters")));
        }
        let mut filters = Self::default();
        for text in texts {
            let (key, value) = text.split_once('=').ok_or_else(|| {
                Error::invalid(format!("invalid filter {text:?}: bad format of filter (expected name=value)"))
            })?;
            // Podman's other name of it.
            let wanted = match key.trim().to_lowercase() {
                key if key == "status" => "event".to_owned(),
                key => key,
            };
            let known = KEYS.into_iter().find(|known| *known == wanted).ok_or_else(|| {
                Error::invalid(format!("invalid filter '{key}'"))
                    .hint(format!("known keys are {}", KEYS.join(", ")))
            })?;
            let value = value.trim().to_owned();
            match filters.0.iter_mut().find(|(key, _)| *key == known) {
                Some((_, values)) => values.push(value),
                None => filters.0.push((known, vec![value])),
            }
        }
        Ok(filters)
    }

    fn admit(&self, event: &Event) -> bool {
        self.0.iter().all(|(key, values)| match *key {
            "label" => values.iter().all(|value| has_label(event, value)),
            key => values.iter().any(|value| holds(key, value, event)),
        })
    }
}

fn holds(key: &str, value: &str, event: &Event) -> bool {
    let name = event.attributes.get("name").map(String::as_str);
    // Docker takes the beginning of an id for it.
    let object = |kind| {
        event.kind == kind && (name == Some(value) || !value.is_empty() && event.id.starts_with(value))
    };
    match key {
        "container" => object(EventKind::Container),
        "volume" => object(EventKind::Volume),
        "network" => object(EventKind::Network),
        "secret" => object(EventKind::Secret),
        "pod" => object(EventKind::Pod) || is_in_pod(event, value),
        "image" => {
            let name = if event.kind == EventKind::Image { name } else { attribute(event, "image") };
            let id = event.id.strip_prefix("sha256:").unwrap_or(&event.id);
            let wanted = value.strip_prefix("sha256:").unwrap_or(value);
            same_image(name.unwrap_or_default(), value)
                || event.kind == EventKind::Image
                    && (same_image(&event.id, value) || wanted.len() >= 12 && id.starts_with(wanted))
        }
        "type" => kind_name(event.kind) == value,
        "event" => is_action(event, value),
        "scope" => value == "local",
        // Nothing here happens to those.
        _ => false,
    }
}

/// As podman, what happens to its containers too.
fn is_in_pod(event: &Event, wanted: &str) -> bool {
    let own = |key| attribute(event, key);
    event.kind == EventKind::Container
        && !wanted.is_empty()
        && (own("podName") == Some(wanted) || own("podId").is_some_and(|id| id.starts_with(wanted)))
}

fn attribute<'a>(event: &'a Event, key: &str) -> Option<&'a str> {
    event.attributes.get(key).map(String::as_str)
}

/// With and without its tag, as docker compares, and `latest` left out.
fn same_image(name: &str, wanted: &str) -> bool {
    let latest = |name: &str| name.strip_suffix(":latest").unwrap_or(name).to_owned();
    let stripped = match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    };
    !wanted.is_empty() && (latest(name) == latest(wanted) || stripped == wanted)
}

/// Docker's word or podman's; `exec_create` stands for `exec_create: ls`.
fn is_action(event: &Event, wanted: &str) -> bool {
    let action = event.action.as_str();
    let word = action.split_once(':').map_or(action, |(word, _)| word);
    let other = match (event.kind, wanted) {
        (EventKind::Container, "died") => "die",
        (EventKind::Container, "exec") => "exec_start",
        (EventKind::Container, "exec_died") => "exec_die",
        (EventKind::Image, "remove") => "delete",
        (EventKind::Image, "loadfromarchive") => "load",
        (_, "remove") => "destroy",
        _ => wanted,
    };
    action == other || word == other
}

fn has_label(event: &Event, wanted: &str) -> bool {
    let (key, value) = wanted.split_once('=').map_or((wanted, None), |(key, value)| (key, Some(value)));
    event.attributes.get(key).is_some_and(|own| value.is_none_or(|value| own == value))
}

/// Docker's word for what an event is about.
pub(crate) fn kind_name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Container => "container",
        EventKind::Image => "image",
        EventKind::Volume => "volume",
        EventKind::Network => "network",
        EventKind::Secret => "secret",
        EventKind::Pod => "pod",
    }
}

/// Which events are wanted.
#[derive(Debug, Default)]
pub(crate) struct EventOptions {
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    /// Those to come as well, until `until` or without end.
    pub(crate) stream: bool,
    pub(crate) filters: EventFilters,
}

impl Engine {
    /// Gives the events that are wanted to `each`, in the order of the log.
    /// `out` is where they are printed: when its reader goes, this ends.
    ///
    /// # Errors
    /// Those of `each`; `Failed` where the log cannot be read.
    pub(crate) fn events(
        &self,
        options: &EventOptions,
        out: BorrowedFd<'_>,
        each: &mut dyn FnMut(&Event) -> Result<()>,
    ) -> Result<()> {
        let mut log = Log::open(&self.dirs)?;
        // Docker: history is shown where a time is named, else the present alone.
        if options.stream && options.since.is_none() && options.until.is_none() {
            log.skip()?;
        }
        let wanted = |event: &Event| {
            options.since.is_none_or(|since| event.time >= since)
                && options.until.is_none_or(|until| event.time <= until)
                && options.filters.admit(event)
        };
        loop {
            log.read(&mut |event| if wanted(&event) { each(&event) } else { Ok(()) })?;
            let left = options.until.map(|until| until.duration_since(Timestamp::now()));
            if !options.stream || left.is_some_and(|left| !left.is_positive()) {
                return Ok(());
            }
            let timeout =
                left.map(|left| Timespec { tv_sec: left.as_secs(), tv_nsec: left.subsec_nanos().into() });
            match log.wait(out, timeout)? {
                Wait::Changed | Wait::Over => {}
                Wait::ReaderGone => return Ok(()),
            }
        }
    }

    /// Notes in the event log what was done to a container.
    pub(crate) fn note(&self, id: &ContainerId, action: &str) {
        if let Ok(record) = self.store.record(id) {
            events::append(&self.dirs, &events::of_container(&record, action)).or_ignore();
        }
    }
}

/// Notes what was done to an image. `id` is the image's, or the name that was asked for.
pub(crate) fn note_image(dirs: &crate::dirs::Dirs, action: &str, id: &str, name: Option<String>) {
    let event = Event::now(EventKind::Image, action, id);
    let event = match name {
        Some(name) => event.with("name", name),
        None => event,
    };
    events::append(dirs, &event).or_ignore();
}

/// Notes what was done to a volume.
pub(crate) fn note_volume(dirs: &crate::dirs::Dirs, action: &str, name: &str) {
    events::append(dirs, &Event::now(EventKind::Volume, action, name).with("driver", "local")).or_ignore();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(filters: &[&str], event: &Event) -> bool {
        let filters: Vec<String> = filters.iter().map(|text| (*text).to_owned()).collect();
        EventFilters::parse(&filters).expect("valid").admit(event)
    }

    #[test]
    fn filters_are_dockers() {
        let event = Event::now(EventKind::Container, "exec_create: ls", "0123456789ab")
            .with("name", "web")
            .with("image", "localhost:5000/busybox:1")
            .with("a", "1");
        for (filters, expected) in [
            (&[][..], true),
            (&["container=web"], true),
            (&["container=0123"], true),
            (&["container=we"], false),
            (&["container=db", "container=web"], true),
            (&["container=web", "event=die"], false),
            (&["event=exec_create"], true),
            (&["event=exec_create: ls"], true),
            (&["event=exec"], false),
            (&["image=localhost:5000/busybox:1"], true),
            (&["image=localhost:5000/busybox"], true),
            (&["image=busybox"], false),
            (&["type=container"], true),
            (&["type=image"], false),
            (&["type=image", "type=container"], true),
            (&["label=a"], true),
            (&["label=a=1"], true),
            (&["label=a=1", "label=b"], false),
            (&["volume=web"], false),
            (&["daemon=x"], false),
            (&["scope=local"], true),
        ] {
            assert_eq!(admitted(filters, &event), expected, "{filters:?}");
        }
        let died = Event::now(EventKind::Container, "die", "0");
        assert!(admitted(&["event=died"], &died) && admitted(&["event=die"], &died));
        let pulled = Event::now(EventKind::Image, "pull", "busybox:latest").with("name", "busybox");
        assert!(admitted(&["image=busybox"], &pulled) && admitted(&["image=busybox:latest"], &pulled));
        let gone = Event::now(EventKind::Image, "delete", format!("sha256:{}", "a".repeat(64)));
        assert!(admitted(&["event=remove"], &gone) && admitted(&["image=aaaaaaaaaaaa"], &gone));
    }

    #[test]
    fn wrong_filters_are_named() {
        let error = |text: &str| EventFilters::parse(&[text.to_owned()]).expect_err(text).to_string();
        assert_eq!(error("nope=1"), "invalid filter 'nope'");
        assert!(error("container").contains("expected name=value"));
    }
}
