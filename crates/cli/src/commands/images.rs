//! `kiln images`.

use std::collections::BTreeSet;

use build::images::{self, ImageError, Kept, Removed};
use oci::{Digest, Reference};
use serde_json::{Value, json};
use store::Store;

use super::listing::RowFormat;
use super::{ago, id, now, seconds};
use crate::args::compound::boolean;
use crate::args::{FlagError, ImagesArgs};
use crate::render::{Report, table};
use crate::{human, terminal};

/// Lists the images of this machine.
///
/// # Errors
/// If a flag is wrong or the store cannot be read.
pub fn run(args: &ImagesArgs, store: &Store) -> Result<(), Report> {
    let filters = Filters::read(&args.filter)?;
    let format = RowFormat::read(args.format.as_deref())?;
    let passing = filters.resolve(store)?;
    let images = images::each(store).map_err(|error| oci::chain_text(&error))?;
    let mut rows: Vec<ImageRow> =
        images.filter(|image| passing.passes(image)).flat_map(|image| rows(&image)).collect();
    rows.retain(|row| filters.wants(row));
    rows.retain(|row| is_asked_for(row, args));
    // The newest first, as in docker.
    rows.sort_by_cached_key(|row| {
        let created = row.created.as_deref().and_then(seconds).unwrap_or(i64::MIN);
        let name = row.name.as_ref().map(Reference::familiar);
        (std::cmp::Reverse(created), name.is_none(), name)
    });
    let now = now();
    let listed =
        if args.quiet { None } else { format.lines(&values(&rows, args.no_trunc, now))? };
    terminal::print(&listed.unwrap_or_else(|| text(&rows, args, now)))
}

/// A row for each name, or one row without a name.
fn rows(image: &Kept) -> Vec<ImageRow> {
    let row = |name: Option<Reference>| ImageRow {
        name,
        digest: image.manifest.digest,
        config: image.id,
        created: image.config.created.clone(),
        size: image.size(),
    };
    if image.names.is_empty() {
        return vec![row(None)];
    }
    image.names.iter().map(|name| row(Some(name.clone()))).collect()
}

/// An image of this machine under one of its names.
#[derive(Clone, Debug)]
pub struct ImageRow {
    /// The name; none for an image that has lost its names.
    pub name: Option<Reference>,
    /// Digest of the manifest or index.
    pub digest: Digest,
    /// Digest of the config: docker's image ID.
    pub config: Digest,
    /// The creation time in RFC 3339.
    pub created: Option<String>,
    /// Bytes of its layers as they are stored or sent.
    pub size: u64,
}

/// True if `kiln images NAME` asks for an image.
pub fn is_asked_for(row: &ImageRow, args: &ImagesArgs) -> bool {
    match (&args.name, &row.name) {
        (None, _) => true,
        (Some(filter), Some(name)) => filter.means(name),
        (Some(_), None) => false,
    }
}

