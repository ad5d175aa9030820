//! Which images `images` shows.

use crate::engine::images::ImageSummary;
use crate::error::{Error, Result};
use crate::types::boolean;
use crate::types::reference::Reference;
use jiff::Timestamp;

/// Keeps in `chosen` what `filter` lets through.
pub(super) fn apply_filter(filter: &str, all: &[ImageSummary], chosen: &mut Vec<ImageSummary>) -> Result<()> {
    let invalid = || {
        Error::invalid(format!("invalid filter {filter:?}"))
            .hint("filters are dangling=BOOL, reference=PATTERN, label=KEY[=VALUE], id=ID, before=IMAGE, since=IMAGE")
    };
    let (key, value) = filter.split_once('=').ok_or_else(invalid)?;
    let created = || -> Result<Option<Timestamp>> {
        let fits = |image: &&ImageSummary| {
            image.reference.as_ref().is_some_and(|name| matches_name(name, value)) || has_id(image, value)
        };
        all.iter()
            .find(fits)
            .map(|image| image.created)
            .ok_or_else(|| Error::not_found(format!("no such image: {value}")))
    };
    match key {
        "dangling" => {
            let wanted = boolean::parse("dangling", value)?;
            chosen.retain(|image| image.reference.is_none() == wanted);
        }
        "reference" => {
            chosen.retain(|image| image.reference.as_ref().is_some_and(|name| matches_name(name, value)));
        }
        "label" => {
            let (label, text) =
                value.split_once('=').map_or((value, None), |(label, text)| (label, Some(text)));
            chosen.retain(|image| {
                image.labels.get(label).is_some_and(|have| text.is_none_or(|text| have == text))
            });
        }
        "id" => chosen.retain(|image| has_id(image, value)),
        "before" => {
            let limit = created()?;
            chosen.retain(|image| image.created < limit);
        }
        "since" | "after" => {
            let limit = created()?;
            chosen.retain(|image| image.created > limit);
        }
        _ => return Err(invalid()),
    }
    Ok(())
}

fn has_id(image: &ImageSummary, prefix: &str) -> bool {
    !prefix.is_empty() && image.id.hex().starts_with(prefix.strip_prefix("sha256:").unwrap_or(prefix))
}

/// Whether a name fits what was typed: with or without registry and tag, with
/// `*` and `?` (which stop at a slash, as docker's).
pub(super) fn matches_name(name: &Reference, pattern: &str) -> bool {
    let plain = name.repository();
    let short = name.familiar_repository();
    [plain, name.to_string(), short, name.familiar()]
        .iter()
        .any(|text| glob(pattern.as_bytes(), text.as_bytes()))
}

/// Linear in practice: one place to come back to, at the last `*`.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                back = Some((p + 1, t));
                p += 1;
            }
            Some(byte) if *byte == text[t] || *byte == b'?' && text[t] != b'/' => {
                p += 1;
                t += 1;
            }
            _ => match back {
                Some((after, at)) if text[at] != b'/' => {
                    back = Some((after, at + 1));
                    p = after;
                    t = at + 1;
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}
