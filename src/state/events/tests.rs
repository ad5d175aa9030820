use super::read::parse;
use super::*;
use std::collections::BTreeSet;

fn scratch() -> (tempfile::TempDir, Dirs) {
    let folder = tempfile::tempdir().expect("a folder");
    let dirs = Dirs::beneath(folder.path());
    (folder, dirs)
}

fn event(id: &str) -> Event {
    Event::now(EventKind::Container, "create", id)
}

fn ids(log: &mut Log) -> Vec<String> {
    let mut ids = Vec::new();
    let mut each = |event: Event| {
        ids.push(event.id);
        Ok(())
    };
    log.read(&mut each).expect("reads");
    ids
}

#[test]
fn what_is_appended_is_read() {
    let (_folder, dirs) = scratch();
    let mut log = Log::open(&dirs).expect("opens");
    assert_eq!(ids(&mut log), [""; 0]);
    append(&dirs, &event("one")).expect("written");
    append_all(&dirs, &[event("two"), event("three")]).expect("written");
    assert_eq!(ids(&mut log), ["one", "two", "three"]);
    assert_eq!(ids(&mut log), [""; 0]);
    let mut late = Log::open(&dirs).expect("opens");
    late.skip().expect("skips");
    append(&dirs, &event("four")).expect("written");
    assert_eq!(ids(&mut late), ["four"]);
    assert_eq!(ids(&mut log), ["four"]);
}

#[test]
fn torn_lines_hurt_nobody_else() {
    let (_folder, dirs) = scratch();
    append(&dirs, &event("one")).expect("written");
    let mut file = open(&dirs.events()).expect("opens");
    file.write_all(b"{\"time\":\"2026-01-0").expect("written");
    let mut log = Log::open(&dirs).expect("opens");
    assert_eq!(ids(&mut log), ["one"]);
    append(&dirs, &event("two")).expect("written");
    assert_eq!(ids(&mut log), ["two"]);
    let whole = line(&event("x")).expect("JSON");
    let (begin, end) = whole.split_at(30);
    file.write_all(begin).expect("written");
    assert_eq!(ids(&mut log), [""; 0]);
    file.write_all(end).expect("written");
    assert_eq!(ids(&mut log), ["x"]);
    for bad in [&b""[..], b"{}", b"x", b"{\"time\":", b"\xff\xfe"] {
        assert_eq!(parse(bad), None);
    }
    file.write_all(&vec![b'x'; 5 * MAX_LINE]).expect("written");
    assert_eq!(ids(&mut log), [""; 0]);
    file.write_all(b"\n").expect("written");
    append(&dirs, &event("y")).expect("written");
    assert_eq!(ids(&mut log), ["y"]);
}

#[test]
fn long_labels_are_left_out() {
    let long = event("one").with("label", "x".repeat(MAX_LINE)).with("name", "web");
    let text = line(&long).expect("JSON");
    assert!(text.len() < MAX_LINE);
    let read = parse(text.strip_suffix(b"\n").expect("a line")).expect("an event");
    assert_eq!(read.attributes.keys().collect::<Vec<_>>(), ["name"]);
}

/// Writers rotate under each other's hands, with a follower: it sees each line once.
#[test]
fn rotation_loses_no_line_of_writers_or_of_a_follower() {
    const WRITERS: usize = 4;
    const EACH: usize = 250;
    let (_folder, dirs) = scratch();
    let mut log = Log::open(&dirs).expect("opens");
    append(&dirs, &event("first")).expect("written");
    let mut seen: Vec<String> = ids(&mut log);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let dirs = dirs.clone();
                scope.spawn(move || {
                    for number in 0..EACH {
                        let event = event(&format!("{writer}-{number}")).with("x", "y".repeat(40 << 10));
                        append(&dirs, &event).expect("written");
                    }
                })
            })
            .collect();
        while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            seen.extend(ids(&mut log));
        }
    });
    seen.extend(ids(&mut log));
    assert_eq!(seen.len(), WRITERS * EACH + 1);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), seen.len());
    for writer in 0..WRITERS {
        let prefix = format!("{writer}-");
        let numbers = seen.iter().filter_map(|id| id.strip_prefix(&prefix)?.parse::<usize>().ok());
        assert!(numbers.is_sorted(), "each writer's lines in its order");
    }
    let size = |path: &Path| std::fs::metadata(path).expect("there").len();
    let (now, then) = (size(&dirs.events()), size(&before(&dirs.events())));
    assert!((MAX_FILE..MAX_FILE + (1 << 20)).contains(&then) && now < MAX_FILE + (1 << 20), "{now} {then}");
}
