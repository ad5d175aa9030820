//! What will become of containers when their user logs out: said once, by the
//! first that is started to stay.

use super::Engine;
use crate::cgroup;
use crate::userns::subid::login_name;
use std::path::Path;

/// In the runtime directory, which goes with the user manager: it was said.
const SAID: &str = "log-out.said";

/// Where logind keeps the names of those whose manager stays: loginctl(1), "enable-linger".
const LINGER: &str = "/var/lib/systemd/linger";

impl Engine {
    /// The warning, where this user's containers end with the last session.
    pub(super) fn log_out_warning(&self, uid: u32) -> Option<String> {
        let said = self.dirs.runtime.join(SAID);
        if said.exists() || cgroup::manager(uid).is_none() {
            return None;
        }
        let name = login_name(uid);
        if name.as_deref().is_some_and(lingers) {
            return None;
        }
        // Where it cannot be noted it is said again.
        std::fs::write(said, "").unwrap_or(());
        let name = name.unwrap_or_else(|| uid.to_string());
        Some(format!(
            "containers end when you log out, as your user manager does; to keep them: loginctl enable-linger {name}"
        ))
    }
}

/// Whether the manager of the user with this name runs without a session.
pub(super) fn lingers(name: &str) -> bool {
    Path::new(LINGER).join(name).exists()
}
