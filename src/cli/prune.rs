//! `container prune`, `image prune`, `volume prune`, `system prune`.

use super::ui;
use crate::engine::Engine;
use crate::engine::networks::NetworkFilters;
use crate::engine::prune::{PruneFilters, Pruned};
use crate::engine::rmi::Removed;
use crate::engine::volumes::VolumeFilters;
use crate::error::{Error, Result};
use crate::types::size::decimal;
use clap::Args;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::io::{BufRead, Read};

#[derive(Args, Debug)]
pub(crate) struct ContainerArgs {
    /// Remove those for which KEY=VALUE holds: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(long, short = 'f')]
    force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ImageArgs {
    /// Remove all images that no container uses, not only those without a name
    #[arg(long, short = 'a')]
    all: bool,
    /// Remove those for which KEY=VALUE holds: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE], dangling=BOOL
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(long, short = 'f')]
    force: bool,
    /// Accepted: what containers of other programs use is not in this store
    #[arg(long)]
    external: bool,
}

#[derive(Args, Debug)]
pub(crate) struct VolumeArgs {
    /// Remove named volumes as well, as podman does; docker's default is the anonymous ones
    #[arg(long, short = 'a')]
    all: bool,
    /// Remove those for which KEY=VALUE holds: label=KEY[=VALUE], label!=KEY[=VALUE], all=BOOL
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(long, short = 'f')]
    force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct SystemArgs {
    /// Remove all images that no container uses, not only those without a name
    #[arg(long, short = 'a')]
    all: bool,
    /// Remove those for which KEY=VALUE holds: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(long, short = 'f')]
    force: bool,
    /// Remove anonymous volumes that no container uses as well
    #[arg(long)]
    volumes: bool,
}

/// Removes stopped containers.
///
/// # Errors
/// `Invalid` for wrong filters.
pub(crate) fn containers(args: ContainerArgs) -> Result<u8> {
    let filters = PruneFilters::parse(&args.filter, Pruned::Containers, Timestamp::now())?;
    if !args.force && !confirmed("WARNING! This will remove all stopped containers.")? {
        return Ok(0);
    }
    let mut report = Report::default();
    report.containers(&Engine::open()?, &filters)?;
    report.end()
}

/// Removes images that no container uses.
///
/// # Errors
/// `Invalid` for wrong filters.
pub(crate) fn images(args: ImageArgs) -> Result<u8> {
    let filters = PruneFilters::parse(&args.filter, Pruned::Images, Timestamp::now())?;
    let warning = if args.all {
        "WARNING! This will remove all images without at least one container associated to them."
    } else {
        "WARNING! This will remove all dangling images."
    };
    if !args.force && !confirmed(warning)? {
        return Ok(0);
    }
    let mut report = Report::default();
    report.images(&Engine::open()?, args.all, &filters)?;
    report.end()
}

/// Removes volumes that no container uses.
///
/// # Errors
/// `Invalid` for wrong filters.
pub(crate) fn volumes(args: VolumeArgs) -> Result<u8> {
    let (all, filters) = VolumeFilters::for_prune(&args.filter)?;
    let all = args.all || all;
    let warning = if all {
        "WARNING! This will remove all local volumes not used by at least one container."
    } else {
        "WARNING! This will remove anonymous local volumes not used by at least one container."
    };
    if !args.force && !confirmed(warning)? {
        return Ok(0);
    }
    let mut report = Report::default();
    report.volumes(&Engine::open()?, all, &filters)?;
    report.end()
}

