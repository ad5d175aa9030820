//! `docs/commands.toml`: every verb and flag of docker and podman, and its state
//! here; and `docs/COMMANDS.md`, which is made from it.
//!
//! What is here is found in the command tree, so that nobody has to keep it; what
//! is not here has a reason that a person wrote. `coracle generate-docs DIR`
//! brings both files up to date, and a test fails where they are not. Who gives a
//! flag that is not here is told the reason too.

mod file;
mod page;

use super::command::{Entry, Kind};
use super::{commands, ui};
use crate::error::{Context, Error, Result};
use clap::{Args, Command};
use file::{Row, State, Table};
use std::collections::BTreeMap;
use std::path::Path;

/// Flags that can be written but are always refused: those of `run` hold for
/// `create` as well. They count as missing.
const REFUSED: &[(&str, &str)] =
    &[("exec", "--preserve-fds"), ("pod create", "--cgroup-conf"), ("pod create", "--hugetlb")];

#[derive(Args, Debug)]
pub(crate) struct ReferenceArgs {
    /// Where commands.toml is, and COMMANDS.md is to be
    #[arg(value_name = "DIR", required = true)]
    dir: String,
}

/// Brings `commands.toml` and `COMMANDS.md` in a directory up to date. The exit
/// code is 1 where entries lack a reason; they are listed.
///
/// # Errors
/// Where the files cannot be read, understood or written.
pub(crate) fn generate(args: ReferenceArgs) -> Result<u8> {
    let dir = Path::new(&args.dir);
    let path = dir.join("commands.toml");
    let text = std::fs::read_to_string(&path).context(|| format!("read {}", path.display()))?;
    let mut table = Table::parse(&text)?;
    update(&mut table, &here());
    std::fs::write(&path, table.to_string()).context(|| format!("write {}", path.display()))?;
    let page = dir.join("COMMANDS.md");
    std::fs::write(&page, page::markdown(&table)).context(|| format!("write {}", page.display()))?;
    let open = unexplained(&table);
    for entry in &open {
        ui::error(&Error::failed(format!("{entry} is not here and has no reason")));
    }
    Ok(u8::from(!open.is_empty()))
}

/// Why a flag is not here that docker or podman has; the words of the command as
/// they are typed after `coracle`. `None` where nobody has it.
pub(super) fn why_not(verb: &str, flag: &str) -> Option<String> {
    let table = Table::parse(include_str!("../../docs/commands.toml")).ok()?;
    let mut found = table.verbs.get(verb)?;
    if let Some(other) = &found.same_as {
        found = table.verbs.get(other)?;
    }
    let is_meant = |name: &&String| name.split(' ').any(|word| word == flag);
    let (name, row) = found.flags.iter().find(|(name, _)| is_meant(name))?;
    match table.state_of(name, row)? {
        State::Yes => None,
        State::No(why) => Some(why.clone()),
        State::Later(what) => Some(format!("it is not here yet: {what}")),
    }
}

/// One command of the binary.
#[derive(Debug, Default)]
struct Here {
    /// The command outside of its group that does the same.
    same_as: Option<String>,
    /// `-a --all` and `--all`, each way to write a flag, its aliases too.
    flags: Vec<String>,
    /// Those to be listed where nobody else has them.
    main_flags: Vec<String>,
    group: bool,
}

/// The commands of the binary, by name (`container ls`), aliases too.
fn here() -> BTreeMap<String, Here> {
    let mut found = BTreeMap::new();
    let root = Here { group: true, ..of_command(&commands::describe()) };
    found.insert(String::new(), root);
    collect("", commands::ENTRIES, &mut found);
    found
}

