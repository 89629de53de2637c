//! The flags of `docker buildx build` and of the classic `docker build` that kiln does not have:
//! those that mean nothing here, and those that are not there yet. One row each.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::call::Call;
use super::compound::boolean;
use super::error::{FlagError, InFlag as _};

/// What becomes of a flag with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// It does what it says; the text says what.
    Honoured(&'static str),
    /// It asks for what is the case anyway, for this reason.
    Accepted(&'static str),
    /// It changes nothing, and whoever gives it should know.
    Warned(&'static str),
    /// It asks for what is not there yet.
    Refused(&'static str),
}
use Verdict::{Accepted, Honoured, Refused, Warned};

struct Row {
    long: &'static str,
    short: Option<char>,
    /// A truth value: `--rm`, `--rm=false`.
    is_switch: bool,
    judge: fn(&str) -> Verdict,
}

const fn value(long: &'static str, judge: fn(&str) -> Verdict) -> Row {
    Row { long, short: None, is_switch: false, judge }
}

const fn switch(long: &'static str, judge: fn(&str) -> Verdict) -> Row {
    Row { long, short: None, is_switch: true, judge }
}

const ROWS: &[Row] = &[
    // `OtherFlags::call` reads these.
    value("call", |_| Honoured("Answer a question instead of building: check, outline or targets")),
    value("print", |_| Honoured("An older name of `--call`")),
    switch("check", |_| Honoured("Short for `--call=check`")),
    switch("detach", |text| off(text, Refused("there is no daemon that a build could go on in"))),
    // Builds run in this process, whichever builder is meant.
    value("builder", |_| Accepted("builds run in this process, whichever builder")),
    value("resource", no_limit),
    Row { short: Some('m'), ..value("memory", no_limit) },
    value("memory-swap", no_limit),
    Row { short: Some('c'), ..value("cpu-shares", no_limit) },
    value("cpu-period", no_limit),
    value("cpu-quota", no_limit),
    value("cpuset-cpus", no_limit),
    value("cpuset-mems", no_limit),
    // Of no meaning here.
    switch("compress", |_| Accepted("a context is read where it is, and sent to nobody")),
    switch("disable-content-trust", |text| match boolean(text) {
        Some(false) => Refused("content trust is not there yet"),
        _ => Accepted("there is none"),
    }),
    switch("force-rm", |_| Accepted(NO_CONTAINERS)),
    switch("rm", |_| Accepted(NO_CONTAINERS)),
    value("security-opt", |_| Warned("it changes nothing, as with BuildKit")),
    switch("squash", |text| {
        off(
            text,
            Warned(
                "it changes nothing, as with BuildKit; `kiln build --layers=one` makes one layer",
            ),
        )
    }),
];

const NO_CONTAINERS: &str = "a build leaves no containers";

/// The note on a limit of resources.
pub const NO_LIMIT: &str = "no limit is set: steps have those of the job that kiln runs in";

/// BuildKit took these flags and set no limit for years: pipelines have them, and what they build
/// does not depend on them.
fn no_limit(text: &str) -> Verdict {
    match text {
        "" | "0" => Accepted("no limit is asked for"),
        _ => Warned(NO_LIMIT),
    }
}

fn off(text: &str, on: Verdict) -> Verdict {
    match boolean(text) {
        Some(false) => Accepted("it is off"),
        _ => on,
    }
}

/// The flags of the table that were given, with their values.
#[derive(Clone, Debug, Default)]
pub struct OtherFlags(Vec<(&'static str, String)>);

impl OtherFlags {
    /// Warnings for those that change nothing.
    ///
    /// # Errors
    /// A sentence that names the first one that is not there yet.
    pub fn judge(&self) -> Result<Vec<String>, FlagError> {
        let mut warnings = Vec::new();
        for (long, text) in &self.0 {
            let Some(row) = ROWS.iter().find(|row| row.long == *long) else { continue };
            match (row.judge)(text) {
                Honoured(_) | Accepted(_) => {}
                Warned(why) => warnings.push(format!("`--{long}`: {why}")),
                Refused(why) => return Err(FlagError::refused(format!("--{long}"), why)),
            }
        }
        Ok(warnings)
    }

    /// What is asked instead of a build; the last flag that says so counts.
    ///
    /// # Errors
    /// A sentence that names the flag whose value is not known.
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

/// What becomes of a flag of the table that is given a value, for the documentation.
#[cfg(test)]
pub fn described(long: &str) -> Option<String> {
    let row = ROWS.iter().find(|row| row.long == long)?;
    Some(match (row.judge)(if row.is_switch { "true" } else { "1g" }) {
        Honoured(what) => what.into(),
        Accepted(why) => format!("accepted: {why}"),
        Warned(why) => format!("accepted with a note: {why}"),
        Refused(why) => format!("refused: {why}"),
    })
}

impl Args for OtherFlags {
    fn augment_args(command: Command) -> Command {
        ROWS.iter().fold(command, |command, row| {
            let argument = Arg::new(row.long)
                .long(row.long)
                .hide(true)
                .action(ArgAction::Append)
                .value_parser(clap::value_parser!(String));
            let argument = match row.short {
                Some(short) => argument.short(short),
                None => argument,
            };
            command.arg(match row.is_switch {
                true => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
                false => argument.num_args(1).allow_hyphen_values(true),
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
            let values = matches.get_many::<String>(row.long).unwrap_or_default();
            values.map(|value| (row.long, value.clone()))
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
    fn every_refused_flag_names_itself() {
        for row in ROWS {
            for text in ["true", "false", "x", "1"] {
                if let Err(error) = judge(row.long, text) {
                    let error = error.to_string();
                    assert!(error.starts_with(&format!("`--{}`: ", row.long)), "{error}");
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
