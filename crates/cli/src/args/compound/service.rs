//! Caches in GitHub's cache service (`type=gha`, as buildx reads it) and in key-value stores
//! (`type=redis`, `type=http`, `type=kv-folder`, which only kiln has).

use std::time::Duration;

use build::{
    BackendCredentials, GITHUB_TOKEN, GithubSettings, GithubVersion, HTTP_HEADER, MapSettings,
    MapStore, REDIS_PASSWORD, RedisScheme, RedisServer,
};
use oci::Reference;

use super::bucket::{OptionContext, address, age, web_address};
use super::options::{
    Accepted, KeyScope, OptionKey, OptionSet, accepted, boolean as on_or_off, given, number,
    options, secret,
};
use super::{OptionError, boolean};
use crate::settings::Hidden;

/// The default timeout, as in BuildKit.
const GITHUB_TIMEOUT: Duration = Duration::from_secs(600);
/// The time for which Makisu keeps an entry: two weeks.
pub const TTL: Duration = Duration::from_secs(336 * 3600);

/// The default name of a cache in a key-value store.
pub const MAP_NAME: &str = "cache";

options! {
    /// `type=gha`.
    pub struct GithubOptions {
        /// Scope of the cache.
        scope: String = given("scope"), "other";
        /// Address of the service; else ACTIONS_CACHE_URL or ACTIONS_RESULTS_URL.
        url: String = given("url"), "https://other.example.com";
        /// Address of the second version of the service; else ACTIONS_RESULTS_URL.
        url_v2: String = given("url_v2"), "https://two.example.com";
        /// Token of the service; else ACTIONS_RUNTIME_TOKEN.
        token: Hidden = secret("token"), "other";
        /// Version of the service: 1 or 2.
        version: GithubVersion = version("version"), "2";
        /// Time after which a request is given up.
        timeout: Duration = age("timeout"), "7m";
        // BuildKit lists the layers that the service has with these two; kiln asks for each layer.
        /// Accepted: kiln does not ask GitHub's API for the list of layers.
        _repository: Accepted = accepted("repository"), "owner/name";
        /// Accepted: kiln does not ask GitHub's API for the list of layers.
        _api_token: Accepted = accepted("ghtoken"), "other";
    }
}

options! {
    /// Options of all key-value stores.
    pub struct MapOptions {
        /// Repository that keeps the layers.
        reference: Reference = reference("ref"), "localhost:5000/other";
        /// Name of the cache in the store.
        name: String = map_name("name"), "other";
        /// Time for which the store keeps an entry.
        ttl: Duration = age("ttl"), "7h";
        /// Accepts plain HTTP or an untrusted certificate of the repository's registry.
        insecure: bool = on_or_off("registry.insecure"), "true";
    }
}

options! {
    /// `type=redis`.
    pub struct RedisOptions {
        /// Host and port; with `rediss://` before them over TLS.
        address: RedisAddress = server("addr"), "rediss://other:6380";
        /// Number of the database.
        database: u32 = number("db"), "7";
        /// User.
        user: String = given("username"), "other";
        /// Variable that holds the password.
        password_variable: String = given("password-env"), "PASSWORD";
        /// File that holds the password.
        password_file: String = given("password-file"), "/proc/self/comm";
    }
}

options! {
    /// `type=http`.
    pub struct HttpOptions {
        /// Address of the store.
        url: String = address("url"), "https://other.example.com";
    }
}

options! {
    /// `type=kv-folder`.
    pub struct FolderOptions {
        /// Folder of the store.
        folder: String = given("folder"), "other";
    }
}

/// Headers of requests: `header-NAME=VALUE`, or `header-NAME-env=VARIABLE`.
#[derive(Default)]
pub struct HeaderOptions(Vec<HttpHeader>);

/// A header as it was given.
struct HttpHeader {
    name: String,
    value: HeaderValue,
}

/// The source of a header's value.
enum HeaderValue {
    Given(Hidden),
    Variable(String),
}

