//! The operations that every front end calls: one file each.
//!
//! An [`Engine`] is opened per command. What needs to own files of other ids or
//! to start a container calls [`Engine::enter`] first, which puts this process
//! into the user's outer namespace, in place: so it has one thread until then.

pub(crate) mod artifacts;
pub(crate) mod attach;
pub(crate) mod check;
pub(crate) mod clone;
pub(crate) mod commit;
pub(crate) mod completion;
pub(crate) mod control;
pub(crate) mod copy;
pub(crate) mod create;
pub(crate) mod diff;
pub(crate) mod disk;
pub(crate) mod doctor;
pub(crate) mod driver;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod export;
mod fill;
pub(crate) mod health;
pub(crate) mod id_file;
pub(crate) mod image_tree;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod info;
pub(crate) mod inspect;
pub(crate) mod instruction;
pub(crate) mod list;
pub(crate) mod list_inspect;
pub(crate) mod lists;
pub(crate) mod load;
pub(crate) mod login;
mod logout;
pub(crate) mod logs;
pub(crate) mod merge;
pub(crate) mod mount;
pub(crate) mod names;
pub(crate) mod networks;
pub(crate) mod orphans;
pub(crate) mod overlay;
pub(crate) mod owners;
pub(crate) mod pause;
pub(crate) mod pods;
pub(crate) mod ports;
pub(crate) mod prepare;
pub(crate) mod prune;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod registry_access;
pub(crate) mod remove;
pub(crate) mod rmi;
pub(crate) mod save;
pub(crate) mod search;
pub(crate) mod secrets;
pub(crate) mod serve;
mod silent;
mod spread;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod stop;
pub(crate) mod top;
pub(crate) mod trees;
pub(crate) mod volume_archive;
pub(crate) mod volumes;
pub(crate) mod wait;

#[cfg(test)]
mod image_tests;

use crate::config::{self, Config};
use crate::dirs::Dirs;
use crate::error::{Result, Trouble};
use crate::state::store::Store;
use crate::storage::unpack::Ownership;
use crate::types::id::ContainerId;
use crate::userns::{self, Extent, Outer};
use rustix::fs::Mode;
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;

/// One user's containers, images and volumes.
pub(crate) struct Engine {
    pub(crate) dirs: Dirs,
    pub(crate) store: Store,
    outer: OnceCell<Outer>,
    settings: OnceCell<Config>,
    /// Containers that were told to end, since when, and are waited for one after the other.
    stopping: RefCell<BTreeMap<ContainerId, stop::Begun>>,
    /// How what has to be pulled is.
    registry: registry_access::RegistryOptions,
}

impl Engine {
    pub(crate) fn open() -> Result<Self> {
        // Whatever the umask: what is made here can be read again by its owner.
        let umask = rustix::process::umask(Mode::from_raw_mode(0o077));
        rustix::process::umask(umask & Mode::from_raw_mode(0o077));
        let dirs = Dirs::from_environment(rustix::process::getuid().as_raw())?;
        owners::check(&dirs)?;
        Ok(Self {
            store: Store::new(dirs.clone()),
            dirs,
            outer: OnceCell::new(),
            settings: OnceCell::new(),
            stopping: RefCell::default(),
            registry: registry_access::RegistryOptions::default(),
        })
    }

    /// As [`Engine::open`], for who may have to pull an image.
    pub(crate) fn with_registry(options: registry_access::RegistryOptions) -> Result<Self> {
        let mut engine = Self::open()?;
        engine.registry = options;
        Ok(engine)
    }

    /// The user's settings, read by the first who asks.
    ///
    /// # Errors
    /// `Invalid` with file and line for what is no setting.
    fn settings(&self) -> Result<&Config> {
        if let Some(settings) = self.settings.get() {
            return Ok(settings);
        }
        let settings = config::read(&self.dirs.config)?;
        Ok(self.settings.get_or_init(|| settings))
    }

    /// Puts this process into the user's outer namespace, once.
    pub(crate) fn enter(&self) -> Result<&Outer> {
        if let Some(outer) = self.outer.get() {
            return Ok(outer);
        }
        let outer = userns::enter(&self.dirs.runtime)?;
        Ok(self.outer.get_or_init(|| outer))
    }

    /// Stays where this process is, so that what it mounts is seen by those
    /// who share its mount namespace (`coracle unshare`).
    ///
    /// # Errors
    /// `Invalid` where it has no power over its mounts.
    pub(crate) fn stay(&self) -> Result<&Outer> {
        let outer = userns::stay()?;
        Ok(self.outer.get_or_init(|| outer))
    }

    /// Enters the namespace and says how files of an image are to be owned there.
    pub(crate) fn ownership(&self) -> Result<Ownership> {
        Ok(match self.enter()?.extent {
            Extent::Single { .. } => Ownership::Squash,
            Extent::Ranges | Extent::Privileged | Extent::Inherited if self.enter()?.uid_map.count() == 1 => {
                Ownership::Squash
            }
            Extent::Ranges | Extent::Privileged | Extent::Inherited => Ownership::Keep,
        })
    }

    /// What the user should know of the namespace that this command made.
    pub(crate) fn limits(&self) -> Option<String> {
        match self.outer.get() {
            Some(Outer { created: true, extent: Extent::Single { reason }, .. }) => Some(format!(
                "{reason}; running with a single id: files keep no other owner ({})",
                Trouble::Ids.pointer()
            )),
            _ => None,
        }
    }

    /// The id of the container with this name, id or beginning of an id.
    pub(crate) fn resolve(&self, word: &str) -> Result<ContainerId> {
        self.store.resolve(word)
    }
}

impl Drop for Engine {
    /// This command is no longer one through which others find the namespace.
    fn drop(&mut self) {
        if self.outer.get().is_some_and(|outer| outer.created) {
            use crate::error::BestEffort;
            userns::unregister_holder(&self.dirs.runtime).or_ignore();
        }
    }
}
