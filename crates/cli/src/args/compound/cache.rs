//! `--cache-from` and `--cache-to`.

use build::{
    BackendSettings, CacheFrom, CacheMode, CacheTarget, CacheTo, LayoutSettings, RegistrySettings,
};
use oci::Reference;

use super::bucket::{self, Surroundings};
use super::{Fields, OptionError, fields, image_format, service};
use crate::args::disk_size;

/// The kinds of cache that there are.
const KINDS: &str = "registry, local, inline, s3, azblob, gcs, gha, redis, http, kv-folder";

/// A value: references alone, or fields with a type.
enum Value {
    References(Vec<Reference>),
    Typed(String, Fields),
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
    match fields.take("type") {
        Some(kind) => Ok(Value::Typed(kind, fields)),
        None => Err(OptionError::Missing {
            of: "a cache".into(),
            key: "type",
            hint: ", as in `type=registry,ref=host/app:cache`",
        }),
    }
}

fn registry(reference: Reference, insecure: bool) -> BackendSettings {
    BackendSettings::Registry(RegistrySettings { reference, insecure })
}

fn take_reference(fields: &mut Fields) -> Result<Reference, OptionError> {
    match fields.take("ref") {
        Some(text) if !text.is_empty() => Ok(text.parse()?),
        _ => Err(OptionError::Missing {
            of: "type=registry".into(),
            key: "ref",
            hint: ", as in `ref=host/app:cache`",
        }),
    }
}

fn unknown_type(kind: &str) -> OptionError {
    OptionError::invalid("type", kind, format!("one of {KINDS}"))
}

/// Reads a value of `--cache-from`; several references in one value are several caches.
///
/// # Errors
/// A sentence that names what is wrong or not there yet.
pub fn cache_from(text: &str, around: Surroundings<'_>) -> Result<Vec<CacheFrom>, OptionError> {
    match value(text)? {
        Value::References(references) => {
            let cache = |reference| CacheFrom::new(registry(reference, false));
            Ok(references.into_iter().map(cache).collect())
        }
        Value::Typed(kind, mut fields) => typed_cache_from(&kind, &mut fields, around),
    }
}

/// Reads a cache of a type.
///
/// # Errors
/// If an option is wrong, or the type is unknown.
pub fn typed_cache_from(
    kind: &str,
    fields: &mut Fields,
    around: Surroundings<'_>,
) -> Result<Vec<CacheFrom>, OptionError> {
    // buildx passes the options of both directions to both, and BuildKit looks at its own.
    for option in EXPORT_ALONE {
        fields.take(option);
    }
    let cache = match kind {
        "registry" => {
            let reference = take_reference(fields)?;
            let insecure = fields.take_boolean("registry.insecure", false)?;
            let mounts = mounts(fields)?;
            fields.nothing_left(
                "type=registry",
                &["ref", "registry.insecure", "mounts", "mounts-max-size"],
            )?;
            CacheFrom { backend: registry(reference, insecure), mounts }
        }
        "local" => {
            let source = fields.take("src").filter(|path| !path.is_empty());
            let source = source.ok_or_else(|| OptionError::Missing {
                of: "type=local".into(),
                key: "src",
                hint: ", a folder",
            })?;
            let digest = fields.take("digest").filter(|digest| !digest.is_empty());
            let digest = digest.map(|text| text.parse::<oci::Digest>());
            let tag = fields.take("tag").unwrap_or_else(|| "latest".into());
            let mounts = mounts(fields)?;
            fields.nothing_left(
                "type=local",
                &["src", "tag", "digest", "mounts", "mounts-max-size"],
            )?;
            let folder = around.directory.join(source);
            let settings = LayoutSettings { folder, tag, digest: digest.transpose()? };
            CacheFrom { backend: BackendSettings::Layout(settings), mounts }
        }
        "s3" | "azblob" | "gcs" => {
            let settings = bucket::bucket(kind, fields, around)?;
            bucket::nothing_left(kind, fields)?;
            CacheFrom::new(BackendSettings::Bucket(settings))
        }
        "gha" | "redis" | "http" | "kv-folder" => {
            let settings = service::service(kind, fields, around)?;
            service::nothing_left(kind, fields)?;
            CacheFrom::new(settings)
        }
        "inline" => {
            return Err(OptionError::refused(
                "type=inline",
                "a cache inside an image is read with `type=registry,ref=…`, or with the image's \
                 name alone",
            ));
        }
        kind => return Err(unknown_type(kind)),
    };
    Ok(vec![cache])
}

