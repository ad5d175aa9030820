//! The containers of a user: create, find, list, and what state each is in.

mod mark;
mod names;

pub(crate) use mark::Held;

use super::written::{self, Durable, read_json, read_spare, write_file, write_json};
use super::{health, lock};
use crate::dirs::{Dirs, create_private};
use crate::error::{BestEffort, Context, Error, Kind, Result};
use crate::sys::process::start_ticks;
use crate::types::container::ContainerRecord;
use crate::types::driver::Driver;
use crate::types::health::{HealthConfig, HealthState};
use crate::types::id::ContainerId;
use crate::types::idmap::IdMap;
use crate::types::mount::MountSource;
use crate::types::network::Endpoint;
use crate::types::port::Binding;
use crate::types::status::{Exit, ProcessId, Status};
use jiff::Timestamp;
use mark::Mark;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Before the id in the name of a container's directory that is being made.
const UNBORN: &str = ".new-";
/// The same for one that is being removed.
pub(crate) const GONE: &str = ".gone-";
/// A half-made container younger than this is not looked at.
const UNBORN_GRACE: std::time::Duration = std::time::Duration::from_secs(60);

/// Bytes of `started`, for an exit record on a disk that is full.
const ROOM_FOR_EXIT: usize = 1024;

/// Of `config.json`.
pub(crate) const RECORD_VERSION: u32 = 1;

/// `<runtime>/<short id>/state.json`: what the monitor says while it lives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LiveState {
    pub(crate) version: u32,
    pub(crate) id: ContainerId,
    pub(crate) monitor: ProcessId,
    /// `None` between two runs of a restart policy.
    pub(crate) init: Option<ProcessId>,
    pub(crate) since: Timestamp,
    pub(crate) restart_count: u32,
    pub(crate) last: Option<Exit>,
    #[serde(default)]
    pub(crate) paused: bool,
    /// The control group of the container, below the mount of cgroup2; `None`
    /// where this host gives it none.
    #[serde(default)]
    pub(crate) cgroup: Option<PathBuf>,
    /// Ids in use, for others' `--userns=auto`.
    #[serde(default)]
    pub(crate) uid_map: Option<IdMap>,
    /// What shows the root file system of this run.
    #[serde(default)]
    pub(crate) driver: Driver,
    /// The sockets of the host that lead to it.
    #[serde(default)]
    pub(crate) ports: Vec<Binding>,
    /// Where it is on networks.
    #[serde(default)]
    pub(crate) endpoints: Vec<Endpoint>,
}

/// `containers/<id>/exit.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ExitFile {
    version: u32,
    exit: Exit,
    #[serde(default)]
    restart_count: u32,
    /// The container is as it was created: its first start has failed so.
    #[serde(default)]
    never_ran: bool,
}

/// A container as the disk and the kernel say it is now.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) record: ContainerRecord,
    pub(crate) status: Status,
    pub(crate) restart_count: u32,
    pub(crate) last_started: Option<Timestamp>,
    /// The end of the last run that has one, also while the next one is on.
    pub(crate) last_ended: Option<Timestamp>,
    /// Why one that never ran could not be started.
    pub(crate) not_started: Option<Exit>,
    /// What shows its files: the kernel's overlay, in whose format they are,
    /// where it does not run.
    pub(crate) driver: Driver,
    /// Published now.
    pub(crate) ports: Vec<Binding>,
    /// Where it is on networks now.
    pub(crate) endpoints: Vec<Endpoint>,
    /// The monitor died without a word: what it left must be cleaned up.
    pub(crate) lost: bool,
}

impl Snapshot {
    /// Of a container that has no monitor.
    fn at_rest(record: ContainerRecord, status: Status) -> Self {
        let (last_started, last_ended) = match &status {
            Status::Exited(exit) => (Some(exit.started_at), Some(exit.finished_at)),
            Status::Created | Status::Running { .. } | Status::Restarting { .. } => (None, None),
        };
        Self {
            record,
            status,
            restart_count: 0,
            last_started,
            last_ended,
            not_started: None,
            driver: Driver::default(),
            ports: Vec::new(),
            endpoints: Vec::new(),
            lost: false,
        }
    }
}

/// The containers of one user.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    dirs: Dirs,
    /// All ids when the first one was looked for by its beginning: a command
    /// that names hundreds so does not list the directory for each.
    listed: OnceLock<Vec<ContainerId>>,
}

