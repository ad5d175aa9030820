//! `cp` by docker's rules, against containers that run, have ended, and never ran.

use crate::harness::{Image, Need, Output, Sandbox, sandbox};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

/// Starts a container that `exec` can look into.
fn start(sandbox: &Sandbox, name: &str, options: &[&str]) {
    let words = [options, &["busybox", "sh", "-c", "echo ready; exec sleep 100000"]].concat();
    sandbox.start(name, &words);
    sandbox.wait_for_log(name, "ready");
}

/// What a command prints in a running container.
#[track_caller]
fn inside(sandbox: &Sandbox, name: &str, script: &str) -> String {
    sandbox.ok(["exec", name, "sh", "-c", script])
}

fn cp(sandbox: &Sandbox, words: &[&str]) -> Output {
    sandbox.coracle([&["cp"], words].concat())
}

/// `cp - TO` with a file as stdin: not a pipe, which breaks where it is not read.
fn from_file(sandbox: &Sandbox, archive: &[u8], to: &str) -> Output {
    sandbox.file("stdin", archive);
    let mut command = sandbox.command("sh");
    command.args(["-c", "exec \"$0\" cp - \"$1\" <stdin"]).arg(crate::harness::sandbox::binary()).arg(to);
    crate::harness::process::Running::start(command).wait()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files that both directions copy: `file`, `dir/{a,sub/b}`, links to both.
fn fill(folder: &Path) {
    std::fs::create_dir_all(folder.join("dir/sub")).unwrap();
    std::fs::write(folder.join("file"), "file\n").unwrap();
    std::fs::write(folder.join("dir/a"), "a\n").unwrap();
    std::fs::write(folder.join("dir/sub/b"), "b\n").unwrap();
    symlink("file", folder.join("to-file")).unwrap();
    symlink("dir", folder.join("to-dir")).unwrap();
}

/// What is copied, to where; where its content is then found, or what is said.
type Rule = (&'static str, &'static str, Result<(&'static str, &'static str), &'static str>);

/// What the paths of docker's page mean: source, destination below a folder
/// that has `there/`, `old` and `old-link`; then a file that is there, or the
/// words of the refusal.
const RULES: &[Rule] = &[
    ("file", "new", Ok(("new", "file\n"))),
    ("file", "there", Ok(("there/file", "file\n"))),
    ("file", "there/", Ok(("there/file", "file\n"))),
    ("file", "there/.", Ok(("there/file", "file\n"))),
    ("file", "there/name", Ok(("there/name", "file\n"))),
    ("file", "old", Ok(("old", "file\n"))),
    ("file", "old-link", Ok(("old", "file\n"))),
    ("file", "to-there", Ok(("there/file", "file\n"))),
    ("file", "dangling", Ok(("nowhere", "file\n"))),
    ("file", "nothing/", Err("no such directory")),
    ("file", "nothing/file", Err("nothing")),
    ("file", "old/", Err("no such directory")),
    ("file", "old/file", Err("old")),
    ("file/", "new", Err("not a directory")),
    ("nofile", "new", Err("o")),
    ("dir", "new", Ok(("new/sub/b", "b\n"))),
    ("dir", "new/", Ok(("new/a", "a\n"))),
    ("dir/", "new", Ok(("new/a", "a\n"))),
    ("dir/.", "new", Ok(("new/a", "a\n"))),
    ("dir", "there", Ok(("there/dir/sub/b", "b\n"))),
    ("dir/", "there", Ok(("there/dir/a", "a\n"))),
    ("dir/.", "there", Ok(("there/a", "a\n"))),
    ("dir/.", "there/", Ok(("there/sub/b", "b\n"))),
    ("dir/sub/..", "there", Ok(("there/dir/a", "a\n"))),
    ("dir", "to-there", Ok(("there/dir/a", "a\n"))),
    ("dir", "old", Err("cannot copy directory")),
    ("dir", "nothing/new", Err("nothing")),
    ("to-dir/", "there", Ok(("there/to-dir/a", "a\n"))),
    ("to-dir/.", "there", Ok(("there/a", "a\n"))),
];

/// A folder of the host as destinations find it.
fn fresh_target(folder: &Path) {
    std::fs::remove_dir_all(folder).ok();
    std::fs::create_dir_all(folder.join("there")).unwrap();
    std::fs::write(folder.join("old"), "old\n").unwrap();
    symlink("old", folder.join("old-link")).unwrap();
    symlink("there", folder.join("to-there")).unwrap();
    symlink("nowhere", folder.join("dangling")).unwrap();
}

const FRESH_TARGET: &str = "rm -rf /t; mkdir -p /t/there; echo old >/t/old; ln -s old /t/old-link; ln -s there /t/to-there; ln -s nowhere /t/dangling";

#[test]
fn into_a_running_container_by_docker_s_rules() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let source = sandbox.folder("source");
    fill(&source);
    start(&sandbox, "c", &[]);
    for (from, to, expected) in RULES {
        inside(&sandbox, "c", FRESH_TARGET);
        let from = format!("{}/{from}", source.display());
        let output = cp(&sandbox, &[&from, &format!("c:/t/{to}")]);
        match expected {
            Ok((file, content)) => {
                let output = output.ok();
                assert_eq!(inside(&sandbox, "c", &format!("cat /t/{file}")), content.trim(), "{output}");
                let link = inside(&sandbox, "c", "readlink /t/old-link");
                assert_eq!(link, "old", "the link is still one: {output}");
            }
            Err(words) => drop(output.fails(1, &[words])),
        }
    }
    // Relative paths of a container begin at its root.
    cp(&sandbox, &[source.join("file").to_str().unwrap(), "c:t/relative"]).ok();
    assert_eq!(inside(&sandbox, "c", "cat /t/relative"), "file");
}

#[test]
fn out_of_containers_by_docker_s_rules() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    start(&sandbox, "up", &[]);
    let fill = "mkdir -p /s/dir/sub; cd /s; echo file >file; echo a >dir/a; echo b >dir/sub/b; ln -s file to-file; ln -s dir to-dir";
    inside(&sandbox, "up", fill);
    sandbox.coracle(["run", "--network", "none", "--name", "down", "busybox", "sh", "-c", fill]).ok();
    let target = sandbox.folder("target");
    for container in ["up", "down"] {
        for (from, to, expected) in RULES {
            fresh_target(&target);
            let to = format!("{}/{to}", target.display());
            let output = cp(&sandbox, &[&format!("{container}:/s/{from}"), &to]);
            match expected {
                Ok((file, content)) => {
                    let output = output.ok();
                    assert_eq!(text(&target.join(file)), *content, "{output}");
                }
                Err(words) => drop(output.fails(1, &[words])),
            }
        }
    }
}

