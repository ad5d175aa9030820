//! The merged tree: what all its operations share.

use super::aliases::Aliases;
use super::handles::{Counted, Data, Limit, Parts};
use super::inode::{Inode, Layer, State, UPPER};
use super::owners::LowerOwners;
use super::room::Room;
use super::table::{Identity, Table};
use super::times::Times;
use super::wire::{Answer, Attr, ROOT};
use super::work::Work;
use super::{Layers, Options};
use crate::error::{Context, Error, Result};
use crate::storage::whiteout;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

pub(super) struct Merged {
    pub(super) root: Arc<Inode>,
    pub(super) table: Table,
    pub(super) limit: Limit,
    pub(super) owners: LowerOwners,
    /// Nothing is ever forced to the disk.
    pub(super) volatile: bool,
    pub(super) write_through: bool,
    pub(super) live: bool,
    /// Where copies are prepared; `None` for a tree that nobody writes to.
    pub(super) work: Option<Work>,
    /// How many lower layers there are.
    pub(super) layers: Layer,
    /// Names of hard links in the lower layers, for those that were looked through.
    pub(super) aliases: Mutex<HashMap<Layer, Arc<Aliases>>>,
    /// The devices that layers are on; the first is the upper directory's.
    pub(super) devices: RwLock<Vec<u64>>,
    /// When a file was last asked for by its name: see `listing`.
    pub(super) looked_at: AtomicU64,
    pub(super) times: Times,
    pub(super) room: Room,
    /// Whiteouts of a layer may be files with a mark: see [`crate::storage::whiteout`].
    pub(super) may_be_marked: bool,
}

