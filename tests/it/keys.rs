//! Cache keys against recorded ones: kiln writes every record that BuildKit wrote, with the same
//! digest, the same selectors and the same links.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use fixtures::{Access, Kiln, context, digest, image::Layout};
use serde_json::{Value, json};

use crate::{kiln, registry, text};

/// A record: true if it has a result, and for each input the selectors and digests of its links.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    digest: String,
    has_result: bool,
    inputs: Vec<BTreeSet<(String, String)>>,
}

#[test]
fn records_are_those_of_buildkit() {
    let Some(registry) = registry("keys", Access::Open) else { return };
    let vectors = fixtures::source_tree().join("tests/vectors/cache-keys");
    let recorded_base = json_of(&vectors.join("base-image.json"));
    let own_base = fixtures::base_image::busybox().unwrap();
    let text_of = |value: &Value| value.as_str().unwrap().to_owned();
    let recorded = [
        text_of(&recorded_base["digest"]),
        text_of(&recorded_base["config"]["rootfs"]["diff_ids"][0]),
    ];
    let own = [digest(&own_base.manifest), own_base.diff_ids[0].clone()];
    // The base is another busybox than the recorded one, so its two records have other digests here.
    let renamed: BTreeMap<String, String> = roots(&recorded).into_iter().zip(roots(&own)).collect();

    let kiln = kiln();
    let mut cases: Vec<_> =
        std::fs::read_dir(&vectors).unwrap().flatten().map(|entry| entry.path()).collect();
    cases.retain(|path| path.is_dir());
    cases.sort();
    assert_eq!(cases.len(), 10);
    let mut faults = Vec::new();
    for case in &cases {
        let name = case.file_name().unwrap().display();
        match written(&kiln, registry.host(), case) {
            Ok(written) => {
                let recorded = records(&json_of(&case.join("cacheconfig.json")));
                let missing = recorded.iter().map(|record| rename(record, &renamed));
                let missing =
                    missing.filter(|record| !written.iter().any(|own| covers(own, record)));
                faults.extend(missing.map(|record| format!("{name}: {record:#?}")));
            }
            Err(error) => faults.push(format!("{name}: {error:#}")),
        }
    }
    assert!(faults.is_empty(), "{} records are missing:\n{}", faults.len(), faults.join("\n"));
}

/// The digests of the two records of an image: by its manifest, and by its layers' chain.
fn roots([manifest, chain]: &[String; 2]) -> [String; 2] {
    let by_manifest =
        digest(format!(r#"{{"Digest":"{manifest}","OS":"linux","Arch":"amd64"}}"#).as_bytes());
    [&by_manifest, chain].map(|key| {
        digest(format!("{}@0", digest(format!("buildkit.source.v0:{key}").as_bytes())).as_bytes())
    })
}

/// Builds a case and reads the resulting records.
fn written(kiln: &Kiln, host: &str, case: &Path) -> Result<Vec<Record>> {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("ctx");
    context::copy(&case.join("ctx"), &folder)?;
    context::set_times(&folder, 1_600_000_000)?;
    // Outside the context, because `COPY .` copies the Dockerfile in it, which must keep the
    // recorded host.
    let dockerfile = place.path().join("Dockerfile");
    let recorded = std::fs::read_to_string(folder.join("Dockerfile"))?;
    std::fs::write(&dockerfile, recorded.replace("127.0.0.1:5000", host))?;
    let mut args: Vec<String> =
        ["build", "--progress", "plain", "--output", "type=cacheonly"].map(String::from).into();
    for secret in ["tok", "env1"] {
        let file = place.path().join(secret);
        std::fs::write(&file, "value")?;
        args.extend(["--secret".into(), format!("id={secret},src={}", text(&file))]);
    }
    let cache = place.path().join("cache");
    args.extend(["--cache-to".into(), format!("type=local,dest={},mode=max", text(&cache))]);
    args.extend(["--file".into(), text(&dockerfile), text(&folder)]);
    let run = kiln.run(&args);
    if !run.ok() {
        bail!("exit code {:?}\n{}", run.code, run.stderr);
    }
    let layout = Layout::from_folder(&cache)?;
    let index = layout.index()?;
    let named = |manifest: &&Value| {
        manifest["annotations"]["org.opencontainers.image.ref.name"] == json!("latest")
    };
    let cache = index["manifests"].as_array().into_iter().flatten().find(named);
    let manifest = layout.json(cache.context("no manifest is named `latest`")?)?;
    assert_eq!(manifest["config"]["mediaType"], json!("application/vnd.buildkit.cacheconfig.v0"));
    Ok(records(&layout.json(&manifest["config"])?))
}

fn records(config: &Value) -> Vec<Record> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let string = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let records = list(&config["records"]);
    let link = |link: &Value| {
        let to = &records[link["link"].as_u64().expect("a link is a number") as usize];
        (string(&link["selector"]), string(&to["digest"]))
    };
    let record = |record: &Value| Record {
        digest: string(&record["digest"]),
        has_result: ["layers", "chains"].iter().any(|key| !list(&record[*key]).is_empty()),
        inputs: list(&record["inputs"])
            .iter()
            .map(|input| list(input).iter().map(link).collect())
            .collect(),
    };
    records.iter().map(record).collect()
}

fn rename(record: &Record, renamed: &BTreeMap<String, String>) -> Record {
    let name = |digest: &String| renamed.get(digest).unwrap_or(digest).clone();
    let inputs = record.inputs.iter();
    let inputs = inputs
        .map(|links| links.iter().map(|(selector, to)| (selector.clone(), name(to))).collect());
    Record { digest: name(&record.digest), has_result: record.has_result, inputs: inputs.collect() }
}

/// True if `own` matches everything that `recorded` matches.
fn covers(own: &Record, recorded: &Record) -> bool {
    own.digest == recorded.digest
        && (own.has_result || !recorded.has_result)
        && own.inputs.len() == recorded.inputs.len()
        && own.inputs.iter().zip(&recorded.inputs).all(|(own, recorded)| own.is_superset(recorded))
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
