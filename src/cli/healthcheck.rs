//! `healthcheck run`, podman's.

use super::ui;
use crate::engine::Engine;
use crate::error::Result;
use crate::types::health::HealthStatus;
use clap::Args;

/// Podman's exit code of a check that failed.
const UNHEALTHY: u8 = 1;

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Exit with 0 whatever comes of the check
    #[arg(long)]
    ignore_result: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
}

/// Checks a container's health now: 0 where it is healthy, 1 where not.
///
/// # Errors
/// `Invalid` where the container has no check, `Conflict` where it does not run.
pub(crate) fn run(args: RunArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let checked = engine.check_health(&engine.resolve(&args.container)?)?;
    if checked.passed {
        return Ok(0);
    }
    // Podman's word is of this check, docker's status of several.
    let starting = checked.status == HealthStatus::Starting && checked.is_spared;
    ui::line(if starting { HealthStatus::Starting } else { HealthStatus::Unhealthy }.name())?;
    Ok(if args.ignore_result { 0 } else { UNHEALTHY })
}
