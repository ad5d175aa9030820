//! From flags to a [`CreateRequest`].

use super::files::read_text;
use super::values::{
    log_notes, parse_add_host, parse_dns, parse_entrypoint, parse_expose, parse_hostname, parse_log,
    parse_number, parse_pair, parse_pull, parse_resolver_word, parse_restart, parse_stream, parse_tz,
    parse_umask, parse_volumes_from,
};
use super::{ContainerOptions, limits, namespaces, security};
use crate::cli::pull::PlatformWords;
use crate::cli::ui;
use crate::engine::registry_access::client_settings;
use crate::error::{Error, Kind, Result};
use crate::registry::auth_file::AuthFile;
use crate::types::boolean;
use crate::types::cgroup::{CgroupnsMode, CgroupsMode};
use crate::types::container::{
    ContainerConfig, CreateRequest, DeviceSpec, ImageVolumes, PidFiles, RootSource,
};
use crate::types::env::{Environment, MAX_FILE, parse_label, parse_label_file};
use crate::types::id::check_name;
use crate::types::mount::{
    MountSpec, check_duplicates, clean_path, from_working_dir, parse_mount, parse_tmpfs, parse_volume,
};
use crate::types::personality::Personality;
use crate::types::pod::{PodChoice, Share, WhichPod};
use crate::types::port::add_exposed;
use crate::types::secret::SecretUse;
use crate::types::signal;
use crate::types::size::parse_bytes;
use crate::types::status::RestartPolicy;
use crate::types::systemd::SystemdMode;
use crate::types::user::UserSpec;
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

/// Variables that name proxies, in either case.
const PROXIES: [&str; 4] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy"];

/// What says something of the process that has it, and nothing of a container.
const HOSTS_OWN: [&str; 6] = ["HOME", "HOSTNAME", "OLDPWD", "PWD", "SHLVL", "_"];

/// What flags may refer to of the process that parses them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    pub(crate) working_dir: PathBuf,
    /// Variables whose name and value are UTF-8.
    pub(crate) environment: Vec<(String, String)>,
    /// What docker's `config.json` has for containers, names in capitals.
    pub(crate) proxies: Vec<(&'static str, String)>,
    pub(crate) selinux: bool,
    /// The words that started it.
    pub(crate) command: Vec<String>,
}

impl Host {
    /// This process's.
    pub(crate) fn here() -> Self {
        let utf8 = |(key, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((key.into_string().ok()?, value.into_string().ok()?))
        };
        let settings = client_settings().unwrap_or_else(|error| {
            ui::warning(&format!("no proxies are taken from docker's settings: {error}"));
            None
        });
        let proxies = settings.map(AuthFile::proxies).unwrap_or_default();
        Self {
            proxies,
            // Of one that was removed nothing is needed but by relative paths, which then
            // do not become absolute, and are refused where they are used.
            working_dir: std::env::current_dir().unwrap_or_default(),
            environment: std::env::vars_os().filter_map(utf8).collect(),
            selinux: security::host_has_selinux(),
            command: std::env::args().collect(),
        }
    }

    /// A path on the host as it was typed, made absolute.
    ///
    /// # Errors
    /// `Invalid` where it is relative to a directory that was removed.
    pub(crate) fn at(&self, path: &str) -> Result<PathBuf> {
        from_working_dir(path, &self.working_dir)
    }
}

/// The words after the flags: the image, and the command.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    pub(crate) first: Option<String>,
    pub(crate) rest: Vec<String>,
}

impl ContainerOptions {
    /// What is asked of the engine. `command` is `run` or `create`, for errors.
    ///
    /// # Errors
    /// `Invalid`, naming the flag.
    pub(crate) fn into_request(mut self, command: &str, words: Words, host: &Host) -> Result<CreateRequest> {
        self.trust.tell()?;
        self.drop_empty();
        let (source, cmd) = self.source(command, words, host)?;
        // `inspect` shows names with docker's slash, and docker takes them so.
        let name = self.name.as_deref().map(|name| name.strip_prefix('/').unwrap_or(name).to_owned());
        if let Some(name) = &name {
            check_name("container", name)?;
        }
        if self.replace && self.name.is_none() {
            return Err(Error::invalid("--replace needs --name"));
        }
        let mut config = ContainerConfig { cmd, ..ContainerConfig::default() };
        self.apply_process(host, &mut config)?;
        self.apply_metadata(&mut config)?;
        self.apply_storage(host, &mut config)?;
        self.apply_security(host, &mut config)?;
        self.apply_resolver(&mut config)?;
        self.apply_life(host, &mut config)?;
        namespaces::apply(&self, &mut config)?;
        Ok(CreateRequest {
            source,
            name,
            pull: self.pull.as_deref().map(parse_pull).transpose()?.unwrap_or_default(),
            platform: PlatformWords {
                platform: self.platform.as_deref(),
                arch: self.arch.as_deref(),
                os: self.os.as_deref(),
                variant: self.variant.as_deref(),
            }
            .choose()?,
            replace: self.replace,
            pod: self.pod_choice(host)?,
            cidfile: config.id_file.clone(),
            config,
        })
    }

