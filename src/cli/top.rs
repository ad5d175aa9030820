//! `coracle top`.

use super::{table, ui};
use crate::engine::Engine;
use crate::engine::top::{Columns, Descriptor, Table};
use crate::error::{Error, Result};
use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    /// Of the container that was created last, instead of a named one
    #[arg(long, short = 'l')]
    latest: bool,
    /// Print the names of the columns that can be asked for without ps
    #[arg(long)]
    list_descriptors: bool,
    /// The container, and the columns or the options of ps
    #[arg(value_name = "CONTAINER [PS OPTIONS]")]
    words: Vec<String>,
}

/// Shows the processes of a container.
///
/// # Errors
/// `Conflict` where it does not run.
pub(crate) fn top(args: TopArgs) -> Result<u8> {
    if args.list_descriptors {
        ui::line(&Descriptor::names().collect::<Vec<_>>().join("\n"))?;
        return Ok(0);
    }
    let engine = Engine::open()?;
    let (id, columns) = match (args.latest, args.words.split_first()) {
        (true, _) => (engine.newest()?, args.words.as_slice()),
        (false, Some((name, columns))) => (engine.resolve(name)?, columns),
        (false, None) => {
            return Err(Error::invalid("'coracle top' requires at least 1 argument")
                .hint("usage: coracle top [OPTIONS] CONTAINER [PS OPTIONS]"));
        }
    };
    print(&engine.top(&id, &Columns::parse(columns))?)
}

/// Prints the processes.
pub(super) fn print(found: &Table) -> Result<u8> {
    // A cell with a tab in it would shift the others.
    let line =
        |cells: &[String]| cells.iter().map(|cell| cell.replace('\t', " ")).collect::<Vec<_>>().join("\t");
    let lines: Vec<String> =
        std::iter::once(line(&found.titles)).chain(found.rows.iter().map(|row| line(row))).collect();
    ui::write(table::align(&lines).as_bytes())?;
    Ok(0)
}
