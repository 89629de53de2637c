//! `# key=value` comments on the first lines: `syntax`, `escape`, `check`.

use std::collections::BTreeMap;

use graph::LineRange;

use crate::error::Error;
use crate::go;

const KEYS: [&str; 3] = ["syntax", "escape", "check"];

/// Reads directives line by line until something else comes.
pub(crate) struct Reader {
    prefix: &'static str,
    done: bool,
    found: BTreeMap<&'static str, (String, u32)>,
}

impl Reader {
    pub(crate) fn new(prefix: &'static str) -> Self {
        Self { prefix, done: false, found: BTreeMap::new() }
    }

    /// The directive's key if the line is one.
    pub(crate) fn line(&mut self, line: &str, number: u32) -> Result<Option<&'static str>, Error> {
        if self.done {
            return Ok(None);
        }
        let directive = line.strip_prefix(self.prefix).and_then(key_value);
        let known = directive.and_then(|(key, value)| {
            KEYS.iter().find(|known| known.eq_ignore_ascii_case(key)).map(|key| (*key, value))
        });
        let Some((key, value)) = known else {
            self.done = true;
            return Ok(None);
        };
        if self.found.insert(key, (value.into(), number)).is_some() {
            return Err(Error::new(format!("only one {key} parser directive can be used"))
                .at(LineRange { first: number, last: number })
                .word(key)
                .hint("leave one of the lines out"));
        }
        Ok(Some(key))
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.found.get(key).map(|(value, _)| value.as_str())
    }
}

fn key_value(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.trim_start().split_once('=')?;
    let (key, value) = (key.trim_end(), value.trim());
    let named = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.chars().all(|c| c.is_ascii_alphanumeric());
    (named && !value.is_empty()).then_some((key, value))
}

/// A directive of a text that may be no Dockerfile: comments may begin with `//`, or the text may
/// be JSON with the key in it. A first line `#!…` is left aside.
pub(crate) fn detect(key: &'static str, text: &str) -> Option<(String, Option<LineRange>)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let shebang = text.starts_with("#!");
    for prefix in ["#", "//"] {
        let mut reader = Reader::new(prefix);
        for (number, line) in text.lines().enumerate().skip(usize::from(shebang)) {
            // A repeated directive ends the search; the parser says what is wrong.
            if reader.done || reader.line(line, number as u32 + 1).is_err() {
                break;
            }
        }
        if let Some((value, line)) = reader.found.remove(key) {
            return Some((value, Some(LineRange { first: line, last: line })));
        }
    }
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    json.get(key)?.as_str().map(|value| (value.into(), None))
}

/// True if a `syntax` value names the language of this crate.
pub(crate) fn is_known_syntax(value: &str) -> bool {
    let reference = value.split(' ').next().unwrap_or_default();
    if reference == "dockerfile.v0" {
        return true;
    }
    let name = reference.split('@').next().unwrap_or_default();
    let name = name.split(':').next().unwrap_or_default();
    matches!(
        name.strip_prefix("docker.io/").unwrap_or(name),
        "docker/dockerfile" | "docker/dockerfile-upstream"
    )
}

pub(crate) fn foreign_syntax(value: &str) -> Error {
    Error::new(format!(
        "the frontend `{value}` cannot be run: Dockerfiles are read as `docker/dockerfile:1` reads them, \
         and no other syntax is known"
    ))
    .word(value)
    .hint("leave the directive out, or set the build argument BUILDKIT_SYNTAX=docker/dockerfile:1")
}

const CHECK_FORM: &str = "write skip=RULE,RULE;error=true;experimental=RULE, each part at will";

/// The options of `# check=…`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// Rules that are left aside.
    pub skip: Vec<String>,
    /// All rules are left aside.
    pub skip_all: bool,
    /// Experimental rules that count.
    pub experimental: Vec<String>,
    /// All experimental rules count.
    pub experimental_all: bool,
    /// A broken rule fails the build.
    pub error: bool,
}

impl CheckOptions {
    /// Reads `skip=A,B;error=true;experimental=all`.
    ///
    /// # Errors
    /// If an option is unknown or has a value that it cannot have.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut options = Self::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(options);
        }
        for part in text.splitn(3, ';') {
            let Some((key, value)) = part.split_once('=') else {
                let error = Error::new(format!("invalid check option {}", go::quote(part)));
                return Err(error.word(part).hint(CHECK_FORM));
            };
            let (key, value) = (key.trim(), value.trim());
            let rules = || value.split(',').map(|rule| rule.trim().to_owned()).collect();
            match (key, value) {
                ("skip", "all") => options.skip_all = true,
                ("skip", _) => options.skip = rules(),
                ("experimental", "all") => options.experimental_all = true,
                ("experimental", _) => options.experimental = rules(),
                ("error", _) => {
                    options.error = oci::parse_bool(value).ok_or_else(|| {
                        Error::new(format!("failed to parse check option {}", go::quote(part)))
                            .word(part)
                            .hint("error= is true or false")
                    })?;
                }
                _ => {
                    return Err(Error::new(format!("invalid check option {}", go::quote(key)))
                        .suggest(key, ["skip", "experimental", "error"])
                        .word(key)
                        .or_hint(|| CHECK_FORM.into()));
                }
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_is_found_in_any_text() {
        for text in [
            "# syntax=docker/dockerfile:1\nFROM x",
            "#!/bin/x\n#escape=`\n#  Syntax = docker/dockerfile:1 \n",
            "// syntax=docker/dockerfile:1\n",
            "{\"syntax\": \"docker/dockerfile:1\"}",
            "\u{feff}# syntax=docker/dockerfile:1\r\n",
        ] {
            assert_eq!(detect("syntax", text).unwrap().0, "docker/dockerfile:1", "{text}");
        }
        assert!(detect("syntax", "# a\n# syntax=x").is_none());
        assert!(detect("syntax", "\n# syntax=x").is_none());
    }

    #[test]
    fn known_frontends() {
        for text in ["docker/dockerfile", "docker.io/docker/dockerfile:1.4-labs", "dockerfile.v0"] {
            assert!(is_known_syntax(text), "{text}");
        }
        assert!(!is_known_syntax("ghcr.io/docker/dockerfile:1"));
        assert!(!is_known_syntax("tonistiigi/x"));
    }

    #[test]
    fn check_options_are_validated() {
        let options = CheckOptions::parse("skip=A, B;error=true").unwrap();
        assert_eq!(options.skip, ["A", "B"]);
        assert!(options.error);
        assert!(CheckOptions::parse("skip").is_err());
        assert!(CheckOptions::parse("err=true").is_err());
        assert!(CheckOptions::parse("error=maybe").is_err());
    }
}
