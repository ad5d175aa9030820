//! SIGTERM to the monitor: systemd's user manager at log-out, logind that ends a
//! session, and a host that goes down all end what runs in this way. The
//! container ends as by `stop`, and the record says why.

use super::control;
use super::group;
use super::life::Container;
use crate::error::{Context, Result};
use std::rc::Rc;
use tokio::signal::unix::{SignalKind, signal};

/// From now on the monitor outlives the signal, until its container has ended
/// and the end is on disk.
///
/// # Errors
/// Where the signal cannot be taken: the monitor dies of it, as ever, and its
/// container with it.
pub(super) fn follow(container: &Rc<Container>) -> Result<()> {
    let mut signals = signal(SignalKind::terminate()).context(|| "listen for SIGTERM")?;
    let container = Rc::clone(container);
    tokio::task::spawn_local(async move {
        while signals.recv().await.is_some() {
            container.control.tell_to_end();
            tokio::task::spawn_local(control::end_run(Rc::clone(&container)));
        }
    });
    Ok(())
}

/// What the record says of a run that did not end by itself nor by its user:
/// systemd's user manager ended it, as it does when the last session of one who
/// does not linger ends, or whoever told the monitor to end. No other run follows.
pub(super) fn why_ended(container: &Container, code: u8) -> Option<String> {
    let told = container.control.is_told_to_end();
    let might_be = code >= 128 || container.restarts_by_itself();
    let unasked = told || (might_be && !container.control.is_stopping());
    if unasked && group::is_ended_by_log_out(container) {
        container.control.forbid_restart();
        return Some("systemd's user manager ended it, as at log-out (see `loginctl enable-linger`)".into());
    }
    told.then(|| "its monitor was told to end by SIGTERM, as when a session or the host ends".into())
}
