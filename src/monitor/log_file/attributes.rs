//! What each record of a json-file log says of its container: docker's `attrs`,
//! by `--log-opt labels=`, `env=` and `tag=`.

use crate::error::{Error, Result};
use crate::types::container::{ContainerRecord, RecordedRoot};
use crate::types::log_tag::{self, Subject};
use crate::types::reference::Reference;
use std::collections::BTreeMap;

/// Bytes of all of them in a record, which is read as one line of bounded length;
/// in JSON each may take six.
const MAX: usize = 16 << 10;

/// The attributes of the container's records, by name; mostly none.
///
/// # Errors
/// `Invalid` where they are too long for a record.
pub(crate) fn attributes(record: &ContainerRecord) -> Result<BTreeMap<String, String>> {
    let config = &record.config;
    let named = |option: &str| {
        let names = config.log.options.get(option).map(String::as_str).unwrap_or_default();
        names.split(',').map(str::trim).filter(|name| !name.is_empty())
    };
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for name in named("labels") {
        all.extend(config.labels.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    for name in named("env") {
        let mut variables = config.env.iter().rev().filter_map(|entry| entry.split_once('='));
        let last = variables.find(|(key, _)| *key == name);
        all.extend(last.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
    if let Some(template) = config.log.options.get("tag").filter(|tag| *tag != log_tag::DEFAULT) {
        all.insert("tag".to_owned(), tag(template, record));
    }
    let length: usize = all.iter().map(|(key, value)| key.len() + value.len() + 6).sum();
    if length > MAX {
        return Err(Error::invalid(format!(
            "--log-opt: {length} bytes of labels and variables would be in each line of the log"
        ))
        .hint(format!("at most {MAX} are possible: name fewer of them")));
    }
    Ok(all)
}

fn tag(template: &str, record: &ContainerRecord) -> String {
    let (image, image_id) = match &record.root {
        RecordedRoot::Image { reference, id, .. } => {
            let short =
                Reference::parse(reference).map_or_else(|_| reference.clone(), |name| name.familiar());
            (short, id.to_string())
        }
        RecordedRoot::Directory { .. } | RecordedRoot::Nothing => (String::new(), String::new()),
    };
    let subject = Subject { id: record.id.as_str(), name: &record.name, image: &image, image_id: &image_id };
    log_tag::of(template, &subject)
}