/// Removes everything that nothing uses.
///
/// # Errors
/// `Invalid` for wrong filters, and for `until` with `--volumes`, which have no
/// time of last use.
pub(crate) fn system(args: SystemArgs) -> Result<u8> {
    let filters = PruneFilters::parse(&args.filter, Pruned::System, Timestamp::now())?;
    if args.volumes && filters.has_until() {
        return Err(Error::invalid(r#"the "until" filter is not supported with "--volumes""#)
            .hint("call `coracle volume prune` by itself"));
    }
    let of_networks = NetworkFilters::for_prune(&args.filter)?;
    let (_, of_volumes) = VolumeFilters::for_prune(if args.volumes { &args.filter } else { &[] })?;
    if !args.force && !confirmed(&system_warning(&args))? {
        return Ok(0);
    }
    let engine = Engine::open()?;
    let mut report = Report::default();
    // Pods have no time and no labels of their last run.
    if args.filter.is_empty() {
        report.pods(&engine)?;
    }
    report.containers(&engine, &filters)?;
    report.networks(&engine, &of_networks)?;
    if args.volumes {
        report.volumes(&engine, false, &of_volumes)?;
    }
    report.images(&engine, args.all, &filters)?;
    report.end()
}

/// Docker's list; there is no build cache to remove here.
fn system_warning(args: &SystemArgs) -> String {
    let mut text = "WARNING! This will remove:\n".to_owned();
    if args.filter.is_empty() {
        text.push_str("  - all stopped pods\n");
    }
    text.push_str("  - all stopped containers\n");
    text.push_str("  - all networks not used by at least one container\n");
    if args.volumes {
        text.push_str("  - all anonymous volumes not used by at least one container\n");
    }
    text.push_str(if args.all {
        "  - all images without at least one container associated to them\n"
    } else {
        "  - all dangling images\n"
    });
    if !args.filter.is_empty() {
        text.push_str("\n  Items to be pruned will be filtered with:\n");
        text.extend(args.filter.iter().map(|filter| format!("  - {filter}\n")));
    }
    text
}

/// What was removed, in docker's words.
#[derive(Default)]
pub(super) struct Report {
    bytes: u64,
    pub(super) code: u8,
    /// What was warned of already.
    warned: BTreeSet<String>,
}

impl Report {
    fn pods(&mut self, engine: &Engine) -> Result<()> {
        let pruned = engine.prune_pods()?;
        self.warn(pruned.unread);
        let lines: Vec<String> = pruned.ids.iter().map(ToString::to_string).collect();
        self.section("Deleted Pods:", &lines, 0, &pruned.failures)
    }

    fn containers(&mut self, engine: &Engine, filters: &PruneFilters) -> Result<()> {
        let pruned = engine.prune_containers(filters)?;
        self.warn(pruned.unread);
        let lines: Vec<String> = pruned.ids.iter().map(ToString::to_string).collect();
        self.section("Deleted Containers:", &lines, pruned.bytes, &pruned.failures)
    }

    fn images(&mut self, engine: &Engine, all: bool, filters: &PruneFilters) -> Result<()> {
        let mut notes = Vec::new();
        let pruned = engine.prune_images(all, filters, &mut notes)?;
        let line = |removed: &Removed| match removed {
            Removed::Untagged(name) => format!("untagged: {}", name.familiar()),
            Removed::Deleted(digest) => format!("deleted: {digest}"),
        };
        let lines: Vec<String> = pruned.lines.iter().map(line).collect();
        self.section("Deleted Images:", &lines, pruned.bytes, &notes)
    }

    pub(super) fn networks(&mut self, engine: &Engine, filters: &NetworkFilters) -> Result<()> {
        let mut notes = Vec::new();
        let removed = engine.prune_networks(filters, &mut notes)?;
        self.section("Deleted Networks:", &removed, 0, &notes)
    }

    fn volumes(&mut self, engine: &Engine, all: bool, filters: &VolumeFilters) -> Result<()> {
        let pruned = engine.prune_volumes(all, filters)?;
        self.section("Deleted Volumes:", &pruned.names, pruned.bytes, &pruned.failures)
    }

    fn warn(&mut self, mut unread: Vec<Error>) {
        unread.retain(|error| self.warned.insert(error.to_string()));
        ui::warnings(&unread);
    }

    fn section(&mut self, heading: &str, lines: &[String], bytes: u64, failures: &[Error]) -> Result<()> {
        self.bytes += bytes;
        for error in failures {
            self.code = super::exit::code(error);
            ui::error(error);
        }
        if lines.is_empty() { Ok(()) } else { ui::line(&format!("{heading}\n{}\n", lines.join("\n"))) }
    }

    fn end(&self) -> Result<u8> {
        ui::line(&format!("Total reclaimed space: {}", decimal(self.bytes)))?;
        Ok(self.code)
    }
}

/// Asks as docker does: on stdout, and a line of stdin is the answer, wherever
/// it comes from. Its end is a no.
pub(super) fn confirmed(warning: &str) -> Result<bool> {
    ui::write(format!("{warning}\nAre you sure you want to continue? [y/N] ").as_bytes())?;
    let mut answer = Vec::new();
    // What cannot be read is no yes.
    let read = std::io::stdin().lock().take(64).read_until(b'\n', &mut answer);
    Ok(read.is_ok() && answer.trim_ascii().eq_ignore_ascii_case(b"y"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_lists_what_goes() {
        let args = SystemArgs { all: true, filter: vec!["label=a".into()], force: false, volumes: true };
        let expected = "WARNING! This will remove:
  - all stopped containers
  - all networks not used by at least one container
  - all anonymous volumes not used by at least one container
  - all images without at least one container associated to them

  Items to be pruned will be filtered with:
  - label=a
";
        assert_eq!(system_warning(&args), expected);
        let plain = SystemArgs { all: false, filter: Vec::new(), force: false, volumes: false };
        let text = system_warning(&plain);
        assert!(text.ends_with("one container\n  - all dangling images\n"), "{text}");
        assert!(text.contains(":\n  - all stopped pods\n  - all stopped containers\n"), "{text}");
    }
}
