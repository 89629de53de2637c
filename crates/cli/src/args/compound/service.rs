//! Caches in GitHub's cache service (`type=gha`, as buildx reads it) and in key-value stores
//! (`type=redis`, `type=http`, `type=kv-folder`, kiln's own).

use std::time::Duration;

use build::{
    BackendSettings, Credentials, GITHUB_TOKEN, GithubSettings, GithubVersion, HTTP_HEADER,
    MapSettings, MapStore, REDIS_PASSWORD,
};
use oci::Reference;

use super::bucket::{Surroundings, duration, web_address};
use super::{Fields, OptionError, boolean};

/// BuildKit's.
const GITHUB_TIMEOUT: Duration = Duration::from_secs(600);
/// Makisu's: two weeks.
pub const TTL: Duration = Duration::from_secs(336 * 3600);

/// The name of a map's index.
pub const MAP_NAME: &str = "cache";

const COMMON: [&str; 7] =
    ["ref", "name", "ttl", "registry.insecure", "mode", "ignore-error", "on-failure"];

/// Reads the options of a cache service, but `mode` and `ignore-error`.
///
/// # Errors
/// If an option is missing or wrong. The error has no value that is secret.
pub fn service(
    kind: &str,
    fields: &mut Fields,
    around: Surroundings<'_>,
) -> Result<BackendSettings, OptionError> {
    match kind {
        "gha" => github(fields, around).map(BackendSettings::Github),
        kind => map(kind, fields, around).map(BackendSettings::Map),
    }
}

/// Refuses a key that is left.
///
/// # Errors
/// If there is one.
pub fn nothing_left(kind: &str, fields: &Fields) -> Result<(), OptionError> {
    let own: &[&'static str] = match kind {
        "gha" => {
            let known = [
                "scope",
                "url",
                "url_v2",
                "token",
                "version",
                "timeout",
                "repository",
                "ghtoken",
                "mode",
                "ignore-error",
                "on-failure",
            ];
            return fields.nothing_left("type=gha", &known);
        }
        "redis" => &["addr", "db", "username", "password-env", "password-file"],
        "http" => &["url", "header-NAME", "header-NAME-env"],
        _ => &["folder"],
    };
    let known: Vec<&'static str> = own.iter().chain(&COMMON).copied().collect();
    fields.nothing_left(&format!("type={kind}"), &known)
}

fn given(fields: &mut Fields, key: &str) -> Option<String> {
    fields.take(key).filter(|value| !value.is_empty())
}

fn no_url() -> OptionError {
    OptionError::Missing {
        of: "type=gha".into(),
        key: "url",
        hint: ", or the variables ACTIONS_CACHE_URL or ACTIONS_RESULTS_URL that GitHub gives to actions (not to `run:` steps)",
    }
}

fn no_token() -> OptionError {
    OptionError::Missing {
        of: "type=gha".into(),
        key: "token",
        hint: ", or the variable ACTIONS_RUNTIME_TOKEN that GitHub gives to actions (not to `run:` steps)",
    }
}

/// The option of GitHub's cache service that neither the value nor the environment has.
pub fn outside_github(fields: &mut Fields, around: Surroundings<'_>) -> Option<OptionError> {
    let mut has = |keys: [&str; 2], variables: [&str; 2]| {
        keys.iter().any(|key| given(fields, key).is_some())
            || variables.iter().any(|name| around.variable(name).is_some())
    };
    if !has(["url", "url_v2"], ["ACTIONS_CACHE_URL", "ACTIONS_RESULTS_URL"]) {
        return Some(no_url());
    }
    let has_token = has(["token", "token"], [GITHUB_TOKEN, GITHUB_TOKEN]);
    (!has_token).then(no_token)
}

fn github(fields: &mut Fields, around: Surroundings<'_>) -> Result<GithubSettings, OptionError> {
    let wants_two = around.variable("ACTIONS_CACHE_SERVICE_V2");
    let wants_two = wants_two.is_some_and(|text| boolean(&text) == Some(true));
    let version = match given(fields, "version").as_deref() {
        None if wants_two => Some(GithubVersion::Two),
        None => None,
        Some("1") => Some(GithubVersion::One),
        Some("2") => Some(GithubVersion::Two),
        Some(other) => return Err(OptionError::invalid("version", other, "1 or 2")),
    };
    let results = around.variable("ACTIONS_RESULTS_URL");
    let of_two = given(fields, "url_v2")
        .or_else(|| results.clone().filter(|_| version == Some(GithubVersion::Two)));
    let of_one = given(fields, "url").or_else(|| around.variable("ACTIONS_CACHE_URL")).or(results);
    let (url, version) = match (of_two, of_one) {
        (Some(url), _) if version != Some(GithubVersion::One) => (url, Some(GithubVersion::Two)),
        (_, Some(url)) => (url, version),
        _ => return Err(no_url()),
    };
    let version = version.unwrap_or_else(|| {
        match url.contains("results-receiver.actions.githubusercontent.com") {
            true => GithubVersion::Two,
            false => GithubVersion::One,
        }
    });
    let token = given(fields, "token").or_else(|| around.variable(GITHUB_TOKEN));
    let token = token.ok_or_else(no_token)?;
    let timeout = match given(fields, "timeout") {
        Some(text) => duration("timeout", &text)?,
        None => GITHUB_TIMEOUT,
    };
    // They let BuildKit list the layers that are there; kiln asks the service for each.
    fields.take("repository");
    fields.take("ghtoken");
    Ok(GithubSettings {
        url: web_address("url", url)?,
        version,
        scope: given(fields, "scope").unwrap_or_else(|| "buildkit".into()),
        timeout,
        credentials: Credentials::new([(GITHUB_TOKEN.to_owned(), token)]),
    })
}

