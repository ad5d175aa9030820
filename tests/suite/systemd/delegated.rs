//! Controllers that Debian does not delegate: `ben` gets them by the drop-in that
//! coracle prints, and `ann`, who has not, may go without.

use super::sessions::{as_root, in_a_session_of, wait_for_the_manager_of_ben_to_end};
use super::{file, machine, scope_of};

/// The drop-in of one user, gone with the machine.
const DELEGATE: &str = "mkdir -p /run/systemd/system/user@1001.service.d && \
     printf \"[Service]\\nDelegate=cpu cpuset io memory pids\\n\" >/run/systemd/system/user@1001.service.d/delegate.conf && \
     systemctl daemon-reload";

#[test]
fn limits_of_devices_and_processors_hold_where_they_are_delegated() {
    let Some(_sandbox) = machine() else { return };
    assert!(as_root(DELEGATE).status.success());
    wait_for_the_manager_of_ben_to_end();
    let limits = "--device-write-bps /dev/vda:1mb --device-read-iops /dev/vda:100 --blkio-weight 500 \
         --blkio-weight-device /dev/vda:200 --cpuset-cpus 1 --cpuset-mems 0";
    // Two mebibytes more than the limit lets through at once.
    let write = "dd if=/dev/zero of=/x bs=256k count=12 oflag=direct 2>/dev/null";
    let said = in_a_session_of(
        "ben",
        &format!(
            "$tool load -q -i /mnt/images/busybox/archive.tar >/dev/null; \
             $tool run -d --name c --network none {limits} busybox sleep 1000 >/dev/null; \
             group=/sys/fs/cgroup$(sed -n s/^0:://p /proc/$($tool inspect -f \"{{{{.State.Pid}}}}\" c)/cgroup); \
             cd $(dirname $group); grep . io.max io.weight cpuset.cpus cpuset.mems; \
             $tool exec c grep Cpus_allowed_list /proc/self/status; \
             date +began=%s%N; $tool exec c sh -c \"{write}\"; date +ended=%s%N; grep . io.stat; \
             echo written=$($tool stats --no-stream --format \"{{{{.BlockOutput}}}}\" c); \
             $tool update --device-write-bps /dev/vda:2mb --cpuset-cpus 0-1 --device-read-bps /dev/vda:3mb \
             --device-read-iops /dev/vda:50 --device-write-iops /dev/vda:60 --blkio-weight 1000 \
             --cpuset-mems 0 c >/dev/null; grep . io.max io.weight cpuset.cpus; \
             $tool rm -f -t 0 c"
        ),
    );
    for expected in ["wbps=1048576", "riops=100", "cpuset.cpus:1\n", "cpuset.mems:0\n", "io.weight:default "]
    {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(
        said.lines().any(|line| line.starts_with("Cpus_allowed_list") && line.ends_with("\t1")),
        "{said}"
    );
    let changed = "rbps=3145728 wbps=2097152 riops=50 wiops=60";
    assert!(said.contains(changed) && said.contains("cpuset.cpus:0-1\n"), "{said}");
    assert!(said.contains("io.weight:default 10000\n"), "{said}");
    let written = said.lines().find_map(|line| line.strip_prefix("written=")).unwrap();
    assert!(written.parse::<u64>().unwrap() >= 3 << 20, "{said}");
    let time = |key: &str| -> f64 {
        let text =
            said.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("{key} {said}"));
        text.parse::<f64>().unwrap() / 1e9
    };
    let took = time("ended=") - time("began=");
    println!("3 MiB at 1 MiB a second: {took:.1} s");
    assert!(took > 2.0, "{took}: {said}");
    wait_for_the_manager_of_ben_to_end();
}

#[test]
fn a_setting_runs_without_limits_that_are_not_delegated_and_says_so() {
    let Some(sandbox) = machine() else { return };
    let words = ["--cpuset-cpus", "0", "--blkio-weight", "100", "-m", "64m", "busybox", "sleep", "1000"];
    sandbox.run(&words).refused(&["--cpuset-cpus needs the cpuset controller"]);
    let folder = sandbox.path("config/coracle");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.toml"), "[limits]\nundelegated = \"warn\"\n").unwrap();
    let words = [&["run", "-d", "--network", "none", "--name", "c"], &words[..]].concat();
    let output = sandbox.coracle(words).ok();
    assert_eq!(output.stderr.lines().count(), 1, "{output}");
    assert!(output.stderr.contains("--cpuset-cpus (cpuset), --blkio-weight (io)"), "{output}");
    // What can be kept is.
    let scope = scope_of(&sandbox, "c");
    assert_eq!(file(&scope, "memory.max"), "67108864");
    assert!(!scope.join("cpuset.cpus").exists());
    sandbox.ok(["update", "-m", "96m", "--memory-swap", "96m", "c"]);
    assert_eq!(file(&scope, "memory.max"), "100663296");
    sandbox.coracle(["update", "--cpuset-cpus", "1", "c"]).fails(1, &["cpuset controller"]);
}