fn collect(path: &str, entries: &[Entry], found: &mut BTreeMap<String, Here>) {
    for entry in entries {
        for name in std::iter::once(&entry.name).chain(entry.aliases) {
            let named = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path} {name}") };
            let (path, is_alias) = (named(name), *name != entry.name);
            match &entry.kind {
                Kind::Command(verb) if verb.hidden => {}
                Kind::Command(verb) => {
                    let mut here = of_command(&entry.describe("coracle"));
                    let main = verb.same_as.unwrap_or(&path).to_owned();
                    let refused = |flag: &String| {
                        let main = if main == "create" { "run" } else { &main };
                        REFUSED.iter().any(|(verb, long)| *verb == main && flag.ends_with(long))
                    };
                    here.flags.retain(|flag| !refused(flag));
                    here.main_flags.retain(|flag| !refused(flag));
                    let alias_of = is_alias.then(|| named(entry.name));
                    here.same_as = verb.same_as.map(str::to_owned).or(alias_of);
                    found.insert(path, here);
                }
                Kind::Group(entries) => {
                    found.insert(path.clone(), Here { group: true, ..Here::default() });
                    collect(&path, entries, found);
                }
            }
        }
    }
}

fn of_command(command: &Command) -> Here {
    let mut here = Here::default();
    for arg in command.get_arguments().filter(|arg| arg.get_id() != "help") {
        let Some(long) = arg.get_long() else { continue };
        let mut shorts: Vec<char> = arg.get_short().into_iter().collect();
        shorts.extend(arg.get_all_short_aliases().into_iter().flatten());
        let main = shorts.first().map_or_else(|| format!("--{long}"), |short| format!("-{short} --{long}"));
        if !arg.is_hide_set() {
            here.main_flags.push(main);
        }
        for long in std::iter::once(long).chain(arg.get_all_aliases().into_iter().flatten()) {
            here.flags.push(format!("--{long}"));
            here.flags.extend(shorts.iter().map(|short| format!("-{short} --{long}")));
        }
    }
    here
}

/// Says `yes` of what is here, and takes it from what is not; adds what only
/// this program has. Reasons are kept where they are still needed.
fn update(table: &mut Table, here: &BTreeMap<String, Here>) {
    for (name, found) in here {
        if !table.verbs.contains_key(name) && !name.is_empty() {
            let verb = file::Verb {
                row: Row { state: Some(State::Yes), ..Row::default() },
                same_as: found.same_as.clone(),
                flags: BTreeMap::new(),
            };
            table.verbs.insert(name.clone(), verb);
        }
    }
    for (name, verb) in &mut table.verbs {
        let found = here.get(name);
        verb.row.set(found.is_some());
        let Some(found) = found else { continue };
        for (flag, row) in &mut verb.flags {
            row.set(found.flags.contains(flag));
        }
        if verb.same_as.is_none() && !found.group || name.is_empty() {
            for flag in &found.main_flags {
                let long = flag.rsplit(' ').next().unwrap_or(flag);
                if !verb.flags.keys().any(|other| other.rsplit(' ').next() == Some(long)) {
                    verb.flags.insert(flag.clone(), Row { state: Some(State::Yes), ..Row::default() });
                }
            }
        }
    }
    // What only this program had, and has no more, is gone.
    let ours = |row: &Row| !row.docker && !row.podman && row.state != Some(State::Yes);
    table.verbs.retain(|_, verb| !ours(&verb.row));
    for verb in table.verbs.values_mut() {
        verb.flags.retain(|_, row| !ours(row));
    }
}

