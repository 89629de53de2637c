//! `--build-arg`, `--label`, `--add-host`.

use std::net::IpAddr;

use super::{OptionError, fields};
use crate::settings::{Environment, Proxies};

/// Build arguments: those that are given, of which some have their values in the environment, the
/// proxies of docker's configuration, and `SOURCE_DATE_EPOCH`. The last of equal names counts.
///
/// # Errors
/// If an argument has no name.
pub fn build_args(
    given: &[String],
    environment: &Environment,
    proxies: &Proxies,
) -> Result<Vec<(String, String)>, OptionError> {
    let mut arguments: Vec<(String, String)> = Vec::new();
    let set = |name: &str, value: &str, arguments: &mut Vec<(String, String)>| match arguments
        .iter_mut()
        .find(|(known, _)| known == name)
    {
        Some((_, known)) => *known = value.to_owned(),
        None => arguments.push((name.to_owned(), value.to_owned())),
    };
    for text in given {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            // A variable that is not set is not passed on.
            None => (text.as_str(), environment.raw(text)),
        };
        if name.is_empty() {
            return Err(OptionError::malformed(text, "a name before `=`"));
        }
        if let Some(value) = value {
            set(name, value, &mut arguments);
        }
    }
    let defaults = proxies
        .build_args()
        .chain(environment.get("SOURCE_DATE_EPOCH").map(|value| ("SOURCE_DATE_EPOCH", value)));
    for (name, value) in defaults {
        let is_given = given.iter().any(|text| text.split('=').next() == Some(name));
        if !is_given {
            set(name, value, &mut arguments);
        }
    }
    Ok(arguments)
}

/// Reads `SOURCE_DATE_EPOCH` of build arguments.
///
/// # Errors
/// If it is not a number of seconds.
pub fn source_date_epoch(arguments: &[(String, String)]) -> Result<Option<i64>, OptionError> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    let value = arguments.iter().find(|(name, _)| name == NAME);
    match value.map(|(_, value)| value.as_str()) {
        None | Some("") => Ok(None),
        Some("context") => Err(OptionError::NotSupported {
            option: format!("{NAME}=context"),
            hint: "; give seconds since 1970",
        }),
        Some(text) => match text.parse() {
            Ok(seconds) => Ok(Some(seconds)),
            Err(_) => Err(OptionError::invalid(NAME, text, "a number of seconds since 1970")),
        },
    }
}

/// Reads a fact of version control: `source=…`, `revision=…`, `localdir:NAME=…`. An address is kept
/// without its credentials.
///
/// # Errors
/// If it has no name.
pub fn vcs(text: &str) -> Result<(String, String), OptionError> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| OptionError::malformed(text, "`NAME=VALUE`"))?;
    let value = if name == "source" { shown_remote(value) } else { value.to_owned() };
    Ok((name.to_owned(), value))
}

/// The address of a repository without its credentials. The user of ssh (`git@host:path`) is not
/// one.
pub fn shown_remote(remote: &str) -> String {
    if remote.contains("://") { oci::shown_text(remote) } else { remote.to_owned() }
}

/// Reads labels; one without `=` is empty. The last of equal names counts.
///
/// # Errors
/// If one has no name.
pub fn labels(given: &[String]) -> Result<Vec<(String, String)>, OptionError> {
    let mut labels: Vec<(String, String)> = Vec::new();
    for text in given {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        if name.is_empty() {
            return Err(OptionError::malformed(text, "a name before `=`"));
        }
        labels.retain(|(known, _)| known != name);
        labels.push((name.into(), value.into()));
    }
    Ok(labels)
}

/// Reads a value of `--add-host`: one host or several, separated by commas.
///
/// # Errors
/// If one is not a host with an address.
pub fn extra_hosts(text: &str) -> Result<Vec<(String, String)>, OptionError> {
    fields(text)?.iter().map(|host| extra_host(host)).collect()
}

/// Reads `host:ip`, `host=ip` or `host:host-gateway`.
///
/// A RUN shares the host's network, so the host's gateway is loopback.
fn extra_host(text: &str) -> Result<(String, String), OptionError> {
    let (host, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .filter(|(host, address)| !host.is_empty() && !address.is_empty())
        .ok_or_else(|| OptionError::malformed(text, "`host:ip`"))?;
    if host.chars().any(|c| c.is_whitespace() || c.is_control() || c == '#') {
        return Err(OptionError::malformed(host, "the name of a host"));
    }
    if address == "host-gateway" {
        return Ok((host.into(), "127.0.0.1".into()));
    }
    let address =
        address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    match address.parse::<IpAddr>() {
        Ok(_) => Ok((host.into(), address.into())),
        Err(_) => Err(OptionError::malformed(address, "an IP address").within(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_arguments_come_from_several_places() {
        let environment =
            Environment::of(&[("FROM_ENV", "x"), ("SOURCE_DATE_EPOCH", "12"), ("EMPTY", "")]);
        let given = ["A=1", "A=2", "FROM_ENV", "UNSET", "EMPTY", "B=c=d"].map(String::from);
        let arguments = build_args(&given, &environment, &Proxies::default()).unwrap();
        let pairs: Vec<_> = arguments.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            pairs,
            [
                ("A", "2"),
                ("FROM_ENV", "x"),
                ("EMPTY", ""),
                ("B", "c=d"),
                ("SOURCE_DATE_EPOCH", "12")
            ]
        );
        assert_eq!(source_date_epoch(&arguments).unwrap(), Some(12));
        let given = ["SOURCE_DATE_EPOCH=".to_owned()];
        let arguments = build_args(&given, &environment, &Proxies::default()).unwrap();
        assert_eq!(source_date_epoch(&arguments).unwrap(), None);
        assert!(source_date_epoch(&[("SOURCE_DATE_EPOCH".into(), "now".into())]).is_err());
        assert!(build_args(&["=x".into()], &environment, &Proxies::default()).is_err());
    }

    #[test]
    fn remotes_are_shown_without_credentials() {
        for (remote, text) in [
            ("https://user:token@h.io/a/b.git", "https://h.io/a/b.git"),
            ("https://token@h.io/a", "https://h.io/a"),
            ("ssh://git@h.io/a", "ssh://git@h.io/a"),
            ("git@h.io:a/b.git", "git@h.io:a/b.git"),
            ("/srv/a.git", "/srv/a.git"),
        ] {
            assert_eq!(vcs(&format!("source={remote}")).unwrap(), ("source".into(), text.into()));
        }
        assert!(vcs("=x").is_err() && vcs("revision").is_err());
    }

    #[test]
    fn hosts() {
        for (text, host, address) in [
            ("a:1.2.3.4", "a", "1.2.3.4"),
            ("a=::1", "a", "::1"),
            ("a:[::1]", "a", "::1"),
            ("a:host-gateway", "a", "127.0.0.1"),
        ] {
            assert_eq!(extra_hosts(text).unwrap(), [(host.into(), address.into())]);
        }
        assert_eq!(extra_hosts("a:1.2.3.4,b:1.2.3.5").unwrap().len(), 2);
        for text in ["", "a", "a:", ":1.1.1.1", "a:b", "a b:1.1.1.1", "a:1.1.1.1,"] {
            assert!(extra_hosts(text).is_err(), "{text}");
        }
    }
}
