//! What shares a container with coracle's own code, or with another container.

use crate::harness::{Image, SubIds, sandbox};

/// CVE-2016-9962: pid 1 under `--init` is coracle's own code with a copy of the
/// monitor's memory; the container's root may look at none of it.
#[test]
fn cve_2016_9962_the_reaper_is_closed_to_the_container() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let script = "for f in environ mem maps; do cat /proc/1/$f >/dev/null 2>&1 && echo open $f; done; \
                  readlink /proc/1/exe; ls /proc/1/fd 2>/dev/null; cat /proc/self/environ >/dev/null && echo own";
    let output = sandbox.run(&["--init", "busybox", "sh", "-c", script]).ok();
    assert_eq!(output.text(), "own", "{output}");
}

/// A map without the image's groups leaves them out instead of refusing to start.
#[test]
fn groups_without_a_map_are_left_out() {
    let Some(sandbox) = sandbox(&[Image("busybox"), SubIds]) else { return };
    let output = sandbox.run(&["--uidmap", "0:0:1", "--group-add", "10", "busybox", "id", "-G"]).ok();
    assert_eq!(output.text(), "0", "{output}");
}