/// What is neither here nor explained.
fn unexplained(table: &Table) -> Vec<String> {
    let mut open = Vec::new();
    for (name, verb) in &table.verbs {
        match verb.row.state {
            None => open.push(name.clone()),
            Some(State::Yes) => {
                let flags = verb.flags.iter().filter(|(flag, row)| table.state_of(flag, row).is_none());
                open.extend(flags.map(|(flag, _)| format!("{name} {flag}").trim_start().to_owned()));
            }
            // The reason of a verb that is not here is that of its flags.
            Some(State::No(_) | State::Later(_)) => {}
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    fn docs() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
    }

    /// `coracle generate-docs docs` mends all of it but missing reasons.
    #[test]
    fn the_table_of_commands_is_what_the_binary_has() {
        let text = std::fs::read_to_string(docs().join("commands.toml")).expect("docs/commands.toml");
        let mut table = Table::parse(&text).expect("understood");
        update(&mut table, &here());
        assert_eq!(
            unexplained(&table),
            Vec::<String>::new(),
            "not here, and no reason in docs/commands.toml"
        );
        assert!(
            table.to_string() == text,
            "docs/commands.toml is not up to date: run `coracle generate-docs docs`"
        );
        let page = std::fs::read_to_string(docs().join("COMMANDS.md")).expect("docs/COMMANDS.md");
        assert!(
            page == page::markdown(&table),
            "docs/COMMANDS.md is not up to date: run `coracle generate-docs docs`"
        );
    }

    #[test]
    fn what_others_have_is_refused_with_its_reason() {
        assert_eq!(why_not("network create", "--ingress").as_deref(), Some("part of swarm"));
        assert_eq!(why_not("coracle", "-H"), why_not("coracle", "--host"));
        // By another name of the command, and of all that are called so.
        assert_eq!(why_not("container run", "--isolation"), why_not("run", "--isolation"));
        assert!(why_not("run", "--isolation").is_some());
        for (verb, flag) in [("run", "--wat"), ("run", "--name"), ("wat", "--name")] {
            assert_eq!(why_not(verb, flag), None, "{verb} {flag}");
        }
    }

    #[test]
    fn a_verb_of_a_group_takes_the_flags_of_the_one_outside() {
        let here = here();
        for (name, found) in &here {
            let Some(same_as) = &found.same_as else { continue };
            let other =
                here.get(same_as).unwrap_or_else(|| panic!("{name} is as {same_as}, which is not there"));
            assert_eq!(found.flags, other.flags, "{name} and {same_as}");
        }
    }

    #[test]
    fn refused_flags_are_in_the_binary_and_not_in_the_table() {
        for (verb, long) in REFUSED {
            let (group, name) =
                verb.split_once(' ').map_or((None, *verb), |(group, name)| (Some(group), name));
            let mut entries = commands::ENTRIES;
            if let Some(group) = group {
                let entry = entries.iter().find(|entry| entry.name == group).expect(verb);
                let Kind::Group(below) = &entry.kind else { panic!("{group} is no group") };
                entries = below;
            }
            let entry = entries.iter().find(|entry| entry.name == name).expect(verb);
            let command = entry.describe("x");
            let is_there = command.get_arguments().any(|arg| arg.get_long() == Some(&long[2..]));
            assert!(is_there, "{verb} {long} is no flag: take it from REFUSED");
            assert!(here()[*verb].flags.iter().all(|flag| !flag.ends_with(long)));
        }
    }

    #[test]
    fn states_follow_the_binary_and_reasons_stay() {
        let text = "[reasons]\n\"--tls\" = \"no: there is no daemon\"\n\n[\"wat\"]\nverb = \"docker: later: one day\"\n\n[\"ps\"]\nverb = \"docker podman\"\n\"-a --all\" = \"docker podman\"\n\"--nope\" = \"podman\"\n\"--tls\" = \"docker\"\n\"--quiet\" = \"docker: later: old\"\n";
        let mut table = Table::parse(text).expect("understood");
        update(&mut table, &here());
        let ps = &table.verbs["ps"];
        assert_eq!(ps.row.state, Some(State::Yes));
        assert_eq!(ps.flags["-a --all"].state, Some(State::Yes));
        assert_eq!(ps.flags["--quiet"].state, Some(State::Yes));
        assert!(unexplained(&table).contains(&"ps --nope".to_owned()));
        assert!(!unexplained(&table).iter().any(|entry| entry.contains("--tls") || entry == "wat"));
        assert_eq!(Table::parse(&table.to_string()).expect("understood").to_string(), table.to_string());
        assert!(Table::parse("[\"a\"]\nverb = \"moon: yes\"\n").is_err());
        assert!(Table::parse("[\"a\"]\nverb = \"docker: maybe\"\n").is_err());
    }
}
