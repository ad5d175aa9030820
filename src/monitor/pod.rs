//! What the end of a container means for its pod: with `--exit-policy stop` the
//! last one takes along what they shared.

use super::control::{STOP_TIMEOUT, socket_path};
use super::life::Container;
use super::messages::{Reply, Request};
use crate::channel::Channel;
use crate::error::{BestEffort, Context, Result};
use crate::state::pods::Pods;
use crate::types::id::ContainerId;
use crate::types::pod::{ExitPolicy, PodRef};
use std::os::unix::net::UnixStream;

/// The container has ended for good, and says so already. Of two that end at the
/// same time each may find itself the last: being told twice is no harm.
pub(super) fn ended(container: &Container) {
    if let Some(pod) = container.record.config.pod.as_ref().filter(|_| !container.record.config.infra) {
        end_infra(container, pod).or_ignore();
    }
}

fn end_infra(container: &Container, pod: &PodRef) -> Result<()> {
    let record = Pods::new(&container.dirs).record(&pod.id)?;
    let Some(infra) = record.infra.filter(|_| record.exit_policy == ExitPolicy::Stop) else { return Ok(()) };
    let store = &container.store;
    let another_lives = |id: &ContainerId| {
        *id != container.record.id
            && *id != infra
            && store.record(id).is_ok_and(|other| other.config.is_in_pod(&pod.id))
            && store.live(id).is_ok_and(|live| live.is_some())
    };
    if store.ids()?.iter().any(another_lives) {
        return Ok(());
    }
    let (_directory, path) = socket_path(&container.dirs.container_runtime(&infra))?;
    let stream = UnixStream::connect(path).context(|| "tell the pod's infra container")?;
    let mut channel = Channel::<Request, Reply>::new(stream);
    // Its end is not waited for: it is another monitor's.
    channel.send(&Request::Stop { signal: libc::SIGTERM, timeout: STOP_TIMEOUT, keep: false })
}