#[test]
fn into_containers_that_do_not_run() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let source = sandbox.folder("source");
    fill(&source);
    let file = source.join("file");
    let file = file.to_str().unwrap();
    // What the container finds when it starts afterwards.
    sandbox.ok([
        "create",
        "--network",
        "none",
        "--name",
        "c",
        "-v",
        "vol:/vol",
        "busybox",
        "sh",
        "-c",
        "cat /new /vol/new /tmp/dir/sub/b; stat -c '%u:%g' /new /vol/new",
    ]);
    for to in ["c:/new", "c:/vol/new"] {
        cp(&sandbox, &[file, to]).ok();
    }
    cp(&sandbox, &[source.join("dir").to_str().unwrap(), "c:/tmp"]).ok();
    assert_eq!(sandbox.ok(["start", "-a", "c"]), "file\nfile\nb\n0:0\n0:0");
    // It has ended: once more, and out again.
    std::fs::write(file, "changed\n").unwrap();
    cp(&sandbox, &[file, "c:/new"]).ok();
    cp(&sandbox, &["c:/new", source.join("back").to_str().unwrap()]).ok();
    assert_eq!(text(&source.join("back")), "changed\n");
    assert!(sandbox.ok(["start", "-a", "c"]).starts_with("changed\nfile\nb"));
    // A container of --rm that never ran starts as if nothing had been.
    sandbox.ok(["create", "--rm", "--network", "none", "--name", "once", "busybox", "cat", "/new"]);
    cp(&sandbox, &[file, "once:/new"]).ok();
    assert_eq!(sandbox.ok(["start", "-a", "once"]), "changed");
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(sandbox.root().to_str().unwrap()), "{mounts}");
}

