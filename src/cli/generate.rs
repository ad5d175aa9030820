//! What is made from the command tree: completions for shells, manual pages.

use super::command::{Entry, Kind};
use super::{commands, complete, examples, ui};
use crate::error::{Context, Result};
use clap::{Args, Command};
use std::path::Path;

#[derive(Args, Debug)]
pub(crate) struct CompletionArgs {
    /// bash, zsh or fish
    #[arg(value_name = "SHELL", required = true)]
    shell: String,
}

/// Writes the completion script of a shell to stdout.
///
/// # Errors
/// `Invalid` for an unknown shell.
pub(crate) fn completion(args: CompletionArgs) -> Result<u8> {
    ui::write(complete::script(&args.shell)?.as_bytes())?;
    Ok(0)
}

#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Where to write the pages
    #[arg(value_name = "DIR", required = true)]
    dir: String,
}

/// Writes a manual page for each command into a directory, which must exist.
///
/// # Errors
/// Where a page cannot be written.
pub(crate) fn generate_man(args: ManArgs) -> Result<u8> {
    for (name, text) in pages()? {
        let path = Path::new(&args.dir).join(name);
        std::fs::write(&path, text).context(|| format!("write {}", path.display()))?;
    }
    Ok(0)
}

/// All pages, `(file name, text)`, in the order of the tree. The same program
/// gives the same text: there is no date in it.
fn pages() -> Result<Vec<(String, Vec<u8>)>> {
    let mut pages = vec![("coracle.1".to_owned(), page("coracle", &commands::describe(), &[])?)];
    add_pages("coracle", commands::ENTRIES, &mut pages)?;
    Ok(pages)
}

fn add_pages(path: &str, entries: &[Entry], pages: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    for entry in entries {
        let path = format!("{path} {}", entry.name);
        match &entry.kind {
            Kind::Command(verb) if verb.hidden || verb.same_as.is_some() => {}
            Kind::Command(_) => pages.push(entry_page(&path, entry, &[])?),
            Kind::Group(verbs) => {
                pages.push(entry_page(&path, entry, verbs)?);
                add_pages(&path, verbs, pages)?;
            }
        }
    }
    Ok(())
}

fn entry_page(path: &str, entry: &Entry, verbs: &[Entry]) -> Result<(String, Vec<u8>)> {
    Ok((format!("{}.1", path.replace(' ', "-")), page(path, &entry.describe(path), verbs)?))
}

/// One page: mangen's name, description and options; our synopsis, verbs and examples.
fn page(path: &str, command: &Command, verbs: &[Entry]) -> Result<Vec<u8>> {
    let name = path.replace(' ', "-");
    let described = command.clone().display_name(name.clone()).after_help("").subcommands(None::<Command>);
    let usage = described.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().to_owned();
    let man = clap_mangen::Man::new(described)
        .title(name.to_uppercase())
        .section("1")
        .source(format!("coracle {}", env!("CARGO_PKG_VERSION")))
        .manual("coracle");
    let mut text = Vec::new();
    let write = |text: &mut Vec<u8>| -> std::io::Result<()> {
        man.render_title(text)?;
        man.render_name_section(text)?;
        text.extend(format!(".SH SYNOPSIS\n\\fB{}\\fR\n", roff(&usage)).into_bytes());
        man.render_description_section(text)?;
        man.render_options_section(text)
    };
    write(&mut text).context(|| format!("write the page of {path}"))?;
    if path == "coracle" {
        text.extend(commands_section(path, commands::ENTRIES).into_bytes());
    } else if !verbs.is_empty() {
        text.extend(commands_section(path, verbs).into_bytes());
    }
    if path == "coracle" {
        text.extend(root_sections().into_bytes());
    }
    if let Some(examples) = examples::text(path) {
        text.extend(format!(".SH EXAMPLES\n.nf\n{}\n.fi\n", roff(&examples)).into_bytes());
    }
    let text = String::from_utf8(text).map_err(|error| error.utf8_error()).context(|| "write a page")?;
    let mut text = without_repeated_preamble(&text).into_bytes();
    if path != "coracle" {
        text.extend(b".SH SEE ALSO\n\\fBcoracle\\fR(1)\n");
    }
    Ok(text)
}

/// Mangen begins each section with the same definition of an apostrophe.
fn without_repeated_preamble(text: &str) -> String {
    let mut seen = 0;
    let keep = |line: &&str| {
        let definition = line.starts_with(".ie \\n(.g .ds Aq") || line.starts_with(".el .ds Aq");
        seen += usize::from(definition);
        !definition || seen <= 2
    };
    text.lines().filter(keep).flat_map(|line| [line, "\n"]).collect()
}

fn commands_section(path: &str, entries: &[Entry]) -> String {
    let mut text = ".SH COMMANDS\n".to_owned();
    for entry in entries {
        let (hidden, page) = match &entry.kind {
            Kind::Command(verb) => (verb.hidden, verb.same_as.map(|name| format!("coracle-{name}"))),
            Kind::Group(_) => (false, None),
        };
        if !hidden {
            let page = page.unwrap_or_else(|| format!("{path} {}", entry.name).replace(' ', "-"));
            text.push_str(&format!(".TP\n\\fB{}\\fR(1)\n{}\n", roff(&page), roff(entry.about)));
        }
    }
    text
}