fn map(
    kind: &str,
    fields: &mut Fields,
    around: Surroundings<'_>,
) -> Result<MapSettings, OptionError> {
    let (store, credentials) = match kind {
        "redis" => redis(fields, around)?,
        "http" => http(fields, around)?,
        _ => {
            let folder =
                given(fields, "folder").ok_or_else(|| missing("type=kv-folder", "folder", ""))?;
            (MapStore::Folder(around.directory.join(folder)), Vec::new())
        }
    };
    let reference = given(fields, "ref").ok_or_else(|| {
        missing(format!("type={kind}"), "ref", ", the repository that keeps the layers")
    })?;
    let reference: Reference =
        reference.parse().map_err(|error| OptionError::Reference(error).within("ref"))?;
    let name = given(fields, "name").unwrap_or_else(|| MAP_NAME.into());
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !name.chars().all(is_plain) || name.starts_with('.') {
        return Err(OptionError::invalid("name", name, "letters, digits, `.`, `_` and `-`"));
    }
    Ok(MapSettings {
        store,
        name,
        ttl: match given(fields, "ttl") {
            Some(text) => duration("ttl", &text)?,
            None => TTL,
        },
        repository: reference.repository().clone(),
        insecure: fields.take_boolean("registry.insecure", false)?,
        credentials: Credentials::new(credentials),
    })
}

type Store = (MapStore, Vec<(String, String)>);

fn missing(of: impl Into<String>, key: &'static str, hint: &'static str) -> OptionError {
    OptionError::Missing { of: of.into(), key, hint }
}

fn unset(option: String) -> OptionError {
    OptionError::refused(option, "the variable is not set")
}

fn redis(fields: &mut Fields, around: Surroundings<'_>) -> Result<Store, OptionError> {
    let address = given(fields, "addr")
        .ok_or_else(|| missing("type=redis", "addr", ", as in `addr=host:6379`"))?;
    let address = redis_address(&address)?;
    let database = match given(fields, "db") {
        None => 0,
        Some(text) => text.parse().map_err(|_| OptionError::invalid("db", text, "a number"))?,
    };
    let password = match (given(fields, "password-env"), given(fields, "password-file")) {
        (None, None) => None,
        (Some(name), None) => {
            Some(around.variable(&name).ok_or_else(|| unset(format!("password-env={name}")))?)
        }
        (None, Some(file)) => Some(
            std::fs::read_to_string(around.directory.join(&file))
                .map_err(|source| OptionError::Io {
                    doing: format!("`password-file={file}`"),
                    source,
                })?
                .trim_end_matches(['\r', '\n'])
                .to_owned(),
        ),
        (Some(_), Some(_)) => {
            return Err(OptionError::together("password-env", "password-file"));
        }
    };
    let user = given(fields, "username");
    let credentials = password.as_deref().map(redis_password);
    Ok((MapStore::Redis { address, database, user }, credentials.into_iter().collect()))
}

/// The address of a redis server with its port.
///
/// # Errors
/// If it has a scheme or a password.
pub fn redis_address(text: &str) -> Result<String, OptionError> {
    if text.contains("://") || text.contains('@') {
        return Err(OptionError::refused(
            "addr",
            "expected `host:port`: TLS (rediss://) is not supported yet, and a password is given by `password-env` or `password-file`",
        ));
    }
    Ok(if text.contains(':') { text.to_owned() } else { format!("{text}:6379") })
}

/// The password of a redis server among credentials.
pub fn redis_password(password: &str) -> (String, String) {
    (REDIS_PASSWORD.to_owned(), password.to_owned())
}

/// A header of requests among credentials.
///
/// # Errors
/// If it is not a header. The value is not in the error.
pub fn header(name: &str, value: &str) -> Result<(String, String), OptionError> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if name.is_empty() || !name.chars().all(is_name) || value.contains(['\r', '\n']) {
        return Err(OptionError::refused(format!("header-{name}"), "not a header"));
    }
    Ok((format!("{HTTP_HEADER}{}", name.to_lowercase()), value.to_owned()))
}