#[test]
fn a_tree_comes_back_as_it_went_in() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Need::Program("tar")]) else { return };
    let source = sandbox.folder("source/tree");
    std::fs::write(source.join("suid"), "#!").unwrap();
    std::fs::set_permissions(source.join("suid"), std::fs::Permissions::from_mode(0o4751)).unwrap();
    std::fs::hard_link(source.join("suid"), source.join("second")).unwrap();
    symlink("/etc/passwd", source.join("link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        source.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o620),
        0,
    )
    .unwrap();
    std::fs::create_dir_all(source.join("deep").join("x".repeat(200)).join("y".repeat(200))).unwrap();
    for name in ["-rf", "*", " ", "a\nb", "ä", "\u{1b}[0m", ".."] {
        if name != ".." {
            std::fs::write(source.join(name), name).unwrap();
        }
    }
    let sparse = std::fs::File::create(source.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", 100 << 20).unwrap();
    drop(sparse);
    let old = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    let times = std::fs::FileTimes::new().set_modified(old).set_accessed(old);
    std::fs::File::open(source.join("suid")).unwrap().set_times(times).unwrap();
    std::fs::set_permissions(source.join("deep"), std::fs::Permissions::from_mode(0o1555)).unwrap();
    std::fs::File::open(source.join("deep")).unwrap().set_times(times).unwrap();
    let attribute = xattr_set(&source.join("suid"));

    start(&sandbox, "c", &[]);
    sandbox.ok(["create", "--name", "d", "busybox"]);
    let word = source.to_str().unwrap();
    cp(&sandbox, &[word, "c:/in"]).ok();
    cp(&sandbox, &["c:/in", "d:/in"]).ok();
    let back = sandbox.path("work/back");
    cp(&sandbox, &["d:/in", back.to_str().unwrap()]).ok();
    let look = |root: &Path| {
        let mut all: Vec<String> = Vec::new();
        let mut pending = vec![root.to_owned()];
        while let Some(path) = pending.pop() {
            let meta = path.symlink_metadata().unwrap();
            if meta.is_dir() {
                pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            let link = std::fs::read_link(&path).unwrap_or_default();
            let size = if meta.is_dir() { 0 } else { meta.size() };
            all.push(format!(
                "{:?} {:o} {}:{} {size} {}.{} {} {link:?}",
                path.strip_prefix(root).unwrap(),
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.mtime(),
                meta.mtime_nsec(),
                if meta.is_dir() { 0 } else { meta.nlink() }
            ));
        }
        all.sort();
        all
    };
    assert_eq!(look(&source), look(&back));
    assert!(back.join("sparse").metadata().unwrap().blocks() < 1000, "holes stay holes");
    assert_eq!(back.join("suid").metadata().unwrap().ino(), back.join("second").metadata().unwrap().ino());
    if attribute {
        assert_eq!(xattr_get(&back.join("suid")).as_deref(), Some("value"));
    }
    // GNU tar sees the same.
    let archive = sandbox.path("work/out.tar");
    let mut command = sandbox.tool(["cp", "c:/in", "-"]);
    command.stdout(std::fs::File::create(&archive).unwrap());
    assert!(command.status().unwrap().success());
    let untarred = sandbox.folder("untarred");
    let tar = sandbox.command("tar").args(["-xpf"]).arg(&archive).arg("-C").arg(&untarred).output().unwrap();
    assert!(tar.status.success(), "{tar:?}");
    assert_eq!(look(&source), look(&untarred.join("in")));
    // Once more over itself: nothing is in the way.
    cp(&sandbox, &[&format!("{word}/."), "c:/in"]).ok();
}

/// Sets `user.test`; false where the file system has no attributes.
fn xattr_set(path: &Path) -> bool {
    rustix::fs::setxattr(path, "user.test", b"value", rustix::fs::XattrFlags::empty()).is_ok()
}

fn xattr_get(path: &Path) -> Option<String> {
    let mut buffer = [0; 64];
    let length = rustix::fs::getxattr(path, "user.test", &mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

#[test]
fn archives_have_docker_s_names_and_are_taken_from_any_tar() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Need::Program("tar")]) else { return };
    start(&sandbox, "c", &[]);
    inside(&sandbox, "c", "mkdir -p /d/e; echo x >/d/e/f; ln -s e /d/l; ln -s d /s; chown -R 7:8 /d/e");
    let names = |path: &str| {
        let mut command = sandbox.tool(["cp", &format!("c:{path}"), "-"]);
        let archive = sandbox.path("work/archive.tar");
        command.stdout(std::fs::File::create(&archive).unwrap());
        assert!(command.status().unwrap().success(), "{path}");
        let listed = sandbox.command("tar").args(["--numeric-owner", "-tvf"]).arg(&archive).output().unwrap();
        assert!(listed.status.success(), "{listed:?}");
        let text = String::from_utf8(listed.stdout).unwrap();
        let mut names: Vec<String> =
            text.lines().map(|line| line.split_whitespace().skip(5).collect::<Vec<_>>().join(" ")).collect();
        names.sort();
        (names, text)
    };
    assert_eq!(names("/d").0, ["d/", "d/e/", "d/e/f", "d/l -> e"]);
    assert_eq!(names("/d/").0, ["d/", "d/e/", "d/e/f", "d/l -> e"]);
    assert_eq!(names("/d/.").0, ["./", "./e/", "./e/f", "./l -> e"]);
    assert_eq!(names("/d/e/f").0, ["f"]);
    assert_eq!(names("/s").0, ["s -> d"]);
    assert_eq!(names("/s/").0, ["s/", "s/e/", "s/e/f", "s/l -> e"]);
    let (_, listing) = names("/d/e");
    if crate::harness::needs::has_sub_ids() {
        assert!(listing.lines().all(|line| line.contains(" 7/8 ")), "the container's own ids: {listing}");
    }
    // In: plain, compressed, with owners of its own, over links of the container.
    let folder = sandbox.folder("in");
    std::fs::create_dir_all(folder.join("s/new")).unwrap();
    std::fs::write(folder.join("s/new/file"), "through\n").unwrap();
    for (flags, name) in [("-cf", "a.tar"), ("-czf", "a.tgz")] {
        let archive = sandbox.path("work").join(name);
        let mut command = sandbox.command("tar");
        command.arg(flags).arg(&archive).args(["--owner=5", "--group=6", "-C"]).arg(&folder);
        assert!(command.arg("s/new/file").status().unwrap().success());
        inside(&sandbox, "c", "rm -rf /d/new");
        let output = sandbox.coracle_with(&std::fs::read(&archive).unwrap(), ["cp", "-", "c:/"]).ok();
        assert_eq!(inside(&sandbox, "c", "readlink /s; cat /d/new/file"), "d\nthrough", "{output}");
        if crate::harness::needs::has_sub_ids() {
            assert_eq!(inside(&sandbox, "c", "stat -c %u:%g /d/new/file /d/new"), "5:6\n0:0");
        }
    }
    // An empty archive is one.
    sandbox.coracle_with(&[0; 1024], ["cp", "-", "c:/"]).ok();
    for (input, to, words) in [
        (&b"no archive, whatever it is called"[..], "c:/", "tar archive"),
        (b"BZh91AY", "c:/", "bzip2"),
        (&[0; 1024], "c:/d/e/f", "must be a directory"),
        (&[0; 1024], "c:/nowhere", "must be a directory"),
    ] {
        from_file(&sandbox, input, to).fails(1, &[words]);
    }
}

#[test]
fn hostile_archives_stay_inside() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let victim = sandbox.folder("victim");
    std::fs::write(victim.join("file"), "the host's").unwrap();
    start(&sandbox, "c", &[]);
    let outside = victim.to_str().unwrap();
    let climb = format!("{}{outside}", "../".repeat(12).trim_end_matches('/'));
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o777);
    let link = |builder: &mut tar::Builder<Vec<u8>>, kind, name: &str, to: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        builder.append_link(&mut header, name, to).unwrap();
    };
    let mut archives = Vec::new();
    for target in [outside, climb.as_str()] {
        let mut builder = tar::Builder::new(Vec::new());
        link(&mut builder, tar::EntryType::Symlink, "l", target);
        header.set_size(4);
        builder.append_data(&mut header, "l/file", &b"evil"[..]).unwrap();
        builder.append_data(&mut header, "l/new", &b"evil"[..]).unwrap();
        archives.push(builder.into_inner().unwrap());
        let mut builder = tar::Builder::new(Vec::new());
        link(&mut builder, tar::EntryType::Link, "h", &format!("{target}/file"));
        archives.push(builder.into_inner().unwrap());
        let mut builder = tar::Builder::new(Vec::new());
        link(&mut builder, tar::EntryType::Symlink, "d", target);
        let mut directory = tar::Header::new_gnu();
        directory.set_entry_type(tar::EntryType::Directory);
        directory.set_mode(0o777);
        directory.set_size(0);
        builder.append_data(&mut directory, "d", &b""[..]).unwrap();
        archives.push(builder.into_inner().unwrap());
    }
    let mode = victim.metadata().unwrap().mode();
    for archive in archives {
        inside(&sandbox, "c", "rm -rf /x; mkdir /x");
        let output = from_file(&sandbox, &archive, "c:/x");
        assert!([0, 1].contains(&output.code()) && !output.stderr.contains("panicked"), "{output}");
        assert_eq!(text(&victim.join("file")), "the host's", "{output}");
        assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 1, "{output}");
        assert_eq!(victim.metadata().unwrap().mode(), mode, "{output}");
    }
}

