//! Who a container runs as: `--user` and `--group-add` looked up in the image's own
//! /etc/passwd and /etc/group.
//!
//! Both files are the image's and may be anything: they are opened inside the rootfs,
//! never waited for, read up to a bound, and lines that are not well-formed count as
//! not there (a number that cannot be read must not become 0, which is root).

use crate::error::{Context, Error, Result};
use crate::types::user::{MAX_ID, Principal, UserSpec};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::BorrowedFd;

/// Bytes of a file that are read; the largest seen in real images has 300,000.
const MAX_FILE: u64 = 8 << 20;

/// Bytes of a line; longer ones are passed over.
const MAX_LINE: usize = 64 << 10;

/// NGROUPS_MAX of include/uapi/linux/limits.h.
const MAX_GROUPS: usize = 65_536;

/// The ids that the container's process gets, as the container sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResolvedUser {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// For setgroups(2): `gid` first, so that what is denied to that group stays denied
    /// to a process that changes its gid (CVE-2022-36109), then the others.
    pub(crate) groups: Vec<u32>,
    /// From passwd, where it is there, absolute and UTF-8.
    pub(crate) home: Option<String>,
    /// From passwd.
    pub(crate) name: Option<String>,
}

/// Looks up `user` (root where empty) and `group_add` as docker does: without an
/// explicit group the user is in its primary group and in those that list it; with one, in
/// that alone. A uid that the image does not know is fine, with gid 0; an unknown
/// name is not. `keep-groups` in `group_add` is passed over: it is the caller's.
///
/// # Errors
/// `Invalid` for a malformed or unknown user or group, and for files above 8 MiB.
pub(crate) fn resolve(rootfs: BorrowedFd<'_>, user: &str, group_add: &[String]) -> Result<ResolvedUser> {
    let spec = UserSpec::parse(user)?;
    let passwd = read(rootfs, "etc/passwd")?;
    let mut resolved = find_user(&passwd, spec.user.as_ref())?;
    let additional: Vec<&String> = group_add.iter().filter(|group| *group != "keep-groups").collect();
    let needs_group_file = match &spec.group {
        Some(Principal::Id(_)) => false,
        Some(Principal::Name(_)) => true,
        None => resolved.name.is_some(),
    };
    let group =
        if needs_group_file || !additional.is_empty() { read(rootfs, "etc/group")? } else { Vec::new() };
    let mut groups = Vec::new();
    match &spec.group {
        Some(group_spec) => resolved.gid = find_group(&group, group_spec)?,
        None => {
            if let Some(name) = &resolved.name {
                groups = memberships(&group, name.as_bytes());
            }
        }
    }
    for added in additional {
        groups.push(find_group(&group, &Principal::parse(added)?)?);
    }
    groups.retain(|gid| *gid != resolved.gid);
    groups.sort_unstable();
    groups.dedup();
    groups.insert(0, resolved.gid);
    if groups.len() > MAX_GROUPS {
        return Err(Error::invalid(format!(
            "user {user:?} is in more than {MAX_GROUPS} groups of the image"
        )));
    }
    resolved.groups = groups;
    Ok(resolved)
}

fn find_user(passwd: &[u8], user: Option<&Principal>) -> Result<ResolvedUser> {
    let wanted = user.unwrap_or(&Principal::Id(0));
    let entry = entries(passwd).filter_map(PasswdEntry::parse).find(|entry| match wanted {
        Principal::Id(uid) => entry.uid == u64::from(*uid),
        Principal::Name(name) => entry.name == name.as_bytes(),
    });
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    match (entry, wanted) {
        (Some(entry), _) => Ok(ResolvedUser {
            uid: entry.id(entry.uid)?,
            gid: entry.id(entry.gid)?,
            groups: Vec::new(),
            home: text(entry.home).filter(|home| home.starts_with('/') && !home.contains('\0')),
            name: text(entry.name),
        }),
        (None, Principal::Id(uid)) => {
            Ok(ResolvedUser { uid: *uid, gid: 0, groups: Vec::new(), home: None, name: None })
        }
        (None, Principal::Name(name)) => {
            Err(Error::invalid(format!("unable to find user {name}: no matching entries in passwd file"))
                .hint("give a number with --user UID[:GID], or a name that the image has"))
        }
    }
}

