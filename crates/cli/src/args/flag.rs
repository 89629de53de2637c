//! The row of a table of flags: its spelling, and its handling.
//!
//! Each tool has a table of its own: a spelling that two tools share (`--tag`, `--target`) means
//! different things in them, and each table stands next to the code that reads it.

use super::compound::boolean;

/// A flag of a tool.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its name without dashes.
    pub name: &'static str,
    /// Other spellings.
    pub aliases: &'static [&'static str],
    /// Its letter.
    pub short: Option<char>,
    /// Its value, if it has one.
    pub takes: Takes,
    /// Its handling.
    pub handling: Handling,
}

/// The value of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// None, or a boolean after `=`.
    Switch,
    /// A value; the text is an example, for tests.
    Value(&'static str),
}

/// The handling of a flag.
#[derive(Clone, Copy, Debug)]
pub enum Handling {
    /// It does what the text says.
    Honoured(&'static str),
    /// It has no effect, since kiln always does what it asks for. The text gives the reason.
    NoEffect(&'static str),
    /// It has no effect, which is reported once. The text gives the reason.
    Noted(&'static str),
    /// It is refused, unless it is a switch that is turned off. The text gives the reason, and the
    /// line that works.
    Refused(&'static str),
    /// It depends on the value, as the text says.
    Judged(&'static str, fn(&str) -> Verdict),
}

/// The handling of a flag with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is taken.
    Take,
    /// It has no effect, for this reason.
    Note(&'static str),
    /// It is refused, for this reason.
    Refuse(&'static str),
}

impl Flag {
    /// A flag with a value; `example` is one.
    pub const fn value(name: &'static str, example: &'static str, handling: Handling) -> Self {
        Self { name, aliases: &[], short: None, takes: Takes::Value(example), handling }
    }

    /// A flag without a value.
    pub const fn switch(name: &'static str, handling: Handling) -> Self {
        Self { name, aliases: &[], short: None, takes: Takes::Switch, handling }
    }

    /// The flag with a letter.
    pub const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }

    /// The flag with other spellings.
    pub const fn alias(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// True for the name and for other spellings.
    pub fn is(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }

    /// The handling of the flag with a value.
    pub fn verdict(&self, value: &str) -> Verdict {
        let is_off = self.takes == Takes::Switch && boolean(value) == Some(false);
        match self.handling {
            Handling::Honoured(_) | Handling::NoEffect(_) => Verdict::Take,
            Handling::Refused(_) | Handling::Noted(_) if is_off => Verdict::Take,
            Handling::Noted(why) => Verdict::Note(why),
            Handling::Refused(why) => Verdict::Refuse(why),
            Handling::Judged(_, judge) => judge(value),
        }
    }

    /// Its spelling in help: `-t, --tag`.
    pub fn spelling(&self) -> String {
        let short = self.short.map(|short| format!("-{short}, ")).unwrap_or_default();
        format!("{short}--{}", self.name)
    }

    /// Its handling in help and in the documentation.
    pub fn outcome(&self) -> String {
        match self.handling {
            Handling::Honoured(text) | Handling::Judged(text, _) => text.into(),
            Handling::NoEffect(text) => format!("accepted: {text}"),
            Handling::Noted(text) => format!("accepted with a note: {text}"),
            Handling::Refused(text) => format!("refused: {text}"),
        }
    }
}
