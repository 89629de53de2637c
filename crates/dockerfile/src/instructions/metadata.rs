//! EXPOSE, MAINTAINER, STOPSIGNAL, USER, VOLUME, WORKDIR.

use crate::error::Error;
use crate::flags::Flags;
use crate::lexer::Statement;
use crate::words;

/// The whole rest as one argument.
pub(crate) fn one(statement: &Statement, keyword: &str) -> Result<String, Error> {
    Flags::parse(&statement.flags, &[])?;
    match statement.rest.as_str() {
        "" => Err(Error::new(format!("{keyword} requires exactly one argument"))
            .hint(format!("write {keyword} VALUE"))),
        rest => Ok(rest.into()),
    }
}

pub(crate) fn expose(statement: &Statement) -> Result<Vec<String>, Error> {
    let mut ports = words::split(&statement.rest);
    if ports.is_empty() {
        return Err(Error::new("EXPOSE requires at least one argument").hint("as in EXPOSE 80/tcp"));
    }
    Flags::parse(&statement.flags, &[])?;
    ports.sort();
    Ok(ports)
}

pub(crate) fn volume(statement: &Statement) -> Result<Vec<String>, Error> {
    let volumes = match words::json_array(&statement.rest)? {
        Some(volumes) => volumes,
        None => words::split(&statement.rest),
    };
    if volumes.is_empty() {
        return Err(Error::new("VOLUME requires at least one argument").hint("as in VOLUME /data"));
    }
    Flags::parse(&statement.flags, &[])?;
    let volumes = volumes.iter().map(|volume| match volume.trim() {
        "" => Err(Error::new("VOLUME specified can not be an empty string")
            .word("\"\"")
            .hint("name a folder, as in VOLUME /data")),
        volume => Ok(volume.to_owned()),
    });
    volumes.collect()
}
