//! `container clone`: a container like another.

use super::Engine;
use super::remove::RemoveOptions;
use super::trees::no_files;
use crate::error::{Error, Kind, Result};
use crate::types::container::{CreateRequest, PullPolicy, RecordedRoot, RootSource};
use crate::types::id::ContainerId;
use crate::types::limits::Limits;
use crate::types::mount::MountSource;
use crate::types::progress::Report;
use crate::types::status::Status;

/// Names that are tried before giving up.
const NAME_TRIES: u32 = 1000;

/// `container clone`'s flags.
#[derive(Clone, Debug, Default)]
pub(crate) struct CloneOptions {
    /// The other's name and `-clone` where `None`.
    pub(crate) name: Option<String>,
    /// Another image than the other's.
    pub(crate) image: Option<String>,
    /// Remove the original.
    pub(crate) destroy: bool,
    /// Even if it runs.
    pub(crate) force: bool,
    /// Over the original's.
    pub(crate) limits: Limits,
}

impl Engine {
    /// Makes a container with the same settings. Named volumes are shared, those
    /// of its own made anew; its files begin as the image's.
    ///
    /// # Errors
    /// `Conflict` where the original runs and is to be removed without force.
    pub(crate) fn clone_container(
        &self,
        id: &ContainerId,
        options: &CloneOptions,
        tell: &mut dyn FnMut(Report),
    ) -> Result<ContainerId> {
        let snapshot = self.snapshot(id)?;
        let record = snapshot.record;
        let up = matches!(snapshot.status, Status::Running { .. } | Status::Restarting { .. });
        if options.destroy && up && !options.force {
            return Err(Error::conflict(format!("container {} is running", record.name))
                .hint("stop it first, or add --force"));
        }
        let mut config = record.config.clone();
        for mount in &mut config.mounts {
            if matches!(&mount.source, MountSource::Volume { name } if record.anonymous_volumes.contains(name))
            {
                mount.source = MountSource::Anonymous;
            }
        }
        config.limits = config.limits.updated(&options.limits);
        config.limits.check()?;
        // They are among the mounts already.
        config.volumes_from.clear();
        config.id_file = None;
        if options.image.is_some() {
            config.image.clear();
        }
        let source = match (&options.image, &record.root) {
            (Some(image), _) => RootSource::Image(image.clone()),
            // By its id: the name may belong to another image by now.
            (None, RecordedRoot::Image { id, .. }) => RootSource::Image(id.to_string()),
            (None, RecordedRoot::Directory { path, overlay }) => {
                RootSource::Directory { path: path.clone(), overlay: *overlay }
            }
            (None, RecordedRoot::Nothing) => return Err(no_files(&record)),
        };
        let mut request =
            CreateRequest { source, config, pull: PullPolicy::Missing, ..CreateRequest::default() };
        let mut made = None;
        for attempt in 0..NAME_TRIES {
            request.name = Some(match (&options.name, attempt) {
                (Some(name), _) => name.clone(),
                (None, 0) => format!("{}-clone", record.name),
                (None, number) => format!("{}-clone{number}", record.name),
            });
            match self.create(&request, tell) {
                Err(error) if error.kind() == Kind::Conflict && options.name.is_none() => {}
                result => {
                    made = Some(result?);
                    break;
                }
            }
        }
        let made = made.ok_or_else(|| {
            Error::conflict(format!("no free name like {}-clone was found", record.name))
                .hint("give one with --name")
        })?;
        if options.destroy {
            self.remove(id, &RemoveOptions { force: options.force, volumes: false, time: None })?;
        }
        Ok(made)
    }
}