#[test]
fn links_are_copied_or_followed_as_asked() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let folder = sandbox.folder("f");
    fill(&folder);
    start(&sandbox, "c", &[]);
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    cp(&sandbox, &[&path("to-file"), "c:/tmp/"]).ok();
    assert_eq!(inside(&sandbox, "c", "readlink /tmp/to-file"), "file");
    cp(&sandbox, &["-L", &path("to-file"), "c:/root/"]).ok();
    assert_eq!(inside(&sandbox, "c", "test ! -L /root/to-file && cat /root/to-file"), "file");
    cp(&sandbox, &["-L", &path("to-dir"), "c:/root/"]).ok();
    assert_eq!(inside(&sandbox, "c", "cat /root/to-dir/a"), "a");
    // Out of it: a link of the container leads nowhere but into the container.
    inside(
        &sandbox,
        "c",
        "ln -s /etc/passwd /abs; ln -s ../../../../../../etc/passwd /up; ln -s /proc/self/root/etc /magic; ln -s loop /loop",
    );
    for name in ["abs", "up"] {
        cp(&sandbox, &["-L", &format!("c:/{name}"), &path(name)]).ok();
        assert_eq!(text(&folder.join(name)).trim(), inside(&sandbox, "c", "cat /etc/passwd"));
        cp(&sandbox, &[&format!("c:/{name}"), &path("link")]).ok();
        assert!(folder.join("link").is_symlink());
        std::fs::remove_file(folder.join("link")).unwrap();
    }
    cp(&sandbox, &["c:/magic/passwd", &path("magic")]).fails(1, &["Could not find the file"]);
    cp(&sandbox, &["-L", "c:/loop", &path("loop")]).fails(1, &[]);
    // A link of the host as the destination is followed, one inside a tree not.
    symlink(folder.join("there"), folder.join("dangling")).unwrap();
    cp(&sandbox, &["c:/etc/passwd", &path("dangling")]).ok();
    assert!(folder.join("there").is_file() && folder.join("dangling").is_symlink());
}

