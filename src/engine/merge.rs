//! What the image says, under what the user said: docker's rules.

use crate::error::Result;
use crate::image::config::ImageConfig;
use crate::types::container::ContainerConfig;
use crate::types::env::key_of;
use crate::types::mount::{MountOptions, MountSource, MountSpec, clean_target};

/// Fills what the user left open with the image's values.
pub(super) fn merge(config: &mut ContainerConfig, image: &ImageConfig) -> Result<()> {
    let run = &image.config;
    // With an entry point of one's own, the image's arguments make no sense.
    if config.entrypoint.is_none() {
        config.entrypoint.clone_from(&run.entrypoint);
        if config.cmd.is_empty() {
            config.cmd = run.cmd.clone().unwrap_or_default();
        }
    }
    let asked = std::mem::take(&mut config.env);
    let kept = run.env.iter().filter(|entry| {
        let key = key_of(entry);
        !config.unset_env_all && !config.unset_env.iter().any(|unset| unset == key)
    });
    config.env =
        kept.filter(|entry| !asked.iter().any(|other| key_of(other) == key_of(entry))).cloned().collect();
    config.env.extend(asked);
    if config.workdir.is_none() && !run.working_dir.is_empty() {
        config.workdir = Some(clean_target(&absolute(&run.working_dir))?);
    }
    if config.user.is_none() && !run.user.is_empty() {
        config.user = Some(run.user.clone());
    }
    for (key, value) in &run.labels {
        config.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    if config.stop_signal.is_none() {
        config.stop_signal.clone_from(&run.stop_signal);
    }
    if let Some(check) = &run.healthcheck {
        config.health.get_or_insert_default().check.inherit(check);
    }
    for port in &run.exposed_ports {
        if !config.expose.contains(port) {
            config.expose.push(port.clone());
        }
    }
    for volume in &run.volumes {
        // CVE-2022-23648: never above the root.
        let target = clean_target(&absolute(volume))?;
        if config.mounts.iter().all(|mount| mount.target != target) {
            config.mounts.push(MountSpec {
                source: MountSource::Anonymous,
                target,
                options: MountOptions::default(),
            });
        }
    }
    Ok(())
}

/// Images may say `app` for `/app`.
fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}
