//! `--log-opt tag=`: a name for a container's log, of docker's template fields.

use crate::error::{Error, Result};

/// What docker writes nothing for: its default.
pub(crate) const DEFAULT: &str = "{{.ID}}";

/// What a tag may say of a container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// All 64 digits.
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    /// As it was asked for; empty without an image, as is its id.
    pub(crate) image: &'a str,
    /// With its algorithm.
    pub(crate) image_id: &'a str,
}

const FIELDS: [&str; 6] = [".FullID", ".ID", ".ImageFullID", ".ImageID", ".ImageName", ".Name"];

impl<'a> Subject<'a> {
    fn field(&self, name: &str) -> Option<&'a str> {
        let short = |id: &'a str| id.get(..12).unwrap_or(id);
        Some(match name {
            ".FullID" => self.id,
            ".ID" => short(self.id),
            ".ImageFullID" => self.image_id,
            ".ImageID" => short(self.image_id.split_once(':').map_or(self.image_id, |(_, hex)| hex)),
            ".ImageName" => self.image,
            ".Name" => self.name,
            _ => return None,
        })
    }
}

/// # Errors
/// `Invalid` for anything between braces that is none of the fields.
pub(crate) fn check(template: &str) -> Result<()> {
    let subject = Subject { id: "", name: "", image: "", image_id: "" };
    expand(template, &subject).map(drop).map_err(|part| {
        Error::invalid(format!("--log-opt tag={template}: {part} is not known"))
            .hint(format!("the fields are {}", FIELDS.join(", ")))
    })
}

/// The tag of one container; what cannot be understood stays as it is.
pub(crate) fn of(template: &str, subject: &Subject<'_>) -> String {
    expand(template, subject).unwrap_or_else(|_| template.to_owned())
}

/// The text, or the part of it that is not understood.
fn expand(template: &str, subject: &Subject<'_>) -> std::result::Result<String, String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        text.push_str(before);
        let (field, after) = after.split_once("}}").ok_or_else(|| format!("{{{{{after}"))?;
        text.push_str(subject.field(field.trim()).ok_or_else(|| format!("{{{{{field}}}}}"))?);
        rest = after;
    }
    Ok(text + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_docker_s() {
        let id = "0123456789abcdef";
        let image_id = format!("sha256:{id}");
        let subject = Subject { id, name: "web", image: "busybox", image_id: &image_id };
        assert_eq!(of("{{.Name}}/{{ .ID }}", &subject), "web/0123456789ab");
        assert_eq!(
            of("{{.ImageName}} {{.ImageID}} {{.ImageFullID}}", &subject),
            "busybox 0123456789ab sha256:0123456789abcdef"
        );
        assert_eq!(of("plain", &subject), "plain");
        for bad in ["{{.Nope}}", "{{.ID", "{{", "{{}}", "{{upper .Name}}"] {
            assert!(check(bad).is_err(), "{bad}");
            assert_eq!(of(bad, &subject), bad);
        }
        check(DEFAULT).expect("valid");
    }
}
