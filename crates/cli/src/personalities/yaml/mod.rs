//! YAML as values like JSON's: what compose files and Makisu's registry files are read from.
//!
//! The tools that people write these files for read them with go-yaml, so that scalars mean what
//! they mean there (`010` is eight), and indentation inside brackets and quotes is as free.

mod indentation;
mod scalar;

use std::collections::BTreeSet;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};
use serde_json::{Map, Value};

pub use scalar::text;

/// A larger text is none of these files.
pub const LARGEST: usize = 4 << 20;
/// Nested deeper, it is a mistake.
const DEEPEST: usize = 64;
/// So many values, those of aliases included, has no file that people write.
const MOST_VALUES: usize = 200_000;

/// A text that cannot be read as YAML.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    /// It is too large.
    #[error("it is larger than {} MiB", LARGEST >> 20)]
    Large,
    /// Its form is wrong.
    #[error("{0}")]
    Form(#[from] ScanError),
    /// It is nested too deep.
    #[error("it is nested too deep")]
    Deep,
    /// Aliases make too much of it.
    #[error("it has more than {MOST_VALUES} values")]
    Long,
    /// A key that is none.
    #[error("`{0}` is no key")]
    Key(String),
    /// A key that is there twice.
    #[error("the key `{0}` is there twice")]
    Twice(String),
    /// A merge of something else than maps.
    #[error("`<<` merges maps, and this is none")]
    Merge,
    /// A scalar whose tag says something else.
    #[error("`{text}` is no `{tag}`")]
    Tag {
        /// What the tag asks for.
        tag: String,
        /// What is there.
        text: String,
    },
    /// A scalar that no value can be.
    #[error("`{0}` is no value")]
    Value(String),
    /// An alias of what is not there, or of what it is in.
    #[error("an alias has no value")]
    Alias,
}

/// One document of a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// What it says; what is tagged `!reset` is left out.
    pub root: Value,
    /// The places that are tagged `!reset` or `!override`: what documents before said of them does
    /// not count.
    pub cleared: Vec<Vec<String>>,
}

/// Reads the first document. Keys become texts; `<<` merges.
///
/// # Errors
/// What cannot be read, with its line where that is known.
pub fn parse(text: &str) -> Result<Value, YamlError> {
    let first = documents(text)?.into_iter().next();
    Ok(first.map(|document| document.root).unwrap_or_default())
}

/// Reads all documents.
///
/// # Errors
/// As [`parse`].
pub fn documents(text: &str) -> Result<Vec<Document>, YamlError> {
    if text.len() > LARGEST {
        return Err(YamlError::Large);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let roots = indentation::freely(text, read)?;
    let mut documents = Vec::new();
    for root in roots {
        let mut reading = Reading::default();
        let value = reading.value(&root, 0)?;
        documents.push(Document { root: value.unwrap_or_default(), cleared: reading.cleared });
    }
    Ok(documents)
}

/// A node as it is written, before tags and merges mean anything.
#[derive(Debug)]
struct Node {
    tag: Option<Tag>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Scalar { text: String, is_plain: bool },
    Sequence(Vec<Rc<Node>>),
    Mapping(Vec<(Rc<Node>, Rc<Node>)>),
}

/// A collection that has begun.
struct Open {
    anchor: usize,
    tag: Option<Tag>,
    is_mapping: bool,
    items: Vec<Rc<Node>>,
}

/// The roots of all documents.
fn read(text: &str) -> Result<Vec<Rc<Node>>, YamlError> {
    let mut roots = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut anchored: Vec<(usize, Rc<Node>)> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (anchor, node) = match event?.0 {
            Event::DocumentStart(_) => {
                anchored.clear();
                continue;
            }
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag)
                if open.len() >= DEEPEST =>
            {
                drop((anchor, tag));
                return Err(YamlError::Deep);
            }
            Event::SequenceStart(anchor, tag) => {
                let tag = tag.map(|tag| tag.into_owned());
                open.push(Open { anchor, tag, is_mapping: false, items: Vec::new() });
                continue;
            }
            Event::MappingStart(anchor, tag) => {
                let tag = tag.map(|tag| tag.into_owned());
                open.push(Open { anchor, tag, is_mapping: true, items: Vec::new() });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(done) => (done.anchor, Rc::new(done.node())),
                None => continue,
            },
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain;
                let kind = Kind::Scalar { text: text.into_owned(), is_plain };
                (anchor, Rc::new(Node { tag: tag.map(|tag| tag.into_owned()), kind }))
            }
            Event::Alias(id) => {
                let found = anchored.iter().rev().find(|(anchor, _)| *anchor == id);
                (0, found.ok_or(YamlError::Alias)?.1.clone())
            }
            _ => continue,
        };
        if anchor > 0 {
            anchored.push((anchor, node.clone()));
        }
        match open.last_mut() {
            Some(outer) => outer.items.push(node),
            None => roots.push(node),
        }
    }
    Ok(roots)
}

impl Open {
    fn node(self) -> Node {
        let kind = match self.is_mapping {
            false => Kind::Sequence(self.items),
            true => {
                let mut items = self.items.into_iter();
                let mut pairs = Vec::new();
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    pairs.push((key, value));
                }
                Kind::Mapping(pairs)
            }
        };
        Node { tag: self.tag, kind }
    }
}

/// Nodes on their way to values.
#[derive(Default)]
struct Reading {
    values: usize,
    path: Vec<String>,
    cleared: Vec<Vec<String>>,
}

