//! `--pidfile` and `--conmon-pidfile`: who supervises a container from outside, as a
//! unit of systemd does, finds its processes by them. They are there while it runs.

use crate::error::{BestEffort, Context, Result};
use crate::types::container::PidFiles;
use std::path::Path;

/// Written before the command runs, and anew by each restart.
///
/// # Errors
/// Where one cannot be written: then the container does not start.
pub(super) fn write(files: &PidFiles, init: u32) -> Result<()> {
    for (file, pid) in pairs(files, init, std::process::id()) {
        std::fs::write(file, pid.to_string())
            .context(|| format!("write the process id to {}", file.display()))?;
    }
    Ok(())
}

/// Takes them away.
pub(super) fn remove(files: &PidFiles) {
    pairs(files, 0, 0).for_each(|(file, _)| std::fs::remove_file(file).or_ignore());
}

fn pairs(files: &PidFiles, init: u32, monitor: u32) -> impl Iterator<Item = (&Path, u32)> {
    let both = [(&files.init, init), (&files.monitor, monitor)];
    both.into_iter().filter_map(|(file, pid)| Some((file.as_deref()?, pid)))
}
