//! Examples for help and manual pages.

/// `(command, what it does, what to type)`
const EXAMPLES: &[(&str, &str, &str)] = &[
    (
        "coracle run",
        "a shell in a Debian container that is gone afterwards",
        "coracle run --rm -it debian bash",
    ),
    (
        "coracle run",
        "a server in the background",
        "coracle run -d --name web -v ./site:/usr/share/nginx/html:ro nginx",
    ),
    (
        "coracle run",
        "a command over a throw-away view of the host's own root",
        "coracle run --rm --rootfs /:O ls /etc",
    ),
    (
        "coracle run",
        "no network, read-only, no capabilities",
        "coracle run --rm --network none --read-only --cap-drop ALL busybox id",
    ),
    (
        "coracle create",
        "a container that is started later",
        "coracle create --name db -e POSTGRES_PASSWORD=secret postgres",
    ),
    ("coracle start", "start it, with its output here", "coracle start -a db"),
    ("coracle stop", "give it half a minute", "coracle stop -t 30 db"),
    ("coracle restart", "stop and start again", "coracle restart web"),
    ("coracle kill", "ask a server to read its configuration again", "coracle kill -s HUP web"),
    ("coracle rm", "remove a container with its anonymous volumes, even if it runs", "coracle rm -fv web"),
    ("coracle exec", "a shell in a running container", "coracle exec -it web sh"),
    (
        "coracle exec",
        "a command as another user, with a variable",
        "coracle exec -u www-data -e DEBUG=1 web ls -l /var/www",
    ),
    (
        "coracle events",
        "what happened to a container, up to now",
        "coracle events --since 1h --until 0s --filter container=web",
    ),
    (
        "coracle events",
        "the exit codes of what ends, as it ends",
        "coracle events --filter event=die --format '{{.Name}}:{{.Actor.Attributes.exitCode}}'",
    ),
    ("coracle doctor", "only what is amiss", "coracle doctor -q || echo \"something is amiss\""),
    (
        "coracle doctor",
        "the names of what is amiss, for a script",
        "coracle doctor --json | grep -B1 -e limited -e broken || true",
    ),
    ("coracle top", "the processes of a container", "coracle top web"),
    ("coracle top", "chosen columns", "coracle top web pid,user,seccomp,args"),
    ("coracle top", "whatever ps can show", "coracle top web -o pid,rss,args"),
    ("coracle stop", "all that run, at once", "coracle stop -a -t 0"),
    ("coracle rm", "those that have failed", "coracle rm --filter exited=1"),
    ("coracle port", "where its port 80 is", "coracle port web 80/tcp"),
    ("coracle port", "of all containers", "coracle port -a"),
    (
        "coracle container prune",
        "those that stopped a day ago or more",
        "coracle container prune --filter until=24h",
    ),
    ("coracle image prune", "all that no container uses, without a question", "coracle image prune -a -f"),
    ("coracle volume prune", "named volumes too", "coracle volume prune --all"),
    ("coracle system prune", "everything that nothing uses", "coracle system prune -a --volumes"),
    ("coracle system df", "each image, container and volume, and the free space", "coracle system df -v"),
    ("coracle logs", "of two containers, each line with its name", "coracle logs --names web db"),
    ("coracle healthcheck run", "check now; the exit code tells", "coracle healthcheck run web"),
    ("coracle wait", "the exit code of a container, when it has ended", "coracle wait db"),
    ("coracle wait", "until its health check succeeds", "coracle wait --condition healthy web"),
    ("coracle rename", "give a container another name", "coracle rename db old-db"),
    ("coracle cp", "a folder out of a container, running or not", "coracle cp web:/var/log/nginx ./logs"),
    ("coracle cp", "what a folder holds into a container", "coracle cp ./site/. web:/usr/share/nginx/html"),
    ("coracle ps", "all containers, the stopped ones too", "coracle ps -a"),
    (
        "coracle ps",
        "names of what has failed",
        "coracle ps -a --filter status=exited --filter exited=1 --format '{{.Names}}'",
    ),
    ("coracle ps", "one JSON object a line", "coracle ps --format json"),
    ("coracle logs", "the last lines, and those to come", "coracle logs -f --tail 20 web"),
    ("coracle logs", "with times, of the last ten minutes", "coracle logs -t --since 10m web"),
    ("coracle pause", "stop a container where it is, and let it go on", "coracle pause web"),
    ("coracle unpause", "let all paused containers go on", "coracle unpause --all"),
    ("coracle update", "restart it from now on when it fails", "coracle update --restart on-failure:3 web"),
    ("coracle stats", "once, as a table", "coracle stats --no-stream"),
    (
        "coracle stats",
        "processor time and memory alone",
        "coracle stats --no-stream --format '{{.Name}} {{.CPUPerc}} {{.MemUsage}}'",
    ),
    (
        "coracle volume create",
        "in memory, and gone with each container",
        "coracle volume create -o type=tmpfs -o o=size=64m scratch",
    ),
    (
        "coracle volume export",
        "as an archive",
        "coracle volume create data && coracle volume export -o data.tar data",
    ),
    (
        "coracle network create",
        "for containers that find each other by name",
        "coracle network create web && coracle run -d --name front --network web busybox sleep 1000 && \
         coracle run --rm --network web busybox nslookup front",
    ),
    (
        "coracle network create",
        "with no way out, and addresses of your choice",
        "coracle network create --internal --subnet 10.99.7.0/24 inside",
    ),
    (
        "coracle network create",
        "whose containers do not reach each other, and are published on this machine alone",
        "coracle network create -o enable_icc=false -o com.docker.network.bridge.host_binding_ipv4=127.0.0.1 apart",
    ),
    (
        "coracle network connect",
        "a running container, under a second name",
        "coracle run -d --name app --network bridge busybox sleep 1000 && \
         coracle network create back && coracle network connect --alias site back app",
    ),
    (
        "coracle network disconnect",
        "a running container, which nobody there finds any more",
        "coracle run -d --name job --network bridge busybox sleep 1000 && coracle network disconnect bridge job",
    ),
    (
        "coracle network inspect",
        "the subnet",
        "coracle network inspect -f '{{(index .IPAM.Config 0).Subnet}}' bridge",
    ),
    (
        "coracle network update",
        "another resolver for names that are no containers'",
        "coracle network create --dns 192.0.2.53 site && \
         coracle network update --dns-add 192.0.2.54 --dns-drop 192.0.2.53 site",
    ),
    ("coracle network reload", "after its interfaces were changed inside", "coracle network reload --all"),
    (
        "coracle pod create",
        "two containers that find each other on localhost, and a port of the first",
        "coracle pod create --name shop -p 80 && coracle run -d --pod shop --name front busybox sleep 1000 && \
         coracle run -d --pod shop --name back busybox sleep 1000",
    ),
    (
        "coracle pod create",
        "with a limit of all its containers together",
        "coracle pod create --cpus 1.5 --memory 1g",
    ),
    ("coracle pod exists", "a test in a script", "coracle pod exists pod1 || coracle pod create --name pod1"),
    (
        "coracle pod inspect",
        "the names of its containers, a line each",
        "coracle pod inspect -f '{{range .Containers}}{{println .Name}}{{end}}' box",
    ),
    ("coracle pod kill", "ask all to read their configuration again", "coracle pod kill -s HUP box"),
    ("coracle pod logs", "the last lines of each, with its name", "coracle pod logs --names --tail 5 box"),
    ("coracle pod pause", "stop all where they are", "coracle pod pause box"),
    ("coracle pod prune", "without a question", "coracle pod prune -f"),
    ("coracle pod ps", "with the names of their containers", "coracle pod ps --ctr-names"),
    ("coracle pod restart", "all of one", "coracle pod restart box"),
    ("coracle pod rm", "even if it runs", "coracle pod rm -f box"),
    ("coracle pod start", "what does not run of it", "coracle pod start box"),
    ("coracle pod stop", "give each container three seconds", "coracle pod stop -t 3 box"),
    ("coracle pod top", "chosen columns", "coracle pod top box pid,user,args"),
    ("coracle pod unpause", "let all go on that are paused", "coracle pod unpause --all"),
    (
        "coracle run",
        "in a pod that is made for it",
        "coracle run -d --pod new:shop --name front busybox sleep 1000",
    ),
    (
        "coracle artifact inspect",
        "what a signature is of",
        "coracle artifact inspect -f '{{.Manifest.subject.digest}}' localhost/notes:1",
    ),
    (
        "coracle artifact ls",
        "with what each belongs to",
        "coracle artifact ls --format '{{.Repository}}:{{.Tag}} {{.Subject}}'",
    ),
    ("coracle artifact rm", "all of them", "coracle artifact rm --all"),
    ("coracle secret create", "of what a command prints", "echo hunter2 | coracle secret create pw -"),
    (
        "coracle run",
        "with a secret, in /run/secrets/db",
        "coracle run --rm --secret db busybox cat /run/secrets/db",
    ),
    ("coracle inspect", "one value", "coracle inspect -f '{{.State.Pid}}' web"),
    (
        "coracle inspect",
        "the mounts, a line each",
        "coracle inspect -f '{{range .Mounts}}{{println .Source .Destination}}{{end}}' web",
    ),
    ("coracle diff", "what a container changed", "coracle diff web"),
    (
        "coracle commit",
        "an image of a container, for another user",
        "coracle commit -m tuned -c USER=nginx web my/nginx:tuned",
    ),
    ("coracle export", "a container's files as an archive", "coracle export -o web.tar web"),
    (
        "coracle mount",
        "a shell in a container's files",
        "coracle unshare sh -c 'cd \"$(coracle mount web)\"; exec sh'",
    ),
    (
        "coracle unmount",
        "and away, where it was mounted",
        "coracle unshare sh -c 'coracle mount web && coracle unmount web'",
    ),
    ("coracle init", "everything that a later start needs", "coracle init db"),
    ("coracle unshare", "remove files that a container's users left", "coracle unshare rm -r ./site/cache"),
    (
        "coracle container clone",
        "the same again under another name",
        "coracle container clone --run web web2",
    ),
    (
        "coracle container exists",
        "a test in a script",
        "coracle container exists web || coracle run -d --name web nginx",
    ),
    ("coracle pull", "an image by tag", "coracle pull docker.io/library/debian:bookworm"),
    ("coracle images", "names and sizes", "coracle images --format '{{.Repository}}:{{.Tag}} {{.Size}}'"),
    ("coracle rmi", "remove an image", "coracle rmi busybox"),
    ("coracle tag", "another name for an image", "coracle tag busybox my/busybox:1"),
    ("coracle save", "an image as an archive", "coracle save -o busybox.tar busybox"),
    ("coracle load", "and back", "coracle load -i busybox.tar"),
    ("coracle import", "a root file system as an image", "coracle import rootfs.tar my/image:1"),
    ("coracle history", "the layers of an image", "coracle history debian"),
    ("coracle version", "as JSON", "coracle version --format json"),
    ("coracle info", "one value", "coracle info -f '{{.ServerVersion}}'"),
    ("coracle completion", "for this bash", "source <(coracle completion bash)"),
];

