//! The `--name=value` words of an instruction.

use crate::error::Error;

/// The kind of value that a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlagKind {
    /// `true`, `false` or nothing, which is `true`.
    Bool,
    /// One value.
    Text,
    /// A value; may be given more than once.
    List,
}

/// The flags that were given.
#[derive(Debug)]
pub(crate) struct Flags(Vec<(&'static str, String)>);

impl Flags {
    /// Checks `given` against what the instruction knows.
    pub(crate) fn parse(
        given: &[String],
        known: &[(&'static str, FlagKind)],
    ) -> Result<Self, Error> {
        let mut flags: Vec<(&'static str, String)> = Vec::new();
        for word in given {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word.as_str(), None),
            };
            let bare = &name[2..];
            let Some(&(known_name, kind)) = known.iter().find(|(known, _)| *known == bare) else {
                return Err(Error::new(format!("unknown flag: {name}"))
                    .suggest(bare, known.iter().map(|(name, _)| *name))
                    .word(name)
                    .or_hint(|| known_flags(known)));
            };
            if kind != FlagKind::List && flags.iter().any(|(used, _)| *used == bare) {
                return Err(Error::new(format!("duplicate flag specified: {name}"))
                    .last_word(name)
                    .hint("leave one of them out"));
            }
            let value = match (kind, value) {
                (FlagKind::Bool, None) => "true".into(),
                (FlagKind::Text | FlagKind::List, None) | (FlagKind::Bool, Some("")) => {
                    return Err(Error::new(format!("missing a value on flag: {name}"))
                        .word(name)
                        .hint(format!("write {name}=VALUE")));
                }
                (FlagKind::Bool, Some(value)) => {
                    let lower = value.to_lowercase();
                    if lower != "true" && lower != "false" {
                        return Err(Error::new(format!(
                            "expecting boolean value for flag {name}, not: {value}"
                        ))
                        .word(word)
                        .hint(format!("write {name}, {name}=true or {name}=false")));
                    }
                    lower
                }
                (_, Some(value)) => value.into(),
            };
            flags.push((known_name, value));
        }
        Ok(Self(flags))
    }

    /// The value of a text flag; empty where it was not given.
    pub(crate) fn text(&self, name: &str) -> String {
        self.optional(name).unwrap_or_default()
    }

    /// The value of a text flag, if it was given.
    pub(crate) fn optional(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(used, _)| *used == name).map(|(_, value)| value.clone())
    }

    /// The value of a boolean flag, if it was given.
    pub(crate) fn bool(&self, name: &str) -> Option<bool> {
        self.optional(name).map(|value| value == "true")
    }

    /// The values of a list flag.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(used, _)| *used == name);
        values.map(|(_, value)| value.clone()).collect()
    }
}

/// A hint that lists an instruction's flags, where none is similar.
fn known_flags(known: &[(&'static str, FlagKind)]) -> String {
    let names: Vec<String> = known.iter().map(|(name, _)| format!("--{name}")).collect();
    match names.is_empty() {
        true => "it takes no flags; `--` in front of the word makes it an argument".into(),
        false => format!("it takes {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_checked() {
        let known =
            [("link", FlagKind::Bool), ("chown", FlagKind::Text), ("exclude", FlagKind::List)];
        let parse = |words: &[&str]| {
            Flags::parse(&words.iter().map(|w| (*w).into()).collect::<Vec<_>>(), &known)
                .map_err(|error| error.to_string())
        };
        let flags = parse(&["--link", "--chown=a=b", "--exclude=1", "--exclude=2"]).unwrap();
        assert_eq!(flags.bool("link"), Some(true));
        assert_eq!(flags.text("chown"), "a=b");
        assert_eq!(flags.list("exclude"), ["1", "2"]);
        for (words, error) in [
            (&["--chon=1"][..], "unknown flag: --chon (did you mean chown?)"),
            (
                &["--chown=1", "--chown=1"],
                "duplicate flag specified: --chown (leave one of them out)",
            ),
            (&["--chown"], "missing a value on flag: --chown (write --chown=VALUE)"),
            (&["--link="], "missing a value on flag: --link (write --link=VALUE)"),
            (
                &["--link=2"],
                "expecting boolean value for flag --link, not: 2 (write --link, --link=true or --link=false)",
            ),
        ] {
            assert_eq!(parse(words).unwrap_err(), error);
        }
    }
}
