//! `images`, `rmi`, `tag`, `untag`, `history`, and the rest of `image …`.

mod filter;
pub(crate) mod history;
pub(crate) mod tree;

use super::command::{Entry, Kind, command};
use super::list_format::Listing;
use super::table::{self, Headings};
use super::template::Format;
use super::{archives, changes, inspect, mounts, prune, pull, push, search, ui};
use crate::engine::Engine;
use crate::engine::images::{self, ImageSummary};
use crate::engine::rmi;
use crate::error::{Error, Result};
use crate::types::digest::Digest;
use crate::types::reference::Reference;
use crate::types::size::decimal;
use crate::types::time::human_age;
use clap::Args;
use filter::{apply_filters, is_named, sort};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What tables show for what an image does not have.
pub(super) const NONE: &str = "<none>";

pub(crate) const IMAGE_GROUP: Entry =
    Entry { name: "image", aliases: &[], about: "Manage images", kind: Kind::Group(IMAGE) };

static IMAGE: &[Entry] = &[
    pull::PULL.same_as("pull"),
    push::PUSH.same_as("push"),
    search::SEARCH.same_as("search"),
    command!("ls", &["list"], "List images", "[OPTIONS] [NAME[:TAG]]", ImagesArgs, list).same_as("images"),
    command!("rm", &["remove"], "Remove images", "[OPTIONS] IMAGE [IMAGE...]", RmiArgs, remove)
        .same_as("rmi"),
    TAG.same_as("tag"),
    UNTAG,
    HISTORY.same_as("history"),
    changes::IMAGE_DIFF,
    mounts::IMAGE_MOUNT,
    mounts::IMAGE_UNMOUNT,
    archives::SAVE.same_as("save"),
    archives::LOAD.same_as("load"),
    archives::IMPORT.same_as("import"),
    tree::TREE,
    command!("exists", &[], "Tell by the exit code whether an image is here", "IMAGE", ExistsArgs, exists),
    command!(
        "prune",
        &[],
        "Remove images that no container uses",
        "[OPTIONS]",
        prune::ImageArgs,
        prune::images
    ),
    command!(
        "inspect",
        &[],
        "Show everything about images",
        "[OPTIONS] IMAGE [IMAGE...]",
        inspect::KindInspectArgs,
        inspect::images
    ),
];

pub(crate) const IMAGES: Entry =
    command!("images", &[], "List images", "[OPTIONS] [NAME[:TAG]]", ImagesArgs, list);

pub(crate) const RMI: Entry =
    command!("rmi", &[], "Remove images", "[OPTIONS] IMAGE [IMAGE...]", RmiArgs, remove);

pub(crate) const TAG: Entry =
    command!("tag", &[], "Give an image one more name", "IMAGE NAME[:TAG] [NAME[:TAG]...]", TagArgs, tag);

pub(crate) const UNTAG: Entry =
    command!("untag", &[], "Take names from an image", "IMAGE [NAME[:TAG]...]", UntagArgs, untag);

pub(crate) const HISTORY: Entry = command!(
    "history",
    &[],
    "Show how an image came to be",
    "[OPTIONS] IMAGE",
    history::HistoryArgs,
    history::history
);

