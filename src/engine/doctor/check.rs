//! What one look at the host has found.

use crate::error::{Cause, Error};
use serde::Serialize;

/// An I/O error in words, without its number.
pub(super) fn words(error: std::io::Error) -> String {
    error.into_error().to_string()
}

/// How much it matters; the exit code of `doctor` is that of the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// As it should be.
    Ok,
    /// Nothing is missing, but it is good to know.
    Note,
    /// Containers run; something is slower or not there.
    Limited,
    /// No container runs.
    Broken,
}

impl Severity {
    /// Exit code of `doctor`.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Ok | Self::Note => 0,
            Self::Limited => 1,
            Self::Broken => 2,
        }
    }
}

/// Who can mend it, and with what words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Remedy {
    /// A command or a step for the user.
    User(String),
    /// A command or a text that an administrator needs.
    Administrator(String),
}

/// What `doctor --fix` may do: what a user may undo as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mend {
    /// The directory is made, or its mode becomes 0700.
    Private(std::path::PathBuf),
    /// `loginctl enable-linger`, which systemd lets a user do for himself.
    Linger,
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// Stable, for programs: `subuid`.
    pub(crate) name: &'static str,
    pub(crate) severity: Severity,
    /// What was found.
    pub(crate) found: String,
    /// What it costs the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cost: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<Remedy>,
    #[serde(skip)]
    pub(crate) mend: Option<Mend>,
}

impl Check {
    fn new(name: &'static str, severity: Severity, found: impl Into<String>) -> Self {
        Self { name, severity, found: found.into(), cost: None, remedy: None, mend: None }
    }

    pub(super) fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, Severity::Ok, found)
    }

    pub(super) fn note(name: &'static str, found: impl Into<String>, cost: impl Into<String>) -> Self {
        Self::new(name, Severity::Note, found).costs(cost)
    }

    pub(super) fn limited(name: &'static str, found: impl Into<String>, cost: impl Into<String>) -> Self {
        Self::new(name, Severity::Limited, found).costs(cost)
    }

    pub(super) fn broken(name: &'static str, found: impl Into<String>) -> Self {
        Self::new(name, Severity::Broken, found).costs("no container runs")
    }

    /// From an error, whose first hint is for an administrator where it begins
    /// with `sudo`.
    pub(super) fn failed(
        name: &'static str,
        severity: Severity,
        error: &Error,
        cost: impl Into<String>,
    ) -> Self {
        let check = Self::new(name, severity, error.to_string()).costs(cost);
        match error.remedy() {
            Some(hint) if hint.contains("sudo ") || hint.contains("administrator") => check.admin(hint),
            Some(hint) => check.user(hint),
            None => check,
        }
    }

    fn costs(mut self, cost: impl Into<String>) -> Self {
        self.cost = Some(cost.into());
        self
    }

    #[must_use]
    pub(super) fn user(mut self, step: impl Into<String>) -> Self {
        self.remedy = Some(Remedy::User(step.into()));
        self
    }

    #[must_use]
    pub(super) fn admin(mut self, text: impl Into<String>) -> Self {
        self.remedy = Some(Remedy::Administrator(text.into()));
        self
    }

    #[must_use]
    pub(super) fn mended_by(mut self, mend: Mend) -> Self {
        self.mend = Some(mend);
        self
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.severity == Severity::Ok
    }
}
