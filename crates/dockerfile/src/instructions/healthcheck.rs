//! HEALTHCHECK.

use oci::Healthcheck;

use crate::error::Error;
use crate::flags::{FlagKind, Flags};
use crate::go;
use crate::instructions::command;
use crate::lexer::Statement;

const FLAGS: [(&str, FlagKind); 5] = [
    ("interval", FlagKind::Text),
    ("timeout", FlagKind::Text),
    ("start-period", FlagKind::Text),
    ("start-interval", FlagKind::Text),
    ("retries", FlagKind::Text),
];

const FORM: &str = "write HEALTHCHECK CMD COMMAND or HEALTHCHECK NONE";

/// The shortest time that is no mistake.
const SHORTEST: i64 = 1_000_000;

pub(crate) fn healthcheck(statement: &Statement) -> Result<Healthcheck, Error> {
    let end = statement.rest.find(char::is_whitespace).unwrap_or(statement.rest.len());
    let (kind, rest) = statement.rest.split_at(end);
    let rest = rest.trim_start();
    let kind = kind.to_uppercase();
    let flags = Flags::parse(&statement.flags, &FLAGS)?;
    let test = match kind.as_str() {
        "" => return Err(Error::new("HEALTHCHECK requires at least one argument").hint(FORM)),
        "NONE" if rest.is_empty() => {
            return Ok(Healthcheck { test: vec![kind], ..Healthcheck::default() });
        }
        "NONE" => {
            return Err(Error::new("HEALTHCHECK NONE takes no arguments")
                .word(rest)
                .hint("leave out what is behind NONE"));
        }
        "CMD" => test(rest)?,
        _ => {
            let quoted = go::quote(&kind);
            return Err(Error::new(format!("Unknown type {quoted} in HEALTHCHECK (try CMD)"))
                .word(&statement.rest[..end])
                .hint(FORM));
        }
    };
    let time = |name| duration(name, &flags.text(name));
    Ok(Healthcheck {
        test,
        interval: time("interval")?,
        timeout: time("timeout")?,
        start_period: time("start-period")?,
        start_interval: time("start-interval")?,
        retries: retries(&flags.text("retries"))?,
    })
}

fn test(text: &str) -> Result<Vec<String>, Error> {
    let line = command::line(text)?;
    if line.words.is_empty() {
        return Err(Error::new("Missing command after HEALTHCHECK CMD").hint(FORM));
    }
    let kind = if line.shell { "CMD-SHELL" } else { "CMD" };
    Ok(std::iter::once(kind.to_owned()).chain(line.words).collect())
}

fn duration(name: &str, text: &str) -> Result<i64, Error> {
    if text.is_empty() {
        return Ok(0);
    }
    match go::parse_duration(text) {
        Some(0) => Ok(0),
        Some(time) if time >= SHORTEST => Ok(time),
        Some(_) => Err(Error::new(format!("Interval {} cannot be less than 1ms", go::quote(name)))
            .word(text)
            .hint("times have units, as 30s or 1m30s; 0 is the default")),
        None => Err(Error::new(format!("time: invalid duration {}", go::quote(text)))
            .word(text)
            .hint(format!("--{name} is a number with a unit, as 30s or 1m30s"))),
    }
}

fn retries(text: &str) -> Result<i64, Error> {
    if text.is_empty() {
        return Ok(0);
    }
    match text.parse::<i32>() {
        Ok(number) if number < 0 => {
            Err(Error::new(format!("--retries cannot be negative ({number})"))
                .word(text)
                .hint("0 is the default, which is 3"))
        }
        Ok(number) => Ok(number.into()),
        Err(_) => Err(Error::new(format!("--retries is a number, not {}", go::quote(text)))
            .word(text)
            .hint("as in --retries=3")),
    }
}