/// A number stands for itself, whether the image knows it or not.
fn find_group(group: &[u8], wanted: &Principal) -> Result<u32> {
    let name = match wanted {
        Principal::Id(gid) => return Ok(*gid),
        Principal::Name(name) => name,
    };
    let gid = entries(group).filter_map(GroupEntry::parse).find(|entry| entry.name == name.as_bytes());
    match gid.map(|entry| u32::try_from(entry.gid).ok().filter(|gid| *gid <= MAX_ID)) {
        Some(Some(gid)) => Ok(gid),
        Some(None) => Err(Error::invalid(format!("group {name:?} of the image has a gid above {MAX_ID}"))),
        None => {
            Err(Error::invalid(format!("unable to find group {name}: no matching entries in group file"))
                .hint("give a number, or a name that the image has"))
        }
    }
}

/// The groups that list the user. Ids out of range are passed over.
fn memberships(group: &[u8], user: &[u8]) -> Vec<u32> {
    let listed =
        |entry: &GroupEntry<'_>| entry.members.split(|byte| *byte == b',').any(|member| member == user);
    entries(group)
        .filter_map(GroupEntry::parse)
        .filter(listed)
        .filter_map(|entry| u32::try_from(entry.gid).ok().filter(|gid| *gid <= MAX_ID))
        .collect()
}

/// The names of a container's users and groups, by id; the first of an id counts.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) users: BTreeMap<u32, String>,
    pub(crate) groups: BTreeMap<u32, String>,
}

impl Names {
    /// Those of the files below `rootfs`. Names that no terminal could show as
    /// they are, are left out.
    ///
    /// # Errors
    /// `Invalid` for files above 8 MiB.
    pub(crate) fn read(rootfs: BorrowedFd<'_>) -> Result<Self> {
        let collect = |entries: &mut dyn Iterator<Item = (u64, &[u8])>| {
            let mut names = BTreeMap::new();
            for (id, name) in entries {
                let name = std::str::from_utf8(name).ok().filter(|name| !name.contains(char::is_control));
                if let (Ok(id), Some(name)) = (u32::try_from(id), name) {
                    names.entry(id).or_insert_with(|| name.to_owned());
                }
            }
            names
        };
        let (passwd, group) = (read(rootfs, "etc/passwd")?, read(rootfs, "etc/group")?);
        let mut users = entries(&passwd).filter_map(PasswdEntry::parse).map(|entry| (entry.uid, entry.name));
        let mut groups = entries(&group).filter_map(GroupEntry::parse).map(|entry| (entry.gid, entry.name));
        Ok(Self { users: collect(&mut users), groups: collect(&mut groups) })
    }
}

/// The fields of each line: passwd(5), group(5).
fn entries(file: &[u8]) -> impl Iterator<Item = std::slice::Split<'_, u8, fn(&u8) -> bool>> {
    file.split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && line[0] != b'#' && line.len() <= MAX_LINE)
        .map(|line| line.split((|byte| *byte == b':') as fn(&u8) -> bool))
}

struct PasswdEntry<'a> {
    name: &'a [u8],
    uid: u64,
    gid: u64,
    home: &'a [u8],
}

impl<'a> PasswdEntry<'a> {
    fn parse(mut fields: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let name = fields.next().filter(|name| !name.is_empty())?;
        let _password = fields.next()?;
        let (uid, gid) = (number(fields.next()?)?, number(fields.next()?)?);
        let home = fields.nth(1).unwrap_or_default();
        Some(Self { name, uid, gid, home })
    }

    fn id(&self, id: u64) -> Result<u32> {
        u32::try_from(id).ok().filter(|id| *id <= MAX_ID).ok_or_else(|| {
            let name = String::from_utf8_lossy(self.name);
            Error::invalid(format!("user {name:?} of the image has an id above {MAX_ID}: {id}"))
        })
    }
}

