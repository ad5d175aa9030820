use super::*;
use crate::error::Kind;
use crate::types::container::{ContainerConfig, RecordedRoot};
use std::time::SystemTime;

struct Place {
    _directory: tempfile::TempDir,
    store: Store,
}

fn place() -> Place {
    let directory = tempfile::tempdir().expect("a directory");
    Place { store: Store::new(Dirs::beneath(directory.path())), _directory: directory }
}

fn record(name: &str, number: u8) -> ContainerRecord {
    ContainerRecord {
        version: RECORD_VERSION,
        id: ContainerId::from_bytes([number; 32]),
        name: name.to_owned(),
        created: Timestamp::UNIX_EPOCH,
        root: RecordedRoot::Directory { path: "/".into(), overlay: true },
        config: ContainerConfig::default(),
        anonymous_volumes: Vec::new(),
    }
}

impl Store {
    fn names_there(&self) -> Vec<String> {
        let mut names = self.entries().expect("listed");
        names.sort();
        names
    }

    /// As a killed `create` leaves it, so long ago.
    fn leave_half_made(&self, record: &ContainerRecord, seconds: u64) -> std::path::PathBuf {
        let path = self.dirs.containers().join(format!("{UNBORN}{}", record.id));
        create_private(&path).expect("made");
        write_json(&path.join("config.json"), record, Durable::No).expect("written");
        write_file(&path.join("name"), record.id.as_str().as_bytes(), Durable::No).expect("written");
        std::fs::hard_link(path.join("name"), self.dirs.names().join(&record.name)).expect("named");
        let then = SystemTime::now() - std::time::Duration::from_secs(seconds);
        std::fs::File::open(&path).expect("opened").set_modified(then).expect("aged");
        path
    }
}

#[test]
fn a_name_belongs_to_one() {
    let Place { store, _directory } = place();
    store.create(&record("db", 1)).expect("created");
    let error = store.create(&record("db", 2)).expect_err("the name is taken");
    assert_eq!(error.kind(), Kind::Conflict);
    // Nothing of the second is left, and the first has kept its name.
    assert_eq!(store.names_there(), [record("db", 1).id.to_string()]);
    assert_eq!(store.resolve("db").expect("there"), record("db", 1).id);
}

#[test]
fn twenty_at_once_and_one_wins() {
    let Place { store, _directory } = place();
    let wins = std::thread::scope(|scope| {
        let one = |number| {
            scope.spawn({
                let store = &store;
                move || store.create(&record("db", number)).is_ok()
            })
        };
        let threads: Vec<_> = (1..=20).map(one).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).filter(|won| *won).count()
    });
    assert_eq!(wins, 1);
    assert_eq!(store.names_there().len(), 1);
}

#[test]
fn a_name_whose_container_is_gone_is_free() {
    let Place { store, _directory } = place();
    store.create(&record("db", 1)).expect("created");
    std::fs::remove_dir_all(store.dirs.container(&record("db", 1).id)).expect("removed by hand");
    store.create(&record("db", 2)).expect("created");
    assert_eq!(store.resolve("db").expect("there"), record("db", 2).id);
}

#[test]
fn a_container_in_the_making_keeps_its_name() {
    let Place { store, _directory } = place();
    store.create(&record("other", 9)).expect("created");
    let path = store.leave_half_made(&record("db", 1), 0);
    let alive = lock::directory(&path).expect("locked");
    let error = store.create(&record("db", 2)).expect_err("the name is taken");
    assert_eq!(error.kind(), Kind::Conflict);
    drop(alive);
    store.create(&record("db", 2)).expect("its maker has died");
}

#[test]
fn sweeping_takes_only_what_nobody_works_on() {
    let Place { store, _directory } = place();
    store.create(&record("kept", 9)).expect("created");
    let old = store.leave_half_made(&record("old", 1), 3600);
    let young = store.leave_half_made(&record("young", 2), 1);
    let busy = store.leave_half_made(&record("busy", 3), 3600);
    let _alive = lock::directory(&busy).expect("locked");
    let gone = |number| store.dirs.containers().join(format!("{GONE}{}", record("x", number).id));
    create_private(&gone(4)).expect("made");
    create_private(&gone(5)).expect("made");
    let _removing = lock::directory(&gone(5)).expect("locked");
    assert!(store.listing().expect("listed").1);
    let mut finished = Vec::new();
    store
        .sweep(&mut |id| {
            finished.push(id.clone());
            Ok(())
        })
        .expect("swept");
    assert_eq!(finished, [record("x", 4).id]);
    assert!(!old.exists() && young.exists() && busy.exists());
    assert!(!store.dirs.names().join("old").exists());
    assert!(store.dirs.names().join("busy").exists() && store.dirs.names().join("kept").exists());
}

#[test]
fn a_run_without_monitor_and_end_is_lost_and_keeps_its_count() {
    let Place { store, _directory } = place();
    let one = record("db", 1);
    store.create(&one).expect("created");
    assert!(matches!(store.snapshot(&one.id).expect("read").status, Status::Created));
    let mut monitor = this_process().expect("this process");
    create_private(&store.dirs.container_runtime(&one.id)).expect("made");
    let live = |monitor| LiveState {
        version: 1,
        id: one.id.clone(),
        monitor,
        init: Some(monitor),
        since: Timestamp::UNIX_EPOCH,
        restart_count: 4,
        last: None,
        paused: false,
        cgroup: None,
        uid_map: None,
        driver: Driver::Fuse,
        ports: Vec::new(),
        endpoints: Vec::new(),
    };
    // Killed before the mark: the command has not run.
    monitor.start_ticks += 1;
    store.save_live(&live(monitor)).expect("written");
    assert!(matches!(store.snapshot(&one.id).expect("read").status, Status::Created));
    let held = store.mark_started(&one.id, Timestamp::UNIX_EPOCH).expect("marked");
    assert_eq!(store.snapshot(&one.id).expect_err("it lives, out of reach").kind(), Kind::Conflict);
    drop(held);
    let snapshot = store.snapshot(&one.id).expect("read");
    assert!(snapshot.lost && matches!(snapshot.status, Status::Exited(Exit { code: 137, .. })));
    assert_eq!(snapshot.restart_count, 4);
    store.save_live(&live(this_process().expect("this process"))).expect("written");
    assert!(matches!(store.snapshot(&one.id).expect("read").status, Status::Running { .. }));
}

