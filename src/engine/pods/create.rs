//! `pod create`: a record, and the container that holds what is shared.

use crate::engine::remove::RemoveOptions;
use crate::engine::{Engine, id_file, names};
use crate::error::{BestEffort, Context, Error, Result};
use crate::state::pods::{Making, POD_VERSION};
use crate::types::container::{ContainerConfig, CreateRequest, LogConfig, LogDriver, RootSource};
use crate::types::id::{ContainerId, check_name};
use crate::types::limits::Limits;
use crate::types::pod::{ExitPolicy, PodDefaults, PodRecord, Share};
use crate::types::progress::Report;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Bytes of a host name: `HOST_NAME_MAX` of limits.h.
const MAX_HOSTNAME: usize = 64;

/// What `pod create` asks for.
#[derive(Clone, Debug)]
pub(crate) struct PodRequest {
    /// A random readable name where `None`.
    pub(crate) name: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) shares: BTreeSet<Share>,
    pub(crate) infra: bool,
    pub(crate) infra_name: Option<String>,
    /// What the infra container is to have: networks, ports, names; and what the
    /// others have from it: mounts, devices, the user namespace.
    pub(crate) config: ContainerConfig,
    pub(crate) exit_policy: ExitPolicy,
    pub(crate) limits: Limits,
    pub(crate) defaults: PodDefaults,
    pub(crate) cgroup_parent: Option<String>,
    /// Remove a pod that has the name already.
    pub(crate) replace: bool,
    /// `--pod-id-file`: must not exist yet.
    pub(crate) id_file: Option<PathBuf>,
    pub(crate) command: Vec<String>,
}

impl Engine {
    /// Records a pod. Nothing runs yet. `tell` hears of remarks.
    ///
    /// # Errors
    /// `Conflict` where a name is taken.
    pub(crate) fn create_pod(&self, request: &PodRequest, tell: &mut dyn FnMut(Report)) -> Result<PodRecord> {
        self.sweep_pods()?;
        if let Some(name) = &request.name {
            check_name("pod", name)?;
            self.check_free(name)?;
        }
        let make = || self.make_pod(request, tell);
        id_file::with("pod id file", request.id_file.as_deref(), make, |pod| pod.id.as_str())
    }

    /// Podman's pods and containers have no name in common.
    fn check_free(&self, name: &str) -> Result<()> {
        match self.store.resolve(name).and_then(|id| self.store.record(&id)) {
            Ok(record) if record.name == name => Err(Error::conflict(format!(
                "name {name:?} is already in use by container {}",
                record.id.short()
            ))
            .hint("choose another name, or rename that container")),
            _ => Ok(()),
        }
    }

    fn make_pod(&self, request: &PodRequest, tell: &mut dyn FnMut(Report)) -> Result<PodRecord> {
        let pods = self.pod_store();
        if let (Some(name), true) = (&request.name, request.replace) {
            match pods.find(name) {
                Ok(old) if old.name == *name => self.remove_pod(&old, &RemoveOptions::by_force())?,
                _ => {}
            }
        }
        let making = pods.begin()?;
        let mut record = self.prepare_pod(request, &making)?;
        let made = self.make_infra(request, &mut record, tell).and_then(|()| {
            pods.amend(&record, &making)?;
            pods.publish(&record.id, &making)
        });
        made.inspect_err(|_| {
            self.remove_members(&record.id, &RemoveOptions::by_force()).or_ignore();
            pods.abandon(&record.id, &making);
        })?;
        drop(making);
        self.note_pod(&record, "create");
        Ok(record)
    }

    fn prepare_pod(&self, request: &PodRequest, making: &Making) -> Result<PodRecord> {
        let pods = self.pod_store();
        let mut random = [0; 32];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .context(|| "get random bytes for the id")?;
        let mut record = PodRecord {
            version: POD_VERSION,
            id: ContainerId::from_bytes(random),
            name: request.name.clone().unwrap_or_default(),
            created: Timestamp::now(),
            labels: request.labels.clone(),
            shares: if request.infra { request.shares.clone() } else { BTreeSet::new() },
            infra: None,
            exit_policy: request.exit_policy,
            limits: request.limits.clone(),
            cgroup_parent: request.cgroup_parent.clone(),
            defaults: request.defaults.clone(),
            command: request.command.clone(),
            removing: false,
        };
        if request.name.is_some() {
            pods.prepare(&record, making)?;
            return Ok(record);
        }
        names::with_random(|name| {
            record.name = name;
            self.check_free(&record.name)?;
            pods.prepare(&record, making)
        })?;
        Ok(record)
    }

    fn make_infra(
        &self,
        request: &PodRequest,
        pod: &mut PodRecord,
        tell: &mut dyn FnMut(Report),
    ) -> Result<()> {
        if !request.infra {
            return Ok(());
        }
        let name = request.infra_name.clone().unwrap_or_else(|| format!("{}-infra", pod.id.short()));
        let request = CreateRequest {
            source: RootSource::Nothing,
            name: Some(name),
            config: infra_config(pod, &request.config),
            ..CreateRequest::default()
        };
        pod.infra = Some(self.create(&request, tell).map_err(|error| error.context("the infra container"))?);
        Ok(())
    }
}

/// What holds a pod's namespaces needs no power, no files and no log.
fn infra_config(pod: &PodRecord, asked: &ContainerConfig) -> ContainerConfig {
    // Podman's: the pod's name, as far as the kernel takes it.
    let hostname = asked.hostname.clone().unwrap_or_else(|| pod.name.chars().take(MAX_HOSTNAME).collect());
    ContainerConfig {
        hostname: Some(hostname),
        pod: Some(pod.reference()),
        infra: true,
        labels: pod.labels.clone(),
        cap_drop: vec!["ALL".into()],
        no_new_privileges: true,
        read_only: true,
        read_only_tmpfs: Some(false),
        log: LogConfig { driver: LogDriver::None, ..LogConfig::default() },
        ..asked.clone()
    }
}
