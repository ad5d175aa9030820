//! Named volumes: `<dir>/<name>/` with
//! - `_data/`: what containers see;
//! - `volume.json`: what was asked for, never changed;
//! - `needs-seed`: there until a container has used it: only until then `_data`
//!   is in nobody's hands, and another directory may take its place.
//!
//! A `volume.json` that is missing, or empty as a power cut leaves it, says that nothing was
//! asked for: that of a volume that `volume create` makes is synced.
//!
//! A volume appears whole, by a rename. `<dir>/.lock` is held shared by who makes
//! or uses a volume until the use is recorded ([`VolumeStore::hold`]), and alone
//! by who removes one. Readers take no lock.

use super::copy::{copy_attributes, copy_tree};
use super::descent::OPEN_DIR;
use super::staging::random_hex;
use super::usage::remove_tree;
use crate::dirs::{create_private, disinherit};
use crate::error::{BestEffort, Context, Error, Kind, Result};
use crate::types::id::check_name;
use crate::types::natural;
use jiff::Timestamp;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Bytes of a `volume.json`.
const MAX_RECORD: u64 = 1 << 20;

/// What is recorded of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Volume {
    /// Of this format: 1.
    pub(crate) version: u32,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// Always `local`.
    pub(crate) driver: String,
    #[serde(default)]
    pub(crate) options: BTreeMap<String, String>,
    /// Made for one container, and removed with it by `rm -v` and `--rm`.
    #[serde(default)]
    pub(crate) anonymous: bool,
}

/// The volumes of one user.
#[derive(Clone, Debug)]
pub(crate) struct VolumeStore {
    dir: PathBuf,
}

/// While it lives, no volume is removed.
#[derive(Debug)]
pub(crate) struct Hold {
    _lock: OwnedFd,
}

impl VolumeStore {
    /// Opens the store at `dir`, which is made (0700) where it is missing.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        create_private(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// A name for an anonymous volume: 64 hex digits, as docker's.
    pub(crate) fn anonymous_name() -> Result<String> {
        random_hex::<32>()
    }

    /// Keeps volumes from being removed between the moment when they are found
    /// and the moment when their use is recorded.
    pub(crate) fn hold(&self) -> Result<Hold> {
        self.lock(FlockOperation::LockShared).map(|lock| Hold { _lock: lock })
    }

    /// Makes a volume. What is asked for is on the disk then.
    ///
    /// # Errors
    /// `Invalid` for a bad name, `Conflict` where there is one of that name.
    pub(crate) fn create(
        &self,
        name: &str,
        labels: BTreeMap<String, String>,
        options: BTreeMap<String, String>,
        anonymous: bool,
    ) -> Result<Volume> {
        check_name("volume", name)?;
        let volume = Volume { labels, options, anonymous, ..plain(name, Timestamp::now()) };
        self.make(volume, Record::Synced)
    }

    fn make(&self, volume: Volume, record: Record) -> Result<Volume> {
        let name = volume.name.as_str();
        // So that a sweep does not take what is not named yet.
        let _hold = self.hold()?;
        let store = self.directory()?;
        let temporary = CString::new(format!(".tmp-{}", random_hex::<8>()?))
            .map_err(|_| Error::failed("a NUL byte in hex digits"))?;
        let made = fill(store.as_fd(), &temporary, &volume, record).and_then(|()| {
            let flags = RenameFlags::NOREPLACE;
            rustix::fs::renameat_with(&store, &temporary, &store, name, flags)
                .context(|| format!("create the volume {name}"))
        });
        match made {
            Ok(()) => Ok(volume),
            Err(error) => {
                remove_tree(store.as_fd(), &temporary).or_ignore();
                if error.errno() == Some(libc::EEXIST) {
                    return Err(Error::conflict(format!("the volume {name} exists already")));
                }
                Err(error)
            }
        }
    }

