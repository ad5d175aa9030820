//! What nothing uses is removed, and what it is said to give back is given back.

use crate::harness::{Image, Sandbox, sandbox};

/// Bytes on the disk below the sandbox's stores, whoever owns them.
fn bytes_on_disk(sandbox: &Sandbox) -> u64 {
    let (data, state) = (sandbox.data(), sandbox.state());
    let text = sandbox.ok(["unshare", "du", "-s", "-B1", data.to_str().unwrap(), state.to_str().unwrap()]);
    text.lines().map(|line| line.split_whitespace().next().unwrap().parse::<u64>().unwrap()).sum()
}

/// `Total reclaimed space: 12.3MB` in bytes, as exact as three digits are.
fn reclaimed(text: &str) -> f64 {
    let size = text.lines().last().unwrap().strip_prefix("Total reclaimed space: ").unwrap();
    let unit = size.find(|c: char| c.is_ascii_alphabetic()).unwrap();
    let scale = match &size[unit..] {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        other => panic!("{other}"),
    };
    size[..unit].parse::<f64>().unwrap() * scale
}

/// The space that a prune says it gave back is what the disk has gained, but
/// for the few blocks of our own records.
#[track_caller]
fn prunes_what_it_says(sandbox: &Sandbox, words: &[&str], at_least: f64) -> String {
    let before = bytes_on_disk(sandbox);
    let text = sandbox.ok(words);
    #[allow(clippy::cast_precision_loss)]
    let gained = before as f64 - bytes_on_disk(sandbox) as f64;
    let said = reclaimed(&text);
    assert!(said >= at_least, "{text}");
    assert!((gained - said).abs() < 150_000.0 + said / 100.0, "said {said}, gained {gained}\n{text}");
    text
}

#[test]
fn stopped_containers_go_and_give_back_their_blocks() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let write = "dd if=/dev/zero of=/big bs=1M count=9 2>/dev/null; truncate -s 1099511627776 /sparse";
    sandbox.ok(["run", "--network", "none", "--name", "big", "busybox", "sh", "-c", write]);
    sandbox.start("up", &["busybox", "sleep", "1000"]);
    let made = sandbox.ok(["create", "--label", "keep=yes", "--name", "made", "busybox", "true"]);
    let text = prunes_what_it_says(&sandbox, &["container", "prune", "-f", "--filter", "label!=keep"], 9e6);
    assert!(text.starts_with("Deleted Containers:\n"), "{text}");
    assert_eq!(sandbox.ok(["ps", "-a", "--format", "{{.Names}}"]), "made\nup");
    let text = sandbox.ok(["container", "prune", "--force"]);
    assert!(text.starts_with(&format!("Deleted Containers:\n{made}\n\nTotal reclaimed space: ")), "{text}");
    assert_eq!(sandbox.ok(["ps", "-a", "--format", "{{.Names}}"]), "up");
    assert_eq!(sandbox.ok(["container", "prune", "-f"]), "Total reclaimed space: 0B");
}

#[test]
fn images_go_unless_a_container_uses_them() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    sandbox.ok(["create", "--name", "c", "guest", "exit", "0"]);
    // Both have names, and none is dangling.
    assert_eq!(sandbox.ok(["image", "prune", "-f"]), "Total reclaimed space: 0B");
    assert_eq!(sandbox.ok(["image", "prune", "-af", "--filter", "label=none"]), "Total reclaimed space: 0B");
    let text = prunes_what_it_says(&sandbox, &["image", "prune", "-a", "-f"], 1e6);
    assert!(text.starts_with("Deleted Images:\nuntagged: busybox:latest\ndeleted: sha256:"), "{text}");
    assert_eq!(sandbox.ok(["images", "--format", "{{.Repository}}"]), "guest");
    // What is left still runs.
    sandbox.ok(["start", "-a", "c"]);
    sandbox.ok(["untag", "guest"]);
    sandbox.ok(["rm", "c"]);
    prunes_what_it_says(&sandbox, &["image", "prune", "-f"], 1e5);
    assert_eq!(sandbox.ok(["images", "-q"]), "");
}