impl OptionSet for HeaderOptions {
    fn keys() -> Vec<OptionKey> {
        vec![
            OptionKey {
                names: &["header-NAME"],
                scope: KeyScope::Both,
                #[cfg(test)]
                example: "value",
                #[cfg(test)]
                is_accepted: false,
                #[cfg(test)]
                doc: " A header of every request.",
            },
            OptionKey {
                names: &["header-NAME-env"],
                scope: KeyScope::Both,
                #[cfg(test)]
                example: "PASSWORD",
                #[cfg(test)]
                is_accepted: false,
                #[cfg(test)]
                doc: " A header whose value is in a variable.",
            },
        ]
    }

    fn set(&mut self, key: &str, text: &str) -> Result<bool, OptionError> {
        let Some(name) = key.strip_prefix("header-") else { return Ok(false) };
        let (name, value) = match name.strip_suffix("-env") {
            Some(name) => (name, HeaderValue::Variable(text.to_owned())),
            None => (name, HeaderValue::Given(Hidden::new(text))),
        };
        self.0.push(HttpHeader { name: name.to_owned(), value });
        Ok(true)
    }
}

/// All options of a cache in redis.
pub type Redis = (RedisOptions, MapOptions);
/// All options of a cache in an HTTP server.
pub type Http = (HttpOptions, HeaderOptions, MapOptions);
/// All options of a cache in a folder of keys and values.
pub type Folder = (FolderOptions, MapOptions);

fn version(key: &str, text: &str) -> Result<Option<GithubVersion>, OptionError> {
    match text {
        "" => Ok(None),
        "1" => Ok(Some(GithubVersion::One)),
        "2" => Ok(Some(GithubVersion::Two)),
        other => Err(OptionError::invalid(key, other, "1 or 2")),
    }
}

fn reference(key: &str, text: &str) -> Result<Option<Reference>, OptionError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| OptionError::Reference(error).within(key))
}

fn map_name(key: &str, text: &str) -> Result<Option<String>, OptionError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !text.chars().all(is_plain) || text.starts_with('.') {
        return Err(OptionError::invalid(key, text, "letters, digits, `.`, `_` and `-`"));
    }
    given(key, text)
}

fn server(key: &str, text: &str) -> Result<Option<RedisAddress>, OptionError> {
    if text.is_empty() { Ok(None) } else { RedisAddress::parse(key, text).map(Some) }
}

/// The address of a redis server: `host[:port]`, or `redis[s]://host[:port][/database]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisAddress {
    scheme: RedisScheme,
    /// Host and port.
    authority: String,
    database: Option<u32>,
}

impl RedisAddress {
    /// Reads an address.
    ///
    /// # Errors
    /// If it is not one, or has a user or a password. The text is not in the error.
    pub fn parse(key: &str, text: &str) -> Result<Self, OptionError> {
        if text.contains('@') {
            return Err(OptionError::refused(
                key,
                "a user is given by `username`, and a password by `password-env` or `password-file`",
            ));
        }
        let malformed = || {
            OptionError::refused(
                key,
                "expected `host:port`, `redis://host:port/database` or, for TLS, `rediss://host:port/database`",
            )
        };
        let (scheme, rest) = match text.split_once("://") {
            None => (RedisScheme::Tcp, text),
            Some(("redis", rest)) => (RedisScheme::Tcp, rest),
            Some(("rediss", rest)) => (RedisScheme::Tls, rest),
            Some(_) => return Err(malformed()),
        };
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = match database {
            "" => None,
            number => Some(number.parse().map_err(|_| malformed())?),
        };
        if authority.is_empty() || authority.contains(['?', '#']) {
            return Err(malformed());
        }
        // The colons of an IPv6 address are in brackets.
        let has_port = authority.rsplit(']').next().is_some_and(|end| end.contains(':'));
        let port = if has_port { "" } else { ":6379" };
        Ok(Self { scheme, authority: format!("{authority}{port}"), database })
    }

    /// The server at the address. A database in the address and another one cannot be joined.
    ///
    /// # Errors
    /// If there are two databases.
    pub fn server(
        self,
        database: Option<u32>,
        user: Option<String>,
    ) -> Result<RedisServer, OptionError> {
        let Self { scheme, authority: address, database: own } = self;
        if own.is_some() && database.is_some() {
            return Err(OptionError::together("db", "addr=redis://HOST/DATABASE"));
        }
        let database = own.or(database).unwrap_or(0);
        Ok(RedisServer { scheme, address, database, user })
    }
}