/// What holds for all commands: `(section, (term, text))`.
const ABOUT_ALL: &[(&str, &[(&str, &str)])] = &[
    (
        "EXIT STATUS",
        &[
            ("0", "all went well"),
            ("1", "a command other than run and create has failed, or an object was not found"),
            ("64", "the template of inspect, info or version cannot be read"),
            ("125", "the command line is wrong, or run or create has failed before the command ran"),
            ("126", "the command in the container cannot be executed"),
            ("127", "the command in the container was not found"),
            ("128+N", "signal N ended the command"),
            ("other", "the exit code of the command in the container"),
        ],
    ),
    (
        "ENVIRONMENT",
        &[
            (
                "XDG_DATA_HOME",
                "images, layers and volumes are below it, in coracle (default: ~/.local/share)",
            ),
            ("XDG_STATE_HOME", "containers are below it, in coracle (default: ~/.local/state)"),
            ("XDG_CONFIG_HOME", "settings, and containers/auth.json with credentials (default: ~/.config)"),
            ("XDG_CACHE_HOME", "what may be deleted at any time (default: ~/.cache)"),
            (
                "XDG_RUNTIME_DIR",
                "what running containers need (default: /run/user/UID, else /tmp/coracle-UID)",
            ),
            ("DOCKER_CONFIG", "the directory of a config.json with credentials (default: ~/.docker)"),
            ("REGISTRY_AUTH_FILE", "the one file with credentials, instead of the others"),
            ("CONTAINERS_REGISTRIES_CONF", "the one registries.conf(5), instead of the others"),
            ("HTTP_PROXY, HTTPS_PROXY, NO_PROXY", "how registries are reached"),
            ("DOCKER_DEFAULT_PLATFORM", "for which platform images are pulled and run, unless a flag says"),
            ("NO_COLOR", "no colours, if not empty"),
            ("CLICOLOR, CLICOLOR_FORCE", "0: no colours; 1: colours even where there is no terminal"),
        ],
    ),
    (
        "FILES",
        &[
            ("/etc/subuid, /etc/subgid", "the ids that you may use beside your own: subuid(5)"),
            ("~/.config/containers/registries.conf, /etc/containers/registries.conf", "where names lead to"),
            ("~/.local/share/coracle/images", "an OCI image layout"),
            ("~/.local/share/coracle/volumes/NAME/_data", "the files of a volume"),
            ("~/.local/state/coracle/containers/ID", "a container: what was asked for, its files, its log"),
        ],
    ),
];

fn root_sections() -> String {
    let mut text = String::new();
    for (title, entries) in ABOUT_ALL {
        text.push_str(&format!(".SH \"{title}\"\n"));
        for (term, about) in *entries {
            text.push_str(&format!(".TP\n\\fB{}\\fR\n{}\n", roff(term), roff(about)));
        }
    }
    text
}

/// Text with what troff(7) would take for a command made plain.
fn roff(text: &str) -> String {
    let line = |line: &str| {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_that_is_always_the_same() {
        let first = pages().expect("pages");
        assert_eq!(first, pages().expect("pages"));
        let text = |name: &str| {
            let page = first.iter().find(|(file, _)| file == name).unwrap_or_else(|| panic!("{name}"));
            String::from_utf8(page.1.clone()).expect("UTF-8")
        };
        let run = text("coracle-run.1");
        for part in [".SH SYNOPSIS", "\\-\\-cap\\-add", ".SH EXAMPLES", "IMAGE"] {
            assert!(run.contains(part), "{part}: {run}");
        }
        let root = text("coracle.1");
        for part in ["coracle\\-run", "EXIT STATUS", "XDG_RUNTIME_DIR", "FILES"] {
            assert!(root.contains(part), "{part}: {root}");
        }
        assert!(first.iter().all(|(name, _)| !name.contains("generate-man")));
    }

    /// `coracle generate-man man` mends it.
    #[test]
    fn the_pages_in_man_are_up_to_date() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
        let mut expected: Vec<String> = Vec::new();
        for (name, text) in pages().expect("pages") {
            let written = std::fs::read(dir.join(&name)).unwrap_or_default();
            assert!(written == text, "man/{name} is not up to date: run `coracle generate-man man`");
            expected.push(name);
        }
        for entry in std::fs::read_dir(dir).expect("man").flatten() {
            let name = entry.file_name().into_string().expect("a name");
            assert!(expected.contains(&name), "man/{name} is the page of no command");
        }
    }

    #[test]
    fn completions_know_every_shell() {
        for shell in ["bash", "zsh", "fish"] {
            assert!(complete::script(shell).expect(shell).contains("__complete"), "{shell}");
        }
        assert!(completion(CompletionArgs { shell: "csh".into() }).is_err());
    }
}
