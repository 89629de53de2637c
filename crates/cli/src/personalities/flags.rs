//! The parser of other tools' command lines, driven by a table of [`Flag`]s.
//!
//! A command line is read as Go's pflag reads it: `--name value`, `--name=value`, `-n value`,
//! `-nvalue`, `-n=value`, several short switches in one word, `--` before operands. A flag that a
//! table honours has to be read by the code behind it: [`ParsedFlags::done`] names one that was not, and
//! a test walks every row of every table.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::args::FlagError;
use crate::args::compound::boolean;
pub use crate::args::flag::{Flag, Handling, Takes, Verdict};

/// The place of operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operands {
    /// Flags may come after operands.
    Anywhere,
    /// The first operand ends the flags: a command, with flags of its own.
    End,
}

/// The flags and operands of a command line.
#[derive(Debug)]
pub struct ParsedFlags {
    rows: &'static [Flag],
    values: Vec<(&'static str, String)>,
    /// Words that belong to no flag.
    pub operands: Vec<String>,
    /// Notes on flags without effect, one sentence each.
    pub notes: Vec<String>,
    /// True if `--help` or `-h` was given.
    pub help: bool,
    read: RefCell<BTreeSet<&'static str>>,
}

/// Reads a command line by a table.
///
/// # Errors
/// If a flag is unknown, incomplete or refused.
pub fn read(
    rows: &'static [Flag],
    words: &[String],
    operands: Operands,
) -> Result<ParsedFlags, FlagError> {
    let mut given = ParsedFlags {
        rows,
        values: Vec::new(),
        operands: Vec::new(),
        notes: Vec::new(),
        help: false,
        read: RefCell::default(),
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            given.operands.extend(words.cloned());
            break;
        }
        if let Some(flag) = word.strip_prefix("--") {
            given.take_long(flag, &mut words)?;
        } else if word.len() > 1 && word.starts_with('-') {
            given.take_short(&word[1..], &mut words)?;
        } else {
            given.operands.push(word.clone());
            if operands == Operands::End {
                given.operands.extend(words.cloned());
                break;
            }
        }
    }
    Ok(given)
}