struct GroupEntry<'a> {
    name: &'a [u8],
    gid: u64,
    members: &'a [u8],
}

impl<'a> GroupEntry<'a> {
    fn parse(mut fields: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = number(fields.nth(1)?)?;
        Some(Self { name, gid, members: fields.next().unwrap_or_default() })
    }
}

/// Digits alone; one too large for 64 bits stays too large.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok().map(|digits| digits.parse().unwrap_or(u64::MAX))
}

/// Writes lines to the end of a file of the container; none where it has no such
/// file, or something else of that name.
///
/// # Errors
/// Where it cannot be written.
pub(crate) fn append(rootfs: BorrowedFd<'_>, path: &str, lines: &str) -> Result<()> {
    let Some(old) = with_lines(rootfs, path, "")? else { return Ok(()) };
    // As for reading: it is not waited for, and nothing leads out of the root.
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let step = || format!("write /{path} in the container");
    let fd = openat2(rootfs, path, flags, Mode::empty(), resolve).context(step)?;
    if FileType::from_raw_mode(fstat(&fd).context(step)?.st_mode) != FileType::RegularFile {
        return Ok(());
    }
    let gap = if old.is_empty() || old.ends_with('\n') { "" } else { "\n" };
    File::from(fd).write_all(format!("{gap}{lines}").as_bytes()).context(step)
}

/// The text of a file of the container with lines after it; `None` where it has no
/// such file, or an empty one.
///
/// # Errors
/// `Invalid` for one above 8 MiB.
pub(crate) fn with_lines(rootfs: BorrowedFd<'_>, path: &str, lines: &str) -> Result<Option<String>> {
    let bytes = read(rootfs, path)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let gap = if lines.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    Ok(Some(format!("{text}{gap}{lines}")))
}

