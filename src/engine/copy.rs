//! `cp`: files between the host and containers, between containers, and as tar
//! streams, by docker's rules.

mod paths;
mod tree;

use super::Engine;
use crate::error::{BestEffort, Error, Result};
use crate::image::compression;
use crate::state::events;
use crate::storage::graft::{self, END_OF_ARCHIVE, Rules};
use crate::storage::live::{self, Clash};
use crate::storage::tar_write::TarWriter;
use crate::storage::{tar_in, tar_out};
use crate::types::container::ContainerRecord;
use crate::types::id::ContainerId;
use crate::types::status::Status;
use paths::{Found, Target, readable};
use rustix::fs::FileType;
use std::ffi::CString;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use tree::{Inside, Tree};

/// One end of a copy, as the command line says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Host(String),
    Container { word: String, path: String },
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CopyOptions {
    /// `-a`: owners are kept.
    pub(crate) archive: bool,
    /// `-L`: a link that is the source is followed.
    pub(crate) follow: bool,
    /// `--pause`: the containers do not go on meanwhile.
    pub(crate) pause: bool,
    /// `--overwrite`: directories are replaced by files and the other way round.
    pub(crate) overwrite: bool,
}

impl Engine {
    /// Copies a file or a directory. Returns the bytes that it is as a tar
    /// archive, which is what docker tells.
    ///
    /// # Errors
    /// `NotFound` for a source, a container, or a destination's directory;
    /// `Conflict` where file and directory are in each other's way, and for what
    /// is read-only.
    pub(crate) fn copy(&self, from: &End, to: &End, options: CopyOptions) -> Result<u64> {
        let _held = self.hold(&[from, to], options.pause)?;
        let (source, destination) = self.both_ends(from, to)?;
        let found = source_at(&source, from, options.follow)?;
        let target = target_at(&destination, to, &found, options)?;
        if let Some(inside) = source.inside() {
            note(self, &inside.record, "archive-path", from);
        }
        let owner = |uid, gid| owner_of_copy(&source, &destination, options.archive, (uid, gid));
        let rules = Rules {
            owner: &owner,
            clash: if options.overwrite { Clash::Replace } else { Clash::Refuse },
            capabilities: options.archive || destination.inside().is_some(),
        };
        let bytes = place(found, target, &rules).map_err(|error| marked_read_only(&destination, error))?;
        if let Some(inside) = destination.inside() {
            note(self, &inside.record, "extract-to-dir", to);
        }
        Ok(bytes.saturating_add(END_OF_ARCHIVE))
    }

    /// Writes a container's file or directory to a stream.
    pub(crate) fn copy_out(&self, from: &End, out: &mut dyn Write, options: CopyOptions) -> Result<()> {
        let _held = self.hold(&[from], options.pause)?;
        let source = self.tree(from)?;
        let found = source_at(&source, from, options.follow)?;
        let owner = |uid, gid| source.inside().map_or((uid, gid), |inside| inside.inner_owner(uid, gid));
        if let Some(inside) = source.inside() {
            note(self, &inside.record, "archive-path", from);
        }
        let mut tar = TarWriter::new(out);
        match found {
            Found::Directory { directory, name, .. } => {
                tar_out::directory(directory, &name, &mut tar, &owner)?;
            }
            Found::Other { parent, at, name } => {
                tar_out::file((parent.as_fd(), &at), &name, &mut tar, &owner)?;
            }
        }
        tar.finish().map(drop)
    }

    /// Unpacks a stream, compressed or not, in a container's directory.
    ///
    /// # Errors
    /// `Invalid` for what is no archive.
    pub(crate) fn copy_in(&self, input: &mut dyn Read, to: &End, options: CopyOptions) -> Result<()> {
        let _held = self.hold(&[to], options.pause)?;
        let destination = self.tree(to)?;
        let Tree::Container(inside) = &destination else {
            return Err(Error::invalid("must specify at least one container source"));
        };
        let path = path_of(to)?;
        let looked = paths::look(&destination, &path).map_err(|error| error.context(shown(to)))?;
        let Target::Directory(directory) = looked else {
            return Err(Error::conflict(format!("destination {:?} must be a directory", shown(to))));
        };
        inside.check_writable(directory.as_fd())?;
        // Where the archive names no owner that there is, it is root's.
        let owner = |uid, gid| inside.outer_owner(uid, gid);
        let clash = if options.overwrite { Clash::Replace } else { Clash::Refuse };
        let rules = Rules { owner: &owner, clash, capabilities: true };
        let (_, mut unpacked) = compression::decoder(input)?;
        tar_in::extract(inside.root(), &path, &mut unpacked, &rules)
            .map_err(|error| marked_read_only(&destination, error))?;
        note(self, &inside.record, "extract-to-dir", to);
        Ok(())
    }

