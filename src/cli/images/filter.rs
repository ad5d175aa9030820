//! Which images `images` shows.

use crate::engine::images::ImageSummary;
use crate::engine::logs::moment;
use crate::error::{Error, Result};
use crate::types::digest::Digest;
use crate::types::filter::{self, LabelFilter};
use crate::types::reference::Reference;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Keeps in `chosen` what the filters let through: several of `reference` and
/// `id` are alternatives, all else must hold.
pub(super) fn apply_filters(
    filters: &[String],
    all: &[ImageSummary],
    chosen: &mut Vec<ImageSummary>,
    is_used: &dyn Fn(&Digest) -> bool,
) -> Result<()> {
    let (mut references, mut ids) = (Vec::new(), Vec::new());
    for (key, value) in filter::split_all(filters)? {
        let created = || -> Result<Option<Timestamp>> {
            let fits = |image: &&ImageSummary| is_named(image, value) || has_id(image, value);
            all.iter()
                .find(fits)
                .map(|image| image.created)
                .ok_or_else(|| Error::not_found(format!("no such image: {value}")))
        };
        let wanted = || filter::boolean(&key, value);
        match key.as_str() {
            "dangling" => {
                let wanted = wanted()?;
                chosen.retain(|image| image.reference.is_none() == wanted);
            }
            "reference" => references.push(value),
            "label" | "label!" => {
                let label = LabelFilter::new(value, key == "label");
                chosen.retain(|image| label.holds(&image.labels));
            }
            "id" => ids.push(value),
            "digest" | "manifest" => {
                let prefix = value.strip_prefix("sha256:").unwrap_or(value);
                chosen.retain(|image| image.digest.hex().starts_with(prefix));
            }
            "before" => {
                let limit = created()?;
                chosen.retain(|image| image.created < limit);
            }
            "since" | "after" => {
                let limit = created()?;
                chosen.retain(|image| image.created > limit);
            }
            "until" => {
                let limit = moment::parse(value, Timestamp::now(), TimeZone::system)?;
                chosen.retain(|image| image.created.is_none_or(|created| created <= limit));
            }
            "containers" => {
                let wanted = wanted()?;
                chosen.retain(|image| is_used(&image.id) == wanted);
            }
            // There are neither: each image was pulled, loaded, made, into a store that can be written.
            "intermediate" | "readonly" => {
                if wanted()? {
                    chosen.clear();
                }
            }
            _ => {
                return Err(filter::unknown(
                    &key,
                    "dangling, reference, label, label!, id, digest, before, since, until, containers, \
                     intermediate, readonly",
                ));
            }
        }
    }
    chosen.retain(|image| references.is_empty() || references.iter().any(|pattern| is_named(image, pattern)));
    chosen.retain(|image| ids.is_empty() || ids.iter().any(|id| has_id(image, id)));
    Ok(())
}

/// Podman's `--sort`.
///
/// # Errors
/// `Invalid` for another field.
pub(super) fn sort(images: &mut [ImageSummary], field: &str) -> Result<()> {
    let name = |image: &ImageSummary| image.reference.as_ref().map(Reference::familiar_repository);
    let tag = |image: &ImageSummary| image.reference.as_ref().and_then(|name| name.tag.clone());
    match field {
        "created" => images.sort_by_key(|image| std::cmp::Reverse(image.created)),
        "id" => images.sort_by(|a, b| a.id.cmp(&b.id)),
        "repository" => images.sort_by_key(name),
        "size" => images.sort_by_key(|image| image.size),
        "tag" => images.sort_by_key(tag),
        _ => {
            return Err(Error::invalid(format!("invalid value {field:?} of --sort"))
                .hint("it is one of created, id, repository, size and tag"));
        }
    }
    Ok(())
}

fn has_id(image: &ImageSummary, prefix: &str) -> bool {
    !prefix.is_empty() && image.id.hex().starts_with(prefix.strip_prefix("sha256:").unwrap_or(prefix))
}

/// Whether its name fits what was typed, or what was typed is its digest in the
/// repository.
pub(super) fn is_named(image: &ImageSummary, pattern: &str) -> bool {
    let Some(name) = &image.reference else { return false };
    let by_digest = || {
        let wanted = Reference::parse(pattern).ok().filter(|_| pattern.contains('@'));
        wanted.is_some_and(|wanted| {
            wanted.repository() == name.repository() && wanted.digest.as_ref() == Some(&image.digest)
        })
    };
    matches_name(name, pattern) || by_digest()
}

/// Whether a name fits what was typed: with or without registry and tag, with
/// `*` and `?` (which stop at a slash, as docker's).
fn matches_name(name: &Reference, pattern: &str) -> bool {
    let names = [name.repository(), name.to_string(), name.familiar_repository(), name.familiar()];
    // Commands find those without their registry, which is none.
    let local = names.iter().filter_map(|text| text.strip_prefix("localhost/"));
    names.iter().map(String::as_str).chain(local).any(|text| glob(pattern.as_bytes(), text.as_bytes()))
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
