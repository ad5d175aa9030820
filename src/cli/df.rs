//! `coracle system df`.

use super::template::{Format, Scope, Template};
use super::{images, ps, table, ui};
use crate::engine::Engine;
use crate::engine::disk::{DiskUse, FileSystem, Space};
use crate::error::Result;
use crate::types::reference::Reference;
use crate::types::size::decimal;
use crate::types::time::human_age;
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::io::IsTerminal;

#[derive(Args, Debug, Default)]
pub(crate) struct DfArgs {
    /// Show each image, container and volume, and the file systems
    #[arg(long, short = 'v')]
    verbose: bool,
    /// Print with a Go template, `table TEMPLATE` or `json`
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Shows what takes space on the disk.
///
/// # Errors
/// `Invalid` for a wrong template; `Failed` where files cannot be looked at.
pub(crate) fn run(args: DfArgs) -> Result<u8> {
    let format = Format::of_list(args.format.as_deref())?;
    let mut notes = Vec::new();
    let disk = Engine::open()?.disk_use(&mut notes)?;
    ui::warnings(&notes);
    let mut text = if args.verbose {
        verbose(&disk, format.as_ref(), Timestamp::now())?
    } else {
        summary(&disk, format.as_ref())?
    };
    // Programs that read the table get docker's four rows and nothing else.
    if format.is_none() && (args.verbose || std::io::stdout().is_terminal()) {
        text.push_str(&file_systems(&disk.file_systems));
    }
    ui::write(text.as_bytes())?;
    Ok(0)
}

/// Docker's four rows.
fn summary(disk: &DiskUse, format: Option<&Format>) -> Result<String> {
    let rows = [
        ("Images", disk.images),
        ("Containers", disk.containers),
        ("Local Volumes", disk.volumes),
        ("Build Cache", Space::default()),
    ]
    .map(|(kind, space)| row(kind, space));
    let headings = json!({
        "Type": "TYPE", "TotalCount": "TOTAL", "Total": "TOTAL", "Active": "ACTIVE", "Size": "SIZE",
        "RawSize": "SIZE", "Reclaimable": "RECLAIMABLE", "RawReclaimable": "RECLAIMABLE",
    });
    let columns = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
    rendered(&rows, format, columns, &headings)
}

/// Docker's texts, and podman's numbers.
fn row(kind: &str, space: Space) -> Value {
    let share = match space.reclaimable.saturating_mul(100).checked_div(space.size) {
        Some(percent) => format!("{} ({percent}%)", decimal(space.reclaimable)),
        None => decimal(space.reclaimable),
    };
    json!({
        "Type": kind,
        "TotalCount": space.total.to_string(),
        "Total": space.total,
        "Active": space.active.to_string(),
        "Size": decimal(space.size),
        "RawSize": space.size,
        "Reclaimable": share,
        "RawReclaimable": space.reclaimable,
    })
}

fn rendered(rows: &[Value], format: Option<&Format>, columns: &str, headings: &Value) -> Result<String> {
    let lines = |template: &Template| -> Result<Vec<String>> {
        rows.iter().map(|row| template.render(row, Scope::default())).collect()
    };
    let as_table = |template: &Template| -> Result<String> {
        let mut all = vec![template.render(headings, Scope { headings: true, ..Scope::default() })?];
        all.extend(lines(template)?);
        Ok(table::align(&all))
    };
    match format {
        Some(Format::Json) => Ok(rows.iter().map(|row| format!("{row}\n")).collect()),
        Some(Format::Template(template)) => {
            Ok(lines(template)?.iter().map(|line| format!("{line}\n")).collect())
        }
        Some(Format::Table(template)) => as_table(template),
        None => as_table(&Template::parse(columns)?),
    }
}

/// Each thing by itself: docker's tables, or one document for a template.
fn verbose(disk: &DiskUse, format: Option<&Format>, now: Timestamp) -> Result<String> {
    let (images, containers, volumes) = (image_rows(disk, now), container_rows(disk, now), volume_rows(disk));
    if let Some(format) = format {
        let document =
            json!({ "Images": images, "Containers": containers, "Volumes": volumes, "BuildCache": [] });
        return Ok(match format {
            Format::Json => format!("{document}\n"),
            Format::Template(template) | Format::Table(template) => {
                format!("{}\n", template.render(&document, Scope::default())?)
            }
        });
    }
    let image_columns = [
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
    ];
    let container_columns = [
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Size", "SIZE"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("Names", "NAMES"),
    ];
    let volume_columns = [("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")];
    Ok(format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\n\
         Build cache usage: 0B\n\n\
         CACHE ID   CACHE TYPE   SIZE      CREATED   LAST USED   USAGE     SHARED\n",
        columns(&images, &image_columns),
        columns(&containers, &container_columns),
        columns(&volumes, &volume_columns),
    ))
}

/// A table of some fields under their headings.
fn columns(rows: &[Value], columns: &[(&str, &str)]) -> String {
    let line =
        |cell: &dyn Fn(&(&str, &str)) -> String| columns.iter().map(cell).collect::<Vec<_>>().join("\t");
    let mut lines = vec![line(&|(_, heading)| (*heading).to_owned())];
    lines.extend(
        rows.iter()
            .map(|row| line(&|(field, _)| row[*field].as_str().unwrap_or_default().replace('\t', " "))),
    );
    table::align(&lines)
}

