//! Which storage driver is asked for: the flag, else the environment, else the
//! settings, else `auto`.

use super::Engine;
use crate::dirs::create_private;
use crate::error::{BestEffort, Error, Result};
use crate::monitor::overlay::{Mounted, Overlays};
use crate::monitor::plan::Context;
use crate::storage::overlay::Overlay;
use crate::types::container::ContainerRecord;
use crate::types::driver::{Driver, DriverChoice};
use crate::types::uplink::Preference;
use crate::userns::Outer;
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
            None => Ok(self.settings()?.driver),
        }
    }

    /// What a container that is started now would run on, found out by mounting
    /// something, and why. This process is in the outer namespace afterwards.
    pub(crate) fn storage_in_use(&self) -> (Option<Driver>, String) {
        let probed = self.driver_choice().and_then(|choice| Ok((choice, self.probe(choice)?)));
        match probed {
            Err(error) => (None, format!("none: {error}")),
            Ok((DriverChoice::Overlay, _)) => {
                (Some(Driver::Overlay), "overlay (kernel), as asked for".into())
            }
            Ok((DriverChoice::Fuse, _)) => (Some(Driver::Fuse), "fuse, as asked for".into()),
            Ok((DriverChoice::Auto, Mounted { driver, because, .. })) => match because {
                None => (Some(driver), format!("{} (kernel)", driver.name())),
                Some(why) => (Some(driver), format!("{} because {why}", driver.name())),
            },
        }
    }

    fn probe(&self, choice: DriverChoice) -> Result<Mounted> {
        self.enter()?;
        let base = self.dirs.state.join(format!(".probe-{}", std::process::id()));
        let [lower, upper, work] = ["lower", "upper", "work"].map(|name| base.join(name));
        let lowers = [lower];
        let overlay = Overlay { lowers: &lowers, upper: &upper, work: &work, volatile: false };
        let made = [&lowers[0], &upper, &work].into_iter().try_for_each(|path| create_private(path));
        let mounted = made.and_then(|()| Overlays::new(choice).plain(&overlay));
        // The work directory holds one of mode 0 that root of this namespace may remove.
        std::fs::remove_dir_all(&base).or_ignore();
        mounted
    }

    /// To mount a container that does not run, in this process.
    pub(super) fn context_at_rest<'a>(
        &'a self,
        record: &'a ContainerRecord,
        outer: &'a Outer,
        overlays: &'a Overlays,
    ) -> Context<'a> {
        Context { dirs: &self.dirs, store: &self.store, record, outer, overlays, uplink: Preference::Auto }
    }

    /// For what this process mounts itself: whoever serves it outlives it.
    pub(super) fn overlays(&self) -> Result<Overlays> {
        Ok(Overlays::new(self.driver_choice()?))
    }
}