#[test]
fn file_and_directory_do_not_replace_each_other_unless_told() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let folder = sandbox.folder("f");
    fill(&folder);
    start(&sandbox, "c", &[]);
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    inside(&sandbox, "c", "mkdir -p /d/file/x /d/n; echo x >/d/dir");
    cp(&sandbox, &[&path("file"), "c:/d"]).fails(1, &["cannot overwrite directory"]);
    cp(&sandbox, &[&path("dir"), "c:/d"]).fails(1, &["cannot overwrite non-directory"]);
    cp(&sandbox, &[&path("dir"), "c:/d/dir"]).fails(1, &["cannot copy directory"]);
    cp(&sandbox, &["--overwrite", &path("file"), "c:/d"]).ok();
    cp(&sandbox, &["--overwrite", &path("dir"), "c:/d"]).ok();
    assert_eq!(inside(&sandbox, "c", "cat /d/file /d/dir/sub/b"), "file\nb");
    cp(&sandbox, &["c:/d", "c:/d/n"]).fails(1, &["into itself"]);
    cp(&sandbox, &["c:/d/.", "c:/d"]).fails(1, &["into itself"]);
}

#[test]
fn volumes_binds_and_tmpfs_are_part_of_the_container() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let bind = sandbox.folder("bind");
    let one = sandbox.file("one", "one\n");
    let file = sandbox.file("file", "file\n");
    let file = file.to_str().unwrap();
    let binds = format!("{}:/bind", bind.display());
    let single = format!("{}:/etc/one", one.display());
    let read_only = format!("{}:/ro:ro", bind.display());
    let options = ["-v", "vol:/vol", "-v", &binds, "-v", &single, "-v", &read_only, "--tmpfs", "/scratch"];
    start(&sandbox, "c", &options);
    inside(&sandbox, "c", "ln -s /vol /to-vol");
    let target = sandbox.folder("target");
    for round in ["running", "stopped"] {
        cp(&sandbox, &[file, &format!("c:/vol/{round}")]).ok();
        cp(&sandbox, &[file, &format!("c:/to-vol/{round}2")]).ok();
        cp(&sandbox, &[file, &format!("c:/bind/{round}")]).ok();
        assert_eq!(text(&bind.join(round)), "file\n");
        cp(&sandbox, &["c:/vol", target.to_str().unwrap()]).ok();
        assert_eq!(text(&target.join("vol").join(round)), "file\n");
        assert_eq!(text(&target.join("vol").join(format!("{round}2"))), "file\n");
        cp(&sandbox, &[file, &format!("c:/ro/{round}")]).fails(1, &["mounted volume is marked read-only"]);
        // A mounted file keeps its place: its content changes.
        std::fs::write(&one, "one\n").unwrap();
        cp(&sandbox, &[file, "c:/etc/one"]).ok();
        assert_eq!(text(&one), "file\n");
        cp(&sandbox, &[file, "c:/etc/hosts"]).ok();
        cp(&sandbox, &["c:/etc/hosts", target.join("hosts").to_str().unwrap()]).ok();
        assert_eq!(text(&target.join("hosts")), "file\n");
        if round == "running" {
            assert_eq!(
                inside(&sandbox, "c", "cat /etc/one /etc/hosts; grep -c ' /etc/one ' /proc/mounts"),
                "file\nfile\n1"
            );
            cp(&sandbox, &[file, "c:/scratch/x"]).ok();
            assert_eq!(
                inside(&sandbox, "c", "cat /scratch/x; grep -c ' /scratch tmpfs' /proc/mounts"),
                "file\n1"
            );
            cp(&sandbox, &["c:/scratch/x", target.join("x").to_str().unwrap()]).ok();
            sandbox.ok(["stop", "-t", "0", "c"]);
        }
    }
}

