//! Where everything lives: one folder a lifetime (XDG base directory spec).

use crate::error::{BestEffort, Context, Error, Result, Trouble};
use crate::sys::process::start_ticks;
use crate::types::id::ContainerId;
use rustix::fs::{Access, Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The folders of one user. Nothing in them is accessible to others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Dirs {
    /// `$XDG_CONFIG_HOME/coracle`: the user's settings.
    pub(crate) config: PathBuf,
    /// `$XDG_DATA_HOME/coracle`: images, layers, volumes.
    pub(crate) data: PathBuf,
    /// `$XDG_STATE_HOME/coracle`: containers, names.
    pub(crate) state: PathBuf,
    /// `$XDG_CACHE_HOME/coracle`: may be deleted at any time.
    pub(crate) cache: PathBuf,
    /// `$XDG_RUNTIME_DIR/coracle`: until the next boot.
    pub(crate) runtime: PathBuf,
}

/// Where the command line puts things instead (`--root`, `--runroot`, `--config`).
#[derive(Clone, Debug, Default)]
pub(crate) struct Relocation {
    /// Images, layers and volumes; below its `state`, containers.
    pub(crate) root: Option<PathBuf>,
    pub(crate) runroot: Option<PathBuf>,
    /// The directory of docker's `config.json`.
    pub(crate) docker_config: Option<PathBuf>,
}

static RELOCATION: OnceLock<Relocation> = OnceLock::new();

/// Says where things are for the rest of this process: once, before anything
/// asks. A monitor is told its folders by who starts it.
pub(crate) fn relocate(relocation: Relocation) {
    RELOCATION.get_or_init(|| relocation);
}

/// What [`relocate`] has said.
pub(crate) fn relocation() -> Relocation {
    RELOCATION.get().cloned().unwrap_or_default()
}

impl Dirs {
    /// All of them below one directory, for tests. Nothing is made.
    #[cfg(test)]
    pub(crate) fn beneath(directory: &Path) -> Self {
        let at = |name: &str| directory.join(name);
        Self {
            config: at("config"),
            data: at("data"),
            state: at("state"),
            cache: at("cache"),
            runtime: at("run"),
        }
    }

    /// From the environment of this process. Call before a user namespace is
    /// entered: `uid` is the user's id on the host.
    ///
    /// # Errors
    /// `Invalid` where there is no home directory; `Failed` where the runtime
    /// directory cannot be made or belongs to someone else.
    pub(crate) fn from_environment(uid: u32) -> Result<Self> {
        let (data, state) = Self::stores()?;
        Ok(Self {
            config: base("XDG_CONFIG_HOME", ".config")?,
            data,
            state,
            cache: base("XDG_CACHE_HOME", ".cache")?,
            runtime: relocation().runroot.map_or_else(|| runtime_dir(uid), Ok)?,
        })
    }

    /// The folders of images and of containers, `data` and `state`, alone.
    ///
    /// # Errors
    /// `Invalid` where there is no home directory.
    pub(crate) fn stores() -> Result<(PathBuf, PathBuf)> {
        Ok(match relocation().root {
            Some(root) => (root.clone(), root.join("state")),
            None => (base("XDG_DATA_HOME", ".local/share")?, base("XDG_STATE_HOME", ".local/state")?),
        })
    }

    /// The OCI image layout.
    pub(crate) fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.data.join("layers")
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.state.join("containers")
    }

    /// One file a name, which holds the id.
    pub(crate) fn names(&self) -> PathBuf {
        self.state.join("names")
    }

    pub(crate) fn pods(&self) -> PathBuf {
        self.state.join("pods")
    }

    /// The event log.
    pub(crate) fn events(&self) -> PathBuf {
        self.state.join("events")
    }

    /// What `create` and the monitor keep of one container.
    pub(crate) fn container(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(id.as_str())
    }

    /// What a running container has until the next boot: its short id, so that
    /// the socket below it stays within the 108 bytes of unix(7).
    pub(crate) fn container_runtime(&self, id: &ContainerId) -> PathBuf {
        self.runtime.join(id.short())
    }
}

/// Our directory in the one that the variable names, or that the specification gives
/// below the home directory. Only HOME says where that is: to ask the C library may
/// crash a static program (`registry::names`).
fn base(variable: &str, default: &str) -> Result<PathBuf> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // A relative one is to be ignored.
    if let Some(base) = named(variable).filter(|base| base.is_absolute()) {
        return Ok(base.join("coracle"));
    }
    match named("HOME") {
        Some(home) if home.is_absolute() => Ok(home.join(default).join("coracle")),
        // It would be another one for each working directory, the monitor's for one.
        Some(home) => Err(Error::invalid(format!("HOME={} is not an absolute path", home.display()))
            .hint("set HOME to the whole path of your home directory")),
        None => Err(Error::invalid("no home directory").hint(format!("set HOME or {variable}"))),
    }
}

/// Makes `path` and its missing parents, each 0700 whatever the umask and whatever
/// a directory above it would have it inherit.
pub(crate) fn create_private(path: &Path) -> Result<()> {
    // The parent of a relative name is the empty path.
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_private(parent)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        result => {
            let step = || format!("make the directory {}", path.display());
            result.context(step).see_doctor(Trouble::Folders)?;
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let new = rustix::fs::open(path, flags, Mode::empty()).context(step)?;
            disinherit(&new, Mode::RWXU).context(step)
        }
    }
}

