//! Completion: what `__complete` says, and what shells make of it.

use crate::harness::process::Running;
use crate::harness::{Image, Need, Sandbox, sandbox, until};

impl Sandbox {
    /// What bash would offer for a line, with the script that it is given.
    #[track_caller]
    fn bash_offers(&self, before: &str, line: &str) -> Vec<String> {
        let script = format!(
            r#"PATH="$(dirname "$0"):$PATH"; {before}
source <("$0" completion bash)
COMP_LINE={line:?}; COMP_POINT=${{#COMP_LINE}}
read -ra COMP_WORDS <<<"$COMP_LINE"; [[ $COMP_LINE == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
complete -p "${{COMP_WORDS[0]}}" >/dev/null || exit 9
_coracle
printf '%s\n' "${{COMPREPLY[@]}}""#
        );
        let mut command = self.command("bash");
        command.args(["--norc", "-c", &script]).arg(crate::harness::sandbox::binary());
        let output = Running::start(command).wait().ok();
        let lines = output.stdout.lines().filter(|line| !line.is_empty());
        lines.map(|line| line.trim_end().to_owned()).collect()
    }

    #[track_caller]
    fn offers(&self, words: &[&str]) -> Vec<String> {
        let output = self.coracle([&["__complete", "words"], words].concat()).ok();
        assert_eq!(output.stderr, "");
        output.lines().iter().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
    }
}

#[test]
fn names_of_containers_are_completed_by_state() {
    let Some(sandbox) = sandbox(&[Image("guest")]) else { return };
    sandbox.start("web-up", &["guest", "sleep"]);
    sandbox.wait_for_log("web-up", "ready");
    sandbox.ok(["create", "--network", "none", "--name", "web-down", "guest"]);
    let offers = |verb: &str| sandbox.offers(&[verb, "web"]);
    assert_eq!(offers("stop"), ["web-up"]);
    assert_eq!(offers("kill"), ["web-up"]);
    assert_eq!(offers("start"), ["web-down"]);
    assert_eq!(offers("rm"), ["web-down", "web-up"]);
    assert_eq!(offers("logs"), ["web-down", "web-up"]);
    assert_eq!(sandbox.offers(&["container", "stop", "web"]), ["web-up"]);
    assert_eq!(sandbox.offers(&["rm", "web-up", "web"]), ["web-down"], "not what is there already");
    assert_eq!(sandbox.offers(&["run", "--network", "container:web"]), ["container:web-up"]);
    assert!(sandbox.offers(&["exec", "-it", "web"]).contains(&"web-up".to_owned()));
}

#[test]
fn images_and_volumes_are_completed() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["tag", "busybox", "quay.io/team/tool:v1"]);
    sandbox.ok(["volume", "create", "data-a"]);
    for words in [&["run", "--rm", "quay"][..], &["rmi", "quay"], &["history", "quay"]] {
        assert_eq!(sandbox.offers(words), ["quay.io/team/tool:v1"], "{words:?}");
    }
    assert_eq!(sandbox.offers(&["volume", "rm", "da"]), ["data-a"]);
    assert_eq!(sandbox.offers(&["run", "-v", "da"]), ["data-a", ":files"]);
    assert_eq!(sandbox.offers(&["ps", "--filter", "volume=d"]), ["volume=data-a"]);
    assert_eq!(sandbox.offers(&["inspect", "data"]), ["data-a"]);
}

#[test]
fn completion_writes_nothing_and_never_complains() {
    let Some(sandbox) = sandbox(&[]) else { return };
    for words in
        [&["stop", ""][..], &["run", ""], &["volume", "rm", ""], &["nosuch", "x", ""], &["--wat", ""], &[]]
    {
        let output = sandbox.coracle([&["__complete", "words"], words].concat()).ok();
        assert_eq!(output.stderr, "", "{words:?}");
    }
    sandbox.coracle(["__complete"]).ok();
    for folder in [sandbox.state(), sandbox.data(), sandbox.path("run/coracle")] {
        assert!(!folder.exists(), "{} was made", folder.display());
    }
}

#[test]
fn bash_completes_with_the_script_under_docker_s_name_too() {
    let Some(sandbox) = sandbox(&[Image("guest"), Need::Program("bash")]) else { return };
    sandbox.ok(["tag", "guest", "local/tool:v1"]);
    sandbox.start("web", &["guest", "sleep"]);
    until("web to run", || (sandbox.status("web") == "running").then_some(()));
    assert_eq!(sandbox.bash_offers("", "coracle stop w"), ["web"]);
    assert_eq!(sandbox.bash_offers("", "coracle volume cre"), ["create"]);
    // bash breaks words at the colon, and wants what follows it.
    assert_eq!(sandbox.bash_offers("", "coracle rmi local/tool:v"), ["v1"]);
    assert_eq!(sandbox.bash_offers("", "coracle ps --filter=status=ex"), ["exited"]);
    let alias = "shopt -s expand_aliases; alias docker=coracle";
    assert_eq!(sandbox.bash_offers(alias, "docker stop w"), ["web"]);
    sandbox.file("here.tar", b"");
    assert_eq!(sandbox.bash_offers("", "coracle load -i he"), ["here.tar"]);
}

#[test]
fn other_shells_understand_their_scripts() {
    for (shell, check) in [("zsh", &["-n"][..]), ("fish", &["--no-execute"])] {
        // Not everywhere where tests run: their syntax is checked where they are.
        if crate::harness::needs::program(shell).is_none() {
            continue;
        }
        let Some(sandbox) = sandbox(&[]) else { return };
        let script = sandbox.ok(["completion", shell]);
        let file = sandbox.file("script", script);
        let mut command = sandbox.command(shell);
        command.args(check).arg(file);
        Running::start(command).wait().ok();
    }
    let Some(sandbox) = sandbox(&[]) else { return };
    sandbox.coracle(["completion", "csh"]).refused(&["csh", "bash, zsh or fish"]);
}
