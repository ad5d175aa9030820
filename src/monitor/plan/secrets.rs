//! Secrets of the container: read from the store at each start, handed to init
//! in memory, and put on a tmpfs there. They are never on disk beside the
//! store, and in no record.

use super::Context as PlanContext;
use crate::error::{Error, Kind, Result};
use crate::runtime::plan::{Mount, MountKind, SecretFile};
use crate::state::secrets::Secrets;
use crate::sys::mount::{NODEV, NOEXEC, NOSUID};
use crate::types::secret::{SecretTarget, SecretUse};

/// Where docker and podman put them.
const DIRECTORY: &str = "/run/secrets";

fn value(context: &PlanContext<'_>, used: &SecretUse) -> Result<Vec<u8>> {
    let secrets = Secrets::new(context.dirs);
    let found = match secrets.find(&used.id) {
        // Made anew under its name.
        Err(error) if error.kind() == Kind::NotFound => secrets.find(&used.name),
        result => result,
    };
    let secret = found.map_err(|error| error.context("give the container its secrets"))?;
    secrets.value(&secret)
}

/// The mount that has the container's secret files; `None` where there are none.
pub(super) fn mount(context: &PlanContext<'_>) -> Result<Option<Mount>> {
    let mut files = Vec::new();
    for used in &context.record.config.secrets {
        if let SecretTarget::File { path, uid, gid, mode } = &used.target {
            let bytes = value(context, used)?;
            files.push(SecretFile { path: path.clone(), uid: *uid, gid: *gid, mode: *mode, bytes });
        }
    }
    if files.is_empty() {
        return Ok(None);
    }
    let attributes = NOSUID | NODEV | NOEXEC;
    Ok(Some(Mount { target: DIRECTORY.into(), kind: MountKind::Secrets { files }, attributes }))
}

/// `NAME=VALUE` of those that are variables.
pub(super) fn environment(context: &PlanContext<'_>) -> Result<Vec<String>> {
    let mut env = Vec::new();
    for used in &context.record.config.secrets {
        if let SecretTarget::Variable(name) = &used.target {
            let text = String::from_utf8(value(context, used)?).ok().filter(|text| !text.contains('\0'));
            let text = text.ok_or_else(|| {
                Error::invalid(format!("the secret {} is no text and cannot be a variable", used.name))
                    .hint("give it as a file: --secret NAME,type=mount")
            })?;
            env.push(format!("{name}={text}"));
        }
    }
    Ok(env)
}
