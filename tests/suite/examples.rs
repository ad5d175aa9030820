//! The examples of help and manual pages, run as they stand there.

use crate::harness::process::{Output, Running};
use crate::harness::{Image, Need, Sandbox, sandbox};
use crate::registry_artifacts::push_note;
use crate::registry_serve::serve;

/// What is not run here, by its beginning, and why.
const NOT_RUN: &[(&str, &str)] = &[
    ("coracle run --rm -it debian bash", "it is for a person at a terminal"),
    ("coracle exec -it", "it is for a person at a terminal"),
    ("coracle attach", "it is for a person at a terminal"),
    ("coracle unshare sh -c 'cd", "it is for a person at a terminal"),
    ("coracle pull docker.io/", "it needs the internet"),
    ("coracle logs -f", "it goes on until the container ends: logs.rs has such tests"),
    ("coracle events --filter", "it goes on for ever: events.rs has such tests"),
    ("coracle run --rm --secret", "it needs a secret: secrets.rs has such tests"),
    ("coracle pod stats", "it goes on for ever: pods.rs has such tests"),
    ("coracle port web", "no port can be published yet"),
    ("coracle stats", "it may go on for ever: stats.rs has such tests"),
];

/// Names of images that examples use, which busybox stands in for.
const STAND_INS: [&str; 4] = ["debian", "nginx", "postgres", "alpine"];

impl Sandbox {
    /// Every example that help shows, by command.
    fn examples(&self) -> Vec<String> {
        let mut found = Vec::new();
        for verb in self.listed(&[]) {
            let below = if verb == "run" { Vec::new() } else { self.listed(&[&verb]) };
            found.extend(self.examples_of(&[&verb]));
            for name in below {
                found.extend(self.examples_of(&[&verb, &name]));
            }
        }
        found
    }

    /// The commands of a group, as completion knows them.
    fn listed(&self, group: &[&str]) -> Vec<String> {
        let output = self.coracle([&["__complete", "words"], group, &[""]].concat()).ok();
        let described = output.lines().into_iter().filter_map(|line| line.split_once('\t'));
        described.map(|(word, _)| word.to_owned()).collect()
    }

    fn examples_of(&self, words: &[&str]) -> Vec<String> {
        let help = self.coracle([words, &["--help"]].concat()).ok().stdout;
        let examples = help.split("\nExamples:\n").nth(1).unwrap_or_default().lines();
        let typed = examples.take_while(|line| line.starts_with("  ")).map(str::trim);
        typed.filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    fn shell(&self, script: &str) -> Output {
        let mut command = self.command("timeout");
        let with_path = format!("PATH=\"$(dirname \"$0\"):$PATH\"\n{script}");
        command.args(["60", "bash", "-c", &with_path]).arg(crate::harness::sandbox::binary());
        Running::start(command).wait()
    }

    /// What examples take for granted: `web` runs, `db` has run, files are there.
    fn prepare(&self) {
        let script = "coracle pod rm -f -a -t 0
coracle ps -aq --no-trunc | xargs -r coracle rm -f -v -t 0
coracle untag keep my/busybox:1 2>/dev/null
for name in busybox STAND_INS; do coracle tag keep $name; done
rm -rf ./* && mkdir -p site/cache && echo hi >site/index.html && tar cf rootfs.tar site
coracle save -o busybox.tar busybox
set -e
coracle run -d --network none --health-cmd true --health-interval 200ms --name web busybox sh -c 'trap : HUP; trap \"exit 0\" TERM; mkdir -p /var/log/nginx /usr/share/nginx/html; echo up; while :; do sleep 1 & wait; done'
coracle create --network none --name db busybox echo db
coracle start -a db
coracle pod create --name box --network none
coracle run -d --pod box --name inbox busybox sh -c 'trap : HUP; trap \"exit 0\" TERM; while :; do sleep 1 & wait; done'
until coracle logs web | grep -q up; do :; done";
        self.shell(&script.replace("STAND_INS", &STAND_INS.join(" "))).ok();
    }
}

#[test]
fn every_example_of_the_manual_works() {
    let needs = [Image("busybox"), Need::Slirp, Need::Program("bash")];
    let Some(sandbox) = sandbox(&needs) else { return };
    sandbox.ok(["tag", "busybox", "keep"]);
    let examples = sandbox.examples();
    assert!(examples.len() > 20, "{examples:?}");
    let mut failures = Vec::new();
    for example in &examples {
        if NOT_RUN.iter().any(|(start, _)| example.starts_with(start)) {
            continue;
        }
        sandbox.prepare();
        if example.starts_with("coracle artifact") {
            let server = serve(&sandbox, &["--writable"]);
            push_note(&sandbox, &server.address, &format!("sha256:{}", "5".repeat(64)));
        }
        // What an example makes must not be there.
        let made = example.split_once("--name ").and_then(|(_, rest)| rest.split(' ').next());
        if let Some(name) = made.filter(|_| !example.contains("||")) {
            sandbox.coracle(["rm", "-f", "-t", "0", name]).ok();
        }
        let output = sandbox.shell(example);
        if output.code() != 0 {
            failures.push(format!("{example}\n  code {}: {}", output.code(), output.stderr.trim()));
        }
    }
    assert!(failures.is_empty(), "examples that fail:\n{}", failures.join("\n"));
}
