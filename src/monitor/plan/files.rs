//! `/etc/resolv.conf`, `/etc/hosts`, `/etc/hostname`: written into the
//! container's own directory and mounted over the image's.

use super::Context as PlanContext;
use super::namespaces;
use crate::dirs::Dirs;
use crate::error::{Context, Error, Result};
use crate::network::resolver::{self, HostsRequest, ResolvRequest, Way};
use crate::network::uplink::{Addresses, NamesOf};
use crate::state::store::Store;
use crate::types::container::{ContainerConfig, ContainerRecord, RecordedRoot};
use crate::types::namespace::NetworkMode;
use crate::userns::ContainerMaps;
use rustix::fs::{FlockOperation, Gid, Uid};
use rustix::io::Errno;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes taken from a file of the host.
const MAX_FILE: usize = 1 << 20;

/// The files that are to be mounted, as `(name in the container's directory, target)`.
pub(super) const FILES: [(&str, &str); 6] =
    [NAMES[0], NAMES[1], NAMES[2], MARK, ("passwd", "/etc/passwd"), ("group", "/etc/group")];

/// Those of them that a shared network namespace shares.
const NAMES: [(&str, &str); 3] =
    [("resolv.conf", "/etc/resolv.conf"), ("hosts", "/etc/hosts"), ("hostname", "/etc/hostname")];

/// The real resolvers behind systemd's stub at 127.0.0.53.
pub(in crate::monitor) const SYSTEMD_RESOLVERS: &str = "/run/systemd/resolve/resolv.conf";

/// By which programs know that they are in a container: podman's place.
const MARK: (&str, &str) = ("containerenv", "/run/.containerenv");

/// Writes the files anew; removes those that are not to be mounted.
pub(super) fn write(
    context: &PlanContext<'_>,
    hostname: Option<&str>,
    addresses: Option<&Addresses>,
) -> Result<()> {
    let config = &context.record.config;
    let directory = context.dirs.container(&context.record.id);
    put(&directory.join(MARK.0), Some(mark(context.record)))?;
    let resolv = resolv_conf(context.dirs, context.store, context.record, addresses)?;
    put(&directory.join("resolv.conf"), resolv)?;
    // With another container's network come its files.
    if let NetworkMode::Container(word) = &config.network {
        let id = context.store.resolve(word)?;
        if config.pod.is_some() {
            add_to_pod_s_hosts(&context.dirs.container(&id).join("hosts"), &context.record.name)?;
        }
        for (name, _) in &NAMES[1..] {
            let text = read(&context.dirs.container(&id).join(name));
            let wanted = !(config.no_hostname && *name == "hostname");
            put(&directory.join(name), Some(text).filter(|text| wanted && !text.is_empty()))?;
        }
        return Ok(());
    }
    let way = way(&config.network, addresses);
    let node = rustix::system::uname();
    let hostname = hostname.or(node.nodename().to_str().ok()).unwrap_or("localhost");
    let hosts = if config.no_hosts {
        None
    } else {
        let made = resolver::hosts(&HostsRequest {
            host: &read(Path::new("/etc/hosts")),
            hostname,
            domain: config.domainname.as_deref(),
            name: &context.record.name,
            add: &config.add_hosts,
            way,
        });
        Some(made.map_err(|error| way_to_host(error, config, addresses))?)
    };
    put(&directory.join("hosts"), hosts)?;
    let file = (!config.no_hostname).then(|| resolver::hostname_file(hostname));
    put(&directory.join("hostname"), file)
}

/// What helps where `host-gateway` leads nowhere.
fn way_to_host(error: Error, config: &ContainerConfig, addresses: Option<&Addresses>) -> Error {
    let is_asked = config.add_hosts.iter().any(|(_, address)| address == "host-gateway");
    if !is_asked || addresses.is_none_or(|addresses| addresses.host.is_some()) {
        return error;
    }
    match config.network {
        NetworkMode::Default | NetworkMode::Pasta { .. } => error.hint(
            "pasta gives the container the host's own address: --network pasta:--map-gw leads to the host, \
             and so does --network slirp4netns",
        ),
        NetworkMode::Bridge => error.hint("no address of the host is outside of the container's networks"),
        _ => error,
    }
}

