//! The FUSE overlay under load and over bad ground: nothing hangs.

use crate::harness::{Fuse, Image, Need, Output, Sandbox, SubIds, needs, sandbox};

/// Runs a script in `unshare`, below a folder of its own. `$c` is the tool;
/// `serve OPTIONS POINT` mounts an overlay, whose server is `$pid`.
#[track_caller]
fn session(sandbox: &Sandbox, folder: &str, script: &str) -> Output {
    let base = sandbox.root().join(folder);
    std::fs::create_dir_all(&base).unwrap();
    let binary = crate::harness::sandbox::binary();
    let script = format!(
        r#"c={}; cd {}
        serve() {{ rm -f said; mkfifo said; "$c" overlay -f --announce -o "$1" "$2" >said & pid=$!
            [ "$(cat said)" = ready ]; }}
        {script}"#,
        binary.display(),
        base.display(),
    );
    let output = sandbox.coracle(["unshare", "sh", "-ec", &script]);
    sandbox.ok(["unshare", "rm", "-rf", base.to_str().unwrap()]);
    output
}

/// Runs the guest program in a container on this driver.
#[track_caller]
fn guest(sandbox: &Sandbox, driver: &str, words: &[&str]) -> Output {
    let run = ["--storage-driver", driver, "run", "--rm", "--network", "none", "guest"];
    sandbox.coracle([&run, words].concat())
}

/// How often: 300 is the short form.
fn rounds(of_short: u64) -> u64 {
    let soak = std::env::var("CORACLE_TEST_SOAK").ok().and_then(|text| text.parse().ok()).unwrap_or(300_u64);
    (of_short * soak / 300).max(1)
}

/// The kernel's version.
fn linux() -> (u32, u32) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[test]
fn mounting_and_unmounting_over_and_over_hangs_nowhere() {
    let Some(sandbox) = sandbox(&[Fuse]) else { return };
    let script = format!(
        r"mkdir low upper work m; echo low >low/file; n=0
        while [ $n -lt {} ]; do
            serve lowerdir=low,upperdir=upper,workdir=work m
            cat m/file >/dev/null & one=$!; ls m >/dev/null & other=$!; echo $n >m/new
            wait $one || exit 7; wait $other || exit 7
            umount m
            wait $pid || exit 8
            n=$((n + 1))
        done
        cat upper/new low/file",
        rounds(12)
    );
    let output = session(&sandbox, "again", &script).ok();
    assert_eq!(output.stdout, format!("{}\nlow\n", rounds(12) - 1), "{output}");
}

