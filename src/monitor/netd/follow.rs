//! The interfaces of one monitor's container, for as long as it is on networks.

// `AsyncFd::new` is deprecated for types that may change their fd; an `OwnedFd`
// does not.
#![allow(deprecated)]

use super::server::Job;
use crate::error::BestEffort;
use crate::network::bridge::Bridges;
use crate::types::network::Endpoint;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// A container that changes its interfaces without end is looked at so often.
const PAUSE: Duration = Duration::from_millis(50);

/// Dropped, nobody looks any more.
pub(super) struct Following(JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is followed, and what tells of a change.
pub(super) struct Followed {
    pub(super) id: String,
    pub(super) netns: OwnedFd,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) changed: OwnedFd,
}

/// Has the bridges look at the container's interfaces whenever one of them changes.
pub(super) fn follow(jobs: mpsc::UnboundedSender<Job>, followed: Followed) -> Following {
    Following(tokio::task::spawn_local(async move {
        let Followed { id, netns, endpoints, changed } = followed;
        let Ok(changed) = AsyncFd::new(changed) else { return };
        let mut what = (id, netns, endpoints);
        loop {
            let Ok(mut ready) = changed.readable().await else { return };
            drain(changed.get_ref());
            ready.clear_ready();
            // Whoever waits for this word is there until it has come, or does not care.
            let (tell, told) = oneshot::channel();
            let job: Job = Box::new(move |bridges: &mut Bridges| {
                let (id, netns, endpoints) = &what;
                for endpoint in endpoints {
                    // An interface that is gone has no address.
                    bridges.follow(id, netns, endpoint).or_ignore();
                }
                drop(tell.send(what));
            });
            if jobs.send(job).is_err() {
                return;
            }
            let Ok(back) = told.await else { return };
            what = back;
            tokio::time::sleep(PAUSE).await;
        }
    }))
}

/// What changed is seen by looking; that more came than there was room for, too.
fn drain(socket: &OwnedFd) {
    let mut buffer = [0; 4096];
    loop {
        match rustix::net::recv(socket, &mut buffer[..], rustix::net::RecvFlags::DONTWAIT) {
            Ok(_) | Err(rustix::io::Errno::INTR | rustix::io::Errno::NOBUFS) => {}
            Err(_) => return,
        }
    }
}