impl ParsedFlags {
    fn take_long<'w>(
        &mut self,
        flag: &str,
        words: &mut impl Iterator<Item = &'w String>,
    ) -> Result<(), FlagError> {
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        match self.rows.iter().find(|row| row.is(name)) {
            Some(row) => self.keep(row, &format!("--{name}"), value, words),
            None if name == "help" => {
                self.help = true;
                Ok(())
            }
            None => Err(unknown(&format!("--{name}"), self.rows)),
        }
    }

    fn take_short<'w>(
        &mut self,
        letters: &str,
        words: &mut impl Iterator<Item = &'w String>,
    ) -> Result<(), FlagError> {
        // Go's `flag` package writes long flags with one dash too.
        let whole = letters.split('=').next().unwrap_or_default();
        if whole.len() > 1 && self.rows.iter().any(|row| row.is(whole)) {
            return self.take_long(letters, words);
        }
        let mut rest = letters;
        while let Some(letter) = rest.chars().next() {
            rest = &rest[letter.len_utf8()..];
            let Some(row) = self.rows.iter().find(|row| row.short == Some(letter)) else {
                if letter == 'h' {
                    self.help = true;
                    continue;
                }
                return Err(unknown(&format!("-{letter}"), self.rows));
            };
            let flag = format!("-{letter}");
            match (row.takes, rest.strip_prefix('=')) {
                (_, Some(value)) => return self.keep(row, &flag, Some(value.into()), words),
                (Takes::Value(_), None) if !rest.is_empty() => {
                    return self.keep(row, &flag, Some(rest.into()), words);
                }
                _ => self.keep(row, &flag, None, words)?,
            }
        }
        Ok(())
    }

    fn keep<'w>(
        &mut self,
        row: &'static Flag,
        flag: &str,
        value: Option<String>,
        words: &mut impl Iterator<Item = &'w String>,
    ) -> Result<(), FlagError> {
        let value = match (row.takes, value) {
            (Takes::Switch, None) => "true".into(),
            (Takes::Switch, Some(text)) => match boolean(&text) {
                Some(value) => value.to_string(),
                None => {
                    let flag = format!("{flag}={text}");
                    return Err(FlagError::bad(flag, "it is neither true nor false"));
                }
            },
            (Takes::Value(_), Some(value)) => value,
            (Takes::Value(_), None) => match words.next() {
                Some(word) => word.clone(),
                None => return Err(FlagError::NoValue(flag.to_owned())),
            },
        };
        match (row.verdict(&value), row.handling) {
            (Verdict::Take, _) => {}
            (Verdict::Note(why), _) => self.note(flag, why),
            (Verdict::Refuse(why), Handling::Judged(..)) => {
                return Err(FlagError::refused(format!("{flag}={value}"), why));
            }
            (Verdict::Refuse(why), _) => return Err(FlagError::refused(flag, why)),
        }
        self.values.push((row.name, value));
        Ok(())
    }

    /// Adds a value that a file has for a flag; `shown` names it in notes and errors.
    ///
    /// # Errors
    /// If it is refused.
    pub fn add(&mut self, name: &str, shown: &str, value: String) -> Result<(), FlagError> {
        match self.rows.iter().find(|row| row.is(name)) {
            Some(row) => self.keep(row, shown, Some(value), &mut std::iter::empty()),
            None => Err(unknown(&format!("--{name}"), self.rows)),
        }
    }

    /// True if a flag has a value, which counts as unread all the same.
    pub fn was_given(&self, name: &str) -> bool {
        let row = self.rows.iter().find(|row| row.is(name));
        row.is_some_and(|row| self.values.iter().any(|(given, _)| *given == row.name))
    }

    fn note(&mut self, flag: &str, why: &str) {
        let note = format!("`{flag}`: {why}");
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// All values of a flag, in order, as owned texts.
    pub fn texts(&self, name: &'static str) -> Vec<String> {
        self.all(name).into_iter().map(str::to_owned).collect()
    }

    /// All values of a flag, in order.
    pub fn all(&self, name: &'static str) -> Vec<&str> {
        debug_assert!(self.rows.iter().any(|row| row.name == name), "no row `{name}`");
        self.read.borrow_mut().insert(name);
        let own = self.values.iter().filter(|(flag, _)| *flag == name);
        own.map(|(_, value)| value.as_str()).collect()
    }

    /// The last value of a flag; none if it is empty.
    pub fn last(&self, name: &'static str) -> Option<&str> {
        self.all(name).last().copied().filter(|value| !value.is_empty())
    }

    /// True if a switch is on.
    pub fn is_on(&self, name: &'static str, default: bool) -> bool {
        self.all(name).last().map_or(default, |value| *value == "true")
    }

    /// True if a flag was given at all.
    pub fn has(&self, name: &'static str) -> bool {
        !self.all(name).is_empty()
    }

    /// Checks that every honoured flag was read.
    ///
    /// # Errors
    /// If a flag that is honoured was given and not read.
    pub fn done(&self) -> Result<(), FlagError> {
        let read = self.read.borrow();
        for (name, _) in &self.values {
            let row = self.rows.iter().find(|row| row.name == *name);
            let honoured = row.is_some_and(|row| matches!(row.handling, Handling::Honoured(_)));
            if honoured && !read.contains(name) {
                return Err(FlagError::Usage(format!("`--{name}` has no meaning here")));
            }
        }
        Ok(())
    }
}

fn unknown(flag: &str, rows: &'static [Flag]) -> FlagError {
    let wanted = flag.trim_start_matches('-').to_lowercase().replace(['_', '-'], "");
    let near = rows.iter().find(|row| {
        let name = row.name.to_lowercase().replace('-', "");
        wanted.len() > 1 && (name == wanted || name.starts_with(&wanted))
    });
    FlagError::Unknown { flag: flag.to_owned(), near: near.map(|row| row.name) }
}