    /// The volume of that name.
    ///
    /// # Errors
    /// `NotFound` where there is none; `Invalid` where its record is damaged.
    pub(crate) fn get(&self, name: &str) -> Result<Volume> {
        check_name("volume", name).map_err(|_| no_such(name))?;
        let path = self.dir.join(name).join("volume.json");
        let action = || format!("read the volume {name}");
        let mut text = Vec::new();
        match std::fs::File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context(action),
            Ok(file) => drop(file.take(MAX_RECORD).read_to_end(&mut text).context(action)?),
        }
        if text.iter().all(|byte| *byte == 0) {
            let data = std::fs::metadata(self.data_path(name)).map_err(|_| no_such(name))?;
            let created = data.created().ok().and_then(|at| Timestamp::try_from(at).ok());
            let anonymous = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
            return Ok(Volume { anonymous, ..plain(name, created.unwrap_or_default()) });
        }
        let volume: Volume = serde_json::from_slice(&text).context(|| format!("read {}", path.display())).map_err(
            |error| {
                error.context(format!("volume {name}")).hint(format!(
                    "its data is whole: to go on without its labels and options remove that file; or remove it with \
                     its data: `coracle volume rm {name}`"
                ))
            },
        )?;
        if volume.version != 1 || volume.name != name {
            return Err(Error::failed(format!("the volume {name} was recorded by another version")));
        }
        Ok(volume)
    }

    /// The volume of that name, made where it is missing; whoever is first of
    /// several processes, all get the same one.
    pub(crate) fn get_or_create(&self, name: &str, anonymous: bool) -> Result<Volume> {
        self.get_or_create_with(name, anonymous, (BTreeMap::new(), BTreeMap::new()))
    }

    /// The same; where it is made, with these labels and options.
    pub(crate) fn get_or_create_with(
        &self,
        name: &str,
        anonymous: bool,
        (labels, options): (BTreeMap<String, String>, BTreeMap<String, String>),
    ) -> Result<Volume> {
        match self.get(name) {
            Err(error) if error.kind() == Kind::NotFound => {}
            result => return result,
        }
        check_name("volume", name)?;
        // On the way of a start nothing waits for the disk: only what cannot be guessed does.
        let record = if labels.is_empty() && options.is_empty() { Record::Quick } else { Record::Synced };
        match self.make(Volume { labels, options, anonymous, ..plain(name, Timestamp::now()) }, record) {
            Err(error) if error.kind() == Kind::Conflict => self.get(name),
            result => result,
        }
    }

    /// All volumes, by name. What cannot be read is told as a note.
    pub(crate) fn list(&self, notes: &mut Vec<Error>) -> Result<Vec<Volume>> {
        let action = || format!("list {}", self.dir.display());
        let mut volumes = Vec::new();
        for entry in std::fs::read_dir(&self.dir).context(action)? {
            let Ok(name) = entry.context(action)?.file_name().into_string() else { continue };
            if check_name("volume", &name).is_err() {
                continue;
            }
            match self.get(&name) {
                Ok(volume) => volumes.push(volume),
                // Removed meanwhile.
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => notes.push(error),
            }
        }
        volumes.sort_by(|one, other| natural::compare(&one.name, &other.name));
        Ok(volumes)
    }

    /// Removes a volume and its data. `users` gives the names of the containers
    /// that use it; it is called while nobody can begin to.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` where a container uses it.
    pub(crate) fn remove(&self, name: &str, users: &dyn Fn(&str) -> Result<Vec<String>>) -> Result<()> {
        check_name("volume", name).map_err(|_| no_such(name))?;
        let aside = CString::new(format!(".tmp-{}", random_hex::<8>()?))
            .map_err(|_| Error::failed("a NUL byte in hex digits"))?;
        let store = self.directory()?;
        {
            let _lock = self.lock(FlockOperation::LockExclusive)?;
            if rustix::fs::statat(&store, name, AtFlags::SYMLINK_NOFOLLOW).is_err() {
                return Err(no_such(name));
            }
            let users = users(name)?;
            if !users.is_empty() {
                return Err(Error::conflict(format!("the volume {name} is in use by {}", users.join(", ")))
                    .hint("remove these containers first"));
            }
            rustix::fs::renameat(&store, name, &store, &aside)
                .context(|| format!("remove the volume {name}"))?;
        }
        remove_tree(store.as_fd(), &aside).map_err(|error| error.context(format!("remove the volume {name}")))
    }

    /// The directory that containers see.
    pub(crate) fn data_path(&self, name: &str) -> PathBuf {
        self.dir.join(name).join("_data")
    }

    /// Whether no container has used the volume yet. One stat(2).
    pub(crate) fn needs_seed(&self, volume: &Volume) -> bool {
        rustix::fs::stat(self.dir.join(&volume.name).join("needs-seed")).is_ok()
    }

    /// Whether nothing is in it. One that cannot be looked at is somebody's.
    pub(crate) fn is_empty(&self, volume: &Volume) -> bool {
        let entries = rustix::fs::open(self.data_path(&volume.name), OPEN_DIR, Mode::empty())
            .and_then(|data| is_empty(data.as_fd()));
        entries.unwrap_or(false)
    }

    /// Notes that a container uses the volume as it is.
    pub(crate) fn keep_empty(&self, volume: &Volume) -> Result<()> {
        settle(self.volume_directory(volume)?.as_fd())
    }

    /// Copies a directory of an image into a volume that is empty, with the
    /// directory's own owner and mode; else does nothing.
    ///
    /// The copy is made beside `_data`. Where no container has used that yet, it
    /// takes its place by rename(2), which refuses a directory that is not empty:
    /// so a crash leaves no half of it, and what a user put there meanwhile stays
    /// (CVE-2020-1726). Later `_data` may be mounted in a container that runs: it
    /// stays, and gets what is in the copy, entry by entry.
    pub(crate) fn seed(&self, volume: &Volume, source: BorrowedFd<'_>) -> Result<()> {
        if !self.needs_seed(volume) && !self.is_empty(volume) {
            return Ok(());
        }
        let action = || format!("fill the volume {} from the image", volume.name);
        let dir = self.volume_directory(volume)?;
        rustix::fs::flock(&dir, FlockOperation::LockExclusive).context(action)?;
        let result = seed_locked(dir.as_fd(), source, self.needs_seed(volume));
        let result = result.map_err(|error| error.context(action()));
        remove_tree(dir.as_fd(), c"_seed").or_ignore();
        result?;
        settle(dir.as_fd())
    }

    /// Removes what killed processes left behind.
    pub(crate) fn sweep(&self) -> Result<()> {
        let Ok(_lock) = self.lock(FlockOperation::NonBlockingLockExclusive) else { return Ok(()) };
        let store = self.directory()?;
        let action = || format!("list {}", self.dir.display());
        for entry in std::fs::read_dir(&self.dir).context(action)? {
            let name = entry.context(action)?.file_name();
            if name.as_encoded_bytes().starts_with(b".tmp-")
                && let Ok(name) = CString::new(name.into_encoded_bytes())
            {
                remove_tree(store.as_fd(), &name)?;
            }
        }
        Ok(())
    }

    fn directory(&self) -> Result<OwnedFd> {
        super::staging::open_store(&self.dir)
    }

    fn volume_directory(&self, volume: &Volume) -> Result<OwnedFd> {
        rustix::fs::open(self.dir.join(&volume.name), OPEN_DIR, Mode::empty())
            .context(|| format!("open the volume {}", volume.name))
    }

    fn lock(&self, operation: FlockOperation) -> Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let action = || format!("lock {}", self.dir.display());
        let lock =
            rustix::fs::open(self.dir.join(".lock"), flags, Mode::RUSR | Mode::WUSR).context(action)?;
        loop {
            match rustix::fs::flock(&lock, operation) {
                Err(Errno::INTR) => {}
                result => return result.context(action).map(|()| lock),
            }
        }
    }
}

