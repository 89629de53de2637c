//! Caches in object stores: `type=s3`, `type=azblob`, `type=gcs`, with BuildKit's options and the
//! services' own variables and files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use build::{BackendCredentials, BucketSettings, Service};

use super::options::{
    self, Accepted, Direction, accepted_boolean, boolean, given, options, secret, text,
};
use super::{Fields, OptionError};
use crate::settings::{Environment, Hidden};

/// The folder and environment in which options are read.
#[derive(Clone, Copy)]
pub struct OptionContext<'a> {
    /// The folder that relative paths are resolved against.
    pub directory: &'a Path,
    /// Variables, credentials among them.
    pub environment: &'a Environment,
}

/// Credentials of S3, by the names that the AWS tools use.
const AWS_VARIABLES: [&str; 9] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];
const AZURE_VARIABLES: [&str; 7] = [
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_TENANT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
];
const GOOGLE_VARIABLES: [&str; 3] =
    ["GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_APPLICATION_CREDENTIALS"];

options! {
    /// Options of all buckets.
    pub struct BucketOptions {
        /// Names of the cache, separated by `;`: all are written, the first is read.
        names: Vec<String> = names("name"), "a;b";
        /// Prefix of all object names.
        prefix: String = text("prefix"), "p/";
        /// Prefix of the names of layers.
        blobs_prefix: String = text("blobs_prefix"), "b/";
        /// Prefix of the names of caches.
        manifests_prefix: String = text("manifests_prefix"), "m/";
        /// Layers that are sent at the same time, from 1 to 1000.
        parallelism: usize = count("upload_parallelism"), "7";
        /// Attempts for each request, from 1 to 1000.
        attempts: usize = count("retry_max_attempts"), "7";
    }
}

options! {
    /// Options of buckets whose objects are touched.
    pub struct TouchOptions {
        /// Age at which a layer that is used again is touched, so that it does not expire.
        touch_refresh: Duration = age("touch_refresh"), "7h";
    }
}

options! {
    /// `type=s3`.
    pub struct S3Options {
        /// Bucket; else AWS_BUCKET.
        bucket: String = given("bucket"), "other";
        /// Region; else AWS_REGION, AWS_DEFAULT_REGION or the profile's.
        region: String = given("region"), "other";
        /// Address of another service than Amazon's; else AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL.
        endpoint: String = address("endpoint_url"), "https://s3.example.com";
        /// Writes the bucket in the path instead of the host name.
        path_style: bool = boolean("use_path_style"), "true";
        /// Key's ID; else the AWS variables or files.
        access_key_id: Hidden = secret("access_key_id"), "other";
        /// Key; else the AWS variables or files.
        secret_access_key: Hidden = secret("secret_access_key"), "other";
        /// Token of a key that expires.
        session_token: Hidden = secret("session_token"), "other";
        // Only AWS' own headers are signed, so a proxy may change the one this is about.
        /// Accepted: `accept-encoding` is never signed.
        _disable_accept_encoding: Accepted = accepted_boolean("disable_accept_encoding"), "true";
        /// Accepted with the value standard.
        _retry_mode: Accepted = retry_mode("retry_mode"), "standard";
        /// Profile of ~/.aws/credentials and ~/.aws/config; else AWS_PROFILE.
        profile: String = given("profile"), "other";
    }
}

options! {
    /// `type=azblob`.
    pub struct AzureOptions {
        /// Address of the account; else BUILDKIT_AZURE_STORAGE_ACCOUNT_URL.
        account_url: String = address("account_url"), "https://other.example.com";
        /// Name of the account, if it is not the first word of the address.
        account_name: String = given("account_name"), "other";
        /// Container; else BUILDKIT_AZURE_STORAGE_CONTAINER or buildkit-cache.
        container: String = given("container"), "other";
        /// Key of the account; else the AZURE variables.
        secret_access_key: Hidden = secret("secret_access_key"), "other";
    }
}

options! {
    /// `type=gcs`.
    pub struct GoogleOptions {
        /// Bucket.
        bucket: String = given("bucket"), "other";
        /// Address of another service than Google's.
        endpoint: String = address("endpoint_url"), "https://gcs.example.com";
        /// File of a service account; else the GOOGLE variables.
        credentials_file: String = given("credentials_file"), "other.json";
    }
}

/// All options of a cache in S3.
pub type S3 = (S3Options, TouchOptions, BucketOptions);
/// All options of a cache in Azure's object store.
pub type Azure = (AzureOptions, BucketOptions);
/// All options of a cache in Google's object store.
pub type Google = (GoogleOptions, TouchOptions, BucketOptions);