    /// Docker's: scripts write `--name "$NAME"`, and an empty value is none.
    fn drop_empty(&mut self) {
        for value in [
            &mut self.name,
            &mut self.workdir,
            &mut self.platform,
            &mut self.arch,
            &mut self.os,
            &mut self.variant,
            &mut self.stop_signal,
            &mut self.cidfile,
            &mut self.pidfile,
            &mut self.conmon_pidfile,
            &mut self.ip,
            &mut self.ip6,
            &mut self.mac_address,
        ] {
            if value.as_ref().is_some_and(String::is_empty) {
                *value = None;
            }
        }
    }

    /// `--pod`, `--pod-id-file`
    fn pod_choice(&self, host: &Host) -> Result<Option<PodChoice>> {
        let which = match (&self.pod, &self.pod_id_file) {
            (Some(word), _) => match word.strip_prefix("new:") {
                Some(name) => WhichPod::New(name.to_owned()),
                None => WhichPod::Named(word.clone()),
            },
            (None, Some(file)) => WhichPod::InFile(host.at(file)?),
            (None, None) => return Ok(None),
        };
        let flags = [
            (Share::Ipc, self.ipc.is_some()),
            (Share::Pid, self.pid.is_some()),
            (Share::Uts, self.uts.is_some()),
        ];
        let own = flags.into_iter().filter(|(_, given)| *given).map(|(share, _)| share).collect();
        Ok(Some(PodChoice { which, own, command: host.command.clone() }))
    }

    /// With `--rootfs` the first word belongs to the command already.
    fn source(&self, command: &str, words: Words, host: &Host) -> Result<(RootSource, Vec<String>)> {
        if let Some(text) = &self.rootfs {
            let (path, overlay) = match text.strip_suffix(":O") {
                Some(path) => (path, true),
                None => (text.as_str(), false),
            };
            if path.is_empty() {
                return Err(Error::invalid("--rootfs needs a directory"));
            }
            let cmd = words.first.into_iter().chain(words.rest).collect();
            return Ok((RootSource::Directory { path: host.at(path)?, overlay }, cmd));
        }
        match words.first {
            Some(image) if !image.is_empty() => Ok((RootSource::Image(image), words.rest)),
            Some(_) => Err(Error::invalid("the image's name is empty")),
            None => Err(Error::invalid(format!("'coracle {command}' requires at least 1 argument"))
                .hint(format!("usage: coracle {command} [OPTIONS] IMAGE [COMMAND] [ARG...]"))),
        }
    }