/// The examples of the command `path` (`coracle run`), indented; `None` where
/// there are none.
pub(crate) fn text(path: &str) -> Option<String> {
    let of_it = EXAMPLES.iter().filter(|(command, _, _)| *command == path);
    let lines: Vec<String> = of_it.map(|(_, what, typed)| format!("  # {what}\n  {typed}")).collect();
    if lines.is_empty() { None } else { Some(lines.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::arguments;
    use crate::cli::command::Kind;
    use crate::cli::commands;

    /// An example that is no command line is worse than none.
    #[test]
    fn every_example_is_a_command_line() {
        for (path, _, typed) in EXAMPLES {
            let name = path.trim_start_matches("coracle ");
            let Some(entry) = commands::ENTRIES.iter().find(|entry| entry.is_called(name)) else {
                continue; // its command is not there yet
            };
            let Some(line) = typed.strip_prefix(path) else { continue };
            // What follows is the shell's.
            let own = line.split_whitespace().take_while(|word| !word.starts_with('|'));
            let words = own.map(|word| word.trim_matches('\'').to_owned()).collect();
            let Kind::Command(verb) = &entry.kind else { panic!("{path} is a group") };
            let command = entry.describe(path);
            let words = arguments::normalise(&command, words, verb.flags).expect(typed);
            let result = command.try_get_matches_from(std::iter::once((*path).to_owned()).chain(words));
            assert!(result.is_ok(), "{typed}: {result:?}");
        }
    }
}