fn names(key: &str, text: &str) -> Result<Option<Vec<String>>, OptionError> {
    let names: Vec<String> = text.split(';').map(str::to_owned).collect();
    if names.iter().any(String::is_empty) {
        return Err(OptionError::refused(key, "a name is empty; `;` separates several"));
    }
    Ok(Some(names))
}

fn count(key: &str, text: &str) -> Result<Option<usize>, OptionError> {
    match text.parse() {
        Ok(count @ 1..=1000) => Ok(Some(count)),
        _ if text.is_empty() => Ok(None),
        _ => Err(OptionError::invalid(key, text, "a number from 1 to 1000")),
    }
}

/// A duration; none if it is empty.
pub fn age(key: &str, text: &str) -> Result<Option<Duration>, OptionError> {
    if text.is_empty() { Ok(None) } else { duration(key, text).map(Some) }
}

/// The address of a server; none if it is empty.
pub fn address(key: &str, text: &str) -> Result<Option<String>, OptionError> {
    if text.is_empty() { Ok(None) } else { web_address(key, text.to_owned()).map(Some) }
}

fn retry_mode(key: &str, text: &str) -> Result<Option<Accepted>, OptionError> {
    match text {
        "" | "standard" => Ok(None),
        "adaptive" => Err(OptionError::NotSupported {
            option: format!("{key}={text}"),
            hint: "; standard is",
        }),
        other => Err(OptionError::invalid(key, other, "standard or adaptive")),
    }
}

/// Reads the options of a bucket that is not a cache.
///
/// # Errors
/// If an option is missing, unknown or wrong. The error has no value that is secret.
pub fn bucket(
    kind: &str,
    fields: Fields,
    around: OptionContext<'_>,
) -> Result<BucketSettings, OptionError> {
    let of = format!("type={kind}");
    match kind {
        "s3" => s3(options::read(&of, fields, Direction::Import)?, around),
        "azblob" => azure(options::read(&of, fields, Direction::Import)?, around),
        _ => google(options::read(&of, fields, Direction::Import)?, around),
    }
}

/// The settings of a bucket in S3.
///
/// # Errors
/// If an option is missing or wrong, or there is no such profile.
pub fn s3(
    (options, touch, common): S3,
    around: OptionContext<'_>,
) -> Result<BucketSettings, OptionError> {
    let missing = |key, hint| OptionError::missing("type=s3", key, hint);
    let own = options.credentials()?;
    let bucket = options.bucket.or_else(|| around.variable("AWS_BUCKET"));
    let bucket = bucket.ok_or_else(|| missing("bucket", ", or the variable AWS_BUCKET"))?;
    let profile = options.profile.or_else(|| around.variable("AWS_PROFILE"));
    let files = AwsFiles::read(profile.as_deref(), around)?;
    let region = options
        .region
        .or_else(|| around.variable("AWS_REGION"))
        .or_else(|| around.variable("AWS_DEFAULT_REGION"))
        .or_else(|| files.get("region"));
    let region = region.ok_or_else(|| missing("region", ", or the variable AWS_REGION"))?;
    let endpoint = match options.endpoint {
        Some(url) => Some(url),
        None => ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
            .into_iter()
            .find_map(|name| around.variable(name))
            .map(|url| web_address("endpoint_url", url))
            .transpose()?,
    };
    let credentials = if own.is_empty() {
        let found = around.variables(&AWS_VARIABLES);
        if found.is_empty() || profile.is_some() {
            BackendCredentials::new(files.credentials().into_iter().chain(found))
        } else {
            BackendCredentials::new(found)
        }
    } else {
        BackendCredentials::new(own)
    };
    let path_style = options.path_style.unwrap_or(false);
    let service = Service::S3 { region, endpoint, path_style };
    let settings = common.settings(service, bucket, credentials);
    Ok(BucketSettings { touch_refresh: touch.age(), ..settings })
}

impl S3Options {
    /// Keys and token of the value, by the names of their variables.
    fn credentials(&self) -> Result<Vec<(String, String)>, OptionError> {
        let (id, key) = ("access_key_id", "secret_access_key");
        match (&self.access_key_id, &self.secret_access_key) {
            (Some(_), None) => return Err(OptionError::Requires { option: id, other: key }),
            (None, Some(_)) => return Err(OptionError::Requires { option: key, other: id }),
            (None, None) if self.session_token.is_some() => {
                return Err(OptionError::Requires { option: "session_token", other: key });
            }
            _ => {}
        }
        let pairs = [
            ("AWS_ACCESS_KEY_ID", &self.access_key_id),
            ("AWS_SECRET_ACCESS_KEY", &self.secret_access_key),
            ("AWS_SESSION_TOKEN", &self.session_token),
        ];
        let pair = |(name, value): (&str, &Option<Hidden>)| {
            Some((name.to_owned(), value.as_ref()?.expose().to_owned()))
        };
        Ok(pairs.into_iter().filter_map(pair).collect())
    }
}

