//! The environment as typed settings. Nothing else in kiln reads the environment.

mod buildkitd;
mod config_file;
mod docker_config;
mod environment;
mod error;
mod file;
mod hidden;
mod registry;

use std::path::{Path, PathBuf};
use std::time::Duration;

use layer::tar::Limits;
use oci::Platform;
use transfer::Lazy;

pub use buildkitd::{BuildkitdConfig, buildkitd_config, forget_buildkitd_config};
pub use config_file::{ConfigError, ValueFault, collect_policy, keep, space};
pub use docker_config::{Proxies, read_proxies};
pub use environment::Environment;
pub use error::SettingsError;
pub use file::{FileFault, read_text};
pub use hidden::Hidden;
pub use registry::RegistrySetting;

use crate::human::disk_size;
use crate::progress::{Colors, ProgressMode, Style};
use crate::render::Look;

/// Settings of the environment and of the global flags.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder of kiln's state: `--root`, `KILN_ROOT`, or the default.
    pub root: PathBuf,
    /// True if `--root` was given.
    pub root_is_given: bool,
    /// The folder of `config.json`: `DOCKER_CONFIG` or `~/.docker`; none without a home.
    pub docker_config: Option<PathBuf>,
    /// `DOCKER_AUTH_CONFIG`: a `config.json` as text, with credentials.
    pub docker_auth_config: Option<Hidden>,
    /// `REGISTRY_AUTH_FILE`: the file with credentials of podman and buildah.
    pub registry_auth_file: Option<PathBuf>,
    /// `SSL_CERT_FILE`: authorities to trust instead of the system's.
    pub certificates: Option<PathBuf>,
    /// `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`, `ALL_PROXY`, in upper or lower case: the proxies of
    /// kiln's own requests to registries. May hold passwords.
    pub proxies: ClientProxies,
    /// `DOCKER_HOST`: the engine that `--load` talks to.
    pub docker_host: Option<String>,
    /// `KILN_REGISTRY_MIRRORS` and a `buildkitd.toml`: registries, each with a mirror that is asked
    /// before it.
    pub mirrors: Vec<(String, String)>,
    /// `KILN_INSECURE_REGISTRIES`: hosts with plain HTTP or an untrusted certificate.
    pub insecure_registries: Vec<String>,
    /// `KILN_REGISTRY_TIMEOUT`: the longest silence of a registry.
    pub registry_timeout: Option<Duration>,
    /// Settings of single registries, from a `buildkitd.toml` or another tool's command line.
    pub registries: Vec<RegistrySetting>,
    /// True if every registry may use plain HTTP or an untrusted certificate.
    pub insecure: bool,
    /// `KILN_ARCHIVE_LIMIT`: the limits of an accepted archive.
    pub archive_limits: Limits,
    /// `KILN_VERIFY_INDEXES`: claims of caches about layers are not trusted.
    pub verify_indexes: bool,
    /// `KILN_LAZY`: the RUNs whose roots are filled when their files are opened.
    pub lazy: Lazy,
    /// `BUILDKIT_PROGRESS`.
    pub progress: Option<ProgressMode>,
    /// `NO_COLOR`, `BUILDKIT_COLORS`, `BUILDKIT_TTY_LOG_LINES`, `PROGRESS_NO_TRUNC`.
    pub style: Style,
    /// `KILN_ISOLATION`: the isolation of a RUN.
    pub isolation: Option<String>,
    /// `KILN_CONTAINER_IS_MINE`: the container is here for kiln, which may run steps in place.
    pub container_is_mine: bool,
    /// `DOCKER_DEFAULT_PLATFORM`: the platforms of builds; pulls use the first.
    pub default_platforms: Vec<Platform>,
    /// Warnings about variables whose errors do not stop kiln.
    pub warnings: Vec<String>,
}

/// Proxies that kiln itself uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientProxies {
    /// For `http://`.
    pub http: Option<Hidden>,
    /// For `https://`.
    pub https: Option<Hidden>,
    /// For both, as a fallback.
    pub all: Option<Hidden>,
    /// Hosts that are reached without a proxy.
    pub no: Option<String>,
}

