//! Names, digests and ids to entries. Pure: it reads no files.

use super::store::Entry;
use crate::error::{Error, Result};
use crate::types::digest::Digest;
use crate::types::reference::{Reference, has_domain, is_name_only};

/// What a name that a user wrote stands for among the entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Position of the entry, and the reference under which it was found.
    Name(usize, Reference),
    /// By image id, prefix of one, or digest: the positions of all entries of that image.
    Image(Vec<usize>),
    Nothing,
}

/// Finds `text`: a digest or full id, then a reference, then the same below
/// `localhost/` where no registry was named, then a prefix of an image id.
///
/// # Errors
/// `Invalid` where it can be no name at all, `Conflict` where an id prefix fits
/// several images.
pub(crate) fn find(entries: &[Entry], text: &str) -> Result<Found> {
    let whole = Digest::parse(text).or_else(|_| Digest::from_hex(text));
    if let Ok(digest) = whole {
        let of_image = positions(entries, |entry| {
            entry.image_id().as_ref() == Some(&digest)
                || entry.manifest_digest() == digest
                || entry.source_digest() == digest
        });
        return Ok(if of_image.is_empty() { Found::Nothing } else { Found::Image(of_image) });
    }
    let reference = Reference::parse(text);
    if let Ok(reference) = &reference {
        if let Some(found) = by_reference(entries, reference) {
            return Ok(found);
        }
        if !has_domain(text) {
            let local = Reference::parse(&format!("localhost/{text}"))?;
            if let Some(found) = by_reference(entries, &local) {
                return Ok(found);
            }
            // Pulled by this name, through a search or an alias.
            let short = reference.familiar();
            if let Some(at) = entries.iter().position(|entry| entry.short_name() == Some(&short))
                && let Some(name) = entries[at].name()
            {
                return Ok(Found::Name(at, name));
            }
        }
    }
    let prefix = text.strip_prefix("sha256:").unwrap_or(text);
    if !prefix.is_empty() && prefix.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return by_prefix(entries, prefix);
    }
    reference.map(|_| Found::Nothing)
}

/// Positions of all entries of the repository that `text` names; none where it
/// has a tag or a digest, or nothing here is of it. Looked for as [`find`] does.
pub(crate) fn of_repository(entries: &[Entry], text: &str) -> Vec<usize> {
    let Some(wanted) = Reference::parse(text).ok().filter(|_| is_name_only(text)) else { return Vec::new() };
    let all = |repository: &str| {
        positions(entries, |entry| entry.name().is_some_and(|name| name.repository() == repository))
    };
    let found = all(&wanted.repository());
    if !found.is_empty() || has_domain(text) {
        return found;
    }
    let found = all(&format!("localhost/{text}"));
    if !found.is_empty() {
        return found;
    }
    // Pulled by this name, through a search or an alias.
    let short = |entry: &&Entry| {
        let short = entry.short_name().and_then(|short| Reference::parse(short).ok());
        short.is_some_and(|short| short.repository() == wanted.repository())
    };
    let name = entries.iter().find(short).and_then(Entry::name);
    name.map(|name| all(&name.repository())).unwrap_or_default()
}

fn by_reference(entries: &[Entry], wanted: &Reference) -> Option<Found> {
    let kept = wanted.clone().without_moot_tag();
    let full = kept.to_string();
    if let Some(at) = entries.iter().position(|entry| entry.name_text() == Some(&full)) {
        return Some(Found::Name(at, wanted.clone()));
    }
    // Not written by coracle: a short name, or one with another spelling.
    let same = |entry: &Entry| entry.name().is_some_and(|name| name == kept);
    if let Some(at) = entries.iter().position(same) {
        return Some(Found::Name(at, wanted.clone()));
    }
    // `name@digest`: any tag of the repository that has the content.
    let digest = wanted.digest.as_ref()?;
    let has_content = |entry: &Entry| {
        (entry.manifest_digest() == *digest || entry.source_digest() == *digest)
            && entry.name().is_some_and(|name| name.domain == wanted.domain && name.path == wanted.path)
    };
    entries.iter().position(has_content).map(|at| Found::Name(at, wanted.clone()))
}

