//! `--cache-from` and `--cache-to`.

use build::{
    BackendSettings, CacheFrom, CacheMode, CacheTarget, CacheTo, LayoutSettings, RegistrySettings,
};
use oci::{Digest, Reference};

use super::bucket::{self, Surroundings};
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

    fn outside_github(self, around: Surroundings<'_>) -> Option<OptionError> {
        if self.kind != CacheKind::Service(ServiceKind::Github) {
            return None;
        }
        // A cache that is left out is not read any further, so its other options may be wrong.
        service::outside_github(&options::readable(self.fields), around)
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
    let mut fields = Fields::of(&parts)?;
    let name = take_type(&mut fields)?;
    TypedValue::of(&name, fields).map(Value::Typed)
}

/// Takes the type of a cache out of its fields.
///
/// # Errors
/// If there is none.
pub fn take_type(fields: &mut Fields) -> Result<String, OptionError> {
    let hint = ", as in `type=registry,ref=host/app:cache`";
    fields.take("type").ok_or_else(|| OptionError::missing("a cache", "type", hint))
}

fn registry(reference: Reference, insecure: bool) -> BackendSettings {
    BackendSettings::Registry(RegistrySettings { reference, insecure })
}

/// Reads a value of `--cache-from`; several references in one value are several caches.
///
/// # Errors
/// If an option is unknown, missing, wrong or not supported.
pub fn cache_from(text: &str, around: Surroundings<'_>) -> Result<Vec<CacheFrom>, OptionError> {
    match value(text)? {
        Value::References(references) => {
            let cache = |reference| CacheFrom::new(registry(reference, false));
            Ok(references.into_iter().map(cache).collect())
        }
        Value::Typed(value) => Ok(vec![import(value, around)?]),
    }
}

/// Reads a cache of a type.
///
/// # Errors
/// If an option is wrong, or the type is unknown.
pub fn typed_cache_from(
    kind: &str,
    fields: Fields,
    around: Surroundings<'_>,
) -> Result<CacheFrom, OptionError> {
    import(TypedValue::of(kind, fields)?, around)
}