/// The settings of a container in Azure's object store.
///
/// # Errors
/// If there is no address.
pub fn azure(
    (options, common): Azure,
    around: OptionContext<'_>,
) -> Result<BucketSettings, OptionError> {
    let variable = |name: &str| around.variable(&format!("BUILDKIT_AZURE_STORAGE_{name}"));
    let account_url = match (options.account_url, variable("ACCOUNT_URL")) {
        (Some(url), _) => url,
        (None, Some(url)) => web_address("account_url", url)?,
        (None, None) => {
            let hint = ", or the variable BUILDKIT_AZURE_STORAGE_ACCOUNT_URL";
            return Err(OptionError::missing("type=azblob", "account_url", hint));
        }
    };
    let host = account_url.split_once("://").map_or("", |(_, rest)| rest);
    let first = host.split(['.', ':', '/']).next().unwrap_or_default().to_owned();
    let account = options.account_name.or_else(|| variable("ACCOUNT_NAME")).unwrap_or(first);
    let container = options.container.or_else(|| variable("CONTAINER"));
    let credentials = match options.secret_access_key {
        Some(key) => BackendCredentials::new([(
            "AZURE_STORAGE_ACCOUNT_KEY".to_owned(),
            key.expose().to_owned(),
        )]),
        None => BackendCredentials::new(around.variables(&AZURE_VARIABLES)),
    };
    let container = container.unwrap_or_else(|| "buildkit-cache".into());
    let service = Service::Azure { account_url, account };
    let common = BucketOptions {
        // Azure's names are joined as paths, hence prefixes without a slash.
        blobs_prefix: common.blobs_prefix.or_else(|| Some("blobs".into())),
        manifests_prefix: common.manifests_prefix.or_else(|| Some("manifests".into())),
        ..common
    };
    let mut settings = common.settings(service, container, credentials);
    if settings.prefix.is_empty() {
        settings.prefix = variable("PREFIX").unwrap_or_default();
    }
    Ok(settings)
}

/// The settings of a bucket in Google's object store.
///
/// # Errors
/// If there is no bucket.
pub fn google(
    (options, touch, common): Google,
    around: OptionContext<'_>,
) -> Result<BucketSettings, OptionError> {
    let bucket = options.bucket.ok_or_else(|| OptionError::missing("type=gcs", "bucket", ""))?;
    let credentials = match options.credentials_file {
        Some(file) => vec![(
            "GOOGLE_APPLICATION_CREDENTIALS".to_owned(),
            around.directory.join(file).display().to_string(),
        )],
        None => around.variables(&GOOGLE_VARIABLES),
    };
    let service = Service::Google { endpoint: options.endpoint };
    let settings = common.settings(service, bucket, BackendCredentials::new(credentials));
    Ok(BucketSettings { touch_refresh: touch.age(), ..settings })
}

impl BucketOptions {
    fn settings(
        self,
        service: Service,
        bucket: String,
        credentials: BackendCredentials,
    ) -> BucketSettings {
        BucketSettings {
            service,
            bucket,
            prefix: self.prefix.unwrap_or_default(),
            blobs_prefix: self.blobs_prefix.unwrap_or_else(|| "blobs/".into()),
            manifests_prefix: self.manifests_prefix.unwrap_or_else(|| "manifests/".into()),
            names: self.names.unwrap_or_else(|| vec!["buildkit".into()]),
            touch_refresh: Duration::MAX,
            parallelism: self.parallelism.unwrap_or(4),
            attempts: self.attempts.unwrap_or(3),
            credentials,
        }
    }
}

impl TouchOptions {
    fn age(&self) -> Duration {
        self.touch_refresh.unwrap_or(Duration::from_secs(24 * 3600))
    }
}

/// The address of a server, with a scheme. Credentials in it are refused, since others would see
/// them.
///
/// # Errors
/// If it has no scheme or host, or has credentials.
pub fn web_address(key: &str, text: String) -> Result<String, OptionError> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
    match host {
        "" => Err(OptionError::refused(key, "expected https:// or http://, and a host")),
        host if host.contains('@') => {
            let reason = "a user or password in the address; there are options for those";
            Err(OptionError::refused(key, reason))
        }
        _ => Ok(text),
    }
}