/// Gives the files to the container's root: where a map makes somebody else of us,
/// as `keep-id` does, they would be that user's to write, or nobody's.
pub(super) fn give_to_root(context: &PlanContext<'_>, maps: Option<&ContainerMaps>) -> Result<()> {
    let Some(maps) = maps else { return Ok(()) };
    let (Some(uid), Some(gid)) = (maps.uid.to_outside(0), maps.gid.to_outside(0)) else { return Ok(()) };
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    let directory = context.dirs.container(&context.record.id);
    for path in FILES.iter().map(|(name, _)| directory.join(name)) {
        match rustix::fs::chown(&path, uid, gid) {
            Err(Errno::NOENT) => {}
            result => result.context(|| format!("change the owner of {}", path.display()))?,
        }
    }
    Ok(())
}

/// A container of a pod finds the others by name on the loopback that they share.
/// They have one file for that, the infra container's: who started first is to know
/// of the last. It is written anew when that one starts.
fn add_to_pod_s_hosts(path: &Path, name: &str) -> Result<()> {
    change_hosts(path, |text| {
        // Where the pod was made with --no-hosts there is none.
        let known = text.is_empty() || text.split_inclusive('\n').any(|line| line == of_pod(name));
        (!known).then(|| text.to_owned() + &of_pod(name))
    })
}

/// A container of a pod has ended: the others do not find it any more.
pub(in crate::monitor) fn leave_pod_s_hosts(
    dirs: &Dirs,
    store: &Store,
    record: &ContainerRecord,
) -> Result<()> {
    let (NetworkMode::Container(holder), true) = (&record.config.network, record.config.pod.is_some()) else {
        return Ok(());
    };
    change_hosts(&dirs.container(&store.resolve(holder)?).join("hosts"), |text| {
        let left: String = text.split_inclusive('\n').filter(|line| *line != of_pod(&record.name)).collect();
        (left != text).then_some(left)
    })
}

fn of_pod(name: &str) -> String {
    format!("127.0.0.1\t{name}\n")
}

/// A running container is elsewhere now: its lines are those of its addresses, and
/// all else in the file stays as somebody may have made it.
pub(in crate::monitor) fn move_in_hosts(
    dirs: &Dirs,
    record: &ContainerRecord,
    old: &[IpAddr],
    new: &[IpAddr],
) -> Result<()> {
    let gone: Vec<IpAddr> = old.iter().filter(|address| !new.contains(address)).copied().collect();
    let come: Vec<IpAddr> = new.iter().filter(|address| !old.contains(address)).copied().collect();
    if record.config.no_hosts || (gone.is_empty() && come.is_empty()) {
        return Ok(());
    }
    let node = rustix::system::uname();
    let hostname = namespaces::hostname(record);
    let hostname = hostname.as_deref().or(node.nodename().to_str().ok()).unwrap_or("localhost");
    let own = resolver::own_names(hostname, record.config.domainname.as_deref(), &record.name).join(" ");
    change_hosts(&dirs.container(&record.id).join("hosts"), |text| {
        // More than that is not read, and would be cut.
        (text.len() < MAX_FILE).then(|| resolver::moved_hosts(text, &own, &gone, &come))
    })
}

/// In place, as the inode is mounted; one at a time. Who reads meanwhile misses no
/// line that stays: the file is cut last.
fn change_hosts(path: &Path, change: impl FnOnce(&str) -> Option<String>) -> Result<()> {
    let step = || format!("write {}", path.display());
    let file = match std::fs::OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        result => result.context(step)?,
    };
    // Not the file itself: a container could hold its lock for ever.
    let lock = std::fs::File::create(path.with_extension("lock")).context(step)?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).context(step)?;
    if let Some(text) = change(&read(path)) {
        file.write_all_at(text.as_bytes(), 0).context(step)?;
        file.set_len(text.len() as u64).context(step)?;
    }
    Ok(())
}

