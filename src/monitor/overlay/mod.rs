//! Overlays: the kernel's or our own on FUSE, as asked for and as this host
//! has it. `auto` decides by doing: it mounts what is wanted, and where the
//! kernel refuses, or cannot show files with other owners, FUSE does it.

mod server;
mod stuck;

pub(crate) use server::{ROLE, Server, main};
pub(super) use stuck::end_stuck;

use crate::error::{Context, Error, Result, Trouble};
use crate::storage::fuse::{Layers, LowerOwners, Options};
use crate::storage::layers::LayerStore;
use crate::storage::overlay::{self, Overlay};
use crate::sys::mount::{MountAttr, RDONLY, mount_setattr};
use crate::types::digest::Digest;
use crate::types::driver::{Driver, DriverChoice};
use crate::userns::ContainerMaps;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::Duration;

/// How long servers may take to end after the container.
const LAST: Duration = Duration::from_secs(2);

/// What is asked for, and the servers that it has taken so far.
pub(crate) struct Overlays {
    choice: DriverChoice,
    servers: RefCell<Vec<Server>>,
}

/// A detached mount.
pub(crate) struct Mounted {
    pub(crate) mount: OwnedFd,
    pub(crate) driver: Driver,
    /// Why it is FUSE where that was not asked for.
    pub(crate) because: Option<String>,
}

/// The layers of an image and the directories of a container over them.
pub(crate) struct ImageRoot<'a> {
    pub(crate) store: &'a LayerStore,
    /// From the lowest to the topmost.
    pub(crate) layers: &'a [Digest],
    pub(crate) upper: &'a Path,
    pub(crate) work: &'a Path,
    pub(crate) volatile: bool,
    /// The container cannot write to it: `--read-only`.
    pub(crate) read_only: bool,
    /// Where files have other owners in the container than in the outer namespace.
    pub(crate) shift: Option<&'a ContainerMaps>,
}

impl ImageRoot<'_> {
    /// The layers from the topmost on.
    fn plain(&self) -> Result<Vec<PathBuf>> {
        let plain: Vec<PathBuf> = self.layers.iter().rev().map(|layer| self.store.path(layer)).collect();
        match plain.iter().find(|lower| !lower.is_dir()) {
            None => Ok(plain),
            Some(missing) => {
                Err(Error::not_found(format!("a layer of the image is gone: {}", missing.display()))
                    .hint("pull or load the image again"))
            }
        }
    }

    /// Copies of them with the owners that these maps give, made where missing.
    fn copies(&self, maps: &ContainerMaps) -> Result<Vec<PathBuf>> {
        self.layers.iter().rev().map(|layer| self.store.mapped(layer, &maps.uid, &maps.gid)).collect()
    }
}

/// What a server is to show.
#[derive(Default)]
struct Tree<'a> {
    lowers: &'a [PathBuf],
    upper: Option<&'a Path>,
    work: Option<&'a Path>,
    read_only: bool,
    volatile: bool,
    /// Read, and hardly written to.
    write_through: bool,
    /// A directory of the host.
    live: bool,
    owners: LowerOwners,
}

/// One way to mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Kernel,
    /// The kernel's, over copies of the layers with other owners.
    Copies,
    Fuse,
}

/// What is tried, one after the other.
fn ways(choice: DriverChoice, shifted: bool) -> &'static [Way] {
    match (choice, shifted) {
        (DriverChoice::Auto, false) => &[Way::Kernel, Way::Fuse],
        (DriverChoice::Auto, true) => &[Way::Fuse, Way::Copies],
        (DriverChoice::Overlay, false) => &[Way::Kernel],
        (DriverChoice::Overlay, true) => &[Way::Copies],
        (DriverChoice::Fuse, _) => &[Way::Fuse],
    }
}

impl Overlays {
    pub(crate) fn new(choice: DriverChoice) -> Self {
        Self { choice, servers: RefCell::default() }
    }

    pub(crate) fn choice(&self) -> DriverChoice {
        self.choice
    }

    /// The root file system of a container with an image.
    ///
    /// # Errors
    /// `NotFound` where a layer is gone; why no driver can do it.
    pub(crate) fn image(&self, root: &ImageRoot<'_>) -> Result<Mounted> {
        let plain = root.plain()?;
        let over = Overlay { lowers: &plain, upper: root.upper, work: root.work, volatile: root.volatile };
        check_upper(root.upper)?;
        self.try_in_turn(ways(self.choice, root.shift.is_some()), |way| match (way, root.shift) {
            (Way::Fuse, shift) => self.serve(&Tree {
                lowers: &plain,
                upper: Some(root.upper),
                work: Some(root.work),
                volatile: root.volatile,
                write_through: root.read_only,
                owners: shift.map(shifted).unwrap_or_default(),
                ..Tree::default()
            }),
            (Way::Copies, Some(maps)) => overlay::mount(&Overlay { lowers: &root.copies(maps)?, ..over }),
            (Way::Kernel | Way::Copies, _) => overlay::mount(&over),
        })
    }

