//! A step's key in words.

use std::collections::{BTreeMap, HashMap};

use graph::{Graph, Operation, StepId};
use oci::Digest;
use serde::{Deserialize, Serialize};
use solve::{InputFacts, StepFacts};

use super::parts;

/// A step that was made or found: what its key was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Names what was done to what: two steps with one name have one key.
    pub id: String,
    /// The beginning of its record's digest.
    #[serde(default)]
    pub record: String,
    /// The name in progress output, `[build 2/5] RUN make`.
    pub step: String,
    /// The kind of operation: only steps of one kind are compared.
    pub kind: String,
    /// The ingredients, by names that people know: `command`, `env PATH`, `source`.
    pub parts: BTreeMap<String, String>,
    /// The contents that it read.
    pub inputs: Vec<InputFact>,
    /// When it was last made or found, in seconds since 1970.
    pub time: i64,
}

/// The contents that a step read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFact {
    /// The step that made it, or the image, as people call it.
    pub name: String,
    /// Names what it was.
    pub id: String,
    /// The digest of what was read of it, where that counts alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The files that were read, where they are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileFact>,
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFact {
    /// Path in its context.
    #[serde(rename = "p")]
    pub path: String,
    /// Permission bits.
    #[serde(rename = "m")]
    pub mode: u32,
    /// In bytes; of a folder that stands for what is in it, all of that.
    #[serde(rename = "s", default)]
    pub size: u64,
    /// The beginning of the digest of header and content; none where it was not computed.
    #[serde(rename = "d", default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
}

/// Files that are listed for one input; deeper ones are summed up in their folders.
const MOST_FILES: usize = 2000;

impl Fact {
    /// Facts of all steps but sources, each after those that it stands on. `files` knows the files
    /// that a step read of an input.
    pub fn of_steps(
        graph: &Graph,
        steps: &[StepFacts<layer::Chain>],
        time: i64,
        files: impl Fn(&InputFacts) -> Vec<FileFact>,
    ) -> Vec<(StepId, Self)> {
        let mut ids: HashMap<StepId, (String, String)> = HashMap::new();
        let mut facts = Vec::new();
        for known in steps {
            let step = graph.step(known.id);
            let mut inputs = Vec::new();
            for input in &known.inputs {
                let (name, id) = ids.get(&input.step).cloned().unwrap_or_default();
                let content = match &input.contents[..] {
                    [content] => Some(parts::short(*content)),
                    _ => None,
                };
                let files = match &content {
                    Some(_) => summed_up(files(input)),
                    None => Vec::new(),
                };
                inputs.push(InputFact { name, id, content, files });
            }
            let mut text = known.digests.first().map(ToString::to_string).unwrap_or_default();
            for (input, known) in inputs.iter().zip(&known.inputs) {
                let by = input.content.as_ref().unwrap_or(&input.id);
                let part = known.selector.filter(|_| input.content.is_none());
                text.push_str(&format!(" {part:?} {by}"));
            }
            let id = parts::short(Digest::of(text));
            let name = match &step.operation {
                Operation::Image(source) => source.reference.to_string(),
                _ => step.name.clone(),
            };
            ids.insert(known.id, (name, id.clone()));
            if !step.inputs.is_empty() {
                let (kind, parts) = parts::of(step);
                let step = step.name.clone();
                let record =
                    known.digests.first().map(|digest| parts::short(*digest)).unwrap_or_default();
                facts.push((
                    known.id,
                    Self { id, record, step, kind: kind.into(), parts, inputs, time },
                ));
            }
        }
        facts
    }

    /// The step's text without its place in its stage.
    pub(super) fn text(&self) -> &str {
        self.step.split_once("] ").map_or(&self.step, |(_, text)| text)
    }
}

/// Files, or where there are too many the folders that have them, as deep as will do.
pub(super) fn summed_up(files: Vec<FileFact>) -> Vec<FileFact> {
    if files.len() <= MOST_FILES {
        return files;
    }
    let deepest = files.iter().map(|file| file.path.matches('/').count()).max().unwrap_or(0);
    for depth in (1..=deepest).rev() {
        let folders = at_depth(&files, depth);
        if folders.len() <= MOST_FILES {
            return folders;
        }
    }
    let mut some = files;
    some.truncate(MOST_FILES);
    some
}

fn at_depth(files: &[FileFact], depth: usize) -> Vec<FileFact> {
    let mut folders: BTreeMap<String, (FileFact, String)> = BTreeMap::new();
    for file in files {
        let end = file.path.match_indices('/').nth(depth).map_or(file.path.len(), |(at, _)| at);
        let path = file.path[..end].to_owned();
        let (sum, text) = folders.entry(path.clone()).or_insert_with(|| {
            (FileFact { path, mode: file.mode, size: 0, digest: String::new() }, String::new())
        });
        sum.size += file.size;
        text.push_str(&format!("{}\0{}\0{}\0{}\n", file.path, file.mode, file.size, file.digest));
    }
    let folders = folders.into_values();
    folders.map(|(sum, text)| FileFact { digest: parts::short(Digest::of(text)), ..sum }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_files_are_summed_up_in_folders() {
        let file = |path: String, digest: &str| FileFact {
            path,
            mode: 0o644,
            size: 2,
            digest: digest.into(),
        };
        let mut files: Vec<FileFact> =
            (0..5000).map(|at| file(format!("/src/{}/f{at}", at % 10), "x")).collect();
        let before = summed_up(files.clone());
        assert_eq!(before.len(), 10);
        assert_eq!((before[3].path.as_str(), before[3].size), ("/src/3", 1000));
        files[23].digest = "y".into();
        let after = summed_up(files);
        let changed = before.iter().zip(&after).filter(|(before, after)| before != after);
        assert_eq!(changed.map(|(before, _)| before.path.as_str()).collect::<Vec<_>>(), ["/src/3"]);
        let few = vec![file("/a".into(), "x")];
        assert_eq!(summed_up(few.clone()), few);
    }
}