impl Reading {
    /// A node's value; none if it is tagged `!reset`.
    fn value(&mut self, node: &Node, depth: usize) -> Result<Option<Value>, YamlError> {
        self.values += 1;
        if self.values > MOST_VALUES {
            return Err(YamlError::Long);
        }
        if depth > DEEPEST {
            return Err(YamlError::Deep);
        }
        match own_tag(node) {
            Some("reset") => {
                self.cleared.push(self.path.clone());
                return Ok(None);
            }
            Some("override") => self.cleared.push(self.path.clone()),
            _ => {}
        }
        Ok(Some(match &node.kind {
            Kind::Scalar { text, is_plain } => scalar::read(text, *is_plain, node.tag.as_ref())?,
            Kind::Sequence(items) => {
                let mut list = Vec::new();
                for (at, item) in items.iter().enumerate() {
                    self.path.push(at.to_string());
                    let item = self.value(item, depth + 1)?;
                    self.path.pop();
                    list.extend(item);
                }
                Value::Array(list)
            }
            Kind::Mapping(pairs) => Value::Object(self.map(pairs, depth)?),
        }))
    }

    fn map(
        &mut self,
        pairs: &[(Rc<Node>, Rc<Node>)],
        depth: usize,
    ) -> Result<Map<String, Value>, YamlError> {
        let mut map = Map::new();
        let mut known = BTreeSet::new();
        for (key, item) in pairs.iter().filter(|(key, _)| !is_merge(key)) {
            let key = key_of(key)?;
            if !known.insert(key.clone()) {
                return Err(YamlError::Twice(key));
            }
            self.path.push(key);
            let item = self.value(item, depth + 1)?;
            let key = self.path.pop().unwrap_or_default();
            if let Some(item) = item {
                map.insert(key, item);
            }
        }
        for (_, item) in pairs.iter().filter(|(key, _)| is_merge(key)) {
            let maps = match &item.kind {
                Kind::Sequence(items) => items.clone(),
                _ => vec![item.clone()],
            };
            for other in maps {
                let Kind::Mapping(pairs) = &other.kind else { return Err(YamlError::Merge) };
                for (key, item) in self.map(pairs, depth + 1)? {
                    map.entry(key).or_insert(item);
                }
            }
        }
        Ok(map)
    }
}

/// The name of a tag that is not of YAML's own: `!reset`.
fn own_tag(node: &Node) -> Option<&str> {
    let tag = node.tag.as_ref().filter(|tag| tag.handle == "!")?;
    Some(tag.suffix.as_str())
}

fn is_merge(key: &Node) -> bool {
    matches!(&key.kind, Kind::Scalar { text, is_plain: true } if text == "<<")
}

/// A key as a text.
fn key_of(node: &Node) -> Result<String, YamlError> {
    match &node.kind {
        Kind::Scalar { text, is_plain } => {
            match scalar::read(text, *is_plain, node.tag.as_ref())? {
                Value::String(key) => Ok(key),
                // As it is written: `8080`, `true`, `~`.
                _ => Ok(text.clone()),
            }
        }
        Kind::Sequence(_) => Err(YamlError::Key("a list".into())),
        Kind::Mapping(_) => Err(YamlError::Key("a map".into())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_values() {
        let text =
            "x: &x {a: 1, b: yes}\ny:\n  <<: *x\n  b: 'no'\n  c: [1.5, ~, true, \"3\"]\n8080: z\n";
        assert_eq!(
            parse(text).unwrap(),
            json!({
                "x": {"a": 1, "b": "yes"},
                "y": {"b": "no", "c": [1.5, null, true, "3"], "a": 1},
                "8080": "z",
            })
        );
        assert_eq!(parse("").unwrap(), Value::Null);
        for text in ["a: [", "a: 1\na: 2\n", "a: *x", "<<: [1]", "[a]: b", "a: &a [*a]"] {
            assert!(parse(text).is_err(), "{text}");
        }
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert!(parse(&deep).is_err());
    }

    #[test]
    fn every_document_is_read() {
        let text = "a: &x 1\n---\nb: 2\n...\n---\n# nothing\n";
        let roots: Vec<Value> =
            documents(text).unwrap().into_iter().map(|document| document.root).collect();
        assert_eq!(roots, [json!({"a": 1}), json!({"b": 2}), Value::Null]);
        assert!(documents("a: &x 1\n---\nb: *x\n").is_err());
        assert!(documents("# a comment\n").unwrap().is_empty());
    }

    #[test]
    fn places_that_are_cleared_are_known() {
        let text =
            "a: {b: !reset [1, 2], c: !override {d: 1}}\ne: [x, !reset y]\nf: &f !reset\ng: *f\n";
        let document = documents(text).unwrap().remove(0);
        assert_eq!(document.root, json!({"a": {"c": {"d": 1}}, "e": ["x"]}));
        let cleared: Vec<String> = document.cleared.iter().map(|path| path.join(".")).collect();
        assert_eq!(cleared, ["a.b", "a.c", "e.1", "f", "g"]);
    }

    #[test]
    fn aliases_do_not_grow_for_ever() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for at in 1..12 {
            let before = format!("*a{}, ", at - 1).repeat(10);
            text.push_str(&format!("a{at}: &a{at} [{before}]\n"));
        }
        assert!(matches!(documents(&text), Err(YamlError::Long)));
    }
}
