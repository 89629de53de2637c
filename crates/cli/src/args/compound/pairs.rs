//! `--label`, `--add-host`, and the build argument `SOURCE_DATE_EPOCH`.

use std::net::IpAddr;

use super::{OptionError, fields};

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

/// The address of a repository without its credentials. The user of ssh (`git@host:path`) is kept.
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
    let pair = text.split_once('=').or_else(|| text.split_once(':'));
    let (host, address) = pair.unwrap_or((text, ""));
    read_host(host, address, text)
}

/// Reads a host and its address.
///
/// # Errors
/// If one of them cannot be one.
pub fn extra_host_of(host: &str, address: &str) -> Result<(String, String), OptionError> {
    read_host(host, address, &format!("{host}={address}"))
}

fn read_host(host: &str, address: &str, text: &str) -> Result<(String, String), OptionError> {
    if host.is_empty() || address.is_empty() {
        return Err(OptionError::malformed(text, "`host:ip`"));
    }
    if host.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '#' | '=')) {
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
    fn an_epoch_is_a_number_of_seconds() {
        let read = |text: &str| source_date_epoch(&[("SOURCE_DATE_EPOCH".into(), text.into())]);
        assert!(matches!(read("12"), Ok(Some(12))) && matches!(read(""), Ok(None)));
        assert!(matches!(source_date_epoch(&[]), Ok(None)));
        assert!(read("now").is_err() && read("context").is_err());
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
            assert_eq!(shown_remote(remote), text);
        }
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