    fn apply_process(&self, host: &Host, config: &mut ContainerConfig) -> Result<()> {
        let mut environment = Environment::default();
        for path in &self.env_file {
            environment.add_file(&read_text("--env-file", path, MAX_FILE)?, path, &host.environment)?;
        }
        for text in &self.env {
            environment.add_flag(text, &host.environment)?;
        }
        config.env = self.client_proxies(&environment, host)?;
        config.env.append(&mut environment.set);
        config.env_below = self.environment_below(&host.environment)?;
        if let Some(bad) = self.env_merge.iter().find(|text| text.find('=').is_none_or(|at| at == 0)) {
            return Err(Error::invalid(format!("--env-merge {bad}: KEY=VALUE is expected")));
        }
        config.env_merge.clone_from(&self.env_merge);
        config.image_volumes =
            self.image_volume.as_deref().map(parse_image_volumes).transpose()?.unwrap_or_default();
        config.unset_env = [self.unsetenv.as_slice(), &environment.unset].concat();
        config.unset_env_all = self.unsetenv_all;
        config.entrypoint = self.entrypoint.as_deref().map(parse_entrypoint).transpose()?;
        let path = self.workdir.as_deref().map(clean_path).transpose();
        config.workdir = path.map_err(|error| error.context("--workdir"))?;
        config.user = self.user.clone().filter(|user| !user.is_empty());
        if let Some(user) = &config.user {
            UserSpec::parse(user).map_err(|error| error.context("--user"))?;
        }
        // Podman takes several with commas; no name of a group has one.
        config.group_add =
            self.group_add.iter().flat_map(|groups| groups.split(',')).map(str::to_owned).collect();
        if config.group_add.len() > 1 && config.group_add.iter().any(|group| group == "keep-groups") {
            return Err(Error::invalid(
                "the '--group-add keep-groups' option is not allowed with any other --group-add options",
            )
            .hint("the kernel keeps the caller's groups as they are, or sets all of them anew"));
        }
        self.apply_accounts(config)?;
        config.tty = self.tty;
        config.interactive = self.interactive;
        config.attach = split_commas(&self.attach).map(parse_stream).collect::<Result<_>>()?;
        config.init = self.init;
        config.systemd = self.systemd.as_deref().map(SystemdMode::parse).transpose()?.unwrap_or_default();
        config.umask = self.umask.as_deref().map(parse_umask).transpose()?;
        config.tz = self.tz.as_deref().map(parse_tz).transpose()?;
        config.ulimits = limits::parse_ulimits(&self.ulimit)?;
        let score = |text: &str| parse_number("--oom-score-adj", text, -1000..=1000);
        config.oom_score_adj =
            self.oom_score_adj.as_deref().map(score).transpose()?.map(|number| number as i32);
        config.personality = self.personality.as_deref().map(Personality::parse).transpose()?;
        Ok(())
    }

    /// What `--env-host` and `--http-proxy` take from the host.
    fn environment_below(&self, host: &[(String, String)]) -> Result<Vec<String>> {
        let proxies = self.wants_proxies()?;
        let wanted = |name: &str| {
            self.env_host && !HOSTS_OWN.contains(&name)
                || proxies != Some(false) && PROXIES.contains(&name.to_ascii_lowercase().as_str())
        };
        let wanted = host.iter().filter(|(key, _)| wanted(key));
        Ok(wanted.map(|(key, value)| format!("{key}={value}")).collect())
    }

    /// The proxies of docker's settings, in either case, where no flag speaks of them.
    fn client_proxies(&self, flags: &Environment, host: &Host) -> Result<Vec<String>> {
        let given = |name: &str| {
            let is_set = |pair: &String| pair.split_once('=').is_some_and(|(key, _)| key == name);
            flags.set.iter().any(is_set) || flags.unset.iter().any(|key| key == name)
        };
        if self.wants_proxies()? == Some(false) {
            return Ok(Vec::new());
        }
        let both = |(name, value): &(&str, String)| {
            [(*name).to_owned(), name.to_ascii_lowercase()].map(|name| (name, value.clone()))
        };
        let all = host.proxies.iter().flat_map(both).filter(|(name, _)| !given(name));
        Ok(all.map(|(name, value)| format!("{name}={value}")).collect())
    }

    fn wants_proxies(&self) -> Result<Option<bool>> {
        self.http_proxy.as_deref().map(|text| boolean::parse("--http-proxy", text)).transpose()
    }

    /// What `/etc/passwd` and `/etc/group` are to have.
    fn apply_accounts(&self, config: &mut ContainerConfig) -> Result<()> {
        let adds = |text: &str| boolean::parse("--passwd", text);
        config.no_passwd = !self.passwd.as_deref().map(adds).transpose()?.unwrap_or(true);
        config.passwd_entry.clone_from(&self.passwd_entry);
        config.group_entry.clone_from(&self.group_entry);
        config.host_users.clone_from(&self.hostuser);
        let given = [
            ("--passwd-entry", self.passwd_entry.is_some()),
            ("--group-entry", self.group_entry.is_some()),
            ("--hostuser", !self.hostuser.is_empty()),
        ];
        match given.iter().find(|(_, given)| *given && config.no_passwd) {
            Some((flag, _)) => {
                Err(Error::invalid(format!("{flag} cannot be used together with --passwd=false")))
            }
            None => Ok(()),
        }
    }

    fn apply_metadata(&self, config: &mut ContainerConfig) -> Result<()> {
        for path in &self.label_file {
            config.labels.extend(parse_label_file(&read_text("--label-file", path, MAX_FILE)?, path)?);
        }
        for text in &self.label {
            config.labels.extend([parse_label(text)?]);
        }
        config.annotations = parse_pairs("--annotation", &self.annotation)?;
        for text in &self.expose {
            add_exposed(&mut config.expose, parse_expose(text)?);
        }
        Ok(())
    }