    /// Pauses the containers among `ends` that run, where that was asked for.
    fn hold(&self, ends: &[&End], pause: bool) -> Result<Vec<Held<'_>>> {
        let mut held = Vec::new();
        for end in ends {
            let End::Container { word, .. } = end else { continue };
            let id = self.resolve(word)?;
            // The second end of one container finds it paused.
            if pause && matches!(self.snapshot(&id)?.status, Status::Running { paused: false, .. }) {
                self.pause(&id)?;
                held.push(Held { engine: self, id });
            }
        }
        Ok(held)
    }

    /// Both ends. A container that is both is one tree, and those of two are
    /// opened in the order of their ids, as both may be locked.
    fn both_ends(&self, from: &End, to: &End) -> Result<(Rc<Tree>, Rc<Tree>)> {
        let id = |end: &End| match end {
            End::Host(_) => Ok(None),
            End::Container { word, .. } => self.resolve(word).map(Some),
        };
        let (source, destination) = (id(from)?, id(to)?);
        if source.is_none() && destination.is_none() {
            return Err(Error::invalid("must specify at least one container source"));
        }
        if source == destination {
            let tree = Rc::new(self.tree(from)?);
            return Ok((Rc::clone(&tree), tree));
        }
        if source.as_ref().map(ContainerId::as_str) <= destination.as_ref().map(ContainerId::as_str) {
            let source = Rc::new(self.tree(from)?);
            return Ok((source, Rc::new(self.tree(to)?)));
        }
        let destination = Rc::new(self.tree(to)?);
        Ok((Rc::new(self.tree(from)?), destination))
    }

    fn tree(&self, end: &End) -> Result<Tree> {
        match end {
            End::Host(_) => {
                // Files that belong to other ids of the user.
                self.enter()?;
                Ok(Tree::Host)
            }
            End::Container { word, .. } => {
                Ok(Tree::Container(Box::new(self.files_of(&self.resolve(word)?)?)))
            }
        }
    }
}

fn source_at(tree: &Tree, end: &End, follow: bool) -> Result<Found> {
    let missing = |errno: Option<i32>| matches!(errno, Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP));
    paths::find(tree, &path_of(end)?, follow).map_err(|error| match end {
        End::Container { path, .. } if missing(error.errno()) => no_such_file(path, tree.inside()),
        End::Container { .. } => error.context(shown(end)),
        End::Host(path) if error.errno() == Some(libc::ENOENT) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
            Error::not_found(format!("lstat {}: no such file or directory", path.display()))
        }
        End::Host(path) => error.context(path.clone()),
    })
}

fn target_at(tree: &Tree, end: &End, found: &Found, options: CopyOptions) -> Result<Spot> {
    let looked = paths::look(tree, &path_of(end)?).map_err(|error| error.context(shown(end)))?;
    let is_directory = matches!(found, Found::Directory { .. });
    let spot = match looked {
        Target::Directory(directory) => Spot::Into(readable(&directory)?),
        Target::Other { kind: FileType::CharacterDevice | FileType::BlockDevice, .. } => {
            let what = "must be a directory or a regular file: got a device";
            return Err(Error::invalid(match end {
                End::Host(path) => format!("invalid output path: {path:?} {what}"),
                End::Container { .. } => format!("destination {:?} {what}", shown(end)),
            }));
        }
        // As /dev/stdout, which leads to a pipe that no directory has.
        Target::Missing { .. } if matches!(end, End::Host(path) if std::fs::metadata(path).is_ok()) => {
            return Err(Error::invalid(format!(
                "invalid output path: {:?} must be a directory or a regular file",
                shown(end)
            ))
            .hint("`-` writes a tar archive to stdout"));
        }
        Target::Other { .. } if is_directory && !options.overwrite => {
            return Err(Error::conflict("cannot copy directory").context(shown(end)));
        }
        Target::Missing { said: true, .. } if !is_directory => {
            return Err(Error::conflict("no such directory").context(shown(end)));
        }
        Target::Other { parent, at, .. } | Target::Missing { parent, at, .. } => Spot::As(parent, at),
        Target::Lost => return Err(no_directory(tree, end)),
    };
    if let (Some(inside), Spot::Into(directory) | Spot::As(directory, _)) = (tree.inside(), &spot) {
        inside.check_writable(directory.as_fd())?;
    }
    Ok(spot)
}

