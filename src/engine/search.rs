//! `search`: which repositories registries have, and which tags.

use super::registry_access::{RegistryOptions, Settings};
use crate::dirs::Dirs;
use crate::error::{Error, Kind, Result};
use crate::registry::catalogue::HUB_PAGE;
use crate::registry::client::Access;
use crate::registry::config::Endpoint;
use crate::types::filter::{self, bad_value, boolean, unknown};
use crate::types::reference::{DEFAULT_DOMAIN, has_domain};
use std::ops::ControlFlow;

/// Pages of docker hub's that are looked at when filters leave little of each.
const HUB_PAGES_MAX: usize = 20;

#[derive(Clone, Debug)]
pub(crate) struct SearchOptions {
    pub(crate) registry: RegistryOptions,
    /// Results of one registry, at most.
    pub(crate) limit: usize,
    pub(crate) filter: Filter,
}

/// What is shown of what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    stars: u64,
    official: Option<bool>,
    automated: Option<bool>,
}

/// A repository that was found. What a catalogue does not tell is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Repository {
    /// The registry, as names have it.
    pub(crate) registry: String,
    /// The path there.
    pub(crate) path: String,
    pub(crate) description: String,
    pub(crate) stars: u64,
    pub(crate) official: bool,
    pub(crate) automated: bool,
}

impl Repository {
    /// What can be pulled.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.registry, self.path)
    }
}

/// The tags of one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tags {
    pub(crate) name: String,
    pub(crate) tags: Vec<String>,
}

impl Filter {
    /// `stars=N`, `is-official=BOOL`, `is-automated=BOOL`.
    ///
    /// # Errors
    /// `Invalid` for others.
    pub(crate) fn parse(texts: &[String]) -> Result<Self> {
        let mut filter = Self::default();
        for (key, value) in filter::split_all(texts)? {
            match key.as_str() {
                "stars" => {
                    let bad = || bad_value(&key, value).hint("it is a number: the stars it has at least");
                    filter.stars = value.parse().map_err(|_| bad())?;
                }
                "is-official" => filter.official = Some(boolean(&key, value)?),
                "is-automated" => filter.automated = Some(boolean(&key, value)?),
                _ => return Err(unknown(&key, "stars, is-official and is-automated")),
            }
        }
        Ok(filter)
    }

    fn holds(&self, found: &Repository) -> bool {
        found.stars >= self.stars
            && self.official.is_none_or(|wanted| wanted == found.official)
            && self.automated.is_none_or(|wanted| wanted == found.automated)
    }
}

/// Repositories whose name has `term` in it: of the registry that `term` begins
/// with, else of all in which short names are looked for. `notes` gets the
/// registries that fail while others answer.
///
/// # Errors
/// As the first registry, where none of them answers.
pub(crate) fn search(
    dirs: &Dirs,
    term: &str,
    options: &SearchOptions,
    notes: &mut Vec<Error>,
) -> Result<Vec<Repository>> {
    let settings = Settings::load(dirs)?;
    let (registries, term) = match term.split_once('/').filter(|_| has_domain(term)) {
        Some((registry, term)) => (vec![registry.to_owned()], term),
        None => (settings.conf.searched(), term),
    };
    let (mut found, mut failures, mut answered) = (Vec::new(), Vec::new(), false);
    for registry in &registries {
        match of_registry(&settings, registry, term, options) {
            Ok(more) => {
                answered = true;
                found.extend(more);
            }
            Err(error) => failures.push(error.context(format!("search {registry}"))),
        }
    }
    if !answered && !failures.is_empty() {
        return Err(failures.swap_remove(0));
    }
    notes.extend(failures);
    Ok(found)
}

