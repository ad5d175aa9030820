//! What scripts read of containers: documents of `inspect` and columns of `ps`, in
//! the words of docker.

use crate::harness::{Image, sandbox};
use serde_json::json;

#[test]
fn what_there_is_nothing_of_is_left_out() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let words =
        ["create", "--network", "none", "--name", "c", "--restart", "on-failure:3", "busybox", "true"];
    sandbox.ok(words);
    let document = sandbox.inspect("c");
    for key in ["Health", "Healthcheck", "Pressure"] {
        assert!(document["State"].get(key).is_none(), "{key}: {}", document["State"]);
    }
    let shown = |format: &str| sandbox.ok(["inspect", "-f", format, "c"]);
    assert_eq!(shown("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}"), "none");
    assert_eq!(shown("{{.Config.Healthcheck}} {{.Config.StopTimeout}}"), "<nil> <nil>");
    assert_eq!(
        shown("{{.Config.Entrypoint}} {{.Config.Volumes}} {{json .Config.Entrypoint}}"),
        "[] map[] null"
    );
    assert_eq!(shown("{{.HostConfig.RestartPolicy}}"), "{on-failure 3}");
    sandbox.coracle(["inspect", "-f", "{{.Config.Nope}}", "c"]).fails(1, &["Nope"]);
}

#[test]
fn mounts_are_told_as_asked_for() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let words = ["create", "--network", "none", "--name", "c", "--mount", "type=tmpfs,dst=/m,tmpfs-size=1m"];
    let more = ["--tmpfs", "/t", "--tmpfs", "/u:size=64k,exec", "-v", "data:/d", "busybox", "true"];
    sandbox.ok(words.into_iter().chain(more));
    let document = sandbox.inspect("c");
    let mounts = document["Mounts"].as_array().unwrap();
    let of = |target: &str| mounts.iter().find(|mount| mount["Destination"] == target);
    assert_eq!(
        of("/m").unwrap(),
        &json!({"Type": "tmpfs", "Source": "", "Destination": "/m", "Mode": "", "RW": true, "Propagation": ""})
    );
    assert!(of("/t").is_none() && of("/u").is_none(), "{document}");
    assert_eq!(of("/d").unwrap()["Propagation"], "");
    assert_eq!(document["HostConfig"]["Tmpfs"], json!({"/t": "", "/u": "size=64k,exec"}));
    assert_eq!(
        document["HostConfig"]["Mounts"],
        json!([{"Type": "tmpfs", "Target": "/m", "TmpfsOptions": {"SizeBytes": 1 << 20}}])
    );
}

#[test]
fn the_image_is_what_was_asked_for_as_long_as_that_is_it() {
    let Some(sandbox) = sandbox(&[Image("busybox"), Image("guest")]) else { return };
    sandbox.ok(["tag", "busybox", "app:1"]);
    let create =
        |name: &str, image: &str| sandbox.ok(["create", "--network", "none", "--name", name, image, "true"]);
    create("latest", "busybox:latest");
    create("short", "busybox");
    create("app", "app:1");
    let id = sandbox.ok(["inspect", "-f", "{{.Image}}", "app"]);
    create("by-id", &id);
    let asked = |name: &str| sandbox.ok(["inspect", "-f", "{{.Config.Image}}", name]);
    let column = |name: &str| {
        sandbox.ok(["ps", "-a", "--filter", &format!("name=^{name}$"), "--format", "{{.Image}}"])
    };
    assert_eq!([asked("latest"), asked("short"), asked("app")], ["busybox:latest", "busybox", "app:1"]);
    assert_eq!(asked("by-id"), id);
    assert_eq!([column("latest"), column("short"), column("app")], ["busybox:latest", "busybox", "app:1"]);
    let cut = &id["sha256:".len()..][..12];
    assert_eq!(column("by-id"), cut);
    // The name goes to another image: the container is outdated, and that is to be seen.
    sandbox.ok(["tag", "guest", "app:1"]);
    assert_eq!(column("app"), cut);
    assert_eq!(sandbox.ok(["ps", "-a", "--no-trunc", "--filter", "name=app", "--format", "{{.Image}}"]), id);
    assert_eq!(asked("app"), "app:1");
    sandbox.ok(["untag", "guest", "app:1"]);
    assert_eq!(column("app"), cut);
    assert_eq!(column("latest"), "busybox:latest");
    // A digest goes on naming its image, which has lost the name here.
    let digest = sandbox.ok(["inspect", "-f", "{{.ImageDigest}}", "app"]);
    create("by-digest", &format!("busybox@{digest}"));
    sandbox.ok(["tag", "guest", "busybox"]);
    assert_eq!([column("by-digest"), column("latest")], ["busybox", cut]);
    sandbox.ok(["container", "clone", "latest", "copy"]);
    assert_eq!(asked("copy"), "busybox:latest");
}

