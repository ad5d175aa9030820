//! The user of a container in its `/etc/passwd` and `/etc/group`, where the image
//! does not know it: `keep-id` brings one of the host's, `--user 1234` one of
//! nobody's, and a program that looks itself up is to find something.
//!
//! The lines are written into the container's own files, so that `adduser` there
//! goes on from them (a file that is a mount cannot be replaced by renaming). Where
//! that cannot be, a copy with the lines is mounted over the image's file.

use super::Context as PlanContext;
use super::files::put;
use super::process::kept_ids;
use super::root::Root;
use crate::error::{Error, Result};
use crate::runtime::users::{self, Names, ResolvedUser};
use crate::types::container::{ContainerConfig, RecordedRoot};
use crate::userns::Account;

const FILES: [(&str, &str); 2] = [("passwd", "etc/passwd"), ("group", "etc/group")];

/// Adds the lines that are missing, and gives `user` the home that its line has.
pub(super) fn add(context: &PlanContext<'_>, root: &Root, user: &mut ResolvedUser) -> Result<()> {
    let config = &context.record.config;
    let directory = context.dirs.container(&context.record.id);
    let [passwd, group] = missing(context, root, user)?;
    for ((name, path), lines) in FILES.into_iter().zip([passwd, group]) {
        let mut copy = None;
        if !lines.is_empty() {
            if is_own(config, &context.record.root) {
                users::append(root.fd(), path, &lines)?;
            } else if let Some(text) = users::with_lines(root.fd(), path, &lines)? {
                copy = Some(text);
            }
        }
        put(&directory.join(name), copy)?;
    }
    Ok(())
}

/// Whether what is written below the root is the container's own. With --read-only
/// it may be mounted so already.
fn is_own(config: &ContainerConfig, root: &RecordedRoot) -> bool {
    let overlaid = match root {
        RecordedRoot::Image { .. } => true,
        RecordedRoot::Directory { overlay, .. } => *overlay,
        RecordedRoot::Nothing => false,
    };
    overlaid && !config.read_only
}

/// The lines for each of [`FILES`].
fn missing(context: &PlanContext<'_>, root: &Root, user: &mut ResolvedUser) -> Result<[String; 2]> {
    let config = &context.record.config;
    if config.no_passwd || context.record.root == RecordedRoot::Nothing {
        return Ok([String::new(), String::new()]);
    }
    let is_new = user.name.is_none() && user.uid != 0;
    let new_group = config.group_entry.is_some() || is_new && user.gid != 0;
    if !is_new && !new_group && config.host_users.is_empty() && config.passwd_entry.is_none() {
        return Ok([String::new(), String::new()]);
    }
    let known = Names::read(root.fd())?;
    let mut passwd = String::new();
    for word in &config.host_users {
        let account = host_user(word)?;
        if !known.users.values().any(|name| *name == account.name) && account.uid != user.uid {
            let Account { name, uid, gid, gecos, home, shell } = account;
            passwd += &format!("{name}:x:{uid}:{gid}:{gecos}:{home}:{shell}\n");
        }
    }
    let kept = kept_ids(context).filter(|(uid, _)| *uid == user.uid);
    let of_host = context.outer.uid_map.to_outside(0).map(|uid| uid.to_string());
    let named = |word: &String| word.parse() == Ok(user.uid) || Some(word) == user.name.as_ref();
    let account = match kept {
        Some(_) => of_host.and_then(|uid| Account::of_host(&uid)),
        None => config.host_users.iter().find(|word| named(word)).and_then(|word| Account::of_host(word)),
    };
    let line = Line::new(config, user, &known, account);
    if is_new {
        user.home = Some(line.home.clone());
        user.name = Some(line.name.clone());
        passwd += &match &config.passwd_entry {
            Some(entry) => line.fill(entry),
            None => line.fill("$USERNAME:*:$UID:$GID:$NAME:$HOME:/bin/sh"),
        };
    }
    let mut group = String::new();
    if new_group && !known.groups.contains_key(&user.gid) {
        group = match &config.group_entry {
            Some(entry) => line.fill(entry),
            None => line.fill("$USERNAME:x:$GID:$USERNAME"),
        };
    }
    Ok([passwd, group])
}