impl Store {
    pub(crate) fn new(dirs: Dirs) -> Self {
        Self { dirs, listed: OnceLock::new() }
    }

    /// Publishes a container: its directory with `upper/` and `work/`, its
    /// record, its name. All or nothing.
    ///
    /// # Errors
    /// `Conflict` where the name is taken.
    pub(crate) fn create(&self, record: &ContainerRecord) -> Result<()> {
        let parent = self.dirs.containers();
        create_private(&parent)?;
        create_private(&self.dirs.names())?;
        let temporary = parent.join(format!("{UNBORN}{}", record.id));
        create_private(&temporary)?;
        // Who finds the directory later knows by this lock that it is not left over.
        let _alive = lock::directory(&temporary)?;
        let write = || -> Result<()> {
            // It becomes the container's root directory, which all may enter; what
            // is above it is nobody else's.
            let upper = temporary.join("upper");
            create_private(&upper)?;
            std::fs::set_permissions(&upper, std::fs::Permissions::from_mode(0o755))
                .context(|| format!("set the mode of {}", upper.display()))?;
            create_private(&temporary.join("work"))?;
            write_json(&temporary.join("config.json"), record, Durable::No)?;
            write_file(&temporary.join("name"), record.id.as_str().as_bytes(), Durable::No)?;
            // The name first: nobody sees two containers of one name, not even
            // after a kill between the two steps.
            self.take_name(&record.name, &record.id, &temporary.join("name"))?;
            let directory = self.dirs.container(&record.id);
            std::fs::rename(&temporary, &directory)
                .context(|| format!("publish {}", directory.display()))
                .inspect_err(|_| self.drop_name(&record.name, &record.id))
        };
        write().inspect_err(|_| std::fs::remove_dir_all(&temporary).or_ignore())
    }

    /// What commands that were killed have left in the directory of containers:
    /// half-made ones are deleted here, half-removed ones (their files have many
    /// owners) given to `finish`. Whatever someone alive still works on stays.
    pub(crate) fn sweep(&self, finish: &mut dyn FnMut(&ContainerId) -> Result<()>) -> Result<()> {
        for name in self.entries()?.into_iter().filter(|name| name.starts_with('.')) {
            let path = self.dirs.containers().join(&name);
            let id_after =
                |prefix: &str| name.strip_prefix(prefix).and_then(|id| ContainerId::parse(id).ok());
            if let Some(id) = id_after(UNBORN) {
                // Between its making and its locking it is nobody's: too young is not left over.
                let young = std::fs::metadata(&path)
                    .and_then(|meta| meta.modified())
                    .is_ok_and(|at| at.elapsed().is_ok_and(|age| age < UNBORN_GRACE));
                if young {
                    continue;
                }
                if let Some(_lock) = left_over(&path)? {
                    if let Ok(Some(record)) = read_json::<ContainerRecord>(&path.join("config.json")) {
                        self.drop_name(&record.name, &id);
                    }
                    std::fs::remove_dir_all(&path).or_ignore();
                }
            } else if let Some(id) = id_after(GONE) {
                if let Some(_lock) = left_over(&path)? {
                    finish(&id)?;
                }
            }
        }
        Ok(())
    }

    /// Puts what was written of a new container on the disk, for one that does not start
    /// at once: that has no time for it.
    pub(crate) fn sync(&self, id: &ContainerId) -> Result<()> {
        ["config.json", "name"].iter().try_for_each(|file| written::sync(&self.dirs.container(id).join(file)))
    }

    /// Writes the record anew. The caller holds the container's lock.
    pub(crate) fn save(&self, record: &ContainerRecord) -> Result<()> {
        write_json(&self.dirs.container(&record.id).join("config.json"), record, Durable::Yes)
    }