/// The tags of a repository: of the first registry that has it.
///
/// # Errors
/// `NotFound` where none has it, `Invalid` for a name with a tag.
pub(crate) fn tags(dirs: &Dirs, name: &str, options: &SearchOptions) -> Result<Tags> {
    if name.contains('@') || name.rsplit('/').next().is_some_and(|last| last.contains(':')) {
        return Err(Error::invalid(format!("{name} has a tag or a digest already"))
            .hint("name the repository alone: --list-tags shows its tags"));
    }
    let settings = Settings::load(dirs)?;
    let mut failures = Vec::new();
    for reference in settings.conf.candidates(name)? {
        let endpoint = settings.conf.endpoint(&reference)?;
        let client = settings.client(endpoint, Access::Pull, &options.registry)?;
        match client.tags() {
            Ok(mut tags) => {
                tags.truncate(options.limit);
                return Ok(Tags { name: reference.repository(), tags });
            }
            Err(error) => failures.push(error),
        }
    }
    // With several registries the one that answered best explains it.
    let best = failures.iter().position(|error| error.kind() != Kind::NotFound).unwrap_or(0);
    Err(failures.swap_remove(best))
}

fn of_registry(
    settings: &Settings,
    registry: &str,
    term: &str,
    options: &SearchOptions,
) -> Result<Vec<Repository>> {
    let endpoint = settings.conf.registry(registry)?;
    let of_hub = endpoint.registry == DEFAULT_DOMAIN;
    if of_hub && term.is_empty() {
        return Err(Error::invalid("docker hub has no list of all repositories")
            .hint("say what to search for: `coracle search docker.io/TERM`"));
    }
    let name = if of_hub { DEFAULT_DOMAIN } else { registry };
    let mut found = Found { registry: name, options, repositories: Vec::new() };
    if of_hub {
        found.search_hub(settings, endpoint, term)?;
    } else {
        found.search_catalogue(settings, endpoint, term)?;
    }
    Ok(found.repositories)
}

struct Found<'a> {
    registry: &'a str,
    options: &'a SearchOptions,
    repositories: Vec<Repository>,
}

impl Found<'_> {
    fn search_hub(&mut self, settings: &Settings, endpoint: Endpoint, term: &str) -> Result<()> {
        let client = settings.client(endpoint, Access::Presence, &self.options.registry)?;
        for page in 1..=HUB_PAGES_MAX {
            let results = client.search_hub(term, page)?;
            let is_last = results.len() < HUB_PAGE;
            for result in results {
                // The hub's own are below `library`, which it does not say.
                let prefix = if result.name.contains('/') { "" } else { "library/" };
                let found = Repository {
                    registry: self.registry.to_owned(),
                    path: format!("{prefix}{}", result.name),
                    description: one_line(&result.description),
                    stars: result.star_count,
                    official: result.is_official,
                    automated: result.is_automated,
                };
                if self.take(found).is_break() {
                    return Ok(());
                }
            }
            if is_last {
                break;
            }
        }
        Ok(())
    }

    fn search_catalogue(&mut self, settings: &Settings, endpoint: Endpoint, term: &str) -> Result<()> {
        let below = if endpoint.path.is_empty() { String::new() } else { format!("{}/", endpoint.path) };
        let client = settings.client(endpoint, Access::Catalogue, &self.options.registry)?;
        let term = term.to_lowercase();
        client.catalogue(&mut |name| match name.strip_prefix(&below) {
            Some(path) if path.contains(&term) => self.take(Repository {
                registry: self.registry.to_owned(),
                path: path.to_owned(),
                ..Repository::default()
            }),
            _ => ControlFlow::Continue(()),
        })
    }

    fn take(&mut self, found: Repository) -> ControlFlow<()> {
        if self.options.filter.holds(&found) {
            self.repositories.push(found);
        }
        if self.repositories.len() < self.options.limit {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }
}

/// A description is anybody's: no line ends and no escape sequences.
fn one_line(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_choose() {
        let filter =
            |texts: &[&str]| Filter::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        let found = Repository { stars: 5, official: true, ..Repository::default() };
        for (texts, holds) in [
            (&[][..], true),
            (&["stars=5"], true),
            (&["stars=6"], false),
            (&["is-official=true", "stars=1"], true),
            (&["is-official=false"], false),
            (&["is-automated=false"], true),
        ] {
            assert_eq!(filter(texts).expect("good").holds(&found), holds, "{texts:?}");
        }
        for bad in ["stars", "stars=-1", "stars=many", "is-official=perhaps", "name=x"] {
            assert!(filter(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn descriptions_are_one_line() {
        assert_eq!(one_line(" a\n\u{1b}[31mb\t"), "a  [31mb");
    }
}