#[test]
fn a_read_only_root_is_refused_in_docker_s_words() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let file = sandbox.file("file", "file\n");
    let file = file.to_str().unwrap();
    start(&sandbox, "c", &["--read-only", "-v", "vol:/vol"]);
    for _ in 0..2 {
        cp(&sandbox, &[file, "c:/file"]).fails(1, &["container rootfs is marked read-only"]);
        cp(&sandbox, &[file, "c:/etc/hostname2"]).fails(1, &["container rootfs is marked read-only"]);
        from_file(&sandbox, &[0; 1024], "c:/etc").fails(1, &["marked read-only"]);
        cp(&sandbox, &[file, "c:/vol/file"]).ok();
        let back = sandbox.path("work/back");
        cp(&sandbox, &["c:/vol/file", back.to_str().unwrap()]).ok();
        assert_eq!(text(&back), "file\n");
        sandbox.ok(["stop", "-t", "0", "c"]);
    }
}

#[test]
fn owners_are_root_s_or_kept_and_translated() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Need::SubIds]) else { return };
    let own = rustix::process::getuid().as_raw();
    let file = sandbox.file("file", "file\n");
    let file = file.to_str().unwrap();
    let maps: &[(&str, &[&str], &str)] = &[
        ("plain", &[], "0:0"),
        ("user", &["--user", "7:8"], "0:0"),
        ("keep", &["--userns", "keep-id"], "own"),
        ("mapped", &["--uidmap", "0:100:200", "--gidmap", "0:300:200"], "0:0"),
        ("host", &["--userns", "host"], "0:0"),
    ];
    let own = format!("{own}:{}", rustix::process::getgid().as_raw());
    for (name, options, owner) in maps {
        let owner = if *owner == "own" { own.as_str() } else { owner };
        start(&sandbox, name, options);
        let to = format!("{name}:/tmp/file");
        cp(&sandbox, &[file, &to]).ok();
        assert_eq!(inside(&sandbox, name, "stat -c %u:%g /tmp/file"), owner, "{name}");
        // To the host: the user's; an archive has the container's own ids.
        sandbox.ok(["exec", "-u", "0", name, "sh", "-c", "mkdir /tmp/s; echo >/tmp/s/f; chown 5:6 /tmp/s/f"]);
        let back = sandbox.folder(&format!("back-{name}"));
        cp(&sandbox, &[&format!("{name}:/tmp/s/."), back.to_str().unwrap()]).ok();
        let meta = back.join("f").metadata().unwrap();
        assert_eq!(format!("{}:{}", meta.uid(), meta.gid()), own);
        // Between containers with -a: the same ids inside, whatever they are outside.
        for (other, ..) in maps.iter().take_while(|(other, ..)| other != name) {
            cp(&sandbox, &["-a", &format!("{other}:/tmp/s/f"), &format!("{name}:/tmp/kept")]).ok();
            assert_eq!(inside(&sandbox, name, "stat -c %u:%g /tmp/kept"), "5:6", "{other} to {name}");
            cp(&sandbox, &[&format!("{other}:/tmp/s/f"), &format!("{name}:/tmp/kept")]).ok();
            assert_eq!(inside(&sandbox, name, "stat -c %u:%g /tmp/kept"), owner, "{other} to {name}");
        }
        // At rest it is the same.
        sandbox.ok(["stop", "-t", "0", name]);
        cp(&sandbox, &[file, &format!("{name}:/tmp/rest")]).ok();
        sandbox.ok(["start", name]);
        assert_eq!(inside(&sandbox, name, "stat -c %u:%g /tmp/rest"), owner, "{name}");
    }
    // Kept: the user's files are the container root's, as ids are mapped.
    cp(&sandbox, &["-a", file, "plain:/tmp/own"]).ok();
    assert_eq!(inside(&sandbox, "plain", "stat -c %u:%g /tmp/own"), "0:0");
    cp(&sandbox, &["-a", file, "keep:/tmp/own"]).ok();
    assert_eq!(inside(&sandbox, "keep", "stat -c %u:%g /tmp/own"), own);
}