    /// The container called `word`: a name, an id, or the beginning of an id
    /// that only one has.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` where several ids begin so.
    pub(crate) fn resolve(&self, word: &str) -> Result<ContainerId> {
        let not_found = || {
            Error::not_found(format!("no such container: {word}"))
                .hint("`coracle ps -a` lists the containers there are")
        };
        let word_clean = word.strip_prefix('/').unwrap_or(word);
        if crate::types::id::check_name("container", word_clean).is_err() {
            return Err(not_found());
        }
        if let Some(id) = self.id_of_name(word_clean)? {
            if self.dirs.container(&id).exists() {
                return Ok(id);
            }
        }
        if let Ok(id) = ContainerId::parse(word_clean) {
            return if self.dirs.container(&id).exists() { Ok(id) } else { Err(not_found()) };
        }
        let begins = |id: &&ContainerId| id.as_str().starts_with(word_clean);
        if let Some(listed) = self.listed.get() {
            let mut found = listed.iter().filter(begins);
            if let (Some(id), None) = (found.next(), found.next())
                && self.dirs.container(id).exists()
            {
                return Ok(id.clone());
            }
        }
        let ids = self.ids()?;
        let mut found = ids.iter().filter(begins).cloned();
        let result = (found.next(), found.next());
        self.listed.get_or_init(|| ids);
        match result {
            (Some(id), None) => Ok(id),
            (None, _) => Err(not_found()),
            (Some(first), Some(second)) => {
                Err(Error::conflict(format!("multiple IDs found with provided prefix: {word}"))
                    .hint(format!("{} and {} begin so: give more digits", first.short(), second.short())))
            }
        }
    }

    /// All ids, in no order.
    pub(crate) fn ids(&self) -> Result<Vec<ContainerId>> {
        Ok(self.entries()?.into_iter().filter_map(|name| ContainerId::parse(&name).ok()).collect())
    }

    /// All ids, and whether there is something to [`Store::sweep`].
    pub(crate) fn listing(&self) -> Result<(Vec<ContainerId>, bool)> {
        let entries = self.entries()?;
        let left_over = entries.iter().any(|name| name.starts_with('.'));
        Ok((entries.into_iter().filter_map(|name| ContainerId::parse(&name).ok()).collect(), left_over))
    }

