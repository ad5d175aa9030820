//! `coracle system check`.

use super::ui;
use crate::engine::Engine;
use crate::engine::check::{CheckOptions, CheckReport, Fault};
use crate::error::{Error, Result};
use crate::types::size::decimal;
use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Remove what cannot be repaired: images, and containers without their layers
    #[arg(long, short = 'f')]
    force: bool,
    /// Look at sizes alone, not at contents
    #[arg(long, short = 'q')]
    quick: bool,
    /// Fetch and unpack again what is damaged, make lost lists anew, and remove what nothing needs
    #[arg(long, short = 'r')]
    repair: bool,
}

/// Checks images and layers.
///
/// # Errors
/// Where the store cannot be read. Exit code 1 where damage is left.
pub(crate) fn check(args: CheckArgs) -> Result<u8> {
    if args.force && !args.repair {
        return Err(Error::usage("--force says what a repair may do: give it with --repair"));
    }
    let options = CheckOptions { quick: args.quick, repair: args.repair, force: args.force };
    let report = Engine::open()?.check(options, &mut |line| ui::note(line))?;
    ui::write(text(&report, options).as_bytes())?;
    Ok(u8::from(!report.left.is_empty()))
}

fn text(report: &CheckReport, options: CheckOptions) -> String {
    let mut text = String::new();
    for fault in &report.faults {
        text.push_str(&format!("damaged {}\n", line(fault)));
    }
    for done in &report.done {
        text.push_str(&format!("{done}\n"));
    }
    if options.repair {
        for fault in &report.left {
            text.push_str(&format!("still damaged {}\n", line(fault)));
        }
    }
    let orphans = &report.orphans;
    let count = orphans.blobs.len() + orphans.layers.len();
    if count > 0 {
        let (what, hint) =
            if options.repair { ("removed", "") } else { ("there are", ": `image prune` removes them") };
        text.push_str(&format!(
            "{what} {count} blobs and layers that nothing needs, {}{hint}\n",
            decimal(orphans.bytes)
        ));
    }
    text.push_str(&format!(
        "checked {} images, {} blobs, {} layers{}: {}\n",
        report.images,
        report.blobs,
        report.layers,
        if options.quick { String::new() } else { format!(" ({})", decimal(report.bytes)) },
        match report.left.len() {
            0 if report.faults.is_empty() => "no damage".to_owned(),
            0 => "all damage is repaired".to_owned(),
            _ if options.repair => format!("{} damaged", report.left.len()),
            left => format!("{left} damaged; --repair fetches and unpacks again what is damaged"),
        }
    ));
    text
}

fn line(fault: &Fault) -> String {
    let concerns = match fault.concerns.as_slice() {
        [] => String::new(),
        names => format!(" ({})", names.join(", ")),
    };
    format!("{}{concerns}: {}", fault.kind, fault.error)
}
