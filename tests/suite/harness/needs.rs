//! What a test needs of the host. It is asked, never assumed; a test that lacks
//! something says so, and `contrib/test` counts it.

use rustix::fs::Access;
use std::io::Write as _;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    /// User namespaces for this user. Implied by all that start containers.
    UserNamespaces,
    /// Ranges in /etc/subuid and /etc/subgid, and the tools that map them.
    SubIds,
    /// slirp4netns, and a /dev/net/tun that this user may open.
    Slirp,
    /// A /dev/net/tun that this user may open.
    Tun,
    /// A /dev/fuse that this user may open.
    Fuse,
    /// The registry that `contrib/test` started.
    Registry,
    /// One of `contrib/images`; it is loaded into the sandbox.
    Image(&'static str),
    /// A control group of the second version in which this user may make others.
    Cgroup,
    /// The virtual machine of `tests/vm/run`: systemd, and users to log in as.
    Vm,
    /// A program on the PATH.
    Program(&'static str),
    /// Another tool to compare with, which `contrib/test` does not install.
    Peer(&'static str),
}

impl Need {
    /// Why the test cannot run here; `None` where it can.
    fn lack(self) -> Option<String> {
        match self {
            Need::UserNamespaces => {
                let status = std::process::Command::new("unshare").args(["--user", "true"]).output();
                (!status.is_ok_and(|o| o.status.success()))
                    .then(|| "this user may not make user namespaces".into())
            }
            Need::SubIds => {
                if program("newuidmap").is_none() || program("newgidmap").is_none() {
                    return Some("installable: newuidmap and newgidmap".into());
                }
                (!has_sub_ids()).then(|| "this user has no subordinate ids".into())
            }
            Need::Slirp => {
                if program("slirp4netns").is_none() {
                    return Some("installable: slirp4netns".into());
                }
                Need::Tun.lack()
            }
            Need::Tun => {
                let tun = rustix::fs::access("/dev/net/tun", Access::READ_OK | Access::WRITE_OK);
                tun.err().map(|error| format!("/dev/net/tun: {error}"))
            }
            Need::Fuse => {
                let fuse = rustix::fs::access("/dev/fuse", Access::READ_OK | Access::WRITE_OK);
                fuse.err().map(|error| format!("/dev/fuse: {error}"))
            }
            Need::Registry => {
                registry().is_none().then(|| "installable: a registry (run contrib/test)".into())
            }
            Need::Image(name) => (!archive(name).is_some_and(|path| path.exists()))
                .then(|| format!("installable: the image {name} (run contrib/test)")),
            Need::Cgroup => own_cgroup()
                .is_none()
                .then(|| "this session has no control group of version 2 of its own".into()),
            Need::Peer(name) => {
                program(name).is_none().then(|| format!("there is no {name} to compare with"))
            }
            Need::Vm => std::env::var_os("CORACLE_TEST_VM")
                .is_none()
                .then(|| "this is not the virtual machine of tests/vm/run".into()),
            Need::Program(name) => program(name).is_none().then(|| format!("installable: {name}")),
        }
    }
}

/// Whether the host has it all. Else says what is missing, for `contrib/test` to count.
pub(crate) fn host_has(needs: &[Need]) -> bool {
    let Some(reason) = needs.iter().find_map(|need| need.lack()) else { return true };
    skip(&reason);
    false
}

/// Says why a test does nothing here, for `contrib/test` to count.
pub(crate) fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("main").to_owned();
    println!("skipped: {reason}");
    if let Some(tally) = std::env::var_os("CORACLE_TEST_TALLY") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(tally).unwrap();
        file.write_all(format!("{test}\t{reason}\n").as_bytes()).unwrap();
    }
}

/// Whether this user has a range in both files, by name or by number.
pub(crate) fn has_sub_ids() -> bool {
    let uid = rustix::process::getuid().as_raw().to_string();
    let name = user_name().unwrap_or_else(|| uid.clone());
    ["/etc/subuid", "/etc/subgid"].iter().all(|file| {
        std::fs::read_to_string(file)
            .unwrap_or_default()
            .lines()
            .any(|line| line.split(':').next().is_some_and(|owner| owner == name || owner == uid))
    })
}

/// The name of this user in /etc/passwd.
pub(crate) fn user_name() -> Option<String> {
    let uid = rustix::process::getuid().as_raw().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid))?;
    line.split(':').next().map(str::to_owned)
}

/// Where the second version's hierarchy is mounted: proc_pid_mountinfo(5).
pub(crate) fn cgroup_mount() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let mut fields = front.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (back.starts_with("cgroup2 ") && root == "/").then(|| PathBuf::from(point))
    })
}

/// This process's group, where it and the group above it are this user's.
fn own_cgroup() -> Option<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let path = cgroup_mount()?.join(own.trim_start_matches('/'));
    let writable = |path: &Path| rustix::fs::access(path.join("cgroup.procs"), Access::WRITE_OK).is_ok();
    (writable(&path) && writable(path.parent()?)).then_some(path)
}

pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// `127.0.0.1:PORT` of the registry that holds the images.
pub(crate) fn registry() -> Option<String> {
    std::env::var("CORACLE_TEST_REGISTRY").ok().filter(|address| !address.is_empty())
}

/// The folder that `contrib/test-images` made, or the part of it that is `name`'s.
pub(crate) fn image_dir(name: &str) -> Option<PathBuf> {
    std::env::var_os("CORACLE_TEST_IMAGES").map(|dir| Path::new(&dir).join(name))
}

pub(crate) fn archive(name: &str) -> Option<PathBuf> {
    image_dir(name).map(|dir| dir.join("archive.tar"))
}