#[test]
fn what_is_no_file_is_refused_or_left_out() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    start(&sandbox, "c", &[]);
    let back = sandbox.folder("back");
    let word = back.to_str().unwrap();
    cp(&sandbox, &["c:/dev/null", word]).fails(1, &["device"]);
    cp(&sandbox, &["c:/etc/passwd", "/dev/null"])
        .fails(1, &["must be a directory or a regular file", "got a device"]);
    let file = sandbox.file("file", "file\n");
    cp(&sandbox, &[file.to_str().unwrap(), "c:/dev/null"]).fails(1, &["got a device"]);
    // A pipe, to which no directory leads.
    cp(&sandbox, &["c:/etc/passwd", "/dev/stdout"])
        .fails(1, &["must be a directory or a regular file", "`-`"]);
    let socket = std::os::unix::net::UnixListener::bind(sandbox.path("work/socket")).unwrap();
    cp(&sandbox, &[sandbox.path("work/socket").to_str().unwrap(), "c:/"]).fails(1, &["socket"]);
    cp(&sandbox, &[sandbox.path("work").join(".").to_str().unwrap(), "c:/work"]).ok();
    drop(socket);
    assert_eq!(inside(&sandbox, "c", "ls /work"), "back\nfile");
    // The whole root, without what only shows the kernel's state.
    cp(&sandbox, &["c:/", back.join("root").to_str().unwrap()]).ok();
    assert!(back.join("root/bin/busybox").is_file());
    assert_eq!(std::fs::read_dir(back.join("root/proc")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(back.join("root/sys")).unwrap().count(), 0);
    assert!(!back.join("root/dev/null").exists());
}

