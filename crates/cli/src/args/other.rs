//! The flags of `docker buildx build` and of the classic `docker build` that `kiln build` accepts
//! for compatibility: those without effect, those that are refused, and those that ask a question.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::call::Call;
use super::compound::boolean;
use super::error::{FlagError, InFlag as _};
use super::flag::{Flag, Handling, Takes, Verdict};

const ROWS: &[Flag] = &[
    // `OtherFlags::call` reads these.
    Flag::value(
        "call",
        "check",
        Handling::Honoured("Answer a question instead of building: check, outline or targets"),
    ),
    Flag::value("print", "check", Handling::Honoured("An older name of `--call`")),
    Flag::switch("check", Handling::Honoured("Short for `--call=check`")),
    Flag::switch("detach", Handling::Refused("there is no daemon that a build could go on in")),
    Flag::value(
        "builder",
        "default",
        Handling::NoEffect("builds run in this process, whichever builder"),
    ),
    limit("resource"),
    limit("memory").short('m'),
    limit("memory-swap"),
    limit("cpu-shares").short('c'),
    limit("cpu-period"),
    limit("cpu-quota"),
    limit("cpuset-cpus"),
    limit("cpuset-mems"),
    Flag::switch(
        "compress",
        Handling::NoEffect("a context is read where it is, and sent to nobody"),
    ),
    Flag::switch(
        "disable-content-trust",
        Handling::Judged("accepted: there is none", content_trust),
    ),
    Flag::switch("force-rm", Handling::NoEffect(NO_CONTAINERS)),
    Flag::switch("rm", Handling::NoEffect(NO_CONTAINERS)),
    Flag::value(
        "security-opt",
        "seccomp=unconfined",
        Handling::Noted("it changes nothing, as with BuildKit"),
    ),
    Flag::switch(
        "squash",
        Handling::Noted(
            "it changes nothing, as with BuildKit; `kiln build --layers=one` makes one layer",
        ),
    ),
];

const NO_CONTAINERS: &str = "a build leaves no containers";

/// The note on a limit of resources.
pub const NO_LIMIT: &str = "no limit is set: steps have those of the job that kiln runs in";

/// A flag for a resource limit. BuildKit took these flags and set no limit for years: pipelines
/// have them, and the image does not depend on them.
const fn limit(name: &'static str) -> Flag {
    let text =
        "accepted with a note: no limit is set: steps have those of the job that kiln runs in";
    Flag::value(name, "1g", Handling::Judged(text, no_limit))
}

fn no_limit(text: &str) -> Verdict {
    match text {
        "" | "0" => Verdict::Take,
        _ => Verdict::Note(NO_LIMIT),
    }
}

fn content_trust(text: &str) -> Verdict {
    match boolean(text) {
        Some(false) => Verdict::Refuse("content trust is not supported yet"),
        _ => Verdict::Take,
    }
}

