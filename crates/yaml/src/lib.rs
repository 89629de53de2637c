//! YAML as JSON values, read as go-yaml reads it: the format of compose files and of Makisu's
//! registry files.
//!
//! The tools that these files are written for use go-yaml. Scalars therefore have its types (`010`
//! is eight), and indentation inside brackets and quotes is as free as there.
//!
//! Pure. Nesting, the number of values (aliases expanded) and the size of a text have limits.

#![forbid(unsafe_code)]

mod error;
mod indentation;
mod limits;
mod scalar;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Value};

use limits::{MAX_DEPTH, MAX_VALUES, TEXT_OF_VALUE};

pub use error::YamlError;
pub use limits::MAX_SIZE;
pub use scalar::text;

/// One document of a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// Its value, without the parts that are tagged `!reset`.
    pub root: Value,
    /// The paths tagged `!reset` or `!override`, where the values of earlier documents do not
    /// count.
    pub cleared: Vec<Vec<String>>,
}

/// Reads the first document. Keys become texts; `<<` merges.
///
/// # Errors
/// If the text is not YAML or exceeds a limit.
pub fn parse(text: &str) -> Result<Value, YamlError> {
    let first = documents(text)?.into_iter().next();
    Ok(first.map(|document| document.root).unwrap_or_default())
}

