//! Whose the store is: what root of the host must not do to a user's, and what is
//! behind a refusal where its files are another's or another group's.

use crate::dirs::{Dirs, relocation};
use crate::error::{Error, Kind, Result};
use crate::types::idmap::IdMap;
use crate::userns::Account;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Refuses to work as root in the store of a user, where `sudo -E` or a HOME that was
/// kept lead: what root leaves there, the user can neither read nor remove.
///
/// # Errors
/// `Invalid`, with whose it is. Not where `--root` names the place.
pub(super) fn check(dirs: &Dirs) -> Result<()> {
    if !rustix::process::geteuid().is_root() || relocation().root.is_some() {
        return Ok(());
    }
    let by_sudo = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse::<u32>().ok());
    let stores = [(&dirs.data, dirs.images()), (&dirs.state, dirs.containers())];
    for (directory, part) in stores {
        let owner = match owner(&part) {
            Some(owner) => owner,
            // A volume that a container of root's has there may be anybody's.
            None => match directory.ancestors().find_map(owner_of) {
                Some(owner) if by_sudo == Some(owner) => owner,
                _ => continue,
            },
        };
        if owner != 0 {
            let who = name_of(owner);
            return Err(Error::invalid(format!(
                "{} is the store of {who}, and this is root",
                directory.display()
            ))
            .hint(format!("run it as {who}, without sudo: coracle needs no root"))
            .hint("for containers of root's own: sudo -H coracle, or --root DIRECTORY"));
        }
    }
    Ok(())
}

/// Adds to a refusal what the owners of the store say of it.
#[must_use]
pub(crate) fn explain(error: Error) -> Error {
    // Over a monitor comes the text alone.
    let text = error.to_string();
    let failed = |errno, words| error.errno() == Some(errno) || text.ends_with(words);
    let hint = if error.kind() == Kind::NotExecutable {
        None
    } else if failed(libc::EOVERFLOW, "Value too large for defined data type") {
        other_group()
    } else if failed(libc::EACCES, "Permission denied") || failed(libc::EPERM, "Operation not permitted") {
        files_of_root()
    } else {
        None
    };
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// After `newgrp` and `sg` the namespace has another group than the one that all files
/// of the store have: those are then nobody's.
pub(super) fn other_group() -> Option<String> {
    let here = rustix::process::getegid().as_raw();
    let own = outside("/proc/self/gid_map", here)?;
    let uid = outside("/proc/self/uid_map", rustix::process::geteuid().as_raw())?;
    let (data, _) = Dirs::stores().ok()?;
    let seen = std::fs::metadata(data.join("layers")).ok()?.gid();
    let store = match seen {
        seen if seen == here => own,
        seen if own == here => seen,
        // Within the namespace such a group has no number.
        _ => Account::of_host(&uid.to_string())?.gid,
    };
    (store != own).then(|| {
        let store = name_of_group(store);
        format!(
            "you are in the group {} now, and the store belongs to the group {store}: run `newgrp {store}`, or: \
             sg {store} -c \"coracle ...\"",
            name_of_group(own)
        )
    })
}

/// What a `sudo coracle` has left among the files of this user.
fn files_of_root() -> Option<String> {
    let own = rustix::process::geteuid().as_raw();
    let (data, state) = Dirs::stores().ok()?;
    let folders = [
        data.clone(),
        data.join("images"),
        data.join("layers"),
        data.join("volumes"),
        state.clone(),
        state.join("containers"),
        state.join("names"),
    ];
    let beneath = |folder: &PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let entries = folders.iter().flat_map(beneath).map(|entry| entry.path());
    let foreign =
        folders.iter().cloned().chain(entries).find(|path| owner(path).is_some_and(|uid| uid != own))?;
    let uid = outside("/proc/self/uid_map", own)?;
    let gid = outside("/proc/self/gid_map", rustix::process::getegid().as_raw())?;
    Some(format!(
        "{} is not yours, perhaps of a `sudo coracle`: sudo chown -hR --from=root {uid}:{gid} {} {}",
        foreign.display(),
        data.display(),
        state.display()
    ))
}

fn owner(path: &Path) -> Option<u32> {
    std::fs::symlink_metadata(path).ok().map(|meta| meta.uid())
}

fn owner_of(path: &Path) -> Option<u32> {
    std::fs::metadata(path).ok().map(|meta| meta.uid())
}

/// The id on the host, from within the outer namespace too.
fn outside(map: &str, id: u32) -> Option<u32> {
    IdMap::parse_proc(&std::fs::read_to_string(map).ok()?).to_outside(id)
}

fn name_of(uid: u32) -> String {
    Account::of_host(&uid.to_string()).map_or_else(|| format!("the user {uid}"), |account| account.name)
}

fn name_of_group(gid: u32) -> String {
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let name = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == gid.to_string()).then(|| name.to_owned())
    };
    groups.lines().find_map(name).unwrap_or_else(|| gid.to_string())
}
