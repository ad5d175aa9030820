//! The table for people: COMMANDS.md.

use super::file::{Row, State, Table, Verb, by_long};

const HEAD: &str = "\
# Commands and flags

Every verb and flag of docker and podman, and its state in coracle. This page is made from
`docs/commands.toml` by `coracle generate-docs docs`, and a test holds both against the program.

`--format json` prints one object a line in listings (docker's way; podman prints an array), and an array
on one line in `inspect`. `--help` is everywhere and not listed.

";

/// The whole page.
pub(super) fn markdown(table: &Table) -> String {
    let mut text = HEAD.to_owned();
    let (here, missing): (Vec<_>, Vec<_>) =
        table.verbs.iter().partition(|(_, verb)| verb.row.state == Some(State::Yes));
    text.push_str(&totals(table));
    text.push_str("\n## What is here\n");
    for (name, verb) in here {
        text.push_str(&section(table, name, verb));
    }
    text.push_str(
        "\n## What is not here\n\n| verb | docker | podman | coracle | flags |\n|---|---|---|---|---|\n",
    );
    for (name, verb) in missing {
        let flags: Vec<String> = by_long(&verb.flags).iter().map(|(flag, _)| format!("`{flag}`")).collect();
        let flags = match &verb.same_as {
            Some(other) => format!("as `{other}`"),
            None => flags.join(", "),
        };
        text.push_str(&format!(
            "| `{name}` | {} | {} | {} | {flags} |\n",
            mark(verb.row.docker),
            mark(verb.row.podman),
            state(verb.row.state.as_ref()),
        ));
    }
    text
}

/// How many of each there are.
fn totals(table: &Table) -> String {
    let mut text = "| | yes | later | no |\n|---|---|---|---|\n".to_owned();
    let others = |row: &Row| row.docker || row.podman;
    let verbs: Vec<Option<&State>> =
        table.verbs.values().filter(|verb| others(&verb.row)).map(|verb| verb.row.state.as_ref()).collect();
    let mut flags = Vec::new();
    for verb in table.verbs.values() {
        for (flag, row) in verb.flags.iter().filter(|(_, row)| others(row)) {
            let inherited = match &verb.row.state {
                Some(State::Yes) | None => table.state_of(flag, row),
                missing => missing.as_ref(),
            };
            flags.push(inherited);
        }
    }
    for (what, states) in [("verbs", verbs), ("flags", flags)] {
        let count =
            |fits: &dyn Fn(&State) -> bool| states.iter().flatten().filter(|state| fits(state)).count();
        text.push_str(&format!(
            "| {what} | {} | {} | {} |\n",
            count(&|state| *state == State::Yes),
            count(&|state| matches!(state, State::Later(_))),
            count(&|state| matches!(state, State::No(_))),
        ));
    }
    text
}

fn section(table: &Table, name: &str, verb: &Verb) -> String {
    let title = if name.is_empty() { "coracle".to_owned() } else { format!("coracle {name}") };
    let mut text = format!("\n### {title}\n\n");
    if !verb.row.docker && !verb.row.podman {
        text.push_str("Neither docker's nor podman's.\n\n");
    } else if !(verb.row.docker && verb.row.podman) {
        text.push_str(&format!("From {}.\n\n", verb.row.who()));
    }
    if let Some(other) = &verb.same_as {
        text.push_str(&format!("The same as `coracle {other}`.\n"));
        return text;
    }
    if verb.flags.is_empty() {
        text.push_str("No flags.\n");
        return text;
    }
    text.push_str("| flag | docker | podman | coracle |\n|---|---|---|---|\n");
    for (flag, row) in by_long(&verb.flags) {
        text.push_str(&format!(
            "| `{flag}` | {} | {} | {} |\n",
            mark(row.docker),
            mark(row.podman),
            state(table.state_of(flag, row))
        ));
    }
    text
}

fn mark(has: bool) -> &'static str {
    if has { "yes" } else { "" }
}

fn state(state: Option<&State>) -> String {
    state.map_or_else(|| "?".to_owned(), State::to_string)
}
