//! What the image says, under what the user said: docker's rules.

use crate::error::{Error, Result};
use crate::image::config::ImageConfig;
use crate::types::container::{ContainerConfig, ImageVolumes};
use crate::types::env::{key_of, set};
use crate::types::expand::expand;
use crate::types::health::OnFailure;
use crate::types::mount::{MountOptions, MountSource, MountSpec, TmpfsMore, clean_path, clean_target};
use crate::types::port;

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
    merge_environment(config, &run.env)?;
    if config.workdir.is_none() && !run.working_dir.is_empty() {
        config.workdir = Some(clean_path(&absolute(&run.working_dir))?);
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
    let each = |port: &String| port::each_exposed(port).unwrap_or_else(|| vec![port.clone()]);
    port::add_exposed(&mut config.expose, run.exposed_ports.iter().flat_map(each));
    for volume in &run.volumes {
        // CVE-2022-23648: never above the root.
        let target = clean_target(&absolute(volume))?;
        let source = match config.image_volumes {
            ImageVolumes::Anonymous => MountSource::Anonymous,
            ImageVolumes::Tmpfs => MountSource::Tmpfs { size: None, mode: None, more: TmpfsMore::default() },
            ImageVolumes::Ignored => continue,
        };
        if config.mounts.iter().all(|mount| mount.target != target) {
            config.mounts.push(MountSpec { source, target, options: MountOptions::default() });
        }
    }
    Ok(())
}

/// # Errors
/// `Invalid` where something is to be done when a check fails, and there is none:
/// neither of the user's nor of the image's.
pub(super) fn check_health(config: &ContainerConfig) -> Result<()> {
    match &config.health {
        Some(health) if health.on_failure != OnFailure::None && !health.is_active() => Err(Error::invalid(
            format!("cannot set on-failure action to {} without a health check", health.on_failure.name()),
        )
        .hint("give one with --health-cmd")),
        _ => Ok(()),
    }
}

/// The image's variables between those that they go before and those that go before
/// them; without an image there are none.
pub(super) fn merge_environment(config: &mut ContainerConfig, image: &[String]) -> Result<()> {
    let mut merged: Vec<String> = Vec::new();
    for entry in std::mem::take(&mut config.env_below).iter().chain(image) {
        set(&mut merged, entry.clone());
    }
    for text in std::mem::take(&mut config.env_merge) {
        let value_of = |name: &str| {
            merged.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
        };
        let entry = expand(&text, &value_of).map_err(|error| error.context("--env-merge"))?;
        set(&mut merged, entry);
    }
    merged.retain(|entry| {
        !config.unset_env_all && !config.unset_env.iter().any(|unset| unset == key_of(entry))
    });
    for entry in std::mem::take(&mut config.env) {
        set(&mut merged, entry);
    }
    config.env = merged;
    Ok(())
}

/// Images may say `app` for `/app`.
fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}
