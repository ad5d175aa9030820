//! The container's `/etc/resolv.conf` follows the host's, which changes when a
//! VPN comes up or a laptop moves.
//!
//! The file is rewritten in place, as the same inode is mounted in the
//! container, and only as long as the container has not made it its own.

// `AsyncFd::new` is deprecated for types that may change their fd; an `OwnedFd`
// does not.
#![allow(deprecated)]

use super::life::Container;
use super::plan;
use crate::error::{BestEffort, Context, Result};
use crate::network::uplink::Addresses;
use crate::types::namespace::NetworkMode;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// Whoever changes the host's file does so in several steps.
const MOMENT: Duration = Duration::from_millis(100);
/// A container that has ended by then needs nothing that is watched.
const GRACE: Duration = Duration::from_secs(1);

/// Follows the host's file until it is aborted.
pub(super) fn follow(
    container: &Rc<Container>,
    addresses: Option<Addresses>,
) -> Option<tokio::task::JoinHandle<()>> {
    if !plan::follows_host(&container.record.config) {
        return None;
    }
    let container = Rc::clone(container);
    Some(tokio::task::spawn_local(async move {
        // Without inotify (`max_user_instances`) the file stays as it is.
        watch(&container, addresses.as_ref()).await.or_ignore();
    }))
}

async fn watch(container: &Container, addresses: Option<&Addresses>) -> Result<()> {
    let step = || "watch resolv.conf";
    let file = container.dirs.container(&container.record.id).join("resolv.conf");
    // Before the container may have changed it.
    let mut written = std::fs::read(&file).context(step)?;
    tokio::select! {
        () = tokio::time::sleep(GRACE) => {}
        () = container.networks.changed.notified() => {}
    }
    let fd = AsyncFd::new(instance(container).context(step)?).context(step)?;
    loop {
        // Anew each time: a link may lead elsewhere now. What is watched already
        // is not watched twice.
        let (files, directories) = places(container);
        let changes =
            WatchFlags::CLOSE_WRITE | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE;
        // The file itself too: mounted by itself, as in a container, it lies elsewhere.
        let places = files.iter().map(|file| (file, WatchFlags::CLOSE_WRITE));
        let places =
            places.chain(directories.iter().map(|directory| (directory, changes | WatchFlags::ONLYDIR)));
        for (place, events) in places {
            inotify::add_watch(fd.get_ref().as_fd(), place, events).map(drop).or_ignore();
        }
        // At first too: it may have changed since the plan was made.
        let on_networks = container.networks.addresses(addresses);
        let addresses = on_networks.as_ref().or(addresses);
        let text = plan::resolv_conf(&container.dirs, &container.store, &container.record, addresses);
        if let Ok(Some(text)) = text {
            if text.as_bytes() != written && std::fs::read(&file).is_ok_and(|present| present == written) {
                rewrite(&file, text.as_bytes()).context(|| format!("write {}", file.display()))?;
                written = text.into_bytes();
            }
        }
        tokio::select! {
            result = changed(&fd) => result.context(step)?,
            () = container.networks.changed.notified() => {}
        }
    }
}

/// The monitor's inotify instance. The last close of one takes the kernel some
/// ten milliseconds (it waits until nobody reads the list of marks:
/// `fsnotify_destroy_group`): it comes with the monitor's own end, when the
/// container's has been told.
fn instance(container: &Container) -> std::io::Result<OwnedFd> {
    let kept = match container.watch.get() {
        Some(kept) => kept,
        None => {
            let made = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
            container.watch.get_or_init(|| made)
        }
    };
    kept.try_clone()
}

/// The files in which the resolvers are, and the directories in which something changes
/// when another takes their place.
fn places(container: &Container) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let files = match &container.record.config.network {
        NetworkMode::Container(word) => match container.store.resolve(word) {
            Ok(id) => vec![container.dirs.container(&id).join("resolv.conf")],
            Err(_) => Vec::new(),
        },
        _ => ["/etc/resolv.conf", plan::SYSTEMD_RESOLVERS].map(PathBuf::from).into(),
    };
    let real = files.iter().filter_map(|file| std::fs::canonicalize(file).ok()).collect::<Vec<_>>();
    let all = files.iter().chain(&real).filter_map(|file| file.parent().map(Path::to_owned));
    let mut directories: Vec<PathBuf> = all.collect();
    directories.sort();
    directories.dedup();
    (files, directories)
}

/// Returns a moment after something has changed.
async fn changed(fd: &AsyncFd<OwnedFd>) -> std::io::Result<()> {
    let mut events = [0; 4096];
    // What they are about is seen by looking.
    let mut drain = || -> std::io::Result<()> {
        while rustix::io::read(fd.get_ref(), &mut events).map_err(std::io::Error::from)? > 0 {}
        Ok(())
    };
    let mut ready = fd.readable().await?;
    tokio::time::sleep(MOMENT).await;
    // It ends with "nothing now".
    ready.try_io(|_| drain()).unwrap_or(Ok(()))
}

/// No reader sees an empty file: it is written over, then cut.
fn rewrite(file: &Path, text: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().write(true).open(file)?;
    file.write_all_at(text, 0)?;
    file.set_len(text.len() as u64)
}