/// The credential with a redis server's password.
pub fn redis_password(password: &str) -> (String, String) {
    (REDIS_PASSWORD.to_owned(), password.to_owned())
}

/// The credential with a header of requests.
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

fn no_url() -> OptionError {
    let hint = ", or the variables ACTIONS_CACHE_URL or ACTIONS_RESULTS_URL that GitHub gives to actions (not to `run:` steps)";
    OptionError::missing("type=gha", "url", hint)
}

fn no_token() -> OptionError {
    let hint = ", or the variable ACTIONS_RUNTIME_TOKEN that GitHub gives to actions (not to `run:` steps)";
    OptionError::missing("type=gha", "token", hint)
}

/// The required option of GitHub's cache service that neither the value nor the environment has.
pub fn outside_github(options: &GithubOptions, around: OptionContext<'_>) -> Option<OptionError> {
    let is_set = |name: &str| around.variable(name).is_some();
    let has_url = options.url.is_some()
        || options.url_v2.is_some()
        || is_set("ACTIONS_CACHE_URL")
        || is_set("ACTIONS_RESULTS_URL");
    if !has_url {
        return Some(no_url());
    }
    let has_token = options.token.is_some() || is_set(GITHUB_TOKEN);
    (!has_token).then(no_token)
}

/// The settings of GitHub's cache service.
///
/// # Errors
/// If there is no address or token.
pub fn github(
    options: GithubOptions,
    around: OptionContext<'_>,
) -> Result<GithubSettings, OptionError> {
    let wants_two = around.variable("ACTIONS_CACHE_SERVICE_V2");
    let wants_two = wants_two.is_some_and(|text| boolean(&text) == Some(true));
    let version = options.version.or(wants_two.then_some(GithubVersion::Two));
    let results = around.variable("ACTIONS_RESULTS_URL");
    let of_two =
        options.url_v2.or_else(|| results.clone().filter(|_| version == Some(GithubVersion::Two)));
    let of_one = options.url.or_else(|| around.variable("ACTIONS_CACHE_URL")).or(results);
    let (url, version) = match (of_two, of_one) {
        (Some(url), _) if version != Some(GithubVersion::One) => (url, Some(GithubVersion::Two)),
        (_, Some(url)) => (url, version),
        _ => return Err(no_url()),
    };
    let version = version.unwrap_or_else(|| {
        if url.contains("results-receiver.actions.githubusercontent.com") {
            GithubVersion::Two
        } else {
            GithubVersion::One
        }
    });
    let token = options.token.map(|token| token.expose().to_owned());
    let token = token.or_else(|| around.variable(GITHUB_TOKEN)).ok_or_else(no_token)?;
    Ok(GithubSettings {
        url: web_address("url", url)?,
        version,
        scope: options.scope.unwrap_or_else(|| "buildkit".into()),
        timeout: options.timeout.unwrap_or(GITHUB_TIMEOUT),
        credentials: BackendCredentials::new([(GITHUB_TOKEN.to_owned(), token)]),
    })
}

/// The settings of a cache in redis.
///
/// # Errors
/// If the address or repository is missing, or the password cannot be read.
pub fn redis((options, map): Redis, around: OptionContext<'_>) -> Result<MapSettings, OptionError> {
    let of = "type=redis";
    let hint = ", as in `addr=host:6379`";
    let address = options.address.ok_or_else(|| OptionError::missing(of, "addr", hint))?;
    let password = match (options.password_variable, options.password_file) {
        (None, None) => None,
        (Some(name), None) => {
            let unset = || unset(format!("password-env={name}"));
            Some(around.variable(&name).ok_or_else(unset)?)
        }
        (None, Some(file)) => {
            let text = std::fs::read_to_string(around.directory.join(&file));
            let doing = format!("`password-file={file}`");
            let text = text.map_err(|source| OptionError::Io { doing, source })?;
            Some(text.trim_end_matches(['\r', '\n']).to_owned())
        }
        (Some(_), Some(_)) => {
            return Err(OptionError::together("password-env", "password-file"));
        }
    };
    let store = MapStore::Redis(address.server(options.database, options.user)?);
    let credentials = password.as_deref().map(redis_password);
    map.settings(of, store, credentials.into_iter().collect())
}

