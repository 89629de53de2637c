//! `--cache-from` and `--cache-to`.

use build::{
    BackendSettings, CacheFrom, CacheMode, CacheTarget, CacheTo, LayoutSettings, RegistrySettings,
};
use oci::{Digest, Reference};

use super::bucket::{self, OptionContext};
use super::options::{self, Direction, OptionSet, boolean, given, options, text};
use super::{Fields, FormatOptions, OptionError, fields, service};
use crate::args::disk_size;

/// A kind of cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CacheKind {
    Registry,
    Local,
    Inline,
    Service(ServiceKind),
}

/// A kind of cache that is neither in a registry nor in an image layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServiceKind {
    S3,
    Azure,
    Google,
    Github,
    Redis,
    Http,
    Folder,
}

/// The kinds by their names.
const KINDS: [(&str, CacheKind); 10] = [
    ("registry", CacheKind::Registry),
    ("local", CacheKind::Local),
    ("inline", CacheKind::Inline),
    ("s3", CacheKind::Service(ServiceKind::S3)),
    ("azblob", CacheKind::Service(ServiceKind::Azure)),
    ("gcs", CacheKind::Service(ServiceKind::Google)),
    ("gha", CacheKind::Service(ServiceKind::Github)),
    ("redis", CacheKind::Service(ServiceKind::Redis)),
    ("http", CacheKind::Service(ServiceKind::Http)),
    ("kv-folder", CacheKind::Service(ServiceKind::Folder)),
];

options! {
    /// `type=registry`.
    pub struct RegistryOptions {
        /// Reference that holds the cache.
        reference: Reference = cache_reference("ref"), "localhost:5000/other:cache";
        /// Accepts plain HTTP or an untrusted certificate.
        insecure: bool = boolean("registry.insecure"), "true";
    }
}

options! {
    /// `type=local`.
    pub struct LocalOptions {
        /// Folder that holds the cache.
        source: String = given("src") for Import, "other";
        /// Folder that the cache is written to.
        destination: String = given("dest") for Export, "other";
        /// Tag of the cache in the folder.
        tag: String = text("tag"), "other";
        /// Digest of the cache's manifest, whatever the tag names.
        digest: Digest = digest("digest") for Import,
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        /// Removes blobs that nothing in the folder names.
        reset: bool = boolean("reset") for Export, "true";
    }
}

options! {
    /// Cache mounts beside a cache.
    pub struct MountOptions {
        /// Cache mounts travel with the cache.
        travel: bool = boolean("mounts"), "true";
        /// Size up to which a cache mount travels.
        max_size: u64 = mounts_size("mounts-max-size"), "5mb";
    }
}

options! {
    /// Settings of every export.
    pub struct ExportOptions {
        /// Extent of the cache: min, or max with the layers of all stages.
        mode: CacheMode = mode("mode") for Export, "max";
        /// An export that fails is a warning.
        ignore_error: bool = boolean("ignore-error") for Export, "true";
    }
}

options! {
    /// Settings of exports that have a place of their own.
    pub struct FailureOptions {
        /// Exports the cache of a build that failed too.
        on_failure: bool = boolean("on-failure") for Export, "false";
    }
}

options! {
    /// Settings of exports in the layout of images.
    pub struct ManifestOptions {
        /// Writes an image manifest instead of an index.
        image_manifest: bool = boolean("image-manifest") for Export, "false";
    }
}

/// Settings of exports to services.
pub type ServiceExport = (ExportOptions, FailureOptions);
/// Settings of exports to registries and folders.
pub type LayoutExport = (ServiceExport, FormatOptions, ManifestOptions);

fn cache_reference(_: &str, text: &str) -> Result<Option<Reference>, OptionError> {
    if text.is_empty() { Ok(None) } else { Ok(Some(text.parse()?)) }
}

fn digest(_: &str, text: &str) -> Result<Option<Digest>, OptionError> {
    if text.is_empty() { Ok(None) } else { Ok(Some(text.parse()?)) }
}

