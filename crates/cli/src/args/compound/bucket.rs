//! Caches in object stores: `type=s3`, `type=azblob`, `type=gcs`, with BuildKit's options and the
//! services' own variables and files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use build::{BucketSettings, Credentials, Service};

use super::{Fields, OptionError};
use crate::settings::Environment;

/// What a bucket's options are read with.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Relative paths begin here.
    pub directory: &'a Path,
    /// Where credentials are.
    pub environment: &'a Environment,
}

/// Options that all three have.
const COMMON: [&str; 9] = [
    "on-failure",
    "name",
    "prefix",
    "blobs_prefix",
    "manifests_prefix",
    "upload_parallelism",
    "retry_max_attempts",
    "mode",
    "ignore-error",
];
const S3: [&str; 11] = [
    "bucket",
    "region",
    "endpoint_url",
    "use_path_style",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "touch_refresh",
    "disable_accept_encoding",
    "retry_mode",
    "profile",
];
const AZURE: [&str; 4] = ["account_url", "account_name", "container", "secret_access_key"];
const GOOGLE: [&str; 4] = ["bucket", "endpoint_url", "credentials_file", "touch_refresh"];

/// What opens S3, by the names that the AWS tools use.
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

/// Reads the options of a bucket, but `mode` and `ignore-error`.
///
/// # Errors
/// If an option is missing or wrong. The error has no value that is secret.
pub fn bucket(
    kind: &str,
    fields: &mut Fields,
    around: Surroundings<'_>,
) -> Result<BucketSettings, OptionError> {
    match kind {
        "s3" => s3(fields, around),
        "azblob" => azure(fields, around),
        _ => google(fields, around),
    }
}

/// Refuses a key that is left.
///
/// # Errors
/// If there is one.
pub fn nothing_left(kind: &str, fields: &Fields) -> Result<(), OptionError> {
    let own: &[&'static str] = match kind {
        "s3" => &S3,
        "azblob" => &AZURE,
        _ => &GOOGLE,
    };
    let known: Vec<&'static str> = own.iter().chain(&COMMON).copied().collect();
    fields.nothing_left(&format!("type={kind}"), &known)
}

fn s3(fields: &mut Fields, around: Surroundings<'_>) -> Result<BucketSettings, OptionError> {
    let bucket = given(fields, "bucket").or_else(|| around.variable("AWS_BUCKET"));
    let bucket =
        bucket.ok_or_else(|| missing("type=s3", "bucket", ", or the variable AWS_BUCKET"))?;
    let profile = given(fields, "profile").or_else(|| around.variable("AWS_PROFILE"));
    let files = AwsFiles::read(profile.as_deref(), around)?;
    let region = given(fields, "region")
        .or_else(|| around.variable("AWS_REGION"))
        .or_else(|| around.variable("AWS_DEFAULT_REGION"))
        .or_else(|| files.get("region"));
    let region =
        region.ok_or_else(|| missing("type=s3", "region", ", or the variable AWS_REGION"))?;
    let endpoint = given(fields, "endpoint_url")
        .or_else(|| around.variable("AWS_ENDPOINT_URL_S3"))
        .or_else(|| around.variable("AWS_ENDPOINT_URL"));
    let endpoint = endpoint.map(|url| web_address("endpoint_url", url)).transpose()?;
    let path_style = fields.take_boolean("use_path_style", false)?;
    // Nothing but the headers of AWS is signed, so a proxy may change this one.
    fields.take_boolean("disable_accept_encoding", false)?;
    match given(fields, "retry_mode").as_deref() {
        None | Some("standard") => (),
        Some("adaptive") => {
            return Err(OptionError::NotSupported {
                option: "retry_mode=adaptive".into(),
                hint: "; standard is",
            });
        }
        Some(other) => {
            return Err(OptionError::invalid("retry_mode", other, "standard or adaptive"));
        }
    }
    let keys = ["access_key_id", "secret_access_key", "session_token"];
    let own: Vec<(String, String)> = keys
        .iter()
        .filter_map(|key| Some((format!("AWS_{}", key.to_uppercase()), given(fields, key)?)))
        .collect();
    let credentials = match own.is_empty() {
        false if own.len() < 2 || !own.iter().any(|(name, _)| name == "AWS_SECRET_ACCESS_KEY") => {
            return Err(OptionError::Unusable(
                "`access_key_id` and `secret_access_key` go together".into(),
            ));
        }
        false => Credentials::new(own),
        true => match around.variables(&AWS_VARIABLES) {
            found if found.is_empty() || profile.is_some() => {
                Credentials::new(files.credentials().into_iter().chain(found))
            }
            found => Credentials::new(found),
        },
    };
    let service = Service::S3 { region, endpoint, path_style };
    Ok(BucketSettings {
        touch_refresh: touch_refresh(fields)?,
        ..common(fields, service, bucket, credentials, ["blobs/", "manifests/"])?
    })
}