/// The help of a command: its flags with their handling.
pub fn help(usage: &str, about: &str, rows: &[Flag]) -> String {
    let mut text = format!("{about}\n\nUsage: {usage}\n");
    if !rows.is_empty() {
        text.push_str("\nFlags:\n");
    }
    let width = rows.iter().map(|row| row.spelling().len()).max().unwrap_or(0).min(36);
    for row in rows {
        text.push_str(&format!("  {:width$}  {}\n", row.spelling(), row.outcome()));
    }
    text
}

#[cfg(test)]
pub mod testing {
    //! A test of every row of every table.

    use super::*;

    /// Passes each flag alone to `run`, which returns its notes.
    pub fn walk(rows: &'static [Flag], run: impl Fn(&[String]) -> Result<Vec<String>, FlagError>) {
        let mut names = BTreeSet::new();
        for row in rows {
            for name in [&row.name].into_iter().chain(row.aliases) {
                assert!(names.insert(*name), "`{name}` is there twice");
            }
            let word = match row.takes {
                Takes::Switch => format!("--{}", row.name),
                Takes::Value(example) => format!("--{}={example}", row.name),
            };
            let said = run(std::slice::from_ref(&word));
            let named = format!("`--{}", row.name);
            match row.handling {
                Handling::Refused(why) => {
                    let error = said.expect_err(&word).to_string();
                    assert!(error.starts_with(&named) && error.contains(why), "{word}: {error}");
                }
                Handling::Noted(_) => {
                    let notes = said.expect(&word);
                    assert!(notes.iter().any(|note| note.contains(&named)), "{word}: {notes:?}");
                }
                // A flag that is honoured and not read is an error of `done`.
                Handling::Honoured(_) | Handling::NoEffect(_) | Handling::Judged(..) => {
                    said.expect(&word);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &[Flag] = &[
        Flag::value("tag", "a", Handling::Honoured("names the image")).short('t'),
        Flag::switch("quiet", Handling::Honoured("says less")).short('q'),
        Flag::switch("force", Handling::Honoured("does it")).short('f').alias(&["really"]),
        Flag::switch("squash", Handling::Refused("there is no squashing")),
        Flag::value("mode", "full", Handling::Noted("all modes are the same")),
    ];

    fn given(line: &str) -> Result<ParsedFlags, FlagError> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        read(ROWS, &words, Operands::Anywhere)
    }

    #[test]
    fn lines_are_read_as_pflag_reads_them() {
        let all = given("--tag a -t b -tc -t=d x --tag=e=f -qf --really=0 - -- --tag").unwrap();
        assert_eq!(all.all("tag"), ["a", "b", "c", "d", "e=f"]);
        assert_eq!(all.operands, ["x", "-", "--tag"]);
        assert!(all.is_on("quiet", false) && !all.is_on("force", true));
        assert!(all.done().is_ok());
        assert!(given("-tag x").unwrap().last("tag") == Some("x"));
        assert!(given("-h").unwrap().help);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (line, word) in [
            ("--colour", "unknown flag: --colour"),
            ("--ta", "there is `--tag`"),
            ("-x", "unknown flag: -x"),
            ("--tag", "`--tag` needs a value"),
            ("--quiet=perhaps", "neither true nor false"),
            ("--squash", "`--squash`: there is no squashing"),
        ] {
            let error = given(line).unwrap_err().to_string();
            assert!(error.contains(word), "{line}: {error}");
        }
        assert!(given("--squash=false").is_ok());
        assert_eq!(given("--mode a --mode b").unwrap().notes.len(), 1);
        assert!(given("-q").unwrap().done().unwrap_err().to_string().contains("--quiet"));
    }
}
