//! Values of `--cache-from` and `--cache-to`.

use std::path::Path;

use super::*;
use crate::settings::Environment;

fn with<T>(read: impl FnOnce(OptionContext<'_>) -> T) -> T {
    let environment = Environment::of(&[]);
    read(OptionContext { directory: Path::new("/w"), environment: &environment })
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
    assert_eq!(left("type=registry,ref=a,mounts=1,mounts-max-size=5mb").unwrap(), Some(5 << 20));
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
    for text in ["type=registry,ref=a", "type=local,src=a", "a", "type=registry,ref=a,mounts=false"]
    {
        assert_eq!(brought(text), None, "{text}");
    }
    assert_eq!(brought("type=local,src=a,mounts=true"), Some(1_000_000_000));
    assert_eq!(brought("type=registry,ref=a,mounts=true,mounts-max-size=5mb"), Some(5 << 20));
}

#[test]
fn one_text_serves_both_directions() {
    let read = from("type=registry,ref=a,mode=max,compression=zstd,image-manifest=true").unwrap();
    assert_eq!(read, from("type=registry,ref=a").unwrap());
    assert!(from("type=local,src=a,mode=max,ignore-error=true").is_ok());
}

#[test]
fn githubs_cache_is_left_out_elsewhere() {
    let with = |pairs: &[(&str, &str)], text: &str| {
        let environment = Environment::of(pairs);
        let around = OptionContext { directory: Path::new("/w"), environment: &environment };
        imports(text, around).ok().and_then(|read| read.left_out)
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
        ("type=registry,ref=a,image-manifest=true,oci-mediatypes=false", "needs `oci-mediatypes"),
        (
            "type=local,dest=a,registry.insecure=true",
            "`registry.insecure` is not an option of type=local",
        ),
    ] {
        let error = to(text).unwrap_err().to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
}
