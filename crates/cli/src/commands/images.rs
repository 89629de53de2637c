//! `kiln images`.

use std::collections::BTreeSet;

use build::images::Kept;
use oci::{Digest, Reference};
use serde_json::json;
use store::Store;

use super::{ago, id, json_lines, now, seconds};
use crate::args::{ImagesArgs, ListFormat, list_format, refuse_filters};
use crate::render::{Report, table};
use crate::{human, machine, terminal};

/// Lists the images that are here.
///
/// # Errors
/// If a flag is wrong or the store cannot be read.
pub fn run(args: &ImagesArgs, store: &Store) -> Result<(), Report> {
    refuse_filters(&args.filter)?;
    let format = list_format(args.format.as_deref())?;
    let images = build::images::list(store).map_err(|error| machine::chain(&error))?;
    let mut rows: Vec<ImageRow> = images.iter().flat_map(rows).collect();
    rows.retain(|row| is_asked_for(row, args));
    // As docker does: the youngest first.
    rows.sort_by_cached_key(|row| {
        let created = row.created.as_deref().and_then(seconds).unwrap_or(i64::MIN);
        let name = row.name.as_ref().map(Reference::familiar);
        (std::cmp::Reverse(created), name.is_none(), name)
    });
    terminal::print(&text(&rows, args, format, now()))
}

/// A row for each name, or one without.
fn rows(image: &Kept) -> Vec<ImageRow> {
    let row = |name: Option<Reference>| ImageRow {
        name,
        digest: image.manifest.digest,
        config: image.id,
        created: image.config.created.clone(),
        size: image.size(),
    };
    match image.names.is_empty() {
        true => vec![row(None)],
        false => image.names.iter().map(|name| row(Some(name.clone()))).collect(),
    }
}

/// An image that is here, by one of its names.
#[derive(Clone, Debug)]
pub struct ImageRow {
    /// The name; none for an image that has lost its names.
    pub name: Option<Reference>,
    /// Digest of the manifest or index.
    pub digest: Digest,
    /// Digest of the config: docker's image ID.
    pub config: Digest,
    /// When it was made, RFC 3339.
    pub created: Option<String>,
    /// Bytes of its layers as they are stored or sent.
    pub size: u64,
}

/// Whether an image is what `kiln images NAME` asks for.
pub fn is_asked_for(row: &ImageRow, args: &ImagesArgs) -> bool {
    match (&args.name, &row.name) {
        (None, _) => true,
        (Some(filter), Some(name)) => filter.means(name),
        (Some(_), None) => false,
    }
}

/// The list; `now` is in seconds since 1970.
pub fn text(rows: &[ImageRow], args: &ImagesArgs, format: ListFormat, now: i64) -> String {
    if args.quiet {
        let mut seen = BTreeSet::new();
        let ids = rows.iter().map(|row| row.config).filter(|config| seen.insert(*config));
        return ids.map(|config| format!("{}\n", id(config, args.no_trunc))).collect();
    }
    let cells = rows.iter().map(|row| cells(row, args.no_trunc, now));
    if format == ListFormat::Json {
        return json_lines(cells.zip(rows).map(
            |([repository, tag, digest, id, since, size], row)| {
                json!({
                    "Repository": repository, "Tag": tag, "Digest": digest, "ID": id,
                    "CreatedAt": row.created, "CreatedSince": since, "Size": size,
                })
            },
        ));
    }
    if args.digests {
        let rows: Vec<_> = cells.collect();
        return table(["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"], &rows);
    }
    let rows: Vec<_> = cells
        .map(|[repository, tag, _, id, since, size]| [repository, tag, id, since, size])
        .collect();
    table(["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], &rows)
}

fn cells(row: &ImageRow, whole: bool, now: i64) -> [String; 6] {
    let none = || "<none>".to_owned();
    let repository = row
        .name
        .as_ref()
        .map(|name| Reference::new(name.repository().clone(), None, None).familiar());
    let tag = row.name.as_ref().and_then(|name| name.tag().map(str::to_owned));
    [
        repository.unwrap_or_else(none),
        tag.unwrap_or_else(none),
        row.digest.to_string(),
        id(row.config, whole),
        ago(row.created.as_deref().and_then(seconds), now),
        human::size(row.size),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<ImageRow> {
        let row = |name: Option<&str>, content: &str| ImageRow {
            name: name.map(|name| name.parse().unwrap()),
            digest: Digest::of("m"),
            config: Digest::of(content),
            created: Some("2024-01-01T00:00:00.5Z".into()),
            size: 5_613_000,
        };
        vec![row(Some("app:1"), "a"), row(Some("ghcr.io/x/y"), "a"), row(None, "b")]
    }

    #[test]
    fn a_table_as_docker_prints_it() {
        let now = 1_704_067_200 + 3 * 86_400;
        let args = ImagesArgs::default();
        assert_eq!(
            text(&rows(), &args, ListFormat::Table, now),
            "REPOSITORY    TAG      IMAGE ID       CREATED      SIZE\n\
             app           1        ca978112ca1b   3 days ago   5.613MB\n\
             ghcr.io/x/y   latest   ca978112ca1b   3 days ago   5.613MB\n\
             <none>        <none>   3e23e8160039   3 days ago   5.613MB\n"
        );
        let quiet = ImagesArgs { quiet: true, ..ImagesArgs::default() };
        assert_eq!(text(&rows(), &quiet, ListFormat::Table, now), "ca978112ca1b\n3e23e8160039\n");
        assert_eq!(text(&rows(), &args, ListFormat::Json, now).lines().count(), 3);
        let digests = ImagesArgs { digests: true, no_trunc: true, ..ImagesArgs::default() };
        assert!(text(&rows(), &digests, ListFormat::Table, now).contains("sha256:ca978112"));
    }

    #[test]
    fn a_repository_is_all_of_its_tags() {
        let rows = rows();
        for (asked, count) in [("app", 1), ("app:1", 1), ("app:2", 0), ("ghcr.io/x/y", 1)] {
            let args = ImagesArgs { name: Some(asked.parse().unwrap()), ..ImagesArgs::default() };
            let found = rows.iter().filter(|row| is_asked_for(row, &args)).count();
            assert_eq!(found, count, "{asked}");
        }
    }
}