#[test]
fn formats_come_from_the_flag_or_from_docker_s_settings() {
    let Some(mut sandbox) = sandbox(&[Image("busybox")]) else { return };
    let id = sandbox.ok(["create", "--network", "none", "--name", "c", "busybox", "true"]);
    let output = sandbox.coracle(["ps", "-aq", "--format", "json"]).ok();
    assert_eq!(output.text(), &id[..12]);
    assert!(output.stderr.contains("WARNING: Ignoring custom format, because both"), "{output}");
    let raw = sandbox.ok(["ps", "-a", "--format", "raw"]);
    assert!(raw.starts_with(&format!("container_id: {}\nimage: busybox\ncommand: ", &id[..12])), "{raw}");
    assert_eq!(sandbox.ok(["ps", "-a", "--format", "{{.HealthStatus}} {{.Platform}}"]), "none <nil>");
    for number in [10, 2, 1] {
        sandbox.ok(["volume", "create", &format!("v-{number}")]);
    }
    assert_eq!(sandbox.ok(["volume", "ls", "-q"]), "v-1\nv-2\nv-10");
    let raw = "name: v-1\ndriver: local\n\nname: v-2\ndriver: local\n\nname: v-10\ndriver: local";
    assert_eq!(sandbox.ok(["volume", "ls", "--format", "raw"]), raw);
    let settings = json!({
        "psFormat": "PS {{.Names}}", "volumesFormat": "V {{.Name}}", "networksFormat": "N {{.Name}}",
        "imagesFormat": "I {{.Repository}}", "statsFormat": "S {{.Name}}",
    });
    let folder = sandbox.folder("docker");
    std::fs::write(folder.join("config.json"), settings.to_string()).unwrap();
    sandbox.set("DOCKER_CONFIG", folder.to_str().unwrap());
    assert_eq!(sandbox.ok(["ps", "-a"]), "PS c");
    assert_eq!(sandbox.ok(["ps", "-aq"]), &id[..12]);
    assert_eq!(sandbox.ok(["ps", "-a", "--format", "{{.Names}}"]), "c");
    assert_eq!(sandbox.ok(["volume", "ls", "--filter", "name=v-10"]), "V v-10");
    assert_eq!(sandbox.ok(["network", "ls", "--filter", "name=none"]), "N none");
    assert_eq!(sandbox.ok(["images", "busybox"]), "I busybox");
    assert_eq!(sandbox.ok(["stats", "--no-stream", "-a"]), "S c");
    std::fs::write(folder.join("config.json"), r#"{"psFormat": "{{"}"#).unwrap();
    sandbox.coracle(["ps"]).fails(1, &["psFormat of ", "unclosed action"]);
}

#[test]
fn what_was_written_is_told_in_docker_s_words() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let words = [
        "--log-opt",
        "max-size=5K",
        "--cap-add",
        "sys_time",
        "--cap-add",
        "NET_ADMIN",
        "--cap-drop",
        "chown",
    ];
    sandbox.start("web", &[&words[..], &["busybox", "sleep", "1000"]].concat());
    let host = sandbox.inspect("web")["HostConfig"].clone();
    assert_eq!(host["LogConfig"]["Config"], json!({"max-size": "5K"}));
    assert_eq!(host["LogConfig"]["Size"], "5kB");
    assert_eq!(
        (&host["CapAdd"], &host["CapDrop"]),
        (&json!(["CAP_NET_ADMIN", "CAP_SYS_TIME"]), &json!(["CAP_CHOWN"]))
    );
    let id = sandbox.ok(["inspect", "-f", "{{.Id}}", "web"]);
    let stats = |word: &str| sandbox.ok(["stats", "--no-stream", "--format", "{{.Container}}", word]);
    assert_eq!([stats("web"), stats(&id[..5])], ["web", &id[..5]]);
    let version: serde_json::Value = serde_json::from_str(&sandbox.ok(["version", "-f", "json"])).unwrap();
    assert_eq!(version["Server"]["ApiVersion"], sandbox.ok(["version", "-f", "{{.Server.APIVersion}}"]));
    let mut command = sandbox.tool(["history", "--format", "{{.CreatedAt}} {{.Created}}", "busybox"]);
    let output = command.env("TZ", "UTC-5:30").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().all(|line| line.contains("+05:30 ") || line.starts_with("N/A")), "{text}");
}