impl ClientProxies {
    fn read(environment: &Environment) -> Self {
        // Lower case first, as in curl and Go.
        let either =
            |name: &str| environment.get(&name.to_lowercase()).or_else(|| environment.get(name));
        Self {
            http: either("HTTP_PROXY").map(Hidden::new),
            https: either("HTTPS_PROXY").map(Hidden::new),
            all: either("ALL_PROXY").map(Hidden::new),
            no: either("NO_PROXY").map(str::to_owned),
        }
    }
}

impl Settings {
    /// Reads the environment. `root` is `--root`; `is_superuser` is true if kiln runs as root.
    ///
    /// # Errors
    /// If a variable or file is wrong, or the root cannot be found.
    pub fn read(
        environment: &Environment,
        root: Option<&Path>,
        is_superuser: bool,
    ) -> Result<Self, SettingsError> {
        let path = |name: &str| environment.get(name).map(PathBuf::from);
        let home = path("HOME");
        let progress = environment.get("BUILDKIT_PROGRESS").map(progress).transpose()?;
        let default_platforms = environment
            .get("DOCKER_DEFAULT_PLATFORM")
            .into_iter()
            .flat_map(|text| text.split(','))
            .map(|text| text.trim().parse().map_err(SettingsError::Platform))
            .collect::<Result<_, _>>()?;
        let buildkitd = buildkitd::buildkitd_config(environment)?;
        let mut mirrors = mirrors(environment.get("KILN_REGISTRY_MIRRORS").unwrap_or_default())?;
        mirrors.extend(buildkitd.mirrors());
        let (style, warnings) = style(environment);
        let root_is_given = root.is_some();
        let root = match root {
            Some(root) => root.to_owned(),
            None => default_root(environment, is_superuser)?,
        };
        Ok(Self {
            // Made absolute, since commands run in other working directories.
            root: std::path::absolute(&root)
                .map_err(|source| SettingsError::Root { root, source })?,
            root_is_given,
            docker_config: path("DOCKER_CONFIG").or_else(|| Some(home?.join(".docker"))),
            docker_auth_config: environment.get("DOCKER_AUTH_CONFIG").map(Hidden::new),
            registry_auth_file: path("REGISTRY_AUTH_FILE"),
            certificates: path("SSL_CERT_FILE"),
            proxies: ClientProxies::read(environment),
            docker_host: environment.get("DOCKER_HOST").map(str::to_owned),
            mirrors,
            insecure_registries: words(
                environment.get("KILN_INSECURE_REGISTRIES").unwrap_or_default(),
            )
            .map(str::to_owned)
            .collect(),
            registry_timeout: environment
                .get("KILN_REGISTRY_TIMEOUT")
                .map(registry_timeout)
                .transpose()?,
            registries: buildkitd.registries(),
            insecure: false,
            archive_limits: archive_limits(environment.get("KILN_ARCHIVE_LIMIT"))?,
            verify_indexes: verify_indexes(environment.get("KILN_VERIFY_INDEXES"))?,
            lazy: lazy(environment.get("KILN_LAZY"))?,
            progress,
            style,
            isolation: environment.get("KILN_ISOLATION").map(str::to_owned),
            container_is_mine: environment
                .get("KILN_CONTAINER_IS_MINE")
                .is_some_and(|text| text == "1"),
            default_platforms,
            warnings,
        })
    }
}

fn wrong(variable: &'static str, value: &str, fault: &'static str) -> SettingsError {
    SettingsError::Variable { variable, value: value.to_owned(), fault }
}

fn progress(text: &str) -> Result<ProgressMode, SettingsError> {
    <ProgressMode as clap::ValueEnum>::from_str(text, false).map_err(|_| {
        wrong("BUILDKIT_PROGRESS", text, "none of auto, none, plain, quiet, rawjson, tty")
    })
}