fn image_rows(disk: &DiskUse, now: Timestamp) -> Vec<Value> {
    let none = || images::NONE.to_owned();
    let row = |image: &crate::engine::disk::ImageSpace| {
        json!({
            "Repository": image.reference.as_ref().map_or_else(none, Reference::familiar_repository),
            "Tag": image.reference.as_ref().and_then(|name| name.tag.clone()).unwrap_or_else(none),
            "ID": image.id.short(),
            "CreatedSince": image.created.map_or_else(|| "N/A".to_owned(), |created| human_age(created, now)),
            "CreatedAt": image.created.map_or_else(|| "N/A".to_owned(), |created| created.to_string()),
            "Size": decimal(image.size),
            "VirtualSize": decimal(image.size),
            "SharedSize": decimal(image.shared),
            "UniqueSize": decimal(image.size.saturating_sub(image.shared)),
            "Containers": image.containers.to_string(),
        })
    };
    disk.image_list.iter().map(row).collect()
}

fn container_rows(disk: &DiskUse, now: Timestamp) -> Vec<Value> {
    disk.container_list
        .iter()
        .map(|(container, bytes)| {
            let record = &container.record;
            json!({
                "ID": record.id.short(),
                "Image": container.image(false),
                "Command": ps::short_command(container),
                "LocalVolumes": ps::local_volumes(container).to_string(),
                "Size": decimal(*bytes),
                "RunningFor": human_age(record.created, now),
                "CreatedAt": record.created.to_string(),
                "Status": ps::status(container, now),
                "State": container.state(),
                "Names": record.name,
            })
        })
        .collect()
}

fn volume_rows(disk: &DiskUse) -> Vec<Value> {
    disk.volume_list
        .iter()
        .map(|volume| {
            json!({ "Name": volume.name, "Links": volume.links.to_string(), "Size": decimal(volume.size) })
        })
        .collect()
}

/// As df(1) tells them.
fn file_systems(list: &[FileSystem]) -> String {
    let mut lines = vec!["SIZE\tUSED\tAVAILABLE\tUSE%\tFILE SYSTEM OF".to_owned()];
    for one in list {
        // df(1): of what ordinary users can have, rounded up.
        let usable = one.used.saturating_add(one.available);
        let percent = one.used.saturating_mul(100).div_ceil(usable.max(1));
        lines.push(format!(
            "{}\t{}\t{}\t{percent}%\t{}",
            decimal(one.size),
            decimal(one.used),
            decimal(one.available),
            // Without the slash that XDG's folders end in.
            one.directory.components().collect::<std::path::PathBuf>().display()
        ));
    }
    format!("\nFree space:\n\n{}", table::align(&lines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::disk::{ImageSpace, VolumeSpace};
    use crate::engine::list::samples::{container, running, time};
    use crate::types::digest::Digest;

    fn disk() -> DiskUse {
        DiskUse {
            images: Space { total: 2, active: 1, size: 10_000_000, reclaimable: 2_500_000 },
            image_list: vec![ImageSpace {
                id: Digest::of(b"x"),
                reference: Reference::parse("busybox").ok(),
                created: Some(time("2026-01-01T00:00:00Z")),
                size: 10_000_000,
                shared: 4_000_000,
                containers: 1,
            }],
            containers: Space { total: 1, active: 1, size: 0, reclaimable: 0 },
            container_list: vec![(container("web", 3, running("2026-01-03T12:00:00Z")), 4096)],
            volumes: Space { total: 1, active: 0, size: 5, reclaimable: 5 },
            volume_list: vec![VolumeSpace { name: "data".into(), links: 0, size: 5 }],
            file_systems: vec![FileSystem {
                directory: "/home/x".into(),
                size: 100_000_000_000,
                available: 30_000_000_000,
                used: 65_000_000_000,
            }],
        }
    }

    #[test]
    fn the_table_is_dockers() {
        let expected = "\
TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE
Images          2         1         10MB      2.5MB (25%)
Containers      1         1         0B        0B
Local Volumes   1         0         5B        5B (100%)
Build Cache     0         0         0B        0B
";
        assert_eq!(summary(&disk(), None).expect("rendered"), expected);
        let format = Format::parse("{{.Type}}:{{.Total}}:{{.Active}}").expect("valid");
        assert!(
            summary(&disk(), Some(&format)).expect("rendered").starts_with("Images:2:1\nContainers:1:1\n")
        );
        let json = summary(&disk(), Some(&Format::Json)).expect("rendered");
        let first: Value = serde_json::from_str(json.lines().next().expect("a line")).expect("JSON");
        assert_eq!(first["Size"], "10MB");
        assert_eq!(first["RawReclaimable"], 2_500_000);
    }

    #[test]
    fn verbose_tables_are_dockers() {
        let text = verbose(&disk(), None, time("2026-01-03T12:02:00Z")).expect("rendered");
        let id = Digest::of(b"x");
        let image = format!(
            "Images space usage:\n\n\
             REPOSITORY   TAG       IMAGE ID       CREATED      SIZE      SHARED SIZE   UNIQUE SIZE   CONTAINERS\n\
             busybox      latest    {}   2 days ago   10MB      4MB           6MB           1\n",
            id.short()
        );
        assert!(text.starts_with(&image), "{text}");
        let container = "030303030303   busybox   \"sleep 100\"   0               4.1kB     2 minutes ago   Up 2 minutes   web\n";
        assert!(text.contains(container), "{text}");
        assert!(text.contains("VOLUME NAME   LINKS     SIZE\ndata          0         5B\n"), "{text}");
        let format = Format::parse("{{range .Volumes}}{{.Name}}{{end}}").expect("valid");
        assert_eq!(verbose(&disk(), Some(&format), Timestamp::now()).expect("rendered"), "data\n");
    }

    #[test]
    fn free_space_is_told_as_df_does() {
        let text = file_systems(&disk().file_systems);
        assert!(text.contains("100GB     65GB      30GB        69%       /home/x\n"), "{text}");
    }
}
