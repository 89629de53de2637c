//! The filters of lists of containers.

use std::collections::BTreeMap;
use std::time::SystemTime;

use regex::{Regex, RegexBuilder};

use crate::moments::parse_moment;
use crate::{
    ApiError, ContainerDetails, ContainerMount, ContainerNetwork, ContainerStatus, Filters,
    MountSource,
};

/// Bytes that a pattern may become.
const PATTERN_SIZE: usize = 1 << 18;
/// Patterns of one request.
const MOST_PATTERNS: usize = 100;

/// The containers that a client wants.
#[derive(Debug, Default)]
pub(crate) struct ContainerFilters {
    ids: Vec<NamePattern>,
    names: Vec<NamePattern>,
    labels: Vec<LabelFilter>,
    statuses: Vec<String>,
    exited: Vec<i32>,
    before: Option<SystemTime>,
    since: Option<SystemTime>,
    networks: Vec<String>,
    volumes: Vec<String>,
    /// Images as the client named them, and their IDs.
    ancestors: Option<Vec<String>>,
}

/// A text, or a regular expression that a part of a text fits.
#[derive(Debug)]
struct NamePattern {
    text: String,
    expression: Regex,
}

impl NamePattern {
    fn new(name: &str, text: &str) -> Result<Self, ApiError> {
        let expression = RegexBuilder::new(text).size_limit(PATTERN_SIZE).build();
        let expression = expression.map_err(|_| wrong(name, text))?;
        Ok(Self { text: text.to_owned(), expression })
    }

    fn fits(&self, text: &str) -> bool {
        self.text == text || self.expression.is_match(text)
    }
}

/// A label that must be there, or must not.
#[derive(Debug)]
pub(crate) struct LabelFilter {
    name: String,
    value: Option<String>,
}

impl LabelFilter {
    pub(crate) fn new(text: &str) -> Self {
        match text.split_once('=') {
            Some((name, value)) => Self { name: name.to_owned(), value: Some(value.to_owned()) },
            None => Self { name: text.to_owned(), value: None },
        }
    }

    pub(crate) fn fits(&self, labels: &BTreeMap<String, String>) -> bool {
        let found = labels.get(&self.name);
        found.is_some_and(|found| self.value.as_ref().is_none_or(|value| value == found))
    }
}

fn wrong(name: &str, text: &str) -> ApiError {
    let text: String = text.chars().take(100).collect();
    ApiError::BadRequest(format!("invalid filter '{name}={text}'"))
}

/// The error about a filter that an endpoint does not have.
pub(crate) fn unknown(name: &str) -> ApiError {
    let name: String = name.chars().take(100).collect();
    ApiError::BadRequest(format!("invalid filter '{name}'"))
}

impl ContainerFilters {
    /// Reads filters. The images of `ancestor` are looked up by the caller ([`ContainerFilters::resolve`]).
    ///
    /// # Errors
    /// If a filter is not known, or names a container that is not there.
    pub(crate) fn read(filters: &Filters, all: &[ContainerDetails]) -> Result<Self, ApiError> {
        let is_pattern = |(name, _): &&(String, String)| name == "id" || name == "name";
        if filters.0.iter().filter(is_pattern).count() > MOST_PATTERNS {
            return Err(ApiError::BadRequest(format!("more than {MOST_PATTERNS} patterns")));
        }
        let mut read = Self::default();
        for (name, value) in &filters.0 {
            match name.as_str() {
                "id" => read.ids.push(NamePattern::new(name, value)?),
                "name" => read.names.push(NamePattern::new(name, value)?),
                "label" => read.labels.push(LabelFilter::new(value)),
                "status" => {
                    const STATUSES: [&str; 7] = [
                        "created",
                        "restarting",
                        "running",
                        "removing",
                        "paused",
                        "exited",
                        "dead",
                    ];
                    if !STATUSES.contains(&value.as_str()) {
                        return Err(wrong(name, value));
                    }
                    read.statuses.push(value.clone());
                }
                "exited" => read.exited.push(value.parse().map_err(|_| wrong(name, value))?),
                "before" => read.before = Some(created(all, value)?),
                "since" => read.since = Some(created(all, value)?),
                "network" => read.networks.push(value.clone()),
                "volume" => read.volumes.push(value.clone()),
                "ancestor" => read.ancestors.get_or_insert_default().push(value.clone()),
                other => return Err(unknown(other)),
            }
        }
        Ok(read)
    }

