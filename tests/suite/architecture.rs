//! Rules about the sources that can be checks: the layers, the size of files,
//! where unsafe code may stand, and that each piece of it says why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A module may use what is in a row above its own; in its own row, itself alone.
const LAYERS: &[&[&str]] = &[
    &["error"],
    &["types"],
    &["sys"],
    &["channel", "dirs", "config"],
    &["userns", "cgroup", "storage", "image", "registry", "runtime", "network", "state"],
    &["monitor"],
    &["engine"],
    &["cli"],
];

/// Lines of a file, its unit tests not counted.
const LONGEST: usize = 600;

fn source_root() -> PathBuf {
    let root = std::env::var_os("CORACLE_TEST_SOURCE")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    root.join("src")
}

/// Each source file with its text, by its path below src.
fn sources() -> BTreeMap<String, String> {
    fn walk(dir: &Path, root: &Path, into: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, root, into);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                into.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let root = source_root();
    let mut all = BTreeMap::new();
    walk(&root, &root, &mut all);
    assert!(all.len() > 20, "no sources in {}", root.display());
    all
}

/// The code without comments and without the unit tests at the foot.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

fn module_of(path: &str) -> &str {
    path.split('/').next().unwrap().trim_end_matches(".rs")
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

/// Top-level modules that the code names after `crate::`, groups included.
fn used_modules(code: &str) -> Vec<String> {
    let mut used = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            let mut fresh = true;
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        fresh = true;
                        used.push(std::mem::take(&mut word));
                    }
                    c if depth == 0 && fresh && (c.is_alphanumeric() || c == '_') => word.push(c),
                    ':' => fresh = false,
                    _ => {}
                }
            }
            used.push(word);
        } else {
            used.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    used.retain(|word| layer_of(word).is_some());
    used
}

#[test]
fn the_reader_of_imports_sees_groups_and_paths() {
    let code = "use crate::{error::{Error, Result}, sys};\nuse crate::types::id;\nlet x = crate::dirs::f();";
    assert_eq!(used_modules(code), ["error", "sys", "types", "dirs"]);
}

#[test]
fn imports_point_up_the_table() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let module = module_of(&path);
        if matches!(module, "lib" | "main") {
            continue;
        }
        let Some(own) = layer_of(module) else {
            faults.push(format!("src/{path}: {module} has no place in the table of layers"));
            continue;
        };
        for used in used_modules(&code(&text)) {
            let theirs = layer_of(&used).unwrap();
            if used != module && theirs >= own {
                faults.push(format!("src/{path} uses {used}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_file_is_longer_than_one_idea() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|(path, _)| !path.ends_with("tests.rs"))
        .map(|(path, text)| (path, text.split("\n#[cfg(test)]\nmod tests").next().unwrap().lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(path, lines)| format!("src/{path}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "over {LONGEST} lines:\n{}", long.join("\n"));
}

#[test]
fn unsafe_code_is_in_sys_alone_and_says_why() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let bare = line.split("//").next().unwrap();
            if !bare.contains("unsafe ") || bare.contains("unsafe_code") {
                continue;
            }
            let place = format!("src/{path}:{}", number + 1);
            if module_of(&path) != "sys" {
                faults.push(format!("{place}: unsafe code outside sys"));
            }
            if bare.contains("unsafe {") && !says_why(&lines[..number]) {
                faults.push(format!("{place}: no SAFETY comment"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Whether a SAFETY comment stands close above, before the last blank line.
fn says_why(above: &[&str]) -> bool {
    above.iter().rev().take(8).take_while(|line| !line.trim().is_empty()).any(|line| line.contains("SAFETY:"))
}

#[test]
fn errors_are_never_dropped_without_a_word() {
    let faults: Vec<String> = sources()
        .iter()
        .flat_map(|(path, text)| {
            let hits = code(text)
                .lines()
                .filter(|line| line.contains("let _ ="))
                .map(str::to_owned)
                .collect::<Vec<_>>();
            hits.into_iter().map(move |line| format!("src/{path}: {}", line.trim()))
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The variants of an enum without fields.
fn variants(text: &str, name: &str) -> Vec<String> {
    let body = text.split(&format!("enum {name} {{")).nth(1).unwrap().split('}').next().unwrap();
    body.lines().filter_map(|line| line.trim().strip_suffix(',')).map(str::to_owned).collect()
}

/// What `doctor` looks into is told by the errors that come of it; the words are
/// in one place.
#[test]
fn errors_point_to_doctor_by_the_one_table() {
    const TABLE: &str = "error/trouble.rs";
    let sources = sources();
    let elsewhere: Vec<(&String, String)> =
        sources.iter().filter(|(path, _)| *path != TABLE).map(|(path, text)| (path, code(text))).collect();
    let troubles = variants(&sources[TABLE], "Trouble");
    assert!(troubles.len() > 20, "{troubles:?}");
    let mut faults: Vec<String> = troubles
        .iter()
        .filter(|trouble| {
            let word = format!("Trouble::{trouble}");
            let is_used = |code: &String| {
                code.match_indices(&word)
                    .any(|(at, _)| !code[at + word.len()..].starts_with(char::is_alphanumeric))
            };
            let by_errno = sources[TABLE].contains(&format!("Some(Self::{trouble})"));
            !by_errno && !elsewhere.iter().any(|(_, code)| is_used(code))
        })
        .map(|trouble| format!("no error is of {trouble}"))
        .collect();
    let own = ["cli/", "engine/doctor/"];
    faults.extend(
        elsewhere
            .iter()
            .filter(|(path, code)| {
                code.contains("`coracle doctor") && !own.iter().any(|own| path.starts_with(own))
            })
            .map(|(path, _)| format!("src/{path} points to doctor in words of its own")),
    );
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
