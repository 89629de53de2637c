//! The nearest step that was known, and what differs.

use std::collections::BTreeMap;

use super::fact::{Fact, FileFact, InputFact};

/// The reason why a step ran, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing like it is known.
    Unknown,
    /// It was known, with the same key: what it made is not there, or was not to be used.
    Known {
        /// The step that was known.
        nearest: String,
    },
    /// Something differs from what was known.
    Differs {
        /// The nearest step that was known, as it was called then.
        nearest: String,
        /// The differences from it.
        differences: Vec<Difference>,
    },
}

/// Something that was one thing and is another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The part of the key: `command`, `file src/a.c: size`.
    pub what: String,
    /// The earlier value; none if there was none.
    pub before: Option<String>,
    /// The present value; none if there is none.
    pub after: Option<String>,
}

impl Difference {
    fn new(what: impl Into<String>, before: Option<&str>, after: Option<&str>) -> Self {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Self { what: what.into(), before: own(before), after: own(after) }
    }
}

/// Files that are named; the others are counted.
const MOST_NAMED: usize = 10;

/// Why a step was not found among those that are known.
pub fn why<'a>(step: &Fact, known: impl IntoIterator<Item = &'a Fact>) -> Why {
    let near = known.into_iter().filter(|fact| fact.kind == step.kind);
    let scored = near.filter_map(|fact| Some((nearness(step, fact)?, fact.time, fact)));
    let Some((_, _, nearest)) = scored.max_by_key(|(score, time, _)| (*score, *time)) else {
        return Why::Unknown;
    };
    let name = nearest.step.clone();
    if nearest.id == step.id {
        return Why::Known { nearest: name };
    }
    let mut differences = of_parts(&nearest.parts, &step.parts);
    differences.extend(of_inputs(&nearest.inputs, &step.inputs));
    match differences.is_empty() {
        true => Why::Known { nearest: name },
        false => Why::Differs { nearest: name, differences },
    }
}

/// A measure of what two steps have in common; none if they are not the same step in two builds.
fn nearness(step: &Fact, known: &Fact) -> Option<i64> {
    if step.id == known.id {
        return Some(i64::MAX);
    }
    let same = |label: &str| {
        step.parts.get(label).is_some_and(|value| known.parts.get(label) == Some(value))
    };
    let is_same_text = step.text() == known.text();
    let is_same_place = step.step.split_once(']').map(|(place, _)| place)
        == known.step.split_once(']').map(|(place, _)| place);
    let is_same_work =
        ["command", "destination", "inline file", "folder"].iter().any(|at| same(at));
    if !is_same_text && !is_same_work && !is_same_place {
        return None;
    }
    let shared = step.parts.iter().filter(|(label, value)| known.parts.get(*label) == Some(value));
    let shared = shared.count() as i64;
    let apart = (step.parts.len().max(known.parts.len())) as i64 - shared;
    let inputs = std::iter::zip(&step.inputs, &known.inputs);
    let same_inputs = inputs.filter(|(a, b)| is_same_input(a, b)).count() as i64;
    let of = |holds: bool, weight: i64| if holds { weight } else { 0 };
    Some(
        of(is_same_text, 40) + of(is_same_place, 10) + of(is_same_work, 30) + 8 * same_inputs
            - 4 * apart,
    )
}

fn is_same_input(a: &InputFact, b: &InputFact) -> bool {
    match (&a.content, &b.content) {
        (Some(a), Some(b)) => a == b,
        _ => a.id == b.id,
    }
}