/// A regular file of the image; empty where there is none.
fn read(rootfs: BorrowedFd<'_>, path: &str) -> Result<Vec<u8>> {
    // NONBLOCK: a FIFO in its place would hold us for ever (CVE-2024-9676).
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut attempts = 0;
    let fd = loop {
        match openat2(rootfs, path, flags, Mode::empty(), resolve) {
            Ok(fd) => break fd,
            // Someone renames directories meanwhile: openat2(2).
            Err(Errno::AGAIN) if attempts < 32 => attempts += 1,
            // The last two: a socket, or a device without a driver.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::NODEV) => {
                return Ok(Vec::new());
            }
            Err(errno) => return Err(errno).context(|| format!("open /{path} in the container")),
        }
    };
    let stat = fstat(&fd).context(|| format!("look at /{path} in the container"))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(Vec::new());
    }
    let mut contents = Vec::new();
    let too_large =
        || Error::invalid(format!("/{path} in the container is larger than {} MiB", MAX_FILE >> 20));
    if u64::try_from(stat.st_size).unwrap_or(0) > MAX_FILE {
        return Err(too_large());
    }
    let mut bounded = File::from(fd).take(MAX_FILE + 1);
    bounded.read_to_end(&mut contents).context(|| format!("read /{path} in the container"))?;
    if contents.len() as u64 > MAX_FILE { Err(too_large()) } else { Ok(contents) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    const PASSWD: &str = "\
# a comment
root:x:0:0:root:/root:/bin/sh
bob:x:1000:1000:Bob,,,:/home/bob:/bin/sh
num:x:77:88::/:/bin/sh
short:x:5:6
bad:x::0:::
worse:x:0x0:0::/:
1234:x:0:0::/root:
4294967296:x:0:0::/root:
high:x:4294967296:0::/root:
group:x:9:2147483648::/root:
relative:x:11:11::home:
";
    const GROUP: &str = "\
root:x:0:root
bob:x:1000:
wheel:x:10:bob,root
audio:x:29:bob
video:x:44:num
high:x:4294967296:bob
bad:x::bob
";

    fn rootfs(passwd: &str, group: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        std::fs::write(dir.path().join("etc/group"), group).unwrap();
        dir
    }

    fn resolve_in(dir: &Path, user: &str, add: &[&str]) -> Result<ResolvedUser> {
        let add: Vec<String> = add.iter().map(|group| (*group).to_owned()).collect();
        resolve(File::open(dir).unwrap().as_fd(), user, &add)
    }

    /// Compared with podman; also CVE-2022-2989, CVE-2022-2990, CVE-2022-2995, CVE-2023-25173.
    #[test]
    fn ids_and_groups_are_as_with_docker() {
        let dir = rootfs(PASSWD, GROUP);
        for (user, add, uid, gid, groups) in [
            ("", &[][..], 0, 0, &[0, 10][..]),
            ("root", &[], 0, 0, &[0, 10]),
            ("0", &[], 0, 0, &[0, 10]),
            ("bob", &[], 1000, 1000, &[1000, 10, 29]),
            ("1000", &[], 1000, 1000, &[1000, 10, 29]),
            ("77", &[], 77, 88, &[88, 44]),
            ("bob:bob", &[], 1000, 1000, &[1000]),
            ("bob:29", &[], 1000, 29, &[29]),
            (":29", &[], 0, 29, &[29]),
            ("5:6", &[], 5, 6, &[6]),
            ("short", &[], 5, 6, &[6]),
            ("4242", &[], 4242, 0, &[0]),
            ("4242:", &[], 4242, 0, &[0]),
            ("1234", &[], 1234, 0, &[0]),
            ("bob", &["video", "7", "7", "keep-groups"], 1000, 1000, &[1000, 7, 10, 29, 44]),
            ("4242:5", &["wheel"], 4242, 5, &[5, 10]),
        ] {
            let resolved = resolve_in(dir.path(), user, add).unwrap();
            assert_eq!(
                (resolved.uid, resolved.gid, &*resolved.groups),
                (uid, gid, groups),
                "{user:?} {add:?}"
            );
        }
        assert_eq!(resolve_in(dir.path(), "1000", &[]).unwrap().home.as_deref(), Some("/home/bob"));
        assert_eq!(resolve_in(dir.path(), "1000:5", &[]).unwrap().name.as_deref(), Some("bob"));
        assert_eq!(resolve_in(dir.path(), "relative", &[]).unwrap().home, None);
    }

    /// CVE-2024-40635, CVE-2026-46680.
    #[test]
    fn what_is_unknown_or_out_of_range_is_refused() {
        let dir = rootfs(PASSWD, GROUP);
        for (user, add) in [
            ("nosuch", &[][..]),
            ("bad", &[]),
            ("worse", &[]),
            ("high", &[]),
            ("group", &[]),
            ("4294967296", &[]),
            ("2147483648", &[]),
            ("bob:nosuch", &[]),
            ("bob:high", &[]),
            ("bob:bad", &[]),
            ("bob", &["nosuch"]),
            ("bob", &["high"]),
            ("bob", &["4294967296"]),
            ("bob", &[""]),
        ] {
            assert!(resolve_in(dir.path(), user, add).is_err(), "{user:?} {add:?}");
        }
        let error = resolve_in(dir.path(), "nosuch", &[]).unwrap_err();
        assert_eq!(error.to_string(), "unable to find user nosuch: no matching entries in passwd file");
    }

    /// CVE-2024-9676, CVE-2026-47262, CVE-2026-61801.
    #[test]
    fn hostile_files_cost_neither_time_nor_memory() {
        let dir = rootfs("", "");
        let passwd = dir.path().join("etc/passwd");
        let outside = rootfs(PASSWD, GROUP);
        let replace = |make: &dyn Fn()| {
            if std::fs::remove_file(&passwd).is_err() {
                std::fs::remove_dir(&passwd).unwrap();
            }
            make();
            let started = std::time::Instant::now();
            let by_name = resolve_in(dir.path(), "bob", &[]);
            assert!(started.elapsed().as_secs() < 2);
            by_name
        };
        let mode = Mode::from_raw_mode(0o666);
        assert!(replace(&|| rustix::fs::mkfifoat(rustix::fs::CWD, &passwd, mode).unwrap()).is_err());
        assert!(replace(&|| std::fs::create_dir(&passwd).unwrap()).is_err());
        assert!(replace(&|| symlink("/dev/zero", &passwd).unwrap()).is_err());
        assert!(replace(&|| symlink("passwd", &passwd).unwrap()).is_err());
        assert!(replace(&|| symlink("/proc/self/fd/0", &passwd).unwrap()).is_err());
        assert!(replace(&|| symlink(outside.path().join("etc/passwd"), &passwd).unwrap()).is_err());
        assert!(
            replace(&|| symlink(
                "../../../../../../../..".to_owned() + outside.path().to_str().unwrap(),
                &passwd
            )
            .unwrap())
            .is_err()
        );
        let error = replace(&|| File::create(&passwd).unwrap().set_len(2 << 30).unwrap()).unwrap_err();
        assert!(error.to_string().contains("larger than 8 MiB"), "{error}");
        let long = format!("bob:{}:0:0::/:\n{PASSWD}", "x".repeat(MAX_LINE));
        assert_eq!(replace(&|| std::fs::write(&passwd, &long).unwrap()).unwrap().uid, 1000);
        assert!(replace(&|| std::fs::write(&passwd, [b'\xff'; 4096]).unwrap()).is_err());
        let many = format!("{PASSWD}{}", "other:x:9:9::/:\n".repeat(500_000));
        assert_eq!(replace(&|| std::fs::write(&passwd, &many).unwrap()).unwrap().uid, 1000);
        std::fs::remove_file(&passwd).unwrap();
        assert_eq!(resolve_in(dir.path(), "", &[]).unwrap().groups, [0]);
        // A link that stays inside is followed, an absolute one too.
        std::fs::write(dir.path().join("real"), PASSWD).unwrap();
        symlink("/real", &passwd).unwrap();
        assert_eq!(resolve_in(dir.path(), "bob", &[]).unwrap().uid, 1000);
    }

    #[test]
    fn an_image_cannot_put_its_user_into_more_groups_than_the_kernel_takes() {
        let lines: Vec<String> = (1..70_000).map(|gid| format!("g:x:{gid}:bob")).collect();
        let dir = rootfs(PASSWD, &lines.join("\n"));
        assert!(resolve_in(dir.path(), "bob", &[]).is_err());
    }

    #[test]
    fn lines_go_to_the_end_of_a_file_and_nowhere_else() {
        let dir = rootfs("root:x:0:0::/:", GROUP);
        let root = File::open(dir.path()).unwrap();
        let passwd = dir.path().join("etc/passwd");
        append(root.as_fd(), "etc/passwd", "a:x:5:5::/:\n").unwrap();
        append(root.as_fd(), "etc/passwd", "b:x:6:6::/:\n").unwrap();
        assert_eq!(std::fs::read_to_string(&passwd).unwrap(), "root:x:0:0::/:\na:x:5:5::/:\nb:x:6:6::/:\n");
        assert!(with_lines(root.as_fd(), "etc/passwd", "c\n").unwrap().unwrap().ends_with("/:\nc\n"));
        // A link stays inside, a FIFO is not waited for, what is not there is not made.
        let outside = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(outside.path(), "kept").unwrap();
        std::fs::remove_file(&passwd).unwrap();
        symlink(outside.path(), &passwd).unwrap();
        append(root.as_fd(), "etc/passwd", "a\n").unwrap();
        assert_eq!(std::fs::read_to_string(outside.path()).unwrap(), "kept");
        std::fs::remove_file(&passwd).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &passwd, Mode::from_raw_mode(0o666)).unwrap();
        append(root.as_fd(), "etc/passwd", "a\n").unwrap();
        std::fs::remove_file(&passwd).unwrap();
        append(root.as_fd(), "etc/passwd", "a\n").unwrap();
        assert!(!passwd.exists() && with_lines(root.as_fd(), "etc/passwd", "a").unwrap().is_none());
    }
}
