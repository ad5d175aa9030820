//! Containers whose first process is systemd: what it wants of whoever starts it
//! is in its "Container Interface" (systemd.io/CONTAINER_INTERFACE).

use super::boolean;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// `--systemd`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SystemdMode {
    /// Where the command is one that systemd is called by.
    #[default]
    Detected,
    Never,
    Always,
}

/// What asks it to shut down.
pub(crate) const STOP_SIGNAL: &str = "SIGRTMIN+3";

/// Where it wants a tmpfs, the upper one first, and with which mode.
pub(crate) const TMPFS: [(&str, u32); 3] = [("/run", 0o755), ("/run/lock", 0o1777), ("/tmp", 0o1777)];

impl SystemdMode {
    /// # Errors
    /// `Invalid` for what is neither a boolean nor `always`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text.eq_ignore_ascii_case("always") {
            return Ok(Self::Always);
        }
        match boolean::parse("--systemd", text) {
            Ok(true) => Ok(Self::Detected),
            Ok(false) => Ok(Self::Never),
            Err(_) => Err(Error::invalid(format!("invalid --systemd {text:?}"))
                .hint("it is true (where the command is systemd or /sbin/init), false or always")),
        }
    }

    /// Whether a container with this command is made ready for systemd.
    pub(crate) fn holds_for(self, program: &str) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Detected => is_systemd(program),
        }
    }
}

/// As podman has it.
fn is_systemd(program: &str) -> bool {
    matches!(program, "/sbin/init" | "/usr/sbin/init" | "/usr/local/sbin/init")
        || program.rsplit('/').next() == Some("systemd")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_by_its_names() {
        let mode = |text: &str| SystemdMode::parse(text).expect("valid");
        for name in ["/sbin/init", "/usr/sbin/init", "/lib/systemd/systemd", "systemd"] {
            assert!(mode("true").holds_for(name), "{name}");
            assert!(!mode("false").holds_for(name), "{name}");
        }
        for other in ["/bin/init", "init", "sh", "/usr/lib/systemd/systemd-journald", ""] {
            assert!(!SystemdMode::default().holds_for(other), "{other}");
            assert!(mode("always").holds_for(other), "{other}");
        }
        assert!(SystemdMode::parse("sometimes").is_err());
    }
}