    /// `--rm`, where it is given.
    ///
    /// # Errors
    /// `Usage` for what is neither true nor false.
    pub(crate) fn removes_itself(&self) -> Result<Option<bool>> {
        let parse = |text: &str| boolean::parse("--rm", text).map_err(|error| error.with_kind(Kind::Usage));
        self.rm.as_deref().map(parse).transpose()
    }

    fn apply_storage(&self, host: &Host, config: &mut ContainerConfig) -> Result<()> {
        // Docker's sets: what is given twice word by word is meant once.
        let mut seen = HashSet::new();
        let volumes = self.volume.iter().filter(|text| seen.insert(*text));
        let volumes = volumes.map(|text| parse_volume(text, &host.working_dir));
        let mounts = self.mount.iter().map(|text| parse_mount(text, &host.working_dir));
        let mut seen = HashSet::new();
        let tmpfs = self.tmpfs.iter().filter(|text| seen.insert(*text)).map(|text| parse_tmpfs(text));
        config.mounts = volumes.chain(mounts).chain(tmpfs).collect::<Result<Vec<MountSpec>>>()?;
        check_duplicates(&config.mounts)?;
        config.volumes_from =
            self.volumes_from.iter().map(|text| parse_volumes_from(text)).collect::<Result<_>>()?;
        config.read_only = self.read_only;
        let flag = |text: &str| boolean::parse("--read-only-tmpfs", text);
        config.read_only_tmpfs = self.read_only_tmpfs.as_deref().map(flag).transpose()?;
        let size = self.shm_size.as_deref().map(parse_bytes).transpose();
        // 0 is docker's word for the default.
        config.shm_size = size.map_err(|error| error.context("--shm-size"))?.filter(|size| *size > 0);
        config.devices = self.device.iter().map(|text| DeviceSpec::parse(text)).collect::<Result<_>>()?;
        Ok(())
    }

    fn apply_security(&self, host: &Host, config: &mut ContainerConfig) -> Result<()> {
        config.privileged = self.privileged;
        config.cap_add = split_commas(&self.cap_add).map(str::to_owned).collect();
        config.cap_drop = split_commas(&self.cap_drop).map(str::to_owned).collect();
        config.sysctls = parse_pairs("--sysctl", &self.sysctl)?;
        self.security_opt.iter().try_for_each(|text| security::apply(text, host.selinux, config))
    }

    fn apply_resolver(&self, config: &mut ContainerConfig) -> Result<()> {
        let name = |flag: &str, text: &Option<String>| {
            // As docker takes it: an empty one is none.
            let text = text.as_deref().filter(|text| !text.is_empty());
            text.map(|text| parse_hostname(flag, text)).transpose()
        };
        config.hostname = name("--hostname", &self.hostname)?;
        config.domainname = name("--domainname", &self.domainname)?;
        for text in &self.add_host {
            config.add_hosts.extend(parse_add_host(text)?);
        }
        config.no_hosts = self.no_hosts;
        config.no_hostname = self.no_hostname;
        if self.no_hosts && !self.add_host.is_empty() {
            return Err(Error::invalid("--no-hosts and --add-host cannot be set together"));
        }
        config.dns = split_commas(&self.dns).map(parse_dns).collect::<Result<_>>()?;
        let words = |flag: &str, texts: &[String]| {
            split_commas(texts).map(|text| parse_resolver_word(flag, text)).collect::<Result<Vec<_>>>()
        };
        config.dns_search = words("--dns-search", &self.dns_search)?;
        config.dns_options = words("--dns-option", &self.dns_option)?;
        Ok(())
    }