#[test]
fn info_has_docker_s_labels_and_fields() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let text = sandbox.ok(["info"]);
    let labels = [
        " Server Version: ",
        " Storage Driver: ",
        " Docker Root Dir: ",
        " Cgroup Version: ",
        " Images: 1",
        " Total Memory: ",
    ];
    for label in labels {
        assert!(text.lines().any(|line| line.starts_with(label)), "{label}: {text}");
    }
    let document: serde_json::Value = serde_json::from_str(&sandbox.ok(["info", "-f", "json"])).unwrap();
    assert_eq!(document["IndexServerAddress"], "https://index.docker.io/v1/");
    assert_eq!(document["ClientInfo"]["Context"], "default");
    for key in ["MemoryLimit", "SwapLimit", "IPv4Forwarding", "Debug"] {
        assert!(document[key].is_boolean(), "{key}: {document}");
    }
    let mut command =
        sandbox.tool(["info", "-f", "{{.HTTPProxy}} {{.Host.OCIRuntime.Name}} {{.Store.GraphRoot}}"]);
    let output = command.env("http_proxy", "http://proxy:1").output().unwrap();
    let root = document["DockerRootDir"].as_str().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("http://proxy:1 coracle {root}\n"));
}

#[test]
fn podman_s_fields_are_there_for_templates() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    sandbox.ok(["tag", "busybox", "other:1"]);
    let id = sandbox.ok(["images", "-q", "busybox"]);
    let names =
        sandbox.ok(["images", "--format", "{{.ID}} {{len .RepoTags}} {{len .Names}} {{.IsDangling}}"]);
    assert_eq!(names.lines().next().unwrap(), format!("{id} 2 2 false"));
    assert!(
        sandbox
            .ok(["images", "--format", "{{.RepoDigests}}", "other"])
            .starts_with("[docker.io/library/other@sha256:")
    );
    sandbox.ok(["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "v"]);
    assert_eq!(sandbox.ok(["volume", "ls", "--format", "{{.Options.type}} {{.Anonymous}}"]), "tmpfs false");
    let created = sandbox.ok(["volume", "inspect", "-f", "{{.CreatedAt}}", "v"]);
    assert_eq!(sandbox.ok(["volume", "ls", "--format", "{{.CreatedAt}}"]), created);
    sandbox.ok(["pod", "create", "--name", "p", "--infra=false"]);
    let format =
        "{{.CPUPeriod}} {{.MemoryLimit}} <{{.CPUSetCPUs}}> {{.Mounts}} {{.SecurityOpts}} {{.VolumesFrom}}";
    assert_eq!(sandbox.ok(["pod", "inspect", "-f", format, "p"]), "0 0 <> [] [] []");
    assert!(sandbox.ok(["pod", "inspect", "p"]).contains("\"Name\": \"p\""));
    assert!(!sandbox.ok(["pod", "inspect", "p"]).contains("CPUPeriod"), "only for templates");
}

#[test]
fn an_image_tells_when_it_got_its_name() {
    let Some(sandbox) = sandbox(&[Image("busybox")]) else { return };
    let last = |image: &str| -> String { sandbox.ok(["inspect", "-f", "{{.Metadata.LastTagTime}}", image]) };
    let loaded = last("busybox");
    assert!(loaded.starts_with("20"), "{loaded}");
    sandbox.ok(["tag", "busybox", "again"]);
    assert_ne!(last("busybox"), loaded);
    assert_eq!(last("busybox"), last("again"));
}