fn http(fields: &mut Fields, around: Surroundings<'_>) -> Result<Store, OptionError> {
    let url = given(fields, "url").ok_or_else(|| missing("type=http", "url", ""))?;
    let url = web_address("url", url)?;
    let mut headers = Vec::new();
    for (key, value) in fields.take_all("header-") {
        let (name, value) = match key.strip_suffix("-env") {
            Some(name) => {
                let found = around.variable(&value);
                let found = found.ok_or_else(|| unset(format!("header-{key}={value}")))?;
                (name.to_owned(), found)
            }
            None => (key, value),
        };
        headers.push(header(&name, &value)?);
    }
    Ok((MapStore::Http { url }, headers))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::fields;
    use super::*;
    use crate::settings::Environment;

    fn read(text: &str, pairs: &[(&str, &str)]) -> Result<BackendSettings, OptionError> {
        let mut fields = Fields::of(&fields(text)?)?;
        let kind = fields.take("type").unwrap();
        let environment = Environment::of(pairs);
        let around = Surroundings { directory: Path::new("/w"), environment: &environment };
        let settings = service(&kind, &mut fields, around)?;
        nothing_left(&kind, &fields)?;
        Ok(settings)
    }

    #[test]
    fn github_is_found_as_buildx_finds_it() {
        let token = (GITHUB_TOKEN, "secret-token");
        let one = ("ACTIONS_CACHE_URL", "https://one/x/");
        let two = ("ACTIONS_RESULTS_URL", "https://two/");
        let v2 = ("ACTIONS_CACHE_SERVICE_V2", "True");
        for (text, pairs, url, version) in [
            ("type=gha", &[token, one, two][..], "https://one/x/", GithubVersion::One),
            ("type=gha", &[token, one, two, v2], "https://two/", GithubVersion::Two),
            ("type=gha,version=2", &[token, one, two], "https://two/", GithubVersion::Two),
            ("type=gha,version=1", &[token, one, two, v2], "https://one/x/", GithubVersion::One),
            ("type=gha,url_v2=https://x", &[token, one], "https://x", GithubVersion::Two),
            (
                "type=gha,url=https://x,scope=s,timeout=1m,ghtoken=t,repository=a/b,mode=",
                &[token],
                "https://x",
                GithubVersion::One,
            ),
        ] {
            let BackendSettings::Github(settings) =
                read(&text.replace(",mode=", ""), pairs).unwrap()
            else {
                panic!("{text}")
            };
            assert_eq!((settings.url.as_str(), settings.version), (url, version), "{text}");
            assert!(!format!("{settings:?}").contains("secret-token"));
        }
        assert!(
            read("type=gha", &[one]).unwrap_err().to_string().contains("ACTIONS_RUNTIME_TOKEN")
        );
        assert!(read("type=gha", &[token]).unwrap_err().to_string().contains("ACTIONS_CACHE_URL"));
        assert!(read("type=gha,version=3", &[token, one]).is_err());
    }

    #[test]
    fn maps_have_their_options() {
        let pairs = [("PASSWORD", "hush"), ("BEARER", "Bearer hush")];
        let redis = read(
            "type=redis,addr=cache,db=2,username=u,password-env=PASSWORD,ref=h/app,ttl=1h",
            &pairs,
        );
        let BackendSettings::Map(redis) = redis.unwrap() else { panic!("a map") };
        let store =
            MapStore::Redis { address: "cache:6379".into(), database: 2, user: Some("u".into()) };
        assert_eq!((redis.store.clone(), redis.ttl), (store, Duration::from_secs(3600)));
        assert_eq!(redis.credentials.get(REDIS_PASSWORD), Some("hush"));
        assert!(!format!("{redis:?}").contains("hush"));
        let http = read(
            "type=http,url=http://kv,header-authorization-env=BEARER,header-x-team=a,ref=h/app,name=n",
            &pairs,
        );
        let BackendSettings::Map(http) = http.unwrap() else { panic!("a map") };
        assert_eq!(http.credentials.get("header authorization"), Some("Bearer hush"));
        assert_eq!(http.credentials.get("header x-team"), Some("a"));
        let folder =
            read("type=kv-folder,folder=kv,ref=h/app,registry.insecure=true", &[]).unwrap();
        assert!(matches!(folder, BackendSettings::Map(map) if map.insecure && map.ttl == TTL));
        for (text, word) in [
            ("type=redis,ref=h/a", "`addr`"),
            ("type=redis,addr=rediss://h,ref=h/a", "TLS"),
            ("type=redis,addr=u:hush@h,ref=h/a", "password-env"),
            ("type=redis,addr=h", "`ref`"),
            ("type=redis,addr=h,ref=h/a,password-env=NONE", "is not set"),
            ("type=redis,addr=h,ref=h/a,password=hush", "`password` is not an option"),
            ("type=redis,addr=h,ref=h/a,name=a/b", "name=a/b"),
            ("type=http,url=kv,ref=h/a", "https://"),
            ("type=http,url=http://kv,ref=h/a,header-x-env=NONE", "is not set"),
            ("type=kv-folder,ref=h/a", "`folder`"),
            ("type=kv-folder,folder=f,ref=h/a,addr=h", "`addr` is not an option"),
        ] {
            let error = read(text, &[]).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains("hush"), "{text}: {error}");
        }
    }
}