/// Where a file of names lies that a container has mounted.
pub(super) fn place(context: &PlanContext<'_>, name: &str) -> PathBuf {
    let config = &context.record.config;
    if let (NetworkMode::Container(holder), true, "hosts") = (&config.network, config.pod.is_some(), name)
        && let Ok(id) = context.store.resolve(holder)
    {
        return context.dirs.container(&id).join(name);
    }
    context.dirs.container(&context.record.id).join(name)
}

/// The text for `/etc/resolv.conf` as of now; `None`: the image's own stays.
///
/// # Errors
/// `Invalid` for flags that are no addresses; where a container whose network is
/// shared is gone.
pub(in crate::monitor) fn resolv_conf(
    dirs: &Dirs,
    store: &Store,
    record: &ContainerRecord,
    addresses: Option<&Addresses>,
) -> Result<Option<String>> {
    let config = &record.config;
    if let NetworkMode::Container(word) = &config.network {
        let text = read(&dirs.container(&store.resolve(word)?).join("resolv.conf"));
        return Ok(Some(text).filter(|text| !text.is_empty()));
    }
    // On networks their gateways alone are asked: they know the containers, and
    // ask those of --dns for all else. Those of internal networks ask nobody:
    // what else there is stands after them.
    let gateways: Vec<String> = match addresses.filter(|addresses| addresses.names == NamesOf::Networks) {
        Some(addresses) if !config.dns.iter().any(|value| value == "none") => {
            addresses.dns.iter().map(ToString::to_string).collect()
        }
        _ => Vec::new(),
    };
    let systemd = read(Path::new(SYSTEMD_RESOLVERS));
    resolver::resolv_conf(&ResolvRequest {
        host: &read(Path::new("/etc/resolv.conf")),
        systemd: Some(systemd.as_str()).filter(|text| !text.is_empty()),
        dns: if gateways.is_empty() { &config.dns } else { &gateways },
        search: &config.dns_search,
        options: &config.dns_options,
        way: way(&config.network, addresses),
    })
}

/// Whether anything of the host's resolv.conf is in the container's, and of use
/// there: with loopback alone nobody is asked.
pub(in crate::monitor) fn follows_host(config: &ContainerConfig) -> bool {
    if config.network == NetworkMode::None {
        return false;
    }
    let given = !config.dns.is_empty() && !config.dns_search.is_empty() && !config.dns_options.is_empty();
    !given && !config.dns.iter().any(|value| value == "none")
}

fn way<'a>(network: &NetworkMode, uplink: Option<&'a Addresses>) -> Way<'a> {
    match (network, uplink) {
        (NetworkMode::Host, _) => Way::Host,
        (_, Some(addresses)) => Way::Uplink(addresses),
        (_, None) => Way::None,
    }
}

/// Podman's content: who we are is told to a privileged container alone.
fn mark(record: &ContainerRecord) -> String {
    if !record.config.privileged {
        return String::new();
    }
    let (image, image_id) = match &record.root {
        RecordedRoot::Image { reference, id, .. } => (reference.clone(), id.to_string()),
        RecordedRoot::Directory { .. } | RecordedRoot::Nothing => (String::new(), String::new()),
    };
    format!(
        "engine=\"coracle-{}\"\nname=\"{}\"\nid=\"{}\"\nimage=\"{image}\"\nimageid=\"{image_id}\"\nrootless=1\n",
        env!("CARGO_PKG_VERSION"),
        record.name,
        record.id
    )
}

fn read(path: &Path) -> String {
    let mut bytes = std::fs::read(path).unwrap_or_default();
    bytes.truncate(MAX_FILE);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `None`: there is no such file any more.
pub(super) fn put(path: &Path, text: Option<String>) -> Result<()> {
    let step = || format!("write {}", path.display());
    match text {
        Some(text) => std::fs::write(path, text).context(step),
        None => match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context(step),
            _ => Ok(()),
        },
    }
}