#[derive(Args, Debug, Default)]
pub(crate) struct ImagesArgs {
    /// Accepted: there are no intermediate images
    #[arg(long, short = 'a')]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Show those for which KEY=VALUE holds: dangling, reference, label, label!, id, digest, before, since, until, containers, intermediate, readonly
    #[arg(long, short = 'f', value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print with a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Do not cut ids
    #[arg(long)]
    no_trunc: bool,
    /// Print no headings
    #[arg(long, short = 'n')]
    noheading: bool,
    /// Print ids alone
    #[arg(long, short = 'q')]
    quiet: bool,
    /// Sort by created, id, repository, size or tag
    #[arg(long, value_name = "FIELD")]
    sort: Option<String>,
    /// Show the names that images had as well
    #[arg(long)]
    history: bool,
    /// Show those of this name alone; * and ? stand for any text
    #[arg(value_name = "NAME[:TAG]")]
    name: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct RmiArgs {
    /// Remove an id with several names, and the name of an image in use; what is missing is no failure
    #[arg(long, short = 'f')]
    force: bool,
    /// Remove all images that no container uses
    #[arg(long, short = 'a', conflicts_with = "images")]
    all: bool,
    /// Accepted: there are no parents to delete
    #[arg(long, hide = true)]
    no_prune: bool,
    /// Not an error where there is no such image
    #[arg(long, short = 'i')]
    ignore: bool,
    /// Names or ids
    #[arg(value_name = "IMAGE", required_unless_present = "all")]
    images: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct TagArgs {
    /// Name or id
    #[arg(value_name = "IMAGE", required = true)]
    image: String,
    /// The names to add
    #[arg(value_name = "NAME[:TAG]", required = true)]
    names: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct UntagArgs {
    /// Name or id
    #[arg(value_name = "IMAGE", required = true)]
    image: String,
    /// The names to take away; all where none is given
    #[arg(value_name = "NAME[:TAG]")]
    names: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ExistsArgs {
    /// Name or id
    #[arg(value_name = "IMAGE", required = true)]
    image: String,
}

const LISTING: Listing = Listing {
    setting: "imagesFormat",
    raw: "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n",
    raw_quiet: "image_id: {{.ID}}",
};

/// Lists images.
///
/// # Errors
/// `Invalid` for wrong filters and templates.
pub(crate) fn list(mut args: ImagesArgs) -> Result<u8> {
    let is_raw = args.format.as_deref() == Some("raw");
    let mut format = LISTING.format(&mut args.format, args.quiet)?;
    if is_raw && args.digests && !args.quiet {
        let raw = LISTING.raw.replace("image_id:", "digest: {{.Digest}}\nimage_id:");
        format = Format::of_list(Some(&raw))?;
    }
    let mut notes = Vec::new();
    let engine = Engine::open()?;
    let all = images::list(&engine.dirs, &mut notes)?;
    // Only a filter needs to know what containers use.
    let by_use = args.filter.iter().any(|filter| filter.trim_start().starts_with("containers"));
    let used = if by_use { engine.images_in_use()?.images } else { BTreeMap::new() };
    let chosen = args.choose(all, &used)?;
    ui::write(args.render(&chosen, format.as_ref(), Timestamp::now())?.as_bytes())?;
    for note in &notes {
        ui::warning(&note.to_string());
    }
    Ok(0)
}

impl ImagesArgs {
    fn choose(
        &self,
        all: Vec<ImageSummary>,
        used: &BTreeMap<Digest, Vec<String>>,
    ) -> Result<Vec<ImageSummary>> {
        let mut chosen = all.clone();
        if let Some(name) = &self.name {
            chosen.retain(|image| is_named(image, name));
        }
        apply_filters(&self.filter, &all, &mut chosen, &|id| used.contains_key(id))?;
        if let Some(field) = &self.sort {
            sort(&mut chosen, field)?;
        }
        Ok(chosen)
    }

    fn render(&self, images: &[ImageSummary], format: Option<&Format>, now: Timestamp) -> Result<String> {
        if self.quiet && format.is_none() {
            let mut ids: Vec<String> = Vec::new();
            for image in images {
                let id = self.id(image);
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
            return Ok(ids.iter().map(|id| format!("{id}\n")).collect());
        }
        let row = |image| {
            let mut row = self.row(image, now);
            // The table has no such column, and time zones are a data base to look through.
            if format.is_some() {
                row["CreatedAt"] = created_at(image).into();
            }
            // Podman's, which `json` (a line of docker's) does without.
            if !matches!(format, None | Some(Format::Json)) {
                row["CreatedTime"] = row["CreatedAt"].clone();
                for (key, value) in [
                    ("Created", row["CreatedSince"].clone()),
                    ("Id", row["ID"].clone()),
                    ("Labels", json!(image.labels)),
                    ("ReadOnly", false.into()),
                    ("Dangling", image.reference.is_none().into()),
                    ("IsDangling", image.reference.is_none().into()),
                    ("IsReadOnly", false.into()),
                    ("ParentId", "".into()),
                    ("Names", names(images, image)),
                    ("RepoTags", names(images, image)),
                    ("RepoDigests", digests(images, image)),
                ] {
                    row[key] = value;
                }
            }
            (row, &image.labels)
        };
        let rows: Vec<(Value, &BTreeMap<String, String>)> = images.iter().map(row).collect();
        let digest = if self.digests { "{{.Digest}}\t" } else { "" };
        let history = if self.history { "\t{{.History}}" } else { "" };
        let columns = format!(
            "{{{{.Repository}}}}\t{{{{.Tag}}}}\t{digest}{{{{.ID}}}}\t{{{{.CreatedSince}}}}\t{{{{.Size}}}}{history}"
        );
        let headings = json!({
            "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "ID": "IMAGE ID", "CreatedAt": "CREATED AT",
            "CreatedSince": "CREATED", "Size": "SIZE", "VirtualSize": "SIZE", "SharedSize": "SHARED SIZE",
            "UniqueSize": "UNIQUE SIZE", "Containers": "CONTAINERS", "History": "HISTORY", "Created": "CREATED",
            "CreatedTime": "CREATED AT", "Id": "IMAGE ID", "Labels": "LABELS", "ReadOnly": "READ ONLY",
            "Dangling": "DANGLING", "IsDangling": "IS DANGLING", "IsReadOnly": "IS READ ONLY", "ParentId": "PARENT ID",
            "Names": "NAMES", "RepoTags": "REPO TAGS", "RepoDigests": "REPO DIGESTS",
        });
        let headings = Headings { texts: &headings, left_out: self.noheading };
        table::render(&rows, format, &columns, &headings)
    }

    fn id(&self, image: &ImageSummary) -> String {
        if self.no_trunc { image.id.to_string() } else { image.id.short().to_owned() }
    }

    /// What a template sees of one image, but for [`created_at`].
    fn row(&self, image: &ImageSummary, now: Timestamp) -> Value {
        let none = || NONE.to_owned();
        let size = decimal(image.size);
        json!({
            "Repository": image.reference.as_ref().map_or_else(none, Reference::familiar_repository),
            "Tag": image.reference.as_ref().and_then(|name| name.tag.clone()).unwrap_or_else(none),
            "Digest": image.digest.to_string(),
            "ID": self.id(image),
            "CreatedSince": image.created.map_or_else(|| "N/A".to_owned(), |created| human_age(created, now)),
            "Size": size,
            "VirtualSize": size,
            "SharedSize": "N/A",
            "UniqueSize": "N/A",
            "Containers": "N/A",
            "History": image.history.join(", "),
        })
    }
}

/// All names of an image among those that are shown, whole as podman has them.
fn names(shown: &[ImageSummary], image: &ImageSummary) -> Value {
    let same = shown.iter().filter(|other| other.id == image.id);
    same.filter_map(|other| other.reference.as_ref()).map(ToString::to_string).collect()
}

/// Each repository of those, with the digest that its registry has.
fn digests(shown: &[ImageSummary], image: &ImageSummary) -> Value {
    let same = shown.iter().filter(|other| other.id == image.id);
    let all: std::collections::BTreeSet<String> =
        same.filter_map(|other| Some(other.reference.as_ref()?.at(&other.digest).to_string())).collect();
    all.into_iter().collect()
}

fn created_at(image: &ImageSummary) -> String {
    let text = |created: Timestamp| {
        created.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
    };
    image.created.map_or_else(|| "N/A".to_owned(), text)
}

/// Removes images, or names of images.
///
/// # Errors
/// The first failure, after the others were tried.
pub(crate) fn remove(mut args: RmiArgs) -> Result<u8> {
    let engine = Engine::open()?;
    engine.enter()?;
    let in_use = || engine.images_in_use();
    let mut notes = Vec::new();
    if args.all {
        let lines = rmi::prune(&engine.dirs, &|_, _| true, &in_use, &mut notes)?.lines;
        tell_removed(&lines, &[])?;
        // What is left is used by containers: each says so, or goes by force.
        let left = images::list(&engine.dirs, &mut notes)?;
        args.images = left.iter().map(|image| image.id.to_string()).collect();
        args.images.sort();
        args.images.dedup();
    }
    let mut code = 0;
    for name in &args.images {
        match rmi::remove(&engine.dirs, name, args.force, &in_use, &mut notes) {
            Ok(lines) => tell_removed(&lines, &[])?,
            Err(error) if error.kind() == crate::error::Kind::NotFound && args.ignore => {}
            // Told and no failure, as docker and podman have it.
            Err(error) if error.kind() == crate::error::Kind::NotFound && args.force => ui::error(&error),
            Err(error) => {
                ui::error(&error);
                code = 1;
            }
        }
    }
    tell_removed(&[], &notes)?;
    Ok(code)
}

fn tell_removed(lines: &[rmi::Removed], notes: &[Error]) -> Result<()> {
    for note in notes {
        ui::warning(&note.to_string());
    }
    lines.iter().try_for_each(|line| ui::line(&line.to_string()))
}

/// Adds names to an image.
///
/// # Errors
/// `NotFound`; `Invalid` for what cannot be a name.
pub(crate) fn tag(args: TagArgs) -> Result<u8> {
    let engine = Engine::open()?;
    for name in &args.names {
        images::tag(&engine.dirs, &args.image, name)?;
    }
    Ok(0)
}

/// Takes names from an image.
///
/// # Errors
/// `NotFound` for an image or a name that is not there.
pub(crate) fn untag(args: UntagArgs) -> Result<u8> {
    images::untag(&Engine::open()?.dirs, &args.image, &args.names)?;
    Ok(0)
}

/// Exit code 0 where the image is here, 1 where it is not; prints nothing.
///
/// # Errors
/// `Conflict` where a prefix fits several images.
pub(crate) fn exists(args: ExistsArgs) -> Result<u8> {
    let found = images::find(&Engine::open()?.dirs, &args.image, None)?;
    Ok(u8::from(found.is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(n: u8, name: Option<&str>) -> ImageSummary {
        ImageSummary {
            id: Digest::of(&[n]),
            reference: name.map(|name| Reference::parse(name).expect("valid")),
            digest: Digest::of(&[n, 0]),
            created: Some(format!("2026-01-0{n}T00:00:00Z").parse().expect("time")),
            size: 4_260_000,
            labels: BTreeMap::from([("a".to_owned(), n.to_string())]),
            history: Vec::new(),
        }
    }

    fn all() -> Vec<ImageSummary> {
        vec![image(3, Some("nginx")), image(2, Some("quay.io/a/b:1")), image(1, None)]
    }

    fn render(args: &ImagesArgs) -> String {
        let format = args.format.as_deref().map(|text| Format::parse(text).expect("valid"));
        let now = "2026-01-04T00:00:00Z".parse().expect("time");
        args.render(&args.choose(all(), &BTreeMap::new()).expect("valid"), format.as_ref(), now)
            .expect("rendered")
    }

    #[test]
    fn the_table_is_dockers() {
        let ids: Vec<String> = all().iter().map(|image| image.id.short().to_owned()).collect();
        let expected = format!(
            "REPOSITORY    TAG       IMAGE ID       CREATED        SIZE\n\
             nginx         latest    {}   24 hours ago   4.26MB\n\
             quay.io/a/b   1         {}   2 days ago     4.26MB\n\
             <none>        <none>    {}   3 days ago     4.26MB\n",
            ids[0], ids[1], ids[2]
        );
        assert_eq!(render(&ImagesArgs::default()), expected);
        let quiet = render(&ImagesArgs { quiet: true, no_trunc: true, ..ImagesArgs::default() });
        assert!(quiet.lines().all(|line| line.starts_with("sha256:") && line.len() == 71));
    }

    #[test]
    fn templates_have_podman_s_fields_too() {
        let shown = |format: &str| {
            render(&ImagesArgs {
                format: Some(format.into()),
                filter: vec!["label=a=2".into()],
                ..ImagesArgs::default()
            })
        };
        assert_eq!(shown("{{.Labels.a}} {{.ReadOnly}} {{.Dangling}}"), "2 false false\n");
        assert_eq!(shown("{{.Id}}"), shown("{{.ID}}"));
        assert_eq!(shown("{{.Created}}"), shown("{{.CreatedSince}}"));
        assert!(!shown("json").contains("ReadOnly"));
    }

    #[test]
    fn names_and_filters_choose() {
        let by = |name: Option<&str>, filter: &str| {
            let args = ImagesArgs {
                name: name.map(Into::into),
                filter: if filter.is_empty() { vec![] } else { vec![filter.into()] },
                format: Some("{{.Repository}}:{{.Tag}}".into()),
                ..ImagesArgs::default()
            };
            render(&args).lines().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(by(Some("nginx"), ""), ["nginx:latest"]);
        assert_eq!(by(Some("docker.io/library/nginx:latest"), ""), ["nginx:latest"]);
        assert_eq!(by(Some("quay.io/a/*"), ""), ["quay.io/a/b:1"]);
        assert!(by(Some("quay*"), "").is_empty() && by(Some("b"), "").is_empty());
        assert_eq!(by(None, "dangling=true"), ["<none>:<none>"]);
        assert_eq!(by(None, "label=a=2"), ["quay.io/a/b:1"]);
        assert_eq!(by(None, "before=quay.io/a/b:1"), ["<none>:<none>"]);
        assert_eq!(by(None, "since=quay.io/a/b:1"), ["nginx:latest"]);
        assert_eq!(by(None, "reference=ngin?"), ["nginx:latest"]);
        assert_eq!(by(None, "label!=a=2"), ["nginx:latest", "<none>:<none>"]);
        assert_eq!(by(None, "until=2026-01-02T00:00:00Z"), ["quay.io/a/b:1", "<none>:<none>"]);
        assert_eq!(by(None, "containers=false").len(), 3);
        assert!(by(None, "containers=true").is_empty());
        assert_eq!(by(None, "intermediate=false").len(), 3);
        assert!(by(None, "readonly=true").is_empty());
        for bad in ["dangling", "dangling=x", "color=red", "before=none", "until=soon", "readonly=x"] {
            let args = ImagesArgs { filter: vec![bad.into()], ..ImagesArgs::default() };
            assert!(args.choose(all(), &BTreeMap::new()).is_err(), "{bad}");
        }
    }
}
