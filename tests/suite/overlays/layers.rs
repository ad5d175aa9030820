//! Lower layers drawn from a seed, and the mounts over them.

use super::operation::{Path, Paths, Random, mode, time};
use super::snapshot::{self, Names, Shown, Snapshot};
use crate::harness::until;
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::CString;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command};

/// A step in the making of the layers. One that cannot be done is not.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// From the lowest layer.
    layer: usize,
    path: Path,
    made: Made,
}

#[derive(Clone, Debug)]
enum Made {
    File {
        length: usize,
        mode: u32,
        attribute: bool,
    },
    Directory {
        mode: u32,
        attribute: bool,
        opaque: bool,
    },
    Symlink(Path),
    Fifo,
    Whiteout,
    /// To another path of the layer.
    Link(Path),
}

const MOST_LAYERS: u64 = 5;

/// What the lower layers are, and the paths in them. With `links` there is a
/// directory of files with several names, which no other layer touches.
pub(super) fn draw(random: &mut Random, links: bool) -> (Vec<Step>, Vec<Path>) {
    let mut steps = Vec::new();
    let mut known = Vec::new();
    for layer in 0..=random.below(MOST_LAYERS) as usize {
        let mut paths = Paths::new(known.clone());
        for _ in 0..6 + random.below(12) {
            let path = paths.any(random);
            let attribute = random.one_in(3);
            let made = match random.below(20) {
                0..8 => {
                    let length = random.pick(&[0, 1, 100, 4096, 5000, 100_000]);
                    Made::File { length, mode: mode(random), attribute }
                }
                8..13 => Made::Directory { mode: mode(random) | 0o500, attribute, opaque: random.one_in(3) },
                13 | 14 => Made::Symlink(paths.target(random)),
                15 => Made::Fifo,
                _ if layer == 0 => continue,
                _ => Made::Whiteout,
            };
            if path.0 == b"." {
                continue;
            }
            known.push(path.clone());
            steps.push(Step { layer, path, made });
        }
    }
    if links {
        add_links(&mut steps, &mut known);
    }
    (steps, known)
}

fn add_links(steps: &mut Vec<Step>, known: &mut Vec<Path>) {
    let path = |text: &str| Path(text.as_bytes().to_vec());
    let mut add = |text: &str, made| {
        steps.push(Step { layer: 0, path: path(text), made });
        // Twice as often as others.
        known.extend([path(text), path(text)]);
    };
    add("h/1", Made::File { length: 5000, mode: 0o644, attribute: true });
    add("h/2", Made::Link(path("h/1")));
    add("h/s/3", Made::Link(path("h/1")));
    add("h/4", Made::File { length: 10, mode: 0o4755, attribute: false });
    add("h/s/5", Made::Link(path("h/4")));
    add("h/6", Made::Fifo);
    add("h/7", Made::Link(path("h/6")));
    add("h/8", Made::Symlink(path("1")));
    add("h/9", Made::Link(path("h/8")));
}

pub(super) struct Layers {
    /// Topmost first.
    folders: Vec<PathBuf>,
    before: Vec<Snapshot>,
}

impl Layers {
    pub(super) fn make(folder: &std::path::Path, steps: &[Step]) -> Self {
        let count = steps.iter().map(|step| step.layer + 1).max().unwrap_or(1);
        let mut folders: Vec<PathBuf> = (0..count).map(|layer| folder.join(format!("l{layer}"))).collect();
        for layer in &folders {
            std::fs::create_dir(layer).unwrap();
        }
        let mut random = Random::new(steps.len() as u64);
        for (number, step) in steps.iter().enumerate() {
            let root = open(&folders[step.layer]);
            // What is in the way stays there.
            make(root.as_fd(), step, number as u8, &mut random).ok();
        }
        folders.reverse();
        let mut layers = Self { folders, before: Vec::new() };
        while layers.drop_whiteouts(folder.join("look")) {}
        layers.before = layers.folders.iter().map(take).collect();
        layers
    }

    /// Removes the whiteouts that hide nothing: the kernel lists such as names,
    /// in directories of which one layer alone is seen. Whether there were some.
    fn drop_whiteouts(&self, folder: PathBuf) -> bool {
        let look = Overlay::mount(Driver::Native, self, folder);
        let root = open(&look.point);
        let ghosts = snapshot::ghosts(root.as_fd()).unwrap();
        drop(root);
        for (path, layer) in ghosts.iter().flat_map(|path| self.folders.iter().map(move |at| (path, at))) {
            let layer = open(layer);
            let stat = fs::statat(&layer, &**path, AtFlags::SYMLINK_NOFOLLOW);
            if stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice) {
                fs::unlinkat(&layer, &**path, AtFlags::empty()).unwrap();
            }
        }
        !ghosts.is_empty()
    }

    fn joined(&self) -> String {
        self.folders.iter().map(|folder| folder.to_str().unwrap()).collect::<Vec<_>>().join(":")
    }

    /// Whether something was written to one of them.
    pub(super) fn check(&self) -> Result<(), String> {
        for (folder, before) in self.folders.iter().zip(&self.before) {
            if let Some(text) = snapshot::differ(before, &take(folder), Names { known: true }) {
                return Err(format!("the lower layer {} was changed: {text}", folder.display()));
            }
        }
        Ok(())
    }
}