fn mounts_size(key: &str, text: &str) -> Result<Option<u64>, OptionError> {
    if text.is_empty() {
        return Ok(None);
    }
    let size = disk_size(text);
    size.map(Some).map_err(|_| OptionError::invalid(key, text, "a size, as 10gb"))
}

fn mode(key: &str, text: &str) -> Result<Option<CacheMode>, OptionError> {
    match text {
        "" | "min" => Ok(Some(CacheMode::Min)),
        "max" => Ok(Some(CacheMode::Max)),
        // BuildKit silently takes any other word for `min`.
        other => Err(OptionError::invalid(key, other, "min or max")),
    }
}

/// A value: references alone, or fields with a type.
enum Value {
    References(Vec<Reference>),
    Typed(TypedValue),
}

/// The fields of a kind of cache.
struct TypedValue {
    kind: CacheKind,
    /// The kind for messages: `type=registry`.
    of: String,
    fields: Fields,
}

impl TypedValue {
    /// The fields of a kind that is given by its name.
    ///
    /// # Errors
    /// If there is no such kind.
    fn of(name: &str, fields: Fields) -> Result<Self, OptionError> {
        let Some((_, kind)) = KINDS.iter().find(|(known, _)| *known == name) else {
            let names = KINDS.map(|(name, _)| name).join(", ");
            return Err(OptionError::invalid("type", name, format!("one of {names}")));
        };
        Ok(Self { kind: *kind, of: format!("type={name}"), fields })
    }

    fn read<O: OptionSet>(self, direction: Direction) -> Result<O, OptionError> {
        options::read(&self.of, self.fields, direction)
    }

    /// Drops the export settings of every kind: buildx passes one value to both directions, and
    /// BuildKit's imports ignore them.
    fn without_export_settings(mut self) -> Self {
        for key in LayoutExport::keys() {
            for name in key.names {
                self.fields.take(name);
            }
        }
        self
    }

    /// The missing option of GitHub's cache, outside of GitHub.
    fn outside_github(&self, around: OptionContext<'_>) -> Option<OptionError> {
        if self.kind != CacheKind::Service(ServiceKind::Github) {
            return None;
        }
        // A cache that is left out is not read any further, so its other options may be wrong.
        service::outside_github(&options::readable(self.fields.clone()), around)
    }
}

fn value(text: &str) -> Result<Value, OptionError> {
    let parts = fields(text)?;
    if parts.iter().all(|part| !part.contains('=')) {
        let references = parts.iter().map(|part| match part.trim() {
            "" => Err(OptionError::Unusable("it is empty".into())),
            part => Ok(part.parse()?),
        });
        return Ok(Value::References(references.collect::<Result<_, _>>()?));
    }
    typed(Fields::of(&parts)?)
}

/// A value given by its fields, one of which is its type.
///
/// # Errors
/// If there is no type, or an unknown one.
fn typed(mut fields: Fields) -> Result<Value, OptionError> {
    let hint = ", as in `type=registry,ref=host/app:cache`";
    let missing = || OptionError::missing("a cache", "type", hint);
    let name = fields.take("type").ok_or_else(missing)?;
    TypedValue::of(&name, fields).map(Value::Typed)
}

fn registry(reference: Reference, insecure: bool) -> BackendSettings {
    BackendSettings::Registry(RegistrySettings { reference, insecure })
}

/// The caches that a value of a flag names.
pub struct FlagCaches<C> {
    /// The caches.
    pub caches: Vec<C>,
    /// The option for which GitHub's cache is left out, outside of GitHub. buildx drops such a value
    /// silently, since the job's author cannot change it.
    pub left_out: Option<OptionError>,
    /// A note on an option without effect.
    pub note: Option<String>,
}