/// Reads `REGISTRY=MIRROR,…`.
fn mirrors(text: &str) -> Result<Vec<(String, String)>, SettingsError> {
    let pair = |word: &str| match word.split_once('=') {
        Some((registry, mirror)) if !registry.is_empty() && !mirror.is_empty() => {
            Ok((registry.to_owned(), mirror.to_owned()))
        }
        _ => Err(wrong(
            "KILN_REGISTRY_MIRRORS",
            word,
            "not REGISTRY=MIRROR, as docker.io=mirror.example.com",
        )),
    };
    words(text).map(pair).collect()
}

/// Reads `entries=NUMBER,bytes=SIZE,ratio=NUMBER`; the rest has its default. Entries and bytes that
/// are given hold however small an archive is compressed.
fn archive_limits(text: Option<&str>) -> Result<Limits, SettingsError> {
    let mut limits = Limits::DEFAULT;
    for word in words(text.unwrap_or_default()) {
        let wrong = |fault| SettingsError::ArchiveLimit { part: word.to_owned(), fault };
        match word.split_once('=') {
            Some(("entries", value)) => {
                limits.max_entries = value.parse().map_err(|_| wrong("no number"))?;
                limits.free_entries = limits.max_entries;
            }
            Some(("bytes", value)) => {
                limits.max_total_bytes = disk_size(value).map_err(|_| wrong("no size"))?;
                limits.free_bytes = limits.max_total_bytes;
            }
            Some(("ratio", value)) => {
                limits.max_ratio = value.parse().map_err(|_| wrong("no number"))?;
            }
            _ => return Err(wrong("none of entries=, bytes= and ratio=")),
        }
    }
    Ok(limits)
}

/// Reads seconds, as `90` or `2.5`.
fn registry_timeout(text: &str) -> Result<Duration, SettingsError> {
    let seconds = text.trim().parse().ok().filter(|seconds| *seconds > 0.0);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| wrong("KILN_REGISTRY_TIMEOUT", text, "no number of seconds, as 90"))
}

/// Words separated by commas or blanks.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ']).map(str::trim).filter(|word| !word.is_empty())
}

/// Strict, since a user who asks for it in other words must not get the opposite.
fn verify_indexes(text: Option<&str>) -> Result<bool, SettingsError> {
    match text.unwrap_or_default() {
        "1" | "true" => Ok(true),
        "" | "0" | "false" => Ok(false),
        other => Err(wrong("KILN_VERIFY_INDEXES", other, "neither 1 nor 0")),
    }
}

fn lazy(text: Option<&str>) -> Result<Lazy, SettingsError> {
    let text = text.unwrap_or_default();
    lazy_of(text).ok_or_else(|| wrong("KILN_LAZY", text, "none of auto, always, never"))
}

/// Reads the values that `--lazy` and `KILN_LAZY` have in common.
pub fn lazy_of(text: &str) -> Option<Lazy> {
    match text {
        "" | "auto" => Some(Lazy::Auto),
        "always" => Some(Lazy::Always),
        "never" => Some(Lazy::Never),
        _ => None,
    }
}

/// `$KILN_ROOT`, else `/var/lib/kiln` for root and `$XDG_DATA_HOME/kiln` for others.
fn default_root(environment: &Environment, is_superuser: bool) -> Result<PathBuf, SettingsError> {
    if let Some(root) = environment.get("KILN_ROOT") {
        return Ok(root.into());
    }
    if is_superuser {
        return Ok("/var/lib/kiln".into());
    }
    if let Some(data) = environment.get("XDG_DATA_HOME").filter(|data| data.starts_with('/')) {
        return Ok(Path::new(data).join("kiln"));
    }
    let home = environment.get("HOME").ok_or(SettingsError::NoRoot)?;
    Ok(Path::new(home).join(".local/share/kiln"))
}

/// The look of a text, by its destination (`is_terminal`), `NO_COLOR` and `TERM=dumb`.
pub fn look(environment: &Environment, is_terminal: bool) -> Look {
    let is_wanted =
        environment.get("NO_COLOR").is_none() && environment.get("TERM") != Some("dumb");
    if is_terminal && is_wanted { Look::Colored } else { Look::Plain }
}