/// `--user NAME` of whom `--hostuser` adds: by number, as the image does not know it.
pub(super) fn by_number(config: &ContainerConfig, user: &str) -> Option<String> {
    let (name, group) = user.split_once(':').unwrap_or((user, ""));
    let account = config.host_users.iter().filter_map(|word| Account::of_host(word));
    let Account { uid, gid, .. } = account.into_iter().find(|account| account.name == name)?;
    Some(if group.is_empty() { format!("{uid}:{gid}") } else { format!("{uid}:{group}") })
}

/// # Errors
/// `Invalid` where the host has no such user.
fn host_user(word: &str) -> Result<Account> {
    Account::of_host(word).ok_or_else(|| {
        Error::invalid(format!("--hostuser {word}: the host has no such user"))
            .hint("give a name or a number that `getent passwd` knows")
    })
}

/// What the entries are filled with.
struct Line {
    name: String,
    gecos: String,
    home: String,
    uid: u32,
    gid: u32,
}

impl Line {
    fn new(config: &ContainerConfig, user: &ResolvedUser, names: &Names, account: Option<Account>) -> Self {
        let given = config.env.iter().rev().find_map(|entry| entry.strip_prefix("HOME="));
        let Some(account) = account else {
            // Docker's home of a user whom nobody knows.
            let home = given.unwrap_or("/").to_owned();
            return Self {
                name: user.uid.to_string(),
                gecos: "container user".into(),
                home,
                uid: user.uid,
                gid: user.gid,
            };
        };
        // The user's home, if it is there; else where the container works.
        let is_mounted = config.mounts.iter().any(|mount| is_below(&account.home, &mount.target));
        let place = if is_mounted { account.home } else { config.workdir.clone().unwrap_or_default() };
        let home = given.map_or(place, str::to_owned);
        let taken = names.users.iter().any(|(uid, name)| *name == account.name && *uid != user.uid);
        Self {
            name: if taken { user.uid.to_string() } else { account.name },
            gecos: account.gecos,
            home: if home.starts_with('/') && !home.contains(':') { home } else { "/".into() },
            uid: user.uid,
            gid: user.gid,
        }
    }

    /// Podman's words for what is filled in.
    fn fill(&self, entry: &str) -> String {
        let words = [
            ("$USERNAME", self.name.as_str()),
            ("$UID", &self.uid.to_string()),
            ("$GID", &self.gid.to_string()),
            ("$NAME", &self.gecos),
            ("$HOME", &self.home),
        ];
        let filled =
            words.into_iter().fold(entry.to_owned(), |text, (word, value)| text.replace(word, value));
        format!("{}\n", filled.trim_end_matches('\n'))
    }
}

fn is_below(path: &str, parent: &str) -> bool {
    path.strip_prefix(parent.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::mount::parse_volume;
    use std::path::Path;

    fn line(change: impl FnOnce(&mut ContainerConfig), account: Option<Account>) -> String {
        let mut config = ContainerConfig { workdir: Some("/app".into()), ..ContainerConfig::default() };
        change(&mut config);
        let user = ResolvedUser { uid: 1000, gid: 1001, groups: vec![1001], home: None, name: None };
        let names = Names { users: [(7, "eve".to_owned())].into(), ..Names::default() };
        Line::new(&config, &user, &names, account).fill("$USERNAME:*:$UID:$GID:$NAME:$HOME:/bin/sh")
    }

    fn account(name: &str) -> Account {
        Account {
            name: name.into(),
            uid: 5,
            gid: 5,
            gecos: "Ada".into(),
            home: "/home/ada".into(),
            shell: "/bin/zsh".into(),
        }
    }

    #[test]
    fn the_line_says_who_and_where() {
        assert_eq!(line(|_| {}, None), "1000:*:1000:1001:container user:/:/bin/sh\n");
        assert_eq!(line(|_| {}, Some(account("ada"))), "ada:*:1000:1001:Ada:/app:/bin/sh\n");
        // The image has another of that name.
        assert!(line(|_| {}, Some(account("eve"))).starts_with("1000:*:1000:"));
        let mount = |target: &str| parse_volume(&format!("/x:{target}"), Path::new("/")).expect("a volume");
        for (target, home) in [("/home/ada", "/home/ada"), ("/home", "/home/ada"), ("/home/adam", "/app")] {
            let line = line(|config| config.mounts = vec![mount(target)], Some(account("ada")));
            assert_eq!(line.split(':').nth(5), Some(home), "{target}");
        }
        let line = line(|config| config.env = vec!["HOME=/a".into(), "HOME=/b".into()], Some(account("ada")));
        assert_eq!(line.split(':').nth(5), Some("/b"));
    }
}