/// What only whoever writes a cache looks at.
const EXPORT_ALONE: [&str; 8] = [
    "mode",
    "image-manifest",
    "oci-mediatypes",
    "compression",
    "compression-level",
    "force-compression",
    "ignore-error",
    "on-failure",
];

/// Why a value of `--cache-from` or `--cache-to` means nothing here, where that is no fault of whoever
/// gave it: GitHub's cache outside of GitHub. buildx leaves it out too, without a word.
pub fn out_of_place(text: &str, around: Surroundings<'_>) -> Option<OptionError> {
    match value(text) {
        Ok(Value::Typed(kind, mut fields)) => outside_github(&kind, &mut fields, around),
        _ => None,
    }
}

/// The reason to leave out a cache of GitHub's outside of GitHub.
pub fn outside_github(
    kind: &str,
    fields: &mut Fields,
    around: Surroundings<'_>,
) -> Option<OptionError> {
    (kind == "gha").then(|| service::outside_github(fields, around)).flatten()
}

const TO_REGISTRY: [&str; 12] = [
    "ref",
    "mode",
    "image-manifest",
    "oci-mediatypes",
    "compression",
    "compression-level",
    "force-compression",
    "registry.insecure",
    "ignore-error",
    "on-failure",
    "mounts",
    "mounts-max-size",
];

/// Cache mounts whose files are larger do not travel unless it is asked for, in bytes.
const MOUNTS_MAX_SIZE: u64 = 1_000_000_000;

/// Reads a value of `--cache-to`.
///
/// # Errors
/// A sentence that names what is wrong or not there yet.
pub fn cache_to(text: &str, around: Surroundings<'_>) -> Result<Vec<CacheTo>, OptionError> {
    let (kind, mut fields) = match value(text)? {
        Value::References(references) => {
            let caches = references.into_iter().map(|reference| {
                let target = CacheTarget::Backend(registry(reference, false));
                options(target, &mut Fields::of(&[])?)
            });
            return caches.collect();
        }
        Value::Typed(kind, fields) => (kind, fields),
    };
    let mut reset = false;
    let target = match kind.as_str() {
        "registry" => {
            let reference = take_reference(&mut fields)?;
            if reference.digest().is_some() {
                return Err(OptionError::refused(
                    format!("ref={reference}"),
                    "a cache is written under a tag, not a digest",
                ));
            }
            let insecure = fields.take_boolean("registry.insecure", false)?;
            CacheTarget::Backend(registry(reference, insecure))
        }
        "local" => {
            let destination = fields.take("dest").filter(|path| !path.is_empty());
            let destination = destination.ok_or_else(|| OptionError::Missing {
                of: "type=local".into(),
                key: "dest",
                hint: ", a folder",
            })?;
            let tag = fields.take("tag").unwrap_or_else(|| "latest".into());
            reset = fields.take_boolean("reset", false)?;
            let folder = around.directory.join(destination);
            CacheTarget::Backend(BackendSettings::Layout(LayoutSettings {
                folder,
                tag,
                digest: None,
            }))
        }
        "s3" | "azblob" | "gcs" => {
            let settings = bucket::bucket(&kind, &mut fields, around)?;
            CacheTarget::Backend(BackendSettings::Bucket(settings))
        }
        "gha" | "redis" | "http" | "kv-folder" => {
            CacheTarget::Backend(service::service(&kind, &mut fields, around)?)
        }
        "inline" => return inline(&mut fields).map(|cache| vec![cache]),
        kind => return Err(unknown_type(kind)),
    };
    if !matches!(kind.as_str(), "registry" | "local") {
        let cache = without_format(target, &mut fields)?;
        match kind.as_str() {
            "s3" | "azblob" | "gcs" => bucket::nothing_left(&kind, &fields)?,
            kind => service::nothing_left(kind, &fields)?,
        }
        return Ok(vec![cache]);
    }
    let cache = CacheTo { reset, ..options(target, &mut fields)? };
    match kind.as_str() {
        "local" => {
            let known: Vec<&str> = ["dest", "tag", "reset"]
                .into_iter()
                .chain(
                    TO_REGISTRY
                        .into_iter()
                        .filter(|key| !matches!(*key, "ref" | "registry.insecure")),
                )
                .collect();
            fields.nothing_left("type=local", &known)?;
        }
        _ => fields.nothing_left("type=registry", &TO_REGISTRY)?,
    }
    Ok(vec![cache])
}

