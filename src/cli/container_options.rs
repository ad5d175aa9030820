//! The flags that `run` and `create` share, and the request they make.
//!
//! The flags are strings and booleans here; the folder beside this file turns
//! them into values. Each of its errors names the flag.

mod files;
mod health;
mod limits;
mod namespaces;
mod networks;
mod request;
mod resources;
mod security;
pub(super) mod values;

pub(super) use files::read_text;
pub(crate) use request::{Host, Words};
pub(crate) use resources::ResourceOptions;
pub(crate) use values::parse_restart;

use super::registry_options::{RegistryArgs, TrustArgs};
use clap::Args;

/// Flags of docker and podman, with their meaning there.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ContainerOptions {
    #[command(flatten)]
    pub(crate) resources: ResourceOptions,
    /// Add a line to /etc/hosts
    #[arg(long, value_name = "NAME:IP")]
    pub(crate) add_host: Vec<String>,
    /// For this architecture instead of the machine's
    #[arg(long, value_name = "ARCH")]
    pub(crate) arch: Option<String>,
    /// Attach only these of stdin, stdout and stderr
    #[arg(long, short = 'a', value_name = "STREAM")]
    pub(crate) attach: Vec<String>,
    /// Add an annotation
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Add capabilities (ALL for every one)
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_add: Vec<String>,
    /// Lie below this control group: a slice where systemd manages them
    #[arg(long, value_name = "GROUP")]
    pub(crate) cgroup_parent: Option<String>,
    /// Make a control group (enabled, disabled, no-conmon, split)
    #[arg(long, value_name = "MODE")]
    pub(crate) cgroups: Option<String>,
    /// See no control groups but its own (private, host, container:NAME)
    #[arg(long, value_name = "MODE")]
    pub(crate) cgroupns: Option<String>,
    /// Drop capabilities (ALL for every one)
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_drop: Vec<String>,
    /// Write the container's id to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<String>,
    /// Write the process id of the container's monitor, above its first process, to this file while it runs
    #[arg(long, value_name = "FILE")]
    pub(crate) conmon_pidfile: Option<String>,
    /// Make a device of the host available
    #[arg(long, value_name = "DEVICE[:PATH][:rwm]")]
    pub(crate) device: Vec<String>,
    /// Use these name servers
    #[arg(long, value_name = "IP")]
    pub(crate) dns: Vec<String>,
    /// Set options of the resolver
    #[arg(long, alias = "dns-opt", value_name = "OPTION")]
    pub(crate) dns_option: Vec<String>,
    /// Search these domains
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,
    /// Set the NIS domain name
    #[arg(long, value_name = "NAME")]
    pub(crate) domainname: Option<String>,
    /// Run this instead of the image's entrypoint (a JSON array for several words)
    #[arg(long, value_name = "COMMAND")]
    pub(crate) entrypoint: Option<String>,
    /// Set a variable; KEY alone takes the host's value, PREFIX* all that match
    #[arg(long, short = 'e', value_name = "KEY[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<String>,
    /// Set the variables of the host that the image does not set
    #[arg(long)]
    pub(crate) env_host: bool,
    /// Set a variable from the image's: PATH=$PATH:/opt/bin
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) env_merge: Vec<String>,
    /// Note ports that the container listens on
    #[arg(long, value_name = "PORT[/PROTOCOL]")]
    pub(crate) expose: Vec<String>,
    /// Map group ids of the container to ids of your outer namespace
    #[arg(long, value_name = "INSIDE:OUTSIDE[:LENGTH]")]
    pub(crate) gidmap: Vec<String>,
    /// Add groups to the first process (keep-groups for your own)
    #[arg(long, value_name = "GROUP")]
    pub(crate) group_add: Vec<String>,
    /// Add this line to /etc/group where it lacks the user's group
    #[arg(long, value_name = "LINE")]
    pub(crate) group_entry: Option<String>,
    #[command(flatten)]
    pub(crate) health: health::HealthOptions,
    /// Add a user of the host to /etc/passwd
    #[arg(long, value_name = "NAME|UID")]
    pub(crate) hostuser: Vec<String>,
    /// Set the host name
    #[arg(long, short = 'h', value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Set the host's http_proxy, https_proxy, ftp_proxy and no_proxy (true)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) http_proxy: Option<String>,
    /// Make the image's volumes anonymous ones (bind, anonymous), tmpfs or none (ignore)
    #[arg(long, value_name = "MODE")]
    pub(crate) image_volume: Option<String>,
    /// Run an init that forwards signals and reaps processes
    #[arg(long)]
    pub(crate) init: bool,
    /// Keep stdin open even if not attached
    #[arg(long, short = 'i')]
    pub(crate) interactive: bool,
    /// Choose the IPC namespace: shareable, private, none, host, container:NAME
    #[arg(long, value_name = "MODE")]
    pub(crate) ipc: Option<String>,
    /// Set a label
    #[arg(long, short = 'l', value_name = "KEY[=VALUE]")]
    pub(crate) label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) label_file: Vec<String>,
    /// Call another container of the same network by another name
    #[arg(long, value_name = "CONTAINER[:NAME]")]
    pub(crate) link: Vec<String>,
    /// Add an address of the link: of 169.254.0.0/16 or fe80::/10
    #[arg(long, value_name = "IP")]
    pub(crate) link_local_ip: Vec<String>,
    /// Choose the IPv4 address on the network
    #[arg(long, value_name = "IP")]
    pub(crate) ip: Option<String>,
    /// Choose the IPv6 address on the network
    #[arg(long, value_name = "IP")]
    pub(crate) ip6: Option<String>,
    /// Choose the Ethernet address on the network
    #[arg(long, value_name = "MAC")]
    pub(crate) mac_address: Option<String>,
    /// Log with json-file, k8s-file, local, none or passthrough
    #[arg(long, value_name = "DRIVER")]
    pub(crate) log_driver: Option<String>,
    /// Set an option of the log: max-size, max-file; of a json-file also tag, labels, env
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) log_opt: Vec<String>,
    /// Mount a bind, volume, tmpfs or image
    #[arg(long, value_name = "type=TYPE,KEY=VALUE,...")]
    pub(crate) mount: Vec<String>,
    /// Give the container a name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Choose the network: NAME[:ip=IP,ip6=IP,mac=MAC,alias=NAME,interface_name=NAME,gw-priority=NUMBER] (several times), none, host, slirp4netns, pasta, builtin, container:NAME, ns:PATH
    #[arg(long, alias = "net", value_name = "MODE")]
    pub(crate) network: Vec<String>,
    /// Add a name of the container on its networks
    #[arg(long, alias = "net-alias", value_name = "NAME")]
    pub(crate) network_alias: Vec<String>,
    /// Leave /etc/hosts as the image has it
    #[arg(long)]
    pub(crate) no_hosts: bool,
    /// Leave the image's /etc/hostname as it is
    #[arg(long)]
    pub(crate) no_hostname: bool,
    /// Set the preference of the kernel when memory is short (-1000 to 1000)
    #[arg(long, value_name = "NUMBER")]
    pub(crate) oom_score_adj: Option<String>,
    /// For this operating system instead of linux
    #[arg(long, value_name = "OS")]
    pub(crate) os: Option<String>,
    /// Show the command another kernel (LINUX, LINUX32: one of 32 bits)
    #[arg(long, value_name = "PERSONA")]
    pub(crate) personality: Option<String>,
    /// Add the user to /etc/passwd and /etc/group where the image does not know it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) passwd: Option<String>,
    /// Add this line to /etc/passwd where it lacks the user; $USERNAME, $UID, $GID, $NAME and $HOME are filled in
    #[arg(long, value_name = "LINE")]
    pub(crate) passwd_entry: Option<String>,
    /// Choose the PID namespace: private, host, container:NAME
    #[arg(long, value_name = "MODE")]
    pub(crate) pid: Option<String>,
    /// Write the process id of the first process to this file while it runs
    #[arg(long, value_name = "FILE")]
    pub(crate) pidfile: Option<String>,
    /// Be in a pod, or in one that is made for it (new:NAME)
    #[arg(long, value_name = "POD")]
    pub(crate) pod: Option<String>,
    /// Be in the pod whose id is in this file
    #[arg(long, value_name = "FILE", conflicts_with = "pod")]
    pub(crate) pod_id_file: Option<String>,
    /// Choose the platform of the image
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
    /// Give all capabilities of your user namespace and all of the host's devices that you may open
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Publish a port or a range of them on the host: 8080:80, 127.0.0.1:53:53/udp, or 80 for any that is free
    #[arg(long, short = 'p', value_name = "[[IP:]HOST:]CONTAINER[/PROTOCOL]")]
    pub(crate) publish: Vec<String>,
    /// Publish all exposed ports, each on a free port of the host
    #[arg(long, short = 'P')]
    pub(crate) publish_all: bool,
    /// Pull the image: always, missing, never or newer
    #[arg(long, value_name = "POLICY")]
    pub(crate) pull: Option<String>,
    /// Say nothing about pulling
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
    /// Make the root file system read-only
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Have writable /tmp, /run and /var/tmp with --read-only
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) read_only_tmpfs: Option<String>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    /// Remove a container that has the name already
    #[arg(long)]
    pub(crate) replace: bool,
    /// Restart the command when it ends: no, on-failure, on-failure:TIMES, always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    pub(crate) restart: Option<String>,
    /// Remove the container when it ends
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) rm: Option<String>,
    /// Use a directory instead of an image (DIR:O for a throw-away overlay over it)
    #[arg(long, value_name = "DIR[:O]")]
    pub(crate) rootfs: Option<String>,
    /// Give it a secret, as a file in /run/secrets or as a variable
    #[arg(long, value_name = "NAME[,type=mount|env,...]")]
    pub(crate) secret: Vec<String>,
    /// Set a security option: no-new-privileges, seccomp=FILE, mask=PATHS, unmask=PATHS
    #[arg(long, value_name = "OPTION")]
    pub(crate) security_opt: Vec<String>,
    /// Set the size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    pub(crate) shm_size: Option<String>,
    /// Stop the container with this signal
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// Kill the container when it has not stopped after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub(crate) stop_timeout: Option<String>,
    /// Set a kernel parameter of the container's namespaces
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) sysctl: Vec<String>,
    /// Make the container ready for systemd as its first process: true (where the command is systemd or /sbin/init), false, always
    #[arg(long, value_name = "BOOL|always")]
    pub(crate) systemd: Option<String>,
    /// Kill the container after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timeout: Option<String>,
    /// Mount a tmpfs
    #[arg(long, value_name = "PATH[:OPTIONS]")]
    pub(crate) tmpfs: Vec<String>,
    /// Allocate a terminal
    #[arg(long, short = 't')]
    pub(crate) tty: bool,
    /// Set the time zone (local for the host's)
    #[arg(long, value_name = "ZONE")]
    pub(crate) tz: Option<String>,
    /// Map user ids of the container to ids of your outer namespace
    #[arg(long, value_name = "INSIDE:OUTSIDE[:LENGTH]")]
    pub(crate) uidmap: Vec<String>,
    /// Set a limit of processes (host for your own limits)
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// Set the file mode creation mask, in octal
    #[arg(long, value_name = "MASK")]
    pub(crate) umask: Option<String>,
    /// Leave out a variable that the image sets
    #[arg(long, value_name = "KEY")]
    pub(crate) unsetenv: Vec<String>,
    /// Leave out all variables that the image sets
    #[arg(long)]
    pub(crate) unsetenv_all: bool,
    /// Run as this user
    #[arg(long, short = 'u', value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Choose the user namespace: host, keep-id[:uid=N,gid=N], nomap, auto[:size=N], container:NAME
    #[arg(long, value_name = "MODE")]
    pub(crate) userns: Option<String>,
    /// Choose the UTS namespace: private, host, container:NAME
    #[arg(long, value_name = "MODE")]
    pub(crate) uts: Option<String>,
    /// For this variant of the architecture
    #[arg(long, value_name = "VARIANT")]
    pub(crate) variant: Option<String>,
    /// Mount a directory or a volume
    #[arg(long, short = 'v', value_name = "[SOURCE:]PATH[:OPTIONS]")]
    pub(crate) volume: Vec<String>,
    /// Mount the volumes of another container
    #[arg(long, value_name = "CONTAINER[:ro]")]
    pub(crate) volumes_from: Vec<String>,
    /// Set the working directory
    #[arg(long, short = 'w', value_name = "PATH")]
    pub(crate) workdir: Option<String>,
}
