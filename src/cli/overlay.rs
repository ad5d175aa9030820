//! `overlay`: the FUSE overlay as a program of its own, with fuse-overlayfs'
//! words. Hidden: for `storage.conf`'s `mount_program`, measurements and tests.

use crate::engine::overlay::OverlayMount;
use crate::error::{BestEffort, Context, Error, Result};
use clap::Args;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

#[derive(Args, Debug)]
pub(crate) struct OverlayArgs {
    /// lowerdir=A:B,upperdir=U,workdir=W and others of fuse-overlayfs
    #[arg(short = 'o', value_name = "OPTIONS", required = true)]
    options: Vec<String>,
    /// Stay in the foreground
    #[arg(short = 'f', long)]
    foreground: bool,
    /// Say `ready` on stdout once it is mounted, and close it
    #[arg(long, hide = true)]
    announce: bool,
    #[arg(value_name = "MOUNTPOINT", required = true)]
    point: String,
}

/// Mounts an overlay; serves it until it is unmounted.
///
/// # Errors
/// Where it cannot be mounted.
pub(crate) fn run(args: OverlayArgs) -> Result<u8> {
    if !args.foreground {
        return in_background(&args);
    }
    let mut mount = OverlayMount::default();
    for words in &args.options {
        mount.take(words)?;
    }
    let announce = args.announce;
    mount.serve(Path::new(&args.point), || {
        if announce {
            super::ui::write(b"ready").or_ignore();
            super::ui::let_go_of_output().or_ignore();
        }
    })?;
    Ok(0)
}

/// Runs this again as a process that stays, and waits until it has mounted.
fn in_background(args: &OverlayArgs) -> Result<u8> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("overlay").args(["-f", "--announce"]);
    for words in &args.options {
        command.arg("-o").arg(words);
    }
    command.arg(&args.point).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut server = command.spawn().context(|| "start the overlay's server")?;
    let mut said = String::new();
    if let Some(mut stdout) = server.stdout.take() {
        stdout.read_to_string(&mut said).context(|| "wait for the overlay's server")?;
    }
    if said == "ready" {
        return Ok(0);
    }
    let status = server.wait().context(|| "wait for the overlay's server")?;
    match status.code() {
        // It has said why.
        Some(code) => Ok(u8::try_from(code).unwrap_or(1).max(1)),
        None => Err(Error::failed(format!("the overlay's server ended: {status}"))),
    }
}