/// A container that was paused for a copy, and goes on when this is dropped.
struct Held<'a> {
    engine: &'a Engine,
    id: ContainerId,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // It may have been killed meanwhile, or told to go on.
        self.engine.unpause(&self.id).or_ignore();
    }
}

/// Where a copy is made.
enum Spot {
    /// Under its own name in this directory.
    Into(OwnedFd),
    /// Under this name.
    As(OwnedFd, CString),
}

fn place(found: Found, spot: Spot, rules: &Rules<'_>) -> Result<u64> {
    let c_name = |name: Vec<u8>| CString::new(name).map_err(|_| Error::invalid("a NUL byte in a path"));
    match (found, spot) {
        (Found::Directory { directory, contents: true, .. }, Spot::Into(into)) => {
            graft::directory(directory, into, false, rules)
        }
        (Found::Directory { directory, name, .. }, Spot::Into(into)) => {
            let (copy, _) = live::directory(into.as_fd(), &c_name(name)?, rules.clash)?;
            graft::directory(directory, copy, true, rules)
        }
        (Found::Directory { directory, .. }, Spot::As(parent, name)) => {
            let (copy, _) = live::directory(parent.as_fd(), &name, rules.clash)?;
            graft::directory(directory, copy, true, rules)
        }
        (Found::Other { parent, at, name }, Spot::Into(into)) => {
            graft::file((parent.as_fd(), &at), (into.as_fd(), &c_name(name)?), rules)
        }
        (Found::Other { parent, at, .. }, Spot::As(into, name)) => {
            graft::file((parent.as_fd(), &at), (into.as_fd(), &name), rules)
        }
    }
}

/// The owner of the copy of a file, as the outer namespace names owners; `None`
/// for whoever makes it.
fn owner_of_copy(source: &Tree, destination: &Tree, archive: bool, ids: (u32, u32)) -> Option<(u32, u32)> {
    let (uid, gid) = ids;
    match (source, destination) {
        (_, Tree::Container(inside)) if !archive => inside.root_owner(),
        (Tree::Container(inside), Tree::Host) => {
            if archive {
                inside.known_owner(uid, gid)
            } else {
                None
            }
        }
        (Tree::Host, Tree::Container(inside)) => inside.kept_owner(uid, gid),
        (Tree::Container(from), Tree::Container(to)) => {
            let (uid, gid) = from.inner_owner(uid, gid);
            to.outer_owner(uid, gid)
        }
        (Tree::Host, Tree::Host) => None,
    }
}

fn note(engine: &Engine, record: &ContainerRecord, action: &str, end: &End) {
    let End::Container { path, .. } = end else { return };
    let event = events::of_container(record, action).with("path", path.clone());
    events::append(&engine.dirs, &event).or_ignore();
}

/// Docker's words where a read-only mount is met on the way.
fn marked_read_only(tree: &Tree, error: Error) -> Error {
    match tree.inside() {
        Some(_) if error.errno() == Some(libc::EROFS) => {
            Error::conflict("mounted volume is marked read-only")
        }
        _ => error,
    }
}

fn no_such_file(path: &str, inside: Option<&Inside>) -> Error {
    let name = inside.map(|inside| inside.record.name.as_str()).unwrap_or_default();
    Error::not_found(format!("Could not find the file {path} in container {name}"))
}

/// The directory that is to hold the copy is not there.
fn no_directory(tree: &Tree, end: &End) -> Error {
    let (End::Host(path) | End::Container { path, .. }) = end;
    let clean = path.trim_end_matches(['/', '.']);
    let parent = match clean.rfind('/') {
        Some(0) => "/",
        Some(at) => &clean[..at],
        None => ".",
    };
    match end {
        End::Host(_) => Error::not_found(format!("invalid output path: directory {parent:?} does not exist")),
        End::Container { .. } => no_such_file(parent, tree.inside()),
    }
}

fn path_of(end: &End) -> Result<Vec<u8>> {
    match end {
        End::Host(path) => Ok(path.clone().into_bytes()),
        End::Container { path, .. } => paths::of_container(path),
    }
}

/// As it was typed.
fn shown(end: &End) -> String {
    match end {
        End::Host(path) => path.clone(),
        End::Container { word, path } => format!("{word}:{path}"),
    }
}