fn open(folder: &PathBuf) -> std::os::fd::OwnedFd {
    fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn take(folder: &PathBuf) -> Snapshot {
    snapshot::take(open(folder).as_fd(), Shown::All).unwrap()
}

fn make(
    root: std::os::fd::BorrowedFd<'_>,
    step: &Step,
    fill: u8,
    random: &mut Random,
) -> rustix::io::Result<()> {
    let path = &*step.path.0;
    for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
        fs::mkdirat(root, &path[..at], Mode::RWXU).ok();
    }
    let anyone = random.below(4) as u32;
    let owner = (Some(Uid::from_raw(anyone)), Some(Gid::from_raw(random.below(4) as u32)));
    let (seconds, nanoseconds) = time(random);
    let then = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let mut chosen = None;
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    match &step.made {
        Made::File { length, mode, attribute } => {
            let fd = fs::openat(root, path, flags | OFlags::CREATE | OFlags::EXCL, Mode::RWXU)?;
            let half = vec![fill; length / 2];
            // The first half is a hole, as far as it is long enough.
            rustix::io::pwrite(&fd, &half, (length - half.len()) as u64)?;
            if *attribute {
                fs::fsetxattr(&fd, "user.a", &[fill], XattrFlags::empty())?;
            }
            chosen = Some(*mode);
        }
        Made::Directory { mode, attribute, opaque } => {
            fs::mkdirat(root, path, Mode::RWXU)?;
            let fd = fs::openat(root, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            if *attribute {
                fs::fsetxattr(&fd, "user.b", &[fill], XattrFlags::empty())?;
            }
            if *opaque {
                fs::fsetxattr(&fd, "user.overlay.opaque", b"y", XattrFlags::empty())?;
            }
            chosen = Some(*mode);
        }
        Made::Symlink(target) => fs::symlinkat(&*target.0, root, path)?,
        Made::Fifo => fs::mknodat(root, path, FileType::Fifo, Mode::RWXU, 0)?,
        Made::Link(to) => return fs::linkat(root, &*to.0, root, path, AtFlags::empty()),
        Made::Whiteout => return fs::mknodat(root, path, FileType::CharacterDevice, Mode::empty(), 0),
    }
    fs::chownat(root, path, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    if let Some(mode) = chosen {
        fs::chmodat(root, path, Mode::from_raw_mode(mode), AtFlags::empty())?;
    }
    let times = Timestamps { last_access: then, last_modification: then };
    fs::utimensat(root, path, &times, AtFlags::SYMLINK_NOFOLLOW)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Driver {
    /// The kernel's overlay.
    Native,
    /// Ours, or the program that `CORACLE_TEST_OVERLAY` names.
    Fuse,
    /// The same, with each write passed on at once: as read-only containers have it.
    WriteThrough,
}

/// A mounted overlay. It is unmounted, and its server gone, when dropped.
pub(super) struct Overlay {
    pub(super) driver: Driver,
    pub(super) point: PathBuf,
    server: Option<Child>,
}

impl Overlay {
    /// `folder` has the upper directory, in whatever state it was left.
    pub(super) fn mount(driver: Driver, layers: &Layers, folder: PathBuf) -> Self {
        for name in ["upper", "work", "merged"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        let name = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let point = folder.join("merged");
        let mut options =
            format!("lowerdir={},upperdir={},workdir={}", layers.joined(), name("upper"), name("work"));
        if driver == Driver::WriteThrough {
            options += ",writeback=0";
        }
        if driver == Driver::Native {
            options += ",userxattr";
            let options = CString::new(options).unwrap();
            rustix::mount::mount("overlay", &point, "overlay", MountFlags::empty(), &*options).unwrap();
            return Self { driver, point, server: None };
        }
        let own = fs::stat(&point).unwrap().st_dev;
        let mut command = match std::env::var_os("CORACLE_TEST_OVERLAY") {
            Some(program) => Command::new(program),
            None => {
                let mut command = Command::new(crate::harness::sandbox::binary());
                command.arg("overlay");
                command
            }
        };
        let mut server = command.args(["-f", "-o", &options]).arg(&point).spawn().unwrap();
        until("the overlay to be mounted", || {
            if let Some(status) = server.try_wait().unwrap() {
                panic!("the overlay's server ended: {status}");
            }
            (fs::stat(&point).unwrap().st_dev != own).then_some(())
        });
        Self { driver, point, server: Some(server) }
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            rustix::mount::unmount(&self.point, UnmountFlags::DETACH).ok();
            if let Some(server) = &mut self.server {
                server.kill().ok();
                server.wait().ok();
            }
            return;
        }
        rustix::mount::unmount(&self.point, UnmountFlags::empty()).unwrap();
        if let Some(server) = &mut self.server {
            let status = server.wait().unwrap();
            assert!(status.success(), "the overlay's server ended: {status}");
        }
    }
}