/// A duration as Go's `time.ParseDuration` reads it: `24h`, `1h30m`, `500ms`.
///
/// # Errors
/// If it is not a duration; the error names `key`.
pub fn duration(key: &str, text: &str) -> Result<Duration, OptionError> {
    let wrong = || OptionError::invalid(key, text, "a duration, as 24h or 1h30m");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let (unit, after) = [("ms", 1e-3), ("h", 3600.0), ("m", 60.0), ("s", 1.0)]
            .into_iter()
            .find_map(|(name, unit)| Some((unit, rest[digits..].strip_prefix(name)?)))
            .or_else(|| (rest == "0").then_some((0.0, "")))
            .ok_or_else(wrong)?;
        seconds += number * unit;
        rest = after;
    }
    let duration = Duration::try_from_secs_f64(seconds).ok().filter(|_| !text.is_empty());
    duration.ok_or_else(wrong)
}

impl OptionContext<'_> {
    /// A variable that is set and not empty.
    pub fn variable(&self, name: &str) -> Option<String> {
        self.environment.get(name).map(str::to_owned)
    }

    fn variables(&self, names: &[&str]) -> Vec<(String, String)> {
        let pair = |name: &&str| Some(((*name).to_owned(), self.variable(name)?));
        names.iter().filter_map(pair).collect()
    }
}

/// `~/.aws/credentials` and `~/.aws/config`, of one profile.
struct AwsFiles(Vec<(String, String)>);

impl AwsFiles {
    /// Reads both files. A missing file is empty, but a profile that is asked for must be in one of
    /// them.
    fn read(profile: Option<&str>, around: OptionContext<'_>) -> Result<Self, OptionError> {
        let file = |variable: &str, name: &str| {
            let home = || Some(PathBuf::from(around.variable("HOME")?).join(".aws").join(name));
            around.variable(variable).map(PathBuf::from).or_else(home)
        };
        let wanted = profile.unwrap_or("default");
        let mut values = Vec::new();
        let mut found = false;
        for (path, section) in [
            (file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), wanted.to_owned()),
            (
                file("AWS_CONFIG_FILE", "config"),
                match wanted {
                    "default" => wanted.to_owned(),
                    other => format!("profile {other}"),
                },
            ),
        ] {
            let Some(text) = path.and_then(|path| std::fs::read_to_string(path).ok()) else {
                continue;
            };
            found |= section_of(&text, &section, &mut values);
        }
        match profile {
            Some(name) if !found => Err(OptionError::refused(
                format!("profile={name}"),
                "it is neither in ~/.aws/credentials nor in ~/.aws/config",
            )),
            _ => Ok(Self(values)),
        }
    }

    fn get(&self, key: &str) -> Option<String> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
    }

    fn credentials(&self) -> Vec<(String, String)> {
        let keys = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];
        let pair = |key: &&str| Some((key.to_uppercase(), self.get(key)?));
        keys.iter().filter_map(pair).collect()
    }
}