/// The list; `now` is in seconds since 1970.
pub fn text(rows: &[ImageRow], args: &ImagesArgs, now: i64) -> String {
    if args.quiet {
        let mut seen = BTreeSet::new();
        let ids = rows.iter().map(|row| row.config).filter(|config| seen.insert(*config));
        return ids.map(|config| format!("{}\n", id(config, args.no_trunc))).collect();
    }
    let cells = rows.iter().map(|row| cells(row, args.no_trunc, now));
    if args.digests {
        let rows: Vec<_> = cells.collect();
        return table(["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"], &rows);
    }
    let rows: Vec<_> = cells
        .map(|[repository, tag, _, id, since, size]| [repository, tag, id, since, size])
        .collect();
    table(["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], &rows)
}

/// Docker's fields of each row.
fn values(rows: &[ImageRow], whole: bool, now: i64) -> Vec<Value> {
    let value = |row: &ImageRow| {
        let [repository, tag, digest, id, since, size] = cells(row, whole, now);
        json!({
            "Repository": repository, "Tag": tag, "Digest": digest, "ID": id,
            "CreatedAt": row.created.as_deref().map_or("N/A".into(), plain_time), "CreatedSince": since, "Size": size, "VirtualSize": size,
            "Containers": "N/A", "SharedSize": "N/A", "UniqueSize": "N/A",
        })
    };
    rows.iter().map(value).collect()
}

/// A time as Go prints it: `2024-01-01 00:00:00 +0000 UTC`.
fn plain_time(time: &str) -> String {
    match time.parse::<jiff::Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        Err(_) => time.to_owned(),
    }
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

/// `--filter`.
#[derive(Debug, Default)]
pub struct Filters {
    dangling: Option<bool>,
    references: Vec<String>,
    labels: Vec<String>,
    /// `label!=`.
    no_labels: Vec<String>,
    before: Option<String>,
    since: Option<String>,
    /// Created before this time, in seconds since 1970.
    until: Option<i64>,
}

impl Filters {
    /// Reads `--filter`.
    ///
    /// # Errors
    /// If a filter is unknown or wrong.
    pub fn read(texts: &[String]) -> Result<Self, FlagError> {
        let mut filters = Self::default();
        for text in texts {
            let wrong = |reason| FlagError::bad(format!("--filter {text}"), reason);
            let (key, value) = text.split_once('=').ok_or_else(|| wrong("it is not NAME=VALUE"))?;
            match key {
                "dangling" => {
                    let value = boolean(value);
                    filters.dangling =
                        Some(value.ok_or_else(|| wrong("it is neither true nor false"))?);
                }
                "reference" => filters.references.push(value.into()),
                "label" => filters.labels.push(value.into()),
                "label!" => filters.no_labels.push(value.into()),
                "until" => {
                    let moment = moment(value)
                        .ok_or_else(|| wrong("it is not a time, as 24h or 2026-01-31"))?;
                    filters.until = Some(moment);
                }
                "before" => filters.before = Some(value.into()),
                "since" => filters.since = Some(value.into()),
                _ => {
                    return Err(wrong(
                        "there are dangling, reference, label, before, since and until",
                    ));
                }
            }
        }
        Ok(filters)
    }

    /// The filter `dangling`: true for images without names, false for those with names.
    pub fn dangling(&self) -> Option<bool> {
        self.dangling
    }

    /// Looks up the images that filters name.
    ///
    /// # Errors
    /// If one is not here, or the store cannot be read.
    pub fn resolve(&self, store: &Store) -> Result<ResolvedFilters<'_>, Report> {
        let made = |text: &Option<String>| -> Result<Option<i64>, Report> {
            let Some(text) = text else { return Ok(None) };
            match images::look_up(store, text) {
                Ok(found) => Ok(created(&found.image)),
                Err(ImageError::NotHere(_)) => {
                    Err(format!("`--filter`: No such image: {text}").into())
                }
                Err(error) => Err(format!("`--filter`: {}", oci::chain_text(&error)).into()),
            }
        };
        let (before, since) = (made(&self.before)?, made(&self.since)?);
        Ok(ResolvedFilters { filters: self, before, since })
    }

    fn wants(&self, row: &ImageRow) -> bool {
        self.wants_name(row.name.as_ref())
    }

    /// True if a name passes the filter `reference`: `app`, `app:1*`, `*/app`.
    pub fn wants_name(&self, name: Option<&Reference>) -> bool {
        let matches = |pattern: &String| {
            name.is_some_and(|name| {
                let familiar = name.familiar();
                let bare = familiar.rsplit_once(':').map_or(familiar.as_str(), |(bare, _)| bare);
                is_like(pattern, &familiar) || is_like(pattern, bare)
            })
        };
        self.references.is_empty() || self.references.iter().any(matches)
    }
}

/// Filters whose images were looked up.
pub struct ResolvedFilters<'f> {
    filters: &'f Filters,
    /// The creation times of the images of `before` and `since`, in seconds since 1970.
    before: Option<i64>,
    since: Option<i64>,
}

impl ResolvedFilters<'_> {
    /// True if an image passes all filters but `reference`.
    pub fn passes(&self, image: &Kept) -> bool {
        let (filters, created) = (self.filters, created(image));
        filters.dangling.is_none_or(|wanted| wanted == image.names.is_empty())
            && self.before.is_none_or(|limit| created < Some(limit))
            && self.since.is_none_or(|limit| created > Some(limit))
            && filters.until.is_none_or(|limit| created < Some(limit))
            && filters.labels.iter().all(|label| has_label(image, label))
            && !filters.no_labels.iter().any(|label| has_label(image, label))
    }
}

/// The creation time of an image, in seconds since 1970.
fn created(image: &Kept) -> Option<i64> {
    image.config.created.as_deref().and_then(seconds)
}

