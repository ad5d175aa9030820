//! `cp`.

use super::ui;
use crate::engine::Engine;
use crate::engine::copy::{CopyOptions, End};
use crate::error::{Error, Result};
use crate::types::boolean;
use crate::types::size::decimal;
use clap::Args;
use std::io::IsTerminal;

#[derive(Args, Debug)]
pub(crate) struct CopyArgs {
    /// Keep owners (uid and gid); else the copy is root's in a container, yours on the host
    #[arg(long, short = 'a', num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    archive: Option<String>,
    /// Follow a symbolic link that is SRC_PATH
    #[arg(long, short = 'L')]
    follow_link: bool,
    /// Replace directories by files and files by directories
    #[arg(long)]
    overwrite: bool,
    /// Hold the container's processes up meanwhile
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pause: Option<String>,
    /// Say nothing of what was copied
    #[arg(long, short = 'q', num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    quiet: Option<String>,
    /// What to copy, and where to; `-` is a tar archive on stdin or stdout
    #[arg(value_names = ["SRC_PATH", "DEST_PATH"], num_args = 2, required = true)]
    paths: Vec<String>,
}

/// One side of the command line.
#[derive(Debug, PartialEq, Eq)]
enum Side {
    Stream,
    Files(End),
}

/// Copies files.
///
/// # Errors
/// `Usage` where no side is a container's; else what the engine says.
pub(crate) fn run(args: CopyArgs) -> Result<u8> {
    let flag = |name: &str, text: Option<&str>| text.map(|text| boolean::parse(name, text)).transpose();
    let archive = flag("--archive", args.archive.as_deref())?.unwrap_or(false);
    let pause = flag("--pause", args.pause.as_deref())?.unwrap_or(false);
    let quiet = flag("--quiet", args.quiet.as_deref())?;
    let [from, to] = args.paths.as_slice() else {
        return Err(Error::invalid("'coracle cp' requires 2 arguments"));
    };
    let options = CopyOptions { archive, follow: args.follow_link, pause, overwrite: args.overwrite };
    let engine = Engine::open()?;
    match (side(from, "source")?, side(to, "destination")?) {
        (Side::Files(from @ End::Container { .. }), Side::Stream) => {
            let mut stdout = std::io::BufWriter::with_capacity(256 << 10, std::io::stdout().lock());
            engine.copy_out(&from, &mut stdout, options)?;
        }
        (Side::Stream, Side::Files(to @ End::Container { .. })) => {
            engine.copy_in(&mut std::io::stdin().lock(), &to, options)?;
        }
        (Side::Files(source), Side::Files(target)) => {
            let bytes = engine.copy(&source, &target, options)?;
            // Docker: by itself only where a person is watching.
            if !quiet.unwrap_or_else(|| !std::io::stdout().is_terminal()) {
                ui::note(&format!("Successfully copied {} to {to}", decimal(bytes)));
            }
        }
        _ => return Err(Error::invalid("must specify at least one container source")),
    }
    Ok(0)
}

/// Docker's: a container is what stands before the first colon, unless the word
/// begins as a path of the host does.
fn side(word: &str, which: &str) -> Result<Side> {
    if word.is_empty() {
        return Err(Error::invalid(format!("{which} can not be empty")));
    }
    if word == "-" {
        return Ok(Side::Stream);
    }
    Ok(Side::Files(match word.split_once(':') {
        Some((container, path)) if !container.is_empty() && !container.starts_with(['.', '/']) => {
            End::Container { word: container.to_owned(), path: path.to_owned() }
        }
        _ => End::Host(word.to_owned()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart() {
        let host = |path: &str| Side::Files(End::Host(path.to_owned()));
        let inside = |word: &str, path: &str| {
            Side::Files(End::Container { word: word.to_owned(), path: path.to_owned() })
        };
        for (word, expected) in [
            ("-", Side::Stream),
            ("a", host("a")),
            ("./a:b", host("./a:b")),
            ("../a:b", host("../a:b")),
            ("/a:b", host("/a:b")),
            (":a", host(":a")),
            ("c:", inside("c", "")),
            ("c:/a", inside("c", "/a")),
            ("c:a:b", inside("c", "a:b")),
            ("c:-", inside("c", "-")),
        ] {
            assert_eq!(side(word, "source").expect(word), expected, "{word}");
        }
        assert_eq!(side("", "source").unwrap_err().to_string(), "source can not be empty");
    }
}
