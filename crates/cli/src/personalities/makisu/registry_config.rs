//! Makisu's registry files: `host → { pattern of repositories → options }`.

use regex::Regex;
use serde_json::{Map, Value};

use crate::args::FlagError;
use crate::settings::{Environment, Hidden, RegistrySetting};

/// Tuning options without effect: kiln tunes these by itself.
const TUNING: [&str; 8] = [
    "concurrency",
    "timeout",
    "retries",
    "retry_interval",
    "retry_backoff",
    "retry_backoff_max",
    "retry_disabled",
    "push_rate",
];

/// Reads the settings of the registries of `repositories`, with notes on options without effect.
///
/// # Errors
/// If the file cannot be read, or an option is unknown or refused.
pub fn read(
    text: &str,
    environment: &Environment,
    repositories: &[(String, String)],
) -> Result<(Vec<RegistrySetting>, Vec<String>), FlagError> {
    let config = yaml::parse(&expand(text, environment))
        .map_err(|error| wrong("", &format!("it cannot be read: {error}")))?;
    let (mut settings, mut notes) = (Vec::new(), Vec::new());
    let hosts = match config {
        Value::Null => Map::new(),
        Value::Object(hosts) => hosts,
        _ => return Err(wrong("", "it is not HOST: {PATTERN: OPTIONS}")),
    };
    for (host, patterns) in &hosts {
        let Value::Object(patterns) = patterns else {
            return Err(wrong(host, "it is not PATTERN: OPTIONS"));
        };
        let mut chosen: Option<&Value> = None;
        for (pattern, options) in patterns {
            let regex = Regex::new(pattern)
                .map_err(|_| wrong(host, &format!("`{pattern}` is no pattern")))?;
            let is_ours = repositories
                .iter()
                .any(|(own, path)| own == canonical(host) && regex.is_match(path));
            if is_ours {
                chosen = Some(options);
                break;
            }
        }
        // The repositories of bases are unknown here: they get the options of the first pattern.
        if let Some(options) = chosen.or_else(|| patterns.values().next()) {
            settings.push(options_of(host, options, &mut notes)?);
        }
    }
    Ok((settings, notes))
}

/// Expands `$NAME` and `${NAME}` from the environment, as Makisu does.
fn expand(text: &str, environment: &Environment) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (name, after) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some(braced) => braced,
            None => {
                let end = after
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(after.len());
                after.split_at(end)
            }
        };
        if name.is_empty() {
            out.push('$');
        } else {
            out.push_str(environment.raw(name).unwrap_or_default());
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// An error in the options of a host, or in the file as a whole.
fn wrong(host: &str, reason: &str) -> FlagError {
    match host {
        "" => FlagError::bad("--registry-config", reason),
        host => FlagError::Usage(format!("`--registry-config` of `{host}`: {reason}")),
    }
}

/// The host in the form that references have.
pub fn canonical(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

fn options_of(
    host: &str,
    options: &Value,
    notes: &mut Vec<String>,
) -> Result<RegistrySetting, FlagError> {
    let mut setting =
        RegistrySetting { host: canonical(host).into(), ..RegistrySetting::default() };
    for (key, value) in object(host, "options", options)? {
        match key.as_str() {
            "security" => security(host, value, &mut setting)?,
            "push_chunk" => notes.push(format!(
                "`--registry-config` of `{host}`: `push_chunk` changes nothing: blobs go in one piece where the registry takes them"
            )),
            key if TUNING.contains(&key) => notes.push(format!(
                "`--registry-config` of `{host}`: `{key}` changes nothing: requests are repeated and limited anyway"
            )),
            key => return Err(wrong(host, &format!("there is no option `{key}`"))),
        }
    }
    Ok(setting)
}

fn object<'v>(
    host: &str,
    what: &str,
    value: &'v Value,
) -> Result<Box<dyn Iterator<Item = (&'v String, &'v Value)> + 'v>, FlagError> {
    match value {
        Value::Object(map) => Ok(Box::new(map.iter())),
        Value::Null => Ok(Box::new(std::iter::empty())),
        _ => Err(wrong(host, &format!("`{what}` is no map"))),
    }
}

fn security(host: &str, value: &Value, setting: &mut RegistrySetting) -> Result<(), FlagError> {
    for (key, value) in object(host, "security", value)? {
        match key.as_str() {
            "tls" => tls(host, value, setting)?,
            "basic" => basic(host, value, setting)?,
            "credsStore" | "credStore" | "credsstore" => {
                return Err(wrong(
                    host,
                    "`credsStore`: name the helper in `credHelpers` of ~/.docker/config.json, and have it in PATH",
                ));
            }
            key => return Err(wrong(host, &format!("there is no option `security.{key}`"))),
        }
    }
    Ok(())
}