impl<C> FlagCaches<C> {
    fn read(
        value: Value,
        around: OptionContext<'_>,
        read: impl FnOnce(Value, OptionContext<'_>) -> Result<Vec<C>, OptionError>,
    ) -> Result<Self, OptionError> {
        let left_out = match &value {
            Value::Typed(value) => value.outside_github(around),
            Value::References(_) => None,
        };
        let caches = if left_out.is_none() { read(value, around)? } else { Vec::new() };
        Ok(Self { caches, left_out, note: None })
    }

    /// The notes for the user of a flag.
    pub fn notes(&self, flag: &str) -> impl Iterator<Item = String> {
        let left_out = self.left_out.iter();
        let left_out = left_out.map(move |reason| format!("`{flag}` is left out: {reason}"));
        self.note.iter().cloned().chain(left_out)
    }
}

/// Reads a value of `--cache-from`; several references in one value are several caches.
///
/// # Errors
/// If an option is unknown, missing, wrong or not supported.
pub fn imports(
    text: &str,
    around: OptionContext<'_>,
) -> Result<FlagCaches<CacheFrom>, OptionError> {
    FlagCaches::read(value(text)?, around, Value::imports)
}

/// Reads a cache by its fields, one of which is its type.
///
/// # Errors
/// The errors of [`imports`].
pub fn import_of(
    fields: Fields,
    around: OptionContext<'_>,
) -> Result<FlagCaches<CacheFrom>, OptionError> {
    FlagCaches::read(typed(fields)?, around, Value::imports)
}

/// Reads a cache by its type and its other fields.
///
/// # Errors
/// The errors of [`imports`].
pub fn import_of_type(
    kind: &str,
    fields: Fields,
    around: OptionContext<'_>,
) -> Result<FlagCaches<CacheFrom>, OptionError> {
    FlagCaches::read(Value::Typed(TypedValue::of(kind, fields)?), around, Value::imports)
}

/// Reads a value of `--cache-from`. GitHub's cache is an error outside of GitHub.
///
/// # Errors
/// The errors of [`imports`].
pub fn cache_from(text: &str, around: OptionContext<'_>) -> Result<Vec<CacheFrom>, OptionError> {
    value(text)?.imports(around)
}

impl Value {
    fn imports(self, around: OptionContext<'_>) -> Result<Vec<CacheFrom>, OptionError> {
        match self {
            Self::References(references) => {
                let cache = |reference| CacheFrom::new(registry(reference, false));
                Ok(references.into_iter().map(cache).collect())
            }
            Self::Typed(value) => Ok(vec![import(value, around)?]),
        }
    }