/// The lower layer is an overlay too, whose server stops now and then in the
/// middle of requests; the upper one is killed in every second round.
#[test]
fn clients_of_a_slow_and_of_a_killed_server_come_to_an_end() {
    let Some(sandbox) = sandbox(&[Fuse]) else { return };
    let script = format!(
        r#"mkdir low slow upper work m; n=0
        for d in 1 2 3 4 5; do mkdir low/$d; for f in 1 2 3 4 5 6; do echo $d$f >low/$d/$f; done; done
        find low -type f | sort | xargs cat >whole
        client() {{ set +e; while [ -e go ]; do find m >/dev/null; cat m/*/* >/dev/null; echo $1 >m/new$1; echo $1 >>m/2/$1
            mv m/new$1 m/old$1; ln m/old$1 m/3/link$1; rm m/old$1 m/3/link$1; done 2>/dev/null; :; }}
        while [ $n -lt {} ]; do
            serve lowerdir=low slow; inner=$pid
            serve lowerdir=slow,upperdir=upper,workdir=work m; outer=$pid
            : >go; clients=
            for i in 1 2 3 4 5 6; do client $i & clients="$clients $!"; done
            for i in 1 2 3 4 5 6 7 8; do kill -STOP $inner; sleep 0.05; kill -CONT $inner; sleep 0.02; done
            if [ $((n % 2)) = 1 ]; then kill -9 $outer; fi
            rm go
            wait $clients || exit 7
            umount m
            if wait $outer; then ended=0; else ended=$?; fi
            umount slow; wait $inner || exit 8
            find low -type f | sort | xargs cat | cmp - whole
            echo $ended; n=$((n + 1))
        done"#,
        rounds(2)
    );
    let output = session(&sandbox, "slow", &script).ok();
    let expected: Vec<_> = (0..rounds(2)).map(|round| if round % 2 == 1 { "137" } else { "0" }).collect();
    assert_eq!(output.lines(), expected, "{output}");
}

/// The end of a file was lost without a word where its beginning fitted on the disk:
/// Linux does not look at how much of what it writes back was written.
#[test]
fn a_write_that_fits_in_part_is_told() {
    let Some(sandbox) = sandbox(&[Fuse, SubIds]) else { return };
    let script = r#"mkdir low disk m; mount -t tmpfs -o size=4m none disk; mkdir disk/upper disk/work
        serve lowerdir=low,upperdir=disk/upper,workdir=disk/work m
        dd if=/dev/zero of=m/fill bs=64k count=56 conv=fsync 2>/dev/null
        for how in "" conv=fsync oflag=direct; do
            if dd if=/dev/zero of=m/part bs=1M count=1 $how 2>error; then echo "unnoticed: $how"; fi
            grep -o 'No space left' error || cat error; rm m/part
        done
        umount m; wait $pid; umount disk"#;
    let output = session(&sandbox, "part", script).ok();
    assert_eq!(output.lines(), ["No space left"; 3], "{output}");
}

/// The kernel gathers what is written whether there is room for it or not: a program that
/// does not sync wrote on for ever, and only its close(2) was told.
#[test]
fn write_itself_fails_on_a_full_disk_and_what_is_removed_makes_room_at_once() {
    let Some(sandbox) = sandbox(&[Fuse, SubIds]) else { return };
    let script = r#"mkdir low disk m; mount -t tmpfs -o size=8m none disk; mkdir disk/upper disk/work
        serve lowerdir=low,upperdir=disk/upper,workdir=disk/work m
        dd if=/dev/zero of=m/there bs=64k count=16 conv=fsync 2>/dev/null
        fails() { if "$@" 2>error; then echo "unnoticed: $*"; else grep -o 'error writing.*No space left' error || cat error; fi; }
        for round in 1 2 3; do
            fails dd if=/dev/zero of=m/big bs=64k count=16000
            fails dd if=/dev/zero of=m/small bs=1 count=1
            # What is there already can be read to its end and written over.
            [ "$(cat m/there | wc -c)" = 1048576 ] || echo unread
            dd if=/dev/urandom of=m/there bs=64k count=16 conv=notrunc,fsync 2>error || cat error
            cmp m/there disk/upper/there
            rm m/big; dd if=/dev/zero of=m/next bs=4k count=16 conv=fsync 2>error || cat error
            rm -f m/next m/small
        done
        umount m; wait $pid; umount disk"#;
    let output = session(&sandbox, "full", script).ok();
    let lines = output.lines();
    assert_eq!(lines.len(), 6, "{output}");
    assert!(lines.iter().all(|line| line.starts_with("error writing 'm/")), "{output}");
}

/// What was appended and did not fit was taken, shown, and counted in the file's size for
/// good; the next to append left a hole before his line. A file of a layer, too, which
/// would have to be copied up.
#[test]
fn what_does_not_fit_is_refused_and_leaves_no_hole_behind() {
    let Some(sandbox) = sandbox(&[Fuse, SubIds]) else { return };
    let script = r#"mkdir low disk m; echo lower >low/group; mount -t tmpfs -o size=4m none disk; mkdir disk/upper disk/work
        serve lowerdir=low,upperdir=disk/upper,workdir=disk/work m
        head -c 4096 /dev/zero | tr '\0' x >m/block
        for size in 64k 1k; do
            dd if=/dev/zero of=m/fill bs=$size conv=fsync,notrunc oflag=append 2>/dev/null || true
        done
        for round in 1 2 3; do
            for file in group new block; do
                if (echo lost >>m/$file) 2>/dev/null; then echo "unnoticed: $file"; fi
            done
            # In its place there is room for it.
            echo X | dd of=m/block conv=notrunc,fsync 2>/dev/null
        done
        rm m/fill
        for file in group new block; do echo kept >>m/$file; done
        look() { tr '\0' @ <$1/group; tr '\0' @ <$1/new; tail -c 7 $1/block; stat -c %s $1/block; }
        look m; umount m; wait $pid; look disk/upper; umount disk"#;
    let output = session(&sandbox, "hole", script).ok();
    let expected = ["lower", "kept", "kept", "xxkept", "4101"];
    assert_eq!(output.lines(), [expected, expected].concat(), "{output}");
}

/// A file without a name is held open by the server, as many as it may open: with more,
/// unlink(2) took the name, and who had the file open lost what he wrote.
#[test]
fn no_open_file_is_lost_where_the_server_may_open_no_more() {
    let Some(sandbox) = sandbox(&[Fuse, SubIds, Need::Program("perl")]) else { return };
    let script = r#"mkdir low upper work m
        ulimit -n 256; serve lowerdir=low,upperdir=upper,workdir=work m
        perl - <<'END'
use strict; use IO::Handle; use Errno; use POSIX (); STDOUT->autoflush(1);
for my $child (0..2) {
    next if fork;
    my ($kept, @files) = (0);
    for my $number (0..149) {
        my $name = "m/$child.$number";
        open(my $file, '+>', $name) or die "open: $!";
        $file->autoflush(1);
        print $file "first ";
        unless (unlink $name) { die "unlink: $!" unless $!{ENFILE}; $kept++ }
        push @files, $file;
    }
    for my $file (@files) {
        print $file "second" or die "write: $!";
        $file->sync or die "fsync: $!";
        truncate($file, 11) or die "truncate: $!";
        seek($file, 0, 0); read($file, my $text, 99);
        die "read: $text" unless $text eq "first secon";
    }
    print STDOUT "kept $kept\n";
    POSIX::_exit(0);
}
for (0..2) { wait; die "a child failed" if $? }
END
        rm -f m/*; ls m; echo fine; umount m; wait $pid"#;
    let output = session(&sandbox, "limit", script).ok();
    let lines = output.lines();
    assert_eq!((lines.len(), lines.last()), (4, Some(&"fine")), "{output}");
    let kept: u32 = lines.iter().filter_map(|line| line.strip_prefix("kept ")?.parse::<u32>().ok()).sum();
    assert!((1..450).contains(&kept), "some are held, and not all can be: {output}");
}

/// After the last name but one is gone, a file has one link, whoever asks.
#[test]
fn removed_names_stay_counted() {
    let Some(sandbox) = sandbox(&[Fuse]) else { return };
    let script = r"mkdir low upper work m; echo x >low/a; ln low/a low/b; ln low/a low/c; ln low/a low/d
        o=lowerdir=low,upperdir=upper,workdir=work
        serve $o m; rm m/a; stat -c %h m/b; umount m; wait $pid
        serve $o m; stat -c %h m/c; : >new; mv new m/d; stat -c %h m/b; umount m; wait $pid
        serve $o m; stat -c %h m/b; rm m/b; stat -c %h m/c; umount m; wait $pid
        serve $o m; stat -c %h m/c; ls work/links | wc -l
        echo y >>m/c; stat -c %h m/c; ln m/c m/a; umount m; wait $pid
        serve $o m; stat -c %h m/a m/c; ls work/links | wc -l; umount m; wait $pid
        cat low/a; stat -c %h low/a";
    let output = session(&sandbox, "links", script).ok();
    let expected = ["3", "3", "2", "2", "1", "1", "1", "1", "2", "2", "0", "x", "4"];
    assert_eq!(output.lines(), expected, "{output}");
}

/// The layer is an overlay too, whose server stops: all of them wait for it in the
/// middle of reading the directory.
#[test]
fn everybody_who_lists_a_directory_at_the_same_time_sees_all_of_it() {
    let Some(sandbox) = sandbox(&[Fuse]) else { return };
    let script = format!(
        r#"mkdir -p low/d slow m; n=0
        while [ $n -lt 700 ]; do : >low/d/a-rather-long-name-of-a-file-$n; n=$((n + 1)); done
        n=0
        while [ $n -lt {} ]; do
            serve lowerdir=low slow; inner=$pid
            serve lowerdir=slow m; outer=$pid
            stat m/d >stat; kill -STOP $inner; clients=
            for i in 1 2 3 4 5 6; do ls m/d | wc -l >seen$i & clients="$clients $!"; done
            # Not for ever: who may not see where others wait sees nothing here.
            tries=0; until [ "$(grep -l request_wait_answer /proc/$outer/task/*/wchan | wc -l)" -ge 2 ] || [ $tries = 300 ]; do
                tries=$((tries + 1)); done
            kill -CONT $inner
            wait $clients || exit 7
            cat seen? >>all
            umount m; wait $outer; umount slow; wait $inner
            n=$((n + 1))
        done
        sort -u all"#,
        rounds(6)
    );
    let output = session(&sandbox, "listed", &script).ok();
    assert_eq!(output.stdout.trim(), "700", "{output}");
}

/// The kernel gathers what is written, and passes it on later than it was written.
#[test]
fn a_file_has_the_time_of_its_last_change_after_the_next_start_too() {
    let Some(sandbox) = sandbox(&[Fuse]) else { return };
    let script = r#"mkdir low upper work m; for n in 1 2 3 4 5 6 7 8; do echo low >low/old$n; done
        serve lowerdir=low,upperdir=upper,workdir=work m
        n=0; while [ $n -lt 60 ]; do n=$((n + 1)); echo $n >m/new$n; head -c 100000 /dev/zero >>m/large$n; done
        for n in 1 2 3 4 5 6 7 8; do echo more >>m/old$n; : >m/cut$n; echo some >m/cut$n; done
        touch -d '2001-02-03 04:05:06.789' m/new1; exec 3>>m/new2; echo open >&3; touch -r m/new1 m/new2; exec 3>&-
        # Runs of many writes, beside one another.
        for n in 1 2 3 4; do head -c 9000000 /dev/zero >m/run$n & runs="$runs $!"; done; wait $runs
        (cd m; stat -c '%n %y' *) >before; umount m; wait $pid
        serve lowerdir=low,upperdir=upper,workdir=work m; (cd m; stat -c '%n %y' *) >after; umount m; wait $pid
        (cd upper; stat -c '%n %y' *) | diff before - && diff before after && wc -l <after; grep -c 04:05:06.789 after"#;
    let output = session(&sandbox, "times", script).ok();
    assert_eq!(output.stdout, "140\n2\n", "{output}");
}

/// The kernel's own threads write back what is open still, in root's name, who is nobody
/// in the user namespace of an ordinary user's mount: before Linux 6.12 they could not
/// tell the time. It was set back to what it was before.
#[test]
fn no_time_goes_back_where_the_kernel_writes_back_by_itself() {
    let Some(sandbox) = sandbox(&[Fuse]) else { return };
    let script = r"mkdir low upper work m; echo low >low/old; touch -d 2001-02-03 low/old
        serve lowerdir=low,upperdir=upper,workdir=work m
        exec 3>m/new 4>>m/old; echo a >&3; sync m/new; touch mark
        # Another time than that of the first write.
        until [ m/tick -nt mark ]; do : >m/tick; done
        echo b >&3; echo b >&4; sync; exec 3>&- 4>&-
        stat -c '%n %.9Y' m/new m/old >before; umount m; wait $pid
        serve lowerdir=low,upperdir=upper,workdir=work m; stat -c '%n %.9Y' m/new m/old >after
        [ m/new -nt mark ] && [ m/old -nt mark ] && echo newer
        umount m; wait $pid; cmp -s before after && echo same";
    let output = session(&sandbox, "back", script).ok();
    let expected: &[&str] = if linux() >= (6, 12) { &["newer", "same"] } else { &["newer"] };
    assert_eq!(&output.lines()[..expected.len().min(output.lines().len())], expected, "{output}");
}

/// The kernel believed in the sizes that it had been told once, and in what it had read:
/// what was appended here went over what others had appended meanwhile.
#[test]
fn a_directory_of_the_host_is_shown_as_it_is_by_now() {
    let Some(sandbox) = sandbox(&[Fuse, Image("busybox")]) else { return };
    let shared = sandbox.root().join("shared");
    std::fs::create_dir_all(shared.join("folder")).unwrap();
    std::fs::write(shared.join("log"), "one\n").unwrap();
    std::fs::write(shared.join("same"), "before").unwrap();
    let volume = format!("{}:/s:O", shared.display());
    let options = ["--name", "c", "--network", "none", "-v", &volume, "busybox", "sleep", "1000"];
    sandbox.ok([&["--storage-driver", "fuse", "run", "-d"][..], &options].concat());
    let said = |script: &str| sandbox.ok(["exec", "c", "sh", "-c", script]);
    let look = "cat /s/log /s/same; echo; ls /s /s/folder; wc -c </s/log; tail -c 4 /s/log";
    assert!(said(look).starts_with("one\nbefore\n"));
    std::fs::OpenOptions::new()
        .append(true)
        .open(shared.join("log"))
        .and_then(|mut log| std::io::Write::write_all(&mut log, b"two, a longer one\n"))
        .unwrap();
    std::fs::write(shared.join("same"), "behind").unwrap();
    std::fs::write(shared.join("folder/new"), "").unwrap();
    let now = "one\ntwo, a longer one\nbehind\n/s:\nfolder\nlog\nsame\n\n/s/folder:\nnew\n22\none";
    crate::harness::until("what is there now", || (said(look) == now).then_some(()));
    let appended = said("echo three >>/s/log; cat /s/log");
    assert_eq!(appended, "one\ntwo, a longer one\nthree");
    assert_eq!(std::fs::read_to_string(shared.join("log")).unwrap(), "one\ntwo, a longer one\n");
}

#[test]
fn a_mount_is_shown_by_the_name_that_it_is_given() {
    let Some(sandbox) = sandbox(&[Fuse]) else { return };
    let script = r"mkdir low m; serve lowerdir=low,fsname=disk m
        sed -n 's/.* - \(fuse[^ ]* [^ ]*\) .*/\1/p' /proc/self/mountinfo | grep disk; umount m; wait $pid";
    assert_eq!(session(&sandbox, "name", script).ok().text(), "fuse.coracle disk");
}

#[test]
fn syncfs_writes_back_what_the_kernel_has_gathered() {
    let Some(sandbox) = sandbox(&[Fuse]) else { return };
    let script = r"mkdir low upper work m; serve lowerdir=low,upperdir=upper,workdir=work m
        head -c 300000 /dev/urandom >m/data; sync -f m/data; cmp m/data upper/data; echo same; umount m; wait $pid";
    assert_eq!(session(&sandbox, "sync", script).ok().text(), "same");
}

/// Case 451 of xfstests: with asynchronous direct writes the kernel drops what it
/// has cached before they are done, and not after.
#[test]
fn a_direct_write_that_is_done_is_seen_by_every_read() {
    let Some(sandbox) = sandbox(&[Fuse, Image("guest")]) else { return };
    let output = guest(&sandbox, "fuse", &["direct", "/file", "1000"]).ok();
    assert_eq!(output.text(), "0", "writes that were not seen");
}

/// Each write of the server's to the upper file system took the capability away,
/// also those of the kernel's that pass on what was written before.
#[test]
fn a_capability_stays_when_the_kernel_passes_on_what_was_written_before() {
    let Some(sandbox) = sandbox(&[Fuse, Image("guest")]) else { return };
    for driver in ["fuse", "overlay"] {
        let output = guest(&sandbox, driver, &["capable", "/file"]).ok();
        assert_eq!(output.lines(), ["capable", "capable", "ENODATA"], "{driver}: {output}");
    }
}

/// A handle would be the number of a node, which is forgotten long before the server
/// ends: before Linux 6.9 it cannot be said that there are none (case 477 of xfstests).
#[test]
fn files_have_no_handles_as_on_the_kernel_s_overlay() {
    let Some(sandbox) = sandbox(&[Fuse, Image("guest")]) else { return };
    let expected = if linux() >= (6, 9) { "EOPNOTSUPP" } else { "ok" };
    for (driver, expected) in [("fuse", expected), ("overlay", "EOPNOTSUPP")] {
        let output = guest(&sandbox, driver, &["handle", "/bin/guest"]).ok();
        assert_eq!(output.text(), expected, "{driver}, Linux {:?}", linux());
    }
}

/// chattr(1), for a file that is copied up for it, a new one and a directory. What
/// needs root of the host is refused by the file system below.
#[test]
fn flags_of_files_are_set() {
    let Some(sandbox) = sandbox(&[Fuse, Need::Program("chattr")]) else { return };
    let script = r"mkdir low low/folder upper work m; : >low/file
        serve lowerdir=low,upperdir=upper,workdir=work m; : >m/new
        chattr +d m/file m/new m/folder; lsattr -d m/file m/new m/folder low/file upper/file | cut -c7
        chattr -d m/file; lsattr m/file | cut -c7
        chattr +i m/new 2>&1 | grep -o 'Operation not permitted'; umount m; wait $pid";
    let output = session(&sandbox, "flags", script).ok();
    let expected = ["d", "d", "d", "-", "d", "-", "Operation not permitted"];
    assert_eq!(output.lines(), expected, "{output}");
}

/// chown(2) that changes nobody, as `chown :` does it, changes the time of the status.
#[test]
fn a_chown_to_nobody_is_a_change() {
    let Some(sandbox) = sandbox(&[Fuse]) else { return };
    let script = r#"mkdir low upper work m; mkdir low/folder; mkfifo low/fifo; ln -s x low/link; : >low/file
        serve lowerdir=low,upperdir=upper,workdir=work m; mkdir m/new
        for name in folder fifo link file new; do
            before=$(stat -c %z m/$name); chown -h : m/$name; [ "$before" = "$(stat -c %z m/$name)" ] || echo $name
        done; umount m; wait $pid"#;
    assert_eq!(session(&sandbox, "nobody", script).ok().lines(), ["folder", "fifo", "link", "file", "new"]);
}

#[test]
fn an_access_list_that_is_not_there_can_be_removed() {
    let Some(sandbox) = sandbox(&[Fuse, Need::Program("python3")]) else { return };
    let script = r#"mkdir low low/folder upper work m; echo x >low/file
        serve lowerdir=low,upperdir=upper,workdir=work m; : >m/new
        python3 -c 'import os
for name in "m/file", "m/new", "m/folder":
    os.removexattr(name, "system.posix_acl_access")
os.removexattr("m/folder", "system.posix_acl_default")
try: os.removexattr("m/new", "user.none")
except OSError as error: print(error.strerror)'
        ls upper; umount m; wait $pid"#;
    let output = session(&sandbox, "acl", script).ok();
    assert_eq!(output.lines(), ["No data available", "new"], "nothing is copied up for it: {output}");
}

/// As on other file systems since Linux 6.2, where the file is not executable by
/// its group: case 683 of xfstests.
#[test]
fn a_stranger_s_write_takes_away_set_gid_and_a_member_s_does_not() {
    let Some(sandbox) = sandbox(&[Fuse, SubIds]) else { return };
    let script = r#"mkdir low upper work m; echo x >low/file; chmod 2766 low/file
        serve lowerdir=low,upperdir=upper,workdir=work m
        by() { chmod 2766 m/file; setpriv --reuid 7 --regid $1 --clear-groups sh -c "$2"; stat -c %a m/file upper/file; }
        by 0 'echo y >>m/file'; by 7 'echo y >>m/file'; by 7 'fallocate -l 9000 m/file'; by 7 'truncate -s 1 m/file'
        by 0 'truncate -s 0 m/file'; umount m; wait $pid"#;
    let output = session(&sandbox, "group", script).ok();
    let expected = ["2766", "2766", "766", "766", "766", "766", "766", "766", "2766", "2766"];
    assert_eq!(output.lines(), expected, "{output}");
}

/// The thread that answers one client beside it has the policy SCHED_IDLE, and gets
/// next to no processor while others want them all: what it has begun and what waits
/// for it is done all the same, and in order.
#[test]
fn a_client_is_served_while_every_processor_is_wanted() {
    let Some(sandbox) = sandbox(&[Fuse]) else { return };
    let script = format!(
        r#"mkdir low upper work m; for i in 1 2 3 4 5 6 7 8; do echo $i >low/$i; done
        serve lowerdir=low,upperdir=upper,workdir=work m
        work() {{ i=0; while [ $i -lt $2 ]; do i=$((i + 1)); echo $i >m/$1.$i; read -r it <m/$1.$i; [ "$it" = $i ]
            mv m/$1.$i m/$1; [ ! -e m/$1.$i ]; done; rm m/$1; }}
        n=0; while [ $n -lt {} ]; do n=$((n + 1))
            work alone 500
            hogs=; for i in $(seq $((2 * $(nproc)))); do (while :; do :; done) & hogs="$hogs $!"; done
            work crowded 100
            kill $hogs; wait $hogs || :
            work again 100
        done
        # proc_pid_stat(5): the 41st field, after a name that has no space here.
        for task in /proc/$pid/task/*/stat; do cut -d ' ' -f 41 "$task"; done | sort | uniq -c | tr -s ' '
        umount m; wait $pid; ls upper; cat low/*"#,
        rounds(2)
    );
    let output = session(&sandbox, "crowd", &script).ok();
    let lines: Vec<_> = output.stdout.lines().map(str::trim).collect();
    let (policies, rest) = lines.split_at(lines.iter().position(|line| *line == "1").expect("layer"));
    assert_eq!(rest.join(""), "12345678", "{output}");
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1) {
        assert!(matches!(policies, [others, "1 5"] if others.ends_with(" 0")), "{output}");
    }
}

/// While a process is in execve(2) nobody may look at it, and it closes its files
/// there: who answers on its processor must not wait for it.
#[test]
fn a_client_that_executes_a_program_is_answered() {
    let Some(sandbox) = sandbox(&[Fuse, Image("guest")]) else { return };
    let output = guest(&sandbox, "fuse", &["execs", "/", "200"]).ok();
    assert_eq!(output.text(), "200", "programs that ended well");
}

/// What a server has heard and does not answer keeps a process from ending, even by
/// SIGKILL. Here it is stopped after it has heard, for which a server below keeps it.
#[test]
fn a_container_whose_server_does_not_answer_can_be_ended() {
    let Some(sandbox) = sandbox(&[Fuse, SubIds, Need::Program("pgrep")]) else { return };
    let busybox = needs::image_dir("busybox").expect("contrib/test sets it").join("rootfs");
    let script = format!(
        r#"mkdir slow upper work
        serve lowerdir={},upperdir=upper,workdir=work slow
        "$c" --storage-driver fuse run -d --name c --network none --rootfs "$PWD/slow:O" \
            sh -c 'mkfifo /f; trap "[ -e /none ]" USR1; echo ready; while :; do read -t 1 _ <>/f; done' >/dev/null
        until "$c" logs c | grep -q ready; do :; done
        init=$("$c" inspect --format '{{{{.State.Pid}}}}' c); kill -STOP $pid; "$c" kill -s USR1 c >/dev/null
        until grep -q request_wait "/proc/$init/wchan"; do :; done
        kill -STOP $(pgrep -P $(sed -n 's/^PPid:.//p' "/proc/$init/status") -f -- --overlay); kill -CONT $pid
        "$c" kill c >/dev/null; "$c" wait c; "$c" inspect --format '{{{{.State.Error}}}}' c; "$c" rm c
        umount slow; wait $pid; ls upper"#,
        busybox.display()
    );
    let output = session(&sandbox, "stuck", &script).ok();
    let lines = output.lines();
    assert_eq!((lines[0], lines[2], lines.len()), ("137", "c", 3), "{output}");
    assert!(lines[1].contains("FUSE overlay's server did not answer"), "{output}");
}