/// The flags of the table that were given, with their values.
#[derive(Clone, Debug, Default)]
pub struct OtherFlags(Vec<(&'static str, String)>);

impl OtherFlags {
    /// Notes on flags without effect.
    ///
    /// # Errors
    /// If one is refused.
    pub fn judge(&self) -> Result<Vec<String>, FlagError> {
        let mut warnings = Vec::new();
        for (long, text) in &self.0 {
            let Some(row) = ROWS.iter().find(|row| row.name == *long) else { continue };
            match row.verdict(text) {
                Verdict::Take => {}
                Verdict::Note(why) => warnings.push(format!("`--{long}`: {why}")),
                Verdict::Refuse(why) => {
                    return Err(FlagError::refused(format!("--{long}"), why));
                }
            }
        }
        Ok(warnings)
    }

    /// The question that is asked instead of a build; the last flag that asks one wins.
    ///
    /// # Errors
    /// If there is no such question.
    pub fn call(&self) -> Result<Option<Call>, FlagError> {
        let mut call = None;
        for (long, text) in &self.0 {
            match *long {
                "call" | "print" => {
                    call = Call::parse(text).in_flag(&format!("--{long}"))?;
                }
                _ => {}
            }
        }
        for (_, text) in self.0.iter().filter(|(long, _)| *long == "check") {
            match boolean(text) {
                Some(true) => call = Some(Call::CHECK),
                Some(false) => {}
                None => {
                    let reason = format!("`{text}` is neither true nor false");
                    return Err(FlagError::bad("--check", reason));
                }
            }
        }
        Ok(call)
    }
}

/// The handling of a flag of the table, for the documentation.
#[cfg(test)]
pub fn described(name: &str) -> Option<String> {
    ROWS.iter().find(|row| row.name == name).map(Flag::outcome)
}

impl Args for OtherFlags {
    fn augment_args(command: Command) -> Command {
        ROWS.iter().fold(command, |command, row| {
            let argument = Arg::new(row.name)
                .long(row.name)
                .hide(true)
                .action(ArgAction::Append)
                .value_parser(clap::value_parser!(String));
            let argument = match row.short {
                Some(short) => argument.short(short),
                None => argument,
            };
            command.arg(match row.takes {
                Takes::Switch => {
                    argument.num_args(0..=1).require_equals(true).default_missing_value("true")
                }
                Takes::Value(_) => argument.num_args(1).allow_hyphen_values(true),
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for OtherFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = ROWS.iter().flat_map(|row| {
            let values = matches.get_many::<String>(row.name).unwrap_or_default();
            values.map(|value| (row.name, value.clone()))
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(long: &'static str, value: &str) -> Result<Vec<String>, FlagError> {
        OtherFlags(vec![(long, value.into())]).judge()
    }

    #[test]
    fn every_row_is_handled_as_it_says() {
        for row in ROWS {
            let value = match row.takes {
                Takes::Switch => "true",
                Takes::Value(example) => example,
            };
            let judged = judge(row.name, value);
            let named = format!("`--{}`: ", row.name);
            match row.handling {
                Handling::Honoured(_) => {
                    let other = OtherFlags(vec![(row.name, value.into())]);
                    assert!(other.call().unwrap().is_some(), "{named}");
                }
                Handling::NoEffect(_) => assert_eq!(judged, Ok(vec![])),
                Handling::Noted(why) => assert_eq!(judged, Ok(vec![format!("{named}{why}")])),
                Handling::Refused(why) => {
                    assert_eq!(judged.unwrap_err().to_string(), format!("{named}{why}"));
                }
                // Taken, or noted under its name.
                Handling::Judged(..) => {
                    let notes = judged.unwrap();
                    assert!(notes.iter().all(|note| note.starts_with(&named)), "{notes:?}");
                }
            }
        }
    }

    #[test]
    fn every_refused_flag_names_itself() {
        for row in ROWS {
            for text in ["true", "false", "x", "1"] {
                if let Err(error) = judge(row.name, text) {
                    let error = error.to_string();
                    assert!(error.starts_with(&format!("`--{}`: ", row.name)), "{error}");
                }
            }
        }
    }

    #[test]
    fn calls_are_found() {
        let call = |flags: &[(&'static str, &str)]| {
            OtherFlags(flags.iter().map(|(long, text)| (*long, (*text).into())).collect()).call()
        };
        assert_eq!(call(&[("call", "build"), ("check", "false")]), Ok(None));
        assert_eq!(call(&[("call", "check")]), Ok(Some(Call::CHECK)));
        assert_eq!(call(&[("check", "true")]), Ok(Some(Call::CHECK)));
        assert!(call(&[("call", "x")]).unwrap_err().to_string().starts_with("`--call`: "));
        assert!(call(&[("check", "x")]).is_err());
    }

    #[test]
    fn values_that_mean_off_are_accepted() {
        for (long, value) in
            [("squash", "false"), ("memory", "0"), ("builder", "default"), ("rm", "true")]
        {
            assert_eq!(judge(long, value), Ok(vec![]), "{long}={value}");
        }
        for (long, value) in [("squash", "true"), ("memory", "1g"), ("resource", "memory=1g")] {
            assert_eq!(judge(long, value).unwrap().len(), 1, "{long}={value}");
        }
    }
}
