//! What the monitor notes in the event log: docker's events of a run.

use super::life::Container;
use super::messages::StartOrder;
use crate::error::BestEffort;
use crate::network::uplink::News;
use crate::state::events;
use crate::types::container::ContainerRecord;
use crate::types::event::{Event, EventKind};
use crate::types::mount::MountSource;
use crate::types::network::Network;
use crate::types::status::Exit;

/// The command runs: it is on its networks, and its volumes are mounted. One write.
pub(super) fn started(container: &Container, order: &StartOrder) {
    let mut all = Vec::new();
    if order.attached && container.control.restarts() == 0 {
        all.push(events::of_container(&container.record, "attach"));
    }
    all.extend(networks(container, &container.networks.networks(), "connect"));
    all.extend(volumes(&container.record, "mount"));
    all.push(events::of_container(&container.record, "start"));
    events::append_all(&container.dirs, &all).or_ignore();
}

/// A run is over.
pub(super) fn died(container: &Container, exit: &Exit) {
    let record = &container.present_record();
    let mut all = Vec::new();
    if exit.oom_killed {
        all.push(events::of_container(record, "oom"));
    }
    let seconds = exit.finished_at.duration_since(exit.started_at).as_secs().max(0);
    all.push(
        events::of_container(record, "die")
            .with("exitCode", exit.code.to_string())
            .with("execDuration", seconds.to_string()),
    );
    all.extend(networks(container, &container.networks.take_left(), "disconnect"));
    all.extend(volumes(record, "unmount"));
    events::append_all(&container.dirs, &all).or_ignore();
}

/// A signal was sent to the first process.
pub(super) fn signalled(container: &Container, signal: i32) {
    let event = events::of_container(&container.present_record(), "kill");
    say(container, &event.with("signal", signal.to_string()));
}

/// It ended because it was asked to.
pub(super) fn stopped(container: &Container) {
    say(container, &events::of_container(&container.present_record(), "stop"));
}

/// The way out of its network has died, or is back.
pub(super) fn uplink(container: &Container, name: &str, news: &News) {
    let event = events::of_container(&container.present_record(), "uplink").with("uplink", name);
    let event = match news {
        News::Died(error) => event.with("state", "died").with("error", error.to_string()),
        News::Restarted => event.with("state", "restarted"),
    };
    say(container, &event);
}

/// What became of the server of its published ports.
pub(super) fn ports(container: &Container, state: &str, words: &str) {
    let event = events::of_container(&container.present_record(), "ports").with("state", state);
    say(container, &if words.is_empty() { event } else { event.with("error", words) });
}

pub(super) fn say(container: &Container, event: &Event) {
    events::append(&container.dirs, event).or_ignore();
}

fn networks(container: &Container, networks: &[Network], action: &str) -> Vec<Event> {
    networks.iter().map(|network| events::of_network(network, action, Some(&container.record.id))).collect()
}

fn volumes(record: &ContainerRecord, action: &str) -> Vec<Event> {
    let event = |(name, target, read_only): (&String, &String, bool)| {
        let event = Event::now(EventKind::Volume, action, name)
            .with("container", record.id.as_str())
            .with("driver", "local");
        if action == "unmount" {
            return event;
        }
        event
            .with("destination", target)
            .with("read/write", if read_only { "false" } else { "true" })
            .with("propagation", "")
    };
    let named = record.config.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume { name } => Some((name, &mount.target, mount.options.read_only)),
        MountSource::Anonymous
        | MountSource::Bind { .. }
        | MountSource::Overlay { .. }
        | MountSource::Image { .. }
        | MountSource::Tmpfs { .. } => None,
    });
    named.map(event).collect()
}