/// The settings of a cache in an HTTP server.
///
/// # Errors
/// If the address or repository is missing, or a header is wrong.
pub fn http(
    (options, headers, map): Http,
    around: OptionContext<'_>,
) -> Result<MapSettings, OptionError> {
    let of = "type=http";
    let url = options.url.ok_or_else(|| OptionError::missing(of, "url", ""))?;
    let headers = headers.0.into_iter().map(|header| header.pair(around));
    map.settings(of, MapStore::Http { url }, headers.collect::<Result<_, _>>()?)
}

/// The settings of a cache in a folder of keys and values.
///
/// # Errors
/// If the folder or repository is missing.
pub fn folder(
    (options, map): Folder,
    around: OptionContext<'_>,
) -> Result<MapSettings, OptionError> {
    let of = "type=kv-folder";
    let folder = options.folder.ok_or_else(|| OptionError::missing(of, "folder", ""))?;
    map.settings(of, MapStore::Folder(around.directory.join(folder)), Vec::new())
}

impl HttpHeader {
    /// The credential that makes requests send the header.
    fn pair(self, around: OptionContext<'_>) -> Result<(String, String), OptionError> {
        let Self { name, value } = self;
        let value = match value {
            HeaderValue::Given(value) => value.expose().to_owned(),
            HeaderValue::Variable(variable) => {
                let unset = || unset(format!("header-{name}-env={variable}"));
                around.variable(&variable).ok_or_else(unset)?
            }
        };
        self::header(&name, &value)
    }
}

impl MapOptions {
    fn settings(
        self,
        of: &str,
        store: MapStore,
        credentials: Vec<(String, String)>,
    ) -> Result<MapSettings, OptionError> {
        let hint = ", the repository that keeps the layers";
        let reference = self.reference.ok_or_else(|| OptionError::missing(of, "ref", hint))?;
        Ok(MapSettings {
            store,
            name: self.name.unwrap_or_else(|| MAP_NAME.into()),
            ttl: self.ttl.unwrap_or(TTL),
            repository: reference.repository().clone(),
            insecure: self.insecure.unwrap_or(false),
            credentials: BackendCredentials::new(credentials),
        })
    }
}

fn unset(option: String) -> OptionError {
    OptionError::refused(option, "the variable is not set")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use build::BackendSettings;

    use super::super::cache::cache_from;
    use super::*;
    use crate::settings::Environment;

    fn read(text: &str, pairs: &[(&str, &str)]) -> Result<BackendSettings, OptionError> {
        let environment = Environment::of(pairs);
        let around = OptionContext { directory: Path::new("/w"), environment: &environment };
        Ok(cache_from(text, around)?.remove(0).backend)
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
    fn redis_has_addresses_of_three_forms() {
        for (text, scheme, address, database) in [
            ("h", RedisScheme::Tcp, "h:6379", 0),
            ("h:1", RedisScheme::Tcp, "h:1", 0),
            ("redis://[::1]/4", RedisScheme::Tcp, "[::1]:6379", 4),
            ("rediss://h:1/", RedisScheme::Tls, "h:1", 0),
        ] {
            let server = RedisAddress::parse("addr", text).unwrap().server(None, None).unwrap();
            let expected = RedisServer { scheme, address: address.into(), database, user: None };
            assert_eq!(server, expected, "{text}");
        }
    }

    #[test]
    fn maps_have_their_options() {
        let pairs = [("PASSWORD", "hush"), ("BEARER", "Bearer hush")];
        let redis = read(
            "type=redis,addr=cache,db=2,username=u,password-env=PASSWORD,ref=h/app,ttl=1h",
            &pairs,
        );
        let BackendSettings::Map(redis) = redis.unwrap() else { panic!("a map") };
        let store = MapStore::Redis(RedisServer {
            scheme: RedisScheme::Tcp,
            address: "cache:6379".into(),
            database: 2,
            user: Some("u".into()),
        });
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
            ("type=redis,addr=http://h,ref=h/a", "rediss://"),
            ("type=redis,addr=rediss://h/one,ref=h/a", "rediss://"),
            ("type=redis,addr=rediss://u:hush@h,ref=h/a", "password-env"),
            ("type=redis,addr=redis://h/1,db=2,ref=h/a", "`db`"),
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