    fn entries(&self) -> Result<Vec<String>> {
        let path = self.dirs.containers();
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).context(|| format!("list {}", path.display())),
        };
        Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
    }

    /// The short ids of the containers that may have a monitor, in one look at
    /// the runtime directory.
    pub(crate) fn perhaps_living(&self) -> Result<BTreeSet<String>> {
        let path = &self.dirs.runtime;
        match std::fs::read_dir(path) {
            Ok(entries) => {
                Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(error) => Err(error).context(|| format!("list {}", path.display())),
        }
    }

    /// The record of a container.
    ///
    /// # Errors
    /// `NotFound` where it was removed; `Invalid` where it is damaged; `Failed` where a
    /// later release wrote it.
    pub(crate) fn record(&self, id: &ContainerId) -> Result<ContainerRecord> {
        let path = self.dirs.container(id).join("config.json");
        let record: ContainerRecord = match read_json(&path) {
            Ok(Some(record)) => record,
            Ok(None) if self.dirs.container(id).exists() => {
                return Err(damaged(Error::invalid(format!("{} is gone", path.display())), id));
            }
            Ok(None) => return Err(Error::not_found(format!("no such container: {}", id.short()))),
            Err(error) => return Err(damaged(error, id)),
        };
        if record.version > RECORD_VERSION {
            return Err(Error::failed(format!(
                "{} has version {}, and this coracle knows versions up to {RECORD_VERSION}",
                path.display(),
                record.version
            ))
            .hint("it was written by a later release: use that one"));
        }
        Ok(record)
    }

    /// All records. What went meanwhile is left out, and so is what is damaged: of it
    /// `damaged` gets a note each.
    ///
    /// # Errors
    /// Others of [`Store::record`].
    pub(crate) fn records(&self, damaged: &mut Vec<Error>) -> Result<Vec<ContainerRecord>> {
        let mut records = Vec::new();
        for id in self.ids()? {
            match self.record(&id) {
                Ok(record) => records.push(record),
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) if error.kind() == Kind::Invalid => {
                    damaged.push(error.context(format!("container {}", id.short())));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(records)
    }

    /// The names of the containers that use each volume; `damaged` and errors as of
    /// [`Store::records`].
    pub(crate) fn volume_users(&self, damaged: &mut Vec<Error>) -> Result<BTreeMap<String, Vec<String>>> {
        let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for record in self.records(damaged)? {
            for mount in record.config.mounts {
                if let MountSource::Volume { name } = mount.source {
                    users.entry(name).or_default().push(record.name.clone());
                }
            }
        }
        Ok(users)
    }

    /// The names of the containers that use one volume, as far as they can be read.
    pub(crate) fn users_of_volume(&self, name: &str) -> Result<Vec<String>> {
        Ok(self.volume_users(&mut Vec::new())?.remove(name).unwrap_or_default())
    }

    /// The container as it is now.
    pub(crate) fn snapshot(&self, id: &ContainerId) -> Result<Snapshot> {
        let record = self.record(id)?;
        match self.live(id)? {
            Some(live) => Ok(Self::running(record, live)),
            None => self.at_rest(record),
        }
    }

    fn running(record: ContainerRecord, live: LiveState) -> Snapshot {
        let last_ended = live.last.as_ref().map(|last| last.finished_at);
        let status = match (live.init, live.last) {
            (Some(init), _) => {
                Status::Running { init, monitor: live.monitor, since: live.since, paused: live.paused }
            }
            (None, Some(last)) => Status::Restarting { monitor: live.monitor, last },
            (None, None) => Status::Created,
        };
        Snapshot {
            record,
            status,
            restart_count: live.restart_count,
            last_started: Some(live.since),
            last_ended,
            not_started: None,
            driver: live.driver,
            ports: live.ports,
            endpoints: live.endpoints,
            lost: false,
        }
    }

    /// Whether it has been started before, or tried to.
    pub(crate) fn has_run(&self, id: &ContainerId) -> bool {
        let directory = self.dirs.container(id);
        ["started", "exit.json"].iter().any(|mark| directory.join(mark).exists())
    }

    /// The container as it is if no monitor lives: what `snapshot` says, for a
    /// caller who knows that from [`Self::perhaps_living`].
    ///
    /// # Errors
    /// `Conflict` where it runs, out of reach: another runtime directory's, or another
    /// machine's.
    pub(crate) fn at_rest(&self, record: ContainerRecord) -> Result<Snapshot> {
        let directory = self.dirs.container(&record.id);
        let exit_file = directory.join("exit.json");
        // Where it is damaged it ended all the same; how, is lost.
        let ended = || read_spare::<ExitFile>(&exit_file);
        let exited = |record, ExitFile { exit, restart_count, never_ran, .. }| {
            if never_ran {
                return Snapshot { not_started: Some(exit), ..Snapshot::at_rest(record, Status::Created) };
            }
            Snapshot { restart_count, ..Snapshot::at_rest(record, Status::Exited(exit)) }
        };
        if let Some(file) = ended()? {
            return Ok(exited(record, file));
        }
        let has_ended = exit_file.exists();
        let mark = match Mark::read(&directory)? {
            Some(mark) => mark,
            None if has_ended => Mark::default(),
            None => return Ok(Snapshot::at_rest(record, Status::Created)),
        };
        if mark.is_held() {
            // Started, or ended, since the caller has looked for a monitor.
            if let Some(live) = self.live(&record.id)? {
                return Ok(Self::running(record, live));
            }
            if let Some(file) = ended()? {
                return Ok(exited(record, file));
            }
            let unknown = || Error::conflict(format!("container {} is being started elsewhere", record.name));
            let has_place = self.stale_or_live(&record.id)?.is_some();
            return Err(mark.keeper().map_or_else(unknown, |keeper| {
                keeper.refusal(&record.name, &self.dirs.runtime, has_place, &directory)
            }));
        }
        let started_at: Timestamp = mark.at.unwrap_or(record.created);
        let lost = if has_ended {
            "what was recorded of the container's end is damaged"
        } else {
            "the container's monitor was killed, or the machine went down"
        };
        let exit = Exit {
            code: 137,
            started_at,
            finished_at: started_at,
            oom_killed: false,
            error: Some(lost.to_owned()),
        };
        let restart_count = self.stale_or_live(&record.id)?.map_or(0, |state| state.restart_count);
        Ok(Snapshot { restart_count, lost: true, ..Snapshot::at_rest(record, Status::Exited(exit)) })
    }

    /// What the checks of the container have found; `None` where there are none.
    pub(crate) fn health(&self, record: &ContainerRecord) -> Option<HealthState> {
        let is_checked = record.config.health.as_ref().is_some_and(HealthConfig::is_active);
        // What cannot be read is written anew by the next check.
        if is_checked { health::read(&self.dirs.container(&record.id)).ok().flatten() } else { None }
    }

    /// What the monitor says, if it lives.
    pub(crate) fn live(&self, id: &ContainerId) -> Result<Option<LiveState>> {
        let state = self.stale_or_live(id)?;
        Ok(state.filter(|state| is_alive(state.monitor)))
    }

    /// What a monitor said last, whether it lives or not.
    pub(crate) fn stale_or_live(&self, id: &ContainerId) -> Result<Option<LiveState>> {
        let path = self.dirs.container_runtime(id).join("state.json");
        // Damaged it is that of an earlier boot, or of no use.
        let state = read_spare::<LiveState>(&path)?;
        Ok(state.filter(|state| state.id == *id))
    }

    /// Written by the monitor at each change.
    pub(crate) fn save_live(&self, state: &LiveState) -> Result<()> {
        write_json(&self.dirs.container_runtime(&state.id).join("state.json"), state, Durable::No)
    }

    /// The ports of the last run, for those that were free to choose: others may be
    /// chosen where they are not known.
    pub(crate) fn last_ports(&self, id: &ContainerId) -> Result<Vec<Binding>> {
        Ok(read_spare(&self.dirs.container(id).join("ports.json"))?.unwrap_or_default())
    }

    pub(crate) fn save_ports(&self, id: &ContainerId, ports: &[Binding]) -> Result<()> {
        write_json(&self.dirs.container(id).join("ports.json"), &ports, Durable::No)
    }

    /// Written by the monitor before the command is exec'd: from here on, no
    /// monitor and no exit record means that the run was lost. What it gives is to be
    /// kept until there is that record.
    pub(crate) fn mark_started(&self, id: &ContainerId, at: Timestamp) -> Result<Held> {
        let directory = self.dirs.container(id);
        let held = mark::write(&directory, at, &self.dirs.runtime)?;
        match std::fs::remove_file(directory.join("exit.json")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context(|| "remove the last run's exit record")
            }
            _ => Ok(held),
        }
    }

    /// Written by the monitor, or by whoever finds a lost run.
    pub(crate) fn save_exit(&self, id: &ContainerId, exit: &Exit, restart_count: u32) -> Result<()> {
        let file = ExitFile { version: 1, exit: exit.clone(), restart_count, never_ran: false };
        self.write_exit(id, &file)
    }

    /// Written by the monitor: the first start has failed.
    pub(crate) fn save_failed_start(&self, id: &ContainerId, exit: &Exit) -> Result<()> {
        self.write_exit(id, &ExitFile { version: 1, exit: exit.clone(), restart_count: 0, never_ran: true })
    }

    fn write_exit(&self, id: &ContainerId, file: &ExitFile) -> Result<()> {
        let directory = self.dirs.container(id);
        write_json(&directory.join("exit.json"), file, Durable::Yes).or_else(|error| {
            // The disk is full, often by the container's own doing: the mark of
            // its start has the room that is needed.
            match write_over(&directory.join("started"), file) {
                Ok(()) => std::fs::rename(directory.join("started"), directory.join("exit.json"))
                    .context(|| "publish the exit record"),
                Err(_) => Err(error),
            }
        })
    }
}

/// Whose record cannot be read can be nothing but removed.
fn damaged(error: Error, id: &ContainerId) -> Error {
    match error.kind() {
        Kind::Invalid => error.hint(format!("`coracle rm -f {}` removes what is left of it", id.short())),
        _ => error,
    }
}

/// The lock of what nobody works on; `None` also where it is gone by now.
fn left_over(path: &Path) -> Result<Option<lock::Lock>> {
    match lock::try_directory(path) {
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
        result => result,
    }
}

/// JSON into the blocks that a file of [`ROOM_FOR_EXIT`] bytes has already.
fn write_over(path: &Path, value: &impl Serialize) -> Result<()> {
    let step = || format!("write {}", path.display());
    let text = serde_json::to_string(value).context(step)?;
    if text.len() > ROOM_FOR_EXIT {
        return Err(Error::failed("no room for the exit record"));
    }
    let file = std::fs::OpenOptions::new().write(true).open(path).context(step)?;
    file.write_all_at(format!("{text:ROOM_FOR_EXIT$}").as_bytes(), 0).context(step)?;
    file.sync_data().context(step)
}

/// Whether this very process lives (not one that has its number now).
pub(crate) fn is_alive(process: ProcessId) -> bool {
    start_ticks(process.pid) == Some(process.start_ticks)
}

/// This process.
pub(crate) fn this_process() -> Result<ProcessId> {
    let pid = std::process::id();
    let start_ticks =
        start_ticks(pid).ok_or_else(|| Error::failed("no /proc: cannot read this process' start time"))?;
    Ok(ProcessId { pid, start_ticks })
}

#[cfg(test)]
mod tests;