    /// The files of a container as one tree that nobody can write to; `point` is
    /// an empty directory of ours. Nobody starts it meanwhile.
    ///
    /// # Errors
    /// As [`Self::image`].
    pub(crate) fn read_only(&self, root: &ImageRoot<'_>, point: &Path) -> Result<OwnedFd> {
        let plain = root.plain()?;
        let with_upper = |lowers: Vec<PathBuf>| -> Vec<PathBuf> {
            std::iter::once(root.upper.to_owned()).chain(lowers).collect()
        };
        let mounted =
            self.try_in_turn(ways(self.choice, root.shift.is_some()), |way| match (way, root.shift) {
                // With the work directory, which knows of names that are one file.
                (Way::Fuse, shift) => self.serve(&Tree {
                    lowers: &plain,
                    upper: Some(root.upper),
                    work: Some(root.work),
                    read_only: true,
                    write_through: true,
                    owners: shift.map(shifted).unwrap_or_default(),
                    ..Tree::default()
                }),
                (Way::Copies, Some(maps)) => overlay::view(&with_upper(root.copies(maps)?), point),
                (Way::Kernel | Way::Copies, _) => overlay::view(&with_upper(plain.clone()), point),
            });
        mounted.map(|mounted| mounted.mount)
    }

    /// Several trees as one that nobody can write to.
    ///
    /// # Errors
    /// Why no driver can do it.
    pub(crate) fn view(&self, lowers: &[PathBuf], point: &Path) -> Result<OwnedFd> {
        // A single one is opened as it is.
        let ways = if lowers.len() == 1 { &[Way::Kernel] } else { ways(self.choice, false) };
        let mounted = self.try_in_turn(ways, |way| match way {
            Way::Fuse => {
                self.serve(&Tree { lowers, read_only: true, write_through: true, ..Tree::default() })
            }
            Way::Kernel | Way::Copies => overlay::view(lowers, point),
        });
        mounted.map(|mounted| mounted.mount)
    }

    /// Directories as they are: to see what this host can do.
    ///
    /// # Errors
    /// Why no driver can do it.
    pub(crate) fn plain(&self, overlay: &Overlay<'_>) -> Result<Mounted> {
        check_upper(overlay.upper)?;
        self.try_in_turn(ways(self.choice, false), |way| match way {
            Way::Fuse => self.fuse(overlay, LowerOwners::default()),
            Way::Kernel | Way::Copies => overlay::mount(overlay),
        })
    }

    /// The FUSE overlay over a directory of the host, and nothing else.
    ///
    /// # Errors
    /// Where there is no FUSE for this user.
    pub(crate) fn fuse(&self, overlay: &Overlay<'_>, owners: LowerOwners) -> Result<OwnedFd> {
        let Overlay { lowers, upper, work, volatile } = *overlay;
        self.serve(&Tree {
            lowers,
            upper: Some(upper),
            work: Some(work),
            volatile,
            live: true,
            owners,
            ..Tree::default()
        })
    }

    fn serve(&self, tree: &Tree<'_>) -> Result<OwnedFd> {
        if let Some(upper) = tree.upper {
            check_upper(upper)?;
        }
        let layers = Layers {
            lowers: tree.lowers.iter().map(|lower| open(lower)).collect::<Result<Vec<_>>>()?,
            upper: tree.upper.map(open).transpose()?,
            work: tree.work.map(open).transpose()?,
        };
        let options = Options {
            volatile: tree.volatile,
            write_through: tree.write_through,
            live: tree.live,
            owners: tree.owners.clone(),
        };
        let (mount, server) = server::mount(&layers, options)?;
        self.servers.borrow_mut().push(server);
        if tree.read_only {
            let attr = MountAttr { set: RDONLY, ..MountAttr::default() };
            mount_setattr(mount.as_fd(), c"", attr, false).context(|| "make the overlay read-only")?;
        }
        Ok(mount)
    }