/// Removes the images without names, or all, that pass the filters.
///
/// # Errors
/// If a filter names an image that is not here, or the store cannot be changed.
pub fn remove_unnamed(store: &Store, all: bool, filters: &Filters) -> Result<Vec<Removed>, Report> {
    let failed = |error: &dyn std::error::Error| Report::from(oci::chain_text(error));
    let passing = filters.resolve(store)?;
    // An image with names can have the same config.
    let mut named = BTreeSet::new();
    let mut found = BTreeSet::new();
    for image in images::each(store).map_err(|error| failed(&error))? {
        if !image.names.is_empty() {
            named.insert(image.id);
        }
        if passing.passes(&image) {
            found.insert(image.id);
        }
    }
    if !all {
        found.retain(|id| !named.contains(id));
    }
    images::remove_all(store, &found).map_err(|error| failed(&error))
}

/// A time as docker's `until` takes it: a duration before now, a date, a time, or seconds since
/// 1970.
fn moment(text: &str) -> Option<i64> {
    if let Ok(ago) = crate::args::duration(text) {
        return Some(now() - i64::try_from(ago.as_secs()).ok()?);
    }
    let date = || {
        let time = text.parse::<jiff::civil::DateTime>().ok()?;
        Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
    };
    text.parse().ok().or_else(|| seconds(text)).or_else(date)
}

fn has_label(image: &Kept, wanted: &str) -> bool {
    let config = serde_json::to_value(&image.config.config).unwrap_or_default();
    let (key, value) = match wanted.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (wanted, None),
    };
    match (config["Labels"].get(key), value) {
        (Some(actual), Some(value)) => actual == value,
        (found, _) => found.is_some(),
    }
}

/// True if a text matches a pattern whose `*` does not match `/`, as in Go's `path.Match`.
fn is_like(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            let end = text.find('/').unwrap_or(text.len());
            (0..=end).filter(|at| text.is_char_boundary(*at)).any(|at| is_like(rest, &text[at..]))
        }),
    }
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
            text(&rows(), &args, now),
            "REPOSITORY    TAG      IMAGE ID       CREATED      SIZE\n\
             app           1        ca978112ca1b   3 days ago   5.613MB\n\
             ghcr.io/x/y   latest   ca978112ca1b   3 days ago   5.613MB\n\
             <none>        <none>   3e23e8160039   3 days ago   5.613MB\n"
        );
        let quiet = ImagesArgs { quiet: true, ..ImagesArgs::default() };
        assert_eq!(text(&rows(), &quiet, now), "ca978112ca1b\n3e23e8160039\n");
        let values = values(&rows(), false, now);
        assert_eq!(values[0]["Repository"], "app");
        assert_eq!(values[0]["CreatedAt"], "2024-01-01 00:00:00 +0000 UTC");
        let digests = ImagesArgs { digests: true, no_trunc: true, ..ImagesArgs::default() };
        assert!(text(&rows(), &digests, now).contains("sha256:ca978112"));
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

    #[test]
    fn filters_are_dockers() {
        let rows = rows();
        for (filter, count) in [("app", 1), ("app:*", 1), ("*", 1), ("ghcr.io/*/y", 1), ("x", 0)] {
            let filters = Filters::read(&[format!("reference={filter}")]).unwrap();
            assert_eq!(rows.iter().filter(|row| filters.wants(row)).count(), count, "{filter}");
        }
        let until = |text: &str| Filters::read(&[format!("until={text}")]).unwrap().until.unwrap();
        assert_eq!(until("2024-01-01"), 1_704_067_200);
        assert_eq!(until("2024-01-01T00:00:01Z"), 1_704_067_201);
        assert_eq!(until("1704067202"), 1_704_067_202);
        assert!((now() - until("24h") - 86_400).abs() < 10);
        assert_eq!(Filters::read(&["label!=a=b".into()]).unwrap().no_labels, ["a=b"]);
        for (filter, word) in [
            ("x", "NAME=VALUE"),
            ("dangling=x", "neither"),
            ("a=b", "there are"),
            ("until=x", "not a time"),
        ] {
            let error = Filters::read(&[filter.to_owned()]).unwrap_err().to_string();
            assert!(error.contains(word), "{filter}: {error}");
        }
    }
}
