//! Which storage driver is asked for: the flag, else the environment, else the
//! settings, else `auto`.

use super::Engine;
use crate::config;
use crate::error::{Error, Result};
use crate::monitor::overlay::{Complaints, Overlays};
use crate::types::driver::DriverChoice;
use std::sync::OnceLock;

/// Between flag and file.
const VARIABLE: &str = "CORACLE_STORAGE_DRIVER";

static FLAG: OnceLock<DriverChoice> = OnceLock::new();

/// Says what `--storage-driver` asks for: once, before anything is started.
pub(crate) fn choose(choice: DriverChoice) {
    FLAG.get_or_init(|| choice);
}

impl Engine {
    /// What is asked for now: containers may have another driver at each start.
    ///
    /// # Errors
    /// `Invalid` for a word that is no driver, with where it stands.
    pub(crate) fn driver_choice(&self) -> Result<DriverChoice> {
        if let Some(choice) = FLAG.get() {
            return Ok(*choice);
        }
        match std::env::var_os(VARIABLE).filter(|word| !word.is_empty()) {
            Some(word) => {
                let word = word.to_str().ok_or_else(|| Error::invalid(format!("{VARIABLE} is not UTF-8")))?;
                DriverChoice::parse(word).map_err(|error| error.context(VARIABLE))
            }
            None => Ok(config::read(&self.dirs.config)?.driver),
        }
    }

    /// For what this process mounts itself: whoever serves it outlives it.
    pub(super) fn overlays(&self) -> Result<Overlays> {
        Ok(Overlays::new(self.driver_choice()?, Complaints::Dropped))
    }
}