fn azure(fields: &mut Fields, around: Surroundings<'_>) -> Result<BucketSettings, OptionError> {
    let variable = |name: &str| around.variable(&format!("BUILDKIT_AZURE_STORAGE_{name}"));
    let account_url = given(fields, "account_url").or_else(|| variable("ACCOUNT_URL"));
    let account_url = account_url.ok_or_else(|| {
        let hint = ", or the variable BUILDKIT_AZURE_STORAGE_ACCOUNT_URL";
        missing("type=azblob", "account_url", hint)
    })?;
    let account_url = web_address("account_url", account_url)?;
    let host = account_url.split_once("://").map_or("", |(_, rest)| rest);
    let first = host.split(['.', ':', '/']).next().unwrap_or_default().to_owned();
    let account = given(fields, "account_name").or_else(|| variable("ACCOUNT_NAME"));
    let account = account.unwrap_or(first);
    let container = given(fields, "container").or_else(|| variable("CONTAINER"));
    let prefix = variable("PREFIX");
    let credentials = match given(fields, "secret_access_key") {
        Some(key) => Credentials::new([("AZURE_STORAGE_ACCOUNT_KEY".to_owned(), key)]),
        None => Credentials::new(around.variables(&AZURE_VARIABLES)),
    };
    let container = container.unwrap_or_else(|| "buildkit-cache".into());
    let service = Service::Azure { account_url, account };
    let mut settings = common(fields, service, container, credentials, ["blobs", "manifests"])?;
    if settings.prefix.is_empty() {
        settings.prefix = prefix.unwrap_or_default();
    }
    Ok(settings)
}

fn google(fields: &mut Fields, around: Surroundings<'_>) -> Result<BucketSettings, OptionError> {
    let bucket = given(fields, "bucket").ok_or_else(|| missing("type=gcs", "bucket", ""))?;
    let endpoint = given(fields, "endpoint_url");
    let endpoint = endpoint.map(|url| web_address("endpoint_url", url)).transpose()?;
    let credentials = match given(fields, "credentials_file") {
        Some(file) => vec![(
            "GOOGLE_APPLICATION_CREDENTIALS".to_owned(),
            around.directory.join(file).display().to_string(),
        )],
        None => around.variables(&GOOGLE_VARIABLES),
    };
    let service = Service::Google { endpoint };
    let credentials = Credentials::new(credentials);
    Ok(BucketSettings {
        touch_refresh: touch_refresh(fields)?,
        ..common(fields, service, bucket, credentials, ["blobs/", "manifests/"])?
    })
}

fn common(
    fields: &mut Fields,
    service: Service,
    bucket: String,
    credentials: Credentials,
    [blobs, manifests]: [&str; 2],
) -> Result<BucketSettings, OptionError> {
    let names = fields.take("name").unwrap_or_else(|| "buildkit".into());
    let names: Vec<String> = names.split(';').map(str::to_owned).collect();
    if names.iter().any(String::is_empty) {
        return Err(OptionError::refused("name", "a name is empty; `;` separates several"));
    }
    Ok(BucketSettings {
        service,
        bucket,
        prefix: fields.take("prefix").unwrap_or_default(),
        blobs_prefix: fields.take("blobs_prefix").unwrap_or_else(|| blobs.into()),
        manifests_prefix: fields.take("manifests_prefix").unwrap_or_else(|| manifests.into()),
        names,
        touch_refresh: Duration::MAX,
        parallelism: count(fields, "upload_parallelism", 4)?,
        attempts: count(fields, "retry_max_attempts", 3)?,
        credentials,
    })
}

fn given(fields: &mut Fields, key: &str) -> Option<String> {
    fields.take(key).filter(|value| !value.is_empty())
}

fn touch_refresh(fields: &mut Fields) -> Result<Duration, OptionError> {
    match given(fields, "touch_refresh") {
        Some(text) => duration("touch_refresh", &text),
        None => Ok(Duration::from_secs(24 * 3600)),
    }
}

fn count(fields: &mut Fields, key: &str, default: usize) -> Result<usize, OptionError> {
    match given(fields, key).map(|text| (text.parse(), text)) {
        None => Ok(default),
        Some((Ok(count @ 1..=1000), _)) => Ok(count),
        Some((_, text)) => Err(OptionError::invalid(key, text, "a number from 1 to 1000")),
    }
}

fn missing(of: &str, key: &'static str, hint: &'static str) -> OptionError {
    OptionError::Missing { of: of.to_owned(), key, hint }
}

/// The address of a server, with a scheme. Credentials in it would be seen.
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
/// If it is not one; `key` names it.
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

impl Surroundings<'_> {
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
    /// Files that are not there say nothing; a profile that was asked for has to be in one.
    fn read(profile: Option<&str>, around: Surroundings<'_>) -> Result<Self, OptionError> {
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
        let around = Surroundings { directory: Path::new("/w"), environment: &environment };
        let settings = bucket(&kind, &mut fields, around)?;
        nothing_left(&kind, &fields)?;
        Ok(settings)
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
    fn what_is_not_said_is_looked_up() {
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
    fn what_is_wrong_is_named_without_secrets() {
        for (text, word) in [
            ("type=s3,bucket=b", "`region`"),
            ("type=s3,region=r", "`bucket`"),
            ("type=s3,bucket=b,region=r,secret_access_key=hush", "go together"),
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
    fn lengths_of_time_are_those_of_go() {
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