/// A place that has no say in how layers are written: BuildKit writes gzip there.
fn without_format(target: CacheTarget, fields: &mut Fields) -> Result<CacheTo, OptionError> {
    let mode = mode(fields)?;
    let ignore_error = fields.take_boolean("ignore-error", false)?;
    let on_failure = fields.take_boolean("on-failure", true)?;
    let other = options(target, &mut Fields::default())?;
    Ok(CacheTo { mode, ignore_error, on_failure, ..other })
}

fn mode(fields: &mut Fields) -> Result<CacheMode, OptionError> {
    match fields.take("mode").as_deref() {
        None | Some("" | "min") => Ok(CacheMode::Min),
        Some("max") => Ok(CacheMode::Max),
        // BuildKit takes any other word for `min` without saying so.
        Some(other) => Err(OptionError::invalid("mode", other, "min or max")),
    }
}

fn inline(fields: &mut Fields) -> Result<CacheTo, OptionError> {
    // What asks for more gets as much, which `notes` says: pipelines have it, since BuildKit takes it.
    mode(fields)?;
    let cache = options(CacheTarget::Inline, &mut Fields::of(&[])?)?;
    let ignore_error = fields.take_boolean("ignore-error", false)?;
    fields.nothing_left("type=inline", &["mode", "ignore-error"])?;
    Ok(CacheTo { ignore_error, ..cache })
}

/// What changes nothing in values of `--cache-to`.
pub fn notes(texts: &[String]) -> Vec<String> {
    let asks_for_more = |text: &&String| {
        let parts = super::fields(text).unwrap_or_default();
        ["type=inline", "mode=max"].iter().all(|wanted| parts.iter().any(|part| part == wanted))
    };
    let note = |text: &String| {
        format!(
            "`--cache-to {text}`: an inline cache has the layers of its image and no others, \
             whatever the mode: add `type=registry,ref=…,mode=max` for more"
        )
    };
    texts.iter().filter(asks_for_more).map(note).collect()
}

/// `type=inline` as the build argument `BUILDKIT_INLINE_CACHE` asks for it.
pub fn inline_cache() -> CacheTo {
    inline(&mut Fields::default()).expect("no field is wrong where there is none")
}

fn options(target: CacheTarget, fields: &mut Fields) -> Result<CacheTo, OptionError> {
    let format = image_format(fields, true)?;
    let mode = mode(fields)?;
    // An image manifest has OCI's media types, so without them an index is the default.
    let image_manifest = fields.take_boolean("image-manifest", format.oci_mediatypes)?;
    if image_manifest && !format.oci_mediatypes {
        let (option, other) = ("image-manifest=true", "oci-mediatypes=true");
        return Err(OptionError::Requires { option, other });
    }
    let ignore_error = fields.take_boolean("ignore-error", false)?;
    let on_failure = fields.take_boolean("on-failure", true)?;
    let mounts = mounts(fields)?;
    Ok(CacheTo {
        target,
        mode,
        ignore_error,
        on_failure,
        image_manifest,
        format,
        mounts,
        reset: false,
    })
}

/// Up to which size cache mounts are left beside a cache, or come from there; none where they do not
/// travel.
fn mounts(fields: &mut Fields) -> Result<Option<u64>, OptionError> {
    let travel = fields.take_boolean("mounts", false)?;
    let size = fields.take("mounts-max-size").filter(|text| !text.is_empty());
    let size = match size {
        Some(text) if travel => {
            let size = disk_size(&text);
            size.map_err(|_| OptionError::invalid("mounts-max-size", text, "a size, as 10gb"))?
        }
        Some(_) => {
            let (option, other) = ("mounts-max-size", "mounts=true");
            return Err(OptionError::Requires { option, other });
        }
        None => MOUNTS_MAX_SIZE,
    };
    Ok(travel.then_some(size))
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
        let texts = ["type=inline,mode=max", "type=inline", "type=local,dest=a,mode=max"];
        let notes = notes(&texts.map(str::to_owned));
        assert!(notes.len() == 1 && notes[0].contains("whatever the mode"), "{notes:?}");
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
