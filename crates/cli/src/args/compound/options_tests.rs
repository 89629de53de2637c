//! Every declared key is honoured: a value with it differs from one without it. A key of one
//! direction is ignored or refused in the other.

use std::fmt::Debug;
use std::path::Path;

use super::OptionError;
use super::attest::{AskedAttestations, ProvenanceOptions, SbomOptions, SwitchOptions};
use super::bucket::{Azure, Google, OptionContext, S3};
use super::cache::{
    ExportOptions, LayoutExport, LocalOptions, MountOptions, RegistryOptions, ServiceExport,
    cache_from, cache_to,
};
use super::destination::OutputContext;
use super::options::{Direction, KeyScope, OptionKey, OptionSet};
use super::output::output;
use super::output_options::{
    ArchiveOptions, DestinationOptions, FileSet, FolderOptions, ImageOutputOptions, ImageSet,
};
use super::secret::{SecretOptions, secret};
use super::service::{Folder, GithubOptions, Http, Redis};
use crate::settings::Environment;

/// Keys that have an effect only beside others.
const COMPANIONS: [(&str, &str); 3] = [
    ("mounts-max-size", "mounts=true"),
    ("unpack", "rewrite-timestamp=true"),
    ("type", "src=TOKEN"),
];

/// Keys whose example values are refused, which shows that they are read.
const REFUSED: [&str; 2] = ["profile", "unpack"];

/// Compares values of a base with and without each key.
fn walk<T: PartialEq + Debug>(
    base: &str,
    keys: &[OptionKey],
    direction: Direction,
    read: impl Fn(&str) -> Result<T, OptionError>,
) {
    for key in keys {
        assert!(key.doc.starts_with(' ') && key.doc.ends_with('.'), "{key:?}");
        for name in key.names {
            let companion = COMPANIONS.iter().find(|(known, _)| known == name);
            let base = companion.map_or(base.to_owned(), |(_, other)| format!("{base},{other}"));
            let text = format!("{base},{}={}", name.replace("<key>", "k"), key.example);
            let with = read(&text);
            let without = read(&base).unwrap_or_else(|error| panic!("{base}: {error}"));
            match with {
                Err(OptionError::Unknown { .. }) if !key.scope.includes(direction) => {}
                Err(error) if REFUSED.contains(name) => {
                    assert!(!matches!(error, OptionError::Unknown { .. }), "{text}: {error}");
                }
                Err(error) => panic!("{text}: {error}"),
                Ok(with) => {
                    let is_ignored = !key.scope.includes(direction);
                    let is_silent = is_ignored || key.is_accepted || key.scope == KeyScope::Off;
                    assert_eq!(with == without, is_silent, "{text}: {with:?}");
                }
            }
        }
    }
}

fn environment() -> Environment {
    Environment::of(&[("PASSWORD", "hush"), ("TOKEN", "from env")])
}

#[test]
fn options_of_caches_are_honoured() {
    let environment = environment();
    let around = OptionContext { directory: Path::new("/w"), environment: &environment };
    let kinds = [
        (
            "type=registry,ref=localhost:5000/app",
            <(RegistryOptions, LayoutExport, MountOptions)>::keys(),
        ),
        (
            "type=s3,bucket=b,region=r,access_key_id=k,secret_access_key=s",
            <(S3, ServiceExport)>::keys(),
        ),
        ("type=azblob,account_url=https://acc.example.com", <(Azure, ServiceExport)>::keys()),
        ("type=gcs,bucket=b", <(Google, ServiceExport)>::keys()),
        ("type=gha,token=t,url=https://one.example.com", <(GithubOptions, ServiceExport)>::keys()),
        ("type=redis,addr=h,ref=localhost:5000/app", <(Redis, ServiceExport)>::keys()),
        ("type=http,url=http://h,ref=localhost:5000/app", <(Http, ServiceExport)>::keys()),
        ("type=kv-folder,folder=f,ref=localhost:5000/app", <(Folder, ServiceExport)>::keys()),
    ];
    for (base, keys) in &kinds {
        walk(base, keys, Direction::Import, |text| cache_from(text, around));
        walk(base, keys, Direction::Export, |text| cache_to(text, around));
    }
    let local = <(LocalOptions, LayoutExport, MountOptions)>::keys();
    walk("type=local,src=a", &local, Direction::Import, |text| cache_from(text, around));
    walk("type=local,dest=a", &local, Direction::Export, |text| cache_to(text, around));
    // An inline cache is as large as its image, whatever the mode.
    let inline = ExportOptions::keys().into_iter().filter(|key| key.names != ["mode"]);
    let inline: Vec<OptionKey> = inline.collect();
    walk("type=inline", &inline, Direction::Export, |text| cache_to(text, around));
}

#[test]
fn options_of_outputs_are_honoured() {
    let context = OutputContext { directory: Path::new("/w"), stdout_is_terminal: false };
    let archive = <(DestinationOptions, ArchiveOptions, ImageSet)>::keys();
    for (base, keys) in [
        ("type=image,push=false", <(ImageOutputOptions, ImageSet)>::keys()),
        ("type=registry,push=false", <(ImageOutputOptions, ImageSet)>::keys()),
        ("type=oci,dest=a", archive.clone()),
        ("type=docker,dest=a,oci-mediatypes=true", archive),
        ("type=local,dest=a", <(DestinationOptions, FolderOptions, FileSet)>::keys()),
        ("type=tar,dest=a", <(DestinationOptions, FileSet)>::keys()),
    ] {
        walk(base, &keys, Direction::Export, |text| output(text, context));
    }
}

#[test]
fn options_of_attestations_and_secrets_are_honoured() {
    let attest = |text: &str| {
        AskedAttestations::of_flags(&[text.to_owned()], None, None)?.with_build_args(&[])
    };
    let sbom = <(SbomOptions, SwitchOptions)>::keys();
    walk("type=sbom", &sbom, Direction::Export, attest);
    let provenance = <(ProvenanceOptions, SwitchOptions)>::keys();
    walk("type=provenance", &provenance, Direction::Export, attest);

    let folder = tempfile::tempdir().unwrap();
    for (name, text) in
        [("other", "of other"), ("file", "of file"), ("token", "of token"), ("TOKEN", "x")]
    {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let environment = environment();
    walk("id=other", &SecretOptions::keys(), Direction::Export, |text| {
        let (id, secret) = secret(text, folder.path(), &environment)?;
        Ok((id, secret.value().to_vec()))
    });
}