    fn exports(self, around: OptionContext<'_>) -> Result<Vec<CacheTo>, OptionError> {
        match self {
            Self::References(references) => {
                let cache = |reference| {
                    let target = CacheTarget::Backend(registry(reference, false));
                    in_layout(target, LayoutExport::default(), MountOptions::default())
                };
                references.into_iter().map(cache).collect()
            }
            Self::Typed(value) => Ok(vec![export(value, around)?]),
        }
    }
}

fn import(value: TypedValue, around: OptionContext<'_>) -> Result<CacheFrom, OptionError> {
    let value = value.without_export_settings();
    match value.kind {
        CacheKind::Registry => {
            let (own, mounts): (RegistryOptions, MountOptions) = value.read(Direction::Import)?;
            let reference = own.reference.ok_or_else(no_reference)?;
            let backend = registry(reference, own.insecure.unwrap_or(false));
            Ok(CacheFrom { backend, mounts: mounts.limit()? })
        }
        CacheKind::Local => {
            let (local, mounts): (LocalOptions, MountOptions) = value.read(Direction::Import)?;
            let missing = || OptionError::missing("type=local", "src", ", a folder");
            let settings = LayoutSettings {
                folder: around.directory.join(local.source.ok_or_else(missing)?),
                tag: local.tag.unwrap_or_else(|| "latest".into()),
                digest: local.digest,
            };
            Ok(CacheFrom { backend: BackendSettings::Layout(settings), mounts: mounts.limit()? })
        }
        CacheKind::Inline => Err(OptionError::refused(
            "type=inline",
            "a cache inside an image is read with `type=registry,ref=…`, or with the image's name \
             alone",
        )),
        CacheKind::Service(kind) => {
            let (settings, _) = kind.read(value, around, Direction::Import)?;
            Ok(CacheFrom::new(settings))
        }
    }
}

impl ServiceKind {
    /// Reads a value: the service's settings, and those of the export.
    fn read(
        self,
        value: TypedValue,
        around: OptionContext<'_>,
        direction: Direction,
    ) -> Result<(BackendSettings, ServiceExport), OptionError> {
        fn with<O: OptionSet>(
            value: TypedValue,
            direction: Direction,
            settings: impl FnOnce(O) -> Result<BackendSettings, OptionError>,
        ) -> Result<(BackendSettings, ServiceExport), OptionError> {
            let (options, export): (O, ServiceExport) = value.read(direction)?;
            Ok((settings(options)?, export))
        }
        match self {
            Self::S3 => with(value, direction, |options| {
                bucket::s3(options, around).map(BackendSettings::Bucket)
            }),
            Self::Azure => with(value, direction, |options| {
                bucket::azure(options, around).map(BackendSettings::Bucket)
            }),
            Self::Google => with(value, direction, |options| {
                bucket::google(options, around).map(BackendSettings::Bucket)
            }),
            Self::Github => with(value, direction, |options| {
                service::github(options, around).map(BackendSettings::Github)
            }),
            Self::Redis => with(value, direction, |options| {
                service::redis(options, around).map(BackendSettings::Map)
            }),
            Self::Http => with(value, direction, |options| {
                service::http(options, around).map(BackendSettings::Map)
            }),
            Self::Folder => with(value, direction, |options| {
                service::folder(options, around).map(BackendSettings::Map)
            }),
        }
    }
}

/// The default size, in bytes, above which a cache mount does not travel.
const MOUNTS_MAX_SIZE: u64 = 1_000_000_000;

impl MountOptions {
    /// The size up to which cache mounts travel; none if they do not.
    fn limit(self) -> Result<Option<u64>, OptionError> {
        match (self.travel.unwrap_or(false), self.max_size) {
            (true, size) => Ok(Some(size.unwrap_or(MOUNTS_MAX_SIZE))),
            (false, None) => Ok(None),
            (false, Some(_)) => {
                let (option, other) = ("mounts-max-size", "mounts=true");
                Err(OptionError::Requires { option, other })
            }
        }
    }
}

/// Reads a value of `--cache-to`; several references in one value are several caches.
///
/// # Errors
/// If an option is unknown, missing, wrong or not supported.
pub fn exports(text: &str, around: OptionContext<'_>) -> Result<FlagCaches<CacheTo>, OptionError> {
    let note = inline_note(&fields(text)?);
    Ok(FlagCaches { note, ..FlagCaches::read(value(text)?, around, Value::exports)? })
}

/// Reads a cache to write by its fields, one of which is its type.
///
/// # Errors
/// The errors of [`exports`].
pub fn export_of(
    fields: Fields,
    around: OptionContext<'_>,
) -> Result<FlagCaches<CacheTo>, OptionError> {
    let note = inline_note(&fields.parts());
    Ok(FlagCaches { note, ..FlagCaches::read(typed(fields)?, around, Value::exports)? })
}

/// Reads a value of `--cache-to`. GitHub's cache is an error outside of GitHub.
///
/// # Errors
/// The errors of [`exports`].
pub fn cache_to(text: &str, around: OptionContext<'_>) -> Result<Vec<CacheTo>, OptionError> {
    value(text)?.exports(around)
}

fn export(value: TypedValue, around: OptionContext<'_>) -> Result<CacheTo, OptionError> {
    match value.kind {
        CacheKind::Registry => {
            let (own, export, mounts): (RegistryOptions, LayoutExport, MountOptions) =
                value.read(Direction::Export)?;
            let reference = own.reference.ok_or_else(no_reference)?;
            if reference.digest().is_some() {
                return Err(OptionError::refused(
                    format!("ref={reference}"),
                    "a cache is written under a tag, not a digest",
                ));
            }
            let backend = registry(reference, own.insecure.unwrap_or(false));
            in_layout(CacheTarget::Backend(backend), export, mounts)
        }
        CacheKind::Local => {
            let (local, export, mounts): (LocalOptions, LayoutExport, MountOptions) =
                value.read(Direction::Export)?;
            let missing = || OptionError::missing("type=local", "dest", ", a folder");
            let settings = LayoutSettings {
                folder: around.directory.join(local.destination.ok_or_else(missing)?),
                tag: local.tag.unwrap_or_else(|| "latest".into()),
                digest: None,
            };
            let target = CacheTarget::Backend(BackendSettings::Layout(settings));
            let reset = local.reset.unwrap_or(false);
            Ok(CacheTo { reset, ..in_layout(target, export, mounts)? })
        }
        CacheKind::Inline => inline(value.read(Direction::Export)?),
        CacheKind::Service(kind) => {
            let (settings, export) = kind.read(value, around, Direction::Export)?;
            // Services have no options for the format of layers: BuildKit writes gzip there.
            let export = (export, FormatOptions::default(), ManifestOptions::default());
            in_layout(CacheTarget::Backend(settings), export, MountOptions::default())
        }
    }
}

fn no_reference() -> OptionError {
    OptionError::missing("type=registry", "ref", ", as in `ref=host/app:cache`")
}

fn in_layout(
    target: CacheTarget,
    ((export, failure), format, manifest): LayoutExport,
    mounts: MountOptions,
) -> Result<CacheTo, OptionError> {
    let format = format.format(true)?;
    // An image manifest has OCI's media types, so without them an index is the default.
    let image_manifest = manifest.image_manifest.unwrap_or(format.oci_mediatypes);
    if image_manifest && !format.oci_mediatypes {
        let (option, other) = ("image-manifest=true", "oci-mediatypes=true");
        return Err(OptionError::Requires { option, other });
    }
    Ok(CacheTo {
        target,
        mode: export.mode.unwrap_or_default(),
        ignore_error: export.ignore_error.unwrap_or(false),
        on_failure: failure.on_failure.unwrap_or(true),
        image_manifest,
        format,
        mounts: mounts.limit()?,
        reset: false,
    })
}

/// `type=inline`. Pipelines ask for `mode=max`, which BuildKit takes: an inline cache has the layers
/// of its image and no others, and [`inline_note`] says so.
fn inline(export: ExportOptions) -> Result<CacheTo, OptionError> {
    let export = ExportOptions { mode: None, ..export };
    let failure = FailureOptions::default();
    let export = ((export, failure), FormatOptions::default(), ManifestOptions::default());
    in_layout(CacheTarget::Inline, export, MountOptions::default())
}

/// `type=inline` as the build argument `BUILDKIT_INLINE_CACHE` asks for it.
pub fn inline_cache() -> CacheTo {
    inline(ExportOptions::default()).expect("no option is wrong where there is none")
}

/// Adds the inline cache that the build argument `BUILDKIT_INLINE_CACHE` asks for, as buildx does.
pub fn with_inline(mut caches: Vec<CacheTo>, arguments: &[(String, String)]) -> Vec<CacheTo> {
    let asked = arguments.iter().rev().find(|(name, _)| name == "BUILDKIT_INLINE_CACHE");
    let asked = asked.is_some_and(|(_, value)| super::boolean(value) == Some(true));
    if asked && !caches.iter().any(|cache| cache.target == CacheTarget::Inline) {
        caches.push(inline_cache());
    }
    caches
}

/// The note on an inline cache of which more is asked than there is in one. `parts` are the fields.
fn inline_note(parts: &[String]) -> Option<String> {
    let asks = |wanted: &str| parts.iter().any(|part| part == wanted);
    (asks("type=inline") && asks("mode=max")).then(|| {
        format!(
            "`--cache-to {}`: an inline cache has the layers of its image and no others, \
             whatever the mode: add `type=registry,ref=…,mode=max` for more",
            parts.join(",")
        )
    })
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