#[test]
fn volumes_go_unless_a_container_uses_them_and_named_ones_with_all() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let write = "dd if=/dev/zero of=/v/x bs=1M count=3 2>/dev/null";
    sandbox.ok(["run", "--network", "none", "--name", "c", "-v", "used:/v", "busybox", "sh", "-c", write]);
    sandbox.ok(["run", "--rm", "--network", "none", "-v", "free:/v", "busybox", "sh", "-c", write]);
    sandbox.ok(["create", "--name", "d", "-v", "/v", "busybox", "true"]);
    sandbox.ok(["rm", "d"]);
    let text = sandbox.ok(["volume", "prune", "-f"]);
    assert!(text.starts_with("Deleted Volumes:\n"), "{text}");
    assert_eq!(sandbox.ok(["volume", "ls", "-q"]), "free\nused");
    let text = prunes_what_it_says(&sandbox, &["volume", "prune", "-f", "--all"], 3e6);
    assert!(text.starts_with("Deleted Volumes:\nfree\n\n"), "{text}");
    assert_eq!(sandbox.ok(["volume", "ls", "-q"]), "used");
}

#[test]
fn everything_goes_together() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    for network in ["used", "left", "free"] {
        sandbox.ok(["network", "create", network]);
    }
    sandbox.ok(["create", "--name", "kept", "--label", "keep", "--network", "used", "busybox", "true"]);
    sandbox.start("up", &["-v", "/v", "busybox", "sleep", "1000"]);
    sandbox.ok(["create", "--network", "left", "--name", "c", "-v", "/v", "guest", "exit", "0"]);
    let words = ["system", "prune", "-a", "--force", "--volumes", "--filter", "label!=keep"];
    let text = prunes_what_it_says(&sandbox, &words, 1e5);
    for part in [
        "Deleted Containers:\n",
        "\n\nDeleted Networks:\nfree\nleft\n\nDeleted Volumes:\n",
        "\n\nDeleted Images:\nuntagged: guest:latest\n",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(sandbox.ok(["network", "ls", "--format", "{{.Name}}"]), "bridge\nhost\nnone\nused");
    assert_eq!(sandbox.ok(["images", "--format", "{{.Repository}}"]), "busybox");
    assert_eq!(sandbox.status("up"), "running");
    assert_eq!(sandbox.ok(["volume", "ls", "-q"]).lines().count(), 1);
}

#[test]
fn only_a_yes_is_a_yes() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["create", "--name", "c", "busybox", "true"]);
    let ask = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N] ";
    for no in ["", "n\n", "\n", "yes please\n", &"y".repeat(100)] {
        let output = sandbox.coracle_with(no.as_bytes(), ["container", "prune"]).ok();
        assert_eq!(output.stdout, ask, "{no:?}");
        assert_eq!(sandbox.status("c"), "created", "{no:?}");
    }
    for words in [["image", "prune"], ["volume", "prune"], ["system", "prune"]] {
        let output = sandbox.coracle_with(b"", words).ok();
        assert!(output.stdout.starts_with("WARNING! This will remove"), "{output}");
        assert!(output.stdout.ends_with("Are you sure you want to continue? [y/N] "), "{output}");
    }
    let output = sandbox.coracle_with(b"Y\n", ["container", "prune"]).ok();
    assert!(output.stdout.starts_with(&format!("{ask}Deleted Containers:\n")), "{output}");
    assert_eq!(sandbox.ok(["ps", "-aq"]), "");
}

#[test]
fn wrong_filters_are_refused_before_anything_is_asked() {
    let Some(sandbox) = sandbox(&[]) else { return };
    for (words, text) in [
        (&["container", "prune", "-f", "--filter", "status=exited"][..], "invalid filter 'status'"),
        (&["image", "prune", "--filter", "dangling=x"], "invalid filter 'dangling=x'"),
        (&["volume", "prune", "--filter", "until=1h"], "invalid filter 'until'"),
        (&["system", "prune", "--filter", "until"], "bad format of filter"),
        (&["system", "prune", "--volumes", "--filter", "until=1h"], "not supported with \"--volumes\""),
    ] {
        let output = sandbox.coracle(words).fails(1, &[text]);
        assert_eq!(output.stdout, "");
    }
}