/// Gives a directory that was just made `mode` and the own group, and nothing of its
/// parent: below one with the set-group-id bit it has the parent's group, which a user
/// namespace need not know, and below one with a default ACL that ACL, which would
/// decide over the modes of all files of a container.
///
/// # Errors
/// That of chmod(2). A file system that changes no groups is left as it is.
pub(crate) fn disinherit(new: impl AsFd, mode: Mode) -> rustix::io::Result<()> {
    for acl in [c"system.posix_acl_default", c"system.posix_acl_access"] {
        // None is there, as a rule.
        rustix::fs::fremovexattr(&new, acl).or_ignore();
    }
    let own = rustix::process::getegid();
    if rustix::fs::fstat(&new)?.st_gid != own.as_raw() {
        rustix::fs::fchown(&new, None, Some(own)).or_ignore();
    }
    rustix::fs::fchmod(&new, mode)
}

/// `$XDG_RUNTIME_DIR/coracle`; without the variable, or where it is another's,
/// `/run/user/UID` if that is ours; else a directory of our own under `/tmp`. Where others
/// may write, as in `XDG_RUNTIME_DIR=/tmp`, ours is checked for owner and mode.
fn runtime_dir(uid: u32) -> Result<PathBuf> {
    let of_session = PathBuf::from(format!("/run/user/{uid}"));
    let named = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
    if let Some(own) = named.filter(|dir| *dir != of_session).and_then(|dir| below_named(&dir, uid)) {
        return Ok(own);
    }
    let fallback = fallback_runtime_dir(uid);
    let has_session = std::fs::metadata(&of_session).is_ok_and(|meta| meta.uid() == uid);
    if has_session && !is_in_use(&fallback, uid) {
        return Ok(of_session.join("coracle"));
    }
    check_own(&fallback, uid)?;
    Ok(fallback)
}

/// Our directory in one that was named, if it can be used and trusted: where others may
/// write it must be ours itself.
fn below_named(dir: &Path, uid: u32) -> Option<PathBuf> {
    let meta = std::fs::metadata(dir).ok().filter(std::fs::Metadata::is_dir)?;
    let own = dir.join("coracle");
    if meta.uid() == uid && meta.mode() & 0o022 == 0 {
        return Some(own);
    }
    // Another's that is closed: so it is after a `su` that kept the variables of who called it.
    let closed = meta.uid() != uid && rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK).is_err();
    (!closed && check_own(&own, uid).is_ok()).then_some(own)
}

/// Whether containers run there that were started while the user had no session,
/// by cron say: whoever logs in meanwhile must find them, and not take them for
/// lost. In `outer` each of their monitors has a file, `<pid>-<start time>`.
fn is_in_use(fallback: &Path, uid: u32) -> bool {
    let Ok(entries) = std::fs::read_dir(fallback.join("outer")) else { return false };
    let lives = |name: &str| {
        let (pid, start) = name.split_once('-')?;
        Some(start_ticks(pid.parse().ok()?)? == start.parse::<u64>().ok()?)
    };
    // It may be another's trap: then nothing in it counts.
    check_own(fallback, uid).is_ok()
        && entries.flatten().any(|entry| entry.file_name().to_str().and_then(lives) == Some(true))
}

/// What serves where nothing better is there.
pub(crate) fn fallback_runtime_dir(uid: u32) -> PathBuf {
    PathBuf::from(format!("/tmp/coracle-{uid}"))
}

/// Where it lies may be everybody's, as `/tmp` is: what is there under our name may be a trap.
fn check_own(path: &Path, uid: u32) -> Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).context(|| format!("make the directory {}", path.display()));
        }
        _ => {}
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).context(|| format!("open {}", path.display()))?;
    let stat = rustix::fs::fstat(&fd).context(|| format!("look at {}", path.display()))?;
    if stat.st_uid == uid && stat.st_mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(Error::failed(format!("{} belongs to someone else or is open to others", path.display()))
            .hint("set XDG_RUNTIME_DIR to a directory of your own with mode 0700")
            .see_doctor(Trouble::Folders))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_lies_where_others_may_write_is_used_only_if_it_is_ours_alone() {
        let place = tempfile::tempdir().expect("a directory");
        let uid = rustix::process::getuid().as_raw();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("changed");
        };
        let own = place.path().join("coracle");
        assert_eq!(below_named(place.path(), uid), Some(own.clone()));
        assert!(!own.exists(), "made when it is needed");
        mode(place.path(), 0o777);
        assert_eq!(below_named(place.path(), uid), Some(own.clone()));
        assert_eq!(std::fs::metadata(&own).expect("made").mode() & 0o777, 0o700);
        mode(&own, 0o777);
        assert_eq!(below_named(place.path(), uid), None, "a trap");
        std::fs::remove_dir(&own).expect("removed");
        std::os::unix::fs::symlink("/tmp", &own).expect("made");
        assert_eq!(below_named(place.path(), uid), None, "a trap");
        assert_eq!(below_named(&place.path().join("none"), uid), None);
    }

    #[test]
    fn a_folder_is_in_use_as_long_as_one_of_its_monitors_lives() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("coracle-1");
        create_private(&path.join("outer")).expect("made");
        let uid = rustix::process::getuid().as_raw();
        let (pid, start) = (std::process::id(), start_ticks(std::process::id()).expect("this process"));
        for stale in ["1-x".to_owned(), "nonsense".to_owned(), format!("{pid}-{}", start + 1)] {
            std::fs::write(path.join("outer").join(stale), "").expect("written");
        }
        assert!(!is_in_use(&path, uid));
        std::fs::write(path.join("outer").join(format!("{pid}-{start}")), "").expect("written");
        assert!(is_in_use(&path, uid));
        assert!(!is_in_use(&path, uid + 1), "another's is a trap");
        assert!(!is_in_use(&place.path().join("coracle-2"), uid) && !place.path().join("coracle-2").exists());
    }
}
