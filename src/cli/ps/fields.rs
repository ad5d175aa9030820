//! Fields that podman's templates have beside docker's, and `ps --ns`.

use super::Container;
use crate::types::container::RecordedRoot;
use crate::types::status::Status;
use crate::types::time::human_age;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The namespaces of `ps --ns`: podman's heading, and the file in /proc/PID/ns.
const NAMESPACES: &[(&str, &str)] = &[
    ("CGROUPNS", "cgroup"),
    ("IPC", "ipc"),
    ("MNT", "mnt"),
    ("NET", "net"),
    ("PIDNS", "pid"),
    ("USERNS", "user"),
    ("UTS", "uts"),
];

/// Adds podman's fields to a row of docker's.
pub(super) fn add(row: &mut Map<String, Value>, container: &Container, now: Timestamp) {
    let record = &container.record;
    let (pid, exit) = match &container.status {
        Status::Running { init, .. } => (init.pid, None),
        Status::Restarting { last, .. } => (0, Some(last)),
        Status::Exited(exit) => (0, Some(exit)),
        Status::Created => (0, None),
    };
    let image = match &record.root {
        RecordedRoot::Image { id, .. } => id.short().to_owned(),
        RecordedRoot::Directory { .. } | RecordedRoot::Nothing => String::new(),
    };
    let second = |time: Option<Timestamp>| time.map_or(0, Timestamp::as_second);
    let age = human_age(record.created, now);
    let pod = record.config.pod.as_ref();
    for (key, value) in [
        ("AutoRemove", json!(record.config.auto_remove)),
        ("Created", json!(age)),
        ("CreatedHuman", json!(age)),
        ("ExitCode", json!(exit.map_or(0, |exit| exit.code))),
        ("Exited", json!(matches!(container.status, Status::Exited(_)))),
        ("ExitedAt", json!(second(exit.map(|exit| exit.finished_at)))),
        ("ImageID", json!(image)),
        ("IsInfra", json!(record.config.infra)),
        ("Pid", json!(pid)),
        ("Pod", json!(pod.map(|pod| pod.id.short()).unwrap_or_default())),
        ("PodName", json!(pod.map(|pod| pod.name.as_str()).unwrap_or_default())),
        ("Restarts", json!(container.restart_count)),
        ("StartedAt", json!(second(container.last_started))),
    ] {
        row.insert(key.to_owned(), value);
    }
}

/// Headings of [`add`]'s fields.
pub(super) fn add_headings(headings: &mut Value) {
    for (key, heading) in [
        ("AutoRemove", "AUTO REMOVE"),
        ("Created", "CREATED"),
        ("CreatedHuman", "CREATED"),
        ("ExitCode", "EXIT CODE"),
        ("Exited", "EXITED"),
        ("ExitedAt", "EXITED AT"),
        ("ImageID", "IMAGE ID"),
        ("IsInfra", "IS INFRA"),
        ("Pid", "PID"),
        ("Pod", "POD ID"),
        ("PodName", "PODNAME"),
        ("Restarts", "RESTARTS"),
        ("StartedAt", "STARTED AT"),
    ] {
        headings[key] = heading.into();
    }
}

/// The lines of `ps --ns`, headings first, with tabs between the cells.
pub(super) fn namespaces(containers: &[Container], whole: bool) -> Vec<String> {
    let heading: Vec<&str> = NAMESPACES.iter().map(|(heading, _)| *heading).collect();
    let mut lines = vec![format!("CONTAINER ID\tNAMES\tPID\t{}", heading.join("\t"))];
    for container in containers {
        let record = &container.record;
        let id = if whole { record.id.as_str() } else { record.id.short() };
        let pid = match &container.status {
            Status::Running { init, .. } => init.pid,
            Status::Created | Status::Restarting { .. } | Status::Exited(_) => 0,
        };
        let of = |file: &str| if pid == 0 { String::new() } else { namespace(pid, file) };
        let cells: Vec<String> = NAMESPACES.iter().map(|(_, file)| of(file)).collect();
        lines.push(format!("{id}\t{}\t{pid}\t{}", record.name, cells.join("\t")));
    }
    lines
}

/// The number of a namespace; nothing where the process has ended meanwhile.
fn namespace(pid: u32, file: &str) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap_or_default();
    let text = link.to_string_lossy();
    text.split_once('[').and_then(|(_, number)| number.strip_suffix(']')).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::list::samples::{container, running};
    use crate::types::status::ProcessId;

    #[test]
    fn namespaces_are_numbers_of_the_kernel() {
        let mut web = container("web", 3, running("2026-01-03T12:00:00Z"));
        if let Status::Running { init, .. } = &mut web.status {
            *init = ProcessId { pid: std::process::id(), start_ticks: 1 };
        }
        let lines = namespaces(&[web, container("db", 1, Status::Created)], false);
        let cells: Vec<&str> = lines[1].split('\t').collect();
        assert_eq!(cells.len(), lines[0].split('\t').count());
        assert!(cells[3..].iter().all(|cell| cell.parse::<u64>().is_ok()), "{lines:?}");
        assert_eq!(lines[2], "010101010101\tdb\t0\t\t\t\t\t\t\t");
    }
}
