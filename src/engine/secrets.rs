//! Secrets: create, list, inspect, remove; and which a container is given.

use super::Engine;
use crate::error::{BestEffort, Error, Kind, Result};
use crate::state::events;
use crate::state::secrets::{Secret, Secrets};
use crate::types::container::ContainerConfig;
use crate::types::event::{Event, EventKind};
use crate::types::secret::{MAX_SECRET, check_name};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What `secret create` asks for.
#[derive(Debug, Default)]
pub(crate) struct SecretRequest {
    pub(crate) name: String,
    pub(crate) value: Vec<u8>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) replace: bool,
}

impl Engine {
    /// Keeps a value under a name.
    ///
    /// # Errors
    /// `Invalid` for a name or value that cannot be one; `Conflict` where the
    /// name is taken.
    pub(crate) fn create_secret(&self, request: SecretRequest) -> Result<Secret> {
        check_name(&request.name)?;
        if request.value.is_empty() || request.value.len() >= MAX_SECRET {
            return Err(Error::invalid(format!(
                "secret data must be larger than 0 and less than {MAX_SECRET} bytes"
            )));
        }
        let SecretRequest { name, value, labels, replace } = request;
        let secret = self.secret_store().create(&name, &value, labels, replace)?;
        self.note_secret(&secret, "create");
        Ok(secret)
    }

    /// All secrets, by name. What cannot be read is told as a note.
    pub(crate) fn secrets(&self, notes: &mut Vec<Error>) -> Result<Vec<Secret>> {
        Ok(self.secret_store().all()?.noting(notes))
    }

    /// The secret with this name, id or beginning of an id.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub(crate) fn secret(&self, word: &str) -> Result<Secret> {
        self.secret_store().find(word)
    }

    /// Podman's document; with its value where that is asked for.
    pub(crate) fn secret_document(&self, secret: &Secret, with_value: bool) -> Result<Value> {
        let mut document = json!({
            "ID": secret.id,
            "CreatedAt": secret.created.to_string(),
            "UpdatedAt": secret.updated.to_string(),
            "Spec": {
                "Name": secret.name,
                "Driver": {"Name": "file", "Options": {}},
                "Labels": secret.labels,
            },
        });
        if with_value {
            let value = self.secret_store().value(secret)?;
            document["SecretData"] = json!(String::from_utf8_lossy(&value));
        }
        Ok(document)
    }

    /// Removes a secret, damaged or not: its id. Containers that use it do not start any
    /// more.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub(crate) fn remove_secret(&self, word: &str) -> Result<String> {
        let store = self.secret_store();
        let secret = match self.secret(word) {
            Err(error) if error.kind() == Kind::Invalid => return store.remove_damaged(word)?.ok_or(error),
            Err(error) if error.kind() == Kind::NotFound && !store.all()?.damaged.is_empty() => {
                // Its name is known to who uses it.
                let records = self.store.records(&mut Vec::new())?;
                let mut used = records.iter().flat_map(|record| &record.config.secrets);
                let id = used.find(|used| used.name == word).map(|used| used.id.as_str());
                return id.map(|id| store.remove_damaged(id)).transpose()?.flatten().ok_or(error);
            }
            result => result?,
        };
        store.remove(&secret)?;
        self.note_secret(&secret, "remove");
        Ok(secret.id)
    }

    /// Notes which secrets a new container is to be given.
    pub(super) fn find_secrets(&self, config: &mut ContainerConfig) -> Result<()> {
        for used in &mut config.secrets {
            used.id = self.secret(&used.name)?.id;
        }
        Ok(())
    }

    fn secret_store(&self) -> Secrets {
        Secrets::new(&self.dirs)
    }

    fn note_secret(&self, secret: &Secret, action: &str) {
        let event = Event::now(EventKind::Secret, action, &secret.id).with("name", &secret.name);
        events::append(&self.dirs, &event).or_ignore();
    }
}
