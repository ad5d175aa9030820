//! What a process that serves strangers may do: no more than it needs.

use crate::error::{Context, Result};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Gives up all capabilities but these, for good.
///
/// # Errors
/// Where the kernel refuses: nothing is to be served then.
pub(super) fn keep(these: CapabilitySet) -> Result<()> {
    let step = || "give up capabilities";
    rustix::thread::set_no_new_privs(true).context(step)?;
    let inheritable = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, CapabilitySets { effective: these, permitted: these, inheritable })
        .context(step)
}
