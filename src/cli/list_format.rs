//! `--format` of a listing where docker's own settings may have a default, and
//! `raw`, its word for a block a line per field.

use super::template::Format;
use crate::engine::registry_access::client_settings;
use crate::error::Result;
use crate::registry::auth_file::AuthFile;

/// What a listing has beside its columns.
pub(super) struct Listing {
    /// The key of its default in docker's config.json.
    pub(super) setting: &'static str,
    /// What `raw` stands for, and what with `--quiet`.
    pub(super) raw: &'static str,
    pub(super) raw_quiet: &'static str,
}

impl Listing {
    /// What is asked for: by `flag`, which becomes the template that it stands for,
    /// else by the settings, unless `plain` says that they have no say.
    ///
    /// # Errors
    /// As [`Format::parse`], and names the file where the template is from the settings.
    pub(super) fn format(&self, flag: &mut Option<String>, plain: bool) -> Result<Option<Format>> {
        let given = flag.as_deref().filter(|text| !text.is_empty());
        match given {
            Some("raw") => *flag = Some(if plain { self.raw_quiet } else { self.raw }.to_owned()),
            None if !plain => {
                // Settings that cannot be read say nothing.
                let settings = client_settings().ok().flatten();
                if let Some((path, text)) =
                    settings.and_then(|settings| AuthFile::text(settings, self.setting))
                {
                    *flag = Some(text.to_owned());
                    return Format::of_list(Some(text))
                        .map_err(|error| error.context(format!("{} of {}", self.setting, path.display())));
                }
            }
            Some(_) | None => {}
        }
        Format::of_list(flag.as_deref())
    }
}