/// Reads all documents.
///
/// # Errors
/// As [`parse`].
pub fn documents(text: &str) -> Result<Vec<Document>, YamlError> {
    if text.len() > MAX_SIZE {
        return Err(YamlError::TooLarge);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let roots = indentation::freely(text, read)?;
    let (mut documents, mut values) = (Vec::new(), 0);
    for root in roots {
        let mut reading = Reading { values, ..Reading::default() };
        let value = reading.value(&root)?;
        values = reading.values;
        documents.push(Document { root: value.unwrap_or_default(), cleared: reading.cleared });
    }
    Ok(documents)
}

/// A node as it is written, before tags and merges mean anything.
#[derive(Debug)]
struct YamlNode {
    tag: Option<Tag>,
    kind: YamlNodeKind,
    /// The levels of nesting in it, with aliases expanded: 0 for a scalar. It bounds recursion, and
    /// that of dropping a node too.
    height: usize,
}

#[derive(Debug)]
enum YamlNodeKind {
    Scalar { text: String, is_plain: bool },
    Sequence(Vec<Rc<YamlNode>>),
    Mapping(Vec<(Rc<YamlNode>, Rc<YamlNode>)>),
}

/// A collection that has begun.
struct Open {
    anchor: usize,
    tag: Option<Tag>,
    is_mapping: bool,
    items: Vec<Rc<YamlNode>>,
}

/// The roots of all documents.
fn read(text: &str) -> Result<Vec<Rc<YamlNode>>, YamlError> {
    let mut roots = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut anchored: BTreeMap<usize, Rc<YamlNode>> = BTreeMap::new();
    for event in Parser::new_from_str(text) {
        let (anchor, node) = match event?.0 {
            Event::DocumentStart(_) => {
                anchored.clear();
                continue;
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() >= MAX_DEPTH => {
                return Err(YamlError::TooDeep);
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
                Some(done) => (done.anchor, Rc::new(done.node()?)),
                None => continue,
            },
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain;
                let kind = YamlNodeKind::Scalar { text: text.into_owned(), is_plain };
                let tag = tag.map(|tag| tag.into_owned());
                (anchor, Rc::new(YamlNode { tag, kind, height: 0 }))
            }
            Event::Alias(id) => (0, anchored.get(&id).ok_or(YamlError::Alias)?.clone()),
            _ => continue,
        };
        if anchor > 0 {
            anchored.insert(anchor, node.clone());
        }
        match open.last_mut() {
            Some(outer) => outer.items.push(node),
            None => roots.push(node),
        }
    }
    Ok(roots)
}

impl Open {
    fn node(self) -> Result<YamlNode, YamlError> {
        let height = 1 + self.items.iter().map(|item| item.height).max().unwrap_or(0);
        if height > MAX_DEPTH {
            return Err(YamlError::TooDeep);
        }
        let kind = if self.is_mapping {
            let mut items = self.items.into_iter();
            let mut pairs = Vec::new();
            while let (Some(key), Some(value)) = (items.next(), items.next()) {
                pairs.push((key, value));
            }
            YamlNodeKind::Mapping(pairs)
        } else {
            YamlNodeKind::Sequence(self.items)
        };
        Ok(YamlNode { tag: self.tag, kind, height })
    }
}

/// The conversion of one document from nodes to values.
#[derive(Default)]
struct Reading {
    values: usize,
    path: Vec<String>,
    cleared: Vec<Vec<String>>,
}

impl Reading {
    /// Counts a value or a merged map, and the length of its text.
    fn count(&mut self, length: usize) -> Result<(), YamlError> {
        self.values += 1 + length / TEXT_OF_VALUE;
        if self.values > MAX_VALUES {
            return Err(YamlError::TooManyValues);
        }
        Ok(())
    }

    /// A node's value; none if it is tagged `!reset`.
    fn value(&mut self, node: &YamlNode) -> Result<Option<Value>, YamlError> {
        self.count(length(node))?;
        match own_tag(node) {
            Some("reset") => {
                self.clear()?;
                return Ok(None);
            }
            Some("override") => self.clear()?,
            _ => {}
        }
        Ok(Some(match &node.kind {
            YamlNodeKind::Scalar { text, is_plain } => {
                scalar::read(text, *is_plain, node.tag.as_ref())?
            }
            YamlNodeKind::Sequence(items) => {
                let mut list = Vec::new();
                for (at, item) in items.iter().enumerate() {
                    self.path.push(at.to_string());
                    let item = self.value(item)?;
                    self.path.pop();
                    list.extend(item);
                }
                Value::Array(list)
            }
            YamlNodeKind::Mapping(pairs) => Value::Object(self.map(pairs)?),
        }))
    }

    /// Keeps the path, at which the values of earlier documents do not count.
    fn clear(&mut self) -> Result<(), YamlError> {
        self.count(self.path.iter().map(String::len).sum())?;
        self.cleared.push(self.path.clone());
        Ok(())
    }

    fn map(
        &mut self,
        pairs: &[(Rc<YamlNode>, Rc<YamlNode>)],
    ) -> Result<Map<String, Value>, YamlError> {
        let mut map = Map::new();
        let mut known = BTreeSet::new();
        for (key, item) in pairs.iter().filter(|(key, _)| !is_merge(key)) {
            self.values += length(key) / TEXT_OF_VALUE;
            let key = key_of(key)?;
            if !known.insert(key.clone()) {
                return Err(YamlError::DuplicateKey(key));
            }
            self.path.push(key);
            let item = self.value(item)?;
            let key = self.path.pop().unwrap_or_default();
            if let Some(item) = item {
                map.insert(key, item);
            }
        }
        for (_, item) in pairs.iter().filter(|(key, _)| is_merge(key)) {
            let maps = match &item.kind {
                YamlNodeKind::Sequence(items) => items.clone(),
                _ => vec![item.clone()],
            };
            for other in maps {
                let YamlNodeKind::Mapping(pairs) = &other.kind else {
                    return Err(YamlError::Merge);
                };
                // An empty map has no value that would count.
                self.count(0)?;
                for (key, item) in self.map(pairs)? {
                    map.entry(key).or_insert(item);
                }
            }
        }
        Ok(map)
    }
}

/// The length of a scalar's text.
fn length(node: &YamlNode) -> usize {
    match &node.kind {
        YamlNodeKind::Scalar { text, .. } => text.len(),
        YamlNodeKind::Sequence(_) | YamlNodeKind::Mapping(_) => 0,
    }
}

/// The name of a local tag: `reset` of `!reset`.
fn own_tag(node: &YamlNode) -> Option<&str> {
    let tag = node.tag.as_ref().filter(|tag| tag.handle == "!")?;
    Some(tag.suffix.as_str())
}

fn is_merge(key: &YamlNode) -> bool {
    matches!(&key.kind, YamlNodeKind::Scalar { text, is_plain: true } if text == "<<")
}

/// A key as a text.
fn key_of(node: &YamlNode) -> Result<String, YamlError> {
    match &node.kind {
        YamlNodeKind::Scalar { text, is_plain } => {
            match scalar::read(text, *is_plain, node.tag.as_ref())? {
                Value::String(key) => Ok(key),
                // Other scalars stay as written: `8080`, `true`, `~`.
                _ => Ok(text.clone()),
            }
        }
        YamlNodeKind::Sequence(_) => Err(YamlError::Key("a list".into())),
        YamlNodeKind::Mapping(_) => Err(YamlError::Key("a map".into())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]{}:,&*!#|>?'\"% \n\ta-c0-9.-]{0,60}") {
            let _ = documents(&text);
        }
    }

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
        assert!(matches!(documents(&text), Err(YamlError::TooManyValues)));
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a, ".repeat(1000));
        assert!(matches!(documents(&long), Err(YamlError::TooManyValues)));
        let document = format!("a: &a [{}]\nb: [{}]\n---\n", "x, ".repeat(300), "*a, ".repeat(300));
        assert!(documents(&document).is_ok());
        assert!(matches!(documents(&document.repeat(10)), Err(YamlError::TooManyValues)));
    }

    #[test]
    fn merges_do_not_grow_for_ever() {
        let mut text = "a0: &a0 {}\n".to_owned();
        for at in 1..12 {
            let before = format!("*a{}, ", at - 1).repeat(10);
            text.push_str(&format!("a{at}: &a{at} {{<<: [{before}]}}\n"));
        }
        assert!(matches!(documents(&text), Err(YamlError::TooManyValues)));
        let mut chain = "a0: &a0 {}\n".to_owned();
        for at in 1..100_000 {
            chain.push_str(&format!("a{at}: &a{at} {{<<: *a{}}}\n", at - 1));
        }
        assert!(matches!(documents(&chain), Err(YamlError::TooDeep)));
    }
}