fn by_prefix(entries: &[Entry], prefix: &str) -> Result<Found> {
    let fits = |entry: &Entry| entry.image_id().is_some_and(|id| id.hex().starts_with(prefix));
    let found = positions(entries, fits);
    let mut ids: Vec<Digest> = found.iter().filter_map(|at| entries[*at].image_id()).collect();
    ids.sort();
    ids.dedup();
    match ids.as_slice() {
        [] => Ok(Found::Nothing),
        [_] => Ok(Found::Image(found)),
        several => {
            Err(Error::conflict(format!("{} images have an id that begins with {prefix:?}", several.len()))
                .hint("give more digits of the id"))
        }
    }
}

fn positions(entries: &[Entry], fits: impl Fn(&Entry) -> bool) -> Vec<usize> {
    entries.iter().enumerate().filter(|(_, entry)| fits(entry)).map(|(at, _)| at).collect()
}

/// Gives `entry` the name `name`: an entry that had it loses it, and goes
/// altogether where another entry keeps its image known. Whose entry goes keeps
/// its former names at another.
pub(crate) fn assign(entries: &mut Vec<Entry>, mut entry: Entry, name: Option<&Reference>) {
    let name = name.cloned().map(Reference::without_moot_tag);
    entry.set_name(name.as_ref());
    let manifest = entry.manifest_digest();
    if let Some(name) = name {
        let full = name.to_string();
        // A digest may stand there with a tag, of an earlier version.
        let has = |old: &Entry| {
            old.name_text() == Some(&full) || name.digest.is_some() && old.name().as_ref() == Some(&name)
        };
        if let Some(at) = entries.iter().position(has) {
            let mut old = entries.remove(at);
            if old.manifest_digest() == manifest {
                entry.remember(former(&old));
            } else {
                old.set_name(None);
                match entries.iter_mut().find(|other| other.manifest_digest() == old.manifest_digest()) {
                    Some(other) => other.remember(former(&old)),
                    None => entries.push(old),
                }
            }
        }
        // A nameless entry of the same image is now superfluous.
        entries.retain(|old| {
            let stays = old.name_text().is_some() || old.manifest_digest() != manifest;
            if !stays {
                entry.remember(former(old));
            }
            stays
        });
    } else if let Some(other) = entries.iter_mut().find(|old| old.manifest_digest() == manifest) {
        other.remember(former(&entry));
        return;
    }
    entries.push(entry);
}