fn import(value: TypedValue, around: Surroundings<'_>) -> Result<CacheFrom, OptionError> {
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
        around: Surroundings<'_>,
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

/// Returns the missing option of a `--cache-from` or `--cache-to` value that names GitHub's cache
/// outside of GitHub. buildx silently drops such a value, since the job's author cannot change it.
pub fn out_of_place(text: &str, around: Surroundings<'_>) -> Option<OptionError> {
    match value(text) {
        Ok(Value::Typed(value)) => value.outside_github(around),
        _ => None,
    }
}

/// Returns the missing option of a typed cache that is GitHub's, outside of GitHub.
pub fn outside_github(kind: &str, fields: Fields, around: Surroundings<'_>) -> Option<OptionError> {
    TypedValue::of(kind, fields).ok()?.outside_github(around)
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

/// Reads a value of `--cache-to`.
///
/// # Errors
/// If an option is unknown, missing, wrong or not supported.
pub fn cache_to(text: &str, around: Surroundings<'_>) -> Result<Vec<CacheTo>, OptionError> {
    match value(text)? {
        Value::References(references) => {
            let cache = |reference| {
                let target = CacheTarget::Backend(registry(reference, false));
                in_layout(target, LayoutExport::default(), MountOptions::default())
            };
            references.into_iter().map(cache).collect()
        }
        Value::Typed(value) => Ok(vec![export(value, around)?]),
    }
}

/// Reads a cache of a type to write.
///
/// # Errors
/// If an option is wrong, or the type is unknown.
pub fn typed_cache_to(
    kind: &str,
    fields: Fields,
    around: Surroundings<'_>,
) -> Result<CacheTo, OptionError> {
    export(TypedValue::of(kind, fields)?, around)
}

fn export(value: TypedValue, around: Surroundings<'_>) -> Result<CacheTo, OptionError> {
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

/// The note on an inline cache of which more is asked than there is in one. `parts` are the fields.
pub fn inline_note(parts: &[String]) -> Option<String> {
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
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::Environment;

    fn with<T>(read: impl FnOnce(Surroundings<'_>) -> T) -> T {
        let environment = Environment::of(&[]);
        read(Surroundings { directory: Path::new("/w"), environment: &environment })
    }

    fn from(text: &str) -> Result<Vec<CacheFrom>, OptionError> {
        with(|around| cache_from(text, around))
    }

    fn to(text: &str) -> Result<Vec<CacheTo>, OptionError> {
        with(|around| cache_to(text, around))
    }

    #[test]
    fn a_bare_reference_is_a_registry() {
        let caches = from("host/a:cache,host/b").unwrap();
        assert_eq!(caches.len(), 2);
        assert!(matches!(&caches[0], CacheFrom {
                backend: BackendSettings::Registry(RegistrySettings { reference, insecure: false }),
                mounts: None,
            } if reference.to_string() == "host/a:cache" || reference.to_string() == "docker.io/host/a:cache"));
        assert!(
            matches!(&to("localhost/a").unwrap()[..], [cache] if cache.image_manifest && cache.mode == CacheMode::Min)
        );
    }

    #[test]
    fn all_options_are_read() {
        let caches = to("type=registry,ref=localhost:5000/a:c,mode=max,image-manifest=false,oci-mediatypes=true,\
            compression=zstd,compression-level=22,force-compression=1,registry.insecure=true,ignore-error=true")
        .unwrap();
        let [cache] = &caches[..] else { panic!("one") };
        assert!(matches!(
            &cache.target,
            CacheTarget::Backend(BackendSettings::Registry(settings)) if settings.insecure
        ));
        assert!(cache.mode == CacheMode::Max && cache.ignore_error && !cache.image_manifest);
        assert!(cache.on_failure && !to("localhost/a").unwrap().is_empty());
        assert!(!to("type=local,dest=c,on-failure=false").unwrap()[0].on_failure);
        let reset = to("type=local,dest=c,reset=true").unwrap();
        assert!(reset[0].reset);
        assert!(!to("type=local,dest=c,oci-mediatypes=false").unwrap()[0].image_manifest);
        let caches = from("type=local,src=c,tag=x").unwrap();
        assert_eq!(
            caches,
            [CacheFrom::new(BackendSettings::Layout(LayoutSettings {
                folder: "/w/c".into(),
                tag: "x".into(),
                digest: None,
            }))]
        );
    }

    #[test]
    fn cache_mounts_travel_where_it_is_asked_for() {
        let left = |text: &str| to(text).map(|caches| caches[0].mounts);
        assert_eq!(left("type=local,dest=a").unwrap(), None);
        assert_eq!(left("type=local,dest=a,mounts=true").unwrap(), Some(1_000_000_000));
        assert_eq!(
            left("type=registry,ref=a,mounts=1,mounts-max-size=5mb").unwrap(),
            Some(5 << 20)
        );
        let error = left("type=local,dest=a,mounts-max-size=5mb").unwrap_err().to_string();
        assert!(error.contains("needs `mounts=true`"), "{error}");
        assert!(left("type=local,dest=a,mounts=true,mounts-max-size=much").is_err());
        assert!(to("type=inline,mounts=true").is_err());
        assert!(to("type=inline,mode=max").is_ok());
        let note = |text: &str| inline_note(&fields(text).unwrap());
        let more = note("type=inline,mode=max").unwrap();
        assert!(more.starts_with("`--cache-to type=inline,mode=max`: "), "{more}");
        assert!(note("type=inline").is_none() && note("type=local,dest=a,mode=max").is_none());
        let brought = |text: &str| from(text).unwrap()[0].mounts;
        for text in
            ["type=registry,ref=a", "type=local,src=a", "a", "type=registry,ref=a,mounts=false"]
        {
            assert_eq!(brought(text), None, "{text}");
        }
        assert_eq!(brought("type=local,src=a,mounts=true"), Some(1_000_000_000));
        assert_eq!(brought("type=registry,ref=a,mounts=true,mounts-max-size=5mb"), Some(5 << 20));
    }

    #[test]
    fn one_text_serves_both_directions() {
        let read =
            from("type=registry,ref=a,mode=max,compression=zstd,image-manifest=true").unwrap();
        assert_eq!(read, from("type=registry,ref=a").unwrap());
        assert!(from("type=local,src=a,mode=max,ignore-error=true").is_ok());
    }

    #[test]
    fn githubs_cache_is_left_out_elsewhere() {
        let with = |pairs: &[(&str, &str)], text: &str| {
            let environment = Environment::of(pairs);
            let directory = std::path::Path::new("/w");
            out_of_place(text, Surroundings { directory, environment: &environment })
        };
        let runner =
            [("ACTIONS_RUNTIME_TOKEN", "t"), ("ACTIONS_CACHE_URL", "https://cache.example.com/")];
        let error = with(&[], "type=gha,scope=main").unwrap().to_string();
        assert!(error.contains("ACTIONS_RESULTS_URL"), "{error}");
        let error = with(&runner[1..], "type=gha").unwrap().to_string();
        assert!(error.contains("ACTIONS_RUNTIME_TOKEN"), "{error}");
        assert!(with(&runner, "type=gha").is_none());
        assert!(with(&[], "type=gha,token=t,url=https://cache.example.com/").is_none());
        assert!(with(&[], "type=gha,colour=red,version=3").is_some());
        assert!(with(&[], "type=s3,bucket=b").is_none());
    }

    #[test]
    fn wrong_options_are_named() {
        for (text, word) in [
            ("type=gha", "needs `url`"),
            ("type=inline", "`type=inline`: a cache inside an image"),
            ("type=tape", "one of registry, local, inline"),
            ("type=registry", "`ref`"),
            ("ref=x", "needs `type`"),
            ("type=local", "needs `src`"),
            ("type=local,src=a,digest=x", "digest"),
            ("type=registry,ref=a,dest=b", "`dest` is not an option"),
            ("", "empty"),
        ] {
            let error = from(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
        for (text, word) in [
            ("type=inline,mode=most", "expected min or max"),
            ("type=inline,ref=x", "`ref` is not an option of type=inline"),
            ("type=registry,ref=a,mode=some", "expected min or max"),
            (
                "type=registry,ref=a,image-manifest=true,oci-mediatypes=false",
                "needs `oci-mediatypes",
            ),
            (
                "type=local,dest=a,registry.insecure=true",
                "`registry.insecure` is not an option of type=local",
            ),
        ] {
            let error = to(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
