//! `containers/<id>/health.json`: what the checks of a container have found.
//! Written by its monitor, by rename and without a sync.

use super::written::{Durable, read_json, write_json};
use crate::error::Result;
use crate::types::health::HealthState;
use std::path::Path;

const FILE: &str = "health.json";

/// What is known of the container in `directory`; `None` where nothing was checked.
pub(crate) fn read(directory: &Path) -> Result<Option<HealthState>> {
    // A later release's is not understood, and not needed.
    Ok(read_json::<HealthState>(&directory.join(FILE))?.filter(|state| state.version <= 1))
}

pub(crate) fn save(directory: &Path, state: &HealthState) -> Result<()> {
    write_json(&directory.join(FILE), state, Durable::No)
}