fn former(entry: &Entry) -> Vec<String> {
    entry.former_names().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::manifest::{Descriptor, OCI_MANIFEST};

    /// An image whose id begins with `id`.
    fn entry(id: &str, name: Option<&str>) -> Entry {
        let id = format!("sha256:{id:0<64}");
        let mut descriptor = Descriptor::new(OCI_MANIFEST, Digest::of(id.as_bytes()), 1);
        descriptor.annotations.insert("dev.coracle.image.id".into(), id);
        let mut entry = Entry(descriptor);
        entry.set_name(name.map(|name| Reference::parse(name).expect("valid")).as_ref());
        entry
    }

    #[test]
    fn every_way_to_name_an_image_finds_it() {
        let entries = [
            entry("abc1", Some("nginx")),
            entry("abc2", Some("quay.io/a/b:1")),
            entry("abc2", Some("localhost/mine:2")),
            entry("ffff", None),
        ];
        let name = |text: &str| match find(&entries, text) {
            Ok(Found::Name(at, _)) => at,
            other => panic!("{text}: {other:?}"),
        };
        for text in ["nginx", "nginx:latest", "docker.io/library/nginx", "library/nginx"] {
            assert_eq!(name(text), 0, "{text}");
        }
        assert_eq!(name("quay.io/a/b:1"), 1);
        assert_eq!(name("mine:2"), 2);
        assert_eq!(name(&format!("nginx@{}", entries[0].0.digest)), 0);
        let found = |text: &str| find(&entries, text).expect(text);
        assert_eq!(found("abc2"), Found::Image(vec![1, 2]));
        assert_eq!(found("sha256:ff"), Found::Image(vec![3]));
        assert_eq!(found(&format!("{:0<64}", "abc1")), Found::Image(vec![0]));
        assert_eq!(found(&entries[3].0.digest.to_string()), Found::Image(vec![3]));
        for missing in ["b:1", "nginx:2", "evil.io/nginx", "a/b:1", "0", &"0".repeat(64)] {
            assert_eq!(found(missing), Found::Nothing, "{missing}");
        }
        assert_eq!(find(&entries, "abc").expect_err("ambiguous").kind(), crate::error::Kind::Conflict);
        assert!(find(&entries, "No/Such:").is_err());
    }

    #[test]
    fn a_tag_beside_a_digest_is_no_name() {
        let mut entries = vec![];
        let image = entry("a", None);
        let written = format!("quay.io/app:1@{}", image.0.digest);
        let name = Reference::parse(&written).expect("valid");
        // As versions before kept it.
        let mut old = image.clone();
        old.set_name(Some(&name));
        entries.push(old);
        assert_eq!(entries[0].name().expect("a name").tag, None);
        assign(&mut entries, image, Some(&name));
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].name_text(), Some(written.replace(":1", "").as_str()));
        assert_eq!(find(&entries, &written).expect("found"), Found::Name(0, name));
        assert_eq!(find(&entries, "quay.io/app:1").expect("no tag"), Found::Nothing);
    }

    #[test]
    fn a_name_without_a_registry_is_found_again() {
        let mut entries = vec![];
        let name = Reference::parse("quay.io/team/app:2").expect("valid");
        assign(&mut entries, entry("a", None), Some(&name));
        entries[0].set_short_name("app:2");
        assert_eq!(find(&entries, "app:2").expect("found"), Found::Name(0, name));
        assert_eq!(find(&entries, "app").expect("no tag"), Found::Nothing);
        // A second name is not what was typed.
        let second = entries[0].clone();
        assign(&mut entries, second, Some(&Reference::parse("other.io/x").expect("valid")));
        assert_eq!(entries.iter().filter(|entry| entry.short_name().is_some()).count(), 1);
        // What is called so by its own name goes before.
        assign(&mut entries, entry("b", None), Some(&Reference::parse("app:2").expect("valid")));
        assert_eq!(
            find(&entries, "app:2").expect("found"),
            Found::Name(2, Reference::parse("app:2").expect("valid"))
        );
    }

    #[test]
    fn a_moved_tag_leaves_a_nameless_image() {
        let mut entries = vec![];
        let name = Reference::parse("app").expect("valid");
        let names = |entries: &[Entry]| entries.iter().map(|e| e.name_text().is_some()).collect::<Vec<_>>();
        assign(&mut entries, entry("a", None), Some(&name));
        assign(&mut entries, entry("b", None), Some(&name));
        assert_eq!(names(&entries), [false, true]);
        assign(&mut entries, entry("b", None), Some(&name));
        assert_eq!(names(&entries), [false, true], "the same again changes nothing");
        assign(&mut entries, entry("b", None), None);
        assert_eq!(entries.len(), 2);
        assign(&mut entries, entry("a", None), Some(&Reference::parse("old").expect("valid")));
        assert_eq!(names(&entries), [true, true]);
    }

    #[test]
    fn former_names_are_kept_with_the_image() {
        let mut entries = vec![];
        let name = |text: &str| Reference::parse(text).expect("valid");
        assign(&mut entries, entry("a", None), Some(&name("one")));
        assign(&mut entries, entry("b", None), Some(&name("one")));
        let all = |entries: &[Entry]| {
            entries
                .iter()
                .map(|entry| (entry.name_text().map(str::to_owned), former(entry).join(" ")))
                .collect::<Vec<_>>()
        };
        let one = "docker.io/library/one:latest";
        assert_eq!(all(&entries), [(None, one.to_owned()), (Some(one.to_owned()), String::new())]);
        assign(&mut entries, entry("a", None), Some(&name("two")));
        assert_eq!(all(&entries)[1], (Some("docker.io/library/two:latest".into()), one.to_owned()));
    }
}
