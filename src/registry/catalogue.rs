//! Which repositories a registry has: the catalogue of the distribution
//! protocol, and docker hub's search, as the hub has no catalogue.
//!
//! Source: distribution `spec/api.md` "Catalog"; the hub's `v1/search`.

use super::auth::percent_encode;
use super::client::{Client, Target, header};
use super::http::{Origin, parse_url, read_bounded};
use crate::error::{Context, Error, Result};
use crate::types::reference::Reference;
use serde::Deserialize;
use std::ops::ControlFlow;

/// Bytes of a page of names.
const PAGE_MAX: u64 = 4 << 20;
/// Pages that are read: with the usual 100 names, of 100,000 repositories.
const PAGES_MAX: usize = 1000;
/// What the hub gives at once.
pub(crate) const HUB_PAGE: usize = 100;

/// A repository as docker hub tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct HubRepository {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) star_count: u64,
    pub(crate) is_official: bool,
    pub(crate) is_automated: bool,
}

impl Client {
    /// Gives the names of all repositories to `take` until it has enough. What
    /// cannot be the name of a repository is left out.
    ///
    /// # Errors
    /// `NotFound` where the registry shows no catalogue.
    pub(crate) fn catalogue(&self, take: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<()> {
        let registry = &self.endpoint.registry;
        let what = format!("catalogue of {registry}");
        let mut path = "_catalog".to_owned();
        for _ in 0..PAGES_MAX {
            let page = self.with_retries(|| {
                let response = self.get(Target::Registry(&path), "application/json")?;
                let response = self.expect(&what, response, &[200, 404, 405, 501])?;
                if response.status() != 200 {
                    return Ok(None);
                }
                let next = header(&response, "link").and_then(next_query);
                Ok(Some((read_bounded(response, PAGE_MAX)?, next)))
            })?;
            let (bytes, next) = page.ok_or_else(|| {
                Error::not_found(format!("{registry} shows no catalogue of its repositories"))
                    .hint(format!("ask for one by its name: `coracle search --list-tags {registry}/NAME`"))
            })?;
            let page: Catalogue = serde_json::from_slice(&bytes).context(|| format!("read the {what}"))?;
            for name in page.repositories.into_iter().flatten() {
                if is_repository(&name) && take(&name).is_break() {
                    return Ok(());
                }
            }
            let Some(query) = next else { return Ok(()) };
            let next = format!("_catalog?{query}");
            // A registry that gives the same page for ever.
            if next == path {
                return Ok(());
            }
            path = next;
        }
        Ok(())
    }

    /// One page, from 1 on, of what docker hub finds; empty behind the last.
    ///
    /// # Errors
    /// `Failed` where the hub cannot be reached.
    pub(crate) fn search_hub(&self, term: &str, page: usize) -> Result<Vec<HubRepository>> {
        let path = format!("v1/search?q={}&n={HUB_PAGE}&page={page}", percent_encode(term));
        let answer = self.with_retries(|| {
            let response = self.get(Target::Hub(&path), "application/json")?;
            let response = self.expect("search", response, &[200])?;
            read_bounded(response, PAGE_MAX)
        })?;
        let answer: HubAnswer = serde_json::from_slice(&answer).context(|| "read docker hub's answer")?;
        let found = answer.results.into_iter();
        Ok(found.filter(|repository| is_repository(&repository.name)).collect())
    }
}

/// Whether it may be shown, and become part of a name.
fn is_repository(name: &str) -> bool {
    !name.contains([':', '@']) && Reference::parse(&format!("localhost/{name}")).is_ok()
}

/// The query of the next page. Its path is ours, whatever the registry says: a
/// page is never fetched from a place that it chooses.
fn next_query(link: &str) -> Option<String> {
    let of_relation = |link: &&str| {
        let mut parameters = link.split(';').skip(1).map(str::trim);
        parameters.any(|parameter| matches!(parameter, "rel=\"next\"" | "rel=next"))
    };
    let link = link.split(',').find(of_relation)?;
    let target = link.trim().strip_prefix('<')?.split('>').next()?;
    let (_, query) = target.split_once('?')?;
    // Parsed as part of a URL, which refuses blanks and line ends.
    let url = parse_url(&format!("https://registry.invalid/v2/_catalog?{query}")).ok()?;
    Origin::of(&url).ok()?;
    url.query().filter(|query| !query.is_empty()).map(str::to_owned)
}

#[derive(Deserialize)]
struct Catalogue {
    repositories: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct HubAnswer {
    #[serde(default)]
    results: Vec<HubRepository>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_query_of_a_link_is_followed() {
        let query = |link: &str| next_query(link);
        assert_eq!(query("</v2/_catalog?last=b&n=2>; rel=\"next\"").as_deref(), Some("last=b&n=2"));
        assert_eq!(query("</v2/_catalog?n=2&last=a%2Fb>;rel=next").as_deref(), Some("n=2&last=a%2Fb"));
        assert_eq!(query("<https://evil.test/steal?token=1>; rel=\"next\"").as_deref(), Some("token=1"));
        assert_eq!(query("<?next_page=x>; rel=\"next\"").as_deref(), Some("next_page=x"));
        for none in [
            "",
            "</v2/_catalog?n=1>; rel=\"prev\"",
            "</v2/_catalog>; rel=\"next\"",
            "</v2/_catalog?>; rel=\"next\"",
            "</v2/_catalog?a b>; rel=\"next\"",
            "next",
        ] {
            assert_eq!(query(none), None, "{none}");
        }
    }

    #[test]
    fn only_names_of_repositories_are_shown() {
        assert!(is_repository("a/b-c") && is_repository("nginx"));
        for bad in ["", "UP", "../x", "a:tag", "a\u{1b}[31m", "a@b", "a b"] {
            assert!(!is_repository(bad), "{bad}");
        }
    }
}