fn style(environment: &Environment) -> (Style, Vec<String>) {
    let (colors, warnings) =
        Colors::from_settings(environment.get("NO_COLOR"), environment.get("BUILDKIT_COLORS"));
    let number = |name: &str| environment.get(name)?.parse::<usize>().ok();
    let style = Style {
        colors,
        log_lines: number("BUILDKIT_TTY_LOG_LINES").filter(|lines| *lines > 0).unwrap_or(6),
        name_limit: (environment.get("PROGRESS_NO_TRUNC") == Some("0")).then_some(72),
    };
    (style, warnings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_have_a_limit() {
        let read = |text| archive_limits(Some(text));
        let limits = read("entries=5, bytes=2k,ratio=9").unwrap();
        assert_eq!((limits.max_entries, limits.max_total_bytes, limits.max_ratio), (5, 2048, 9));
        assert_eq!(limits.of_compressed(1), limits);
        assert_eq!(read("").unwrap(), Limits::DEFAULT);
        for text in ["entries", "entries=-1", "bytes=x", "bytes=-1", "ratio=x", "files=3", "5"] {
            let error = read(text).unwrap_err();
            assert!(matches!(error, SettingsError::ArchiveLimit { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn a_timeout_is_in_seconds() {
        assert_eq!(registry_timeout("90").unwrap(), Duration::from_secs(90));
        assert_eq!(registry_timeout(" 0.5").unwrap(), Duration::from_millis(500));
        for text in ["", "0", "-1", "soon", "nan", "inf", "1e300"] {
            let error = registry_timeout(text).unwrap_err().to_string();
            assert!(error.starts_with("KILN_REGISTRY_TIMEOUT: "), "{error}");
        }
    }

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::read(&Environment::of(pairs), None, false)
    }

    #[test]
    fn the_root_has_a_place_for_everyone() {
        let home = [("HOME", "/home/a")];
        assert_eq!(read(&home).unwrap().root, Path::new("/home/a/.local/share/kiln"));
        let root = Settings::read(&Environment::of(&home), None, true).unwrap().root;
        assert_eq!(root, Path::new("/var/lib/kiln"));
        assert_eq!(
            read(&[("HOME", "/h"), ("XDG_DATA_HOME", "/x")]).unwrap().root,
            Path::new("/x/kiln")
        );
        assert_eq!(read(&[("KILN_ROOT", "/k")]).unwrap().root, Path::new("/k"));
        let here = std::env::current_dir().unwrap();
        assert_eq!(read(&[("KILN_ROOT", "k/root")]).unwrap().root, here.join("k/root"));
        let root = Settings::read(&Environment::of(&[]), Some(Path::new("r")), false).unwrap().root;
        assert_eq!(root, here.join("r"));
        assert!(matches!(read(&[]), Err(SettingsError::NoRoot)));
    }

    #[test]
    fn mirrors_and_insecure_registries_are_lists() {
        let pairs = mirrors("docker.io=m.example.com, docker.io=n.example.com:5000").unwrap();
        assert_eq!(pairs[1], ("docker.io".into(), "n.example.com:5000".into()));
        let error = mirrors("docker.io").unwrap_err().to_string();
        assert!(error.starts_with("KILN_REGISTRY_MIRRORS: "), "{error}");
        assert_eq!(words(" a:1,b ").collect::<Vec<_>>(), ["a:1", "b"]);
    }

    #[test]
    fn wrong_variables_are_named() {
        for (name, value) in
            [("BUILDKIT_PROGRESS", "fancy"), ("DOCKER_DEFAULT_PLATFORM", "a/b/c/d")]
        {
            let error = read(&[("HOME", "/h"), (name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }

    #[test]
    fn credentials_are_not_printed() {
        let settings = read(&[("HOME", "/h"), ("DOCKER_AUTH_CONFIG", "s3cret")]).unwrap();
        assert!(!format!("{settings:?}").contains("s3cret"));
        assert_eq!(settings.docker_config.unwrap(), Path::new("/h/.docker"));
    }
}