/// How a directory is opened: for its entries, its attributes and as a base.
pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const PATH: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Merged {
    /// # Errors
    /// `Failed` where a layer cannot be read or the upper directory's file
    /// system lacks what the format needs.
    pub(super) fn new(layers: Layers, options: Options) -> Result<Self> {
        let limit = Limit::new();
        let mut devices = Vec::new();
        let open = |layer: &OwnedFd| {
            rustix::fs::openat(layer, c".", DIRECTORY, Mode::empty())
                .or_else(|_| rustix::fs::openat(layer, c".", PATH, Mode::empty()))
                .context(|| "open a layer")
        };
        let upper = layers.upper.as_ref().map(open).transpose()?;
        let lowers = layers.lowers.iter().map(open).collect::<Result<Vec<_>>>()?;
        if lowers.len() >= usize::from(Layer::MAX) {
            return Err(Error::invalid(format!("{} layers", lowers.len())));
        }
        for fd in upper.iter().chain(&lowers) {
            let device = rustix::fs::fstat(fd).context(|| "look at a layer")?.st_dev;
            if !devices.contains(&device) {
                devices.push(device);
            }
        }
        let may_be_marked = upper.iter().chain(&lowers).any(|fd| !whiteout::are_devices(fd.as_fd()));
        let work = match (&upper, layers.work) {
            (Some(upper), Some(work)) => Some(Work::new(upper.as_fd(), work)?),
            _ => None,
        };
        let count = lowers.len() as Layer;
        let mut order: Vec<Layer> = (1..).take(lowers.len()).collect();
        if let Some(upper) = &upper {
            if super::xattr::is_opaque(upper.as_fd()) {
                order.clear();
            }
        }
        let lowers: Vec<(Layer, Counted)> =
            (1..).zip(lowers.into_iter().map(|fd| limit.counted(fd))).take(order.len()).collect();
        let parts = Parts { upper: upper.map(|fd| Arc::new(limit.counted(fd))), lowers: lowers.into() };
        let top = parts.all().last().ok_or_else(|| Error::invalid("an overlay of no layers"))?;
        let stat = rustix::fs::fstat(top.1).context(|| "look at a layer")?;
        let state = State { upper: parts.upper.is_some(), lowers: order.into(), ..State::default() };
        let root = Arc::new(Inode::new(ROOT, identity_of(&devices, &stat), FileType::Directory, state));
        root.handles().parts = Some(Arc::new(parts));
        root.lookups.store(1, Ordering::Relaxed);
        let table = Table::new();
        table.insert_node(&root);
        Ok(Self {
            root,
            table,
            limit,
            volatile: options.volatile,
            write_through: options.write_through,
            // Strangers' files are the host's.
            live: options.live || options.owners.squash.is_some(),
            owners: options.owners,
            work,
            layers: count,
            aliases: Mutex::default(),
            devices: RwLock::new(devices),
            looked_at: AtomicU64::new(0),
            times: Times::new(),
            room: Room::new(),
            may_be_marked,
        })
    }

    /// # Errors
    /// ESTALE for a node that the kernel was not given or has let go of.
    pub(super) fn inode(&self, node: u64) -> Answer<Arc<Inode>> {
        if node == ROOT {
            return Ok(Arc::clone(&self.root));
        }
        self.table.get(node).ok_or(Errno::STALE)
    }

    pub(super) fn directory(&self, node: u64) -> Answer<Arc<Inode>> {
        self.inode(node).and_then(|inode| if inode.is_dir() { Ok(inode) } else { Err(Errno::NOTDIR) })
    }

    /// The work directory.
    ///
    /// # Errors
    /// EROFS for a tree without an upper directory.
    pub(super) fn work(&self) -> Answer<&Work> {
        self.work.as_ref().ok_or(Errno::ROFS)
    }

    /// One number for device and inode: the inode's own on the upper directory's
    /// device, so that stat(2) shows what the kernel's overlay would.
    pub(super) fn identity(&self, stat: &Stat) -> Identity {
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        if devices.contains(&stat.st_dev) {
            return identity_of(&devices, stat);
        }
        drop(devices);
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        if !devices.contains(&stat.st_dev) {
            devices.push(stat.st_dev);
        }
        identity_of(&devices, stat)
    }

    /// Calls again once with fewer files open, where the limit is reached.
    pub(super) fn retry<T>(&self, call: impl Fn() -> rustix::io::Result<T>) -> Answer<T> {
        match call() {
            Err(Errno::MFILE | Errno::NFILE) => {
                self.limit.shrink();
                call()
            }
            result => result,
        }
    }

    /// The directory, open in its layers.
    pub(super) fn parts(&self, inode: &Arc<Inode>) -> Answer<Arc<Parts>> {
        if let Some(parts) = &inode.handles().parts {
            return Ok(Arc::clone(parts));
        }
        let state = inode.state();
        self.parts_of(inode, &state)
    }

    /// As [`Self::parts`], for who holds the state.
    pub(super) fn parts_of(&self, inode: &Arc<Inode>, state: &State) -> Answer<Arc<Parts>> {
        if let Some(parts) = &inode.handles().parts {
            return Ok(Arc::clone(parts));
        }
        let name = state.names.first().ok_or(Errno::NOENT)?;
        let above = self.parts(&name.parent)?;
        let open = |dir: BorrowedFd<'_>| {
            let opened = self.retry(|| rustix::fs::openat(dir, &*name.name, DIRECTORY, Mode::empty()));
            match opened {
                // Somebody else's directory that may be passed through only.
                Err(Errno::ACCESS) => {
                    self.retry(|| rustix::fs::openat(dir, &*name.name, PATH, Mode::empty()))
                }
                opened => opened,
            }
            .map(|fd| self.limit.counted(fd))
        };
        let upper = match (&above.upper, state.upper) {
            (Some(dir), true) => Some(Arc::new(open(dir.as_fd())?)),
            _ => None,
        };
        let mut lowers = Vec::with_capacity(state.lowers.len());
        for layer in state.lowers.iter() {
            let dir = above.get(*layer).ok_or(Errno::NOENT)?;
            lowers.push((*layer, open(dir)?));
        }
        let parts = Arc::new(Parts { upper, lowers: lowers.into() });
        let mut handles = inode.handles();
        if let Some(others) = &handles.parts {
            return Ok(Arc::clone(others));
        }
        handles.parts = Some(Arc::clone(&parts));
        drop(handles);
        self.limit.holds(inode);
        Ok(parts)
    }

    /// The directory's part in the upper directory, which it must have.
    pub(super) fn upper_part(&self, inode: &Arc<Inode>) -> Answer<Arc<Counted>> {
        self.parts(inode)?.upper.clone().ok_or(Errno::ROFS)
    }

    /// Looks at the file itself.
    pub(super) fn stat_of(&self, inode: &Arc<Inode>, state: &State) -> Answer<Stat> {
        if inode.is_dir() {
            let parts = self.parts_of(inode, state)?;
            let (_, top) = parts.all().next().ok_or(Errno::NOENT)?;
            return rustix::fs::fstat(top);
        }
        if let Some(data) = &inode.handles().data {
            return rustix::fs::fstat(data.fd.as_fd());
        }
        self.at(state, |dir, name| {
            rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH)
        })
    }

    /// Calls with the directory and the name by which the file's layer has it, or
    /// with the held file and the empty name (AT_EMPTY_PATH).
    pub(super) fn at<T>(
        &self,
        state: &State,
        call: impl FnOnce(BorrowedFd<'_>, &CStr) -> rustix::io::Result<T>,
    ) -> Answer<T> {
        if let Some(held) = state.held() {
            return call(held.as_fd(), c"");
        }
        let Some(name) = state.names.iter().find(|name| name.real) else {
            let group = state.group().ok_or(Errno::NOENT)?;
            return call(self.work()?.links(), &group.key);
        };
        let parts = self.parts(&name.parent)?;
        call(parts.get(state.layer()).ok_or(Errno::NOENT)?, &name.name)
    }

    /// The file's data, open for reading, and for writing if it is in the upper
    /// directory.
    pub(super) fn data(&self, inode: &Arc<Inode>) -> Answer<Arc<Data>> {
        if let Some(data) = &inode.handles().data {
            return Ok(Arc::clone(data));
        }
        let state = inode.state();
        let data = Arc::new(self.open_data(inode, &state)?);
        let mut handles = inode.handles();
        handles.data = Some(Arc::clone(&data));
        drop(handles);
        drop(state);
        self.limit.holds(inode);
        Ok(data)
    }

    pub(super) fn open_data(&self, inode: &Inode, state: &State) -> Answer<Data> {
        if inode.kind != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        if let Some(held) = state.held() {
            let fd = self.retry(|| rustix::io::fcntl_dupfd_cloexec(held, 3))?;
            return Ok(Data::new(self.limit.counted(fd), state.upper));
        }
        let base = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let open = |flags: OFlags| {
            self.at(state, |dir, name| {
                self.retry(|| rustix::fs::openat(dir, name, base | flags, Mode::empty()))
            })
        };
        if state.layer() == UPPER {
            if let Ok(fd) = open(OFlags::RDWR) {
                return Ok(Data::new(self.limit.counted(fd), true));
            }
        }
        // A read leaves no trace in a layer, where its owner lets us.
        let fd = match open(OFlags::RDONLY | OFlags::NOATIME) {
            Err(Errno::PERM) => open(OFlags::RDONLY),
            opened => opened,
        }?;
        Ok(Data::new(self.limit.counted(fd), false))
    }

    /// What stat(2) is to show.
    pub(super) fn attr(&self, inode: &Inode, state: &State, stat: &Stat) -> Attr {
        let (mut uid, mut gid) = (stat.st_uid, stat.st_gid);
        if !state.upper {
            (uid, gid) = self.owners.show(uid, gid);
        }
        let merged = inode.is_dir() && state.lowers.len() + usize::from(state.upper) > 1;
        let nlink = match state.group() {
            Some(group) => group.count(stat.st_nlink as u32),
            // As the kernel's overlay: nobody counted the directories in it.
            None if merged => 1,
            None => (stat.st_nlink as u32).saturating_sub(state.gone),
        };
        let set_id = stat.st_mode & (libc::S_ISUID | libc::S_ISGID) != 0;
        inode.set_id.store(set_id && inode.kind == FileType::RegularFile, Ordering::Relaxed);
        let time = |seconds: i64, nanoseconds| (seconds, u32::try_from(nanoseconds).unwrap_or(0));
        Attr {
            ino: inode.ino,
            size: stat.st_size as u64,
            blocks: stat.st_blocks as u64,
            atime: time(stat.st_atime, stat.st_atime_nsec),
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
            mode: stat.st_mode,
            nlink,
            uid,
            gid,
            rdev: packed(stat.st_rdev),
            blksize: stat.st_blksize as u32,
        }
    }
}

fn identity_of(devices: &[u64], stat: &Stat) -> Identity {
    let number = devices.iter().position(|device| *device == stat.st_dev).unwrap_or(0) as u64;
    stat.st_ino.wrapping_add(number << 56)
}

/// A device number as the kernel packs it into 32 bits: `new_encode_dev`.
fn packed(device: u64) -> u32 {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// The other way round.
pub(super) fn unpacked(device: u32) -> u64 {
    let major = (device & 0xf_ff00) >> 8;
    let minor = (device & 0xff) | ((device >> 12) & 0xf_ff00);
    rustix::fs::makedev(major, minor)
}