#[test]
fn on_a_full_disk_the_exit_record_takes_the_place_of_the_mark() {
    let Place { store, _directory } = place();
    let one = record("db", 1);
    store.create(&one).expect("created");
    store.mark_started(&one.id, Timestamp::UNIX_EPOCH).expect("marked");
    // Its temporary file cannot be made: stands for ENOSPC.
    let blocked = store.dirs.container(&one.id).join(format!("exit.json.{}", std::process::id()));
    std::fs::create_dir(&blocked).expect("made");
    let exit = Exit {
        code: 4,
        started_at: Timestamp::UNIX_EPOCH,
        finished_at: Timestamp::UNIX_EPOCH,
        oom_killed: false,
        error: None,
    };
    store.save_exit(&one.id, &exit, 2).expect("written");
    let snapshot = store.snapshot(&one.id).expect("read");
    assert!(!snapshot.lost && matches!(snapshot.status, Status::Exited(Exit { code: 4, .. })));
    assert_eq!(snapshot.restart_count, 2);
}

/// As a power cut leaves a file that was not synced.
fn empty(path: &Path) {
    std::fs::File::options().write(true).truncate(true).open(path).expect("truncated");
}

#[test]
fn an_empty_name_is_still_its_container_s() {
    let Place { store, _directory } = place();
    let (one, other) = (record("db", 1), record("web", 2));
    store.create(&one).expect("created");
    store.create(&other).expect("created");
    let directory = store.dirs.container(&one.id);
    empty(&directory.join("name"));
    assert_eq!(store.resolve("db").expect("by its file"), one.id);
    assert_eq!(store.create(&record("db", 3)).expect_err("taken").kind(), Kind::Conflict);
    // A copy of the store has no links, and a power cut takes the record as well.
    std::fs::remove_file(directory.join("name")).expect("removed");
    assert_eq!(store.resolve("db").expect("by its record"), one.id);
    empty(&directory.join("config.json"));
    assert_eq!(store.resolve("db").expect_err("unknown").kind(), Kind::NotFound);
    store.create(&record("db", 3)).expect("nobody's any more");
    assert_eq!(store.resolve("db").expect("there"), record("db", 3).id);
    // A new name is not an empty one.
    empty(&store.dirs.container(&other.id).join("name"));
    let mut renamed = other.clone();
    store.rename(&mut renamed, "new").expect("renamed");
    assert_eq!(store.resolve("new").expect("there"), other.id);
    let mut names: Vec<_> = std::fs::read_dir(store.dirs.names()).expect("listed").flatten().collect();
    names.sort_by_key(std::fs::DirEntry::file_name);
    assert_eq!(names.iter().map(std::fs::DirEntry::file_name).collect::<Vec<_>>(), ["db", "new"]);
    store.drop_all_names(&other.id);
    assert_eq!(store.resolve("new").expect_err("dropped").kind(), Kind::NotFound);
}

#[test]
fn one_damaged_record_is_that_container_s_matter() {
    let Place { store, _directory } = place();
    for number in 1..=3 {
        store.create(&record(&format!("c{number}"), number)).expect("created");
    }
    empty(&store.dirs.container(&record("", 1).id).join("config.json"));
    std::fs::remove_file(store.dirs.container(&record("", 2).id).join("config.json")).expect("removed");
    let mut damaged = Vec::new();
    let whole = store.records(&mut damaged).expect("read");
    assert_eq!(whole.iter().map(|record| record.name.as_str()).collect::<Vec<_>>(), ["c3"]);
    assert_eq!(damaged.len(), 2);
    for error in damaged {
        assert!(error.to_string().contains("config.json") && error.hints()[0].contains("rm -f"), "{error}");
    }
    assert!(store.volume_users(&mut Vec::new()).expect("read").is_empty());
}

#[test]
fn what_can_be_done_without_is_taken_for_absent() {
    let Place { store, _directory } = place();
    let one = record("db", 1);
    store.create(&one).expect("created");
    let directory = store.dirs.container(&one.id);
    for text in ["", "\0\0", "{"] {
        std::fs::write(directory.join("ports.json"), text).expect("written");
        assert!(store.last_ports(&one.id).expect("none").is_empty());
        create_private(&store.dirs.container_runtime(&one.id)).expect("made");
        std::fs::write(store.dirs.container_runtime(&one.id).join("state.json"), text).expect("written");
        assert!(store.live(&one.id).expect("none").is_none());
        // It has run, and has ended: with or without the mark of its start.
        std::fs::write(directory.join("exit.json"), text).expect("written");
        let snapshot = store.snapshot(&one.id).expect("read");
        assert!(snapshot.lost && matches!(snapshot.status, Status::Exited(Exit { code: 137, .. })));
    }
    drop(store.mark_started(&one.id, Timestamp::UNIX_EPOCH).expect("marked"));
    std::fs::write(directory.join("exit.json"), "").expect("written");
    let snapshot = store.snapshot(&one.id).expect("read");
    let Status::Exited(exit) = snapshot.status else { panic!("it has ended") };
    assert!(exit.error.expect("why").contains("damaged"));
}