fn section_of(text: &str, wanted: &str, values: &mut Vec<(String, String)>) -> bool {
    let (mut inside, mut found) = (false, false);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            inside = name.trim() == wanted;
            found |= inside;
        } else if let (true, Some((key, value))) = (inside, line.split_once('='))
            && !line.starts_with(['#', ';'])
        {
            values.push((key.trim().to_lowercase(), value.trim().to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::fields;
    use super::*;

    fn read(text: &str, pairs: &[(&str, &str)]) -> Result<BucketSettings, OptionError> {
        let mut fields = Fields::of(&fields(text)?)?;
        let kind = fields.take("type").unwrap();
        let environment = Environment::of(pairs);
        let around = OptionContext { directory: Path::new("/w"), environment: &environment };
        bucket(&kind, fields, around)
    }

    #[test]
    fn every_option_of_s3() {
        let settings = read(
            "type=s3,bucket=b,region=r,prefix=p/,blobs_prefix=B/,manifests_prefix=M/,name=a;b,\
             endpoint_url=http://localhost:9000,use_path_style=true,access_key_id=AK,\
             secret_access_key=very-secret,session_token=also-secret,touch_refresh=1h30m,\
             upload_parallelism=8,disable_accept_encoding=true,retry_mode=standard,retry_max_attempts=7",
            &[],
        )
        .unwrap();
        assert_eq!(settings.names, ["a", "b"]);
        assert_eq!((settings.parallelism, settings.attempts), (8, 7));
        assert_eq!(settings.touch_refresh, Duration::from_secs(5400));
        assert_eq!((settings.prefix.as_str(), settings.blobs_prefix.as_str()), ("p/", "B/"));
        assert_eq!(settings.credentials.get("AWS_ACCESS_KEY_ID"), Some("AK"));
        let shown = format!("{settings:?}");
        let backend = build::BackendSettings::Bucket(settings);
        assert_eq!(backend.name(), "s3://b/p at http://localhost:9000");
        assert!(!shown.contains("very-secret") && !shown.contains("also-secret"), "{shown}");
    }

    #[test]
    fn missing_options_are_looked_up() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().to_str().unwrap();
        let aws = [("AWS_BUCKET", "b"), ("AWS_REGION", "r")];
        let with = |more: &[(&'static str, &str)], text: &str| {
            let pairs: Vec<(&str, &str)> =
                aws.iter().copied().chain(more.iter().copied()).collect();
            read(text, &pairs)
        };
        let keys = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")];
        let settings = with(&keys, "type=s3").unwrap();
        assert_eq!(
            (settings.bucket.as_str(), settings.names.as_slice()),
            ("b", &["buildkit".to_owned()][..])
        );
        assert_eq!(settings.credentials.get("AWS_SECRET_ACCESS_KEY"), Some("s"));
        std::fs::create_dir(format!("{home}/.aws")).unwrap();
        let text = "# keys\n[default]\naws_access_key_id = d\n[ci]\naws_access_key_id=c\naws_secret_access_key = x=y\n";
        std::fs::write(format!("{home}/.aws/credentials"), text).unwrap();
        let at_home = [("HOME", home)];
        let settings = with(&at_home, "type=s3,profile=ci").unwrap();
        assert_eq!(settings.credentials.get("AWS_ACCESS_KEY_ID"), Some("c"));
        assert_eq!(settings.credentials.get("AWS_SECRET_ACCESS_KEY"), Some("x=y"));
        let error = with(&at_home, "type=s3,profile=none").unwrap_err().to_string();
        assert!(error.contains("`profile=none`"), "{error}");
        // An option takes precedence over its variable, which is not read.
        let with_endpoint = with(&[("AWS_ENDPOINT_URL", "h")], "type=s3,endpoint_url=http://h");
        assert!(with_endpoint.is_ok() && with(&[("AWS_ENDPOINT_URL", "h")], "type=s3").is_err());
        let azure = read(
            "type=azblob",
            &[
                ("BUILDKIT_AZURE_STORAGE_ACCOUNT_URL", "https://acc.blob.core.windows.net"),
                ("BUILDKIT_AZURE_STORAGE_PREFIX", "p"),
            ],
        );
        let azure = azure.unwrap();
        assert_eq!((azure.bucket.as_str(), azure.prefix.as_str()), ("buildkit-cache", "p"));
        assert!(matches!(&azure.service, Service::Azure { account, .. } if account == "acc"));
    }

    #[test]
    fn wrong_options_are_named_without_secrets() {
        for (text, word) in [
            ("type=s3,bucket=b", "`region`"),
            ("type=s3,region=r", "`bucket`"),
            ("type=s3,bucket=b,region=r,secret_access_key=hush", "needs `access_key_id`"),
            ("type=s3,bucket=b,region=r,retry_mode=adaptive", "not supported yet"),
            ("type=s3,bucket=b,region=r,touch_refresh=soon", "touch_refresh=soon"),
            ("type=s3,bucket=b,region=r,upload_parallelism=0", "from 1 to 1000"),
            ("type=s3,bucket=b,region=r,name=a;;b", "empty"),
            ("type=s3,bucket=b,region=r,endpoint_url=https://u:hush@h", "password"),
            ("type=s3,bucket=b,region=r,container=c", "`container` is not an option"),
            ("type=azblob", "account_url"),
            ("type=azblob,account_url=acc", "https://"),
            ("type=gcs", "`bucket`"),
            ("type=gcs,bucket=b,region=r", "`region` is not an option"),
        ] {
            let error = read(text, &[]).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains("hush"), "{text}: {error}");
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        for (text, seconds) in
            [("24h", 86400.0), ("1h30m", 5400.0), ("1.5s", 1.5), ("0", 0.0), ("250ms", 0.25)]
        {
            assert_eq!(duration("x", text).unwrap().as_secs_f64(), seconds, "{text}");
        }
        for text in ["", "h", "1", "1d", "-1h", "1h x"] {
            assert!(duration("x", text).is_err(), "{text}");
        }
    }
}