    /// The images whose containers are wanted.
    pub(crate) fn images(&self) -> Vec<String> {
        self.ancestors.clone().unwrap_or_default()
    }

    /// Adds the ID of an image whose containers are wanted.
    pub(crate) fn resolve(&mut self, id: String) {
        self.ancestors.get_or_insert_default().push(id);
    }

    /// True if containers that do not run are wanted, though the client did not ask for all.
    pub(crate) fn is_for_all(&self) -> bool {
        !self.statuses.is_empty() || !self.exited.is_empty()
    }

    pub(crate) fn fit(&self, container: &ContainerDetails) -> bool {
        let any = |patterns: &[NamePattern], texts: &[&str]| {
            patterns.is_empty()
                || patterns.iter().any(|pattern| texts.iter().any(|text| pattern.fits(text)))
        };
        let slashed = format!("/{}", container.name);
        let status = container.state.status;
        any(&self.ids, &[&container.id.0])
            && any(&self.names, &[&container.name, &slashed])
            && self.labels.iter().all(|label| label.fits(&container.spec.labels))
            && (self.statuses.is_empty() || self.statuses.iter().any(|word| word == status.word()))
            && self.fits_exit(container)
            && self.before.is_none_or(|before| container.created < before)
            && self.since.is_none_or(|since| container.created > since)
            && self.fits_network(container)
            && self.fits_volume(container)
            && self.fits_image(container)
    }

    fn fits_exit(&self, container: &ContainerDetails) -> bool {
        let is_over = container.state.status == ContainerStatus::Exited;
        self.exited.is_empty() || (is_over && self.exited.contains(&container.state.exit_code))
    }

    fn fits_network(&self, container: &ContainerDetails) -> bool {
        let fits = |name: &String| match container.spec.host.network {
            ContainerNetwork::Host => matches!(name.as_str(), "host" | "bridge" | "default"),
            ContainerNetwork::None => name == "none",
        };
        self.networks.is_empty() || self.networks.iter().any(fits)
    }

    fn fits_volume(&self, container: &ContainerDetails) -> bool {
        let of_mount = |mount: &ContainerMount, wanted: &str| {
            let is_source =
                matches!(&mount.source, MountSource::Bind { path, .. } if path == wanted);
            is_source || mount.target == wanted
        };
        let fits = |wanted: &String| {
            container.spec.host.mounts.iter().any(|mount| of_mount(mount, wanted))
                || container.spec.volumes.contains(wanted)
        };
        self.volumes.is_empty() || self.volumes.iter().any(fits)
    }

    fn fits_image(&self, container: &ContainerDetails) -> bool {
        let Some(ancestors) = &self.ancestors else { return true };
        ancestors
            .iter()
            .any(|wanted| *wanted == container.image_id || *wanted == container.spec.image)
    }
}

/// The creation of a container that a filter names.
fn created(all: &[ContainerDetails], name: &str) -> Result<SystemTime, ApiError> {
    let name = name.trim_start_matches('/');
    let found = all.iter().find(|container| container.name == name || container.id.0 == name);
    let found = found.or_else(|| {
        all.iter().find(|container| !name.is_empty() && container.id.0.starts_with(name))
    });
    found
        .map(|container| container.created)
        .ok_or_else(|| ApiError::NotFound(format!("No such container: {name}")))
}

/// The containers that `POST /containers/prune` removes.
#[derive(Debug, Default)]
pub struct PruneFilters {
    until: Option<SystemTime>,
    with: Vec<LabelFilter>,
    without: Vec<LabelFilter>,
}

impl PruneFilters {
    /// Reads the filters of a prune at a time.
    ///
    /// # Errors
    /// If one is unknown or wrong.
    pub fn read(filters: &Filters, now: SystemTime) -> Result<Self, ApiError> {
        let mut read = Self::default();
        for (name, value) in &filters.0 {
            match name.as_str() {
                "until" => read.until = Some(parse_moment("until", value, now)?),
                "label" => read.with.push(LabelFilter::new(value)),
                "label!" => read.without.push(LabelFilter::new(value)),
                other => return Err(unknown(other)),
            }
        }
        Ok(read)
    }