    fn apply_life(&self, host: &Host, config: &mut ContainerConfig) -> Result<()> {
        if let Some(text) = &self.stop_signal {
            signal::parse(text).map_err(|error| error.context("--stop-signal"))?;
            config.stop_signal = Some(text.clone());
        }
        let seconds = |text: &str| parse_number("--stop-timeout", text, -1..=i64::MAX);
        config.stop_timeout = self.stop_timeout.as_deref().map(seconds).transpose()?;
        let seconds = |text: &str| parse_number("--timeout", text, 0..=i64::MAX);
        config.timeout = self.timeout.as_deref().map(seconds).transpose()?.unwrap_or(0).unsigned_abs();
        config.restart = self.restart.as_deref().map(parse_restart).transpose()?.unwrap_or_default();
        config.auto_remove = self.removes_itself()?.unwrap_or(false);
        if config.auto_remove && config.restart != RestartPolicy::No {
            return Err(Error::invalid("conflicting options: cannot specify both --restart and --rm"));
        }
        config.secrets = self.secret.iter().map(|text| SecretUse::parse(text)).collect::<Result<_>>()?;
        config.limits = self.resources.limits()?;
        config.limits.check()?;
        config.cgroups = self.cgroups.as_deref().map(CgroupsMode::parse).transpose()?.unwrap_or_default();
        config.cgroupns = self.cgroupns.as_deref().map(CgroupnsMode::parse).transpose()?.unwrap_or_default();
        config.cgroup_parent = self.cgroup_parent.clone().filter(|parent| !parent.is_empty());
        if config.cgroup_parent.is_some()
            && matches!(config.cgroups, CgroupsMode::Disabled | CgroupsMode::Split)
        {
            return Err(Error::invalid(format!(
                "--cgroup-parent cannot be used together with --cgroups={}",
                config.cgroups.word()
            )));
        }
        config.health = self.health.config()?;
        let file = |path: &Option<String>| path.as_deref().map(|path| host.at(path)).transpose();
        config.id_file = file(&self.cidfile)?;
        config.pid_files = PidFiles { init: file(&self.pidfile)?, monitor: file(&self.conmon_pidfile)? };
        config.log = parse_log(self.log_driver.as_deref(), &self.log_opt)?;
        log_notes(&config.log).into_iter().for_each(ui::warning);
        Ok(())
    }
}

fn parse_pairs(flag: &str, texts: &[String]) -> Result<BTreeMap<String, String>> {
    texts.iter().map(|text| parse_pair(flag, text)).collect()
}

