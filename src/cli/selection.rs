//! Which containers a command is for: those named, or podman's `--all`,
//! `--latest`, `--cidfile`, `--filter`, `--ignore`.

use super::ui;
use super::usage::nothing_named;
use crate::engine::list::{Container, Filters, Selection, select};
use crate::engine::{Engine, id_file};
use crate::error::{Error, Kind, Result};
use crate::types::id::ContainerId;
use jiff::Timestamp;
use std::path::{Path, PathBuf};

/// What the flags ask for.
#[derive(Debug, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) names: &'a [String],
    pub(crate) all: bool,
    pub(crate) latest: bool,
    pub(crate) cidfiles: &'a [PathBuf],
    pub(crate) filters: &'a [String],
    /// What does not exist is no error.
    pub(crate) ignore: bool,
}

/// A container of the command: as its user named it, and its id.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) word: String,
    /// Why there is none, where there is none.
    pub(crate) id: Result<ContainerId>,
}

impl Wanted<'_> {
    /// Whether the flags choose, and not names.
    pub(crate) fn is_by_flags(&self) -> bool {
        self.all || self.latest || !self.filters.is_empty()
    }

    /// The containers that are wanted: named ones in the order of the names,
    /// with `--all` and `--filter` those that `eligible` accepts.
    ///
    /// # Errors
    /// `Invalid` where the flags contradict each other or choose nothing.
    pub(crate) fn targets(
        &self,
        engine: &Engine,
        command: &str,
        eligible: &dyn Fn(&Container) -> bool,
    ) -> Result<Vec<Target>> {
        self.check(command)?;
        if self.latest {
            let newest = engine.newest()?;
            return Ok(vec![Target { word: newest.to_string(), id: Ok(newest) }]);
        }
        let named = !self.names.is_empty() || !self.cidfiles.is_empty();
        if self.is_by_flags() && !named {
            let filters = Filters::parse(self.filters, Timestamp::now())?;
            let mut notes = Vec::new();
            let containers = engine.containers(false, &mut notes)?;
            ui::warnings(&notes);
            let selection = Selection { all: true, last: None, filters };
            let chosen = select(containers, &selection)?.into_iter().filter(|one| eligible(one));
            let target = |one: Container| Target { word: one.record.id.to_string(), id: Ok(one.record.id) };
            return Ok(chosen.map(target).collect());
        }
        let mut words = Vec::new();
        for path in self.cidfiles {
            match read_id("cidfile", path) {
                Ok(word) => words.push(word),
                Err(error) if self.ignore && error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        words.extend(self.names.iter().cloned());
        let target = |word: String| Target { id: engine.resolve(&word), word };
        let known = |target: &Target| {
            !(self.ignore && target.id.as_ref().is_err_and(|error| error.kind() == Kind::NotFound))
        };
        let targets: Vec<Target> = words.into_iter().map(target).filter(known).collect();
        if self.filters.is_empty() { Ok(targets) } else { self.filtered(engine, targets) }
    }

    /// Podman: with names as well, filters choose among those.
    fn filtered(&self, engine: &Engine, mut targets: Vec<Target>) -> Result<Vec<Target>> {
        let filters = Filters::parse(self.filters, Timestamp::now())?;
        let selection = Selection { all: true, last: None, filters };
        let chosen = select(engine.containers(false, &mut Vec::new())?, &selection)?;
        targets.retain(|target| match &target.id {
            Ok(id) => chosen.iter().any(|container| container.record.id == *id),
            Err(_) => true,
        });
        Ok(targets)
    }

    fn check(&self, command: &str) -> Result<()> {
        let choice = Choice {
            named: !self.names.is_empty() || !self.cidfiles.is_empty(),
            all: self.all,
            latest: self.latest,
            filtered: !self.filters.is_empty(),
        };
        choice.check(command, "containers")
    }
}

/// By what a command's things are chosen.
pub(super) struct Choice {
    /// By their names, or the files with their ids.
    pub(super) named: bool,
    pub(super) all: bool,
    pub(super) latest: bool,
    pub(super) filtered: bool,
}

impl Choice {
    /// # Errors
    /// `Invalid` where the flags contradict each other or choose nothing.
    pub(super) fn check(&self, command: &str, things: &str) -> Result<()> {
        let flag = match () {
            () if self.latest && self.all => {
                return Err(Error::usage("--all and --latest cannot be used together"));
            }
            () if self.latest && self.filtered => {
                return Err(Error::usage("--latest and --filter cannot be used together"));
            }
            () if self.latest => "--latest",
            () if self.all => "--all",
            () if self.named || self.filtered => return Ok(()),
            () => return Err(nothing_named(command)),
        };
        if self.named && command == "start" && flag == "--all" {
            return Err(Error::usage(
                "either start all containers or the container(s) provided in the arguments",
            ));
        }
        if self.named {
            return Err(Error::usage(format!("{flag} and {things} by name cannot be used together"))
                .hint(format!("leave out {flag} or the names")));
        }
        Ok(())
    }
}

/// The id in a file that a command which made it wrote, as `run --cidfile` does.
pub(super) fn read_id(what: &str, path: &Path) -> Result<String> {
    let text = id_file::text(what, path).map_err(|error| match (what, error.kind()) {
        ("cidfile", Kind::NotFound) => {
            Error::not_found(format!("reading CIDFile: open {}: no such file or directory", path.display()))
        }
        _ => error,
    })?;
    match text.lines().next().map(str::trim) {
        Some(word) if !word.is_empty() => Ok(word.to_owned()),
        _ => Err(Error::invalid(format!("the {what} {} is empty", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_names_do_not_mix() {
        let names = ["web".to_owned()];
        let cidfiles = [PathBuf::from("/x")];
        let filters = ["name=a".to_owned()];
        let check = |wanted: Wanted<'_>| wanted.check("stop").map_err(|error| error.to_string());
        assert!(check(Wanted { names: &names, ..Wanted::default() }).is_ok());
        assert!(check(Wanted { cidfiles: &cidfiles, ..Wanted::default() }).is_ok());
        assert!(check(Wanted { filters: &filters, names: &names, ..Wanted::default() }).is_ok());
        assert!(check(Wanted { all: true, filters: &filters, ..Wanted::default() }).is_ok());
        assert_eq!(
            check(Wanted::default()).expect_err("nothing"),
            "'coracle stop' requires at least 1 argument"
        );
        for (wanted, text) in [
            (Wanted { all: true, latest: true, ..Wanted::default() }, "--all and --latest"),
            (Wanted { all: true, names: &names, ..Wanted::default() }, "--all and containers"),
            (Wanted { latest: true, cidfiles: &cidfiles, ..Wanted::default() }, "--latest and containers"),
            (Wanted { latest: true, filters: &filters, ..Wanted::default() }, "--latest and --filter"),
        ] {
            assert!(check(wanted).expect_err("wrong").starts_with(text), "{text}");
        }
    }

    #[test]
    fn a_cidfile_holds_one_word() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("cid");
        std::fs::write(&path, "abc\n").expect("write");
        assert_eq!(read_id("cidfile", &path).expect("read"), "abc");
        std::fs::write(&path, "\n").expect("write");
        assert!(read_id("cidfile", &path).is_err());
        assert_eq!(read_id("cidfile", &dir.path().join("none")).expect_err("none").kind(), Kind::NotFound);
    }
}