#[test]
fn words_that_are_wrong_and_what_is_said_of_success() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["create", "--name", "c", "busybox"]);
    let file = sandbox.file("file", "file\n");
    let file = file.to_str().unwrap();
    cp(&sandbox, &[file, "x"]).fails(1, &["must specify at least one container source"]);
    cp(&sandbox, &["-", "-"]).fails(1, &["must specify at least one container source"]);
    cp(&sandbox, &["", "c:/"]).fails(1, &["source can not be empty"]);
    cp(&sandbox, &[file, "nobody:/"]).refused(&["nobody"]);
    cp(&sandbox, &["c:/no", "."]).fails(1, &["Could not find the file /no in container c"]);
    cp(&sandbox, &[file, "c:/no/x"]).fails(1, &["Could not find the file /no in container c"]);
    cp(&sandbox, &["c:/bin/sh", "/no/x"])
        .fails(1, &["invalid output path: directory \"/no\" does not exist"]);
    cp(&sandbox, &["/no/file", "c:/"]).fails(1, &["lstat /no/file: no such file or directory"]);
    cp(&sandbox, &[file]).refused(&[]);
    cp(&sandbox, &["--pause=false", file, "c:/unpaused"]).ok();
    // A colon in a path that begins as one.
    sandbox.file("a:b", "colon\n");
    cp(&sandbox, &["./a:b", "c:/a:b"]).ok();
    let output = cp(&sandbox, &["c:/a:b", "./out"]).ok();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""), "quiet where nobody watches");
    assert_eq!(text(&sandbox.path("work/out")), "colon\n");
    let output = cp(&sandbox, &["--quiet=false", file, "c:/x"]).ok();
    assert_eq!(output.stderr.trim(), "Successfully copied 2.05kB to c:/x");
    let output = sandbox.coracle(["container", "cp", "c:/x", "./y"]).ok();
    assert_eq!(text(&sandbox.path("work/y")), "file\n", "{output}");
    let events = text(&sandbox.state().join("events"));
    assert!(events.contains("archive-path") && events.contains("extract-to-dir"), "{events}");
}

#[test]
fn a_container_is_held_up_for_a_copy_where_asked() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    start(&sandbox, "c", &[]);
    inside(&sandbox, "c", "echo x >/x");
    cp(&sandbox, &["--pause", "c:/x", "./x"]).ok();
    cp(&sandbox, &["--pause", "./x", "c:/y"]).ok();
    cp(&sandbox, &["--pause", "c:/no", "./y"]).fails(1, &["Could not find"]);
    cp(&sandbox, &["--pause", "c:/x", "c:/z"]).ok();
    // It goes on after each, also after a failure.
    assert_eq!(sandbox.status("c"), "running");
    assert_eq!(inside(&sandbox, "c", "cat /y /z"), "x\nx");
    let events = text(&sandbox.state().join("events"));
    assert!(events.contains("\"pause\"") && events.contains("\"unpause\""), "{events}");
    // A paused container is copied from and stays paused.
    sandbox.ok(["pause", "c"]);
    cp(&sandbox, &["--pause", "c:/x", "./x"]).ok();
    assert_eq!(sandbox.status("c"), "paused");
    sandbox.ok(["unpause", "c"]);
}

/// As [`owners_are_root_s_or_kept_and_translated`] for whoever has one id.
pub(crate) fn one_id_owns_all(sandbox: &Sandbox) {
    let file = sandbox.file("file", "file\n");
    for (name, options) in [("c", &[][..]), ("u", &["--user", "7:8"])] {
        start(sandbox, name, options);
        cp(sandbox, &[file.to_str().unwrap(), &format!("{name}:/tmp/file")]).ok();
        cp(sandbox, &["-a", file.to_str().unwrap(), &format!("{name}:/tmp/kept")]).ok();
        let own = inside(sandbox, name, "id -u");
        assert_eq!(inside(sandbox, name, "stat -c %u /tmp/file /tmp/kept"), format!("{own}\n{own}"));
        let back = sandbox.path("work").join(name);
        cp(sandbox, &["-a", &format!("{name}:/tmp/file"), back.to_str().unwrap()]).ok();
        assert_eq!(back.metadata().unwrap().uid(), rustix::process::getuid().as_raw());
        sandbox.ok(["stop", "-t", "0", name]);
        cp(sandbox, &[file.to_str().unwrap(), &format!("{name}:/tmp/rest")]).ok();
    }
}