    /// True for a container that goes: one that does not run, and fits them all.
    pub fn fit(&self, container: &ContainerDetails) -> bool {
        let labels = &container.spec.labels;
        let is_over =
            matches!(container.state.status, ContainerStatus::Created | ContainerStatus::Exited);
        is_over
            && self.until.is_none_or(|until| container.created < until)
            && self.with.iter().all(|label| label.fits(labels))
            && !self.without.iter().any(|label| label.fits(labels))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::{ContainerId, ContainerSpec, ContainerState};

    fn container(name: &str, at: u64, status: ContainerStatus) -> ContainerDetails {
        ContainerDetails {
            id: ContainerId(format!("{at:064x}")),
            name: name.into(),
            image_id: "sha256:a".into(),
            created: UNIX_EPOCH + Duration::from_secs(at),
            spec: ContainerSpec {
                image: "app:1".into(),
                labels: [("a".to_owned(), "b".to_owned())].into(),
                ..ContainerSpec::default()
            },
            state: ContainerState {
                status,
                exit_code: 3,
                error: String::new(),
                pid: None,
                started: None,
                finished: None,
            },
            execs: Vec::new(),
            size: None,
        }
    }

    fn filters(pairs: &[(&str, &str)]) -> Filters {
        Filters(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    #[test]
    fn filters_choose_containers() {
        let all = [
            container("one", 1, ContainerStatus::Exited),
            container("two", 2, ContainerStatus::Running),
            container("twofold", 3, ContainerStatus::Created),
        ];
        for (pairs, names) in [
            (&[][..], "one two twofold"),
            (&[("name", "two")], "two twofold"),
            (&[("name", "^/two$")], "two"),
            (&[("id", &all[0].id.0)], "one"),
            (&[("label", "a=b"), ("label", "c")], ""),
            (&[("label", "a")], "one two twofold"),
            (&[("status", "running"), ("status", "created")], "two twofold"),
            (&[("exited", "3")], "one"),
            (&[("exited", "0")], ""),
            (&[("since", "one"), ("before", "twofold")], "two"),
            (&[("network", "none")], ""),
            (&[("network", "bridge")], "one two twofold"),
            (&[("ancestor", "app:1")], "one two twofold"),
            (&[("ancestor", "other")], ""),
            (&[("volume", "/data")], ""),
        ] {
            let read = ContainerFilters::read(&filters(pairs), &all).unwrap();
            let found = all.iter().filter(|container| read.fit(container));
            let found: Vec<&str> = found.map(|container| container.name.as_str()).collect();
            assert_eq!(found.join(" "), names, "{pairs:?}");
        }
        let mut by_id = ContainerFilters::read(&filters(&[("ancestor", "x")]), &all).unwrap();
        by_id.resolve("sha256:a".into());
        assert!(by_id.fit(&all[0]));
    }

    #[test]
    fn wrong_filters_are_refused() {
        let bomb = "(((a{100}){100}){100}){100}";
        for pair in [
            ("speed", "1"),
            ("status", "fast"),
            ("exited", "x"),
            ("before", "none"),
            ("name", "("),
            ("name", bomb),
        ] {
            assert!(ContainerFilters::read(&filters(&[pair]), &[]).is_err(), "{pair:?}");
        }
        let many = Filters(vec![("name".to_owned(), "a".to_owned()); 101]);
        assert!(ContainerFilters::read(&many, &[]).is_err());
    }

    #[test]
    fn prune_takes_what_does_not_run() {
        let now = UNIX_EPOCH + Duration::from_secs(100);
        let read = |pairs| PruneFilters::read(&filters(pairs), now).unwrap();
        let over = container("one", 1, ContainerStatus::Exited);
        assert!(read(&[]).fit(&over));
        assert!(!read(&[]).fit(&container("two", 2, ContainerStatus::Running)));
        assert!(read(&[("until", "90s")]).fit(&over));
        assert!(!read(&[("until", "100s")]).fit(&over));
        assert!(!read(&[("label!", "a")]).fit(&over));
        assert!(read(&[("label", "a=b")]).fit(&over));
        assert!(PruneFilters::read(&filters(&[("name", "x")]), now).is_err());
    }
}