/// What becomes of a record that a power cut leaves empty: see [`VolumeStore::get`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Record {
    Synced,
    /// Nothing is lost with it.
    Quick,
}

/// A volume for which nothing was asked.
fn plain(name: &str, created: Timestamp) -> Volume {
    Volume {
        version: 1,
        name: name.to_owned(),
        created,
        labels: BTreeMap::new(),
        driver: "local".into(),
        options: BTreeMap::new(),
        anonymous: false,
    }
}

fn no_such(name: &str) -> Error {
    Error::not_found(format!("no such volume: {name}"))
}

/// A whole volume under a temporary name. `_data` is 0755 as docker's: the
/// container's users must get through it.
fn fill(store: BorrowedFd<'_>, temporary: &CString, volume: &Volume, record: Record) -> Result<()> {
    let action = || format!("create the volume {}", volume.name);
    rustix::fs::mkdirat(store, temporary, Mode::RWXU).context(action)?;
    let dir = rustix::fs::openat(store, temporary, OPEN_DIR, Mode::empty()).context(action)?;
    disinherit(&dir, Mode::RWXU).context(action)?;
    rustix::fs::mkdirat(&dir, c"_data", Mode::RWXU).context(action)?;
    let data = rustix::fs::openat(&dir, c"_data", OPEN_DIR, Mode::empty()).context(action)?;
    rustix::fs::fchmod(&data, Mode::from_raw_mode(0o755)).context(action)?;
    let text = serde_json::to_string(volume).context(action)?;
    super::layers::write_note(dir.as_fd(), c"volume.json", &text)?;
    if record == Record::Synced {
        let file = rustix::fs::openat(&dir, c"volume.json", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        rustix::fs::fdatasync(file.context(action)?).context(action)?;
    }
    super::layers::write_note(dir.as_fd(), c"needs-seed", "")
}

/// The marker goes last: until then a crash means that the next container tries
/// again.
fn settle(dir: BorrowedFd<'_>) -> Result<()> {
    match rustix::fs::unlinkat(dir, c"needs-seed", AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error).context(|| "note that a volume is filled"),
    }
}