/// The values of a flag that may be given often, or once with commas.
fn split_commas(texts: &[String]) -> impl Iterator<Item = &str> {
    texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

fn parse_image_volumes(text: &str) -> Result<ImageVolumes> {
    match text {
        // Podman's old name for it.
        "anonymous" | "bind" => Ok(ImageVolumes::Anonymous),
        "tmpfs" => Ok(ImageVolumes::Tmpfs),
        "ignore" => Ok(ImageVolumes::Ignored),
        _ => Err(Error::invalid(format!(
            "invalid --image-volume {text:?}: it is one of anonymous, bind, tmpfs or ignore"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::mount::MountSource;

    fn host() -> Host {
        let environment = vec![("HOME".to_owned(), "/home/x".to_owned())];
        Host { working_dir: "/here".into(), environment, ..Host::default() }
    }

    fn words(words: &[&str]) -> Words {
        let mut words = words.iter().map(|word| (*word).to_owned());
        Words { first: words.next(), rest: words.collect() }
    }

    #[test]
    fn the_first_word_is_the_image_unless_there_is_a_rootfs() {
        let request =
            ContainerOptions::default().into_request("run", words(&["busybox", "ls", "-l"]), &host());
        let request = request.expect("valid");
        assert_eq!(request.source, RootSource::Image("busybox".into()));
        assert_eq!(request.config.cmd, ["ls", "-l"]);

        let options = ContainerOptions { rootfs: Some("/:O".into()), ..ContainerOptions::default() };
        let request = options.into_request("run", words(&["ls", "-l"]), &host()).expect("valid");
        assert_eq!(request.source, RootSource::Directory { path: "/".into(), overlay: true });
        assert_eq!(request.config.cmd, ["ls", "-l"]);

        let options = ContainerOptions { rootfs: Some("root".into()), ..ContainerOptions::default() };
        let request = options.into_request("run", words(&[]), &host()).expect("valid");
        assert_eq!(request.source, RootSource::Directory { path: "/here/root".into(), overlay: false });

        let error =
            ContainerOptions::default().into_request("run", words(&[]), &host()).expect_err("no image");
        assert_eq!(error.to_string(), "'coracle run' requires at least 1 argument");
    }

    #[test]
    fn flags_become_a_config() {
        let options = ContainerOptions {
            env: vec!["A=1".into(), "HOME".into(), "GONE".into()],
            cap_add: vec!["net_admin,SYS_TIME".into(), "CHOWN".into()],
            volume: vec!["./x:/y:ro".into()],
            tmpfs: vec!["/run".into()],
            label: vec!["a=1".into(), "b".into(), "a=2".into()],
            workdir: Some("/a/../b/".into()),
            shm_size: Some("1m".into()),
            timeout: Some("5".into()),
            ..ContainerOptions::default()
        };
        let config = options.into_request("run", words(&["busybox"]), &host()).expect("valid").config;
        assert_eq!(config.env, ["A=1", "HOME=/home/x"]);
        assert_eq!(config.unset_env, ["GONE"]);
        assert_eq!(config.cap_add, ["net_admin", "SYS_TIME", "CHOWN"]);
        assert_eq!(config.mounts[0].source, MountSource::Bind { path: "/here/x".into(), create: true });
        assert_eq!(config.mounts.len(), 2);
        assert_eq!((config.labels["a"].as_str(), config.labels["b"].as_str()), ("2", ""));
        assert_eq!(config.workdir.as_deref(), Some("/b"));
        assert_eq!((config.shm_size, config.timeout), (Some(1 << 20), 5));
    }

    #[test]
    fn what_is_taken_of_the_host_s_environment() {
        let pairs = [("HOME", "/home/x"), ("EDITOR", "ed"), ("https_proxy", "p"), ("NO_PROXY", "q")];
        let environment = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let host = Host { environment, ..host() };
        let below = |env_host: bool, http_proxy: Option<&str>| {
            let http_proxy = http_proxy.map(str::to_owned);
            let options = ContainerOptions { env_host, http_proxy, ..ContainerOptions::default() };
            options.into_request("run", words(&["busybox"]), &host).expect("valid").config.env_below
        };
        assert_eq!(below(false, None), ["https_proxy=p", "NO_PROXY=q"]);
        assert!(below(false, Some("false")).is_empty());
        assert_eq!(below(true, Some("false")), ["EDITOR=ed", "https_proxy=p", "NO_PROXY=q"]);
    }

    #[test]
    fn an_empty_value_is_none() {
        let empty = || Some(String::new());
        let options = ContainerOptions {
            name: empty(),
            workdir: empty(),
            platform: empty(),
            stop_signal: empty(),
            cidfile: empty(),
            pidfile: empty(),
            ip: empty(),
            ip6: empty(),
            mac_address: empty(),
            ..ContainerOptions::default()
        };
        let request = options.into_request("run", words(&["busybox"]), &host()).expect("valid");
        let plain = ContainerOptions::default().into_request("run", words(&["busybox"]), &host());
        assert_eq!(format!("{request:?}"), format!("{:?}", plain.expect("valid")));
    }

    #[test]
    fn docker_s_proxies_go_below_flags() {
        let proxies = vec![("HTTP_PROXY", "http://p:1".to_owned()), ("NO_PROXY", "a,b".to_owned())];
        let host = Host { proxies, ..host() };
        let env = |options: ContainerOptions| {
            options.into_request("run", words(&["busybox"]), &host).expect("valid").config.env
        };
        let given = ContainerOptions { env: vec!["no_proxy=c".into()], ..ContainerOptions::default() };
        assert_eq!(
            env(given),
            ["HTTP_PROXY=http://p:1", "http_proxy=http://p:1", "NO_PROXY=a,b", "no_proxy=c"]
        );
        let without = ContainerOptions { http_proxy: Some("false".into()), ..ContainerOptions::default() };
        assert!(env(without).is_empty());
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        let refused = |options: ContainerOptions| {
            options.into_request("run", words(&["busybox"]), &host()).expect_err("contradiction").to_string()
        };
        let base = ContainerOptions::default;
        assert_eq!(
            refused(ContainerOptions { rm: Some("true".into()), restart: Some("always".into()), ..base() }),
            "conflicting options: cannot specify both --restart and --rm"
        );
        assert_eq!(refused(ContainerOptions { replace: true, ..base() }), "--replace needs --name");
        let hosts = vec!["a:1.1.1.1".into()];
        assert!(
            refused(ContainerOptions { no_hosts: true, add_host: hosts, ..base() }).contains("--no-hosts")
        );
        let twice = vec!["/a:/x".into(), "/b:/x/".into()];
        assert_eq!(refused(ContainerOptions { volume: twice, ..base() }), "duplicate mount point: /x");
        assert!(refused(ContainerOptions { workdir: Some("x".into()), ..base() }).contains("--workdir"));
        assert!(refused(ContainerOptions { name: Some("a/b".into()), ..base() }).contains("a/b"));
        assert!(refused(ContainerOptions { env_merge: vec!["=x".into()], ..base() }).contains("KEY=VALUE"));
        let volumes = Some("some".into());
        assert!(refused(ContainerOptions { image_volume: volumes, ..base() }).contains("tmpfs or ignore"));
    }
}