    fn try_in_turn(&self, ways: &[Way], mount: impl Fn(Way) -> Result<OwnedFd>) -> Result<Mounted> {
        let mut refused: Option<Error> = None;
        for way in ways {
            let result = mount(*way);
            match (result, refused.take()) {
                (Ok(mount), first) => {
                    let driver = if *way == Way::Fuse { Driver::Fuse } else { Driver::Overlay };
                    let because = match (driver, &first, self.choice) {
                        (Driver::Fuse, Some(error), _) => Some(error.to_string()),
                        (Driver::Fuse, None, DriverChoice::Auto) => Some("owners are mapped".to_owned()),
                        (Driver::Fuse, None, DriverChoice::Overlay | DriverChoice::Fuse)
                        | (Driver::Overlay, _, _) => None,
                    };
                    return Ok(Mounted { mount, driver, because });
                }
                (Err(error), None) => refused = Some(error),
                // The first is what is wrong; the second only did not help.
                (Err(error), Some(first)) => {
                    return Err(first
                        .hint(format!("the other driver does not serve either: {error}"))
                        .with_hints(error.hints().to_vec()));
                }
            }
        }
        let error = refused.unwrap_or_else(|| Error::failed("mount the container's files"));
        Err(match self.choice {
            DriverChoice::Overlay => error.hint("or use --storage-driver auto"),
            DriverChoice::Auto | DriverChoice::Fuse => error,
        })
    }

    /// Why a server has ended, where one has: that is what is behind `error`.
    pub(crate) fn blame(&self, error: Error) -> Error {
        // Only those errors come from an overlay without a server.
        if !matches!(error.errno(), Some(libc::ENOTCONN | libc::ECONNABORTED | libc::EIO) | None) {
            return error;
        }
        let patience = if error.errno().is_some() { Duration::from_secs(1) } else { Duration::ZERO };
        let fault = self.servers.borrow().iter().find_map(|server| server.fault(patience));
        fault.unwrap_or(error)
    }

    pub(crate) fn into_servers(self) -> Vec<Server> {
        self.servers.into_inner()
    }
}

/// Returns when one of them has ended before its mount was gone (which a
/// container may unmount itself).
pub(super) async fn any_fails(servers: &[Server]) {
    let mut all: Vec<_> = servers.iter().map(|server| Box::pin(fails(server))).collect();
    std::future::poll_fn(|context| {
        let ready = all.iter_mut().any(|ended| ended.as_mut().poll(context).is_ready());
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

async fn fails(server: &Server) {
    server.ended().await;
    if server.fault(Duration::ZERO).is_none() {
        std::future::pending::<()>().await;
    }
}

/// Waits for them to end, as they do once nothing of the container is left;
/// the reason where one of them did not end so.
pub(super) async fn end(servers: &[Server]) -> Option<Error> {
    let mut fault = None;
    for server in servers {
        // Who still looks at the container's files from outside keeps it.
        let ended = tokio::time::timeout(LAST, server.ended()).await.is_ok();
        if ended {
            fault = fault.or(server.fault(Duration::ZERO));
        }
    }
    fault
}

/// The image's ids are shown as those that are the same in the container.
fn shifted(maps: &ContainerMaps) -> LowerOwners {
    LowerOwners { uid: Some(maps.uid.clone()), gid: Some(maps.gid.clone()), squash: None }
}

/// Both drivers keep marks in user xattrs of the upper directory; without them
/// they would fail at some later write.
fn check_upper(upper: &Path) -> Result<()> {
    match rustix::fs::lgetxattr(upper, c"user.overlay.opaque", &mut [0u8; 8]) {
        Err(Errno::OPNOTSUPP) => {
            let path = upper.display();
            Err(Error::failed(format!(
                "the file system of {path} has no user xattrs, which an overlay needs"
            ))
            .hint("set XDG_STATE_HOME to a directory on ext4, xfs, btrfs, or tmpfs of Linux 6.6")
            .see_doctor(Trouble::Attributes))
        }
        _ => Ok(()),
    }
}

fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).context(|| format!("open {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried() {
        use DriverChoice::{Auto, Fuse, Overlay};
        for (choice, shifted, expected) in [
            (Auto, false, &[Way::Kernel, Way::Fuse][..]),
            (Auto, true, &[Way::Fuse, Way::Copies]),
            (Overlay, false, &[Way::Kernel]),
            (Overlay, true, &[Way::Copies]),
            (Fuse, false, &[Way::Fuse]),
            (Fuse, true, &[Way::Fuse]),
        ] {
            assert_eq!(ways(choice, shifted), expected, "{choice:?} {shifted}");
        }
    }
}