fn path(value: &Value, key: &str) -> Option<std::path::PathBuf> {
    let text = value.get(key)?.get("path")?.as_str()?;
    (!text.is_empty()).then(|| text.into())
}

fn tls(host: &str, value: &Value, setting: &mut RegistrySetting) -> Result<(), FlagError> {
    for (key, value) in object(host, "security.tls", value)? {
        let is_disabled = value.get("disabled").and_then(Value::as_bool) == Some(true);
        match key.as_str() {
            "ca" => {
                setting.insecure |= is_disabled;
                setting.authorities.extend(path(value, "cert"));
            }
            "client" => {
                setting.insecure |= is_disabled;
                if path(value, "passphrase").is_some() {
                    return Err(wrong(
                        host,
                        "`security.tls.client.passphrase`: keys without one are read: `openssl rsa -in KEY -out PLAIN`",
                    ));
                }
                match (path(value, "cert"), path(value, "key")) {
                    (Some(certificate), Some(key)) => {
                        setting.client_certificate = Some((certificate, key));
                    }
                    (None, None) => {}
                    _ => {
                        return Err(wrong(host, "`security.tls.client` needs `cert` and `key`"));
                    }
                }
            }
            key => return Err(wrong(host, &format!("there is no option `security.tls.{key}`"))),
        }
    }
    Ok(())
}

fn basic(host: &str, value: &Value, setting: &mut RegistrySetting) -> Result<(), FlagError> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    for (key, _) in object(host, "security.basic", value)? {
        if !matches!(key.as_str(), "username" | "password" | "password_file" | "passwordfile") {
            return Err(wrong(
                host,
                &format!("`security.basic.{key}`: there are username, password and password_file"),
            ));
        }
    }
    let password = match (text("password"), text("password_file").or(text("passwordfile"))) {
        (Some(password), _) => Some(password.to_owned()),
        (None, Some(file)) => Some(
            std::fs::read_to_string(file)
                .map_err(|error| wrong(host, &format!("reading `{file}`: {error}")))?
                .trim_end()
                .to_owned(),
        ),
        (None, None) => None,
    };
    if let (Some(username), Some(password)) = (text("username"), password) {
        setting.login = Some((username.to_owned(), Hidden::new(password)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<(Vec<RegistrySetting>, Vec<String>), FlagError> {
        let environment = Environment::of(&[("PASSWORD", "s3cret")]);
        read(text, &environment, &[("r.example.com".into(), "team/app".into())])
    }

    #[test]
    fn files_are_settings_of_registries() {
        let text = "\
r.example.com:
  other/.*:
    security: {tls: {ca: {disabled: true}}}
  team/.*:
    push_chunk: -1
    retries: 3
    security:
      tls: {ca: {cert: {path: /ca.pem}}, client: {cert: {path: /c.pem}, key: {path: /k.pem}}}
      basic: {username: me, password: $PASSWORD}
index.docker.io:
  .*: {}
";
        let (settings, notes) = of(text).unwrap();
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert_eq!(settings.len(), 2);
        let own = &settings[0];
        assert!(!own.insecure && own.client_certificate.is_some());
        assert_eq!(own.authorities, [std::path::PathBuf::from("/ca.pem")]);
        assert_eq!(own.login.as_ref().unwrap().1.expose(), "s3cret");
        assert_eq!(settings[1].host, "docker.io");
        let json = r#"{"localhost:5000": {"library/*": {"security": {"tls": {"client": {"disabled": true}}}}}}"#;
        assert!(of(json).unwrap().0[0].insecure);
    }

    #[test]
    fn what_is_wrong_names_the_registry() {
        for (text, word) in [
            ("r: {'.*': {colour: red}}", "`--registry-config` of `r`: there is no option `colour`"),
            ("r: {'(': {}}", "is no pattern"),
            ("r: x", "PATTERN: OPTIONS"),
            ("[1]", "it is not HOST"),
            ("r: {'.*': {security: {credsStore: ecr-login}}}", "credHelpers"),
            ("r: {'.*': {security: {basic: {identitytoken: x}}}}", "password_file"),
            (
                "r: {'.*': {security: {tls: {client: {cert: {path: /a}}}}}}",
                "needs `cert` and `key`",
            ),
            ("r: {'.*': {security: {tls: {client: {passphrase: {path: /a}}}}}}", "openssl"),
            ("r: [", "cannot be read"),
        ] {
            let error = of(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