fn of_parts(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<Difference> {
    let mut labels: Vec<&String> = before.keys().chain(after.keys()).collect();
    labels.sort();
    labels.dedup();
    let differs = labels.into_iter().filter(|label| before.get(*label) != after.get(*label));
    differs
        .map(|label| {
            let of = |parts: &BTreeMap<String, String>| parts.get(label).cloned();
            Difference { what: label.clone(), before: of(before), after: of(after) }
        })
        .collect()
}

fn of_inputs(before: &[InputFact], after: &[InputFact]) -> Vec<Difference> {
    let mut differences = Vec::new();
    for index in 0..before.len().max(after.len()) {
        match (before.get(index), after.get(index)) {
            (Some(before), Some(after)) if is_same_input(before, after) => (),
            (Some(before), Some(after)) => of_input(before, after, &mut differences),
            (Some(before), None) => {
                differences.push(Difference::new("input", Some(&before.name), None));
            }
            (None, Some(after)) => {
                differences.push(Difference::new("input", None, Some(&after.name)));
            }
            (None, None) => (),
        }
    }
    differences
}

fn of_input(before: &InputFact, after: &InputFact, differences: &mut Vec<Difference>) {
    if after.content.is_some() && before.content.is_some() {
        match before.files.is_empty() || after.files.is_empty() {
            true => differences.push(Difference {
                what: format!("what is read of {}", after.name),
                before: before.content.clone(),
                after: after.content.clone(),
            }),
            false => differences.extend(of_files(&before.files, &after.files)),
        }
        return;
    }
    let what = match before.name == after.name {
        // The step that made it says itself what differs, where it ran too.
        true => format!("what it stands on, {}", after.name),
        false => "what it stands on".into(),
    };
    let (old, new) = match before.name == after.name {
        true => (before.id.as_str(), after.id.as_str()),
        false => (before.name.as_str(), after.name.as_str()),
    };
    differences.push(Difference::new(what, Some(old), Some(new)));
}

fn of_files(before: &[FileFact], after: &[FileFact]) -> Vec<Difference> {
    let by_path = |files: &[FileFact]| -> BTreeMap<String, FileFact> {
        files.iter().map(|file| (file.path.clone(), file.clone())).collect()
    };
    let (before, after) = (by_path(before), by_path(after));
    let mut paths: Vec<&String> = before.keys().chain(after.keys()).collect();
    paths.sort();
    paths.dedup();
    let differs = |path: &&String| !of_file(path, before.get(*path), after.get(*path)).is_empty();
    paths.retain(differs);
    let more = paths.len().saturating_sub(MOST_NAMED);
    paths.truncate(MOST_NAMED);
    let mut differences: Vec<Difference> =
        paths.iter().flat_map(|path| of_file(path, before.get(*path), after.get(*path))).collect();
    if more > 0 {
        differences.push(Difference::new(format!("{more} more files"), None, None));
    }
    differences
}

/// The difference of a file: its mode, its size, or else its digest, which is of mode and content.
fn of_file(path: &str, before: Option<&FileFact>, after: Option<&FileFact>) -> Vec<Difference> {
    let size = |file: &FileFact| match file.size {
        1 => "1 byte".to_owned(),
        size => format!("{size} bytes"),
    };
    let (Some(old), Some(new)) = (before, after) else {
        let what = format!("file {path}");
        return vec![Difference { what, before: before.map(size), after: after.map(size) }];
    };
    let differs = |what: &str, of: &dyn Fn(&FileFact) -> String| Difference {
        what: format!("file {path}: {what}"),
        before: Some(of(old)),
        after: Some(of(new)),
    };
    let mut differences = Vec::new();
    if old.mode != new.mode {
        differences.push(differs("mode", &|file| format!("{:04o}", file.mode)));
    }
    if old.size != new.size {
        differences.push(differs("size", &size));
    }
    if differences.is_empty() && old.digest != new.digest {
        differences.push(differs("digest", &|file| file.digest.clone()));
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(step: &str, parts: &[(&str, &str)], base: &str) -> Fact {
        let parts: BTreeMap<String, String> =
            parts.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let input = InputFact { name: base.into(), id: base.into(), ..InputFact::default() };
        let id = format!("{parts:?} {base}");
        Fact {
            id,
            record: String::new(),
            step: step.into(),
            kind: "run".into(),
            parts,
            inputs: vec![input],
            time: 1,
        }
    }

    fn copy(files: &[(&str, u32, u64, &str)]) -> Fact {
        let files: Vec<FileFact> = files
            .iter()
            .map(|(path, mode, size, digest)| FileFact {
                path: (*path).into(),
                mode: *mode,
                size: *size,
                digest: (*digest).into(),
            })
            .collect();
        let content = format!("{files:?}");
        let context = InputFact {
            name: "context".into(),
            id: String::new(),
            content: Some(content.clone()),
            files,
        };
        let base = InputFact { name: "base".into(), id: "base".into(), ..InputFact::default() };
        Fact {
            id: content,
            record: String::new(),
            step: "[2/3] COPY . .".into(),
            kind: "files".into(),
            parts: [("destination".to_owned(), "/app/".to_owned())].into(),
            inputs: vec![base, context],
            time: 1,
        }
    }

    fn differences(why: Why) -> Vec<String> {
        match why {
            Why::Differs { differences, .. } => differences
                .into_iter()
                .map(|Difference { what, before, after }| format!("{what}: {before:?} {after:?}"))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_variable_that_differs_is_named() {
        let known = [
            run("[2/3] RUN make", &[("command", "make"), ("environment variable A", "1")], "base"),
            run("[3/3] RUN test", &[("command", "test"), ("environment variable A", "2")], "base"),
        ];
        let parts = [("command", "make"), ("environment variable A", "2")];
        let now = run("[2/3] RUN make", &parts, "base");
        assert_eq!(
            differences(why(&now, &known)),
            [r#"environment variable A: Some("1") Some("2")"#]
        );
        let now = run("[2/3] RUN make", &[("command", "make")], "base");
        assert_eq!(differences(why(&now, &known)), [r#"environment variable A: Some("1") None"#]);
    }

    #[test]
    fn the_newest_of_equals_counts() {
        let old = run("[2/2] RUN make", &[("command", "make"), ("v", "1")], "base");
        let new =
            Fact { time: 2, ..run("[2/2] RUN make", &[("command", "make"), ("v", "2")], "base") };
        let now = run("[2/2] RUN make", &[("command", "make"), ("v", "3")], "base");
        assert_eq!(differences(why(&now, [&new, &old])), [r#"v: Some("2") Some("3")"#]);
    }

    #[test]
    fn mode_and_size_of_a_file_are_both_named() {
        let known = copy(&[("/a", 0o644, 5, "x"), ("/b", 0o644, 5, "x")]);
        let now = copy(&[("/a", 0o600, 6, "y"), ("/b", 0o644, 5, "y")]);
        assert_eq!(
            differences(why(&now, [&known])),
            [
                r#"file /a: mode: Some("0644") Some("0600")"#,
                r#"file /a: size: Some("5 bytes") Some("6 bytes")"#,
                r#"file /b: digest: Some("x") Some("y")"#,
            ]
        );
    }

    #[test]
    fn another_base_is_named() {
        let known = run("[2/2] RUN make", &[("command", "make")], "alpine@sha256:1");
        let now = run("[2/2] RUN make", &[("command", "make")], "alpine@sha256:2");
        assert_eq!(
            differences(why(&now, [&known])),
            [r#"what it stands on: Some("alpine@sha256:1") Some("alpine@sha256:2")"#]
        );
    }

    #[test]
    fn files_are_compared_one_by_one() {
        let known = copy(&[("/a", 0o644, 1, "x"), ("/b", 0o644, 5, "x"), ("/c", 0o644, 5, "x")]);
        let now = copy(&[("/a", 0o664, 1, "y"), ("/b", 0o644, 6, "y"), ("/d", 0o644, 5, "x")]);
        assert_eq!(
            differences(why(&now, [&known])),
            [
                r#"file /a: mode: Some("0644") Some("0664")"#,
                r#"file /b: size: Some("5 bytes") Some("6 bytes")"#,
                r#"file /c: Some("5 bytes") None"#,
                r#"file /d: None Some("5 bytes")"#,
            ]
        );
        let many: Vec<(String, u32, u64, &str)> =
            (0..50).map(|at| (format!("/f{at:02}"), 0o644, 1, "x")).collect();
        let many: Vec<_> = many.iter().map(|(p, m, s, d)| (p.as_str(), *m, *s, *d)).collect();
        let all = differences(why(&copy(&many), [&known]));
        assert_eq!(all.len(), MOST_NAMED + 1);
        assert!(all[MOST_NAMED].starts_with("43 more files"), "{all:?}");
    }

    #[test]
    fn what_is_known_or_unlike_is_said_so() {
        let known = run("[2/2] RUN make", &[("command", "make")], "base");
        assert!(matches!(why(&known, [&known]), Why::Known { .. }));
        let other = run("[7/9] RUN deploy", &[("command", "deploy")], "base");
        assert_eq!(why(&other, [&known]), Why::Unknown);
        assert_eq!(why(&copy(&[]), [&known]), Why::Unknown);
        assert_eq!(why(&known, []), Why::Unknown);
    }
}