fn is_empty(directory: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    for entry in rustix::fs::Dir::read_from(directory)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn seed_locked(dir: BorrowedFd<'_>, source: BorrowedFd<'_>, is_unused: bool) -> Result<()> {
    // Of a process that was killed.
    remove_tree(dir, c"_seed")?;
    // The source may be held with O_PATH.
    let source = rustix::fs::openat(source, c".", OPEN_DIR, Mode::empty())
        .context(|| "open the directory of the image")?;
    let data =
        rustix::fs::openat(dir, c"_data", OPEN_DIR, Mode::empty()).context(|| "open the volume's data")?;
    let step = || "list a directory";
    // Another process may have filled it while this one waited for the lock. And
    // an image that has nothing there has no say in a volume that is in use.
    let is_done = !is_empty(data.as_fd()).context(step)?;
    if is_done || !is_unused && is_empty(source.as_fd()).context(step)? {
        return Ok(());
    }
    rustix::fs::mkdirat(dir, c"_seed", Mode::RWXU).context(|| "make a directory")?;
    let seed = rustix::fs::openat(dir, c"_seed", OPEN_DIR, Mode::empty()).context(|| "open a directory")?;
    // In a volume of an earlier release.
    disinherit(&seed, Mode::RWXU).context(|| "protect a directory")?;
    let same = |uid, gid| (uid, gid);
    copy_tree(source.as_fd(), seed.as_fd(), &same)?;
    let step = || "put the copy in its place";
    if !is_unused {
        move_entries(seed.as_fd(), data.as_fd()).context(step)?;
        return copy_attributes(source.as_fd(), data.as_fd(), &same);
    }
    copy_attributes(source.as_fd(), seed.as_fd(), &same)?;
    match rustix::fs::renameat(dir, c"_seed", dir, c"_data") {
        // The user was first.
        Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
        Err(error) => Err(error).context(step),
    }
}

/// What is there already stays.
fn move_entries(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let entries: Vec<_> = rustix::fs::Dir::read_from(from)?.collect::<rustix::io::Result<_>>()?;
    for entry in entries {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match rustix::fs::renameat_with(from, name, to, name, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn store() -> (tempfile::TempDir, VolumeStore) {
        let temp = tempfile::tempdir().expect("tempdir");
        let store = VolumeStore::open(&temp.path().join("volumes")).expect("store");
        (temp, store)
    }

    /// A directory of an image, with a mode of its own.
    fn image(temp: &tempfile::TempDir, content: &str) -> OwnedFd {
        let path = temp.path().join(format!("image-{content}"));
        fs::create_dir(&path).expect("mkdir");
        fs::write(path.join("file"), content).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1770)).expect("chmod");
        rustix::fs::open(path, OPEN_DIR, Mode::empty()).expect("open")
    }

    fn read(store: &VolumeStore, name: &str) -> String {
        fs::read_to_string(store.data_path("v").join(name)).unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn volumes_are_made_found_and_removed() {
        let (_temp, store) = store();
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let made = store.create("v", labels, BTreeMap::new(), false).expect("created");
        assert_eq!(store.get("v").expect("there"), made);
        let again = store.create("v", BTreeMap::new(), BTreeMap::new(), false);
        assert_eq!(again.expect_err("exists").kind(), Kind::Conflict);
        assert_eq!(store.get_or_create("v", true).expect("there"), made);
        let anonymous = VolumeStore::anonymous_name().expect("random");
        assert_eq!(anonymous.len(), 64);
        assert!(store.get_or_create(&anonymous, true).expect("made").anonymous);
        assert_eq!(store.list(&mut Vec::new()).expect("list").len(), 2);
        let in_use = store.remove("v", &|_| Ok(vec!["web".to_owned()])).expect_err("in use");
        assert_eq!((in_use.kind(), in_use.to_string().contains("web")), (Kind::Conflict, true));
        store.remove("v", &|_| Ok(Vec::new())).expect("removed");
        for gone in ["v", "../v", ".lock"] {
            assert_eq!(store.get(gone).expect_err("gone").kind(), Kind::NotFound);
            assert_eq!(store.remove(gone, &|_| Ok(Vec::new())).expect_err("gone").kind(), Kind::NotFound);
        }
        assert!(store.create("../v", BTreeMap::new(), BTreeMap::new(), false).is_err());
    }

    #[test]
    fn what_a_power_cut_leaves_of_a_volume_is_a_volume() {
        let (_temp, store) = store();
        store.get_or_create("v", false).expect("made");
        fs::write(store.data_path("v").join("file"), "mine").expect("write");
        let anonymous = VolumeStore::anonymous_name().expect("random");
        store.get_or_create(&anonymous, true).expect("made");
        store.create("whole", BTreeMap::new(), BTreeMap::new(), false).expect("made");
        let record = |name: &str| store.dir.join(name).join("volume.json");
        for name in ["v", &anonymous] {
            fs::write(record(name), "").expect("emptied");
        }
        let found = store.get_or_create("v", false).expect("there");
        assert_eq!((found.name.as_str(), found.anonymous), ("v", false));
        assert!(found.created > Timestamp::UNIX_EPOCH && found.labels.is_empty());
        assert!(store.get(&anonymous).expect("there").anonymous);
        fs::remove_file(record("v")).expect("removed");
        assert_eq!(read(&store, "file"), "mine");
        assert_eq!(
            store.create("v", BTreeMap::new(), BTreeMap::new(), false).expect_err("there").kind(),
            Kind::Conflict
        );
        // Other damage may hide options.
        fs::write(record("v"), "{\"version\":1").expect("damaged");
        let error = store.get("v").expect_err("damaged");
        assert!(error.kind() == Kind::Invalid && error.to_string().contains("v/volume.json"), "{error}");
        assert!(error.hints()[0].contains("volume rm v"), "{error}");
        let mut notes = Vec::new();
        assert_eq!((store.list(&mut notes).expect("list").len(), notes.len()), (2, 1));
        store.remove("v", &|_| Ok(Vec::new())).expect("removed");
    }

    #[test]
    fn of_many_creators_all_find_the_one_volume() {
        let (_temp, store) = store();
        let volumes: Vec<Volume> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| store.get_or_create("v", false).expect("volume"))).collect();
            threads.into_iter().map(|thread| thread.join().expect("joined")).collect()
        });
        assert!(volumes.iter().all(|volume| *volume == volumes[0]));
        let mut names: Vec<_> =
            fs::read_dir(&store.dir).expect("list").map(|entry| entry.expect("entry").file_name()).collect();
        names.sort();
        assert_eq!(names, [".lock", "v"], "left-overs");
    }

    #[test]
    fn an_empty_volume_is_seeded_with_the_mode_of_the_directory() {
        let (temp, store) = store();
        let volume = store.get_or_create("v", false).expect("volume");
        assert!(store.needs_seed(&volume));
        store.seed(&volume, image(&temp, "one").as_fd()).expect("seeded");
        assert!(!store.needs_seed(&volume));
        assert_eq!(read(&store, "file"), "one");
        let mode = fs::metadata(store.data_path("v")).expect("stat").permissions().mode();
        assert_eq!(mode & 0o7777, 0o1770);
        store.seed(&volume, image(&temp, "two").as_fd()).expect("nothing to do");
        assert_eq!(read(&store, "file"), "one");
    }

    /// A container that has it mounted sees what comes.
    #[test]
    fn a_volume_in_use_that_is_empty_is_seeded_in_its_place() {
        let (temp, store) = store();
        let volume = store.get_or_create("v", false).expect("volume");
        store.keep_empty(&volume).expect("used");
        let inode = |store: &VolumeStore| fs::metadata(store.data_path("v")).expect("stat").ino();
        let before = inode(&store);
        let nothing = temp.path().join("nothing");
        fs::create_dir(&nothing).expect("mkdir");
        fs::set_permissions(&nothing, fs::Permissions::from_mode(0o700)).expect("chmod");
        let nothing = rustix::fs::open(nothing, OPEN_DIR, Mode::empty()).expect("open");
        store.seed(&volume, nothing.as_fd()).expect("nothing to do");
        let mode = |store: &VolumeStore| {
            fs::metadata(store.data_path("v")).expect("stat").permissions().mode() & 0o7777
        };
        assert_eq!(mode(&store), 0o755);
        assert!(store.is_empty(&volume));
        store.seed(&volume, image(&temp, "one").as_fd()).expect("seeded");
        assert_eq!((read(&store, "file"), mode(&store), inode(&store)), ("one".into(), 0o1770, before));
        assert!(!store.is_empty(&volume));
        assert_eq!(fs::read_dir(store.dir.join("v")).expect("list").count(), 2, "the copy is gone");
    }

    /// CVE-2020-1726.
    #[test]
    fn a_volume_with_data_is_never_seeded() {
        let (temp, store) = store();
        let volume = store.get_or_create("v", false).expect("volume");
        fs::write(store.data_path("v").join("file"), "mine").expect("write");
        store.seed(&volume, image(&temp, "image").as_fd()).expect("nothing to do");
        assert_eq!(read(&store, "file"), "mine");
        assert!(!store.needs_seed(&volume));
        let names = fs::read_dir(store.dir.join("v")).expect("list").count();
        assert_eq!(names, 2, "the copy is gone");
    }

    #[test]
    fn a_crash_while_seeding_is_made_good() {
        let (temp, store) = store();
        let volume = store.get_or_create("v", false).expect("volume");
        // Killed in the middle of the copy.
        fs::create_dir(store.dir.join("v/_seed")).expect("mkdir");
        fs::write(store.dir.join("v/_seed/half"), "x").expect("write");
        store.seed(&volume, image(&temp, "whole").as_fd()).expect("seeded");
        assert_eq!(
            (read(&store, "file"), store.data_path("v").join("half").exists()),
            ("whole".into(), false)
        );
        // Killed before the marker went.
        fs::write(store.dir.join("v/needs-seed"), "").expect("write");
        store.seed(&volume, image(&temp, "other").as_fd()).expect("nothing to do");
        assert_eq!(read(&store, "file"), "whole");
        fs::create_dir(store.dir.join(".tmp-dead")).expect("mkdir");
        store.sweep().expect("swept");
        assert!(!store.dir.join(".tmp-dead").exists());
    }
}
